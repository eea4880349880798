//! One run from its first event to the comparison at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::Timestamp;
use podero_bridge::pump;

use super::ledger::{EventRow, Ledger, NoticeRow};
use super::load::Load;
use super::world::ChaosWorld;
use super::{Plan, say};
use crate::bus::Ear;
use crate::servers::environment;
use crate::stories::{PERSONAL, differences};

/// Limit of the wait with all faults gone: longer than a lease of a killed replica, and than the longest pause of Podero and
/// broker.
const REST_TIME_MAX: Duration = Duration::from_secs(240);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A run under way.
pub struct Run {
    pub plan: Plan,
    pub world: Arc<ChaosWorld>,
    pub load: Arc<Load>,
    pub ledger: Arc<Ledger>,
    pub ear: Option<Ear>,
    /// Each line is something that must not be.
    pub wrong: Vec<String>,
    started: Timestamp,
    struck: u64,
    senders: tokio::task::JoinSet<()>,
    follower: tokio::task::JoinHandle<()>,
}

/// The findings of a run.
#[derive(Debug, Default)]
pub struct Figures {
    pub struck: u64,
    pub lost: usize,
    pub doubled_users: usize,
    pub doubled_buildings: usize,
    pub others: usize,
    pub repeats_on_the_bus: usize,
}

impl Run {
    /// Opens fire. With `amqp` half of the events go that way, and the bus is listened to.
    pub async fn begin(
        plan: Plan,
        world: Arc<ChaosWorld>,
        load: Arc<Load>,
        ledger: Ledger,
        amqp: Option<&str>,
    ) -> Self {
        let ear = match amqp {
            Some(url) => Some(Ear::open(url).await),
            None => None,
        };
        let ledger = Arc::new(ledger);
        let senders = load.send(&world, amqp);
        let (followed, following) = (load.clone(), ledger.clone());
        let follower = tokio::spawn(async move { followed.follow(&following).await });
        let started = Clock::system().now();
        Self { plan, world, load, ledger, ear, wrong: Vec::new(), started, struck: 0, senders, follower }
    }

    /// Sends the rest, lets no fault strike any more, and lets everything come to rest. Again, it does nothing.
    pub async fn arrive(&mut self) {
        if self.senders.is_empty() {
            return;
        }
        self.load.release();
        self.load.finish();
        while self.senders.join_next().await.is_some() {}
        self.phase("everything is sent");
        self.struck = self.world.struck().await;
        if self.struck == 0 && self.plan.trouble > 0.0 {
            self.wrong.push("no fault struck: the run says nothing".to_owned());
        }
        self.world.calm().await;
        self.phase("everything is up, no fault strikes");
        self.rest().await;
        self.phase("at rest");
    }

    /// Lets everything come to rest without faults, compares, prints the figures, and fails if anything differs from the stories.
    pub async fn end(mut self) -> Figures {
        self.arrive().await;
        self.follower.abort();
        let struck = self.struck;
        let mut figures = Figures { struck, ..Figures::default() };
        let (events, notices) = (self.ledger.events().await, self.ledger.notices().await);
        self.check_events(&events, &mut figures);
        self.check_notices(&events, &notices, &mut figures).await;
        self.check_podero(&mut figures).await;
        self.settle_with(&figures).await;
        figures
    }

    /// Waits until nothing is left to do, or the bound is reached: then the comparison says what is missing.
    async fn rest(&mut self) {
        let deadline = Clock::system().now().plus(REST_TIME_MAX);
        let mut last = None;
        while Clock::system().now() < deadline {
            last = self.ledger.progress().await;
            let is_at_rest = last.is_some_and(|p| {
                p.done >= self.load.ids.len() && p.pending == 0 && p.waiting == 0 && p.unpublished == 0
            });
            if is_at_rest {
                return;
            }
            pump::sleep(LOOK_EVERY).await;
        }
        self.wrong.push(format!("not at rest {REST_TIME_MAX:?} after the last fault: {last:?}"));
    }

    fn phase(&self, name: &str) {
        let after = Clock::system().now().since(self.started);
        say(&format!("{}: after {:.1} s {name}", self.plan.scenario, after.as_secs_f64()));
    }

    fn check_events(&mut self, events: &[EventRow], figures: &mut Figures) {
        let told = std::mem::take(&mut *self.load.told());
        self.wrong.extend(told.wrong);
        let by_id: BTreeMap<&str, &EventRow> = events.iter().map(|row| (row.origin_id.as_str(), row)).collect();
        for id in &self.load.ids {
            if !told.taken.contains(id) {
                self.wrong.push(format!("{id} was never taken"));
            }
        }
        for id in &told.taken {
            match by_id.get(id.as_str()) {
                Some(row) if row.state == "applied" || row.state == "superseded" => {}
                Some(row) => self.lose(figures, format!("{id} is {} ({:?})", row.state, row.reason)),
                None => self.lose(figures, format!("{id} was taken and is not in the store")),
            }
        }
        for (id, times) in told.accepted.iter().filter(|(_, times)| **times > 1) {
            self.wrong.push(format!("{id} was new {times} times: the first 202 was forgotten"));
        }
        for row in events.iter().filter(|row| !self.load.ids.contains(&row.origin_id)) {
            self.wrong.push(format!("{} is in the store and nobody sent it", row.origin_id));
        }
    }

    fn lose(&mut self, figures: &mut Figures, line: String) {
        figures.lost += 1;
        self.wrong.push(line);
    }

    /// Each effect with a notice has its row; each row went out, and was heard.
    async fn check_notices(&mut self, events: &[EventRow], notices: &[NoticeRow], figures: &mut Figures) {
        let told: BTreeSet<(&str, &str)> = notices.iter().map(|row| (row.event.as_str(), row.topic.as_str())).collect();
        for row in events.iter().filter(|row| row.state == "applied") {
            let topic = match row.type_name.as_str() {
                "customer.signed_up" => "customer.provisioned",
                "customer.moved" => "customer.relocated",
                "customer.churned" => "customer.offboarded",
                _ => continue,
            };
            if !told.contains(&(row.id.as_str(), topic)) {
                self.wrong.push(format!("{} took effect, and no {topic} tells of it", row.origin_id));
            }
        }
        let Some(ear) = &self.ear else { return };
        let heard = ear.heard().await;
        for row in notices {
            match heard.get(&row.id) {
                _ if row.state != "published" => self.wrong.push(format!("the notice {} is {}", row.id, row.state)),
                None => self.wrong.push(format!("the notice {} counts as published and was never heard", row.id)),
                Some(times) => figures.repeats_on_the_bus += times - 1,
            }
        }
        let known: BTreeSet<&str> = notices.iter().map(|row| row.id.as_str()).collect();
        for id in heard.keys().filter(|id| !known.contains(id.as_str())) {
            self.wrong.push(format!("the bus heard {id}, which no row tells of"));
        }
    }

    async fn check_podero(&mut self, figures: &mut Figures) {
        let found = differences(&self.world.get("/state").await, &self.load.ends);
        figures.doubled_users = found.doubled_users.len();
        figures.doubled_buildings = found.doubled_buildings.len();
        figures.others = found.others.len();
        self.wrong.extend(found.doubled_users);
        self.wrong.extend(found.doubled_buildings);
        self.wrong.extend(found.others);
    }

    async fn settle_with(&mut self, figures: &Figures) {
        let took = Clock::system().now().since(self.started);
        self.wrong.extend(self.world.terminate().await);
        self.wrong.extend(self.world.unasked_ends());
        let logs = self.world.logs();
        self.wrong
            .extend(PERSONAL.iter().filter(|piece| logs.contains(*piece)).map(|piece| format!("the log says {piece}")));
        let panics = logs.lines().filter(|line| line.contains("panicked"));
        self.wrong.extend(panics.map(|line| format!("a panic: {line}")));
        self.print(figures, took);
        let shown = self.wrong.len().min(20);
        assert!(
            self.wrong.is_empty(),
            "seed {}: {} things are wrong, the first:\n{}",
            self.plan.seed,
            self.wrong.len(),
            self.wrong[..shown].join("\n")
        );
    }

    fn print(&self, figures: &Figures, took: Duration) {
        let Plan { scenario, seed, events, customers, blows, .. } = &self.plan;
        let Figures { struck, lost, doubled_users, doubled_buildings, others, repeats_on_the_bus } = figures;
        say(&format!(
            "{scenario}: {} answers 503, {} without an answer, {repeats_on_the_bus} repeats on the bus",
            self.load.refused.load(Ordering::Relaxed),
            self.load.unanswered.load(Ordering::Relaxed),
        ));
        let seconds = took.as_secs();
        note(&format!(
            "{scenario} {seed} {events} {customers} {blows} {struck} {lost} {doubled_users} {doubled_buildings} {others} \
             {seconds}"
        ));
    }
}

/// A line of the table that `tests/reliability` prints.
pub fn note(line: &str) {
    say(&format!("figures: {line}"));
    if let Some(file) = environment("PODERO_BRIDGE_TEST_FIGURES") {
        let file = std::fs::File::options().create(true).append(true).open(file);
        writeln!(file.expect("the file of figures can be written"), "{line}").expect("written");
    }
}
