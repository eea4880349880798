//! The broker's supervisor, consumer and publisher against a real RabbitMQ that is cut, stopped, killed and started.
//!
//! Every wait is a poll of a condition with a deadline: [`until`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use podero_bridge::broker::{
    Broker, BrokerSettings, Frame, Intake, IntakeResult, LinkState, OutgoingNotice, Properties, Publish, Published,
};
use podero_bridge::clock::Clock;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::servers;

const INBOUND: &str = "podero-bridge.inbound";
const OUTBOUND: &str = "podero.bridge";

/// Timeout of a wait, a generous one: a restart of RabbitMQ on a busy machine takes tens of seconds, and so may our own back-off.
const PATIENCE: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(10);

#[expect(clippy::disallowed_methods, reason = "the pace of a poll, not a synchronisation")]
async fn tick() {
    tokio::time::sleep(TICK).await;
}

/// Polls until `met`, or fails with `what`.
async fn until(what: &str, mut met: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !met().await {
            tick().await;
        }
    });
    assert!(waited.await.is_ok(), "not within {PATIENCE:?}: {what}");
}

fn settings(url: &str) -> BrokerSettings {
    BrokerSettings {
        urls: vec![url.to_owned()],
        inbound_exchange: "customer.lifecycle".to_owned(),
        inbound_queue: INBOUND.to_owned(),
        bindings: vec!["customer.#".to_owned()],
        outbound_exchange: OUTBOUND.to_owned(),
        declare: true,
        prefetch: 64,
    }
}

fn outgoing(id: &str, routing_key: &str) -> OutgoingNotice {
    OutgoingNotice {
        id: id.to_owned(),
        routing_key: routing_key.to_owned(),
        content_type: "application/cloudevents+json",
        body: format!("{{\"id\":\"{id}\"}}").into_bytes(),
    }
}

/// An intake that writes down what it sees and gives the set answers.
#[derive(Clone, Default)]
struct Inbox(Arc<Seen>);

#[derive(Default)]
struct Seen {
    stored: Mutex<Vec<Frame>>,
    offered: Mutex<HashMap<String, usize>>,
    in_hand: AtomicUsize,
    peak: AtomicUsize,
    /// Takes do not end while this is set.
    held: AtomicBool,
    /// Takes end with `NotNow` while this is set.
    away: AtomicBool,
}

impl Intake for Inbox {
    type Held = Frame;

    fn hold(&self, frame: Frame) -> Frame {
        frame
    }

    async fn offer(&self, frame: &Frame) -> IntakeResult {
        let _in_hand = InHand::count(&self.0);
        *self.0.offered.lock().expect("nobody panicked over it").entry(id_of(frame)).or_default() += 1;
        while self.0.held.load(Ordering::SeqCst) {
            tick().await;
        }
        if self.0.away.load(Ordering::SeqCst) {
            return IntakeResult::NotNow;
        }
        self.0.stored.lock().expect("nobody panicked over it").push(frame.clone());
        IntakeResult::Stored
    }
}

/// Counts also a take that is dropped.
struct InHand<'a>(&'a Seen);

impl<'a> InHand<'a> {
    fn count(seen: &'a Seen) -> Self {
        let now = seen.in_hand.fetch_add(1, Ordering::SeqCst) + 1;
        seen.peak.fetch_max(now, Ordering::SeqCst);
        Self(seen)
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.in_hand.fetch_sub(1, Ordering::SeqCst);
    }
}

fn id_of(frame: &Frame) -> String {
    frame.message_id.clone().expect("every delivery of these tests has an id")
}

impl Inbox {
    fn stored(&self) -> Vec<Frame> {
        self.0.stored.lock().expect("nobody panicked over it").clone()
    }

    fn distinct(&self) -> BTreeSet<String> {
        self.stored().iter().map(id_of).collect()
    }

    fn offers_of(&self, id: &str) -> usize {
        self.0.offered.lock().expect("nobody panicked over it").get(id).copied().unwrap_or_default()
    }

    fn in_hand(&self) -> usize {
        self.0.in_hand.load(Ordering::SeqCst)
    }
}

/// A broker whose `run` is polled by a task of its own.
struct Running {
    broker: Broker,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(settings: BrokerSettings, inbox: &Inbox) -> Self {
        Self::run(Broker::new(settings, Clock::system()), inbox)
    }

    /// A started broker that serves both directions, and checks the topology often enough for a test that does not wait.
    async fn tended(settings: BrokerSettings, inbox: &Inbox) -> Self {
        let running = Self::run(Broker::tended(settings, Clock::system(), Duration::from_millis(200)), inbox);
        running.serves().await;
        running
    }

    fn run(broker: Broker, inbox: &Inbox) -> Self {
        let (stop, asked) = oneshot::channel();
        let (runs, inbox) = (broker.clone(), inbox.clone());
        let task = tokio::spawn(async move {
            let asked = asked.map(drop).shared();
            tokio::join!(runs.run_publisher(asked.clone()), runs.run_consumer(inbox, asked));
        });
        Self { broker, stop, task }
    }

    /// Started, and both directions serve.
    async fn up(settings: BrokerSettings, inbox: &Inbox) -> Self {
        let running = Self::start(settings, inbox);
        running.serves().await;
        running
    }

    async fn serves(&self) {
        until("both directions serve", async || {
            let status = self.broker.status();
            status.connected() && status.consuming()
        })
        .await;
    }

    fn why_not_consuming(&self) -> String {
        match self.broker.status().consumer {
            LinkState::Connected => String::new(),
            LinkState::Disconnected { why } => why,
        }
    }

    async fn stop(self) {
        self.stop.send(()).expect("it runs until told");
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("it ends when told").expect("it does not panic");
        let status = self.broker.status();
        assert!(!status.connected() && !status.consuming(), "{status:?}");
        assert_eq!(self.broker.publish(&outgoing("late", "event.parked")).await, Published::Lost);
    }
}

/// The other side: what upstream systems, subscribers and operators do.
struct Peer {
    _connection: Connection,
    channel: Channel,
}

impl Peer {
    async fn connect(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("the broker is up");
        let channel = connection.create_channel().await.expect("a channel is free");
        let options = ConfirmSelectOptions::default();
        channel.confirm_select(options).await.expect("confirms are on");
        Self { _connection: connection, channel }
    }

    async fn declare(&self, queue: &str, kind: &'static str) {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        let declared = self.channel.queue_declare(queue.into(), options, arguments).await;
        declared.expect("guest may declare");
    }

    async fn subscribe(&self, queue: &str, key: &str) {
        self.declare(queue, "quorum").await;
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let bound = self.channel.queue_bind(queue.into(), OUTBOUND.into(), key.into(), options, arguments).await;
        bound.expect("guest may bind");
    }

    async fn delete(&self, queue: &str) {
        let deleted = self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
        deleted.expect("guest may delete");
    }

    async fn delete_exchange(&self, exchange: &str) {
        let deleted = self.channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await;
        deleted.expect("guest may delete");
    }

    async fn unbind(&self, queue: &str, exchange: &str, key: &str) {
        let unbound = self.channel.queue_unbind(queue.into(), exchange.into(), key.into(), FieldTable::default()).await;
        unbound.expect("guest may unbind");
    }

    async fn declare_exchange(&self, exchange: &str, kind: ExchangeKind) {
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declared = self.channel.exchange_declare(exchange.into(), kind, durable, FieldTable::default()).await;
        declared.expect("guest may declare");
    }

    /// Publishes an event that reaches a queue: `false` where the exchange or the way from it is not there. The peer is of no
    /// use after that.
    async fn reaches(&self, id: &str) -> bool {
        let properties = BasicProperties::default().with_delivery_mode(2).with_message_id(id.into());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let (exchange, key) = ("customer.lifecycle".into(), "customer.moved".into());
        match self.channel.basic_publish(exchange, key, options, id.as_bytes(), properties).await {
            Ok(sent) => matches!(sent.await, Ok(lapin::Confirmation::Ack(None))),
            Err(_) => false,
        }
    }

    async fn send(&self, id: &str) {
        let mut headers = FieldTable::default();
        headers.insert("ce-id".into(), AMQPValue::LongString(id.into()));
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("text/plain".into())
            .with_message_id(id.into())
            .with_headers(headers);
        let (exchange, key) = ("customer.lifecycle".into(), "customer.moved".into());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = self.channel.basic_publish(exchange, key, options, id.as_bytes(), properties);
        let confirmed = sent.await.expect("it is sent").await.expect("it is confirmed");
        assert_eq!(confirmed, lapin::Confirmation::Ack(None), "{id} is routed");
    }

    /// Publishes what must be routed; the code with which it came back, if it did.
    async fn publish(&self, key: &str, body: &str) -> Option<u16> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let exchange = "customer.lifecycle".into();
        let properties = BasicProperties::default().with_message_id(key.into());
        let sent = self.channel.basic_publish(exchange, key.into(), options, body.as_bytes(), properties);
        let confirmed = sent.await.expect("it is sent").await.expect("it is confirmed");
        assert!(matches!(confirmed, lapin::Confirmation::Ack(_)), "{confirmed:?}");
        if let lapin::Confirmation::Ack(Some(returned)) = confirmed { Some(returned.reply_code) } else { None }
    }

    /// Messages ready in a queue; those un-acked at a consumer do not count.
    async fn ready(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let found = self.channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        found.expect("the queue is there").message_count()
    }

    async fn get(&self, queue: &str) -> Option<lapin::message::Delivery> {
        let options = BasicGetOptions { no_ack: true };
        let got = self.channel.basic_get(queue.into(), options).await;
        got.expect("the queue is there").map(|got| got.delivery)
    }
}

/// A wire to a broker that can be cut.
struct Cable {
    url: String,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cable {
    /// `url` must be one of the tests' own: its host is an address.
    fn to(url: &str) -> Self {
        Self::carrying(url, carry)
    }

    /// A wire that loses each `basic.cancel` of the broker.
    fn without_cancels(url: &str) -> Self {
        Self::carrying(url, carry_without_cancels)
    }

    /// A wire whose way from the broker is `back`.
    fn carrying(url: &str, back: Carry) -> Self {
        let authority = url.split(['@', '/']).find(|part| part.starts_with("127.")).unwrap_or("127.0.0.1");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let here = listener.local_addr().expect("it is bound").to_string();
        let ends = Arc::new(Mutex::new(Vec::new()));
        let (kept, there) = (Arc::clone(&ends), authority.to_owned());
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.expect("the listener lives as long as the test");
                let far = TcpStream::connect(&there).expect("the broker is up");
                for (from, to, carry) in [(&near, &far, carry as Carry), (&far, &near, back)] {
                    let mut from = from.try_clone().expect("descriptors are left");
                    let mut to = to.try_clone().expect("descriptors are left");
                    kept.lock().expect("nobody panicked over it").push(from.try_clone().expect("descriptors are left"));
                    std::thread::spawn(move || {
                        let _ = carry(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        let url = url.replace(authority, &here);
        assert!(url.contains(&here), "{url}");
        Self { url, ends }
    }

    /// Breaks every connection through it without a farewell; new ones are let through.
    fn cut(&self) {
        for end in self.ends.lock().expect("nobody panicked over it").drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

/// Carries bytes one way until the wire ends.
type Carry = fn(&mut TcpStream, &mut TcpStream) -> std::io::Result<()>;

fn carry(from: &mut TcpStream, to: &mut TcpStream) -> std::io::Result<()> {
    std::io::copy(from, to).map(drop)
}

/// Carries the broker's frames but those of `basic.cancel`: AMQP 0-9-1, 2.3.5 (frames) and 1.8.3 (class 60, method 30).
fn carry_without_cancels(from: &mut TcpStream, to: &mut TcpStream) -> std::io::Result<()> {
    const METHOD: u8 = 1;
    const CANCEL: [u8; 4] = [0, 60, 0, 30];
    loop {
        let mut head = [0; 7];
        from.read_exact(&mut head)?;
        let size = u32::from_be_bytes(head[3..].try_into().expect("the size has four bytes"));
        // And the octet that ends a frame.
        let mut rest = vec![0; usize::try_from(size).expect("a frame is small") + 1];
        from.read_exact(&mut rest)?;
        if head[0] == METHOD && rest.starts_with(&CANCEL) {
            continue;
        }
        to.write_all(&[&head[..], &rest].concat())?;
    }
}

#[tokio::test]
async fn a_delivery_is_taken_whole_and_acked_once_it_is_stored() {
    let url = servers::fresh_vhost();
    let inbox = Inbox::default();
    let running = Running::up(settings(&url), &inbox).await;
    let peer = Peer::connect(&url).await;
    for id in ["e1", "e2", "e3"] {
        peer.send(id).await;
    }
    until("all are stored", async || inbox.stored().len() == 3).await;
    running.stop().await;
    // Unacknowledged messages would be back by now: the connection is closed.
    assert_eq!(peer.ready(INBOUND).await, 0);
    let stored = inbox.stored();
    let expected = Frame {
        body: b"e1".to_vec(),
        content_type: Some("text/plain".to_owned()),
        content_encoding: None,
        headers: BTreeMap::from([("ce-id".to_owned(), "e1".to_owned())]),
        message_id: Some("e1".to_owned()),
        exchange: "customer.lifecycle".to_owned(),
        routing_key: "customer.moved".to_owned(),
        properties: Properties::default(),
        redelivered: false,
    };
    assert_eq!(stored[0], expected);
    assert_eq!(stored.iter().map(id_of).collect::<Vec<_>>(), ["e1", "e2", "e3"]);
}

#[tokio::test]
async fn while_the_store_is_away_a_delivery_stays_with_us_and_is_offered_again() {
    let url = servers::fresh_vhost();
    let inbox = Inbox::default();
    inbox.0.away.store(true, Ordering::SeqCst);
    let running = Running::up(settings(&url), &inbox).await;
    let peer = Peer::connect(&url).await;
    peer.send("e1").await;
    until("it is offered a few times", async || inbox.offers_of("e1") >= 4).await;
    assert_eq!((inbox.stored().len(), peer.ready(INBOUND).await), (0, 0));
    inbox.0.away.store(false, Ordering::SeqCst);
    until("it is stored", async || inbox.stored().len() == 1).await;
    assert!(!inbox.stored()[0].redelivered, "it never went back to the broker");
    running.stop().await;
    assert_eq!(peer.ready(INBOUND).await, 0);
}

#[tokio::test]
async fn stopping_while_the_store_is_away_leaves_the_delivery_with_the_broker() {
    let url = servers::fresh_vhost();
    let inbox = Inbox::default();
    inbox.0.away.store(true, Ordering::SeqCst);
    let running = Running::up(settings(&url), &inbox).await;
    let peer = Peer::connect(&url).await;
    peer.send("e1").await;
    until("it is offered", async || inbox.offers_of("e1") >= 1).await;
    running.stop().await;
    until("it is back in the queue", async || peer.ready(INBOUND).await == 1).await;
    assert!(inbox.stored().is_empty());
}

#[tokio::test]
async fn what_was_not_acked_comes_again_after_the_connection_is_cut() {
    let url = servers::fresh_vhost();
    let cable = Cable::to(&url);
    let inbox = Inbox::default();
    inbox.0.held.store(true, Ordering::SeqCst);
    let running = Running::up(settings(&cable.url), &inbox).await;
    let peer = Peer::connect(&url).await;
    peer.send("e1").await;
    until("it is in hand", async || inbox.in_hand() == 1).await;
    cable.cut();
    until("it is offered again", async || inbox.offers_of("e1") == 2).await;
    inbox.0.held.store(false, Ordering::SeqCst);
    until("it is stored", async || inbox.stored().len() == 1).await;
    assert!(inbox.stored()[0].redelivered);
    running.stop().await;
    assert_eq!(peer.ready(INBOUND).await, 0);
    assert_eq!(inbox.stored().len(), 1, "the take that was cut off did not end");
}

#[tokio::test]
async fn stopping_waits_for_takes_in_flight_and_acks_them() {
    let url = servers::fresh_vhost();
    let inbox = Inbox::default();
    inbox.0.held.store(true, Ordering::SeqCst);
    let running = Running::up(settings(&url), &inbox).await;
    let peer = Peer::connect(&url).await;
    peer.send("e1").await;
    until("it is in hand", async || inbox.in_hand() == 1).await;
    let broker = running.broker.clone();
    let stopped = tokio::spawn(running.stop());
    // The publisher has nothing in flight, so it is down as soon as the wish has arrived.
    until("stopping has begun", async || !broker.status().connected()).await;
    inbox.0.held.store(false, Ordering::SeqCst);
    stopped.await.expect("it ends");
    assert_eq!((inbox.stored().len(), peer.ready(INBOUND).await), (1, 0));
}

#[tokio::test]
async fn never_more_deliveries_are_in_hand_than_the_prefetch_says() {
    let url = servers::fresh_vhost();
    let inbox = Inbox::default();
    inbox.0.held.store(true, Ordering::SeqCst);
    let five = BrokerSettings { prefetch: 5, ..settings(&url) };
    let running = Running::up(five, &inbox).await;
    let peer = Peer::connect(&url).await;
    for at in 0..50 {
        peer.send(&format!("e{at}")).await;
    }
    until("five are in hand and the others wait", async || inbox.in_hand() == 5 && peer.ready(INBOUND).await == 45)
        .await;
    inbox.0.held.store(false, Ordering::SeqCst);
    until("all are stored", async || inbox.stored().len() == 50).await;
    assert_eq!(inbox.0.peak.load(Ordering::SeqCst), 5);
    running.stop().await;
}

#[tokio::test]
async fn a_publish_to_a_bound_queue_is_confirmed_and_persistent() {
    let url = servers::fresh_vhost();
    let running = Running::up(settings(&url), &Inbox::default()).await;
    let peer = Peer::connect(&url).await;
    peer.subscribe("tickets", "heat_pump.*").await;
    let sent = outgoing("n1", "heat_pump.disconnected");
    assert_eq!(running.broker.publish(&sent).await, Published::Confirmed);
    let got = peer.get("tickets").await.expect("confirmed means that it is there");
    let properties = &got.properties;
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(properties.message_id().as_ref().map(ToString::to_string), Some("n1".to_owned()));
    let content_type = properties.content_type().as_ref().map(ToString::to_string);
    assert_eq!(content_type.as_deref(), Some(sent.content_type));
    assert_eq!((got.routing_key.as_str(), got.data), ("heat_pump.disconnected", sent.body));
    running.stop().await;
}

#[tokio::test]
async fn a_notice_nobody_subscribed_to_is_kept_in_the_unrouted_queue() {
    let url = servers::fresh_vhost();
    let running = Running::up(settings(&url), &Inbox::default()).await;
    let parked = outgoing("n1", "event.parked");
    assert_eq!(running.broker.publish(&parked).await, Published::Confirmed);
    let peer = Peer::connect(&url).await;
    let got = peer.get("podero-bridge.unrouted").await.expect("it is kept");
    assert_eq!(got.data, parked.body);
    running.stop().await;
}

/// Without an alternate exchange, exactly the unroutable publishes are returned.
#[tokio::test]
async fn exactly_the_unroutable_publishes_are_returned() {
    let url = servers::fresh_vhost();
    let peer = Peer::connect(&url).await;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let kind = ExchangeKind::Topic;
    let declared = peer.channel.exchange_declare(OUTBOUND.into(), kind, durable, FieldTable::default());
    declared.await.expect("guest may declare");
    peer.declare(INBOUND, "quorum").await;
    peer.subscribe("tickets", "heat_pump.*").await;
    let theirs = BrokerSettings { declare: false, ..settings(&url) };
    let running = Running::up(theirs, &Inbox::default()).await;
    // Interleaved and all at once: the broker acks in groups, and no return may be taken for a neighbour's.
    let broker = &running.broker;
    let mut publishes: FuturesUnordered<_> = (0..1_000)
        .map(|at| async move {
            let routable = at % 3 != 0;
            let key = if routable { "heat_pump.reconnected" } else { "event.parked" };
            (at, routable, broker.publish(&outgoing(&format!("n{at}"), key)).await)
        })
        .collect();
    while let Some((at, routable, published)) = publishes.next().await {
        let expected = if routable { Published::Confirmed } else { Published::Returned };
        assert_eq!(published, expected, "n{at}");
    }
    drop(publishes);
    running.stop().await;
}

#[tokio::test]
async fn an_inbound_queue_of_another_kind_is_named_and_does_not_stop_publishing() {
    let url = servers::fresh_vhost();
    let peer = Peer::connect(&url).await;
    peer.declare(INBOUND, "classic").await;
    let inbox = Inbox::default();
    let running = Running::start(settings(&url), &inbox);
    until("it says which queue", async || {
        let why = running.why_not_consuming();
        why.contains("queue `podero-bridge.inbound` exists with other properties") && why.contains("amqp.declare")
    })
    .await;
    until("publishing works", async || running.broker.status().connected()).await;
    let published = running.broker.publish(&outgoing("n1", "event.parked")).await;
    assert_eq!(published, Published::Confirmed);
    assert!(!running.broker.status().consuming());
    peer.delete(INBOUND).await;
    running.serves().await;
    peer.send("e1").await;
    until("it is stored", async || inbox.stored().len() == 1).await;
    running.stop().await;
}

#[tokio::test]
async fn a_queue_deleted_under_the_consumer_is_declared_again() {
    let url = servers::fresh_vhost();
    let inbox = Inbox::default();
    let running = Running::up(settings(&url), &inbox).await;
    let peer = Peer::connect(&url).await;
    peer.delete(INBOUND).await;
    until("it is noticed", async || !running.broker.status().consuming()).await;
    running.serves().await;
    peer.send("e1").await;
    until("it is stored", async || inbox.stored().len() == 1).await;
    running.stop().await;
}

/// Sends events, each until it reaches a queue.
async fn send_until_routed(url: &str, id: &str) {
    until("an event reaches the queue", async || Peer::connect(url).await.reaches(id).await).await;
}

/// An exchange or binding that is deleted is declared again and the consumer goes on.
#[tokio::test]
async fn a_deleted_exchange_or_binding_is_declared_again() {
    let url = servers::fresh_vhost();
    let inbox = Inbox::default();
    let running = Running::tended(settings(&url), &inbox).await;
    let peer = Peer::connect(&url).await;
    peer.send("before").await;
    until("it is stored", async || inbox.stored().len() == 1).await;
    // In hand while things are deleted: the consumer's channel must not be closed over it.
    inbox.0.held.store(true, Ordering::SeqCst);
    peer.send("held").await;
    until("it is in hand", async || inbox.in_hand() == 1).await;
    peer.delete_exchange("customer.lifecycle").await;
    send_until_routed(&url, "after the exchange").await;
    peer.unbind(INBOUND, "customer.lifecycle", "customer.#").await;
    send_until_routed(&url, "after the binding").await;
    inbox.0.held.store(false, Ordering::SeqCst);
    until("all are stored", async || inbox.stored().len() == 4).await;
    assert!(inbox.stored().iter().all(|frame| !frame.redelivered), "the consumer was never interrupted");
    peer.delete(INBOUND).await;
    peer.delete_exchange("customer.lifecycle").await;
    send_until_routed(&url, "after all of it").await;
    until("it is stored", async || inbox.distinct().contains("after all of it")).await;
    assert_eq!(inbox.stored().len(), 5);
    running.serves().await;
    running.stop().await;
}

/// RabbitMQ can lose a consumer without telling it, if somebody deletes the queue and declares it again at once.
#[tokio::test]
async fn a_consumer_that_is_lost_without_a_word_consumes_again() {
    let url = servers::fresh_vhost();
    let cable = Cable::without_cancels(&url);
    let inbox = Inbox::default();
    let running = Running::tended(settings(&cable.url), &inbox).await;
    let peer = Peer::connect(&url).await;
    peer.send("before").await;
    until("it is stored", async || inbox.stored().len() == 1).await;
    peer.delete(INBOUND).await;
    send_until_routed(&url, "after").await;
    until("it is stored", async || inbox.distinct().contains("after")).await;
    assert_eq!(inbox.stored().len(), 2);
    running.serves().await;
    running.stop().await;
}

#[tokio::test]
async fn an_exchange_of_another_kind_is_named_while_the_consumer_goes_on() {
    let url = servers::fresh_vhost();
    let inbox = Inbox::default();
    let running = Running::tended(settings(&url), &inbox).await;
    let peer = Peer::connect(&url).await;
    // The bridge may declare it again in between.
    until("another exchange stands", async || {
        let peer = Peer::connect(&url).await;
        peer.delete_exchange("customer.lifecycle").await;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let fanout = ExchangeKind::Fanout;
        let name = "customer.lifecycle".into();
        peer.channel.exchange_declare(name, fanout, durable, FieldTable::default()).await.is_ok()
    })
    .await;
    until("it says which exchange", async || {
        let why = running.why_not_consuming();
        why.contains("exchange `customer.lifecycle` exists with other properties") && why.contains("amqp.declare")
    })
    .await;
    let options = QueueBindOptions::default();
    let (queue, exchange) = (INBOUND.into(), "customer.lifecycle".into());
    peer.channel.queue_bind(queue, exchange, "".into(), options, FieldTable::default()).await.expect("guest may bind");
    peer.send("e1").await;
    until("it is stored", async || inbox.stored().len() == 1).await;
    peer.delete_exchange("customer.lifecycle").await;
    running.serves().await;
    send_until_routed(&url, "e2").await;
    until("it is stored", async || inbox.stored().len() == 2).await;
    running.stop().await;
}

#[tokio::test]
async fn an_exchange_that_is_not_ours_to_declare_is_missed_once_it_was_there() {
    let url = servers::fresh_vhost();
    let peer = Peer::connect(&url).await;
    peer.declare(INBOUND, "quorum").await;
    let theirs = BrokerSettings { declare: false, outbound_exchange: "amq.topic".to_owned(), ..settings(&url) };
    let running = Running::tended(theirs, &Inbox::default()).await;
    peer.declare_exchange("customer.lifecycle", ExchangeKind::Topic).await;
    // The bridge must have seen it before it can miss it.
    until("it is missed", async || {
        let peer = Peer::connect(&url).await;
        peer.declare_exchange("customer.lifecycle", ExchangeKind::Topic).await;
        for _ in 0..50 {
            tick().await;
        }
        peer.delete_exchange("customer.lifecycle").await;
        for _ in 0..50 {
            tick().await;
        }
        running.why_not_consuming().contains("the exchange customer.lifecycle is not there")
    })
    .await;
    peer.declare_exchange("customer.lifecycle", ExchangeKind::Topic).await;
    running.serves().await;
    running.stop().await;
}

/// An exchange that is deleted under the publisher is declared again, and no notice is lost.
#[tokio::test]
async fn a_deletion_under_the_publisher_loses_no_notice() {
    let url = servers::fresh_vhost();
    let running = Running::tended(settings(&url), &Inbox::default()).await;
    let broker = &running.broker;
    let confirmed = async |id: &str| {
        until("it is confirmed", async || broker.publish(&outgoing(id, "event.parked")).await == Published::Confirmed)
            .await;
    };
    let peer = Peer::connect(&url).await;
    let (exchange, queue) = ("podero.bridge.unrouted", "podero-bridge.unrouted");
    confirmed("n1").await;
    peer.unbind(queue, exchange, "").await;
    confirmed("n2").await;
    peer.delete_exchange(exchange).await;
    confirmed("n3").await;
    peer.delete_exchange(OUTBOUND).await;
    confirmed("n4").await;
    let mut kept = BTreeSet::new();
    while let Some(got) = peer.get(queue).await {
        kept.insert(got.properties.message_id().as_ref().map(ToString::to_string).expect("every notice has an id"));
    }
    assert_eq!(kept, ["n1", "n2", "n3", "n4"].map(str::to_owned).into());
    peer.delete(queue).await;
    confirmed("n5").await;
    until("it is kept", async || Peer::connect(&url).await.get(queue).await.is_some()).await;
    running.serves().await;
    running.stop().await;
}

#[tokio::test]
async fn a_missing_queue_that_is_not_ours_to_declare_is_waited_for() {
    let url = servers::fresh_vhost();
    let theirs = BrokerSettings { declare: false, outbound_exchange: "amq.topic".to_owned(), ..settings(&url) };
    let running = Running::start(theirs.clone(), &Inbox::default());
    until("it says which queue", async || {
        running.why_not_consuming().contains("queue `podero-bridge.inbound` does not exist")
    })
    .await;
    let checked = Broker::new(theirs, Clock::system()).check().await;
    assert!(checked.is_err_and(|error| error.why.contains(INBOUND)));
    Peer::connect(&url).await.declare(INBOUND, "quorum").await;
    running.serves().await;
    running.stop().await;
}

/// The queue is bound by the configured keys and a publisher can see what no key fits.
#[tokio::test]
async fn the_queue_is_bound_by_the_configured_keys() {
    let url = servers::fresh_vhost();
    let inbox = Inbox::default();
    let bindings = vec!["customer.#".to_owned(), "crm.*.changed".to_owned()];
    let settings = BrokerSettings { bindings, ..settings(&url) };
    let line = Broker::new(settings.clone(), Clock::system()).check().await.expect("the broker answers");
    assert!(line.contains("customer.#, crm.*.changed") && line.contains("customer.lifecycle"), "{line}");
    let running = Running::up(settings, &inbox).await;
    let peer = Peer::connect(&url).await;
    for (key, is_routed) in [
        ("crm.person.changed", true),
        ("customer.moved", true),
        ("crm.changed", false),
        ("billing.invoice.paid", false),
    ] {
        let returned = peer.publish(key, key).await;
        assert_eq!(returned.is_none(), is_routed, "{key}");
        // NO_ROUTE: the answer to a publisher's flag `mandatory`.
        assert!(is_routed || returned == Some(312), "{key}: {returned:?}");
    }
    until("what a key fits has come", async || inbox.stored().len() == 2).await;
    let mut keys: Vec<String> = inbox.stored().into_iter().map(|frame| frame.routing_key).collect();
    keys.sort();
    assert_eq!(keys, ["crm.person.changed", "customer.moved"]);
    running.stop().await;
}

#[tokio::test]
async fn check_tries_the_urls_in_turn_and_tells_no_password() {
    let url = servers::fresh_vhost();
    let check = async |urls: &[&str]| {
        let settings = BrokerSettings { urls: urls.iter().map(|url| (*url).to_owned()).collect(), ..settings(&url) };
        Broker::new(settings, Clock::system()).check().await
    };
    let nobody = "amqp://bridge:hunter2@127.0.0.1:1/prod";
    let line = check(&[nobody, &url]).await.expect("the second answers");
    assert!(line.contains(INBOUND) && line.contains(OUTBOUND), "{line}");

    let (scheme, rest) = url.split_once("://").expect("it is a URL");
    let host = rest.split_once('@').map_or(rest, |(_, host)| host);
    let wrong_password = format!("{scheme}://guest:hunter2@{host}");
    let tls_to_a_plain_port = format!("amqps://guest:hunter2@{host}");
    for url in [nobody, &wrong_password, &tls_to_a_plain_port, "hunter2"] {
        let error = check(&[url]).await.expect_err("it cannot connect").to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_is_given_up_and_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let silent = std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().expect("somebody connects");
        // Ends when the other side has closed: nothing is left behind there.
        std::io::copy(&mut peer, &mut std::io::sink()).expect("it reads to the end")
    });
    let broker = Broker::new(settings(&format!("amqp://{address}")), Clock::system());
    let error = broker.check().await.expect_err("nobody answers");
    assert!(error.why.contains(&address.to_string()), "{error}");
    until("the socket is closed", async || silent.is_finished()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_at_the_start_is_waited_for() {
    let server = tokio::task::spawn_blocking(|| {
        let server = servers::Broker::start();
        server.stop();
        server
    });
    let server = Arc::new(server.await.expect("it starts"));
    let inbox = Inbox::default();
    let running = Running::start(settings(&server.url()), &inbox);
    until("it says why", async || running.why_not_consuming().contains("127.0.0.1")).await;
    assert!(!running.broker.status().connected());
    assert_eq!(running.broker.publish(&outgoing("n1", "event.parked")).await, Published::Lost);
    let again = Arc::clone(&server);
    let started = tokio::task::spawn_blocking(move || again.start_again());
    started.await.expect("it starts");
    running.serves().await;
    assert_eq!(running.broker.publish(&outgoing("n1", "event.parked")).await, Published::Confirmed);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_short_of_memory_refuses_publishes_at_once_and_still_delivers() {
    let server = tokio::task::spawn_blocking(servers::Broker::start);
    let server = Arc::new(server.await.expect("it starts"));
    let url = server.url();
    let inbox = Inbox::default();
    let running = Running::up(settings(&url), &inbox).await;
    let peer = Peer::connect(&url).await;
    inbox.0.away.store(true, Ordering::SeqCst);
    peer.send("e1").await;
    until("it is in hand", async || inbox.offers_of("e1") >= 1).await;
    let limit = async |watermark: &'static str| {
        let server = Arc::clone(&server);
        let set = tokio::task::spawn_blocking(move || server.ctl(&["set_vm_memory_high_watermark", watermark]));
        set.await.expect("rabbitmqctl works");
    };
    limit("0").await;
    // The broker blocks a connection when it publishes, and says so then: this one is not confirmed in time.
    assert_eq!(running.broker.publish(&outgoing("n1", "event.parked")).await, Published::Lost);
    let status = running.broker.status();
    assert!(
        matches!(&status.publisher, LinkState::Disconnected { why } if why.contains("blocks publishers")),
        "{status:?}"
    );
    assert_eq!(running.broker.publish(&outgoing("n2", "event.parked")).await, Published::Lost);
    // The other connection is not blocked: events come in, and their acks go out.
    assert!(status.consuming());
    inbox.0.away.store(false, Ordering::SeqCst);
    until("it is stored", async || inbox.stored().len() == 1).await;
    limit("0.4").await;
    running.serves().await;
    assert_eq!(running.broker.publish(&outgoing("n3", "event.parked")).await, Published::Confirmed);
    running.stop().await;
    assert_eq!(peer.ready(INBOUND).await, 0);
}

/// Publishes until confirmed, as the outbox does; returns how often.
async fn publish_until_confirmed(broker: &Broker, id: String) -> usize {
    for attempt in 1.. {
        match broker.publish(&outgoing(&id, "heat_pump.disconnected")).await {
            Published::Confirmed => return attempt,
            Published::Lost | Published::Nacked => tick().await,
            Published::Returned => panic!("{id} is bound"),
        }
    }
    unreachable!("the loop ends by returning")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_under_load_loses_nothing_in_either_direction() {
    const EACH_WAY: usize = 500;
    const BEFORE: usize = 100;
    let server = tokio::task::spawn_blocking(servers::Broker::start);
    let server = Arc::new(server.await.expect("it starts"));
    let url = server.url();
    let inbox = Inbox::default();
    let running = Running::up(settings(&url), &inbox).await;
    let peer = Peer::connect(&url).await;
    peer.subscribe("tickets", "heat_pump.*").await;
    inbox.0.held.store(true, Ordering::SeqCst);
    for at in 0..EACH_WAY {
        peer.send(&format!("e{at}")).await;
    }
    drop(peer);

    for (round, end) in [servers::Broker::stop, servers::Broker::kill].into_iter().enumerate() {
        let confirmed = Arc::new(AtomicUsize::new(0));
        let (broker, count) = (running.broker.clone(), Arc::clone(&confirmed));
        let publishing = tokio::spawn(async move {
            let ids = (0..EACH_WAY / 2).map(|at| format!("n{round}-{at}"));
            let mut publishes =
                futures_util::stream::iter(ids).map(|id| publish_until_confirmed(&broker, id)).buffer_unordered(16);
            while publishes.next().await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        until("publishing is under way", async || confirmed.load(Ordering::SeqCst) >= BEFORE).await;
        // Takes are under way too when the broker goes: those in hand are cut off in the middle.
        inbox.0.held.store(round == 0, Ordering::SeqCst);
        let restarted = Arc::clone(&server);
        let restart = tokio::task::spawn_blocking(move || {
            end(&restarted);
            restarted.start_again();
        });
        restart.await.expect("it restarts");
        let published = tokio::time::timeout(PATIENCE, publishing).await;
        published.expect("nothing hangs").expect("every publish is confirmed in the end");
        running.serves().await;
    }
    until("all events have come in", async || inbox.distinct().len() == EACH_WAY).await;

    let peer = Peer::connect(&url).await;
    let mut arrived = BTreeSet::new();
    while let Some(notice) = peer.get("tickets").await {
        let id = notice.properties.message_id().as_ref().map(ToString::to_string);
        arrived.insert(id.expect("every notice has an id"));
    }
    assert_eq!(arrived.len(), EACH_WAY);
    running.stop().await;
    assert_eq!(peer.ready(INBOUND).await, 0);
}
