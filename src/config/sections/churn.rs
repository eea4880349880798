//! `[churn]`: customers who leave, and the brake on many at once.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::domain::plan`] and [`crate::domain::brake`].

use std::time::Duration;

use crate::config::key::section;
use crate::config::reader::Reader;
use crate::config::rules::{self, DURATION_MAX};
use crate::domain::brake::{Brake, Share};
use crate::domain::plan::ChurnDelete;

/// Limit of `churn.brake_count`: a higher brake would hold no churn, and its count would be no small table.
const BRAKE_COUNT_MAX: u64 = 1_000_000;

/// Limit of `churn.brake_window`: each admitted churn is remembered for as long.
const BRAKE_WINDOW_MAX: Duration = Duration::from_secs(30 * 86_400);

section! {
    /// Customers who leave, and a brake on many who leave at once. Without `churn.brake_count` and `churn.brake_share` there is
    /// no brake; with both, the larger limit counts.
    CHURN = "churn" {
        /// Deletion of a customer at Podero: `soft` can be undone there, `hard` is final at once, and `soft-then-hard` is final
        /// after `churn.retention`.
        DELETE: ChurnDelete = "delete", rules::one_of(ChurnDelete::names(), ChurnDelete::from_name), default "soft";
        /// Time between soft and hard deletion, with `soft-then-hard`.
        RETENTION: Duration = "retention", rules::duration(Duration::ZERO, DURATION_MAX), default "30d";
        /// Limit of customers who leave within `churn.brake_window` without an approval. Each further churn is parked as
        /// `churn_brake` until an operator approves it. With 0 each churn needs an approval.
        BRAKE_COUNT: u64 = "brake_count", rules::whole(0, BRAKE_COUNT_MAX), given "50";
        /// Limit of customers who leave within `churn.brake_window` without an approval, as a share of the active customers.
        BRAKE_SHARE: f64 = "brake_share", rules::share(), given "0.02";
        /// Time in which the brake counts customers who leave.
        BRAKE_WINDOW: Duration = "brake_window", rules::duration(Duration::from_secs(1), BRAKE_WINDOW_MAX), default "1h";
    }
}

/// Reads the brake. With neither limit there is none, whatever its window.
pub(in crate::config) fn brake(r: &mut Reader) -> Option<Brake> {
    let count = r.optional(&BRAKE_COUNT);
    let share = r.optional(&BRAKE_SHARE).map(Share::of);
    let window = r.value(&BRAKE_WINDOW);
    (count.is_some() || share.is_some()).then_some(Brake { count, share, window })
}
