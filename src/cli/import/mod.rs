//! `import FILE|-`: feeds a file of events through the inbox, as often as anybody likes.
//!
//! Lines are committed in batches, and after each the place behind it is written down beside the file: whatever ends
//! the command, the same command goes on from there, and what was committed and not written down is known again. It
//! yields to the running bridge: in the lanes (`Store::accept_in_bulk`), in the backlog, and at the lock of a SQLite file.
//!
//! Before: [`crate::cli`]. After: [`crate::inbound::import`].

mod beside;
mod meter;
mod reasons;

use std::fs::File;
use std::io::{BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::open::{Opened, open_with_key};
use super::signals::Signals;
use super::{say, say_error};
use crate::clock::Clock;
use crate::config::{self, DEFAULT_SOURCE};
use crate::domain::Timestamp;
use crate::inbound::import::{Halt, Imported, Rejection};
use crate::inbound::lines::{Batch, Bounds, Content, Format, Line, Lines, Place};
use crate::inbound::mapping::mapper::Mapper;
use crate::inbound::{AllowedTypes, Inbox, SCHEDULED_MAX};
use crate::pump;
use crate::store::{Dialect, Error, Store};
use beside::{Beside, Counts, Found, Identity};
use meter::Meter;
use reasons::Reasons;

/// Lines of one commit: more would make few flushes fewer, and hold the database for longer at a time.
const BATCH_LINES_MAX: usize = 500;

/// Their bytes. Three batches are in memory: one is being kept, one waits, one is being read.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// An import leaves a tenth of the backlog to those who cannot wait.
const BACKLOG_SHARE: (u64, u64) = (9, 10);

/// A batch is at most this part of the backlog, so that none of them goes far beyond the share.
const BATCHES_PER_BACKLOG: u64 = 20;

/// While there is no room: applying takes some tens of milliseconds an event.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Others add to the backlog too, so it is counted again as often as this.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// SQLite has one lock for all writers, and who waits for it looks again after up to 100 ms of its own: after each batch the
/// lock is left alone for as long as the batch had it, and for no less than this.
const REST_MIN: Duration = Duration::from_millis(5);
/// Nor for longer than this: a batch that took so long waited itself.
const REST_MAX: Duration = Duration::from_secs(1);

/// So often in a row the store may be away before the command gives up, each time after a wait of its own (5 s for a lock).
const FAILURES_MAX: u32 = 10;
/// Between two of them.
const FAILURE_PAUSE: Duration = Duration::from_millis(500);

/// Read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// What is to be imported.
pub(super) struct Request {
    pub(super) file: PathBuf,
    pub(super) source: Option<String>,
    pub(super) is_csv: Option<bool>,
    pub(super) delimiter: Option<u8>,
}

/// Why it was not.
pub(super) enum Failure {
    /// What was asked for cannot be.
    Usage(String),
    /// It did not go, or not in full.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Where lines come from.
struct Origin {
    source: String,
    format: Format,
    bounds: Bounds,
    /// `None`: what cannot be read again.
    file: Option<File>,
    path: PathBuf,
}

/// How an import ended.
enum Ended {
    /// With the file.
    Whole,
    /// Somebody asked for it.
    Stopped,
}

/// Imports a file, and says what became of its lines.
pub(super) async fn run(config: &config::Import, request: Request) -> Result<(), Failure> {
    let (name, mapper) = source(config, request.source.as_deref())?;
    let format = format(&request, mapper.has(&name), &name)?;
    let mut signals = Signals::new()?;
    let lines = usize::try_from(config.store.backlog_max / BATCHES_PER_BACKLOG).unwrap_or(BATCH_LINES_MAX);
    let bounds =
        Bounds { line_bytes: config.http.body_max, lines: lines.clamp(1, BATCH_LINES_MAX), bytes: BATCH_BYTES_MAX };
    let mut origin = Origin { file: open_file(&request.file)?, source: name, format, bounds, path: request.file };
    let (mut beside, bytes_all) = origin.beside()?;
    let opened = open_with_key(&config.store).await?;
    let ended = import(&opened, (config, mapper), &mut origin, (&mut beside, bytes_all), &mut signals).await;
    opened.close().await;
    let (ended, counts, reasons, took) = ended?;
    let Counts { accepted, duplicate, rejected, skipped } = counts;
    let took = Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    let took = humantime::format_duration(took);
    say(&format!("accepted {accepted}, duplicate {duplicate}, rejected {rejected}, skipped {skipped}; {took}"));
    reasons.lines().iter().for_each(|line| say(line));
    let rejects = beside.rejects().display().to_string();
    match ended {
        Ended::Stopped if origin.file.is_some() => Err(anyhow!("stopped; run the same command again to go on").into()),
        Ended::Stopped => Err(anyhow!("stopped; what comes again is known, so give it all again").into()),
        Ended::Whole => {
            beside.end()?;
            if rejected == 0 {
                return Ok(());
            }
            Err(anyhow!("{rejected} lines were rejected; they are in {rejects}, each with what is wrong").into())
        }
    }
}

/// The source's name, and what translates its messages. The default one needs no configuration, as with a queue: without
/// a mapping it has CloudEvents.
fn source(config: &config::Import, asked: Option<&str>) -> Result<(String, Mapper), Failure> {
    let name = asked.unwrap_or(DEFAULT_SOURCE);
    let Some(source) = config.sources.iter().find(|source| source.name == name) else {
        if asked.is_some() {
            return Err(Failure::Usage(format!("--source {name}: no [[source]] has this name")));
        }
        return Ok((name.to_owned(), Mapper::none()));
    };
    let binary = std::env::current_exe().context("where this binary is")?;
    let sources = std::slice::from_ref(source);
    Ok((name.to_owned(), Mapper::new(sources, binary, config.http.batch_max, config.http.body_max)))
}

fn format(request: &Request, has_map: bool, source: &str) -> Result<Format, Failure> {
    let by_name = request.file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
    if !request.is_csv.unwrap_or(by_name) {
        if request.delimiter.is_some() {
            return Err(Failure::Usage("--delimiter is for CSV; say --format csv".to_owned()));
        }
        return Ok(Format::Ndjson);
    }
    if !has_map {
        return Err(Failure::Usage(format!(
            "a record of CSV is no event: give the source {source:?} a `map` that makes one of it (or --source)"
        )));
    }
    Ok(Format::Csv { delimiter: request.delimiter.unwrap_or(b',') })
}

/// `None`: standard input, or what is no file and can be read once only. Two imports of one file would get in each other's
/// way.
fn open_file(path: &Path) -> anyhow::Result<Option<File>> {
    let at = || path.display().to_string();
    if path == Path::new("-") || !path.metadata().with_context(at)?.is_file() {
        return Ok(None);
    }
    let file = File::open(path).with_context(at)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Err(anyhow!("another import of {} runs", path.display())),
        Err(std::fs::TryLockError::Error(error)) => Err(error).with_context(at),
    }
}

impl Origin {
    /// What stands beside it, and how many bytes it has.
    fn beside(&mut self) -> anyhow::Result<(Beside, Option<u64>)> {
        let Some(file) = &mut self.file else { return Ok((Beside::of_stream(), None)) };
        let identity =
            Identity::of(file, &self.source, self.format).with_context(|| self.path.display().to_string())?;
        let bytes = identity.bytes();
        Ok((Beside::of_file(&self.path, identity), Some(bytes)))
    }

    /// Reads in a thread of its own, which may wait for ever for a line.
    fn read(&self, from: Option<Place>) -> anyhow::Result<(Place, mpsc::Receiver<std::io::Result<Batch>>)> {
        let at = || self.path.display().to_string();
        if self.file.is_none() {
            let input: Box<dyn Read + Send> = if self.path == Path::new("-") {
                Box::new(std::io::stdin())
            } else {
                Box::new(File::open(&self.path).with_context(at)?)
            };
            let lines = Lines::open(BufReader::with_capacity(BUFFER_BYTES, input), self.format, self.bounds);
            return Ok(spawn(lines.with_context(at)?)?);
        }
        let file = BufReader::with_capacity(BUFFER_BYTES, File::open(&self.path).with_context(at)?);
        let mut lines = Lines::open(file, self.format, self.bounds).with_context(at)?;
        if let Some(place) = from {
            lines.go_to(place).with_context(at)?;
        }
        Ok(spawn(lines)?)
    }
}

fn spawn<R: std::io::BufRead + Send + 'static>(
    mut lines: Lines<R>,
) -> std::io::Result<(Place, mpsc::Receiver<std::io::Result<Batch>>)> {
    let began = lines.place();
    let (sender, receiver) = mpsc::channel(1);
    std::thread::Builder::new().name("import".to_owned()).spawn(move || {
        loop {
            let batch = lines.next_batch();
            let is_last = batch.as_ref().map_or(true, |batch| batch.lines.is_empty());
            // The other end is gone when the import was stopped.
            if sender.blocking_send(batch).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok((began, receiver))
}

/// One import under way.
struct Import<'a> {
    inbox: Inbox,
    source: &'a str,
    beside: &'a mut Beside,
    counts: Counts,
    reasons: Reasons,
    meter: Meter,
    room: Room,
    signals: &'a mut Signals,
    /// SQLite has one for all writers.
    shares_lock: bool,
}

async fn import(
    opened: &Opened,
    (config, mapper): (&config::Import, Mapper),
    origin: &mut Origin,
    (beside, bytes_all): (&mut Beside, Option<u64>),
    signals: &mut Signals,
) -> Result<(Ended, Counts, Reasons, Duration), Failure> {
    let clock = Clock::system();
    let (from, counts) = match beside.begin()? {
        Found::Progress(place, counts) => {
            say_error(&format!("goes on at line {}", place.line));
            (Some(place), counts)
        }
        Found::Another => {
            say_error(
                "the import that was begun here was of another file, or for another source: this one begins anew",
            );
            (None, Counts::default())
        }
        Found::Nothing => (None, Counts::default()),
    };
    if origin.file.is_none() {
        say_error(
            "what is no file cannot be gone back in: if this is stopped, give it all again, and what is known is a duplicate",
        );
    }
    let (began, mut batches) = origin.read(from)?;
    let types = AllowedTypes::of(&config.sources);
    let inbox = Inbox::for_import(opened.store.clone(), clock.clone(), mapper, types, config.http.body_max);
    let mut import = Import {
        inbox,
        source: &origin.source,
        beside,
        counts,
        reasons: Reasons::default(),
        meter: Meter::new(clock.clone(), began, bytes_all, std::io::stderr().is_terminal()),
        room: Room::new(config.store.backlog_max),
        signals,
        shares_lock: opened.store.dialect() == Dialect::Sqlite,
    };
    let ended = import.all(&mut batches).await;
    let took = import.meter.end();
    Ok((ended?, import.counts, import.reasons, took))
}

impl Import<'_> {
    async fn all(&mut self, batches: &mut mpsc::Receiver<std::io::Result<Batch>>) -> Result<Ended, Failure> {
        loop {
            let batch = tokio::select! {
                biased;
                () = self.signals.next() => return Ok(Ended::Stopped),
                batch = batches.recv() => batch,
            };
            let batch = batch.context("the file is read no further")?.context("the file cannot be read")?;
            if batch.lines.is_empty() {
                return Ok(Ended::Whole);
            }
            let Some(began) = self.wait_for_room().await? else { return Ok(Ended::Stopped) };
            let Some(imported) = self.keep(&batch.lines).await? else { return Ok(Ended::Stopped) };
            self.note(&batch, imported)?;
            self.meter.show(batch.end);
            if self.shares_lock {
                let took = self.inbox.clock.now().since(began);
                if self.rest(took.clamp(REST_MIN, REST_MAX)).await {
                    return Ok(Ended::Stopped);
                }
            }
        }
    }

    /// Returns when the batch is on disk; `None`: somebody asked for the end while the store was away.
    async fn keep(&mut self, lines: &[Line]) -> Result<Option<Vec<Imported>>, Failure> {
        let body = |line: &Line| match &line.content {
            Content::Body(body) => Some(body.clone()),
            Content::Empty | Content::Unfit(_) => None,
        };
        let bodies: Vec<Bytes> = lines.iter().filter_map(body).collect();
        let mut failures = 0;
        loop {
            match self.inbox.accept_lines(self.source, &bodies).await {
                Ok(imported) => return Ok(Some(imported)),
                Err(Halt::Store(Error::Away(_) | Error::Full) | Halt::NoWorker) if failures < FAILURES_MAX => {
                    failures += 1;
                    if self.rest(FAILURE_PAUSE).await {
                        return Ok(None);
                    }
                }
                Err(halt) => return Err(anyhow!(halt).context("run the same command again to go on").into()),
            }
        }
    }

    /// Counts a batch, keeps what is rejected, and writes down that all of it is done.
    fn note(&mut self, batch: &Batch, imported: Vec<Imported>) -> Result<(), Failure> {
        let mut imported = imported.into_iter();
        let mut accepted = 0;
        for line in &batch.lines {
            let imported = match &line.content {
                Content::Empty => Imported::Nothing,
                Content::Unfit(problem) => Imported::Rejected(problem.clone().into()),
                Content::Body(_) => imported.next().context("an answer for each line")?,
            };
            match imported {
                Imported::Accepted => accepted += 1,
                Imported::Duplicate => self.counts.duplicate += 1,
                Imported::Nothing => self.counts.skipped += 1,
                Imported::Rejected(rejection) => self.reject(line, &rejection)?,
            }
        }
        self.counts.accepted += accepted;
        self.room.fill(accepted);
        self.beside.save(batch.end, self.counts)?;
        Ok(())
    }

    fn reject(&mut self, line: &Line, rejection: &Rejection) -> anyhow::Result<()> {
        self.counts.rejected += 1;
        self.reasons.add(line.number, &rejection.problems);
        self.beside.reject(line, rejection)
    }

    /// Returns the moment when there is room; `None`: somebody asked for the end.
    async fn wait_for_room(&mut self) -> Result<Option<Timestamp>, Failure> {
        let (mut is_told, mut failures) = (false, 0);
        loop {
            let pause = match self.room.is_there(&self.inbox.store, &self.inbox.clock).await {
                Ok(true) => return Ok(Some(self.inbox.clock.now())),
                Ok(false) => {
                    if !is_told {
                        is_told = true;
                        self.meter.note(&self.room.why());
                    }
                    LOOK_EVERY
                }
                Err(Error::Away(_) | Error::Full) if failures < FAILURES_MAX => {
                    failures += 1;
                    FAILURE_PAUSE
                }
                Err(error) => return Err(anyhow!(error).context("run the same command again to go on").into()),
            };
            if self.rest(pause).await {
                return Ok(None);
            }
        }
    }

    /// Whether somebody asked for the end meanwhile.
    async fn rest(&mut self, pause: Duration) -> bool {
        tokio::select! {
            () = self.signals.next() => true,
            () = pump::sleep(pause) => false,
        }
    }
}

/// How much room an import has in the backlog: counting it for each batch would cost more than the batch, so this is the
/// last count and what was added since.
struct Room {
    work: u64,
    later: u64,
    backlog_max: u64,
    counted_at: Option<Timestamp>,
}

impl Room {
    fn new(backlog_max: u64) -> Self {
        Self { work: 0, later: 0, backlog_max, counted_at: None }
    }

    async fn is_there(&mut self, store: &Store, clock: &Clock) -> Result<bool, Error> {
        let now = clock.now();
        let is_fresh = self.counted_at.is_some_and(|at| now.since(at) < COUNT_EVERY);
        if !is_fresh || !self.has_room() {
            (self.work, self.later) = store.backlog().await?;
            self.counted_at = Some(now);
        }
        Ok(self.has_room())
    }

    fn has_room(&self) -> bool {
        self.work < share(self.backlog_max) && self.later < share(SCHEDULED_MAX)
    }

    /// What was accepted may be either.
    fn fill(&mut self, accepted: u64) {
        self.work += accepted;
        self.later += accepted;
    }

    fn why(&self) -> String {
        format!(
            "waits: {} events are pending (of store.backlog_max = {}, a tenth stays free) and {} are for later (of {}); \
             the running bridge makes room",
            self.work, self.backlog_max, self.later, SCHEDULED_MAX
        )
    }
}

fn share(of: u64) -> u64 {
    of.saturating_mul(BACKLOG_SHARE.0).div_ceil(BACKLOG_SHARE.1)
}
