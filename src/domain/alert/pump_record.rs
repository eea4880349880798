//! Is one answer about a heat pump news? Hysteresis, flapping, and one resolve for every trigger.
//!
//! [`PumpRecord`] holds every count and is durable: a restart forgets none. But a count is a row of looks without a break; after
//! a break (a long restart, a blindness) it begins again, so no restart of the bridge makes an alert.
//!
//! ```text
//!                  lost, and it lasted                       a whole window lost
//!   no alert ────────────────────────────▶ alert of a loss ◀───────────────────── unstable
//!      │  ▲                                     │                                    ▲
//!      │  └── connected, and it lasted ─────────┘                                    │
//!      └── lost `flap_losses` times within `flap_window` ────────────────────────────┘
//!                              back to no alert: connected, and not lost for a window
//! ```
//!
//! Before: [`mod@super::knowledge`]. After: the store, [`crate::outbound`].

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::cause::{Cause, Resolution};
use super::knowledge::{Doubt, Knowledge, Looked, Loss, Observation, is_ahead, knowledge};
use super::missing::lists_to_remove;
use super::occurrence::{Occurrence, occurrence_notice, occurrence_of};
use super::outage::{FleetMember, Outages};
use super::policy::WatchPolicy;
use super::severity::{Severities, Severity};

use crate::domain::Timestamp;
use crate::domain::link;
use crate::domain::notice::{Notice, Topic};
use crate::domain::reconnect::LinkSigner;

/// Limit of looks that are remembered, to know the usual time between two.
const GAPS_MAX: usize = 8;

/// Limit of breaks within `BREAKS_WITHIN`: at the limit, breaks are normal operation.
const BREAKS_USUAL: usize = 3;
/// Time within which breaks are counted.
const BREAKS_WITHIN: Duration = Duration::from_hours(24);

/// The watch's memory of a heat pump; durable, so that a restart forgets no count.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PumpRecord {
    /// Podero's id.
    pub heat_pump: Uuid,
    /// Podero's id of its owner.
    pub user: Uuid,
    /// The utility's id of the owner, if Podero knows it.
    pub customer: Option<String>,
    /// The building it stands in.
    pub building: Option<Uuid>,
    /// Manufacturer, as Podero writes it.
    pub manufacturer: Option<String>,
    /// Model, as Podero writes it.
    pub model: Option<String>,
    /// Its region: the beginning of its owner's ZIP code, if regions are watched.
    pub region: Option<String>,
    /// The meaning of the last observation.
    pub knowledge: Knowledge,
    /// True if it was ever connected.
    pub was_connected: bool,
    /// The moment at which it was seen first.
    pub first_seen: Option<Timestamp>,
    /// The moment since which it has been looked at without a break.
    pub watched_since: Option<Timestamp>,
    /// Polls in a row that saw it disconnected.
    pub bad_polls: u32,
    /// The time of the first of them.
    pub bad_since: Option<Timestamp>,
    /// Polls in a row, without a break, whose answer did not name it. Lists of users are counted separately, by user.
    #[serde(default)]
    pub missing_polls: u32,
    /// The time at which the newest answer that named it was requested.
    pub named_at: Option<Timestamp>,
    /// The time at which the newest complete list of its owner's heat pumps was requested, whether or not the list named it.
    pub looked_at: Option<Timestamp>,
    /// Seconds between the latest looks, newest last: at most eight.
    #[serde(default)]
    pub gaps: Vec<u32>,
    /// The times at which looks began again after a break, within the last day: at most three.
    #[serde(default)]
    pub breaks: Vec<Timestamp>,
    /// The newest state that was ever shown.
    pub state_at: Option<Timestamp>,
    /// Polls in a row that saw it connected.
    pub good_polls: u32,
    /// The time of the first of them.
    pub good_since: Option<Timestamp>,
    /// True if it was connected when this was last known.
    #[serde(default)]
    pub was_up: bool,
    /// The moment at which it went, if a poll saw it up before. A pump that no poll saw up did not go with others.
    pub fell_at: Option<Timestamp>,
    /// The times of recent losses, oldest first: at most `flap_losses`, none older than `flap_window`.
    #[serde(default)]
    pub losses: Vec<Timestamp>,
    /// The time of the last loss, moved later by the breaks since. The pump is stable after a whole window of looks without a
    /// loss.
    pub calm_from: Option<Timestamp>,
    /// The outage that includes its loss.
    pub outage: Option<Uuid>,
    /// The open alert.
    pub alert: Option<OpenAlert>,
    /// True if the watch has ended: its home was left, its owner churned, or it is gone. The watch begins again if Podero shows
    /// the pump elsewhere, or shows it at all after it was gone.
    pub is_retired: bool,
    /// The number of writes; guards against two writers.
    pub version: i64,
}

/// An alert that was triggered and not yet resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenAlert {
    /// Names this one loss; trigger and resolve share it.
    pub occurrence: Uuid,
    /// The cause.
    pub cause: Cause,
    /// The severity when it was triggered; unknown for an alert from before severities were configured.
    severity: Option<Severity>,
    /// The time at which the loss was first seen.
    pub since: Timestamp,
    /// The time at which it became an alert.
    pub detected_at: Timestamp,
}

/// The store's write about one heat pump: the new memory and its notices, all or none.
#[derive(Debug, Clone, PartialEq)]
pub struct PumpChange {
    /// The memory afterwards; `version` is the one it replaces, 0 for a pump seen first.
    pub seen: PumpRecord,
    /// The notices, in order: at most the resolve of one alert and the trigger of the next.
    pub notices: Vec<Notice>,
    /// The reason for which the watch ends, if it ends. It also applies to observations made meanwhile.
    pub ended: Option<Resolution>,
}

/// The knowledge around a heat pump when it is looked at.
#[derive(Debug, Clone, Copy)]
pub struct DiffContext<'a> {
    /// Podero's id of its owner.
    pub user: Uuid,
    /// The utility's id of the owner, if Podero knows it.
    pub customer: Option<&'a str>,
    /// The region its owner lives in, if regions are watched.
    pub region: Option<&'a str>,
    /// True if the owner is moving or leaving, or has left: no operator wants a ticket for a pump that is unplugged now.
    pub is_leaving: bool,
    /// The outages that are suspected or open.
    pub outages: &'a Outages,
    /// The signer of links to pages of the bridge's own; `None`: alerts carry Podero's address, if it shows one.
    pub links: Option<&'a LinkSigner>,
}

impl<'a> DiffContext<'a> {
    /// The context of a pump whose owner stays, without regions.
    pub fn plain(user: Uuid, customer: Option<&'a str>, outages: &'a Outages) -> Self {
        Self { user, customer, region: None, is_leaving: false, outages, links: None }
    }
}

/// One answer about a heat pump, with all by which it is judged.
#[derive(Clone, Copy)]
struct Sighting<'a> {
    observation: &'a Observation,
    around: &'a DiffContext<'a>,
    now: Timestamp,
    policy: &'a WatchPolicy,
}

impl Sighting<'_> {
    /// The memory of a pump that was never seen before.
    fn first(&self) -> PumpRecord {
        PumpRecord::first(self.observation.heat_pump, self.around.user, self.around.customer)
    }
}

/// Gives the news about a pump that is worth a notice. `before` is `None` for a pump that was never seen.
pub fn diff(
    before: Option<&PumpRecord>,
    observation: &Observation,
    around: &DiffContext<'_>,
    now: Timestamp,
    policy: &WatchPolicy,
) -> PumpChange {
    let sighting = Sighting { observation, around, now, policy };
    let Some(before) = before.filter(|before| before.user != around.user) else {
        return look_at(before.cloned().unwrap_or_else(|| sighting.first()), sighting);
    };
    // Another owner: the open alert ends with the owner before, and no count holds.
    let ended = retire(before, Resolution::Moved, now).notices;
    let change = look_at(PumpRecord { version: before.version, ..sighting.first() }, sighting);
    PumpChange { notices: ended.into_iter().chain(change.notices).collect(), ..change }
}

/// The news about a pump of the same owner.
fn look_at(mut seen: PumpRecord, sighting: Sighting<'_>) -> PumpChange {
    let Sighting { observation, around, now, policy } = sighting;
    seen.customer = around.customer.map(str::to_owned);
    // A pump that turns up in another home than the one that was left has an owner again. A pump that an answer or two omitted,
    // and that is shown again, was never gone.
    let is_elsewhere =
        seen.building.is_some() && observation.building.is_some() && observation.building != seen.building;
    let is_back = seen.knowledge == Knowledge::Gone && !observation.is_deleted;
    if seen.is_retired && (is_elsewhere || is_back) {
        seen = PumpRecord { version: seen.version, ..sighting.first() };
    }
    seen.take_in(sighting);
    if seen.is_retired {
        return PumpChange::silent(seen);
    }
    let looked = Looked { since: seen.watched_since.unwrap_or(now), state_at: seen.state_at };
    let told = knowledge(observation, looked, now, policy);
    // State that arrived once proves a connection, also from before this bridge was installed.
    seen.was_connected |= told.is_up() || observation.updated_at.is_some();
    match told {
        Knowledge::Connected | Knowledge::Paused => see_up(seen, told, now, policy),
        Knowledge::Disconnected(_) if !seen.was_connected => see_unconnected(seen, sighting),
        Knowledge::Disconnected(loss) => see_lost(seen, loss, sighting),
        Knowledge::Gone => retire(&seen, Resolution::Removed, now),
        Knowledge::NeverConnected | Knowledge::Unknown(_) => {
            seen.knowledge = told;
            if told == Knowledge::Unknown(Doubt::Contradictory) {
                // Whatever the status means, data comes: the pump is not away with the others.
                (seen.fell_at, seen.outage) = (None, None);
            }
            PumpChange::silent(seen)
        }
    }
}

/// Ends the watch of a pump before it began: it was found in a home that was left, and no poll has seen it yet.
pub fn retire_unseen(
    heat_pump: Uuid,
    building: Uuid,
    user: Uuid,
    customer: Option<&str>,
    now: Timestamp,
) -> PumpChange {
    let seen = PumpRecord { building: Some(building), ..PumpRecord::first(heat_pump, user, customer) };
    retire(&seen, Resolution::Moved, now)
}

/// Counts a complete list of the owner's heat pumps that omits the pump. One odd answer is no removal: removal takes the same
/// number in a row as a loss. `None`: a newer answer has named the pump since this one was requested, so this one says nothing.
pub fn miss(seen: &PumpRecord, asked_at: Timestamp, policy: &WatchPolicy) -> Option<PumpChange> {
    if seen.named_at >= Some(asked_at) {
        return None;
    }
    let mut seen = seen.clone();
    seen.pass_time(asked_at, policy);
    seen.missing_polls = seen.missing_polls.saturating_add(1);
    if seen.missing_polls >= lists_to_remove(policy) {
        return Some(retire(&seen, Resolution::Removed, asked_at));
    }
    Some(PumpChange::silent(seen))
}

/// Ends the watch of a pump; an open alert is resolved.
pub fn retire(seen: &PumpRecord, resolution: Resolution, now: Timestamp) -> PumpChange {
    let mut seen = seen.clone();
    let notices = seen.resolve(resolution, now).into_iter().collect();
    seen.is_retired = true;
    // The pump may still be there, but none of our customers owns it.
    let is_gone = resolution == Resolution::Removed;
    seen.knowledge = if is_gone { Knowledge::Gone } else { Knowledge::Unknown(Doubt::NotWatched) };
    seen.count_anew();
    seen.losses.clear();
    (seen.outage, seen.was_up, seen.fell_at, seen.calm_from) = (None, false, None, None);
    PumpChange { seen, notices, ended: Some(resolution) }
}

fn see_up(mut seen: PumpRecord, told: Knowledge, now: Timestamp, policy: &WatchPolicy) -> PumpChange {
    seen.knowledge = told;
    (seen.bad_polls, seen.bad_since, seen.outage) = (0, None, None);
    (seen.was_up, seen.fell_at) = (true, None);
    seen.good_polls = seen.good_polls.saturating_add(1);
    let since = *seen.good_since.get_or_insert(now);
    let lasted = seen.good_polls >= policy.reconnect_polls && now.since(since) >= policy.reconnect_after;
    let resolution = match seen.alert.as_ref().filter(|_| lasted).map(|alert| alert.cause) {
        Some(Cause::Unstable) => {
            let is_calm = seen.calm_from.is_none_or(|from| now.since(from) >= policy.flap_window);
            Some(Resolution::Stable).filter(|_| is_calm && seen.losses.is_empty())
        }
        Some(Cause::NeverConnected) => Some(Resolution::Connected),
        Some(Cause::DeviceOffline) if told == Knowledge::Paused => Some(Resolution::Paused),
        Some(
            Cause::NeedsReauthentication
            | Cause::LifecycleError
            | Cause::DeviceOffline
            | Cause::MakerOutage
            | Cause::RegionOutage
            | Cause::WatchBlind,
        ) => Some(Resolution::Reconnected),
        None => None,
    };
    let notices = resolution.and_then(|resolution| seen.resolve(resolution, now)).into_iter().collect();
    PumpChange { seen, notices, ended: None }
}

/// Judges a disconnected pump that was never connected.
fn see_unconnected(mut seen: PumpRecord, sighting: Sighting<'_>) -> PumpChange {
    let Sighting { around, now, policy, .. } = sighting;
    seen.knowledge = Knowledge::NeverConnected;
    let since = seen.first_seen.unwrap_or(now);
    let is_late = now.since(since) >= policy.never_connected_after;
    let is_covered = around.outages.touch(&seen.fleet_member());
    if seen.alert.is_some() || !is_late || is_covered || around.is_leaving {
        return PumpChange::silent(seen);
    }
    let notice = seen.open(Cause::NeverConnected, since, sighting);
    PumpChange { seen, notices: vec![notice], ended: None }
}

fn see_lost(mut seen: PumpRecord, loss: Loss, sighting: Sighting<'_>) -> PumpChange {
    let Sighting { around, now, policy, .. } = sighting;
    let came_back = seen.good_polls > 0;
    seen.knowledge = Knowledge::Disconnected(loss);
    (seen.good_polls, seen.good_since) = (0, None);
    seen.bad_polls = seen.bad_polls.saturating_add(1);
    seen.bad_since.get_or_insert(now);
    if std::mem::take(&mut seen.was_up) {
        seen.fell_at = Some(now);
    }
    if let Some(outage) = around.outages.cover(&seen.fleet_member()) {
        if !outage.is_open() {
            // Either the suspicion becomes an outage, which includes this pump, or it passes, and then this pump is judged.
            return PumpChange::silent(seen);
        }
        seen.outage = Some(outage.occurrence);
        // The losses before are already published or merged.
        seen.losses.clear();
        let is_of_a_loss = |alert: &OpenAlert| Cause::OF_A_LOSS.contains(&alert.cause);
        let is_merged = seen.alert.as_ref().is_some_and(is_of_a_loss);
        let notice = if is_merged { seen.resolve(Resolution::MergedIntoOutage, now) } else { None };
        return PumpChange { seen, notices: notice.into_iter().collect(), ended: None };
    }
    if came_back && !around.is_leaving {
        seen.note_loss(now, policy);
    }
    if seen.outage.take().is_some() {
        // The outage is over, and this pump did not come back with the others: it is judged again.
        (seen.bad_polls, seen.bad_since) = (1, Some(now));
    }
    seen.judge_loss(loss, sighting)
}

impl PumpRecord {
    /// The record as an outage needs it.
    fn fleet_member(&self) -> FleetMember<'_> {
        FleetMember {
            manufacturer: self.manufacturer.as_deref(),
            region: self.region.as_deref(),
            knowledge: self.knowledge,
            fell_at: self.fell_at,
        }
    }

    fn first(heat_pump: Uuid, user: Uuid, customer: Option<&str>) -> Self {
        Self { heat_pump, user, customer: customer.map(str::to_owned), ..Self::default() }
    }

    /// The same memory with no moment in the future: a clock that was ahead may have written one, and then no loss would ever
    /// last long enough.
    #[must_use]
    pub fn no_later_than(mut self, now: Timestamp) -> Self {
        let counted = [
            &mut self.first_seen,
            &mut self.watched_since,
            &mut self.bad_since,
            &mut self.named_at,
            &mut self.good_since,
            &mut self.fell_at,
        ];
        for at in counted {
            *at = at.map(|at| at.no_later_than(now));
        }
        for at in self.breaks.iter_mut().chain(&mut self.losses) {
            *at = at.no_later_than(now);
        }
        self
    }

    /// True if the next poll should come soon: the pump is lost, or back, and no notice says so yet.
    pub fn is_suspect(&self) -> bool {
        let is_lost = self.bad_polls > 0 && self.alert.is_none() && self.outage.is_none();
        let is_back = self.good_polls > 0 && self.alert.as_ref().is_some_and(|alert| alert.cause != Cause::Unstable);
        !self.is_retired && (is_lost || is_back)
    }

    /// Counts the time since the last look, whatever this look shows. After a break all counts begin again.
    fn pass_time(&mut self, now: Timestamp, policy: &WatchPolicy) {
        let gap = self.looked_at.max(self.named_at).map(|last| now.since(last));
        if gap.is_none_or(|gap| gap > policy.break_after(self.usual_gap())) {
            self.pass_break(gap.unwrap_or_default(), now);
        }
        if let Some(gap) = gap.filter(|gap| !gap.is_zero()) {
            self.gaps.push(u32::try_from(gap.as_secs()).unwrap_or(u32::MAX));
            self.gaps.drain(..self.gaps.len().saturating_sub(GAPS_MAX));
        }
        self.looked_at = self.looked_at.max(Some(now));
    }

    /// Takes in the facts of every answer that names the pump, also of one that says nothing about the connection.
    fn take_in(&mut self, sighting: Sighting<'_>) {
        let Sighting { observation, around, now, policy } = sighting;
        self.pass_time(now, policy);
        self.named_at = self.named_at.max(Some(now));
        // A moment in the future would count as fresh until it comes; an older version may also have stored one.
        let is_past = |at: &Timestamp| !is_ahead(*at, now);
        self.state_at = self.state_at.filter(is_past).max(observation.updated_at.filter(is_past));
        self.first_seen.get_or_insert(now);
        self.watched_since.get_or_insert(now);
        self.missing_polls = 0;
        self.losses.retain(|at| now.since(*at) < policy.flap_window);
        self.region = around.region.map(str::to_owned);
        if observation.building.is_some() {
            self.building = observation.building;
        }
        if observation.manufacturer.is_some() {
            self.manufacturer.clone_from(&observation.manufacturer);
        }
        if observation.model.is_some() {
            self.model.clone_from(&observation.model);
        }
    }

    /// The median gap. With too small a budget of requests all gaps are long, and none is a break.
    fn usual_gap(&self) -> Duration {
        let mut gaps = self.gaps.clone();
        gaps.sort_unstable();
        gaps.get(gaps.len() / 2).map_or(Duration::ZERO, |seconds| Duration::from_secs((*seconds).into()))
    }

    /// Handles a break: state must have had the time to come, and counts begin again. If breaks are frequent, counts go on, or
    /// the alert of a lost pump would never be published.
    fn pass_break(&mut self, gap: Duration, now: Timestamp) {
        self.watched_since = Some(now);
        self.breaks.retain(|at| now.since(*at) < BREAKS_WITHIN);
        if self.breaks.len() < BREAKS_USUAL {
            self.count_anew();
            self.calm_from = self.calm_from.map(|from| from.plus(gap).min(now));
        }
        self.breaks.push(now);
        self.breaks.drain(..self.breaks.len().saturating_sub(BREAKS_USUAL));
    }

    fn count_anew(&mut self) {
        (self.bad_polls, self.bad_since, self.good_polls, self.good_since) = (0, None, 0, None);
        self.missing_polls = 0;
    }

    fn note_loss(&mut self, now: Timestamp, policy: &WatchPolicy) {
        self.losses.push(now);
        self.calm_from = Some(now);
        let more = self.losses.len().saturating_sub(usize::try_from(policy.flap_losses).unwrap_or(usize::MAX));
        self.losses.drain(..more);
    }

    /// Decides whether a loss that no outage includes becomes an alert, and of which cause.
    fn judge_loss(mut self, loss: Loss, sighting: Sighting<'_>) -> PumpChange {
        let Sighting { around, now, policy, .. } = sighting;
        let since = self.bad_since.unwrap_or(now);
        let is_seen_often = self.bad_polls >= policy.disconnect_polls;
        let lasted = is_seen_often && now.since(since) >= policy.disconnect_after;
        let is_for_good = is_seen_often && now.since(since) >= policy.flap_window;
        let mut notices = Vec::new();
        match self.alert.as_ref().map(|alert| alert.cause) {
            // The pump was connected between two polls.
            Some(Cause::NeverConnected) => notices.extend(self.resolve(Resolution::Connected, now)),
            Some(Cause::Unstable) if is_for_good => {
                notices.extend(self.resolve(Resolution::Lost, now));
                self.losses.clear();
            }
            Some(_) => return PumpChange::silent(self),
            None => {}
        }
        let flaps = u32::try_from(self.losses.len()).unwrap_or(u32::MAX) >= policy.flap_losses;
        let opened = match (flaps, self.losses.first()) {
            _ if around.is_leaving => None,
            (true, Some(first)) => Some((Cause::Unstable, *first)),
            (_, _) if lasted => Some((Cause::from(loss), since)),
            (_, _) => None,
        };
        notices.extend(opened.map(|(cause, since)| self.open(cause, since, sighting)));
        PumpChange { seen: self, notices, ended: None }
    }

    /// Opens an alert and publishes it.
    fn open(&mut self, cause: Cause, since: Timestamp, sighting: Sighting<'_>) -> Notice {
        let Sighting { now, policy, .. } = sighting;
        let thing = match cause {
            Cause::Unstable | Cause::NeverConnected => cause.name(),
            Cause::NeedsReauthentication
            | Cause::LifecycleError
            | Cause::DeviceOffline
            | Cause::MakerOutage
            | Cause::RegionOutage
            | Cause::WatchBlind => "occurrence",
        };
        let severity = policy.severities.of(cause, now);
        // The same loss may be published again (after an outage that took it over): that is another occurrence.
        let occurrence = occurrence_of(&format!("{thing}/{}/{}", self.heat_pump, since.micros()), now);
        let alert = OpenAlert { occurrence, cause, severity: Some(severity), since, detected_at: now };
        let key = dedup_key(self.heat_pump, cause);
        let mut data = self.about(alert.occurrence(&key).trigger(cause.summary()));
        data["reconnect_url"] = json!(self.reconnect_url(since, sighting));
        let topic = match cause {
            Cause::NeverConnected => Topic::HeatPumpNeverConnected,
            Cause::Unstable
            | Cause::NeedsReauthentication
            | Cause::LifecycleError
            | Cause::DeviceOffline
            | Cause::MakerOutage
            | Cause::RegionOutage
            | Cause::WatchBlind => Topic::HeatPumpDisconnected,
        };
        let notice = self.notice(&alert, topic, now, data);
        self.alert = Some(alert);
        notice
    }

    /// The address by which the owner can mend it, if they can: the same for one loss.
    fn reconnect_url(&self, since: Timestamp, sighting: Sighting<'_>) -> Option<String> {
        let Sighting { observation, around, .. } = sighting;
        let url = match around.links {
            Some(links) => observation.asks_owner().then(|| links.link(self.heat_pump, self.user, since)),
            None => observation.reconnect_url.clone(),
        };
        url.filter(|url| link::may_go_out(url))
    }

    /// Ends the open alert, if there is one, and publishes that.
    fn resolve(&mut self, resolution: Resolution, now: Timestamp) -> Option<Notice> {
        let alert = self.alert.take()?;
        let key = dedup_key(self.heat_pump, alert.cause);
        let data = self.about(alert.occurrence(&key).resolve(alert.cause.summary(), resolution.name()));
        Some(self.notice(&alert, Topic::HeatPumpReconnected, now, data))
    }

    /// Fills in an alert's fields about a heat pump: ids only (promise P10).
    fn about(&self, mut data: Value) -> Value {
        data["customer_id"] = json!(self.customer);
        data["podero_user_id"] = json!(self.user);
        data["building_id"] = json!(self.building);
        data["heat_pump_id"] = json!(self.heat_pump);
        data["manufacturer"] = json!(self.manufacturer);
        data["model"] = json!(self.model);
        data
    }

    fn notice(&self, alert: &OpenAlert, topic: Topic, now: Timestamp, data: Value) -> Notice {
        let order_key = format!("heat-pump/{}", self.heat_pump);
        occurrence_notice(alert.occurrence, topic, order_key, self.heat_pump.to_string(), now, data)
    }
}

impl OpenAlert {
    /// The severity when it was triggered.
    pub fn severity(&self) -> Severity {
        self.severity.unwrap_or_else(|| Severities::DEFAULT.of(self.cause, self.detected_at))
    }

    fn occurrence<'a>(&self, dedup_key: &'a str) -> Occurrence<'a> {
        Occurrence {
            id: self.occurrence,
            dedup_key,
            cause: self.cause.name(),
            severity: self.severity(),
            since: self.since,
            detected_at: self.detected_at,
        }
    }
}

impl PumpChange {
    fn silent(seen: PumpRecord) -> Self {
        Self { seen, notices: Vec::new(), ended: None }
    }
}

/// Stable per pump and cause, at most 100 characters (ServiceNow's limit is the narrowest).
pub fn dedup_key(heat_pump: Uuid, cause: Cause) -> String {
    format!("heat-pump/{heat_pump}/{}", cause.name())
}
