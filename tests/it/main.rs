//! All integration tests, in one binary.
#![expect(unreachable_pub, reason = "the modules of a test binary are seen by each other only")]

// The bridge's connection to a real RabbitMQ.
mod broker;
// The other end of the bus.
mod bus;
// Real processes that are killed, frozen and starved under load.
mod chaos;
// The webhook door and the operator's door.
mod doors;
// Real input through the whole house.
mod end_to_end;
// The way out by signed webhook.
mod outbound;
// The Podero client against scripted answers.
mod podero;
// The program as a process.
mod process;
// The sandbox over real HTTP.
mod sandbox;
// The real RabbitMQ and PostgreSQL of the tests.
mod servers;
// What survives, on SQLite and on PostgreSQL.
mod store;
// Generated input that knows its own end.
mod stories;
// House rules.
mod tidy;
// Alerts on the real bus.
mod watch;
// A whole bridge inside a test.
mod world;
