//! `map`, which is for the bridge, not for people: a worker that runs the jq programs of the sources, one message after
//! the other, until its input ends. Its memory is bounded, so that a program cannot harm the bridge.
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
    // If the machine runs out of memory, the kernel is to kill this process first. Other systems have no such file.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // A program that overflows its stack must not write its memory, which holds a customer's message, to the disk.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(work(std::io::stdin().lock(), std::io::stdout().lock())?)
}
