//! Stage 1: something arrives, is verified, translated, and committed. One path behind all doors.
//!
//! `Delivery` -> [`signature`] -> `Verified` -> [`cloudevents`] -> [`wire`] -> `Arrival` -> inbox. A door answers
//! success only for a [`Receipt`] that the store gave, so success means: on disk. What cannot become an event is
//! refused to a sender that can be told (HTTP), and kept with its bytes for a person where the sender is a queue.
//!
//! Before: the doors [`http`], [`amqp`] and [`import`]. After: [`crate::store`].

pub mod amqp;
mod backlog;
pub mod bodies;
mod cells;
pub mod cloudevents;
mod control;
pub mod explain;
pub mod http;
pub mod import;
mod json;
pub mod lines;
pub mod mapping;
mod poison;
pub mod refusals;
mod reread;
pub mod signature;
pub mod text;
mod types;
pub mod wire;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::domain::event::{Event, EventKind, Transport};
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};
use crate::metrics::{Metrics, Outcome};
use crate::problem::{Problem, ProblemKind};
use crate::store::{self, Arrival, Content, Receipt, Store};
pub use backlog::{Backlog, ILLEGIBLE_MAX, SCHEDULED_MAX};
use cloudevents::{Envelope, Item};
pub use json::TreeBudget;
use mapping::mapper::{Mapper, Trouble};
use mapping::{Message, Variables};
pub use poison::Held;
use signature::Verified;
pub use types::AllowedTypes;

/// What a door hands in: bytes and headers, nothing believed yet.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// How it came in.
    pub transport: Transport,
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
    /// Memory of the bodies that are being read.
    pub trees: TreeBudget,
    /// Translates messages that are no CloudEvents.
    pub mapper: Mapper,
    /// The types that each source may send.
    pub types: AllowedTypes,
}

/// Why a delivery could not be read at all.
#[derive(Debug)]
pub enum Unread {
    /// What a webhook's sender would be told.
    Problem(Problem),
    /// The mapping could not cope with it.
    Trouble(Trouble),
}

/// Why a delivery as a whole did not become events.
enum Unfit {
    /// Its sender may mend it, or send it again.
    Refused(Problem),
    /// The mapping could not cope with it.
    Unbounded(&'static str),
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
        let held = Held::answered(verified);
        match self.accept_as(&held).await? {
            Err(Unfit::Refused(problem)) => Ok(Err(problem)),
            // Nothing that its sender could mend.
            Err(Unfit::Unbounded(why)) => {
                let receipt = self.park(&held, Reason::MappingFailed, why).await?;
                Ok(Ok(Answers::One(Answer::Kept(receipt))))
            }
            Ok(answers) => Ok(Ok(answers)),
        }
    }

    async fn accept_as(&self, held: &Held) -> Result<Result<Answers, Unfit>, store::Error> {
        let (translated, is_batch) = match self.judge(held).await {
            Ok(judged) => judged,
            Err(unfit) => return Ok(Err(unfit)),
        };
        let mut answers = self.keep(held.verified.delivery(), translated).await?;
        Ok(Ok(match answers.pop() {
            Some(only) if !is_batch => Answers::One(only),
            Some(last) => {
                answers.push(last);
                Answers::Batch(answers)
            }
            None => Answers::Batch(answers),
        }))
    }

    /// Reads a delivery, item by item; whether it is a batch.
    async fn judge(&self, held: &Held) -> Result<(Vec<Translated>, bool), Unfit> {
        if held.verified.body().len() > self.body_bytes_max {
            return Err(Unfit::Refused(Problem::too_large(self.body_bytes_max)));
        }
        let plain = text::plain(&held.verified, self.body_bytes_max).map_err(Unfit::Refused)?;
        let verified = plain.as_ref().unwrap_or(&held.verified);
        // Until the trees of the body are events.
        let _budget = self.trees.reserve(verified.body()).await.map_err(Unfit::Refused)?;
        let trusted = self.clock.steady_now();
        let translated = |item, id| translate(&self.types, held, item, (id, trusted));
        Ok(match self.read(held, verified).await? {
            cloudevents::Read::One(item) => (vec![translated(item, held.ids.of_single(&self.clock))], false),
            cloudevents::Read::Batch(items) => {
                let numbered = items.into_iter().enumerate();
                (numbered.map(|(number, item)| translated(item, held.ids.of_item(number, &self.clock))).collect(), true)
            }
        })
    }

    /// [`read`], as a door tells it: what a mapping says of a message may quote it, and is not repeated.
    async fn read(&self, held: &Held, verified: &Verified) -> Result<cloudevents::Read, Unfit> {
        let read = read((&self.mapper, self.batch_max), held, verified).await;
        read.map_err(|unread| match unread {
            Unread::Problem(problem) => Unfit::Refused(problem),
            Unread::Trouble(Trouble::Failed(why)) => Unfit::Refused(mapping::unmappable(&why)),
            Unread::Trouble(Trouble::Unbounded(why)) => Unfit::Unbounded(why),
            Unread::Trouble(Trouble::Away) => {
                Unfit::Refused(Problem::new(ProblemKind::Unavailable, "no worker for mappings could be started"))
            }
        })
    }

    /// Accepts a message from a sender that cannot be told: what is no event is kept for a person, and so is one over
    /// which the bridge itself fails: the next one must not wait for it. While the backlog is full nothing is kept, and
    /// the queue has it. After `Ok` everything is on disk and may be acknowledged.
    pub async fn accept_or_park(&self, held: &Held) -> Result<(), store::Error> {
        self.or_park_as_panicked(held, self.judge_or_park(held)).await
    }

    async fn or_park_as_panicked(
        &self,
        held: &Held,
        work: impl Future<Output = Result<(), store::Error>>,
    ) -> Result<(), store::Error> {
        let Ok(done) = AssertUnwindSafe(work).catch_unwind().await else {
            let id = held.ids.of_whole(&self.clock);
            tracing::error!(event.id = %id, "the bridge failed over a message from the queue; it is parked");
            return self.park(held, Reason::Panicked, "the bridge failed over it; see its log").await.map(drop);
        };
        done
    }

    async fn judge_or_park(&self, held: &Held) -> Result<(), store::Error> {
        if self.backlog.is_full() {
            return Err(store::Error::Full);
        }
        let problems = match self.accept_as(held).await? {
            // The queue has it; later there may be a worker.
            Err(Unfit::Refused(problem)) if problem.kind == ProblemKind::Unavailable => return Err(store::Error::Full),
            Err(Unfit::Refused(problem)) => vec![problem],
            Err(Unfit::Unbounded(why)) => return self.park(held, Reason::MappingFailed, why).await.map(drop),
            Ok(Answers::One(answer)) => problem_of(answer).into_iter().collect(),
            Ok(Answers::Batch(answers)) => answers.into_iter().filter_map(problem_of).collect(),
        };
        if problems.is_empty() {
            return Ok(());
        }
        let detail = problems.iter().map(Problem::line).collect::<Vec<_>>().join("; ");
        self.park(held, poison::reason_of(&problems), &detail).await.map(drop)
    }

    async fn park(&self, held: &Held, reason: Reason, detail: &str) -> Result<Receipt, store::Error> {
        if self.backlog.is_full_of_illegible() {
            return Err(store::Error::Full);
        }
        let id = held.ids.of_whole(&self.clock);
        let mut receipts =
            self.store.accept(vec![poison::arrival(held, id, (reason, detail), self.body_bytes_max)]).await?;
        let delivery = held.verified.delivery();
        let receipt = receipts.pop().expect("the store gives a receipt for each arrival");
        match &receipt {
            Receipt::Accepted { .. } => {
                self.metrics.event_received(&delivery.source, None, delivery.transport);
                self.metrics.event_settled(None, Outcome::Parked);
                self.backlog.parked();
            }
            Receipt::Duplicate { .. } => self.metrics.event_settled(None, Outcome::Duplicate),
            Receipt::Reused { .. } => {}
        }
        Ok(receipt)
    }

    async fn keep(&self, delivery: &Delivery, translated: Vec<Translated>) -> Result<Vec<Answer>, store::Error> {
        let mut arrivals = Vec::new();
        let mut kinds = Vec::new();
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(translated.len());
        for item in translated {
            match item {
                Translated::Problem(problem) => answers.push(Some(Answer::Rejected(problem))),
                Translated::Arrival(arrival) => {
                    kinds.push(kind_of(&arrival));
                    arrivals.push(*arrival);
                    answers.push(None);
                }
            }
        }
        if arrivals.is_empty() {
            return Ok(answers.into_iter().flatten().collect());
        }
        let receipts = match delivery.transport {
            Transport::Import => self.store.accept_in_bulk(arrivals).await?,
            Transport::Http | Transport::Amqp => self.store.accept(arrivals).await?,
        };
        for (receipt, kind) in receipts.iter().zip(kinds) {
            self.count(delivery, kind, receipt);
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

    fn count(&self, delivery: &Delivery, kind: Option<EventKind>, receipt: &Receipt) {
        match receipt {
            // A word that called something off.
            Receipt::Accepted { state, .. } if state == "applied" => {
                self.metrics.event_received(&delivery.source, kind, delivery.transport);
                self.metrics.event_settled(kind, Outcome::Applied);
            }
            Receipt::Accepted { state, .. } if state == "superseded" => {
                self.metrics.event_received(&delivery.source, kind, delivery.transport);
                self.metrics.event_settled(kind, Outcome::Superseded);
            }
            Receipt::Accepted { state, .. } => {
                self.metrics.event_received(&delivery.source, kind, delivery.transport);
                self.backlog.grow(state);
                self.wake.notify_one();
            }
            Receipt::Duplicate { .. } => self.metrics.event_settled(kind, Outcome::Duplicate),
            Receipt::Reused { .. } => {}
        }
    }
}

/// A CloudEvent of one of the bridge's types is read as what it is, whatever its source. Anything else is the sender's own: a
/// source's mapping translates it, if it has one, and a CloudEvent of another type too.
async fn read_plain(
    (mapper, batch_max, body_bytes_max): (&Mapper, usize, usize),
    held: &Held,
) -> Result<cloudevents::Read, Unread> {
    let plain = text::plain(&held.verified, body_bytes_max).map_err(Unread::Problem)?;
    read((mapper, batch_max), held, plain.as_ref().unwrap_or(&held.verified)).await
}

/// [`read_plain`] of what is held, unpacked as `verified`.
async fn read(
    (mapper, batch_max): (&Mapper, usize),
    held: &Held,
    verified: &Verified,
) -> Result<cloudevents::Read, Unread> {
    let delivery = verified.delivery();
    if verified.is_signed_in_part() && cloudevents::is_binary(delivery) {
        let detail = "a signature covers the body alone, and not the attributes in headers: send the structured mode";
        return Err(Unread::Problem(Problem::new(ProblemKind::UnsupportedMediaType, detail)));
    }
    if !mapper.has(&delivery.source) {
        return cloudevents::read(verified, batch_max).map_err(Unread::Problem);
    }
    if !cloudevents::is_one(verified) {
        // The translator would read more than JSON.
        json::read(verified.body()).map_err(Unread::Problem)?;
        let is_told_by_key = delivery.transport == Transport::Amqp && mapper.reads_amqp(&delivery.source);
        let type_name = held.properties.type_name.as_deref().unwrap_or_default();
        let apart = [held.routing_key.as_str(), type_name];
        let identity = (held.message_id.as_deref(), if is_told_by_key { &apart[..] } else { &[] });
        let message = Message::own(verified, identity);
        return map(mapper, held, &message).await.map(|events| one_or_several(events, false));
    }
    let found = cloudevents::find(verified, batch_max).map_err(Unread::Problem)?;
    let is_batch = matches!(found, cloudevents::Read::Batch(_));
    let mut events = Vec::new();
    for item in found.items() {
        match item {
            Ok(item) if item.type_name().is_some_and(is_foreign) => {
                let item = match item.with_plain_data() {
                    Ok(item) => item,
                    Err(problem) => {
                        events.push(Err(problem));
                        continue;
                    }
                };
                match map(mapper, held, &Message::cloud_event(&item)).await {
                    Ok(mapped) => events.extend(mapped),
                    // The other events of a batch are none the worse for it.
                    Err(Unread::Trouble(Trouble::Failed(why))) if is_batch => {
                        events.push(Err(mapping::unmappable(&why)))
                    }
                    Err(Unread::Trouble(Trouble::Unbounded(why))) if is_batch => {
                        events.push(Err(Problem::new(ProblemKind::Unmappable, why)));
                    }
                    Err(unread) => return Err(unread),
                }
            }
            item => events.push(item.and_then(Item::envelope)),
        }
        if events.len() > batch_max.max(1) {
            let detail = format!("more than {batch_max} events come of one batch");
            return Err(Unread::Problem(Problem::new(ProblemKind::TooLarge, detail)));
        }
    }
    Ok(one_or_several(events, is_batch))
}

/// Whether a type is the sender's own. One that differs from a type of the bridge's in case and signs alone is a slip, and no
/// program should pass it over.
fn is_foreign(type_name: &str) -> bool {
    !EventKind::names().iter().any(|known| control::is_same_but_for_signs(type_name, known))
}

/// Translates one message of the sender's own.
async fn map(mapper: &Mapper, held: &Held, message: &Message) -> Result<Vec<Result<Envelope, Problem>>, Unread> {
    let delivery = held.verified.delivery();
    let variables = Variables {
        headers: mapping::visible(&delivery.headers),
        received_at: delivery.received_at.to_string(),
        amqp: amqp::variable(held),
    };
    let outputs = mapper.map(&delivery.source, variables, &message.body).await.map_err(Unread::Trouble)?;
    Ok(mapping::envelopes(message, &delivery.source, outputs))
}

fn one_or_several(mut events: Vec<Result<Envelope, Problem>>, is_batch: bool) -> cloudevents::Read {
    match events.pop() {
        Some(only) if events.is_empty() && !is_batch => cloudevents::Read::One(only),
        Some(last) => {
            events.push(last);
            cloudevents::Read::Batch(events)
        }
        None => cloudevents::Read::Batch(events),
    }
}

/// The event of an envelope that came by a source, if the source may send it. Where it has no time of its own, it happened
/// when its message was sent, and where that is not said either, when it came.
fn event_of(
    types: &AllowedTypes,
    held: &Held,
    envelope: &mut Envelope,
    (id, trusted): (EventId, Timestamp),
) -> Result<Event, Problem> {
    let delivery = held.verified.delivery();
    types.check(&delivery.source, &envelope.type_name)?;
    if envelope.time.is_none() {
        let sent_at = amqp::sent_at(held.properties.timestamp)?;
        envelope.time = sent_at.or_else(|| Some(wire::happened_by(delivery.received_at, trusted)));
    }
    wire::event(envelope, id, delivery.received_at)
}

fn translate(
    types: &AllowedTypes,
    held: &Held,
    item: Result<Envelope, Problem>,
    (id, trusted): (EventId, Timestamp),
) -> Translated {
    let delivery = held.verified.delivery();
    let translated = item.and_then(|mut envelope| {
        // Of what the event itself says: by another transport the same event has no such time.
        let digest = envelope.digest();
        let event = event_of(types, held, &mut envelope, (id, trusted))?;
        Ok(Arrival {
            id,
            origin: envelope.source.clone(),
            origin_id: envelope.id.clone(),
            source: delivery.source.clone(),
            door: delivery.transport.name(),
            type_name: event.happening.type_name().to_owned(),
            received_at: delivery.received_at,
            digest,
            raw: envelope.raw,
            envelope: envelope.beside,
            content: Content::Event(event),
        })
    });
    match translated {
        Ok(arrival) => Translated::Arrival(Box::new(arrival)),
        Err(problem) => Translated::Problem(problem),
    }
}

fn problem_of(answer: Answer) -> Option<Problem> {
    match answer {
        Answer::Kept(_) => None,
        Answer::Rejected(problem) => Some(problem),
    }
}

fn kind_of(arrival: &Arrival) -> Option<EventKind> {
    match &arrival.content {
        Content::Event(event) => event.happening.kind(),
        Content::Parked { .. } => None,
    }
}

/// Hexadecimal SHA-256.
fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Frame, Intake, Properties};

    #[tokio::test]
    async fn a_message_over_which_the_bridge_fails_is_parked_with_its_bytes_and_ends_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", folder.path().join("bridge.db").display());
        let clock = Clock::system();
        let settings = store::Settings { url, targets: Vec::new(), works: true };
        let (store, writer) = Store::open(settings, clock.clone()).await.expect("a store");
        tokio::spawn(writer.run());
        let inbox = Inbox {
            store: store.clone(),
            clock,
            wake: Arc::default(),
            metrics: Metrics::new(),
            batch_max: 1,
            body_bytes_max: 1 << 10,
            backlog: Backlog::new(1),
            trees: TreeBudget::default(),
            mapper: Mapper::none(),
            types: AllowedTypes::default(),
        };
        let frames = amqp::Frames { inbox: inbox.clone(), source: "default".to_owned(), plenty: Arc::default() };
        let held = frames.hold(Frame {
            body: b"poison".to_vec(),
            content_type: None,
            content_encoding: None,
            headers: BTreeMap::new(),
            message_id: None,
            exchange: "customer.lifecycle".to_owned(),
            routing_key: "customer.moved".to_owned(),
            properties: Properties::default(),
            redelivered: false,
        });
        inbox.or_park_as_panicked(&held, async { panic!("over this one") }).await.expect("it is parked");
        let parked = store.parked(Some("panicked")).await.expect("the store is there").remove(0);
        let view = store.event(&parked.id).await.expect("the store is there").expect("it is known");
        assert_eq!(view.raw, "poison");
    }
}
