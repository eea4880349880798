//! Stage 3': polls Podero for the connectivity of every heat pump. Publishes nothing itself.
//!
//! Two steps. The roster step learns, once an interval, whose heat pumps there are. The poll step takes the users
//! whose time has come, reads their pumps, asks `domain::alert` what is new, and writes that down with its notices.
//! What could not be read changes nothing: it is never "disconnected".
//!
//! Before: [`crate::podero`]. After: [`crate::store`], then [`crate::outbound`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::alert::{self, Observation, Seen, SeenChange, WatchPolicy};
use crate::domain::customer::UserFound;
use crate::domain::plan::{Answer, Call, RefusalKind, Reply};
use crate::podero::{Partner, Urgency};
use crate::pump::{self, Step};
use crate::store::{DueUser, Member, Observed, Store};

/// Users taken for polling in one step.
const USERS_AT_ONCE: usize = 32;

/// A poll that failed is due again after this part of the interval: sooner than the next round, and yet no storm.
const RETRY_PART: u32 = 4;

/// The longest pause after a failed roster; a shorter interval retries sooner.
const ROSTER_RETRY_MAX: Duration = Duration::from_secs(60);

/// The shared name of the roster among replicas.
const ROSTER: &str = "roster";

/// Everything the stage needs.
pub struct Watcher<P> {
    /// The tables.
    pub store: Store,
    /// Podero.
    pub partner: P,
    /// Hysteresis.
    pub policy: WatchPolicy,
    /// `watch.interval`.
    pub interval: Duration,
    /// Time.
    pub clock: Clock,
    /// Rung when there is something to publish.
    pub wake_outbound: Arc<Notify>,
}

impl<P: Partner> Watcher<P> {
    /// Reads the list of users, if it is time.
    pub async fn roster_step(&self) -> Step {
        if let Some(until) = self.partner.paused_until() {
            return Step::IdleFor(until.since(self.clock.now()));
        }
        match self.store.take_duty(ROSTER, self.interval).await {
            Ok(true) => {}
            Ok(false) => return Step::Idle,
            Err(error) => {
                tracing::warn!(%error, "the roster could not be claimed");
                return Step::Failed;
            }
        }
        let asked_at = self.clock.now();
        let reply = self.partner.call(&Call::ListUsers, None, Urgency::Poll).await;
        let Reply::Done(Answer::Users(users)) = reply else {
            tracing::debug!("the list of users could not be read; nothing is concluded from that");
            let pause = (self.interval / RETRY_PART).min(ROSTER_RETRY_MAX);
            return match self.store.put_duty_off(ROSTER, self.clock.now().plus(pause)).await {
                Ok(()) => Step::Idle,
                Err(_) => Step::Failed,
            };
        };
        let now = self.clock.now();
        let members = users.into_iter().filter_map(|user| self.member(user, now)).collect();
        match self.keep(members, asked_at).await {
            Ok(()) => Step::Idle,
            Err(error) => {
                tracing::warn!(%error, "the roster could not be kept");
                Step::Failed
            }
        }
    }

    /// Polls the users whose time has come.
    pub async fn poll_step(&self) -> Step {
        if let Some(until) = self.partner.paused_until() {
            return Step::IdleFor(until.since(self.clock.now()));
        }
        let due = match self.store.due_users(USERS_AT_ONCE, self.interval).await {
            Ok(due) if due.is_empty() => return Step::Idle,
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "due polls could not be claimed");
                return Step::Failed;
            }
        };
        let mut polls = stream::iter(due).map(|user| self.poll(user)).buffer_unordered(USERS_AT_ONCE);
        while polls.next().await.is_some() {}
        Step::Busy
    }

    /// Only customers with heat pumps. Where the answer does not count them, they are asked.
    fn member(&self, user: UserFound, now: Timestamp) -> Option<Member> {
        let has_pumps = user.heat_pumps.is_none_or(|count| count > 0);
        (user.is_customer && has_pumps).then(|| Member {
            user: user.id,
            customer: user.external_id,
            first_due: now.plus(spread(user.id, self.interval)),
        })
    }

    async fn keep(&self, members: Vec<Member>, asked_at: Timestamp) -> Result<(), crate::store::Error> {
        let orphans = self.store.keep_roster(members).await?;
        for seen in orphans {
            if let Some(change) = alert::miss(&seen, asked_at, &self.policy) {
                self.write(seen.user, vec![change]).await?;
            }
        }
        Ok(())
    }

    async fn poll(&self, due: DueUser) {
        // What an answer tells was so when it was asked for: one that came late must not make a heat pump look silent.
        let asked_at = self.clock.now();
        let result = match self.observe(due.user).await {
            Some(observations) => {
                let changes = self.changes(&due, &observations, asked_at);
                self.write(due.user, changes).await
            }
            None => self.store.poll_again(due.user, self.clock.now().plus(self.interval / RETRY_PART)).await,
        };
        if let Err(error) = result {
            tracing::warn!(%error, podero.user = %due.user, "a poll could not be written down");
        }
    }

    /// `None`: nothing is known. A user who is not there has no heat pumps.
    async fn observe(&self, user: Uuid) -> Option<Vec<Observation>> {
        let reply = self.partner.call(&Call::ObserveHeatPumps { user }, None, Urgency::Poll).await;
        let mut observations = match reply {
            Reply::Done(Answer::Observations(observations)) => observations,
            Reply::Refused(refusal) if refusal.kind == RefusalKind::NotFound => Vec::new(),
            Reply::Done(_)
            | Reply::Refused(_)
            | Reply::Busy { .. }
            | Reply::Held { .. }
            | Reply::Unsent { .. }
            | Reply::Unknown { .. } => return None,
        };
        for observation in observations.iter_mut().filter(|observation| observation.wants_detail) {
            let call = Call::ObserveHeatPump { user, heat_pump: observation.heat_pump };
            let reply = self.partner.call(&call, None, Urgency::Poll).await;
            *observation = match reply {
                Reply::Done(Answer::Observations(mut detail)) if !detail.is_empty() => detail.swap_remove(0),
                Reply::Done(_)
                | Reply::Refused(_)
                | Reply::Busy { .. }
                | Reply::Held { .. }
                | Reply::Unsent { .. }
                | Reply::Unknown { .. } => without_detail(observation),
            };
        }
        Some(observations)
    }

    fn changes(&self, due: &DueUser, observations: &[Observation], now: Timestamp) -> Vec<SeenChange> {
        let owner = (due.user, due.customer.as_deref());
        let before = |heat_pump: Uuid| due.seen.iter().find(|seen| seen.heat_pump == heat_pump);
        let told = observations
            .iter()
            .map(|observation| alert::diff(before(observation.heat_pump), owner, observation, now, &self.policy));
        let is_missing = |seen: &&Seen| !observations.iter().any(|shown| shown.heat_pump == seen.heat_pump);
        let missing = due.seen.iter().filter(is_missing).filter(|seen| !seen.is_retired);
        told.chain(missing.filter_map(|seen| alert::miss(seen, now, &self.policy))).collect()
    }

    async fn write(&self, user: Uuid, changes: Vec<SeenChange>) -> Result<(), crate::store::Error> {
        let news = changes.iter().any(|change| change.notice.is_some());
        self.store.observe(Observed { user, changes }).await?;
        if news {
            pump::ring_all(&self.wake_outbound);
        }
        Ok(())
    }
}

/// The list said that something is the matter, and what could not be learnt: only a plain "not authenticated" stands.
fn without_detail(listed: &Observation) -> Observation {
    if listed.is_authenticated == Some(false) || listed.is_deleted {
        return listed.clone();
    }
    Observation { is_authenticated: None, has_lifecycle_error: false, ..listed.clone() }
}

/// A user's own place in the interval: the same after every restart, and even over many users, since ids are random.
fn spread(user: Uuid, interval: Duration) -> Duration {
    let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).max(1);
    let place = Uuid::new_v5(&crate::domain::NAMESPACE, user.as_bytes()).as_u64_pair().0;
    Duration::from_micros(place % micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_polls_are_spread_evenly_over_the_interval() {
        let interval = Duration::from_secs(600);
        let mut quarters = [0; 4];
        for number in 0..10_000u128 {
            let place = spread(Uuid::from_u128(number), interval);
            assert!(place < interval);
            quarters[usize::try_from(place.as_secs() / 150).expect("small")] += 1;
        }
        assert!(quarters.iter().all(|count| (2_300..2_700).contains(count)), "{quarters:?}");
    }
}
