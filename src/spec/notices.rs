//! JSON Schemas of the events that go out.
//!
//! Before: [`crate::domain`], which makes them. After: [`crate::spec`].

use serde_json::{Value, json};

use super::schemas::{count, moment, object, one_of, or_null, text, text_or_null, uuid, with};
use crate::domain::alert::{BLIND_DEDUP_KEY, BlindCause, Cause, Resolution, Severity};
use crate::domain::notice::Topic;
use crate::domain::team::{Departure, MemberRole};
use crate::domain::verdict::Reason;
use crate::outbound::SOURCE;

/// Limit of a ticket's key in characters (ServiceNow's limit is the narrowest).
const DEDUP_KEY_CHARS_MAX: usize = 100;
/// Limit of a ticket's title in characters (Opsgenie's).
const SUMMARY_CHARS_MAX: usize = 130;

/// The schema of each topic.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    Topic::ALL.into_iter().map(|topic| (topic.name(), notice(topic))).collect()
}

fn notice(topic: Topic) -> Value {
    let (description, subject, data) = match topic {
        Topic::CustomerProvisioned => ("User and building exist at Podero.", "the customer's id", home()),
        Topic::CustomerRelocated => ("The move is complete at Podero.", "the customer's id", home()),
        Topic::CustomerOffboarded => ("The customer is gone from Podero.", "the customer's id", gone()),
        Topic::TeamMemberAdded => ("A member has a user at Podero.", "the member's id", member(None)),
        Topic::TeamMemberChanged => ("A member's user shows what an event said.", "the member's id", member(None)),
        Topic::TeamMemberRemoved => {
            let resolution = one_of(&[Departure::Left.name(), Departure::Expired.name()], "why the member is gone");
            ("A member's user is gone from Podero.", "the member's id", member(Some(("resolution", resolution))))
        }
        Topic::TeamAccessExpiring => {
            let end = moment("when the access ends, unless a later event moves it");
            ("A member's access ends soon.", "the member's id", member(Some(("expires_at", end))))
        }
        Topic::EventParked => ("A person is needed.", "the customer's id, or the event's", parked()),
        Topic::HeatPumpDisconnected => (
            "A heat pump is disconnected, or unstable: open a ticket.",
            "the heat pump's id",
            pump(Some(&Cause::OF_A_LOSS)),
        ),
        Topic::HeatPumpNeverConnected => {
            let description = "A heat pump was never connected: its onboarding is not finished.";
            (description, "the heat pump's id", pump(Some(&[Cause::NeverConnected])))
        }
        Topic::HeatPumpReconnected => ("The alert of a heat pump is over: close it.", "the heat pump's id", pump(None)),
        Topic::FleetOutageStarted => {
            ("Many heat pumps went at once: one alert for all of them.", "the outage's key", fleet(true))
        }
        Topic::FleetOutageEnded => {
            let description = "Most of them are back; what is still away is judged afresh.";
            (description, "the outage's key", fleet(false))
        }
        Topic::WatchBlind => ("The bridge cannot see: nothing is known of any heat pump.", "`watch`", visibility(true)),
        Topic::WatchRestored => ("It can see again.", "`watch`", visibility(false)),
    };
    let mut notice = object(&[
        ("specversion", json!({"const": "1.0"})),
        ("id", uuid("the same each time it is sent; deduplicate by it")),
        ("source", json!({"const": SOURCE})),
        ("type", json!({"const": topic.name()})),
        ("subject", text(subject)),
        ("time", moment("when it became true")),
        ("datacontenttype", json!({"const": "application/json"})),
        ("data", data),
    ]);
    notice["title"] = json!(topic.name());
    notice["description"] = json!(format!("{description} A CloudEvent 1.0 in the structured JSON format."));
    notice
}

fn home() -> Value {
    object(&[
        ("customer_id", text("the utility's own id")),
        ("event_id", uuid("the bridge's id of the event that caused it")),
        ("podero_user_id", or_null(uuid("Podero's id of the user"))),
        ("building_key", text("which of the customer's homes")),
        ("building_id", or_null(uuid("Podero's id of the building; null where no home is known"))),
        ("onboarding_url", text_or_null("where the customer connects the heat pump, if a link was made")),
    ])
}

fn gone() -> Value {
    object(&[
        ("customer_id", text("the utility's own id")),
        ("event_id", uuid("the bridge's id of the event that caused it")),
        ("podero_user_id", or_null(uuid("Podero's id of the user that was deleted; null if there was none"))),
    ])
}

fn member(more: Option<(&str, Value)>) -> Value {
    let data = object(&[
        ("member_id", text("the utility's own id")),
        ("podero_user_id", or_null(uuid("Podero's id of the user; null if there was none"))),
        ("role", or_null(one_of(&MemberRole::names(), "the role at Podero; null if it is not known"))),
        ("event_id", uuid("the bridge's id of the event that caused it")),
    ]);
    match more {
        Some((name, schema)) => with(data, name, schema),
        None => data,
    }
}

fn parked() -> Value {
    object(&[
        ("event_id", uuid("the bridge's id of it; for `podero-bridge parked show`")),
        (
            "customer_id",
            text_or_null("the utility's own id; null for a member's event, and for what never became an event"),
        ),
        ("member_id", text_or_null("the utility's own id of a member of its team; null for any other event")),
        ("type", text("the event's type; `unknown` for what never became one")),
        ("reason", one_of(&Reason::names(), "see Parked events in docs/OPERATIONS.md")),
        ("parked_at", moment("when")),
    ])
}

/// The data of an alert: the fields that all have, null but for those that it is `about`. A trigger has no resolution yet.
fn alert<const N: usize>(is_trigger: bool, causes: &[&str], resolutions: &[&str], about: [(&str, Value); N]) -> Value {
    let null = || json!({"type": "null"});
    let resolution = if is_trigger { null() } else { one_of(resolutions, "why it is over") };
    let mut data = object(&[
        ("action", json!({"const": if is_trigger { "trigger" } else { "resolve" }})),
        ("severity", one_of(&Severity::ALL.map(Severity::name), "how urgent it was when it was triggered")),
        ("cause", one_of(causes, "what is the matter")),
        ("summary", limited(SUMMARY_CHARS_MAX, "a ticket's title")),
        ("occurrence_id", uuid("names this one occurrence; its trigger and its resolve share it")),
        ("since", moment("when it was first seen")),
        ("detected_at", moment("when it became an alert")),
        ("resolution", resolution),
        ("customer_id", null()),
        ("podero_user_id", null()),
        ("building_id", null()),
        ("heat_pump_id", null()),
        ("manufacturer", null()),
        ("model", null()),
        ("reconnect_url", null()),
    ]);
    for (name, schema) in about {
        data = with(data, name, schema);
    }
    data
}

fn limited(chars_max: usize, description: &str) -> Value {
    json!({"type": "string", "maxLength": chars_max, "description": description})
}

/// The data of a heat pump's alert. A trigger has one of the causes `triggers`; a resolve may have any.
fn pump(triggers: Option<&[Cause]>) -> Value {
    let any = [&Cause::OF_A_LOSS[..], &[Cause::NeverConnected]].concat();
    let causes: Vec<&str> = triggers.unwrap_or(&any).iter().map(|cause| cause.name()).collect();
    let about = [
        ("dedup_key", limited(DEDUP_KEY_CHARS_MAX, "stable per heat pump and cause")),
        ("customer_id", text_or_null("the utility's own id, where Podero knows it")),
        ("podero_user_id", uuid("Podero's id of the owner")),
        ("building_id", or_null(uuid("Podero's id of the building"))),
        ("heat_pump_id", uuid("Podero's id")),
        ("manufacturer", text_or_null("as Podero writes it")),
        ("model", text_or_null("as Podero writes it")),
        ("reconnect_url", text_or_null("a link by which the customer reconnects the heat pump, for them alone")),
    ];
    alert(triggers.is_some(), &causes, &Resolution::ALL.map(Resolution::name), about)
}

fn fleet(is_trigger: bool) -> Value {
    let scope = object(&[
        ("kind", one_of(&["manufacturer", "region"], "what they have in common")),
        ("name", text("which one: a manufacturer as Podero writes it, or country and beginning of the ZIP code")),
    ]);
    let remaining = if is_trigger { json!({"type": "null"}) } else { count("heat pumps that are still away") };
    let about = [
        ("dedup_key", limited(DEDUP_KEY_CHARS_MAX, "stable per manufacturer or region")),
        ("scope", scope),
        ("affected", count("heat pumps that were away at once, at most")),
        ("watched", count("heat pumps of the scope that something is known of")),
        ("remaining", remaining),
        ("heat_pumps", text("where the admin API lists them")),
        ("manufacturer", text_or_null("of an outage of a manufacturer")),
    ];
    alert(is_trigger, &Cause::OF_A_FLEET.map(Cause::name), &[Resolution::Reconnected.name()], about)
}

fn visibility(is_trigger: bool) -> Value {
    let about = [("dedup_key", json!({"const": BLIND_DEDUP_KEY}))];
    alert(is_trigger, &BlindCause::ALL.map(BlindCause::name), &["restored"], about)
}
