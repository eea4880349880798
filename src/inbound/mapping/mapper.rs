//! Runs mappings in processes of their own: a program that loops for ever is killed, one that takes all memory dies alone, and
//! neither takes a thread of the bridge with it. A jq program cannot be bounded from inside: it may recurse without an output,
//! or build one value without end (docs/adr/0013).
//!
//! A worker is this binary again, with the hidden command `map`. It reads its programs first, then one request after the other,
//! and answers each. It has nothing of the bridge's environment, and so none of its secrets.
//!
//! Before: [`crate::inbound`]. After: [`super::program`].

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;

use super::program::{AMQP, OutputBounds, Program, ProgramFault, Variables};
use crate::config::Source;
use crate::inbound::json::{Size, is_too_large};

/// Timeout of a mapping of one message, which takes well under a millisecond; one that takes this long does not end.
pub const TIME_MAX: Duration = Duration::from_secs(2);
/// Timeout of a worker's start, in which it compiles its programs.
const START_TIME_MAX: Duration = Duration::from_secs(10);
/// Timeout of a message's wait for a worker; after it the answer asks its sender to try again.
const WAIT_TIME_MAX: Duration = Duration::from_secs(20);
/// Limit of workers at once: a program is short, and the bridge needs the machine's cores for other work.
pub const WORKERS_MAX: usize = 4;
/// Limit of the size of one message's events, as a multiple of the largest message: they say the same in another form.
const GROWTH_MAX: usize = 2;
/// Limit of a worker's memory, in bytes of address space: the workers together take less than the service may have.
pub const MEMORY_BYTES_MAX: u64 = 256 << 20;
/// A worker's line when it is ready.
const READY: &str = "ready\n";

/// The command of the binary that makes it a worker.
pub const COMMAND: &str = "map";

/// The programs of a worker: the first line that it reads.
#[derive(Serialize, Deserialize)]
struct Setup {
    programs: Vec<(String, String, String)>,
    outputs_max: usize,
    bytes_max: usize,
}

/// The line before a message.
#[derive(Serialize, Deserialize)]
struct Request {
    source: String,
    variables: Variables,
    bytes: usize,
}

/// The line with its answer.
#[derive(Serialize, Deserialize)]
enum Reply {
    Outputs(Vec<Box<RawValue>>),
    Failed(String),
    TooMuch,
}

/// The reason why a message was not translated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapError {
    /// The program ended with this error, which may quote the message.
    Failed(String),
    /// The program did not end, took too much, or gave too much: its sender could mend nothing.
    Unbounded(&'static str),
    /// No worker could be started; later one may.
    NoWorker,
}

/// The mappings of all sources; cheap to clone.
#[derive(Clone)]
pub struct Mapper(Arc<Inner>);

struct Inner {
    binary: PathBuf,
    setup: String,
    /// The sources that have a program, and whether it looks at the properties of a message from RabbitMQ.
    sources: BTreeMap<String, bool>,
    reply_bytes_max: usize,
    idle: Mutex<Vec<Worker>>,
    room: Semaphore,
}

struct Worker {
    child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
}

/// The reason when the translation became too much: events, bytes, or JSON values.
const GAVE_TOO_MUCH: &str = "the mapping gave more than may come of one message";
/// The reason when the worker is gone.
const DIED: &str = "the mapping took too much memory, or too deep a recursion";

impl Mapper {
    /// Maps for the sources that have a program, in workers made of `binary`. A message has at most `batch_max` events and
    /// `body_bytes_max` bytes.
    pub fn new(sources: &[Source], binary: PathBuf, batch_max: usize, body_bytes_max: usize) -> Self {
        let programs = sources.iter().filter_map(|source| {
            let map = source.map.as_ref()?;
            Some((source.name.clone(), map.path.clone(), map.code.clone()))
        });
        let bytes_max = body_bytes_max.saturating_mul(GROWTH_MAX);
        let setup = Setup { programs: programs.collect(), outputs_max: batch_max, bytes_max };
        let sources = setup.programs.iter().map(|(source, _, code)| (source.clone(), code.contains(AMQP)));
        let sources = sources.collect();
        Self(Arc::new(Inner {
            binary,
            setup: line(&setup),
            sources,
            // JSON in JSON, and the commas between.
            reply_bytes_max: bytes_max.saturating_add(batch_max).saturating_add(1 << 10),
            idle: Mutex::default(),
            room: Semaphore::new(WORKERS_MAX),
        }))
    }

    /// Maps nothing.
    pub fn none() -> Self {
        Self::new(&[], PathBuf::new(), 0, 0)
    }

    /// `true` if messages of the source are translated.
    pub fn has(&self, source: &str) -> bool {
        self.0.sources.contains_key(source)
    }

    /// `true` if the source's program looks at `$amqp`: then two messages with the same bytes differ if their routing keys do.
    pub fn reads_amqp(&self, source: &str) -> bool {
        self.0.sources.get(source) == Some(&true)
    }

    /// Translates a message that is JSON.
    pub async fn map(&self, source: &str, variables: Variables, body: &[u8]) -> Result<Vec<Value>, MapError> {
        let request = line(&Request { source: source.to_owned(), variables, bytes: body.len() });
        let Ok(Ok(_room)) = tokio::time::timeout(WAIT_TIME_MAX, self.0.room.acquire()).await else {
            return Err(MapError::NoWorker);
        };
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let first = match idle {
            Some(worker) => self.ask(worker, &request, body).await?,
            None => None,
        };
        let reply = match first {
            Some(reply) => reply,
            // A worker that died may have been dead before it was asked; a fresh one died of this message.
            None => self.ask(self.start().await?, &request, body).await?.ok_or(MapError::Unbounded(DIED))?,
        };
        match reply {
            Reply::Outputs(outputs) => {
                let sizes = outputs.iter().map(|output| (Size::of(output.get().as_bytes()).values, output.get().len()));
                let (values, bytes) = sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
                if is_too_large(values, bytes) {
                    return Err(MapError::Unbounded(GAVE_TOO_MUCH));
                }
                let read = outputs.iter().map(|output| serde_json::from_str(output.get()));
                read.collect::<Result<_, _>>().map_err(|_| MapError::Failed("what came out is not JSON".to_owned()))
            }
            Reply::Failed(why) => Err(MapError::Failed(why)),
            Reply::TooMuch => Err(MapError::Unbounded(GAVE_TOO_MUCH)),
        }
    }

    /// Asks a worker; `None`: it has died. A worker that is not idle again afterwards is dropped, which kills it.
    async fn ask(&self, mut worker: Worker, request: &str, body: &[u8]) -> Result<Option<Reply>, MapError> {
        let asked = worker.ask(request, body, self.0.reply_bytes_max);
        let reply = tokio::time::timeout(TIME_MAX, asked).await;
        let reply = reply.map_err(|_| MapError::Unbounded("the mapping did not end in time"))?;
        let reply = reply.and_then(|reply| serde_json::from_str::<Reply>(&reply).ok());
        if reply.is_some() {
            self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        }
        Ok(reply)
    }

    async fn start(&self) -> Result<Worker, MapError> {
        let mut worker = self.spawn()?;
        match tokio::time::timeout(START_TIME_MAX, worker.set_up(&self.0.setup)).await {
            Ok(Some(())) => Ok(worker),
            Ok(None) | Err(_) => {
                tracing::warn!("a worker for mappings did not get ready");
                Err(MapError::NoWorker)
            }
        }
    }

    fn spawn(&self) -> Result<Worker, MapError> {
        let mut command = Command::new(&self.0.binary);
        // In a group of its own: a signal from the terminal to the bridge does not stop a translation.
        command.arg(COMMAND).env_clear().kill_on_drop(true).process_group(0);
        // The allocator would reserve a gigabyte of addresses before the worker is bound, and fill them afterwards.
        command.env("MIMALLOC_ARENA_RESERVE", "0");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let started = command.spawn().and_then(|mut child| {
            let pipes = child.stdin.take().zip(child.stdout.take());
            let (requests, replies) = pipes.ok_or_else(|| std::io::Error::other("it has no pipes"))?;
            Ok(Worker { child, requests, replies: BufReader::new(replies) })
        });
        started.map_err(|error| {
            tracing::warn!(%error, binary = %self.0.binary.display(), "a worker for mappings could not be started");
            MapError::NoWorker
        })
    }
}

impl Worker {
    /// Sends the programs; `None`: the worker cannot work here.
    async fn set_up(&mut self, setup: &str) -> Option<()> {
        self.requests.write_all(setup.as_bytes()).await.ok()?;
        self.requests.flush().await.ok()?;
        let mut said = String::new();
        (&mut self.replies).take(READY.len() as u64).read_line(&mut said).await.ok()?;
        (said == READY).then_some(())
    }

    /// Sends a request; `None`: the worker has died, or said more than it may.
    async fn ask(&mut self, request: &str, body: &[u8], reply_bytes_max: usize) -> Option<String> {
        self.requests.write_all(request.as_bytes()).await.ok()?;
        self.requests.write_all(body).await.ok()?;
        self.requests.flush().await.ok()?;
        let mut reply = String::new();
        let bytes_max = u64::try_from(reply_bytes_max).unwrap_or(u64::MAX);
        (&mut self.replies).take(bytes_max).read_line(&mut reply).await.ok()?;
        if reply.ends_with('\n') {
            return Some(reply);
        }
        let _ = self.child.start_kill();
        None
    }
}

/// Runs a worker until its requests end.
pub fn work(mut requests: impl BufRead, mut replies: impl Write) -> std::io::Result<()> {
    let mut first = String::new();
    requests.read_line(&mut first)?;
    let setup: Setup = serde_json::from_str(&first)?;
    let bounds = OutputBounds { outputs: setup.outputs_max, bytes: setup.bytes_max };
    let compile = |(source, path, code): &(String, String, String)| {
        let program = Program::compile(path, code).map_err(|errors| std::io::Error::other(errors.join("; ")))?;
        Ok((source.clone(), program))
    };
    let programs: BTreeMap<String, Program> = setup.programs.iter().map(compile).collect::<std::io::Result<_>>()?;
    replies.write_all(READY.as_bytes())?;
    replies.flush()?;
    loop {
        let mut head = String::new();
        if requests.read_line(&mut head)? == 0 {
            return Ok(());
        }
        let request: Request = serde_json::from_str(&head)?;
        let mut message = vec![0; request.bytes];
        requests.read_exact(&mut message)?;
        let program = programs.get(&request.source).ok_or_else(|| std::io::Error::other("no such source"))?;
        let reply = match program.run(&message, &request.variables, bounds) {
            Ok(outputs) => outputs
                .into_iter()
                .map(RawValue::from_string)
                .collect::<Result<_, _>>()
                .map_or_else(|_| Reply::Failed("what came out is not JSON".to_owned()), Reply::Outputs),
            Err(ProgramFault::Failed(why)) => Reply::Failed(why),
            Err(ProgramFault::TooMuch) => Reply::TooMuch,
        };
        replies.write_all(line(&reply).as_bytes())?;
        replies.flush()?;
    }
}

fn line(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).expect("it has only serialisable fields");
    text.push('\n');
    text
}
