//! The console's pages on a large store: each page's time next to that of the bare queries of its rows, and on PostgreSQL, which
//! counts them, the rows that it reads next to those that it shows.

use std::time::{Duration, Instant};

use anyhow::Context;
use podero_bridge::clock::Clock;
use podero_bridge::domain::identity::{Actor, Role};
use podero_bridge::store::{Operator, SessionHolder, Settings};
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::{Aim, Bench, Figure};
use crate::process::{Key, Process};
use crate::seed;
use crate::store::{Kept, Store};
use crate::target::Control;

const EVENTS: u64 = 1_000_000;
const PUMPS: u64 = 100_000;
/// Requests of each page, and runs of its queries, in turn.
const ROUNDS: usize = 200;
/// Requests before the first that counts.
const WARM_UP: usize = 20;
/// Limit of a page's time next to that of its queries.
const TIMES_AS_LONG: f64 = 3.0;
/// Limit of the rows that a page reads next to those that it shows.
const ROWS_READ: f64 = 2.0;
/// Time after which an idle connection has told the server what it read (PostgreSQL, `IdleStatsUpdateTimeout`: 10 s).
const TOLD: Duration = Duration::from_secs(11);

/// Timeout of the hashing of the e-mail addresses of 100,000 customers.
const HASHED_MAX: Duration = Duration::from_secs(300);
/// Spans within which the bridge must come to rest.
const SPANS_TO_REST: usize = 20;
/// Rows by which two spans at rest may differ; of 200 requests, that is one for each.
const REST_WITHIN: f64 = 200.0;

/// A page, and the queries of its rows.
struct Page {
    name: &'static str,
    path: String,
    queries: Vec<String>,
}

pub(crate) async fn measure(bench: &Bench<'_>, kept: Kept) -> anyhow::Result<Vec<Figure>> {
    let process = Process::role("target", &["0"])?;
    let target = Control(process.address.clone());
    let store = kept.empty(bench, "pages.db")?;
    seed::template(&store, &target).await?;
    seed::add_settled(&store, EVENTS / seed::CHANGES).await?;
    seed::add_pumps(&store, PUMPS).await?;
    let cookie = session(&store).await?;
    let keys: Vec<Key> = seed::source().into_iter().chain([seed::podero(&target)]).collect();
    let bridge = Process::bridge(&store, &keys)?;
    bridge.ready(Instant::now()).await?;
    bridge.examined().await?;
    let mut connection = store.connect().await?;
    hashed(&mut connection).await?;
    let idle = match kept {
        Kept::Sqlite => 0.0,
        Kept::Postgres => rows_read_at_rest(&mut connection).await?,
    };
    let mut figures = Vec::new();
    for page in pages(&mut connection).await? {
        let url = format!("http://{}{}", bridge.operator, page.path);
        let (times, shown) = in_turn(&url, &cookie, &page, &mut connection).await?;
        let name = kept.named(&format!("page: {}, 95th percentile", page.name));
        figures.push(compared(&name, &times));
        if kept == Kept::Postgres {
            let ask = async || {
                for _ in 0..ROUNDS {
                    get(&url, &cookie).await?;
                }
                Ok(())
            };
            let read = (rows_read_meanwhile(&mut connection, ask).await? - idle).max(0.0) / as_number(ROUNDS);
            let name = kept.named(&format!("page: {}, rows read next to those shown", page.name));
            figures.push(Figure::of_turns(&name, "rows", &[(read, shown)], Some(Aim::AtMost(ROWS_READ))));
        }
    }
    bridge.terminate()?;
    Ok(figures)
}

/// Waits until the bridge has hashed the e-mail addresses of all customers, which it does after its start.
async fn hashed(connection: &mut AnyConnection) -> anyhow::Result<()> {
    let began = Instant::now();
    while !sqlx::query("SELECT 1 FROM customers WHERE email_hash IS NULL LIMIT 1")
        .fetch_all(&mut *connection)
        .await?
        .is_empty()
    {
        anyhow::ensure!(began.elapsed() < HASHED_MAX, "addresses of customers are not hashed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The columns of an event in a list.
const COLUMNS: &str = "id, lane, source, origin, origin_id, transport, type, time, received_at, state, due_at, failures, reason, \
                       detail, settled_at";

/// The alerts that are open.
const ALERTS: &str = "pumps WHERE has_alert <> 0 AND heat_pump > '' ORDER BY heat_pump";

/// The parked events of one reason.
const GROUP: &str =
    "events WHERE state = 'parked' AND COALESCE(reason, '') = 'refused' ORDER BY COALESCE(reason, ''), settled_at";

/// The retries of many.
const RETRIES: &str = "SELECT * FROM bulk_retries ORDER BY id DESC LIMIT 5";

/// The replicas that live.
const REPLICAS: &str = "SELECT * FROM replicas";

/// The states of heat pumps of which there are some.
const STATES: [&str; 2] = ["connected", "disconnected"];

/// The session and its operator, whom each page names.
const SESSION: [&str; 2] =
    ["SELECT * FROM sessions ORDER BY id DESC LIMIT 1", "SELECT name, role FROM operators LIMIT 1"];

/// The pages with lists, as an operator opens them. Ids are those of rows in the middle.
async fn pages(connection: &mut AnyConnection) -> anyhow::Result<Vec<Page>> {
    let event = "SELECT id FROM events WHERE lane = 'C-50001' ORDER BY id LIMIT 1";
    let event: String = sqlx::query(event).fetch_one(&mut *connection).await?.try_get(0)?;
    let pump = "SELECT heat_pump FROM pumps WHERE customer = 'C-50000'";
    let pump: String = sqlx::query(pump).fetch_one(connection).await?.try_get(0)?;
    let audit = "SELECT * FROM audit ORDER BY id DESC LIMIT 50";
    let settings = [
        "SELECT name, role, created_at FROM operators ORDER BY name",
        "SELECT * FROM sessions ORDER BY id",
        "SELECT version FROM _sqlx_migrations ORDER BY version DESC LIMIT 1",
        "SELECT MAX(version) FROM schema_floor",
        REPLICAS,
    ];
    let mut pages = vec![overview(), customers(), customer(), one_event(&event)];
    pages.extend(parked());
    pages.extend(fleet(&pump));
    pages.push(Page::of("audit log", "/console/audit", vec![audit.to_owned()]));
    pages.push(Page::of("settings", "/console/settings", settings.map(str::to_owned).to_vec()));
    Ok(pages)
}

impl Page {
    fn of(name: &'static str, path: &str, mut queries: Vec<String>) -> Self {
        queries.extend(SESSION.map(str::to_owned));
        Self { name, path: path.to_owned(), queries }
    }
}

/// The count of rows, up to the limit of a page.
fn counted(rows: &str) -> String {
    format!("SELECT COUNT(*) FROM (SELECT 1 FROM {rows} LIMIT 10001) AS counted")
}

fn unsettled(state: &str) -> String {
    format!("events WHERE state IN ('pending', 'waiting', 'scheduled') AND state = '{state}' ORDER BY tries_from")
}

fn overview() -> Page {
    let counts = ["pending", "waiting", "scheduled"].map(|state| counted(&unsettled(state)));
    let oldest = ["pending", "waiting"].map(|state| format!("SELECT tries_from FROM {} LIMIT 1", unsettled(state)));
    let rest = [
        counted("events WHERE state = 'parked' AND id > '' ORDER BY id"),
        counted(ALERTS),
        format!("SELECT record FROM {ALERTS} LIMIT 1000"),
        "SELECT * FROM history ORDER BY at DESC LIMIT 144".to_owned(),
        REPLICAS.to_owned(),
    ];
    Page::of("overview", "/console", counts.into_iter().chain(oldest).chain(rest).collect())
}

fn customers() -> Page {
    let rows = format!(
        "SELECT {COLUMNS}, tries_from, (SELECT operation FROM calls WHERE event_id = events.id ORDER BY calls.id DESC LIMIT 1) \
         FROM {}, id LIMIT 50",
        unsettled("pending")
    );
    // The page says by them why each event waits.
    let lanes = format!(
        "SELECT lanes.* FROM (SELECT lane FROM {}, id LIMIT 50) AS page JOIN lanes ON lanes.lane = page.lane",
        unsettled("pending")
    );
    Page::of("customers", "/console/customers", vec![rows, lanes])
}

fn customer() -> Page {
    let calls =
        "SELECT * FROM calls WHERE event_id IN (SELECT id FROM events WHERE lane = 'C-50001') ORDER BY event_id, id";
    let queries = vec![
        format!("SELECT {COLUMNS} FROM events WHERE lane = 'C-50001' ORDER BY id DESC LIMIT 25"),
        "SELECT * FROM notices WHERE customer = 'C-50001' ORDER BY seq DESC LIMIT 25".to_owned(),
        calls.to_owned(),
        "SELECT record, checked_at FROM pumps WHERE customer = 'C-50001'".to_owned(),
        "SELECT state FROM customers WHERE lane = 'C-50001'".to_owned(),
    ];
    Page::of("a customer", "/console/customers/C-50001", queries)
}

fn one_event(id: &str) -> Page {
    let queries = vec![
        format!("SELECT {COLUMNS}, raw, raw_encoding, envelope FROM events WHERE id = '{id}'"),
        format!("SELECT * FROM calls WHERE event_id = '{id}' ORDER BY id"),
    ];
    Page::of("an event", &format!("/console/events/{id}"), queries)
}

fn parked() -> [Page; 2] {
    let list = format!("SELECT {COLUMNS} FROM events WHERE state = 'parked' AND id > '' ORDER BY id LIMIT 50");
    let sample = format!("SELECT {COLUMNS} FROM {GROUP} LIMIT 20");
    let preview = "/console/parked/retry?reason=refused";
    [
        Page::of("parked events", "/console/parked", vec![list, counted(GROUP), RETRIES.to_owned()]),
        Page::of("a retry of many, previewed", preview, vec![sample, counted(GROUP)]),
    ]
}

fn fleet(pump: &str) -> [Page; 3] {
    let rows = |more: &str| {
        format!("SELECT record, checked_at FROM pumps WHERE is_retired = 0{more} ORDER BY heat_pump LIMIT 50")
    };
    let of_state =
        |state: &str| counted(&format!("pumps WHERE is_retired = 0 AND knowledge = '{state}' ORDER BY heat_pump"));
    let of_maker = |maker: usize, state: &str| {
        let of = format!("manufacturer = 'Maker {maker}' AND knowledge = '{state}'");
        counted(&format!("pumps WHERE is_retired = 0 AND {of} ORDER BY lost_at"))
    };
    let makers = (0..seed::MAKERS).flat_map(|maker| STATES.map(|state| of_maker(maker, state)));
    let counts: Vec<String> = STATES.into_iter().map(of_state).chain(makers).collect();
    let of_one = [rows(" AND manufacturer = 'Maker 10' AND knowledge = 'disconnected'")];
    let lost = "/console/fleet?manufacturer=Maker+10&state=disconnected";
    let known = vec![
        format!("SELECT record, checked_at FROM pumps WHERE heat_pump = '{pump}'"),
        "SELECT body FROM notices WHERE customer = 'C-50000' ORDER BY seq DESC LIMIT 50".to_owned(),
        format!("SELECT * FROM close_watches WHERE heat_pump = '{pump}'"),
    ];
    [
        Page::of("fleet", "/console/fleet", [rows("")].iter().chain(&counts).cloned().collect()),
        Page::of("fleet, lost ones of a maker", lost, of_one.iter().chain(&counts).cloned().collect()),
        Page::of("a heat pump", &format!("/console/heat-pumps/{pump}"), known),
    ]
}

/// A session of an administrator, as the value of a cookie.
async fn session(store: &Store) -> anyhow::Result<String> {
    let settings = Settings { url: store.url.clone(), targets: Vec::new(), works: false };
    let (opened, writer) = podero_bridge::store::Store::open(settings, Clock::system()).await?;
    let writing = tokio::spawn(writer.run());
    let operator = Operator { role: Role::Admin, password_hash: "none".to_owned() };
    let by = Actor::Cli("bench".to_owned());
    opened.add_operator("bench", operator, &by).await?;
    let holder = SessionHolder::Operator("bench".to_owned());
    let secret = opened.open_session(&holder, &by, Role::Admin, None).await?;
    let cookie = format!("podero-bridge-session={}", secret.expose());
    drop(opened);
    writing.await?;
    Ok(cookie)
}

async fn get(url: &str, cookie: &str) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let answer = crate::target::CLIENT.get(url).header("cookie", cookie).send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    let took = began.elapsed();
    anyhow::ensure!(status.is_success() && text.contains("<main"), "{url}: {status}");
    Ok(took)
}

/// The times of the page and of its queries, in turn; and the rows that the queries return.
async fn in_turn(
    url: &str,
    cookie: &str,
    page: &Page,
    connection: &mut AnyConnection,
) -> anyhow::Result<(Vec<(Duration, Duration)>, f64)> {
    let mut times = Vec::new();
    let mut shown = 0;
    for round in 0..WARM_UP + ROUNDS {
        let ours = get(url, cookie).await?;
        let began = Instant::now();
        shown = 0;
        for query in &page.queries {
            shown += sqlx::query(AssertSqlSafe(query.as_str())).fetch_all(&mut *connection).await?.len();
        }
        let bare = began.elapsed();
        if round >= WARM_UP {
            times.push((ours, bare));
        }
    }
    Ok((times, as_number(shown)))
}

fn compared(name: &str, times: &[(Duration, Duration)]) -> Figure {
    let millis = |times: &mut dyn Iterator<Item = Duration>| percentile_95(times) * 1e3;
    let (ours, bare) = (millis(&mut times.iter().map(|time| time.0)), millis(&mut times.iter().map(|time| time.1)));
    Figure::of_turns(name, "ms", &[(ours, bare)], Some(Aim::AtMost(TIMES_AS_LONG)))
}

/// In seconds.
fn percentile_95(times: &mut dyn Iterator<Item = Duration>) -> f64 {
    let mut times: Vec<f64> = times.map(|time| time.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() * 95 / 100).copied().unwrap_or(f64::NAN)
}

/// The rows that the bridge reads by itself in such a span, once it has done what it does after a start with a large store.
async fn rows_read_at_rest(connection: &mut AnyConnection) -> anyhow::Result<f64> {
    let mut before = rows_read_meanwhile(connection, async || Ok(())).await?;
    for _ in 0..SPANS_TO_REST {
        let now = rows_read_meanwhile(connection, async || Ok(())).await?;
        if (now - before).abs() <= REST_WITHIN {
            return Ok(now.max(before));
        }
        before = now;
    }
    anyhow::bail!("the bridge does not come to rest: {before} rows read in a span")
}

/// The rows of tables that all connections read in the time of an act and of a pause, as the server counts them. What an index alone
/// answers is not among them.
async fn rows_read_meanwhile(
    connection: &mut AnyConnection,
    act: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    // A fixed span, so that what the bridge reads by itself is the same each time.
    let span = TOLD * 2;
    // By then the server has counted what was read before.
    tokio::time::sleep(TOLD).await;
    let before = rows_read(connection).await?;
    let began = Instant::now();
    act().await?;
    let left = span.checked_sub(began.elapsed()).filter(|left| *left >= TOLD);
    tokio::time::sleep(left.context("the requests took too long to count rows")?).await;
    Ok(rows_read(connection).await? - before)
}

async fn rows_read(connection: &mut AnyConnection) -> anyhow::Result<f64> {
    let read = "SELECT CAST(SUM(COALESCE(seq_tup_read, 0) + COALESCE(idx_tup_fetch, 0)) AS DOUBLE PRECISION) FROM pg_stat_user_tables";
    Ok(sqlx::query(read).fetch_one(connection).await?.try_get(0)?)
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn as_number(count: usize) -> f64 {
    count as f64
}
