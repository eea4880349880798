//! Section by section: which values are allowed, and which fit together. Reads nothing itself.
//!
//! A section is `None` only after a problem was written down.
//!
//! Before: [`crate::config`]'s reader and rules. After: [`crate::config::Config::load`].

use std::time::Duration;

use super::reader::{Reader, default_text};
use super::words::{Language, LogFormat};
use super::*;
use crate::domain::alert::{Cause, Severities, Severity, WatchPolicy};
use crate::domain::brake::Share;
use crate::domain::plan::{ChurnDelete, OldBuilding, OldHeatPumps};

const SEVERITIES: &[(&str, Severity)] = &[
    ("info", Severity::Info),
    ("warning", Severity::Warning),
    ("error", Severity::Error),
    ("critical", Severity::Critical),
];

/// A region is no address: the shortest ZIP codes have four characters.
const REGION_CHARS_MAX: u32 = 3;

/// Each is remembered for each pump; whoever is lost more often within a window is unstable without a doubt.
const FLAP_LOSSES_MAX: u32 = 100;

/// Limit of `churn.brake_count`: above it the brake would hold nobody, and its count would be no small table.
const BRAKE_COUNT_MAX: u64 = 1_000_000;

/// Limit of `churn.brake_window`: each admitted churn is remembered for as long.
const BRAKE_WINDOW_MAX: Duration = Duration::from_secs(30 * 86_400);

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// Longest of any waiting time: no rule of this bridge looks further than ten years.
const DURATION_MAX: Duration = Duration::from_secs(10 * 31_557_600);

/// Largest backlog that can be allowed: beyond it one machine's disk is not what it would be kept on.
const BACKLOG_MAX: u64 = 100_000_000;

/// All sections. Every one is read before the first missing one ends it, so that all problems are found.
pub(super) fn read(r: &mut Reader, is_sandbox: bool) -> Option<Config> {
    let http = http(r);
    let admin = admin(r, &http);
    let store = store(r, true);
    let podero = podero(r, is_sandbox);
    let retry = retry(r);
    let onboarding = onboarding(r);
    let moving = moving(r);
    let churn = churn(r);
    let watch = watch(r);
    let sources = sources::read(r, &http, is_sandbox);
    let amqp = amqp(r, &sources);
    refuse_deaf(r, &http, &sources);
    let sandbox = sandbox(r);
    let outbound = outbound(r);
    let log = log(r);
    let podero = podero?;
    Some(Config {
        http,
        admin,
        store,
        amqp,
        podero,
        retry,
        onboarding,
        moving,
        churn,
        watch,
        sources,
        sandbox,
        outbound,
        log,
    })
}

/// Those that tell what an event of a file is, and where it goes.
pub(super) fn import(r: &mut Reader) -> Import {
    let http = http(r);
    let store = store(r, true);
    let sources = sources::read(r, &http, false);
    Import { store, http, sources }
}

fn http(r: &mut Reader) -> Http {
    Http {
        listen: r.value("http.listen", &rules::address()),
        body_max: r.value("http.body_max", &rules::size(1_024, BODY_BYTES_MAX)),
        batch_max: r.value("http.batch_max", &rules::whole(1, 10_000)),
        trusted_proxies: r.value("http.trusted_proxies", &rules::networks()),
    }
}

fn admin(r: &mut Reader, http: &Http) -> Admin {
    let listen = r.value("admin.listen", &rules::address());
    let token = if is_loopback(listen) {
        r.secret("admin.token", &rules::token())
    } else {
        r.required_secret("admin.token", &rules::token(), "because admin.listen is not loopback")
    };
    if r.is_sound(&["http.listen", "admin.listen"]) && listen == http.listen && listen.port() != 0 {
        let hint = "the operator's door needs an address of its own: this one is http.listen";
        r.refuse("admin.listen", listen.to_string(), hint);
    }
    let trusted_proxies = r.value("admin.trusted_proxies", &rules::networks());
    Admin { listen, token, trusted_proxies }
}

/// Without `with_key` the erasure key is left alone.
pub(super) fn store(r: &mut Reader, with_key: bool) -> Store {
    let url = r.secret("store.url", &rules::store_url());
    Store {
        is_default: url.is_none(),
        url: url.unwrap_or_else(|| Secret::new(default_text("store.url"))),
        backlog_max: r.value("store.backlog_max", &rules::whole(1, BACKLOG_MAX)),
        retention: Some(r.value("store.retention", &rules::duration(Duration::ZERO, DURATION_MAX)))
            .filter(|retention| !retention.is_zero()),
        erasure_key: with_key.then(|| r.secret("store.erasure_key", &rules::token())).flatten(),
    }
}

fn amqp(r: &mut Reader, sources: &[Source]) -> Option<Amqp> {
    let urls = r.secrets("amqp.url", rules::amqp_url).now().to_vec();
    let inbound_exchange = r.value("amqp.inbound_exchange", &rules::amqp_name());
    let inbound_queue = r.value("amqp.inbound_queue", &rules::amqp_name());
    let bindings = r.value("amqp.bindings", &rules::amqp_bindings());
    let outbound_exchange = r.value("amqp.outbound_exchange", &rules::amqp_name());
    let declare = r.value("amqp.declare", &rules::flag());
    let prefetch = r.value("amqp.prefetch", &rules::whole(1, u16::MAX));
    let source = r.value("amqp.source", &rules::source_name());
    if inbound_exchange == outbound_exchange {
        // The inbound queue is bound with customer.#, which our own customer.* notices match.
        let hint = "must differ from amqp.inbound_exchange, or the bridge would receive its own events";
        r.refuse("amqp.outbound_exchange", format!("{outbound_exchange:?}"), hint);
    }
    let is_configured = sources.iter().any(|known| known.name == source) || r.labels().contains(&source);
    if r.is_given("amqp.source") && r.is_sound(&["amqp.source"]) && !is_configured {
        r.refuse("amqp.source", format!("{source:?}"), "allowed: the name of a [[source]]");
    }
    let amqp = Amqp { urls, inbound_exchange, inbound_queue, bindings, outbound_exchange, declare, prefetch, source };
    (!amqp.urls.is_empty()).then_some(amqp)
}

fn podero(r: &mut Reader, is_sandbox: bool) -> Option<Podero> {
    let base_url = r.value("podero.base_url", &rules::base_url());
    let (org_id, client_id, client_secret) = (rules::uuid(), rules::client_id(), rules::filled());
    let account = if is_sandbox {
        // One file serves both ways of starting, so an account is checked here, and left alone.
        r.optional("podero.org_id", &org_id);
        r.optional("podero.client_id", &client_id);
        r.secret("podero.client_secret", &client_secret);
        Some(Account::Sandbox)
    } else {
        let when = "without --sandbox";
        let org_id = r.required("podero.org_id", &org_id, when);
        let client_id = r.required("podero.client_id", &client_id, when);
        let client_secret = r.required_secret("podero.client_secret", &client_secret, when);
        match (org_id, client_id, client_secret) {
            (Some(org_id), Some(client_id), Some(client_secret)) => {
                Some(Account::Podero { base_url, org_id, client_id, client_secret })
            }
            (_, _, _) => None,
        }
    };
    let timeout = r.value("podero.timeout", &rules::duration(TIMEOUT_MIN, TIMEOUT_MAX));
    let max_in_flight = r.value("podero.max_in_flight", &rules::whole(1, 4_096));
    let requests_per_second = r.value("podero.requests_per_second", &rules::whole(1, 10_000));
    account.map(|account| Podero { account, timeout, max_in_flight, requests_per_second })
}

fn retry(r: &mut Reader) -> Retry {
    let wait = rules::duration(Duration::from_millis(1), DURATION_MAX);
    let retry = Retry {
        initial: r.value("retry.initial", &wait),
        max: r.value("retry.max", &wait),
        give_up_after: r.value("retry.give_up_after", &wait),
    };
    if r.is_sound(&["retry.initial", "retry.max"]) && retry.initial > retry.max {
        let found = humantime::format_duration(retry.initial).to_string();
        let max = humantime::format_duration(retry.max);
        r.refuse("retry.initial", found, format!("allowed: at most retry.max, which is {max}"));
    }
    retry
}

fn onboarding(r: &mut Reader) -> Option<Onboarding> {
    let (language, zone, url) = (rules::word(Language::WORDS), rules::price_zone(), rules::web_url());
    if r.value("onboarding.enabled", &rules::flag()) {
        let when = "with onboarding.enabled";
        let language = r.required("onboarding.language", &language, when);
        let price_zone = r.required("onboarding.price_zone", &zone, when);
        let success_url = r.required("onboarding.success_url", &url, when);
        let cancel_url = r.required("onboarding.cancel_url", &url, when);
        return Some(Onboarding {
            language: language?,
            price_zone: price_zone?,
            success_url: success_url?,
            cancel_url: cancel_url?,
        });
    }
    r.optional("onboarding.language", &language);
    r.optional("onboarding.price_zone", &zone);
    r.optional("onboarding.success_url", &url);
    r.optional("onboarding.cancel_url", &url);
    None
}

fn moving(r: &mut Reader) -> Move {
    const OLD_HEAT_PUMPS: &[(&str, OldHeatPumps)] = &[("pause", OldHeatPumps::Pause), ("keep", OldHeatPumps::Keep)];
    const OLD_BUILDING: &[(&str, OldBuilding)] = &[("delete", OldBuilding::Delete), ("keep", OldBuilding::Keep)];
    Move {
        old_heat_pumps: r.value("move.old_heat_pumps", &rules::word(OLD_HEAT_PUMPS)),
        old_building: r.value("move.old_building", &rules::word(OLD_BUILDING)),
    }
}

fn churn(r: &mut Reader) -> Churn {
    const DELETE: &[(&str, ChurnDelete)] =
        &[("soft", ChurnDelete::Soft), ("hard", ChurnDelete::Hard), ("soft-then-hard", ChurnDelete::SoftThenHard)];
    Churn {
        delete: r.value("churn.delete", &rules::word(DELETE)),
        retention: r.value("churn.retention", &rules::duration(Duration::ZERO, DURATION_MAX)),
        brake: brake(r),
    }
}

/// With neither limit there is no brake, whatever its window.
fn brake(r: &mut Reader) -> Option<Brake> {
    let count = r.optional("churn.brake_count", &rules::whole(0, BRAKE_COUNT_MAX));
    let share = r.optional("churn.brake_share", &rules::share()).map(Share::of);
    let window = r.value("churn.brake_window", &rules::duration(SECOND, BRAKE_WINDOW_MAX));
    (count.is_some() || share.is_some()).then_some(Brake { count, share, window })
}

fn watch(r: &mut Reader) -> Watch {
    let enabled = r.value("watch.enabled", &rules::flag());
    let policy = WatchPolicy {
        interval: r.value("watch.interval", &rules::duration(SECOND, DAY)),
        disconnect_after: r.value("watch.disconnect_after", &rules::duration(Duration::ZERO, DURATION_MAX)),
        disconnect_polls: r.value("watch.disconnect_polls", &rules::whole(1, 1_000)),
        reconnect_after: r.value("watch.reconnect_after", &rules::duration(Duration::ZERO, DURATION_MAX)),
        reconnect_polls: r.value("watch.reconnect_polls", &rules::whole(1, 1_000)),
        stale_after: r.value("watch.stale_after", &rules::duration(SECOND, DURATION_MAX)),
        warm_up: r.value("watch.warm_up", &rules::duration(Duration::ZERO, DURATION_MAX)),
        never_connected_after: r.value("watch.never_connected_after", &rules::duration(Duration::ZERO, DURATION_MAX)),
        flap_losses: r.value("watch.flap_losses", &rules::whole(2, FLAP_LOSSES_MAX)),
        flap_window: r.value("watch.flap_window", &rules::duration(SECOND, DURATION_MAX)),
        outage_share: r.value("watch.outage_share", &rules::share()),
        outage_min: r.value("watch.outage_min", &rules::whole(1, u32::MAX)),
        severities: severities(r),
    };
    Watch { enabled, policy, region_chars: r.value("watch.region_chars", &rules::whole(0, REGION_CHARS_MAX)) }
}

fn severities(r: &mut Reader) -> Severities {
    let season = r.value("watch.heating_season", &rules::season());
    let usual = Severities::DEFAULT.in_season(season);
    Cause::ALL.into_iter().fold(usual, |severities, cause| {
        let key = format!("severity.{}", cause.name());
        severities.with(cause, r.value(&key, &rules::word(SEVERITIES)))
    })
}

/// A bridge on which nothing can arrive is a mistake, not a configuration.
fn refuse_deaf(r: &mut Reader, http: &Http, sources: &[Source]) {
    if sources.is_empty() && r.labels().is_empty() && !r.is_given("amqp.url") && r.is_sound(&["source"]) {
        let door = if is_loopback(http.listen) { "" } else { " (--sandbox adds one on loopback only)" };
        r.refuse(
            "source",
            "none, and no amqp.url",
            format!("nothing can arrive: configure a [[source]]{door} or amqp.url"),
        );
    }
}

fn sandbox(r: &mut Reader) -> Sandbox {
    Sandbox {
        listen: r.value("sandbox.listen", &rules::address()),
        seed: r.optional("sandbox.seed", &rules::whole(0, u64::MAX)),
    }
}

fn outbound(r: &mut Reader) -> Outbound {
    let url = r.optional("outbound.webhook_url", &rules::called_url());
    let (is_addressed, is_signed) = (r.is_given("outbound.webhook_url"), r.is_given("outbound.webhook_secret"));
    let secret = if is_addressed {
        r.required_secret("outbound.webhook_secret", &rules::signing_key(), "with outbound.webhook_url")
    } else {
        r.secret("outbound.webhook_secret", &rules::signing_key())
    };
    if is_signed && !is_addressed {
        r.refuse("outbound.webhook_url", "nothing", "required with outbound.webhook_secret");
    }
    Outbound { webhook: url.zip(secret).map(|(url, secret)| Webhook { url, secret }) }
}

fn log(r: &mut Reader) -> Log {
    Log {
        format: r.value("log.format", &rules::word(LogFormat::WORDS)),
        level: r.value("log.level", &rules::log_level()),
    }
}

/// Whether only this machine can reach the address.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
