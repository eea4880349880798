//! Rows of the audit log as lines of an export: JSON, CSV, or events of the Open Cybersecurity Schema Framework (OCSF).
//!
//! Before: [`super::audit_reads`]. After: [`crate::admin`] and [`crate::cli`] write them out.

use csv_core::{Terminator, WriteResult, Writer, WriterBuilder};
use serde_json::{Value, json};

use super::audit_reads::{AuditFilter, AuditRecord};
use super::db::query;
use super::error::Error;
use super::handle::{Desk, StoreView};
use crate::domain::audit::{Action, AuditEntry, AuditOutcome, AuditReason, AuditTarget, TargetKind};
use crate::domain::chain::ChainHead;
use crate::domain::identity::{Actor, Role};
use crate::domain::names::names;
use crate::domain::team::MemberRole;

/// The version of the schema that events of OCSF are written by.
pub const OCSF_VERSION: &str = "1.3.0";

/// The columns of CSV.
const COLUMNS: [&str; 17] = [
    "number", "id", "at", "actor", "action", "code", "target_kind", "target_id", "target_digest", "outcome", "reason",
    "event_id", "from", "to", "note", "note_digest", "hash",
];

names! {
    /// The format of an export of the audit log.
    pub enum ExportFormat {
        /// A JSON object a line; the last line is the head of the chain.
        Jsonl = "jsonl",
        /// Comma-separated values (RFC 4180), with a line of names. The last row is the export's own; its `to` is the head.
        Csv = "csv",
        /// A JSON object a line, by the Open Cybersecurity Schema Framework. The last event is the export's own, with the head.
        Ocsf = "ocsf",
    }
}

/// An export under way: the sealed rows of a filter, in the order of the chain, up to its head at the beginning.
pub struct AuditExport {
    view: StoreView,
    filter: AuditFilter,
    head: ChainHead,
    after: u64,
    /// The row about the export itself, which is sealed after it.
    own: ExportedRow,
}

/// A row of an export.
pub struct ExportedRow {
    record: AuditRecord,
    /// The user whose session another one has ended. The row does not name them: the row of their login does.
    session_user: Option<String>,
}

impl Desk {
    /// Begins an export, which has a row of its own before its first line is read.
    pub async fn export_audit(&self, filter: AuditFilter, by: &Actor) -> Result<AuditExport, Error> {
        let (head, after) = (self.audit_head().await?, self.audit_begin(&filter).await?);
        let target = AuditTarget::new(TargetKind::Store, "audit");
        let entry = AuditEntry::done(self.clock.now(), by.clone(), Action::AuditExport, target);
        let rows = self.audit_rows([AuditEntry { to: Some(head.to_string()), ..entry }]);
        let own = ExportedRow { record: AuditRecord::of_row(&rows[0]), session_user: None };
        self.record_rows(rows).await?;
        Ok(AuditExport { view: self.view.clone(), filter, head, after, own })
    }

    /// Records that an export was not begun.
    pub async fn refuse_export(&self, by: &Actor, reason: AuditReason) -> Result<(), Error> {
        let row = self.act(by, Action::AuditExport, TargetKind::Store, "audit").refused(reason);
        self.record_rows(vec![row]).await
    }
}

impl AuditExport {
    /// The head of the chain at the beginning.
    pub fn head(&self) -> ChainHead {
        self.head
    }

    /// The next rows, which may be none; `None`: there are no more.
    pub async fn next(&mut self) -> Result<Option<Vec<ExportedRow>>, Error> {
        if self.after >= self.head.count {
            return Ok(None);
        }
        let mut records = self.view.audit_chain(self.after).await?;
        self.after = records.last().and_then(|record| record.number).unwrap_or(self.head.count);
        records.retain(|record| record.number <= Some(self.head.count) && self.filter.covers(record));
        let mut rows = Vec::with_capacity(records.len());
        for record in records {
            let session_user = match record.ended_session() {
                Some(session) => self.view.session_user(session).await?,
                None => None,
            };
            rows.push(ExportedRow { record, session_user });
        }
        Ok(Some(rows))
    }
}

impl AuditRecord {
    /// The session that another than its user has ended.
    fn ended_session(&self) -> Option<&str> {
        self.target_id.as_deref().filter(|_| self.action == Action::SessionRevoke.name())
    }
}

impl StoreView {
    /// The user whose login opened a session; `None`: the log has no row of it, or has it no more.
    async fn session_user(&self, session: &str) -> Result<Option<String>, Error> {
        let about = query(
            "SELECT action, actor FROM audit WHERE target_id = $1 AND substr(actor, 1, 7) <> 'source:' ORDER BY id LIMIT 10",
        );
        let about: Vec<(String, String)> = about.bind(session).fetch_all(&self.readers).await?;
        Ok(about.into_iter().find(|(action, _)| action == Action::SessionOpen.name()).map(|(_, actor)| actor))
    }
}

impl ExportFormat {
    /// The lines before the first row.
    pub fn opening(self) -> String {
        match self {
            Self::Csv => csv_line(&COLUMNS.map(str::to_owned)),
            Self::Jsonl | Self::Ocsf => String::new(),
        }
    }

    /// The line of a row; `version` is this program's.
    pub fn line(self, row: &ExportedRow, version: &str) -> String {
        match self {
            Self::Jsonl => json_line(&row.record),
            Self::Csv => csv_line(&cells(&row.record)),
            Self::Ocsf => json_line(&ocsf(row, version)),
        }
    }

    /// The line after the last row, with the head of the chain; `version` is this program's.
    pub fn closing(self, export: &AuditExport, version: &str) -> String {
        let head = export.head.to_string();
        match self {
            Self::Jsonl => json_line(&json!({ "head": head })),
            Self::Csv => self.line(&export.own, version),
            Self::Ocsf => {
                let mut event = ocsf(&export.own, version);
                event["unmapped"]["head"] = head.into();
                json_line(&event)
            }
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jsonl | Self::Ocsf => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

fn json_line(value: &impl serde::Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("a record has only serialisable fields");
    line.push('\n');
    line
}

fn cells(record: &AuditRecord) -> [String; 17] {
    let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
    [
        record.number.map(|number| number.to_string()).unwrap_or_default(),
        record.id.clone(),
        record.at.to_string(),
        record.actor.clone(),
        record.action.clone(),
        record.code().unwrap_or_default(),
        record.target_kind.clone(),
        or_empty(&record.target_id),
        record.target_digest.clone(),
        record.outcome.clone(),
        or_empty(&record.reason),
        or_empty(&record.event_id),
        or_empty(&record.was),
        or_empty(&record.became),
        or_empty(&record.note),
        or_empty(&record.note_digest),
        or_empty(&record.hash),
    ]
}

/// A line of CSV. A cell that a spreadsheet would take for a formula gets a quote in front: ids and notes come from outside.
fn csv_line(cells: &[String]) -> String {
    let mut writer: Writer = WriterBuilder::new().terminator(Terminator::CRLF).build();
    let mut line = Vec::new();
    for (place, cell) in cells.iter().enumerate() {
        let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let cell = if is_formula { format!("'{cell}") } else { cell.clone() };
        // Each byte may be doubled, and there are two quotes and a comma.
        let mut room = vec![0; cell.len() * 2 + 8];
        let mut length = 0;
        if place > 0 {
            length += writer.delimiter(&mut room).1;
        }
        let (result, _, written) = writer.field(cell.as_bytes(), &mut room[length..]);
        debug_assert_eq!(result, WriteResult::InputEmpty);
        length += written;
        line.extend_from_slice(&room[..length]);
    }
    let mut room = [0; 8];
    let (_, written) = writer.terminator(&mut room);
    line.extend_from_slice(&room[..written]);
    String::from_utf8_lossy(&line).into_owned()
}

/// The class of an event, and its activity.
struct OcsfClass {
    class_uid: u32,
    class_name: &'static str,
    activity_id: u32,
    activity_name: &'static str,
}

const fn account_change(activity_id: u32, activity_name: &'static str) -> OcsfClass {
    OcsfClass { class_uid: 3001, class_name: "Account Change", activity_id, activity_name }
}

const fn entity_management(activity_id: u32, activity_name: &'static str) -> OcsfClass {
    OcsfClass { class_uid: 3004, class_name: "Entity Management", activity_id, activity_name }
}

const fn authentication(activity_id: u32, activity_name: &'static str) -> OcsfClass {
    OcsfClass { class_uid: 3002, class_name: "Authentication", activity_id, activity_name }
}

const fn user_access(activity_id: u32, activity_name: &'static str) -> OcsfClass {
    OcsfClass { class_uid: 3005, class_name: "User Access Management", activity_id, activity_name }
}

/// The role that a row gives or takes away.
enum RoleChange<'a> {
    /// The role after it is the one before, or there is none.
    Same,
    /// This role is given. It is the higher one, or the one before it is not known.
    Assigned(&'a str),
    /// This role is taken away: the one after it is a lesser one.
    Revoked(&'a str),
}

impl<'a> RoleChange<'a> {
    fn of(record: &'a AuditRecord) -> Self {
        match (record.was.as_deref(), record.became.as_deref()) {
            (Some(was), Some(became)) if is_lesser(became, was) => Self::Revoked(was),
            (was, Some(became)) if was != Some(became) => Self::Assigned(became),
            (_, _) => Self::Same,
        }
    }
}

/// Says whether one role has fewer rights than the other: both of callers of the bridge, or both of members of the team.
fn is_lesser(role: &str, than: &str) -> bool {
    Role::from_name(role).zip(Role::from_name(than)).is_some_and(|(role, than)| role < than)
        || MemberRole::from_name(role).zip(MemberRole::from_name(than)).is_some_and(|(role, than)| role < than)
}

/// The class of an act. A change of an operator, a token or a user of Podero with another role before than after is one of access; any
/// other is one of its secret or its fields, also where it was refused.
fn class_of(action: Option<Action>, role: &RoleChange<'_>) -> OcsfClass {
    let Some(action) = action else { return entity_management(99, "Other") };
    match action {
        Action::OperatorChange | Action::TokenChange | Action::PoderoUpdateUser
            if matches!(role, RoleChange::Assigned(_)) =>
        {
            user_access(1, "Assign Privileges")
        }
        Action::OperatorChange | Action::TokenChange | Action::PoderoUpdateUser
            if matches!(role, RoleChange::Revoked(_)) =>
        {
            user_access(2, "Revoke Privileges")
        }
        Action::PoderoCreateUser | Action::OperatorAdd | Action::TokenAdd => account_change(1, "Create"),
        Action::PoderoDeleteUser | Action::OperatorRemove | Action::TokenRemove => account_change(6, "Delete"),
        Action::OperatorChange | Action::TokenChange => account_change(3, "Password Change"),
        Action::PoderoUpdateUser => account_change(99, "Other"),
        Action::PoderoCreateBuilding
        | Action::PoderoCreateOnboardingSession
        | Action::LinkCreate
        | Action::LinkUse
        | Action::RetryOrder
        | Action::RetryApprove
        | Action::EventsImport
        | Action::EventReceive => entity_management(1, "Create"),
        Action::AuditExport | Action::StoreBackup => entity_management(2, "Read"),
        Action::PoderoUpdateBuilding
        | Action::PoderoUpdateHeatPump
        | Action::PoderoResolveCue
        | Action::EventRetry
        | Action::EventApprove
        | Action::EventSkip
        | Action::RetryStop
        | Action::RetryEnd
        | Action::StoreMigrate => entity_management(3, "Update"),
        Action::PoderoDeleteBuilding | Action::CustomerErase | Action::MemberErase | Action::AuditTrim => {
            entity_management(4, "Delete")
        }
        Action::SessionOpen => authentication(1, "Logon"),
        Action::SessionClose | Action::SessionRevoke => authentication(2, "Logoff"),
        Action::AccessUse | Action::ScimChange | Action::TeamChange => entity_management(99, "Other"),
    }
}

/// Status and severity of an outcome: id and name.
fn status_of(outcome: Option<AuditOutcome>) -> ((u32, &'static str), (u32, &'static str)) {
    match outcome {
        Some(AuditOutcome::Done) => ((1, "Success"), (1, "Informational")),
        Some(AuditOutcome::Refused | AuditOutcome::Failed) => ((2, "Failure"), (3, "Medium")),
        Some(AuditOutcome::Unknown) | None => ((0, "Unknown"), (2, "Low")),
    }
}

/// The type of a user: id and name. A token is none of the schema's.
fn user_type_of(target_kind: &str) -> (u32, &str) {
    let is_person = [TargetKind::Customer, TargetKind::Member, TargetKind::Operator].map(TargetKind::name);
    if is_person.contains(&target_kind) { (1, "User") } else { (99, target_kind) }
}

/// A row as an event of OCSF.
fn ocsf(row: &ExportedRow, version: &str) -> Value {
    let record = &row.record;
    let role = RoleChange::of(record);
    let class = class_of(Action::from_name(&record.action), &role);
    let ((status_id, status), (severity_id, severity)) = status_of(AuditOutcome::from_name(&record.outcome));
    // An erased target has its digest left.
    let target = record.target_id.as_deref().unwrap_or(&record.target_digest);
    let mut event = json!({
        "category_uid": 3,
        "category_name": "Identity & Access Management",
        "class_uid": class.class_uid,
        "class_name": class.class_name,
        "activity_id": class.activity_id,
        "activity_name": class.activity_name,
        "type_uid": class.class_uid * 100 + class.activity_id,
        "type_name": format!("{}: {}", class.class_name, class.activity_name),
        "time": record.at.micros().div_euclid(1_000),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "status_code": record.reason,
        "actor": { "user": { "uid": record.actor, "name": record.actor } },
        "message": format!(
            "{} of {} {target} by {}: {}", record.action, record.target_kind, record.actor, record.outcome
        ),
        "metadata": {
            "version": OCSF_VERSION,
            "product": { "name": "podero-bridge", "vendor_name": "podero-bridge", "version": version },
            "uid": record.id,
            "event_code": record.code(),
            "sequence": record.number,
        },
        "unmapped": {
            "action": record.action,
            "event_id": record.event_id,
            "from": record.was,
            "to": record.became,
            "note": record.note,
            "note_digest": record.note_digest,
            "target_kind": record.target_kind,
            "target_digest": record.target_digest,
            "hash": record.hash,
        },
    });
    match class.class_uid {
        3004 => event["entity"] = json!({ "uid": target, "name": target, "type": record.target_kind }),
        3002 => add_login(&mut event, row, target),
        _ => {
            let (type_id, name) = user_type_of(&record.target_kind);
            event["user"] = json!({ "uid": target, "name": target, "type_id": type_id, "type": name });
        }
    }
    if class.class_uid == 3005 {
        event["privileges"] = match role {
            RoleChange::Assigned(role) | RoleChange::Revoked(role) => json!([role]),
            RoleChange::Same => json!([]),
        };
    }
    event
}

/// Adds who logged in or out, where, and the session. A login that was refused has none: its row is about the route.
fn add_login(event: &mut Value, row: &ExportedRow, target: &str) {
    let record = &row.record;
    event["service"] = json!({ "name": "console" });
    if record.target_kind == TargetKind::Session.name() {
        event["session"] = json!({ "uid": target });
    }
    // The one who ends the session of another stays logged in, and is the actor alone.
    let user = if record.ended_session().is_some() { row.session_user.as_ref() } else { Some(&record.actor) };
    event["user"] = match user {
        Some(user) => json!({ "uid": user, "name": user, "type_id": 1, "type": "User" }),
        None => json!({ "type_id": 0, "type": "Unknown" }),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_and_is_no_formula() {
        let cells = ["a", "b,\"c\"", "=1+1", "", "two\nlines"].map(str::to_owned);
        assert_eq!(csv_line(&cells), "a,\"b,\"\"c\"\"\",'=1+1,,\"two\nlines\"\r\n");
    }
}
