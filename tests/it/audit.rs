//! The audit log: one row for each act, one chain for all replicas, and a verification that finds what was changed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use podero_bridge::domain::audit::{Action, AuditEntry, AuditOutcome, AuditReason, AuditTarget, TargetKind};
use podero_bridge::domain::chain::{self, Broken, ChainHead, SealedFields};
use podero_bridge::domain::event::{Details, Happening};
use podero_bridge::domain::identity::{Actor, Role};
use podero_bridge::domain::team::MemberId;
use podero_bridge::domain::verdict::{Fate, Reason, Verdict};
use podero_bridge::domain::{EventId, Timestamp};
use podero_bridge::metrics::Metrics;
use podero_bridge::pump::Step;
use podero_bridge::store::{
    AuditFilter, AuditRecord, ChainLook, ChainWatch, Claim, Error, OCSF_VERSION, Ordered, ParkedFilter, RetryRequest,
    Settled, Store,
};
use podero_bridge::upkeep::AuditUpkeep;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, PgConnection};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;

use crate::kit::{BY, Fixture, StoreFixture, TestDatabase, on_both_databases};
use crate::running;

const LEASE: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

on_both_databases! {
    replicas_that_seal_at_once_make_one_chain
    a_change_of_any_column_is_found_in_its_row
    rows_that_are_removed_swapped_or_cut_off_are_found
    a_chain_that_was_made_again_shows_against_a_head_that_was_kept
    an_erasure_leaves_the_chain_whole
    a_note_goes_although_its_event_is_no_longer_kept
    someone_whom_only_the_log_names_is_erased
    a_row_that_no_erasure_emptied_is_found
    a_bridge_watches_over_the_chain
    old_rows_go_by_whole_days_and_the_chain_begins_where_they_end
    a_removal_under_way_stops_when_the_retention_ends
    a_forged_removal_is_not_carried_out
    a_removal_ends_although_the_one_before_it_has_a_higher_id
    the_head_is_logged_once_an_hour_by_one_replica
    an_act_of_a_claim_has_one_row_however_often_it_is_saved
    a_page_has_the_rows_of_its_filter
    a_page_is_of_the_time_of_the_acts
    acts_and_refused_acts_have_rows
    approvals_have_rows
    tokens_of_the_configuration_are_compared_with_those_seen_last
}

fn act(at: Timestamp, number: usize) -> AuditEntry {
    AuditEntry {
        outcome: AuditOutcome::Refused,
        reason: Some("not_parked".to_owned()),
        event: Some(EventId(uuid::Uuid::from_u128(7))),
        from: Some("parked".to_owned()),
        to: Some(format!("{number}")),
        note: Some(format!("note {number}")),
        ..AuditEntry::done(
            at,
            Actor::Operator("anna".to_owned()),
            Action::EventSkip,
            AuditTarget::new(TargetKind::Customer, format!("C-{number}")),
        )
    }
}

async fn record(fixture: &StoreFixture, numbers: std::ops::Range<usize>) {
    let acts = numbers.map(|number| act(fixture.clock.now(), number)).collect();
    fixture.store.record(acts).await.expect("the store is there");
}

async fn seal(store: &Store) {
    while store.seal_audit().await.expect("the store is there") > 0 {}
}

async fn broken(store: &Store, kept: Option<ChainHead>) -> Option<Broken> {
    store.verify_audit(kept).await.expect("the store is there").broken
}

async fn rows(store: &Store) -> Vec<AuditRecord> {
    let page = store.audit_page(&AuditFilter::default(), None, 1_000).await.expect("the store is there");
    let mut rows: Vec<AuditRecord> = page.records.into_iter().filter(|row| row.action != "store.migrate").collect();
    rows.reverse();
    rows
}

/// Somebody with the rights of the database's owner.
struct Intruder(AnyConnection);

impl Intruder {
    async fn at(fixture: &StoreFixture) -> Self {
        sqlx::any::install_default_drivers();
        let mut intruder = Self(AnyConnection::connect(&fixture.url).await.expect("the database is there"));
        intruder.run("CREATE TABLE kept_rows AS SELECT * FROM audit").await;
        intruder.run("CREATE TABLE kept_head AS SELECT * FROM audit_head").await;
        intruder
    }

    async fn run(&mut self, sql: &str) {
        let ran = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut self.0).await;
        ran.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn undo(&mut self) {
        for sql in [
            "DELETE FROM audit",
            "INSERT INTO audit SELECT * FROM kept_rows",
            "DELETE FROM audit_head",
            "INSERT INTO audit_head SELECT * FROM kept_head",
        ] {
            self.run(sql).await;
        }
    }
}

async fn replicas_that_seal_at_once_make_one_chain(fixture: StoreFixture) {
    let other = fixture.beside().await;
    let work = |store: Store, from: usize| {
        let now = fixture.clock.now();
        async move {
            for number in from..from + 20 {
                store.record((0..20).map(|_| act(now, number)).collect()).await.expect("the store is there");
                store.seal_apart().await.expect("the store is there");
                store.seal_audit().await.expect("the store is there");
            }
        }
    };
    let erasures = async {
        for number in (0..20).chain(100..120) {
            let erased = other.erase(&format!("C-{number}"), &[], true, BY).await;
            erased.expect("the store is there").expect("nothing is in the way");
        }
    };
    tokio::join!(join_all([work(fixture.store.clone(), 0), work(other.clone(), 100)]), erasures);
    join_all([seal(&fixture.store), seal(&other)]).await;
    seal(&fixture.store).await;
    let check = fixture.store.verify_audit(None).await.expect("the store is there");
    assert_eq!((check.broken, check.unsealed), (None, 0));
    let all = fixture.store.audit_page(&AuditFilter::default(), None, 1_000).await.expect("the store is there").records;
    assert_eq!(check.head.count, all.len() as u64, "each row has a number of its own");
    let skipped = rows(&fixture.store).await.into_iter().filter(|row| row.action == "event.skip");
    assert_eq!(skipped.count(), 2 * 20 * 20);
    assert_eq!(fixture.store.audit_head().await.expect("the store is there"), check.head);
}

/// On PostgreSQL a bridge seals next to its writer.
#[tokio::test(flavor = "multi_thread")]
async fn sealing_waits_for_no_other_process_and_outlives_its_connection() {
    let fixture = StoreFixture::open(TestDatabase::postgres(), 0).await;
    seal(&fixture.store).await;
    record(&fixture, 0..3).await;
    let mut other = PgConnection::connect(&fixture.url).await.expect("the database is there");
    sqlx::raw_sql("BEGIN; SELECT 1 FROM audit_head FOR UPDATE").execute(&mut other).await.expect("locked");
    assert_eq!(fixture.store.seal_apart().await.expect("no wait for a lock"), 0, "another process seals");
    sqlx::raw_sql("COMMIT").execute(&mut other).await.expect("unlocked");
    assert_eq!(fixture.store.seal_apart().await.expect("the store is there"), 3);
    // A connection that is gone is not used again.
    record(&fixture, 3..5).await;
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::query(ended).execute(&mut other).await.expect("ended");
    assert_eq!(fixture.store.seal_apart().await.expect("by a new connection"), 2);
    let check = fixture.store.verify_audit(None).await.expect("the store is there");
    assert_eq!((check.broken, check.unsealed), (None, 0));
}

async fn a_change_of_any_column_is_found_in_its_row(fixture: StoreFixture) {
    record(&fixture, 0..6).await;
    seal(&fixture.store).await;
    let mut intruder = Intruder::at(&fixture).await;
    for (column, value) in [
        ("id", "'x'"),
        ("at", "at + 1"),
        ("actor", "'operator:berta'"),
        ("action", "'event.retry'"),
        ("target_kind", "'event'"),
        ("target_id", "'C-7'"),
        ("target_id", "NULL"),
        ("salt", "'x'"),
        ("salt", "NULL"),
        ("target_digest", "'x'"),
        ("outcome", "'done'"),
        ("reason", "NULL"),
        ("event_id", "NULL"),
        ("was", "'skipped'"),
        ("became", "''"),
        ("note", "'another note'"),
        ("note", "NULL"),
        ("salt", "NULL, target_id = NULL, note = NULL"),
        ("note_digest", "NULL"),
        ("hash", "'x'"),
        ("hash", "NULL"),
        ("number", "NULL"),
    ] {
        intruder.run(&format!("UPDATE audit SET {column} = {value} WHERE number = 3")).await;
        let found = broken(&fixture.store, None).await;
        match (column, found) {
            ("number", Some(found)) => assert_eq!(found, Broken::Missing { from: 3, to: 3 }),
            // No row of an erasure says that it emptied this one.
            ("note" | "salt", Some(Broken::Emptied { number: 3, column: told, .. })) => {
                assert!(
                    value.starts_with("NULL") && (column == told || (column, told) == ("salt", "target_id")),
                    "{value}: {told}"
                );
            }
            ("target_id" | "salt" | "note" | "hash", Some(Broken::Changed { number: 3, column: Some(told), .. })) => {
                assert!(column == told || (column, told) == ("salt", "target_id"), "{column} {value}: {told}");
            }
            (_, Some(Broken::Changed { number: 3, .. })) => {}
            (_, found) => panic!("{column} {value}: {found:?}"),
        }
        intruder.undo().await;
        assert_eq!(broken(&fixture.store, None).await, None, "{column}");
    }
}

/// The id of a row that an intruder adds.
const ADDED: &str = "00000000-0000-7000-8000-00000000000a";

/// The statement that adds a copy of the row `like` under a number that seems sealed.
fn added(number: i64, like: u64) -> String {
    format!(
        "INSERT INTO audit (id, at, actor, action, target_kind, target_id, salt, target_digest, outcome, number, hash) \
         SELECT '{ADDED}', at, actor, action, target_kind, target_id, salt, target_digest, outcome, {number}, hash \
         FROM audit WHERE number = {like}"
    )
}

async fn rows_that_are_removed_swapped_or_cut_off_are_found(fixture: StoreFixture) {
    record(&fixture, 0..8).await;
    seal(&fixture.store).await;
    let head = fixture.store.audit_head().await.expect("the store is there");
    let last = head.count;
    let mut intruder = Intruder::at(&fixture).await;
    let swap =
        ["SET number = 1000 WHERE number = 3", "SET number = 3 WHERE number = 6", "SET number = 6 WHERE number = 1000"];
    for (acts, expected) in [
        (vec!["DELETE FROM audit WHERE number = 3".to_owned()], Broken::Missing { from: 3, to: 3 }),
        (vec!["DELETE FROM audit WHERE number IN (3, 4)".to_owned()], Broken::Missing { from: 3, to: 4 }),
        (swap.map(|act| format!("UPDATE audit {act}")).to_vec(), Broken::Swapped { number: 3, with: 6 }),
        (vec![format!("DELETE FROM audit WHERE number = {last}")], Broken::CutTail { reached: last - 1, sealed: last }),
        (vec![format!("UPDATE audit_head SET hash = '{NO_HASH}'")], Broken::HeadChanged { count: last }),
        (
            vec!["UPDATE audit_head SET sealed = 5, hash = (SELECT hash FROM audit WHERE number = 5)".to_owned()],
            Broken::HeadBehind { reached: last, sealed: 5 },
        ),
        (vec![added(0, 5)], Broken::Added { id: ADDED.to_owned(), count: 0 }),
        (vec![added(-3, 5)], Broken::Added { id: ADDED.to_owned(), count: 0 }),
    ] {
        for act in &acts {
            intruder.run(act).await;
        }
        assert_eq!(broken(&fixture.store, None).await, Some(expected), "{acts:?}");
        intruder.undo().await;
        assert_eq!(broken(&fixture.store, Some(head)).await, None, "{acts:?}");
    }
    // The end, and the store's own head with it: only a head that was kept elsewhere shows it.
    intruder.run(&format!("DELETE FROM audit WHERE number = {last}")).await;
    let cut = "UPDATE audit_head SET sealed = sealed - 1, hash = (SELECT hash FROM audit ORDER BY number DESC LIMIT 1)";
    intruder.run(cut).await;
    assert_eq!(broken(&fixture.store, None).await, None);
    let not_reached = Broken::HeadNotReached { count: last, reached: last - 1 };
    assert_eq!(broken(&fixture.store, Some(head)).await, Some(not_reached));
    intruder.undo().await;
    // The beginning, as the retention does it, but without its row.
    intruder.run("UPDATE audit_head SET trimmed = 3, trimmed_hash = (SELECT hash FROM audit WHERE number = 3)").await;
    intruder.run("DELETE FROM audit WHERE number <= 3").await;
    assert_eq!(broken(&fixture.store, None).await, Some(Broken::NoTrim { count: 3 }));
    intruder.run(&format!("UPDATE audit_head SET trim_from = '0:{NO_HASH}'")).await;
    assert_eq!(broken(&fixture.store, None).await, Some(Broken::NoTrim { count: 3 }), "nothing says to where");
    // With its row, which is not sealed.
    intruder
        .run(&format!(
            "INSERT INTO audit (id, at, actor, action, target_kind, target_id, target_digest, outcome, was, became) \
             SELECT 'ffffffff-ffff-7fff-8fff-ffffffffffff', at, 'bridge', 'audit.trim', 'store', 'audit', 'x', 'done', \
             '0:{NO_HASH}', (SELECT trimmed || ':' || trimmed_hash FROM audit_head) FROM audit WHERE number = {last}"
        ))
        .await;
    assert_eq!(broken(&fixture.store, None).await, Some(Broken::NoTrim { count: 3 }));
    intruder.undo().await;
    // The row of the head, or what it holds: nothing else of the log can be believed, and nothing is sealed.
    record(&fixture, 8..9).await;
    for (act, is_seen) in [
        ("DELETE FROM audit_head", true),
        ("UPDATE audit_head SET hash = 'x'", true),
        ("UPDATE audit_head SET trimmed_hash = ''", false),
    ] {
        intruder.run(act).await;
        assert_eq!(broken(&fixture.store, Some(head)).await, Some(Broken::NoHead), "{act}");
        let sealed = fixture.store.seal_audit().await;
        assert_eq!(matches!(sealed, Err(Error::Unreadable(_))), is_seen, "{act}: {sealed:?}");
        let gauges = fixture.store.gauges(fixture.clock.now()).await;
        assert!(gauges.is_ok(), "{act}: the rest is counted all the same: {gauges:?}");
        intruder.undo().await;
        record(&fixture, 8..9).await;
    }
}

/// A target or a note is empty because of an erasure, or because somebody emptied it.
async fn a_row_that_no_erasure_emptied_is_found(fixture: StoreFixture) {
    for customer in ["C-1", "C-2", "C-1"] {
        let claim = claimed(&fixture, customer).await;
        let noted = AuditEntry { note: Some("Ms Smith rang".to_owned()), ..act_of(&claim, Action::PoderoUpdateUser) };
        let of_event = AuditEntry {
            target: AuditTarget::new(TargetKind::Event, claim.work.event.id.to_string()),
            ..noted.clone()
        };
        settle(&fixture.store, &claim, vec![noted, of_event]).await;
        seal(&fixture.store).await;
    }
    fixture.store.erase("C-1", &[], true, BY).await.expect("the store is there").expect("nothing is in the way");
    seal(&fixture.store).await;
    let all = rows(&fixture.store).await;
    let erasure = all.last().expect("the row of the erasure");
    let emptied: Vec<u64> = all.iter().filter(|row| row.note.is_none()).filter_map(|row| row.number).collect();
    let (first, last) = (emptied[0], emptied[2]);
    // Two rows of each event, and those of the other customer in between.
    assert_eq!(erasure.became, Some(format!("{first}-{},{last}-{}", first + 1, last + 1)));
    assert_eq!((erasure.target_id.as_deref(), erasure.was.as_deref()), (None, None));
    assert_eq!(broken(&fixture.store, None).await, None);
    let mut intruder = Intruder::at(&fixture).await;
    let (other, of_event) = (last - 2, last - 1);
    let id_of = |number: u64| all.iter().find(|row| row.number == Some(number)).expect("a row").id.clone();
    let emptied = |number: u64, column| Broken::Emptied { number, id: id_of(number), column };
    let changed = |number: u64| Broken::Changed { number, id: id_of(number), column: Some("target_id") };
    for (act, number, expected) in [
        ("target_id = NULL, salt = NULL, note = NULL", other, emptied(other, "target_id")),
        ("note = NULL", other, emptied(other, "note")),
        ("note = NULL", of_event, emptied(of_event, "note")),
        // An erasure empties notes about events, and never which event it was, not even in a row that it names.
        ("target_id = NULL, salt = NULL", last + 1, changed(last + 1)),
    ] {
        intruder.run(&format!("UPDATE audit SET {act} WHERE number = {number}")).await;
        assert_eq!(broken(&fixture.store, None).await, Some(expected), "{act}");
        intruder.undo().await;
    }
    // Without its erasure nothing explains the rows. The head of the store is set back, so that the chain itself is whole.
    let number = erasure.number.expect("sealed");
    intruder.run(&format!("DELETE FROM audit WHERE number = {number}")).await;
    intruder
        .run("UPDATE audit_head SET sealed = sealed - 1, hash = (SELECT hash FROM audit ORDER BY number DESC LIMIT 1)")
        .await;
    assert_eq!(broken(&fixture.store, None).await, Some(emptied(first, "target_id")));
}

/// A running bridge finds by itself what was changed: at once in the newest rows and at the head, in its turn everywhere.
async fn a_bridge_watches_over_the_chain(fixture: StoreFixture) {
    let (metrics, mut watch) = (Metrics::new(), ChainWatch::default());
    let upkeep = AuditUpkeep::new(fixture.store.clone(), fixture.clock.clone(), metrics.clone(), None);
    record(&fixture, 0..8).await;
    assert_eq!(
        watch.look(&fixture.store).await.expect("the store is there"),
        ChainLook::Whole,
        "nothing is sealed yet"
    );
    seal(&fixture.store).await;
    assert_eq!(upkeep.watch().await, Step::Idle);
    assert_eq!(metrics.audit_broken.get(), 0);
    let mut intruder = Intruder::at(&fixture).await;
    let cut = "UPDATE audit_head SET sealed = sealed - 1, hash = (SELECT hash FROM audit ORDER BY number DESC LIMIT 1)";
    let last = fixture.store.audit_head().await.expect("the store is there").count;
    let rewritten = "UPDATE audit SET actor = 'operator:berta', number = NULL, hash = NULL";
    let anew = format!("UPDATE audit_head SET sealed = 0, hash = '{NO_HASH}'");
    for acts in [
        vec!["UPDATE audit SET outcome = 'done' WHERE number = 3"],
        vec!["DELETE FROM audit WHERE number = 3"],
        vec!["UPDATE audit SET target_id = NULL, salt = NULL WHERE number = 3"],
        vec!["DELETE FROM audit_head"],
        // Against its own memory these show, too.
        vec![format!("DELETE FROM audit WHERE number = {last}").as_str(), cut],
        vec![rewritten, anew.as_str()],
    ] {
        for act in &acts {
            intruder.run(act).await;
        }
        if acts.len() == 2 {
            seal(&fixture.store).await;
        }
        upkeep.watch().await;
        assert_eq!(metrics.audit_broken.get(), 1, "{acts:?}");
        intruder.undo().await;
        upkeep.watch().await;
        assert_eq!(metrics.audit_broken.get(), 0, "{acts:?}");
    }
    // A beginning behind the head of its last look, as if the retention had removed rows of today: it stays found, since nothing that
    // is left tells of it.
    let mut other = ChainWatch::default();
    assert_eq!(other.look(&fixture.store).await.expect("the store is there"), ChainLook::Whole);
    intruder.run("DELETE FROM audit").await;
    let beyond = last + 2;
    intruder.run(&format!("UPDATE audit_head SET sealed = {beyond}, trimmed = {beyond}, trimmed_hash = hash")).await;
    for _ in 0..2 {
        let found = other.look(&fixture.store).await.expect("the store is there");
        assert_eq!(found, ChainLook::Broken(Broken::TrimmedTooSoon { count: last }));
        fixture.clock.advance(DAY);
        intruder.undo().await;
    }
    // A log that takes several looks, and a change at its beginning.
    for hundred in 0..60 {
        record(&fixture, hundred * 100..hundred * 100 + 100).await;
    }
    seal(&fixture.store).await;
    assert_eq!(watch.look(&fixture.store).await.expect("the store is there"), ChainLook::Nothing);
    assert_eq!(watch.look(&fixture.store).await.expect("the store is there"), ChainLook::Whole);
    intruder.run("UPDATE audit SET outcome = 'done' WHERE number = 3").await;
    let found = watch.look(&fixture.store).await.expect("the store is there");
    assert!(matches!(found, ChainLook::Broken(Broken::Changed { number: 3, .. })), "{found:?}");
}

async fn a_chain_that_was_made_again_shows_against_a_head_that_was_kept(fixture: StoreFixture) {
    record(&fixture, 0..5).await;
    seal(&fixture.store).await;
    let head = fixture.store.audit_head().await.expect("the store is there");
    let again: ChainHead = head.to_string().parse().expect("as it was written");
    assert_eq!(broken(&fixture.store, Some(again)).await, None);
    let mut intruder = Intruder::at(&fixture).await;
    intruder.run("UPDATE audit SET actor = 'operator:berta', number = NULL, hash = NULL").await;
    intruder.run(&format!("UPDATE audit_head SET sealed = 0, hash = '{NO_HASH}'")).await;
    seal(&fixture.store).await;
    assert_eq!(broken(&fixture.store, None).await, None, "the owner of all rows makes a new chain");
    assert_eq!(broken(&fixture.store, Some(head)).await, Some(Broken::HeadDiffers { count: head.count }));
    record(&fixture, 5..6).await;
    seal(&fixture.store).await;
    assert_eq!(broken(&fixture.store, Some(head)).await, Some(Broken::HeadDiffers { count: head.count }));
}

/// The actor and the customer of an event's claim, for a row of it.
fn act_of(claim: &Claim, action: Action) -> AuditEntry {
    let target = AuditTarget::new(TargetKind::Customer, claim.lane.clone());
    let entry = AuditEntry::done(claim.work.event.time, claim.work.actor.clone(), action, target);
    AuditEntry { event: Some(claim.work.event.id), ..entry }
}

async fn claimed(fixture: &StoreFixture, customer: &str) -> Claim {
    let arrival = fixture.arrival(customer, Happening::Updated(Details::default()));
    fixture.store.accept(vec![arrival]).await.expect("the store is there");
    fixture.store.claim(LEASE).await.expect("the store is there").expect("something is due")
}

async fn settle(store: &Store, claim: &Claim, acts: Vec<AuditEntry>) -> Settled {
    let verdict = Verdict { acts, ..StoreFixture::verdict(claim, Fate::Superseded, Vec::new()) };
    store.settle(claim, verdict, Vec::new()).await.expect("the store is there")
}

async fn an_erasure_leaves_the_chain_whole(fixture: StoreFixture) {
    for (customer, is_sealed) in [("C-1", true), ("C-2", true), ("C-1", false)] {
        let claim = claimed(&fixture, customer).await;
        let noted = AuditEntry { note: Some("Ms Smith rang".to_owned()), ..act_of(&claim, Action::PoderoUpdateUser) };
        let of_event = AuditEntry {
            target: AuditTarget::new(TargetKind::Event, claim.work.event.id.to_string()),
            ..noted.clone()
        };
        settle(&fixture.store, &claim, vec![noted, of_event]).await;
        if is_sealed {
            seal(&fixture.store).await;
        }
    }
    let before = rows(&fixture.store).await;
    fixture.store.erase("C-1", &[], true, BY).await.expect("the store is there").expect("nothing is in the way");
    let after = rows(&fixture.store).await;
    for (was, is) in before.iter().zip(&after) {
        let is_erased = was.target_id.as_deref() == Some("C-1");
        assert_eq!(is.target_id.is_none(), is_erased, "{is:?}");
        // A note about an event of theirs goes too.
        assert_eq!(is.note.is_some(), was.event_id == before[2].event_id, "{is:?}");
    }
    assert_eq!(after.iter().filter(|row| row.target_id.as_deref() == Some("C-2")).count(), 1);
    assert_eq!(broken(&fixture.store, None).await, None);
    seal(&fixture.store).await;
    assert_eq!(broken(&fixture.store, None).await, None, "what was sealed after it, too");
}

async fn a_note_goes_although_its_event_is_no_longer_kept(fixture: StoreFixture) {
    for customer in ["C-1", "C-2"] {
        let claim = claimed(&fixture, customer).await;
        let noted = AuditEntry {
            target: AuditTarget::new(TargetKind::Event, claim.work.event.id.to_string()),
            note: Some("Ms Smith rang".to_owned()),
            ..act_of(&claim, Action::EventSkip)
        };
        settle(&fixture.store, &claim, vec![noted]).await;
    }
    seal(&fixture.store).await;
    fixture.clock.advance(10 * DAY);
    while fixture.store.forget(5 * DAY).await.expect("the store is there") {}
    fixture.store.erase("C-1", &[], true, BY).await.expect("the store is there").expect("nothing is in the way");
    seal(&fixture.store).await;
    let notes: Vec<bool> = rows(&fixture.store).await.iter().map(|row| row.note.is_some()).collect();
    assert_eq!(notes, [false, true, false], "the note about C-1's event is gone");
    assert_eq!(broken(&fixture.store, None).await, None);
    while fixture.store.trim_audit(Some(5 * DAY)).await.expect("the store is there") {}
    let mut database = Intruder::at(&fixture).await;
    let kept = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM audit_notes").fetch_one(&mut database.0).await;
    assert_eq!(kept.expect("it answers"), 0, "whom it was about goes with the row");
}

/// Someone whom the policy of the team has refused at the entrance is known by the row about it alone.
async fn someone_whom_only_the_log_names_is_erased(fixture: StoreFixture) {
    for (id, is_sealed) in [("M-8", true), ("M-9", false)] {
        let member = MemberId::accept(id).expect("valid");
        let erase = async || fixture.store.erase_member(&member, &[], false, BY).await.expect("the store is there");
        assert!(erase().await.is_err_and(|found| found.is_unknown));
        let target = AuditTarget::new(TargetKind::Member, id);
        let act = AuditEntry::done(fixture.clock.now(), Actor::Source("hr".to_owned()), Action::TeamChange, target);
        fixture.store.record(vec![act]).await.expect("the store is there");
        if is_sealed {
            seal(&fixture.store).await;
        }
        assert!(erase().await.is_ok());
        assert!(rows(&fixture.store).await.iter().all(|row| row.target_id.is_none()), "its id is gone");
        seal(&fixture.store).await;
        assert_eq!(broken(&fixture.store, None).await, None);
    }
}

async fn old_rows_go_by_whole_days_and_the_chain_begins_where_they_end(fixture: StoreFixture) {
    record(&fixture, 0..450).await;
    seal(&fixture.store).await;
    let early = fixture.store.audit_head().await.expect("the store is there");
    fixture.clock.advance(10 * DAY);
    record(&fixture, 450..455).await;
    seal(&fixture.store).await;
    let late = fixture.store.audit_head().await.expect("the store is there");
    let trim = async |retention| fixture.store.trim_audit(retention).await.expect("the store is there");
    assert!(!trim(Some(11 * DAY)).await, "nothing is so old");
    assert!(!trim(None).await, "nothing is ever old");
    assert_eq!(rows(&fixture.store).await.len(), 455);
    // Its row comes first, and is sealed before anything is removed.
    assert!(trim(Some(5 * DAY)).await);
    assert_eq!(rows(&fixture.store).await.len(), 456);
    let mut steps = 0;
    while trim(Some(5 * DAY)).await {
        steps += 1;
        assert_eq!(broken(&fixture.store, Some(late)).await, None, "in the middle of it");
    }
    assert!(steps >= 3, "a little at a time: {steps}");
    let left = rows(&fixture.store).await;
    assert_eq!(left.len(), 6);
    let trim_row = left.last().expect("a row that tells of it");
    assert_eq!((trim_row.action.as_str(), trim_row.actor.as_str()), ("audit.trim", "bridge"));
    assert_eq!(trim_row.became, Some(early.to_string()));
    assert_eq!(broken(&fixture.store, Some(late)).await, None);
    assert_eq!(broken(&fixture.store, Some(early)).await, None, "the last head before it is still known");
    seal(&fixture.store).await;
    assert_eq!(broken(&fixture.store, Some(late)).await, None);
    let older = ChainHead { count: 3, ..early };
    let verify = async |head| fixture.store.verify_audit(Some(head)).await.expect("the store is there");
    let (by_late, by_older) = (verify(late).await, verify(older).await);
    assert_eq!((by_late.broken, by_late.is_head_trimmed), (None, false));
    assert_eq!((by_older.broken, by_older.is_head_trimmed), (None, true), "the retention is no break");
    assert_eq!((by_older.trimmed_at, by_older.oldest), (Some(trim_row.at), Some(left[0].at)));
    // A row that is put back is found, and does not keep the others.
    let mut intruder = Intruder::at(&fixture).await;
    fixture.clock.advance(10 * DAY);
    intruder.run(&added(3, late.count)).await;
    intruder.run(&format!("UPDATE audit SET at = {} WHERE id = '{ADDED}'", fixture.clock.now().micros())).await;
    assert_eq!(verify(late).await.broken, Some(Broken::Added { id: ADDED.to_owned(), count: early.count }));
    assert!(trim(Some(5 * DAY)).await);
    intruder.undo().await;
    intruder.run(&format!("DELETE FROM audit WHERE number = {}", late.count)).await;
    let missing = Broken::Missing { from: late.count, to: late.count };
    assert_eq!(verify(older).await.broken, Some(missing), "and the rest is checked all the same");
}

/// Without a retention nothing more is removed. The row of the removal says up to where it would have come, and the next one ends
/// there before another begins.
async fn a_removal_under_way_stops_when_the_retention_ends(fixture: StoreFixture) {
    record(&fixture, 0..450).await;
    seal(&fixture.store).await;
    let end = fixture.store.audit_head().await.expect("the store is there");
    fixture.clock.advance(10 * DAY);
    let trim = async |retention| fixture.store.trim_audit(retention).await.expect("the store is there");
    while rows(&fixture.store).await.len() > 400 {
        assert!(trim(Some(5 * DAY)).await, "there is more");
    }
    let left = rows(&fixture.store).await.len();
    assert!(!trim(None).await);
    assert_eq!(rows(&fixture.store).await.len(), left);
    let check = fixture.store.verify_audit(None).await.expect("the store is there");
    assert_eq!((&check.broken, check.unsealed), (&None, 0));
    assert!(check.first.count > 0 && check.first.count < end.count, "{check:?}");
    while trim(Some(5 * DAY)).await {}
    let rows = rows(&fixture.store).await;
    assert_eq!((rows.len(), rows[0].became.clone()), (1, Some(end.to_string())), "one row for one removal");
    // The next one begins where it ended.
    record(&fixture, 450..460).await;
    fixture.clock.advance(10 * DAY);
    seal(&fixture.store).await;
    while trim(Some(5 * DAY)).await {}
    assert_eq!(self::rows(&fixture.store).await.len(), 1);
    assert_eq!(broken(&fixture.store, None).await, None);
}

/// The clock was ahead during a removal, so that its row has a higher id than that of the next one.
async fn a_removal_ends_although_the_one_before_it_has_a_higher_id(fixture: StoreFixture) {
    record(&fixture, 0..10).await;
    seal(&fixture.store).await;
    fixture.clock.advance(10 * DAY);
    record(&fixture, 10..15).await;
    seal(&fixture.store).await;
    let trim = async || fixture.store.trim_audit(Some(5 * DAY)).await.expect("the store is there");
    fixture.clock.jump_ahead(20 * DAY);
    while trim().await {}
    fixture.clock.set_back(20 * DAY);
    fixture.clock.advance(10 * DAY);
    let mut steps = 0;
    while trim().await {
        steps += 1;
        assert!(steps < 10, "it plans the same removal again and again");
    }
    seal(&fixture.store).await;
    let left = rows(&fixture.store).await;
    assert_eq!(left.iter().map(|row| row.action.as_str()).collect::<Vec<_>>(), ["audit.trim"; 2], "{left:?}");
    assert_eq!(broken(&fixture.store, None).await, None);
}

/// A row about a removal that does not fit the log removes nothing.
async fn a_forged_removal_is_not_carried_out(fixture: StoreFixture) {
    record(&fixture, 0..10).await;
    seal(&fixture.store).await;
    fixture.clock.advance(10 * DAY);
    for to in [format!("5:{NO_HASH}"), "x".to_owned()] {
        let target = AuditTarget::new(TargetKind::Store, "audit");
        let forged = AuditEntry::done(fixture.clock.now(), Actor::Bridge, Action::AuditTrim, target);
        let forged = AuditEntry { from: Some(format!("0:{NO_HASH}")), to: Some(to.clone()), ..forged };
        fixture.store.record(vec![forged]).await.expect("the store is there");
        seal(&fixture.store).await;
        let refused = fixture.store.trim_audit(Some(5 * DAY)).await;
        assert!(matches!(refused, Err(Error::Unreadable(_))), "{to}: {refused:?}");
    }
    assert_eq!(rows(&fixture.store).await.len(), 12);
    assert!(matches!(broken(&fixture.store, None).await, Some(Broken::TrimDiffers { .. })));
}

/// The heads that were logged.
#[derive(Clone, Default)]
struct LoggedHeads(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for LoggedHeads {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            if field.name() == "head" {
                self.0.lock().expect("held for a moment").push(format!("{value:?}"));
            }
        });
    }
}

async fn the_head_is_logged_once_an_hour_by_one_replica(fixture: StoreFixture) {
    let logged = LoggedHeads::default();
    let _log = tracing::subscriber::set_default(tracing_subscriber::registry().with(logged.clone()));
    let upkeep = |store: Store| AuditUpkeep::new(store, fixture.clock.clone(), Metrics::new(), None);
    let (one, other) = (upkeep(fixture.store.clone()), upkeep(fixture.beside().await));
    let count = || logged.0.lock().expect("held for a moment").len();
    seal(&fixture.store).await;
    for _ in 0..3 {
        one.seal().await;
        other.seal().await;
        fixture.clock.advance(MINUTE);
    }
    assert_eq!(count(), 1);
    let head = fixture.store.audit_head().await.expect("the store is there");
    assert_eq!(logged.0.lock().expect("held for a moment")[0], head.to_string());
    // The replica that wrote it has died: the other one finds out within minutes.
    fixture.clock.advance(56 * MINUTE);
    other.seal().await;
    assert_eq!(count(), 1, "59 minutes later");
    fixture.clock.advance(6 * MINUTE);
    other.seal().await;
    assert_eq!(count(), 2, "65 minutes later");
    // A head that cannot be read is tried again with the next step, and not an hour later.
    let mut intruder = Intruder::at(&fixture).await;
    fixture.clock.advance(61 * MINUTE);
    intruder.run("UPDATE audit_head SET hash = 'x'").await;
    other.seal().await;
    assert_eq!(count(), 2);
    intruder.undo().await;
    other.seal().await;
    assert_eq!(count(), 3);
}

async fn an_act_of_a_claim_has_one_row_however_often_it_is_saved(fixture: StoreFixture) {
    let store = &fixture.store;
    let mut claim = claimed(&fixture, "C-1").await;
    let act = act_of(&claim, Action::PoderoCreateUser);
    claim.work.acts.push(act);
    assert_eq!(store.save(&mut claim, LEASE).await.expect("the store is there"), Settled::Recorded);
    assert_eq!(store.save(&mut claim, LEASE).await.expect("the store is there"), Settled::Recorded);
    assert_eq!(rows(store).await.len(), 1, "durable with the customer");
    let last = vec![act_of(&claim, Action::PoderoCreateBuilding)];
    assert_eq!(settle(store, &claim, last.clone()).await, Settled::Recorded);
    assert_eq!(settle(store, &claim, last).await, Settled::Fenced, "a repeat writes nothing");
    let actions = |rows: &[AuditRecord]| rows.iter().map(|row| row.action.clone()).collect::<Vec<_>>();
    assert_eq!(actions(&rows(store).await), ["podero.create_user", "podero.create_building"]);
    assert_eq!(rows(store).await[0].actor, "source:default");
    // A process that died after it had saved: its row stays, and what comes late from it is dropped.
    let mut dead = claimed(&fixture, "C-2").await;
    let act = act_of(&dead, Action::PoderoCreateUser);
    dead.work.acts.push(act);
    assert_eq!(store.save(&mut dead, LEASE).await.expect("the store is there"), Settled::Recorded);
    fixture.clock.advance(2 * LEASE);
    let next = store.claim(LEASE).await.expect("the store is there").expect("its lease has lapsed");
    assert!(next.work.interrupted.is_some(), "the next claim knows of it");
    let act = act_of(&dead, Action::PoderoCreateBuilding);
    dead.work.acts.push(act);
    assert_eq!(store.save(&mut dead, LEASE).await.expect("the store is there"), Settled::Fenced);
    assert_eq!(settle(store, &dead, vec![act_of(&dead, Action::PoderoCreateBuilding)]).await, Settled::Fenced);
    assert_eq!(rows(store).await.len(), 3);
    assert_eq!(settle(store, &next, Vec::new()).await, Settled::Recorded);
}

async fn a_page_has_the_rows_of_its_filter(fixture: StoreFixture) {
    let (store, began) = (&fixture.store, fixture.clock.now());
    record(&fixture, 0..5).await;
    fixture.clock.advance(DAY);
    let claim = claimed(&fixture, "C-1").await;
    settle(store, &claim, vec![act_of(&claim, Action::PoderoUpdateUser)]).await;
    let of_customer = AuditFilter { target: Some("C-1".to_owned()), ..AuditFilter::default() };
    let unsealed = store.audit_page(&of_customer, None, 10).await.expect("the store is there").records;
    assert_eq!(unsealed.len(), 2, "the row of the event, too: {unsealed:?}");
    seal(store).await;
    let found = async |filter: AuditFilter| {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = store.audit_page(&filter, after.as_deref(), 2).await.expect("the store is there");
            assert!(page.records.len() <= 2);
            all.extend(page.records);
            match page.next {
                None => return all.into_iter().filter(|row| row.action != "store.migrate").count(),
                next => after = next,
            }
        }
    };
    let any = AuditFilter::default;
    let (anna, source) = (Some("operator:anna".to_owned()), Some("source:default".to_owned()));
    for (filter, expected) in [
        (any(), 6),
        (AuditFilter { actor: anna.clone(), ..any() }, 5),
        (AuditFilter { actor: source.clone(), ..any() }, 1),
        (AuditFilter { actor: Some("operator:berta".to_owned()), ..any() }, 0),
        (AuditFilter { action: Some(Action::EventSkip), ..any() }, 5),
        (AuditFilter { action: Some(Action::PoderoUpdateUser), ..any() }, 1),
        (AuditFilter { action: Some(Action::PoderoUpdateUser), actor: anna, ..any() }, 0),
        (AuditFilter { target: Some("C-1".to_owned()), ..any() }, 2),
        (AuditFilter { target: Some("C-1".to_owned()), actor: source, ..any() }, 1),
        (AuditFilter { since: Some(began.plus(DAY)), ..any() }, 1),
        (AuditFilter { until: Some(began.plus(DAY)), since: Some(began), ..any() }, 5),
    ] {
        assert_eq!(found(filter.clone()).await, expected, "{filter:?}");
    }
    let newest = store.audit_page(&any(), None, 1).await.expect("the store is there").records.remove(0);
    assert_eq!((newest.code().as_deref(), newest.action.as_str()), (Some("PU002I"), "podero.update_user"));
    let shown = serde_json::to_value(&newest).expect("it is JSON");
    assert_eq!((&shown["target"]["id"], &shown["target"]["kind"]), (&"C-1".into(), &"customer".into()));
    assert_eq!(shown["number"], newest.number.expect("it is sealed"));
}

/// Acts that were recorded after they were done: a page has those that an export has.
async fn a_page_is_of_the_time_of_the_acts(fixture: StoreFixture) {
    let (store, began) = (&fixture.store, fixture.clock.now());
    for number in 0..8u32 {
        // Done at minutes 0, 10, 20, and so on; recorded at minutes 0, 3, 6, as by a clock that was set back.
        let done_at = began.plus(number * 10 * MINUTE);
        store.record(vec![act(done_at, usize::try_from(number).expect("few"))]).await.expect("the store is there");
        fixture.clock.advance(3 * MINUTE);
    }
    fixture.clock.advance(25 * MINUTE);
    store.record(vec![act(began.plus(5 * MINUTE), 8)]).await.expect("the store is there");
    seal(store).await;
    let chain = store.audit_chain(0).await.expect("the store is there");
    let operator = Some("operator:anna".to_owned());
    for (since, until, expected) in [(0, 10, 2), (5, 11, 2), (20, 71, 6), (70, 71, 1), (71, 90, 0)] {
        let at = |minutes: u32| Some(began.plus(minutes * MINUTE));
        let filter = AuditFilter { since: at(since), until: at(until), ..AuditFilter::default() };
        let by_actor = AuditFilter { actor: operator.clone(), ..filter.clone() };
        let by_action = AuditFilter { action: Some(Action::EventSkip), ..filter.clone() };
        for filter in [filter, by_actor, by_action] {
            let page = store.audit_page(&filter, None, 100).await.expect("the store is there");
            let mut listed: Vec<_> =
                page.records.iter().filter(|row| row.action == "event.skip").map(|row| &row.id).collect();
            listed.sort_unstable();
            let mut exported: Vec<_> = chain
                .iter()
                .filter(|row| row.action == "event.skip" && filter.covers(row))
                .map(|row| &row.id)
                .collect();
            exported.sort_unstable();
            assert_eq!((listed.len(), &listed), (expected, &exported), "{filter:?}");
        }
    }
}

/// Action, outcome, reason, from and to of each row, in order.
async fn told(store: &Store) -> Vec<String> {
    let shown = |row: &AuditRecord| {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let (reason, was, became) = (or_dash(&row.reason), or_dash(&row.was), or_dash(&row.became));
        format!("{} {} {reason} {was} {became}", row.action, row.outcome)
    };
    rows(store).await.iter().map(shown).collect()
}

async fn acts_and_refused_acts_have_rows(fixture: StoreFixture) {
    let store = &fixture.store;
    let anna = Actor::Operator("anna".to_owned());
    let refused = || Fate::Parked { reason: Reason::Refused, detail: "said no".to_owned() };
    let id = fixture.ends("C-1", refused()).await;
    for request in [RetryRequest::Approve, RetryRequest::Retry, RetryRequest::Skip] {
        store.unpark(id, request, &anna).await.expect("the store is there");
    }
    fixture.settle_head(refused()).await;
    store.unpark(id, RetryRequest::Skip, &anna).await.expect("the store is there");
    let unknown = EventId(fixture.clock.fresh_id());
    store.unpark(unknown, RetryRequest::Skip, &anna).await.expect("the store is there");
    fixture.ends("C-2", refused()).await;
    let Ordered::Running(retry) =
        store.order_retry(ParkedFilter::of_reason(None), 1_000, &anna).await.expect("the store is there")
    else {
        panic!("no other runs");
    };
    store.order_retry(ParkedFilter::of_reason(None), 1_000, &anna).await.expect("the store is there");
    while store.bulk_retry(&retry.id).await.expect("the store is there").is_some_and(|retry| retry.is_running()) {
        store.retry_step(1_000).await.expect("the store is there");
        fixture.clock.advance(Duration::from_secs(1));
    }
    store.stop_retry(&retry.id, &anna).await.expect("the store is there");
    fixture.settle_head(Fate::Superseded).await;
    store.erase("C-9", &[], false, &anna).await.expect("the store is there").expect_err("nobody knows them");
    store.erase("C-2", &[], false, &anna).await.expect("the store is there").expect("nothing is in the way");
    for customer in ["C-2", "C-1"] {
        store
            .erase(customer, &[unknown], false, &anna)
            .await
            .expect("the store is there")
            .expect_err("no such message");
    }
    assert_eq!(
        told(store).await,
        [
            "event.approve refused not_approvable - pending",
            "event.retry done - parked pending",
            "event.skip refused not_parked - skipped",
            "event.skip done - parked skipped",
            "event.skip refused unknown_event - skipped",
            "retry.order done - - 1",
            "retry.order refused occupied - 1",
            "retry.end done - - 1",
            "retry.stop refused not_running - -",
            "customer.erase refused unknown_customer - -",
            "customer.erase done - - -",
            "customer.erase refused no_message - -",
            "customer.erase refused no_message - -",
        ]
    );
    let rows = rows(store).await;
    let erasures = rows.iter().filter(|row| row.action == "customer.erase").map(|row| row.target_id.as_deref());
    assert!(erasures.eq([None, None, None, Some("C-1")]), "of the unknown and the erased there is no id: {rows:?}");
    assert!(rows.iter().all(|row| row.actor == "operator:anna" || row.action == "retry.end"), "{rows:?}");
    seal(store).await;
    assert_eq!(broken(store, None).await, None);
}

async fn approvals_have_rows(fixture: StoreFixture) {
    let store = &fixture.store;
    let anna = Actor::Operator("anna".to_owned());
    let braked = || Fate::Parked { reason: Reason::ChurnBrake, detail: "the limit is 0".to_owned() };
    let id = fixture.ends("C-1", braked()).await;
    fixture.ends("C-2", braked()).await;
    store.unpark(id, RetryRequest::Approve, &anna).await.expect("the store is there").expect("it is parked");
    let now = fixture.clock.now();
    let ordered = store.order_approval(Reason::ChurnBrake, 1_000, now, &anna).await.expect("the store is there");
    assert!(matches!(ordered, Ordered::Running(ref retry) if retry.total == 1), "{ordered:?}");
    assert_eq!(told(store).await, ["event.approve done - parked pending", "retry.approve done churn_brake - 1"]);
    assert!(rows(store).await.iter().all(|row| row.actor == "operator:anna"));
}

async fn tokens_of_the_configuration_are_compared_with_those_seen_last(fixture: StoreFixture) {
    use Role::{Admin, Viewer};
    let note = async |tokens: &[(&str, Role, &str)]| {
        fixture.store.note_tokens(tokens.iter().copied()).await.expect("the store is there");
    };
    note(&[("default", Admin, "secret one"), ("grafana", Viewer, "secret two")]).await;
    note(&[("default", Admin, "secret one"), ("grafana", Viewer, "secret two")]).await;
    assert_eq!(told(&fixture.store).await, ["token.add done - - admin", "token.add done - - viewer"]);
    note(&[("default", Admin, "secret three"), ("grafana", Admin, "secret two")]).await;
    note(&[("grafana", Admin, "secret two")]).await;
    assert_eq!(
        told(&fixture.store).await[2..],
        ["token.change done rotated admin admin", "token.change done - viewer admin", "token.remove done - admin -"]
    );
    // Those of identity providers, one of which may have the name of another token.
    let of_scim = async |tokens: &[(&str, &str)]| {
        fixture.store.note_scim_tokens(tokens.iter().copied()).await.expect("the store is there");
    };
    of_scim(&[("grafana", "secret four"), ("okta", "secret five")]).await;
    of_scim(&[("grafana", "secret six")]).await;
    note(&[("grafana", Admin, "secret two")]).await;
    of_scim(&[("grafana", "secret six")]).await;
    assert_eq!(
        told(&fixture.store).await[5..],
        ["token.add done - - -", "token.add done - - -", "token.remove done - - -", "token.change done rotated - -"]
    );
    let rows = rows(&fixture.store).await;
    let targets: Vec<&str> = rows[5..].iter().filter_map(|row| row.target_id.as_deref()).collect();
    assert_eq!(targets, ["scim:grafana", "scim:okta", "scim:okta", "scim:grafana"]);
}

#[tokio::test]
async fn each_command_that_acts_leaves_its_row() {
    let fixture = StoreFixture::on_sqlite().await;
    let refused = || Fate::Parked { reason: Reason::Refused, detail: "said no".to_owned() };
    let mut parked = Vec::new();
    for customer in ["C-1", "C-2", "C-3"] {
        parked.push(fixture.ends(customer, refused()).await.to_string());
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(file("events.ndjson"), "").expect("written");
    let run = |arguments: &[&str], status: i32| {
        let output = running::run(arguments, &vec![("STORE__URL", fixture.url.clone())]);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", running::said(&output));
        running::said(&output)
    };
    run(&["parked", "retry", &parked[0]], 0);
    run(&["parked", "retry", "--approve", &parked[1]], 1);
    run(&["parked", "skip", &parked[1]], 0);
    let ordered = run(&["parked", "retry", "--reason", "refused", "--detach", "--json"], 0);
    let ordered: serde_json::Value = serde_json::from_str(&ordered).expect("JSON");
    run(&["parked", "stop", ordered["id"].as_str().expect("an id")], 0);
    run(&["erase", "C-9"], 1);
    run(&["erase", "C-9", "--force"], 0);
    run(&["import", &file("events.ndjson")], 0);
    assert!(run(&["backup", &file("copy.db")], 0).contains("head of the audit log: "));
    run(&["backup", &file("copy.db")], 1);
    run(&["backup", &file("no-such-folder/copy.db")], 1);
    seal(&fixture.store).await;
    assert!(run(&["audit", "export", "--format", "csv"], 0).contains(",cli:"));
    let head = fixture.store.audit_head().await.expect("the store is there").to_string();
    let verified = run(&["audit", "verify", "--head", &head], 0);
    assert!(verified.contains("ok ") && verified.contains("the oldest row: 20"), "{verified}");
    let done: Vec<String> = rows(&fixture.store)
        .await
        .into_iter()
        .filter(|row| row.actor.starts_with("cli:"))
        .map(|row| format!("{} {} {}", row.action, row.outcome, row.reason.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!(
        done,
        [
            "event.retry done ",
            "event.approve refused not_approvable",
            "event.skip done ",
            "retry.order done refused",
            "retry.stop done ",
            "customer.erase refused unknown_customer",
            "customer.erase done ",
            "events.import done begun",
            "events.import done ended",
            "store.backup done ",
            "store.backup failed exists",
            "store.backup failed not_copied",
            "audit.export done ",
        ]
    );
    let mut intruder = Intruder::at(&fixture).await;
    intruder.run("UPDATE audit SET outcome = 'refused' WHERE number = 2").await;
    assert!(run(&["audit", "verify"], 1).contains("row 2 "));
    // A store that a command makes tells who made it.
    let made = vec![("STORE__URL", format!("sqlite://{}", file("made.db")))];
    assert_eq!(running::run(&["migrate"], &made).status.code(), Some(0));
    let listed = running::said(&running::run(&["audit", "list", "--action", "store.migrate"], &made));
    assert!(listed.contains("cli:") && listed.contains("0 -> "), "{listed}");
}

/// An auditor reads the place, and needs a head that was kept for an end that was cut and for a chain that was made again.
#[tokio::test]
async fn verify_says_where_the_log_was_changed() {
    let fixture = StoreFixture::on_sqlite().await;
    record(&fixture, 0..8).await;
    seal(&fixture.store).await;
    let head = fixture.store.audit_head().await.expect("the store is there");
    let (last, kept) = (head.count, head.to_string());
    let verify = |arguments: &[&str]| {
        let arguments = [&["audit", "verify"], arguments].concat();
        let output = running::run(&arguments, &vec![("STORE__URL", fixture.url.clone())]);
        (output.status.code(), running::said(&output))
    };
    let mut intruder = Intruder::at(&fixture).await;
    let swap = "UPDATE audit SET number = CASE number WHEN 1003 THEN 6 ELSE 3 END WHERE number IN (1003, 1006)";
    let moved = "UPDATE audit SET number = number + 1000 WHERE number IN (3, 6)";
    let set_back =
        "UPDATE audit_head SET sealed = sealed - 1, hash = (SELECT hash FROM audit ORDER BY number DESC LIMIT 1)";
    let cut = format!("DELETE FROM audit WHERE number = {last}");
    let rewritten =
        "UPDATE audit SET actor = 'operator:berta', number = NULL, hash = NULL WHERE actor LIKE 'operator:%'";
    let anew = format!("UPDATE audit_head SET sealed = 0, hash = '{NO_HASH}'");
    for (acts, without_head, with_head) in [
        (vec!["UPDATE audit SET outcome = 'done' WHERE number = 3"], "row 3 (", "row 3 ("),
        (vec!["UPDATE audit SET note = 'x' WHERE number = 3"], ": `note` was changed", ": `note` was changed"),
        (vec!["DELETE FROM audit WHERE number = 3"], "row 3 is missing", "row 3 is missing"),
        (vec![moved, swap], "the row of this number stands at 6", "the row of this number stands at 6"),
        (vec![cut.as_str(), set_back], "ok ", "its end was removed"),
        (vec!["UPDATE audit SET number = NULL, hash = NULL", rewritten, anew.as_str()], "ok ", "another hash at row"),
    ] {
        for act in &acts {
            intruder.run(act).await;
        }
        seal(&fixture.store).await;
        for (arguments, expected) in [(vec![], without_head), (vec!["--head", &kept], with_head)] {
            let (status, said) = verify(&arguments);
            assert_eq!(status, Some(i32::from(expected != "ok ")), "{acts:?} {arguments:?}: {said}");
            assert!(said.contains(expected), "{acts:?} {arguments:?}: {said}");
        }
        intruder.undo().await;
        assert_eq!(verify(&["--head", &kept]).0, Some(0), "{acts:?}");
    }
}

/// A head that is older than the retention proves nothing any more, which is no sign that the log was changed.
#[tokio::test]
async fn verify_with_a_head_older_than_the_retention_checks_the_rest() {
    let fixture = StoreFixture::on_sqlite().await;
    record(&fixture, 0..3).await;
    seal(&fixture.store).await;
    let old = fixture.store.audit_head().await.expect("the store is there").to_string();
    record(&fixture, 3..6).await;
    fixture.clock.advance(10 * DAY);
    record(&fixture, 6..9).await;
    seal(&fixture.store).await;
    while fixture.store.trim_audit(Some(5 * DAY)).await.expect("the store is there") {}
    let verify = || {
        let output = running::run(&["audit", "verify", "--head", &old], &vec![("STORE__URL", fixture.url.clone())]);
        (output.status.code(), running::said(&output))
    };
    let (status, said) = verify();
    assert_eq!(status, Some(0), "{said}");
    for expected in [
        "ok ",
        "proves nothing any more",
        "the oldest row: 20",
        "removed by audit.retention, whose newest row is of 20",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    Intruder::at(&fixture).await.run("UPDATE audit SET actor = 'cli:x' WHERE target_id = 'C-7'").await;
    let (status, said) = verify();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("was changed after it was sealed"), "{said}");
}

/// One act of each kind of line.
fn acts_to_export(at: Timestamp) -> Vec<AuditEntry> {
    let target = |kind, id: &str| AuditTarget::new(kind, id);
    let done = |action, target| AuditEntry::done(at, Actor::Operator("anna".to_owned()), action, target);
    let role = |from: &str, to: &str| (Some(from.to_owned()), Some(to.to_owned()));
    let mut changed = done(Action::OperatorChange, target(TargetKind::Operator, "berta"));
    (changed.from, changed.to) = role("viewer", "admin");
    let created = done(Action::PoderoCreateUser, target(TargetKind::Customer, "C-1"));
    let unknown = AuditEntry { outcome: AuditOutcome::Unknown, ..created.clone() };
    let skipped = done(Action::EventSkip, target(TargetKind::Event, "=SUM(A1)"));
    let mut rotated = done(Action::OperatorChange, target(TargetKind::Operator, "berta"));
    (rotated.from, rotated.to) = role("admin", "admin");
    let refused = AuditEntry {
        outcome: AuditOutcome::Refused,
        reason: Some("unknown_operator".to_owned()),
        ..done(Action::OperatorChange, target(TargetKind::Operator, "carla"))
    };
    let refused_role = AuditEntry { to: Some("admin".to_owned()), ..refused.clone() };
    let rotated_token =
        AuditEntry { target: target(TargetKind::Token, "grafana"), action: Action::TokenChange, ..rotated.clone() };
    let noted = AuditEntry { note: Some("they rang".to_owned()), ..skipped.clone() };
    vec![changed, created, unknown, skipped, rotated, refused, rotated_token, noted, refused_role]
}

/// The lines of an export, by one row of each kind.
#[tokio::test]
async fn an_export_is_read_by_machines() {
    let fixture = StoreFixture::on_sqlite().await;
    let at = fixture.clock.now();
    fixture.store.record(acts_to_export(at)).await.expect("the store is there");
    seal(&fixture.store).await;
    let export = |format: &str| {
        let output = running::run(&["audit", "export", "--format", format], &vec![("STORE__URL", fixture.url.clone())]);
        assert_eq!(output.status.code(), Some(0), "{}", running::said(&output));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let json = |text: &str| -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let ocsf = json(&export("ocsf"));
    let (own, ocsf) = ocsf.split_last().expect("the event of the export itself");
    let head: ChainHead = own["unmapped"]["head"].as_str().expect("text").parse().expect("a head");
    assert_eq!((&own["metadata"]["event_code"], &own["unmapped"]["to"]), (&"AU001I".into(), &head.to_string().into()));
    assert_eq!(broken(&fixture.store, Some(head)).await, None);
    let ocsf: Vec<_> = ocsf.iter().filter(|event| event["unmapped"]["action"] != "store.migrate").collect();
    let facts: Vec<_> = ocsf
        .iter()
        .map(|event| {
            let [class, activity, kind, status] = ["class_uid", "activity_id", "type_uid", "status_id"]
                .map(|name| event[name].as_u64().expect("a number"));
            assert_eq!(event["metadata"]["version"], OCSF_VERSION);
            assert_eq!(event["time"], at.micros() / 1_000);
            (class, activity, kind, status, event["metadata"]["event_code"].as_str().expect("a code").to_owned())
        })
        .collect();
    let expected = [
        (3005, 1, 300_501, 1, "OP002I"),
        (3001, 1, 300_101, 1, "PU001I"),
        (3001, 1, 300_101, 0, "PU001E"),
        (3004, 3, 300_403, 1, "EV004I"),
        (3001, 3, 300_103, 1, "OP002I"),
        (3001, 3, 300_103, 2, "OP002E"),
        (3001, 3, 300_103, 1, "TO002I"),
        (3004, 3, 300_403, 1, "EV004I"),
        (3005, 1, 300_501, 2, "OP002E"),
    ];
    assert_eq!(
        facts,
        expected.map(|(class, activity, kind, status, code)| (class, activity, kind, status, code.to_owned()))
    );
    assert_eq!((&ocsf[0]["privileges"][0], &ocsf[1]["user"]["uid"]), (&"admin".into(), &"C-1".into()));
    let types: Vec<_> =
        ocsf.iter().map(|event| (event["user"]["type_id"].as_u64(), event["user"]["type"].as_str())).collect();
    let (person, no_user) = ((Some(1), Some("User")), (None, None));
    assert_eq!(types, [person, person, person, no_user, person, person, (Some(99), Some("token")), no_user, person]);
    let csv = export("csv");
    assert!(csv.contains(",event,'=SUM(A1),"), "a cell is no formula");
    let lines = csv.matches("\r\n").count();
    assert!(csv.ends_with("\r\n") && lines == csv.matches('\n').count(), "RFC 4180: {csv}");
    let last = csv.lines().last().expect("a head");
    let head = last.split(',').find_map(|cell| cell.parse::<ChainHead>().ok());
    assert_eq!(broken(&fixture.store, Some(head.expect("a head"))).await, None);
    assert!(last.contains(",audit.export,AU001I,"), "{last}");
}

/// The lines of an export are enough to recompute the chain, with notes and without.
#[tokio::test]
async fn an_export_is_verified_without_the_store() {
    let fixture = StoreFixture::on_sqlite().await;
    record(&fixture, 0..3).await;
    fixture
        .store
        .record(vec![AuditEntry { note: None, ..act(fixture.clock.now(), 3) }])
        .await
        .expect("the store is there");
    seal(&fixture.store).await;
    let output = running::run(&["audit", "export"], &vec![("STORE__URL", fixture.url.clone())]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let last = lines.pop().expect("a head");
    let mut reached = ChainHead::EMPTY;
    for line in &lines {
        let text = |name: &str| line[name].as_str();
        let needed = |name: &str| text(name).unwrap_or_else(|| panic!("{name}: {line}"));
        reached = reached.seal(&SealedFields {
            id: needed("id"),
            at: Timestamp::parse(needed("at")).expect("a time"),
            actor: needed("actor"),
            action: needed("action"),
            target_kind: line["target"]["kind"].as_str().expect("a kind"),
            target_digest: line["target"]["digest"].as_str().expect("a digest"),
            outcome: needed("outcome"),
            reason: text("reason"),
            event_id: text("event_id"),
            was: text("from"),
            became: text("to"),
            note_digest: text("note_digest"),
        });
        assert_eq!(line["hash"], chain::hex(&reached.hash), "{line}");
    }
    assert_eq!((last["head"].as_str(), lines.len() >= 4), (Some(reached.to_string().as_str()), true));
}

#[test]
fn the_document_has_every_action_with_its_codes_and_every_reason() {
    let document = include_str!("../../docs/AUDIT.md");
    for action in Action::ALL {
        let [done, other] = [AuditOutcome::Done, AuditOutcome::Failed].map(|outcome| action.code(outcome));
        let row = format!("| `{action}` | `{done}` | `{other}` | ");
        assert!(document.contains(&row), "docs/AUDIT.md lacks {row}");
    }
    for outcome in AuditOutcome::ALL {
        assert!(document.contains(&format!("`{outcome}`")), "docs/AUDIT.md lacks {outcome}");
    }
    let (_, reasons) = document.split_once("\n## Reasons\n").expect("the chapter");
    let (reasons, _) = reasons.split_once("\n## ").expect("the next one");
    for reason in AuditReason::ALL {
        assert!(reasons.contains(&format!("`{reason}`")), "docs/AUDIT.md lacks {reason}");
    }
    assert!(document.contains(OCSF_VERSION));
}

/// Rows about logins and roles, each with class, activity and status of its event, its user, session and privilege, and its actor.
fn logins_and_roles(at: Timestamp) -> Vec<(AuditEntry, &'static str)> {
    let (anna, berta) = (|| Actor::Operator("anna".to_owned()), || Actor::Operator("berta".to_owned()));
    let target = |kind, id: &str| AuditTarget::new(kind, id);
    let session = |by: Actor, action, id: &str| AuditEntry::done(at, by, action, target(TargetKind::Session, id));
    let role = |action, target, from: Option<&str>, to: &str| AuditEntry {
        from: from.map(str::to_owned),
        to: Some(to.to_owned()),
        ..AuditEntry::done(at, anna(), action, target)
    };
    let operator = |id: &str| target(TargetKind::Operator, id);
    let member = || target(TargetKind::Member, "M-1");
    let route = target(TargetKind::Route, "POST /console/login");
    let refused_login = AuditEntry::done(at, Actor::Bridge, Action::SessionOpen, route).refused("wrong_password", 0);
    let refused_revoke = session(anna(), Action::SessionRevoke, "S-9").refused("unknown_session", 0);
    let refused_role = role(Action::OperatorChange, operator("carla"), None, "viewer").refused("unknown_operator", 0);
    let demoted_token = role(Action::TokenChange, target(TargetKind::Token, "grafana"), Some("support"), "viewer");
    let change = Action::OperatorChange;
    vec![
        (session(berta(), Action::SessionOpen, "S-1"), "3002 1 1 operator:berta S-1 - by operator:berta"),
        (refused_login, "3002 1 2 bridge - - by bridge"),
        (session(anna(), Action::SessionClose, "S-2"), "3002 2 1 operator:anna S-2 - by operator:anna"),
        (session(anna(), Action::SessionRevoke, "S-1"), "3002 2 1 operator:berta S-1 - by operator:anna"),
        (refused_revoke, "3002 2 2 - S-9 - by operator:anna"),
        (role(change, operator("berta"), Some("viewer"), "admin"), "3005 1 1 berta - admin by operator:anna"),
        (role(change, operator("berta"), Some("admin"), "viewer"), "3005 2 1 berta - admin by operator:anna"),
        (demoted_token, "3005 2 1 grafana - support by operator:anna"),
        (role(Action::PoderoUpdateUser, member(), Some("staff"), "admin"), "3005 1 1 M-1 - admin by operator:anna"),
        (role(Action::PoderoUpdateUser, member(), Some("admin"), "staff"), "3005 2 1 M-1 - admin by operator:anna"),
        (refused_role, "3005 1 2 carla - viewer by operator:anna"),
    ]
}

/// Checks that an event has the attributes that the schema wants of all events and of those of its class. Returns its facts.
fn facts_of(event: &serde_json::Value) -> String {
    let number = |name: &str| event[name].as_u64().unwrap_or_else(|| panic!("{name}: {event}"));
    let [class, activity, status] = ["class_uid", "activity_id", "status_id"].map(number);
    assert_eq!((number("category_uid"), number("type_uid")), (class / 1_000, class * 100 + activity), "{event}");
    assert!(number("severity_id") > 0 && number("time") > 0, "{event}");
    let is_done = event["metadata"]["event_code"].as_str().is_some_and(|code| code.ends_with('I'));
    assert_eq!(status, if is_done { 1 } else { 2 }, "{event}");
    assert_eq!(event["metadata"]["version"], OCSF_VERSION);
    assert!(event["metadata"]["product"]["name"].is_string(), "{event}");
    let wanted: &[&str] = match class {
        3001 => &["user"],
        3002 => &["user", "service"],
        3005 => &["user", "privileges"],
        _ => &["entity"],
    };
    for name in wanted {
        assert!(!event[*name].is_null(), "{name}: {event}");
    }
    let [user, session, privilege, actor] =
        [&event["user"]["uid"], &event["session"]["uid"], &event["privileges"][0], &event["actor"]["user"]["uid"]]
            .map(|value| value.as_str().unwrap_or("-"));
    format!("{class} {activity} {status} {user} {session} {privilege} by {actor}")
}

/// A SIEM sees who logged in or out, who ended the session of another, and whether a role was given or taken away.
#[tokio::test]
async fn logins_and_roles_are_events_of_their_classes() {
    let fixture = StoreFixture::on_sqlite().await;
    let (entries, expected): (Vec<_>, Vec<_>) = logins_and_roles(fixture.clock.now()).into_iter().unzip();
    fixture.store.record(entries).await.expect("the store is there");
    seal(&fixture.store).await;
    let output = running::run(&["audit", "export", "--format", "ocsf"], &vec![("STORE__URL", fixture.url.clone())]);
    assert_eq!(output.status.code(), Some(0), "{}", running::said(&output));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let facts: Vec<String> = events.map(|event| facts_of(&event)).collect();
    // The others are about the store: its schema, and the export itself.
    let of_people: Vec<&String> = facts.iter().filter(|facts| !facts.starts_with("3004 ")).collect();
    assert_eq!(of_people, expected);
}
