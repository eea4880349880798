//! A small consumer that opens and closes tickets: reads the bridge's alerts from RabbitMQ, turns each into a request by a jq
//! program, and acknowledges it once the ticketing tool has taken it.
//!
//! What any such consumer must get right, and where it is here:
//! - Delivery is at least once: what was done is remembered by `occurrence_id`, on disk, before the acknowledgement
//!   ([`Memory`]). A trigger that comes again after its resolve must not open the ticket again.
//! - A resolve may overtake its trigger (a redelivery): the occurrence is over, and the trigger that follows opens nothing.
//! - Tickets are found by `dedup_key`, so a repeat in the moment between the tool's answer and the memory opens no second one.
//! - `reconnect_url` opens the customer's own page: it goes into the ticket, for the mail to the customer, and nowhere else.
//! - A tool that is away is waited for; nothing is acknowledged meanwhile, and the queue keeps what comes.
//!
//! ```sh
//! cargo run --example tickets -- --map deploy/ticketing/pagerduty.jq --url https://events.pagerduty.com \
//!     --amqp amqp://127.0.0.1 --state tickets.log
//! ```
//!
//! Settings of the program come from variables named `TICKETS_…` (`TICKETS_ROUTING_KEY` is `$settings.routing_key`), so that no
//! key stands in a command line; `TICKETS_AUTHORIZATION` is the header of that name.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program of its own, outside the bridge's house"
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use futures_util::StreamExt;
use jaq_core::data::JustLut;
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars};
use jaq_json::Val;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::{Value, json};

/// What an alert is, among all that the bridge says.
const KEYS: [&str; 3] = ["heat_pump.*", "fleet.*", "watch.*"];

/// Messages in hand at once. They are worked on one by one, in the order in which they were published.
const PREFETCH: u16 = 16;

/// The longest pause between two tries of a request, or of a connection.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Opens and closes tickets for the bridge's alerts.
#[derive(Parser)]
struct Arguments {
    /// The broker.
    #[arg(long)]
    amqp: String,
    /// The ticketing tool: scheme and host.
    #[arg(long)]
    url: String,
    /// The jq program that makes its requests.
    #[arg(long)]
    map: PathBuf,
    /// Where it is remembered what was done.
    #[arg(long)]
    state: PathBuf,
    /// A queue of this consumer's own; made if it is not there.
    #[arg(long, default_value = "tickets")]
    queue: String,
    /// The bridge's exchange.
    #[arg(long, default_value = "podero.bridge")]
    exchange: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let code = std::fs::read_to_string(&arguments.map).with_context(|| arguments.map.display().to_string())?;
    let program = Program::compile(&code)?;
    let mut desk = Desk {
        http: reqwest::Client::builder().timeout(Duration::from_secs(20)).build()?,
        url: arguments.url.trim_end_matches('/').to_owned(),
        authorization: std::env::var("TICKETS_AUTHORIZATION").ok(),
        program,
        settings: settings(),
        memory: Memory::open(&arguments.state)?,
    };
    let mut pause = Duration::from_secs(1);
    loop {
        let began = std::time::Instant::now();
        if let Err(error) = consume(&arguments, &mut desk).await {
            eprintln!("{error:#}; trying again in {} s", pause.as_secs());
        }
        if began.elapsed() > PAUSE_MAX {
            pause = Duration::from_secs(1);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn settings() -> Value {
    let named = std::env::vars().filter_map(|(name, value)| {
        let name = name.strip_prefix("TICKETS_")?.to_ascii_lowercase();
        (name != "authorization").then(|| (name, json!(value)))
    });
    Value::Object(named.collect())
}

/// Works until the connection ends.
async fn consume(arguments: &Arguments, desk: &mut Desk) -> anyhow::Result<()> {
    let connection = Connection::connect(&arguments.amqp, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    bind(&channel, arguments).await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let queue = arguments.queue.as_str().into();
    let mut messages =
        channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
    println!("listening");
    while let Some(message) = messages.next().await {
        let message = message?;
        match serde_json::from_slice::<Value>(&message.data) {
            Ok(event) => desk.take(&event).await?,
            // Nothing that the bridge publishes; kept out of the way of what is.
            Err(error) => eprintln!("a message that is no JSON is passed over: {error}"),
        }
        message.ack(BasicAckOptions::default()).await?;
    }
    bail!("the broker has ended the consumer")
}

/// Nothing in it expires, and nothing is dropped for coming again (as in a quorum queue with a delivery limit): a resolve that
/// was dropped would leave a ticket open.
async fn bind(channel: &Channel, arguments: &Arguments) -> anyhow::Result<()> {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(arguments.queue.as_str().into(), options, FieldTable::default()).await?;
    for key in KEYS {
        let (queue, exchange) = (arguments.queue.as_str().into(), arguments.exchange.as_str().into());
        channel.queue_bind(queue, exchange, key.into(), QueueBindOptions::default(), FieldTable::default()).await?;
    }
    Ok(())
}

/// Where tickets are opened and closed.
struct Desk {
    http: reqwest::Client,
    url: String,
    authorization: Option<String>,
    program: Program,
    settings: Value,
    memory: Memory,
}

impl Desk {
    /// After `Ok` the ticket is as the alert says, and that is on disk.
    async fn take(&mut self, event: &Value) -> anyhow::Result<()> {
        let (Some(occurrence), Some(action)) =
            (event["data"]["occurrence_id"].as_str(), event["data"]["action"].as_str())
        else {
            return Ok(());
        };
        match (action, self.memory.known.get(occurrence)) {
            ("trigger", None) => {
                self.send(event).await?;
                self.memory.keep(occurrence, State::Open)
            }
            ("resolve", Some(State::Open)) => {
                self.send(event).await?;
                self.memory.keep(occurrence, State::Over)
            }
            // There is no ticket to close, and none is to be opened for it any more.
            ("resolve", None) => self.memory.keep(occurrence, State::Over),
            // Told before.
            (_, _) => Ok(()),
        }
    }

    /// Until the tool has taken it. What it refuses for good is said, and passed over: no later try would change that.
    async fn send(&self, event: &Value) -> anyhow::Result<()> {
        // The same program fails over the same alert for ever, and whatever comes after it must not wait.
        let request = match self.program.run(event, &self.settings).and_then(Request::read) {
            Ok(request) => request,
            Err(error) => {
                eprintln!("no request can be made of {}: {error:#}", event["id"]);
                return Ok(());
            }
        };
        let mut pause = Duration::from_secs(1);
        loop {
            let post = self.http.post(format!("{}{}", self.url, request.path));
            let post = post.header("content-type", request.content_type).body(request.body.clone());
            let post = match &self.authorization {
                Some(authorization) => post.header("authorization", authorization),
                None => post,
            };
            match post.send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer)
                    if answer.status().is_client_error()
                        && !matches!(answer.status().as_u16(), 401 | 403 | 408 | 429) =>
                {
                    eprintln!("the tool refuses {} with {}", event["id"], answer.status());
                    return Ok(());
                }
                Ok(answer) => eprintln!("the tool answers {}; again in {} s", answer.status(), pause.as_secs()),
                Err(error) => {
                    eprintln!("the tool does not answer: {}; again in {} s", error.without_url(), pause.as_secs())
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// What a program gives: `path`, and `json` or `form`.
struct Request {
    path: String,
    content_type: &'static str,
    body: String,
}

impl Request {
    fn read(output: Value) -> anyhow::Result<Self> {
        let path = output["path"].as_str().context("the program gives no `path`")?.to_owned();
        if !output["json"].is_null() {
            return Ok(Self { path, content_type: "application/json", body: output["json"].to_string() });
        }
        let body = form_of(&output["form"]).context("the program gives neither `json` nor `form`")?;
        Ok(Self { path, content_type: "application/x-www-form-urlencoded", body })
    }
}

fn form_of(form: &Value) -> Option<String> {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in form.as_object()? {
        text.append_pair(name, value.as_str()?);
    }
    Some(text.finish())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Over,
}

/// What was done, by occurrence: a line of a file each, on disk before it counts. An occurrence that is over is kept as well,
/// for a repeat of its trigger may come at any time; a month of them is some megabytes. Old lines of occurrences that are over may
/// be deleted while the consumer stands still.
struct Memory {
    file: std::fs::File,
    known: HashMap<String, State>,
}

impl Memory {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).read(true).open(path)?;
        let mut known = HashMap::new();
        for line in BufReader::new(&file).lines() {
            // A line that a crash cut short was not acknowledged either.
            match line?.split_once(' ') {
                Some(("open", occurrence)) => known.insert(occurrence.to_owned(), State::Open),
                Some(("over", occurrence)) => known.insert(occurrence.to_owned(), State::Over),
                _ => None,
            };
        }
        Ok(Self { file, known })
    }

    fn keep(&mut self, occurrence: &str, state: State) -> anyhow::Result<()> {
        let word = if state == State::Open { "open" } else { "over" };
        // A line begins with the end of the one before, should a crash have cut that short.
        self.file.write_all(format!("\n{word} {occurrence}").as_bytes())?;
        self.file.sync_data()?;
        self.known.insert(occurrence.to_owned(), state);
        Ok(())
    }
}

/// A jq program with one variable, `$settings`.
struct Program(jaq_core::compile::Filter<jaq_core::Native<JustLut<Val>>>);

impl Program {
    fn compile(code: &str) -> anyhow::Result<Self> {
        let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = Arena::default();
        let modules = Loader::new(definitions)
            .load(&arena, File { code, path: () })
            .map_err(|errors| anyhow::anyhow!("the program cannot be read: {errors:?}"))?;
        let compiler = Compiler::default().with_funs(functions).with_global_vars(["$settings"]);
        let filter =
            compiler.compile(modules).map_err(|errors| anyhow::anyhow!("the program makes no sense: {errors:?}"))?;
        Ok(Self(filter))
    }

    /// Its one output.
    fn run(&self, event: &Value, settings: &Value) -> anyhow::Result<Value> {
        let read =
            |value: &Value| jaq_json::read::parse_single(value.to_string().as_bytes()).map_err(anyhow::Error::msg);
        let context = Ctx::<JustLut<Val>>::new(&self.0.lut, Vars::new([read(settings)?]));
        let output = self.0.id.run((context, read(event)?)).next().context("the program gives nothing")?;
        let output = output.map_err(|thrown| anyhow::anyhow!("the program failed: {thrown:?}"))?;
        Ok(serde_json::from_str(&output.to_string())?)
    }
}
