//! Podero as the stages see it, and the observer of the calls.
//!
//! Before: [`crate::domain::call`]. After: [`super::client`] makes the calls.

use std::time::Duration;

use uuid::Uuid;

use super::drift::Drift;
use crate::domain::Timestamp;
use crate::domain::alert::Observation;
use crate::domain::call::{Call, Operation, Reply, UserFound};
use crate::domain::team::{MemberCall, MemberDone};

/// Podero, as the stages see it. No call fails but by its reply, and none panics. A call that is dropped before its reply
/// is ready may have happened all the same.
pub trait Partner: Send + Sync + 'static {
    /// Makes one call for an event, before every poll and within [`super::Settings::call_time_max`]. A call that has not left the
    /// bridge at `until` never does: the claim's lease would not cover its end.
    fn call(&self, call: &Call, idempotency_key: Option<Uuid>, until: Timestamp) -> impl Future<Output = Reply> + Send;

    /// As [`Partner::call`], for an event of a member.
    fn call_for_member(
        &self,
        call: &MemberCall,
        idempotency_key: Option<Uuid>,
        until: Timestamp,
    ) -> impl Future<Output = Reply<MemberDone>> + Send;

    /// Reads all users of the organisation, for the watch.
    fn list_users(&self) -> impl Future<Output = Reply<Vec<UserFound>>> + Send;

    /// Reads the connectivity of a user's heat pumps, for the watch. An entry that could not be read stands there with the nil
    /// id: it may be any heat pump that the answer does not name.
    fn observe_heat_pumps(&self, user: Uuid) -> impl Future<Output = Reply<Vec<Observation>>> + Send;

    /// Reads one heat pump in detail, for its `actions`.
    fn observe_heat_pump(&self, user: Uuid, heat_pump: Uuid) -> impl Future<Output = Reply<Observation>> + Send;

    /// `Some(until)`: Podero asked for a pause, or the circuit is open; claim no event before then.
    fn paused_until(&self) -> Option<Timestamp>;

    /// Calls that may be under way at once from this process; more than twice as many claims only block other replicas.
    fn concurrency(&self) -> usize {
        usize::MAX
    }

    /// The end of the last outage: an event that failed before it has not been failing ever since.
    fn back_since(&self) -> Option<Timestamp> {
        None
    }

    /// Counts a difference from Podero's pages that shows only between answers, so that the caller finds it.
    fn drifted(&self, _: Operation, _: Drift) {}
}

/// The observer of the calls: the metrics, in production.
pub trait Observe: Send + Sync + 'static {
    /// One HTTP request ended; `status` is one of [`super::STATUSES`].
    fn request(&self, operation: Operation, status: &'static str, took: Duration);
    /// The circuit opened or closed.
    fn circuit(&self, is_open: bool);
    /// An answer differs from what Podero's pages show; at most once per answer and way.
    fn drift(&self, operation: Operation, drift: Drift);
}

/// No observer.
impl Observe for () {
    fn request(&self, _: Operation, _: &'static str, _: Duration) {}
    fn circuit(&self, _: bool) {}
    fn drift(&self, _: Operation, _: Drift) {}
}
