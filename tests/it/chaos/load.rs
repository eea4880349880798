//! The senders: billing systems that send the same again until an answer says that it arrived, and remember the answers.
//!
//! Webhooks go out in batches and one by one; a part goes through RabbitMQ, published with confirms. Nothing is sent
//! much faster than it is worked on, so that a blow at any moment meets arrivals and effects alike.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use rand::RngExt;
use serde_json::{Value, json};

use podero_bridge::pump;

use super::Plan;
use super::ledger::Ledger;
use super::world::ChaosWorld;
use crate::stories::{Expected, Stories, as_delivered};

const SENDERS: usize = 8;
const PUBLISHERS: usize = 12;
const BATCH_MAX: usize = 25;
/// Delay between two tries of the same.
const PAUSE: Duration = Duration::from_millis(100);
/// Timeout of a confirm: a broker that accepted the connection and then went away answers nothing.
const CONFIRM_TIME_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Events to send, and their outcome.
pub struct Load {
    pub ends: BTreeMap<String, Expected>,
    /// Every event's id.
    pub ids: BTreeSet<String>,
    /// The first event, by itself.
    first: [Value; 1],
    parcels: Mutex<VecDeque<Vec<Value>>>,
    frames: Mutex<VecDeque<Value>>,
    /// Parcels and frames that are not sent before [`Load::release`].
    held: Mutex<(VecDeque<Vec<Value>>, VecDeque<Value>)>,
    /// Senders wait while more than this was handed to them and has not come to an end.
    backlog_max: usize,
    /// Deliveries, repeats included.
    deliveries: usize,
    handed: AtomicUsize,
    /// Limit of deliveries that may go all the same.
    surge: AtomicUsize,
    surge_size: usize,
    told: Mutex<Told>,
    done: AtomicUsize,
    is_store_away: AtomicBool,
    is_over: AtomicBool,
    pub refused: AtomicUsize,
    pub unanswered: AtomicUsize,
}

/// The answers to the senders.
#[derive(Default)]
pub struct Told {
    /// Ids that were answered 202 by the webhook endpoint, or confirmed by RabbitMQ.
    pub taken: BTreeSet<String>,
    /// The number of `accepted` answers to an id, which are for its first arrival: never two.
    pub accepted: BTreeMap<String, usize>,
    /// Answers that no sender should get.
    pub wrong: Vec<String>,
}

/// The end of one attempt to post a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Posting {
    /// The answer is final, and was heard.
    Over,
    /// The answer is to come again.
    Refused,
    /// The parcel may have arrived or not.
    Unanswered,
}

impl Load {
    /// `by_queue`: half of it goes through RabbitMQ. `held`: this share of it is kept for [`Load::release`].
    pub fn new(plan: &Plan, by_queue: bool, held: f64) -> Arc<Self> {
        let mut dice = plan.dice(1);
        let Stories { events, ends } = Stories::tell(plan.customers, plan.events, &mut dice);
        let id = |event: &Value| event["id"].as_str().expect("an id").to_owned();
        let ids = events.iter().map(id).collect();
        let mut delivered = as_delivered(events, &mut dice);
        let deliveries = delivered.len();
        let first = [delivered[0].clone()];
        let later = delivered.split_off((deliveries as f64 * (1.0 - held)) as usize);
        let mut pack = |events: Vec<Value>| {
            let (by_hook, frames): (Vec<Value>, Vec<Value>) =
                events.into_iter().partition(|_| !by_queue || dice.random_range(0..2) == 0);
            let mut parcels = VecDeque::new();
            let mut rest = by_hook.into_iter().peekable();
            while rest.peek().is_some() {
                let size = if dice.random_range(0..2) == 0 { 1 } else { dice.random_range(2..=BATCH_MAX) };
                parcels.push_back(rest.by_ref().take(size).collect());
            }
            (parcels, VecDeque::from(frames))
        };
        let (parcels, frames) = pack(delivered);
        let held = pack(later);
        let surge_size = ((parcels.len() + frames.len()) / (2 * plan.blows + 2)).max(SENDERS);
        Arc::new(Self {
            ends,
            ids,
            first,
            surge: AtomicUsize::new(0),
            surge_size,
            parcels: Mutex::new(parcels),
            frames: Mutex::new(frames),
            held: Mutex::new(held),
            backlog_max: (plan.events / 20).max(50),
            deliveries,
            handed: AtomicUsize::new(0),
            told: Mutex::default(),
            done: AtomicUsize::new(0),
            is_store_away: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
        })
    }

    /// Lets the held part go after the first.
    pub fn release(&self) {
        let (parcels, frames) = std::mem::take(&mut *self.held.lock().expect("not poisoned"));
        self.parcels.lock().expect("not poisoned").extend(parcels);
        self.frames.lock().expect("not poisoned").extend(frames);
    }

    /// Sends until [`Load::finish`]; each sender is a task of its own.
    pub fn send(self: &Arc<Self>, world: &Arc<ChaosWorld>, amqp: Option<&str>) -> tokio::task::JoinSet<()> {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..SENDERS {
            let (load, world) = (self.clone(), world.clone());
            tasks.spawn(async move { load.webhooks(&world).await });
        }
        for _ in 0..amqp.map_or(0, |_| PUBLISHERS) {
            let (load, url) = (self.clone(), amqp.expect("counted above").to_owned());
            tasks.spawn(async move { load.publish(&url).await });
        }
        tasks
    }

    /// Keeps the senders' and the disturber's knowledge of the progress fresh, until it is dropped.
    pub async fn follow(&self, ledger: &Ledger) {
        loop {
            let progress = ledger.progress().await;
            // A store that is away: the senders are to meet it.
            self.is_store_away.store(progress.is_none(), Ordering::Relaxed);
            if let Some(progress) = progress {
                self.note(progress.done);
            }
            pump::sleep(LOOK_EVERY).await;
        }
    }

    /// Notes the number of events that have come to an end.
    pub fn note(&self, done: usize) {
        self.done.store(done, Ordering::Relaxed);
    }

    /// Nothing will be added: the senders go home when their last event has arrived.
    pub fn finish(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Lets some deliveries go beyond the backlog's limit: a blow that comes now meets arrivals.
    pub fn surge(&self) {
        self.surge.store(self.surge_size, Ordering::Relaxed);
    }

    /// Lets one more delivery of each sender go beyond the backlog's limit.
    pub fn trickle(&self) {
        self.surge.fetch_max(SENDERS, Ordering::Relaxed);
    }

    /// The share of all events that has come to an end.
    pub fn progress(&self) -> f64 {
        self.done.load(Ordering::Relaxed) as f64 / self.ids.len() as f64
    }

    /// Says whether everything that is not held has been handed to a sender.
    pub fn is_sent(&self) -> bool {
        self.parcels.lock().expect("not poisoned").is_empty() && self.frames.lock().expect("not poisoned").is_empty()
    }

    pub fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().expect("not poisoned")
    }

    /// The next of a queue, when the backlog lets it go; `None` at the end.
    async fn next<T>(&self, queue: &Mutex<VecDeque<T>>, size: impl Fn(&T) -> usize) -> Option<T> {
        loop {
            let may_go = self.backlog() < self.backlog_max
                || self.is_store_away.load(Ordering::Relaxed)
                || self.takes_part_in_a_surge();
            if may_go && let Some(next) = queue.lock().expect("not poisoned").pop_front() {
                self.handed.fetch_add(size(&next), Ordering::Relaxed);
                return Some(next);
            }
            if self.is_over.load(Ordering::Relaxed) && queue.lock().expect("not poisoned").is_empty() {
                return None;
            }
            pump::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Events under way, wherever they are: about, since repeats are not counted one by one.
    fn backlog(&self) -> usize {
        let handed = self.handed.load(Ordering::Relaxed) * self.ids.len() / self.deliveries;
        handed.saturating_sub(self.done.load(Ordering::Relaxed))
    }

    fn takes_part_in_a_surge(&self) -> bool {
        self.surge.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    async fn webhooks(&self, world: &ChaosWorld) {
        while let Some(parcel) = self.next(&self.parcels, Vec::len).await {
            while self.post(world, world.next_door(), &parcel).await != Posting::Over {
                pump::sleep(PAUSE).await;
            }
        }
    }

    /// Sends a replica the first event again, whatever the backlog; `true` if the answer is to come again. Where the event is
    /// taken once more, it changes nothing.
    pub async fn is_refused_by(&self, world: &ChaosWorld, number: usize) -> bool {
        let door = world.doors(number).map(|doors| doors.webhooks);
        self.post(world, door, &self.first).await == Posting::Refused
    }

    async fn post(&self, world: &ChaosWorld, door: Option<String>, parcel: &[Value]) -> Posting {
        let Some(door) = door else { return Posting::Unanswered };
        let (content_type, body) = match parcel {
            [one] => ("application/cloudevents+json", one.to_string()),
            many => ("application/cloudevents-batch+json", json!(many).to_string()),
        };
        let request = world.http.post(door).header("content-type", content_type).body(body);
        let Ok(answer) = request.send().await else {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            return Posting::Unanswered;
        };
        let status = answer.status().as_u16();
        if status == 503 {
            self.refused.fetch_add(1, Ordering::Relaxed);
            if !answer.headers().contains_key("retry-after") {
                self.told().wrong.push("503 without Retry-After".to_owned());
            }
            return Posting::Refused;
        }
        let Ok(answer) = answer.json::<Value>().await else {
            // Cut in the middle: the answer is unknown.
            self.unanswered.fetch_add(1, Ordering::Relaxed);
            return Posting::Unanswered;
        };
        self.hear(parcel, status, &answer);
        Posting::Over
    }

    fn hear(&self, parcel: &[Value], status: u16, answer: &Value) {
        let mut told = self.told();
        let results = match (&answer["results"], parcel) {
            (Value::Array(results), _) => results.clone(),
            (_, [_]) => vec![answer.clone()],
            (_, _) => Vec::new(),
        };
        if status != 202 || results.len() != parcel.len() {
            told.wrong.push(format!("{status}: {answer}"));
            return;
        }
        for (event, result) in parcel.iter().zip(results) {
            let id = event["id"].as_str().expect("an id").to_owned();
            match result["status"].as_str() {
                Some("accepted") => {
                    *told.accepted.entry(id.clone()).or_default() += 1;
                    told.taken.insert(id);
                }
                Some("duplicate") => {
                    told.taken.insert(id);
                }
                _ => told.wrong.push(format!("{id}: {result}")),
            }
        }
    }

    async fn publish(&self, url: &str) {
        let mut channel = None;
        while let Some(event) = self.next(&self.frames, |_| 1).await {
            loop {
                let tried = tokio::time::timeout(CONFIRM_TIME_MAX, try_publish(url, &mut channel, &event)).await;
                if tried.unwrap_or(false) {
                    break;
                }
                self.unanswered.fetch_add(1, Ordering::Relaxed);
                channel = None;
                pump::sleep(PAUSE).await;
            }
            self.told().taken.insert(event["id"].as_str().expect("an id").to_owned());
        }
    }
}

/// `false`: not confirmed.
async fn try_publish(url: &str, channel: &mut Option<(Connection, Channel)>, event: &Value) -> bool {
    if channel.is_none() {
        *channel = connect(url).await.ok();
    }
    let Some((_, open)) = channel else { return false };
    let properties =
        BasicProperties::default().with_content_type("application/cloudevents+json".into()).with_delivery_mode(2);
    let key = event["type"].as_str().expect("a type").into();
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let body = event.to_string();
    let sent = open.basic_publish("customer.lifecycle".into(), key, options, body.as_bytes(), properties).await;
    let Ok(confirm) = sent else { return false };
    // Acknowledged, and not returned: it is in the queue.
    matches!(confirm.await, Ok(Confirmation::Ack(None)))
}

async fn connect(url: &str) -> lapin::Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}
