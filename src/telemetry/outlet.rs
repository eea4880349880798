//! Standard error behind a buffer, so that no thread that logs ever waits for the reader of the log.
//!
//! A full pipe, a stopped terminal or a slow disk holds the one thread that writes, and no other. Lines that find no room
//! are counted and dropped; once there is room again, one line says how many they were.
//!
//! Before: [`crate::telemetry`]. After: standard error.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// Limit of the bytes that wait or are being written: some ten thousand lines, which is half a minute of a busy bridge, and
/// little next to the rest of its memory.
pub(super) const BUFFER_BYTES_MAX: usize = 4 << 20;

/// Limit of the memory that a buffer keeps once it is empty. A usual second's lines fit; a flood's need not stay.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// Limit of one write. A write to a pipe ends once the pipe took all of it, so that during a large write a slow reader would
/// look like no reader.
const WRITE_BYTES_MAX: usize = 16 << 10;

/// Interval at which the writing thread looks by itself for something to report.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Delay before another try where standard error was opened not to block (another program may have set it so) and is full.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// Lines on their way out. Clones are the same one.
#[derive(Clone)]
pub(super) struct Outlet(Arc<Shared>);

struct Shared {
    clock: Clock,
    state: Mutex<State>,
    /// Notified when lines come, and when some were written.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<u8>,
    lines_waiting: u64,
    /// Bytes and lines that the thread is writing.
    bytes_in_hand: usize,
    lines_in_hand: u64,
    /// Moment since which standard error takes nothing: its last write, or the first line that waits; `None`: none wait.
    blocked_since: Option<Duration>,
    dropped: u64,
    /// Dropped lines that no line has reported.
    untold: u64,
}

/// Lines that wait for standard error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Blocked {
    /// Time since standard error last took a line; zero where no line waits.
    pub since: Duration,
    /// Number of lines that wait.
    pub lines: u64,
}

impl Outlet {
    pub(super) fn new(clock: Clock) -> Self {
        Self(Arc::new(Shared { clock, state: Mutex::default(), changed: Condvar::new() }))
    }

    /// Starts to write to `to`. After each look at the lines, at the latest every [`LOOK_EVERY`], `report` is called with the
    /// number of lines that were dropped and are not reported yet, if the last write went well; its own lines are written next.
    pub(super) fn start(&self, to: File, report: impl Fn(u64) + Send + 'static) -> std::io::Result<()> {
        let outlet = self.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || outlet.run(to, &report)).map(|_| ())
    }

    fn run(&self, mut to: File, report: &impl Fn(u64)) {
        let mut chunk = Vec::new();
        loop {
            let lines = self.take(&mut chunk);
            let written = self.write_all(&mut to, &chunk);
            let untold = self.note(written.is_ok(), lines);
            chunk.clear();
            chunk.shrink_to(KEPT_BYTES_MAX);
            report(if written.is_ok() { untold } else { 0 });
        }
    }

    /// Waits for lines, at most [`LOOK_EVERY`], and takes all there are. Returns their number.
    fn take(&self, chunk: &mut Vec<u8>) -> u64 {
        let state = self.lock();
        let waited = self.0.changed.wait_timeout_while(state, LOOK_EVERY, |state| state.waiting.is_empty());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        std::mem::swap(chunk, &mut state.waiting);
        state.bytes_in_hand = chunk.len();
        state.lines_in_hand = std::mem::take(&mut state.lines_waiting);
        state.lines_in_hand
    }

    /// Standard error took something, or said that it never will.
    fn progress(&self) {
        let now = self.0.clock.passed();
        self.lock().blocked_since = Some(now);
    }

    fn write_all(&self, to: &mut File, mut rest: &[u8]) -> std::io::Result<()> {
        while !rest.is_empty() {
            match to.write(&rest[..rest.len().min(WRITE_BYTES_MAX)]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    self.progress();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Notes whether `lines` were written. Returns the number of dropped lines that are to be reported now.
    fn note(&self, is_written: bool, lines: u64) -> u64 {
        let mut state = self.lock();
        state.bytes_in_hand = 0;
        state.lines_in_hand = 0;
        // Lines that could not be written wait no longer either.
        state.blocked_since = (!state.waiting.is_empty()).then(|| self.0.clock.passed());
        if !is_written {
            state.dropped += lines;
            state.untold += lines;
        }
        self.0.changed.notify_all();
        if is_written { std::mem::take(&mut state.untold) } else { 0 }
    }

    /// Takes a line, which ends in a line break, or drops it. Never waits for the writing.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.lock();
        if state.waiting.len() + state.bytes_in_hand + line.len() > BUFFER_BYTES_MAX {
            state.dropped += 1;
            state.untold += 1;
            return;
        }
        if state.blocked_since.is_none() {
            state.blocked_since = Some(self.0.clock.passed());
        }
        state.waiting.extend_from_slice(line);
        state.lines_waiting += 1;
        self.0.changed.notify_all();
    }

    /// Waits until all lines are written, for at most `within`. Returns whether they are.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let is_busy = |state: &mut State| state.bytes_in_hand > 0 || !state.waiting.is_empty();
        let waited = self.0.changed.wait_timeout_while(self.lock(), within, is_busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Lines that were dropped since the start, and whether some are not reported: the log takes fewer lines than come.
    pub(super) fn dropped(&self) -> (u64, bool) {
        let state = self.lock();
        (state.dropped, state.untold > 0)
    }

    /// Lines that wait, and for how long none was taken.
    pub(super) fn blocked(&self) -> Blocked {
        let now = self.0.clock.passed();
        let state = self.lock();
        let since = state.blocked_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        Blocked { since, lines: state.lines_waiting + state.lines_in_hand }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One event's line: the layer that makes it writes it in one piece.
impl Write for Outlet {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A handle on standard error that shares no lock with the library's: a thread that holds that lock while the pipe is
/// full stops every other thread that prints.
pub(super) fn standard_error() -> std::io::Result<File> {
    Ok(File::from(std::io::stderr().as_fd().try_clone_to_owned()?))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::sync::mpsc;

    use super::*;
    use crate::domain::Timestamp;

    /// Long enough for a machine that is busy with other things.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Lines that find no room are dropped and counted and reported once there is room.
    #[test]
    fn lines_that_find_no_room_are_dropped_and_counted() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let (told, reports) = mpsc::channel();
        let outlet = Outlet::new(Clock::system());
        let report = move |untold| {
            if untold > 0 {
                told.send(untold).expect("the test waits for it");
            }
        };
        outlet.start(File::from(OwnedFd::from(writer)), report).expect("a thread");
        let line = [b"x".repeat(1023), b"\n".to_vec()].concat();
        let lines = 2 * BUFFER_BYTES_MAX / line.len();
        // No process reads: if a line waited for the pipe, this would never end.
        for _ in 0..lines {
            outlet.push(&line);
        }
        let (dropped, is_short) = outlet.dropped();
        assert!(is_short && dropped > 0, "{dropped}");
        assert!(!outlet.flush(Duration::from_millis(20)), "a full pipe is not waited for");
        assert!(reports.try_recv().is_err(), "it cannot be told yet");
        let expected = (lines - usize::try_from(dropped).expect("few")) * line.len();
        let mut read = vec![0; expected];
        reader.read_exact(&mut read).expect("all that found room");
        assert!(read.chunks(line.len()).all(|read| read == line), "whole lines in order");
        assert_eq!(reports.recv_timeout(PATIENCE), Ok(dropped));
        assert!(outlet.flush(PATIENCE));
        assert_eq!(outlet.dropped(), (dropped, false));
    }

    #[test]
    fn how_long_nothing_was_taken_is_told_until_something_is() {
        let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
        let pipe_bytes = 64 << 10;
        writer.write_all(&vec![b'\n'; pipe_bytes]).expect("as much as it holds");
        let clock = Clock::manual(Timestamp::from_micros(1_000_000_000_000), 7);
        let outlet = Outlet::new(clock.clone());
        outlet.start(File::from(OwnedFd::from(writer)), |_| ()).expect("a thread");
        assert_eq!(outlet.blocked(), Blocked::default());
        outlet.push(b"one\n");
        clock.advance(PATIENCE);
        outlet.push(b"two\n");
        clock.advance(PATIENCE);
        assert_eq!(outlet.blocked(), Blocked { since: 2 * PATIENCE, lines: 2 });
        reader.read_exact(&mut vec![0; pipe_bytes + 8]).expect("all that there is");
        assert!(outlet.flush(PATIENCE));
        assert_eq!(outlet.blocked(), Blocked::default());
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_do_not_end_it() {
        let outlet = Outlet::new(Clock::system());
        let full = File::options().write(true).open("/dev/full").expect("Linux has it");
        outlet.start(full, |untold| assert_eq!(untold, 0, "what cannot be written cannot be told")).expect("a thread");
        for lines in 1..=3 {
            outlet.push(b"a line\n");
            assert!(outlet.flush(PATIENCE));
            assert_eq!(outlet.dropped().0, lines);
        }
    }
}
