//! The broker's configuration.
//!
//! Before: [`crate::config`]. After: [`super::topology`] and [`super::link`] use it.

use std::fmt;

use super::link::shown;

/// The broker's configuration.
#[derive(Clone)]
pub struct BrokerSettings {
    /// `amqp://` or `amqps://`, tried in turn; at least one. They carry passwords: see [`shown`].
    pub urls: Vec<String>,
    /// Topic exchange to which upstream systems publish; declared and bound only when `declare` is set.
    pub inbound_exchange: String,
    /// Queue that is consumed.
    pub inbound_queue: String,
    /// Keys by which the queue is bound to the exchange, when `declare` is set. An existing binding stays.
    pub bindings: Vec<String>,
    /// Topic exchange to which notices are published.
    pub outbound_exchange: String,
    /// `true` if the bridge declares the topology; otherwise it only checks that it exists.
    pub declare: bool,
    /// Limit of the deliveries that may be un-acked, and so in the hands of the [`super::Intake`], at once. Zero, which AMQP would
    /// read as "no bound", counts as one.
    pub prefetch: u16,
}

impl fmt::Debug for BrokerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self.urls.iter().map(|url| shown(url)).collect();
        f.debug_struct("BrokerSettings")
            .field("urls", &urls)
            .field("inbound_exchange", &self.inbound_exchange)
            .field("inbound_queue", &self.inbound_queue)
            .field("bindings", &self.bindings)
            .field("outbound_exchange", &self.outbound_exchange)
            .field("declare", &self.declare)
            .field("prefetch", &self.prefetch)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_show_no_password() {
        let settings = BrokerSettings {
            urls: vec!["amqp://bridge:hunter2@rabbit:5672/prod".to_owned()],
            inbound_exchange: "in".to_owned(),
            inbound_queue: "queue".to_owned(),
            bindings: Vec::new(),
            outbound_exchange: "out".to_owned(),
            declare: true,
            prefetch: 1,
        };
        let text = format!("{settings:?}");
        assert!(text.contains("rabbit:5672/prod"), "{text}");
        assert!(!text.contains("hunter2") && !text.contains("bridge:"), "{text}");
    }
}
