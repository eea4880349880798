//! One bridge of the simulation: the real inbox, appliers, watch, publisher and store, each step an actor that the run
//! polls by hand.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use podero_bridge::apply::Applier;
use podero_bridge::broker::{Frame, Intake, IntakeResult, Properties};
use podero_bridge::clock::Clock;
use podero_bridge::config::{Config, Source, Verify};
use podero_bridge::domain::alert::WatchPolicy;
use podero_bridge::domain::event::Transport;
use podero_bridge::domain::plan::Policy;
use podero_bridge::domain::{EventId, Timestamp};
use podero_bridge::inbound::amqp::Frames;
use podero_bridge::inbound::mapping::mapper::Mapper;
use podero_bridge::inbound::{AllowedTypes, Backlog, Delivery, Inbox, TreeBudget, signature};
use podero_bridge::metrics::Metrics;
use podero_bridge::outbound::{Publisher, ToBroker};
use podero_bridge::permits::Permits;
use podero_bridge::problem::ProblemKind;
use podero_bridge::staff::Staffing;
use podero_bridge::store::{Receipt, RetryRequest, Settings, Store, Target};
use podero_bridge::watch::Watcher;
use tokio::sync::Notify;

use super::gates::{Gates, asking_as};
use crate::kit::BY;

/// Limit of one call's time in this world; the lease of a claim follows from it.
const CALL_TIME_MAX: Duration = Duration::from_secs(40);
/// The part of it for the last request. A request without an answer is under way for no longer.
pub(super) const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// Task of an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Takes the delivery of this number at the webhook endpoint.
    Webhook(usize),
    /// Takes the delivery of this number from the queue.
    Frame(usize),
    Apply,
    /// Works on an event of a member.
    ApplyMember,
    /// Reads the list of the staff.
    ListStaff,
    Promote,
    Roster,
    Poll,
    Publish,
    /// An operator retries a parked event.
    Unpark(EventId),
    /// An operator approves an event that the brake has parked.
    Approve(EventId),
}

/// End of an actor.
#[derive(Debug, PartialEq)]
pub(super) enum Done {
    Stepped,
    /// The sender's answer: whether it means that the event is ours.
    Answered(bool),
    IntakeResult(IntakeResult),
}

/// One step of one stage, under way.
pub(super) struct Actor {
    pub(super) id: u64,
    pub(super) replica: usize,
    pub(super) kind: Kind,
    future: LocalBoxFuture<'static, Done>,
    flag: Arc<Flag>,
}

/// True once the thing that the actor waits for has come.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Actor {
    pub(super) fn may_go_on(&self) -> bool {
        self.flag.0.load(Ordering::SeqCst)
    }

    /// Goes on until it waits again.
    pub(super) fn poll(&mut self) -> Poll<Done> {
        self.flag.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(self.flag.clone());
        asking_as(self.id);
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// As [`Actor::poll`], waking the run itself.
    pub(super) fn poll_with(&mut self, context: &mut Context<'_>) -> Poll<Done> {
        self.flag.0.store(false, Ordering::SeqCst);
        asking_as(self.id);
        self.future.as_mut().poll(context)
    }
}

/// Settings that the operator of a run chose.
pub(super) struct Rules {
    pub(super) policy: Policy,
    pub(super) watch: WatchPolicy,
}

/// One bridge.
pub(super) struct Replica {
    pub(super) store: Store,
    writer: Pin<Box<dyn Future<Output = ()>>>,
    applier: Arc<Applier<Gates>>,
    team_applier: Arc<Applier<Gates>>,
    staffing: Arc<Staffing<Gates>>,
    watcher: Arc<Watcher<Gates>>,
    publisher: Arc<Publisher<ToBroker<Gates>>>,
    frames: Arc<Frames>,
    /// True if stopped by a signal: nothing of it goes on until a signal lets it.
    pub(super) is_frozen: bool,
}

impl Replica {
    pub(super) async fn open(file: &Path, clock: &Clock, gates: &Gates, rules: &Rules) -> Self {
        let url = format!("sqlite://{}", file.display());
        if !file.exists() {
            let settings = Settings { url: url.clone(), targets: Vec::new(), works: true };
            let (store, writer) = Store::open(settings, clock.clone()).await.expect("the file is made");
            drop(store);
            writer.run().await;
        }
        // Not the file's only worker: what a crash leaves comes back by its lease, as on PostgreSQL.
        let settings = Settings { url, targets: vec![Target::Amqp], works: false };
        let (store, writer) = Store::open(settings, clock.clone()).await.expect("the file opens");
        let metrics = Metrics::new();
        let (wake, wake_outbound) = (Arc::default(), Arc::default());
        let inbox = Inbox {
            store: store.clone(),
            clock: clock.clone(),
            wake: Arc::clone(&wake),
            wake_team: Arc::default(),
            metrics: metrics.clone(),
            batch_max: 100,
            body_bytes_max: 1 << 20,
            backlog: Backlog::new(u64::MAX),
            trees: TreeBudget::default(),
            mapper: Mapper::none(),
            types: AllowedTypes::of(&sources()).with_team(&rules.policy.team),
        };
        let applier = |wake: Arc<Notify>| {
            Arc::new(Applier {
                store: store.clone(),
                partner: gates.clone(),
                policy: rules.policy.clone(),
                clock: clock.clone(),
                metrics: metrics.clone(),
                wake: wake.clone(),
                wake_outbound: Arc::clone(&wake_outbound),
                call_time_max: CALL_TIME_MAX,
                request_time_max: REQUEST_TIME_MAX,
                permits: Permits::waking(wake),
            })
        };
        let policy = rules.policy.team.clone();
        Self {
            writer: Box::pin(writer.run()),
            applier: applier(wake),
            team_applier: applier(Arc::default()),
            staffing: Arc::new(Staffing { store: store.clone(), partner: gates.clone(), clock: clock.clone(), policy }),
            watcher: Arc::new(Watcher {
                store: store.clone(),
                partner: gates.clone(),
                policy: rules.watch,
                region_chars: 0,
                lease: CALL_TIME_MAX,
                look_every: None,
                clock: clock.clone(),
                wake_outbound: Arc::clone(&wake_outbound),
                self_service: None,
            }),
            publisher: Arc::new(Publisher {
                store: store.clone(),
                deliver: ToBroker(gates.clone()),
                clock: clock.clone(),
                metrics,
            }),
            frames: Arc::new(Frames { inbox, source: "default".to_owned(), appliers: Permits::default() }),
            store,
            is_frozen: false,
        }
    }

    /// Begins a step; it does nothing before it is polled.
    pub(super) fn actor(&self, id: u64, replica: usize, kind: Kind, body: &str, now: Timestamp) -> Actor {
        let future: LocalBoxFuture<'static, Done> = match kind {
            Kind::Webhook(_) => {
                let (inbox, delivery) = (self.frames.inbox.clone(), webhook(body, now));
                Box::pin(async move { Done::Answered(is_kept(&inbox, delivery).await) })
            }
            Kind::Frame(_) => {
                let (frames, frame) = (self.frames.clone(), frame(body));
                Box::pin(async move { Done::IntakeResult(frames.take(frame).await) })
            }
            Kind::Apply => stepping(self.applier.clone(), async |stage| {
                stage.step().await;
            }),
            Kind::ApplyMember => stepping(self.team_applier.clone(), async |stage| {
                stage.member_step().await;
            }),
            Kind::ListStaff => stepping(self.staffing.clone(), async |stage| {
                stage.list_step().await;
            }),
            Kind::Promote => stepping(self.store.clone(), async |store| {
                let _ = store.promote().await;
            }),
            Kind::Roster => stepping(self.watcher.clone(), async |stage| {
                stage.roster_step().await;
            }),
            Kind::Poll => stepping(self.watcher.clone(), async |stage| {
                stage.poll_step().await;
            }),
            Kind::Publish => stepping(self.publisher.clone(), async |stage| {
                stage.step().await;
            }),
            Kind::Unpark(event) => stepping(self.store.clone(), async move |store| {
                let _ = store.unpark(event, RetryRequest::Retry, BY).await;
            }),
            Kind::Approve(event) => stepping(self.store.clone(), async move |store| {
                let _ = store.unpark(event, RetryRequest::Approve, BY).await;
            }),
        };
        Actor { id, replica, kind, future, flag: Arc::new(Flag(AtomicBool::new(true))) }
    }

    /// Lets the writer commit everything that waits for it: the last write that is asked for is answered last.
    pub(super) async fn commit(&mut self) {
        let store = self.store.clone();
        let mut last = Box::pin(async move {
            store.put_duty_off("simulation", Timestamp::from_micros(0)).await.expect("the file is there");
        });
        std::future::poll_fn(|context| {
            let answered = last.as_mut().poll(context);
            let _ = self.writer.as_mut().poll(context);
            answered
        })
        .await;
    }

    /// Lets one actor and the writer go on until the actor has ended or asks the world outside.
    pub(super) async fn run_through(&mut self, actor: &mut Actor, gates: &Gates) -> Option<Done> {
        std::future::poll_fn(|context| {
            if let Poll::Ready(done) = actor.poll_with(context) {
                return Poll::Ready(Some(done));
            }
            if gates.has_question_of(actor.id) {
                return Poll::Ready(None);
            }
            let _ = self.writer.as_mut().poll(context);
            Poll::Pending
        })
        .await
    }
}

fn stepping<S: 'static>(stage: S, step: impl AsyncFnOnce(S) + 'static) -> LocalBoxFuture<'static, Done> {
    Box::pin(async move {
        step(stage).await;
        Done::Stepped
    })
}

/// The one source of this world, which may send everything.
fn sources() -> Vec<Source> {
    let text = "[[source]]\nname = 'default'\nverify = 'none'\ntypes = ['customer.*', 'team.*']";
    Config::parse(text, &BTreeMap::new(), true).expect("it is right").sources
}

fn webhook(body: &str, now: Timestamp) -> Delivery {
    Delivery {
        transport: Transport::Http,
        source: "default".to_owned(),
        content_type: Some("application/cloudevents+json".to_owned()),
        headers: BTreeMap::new(),
        body: body.as_bytes().to_vec(),
        received_at: now,
    }
}

fn frame(body: &str) -> Frame {
    Frame {
        body: body.as_bytes().to_vec(),
        content_type: Some("application/cloudevents+json".to_owned()),
        content_encoding: None,
        headers: BTreeMap::new(),
        message_id: None,
        exchange: String::new(),
        routing_key: "customer".to_owned(),
        properties: Properties::default(),
        redelivered: false,
    }
}

/// Says whether the answer to the delivery would be a success.
async fn is_kept(inbox: &Inbox, delivery: Delivery) -> bool {
    let now = delivery.received_at;
    let verified = signature::verify(&Verify::None, delivery, now).expect("nothing is demanded");
    match inbox.accept(verified).await {
        Ok(answers) => match &answers.items[..] {
            [Ok(Receipt::Accepted { .. } | Receipt::Duplicate { .. })] => true,
            _ => panic!("a good event was answered {answers:?}"),
        },
        Err(problem) if problem.kind == ProblemKind::Unavailable => false,
        Err(problem) => panic!("a good event was refused: {problem:?}"),
    }
}
