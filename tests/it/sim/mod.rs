//! The seeded simulation: the whole inside of one to three bridges on one store, against the sandbox's own model and a
//! broker in memory, in the worst of weathers; then calm, and the promises are checked.
//!
//! `PODERO_BRIDGE_TEST_SEEDS=10000` runs that number of seeds, `PODERO_BRIDGE_TEST_SEED=7` runs one and shows its history.
//! docs/RELIABILITY.md says what it stands for, and which planted mistakes it found.

mod gates;
mod lives;
mod members;
mod observer;
mod planted;
mod podero;
mod promises;
mod replica;
mod run;
mod team;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use planted::Planted;
use run::{Report, play};

use crate::servers::environment;

/// Seeds in the ordinary test command.
const SEEDS: u64 = 200;
/// Seeds in which a planted mistake must be noticed.
const PLANTED_SEEDS: u64 = 30;
/// Strikes that must come in that many seeds, and their minimum: a weather that never comes finds nothing.
const STRIKES_MIN: [(&str, usize); 30] = [
    ("looked after by hand", 5),
    ("answered", 3_000),
    ("acted, unheard", 100),
    ("acted later, unheard", 50),
    ("arrived later", 50),
    ("answered late", 50),
    ("did not act, in doubt", 100),
    ("unsent", 50),
    ("busy or held", 100),
    ("refused", 50),
    ("too late to send", 50),
    ("publish not confirmed", 20),
    ("crash", 300),
    ("on the wire at a crash", 30),
    ("dropped", 100),
    ("frozen", 100),
    ("clock set back", 30),
    ("told: an effect", 500),
    ("told: parked", 300),
    ("told on second thoughts", 30),
    ("admitted by the brake", 50),
    ("parked by the brake", 50),
    ("approved by hand", 30),
    // Most customers here are about to move or to leave, and have no alert; the fleet's simulation has the others.
    ("told: an alert", 5),
    ("told: an alert that ends", 5),
    ("team: a member joined", 200),
    ("team: a member left", 200),
    ("team: an access expired", 40),
    ("team: an end was moved", 30),
    ("team: parked as too few admins", 15),
];

fn report(seed: u64, planted: Planted, is_shown: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    // Without the scheduler's own budget, which would make a poll end by chance.
    runtime.block_on(tokio::task::coop::unconstrained(play(seed, planted, is_shown)))
}

fn number(name: &str) -> Option<u64> {
    environment(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn seeds() -> Vec<u64> {
    match number("PODERO_BRIDGE_TEST_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("PODERO_BRIDGE_TEST_SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

#[test]
fn simulation_nothing_is_lost_and_nothing_done_twice_whatever_fails() {
    let seeds = seeds();
    let is_alone = seeds.len() == 1;
    if is_alone {
        let log = podero_bridge::config::Log {
            format: podero_bridge::config::LogFormat::Text,
            level: "warn,podero_bridge=info".to_owned(),
        };
        podero_bridge::telemetry::init(&log).expect("a log");
    }
    println!("seeds: {} from {}", seeds.len(), seeds[0]);
    let next = AtomicU64::new(0);
    let broken: Mutex<BTreeMap<u64, String>> = Mutex::default();
    let strikes: Mutex<BTreeMap<&'static str, usize>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(usize::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("few")) {
                    let report = report(*seed, Planted::Nothing, is_alone);
                    for (what, count) in report.strikes {
                        *strikes.lock().expect("no panic").entry(what).or_default() += count;
                    }
                    if let Some(why) = report.broken {
                        println!("seed {seed}: {why}");
                        broken.lock().expect("no panic").insert(*seed, why);
                    }
                }
            });
        }
    });
    podero_bridge::telemetry::flush(std::time::Duration::from_secs(5));
    let strikes = strikes.into_inner().expect("no panic");
    for (what, count) in &strikes {
        println!("{count:8} {what}");
    }
    let broken = broken.lock().expect("no panic");
    assert!(broken.is_empty(), "{} of {} seeds broke a promise: {broken:#?}", broken.len(), seeds.len());
    let rare = STRIKES_MIN.iter().filter(|(what, least)| strikes.get(what).is_none_or(|count| count < least));
    let rare: Vec<_> = rare.collect();
    assert!((seeds.len() as u64) < SEEDS || rare.is_empty(), "strikes too seldom: {rare:?}");
}

#[test]
fn simulation_a_seed_repeats_its_run_exactly() {
    for seed in 0..5 {
        let (one, other) = (report(seed, Planted::Nothing, false), report(seed, Planted::Nothing, false));
        let differs = one.history.iter().zip(&other.history).position(|(one, other)| one != other);
        assert_eq!(differs.map(|at| (&one.history[at], &other.history[at])), None, "seed {seed}");
        assert_eq!(one.history.len(), other.history.len(), "seed {seed}");
    }
}

#[test]
fn simulation_the_oracle_notices_mistakes_that_are_planted_in_the_brake() {
    for (planted, seen) in
        [(Planted::OneTooMany, "is admitted after"), (Planted::NobodyAsks, "neither admitted nor approved")]
    {
        let broken = (0..PLANTED_SEEDS).filter_map(|seed| report(seed, planted, false).broken);
        let noticed = broken.filter(|why| why.starts_with("brake: ") && why.contains(seen)).count();
        println!("{planted:?}: noticed in {noticed} of {PLANTED_SEEDS}");
        assert!(noticed > 0, "{planted:?} is not noticed");
    }
}

#[test]
fn simulation_the_oracle_notices_mistakes_that_are_planted_in_the_team() {
    for (planted, seen) in [
        (Planted::InvitesAgain, "a second invitation of"),
        (Planted::CountsInvited, "active admins, and there must be"),
        (Planted::DecidesAlone, "active admins, and there must be"),
    ] {
        let is_noticed = |seed: &u64| {
            let broken = report(*seed, planted, false).broken;
            broken.is_some_and(|why| why.starts_with("team: ") && why.contains(seen))
        };
        let first = (0..SEEDS).find(is_noticed);
        println!("{planted:?}: noticed first in {first:?}");
        assert!(first.is_some(), "{planted:?} is not noticed");
    }
}
