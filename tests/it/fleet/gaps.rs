//! Lists that do not name all users, and times without a look, on the real stage and store: neither ends the watch of a heat pump
//! that is there, nor reports a loss alone that came with others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::Timestamp;
use podero_bridge::domain::alert::{Observation, WatchPolicy};
use podero_bridge::domain::call::{Call, Operation, Reply, UserFound};
use podero_bridge::domain::event::Record;
use podero_bridge::domain::notice::Notice;
use podero_bridge::domain::team::{MemberCall, MemberDone};
use podero_bridge::podero::{Drift, Partner};
use podero_bridge::pump::Step;
use podero_bridge::store::{PublishOutcome, PumpFilter, ROWS_MAX, Settings, Store, Target};
use podero_bridge::watch::Watcher;
use uuid::Uuid;

use super::world::World;
use crate::servers;

/// Users 1, 2, … with a heat pump each, 1001, 1002, …, unless they are given others.
#[derive(Clone, Default)]
struct Podero(Arc<Mutex<Shown>>);

#[derive(Default)]
struct Shown {
    users: u128,
    /// Not named by the list of users, and there all the same.
    unlisted: BTreeSet<u128>,
    /// Not authenticated.
    lost: BTreeSet<u128>,
    pumps: BTreeMap<u128, Vec<u128>>,
    is_failing: bool,
    asked: BTreeMap<u128, u32>,
    drifts: Vec<(Operation, Drift)>,
    now: Option<Timestamp>,
}

impl Partner for Podero {
    async fn call(&self, call: &Call, _: Option<Uuid>, _: Timestamp) -> Reply {
        panic!("the watch asks for {call:?}")
    }

    async fn call_for_member(&self, call: &MemberCall, _: Option<Uuid>, _: Timestamp) -> Reply<MemberDone> {
        panic!("the watch asks for {call:?}")
    }

    async fn list_users(&self) -> Reply<Vec<UserFound>> {
        let shown = self.0.lock().expect("whole");
        if shown.is_failing {
            return Reply::Unknown { why: "it fails" };
        }
        let listed = (1..=shown.users).filter(|user| !shown.unlisted.contains(user));
        let found = |user| UserFound {
            id: Uuid::from_u128(user),
            is_customer: true,
            external_id: None,
            heat_pumps: Some(1),
            zip: None,
            observed: Record::new(),
        };
        Reply::Done(listed.map(found).collect())
    }

    async fn observe_heat_pumps(&self, user: Uuid) -> Reply<Vec<Observation>> {
        let mut shown = self.0.lock().expect("whole");
        if shown.is_failing {
            return Reply::Unknown { why: "it fails" };
        }
        let user = user.as_u128();
        *shown.asked.entry(user).or_default() += 1;
        let pumps = shown.pumps.get(&user).cloned().unwrap_or_else(|| vec![user + 1_000]);
        let is_lost = shown.lost.contains(&user);
        let observation = |pump: u128| Observation {
            heat_pump: Uuid::from_u128(pump),
            manufacturer: Some("Nordwind".to_owned()),
            is_authenticated: Some(!is_lost),
            updated_at: shown.now,
            ..Observation::default()
        };
        Reply::Done(pumps.into_iter().map(observation).collect())
    }

    async fn observe_heat_pump(&self, _: Uuid, heat_pump: Uuid) -> Reply<Observation> {
        panic!("the watch asks for {heat_pump} in detail")
    }

    fn paused_until(&self) -> Option<Timestamp> {
        None
    }

    fn drifted(&self, operation: Operation, drift: Drift) {
        self.0.lock().expect("whole").drifts.push((operation, drift));
    }
}

struct GapsWorld {
    watcher: Watcher<Podero>,
    podero: Podero,
    store: Store,
    clock: Clock,
    _folder: tempfile::TempDir,
}

impl GapsWorld {
    async fn open(url: Option<String>, users: u128, policy: WatchPolicy) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::manual(World::moment(0), 1);
        let url = url.unwrap_or_else(|| crate::kit::sqlite_url(folder.path()));
        let settings = Settings { url, targets: vec![Target::Amqp], works: true };
        let (store, writer) = Store::open(settings, clock.clone()).await.expect("the store opens");
        tokio::spawn(writer.run());
        let podero = Podero::default();
        podero.0.lock().expect("whole").users = users;
        let watcher = Watcher {
            store: store.clone(),
            partner: podero.clone(),
            policy,
            region_chars: 0,
            lease: Duration::from_secs(20),
            look_every: None,
            clock: clock.clone(),
            wake_outbound: Arc::default(),
            self_service: None,
        };
        Self { watcher, podero, store, clock, _folder: folder }
    }

    fn set(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.podero.0.lock().expect("whole"));
    }

    /// Runs for `duration`, a step of `step` at a time. Returns each notice with the second at which it was published.
    async fn run(&self, duration: Duration, step: Duration) -> Vec<(u64, Notice)> {
        let began = self.clock.now();
        let mut told = Vec::new();
        while self.clock.now().since(began) < duration {
            self.clock.advance(step);
            let now = self.clock.now();
            self.set(|shown| shown.now = Some(now));
            assert_ne!(self.watcher.roster_step().await, Step::Failed);
            while self.watcher.poll_step().await == Step::Busy {}
            assert_ne!(self.watcher.fleet_step().await, Step::Failed);
            told.extend(self.told().await.into_iter().map(|notice| (now.since(began).as_secs(), notice)));
        }
        told
    }

    async fn told(&self) -> Vec<Notice> {
        let mut told = Vec::new();
        loop {
            let due = self.store.due_notices(Target::Amqp, 100, Duration::from_secs(60)).await.expect("it answers");
            if due.is_empty() {
                return told;
            }
            let published = due.iter().map(|due| (due.notice.id, PublishOutcome::Published)).collect();
            self.store.mark(Target::Amqp, published).await.expect("it answers");
            told.extend(due.into_iter().map(|due| due.notice));
        }
    }

    async fn pumps(&self, has_alert: bool) -> usize {
        let filter = PumpFilter { has_alert, limit: ROWS_MAX, ..PumpFilter::default() };
        self.store.heat_pumps(filter).await.expect("it answers").len()
    }
}

fn topics(told: &[(u64, Notice)]) -> Vec<&'static str> {
    told.iter().map(|(_, notice)| notice.topic.name()).collect()
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// As quick as the attack that found it.
fn quick() -> WatchPolicy {
    WatchPolicy {
        interval: SECOND * 30,
        disconnect_after: SECOND * 45,
        reconnect_after: SECOND * 10,
        ..WatchPolicy::DEFAULT
    }
}

/// A manufacturer goes; the bridge is killed `before` after that, and started again 48 seconds later.
async fn a_kill_in_an_outage(url: Option<String>, before: Duration) {
    let world = GapsWorld::open(url, 200, quick()).await;
    assert_eq!(topics(&world.run(MINUTE * 2, SECOND).await), [] as [&str; 0]);
    world.set(|shown| shown.lost = (1..=160).collect());
    assert_eq!(topics(&world.run(before, SECOND).await), [] as [&str; 0]);
    // Nothing runs; a poll that was begun keeps its lease.
    world.clock.advance(SECOND * 48);
    let told = world.run(MINUTE * 3, SECOND).await;
    assert_eq!(topics(&told), ["fleet.outage_started"], "killed after {before:?}");
    assert_eq!(told[0].1.data["affected"], 160);
    assert!((10..=80).contains(&told[0].0), "after {} s", told[0].0);
    world.set(|shown| shown.lost.clear());
    // Its end does not come of time without a look, either.
    world.clock.advance(MINUTE);
    let told = world.run(MINUTE * 3, SECOND).await;
    assert_eq!(topics(&told), ["fleet.outage_ended"]);
    assert!(told[0].0 >= 10, "after {} s", told[0].0);
}

#[tokio::test]
async fn fleet_gaps_a_kill_in_a_suspected_outage_tells_no_pump_alone() {
    for seconds in [3, 16, 29] {
        a_kill_in_an_outage(None, SECOND * seconds).await;
    }
}

/// A kill in a suspected outage reports no pump alone on PostgreSQL.
#[tokio::test]
async fn fleet_gaps_a_kill_tells_no_pump_alone_on_postgres() {
    let url = tokio::task::spawn_blocking(servers::fresh_database).await.expect("a database");
    a_kill_in_an_outage(Some(url), SECOND * 16).await;
}

/// 40 users, of whom 1 is lost and has an alert.
async fn with_an_alert(url: Option<String>) -> GapsWorld {
    let world = GapsWorld::open(url, 40, WatchPolicy::DEFAULT).await;
    world.run(MINUTE * 30, MINUTE).await;
    world.set(|shown| shown.lost.extend([1]));
    assert_eq!(topics(&world.run(MINUTE * 60, MINUTE).await), ["heat_pump.disconnected"]);
    world
}

async fn short_lists_with_complete_ones_between(url: Option<String>) {
    let world = with_an_alert(url).await;
    let round = MINUTE * 10;
    for _ in 0..3 {
        // Half of all, or user 1 alone, or a failure.
        world.set(|shown| shown.unlisted = (1..=20).collect());
        assert_eq!(topics(&world.run(round, MINUTE).await), [] as [&str; 0]);
        world.set(|shown| shown.unlisted.clear());
        assert_eq!(topics(&world.run(round, MINUTE).await), [] as [&str; 0]);
        world.set(|shown| (shown.unlisted, shown.is_failing) = ([1].into(), true));
        assert_eq!(topics(&world.run(MINUTE * 3, MINUTE).await), [] as [&str; 0]);
        world.set(|shown| shown.is_failing = false);
        assert_eq!(topics(&world.run(round, MINUTE).await), [] as [&str; 0]);
        world.set(|shown| shown.pumps = [(1, vec![])].into());
        assert_eq!(topics(&world.run(MINUTE * 9, MINUTE).await), [] as [&str; 0]);
        world.set(|shown| (shown.unlisted, shown.pumps) = (BTreeSet::new(), BTreeMap::new()));
        assert_eq!(topics(&world.run(round * 2, MINUTE).await), [] as [&str; 0]);
    }
    assert_eq!((world.pumps(true).await, world.pumps(false).await), (1, 40));
    world.set(|shown| assert_eq!(shown.drifts, [(Operation::ListUsers, Drift::ShortList); 3]));
    // Gone for good: lists in a row.
    world.set(|shown| (shown.unlisted, shown.pumps) = ([1].into(), [(1, vec![])].into()));
    let told = world.run(round * 5, MINUTE).await;
    assert_eq!(topics(&told), ["heat_pump.reconnected"]);
    assert_eq!(told[0].1.data["resolution"], "removed");
    assert_eq!(world.pumps(false).await, 39);
}

#[tokio::test]
async fn fleet_gaps_lists_that_miss_one_are_counted_apart_and_in_a_row() {
    short_lists_with_complete_ones_between(None).await;
}

/// Lists that miss one are counted apart and in a row on PostgreSQL.
#[tokio::test]
async fn fleet_gaps_lists_that_miss_one_are_counted_on_postgres() {
    let url = tokio::task::spawn_blocking(servers::fresh_database).await.expect("a database");
    short_lists_with_complete_ones_between(Some(url)).await;
}

#[tokio::test]
async fn fleet_gaps_a_short_or_empty_list_stops_no_polls() {
    for unlisted in [1..=39, 1..=40, 10..=25] {
        let world = with_an_alert(None).await;
        world.set(|shown| shown.unlisted = unlisted.collect());
        world.run(MINUTE * 11, MINUTE).await;
        world.set(|shown| shown.asked.clear());
        // The loss of one whom the list lacks has its alert, in the usual time.
        world.set(|shown| shown.lost.extend([20]));
        let told = world.run(MINUTE * 11, MINUTE).await;
        world.set(|shown| assert_eq!(shown.asked.len(), 40));
        world.set(|shown| shown.unlisted.clear());
        let more = world.run(MINUTE * 20, MINUTE).await;
        assert_eq!([topics(&told), topics(&more)].concat(), ["heat_pump.disconnected"]);
        assert_eq!((world.pumps(true).await, world.pumps(false).await), (2, 40));
    }
}

#[tokio::test]
async fn fleet_gaps_many_who_are_really_gone_are_dropped_once_more_lists_say_so() {
    let world = with_an_alert(None).await;
    let gone = 1..=30;
    world.set(|shown| {
        (shown.unlisted, shown.pumps) = (gone.clone().collect(), gone.map(|user| (user, vec![])).collect())
    });
    let told = world.run(MINUTE * 60, MINUTE).await;
    assert_eq!(topics(&told), ["heat_pump.reconnected"]);
    assert_eq!(world.pumps(false).await, 10);
    world.set(|shown| shown.asked.clear());
    world.run(MINUTE * 10, MINUTE).await;
    world.set(|shown| assert!(shown.asked.keys().all(|user| *user > 30), "{:?}", shown.asked));
}

/// A user's pumps that are not shown once are not gone at any count.
#[tokio::test]
async fn fleet_gaps_pumps_that_are_not_shown_once_are_not_gone() {
    let policy = WatchPolicy { disconnect_polls: 1, ..WatchPolicy::DEFAULT };
    let world = GapsWorld::open(None, 1, policy).await;
    world.set(|shown| shown.pumps = [(1, vec![7, 8, 9])].into());
    world.run(MINUTE * 20, MINUTE).await;
    assert_eq!(world.pumps(false).await, 3);
    // From the fourth break within a day on counts are kept.
    for _ in 0..2 {
        let asked = |world: &GapsWorld| world.podero.0.lock().expect("whole").asked.get(&1).copied();
        let before = asked(&world);
        world.set(|shown| shown.pumps = [(1, vec![])].into());
        while asked(&world) == before {
            world.run(MINUTE, MINUTE).await;
        }
        world.set(|shown| shown.pumps = [(1, vec![7, 8, 9])].into());
        assert_eq!(world.pumps(false).await, 3);
        // A long time without a look: lists before it and lists after it are no row.
        world.set(|shown| shown.pumps = [(1, vec![])].into());
        world.clock.advance(MINUTE * 60);
        let before = asked(&world);
        while asked(&world) == before {
            world.run(MINUTE, MINUTE).await;
        }
        assert_eq!(world.pumps(false).await, 3);
        world.set(|shown| shown.pumps = [(1, vec![7, 8, 9])].into());
        world.run(MINUTE * 20, MINUTE).await;
    }
}
