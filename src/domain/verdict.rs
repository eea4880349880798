//! The meaning of a reply for an event: all of the bridge's judgement, as values.
//!
//! | reply | means | fate | counts as a failure |
//! |---|---|---|---|
//! | `Done` | Podero did it | ask `next` again | what was made resets, nothing else does |
//! | `Refused` | it never will | parked and published, unless the no is as good as a yes (gone, adopted) | - |
//! | `Busy` | healthy, asks for a slower pace | retry at max(its wish, back-off) | lengthens the wait, never parks |
//! | `Held` | the bridge itself is refused | retry with back-off; the circuit holds everything, nothing is parked | lengthens the wait, never parks |
//! | `Unsent` | surely not received | retry with back-off, parked after `retry.give_up_after` | yes |
//! | `Unknown` | may have happened | the same, and in doubt: a look-up comes first, once the call must have ended | yes |
//!
//! Before: [`crate::domain::plan`]. After: [`crate::store`] makes a [`Verdict`] durable in one transaction.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::acts;
use super::alert::{self, PumpChange, Resolution};
use super::audit::AuditEntry;
use super::brake::{Brake, Tally};
use super::call::{Call, Done, Look, RETRY_AFTER_MAX, Refusal, RefusalKind, Repeat, Reply};
use super::customer::{Customer, Listing, ObservedBuilding, ObservedUser};
use super::event::{BuildingKey, Event, Field, Happening, UNKNOWN};
use super::names::names;
use super::notice::{Notice, Topic, notice_id};
use super::plan::{ChurnDelete, Next, OldHeatPumps, Policy, Work, page_language};
use super::{EventId, NAMESPACE, Timestamp, link};

/// Longest delay after a "slow down" in which Podero names no time: the pace of all calls recovers within seconds.
pub const BUSY_DELAY_MAX: Duration = Duration::from_secs(60);

/// The present, as an argument.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The present moment.
    pub now: Timestamp,
    /// A random number in `[0, 1)`.
    pub jitter: f64,
}

/// The next thing that happens to the claimed event.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Ask `next` again; `save` when the step just done must not be forgotten by a crash.
    Continue {
        /// True if the customer must be written before going on.
        save: bool,
    },
    /// The claim ends.
    Settle(Fate),
}

/// The way in which a claim ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// Done; newer facts may have replaced some of its own.
    Applied {
        /// Names of its facts that a newer one had replaced.
        stale: Vec<String>,
    },
    /// A newer event had already said otherwise.
    Superseded,
    /// It came before its sign-up: tried again when a sign-up arrives, or at `until`.
    Waiting {
        /// The end of the wait.
        until: Timestamp,
    },
    /// Tried again; holds its lane.
    Retry {
        /// The earliest time of the next try.
        at: Timestamp,
        /// The cause of the retry, for the timeline.
        setback: Setback,
    },
    /// A person is needed; does not hold its lane.
    Parked {
        /// The class of trouble.
        reason: Reason,
        /// More about it, free of personal data.
        detail: String,
    },
}

names! {
    /// The cause of a retry: each is the reply of the same name, except for the last two.
    pub enum Setback {
        Busy = "busy",
        Held = "held",
        Unsent = "unsent",
        Unknown = "unknown",
        /// `Unsent` or `Unknown`, because Podero answered with a status of 5xx.
        ServerError = "server_error",
        TooManyCalls = "too_many_calls",
    }

    /// The reason for which a person is needed.
    pub enum Reason {
        /// The e-mail address belongs to a user at Podero who is not this customer.
        EmailTaken = "email_taken",
        /// Podero's user of this customer is not a customer: staff, an admin, a guest.
        NotACustomer = "not_a_customer",
        /// Podero will not do it.
        Refused = "refused",
        /// A building may have been made unseen, and Podero does not list buildings.
        BuildingInDoubt = "building_in_doubt",
        /// No sign-up came in time.
        NoSignUp = "no_sign_up",
        /// It failed for longer than `retry.give_up_after`.
        GaveUp = "gave_up",
        /// More customers would leave within `churn.brake_window` than may without an approval.
        ChurnBrake = "churn_brake",
        /// `team.enabled` is off.
        TeamDisabled = "team_disabled",
        /// The id of a member is an e-mail address, which names another person one day.
        MemberIdIsAddress = "member_id_is_address",
        /// The access would end before the event that gives it.
        ExpiresBeforeEvent = "expires_before_event",
        /// The domain of the member's e-mail address is not in `team.email_domains`.
        ForeignEmailDomain = "foreign_email_domain",
        /// A guest must be staff, with an end of the access within `team.guest_access_max`.
        GuestAccess = "guest_access",
        /// `team.protected` names the member.
        ProtectedMember = "protected_member",
        /// `team.allow_admins` is off.
        AdminNotAllowed = "admin_not_allowed",
        /// Fewer than `team.min_admins` active admins would be left, now or when an access ends.
        TooFewAdmins = "too_few_admins",
        /// More members would be removed or demoted within `team.removals_window` than may without an approval.
        TeamBrake = "team_brake",
        /// Podero's user of this member is a customer.
        NotATeamMember = "not_a_team_member",
        /// Podero has no user of a member who should have one; only a join invites.
        MemberMissing = "member_missing",
        /// No join came in time.
        NoJoin = "no_join",
        /// The bridge does not understand it as an event.
        Untranslatable = "untranslatable",
        /// A message with more bytes, or a batch with more events, than the bridge takes at once.
        TooLarge = "too_large",
        /// A known id arrived with another content.
        EventIdReused = "event_id_reused",
        /// The mapping of its source did not end for it, or took too much.
        MappingFailed = "mapping_failed",
        /// Its source may not send events of this type.
        TypeNotAllowed = "type_not_allowed",
        /// The bridge itself failed on it.
        Panicked = "panicked",
        /// This version cannot read its stored form.
        Unreadable = "unreadable",
    }
}

impl Reason {
    /// The reasons that a person's approval overrides: the event is right, but there are too many like it.
    pub const APPROVABLE: [Self; 2] = [Self::ChurnBrake, Self::TeamBrake];

    /// The reasons for which the policy of the team refuses an event, in the order in which they are looked at.
    pub const OF_TEAM_POLICY: [Self; 8] = [
        Self::TeamDisabled,
        Self::MemberIdIsAddress,
        Self::ForeignEmailDomain,
        Self::GuestAccess,
        Self::ProtectedMember,
        Self::AdminNotAllowed,
        Self::TooFewAdmins,
        Self::TeamBrake,
    ];

    /// True if it is a refusal of the policy of the team, which the audit log records.
    pub fn is_of_team_policy(self) -> bool {
        Self::OF_TEAM_POLICY.contains(&self)
    }

    /// True if an approval overrides it.
    pub fn is_approvable(self) -> bool {
        Self::APPROVABLE.contains(&self)
    }
}

/// The results of a claim that become durable, in one transaction.
#[derive(Debug, Clone)]
pub struct Verdict<S = Customer, E = Event> {
    /// The way in which the claim ends.
    pub fate: Fate,
    /// The customer, or the member, afterwards.
    pub state: S,
    /// Failures in a row that count against the event.
    pub failures: u32,
    /// The time at which they began.
    pub failing_since: Option<Timestamp>,
    /// The notices for the outside.
    pub notices: Vec<Notice>,
    /// Heat pumps that are no longer watched.
    pub seen: Vec<PumpChange>,
    /// Events of the bridge's own that follow later.
    pub follow_ups: Vec<E>,
    /// True if an end of a member's access that was scheduled before is over.
    pub ends_scheduled: bool,
    /// True if the older events of the lane are over: the leave of a member has overtaken them.
    pub overtakes: bool,
    /// True if events that wait for the customer's sign-up, or the member's join, must be looked at again.
    pub wakes_waiting: bool,
    /// For the timeline of an event that ended: the newer facts that replaced its own, and the points in which the bridge
    /// deviated from the event. Names of facts and ids of events, never a value.
    pub remark: Option<String>,
    /// The rows of the audit log that are not durable yet.
    pub acts: Vec<AuditEntry>,
}

/// Judges the reply to a call, lets the customer absorb it, and notes what the audit log has to say of it.
pub fn judge(work: &mut Work, call: &Call, reply: Reply, moment: Moment, policy: &Policy) -> Decision {
    // First of all: what happened at Podero must be told even if the rest panics.
    acts::note_reply(work, call, &reply, moment.now);
    let shown = acts::shown_by(work, &reply);
    let decision = decide(work, call, reply, moment, policy);
    if let Some(shown) = shown {
        acts::note_findings(work, &shown, moment.now);
    }
    decision
}

fn decide(work: &mut Work, call: &Call, reply: Reply, moment: Moment, policy: &Policy) -> Decision {
    let is_unknown = matches!(reply, Reply::Unknown { .. });
    if is_unknown {
        doubt(&mut work.customer, call);
    }
    match answered(tries(work), reply, moment, policy) {
        Ok(Answer::Done(answer)) => done(work, call, answer),
        Ok(Answer::Refused(refusal)) => refused(work, call, &refusal),
        Err(mut fate) => {
            if is_unknown && call.idempotency_key(work.event.id).is_some() {
                // Full jitter may be no wait at all. A look-up that overtakes a create would find nothing yet, and an overtaken
                // change would be written over the one that came after it.
                let quiet_until = moment.now.plus(policy.doubt_pause);
                work.customer.podero.quiet_until = Some(quiet_until);
                if let Fate::Retry { at, .. } = &mut fate {
                    *at = (*at).max(quiet_until);
                }
            }
            Decision::Settle(fate)
        }
    }
}

/// The row of failures of an event.
pub(super) struct Tries<'a> {
    /// Failures in a row that count against it.
    pub(super) failures: &'a mut u32,
    /// The time at which they began.
    pub(super) failing_since: &'a mut Option<Timestamp>,
}

fn tries(work: &mut Work) -> Tries<'_> {
    Tries { failures: &mut work.failures, failing_since: &mut work.failing_since }
}

/// A reply that says something about the event.
pub(super) enum Answer<A> {
    /// Podero did it.
    Done(A),
    /// Podero never will.
    Refused(Refusal),
}

/// Podero's answer; the error is the fate of an event that got none.
pub(super) fn answered<A>(
    tries: Tries<'_>,
    reply: Reply<A>,
    moment: Moment,
    policy: &Policy,
) -> Result<Answer<A>, Fate> {
    let is_server_error = reply.is_server_error();
    let setback = |otherwise| if is_server_error { Setback::ServerError } else { otherwise };
    match reply {
        Reply::Done(answer) => Ok(Answer::Done(answer)),
        Reply::Refused(refusal) => Ok(Answer::Refused(refusal)),
        Reply::Busy { after } => {
            // One customer that Podero never serves must not pause the calls of all others. It never ages.
            *tries.failures = tries.failures.saturating_add(1);
            let wish = after.unwrap_or_default().min(RETRY_AFTER_MAX);
            let delay = policy.schedule.delay(*tries.failures, moment.jitter).min(BUSY_DELAY_MAX).max(wish);
            Err(Fate::Retry { at: moment.now.plus(delay), setback: Setback::Busy })
        }
        Reply::Held { .. } => {
            // Less and less often: if Podero forbids only this customer, its tries open the circuit for all. It never ages
            // towards giving up (`failing_since` stays), since Podero may refuse the bridge itself.
            *tries.failures = tries.failures.saturating_add(1);
            let delay = policy.schedule.delay(*tries.failures, moment.jitter);
            Err(Fate::Retry { at: moment.now.plus(delay), setback: Setback::Held })
        }
        Reply::Unsent { why } => Err(fail_again(tries, setback(Setback::Unsent), why, moment, policy)),
        Reply::Unknown { why } => Err(fail_again(tries, setback(Setback::Unknown), why, moment, policy)),
    }
}

/// The fate of a claim that comes while an unheard call may be under way for its customer: a retry by hand, or the event after
/// one that was parked. A time that no pause can have set (the clock was set back) counts for nothing.
pub fn too_soon(work: &Work, now: Timestamp, policy: &Policy) -> Option<Fate> {
    let plausible = now.plus(policy.doubt_pause.saturating_mul(2));
    let until = work.customer.podero.quiet_until.filter(|until| *until > now && *until <= plausible)?;
    Some(Fate::Retry { at: until, setback: Setback::Unknown })
}

/// Ends a claim during which the bridge failed: the same as after a crash.
pub fn interrupted(work: &mut Work, now: Timestamp, policy: &Policy) -> Fate {
    work.customer.begin(true);
    work.customer.podero.quiet_until = Some(now.plus(policy.doubt_pause));
    Fate::Parked { reason: Reason::Panicked, detail: "the bridge failed over it; see its log".to_owned() }
}

/// Marks as doubtful everything that a call with an unknown result may have changed. A change is harmless to repeat, but the next
/// event may want another one, or none: it must not trust the knowledge from before.
fn doubt(customer: &mut Customer, call: &Call) {
    match (call.repeat(), call) {
        (Repeat::LookFirst(Look::User), _) | (Repeat::Harmless, Call::UpdateUser { .. }) => customer.doubt_user(),
        (Repeat::LookFirst(Look::Buildings), _) => {
            customer.doubt_user();
            customer.doubt_buildings();
        }
        (Repeat::Harmless, Call::UpdateBuilding { .. }) => customer.doubt_buildings(),
        // The customer may be back before the bridge looks.
        (Repeat::Harmless, Call::DeleteUser { user, .. }) if customer.user_id() == Some(*user) => customer.doubt_user(),
        // A home may want to move in there: is it still there?
        (Repeat::Harmless, Call::DeleteBuilding { building, .. }) if customer.podero.is_spare(*building) => {
            customer.doubt_buildings();
        }
        (Repeat::Harmless, _) => {}
    }
}

/// Counts a failure: try again later, or give up when it has gone on for too long.
pub fn fail(work: &mut Work, setback: Setback, why: &str, moment: Moment, policy: &Policy) -> Fate {
    fail_again(tries(work), setback, why, moment, policy)
}

/// As [`fail`], for any event.
pub(super) fn fail_again(tries: Tries<'_>, setback: Setback, why: &str, moment: Moment, policy: &Policy) -> Fate {
    let since = *tries.failing_since.get_or_insert(moment.now);
    *tries.failures = tries.failures.saturating_add(1);
    if moment.now.since(since) >= policy.give_up_after {
        let detail = format!("{} failures since {since}, the last one: {why}", tries.failures);
        return Fate::Parked { reason: Reason::GaveUp, detail };
    }
    let delay = policy.schedule.delay(*tries.failures, moment.jitter);
    Fate::Retry { at: moment.now.plus(delay), setback }
}

fn done(work: &mut Work, call: &Call, done: Done) -> Decision {
    if let Done::UserLookedUp(Some(found)) = &done
        && !found.is_customer
    {
        return park(Reason::NotACustomer, format!("user {} has another role than `user`", found.id));
    }
    if done == Done::UserLookedUp(None) && work.customer.podero.user == ObservedUser::Conflict {
        let detail = "Podero has another user with this e-mail address, without this customer's id";
        return park(Reason::EmailTaken, detail.to_owned());
    }
    // Only a create is lasting progress. Look-ups and harmless repeats succeed before every try, and an event that always fails
    // after them would never age.
    let is_made = matches!(call.repeat(), Repeat::LookFirst(_));
    if is_made {
        work.failures = 0;
        work.failing_since = None;
    }
    let known = lasting_knowledge(&work.customer, call);
    work.customer.absorb(&work.merged.facts, done);
    // A process that dies after a change must not take along the knowledge from which the change followed: the next one could not
    // tell what it had made.
    let is_news =
        known.is_some_and(|known| known.0 != work.customer.podero.buildings || known.1 != work.customer.user_id());
    if matches!((&work.event.happening, call), (Happening::PurgeDue { .. }, Call::DeleteUser { .. })) {
        return Decision::Settle(Fate::Applied { stale: Vec::new() });
    }
    // Once a home's building is gone, Podero no longer says which pumps were in it, and their alerts must end with it.
    let tells_once = matches!(call, Call::ListHeatPumps { .. });
    if tells_once && work.event.happening == Happening::Churned {
        write_tombstone(work);
    }
    Decision::Continue { save: tells_once || is_made || is_news }
}

/// The things that a look-up may show to be others than we knew; `None` for any other call.
fn lasting_knowledge(
    customer: &Customer,
    call: &Call,
) -> Option<(BTreeMap<BuildingKey, ObservedBuilding>, Option<Uuid>)> {
    let is_look = matches!(call, Call::FindUser { .. } | Call::ListBuildings { .. });
    is_look.then(|| (customer.podero.buildings.clone(), customer.user_id()))
}

/// The tombstone is written before the deletion: from the moment in which the user may be gone, an older event that comes late
/// must not find an active customer and make the user again, even if the churn itself is parked.
fn write_tombstone(work: &mut Work) {
    work.customer.facts.churned = Some(work.event.stamp());
}

/// Some refusals are as good as a yes, some make the bridge look again; the rest needs a person.
fn refused(work: &mut Work, call: &Call, refusal: &Refusal) -> Decision {
    let go_on = Decision::Continue { save: false };
    let is_churn = matches!(work.event.happening, Happening::Churned);
    match (call, refusal.kind) {
        // The thing to be deleted is already gone.
        (Call::DeleteUser { user, .. }, RefusalKind::NotFound) => done(work, call, Done::UserDeleted { user: *user }),
        (Call::DeleteBuilding { building, .. }, RefusalKind::NotFound) => {
            done(work, call, Done::BuildingDeleted { building: *building })
        }
        // A churn goes through even if a pump exists and cannot be paused: the deletion matters more.
        (Call::PauseHeatPump { heat_pump, .. }, kind) if is_churn || kind == RefusalKind::NotFound => {
            work.customer.pump_paused(*heat_pump);
            go_on
        }
        // The home is freed even if Podero keeps its building (no page describes the deletion).
        (Call::DeleteBuilding { building, .. }, _) => {
            work.customer.home_freed(*building, true);
            go_on
        }
        // Did a create of ours make it, with a late answer? One more look shows it; if not, it belongs to a stranger.
        (Call::CreateUser { .. }, RefusalKind::Duplicate) => {
            work.customer.podero.user = ObservedUser::Conflict;
            go_on
        }
        (Call::UpdateUser { .. }, RefusalKind::Duplicate) => park(Reason::EmailTaken, refused_detail(call, refusal)),
        // Deleted without the bridge: look, and make it again.
        (Call::UpdateBuilding { key, .. }, RefusalKind::NotFound) if !work.has_looked_again => {
            work.has_looked_again = true;
            work.customer.podero.buildings.remove(key);
            work.customer.podero.listing = Listing::Unread;
            work.customer.doubt_user();
            go_on
        }
        (
            Call::UpdateUser { .. }
            | Call::CreateBuilding { .. }
            | Call::ListHeatPumps { .. }
            | Call::CreateOnboardingSession { .. },
            RefusalKind::NotFound,
        ) if !work.has_looked_again => {
            work.has_looked_again = true;
            work.customer.doubt_user();
            go_on
        }
        // The user exists and its heat pumps cannot be listed: treated as none, since the deletion matters more.
        (Call::ListHeatPumps { .. }, RefusalKind::NotFound | RefusalKind::Unsupported | RefusalKind::Invalid)
            if is_churn =>
        {
            done(work, call, Done::HeatPumpsListed(Vec::new()))
        }
        (Call::ListBuildings { .. }, RefusalKind::NotFound | RefusalKind::Unsupported) => unlisted(work),
        (_, RefusalKind::NotFound | RefusalKind::Unsupported | RefusalKind::Duplicate | RefusalKind::Invalid) => {
            park(Reason::Refused, refused_detail(call, refusal))
        }
    }
}

/// The call, the status, and the storable part of the answer.
fn refused_detail(call: &Call, refusal: &Refusal) -> String {
    let Refusal { status, detail, .. } = refusal;
    let answered = format!("{} answered {status}", call.operation().name());
    if detail.is_empty() { answered } else { format!("{answered}: {detail}") }
}

/// Podero does not list buildings. If one may have been made unseen, none is made before a person has looked; a retry of the
/// event that was parked for it means that they have.
fn unlisted(work: &mut Work) -> Decision {
    let (event, customer) = (work.event.id, &mut work.customer);
    customer.forget_written();
    let podero = &mut customer.podero;
    let is_open = !podero.asked.is_empty() || !podero.unseen.is_empty();
    let is_in_doubt = podero.listing == Listing::Doubtful || is_open;
    let has_each_home = work.merged.facts.homes.iter().all(|(key, home)| podero.building_of(key, home).is_some());
    match (is_in_doubt, has_each_home) {
        (false, _) => {
            podero.listing = Listing::Complete;
            Decision::Continue { save: false }
        }
        // The doubt stays, but does not concern this event.
        (true, true) => {
            podero.listing = if is_open { Listing::Unread } else { Listing::Complete };
            Decision::Continue { save: false }
        }
        (true, false) if podero.asked.contains(&event) => {
            podero.asked.clear();
            podero.unseen.clear();
            podero.listing = Listing::Complete;
            // The person's approval covers one create: a crash in it is a new doubt.
            Decision::Continue { save: true }
        }
        (true, false) => {
            customer.ask(event);
            let detail = "a building may have been made unseen, and Podero does not list buildings; look there, delete \
                          it if it exists, then `retry`";
            park(Reason::BuildingInDoubt, detail.to_owned())
        }
    }
}

fn park(reason: Reason, detail: String) -> Decision {
    Decision::Settle(Fate::Parked { reason, detail })
}

/// The fate that follows when there is no call left and nothing to ask; `None` while there is.
pub fn final_fate(work: &Work, next: &Next, moment: Moment, policy: &Policy) -> Option<Fate> {
    match next {
        Next::Call(_) | Next::AskBrake => None,
        Next::Applied => Some(Fate::Applied { stale: work.merged.stale.clone() }),
        Next::Superseded => Some(Fate::Superseded),
        Next::WaitsForSignUp => {
            let until = work.tries_from.plus(policy.give_up_after);
            Some(if moment.now >= until {
                let detail = "no sign-up of this customer came in time".to_owned();
                Fate::Parked { reason: Reason::NoSignUp, detail }
            } else {
                Fate::Waiting { until }
            })
        }
    }
}

/// The fate of a churn that the brake did not admit. Nothing was taken away.
pub fn braked(brake: &Brake, tally: Tally) -> Fate {
    Fate::Parked { reason: Reason::ChurnBrake, detail: brake.refusal(tally) }
}

/// Turns the end of a claim into everything that must be written down about it.
pub fn settle_with(work: &Work, fate: Fate, now: Timestamp, policy: &Policy) -> Verdict {
    // Avoids a copy of the whole customer, whose facts would then be replaced.
    let is_applied = matches!(fate, Fate::Applied { .. });
    let facts = if is_applied { &work.merged.facts } else { &work.customer.facts };
    let (podero, unheard) = (work.customer.podero.clone(), work.customer.unheard.clone());
    let mut customer = Customer { facts: facts.clone(), podero, unheard };
    let mut verdict_notices = Vec::new();
    let mut seen = Vec::new();
    let mut follow_ups = Vec::new();
    match &fate {
        Fate::Applied { .. } => {
            acts::forget_heard(&mut customer, &work.event);
            seen = retire_pumps(work, &mut customer, now, policy);
            follow_ups.extend(purge_event(work, &customer, now, policy));
            let freed = std::mem::take(&mut customer.podero.leaving);
            customer.stay(freed);
            verdict_notices.extend(outcome(work, &customer, now));
        }
        Fate::Parked { reason, .. } => {
            customer.remember_unseen(&work.merged.facts);
            verdict_notices.push(parked_notice(&work.event, *reason, now));
        }
        Fate::Superseded | Fate::Waiting { .. } | Fate::Retry { .. } => {}
    }
    customer.podero.pausing = None;
    let ends = matches!(fate, Fate::Applied { .. } | Fate::Superseded | Fate::Parked { .. });
    let about_existence = matches!(work.event.happening, Happening::SignedUp(_) | Happening::Churned);
    let remark = remark(work, &fate, &customer, policy);
    Verdict {
        remark,
        fate,
        state: customer,
        failures: work.failures,
        failing_since: work.failing_since,
        notices: verdict_notices,
        seen,
        follow_ups,
        ends_scheduled: false,
        overtakes: false,
        wakes_waiting: ends && about_existence,
        acts: work.acts.clone(),
    }
}

/// The timeline's remark about an event that was not carried out as it stands.
fn remark(work: &Work, fate: &Fate, customer: &Customer, policy: &Policy) -> Option<String> {
    let newer = || (!work.merged.newer.is_empty()).then(|| work.merged.newer.join(", "));
    match fate {
        Fate::Superseded => match (&work.event.happening, work.customer.facts.signed_up) {
            (Happening::PurgeDue { .. }, Some(by)) => {
                Some(format!("the sign-up at {} (event {}): the user is a customer's again", by.time, by.event))
            }
            (_, _) => newer(),
        },
        Fate::Applied { .. } => {
            let newer = newer().map(|newer| format!("by {newer}"));
            let remarks: Vec<String> = newer.into_iter().chain(foreign_language(work, customer, policy)).collect();
            (!remarks.is_empty()).then(|| remarks.join("; "))
        }
        Fate::Waiting { .. } | Fate::Retry { .. } | Fate::Parked { .. } => None,
    }
}

/// None of Podero's pages has the customer's language: their link is in another one.
fn foreign_language(work: &Work, customer: &Customer, policy: &Policy) -> Option<String> {
    let language = &policy.onboarding.as_ref()?.language;
    let key = work.event.happening.new_home()?;
    let is_invited = customer.podero.onboarding.contains_key(key);
    let is_foreign = customer.facts.personal_text(Field::Language).is_some_and(|own| page_language(own).is_none());
    let remark =
        || format!("the onboarding link is in `{language}`: Podero's pages do not speak the customer's language");
    (is_invited && is_foreign).then(remark)
}

/// Ends the alerts of heat pumps when the customer leaves, or leaves their home.
fn retire_pumps(work: &Work, customer: &mut Customer, now: Timestamp, policy: &Policy) -> Vec<PumpChange> {
    let retired = std::mem::take(&mut customer.podero.retired);
    if matches!(work.event.happening, Happening::Churned) {
        let watched = work.seen.iter().filter(|seen| !seen.is_retired);
        return watched.map(|seen| alert::retire(seen, Resolution::Churned, now)).collect();
    }
    if policy.old_heat_pumps == OldHeatPumps::Keep {
        return Vec::new();
    }
    let (user, id) = (customer.user_id().unwrap_or_default(), Some(work.event.customer.as_str()));
    let change = |(heat_pump, building): (Uuid, Uuid)| match work.seen.iter().find(|seen| seen.heat_pump == heat_pump) {
        Some(seen) if seen.is_retired => None,
        Some(seen) => Some(alert::retire(seen, Resolution::Moved, now)),
        None => Some(alert::retire_unseen(heat_pump, building, user, id, now)),
    };
    retired.into_iter().filter_map(change).collect()
}

fn purge_event(work: &Work, customer: &Customer, now: Timestamp, policy: &Policy) -> Option<Event> {
    let is_churn = matches!(work.event.happening, Happening::Churned);
    let user = customer.podero.departed.filter(|_| is_churn && policy.churn == ChurnDelete::SoftThenHard)?;
    Some(Event {
        id: EventId(Uuid::new_v5(&NAMESPACE, format!("purge/{}", work.event.id).as_bytes())),
        customer: work.event.customer.clone(),
        time: now,
        effective_at: Some(now.plus(policy.retention)),
        happening: Happening::PurgeDue { user },
    })
}

/// The notice of a completed effect; an update has none.
fn outcome(work: &Work, customer: &Customer, now: Timestamp) -> Option<Notice> {
    let topic = match &work.event.happening {
        Happening::SignedUp(_) => Topic::CustomerProvisioned,
        Happening::Moved(_) => Topic::CustomerRelocated,
        Happening::Churned => Topic::CustomerOffboarded,
        Happening::Updated(_) | Happening::CalledOff(_) | Happening::PurgeDue { .. } => return None,
    };
    let id = work.event.customer.as_str();
    let data = match work.event.happening.new_home() {
        None => json!({ "customer_id": id, "event_id": work.event.id, "podero_user_id": customer.podero.departed }),
        Some(key) => json!({
            "customer_id": id,
            "event_id": work.event.id,
            "podero_user_id": customer.user_id(),
            "building_key": key.as_str(),
            "building_id": customer.podero.buildings.get(key).map(|there| there.id),
            "onboarding_url": customer.podero.onboarding.get(key).map(|made| &made.url).filter(|url| link::may_go_out(url)),
        }),
    };
    Some(Notice {
        id: notice_id(&work.event.id.to_string(), topic),
        topic,
        order_key: format!("customer/{id}"),
        subject: id.to_owned(),
        time: now,
        data,
    })
}

/// The subject of a notice that a person is needed.
pub(super) struct About<'a> {
    pub(super) event: EventId,
    pub(super) customer: Option<&'a str>,
    pub(super) member: Option<&'a str>,
    pub(super) type_name: &'static str,
}

/// The notice that a person is needed: ids and the reason, never the payload.
pub fn parked_notice(event: &Event, reason: Reason, now: Timestamp) -> Notice {
    let (customer, type_name) = (Some(event.customer.as_str()), event.happening.type_name());
    parked_about(About { event: event.id, customer, member: None, type_name }, reason, now)
}

/// The notice that an unreadable message needs a person.
pub fn unreadable_notice(id: EventId, reason: Reason, now: Timestamp) -> Notice {
    parked_about(About { event: id, customer: None, member: None, type_name: UNKNOWN }, reason, now)
}

pub(super) fn parked_about(about: About<'_>, reason: Reason, now: Timestamp) -> Notice {
    let About { event: id, customer, member, type_name } = about;
    let order_key = match (customer, member) {
        (Some(customer), _) => format!("customer/{customer}"),
        (None, Some(member)) => format!("member/{member}"),
        (None, None) => format!("event/{id}"),
    };
    let data = json!({
        "event_id": id,
        "customer_id": customer,
        "member_id": member,
        "type": type_name,
        "reason": reason.name(),
        "parked_at": now,
    });
    Notice {
        // Each parking is a notice of its own, also of the same event after a retry: the moment is part of the cause.
        id: notice_id(&format!("{id}/{}", now.micros()), Topic::EventParked),
        topic: Topic::EventParked,
        order_key,
        subject: customer.or(member).map_or_else(|| id.to_string(), str::to_owned),
        time: now,
        data,
    }
}

#[cfg(test)]
mod tests;
