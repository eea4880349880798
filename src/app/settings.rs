//! The configuration in the words of the tools.
//!
//! Nothing is decided here: a setting is named once in the configuration, and once where it acts.
//!
//! Before: [`crate::config`]. After: [`crate::podero`], [`crate::broker`] and [`crate::store`].

use std::time::Duration;

use super::listeners::OpenSandbox;
use crate::config::{Account, Amqp, Config};
use crate::domain::verdict;
use crate::store::Target;
use crate::{apply, broker, outbound, podero, store};

/// The routing keys of events about the team.
const TEAM_BINDING: &str = "team.#";

/// Receivers of the bridge's outgoing events.
pub(super) fn targets(config: &Config) -> Vec<Target> {
    let amqp = config.amqp.as_ref().map(|_| Target::Amqp);
    let webhook = config.outbound.webhook.as_ref().map(|_| Target::Webhook);
    amqp.into_iter().chain(webhook).collect()
}

/// Limits, by the settings, of how far ahead a due time can lie. The first poll of a new user is an interval away, like every
/// other poll.
pub(super) fn ceilings(config: &Config, call_time_max: Duration) -> store::Ceilings {
    store::Ceilings {
        work: config
            .policy
            .schedule
            .max
            .max(verdict::BUSY_DELAY_MAX)
            .max(config.policy.doubt_pause)
            .max(apply::LEASE_MAX),
        notice: outbound::WAIT_MAX,
        poll: config.watch.policy.interval.max(call_time_max),
        sign_up: config.policy.give_up_after,
    }
}

/// The settings of the Podero client: the account, or the sandbox's own.
pub fn podero(config: &Config, sandbox: Option<&OpenSandbox>) -> anyhow::Result<podero::Settings> {
    let (base_url, org_id, client_id, client_secret) = match (sandbox, &config.podero.account) {
        (Some(OpenSandbox { sandbox, listener }), _) => {
            let account = sandbox.account();
            (
                format!("http://{}", listener.address),
                account.org_id,
                account.client_id.clone(),
                account.client_secret.clone(),
            )
        }
        (None, Account::Podero { base_url, org_id, client_id, client_secret }) => {
            (base_url.clone(), *org_id, client_id.clone(), client_secret.expose().to_owned())
        }
        (None, Account::Sandbox) => anyhow::bail!("there is no Podero account, and the sandbox does not run"),
    };
    // The sandbox is on this machine.
    let proxy = config.podero.proxy.as_ref().filter(|_| sandbox.is_none());
    Ok(podero::Settings {
        base_url,
        org_id,
        client_id,
        client_secret,
        proxy: proxy.map(|proxy| proxy.expose().to_owned()),
        timeout: config.podero.timeout,
        max_in_flight: config.podero.max_in_flight,
        requests_per_second: config.podero.requests_per_second,
    })
}

/// The settings of the broker's connection.
///
/// With `team.enabled` the queue is bound for the events of the team, too.
pub fn broker(amqp: &Amqp, has_team: bool) -> broker::BrokerSettings {
    let is_bound = amqp.bindings.iter().any(|key| key == TEAM_BINDING || key == "#");
    let of_team = (has_team && !is_bound).then(|| TEAM_BINDING.to_owned());
    broker::BrokerSettings {
        urls: amqp.urls.iter().map(|url| url.expose().to_owned()).collect(),
        inbound_exchange: amqp.inbound_exchange.clone(),
        inbound_queue: amqp.inbound_queue.clone(),
        bindings: amqp.bindings.iter().cloned().chain(of_team).collect(),
        outbound_exchange: amqp.outbound_exchange.clone(),
        declare: amqp.declare,
        prefetch: amqp.prefetch,
    }
}
