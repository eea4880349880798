//! The driver's side of RabbitMQ: queues that are filled beforehand, so that publishing them is no part of what is measured.

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};

/// Limit of unconfirmed messages at once, for the program that fills a queue.
const UNCONFIRMED_MAX: usize = 1_000;

/// An open channel with confirms.
pub(crate) struct Bus {
    pub(crate) channel: Channel,
    _connection: Connection,
}

impl Bus {
    pub(crate) async fn connect(url: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { channel, _connection: connection })
    }

    /// A queue of the kind that the bridge declares for itself.
    pub(crate) async fn quorum_queue(&self, name: &str) -> anyhow::Result<()> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        self.channel.queue_declare(name.into(), options, arguments).await?;
        Ok(())
    }

    /// Sends what comes out on `exchange` under `key` to a queue.
    pub(crate) async fn bind(&self, queue: &str, exchange: &str, key: &str) -> anyhow::Result<()> {
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        // As the bridge declares it.
        let mut arguments = FieldTable::default();
        arguments.insert("alternate-exchange".into(), AMQPValue::LongString(format!("{exchange}.unrouted").into()));
        self.channel.exchange_declare(exchange.into(), ExchangeKind::Topic, durable, arguments).await?;
        let options = QueueBindOptions::default();
        self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await?;
        Ok(())
    }

    pub(crate) async fn purge(&self, queue: &str) -> anyhow::Result<()> {
        self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await?;
        Ok(())
    }

    /// Publishes bodies to an exchange (with the name "", to the queue of that name), and returns when all are confirmed.
    pub(crate) async fn publish(
        &self,
        (exchange, key): (&str, &str),
        bodies: impl Iterator<Item = Vec<u8>>,
        at_once: usize,
    ) -> anyhow::Result<()> {
        let persistent =
            BasicProperties::default().with_delivery_mode(2).with_content_type("application/cloudevents+json".into());
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let mut confirms = FuturesUnordered::new();
        for body in bodies {
            let confirm =
                self.channel.basic_publish(exchange.into(), key.into(), options, &body, persistent.clone()).await?;
            confirms.push(confirm);
            while confirms.len() >= at_once {
                check(confirms.next().await.context("it is not empty")??)?;
            }
        }
        while let Some(confirmation) = confirms.next().await {
            check(confirmation?)?;
        }
        Ok(())
    }

    /// Fills a queue.
    pub(crate) async fn fill(&self, to: (&str, &str), bodies: impl Iterator<Item = Vec<u8>>) -> anyhow::Result<()> {
        self.publish(to, bodies, UNCONFIRMED_MAX).await
    }
}

fn check(confirmation: lapin::Confirmation) -> anyhow::Result<()> {
    ensure!(
        matches!(confirmation, lapin::Confirmation::Ack(None)),
        "a message was returned or refused: {confirmation:?}"
    );
    Ok(())
}
