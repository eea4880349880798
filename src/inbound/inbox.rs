//! The one path of all transports into the store: read, translate, commit, count.
//!
//! A success is answered only for a [`Receipt`] that the store gave, so it means: on disk. A message that cannot become an
//! event is refused if its sender gets an answer (HTTP), and kept with its bytes for an operator if it comes from a queue.
//!
//! Before: [`super::http`], [`super::amqp`], [`super::import`]. After: [`crate::store`].

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::Notify;

use super::backlog::Backlog;
use super::cloudevents::Items;
use super::delivery::Delivery;
use super::held::{HeldMessage, ParkCause};
use super::json::TreeBudget;
use super::mapping;
use super::mapping::mapper::{MapError, Mapper};
use super::reader::{MessageReader, Translator, Unreadable};
use super::signature::Verified;
use super::text;
use super::types::{AllowedTypes, RefusedEvent};
use crate::clock::Clock;
use crate::domain::event::{EventKind, EventState, Transport};
use crate::domain::verdict::Reason;
use crate::metrics::{Metrics, Outcome};
use crate::problem::{Problem, ProblemKind};
use crate::store::{self, Arrival, Content, Receipt, Store};

/// The answers to a delivery: for each item the store's receipt, or the problem for which nothing was kept.
pub type Answers = Items<Receipt>;

/// The inbox behind all transports; cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    /// Keeps events.
    pub store: Store,
    /// Time and ids.
    pub clock: Clock,
    /// Wakes an applier after a commit.
    pub wake: Arc<Notify>,
    /// Wakes an applier of members after a commit.
    pub wake_team: Arc<Notify>,
    /// Counters.
    pub metrics: Metrics,
    /// `http.batch_max`.
    pub batch_max: usize,
    /// `http.body_max`, bytes. It bounds a message from the queue as well.
    pub body_bytes_max: usize,
    /// Counts accepted work that waits.
    pub backlog: Backlog,
    /// The memory of the bodies that are being read.
    pub trees: TreeBudget,
    /// Translates messages that are no CloudEvents.
    pub mapper: Mapper,
    /// The types that each source may send.
    pub types: AllowedTypes,
}

/// The reason why a delivery as a whole did not become events.
pub(super) enum Rejected {
    /// The problem, which its sender may mend, or send the message again.
    Refused(Problem),
    /// The mapping did not end, or took too much: its sender could mend nothing.
    Unbounded(&'static str),
}

impl From<Rejected> for ParkCause {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Refused(problem) => Self::of(std::slice::from_ref(&problem)),
            Rejected::Unbounded(why) => Self::new(Reason::MappingFailed, why),
        }
    }
}

impl Inbox {
    /// Accepts a verified delivery: its events are committed when this returns. A problem of the delivery as a whole (not
    /// readable, too many items, no store) is the error.
    pub async fn accept(&self, verified: Verified) -> Result<Answers, Problem> {
        let held = HeldMessage::answered(verified);
        let kept = match self.judge(&held).await {
            Ok(items) => self.keep(held.verified.delivery(), items).await,
            Err(Rejected::Refused(problem)) => return Err(problem),
            Err(unbounded @ Rejected::Unbounded(_)) => {
                self.park(&held, unbounded.into()).await.map(|receipt| Items::one(Ok(receipt)))
            }
        };
        kept.map_err(|error| unavailable(&error))
    }

    /// Reads a delivery, item by item.
    pub(super) async fn judge(&self, held: &HeldMessage) -> Result<Items<Arrival>, Rejected> {
        if held.verified.body().len() > self.body_bytes_max {
            return Err(Rejected::Refused(Problem::too_large(self.body_bytes_max)));
        }
        let plain = text::plain(&held.verified, self.body_bytes_max).map_err(Rejected::Refused)?;
        let verified = plain.as_ref().unwrap_or(&held.verified);
        // Held until the trees of the body are events.
        let _budget = self.trees.reserve(verified.body()).await.map_err(Rejected::Refused)?;
        let translator = Translator { types: &self.types, held, trusted: self.clock.steady_now() };
        // A mapping's error may quote the message, and is not repeated.
        let items = self.reader().read(held, verified).await.map_err(|unreadable| match unreadable {
            Unreadable::Problem(problem) => Rejected::Refused(problem),
            Unreadable::Mapping(MapError::Unbounded(why)) => Rejected::Unbounded(why),
            Unreadable::Mapping(error @ (MapError::Failed(_) | MapError::NoWorker)) => {
                Rejected::Refused(mapping::problem_of(&error))
            }
        })?;
        let is_batch = items.is_batch;
        let mut refused = Vec::new();
        let items = items.read(|number, envelope| {
            let id = if is_batch { held.ids.of_item(number, &self.clock) } else { held.ids.of_single(&self.clock) };
            translator.arrival(envelope, id, &mut refused)
        });
        self.note_refused(&held.verified.delivery().source, &refused).await;
        Ok(items)
    }

    /// Writes down events that their source may not send, or that the policy of the team refuses.
    pub(super) async fn note_refused(&self, source: &str, refused: &[RefusedEvent]) {
        self.types.note_refused(&self.store, source, refused, self.clock.now()).await;
    }

    pub(super) fn reader(&self) -> MessageReader<'_> {
        MessageReader { mapper: &self.mapper, batch_max: self.batch_max, body_bytes_max: self.body_bytes_max }
    }

    /// Accepts a message whose sender gets no answer. A message that is no event is kept for an operator, and so is one over
    /// which the bridge itself fails, since the next one must not wait for it. While the backlog is full nothing is kept, and
    /// the queue has it. After `Ok` everything is on disk and may be acknowledged.
    pub async fn accept_or_park(&self, held: &HeldMessage) -> Result<(), store::Error> {
        self.or_park_as_panicked(held, self.judge_or_park(held)).await
    }

    async fn or_park_as_panicked(
        &self,
        held: &HeldMessage,
        work: impl Future<Output = Result<(), store::Error>>,
    ) -> Result<(), store::Error> {
        let Ok(done) = AssertUnwindSafe(work).catch_unwind().await else {
            let id = held.ids.of_whole(&self.clock);
            tracing::error!(event.id = %id, "the bridge failed over a message from the queue; it is parked");
            return self.park(held, ParkCause::panicked()).await.map(drop);
        };
        done
    }

    async fn judge_or_park(&self, held: &HeldMessage) -> Result<(), store::Error> {
        if self.backlog.is_full() {
            return Err(store::Error::Full);
        }
        let cause = match self.judge(held).await {
            Ok(items) => {
                let answers = self.keep(held.verified.delivery(), items).await?;
                let problems: Vec<Problem> = answers.items.into_iter().filter_map(Result::err).collect();
                if problems.is_empty() {
                    return Ok(());
                }
                ParkCause::of(&problems)
            }
            // The queue has it; there may be a worker later.
            Err(Rejected::Refused(problem)) if problem.kind == ProblemKind::Unavailable => {
                return Err(store::Error::Full);
            }
            Err(rejected) => rejected.into(),
        };
        self.park(held, cause).await.map(drop)
    }

    async fn park(&self, held: &HeldMessage, cause: ParkCause) -> Result<Receipt, store::Error> {
        if self.backlog.is_full_of_unreadable() {
            return Err(store::Error::Full);
        }
        let arrival = held.parked(held.ids.of_whole(&self.clock), cause, self.body_bytes_max);
        let receipt = self.store.accept(vec![arrival]).await?.pop().expect(A_RECEIPT_EACH);
        match &receipt {
            Receipt::Accepted { .. } => {
                let delivery = held.verified.delivery();
                self.metrics.event_received(&delivery.source, None, delivery.transport);
                self.metrics.event_settled(None, Outcome::Parked);
                self.backlog.parked();
            }
            Receipt::Duplicate { .. } => self.metrics.event_settled(None, Outcome::Duplicate),
            Receipt::Reused { .. } => {}
        }
        Ok(receipt)
    }

    /// Commits the arrivals among the items, and counts them.
    pub(super) async fn keep(&self, delivery: &Delivery, read: Items<Arrival>) -> Result<Answers, store::Error> {
        let mut arrivals = Vec::new();
        let read = read.read(|_, arrival| {
            let kind = kind_of(&arrival);
            arrivals.push(arrival);
            Ok(kind)
        });
        let receipts = match delivery.transport {
            _ if arrivals.is_empty() => Vec::new(),
            Transport::Import => self.store.accept_in_bulk(arrivals).await?,
            Transport::Http | Transport::Amqp | Transport::Scim => self.store.accept(arrivals).await?,
        };
        let mut receipts = receipts.into_iter();
        Ok(read.read(|_, kind| {
            let receipt = receipts.next().expect(A_RECEIPT_EACH);
            self.count(delivery, kind, &receipt);
            match receipt {
                Receipt::Reused { id } => Err(Problem::reused(&id.to_string())),
                receipt @ (Receipt::Accepted { .. } | Receipt::Duplicate { .. }) => Ok(receipt),
            }
        }))
    }

    pub(super) fn count(&self, delivery: &Delivery, kind: Option<EventKind>, receipt: &Receipt) {
        match receipt {
            Receipt::Accepted { state, .. } => {
                self.count_accepted(&delivery.source, delivery.transport, kind, *state);
            }
            Receipt::Duplicate { .. } => self.metrics.event_settled(kind, Outcome::Duplicate),
            Receipt::Reused { .. } => {}
        }
    }

    /// Counts an event that was stored, and wakes those who work on it.
    pub(super) fn count_accepted(
        &self,
        source: &str,
        transport: Transport,
        kind: Option<EventKind>,
        state: EventState,
    ) {
        self.metrics.event_received(source, kind, transport);
        match state {
            // It called an earlier event off.
            EventState::Applied => self.metrics.event_settled(kind, Outcome::Applied),
            EventState::Superseded => self.metrics.event_settled(kind, Outcome::Superseded),
            EventState::Pending
            | EventState::Scheduled
            | EventState::Waiting
            | EventState::Parked
            | EventState::Skipped => {
                self.backlog.grow(state);
                let is_of_team = kind.is_some_and(EventKind::is_of_team);
                (if is_of_team { &self.wake_team } else { &self.wake }).notify_one();
            }
        }
    }
}

const A_RECEIPT_EACH: &str = "the store gives a receipt for each arrival";

/// The problem while the store takes nothing.
pub(super) fn unavailable(error: &store::Error) -> Problem {
    let is_full = matches!(error, store::Error::Full);
    let detail = if is_full { "more is waiting to be written than may wait" } else { "the store is away" };
    Problem::new(ProblemKind::Unavailable, detail)
}

pub(super) fn kind_of(arrival: &Arrival) -> Option<EventKind> {
    match &arrival.content {
        Content::Event(event) => event.happening.kind(),
        Content::Team(event) => event.happening.kind(),
        Content::Parked { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::amqp::Frames;
    use super::*;
    use crate::broker::{Frame, Intake, Properties};

    /// A message over which the bridge fails is parked with its bytes and ends nothing.
    #[tokio::test]
    async fn a_message_over_which_the_bridge_fails_is_parked() {
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
            wake_team: Arc::default(),
            metrics: Metrics::new(),
            batch_max: 1,
            body_bytes_max: 1 << 10,
            backlog: Backlog::new(1),
            trees: TreeBudget::default(),
            mapper: Mapper::none(),
            types: AllowedTypes::default(),
        };
        let frames =
            Frames { inbox: inbox.clone(), source: "default".to_owned(), appliers: crate::permits::Permits::default() };
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
        let view = store.event(parked.id).await.expect("the store is there").expect("it is known");
        assert_eq!(view.original.expect("its bytes").raw, "poison");
    }
}
