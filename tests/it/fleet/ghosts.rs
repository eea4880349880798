//! One heat pump, user or answer that is broken never stops the others, and says nothing about who is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::Timestamp;
use podero_bridge::domain::alert::{Observation, WatchPolicy};
use podero_bridge::domain::call::{Call, Reply, UserFound};
use podero_bridge::domain::event::Record;
use podero_bridge::domain::team::{MemberCall, MemberDone};
use podero_bridge::podero::Partner;
use podero_bridge::store::{PumpFilter, ROWS_MAX, Settings, Store, Target};
use podero_bridge::watch::Watcher;
use uuid::Uuid;

use super::world::World;
use crate::world::until;

/// Users with a heat pump each; the call of one who hangs never gets an answer, that of one who panics is taken down.
#[derive(Clone)]
struct Podero {
    users: Vec<Uuid>,
    hangs: BTreeSet<Uuid>,
    panics: BTreeSet<Uuid>,
    /// The observations shown of each.
    shown: Arc<Mutex<BTreeMap<Uuid, Vec<Observation>>>>,
}

impl Partner for Podero {
    async fn call(&self, call: &Call, _: Option<Uuid>, _: Timestamp) -> Reply {
        panic!("the watch asks for {call:?}")
    }

    async fn call_for_member(&self, call: &MemberCall, _: Option<Uuid>, _: Timestamp) -> Reply<MemberDone> {
        panic!("the watch asks for {call:?}")
    }

    async fn list_users(&self) -> Reply<Vec<UserFound>> {
        let found = |id: &Uuid| UserFound {
            id: *id,
            is_customer: true,
            external_id: None,
            heat_pumps: Some(1),
            zip: None,
            observed: Record::new(),
        };
        Reply::Done(self.users.iter().map(found).collect())
    }

    async fn observe_heat_pumps(&self, user: Uuid) -> Reply<Vec<Observation>> {
        assert!(!self.panics.contains(&user), "this one is planted");
        if self.hangs.contains(&user) {
            std::future::pending::<()>().await;
        }
        Reply::Done(self.shown.lock().expect("whole")[&user].clone())
    }

    async fn observe_heat_pump(&self, _: Uuid, heat_pump: Uuid) -> Reply<Observation> {
        panic!("the watch asks for {heat_pump} in detail")
    }

    fn paused_until(&self) -> Option<Timestamp> {
        None
    }
}

struct GhostsWorld {
    watcher: Watcher<Podero>,
    store: Store,
    clock: Clock,
    _folder: tempfile::TempDir,
}

async fn world(podero: Podero) -> GhostsWorld {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Clock::manual(World::moment(0), 1);
    let url = crate::kit::sqlite_url(folder.path());
    let settings = Settings { url, targets: vec![Target::Amqp], works: true };
    let (store, writer) = Store::open(settings, clock.clone()).await.expect("the store opens");
    tokio::spawn(writer.run());
    let watcher = Watcher {
        store: store.clone(),
        partner: podero,
        policy: WatchPolicy::DEFAULT,
        region_chars: 0,
        lease: Duration::from_hours(1),
        look_every: Some(Duration::from_millis(20)),
        clock: clock.clone(),
        wake_outbound: Arc::default(),
        self_service: None,
    };
    GhostsWorld { watcher, store, clock, _folder: folder }
}

impl GhostsWorld {
    async fn pumps(&self) -> usize {
        let all = PumpFilter { limit: ROWS_MAX, ..PumpFilter::default() };
        self.store.heat_pumps(all).await.expect("it answers").len()
    }
}

fn shown(heat_pump: u128, now: Timestamp) -> Observation {
    let heat_pump = Uuid::from_u128(heat_pump);
    Observation { heat_pump, is_authenticated: Some(true), updated_at: Some(now), ..Observation::default() }
}

#[tokio::test]
async fn who_never_answers_and_who_panics_hold_nobody_else() {
    let users: Vec<Uuid> = (1..=200).map(Uuid::from_u128).collect();
    let now = World::moment(0);
    let all = users.iter().map(|user| (*user, vec![shown(user.as_u128() + 1_000, now)])).collect();
    let podero = Podero {
        // Nearly as many as are polled at once.
        hangs: users[..50].iter().copied().collect(),
        panics: users[50..60].iter().copied().collect(),
        users,
        shown: Arc::new(Mutex::new(all)),
    };
    let world = world(podero).await;
    world.watcher.roster_step().await;
    // All but half a round are due while the first ones hang.
    world.clock.advance(Duration::from_secs(270));
    tokio::select! {
        step = world.watcher.poll_step() => panic!("it still waits for the ghosts: {step:?}"),
        () = async {
            until("the first half was seen", async || (world.pumps().await > 40).then_some(())).await;
            world.clock.advance(Duration::from_secs(300));
            until("everybody else was seen", async || (world.pumps().await == 140).then_some(())).await;
        } => {}
    }
}

/// A list with an entry that cannot be read says nothing about who is missing.
#[tokio::test]
async fn an_unreadable_list_says_nothing_about_missing_pumps() {
    let user = Uuid::from_u128(1);
    let (a, b) = (shown(2, World::moment(0)), shown(3, World::moment(0)));
    let lists = Arc::new(Mutex::new(BTreeMap::from([(user, vec![a.clone(), b])])));
    let podero = Podero { users: vec![user], hangs: BTreeSet::new(), panics: BTreeSet::new(), shown: lists.clone() };
    let world = world(podero).await;
    world.watcher.roster_step().await;
    let poll = async || {
        world.clock.advance(Duration::from_mins(10));
        world.watcher.poll_step().await;
    };
    poll().await;
    assert_eq!(world.pumps().await, 2);
    // The second one may be the entry without an id.
    lists.lock().expect("whole").insert(user, vec![a.clone(), Observation::default()]);
    for _ in 0..5 {
        poll().await;
    }
    assert_eq!(world.pumps().await, 2);
    // It is not in complete ones.
    lists.lock().expect("whole").insert(user, vec![a]);
    for _ in 0..WatchPolicy::DEFAULT.disconnect_polls {
        assert_eq!(world.pumps().await, 2);
        poll().await;
    }
    assert_eq!(world.pumps().await, 1);
}
