//! The background tasks, as a table: each is a step that is repeated, by a timer and when it is woken, until it is told to end.
//!
//! A stage that gets no row does not compile without a warning: nothing else calls the function that makes it.
//!
//! Before: [`super::stages`] makes the stages. After: [`crate::pump`] repeats their steps.

use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::listeners::SlowClients;
use super::running::{Ends, Stage, Tasks};
use super::stages::{Handles, LOOK_EVERY, States};
use crate::inbound::Inbox;
use crate::listener::connections;
use crate::pump::{self, Schedule, Step};
use crate::upkeep::{self, SecretFiles};

/// Tasks that publish to the broker: while one writes down what was confirmed, the other has its notices on their way. Notices
/// with the same ordering key go out in order, whichever task takes them.
const PUBLISHERS: usize = 2;

/// Interval at which replicas share what they know of Podero. A pause or a change of the circuit is shared at once.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Timeout of the first count, which comes before the listeners open: without it they would take events beyond
/// `store.backlog_max`.
const FIRST_COUNT_MAX: Duration = Duration::from_secs(20);

/// Interval at which rows older than the retention are removed.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Interval of the look for purges that a clock ahead has put off: it reads past all that is announced, and a purge is days away.
const PURGES_EVERY: Duration = Duration::from_hours(1);

/// Interval of the look for customers whose e-mail address is not hashed: those of an earlier version, which may still run beside.
const EMAILS_EVERY: Duration = Duration::from_secs(60);

/// Interval of reading files of secrets: shorter than an operator who changed one waits before trying it.
const SECRETS_EVERY: Duration = Duration::from_secs(5);

/// Interval at which an erasure that could not empty the log of a SQLite file is made up for.
const SCRUB_EVERY: Duration = Duration::from_secs(5);

/// Interval at which rows of the audit log older than `audit.retention` are removed.
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// Interval of the looks over the chain of the audit log. A look reads some thousand rows: millions a day.
const CHAIN_LOOK_EVERY: Duration = Duration::from_secs(60);

/// Interval of the look for close watches that are due: a part of the interval of their polls.
const CLOSE_LOOK_EVERY: Duration = Duration::from_secs(1);

/// A row of the table.
struct Task {
    stage: Stage,
    name: &'static str,
    /// Longest interval between two steps.
    period: Duration,
    wake: Arc<Notify>,
    step: Box<dyn Fn() -> BoxFuture<'static, Step> + Send>,
}

fn task<T: Send + Sync + 'static>(
    stage: Stage,
    name: &'static str,
    period: Duration,
    wake: &Arc<Notify>,
    of: &Arc<T>,
    step: for<'a> fn(&'a T) -> BoxFuture<'a, Step>,
) -> Task {
    let of = of.clone();
    let step = move || {
        let of = of.clone();
        async move { step(&of).await }.boxed()
    };
    Task { stage, name, period, wake: wake.clone(), step: Box::new(step) }
}

impl Task {
    /// Repeats the step until its stage is told to end.
    fn run(self, ends: &Ends) -> impl Future<Output = ()> + Send + use<> {
        let Self { stage, name, period, wake, step } = self;
        pump::run(Schedule { name, every: Some(period), wake, shutdown: ends.of(stage) }, step)
    }
}

/// Counts the tables, since the number of waiting events bounds what the listeners take, and spawns all tasks that repeat a
/// step.
pub(super) async fn start(
    handles: &Handles,
    inbox: &Inbox,
    slow_clients: &SlowClients,
    tasks: &mut Tasks,
    ends: &Ends,
) -> anyhow::Result<()> {
    use Stage::{Gauges, Outbound, Replica, Work};
    let applier = Arc::new((Arc::new(handles.applier()), Mutex::new(JoinSet::new())));
    let team = Arc::new((Arc::new(handles.team_applier()), Mutex::new(JoinSet::new())));
    let (replica, upkeep, counting) =
        (Arc::new(handles.replica()), Arc::new(handles.upkeep()), Arc::new(handles.counting()));
    let recorder = Arc::new(handles.recorder());
    let (audit, seal_within) = (Arc::new(handles.audit_upkeep()), handles.config.audit.seal_within);
    let (states, secrets) =
        (Arc::new(States(handles.clone())), Arc::new(SecretFiles::new(&handles.config, handles.store.clone())));
    let (inbox, slow_clients, wakes) = (Arc::new(inbox.clone()), Arc::new(slow_clients.clone()), &handles.wakes);
    let (to_webhook, staffing) = (handles.to_webhook()?, Arc::new(handles.staffing()));
    if !tokio::time::timeout(FIRST_COUNT_MAX, counting.count()).await.unwrap_or(false) {
        tracing::warn!("the tables could not be counted before the listeners open; it is tried again");
    }
    let (changed, suspected, timer) = (replica.client.changed(), replica.client.suspected(), &Arc::default());
    let forget_every = upkeep.retention.map_or(FORGET_EVERY, |retention| retention.min(FORGET_EVERY));
    // Stage, name, period, wake-up, and the step of what.
    let mut table = vec![
        task(Work, "promote", LOOK_EVERY, timer, &upkeep, |it| it.promote().boxed()),
        task(Work, "retry", LOOK_EVERY, &wakes.retries, &upkeep, |it| it.retry().boxed()),
        task(Work, "reread", LOOK_EVERY, timer, &inbox, |it| it.reread_step().boxed()),
        task(Work, "rotate", SECRETS_EVERY, timer, &secrets, |it| it.read().boxed()),
        task(Work, "purges", PURGES_EVERY, timer, &upkeep, |it| it.date_purges().boxed()),
        task(Work, "emails", EMAILS_EVERY, timer, &upkeep, |it| it.hash_emails().boxed()),
        task(Work, "forget", forget_every, timer, &upkeep, |it| it.forget().boxed()),
        task(Work, "audit", seal_within, timer, &audit, |it| it.seal().boxed()),
        task(Work, "chain", CHAIN_LOOK_EVERY, timer, &audit, |it| it.watch().boxed()),
        task(Work, "trim", TRIM_EVERY, timer, &audit, |it| it.trim().boxed()),
        task(Work, "scrub", SCRUB_EVERY, timer, &upkeep, |it| it.scrub().boxed()),
        task(Work, "staff", LOOK_EVERY, timer, &staffing, |it| it.list_step().boxed()),
        task(Work, "left", FORGET_EVERY, timer, &staffing, |it| it.forget_step().boxed()),
        // The end does not wait for it: a probe may take longer than the grace, and the next probe finds the same.
        task(Replica, "share", SYNC_EVERY, &changed, &replica, |it| it.sync_step().boxed()),
        task(Replica, "probe", LOOK_EVERY, &suspected, &replica, |it| it.probe_step().boxed()),
        task(Gauges, "history", upkeep::HISTORY_EVERY, timer, &recorder, |it| it.step().boxed()),
        task(Gauges, "gauges", upkeep::GAUGES_REST_MAX, timer, &counting, |it| it.step().boxed()),
        // Apart from the last: gauges that need no table must not wait for one.
        task(Gauges, "states", upkeep::GAUGES_EVERY, timer, &states, |it| ready(it.refresh()).boxed()),
        task(Gauges, "connections", connections::TICK, timer, &slow_clients, |it| ready(it.tick()).boxed()),
    ];
    if let Some(measuring) = handles.measuring().map(Arc::new) {
        table.push(task(Gauges, "server", upkeep::SERVER_GAUGES_EVERY, timer, &measuring, |it| it.step().boxed()));
    }
    if let Some(publisher) = handles.to_broker().map(Arc::new) {
        let row = || task(Outbound, "publish", LOOK_EVERY, &wakes.outbound, &publisher, |it| it.step().boxed());
        table.extend(std::iter::repeat_with(row).take(PUBLISHERS));
    }
    if let Some(publisher) = to_webhook.map(Arc::new) {
        table.push(task(Outbound, "deliver", LOOK_EVERY, &wakes.outbound, &publisher, |it| it.step().boxed()));
    }
    if handles.config.watch.enabled {
        let watcher = Arc::new(handles.watcher());
        let every = LOOK_EVERY.min(watcher.policy.interval);
        table.push(task(Work, "roster", every, timer, &watcher, |it| it.roster_step().boxed()));
        table.push(task(Work, "fleets", every, timer, &watcher, |it| it.fleet_step().boxed()));
        table.push(task(Work, "close watch", CLOSE_LOOK_EVERY, timer, &watcher, |it| it.close_step().boxed()));
        let polls = task(Work, "poll", every, timer, &watcher, |it| it.poll_step().boxed()).run(ends);
        let end = ends.told(Work);
        // A poll only reads, and is due until it is written down: the end does not wait for Podero's answers.
        tasks.spawn(Work, async move {
            tokio::select! { () = polls => {}, () = end => {} }
        });
    }
    for row in table {
        tasks.spawn(row.stage, row.run(ends));
    }
    let feeds = task(Work, "apply", LOOK_EVERY, &wakes.work, &applier, |(it, work)| it.clone().feed(work).boxed());
    tasks.spawn(Work, until_settled(feeds.run(ends), applier.clone()));
    let feeds = task(Work, "team", LOOK_EVERY, &wakes.team, &team, |(it, work)| it.clone().feed_members(work).boxed());
    tasks.spawn(Work, until_settled(feeds.run(ends), team.clone()));
    Ok(())
}

/// Feeds an applier until its stage ends, and waits for what it works on.
async fn until_settled<A: Send + Sync>(feeds: impl Future<Output = ()>, applier: Arc<(A, Mutex<JoinSet<()>>)>) {
    feeds.await;
    let mut working = std::mem::take(&mut *applier.1.lock().expect("no code panics while it spawns"));
    // Not `join_all`, which would panic over a task that did.
    while working.join_next().await.is_some() {}
}
