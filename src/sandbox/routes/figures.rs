//! Figures of heat pumps in the Partner API: the reading of ranges, resolutions and keywords.
//!
//! It must never invent a figure: the model does.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::model`].

use serde_json::Value;

use super::call::ApiCall;
use crate::domain::Timestamp;
use crate::sandbox::access::SandboxActor;
use crate::sandbox::answer::SandboxAnswer;
use crate::sandbox::error::{SandboxError, SandboxResult};
use crate::sandbox::model::{
    DATA_KEYWORDS, FigureQuery, FigureRange, PeriodLength, PumpPath, STATISTICS_KEYWORDS, World,
};

type Outcome = SandboxResult<SandboxAnswer>;

pub(super) fn data(world: &World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let (from, to) = (call.query_moment("from_datetime")?, call.query_moment("to_datetime")?);
    let resolution = one(call, &PeriodLength::OF_DATA, PeriodLength::QuarterHour)?;
    let keywords = call.query_words("keywords", &DATA_KEYWORDS)?;
    let query = FigureQuery { range: FigureRange { from, to, resolution }, keywords: &keywords };
    let fill_missing = call.header_flag("fill-missing")?;
    Ok(SandboxAnswer::ok(&world.heat_pump_data(path(actor, call)?, query, fill_missing, call.now)?))
}

pub(super) fn schedules(world: &World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    Ok(SandboxAnswer::ok(&world.heat_pump_schedules(path(actor, call)?)?))
}

/// With several resolutions the data of all, one after the other.
pub(super) fn statistics(world: &World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let keywords = call.query_words("keywords", &STATISTICS_KEYWORDS)?;
    let mut whole = Value::Null;
    for resolution in several(call, PeriodLength::Day)? {
        let query = FigureQuery { range: FigureRange { from: None, to: None, resolution }, keywords: &keywords };
        let mut answer = world.heat_pump_statistics(path(actor, call)?, query, call.query_text(), call.now)?;
        match whole["data"].as_array_mut() {
            Some(data) => data.append(answer["data"].as_array_mut().unwrap_or(&mut Vec::new())),
            None => whole = answer,
        }
    }
    Ok(SandboxAnswer::ok(&whole))
}

pub(super) fn savings(world: &World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let (from, to) = (Some(required(call, "from")?), Some(required(call, "to")?));
    let resolution = one(call, &PeriodLength::OF_STATISTICS, PeriodLength::Month)?;
    let keywords = ["savings".to_owned()];
    let query = FigureQuery { range: FigureRange { from, to, resolution }, keywords: &keywords };
    Ok(SandboxAnswer::ok(&world.heat_pump_statistics(path(actor, call)?, query, call.query_text(), call.now)?))
}

/// Savings of the whole organisation.
pub(super) fn of_all(world: &World, actor: SandboxActor, call: &ApiCall<'_>) -> Outcome {
    let span = (required(call, "start_datetime")?, required(call, "end_datetime")?);
    Ok(SandboxAnswer::ok(&world.organisation_savings(actor, span, call.now)?))
}

fn path(actor: SandboxActor, call: &ApiCall<'_>) -> SandboxResult<PumpPath> {
    Ok(PumpPath { actor, user_id: call.path_id("user_id")?, id: call.path_id("heat_pump_id")? })
}

fn required(call: &ApiCall<'_>, name: &str) -> SandboxResult<Timestamp> {
    call.query_moment(name)?.ok_or_else(|| SandboxError::invalid("missing", &["query", name], "Field required"))
}

/// The resolution of the query, of these.
fn one(call: &ApiCall<'_>, allowed: &[PeriodLength], default: PeriodLength) -> SandboxResult<PeriodLength> {
    match words(call, allowed)?.as_slice() {
        [] => Ok(default),
        [one] => Ok(*one),
        _ => Err(SandboxError::invalid("enum", &["query", "resolution"], "Input should be one resolution")),
    }
}

/// The resolutions of the query, parted by commas.
fn several(call: &ApiCall<'_>, default: PeriodLength) -> SandboxResult<Vec<PeriodLength>> {
    let several = words(call, &PeriodLength::OF_STATISTICS)?;
    Ok(if several.is_empty() { vec![default] } else { several })
}

fn words(call: &ApiCall<'_>, allowed: &[PeriodLength]) -> SandboxResult<Vec<PeriodLength>> {
    let allowed: Vec<&str> = allowed.iter().map(|resolution| resolution.name()).collect();
    let words = call.query_words("resolution", &allowed)?;
    Ok(words.iter().filter_map(|word| PeriodLength::from_name(word)).collect())
}
