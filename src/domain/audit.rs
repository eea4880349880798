//! The audit log in the core's terms: who did what to which thing, and the code of it.
//!
//! A row is written in the transaction of what it describes, so that neither is without the other (docs/AUDIT.md).
//!
//! Before: every stage that changes something. After: [`crate::store`] writes the rows, and seals them by [`super::chain`].

use super::call::Operation;
use super::identity::Actor;
use super::names::names;
use super::{EventId, Timestamp};

names! {
    /// An act that the audit log records.
    pub enum Action {
        PoderoCreateUser = "podero.create_user",
        PoderoUpdateUser = "podero.update_user",
        PoderoDeleteUser = "podero.delete_user",
        PoderoCreateBuilding = "podero.create_building",
        PoderoUpdateBuilding = "podero.update_building",
        PoderoDeleteBuilding = "podero.delete_building",
        PoderoUpdateHeatPump = "podero.update_heat_pump",
        PoderoCreateOnboardingSession = "podero.create_onboarding_session",
        PoderoResolveCue = "podero.resolve_cue",
        /// An event that its source may not send.
        EventReceive = "event.receive",
        EventRetry = "event.retry",
        EventApprove = "event.approve",
        EventSkip = "event.skip",
        /// A retry of many events is ordered; `target` is the retry.
        RetryOrder = "retry.order",
        /// A retry of many events that approves them.
        RetryApprove = "retry.approve",
        RetryStop = "retry.stop",
        /// A retry of many events has come to its end; `to` is the number of events that it moved.
        RetryEnd = "retry.end",
        CustomerErase = "customer.erase",
        MemberErase = "member.erase",
        /// The policy of the team refuses an event; `to` is its type. A change at Podero has the row of its call.
        TeamChange = "team.change",
        /// A request of an identity provider changed a user; `to` is its kind. A change at Podero has the row of its call.
        ScimChange = "scim.change",
        /// A reconnection link is made for the owner of a heat pump.
        LinkCreate = "link.create",
        /// The owner of a heat pump uses the link of an alert. The call that begins the action has a row of its own.
        LinkUse = "link.use",
        EventsImport = "events.import",
        AuditExport = "audit.export",
        /// Rows older than `audit.retention` are removed; `from` is the head before the oldest row that is left.
        AuditTrim = "audit.trim",
        StoreBackup = "store.backup",
        StoreMigrate = "store.migrate",
        OperatorAdd = "operator.add",
        OperatorChange = "operator.change",
        OperatorRemove = "operator.remove",
        /// A named token is in the configuration that was not before.
        TokenAdd = "token.add",
        TokenChange = "token.change",
        TokenRemove = "token.remove",
        /// A login at the console; `to` is the role.
        SessionOpen = "session.open",
        /// A logout.
        SessionClose = "session.close",
        /// A session is ended by another one than its browser.
        SessionRevoke = "session.revoke",
        /// A request without a valid token or password, or one whose role is not enough.
        AccessUse = "access.use",
    }

    /// The outcome of an act.
    pub enum AuditOutcome {
        Done = "done",
        /// Refused by a rule, a role, or Podero.
        Refused = "refused",
        Failed = "failed",
        /// A call without an answer: it may have taken effect. A further row says what the look-up found.
        Unknown = "unknown",
    }

    /// The kind of thing that an act is about.
    pub enum TargetKind {
        Customer = "customer",
        Member = "member",
        HeatPump = "heat_pump",
        Event = "event",
        Retry = "retry",
        Operator = "operator",
        Token = "token",
        /// A session at the console.
        Session = "session",
        Source = "source",
        /// A route of the admin API, by its pattern.
        Route = "route",
        /// The store, or a part of it.
        Store = "store",
    }

    /// The reason of a row, where it is neither a status of Podero, a reason of parking nor a refusal of access.
    pub enum AuditReason {
        /// Podero did not answer a call.
        NoAnswer = "no_answer",
        /// Podero answered a call with a server error.
        ServerError = "server_error",
        /// A look-up showed the effect of a call.
        FoundByLookup = "found_by_lookup",
        /// A look-up showed that a call had no effect.
        NotThere = "not_there",
        /// The thing to be deleted was gone.
        AlreadyGone = "already_gone",
        UnknownEvent = "unknown_event",
        NotParked = "not_parked",
        /// An applier works on the event or the customer.
        InProgress = "in_progress",
        NotWhole = "not_whole",
        NotApprovable = "not_approvable",
        /// Another retry of many events runs, or other exports do.
        Occupied = "occupied",
        NotRunning = "not_running",
        UnknownCustomer = "unknown_customer",
        Active = "active",
        NoMessage = "no_message",
        Unsettled = "unsettled",
        Unpublished = "unpublished",
        OpenAlerts = "open_alerts",
        /// The file of a backup, or of an export, exists.
        Exists = "exists",
        /// No backup was made.
        NotCopied = "not_copied",
        /// An import begins, or a call is about to be made.
        Begun = "begun",
        Ended = "ended",
        Stopped = "stopped",
        Error = "error",
        UnknownHeatPump = "unknown_heat_pump",
        NoReconnection = "no_reconnection",
        LandingRequired = "landing_required",
        /// Podero made no link.
        NoLink = "no_link",
        /// A token or an operator has another secret.
        Rotated = "rotated",
        OperatorExists = "operator_exists",
        UnknownOperator = "unknown_operator",
        /// No session of this id goes on.
        UnknownSession = "unknown_session",
        /// Without this operator the admin API would be open.
        LastOperator = "last_operator",
        /// The last operator was removed all the same, and the admin API is open.
        Forced = "forced",
    }
}

impl TargetKind {
    /// True of persons, whose ids an erasure removes.
    pub fn is_erasable(self) -> bool {
        [Self::Customer, Self::Member].contains(&self)
    }
}

impl From<AuditReason> for String {
    fn from(reason: AuditReason) -> Self {
        reason.name().to_owned()
    }
}

impl Action {
    /// The action of a call that changes something at Podero; `None`: it only reads.
    pub const fn of_call(operation: Operation) -> Option<Self> {
        match operation {
            Operation::CreateUser => Some(Self::PoderoCreateUser),
            Operation::UpdateUser => Some(Self::PoderoUpdateUser),
            Operation::DeleteUser => Some(Self::PoderoDeleteUser),
            Operation::CreateBuilding => Some(Self::PoderoCreateBuilding),
            Operation::UpdateBuilding => Some(Self::PoderoUpdateBuilding),
            Operation::DeleteBuilding => Some(Self::PoderoDeleteBuilding),
            Operation::UpdateHeatPump => Some(Self::PoderoUpdateHeatPump),
            Operation::CreateOnboardingSession => Some(Self::PoderoCreateOnboardingSession),
            Operation::ResolveCue => Some(Self::PoderoResolveCue),
            Operation::FindUser
            | Operation::ListBuildings
            | Operation::ListHeatPumps
            | Operation::ListUsers
            | Operation::GetHeatPump => None,
        }
    }

    /// True if an event of a source may do it, and so nearly all of its rows are of sources.
    pub fn is_of_sources(self) -> bool {
        let is_refusal = matches!(self, Self::EventReceive | Self::TeamChange);
        is_refusal || (self != Self::PoderoResolveCue && self.name().starts_with("podero."))
    }

    /// True if it empties the rows of a person.
    pub fn is_erasure(self) -> bool {
        [Self::CustomerErase, Self::MemberErase].contains(&self)
    }

    /// Code of an act with this outcome, which rules of a SIEM hang on: five characters of the action, and `I` where it was
    /// done, else `E`. A code never changes and is never used again.
    pub fn code(self, outcome: AuditOutcome) -> String {
        let ending = match outcome {
            AuditOutcome::Done => 'I',
            AuditOutcome::Refused | AuditOutcome::Failed | AuditOutcome::Unknown => 'E',
        };
        format!("{}{ending}", self.stem())
    }

    const fn stem(self) -> &'static str {
        match self {
            Self::PoderoCreateUser => "PU001",
            Self::PoderoUpdateUser => "PU002",
            Self::PoderoDeleteUser => "PU003",
            Self::PoderoCreateBuilding => "PB001",
            Self::PoderoUpdateBuilding => "PB002",
            Self::PoderoDeleteBuilding => "PB003",
            Self::PoderoUpdateHeatPump => "PH001",
            Self::PoderoCreateOnboardingSession => "PO001",
            Self::PoderoResolveCue => "PC001",
            Self::EventReceive => "EV001",
            Self::EventRetry => "EV002",
            Self::EventApprove => "EV003",
            Self::EventSkip => "EV004",
            Self::EventsImport => "EV005",
            Self::RetryOrder => "RE001",
            Self::RetryApprove => "RE002",
            Self::RetryStop => "RE003",
            Self::RetryEnd => "RE004",
            Self::CustomerErase => "CU001",
            Self::MemberErase => "ME001",
            Self::TeamChange => "TE001",
            Self::ScimChange => "SC001",
            Self::LinkCreate => "LI001",
            Self::LinkUse => "LI002",
            Self::AuditExport => "AU001",
            Self::AuditTrim => "AU002",
            Self::StoreBackup => "ST001",
            Self::StoreMigrate => "ST002",
            Self::OperatorAdd => "OP001",
            Self::OperatorChange => "OP002",
            Self::OperatorRemove => "OP003",
            Self::TokenAdd => "TO001",
            Self::TokenChange => "TO002",
            Self::TokenRemove => "TO003",
            Self::SessionOpen => "SE001",
            Self::SessionClose => "SE002",
            Self::SessionRevoke => "SE003",
            Self::AccessUse => "AC001",
        }
    }
}

/// The thing that an act is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditTarget {
    /// Its kind.
    pub kind: TargetKind,
    /// Its id, which may belong to a person.
    pub id: String,
}

impl AuditTarget {
    /// The thing of this kind and id.
    pub fn new(kind: TargetKind, id: impl Into<String>) -> Self {
        Self { kind, id: id.into() }
    }
}

/// One act, before it is a row. No field but the target's id and the note may hold personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The time of the act.
    pub at: Timestamp,
    /// The one who acted.
    pub actor: Actor,
    /// The act.
    pub action: Action,
    /// The thing that it is about.
    pub target: AuditTarget,
    /// Its outcome.
    pub outcome: AuditOutcome,
    /// Code of the reason: of a refusal, or of a finding.
    pub reason: Option<String>,
    /// The event for which it was done.
    pub event: Option<EventId>,
    /// Role, state or date before.
    pub from: Option<String>,
    /// Role, state or date after.
    pub to: Option<String>,
    /// A person's own words.
    pub note: Option<String>,
}

impl AuditEntry {
    /// An act that was done, with no more about it.
    pub fn done(at: Timestamp, actor: Actor, action: Action, target: AuditTarget) -> Self {
        Self {
            at,
            actor,
            action,
            target,
            outcome: AuditOutcome::Done,
            reason: None,
            event: None,
            from: None,
            to: None,
            note: None,
        }
    }
}

/// Limit of the characters of a note.
pub const NOTE_CHARS_MAX: usize = 500;

/// A person's own words, without the space around them; `None`: there are none, too many, or characters that control a terminal.
pub fn accept_note(text: &str) -> Option<String> {
    let text = text.trim();
    let is_note = !text.is_empty() && text.chars().count() <= NOTE_CHARS_MAX && !text.chars().any(char::is_control);
    is_note.then(|| text.to_owned())
}

/// Limit of the rows a minute about refusals that one process writes for callers who need no rights to cause them.
pub const REFUSALS_A_MINUTE_MAX: u32 = 60;

/// Keeps callers without rights from filling the audit log: beyond [`REFUSALS_A_MINUTE_MAX`] rows a minute refusals are counted, and
/// the next row tells how many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RefusalLimit {
    minute: i64,
    written: u32,
    left_out: u64,
}

impl RefusalLimit {
    /// True if a refusal gets a row now; `Some` with the number of those before it that got none.
    pub fn admit(&mut self, now: Timestamp) -> Option<u64> {
        let minute = now.micros().div_euclid(60_000_000);
        if minute != self.minute {
            (self.minute, self.written) = (minute, 0);
        }
        if self.written >= REFUSALS_A_MINUTE_MAX {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }

    /// Counts refusals whose row could not be written.
    pub fn leave_out(&mut self, count: u64) {
        self.left_out += count;
    }
}

impl AuditEntry {
    /// A refusal of this reason; `left_out` are those before it that have no row.
    #[must_use]
    pub fn refused(self, reason: impl Into<String>, left_out: u64) -> Self {
        let from = (left_out > 0).then(|| left_out.to_string());
        Self { outcome: AuditOutcome::Refused, reason: Some(reason.into()), from, ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_action_has_a_code_of_its_own_for_each_outcome() {
        let codes: BTreeSet<String> = Action::ALL
            .into_iter()
            .flat_map(|action| [AuditOutcome::Done, AuditOutcome::Failed].map(|outcome| action.code(outcome)))
            .collect();
        assert_eq!(codes.len(), Action::ALL.len() * 2);
        for code in codes {
            let is_code =
                code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
            assert!(is_code, "{code}");
        }
        for outcome in [AuditOutcome::Refused, AuditOutcome::Unknown] {
            assert!(Action::EventSkip.code(outcome).ends_with('E'), "{outcome}");
        }
    }

    #[test]
    fn refusals_beyond_a_number_a_minute_are_counted_by_the_next_row() {
        let mut limit = RefusalLimit::default();
        let at = |second: i64| Timestamp::from_micros(second * 1_000_000);
        let admitted = (0..100).filter(|_| limit.admit(at(60)).is_some()).count();
        assert_eq!(admitted, usize::try_from(REFUSALS_A_MINUTE_MAX).expect("small"));
        assert_eq!(limit.admit(at(119)), None);
        assert_eq!((limit.admit(at(120)), limit.admit(at(120))), (Some(41), Some(0)));
        limit.leave_out(2);
        assert_eq!(limit.admit(at(121)), Some(2), "those whose row was not written");
    }

    #[test]
    fn every_call_that_changes_something_has_an_action_of_its_name() {
        let reads = ["find_user", "list_buildings", "list_heat_pumps", "list_users", "get_heat_pump"];
        for operation in Operation::ALL {
            match Action::of_call(operation) {
                Some(action) => assert_eq!(action.name(), format!("podero.{operation}")),
                None => assert!(reads.contains(&operation.name()), "{operation} changes something"),
            }
        }
    }
}
