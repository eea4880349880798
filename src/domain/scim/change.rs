//! From a user as it is known and a request to the record after it and the events by which it differs.
//!
//! While a user is not active, only the record changes: the join that makes it active says everything. A removal that waits for an
//! approval is not asked for twice.
//!
//! Before: [`super::document`], [`super::patch`], [`super::known`]. After: [`mod@super::permission`], and [`crate::store`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::Timestamp;
use super::super::team::{ExpiryChange, MemberFacts, MemberField, MemberRole, Profile, TeamHappening};
use super::document::ScimDocument;
use super::error::ScimError;
use super::group::ScimGroup;
use super::known::KnownUser;
use super::patch::{PatchOperation, patch_document};
use super::record::{ScimRecord, SeenFacts};
use super::terms::RoleFrom;

/// Limit of the time by which a request counts as later than its arrival: an event whose sender's clock is ahead by less came before
/// it all the same.
const AHEAD_MAX: Duration = Duration::from_mins(5);

/// A request about one user.
#[derive(Debug, Clone, PartialEq)]
pub enum ScimWrite {
    /// POST.
    Create(ScimDocument),
    /// PUT.
    Replace(ScimDocument),
    /// PATCH.
    Patch(Vec<PatchOperation>),
}

/// What a request is judged by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScimContext {
    /// `scim.role_from`.
    pub role_from: RoleFrom,
    /// The time of the request.
    pub now: Timestamp,
}

/// The effect of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct ScimChange {
    /// The record from now on.
    pub record: ScimRecord,
    /// The events, in order.
    pub happenings: Vec<TeamHappening>,
    /// The time at which they happened: after everything that is known of the member.
    pub time: Timestamp,
    /// False if nothing at all changes.
    pub is_news: bool,
}

/// The effect of a POST, PUT or PATCH. `id` is the bridge's id of a user that is made.
///
/// # Errors
///
/// The request asks for something that a user cannot be; 404: there is no such user.
pub fn change_user(
    known: &KnownUser,
    write: &ScimWrite,
    id: &str,
    context: ScimContext,
) -> Result<ScimChange, ScimError> {
    let view = known.view(context.role_from);
    let before = view.as_ref().map(|view| &view.document);
    let after = match (write, before) {
        (ScimWrite::Create(document), _) => ScimDocument { says_active: true, ..document.clone() },
        (ScimWrite::Replace(_) | ScimWrite::Patch(_), None) => return Err(no_such_user()),
        (ScimWrite::Replace(document), Some(before)) => document.in_place_of(before),
        (ScimWrite::Patch(operations), Some(before)) => patch_document(before, operations)?,
    };
    let mut record = match (write, known.live()) {
        (ScimWrite::Create(_), _) | (_, None) => {
            let id = if matches!(write, ScimWrite::Create(_)) { id.to_owned() } else { known.id() };
            new_record(id, context)
        }
        (ScimWrite::Replace(_) | ScimWrite::Patch(_), Some(record)) => record.clone(),
    };
    let facts = known.facts();
    let role = role_asked(&record, &facts, before, &after, context)?;
    let happenings = happenings(known, &facts, &after, role)?;
    keep_groups(&mut record, known, &facts, context);
    let says_role = record.role_from != context.role_from
        || before.is_none_or(|before| before.role(context.role_from) != after.role(context.role_from));
    record.document = after;
    record.role_from = context.role_from;
    Ok(finish(known, Said { before, says_role }, record, happenings, context))
}

/// The effect of a DELETE.
///
/// # Errors
///
/// 404: there is no such user.
pub fn delete_user(known: &KnownUser, context: ScimContext) -> Result<ScimChange, ScimError> {
    known.view(context.role_from).ok_or_else(no_such_user)?;
    let facts = known.facts();
    let happenings: Vec<TeamHappening> = leaves(known, &facts).then_some(TeamHappening::Left).into_iter().collect();
    let record = known.live().cloned().unwrap_or_else(|| new_record(known.id(), context));
    let time = time_of(&happenings, known, context.now);
    Ok(ScimChange { record: record.emptied(time), happenings, time, is_news: true })
}

/// The effect of a change of membership in a group.
pub fn regroup(known: &KnownUser, group: ScimGroup, is_in: bool, context: ScimContext) -> ScimChange {
    let facts = known.facts();
    let view = known.view(context.role_from);
    let before = view.as_ref().map(|view| &view.document);
    let mut record = known.live().cloned().unwrap_or_else(|| new_record(known.id(), context));
    let document = before.cloned().unwrap_or_default();
    let is_switched = record.role_from != context.role_from;
    // Asked before the groups change: what they, or the roles, said until now counts from this request on.
    let by_switch = role_asked(&record, &facts, before, &document, context);
    keep_groups(&mut record, known, &facts, context);
    record.document = document;
    let says_role = is_switched || (group == ScimGroup::Admin && record.in_admin != Some(is_in));
    match group {
        ScimGroup::Staff => record.in_staff = Some(is_in),
        ScimGroup::Admin => record.in_admin = Some(is_in),
    }
    let role = facts.role_over(known.observed()).unwrap_or(MemberRole::Staff);
    let counts = group == ScimGroup::Admin && context.role_from == RoleFrom::Groups;
    let wanted = match &by_switch {
        _ if counts => Some(if is_in { MemberRole::Admin } else { MemberRole::Staff }),
        Ok(asked) if is_switched => asked.of_member,
        Ok(_) | Err(_) => None,
    };
    let asks_for = |wanted: &MemberRole| match wanted {
        // One who is put back while the demotion waits for an approval: the newer word is an event that says so.
        MemberRole::Admin => role != *wanted || known.awaits_demotion(&facts),
        MemberRole::Staff => role != *wanted && !known.awaits_demotion(&facts),
    };
    let asked = wanted.filter(|wanted| facts.is_active() && asks_for(wanted));
    let happenings = asked.map(|role| TeamHappening::RoleChanged { role }).into_iter().collect();
    // Roles that are none are refused where they are sent: until a request about the user itself, nothing is switched.
    if counts || by_switch.is_ok() {
        record.role_from = context.role_from;
    }
    finish(known, Said { before, says_role }, record, happenings, context)
}

/// 404: nobody has the id of the request.
pub fn no_such_user() -> ScimError {
    ScimError::new(404, "there is no user with this id")
}

fn new_record(id: String, context: ScimContext) -> ScimRecord {
    ScimRecord {
        id,
        document: ScimDocument::default(),
        in_staff: None,
        in_admin: None,
        seen: None,
        said: BTreeMap::new(),
        role_said: None,
        role_from: context.role_from,
        created: context.now,
        modified: context.now,
        deleted: None,
    }
}

/// The time of the events: after everything that is known of the member, unless that lies ahead further than clocks differ. Access
/// that is taken away is after it in any case: no event may lie ahead by more than a day.
fn time_of(happenings: &[TeamHappening], known: &KnownUser, now: Timestamp) -> Timestamp {
    let latest = now.plus(AHEAD_MAX);
    let after = known.newest().map(|newest| newest.plus(Duration::from_micros(1)));
    let takes_away = happenings.iter().any(|happening| {
        matches!(happening, TeamHappening::Left | TeamHappening::RoleChanged { role: MemberRole::Staff })
    });
    after.filter(|after| takes_away || *after <= latest).map_or(now, |after| after.max(now))
}

/// True if access has to be taken away: the user has it and no removal waits for an approval, or a parked join would give it.
fn leaves(known: &KnownUser, facts: &MemberFacts) -> bool {
    if facts.is_active() { !known.awaits_removal(facts) } else { known.has_parked_join(facts) }
}

/// Keeps the groups as they are shown: the facts may have moved on without a request. Not of one who was written while the roles
/// counted: there the groups are what the provider said last.
fn keep_groups(record: &mut ScimRecord, known: &KnownUser, facts: &MemberFacts, context: ScimContext) {
    let counts = context.role_from == RoleFrom::Groups && record.role_from == RoleFrom::Groups;
    if counts && record.in_admin.is_some() {
        record.in_admin = Some(known.is_in(ScimGroup::Admin, facts, context.role_from));
    }
}

/// The role that a request asks for.
#[derive(Debug, Clone, Copy)]
struct RoleAsked {
    /// Of one who joins.
    of_join: MemberRole,
    /// Of one who is a member; `None`: it says nothing of it.
    of_member: Option<MemberRole>,
}

fn role_asked(
    record: &ScimRecord,
    facts: &MemberFacts,
    before: Option<&ScimDocument>,
    after: &ScimDocument,
    context: ScimContext,
) -> Result<RoleAsked, ScimError> {
    let by_roles = match after.role(context.role_from) {
        // Access is taken away whatever the roles say.
        Err(_) if !after.active => MemberRole::Staff,
        role => role?,
    };
    let is_admin = KnownUser::is_admin_by_word(record, facts, context.role_from);
    let by_groups = if is_admin { MemberRole::Admin } else { MemberRole::Staff };
    let is_switched = record.role_from != context.role_from;
    Ok(match context.role_from {
        RoleFrom::Roles => {
            let speaks = before.is_none_or(|before| before.roles != after.roles) || is_switched;
            RoleAsked { of_join: by_roles, of_member: speaks.then_some(by_roles) }
        }
        RoleFrom::Groups => {
            let speaks = is_switched && (record.in_admin.is_some() || record.in_staff.is_some());
            RoleAsked { of_join: by_groups, of_member: speaks.then_some(by_groups) }
        }
    })
}

fn happenings(
    known: &KnownUser,
    facts: &MemberFacts,
    after: &ScimDocument,
    role: RoleAsked,
) -> Result<Vec<TeamHappening>, ScimError> {
    let address = after.address()?;
    let wanted = [
        (MemberField::Email, Some(address)),
        (MemberField::FirstName, after.given_name.as_deref()),
        (MemberField::LastName, after.family_name.as_deref()),
    ];
    let wanted: Profile = wanted.into_iter().filter_map(|(field, text)| Some((field, text?.to_owned()))).collect();
    if !after.active {
        // A change of a name calls no join off that waits for a person.
        let asks = facts.is_active() || after.says_active;
        return Ok((asks && leaves(known, facts)).then_some(TeamHappening::Left).into_iter().collect());
    }
    if !facts.is_active() {
        return Ok(vec![TeamHappening::Joined { role: role.of_join, profile: wanted, expires: ExpiryChange::Unsaid }]);
    }
    if after.says_active && known.awaits_removal(facts) {
        // The newer word is that the user stays: an approval of the removal then finds it outdated.
        let role = MemberRole::Staff;
        return Ok(vec![TeamHappening::Joined { role, profile: wanted, expires: ExpiryChange::Unsaid }]);
    }
    let mut happenings = Vec::new();
    let profile: Profile =
        wanted.into_iter().filter(|(field, text)| facts.text(*field) != Some(text.as_str())).collect();
    if !profile.is_empty() {
        happenings.push(TeamHappening::Updated { profile, expires: ExpiryChange::Unsaid });
    }
    let current = facts.role_over(known.observed());
    let asked = role.of_member.filter(|role| Some(*role) != current);
    let asked = asked.filter(|role| *role == MemberRole::Admin || !known.awaits_demotion(facts));
    happenings.extend(asked.map(|role| TeamHappening::RoleChanged { role }));
    Ok(happenings)
}

/// The part of a request that tells what it says.
#[derive(Clone, Copy)]
struct Said<'a> {
    /// The attributes as they were shown.
    before: Option<&'a ScimDocument>,
    /// True if it says something of the role.
    says_role: bool,
}

/// Notes the facts as they will be, the times of the words, and whether anything is new.
fn finish(
    known: &KnownUser,
    said: Said<'_>,
    mut record: ScimRecord,
    happenings: Vec<TeamHappening>,
    context: ScimContext,
) -> ScimChange {
    let time = time_of(&happenings, known, context.now);
    record.document = record.document.kept();
    let facts = known.facts_after(&happenings, time);
    record.seen = facts.is_active().then(|| SeenFacts::of(&facts, known.observed()));
    note_times(&mut record, known, said, &happenings, time);
    let is_news = !happenings.is_empty() || known.live() != Some(&record);
    if is_news {
        record.modified = context.now;
    }
    ScimChange { record, happenings, time, is_news }
}

/// Notes since when the record says what it says: since this request where it differs from what was shown, else since the fact or the
/// request before.
fn note_times(
    record: &mut ScimRecord,
    known: &KnownUser,
    said: Said<'_>,
    happenings: &[TeamHappening],
    time: Timestamp,
) {
    let (was, facts) = (known.live(), known.facts());
    let since = |before: Option<Timestamp>, by_fact: Option<Timestamp>| before.max(by_fact).unwrap_or(time);
    for field in MemberField::ALL {
        let is_said = said.before.is_none_or(|before| before.text(field) != record.document.text(field));
        let by_fact = facts.profile.get(&field).map(|fact| fact.stamp.time);
        let at = if is_said { time } else { since(was.map(|was| was.said_at(field)), by_fact) };
        record.said.insert(field, at);
    }
    let asks = happenings
        .iter()
        .any(|happening| matches!(happening, TeamHappening::Joined { .. } | TeamHappening::RoleChanged { .. }));
    let by_fact = facts.role.map(|fact| fact.stamp.time);
    let at = if asks || said.says_role { time } else { since(was.map(ScimRecord::role_said_at), by_fact) };
    record.role_said = Some(at);
}
