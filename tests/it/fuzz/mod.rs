//! Input that any sender may send, by the million: no input makes a panic, takes its time without end, or memory without bound;
//! none passes that a plain rule next to the code says must not.
//!
//! The mutator is our own. libFuzzer, and so cargo-fuzz, needs a compiler of the nightly channel, and the project has the
//! stable one. In place of its coverage an input with a new outcome (a problem at another place, another kind of event)
//! joins the corpus, so that later ones go on from there.
//!
//! `PODERO_BRIDGE_TEST_INPUTS` is how many inputs each target gets. A seed decides all of them, is printed first, and as
//! `PODERO_BRIDGE_TEST_SEED` repeats them; `PODERO_BRIDGE_TEST_INPUT` shows one of them. `tests/fuzz` is the run at full size.

mod addresses;
mod amqp;
mod dates;
mod door;
mod links;
mod mapping;
mod mutator;
mod signatures;
mod tables;
mod text;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use podero_bridge::clock::Clock;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rustix::time::{ClockId, clock_gettime};

use crate::servers::environment;
use mutator::Mutator;

/// Inputs of each target in the ordinary test command.
const INPUTS: u64 = 20_000;
/// Limit of a processor's time for an input: a longer one would mean that there is no bound. The slowest, of a megabyte, takes some
/// hundred milliseconds in a debug build.
const MILLIS_MAX: u64 = 1_000;
/// Limit of the growth of the process's peak of memory. The largest body, which has a megabyte, becomes some tens of megabytes of
/// JSON values; under `cargo test` other tests share the process.
const MEMORY_GROWTH_BYTES_MAX: u64 = 256 << 20;
/// Limit of the corpus, which stays small: its inputs are neither large nor many.
const CORPUS_MAX: usize = 4_096;
const JOINING_BYTES_MAX: usize = 4 << 10;
/// Stack of a thread of the bridge (the standard library's default), and of a worker's first thread (Linux's).
const STACK_BYTES: usize = 2 << 20;
const WORKER_STACK_BYTES: usize = 8 << 20;

/// Input of a target.
trait Input: Clone + Debug {
    /// An input that comes of this one, and perhaps of another.
    fn mutated(&self, other: &Self, mutator: &mut Mutator) -> Self;
    /// Size of the input.
    fn bytes(&self) -> usize;
}

/// Result of an input.
struct Outcome {
    is_accepted: bool,
    /// Place of the end, without the text.
    place: String,
}

impl Outcome {
    fn accepted(place: impl Into<String>) -> Self {
        Self { is_accepted: true, place: place.into() }
    }

    fn refused(place: impl Into<String>) -> Self {
        Self { is_accepted: false, place: place.into() }
    }
}

/// A target, its stack and its share of the inputs.
struct Target {
    name: &'static str,
    stack_bytes: usize,
    inputs: u64,
    millis_max: u64,
}

impl Target {
    fn new(name: &'static str, stack_bytes: usize) -> Self {
        Self { name, stack_bytes, inputs: number("INPUTS").unwrap_or(INPUTS), millis_max: MILLIS_MAX }
    }

    /// Gives the target all its inputs, and prints what came of them.
    fn run<I: Input + Send>(&self, corpus: Vec<I>, target: impl Fn(&I) -> Outcome + Send) {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name(self.name.to_owned()).stack_size(self.stack_bytes);
            let thread = thread.spawn_scoped(scope, || self.work(corpus, target)).expect("a thread");
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }

    fn work<I: Input>(&self, mut corpus: Vec<I>, target: impl Fn(&I) -> Outcome) {
        let (seed, shown) = (seed(self.name), number("INPUT"));
        // An overflow of the stack ends the process at once, so the number of the input stands in a file.
        let path = format!("{}/fuzz-{}", env!("CARGO_TARGET_TMPDIR"), self.name);
        let trace = std::fs::File::create(&path).expect("a file of the target folder");
        say(&format!("  if the process dies, the number of the input is in {path}"));
        let memory_before = memory_peak();
        let mut mutator = Mutator::new(StdRng::seed_from_u64(seed));
        let (mut places, mut good) = (BTreeSet::new(), Vec::new());
        let (mut accepted, mut slowest_micros) = (0_u64, 0);
        let corpus_at_first = corpus.len();
        for number in 0..self.inputs {
            let place = usize::try_from(number).unwrap_or(usize::MAX);
            // First all that is in the corpus, as it is.
            let input = corpus.get(place).filter(|_| place < corpus_at_first).cloned().unwrap_or_else(|| {
                // Mostly from one that passes: an input that is refused at once tells little about the rest.
                let of_good = good.get(mutator.below(good.len())).filter(|_| !mutator.once_in(4));
                let one = of_good.copied().unwrap_or_else(|| mutator.below(corpus.len()));
                let other = mutator.below(corpus.len());
                corpus[one].mutated(&corpus[other], &mut mutator)
            });
            trace.write_all_at(format!("{number:<20}").as_bytes(), 0).expect("written");
            if shown == Some(number) {
                say(&format!("{input:?}"));
            }
            let timed = || {
                let began = time_at_work();
                let outcome = target(&input);
                (outcome, time_at_work().saturating_sub(began).as_micros())
            };
            let (outcome, micros) = catch_unwind(AssertUnwindSafe(timed)).unwrap_or_else(|panic| {
                say(&self.named(seed, number, &input));
                std::panic::resume_unwind(panic);
            });
            let is_bounded = micros <= u128::from(self.millis_max) * 1_000;
            assert!(is_bounded, "it took {} ms: {}", micros / 1_000, self.named(seed, number, &input));
            let memory_growth = memory_peak_now_and_then(number).saturating_sub(memory_before);
            assert!(
                memory_growth <= MEMORY_GROWTH_BYTES_MAX,
                "memory grew by {memory_growth} bytes: {}",
                self.named(seed, number, &input)
            );
            accepted += u64::from(outcome.is_accepted);
            slowest_micros = slowest_micros.max(micros);
            let is_there = place < corpus_at_first;
            let is_small = input.bytes() <= JOINING_BYTES_MAX;
            let joins = places.insert(outcome.place) && is_small && corpus.len() < CORPUS_MAX && !is_there;
            if outcome.is_accepted && (joins || is_there) {
                good.push(if is_there { place } else { corpus.len() });
            }
            if joins {
                corpus.push(input);
            }
        }
        let (name, inputs, refused) = (self.name, self.inputs, self.inputs - accepted);
        let growth_mib = memory_peak().saturating_sub(memory_before) >> 20;
        let slowest_millis = slowest_micros.div_ceil(100);
        crate::chaos::note(&format!(
            "{name} {seed} {inputs} {accepted} {refused} {} {}.{} {growth_mib}",
            places.len(),
            slowest_millis / 10,
            slowest_millis % 10
        ));
    }

    fn named(&self, seed: u64, number: u64, input: &impl Debug) -> String {
        let shown: String = format!("{input:?}").chars().take(4_000).collect();
        format!("{}: PODERO_BRIDGE_TEST_SEED={seed}, input {number}: {shown}", self.name)
    }
}

/// The seed of a run, which is printed.
fn seed(name: &str) -> u64 {
    let seed = number("SEED").unwrap_or_else(|| Clock::system().fresh_id().as_u64_pair().1);
    say(&format!("{name}: PODERO_BRIDGE_TEST_SEED={seed}"));
    seed
}

/// `PODERO_BRIDGE_TEST_<name>`.
fn number(name: &str) -> Option<u64> {
    let text = environment(&format!("PODERO_BRIDGE_TEST_{name}"))?;
    Some(text.parse().unwrap_or_else(|_| panic!("PODERO_BRIDGE_TEST_{name}={text} is no number")))
}

/// The time for which this thread has had a processor: what else the machine does takes none of it.
fn time_at_work() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("below a second"))
}

/// To ask takes longer than an input does.
fn memory_peak_now_and_then(number: u64) -> u64 {
    if number.is_multiple_of(256) { memory_peak() } else { 0 }
}

/// The most memory that this process has had at once, bytes.
fn memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

#[expect(clippy::print_stdout, reason = "a test that fails shows it, and tests/fuzz shows it always")]
fn say(line: &str) {
    println!("{line}");
}
