//! Everything that runs: the spawned tasks by the stage that they belong to, and the signals that end the stages.
//!
//! Before: [`super`], and each file here that spawns. After: [`super::Bridge::stop`] gives these signals in their order.

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::pump;

/// The part of the bridge that a task belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Sandbox,
    Writer,
    Examination,
    Dispatcher,
    Consumer,
    BrokerPublisher,
    Work,
    Replica,
    Outbound,
    Gauges,
    WebhookListener,
    AdminListener,
}

/// Everything that was spawned.
#[derive(Default)]
pub(super) struct Tasks {
    set: JoinSet<Stage>,
    running: Vec<Stage>,
}

impl Tasks {
    pub(super) fn spawn(&mut self, stage: Stage, task: impl Future<Output = ()> + Send + 'static) {
        self.running.push(stage);
        self.set.spawn(async move {
            task.await;
            stage
        });
    }

    /// The next task that ends; `None` for one that panicked, or when none is left.
    pub(super) async fn next(&mut self) -> Option<Stage> {
        let stage = self.set.join_next().await?.ok()?;
        if let Some(at) = self.running.iter().position(|running| *running == stage) {
            self.running.swap_remove(at);
        }
        Some(stage)
    }

    pub(super) async fn wait_for(&mut self, stage: Stage) {
        while self.running.contains(&stage) && self.next().await.is_some() {}
    }

    pub(super) fn abort(&mut self) {
        self.set.abort_all();
    }
}

/// The signals that end the stages, given in this order.
pub(super) struct Ends {
    pub(super) consumer: watch::Sender<bool>,
    pub(super) work: watch::Sender<bool>,
    pub(super) outbound: watch::Sender<bool>,
    pub(super) last: watch::Sender<bool>,
}

impl Ends {
    pub(super) fn new() -> Self {
        let end = || watch::channel(false).0;
        Self { consumer: end(), work: end(), outbound: end(), last: end() }
    }

    pub(super) fn of(&self, stage: Stage) -> watch::Receiver<bool> {
        let end = match stage {
            Stage::Consumer => &self.consumer,
            Stage::Work | Stage::Replica => &self.work,
            Stage::Outbound => &self.outbound,
            // From the sandbox on they have handles of their own that end them.
            Stage::Dispatcher
            | Stage::BrokerPublisher
            | Stage::Gauges
            | Stage::Sandbox
            | Stage::Writer
            | Stage::Examination
            | Stage::WebhookListener
            | Stage::AdminListener => &self.last,
        };
        end.subscribe()
    }

    /// Resolves when the stage is told to end.
    pub(super) fn told(&self, stage: Stage) -> impl Future<Output = ()> + Send + 'static {
        let mut end = self.of(stage);
        async move { pump::ended(&mut end).await }
    }
}
