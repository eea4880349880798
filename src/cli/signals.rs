//! Signals, and the bound on a process's end, for the commands that have something to put away first.
//!
//! A thread of its own waits for signals, with a runtime of its own: where every thread of the bridge's runtime is stuck, a
//! second signal still ends the process, and so does the time: an end takes at most [`END_TIME_MAX`], whatever hangs (a file
//! system that does not answer, a library's own code at the exit).
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

use super::{LAST_LINES_TIME_MAX, say_error};
use crate::app::{GRACE, STORE_GRACE};
use crate::telemetry;

/// Added to the time that draining and the store's end may take: threads of the runtime and the last lines of the log have a
/// second each.
const END_MARGIN: Duration = Duration::from_secs(2);

/// Limit of an end, from the first signal or from where the command ends by itself. Nothing that keeps its own bounds meets it.
/// Its own last lines take a second more; Kubernetes kills a second after that.
const END_TIME_MAX: Duration = Duration::from_secs(GRACE.as_secs() + STORE_GRACE.as_secs() + END_MARGIN.as_secs());

/// Time after its signal at which Kubernetes kills, unless it is told otherwise (`terminationGracePeriodSeconds`).
const KUBERNETES_KILLS_AFTER: Duration = Duration::from_secs(30);

const _: () = assert!(
    END_TIME_MAX.as_secs() + LAST_LINES_TIME_MAX.as_secs() < KUBERNETES_KILLS_AFTER.as_secs(),
    "an end that hangs is to say so before it is killed"
);

/// Limit of the process's own exit, which runs code of libraries; then the kernel ends it.
const EXIT_TIME_MAX: Duration = Duration::from_secs(1);

/// Exit status of a process whose end took too long (`EX_SOFTWARE` of sysexits.h): something in it hung.
const STUCK: i32 = 70;

/// Exit status of a process that a second signal ended, beyond the number of that signal, as shells count.
const SIGNALLED: i32 = 128;

/// Waits for what asks for the end. There is one in a process.
pub(super) struct Signals {
    asked: watch::Receiver<bool>,
    begun: Arc<Notify>,
}

impl Signals {
    /// From here on signals no longer end the process by themselves: SIGTERM, SIGINT and SIGQUIT ask for the end,
    /// a second one of these ends it at once, and SIGHUP, SIGUSR1 and SIGUSR2 are passed over.
    pub(super) fn new() -> anyhow::Result<Self> {
        Self::with_bound(END_TIME_MAX)
    }

    fn with_bound(end_time_max: Duration) -> anyhow::Result<Self> {
        let (asks, asked) = watch::channel(false);
        let begun = Arc::new(Notify::new());
        let (ready, is_ready) = sync_channel(1);
        let watched = begun.clone();
        let thread = std::thread::Builder::new().name("signals".to_owned());
        thread.spawn(move || wait(&ready, (&asks, &watched), end_time_max))?;
        is_ready.recv().context("the thread that waits for signals has ended")??;
        Ok(Self { asked, begun })
    }

    /// Resolves once the end was asked for.
    pub(super) async fn next(&mut self) {
        if self.asked.wait_for(|asked| *asked).await.is_err() {
            // The thread never ends. Without it no signal can ask.
            std::future::pending().await
        }
    }

    /// The command ends by itself: from here on the end has its bound, too.
    pub(super) fn begin_end(&self) {
        self.begun.notify_one();
    }
}

/// A command that is over, for whatever reason, has an end that is bounded.
impl Drop for Signals {
    fn drop(&mut self) {
        self.begin_end();
    }
}

/// The thread: says whether it can catch signals, then waits for them until the process has ended.
fn wait(
    ready: &SyncSender<std::io::Result<()>>,
    (asks, begun): (&watch::Sender<bool>, &Notify),
    end_time_max: Duration,
) {
    let runtime = match Builder::new_current_thread().enable_io().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async {
        match Caught::new() {
            Ok(mut caught) => {
                let _ = ready.send(Ok(()));
                watch_end(&mut caught, (asks, begun), end_time_max).await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
}

/// Never returns: the process ends before, by itself or from here.
async fn watch_end(caught: &mut Caught, (asks, begun): (&watch::Sender<bool>, &Notify), end_time_max: Duration) {
    let first = tokio::select! {
        signal = caught.next() => Some(signal),
        () = begun.notified() => None,
    };
    if let Some(signal) = first {
        tracing::info!(signal = signal.name, "a signal asks for the end");
        asks.send_replace(true);
    }
    let at_once = async {
        if first.is_none() {
            // The end is under way: the first signal asks for nothing new.
            caught.next().await;
        }
        caught.next().await
    };
    match tokio::time::timeout(end_time_max, at_once).await {
        Ok(signal) => {
            tracing::warn!(signal = signal.name, "a second signal: ending at once");
            end_now(SIGNALLED + signal.number)
        }
        Err(_) => {
            tracing::error!(seconds = end_time_max.as_secs(), status = STUCK, "the end took too long: ending at once");
            end_now(STUCK)
        }
    }
}

/// Ends the process. Nothing that runs in it is waited for: work under way is in the store, and is taken up at the next
/// start.
fn end_now(status: i32) -> ! {
    telemetry::flush(LAST_LINES_TIME_MAX);
    // It runs code of libraries, which may wait for what hangs.
    let exiting = std::thread::Builder::new().spawn(move || std::process::exit(status));
    if exiting.is_ok() {
        std::thread::sleep(EXIT_TIME_MAX);
    }
    loop {
        // Nothing in a process can stop this one.
        let _ = kill_process(getpid(), Sent::KILL);
        std::thread::sleep(EXIT_TIME_MAX);
    }
}

/// A signal that asks for the end.
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
    /// A file would grow beyond the limit of this process: SIGXFSZ. The write fails as on a full disk, which is told there.
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

    /// The next one that asks for the end. The others would kill the process by their default, which is not meant by
    /// an operator who sends one to reload a configuration or to reopen a log.
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

    /// In the log; a command without one has standard error, which must not hold this thread.
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
