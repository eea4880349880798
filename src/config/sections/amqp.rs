//! `[amqp]`: RabbitMQ.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::broker`].

use super::source::Source;
use crate::config::key::section;
use crate::config::reader::Reader;
use crate::config::rules;
use crate::config::secret::Secret;
use crate::config::verify::DEFAULT_SOURCE;

section! {
    /// RabbitMQ. AMQP is off without `amqp.url`.
    AMQP = "amqp" {
        /// URL of RabbitMQ, or a list of URLs that are tried in turn.
        URL: Secret = "url", rules::several(rules::amqp_url()),
            example r#"["amqp://bridge:example@rabbit-1.example:5672/%2f", "amqp://bridge:example@rabbit-2.example:5672/%2f"]"#;
        /// Topic exchange on which your systems publish events.
        INBOUND_EXCHANGE: String = "inbound_exchange", rules::amqp_name(), default "customer.lifecycle";
        /// Quorum queue that the bridge consumes.
        INBOUND_QUEUE: String = "inbound_queue", rules::amqp_name(), default "podero-bridge.inbound";
        /// Routing keys by which the bridge binds its queue to the inbound exchange. Add those of your own messages: RabbitMQ
        /// drops a message that no queue is bound for.
        BINDINGS: Vec<String> = "bindings", rules::amqp_bindings(), default "customer.#";
        /// Topic exchange for outgoing events. It must differ from `amqp.inbound_exchange`, or the bridge would receive its own
        /// events.
        OUTBOUND_EXCHANGE: String = "outbound_exchange", rules::amqp_name(), default "podero.bridge";
        /// Whether the bridge declares exchanges, queues and bindings. With `false` an operator does.
        DECLARE: bool = "declare", rules::flag(), default "true";
        /// Limit of unacknowledged deliveries.
        PREFETCH: u16 = "prefetch", rules::whole(1, u16::MAX), default "512";
        /// Name of the source that messages from the queue belong to. Its `types` and its ids apply to each of them, and its
        /// `map` translates those that are no CloudEvents.
        SOURCE: String = "source", rules::source_name(), default DEFAULT_SOURCE;
    }
}

/// Section `[amqp]`.
#[derive(Debug, Clone)]
pub struct Amqp {
    /// At least one; tried in turn.
    pub urls: Vec<Secret>,
    /// Topic exchange on which events arrive. Never the outbound one.
    pub inbound_exchange: String,
    /// Quorum queue that is consumed.
    pub inbound_queue: String,
    /// Topic exchange for outgoing events.
    pub outbound_exchange: String,
    /// Keys by which the queue is bound, where the bridge declares the topology.
    pub bindings: Vec<String>,
    /// True if the bridge declares the topology.
    pub declare: bool,
    /// Limit of deliveries that are held unacknowledged.
    pub prefetch: u16,
    /// Source of deliveries that are not CloudEvents. Unless it is the default, a source of this name is configured.
    pub source: String,
}

pub(in crate::config) fn read(r: &mut Reader, sources: &[Source]) -> Option<Amqp> {
    let amqp = Amqp {
        urls: r.secrets(&URL, URL.rule).now().to_vec(),
        inbound_exchange: r.value(&INBOUND_EXCHANGE),
        inbound_queue: r.value(&INBOUND_QUEUE),
        bindings: r.value(&BINDINGS),
        outbound_exchange: r.value(&OUTBOUND_EXCHANGE),
        declare: r.value(&DECLARE),
        prefetch: r.value(&PREFETCH),
        source: r.value(&SOURCE),
    };
    if amqp.inbound_exchange == amqp.outbound_exchange {
        // The inbound queue is bound with customer.#, which our own customer.* notices match.
        let hint = "must differ from amqp.inbound_exchange, or the bridge would receive its own events";
        r.refuse(&OUTBOUND_EXCHANGE, format!("{:?}", amqp.outbound_exchange), hint);
    }
    let is_configured =
        sources.iter().any(|known| known.name == amqp.source) || r.labels("source").contains(&amqp.source);
    if r.is_given(&SOURCE) && r.is_sound(&SOURCE) && !is_configured {
        r.refuse(&SOURCE, format!("{:?}", amqp.source), "allowed: the name of a [[source]]");
    }
    (!amqp.urls.is_empty()).then_some(amqp)
}
