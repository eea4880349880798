//! What the bridge stands on, with nothing of the bridge: servers that store a body and no more, or nothing at all.

use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc;

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context;
use tokio::sync::oneshot;

/// As many as the bridge's writer takes into one transaction.
const GROUP_MAX: usize = 256;

/// A body on its way to the disk: as many rows as it has events.
type Write = (web::Bytes, oneshot::Sender<()>);

/// Runs a role until it is killed.
pub(crate) fn run(role: &str, arguments: &[String]) -> anyhow::Result<()> {
    let folder = Path::new(arguments.first().context("a folder")?).to_owned();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening {}", listener.local_addr()?);
    let writer = match role {
        "limit-durable" => Some(spawn_writer(&folder)?),
        "limit-empty" => None,
        other => anyhow::bail!("no such role: {other}"),
    };
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

/// Group commit: all bodies that wait are one transaction, flushed before anybody is answered.
fn spawn_writer(folder: &Path) -> anyhow::Result<mpsc::Sender<Write>> {
    let connection = rusqlite::Connection::open(folder.join("limit.db"))?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE bodies (id INTEGER PRIMARY KEY, body BLOB NOT NULL);",
    )?;
    let (sender, receiver) = mpsc::channel::<Write>();
    std::thread::spawn(move || {
        while let Ok(first) = receiver.recv() {
            let group: Vec<Write> = std::iter::once(first).chain(receiver.try_iter().take(GROUP_MAX - 1)).collect();
            write(&connection, &group).expect("the disk takes it");
            for (_, done) in group {
                // Whoever has gone does not wait for it.
                let _ = done.send(());
            }
        }
    });
    Ok(sender)
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
