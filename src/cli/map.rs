//! `map`, which is not for people: a worker that runs the sources' jq programs, one message after the other, until its
//! input ends. What it may take is bounded here, where it can do no harm to the bridge.
//!
//! Before: [`crate::inbound::mapping::mapper`] starts it. After: it answers on its standard output.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::inbound::mapping::mapper::{MEMORY_BYTES_MAX, work};

/// Serves until standard input ends.
pub(super) fn run() -> anyhow::Result<()> {
    let memory = Rlimit { current: Some(MEMORY_BYTES_MAX), maximum: Some(MEMORY_BYTES_MAX) };
    let is_tighter = getrlimit(Resource::As).maximum.is_some_and(|maximum| maximum < MEMORY_BYTES_MAX);
    if !is_tighter {
        setrlimit(Resource::As, memory)?;
    }
    // Where memory ends for everybody, this is what may go; where there is no such file, nothing is lost.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // A program that dies of its own depth must not leave its memory, which is a customer's message, on the disk.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(work(std::io::stdin().lock(), std::io::stdout().lock())?)
}
