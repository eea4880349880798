//! Groups of writes as sets of rows (docs/adr/0026): they give what the same writes give one by one, and groups of two replicas on
//! the same lanes do not stop each other.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{join, join_all};
use podero_bridge::clock::Clock;
use podero_bridge::domain::event::{Details, Event, Field, Happening};
use podero_bridge::domain::notice::{Notice, Topic, notice_id};
use podero_bridge::domain::verdict::{Fate, Reason, Setback, Verdict};
use podero_bridge::domain::{CustomerId, EventId, Timestamp};
use podero_bridge::store::{Arrival, Claim, Content, Receipt, Settings, Settled, Store, Target};
use sqlx::{Connection, PgConnection, Row};

use crate::kit::{Fixture, TestDatabase, arrival_of, on_both_databases};

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
        customer: claim.work.customer.clone(),
        failures: 1,
        failing_since: None,
        notices: vec![notice],
        seen: Vec::new(),
        follow_up: None,
        wakes_waiting: number.is_multiple_of(2),
        remark: None,
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
    let mut connection = PgConnection::connect(&fixture.database.url).await.expect("the server is there");
    let counted = sqlx::query("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()");
    let deadlocks: i64 = counted.fetch_one(&mut connection).await.expect("the server is there").get(0);
    assert_eq!(deadlocks, 0);
}
