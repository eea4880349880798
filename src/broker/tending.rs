//! Looks after exchanges, queues and bindings while a connection serves: it notices those that are deleted
//! under the bridge, and declares them again where `amqp.declare` allows.
//!
//! A queue that is deleted cancels its consumer, and a publish to a missing exchange closes its channel: both are noticed at
//! once, and the supervisor sets everything up again. No event reports a deleted inbound exchange or binding, or a deleted
//! place for unrouted notices; so all of it is declared again at an interval. AMQP does not say whether a declaration made
//! something, nor shows bindings: exchanges and queues are looked for first, so that the log can name the missing ones.
//!
//! RabbitMQ can lose a consumer without telling it, if somebody deletes the queue and declares it again at once. The messages then stay
//! in the queue, and the connection would wait for ever. RabbitMQ's reply to a declaration counts messages and consumers: messages
//! and no consumer mean that ours is lost. As long as another replica consumes, no message waits.
//!
//! It works on channels of its own: an error there ends neither the consumer nor the publisher.
//!
//! Before: the topology. After: the status that `/readyz` shows.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::error::BrokerError;
use super::link::Link;
use super::state::{BrokerShared, LinkRole, LinkState};
use super::supervisor::{self, SET_UP_WITHIN};
use super::topology::{self, Witness};
use crate::pump;

/// Interval between two checks of the topology. A deleted exchange is back within it; a check is a dozen small requests.
pub(super) const EVERY: Duration = Duration::from_secs(30);
/// Delay between two checks, however many publishes are returned meanwhile.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Checks the topology of `role` again and again; sooner when `hint` says that something may be missing. Ends with what
/// only a new connection mends; else it is dropped with the connection.
pub(super) async fn tend(inner: &BrokerShared, role: LinkRole, link: &Link, hint: &Notify) -> BrokerError {
    let every = inner.tend_every;
    let mut witness = Witness::default();
    let mut told: Option<BrokerError> = None;
    loop {
        let Ok(checked) = timeout(SET_UP_WITHIN, check(inner, role, link, &mut witness)).await else { continue };
        if let Some(lost) = witness.lost_consumer(link) {
            return lost;
        }
        match checked {
            Ok(()) if told.take().is_some() && is_serving(inner, role) => supervisor::up(inner, role, link),
            Ok(()) => {}
            // The supervisor deals with a connection that is lost.
            Err(_) if !link.is_open() => {}
            Err(error) => {
                if told.as_ref() != Some(&error) {
                    tracing::warn!(broker.role = role.name(), reason = %error, "something is wrong at the broker");
                }
                // Noted each time: the broker may have unblocked the publisher since, which shows it as connected.
                inner.note(role, LinkState::Disconnected { why: error.why.clone() });
                told = Some(error);
            }
        }
        let first = AGAIN_AFTER.min(every);
        pump::sleep(first).await;
        tokio::select! {
            () = hint.notified() => {}
            () = pump::sleep(every.saturating_sub(first)) => {}
        }
    }
}

async fn check(inner: &BrokerShared, role: LinkRole, link: &Link, witness: &mut Witness) -> Result<(), BrokerError> {
    match role {
        LinkRole::Consumer => topology::tend_inbound(link, &inner.settings, witness).await,
        LinkRole::Publisher => topology::tend_outbound(link, &inner.settings).await,
    }
}

/// A publisher that the broker blocks reports so itself.
fn is_serving(inner: &BrokerShared, role: LinkRole) -> bool {
    match role {
        LinkRole::Consumer => true,
        LinkRole::Publisher => inner.handle().is_some(),
    }
}
