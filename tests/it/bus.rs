//! The other end of the bus: what a billing system publishes with and a ticketing tool listens with.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use serde_json::Value;

/// A connection of another program.
pub struct Bus {
    connection: Connection,
    channel: Channel,
}

/// Something that came from the bridge.
#[derive(Debug, Clone)]
pub struct Heard {
    pub routing_key: String,
    pub message_id: String,
    pub content_type: String,
    pub is_persistent: bool,
    pub event: Value,
}

impl Bus {
    pub async fn connect(url: &str) -> Self {
        let connection =
            Connection::connect(url, ConnectionProperties::default()).await.expect("the test's broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Self { connection, channel }
    }

    /// Publishes an event as a billing system would, and waits for the broker's confirm.
    pub async fn publish(&self, routing_key: &str, content_type: &str, body: &[u8]) {
        self.publish_with(routing_key, BasicProperties::default().with_content_type(content_type.into()), body).await;
    }

    /// The same with properties of the sender's own.
    pub async fn publish_with(&self, routing_key: &str, properties: BasicProperties, body: &[u8]) {
        self.channel
            .basic_publish(
                "customer.lifecycle".into(),
                routing_key.into(),
                BasicPublishOptions { mandatory: true, ..Default::default() },
                body,
                properties.with_delivery_mode(2),
            )
            .await
            .expect("published")
            .await
            .expect("confirmed");
    }

    /// Publishes a CloudEvent under its own type.
    pub async fn publish_event(&self, event: &Value) {
        let key = event["type"].as_str().expect("a type");
        self.publish(key, "application/cloudevents+json", event.to_string().as_bytes()).await;
    }

    /// Publishes an event once more to an exchange of the bridge's own.
    pub async fn publish_to(&self, exchange: &str, event: &Value) {
        let key = event["type"].as_str().expect("a type");
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let body = event.to_string();
        let published = self.channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties);
        published.await.expect("published").await.expect("confirmed");
    }

    /// Consumers of a queue; none of one that is not there yet.
    pub async fn consumers(&self, queue: &str) -> u32 {
        // A refusal closes the channel.
        let channel = self.connection.create_channel().await.expect("a channel");
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let declared = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        declared.map_or(0, |queue| queue.consumer_count())
    }

    /// Messages of a queue that no consumer has in hand.
    pub async fn ready(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let declared = self.channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        declared.expect("the queue is there").message_count()
    }

    /// Listens to everything that the bridge says from now on.
    pub async fn listen(&self, keys: &[&str]) -> Listener {
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = self.channel.queue_declare("".into(), options, FieldTable::default()).await.expect("a queue");
        let name = queue.name().clone();
        for key in keys {
            self.channel
                .queue_bind(
                    name.clone(),
                    "podero.bridge".into(),
                    (*key).into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await
                .expect("the bridge has declared its exchange");
        }
        let consumer = self
            .channel
            .basic_consume(name, "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await
            .expect("a consumer");
        Listener(consumer)
    }
}

/// A queue of another listener.
pub struct Listener(Consumer);

impl Listener {
    /// The next event; `None` when none comes within `patience`.
    pub async fn next(&mut self, patience: Duration) -> Option<Heard> {
        let delivery = tokio::time::timeout(patience, self.0.next()).await.ok()??.expect("a delivery");
        delivery.ack(BasicAckOptions::default()).await.expect("acked");
        let text = |short: &Option<lapin::types::ShortString>| short.as_ref().map_or("", |s| s.as_str()).to_owned();
        Some(Heard {
            routing_key: delivery.routing_key.as_str().to_owned(),
            message_id: text(delivery.properties.message_id()),
            content_type: text(delivery.properties.content_type()),
            is_persistent: *delivery.properties.delivery_mode() == Some(2),
            event: serde_json::from_slice(&delivery.data).expect("JSON"),
        })
    }
}

/// A durable queue for everything that the bridge says: it outlives connections, and the broker's own ends.
pub struct Ear {
    url: String,
}

impl Ear {
    const QUEUE: &str = "a-ticketing-tool";

    /// The bridge must have declared its exchange.
    pub async fn open(url: &str) -> Self {
        let bus = Bus::connect(url).await;
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), lapin::types::AMQPValue::LongString("quorum".into()));
        bus.channel.queue_declare(Self::QUEUE.into(), options, arguments).await.expect("a queue");
        let bound = bus.channel.queue_bind(
            Self::QUEUE.into(),
            "podero.bridge".into(),
            "#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.expect("the bridge has declared its exchange");
        Self { url: url.to_owned() }
    }

    /// Everything that came, and how often each id did.
    pub async fn heard(&self) -> BTreeMap<String, usize> {
        let bus = Bus::connect(&self.url).await;
        let mut heard = BTreeMap::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(message) = bus.channel.basic_get(Self::QUEUE.into(), options).await.expect("the queue is there")
        {
            let id = message.delivery.properties.message_id().as_ref().map_or("", |id| id.as_str()).to_owned();
            *heard.entry(id).or_default() += 1;
        }
        heard
    }
}
