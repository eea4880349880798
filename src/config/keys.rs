//! Every configuration key, once: its name, its default and what it is for. Never reads a value.
//!
//! The reader takes defaults from here and asserts that each key it asks for stands here; what does not
//! stand here is an unknown key. So the table cannot fall behind the code, and the tests hold the example
//! file and the operator's page against it.
//!
//! Before: nothing. After: [`crate::config`].

/// One configuration key.
#[derive(Debug)]
pub struct Key {
    /// `section.key`; the keys of a `[[source]]` are named `source.key`.
    pub name: &'static str,
    /// The default as it would be written, without quotes; `None`: there is none.
    pub default_text: Option<&'static str>,
    /// What it means.
    pub about: &'static str,
    /// Whether it is never shown, and may be given as a file instead ([`Key::file_name`]).
    pub is_secret: bool,
}

impl Key {
    /// For a secret, the key that names a file holding it: `admin.token_file`.
    pub fn file_name(&self) -> Option<String> {
        self.is_secret.then(|| format!("{}{FILE_SUFFIX}", self.name))
    }
}

/// What turns the name of a secret key into the name of the key for its file.
pub(super) const FILE_SUFFIX: &str = "_file";

const fn key(name: &'static str, default_text: &'static str, about: &'static str) -> Key {
    Key { name, default_text: Some(default_text), about, is_secret: false }
}

const fn bare(name: &'static str, about: &'static str) -> Key {
    Key { name, default_text: None, about, is_secret: false }
}

const fn secret(name: &'static str, default_text: Option<&'static str>, about: &'static str) -> Key {
    Key { name, default_text, about, is_secret: true }
}

/// Every key there is.
pub const KEYS: &[Key] = &[
    key("http.listen", "127.0.0.1:8080", "address of the webhooks, the only public door"),
    key("http.body_max", "1MiB", "largest request body; above it the answer is 413"),
    key("http.batch_max", "1000", "most events in one batch"),
    key(
        "http.trusted_proxies",
        "",
        "proxies in front of http.listen, addresses or networks; X-Forwarded-For is read from these alone",
    ),
    key("admin.listen", "127.0.0.1:9090", "address of health, metrics and the operator's API"),
    secret("admin.token", None, "bearer token of the operator's API; required unless admin.listen is loopback"),
    key(
        "admin.trusted_proxies",
        "",
        "proxies in front of admin.listen, addresses or networks; X-Forwarded-For is read from these alone",
    ),
    secret("store.url", Some("sqlite://podero-bridge.db"), "database: sqlite://FILE or postgres://…"),
    key("store.backlog_max", "1000000", "pending events at which the doors take no more; the answer is 503"),
    key("store.retention", "90d", "how long settled events and published notices are kept; 0s keeps them for ever"),
    secret("store.erasure_key", None, "hashes the ids of erased customers; without it a key in the store does"),
    secret("amqp.url", None, "RabbitMQ, one URL or a list tried in turn; without it AMQP is off"),
    key("amqp.inbound_exchange", "customer.lifecycle", "topic exchange on which events arrive"),
    key("amqp.inbound_queue", "podero-bridge.inbound", "quorum queue that is consumed"),
    key("amqp.bindings", "customer.#", "keys by which the queue is bound; add the routing keys of your own messages"),
    key("amqp.outbound_exchange", "podero.bridge", "topic exchange for outgoing events"),
    key("amqp.declare", "true", "whether the bridge declares exchanges, queues and bindings itself"),
    key("amqp.prefetch", "512", "unacknowledged deliveries held at once"),
    key("amqp.source", "default", "source that messages belong to: its mapping, its types and its ids apply"),
    key("podero.base_url", "https://app.podero.com", "scheme and host of the Partner API"),
    bare("podero.org_id", "organisation at Podero, a UUID; required without --sandbox"),
    bare("podero.client_id", "OAuth2 client; required without --sandbox"),
    secret("podero.client_secret", None, "the client's secret; required without --sandbox"),
    key("podero.timeout", "10s", "deadline of one call"),
    key("podero.max_in_flight", "64", "calls at the same time, of all replicas, events and polling together"),
    key(
        "podero.requests_per_second",
        "50",
        "calls per second, of all replicas, events and polling together, events first",
    ),
    key("retry.initial", "1s", "first wait before a repeat; doubles each time, with full jitter"),
    key("retry.max", "15m", "longest wait between two attempts"),
    key("retry.give_up_after", "72h", "after this long an event is parked"),
    key("onboarding.enabled", "false", "whether sign-up and move create an onboarding session and publish its link"),
    bare("onboarding.language", "language of the session: sv, de, en, hu, it, et, pl or ro"),
    bare("onboarding.price_zone", "price zone of new heat pumps, such as DE_LU or SE_3"),
    bare("onboarding.success_url", "where the customer lands after connecting the heat pump"),
    bare("onboarding.cancel_url", "where the customer lands after giving up"),
    key("move.old_heat_pumps", "pause", "pause or keep the optimisation in a home the customer left"),
    key("move.old_building", "delete", "delete or keep the building the customer left"),
    key("churn.delete", "soft", "soft, hard, or soft-then-hard after churn.retention"),
    key("churn.retention", "30d", "time between soft and hard deletion"),
    bare("churn.brake_count", "most customers that leave within churn.brake_window without an approval"),
    bare("churn.brake_share", "share of the active customers that may do so, if that is more"),
    key("churn.brake_window", "1h", "time in which customers who leave are counted for the brake"),
    key("watch.enabled", "true", "whether connectivity is watched"),
    key("watch.interval", "10m", "how old the knowledge of a heat pump may get"),
    key("watch.disconnect_after", "15m", "a pump must be unreachable for this long before an alert"),
    key("watch.disconnect_polls", "3", "and in this many polls in a row"),
    key("watch.reconnect_after", "5m", "a pump must be back for this long before its alert is resolved"),
    key("watch.reconnect_polls", "2", "polls in a row that must see it before the alert is resolved"),
    key("watch.stale_after", "2h", "readings older than this do not count as fresh"),
    key("watch.warm_up", "30m", "old readings are forgiven for this long after a pump was not watched"),
    key("watch.never_connected_after", "7d", "a pump that was not connected by then is a notice of its own"),
    key("watch.flap_losses", "4", "as many losses of one pump"),
    key("watch.flap_window", "6h", "within this time are one alert that it is unstable"),
    key("watch.outage_share", "0.3", "share of a manufacturer's pumps that makes one outage of many alerts"),
    key("watch.outage_min", "20", "and the fewest pumps that do"),
    key("watch.region_chars", "0", "characters of a ZIP code that make a region, watched for outages too; 0: none"),
    key("watch.heating_season", "10-01..04-30", "the days on which a loss is one step worse, or none"),
    key("severity.needs_reauthentication", "error", "of the alert: the customer must reconnect the pump"),
    key("severity.lifecycle_error", "error", "of the alert: Podero reports an error of the device"),
    key("severity.device_offline", "warning", "of the alert: no fresh state from the manufacturer"),
    key("severity.unstable", "warning", "of the alert: its connection comes and goes"),
    key("severity.never_connected", "info", "of the notice: its onboarding is not finished"),
    key("severity.maker_outage", "error", "of the alert: many of one manufacturer at once"),
    key("severity.region_outage", "error", "of the alert: many of one region at once"),
    key("severity.watch_blind", "critical", "of the alert: the bridge cannot see"),
    bare("source.name", "name of the source, the last part of /v1/events/{source}"),
    bare("source.verify", "standard-webhooks, hmac, bearer, basic or none"),
    secret("source.secrets", None, "keys or tokens that are accepted, several at once for rotation"),
    bare("source.token_header", "with verify = bearer: a header that has the token alone, instead of authorization"),
    bare("source.hmac_header", "with verify = hmac: the header that has the signature"),
    bare("source.hmac_signature_field", "name of the signatures in a header of several parts: v1 in t=…,v1=…,v1=…"),
    bare("source.hmac_timestamp_field", "name of the time of signing in such a header, if it is signed too: t"),
    key("source.hmac_algorithm", "sha256", "hash of the signature: sha256, sha512 or sha1"),
    key("source.hmac_encoding", "hex", "how the signature is written: hex or base64"),
    key(
        "source.hmac_key_encoding",
        "text",
        "how the keys in source.secrets are written: text (as they are), hex or base64",
    ),
    key("source.hmac_prefix", "", "what stands before the signature, such as sha256="),
    bare("source.hmac_timestamp_header", "the header that has the time of signing, if it is signed too"),
    bare("source.hmac_text", "what is signed, with {body} and {timestamp} in their places"),
    bare("source.map", "file of a jq program that makes events of messages that are no CloudEvents"),
    key("source.types", "customer.*", "types of events that the source may send: customer.*, team.*, or single ones"),
    key("source.answer", "receipt", "what an accepted request is answered with: receipt, or none (202 without a body)"),
    key("source.insecure", "false", "accept verify = none although http.listen is not loopback"),
    key("sandbox.listen", "127.0.0.1:8085", "address of the embedded Podero sandbox"),
    bare("sandbox.seed", "makes the sandbox's ids repeat"),
    bare("outbound.webhook_url", "outgoing events also (without AMQP: instead) go here as signed webhooks"),
    secret("outbound.webhook_secret", None, "signs them; required with outbound.webhook_url"),
    key("log.format", "auto", "text, json, or auto: text on a terminal, else json"),
    key("log.level", "info", "a level, or directives per module such as info,podero_bridge=debug"),
];

/// The key at `place`: a name of the table, or `source.LABEL.key` for a key of one source.
pub(super) fn find(place: &str) -> Option<&'static Key> {
    let source_key = place.strip_prefix("source.").and_then(|rest| rest.rsplit_once('.')).map(|(_, key)| key);
    KEYS.iter().find(|key| match source_key {
        Some(last) => key.name.strip_prefix("source.") == Some(last),
        None => key.name == place,
    })
}

/// The default of a key that has one, as it would be written. Panics for any other name: it is asked for by constants.
pub fn default_of(place: &str) -> &'static str {
    find(place).and_then(|key| key.default_text).expect("only asked for keys that have a default")
}

/// Whether `place` names a key, or the `_file` form of a secret one.
pub(super) fn is_known(place: &str) -> bool {
    let filed = || place.strip_suffix(FILE_SUFFIX).and_then(find).is_some_and(|key| key.is_secret);
    find(place).is_some() || filed()
}

/// Whether some key stands in `[section]`.
pub(super) fn is_section(section: &str) -> bool {
    KEYS.iter().any(|key| key.name.split('.').next() == Some(section))
}

/// The known name that `typed` was probably meant to be.
pub(super) fn nearest(typed: &str) -> Option<String> {
    // A third of the letters wrong is still a slip; beyond that a suggestion would mislead.
    let slips_max = (typed.chars().count() / 3).min(4);
    KEYS.iter()
        .flat_map(|key| [Some(key.name.to_owned()), key.file_name()])
        .flatten()
        .map(|name| (strsim::osa_distance(typed, &name), name))
        .filter(|(slips, _)| *slips <= slips_max)
        .min()
        .map(|(_, name)| name)
}
