//! All integration tests, in one binary.
#![expect(unreachable_pub, reason = "the modules of a test binary are seen by each other only")]

// The rows of every route, command and call that acts.
mod accountability;
// Answers of Podero to a bridge that is a process: its memory, the texts that it keeps, the addresses that it calls.
mod answers;
// Addresses and what else people spell in many ways.
mod addresses;
// Every bound, as a careless client meets it.
mod bounds;
// The audit log: its chain, and the rows of what was done.
mod audit;
// The brake on mass churn.
mod brake;
// The bridge's connection to a real RabbitMQ.
mod broker;
// The other end of the bus.
mod bus;
// Real processes that are killed, frozen and starved under load.
mod chaos;
mod clock;
// The commands on a store.
mod commands;
// The console, as a browser uses it.
mod console;
mod console_browser;
// Its login by OpenID Connect.
mod console_oidc;
mod console_pages;
// The webhook endpoint and the admin API.
mod doors;
mod doubt;
// Real input through the whole bridge.
mod end_to_end;
// The SQLite file: where it is, its copies, its schema.
mod file;
// A fleet of heat pumps whose truth is known.
mod fleet;
// Files of events, through the real program: what becomes of each line, `kill -9`, and who goes first.
mod import;
// Input that no sender would send, by the million.
mod fuzz;
// Code that tests of the store share.
mod kit;
// Keeping and forgetting.
mod keeping;
// Operators, in the store, by commands, and at the admin API.
mod operators;
// The way out by signed webhook.
mod outbound;
// Work that was claimed when the store went away.
mod outage;
// The pages by which owners of heat pumps reconnect them.
mod reconnect;
// The same in a browser, from the alert on the bus to its end.
mod reconnect_story;
// Its output, and its end.
mod output;
// The rehearsal of a message.
mod explain;
// Every way in which Podero can go wrong, through the whole bridge.
mod partner;
// A sender's own JSON through jq.
mod mapping;
// Members of the team, from an event of HR to Podero.
mod team;
// Parked work and the ways out.
mod parking;
// The Podero client against scripted answers.
mod podero;
// PostgreSQL behind PgBouncer, as several hosts, and with a role that may not change tables.
mod pooler;
// The presets of the documents, with their senders' own examples.
mod presets;
// The program as a process.
mod process;
// The intake of the queue: what it keeps, in which order, within which bounds.
mod queue;
// Stores of former versions, brought up to date, and of the next one.
mod migration;
// The plans by which both databases find what statements ask for.
mod plans;
// Parked messages that are read again.
mod rereading;
// The knowledge that replicas share.
mod replica;
// The identity of an event, which belongs to its source.
mod identity;
// The store's writing: whether it can, what is said of it, and its end.
mod writing;
// The rights of each caller at each route of the admin API.
mod rights;
// A bridge as a process of its own.
mod running;
// The sandbox over real HTTP.
mod sandbox;
// The documents for machines, held against the program.
mod specs;
// Senders that we did not write.
mod senders;
// The gauges of a PostgreSQL server.
mod server_gauges;
// The real RabbitMQ and PostgreSQL of the tests.
mod servers;
// Groups of writes as sets of rows.
mod scim;
mod scim_stories;
mod sets;
// Seeded simulation of the whole inside.
mod sim;
// Statements that an event costs.
mod statements;
// Rows that survive, on SQLite and on PostgreSQL.
mod store;
// Strangers at the listeners: requests that never end, are forged, or name invented addresses.
mod strangers;
// Generated input that knows its own end.
mod stories;
// Tickets from alerts, by the example consumer.
mod ticketing;
// House rules.
mod tidy;
// Bodies that are small as text and large as values.
mod trees;
// Bytes as senders pack and write them, at each entrance.
mod text;
// Answers to viewers, who see no personal data.
mod viewers;
mod views;
// Alerts on the real bus.
mod watch;
// Events that wait, and why.
mod waits;
// A whole bridge inside a test.
mod world;
