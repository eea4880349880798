//! The real stage on the real store (SQLite), a Podero in memory, and a clock that the world owns. Customers stay here: what
//! a churn or a move does to alerts is in the simulation of the whole inside.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::Timestamp;
use podero_bridge::domain::alert::Observation;
use podero_bridge::domain::call::{Call, Reply, UserFound, Zip};
use podero_bridge::domain::event::Record;
use podero_bridge::domain::notice::Notice;
use podero_bridge::domain::team::{MemberCall, MemberDone};
use podero_bridge::podero::Partner;
use podero_bridge::pump::Step;
use podero_bridge::store::{PublishOutcome, Settings, Store, Target};
use podero_bridge::watch::Watcher;
use uuid::Uuid;

use super::Bridge;
use super::world::{Minute, Weather, World};

/// Podero, as it is in this minute.
#[derive(Clone)]
struct Podero(Arc<Mutex<Shown>>);

struct Shown {
    clock: Clock,
    weather: Weather,
    /// Heat pumps and ZIP code of each user.
    users: BTreeMap<Uuid, (Vec<Observation>, Zip)>,
    requests: u64,
}

impl Podero {
    /// The answer, unless the weather has another one.
    fn answer<A>(&self, answer: impl FnOnce(&Shown) -> A) -> Reply<A> {
        let mut shown = self.0.lock().expect("whole");
        shown.requests += 1;
        let fails = shown.weather == Weather::Flaky && shown.clock.jitter() < 0.25;
        match shown.weather {
            Weather::Away => Reply::Unsent { why: "away" },
            Weather::Limited => Reply::Busy { after: Some(Duration::from_secs(60)) },
            _ if fails => Reply::Unknown { why: "flaky" },
            Weather::Fine | Weather::Flaky | Weather::Down => Reply::Done(answer(&shown)),
        }
    }
}

impl Partner for Podero {
    async fn call(&self, call: &Call, _: Option<Uuid>, _: Timestamp) -> Reply {
        panic!("the watch asks for {call:?}")
    }

    async fn call_for_member(&self, call: &MemberCall, _: Option<Uuid>, _: Timestamp) -> Reply<MemberDone> {
        panic!("the watch asks for {call:?}")
    }

    async fn list_users(&self) -> Reply<Vec<UserFound>> {
        self.answer(|shown| {
            let found = |(id, (pumps, zip)): (&Uuid, &(Vec<Observation>, Zip))| UserFound {
                id: *id,
                is_customer: true,
                external_id: None,
                heat_pumps: u64::try_from(pumps.len()).ok(),
                zip: Some(Box::new(zip.clone())),
                observed: Record::new(),
            };
            shown.users.iter().map(found).collect()
        })
    }

    async fn observe_heat_pumps(&self, user: Uuid) -> Reply<Vec<Observation>> {
        self.answer(|shown| shown.users.get(&user).map(|(pumps, _)| pumps.clone()).unwrap_or_default())
    }

    async fn observe_heat_pump(&self, _: Uuid, heat_pump: Uuid) -> Reply<Observation> {
        panic!("the watch asks for {heat_pump} in detail")
    }

    fn paused_until(&self) -> Option<Timestamp> {
        let shown = self.0.lock().expect("whole");
        (shown.weather == Weather::Limited).then(|| shown.clock.now().plus(Duration::from_secs(60)))
    }
}

pub struct Shell {
    watcher: Option<Watcher<Podero>>,
    store: Store,
    clock: Clock,
    podero: Podero,
    _folder: tempfile::TempDir,
}

impl Shell {
    pub async fn open(seed: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock::manual(World::moment(0), seed);
        let url = crate::kit::sqlite_url(folder.path());
        let settings = Settings { url, targets: vec![Target::Amqp], works: true };
        let (store, writer) = Store::open(settings, clock.clone()).await.expect("the store opens");
        tokio::spawn(writer.run());
        let shown = Shown { clock: clock.clone(), weather: Weather::Fine, users: BTreeMap::new(), requests: 0 };
        Self { watcher: None, store, clock, podero: Podero(Arc::new(Mutex::new(shown))), _folder: folder }
    }

    fn show(&self, world: &World, minute: Minute) {
        let mut users: BTreeMap<Uuid, (Vec<Observation>, Zip)> = BTreeMap::new();
        for pump in &world.pumps {
            let zip = || Zip { country: Some("DE".to_owned()), code: format!("{:02}123", pump.region) };
            let (pumps, _) = users.entry(pump.user).or_insert_with(|| (Vec::new(), zip()));
            if world.is_there(pump, minute) {
                pumps.push(world.show(pump, minute));
            }
        }
        let mut shown = self.podero.0.lock().expect("whole");
        (shown.users, shown.weather) = (users, world.weather(minute));
    }

    /// Notices since the last call.
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
}

impl Bridge for Shell {
    async fn live(&mut self, world: &World, minute: Minute) -> Vec<Notice> {
        self.clock.advance(World::moment(minute).since(self.clock.now()));
        if world.weather(minute) == Weather::Down {
            // All that it knew is in the store.
            self.watcher = None;
            return Vec::new();
        }
        self.show(world, minute);
        let watcher = self.watcher.get_or_insert_with(|| Watcher {
            store: self.store.clone(),
            partner: self.podero.clone(),
            policy: world.policy,
            region_chars: 2,
            lease: Duration::from_secs(90),
            look_every: None,
            clock: self.clock.clone(),
            wake_outbound: Arc::default(),
            self_service: None,
        });
        assert_ne!(watcher.roster_step().await, Step::Failed);
        while watcher.poll_step().await == Step::Busy {}
        assert_ne!(watcher.fleet_step().await, Step::Failed);
        self.told().await
    }

    fn requests(&self) -> u64 {
        self.podero.0.lock().expect("whole").requests
    }
}
