//! Work that is claimed at the moment of an outage: it is taken up again when the store is back, not when its lease ends. The clock
//! of these tests stands still, so no lease ever ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::Timestamp;
use podero_bridge::domain::event::{Details, Field, Happening};
use podero_bridge::domain::notice::{Notice, Topic, notice_id};
use podero_bridge::domain::verdict::Fate;
use podero_bridge::metrics::Metrics;
use podero_bridge::outbound::{Deliver, Delivered, Publisher};
use podero_bridge::pump::{Step, sleep};
use podero_bridge::store::{Member, Roster, Settings, Settled, Store, Target};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use uuid::Uuid;

use crate::kit::{StoreFixture, on_both_databases};
use crate::servers;
use crate::world::until;

const LEASE: Duration = Duration::from_secs(60);

/// The condition of a line to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineState {
    Whole,
    /// Breaks with the next COMMIT, which does not reach the server.
    LosesCommit,
    /// Breaks with the next COMMIT, which the server carries out.
    LosesAnswer,
    /// Broken.
    Away,
}

/// A line to a PostgreSQL server that breaks when a test wants it to.
#[derive(Clone)]
struct Line(Arc<watch::Sender<LineState>>);

impl Line {
    /// Returns the line, and the URL by which clients go through it.
    async fn to(database: &str) -> (Self, String) {
        let line = Self(Arc::new(watch::Sender::new(LineState::Whole)));
        let mut url = url::Url::parse(database).expect("a URL");
        let server = format!("127.0.0.1:{}", url.port().expect("tests have ports of their own"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        url.set_port(Some(listener.local_addr().expect("bound").port())).expect("it has a host");
        let accepting = line.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *accepting.0.borrow() != LineState::Away {
                    let server = TcpStream::connect(&server).await.expect("the server is there");
                    tokio::spawn(accepting.clone().carry(client, server));
                }
            }
        });
        (line, url.to_string())
    }

    fn set(&self, state: LineState) {
        self.0.send_replace(state);
    }

    /// Carries one connection until it breaks.
    async fn carry(self, mut client: TcpStream, mut server: TcpStream) {
        let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
        let mut states = self.0.subscribe();
        loop {
            tokio::select! {
                count = client.read(&mut asked) => {
                    let Ok(count @ 1..) = count else { return };
                    let is_commit = asked[..count].windows(7).any(|bytes| bytes == b"COMMIT\0");
                    let state = *self.0.borrow();
                    if is_commit && state == LineState::LosesCommit {
                        self.set(LineState::Whole);
                        return;
                    }
                    server.write_all(&asked[..count]).await.expect("the server is there");
                    if is_commit && state == LineState::LosesAnswer {
                        self.set(LineState::Whole);
                        // The server has committed when it answers.
                        assert!(server.read(&mut answered).await.expect("the server is there") > 0);
                        return;
                    }
                }
                count = server.read(&mut answered) => {
                    let Ok(count @ 1..) = count else { return };
                    if client.write_all(&answered[..count]).await.is_err() {
                        return;
                    }
                }
                () = is_away(&mut states) => return,
            }
        }
    }
}

async fn is_away(states: &mut watch::Receiver<LineState>) {
    // A sender that is gone means the same.
    let _ = states.wait_for(|state| *state == LineState::Away).await;
}

/// A store behind a line, and the database without it.
struct OutageFixture {
    line: Line,
    fixture: StoreFixture,
    url: String,
    direct: PgConnection,
}

impl OutageFixture {
    async fn open() -> Self {
        let url = servers::fresh_database();
        let (line, through) = Line::to(&url).await;
        let clock = Clock::manual(Timestamp::parse("2026-10-01T12:00:00Z").expect("a time"), 1);
        let fixture = StoreFixture::on(through, clock).await;
        let direct = PgConnection::connect(&url).await.expect("the database is there");
        Self { line, fixture, url, direct }
    }

    /// The number of rows with this property.
    async fn count(&mut self, rows: &str) -> i64 {
        let count = format!("SELECT COUNT(*) FROM {rows}");
        sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut self.direct).await.expect("it answers")
    }
}

fn change() -> Happening {
    Happening::Updated(Details { personal: [(Field::FirstName, "x".into())].into(), ..Details::default() })
}

async fn arrives(fixture: &StoreFixture, customer: &str) {
    fixture.store.accept(vec![fixture.arrival(customer, change())]).await.expect("the store is there");
}

/// Settles an event whose only effect is a notice.
async fn tells(fixture: &StoreFixture) {
    arrives(fixture, "C-1").await;
    let claim = fixture.store.claim(LEASE).await.expect("the store is there").expect("it is due");
    let notice = Notice {
        id: notice_id("e1", Topic::CustomerProvisioned),
        topic: Topic::CustomerProvisioned,
        order_key: "customer/C-1".to_owned(),
        subject: "C-1".to_owned(),
        time: fixture.clock.now(),
        data: serde_json::json!({ "customer_id": "C-1" }),
    };
    let verdict = StoreFixture::verdict(&claim, Fate::Superseded, vec![notice]);
    fixture.store.settle(&claim, verdict, Vec::new()).await.expect("the store is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_whose_claim_was_not_answered_is_claimed_again_at_once() {
    let mut outage = OutageFixture::open().await;
    arrives(&outage.fixture, "C-1").await;
    let store = outage.fixture.store.clone();
    outage.line.set(LineState::LosesAnswer);
    store.claims(8, LEASE).await.expect_err("the answer was lost");
    assert_eq!(outage.count("lanes WHERE claimed = 1").await, 1, "the claim is on disk");
    let claim = until("it is claimed again", async || store.claim(LEASE).await.expect("the store is back")).await;
    assert_eq!(outage.count("lanes WHERE interrupted = 1").await, 0, "no call can have been made under the lost claim");
    let verdict = StoreFixture::verdict(&claim, Fate::Superseded, Vec::new());
    assert_eq!(store.settle(&claim, verdict, Vec::new()).await.expect("the store is back"), Settled::Recorded);
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_whose_claim_was_not_answered_are_taken_again_at_once() {
    let mut outage = OutageFixture::open().await;
    tells(&outage.fixture).await;
    let store = outage.fixture.store.clone();
    outage.line.set(LineState::LosesAnswer);
    store.due_notices(Target::Amqp, 8, LEASE).await.expect_err("the answer was lost");
    let now = outage.fixture.clock.now().micros();
    assert_eq!(outage.count(&format!("notices WHERE due_at > {now}")).await, 1, "the claim is on disk");
    until("they are taken again", async || {
        store.due_notices(Target::Amqp, 8, LEASE).await.expect("the store is back").pop()
    })
    .await;
    assert_eq!(outage.count(&format!("notices WHERE due_at > {now}")).await, 1, "and leased as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_and_duties_whose_claim_was_not_answered_are_taken_again_at_once() {
    let mut outage = OutageFixture::open().await;
    let (store, clock) = (outage.fixture.store.clone(), outage.fixture.clock.clone());
    let members = (1..=3).map(|user| Member {
        user: Uuid::from_u128(user),
        customer: Some(format!("C-{user}")),
        region: None,
        first_due: clock.now(),
    });
    let roster = Roster {
        members: members.collect(),
        asked_at: clock.now(),
        lists_to_remove: 3,
        break_after: Duration::from_mins(20),
    };
    store.keep_roster(roster).await.expect("the store is there");
    outage.line.set(LineState::LosesAnswer);
    store.due_polls(8, LEASE).await.expect_err("the answer was lost");
    assert_eq!(outage.count("watched WHERE taken_until > 0").await, 3, "the claim is on disk");
    until("they are taken again", async || {
        Some(store.due_polls(8, LEASE).await.expect("the store is back").users).filter(|due| due.len() == 3)
    })
    .await;
    outage.line.set(LineState::LosesAnswer);
    store.take_duty("roster", LEASE).await.expect_err("the answer was lost");
    assert_eq!(outage.count("duties").await, 1, "the claim is on disk");
    until("it is taken again", async || store.take_duty("roster", LEASE).await.expect("the store is back")).await;
    // A duty that could not be done is due again, too.
    let duty = until("another is taken", async || store.take_duty("fleets", LEASE).await.expect("it is back")).await;
    store.give_duty_back(duty);
    until("it is due again", async || store.take_duty("fleets", LEASE).await.expect("the store is back")).await;
}

/// The COMMIT was lost, not its answer: another replica's claim of the same lane stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_another_replica_made_meanwhile_stands() {
    let mut outage = OutageFixture::open().await;
    arrives(&outage.fixture, "C-1").await;
    let (store, clock) = (outage.fixture.store.clone(), outage.fixture.clock.clone());
    let settings = Settings { url: outage.url.clone(), targets: vec![Target::Amqp], works: true };
    let (other, writer) = Store::open(settings, clock.clone()).await.expect("the database is there");
    tokio::spawn(writer.run());
    outage.line.set(LineState::LosesCommit);
    store.claims(8, LEASE).await.expect_err("the line broke");
    assert_eq!(outage.count("lanes WHERE claimed = 1").await, 0, "the claim is not on disk");
    clock.advance(Duration::from_millis(1));
    let claim = until("the other claims it", async || other.claim(LEASE).await.expect("it is there")).await;
    for _ in 0..3 {
        // Gives back what it may have claimed.
        assert!(store.claims(8, LEASE).await.expect("the store is back").is_empty(), "the other has it");
    }
    let verdict = StoreFixture::verdict(&claim, Fate::Superseded, Vec::new());
    assert_eq!(other.settle(&claim, verdict, Vec::new()).await.expect("it is there"), Settled::Recorded);
}

on_both_databases! {
    a_claim_whose_claimer_has_gone_is_made_again_at_once
}

/// The writer claims while the claimer gives up waiting.
async fn a_claim_whose_claimer_has_gone_is_made_again_at_once(fixture: StoreFixture) {
    arrives(&fixture, "C-1").await;
    sqlx::any::install_default_drivers();
    let mut other = AnyConnection::connect(&fixture.url).await.expect("the database is there");
    let is_file = fixture.url.starts_with("sqlite");
    let lock = if is_file { "BEGIN IMMEDIATE" } else { "BEGIN; LOCK TABLE lanes IN ACCESS EXCLUSIVE MODE" };
    sqlx::raw_sql(lock).execute(&mut other).await.expect("it runs");
    let store = fixture.store.clone();
    let claiming = tokio::spawn(async move { store.claim(LEASE).await });
    // The writer waits for the lock.
    sleep(Duration::from_secs(1)).await;
    claiming.abort();
    assert!(claiming.await.is_err_and(|error| error.is_cancelled()), "it was waiting");
    sqlx::raw_sql("COMMIT").execute(&mut other).await.expect("it runs");
    let claim = until("it is claimed again", async || fixture.store.claim(LEASE).await.expect("it is there")).await;
    assert_eq!(claim.fence, fixture.clock.now().micros() + 2, "the second claim");
}

/// A target that loses the store while a notice is on its way to it.
struct BreaksLine {
    line: Line,
    delivered: AtomicUsize,
}

impl Deliver for BreaksLine {
    const TARGET: Target = Target::Amqp;
    const AT_ONCE: usize = 8;

    async fn deliver(&self, _: &Notice, _: Vec<u8>) -> Delivered {
        self.line.set(LineState::Away);
        let line = self.line.clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            line.set(LineState::Whole);
        });
        self.delivered.fetch_add(1, Ordering::Relaxed);
        Delivered::Yes
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_went_out_while_the_store_was_away_is_not_sent_again() {
    let mut outage = OutageFixture::open().await;
    tells(&outage.fixture).await;
    let StoreFixture { store, clock, .. } = &outage.fixture;
    let deliver = BreaksLine { line: outage.line.clone(), delivered: AtomicUsize::new(0) };
    let publisher = Publisher { store: store.clone(), deliver, clock: clock.clone(), metrics: Metrics::new() };
    assert_eq!(publisher.step().await, Step::Busy);
    assert_eq!(publisher.step().await, Step::Idle);
    assert_eq!(publisher.deliver.delivered.load(Ordering::Relaxed), 1);
    assert_eq!(outage.count("notices WHERE state = 'published'").await, 1);
}
