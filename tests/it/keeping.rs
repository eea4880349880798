//! Keeping and forgetting: retention, erasure, backups, a damaged file, and logs without personal data.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use podero_bridge::clock::Clock;
use podero_bridge::domain::EventId;
use podero_bridge::domain::alert::{self, DiffContext, Observation, Outages, WatchPolicy};
use podero_bridge::domain::call::Operation;
use podero_bridge::domain::event::{Details, EventState, Happening};
use podero_bridge::domain::notice::{Notice, Topic, notice_id};
use podero_bridge::domain::verdict::{Fate, Reason, unreadable_notice};
use podero_bridge::store::{
    Arrival, CallMade, Content, InTheWay, Member, Observed, OpenError, PublishOutcome, Receipt, Roster, Settings,
    Store, Target,
};
use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};
use uuid::Uuid;

use crate::bus::Bus;
use crate::kit::{BY, StoreFixture, on_both_databases};
use crate::running::{self, Running};
use crate::servers;
use crate::world::{self, Database, World, event, sign_up, until};

const DAY: Duration = Duration::from_secs(86_400);
const TIME: &str = "2026-10-01T12:00:00Z";
const STRUCTURED: &str = "application/cloudevents+json";

/// Everything in every table, as text.
async fn dump(url: &str) -> String {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await.expect("the database is there");
    let is_sqlite = url.starts_with("sqlite");
    let tables = if is_sqlite {
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_sqlx%' ESCAPE '\\'"
    } else {
        "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = 'public' \
         AND table_name NOT LIKE '\\_sqlx%'"
    };
    let tables = sqlx::query(tables).fetch_all(&mut connection).await.expect("tables");
    let mut dump = String::new();
    for table in &tables {
        let table: String = table.try_get(0).expect("a name");
        let rows = if is_sqlite {
            let columns = format!("SELECT name FROM pragma_table_info('{table}')");
            let columns = sqlx::query(AssertSqlSafe(columns)).fetch_all(&mut connection).await.expect("columns");
            let cells: Vec<String> = columns
                .iter()
                .map(|row| format!("COALESCE(CAST(\"{}\" AS TEXT), '')", row.try_get::<String, _>(0).expect("a name")))
                .collect();
            format!("SELECT {} FROM {table}", cells.join(" || '|' || "))
        } else {
            format!("SELECT CAST(row_to_json(t) AS TEXT) FROM {table} t")
        };
        for row in sqlx::query(AssertSqlSafe(rows)).fetch_all(&mut connection).await.expect("rows") {
            dump += &format!("{table}: {}\n", row.try_get::<String, _>(0).expect("text"));
        }
    }
    connection.close().await.expect("closed");
    assert!(dump.contains("erasure_keys: "), "it sees what is there");
    dump
}

async fn rows_of(url: &str, table: &str) -> usize {
    dump(url).await.lines().filter(|line| line.starts_with(&format!("{table}: "))).count()
}

on_both_databases! {
    old_settled_rows_are_forgotten_a_little_at_a_time
    an_event_is_forgotten_with_its_calls_and_a_notice_once_it_is_out
    an_erasure_never_takes_a_claimed_customer
    late_events_of_an_erased_customer_are_kept_without_content
    tombstones_are_known_under_their_own_key_only
    what_arrives_during_an_erasure_is_erased_or_kept_without_content
    an_unknown_customer_is_erased_by_force_only
    a_poll_that_was_under_way_brings_nobody_back_who_was_erased
    other_customers_messages_stay_and_a_message_that_was_emptied_stays_so
}

fn parked() -> Fate {
    Fate::Parked { reason: Reason::Refused, detail: "create_user 422".to_owned() }
}

/// Settled rows that are old are forgotten a little at a time, and nothing else is.
async fn old_settled_rows_are_forgotten_a_little_at_a_time(fixture: StoreFixture) {
    for number in 0..250 {
        fixture.ends(&format!("C-{number}"), Fate::Superseded).await;
    }
    let kept = [fixture.ends("P-1", parked()).await, {
        let arrival = fixture.arrival("P-2", Happening::Churned);
        let id = arrival.id;
        fixture.store.accept(vec![arrival]).await.expect("the store is there");
        id
    }];
    fixture.clock.advance(91 * DAY);
    let young = fixture.ends("Y-1", Fate::Superseded);
    // The pending one of `P-2` is due first.
    fixture
        .settle_head(Fate::Retry {
            at: fixture.clock.now().plus(DAY),
            setback: podero_bridge::domain::verdict::Setback::Busy,
        })
        .await;
    let young = young.await;
    let forget = async || fixture.store.forget(90 * DAY).await.expect("the store is there");
    assert_eq!(rows_of(&fixture.url, "events").await, 253);
    assert!(forget().await, "there is more");
    assert_eq!(rows_of(&fixture.url, "events").await, 53, "a chunk");
    assert!(!forget().await, "that was all");
    assert_eq!(rows_of(&fixture.url, "events").await, 3);
    for (id, state) in [(kept[0], "parked"), (kept[1], "pending"), (young, "superseded")] {
        assert_eq!(fixture.state(id).await, state);
    }
    assert_eq!(rows_of(&fixture.url, "lanes").await, 253, "what is known of customers stays");
}

async fn an_event_is_forgotten_with_its_calls_and_a_notice_once_it_is_out(fixture: StoreFixture) {
    fixture.store.accept(vec![fixture.arrival("C-1", Happening::Churned)]).await.expect("the store is there");
    let claim = fixture.store.claim(Duration::from_secs(60)).await.expect("the store is there").expect("due");
    let topic = Topic::CustomerOffboarded;
    let notices = ["one", "two"].map(|cause| Notice {
        id: notice_id(cause, topic),
        topic,
        order_key: cause.to_owned(),
        subject: "C-1".to_owned(),
        time: fixture.clock.now(),
        data: json!({}),
    });
    let call = CallMade {
        id: fixture.clock.fresh_id(),
        at: fixture.clock.now(),
        operation: Operation::FindUser,
        outcome: "not there".to_owned(),
        took: Duration::ZERO,
        idempotency_key: None,
    };
    let verdict = StoreFixture::verdict(&claim, Fate::Applied { stale: Vec::new() }, notices.to_vec());
    fixture.store.settle(&claim, verdict, vec![call]).await.expect("the store is there");
    let forget = async |days: u32| {
        fixture.clock.advance(days * DAY);
        fixture.store.forget(90 * DAY).await.expect("the store is there");
        (
            rows_of(&fixture.url, "events").await,
            rows_of(&fixture.url, "calls").await,
            rows_of(&fixture.url, "notices").await,
        )
    };
    assert_eq!(forget(89).await, (1, 1, 2));
    // One goes out after all; its time counts from then. The other one never does, and stays.
    fixture
        .store
        .mark(Target::Amqp, vec![(notices[0].id, PublishOutcome::Published)])
        .await
        .expect("the store is there");
    assert_eq!(forget(2).await, (0, 0, 2));
    assert_eq!(forget(89).await, (0, 0, 1));
    assert_eq!(forget(900).await, (0, 0, 1));
}

/// An erasure waits for what is in its way and never takes a claimed customer.
async fn an_erasure_never_takes_a_claimed_customer(fixture: StoreFixture) {
    let erase = async |force| fixture.store.erase("C-1", &[], force, BY).await.expect("the store is there");
    fixture.ends("C-1", parked()).await;
    fixture.ends("C-1", parked()).await;
    let refused = erase(false).await.expect_err("it is in the way");
    assert_eq!(refused, InTheWay { unsettled: vec![(EventState::Parked, 2)], ..InTheWay::default() });
    // An applier works on it: not even by force.
    fixture.store.accept(vec![fixture.arrival("C-1", Happening::Churned)]).await.expect("the store is there");
    let claim = fixture.store.claim(Duration::from_secs(60)).await.expect("the store is there").expect("due");
    let refused = erase(true).await.expect_err("it is claimed");
    assert!(refused.is_claimed);
    assert_eq!(rows_of(&fixture.url, "events").await, 3, "nothing was touched");
    // Its lease lapses, another one ends the work; then it may go.
    fixture.clock.advance(Duration::from_secs(61));
    fixture.settle_head(Fate::Superseded).await;
    let erased = erase(true).await.expect("forced");
    assert_eq!((erased.events, rows_of(&fixture.url, "events").await, rows_of(&fixture.url, "lanes").await), (3, 0, 0));
    // The first worker wakes up while a new customer of the same id is worked on: its fence is long past.
    fixture.clock.advance(Duration::from_secs(1));
    fixture.store.accept(vec![fixture.arrival("C-1", Happening::SignedUp(Details::default()))]).await.expect("there");
    let newer = fixture.store.claim(Duration::from_secs(60)).await.expect("the store is there").expect("due");
    assert_ne!(newer.fence, claim.fence);
    let mut old = claim;
    let saved = fixture.store.save(&mut old, Duration::from_secs(60)).await.expect("the store is there");
    assert_eq!(saved, podero_bridge::store::Settled::Fenced);
}

/// An erased customer's late events are kept without content and a later sign-up is a new customer.
async fn late_events_of_an_erased_customer_are_kept_without_content(fixture: StoreFixture) {
    let first = fixture.arrival("C-1", Happening::Churned);
    let late = fixture.arrival("C-1", Happening::SignedUp(Details::default()));
    fixture.store.accept(vec![first.clone()]).await.expect("the store is there");
    fixture.settle_head(Fate::Superseded).await;
    fixture.clock.advance(DAY);
    fixture.store.erase("C-1", &[], false, BY).await.expect("the store is there").expect("nothing is in the way");
    let accept = async |arrival| fixture.store.accept(vec![arrival]).await.expect("the store is there").remove(0);
    for arrival in [first.clone(), late.clone()] {
        // A repeat comes with an id of ours of its own.
        let again = |arrival: &podero_bridge::store::Arrival| {
            let mut again = arrival.clone();
            again.id = podero_bridge::domain::EventId(fixture.clock.fresh_id());
            again
        };
        let receipt = accept(again(&arrival)).await;
        assert!(matches!(&receipt, Receipt::Accepted { state: EventState::Superseded, .. }), "{receipt:?}");
        let receipt = accept(again(&arrival)).await;
        assert!(matches!(&receipt, Receipt::Duplicate { state: EventState::Superseded, .. }), "{receipt:?}");
        let mut other = again(&arrival);
        other.digest = "d2".to_owned();
        assert!(matches!(accept(other).await, Receipt::Reused { .. }));
    }
    assert!(fixture.store.claim(Duration::from_secs(60)).await.expect("the store is there").is_none(), "nothing to do");
    let dump = dump(&fixture.url).await;
    assert!(!dump.contains("C-1"), "{dump}");
    assert!(!dump.contains(&first.origin_id), "nor the sender's id of it: {dump}");
    assert_eq!(dump.lines().filter(|line| line.starts_with("tombstones: ")).count(), 1);
    // To the microsecond.
    fixture.clock.advance(Duration::from_micros(1));
    let receipt = accept(fixture.arrival("C-1", Happening::SignedUp(Details::default()))).await;
    assert!(matches!(&receipt, Receipt::Accepted { state: EventState::Pending, .. }), "{receipt:?}");
    let claim = fixture.store.claim(Duration::from_secs(60)).await.expect("the store is there").expect("due");
    assert_eq!(claim.lane, "C-1");
}

async fn tombstones_are_known_under_their_own_key_only(fixture: StoreFixture) {
    let open = async |key: Option<&str>| {
        let settings = Settings { url: fixture.url.clone(), targets: vec![Target::Amqp], works: false };
        Store::open_with(settings, key, fixture.clock.clone()).await.map(drop)
    };
    let other = open(Some("a-key-of-the-operator")).await.expect_err("a command with another key than the bridge's");
    assert!(matches!(other, OpenError::OtherKey), "{other}");
    open(None).await.expect("the bridge's own");
    fixture.store.erase("C-1", &[], true, BY).await.expect("the store is there").expect("nothing is known, but forced");
    let other = open(Some("a-key-of-the-operator")).await.expect_err("it would not know the tombstone");
    assert!(matches!(other, OpenError::OtherKey), "{other}");
    open(None).await.expect("the store's own key");
}

async fn what_arrives_during_an_erasure_is_erased_or_kept_without_content(fixture: StoreFixture) {
    let other = fixture.beside().await;
    for round in 0..10 {
        let customer = format!("C-{round}-X");
        let arrivals: Vec<_> = (0..20).map(|_| fixture.arrival(&customer, Happening::Churned)).collect();
        let half = arrivals.len() / 2;
        let (before, after) = arrivals.split_at(half);
        let send = |arrivals: &[podero_bridge::store::Arrival]| {
            let sends = arrivals.iter().map(|arrival| other.accept(vec![arrival.clone()])).collect::<Vec<_>>();
            futures_util::future::join_all(sends)
        };
        let erase = fixture.store.erase(&customer, &[], true, BY);
        let (first, erased, second) = tokio::join!(send(before), erase, send(after));
        erased.expect("the store is there").expect("forced");
        assert!(first.iter().chain(&second).all(Result::is_ok));
    }
    let dump = dump(&fixture.url).await;
    let left: Vec<&str> = dump.lines().filter(|line| line.contains("-X")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(fixture.store.claim(Duration::from_secs(60)).await.expect("the store is there").is_none());
}

/// An unknown customer is erased by force only, and one whom the watch knows is a customer.
async fn an_unknown_customer_is_erased_by_force_only(fixture: StoreFixture) {
    let erase = async |force| fixture.store.erase("C-1", &[], force, BY).await.expect("the store is there");
    let refused = erase(false).await.expect_err("mistyped?");
    assert_eq!(refused, InTheWay { is_unknown: true, ..InTheWay::default() });
    watch(&fixture, "C-1").await;
    fixture.store.observe(lost_pump(&fixture)).await.expect("the store is there");
    let refused = erase(false).await.expect_err("still at Podero");
    assert_eq!(refused, InTheWay { is_active: true, open_alerts: 1, unpublished: 1, ..InTheWay::default() });
    assert_eq!(erase(true).await.expect("forced").heat_pumps, 1);
    erase(false).await.expect("again is fine");
}

async fn a_poll_that_was_under_way_brings_nobody_back_who_was_erased(fixture: StoreFixture) {
    watch(&fixture, "C-1").await;
    let never_seen = lost_pump(&fixture);
    fixture.store.observe(never_seen.clone()).await.expect("the store is there");
    let mut seen = never_seen.clone();
    seen.changes[0].seen.version = 1;
    fixture.store.erase("C-1", &[], true, BY).await.expect("the store is there").expect("forced");
    for late in [never_seen, seen] {
        fixture.store.observe(late).await.expect("the store is there");
        assert_eq!((rows_of(&fixture.url, "pumps").await, rows_of(&fixture.url, "notices").await), (0, 0));
    }
}

async fn watch(fixture: &StoreFixture, customer: &str) {
    let (user, first_due) = (Uuid::from_u128(1), fixture.clock.now());
    let members = vec![Member { user, customer: Some(customer.to_owned()), region: None, first_due }];
    let roster =
        Roster { members, asked_at: fixture.clock.now(), lists_to_remove: 3, break_after: Duration::from_mins(20) };
    fixture.store.keep_roster(roster).await.expect("the store is there");
}

/// The observation of a heat pump of C-1 that is lost.
fn lost_pump(fixture: &StoreFixture) -> Observed {
    let (user, heat_pump) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let policy = WatchPolicy { disconnect_after: Duration::ZERO, disconnect_polls: 1, ..WatchPolicy::DEFAULT };
    let updated_at = Some(fixture.clock.now());
    let lost = Observation { heat_pump, is_authenticated: Some(false), updated_at, ..Observation::default() };
    let change = alert::diff(
        None,
        &lost,
        &DiffContext::plain(user, Some("C-1"), &Outages::default()),
        fixture.clock.now(),
        &policy,
    );
    assert!(!change.notices.is_empty(), "it is told as lost");
    Observed { user, changes: vec![change], due_at: fixture.clock.now() }
}

/// A message that never became an event, as the listeners hand it on.
fn message(fixture: &StoreFixture, body: &str) -> Arrival {
    let id = EventId(fixture.clock.fresh_id());
    let reason = Reason::Untranslatable;
    let notice = unreadable_notice(id, reason, fixture.clock.now());
    let content = Content::Parked { reason, detail: "no".to_owned(), notice, may_be_known: true };
    let (digest, raw) =
        (Uuid::new_v5(&Uuid::NAMESPACE_OID, body.as_bytes()).to_string(), Bytes::copy_from_slice(body.as_bytes()));
    Arrival {
        id,
        origin_id: digest.clone(),
        digest,
        raw,
        content,
        envelope: Some("{}".to_owned()),
        ..fixture.arrival("nobody", Happening::Churned)
    }
}

async fn other_customers_messages_stay_and_a_message_that_was_emptied_stays_so(fixture: StoreFixture) {
    let bodies = [
        r#"{"data":{"customer_id":"C-1"},"mine":1}"#,
        r#"{"data":{"customer_id":"C-1-2"},"longer":1}"#,
        r#"[{"data":{"customer_id":"C-1"},"mine":2},{"data":{"customer_id":"C-900"}}]"#,
        r#"{"data":{"customer_id":"C-7"},"note":"was C-1 before"}"#,
    ];
    let messages: Vec<Arrival> = bodies.iter().map(|body| message(&fixture, body)).collect();
    fixture.store.accept(messages.clone()).await.expect("the store is there");
    let erased =
        fixture.store.erase("C-1", &[], false, BY).await.expect("the store is there").expect("nothing is in the way");
    assert_eq!((erased.messages, &erased.mentions), (2, &vec![messages[3].id]));
    let states = async || {
        let mut states = Vec::new();
        for message in &messages {
            states.push(fixture.state(message.id).await);
        }
        states
    };
    assert_eq!(states().await, ["skipped", "parked", "parked", "parked"]);
    let after = dump(&fixture.url).await.replace('\\', "");
    assert!(!after.contains("\"mine\""), "{after}");
    for kept in ["longer", r#"[{"data":{"customer_id":"C-900"}}]"#, "was C-1 before"] {
        assert!(after.contains(kept), "{kept} in {after}");
    }
    // The message comes again, twice, and the erasure as well; a person has looked at the last one.
    for _ in 0..2 {
        let again = message(&fixture, bodies[0]);
        let receipt = fixture.store.accept(vec![again]).await.expect("the store is there").remove(0);
        assert!(matches!(&receipt, Receipt::Duplicate { state: EventState::Skipped, .. }), "{receipt:?}");
    }
    let also = [messages[3].id];
    let erased =
        fixture.store.erase("C-1", &also, false, BY).await.expect("the store is there").expect("nothing is in the way");
    assert_eq!((erased.messages, erased.mentions.len()), (1, 0));
    assert_eq!(states().await, ["skipped", "parked", "parked", "skipped"]);
}

/// Personal data of the customer of the stories. In an erasure that includes the id, in a log it does not.
const PERSONAL: [&str; 12] = [
    "zenobia.q@example.com",
    "zq-new@example.com",
    "Zenobia",
    "Quillfeather",
    "Kastanienweg",
    "Ahornplatz",
    "09247",
    "86424",
    "Röhrsdorf",
    "Dinkelscherben",
    "Hinterhaus-Zimmer",
    "Ferienhaus-Süd",
];
const CUSTOMER: &str = "K-77-ZQ";

fn address(street: &str, zip: &str, town: &str) -> Value {
    json!({"street_and_number": street, "street_add_info": "Hinterhaus-Zimmer", "zip_code": zip, "town": town, "country": "DE"})
}

/// A customer's whole life: sign-up, update, move, churn.
fn life(customer: &str, tag: &str) -> Vec<Value> {
    let tell = |id: &str, type_name: &str, day: u32, data: Value| {
        event(&format!("{tag}-{id}"), type_name, &format!("2026-10-{day:02}T12:00:00Z"), &data)
    };
    vec![
        tell(
            "1",
            "customer.signed_up",
            1,
            json!({
                "customer_id": customer, "email": format!("{tag}zenobia.q@example.com"), "first_name": "Zenobia",
                "last_name": "Quillfeather", "address": address("Kastanienweg 12", "09247", "Röhrsdorf"),
                "building": {"name": "Ferienhaus-Süd"},
            }),
        ),
        tell("2", "customer.updated", 2, json!({"customer_id": customer, "email": format!("{tag}zq-new@example.com")})),
        tell(
            "3",
            "customer.moved",
            3,
            json!({
                "customer_id": customer, "address": address("Ahornplatz 3", "86424", "Dinkelscherben"),
            }),
        ),
        tell("4", "customer.churned", 4, json!({"customer_id": customer})),
    ]
}

/// The bytes of a SQLite file and of the files next to it.
fn bytes_of(folder: &Path) -> Vec<u8> {
    ["bridge.db", "bridge.db-wal"]
        .iter()
        .flat_map(|name| std::fs::read(folder.join(name)).unwrap_or_default())
        .collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Watches closely, so that heat pumps, their alerts and the roster are part of the story.
fn watchful(vhost: &str) -> world::Settings {
    world::Settings {
        toml: "[watch]\ninterval = \"1s\"\ndisconnect_after = \"0s\"\ndisconnect_polls = 1\nreconnect_after = \"0s\"\nreconnect_polls = 1\n"
            .into(),
        environment: vec![("AMQP__URL", vhost.to_owned())],
    }
}

/// A heat pump that is lost: an alert of this customer.
async fn lose_a_pump(world: &World) {
    let state = world.sandbox_state().await;
    let user = state["users"][0]["id"].as_str().expect("a user").to_owned();
    let pump = json!({"building_id": state["buildings"][0]["id"], "manufacturer": "Vaillant", "model": "aroTHERM"});
    let (status, pump) =
        world.post(&world.sandbox(&format!("/users/{user}/heat-pumps")), "application/json", pump.to_string()).await;
    assert_eq!(status, 201, "{pump}");
    let pump = pump["id"].as_str().expect("an id").to_owned();
    until("the pump is watched", async || {
        let pumps = world.get(&world.operator("/v1/heat-pumps?state=connected")).await;
        (pumps["heat_pumps"].as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    world.patch_pump(&pump, &json!({"is_authenticated": false})).await;
}

/// A message that never became an event, and one of a customer whose id is longer.
async fn park_messages(world: &World, vhost: &str) {
    let bus = Bus::connect(vhost).await;
    let broken = json!({"specversion": "1.0", "id": "b1", "source": "/billing", "type": "customer.signed_up",
        "data": {"customer_id": CUSTOMER, "email": 5, "last_name": "Quillfeather"}});
    bus.publish("customer.signed_up", STRUCTURED, broken.to_string().as_bytes()).await;
    let others = broken
        .to_string()
        .replace(CUSTOMER, &format!("{CUSTOMER}9"))
        .replace("Quillfeather", "Other")
        .replace("b1", "b2");
    bus.publish("customer.signed_up", STRUCTURED, others.as_bytes()).await;
    until("both are parked", async || {
        let parked = world.get(&world.operator("/v1/parked")).await;
        (parked["parked"].as_array().map(Vec::len) == Some(2)).then_some(())
    })
    .await;
}

/// Late and repeated messages bring nothing back; nor does the watch.
async fn come_late(world: &World, life: &[Value]) {
    let again: Vec<_> = {
        let mut answers = Vec::new();
        for event in life.iter().chain(life) {
            answers.push(world.send(event).await);
        }
        answers.iter().map(|(status, answer)| (*status, answer["status"].clone(), answer["state"].clone())).collect()
    };
    let answer = |status: &str| (202, json!(status), json!("superseded"));
    assert_eq!(again, [vec![answer("accepted"); 4], vec![answer("duplicate"); 4]].concat());
    let unseen = event(
        "late",
        "customer.updated",
        "2026-10-02T13:00:00Z",
        &json!({"customer_id": CUSTOMER, "first_name": "Zenobia"}),
    );
    let (status, late) = world.send(&unseen).await;
    assert_eq!((status, &late["state"]), (202, &json!("superseded")));
    // The watch goes round once more.
    world.http.delete(world.sandbox("/requests")).send().await.expect("an answer");
    until("the watch has asked for the users again", async || {
        let requests = world.get(&world.sandbox("/requests")).await.to_string();
        requests.contains("list_users").then_some(())
    })
    .await;
}

async fn erasure_leaves_nothing(folder: tempfile::TempDir, url: String) {
    let vhost = servers::fresh_vhost();
    let path = folder.path().to_owned();
    let world = World::start_on(folder, url.clone(), watchful(&vhost)).await;
    world.ready().await;
    let life = life(CUSTOMER, "");
    for event in &life[..3] {
        assert_eq!(world.apply(event).await["state"], "applied");
    }
    lose_a_pump(&world).await;
    park_messages(&world, &vhost).await;
    let settings = Settings { url: url.clone(), targets: vec![Target::Amqp], works: false };
    let (store, writer) = Store::open(settings, Clock::system()).await.expect("beside the bridge");
    tokio::spawn(writer.run());
    let refused = store.erase(CUSTOMER, &[], false, BY).await.expect("the store is there").expect_err("a customer");
    assert!(refused.is_active, "{refused:?}");
    assert_eq!(world.apply(&life[3]).await["state"], "applied");
    let before = dump(&url).await;
    assert!(PERSONAL.iter().all(|value| before.contains(value)), "the story leaves what is looked for");
    let erased = until("everything is out and nobody works on it", async || {
        store.erase(CUSTOMER, &[], false, BY).await.expect("the store is there").ok()
    })
    .await;
    assert_eq!((erased.events, erased.messages, erased.heat_pumps), (4, 1, 1), "{erased:?}");

    come_late(&world, &life).await;
    let after = dump(&url).await;
    for value in PERSONAL {
        assert!(!says(&after, value), "{value} is still there:\n{after}");
    }
    let named: Vec<&str> = after.lines().filter(|line| line.contains(CUSTOMER) && !line.contains("K-77-ZQ9")).collect();
    assert!(named.is_empty(), "{named:?}");
    assert!(after.contains("K-77-ZQ9"), "and the other one's message is untouched");
    if url.starts_with("sqlite") {
        until("the log is empty", async || store.scrub().await.expect("the store is there").then_some(())).await;
        let bytes = bytes_of(&path);
        for value in PERSONAL {
            assert!(!holds(&bytes, value), "{value} is still in the bytes of the file");
        }
    }
    let users = world.sandbox_state().await["users"].clone();
    assert_eq!((users.as_array().map(Vec::len), &users[0]["deleted"]), (Some(1), &json!(true)), "nobody came back");

    // A sign-up that happened later is a new customer.
    let now = Clock::system().now().plus(Duration::from_secs(60)).to_string();
    assert_eq!(world.apply(&sign_up("new-1", CUSTOMER, &now)).await["state"], "applied");
    drop(store);
    world.bridge.stop().await;
}

/// After an erasure no table and no byte of the file speaks of the customer.
#[tokio::test(flavor = "multi_thread")]
async fn after_an_erasure_nothing_speaks_of_the_customer() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = crate::kit::sqlite_url(folder.path());
    erasure_leaves_nothing(folder, url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_erasure_no_table_speaks_of_the_customer_on_postgres() {
    erasure_leaves_nothing(tempfile::tempdir().expect("a folder"), servers::fresh_database()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_forgotten_and_comes_again_changes_nothing_at_podero() {
    let mut settings = world::Settings { toml: "[watch]\nenabled = false\n".into(), ..world::Settings::default() };
    settings.environment.push(("STORE__RETENTION", "1s".into()));
    let world = World::start(Database::Sqlite, settings).await;
    let stays: Vec<Value> = life("C-1", "a").into_iter().take(3).collect();
    let leaves = life("C-2", "b");
    let all: Vec<&Value> = stays.iter().chain(&leaves).collect();
    let send = async || {
        let mut ids = Vec::new();
        for event in &all {
            let (status, answer) = world.send(event).await;
            assert_eq!((status, &answer["status"]), (202, &json!("accepted")), "{answer}");
            ids.push(answer["id"].as_str().expect("an id").to_owned());
        }
        ids
    };
    // A forgotten event answers 404: then all of them have been settled, and removed.
    let forgotten = async |ids: &[String]| {
        until("all are forgotten", async || {
            for id in ids {
                if world.get_text(&world.operator(&format!("/v1/events/{id}"))).await.0 != 404 {
                    return None;
                }
            }
            Some(())
        })
        .await;
    };
    forgotten(&send().await).await;
    let before = world.sandbox_state().await;
    assert!(world.get(&world.sandbox("/requests")).await.to_string().contains("create_building"), "what is looked for");
    world.http.delete(world.sandbox("/requests")).send().await.expect("an answer");
    let ids = send().await;
    forgotten(&ids).await;
    assert_eq!(world.sandbox_state().await, before, "nobody moved back, nobody came back");
    let requests = world.get(&world.sandbox("/requests")).await.to_string();
    for operation in
        ["create_user", "update_user", "delete_user", "create_building", "update_building", "delete_building"]
    {
        assert!(!requests.contains(operation), "{operation}: {requests}");
    }
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_erases_beside_a_running_bridge_and_says_what_is_in_the_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut environment = running::on_file(folder.path());
    // Until a customer is erased the key may change.
    assert_eq!(Running::start(folder.path(), &["--sandbox"], &environment).terminate(), Some(0));
    environment.push(("STORE__ERASURE_KEY", "an-operators-erasure-key".into()));
    environment.push(("CHURN__DELETE", "soft-then-hard".into()));
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment);
    let http = reqwest::Client::new();
    for event in life(CUSTOMER, "") {
        let request = http.post(format!("{}/v1/events", bridge.door)).header("content-type", STRUCTURED);
        assert_eq!(request.body(event.to_string()).send().await.expect("an answer").status(), 202);
    }
    let erase = |more: &[&str]| running::run(&[&["erase", CUSTOMER][..], more].concat(), &environment);
    until("only the final deletion is left", async || {
        let output = erase(&[]);
        assert_eq!(output.status.code(), Some(1));
        let said = running::said(&output);
        (said.contains("1 scheduled events") && !said.contains("active") && !said.contains("pending")).then_some(())
    })
    .await;
    let output = erase(&["--force"]);
    let said = running::said(&output);
    assert!(
        output.status.success() && said.contains("erased: 5 events") && said.contains("not touched: Podero"),
        "{said}"
    );
    let again = erase(&["--json"]);
    let again: Value = serde_json::from_slice(&again.stdout).expect("JSON");
    assert_eq!(again["erased"]["events"], json!(0), "again is fine");
    assert_eq!(bridge.terminate(), Some(0));
    let bytes = bytes_of(folder.path());
    assert!(PERSONAL.iter().all(|value| !holds(&bytes, value)) && !holds(&bytes, CUSTOMER));
    // Another key would not know the tombstone.
    environment.retain(|(key, _)| *key != "STORE__ERASURE_KEY");
    let other = running::run(&["serve", "--sandbox"], &environment);
    assert!(
        other.status.code() == Some(1) && running::said(&other).contains("store.erasure_key"),
        "{}",
        running::said(&other)
    );
}

/// A backup is made while the bridge works and is whole, private, and never over something.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_whole_private_and_never_overwrites() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = running::on_file(folder.path());
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment);
    let http = reqwest::Client::new();
    let send = async |number: usize| {
        let event = sign_up(&format!("e{number}"), &format!("C-{number}"), TIME);
        let request = http.post(format!("{}/v1/events", bridge.door)).header("content-type", STRUCTURED);
        assert_eq!(request.body(event.to_string()).send().await.expect("an answer").status(), 202);
    };
    for number in 0..50 {
        send(number).await;
    }
    let copy = folder.path().join("copy.db");
    let (to, settings) = (copy.display().to_string(), environment.clone());
    let backup = tokio::task::spawn_blocking(move || running::run(&["backup", &to], &settings));
    for number in 50..150 {
        send(number).await;
    }
    let output = backup.await.expect("it ran");
    assert!(output.status.success(), "{}", running::said(&output));
    assert_eq!(std::fs::metadata(&copy).expect("a file").permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&copy).expect("a file");
    let over = running::run(&["backup", &copy.display().to_string()], &environment);
    assert!(
        over.status.code() == Some(1) && running::said(&over).contains("something already"),
        "{}",
        running::said(&over)
    );
    assert_eq!(std::fs::read(&copy).expect("a file"), before);
    assert_eq!(bridge.terminate(), Some(0));
    // A bridge on the copy knows all that was accepted before it was ordered.
    std::fs::create_dir(folder.path().join("restored")).expect("a folder");
    std::fs::rename(&copy, folder.path().join("restored/bridge.db")).expect("moved");
    let restored = running::on_file(&folder.path().join("restored"));
    let bridge = Running::start(&folder.path().join("restored"), &["--sandbox"], &restored);
    for number in 0..50 {
        let event = sign_up(&format!("e{number}"), &format!("C-{number}"), TIME);
        let request = http.post(format!("{}/v1/events", bridge.door)).header("content-type", STRUCTURED);
        let answer: Value =
            request.body(event.to_string()).send().await.expect("an answer").json().await.expect("JSON");
        assert_eq!(answer["status"], "duplicate", "e{number}");
    }
    assert_eq!(bridge.terminate(), Some(0));
    let mut postgres = running::on_file(folder.path());
    postgres[0].1 = "postgres://localhost/nowhere".into();
    let output = running::run(&["backup", "x.db"], &postgres);
    assert!(
        output.status.code() == Some(64) && running::said(&output).contains("pg_dump"),
        "{}",
        running::said(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_ends_the_start_with_what_to_do_and_is_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = running::on_file(folder.path());
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment);
    let http = reqwest::Client::new();
    for number in 0..50 {
        let event = sign_up(&format!("e{number}"), &format!("C-{number}"), TIME);
        let request = http.post(format!("{}/v1/events", bridge.door)).header("content-type", STRUCTURED);
        assert_eq!(request.body(event.to_string()).send().await.expect("an answer").status(), 202);
    }
    assert_eq!(bridge.terminate(), Some(0));
    // All of it in the one file, however the bridge ended.
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(&environment[0].1).await.expect("the file is there");
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await.expect("nobody else is there");
    connection.close().await.expect("closed");
    let file = folder.path().join("bridge.db");
    let whole = std::fs::read(&file).expect("a file");
    let pages = whole.len() / 4_096;
    assert!(pages > 20, "{pages} pages");
    for (name, from, to) in [("pages in the middle", 8, 20), ("the first page", 0, 1), ("the end", pages - 6, pages)] {
        let mut damaged = whole.clone();
        damaged[from * 4_096..to * 4_096].fill(0xa5);
        std::fs::write(&file, &damaged).expect("written");
        let output = running::run(&["serve", "--sandbox"], &environment);
        let said = running::said(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains("damaged") && said.contains("backup"), "{name}: {said}");
        assert!(std::fs::read(&file).expect("a file") == damaged, "{name}: nothing was repaired");
        let _ = std::fs::remove_file(folder.path().join("bridge.db-wal"));
        let _ = std::fs::remove_file(folder.path().join("bridge.db-shm"));
    }
    std::fs::write(&file, &whole).expect("written");
    assert_eq!(Running::start(folder.path(), &["--sandbox"], &environment).terminate(), Some(0));
}

/// A large file does not hold the start up: it is checked next to the work, and ends the bridge all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_damaged_file_ends_the_bridge_soon_after_its_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = running::on_file(folder.path());
    assert_eq!(Running::start(folder.path(), &["--sandbox"], &environment).terminate(), Some(0));
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(&environment[0].1).await.expect("the file is there");
    let fill = "CREATE TABLE ballast (bytes BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
                WHERE i < 80) INSERT INTO ballast SELECT randomblob(1000000) FROM n; PRAGMA wal_checkpoint(TRUNCATE);";
    sqlx::raw_sql(fill).execute(&mut connection).await.expect("nobody else is there");
    connection.close().await.expect("closed");
    // Whole, it is no hindrance.
    assert_eq!(Running::start(folder.path(), &["--sandbox"], &environment).terminate(), Some(0));
    let file = std::fs::File::options().write(true).open(folder.path().join("bridge.db")).expect("a file");
    let in_the_ballast = file.metadata().expect("a size").len() / 2 / 4_096 * 4_096;
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 4_096], in_the_ballast).expect("written");
    let output = running::run(&["serve", "--sandbox"], &environment);
    let said = running::said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("damaged") && said.contains("backup"), "{said}");
}

/// Everything that an answer, a log line, a metric or a notice may hold.
struct Heard(Vec<(String, String)>);

impl Heard {
    fn note(&mut self, place: &str, text: String) {
        self.0.push((place.to_owned(), text));
    }

    fn expect_nothing_personal(&self) {
        let mut found = Vec::new();
        for (place, text) in &self.0 {
            for value in PERSONAL {
                if let Some(line) = text.lines().find(|line| says(line, value)) {
                    found.push(format!("{place} says {value}: {}", line.chars().take(400).collect::<String>()));
                }
            }
        }
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

/// Says whether a text holds a value: digits within a longer number, as the microseconds of a moment, are none.
fn says(text: &str, value: &str) -> bool {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    text.match_indices(value).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + value.len()..].chars().next();
        let goes_on = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == '.')
            || after.is_some_and(|byte| byte.is_ascii_alphanumeric());
        !(is_number && goes_on)
    })
}

/// Every way in which Podero goes wrong for a while.
const FAULTS: [&str; 5] = [
    r#"{"operation": "*", "kind": "drop_before", "times": 3}"#,
    r#"{"operation": "*", "kind": "drop_after", "times": 3}"#,
    r#"{"operation": "*", "kind": "garbage", "times": 3}"#,
    r#"{"operation": "*", "kind": "status", "status": 500, "times": 3}"#,
    r#"{"operation": "*", "kind": "status", "status": 429, "retry_after": 1, "times": 1}"#,
];

/// Paths that an operator may ask for, also wrongly.
const OPERATORS_PATHS: [&str; 9] = [
    "/metrics",
    "/v1/parked",
    "/v1/alerts",
    "/v1/parked/retries",
    "/readyz",
    "/v1/parked?reason=Zenobia",
    "/v1/events/Zenobia",
    "/v1/heat-pumps?state=Quillfeather",
    "/Quillfeather",
];

/// Waits until nothing is pending, everything is published, and the unreadable messages are parked.
async fn at_rest(http: &reqwest::Client, operator: &str) {
    until("everything has come to rest", async || {
        let text = http.get(format!("{}/metrics", operator)).send().await.ok()?.text().await.ok()?;
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        let parked = value("podero_bridge_events_parked")?;
        let is_quiet = value("podero_bridge_events_pending")? == 0.0 && value("podero_bridge_outbox_pending")? == 0.0;
        (is_quiet && parked >= 8.0).then_some(())
    })
    .await;
}

/// Settings of a bridge that logs all it can.
fn talkative(folder: &Path, vhost: &str) -> running::Environment {
    let mut environment = running::on_file(folder);
    environment.extend([
        ("AMQP__URL", vhost.to_owned()),
        ("LOG__LEVEL", "debug,podero_bridge=trace".to_owned()),
        ("WATCH__INTERVAL", "1s".to_owned()),
        ("RETRY__INITIAL", "50ms".to_owned()),
        ("RETRY__MAX", "200ms".to_owned()),
        ("SOURCE__SIGNED__VERIFY", "standard-webhooks".to_owned()),
        ("SOURCE__SIGNED__SECRETS", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".to_owned()),
        ("SOURCE__DEFAULT__VERIFY", "none".to_owned()),
    ]);
    environment
}

/// Every way in which a sender can go wrong: path, content type, body.
fn wrong_deliveries() -> Vec<(&'static str, &'static str, String)> {
    let good = life("C-12", "t12")[0].to_string();
    let wrong_type = good.replace("\"09247\"", "9247").replace("\"Zenobia\"", "[\"Zenobia\"]");
    let twice = good.replace("t12-1", "t0-1");
    vec![
        ("/v1/events", STRUCTURED, good[..good.len() / 2].to_owned()),
        ("/v1/events", STRUCTURED, wrong_type),
        ("/v1/events", STRUCTURED, good.replace("customer.signed_up", "Quillfeather")),
        ("/v1/events", STRUCTURED, good.replace("\"2026-10-01T12:00:00Z\"", "\"Zenobia\"")),
        ("/v1/events", STRUCTURED, good.replace("\"C-12\"", "{\"Zenobia\":1}")),
        ("/v1/events", STRUCTURED, twice),
        ("/v1/events", "text/plain", "Zenobia Quillfeather, Kastanienweg".to_owned()),
        ("/v1/events", "application/cloudevents-batch+json", format!("[{good}, \"Zenobia\", {{\"Quillfeather\": 1}}]")),
        ("/v1/events/signed", STRUCTURED, good.clone()),
        ("/v1/events/Quillfeather", STRUCTURED, good.clone()),
        ("/v1/Quillfeather?email=zenobia.q@example.com", STRUCTURED, good.clone()),
    ]
}

/// Nothing personal is in logs, metrics, errors and notices, in any case.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_personal_is_in_logs_metrics_errors_and_notices() {
    let folder = tempfile::tempdir().expect("a folder");
    let vhost = servers::fresh_vhost();
    let environment = talkative(folder.path(), &vhost);
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment);
    let http = reqwest::Client::new();
    let sandbox = format!("{}/_sandbox", bridge.sandbox.as_ref().expect("it runs"));
    let mut heard = Heard(Vec::new());
    until("the bridge is ready", async || {
        let ready = http.get(format!("{}/readyz", bridge.operator)).send().await.ok()?;
        ready.status().is_success().then_some(())
    })
    .await;
    let bus = Bus::connect(&vhost).await;
    let mut told = bus.listen(&["#"]).await;
    let post = async |path: &str, content_type: &str, body: String| {
        let request = http.post(format!("{}{path}", bridge.door)).header("content-type", content_type).body(body);
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    let fault = async |rule: Value| http.post(format!("{sandbox}/faults")).json(&rule).send().await.expect("an answer");

    // All faults of Podero, while three lives arrive by webhook and three by the queue.
    for rule in FAULTS {
        fault(serde_json::from_str(rule).expect("JSON")).await;
    }
    let lives: Vec<Vec<Value>> = (0..6).map(|number| life(&format!("C-{number}"), &format!("t{number}"))).collect();
    for (number, life) in lives.iter().enumerate() {
        for event in life {
            if number % 2 == 0 {
                let (status, answer) = post("/v1/events", STRUCTURED, event.to_string()).await;
                assert_eq!(status, 202);
                heard.note("an answer", answer);
            } else {
                bus.publish_event(event).await;
            }
        }
    }
    // Podero refuses in its own words, which repeat what was sent.
    fault(json!({"operation": "create_user", "kind": "status", "status": 422, "times": 2})).await;
    for (id, customer, email) in
        [("x1", "C-9", "t9"), ("x2", "C-10", "t9"), ("x3", "C-11", "t11"), ("x4", "C-13", "t9")]
    {
        let data =
            json!({"customer_id": customer, "email": format!("{email}zenobia.q@example.com"), "first_name": "Zenobia"});
        post("/v1/events", STRUCTURED, event(id, "customer.signed_up", TIME, &data).to_string()).await;
    }
    for (path, content_type, body) in &wrong_deliveries() {
        let (status, answer) = post(path, content_type, body.clone()).await;
        assert!(status >= 202, "{answer}");
        heard.note(&format!("the answer {status} to {path}"), answer);
        bus.publish("customer.signed_up", content_type, body.as_bytes()).await;
    }
    at_rest(&http, &bridge.operator).await;
    for path in OPERATORS_PATHS {
        let answer = http.get(format!("{}{path}", bridge.operator)).send().await.expect("an answer");
        heard.note(&format!("the operator's {path}"), answer.text().await.expect("text"));
    }
    let mut notices = 0;
    while let Some(notice) = told.next(Duration::from_secs(2)).await {
        notices += 1;
        heard.note("a notice", notice.event.to_string());
    }
    assert!(notices >= 20, "{notices} notices");
    heard.note("parked list", running::said(&running::run(&["parked", "list"], &environment)));
    let log = bridge.log();
    for word in ["email_taken", "C-1", "called Podero", "a notice was published", "unknown", "\"DEBUG\""] {
        let is_there = log.contains(word) || heard.0.iter().any(|(_, text)| text.contains(word));
        assert!(is_there, "the story did not come to {word:?}");
    }
    heard.note("the log", log);
    assert_eq!(bridge.terminate(), Some(0));
    heard.expect_nothing_personal();
}
