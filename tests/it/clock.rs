//! A clock that was ahead and was set right: the moments that it left in the store hold nothing up, on both databases.
//!
//! Each scenario writes rows as a bridge whose clock was years ahead, or two hours, and reads them by a clock that is right.

use std::time::Duration;

use podero_bridge::apply::{LEASE_MARGIN, LEASE_MAX};
use podero_bridge::clock::Clock;
use podero_bridge::config::TIMEOUT_MAX;
use podero_bridge::domain::event::{Details, Event, Field, Happening};
use podero_bridge::domain::notice::{Notice, Topic, notice_id};
use podero_bridge::domain::partner_health::{CircuitCause, PartnerHealth};
use podero_bridge::domain::verdict::{Fate, Reason, Setback, Verdict};
use podero_bridge::domain::{CustomerId, EventId, Timestamp};
use podero_bridge::store::{
    Ceilings, Claim, Member, OpenEvent, OpenFilter, OpenState, Ordered, ParkedFilter, PublishOutcome, REPLICA_LIFE,
    Receipt, RetryRequest, Roster, Settings, Stepped, Store, Target, WaitsFor,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::kit::{BY, Fixture, TestDatabase, arrival_of, on_both_databases};
use crate::world::{Settings as WorldSettings, World, sign_up, until};

const START: i64 = 1_800_000_000;
const LEASE: Duration = Duration::from_secs(30);
const BACK_OFF: Duration = Duration::from_mins(15);
const HOUR: Duration = Duration::from_hours(1);
const YEARS: Duration = Duration::from_hours(3 * 365 * 24);

/// Times by which the clock is ahead: in each scenario by both.
const AHEAD: [Duration; 2] = [Duration::from_hours(2), YEARS];

on_both_databases! {
    an_event_in_back_off_is_due_and_one_that_arrived_then_as_well
    a_lease_taken_then_has_lapsed
    a_wait_for_a_sign_up_begins_again
    a_retry_by_hand_makes_an_event_due_now
    what_was_parked_then_is_covered_by_a_retry_of_many
    notices_polls_and_duties_are_due
    a_replica_seen_then_is_no_company
    an_open_circuit_is_due_for_a_probe_and_a_pause_lasts_as_asked
    a_list_says_who_waits_and_why
    a_jump_ahead_makes_no_announced_event_due_and_nothing_old
    a_tombstone_of_then_keeps_old_events_out_and_no_new_customer
    a_restart_with_the_clock_ahead_makes_nothing_due_or_old
    a_jump_ahead_changes_nothing_for_an_event_of_now
    a_purge_is_never_due_before_its_own_day
    a_live_lease_of_a_replica_with_other_settings_is_not_taken
}

/// A store whose clock is ahead until it is set right.
struct ClockFixture {
    url: String,
    writing: tokio::task::JoinHandle<()>,
    store: Store,
    clock: Clock,
    ahead: Duration,
    _database: Option<TestDatabase>,
}

impl Fixture for ClockFixture {
    const RUNS: usize = AHEAD.len();

    async fn open(database: TestDatabase, run: usize) -> Self {
        Self::ahead(database.url.clone(), AHEAD[run], Some(database)).await
    }
}

impl ClockFixture {
    async fn ahead(url: String, ahead: Duration, database: Option<TestDatabase>) -> Self {
        let clock = Clock::manual(Timestamp::from_micros(START * 1_000_000).plus(ahead), 1);
        Self::open_at(url, clock, ahead, database).await
    }

    async fn open_at(url: String, clock: Clock, ahead: Duration, database: Option<TestDatabase>) -> Self {
        let settings = Settings { url: url.clone(), targets: vec![Target::Amqp], works: true };
        let (store, writer) = Store::open(settings, clock.clone()).await.expect("the store opens");
        let writing = tokio::spawn(writer.run());
        store.expect_waits(Ceilings { work: BACK_OFF, notice: BACK_OFF, poll: BACK_OFF, sign_up: HOUR });
        Self { url, writing, store, clock, ahead, _database: database }
    }

    /// Another process, whose clock shows the same and knows nothing of this one's.
    async fn restart(self) -> Self {
        let clock = Clock::manual(self.clock.now(), 2);
        self.store.close().await;
        drop(self.store);
        self.writing.await.expect("the writer ends");
        Self::open_at(self.url, clock, self.ahead, self._database).await
    }

    async fn state(&self, id: EventId) -> Option<String> {
        let event = self.store.event(id).await.expect("the store is there");
        event.map(|view| view.event.state.to_string())
    }

    async fn beat(&self) -> usize {
        let shared = self.store.share(Uuid::from_u128(1), PartnerHealth::default()).await.expect("the store is there");
        shared.replicas
    }

    fn set_right(&self) {
        self.clock.set_back(self.ahead);
    }

    async fn happened(&self, customer: &str) -> EventId {
        self.announced(customer, None).await
    }

    async fn announced(&self, customer: &str, effective_at: Option<Timestamp>) -> EventId {
        // Said by a sender whose clock is right.
        self.said(customer, Timestamp::from_micros(START * 1_000_000), effective_at).await.0
    }

    /// Our id, and the state that its sender gets.
    async fn said(&self, customer: &str, time: Timestamp, effective_at: Option<Timestamp>) -> (EventId, String) {
        let id = EventId(self.clock.fresh_id());
        let personal = [(Field::FirstName, "x".into())].into();
        let happening = Happening::Updated(Details { personal, ..Details::default() });
        let customer = CustomerId::accept(customer).expect("a printable id");
        let arrival = arrival_of(Event { id, customer, time, effective_at, happening }, self.clock.now());
        match self.store.accept(vec![arrival]).await.expect("the store is there").remove(0) {
            Receipt::Accepted { state, .. } => (id, state.to_string()),
            known @ (Receipt::Duplicate { .. } | Receipt::Reused { .. }) => panic!("it is new: {known:?}"),
        }
    }

    async fn claim(&self) -> Option<Claim> {
        self.store.claim(LEASE).await.expect("the store is there")
    }

    /// Claims the event that is due, and ends it with this fate.
    async fn end_head(&self, fate: Fate) -> EventId {
        let claim = self.claim().await.expect("an event is due");
        let (failures, failing_since) = match &fate {
            Fate::Retry { .. } => (1, Some(self.clock.now())),
            Fate::Applied { .. } | Fate::Superseded | Fate::Waiting { .. } | Fate::Parked { .. } => (0, None),
        };
        let verdict = Verdict {
            fate,
            state: claim.work.customer.clone(),
            failures,
            failing_since,
            notices: Vec::new(),
            seen: Vec::new(),
            follow_ups: Vec::new(),
            ends_scheduled: false,
            overtakes: false,
            wakes_waiting: false,
            remark: None,
            acts: Vec::new(),
        };
        self.store.settle(&claim, verdict, Vec::new()).await.expect("the store is there");
        claim.work.event.id
    }

    async fn fail(&self, setback: Setback) -> EventId {
        self.end_head(Fate::Retry { at: self.clock.now().plus(BACK_OFF), setback }).await
    }

    async fn listed(&self, state: OpenState) -> Vec<OpenEvent> {
        let filter = OpenFilter { state, customer: None, after: None, limit: 100 };
        self.store.open_events(filter).await.expect("the store is there").events
    }
}

async fn an_event_in_back_off_is_due_and_one_that_arrived_then_as_well(fixture: ClockFixture) {
    let failed = fixture.happened("C-1").await;
    assert_eq!(fixture.fail(Setback::Unknown).await, failed);
    let untouched = fixture.happened("C-2").await;
    assert!(fixture.store.claims(1, Duration::ZERO).await.is_ok_and(|claims| claims.len() == 1), "it is due then");
    fixture.set_right();
    let claims = fixture.store.claims(10, LEASE).await.expect("the store is there");
    let mut found: Vec<EventId> = claims.iter().map(|claim| claim.work.event.id).collect();
    found.sort_by_key(|id| id.0);
    assert_eq!(found, [failed, untouched]);
    for claim in &claims {
        assert!(claim.work.tries_from <= fixture.clock.now(), "its age counts from now");
        assert!(claim.work.failing_since.is_none_or(|since| since <= fixture.clock.now()));
    }
    let gauges = fixture.store.gauges(fixture.clock.now()).await.expect("the store is there");
    assert_eq!(gauges.pending, 2);
    fixture.store.promote().await.expect("the store is there");
    fixture.clock.advance(HOUR);
    let gauges = fixture.store.gauges(fixture.clock.now()).await.expect("the store is there");
    let age = gauges.oldest_pending.map(|oldest| fixture.clock.now().since(oldest));
    assert_eq!(age, Some(HOUR), "it is seen to wait");
}

async fn a_lease_taken_then_has_lapsed(fixture: ClockFixture) {
    fixture.happened("C-1").await;
    let before = fixture.claim().await.expect("an event is due");
    fixture.set_right();
    let after = fixture.claim().await.expect("nobody works on it any more");
    assert!(after.fence > before.fence);
    assert!(fixture.claim().await.is_none(), "a lease of now holds");
}

async fn a_wait_for_a_sign_up_begins_again(fixture: ClockFixture) {
    fixture.happened("C-1").await;
    fixture.end_head(Fate::Waiting { until: fixture.clock.now().plus(HOUR) }).await;
    fixture.set_right();
    assert_eq!(fixture.store.promote().await.expect("the store is there"), 1);
    let claim = fixture.claim().await.expect("it is looked at again");
    assert_eq!(claim.work.tries_from, fixture.clock.now());
}

async fn a_retry_by_hand_makes_an_event_due_now(fixture: ClockFixture) {
    fixture.set_right();
    let event = fixture.happened("C-1").await;
    fixture.fail(Setback::Unknown).await;
    assert!(fixture.claim().await.is_none(), "its back-off holds it");
    let retry = async || fixture.store.unpark(event, RetryRequest::Retry, BY).await.expect("the store is there");
    assert!(retry().await.is_some());
    let claim = fixture.claim().await.expect("it is due now");
    assert_eq!(claim.work.failures, 1, "no failure is forgotten");
    assert!(retry().await.is_none(), "an applier is at work on it");
    let why = fixture.store.why_not_taken(event, RetryRequest::Retry).await.expect("the store is there");
    assert_eq!(why.to_string(), "the bridge works on it at this moment; look again in a minute");
}

async fn what_was_parked_then_is_covered_by_a_retry_of_many(fixture: ClockFixture) {
    fixture.happened("C-1").await;
    fixture.end_head(Fate::Parked { reason: Reason::Refused, detail: "said no".to_owned() }).await;
    fixture.set_right();
    let ordered = fixture
        .store
        .order_retry(ParkedFilter::of_reason(Some(Reason::Refused)), 10, BY)
        .await
        .expect("the store is there");
    assert!(matches!(ordered, Ordered::Running(retry) if retry.total == 1));
    let stepped = fixture.store.retry_step(1_000).await.expect("the store is there");
    assert!(matches!(stepped, Stepped::Retried { count: 1, .. }), "{stepped:?}");
    assert!(fixture.claim().await.is_some());
}

async fn notices_polls_and_duties_are_due(fixture: ClockFixture) {
    let now = fixture.clock.now();
    // A settlement with a notice.
    fixture.happened("C-1").await;
    let claim = fixture.claim().await.expect("an event is due");
    let notice = Notice {
        id: notice_id("a cause", Topic::EventParked),
        topic: Topic::EventParked,
        order_key: "C-1".to_owned(),
        subject: "C-1".to_owned(),
        time: now,
        data: json!({ "customer_id": "C-1" }),
    };
    let verdict = Verdict {
        fate: Fate::Applied { stale: Vec::new() },
        state: claim.work.customer.clone(),
        failures: 0,
        failing_since: None,
        notices: vec![notice.clone()],
        seen: Vec::new(),
        follow_ups: Vec::new(),
        ends_scheduled: false,
        overtakes: false,
        wakes_waiting: false,
        remark: None,
        acts: Vec::new(),
    };
    fixture.store.settle(&claim, verdict, Vec::new()).await.expect("the store is there");
    let failed = PublishOutcome::Failed { at: now.plus(BACK_OFF), why: "refused" };
    fixture.store.mark(Target::Amqp, vec![(notice.id, failed)]).await.expect("the store is there");
    let member = Member { user: Uuid::from_u128(1), customer: None, region: None, first_due: now.plus(BACK_OFF) };
    let roster = |fixture: &ClockFixture, members: Vec<Member>| Roster {
        members,
        asked_at: fixture.clock.now(),
        lists_to_remove: 2,
        break_after: HOUR,
    };
    fixture.store.keep_roster(roster(&fixture, vec![member])).await.expect("the store is there");
    assert!(fixture.store.take_duty("roster", BACK_OFF).await.expect("the store is there").is_some());
    fixture.set_right();
    let due = fixture.store.due_notices(Target::Amqp, 10, LEASE).await.expect("the store is there");
    assert_eq!(due.len(), 1, "a notice in back-off");
    let due = fixture.store.due_polls(10, LEASE).await.expect("the store is there").users;
    assert_eq!(due.len(), 1, "a poll");
    assert!(fixture.store.take_duty("roster", BACK_OFF).await.expect("the store is there").is_some(), "a duty");
    assert!(
        fixture.store.take_duty("roster", BACK_OFF).await.expect("the store is there").is_none(),
        "now it is put off"
    );
    fixture.store.keep_roster(roster(&fixture, Vec::new())).await.expect("the store is there");
    fixture.clock.advance(HOUR);
    let due = fixture.store.due_polls(10, LEASE).await.expect("the store is there").users;
    assert!(due.is_empty(), "a user who is on no list any more is dropped");
}

async fn a_replica_seen_then_is_no_company(fixture: ClockFixture) {
    let known = PartnerHealth::default();
    let replica = |number| Uuid::from_u128(number);
    fixture.store.share(replica(1), known).await.expect("the store is there");
    fixture.set_right();
    let shared = fixture.store.share(replica(2), known).await.expect("the store is there");
    assert_eq!(shared.replicas, 2, "it may live, and its clock may be the one that is right");
    fixture.clock.advance(REPLICA_LIFE);
    let shared = fixture.store.share(replica(2), known).await.expect("the store is there");
    assert_eq!(shared.replicas, 1, "it said nothing for so long");
    let shared = fixture.store.share(replica(1), known).await.expect("the store is there");
    assert_eq!(shared.replicas, 2, "it lives: it says so by a clock that is right");
}

async fn an_open_circuit_is_due_for_a_probe_and_a_pause_lasts_as_asked(fixture: ClockFixture) {
    let mut known = PartnerHealth::default();
    known.open(fixture.clock.now(), CircuitCause::Away);
    known.pause(fixture.clock.now(), fixture.clock.now().plus(BACK_OFF));
    fixture.store.share(Uuid::from_u128(1), known).await.expect("the store is there");
    fixture.set_right();
    let share =
        async || fixture.store.share(Uuid::from_u128(2), PartnerHealth::default()).await.expect("the store is there");
    let now = fixture.clock.now();
    assert_eq!(share().await.health.paused(now), Some(now.plus(BACK_OFF)));
    fixture.clock.advance(BACK_OFF);
    let (now, known) = (fixture.clock.now(), share().await.health);
    assert_eq!(known.paused(now), None, "it does not begin again");
    assert!(known.opening().is_some_and(|opening| opening.since <= now));
    assert!(known.is_probe_due(now));
}

async fn a_list_says_who_waits_and_why(fixture: ClockFixture) {
    fixture.set_right();
    let first = fixture.happened("C-1").await;
    fixture.fail(Setback::Unknown).await;
    fixture.clock.advance(Duration::from_secs(1));
    let second = fixture.happened("C-1").await;
    fixture.clock.advance(Duration::from_secs(1));
    let third = fixture.happened("C-2").await;
    let rows = fixture.listed(OpenState::Pending).await;
    let told: Vec<_> = rows.iter().map(|row| (row.id, row.waits_for.name(), row.behind)).collect();
    let expected = [(first, "retrying", None), (second, "behind", Some(first)), (third, "budget", None)];
    assert_eq!(told, expected);
    assert_eq!(rows[0].reason.as_deref(), Some("unknown"));
    assert!(rows[0].next_try.is_some() && rows[1].next_try.is_none() && rows[2].next_try.is_none());
    // Page by page it is the same.
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let filter = OpenFilter { state: OpenState::Pending, customer: None, after, limit: 1 };
        let page = fixture.store.open_events(filter).await.expect("the store is there");
        paged.extend(page.events.into_iter().map(|event| event.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(paged, [first, second, third]);
    let claim = fixture.claim().await.expect("the third is due");
    assert_eq!(claim.work.event.id, third);
    let filter = OpenFilter { state: OpenState::Pending, customer: Some("C-2".to_owned()), after: None, limit: 10 };
    let of_one = fixture.store.open_events(filter).await.expect("the store is there").events;
    assert_eq!(of_one.iter().map(|row| row.waits_for).collect::<Vec<_>>(), [WaitsFor::InProgress]);
    let mut known = PartnerHealth::default();
    known.open(fixture.clock.now(), CircuitCause::Away);
    fixture.store.share(Uuid::from_u128(1), known).await.expect("the store is there");
    assert_eq!(fixture.listed(OpenState::Pending).await[0].waits_for, WaitsFor::Podero);
    assert!(fixture.listed(OpenState::Parked).await.is_empty());
}

async fn a_jump_ahead_makes_no_announced_event_due_and_nothing_old(fixture: ClockFixture) {
    const RETENTION: Duration = Duration::from_mins(10);
    fixture.set_right();
    let settled = fixture.happened("C-1").await;
    fixture.end_head(Fate::Applied { stale: Vec::new() }).await;
    let day = fixture.clock.now().plus(HOUR);
    let announced = fixture.announced("C-2", Some(day)).await;
    fixture.clock.jump_ahead(fixture.ahead);
    assert_eq!(fixture.clock.jump(), fixture.ahead);
    let later = fixture.announced("C-3", Some(day)).await;
    assert_eq!(fixture.store.promote().await.expect("the store is there"), 0);
    fixture.store.forget(RETENTION).await.expect("the store is there");
    let state = async |id: EventId| {
        let event = fixture.store.event(id).await.expect("the store is there");
        event.map(|view| view.event.state.to_string())
    };
    assert_eq!(state(settled).await.as_deref(), Some("applied"), "nothing is removed");
    assert_eq!(state(announced).await.as_deref(), Some("scheduled"));
    assert_eq!(state(later).await.as_deref(), Some("scheduled"), "nor one that arrives now");
    fixture.clock.advance(HOUR);
    assert_eq!(fixture.store.promote().await.expect("the store is there"), 2, "an hour has passed");
    fixture.store.forget(RETENTION).await.expect("the store is there");
    assert_eq!(state(settled).await, None, "and what was old is gone");
}

async fn a_tombstone_of_then_keeps_old_events_out_and_no_new_customer(fixture: ClockFixture) {
    let erase = async || {
        let erased = fixture.store.erase("C-1", &[], true, BY).await.expect("the store is there");
        erased.expect("forced");
    };
    erase().await;
    fixture.set_right();
    let said = async |time: Timestamp| fixture.said("C-1", time, None).await.1;
    let now = fixture.clock.now();
    assert_eq!(said(now.minus(25 * HOUR)).await, "superseded", "it was said of the customer who was erased");
    // A sender's clock may be ahead by two hours, and then the tombstone is meant so.
    let is_meant_so = fixture.ahead == 2 * HOUR;
    assert_eq!(said(now).await, if is_meant_so { "superseded" } else { "pending" });
    erase().await;
    assert_eq!(said(now).await, "superseded", "until now the customer was erased again");
    fixture.clock.advance(fixture.ahead.min(3 * HOUR));
    assert_eq!(said(now).await, "superseded", "also later");
    fixture.clock.advance(Duration::from_micros(1));
    assert_eq!(said(fixture.clock.now()).await, "pending");
}

/// A restart while the clock is ahead makes no announced event due and nothing old.
async fn a_restart_with_the_clock_ahead_makes_nothing_due_or_old(fixture: ClockFixture) {
    const RETENTION: Duration = Duration::from_mins(45);
    fixture.set_right();
    let settled = fixture.happened("C-1").await;
    fixture.end_head(Fate::Applied { stale: Vec::new() }).await;
    let announced = fixture.announced("C-2", Some(fixture.clock.now().plus(HOUR))).await;
    fixture.beat().await;
    fixture.clock.jump_ahead(fixture.ahead);
    // Written by the wrong clock.
    assert!(fixture.store.take_duty("roster", BACK_OFF).await.expect("the store is there").is_some());
    fixture.happened("C-3").await;
    fixture.beat().await;
    let mut fixture = fixture;
    for _ in 0..3 {
        fixture = fixture.restart().await;
        assert_eq!(fixture.clock.jump(), fixture.ahead, "the doubt goes on");
        fixture.store.promote().await.expect("the store is there");
        fixture.store.forget(RETENTION).await.expect("the store is there");
        assert_eq!(fixture.state(settled).await.as_deref(), Some("applied"), "nothing is removed");
        assert_eq!(fixture.state(announced).await.as_deref(), Some("scheduled"));
        fixture.clock.advance(BACK_OFF);
        fixture.beat().await;
    }
    fixture.clock.advance(HOUR - 3 * BACK_OFF);
    fixture = fixture.restart().await;
    assert_eq!(fixture.store.promote().await.expect("the store is there"), 1, "an hour has passed");
    fixture.store.forget(RETENTION).await.expect("the store is there");
    assert_eq!(fixture.state(settled).await, None, "and what was old is gone");
}

async fn a_jump_ahead_changes_nothing_for_an_event_of_now(fixture: ClockFixture) {
    fixture.set_right();
    // A virtual machine that was paused: the clock is right.
    fixture.clock.jump_ahead(fixture.ahead);
    let now = fixture.clock.now();
    let (event, _) = fixture.said("C-1", now, Some(now)).await;
    let claim = fixture.claim().await.expect("it takes effect as it is told");
    assert_eq!((claim.work.event.id, claim.work.tries_from), (event, now), "its age counts from its arrival");
}

/// A purge that was set then is due after its while and never before its own day.
async fn a_purge_is_never_due_before_its_own_day(fixture: ClockFixture) {
    const WHILE: Duration = Duration::from_hours(30 * 24);
    let purge = async |fixture: &ClockFixture, customer: &str| {
        fixture.happened(customer).await;
        let claim = fixture.claim().await.expect("a churn is due");
        let now = fixture.clock.now();
        let id = EventId(Uuid::new_v5(&Uuid::NAMESPACE_OID, customer.as_bytes()));
        let customer_id = CustomerId::accept(customer).expect("a printable id");
        let happening = Happening::PurgeDue { user: Uuid::from_u128(7) };
        let effective_at = Some(now.plus(WHILE));
        let follow_ups = vec![Event { id, customer: customer_id, time: now, effective_at, happening }];
        let verdict = Verdict {
            fate: Fate::Applied { stale: Vec::new() },
            state: claim.work.customer.clone(),
            failures: 0,
            failing_since: None,
            notices: Vec::new(),
            seen: Vec::new(),
            follow_ups,
            ends_scheduled: false,
            overtakes: false,
            wakes_waiting: false,
            remark: None,
            acts: Vec::new(),
        };
        fixture.store.settle(&claim, verdict, Vec::new()).await.expect("the store is there");
        id
    };
    let due = async |fixture: &ClockFixture| {
        assert!(!fixture.store.date_purges().await.expect("the store is there"));
        fixture.store.promote().await.expect("the store is there")
    };
    let ahead = purge(&fixture, "C-1").await;
    fixture.set_right();
    let right = purge(&fixture, "C-2").await;
    assert_eq!(due(&fixture).await, 0);
    // By a clock that is behind for a while, both seem to be of a clock ahead.
    fixture.clock.set_back(100 * WHILE);
    assert_eq!(due(&fixture).await, 0);
    fixture.clock.jump_ahead(100 * WHILE);
    assert_eq!(due(&fixture).await, 0);
    fixture.clock.advance(WHILE - HOUR);
    assert_eq!(due(&fixture).await, 0, "never early");
    fixture.clock.advance(4 * HOUR);
    due(&fixture).await;
    assert_eq!(fixture.state(right).await.as_deref(), Some("pending"));
    assert_eq!(fixture.state(ahead).await.as_deref(), Some("pending"), "not years late");
}

async fn a_live_lease_of_a_replica_with_other_settings_is_not_taken(fixture: ClockFixture) {
    fixture.set_right();
    fixture.happened("C-1").await;
    // The longest: a wait for a slot, a call with another token, one more request.
    let lease = Duration::from_secs(30) + 5 * TIMEOUT_MAX + LEASE_MARGIN;
    let claims = fixture.store.claims(1, lease).await.expect("the store is there");
    assert_eq!(claims.len(), 1);
    fixture.store.expect_waits(Ceilings { work: LEASE_MAX, notice: BACK_OFF, poll: BACK_OFF, sign_up: HOUR });
    assert!(fixture.claim().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_whose_clocks_differ_count_each_other() {
    let url = crate::servers::fresh_database();
    let right = ClockFixture::ahead(url.clone(), Duration::ZERO, None).await;
    let ahead = ClockFixture::ahead(url, 2 * HOUR, None).await;
    let counts = async |fixture: &ClockFixture, number| {
        let shared = fixture.store.share(Uuid::from_u128(number), PartnerHealth::default()).await;
        shared.expect("the store is there").replicas
    };
    for round in 0..5 {
        let found = (counts(&right, 1).await, counts(&ahead, 2).await);
        // The first looks find no other, or one that was last seen long ago by the clock ahead.
        assert!(round < 2 || found == (2, 2), "{round}: {found:?}");
        for fixture in [&right, &ahead] {
            fixture.clock.advance(REPLICA_LIFE / 2);
        }
    }
    right.clock.advance(REPLICA_LIFE);
    assert_eq!(counts(&right, 1).await, 2, "it has changed since the last look");
    right.clock.advance(REPLICA_LIFE);
    assert_eq!(counts(&right, 1).await, 1, "it is silent");
}

/// A real bridge on a file that one with a clock years ahead left behind: its customer's event is applied, and it is ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_goes_on_where_one_with_a_clock_ahead_ended() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = crate::kit::sqlite_url(folder.path());
    let ahead = Clock::manual(Clock::system().now().plus(YEARS), 1);
    let settings = Settings { url: url.clone(), targets: vec![Target::Amqp], works: true };
    let (store, writer) = Store::open(settings, ahead.clone()).await.expect("the store opens");
    let writing = tokio::spawn(writer.run());
    let idle = tokio::spawn(async {});
    let fixture =
        ClockFixture { url: url.clone(), writing: idle, store, clock: ahead.clone(), ahead: YEARS, _database: None };
    let failed = fixture.happened("C-1").await;
    fixture.fail(Setback::Unknown).await;
    let mut known = PartnerHealth::default();
    known.open(ahead.now(), CircuitCause::Away);
    fixture.store.share(Uuid::from_u128(1), known).await.expect("the store is there");
    drop(fixture);
    writing.await.expect("the writer ends");
    let world = World::start_on(folder, url, WorldSettings::default()).await;
    let (status, _) = world.send(&sign_up("evt-1", "C-1", "2026-10-01T12:00:00Z")).await;
    assert_eq!(status, 202);
    until("the event that failed is applied", async || {
        let event: Value =
            world.http.get(world.operator(&format!("/v1/events/{failed}"))).send().await.ok()?.json().await.ok()?;
        (event["state"] == "applied").then_some(())
    })
    .await;
    until("the bridge is ready", async || {
        let answer = world.http.get(world.operator("/readyz")).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    let listed: Value =
        world.http.get(world.operator("/v1/events")).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(listed, json!({ "events": [], "next": null }));
    world.bridge.stop().await;
}
