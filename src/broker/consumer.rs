//! Consumes the inbound queue: offers each delivery to the intake, and acks it once it is stored.
//!
//! Deliveries are held in the order of arrival and offered concurrently, up to the prefetch; the lanes see to the order in
//! which they take effect. A delivery that cannot be stored now stays un-acked and is offered again with back-off, so that an
//! away store fills the prefetch and the rest waits in the broker.
//!
//! It must never ack before the row is committed, and never nack, reject or drop a delivery: un-acked, the broker
//! keeps it.
//!
//! Before: the link and the topology. After: [`crate::broker::Intake`].

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

use super::delivery::{Frame, Intake, IntakeResult, Properties};
use super::error::BrokerError;
use super::link::{self, Link};
use super::state::{BrokerShared, LinkRole};
use super::supervisor::{self, Ended, Stop};
use super::{tending, topology};
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::retry::RetrySchedule;
use crate::pump;

/// Back-off of the offers of a message to a store that is away; not the retry policy of events. A whole prefetch of deliveries
/// may be offered: the ceiling keeps that to some hundred attempts a second, the jitter keeps them apart.
const TAKE_AGAIN: RetrySchedule = RetrySchedule { initial: Duration::from_millis(100), max: Duration::from_secs(5) };
/// Limit of the bytes of messages that are offered at once. A message takes several times its size while it is read and
/// written, and a whole prefetch of large ones would take several times a whole prefetch. A message above the limit goes alone.
/// 16 MiB are a whole prefetch of usual events, and sixteen of the largest that are taken by default (`http.body_max`).
const OFFERED_BYTES_MAX: usize = 16 << 20;
/// Unit of the budget: a semaphore counts its permits in 32 bits.
const KIB: usize = 1 << 10;
/// Limit of steps in a row before the other tasks on this thread have a turn: a whole prefetch that has come at once takes some
/// milliseconds to read, and answers from Podero would wait for that.
const STEPS_IN_A_ROW: u32 = 8;
/// Limit of messages taken in a row while the applier is saturated, with a rest after them. That is some two thousand a second,
/// forty times Podero's usual budget, and leaves the machine to the events in hand. The other messages are as safe with the
/// broker.
const TAKEN_IN_A_ROW: u32 = 8;
/// Pause after [`TAKEN_IN_A_ROW`] messages while the applier is saturated.
const REST: Duration = Duration::from_millis(4);
/// Timeout for takes in flight at the end. A commit takes milliseconds; a message that is not stored by then stays with the
/// broker.
const GRACE: Duration = Duration::from_secs(5);
/// Timeout of cancelling the consumer, which is one round trip.
const CANCEL_WITHIN: Duration = Duration::from_secs(2);

/// Sets up the consuming side of `link` and serves until it is lost or `stop`.
pub(super) async fn serve<I: Intake>(inner: &BrokerShared, intake: &I, link: Link, mut stop: Stop) -> Ended {
    let mut events = link.events();
    let (channel, mut deliveries) = match supervisor::set_up_unless(&mut stop, open(inner, &link)).await {
        Ok(opened) => opened,
        Err(ended) => return ended,
    };
    supervisor::up(inner, LinkRole::Consumer, &link);
    let prefetch = usize::from(prefetch(inner));
    let room = Semaphore::new(OFFERED_BYTES_MAX / KIB);
    let hands = Hands { clock: &inner.clock, intake, channel: &channel, room: &room };
    let mut takes = FuturesUnordered::new();
    let mut steps = 0_u32;
    let mut pace = Pace::default();
    let no_hint = Notify::new();
    let mut tending = Box::pin(tending::tend(inner, LinkRole::Consumer, &link, &no_hint));
    loop {
        steps = steps.wrapping_add(1);
        if steps.is_multiple_of(STEPS_IN_A_ROW) {
            tokio::task::yield_now().await;
        }
        tokio::select! {
            () = stop.asked() => break,
            error = link::gone(&mut events) => {
                return Ended::Lost(error.map_or_else(|| link.failed("the connection is gone"), |error| link.lost(&error)));
            }
            lost = &mut tending => return Ended::Lost(lost),
            () = pace.rested(), if pace.rests() => {}
            delivery = deliveries.next(), if takes.len() < prefetch && !pace.rests() => match delivery {
                Some(Ok(delivery)) => {
                    takes.push(hands.take(delivery, stop.clone()));
                    pace.took(intake.is_saturated());
                }
                Some(Err(error)) => return Ended::Lost(link.lost(&error)),
                None => return Ended::Lost(link.failed("the broker cancelled the consumer: was the queue deleted?")),
            },
            Some(taken) = takes.next() => if let Err(error) = taken {
                return Ended::Lost(link.lost(&error));
            },
        }
    }
    let finish = async {
        let cancelled = channel.basic_cancel(deliveries.tag(), BasicCancelOptions::default());
        // Takes go on meanwhile; a cancel that fails means a connection that is gone anyway.
        let _ = tokio::join!(timeout(CANCEL_WITHIN, cancelled), async { while takes.next().await.is_some() {} });
    };
    // A message that is not stored within the grace is dropped un-acked.
    let _ = timeout(GRACE, finish).await;
    drop((takes, tending));
    link.close().await;
    Ended::Stopped
}

/// The pace at which messages are taken.
#[derive(Default)]
struct Pace {
    taken: u32,
    rest: Option<BoxFuture<'static, ()>>,
}

impl Pace {
    fn took(&mut self, is_saturated: bool) {
        self.taken = if is_saturated { self.taken + 1 } else { 0 };
        if self.taken >= TAKEN_IN_A_ROW {
            self.taken = 0;
            self.rest = Some(Box::pin(pump::sleep(REST)));
        }
    }

    fn rests(&self) -> bool {
        self.rest.is_some()
    }

    async fn rested(&mut self) {
        if let Some(rest) = &mut self.rest {
            rest.await;
        }
        self.rest = None;
    }
}

fn prefetch(inner: &BrokerShared) -> u16 {
    // AMQP reads 0 as "no bound".
    inner.settings.prefetch.max(1)
}

async fn open(inner: &BrokerShared, link: &Link) -> Result<(Channel, Consumer), BrokerError> {
    topology::lay_inbound(link, &inner.settings).await?;
    let queue = topology::name(&inner.settings.inbound_queue)?;
    let channel = link.channel().await?;
    let consuming = async {
        channel.basic_qos(prefetch(inner), BasicQosOptions::default()).await?;
        // The broker makes up a tag that no other consumer has.
        channel.basic_consume(queue, "".into(), BasicConsumeOptions::default(), FieldTable::default()).await
    };
    let deliveries = consuming.await.map_err(|error| link.lost(&error))?;
    Ok((channel, deliveries))
}

/// The means of taking a delivery.
struct Hands<'a, I> {
    clock: &'a Clock,
    intake: &'a I,
    channel: &'a Channel,
    room: &'a Semaphore,
}

impl<'a, I: Intake> Hands<'a, I> {
    /// Holds one delivery at once, offers it until it is stored, then acks it. An error is one of the channel.
    fn take(&self, delivery: Delivery, mut stop: Stop) -> impl Future<Output = lapin::Result<()>> + use<'a, I> {
        let Self { clock, intake, channel, room } = *self;
        let (tag, frame) = (delivery.delivery_tag, Frame::from(delivery));
        let kib = frame.body.len().div_ceil(KIB).clamp(1, OFFERED_BYTES_MAX / KIB);
        let kib = u32::try_from(kib).expect("the budget is far below 4 TiB");
        let held = intake.hold(frame);
        async move {
            let mut refusals = 0;
            loop {
                let taken = {
                    // First come, first served: a large message waits until there is room, and those behind it wait too.
                    let _room = room.acquire_many(kib).await.expect("nobody closes it");
                    intake.offer(&held).await
                };
                match taken {
                    IntakeResult::Stored => return channel.basic_ack(tag, BasicAckOptions::default()).await,
                    IntakeResult::NotNow => refusals += 1,
                }
                let wait = TAKE_AGAIN.delay(refusals, clock.jitter());
                tokio::select! {
                    () = stop.asked() => return Ok(()),
                    () = pump::sleep(wait) => {}
                }
            }
        }
    }
}

impl From<Delivery> for Frame {
    /// Moves the body instead of copying it: it may be large, and there are many.
    fn from(delivery: Delivery) -> Self {
        let properties = &delivery.properties;
        let text = |property: &Option<ShortString>| property.as_ref().map(ToString::to_string);
        Self {
            content_type: text(properties.content_type()),
            content_encoding: text(properties.content_encoding()),
            headers: properties.headers().as_ref().map(texts).unwrap_or_default(),
            message_id: text(properties.message_id()),
            exchange: delivery.exchange.to_string(),
            routing_key: delivery.routing_key.to_string(),
            properties: Properties {
                type_name: text(properties.kind()),
                app_id: text(properties.app_id()),
                correlation_id: text(properties.correlation_id()),
                timestamp: *properties.timestamp(),
            },
            redelivered: delivery.redelivered,
            body: delivery.data,
        }
    }
}

/// A header of a message as text, by its name: see [`Frame::headers`].
fn texts(headers: &FieldTable) -> BTreeMap<String, String> {
    let named = headers.inner().iter();
    let is_brokers_own = |name: &str| name.starts_with("x-");
    let shown = named.filter_map(|(name, value)| {
        let name = name.to_string();
        // A value without a text says something all the same.
        let is_unreadable = !matches!(value, AMQPValue::Void);
        let text = text(value).or_else(|| is_unreadable.then(|| UNREADABLE.to_owned()))?;
        (!is_brokers_own(&name) || text != UNREADABLE).then_some((name, text))
    });
    shown.collect()
}

/// Text of a value that has no text.
const UNREADABLE: &str = "\u{fffd}";

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        // Bytes that are not UTF-8 show in the text.
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ByteArray(bytes) => Some(String::from_utf8_lossy(bytes.as_slice()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        AMQPValue::Boolean(value) => Some(value.to_string()),
        AMQPValue::ShortShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortShortUInt(value) => Some(value.to_string()),
        AMQPValue::ShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortUInt(value) => Some(value.to_string()),
        AMQPValue::LongInt(value) => Some(value.to_string()),
        AMQPValue::LongUInt(value) => Some(value.to_string()),
        AMQPValue::LongLongInt(value) => Some(value.to_string()),
        AMQPValue::Float(value) => Some(value.to_string()),
        AMQPValue::Double(value) => Some(value.to_string()),
        AMQPValue::Timestamp(seconds) => {
            let micros = i64::try_from(*seconds).ok()?.checked_mul(1_000_000)?;
            Some(Timestamp::from_micros(micros).to_string())
        }
        AMQPValue::DecimalValue(_) | AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) | AMQPValue::Void => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages are taken a few at a time while the applier is saturated and else at once.
    #[tokio::test(start_paused = true)]
    async fn messages_are_taken_a_few_at_a_time_only_while_saturated() {
        let mut pace = Pace::default();
        for _ in 0..10 * TAKEN_IN_A_ROW {
            pace.took(false);
            assert!(!pace.rests());
        }
        for _ in 1..TAKEN_IN_A_ROW {
            pace.took(true);
            assert!(!pace.rests());
        }
        let before = tokio::time::Instant::now();
        pace.took(true);
        assert!(pace.rests());
        // Other events in between do not make the rest longer.
        let _ = timeout(REST / 2, pace.rested()).await;
        assert!(pace.rests());
        pace.rested().await;
        assert!(!pace.rests());
        assert!((REST..REST * 2).contains(&before.elapsed()), "{:?}", before.elapsed());
    }

    #[test]
    fn headers_become_texts_and_what_cannot_be_read_shows() {
        let mut headers = FieldTable::default();
        headers.insert("ce-id".into(), AMQPValue::LongString("e1".into()));
        headers.insert("ce-type".into(), AMQPValue::ByteArray(b"customer.churned".as_slice().into()));
        headers.insert("ce-subject".into(), AMQPValue::ByteArray(b"M\xfcller".as_slice().into()));
        headers.insert("ce-source".into(), AMQPValue::LongString(b"/M\xfcnchen".as_slice().into()));
        headers.insert("list".into(), AMQPValue::FieldArray(Vec::new().into()));
        headers.insert("never".into(), AMQPValue::Timestamp(u64::MAX));
        headers.insert("ce-time".into(), AMQPValue::Timestamp(1_790_000_000));
        headers.insert("attempt".into(), AMQPValue::LongLongInt(-3));
        headers.insert("again".into(), AMQPValue::Boolean(true));
        headers.insert("x-death".into(), AMQPValue::FieldTable(FieldTable::default()));
        headers.insert("nothing".into(), AMQPValue::Void);
        let expected = [
            ("again", "true"),
            ("attempt", "-3"),
            ("ce-id", "e1"),
            ("ce-source", "/M\u{fffd}nchen"),
            ("ce-subject", "M\u{fffd}ller"),
            ("ce-time", "2026-09-21T14:13:20Z"),
            ("ce-type", "customer.churned"),
            ("list", "\u{fffd}"),
            ("never", "\u{fffd}"),
        ];
        let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(texts(&headers), BTreeMap::from(expected));
    }
}
