//! Exchanges, queues and bindings: declared, or verified to exist.
//!
//! ```text
//! upstream -> [inbound exchange, topic] --the configured keys--> (inbound queue, quorum) -> us
//! us -> [outbound exchange, topic] --routing key--> (subscribers)
//!              \--no subscriber: alternate exchange--> [<outbound>.unrouted, fanout] -> (unrouted queue, quorum, bounded)
//! ```
//!
//! With `declare = false` the bridge looks only for the inbound queue and the outbound exchange, and reports the inbound
//! exchange missing if it was there once; all else is the operator's.
//!
//! It must never delete or change an existing object: it reports the difference.
//!
//! Before: [`crate::broker`]'s settings. After: the publisher and the consumer.

use std::fmt;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ErrorKind, ExchangeKind};

use super::error::BrokerError;
use super::link::Link;
use super::settings::BrokerSettings;
use super::state::LinkRole;

/// Limit of the queue of notices without a subscriber: some days of a large utility's notices, at most a few hundred MB on
/// disk; the oldest goes first, since a late subscriber wants the newest.
const UNROUTED_NOTICES_MAX: i64 = 100_000;

/// Exchange and queue of the notices without a subscriber. The contract names both for the default exchange; any other exchange
/// gives its own name to both, so that two bridges on one broker do not mix theirs.
fn unrouted(outbound_exchange: &str) -> (String, String) {
    let exchange = format!("{outbound_exchange}.unrouted");
    let queue = match outbound_exchange {
        "podero.bridge" => "podero-bridge.unrouted".to_owned(),
        _ => exchange.clone(),
    };
    (exchange, queue)
}

/// The line that `check` prints.
pub(super) fn summary(link: &Link, settings: &BrokerSettings) -> String {
    let BrokerSettings { inbound_exchange, inbound_queue, outbound_exchange, .. } = settings;
    let address = link.address();
    if settings.declare {
        let bindings = settings.bindings.join(", ");
        return format!(
            "{address}: queue {inbound_queue} declared and bound to exchange {inbound_exchange} by {bindings} (other routing \
             keys do not reach it); exchange {outbound_exchange} declared"
        );
    }
    format!(
        "{address}: queue {inbound_queue} and exchange {outbound_exchange} exist; bindings are not the bridge's to make"
    )
}

/// Declares or verifies the objects that the consumer needs; answers `true` if messages wait in the queue, which has no consumer.
pub(super) async fn lay_inbound(link: &Link, settings: &BrokerSettings) -> Result<bool, BrokerError> {
    let plan = Plan::begin(link, settings).await?;
    let queue = name(&settings.inbound_queue)?;
    let is_forsaken = if settings.declare {
        let exchange = name(&settings.inbound_exchange)?;
        plan.declare(&topic(&exchange), FieldTable::default()).await?;
        let is_forsaken = plan.declare(&Object::Queue(&queue), quorum()).await?;
        for key in &settings.bindings {
            plan.bind(&queue, &exchange, &name(key)?).await?;
        }
        is_forsaken
    } else {
        plan.find(&Object::Queue(&queue)).await?
    };
    plan.end().await?;
    Ok(is_forsaken)
}

/// Declares or verifies the objects that the publisher needs.
pub(super) async fn lay_outbound(link: &Link, settings: &BrokerSettings) -> Result<(), BrokerError> {
    let plan = Plan::begin(link, settings).await?;
    let exchange = name(&settings.outbound_exchange)?;
    if settings.declare {
        let (unrouted_exchange, unrouted_queue) = unrouted(&settings.outbound_exchange);
        let (unrouted_exchange, unrouted_queue) = (name(&unrouted_exchange)?, name(&unrouted_queue)?);
        plan.declare(&Object::Exchange(&unrouted_exchange, ExchangeKind::Fanout), FieldTable::default()).await?;
        let mut bounds = quorum();
        bounds.insert("x-max-length".into(), AMQPValue::LongLongInt(UNROUTED_NOTICES_MAX));
        bounds.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
        plan.declare(&Object::Queue(&unrouted_queue), bounds).await?;
        plan.bind(&unrouted_queue, &unrouted_exchange, &name("")?).await?;
        let mut alternate = FieldTable::default();
        let target = AMQPValue::LongString(unrouted_exchange.as_str().into());
        alternate.insert("alternate-exchange".into(), target);
        plan.declare(&topic(&exchange), alternate).await?;
    } else {
        plan.find(&topic(&exchange)).await?;
    }
    plan.end().await
}

/// Checks in a row that must find messages in an inbound queue without a consumer before a connection that consumes is given up:
/// the first one may come before RabbitMQ has counted the consumer.
const CHECKS_WITHOUT_CONSUMER_MAX: u32 = 2;

/// The topology as a connection has seen it.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// The inbound exchange was there. If it never was, another exchange feeds the queue.
    has_inbound_exchange: bool,
    /// Checks in a row that found messages in an inbound queue without a consumer. A quorum queue whose leader does not answer within
    /// 250 ms counts none of either (`rabbit_quorum_queue:stat`, RabbitMQ 3.10), so that an empty one says nothing.
    checks_without_consumer: u32,
}

impl Witness {
    /// An error if RabbitMQ has lost the consumer of this connection without telling it: no message would ever come.
    pub(super) fn lost_consumer(&self, link: &Link) -> Option<BrokerError> {
        (self.checks_without_consumer >= CHECKS_WITHOUT_CONSUMER_MAX).then(|| {
            link.failed(
                "messages wait, and the queue has no consumer although this connection consumes: was it deleted?",
            )
        })
    }
}

/// Makes sure that the consumer's objects are still there.
pub(super) async fn tend_inbound(
    link: &Link,
    settings: &BrokerSettings,
    witness: &mut Witness,
) -> Result<(), BrokerError> {
    let exchange = name(&settings.inbound_exchange)?;
    // A check that fails says nothing, and ends the row.
    let checks_without_consumer = std::mem::take(&mut witness.checks_without_consumer);
    let is_there = Plan::begin(link, settings).await?.has(&topic(&exchange)).await?;
    if settings.declare && !is_there {
        say_gone(LinkRole::Consumer, &topic(&exchange));
    }
    if lay_inbound(link, settings).await? {
        witness.checks_without_consumer = checks_without_consumer + 1;
    }
    if settings.declare || is_there {
        witness.has_inbound_exchange = true;
        return Ok(());
    }
    if !witness.has_inbound_exchange {
        return Ok(());
    }
    Err(link.failed(format_args!(
        "the exchange {exchange} is not there, and was: nothing that is published to it arrives; create it and its \
         bindings, or set amqp.declare = true"
    )))
}

/// Makes sure that the publisher's objects are still there.
pub(super) async fn tend_outbound(link: &Link, settings: &BrokerSettings) -> Result<(), BrokerError> {
    if settings.declare {
        let (unrouted_exchange, unrouted_queue) = unrouted(&settings.outbound_exchange);
        let exchanges = [name(&settings.outbound_exchange)?, name(&unrouted_exchange)?];
        let queue = name(&unrouted_queue)?;
        for object in [topic(&exchanges[0]), topic(&exchanges[1]), Object::Queue(&queue)] {
            if !Plan::begin(link, settings).await?.has(&object).await? {
                say_gone(LinkRole::Publisher, &object);
            }
        }
    }
    lay_outbound(link, settings).await
}

/// An object at the broker.
enum Object<'a> {
    Exchange(&'a ShortString, ExchangeKind),
    Queue(&'a ShortString),
}

impl Object<'_> {
    fn kind_and_name(&self) -> (&'static str, &ShortString) {
        match self {
            Self::Exchange(name, _) => ("exchange", name),
            Self::Queue(name) => ("queue", name),
        }
    }
}

impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = self.kind_and_name();
        write!(f, "{kind} `{name}`")
    }
}

fn topic(exchange: &ShortString) -> Object<'_> {
    Object::Exchange(exchange, ExchangeKind::Topic)
}

fn say_gone(role: LinkRole, object: &Object<'_>) {
    let (kind, object) = object.kind_and_name();
    tracing::warn!(broker.role = role.name(), kind, name = %object, "gone at the broker, and declared again");
}

/// Arguments of a quorum queue: replicated in a cluster, and safe on disk everywhere.
fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments
}

/// A name for AMQP, which has at most 255 bytes; lapin asserts on longer ones.
pub(super) fn name(text: &str) -> Result<ShortString, BrokerError> {
    ShortString::try_new(text)
        .map_err(|_| BrokerError::new(format!("the name `{text}` is longer than AMQP's 255 bytes")))
}

/// A channel of its own for declarations: the first error closes it.
struct Plan<'a> {
    link: &'a Link,
    channel: Channel,
    declare: bool,
}

impl<'a> Plan<'a> {
    async fn begin(link: &'a Link, settings: &BrokerSettings) -> Result<Self, BrokerError> {
        Ok(Self { link, channel: link.channel().await?, declare: settings.declare })
    }

    async fn end(self) -> Result<(), BrokerError> {
        let closed = self.channel.close(200, "OK".into()).await;
        closed.map_err(|error| self.link.lost(&error))
    }

    async fn declare(&self, object: &Object<'_>, arguments: FieldTable) -> Result<bool, BrokerError> {
        self.ask(object, false, arguments).await.map_err(|error| self.explain(object, &error))
    }

    async fn find(&self, object: &Object<'_>) -> Result<bool, BrokerError> {
        self.ask(object, true, FieldTable::default()).await.map_err(|error| self.explain(object, &error))
    }

    /// `true` if there is such an object. A plan that finds none has its channel closed.
    async fn has(self, object: &Object<'_>) -> Result<bool, BrokerError> {
        match self.ask(object, true, FieldTable::default()).await {
            Ok(_) => self.end().await.map(|()| true),
            Err(error) if is_not_found(&error) => Ok(false),
            Err(error) => Err(self.explain(object, &error)),
        }
    }

    /// Declares an object, or looks whether it is there (`passive`); answers `true` for a queue in which messages wait and that has no
    /// consumer.
    async fn ask(&self, object: &Object<'_>, passive: bool, arguments: FieldTable) -> lapin::Result<bool> {
        match *object {
            Object::Exchange(name, ref kind) => {
                let options = ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
                self.channel.exchange_declare(name.clone(), kind.clone(), options, arguments).await.map(|()| false)
            }
            Object::Queue(name) => {
                let options = QueueDeclareOptions { passive, durable: true, ..QueueDeclareOptions::default() };
                let declared = self.channel.queue_declare(name.clone(), options, arguments).await;
                declared.map(|queue| queue.message_count() > 0 && queue.consumer_count() == 0)
            }
        }
    }

    async fn bind(&self, queue: &ShortString, exchange: &ShortString, key: &ShortString) -> Result<(), BrokerError> {
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let bound = self.channel.queue_bind(queue.clone(), exchange.clone(), key.clone(), options, arguments).await;
        let object = format_args!("binding of queue `{queue}` to exchange `{exchange}`");
        bound.map_err(|error| self.explain(object, &error))
    }

    /// An error that names the object, its fault and the remedy; the broker's own text comes last.
    fn explain(&self, object: impl fmt::Display, error: &lapin::Error) -> BrokerError {
        let ErrorKind::ProtocolError(refusal) = error.kind() else {
            return self.link.lost(error);
        };
        let advice = advice(refusal.get_id(), self.declare);
        self.link.failed(format_args!("{object} {advice} ({error})"))
    }
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(refusal) if refusal.get_id() == 404)
}

fn advice(reply_code: u16, declare: bool) -> &'static str {
    match (reply_code, declare) {
        (406, _) => {
            "exists with other properties than podero-bridge declares: \
             delete it and it is declared anew, or keep it and set amqp.declare = false"
        }
        (404, false) => "does not exist: create it, or set amqp.declare = true",
        (403, true) => "may not be declared by this user: grant configure, write and read, or set amqp.declare = false",
        (403, false) => "may not be used by this user: grant write on the exchange and read on the queue",
        (405, _) => "is held exclusively by another connection",
        _ => "is refused by the broker",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unrouted_names_follow_the_outbound_exchange() {
        for (outbound, exchange, queue) in [
            ("podero.bridge", "podero.bridge.unrouted", "podero-bridge.unrouted"),
            ("acme.heat", "acme.heat.unrouted", "acme.heat.unrouted"),
        ] {
            assert_eq!(unrouted(outbound), (exchange.to_owned(), queue.to_owned()));
        }
    }

    #[test]
    fn a_name_that_amqp_cannot_carry_is_an_error_and_no_panic() {
        assert!(name(&"x".repeat(255)).is_ok());
        assert!(name(&"x".repeat(256)).is_err());
    }
}
