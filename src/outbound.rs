//! Stage 4: publishes notices. The oldest pending notice of each ordering key -> publish -> mark. The only publisher.
//!
//! A notice counts as published when its target confirmed it: RabbitMQ by a publisher confirm, a webhook by a 2xx. After a
//! crash in between it is published again under the same id. A notice that cannot be delivered is retried with back-off for as
//! long as it takes, and shown; it holds back only the notices with its own ordering key.
//!
//! Before: the outbox, by [`crate::store`]. After: [`crate::broker`], or the webhook's receiver.

use std::time::Duration;

use cloudevents::{EventBuilder, EventBuilderV10};
use futures_util::FutureExt;
use futures_util::future::join_all;
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};

use crate::broker::{OutgoingNotice, Publish, Published};
use crate::clock::Clock;
use crate::domain::notice::Notice;
use crate::domain::retry::RetrySchedule;
use crate::metrics::Metrics;
use crate::pump::{self, Step, failed};
use crate::store::{DueNotice, PublishOutcome, Store, Target};
use crate::tls;

/// CloudEvents `source` of all notices of the bridge.
pub const SOURCE: &str = "podero-bridge";

/// Media type of a notice.
const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Limit of the notices under way at once to the broker, of each publisher: enough to keep busy a broker that confirms.
const TO_BROKER_AT_ONCE: usize = 256;

/// Limit of the notices under way at once to the webhook's receiver, each a request.
const TO_WEBHOOK_AT_ONCE: usize = 128;

/// Lease of a claimed notice, longer than any attempt takes. A mark that the store does not take is offered again meanwhile. A notice
/// that was never marked is claimed again after the lease; if this process alone works on the store, a crash frees it at once.
const LEASE: Duration = Duration::from_secs(60);

/// Timeout of a webhook's receiver. Standard Webhooks advises 15 to 30 s.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(20);

/// Back-off of a notice that its receiver does not accept. Not the retry policy of events.
const SCHEDULE: RetrySchedule = RetrySchedule { initial: Duration::from_secs(1), max: Duration::from_secs(5 * 60) };

/// Ceiling of a notice's due time: the longest back-off, and longer than a lease.
pub const WAIT_MAX: Duration = SCHEDULE.max;

/// Delivers notices to one target.
pub trait Deliver: Send + Sync {
    /// The target.
    const TARGET: Target;
    /// Limit of notices under way at once.
    const AT_ONCE: usize;
    /// `true` if an attempt has any prospect now. Otherwise nothing is tried: the back-off of each notice is for faults of that
    /// notice, and would keep it waiting for minutes after the way is free again.
    fn is_open(&self) -> bool {
        true
    }
    /// One attempt. Never panics, never retries by itself.
    fn deliver(&self, notice: &Notice, body: Vec<u8>) -> impl Future<Output = Delivered> + Send;
}

/// The result of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// Confirmed.
    Yes,
    /// Not confirmed, with the reason.
    No(&'static str),
}

/// The publisher of one target.
pub struct Publisher<D> {
    /// Holds the outbox.
    pub store: Store,
    /// The way out.
    pub deliver: D,
    /// Time and jitter.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
}

impl<D: Deliver> Publisher<D> {
    /// Publishes what is due.
    pub async fn step(&self) -> Step {
        if !self.deliver.is_open() {
            return Step::Idle;
        }
        let until = self.clock.now().plus(LEASE);
        let due = match self.store.due_notices(D::TARGET, D::AT_ONCE, LEASE).await {
            Ok(due) if due.is_empty() => return Step::Idle,
            Ok(due) => due,
            Err(error) => return failed!(error, "due notices could not be claimed"),
        };
        let outcomes = join_all(due.iter().map(|notice| self.publish(notice))).await;
        let any_told = outcomes.iter().any(|(_, outcome)| *outcome == PublishOutcome::Published);
        let marked = pump::offer(&self.clock, until, (&self.store, outcomes), |(store, outcomes)| {
            store.mark(D::TARGET, outcomes.clone()).boxed()
        });
        if let Err(error) = marked.await {
            return failed!(error, "published notices could not be marked; they will be sent again");
        }
        // No notice went out: the next look can wait for the timer.
        if any_told { Step::Busy } else { Step::Idle }
    }

    async fn publish(&self, due: &DueNotice) -> (uuid::Uuid, PublishOutcome) {
        let notice = &due.notice;
        let outcome = match self.deliver.deliver(notice, body(notice)).await {
            Delivered::Yes => {
                self.metrics.notices_published.with_label_values(&[notice.topic.name()]).inc();
                tracing::info!(notice.id = %notice.id, notice.type = notice.topic.name(), "a notice was published");
                PublishOutcome::Published
            }
            Delivered::No(why) => {
                if why == RETURNED {
                    self.metrics.notices_returned.inc();
                }
                tracing::debug!(notice.id = %notice.id, why, "a notice was not confirmed");
                let delay = SCHEDULE.delay(due.failures.saturating_add(1), self.clock.jitter());
                PublishOutcome::Failed { at: self.clock.now().plus(delay), why }
            }
        };
        (notice.id, outcome)
    }
}

/// The CloudEvent, in the structured JSON format.
pub fn body(notice: &Notice) -> Vec<u8> {
    let event = EventBuilderV10::new()
        .id(notice.id.to_string())
        .source(SOURCE)
        .ty(notice.topic.name())
        .subject(notice.subject.clone())
        .time(notice.time.to_chrono())
        .data("application/json", notice.data.clone())
        .build()
        .expect("id, source and type are given");
    serde_json::to_vec(&event).expect("a CloudEvent has only serialisable fields")
}

const RETURNED: &str = "returned: no queue is bound for it";

/// Delivers to the outbound exchange.
pub struct ToBroker<B>(
    /// The connection.
    pub B,
);

impl<B: Publish> Deliver for ToBroker<B> {
    const TARGET: Target = Target::Amqp;
    const AT_ONCE: usize = TO_BROKER_AT_ONCE;

    fn is_open(&self) -> bool {
        self.0.is_open()
    }

    async fn deliver(&self, notice: &Notice, body: Vec<u8>) -> Delivered {
        let outgoing = OutgoingNotice {
            id: notice.id.to_string(),
            routing_key: notice.topic.name().to_owned(),
            content_type: CONTENT_TYPE,
            body,
        };
        match self.0.publish(&outgoing).await {
            Published::Confirmed => Delivered::Yes,
            Published::Returned => Delivered::No(RETURNED),
            Published::Nacked => Delivered::No("nacked by the broker"),
            Published::Lost => Delivered::No("no confirm: the connection was away or lost"),
        }
    }
}

/// Delivers to a signed webhook.
pub struct ToWebhook {
    client: reqwest::Client,
    url: String,
    signer: Webhook,
    clock: Clock,
}

impl ToWebhook {
    /// `secret` is a Standard Webhooks secret (`whsec_…`); the configuration has checked it. `proxy` is the URL of a forward
    /// proxy; no proxy is taken from the environment or the system.
    pub fn new(url: String, secret: &str, proxy: Option<&str>, clock: Clock) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(WEBHOOK_TIMEOUT)
            // A redirect would carry the signed body to an address that is not configured.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("podero-bridge/", env!("CARGO_PKG_VERSION")))
            // A proxy that the environment names is not meant for the bridge.
            .no_proxy();
        let client = match proxy {
            // The error would show the URL, which may hold a password.
            Some(proxy) => {
                client.proxy(reqwest::Proxy::all(proxy).map_err(|_| anyhow::anyhow!("outbound.proxy is unusable"))?)
            }
            None => client,
        };
        let client = client.build()?;
        Ok(Self { client, url, signer: Webhook::new(secret)?, clock })
    }
}

impl Deliver for ToWebhook {
    const TARGET: Target = Target::Webhook;
    const AT_ONCE: usize = TO_WEBHOOK_AT_ONCE;

    async fn deliver(&self, notice: &Notice, body: Vec<u8>) -> Delivered {
        let id = notice.id.to_string();
        let timestamp = self.clock.now().micros() / 1_000_000;
        let Ok(signature) = self.signer.sign(&id, timestamp, &body) else { return Delivered::No("not signable") };
        let request = self
            .client
            .post(&self.url)
            .header("content-type", CONTENT_TYPE)
            // Only the status of the answer is read; a receiver need not pack it.
            .header("accept-encoding", "identity")
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, timestamp.to_string())
            .header(HEADER_WEBHOOK_SIGNATURE, signature)
            .body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Delivered::Yes,
            Ok(_) => Delivered::No("the receiver did not answer 2xx"),
            Err(error) if tls::is_plain_port(&error) => Delivered::No(tls::PLAIN_PORT),
            Err(error) if error.is_timeout() => Delivered::No("the receiver did not answer in time"),
            Err(_) => Delivered::No("the receiver could not be reached"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::notice::Topic;
    use serde_json::{Value, json};

    #[test]
    fn a_notice_goes_out_as_a_cloud_event_under_its_own_id() {
        let notice = Notice {
            id: uuid::Uuid::from_u128(7),
            topic: Topic::CustomerProvisioned,
            order_key: "customer/C-1".into(),
            subject: "C-1".into(),
            time: Timestamp::parse("2026-10-01T12:00:00Z").expect("valid"),
            data: json!({"customer_id": "C-1"}),
        };
        let sent: Value = serde_json::from_slice(&body(&notice)).expect("JSON");
        assert_eq!(sent["specversion"], "1.0");
        assert_eq!(sent["id"], notice.id.to_string());
        assert_eq!(sent["type"], "customer.provisioned");
        assert_eq!(sent["source"], SOURCE);
        assert_eq!(sent["subject"], "C-1");
        assert_eq!(sent["time"], "2026-10-01T12:00:00Z");
        assert_eq!(sent["datacontenttype"], "application/json");
        assert_eq!(sent["data"], notice.data);
    }
}
