//! Did many heat pumps go at once? One alert for a manufacturer's cloud or a region's grid, instead of thousands.
//!
//! ```text
//!              a share went at once        and it lasted              most are back, and it lasted
//!   nothing ────────────────────────▶ suspected ──────────▶ open ─────────────────────────────────▶ nothing
//!      ▲                                  │
//!      └───────────── it passed ──────────┘
//! ```
//!
//! From the suspicion on, a pump that went with the others opens no alert of its own. When the outage opens, their alerts are
//! merged into it. When it ends, the pumps that did not come back are judged again.
//!
//! Before: the store counts what the polls saw. After: the store, [`crate::outbound`], and the next polls.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::cause::Cause;
use super::knowledge::{Knowledge, Loss};
use super::occurrence::{Occurrence, occurrence_notice, occurrence_of};
use super::policy::WatchPolicy;
use super::severity::Severity;

use crate::domain::names::names;
use crate::domain::notice::{Notice, Topic};
use crate::domain::{NAMESPACE, Timestamp};

/// Longest end of an outage. A heat pump that is not back two hours after most came back stays away for another reason: gateways
/// and clouds are up within the hour, and Podero refreshes every 5 to 15 minutes.
const TAIL_MAX: Duration = Duration::from_hours(2);

/// Longest interval at which Podero refreshes its values: 5 to 15 minutes, depending on the manufacturer (`…/heat-pumps/state`).
const REFRESH_MAX: Duration = Duration::from_mins(15);

/// Number of looks at the fleets in an interval, within the two bounds below.
const LOOKS: u32 = 10;
/// Shortest interval between two looks: each is a count over all pumps.
const LOOK_EVERY_MIN: Duration = Duration::from_secs(1);
/// Longest interval between two looks: an outage must be suspected before the alert of its first pump would be published.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(60);

/// Limit of missed looks in a row. Beyond it, the polls from before say nothing about now.
const LOOKS_MISSED_MAX: u32 = 3;

/// Limit of gaps between looks that do not count. Further gaps are normal operation: a suspicion must end, and pumps that went
/// hours ago did not go with those that go now.
const GAPS_USUAL: usize = 3;

/// The route of the admin API that lists the pumps of an outage.
const LIST: &str = "/v1/heat-pumps?state=disconnected";

/// The pumps that went together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The pumps of a manufacturer.
    Manufacturer(String),
    /// The pumps of a region: of owners whose ZIP codes begin alike.
    Region(String),
}

names! {
    /// The property that the pumps of a scope have in common.
    pub enum ScopeKind {
        /// The manufacturer.
        Manufacturer = "manufacturer",
        /// The region.
        Region = "region",
    }
}

impl ScopeKind {
    /// The scope of this kind and name.
    pub fn scope(self, name: String) -> Scope {
        match self {
            Self::Manufacturer => Scope::Manufacturer(name),
            Self::Region => Scope::Region(name),
        }
    }
}

impl Scope {
    /// The property that its pumps have in common.
    pub fn kind(&self) -> ScopeKind {
        match self {
            Self::Manufacturer(_) => ScopeKind::Manufacturer,
            Self::Region(_) => ScopeKind::Region,
        }
    }

    /// The name of the manufacturer or region.
    pub fn name(&self) -> &str {
        match self {
            Self::Manufacturer(name) | Self::Region(name) => name,
        }
    }

    /// The cause that its alert has.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Manufacturer(_) => Cause::MakerOutage,
            Self::Region(_) => Cause::RegionOutage,
        }
    }

    /// Stable per scope, at most 100 characters, however long the name.
    pub fn dedup_key(&self) -> String {
        format!("fleet/{}/{}", self.kind().name(), Uuid::new_v5(&NAMESPACE, self.name().as_bytes()))
    }

    fn holds(&self, member: &FleetMember<'_>) -> bool {
        match self {
            Self::Manufacturer(name) => member.manufacturer == Some(name),
            Self::Region(name) => member.region == Some(name),
        }
    }
}

/// A heat pump, reduced to the facts that an outage needs.
#[derive(Debug, Clone, Copy)]
pub struct FleetMember<'a> {
    /// Its manufacturer.
    pub manufacturer: Option<&'a str>,
    /// Its region.
    pub region: Option<&'a str>,
    /// The meaning of its last observation.
    pub knowledge: Knowledge,
    /// The time at which a poll saw it go.
    pub fell_at: Option<Timestamp>,
}

/// Many pumps that went at once: a suspicion, or a published outage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    /// The pumps that went.
    pub scope: Scope,
    /// Names this one outage; trigger and resolve share it.
    pub occurrence: Uuid,
    /// The time at which enough were lost to suspect it. Until it is published, time without a look moves this later.
    pub since: Timestamp,
    /// The time of the suspicion, moved later by the first gaps between looks. It keeps alerts waiting until a while after.
    pub began: Option<Timestamp>,
    /// The number of gaps by which `began` is later: at most three.
    #[serde(default)]
    pub gaps: usize,
    /// Pumps that went from then on went with the others, if all of them went at once: polls take an interval to see that. A
    /// suspicion delays the alerts of no other pumps.
    pub held_from: Timestamp,
    /// Pumps that went from then on belong to the outage once it is published; each that went before has an alert of its own.
    pub members_from: Timestamp,
    /// The published state; `None`: the outage is only suspected.
    pub told: Option<AnnouncedState>,
    /// The moment since which most are back.
    pub calm_since: Option<Timestamp>,
    /// The moment of the last judgement.
    pub judged_at: Option<Timestamp>,
}

/// The published state of an outage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnnouncedState {
    /// The time at which it was published.
    pub detected_at: Timestamp,
    /// The severity at that time.
    pub severity: Severity,
    /// The most that were lost at once.
    pub affected: u64,
    /// Heat pumps of the scope, without those that were never connected.
    pub watched: u64,
}

/// The number of pumps of a scope that are away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// The scope that was counted.
    pub scope: Scope,
    /// Pumps that went since the given moment and were not seen up since, even if their state is unknown now.
    pub lost: u64,
    /// The lost ones that a poll has seen disconnected since the outage was suspected; 0 without an outage.
    pub confirmed: u64,
    /// Heat pumps of the scope, without those that were never connected.
    pub watched: u64,
}

impl Count {
    fn share(&self, part: u64) -> f64 {
        if self.watched == 0 {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "no fleet has 2^53 heat pumps")]
        let share = part as f64 / self.watched as f64;
        share
    }

    /// True if this part of them is enough for an outage.
    fn are_many(&self, part: u64, policy: &WatchPolicy) -> bool {
        part >= u64::from(policy.outage_min) && self.share(part) >= policy.outage_share
    }
}

/// Every outage that is suspected or open.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Outages(pub Vec<Outage>);

impl Outages {
    /// The outage that speaks for a pump: an open one before a suspicion.
    pub fn cover(&self, member: &FleetMember<'_>) -> Option<&Outage> {
        let mine = || self.0.iter().filter(|outage| outage.scope.holds(member) && outage.speaks_for(member));
        mine().find(|outage| outage.is_open()).or_else(|| mine().next())
    }

    /// True if any outage is about a pump like this, whether or not it went with the others.
    pub fn touch(&self, member: &FleetMember<'_>) -> bool {
        self.0.iter().any(|outage| outage.scope.holds(member))
    }

    /// The outage of a scope.
    pub fn of(&self, scope: &Scope) -> Option<&Outage> {
        self.0.iter().find(|outage| outage.scope == *scope)
    }

    /// The outages of one kind of scope.
    pub fn of_kind(&self, kind: ScopeKind) -> impl Iterator<Item = &Outage> {
        self.0.iter().filter(move |outage| outage.scope.kind() == kind)
    }

    /// Replaces the outage of a scope.
    pub fn set(&mut self, scope: &Scope, outage: Option<Outage>) {
        self.0.retain(|known| known.scope != *scope);
        self.0.extend(outage);
    }
}

impl Outage {
    /// True if it was published.
    pub fn is_open(&self) -> bool {
        self.told.is_some()
    }

    /// True if it speaks for a pump that went when this one did; never for a pump that no poll saw go.
    fn speaks_for(&self, member: &FleetMember<'_>) -> bool {
        let from = match (self.is_open(), member.knowledge) {
            (true, _) => self.members_from,
            // Data that stops for all pumps at once becomes stale pump by pump, in the order in which it had come.
            (false, Knowledge::Disconnected(Loss::DeviceOffline)) => self.held_from.minus(REFRESH_MAX),
            (false, _) => self.held_from,
        };
        member.fell_at.is_some_and(|at| at >= from)
    }

    /// The address in the admin API that lists its pumps.
    pub fn list(&self) -> String {
        let name = utf8_percent_encode(self.scope.name(), NON_ALPHANUMERIC);
        format!("{LIST}&{}={name}", self.scope.kind().name())
    }

    fn suspected(scope: &Scope, looks: &Looks, now: Timestamp, policy: &WatchPolicy) -> Self {
        let occurrence = occurrence_of(&scope.dedup_key(), now);
        let members_from = lost_from(None, looks, now, policy);
        // Plus a tenth, for the moment between two looks at the fleets.
        let held_from = looks.back(now, policy.interval + policy.interval / 10);
        Self {
            scope: scope.clone(),
            occurrence,
            since: now,
            began: Some(now),
            gaps: 0,
            held_from,
            members_from,
            told: None,
            calm_since: None,
            judged_at: Some(now),
        }
    }

    /// The same outage with no moment in the future. A clock that was ahead may have written one, and it would prolong the
    /// suspicion.
    #[must_use]
    pub fn no_later_than(self, now: Timestamp) -> Self {
        Self {
            since: self.since.no_later_than(now),
            began: self.began.map(|at| at.no_later_than(now)),
            held_from: self.held_from.no_later_than(now),
            members_from: self.members_from.no_later_than(now),
            calm_since: self.calm_since.map(|at| at.no_later_than(now)),
            judged_at: self.judged_at.map(|at| at.no_later_than(now)),
            ..self
        }
    }

    /// Leaves out time without a look: it counts neither for the outage nor for its end.
    fn pass_over(&mut self, now: Timestamp, policy: &WatchPolicy) {
        let gap = gap_since(self.judged_at, now, policy);
        self.judged_at = Some(now);
        let Some(gap) = gap else { return };
        if self.told.is_none() {
            self.since = self.since.plus(gap).min(now);
            if self.gaps < GAPS_USUAL {
                self.gaps += 1;
                self.began = self.began.map(|began| began.plus(gap).min(now));
            }
        }
        self.calm_since = self.calm_since.map(|since| since.plus(gap).min(now));
    }

    fn notice(&self, told: &AnnouncedState, remaining: Option<u64>, now: Timestamp) -> Notice {
        let key = self.scope.dedup_key();
        let cause = self.scope.cause();
        let occurrence = Occurrence {
            id: self.occurrence,
            dedup_key: &key,
            cause: cause.name(),
            severity: told.severity,
            since: self.since,
            detected_at: told.detected_at,
        };
        let (topic, mut data) = match remaining {
            None => (Topic::FleetOutageStarted, occurrence.trigger(cause.summary())),
            Some(_) => (Topic::FleetOutageEnded, occurrence.resolve(cause.summary(), "reconnected")),
        };
        if let Scope::Manufacturer(name) = &self.scope {
            data["manufacturer"] = json!(name);
        }
        data["scope"] = json!({ "kind": self.scope.kind().name(), "name": self.scope.name() });
        data["affected"] = json!(told.affected);
        data["watched"] = json!(told.watched);
        data["remaining"] = json!(remaining);
        data["heat_pumps"] = json!(self.list());
        occurrence_notice(self.occurrence, topic, key.clone(), key, now, data)
    }
}

/// The times at which fleets were judged, and the gaps: durable, so that a restart knows for how long no replica looked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looks {
    last: Option<Timestamp>,
    /// The latest times without a look, oldest first: at most three.
    gaps: Vec<(Timestamp, Timestamp)>,
}

impl Looks {
    /// Records that the fleets are judged now.
    pub fn look(&mut self, now: Timestamp, policy: &WatchPolicy) {
        if let (Some(last), Some(_)) = (self.last, gap_since(self.last, now, policy)) {
            self.gaps.push((last, now));
            self.gaps.drain(..self.gaps.len().saturating_sub(GAPS_USUAL));
        }
        self.last = self.last.max(Some(now));
    }

    /// The same looks with no moment in the future, which a clock that was ahead may have written.
    #[must_use]
    pub fn no_later_than(mut self, now: Timestamp) -> Self {
        self.last = self.last.map(|at| at.no_later_than(now));
        self.gaps.retain(|(_, ended)| ended.no_later_than(now) == *ended);
        self
    }

    /// The moment since which the bridge has looked for all of `window`: earlier by the gaps in between.
    fn back(&self, now: Timestamp, window: Duration) -> Timestamp {
        let newest_first = self.gaps.iter().rev();
        newest_first.fold(
            now.minus(window),
            |from, (began, ended)| {
                if *ended > from { from.minus(ended.since(*began)) } else { from }
            },
        )
    }
}

/// The time since the last look, if it is longer than looks are usually apart.
fn gap_since(last: Option<Timestamp>, now: Timestamp, policy: &WatchPolicy) -> Option<Duration> {
    last.map(|last| now.since(last)).filter(|gap| *gap > look_every(policy) * LOOKS_MISSED_MAX)
}

/// The moment from which a loss counts towards an outage. A known outage has its own; otherwise the earliest at which the first
/// of many may have been seen lost without an alert yet.
pub fn lost_from(known: Option<&Outage>, looks: &Looks, now: Timestamp, policy: &WatchPolicy) -> Timestamp {
    known.map_or_else(|| looks.back(now, policy.interval + policy.disconnect_after), |outage| outage.members_from)
}

/// The interval at which fleets are judged.
pub fn look_every(policy: &WatchPolicy) -> Duration {
    (policy.interval / LOOKS).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX)
}

/// Judges an outage again and gives its new state, with a notice if there is news. `count` counts the losses since [`lost_from`].
pub fn judge(
    before: Option<&Outage>,
    count: &Count,
    looks: &Looks,
    now: Timestamp,
    policy: &WatchPolicy,
) -> (Option<Outage>, Option<Notice>) {
    let are_many = count.are_many(count.lost, policy);
    let Some(before) = before else {
        return (are_many.then(|| Outage::suspected(&count.scope, looks, now, policy)), None);
    };
    let mut outage = before.clone();
    outage.pass_over(now, policy);
    let Some(told) = &mut outage.told else {
        // The first pump went before the outage was suspected, and its alert must not wait longer than if it were alone; but
        // every pump must have been looked at again.
        let patience = (policy.disconnect_after * 2 / 3).max(policy.interval);
        let lasted = now.since(outage.since) >= patience && count.are_many(count.confirmed, policy);
        if !are_many || !lasted {
            if outage.began.is_none_or(|began| now.since(began) > policy.disconnect_after + policy.interval) {
                // The suspicion has lasted long enough: from here on it delays no other alert, whatever comes of it.
                outage.held_from = now;
            }
            return (Some(outage).filter(|_| are_many), None);
        }
        let severity = policy.severities.of(outage.scope.cause(), now);
        let told = AnnouncedState { detected_at: now, severity, affected: count.lost, watched: count.watched };
        let notice = outage.notice(&told, None, now);
        outage.told = Some(told);
        return (Some(outage), Some(notice));
    };
    told.affected = told.affected.max(count.lost);
    // Half the share that makes an outage, or it would come and go with every pump.
    if count.share(count.lost) >= policy.outage_share / 2.0 {
        outage.calm_since = None;
        return (Some(outage), None);
    }
    let calm_for = now.since(*outage.calm_since.get_or_insert(now));
    // A pump that comes back a little later than the others must not become an alert of its own.
    let are_few = count.lost < u64::from(policy.outage_min);
    if calm_for < if are_few { policy.reconnect_after } else { TAIL_MAX } {
        return (Some(outage), None);
    }
    let told = told.clone();
    (None, Some(outage.notice(&told, Some(count.lost), now)))
}

#[cfg(test)]
mod tests;
