//! Publishes on one confirm-mode channel, many at once, and finds out the result of each.
//!
//! A confirm belongs to its publish by number, and lapin keeps that right. A *return* does not: lapin attaches it to the
//! confirm that it completes next, and RabbitMQ acks in groups, so that the publish without a bound queue can look confirmed
//! and its neighbour returned. Believing that would lose a notice. So the returned message's own `message_id` decides, and no
//! result is given before every confirm that lapin completed earlier has been looked at.
//!
//! While the broker blocks publishers (`connection.blocked`, short of memory or disk) the handle is shut: publishes are
//! [`Published::Lost`] at once instead of piling up in lapin's memory, and the connection is kept until unblocked.
//!
//! It must never answer [`Published::Confirmed`] for less than an ack without a return, nor repeat a publish itself.
//!
//! Before: the link and the topology. After: [`crate::broker::Publish`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Event};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use super::error::BrokerError;
use super::handle::{CONFIRM_WITHIN, PublishHandle, Request};
use super::link::{self, Link};
use super::outgoing::{OutgoingNotice, Published};
use super::state::{BrokerShared, LinkRole, LinkState};
use super::supervisor::{self, Ended, Stop};
use super::{tending, topology};

/// Limit of the publishes that wait for their confirm; at a round trip of 1 ms far more than the broker can write. It bounds
/// lapin's buffers.
const IN_FLIGHT_MAX: usize = 512;
/// Limit of the publishes that are handed in and not yet sent; more wait in their callers.
const WAITING_MAX: usize = 64;
/// Timeout for confirms in flight at the end: a notice that is not confirmed by then stays a row and is sent again.
const GRACE: Duration = Duration::from_secs(5);
/// AMQP's number for "on disk before it is confirmed".
const PERSISTENT: u8 = 2;

/// Sets up the publishing side of `link` and serves until it is lost or `stop`.
pub(super) async fn serve(inner: &BrokerShared, link: Link, mut stop: Stop) -> Ended {
    let events = link.events();
    let channel = match supervisor::set_up_unless(&mut stop, open(inner, &link)).await {
        Ok(channel) => channel,
        Err(ended) => return ended,
    };
    let (requests, waiting) = mpsc::channel(WAITING_MAX);
    let hint = Arc::new(Notify::new());
    let handle = PublishHandle { requests, overdue: Arc::new(Notify::new()) };
    let mut relay = Relay {
        inner,
        link: &link,
        channel,
        events,
        handle: handle.clone(),
        waiting,
        flights: FuturesUnordered::new(),
        returned: Vec::new(),
        blocked: false,
        hint: Arc::clone(&hint),
    };
    *inner.handle() = Some(handle);
    supervisor::up(inner, LinkRole::Publisher, &link);
    let ended = tokio::select! {
        error = relay.carry() => error.map_or(Ended::Stopped, Ended::Lost),
        lost = tending::tend(inner, LinkRole::Publisher, &link, &hint) => Ended::Lost(lost),
        () = stop.asked() => {
            *inner.handle() = None;
            relay.waiting.close();
            // A publish that is not confirmed within the grace is dropped below, which answers `Lost`.
            let _ = timeout(GRACE, relay.carry()).await;
            Ended::Stopped
        }
    };
    *inner.handle() = None;
    drop(relay);
    if let Ended::Stopped = ended {
        link.close().await;
    }
    ended
}

async fn open(inner: &BrokerShared, link: &Link) -> Result<Channel, BrokerError> {
    topology::lay_outbound(link, &inner.settings).await?;
    let channel = link.channel().await?;
    let confirming = channel.confirm_select(ConfirmSelectOptions::default()).await;
    confirming.map_err(|error| link.lost(&error))?;
    Ok(channel)
}

struct Relay<'a> {
    inner: &'a BrokerShared,
    link: &'a Link,
    channel: Channel,
    events: BoxStream<'static, Event>,
    handle: PublishHandle,
    waiting: mpsc::Receiver<Request>,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    /// Ids of returned messages whose own confirm has not been seen yet.
    returned: Vec<String>,
    blocked: bool,
    /// Notified when a notice was returned although there is a place for those without a subscriber: that place is gone.
    hint: Arc<Notify>,
}

/// A publish whose confirm is known.
struct Landed {
    id: String,
    answer: oneshot::Sender<Published>,
    outcome: lapin::Result<Confirmation>,
}

impl Relay<'_> {
    /// Serves until the connection is lost, or, once `waiting` is closed, until nothing is left to do (`None`).
    /// May be dropped and called again: its state is in `self`.
    async fn carry(&mut self) -> Option<BrokerError> {
        let mut open = true;
        while open || !self.flights.is_empty() {
            tokio::select! {
                event = self.events.next() => {
                    if let Some(error) = self.heed(event) {
                        return Some(error);
                    }
                }
                Some(landed) = self.flights.next() => {
                    if let Some(error) = self.settle(landed) {
                        return Some(error);
                    }
                }
                request = self.waiting.recv(), if open && !self.blocked && self.flights.len() < IN_FLIGHT_MAX => {
                    match request {
                        Some(request) => self.launch(request),
                        None => open = false,
                    }
                }
                () = self.handle.overdue.notified() => {
                    if !self.blocked {
                        let within = CONFIRM_WITHIN.as_secs();
                        return Some(self.link.failed(format_args!("no confirm within {within} s")));
                    }
                }
            }
        }
        None
    }

    fn heed(&mut self, event: Option<Event>) -> Option<BrokerError> {
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                self.blocked = true;
                *self.inner.handle() = None;
                let why = self.link.failed(format_args!("the broker blocks publishers: {reason}"));
                tracing::warn!(broker.role = LinkRole::Publisher.name(), reason = %why, "publishing is blocked");
                self.inner.note(LinkRole::Publisher, LinkState::Disconnected { why: why.why });
                None
            }
            Some(Event::ConnectionUnblocked) => {
                self.blocked = false;
                *self.inner.handle() = Some(self.handle.clone());
                supervisor::up(self.inner, LinkRole::Publisher, self.link);
                // The topology may be wrong, which a check finds out.
                self.hint.notify_one();
                None
            }
            // Only one channel ended: the publishes on this one end with it, and report so.
            Some(Event::Error(error)) if link::is_of_a_channel(&error) => None,
            Some(Event::Error(error)) => Some(self.link.lost(&error)),
            None => Some(self.link.failed("the connection is gone")),
            Some(_) => None,
        }
    }

    fn launch(&self, request: Request) {
        let Request { notice, answer } = request;
        if answer.is_closed() {
            // The caller gave up while it waited; sending it now would only be a duplicate.
            return;
        }
        let channel = self.channel.clone();
        let exchange = topology::name(&self.inner.settings.outbound_exchange);
        self.flights.push(Box::pin(async move {
            let id = notice.id.clone();
            let outcome = send(&channel, exchange, notice).await;
            Landed { id, answer, outcome }
        }));
    }

    /// Answers `first` and all that landed with it; returns an error if the channel is gone.
    fn settle(&mut self, first: Landed) -> Option<BrokerError> {
        let landed = self.landed_with(first);
        let error = landed.iter().find_map(|landed| landed.outcome.as_ref().err()).map(|error| self.link.lost(error));
        let (answers, outcomes): (Vec<_>, Vec<_>) =
            landed.into_iter().map(|landed| (landed.answer, (landed.id, landed.outcome))).unzip();
        for (answer, published) in answers.into_iter().zip(judge(outcomes, &mut self.returned)) {
            if published == Published::Returned && self.inner.settings.declare {
                self.hint.notify_one();
            }
            // A caller that gave up asks again by itself.
            let _ = answer.send(published);
        }
        error
    }

    /// `first` and every other flight that has landed until now. lapin completed the confirm that carries the return of
    /// `first`, if there is one, before that of `first`; so it is among them, or was seen earlier.
    fn landed_with(&mut self, first: Landed) -> Vec<Landed> {
        let mut landed = vec![first];
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        loop {
            woken.0.store(false, Ordering::SeqCst);
            match self.flights.poll_next_unpin(&mut context) {
                Poll::Ready(Some(next)) => landed.push(next),
                Poll::Ready(None) => return landed,
                // "Pending" is only final if the set did not wake itself meanwhile, as it does to be polled again soon.
                // No flight has a timer, so no budget of the runtime can make this turn for ever.
                Poll::Pending if woken.0.load(Ordering::SeqCst) => {}
                Poll::Pending => return landed,
            }
        }
    }
}

/// The results of publishes that landed together, in their order. `returned` carries over the ids of returns that came
/// with the confirm of another publish than their own.
fn judge(outcomes: Vec<(String, lapin::Result<Confirmation>)>, returned: &mut Vec<String>) -> Vec<Published> {
    let mut judged = Vec::with_capacity(outcomes.len());
    for (id, outcome) in outcomes {
        let (published, with) = match outcome {
            Ok(Confirmation::Ack(with)) => (Published::Confirmed, with),
            Ok(Confirmation::Nack(with)) => (Published::Nacked, with),
            // Only without confirm mode, which `open` has switched on.
            Ok(Confirmation::NotRequested) | Err(_) => (Published::Lost, None),
        };
        if let Some(with) = with {
            let named = with.delivery.properties.message_id().as_ref().map(ToString::to_string);
            returned.push(named.unwrap_or_else(|| id.clone()));
        }
        judged.push((id, published));
    }
    let own = |(id, published)| match returned.iter().position(|returned| *returned == id) {
        Some(at) => {
            returned.swap_remove(at);
            if published == Published::Confirmed { Published::Returned } else { published }
        }
        None => published,
    };
    judged.into_iter().map(own).collect()
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

async fn send(
    channel: &Channel,
    exchange: Result<ShortString, BrokerError>,
    notice: OutgoingNotice,
) -> lapin::Result<Confirmation> {
    let names = (exchange, topology::name(&notice.routing_key), topology::name(&notice.id));
    let (Ok(exchange), Ok(routing_key), Ok(id)) = names else {
        // The exchange was declared by this name, keys are our topics and ids are UUIDs. If a name is refused all the same, the
        // broker could never take the notice, which is what a nack means.
        return Ok(Confirmation::Nack(None));
    };
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(notice.content_type.into())
        .with_message_id(id);
    let sent = channel.basic_publish(exchange, routing_key, options, &notice.body, properties);
    sent.await?.await
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::message::{BasicReturnMessage, Delivery};

    fn returned(id: &str) -> Option<BasicReturnMessage> {
        let mut delivery = Delivery::mock(0, OUT.into(), "event.parked".into(), false, Vec::new());
        delivery.properties = BasicProperties::default().with_message_id(id.into());
        Some(BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() })
    }

    const OUT: &str = "podero.bridge";

    fn judge_of(outcomes: Vec<(&str, Confirmation)>, carried: &mut Vec<String>) -> Vec<Published> {
        judge(outcomes.into_iter().map(|(id, outcome)| (id.to_owned(), Ok(outcome))).collect(), carried)
    }

    /// A return counts for the publish it names whichever confirm it came with.
    #[test]
    fn a_return_counts_for_the_publish_it_names() {
        use Confirmation::{Ack, Nack};
        let mut carried = Vec::new();
        let swapped = vec![("a", Ack(None)), ("b", Ack(returned("a"))), ("c", Nack(None)), ("d", Ack(returned("d")))];
        let judged = judge_of(swapped, &mut carried);
        assert_eq!(judged, [Published::Returned, Published::Confirmed, Published::Nacked, Published::Returned]);
        assert!(carried.is_empty());
    }

    #[test]
    fn a_return_that_came_before_its_own_confirm_is_remembered() {
        let mut carried = Vec::new();
        let early = judge_of(vec![("b", Confirmation::Ack(returned("a")))], &mut carried);
        let own = judge_of(vec![("a", Confirmation::Ack(None))], &mut carried);
        assert_eq!((early, own), (vec![Published::Confirmed], vec![Published::Returned]));
        assert!(carried.is_empty());
    }
}
