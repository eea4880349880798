//! Where Podero's answers leave what its pages show: an operator is to see a change of the contract before it hurts.
//!
//! The bridge stays as tolerant as [`super::wire`] is; this file only tells, by names from a closed set, once per answer.
//! Pure. It says nothing of any value.
//!
//! Before: an answer as it came. After: the metrics.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::Received;
use super::wire::{self, Told};
use crate::domain::Timestamp;
use crate::domain::alert::is_ahead;
use crate::domain::plan::Call;

/// Larger answers are not looked at a second time: only the list of a large fleet's users is one, and what is in it is seen
/// one by one as well.
const LOOKED_AT_BYTES_MAX: usize = 256 * 1024;

/// Statuses that some page shows, or that the framework behind the API gives by itself; and all from 500 on.
const STATUSES: [u16; 12] = [200, 201, 204, 400, 401, 403, 404, 405, 409, 413, 422, 429];
/// Pages on users: `guest` stands in schemas only.
const ROLES: [&str; 4] = ["admin", "staff", "user", "guest"];
/// Pages on heat pumps: the only two that are shown.
const LIFECYCLE_STATES: [&str; 2] = ["authenticated", "error"];
const CONNECTION_STATUSES: [&str; 4] = ["ok", "warning", "error", "unknown"];
/// Pages on cues; more are announced there.
const ACTION_CODES: [&str; 1] = ["reauthenticate"];

macro_rules! drifts {
    ($($(#[doc = $about:literal])+ $variant:ident = $name:literal,)+) => {
        /// A way in which an answer differs from the pages.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Drift { $($(#[doc = $about])+ $variant,)+ }

        impl Drift {
            /// Every way.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its public name, a label value.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

drifts! {
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
}

/// What is found in one answer, each once.
#[derive(Debug, Default)]
struct Found {
    drifts: Vec<Drift>,
    /// When the answer came.
    now: Option<Timestamp>,
}

impl Found {
    fn note(&mut self, drift: Drift) {
        if !self.drifts.contains(&drift) {
            self.drifts.push(drift);
        }
    }

    /// A moment in the past, or none.
    fn past(&mut self, value: Option<&Value>) {
        match value.map_or(Told::Never, wire::told) {
            Told::Never => {}
            Told::Implausible => self.note(Drift::ImplausibleTime),
            Told::At(at) if self.now.is_some_and(|now| is_ahead(at, now)) => self.note(Drift::ClockAhead),
            Told::At(_) => {}
        }
    }

    /// A text of a closed set; none is no drift.
    fn word(&mut self, value: Option<&Value>, known: &[&str], unknown: Drift) {
        match value {
            None | Some(Value::Null) => {}
            Some(Value::String(word)) if known.iter().any(|known| known.eq_ignore_ascii_case(word)) => {}
            Some(Value::String(_)) => self.note(unknown),
            Some(_) => self.note(Drift::WrongType),
        }
    }

    fn id(&mut self, item: &Map<String, Value>) {
        if item.get("id").and_then(Value::as_str).is_none_or(|id| Uuid::parse_str(id).is_err()) {
            self.note(Drift::MissingId);
        }
    }
}

/// How an answer differs.
pub(super) fn of(call: &Call, received: &Received, now: Timestamp) -> Vec<Drift> {
    let (status, body) = (received.status, &received.body[..]);
    let mut found = Found { now: Some(now), ..Found::default() };
    if received.coding.is_some() {
        // Whatever its status: nothing in it can be read.
        found.note(Drift::CodedAnswer);
        return found.drifts;
    }
    if !STATUSES.contains(&status) && status < 500 {
        found.note(Drift::NewStatus);
    }
    let is_looked_at = (200..300).contains(&status) && !body.is_empty() && body.len() <= LOOKED_AT_BYTES_MAX;
    if is_looked_at {
        match serde_json::from_slice::<Value>(body) {
            Ok(answer) => look(call, &answer, &mut found),
            Err(_) => found.note(Drift::UnexpectedShape),
        }
    }
    found.drifts
}

fn look(call: &Call, answer: &Value, found: &mut Found) {
    match call {
        Call::ListUsers => each(answer, found, user),
        Call::ListBuildings { .. } => each(answer, found, |item, found| found.id(item)),
        Call::ListHeatPumps { .. } | Call::ObserveHeatPumps { .. } => each(answer, found, pump),
        Call::FindUser { .. } | Call::CreateUser { .. } => one(answer, found, user),
        Call::CreateBuilding { .. } => one(answer, found, |item, found| found.id(item)),
        Call::ObserveHeatPump { .. } | Call::FindReconnection { .. } => one(answer, found, pump),
        Call::CreateOnboardingSession { .. } => one(answer, found, |item, found| {
            if !item.get("authentication_url").is_some_and(Value::is_string) {
                found.note(Drift::MissingLink);
            }
        }),
        Call::ResolveCue { .. } => one(answer, found, |item, found| {
            if !item.get("redirect_url").is_some_and(Value::is_string) {
                found.note(Drift::MissingLink);
            }
        }),
        // A yes need not say anything.
        Call::UpdateUser { .. }
        | Call::DeleteUser { .. }
        | Call::UpdateBuilding { .. }
        | Call::DeleteBuilding { .. }
        | Call::PauseHeatPump { .. } => {}
    }
}

fn one(answer: &Value, found: &mut Found, look: impl Fn(&Map<String, Value>, &mut Found)) {
    match answer {
        Value::Object(item) => look(item, found),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            found.note(Drift::UnexpectedShape);
        }
    }
}

/// A list comes bare or as `{total, items}`: the pages show both.
fn each(answer: &Value, found: &mut Found, look: impl Fn(&Map<String, Value>, &mut Found)) {
    let items = answer.as_array().or_else(|| answer.get("items").and_then(Value::as_array));
    let Some(items) = items else { return found.note(Drift::UnexpectedShape) };
    items.iter().for_each(|item| one(item, found, &look));
}

fn user(item: &Map<String, Value>, found: &mut Found) {
    found.id(item);
    if item.get("role").is_none_or(Value::is_null) {
        found.note(Drift::MissingRole);
    }
    found.word(item.get("role"), &ROLES, Drift::UnknownRole);
}

fn pump(item: &Map<String, Value>, found: &mut Found) {
    found.id(item);
    match item.get("is_authenticated") {
        Some(Value::Bool(_)) => {}
        None | Some(Value::Null) => found.note(Drift::MissingIsAuthenticated),
        Some(_) => found.note(Drift::WrongType),
    }
    found.past(item.get("current_state_last_updated_at"));
    found.past(item.get("deleted_at").filter(|mark| mark.is_string()));
    found.word(item.get("lifecycle_state"), &LIFECYCLE_STATES, Drift::UnknownLifecycleState);
    found.word(item.get("connection_status"), &CONNECTION_STATUSES, Drift::UnknownConnectionStatus);
    for action in item.get("actions").and_then(Value::as_array).into_iter().flatten() {
        found.word(action.get("code"), &ACTION_CODES, Drift::UnknownActionCode);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Coding;
    use super::*;
    use serde_json::json;

    fn received(status: u16, body: &str) -> Received {
        Received { status, retry_after: None, coding: None, body: body.as_bytes().to_vec() }
    }

    fn now() -> Timestamp {
        Timestamp::parse("2026-10-01T12:00:00Z").expect("valid")
    }

    #[test]
    fn answers_and_what_is_odd_about_them() {
        let user = || Call::ObserveHeatPumps { user: Uuid::nil() };
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
            assert_eq!(of(&user(), &received(status, &body), now()), expected, "{status} {body}");
        }
        let coded = Received { coding: Some(Coding::Gzip), ..received(200, "\u{1f}") };
        assert_eq!(of(&user(), &coded, now()), [Drift::CodedAnswer]);
        let unknown = json!([{"id": id, "role": "landlord"}, {"id": id, "role": "user"}, {"id": id}]);
        let unknown = received(200, &unknown.to_string());
        assert_eq!(of(&Call::ListUsers, &unknown, now()), [Drift::UnknownRole, Drift::MissingRole]);
    }
}
