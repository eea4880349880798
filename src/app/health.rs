//! The lines of `/readyz` about broker, Podero, clock and backlog.
//!
//! Before: [`crate::admin`] asks. After: an operator reads them.

use std::time::Duration;

use super::stages::Handles;
use crate::admin::{Health, Part};
use crate::broker::LinkState;
use crate::domain::partner_health::CircuitCause;
use crate::podero::Outlook;

impl Health for Handles {
    fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        if let Some(broker) = &self.broker {
            let status = broker.status();
            let part = |name, state: &LinkState| Part {
                name,
                is_ready: *state == LinkState::Connected,
                state: match state {
                    LinkState::Connected => "ok".to_owned(),
                    LinkState::Disconnected { why } => why.clone(),
                },
            };
            parts.push(part("broker", &status.publisher));
            parts.push(part("consumer", &status.consumer));
        }
        let (is_ready, mut state) = podero(self.client.outlook(), self.client.has_token());
        if let Some(why) = self.client.token_trouble().filter(|_| !self.client.has_token()) {
            state = format!("{state}; {why}");
        }
        if let Some((operation, why)) = self.client.unreadable() {
            state = format!("{state}; the last answer to {} could not be used: {why}", operation.name());
        }
        parts.push(Part { name: "podero", is_ready, state });
        let jump = self.clock.jump();
        if !jump.is_zero() {
            let by = Duration::from_secs(jump.as_secs());
            let state = format!(
                "the machine's clock is {} ahead of the time that passed: nothing is removed, and no announced event takes effect early",
                humantime::format_duration(by)
            );
            parts.push(Part { name: "clock", is_ready: true, state });
        }
        // Ready all the same: the bridge works on its backlog, and another replica would not do it faster.
        let complaints = self.backlog.complaints().into_iter();
        parts.extend(complaints.map(|state| Part { name: "backlog", is_ready: true, state }));
        parts
    }
}

/// Podero's line.
fn podero(outlook: Outlook, has_token: bool) -> (bool, String) {
    match (outlook, has_token) {
        (Outlook::Paused { until }, _) => (false, format!("paused until {until}: Podero asks for it")),
        (Outlook::Open { since, why: CircuitCause::Away }, _) => {
            (false, format!("circuit open since {since}: Podero is away"))
        }
        (Outlook::Open { since, why: CircuitCause::Refused { status } }, _) => {
            (false, format!("circuit open since {since}: Podero refuses the bridge (status {status})"))
        }
        (Outlook::Clear | Outlook::Slowed { .. }, false) => (false, "no token yet".to_owned()),
        (Outlook::Slowed { per_second, of }, true) => {
            (true, format!("ok, pace lowered to {per_second} of {of} requests per second"))
        }
        (Outlook::Clear, true) => (true, "ok".to_owned()),
    }
}
