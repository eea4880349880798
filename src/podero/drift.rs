//! Differences between Podero's answers and its pages: an operator is to see a change of the contract before it hurts.
//!
//! The bridge stays as tolerant as [`super::wire`] is, which shows each entry as it reads it; this file only reports, by names
//! from a closed set, once per answer. Pure. It says nothing of any value.
//!
//! Before: an answer as it came. After: the metrics.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::answer::Received;
use super::moments::{self, ReadMoment};
use crate::domain::Timestamp;
use crate::domain::alert::is_ahead;
use crate::domain::names::names;

/// Statuses that a page shows, or that the framework behind the API gives by itself. All from 500 on are known, too.
const STATUSES: [u16; 12] = [200, 201, 204, 400, 401, 403, 404, 405, 409, 413, 422, 429];
/// Roles of users on the pages: `guest` stands in schemas only.
const ROLES: [&str; 4] = ["admin", "staff", "user", "guest"];
/// States of heat pumps on the pages: the only two that are shown.
const LIFECYCLE_STATES: [&str; 2] = ["authenticated", "error"];
const CONNECTION_STATUSES: [&str; 4] = ["ok", "warning", "error", "unknown"];
/// Codes of actions on the pages; more are announced there.
const ACTION_CODES: [&str; 1] = ["reauthenticate"];

names! {
    /// A way in which an answer differs from the pages, by its label value.
    pub enum Drift {
        /// A status that no page shows.
        NewStatus = "new_status",
        /// No JSON, no list where one is shown, no object where one is.
        UnexpectedShape = "unexpected_shape",
        /// A field that the bridge reads has another type.
        WrongType = "wrong_type",
        /// Something without an id that is a UUID.
        MissingId = "missing_id",
        /// A user without a role.
        MissingRole = "missing_role",
        /// A heat pump that does not say whether it is connected.
        MissingIsAuthenticated = "missing_is_authenticated",
        /// An onboarding session without its link.
        MissingLink = "missing_link",
        /// A role that no page shows.
        UnknownRole = "unknown_role",
        /// A `lifecycle_state` that no page shows.
        UnknownLifecycleState = "unknown_lifecycle_state",
        /// A `connection_status` that no page shows.
        UnknownConnectionStatus = "unknown_connection_status",
        /// An action that no page shows.
        UnknownActionCode = "unknown_action_code",
        /// A heat pump's state is from the future.
        ClockAhead = "clock_ahead",
        /// A moment that cannot be meant, or is written in no form that can be read.
        ImplausibleTime = "implausible_time",
        /// An answer in a content coding, although none was asked for.
        CodedAnswer = "coded_answer",
        /// A complete list of users that lacks many whom the one before named; the watch compares them.
        ShortList = "short_list",
        /// An address that must not go out, such as one with control characters.
        UnusableLink = "unusable_link",
    }
}

/// The differences of one answer, each once.
#[derive(Debug, Default)]
pub(super) struct DriftNotes {
    drifts: Vec<Drift>,
    /// The time at which the answer came.
    now: Option<Timestamp>,
}

impl DriftNotes {
    /// The notes on an answer that came just now. The reader of its body notes entry by entry.
    pub(super) fn of(received: &Received, now: Timestamp) -> Self {
        let mut found = Self { now: Some(now), ..Self::default() };
        let status = received.status;
        if received.coding.is_some() {
            // Noted for any status: nothing in the answer can be read.
            found.note(Drift::CodedAnswer);
        } else if !STATUSES.contains(&status) && status < 500 {
            found.note(Drift::NewStatus);
        }
        found
    }

    /// The differences that were noted.
    pub(super) fn drifts(&self) -> &[Drift] {
        &self.drifts
    }

    pub(super) fn note(&mut self, drift: Drift) {
        if !self.drifts.contains(&drift) {
            self.drifts.push(drift);
        }
    }

    /// Notes a body that is no JSON, or another kind of value than the pages show. An empty body is no drift.
    pub(super) fn unreadable(&mut self, body: &[u8]) {
        if !body.is_empty() {
            self.note(Drift::UnexpectedShape);
        }
    }

    /// Notes a moment that is not in the past; a missing one is no drift.
    fn past(&mut self, value: Option<&Value>) {
        match value.map_or(ReadMoment::Never, moments::told) {
            ReadMoment::Never => {}
            ReadMoment::Implausible => self.note(Drift::ImplausibleTime),
            ReadMoment::At(at) if self.now.is_some_and(|now| is_ahead(at, now)) => self.note(Drift::ClockAhead),
            ReadMoment::At(_) => {}
        }
    }

    /// Notes a text outside of a closed set; a missing one is no drift.
    fn word(&mut self, value: Option<&Value>, known: &[&str], unknown: Drift) {
        match value {
            None | Some(Value::Null) => {}
            Some(Value::String(word)) if known.iter().any(|known| known.eq_ignore_ascii_case(word)) => {}
            Some(Value::String(_)) => self.note(unknown),
            Some(_) => self.note(Drift::WrongType),
        }
    }

    fn one(&mut self, entry: &Value, look: fn(&mut Self, &Map<String, Value>)) {
        match entry {
            Value::Object(item) => look(self, item),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                self.note(Drift::UnexpectedShape);
            }
        }
    }

    /// Looks at an entry of the list of users.
    pub(super) fn user(&mut self, entry: &Value) {
        self.one(entry, Self::user_of);
    }

    /// Looks at an entry of a list of buildings.
    pub(super) fn home(&mut self, entry: &Value) {
        self.one(entry, Self::id);
    }

    /// Looks at an entry of a list of heat pumps.
    pub(super) fn pump(&mut self, entry: &Value) {
        self.one(entry, Self::pump_of);
    }

    /// Looks at the id of an object.
    pub(super) fn id(&mut self, item: &Map<String, Value>) {
        if item.get("id").and_then(Value::as_str).is_none_or(|id| Uuid::parse_str(id).is_err()) {
            self.note(Drift::MissingId);
        }
    }

    /// Looks at a user.
    pub(super) fn user_of(&mut self, item: &Map<String, Value>) {
        self.id(item);
        if item.get("role").is_none_or(Value::is_null) {
            self.note(Drift::MissingRole);
        }
        self.word(item.get("role"), &ROLES, Drift::UnknownRole);
    }

    /// Looks at a heat pump.
    pub(super) fn pump_of(&mut self, item: &Map<String, Value>) {
        self.id(item);
        match item.get("is_authenticated") {
            Some(Value::Bool(_)) => {}
            None | Some(Value::Null) => self.note(Drift::MissingIsAuthenticated),
            Some(_) => self.note(Drift::WrongType),
        }
        self.past(item.get("current_state_last_updated_at"));
        self.past(item.get("deleted_at").filter(|mark| mark.is_string()));
        self.word(item.get("lifecycle_state"), &LIFECYCLE_STATES, Drift::UnknownLifecycleState);
        self.word(item.get("connection_status"), &CONNECTION_STATUSES, Drift::UnknownConnectionStatus);
        for action in item.get("actions").and_then(Value::as_array).into_iter().flatten() {
            self.word(action.get("code"), &ACTION_CODES, Drift::UnknownActionCode);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::Coding;
    use super::super::calls::{ListUsers, ObserveHeatPumps};
    use super::super::wire::{self, PartnerCall};
    use super::*;
    use serde_json::json;

    fn received(status: u16, body: &str) -> Received {
        Received::of(status, body.as_bytes())
    }

    fn of<R: PartnerCall>(request: &R, received: &Received, now: Timestamp) -> Vec<Drift> {
        let mut notes = DriftNotes::of(received, now);
        drop(wire::read(request, received, &mut R::Pages::default(), now, &mut notes));
        notes.drifts().to_vec()
    }

    fn now() -> Timestamp {
        Timestamp::parse("2026-10-01T12:00:00Z").expect("valid")
    }

    #[test]
    fn answers_and_what_is_odd_about_them() {
        let watched = ObserveHeatPumps { user: Uuid::nil() };
        let id = Uuid::nil();
        let pump = |more: Value| {
            let mut pump = json!({"id": id, "is_authenticated": true, "lifecycle_state": "authenticated",
                                  "connection_status": "ok", "actions": []});
            pump.as_object_mut()
                .into_iter()
                .for_each(|pump| pump.extend(more.as_object().cloned().unwrap_or_default()));
            pump
        };
        let list = |more: Value| json!([pump(json!({})), pump(more)]).to_string();
        for (status, body, expected) in [
            (200, list(json!({})), vec![]),
            (200, json!({"total": 1, "items": [pump(json!({}))]}).to_string(), vec![]),
            (200, list(json!({"lifecycle_state": null, "connection_status": null, "more": 1})), vec![]),
            (200, list(json!({"id": "7"})), vec![Drift::MissingId]),
            (200, list(json!({"is_authenticated": null})), vec![Drift::MissingIsAuthenticated]),
            (200, list(json!({"is_authenticated": "yes"})), vec![Drift::WrongType]),
            (200, list(json!({"lifecycle_state": "frozen"})), vec![Drift::UnknownLifecycleState]),
            (200, list(json!({"connection_status": "meh"})), vec![Drift::UnknownConnectionStatus]),
            (200, list(json!({"actions": [{"code": "pray"}]})), vec![Drift::UnknownActionCode]),
            (200, json!([7, 8, 9]).to_string(), vec![Drift::UnexpectedShape]),
            (200, json!({"heat_pumps": []}).to_string(), vec![Drift::UnexpectedShape]),
            (200, "<html>".to_owned(), vec![Drift::UnexpectedShape]),
            (206, list(json!({})), vec![Drift::NewStatus]),
            (418, "<html>".to_owned(), vec![Drift::NewStatus]),
            (503, "<html>".to_owned(), vec![]),
            (204, String::new(), vec![]),
            (200, list(json!({"current_state_last_updated_at": "2026-10-01T12:05:00Z"})), vec![]),
            (200, list(json!({"current_state_last_updated_at": "2026-10-01T12:05:01Z"})), vec![Drift::ClockAhead]),
            (200, list(json!({"current_state_last_updated_at": "2099-01-01T00:00:00Z"})), vec![Drift::ClockAhead]),
            (200, list(json!({"current_state_last_updated_at": null})), vec![]),
            (200, list(json!({"current_state_last_updated_at": "0001-01-01T00:00:00Z"})), vec![]),
            (200, list(json!({"current_state_last_updated_at": "1970-01-01T00:00:00Z"})), vec![Drift::ImplausibleTime]),
            (200, list(json!({"current_state_last_updated_at": "yesterday"})), vec![Drift::ImplausibleTime]),
            (200, list(json!({"current_state_last_updated_at": 1_790_856_000})), vec![Drift::ImplausibleTime]),
            (200, list(json!({"deleted_at": "1970-01-01T00:00:00Z"})), vec![Drift::ImplausibleTime]),
            (200, list(json!({"deleted_at": true})), vec![]),
        ] {
            assert_eq!(of(&watched, &received(status, &body), now()), expected, "{status} {body}");
        }
        let coded = Received { coding: Some(Coding::Gzip), ..received(200, "\u{1f}") };
        assert_eq!(of(&watched, &coded, now()), [Drift::CodedAnswer]);
        let unknown = json!([{"id": id, "role": "landlord"}, {"id": id, "role": "user"}, {"id": id}]);
        let unknown = received(200, &unknown.to_string());
        assert_eq!(of(&ListUsers, &unknown, now()), [Drift::UnknownRole, Drift::MissingRole]);
    }
}
