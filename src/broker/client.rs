//! The broker as the rest of the bridge sees it: two connections that are kept up, and a check of the topology.
//!
//! Before: [`super::settings`]. After: [`super::supervisor`] keeps each connection.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::delivery::Intake;
use super::error::BrokerError;
use super::outgoing::{OutgoingNotice, Publish, Published};
use super::settings::BrokerSettings;
use super::state::{BrokerShared, LinkRole, LinkState, Status};
use super::supervisor::Stop;
use super::{consumer, link, publisher, supervisor, tending, topology};
use crate::clock::Clock;

/// The broker as the rest of the bridge sees it. Cheap to clone; clones share their state. Disconnected until
/// [`Broker::run_publisher`] and [`Broker::run_consumer`] are polled.
#[derive(Clone)]
pub struct Broker(Arc<BrokerShared>);

impl Broker {
    /// A disconnected broker; nothing happens before it runs. A configuration without a URL has no broker, so
    /// an empty list asserts.
    pub fn new(settings: BrokerSettings, clock: Clock) -> Self {
        Self::tended(settings, clock, tending::EVERY)
    }

    /// The same, with an interval of the caller's between two checks of exchanges, queues and bindings.
    pub fn tended(settings: BrokerSettings, clock: Clock, tend_every: Duration) -> Self {
        assert!(!settings.urls.is_empty(), "without amqp.url there is no broker to make");
        let down = || LinkState::Disconnected { why: "not connected yet".to_owned() };
        let status = Status { publisher: down(), consumer: down() };
        let (status, handle) = (Mutex::new(status), Mutex::new(None));
        Self(Arc::new(BrokerShared { settings, clock, tend_every, status, handle }))
    }

    /// Keeps the connection for publishing up until `shutdown`, then ends it in good order: it waits, within bounds, for confirms
    /// in flight. Ends for no other reason.
    pub async fn run_publisher(&self, shutdown: impl Future<Output = ()>) {
        let serve = |link, stop| publisher::serve(&self.0, link, stop);
        Stop::at(shutdown, |stop| supervisor::keep(&self.0, LinkRole::Publisher, stop, serve)).await;
    }

    /// Keeps the connection for consuming up until `shutdown`, then ends it in good order: it waits, within bounds, for takes in
    /// flight. Ends for no other reason.
    pub async fn run_consumer<I: Intake>(&self, intake: I, shutdown: impl Future<Output = ()>) {
        let serve = |link, stop| consumer::serve(&self.0, &intake, link, stop);
        Stop::at(shutdown, |stop| supervisor::keep(&self.0, LinkRole::Consumer, stop, serve)).await;
    }

    /// The state of both connections now.
    pub fn status(&self) -> Status {
        self.0.status().clone()
    }

    /// Connects once, declares or verifies the whole topology and disconnects: a line for the operator, or the error. It need
    /// not run.
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
        Err(BrokerError::new(failures.join("; ")))
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
