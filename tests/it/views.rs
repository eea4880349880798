//! The views of the console and of `/v1`: groups and previews of parked events, rehearsals, the overview, the last day, customers by
//! their e-mail address, the fleet, and the close watch after a link was made.

use std::time::Duration;

use podero_bridge::domain::alert::{self, DiffContext, Observation, Outages, WatchPolicy};
use podero_bridge::domain::audit::{Action, AuditEntry, AuditTarget, TargetKind};
use podero_bridge::domain::call::Operation;
use podero_bridge::domain::event::{Details, Field, Happening};
use podero_bridge::domain::identity::Actor;
use podero_bridge::domain::notice::{Notice, Topic};
use podero_bridge::domain::verdict::{Fate, Reason};
use podero_bridge::domain::{EventId, Timestamp};
use podero_bridge::store::{
    BucketCounts, CLOSE_POLL_EVERY, CLOSE_WATCH_TIME, CLOSE_WATCHES_MAX, COUNT_MAX, CallMade, CloseLook, Member,
    Observed, Ordered, ParkedFilter, PumpFilter, RetryState, Roster, Stepped, TimelineCursor, TimelineEntry,
    WatchedFor, bucket_of,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection};
use uuid::Uuid;

use crate::kit::{BY, StoreFixture, on_both_databases};
use crate::world::{Database, Settings, World, event, sign_up, until};

const TIME: &str = "2026-10-01T12:00:00Z";
const HOUR: Duration = Duration::from_hours(1);

on_both_databases! {
    groups_and_previews_go_by_the_filter_of_the_order
    a_large_group_is_counted_up_to_a_limit
    messages_that_were_cut_are_counted_among_those_that_are_looked_at
    a_narrowed_retry_looks_at_a_bounded_number_of_events_in_a_step
    the_history_adds_up_what_the_replicas_counted
    customers_are_found_by_their_address_also_those_of_an_earlier_version
    a_close_watch_makes_its_pump_due_until_it_is_back
    the_fleet_is_counted_by_state_manufacturer_and_region
    a_timeline_goes_on_where_its_page_ended_whatever_comes_in
}

fn parked(reason: Reason) -> Fate {
    Fate::Parked { reason, detail: "no".to_owned() }
}

async fn run_sql(url: &str, sql: &str) {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(url).await.expect("the database is there");
    sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect("written");
    connection.close().await.expect("closed");
}

/// Parks a number of events of the source `other` at once.
async fn park_many(fixture: &StoreFixture, count: u64) {
    let at = fixture.clock.now().micros();
    run_sql(
        &fixture.url,
        &format!(
            "INSERT INTO events (id, lane, origin, origin_id, source, transport, type, time, received_at, tries_from, due_at, \
             state, failures, reason, digest, event, raw, raw_encoding, settled_at, scope) \
             WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) \
             SELECT '01900000-0000-7000-8000-' || CAST(100000000000 + n AS TEXT), 'L-' || CAST(n AS TEXT), '/other', \
             CAST(n AS TEXT), 'other', 'http', 'customer.updated', {at}, {at}, {at}, {at}, 'parked', 0, 'refused', 'd', '{{}}', \
             '', 'utf8', {at}, 'other' FROM numbers"
        ),
    )
    .await;
}

async fn groups_and_previews_go_by_the_filter_of_the_order(fixture: StoreFixture) {
    let store = &fixture.store;
    let mut refused: Vec<EventId> = Vec::new();
    for number in 0..4 {
        refused.push(fixture.ends(&format!("C-{number}"), parked(Reason::Refused)).await);
        fixture.clock.advance(HOUR);
    }
    fixture.ends("C-9", parked(Reason::GaveUp)).await;
    let from = Timestamp::parse(TIME).expect("a time");
    let groups = store.parked_groups(&ParkedFilter::default()).await.expect("the store is there");
    let shown: Vec<_> = groups.iter().map(|g| (g.reason.as_str(), g.count, g.retryable, g.is_capped)).collect();
    assert_eq!(shown, [("gave_up", 1, 1, false), ("refused", 4, 4, false)]);
    assert_eq!((groups[1].oldest_at, groups[1].newest_at), (from, from.plus(3 * HOUR)));
    assert_eq!(groups[1].types, [("customer.updated".to_owned(), 4)].into());
    // Events parked within two hours, for any reason.
    let window =
        ParkedFilter { since: Some(from.plus(HOUR)), until: Some(from.plus(2 * HOUR)), ..ParkedFilter::default() };
    let preview = store.parked_preview(&window).await.expect("the store is there");
    let sample: Vec<EventId> = preview.sample.iter().map(|event| event.id).collect();
    assert_eq!((preview.count, preview.retryable, preview.is_capped, &*sample), (2, 2, false, &refused[1..3]));
    let others = ParkedFilter { source: Some("nobody".to_owned()), ..ParkedFilter::default() };
    let none = store.parked_preview(&others).await.expect("the store is there");
    assert_eq!((none.count, none.groups.len(), none.sample.len()), (0, 0, 0));
    // The order covers what the preview showed, and nothing else.
    let ordered = store.order_retry(window.clone(), 1_000, BY).await.expect("the store is there");
    let Ordered::Running(retry) = ordered else { panic!("none runs: {ordered:?}") };
    assert_eq!((retry.total, retry.since, retry.ordered_at), (2, window.since, from.plus(2 * HOUR)));
    while store.bulk_retry(&retry.id).await.expect("the store is there").expect("known").state == RetryState::Running {
        fixture.clock.advance(Duration::from_secs(1));
        store.retry_step(u64::MAX).await.expect("the store is there");
    }
    let mut states = Vec::new();
    for id in &refused {
        states.push(fixture.state(*id).await);
    }
    assert_eq!(states, ["parked", "pending", "pending", "parked"]);
}

async fn a_large_group_is_counted_up_to_a_limit(fixture: StoreFixture) {
    park_many(&fixture, COUNT_MAX + 5).await;
    fixture.clock.advance(HOUR);
    fixture.ends("C-1", parked(Reason::Refused)).await;
    let groups = fixture.store.parked_groups(&ParkedFilter::default()).await.expect("the store is there");
    let [group] = &*groups else { panic!("one reason: {groups:?}") };
    assert_eq!((group.count, group.retryable, group.is_capped), (COUNT_MAX, COUNT_MAX, true));
    assert_eq!(group.newest_at, fixture.clock.now(), "the newest is known all the same");
    let preview = fixture.store.parked_preview(&ParkedFilter::default()).await.expect("the store is there");
    assert!(preview.is_capped && preview.count == COUNT_MAX && preview.sample.len() == 20, "{preview:?}");
    let work = fixture.store.work().await.expect("the store is there");
    assert_eq!((work.parked.count, work.parked.is_capped, work.pending.count), (COUNT_MAX, true, 0));
}

/// Cut messages beyond the limit take nothing from the number of those that a retry can put back to work.
async fn messages_that_were_cut_are_counted_among_those_that_are_looked_at(fixture: StoreFixture) {
    park_many(&fixture, COUNT_MAX + 50).await;
    let place = "CAST(origin_id AS BIGINT)";
    for statement in [
        format!("UPDATE events SET settled_at = settled_at + {place}"),
        format!(
            "UPDATE events SET lane = NULL, event = NULL, envelope = '{{}}' WHERE {place} <= 10 OR {place} > {COUNT_MAX}"
        ),
        format!("UPDATE events SET envelope = '{{\"body_bytes\":1}}' WHERE {place} <= 3 OR {place} > {COUNT_MAX}"),
    ] {
        run_sql(&fixture.url, &statement).await;
    }
    let groups = fixture.store.parked_groups(&ParkedFilter::default()).await.expect("the store is there");
    let [group] = &*groups else { panic!("one reason: {groups:?}") };
    assert_eq!((group.count, group.retryable, group.is_capped), (COUNT_MAX, COUNT_MAX - 3, true));
    let types: Vec<_> = group.types.iter().map(|(kind, count)| (&**kind, *count)).collect();
    assert_eq!(types, [("", 7), ("customer.updated", COUNT_MAX - 10)]);
}

async fn a_narrowed_retry_looks_at_a_bounded_number_of_events_in_a_step(fixture: StoreFixture) {
    park_many(&fixture, 4_100).await;
    let wanted = fixture.ends("C-1", parked(Reason::Refused)).await;
    let filter = ParkedFilter { source: Some("default".to_owned()), ..ParkedFilter::default() };
    let ordered = fixture.store.order_retry(filter, 1, BY).await.expect("the store is there");
    let Ordered::Running(retry) = ordered else { panic!("none runs: {ordered:?}") };
    assert_eq!((retry.total, retry.source.as_deref()), (1, Some("default")));
    let mut steps = Vec::new();
    for _ in 0..4 {
        let stepped = fixture.store.retry_step(u64::MAX).await.expect("the store is there");
        steps.push(if let Stepped::Retried { count, .. } = stepped { Some(count) } else { None });
        fixture.clock.advance(Duration::from_secs(1));
    }
    // Two thousand at a time; the last step finds that there are no more.
    assert_eq!(steps, [Some(0), Some(0), Some(1), Some(0)]);
    assert_eq!(fixture.state(wanted).await, "pending");
    let ended = fixture.store.bulk_retry(&retry.id).await.expect("the store is there").expect("known");
    assert_eq!((ended.state, ended.retried), (RetryState::Done, 1));
}

async fn the_history_adds_up_what_the_replicas_counted(fixture: StoreFixture) {
    let (store, now) = (&fixture.store, fixture.clock.now());
    let at = bucket_of(now);
    let counts = |received, pending| BucketCounts { received, settled: 1, pending, ..BucketCounts::default() };
    let [one, other] = [1, 2].map(Uuid::from_u128);
    store.keep_bucket(one, at, counts(3, Some(7))).await.expect("the store is there");
    // A write that comes twice counts nothing twice.
    store.keep_bucket(one, at, counts(5, Some(9))).await.expect("the store is there");
    store.keep_bucket(other, at, counts(10, None)).await.expect("the store is there");
    store.keep_bucket(one, bucket_of(now.minus(HOUR)), counts(1, None)).await.expect("the store is there");
    store.keep_bucket(one, bucket_of(now.minus(49 * HOUR)), counts(100, None)).await.expect("the store is there");
    let shown = async || {
        let buckets = store.history().await.expect("the store is there");
        buckets.iter().map(|bucket| (bucket.at, bucket.received, bucket.settled, bucket.pending)).collect::<Vec<_>>()
    };
    assert_eq!(shown().await, [(bucket_of(now.minus(HOUR)), 1, 1, None), (at, 15, 2, Some(9))]);
    store.forget_buckets().await.expect("the store is there");
    fixture.clock.advance(25 * HOUR);
    assert_eq!(shown().await, []);
    assert_eq!(count(&fixture, "SELECT COUNT(*) FROM history").await, 3, "the oldest is gone");
}

async fn count(fixture: &StoreFixture, sql: &str) -> i64 {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(&fixture.url).await.expect("the database is there");
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await.expect("counted")
}

async fn customers_are_found_by_their_address_also_those_of_an_earlier_version(fixture: StoreFixture) {
    use podero_bridge::domain::event::{Details, Field};
    let store = &fixture.store;
    let with_email = |email: &str| Details { personal: [(Field::Email, email.into())].into(), ..Details::default() };
    for (customer, email) in [("C-1", "Anna@Example.com"), ("C-2", "bert@example.com")] {
        let arrival = fixture.arrival(customer, Happening::Updated(with_email(email)));
        store.accept(vec![arrival]).await.expect("the store is there");
        let claim = store.claim(HOUR).await.expect("the store is there").expect("something is due");
        let mut verdict = StoreFixture::verdict(&claim, Fate::Applied { stale: Vec::new() }, Vec::new());
        verdict.state.facts = verdict.state.facts.merge(&claim.work.event).facts;
        store.settle(&claim, verdict, Vec::new()).await.expect("the store is there");
    }
    let found = async |email: &str| {
        let found = store.customers_by_email(email).await.expect("the store is there");
        found.customers.into_iter().map(|customer| customer.customer_id).collect::<Vec<_>>()
    };
    assert_eq!(found("anna@EXAMPLE.com").await, ["C-1"]);
    assert_eq!(found("anna").await, [""; 0]);
    assert_eq!(store.hash_emails().await.expect("the store is there"), 0, "all are hashed");
    // An earlier version wrote no hashes, and changed an address without its hash.
    run_sql(&fixture.url, "UPDATE customers SET email_hash = NULL").await;
    assert_eq!(found("anna@example.com").await, [""; 0]);
    assert_eq!(store.hash_emails().await.expect("the store is there"), 2);
    assert_eq!(
        (found("anna@example.com").await, found("bert@example.com").await),
        (vec!["C-1".to_owned()], vec!["C-2".to_owned()])
    );
    run_sql(&fixture.url, "UPDATE customers SET state = REPLACE(state, 'bert@', 'carl@')").await;
    assert_eq!(found("bert@example.com").await, [""; 0], "it is theirs no more");
    store.erase("C-1", &[], true, BY).await.expect("the store is there").expect("forced");
    assert_eq!(found("anna@example.com").await, [""; 0]);
    assert_eq!(count(&fixture, "SELECT COUNT(*) FROM customers").await, 1);
}

/// Users with a heat pump each, numbered from 1; the pumps have ids from 1,001 on.
async fn watched(fixture: &StoreFixture, count: u64) {
    let due = fixture.clock.now().plus(HOUR);
    let member = |number: u64| Member {
        user: Uuid::from_u128(number.into()),
        customer: Some(format!("C-{number}")),
        region: None,
        first_due: due,
    };
    let (members, asked_at) = ((1..=count).map(member).collect(), fixture.clock.now());
    let roster = Roster { members, asked_at, lists_to_remove: 3, break_after: Duration::from_mins(20) };
    fixture.store.keep_roster(roster).await.expect("the store is there");
}

/// Writes down a poll of a user that shows the heat pump connected or not.
async fn polled(fixture: &StoreFixture, number: u64, is_connected: bool, maker: &str) {
    let (user, heat_pump) = (Uuid::from_u128(number.into()), Uuid::from_u128(u128::from(number) + 1_000));
    let now = fixture.clock.now();
    let shown = Observation {
        heat_pump,
        is_authenticated: Some(is_connected),
        updated_at: Some(now),
        manufacturer: Some(maker.to_owned()),
        ..Observation::default()
    };
    let before = fixture.store.remembered(&[heat_pump]).await.expect("the store is there").pop();
    let customer = format!("C-{number}");
    let outages = Outages::default();
    let around = DiffContext::plain(user, Some(&customer), &outages);
    let policy = WatchPolicy { disconnect_after: Duration::ZERO, disconnect_polls: 1, ..WatchPolicy::DEFAULT };
    let change = alert::diff(before.as_ref(), &shown, &around, now, &policy);
    let observed = Observed { user, changes: vec![change], due_at: now.plus(HOUR) };
    fixture.store.observe(observed).await.expect("the store is there");
}

async fn a_close_watch_makes_its_pump_due_until_it_is_back(fixture: StoreFixture) {
    let (store, most) = (&fixture.store, CLOSE_WATCHES_MAX);
    watched(&fixture, most + 1).await;
    for number in 1..=most + 1 {
        polled(&fixture, number, false, "Vaillant").await;
    }
    let begin = async |number: u64| {
        let (user, heat_pump) = (Uuid::from_u128(number.into()), Uuid::from_u128(u128::from(number) + 1_000));
        let watched_for = if number == 1 { WatchedFor::Owner } else { WatchedFor::Agent };
        store.watch_closely(heat_pump, user, watched_for).await.expect("the store is there")
    };
    let end = Some(fixture.clock.now().plus(CLOSE_WATCH_TIME));
    for number in 1..=most {
        assert_eq!(begin(number).await, end);
    }
    assert_eq!((begin(most + 1).await, begin(1).await), (None, end), "as many as may; one that runs begins again");
    let due = async || store.due_polls(100, Duration::from_secs(1)).await.expect("the store is there").users.len();
    let take =
        async |store: &podero_bridge::store::Store| store.take_close_watches().await.expect("the store is there");
    assert_eq!((take(store).await, due().await), (CloseLook::default(), 0));
    fixture.clock.advance(CLOSE_POLL_EVERY);
    // One replica takes them, for all.
    let other = fixture.beside().await;
    assert_eq!((take(&other).await.due, take(store).await.due), (usize::try_from(most).expect("few"), 0));
    assert_eq!(due().await, usize::try_from(most).expect("few"));
    for number in 1..=most {
        polled(&fixture, number, number == 1, "Vaillant").await;
    }
    fixture.clock.advance(CLOSE_POLL_EVERY);
    let due = usize::try_from(most).expect("few") - 1;
    assert_eq!(take(store).await, CloseLook { due, back_by_owner: 1 }, "the first is back, by its owner's link");
    let view = async |number: u128| {
        let id = Uuid::from_u128(number + 1_000).to_string();
        store.pump_detail(&id).await.expect("the store is there").expect("it is known")
    };
    let back = view(1).await.close_watch.expect("it was watched");
    assert_eq!((back.connected_at, Some(back.until)), (Some(fixture.clock.now()), end));
    assert_eq!(view(2).await.close_watch.expect("it is watched").connected_at, None);
    // As the page of its owner's link sees it.
    let owned = store.owned_pump(Uuid::from_u128(1_001)).await.expect("the store is there").expect("it is known");
    assert_eq!((owned.customer.as_deref(), owned.standing.owner), (Some("C-1"), Uuid::from_u128(1)));
    assert!(owned.standing.is_connected && !owned.standing.is_retired, "{owned:?}");
    assert!(store.owned_pump(Uuid::nil()).await.expect("the store is there").is_none());
    let languages = store.owner_languages("C-1").await.expect("the store is there");
    assert_eq!((languages.named, languages.of_country), (None, None), "nothing is known of the customer");
    assert_eq!(view(u128::from(most) + 1).await.close_watch, None);
    fixture.clock.advance(CLOSE_WATCH_TIME);
    assert_eq!(take(store).await, CloseLook::default(), "the others have ended");
    assert!(begin(most + 1).await.is_some(), "and there is room again");
    store.erase("C-1", &[], true, BY).await.expect("the store is there").expect("forced");
    assert_eq!(count(&fixture, "SELECT COUNT(*) FROM close_watches").await, i64::try_from(most).expect("few"));
}

/// An event of the customer `C-1` with a call, and an outgoing event to two targets.
async fn with_all(fixture: &StoreFixture, number: u64) -> EventId {
    let store = &fixture.store;
    let details = Details { personal: [(Field::FirstName, "x".into())].into(), ..Details::default() };
    let arrival = fixture.arrival("C-1", Happening::Updated(details));
    let id = arrival.id;
    store.accept(vec![arrival]).await.expect("the store is there");
    let claim = store.claim(HOUR).await.expect("the store is there").expect("something is due");
    let at = fixture.clock.now();
    let notice = Notice {
        id: Uuid::from_u128(number.into()),
        topic: Topic::CustomerRelocated,
        order_key: "customer/C-1".to_owned(),
        subject: "C-1".to_owned(),
        time: at,
        data: json!({"number": number}),
    };
    let call = CallMade {
        id: fixture.clock.fresh_id(),
        at,
        operation: Operation::FindUser,
        outcome: "found".to_owned(),
        took: Duration::ZERO,
        idempotency_key: None,
    };
    let verdict = StoreFixture::verdict(&claim, Fate::Applied { stale: Vec::new() }, vec![notice]);
    store.settle(&claim, verdict, vec![call]).await.expect("the store is there");
    let columns = "seq, topic, order_key, customer, body, created_at, due_at, failures, state";
    let other_target =
        format!("INSERT INTO notices (id, target, {columns}) SELECT id, 'webhook', {columns} FROM notices");
    run_sql(&fixture.url, &format!("{other_target} WHERE id = '{}'", Uuid::from_u128(number.into()))).await;
    let target = AuditTarget::new(TargetKind::Event, id.to_string());
    let skip = AuditEntry::done(at, Actor::Cli("anna".to_owned()), Action::EventSkip, target);
    let target = AuditTarget::new(TargetKind::Customer, "C-1");
    let erase = AuditEntry::done(at, Actor::Cli("anna".to_owned()), Action::CustomerErase, target.clone());
    let by_bridge = AuditEntry::done(at, Actor::Bridge, Action::CustomerErase, target);
    let note = Some("asked for".to_owned());
    store.record(vec![skip, AuditEntry { note, ..erase }, by_bridge]).await.expect("the store is there");
    fixture.clock.advance(HOUR);
    id
}

async fn a_timeline_goes_on_where_its_page_ended_whatever_comes_in(fixture: StoreFixture) {
    let mut events = Vec::new();
    for number in 1..=4 {
        events.push(with_all(&fixture, number).await);
    }
    events.reverse();
    for limit in 1..=5 {
        let (mut shown, mut from) = (Vec::new(), None);
        loop {
            let page = fixture.store.timeline("C-1", from, limit).await.expect("the store is there");
            let is_whole = i64::try_from(page.entries.len()).is_ok_and(|count| count == limit || count == limit + 1);
            assert!(is_whole || page.next.is_none(), "{page:?}");
            shown.extend(page.entries);
            let Some(next) = page.next else { break };
            from = TimelineCursor::parse(&next.to_string());
            assert_eq!(from, Some(next));
            if shown.len() == 1 && limit == 1 {
                with_all(&fixture, 5).await;
            }
        }
        let of = |kind: &str| {
            let told = shown.iter().map(|entry| serde_json::to_value(entry).expect("JSON"));
            told.filter(|entry| entry["kind"] == kind).collect::<Vec<_>>()
        };
        let ids: Vec<Value> = of("event").iter().map(|event| event["id"].clone()).collect();
        let new: Vec<EventId> = ids.iter().filter_map(|id| id.as_str()?.parse().ok().map(EventId)).collect();
        let known = if limit == 1 { &new[..] } else { &new[1..] };
        assert_eq!(known, events, "each once, the newest first, and of those that came in meanwhile none");
        for event in of("event") {
            assert_eq!(
                (&event["calls"][0]["operation"], event["calls"].as_array().map(Vec::len)),
                (&json!("find_user"), Some(1))
            );
            assert_eq!(
                (&event["acts"][0]["action"], event["acts"].as_array().map(Vec::len)),
                (&json!("event.skip"), Some(1))
            );
        }
        let count = known.len() + usize::from(limit > 1);
        assert_eq!((of("notice").len(), of("act").len()), (2 * count, count), "limit {limit}");
        assert!(of("act").iter().all(|act| act["actor"] == "cli:anna" && act["note"] == "asked for"));
        let impersonal = shown.into_iter().map(TimelineEntry::impersonal);
        let text = serde_json::to_string(&impersonal.collect::<Vec<_>>()).expect("JSON");
        assert!(!text.contains("asked for") && !text.contains("\"data\""), "{text}");
    }
    let nobody = fixture.store.timeline("nobody", None, 10).await.expect("the store is there");
    assert!(nobody.entries.is_empty() && nobody.next.is_none());
}

async fn the_fleet_is_counted_by_state_manufacturer_and_region(fixture: StoreFixture) {
    watched(&fixture, 5).await;
    for (number, is_connected, maker) in
        [(1, true, "Daikin"), (2, true, "Vaillant"), (3, true, "Vaillant"), (4, true, "Vaillant"), (5, true, "Daikin")]
    {
        polled(&fixture, number, is_connected, maker).await;
    }
    fixture.clock.advance(HOUR);
    polled(&fixture, 3, false, "Vaillant").await;
    run_sql(&fixture.url, "UPDATE pumps SET region = 'DE-01' WHERE manufacturer = 'Vaillant'").await;
    let fleet = fixture.store.fleet().await.expect("the store is there");
    let states = |states: &std::collections::BTreeMap<String, podero_bridge::store::CappedCount>| {
        let counts = states.iter().filter(|(_, count)| count.count > 0);
        counts.map(|(state, count)| (state.clone(), count.count)).collect::<Vec<_>>()
    };
    let counted = |counts: &[(&str, u64)]| counts.iter().map(|(s, n)| ((*s).to_owned(), *n)).collect::<Vec<_>>();
    assert_eq!(states(&fleet.states), counted(&[("connected", 4), ("disconnected", 1)]));
    let groups: Vec<_> = fleet.manufacturers.iter().map(|group| (&*group.name, states(&group.states))).collect();
    let of_vaillant = counted(&[("connected", 2), ("disconnected", 1)]);
    assert_eq!(groups, [("Daikin", counted(&[("connected", 2)])), ("Vaillant", of_vaillant.clone())]);
    let groups: Vec<_> = fleet.regions.iter().map(|group| (&*group.name, states(&group.states))).collect();
    assert_eq!(groups, [("DE-01", of_vaillant)]);
    // Lists by several things at once.
    let list = async |filter: PumpFilter| {
        let page = fixture.store.heat_pumps(PumpFilter { limit: 10, ..filter }).await.expect("the store is there");
        page.into_iter().map(|pump| pump.customer_id.unwrap_or_default()).collect::<Vec<_>>()
    };
    let text = |text: &str| Some(text.to_owned());
    let all = PumpFilter::default;
    assert_eq!(list(PumpFilter { state: text("disconnected"), ..all() }).await, ["C-3"]);
    let both = PumpFilter { state: text("connected"), manufacturer: text("Vaillant"), ..all() };
    assert_eq!(list(both.clone()).await, ["C-2", "C-4"]);
    assert_eq!(list(PumpFilter { region: text("DE-01"), ..both.clone() }).await, ["C-2", "C-4"]);
    assert_eq!(list(PumpFilter { after: Some(Uuid::from_u128(1_002).to_string()), ..both }).await, ["C-4"]);
    assert_eq!(list(PumpFilter { has_alert: true, manufacturer: text("Vaillant"), ..all() }).await, ["C-3"]);
    // All that is known of one.
    let id = Uuid::from_u128(1_003).to_string();
    let detail = fixture.store.pump_detail(&id).await.expect("the store is there").expect("it is known");
    assert_eq!((detail.was_connected, detail.lost_at), (true, Some(fixture.clock.now())));
    let [occurrence] = &*detail.occurrences else { panic!("one alert: {:?}", detail.occurrences) };
    let open = detail.pump.alert.expect("it is open");
    assert_eq!((&occurrence.occurrence_id, &occurrence.resolution), (&open.occurrence_id, &None));
    assert!(fixture.store.pump_detail("nobody").await.expect("the store is there").is_none());
}

fn watchful() -> Settings {
    let toml = "[watch]\ninterval = \"1s\"\ndisconnect_after = \"0s\"\ndisconnect_polls = 1\n\
                [onboarding]\nenabled = true\nsuccess_url = \"https://utility.example/done\"\n\
                cancel_url = \"https://utility.example/no\"\nlanguage = \"de\"\nprice_zone = \"DE_LU\"\n";
    Settings { toml: toml.to_owned(), environment: vec![("ADMIN__TOKEN", "a-token-that-nobody-knows".to_owned())] }
}

/// A get with the token of the administrator.
async fn get(world: &World, path: &str) -> Value {
    let request = world.http.get(world.operator(path)).bearer_auth("a-token-that-nobody-knows");
    request.send().await.expect("an answer").json().await.expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn overview_history_and_settings_tell_how_it_is_and_no_secret() {
    let world = World::start(Database::Sqlite, watchful()).await;
    let (status, answer) = world.send(&sign_up("e1", "C-1", TIME)).await;
    assert_eq!(status, 202, "{answer}");
    let overview = until("it is worked on", async || {
        let overview = get(&world, "/v1/overview").await;
        (overview["work"]["pending"]["count"] == 0 && overview["replicas"].as_array().map(Vec::len) == Some(1))
            .then_some(overview)
    })
    .await;
    let names: Vec<&str> =
        overview["parts"].as_array().expect("parts").iter().filter_map(|part| part["name"].as_str()).collect();
    assert!(names.contains(&"store") && names.contains(&"podero"), "{overview}");
    assert_eq!(
        (&overview["is_ready"], &overview["work"]["oldest_pending_at"]),
        (&json!(true), &Value::Null),
        "{overview}"
    );
    assert_eq!(get(&world, "/v1/history").await["bucket_seconds"], 600);
    let settings = get(&world, "/v1/settings").await;
    assert!(!settings.to_string().contains("a-token-that-nobody-knows"), "{settings}");
    let of = |key: &str| {
        let all = settings["settings"].as_array().expect("a list");
        all.iter().find(|setting| setting["key"] == key).cloned().unwrap_or_default()
    };
    assert_eq!(
        of("admin.token"),
        json!({"key": "admin.token", "value": null, "origin": "environment", "is_hidden": true})
    );
    assert_eq!(
        of("watch.interval"),
        json!({"key": "watch.interval", "value": "1s", "origin": "file", "is_hidden": false})
    );
    assert_eq!(of("http.batch_max")["origin"], "default");
    assert_eq!(settings["schema"]["version"], settings["schema"]["known"]);
    assert_eq!(get(&world, "/v1/operators").await, json!({"operators": []}));
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_shows_the_calls_of_a_retry_and_makes_none() {
    let world = World::start(Database::Sqlite, Settings::default()).await;
    world.fault(&json!({"operation": "create_user", "kind": "status", "status": 400})).await;
    let parked = world.apply(&sign_up("e1", "C-1", TIME)).await;
    assert_eq!(parked["state"], "parked", "{parked}");
    let id = parked["id"].as_str().expect("an id");
    let requests = world.get(&world.sandbox("/requests")).await;
    let rehearsal = world.get(&world.operator(&format!("/v1/parked/{id}/rehearsal"))).await;
    let calls: Vec<&str> =
        rehearsal["calls"].as_array().expect("calls").iter().filter_map(|call| call["operation"].as_str()).collect();
    assert_eq!(calls, ["create_user", "create_building"], "it knows that there is no such user: {rehearsal}");
    assert_eq!((&rehearsal["outcome"], &rehearsal["tells"]), (&json!("applied"), &json!(["customer.provisioned"])));
    assert_eq!(rehearsal["calls"][0]["body"]["email"], "C-1@example.com", "{rehearsal}");
    assert_eq!(world.get(&world.sandbox("/requests")).await, requests, "Podero heard nothing");
    world.no_faults().await;
    let applied = world.apply(&sign_up("e2", "C-2", TIME)).await;
    let path = format!("/v1/parked/{}/rehearsal", applied["id"].as_str().expect("an id"));
    assert_eq!(world.get(&world.operator(&path)).await["type"], "urn:podero-bridge:problem:not-parked");
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrowed_order_names_what_it_narrows() {
    let world = World::start(Database::Sqlite, Settings::default()).await;
    let order = async |body: Value| {
        let url = world.operator("/v1/parked/retry");
        let (status, answer) = world.post(&url, "application/json", body.to_string()).await;
        (status, answer["detail"].as_str().unwrap_or_default().to_owned())
    };
    for (body, expected) in [
        (json!({}), (400, "send `{")),
        (json!({"all": true, "source": "crm"}), (400, "send `{")),
        (json!({"since": "yesterday"}), (400, "`since` is a date")),
        (json!({"reason": "churn_brake", "approve": true, "since": "2026-10-01"}), (400, "an approval goes by")),
        (json!({"reason": "refused", "since": "2026-10-01", "until": "2026-10-02T00:00:00Z"}), (202, "")),
        (json!({"source": "crm"}), (202, "")),
    ] {
        let (status, detail) = order(body.clone()).await;
        assert!(status == expected.0 && detail.starts_with(expected.1), "{body}: {status} {detail}");
        until("none runs", async || {
            let retries = world.get(&world.operator("/v1/parked/retries")).await;
            (!retries.to_string().contains("running")).then_some(())
        })
        .await;
    }
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_link_was_made_the_pump_is_seen_coming_back() {
    let world = World::start(Database::Sqlite, Settings { environment: Vec::new(), ..watchful() }).await;
    world.apply(&sign_up("e1", "C-1", TIME)).await;
    let state = world.sandbox_state().await;
    let user = state["users"][0]["id"].as_str().expect("a user").to_owned();
    let url = world.sandbox(&format!("/users/{user}/heat-pumps"));
    let (_, made) = world.post(&url, "application/json", json!({"manufacturer": "Vaillant"}).to_string()).await;
    let pump = made["id"].as_str().expect("a pump").to_owned();
    let of_pump = format!("/v1/heat-pumps/{pump}");
    let view = async || world.get(&world.operator(&of_pump)).await;
    until("it is seen", async || (view().await["state"] == "connected").then_some(())).await;
    let lapse = world.sandbox(&format!("/heat-pumps/{pump}/lapse"));
    assert_eq!(world.post(&lapse, "application/json", "{}".to_owned()).await.0, 200);
    until("it is lost", async || (view().await["state"] == "disconnected").then_some(())).await;
    let link = world.operator(&format!("{of_pump}/reconnect-link"));
    let (status, link) = world.post(&link, "application/json", String::new()).await;
    assert_eq!(status, 200, "{link}");
    let watched = view().await["close_watch"].clone();
    assert_eq!((&watched["until"], &watched["connected_at"]), (&link["watched_until"], &Value::Null), "{watched}");
    let back = json!({"is_authenticated": true, "action_needed": false, "actions": [], "authorization_url": null});
    world.patch_pump(&pump, &back).await;
    until("it is back", async || view().await["close_watch"]["connected_at"].is_string().then_some(())).await;
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_by_address_finds_the_customer_and_refuses_a_part_of_one() {
    let world = World::start(Database::Sqlite, Settings::default()).await;
    world.apply(&sign_up("e1", "C-1", TIME)).await;
    world
        .apply(&event("e2", "customer.signed_up", TIME, &json!({"customer_id": "C-2", "email": "b@example.com"})))
        .await;
    let found = world.get(&world.operator("/v1/customers?email=c-1@EXAMPLE.com")).await;
    assert_eq!(found["customers"][0]["customer_id"], "C-1", "{found}");
    assert_eq!((found["customers"].as_array().map(Vec::len), &found["is_cut"]), (Some(1), &json!(false)));
    for path in ["/v1/customers", "/v1/customers?email=", "/v1/customers?email=c-1"] {
        let answer = world.get(&world.operator(path)).await;
        assert_eq!(answer["type"], "urn:podero-bridge:problem:malformed", "{path}");
        assert!(!answer.to_string().contains("c-1"), "{answer}");
    }
    world.bridge.stop().await;
}
