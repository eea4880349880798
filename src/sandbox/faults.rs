//! Faults on order: rules that make chosen calls late, refused, cut or garbled.
//!
//! None of this is documented behaviour of Podero; it is what networks do. It must never act by itself: it only
//! names the effect on a call.
//!
//! Before: `routes` asks it once per call. After: nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::endpoint::Endpoint;
use crate::domain::names::names;

/// Limit of the rules in force: enough for one per operation and kind, small enough to be read at every call.
pub const RULES_MAX: usize = 200;
/// Limit of a delay in milliseconds: beyond any client's patience, yet a forgotten rule ends.
pub const LATENCY_MS_MAX: u64 = 600_000;

/// Calls that a rule concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FaultScope {
    /// This one; the token endpoint only under its own name.
    One(Endpoint),
    /// `"*"`: every call of the API, without the token endpoint.
    Every(Star),
}

/// The text `"*"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Star {
    /// Its only value.
    #[serde(rename = "*")]
    Star,
}

names! {
    /// Effect on the call.
    pub enum FaultKind {
        /// Acts at once, answers late: a client that gives up waiting does not undo it.
        Latency = "latency",
        /// Acts late, and then answers: also when the client has given up, or died, meanwhile.
        Slow = "slow",
        /// Does not act; answers a status.
        Status = "status",
        /// Does not act; the connection is cut without an answer.
        DropBefore = "drop_before",
        /// Acts; the connection is cut without an answer.
        DropAfter = "drop_after",
        /// Acts; answers 200 with a page of HTML.
        Garbage = "garbage",
        /// Acts; answers 200 with the first half of the JSON, as if it were whole.
        Half = "half",
        /// Acts; the connection is cut in the middle of the answer's body.
        Cut = "cut",
    }
}

/// A rule as it is ordered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// The calls concerned.
    pub operation: FaultScope,
    /// Only calls whose path or body contains this text: one customer's id, for instance. Without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Effect on them.
    pub kind: FaultKind,
    /// The status of [`FaultKind::Status`]: 300 to 599.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Delay of the answer, or of the act. [`FaultKind::Latency`] and [`FaultKind::Slow`] require it, others may have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// The number of strikes that are left; without it, the rule strikes until the rules are deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// The probability that it strikes a call, 0 to 1; without it, always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// `Retry-After` of [`FaultKind::Status`], in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// True for an HTTP date instead (RFC 9110 §10.2.3): the end of the second in which that time is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry_after_date: bool,
}

impl FaultRule {
    /// The reason for which the rule makes no sense, if it makes none.
    pub fn objection(&self) -> Option<&'static str> {
        if self.kind == FaultKind::Status && !self.status.is_some_and(|status| (300..=599).contains(&status)) {
            Some("kind status requires a status from 300 to 599")
        } else if matches!(self.kind, FaultKind::Latency | FaultKind::Slow) && self.latency_ms.is_none() {
            Some("kinds latency and slow require latency_ms")
        } else if self.latency_ms.is_some_and(|ms| ms > LATENCY_MS_MAX) {
            Some("latency_ms is at most 600000")
        } else if self.probability.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
            Some("probability is from 0 to 1")
        } else if self.times == Some(0) {
            Some("times is at least 1")
        } else if self.contains.as_deref() == Some("") {
            Some("contains is not empty")
        } else {
            None
        }
    }

    /// Delay of the answer (or of the cut), or of the act.
    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.latency_ms.unwrap_or(0))
    }

    fn concerns(&self, operation: Option<Endpoint>, mentions: &impl Fn(&str) -> bool) -> bool {
        let is_in_scope = match self.operation {
            FaultScope::One(one) => operation == Some(one),
            FaultScope::Every(Star::Star) => operation != Some(Endpoint::Token),
        };
        is_in_scope && self.contains.as_deref().is_none_or(mentions)
    }
}

/// A rule in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OrderedFault {
    /// Its number, counted from 1.
    pub id: u64,
    /// The number of strikes so far.
    pub struck: u64,
    /// The rule, `times` counting down.
    #[serde(flatten)]
    pub rule: FaultRule,
}

/// The rules in force, oldest first.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Vec<OrderedFault>,
    ordered: u64,
}

impl Faults {
    /// Puts a rule in force behind the others; refuses one that makes no sense or that finds no room.
    pub fn order(&mut self, rule: FaultRule) -> Result<&OrderedFault, &'static str> {
        if let Some(objection) = rule.objection() {
            return Err(objection);
        }
        if self.rules.len() >= RULES_MAX {
            return Err("too many rules");
        }
        self.ordered += 1;
        self.rules.push(OrderedFault { id: self.ordered, struck: 0, rule });
        Ok(self.rules.last().expect("one was pushed above"))
    }

    /// The rules in force.
    pub fn rules(&self) -> &[OrderedFault] {
        &self.rules
    }

    /// Takes every rule out of force.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// The rule that strikes a call: the oldest that concerns it and is drawn. `mentions` says whether the call's path
    /// or body contains a text, `dice` gives values in `[0, 1)`.
    pub fn strike(
        &mut self,
        operation: Option<Endpoint>,
        mentions: impl Fn(&str) -> bool,
        mut dice: impl FnMut() -> f64,
    ) -> Option<FaultRule> {
        let at = self.rules.iter().position(|OrderedFault { rule, .. }| {
            rule.concerns(operation, &mentions) && rule.probability.is_none_or(|probability| dice() < probability)
        })?;
        self.rules[at].struck += 1;
        let rule = &mut self.rules[at].rule;
        let strike = rule.clone();
        if let Some(times) = &mut rule.times {
            *times -= 1;
            if *times == 0 {
                self.rules.remove(at);
            }
        }
        Some(strike)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(rules: &[serde_json::Value]) -> Faults {
        let mut faults = Faults::default();
        for rule in rules {
            let rule = serde_json::from_value(rule.clone()).expect("a rule");
            faults.order(rule).expect("a sensible rule");
        }
        faults
    }

    #[test]
    fn a_rule_strikes_its_operation_as_often_as_ordered() {
        let mut faults = faults(&[json!({"operation": "create_user", "kind": "status", "status": 503, "times": 2})]);
        assert_eq!(faults.strike(Some(Endpoint::GetUser), |_| false, || 0.0), None);
        for _ in 0..2 {
            let strike = faults.strike(Some(Endpoint::CreateUser), |_| false, || 0.0).expect("it strikes");
            assert_eq!((strike.kind, strike.status), (FaultKind::Status, Some(503)));
        }
        assert_eq!(faults.strike(Some(Endpoint::CreateUser), |_| false, || 0.0), None);
        assert_eq!(faults.rules(), []);
    }

    #[test]
    fn a_star_spares_the_token_endpoint_and_a_probability_is_drawn() {
        let mut faults = faults(&[json!({"operation": "*", "kind": "drop_after", "probability": 0.5})]);
        assert_eq!(faults.strike(Some(Endpoint::Token), |_| false, || 0.0), None);
        assert!(faults.strike(None, |_| false, || 0.49).is_some());
        assert_eq!(faults.strike(Some(Endpoint::ListUsers), |_| false, || 0.5), None);
    }

    #[test]
    fn a_rule_for_one_customer_spares_the_others_and_counts_its_strikes() {
        let mut faults = faults(&[json!({"operation": "*", "kind": "status", "status": 500, "contains": "C-1/"})]);
        let mut call = |path: &str| faults.strike(Some(Endpoint::FindUser), |text| path.contains(text), || 0.0);
        assert_eq!(call("/users/by-ext-id/C-11"), None);
        assert!(call("/users/C-1/buildings").is_some() && call("/users/C-1/buildings").is_some());
        assert_eq!(faults.rules()[0].struck, 2);
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused() {
        for rule in [
            json!({"operation": "*", "kind": "status"}),
            json!({"operation": "*", "kind": "status", "status": 99}),
            json!({"operation": "*", "kind": "latency"}),
            json!({"operation": "*", "kind": "slow"}),
            json!({"operation": "*", "kind": "garbage", "probability": 1.5}),
            json!({"operation": "*", "kind": "garbage", "times": 0}),
            json!({"operation": "*", "kind": "garbage", "contains": ""}),
        ] {
            let parsed: FaultRule = serde_json::from_value(rule.clone()).expect("parsable");
            assert!(Faults::default().order(parsed).is_err(), "{rule}");
        }
        let unknown = json!({"operation": "list_cars", "kind": "garbage"});
        assert!(serde_json::from_value::<FaultRule>(unknown).is_err());
    }
}
