//! The lives of the members of a run's team, as the HR system sends them; and the oracle for them: the pure fold of the events that
//! took effect.
//!
//! The fold is written from the contract's rules (§9: newest wins per fact, a leave buries what is older, a join demotes
//! nobody), apart from the bridge's own code.

use std::time::Duration;

use podero_bridge::domain::Timestamp;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::lives::Stamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

/// The roles of members, the lesser first.
pub(super) const ROLES: [&str; 2] = ["staff", "admin"];

/// One event of HR.
#[derive(Debug, Clone)]
pub(super) struct ToldOfMember {
    pub(super) id: String,
    pub(super) member: String,
    time: Timestamp,
    effective_at: Option<Timestamp>,
    what: OfMember,
}

#[derive(Debug, Clone)]
enum OfMember {
    /// `role` by its rank.
    Joined {
        email: String,
        role: usize,
        first_name: Option<String>,
        expires_at: Option<Timestamp>,
    },
    Named {
        first_name: String,
    },
    /// The access has another end, or none.
    Prolonged {
        expires_at: Option<Timestamp>,
    },
    Role {
        role: usize,
    },
    Left,
    /// The leave, or the change of role, that was announced.
    CalledOff {
        is_role: bool,
    },
}

/// The address of a colleague whom Podero has before the first event.
pub(super) fn founder_email(number: usize) -> String {
    format!("founder{number}@example.com")
}

impl ToldOfMember {
    /// The CloudEvent.
    pub(super) fn json(&self) -> Value {
        let (type_name, mut data) = match &self.what {
            OfMember::Joined { email, role, first_name, expires_at } => {
                let mut data = json!({"email": email, "role": ROLES[*role]});
                if let Some(first_name) = first_name {
                    data["first_name"] = json!(first_name);
                }
                if let Some(expires_at) = expires_at {
                    data["expires_at"] = json!(expires_at);
                }
                ("team.member_joined", data)
            }
            OfMember::Named { first_name } => ("team.member_updated", json!({"first_name": first_name})),
            OfMember::Prolonged { expires_at } => ("team.member_updated", json!({"expires_at": expires_at})),
            OfMember::Role { role } => ("team.member_role_changed", json!({"role": ROLES[*role]})),
            OfMember::Left => ("team.member_left", json!({})),
            OfMember::CalledOff { is_role: true } => ("team.member_role_changed", json!({"cancelled": true})),
            OfMember::CalledOff { is_role: false } => ("team.member_left", json!({"cancelled": true})),
        };
        data["member_id"] = json!(self.member);
        if let Some(at) = self.effective_at {
            data["effective_at"] = json!(at);
        }
        json!({
            "specversion": "1.0", "id": self.id, "source": "/hr", "type": type_name, "time": self.time, "data": data,
        })
    }

    /// Its place in its member's order; `arrival` sorts by arrival.
    pub(super) fn stamp(&self, arrival: &str) -> Stamp {
        (self.effective_at.map_or(self.time, |at| at.max(self.time)), arrival.to_owned())
    }

    /// When it was said, and its place among what was said.
    pub(super) fn said(&self, arrival: &str) -> Stamp {
        (self.time, arrival.to_owned())
    }

    /// Says whether it was announced ahead.
    pub(super) fn is_announced(&self) -> bool {
        self.effective_at.is_some_and(|at| at > self.time)
    }

    /// Says whether a later event is about the same change as this.
    pub(super) fn is_about_the_same(&self, other: &Self) -> bool {
        let change = |told: &Self| match &told.what {
            OfMember::Joined { .. } => Some("join"),
            OfMember::Left | OfMember::CalledOff { is_role: false } => Some("leave"),
            OfMember::Role { .. } | OfMember::CalledOff { is_role: true } => Some("role"),
            OfMember::Named { .. } | OfMember::Prolonged { .. } => None,
        };
        self.member == other.member && change(self).is_some() && change(self) == change(other)
    }

    /// Says whether an event that is newer than this may have made it stale.
    pub(super) fn may_be_stale_by(&self, other: &Self) -> bool {
        match (&self.what, &other.what) {
            (_, OfMember::Left) => true,
            (OfMember::Joined { .. } | OfMember::Left, OfMember::Joined { .. }) => true,
            (OfMember::Joined { .. } | OfMember::Named { .. }, OfMember::Named { .. }) => true,
            (OfMember::Named { .. }, OfMember::Joined { first_name, .. }) => first_name.is_some(),
            (OfMember::Prolonged { .. }, OfMember::Joined { .. } | OfMember::Prolonged { .. }) => true,
            (OfMember::Role { .. }, OfMember::Role { .. } | OfMember::Joined { .. }) => true,
            _ => false,
        }
    }

    /// Says whether it is a join.
    pub(super) fn is_join(&self) -> bool {
        matches!(self.what, OfMember::Joined { .. })
    }

    /// Says whether it is a leave.
    pub(super) fn is_leave(&self) -> bool {
        matches!(self.what, OfMember::Left)
    }

    /// Says whether it calls off what was announced.
    pub(super) fn calls_off(&self) -> bool {
        matches!(self.what, OfMember::CalledOff { .. })
    }

    /// The end of the access that a join sets.
    pub(super) fn ends_with_join(&self) -> Option<Timestamp> {
        if let OfMember::Joined { expires_at, .. } = &self.what { *expires_at } else { None }
    }

    /// Says whether it may meet a colleague whom Podero has before the first event.
    pub(super) fn is_of_founder(&self) -> bool {
        matches!(&self.what, OfMember::Joined { email, .. } if email.starts_with("founder"))
    }

    /// The type of the outgoing event that tells of its effect.
    pub(super) fn news(&self) -> Option<&'static str> {
        match &self.what {
            OfMember::Joined { .. } => Some("team.member_added"),
            OfMember::Named { .. } | OfMember::Prolonged { .. } | OfMember::Role { .. } => Some("team.member_changed"),
            OfMember::Left => Some("team.member_removed"),
            OfMember::CalledOff { .. } => None,
        }
    }
}

/// The life of one member, in the order in which it happened; `now` is when the run begins.
pub(super) fn member_life(number: usize, start: Timestamp, now: Timestamp, dice: &mut StdRng) -> Vec<ToldOfMember> {
    let mut time = start;
    let is_founder = dice.random_range(0..3) > 0;
    let mut told: Vec<ToldOfMember> = Vec::new();
    for place in 0..dice.random_range(2..=8) {
        if dice.random_range(0..12) > 0 {
            time = time.plus(Duration::from_secs(dice.random_range(1..120) * MINUTE));
        }
        let announced = told.last().filter(|last| last.is_announced());
        let dates = (time, now);
        let what = match announced {
            Some(last) if dice.random_range(0..2) == 0 => on_second_thoughts(last, dice),
            Some(_) | None if place == 0 && dice.random_range(0..10) > 0 => {
                joined(number, place, is_founder, dates, dice)
            }
            Some(_) | None => happening(number, place, is_founder, dates, dice),
        };
        let may_be_ahead = matches!(what, OfMember::Role { .. } | OfMember::Left) && dice.random_range(0..5) == 0;
        let effective_at =
            may_be_ahead.then(|| time.plus(Duration::from_secs(dice.random_range(1..3 * DAY / MINUTE) * MINUTE)));
        let (id, member) = (format!("t-{number}-{place}"), format!("M-{number}"));
        told.push(ToldOfMember { id, member, time, effective_at, what });
    }
    told
}

fn joined(number: usize, place: usize, is_founder: bool, dates: (Timestamp, Timestamp), dice: &mut StdRng) -> OfMember {
    let email = if is_founder && place == 0 { founder_email(number) } else { format!("m{number}.{place}@example.com") };
    OfMember::Joined {
        email,
        role: usize::from(dice.random_range(0..3) > 0),
        first_name: (dice.random_range(0..2) == 0).then(|| format!("Mia {place}")),
        expires_at: (dice.random_range(0..3) == 0).then(|| end(dates, dice)),
    }
}

/// An end of an access: some have passed before the run begins, most fall into it.
fn end((time, now): (Timestamp, Timestamp), dice: &mut StdRng) -> Timestamp {
    let at = now.minus(Duration::from_secs(2 * HOUR)).plus(Duration::from_secs(dice.random_range(0..14 * HOUR)));
    at.max(time.plus(Duration::from_secs(MINUTE)))
}

fn on_second_thoughts(announced: &ToldOfMember, dice: &mut StdRng) -> OfMember {
    let is_off = dice.random_range(0..2) == 0;
    match (&announced.what, is_off) {
        (OfMember::Role { .. }, true) => OfMember::CalledOff { is_role: true },
        (OfMember::Role { .. }, false) => OfMember::Role { role: dice.random_range(0..2) },
        (_, true) => OfMember::CalledOff { is_role: false },
        (_, false) => OfMember::Left,
    }
}

fn happening(
    number: usize,
    place: usize,
    is_founder: bool,
    dates: (Timestamp, Timestamp),
    dice: &mut StdRng,
) -> OfMember {
    match dice.random_range(0..20) {
        0..=3 => OfMember::Named { first_name: format!("Berta {place}") },
        4..=6 => OfMember::Prolonged { expires_at: (dice.random_range(0..3) > 0).then(|| end(dates, dice)) },
        7..=11 => OfMember::Role { role: dice.random_range(0..2) },
        12..=16 => OfMember::Left,
        // Back, and sometimes nothing is new about them.
        _ => joined(number, if dice.random_range(0..2) == 0 { 0 } else { place }, is_founder, dates, dice),
    }
}

/// The state that one member must have in the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct MemberFold {
    joined: Option<Stamp>,
    left: Option<Stamp>,
    /// When the newest leave was said.
    left_said: Option<Stamp>,
    email: Option<(Stamp, String)>,
    first_name: Option<(Stamp, String)>,
    /// The rank of the role, and whether it is only the least.
    role: Option<(Stamp, (usize, bool))>,
    expires: Option<(Stamp, Option<Timestamp>)>,
}

fn newest<T: Clone>(slot: &mut Option<(Stamp, T)>, value: &T, stamp: &Stamp) {
    if slot.as_ref().is_none_or(|(known, _)| known <= stamp) {
        *slot = Some((stamp.clone(), value.clone()));
    }
}

impl MemberFold {
    /// Takes the next event in the order in which they took effect. `arrival` sorts by arrival.
    pub(super) fn fold(&mut self, told: &ToldOfMember, arrival: &str) {
        let stamp = told.stamp(arrival);
        let is_ahead = told.is_announced() && !matches!(told.what, OfMember::Left);
        let is_off = is_ahead && self.left_said.as_ref().is_some_and(|said| *said > told.said(arrival));
        if self.left.as_ref().is_some_and(|left| *left > stamp || is_off) {
            return;
        }
        match &told.what {
            OfMember::Joined { email, role, first_name, expires_at } => {
                if self.joined.as_ref().is_none_or(|known| *known <= stamp) {
                    self.begin_membership(*role, expires_at.is_some(), &stamp);
                }
                newest(&mut self.email, email, &stamp);
                if let Some(first_name) = first_name {
                    newest(&mut self.first_name, first_name, &stamp);
                }
                if expires_at.is_some() {
                    newest(&mut self.expires, expires_at, &stamp);
                }
            }
            OfMember::Named { first_name } => newest(&mut self.first_name, first_name, &stamp),
            OfMember::Prolonged { expires_at } => newest(&mut self.expires, expires_at, &stamp),
            OfMember::Role { role } => newest(&mut self.role, &(*role, false), &stamp),
            OfMember::Left => {
                self.end_membership(stamp);
                self.left_said = self.left_said.take().max(Some(told.said(arrival)));
            }
            OfMember::CalledOff { .. } => {}
        }
    }

    fn begin_membership(&mut self, role: usize, sets_end: bool, stamp: &Stamp) {
        if !self.is_active() {
            // Nothing of the membership before.
            let left = self.left.clone();
            let is_of_this = |known: &Stamp| left.as_ref().is_none_or(|left| known > left);
            self.email.take_if(|(known, _)| !is_of_this(known));
            self.first_name.take_if(|(known, _)| !is_of_this(known));
            self.role.take_if(|(known, _)| !is_of_this(known));
            self.expires.take_if(|(known, _)| !is_of_this(known));
            if !sets_end && self.expires.is_none() {
                self.expires = Some((stamp.clone(), None));
            }
        }
        self.joined = Some(stamp.clone());
        let is_kept = self.role.as_ref().is_some_and(|(known, (has, _))| known > stamp || *has >= role);
        if !is_kept {
            self.role = Some((stamp.clone(), (role, true)));
        }
    }

    fn end_membership(&mut self, stamp: Stamp) {
        if self.joined.as_ref().is_none_or(|known| *known <= stamp) {
            self.left = Some(stamp);
            self.expires = None;
        }
    }

    /// The access has expired, which took effect.
    pub(super) fn expire(&mut self, at: Timestamp, arrival: &str) {
        self.end_membership((at, arrival.to_owned()));
    }

    /// Says whether the person is a member in the end.
    pub(super) fn is_active(&self) -> bool {
        self.joined > self.left
    }

    /// The end of the access that is set still.
    pub(super) fn end(&self) -> Option<Timestamp> {
        self.expires.as_ref().and_then(|(_, at)| *at)
    }

    /// The first difference to a user who has this address, name and rank.
    pub(super) fn differs(&self, email: &str, first_name: Option<&str>, rank: usize) -> Option<String> {
        let wanted = self.email.as_ref().map(|(_, email)| email);
        if wanted.is_some_and(|wanted| !wanted.eq_ignore_ascii_case(email)) {
            return Some(format!("the address is {email}, not {wanted:?}"));
        }
        let wanted = self.first_name.as_ref().map(|(_, name)| name.as_str());
        if wanted.is_some() && wanted != first_name {
            return Some(format!("the first name is {first_name:?}, not {wanted:?}"));
        }
        let (wanted, is_least) = self.role.as_ref().map_or((0, true), |(_, role)| *role);
        let fits = if is_least { rank >= wanted } else { rank == wanted };
        (!fits).then(|| format!("the role is {}, not {}", ROLES[rank], ROLES[wanted]))
    }
}
