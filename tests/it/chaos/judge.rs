//! One run from its first event to the comparison at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::chain::{ChainHead, hex};
use podero_bridge::domain::{NAMESPACE, Timestamp};
use podero_bridge::pump;
use serde_json::Value;
use uuid::Uuid;

use super::ledger::{AuditRow, EventRow, Ledger, NoticeRow};
use super::load::Load;
use super::world::ChaosWorld;
use super::{Plan, say};
use crate::bus::Ear;
use crate::servers::environment;
use crate::stories::{PERSONAL, differences};

/// Limit of the wait with all faults gone: longer than a lease of a killed replica, and than the longest pause of Podero and
/// broker.
const REST_TIME_MAX: Duration = Duration::from_secs(240);
/// Limit of the wait for the last rows to be sealed: many times `audit.seal_within`.
const SEALING_TIME_MAX: Duration = Duration::from_secs(30);
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
    /// Podero's log of requests: it remembers the newest, and each is read before it is forgotten.
    requests: Arc<tokio::sync::Mutex<Requests>>,
    reader: tokio::task::JoinHandle<()>,
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
        let requests = Arc::<tokio::sync::Mutex<Requests>>::default();
        let (reading, podero) = (requests.clone(), world.clone());
        let reader = tokio::spawn(async move {
            loop {
                reading.lock().await.read(&podero).await;
                pump::sleep(LOOK_EVERY).await;
            }
        });
        let started = Clock::system().now();
        Self {
            plan,
            world,
            load,
            ledger,
            ear,
            wrong: Vec::new(),
            started,
            struck: 0,
            requests,
            reader,
            senders,
            follower,
        }
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
        // A scenario may let Podero forget them afterwards.
        self.reader.abort();
        self.requests.lock().await.read(&self.world).await;
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
        self.check_audit(&events).await;
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

    /// Each change that Podero made has its row of the audit log, no more rows tell of changes than calls made some, and the
    /// chain is whole.
    async fn check_audit(&mut self, events: &[EventRow]) {
        let (sealed, hash) = self.ledger.audit_head().await;
        let rows = self.sealed_rows().await;
        let is_known = rows.iter().any(|row| row.number == Some(sealed) && row.hash.as_ref() == Some(&hash));
        if sealed == 0 || !is_known {
            self.wrong.push(format!("the audit log's chain does not have its head, {sealed}:{hash}"));
        }
        let mut head = ChainHead::EMPTY;
        for row in rows.iter().filter(|row| row.number.is_some()) {
            head = head.seal(&row.fields());
            let is_next = row.number == i64::try_from(head.count).ok() && row.hash == Some(hex(&head.hash));
            if !is_next {
                self.wrong.push(format!("the audit log's chain is broken at row {}: {row:?}", head.count));
                break;
            }
        }
        let requests = std::mem::take(&mut *self.requests.lock().await);
        if requests.missed > 0 {
            self.wrong.push(format!("{} requests were forgotten before they were read", requests.missed));
        }
        let changes = Changes::of(&requests.read, events, &self.ledger.events_by_key().await);
        let mut done: BTreeMap<(&str, &str), Vec<&AuditRow>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.outcome() == "done") {
            done.entry((row.event(), row.action())).or_default().push(row);
        }
        for ((event, action), Made { keys, calls }) in &changes.made {
            let told = done.get(&(event.as_str(), action.as_str())).into_iter().flatten().copied();
            let (gone, told): (Vec<_>, Vec<_>) = told.partition(|row| row.reason() == "already_gone");
            // A create is told of once, however often it was called.
            let (least, most) = match action.starts_with("podero.create_") {
                true => (keys.len(), keys.len()),
                false => (keys.len().saturating_sub(gone.len()), *calls),
            };
            if !(least..=most).contains(&told.len()) {
                self.wrong.push(format!(
                    "{action} for {event}: {} changes by {calls} calls, and {} rows of the audit log",
                    keys.len(),
                    told.len() + gone.len()
                ));
            }
        }
        let untrue = rows.iter().filter(|row| {
            let is_change =
                row.action().starts_with("podero.") && row.outcome() == "done" && row.reason() != "already_gone";
            is_change && !changes.made.contains_key(&(row.event().to_owned(), row.action().to_owned()))
        });
        self.wrong.extend(untrue.map(|row| format!("a row of the audit log tells of no change: {row:?}")));
        self.wrong
            .extend(open_doubts(&rows).map(|row| format!("no further row tells what became of the call: {row:?}")));
        self.wrong.extend(changes.strange);
    }

    /// The rows of the audit log, once all of them are sealed.
    async fn sealed_rows(&mut self) -> Vec<AuditRow> {
        let deadline = Clock::system().now().plus(SEALING_TIME_MAX);
        loop {
            let rows = self.ledger.audit().await;
            let unsealed = rows.iter().filter(|row| row.number.is_none()).count();
            let is_over = Clock::system().now() > deadline;
            if unsealed > 0 && is_over {
                self.wrong.push(format!("{unsealed} rows of the audit log are not sealed"));
            }
            if unsealed == 0 || is_over {
                return rows;
            }
            pump::sleep(LOOK_EVERY).await;
        }
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

/// The rows about calls without an answer that no later row of the same event and action resolves.
fn open_doubts(rows: &[AuditRow]) -> impl Iterator<Item = &AuditRow> {
    let mut told = BTreeSet::new();
    let mut open = Vec::new();
    // By the time of recording: the last one that is left in doubt is open.
    let mut in_order: Vec<&AuditRow> = rows.iter().filter(|row| row.action().starts_with("podero.")).collect();
    in_order.sort_by_key(|row| row.id().to_owned());
    for row in in_order.into_iter().rev() {
        let is_new = told.insert((row.event(), row.action()));
        if is_new && row.outcome() == "unknown" {
            open.push(row);
        }
    }
    open.into_iter()
}

/// Podero's log of requests, as far as it was read.
#[derive(Default)]
struct Requests {
    /// Those that changed something.
    read: Vec<Value>,
    last: u64,
    /// Those that were forgotten before they were read.
    missed: u64,
}

impl Requests {
    /// Reads what is new.
    async fn read(&mut self, podero: &ChaosWorld) {
        let new = podero.get(&format!("/requests?after={}", self.last)).await;
        for request in new.as_array().into_iter().flatten() {
            let number = request["number"].as_u64().expect("a number");
            self.missed += number - self.last - 1;
            self.last = number;
            // A run makes a hundred thousand requests, and most are questions.
            if request["has_acted"] == true {
                self.read.push(request.clone());
            }
        }
    }
}

/// The changes of one kind that Podero made for one event.
#[derive(Default)]
struct Made {
    /// The keys that name the changes: a repeat of a call has the same.
    keys: BTreeSet<String>,
    calls: usize,
}

/// The changes that Podero made, by event and action.
#[derive(Default)]
struct Changes {
    made: BTreeMap<(String, String), Made>,
    /// Each line is a change for no event.
    strange: Vec<String>,
}

impl Changes {
    /// Of the sandbox's log: each change is named by its event and its step, as the core names it. `recorded` says which event
    /// to try first; nothing is believed that the name does not show, and a call that a crash left unrecorded is looked for
    /// among all events.
    fn of(requests: &[Value], events: &[EventRow], recorded: &BTreeMap<String, String>) -> Self {
        let name =
            |event: &str, step: &str| Uuid::new_v5(&NAMESPACE, format!("step/{event}/{step}").as_bytes()).to_string();
        let mut known: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let mut changes = Self::default();
        for request in requests {
            let (Some(key), Some(operation)) = (request["idempotency_key"].as_str(), request["operation"].as_str())
            else {
                continue;
            };
            let steps = steps(operation, request["path"].as_str().unwrap_or_default());
            let is_of = |event: &str| steps.iter().any(|step| name(event, step) == key);
            let event = recorded.get(key).filter(|event| is_of(event)).cloned().or_else(|| match &steps[..] {
                // Names of creates are made once: those are the ones that a look-up after a crash spares a repeat.
                [step] if !step.contains('/') || step.ends_with("/main") => {
                    let of_step = known.entry(step.clone()).or_insert_with_key(|step| {
                        events.iter().map(|event| (name(&event.id, step), event.id.clone())).collect()
                    });
                    of_step.get(key).cloned()
                }
                _ => events.iter().find(|event| is_of(&event.id)).map(|event| event.id.clone()),
            });
            match event {
                Some(event) => {
                    let made = changes.made.entry((event, format!("podero.{operation}"))).or_default();
                    made.keys.insert(key.to_owned());
                    made.calls += 1;
                }
                None => changes.strange.push(format!("Podero made a change for no event: {request}")),
            }
        }
        changes
    }
}

/// The steps that a call of this kind may be.
fn steps(operation: &str, path: &str) -> Vec<String> {
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match operation {
        "create_user" => vec!["user".to_owned()],
        "update_user" => vec!["user/fields".to_owned()],
        "delete_user" => [true, false].map(|soft| format!("user/{last}/delete/{soft}")).to_vec(),
        "create_building" => vec!["building/main".to_owned()],
        "update_building" => vec![format!("building/{last}/fields")],
        "delete_building" => vec![format!("building/{last}/delete")],
        "update_heat_pump" => vec![format!("heat-pump/{last}/pause")],
        "create_onboarding_session" => vec!["onboarding/main".to_owned()],
        _ => Vec::new(),
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
