//! The fleet of heat pumps: how many are in which state, by manufacturer and by region; and all that is known of one.
//!
//! Reads only. Each number is counted by an index and up to a limit.
//!
//! Before: [`crate::store::pumps`]. After: [`crate::admin`] shows it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::close_watches::CloseWatchView;
use super::db::{ours, query};
use super::error::Error;
use super::handle::StoreView;
use super::overview::CappedCount;
use super::parked_groups::COUNT_MAX;
use super::pumps::legible;
use super::timeline::{OutageView, PumpView, ROWS_MAX, pump_of};
use crate::domain::Timestamp;
use crate::domain::alert::outage::ScopeKind;

/// Limit of the manufacturers, and of the regions, in a summary: each costs a count for every state.
const GROUPS_MAX: usize = 100;

/// Limit of the past alerts that are shown of a heat pump.
const OCCURRENCES_MAX: usize = 50;

/// The states of heat pumps as rows, so that one statement counts all.
const STATES: &str = "VALUES ('connected'), ('paused'), ('disconnected'), ('never_connected'), ('unknown'), ('gone')";

/// The fleet in numbers.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct FleetSummary {
    /// Watched heat pumps by state.
    pub states: BTreeMap<String, CappedCount>,
    /// By manufacturer, as Podero writes it.
    pub manufacturers: Vec<FleetGroup>,
    /// By region, if regions are watched.
    pub regions: Vec<FleetGroup>,
    /// True if there are more manufacturers or regions than are listed.
    pub is_cut: bool,
    /// Open outages.
    pub outages: Vec<OutageView>,
}

/// The heat pumps of one manufacturer or region.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct FleetGroup {
    /// Of the manufacturer or region.
    pub name: String,
    /// Its heat pumps by state; states that none has are left out.
    pub states: BTreeMap<String, CappedCount>,
}

/// All that is known of a heat pump.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PumpDetail {
    /// As in lists.
    #[serde(flatten)]
    pub pump: PumpView,
    /// When it was seen first.
    pub first_seen_at: Option<Timestamp>,
    /// Since when it has been looked at without a break.
    pub watched_since: Option<Timestamp>,
    /// True if it was ever connected.
    pub was_connected: bool,
    /// Since when it is seen connected.
    pub connected_since: Option<Timestamp>,
    /// When it was lost, if a poll saw it connected before.
    pub lost_at: Option<Timestamp>,
    /// Recent losses, oldest first.
    pub losses: Vec<Timestamp>,
    /// The frequent polls after a link was made; null: none was made within a day.
    pub close_watch: Option<CloseWatchView>,
    /// Its alerts, newest first, for as long as outgoing events are kept.
    pub occurrences: Vec<OccurrenceView>,
}

/// An alert about a heat pump, open or resolved.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct OccurrenceView {
    /// Names it.
    #[schemars(with = "Uuid")]
    pub occurrence_id: String,
    /// Its cause.
    pub cause: String,
    /// When it was first seen.
    pub since: Option<Timestamp>,
    /// When it became an alert.
    pub detected_at: Option<Timestamp>,
    /// When it was resolved; null: it is open, or its end is not kept.
    pub resolved_at: Option<Timestamp>,
    /// How it ended.
    pub resolution: Option<String>,
}

impl StoreView {
    /// The fleet in numbers.
    pub async fn fleet(&self) -> Result<FleetSummary, Error> {
        let counted = query(ours(format!(
            "WITH states (state) AS ({STATES}) SELECT state, (SELECT COUNT(*) FROM (SELECT 1 FROM pumps \
             WHERE is_retired = 0 AND knowledge = states.state ORDER BY heat_pump LIMIT $1) AS counted) FROM states"
        )));
        let counted: Vec<(String, u64)> = counted.bind(COUNT_MAX).fetch_all(&self.readers).await?;
        let states = counted.into_iter().map(|(state, count)| (state, CappedCount::of(count))).collect();
        let (manufacturers, are_makers_cut) = self.fleet_groups(ScopeKind::Manufacturer).await?;
        let (regions, are_regions_cut) = self.fleet_groups(ScopeKind::Region).await?;
        let is_cut = are_makers_cut || are_regions_cut;
        Ok(FleetSummary { states, manufacturers, regions, is_cut, outages: self.open_outages().await? })
    }

    /// The groups of a kind by name, and whether there are more.
    async fn fleet_groups(&self, kind: ScopeKind) -> Result<(Vec<FleetGroup>, bool), Error> {
        let column = kind.name();
        // From name to name by the index, and one more than are shown.
        let counted = query(ours(format!(
            "WITH RECURSIVE states (state) AS ({STATES}), named (name, place) AS (\
             SELECT (SELECT {column} FROM pumps WHERE is_retired = 0 AND {column} > '' ORDER BY {column} LIMIT 1), 1 \
             UNION ALL SELECT (SELECT {column} FROM pumps WHERE is_retired = 0 AND {column} > named.name ORDER BY {column} LIMIT 1), \
             place + 1 FROM named WHERE name IS NOT NULL AND place <= $2) \
             SELECT name, place, state, (SELECT COUNT(*) FROM (SELECT 1 FROM pumps WHERE is_retired = 0 AND {column} = named.name \
             AND knowledge = states.state ORDER BY lost_at LIMIT $1) AS counted) FROM named, states WHERE name IS NOT NULL \
             ORDER BY place"
        )));
        let counted: Vec<(String, usize, String, u64)> =
            counted.with((COUNT_MAX, GROUPS_MAX)).fetch_all(&self.readers).await?;
        let mut groups: Vec<FleetGroup> = Vec::new();
        for (name, place, state, count) in counted {
            if place > GROUPS_MAX {
                return Ok((groups, true));
            }
            if groups.last().is_none_or(|group| group.name != name) {
                groups.push(FleetGroup { name, states: BTreeMap::new() });
            }
            if let Some(group) = groups.last_mut().filter(|_| count > 0) {
                group.states.insert(state, CappedCount::of(count));
            }
        }
        Ok((groups, false))
    }

    /// All that is known of a heat pump, also of one that is watched no more.
    pub async fn pump_detail(&self, id: &str) -> Result<Option<PumpDetail>, Error> {
        let id = id.to_ascii_lowercase();
        let one = query("SELECT record, checked_at FROM pumps WHERE heat_pump = $1").bind(&id);
        let one = async { Ok(one.fetch_optional::<(String, Timestamp)>(&self.readers).await?) };
        let (one, close_watch, occurrences) = tokio::try_join!(one, self.close_watch(&id), self.occurrences(&id))?;
        let Some((record, checked_at)) = one else { return Ok(None) };
        let (Some(seen), Some(pump)) = (legible(&record), pump_of(&record, checked_at)) else {
            return Err(Error::Unreadable("the record of a heat pump".to_owned()));
        };
        Ok(Some(PumpDetail {
            pump,
            first_seen_at: seen.first_seen,
            watched_since: seen.watched_since,
            was_connected: seen.was_connected,
            connected_since: seen.good_since,
            lost_at: seen.fell_at,
            losses: seen.losses,
            close_watch,
            occurrences,
        }))
    }

    /// The alerts about a heat pump, by the outgoing events of its owner.
    async fn occurrences(&self, heat_pump: &str) -> Result<Vec<OccurrenceView>, Error> {
        let bodies = query(
            "SELECT body FROM notices WHERE customer = (SELECT customer FROM pumps WHERE heat_pump = $1) \
             ORDER BY seq DESC LIMIT $2",
        );
        let bodies: Vec<String> = bodies.with((heat_pump, ROWS_MAX)).fetch_all(&self.readers).await?;
        let told = bodies.iter().filter_map(|body| serde_json::from_str::<Value>(body).ok());
        let about = told.filter(|told| told["data"]["heat_pump_id"] == heat_pump);
        let mut occurrences: Vec<OccurrenceView> = Vec::new();
        for told in about {
            let Some(one) = occurrence_of(&told) else { continue };
            let is_full = occurrences.len() == OCCURRENCES_MAX;
            match occurrences.iter_mut().find(|known| known.occurrence_id == one.occurrence_id) {
                // Each notice is there once for each target.
                Some(known) => {
                    known.resolved_at = known.resolved_at.or(one.resolved_at);
                    known.resolution = known.resolution.take().or(one.resolution);
                }
                None if is_full => break,
                None => occurrences.push(one),
            }
        }
        Ok(occurrences)
    }
}

/// The alert that an outgoing event is about, as the event tells it.
fn occurrence_of(told: &Value) -> Option<OccurrenceView> {
    let data = &told["data"];
    let moment = |value: &Value| value.as_str().and_then(Timestamp::parse);
    let resolution = data["resolution"].as_str().map(str::to_owned);
    Some(OccurrenceView {
        occurrence_id: data["occurrence_id"].as_str()?.to_owned(),
        cause: data["cause"].as_str()?.to_owned(),
        since: moment(&data["since"]),
        detected_at: moment(&data["detected_at"]),
        resolved_at: moment(&told["time"]).filter(|_| resolution.is_some()),
        resolution,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::Knowledge;

    #[test]
    fn the_states_that_are_counted_are_all_there_are() {
        let states = Knowledge::NAMES.map(|name| format!("('{name}')"));
        assert_eq!(STATES, format!("VALUES {}", states.join(", ")));
    }
}
