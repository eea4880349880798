//! A fleet with realistic lives and a truth that is known: real losses, flaps, frozen data, makers' and Podero's outages, rate
//! limits, restarts of ours, customers who move and leave. The alerts of the watch are held against the truth.
//!
//! One world, two bridges: [`pure`] is the core with its memory in a map, fast enough for a month of 20,000 heat pumps;
//! [`shell`] is the real stage with the real store. `tests/reliability fleet week` runs the full size,
//! `tests/run` a small one. `PODERO_BRIDGE_TEST_SEED` repeats a fleet.

mod gaps;
mod ghosts;
mod judge;
mod pure;
mod shell;
mod week;
mod world;

use podero_bridge::domain::notice::Notice;

use crate::servers::environment;
use judge::Judge;
use world::{Minute, Scale, World};

/// Findings that are compared with the truth.
trait Bridge {
    /// Lives through a minute of the world, and gives the notices of it.
    async fn live(&mut self, world: &World, minute: Minute) -> Vec<Notice>;
    /// Requests that were made of Podero.
    fn requests(&self) -> u64;
}

/// Lets the fleet live, and judges the alerts. The error says the time and the fault.
async fn judged(world: &mut World, bridge: &mut impl Bridge) -> Result<Judge, String> {
    let mut judge = Judge::new(world);
    for minute in 0..world.scale.minutes() {
        world.advance(minute);
        let told = bridge.live(world, minute).await;
        judge.hear(world, minute, &told).map_err(|wrong| format!("minute {minute}: {wrong}"))?;
        judge.look(world, minute).map_err(|wrong| format!("minute {minute}: {wrong}"))?;
    }
    judge.end(world)?;
    Ok(judge)
}

/// Prints for the reader of the figures; a test that passes shows them with `--nocapture`.
#[expect(clippy::print_stdout, reason = "figures of a run are for a person")]
fn say(line: &str) {
    println!("{line}");
}

fn seed() -> u64 {
    environment("PODERO_BRIDGE_TEST_SEED")
        .map(|seed| seed.parse().expect("PODERO_BRIDGE_TEST_SEED is a number"))
        .unwrap_or_else(|| podero_bridge::clock::Clock::system().fresh_id().as_u64_pair().1)
}

/// `PODERO_BRIDGE_TEST_FLEET` is heat pumps and days, as `20000x30`.
fn scale(usual: Scale) -> Scale {
    let Some(text) = environment("PODERO_BRIDGE_TEST_FLEET") else { return usual };
    let (pumps, days) = text.split_once('x').expect("PODERO_BRIDGE_TEST_FLEET is PUMPSxDAYS");
    Scale { pumps: pumps.parse().expect("a number of heat pumps"), days: days.parse().expect("a number of days") }
}

#[tokio::test]
async fn fleet_pure_what_is_told_is_true_and_what_is_true_is_told() {
    let (seed, scale) = (seed(), scale(Scale { pumps: 2_000, days: 4 }));
    say(&format!("fleet: PODERO_BRIDGE_TEST_SEED={seed}, {} heat pumps, {} days", scale.pumps, scale.days));
    let mut world = World::new(seed, scale);
    let mut bridge = pure::Pure::new(&world, seed);
    let judge = judged(&mut world, &mut bridge).await.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    judge.report(&world, bridge.requests());
}

#[tokio::test]
async fn fleet_shell_the_real_stage_and_store_tell_the_truth_as_well() {
    let (seed, scale) = (seed(), scale(Scale { pumps: 150, days: 2 }));
    say(&format!("fleet: PODERO_BRIDGE_TEST_SEED={seed}, {} heat pumps, {} days", scale.pumps, scale.days));
    let mut world = World::new(seed, scale);
    world.settle();
    let mut bridge = shell::Shell::open(seed).await;
    let judge = judged(&mut world, &mut bridge).await.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
    judge.report(&world, bridge.requests());
}
