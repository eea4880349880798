//! The brake on mass churn: how many leave before a person is asked, who is counted, and the way out.

use std::time::Duration;

use podero_bridge::domain::brake::{Brake, Clearance, Share, Tally};
use podero_bridge::domain::call::Operation;
use podero_bridge::domain::customer::Customer;
use podero_bridge::domain::event::{Change, Details, Event, EventKind, Field, Happening};
use podero_bridge::domain::verdict::{Fate, Reason, Setback, Verdict};
use podero_bridge::domain::{CustomerId, EventId, Timestamp};
use podero_bridge::sandbox::{self, Sandbox};
use podero_bridge::store::{
    ACTIVE_AGE_MAX, Asked, CallMade, Claim, NotTaken, Ordered, ParkedFilter, RetryRequest, RetryState, RowKind,
    Stepped, Store,
};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::kit::{BY, Fixture, StoreFixture, on_both_databases};
use crate::running::{self, Environment, Running};
use crate::servers;
use crate::world::{self, Database, World, event, sign_up, until};

/// Lease that is longer than any window here.
const LEASE: Duration = Duration::from_secs(1_000 * 3_600);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const TIME: &str = "2026-10-01T12:00:00Z";
const LATER: &str = "2026-10-02T12:00:00Z";
const JSON: &str = "application/json";

/// A limit within an hour.
fn of(count: u64) -> Brake {
    Brake { count: Some(count), share: None, window: HOUR }
}

impl StoreFixture {
    /// A churn that is claimed.
    async fn leaves(&self, customer: &str) -> Claim {
        let arrival = self.arrival(customer, Happening::Churned);
        self.store.accept(vec![arrival]).await.expect("the store is there");
        claimed(&self.store).await
    }

    /// Asks for a churn of this customer.
    async fn asks(&self, customer: &str, brake: Brake) -> (Claim, Asked) {
        let mut claim = self.leaves(customer).await;
        let asked = ask(&self.store, &mut claim, brake).await;
        (claim, asked)
    }

    /// Asks, and parks what was refused as the applier does.
    async fn asks_in_vain(&self, customer: &str, brake: Brake) -> EventId {
        let (claim, asked) = self.asks(customer, brake).await;
        assert!(matches!(asked, Asked::Refused { .. }), "{asked:?}");
        self.settle(&claim, braked()).await;
        claim.work.event.id
    }

    async fn settle(&self, claim: &Claim, fate: Fate) {
        let calls: Vec<CallMade> = Vec::new();
        self.store.settle(claim, Self::verdict(claim, fate, Vec::new()), calls).await.expect("the store is there");
    }

    /// A customer who is one from now on.
    async fn joins(&self, customer: &str) {
        let details = Details { personal: [(Field::Email, "a@example.com".into())].into(), ..Details::default() };
        self.becomes(customer, Happening::SignedUp(details)).await;
    }

    /// An event that takes effect.
    async fn becomes(&self, customer: &str, happening: Happening) {
        let arrival = self.arrival(customer, happening);
        self.store.accept(vec![arrival]).await.expect("the store is there");
        let claim = claimed(&self.store).await;
        let known = Customer { facts: claim.work.merged.facts.clone(), ..claim.work.customer.clone() };
        let verdict =
            Verdict { state: known, ..Self::verdict(&claim, Fate::Applied { stale: Vec::new() }, Vec::new()) };
        self.store.settle(&claim, verdict, Vec::new()).await.expect("the store is there");
    }

    async fn admitted(&self, brake: Brake) -> u64 {
        self.store.brake_tally(brake).await.expect("the store is there").admitted
    }
}

async fn claimed(store: &Store) -> Claim {
    store.claim(LEASE).await.expect("the store is there").expect("something is due")
}

async fn ask(store: &Store, claim: &mut Claim, brake: Brake) -> Asked {
    store.ask_brake(claim, brake, None).await.expect("the store is there")
}

fn braked() -> Fate {
    Fate::Parked { reason: Reason::ChurnBrake, detail: "too many".to_owned() }
}

fn gave_up() -> Fate {
    Fate::Parked { reason: Reason::GaveUp, detail: "timeout".to_owned() }
}

fn refused(asked: Asked) -> Tally {
    match asked {
        Asked::Refused { tally, .. } => tally,
        Asked::Cleared | Asked::Fenced => panic!("{asked:?}"),
    }
}

on_both_databases! {
    of_many_that_ask_at_once_as_many_are_admitted_as_may_be
    a_churn_counts_once_however_often_it_is_tried
    a_window_passes_and_admits_as_many_again
    a_clock_that_was_ahead_closes_the_brake_for_no_longer_than_a_window
    an_approval_is_for_one_try_and_is_not_counted
    an_approval_of_many_releases_what_was_seen_and_survives_a_restart
    a_share_is_of_the_customers_who_are_active
    a_store_of_the_version_before_knows_who_is_active
    a_claim_that_is_not_the_newest_decides_nothing
    a_churn_that_is_called_off_does_not_wait_for_an_approval
    what_was_called_off_is_not_done_when_it_is_retried
    a_churn_of_another_day_is_asked_about_on_its_day
    parked_churns_are_skipped_all_at_once
}

async fn of_many_that_ask_at_once_as_many_are_admitted_as_may_be(fixture: StoreFixture) {
    let other = fixture.beside().await;
    let mut claims = Vec::new();
    for number in 0..20 {
        claims.push(fixture.leaves(&format!("C-{number}")).await);
    }
    let asking = claims.iter_mut().enumerate().map(|(number, claim)| {
        let store = if number % 2 == 0 { &fixture.store } else { &other };
        ask(store, claim, of(7))
    });
    let answers = futures_util::future::join_all(asking).await;
    let cleared = answers.iter().filter(|asked| **asked == Asked::Cleared).count();
    assert_eq!(cleared, 7, "{answers:?}");
    let closed = answers.iter().filter(|asked| matches!(asked, Asked::Refused { has_closed: true, .. })).count();
    assert_eq!(closed, 1, "it closes once: {answers:?}");
    assert!(answers.iter().all(|asked| *asked == Asked::Cleared || refused(*asked).admitted == 7), "{answers:?}");
    let known = claims.iter().filter(|claim| claim.work.clearance == Clearance::Admitted).count();
    assert_eq!((known, fixture.admitted(of(7)).await), (7, 7));
}

async fn a_churn_counts_once_however_often_it_is_tried(fixture: StoreFixture) {
    let (mut claim, asked) = fixture.asks("C-1", of(1)).await;
    assert_eq!(asked, Asked::Cleared);
    let id = claim.work.event.id;
    // The answer was lost on the way.
    assert_eq!(ask(&fixture.store, &mut claim, of(1)).await, Asked::Cleared);
    // Back-off, and a restart.
    fixture.settle(&claim, Fate::Retry { at: fixture.clock.now(), setback: Setback::Unsent }).await;
    let other = fixture.beside().await;
    let claim = claimed(&other).await;
    assert_eq!((claim.work.event.id, claim.work.clearance), (id, Clearance::Admitted));
    // A crash in the middle.
    fixture.clock.advance(LEASE + SECOND);
    let claim = claimed(&other).await;
    assert_eq!((claim.work.event.id, claim.work.clearance), (id, Clearance::Admitted), "also after the window");
    fixture.settle(&claim, gave_up()).await;
    fixture.store.unpark(id, RetryRequest::Retry, BY).await.expect("the store is there").expect("it is parked");
    // Parked in between, it asks again; within a window it counts once.
    let mut claim = claimed(&fixture.store).await;
    assert_eq!(claim.work.clearance, Clearance::Unasked);
    assert_eq!(ask(&fixture.store, &mut claim, of(1)).await, Asked::Cleared, "of a new window");
    fixture.settle(&claim, gave_up()).await;
    fixture.store.unpark(id, RetryRequest::Retry, BY).await.expect("the store is there").expect("it is parked");
    let mut claim = claimed(&fixture.store).await;
    assert_eq!(ask(&fixture.store, &mut claim, of(1)).await, Asked::Cleared, "the same window");
    assert_eq!(fixture.admitted(of(1)).await, 1);
    assert!(matches!(fixture.asks("C-2", of(1)).await.1, Asked::Refused { .. }));
}

async fn a_window_passes_and_admits_as_many_again(fixture: StoreFixture) {
    assert_eq!(fixture.asks("C-1", of(2)).await.1, Asked::Cleared);
    fixture.clock.advance(30 * MINUTE);
    assert_eq!(fixture.asks("C-2", of(2)).await.1, Asked::Cleared);
    fixture.clock.advance(29 * MINUTE);
    assert_eq!(refused(fixture.asks("C-3", of(2)).await.1).admitted, 2);
    // The first one leaves the window; the second is in it for half an hour more.
    fixture.clock.advance(2 * MINUTE);
    assert_eq!(fixture.admitted(of(2)).await, 1);
    assert_eq!(fixture.asks("C-4", of(2)).await.1, Asked::Cleared);
    let (_, again) = fixture.asks("C-5", of(2)).await;
    assert!(matches!(again, Asked::Refused { has_closed: true, .. }), "it closes again: {again:?}");
    let (_, still) = fixture.asks("C-6", of(2)).await;
    assert!(matches!(still, Asked::Refused { has_closed: false, .. }), "{still:?}");
    // A larger limit of a new configuration counts from now on, a smaller one too.
    assert_eq!(fixture.asks("C-7", of(3)).await.1, Asked::Cleared);
    assert_eq!(refused(fixture.asks("C-8", of(1)).await.1).admitted, 3);
    fixture.clock.advance(2 * HOUR);
    assert_eq!(fixture.admitted(of(2)).await, 0);
    for number in 0..30 {
        assert_eq!(fixture.asks(&format!("D-{number}"), of(30)).await.1, Asked::Cleared);
    }
    let mut connection = connect(&fixture).await;
    let (kept,): (i64,) =
        sqlx::query_as("SELECT COUNT(*) FROM admissions").fetch_one(&mut connection).await.expect("readable");
    assert_eq!(kept, 30, "what is out of the window is forgotten");
}

async fn a_clock_that_was_ahead_closes_the_brake_for_no_longer_than_a_window(fixture: StoreFixture) {
    let year = 365 * 24 * HOUR;
    fixture.clock.advance(year);
    assert_eq!(fixture.asks("C-1", of(1)).await.1, Asked::Cleared);
    fixture.clock.set_back(year);
    assert!(matches!(fixture.asks("C-2", of(1)).await.1, Asked::Refused { .. }), "a window from now");
    fixture.clock.advance(HOUR + SECOND);
    assert_eq!(fixture.asks("C-3", of(1)).await.1, Asked::Cleared);
    // Replicas differ by seconds: the one behind counts what the one ahead admitted.
    fixture.clock.set_back(5 * SECOND);
    assert_eq!(refused(fixture.asks("C-4", of(1)).await.1).admitted, 1);
}

async fn an_approval_is_for_one_try_and_is_not_counted(fixture: StoreFixture) {
    let id = fixture.asks_in_vain("C-1", of(0)).await;
    // Without an approval it meets the brake again.
    fixture.store.unpark(id, RetryRequest::Retry, BY).await.expect("the store is there").expect("it is parked");
    let mut claim = claimed(&fixture.store).await;
    assert_eq!(claim.work.clearance, Clearance::Unasked);
    assert!(matches!(ask(&fixture.store, &mut claim, of(0)).await, Asked::Refused { .. }));
    fixture.settle(&claim, braked()).await;
    let kind = fixture.store.unpark(id, RetryRequest::Approve, BY).await.expect("the store is there");
    assert_eq!(kind, Some(RowKind::Sent(EventKind::Churned)));
    // It survives a restart and back-off, and is cleared without being counted.
    let other = fixture.beside().await;
    let mut claim = claimed(&other).await;
    assert_eq!(claim.work.clearance, Clearance::Approved);
    assert_eq!(ask(&other, &mut claim, of(0)).await, Asked::Cleared);
    fixture.settle(&claim, Fate::Retry { at: fixture.clock.now(), setback: Setback::Unsent }).await;
    let claim = claimed(&other).await;
    assert_eq!((claim.work.clearance, fixture.admitted(of(0)).await), (Clearance::Approved, 0));
    // Parked for another reason, the approval is used up; and it never overrides that reason.
    fixture.settle(&claim, gave_up()).await;
    let approve = RetryRequest::Approve;
    assert_eq!(fixture.store.unpark(id, approve, BY).await.expect("the store is there"), None);
    let why = fixture.store.why_not_taken(id, approve).await.expect("the store is there");
    assert_eq!(why, NotTaken::NotApprovable("gave_up".to_owned()));
    assert_eq!(fixture.state(id).await, "parked");
    fixture.store.unpark(id, RetryRequest::Retry, BY).await.expect("the store is there").expect("it is parked");
    let mut claim = claimed(&fixture.store).await;
    assert_eq!(claim.work.clearance, Clearance::Unasked);
    assert!(matches!(ask(&fixture.store, &mut claim, of(0)).await, Asked::Refused { .. }));
}

async fn an_approval_of_many_releases_what_was_seen_and_survives_a_restart(fixture: StoreFixture) {
    let mut seen = Vec::new();
    for number in 0..5 {
        seen.push(fixture.asks_in_vain(&format!("C-{number}"), of(0)).await);
        fixture.clock.advance(SECOND);
    }
    let other_reason = fixture.ends("D-1", gave_up()).await;
    let groups = fixture.store.parked_groups(&ParkedFilter::default()).await.expect("the store is there");
    let group = groups.iter().find(|group| group.reason == "churn_brake").expect("they are listed");
    assert_eq!(group.types, [("customer.churned".to_owned(), 5)].into());
    let until = group.newest_at;
    fixture.clock.advance(SECOND);
    let unseen = fixture.asks_in_vain("C-9", of(0)).await;
    let ordered = fixture.store.order_approval(Reason::ChurnBrake, 1, until, BY).await.expect("the store is there");
    let Ordered::Running(retry) = ordered else { panic!("{ordered:?}") };
    assert_eq!((retry.total, retry.approve), (5, true));
    assert_eq!(retry.types.0, [("customer.churned".to_owned(), 5)].into());
    // Another process goes on with it.
    let other = fixture.beside().await;
    for _ in 0..10 {
        fixture.clock.advance(SECOND);
        let stepped = other.retry_step(u64::MAX).await.expect("the store is there");
        assert!(matches!(stepped, Stepped::Nothing | Stepped::Retried { .. }));
    }
    let ended = other.bulk_retry(&retry.id).await.expect("the store is there").expect("it is known");
    assert_eq!((ended.retried, ended.state, ended.approve), (5, RetryState::Done, true));
    for _ in &seen {
        let claim = claimed(&fixture.store).await;
        assert!(seen.contains(&claim.work.event.id));
        assert_eq!(claim.work.clearance, Clearance::Approved);
    }
    assert_eq!((fixture.state(unseen).await, fixture.state(other_reason).await), ("parked".into(), "parked".into()));
    // Without an approval the rest goes back uncleared.
    let ordered = fixture
        .store
        .order_retry(ParkedFilter::of_reason(Some(Reason::ChurnBrake)), 1_000, BY)
        .await
        .expect("the store is there");
    assert!(matches!(ordered, Ordered::Running(ref retry) if !retry.approve && retry.total == 1), "{ordered:?}");
    other.retry_step(u64::MAX).await.expect("the store is there");
    assert_eq!(claimed(&fixture.store).await.work.clearance, Clearance::Unasked);
}

async fn a_share_is_of_the_customers_who_are_active(fixture: StoreFixture) {
    let brake = Brake { count: Some(1), share: Some(Share::of(0.5)), window: HOUR };
    for number in 0..6 {
        fixture.joins(&format!("C-{number}")).await;
    }
    assert_eq!(fixture.store.active_customers().await.expect("the store is there"), 6);
    fixture.clock.advance(SECOND);
    fixture.becomes("C-0", Happening::Churned).await;
    fixture.becomes("C-1", Happening::Churned).await;
    fixture.clock.advance(SECOND);
    fixture.joins("C-1").await;
    let known = fixture.store.active_customers().await.expect("the store is there");
    assert_eq!(known, 6, "a number of a moment ago is believed");
    fixture.clock.advance(ACTIVE_AGE_MAX);
    let tally = fixture.store.brake_tally(brake).await.expect("the store is there");
    assert_eq!((tally.active, brake.limit(tally.active)), (Some(5), 2));
    for (customer, is_cleared) in [("C-1", true), ("C-2", true), ("C-3", false)] {
        let mut claim = fixture.leaves(customer).await;
        let asked = fixture.store.ask_brake(&mut claim, brake, tally.active).await.expect("the store is there");
        assert_eq!(asked == Asked::Cleared, is_cleared, "{customer}: {asked:?}");
    }
    // The number of customers is unknown: the count alone decides.
    let mut claim = fixture.leaves("C-4").await;
    let asked = ask(&fixture.store, &mut claim, Brake { count: Some(3), ..brake }).await;
    assert_eq!(asked, Asked::Cleared);
}

async fn connect(fixture: &StoreFixture) -> sqlx::AnyConnection {
    sqlx::any::install_default_drivers();
    sqlx::AnyConnection::connect(&fixture.url).await.expect("the database is there")
}

async fn a_store_of_the_version_before_knows_who_is_active(fixture: StoreFixture) {
    for customer in ["active", "left", "returned", "named \"churned\":null"] {
        fixture.joins(customer).await;
    }
    fixture.clock.advance(SECOND);
    fixture.becomes("left", Happening::Churned).await;
    fixture.becomes("returned", Happening::Churned).await;
    fixture.clock.advance(SECOND);
    fixture.joins("returned").await;
    fixture.becomes("never one", Happening::Churned).await;
    fixture.leaves("new").await;
    let mut connection = connect(&fixture).await;
    let read = "SELECT lane, active FROM customers ORDER BY lane";
    let before: Vec<(String, i64)> = sqlx::query_as(read).fetch_all(&mut connection).await.expect("readable");
    let active: Vec<&str> = before.iter().filter(|(_, active)| *active == 1).map(|(lane, _)| lane.as_str()).collect();
    assert_eq!(active, ["active", "named \"churned\":null", "returned"]);
    // As the migration finds it, but for the table: customers were in their lanes.
    sqlx::query("UPDATE customers SET active = 0").execute(&mut connection).await.expect("written");
    let migration = include_str!("../../src/store/migrations/0010_brake.sql");
    let (_, update) = migration.split_once("UPDATE lanes").expect("the migration tells who is active");
    let update = update.split_once(';').expect("a statement").0.replace("customer ", "state ");
    let update = format!("UPDATE customers{update}");
    sqlx::query(sqlx::AssertSqlSafe(update)).execute(&mut connection).await.expect("written");
    let after: Vec<(String, i64)> = sqlx::query_as(read).fetch_all(&mut connection).await.expect("readable");
    assert_eq!(after, before);
}

async fn a_claim_that_is_not_the_newest_decides_nothing(fixture: StoreFixture) {
    let mut old = fixture.leaves("C-1").await;
    fixture.clock.advance(LEASE + SECOND);
    let mut new = claimed(&fixture.store).await;
    assert_eq!(new.work.event.id, old.work.event.id);
    assert_eq!(ask(&fixture.store, &mut old, of(1)).await, Asked::Fenced);
    assert_eq!((old.work.clearance, fixture.admitted(of(1)).await), (Clearance::Unasked, 0));
    assert_eq!(ask(&fixture.store, &mut new, of(1)).await, Asked::Cleared);
}

/// The cancellation of a churn, said `after` now.
fn called_off(fixture: &StoreFixture, customer: &str) -> podero_bridge::store::Arrival {
    fixture.arrival(customer, Happening::CalledOff(Change::Existence))
}

async fn a_churn_that_is_called_off_does_not_wait_for_an_approval(fixture: StoreFixture) {
    let too_early = called_off(&fixture, "C-1");
    fixture.clock.advance(SECOND);
    let (one, other) = (fixture.asks_in_vain("C-1", of(0)).await, fixture.asks_in_vain("C-2", of(0)).await);
    // One that something was done for already: only it puts that right.
    let arrival = fixture.arrival("C-3", Happening::Churned);
    let begun = arrival.id;
    fixture.store.accept(vec![arrival]).await.expect("the store is there");
    let claim = claimed(&fixture.store).await;
    fixture
        .store
        .settle(&claim, StoreFixture::verdict(&claim, braked(), Vec::new()), calls(&fixture, Operation::ListHeatPumps))
        .await
        .expect("the store is there");
    fixture.store.accept(vec![too_early]).await.expect("the store is there");
    assert_eq!(fixture.state(one).await, "parked", "it was said before");
    fixture.clock.advance(SECOND);
    for customer in ["C-1", "C-3"] {
        fixture.store.accept(vec![called_off(&fixture, customer)]).await.expect("the store is there");
    }
    assert_eq!((fixture.state(one).await, fixture.state(other).await), ("superseded".into(), "parked".into()));
    assert_eq!(fixture.state(begun).await, "parked");
    let shown = fixture.store.event(one).await.expect("the store is there").expect("it is known");
    assert_eq!(shown.event.reason.as_deref(), Some("replaced"));
    assert_eq!(fixture.store.unpark(one, RetryRequest::Approve, BY).await.expect("the store is there"), None);
}

fn calls(fixture: &StoreFixture, operation: Operation) -> Vec<CallMade> {
    vec![CallMade {
        id: fixture.clock.fresh_id(),
        at: fixture.clock.now(),
        operation,
        outcome: "done".to_owned(),
        took: SECOND,
        idempotency_key: None,
    }]
}

/// A churn of this day, said now.
fn announced(fixture: &StoreFixture, customer: &str, on: Timestamp) -> podero_bridge::store::Arrival {
    let mut arrival = fixture.arrival(customer, Happening::Churned);
    let customer = CustomerId::accept(customer).expect("a printable id");
    arrival.content = podero_bridge::store::Content::Event(Event {
        id: arrival.id,
        customer,
        time: fixture.clock.now(),
        effective_at: Some(on),
        happening: Happening::Churned,
    });
    arrival
}

async fn what_was_called_off_is_not_done_when_it_is_retried(fixture: StoreFixture) {
    // On its day the user was looked up, and the brake refused; a person retries it in the moment of the cancellation.
    let arrival = announced(&fixture, "C-1", fixture.clock.now().plus(HOUR));
    let id = arrival.id;
    fixture.store.accept(vec![arrival]).await.expect("the store is there");
    fixture.clock.advance(HOUR + SECOND);
    fixture.store.promote().await.expect("the store is there");
    let claim = claimed(&fixture.store).await;
    let verdict = StoreFixture::verdict(&claim, braked(), Vec::new());
    fixture.store.settle(&claim, verdict, calls(&fixture, Operation::FindUser)).await.expect("the store is there");
    fixture.store.unpark(id, RetryRequest::Approve, BY).await.expect("the store is there").expect("it is parked");
    fixture.clock.advance(SECOND);
    fixture.store.accept(vec![called_off(&fixture, "C-1")]).await.expect("the store is there");
    assert!(fixture.store.claim(LEASE).await.expect("the store is there").is_none());
    assert_eq!(fixture.state(id).await, "superseded");
}

async fn a_churn_of_another_day_is_asked_about_on_its_day(fixture: StoreFixture) {
    let day = fixture.clock.now().plus(24 * HOUR);
    let arrivals: Vec<_> = ["C-1", "C-2"].iter().map(|customer| announced(&fixture, customer, day)).collect();
    fixture.store.accept(arrivals).await.expect("the store is there");
    assert!(fixture.store.claim(LEASE).await.expect("the store is there").is_none());
    // An announcement does not count today.
    assert_eq!(fixture.asks("C-3", of(1)).await.1, Asked::Cleared);
    fixture.clock.advance(24 * HOUR);
    fixture.store.promote().await.expect("the store is there");
    let mut answers = Vec::new();
    for _ in 0..2 {
        let mut claim = claimed(&fixture.store).await;
        while claim.work.event.customer.as_str() == "C-3" {
            claim = claimed(&fixture.store).await;
        }
        answers.push(ask(&fixture.store, &mut claim, of(1)).await == Asked::Cleared);
    }
    assert_eq!(answers, [true, false]);
}

async fn parked_churns_are_skipped_all_at_once(fixture: StoreFixture) {
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(fixture.asks_in_vain(&format!("C-{number}"), of(0)).await);
    }
    let other = fixture.ends("D-1", gave_up()).await;
    let skip = |reason| fixture.store.skip_unreadable(reason, None, BY);
    assert_eq!(skip(Some(Reason::GaveUp)).await.expect("the store is there"), 0);
    assert_eq!(skip(None).await.expect("the store is there"), 0, "all that never became events");
    assert_eq!(skip(Some(Reason::ChurnBrake)).await.expect("the store is there"), 3);
    for id in ids {
        assert_eq!(fixture.state(id).await, "skipped");
    }
    assert_eq!(fixture.state(other).await, "parked");
}

// --- the whole bridge ------------------------------------------------------------------------------------------------

/// A Podero that outlives the bridges.
fn podero() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let settings = sandbox::SandboxSettings { seed: Some(1), ..sandbox::SandboxSettings::default() };
    let sandbox = Sandbox::new(settings, podero_bridge::clock::Clock::system());
    tokio::spawn(sandbox::server(sandbox, listener).expect("listens"));
    address
}

fn settings(churn: &str) -> world::Settings {
    world::Settings { toml: format!("[watch]\nenabled = false\n[churn]\n{churn}\n"), ..world::Settings::default() }
}

impl World {
    /// Sends many at once.
    async fn send_all(&self, events: &[Value]) {
        for some in events.chunks(500) {
            let batch = Value::Array(some.to_vec()).to_string();
            let (status, answer) =
                self.post(&self.door("/v1/events"), "application/cloudevents-batch+json", batch).await;
            assert_eq!(status, 202, "{answer}");
        }
    }

    /// Waits until nothing is pending.
    async fn rests(&self) {
        until("nothing is pending", async || {
            let (_, text) = self.get_text(&self.operator("/metrics")).await;
            let is_zero = |name: &str| text.lines().any(|line| line == format!("{name} 0"));
            (is_zero("podero_bridge_events_pending")).then_some(())
        })
        .await;
    }

    async fn braked(&self) -> Value {
        self.get(&self.operator("/v1/parked?reason=churn_brake")).await
    }

    /// Waits until this many churns are parked.
    async fn until_braked(&self, count: usize) -> Value {
        until("as many are parked", async || {
            let listed = self.braked().await;
            (listed["parked"].as_array().map(Vec::len) == Some(count)).then_some(listed)
        })
        .await
    }
}

/// The living customers at Podero.
fn living(state: &Value) -> usize {
    let users = state["users"].as_array().expect("users");
    users.iter().filter(|user| user["deleted"] != json!(true) && user["deleted_at"].is_null()).count()
}

fn sign_ups(count: usize) -> Vec<Value> {
    (0..count).map(|number| sign_up(&format!("s-{number}"), &format!("C-{number}"), TIME)).collect()
}

fn churn(id: &str, customer: &str, time: &str) -> Value {
    event(id, "customer.churned", time, &json!({ "customer_id": customer }))
}

fn churns(count: usize) -> Vec<Value> {
    (0..count).map(|number| churn(&format!("c-{number}"), &format!("C-{number}"), LATER)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_wrong_export_fifty_leave_and_the_others_wait_for_a_person() {
    let world = World::start(Database::Sqlite, settings("brake_count = 50\nbrake_share = 0.02")).await;
    world.ready().await;
    world.send_all(&sign_ups(1_000)).await;
    until("all are customers", async || (living(&world.sandbox_state().await) == 1_000).then_some(())).await;
    world.rests().await;
    world.send_all(&churns(200)).await;
    let listed = world.until_braked(150).await;
    world.rests().await;
    assert_eq!(living(&world.sandbox_state().await), 950, "exactly fifty have left");
    let group = &listed["groups"][0];
    assert_eq!((&group["count"], &group["types"]), (&json!(150), &json!({"customer.churned": 150})), "{group}");
    assert!(listed["parked"][0]["detail"].as_str().expect("text").contains("the limit is 50"), "{listed}");
    for (series, value) in [
        ("podero_bridge_churns_braked", 150.0),
        ("podero_bridge_churns_admitted", 50.0),
        ("podero_bridge_churns_admitted_limit", 50.0),
    ] {
        until(series, async || (world.metric(series).await == Some(value)).then_some(())).await;
    }
    // An update of one whose churn is parked goes by it.
    let parked = listed["parked"][0].clone();
    let customer = parked["customer_id"].as_str().expect("an id");
    let update = event(
        "u-1",
        "customer.updated",
        "2026-10-03T12:00:00Z",
        &json!({"customer_id": customer, "first_name": "New"}),
    );
    assert_eq!(world.apply(&update).await["state"], "applied");

    // One alone, first without an approval.
    let retry = world.operator(&format!("/v1/parked/{}/retry", parked["id"].as_str().expect("an id")));
    for (body, status) in [(r#"{"approve":1}"#, 400), (r#"{"aprove":true}"#, 400), ("{", 400), ("{}", 200)] {
        assert_eq!(world.post(&retry, JSON, body.into()).await.0, status, "{body}");
    }
    world.until_braked(150).await;
    world.rests().await;
    assert_eq!(living(&world.sandbox_state().await), 950, "it met the brake again");
    assert_eq!(world.post(&retry, JSON, r#"{"approve":true}"#.into()).await.0, 200);
    until("it has left", async || (living(&world.sandbox_state().await) == 949).then_some(())).await;
    assert_eq!(world.post(&retry, JSON, r#"{"approve":true}"#.into()).await.0, 409, "it is parked no more");

    // All the others together.
    let orders = world.operator("/v1/parked/retry");
    for body in [
        r#"{"all":true,"approve":true}"#,
        r#"{"reason":"gave_up","approve":true}"#,
        r#"{"approve":true}"#,
        r#"{"reason":"churn_brake","approve":true,"source":"default"}"#,
        r#"{"reason":"churn_brake","approve":true,"until":"yesterday"}"#,
    ] {
        assert_eq!(world.post(&orders, JSON, body.into()).await.0, 400, "{body}");
    }
    let order = json!({"reason": "churn_brake", "approve": true, "per_second": 1000, "until": group["newest_at"]});
    let (status, ordered) = world.post(&orders, JSON, order.to_string()).await;
    // The one that was retried in vain was parked once more, after what was looked at; it has been approved since.
    assert_eq!((status, &ordered["total"], &ordered["approve"]), (202, &json!(149), &json!(true)), "{ordered}");
    assert_eq!(ordered["types"], json!({"customer.churned": 149}));
    until("all have left", async || (living(&world.sandbox_state().await) == 800).then_some(())).await;
    world.rests().await;
    assert_eq!(world.braked().await["groups"], json!([]));
    assert_eq!(world.metric("podero_bridge_churns_admitted").await, Some(50.0), "approved ones are not counted");
    let by = "token:none";
    assert_eq!(
        world.audited("event.approve").await,
        [format!("{by} event done - pending"), format!("{by} event refused not_parked pending")]
    );
    assert_eq!(world.audited("retry.approve").await, [format!("{by} retry done churn_brake 149")]);
    world.bridge.stop().await;
}

/// Sends many at once to a process.
async fn send_all(http: &reqwest::Client, bridge: &Running, events: &[Value]) {
    let request = http.post(format!("{}/v1/events", bridge.door));
    let request = request.header("content-type", "application/cloudevents-batch+json");
    let answer = request.body(Value::Array(events.to_vec()).to_string()).send().await.expect("an answer");
    assert_eq!(answer.status(), 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_admits_no_more() {
    let podero = podero();
    let folder = tempfile::tempdir().expect("a folder");
    let account = sandbox::SandboxAccount::default();
    let mut environment = running::on_file(folder.path());
    environment.extend([
        ("PODERO__BASE_URL", format!("http://{podero}")),
        ("PODERO__ORG_ID", account.org_id.to_string()),
        ("PODERO__CLIENT_ID", account.client_id),
        ("PODERO__CLIENT_SECRET", account.client_secret),
        ("PODERO__TIMEOUT", "1s".to_owned()),
        ("PODERO__MAX_IN_FLIGHT", "4".to_owned()),
        ("SOURCE__DEFAULT__VERIFY", "none".to_owned()),
        ("WATCH__ENABLED", "false".to_owned()),
        ("CHURN__BRAKE_COUNT", "10".to_owned()),
    ]);
    let http = reqwest::Client::new();
    let alive = async || {
        let state = http.get(format!("http://{podero}/_sandbox/state")).send().await.expect("an answer");
        living(&state.json().await.expect("JSON"))
    };
    let first = Running::start(folder.path(), &[], &environment);
    send_all(&http, &first, &sign_ups(40)).await;
    until("all are customers", async || (alive().await == 40).then_some(())).await;
    // Each deletion takes a while, so that the kill falls into the middle.
    let slow = json!({"operation": "delete_user", "kind": "latency", "latency_ms": 300});
    http.post(format!("http://{podero}/_sandbox/faults")).json(&slow).send().await.expect("an answer");
    send_all(&http, &first, &churns(40)).await;
    until("some have left", async || (alive().await <= 37).then_some(())).await;
    drop(first);
    let second = Running::start(folder.path(), &[], &environment);
    let metric = async |name: &str| {
        let text = http.get(format!("{}/metrics", second.operator)).send().await.ok()?.text().await.ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
    };
    until("thirty are parked and the others have left", async || {
        let braked = metric("podero_bridge_churns_braked ").await? == 30;
        (braked && metric("podero_bridge_events_pending ").await? == 0).then_some(())
    })
    .await;
    assert_eq!(alive().await, 30);
    assert_eq!(metric("podero_bridge_churns_admitted ").await, Some(10));
    assert!(second.log().matches("the churn brake has closed").count() <= 1, "a line for each time it closes");
    assert!(second.log().contains("the churn brake has closed"));
    assert_eq!(second.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_together_admit_no_more_than_one_would() {
    let podero = podero();
    let url = tokio::task::spawn_blocking(servers::fresh_database).await.expect("a database");
    let (one, other) = tokio::join!(
        World::start_beside(podero, &url, settings("brake_count = 10")),
        World::start_beside(podero, &url, settings("brake_count = 10")),
    );
    one.send_all(&sign_ups(60)).await;
    until("all are customers", async || (living(&one.sandbox_state().await) == 60).then_some(())).await;
    let all = churns(60);
    tokio::join!(one.send_all(&all[..30]), other.send_all(&all[30..]));
    one.until_braked(50).await;
    one.rests().await;
    assert_eq!(living(&one.sandbox_state().await), 50);
    let order = json!({"reason": "churn_brake", "approve": true, "per_second": 1000}).to_string();
    let (status, ordered) = other.post(&other.operator("/v1/parked/retry"), JSON, order).await;
    assert_eq!((status, &ordered["total"]), (202, &json!(50)), "{ordered}");
    until("all have left", async || (living(&one.sandbox_state().await) == 0).then_some(())).await;
    one.bridge.stop().await;
    other.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_something_to_lose_is_counted() {
    let podero = podero();
    let folder = tempfile::tempdir().expect("a folder");
    let url = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    let before = World::start_beside(podero, &url("before.db"), settings("")).await;
    before.send_all(&sign_ups(3)).await;
    until("all are customers", async || (living(&before.sandbox_state().await) == 3).then_some(())).await;
    before.bridge.stop().await;

    // A bridge that has never heard of them.
    let world = World::start_beside(podero, &url("bridge.db"), settings("brake_count = 2")).await;
    let end = async |event: Value| world.apply(&event).await["state"].as_str().expect("a state").to_owned();
    for number in 0..5 {
        assert_eq!(end(churn(&format!("n-{number}"), &format!("N-{number}"), LATER)).await, "applied", "of nobody");
    }
    assert_eq!(end(churn("c-0", "C-0", LATER)).await, "applied", "known to Podero alone");
    // Sent twice under two ids, and once more from before: the customer is gone already.
    assert_eq!(end(churn("c-0-again", "C-0", "2026-10-02T13:00:00Z")).await, "applied");
    assert_eq!(end(churn("c-0-older", "C-0", TIME)).await, "superseded");
    assert_eq!(
        end(event("off", "customer.churned", LATER, &json!({"customer_id": "C-1", "cancelled": true}))).await,
        "superseded"
    );
    assert_eq!(end(sign_up("m-1", "M-1", TIME)).await, "applied");
    assert_eq!(end(churn("m-1-left", "M-1", LATER)).await, "applied", "the second");
    assert_eq!(end(churn("c-1", "C-1", LATER)).await, "parked");
    assert_eq!(end(churn("n-9", "N-9", LATER)).await, "applied", "of nobody, with the brake closed");
    assert_eq!(world.metric("podero_bridge_churns_admitted_limit").await, Some(2.0));

    // A customer who signs up later has not left, no matter which approval follows.
    let parked = world.braked().await["parked"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(end(sign_up("s-later", "C-1", "2026-10-03T12:00:00Z")).await, "applied");
    let retry = world.operator(&format!("/v1/parked/{parked}/retry"));
    assert_eq!(world.post(&retry, JSON, r#"{"approve":true}"#.into()).await.0, 200);
    assert_eq!(world.settled(&parked).await["state"], "superseded");
    assert_eq!(living(&world.sandbox_state().await), 2);
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_limits_there_is_no_brake_and_its_limit_is_no_metric() {
    let world = World::start(Database::Sqlite, settings("brake_window = '1m'")).await;
    world.send_all(&sign_ups(5)).await;
    until("all are customers", async || (living(&world.sandbox_state().await) == 5).then_some(())).await;
    world.send_all(&churns(5)).await;
    until("all have left", async || (living(&world.sandbox_state().await) == 0).then_some(())).await;
    assert_eq!(world.metric("podero_bridge_churns_admitted_limit").await, None);
    assert_eq!(world.metric("podero_bridge_churns_braked").await, Some(0.0));
    world.bridge.stop().await;
}

// --- the command line ------------------------------------------------------------------------------------------------

fn at(fixture: &StoreFixture) -> Environment {
    vec![("STORE__URL", fixture.url.clone())]
}

/// The command line shows what it would release and releases it when asked to.
#[tokio::test]
async fn the_command_shows_what_it_would_release_first() {
    let fixture = StoreFixture::on_sqlite().await;
    let mut ids = Vec::new();
    for number in 0..4 {
        ids.push(fixture.asks_in_vain(&format!("C-{number}"), of(0)).await);
    }
    let gave_up = fixture.ends("D-1", gave_up()).await.to_string();
    let run = |arguments: &[&str]| {
        let output = running::run(arguments, &at(&fixture));
        (output.status.code(), running::said(&output))
    };
    let of_brake = ["parked", "retry", "--reason", "churn_brake", "--approve"];
    // There is no terminal to ask at: the command says what it would do.
    for more in [&[][..], &["--json"]] {
        let (status, said) = run(&[&of_brake[..], more].concat());
        assert_eq!(status, Some(64), "{said}");
        assert!(said.contains("4 events: customer.churned 4") && said.contains("--yes"), "{said}");
    }
    for bad in [
        &["parked", "retry", "--all", "--approve"][..],
        &["parked", "retry", "--reason", "gave_up", "--approve", "--yes"],
        &["parked", "retry", "--reason", "churn_brake", "--yes"],
        &["parked", "retry", &gave_up, "--approve", "--yes"],
    ] {
        assert_eq!(run(bad).0, Some(64), "{bad:?}");
    }
    for id in &ids {
        assert_eq!(fixture.state(*id).await, "parked", "nothing was released");
    }
    let (status, listed) = run(&["parked", "list"]);
    assert!(status == Some(0) && listed.contains("customer.churned 4"), "{listed}");
    let (status, said) = run(&["parked", "retry", &gave_up, "--approve"]);
    assert!(status == Some(1) && said.contains("not-approvable: it is parked as gave_up"), "{said}");
    let (status, said) = run(&["parked", "retry", &ids[0].to_string(), "--approve"]);
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = run(&["parked", "skip", &ids[1].to_string()]);
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = run(&[&of_brake[..], &["--yes", "--per-second", "1000"]].concat());
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("2 events: customer.churned 2") && said.contains("2 of 2 retried"), "{said}");
    // The command has the machine's clock.
    fixture.clock.advance(Duration::from_secs(100 * 365 * 86_400));
    for _ in 0..3 {
        assert_eq!(claimed(&fixture.store).await.work.clearance, Clearance::Approved);
    }
    let (status, said) = run(&[&of_brake[..], &["--yes"]].concat());
    assert!(status == Some(0) && said.contains("0 of 0 retried"), "nothing is left: {said}");
}
