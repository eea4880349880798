//! The promises about members of the team, each held against the world itself when everything rests.

use std::collections::{BTreeMap, BTreeSet};

use podero_bridge::domain::Timestamp;
use podero_bridge::sandbox::access::UserRole;
use podero_bridge::store::REPLACED;
use serde_json::Value;

use super::members::{MemberFold, ToldOfMember};
use super::observer::REFUSALS;
use super::run::{Check, Run};

/// A row of an event of a member at the end.
pub(super) struct MemberRow {
    /// Sorts by arrival.
    pub(super) id: String,
    pub(super) lane: String,
    pub(super) type_name: String,
    pub(super) time: Timestamp,
    pub(super) origin_id: Option<String>,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) settled_at: Option<Timestamp>,
}

impl MemberRow {
    fn member(&self) -> &str {
        self.lane.split('\t').next_back().unwrap_or_default()
    }

    fn is_expiry(&self) -> bool {
        self.type_name == "team.access_expired"
    }
}

pub(super) async fn kept(run: &mut Run, bodies: &[Value]) -> Check {
    let rows = run.observer.member_events().await;
    let of_hr: Vec<&MemberRow> = rows.iter().filter(|row| row.origin_id.is_some()).collect();
    let known: BTreeSet<&str> = of_hr.iter().filter_map(|row| row.origin_id.as_deref()).collect();
    if known.len() != of_hr.len() {
        return Err("team: an event is there twice".to_owned());
    }
    for told in &run.team {
        if !run.accepted.contains(&told.id) || !known.contains(told.id.as_str()) {
            return Err(format!("team: {} was never acknowledged, or is not there", told.id));
        }
    }
    let folds = fold(run, &rows, &[]);
    let with_leaves = fold(run, &rows, &begun_leaves(run, &rows));
    let mut strikes: BTreeMap<&'static str, usize> = BTreeMap::new();
    for row in &rows {
        ended(run, row, &rows, &folds)?;
        if let Some(strike) = strike(row) {
            *strikes.entry(strike).or_default() += 1;
        }
    }
    for (strike, count) in strikes {
        *run.strikes.entry(strike).or_default() += count;
    }
    for (member, fold) in &folds {
        shown(run, member, fold, &rows)
            .or_else(|wrong| shown(run, member, &with_leaves[member], &rows).map_err(|_| wrong))?;
    }
    for row in of_hr.iter().filter(|row| row.state == "applied") {
        let Some(news) = told_of(run, row).and_then(ToldOfMember::news) else { continue };
        let is_about = |body: &&Value| body["data"]["event_id"] == row.id.as_str() && body["type"] == news;
        let heard = bodies.iter().filter(is_about).count();
        // Of a leave of someone who was never of the team no outgoing event tells.
        if heard != 1 && !(heard == 0 && is_of_a_stranger(run, row, &rows)) {
            return Err(format!("team: {:?} took effect and was told {heard} times", row.origin_id));
        }
    }
    Ok(())
}

fn told_of<'a>(run: &'a Run, row: &MemberRow) -> Option<&'a ToldOfMember> {
    let id = row.origin_id.as_deref()?;
    run.team.iter().find(|told| told.id == id)
}

/// Says whether it is a leave before which no join took effect.
fn is_of_a_stranger(run: &Run, row: &MemberRow, rows: &[MemberRow]) -> bool {
    let is_leave = told_of(run, row).is_some_and(ToldOfMember::is_leave);
    let ended = run.observer.ended.iter().take_while(|(id, state)| *id != row.id || state != "applied");
    let mut before = ended.filter(|(_, state)| state == "applied");
    is_leave && !before.any(|(id, _)| others(run, row, rows).any(|(other, told)| other.id == *id && told.is_join()))
}

fn strike(row: &MemberRow) -> Option<&'static str> {
    match (row.state.as_str(), row.reason.as_deref()) {
        ("parked", Some("too_few_admins")) => Some("team: parked as too few admins"),
        ("applied", _) if row.is_expiry() => Some("team: an access expired"),
        ("applied", _) if row.type_name == "team.member_left" => Some("team: a member left"),
        ("applied", _) if row.type_name == "team.member_joined" => Some("team: a member joined"),
        ("superseded", _) if row.is_expiry() => Some("team: an end was moved"),
        _ => None,
    }
}

/// Leaves that a newer join has made pointless. One that was begun before that join has ended the membership before it all the same: what
/// was known of that membership, such as its end, need not be known any more.
fn begun_leaves<'a>(run: &'a Run, rows: &'a [MemberRow]) -> Vec<(&'a MemberRow, &'a ToldOfMember)> {
    let pointless = rows.iter().filter(|row| row.state == "superseded" && row.reason.as_deref() != Some(REPLACED));
    pointless.filter_map(|row| Some((row, told_of(run, row)?))).filter(|(_, told)| told.is_leave()).collect()
}

/// The oracle: the fold of what took effect, in the order in which it did, and of these leaves, as far as they had begun, before the
/// joins that are newer.
fn fold(run: &Run, rows: &[MemberRow], leaves: &[(&MemberRow, &ToldOfMember)]) -> BTreeMap<String, MemberFold> {
    let mut folds: BTreeMap<String, MemberFold> =
        run.team.iter().map(|told| (told.member.clone(), MemberFold::default())).collect();
    for (place, (id, state)) in run.observer.ended.iter().enumerate().filter(|(_, (_, state))| state == "applied") {
        let Some(row) = rows.iter().find(|row| row.id == *id) else { continue };
        let fold = folds.entry(row.member().to_owned()).or_default();
        match told_of(run, row) {
            Some(told) => {
                for (left, leave) in leaves.iter().filter(|(left, _)| told.is_join() && left.lane == row.lane) {
                    if run.observer.had_begun(&left.id, place) && leave.stamp(&left.id) < told.stamp(id) {
                        fold.fold(leave, &left.id);
                    }
                }
                fold.fold(told, id);
            }
            None if row.is_expiry() => fold.expire(row.time, id),
            // The notice ahead of an end changes nothing.
            None => {}
        }
        debug_assert_eq!(state, "applied");
    }
    folds
}

/// P2: every event has ended, and for a reason.
fn ended(run: &Run, row: &MemberRow, rows: &[MemberRow], folds: &BTreeMap<String, MemberFold>) -> Check {
    let told = told_of(run, row);
    let is_active = folds.get(row.member()).is_some_and(MemberFold::is_active);
    let is_right = match (row.state.as_str(), row.reason.as_deref()) {
        ("applied", _) => true,
        ("superseded", Some(REPLACED)) => told.is_some_and(|told| is_replaced(run, told, row, rows)),
        ("superseded", _) => told.is_none_or(|told| is_stale(run, told, row, rows)),
        ("parked", Some("no_join")) => {
            !is_active || told.is_some_and(|told| follows_a_refused_leave(run, told, row, rows))
        }
        ("parked", Some("too_few_admins")) => run.min_admins() > 0,
        ("parked", Some("admin_not_allowed")) => !run.allows_admins(),
        ("parked", Some("protected_member")) => run.protects(),
        ("parked", Some("email_taken")) => {
            run.team.iter().any(|told| told.member == row.member() && told.is_of_founder())
        }
        _ => false,
    };
    if is_right {
        return Ok(());
    }
    Err(format!("team: {:?} ({}) of {} ended as {} {:?}", told, row.type_name, row.member(), row.state, row.reason))
}

/// The other events of the member, each with its row.
fn others<'a>(
    run: &'a Run,
    row: &'a MemberRow,
    rows: &'a [MemberRow],
) -> impl Iterator<Item = (&'a MemberRow, &'a ToldOfMember)> {
    let others = rows.iter().filter(|other| other.lane == row.lane && other.id != row.id);
    others.filter_map(|other| Some((other, told_of(run, other)?)))
}

fn is_replaced(run: &Run, told: &ToldOfMember, row: &MemberRow, rows: &[MemberRow]) -> bool {
    let mine = told.said(&row.id);
    let is_later =
        |(other, words): (&MemberRow, &ToldOfMember)| words.is_about_the_same(told) && words.said(&other.id) > mine;
    // An event that the policy has parked can be called off, also if it was not announced.
    let was_refused = run.observer.refused_members.contains(&row.id);
    let may_replace = |words: &ToldOfMember| told.is_announced() || (was_refused && words.calls_off());
    told.calls_off() || others(run, row, rows).any(|(other, words)| is_later((other, words)) && may_replace(words))
}

/// Says whether the policy of the team has parked an event, which waits for a person.
fn is_refused(row: &MemberRow) -> bool {
    row.state == "parked" && row.reason.as_deref().is_some_and(|reason| REFUSALS.contains(&reason))
}

/// Says whether an older leave of the member waits for a person: it was begun when the policy allowed it, and refused after a crash.
fn follows_a_refused_leave(run: &Run, told: &ToldOfMember, row: &MemberRow, rows: &[MemberRow]) -> bool {
    let is_one = |(other, words): (&MemberRow, &ToldOfMember)| {
        words.is_leave() && words.stamp(&other.id) < told.stamp(&row.id) && is_refused(other)
    };
    others(run, row, rows).any(is_one)
}

/// P5: an event that ended as superseded is older than another of the member about the same, or than the end of the access.
fn is_stale(run: &Run, told: &ToldOfMember, row: &MemberRow, rows: &[MemberRow]) -> bool {
    let mine = if told.is_announced() { told.said(&row.id) } else { told.stamp(&row.id) };
    let expired =
        |other: &MemberRow| other.lane == row.lane && other.is_expiry() && (other.time, other.id.clone()) > mine;
    let has_passed = told.ends_with_join().is_some_and(|end| row.settled_at.is_some_and(|at| end <= at));
    told.calls_off()
        || has_passed
        || rows.iter().any(expired)
        || others(run, row, rows).any(|(other, words)| words.stamp(&other.id) > mine && told.may_be_stale_by(words))
}

/// One user for a member who is one, none for one who has left or whose access has ended.
fn shown(run: &Run, member: &str, fold: &MemberFold, rows: &[MemberRow]) -> Check {
    let living: Vec<_> = run.podero.living(member).collect();
    if !fold.is_active() {
        // Invited by a join whose answer was not heard, and the policy takes nobody away without a person's approval.
        let is_kept = |row: &MemberRow| row.member() == member && is_refused(row);
        let is_right = living.is_empty() || (living.len() == 1 && rows.iter().any(is_kept));
        return if is_right { Ok(()) } else { Err(format!("team: {member} is there although gone: {fold:?}")) };
    }
    let is_parked = |row: &MemberRow| row.member() == member && row.is_expiry() && row.state == "parked";
    if let Some(end) = fold.end()
        && !rows.iter().any(is_parked)
    {
        return Err(format!("team: the access of {member} ended at {end}, and the member is there: {fold:?}"));
    }
    let [user] = living[..] else { return Err(format!("team: {member} has {} users: {fold:?}", living.len())) };
    let rank = usize::from(user.role == UserRole::Admin);
    match fold.differs(&user.email, user.text("first_name"), rank) {
        Some(why) => Err(format!("team: {member}: {why}; {fold:?}")),
        None => Ok(()),
    }
}
