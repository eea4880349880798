//! Signals, and the limit of a process's shutdown, for the commands that must clean up first.
//!
//! A thread of its own waits for signals, with a runtime of its own. If every thread of the bridge's runtime is stuck, a
//! second signal still ends the process, and so does time: a shutdown takes at most [`END_TIME_MAX`], whatever hangs (a
//! file system that does not answer, a library's own code at the exit).
//!
//! Before: [`crate::cli`]. After: `serve`, `backup`, `import`, `demo` and `sandbox`.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Signal as Sent, getpid, kill_process};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};

use super::output::say_error;
use crate::app::{GRACE, STORE_GRACE};
use crate::telemetry;

/// Limit of the wait for the log's last lines: enough for a pipe that is read. A pipe without a reader never takes them.
pub(super) const LAST_LINES_TIME_MAX: Duration = Duration::from_secs(1);

/// Margin on top of the limits of draining and of closing the store: a second each for the runtime's threads and for the
/// last lines of the log.
const END_MARGIN: Duration = Duration::from_secs(2);

/// Limit of a shutdown, from the first signal or from the moment at which the command ends by itself. A shutdown in which
/// nothing hangs never reaches it. Its own last lines take a second more; Kubernetes kills a second after that.
const END_TIME_MAX: Duration = Duration::from_secs(GRACE.as_secs() + STORE_GRACE.as_secs() + END_MARGIN.as_secs());

/// Default time between the signal of Kubernetes and its kill (`terminationGracePeriodSeconds`).
const KUBERNETES_KILLS_AFTER: Duration = Duration::from_secs(30);

const _: () = assert!(
    END_TIME_MAX.as_secs() + LAST_LINES_TIME_MAX.as_secs() < KUBERNETES_KILLS_AFTER.as_secs(),
    "an end that hangs is to say so before it is killed"
);

/// Limit of the process's own exit, which runs code of libraries. After it the kernel ends the process.
const EXIT_TIME_MAX: Duration = Duration::from_secs(1);

/// Exit status of a process whose shutdown took too long (`EX_SOFTWARE` of sysexits.h): something in it hung.
const STUCK: i32 = 70;

/// Base of the exit status of a process that a second signal ended: the number of the signal is added, as shells do.
const SIGNALLED: i32 = 128;

/// Waits for the signals that ask for a shutdown. A process has one.
pub(super) struct Signals {
    asked: watch::Receiver<bool>,
    begun: Arc<Notify>,
}

impl Signals {
    /// Catches signals from here on: SIGTERM, SIGINT and SIGQUIT ask for a shutdown, a second one of these ends the process
    /// at once, and SIGHUP, SIGUSR1 and SIGUSR2 are ignored.
    pub(super) fn new() -> anyhow::Result<Self> {
        Self::with_bound(END_TIME_MAX)
    }

    fn with_bound(end_time_max: Duration) -> anyhow::Result<Self> {
        let (asks, asked) = watch::channel(false);
        let begun = Arc::new(Notify::new());
        let (ready, is_ready) = sync_channel(1);
        let watch = SignalThread { asks, begun: begun.clone(), end_time_max };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        thread.spawn(move || watch.run(&ready))?;
        is_ready.recv().context("the thread that waits for signals has ended")??;
        Ok(Self { asked, begun })
    }

    /// Resolves once a signal has asked for a shutdown.
    pub(super) async fn next(&mut self) {
        if self.asked.wait_for(|asked| *asked).await.is_err() {
            // The thread never ends. Without it no signal can arrive.
            std::future::pending().await
        }
    }

    /// Starts the limit of the shutdown, for a command that ends by itself.
    pub(super) fn begin_end(&self) {
        self.begun.notify_one();
    }
}

/// The shutdown of a command has a limit however the command ended.
impl Drop for Signals {
    fn drop(&mut self) {
        self.begin_end();
    }
}

/// State of the thread that waits for signals.
struct SignalThread {
    /// Asks the command for the end.
    asks: watch::Sender<bool>,
    /// Says that the command ends by itself.
    begun: Arc<Notify>,
    end_time_max: Duration,
}

impl SignalThread {
    /// Reports whether it can catch signals, then waits for them until the process has ended.
    fn run(&self, ready: &SyncSender<std::io::Result<()>>) {
        let runtime = match Builder::new_current_thread().enable_io().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async {
            match Caught::new() {
                Ok(mut caught) => {
                    let _ = ready.send(Ok(()));
                    self.watch_end(&mut caught).await;
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
    }

    /// Never returns: the process ends first, by itself or from here.
    async fn watch_end(&self, caught: &mut Caught) {
        let first = tokio::select! {
            signal = caught.next() => Some(signal),
            () = self.begun.notified() => None,
        };
        if let Some(signal) = first {
            tracing::info!(signal = signal.name, "a signal asks for the end");
            self.asks.send_replace(true);
        }
        let at_once = async {
            if first.is_none() {
                // The shutdown is under way: the first signal asks for nothing new.
                caught.next().await;
            }
            caught.next().await
        };
        match tokio::time::timeout(self.end_time_max, at_once).await {
            Ok(signal) => {
                tracing::warn!(signal = signal.name, "a second signal: ending at once");
                end_now(SIGNALLED + signal.number)
            }
            Err(_) => {
                tracing::error!(
                    seconds = self.end_time_max.as_secs(),
                    status = STUCK,
                    "the end took too long: ending at once"
                );
                end_now(STUCK)
            }
        }
    }
}

/// Ends the process without waiting for anything that runs in it: work in flight is in the store, and the next start
/// resumes it.
fn end_now(status: i32) -> ! {
    telemetry::flush(LAST_LINES_TIME_MAX);
    // An exit runs code of libraries, which may hang too.
    let exiting = std::thread::Builder::new().spawn(move || std::process::exit(status));
    if exiting.is_ok() {
        std::thread::sleep(EXIT_TIME_MAX);
    }
    loop {
        // No code in the process can prevent this signal.
        let _ = kill_process(getpid(), Sent::KILL);
        std::thread::sleep(EXIT_TIME_MAX);
    }
}

/// A signal that asks for a shutdown.
#[derive(Clone, Copy)]
struct Ending {
    name: &'static str,
    number: i32,
}

struct Caught {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
    /// SIGXFSZ: a file would grow beyond the limit of this process. The write fails as on a full disk, and is reported as one.
    file_limit: Signal,
    telling: Option<JoinHandle<()>>,
}

impl Caught {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
            file_limit: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
            telling: None,
        })
    }

    /// Waits for a signal that asks for a shutdown. The others would kill the process by default, against the intention of an
    /// operator who sends one to reload a configuration or to reopen a log.
    async fn next(&mut self) -> Ending {
        loop {
            let passed_over = tokio::select! {
                _ = self.terminate.recv() => return Ending { name: "SIGTERM", number: SignalKind::terminate().as_raw_value() },
                _ = self.interrupt.recv() => return Ending { name: "SIGINT", number: SignalKind::interrupt().as_raw_value() },
                _ = self.quit.recv() => return Ending { name: "SIGQUIT", number: SignalKind::quit().as_raw_value() },
                _ = self.hang_up.recv() => "SIGHUP",
                _ = self.user_1.recv() => "SIGUSR1",
                _ = self.user_2.recv() => "SIGUSR2",
                _ = self.file_limit.recv() => continue,
            };
            self.tell(passed_over);
        }
    }

    /// Reports an ignored signal in the log. A command without a log uses standard error, which must not block this thread.
    fn tell(&mut self, signal: &'static str) {
        tracing::warn!(signal, "a signal was passed over");
        let can_tell = self.telling.as_ref().is_none_or(JoinHandle::is_finished);
        if !telemetry::is_set() && can_tell {
            let line = format!("podero-bridge: {signal} was passed over");
            self.telling = std::thread::Builder::new().spawn(move || say_error(&line)).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// Set in the process that a test starts: whether its end begins by itself.
    const CHILD: &str = "PODERO_BRIDGE_TEST_STUCK";

    /// The same test in a process of its own.
    fn stuck_process(name: &str, begins_by_itself: bool) -> Child {
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        let name = format!("cli::signals::tests::{name}");
        let child = child.args(["--exact", &name]).env(CHILD, if begins_by_itself { "1" } else { "" });
        child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs")
    }

    /// In that process nothing ever ends: its only runtime has one thread, which sleeps. Returns in another.
    fn stick() {
        let Some(begins_by_itself) = std::env::var_os(CHILD) else { return };
        Builder::new_current_thread().build().expect("a runtime").block_on(async {
            let signals = Signals::with_bound(Duration::from_millis(200)).expect("a thread");
            if begins_by_itself == "1" {
                signals.begin_end();
            } else {
                kill_process(getpid(), Sent::TERM).expect("it is this process");
            }
            loop {
                std::thread::sleep(Duration::from_secs(3_600));
            }
        });
    }

    #[test]
    fn an_end_that_was_asked_for_has_its_bound_whatever_hangs() {
        stick();
        let mut child = stuck_process("an_end_that_was_asked_for_has_its_bound_whatever_hangs", false);
        assert_eq!(child.wait().expect("it ends").code(), Some(STUCK));
    }

    #[test]
    fn an_end_that_begins_by_itself_has_its_bound_too() {
        stick();
        let mut child = stuck_process("an_end_that_begins_by_itself_has_its_bound_too", true);
        assert_eq!(child.wait().expect("it ends").code(), Some(STUCK));
    }
}
