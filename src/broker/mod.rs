//! The connection to RabbitMQ: events in, notices out, whatever the broker does in between.
//!
//! Two connections, one for each direction, each kept by a supervisor of its own ([`Broker::run`] polls both). So
//! notices still go out while the inbound queue is missing or declared with other arguments, and events still come in
//! while the broker, short of memory or disk, blocks publishers (it blocks the whole connection, acks
//! included). lapin's own recovery is off: a connection that breaks is dropped, and connection, topology, channel,
//! consumer and publisher are made again with back-off, for as long as it takes.
//!
//! In: a delivery is acked after [`Intake::offer`] said [`IntakeResult::Stored`], never before; one that could not be stored
//! stays un-acked and is offered again. Out: [`Publish::publish`] says [`Published::Confirmed`] only for a persistent,
//! mandatory publish that the broker has confirmed and not returned.
//!
//! Operators of RabbitMQ 4 should set `delivery-limit` to -1 on the inbound queue by a policy: a lost connection counts
//! as a delivery there, and the default limit of 20 would drop what twenty broken connections left un-acked. It is not
//! an argument of our declaration because 3.x refuses the value.
//!
//! It must never spawn (lapin runs its own input and output), decide what a delivery means, drop or reject one, or
//! show a URL with its credentials.
//!
//! Before: [`crate::domain::retry`], [`crate::clock`]. After: [`crate::inbound`] and [`crate::outbound`], by [`Intake`] and
//! [`Publish`].

mod consumer;
mod link;
mod publisher;
mod supervisor;
mod tending;
mod topology;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;

pub use link::shown;
use supervisor::{LinkRole, Stop};

/// The broker's configuration.
#[derive(Clone)]
pub struct BrokerSettings {
    /// `amqp://` or `amqps://`, tried in turn; at least one. They carry passwords: see [`shown`].
    pub urls: Vec<String>,
    /// Topic exchange that upstream systems publish to; declared and bound only when `declare` is set.
    pub inbound_exchange: String,
    /// Queue that is consumed.
    pub inbound_queue: String,
    /// Keys by which the queue is bound to the exchange, when `declare` is set. A binding that is there stays.
    pub bindings: Vec<String>,
    /// Topic exchange that notices are published to.
    pub outbound_exchange: String,
    /// Whether the topology is ours to declare; otherwise only its existence is checked.
    pub declare: bool,
    /// How many deliveries may be un-acked, and so in the hands of the [`Intake`], at once. Zero, which AMQP would read
    /// as "no bound", counts as one.
    pub prefetch: u16,
}

impl fmt::Debug for BrokerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self.urls.iter().map(|url| shown(url)).collect();
        f.debug_struct("BrokerSettings")
            .field("urls", &urls)
            .field("inbound_exchange", &self.inbound_exchange)
            .field("inbound_queue", &self.inbound_queue)
            .field("bindings", &self.bindings)
            .field("outbound_exchange", &self.outbound_exchange)
            .field("declare", &self.declare)
            .field("prefetch", &self.prefetch)
            .finish()
    }
}

/// The broker as the rest of the bridge sees it. Cheap to clone; clones share their state. Disconnected until
/// [`Broker::run`] is polled.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    settings: BrokerSettings,
    clock: Clock,
    /// Interval between two checks of exchanges, queues and bindings.
    tend_every: Duration,
    status: Mutex<Status>,
    /// Open while there is a connection that takes publishes.
    handle: Mutex<Option<publisher::PublishHandle>>,
}

/// State of the two connections, for readiness and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The connection that notices go out on.
    pub publisher: LinkState,
    /// The connection that events come in on.
    pub consumer: LinkState,
}

impl Status {
    /// Whether a publish has a chance now.
    pub fn connected(&self) -> bool {
        self.publisher == LinkState::Connected
    }

    /// Whether the inbound queue is being consumed now.
    pub fn consuming(&self) -> bool {
        self.consumer == LinkState::Connected
    }
}

/// One of the two connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Set up and serving.
    Connected,
    /// Not serving, or something of the topology is wrong that would keep events or notices away; tried again by itself.
    Disconnected {
        /// The last reason, for an operator: names the broker's address and the object in question, no credentials.
        why: String,
    },
}

/// Why the broker cannot be used as configured; the caller shows it to the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct BrokerError {
    /// Names the address and the object, and what to do about it; no credentials.
    pub why: String,
}

/// One delivery from the inbound queue, free of lapin's types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The bytes as they came.
    pub body: Vec<u8>,
    /// Property `content_type`.
    pub content_type: Option<String>,
    /// Property `content_encoding`.
    pub content_encoding: Option<String>,
    /// Headers as texts: strings and byte arrays as UTF-8, numbers and booleans in decimal and words, timestamps as
    /// RFC 3339. Empty values are left out, and so are tables and arrays of the broker's own (`x-…`). A value that has
    /// no text form, or is not UTF-8, has a [`char::REPLACEMENT_CHARACTER`] in its text: it was said, and cannot be read.
    pub headers: BTreeMap<String, String>,
    /// Property `message_id`.
    pub message_id: Option<String>,
    /// The exchange it was published to.
    pub exchange: String,
    /// The key it was published with.
    pub routing_key: String,
    /// Properties that say something of what it is.
    pub properties: Properties,
    /// Whether the broker may have delivered it before.
    pub redelivered: bool,
}

/// Properties of a message by which its sender may say what it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the properties of AMQP 0-9-1 of the same names")]
pub struct Properties {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// As it was sent. AMQP says seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
}

/// The result of offering a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntakeResult {
    /// A row is committed: the delivery is acked.
    Stored,
    /// The store is away: the delivery stays un-acked and is offered again, with back-off.
    NotNow,
}

/// Where deliveries go.
pub trait Intake: Send + Sync + 'static {
    /// A delivery in our hands, with all that is decided about it once, however often it is offered: when it came, say.
    type Held: Send + Sync;

    /// Takes a delivery into our hands. Called in the order of arrival.
    fn hold(&self, frame: Frame) -> Self::Held;

    /// Whether the appliers are saturated: they need the machine rather than more events.
    fn is_saturated(&self) -> bool {
        false
    }

    /// Makes one delivery durable. Called for up to [`BrokerSettings::prefetch`] deliveries at once, first in the order of
    /// arrival. May be dropped at any await point (shutdown, a lost connection); the delivery then comes again.
    fn offer(&self, held: &Self::Held) -> impl Future<Output = IntakeResult> + Send;

    /// Holds a delivery and offers it once.
    fn take(&self, frame: Frame) -> impl Future<Output = IntakeResult> + Send {
        async {
            let held = self.hold(frame);
            self.offer(&held).await
        }
    }
}

/// One notice as it goes onto the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingNotice {
    /// Becomes `message_id`: the same on every repetition.
    pub id: String,
    /// The notice's topic.
    pub routing_key: String,
    /// Property `content_type`.
    pub content_type: &'static str,
    /// The bytes.
    pub body: Vec<u8>,
}

/// The result of one publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The broker has it on every queue it was routed to, and there was at least one.
    Confirmed,
    /// No queue is bound for it: the broker gave it back.
    Returned,
    /// The broker refused it (a full queue that rejects publishes, an internal error).
    Nacked,
    /// No connection, or none any more before the confirm came: it may or may not be on the broker.
    Lost,
}

/// Sends notices.
pub trait Publish: Send + Sync {
    /// Whether there is a connection to publish on. A hint: it may be gone a moment later.
    fn is_open(&self) -> bool {
        true
    }

    /// Publishes once, and answers within a bounded time. Repeating is the caller's decision. Dropping the future does
    /// not take the publish back.
    fn publish(&self, notice: &OutgoingNotice) -> impl Future<Output = Published> + Send;
}

impl Broker {
    /// A disconnected broker; nothing happens before [`Broker::run`]. A configuration without a URL has no broker, so
    /// an empty list asserts.
    pub fn new(settings: BrokerSettings, clock: Clock) -> Self {
        Self::tended(settings, clock, tending::EVERY)
    }

    /// The same, with another interval between two checks of exchanges, queues and bindings.
    pub fn tended(settings: BrokerSettings, clock: Clock, tend_every: Duration) -> Self {
        assert!(!settings.urls.is_empty(), "without amqp.url there is no broker to make");
        let down = || LinkState::Disconnected { why: "not connected yet".to_owned() };
        let status = Status { publisher: down(), consumer: down() };
        let (status, handle) = (Mutex::new(status), Mutex::new(None));
        Self(Arc::new(Inner { settings, clock, tend_every, status, handle }))
    }

    /// Keeps both connections up until `shutdown`, then ends both in good order: takes and confirms in flight are
    /// waited for, within bounds. Ends for no other reason. To publish the last notices after the listeners are closed, poll
    /// [`Broker::run_consumer`] and [`Broker::run_publisher`] instead, each with a shutdown of its own.
    pub async fn run<I: Intake>(&self, intake: I, shutdown: impl Future<Output = ()>) {
        let (ask, stop) = Stop::pair();
        let told = async move {
            shutdown.await;
            ask.stop();
        };
        tokio::join!(told, self.publish_until(stop.clone()), self.consume_until(intake, stop));
    }

    /// The half of [`Broker::run`] that publishes.
    pub async fn run_publisher(&self, shutdown: impl Future<Output = ()>) {
        let (ask, stop) = Stop::pair();
        let told = async move {
            shutdown.await;
            ask.stop();
        };
        tokio::join!(told, self.publish_until(stop));
    }

    /// The half of [`Broker::run`] that consumes.
    pub async fn run_consumer<I: Intake>(&self, intake: I, shutdown: impl Future<Output = ()>) {
        let (ask, stop) = Stop::pair();
        let told = async move {
            shutdown.await;
            ask.stop();
        };
        tokio::join!(told, self.consume_until(intake, stop));
    }

    async fn publish_until(&self, stop: Stop) {
        supervisor::keep(&self.0, LinkRole::Publisher, stop, |link, stop| publisher::serve(&self.0, link, stop)).await;
    }

    async fn consume_until<I: Intake>(&self, intake: I, stop: Stop) {
        let intake = &intake;
        supervisor::keep(&self.0, LinkRole::Consumer, stop, |link, stop| consumer::serve(&self.0, intake, link, stop))
            .await;
    }

    /// How things stand now.
    pub fn status(&self) -> Status {
        self.0.status().clone()
    }

    /// Connects once, declares or verifies the whole topology and disconnects: a line for the operator, or what is
    /// wrong. Needs no [`Broker::run`].
    pub async fn check(&self) -> Result<String, BrokerError> {
        let settings = &self.0.settings;
        let mut failures = Vec::new();
        for url in &settings.urls {
            let link = match link::connect(url, "podero-bridge check").await {
                Ok(link) => link,
                Err(error) => {
                    failures.push(error.why);
                    continue;
                }
            };
            let laid = async {
                topology::lay_inbound(&link, settings).await?;
                topology::lay_outbound(&link, settings).await
            };
            let laid = supervisor::set_up(laid).await;
            let line = topology::summary(&link, settings);
            link.close().await;
            return laid.map(|()| line);
        }
        Err(BrokerError { why: failures.join("; ") })
    }
}

impl Publish for Broker {
    fn is_open(&self) -> bool {
        self.0.handle().is_some()
    }

    async fn publish(&self, notice: &OutgoingNotice) -> Published {
        // The guard is gone before the await: the handle is cloned.
        let handle = self.0.handle().clone();
        match handle {
            Some(handle) => handle.publish(notice).await,
            None => Published::Lost,
        }
    }
}

impl Inner {
    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().expect("no code panics while it holds the status")
    }

    fn handle(&self) -> MutexGuard<'_, Option<publisher::PublishHandle>> {
        self.handle.lock().expect("no code panics while it holds the handle")
    }

    fn note(&self, role: LinkRole, state: LinkState) {
        match role {
            LinkRole::Publisher => self.status().publisher = state,
            LinkRole::Consumer => self.status().consumer = state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_show_no_password() {
        let settings = BrokerSettings {
            urls: vec!["amqp://bridge:hunter2@rabbit:5672/prod".to_owned()],
            inbound_exchange: "in".to_owned(),
            inbound_queue: "queue".to_owned(),
            bindings: Vec::new(),
            outbound_exchange: "out".to_owned(),
            declare: true,
            prefetch: 1,
        };
        let text = format!("{settings:?}");
        assert!(text.contains("rabbit:5672/prod"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("bridge:"), "{text}");
    }
}
