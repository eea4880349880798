//! The audit log over HTTP: pages of it, newest first, and an export in the order of the chain.
//!
//! An export is a stream: it has one page of rows in memory, whatever the size of the log, and a client that does not read is
//! given up. It is whole only if its last chunk came; an export that breaks off ends the connection.
//!
//! Before: an auditor, a SIEM. After: [`crate::store`] reads the rows, and records that they were exported.

use std::io;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use futures_util::{Stream, stream};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::access::Caller;
use super::error::{ApiError, ApiResult};
use super::page::{Page, PageQuery};
use super::state::Admin;
use crate::domain::Timestamp;
use crate::domain::audit::{Action, AuditReason};
use crate::domain::identity::{ACTOR_FORMS, Actor};
use crate::problem::ProblemKind;
use crate::store::{AuditExport, AuditFilter, AuditPage, ExportFormat};

/// Timeout of a client that takes no more of an export.
const CHUNK_TIME_MAX: Duration = Duration::from_secs(30);

/// Header with the head of the chain at the beginning of an export.
const HEAD: &str = "audit-head";

/// The query that says which rows of the audit log are wanted.
#[derive(Deserialize, JsonSchema)]
pub struct AuditQuery {
    /// Only of this actor: `source:NAME`, `token:NAME`, `operator:NAME`, `cli:USER`, `scim:NAME`, `oidc:NAME` or `bridge`.
    actor: Option<String>,
    /// Only of this action.
    #[schemars(extend("enum" = Action::names().to_vec()))]
    action: Option<String>,
    /// Only about the thing of this id. Of sealed rows whose actor is `source:NAME`, a page of `/v1/audit` has those about a
    /// customer, for as long as the event is kept (`store.retention`); an export has all, and so has `actor=source:NAME`.
    target: Option<String>,
    /// Only acts from this time on: a date, or a time of RFC 3339.
    since: Option<String>,
    /// Only acts before this time.
    until: Option<String>,
}

impl AuditQuery {
    /// The rows about the thing of this id.
    pub fn about(id: &str) -> Self {
        Self { actor: None, action: None, target: Some(id.to_owned()), since: None, until: None }
    }

    fn read(self) -> Result<AuditFilter, ApiError> {
        let Self { actor, action, target, since, until } = self;
        if actor.as_deref().is_some_and(|actor| Actor::parse(actor).is_none()) {
            return Err(ApiError::malformed(format!("`actor` is {ACTOR_FORMS}")));
        }
        let no_action = || ApiError::malformed(format!("`action` is one of {}", Action::names().join(", ")));
        let action = action.map(|name| Action::from_name(&name).ok_or_else(no_action)).transpose()?;
        let time = |name: &str, text: Option<String>| {
            let no_time = || ApiError::malformed(format!("`{name}` is a date, or a time of RFC 3339"));
            text.map(|text| Timestamp::parse_time_or_date(&text).ok_or_else(no_time)).transpose()
        };
        Ok(AuditFilter { actor, action, target, since: time("since", since)?, until: time("until", until)? })
    }
}

/// A page of rows; to a viewer without the words of persons.
pub async fn audit_page(
    admin: &Admin,
    caller: &Caller,
    query: AuditQuery,
    page: &PageQuery,
) -> Result<AuditPage, ApiError> {
    let filter = query.read()?;
    let mut found = admin.store.audit_page(&filter, page.after_id()?.as_deref(), page.limit()?).await?;
    if !caller.sees_personal_data() {
        found.records = found.records.into_iter().map(|record| record.without_note()).collect();
    }
    Ok(found)
}

pub(super) async fn list(
    admin: web::Data<Admin>,
    caller: Caller,
    query: web::Query<AuditQuery>,
    page: web::Query<PageQuery>,
) -> ApiResult {
    let found = audit_page(&admin, &caller, query.into_inner(), &page).await?;
    Ok(HttpResponse::Ok().json(Page { rows: found.records, next: found.next }.named("audit")))
}

/// The query that says in which format an export is written.
#[derive(Deserialize, JsonSchema)]
pub struct ExportQuery {
    /// The format of the lines.
    #[schemars(extend("enum" = ExportFormat::names(), "default" = ExportFormat::Jsonl.name()))]
    format: Option<String>,
}

/// All sealed rows of a filter, in the order of the chain.
pub async fn export_audit(
    admin: web::Data<Admin>,
    caller: Caller,
    query: web::Query<AuditQuery>,
    format: web::Query<ExportQuery>,
) -> ApiResult {
    let filter = query.into_inner().read()?;
    let name = format.format.as_deref().unwrap_or(ExportFormat::Jsonl.name());
    let no_format = || ApiError::malformed(format!("`format` is one of {}", ExportFormat::names().join(", ")));
    let format = ExportFormat::from_name(name).ok_or_else(no_format)?;
    let crowded =
        || ApiError::new(ProblemKind::Unavailable, "other exports are under way; try again when one has ended");
    let Some(permit) = admin.exports.begin() else {
        if let Err(error) = admin.store.refuse_export(&caller.actor, AuditReason::Occupied).await {
            tracing::warn!(%error, "the refusal of an export has no row in the audit log");
        }
        return Err(crowded());
    };
    let export = admin.store.export_audit(filter, &caller.actor).await?;
    tracing::info!(by = %caller.actor, format = %format, head = %export.head(), "the audit log is exported");
    let mut response = HttpResponse::Ok();
    response.content_type(format.media_type());
    response.insert_header((HEAD, export.head().to_string()));
    response.insert_header((header::CONTENT_DISPOSITION, format!("attachment; filename=\"audit.{}\"", format.name())));
    let (to, from) = mpsc::channel(1);
    tokio::spawn(async move {
        let _permit = permit;
        write(export, format, &to).await
    });
    Ok(response.streaming(body(from)))
}

/// A part of an export; `None`: it is whole.
type ExportPart = Option<web::Bytes>;

/// Writes an export part by part, until it is whole or its reader takes no more.
async fn write(mut export: AuditExport, format: ExportFormat, to: &mpsc::Sender<ExportPart>) {
    let mut text = format.opening();
    loop {
        if !text.is_empty() && !send_part(to, Some(std::mem::take(&mut text).into())).await {
            return;
        }
        match export.next().await {
            Ok(Some(rows)) => text.extend(rows.iter().map(|row| format.line(row, env!("CARGO_PKG_VERSION")))),
            Ok(None) => break,
            Err(error) => return tracing::warn!(%error, "an export of the audit log breaks off"),
        }
        // A filter may find nothing for long.
        if to.is_closed() {
            return;
        }
    }
    let closing = format.closing(&export, env!("CARGO_PKG_VERSION"));
    if closing.is_empty() || send_part(to, Some(closing.into())).await {
        send_part(to, None).await;
    }
}

async fn send_part(to: &mpsc::Sender<ExportPart>, part: ExportPart) -> bool {
    let is_taken = tokio::time::timeout(CHUNK_TIME_MAX, to.send(part)).await.is_ok_and(|sent| sent.is_ok());
    if !is_taken {
        tracing::info!("an export of the audit log ends early: its client takes no more");
    }
    is_taken
}

/// The body of an export. It ends with an error, which ends the connection, unless the export is whole.
fn body(from: mpsc::Receiver<ExportPart>) -> impl Stream<Item = io::Result<web::Bytes>> {
    stream::unfold(Some(from), |from| async move {
        let mut from = from?;
        match from.recv().await {
            Some(Some(part)) => Some((Ok(part), Some(from))),
            Some(None) => None,
            None => Some((Err(io::ErrorKind::UnexpectedEof.into()), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn an_export_that_breaks_off_ends_with_an_error() {
        for (parts, is_whole) in [(vec![Some("a"), Some("b"), None], true), (vec![Some("a")], false), (vec![], false)] {
            let (to, from) = mpsc::channel(4);
            for part in &parts {
                to.send(part.map(|text| web::Bytes::from_static(text.as_bytes()))).await.expect("it is read");
            }
            drop(to);
            let read: Vec<_> = body(from).collect().await;
            assert_eq!(read.iter().all(Result::is_ok), is_whole, "{parts:?}");
            assert_eq!(read.iter().filter(|part| part.is_ok()).count(), parts.iter().flatten().count(), "{parts:?}");
        }
    }

    #[test]
    fn a_filter_is_read_or_refused_by_its_name() {
        let query = |text: &str| serde_json::from_str::<AuditQuery>(text).expect("JSON").read();
        let filter = query(r#"{"actor": "cli:anna", "action": "event.skip", "since": "2026-10-01"}"#).expect("right");
        assert_eq!((filter.action, filter.target), (Some(Action::EventSkip), None));
        assert_eq!(filter.since, Timestamp::parse("2026-10-01T00:00:00Z"));
        for (text, name) in [
            (r#"{"actor": "anna"}"#, "`actor`"),
            (r#"{"action": "skip"}"#, "`action`"),
            (r#"{"since": "yesterday"}"#, "`since`"),
            (r#"{"until": "2026-13-01"}"#, "`until`"),
        ] {
            let refused = query(text).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(refused.contains(name), "{text}: {refused}");
        }
    }
}
