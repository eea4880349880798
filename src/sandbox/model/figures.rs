//! Figures of heat pumps: measured data, statistics and savings.
//!
//! Facts: `api-reference/user-heat-pumps/get-heat-pump-data` and its neighbours. The numbers are invented and repeat: they follow
//! from the hour alone. A heat pump has data from its creation until its manufacturer delivered last. It must never show
//! figures of a time without data, except as nulls that the caller asked for.
//!
//! Before: [`crate::sandbox::routes`]. After: the other files of [`crate::sandbox::model`].

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::heat_pump::HeatPump;
use super::period::PeriodLength;
use super::world::World;
use crate::domain::Timestamp;
use crate::sandbox::access::{Act, SandboxActor};
use crate::sandbox::error::{SandboxError, SandboxResult};

/// Limit of the periods of one answer: a quarter of a year in quarters of an hour.
pub const PERIODS_MAX: usize = 10_000;

/// Keywords of measured data.
pub const DATA_KEYWORDS: [&str; 5] =
    ["inlet_temp_act", "hot_water_temp", "estimated_consumption", "unoptimized_consumption", "price"];
/// Keywords of statistics.
pub const STATISTICS_KEYWORDS: [&str; 2] = ["savings", "consumption"];

/// Range of measured data where the caller names none; Podero does not say which it is.
const RANGE: Duration = Duration::from_hours(24);
/// Consumption of every heat pump, in watts.
const POWER_W: u64 = 500;
/// A quarter of an hour in microseconds: the invented figures change with it.
const QUARTER_MICROS: i64 = 15 * 60 * 1_000_000;
/// Consumption that is saved, in percent.
const SAVED_PERCENT: u64 = 10;

/// The heat pump of a question, and the one who asks.
#[derive(Debug, Clone, Copy)]
pub struct PumpPath {
    /// The caller.
    pub actor: SandboxActor,
    /// The user of the path.
    pub user_id: Uuid,
    /// The heat pump of the path.
    pub id: Uuid,
}

/// A range of time and the periods that it is cut into.
#[derive(Debug, Clone, Copy)]
pub struct FigureRange {
    /// Its beginning; without it a day before its end.
    pub from: Option<Timestamp>,
    /// Its end; without it now.
    pub to: Option<Timestamp>,
    /// The length of its periods.
    pub resolution: PeriodLength,
}

/// A wish for figures.
#[derive(Debug, Clone, Copy)]
pub struct FigureQuery<'a> {
    /// The range.
    pub range: FigureRange,
    /// Keywords of the fields that are wanted; of none, all.
    pub keywords: &'a [String],
}

impl FigureQuery<'_> {
    fn wants(&self, keyword: &str) -> bool {
        self.keywords.is_empty() || self.keywords.iter().any(|wanted| wanted == keyword)
    }
}

/// A part of time: the first moment, and the first that is no longer part of it.
type Span = (Timestamp, Timestamp);

impl FigureRange {
    /// The periods that begin within the range, or within which it begins.
    fn periods(self, now: Timestamp) -> SandboxResult<Vec<Span>> {
        let to = self.to.unwrap_or(now);
        let from = self.from.unwrap_or_else(|| to.minus(RANGE));
        if from >= to {
            return Err(SandboxError::invalid("value_error", &["query"], "The range must end after it begins"));
        }
        let mut periods = Vec::new();
        let mut begin = self.resolution.begin(from);
        while begin < to {
            if periods.len() >= PERIODS_MAX {
                return Err(SandboxError::invalid("value_error", &["query"], "The range has more than 10000 periods"));
            }
            let end = self.resolution.end(begin);
            periods.push((begin, end));
            begin = end;
        }
        Ok(periods)
    }
}

impl World {
    /// Measured data of a heat pump. Without any in the range it is [`SandboxError::NoData`], or with `fill_missing` nulls.
    pub fn heat_pump_data(
        &self,
        of: PumpPath,
        query: FigureQuery<'_>,
        fill_missing: bool,
        now: Timestamp,
    ) -> SandboxResult<Value> {
        let measured = measured(self.heat_pump(of.actor, of.user_id, of.id, false)?, now);
        let mut data = Vec::new();
        for period in query.range.periods(now)? {
            let length = within(period, measured);
            if length > Duration::ZERO || fill_missing {
                data.push(reading(period.0, length, &query));
            }
        }
        if data.is_empty() { Err(SandboxError::NoData) } else { Ok(json!({"metadata": {}, "data": data})) }
    }

    /// Statistics of a heat pump from its creation until now, or in a range. Where there is no data, `metadata.error` says so.
    pub fn heat_pump_statistics(
        &self,
        of: PumpPath,
        query: FigureQuery<'_>,
        asked: &str,
        now: Timestamp,
    ) -> SandboxResult<Value> {
        let heat_pump = self.heat_pump(of.actor, of.user_id, of.id, false)?;
        let measured = measured(heat_pump, now);
        let from = query.range.from.unwrap_or(heat_pump.created_at);
        let to = query.range.to.unwrap_or_else(|| now.plus(Duration::from_micros(1)));
        let range = FigureRange { from: Some(from), to: Some(to), ..query.range };
        let mut data = Vec::new();
        for period in range.periods(now)? {
            let watt_hours = watt_hours(within(period, measured));
            if watt_hours > 0 {
                data.push(statistic(period, watt_hours, &query));
            }
        }
        let error = data.is_empty().then_some("No data for this heat pump.");
        let units = json!({"savings": "Wh", "consumption": "Wh"});
        let metadata = json!({"requested_at": now, "query": asked, "units": units, "error": error});
        Ok(json!({"metadata": metadata, "data": data}))
    }

    /// Schedules of a heat pump: none. The page is marked beta, and its answer was not seen.
    pub fn heat_pump_schedules(&self, of: PumpPath) -> SandboxResult<Value> {
        self.heat_pump(of.actor, of.user_id, of.id, false)?;
        Ok(json!([]))
    }

    /// Savings of all heat pumps of the organisation within a range.
    pub fn organisation_savings(&self, actor: SandboxActor, span: Span, now: Timestamp) -> SandboxResult<Value> {
        self.allow(self.standing(actor)?, Act::ListUsers)?;
        let is_live = |heat_pump: &&HeatPump| !heat_pump.is_deleted() && self.live_user(heat_pump.user_id).is_ok();
        let heat_pumps = self.heat_pumps.iter().filter(is_live);
        let saved: u64 = heat_pumps.map(|heat_pump| saved(watt_hours(within(span, measured(heat_pump, now))))).sum();
        Ok(json!({
            "total_savings": saved, "heat_pump_savings": saved, "electric_vehicle_savings": 0, "inverter_savings": 0,
        }))
    }
}

/// The time for which a heat pump has data.
fn measured(heat_pump: &HeatPump, now: Timestamp) -> Option<Span> {
    heat_pump.delivered_until(now).map(|until| (heat_pump.created_at, until.min(now)))
}

/// The length of the part of a period for which there is data.
fn within(period: Span, measured: Option<Span>) -> Duration {
    measured.map_or(Duration::ZERO, |(from, until)| period.1.min(until).since(period.0.max(from)))
}

fn watt_hours(length: Duration) -> u64 {
    length.as_secs() * POWER_W / 3_600
}

fn saved(watt_hours: u64) -> u64 {
    watt_hours * SAVED_PERCENT / 100
}

/// Data of a period that begins then, measured for this long; nulls if it was not measured at all.
fn reading(begin: Timestamp, length: Duration, query: &FigureQuery<'_>) -> Value {
    let is_shown = |keyword: &str| length > Duration::ZERO && query.wants(keyword);
    let shown = |keyword: &str, value: Value| if is_shown(keyword) { value } else { Value::Null };
    let quarter = begin.micros() / QUARTER_MICROS;
    let consumption = watt_hours(length);
    json!({
        "time": begin,
        "price": shown("price", json!(80 + quarter.rem_euclid(41))),
        "inlet_temp_act": shown("inlet_temp_act", json!(30 + quarter.rem_euclid(9))),
        "hot_water_temp": shown("hot_water_temp", json!(45 + quarter.rem_euclid(7))),
        "estimated_consumption": shown("estimated_consumption", json!(consumption)),
        "simulated_consumption": shown("estimated_consumption", json!(consumption)),
        "unoptimized_consumption": shown("unoptimized_consumption", json!(consumption + saved(consumption))),
        "estimated_consumption_filtered": shown("estimated_consumption", json!(consumption)),
    })
}

fn statistic(period: Span, watt_hours: u64, query: &FigureQuery<'_>) -> Value {
    let shown = |keyword: &str, value: Value| if query.wants(keyword) { value } else { Value::Null };
    json!({
        "resolution": query.range.resolution,
        "period": {"start_period": period.0, "end_period": period.1},
        "savings": shown("savings", json!({"total": saved(watt_hours), "percentage": SAVED_PERCENT})),
        "consumption": shown("consumption", json!({"total": watt_hours})),
        "heat_pump": {"estimated_consumption_wh": watt_hours},
        "electric_vehicle": null,
        "inverter": null,
    })
}
