//! Limits of the machine, with nothing of the bridge: a server that stores a body and no more, or nothing at all; a consumer that
//! posts what it gets; a client that asks; a publisher that waits for confirms; a disk that is flushed.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::oneshot;

use crate::bus::Bus;
use crate::target;

/// Limit of a group: as many as the bridge's writer takes into one transaction.
const GROUP_MAX: usize = 256;

/// Size of a commit of a few rows, in the log.
const COMMIT_BYTES: usize = 16 << 10;

/// A body on its way to the disk: as many rows as it has events.
type Write = (web::Bytes, oneshot::Sender<()>);

/// Limit of the requests of the null bridge and of the bare client at once, and its prefetch: more than a core can keep busy.
const REQUESTS_AT_ONCE: usize = 256;
/// Limit of polls at once, as the bridge has it.
const POLLS_AT_ONCE: usize = 64;

/// Runs a role until it is killed, or is done.
pub(crate) fn run(role: &str, arguments: &[String]) -> anyhow::Result<()> {
    let argument = |place: usize| arguments.get(place).map(String::as_str).context("an argument is missing");
    match role {
        "limit-durable" => serve(Some(spawn_writer(Path::new(argument(0)?))?)),
        "limit-durable-postgres" => {
            serve(Some(spawn_postgres_writer(argument(0)?.to_owned(), GroupOnPostgres::Bodies)))
        }
        "limit-same-rows-postgres" => {
            serve(Some(spawn_postgres_writer(argument(0)?.to_owned(), GroupOnPostgres::SameRows)))
        }
        "limit-same-rows" => serve(Some(spawn_same_rows(Path::new(argument(0)?))?)),
        "limit-empty" => serve(None),
        "limit-null-bridge" => alone(null_bridge(argument(0)?, argument(1)?, argument(2)?)),
        "limit-polls" => alone(polls(argument(0)?, argument(1)?.parse()?)),
        other => anyhow::bail!("no such role: {other}"),
    }
}

/// On one thread, as the bare programs that people write in an afternoon are.
fn alone(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    println!("listening nowhere");
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Consumes, posts, acknowledges.
async fn null_bridge(broker: &str, queue: &str, target: &str) -> anyhow::Result<()> {
    let bus = Bus::connect(broker).await?;
    let prefetch = u16::try_from(REQUESTS_AT_ONCE)?;
    bus.channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut deliveries = bus.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    let (client, url) = (reqwest::Client::new(), format!("http://{target}/null"));
    let mut posts = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(delivery) = deliveries.next() => {
                let delivery = delivery?;
                let post = client.post(&url).body(delivery.data.clone()).send();
                posts.push(async move {
                    post.await?.bytes().await?;
                    delivery.ack(BasicAckOptions::default()).await?;
                    anyhow::Ok(())
                });
            }
            Some(posted) = posts.next() => posted?,
        }
    }
}

/// Asks for the heat pumps of one user after the other.
async fn polls(target: &str, users: u64) -> anyhow::Result<()> {
    let client = reqwest::Client::new();
    let urls = (0..).map(|number| {
        let user = target::id(1, number % users);
        format!("http://{target}/api/partners/v2.0/org/bench/users/{user}/heat-pumps")
    });
    let gets = futures_util::stream::iter(urls).map(|url| {
        let get = client.get(url).bearer_auth("bench").send();
        async move { anyhow::Ok(get.await?.bytes().await?.len()) }
    });
    let mut answers = gets.buffer_unordered(POLLS_AT_ONCE);
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(())
}

/// The times that flushes of as many bytes as a small commit writes take.
pub(crate) fn flushes(folder: &Path, times: usize) -> anyhow::Result<Vec<Duration>> {
    let mut file = std::fs::File::create(folder.join("flushed"))?;
    (0..times)
        .map(|_| {
            let began = Instant::now();
            file.write_all(&[7; COMMIT_BYTES])?;
            file.sync_data()?;
            Ok(began.elapsed())
        })
        .collect()
}

fn serve(writer: Option<mpsc::Sender<Write>>) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening {}", listener.local_addr()?);
    actix_web::rt::System::new().block_on(async move {
        HttpServer::new(move || {
            let writer = writer.clone();
            App::new()
                .app_data(web::PayloadConfig::new(8 << 20))
                .app_data(web::Data::new(writer))
                .default_service(web::to(take))
        })
        .workers(2)
        .listen(listener)?
        .run()
        .await
    })?;
    Ok(())
}

async fn take(body: web::Bytes, writer: web::Data<Option<mpsc::Sender<Write>>>) -> HttpResponse {
    if let Some(writer) = writer.as_ref() {
        let (done, written) = oneshot::channel();
        if writer.send((body, done)).is_err() || written.await.is_err() {
            return HttpResponse::InternalServerError().finish();
        }
    }
    HttpResponse::Accepted().content_type("application/json").body(r#"{"status":"accepted"}"#)
}

/// Group commit: all bodies that wait are one transaction, flushed before any sender is answered.
fn spawn_writer(folder: &Path) -> anyhow::Result<mpsc::Sender<Write>> {
    let connection = rusqlite::Connection::open(folder.join("limit.db"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB NOT NULL);",
    )?;
    Ok(spawn_grouping(move |group| write(&connection, group)))
}

/// A thread that writes all that waits, and answers when it is on disk.
fn spawn_grouping(mut write: impl FnMut(&[Write]) -> rusqlite::Result<()> + Send + 'static) -> mpsc::Sender<Write> {
    let (sender, receiver) = mpsc::channel::<Write>();
    std::thread::spawn(move || {
        while let Ok(first) = receiver.recv() {
            let group: Vec<Write> = std::iter::once(first).chain(receiver.try_iter().take(GROUP_MAX - 1)).collect();
            write(&group).expect("the disk takes it");
            for (_, done) in group {
                // A client that has gone does not wait for it.
                let _ = done.send(());
            }
        }
    });
    sender
}

/// An event as the bridge keeps it, and its customer's lane, of the same size and under the same indexes.
const SAME_ROWS: [&str; 2] = [
    "INSERT INTO events (id, lane, origin, origin_id, source, transport, type, time, received_at, tries_from, due_at, state, failures, \
     digest, event, raw, raw_encoding, change, said_at, scope) VALUES (?1, ?2, '/billing', ?3, 'default', 'webhook', \
     'customer.signed_up', ?4, ?4, ?4, ?4, 'pending', 0, ?5, ?6, ?6, 'utf8', 'existence', ?4, 'default') \
     ON CONFLICT (origin, origin_id, scope) DO NOTHING",
    "INSERT INTO lanes (lane, fence, claimed, interrupted, ready_at, bulk) VALUES (?1, ?2, 0, 0, ?2, 0) \
     ON CONFLICT (lane) DO NOTHING",
];

/// [`SAME_ROWS`] in the schema of an older program.
fn older_rows() -> [String; 2] {
    let [event, lane] = SAME_ROWS;
    let lane = lane.replace("(lane, fence,", "(lane, customer, fence,").replace("(?1, ?2,", "(?1, '{}', ?2,");
    [event.replace("transport", "door"), lane]
}

/// Group commit of the very rows that the bridge would write, in a store that a bridge has made: what is left out is to read,
/// to judge and to look whether the customer was erased.
fn spawn_same_rows(store: &Path) -> anyhow::Result<mpsc::Sender<Write>> {
    let connection = rusqlite::Connection::open(store)?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;")?;
    let is_older = connection.prepare("SELECT lane FROM customers").is_err();
    let statements = if is_older { older_rows() } else { SAME_ROWS.map(str::to_owned) };
    let mut made = 0_i64;
    Ok(spawn_grouping(move |group| {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let [event, lane] = statements.each_ref().map(|sql| connection.prepare_cached(sql));
        let (mut event, mut lane) = (event?, lane?);
        for row in group.iter().flat_map(|(body, _)| rows(body)) {
            let text = std::str::from_utf8(row).expect("JSON");
            made += 1;
            let (id, digest) = (format!("{made:08x}-0000-7000-8000-{made:012x}"), format!("{made:064x}"));
            let customer = after(text, "\"customer_id\":\"");
            event.execute((&id, customer, after(text, "\"id\":\""), made, &digest, text))?;
            lane.execute((customer, made))?;
        }
        connection.execute_batch("COMMIT")
    }))
}

/// The text between a beginning and the next quote.
fn after<'a>(text: &'a str, beginning: &str) -> &'a str {
    text.split_once(beginning).and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default()
}

/// The rows of a group on PostgreSQL.
#[derive(Clone, Copy)]
enum GroupOnPostgres {
    /// Each event's body, in a table of the writer's own.
    Bodies,
    /// As [`SAME_ROWS`], in a store that a bridge has made.
    SameRows,
}

/// [`SAME_ROWS`], one statement for a group.
const SAME_ROWS_ON_POSTGRES: [&str; 2] = [
    "INSERT INTO events (id, lane, origin, origin_id, source, transport, type, time, received_at, tries_from, due_at, state, failures, \
     digest, event, raw, raw_encoding, change, said_at, scope) SELECT id, lane, '/billing', origin_id, 'default', 'webhook', \
     'customer.signed_up', at, at, at, at, 'pending', 0, digest, body, body, 'utf8', 'existence', at, 'default' \
     FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[]) \
     AS new (id, lane, origin_id, at, digest, body) ON CONFLICT (origin, origin_id, scope) DO NOTHING",
    "INSERT INTO lanes (lane, fence, claimed, interrupted, ready_at, bulk) SELECT lane, at, 0, 0, at, 0 \
     FROM unnest($1::text[], $2::bigint[]) AS new (lane, at) ON CONFLICT (lane) DO NOTHING",
];

/// Group commit on PostgreSQL, on a connection of its own, with one statement for what a group does to a table.
fn spawn_postgres_writer(url: String, kept: GroupOnPostgres) -> mpsc::Sender<Write> {
    let (sender, receiver) = mpsc::channel::<Write>();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut connection = PgConnection::connect(&url).await.expect("the server is there");
            if let GroupOnPostgres::Bodies = kept {
                let table = "CREATE TABLE bodies (id BIGSERIAL PRIMARY KEY, body TEXT NOT NULL)";
                sqlx::query(table).execute(&mut connection).await.expect("a table");
            }
            let mut made = 0_i64;
            while let Ok(first) = receiver.recv() {
                let group: Vec<Write> = std::iter::once(first).chain(receiver.try_iter().take(GROUP_MAX - 1)).collect();
                let mut transaction = connection.begin().await.expect("the server is there");
                let bodies = group.iter().flat_map(|(body, _)| rows(body));
                let bodies: Vec<&str> = bodies.map(|body| std::str::from_utf8(body).expect("JSON")).collect();
                let inserted = match kept {
                    GroupOnPostgres::Bodies => {
                        let insert = sqlx::query("INSERT INTO bodies (body) SELECT * FROM unnest($1::text[])");
                        insert.bind(bodies).execute(&mut *transaction).await.map(drop)
                    }
                    GroupOnPostgres::SameRows => insert_same_rows(&mut transaction, &bodies, &mut made).await,
                };
                inserted.expect("the server takes it");
                transaction.commit().await.expect("the server takes it");
                for (_, done) in group {
                    let _ = done.send(());
                }
            }
        });
    });
    sender
}

/// The rows of these bodies. `made`: the number of those before.
async fn insert_same_rows(connection: &mut PgConnection, bodies: &[&str], made: &mut i64) -> Result<(), sqlx::Error> {
    let at: Vec<i64> = (*made + 1..).take(bodies.len()).collect();
    *made += i64::try_from(bodies.len()).expect("few");
    let ids: Vec<String> = at.iter().map(|made| format!("{made:08x}-0000-7000-8000-{made:012x}")).collect();
    let digests: Vec<String> = at.iter().map(|made| format!("{made:064x}")).collect();
    let of = |beginning| bodies.iter().map(|body| after(body, beginning)).collect::<Vec<&str>>();
    let (customers, origin_ids) = (of("\"customer_id\":\""), of("\"id\":\""));
    let [events, lanes] = SAME_ROWS_ON_POSTGRES.map(sqlx::query);
    let events = events.bind(ids).bind(&customers).bind(origin_ids).bind(&at).bind(digests).bind(bodies);
    events.execute(&mut *connection).await?;
    lanes.bind(&customers).bind(&at).execute(connection).await?;
    Ok(())
}

fn write(connection: &rusqlite::Connection, group: &[Write]) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let mut insert = connection.prepare_cached("INSERT INTO bodies (body) VALUES (?1)")?;
    for (body, _) in group {
        for row in rows(body) {
            insert.execute([row])?;
        }
    }
    connection.execute_batch("COMMIT")
}

/// The same rows that the bridge would keep: one for each event. A batch is cut where its events begin.
fn rows(body: &[u8]) -> Vec<&[u8]> {
    const BEGIN: &[u8] = b"{\"specversion\"";
    let begins: Vec<usize> =
        body.windows(BEGIN.len()).enumerate().filter(|(_, window)| *window == BEGIN).map(|(at, _)| at).collect();
    let ends = begins.iter().skip(1).copied().chain([body.len()]);
    begins.iter().zip(ends).map(|(begin, end)| &body[*begin..end]).collect()
}
