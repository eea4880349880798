//! An event's identity belongs to its source. An event stored before identities had a source counts for each.

use podero_bridge::clock::Clock;
use podero_bridge::domain::EventId;
use podero_bridge::domain::audit::{Action, REFUSALS_A_MINUTE_MAX};
use podero_bridge::domain::event::{EventState, Happening};
use podero_bridge::store::{Arrival, AuditFilter, Receipt, Settings, Store};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection};

use crate::kit::{BY, Fixture, StoreFixture, on_both_databases};
use crate::running;
use crate::servers;
use crate::world::{self, Database, World, sign_up};

const TIME: &str = "2026-10-01T12:00:00Z";

/// The row of the audit log about a churn that the source may not send.
const NOT_ALLOWED: &str = "source:crm source refused type_not_allowed customer.churned";

/// An event of this source, identity and content.
fn arrival(fixture: &StoreFixture, source: &str, origin_id: &str, digest: &str) -> Arrival {
    let arrival = fixture.arrival("C-1", Happening::Churned);
    Arrival { source: source.to_owned(), origin_id: origin_id.to_owned(), digest: digest.to_owned(), ..arrival }
}

async fn accept(store: &Store, arrival: Arrival) -> Receipt {
    store.accept(vec![arrival]).await.expect("the store is there").remove(0)
}

fn accepted(receipt: &Receipt) -> EventId {
    match receipt {
        Receipt::Accepted { id, .. } => *id,
        Receipt::Duplicate { .. } | Receipt::Reused { .. } => panic!("it is new: {receipt:?}"),
    }
}

async fn execute(url: &str, statements: &[&str]) {
    sqlx::any::install_default_drivers();
    let mut connection = sqlx::AnyConnection::connect(url).await.expect("the database is there");
    for statement in statements {
        let done = sqlx::query(AssertSqlSafe((*statement).to_owned())).execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    connection.close().await.expect("closed");
}

on_both_databases! {
    two_sources_have_events_of_the_same_identity_each_its_own
    an_erased_event_comes_to_nothing_whichever_source_had_it
}

async fn two_sources_have_events_of_the_same_identity_each_its_own(fixture: StoreFixture) {
    let crm = accepted(&accept(&fixture.store, arrival(&fixture, "crm", "e1", "d1")).await);
    let billing = accepted(&accept(&fixture.store, arrival(&fixture, "billing", "e1", "d2")).await);
    for (source, digest, id, is_same) in [
        ("crm", "d1", crm, true),
        ("crm", "d2", crm, false),
        ("billing", "d2", billing, true),
        ("billing", "d1", billing, false),
    ] {
        match accept(&fixture.store, arrival(&fixture, source, "e1", digest)).await {
            Receipt::Duplicate { id: known, .. } => assert_eq!((known, true), (id, is_same), "{source} {digest}"),
            Receipt::Reused { id: known } => assert_eq!((known, false), (id, is_same), "{source} {digest}"),
            Receipt::Accepted { .. } => panic!("{source} {digest} is known"),
        }
    }
    for (source, expected) in [("crm", Some(crm)), ("billing", Some(billing)), ("shop", None)] {
        let known = fixture.store.told_before(source, "/billing", "e1").await.expect("the store is there");
        assert_eq!(known.map(|(id, _)| id), expected, "{source}");
    }
}

async fn an_erased_event_comes_to_nothing_whichever_source_had_it(fixture: StoreFixture) {
    for source in ["crm", "billing"] {
        accepted(&accept(&fixture.store, arrival(&fixture, source, "e1", "d1")).await);
    }
    fixture.store.erase("C-1", &[], true, BY).await.expect("the store is there").expect("nothing is in the way");
    for source in ["crm", "billing"] {
        for is_first in [true, false] {
            match accept(&fixture.store, arrival(&fixture, source, "e1", "d1")).await {
                Receipt::Accepted { state, .. } => {
                    assert_eq!((state, is_first), (EventState::Superseded, true), "{source}")
                }
                Receipt::Duplicate { .. } => assert!(!is_first, "{source}"),
                Receipt::Reused { .. } => panic!("{source}: it is the same"),
            }
        }
    }
}

/// Statements that take a store back to the schema before identities had a source.
const BACK: [&str; 4] = [
    "DROP INDEX events_by_identity",
    "ALTER TABLE events DROP COLUMN scope",
    "CREATE UNIQUE INDEX events_by_origin ON events (origin, origin_id)",
    "DELETE FROM _sqlx_migrations WHERE version = 11",
];

async fn a_repeat_after_the_upgrade_is_a_duplicate_by_whichever_source(url: String) {
    let fixture = StoreFixture::on_sqlite().await;
    let open = async || {
        let settings = Settings { url: url.clone(), targets: Vec::new(), works: true };
        let (store, writer) = Store::open(settings, Clock::system()).await.expect("it opens");
        (store, tokio::spawn(writer.run()))
    };
    let (store, writer) = open().await;
    let first = accepted(&accept(&store, arrival(&fixture, "crm", "e1", "d1")).await);
    let erased = Arrival { origin: "/erased".to_owned(), ..fixture.arrival("C-2", Happening::Churned) };
    accepted(&accept(&store, erased.clone()).await);
    store.erase("C-2", &[], true, BY).await.expect("the store is there").expect("nothing is in the way");
    accepted(&accept(&store, erased.clone()).await);
    drop(store);
    writer.await.expect("it ends");
    execute(&url, &BACK).await;

    let (store, writer) = open().await;
    for source in ["crm", "billing"] {
        let repeated = accept(&store, arrival(&fixture, source, "e1", "d1")).await;
        assert!(matches!(&repeated, Receipt::Duplicate { id, .. } if *id == first), "{source}: {repeated:?}");
        let other = accept(&store, arrival(&fixture, source, "e1", "d2")).await;
        assert!(matches!(&other, Receipt::Reused { id } if *id == first), "{source}: {other:?}");
        // An event that was erased before, and came again before, is known too.
        let late = Arrival { id: EventId(fixture.clock.fresh_id()), source: source.to_owned(), ..erased.clone() };
        let late = accept(&store, late).await;
        assert!(matches!(&late, Receipt::Duplicate { state: EventState::Superseded, .. }), "{source}: {late:?}");
        accepted(&accept(&store, arrival(&fixture, source, "e2", "d1")).await);
    }
    let events = store.customer("C-1").await.expect("the store is there").expect("it is known").events;
    assert_eq!(events.len(), 3, "none was left behind that was taken back: {events:?}");
    drop(store);
    writer.await.expect("it ends");
}

#[tokio::test]
async fn a_repeat_after_the_upgrade_is_a_duplicate_on_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = crate::kit::sqlite_url(folder.path());
    a_repeat_after_the_upgrade_is_a_duplicate_by_whichever_source(url).await;
}

#[tokio::test]
async fn a_repeat_after_the_upgrade_is_a_duplicate_on_postgres() {
    a_repeat_after_the_upgrade_is_a_duplicate_by_whichever_source(servers::fresh_database()).await;
}

/// One sender does not use up the ids of another and sends only what it may.
#[tokio::test(flavor = "multi_thread")]
async fn senders_do_not_use_up_the_ids_of_each_other() {
    let toml = "[watch]\nenabled = false\n[[source]]\nname = \"default\"\nverify = \"none\"\n\
                [[source]]\nname = \"crm\"\nverify = \"none\"\ntypes = [\"customer.signed_up\", \"team.*\"]\n";
    let settings = world::Settings { toml: toml.to_owned(), environment: Vec::new() };
    let world = World::start(Database::Sqlite, settings).await;
    let send = async |source: &str, event: &serde_json::Value| {
        let url = world.door(&format!("/v1/events/{source}"));
        world.post(&url, "application/cloudevents+json", event.to_string()).await
    };
    let (status, answer) = send("crm", &sign_up("e1", "C-1", TIME)).await;
    assert_eq!((status, &answer["status"]), (202, &json!("accepted")), "{answer}");
    let (status, answer) = send("default", &sign_up("e1", "C-2", TIME)).await;
    assert_eq!((status, &answer["status"]), (202, &json!("accepted")), "its owner can still use it: {answer}");
    let (status, answer) = send("default", &sign_up("e1", "C-3", TIME)).await;
    assert_eq!((status, &answer["type"]), (422, &json!("urn:podero-bridge:problem:event-id-reused")), "{answer}");

    let churn = world::event("e2", "customer.churned", TIME, &json!({"customer_id": "C-1"}));
    let (status, answer) = send("crm", &churn).await;
    assert_eq!((status, &answer["type"]), (403, &json!("urn:podero-bridge:problem:type-not-allowed")), "{answer}");
    assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains("customer.signed_up")), "{answer}");
    // Other faults do not matter, nor that it is no type at all.
    let (status, _) = send("crm", &world::event("e3", "customer.churned", TIME, &json!({"customer_id": 7}))).await;
    assert_eq!(status, 403);
    let (status, _) = send("crm", &world::event("e4", "customer.unheard_of", TIME, &json!({}))).await;
    assert_eq!(status, 422);
    // In a batch, item by item.
    let batch = json!([churn, sign_up("e5", "C-5", TIME)]).to_string();
    let url = world.door("/v1/events/crm");
    let (status, answer) = world.post(&url, "application/cloudevents-batch+json", batch).await;
    assert_eq!(status, 202, "{answer}");
    let results = &answer["results"];
    assert_eq!(results[0]["problem"]["type"], "urn:podero-bridge:problem:type-not-allowed", "{answer}");
    assert_eq!(results[1]["status"], "accepted", "{answer}");
    let (status, answer) = send("default", &churn).await;
    assert_eq!((status, &answer["status"]), (202, &json!("accepted")), "{answer}");
    // Each event that a source may not send has a row; one of no type is no matter of permission.
    assert_eq!(world.audited("event.receive").await, [NOT_ALLOWED; 3]);
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_rejects_a_line_of_a_type_that_its_source_may_not_send() {
    let fixture = StoreFixture::on_sqlite().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("events.ndjson");
    let churn = world::event("e2", "customer.churned", TIME, &json!({"customer_id": "C-1"}));
    let lines = format!("{}\n{churn}\n", sign_up("e1", "C-1", TIME));
    std::fs::write(&file, lines + &format!("{churn}\n").repeat(99)).expect("written");
    let environment = vec![
        ("STORE__URL", fixture.url.clone()),
        ("SOURCE__CRM__VERIFY", "none".to_owned()),
        ("SOURCE__CRM__TYPES", "customer.signed_up".to_owned()),
    ];
    let import = move || running::run(&["import", "--source", "crm", &file.display().to_string()], &environment);
    let output = tokio::task::spawn_blocking(import).await.expect("it ran");
    let said = running::said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("accepted 1, duplicate 0, rejected 100"), "{said}");
    let events = fixture.store.customer("C-1").await.expect("the store is there").expect("it is known").events;
    assert_eq!(events.len(), 1);
    let filter = AuditFilter { action: Some(Action::EventReceive), ..AuditFilter::default() };
    let page = fixture.store.audit_page(&filter, None, 1_000).await.expect("the store is there");
    for row in &page.records {
        let told = (row.actor.as_str(), row.outcome.as_str(), row.reason.as_deref(), row.became.as_deref());
        assert_eq!(told, ("source:crm", "refused", Some("type_not_allowed"), Some("customer.churned")));
    }
    // All of them within a minute, or in two.
    let rows = page.records.len();
    let most = usize::try_from(REFUSALS_A_MINUTE_MAX).expect("few");
    assert!((most..=100).contains(&rows), "a file of a million such lines does not fill the log: {rows}");
}
