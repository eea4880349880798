//! One line a second of each class: a line that repeats, because a server is away or a stranger causes it, does not fill the log.
//!
//! Warnings and errors are limited, foreign crates' lines from INFO up, and lines with a field `class`. A class is the place
//! in the code that logs together with the values of [`CLASS_FIELDS`]. Its first line is shown at once. The lines that are left
//! out are counted, and a line says how many they were (`repeated`) as soon as the class is quiet, or after
//! [`TOLD_WITHIN`].
//!
//! **Lines about a single event or notice are never limited**: those with `event.id` or `notice.id` and without `error`. Such a
//! line may be the only trace of what happened to that event (it was parked, it cannot be read). With an `error` it is about a
//! failure that many share and that will be tried again (the store is away), and one line a second says so.
//!
//! Before: [`crate::telemetry`]. After: the log.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::clock::Clock;
use crate::domain::Timestamp;

/// Interval in which one line of a class is shown.
const WINDOW: Duration = Duration::from_secs(1);

/// Time without a line after which a class is quiet, and a line says how many were left out.
const QUIET: Duration = Duration::from_secs(2);

/// Limit of the time until a line says that lines were left out, where the class does not become quiet.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// Limit of the classes that are remembered. The program logs in some hundred places, most of them with one class. Beyond the
/// limit all further classes of a place share one.
const CLASSES_MAX: usize = 1_024;

/// Limit of a text that is remembered of a class, in characters.
const TEXT_CHARS_MAX: usize = 200;

/// Fields whose values make classes of one place in the code. All have few values: configured names, our own words, places
/// in the code (`at`, of panics).
const CLASS_FIELDS: [&str; 9] =
    ["class", "source", "problem", "part", "broker.role", "operation", "pump", "signal", "at"];

/// Fields of lines about a single thing.
const SINGLE_FIELDS: [&str; 2] = ["event.id", "notice.id"];

/// Field of a line that counts others, which is limited by [`TOLD_WITHIN`] already.
const REPEATED: &str = "repeated";

/// Beginning of the targets of our own lines.
const OURS: &str = "podero_bridge";

/// Decides which lines are shown.
pub(super) struct Limit {
    clock: Clock,
    classes: Mutex<HashMap<Key, Class>>,
    left_out: AtomicU64,
}

/// A place in the code and the values of its fields; no values where there is no room for another class.
type Key = (tracing::callsite::Identifier, String);

struct Class {
    level: Level,
    target: &'static str,
    message: String,
    /// Moment of the last line that was shown.
    shown: Timestamp,
    /// Moment of the last line.
    came: Timestamp,
    left_out: u64,
    /// Moment of the first line that was left out and is not reported yet.
    since: Timestamp,
}

/// Lines of a class that were left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repeated {
    level: Level,
    target: &'static str,
    message: String,
    class: String,
    count: u64,
}

impl Limit {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, classes: Mutex::default(), left_out: AtomicU64::new(0) }
    }

    /// Lines that were left out since the start.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Logs how many lines were left out of each class for which it is time; of all classes at the end.
    pub(super) fn report(&self, is_end: bool) {
        for Repeated { level, target, message, class, count } in self.due(self.clock.now(), is_end) {
            macro_rules! tell {
                ($level:ident) => {
                    tracing::$level!(
                        repeated = count,
                        line = message,
                        of = target,
                        like = class,
                        "lines like this were left out"
                    )
                };
            }
            if level <= Level::WARN { tell!(warn) } else { tell!(info) }
        }
    }

    /// Says whether a line is shown now; else counts it.
    fn admit(&self, key: Key, now: Timestamp, described: impl FnOnce() -> (Level, &'static str, String)) -> bool {
        let mut classes = self.lock();
        let is_known = classes.contains_key(&key);
        let key = if is_known || classes.len() < CLASSES_MAX { key } else { (key.0, String::new()) };
        let Some(class) = classes.get_mut(&key) else {
            let (level, target, message) = described();
            let class = Class { level, target, message, shown: now, came: now, left_out: 0, since: now };
            classes.insert(key, class);
            return true;
        };
        class.came = now;
        // A clock that was set back begins another window.
        if now.since(class.shown) >= WINDOW || now < class.shown {
            class.shown = now;
            return true;
        }
        if class.left_out == 0 {
            class.since = now;
        }
        class.left_out += 1;
        self.left_out.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Classes with lines to report; forgets those that have none and did not come for a while.
    fn due(&self, now: Timestamp, is_end: bool) -> Vec<Repeated> {
        let mut due = Vec::new();
        let has_passed = |since: Timestamp, time| now.since(since) >= time || now < since;
        self.lock().retain(|(_, values), class| {
            let is_due = is_end || has_passed(class.came, QUIET) || has_passed(class.since, TOLD_WITHIN);
            if class.left_out > 0 && is_due {
                let (message, class_values) = (class.message.clone(), values.clone());
                let count = std::mem::take(&mut class.left_out);
                due.push(Repeated { level: class.level, target: class.target, message, class: class_values, count });
            }
            class.left_out > 0 || !has_passed(class.came, TOLD_WITHIN)
        });
        due
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Class>> {
        self.classes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For a reference, since the set-up keeps another.
impl<S: Subscriber> Layer<S> for &'static Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let fields = metadata.fields();
        let has = |name| fields.field(name).is_some();
        if !is_limited(metadata) || has(REPEATED) || (SINGLE_FIELDS.into_iter().any(has) && !has("error")) {
            return true;
        }
        let mut values = Values::default();
        event.record(&mut values);
        self.admit((metadata.callsite(), values.0), self.clock.now(), || {
            let mut message = Message::default();
            event.record(&mut message);
            (*metadata.level(), metadata.target(), message.0)
        })
    }
}

fn is_limited(metadata: &Metadata<'_>) -> bool {
    let is_foreign = !metadata.target().starts_with(OURS);
    let has_class = metadata.fields().field("class").is_some();
    *metadata.level() <= Level::WARN || has_class || (is_foreign && *metadata.level() <= Level::INFO)
}

/// Values of the class fields, as in `source=billing problem=unauthorized`.
#[derive(Default)]
struct Values(String);

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if CLASS_FIELDS.contains(&field.name()) && self.0.len() < TEXT_CHARS_MAX {
            let between = if self.0.is_empty() { "" } else { " " };
            // Writing to a string does not fail.
            let _ = write!(self.0, "{between}{}={}", field.name(), cut(&format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = cut(&format!("{value:?}"));
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Lines as a log would show them: the message, and `repeated` of a line that has it.
    #[derive(Clone, Default)]
    struct Shown(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Shown {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut line = Line::default();
            event.record(&mut line);
            self.0.lock().expect("held for a moment").push(line.0);
        }
    }

    #[derive(Default)]
    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            if matches!(field.name(), "message" | "repeated" | "like" | "line") {
                self.0 = format!("{}{}={value:?} ", self.0, field.name());
            }
        }
    }

    /// Runs `play` with a log that is limited. Returns the lines that were shown.
    fn shown(play: impl FnOnce(&'static Limit, &Clock)) -> Vec<String> {
        let clock = Clock::manual(Timestamp::from_micros(1_000_000_000_000), 7);
        let limit: &'static Limit = Box::leak(Box::new(Limit::new(clock.clone())));
        let shown = Shown::default();
        let subscriber = tracing_subscriber::registry().with(limit).with(shown.clone());
        tracing::subscriber::with_default(subscriber, || play(limit, &clock));
        let lines = shown.0.lock().expect("held for a moment");
        lines.iter().map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn a_class_has_one_line_a_second_and_the_rest_is_counted() {
        let lines = shown(|limit, clock| {
            for second in 0..3 {
                for source in ["billing", "crm"] {
                    for _ in 0..100 {
                        tracing::warn!(source, second, "refused");
                    }
                }
                limit.report(false);
                clock.advance(WINDOW);
            }
            assert_eq!(limit.left_out(), 3 * 2 * 99);
            clock.advance(QUIET);
            limit.report(false);
            limit.report(false);
        });
        assert_eq!(lines.iter().filter(|line| *line == "message=refused").count(), 6, "{lines:#?}");
        let mut told: Vec<&str> = lines[6..].iter().map(String::as_str).collect();
        told.sort_unstable();
        let expected = ["source=billing", "source=crm"].map(|class| {
            format!("message=lines like this were left out repeated=297 line=\"refused\" like=\"{class}\"")
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn lines_that_go_on_are_told_of_after_a_minute_and_the_rest_at_the_end() {
        let lines = shown(|limit, clock| {
            for _ in 0..61 {
                tracing::error!("it does not answer");
                tracing::error!("it does not answer, at another place");
                tracing::error!("never twice");
                clock.advance(WINDOW);
                limit.report(false);
            }
            for _ in 0..122 {
                lone();
                clock.advance(WINDOW / 2);
                limit.report(false);
            }
            lone();
            lone();
            limit.report(true);
        });
        let told: Vec<&String> = lines.iter().filter(|line| line.contains("repeated")).collect();
        assert_eq!(lines.len() - told.len(), 3 * 61 + 62, "one a second");
        let [first, end] = &told[..] else { panic!("{told:#?}") };
        assert!(first.contains("line=\"lone\"") && end.contains("line=\"lone\""), "{told:#?}");
    }

    fn lone() {
        tracing::warn!("lone");
    }

    #[test]
    fn lines_about_single_events_and_quiet_ones_are_never_left_out() {
        let lines = shown(|limit, _| {
            for id in 0..5 {
                tracing::error!(event.id = id, "parked");
                tracing::error!(notice.id = id, "unreadable");
                tracing::info!(id, "a step");
                tracing::debug!(target: "foreign", id, "a detail");
                tracing::warn!(event.id = id, error = "away", "not settled");
                tracing::info!(target: "foreign", id, "its own");
                tracing::info!(class = "stranger", "refused");
            }
            assert_eq!(limit.left_out(), 3 * 4);
        });
        for (message, count) in
            [("parked", 5), ("unreadable", 5), ("a step", 5), ("a detail", 5), ("not settled", 1), ("its own", 1)]
        {
            let message = format!("message={message}");
            assert_eq!(lines.iter().filter(|line| **line == message).count(), count, "{message}: {lines:#?}");
        }
    }

    /// Classes are bounded and forgotten and a clock that is set back keeps none quiet.
    #[test]
    fn classes_are_bounded_and_survive_a_clock_set_back() {
        shown(|limit, clock| {
            for source in 0..2 * CLASSES_MAX {
                tracing::warn!(source, "refused");
            }
            assert!(limit.lock().len() <= CLASSES_MAX + 1);
            clock.advance(TOLD_WITHIN);
            limit.report(false);
            limit.report(false);
            assert_eq!(limit.lock().len(), 0);
            let before = limit.left_out();
            for _ in 0..3 {
                lone();
                clock.set_back(Duration::from_secs(3_600));
            }
            assert_eq!(limit.left_out(), before);
        });
    }
}
