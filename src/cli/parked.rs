//! `parked …`: events that need a person. The command line offers the same acts as the admin API.
//!
//! A bulk retry is a row that a running bridge works on. This command drives it too, so that it also makes progress
//! without a bridge; the row holds the rate, so both together are no faster than one.
//!
//! Before: [`crate::cli`]. After: [`crate::store`].

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::json;
use uuid::Uuid;

use super::actor;
use super::arguments::{Parked, RetryArguments, StoreOptions};
use super::error::CliError;
use super::open::{load_store, open, open_configured, open_desk};
use super::output::{print_json, say};
use super::show;
use super::table::{self, or_dash};
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};
use crate::pump;
use crate::store::{
    BulkRetry, Desk, Error, NotTaken, Ordered, ParkedFilter, ParkedGroup, ROWS_MAX, RetryRequest, RetryState, Stepped,
};

/// Interval between two looks at the progress, which is printed if it changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Limit of failures in a row of a store that is away, each after a wait of its own (5 s for a lock).
const FAILURES_MAX: u32 = 10;

/// Runs a command about parked events.
pub(super) async fn run(command: Parked) -> Result<(), CliError> {
    match command {
        Parked::List { reason, after, at } => list(&at, reason, after).await,
        Parked::Show { id, at } => show::event(&at, id).await,
        Parked::Retry(retry) if retry.which.ids.is_empty() => retry_many(&retry).await,
        // The operator who names an event and approves it has looked at it: no question.
        Parked::Retry(retry) => {
            let request = if retry.approve { RetryRequest::Approve } else { RetryRequest::Retry };
            each(&retry.at, &retry.which.ids, request, None, "pending").await
        }
        Parked::Stop { id, at } => stop(&at, id).await,
        Parked::Skip { which, note, at } if which.ids.is_empty() => skip_many(&at, which.reason, note).await,
        Parked::Skip { which, note, at } => each(&at, &which.ids, RetryRequest::Skip, note, "skipped").await,
    }
}

/// Lists the groups, and a page of events.
async fn list(at: &StoreOptions, reason: Option<Reason>, after: Option<Uuid>) -> Result<(), CliError> {
    let view = open(at).await?;
    let after = after.map(|id| id.to_string());
    let page = view.parked_page(reason.map(Reason::name), after.as_deref(), ROWS_MAX).await;
    let groups = view.parked_groups(&ParkedFilter::default()).await;
    view.close().await;
    let (page, groups) = (page?, groups?);
    let is_full = i64::try_from(page.len()).is_ok_and(|count| count == ROWS_MAX);
    let next = page.last().filter(|_| is_full).map(|last| last.id);
    if at.json {
        return Ok(print_json(&json!({ "groups": groups, "parked": page, "next": next }))?);
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
            let (count, retryable) = (counted(group.count, group.is_capped), counted(group.retryable, group.is_capped));
            [group.reason, count, retryable, types.join(", "), oldest, newest]
        })
        .collect();
    table::print(["reason", "parked", "can be retried", "of type", "oldest", "newest"], &rows);
    say("");
    let rows: Vec<[String; 5]> = page
        .into_iter()
        .map(|event| {
            let person = table::person(event.customer_id.as_ref(), event.member_id.as_ref());
            let reason = or_dash(event.reason.as_ref());
            [event.id.to_string(), person, event.kind.to_string(), reason, or_dash(event.detail.as_ref())]
        })
        .collect();
    table::print(["event", "customer or member", "type", "reason", "detail"], &rows);
    if let Some(next) = next {
        say(&format!("there are more: --after {next}"));
    }
    Ok(())
}

/// Gives up unreadable messages, of one reason or all; other parked events can still be retried. Of a reason that waits for an
/// approval it gives up all events.
async fn skip_many(at: &StoreOptions, reason: Option<Reason>, note: Option<String>) -> Result<(), CliError> {
    let opened = open_desk(at).await?;
    let skipped = opened.store.skip_unreadable(reason, note, &actor::of_process()).await;
    let left = opened.store.parked_groups(&ParkedFilter::of_reason(reason)).await;
    opened.close().await;
    let (skipped, left) = (skipped?, left?);
    if at.json {
        print_json(&json!({ "skipped": skipped }))?;
    }
    if skipped == 0 {
        let events: u64 = left.iter().map(|group| group.count).sum();
        let why = match events {
            0 => "nothing matched: nothing is parked so".to_owned(),
            _ => format!("nothing matched: the {events} that are parked so are events, which are skipped by their ids"),
        };
        return Err(anyhow!(why).into());
    }
    let refused = reason.is_some_and(Reason::is_approvable);
    if !at.json {
        say(&format!("{skipped} skipped{}", if refused { "" } else { " that never became events" }));
    }
    Ok(())
}

async fn each(
    at: &StoreOptions,
    ids: &[Uuid],
    request: RetryRequest,
    note: Option<String>,
    state: &str,
) -> Result<(), CliError> {
    let opened = open_desk(at).await?;
    let (by, mut results) = (actor::of_process(), Vec::with_capacity(ids.len()));
    for id in ids {
        let id = EventId(*id);
        let result = match opened.store.unpark_with_note(id, request, note.clone(), &by).await {
            Ok(Some(_)) => Ok(None),
            Ok(None) => opened.store.why_not_taken(id, request).await.map(Some),
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
        if !at.json {
            say(&why.as_ref().map_or_else(|| format!("{id}  {word}"), |why| format!("{id}  {word}: {why}")));
        }
        shown.push(json!({ "id": id, "state": word, "why": why }));
    }
    if at.json {
        print_json(&json!({ "results": shown }))?;
    }
    if failed == 0 { Ok(()) } else { Err(anyhow!("{failed} of {} were not changed", ids.len()).into()) }
}

/// Retries everything that is parked now, of one reason or all, and prints the progress until its end. Ctrl-C stops it.
/// With an approval it first prints the events that it would release, and releases no others.
async fn retry_many(retry: &RetryArguments) -> Result<(), CliError> {
    let at = load_store(retry.at.config.as_deref(), false)?;
    if retry.approve && !retry.which.reason.is_some_and(Reason::is_approvable) {
        let names = Reason::APPROVABLE.map(Reason::name).join(", ");
        return Err(CliError::Usage(format!("--approve overrides {names} alone: name it with --reason")));
    }
    let opened = open_configured(&at).await?;
    let result = order_and_follow(&opened.store, retry, at.backlog_max).await;
    opened.close().await;
    let ended = result?;
    if retry.at.json {
        print_json(&ended)?;
    } else {
        say(&progress(&ended));
    }
    if ended.state == RetryState::Stopped {
        return Err(anyhow!("the retry was stopped; what it had not come to stays parked").into());
    }
    Ok(())
}

/// A count, which ends at a limit.
fn counted(count: u64, is_capped: bool) -> String {
    if is_capped { format!("{count}+") } else { count.to_string() }
}

/// Orders the retry, if there is something to retry and the operator confirms an approval. Returns also the number of
/// parked events that can only be skipped.
async fn order(store: &Desk, retry: &RetryArguments) -> Result<(Ordered, u64), CliError> {
    let (filter, per_second) = (retry.filter(), retry.per_second);
    let groups = store.parked_groups(&filter).await?;
    let is_capped = groups.iter().any(|group| group.is_capped);
    let (parked, retryable) =
        groups.iter().fold((0, 0), |(parked, retryable), group| (parked + group.count, retryable + group.retryable));
    if parked > 0 && retryable == 0 && !is_capped {
        let why = "ever became an event, and of none all was kept: have them sent again, and skip these";
        return Err(anyhow!("none of the {parked} {why}").into());
    }
    let Some(reason) = filter.reason.filter(|_| retry.approve) else {
        return Ok((store.order_retry(filter, per_second, &actor::of_process()).await?, parked - retryable));
    };
    // The operator has not seen events that are parked from here on: they are not approved.
    let until = groups.iter().map(|group| group.newest_at).max().unwrap_or(Timestamp::from_micros(0));
    if retryable > 0 {
        confirm(&groups, retry).await?;
    }
    Ok((store.order_approval(reason, per_second, until, &actor::of_process()).await?, parked - retryable))
}

/// Prints the number of each type, and asks for a confirmation unless it was given.
async fn confirm(meant: &[ParkedGroup], retry: &RetryArguments) -> Result<(), CliError> {
    let events: u64 = meant.iter().map(|group| group.retryable).sum();
    let types: Vec<String> =
        meant.iter().flat_map(|group| &group.types).map(|(name, count)| format!("{name} {count}")).collect();
    let is_capped = meant.iter().any(|group| group.is_capped);
    let shown = format!("{} events: {}", counted(events, is_capped), types.join(", "));
    if retry.yes {
        if !retry.at.json {
            say(&shown);
        }
        return Ok(());
    }
    if retry.at.json || !std::io::stdin().is_terminal() {
        return Err(CliError::Usage(format!("{shown}; to release them add --yes")));
    }
    say(&shown);
    say("Release them? Each takes its customer, or its member, away at Podero. Type yes:");
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let answer = answer.await.context("nobody could be asked")?.context("nobody could be asked")?;
    if answer.trim() == "yes" { Ok(()) } else { Err(anyhow!("nothing was released").into()) }
}

async fn order_and_follow(store: &Desk, retry: &RetryArguments, backlog_max: u64) -> Result<BulkRetry, CliError> {
    let (ordered, not_whole) = order(store, retry).await?;
    let running = match ordered {
        Ordered::Running(running) => running,
        Ordered::Occupied(other) => {
            let (id, progress) = (&other.id, progress(&other));
            let why = format!("retry {id} runs ({progress}); wait for its end, or: parked stop {id}");
            return Err(anyhow!(why).into());
        }
    };
    let is_json = retry.at.json;
    if !is_json {
        say(&format!("retry {}: {} events, {} per second", running.id, running.total, retry.per_second));
        if not_whole > 0 {
            say(&format!("{not_whole} more never became an event, and not all of it was kept: it can only be skipped"));
        }
    }
    if retry.detach {
        return Ok(running);
    }
    let id = &running.id;
    Ok(tokio::select! {
        followed = follow(store, id, backlog_max, is_json) => followed?,
        _ = tokio::signal::ctrl_c() => {
            let stopped = store.stop_retry(id, &actor::of_process()).await.with_context(|| goes_on(id))?;
            stopped.context("the retry is gone")?
        }
    })
}

fn goes_on(id: &str) -> String {
    format!("retry {id} goes on by itself while a bridge runs (to stop it: parked stop {id})")
}

/// Drives the retry and prints its progress until it has ended. Waits for a store that is away for a moment.
async fn follow(store: &Desk, id: &str, backlog_max: u64, is_json: bool) -> anyhow::Result<BulkRetry> {
    let (mut shown, mut failures) = (0, 0);
    loop {
        let (stepped, retry) = match step(store, id, backlog_max).await {
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

async fn step(store: &Desk, id: &str, backlog_max: u64) -> Result<(Stepped, Option<BulkRetry>), Error> {
    let stepped = store.retry_step(backlog_max).await?;
    Ok((stepped, store.bulk_retry(id).await?))
}

/// Stops a retry of many.
async fn stop(at: &StoreOptions, id: Uuid) -> Result<(), CliError> {
    let opened = open_desk(at).await?;
    let retry = opened.store.stop_retry(&id.to_string(), &actor::of_process()).await;
    opened.close().await;
    let retry = retry?.with_context(|| format!("no retry has the id {id}"))?;
    if at.json {
        return Ok(print_json(&retry)?);
    }
    say(&progress(&retry));
    Ok(())
}

fn progress(retry: &BulkRetry) -> String {
    format!("{}: {} of {} retried", retry.state, retry.retried, retry.total)
}
