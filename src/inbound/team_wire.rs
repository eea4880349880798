//! Upstream's terms of the team: from a CloudEvent to a [`TeamEvent`]. No code past this file knows them.
//!
//! Pure. As for customers, all errors are named at once, and no value is repeated.
//!
//! Before: [`crate::inbound::cloudevents`]. After: [`crate::store`] keeps the event.

use super::cloudevents::{Envelope, start_of};
use super::control::{self, CANCELLED, EFFECTIVE_AT};
use super::wire::{EFFECTIVE_AHEAD_MAX, FieldReader, PERSONAL_CHARS_MAX, data_of};
use crate::domain::event::EventKind;
use crate::domain::team::{
    ExpiryChange, MemberField, MemberId, MemberRole, PolicyRefusal, Profile, SentAs, TeamEvent, TeamHappening,
    TeamPolicy, is_address,
};
use crate::domain::text::looks_like_email;
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};
use crate::problem::{FieldError, Problem, ProblemKind};

pub(super) const MEMBER_ID: &str = "member_id";
const ROLE: &str = "role";
const EXPIRES_AT: &str = "expires_at";

/// The other names in `data`: none of them is a slip of another.
const FIELDS: [&str; 9] =
    [MEMBER_ID, "email", ROLE, "first_name", "last_name", "reason", EXPIRES_AT, CANCELLED, EFFECTIVE_AT];

/// Limit of near misses in one refusal.
const NEAR_MISSES_TOLD_MAX: usize = 16;

/// Translates one event of a member. `id` becomes its own id. With the policy of the team, what it refuses whatever is known of the member
/// is a problem; while the team is not enabled, an event is only kept.
pub fn event(
    envelope: &Envelope,
    kind: EventKind,
    id: EventId,
    received_at: Timestamp,
    policy: Option<&TeamPolicy>,
) -> Result<TeamEvent, Problem> {
    let mut errors = Vec::new();
    let event = read(envelope, kind, id, received_at, &mut errors);
    let event = match event {
        Some(event) if errors.is_empty() => event,
        Some(_) | None => return Err(Problem::invalid(errors)),
    };
    let Some(policy) = policy else { return Ok(event) };
    let refused = |kind, pointer: &str, reason: &str| {
        Err(Problem { kind, ..Problem::invalid(vec![FieldError::new(pointer, reason)]) })
    };
    if is_address(event.member.as_str()) {
        let reason = "must be an id that stays with the person, and no e-mail address";
        return refused(ProblemKind::MemberIdIsAddress, "/data/member_id", reason);
    }
    let end = event.happening.expiry_said().flatten();
    if end.is_some_and(|end| end < event.time) {
        let reason = "must not be before the event's own `time`";
        return refused(ProblemKind::ExpiresBeforeEvent, "/data/expires_at", reason);
    }
    match policy.at_entrance(&event) {
        Ok(()) => Ok(event),
        Err(PolicyRefusal { reason: Reason::GuestAccess, detail }) => {
            let is_admin = matches!(event.happening, TeamHappening::Joined { role: MemberRole::Admin, .. });
            let pointer = if is_admin { "/data/role" } else { "/data/expires_at" };
            refused(ProblemKind::GuestAccess, pointer, &detail)
        }
        Err(PolicyRefusal { detail, .. }) => refused(ProblemKind::ForeignEmailDomain, "/data/email", &detail),
    }
}

fn read(
    envelope: &Envelope,
    kind: EventKind,
    id: EventId,
    received_at: Timestamp,
    errors: &mut Vec<FieldError>,
) -> Option<TeamEvent> {
    let controls = controls_of(kind);
    let data = data_of(envelope, controls, received_at, errors)?;
    let mut data = FieldReader { fields: &data, pointer: "/data".to_owned(), errors };
    let member = data.subject_id(MEMBER_ID, envelope.subject.as_deref(), MemberId::accept);
    near_misses(&mut data, controls);
    let effective_at = data.moment(EFFECTIVE_AT).filter(|_| controls.contains(&EFFECTIVE_AT));
    if effective_at.is_some_and(|at| at > received_at.plus(EFFECTIVE_AHEAD_MAX)) {
        data.wrong(EFFECTIVE_AT, "must be at most ten years ahead");
    }
    let is_off = controls.contains(&CANCELLED) && data.flag(CANCELLED) == Some(true);
    let called_off = |sent| Some(TeamHappening::CalledOff { sent });
    let happening = match kind {
        EventKind::MemberJoined if is_off => called_off(SentAs::Joined),
        EventKind::MemberLeft if is_off => called_off(SentAs::Left),
        EventKind::MemberRoleChanged if is_off => called_off(SentAs::RoleChanged),
        EventKind::MemberJoined => {
            let (profile, expires, role) = (person(&mut data, true), expiry(&mut data), role(&mut data));
            role.map(|role| TeamHappening::Joined { role, profile, expires })
        }
        EventKind::MemberUpdated => {
            let (profile, expires) = (person(&mut data, false), expiry(&mut data));
            Some(TeamHappening::Updated { profile, expires })
        }
        EventKind::MemberRoleChanged => role(&mut data).map(|role| TeamHappening::RoleChanged { role }),
        EventKind::MemberLeft => Some(TeamHappening::Left),
        EventKind::SignedUp | EventKind::Moved | EventKind::Updated | EventKind::Churned => None,
    };
    let is_off = matches!(happening, Some(TeamHappening::CalledOff { .. }));
    let effective_at = effective_at.filter(|_| !is_off);
    let time = envelope.time.unwrap_or(received_at);
    Some(TeamEvent { id, member: member?, time, received_at, effective_at, happening: happening? })
}

/// The fields that decide whether and when access is given or taken away: a near miss of one is no field to pass over.
fn controls_of(kind: EventKind) -> &'static [&'static str] {
    match kind {
        EventKind::MemberJoined => &[CANCELLED, EFFECTIVE_AT, EXPIRES_AT],
        EventKind::MemberUpdated => &[EXPIRES_AT],
        EventKind::MemberRoleChanged | EventKind::MemberLeft => &[CANCELLED, EFFECTIVE_AT],
        EventKind::SignedUp | EventKind::Moved | EventKind::Updated | EventKind::Churned => &[],
    }
}

fn near_misses(data: &mut FieldReader<'_>, controls: &[&'static str]) {
    let given = data.fields.iter().filter(|(_, value)| !value.is_null());
    let near = given.filter_map(|(name, _)| Some((start_of(name), control::meant(name, controls, &FIELDS)?)));
    let near: Vec<_> = near.take(NEAR_MISSES_TOLD_MAX).collect();
    for (name, meant) in near {
        data.wrong(&name, format!("is not a field; did you mean `{meant}`?"));
    }
}

fn person(data: &mut FieldReader<'_>, is_join: bool) -> Profile {
    let mut profile = Profile::new();
    for field in MemberField::ALL {
        if let Some(text) = data.text(field.name(), PERSONAL_CHARS_MAX) {
            profile.insert(field, text.into_owned());
        }
    }
    match profile.get(&MemberField::Email) {
        Some(email) if !looks_like_email(email) => data.wrong("email", "must be an e-mail address"),
        None if is_join && !data.errors.iter().any(|error| error.pointer == "/data/email") => {
            data.wrong("email", "is required");
        }
        Some(_) | None => {}
    }
    profile
}

fn role(data: &mut FieldReader<'_>) -> Option<MemberRole> {
    let words = MemberRole::names();
    let role = data.text(ROLE, PERSONAL_CHARS_MAX);
    let known = role.as_deref().and_then(|role| MemberRole::from_name(&role.to_ascii_lowercase()));
    if known.is_none() && !data.errors.iter().any(|error| error.pointer == "/data/role") {
        let reason = if role.is_some() { format!("must be one of {}", words.join(", ")) } else { "is required".into() };
        data.wrong(ROLE, reason);
    }
    known
}

/// The end of the access. In an update null removes it; an empty text says nothing, since it may be a cell that was not filled in.
fn expiry(data: &mut FieldReader<'_>) -> ExpiryChange {
    match data.fields.get(EXPIRES_AT) {
        None => ExpiryChange::Unsaid,
        Some(value) if value.is_null() => ExpiryChange::Never,
        Some(_) => data.moment(EXPIRES_AT).map_or(ExpiryChange::Unsaid, ExpiryChange::At),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    fn translate_as(type_name: &str, data: Value, policy: Option<&TeamPolicy>) -> Result<TeamEvent, Problem> {
        let envelope = Envelope {
            source: "/hr".into(),
            id: "e1".into(),
            type_name: type_name.into(),
            subject: None,
            time: Timestamp::parse("2026-10-01T12:00:00Z"),
            data,
            raw: bytes::Bytes::new(),
            beside: None,
            of_message: None,
            astray: Vec::new(),
        };
        let received_at = Timestamp::parse("2026-10-01T12:00:01Z").expect("valid");
        let kind = EventKind::from_name(type_name).expect("known");
        event(&envelope, kind, EventId(Uuid::nil()), received_at, policy)
    }

    fn translate(type_name: &str, data: Value) -> Result<TeamEvent, Problem> {
        let policy = TeamPolicy { is_enabled: true, ..TeamPolicy::default() };
        translate_as(type_name, data, Some(&policy))
    }

    #[test]
    fn a_join_an_update_and_a_leave() {
        let join = json!({"member_id": "M-1", "email": " mia@example.com ", "role": "Staff", "first_name": "Mia",
                          "expires_at": "2026-12-31T00:00:00Z", "cost_centre": 7});
        let join = translate("team.member_joined", join).expect("valid");
        let TeamHappening::Joined { role, profile, expires } = join.happening else { panic!("a join") };
        assert_eq!((role, profile[&MemberField::Email].as_str()), (MemberRole::Staff, "mia@example.com"));
        assert_eq!(expires.said().flatten(), Timestamp::parse("2026-12-31T00:00:00Z"));
        for (data, expected) in [
            (json!({"member_id": "M-1", "expires_at": null}), ExpiryChange::Never),
            (json!({"member_id": "M-1", "expires_at": ""}), ExpiryChange::Unsaid),
            (json!({"member_id": "M-1"}), ExpiryChange::Unsaid),
        ] {
            let updated = translate("team.member_updated", data).expect("valid");
            assert_eq!(updated.happening, TeamHappening::Updated { profile: Profile::new(), expires: expected });
        }
        let leave = json!({"member_id": "M-1", "effective_at": "2026-11-01T00:00:00Z", "reason": "end of contract"});
        let leave = translate("team.member_left", leave).expect("valid");
        assert!(leave.is_announced() && leave.happening == TeamHappening::Left);
        let off = translate("team.member_left", json!({"member_id": "M-1", "cancelled": true})).expect("valid");
        assert_eq!((off.change(), off.happening.kind()), (leave.change(), Some(EventKind::MemberLeft)));
        let off = translate("team.member_joined", json!({"member_id": "M-1", "cancelled": true})).expect("valid");
        assert_ne!(off.change(), leave.change(), "of a fixed term, join and leave are called off by themselves");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        for (type_name, data, pointers) in [
            ("team.member_left", json!({}), vec!["/data/member_id"]),
            ("team.member_left", json!({"member_id": "M", "canceled": true}), vec!["/data/canceled"]),
            ("team.member_left", json!({"member_id": "M", "effectiveAt": "x"}), vec!["/data/effectiveAt"]),
            ("team.member_joined", json!({"member_id": "M"}), vec!["/data/email", "/data/role"]),
            (
                "team.member_joined",
                json!({"member_id": "M", "email": "m@example.com", "role": "boss", "expiresAt": "2026-12-31"}),
                vec!["/data/expiresAt", "/data/role"],
            ),
            ("team.member_role_changed", json!({"member_id": "M"}), vec!["/data/role"]),
            ("team.member_updated", json!({"member_id": "M", "email": "nobody"}), vec!["/data/email"]),
            ("team.member_updated", json!({"member_id": "M", "expires_at": "soon"}), vec!["/data/expires_at"]),
        ] {
            let problem = translate(type_name, data.clone()).expect_err(type_name);
            let found: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
            assert_eq!(found, pointers, "{type_name} {data}");
            assert_eq!(problem.kind, ProblemKind::InvalidEvent);
        }
    }

    #[test]
    fn a_reason_that_is_known_at_the_entrance_is_a_problem_of_its_own() {
        let address = json!({"member_id": "mia@example.com"});
        let problem = translate("team.member_left", address.clone()).expect_err("an address");
        assert_eq!((problem.kind.status(), problem.kind.name()), (422, "member-id-is-address"));
        let past = json!({"member_id": "M", "expires_at": "2026-10-01T11:59:59Z"});
        let problem = translate("team.member_updated", past.clone()).expect_err("before the event");
        assert_eq!((problem.kind.status(), problem.kind.name()), (422, "expires-before-event"));
        // While the team is not enabled, they are taken, and parked as `team_disabled`.
        assert!(translate_as("team.member_left", address, None).is_ok());
        assert!(translate_as("team.member_updated", past, None).is_ok());
    }
    #[test]
    fn the_policy_refuses_at_the_entrance_what_the_event_alone_tells() {
        let ours =
            TeamPolicy { is_enabled: true, email_domains: vec!["utility.example".to_owned()], ..TeamPolicy::default() };
        let guests = TeamPolicy { guest_access_max: Some(std::time::Duration::from_secs(90 * 86_400)), ..ours.clone() };
        let said = |type_name: &str, data: &Value, policy: &TeamPolicy| {
            let problem = translate_as(type_name, data.clone(), Some(policy)).err()?;
            Some((problem.kind.name(), problem.errors[0].pointer.clone()))
        };
        let problem = |kind, pointer: &str| Some((kind, pointer.to_owned()));
        let join = |fields: Value| {
            let mut data = json!({"member_id": "M-1", "email": "m@partner.example", "role": "staff"});
            data.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
            data
        };
        let (near, far) = ("2026-12-01T00:00:00Z", "2028-12-01T00:00:00Z");
        for (data, of_ours, of_guests) in [
            (json!({}), "foreign-email-domain", problem("guest-access", "/data/expires_at")),
            (json!({"expires_at": near}), "foreign-email-domain", None),
            (json!({"expires_at": far}), "foreign-email-domain", problem("guest-access", "/data/expires_at")),
            (
                json!({"expires_at": near, "role": "admin"}),
                "foreign-email-domain",
                problem("guest-access", "/data/role"),
            ),
        ] {
            let data = join(data);
            assert_eq!(said("team.member_joined", &data, &ours), problem(of_ours, "/data/email"), "{data}");
            assert_eq!(said("team.member_joined", &data, &guests), of_guests, "{data}");
        }
        // The end that a member has is not known at the entrance.
        let update = json!({"member_id": "M-1", "email": "m@partner.example"});
        assert_eq!(said("team.member_updated", &update, &ours), problem("foreign-email-domain", "/data/email"));
        assert_eq!(said("team.member_updated", &update, &guests), None);
        let update = json!({"member_id": "M-1", "email": "m@partner.example", "expires_at": null});
        assert_eq!(said("team.member_updated", &update, &guests), problem("guest-access", "/data/expires_at"));
        assert_eq!(said("team.member_updated", &json!({"member_id": "M-1", "first_name": "Mia"}), &ours), None);
    }
}
