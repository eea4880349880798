//! The program as the world treats it: real processes that are killed, frozen and starved under load, a real RabbitMQ
//! and a real PostgreSQL that go away and come back, and a Podero whose answers get lost.
//!
//! The bridge under test is looked at from outside only: its listeners, its store, its log, what the sandbox (a process of its
//! own) holds and what the bus heard. [`crate::stories`] says what must come out.
//!
//! A seed repeats the input and the moments, counted in progress. It does not repeat the run to the instruction: real
//! processes are scheduled by a real machine. A run prints its seed first.
//!
//! Sizes come from the environment, with small defaults; `tests/reliability` runs the full ones on a release build.

// Moments of progress at which something is done to the world.
mod disturb;
// The processes.
mod world;
// Everything right? The comparison at the end of a run.
mod judge;
// The rows of the store, read past the bridge.
mod ledger;
// The senders.
mod load;

// Full disks.
pub mod disk;
// Faults of a PostgreSQL with two replicas.
mod faults;
// Many heat pumps.
mod large_fleet;
// `kill -9`, SIGSTOP.
mod processes;
// RabbitMQ and PostgreSQL go away.
mod servers;
// Replicas do each thing once.
mod sharing;
// A standby takes a server's place.
mod standby;
// One customer's trouble, which is no other's.
mod slow_customer;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use podero_bridge::clock::Clock;

pub use judge::note;
pub use world::binary;

use crate::servers::environment;

/// Size of a run, and what is done to it.
pub struct Plan {
    pub scenario: &'static str,
    pub seed: u64,
    pub events: usize,
    pub customers: usize,
    /// Number of processes that are killed, stopped or frozen.
    pub blows: usize,
    /// Probability that an answer of Podero is cut after it acted, and that it is a 500.
    pub trouble: f64,
    /// Probability that an answer of Podero is a 429.
    pub busy: f64,
}

impl Plan {
    /// A small run, unless the environment says otherwise. Prints the seed.
    pub fn new(scenario: &'static str, events: usize, customers: usize, blows: usize) -> Self {
        let seed = number("SEED").unwrap_or_else(|| Clock::system().fresh_id().as_u64_pair().1);
        let plan = Self {
            scenario,
            seed,
            events: number("EVENTS").unwrap_or(events),
            customers: number("CUSTOMERS").unwrap_or(customers),
            blows: number("BLOWS").unwrap_or(blows),
            trouble: number("TROUBLE").unwrap_or(0.01),
            busy: number("BUSY").unwrap_or(0.002),
        };
        let Self { events, customers, blows, .. } = plan;
        say(&format!(
            "{scenario}: PODERO_BRIDGE_TEST_SEED={seed} ({events} events of {customers} customers, {blows} blows)"
        ));
        plan
    }

    /// Dice for one purpose; the same for the same seed, no matter what the other purposes roll.
    pub fn dice(&self, purpose: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_add(purpose))
    }

    /// Moments for the blows, as shares of the whole progress, in order. None is so late that nothing is left to do.
    pub fn moments(&self) -> Vec<f64> {
        let mut dice = self.dice(7);
        let mut moments: Vec<f64> = (0..self.blows).map(|_| dice.random_range(0.02..0.9)).collect();
        moments.sort_by(f64::total_cmp);
        moments
    }
}

/// `PODERO_BRIDGE_TEST_<name>`.
fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    let text = environment(&format!("PODERO_BRIDGE_TEST_{name}"))?;
    Some(text.parse().unwrap_or_else(|_| panic!("PODERO_BRIDGE_TEST_{name}={text} is no number")))
}

/// Shows the progress of a run to the person who watches it.
#[expect(clippy::print_stdout, reason = "a test that fails shows it, and tests/reliability shows it always")]
pub fn say(line: &str) {
    println!("{line}");
}
