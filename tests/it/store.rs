//! The store's promises, each kept by the real SQL on both databases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use podero_bridge::clock::Clock;
use podero_bridge::domain::alert::outage::{Count, ScopeKind};
use podero_bridge::domain::alert::{
    DiffContext, Looks, Observation, Outage, Outages, PumpChange, PumpRecord, Resolution, Scope, WatchPolicy, diff,
    retire,
};
use podero_bridge::domain::call::Operation;
use podero_bridge::domain::customer::{Listing, ObservedUser};
use podero_bridge::domain::event::{
    BuildingKey, Change, Details, Event, EventKind, EventState, Field, Happening, Move, Record,
};
use podero_bridge::domain::notice::{Notice, Topic, notice_id};
use podero_bridge::domain::verdict::{Fate, Reason, Setback, Verdict};
use podero_bridge::domain::{CustomerId, EventId, Timestamp};
use podero_bridge::store::{
    Arrival, CallMade, Claim, Content, Kept, Member, NoticeState, Observed, OpenError, PublishOutcome, PumpFilter,
    PumpView, ROWS_MAX, Receipt, RetryRequest, Roster, Settings, Settled, Store, Target,
};
use sqlx::{AnyConnection, Connection};
use uuid::Uuid;

use crate::kit::{BY, Fixture, TestDatabase, arrival_of, on_both_databases};

const LEASE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Start of the tests' clock, in seconds since 1970.
const START: i64 = 1_800_000_000;

on_both_databases! {
    an_arrival_is_kept_once_and_a_reused_id_not_at_all
    a_batch_gets_a_receipt_for_each_in_order
    a_parked_arrival_is_a_row_a_notice_and_its_bytes
    heads_are_claimed_in_the_order_in_which_things_happened
    imported_work_is_claimed_when_nothing_else_is_due
    a_later_word_replaces_what_waits_for_its_day
    an_announced_event_that_was_begun_is_finished_whatever_is_said_later
    of_two_words_said_at_once_the_later_arrival_holds
    workers_never_share_a_lane
    a_lapsed_lease_is_claimed_again_in_doubt_and_the_old_result_is_fenced
    a_save_keeps_the_customer_and_extends_the_lease
    a_retry_holds_its_lane_until_it_is_due_and_no_other_lane
    what_was_begun_is_finished_before_something_older_that_came_later
    a_future_event_does_not_hold_its_lane_and_comes_when_it_is_due
    waiting_events_are_released_by_the_sign_up_or_at_their_deadline
    a_parked_event_does_not_hold_its_lane_and_leaves_parking_once
    a_settlement_is_one_transaction
    notices_of_a_line_go_out_one_by_one_and_those_of_other_lines_beside
    a_notice_that_is_written_later_goes_out_later_whatever_the_clocks_say
    the_same_notice_twice_is_one_row
    without_a_target_notices_are_kept
    a_duty_is_taken_by_one
    the_roster_is_replaced_as_a_whole_and_names_orphans
    users_are_dropped_by_lists_in_a_row
    polls_keep_their_rhythm
    a_poll_knows_who_is_moving_or_leaving
    polls_whose_outages_cannot_be_read_are_not_taken
    fleets_are_counted_and_an_outage_is_written_once
    what_somebody_else_saw_first_stands
    a_write_that_fails_does_not_fail_its_neighbours
    five_hundred_arrivals_at_once_are_all_answered
}

/// A database of one test, and a clock that stands still.
struct LaneFixture {
    store: Store,
    clock: Clock,
    url: String,
    database: TestDatabase,
}

impl Fixture for LaneFixture {
    async fn open(database: TestDatabase, _: usize) -> Self {
        let clock = Clock::manual(Timestamp::from_micros(START * 1_000_000), 1);
        let store = open(&database.url, &[Target::Amqp], &clock).await;
        Self { store, clock, url: database.url.clone(), database }
    }
}

impl LaneFixture {
    async fn keep_roster(&self, members: Vec<Member>) -> Kept {
        self.store.keep_roster(roster(self, members)).await.expect("the store is there")
    }

    /// The newest event of a customer.
    async fn last_of(&self, customer: &str) -> EventId {
        let view = self.store.customer(customer).await.expect("the store is there").expect("it is known");
        view.events[0].id
    }

    /// A second process on PostgreSQL; on SQLite, which one process has for itself, the same one.
    async fn replica(&self) -> Store {
        if self.url.starts_with("sqlite") {
            return self.store.clone();
        }
        open(&self.url, &[Target::Amqp], &self.clock).await
    }

    /// An event of a customer `time` seconds after the start, arriving now.
    fn arrival(&self, customer: &str, time: i64, happening: Happening) -> Arrival {
        let id = EventId(self.clock.fresh_id());
        let event = Event {
            id,
            customer: CustomerId::accept(customer).expect("a printable id"),
            time: Timestamp::from_micros((START + time) * 1_000_000),
            effective_at: None,
            happening,
        };
        arrival_of(event, self.clock.now())
    }

    fn unreadable(&self, raw: &[u8]) -> Arrival {
        let arrival = self.arrival("nobody", 0, Happening::Churned);
        let notice = notice("event/1", Topic::EventParked, &arrival.id.to_string());
        let content = Content::Parked {
            reason: Reason::Untranslatable,
            detail: "no such type".to_owned(),
            notice,
            may_be_known: false,
        };
        Arrival { raw: raw.to_vec().into(), envelope: Some("{}".to_owned()), content, ..arrival }
    }

    async fn accept(&self, arrival: Arrival) -> EventId {
        let id = arrival.id;
        let receipts = self.store.accept(vec![arrival]).await.expect("the store is there");
        assert!(matches!(receipts[0], Receipt::Accepted { .. }), "{receipts:?}");
        id
    }

    async fn happened(&self, customer: &str, time: i64) -> EventId {
        self.accept(self.arrival(customer, time, updated())).await
    }

    async fn claim(&self) -> Option<Claim> {
        self.store.claim(LEASE).await.expect("the store is there")
    }

    async fn head(&self) -> Claim {
        self.claim().await.expect("an event is due")
    }

    async fn settle(&self, claim: &Claim, verdict: Verdict) {
        let settled = self.store.settle(claim, verdict, Vec::new()).await.expect("the store is there");
        assert_eq!(settled, Settled::Recorded);
    }

    /// Claims the head, ends it with this fate, and says which it was.
    async fn end_head(&self, fate: Fate) -> EventId {
        let claim = self.head().await;
        self.settle(&claim, ending(&claim, fate)).await;
        claim.work.event.id
    }

    async fn state(&self, id: EventId) -> String {
        let event = self.store.event(id).await.expect("the store is there");
        event.expect("the event is known").event.state.to_string()
    }

    async fn due(&self) -> Vec<Notice> {
        let due = self.store.due_notices(Target::Amqp, 10, LEASE).await.expect("the store is there");
        due.into_iter().map(|due| due.notice).collect()
    }

    async fn mark(&self, notice: &Notice, outcome: PublishOutcome) {
        self.store.mark(Target::Amqp, vec![(notice.id, outcome)]).await.expect("the store is there");
    }

    fn after(&self, pause: Duration) -> Timestamp {
        self.clock.now().plus(pause)
    }
}

async fn open(url: &str, targets: &[Target], clock: &Clock) -> Store {
    let settings = Settings { url: url.to_owned(), targets: targets.to_vec(), works: true };
    let (store, writer) = Store::open(settings, clock.clone()).await.expect("the database is there");
    tokio::spawn(writer.run());
    store
}

fn updated() -> Happening {
    Happening::Updated(Details { personal: [(Field::FirstName, "x".into())].into(), ..Details::default() })
}

fn signed_up() -> Happening {
    Happening::SignedUp(Details::default())
}

fn applied() -> Fate {
    Fate::Applied { stale: Vec::new() }
}

fn parked() -> Fate {
    Fate::Parked { reason: Reason::Refused, detail: "said no".to_owned() }
}

/// A verdict that changes nothing but the event's fate.
fn ending(claim: &Claim, fate: Fate) -> Verdict {
    Verdict {
        fate,
        state: claim.work.customer.clone(),
        failures: 0,
        failing_since: None,
        notices: Vec::new(),
        seen: Vec::new(),
        follow_ups: Vec::new(),
        ends_scheduled: false,
        overtakes: false,
        wakes_waiting: false,
        remark: None,
        acts: Vec::new(),
    }
}

fn notice(line: &str, topic: Topic, cause: &str) -> Notice {
    Notice {
        id: notice_id(cause, topic),
        topic,
        order_key: line.to_owned(),
        subject: "C-1".to_owned(),
        time: Timestamp::from_micros(START * 1_000_000),
        data: serde_json::json!({ "customer_id": "C-1" }),
    }
}

async fn an_arrival_is_kept_once_and_a_reused_id_not_at_all(fixture: LaneFixture) {
    let first = fixture.arrival("C-1", 0, updated());
    let id = fixture.accept(first.clone()).await;
    let again = Arrival { id: EventId(fixture.clock.fresh_id()), ..first.clone() };
    let other = Arrival { digest: "d2".to_owned(), ..again.clone() };
    let receipt = async |arrival: &Arrival| {
        fixture.store.accept(vec![arrival.clone()]).await.expect("the store is there").remove(0)
    };
    let duplicate = |state| Receipt::Duplicate { id, state };
    assert_eq!(receipt(&again).await, duplicate(EventState::Pending));
    assert_eq!(receipt(&other).await, Receipt::Reused { id });
    assert_eq!(fixture.store.gauges(Timestamp::from_micros(0)).await.expect("the store is there").pending, 1);
    assert_eq!(fixture.end_head(applied()).await, id);
    assert_eq!(receipt(&again).await, duplicate(EventState::Applied));
    assert!(fixture.claim().await.is_none(), "a duplicate is no work");
}

async fn a_batch_gets_a_receipt_for_each_in_order(fixture: LaneFixture) {
    let first = fixture.arrival("C-1", 0, updated());
    let twin = Arrival { id: EventId(fixture.clock.fresh_id()), ..first.clone() };
    let reused = Arrival { digest: "d2".to_owned(), ..twin.clone() };
    let unreadable = fixture.unreadable(b"?");
    let mut future = fixture.arrival("C-2", 0, Happening::Churned);
    if let Content::Event(event) = &mut future.content {
        event.effective_at = Some(fixture.after(DAY));
    }
    let accepted = |arrival: &Arrival, state| Receipt::Accepted { id: arrival.id, state };
    let expected = [
        accepted(&first, EventState::Pending),
        Receipt::Duplicate { id: first.id, state: EventState::Pending },
        Receipt::Reused { id: first.id },
        accepted(&unreadable, EventState::Parked),
        accepted(&future, EventState::Scheduled),
    ];
    let receipts = fixture.store.accept(vec![first, twin, reused, unreadable, future]).await;
    assert_eq!(receipts.expect("the store is there"), expected);
}

async fn a_parked_arrival_is_a_row_a_notice_and_its_bytes(fixture: LaneFixture) {
    for (raw, text, encoding) in
        [(&b"{\"a\":1}"[..], "{\"a\":1}", "utf8"), (b"a\0b", "YQBi", "base64"), (b"\xff", "/w==", "base64")]
    {
        let id = fixture.accept(fixture.unreadable(raw)).await;
        let view = fixture.store.event(id).await.expect("the store is there").expect("it is known");
        let original = view.original.expect("its bytes");
        assert_eq!((original.raw.as_str(), original.raw_encoding.as_str()), (text, encoding));
        assert_eq!((view.event.state, view.event.reason.as_deref()), (EventState::Parked, Some("untranslatable")));
        assert_eq!(view.event.customer_id, None);
        let due = fixture.due().await;
        assert_eq!((due.len(), due[0].topic), (1, Topic::EventParked));
        fixture.mark(&due[0], PublishOutcome::Published).await;
    }
    assert_eq!(fixture.store.parked(Some("untranslatable")).await.expect("the store is there").len(), 3);
    assert_eq!(fixture.store.parked(Some("refused")).await.expect("the store is there").len(), 0);
    // Retried, it waits to be read again, with the bytes that came.
    for parked in fixture.store.parked(None).await.expect("the store is there") {
        let id = parked.id;
        let unparked = fixture.store.unpark(id, RetryRequest::Retry, BY).await.expect("the store is there");
        assert_eq!(unparked, Some(parked.kind));
    }
    let unread = fixture.store.unread(9).await.expect("the store is there");
    let mut bodies: Vec<&[u8]> = unread.iter().map(|message| message.body.as_slice()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, [&b"a\0b"[..], b"{\"a\":1}", b"\xff"]);
    assert!(fixture.claim().await.is_none());
}

async fn heads_are_claimed_in_the_order_in_which_things_happened(fixture: LaneFixture) {
    let mut arrived = Vec::new();
    for time in [30, 10, 20, 10] {
        arrived.push(fixture.happened("C-1", time).await);
    }
    for expected in [1, 3, 2, 0] {
        assert_eq!(fixture.end_head(applied()).await, arrived[expected]);
    }
    assert!(fixture.claim().await.is_none());
}

async fn a_later_word_replaces_what_waits_for_its_day(fixture: LaneFixture) {
    let key = |key: &str| BuildingKey::accept(key).expect("a key");
    let moved = |home: &str| {
        let address = [(Field::Town, "Wien".into())].into();
        Happening::Moved(Move { building_key: key(home), address, building: Record::new() })
    };
    let announced = |said: i64, happening: Happening| {
        let mut arrival = fixture.arrival("C-1", said, happening);
        if let Content::Event(event) = &mut arrival.content {
            event.effective_at = Some(fixture.after(DAY));
        }
        arrival
    };
    let called_off = |home: &str| Happening::CalledOff(Change::Home { key: key(home) });
    let state = async |id: EventId| {
        let event = fixture.store.event(id).await.expect("the store is there").expect("it is known").event;
        (event.state.to_string(), event.detail.unwrap_or_default())
    };
    let scheduled = || ("scheduled".to_owned(), String::new());
    let replaced = |by: EventId| ("superseded".to_owned(), format!("replaced by event {by}"));

    let first = fixture.accept(announced(10, moved("main"))).await;
    let cabin = fixture.accept(announced(10, moved("cabin"))).await;
    let leaving = fixture.accept(announced(10, Happening::Churned)).await;
    // Another day.
    let second = fixture.accept(announced(20, moved("main"))).await;
    assert_eq!(state(first).await, replaced(second));
    // An older announcement that comes late is replaced already; the same one again ends no other.
    let late = fixture.accept(announced(15, moved("main"))).await;
    assert_eq!(state(late).await, replaced(second));
    // A correction cancels nothing, and neither does another home.
    fixture.accept(fixture.arrival("C-1", 30, updated())).await;
    for id in [second, cabin, leaving] {
        assert_eq!(state(id).await, scheduled());
    }
    let off = fixture.accept(fixture.arrival("C-1", 30, called_off("cabin"))).await;
    assert_eq!((state(cabin).await, state(off).await.0), (replaced(off), "applied".to_owned()));
    let vain = fixture.accept(fixture.arrival("C-1", 31, called_off("cabin"))).await;
    assert_eq!(state(vain).await.0, "superseded");
    // A cancellation from before is none, whenever it comes.
    fixture.accept(fixture.arrival("C-1", 5, called_off("main"))).await;
    assert_eq!(state(second).await, scheduled());
    // One whose day has come and that was not begun is called off as well; one that is begun is finished.
    fixture.clock.advance(2 * DAY);
    fixture.store.promote().await.expect("the store is there");
    let off = fixture.accept(fixture.arrival("C-1", 35, called_off("main"))).await;
    assert_eq!((state(second).await, state(off).await.0), (replaced(off), "applied".to_owned()));
    // Back for good.
    let back = fixture.accept(fixture.arrival("C-1", 40, signed_up())).await;
    assert_eq!(state(leaving).await, replaced(back));
    let counted = fixture.store.take_replaced().into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>();
    assert_eq!(counted, [(EventKind::Moved, 3), (EventKind::Churned, 1)]);
    assert_eq!(fixture.store.gauges(Timestamp::from_micros(0)).await.expect("the store is there").scheduled, 0);
}

fn move_to(town: &str) -> Happening {
    let building_key = BuildingKey::accept("main").expect("a key");
    let address = [(Field::Town, town.into())].into();
    Happening::Moved(Move { building_key, address, building: Record::new() })
}

/// Parked in the middle it has left something behind, which only its retry puts right.
async fn an_announced_event_that_was_begun_is_finished_whatever_is_said_later(fixture: LaneFixture) {
    let mut arrival = fixture.arrival("C-1", -100, move_to("Wien"));
    if let Content::Event(event) = &mut arrival.content {
        event.effective_at = Some(event.time.plus(Duration::from_secs(1)));
    }
    let announced = fixture.accept(arrival).await;
    let claim = fixture.head().await;
    let call = CallMade {
        id: fixture.clock.fresh_id(),
        at: fixture.clock.now(),
        operation: Operation::UpdateUser,
        outcome: "done".to_owned(),
        took: Duration::from_millis(12),
        idempotency_key: None,
    };
    fixture.store.settle(&claim, ending(&claim, parked()), vec![call]).await.expect("the store is there");
    fixture.accept(fixture.arrival("C-1", -50, move_to("Graz"))).await;
    fixture.end_head(applied()).await;
    fixture.store.unpark(announced, RetryRequest::Retry, BY).await.expect("the store is there");
    fixture.accept(fixture.arrival("C-1", -40, move_to("Linz"))).await;
    assert_eq!(fixture.state(announced).await, "pending");
    assert_eq!(fixture.head().await.work.event.id, announced);
}

/// Whichever of them came into our hands first is the older, also when it is kept last.
async fn of_two_words_said_at_once_the_later_arrival_holds(fixture: LaneFixture) {
    let announce = |town: &str| {
        let mut arrival = fixture.arrival("C-1", 10, move_to(town));
        if let Content::Event(event) = &mut arrival.content {
            event.effective_at = Some(fixture.after(DAY));
        }
        arrival
    };
    let (first, second) = (announce("Wien"), announce("Graz"));
    assert!(first.id < second.id);
    let second = fixture.accept(second).await;
    let first = fixture.accept(first).await;
    assert_eq!((fixture.state(first).await, fixture.state(second).await), ("superseded".into(), "scheduled".into()));
}

async fn imported_work_is_claimed_when_nothing_else_is_due(fixture: LaneFixture) {
    let import = async |customer: &str, time: i64| {
        let arrival = fixture.arrival(customer, time, updated());
        let id = arrival.id;
        fixture.store.accept_in_bulk(vec![arrival]).await.expect("the store is there");
        id
    };
    let imported = import("imported", 0).await;
    let first = import("both", 1).await;
    // Its lane had something due before.
    let live = fixture.happened("live", 2).await;
    let behind = import("live", 3).await;
    fixture.clock.advance(Duration::from_secs(1));
    let second = fixture.happened("both", 4).await;
    // A live event takes with it what is before it in its lane.
    let mut ends = Vec::new();
    for _ in 0..4 {
        ends.push(fixture.end_head(Fate::Superseded).await);
    }
    assert_eq!(ends.iter().collect::<BTreeSet<_>>(), [&first, &live, &behind, &second].into());
    let place = |id: EventId| ends.iter().position(|end| *end == id);
    assert!(place(first) < place(second) && place(live) < place(behind), "a lane's own order stands");
    // A lane that is empty and idle yields again.
    let again = import("both", 5).await;
    fixture.clock.advance(Duration::from_secs(1));
    let later = fixture.happened("later", 6).await;
    assert_eq!(fixture.end_head(Fate::Superseded).await, later);
    assert_eq!(fixture.end_head(Fate::Superseded).await, imported);
    assert_eq!(fixture.end_head(Fate::Superseded).await, again);
    assert!(fixture.claim().await.is_none());
}

async fn workers_never_share_a_lane(fixture: LaneFixture) {
    const CUSTOMERS: i64 = 12;
    const EVENTS: i64 = 3;
    for time in 0..EVENTS {
        for customer in 0..CUSTOMERS {
            fixture.happened(&format!("C-{customer}"), time).await;
        }
    }
    let busy = Arc::new(Mutex::new(BTreeSet::new()));
    let done = Arc::new(Mutex::new(BTreeMap::<String, Vec<Timestamp>>::new()));
    let stores = [fixture.store.clone(), fixture.replica().await];
    let work = async |store: &Store| {
        while let Some(claim) = store.claim(LEASE).await.expect("the store is there") {
            let lane = claim.lane.clone();
            assert!(busy.lock().expect("no panic").insert(lane.clone()), "{lane} is worked on twice");
            tokio::task::yield_now().await;
            done.lock().expect("no panic").entry(lane.clone()).or_default().push(claim.work.event.time);
            busy.lock().expect("no panic").remove(&lane);
            let settled = store.settle(&claim, ending(&claim, applied()), Vec::new()).await;
            assert_eq!(settled.expect("the store is there"), Settled::Recorded);
        }
    };
    let total = |done: &Mutex<BTreeMap<String, Vec<Timestamp>>>| {
        done.lock().expect("no panic").values().map(Vec::len).sum::<usize>()
    };
    // A worker that finds everything claimed for the moment gives up; another round finds the rest.
    while total(&done) < usize::try_from(CUSTOMERS * EVENTS).expect("small") {
        let before = total(&done);
        join_all(stores.iter().cycle().take(8).map(&work)).await;
        assert!(total(&done) > before, "events are left, and nobody finds them");
    }
    for (lane, times) in done.lock().expect("no panic").iter() {
        assert!(times.is_sorted(), "{lane}: {times:?}");
        assert_eq!(times.len(), usize::try_from(EVENTS).expect("small"), "{lane}");
    }
}

/// Claims, learns that the user is there and all buildings are known, and writes that down.
async fn claim_and_save(fixture: &LaneFixture) -> Claim {
    let mut claim = fixture.head().await;
    claim.work.customer.podero.user = ObservedUser::Present { id: Uuid::from_u128(1), observed: BTreeMap::new() };
    claim.work.customer.podero.listing = Listing::Complete;
    let saved = fixture.store.save(&mut claim, LEASE).await.expect("the store is there");
    assert_eq!(saved, Settled::Recorded);
    claim
}

async fn a_lapsed_lease_is_claimed_again_in_doubt_and_the_old_result_is_fenced(fixture: LaneFixture) {
    let id = fixture.happened("C-1", 0).await;
    let mut old = claim_and_save(&fixture).await;
    assert!(fixture.claim().await.is_none(), "the lane is taken");
    fixture.clock.advance(LEASE);
    let new = fixture.head().await;
    assert_eq!((new.work.event.id, new.fence), (id, old.fence + 1));
    let podero = &new.work.customer.podero;
    assert_eq!((&podero.user, podero.listing), (&ObservedUser::Unknown, Listing::Doubtful));
    let mut late = ending(&old, applied());
    late.notices.push(notice("customer/C-1", Topic::CustomerProvisioned, "late"));
    let settled = fixture.store.settle(&old, late, Vec::new()).await.expect("the store is there");
    assert_eq!(settled, Settled::Fenced);
    assert_eq!(fixture.store.save(&mut old, LEASE).await.expect("the store is there"), Settled::Fenced);
    assert_eq!((fixture.state(id).await.as_str(), fixture.due().await.len()), ("pending", 0));
    fixture.settle(&new, ending(&new, applied())).await;
    assert_eq!(fixture.state(id).await, "applied");
    // The next claim of the lane follows a result: nothing is in doubt any more.
    fixture.happened("C-1", 1).await;
    let mut next = claim_and_save(&fixture).await;
    fixture.settle(&next, ending(&next, applied())).await;
    fixture.happened("C-1", 2).await;
    next = fixture.head().await;
    assert!(next.work.customer.user_id().is_some());
}

async fn a_save_keeps_the_customer_and_extends_the_lease(fixture: LaneFixture) {
    fixture.happened("C-1", 0).await;
    let mut claim = claim_and_save(&fixture).await;
    fixture.clock.advance(LEASE - Duration::from_secs(1));
    assert_eq!(fixture.store.save(&mut claim, LEASE).await.expect("the store is there"), Settled::Recorded);
    assert_eq!(claim.lease_until, fixture.after(LEASE));
    fixture.clock.advance(Duration::from_secs(2));
    assert!(fixture.claim().await.is_none(), "the first lease would have lapsed");
    let view = fixture.store.customer("C-1").await.expect("the store is there").expect("it is known");
    assert_eq!(view.card.state.expect("its facts")["podero"]["user"]["is"], "present");
}

async fn a_retry_holds_its_lane_until_it_is_due_and_no_other_lane(fixture: LaneFixture) {
    let failing = fixture.happened("C-1", 0).await;
    let claim = fixture.head().await;
    let at = fixture.after(DAY);
    let mut verdict = ending(&claim, Fate::Retry { at, setback: Setback::Unsent });
    (verdict.failures, verdict.failing_since) = (3, Some(fixture.clock.now()));
    fixture.settle(&claim, verdict).await;
    // A newer event of the same customer must wait; another customer's must not, although it came second.
    fixture.happened("C-1", 10).await;
    fixture.clock.advance(Duration::from_secs(1));
    let other = fixture.happened("C-2", 10).await;
    assert_eq!(fixture.end_head(applied()).await, other);
    assert!(fixture.claim().await.is_none());
    fixture.clock.advance(DAY);
    let again = fixture.head().await;
    assert_eq!((again.work.event.id, again.work.failures), (failing, 3));
    assert!(again.work.failing_since.is_some());
    let podero = &again.work.customer.podero;
    assert_eq!(podero.listing, Listing::Unread, "a retry is no interruption");
}

/// It may have made something at Podero that only it knows to look for.
async fn what_was_begun_is_finished_before_something_older_that_came_later(fixture: LaneFixture) {
    let begun = fixture.happened("C-1", 10).await;
    let claim = fixture.head().await;
    let retry = Fate::Retry { at: fixture.after(DAY), setback: Setback::Unknown };
    fixture.settle(&claim, ending(&claim, retry)).await;
    let older = fixture.happened("C-1", 0).await;
    fixture.clock.advance(Duration::from_secs(1));
    assert!(fixture.claim().await.is_none(), "the older one waits for what was begun");
    fixture.clock.advance(DAY);
    // A crash in the middle changes nothing about it.
    assert_eq!(fixture.head().await.work.event.id, begun);
    fixture.clock.advance(LEASE + Duration::from_secs(1));
    assert_eq!(fixture.end_head(applied()).await, begun);
    assert_eq!(fixture.end_head(applied()).await, older);
    assert!(fixture.claim().await.is_none());
}

async fn a_future_event_does_not_hold_its_lane_and_comes_when_it_is_due(fixture: LaneFixture) {
    let mut future = fixture.arrival("C-1", 0, Happening::Churned);
    if let Content::Event(event) = &mut future.content {
        event.effective_at = Some(fixture.after(DAY));
    }
    let future = fixture.accept(future).await;
    let present = fixture.happened("C-1", 10).await;
    assert_eq!(fixture.end_head(applied()).await, present);
    assert_eq!(fixture.store.promote().await.expect("the store is there"), 0);
    assert!(fixture.claim().await.is_none());
    let gauges = fixture.store.gauges(Timestamp::from_micros(0)).await.expect("the store is there");
    assert_eq!((gauges.scheduled, gauges.pending), (1, 0));
    fixture.clock.advance(DAY);
    assert_eq!(fixture.store.promote().await.expect("the store is there"), 1);
    assert_eq!(fixture.end_head(applied()).await, future);
}

async fn waiting_events_are_released_by_the_sign_up_or_at_their_deadline(fixture: LaneFixture) {
    let early = fixture.happened("C-1", 20).await;
    let lonely = fixture.happened("C-2", 20).await;
    for id in [early, lonely] {
        assert_eq!(fixture.end_head(Fate::Waiting { until: fixture.after(DAY) }).await, id);
        assert_eq!(fixture.state(id).await, "waiting");
    }
    assert!(fixture.claim().await.is_none());
    let sign_up = fixture.accept(fixture.arrival("C-1", 10, signed_up())).await;
    let claim = fixture.head().await;
    assert_eq!(claim.work.event.id, sign_up);
    fixture.settle(&claim, Verdict { wakes_waiting: true, ..ending(&claim, applied()) }).await;
    assert_eq!(fixture.end_head(applied()).await, early);
    assert_eq!(fixture.store.promote().await.expect("the store is there"), 0);
    assert_eq!(fixture.state(lonely).await, "waiting", "another customer's sign-up releases nothing");
    fixture.clock.advance(DAY);
    assert_eq!(fixture.store.promote().await.expect("the store is there"), 1);
    let claim = fixture.head().await;
    assert_eq!(claim.work.event.id, lonely);
    assert_eq!(claim.work.tries_from, fixture.clock.now().minus(DAY), "waiting counts from the arrival");
}

async fn a_parked_event_does_not_hold_its_lane_and_leaves_parking_once(fixture: LaneFixture) {
    let trouble = fixture.happened("C-1", 0).await;
    let next = fixture.happened("C-1", 10).await;
    let unpark = async |id, request| fixture.store.unpark(id, request, BY).await.expect("the store is there").is_some();
    assert!(!unpark(trouble, RetryRequest::Retry).await, "it is not parked yet");
    assert_eq!(fixture.end_head(parked()).await, trouble);
    assert_eq!(fixture.end_head(parked()).await, next);
    let listed = fixture.store.parked(None).await.expect("the store is there");
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0].detail.as_deref(), Some("said no"));
    fixture.clock.advance(DAY);
    let answers = join_all((0..4).map(|_| unpark(trouble, RetryRequest::Retry))).await;
    assert_eq!(answers.iter().filter(|answer| **answer).count(), 1);
    assert!(unpark(next, RetryRequest::Skip).await && !unpark(next, RetryRequest::Skip).await);
    assert!(!unpark(next, RetryRequest::Retry).await, "what was given up stays so");
    let claim = fixture.head().await;
    assert_eq!((claim.work.event.id, claim.work.failures), (trouble, 0));
    assert_eq!(claim.work.tries_from, fixture.clock.now(), "a retry by hand counts from now");
    fixture.settle(&claim, ending(&claim, applied())).await;
    assert!(fixture.claim().await.is_none());
    assert_eq!(fixture.state(next).await, "skipped");
}

fn watch() -> WatchPolicy {
    WatchPolicy { disconnect_after: Duration::ZERO, disconnect_polls: 1, ..WatchPolicy::DEFAULT }
}

/// The observation of a pump of user 1, customer C-1, that has lost its connection.
fn lost(fixture: &LaneFixture, pump: u128, before: Option<&PumpRecord>) -> PumpChange {
    let observation = Observation {
        heat_pump: Uuid::from_u128(pump),
        is_authenticated: Some(false),
        updated_at: Some(fixture.clock.now()),
        ..Observation::default()
    };
    diff(
        before,
        &observation,
        &DiffContext::plain(Uuid::from_u128(1), Some("C-1"), &Outages::default()),
        fixture.clock.now(),
        &watch(),
    )
}

async fn observe(fixture: &LaneFixture, changes: Vec<PumpChange>) {
    let observed = Observed { user: Uuid::from_u128(1), changes, due_at: fixture.clock.now() };
    fixture.store.observe(observed).await.expect("the store is there");
}

async fn a_settlement_is_one_transaction(fixture: LaneFixture) {
    fixture.keep_roster(vec![member(&fixture, 1, Duration::ZERO)]).await;
    observe(&fixture, vec![lost(&fixture, 7, None)]).await;
    let triggered = fixture.due().await;
    fixture.mark(&triggered[0], PublishOutcome::Published).await;
    let id = fixture.accept(fixture.arrival("C-1", 0, Happening::Churned)).await;
    let claim = fixture.head().await;
    assert_eq!(claim.work.seen.len(), 1, "the customer's pumps come with the claim");
    let call = CallMade {
        id: fixture.clock.fresh_id(),
        at: fixture.clock.now(),
        operation: Operation::DeleteUser,
        outcome: "done".to_owned(),
        took: Duration::from_millis(12),
        idempotency_key: Some(Uuid::from_u128(5)),
    };
    let purge = Event {
        id: EventId(Uuid::from_u128(99)),
        effective_at: Some(fixture.after(DAY)),
        happening: Happening::PurgeDue { user: Uuid::from_u128(1) },
        ..claim.work.event.clone()
    };
    let mut verdict = ending(&claim, Fate::Applied { stale: vec!["home/main".to_owned()] });
    verdict.state.podero.departed = Some(Uuid::from_u128(1));
    verdict.notices.push(notice("customer/C-1", Topic::CustomerOffboarded, "e1"));
    verdict.seen.push(retire(&claim.work.seen[0], Resolution::Churned, fixture.clock.now()));
    verdict.follow_ups = vec![purge.clone()];
    // A follow-up under the id of another event breaks a key late in the settlement: nothing of it may stay.
    let mut broken = verdict.clone();
    broken.follow_ups = vec![Event { id: claim.work.event.id, ..purge.clone() }];
    assert!(fixture.store.settle(&claim, broken, vec![call.clone()]).await.is_err());
    let view = fixture.store.event(id).await.expect("the store is there").expect("it is known");
    assert_eq!((view.event.state, view.calls.len(), fixture.due().await.len()), (EventState::Pending, 0, 0));
    assert_eq!(open_alerts(&fixture).await.len(), 1);

    let settled = fixture.store.settle(&claim, verdict.clone(), vec![call.clone()]).await.expect("the store is there");
    assert_eq!(settled, Settled::Recorded);
    // A caller that missed the answer asks again, and changes nothing.
    verdict.fate = Fate::Superseded;
    let again = fixture.store.settle(&claim, verdict, vec![call]).await.expect("the store is there");
    assert_eq!(again, Settled::Fenced);
    let view = fixture.store.event(id).await.expect("the store is there").expect("it is known");
    assert_eq!(view.event.state, EventState::Applied);
    assert_eq!(view.event.detail.as_deref(), Some("superseded in part: home/main"));
    assert_eq!((view.calls[0].operation.as_str(), view.calls[0].took_ms), ("delete_user", 12));
    let customer = fixture.store.customer("C-1").await.expect("the store is there").expect("it is known");
    assert_eq!(customer.card.state.as_ref().expect("its facts")["podero"]["departed"], Uuid::from_u128(1).to_string());
    assert!(customer.card.heat_pumps[0].is_retired);
    assert!(open_alerts(&fixture).await.is_empty());
    let topics: Vec<Topic> = fixture.due().await.iter().map(|notice| notice.topic).collect();
    assert_eq!(topics, [Topic::CustomerOffboarded, Topic::HeatPumpReconnected]);
    assert!(fixture.claim().await.is_none());
    fixture.clock.advance(DAY);
    assert_eq!(fixture.store.promote().await.expect("the store is there"), 1);
    assert_eq!(fixture.head().await.work.event, purge);
}

/// Settles an event whose only effect is these notices.
async fn tell(fixture: &LaneFixture, notices: Vec<Notice>) {
    fixture.happened("C-1", 0).await;
    let claim = fixture.head().await;
    fixture.settle(&claim, Verdict { notices, ..ending(&claim, applied()) }).await;
}

async fn notices_of_a_line_go_out_one_by_one_and_those_of_other_lines_beside(fixture: LaneFixture) {
    let [first, second] = ["a1", "a2"].map(|cause| notice("a", Topic::CustomerProvisioned, cause));
    let other = notice("b", Topic::CustomerProvisioned, "b1");
    tell(&fixture, vec![first.clone(), second.clone(), other.clone()]).await;
    assert_eq!(fixture.due().await, [first.clone(), other.clone()]);
    assert_eq!(fixture.due().await, [], "they are somebody's for the time of the lease");
    fixture.mark(&other, PublishOutcome::Published).await;
    fixture.clock.advance(LEASE);
    assert_eq!(fixture.due().await, std::slice::from_ref(&first), "the lease lapsed: again, under the same id");
    fixture.mark(&first, PublishOutcome::Failed { at: fixture.after(DAY), why: "returned" }).await;
    assert_eq!(fixture.due().await, [], "a notice in back-off holds its line");
    fixture.clock.advance(DAY);
    let due = fixture.store.due_notices(Target::Amqp, 10, LEASE).await.expect("the store is there");
    assert_eq!((due.len(), due[0].failures, due[0].notice.id), (1, 1, first.id));
    fixture.mark(&first, PublishOutcome::Published).await;
    assert_eq!(fixture.due().await, std::slice::from_ref(&second));
    fixture.mark(&second, PublishOutcome::Published).await;
    // A failure that is reported after the confirmation changes nothing any more.
    fixture.mark(&second, PublishOutcome::Failed { at: fixture.clock.now(), why: "late" }).await;
    assert_eq!(fixture.due().await, []);
    assert_eq!(fixture.store.gauges(Timestamp::from_micros(0)).await.expect("the store is there").outbox_pending, 0);
}

async fn a_notice_that_is_written_later_goes_out_later_whatever_the_clocks_say(fixture: LaneFixture) {
    let [first, second] = ["a1", "a2"].map(|cause| notice("a", Topic::CustomerProvisioned, cause));
    tell(&fixture, vec![first.clone()]).await;
    // As if another replica, whose clock is behind, wrote it.
    fixture.clock.set_back(Duration::from_secs(60));
    tell(&fixture, vec![second.clone()]).await;
    fixture.clock.advance(Duration::from_secs(60));
    assert_eq!(fixture.due().await, std::slice::from_ref(&first));
    fixture.mark(&first, PublishOutcome::Published).await;
    assert_eq!(fixture.due().await, std::slice::from_ref(&second));
}

async fn the_same_notice_twice_is_one_row(fixture: LaneFixture) {
    let news = notice("a", Topic::CustomerProvisioned, "a1");
    tell(&fixture, vec![news.clone(), news.clone()]).await;
    assert_eq!(fixture.due().await, std::slice::from_ref(&news));
    fixture.mark(&news, PublishOutcome::Published).await;
    tell(&fixture, vec![news]).await;
    assert_eq!(fixture.due().await, [], "news that is out is not told again");
}

async fn without_a_target_notices_are_kept(fixture: LaneFixture) {
    let LaneFixture { store, clock, url, database } = fixture;
    drop(store);
    let store = open(&url, &[], &clock).await;
    let fixture = LaneFixture { store, clock, url, database };
    tell(&fixture, vec![notice("a", Topic::CustomerProvisioned, "a1")]).await;
    assert_eq!(fixture.due().await, []);
    let customer = fixture.store.customer("C-1").await.expect("the store is there").expect("it is known");
    assert_eq!(customer.notices.iter().map(|notice| notice.state).collect::<Vec<_>>(), [NoticeState::Kept]);
    assert_eq!(fixture.store.gauges(Timestamp::from_micros(0)).await.expect("the store is there").outbox_pending, 0);
}

async fn a_duty_is_taken_by_one(fixture: LaneFixture) {
    let stores = [fixture.store.clone(), fixture.replica().await];
    let take = async || {
        let takers = stores.iter().cycle().take(6).map(|store| store.take_duty("roster", DAY));
        let taken = join_all(takers).await;
        taken.into_iter().filter(|taken| taken.as_ref().expect("the store is there").is_some()).count()
    };
    assert_eq!((take().await, take().await), (1, 0));
    fixture.clock.advance(DAY);
    assert_eq!((take().await, take().await), (1, 0));
    fixture.store.put_duty_off("roster", fixture.after(LEASE)).await.expect("the store is there");
    fixture.clock.advance(LEASE);
    assert_eq!(take().await, 1, "it was put off to an earlier time");
}

fn member(fixture: &LaneFixture, user: u128, first_due: Duration) -> Member {
    Member {
        user: Uuid::from_u128(user),
        customer: Some(format!("C-{user}")),
        region: None,
        first_due: fixture.after(first_due),
    }
}

/// A complete list of users, with the bounds of a watch by default.
fn roster(fixture: &LaneFixture, members: Vec<Member>) -> Roster {
    Roster { members, asked_at: fixture.clock.now(), lists_to_remove: 3, break_after: Duration::from_mins(20) }
}

fn all_pumps() -> PumpFilter {
    PumpFilter { limit: ROWS_MAX, ..PumpFilter::default() }
}

async fn open_alerts(fixture: &LaneFixture) -> Vec<PumpView> {
    let filter = PumpFilter { has_alert: true, ..all_pumps() };
    fixture.store.heat_pumps(filter).await.expect("the store is there")
}

/// Lease of a poll: after it a poll that was begun and not written down is another replica's.
const POLL_LEASE: Duration = Duration::from_secs(90);

async fn users_due(fixture: &LaneFixture, limit: usize) -> Vec<u128> {
    let due = fixture.store.due_polls(limit, POLL_LEASE).await.expect("the store is there").users;
    let mut users: Vec<u128> = due.iter().map(|due| due.user.as_u128()).collect();
    users.sort_unstable();
    users
}

async fn the_roster_is_replaced_as_a_whole_and_names_orphans(fixture: LaneFixture) {
    let many = || (1..=600).map(|user| member(&fixture, user, Duration::ZERO)).collect::<Vec<_>>();
    let list = async |named: &[u128]| {
        fixture.clock.advance(Duration::from_secs(600));
        let members = many().into_iter().filter(|member| named.contains(&member.user.as_u128())).collect();
        let kept = fixture.keep_roster(members).await;
        let orphans = kept.orphans.iter().map(|seen| seen.heat_pump.as_u128()).collect::<Vec<_>>();
        (orphans, kept.doubted.map(|shrunk| (shrunk.missing, shrunk.watched)))
    };
    let all: Vec<u128> = (1..=600).collect();
    assert_eq!(list(&all).await, (vec![], None));
    observe(&fixture, vec![lost(&fixture, 7, None)]).await;
    // Many at once are doubted, and a second list with the same gap is believed. They are polled until enough in a row miss them.
    assert_eq!(list(&[2]).await, (vec![], Some((599, 600))));
    assert_eq!(list(&[2]).await, (vec![], None));
    assert_eq!(users_due(&fixture, 1_000).await, [1, 2], "who has no heat pump is dropped");
    assert_eq!(list(&[2]).await, (vec![], None));
    for _ in 0..2 {
        assert_eq!(list(&[2]).await, (vec![7], None), "an orphan is named until it is retired");
    }
    let orphans = fixture.store.remembered(&[Uuid::from_u128(7)]).await.expect("the store is there");
    observe(&fixture, vec![retire(&orphans[0], Resolution::Removed, fixture.clock.now())]).await;
    assert_eq!(list(&[]).await, (vec![], None));
}

async fn users_are_dropped_by_lists_in_a_row(fixture: LaneFixture) {
    let all: Vec<u128> = (1..=80).collect();
    let half: Vec<u128> = (41..=80).collect();
    let quarter = |number: u128| (1..=80).filter(|user| user % 4 == number).collect::<Vec<u128>>();
    let but_one: Vec<u128> = (2..=80).collect();
    let none: Vec<u128> = Vec::new();
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let list = async |named: &[u128], after: Duration| {
        fixture.clock.advance(after);
        let members = named.iter().map(|user| member(&fixture, *user, Duration::ZERO)).collect();
        let kept = fixture.keep_roster(members).await;
        let mut orphans: Vec<u128> = kept.orphans.iter().map(|seen| seen.heat_pump.as_u128() - 100).collect();
        orphans.sort_unstable();
        (orphans, kept.doubted.is_some())
    };
    let ten = minutes(10);
    assert_eq!(list(&all, ten).await, (vec![], false));
    for user in all.iter().map(|user| Uuid::from_u128(*user)) {
        let heat_pump = Uuid::from_u128(user.as_u128() + 100);
        let shown = Observation { heat_pump, is_authenticated: Some(true), ..Observation::default() };
        let outages = Outages::default();
        let around = DiffContext::plain(user, None, &outages);
        let change = diff(None, &shown, &around, fixture.clock.now(), &watch());
        let observed = Observed { user, changes: vec![change], due_at: fixture.clock.now() };
        fixture.store.observe(observed).await.expect("the store is there");
    }
    // Short lists with complete ones between them drop no user.
    for _ in 0..5 {
        assert_eq!(list(&half, ten).await, (vec![], true));
        assert_eq!(list(&all, ten).await, (vec![], false));
        assert_eq!(list(&but_one, ten).await, (vec![], false));
        assert_eq!(list(&but_one, ten).await, (vec![], false));
        assert_eq!(list(&all, ten).await, (vec![], false));
    }
    // Nor do lists that each name another quarter, nor empty ones that do not come in a row.
    for round in 0..8 {
        assert_eq!(list(&quarter(round % 4), ten).await, (vec![], true));
    }
    assert_eq!(list(&all, ten).await, (vec![], false));
    assert_eq!(list(&none, ten).await, (vec![], true));
    for _ in 0..3 {
        assert_eq!(list(&none, minutes(60)).await, (vec![], true), "after a break a row begins again");
    }
    assert_eq!(list(&all, ten).await, (vec![], false));
    // One who is really gone.
    for orphans in [vec![], vec![], vec![1]] {
        assert_eq!(list(&but_one, ten).await, (orphans, false));
    }
    // And half of all, which is doubted once; user 1 is given back until the heat pump is retired.
    let gone: Vec<u128> = (1..=40).collect();
    for (orphans, is_doubted) in [(vec![1], true), (vec![1], false), (vec![1], false), (gone, false)] {
        assert_eq!(list(&half, ten).await, (orphans, is_doubted));
    }
}

async fn polls_keep_their_rhythm(fixture: LaneFixture) {
    let minute = Duration::from_secs(60);
    let both =
        |fixture: &LaneFixture| roster(fixture, vec![member(fixture, 1, minute), member(fixture, 2, minute * 2)]);
    fixture.store.keep_roster(both(&fixture)).await.expect("the store is there");
    let polled =
        Observed { user: Uuid::from_u128(1), changes: vec![lost(&fixture, 7, None)], due_at: fixture.after(minute) };
    fixture.store.observe(polled).await.expect("the store is there");
    assert_eq!(users_due(&fixture, 10).await, <[u128; 0]>::default());
    fixture.clock.advance(minute * 2);
    // The next roster does not change the schedule of those that are known.
    fixture.store.keep_roster(both(&fixture)).await.expect("the store is there");
    let first = fixture.store.due_polls(1, POLL_LEASE).await.expect("the store is there").users;
    assert_eq!((first[0].user.as_u128(), first[0].seen.len()), (1, 1), "the one that is due longest, with its pumps");
    assert_eq!(first[0].customer.as_deref(), Some("C-1"));
    assert_eq!(users_due(&fixture, 10).await, [2]);
    // Both are under way. One is written down; the other's poller has died.
    let polled = Observed { user: Uuid::from_u128(1), changes: Vec::new(), due_at: fixture.after(DAY) };
    fixture.store.observe(polled).await.expect("the store is there");
    assert_eq!(users_due(&fixture, 10).await, <[u128; 0]>::default());
    fixture.clock.advance(POLL_LEASE);
    assert_eq!(users_due(&fixture, 10).await, [2], "still due, as it was");
    fixture.store.poll_again(Uuid::from_u128(2), fixture.after(minute)).await.expect("the store is there");
    assert_eq!(users_due(&fixture, 10).await, <[u128; 0]>::default());
    fixture.clock.advance(minute);
    assert_eq!(users_due(&fixture, 10).await, [2]);
    fixture.clock.advance(DAY - POLL_LEASE - minute);
    assert_eq!(users_due(&fixture, 10).await, [1, 2]);
}

async fn a_poll_knows_who_is_moving_or_leaving(fixture: LaneFixture) {
    let users = (1..=7).map(|user| member(&fixture, user, Duration::ZERO)).collect();
    fixture.keep_roster(users).await;
    let coming = async |customer: &str, happening: Happening, hours: u64| {
        let mut arrival = fixture.arrival(customer, 0, happening);
        if let Content::Event(event) = &mut arrival.content {
            event.effective_at = Some(fixture.after(Duration::from_hours(hours)));
        }
        fixture.accept(arrival).await;
    };
    let moved = || move_to("Wien");
    coming("C-1", moved(), 20).await;
    coming("C-2", moved(), 30).await;
    coming("C-3", Happening::Churned, 20).await;
    fixture.accept(fixture.arrival("C-4", 0, Happening::Churned)).await;
    assert_eq!(fixture.end_head(parked()).await, fixture.last_of("C-4").await, "Podero would not let them go");
    fixture.accept(fixture.arrival("C-5", 0, moved())).await;
    assert_eq!(fixture.end_head(parked()).await, fixture.last_of("C-5").await, "a move that nobody can make sense of");
    fixture.accept(fixture.arrival("C-6", 0, moved())).await;
    fixture.accept(fixture.arrival("C-7", 0, updated())).await;
    let due = fixture.store.due_polls(10, POLL_LEASE).await.expect("the store is there").users;
    let mut leaving: Vec<u128> = due.iter().filter(|due| due.is_leaving).map(|due| due.user.as_u128()).collect();
    leaving.sort_unstable();
    assert_eq!(leaving, [1, 3, 4, 6]);
}

/// And outages are read only where a poll is due.
async fn polls_whose_outages_cannot_be_read_are_not_taken(fixture: LaneFixture) {
    fixture.keep_roster(vec![member(&fixture, 1, Duration::ZERO), member(&fixture, 2, DAY)]).await;
    sqlx::any::install_default_drivers();
    let mut admin = AnyConnection::connect(&fixture.url).await.expect("the database is there");
    sqlx::query("ALTER TABLE shared RENAME TO hidden").execute(&mut admin).await.expect("renamed");
    fixture.store.due_polls(10, POLL_LEASE).await.expect_err("the outages cannot be read");
    sqlx::query("ALTER TABLE hidden RENAME TO shared").execute(&mut admin).await.expect("renamed");
    assert_eq!(users_due(&fixture, 10).await, [1], "no lease is left");
    sqlx::query("ALTER TABLE shared RENAME TO hidden").execute(&mut admin).await.expect("renamed");
    assert_eq!(users_due(&fixture, 10).await, <[u128; 0]>::default(), "no outage is asked for");
    admin.close().await.expect("closed");
}

async fn what_somebody_else_saw_first_stands(fixture: LaneFixture) {
    fixture.keep_roster(vec![member(&fixture, 1, Duration::ZERO)]).await;
    observe(&fixture, vec![lost(&fixture, 7, None)]).await;
    let due = fixture.due().await;
    assert_eq!((due.len(), due[0].topic), (1, Topic::HeatPumpDisconnected));
    fixture.mark(&due[0], PublishOutcome::Published).await;
    let seen = fixture.store.due_polls(1, POLL_LEASE).await.expect("the store is there").users.remove(0).seen.remove(0);
    // Two that read the same memory come to different ends: the first one's result stays, and is the only one published.
    let stale = notice("heat-pump/7", Topic::HeatPumpDisconnected, "stale");
    let stale = PumpChange { notices: vec![stale], ..lost(&fixture, 7, Some(&seen)) };
    observe(&fixture, vec![retire(&seen, Resolution::Moved, fixture.clock.now())]).await;
    observe(&fixture, vec![stale, lost(&fixture, 8, None)]).await;
    let told: Vec<_> = fixture.due().await.iter().map(|notice| notice.data["resolution"].clone()).collect();
    assert_eq!(told, [serde_json::json!("moved"), serde_json::Value::Null], "pump 7 moved, and pump 8 is lost");
    // A pump that is new to both is the first one's as well.
    observe(&fixture, vec![lost(&fixture, 8, None)]).await;
    let views = fixture.store.heat_pumps(all_pumps()).await.expect("the store is there");
    assert_eq!(views.len(), 1, "pump 7 is retired");
    assert_eq!(open_alerts(&fixture).await.len(), 1);
}

async fn fleets_are_counted_and_an_outage_is_written_once(fixture: LaneFixture) {
    fixture.keep_roster(vec![member(&fixture, 1, Duration::ZERO)]).await;
    let (none, now) = (Outages::default(), fixture.clock.now());
    let around = DiffContext { region: Some("DE-01"), ..DiffContext::plain(Uuid::from_u128(1), None, &none) };
    let shown = |pump: u128, is_up: bool, maker: &str| Observation {
        heat_pump: Uuid::from_u128(pump),
        manufacturer: Some(maker.to_owned()),
        is_authenticated: Some(is_up),
        updated_at: Some(now),
        ..Observation::default()
    };
    // 1 and 2 of A went a minute apart; 3 is there; 4 was never seen connected; 5 is of B and went as well.
    let mut seen: BTreeMap<u128, PumpRecord> = BTreeMap::new();
    for (minute, ups) in
        [[true, true, true, false, true], [false, true, true, false, false], [false, false, true, false, false]]
            .iter()
            .enumerate()
    {
        let at = now.plus(Duration::from_secs(60 * u64::try_from(minute).expect("small")));
        for (pump, is_up) in (1..).zip(ups) {
            let maker = if pump == 5 { "B" } else { "A" };
            let change = diff(seen.get(&pump), &shown(pump, *is_up, maker), &around, at, &WatchPolicy::DEFAULT);
            observe(&fixture, vec![change.clone()]).await;
            seen.insert(pump, PumpRecord { version: change.seen.version + 1, ..change.seen });
        }
    }
    let count = |scope: Scope, lost, watched| Count { scope, lost, confirmed: 0, watched };
    let maker = |name: &str| Scope::Manufacturer(name.to_owned());
    let counted = async |kind: ScopeKind, except: &[&Scope]| {
        let mut counts = fixture.store.count_fleets(kind, now, except).await.expect("the store is there");
        counts.sort_by(|a, b| a.scope.cmp(&b.scope));
        counts
    };
    let region = Scope::Region("DE-01".to_owned());
    let (a, b) = (maker("A"), maker("B"));
    assert_eq!(counted(ScopeKind::Manufacturer, &[]).await, [count(a.clone(), 2, 4), count(b.clone(), 1, 1)]);
    assert_eq!(counted(ScopeKind::Region, &[]).await, [count(region.clone(), 3, 5)]);
    assert_eq!(counted(ScopeKind::Region, &[&b]).await, [count(region.clone(), 2, 4)], "B speaks for itself");
    assert_eq!(counted(ScopeKind::Region, &[&a, &b]).await, []);
    assert_eq!(counted(ScopeKind::Manufacturer, &[&region]).await, []);
    let later = now.plus(Duration::from_secs(61));
    assert_eq!(
        fixture.store.count_fleet(&maker("A"), later, later, &[]).await.expect("the store is there"),
        count(maker("A"), 1, 4)
    );
    assert_eq!(
        fixture.store.count_fleet(&maker("C"), now, now, &[&region]).await.expect("the store is there"),
        count(maker("C"), 0, 0)
    );
    // One of two that read may write.
    let read = fixture.store.outages().await.expect("the store is there");
    let outage = Outage {
        scope: region,
        occurrence: Uuid::from_u128(9),
        since: now,
        held_from: now,
        members_from: now,
        told: None,
        calm_since: None,
        began: Some(now),
        gaps: 0,
        judged_at: Some(now),
    };
    let notices = || vec![notice("fleet/x", Topic::FleetOutageStarted, "o1")];
    let judged = || Outages(vec![outage.clone()]);
    let keep = async |store: &Store| store.keep_outages(&read, judged(), Looks::default(), notices()).await;
    assert!(keep(&fixture.store).await.expect("the store is there"));
    assert!(!keep(&fixture.replica().await).await.expect("the store is there"));
    assert_eq!(fixture.store.outages().await.expect("the store is there").outages.0, [outage]);
    let open = fixture.store.open_outages().await.expect("the store is there");
    assert_eq!((fixture.due().await.len(), open.len()), (1, 0), "a suspicion is shown to nobody");
}

async fn a_write_that_fails_does_not_fail_its_neighbours(fixture: LaneFixture) {
    let taken = fixture.happened("C-0", 0).await;
    // Another identity under an id that is taken breaks the inbox's key.
    let broken = Arrival { id: taken, ..fixture.arrival("C-1", 0, updated()) };
    let mut batch =
        vec![vec![fixture.arrival("C-2", 0, updated())], vec![fixture.arrival("C-1", 1, updated()), broken]];
    batch.push(vec![fixture.arrival("C-3", 0, updated())]);
    // All are waiting before the writer runs: they are one group.
    let results = join_all(batch.into_iter().map(|arrivals| fixture.store.accept(arrivals))).await;
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    let mut lanes = BTreeSet::new();
    while let Some(claim) = fixture.claim().await {
        lanes.insert(claim.lane);
    }
    let expected: BTreeSet<String> = ["C-0", "C-2", "C-3"].map(str::to_owned).into();
    assert_eq!(lanes, expected, "the batch with the broken one left nothing");
}

async fn five_hundred_arrivals_at_once_are_all_answered(fixture: LaneFixture) {
    let arrivals: Vec<Arrival> =
        (0..500).map(|number| fixture.arrival(&format!("C-{}", number % 50), number, updated())).collect();
    let results = join_all(arrivals.iter().map(|arrival| fixture.store.accept(vec![arrival.clone()]))).await;
    for (result, arrival) in results.into_iter().zip(&arrivals) {
        let expected = Receipt::Accepted { id: arrival.id, state: EventState::Pending };
        assert_eq!(result.expect("the store is there"), [expected]);
    }
    assert_eq!(fixture.store.gauges(Timestamp::from_micros(0)).await.expect("the store is there").pending, 500);
}

#[tokio::test]
async fn a_file_that_is_opened_again_holds_everything_and_releases_its_claims() {
    let fixture = LaneFixture::on_sqlite().await;
    let id = fixture.happened("C-1", 0).await;
    tell(&fixture, vec![notice("a", Topic::CustomerProvisioned, "a1")]).await;
    fixture.happened("C-1", 1).await;
    let claim = claim_and_save(&fixture).await;
    fixture.keep_roster(vec![member(&fixture, 1, Duration::ZERO)]).await;
    assert_eq!(users_due(&fixture, 10).await, [1]);
    assert_eq!(fixture.due().await.len(), 1);
    assert_eq!((users_due(&fixture, 10).await.len(), fixture.due().await.len()), (0, 0), "both are under way");
    let LaneFixture { store, clock, url, database } = fixture;
    drop(store);
    let store = open(&url, &[Target::Amqp], &clock).await;
    let fixture = LaneFixture { store, clock, url, database };
    assert_eq!(fixture.state(id).await, "applied");
    assert_eq!(fixture.due().await.len(), 1, "what was not marked goes out again, at once");
    assert_eq!(users_due(&fixture, 10).await, [1], "a poll only reads: it is made again at once");
    // Requests of a process that died may still be under way.
    let pause = Duration::from_secs(10);
    fixture.store.release_claims(pause).await.expect("the store is there");
    fixture.clock.advance(pause.saturating_sub(Duration::from_micros(1)));
    assert!(fixture.claim().await.is_none(), "too soon");
    fixture.clock.advance(Duration::from_micros(1));
    let again = fixture.head().await;
    assert_eq!((again.work.event.id, again.fence), (claim.work.event.id, claim.fence + 1));
    assert_eq!(again.work.customer.podero.user, ObservedUser::Unknown, "the replica that died may have made something");
}

#[tokio::test]
async fn a_file_has_one_worker_and_whoever_only_looks_releases_no_claim() {
    let fixture = LaneFixture::on_sqlite().await;
    fixture.happened("C-1", 0).await;
    let claim = fixture.head().await;
    let settings = |works| Settings { url: fixture.url.clone(), targets: Vec::new(), works };
    let second = Store::open(settings(true), fixture.clock.clone()).await.map(|_| ());
    assert!(matches!(second, Err(OpenError::InUse)), "{second:?}");
    let (looker, writer) = Store::open(settings(false), fixture.clock.clone()).await.expect("looking is free");
    tokio::spawn(writer.run());
    assert_eq!(looker.gauges(Timestamp::from_micros(0)).await.expect("the store is there").pending, 1);
    looker.release_claims(Duration::ZERO).await.expect("the store is there");
    assert!(fixture.claim().await.is_none(), "the claim is still somebody's");
    fixture.settle(&claim, ending(&claim, applied())).await;
}

#[tokio::test]
async fn nobody_but_its_owner_reads_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = LaneFixture::on_sqlite().await;
    fixture.happened("C-1", 0).await;
    let folder = fixture.database.folder.as_ref().expect("a file has a folder").path();
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let entry = entry.expect("the folder is ours");
        let mode = entry.metadata().expect("the file is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
    }
}
