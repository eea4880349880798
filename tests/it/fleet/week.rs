//! A week of a Podero that fails at random, over real HTTP: the real client with its circuit, pauses and pace, the real
//! stages and the real store. Every heat pump is well, so the only news is that the bridge could not see.

use std::sync::Arc;
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::Timestamp;
use podero_bridge::domain::alert::{Severities, WatchPolicy};
use podero_bridge::domain::call::{Call, Done, Reply};
use podero_bridge::domain::event::{Field, Record};
use podero_bridge::domain::notice::{Notice, Topic};
use podero_bridge::domain::{CustomerId, EventId};
use podero_bridge::metrics::Metrics;
use podero_bridge::podero::{Client, Partner, Settings};
use podero_bridge::replica::Replica;
use podero_bridge::sandbox::{self, Sandbox};
use podero_bridge::store::{self, PublishOutcome, Store, Target};
use podero_bridge::watch::Watcher;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{say, seed};
use crate::servers::environment;

/// Interval between two rounds of the stages, in the world's time.
const ROUND: Duration = Duration::from_secs(20);

struct WeekWorld {
    http: reqwest::Client,
    base: String,
    clock: Clock,
    client: Client,
    watcher: Watcher<Client>,
    replica: Replica,
    store: Store,
    _stop: oneshot::Sender<()>,
    _folder: tempfile::TempDir,
}

impl WeekWorld {
    async fn open(seed: u64) -> Self {
        let clock = Clock::manual(Timestamp::parse("2026-10-01T12:00:00Z").expect("valid"), seed);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        let sandbox = Sandbox::new(
            sandbox::SandboxSettings { seed: Some(seed), ..sandbox::SandboxSettings::default() },
            clock.clone(),
        );
        let account = sandbox.account();
        let settings = Settings {
            base_url: base.clone(),
            org_id: account.org_id,
            client_id: account.client_id.clone(),
            client_secret: account.client_secret.clone(),
            proxy: None,
            timeout: Duration::from_secs(5),
            max_in_flight: 16,
            // The limiter's time is real, and real time is not what passes here.
            requests_per_second: 10_000,
        };
        tokio::spawn(sandbox::server(sandbox, listener).expect("it listens"));
        let probe_time_max = settings.probe_time_max();
        let (client, dispatcher) = Client::new(settings, clock.clone(), ()).expect("good settings");
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(dispatcher.run(async move {
            stopped.await.ok();
        }));
        let folder = tempfile::tempdir().expect("a folder");
        let url = crate::kit::sqlite_url(folder.path());
        let settings = store::Settings { url, targets: vec![Target::Amqp], works: true };
        let (store, writer) = Store::open(settings, clock.clone()).await.expect("the store opens");
        tokio::spawn(writer.run());
        let policy = WatchPolicy::DEFAULT;
        let watcher = Watcher {
            store: store.clone(),
            partner: client.clone(),
            policy,
            region_chars: 0,
            lease: Duration::from_secs(90),
            look_every: None,
            clock: clock.clone(),
            wake_outbound: Arc::default(),
            self_service: None,
        };
        let replica = Replica {
            id: clock.fresh_id(),
            store: store.clone(),
            client: client.clone(),
            clock: clock.clone(),
            metrics: Metrics::new(),
            interval: policy.interval,
            severities: Severities::DEFAULT,
            probe_time_max,
            wake_outbound: Arc::default(),
        };
        let http = reqwest::Client::new();
        Self { http, base, clock, client, watcher, replica, store, _stop: stop, _folder: folder }
    }

    /// A customer with a heat pump that is well.
    async fn populate(&self, number: u32) {
        let external_id = CustomerId::accept(&format!("C-{number}")).expect("a printable id");
        let record = Record::from([(Field::Email, format!("c{number}@utility.example").as_str().into())]);
        let until = self.clock.now().plus(Duration::from_secs(60));
        let call = Call::CreateUser { external_id, record };
        let key = call.idempotency_key(EventId(Uuid::from_u128(number.into())));
        let Reply::Done(Done::UserCreated { user, .. }) = self.client.call(&call, key, until).await else {
            panic!("a user is made");
        };
        let url = format!("{}/_sandbox/users/{user}/heat-pumps", self.base);
        let made = self.http.post(url).json(&json!({"manufacturer": "Nordwind"})).send().await.expect("an answer");
        assert_eq!(made.status(), 201);
    }

    async fn faults(&self, rules: &[Value]) {
        let url = format!("{}/_sandbox/faults", self.base);
        let cleared = self.http.delete(&url).send().await.expect("an answer");
        assert!(cleared.status().is_success());
        for rule in rules {
            let made = self.http.post(&url).json(rule).send().await.expect("an answer");
            assert_eq!(made.status(), 201, "{rule}");
        }
    }

    /// One round of everything, and its notices.
    async fn round(&self) -> Vec<Notice> {
        self.clock.advance(ROUND);
        self.replica.probe_step().await;
        self.replica.sync_step().await;
        self.watcher.roster_step().await;
        self.watcher.poll_step().await;
        self.watcher.fleet_step().await;
        let due = self.store.due_notices(Target::Amqp, 100, Duration::from_secs(60)).await.expect("it answers");
        let published = due.iter().map(|due| (due.notice.id, PublishOutcome::Published)).collect();
        self.store.mark(Target::Amqp, published).await.expect("it answers");
        due.into_iter().map(|due| due.notice).collect()
    }
}

/// Podero's behaviour in the next hours.
fn mood(dice: &mut StdRng) -> (&'static str, Vec<Value>) {
    let rule = |kind: &str, probability: f64, more: Value| {
        let mut rule = json!({"operation": "*", "kind": kind, "probability": probability});
        for (name, value) in more.as_object().into_iter().flatten() {
            rule[name] = value.clone();
        }
        rule
    };
    match dice.random_range(0..8) {
        0 | 1 => ("fine", vec![]),
        2 => ("every fifth answer is an error", vec![rule("status", 0.2, json!({"status": 500}))]),
        3 => {
            ("half of all connections are cut", vec![rule("drop_before", 0.3, json!({})), rule("cut", 0.3, json!({}))])
        }
        4 => (
            "garbage, and pauses",
            vec![
                rule("garbage", 0.2, json!({})),
                rule("half", 0.2, json!({})),
                rule("status", 0.1, json!({"status": 429, "retry_after": 45})),
            ],
        ),
        5 => ("slow down, again and again", vec![rule("status", 1.0, json!({"status": 429, "retry_after": 90}))]),
        6 => ("nothing but errors", vec![rule("status", 1.0, json!({"status": 502}))]),
        _ => ("refused", vec![rule("status", 1.0, json!({"status": 403}))]),
    }
}

/// A Podero that fails at random is an alert of blindness and nothing else.
#[tokio::test]
async fn fleet_week_random_failures_are_told_as_blindness_alone() {
    let seed = seed();
    let days: u32 =
        environment("PODERO_BRIDGE_TEST_WEEK_DAYS").map_or(1, |days| days.parse().expect("a number of days"));
    say(&format!("week: PODERO_BRIDGE_TEST_SEED={seed}, {days} days"));
    let mut dice = StdRng::seed_from_u64(seed);
    let world = WeekWorld::open(seed).await;
    for number in 0..12 {
        world.populate(number).await;
    }
    let (mut blind, mut blind_times) = (None, 0);
    for hours in 0..days * 24 / 2 {
        let (name, rules) = mood(&mut dice);
        // It ends well: every alert must be resolved.
        let is_last = hours + 1 == days * 24 / 2;
        world.faults(if is_last { &[] } else { &rules }).await;
        for _ in 0..2 * 3600 / ROUND.as_secs() {
            for notice in world.round().await {
                let about = || format!("{name}, seed {seed}: {} {}", notice.topic.name(), notice.data);
                let occurrence = notice.data["occurrence_id"].clone();
                if notice.topic == Topic::WatchBlind {
                    assert_eq!(blind.replace(occurrence), None, "{}", about());
                    blind_times += 1;
                } else {
                    assert_eq!(notice.topic, Topic::WatchRestored, "nothing else happened: {}", about());
                    assert_eq!(blind.take(), Some(occurrence), "{}", about());
                }
            }
        }
    }
    assert_eq!(blind, None, "seed {seed}: it could see for two hours");
    let pumps = world.store.gauges(world.clock.now().minus(WatchPolicy::DEFAULT.interval)).await.expect("it answers");
    assert_eq!(pumps.heat_pumps, [("connected".to_owned(), 12)], "seed {seed}");
    assert!(pumps.polled_in_time > 0.99, "seed {seed}: all were seen lately");
    say(&format!("  blind {blind_times} times, and nothing else was told"));
}
