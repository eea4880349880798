//! Stage 3': polls Podero for the connectivity of every heat pump. Publishes nothing itself.
//!
//! Four steps. The roster step learns, once an interval, whose heat pumps there are. The poll step takes the users whose time
//! has come, reads their pumps, asks `domain::alert` what is new, and stores that with its notices. The fleet step counts what
//! the polls saw, manufacturer by manufacturer: many that went at once are one outage. The close step makes those
//! due every few seconds whose owner has just got a link. A state that could not be read changes
//! nothing: it is never "disconnected".
//!
//! Before: [`crate::podero`]. After: [`crate::store`], then [`crate::outbound`].

use std::collections::VecDeque;
use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use futures_util::{FutureExt, TryStreamExt};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::alert::missing::lists_to_remove;
use crate::domain::alert::outage::ScopeKind;
use crate::domain::alert::poll_interval::{next_poll, retry_poll};
use crate::domain::alert::{
    self, DiffContext, Looks, Observation, Outages, PumpChange, PumpRecord, Resolution, Scope, Shrunk, WatchPolicy,
    outage,
};
use crate::domain::call::{Operation, RefusalKind, Reply, UserFound};
use crate::domain::notice::Notice;
use crate::domain::reconnect::LinkSigner;
use crate::permits::{Permit, Permits};
use crate::podero::{Drift, Partner};
use crate::pump::{self, Step, failed};
use crate::store::{DuePolls, DueUser, Member, Observed, Roster, Store};

/// Limit of users polled at once: a poll that hangs holds its own slot and no other. It equals the default of calls in flight;
/// the budget of requests bounds the pace, and more would wait too long for their turn while events go first.
const POLLS_AT_ONCE: usize = 64;

/// Low-water mark of polls under way: at it more users are taken, so that one look at the table finds many.
const POLLS_LOW: usize = POLLS_AT_ONCE / 2;

/// Limit of users under way: polled, or with a result that waits to be stored. At the limit no new poll starts.
const UNDER_WAY_MAX: usize = 512;

/// Limit of the pause after a failed roster; a shorter interval retries sooner.
const ROSTER_RETRY_MAX: Duration = Duration::from_secs(60);

/// Part of the interval after which a failed roster is retried.
const ROSTER_RETRY_PART: u32 = 4;

/// Names of the duties, which the replicas share.
const ROSTER: &str = "roster";
const FLEETS: &str = "fleets";

/// Everything the stage needs.
pub struct Watcher<P> {
    /// The tables.
    pub store: Store,
    /// Podero.
    pub partner: P,
    /// Hysteresis, intervals, roll-up.
    pub policy: WatchPolicy,
    /// Characters of a ZIP code that make a region (`watch.region_chars`); 0: regions are not watched.
    pub region_chars: u32,
    /// The time after which a poll that is still under way belongs to another replica.
    pub lease: Duration,
    /// Interval at which more due users are looked for while polls are under way; `None`: only when all are over.
    pub look_every: Option<Duration>,
    /// Time and jitter.
    pub clock: Clock,
    /// Woken when there is something to publish.
    pub wake_outbound: Arc<Notify>,
    /// The links by which owners reconnect their heat pumps; `None`: alerts have Podero's addresses.
    pub self_service: Option<SelfService>,
}

/// The part of the watch that owners of heat pumps use.
pub struct SelfService {
    /// The signer of the links that alerts carry, with the secret that signs now.
    pub signer: Arc<dyn Fn() -> LinkSigner + Send + Sync>,
    /// Told how many heat pumps are connected again after their owners used links.
    pub succeeded: Box<dyn Fn(usize) + Send + Sync>,
}

/// A look for due users after the other.
struct Looking {
    /// Permits for polls under way.
    polls: Permits,
    /// Users who were found, and whose polls have not begun.
    taken: VecDeque<DuePoll>,
    /// The extent of what the last look found.
    found: MoreDue,
}

/// A user who is due, with the permit for the poll.
struct DuePoll {
    user: DueUser,
    outages: Arc<Outages>,
    /// The end of the lease.
    until: Timestamp,
    permit: Permit,
}

/// The result of one poll.
enum PollResult {
    /// A complete answer.
    All(Observed),
    /// No answer: the user is asked again.
    Nothing(Uuid),
}

/// The extent of what a look for due users found.
enum MoreDue {
    /// As many as were asked for: there may be more.
    Many,
    /// All that were due.
    All,
}

impl<P: Partner> Watcher<P> {
    /// Reads the list of users, if it is time.
    pub async fn roster_step(&self) -> Step {
        if let Some(until) = self.partner.paused_until() {
            return Step::IdleFor(until.since(self.clock.now()));
        }
        let duty = match self.store.take_duty(ROSTER, self.policy.interval).await {
            Ok(Some(duty)) => duty,
            Ok(None) => return Step::Idle,
            Err(error) => return failed!(error, "the roster could not be claimed"),
        };
        let asked_at = self.clock.now();
        let Reply::Done(users) = self.partner.list_users().await else {
            tracing::debug!("the list of users could not be read; nothing is concluded from that");
            let pause = (self.policy.interval / ROSTER_RETRY_PART).min(ROSTER_RETRY_MAX);
            return match self.store.put_duty_off(ROSTER, self.clock.now().plus(pause)).await {
                Ok(()) => Step::Idle,
                Err(_) => {
                    self.store.give_duty_back(duty);
                    Step::Failed
                }
            };
        };
        let now = self.clock.now();
        let members = users.into_iter().filter_map(|user| self.member(user, now)).collect();
        match self.keep(members, asked_at).await {
            Ok(()) => Step::Idle,
            Err(error) => {
                self.store.give_duty_back(duty);
                failed!(error, "the roster could not be kept")
            }
        }
    }

    /// Polls the users whose time has come, until none is due. May be dropped at any moment: a user whose result was not stored
    /// is still due.
    pub async fn poll_step(&self) -> Step {
        if let Some(until) = self.partner.paused_until() {
            return Step::IdleFor(until.since(self.clock.now()));
        }
        self.due_polls()
            .map_ok(|due| self.poll_and_note(due).map(Ok))
            .try_buffer_unordered(UNDER_WAY_MAX)
            .try_fold(Step::Idle, |_, ()| ready(Ok(Step::Busy)))
            .await
            .unwrap_or_else(|error| failed!(error, "due polls could not be taken"))
    }

    /// Judges every manufacturer and region, if it is time.
    pub async fn fleet_step(&self) -> Step {
        if let Some(until) = self.partner.paused_until() {
            // Blindness neither ends an outage nor makes one suspected.
            return Step::IdleFor(until.since(self.clock.now()));
        }
        let duty = match self.store.take_duty(FLEETS, outage::look_every(&self.policy)).await {
            Ok(Some(duty)) => duty,
            Ok(None) => return Step::Idle,
            Err(error) => return failed!(error, "fleets could not be judged"),
        };
        match self.judge_fleets().await {
            Ok(()) => Step::Idle,
            Err(error) => {
                self.store.give_duty_back(duty);
                failed!(error, "fleets could not be judged")
            }
        }
    }

    /// Makes the users of heat pumps due whose owner has just got a link: the poll step polls them as any other.
    pub async fn close_step(&self) -> Step {
        if let Some(until) = self.partner.paused_until() {
            return Step::IdleFor(until.since(self.clock.now()));
        }
        match self.store.take_close_watches().await {
            Ok(look) => {
                if let Some(owners) = self.self_service.as_ref().filter(|_| look.back_by_owner > 0) {
                    (owners.succeeded)(look.back_by_owner);
                }
                Step::Idle
            }
            Err(error) => failed!(error, "close watches could not be taken"),
        }
    }

    async fn judge_fleets(&self) -> Result<(), crate::store::Error> {
        let known = self.store.outages().await?;
        let (mut outages, mut looks, mut notices) = (known.outages.clone(), known.looks.clone(), Vec::new());
        looks.look(self.clock.now(), &self.policy);
        // A region whose pumps are all of one manufacturer is away when that manufacturer is. So manufacturers come first, and
        // a pump that may be a part of their outage is no part of a region's. The other way round only published outages count.
        for kind in [ScopeKind::Manufacturer, ScopeKind::Region] {
            self.judge_kind(kind, &looks, &mut outages, &mut notices).await?;
        }
        let topics: Vec<&str> = notices.iter().map(|notice| notice.topic.name()).collect();
        if self.store.keep_outages(&known, outages, looks, notices).await? && !topics.is_empty() {
            tracing::warn!(?topics, "many heat pumps went, or came back, at once");
            pump::wake_all(&self.wake_outbound);
        }
        Ok(())
    }

    async fn judge_kind(
        &self,
        kind: ScopeKind,
        looks: &Looks,
        outages: &mut Outages,
        notices: &mut Vec<Notice>,
    ) -> Result<(), crate::store::Error> {
        let now = self.clock.now();
        let others = outages.clone();
        let others: Vec<&Scope> = match kind {
            ScopeKind::Manufacturer => others
                .of_kind(ScopeKind::Region)
                .filter(|outage| outage.is_open())
                .map(|outage| &outage.scope)
                .collect(),
            ScopeKind::Region => others.of_kind(ScopeKind::Manufacturer).map(|outage| &outage.scope).collect(),
        };
        let lost_from = outage::lost_from(None, looks, now, &self.policy);
        let mut counts = self.store.count_fleets(kind, lost_from, &others).await?;
        counts.retain(|count| outages.of(&count.scope).is_none());
        for outage in outages.of_kind(kind) {
            // A published outage ends by its own members alone, even if another outage covers some of them.
            let others = if outage.is_open() { &[][..] } else { &others };
            let lost_from = outage::lost_from(Some(outage), looks, now, &self.policy);
            counts.push(self.store.count_fleet(&outage.scope, lost_from, outage.since, others).await?);
        }
        for count in &counts {
            let (outage, notice) = outage::judge(outages.of(&count.scope), count, looks, now, &self.policy);
            outages.set(&count.scope, outage);
            notices.extend(notice);
        }
        Ok(())
    }

    /// Members are customers with heat pumps. If the answer does not count a customer's pumps, they are asked for.
    fn member(&self, user: UserFound, now: Timestamp) -> Option<Member> {
        let has_pumps = user.heat_pumps.is_none_or(|count| count > 0);
        (user.is_customer && has_pumps).then(|| Member {
            user: user.id,
            customer: user.external_id,
            region: user.zip.and_then(|zip| zip.region(self.region_chars)),
            first_due: next_poll(user.id, false, now, self.clock.jitter(), &self.policy),
        })
    }

    async fn keep(&self, members: Vec<Member>, asked_at: Timestamp) -> Result<(), crate::store::Error> {
        let roster = Roster {
            members,
            asked_at,
            lists_to_remove: lists_to_remove(&self.policy),
            break_after: self.policy.break_after(Duration::ZERO),
        };
        let kept = self.store.keep_roster(roster).await?;
        if let Some(Shrunk { missing, watched }) = kept.doubted {
            tracing::warn!(
                missing,
                watched,
                "a list of users lacks many at once; nothing is concluded before the next one"
            );
            self.partner.drifted(Operation::ListUsers, Drift::ShortList);
        }
        for seen in kept.orphans {
            let change = alert::retire(&seen, Resolution::Removed, asked_at);
            self.write(Observed { user: seen.user, changes: vec![change], due_at: asked_at }).await?;
        }
        Ok(())
    }

    /// The polls that are due, look after look, until all of them are over and no more are due.
    fn due_polls(&self) -> impl Stream<Item = Result<DuePoll, crate::store::Error>> {
        let looking = Looking { polls: Permits::new(POLLS_AT_ONCE), taken: VecDeque::new(), found: MoreDue::Many };
        stream::try_unfold(looking, async |mut looking| {
            loop {
                if let Some(due) = looking.taken.pop_front() {
                    return Ok(Some((due, looking)));
                }
                if !self.is_time_to_look(&looking).await {
                    return Ok(None);
                }
                self.look(&mut looking).await?;
            }
        })
    }

    /// Waits until it is time to look for due users: when few polls are under way, if there may be more users, and at each
    /// interval. Returns `false` when no poll is under way and no more users are due.
    async fn is_time_to_look(&self, looking: &Looking) -> bool {
        let (free, is_look) = match looking.found {
            MoreDue::Many => (POLLS_AT_ONCE - POLLS_LOW, true),
            MoreDue::All => (POLLS_AT_ONCE, false),
        };
        let interval = async {
            match self.look_every {
                Some(pause) => pump::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Takes finished polls first, so that the order does not depend on chance.
            biased;
            () = looking.polls.wait_for(free) => is_look,
            () = interval => true,
        }
    }

    /// Takes as many due users as there are permits for. A failure that leaves polls under way does not end them.
    async fn look(&self, looking: &mut Looking) -> Result<(), crate::store::Error> {
        if self.partner.paused_until().is_some() {
            looking.found = MoreDue::All;
            return Ok(());
        }
        let permits = looking.polls.acquire_up_to(POLLS_AT_ONCE);
        let room = permits.len();
        if room == 0 {
            return Ok(());
        }
        let until = self.clock.now().plus(self.lease);
        match self.store.due_polls(room, self.lease).await {
            Ok(DuePolls { users, outages }) => {
                looking.found = if users.len() == room { MoreDue::Many } else { MoreDue::All };
                let (polls, outages) = (users.into_iter().zip(permits), Arc::new(outages));
                looking.taken =
                    polls.map(|(user, permit)| DuePoll { user, outages: outages.clone(), until, permit }).collect();
            }
            Err(error) if room == POLLS_AT_ONCE => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "due polls could not be taken");
                looking.found = MoreDue::All;
            }
        }
        Ok(())
    }

    /// Polls one user and stores the result. The permit is back before the result is stored: a poll is a request under way.
    async fn poll_and_note(&self, due: DuePoll) {
        let DuePoll { user, outages, until, permit } = due;
        let told = self.poll(user, &outages).await;
        drop(permit);
        self.note(told, until).await;
    }

    /// Polls one user and returns what is to be stored. A failure in it, a panic too, stays in it.
    async fn poll(&self, due: DueUser, outages: &Outages) -> PollResult {
        let user = due.user;
        match AssertUnwindSafe(self.try_poll(due, outages)).catch_unwind().await {
            Ok(Ok(told)) => return told,
            Ok(Err(error)) => tracing::warn!(%error, podero.user = %user, "a poll could not be judged"),
            Err(_) => tracing::error!(podero.user = %user, "a poll panicked; the others go on"),
        }
        PollResult::Nothing(user)
    }

    async fn try_poll(&self, mut due: DueUser, outages: &Outages) -> Result<PollResult, crate::store::Error> {
        // An answer describes the moment of its request: a late answer must not make a heat pump look silent.
        let asked_at = self.clock.now();
        let Some(observations) = self.observe(&due).await else { return Ok(PollResult::Nothing(due.user)) };
        // A heat pump that is new here may be known as another user's.
        let shown = observations.iter().map(|shown| shown.heat_pump).filter(|id| !id.is_nil());
        let new: Vec<Uuid> = shown.filter(|id| remembered(&due, *id).is_none()).collect();
        if !new.is_empty() {
            due.seen.extend(self.store.remembered(&new).await?);
        }
        let changes = self.changes(&due, &observations, outages, asked_at);
        let is_suspect = !due.is_leaving && changes.iter().any(|change| change.seen.is_suspect());
        let due_at = next_poll(due.user, is_suspect, self.clock.now(), self.clock.jitter(), &self.policy);
        Ok(PollResult::All(Observed { user: due.user, changes, due_at }))
    }

    /// Stores the result of a poll, and offers it again while the lease lasts.
    async fn note(&self, told: PollResult, until: Timestamp) {
        let noted = pump::offer(&self.clock, until, (self, &told), |(it, told)| match told {
            PollResult::All(observed) => it.write(observed.clone()).boxed(),
            PollResult::Nothing(user) => it.put_off(*user).boxed(),
        });
        if let Err(error) = noted.await {
            let (PollResult::All(Observed { user, .. }) | PollResult::Nothing(user)) = &told;
            tracing::warn!(%error, podero.user = %user, "a poll could not be written down");
        }
    }

    async fn put_off(&self, user: Uuid) -> Result<(), crate::store::Error> {
        self.store.poll_again(user, retry_poll(self.clock.now(), self.clock.jitter(), &self.policy)).await
    }

    /// Reads a user's heat pumps. `None`: nothing is known. A user who is not there has no heat pumps.
    async fn observe(&self, due: &DueUser) -> Option<Vec<Observation>> {
        let mut observations = match self.partner.observe_heat_pumps(due.user).await {
            Reply::Done(observations) => observations,
            Reply::Refused(refusal) if refusal.kind == RefusalKind::NotFound => Vec::new(),
            Reply::Refused(_)
            | Reply::Busy { .. }
            | Reply::Held { .. }
            | Reply::Unsent { .. }
            | Reply::Unknown { .. } => return None,
        };
        for observation in observations.iter_mut().filter(|observation| wants_detail(observation, due)) {
            *observation = match self.partner.observe_heat_pump(due.user, observation.heat_pump).await {
                Reply::Done(detail) => detail,
                Reply::Refused(_)
                | Reply::Busy { .. }
                | Reply::Held { .. }
                | Reply::Unsent { .. }
                | Reply::Unknown { .. } => without_detail(observation),
            };
        }
        Some(observations)
    }

    fn changes(
        &self,
        due: &DueUser,
        observations: &[Observation],
        outages: &Outages,
        now: Timestamp,
    ) -> Vec<PumpChange> {
        let links = self.self_service.as_ref().map(|owners| (owners.signer)());
        let around = DiffContext {
            user: due.user,
            customer: due.customer.as_deref(),
            region: due.region.as_deref(),
            is_leaving: due.is_leaving,
            outages,
            links: links.as_ref(),
        };
        let told = observations.iter().filter(|shown| !shown.heat_pump.is_nil()).map(|observation| {
            alert::diff(remembered(due, observation.heat_pump), observation, &around, now, &self.policy)
        });
        // An entry that could not be read may be any of them.
        let is_complete = observations.iter().all(|shown| !shown.heat_pump.is_nil());
        let is_missing = |seen: &&PumpRecord| !observations.iter().any(|shown| shown.heat_pump == seen.heat_pump);
        let missing = due.seen.iter().filter(|seen| is_complete && is_missing(seen) && !seen.is_retired);
        told.chain(missing.filter_map(|seen| alert::miss(seen, now, &self.policy))).collect()
    }

    async fn write(&self, observed: Observed) -> Result<(), crate::store::Error> {
        let news = observed.changes.iter().any(|change| !change.notices.is_empty());
        self.store.observe(observed).await?;
        if news {
            pump::wake_all(&self.wake_outbound);
        }
        Ok(())
    }
}

fn remembered(due: &DueUser, heat_pump: Uuid) -> Option<&PumpRecord> {
    due.seen.iter().find(|seen| seen.heat_pump == heat_pump)
}

/// `true` if the list leaves something open. Of a pump that is plainly not authenticated the detail adds only the link for an
/// alert that is still to come.
fn wants_detail(listed: &Observation, due: &DueUser) -> bool {
    let is_plain = listed.is_authenticated == Some(false) || listed.is_deleted;
    let is_untold = |seen: &PumpRecord| seen.was_connected && seen.alert.is_none() && seen.outage.is_none();
    let may_be_news = !due.is_leaving && remembered(due, listed.heat_pump).is_some_and(is_untold);
    listed.wants_detail && !listed.heat_pump.is_nil() && (!is_plain || may_be_news)
}

/// The state by the list alone, which says that something is wrong, when the detail could not be read: only a plain "not
/// authenticated" stands.
fn without_detail(listed: &Observation) -> Observation {
    if listed.is_authenticated == Some(false) || listed.is_deleted {
        return listed.clone();
    }
    Observation { is_authenticated: None, has_lifecycle_error: false, ..listed.clone() }
}
