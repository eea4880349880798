//! The statements that PostgreSQL gets for an event, held against a baseline: each is a round trip, and all of them together are
//! what bounds the pace of a replica. Groups are the same on every machine, since all runs on one thread.

use std::time::Duration;

use futures_util::future::join_all;
use podero_bridge::clock::Clock;
use podero_bridge::domain::Timestamp;
use podero_bridge::domain::audit::{Action, AuditEntry, AuditTarget, TargetKind};
use podero_bridge::domain::call::Operation;
use podero_bridge::domain::event::{Details, Field, Happening};
use podero_bridge::domain::scim::{RoleFrom, ScimDocument, ScimGroup, ScimWrite};
use podero_bridge::domain::team::MemberId;
use podero_bridge::domain::verdict::{Fate, Verdict};
use podero_bridge::store::{CallMade, Claim, ScimAnswer, ScimAsk, ScimRequest};
use sqlx::{Connection, PgConnection};
use tokio::task::spawn_blocking;

use crate::kit::StoreFixture;
use crate::servers::Postgres;

const LEASE: Duration = Duration::from_secs(60);

/// The steps of an event, its transaction's beginning and end included. A number that falls is written down here; one that rises
/// needs a reason.
const BASELINE: [Baseline; 2] = [
    // An event alone. One of its settlement is the audit log's, whose rows belong to the transaction that they tell of.
    Baseline { events: 1, accept: 6, claim: 6, settle: 9 },
    // A group under load.
    Baseline { events: 64, accept: 6, claim: 6, settle: 9 },
];

/// Statements of a request of SCIM that makes members admins, its transaction's beginning and end included.
const GROUP_OF_SCIM: i64 = 17;

/// Limit for an event in a group under load.
const EACH_MAX: f64 = 0.6;

/// Statements for a number of events that are worked on together.
#[derive(Debug, PartialEq, Eq)]
struct Baseline {
    events: usize,
    accept: i64,
    claim: i64,
    settle: i64,
}

/// Counts the statements in one database of a server, from another one.
struct Counter {
    connection: PgConnection,
    /// Number of the next transaction that writes.
    transaction: i64,
}

impl Counter {
    async fn begin(url: &str) -> Self {
        let (server, database) = url.rsplit_once('/').expect("a URL with a database");
        let mut connection = PgConnection::connect(&format!("{server}/postgres")).await.expect("it was started");
        let counted = format!("ALTER DATABASE \"{database}\" SET pg_stat_statements.track = 'top'");
        // Its transactions belong to no event.
        let alone = "ALTER SYSTEM SET autovacuum = off";
        for statement in ["CREATE EXTENSION pg_stat_statements", &counted, alone, "SELECT pg_reload_conf()"] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.expect("it is ours");
        }
        Self { connection, transaction: 0 }
    }

    /// Statements since the last time. Of a prepared statement that begins or ends a transaction, PostgreSQL 15 counts a session's
    /// first run alone, so transactions are told by their numbers.
    async fn next(&mut self) -> i64 {
        let within = sqlx::query_scalar::<_, i64>(
            "SELECT COALESCE(SUM(calls), 0)::bigint FROM pg_stat_statements WHERE query !~* '^(begin|commit|rollback)' \
             AND dbid <> (SELECT oid FROM pg_database WHERE datname = current_database())",
        );
        let within = within.fetch_one(&mut self.connection).await.expect("it is counted");
        let transaction = sqlx::query_scalar("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint");
        let transaction: i64 = transaction.fetch_one(&mut self.connection).await.expect("it is counted");
        let transactions = transaction - std::mem::replace(&mut self.transaction, transaction);
        sqlx::raw_sql("SELECT pg_stat_statements_reset()").execute(&mut self.connection).await.expect("it is ours");
        within + 2 * transactions
    }
}

fn call(clock: &Clock) -> CallMade {
    CallMade {
        id: clock.fresh_id(),
        at: clock.now(),
        operation: Operation::UpdateUser,
        outcome: "done".to_owned(),
        took: Duration::from_millis(1),
        idempotency_key: None,
    }
}

/// A customer each, changed once, by one call.
async fn measured(fixture: &StoreFixture, counter: &mut Counter, events: usize) -> Baseline {
    let StoreFixture { store, .. } = fixture;
    let details = Details { personal: [(Field::FirstName, "x".into())].into(), ..Details::default() };
    let change = |number| fixture.arrival(&format!("C-{events}-{number}"), Happening::Updated(details.clone()));
    counter.next().await;
    for receipts in join_all((0..events).map(|number| store.accept(vec![change(number)]))).await {
        receipts.expect("the store is there");
    }
    let accept = counter.next().await;
    let claims: Vec<Claim> = store.claims(events, LEASE).await.expect("the store is there");
    assert_eq!(claims.len(), events);
    let claim = counter.next().await;
    let applied = |claim: &Claim| {
        let target = AuditTarget::new(TargetKind::Customer, claim.lane.clone());
        let act = AuditEntry::done(fixture.clock.now(), claim.work.actor.clone(), Action::PoderoUpdateUser, target);
        let verdict = StoreFixture::verdict(claim, Fate::Applied { stale: Vec::new() }, Vec::new());
        Verdict { acts: vec![act], ..verdict }
    };
    let settles = claims.iter().map(|claim| store.settle(claim, applied(claim), vec![call(&fixture.clock)]));
    for settled in join_all(settles).await {
        settled.expect("the store is there");
    }
    Baseline { events, accept, claim, settle: counter.next().await }
}

/// Makes users, and counts the statements of the request that puts them into the group `admin`.
async fn of_a_group(fixture: &StoreFixture, counter: &mut Counter, numbers: std::ops::Range<u128>) -> i64 {
    let toml = "[team]\nenabled = true\nallow_admins = true";
    let config = podero_bridge::config::Config::parse(toml, &std::collections::BTreeMap::new(), true);
    let policy = config.expect("the settings are valid").policy;
    let member = |number: u128| MemberId::accept(&format!("M-{number}")).expect("valid");
    let ask = async |ask: ScimAsk| {
        let request = ScimRequest {
            token: "entra".into(),
            ask,
            raw: Vec::new(),
            policy: policy.clone(),
            role_from: RoleFrom::Groups,
            began: fixture.clock.now(),
            is_final: true,
        };
        let answer = fixture.store.scim_write(request).await.expect("the store is there");
        assert!(matches!(answer, ScimAnswer::Done { .. }), "{answer:?}");
    };
    for number in numbers.clone() {
        let user =
            serde_json::json!({"userName": format!("m{number}@example.com"), "externalId": format!("M-{number}")});
        let write = Box::new(ScimWrite::Create(ScimDocument::read(&user).expect("a user")));
        ask(ScimAsk::User { member: member(number), id: uuid::Uuid::from_u128(number).to_string(), write }).await;
    }
    counter.next().await;
    let members = numbers.map(|number| (member(number), true)).collect();
    ask(ScimAsk::Group { group: ScimGroup::Admin, members }).await;
    counter.next().await
}

#[tokio::test]
async fn an_event_costs_postgres_as_many_statements_as_written_down() {
    let postgres = spawn_blocking(Postgres::start).await.expect("a cluster");
    let mut counter = Counter::begin(&postgres.url()).await;
    let clock = Clock::manual(Timestamp::parse("2026-10-01T12:00:00Z").expect("a time"), 1);
    let fixture = StoreFixture::on(postgres.url(), clock).await;
    // Settings of the connection, which is made with the first write.
    measured(&fixture, &mut counter, 2).await;
    for baseline in BASELINE {
        let found = measured(&fixture, &mut counter, baseline.events).await;
        assert_eq!(found, baseline, "what a change costs, and what is written down in tests/it/statements.rs");
    }
    // A group of SCIM costs the same, however many it moves.
    let few = of_a_group(&fixture, &mut counter, 1..3).await;
    let many = of_a_group(&fixture, &mut counter, 10..74).await;
    assert_eq!((few, many), (GROUP_OF_SCIM, GROUP_OF_SCIM), "what a request about a group costs");
    let [_, Baseline { events, accept, claim, settle }] = BASELINE;
    let each = (accept + claim + settle) as f64 / events as f64;
    assert!(each <= EACH_MAX, "{each} statements an event, of at most {EACH_MAX}");
    spawn_blocking(move || drop(postgres)).await.expect("stopped");
}
