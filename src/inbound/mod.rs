//! Stage 1: something arrives, is verified, translated, and committed. One path behind both doors.
//!
//! `Delivery` -> [`signature`] -> `Verified` -> [`cloudevents`] -> [`wire`] -> `Arrival` -> inbox. A door answers
//! success only for a [`Receipt`] that the store gave, so success means: on disk. What cannot become an event is
//! refused to a sender that can be told (HTTP), and kept with its bytes for a person where the sender is a queue.
//!
//! Before: the doors [`http`] and [`amqp`]. After: [`crate::store`].

pub mod amqp;
pub mod cloudevents;
pub mod http;
pub mod patience;
pub mod problem;
pub mod signature;
pub mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::domain::verdict::{Reason, illegible_notice};
use crate::domain::{EventId, Timestamp};
use crate::metrics::{Door, EventType, Metrics, Outcome};
use crate::store::{self, Arrival, Content, Receipt, Store};
use cloudevents::Envelope;
use problem::{Problem, ProblemKind};
use signature::Verified;

/// What a door hands in: bytes and headers, nothing believed yet.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The door it came by.
    pub door: Door,
    /// The configured source it claims to come from.
    pub source: String,
    /// Media type, as sent.
    pub content_type: Option<String>,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The bytes.
    pub body: Vec<u8>,
    /// When they were all here.
    pub received_at: Timestamp,
}

/// What became of one item of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// The store has it, or had it.
    Kept(Receipt),
    /// It is not an event; nothing was kept.
    Rejected(Problem),
}

/// All answers of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Answers {
    /// To a single event.
    One(Answer),
    /// To a batch, one per item, in order.
    Batch(Vec<Answer>),
}

/// The inbox behind the doors; cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    /// Where events go.
    pub store: Store,
    /// Time and ids.
    pub clock: Clock,
    /// Rung after a commit, so that nobody has to poll.
    pub wake: Arc<Notify>,
    /// Counters.
    pub metrics: Metrics,
    /// `http.batch_max`.
    pub batch_max: usize,
    /// `http.body_max`, bytes. It bounds a message from the queue as well.
    pub body_bytes_max: usize,
    /// How much accepted work waits.
    pub backlog: Backlog,
}

/// How many accepted events wait for their effect, and how many may. Counting the tables for each request would cost
/// more than the request, so this is the last count of them and what was accepted since: near enough for a bound
/// that is there to spare the disk. Clones share it.
#[derive(Debug, Clone)]
pub struct Backlog {
    waiting: Arc<AtomicU64>,
    max: u64,
}

impl Backlog {
    /// Empty, until it is counted; full at `max` (`store.backlog_max`).
    pub fn new(max: u64) -> Self {
        Self { waiting: Arc::default(), max }
    }

    /// Whether the doors take nothing until some of it is done.
    pub fn is_full(&self) -> bool {
        self.waiting() >= self.max
    }

    /// How many wait.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The tables were counted.
    pub fn set(&self, waiting: u64) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    fn grow(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }
}

/// An envelope on its way to becoming an arrival.
enum Translated {
    Arrival(Box<Arrival>),
    Problem(Problem),
}

impl Inbox {
    /// Accepts a verified delivery: what is an event is committed when this returns. The problem of a delivery as
    /// a whole (not readable, too many items) is the `Err` of the inner result.
    pub async fn accept(&self, verified: Verified) -> Result<Result<Answers, Problem>, store::Error> {
        let delivery = verified.into_delivery();
        if delivery.body.len() > self.body_bytes_max {
            return Ok(Err(Problem::too_large(self.body_bytes_max)));
        }
        let envelopes = match cloudevents::read(&delivery, self.batch_max) {
            Ok(envelopes) => envelopes,
            Err(problem) => return Ok(Err(problem)),
        };
        let (items, is_batch) = match envelopes {
            cloudevents::Read::One(item) => (vec![item], false),
            cloudevents::Read::Batch(items) => (items, true),
        };
        let translated = items.into_iter().map(|item| self.translate(&delivery, item)).collect();
        let mut answers = self.keep(&delivery, translated).await?;
        Ok(Ok(match answers.pop() {
            Some(only) if !is_batch => Answers::One(only),
            Some(last) => {
                answers.push(last);
                Answers::Batch(answers)
            }
            None => Answers::Batch(answers),
        }))
    }

    /// Accepts a verified delivery from a sender that cannot be told: what is no event is kept for a person. While the
    /// backlog is full nothing is, and the queue keeps it. After `Ok` everything is on disk and may be acknowledged.
    pub async fn accept_or_park(&self, verified: Verified) -> Result<(), store::Error> {
        if self.backlog.is_full() {
            return Err(store::Error::Full);
        }
        let delivery = verified.delivery().clone();
        let problems = match self.accept(verified).await? {
            Err(problem) => vec![problem],
            Ok(Answers::One(answer)) => problem_of(answer).into_iter().collect(),
            Ok(Answers::Batch(answers)) => answers.into_iter().filter_map(problem_of).collect(),
        };
        if problems.is_empty() {
            return Ok(());
        }
        let arrival = self.untranslatable(&delivery, &problems);
        let receipts = self.store.accept(vec![arrival]).await?;
        if matches!(receipts.first(), Some(Receipt::Accepted { .. })) {
            self.metrics.event_received(&delivery.source, EventType::Unknown, delivery.door);
            self.metrics.event_settled(EventType::Unknown, Outcome::Parked);
            self.wake.notify_one();
        }
        Ok(())
    }

    fn translate(&self, delivery: &Delivery, item: Result<Envelope, Problem>) -> Translated {
        let translated = item.and_then(|envelope| {
            let id = EventId(self.clock.fresh_id());
            let event = wire::event(&envelope, id, delivery.received_at)?;
            Ok(Arrival {
                id,
                origin: envelope.source.clone(),
                origin_id: envelope.id.clone(),
                source: delivery.source.clone(),
                door: delivery.door.as_str(),
                type_name: event.happening.type_name().to_owned(),
                received_at: delivery.received_at,
                digest: envelope.digest(),
                raw: envelope.raw,
                content: Content::Event(event),
            })
        });
        match translated {
            Ok(arrival) => Translated::Arrival(Box::new(arrival)),
            Err(problem) => Translated::Problem(problem),
        }
    }

    async fn keep(&self, delivery: &Delivery, translated: Vec<Translated>) -> Result<Vec<Answer>, store::Error> {
        let mut arrivals = Vec::new();
        let mut types = Vec::new();
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(translated.len());
        for item in translated {
            match item {
                Translated::Problem(problem) => answers.push(Some(Answer::Rejected(problem))),
                Translated::Arrival(arrival) => {
                    types.push(event_type(&arrival));
                    arrivals.push(*arrival);
                    answers.push(None);
                }
            }
        }
        if arrivals.is_empty() {
            return Ok(answers.into_iter().flatten().collect());
        }
        let receipts = self.store.accept(arrivals).await?;
        for (receipt, event_type) in receipts.iter().zip(types) {
            self.count(delivery, event_type, receipt);
        }
        let mut receipts = receipts.into_iter();
        let kept = answers.into_iter().map(|answer| {
            answer.unwrap_or_else(|| match receipts.next() {
                Some(Receipt::Reused { id }) => Answer::Rejected(Problem::reused(&id)),
                Some(receipt) => Answer::Kept(receipt),
                None => unreachable!("the store gives a receipt for each arrival"),
            })
        });
        Ok(kept.collect())
    }

    fn count(&self, delivery: &Delivery, event_type: EventType, receipt: &Receipt) {
        match receipt {
            Receipt::Accepted { state, .. } if state == "superseded" => {
                self.metrics.event_received(&delivery.source, event_type, delivery.door);
                self.metrics.event_settled(event_type, Outcome::Superseded);
            }
            Receipt::Accepted { .. } => {
                self.metrics.event_received(&delivery.source, event_type, delivery.door);
                self.backlog.grow();
                self.wake.notify_one();
            }
            Receipt::Duplicate { .. } => self.metrics.event_settled(event_type, Outcome::Duplicate),
            Receipt::Reused { .. } => {}
        }
    }

    /// The row of something that never became an event. Its bytes are its identity: a redelivery is a duplicate.
    fn untranslatable(&self, delivery: &Delivery, problems: &[Problem]) -> Arrival {
        let id = EventId(self.clock.fresh_id());
        let now = delivery.received_at;
        let reason = reason_of(problems);
        let detail = problems.iter().map(Problem::line).collect::<Vec<_>>().join("; ");
        let digest = sha256(&delivery.body);
        Arrival {
            id,
            origin: format!("untranslatable/{}", delivery.source),
            origin_id: digest.clone(),
            source: delivery.source.clone(),
            door: delivery.door.as_str(),
            type_name: EventType::Unknown.as_str().to_owned(),
            received_at: now,
            digest,
            raw: delivery.body.clone(),
            content: Content::Parked {
                reason,
                detail: detail.chars().take(DETAIL_CHARS_MAX).collect(),
                notice: illegible_notice(id, EventType::Unknown.as_str(), reason, now),
            },
        }
    }
}

/// A batch of a thousand bad items must not make a detail of a megabyte.
const DETAIL_CHARS_MAX: usize = 2_000;

/// A mixture has its first and commonest name.
fn reason_of(problems: &[Problem]) -> Reason {
    let are_all = |kind| problems.iter().all(|problem| problem.kind == kind);
    if are_all(ProblemKind::EventIdReused) {
        Reason::EventIdReused
    } else if are_all(ProblemKind::TooLarge) {
        Reason::TooLarge
    } else {
        Reason::Untranslatable
    }
}

fn problem_of(answer: Answer) -> Option<Problem> {
    match answer {
        Answer::Kept(_) => None,
        Answer::Rejected(problem) => Some(problem),
    }
}

fn event_type(arrival: &Arrival) -> EventType {
    match &arrival.content {
        Content::Event(event) => EventType::from(&event.happening),
        Content::Parked { .. } => EventType::Unknown,
    }
}

/// Hexadecimal SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
