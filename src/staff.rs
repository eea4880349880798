//! The team at Podero, apart from single events: the list of its staff is kept fresh, and members who left long ago are forgotten.
//!
//! The list is by which admins are counted and what `team list` and `team review` compare with. An event whose question needs a newer
//! one reads it itself ([`crate::apply`]). Nothing is concluded from a list that could not be read.
//!
//! Before: time. After: [`crate::store`], and the policy of the team.

use std::time::Duration;

use crate::clock::Clock;
use crate::domain::call::Reply;
use crate::domain::team::{MemberCall, MemberDone, TeamPolicy};
use crate::podero::Partner;
use crate::pump::{Step, failed};
use crate::store::{STAFF_DUTY, Store};

/// Shortest interval of reading the list: it holds all users, and an event reads one whenever it must.
const EVERY_MIN: Duration = Duration::from_secs(300);

/// Interval after a list that could not be read.
const AGAIN: Duration = Duration::from_secs(60);

/// Time within which a request for the list must have left; it may wait behind those of events.
const LEAVES_WITHIN: Duration = Duration::from_secs(60);

/// Everything the stage needs.
pub struct Staffing<P> {
    /// The tables.
    pub store: Store,
    /// Podero.
    pub partner: P,
    /// Time.
    pub clock: Clock,
    /// The operator's settings.
    pub policy: TeamPolicy,
}

impl<P: Partner> Staffing<P> {
    /// Reads the list of the staff when it is due, for all replicas. A bridge that does not administer the team keeps none.
    pub async fn list_step(&self) -> Step {
        if !self.policy.is_enabled {
            return match self.store.forget_staff().await {
                Ok(()) => Step::IdleFor(EVERY_MIN),
                Err(error) => failed!(error, "the list of the staff could not be removed"),
            };
        }
        if let Some(until) = self.partner.paused_until() {
            return Step::IdleFor(until.since(self.clock.now()));
        }
        let duty = match self.store.take_duty(STAFF_DUTY, self.policy.list_max_age.max(EVERY_MIN)).await {
            Ok(Some(duty)) => duty,
            Ok(None) => return Step::Idle,
            Err(error) => return failed!(error, "the reading of the list of the staff could not be claimed"),
        };
        let asked_at = self.clock.now();
        let list = MemberCall::ListStaff { email: None };
        let reply = self.partner.call_for_member(&list, None, asked_at.plus(LEAVES_WITHIN)).await;
        let kept = match reply {
            Reply::Done(MemberDone::StaffListed { staff, .. }) => {
                self.store.keep_staff(asked_at, staff, self.policy.protected.clone()).await
            }
            Reply::Done(_)
            | Reply::Refused(_)
            | Reply::Busy { .. }
            | Reply::Held { .. }
            | Reply::Unsent { .. }
            | Reply::Unknown { .. } => {
                tracing::debug!("the list of the staff could not be read; nothing is concluded from that");
                self.store.put_duty_off(STAFF_DUTY, self.clock.now().plus(AGAIN)).await
            }
        };
        match kept {
            Ok(()) => Step::Idle,
            Err(error) => {
                self.store.give_duty_back(duty);
                failed!(error, "the list of the staff could not be kept")
            }
        }
    }

    /// Reads the list of the staff now, and keeps it. Nothing changes if it cannot be read.
    pub async fn list_now(&self) {
        if self.partner.paused_until().is_some() {
            return;
        }
        let asked_at = self.clock.now();
        let list = MemberCall::ListStaff { email: None };
        let reply = self.partner.call_for_member(&list, None, asked_at.plus(LEAVES_WITHIN)).await;
        if let Reply::Done(MemberDone::StaffListed { staff, .. }) = reply
            && let Err(error) = self.store.keep_staff(asked_at, staff, self.policy.protected.clone()).await
        {
            tracing::warn!(%error, "the list of the staff could not be kept");
        }
    }

    /// Removes names and addresses of members who left longer ago than `team.retention`.
    pub async fn forget_step(&self) -> Step {
        match self.store.forget_members(self.policy.retention).await {
            Ok(0) => Step::Idle,
            Ok(_) => Step::Busy,
            Err(error) => failed!(error, "members who left could not be forgotten"),
        }
    }
}
