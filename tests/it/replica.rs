//! Replicas on one PostgreSQL: one budget, one pause, one circuit, one probe, one alert. And alone, on SQLite, the same.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use podero_bridge::apply::Applier;
use podero_bridge::clock::Clock;
use podero_bridge::domain::alert::Severities;
use podero_bridge::domain::call::Reply;
use podero_bridge::domain::event::{Event, EventState, Happening};
use podero_bridge::domain::notice::Notice;
use podero_bridge::domain::partner_health::CircuitCause;
use podero_bridge::domain::plan::{ChurnDelete, OldBuilding, OldHeatPumps, Policy};
use podero_bridge::domain::retry::RetrySchedule;
use podero_bridge::domain::team::TeamPolicy;
use podero_bridge::domain::{CustomerId, EventId, Timestamp};
use podero_bridge::metrics::Metrics;
use podero_bridge::permits::Permits;
use podero_bridge::podero::{Client, Outlook, Partner, ProbePurpose};
use podero_bridge::pump::Step;
use podero_bridge::replica::Replica;
use podero_bridge::store::{Arrival, PublishOutcome, REPLICA_LIFE, Settings, Store, Target};
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::kit::arrival_of;
use crate::podero::{Act, EVENT, Mock, answer, busy_for, create, delete, settings, within};
use crate::servers;

const INTERVAL: Duration = Duration::from_secs(600);

/// One replica, with its dispatcher and writer.
struct One {
    replica: Replica,
    _stop: oneshot::Sender<()>,
}

impl One {
    async fn start(url: &str, mock: &Mock, clock: &Clock) -> Self {
        let store = Settings { url: url.to_owned(), targets: vec![Target::Amqp], works: true };
        let (store, writer) = Store::open(store, clock.clone()).await.expect("the store opens");
        tokio::spawn(writer.run());
        let mut podero = settings(&mock.base_url);
        (podero.max_in_flight, podero.requests_per_second) = (8, 100);
        let probe_time_max = podero.probe_time_max();
        let (client, dispatcher) = Client::new(podero, clock.clone(), ()).expect("good settings");
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(dispatcher.run(async move {
            stopped.await.ok();
        }));
        let replica = Replica {
            id: clock.fresh_id(),
            store,
            client,
            clock: clock.clone(),
            metrics: Metrics::new(),
            interval: INTERVAL,
            severities: Severities::DEFAULT,
            probe_time_max,
            wake_outbound: Arc::new(Notify::new()),
        };
        Self { replica, _stop: stop }
    }

    async fn sync(&self) {
        assert_eq!(within(self.replica.sync_step()).await, Step::Idle);
    }

    async fn probe(&self) {
        assert_eq!(within(self.replica.probe_step()).await, Step::Idle);
    }

    async fn ask(&self) -> Reply {
        within(self.replica.client.call(&delete(), None, EVENT)).await
    }

    /// Calls that fail in a row until the failures may be Podero's.
    async fn fail_until_suspicious(&self, mock: &Mock) {
        while self.replica.client.purpose().is_none() {
            mock.then(answer(500, ""));
            self.ask().await;
        }
        assert_eq!(self.replica.client.purpose(), Some(ProbePurpose::Suspicion));
    }

    fn outlook(&self) -> Outlook {
        self.replica.client.outlook()
    }

    /// Notices that no publisher has taken yet.
    async fn told(&self) -> Vec<Notice> {
        let store = &self.replica.store;
        let due = store.due_notices(Target::Amqp, 100, Duration::from_secs(60)).await.expect("the store answers");
        let notices: Vec<Notice> = due.into_iter().map(|due| due.notice).collect();
        let published = notices.iter().map(|notice| (notice.id, PublishOutcome::Published)).collect();
        store.mark(Target::Amqp, published).await.expect("the store answers");
        notices
    }
}

fn clock() -> Clock {
    Clock::manual(Timestamp::parse("2026-10-01T12:00:00Z").expect("valid"), 1)
}

async fn two() -> (One, One, Mock, Clock) {
    let url = tokio::task::spawn_blocking(servers::fresh_database).await.expect("a database");
    let (mock, clock) = (Mock::start().await, clock());
    let (a, b) = (One::start(&url, &mock, &clock).await, One::start(&url, &mock, &clock).await);
    a.sync().await;
    b.sync().await;
    a.sync().await;
    (a, b, mock, clock)
}

/// Two replicas share the budget and the part of one that dies or leaves comes back.
#[tokio::test]
async fn two_replicas_share_the_budget_and_a_lost_part_comes_back() {
    let (a, b, _mock, clock) = two().await;
    assert_eq!([&a, &b].map(|one| one.replica.client.per_second()), [(50, 50), (50, 50)]);
    // b is silent from now on.
    for _ in 1..REPLICA_LIFE.as_secs() {
        clock.advance(Duration::from_secs(1));
        a.sync().await;
        assert_eq!(a.replica.client.per_second().1, 50);
    }
    clock.advance(Duration::from_secs(1));
    a.sync().await;
    assert_eq!(a.replica.client.per_second().1, 100);
    b.sync().await;
    a.sync().await;
    assert_eq!(a.replica.client.per_second().1, 50, "it was only slow");
    b.replica.store.leave(b.replica.id).await.expect("it leaves");
    a.sync().await;
    assert_eq!(a.replica.client.per_second().1, 100);
}

#[tokio::test]
async fn a_pause_and_a_slower_pace_that_one_replica_sees_hold_both() {
    let (a, b, mock, clock) = two().await;
    mock.then(Act::Answer(429, vec![("retry-after", "60".to_owned())], String::new()));
    assert_eq!(a.ask().await, busy_for(60));
    a.sync().await;
    b.sync().await;
    assert_eq!(b.ask().await, busy_for(60));
    assert_eq!(mock.seen().0.len(), 1, "b asked nothing");
    assert_eq!(b.replica.client.per_second(), (35, 50));
    clock.advance(Duration::from_secs(60));
    assert_eq!(b.ask().await, Reply::Done(crate::podero::deleted()));
}

/// An open circuit holds both and one probe of one of them closes it for both.
#[tokio::test]
async fn an_open_circuit_holds_both_and_one_probe_closes_it() {
    let (a, b, mock, clock) = two().await;
    a.fail_until_suspicious(&mock).await;
    assert_eq!(a.outlook(), Outlook::Clear);
    mock.then(answer(500, ""));
    a.probe().await;
    a.sync().await;
    b.sync().await;
    assert!(matches!(b.outlook(), Outlook::Open { why: CircuitCause::Away, .. }), "{:?}", b.outlook());
    assert_eq!(b.ask().await, busy_for(1));
    a.probe().await;
    assert_eq!(mock.seen().0.len(), 11, "it is not time");

    // Both want to; one does.
    clock.advance(Duration::from_secs(1));
    mock.then(answer(500, ""));
    tokio::join!(a.probe(), b.probe());
    assert_eq!(mock.seen().0.len(), 12);
    a.sync().await;
    b.sync().await;
    assert_eq!(a.replica.client.health(), b.replica.client.health());

    clock.advance(Duration::from_secs(2));
    mock.then(answer(404, ""));
    b.probe().await;
    a.sync().await;
    assert_eq!([a.outlook(), b.outlook()], [Outlook::Clear, Outlook::Clear]);
    assert_eq!(a.ask().await, Reply::Done(crate::podero::deleted()));
}

/// A suspicion waits neither for the probe of another replica nor for the store.
#[tokio::test]
async fn a_suspicion_waits_for_no_other_replica_and_no_store() {
    let postgres = tokio::task::spawn_blocking(servers::Postgres::start).await.expect("a database of our own");
    let (mock, clock) = (Mock::start().await, clock());
    let a = One::start(&postgres.url(), &mock, &clock).await;
    let b = One::start(&postgres.url(), &mock, &clock).await;
    // Somewhere a third replica hangs over a probe, and holds the duty.
    assert!(b.replica.store.take_duty("probe", a.replica.probe_time_max).await.expect("the store answers").is_some());
    a.fail_until_suspicious(&mock).await;
    mock.then(answer(404, ""));
    a.probe().await;
    assert_eq!((a.outlook(), a.replica.client.purpose()), (Outlook::Clear, None));

    // Both meet the same outage, and each finds it: that is one opening.
    for one in [&a, &b] {
        clock.advance(Duration::from_secs(1));
        one.fail_until_suspicious(&mock).await;
        mock.then(answer(500, ""));
        one.probe().await;
    }
    a.sync().await;
    b.sync().await;
    a.sync().await;
    assert_eq!(a.replica.client.health(), b.replica.client.health());
    assert_eq!(a.replica.client.health().opening().map(|opening| opening.openings), Some(1));

    clock.advance(a.replica.probe_time_max);
    mock.then(answer(404, ""));
    a.probe().await;
    let postgres = tokio::task::spawn_blocking(move || {
        postgres.stop();
        postgres
    })
    .await
    .expect("stopped");
    a.fail_until_suspicious(&mock).await;
    mock.then(answer(403, ""));
    a.probe().await;
    assert!(
        matches!(a.outlook(), Outlook::Open { why: CircuitCause::Refused { status: 403 }, .. }),
        "{:?}",
        a.outlook()
    );
    tokio::task::spawn_blocking(move || drop(postgres)).await.expect("removed");
}

#[tokio::test]
async fn a_prober_that_dies_over_it_is_followed_by_the_other() {
    let (a, b, mock, clock) = two().await;
    mock.then(answer(404, ""));
    let reply = within(a.replica.client.call(&create(), None, EVENT)).await;
    assert_eq!(reply, Reply::Held { status: 404 });
    a.sync().await;
    b.sync().await;
    clock.advance(Duration::from_secs(1));
    mock.then(Act::Silence);
    let mut probing = Box::pin(a.replica.probe_step());
    let came = mock.until_calls(2);
    within(async {
        tokio::select! { _ = &mut probing => panic!("answered"), () = came => {} }
    })
    .await;
    drop(probing);
    b.probe().await;
    assert_eq!(mock.seen().0.len(), 2, "as far as b knows, a is at it");
    clock.advance(a.replica.probe_time_max);
    b.probe().await;
    assert_eq!((mock.seen().0.len(), b.outlook()), (3, Outlook::Clear));
}

#[tokio::test]
async fn blindness_is_told_once_by_two_replicas_and_so_is_its_end() {
    let (a, b, mock, clock) = two().await;
    mock.then(answer(401, "")).then(answer(401, ""));
    assert_eq!(a.ask().await, Reply::Held { status: 401 });
    for _ in 0..3 {
        a.sync().await;
        b.sync().await;
        assert_eq!(a.told().await, [], "a blip is none");
        clock.advance(Duration::from_secs(19));
    }
    clock.advance(Duration::from_secs(3));
    tokio::join!(a.sync(), b.sync());
    let told = a.told().await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].topic.name(), &told[0].data["cause"]), ("watch.blind", &"credentials_refused".into()));
    tokio::join!(a.sync(), b.sync());
    mock.then(answer(404, ""));
    b.probe().await;
    tokio::join!(a.sync(), b.sync());
    let ended = b.told().await;
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!(ended[0].topic.name(), "watch.restored");
    assert_eq!(ended[0].data["occurrence_id"], told[0].data["occurrence_id"]);
    assert_eq!(a.outlook(), Outlook::Clear);
}

/// While the store is away a replica goes by what it knows and probes by itself.
#[tokio::test]
async fn while_the_store_is_away_a_replica_probes_by_itself() {
    let postgres = tokio::task::spawn_blocking(servers::Postgres::start).await.expect("a database of our own");
    let (mock, clock) = (Mock::start().await, clock());
    let a = One::start(&postgres.url(), &mock, &clock).await;
    let b = One::start(&postgres.url(), &mock, &clock).await;
    a.sync().await;
    b.sync().await;
    let postgres = tokio::task::spawn_blocking(move || {
        postgres.stop();
        postgres
    })
    .await
    .expect("stopped");
    mock.then(answer(401, "")).then(answer(401, ""));
    assert_eq!(b.ask().await, Reply::Held { status: 401 });
    assert_eq!(within(b.replica.sync_step()).await, Step::Failed);
    assert!(matches!(b.outlook(), Outlook::Open { .. }), "what it learnt it keeps");
    assert_eq!(b.replica.client.per_second().1, 50, "and its part of the budget");
    clock.advance(Duration::from_secs(1));
    mock.then(answer(404, ""));
    assert_eq!(within(b.replica.probe_step()).await, Step::Failed, "it cannot tell the others");
    assert_eq!(b.ask().await, Reply::Done(crate::podero::deleted()));
    tokio::task::spawn_blocking(move || drop(postgres)).await.expect("removed");
}

#[tokio::test]
async fn alone_on_sqlite_a_restart_neither_repeats_nor_forgets_what_was_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = crate::kit::sqlite_url(folder.path());
    let (mock, clock) = (Mock::start().await, clock());
    let alone = One::start(&url, &mock, &clock).await;
    mock.then(Act::Answer(429, vec![("retry-after", "3600".to_owned())], String::new()));
    alone.ask().await;
    alone.sync().await;
    // Time without a look does not make it blind: it is published after an interval of looks.
    clock.advance(INTERVAL);
    for _ in 0..30 {
        alone.sync().await;
        assert_eq!(alone.told().await.len(), 0);
        clock.advance(INTERVAL / 30);
    }
    alone.sync().await;
    assert_eq!(alone.told().await.len(), 1);
    drop(alone);

    let again = crate::world::until("the file is free", async || {
        let store = Settings { url: url.clone(), targets: vec![], works: true };
        Store::open(store, clock.clone()).await.ok().map(drop)?;
        Some(One::start(&url, &mock, &clock).await)
    })
    .await;
    again.sync().await;
    assert!(matches!(again.outlook(), Outlook::Paused { .. }), "the pause outlived the restart");
    assert_eq!(again.replica.client.per_second().1, 100, "nobody else has the file");
    assert_eq!(again.told().await, []);
    clock.advance(Duration::from_secs(3_600));
    again.sync().await;
    assert_eq!(again.told().await, []);
    // No call is due: a probe shows that Podero answers.
    clock.advance(Duration::from_secs(5));
    mock.then(answer(404, ""));
    again.probe().await;
    let told = again.told().await;
    assert_eq!(told.iter().map(|notice| notice.topic.name()).collect::<Vec<_>>(), ["watch.restored"]);
    assert!(matches!(again.replica.client.list_users().await, Reply::Done(_)));
}

/// Works on the events of `one`'s store with `one`'s client.
fn applier(one: &One) -> Applier<Client> {
    let wake: Arc<Notify> = Arc::default();
    Applier {
        store: one.replica.store.clone(),
        partner: one.replica.client.clone(),
        policy: Policy {
            schedule: RetrySchedule { initial: Duration::from_secs(1), max: Duration::from_secs(1) },
            doubt_pause: Duration::from_secs(10),
            give_up_after: Duration::from_secs(72 * 3_600),
            onboarding: None,
            old_heat_pumps: OldHeatPumps::Pause,
            old_building: OldBuilding::Delete,
            churn: ChurnDelete::Soft,
            retention: Duration::from_secs(30 * 24 * 3_600),
            brake: None,
            team: TeamPolicy::default(),
        },
        clock: one.replica.clock.clone(),
        metrics: Metrics::new(),
        wake: wake.clone(),
        wake_outbound: Arc::default(),
        call_time_max: Duration::from_secs(60),
        request_time_max: Duration::from_secs(10),
        permits: Permits::waking(wake),
    }
}

/// A customer left.
fn churned(customer: &str, clock: &Clock) -> Arrival {
    let id = EventId(clock.fresh_id());
    let event = Event {
        id,
        customer: CustomerId::accept(customer).expect("valid"),
        time: clock.now(),
        effective_at: None,
        happening: Happening::Churned,
    };
    arrival_of(event, clock.now())
}

/// A replica claims no more than its part of the places and goes on when one is free.
#[tokio::test]
async fn a_replica_claims_no_more_than_its_part() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = crate::kit::sqlite_url(folder.path());
    let (mock, clock) = (Mock::start().await, clock());
    let alone = One::start(&url, &mock, &clock).await;
    let applier = applier(&alone);
    let arrivals = ["C-1", "C-2", "C-3"].map(|customer| churned(customer, &clock)).to_vec();
    alone.replica.store.accept(arrivals).await.expect("they are kept");
    // Eight share eight places.
    alone.replica.client.adopt(alone.replica.client.health(), 8);
    let gate = Arc::new(Semaphore::new(0));
    mock.then(Act::Gated(gate.clone(), "{}".to_owned()));
    let mut first = Box::pin(applier.step());
    let came = mock.until_calls(1);
    within(async {
        tokio::select! { _ = &mut first => panic!("answered"), () = came => {} }
    })
    .await;
    // Its own wake-up for the next worker.
    within(applier.wake.notified()).await;
    assert_eq!(within(applier.step()).await, Step::Idle, "the only place is taken");
    assert!(applier.wake.notified().now_or_never().is_none());
    gate.add_permits(1);
    assert_eq!(within(first).await, Step::Busy);
    within(applier.wake.notified()).await;
    assert_eq!(mock.seen().0.len(), 1);

    // The other replicas end, and there is room for all.
    alone.replica.client.adopt(alone.replica.client.health(), 1);
    let gate = Arc::new(Semaphore::new(0));
    mock.then(Act::Gated(gate.clone(), "{}".to_owned())).then(Act::Gated(gate.clone(), "{}".to_owned()));
    let both = async { tokio::join!(applier.step(), applier.step()) };
    let let_go = async {
        mock.until_calls(3).await;
        gate.add_permits(2);
    };
    let whole = Box::pin(async { tokio::join!(both, let_go) });
    assert_eq!(within(whole).await.0, (Step::Busy, Step::Busy));
}

#[tokio::test]
async fn an_outage_is_no_part_of_an_events_age_and_everything_else_is() {
    for has_outage in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let url = crate::kit::sqlite_url(folder.path());
        let (mock, clock) = (Mock::start().await, clock());
        let alone = One::start(&url, &mock, &clock).await;
        let applier = applier(&alone);
        let arrival = churned("C-1", &clock);
        let id = arrival.id;
        alone.replica.store.accept(vec![arrival]).await.expect("it is kept");
        mock.then(answer(500, ""));
        assert_eq!(within(applier.step()).await, Step::Busy, "its first failure");
        if has_outage {
            alone.fail_until_suspicious(&mock).await;
            mock.then(answer(500, ""));
            alone.probe().await;
            assert!(matches!(alone.outlook(), Outlook::Open { .. }));
            assert!(matches!(within(applier.step()).await, Step::IdleFor(_)), "nothing is claimed meanwhile");
        }
        clock.advance(Duration::from_secs(100 * 3_600));
        if has_outage {
            mock.then(answer(404, ""));
            alone.probe().await;
            assert_eq!(alone.outlook(), Outlook::Clear);
        }
        // The next failure comes after more hours than an event may fail.
        mock.then(answer(500, ""));
        assert_eq!(within(applier.step()).await, Step::Busy);
        let view = alone.replica.store.event(id).await.expect("the store answers").expect("it is there");
        let state = view.event.state;
        assert_eq!(state, if has_outage { EventState::Pending } else { EventState::Parked });
    }
}
