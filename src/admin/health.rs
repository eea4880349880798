//! Health and metrics: whether the process runs, whether each part works, and the numbers.
//!
//! Before: a supervisor's probe, Prometheus. After: [`crate::store`], [`crate::metrics`], and the parts that [`crate::app`]
//! reports.

use std::time::Duration;

use actix_web::{HttpResponse, web};

use super::state::{Admin, Part};
use crate::metrics::CONTENT_TYPE;
use crate::store::{Store, Trouble};
use crate::telemetry::{self, Lines};

/// Delay until `/readyz` says that standard error takes nothing: a busy disk or collector takes a second or two.
const LOG_BLOCKED_SHOWN: Duration = Duration::from_secs(5);

/// The process runs. It says nothing about the parts that it needs.
pub(super) async fn livez() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

/// A line per part: `[+]` well, `[-]` not. 200 only when all are.
pub(super) async fn readyz(admin: web::Data<Admin>) -> HttpResponse {
    let parts = parts(&admin).await;
    let lines: String = parts
        .iter()
        .map(|part| format!("[{}] {}: {}\n", if part.is_ready { '+' } else { '-' }, part.name, part.state))
        .collect();
    let mut response =
        if parts.iter().all(|part| part.is_ready) { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.content_type("text/plain; charset=utf-8").body(lines)
}

/// The parts that the bridge needs, each with its state.
pub(super) async fn parts(admin: &Admin) -> Vec<Part> {
    let store = store_part(&admin.store).await;
    std::iter::once(store).chain(admin.health.parts()).chain(log_part()).collect()
}

/// The log's line, if lines are missing or waiting: the bridge works as before, but an operator cannot read what it did.
fn log_part() -> Option<Part> {
    let Lines { dropped, is_short, blocked, .. } = telemetry::lines();
    let is_blocked = blocked.since >= LOG_BLOCKED_SHOWN;
    let waiting = is_blocked
        .then(|| format!("nothing was taken for {} s; {} lines wait", blocked.since.as_secs(), blocked.lines));
    let short = if is_short { "; standard error takes fewer than come" } else { "" };
    let missing = (dropped > 0).then(|| format!("{dropped} lines dropped{short}"));
    let states: Vec<String> = waiting.into_iter().chain(missing).collect();
    (!states.is_empty()).then(|| Part { name: "log", is_ready: true, state: states.join("; ") })
}

/// The store's line: whether it takes writes, by its writer, and, if it does, whether it answers a read.
async fn store_part(store: &Store) -> Part {
    let writability = store.writability();
    if writability.trouble.is_some() {
        return Part { name: "store", is_ready: false, state: writability.to_string() };
    }
    match store.check().await {
        Ok(()) => Part { name: "store", is_ready: true, state: "ok".to_owned() },
        Err(error) => {
            tracing::debug!(%error, "the store does not answer a read");
            Part { name: "store", is_ready: false, state: Trouble::Silent.words().to_owned() }
        }
    }
}

pub(super) async fn metrics(admin: web::Data<Admin>) -> HttpResponse {
    let Lines { dropped, limited, blocked, .. } = telemetry::lines();
    admin.metrics.set_log_lines(dropped, limited);
    admin.metrics.log_blocked.set(blocked.since.as_secs_f64());
    let writability = admin.store.writability();
    admin.metrics.store_writable.set(writability.trouble.is_none().into());
    admin.metrics.store_last_write_age.set(writability.last_write_age.as_secs_f64());
    HttpResponse::Ok().content_type(CONTENT_TYPE).body(admin.metrics.encode())
}
