//! Groups of writes as sets of rows (docs/adr/0026): they give what the same writes give one by one, and groups of two replicas on
//! the same lanes do not stop each other.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{join, join_all, join3};
use podero_bridge::clock::Clock;
use podero_bridge::domain::event::{Details, Event, Field, Happening};
use podero_bridge::domain::notice::{Notice, Topic, notice_id};
use podero_bridge::domain::verdict::{Fate, Reason, Setback, Verdict};
use podero_bridge::domain::{CustomerId, EventId, Timestamp};
use podero_bridge::store::{Arrival, Claim, Content, Receipt, RetryRequest, Settings, Settled, Store, Target};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::{Barrier, Notify};

use crate::kit::{BY, Fixture, TestDatabase, arrival_of, on_both_databases};
use crate::world::until;

const LEASE: Duration = Duration::from_secs(60);

/// Number of customers whose lanes the groups share.
const CUSTOMERS: usize = 40;

on_both_databases! {
    a_group_of_arrivals_gives_what_they_give_one_by_one
    a_group_of_settlements_gives_what_they_give_one_by_one
    a_group_that_fails_is_written_one_by_one
}

struct GroupFixture {
    store: Store,
    clock: Clock,
    database: TestDatabase,
}

impl Fixture for GroupFixture {
    async fn open(database: TestDatabase, _: usize) -> Self {
        let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000), 1);
        let store = open(&database.url, &clock).await;
        Self { store, clock, database }
    }
}

async fn open(url: &str, clock: &Clock) -> Store {
    let settings = Settings { url: url.to_owned(), targets: vec![Target::Amqp], works: true };
    let (store, writer) = Store::open(settings, clock.clone()).await.expect("the database is there");
    tokio::spawn(writer.run());
    store
}

fn arrival(clock: &Clock, customer: usize, happening: Happening) -> Arrival {
    let event = Event {
        id: EventId(clock.fresh_id()),
        customer: CustomerId::accept(&format!("C-{customer}")).expect("a printable id"),
        time: clock.now(),
        effective_at: None,
        happening,
    };
    arrival_of(event, clock.now())
}

fn updated(name: &str) -> Happening {
    Happening::Updated(Details { personal: [(Field::FirstName, name.into())].into(), ..Details::default() })
}

/// Arrivals of few customers, each third one a second time, with the same content or with another; and batches in which an
/// announced churn, what was said before it and what was said after it meet.
fn mixed(clock: &Clock) -> Vec<Vec<Arrival>> {
    let mut all = Vec::new();
    for number in 0..3 * CUSTOMERS {
        let mut first = arrival(clock, number % CUSTOMERS, updated("x"));
        if number % 5 == 0 {
            first = arrival(clock, number % CUSTOMERS, Happening::Churned);
        }
        let again = Arrival { id: EventId(clock.fresh_id()), ..first.clone() };
        let reused = Arrival { id: EventId(clock.fresh_id()), digest: "another".to_owned(), ..first.clone() };
        all.push(match number % 3 {
            0 => vec![first, again],
            1 => vec![first],
            _ => vec![first, reused],
        });
    }
    let announced = |customer: usize, said: u64| {
        let mut announced = arrival(clock, customer, Happening::Churned);
        if let Content::Event(event) = &mut announced.content {
            event.time = clock.now().plus(Duration::from_secs(said));
            event.effective_at = Some(clock.now().plus(24 * 60 * LEASE));
        }
        announced
    };
    let said = |customer: usize, said: u64| {
        let mut plain = arrival(clock, customer, Happening::Churned);
        if let Content::Event(event) = &mut plain.content {
            event.time = clock.now().plus(Duration::from_secs(said));
        }
        plain
    };
    all.push(vec![announced(CUSTOMERS, 1), said(CUSTOMERS, 2)]);
    all.push(vec![said(CUSTOMERS + 1, 1), announced(CUSTOMERS + 1, 2), said(CUSTOMERS + 1, 3)]);
    all.push(vec![announced(CUSTOMERS + 2, 2), announced(CUSTOMERS + 2, 1), said(CUSTOMERS + 2, 0)]);
    all
}

/// A receipt in words, without the ids.
fn said(receipt: &Receipt) -> String {
    match receipt {
        Receipt::Accepted { state, .. } => format!("accepted {state}"),
        Receipt::Duplicate { state, .. } => format!("duplicate {state}"),
        Receipt::Reused { .. } => "reused".to_owned(),
    }
}

/// The states of all events, by customer, in the order of their lanes.
async fn states(store: &Store) -> BTreeMap<String, Vec<String>> {
    let mut states = BTreeMap::new();
    for number in 0..CUSTOMERS + 3 {
        let customer = format!("C-{number}");
        let view = store.customer(&customer).await.expect("the store is there");
        let events = view.map(|view| view.events).unwrap_or_default();
        let told = |state: &str, reason: Option<&str>| format!("{state} {}", reason.unwrap_or("-"));
        states.insert(customer, events.iter().map(|event| told(event.state.name(), event.reason.as_deref())).collect());
    }
    states
}

async fn a_group_of_arrivals_gives_what_they_give_one_by_one(fixture: GroupFixture) {
    let GroupFixture { store, clock, .. } = &fixture;
    let alone = GroupFixture::on_sqlite().await;
    let writes = mixed(clock);
    let mut expected = Vec::new();
    for arrivals in &writes {
        expected.push(alone.store.accept(arrivals.clone()).await.expect("the store is there"));
    }
    let receipts = join_all(writes.iter().map(|arrivals| store.accept(arrivals.clone()))).await;
    for (expected, receipts) in expected.iter().zip(receipts) {
        let receipts = receipts.expect("the store is there");
        assert_eq!(receipts.iter().map(said).collect::<Vec<_>>(), expected.iter().map(said).collect::<Vec<_>>());
    }
    assert_eq!(states(store).await, states(&alone.store).await);
    // Each identity is known now, whichever write it came in first.
    for receipts in join_all(writes.iter().map(|arrivals| store.accept(arrivals.clone()))).await {
        let receipts = receipts.expect("the store is there");
        assert!(receipts.iter().all(|receipt| !matches!(receipt, Receipt::Accepted { .. })), "{receipts:?}");
    }
}

fn verdict(claim: &Claim, number: usize, clock: &Clock) -> Verdict {
    let fate = match number % 4 {
        0 => Fate::Applied { stale: Vec::new() },
        1 => Fate::Superseded,
        2 => Fate::Retry { at: clock.now().plus(LEASE), setback: Setback::Busy },
        _ => Fate::Parked { reason: Reason::Refused, detail: "said no".to_owned() },
    };
    let topic = Topic::CustomerProvisioned;
    let notice = Notice {
        id: notice_id(&claim.lane, topic),
        topic,
        order_key: format!("line/{}", number % 3),
        subject: claim.lane.clone(),
        time: clock.now(),
        data: serde_json::json!({}),
    };
    Verdict {
        fate,
        state: claim.work.customer.clone(),
        failures: 1,
        failing_since: None,
        notices: vec![notice],
        seen: Vec::new(),
        follow_ups: Vec::new(),
        ends_scheduled: false,
        overtakes: false,
        wakes_waiting: number.is_multiple_of(2),
        remark: None,
        acts: Vec::new(),
    }
}

async fn a_group_of_settlements_gives_what_they_give_one_by_one(fixture: GroupFixture) {
    let GroupFixture { store, clock, .. } = &fixture;
    let arrivals = (0..CUSTOMERS).flat_map(|customer| [customer, customer]);
    let arrivals = arrivals.map(|customer| arrival(clock, customer, updated("x"))).collect();
    store.accept(arrivals).await.expect("the store is there");
    let mut claims = store.claims(CUSTOMERS, LEASE).await.expect("the store is there");
    assert_eq!(claims.len(), CUSTOMERS, "a claim for each lane");
    claims.sort_by(|one, other| one.lane.cmp(&other.lane));
    // One of them is old news: its fence has been passed.
    claims[7].fence -= 1;
    let settles = claims.iter().enumerate().map(|(number, claim)| (claim, verdict(claim, number, clock)));
    let settles: Vec<(&Claim, Verdict)> = settles.collect();
    // Each is sent twice, as by a worker whose first answer was lost.
    let twice = settles.iter().chain(&settles).map(|(claim, verdict)| store.settle(claim, verdict.clone(), Vec::new()));
    let settled = join_all(twice).await;
    let recorded = |place: usize| *settled[place].as_ref().expect("the store is there") == Settled::Recorded;
    for (place, (claim, verdict)) in settles.iter().enumerate() {
        let times = usize::from(recorded(place)) + usize::from(recorded(place + CUSTOMERS));
        let view = store.event(claim.work.event.id).await.expect("the store is there").expect("it is known").event;
        if place == 7 {
            assert_eq!((times, view.state.name()), (0, "pending"), "a fenced result changes nothing");
            continue;
        }
        let state = match verdict.fate {
            Fate::Applied { .. } => "applied",
            Fate::Superseded => "superseded",
            Fate::Retry { .. } | Fate::Waiting { .. } => "pending",
            Fate::Parked { .. } => "parked",
        };
        assert_eq!((times, view.state.name()), (1, state), "{}", claim.lane);
    }
    // A lane whose head is in back-off yields nothing, every other one its second event.
    let next = store.claims(CUSTOMERS, LEASE).await.expect("the store is there");
    assert_eq!(next.len(), CUSTOMERS - CUSTOMERS / 4 - 1);
    // Of each order key the first goes out, and its place is before those of all others.
    let due = store.due_notices(Target::Amqp, CUSTOMERS, LEASE).await.expect("the store is there");
    let mut keys: Vec<&str> = due.iter().map(|due| due.notice.order_key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["line/0", "line/1", "line/2"]);
}

async fn a_group_that_fails_is_written_one_by_one(fixture: GroupFixture) {
    let GroupFixture { store, clock, .. } = &fixture;
    let good: Vec<Arrival> = (0..CUSTOMERS).map(|customer| arrival(clock, customer, updated("x"))).collect();
    // The key of another row: the whole set fails with it.
    let bad = Arrival { id: good[3].id, ..arrival(clock, CUSTOMERS, updated("x")) };
    let writes = good.iter().chain([&bad]).map(|arrival| store.accept(vec![arrival.clone()]));
    let results = join_all(writes).await;
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert_eq!(failed, 1, "one of the two with the same key");
    assert_eq!(store.claims(2 * CUSTOMERS, LEASE).await.expect("the store is there").len(), CUSTOMERS);
}

/// Two replicas whose groups name the same lanes in opposite orders, arrivals and settlements at once.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_change_the_same_lanes_do_not_stop_each_other() {
    const ROUNDS: usize = 30;
    let fixture = GroupFixture::open(TestDatabase::postgres(), 0).await;
    let stores = [fixture.store.clone(), open(&fixture.database.url, &fixture.clock).await];
    let clock = &fixture.clock;
    let work = async |store: &Store, is_reversed: bool| {
        for _ in 0..ROUNDS {
            let mut claims = store.claims(CUSTOMERS / 2, LEASE).await.expect("the store is there");
            let mut customers: Vec<usize> = (0..CUSTOMERS).collect();
            if is_reversed {
                customers.reverse();
            }
            let mut arrivals = customers.into_iter().map(|customer| vec![arrival(clock, customer, updated("x"))]);
            let early: Vec<_> = arrivals.by_ref().take(CUSTOMERS / 2).collect();
            let early = join_all(early.into_iter().map(|arrivals| store.accept(arrivals)));
            let saves = join_all(claims.iter_mut().map(|claim| store.save(claim, LEASE)));
            let (accepted, saved) = join(early, saves).await;
            assert!(accepted.iter().all(Result::is_ok), "{accepted:?}");
            assert!(saved.iter().all(|saved| *saved.as_ref().expect("the store is there") == Settled::Recorded));
            let accepts = join_all(arrivals.map(|arrivals| store.accept(arrivals)));
            let verdicts = claims.iter().map(|claim| store.settle(claim, verdict(claim, 0, clock), Vec::new()));
            let (accepted, settled) = join(accepts, join_all(verdicts)).await;
            assert!(accepted.iter().all(Result::is_ok), "{accepted:?}");
            assert!(settled.iter().all(|settled| *settled.as_ref().expect("the store is there") == Settled::Recorded));
        }
    };
    join(work(&stores[0], false), work(&stores[1], true)).await;
    assert_eq!(deadlocks(&fixture.database.url, stores).await, 0);
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("the server is there")
}

async fn run_sql(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.expect("it runs");
}

/// The deadlocks that the server has ended in a database. A session tells of its own when it ends, so the stores are closed.
async fn deadlocks(url: &str, stores: impl IntoIterator<Item = Store>) -> i64 {
    for store in stores {
        store.close().await;
    }
    let mut connection = connect(url).await;
    until("their sessions have ended", async || {
        let others =
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let others: i64 = sqlx::query_scalar(others).fetch_one(&mut connection).await.expect("the server is there");
        (others == 0).then_some(())
    })
    .await;
    let counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    sqlx::query_scalar(counted).fetch_one(&mut connection).await.expect("the server is there")
}

/// Two replicas that open the same new lanes in opposite orders: no lane is there to be locked before.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_open_the_same_lanes_do_not_stop_each_other() {
    const ROUNDS: usize = 30;
    let fixture = GroupFixture::open(TestDatabase::postgres(), 0).await;
    let stores = [fixture.store.clone(), open(&fixture.database.url, &fixture.clock).await];
    let clock = &fixture.clock;
    let together = Barrier::new(stores.len());
    let work = async |store: &Store, is_reversed: bool| {
        for round in 0..ROUNDS {
            let mut customers: Vec<usize> = (round * CUSTOMERS..(round + 1) * CUSTOMERS).collect();
            if is_reversed {
                customers.reverse();
            }
            let arrivals: Vec<_> = customers.into_iter().map(|number| arrival(clock, number, updated("x"))).collect();
            together.wait().await;
            let accepted = join_all(arrivals.into_iter().map(|arrival| store.accept(vec![arrival]))).await;
            assert!(accepted.iter().all(Result::is_ok), "{accepted:?}");
        }
    };
    join(work(&stores[0], false), work(&stores[1], true)).await;
    let claims = stores[0].claims(ROUNDS * CUSTOMERS, LEASE).await.expect("the store is there");
    assert_eq!(claims.len(), ROUNDS * CUSTOMERS, "each lane is there");
    assert_eq!(deadlocks(&fixture.database.url, stores).await, 0);
}

/// The ways out of waiting and of parking find their events before their lanes, while another replica ends claims of the same lanes,
/// in another order, and wakes what waits in them.
#[tokio::test(flavor = "multi_thread")]
async fn ways_back_to_a_lane_and_ends_of_its_claims_all_take_effect() {
    const ROUNDS: usize = 10;
    let fixture = GroupFixture::open(TestDatabase::postgres(), 0).await;
    let stores = [fixture.store.clone(), open(&fixture.database.url, &fixture.clock).await];
    let clock = &fixture.clock;
    for _ in 0..ROUNDS {
        // In each lane an event that waits, one that is parked, and one that is claimed.
        let ends = [
            Fate::Waiting { until: clock.now().plus(LEASE) },
            Fate::Parked { reason: Reason::Refused, detail: "said no".to_owned() },
        ];
        let mut parked = Vec::new();
        for fate in &ends {
            let arrivals = (0..CUSTOMERS).map(|customer| arrival(clock, customer, updated("x")));
            stores[0].accept(arrivals.collect()).await.expect("the store is there");
            let claims = stores[0].claims(CUSTOMERS, LEASE).await.expect("the store is there");
            assert_eq!(claims.len(), CUSTOMERS);
            let verdict =
                |claim: &Claim| Verdict { fate: fate.clone(), notices: Vec::new(), ..verdict(claim, 0, clock) };
            let verdict = |claim| Verdict { wakes_waiting: false, ..verdict(claim) };
            let settled = claims.iter().map(|claim| stores[0].settle(claim, verdict(claim), Vec::new()));
            assert!(join_all(settled).await.iter().all(Result::is_ok));
            parked = claims.iter().map(|claim| claim.work.event.id).collect();
        }
        let arrivals = (0..CUSTOMERS).map(|customer| arrival(clock, customer, updated("x")));
        stores[0].accept(arrivals.collect()).await.expect("the store is there");
        let claims = stores[1].claims(CUSTOMERS, LEASE).await.expect("the store is there");
        assert_eq!(claims.len(), CUSTOMERS);
        clock.advance(LEASE);
        let ended =
            join_all(claims.iter().rev().map(|claim| stores[1].settle(claim, verdict(claim, 0, clock), Vec::new())));
        let unparked = join_all(parked.iter().map(|id| stores[0].unpark(*id, RetryRequest::Retry, BY)));
        let (promoted, ended, unparked) = join3(stores[0].promote(), ended, unparked).await;
        promoted.expect("the store is there");
        assert!(ended.iter().all(|ended| *ended.as_ref().expect("the store is there") == Settled::Recorded));
        assert!(unparked.iter().all(|back| back.as_ref().expect("the store is there").is_some()));
        // Each lane has two events to work on, and nothing else.
        for _ in 0..2 {
            let claims = stores[0].claims(2 * CUSTOMERS, LEASE).await.expect("the store is there");
            assert_eq!(claims.len(), CUSTOMERS);
            let verdict = |claim: &Claim| Verdict { notices: Vec::new(), ..verdict(claim, 1, clock) };
            join_all(claims.iter().map(|claim| stores[0].settle(claim, verdict(claim), Vec::new()))).await;
        }
        assert!(stores[0].claims(1, LEASE).await.expect("the store is there").is_empty());
    }
    assert_eq!(deadlocks(&fixture.database.url, stores).await, 0);
}

/// A group that PostgreSQL chooses to give way is tried again as a whole, and if that does not help its writes run one by one: the
/// one whose lane is free does not wait for the other.
#[tokio::test]
async fn a_group_that_deadlocks_time_and_again_is_written_one_by_one() {
    /// The first try, and as many more as the writer makes of a whole group.
    const BLOWS: i64 = 6;
    let database = TestDatabase::postgres();
    let url = &database.url;
    let (mut admin, mut other) = (connect(url).await, connect(url).await);
    // Of two that wait for each other the one gives way that finds out first.
    let name = url.rsplit('/').next().expect("a database");
    run_sql(&mut admin, &format!("ALTER DATABASE {name} SET deadlock_timeout = '1s'")).await;
    run_sql(&mut admin, "SET deadlock_timeout = '1h'").await;
    let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000), 1);
    let store = open(url, &clock).await;
    let arrivals = (0..2).map(|customer| arrival(&clock, customer, updated("x")));
    store.accept(arrivals.collect()).await.expect("the store is there");
    let mut claims = store.claims(2, LEASE).await.expect("the store is there");
    claims.sort_by(|one, other| one.lane.cmp(&other.lane));
    let [mut free, mut held] = <[Claim; 2]>::try_from(claims).expect("two lanes");
    run_sql(&mut admin, "BEGIN; SELECT 1 FROM lanes WHERE lane = 'C-1' FOR UPDATE").await;
    let is_saved = Notify::new();
    let free = async {
        let saved = store.save(&mut free, LEASE).await;
        is_saved.notify_one();
        saved
    };
    let blows = async {
        for _ in 0..BLOWS {
            until("the group waits for the lane that is held", async || {
                let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = $1";
                let waiting: i64 =
                    sqlx::query_scalar(waiting).bind(name).fetch_one(&mut other).await.expect("the server is there");
                (waiting > 0).then_some(())
            })
            .await;
            // Returns when the group has given way.
            run_sql(&mut admin, "SAVEPOINT blow; SELECT 1 FROM lanes WHERE lane = 'C-0' FOR UPDATE").await;
            run_sql(&mut admin, "ROLLBACK TO blow").await;
        }
        is_saved.notified().await;
        run_sql(&mut admin, "COMMIT").await;
    };
    let (free, held, ()) = join3(free, store.save(&mut held, LEASE), blows).await;
    assert_eq!(free.expect("its lane was free"), Settled::Recorded);
    assert_eq!(held.expect("its lane is free now"), Settled::Recorded);
    admin.close().await.expect("closed");
    other.close().await.expect("closed");
    assert_eq!(deadlocks(url, vec![store]).await, BLOWS);
}
