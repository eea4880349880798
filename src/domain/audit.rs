//! The audit log in the core's terms: actions, their codes, and the chain of hashes that seals rows.
//!
//! A row is written in the transaction of what it describes, and sealed later: it gets its number and a hash over all of its
//! columns and the hash before it. Of a target the chain covers a salted digest, and of a note its digest, so that both can be
//! erased without breaking the chain (docs/AUDIT.md).
//!
//! Before: every stage that changes something. After: [`crate::store`] writes and seals rows.

use std::str::FromStr;

use sha2::{Digest, Sha256};
use uuid::Uuid;

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
        CustomerErase = "customer.erase",
        /// A reconnection link is made for the owner of a heat pump.
        LinkCreate = "link.create",
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
        Source = "source",
        /// A route of the admin API, by its pattern.
        Route = "route",
        /// The store, or a part of it.
        Store = "store",
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
            Self::CustomerErase => "CU001",
            Self::LinkCreate => "LI001",
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
            Self::AccessUse => "AC001",
        }
    }
}

/// The thing that an act is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its kind.
    pub kind: TargetKind,
    /// Its id, which may belong to a person.
    pub id: String,
}

/// One act, before it is a row. No field but the target's id and the note may hold personal data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The one who acted.
    pub actor: Actor,
    /// The act.
    pub action: Action,
    /// The thing that it is about.
    pub target: Target,
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
    pub fn done(actor: Actor, action: Action, kind: TargetKind, id: impl Into<String>) -> Self {
        Self {
            actor,
            action,
            target: Target { kind, id: id.into() },
            outcome: AuditOutcome::Done,
            reason: None,
            event: None,
            from: None,
            to: None,
            note: None,
        }
    }
}

/// Bytes of SHA-256.
pub type Hash = [u8; 32];

/// The head of a chain: the number of rows that were ever sealed, and the hash of the last. Written `COUNT:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of rows.
    pub count: u64,
    /// The hash of the last row; zeros before the first.
    pub hash: Hash,
}

impl Head {
    /// The head of a chain without rows.
    pub const EMPTY: Self = Self { count: 0, hash: [0; 32] };

    /// The head after one more row.
    #[must_use]
    pub fn seal(self, row: &SealedFields<'_>) -> Self {
        let count = self.count + 1;
        Self { count, hash: row.hash(count, self.hash) }
    }
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.count, hex(&self.hash))
    }
}

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "a head is COUNT:HASH, a number and 64 hexadecimal digits";
        let (count, hash) = text.split_once(':').ok_or(form)?;
        Ok(Self { count: count.parse().map_err(|_| form)?, hash: hash_of_hex(hash).ok_or(form)? })
    }
}

/// The fields of a row that its hash covers, besides its number and the hash before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named for the columns of the table `audit`")]
pub struct SealedFields<'a> {
    pub id: &'a str,
    pub at: Timestamp,
    pub actor: &'a str,
    pub action: &'a str,
    pub target_kind: &'a str,
    /// [`target_digest`], which stays when id and salt are erased.
    pub target_digest: &'a str,
    pub outcome: &'a str,
    pub reason: Option<&'a str>,
    pub event_id: Option<&'a str>,
    pub from: Option<&'a str>,
    pub to: Option<&'a str>,
    /// [`note_digest`], which stays when the note is erased.
    pub note_digest: Option<&'a str>,
}

impl SealedFields<'_> {
    /// SHA-256 over the number, the hash before it, and each field behind its length, so that no two rows have the same bytes.
    fn hash(&self, number: u64, before: Hash) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(number.to_be_bytes());
        hasher.update(before);
        let at = self.at.micros().to_string();
        let fields = [
            Some(self.id),
            Some(&at),
            Some(self.actor),
            Some(self.action),
            Some(self.target_kind),
            Some(self.target_digest),
            Some(self.outcome),
            self.reason,
            self.event_id,
            self.from,
            self.to,
            self.note_digest,
        ];
        for field in fields {
            // A field that is not there differs from an empty one.
            hasher.update([u8::from(field.is_some())]);
            let text = field.unwrap_or_default();
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text);
        }
        hasher.finalize().into()
    }
}

/// The digest of a target: nobody who does not have the salt can try out ids.
pub fn target_digest(salt: Uuid, id: &str) -> String {
    hex(&Sha256::new().chain_update(salt.as_bytes()).chain_update(id).finalize().into())
}

/// The digest of a note, by the salt of its row.
pub fn note_digest(salt: Uuid, note: &str) -> String {
    hex(&Sha256::new().chain_update(b"note").chain_update(salt.as_bytes()).chain_update(note).finalize().into())
}

/// A hash in hexadecimal digits.
pub fn hex(hash: &Hash) -> String {
    use std::fmt::Write;
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The hash that [`hex`] wrote; `None` for any other text.
pub fn hash_of_hex(text: &str) -> Option<Hash> {
    let is_hex = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex {
        return None;
    }
    let mut hash = [0; 32];
    for (place, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(place * 2..place * 2 + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn row() -> SealedFields<'static> {
        SealedFields {
            id: "1",
            at: Timestamp::from_micros(7),
            actor: "bridge",
            action: "event.skip",
            target_kind: "event",
            target_digest: "ab",
            outcome: "done",
            reason: None,
            event_id: Some("e"),
            from: Some("parked"),
            to: Some("skipped"),
            note_digest: None,
        }
    }

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
    fn every_call_that_changes_something_has_an_action_of_its_name() {
        let reads = ["find_user", "list_buildings", "list_heat_pumps", "list_users", "get_heat_pump"];
        for operation in Operation::ALL {
            match Action::of_call(operation) {
                Some(action) => assert_eq!(action.name(), format!("podero.{operation}")),
                None => assert!(reads.contains(&operation.name()), "{operation} changes something"),
            }
        }
    }

    #[test]
    fn every_field_is_covered_by_the_hash() {
        let first = Head::EMPTY.seal(&row());
        let others = [
            SealedFields { id: "2", ..row() },
            SealedFields { at: Timestamp::from_micros(8), ..row() },
            SealedFields { actor: "cli:a", ..row() },
            SealedFields { action: "event.retry", ..row() },
            SealedFields { target_kind: "customer", ..row() },
            SealedFields { target_digest: "ac", ..row() },
            SealedFields { outcome: "failed", ..row() },
            SealedFields { reason: Some(""), ..row() },
            SealedFields { event_id: None, ..row() },
            SealedFields { from: Some("parke"), to: Some("dskipped"), ..row() },
            SealedFields { to: None, ..row() },
            SealedFields { note_digest: Some("ab"), ..row() },
        ];
        for (place, other) in others.iter().enumerate() {
            assert_ne!(Head::EMPTY.seal(other).hash, first.hash, "{place}");
        }
        let second = first.seal(&row());
        assert_eq!(second.count, 2);
        assert_ne!(second.hash, first.hash, "the number and the hash before it are covered");
    }

    #[test]
    fn a_head_is_read_as_it_is_written() {
        let head = Head::EMPTY.seal(&row());
        assert_eq!(head.to_string().parse(), Ok(head));
        for text in [
            "",
            "1",
            "1:ab",
            "x:".to_owned().as_str(),
            &format!("-1:{}", hex(&head.hash)),
            &format!("1:{}", "g".repeat(64)),
        ] {
            assert!(text.parse::<Head>().is_err(), "{text}");
        }
    }

    #[test]
    fn digests_depend_on_the_salt() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(target_digest(one, "c-1"), target_digest(one, "c-1"));
        assert_ne!(target_digest(one, "c-1"), target_digest(other, "c-1"));
        assert_ne!(note_digest(one, "c-1"), target_digest(one, "c-1"));
    }
}
