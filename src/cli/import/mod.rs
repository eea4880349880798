//! `import FILE|-`: feeds a file of events through the inbox. It can be repeated at will.
//!
//! Lines are committed in batches, and after each batch the position behind it is saved in a file next to the imported one.
//! However the command ends, the same command resumes from there; lines that were committed after the last save are duplicates.
//! It yields to the running bridge: in the lanes (`Store::accept_in_bulk`), in the backlog, and at the lock of a SQLite file.
//!
//! Before: [`crate::cli`]. After: [`crate::inbound::import`].

mod progress_bar;
mod progress_file;
mod reasons;

use std::fs::File;
use std::io::{BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::actor;
use super::arguments::ImportArguments;
use super::error::CliError;
use super::open::{Opened, open_with_key};
use super::output::{say, say_error};
use super::signals::Signals;

use crate::clock::Clock;
use crate::config::{self, DEFAULT_SOURCE};
use crate::domain::Timestamp;
use crate::domain::audit::{Action, AuditEntry, AuditOutcome, AuditReason, AuditTarget, TargetKind};
use crate::inbound::import::{Halt, Imported, Rejection};
use crate::inbound::lines::{Format, Line, LineBatch, LineBounds, LineContent, LineReader, Position};
use crate::inbound::mapping::mapper::Mapper;
use crate::inbound::{AllowedTypes, Inbox, SCHEDULED_MAX};
use crate::pump;
use crate::store::{BacklogCounts, Dialect, Error, Store};
use progress_bar::ProgressBar;
use progress_file::{Counts, EarlierImport, FileIdentity, ProgressFile};
use reasons::Reasons;

/// Limit of the lines of a commit. More would hardly save a flush, and hold the database for longer at a time.
const BATCH_LINES_MAX: usize = 500;

/// Limit of the bytes of a commit. Three batches are in memory: one is being committed, one waits, one is being read.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Share of the backlog that an import may fill. It leaves a tenth to senders that cannot wait.
const BACKLOG_SHARE: (u64, u64) = (9, 10);

/// Number of batches that would fill the backlog, so that no batch goes far beyond the share.
const BATCHES_PER_BACKLOG: u64 = 20;

/// Interval between two looks at a full backlog. Applying takes some tens of milliseconds an event.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Interval between two counts of the backlog, which others fill too.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// Minimum pause after a batch on SQLite, which has one lock for all writers. A waiting writer tries again after up to 100 ms,
/// so the import leaves the lock alone for as long as the batch held it.
const REST_MIN: Duration = Duration::from_millis(5);
/// Maximum pause after a batch: a batch that took longer waited for the lock itself.
const REST_MAX: Duration = Duration::from_secs(1);

/// Limit of failures in a row of a store that is away, each after a wait of its own (5 s for a lock).
const FAILURES_MAX: u32 = 10;
/// Pause between two of them.
const FAILURE_PAUSE: Duration = Duration::from_millis(500);

/// Size of the buffer of the file.
const BUFFER_BYTES: usize = 256 << 10;

/// Origin of the lines.
struct Origin {
    source: String,
    format: Format,
    bounds: LineBounds,
    /// `None`: the input can be read only once.
    file: Option<File>,
    path: PathBuf,
}

/// End of an import, and the lines of this run.
struct Outcome {
    /// True if a signal ended it before the file did.
    is_stopped: bool,
    counts: Counts,
    reasons: Reasons,
    took: Duration,
}

/// Imports a file, and prints the counts of its lines.
pub(super) async fn run(config: &config::Import, request: ImportArguments) -> Result<(), CliError> {
    let (name, mapper) = source(config, request.source.as_deref())?;
    let format = format(&request, mapper.has(&name), &name)?;
    let mut signals = Signals::new()?;
    let lines = usize::try_from(config.store.backlog_max / BATCHES_PER_BACKLOG).unwrap_or(BATCH_LINES_MAX);
    let bounds =
        LineBounds { line_bytes: config.http.body_max, lines: lines.clamp(1, BATCH_LINES_MAX), bytes: BATCH_BYTES_MAX };
    let mut origin = Origin { file: open_file(&request.file)?, source: name, format, bounds, path: request.file };
    let mut progress_file = origin.progress_file()?;
    let opened = open_with_key(&config.store).await?;
    let act = |outcome, reason: AuditReason, to: Option<String>| {
        let target = AuditTarget::new(TargetKind::Source, &origin.source);
        let entry = AuditEntry::done(Clock::system().now(), actor::of_process(), Action::EventsImport, target);
        vec![AuditEntry { outcome, reason: Some(reason.into()), to, ..entry }]
    };
    let begun = opened.store.record(act(AuditOutcome::Done, AuditReason::Begun, None)).await;
    let outcome = match begun {
        Ok(()) => import(&opened, config, mapper, &origin, &mut progress_file, &mut signals).await,
        Err(error) => Err(error.into()),
    };
    let (ended, reason, counts) = match &outcome {
        Ok(Outcome { is_stopped: false, counts, .. }) => (AuditOutcome::Done, AuditReason::Ended, Some(counts)),
        Ok(Outcome { counts, .. }) => (AuditOutcome::Failed, AuditReason::Stopped, Some(counts)),
        Err(_) => (AuditOutcome::Failed, AuditReason::Error, None),
    };
    let told = opened.store.record(act(ended, reason, counts.map(ToString::to_string))).await;
    opened.close().await;
    if let Err(error) = told {
        say_error(&format!("podero-bridge: the audit log has no row of the end: {error}"));
    }
    let Outcome { is_stopped, counts, reasons, took } = outcome?;
    let rejected = counts.rejected;
    let took = Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    let took = humantime::format_duration(took);
    say(&format!("{counts}; {took}"));
    reasons.lines().iter().for_each(|line| say(line));
    if is_stopped {
        let next = if origin.file.is_some() {
            "run the same command again to go on"
        } else {
            "what comes again is known, so give it all again"
        };
        return Err(anyhow!("stopped; {next}").into());
    }
    let rejects = progress_file.rejects().display().to_string();
    progress_file.end()?;
    if rejected > 0 {
        return Err(anyhow!("{rejected} lines were rejected; they are in {rejects}, each with what is wrong").into());
    }
    Ok(())
}

/// The source's name, and the mapper of its messages. The default source needs no configuration, as with a queue: without
/// a mapping it sends CloudEvents.
fn source(config: &config::Import, asked: Option<&str>) -> Result<(String, Mapper), CliError> {
    let name = asked.unwrap_or(DEFAULT_SOURCE);
    let Some(source) = config.sources.iter().find(|source| source.name == name) else {
        if asked.is_some() {
            return Err(CliError::Usage(format!("--source {name}: no [[source]] has this name")));
        }
        return Ok((name.to_owned(), Mapper::none()));
    };
    let binary = std::env::current_exe().context("where this binary is")?;
    let sources = std::slice::from_ref(source);
    Ok((name.to_owned(), Mapper::new(sources, binary, config.http.batch_max, config.http.body_max)))
}

fn format(request: &ImportArguments, has_map: bool, source: &str) -> Result<Format, CliError> {
    let by_name = request.file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
    if !request.is_csv.unwrap_or(by_name) {
        if request.delimiter.is_some() {
            return Err(CliError::Usage("--delimiter is for CSV; say --format csv".to_owned()));
        }
        return Ok(Format::Ndjson);
    }
    if !has_map {
        return Err(CliError::Usage(format!(
            "a record of CSV is no event: give the source {source:?} a `map` that makes one of it (or --source)"
        )));
    }
    Ok(Format::Csv { delimiter: request.delimiter.unwrap_or(b',') })
}

/// Opens and locks a file, since two imports of one file would disturb each other. `None`: standard input, or a pipe, which
/// can be read only once.
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
    /// Its progress, and its rejected lines.
    fn progress_file(&mut self) -> anyhow::Result<ProgressFile> {
        let Some(file) = &mut self.file else { return Ok(ProgressFile::of_stream()) };
        let identity = FileIdentity::of(file, &self.source, self.format);
        Ok(ProgressFile::of_file(&self.path, identity.with_context(|| self.path.display().to_string())?))
    }

    /// Reads in a separate thread, which may wait for a line for ever.
    fn read(&self, from: Option<Position>) -> anyhow::Result<(Position, Batches)> {
        let at = || self.path.display().to_string();
        if self.path == Path::new("-") {
            let input = BufReader::with_capacity(BUFFER_BYTES, std::io::stdin());
            return Ok(spawn(LineReader::open(input, self.format, self.bounds).with_context(at)?)?);
        }
        let file = BufReader::with_capacity(BUFFER_BYTES, File::open(&self.path).with_context(at)?);
        let mut lines = LineReader::open(file, self.format, self.bounds).with_context(at)?;
        if let Some(place) = from {
            lines.go_to(place).with_context(at)?;
        }
        Ok(spawn(lines)?)
    }
}

fn spawn<R: std::io::BufRead + Send + 'static>(mut lines: LineReader<R>) -> std::io::Result<(Position, Batches)> {
    let began = lines.position();
    let (sender, receiver) = mpsc::channel(1);
    std::thread::Builder::new().name("import".to_owned()).spawn(move || {
        loop {
            let batch = lines.next_batch();
            let is_last = batch.as_ref().map_or(true, |batch| batch.lines.is_empty());
            // The receiver is gone if a signal ended the import.
            if sender.blocking_send(batch).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok((began, receiver))
}

/// Batches as the thread reads them.
type Batches = mpsc::Receiver<std::io::Result<LineBatch>>;

/// One import under way.
struct Import<'a> {
    inbox: Inbox,
    source: &'a str,
    progress_file: &'a mut ProgressFile,
    counts: Counts,
    reasons: Reasons,
    progress_bar: ProgressBar,
    headroom: Headroom,
    signals: &'a mut Signals,
    /// True for SQLite, which has one lock for all writers.
    shares_lock: bool,
}

async fn import(
    opened: &Opened<Store>,
    config: &config::Import,
    mapper: Mapper,
    origin: &Origin,
    progress_file: &mut ProgressFile,
    signals: &mut Signals,
) -> anyhow::Result<Outcome> {
    let clock = Clock::system();
    let (from, counts) = match progress_file.begin()? {
        EarlierImport::Progress(place, counts) => {
            say_error(&format!("goes on at line {}", place.line));
            (Some(place), counts)
        }
        EarlierImport::Another => {
            say_error(
                "the import that was begun here was of another file, or for another source: this one begins anew",
            );
            (None, Counts::default())
        }
        EarlierImport::Nothing => (None, Counts::default()),
    };
    let bytes_all = progress_file.bytes();
    if origin.file.is_none() {
        say_error(
            "what is no file cannot be gone back in: if this is stopped, give it all again, and what is known is a duplicate",
        );
    }
    let (began, mut batches) = origin.read(from)?;
    let types = AllowedTypes::of(&config.sources).with_team(&config.team);
    let inbox = Inbox::for_import(opened.store.clone(), clock.clone(), mapper, types, config.http.body_max);
    let mut import = Import {
        inbox,
        source: &origin.source,
        progress_file,
        counts,
        reasons: Reasons::default(),
        progress_bar: ProgressBar::new(clock.clone(), began, bytes_all, std::io::stderr().is_terminal()),
        headroom: Headroom::new(config.store.backlog_max),
        signals,
        shares_lock: opened.store.dialect() == Dialect::Sqlite,
    };
    let is_stopped = import.all(&mut batches).await;
    let took = import.progress_bar.end();
    Ok(Outcome { is_stopped: is_stopped?, counts: import.counts, reasons: import.reasons, took })
}

impl Import<'_> {
    /// Imports every batch. Returns whether a signal ended it before the file did.
    async fn all(&mut self, batches: &mut Batches) -> anyhow::Result<bool> {
        loop {
            let batch = tokio::select! {
                biased;
                () = self.signals.next() => return Ok(true),
                batch = batches.recv() => batch,
            };
            let batch = batch.context("the file is read no further")?.context("the file cannot be read")?;
            if batch.lines.is_empty() {
                return Ok(false);
            }
            let Some(began) = self.wait_for_room().await? else { return Ok(true) };
            let Some(imported) = self.keep(&batch.lines).await? else { return Ok(true) };
            self.note(&batch, imported)?;
            self.progress_bar.show(batch.end);
            if self.shares_lock {
                let took = self.inbox.clock.now().since(began);
                if self.rest(took.clamp(REST_MIN, REST_MAX)).await {
                    return Ok(true);
                }
            }
        }
    }

    /// Returns when the batch is on disk; `None`: a signal came while the store was away.
    async fn keep(&mut self, lines: &[Line]) -> anyhow::Result<Option<Vec<Imported>>> {
        let body = |line: &Line| match &line.content {
            LineContent::Body(body) => Some(body.clone()),
            LineContent::Empty | LineContent::Unreadable(_) => None,
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
                Err(halt) => return Err(anyhow!(halt).context("run the same command again to go on")),
            }
        }
    }

    /// Counts a batch, writes its rejected lines, and saves the progress.
    fn note(&mut self, batch: &LineBatch, imported: Vec<Imported>) -> anyhow::Result<()> {
        let mut imported = imported.into_iter();
        let mut accepted = 0;
        for line in &batch.lines {
            let imported = match &line.content {
                LineContent::Empty => Imported::Nothing,
                LineContent::Unreadable(problem) => Imported::Rejected(problem.clone().into()),
                LineContent::Body(_) => imported.next().context("an answer for each line")?,
            };
            match imported {
                Imported::Accepted => accepted += 1,
                Imported::Duplicate => self.counts.duplicate += 1,
                Imported::Nothing => self.counts.skipped += 1,
                Imported::Rejected(rejection) => self.reject(line, &rejection)?,
            }
        }
        self.counts.accepted += accepted;
        self.headroom.fill(accepted);
        self.progress_file.save(batch.end, self.counts)
    }

    fn reject(&mut self, line: &Line, rejection: &Rejection) -> anyhow::Result<()> {
        self.counts.rejected += 1;
        self.reasons.add(line.number, &rejection.problems);
        self.progress_file.reject(line, rejection)
    }

    /// Returns the moment when there is room; `None`: a signal came first.
    async fn wait_for_room(&mut self) -> anyhow::Result<Option<Timestamp>> {
        let (mut is_told, mut failures) = (false, 0);
        loop {
            let pause = match self.headroom.is_there(&self.inbox.store, &self.inbox.clock).await {
                Ok(true) => return Ok(Some(self.inbox.clock.now())),
                Ok(false) => {
                    if !is_told {
                        is_told = true;
                        self.progress_bar.note(&self.headroom.why());
                    }
                    LOOK_EVERY
                }
                Err(Error::Away(_) | Error::Full) if failures < FAILURES_MAX => {
                    failures += 1;
                    FAILURE_PAUSE
                }
                Err(error) => return Err(anyhow!(error).context("run the same command again to go on")),
            };
            if self.rest(pause).await {
                return Ok(None);
            }
        }
    }

    /// Waits; returns whether a signal came meanwhile.
    async fn rest(&mut self, pause: Duration) -> bool {
        tokio::select! {
            () = self.signals.next() => true,
            () = pump::sleep(pause) => false,
        }
    }
}

/// Room for an import in the backlog. Counting the backlog for each batch would cost more than the batch, so this is the
/// last count plus the events added since.
struct Headroom {
    work: u64,
    later: u64,
    backlog_max: u64,
    counted_at: Option<Timestamp>,
}

impl Headroom {
    fn new(backlog_max: u64) -> Self {
        Self { work: 0, later: 0, backlog_max, counted_at: None }
    }

    async fn is_there(&mut self, store: &Store, clock: &Clock) -> Result<bool, Error> {
        let now = clock.now();
        let is_fresh = self.counted_at.is_some_and(|at| now.since(at) < COUNT_EVERY);
        if !is_fresh || !self.has_room() {
            let BacklogCounts { work, later } = store.backlog().await?;
            (self.work, self.later) = (work, later);
            self.counted_at = Some(now);
        }
        Ok(self.has_room())
    }

    fn has_room(&self) -> bool {
        self.work < share(self.backlog_max) && self.later < share(SCHEDULED_MAX)
    }

    /// Adds accepted events, which may be due now or later.
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
