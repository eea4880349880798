//! Measurements, one room for each part of the bridge.

pub(crate) mod alerts;
pub(crate) mod apply;
pub(crate) mod audit;
pub(crate) mod bus;
pub(crate) mod idle;
pub(crate) mod pages;
pub(crate) mod replicas;
pub(crate) mod start;
pub(crate) mod sweep;
pub(crate) mod webhook;

use std::path::Path;

use serde::Serialize;

use crate::process::Servers;

/// The means by which all figures are measured.
pub(crate) struct Bench<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) servers: &'a Servers,
}

/// One line of the table: ours next to its limit, and their ratio, turn by turn.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: f64,
    pub(crate) limit: Option<f64>,
    pub(crate) ratio: Option<f64>,
    /// The value that the ratio, or without a limit the figure, is to reach; `None`: for information.
    pub(crate) aim: Option<Aim>,
}

/// A bound.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

impl Aim {
    pub(crate) fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl std::fmt::Display for Aim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, ">= {bound}"),
            Self::AtMost(bound) => write!(f, "<= {bound}"),
        }
    }
}

impl Figure {
    /// The figure of neighbouring turns, ours and the limit's, so that what the machine does meanwhile falls on both.
    pub(crate) fn of_turns(name: &str, unit: &'static str, turns: &[(f64, f64)], aim: Option<Aim>) -> Self {
        Self {
            name: name.to_owned(),
            unit,
            ours: median(turns.iter().map(|(ours, _)| *ours)),
            limit: Some(median(turns.iter().map(|(_, limit)| *limit))),
            ratio: Some(median(turns.iter().map(|(ours, limit)| ours / limit))),
            aim,
        }
    }

    /// The figure without a limit.
    pub(crate) fn alone(name: &str, unit: &'static str, ours: f64, aim: Option<Aim>) -> Self {
        Self { name: name.to_owned(), unit, ours, limit: None, ratio: None, aim }
    }

    /// Says whether the aim is met; `None`: there is no aim.
    pub(crate) fn is_met(&self) -> Option<bool> {
        Some(self.aim?.is_met(self.ratio.unwrap_or(self.ours)))
    }
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
