//! `parked …`: what needs a person, from the command line; the same acts as at the operator's door.
//!
//! A retry of many is a row that a running bridge goes on with. This command drives it too, so that it also goes on
//! without one; the row holds the pace, so both together are no faster than one.
//!
//! Before: [`crate::cli`]. After: [`crate::store`].

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use serde_json::json;
use uuid::Uuid;

use super::open::open;
use super::show::{json as print_json, text};
use super::{say, table};
use crate::config;
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};
use crate::pump;
use crate::store::{BulkRetry, Error, NotTaken, Ordered, ParkedGroup, ROWS_MAX, RetryRequest, Stepped, Store};

/// Progress is looked at, and shown if it changed, this often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// So often in a row the store may be away before the command gives up, each time after a wait of its own (5 s for a lock).
const FAILURES_MAX: u32 = 10;

/// Why a command did not do it.
pub(super) enum Failure {
    /// The arguments do not fit what is parked, or something must be said with them.
    Usage(String),
    /// It went wrong.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

/// A person's word for what the brake has parked.
#[derive(Clone, Copy)]
pub(super) struct Approval {
    /// It was given with the command: nobody is asked.
    pub(super) is_confirmed: bool,
}

/// How a retry of many goes.
pub(super) struct Pace {
    pub(super) per_second: u32,
    /// Leave it to the running bridge.
    pub(super) detach: bool,
}

/// Groups, and a page of events.
pub(super) async fn list(
    at: &config::Store,
    reason: Option<Reason>,
    after: Option<Uuid>,
    is_json: bool,
) -> anyhow::Result<()> {
    let opened = open(at).await?;
    let after = after.map(|id| id.to_string());
    let page = opened.store.parked_page(reason.map(Reason::name), after.as_deref(), ROWS_MAX).await;
    let groups = opened.store.parked_groups().await;
    opened.close().await;
    let (page, groups) = (page?, groups?);
    let is_full = i64::try_from(page.len()).is_ok_and(|count| count == ROWS_MAX);
    let next = page.last().filter(|_| is_full).map(|last| last.id.clone());
    if is_json {
        return print_json(&json!({ "groups": groups, "parked": page, "next": next }));
    }
    if groups.is_empty() {
        say("nothing is parked");
        return Ok(());
    }
    let rows: Vec<[String; 6]> = groups
        .into_iter()
        .map(|group| {
            let (oldest, newest) = (group.oldest_at.to_string(), group.newest_at.to_string());
            let types: Vec<String> = group.types.iter().map(|(name, count)| format!("{name} {count}")).collect();
            [group.reason, group.count.to_string(), group.retryable.to_string(), types.join(", "), oldest, newest]
        })
        .collect();
    table::print(["reason", "parked", "can be retried", "of type", "oldest", "newest"], &rows);
    say("");
    let rows: Vec<[String; 5]> = page
        .into_iter()
        .map(|event| {
            let (customer, reason) = (text(event.customer_id.as_ref()), text(event.reason.as_ref()));
            [event.id, customer, event.type_name, reason, text(event.detail.as_ref())]
        })
        .collect();
    table::print(["event", "customer", "type", "reason", "detail"], &rows);
    if let Some(next) = next {
        say(&format!("there are more: --after {next}"));
    }
    Ok(())
}

/// Puts single events back to work. A person who names an event and approves it has looked at it, and is not asked.
pub(super) async fn retry_each(at: &config::Store, ids: &[Uuid], approve: bool, is_json: bool) -> anyhow::Result<()> {
    let request = if approve { RetryRequest::Approve } else { RetryRequest::Retry };
    each(at, ids, request, "pending", is_json).await
}

/// Gives single events up.
pub(super) async fn skip_each(at: &config::Store, ids: &[Uuid], is_json: bool) -> anyhow::Result<()> {
    each(at, ids, RetryRequest::Skip, "skipped", is_json).await
}

/// Gives up all that never became an event, of one reason or all: what else is parked may still be retried. Of a reason
/// that waits for an approval, gives up all.
pub(super) async fn skip_many(at: &config::Store, reason: Option<Reason>, is_json: bool) -> anyhow::Result<()> {
    let opened = open(at).await?;
    let skipped = opened.store.skip_unreadable(reason).await;
    opened.close().await;
    let skipped = skipped?;
    if is_json {
        return print_json(&json!({ "skipped": skipped }));
    }
    let refused = reason.is_some_and(Reason::is_approvable);
    say(&format!("{skipped} skipped{}", if refused { "" } else { " that never became events" }));
    Ok(())
}

async fn each(
    at: &config::Store,
    ids: &[Uuid],
    request: RetryRequest,
    state: &str,
    is_json: bool,
) -> anyhow::Result<()> {
    let opened = open(at).await?;
    let mut results = Vec::with_capacity(ids.len());
    for id in ids {
        let id = EventId(*id);
        let result = match opened.store.unpark(id, request.clone()).await {
            Ok(Some(_)) => Ok(None),
            Ok(None) => opened.store.why_not_taken(id, &request).await.map(Some),
            Err(error) => Err(error),
        };
        results.push((id, result));
    }
    opened.close().await;
    let mut failed = 0;
    let mut shown = Vec::with_capacity(results.len());
    for (id, result) in results {
        let (word, why) = match result {
            Ok(None) => (state, None),
            Ok(Some(why @ NotTaken::Unknown)) => ("unknown", Some(why.to_string())),
            Ok(Some(why @ (NotTaken::NotParked(_) | NotTaken::NotWhole))) => ("not-parked", Some(why.to_string())),
            Ok(Some(why @ NotTaken::InProgress)) => ("in-progress", Some(why.to_string())),
            Ok(Some(why @ NotTaken::NotApprovable(_))) => ("not-approvable", Some(why.to_string())),
            Err(error) => ("failed", Some(error.to_string())),
        };
        failed += usize::from(why.is_some());
        if !is_json {
            say(&why.as_ref().map_or_else(|| format!("{id}  {word}"), |why| format!("{id}  {word}: {why}")));
        }
        shown.push(json!({ "id": id, "state": word, "why": why }));
    }
    if is_json {
        print_json(&json!({ "results": shown }))?;
    }
    ensure!(failed == 0, "{failed} of {} were not changed", ids.len());
    Ok(())
}

/// Retries everything that is parked now, of one reason or all, and shows how far it is until it ends. Ctrl-C stops it.
/// With an approval it shows first what it would release, and releases no more than that.
pub(super) async fn retry_many(
    at: &config::Store,
    reason: Option<Reason>,
    pace: Pace,
    approval: Option<Approval>,
    is_json: bool,
) -> Result<(), Failure> {
    let approval = match (approval, reason.filter(|reason| reason.is_approvable())) {
        (None, _) => None,
        (Some(approval), Some(reason)) => Some((approval, reason)),
        (Some(_), None) => {
            let names = Reason::APPROVABLE.map(Reason::name).join(", ");
            return Err(Failure::Usage(format!("--approve overrides {names} alone: name it with --reason")));
        }
    };
    let opened = open(at).await?;
    let result = order_and_follow(&opened.store, (reason, approval), &pace, (at.backlog_max, is_json)).await;
    opened.close().await;
    let retry = result?;
    if is_json {
        print_json(&retry)?;
    } else {
        say(&progress(&retry));
    }
    if retry.state == "stopped" {
        return Err(Failure::Failed(anyhow!("the retry was stopped; what it had not come to stays parked")));
    }
    Ok(())
}

/// Orders it, once it is clear that there is something to retry, and that a person means what they approve.
async fn order(
    store: &Store,
    (reason, approval): (Option<Reason>, Option<(Approval, Reason)>),
    per_second: u32,
    is_json: bool,
) -> Result<(Ordered, i64), Failure> {
    let groups = store.parked_groups().await?;
    let meant: Vec<&ParkedGroup> =
        groups.iter().filter(|group| reason.is_none_or(|reason| reason.name() == group.reason)).collect();
    let (parked, retryable) =
        meant.iter().fold((0, 0), |(parked, retryable), group| (parked + group.count, retryable + group.retryable));
    if parked > 0 && retryable == 0 {
        let why = "ever became an event, and of none all was kept: have them sent again, and skip these";
        return Err(Failure::Failed(anyhow!("none of the {parked} {why}")));
    }
    let Some((approval, reason)) = approval else {
        return Ok((store.order_retry(reason, per_second).await?, parked - retryable));
    };
    // The person has not seen what is parked meanwhile, so that is not approved.
    let until = meant.iter().map(|group| group.newest_at).max().unwrap_or(Timestamp::from_micros(0));
    if retryable > 0 {
        confirm(&meant, approval, is_json).await?;
    }
    Ok((store.order_approval(reason, per_second, until).await?, parked - retryable))
}

/// Shows how many there are of each type, and asks unless the answer was given.
async fn confirm(meant: &[&ParkedGroup], approval: Approval, is_json: bool) -> Result<(), Failure> {
    let events: i64 = meant.iter().map(|group| group.retryable).sum();
    let types: Vec<String> =
        meant.iter().flat_map(|group| &group.types).map(|(name, count)| format!("{name} {count}")).collect();
    let shown = format!("{events} events: {}", types.join(", "));
    if approval.is_confirmed {
        if !is_json {
            say(&shown);
        }
        return Ok(());
    }
    if is_json || !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("{shown}; to release them add --yes")));
    }
    say(&shown);
    say("Release them? Each takes its customer away at Podero. Type yes:");
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await.context("nobody could be asked")?.context("nobody could be asked")?;
    if answer.trim() == "yes" {
        return Ok(());
    }
    Err(Failure::Failed(anyhow!("nothing was released")))
}

async fn order_and_follow(
    store: &Store,
    what: (Option<Reason>, Option<(Approval, Reason)>),
    pace: &Pace,
    (backlog_max, is_json): (u64, bool),
) -> Result<BulkRetry, Failure> {
    let (ordered, not_whole) = order(store, what, pace.per_second, is_json).await?;
    let retry = match ordered {
        Ordered::Running(retry) => retry,
        Ordered::Occupied(other) => {
            let (id, progress) = (&other.id, progress(&other));
            let why = format!("retry {id} runs ({progress}); wait for its end, or: parked stop {id}");
            return Err(Failure::Failed(anyhow!(why)));
        }
    };
    if !is_json {
        say(&format!("retry {}: {} events, {} per second", retry.id, retry.total, pace.per_second));
        if not_whole > 0 {
            say(&format!("{not_whole} more never became an event, and not all of it was kept: it can only be skipped"));
        }
    }
    if pace.detach {
        return Ok(retry);
    }
    let ended = tokio::select! {
        followed = follow(store, (&retry.id, backlog_max), is_json) => followed,
        _ = tokio::signal::ctrl_c() => {
            let stopped = store.stop_retry(&retry.id).await.with_context(|| goes_on(&retry.id))?;
            stopped.context("the retry is gone")
        }
    };
    Ok(ended?)
}

fn goes_on(id: &str) -> String {
    format!("retry {id} goes on by itself while a bridge runs (to stop it: parked stop {id})")
}

/// Drives and shows it until it has ended. A store that is away for a moment is waited for.
async fn follow(store: &Store, (id, backlog_max): (&str, u64), is_json: bool) -> anyhow::Result<BulkRetry> {
    let (mut shown, mut failures) = (0, 0);
    loop {
        let (stepped, retry) = match step(store, (id, backlog_max)).await {
            Ok((stepped, retry)) => {
                failures = 0;
                (stepped, retry.context("the retry is gone")?)
            }
            Err(Error::Away(_) | Error::Full) if failures < FAILURES_MAX => {
                failures += 1;
                pump::sleep(LOOK_EVERY).await;
                continue;
            }
            Err(error) => return Err(anyhow::Error::new(error).context(goes_on(id))),
        };
        if !retry.is_running() {
            return Ok(retry);
        }
        if !is_json && retry.retried > shown {
            shown = retry.retried;
            say(&progress(&retry));
        }
        let pause = match stepped {
            Stepped::Nothing => LOOK_EVERY,
            Stepped::Retried { pause, .. } => pause.min(LOOK_EVERY),
        };
        pump::sleep(pause).await;
    }
}

async fn step(store: &Store, (id, backlog_max): (&str, u64)) -> Result<(Stepped, Option<BulkRetry>), Error> {
    let stepped = store.retry_step(backlog_max).await?;
    Ok((stepped, store.bulk_retry(id).await?))
}

/// Stops a retry of many.
pub(super) async fn stop(at: &config::Store, id: Uuid, is_json: bool) -> anyhow::Result<()> {
    let opened = open(at).await?;
    let retry = opened.store.stop_retry(&id.to_string()).await;
    opened.close().await;
    let retry = retry?.with_context(|| format!("no retry has the id {id}"))?;
    if is_json {
        return print_json(&retry);
    }
    say(&progress(&retry));
    Ok(())
}

fn progress(retry: &BulkRetry) -> String {
    format!("{}: {} of {} retried", retry.state, retry.retried, retry.total)
}
