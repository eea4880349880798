//! One run: a seed, some customers, two or three bridges on one file, and a world that does its worst; then calm, in
//! which everything must come to rest.
//!
//! One thread, and one actor polled at a time: what happens follows from the seed alone. A bridge's writes wait until
//! the run lets its writer commit, so that a crash can fall before the commit, after it, and after its answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::task::Poll;
use std::time::Duration;

use podero_bridge::broker::{IntakeResult, OutgoingNotice, Published};
use podero_bridge::clock::Clock;
use podero_bridge::domain::alert::WatchPolicy;
use podero_bridge::domain::brake::Brake;
use podero_bridge::domain::call::{Call, OnboardingPolicy, Refusal, RefusalKind, Reply};
use podero_bridge::domain::plan::{ChurnDelete, OldBuilding, OldHeatPumps, Policy};
use podero_bridge::domain::retry::RetrySchedule;
use podero_bridge::domain::team::{MemberCall, TeamPolicy};
use podero_bridge::domain::{EventId, Timestamp};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::gates::{Answer, Asked, Gates, Question, Wish};
use super::lives::{Told, life};
use super::members::{ToldOfMember, founder_email, member_life};
use super::observer::Observer;
use super::planted::Planted;
use super::podero::Podero;
use super::replica::{Actor, Done, Kind, REQUEST_TIME_MAX, Replica, Rules};

/// End of a run.
pub(super) struct Report {
    /// Everything that happened, in order: the same for the same seed.
    pub(super) history: Vec<String>,
    /// The first promise that was broken.
    pub(super) broken: Option<String>,
    /// The number of strikes of each kind: calls, publishes, crashes.
    pub(super) strikes: BTreeMap<&'static str, usize>,
}

/// Length of the bad weather in actions, give or take.
const ACTIONS: usize = 560;
/// Limit of the looks at what is due next, in calm, until everything rests.
const ROUNDS_MAX: usize = 600;
/// Limit of the polls of one round, in calm.
const ROUND_POLLS_MAX: usize = 20_000;
/// Appliers that make a bridge busy: one customer's step holds one of them.
const APPLIERS: usize = 3;

/// Limit of the time by which the clock is set back at once.
const CLOCK_BACK_MAX: Duration = Duration::from_secs(5);

/// Result of a check: the broken promise.
pub(super) type Check = Result<(), String>;

/// Probability of each kind of weather in this run: drawn again for each seed, so that some runs are all of one kind.
struct Weather {
    calm: u32,
    faults: Vec<(Fault, u32)>,
    crash: u32,
    pumps: u32,
    polls: u32,
    freeze: u32,
    drop: u32,
    leap: u32,
    publish_fault: u32,
}

/// Outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Podero acted, and its answer was lost.
    ActedUnheard,
    /// Podero acted, and its answer comes late.
    Late,
    /// Podero acted, and answered with a page of HTML.
    Garbage,
    /// The answer is lost, and the call arrives within the time of a request.
    ActsLater,
    /// It did not arrive, and the bridge does not know.
    Lost,
    /// It surely was not sent.
    Unsent,
    /// 5xx.
    ServerError,
    /// 429.
    Busy,
    /// 403.
    Held,
    /// 400.
    Refused,
}

const FAULTS: [Fault; 10] = [
    Fault::ActedUnheard,
    Fault::Late,
    Fault::Garbage,
    Fault::ActsLater,
    Fault::Lost,
    Fault::Unsent,
    Fault::ServerError,
    Fault::Busy,
    Fault::Held,
    Fault::Refused,
];

impl Weather {
    fn of(dice: &mut StdRng) -> Self {
        // Swarm: most kinds are off in most runs, so that those which are on meet undisturbed code.
        let mut often =
            |odds: u32, most: u32| if dice.random_range(0..odds) == 0 { dice.random_range(1..=most) } else { 0 };
        Self {
            calm: 1 + often(1, 30),
            faults: FAULTS.map(|fault| (fault, often(3, 9))).to_vec(),
            crash: often(2, 6),
            pumps: 4 + often(2, 20),
            polls: 3 + often(2, 12),
            freeze: often(3, 6),
            drop: often(3, 4),
            leap: often(2, 4),
            publish_fault: often(2, 12),
        }
    }
}

/// A delivery on its way: an event, by webhook or by queue.
#[derive(Clone, Copy)]
struct Sent {
    /// Its place among all events, those of members after those of customers.
    event: usize,
    by_queue: bool,
}

/// Time of the next work.
enum Due {
    Now,
    At(Timestamp),
    /// Everything rests.
    Never,
}

/// A call that is on the wire still although its asker has given it up.
struct OnTheWire {
    asker: u64,
    arrives: Timestamp,
    call: Asked,
}

/// An answer that is under way for longer than its asker expected.
struct LateAnswer {
    asker: u64,
    reply: oneshot::Sender<Reply<Answer>>,
    answer: Reply<Answer>,
}

pub(super) struct Run {
    dice: StdRng,
    clock: Clock,
    weather: Weather,
    rules: Rules,
    /// The brake as the oracle knows it: the bridges' own, unless a mistake is planted in it.
    brake: Option<Brake>,
    file: PathBuf,
    gates: Gates,
    pub(super) podero: Podero,
    replicas: Vec<Replica>,
    actors: Vec<Actor>,
    actors_made: u64,
    late: Vec<LateAnswer>,
    on_the_wire: Vec<OnTheWire>,
    pub(super) told: Vec<Told>,
    pub(super) team: Vec<ToldOfMember>,
    sent: Vec<Sent>,
    /// Deliveries that no replica took yet.
    to_send: VecDeque<usize>,
    /// Events whose sender got the answer that they are ours.
    pub(super) accepted: BTreeSet<String>,
    /// Bodies that the broker has, by id.
    pub(super) published: BTreeMap<String, Vec<u8>>,
    /// The order in which the broker first had them.
    pub(super) first_published: Vec<String>,
    /// Buildings that Podero would not delete: they stay, and are no customer's home.
    pub(super) undeletable: BTreeSet<Uuid>,
    pub(super) observer: Observer,
    history: Vec<String>,
    pub(super) strikes: BTreeMap<&'static str, usize>,
    /// Claims, ends, calls and publishes so far.
    moves: usize,
    looked_after: BTreeSet<String>,
    is_calm: bool,
    is_shown: bool,
}

/// Plays a seed to its end; shows what happens as it happens, so that one which hangs is understood as well.
pub(super) async fn play(seed: u64, planted: Planted, is_shown: bool) -> Report {
    // Memory where there is some: ten thousand runs would wait for the disk for hours, and no run pulls its plug.
    let folder = tempfile::Builder::new()
        .prefix("podero-bridge-simulation.")
        .tempdir_in(if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() })
        .expect("a temporary folder");
    let mut run = Run::open(seed, planted, folder.path().join("bridge.db")).await;
    run.is_shown = is_shown;
    let broken = run.weathered().await.err();
    Report { history: run.history, broken, strikes: run.strikes }
}

impl Run {
    async fn open(seed: u64, planted: Planted, file: PathBuf) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let start = Timestamp::parse("2026-10-01T00:00:00Z").expect("valid");
        let clock = Clock::manual(start.plus(Duration::from_secs(2 * 86_400)), seed);
        let mut rules = rules(&mut dice);
        let brake = brake(seed);
        rules.policy.brake = planted.in_brake(brake);
        let now = clock.now();
        let founded = Founded::of(seed, start, now);
        rules.policy.team = founded.policy;
        let gates = Gates::with(planted);
        let mut replicas = Vec::new();
        for _ in 0..dice.random_range(1..=3) {
            replicas.push(Replica::open(&file, &clock, &gates, &rules).await);
        }
        let told: Vec<Told> = (0..dice.random_range(1..=5)).flat_map(|number| life(number, start, &mut dice)).collect();
        let subjects = told.iter().map(|told| told.customer.as_str());
        let subjects: Vec<&str> = subjects.chain(founded.team.iter().map(|told| told.member.as_str())).collect();
        let (sent, to_send) = deliveries(&subjects, &mut dice);
        let mut podero = Podero::new(seed);
        podero.lists_buildings = dice.random_range(0..6) > 0;
        podero.found(&founded.admins, founded.have_all_joined, rules.policy.team.min_admins, now);
        let mut observer = Observer::open(&file).await;
        if let Some(statement) = planted.in_store() {
            observer.plant(statement).await;
        }
        Self {
            weather: Weather::of(&mut dice),
            observer,
            podero,
            clock,
            rules,
            brake,
            file,
            gates,
            replicas,
            actors: Vec::new(),
            actors_made: 0,
            late: Vec::new(),
            on_the_wire: Vec::new(),
            told,
            team: founded.team,
            sent,
            to_send,
            accepted: BTreeSet::new(),
            published: BTreeMap::new(),
            first_published: Vec::new(),
            undeletable: BTreeSet::new(),
            history: Vec::new(),
            strikes: BTreeMap::new(),
            moves: 0,
            looked_after: BTreeSet::new(),
            is_calm: false,
            is_shown: false,
            dice,
        }
    }

    async fn weathered(&mut self) -> Check {
        for _ in 0..ACTIONS {
            self.act().await?;
        }
        self.calm().await?;
        super::promises::kept(self).await
    }

    fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        if self.is_shown {
            eprintln!("{what}");
        }
        self.history.push(what);
    }

    fn strike(&mut self, what: &'static str) {
        *self.strikes.entry(what).or_default() += 1;
    }

    /// One thing happens.
    async fn act(&mut self) -> Check {
        let weather = &self.weather;
        let choices = [
            14, // a sender sends
            22, // a step begins
            24, // a writer commits, and whoever waited for it goes on
            26, // a question is answered
            4,  // a late answer arrives
            12, // time passes
            weather.pumps, 2, // an operator retries
            weather.crash, weather.freeze, weather.drop, 3, // a person accepts an invitation
        ];
        match pick(&choices, &mut self.dice) {
            0 => self.send().await,
            1 => self.begin_step().await,
            2 => self.commit().await,
            3 => self.answer_one().await,
            4 => self.deliver_late().await,
            5 => self.pass_time(),
            6 => self.pumps_live(),
            7 => self.retry_parked().await,
            8 => self.crash().await,
            9 => self.freeze(),
            10 => self.drop_actor(),
            _ => {
                let place = self.dice.random_range(0..8);
                if let Some(email) = self.podero.join(place, self.clock.now()) {
                    self.note(format!("{email} accepts the invitation"));
                }
                Ok(())
            }
        }
    }

    /// The event of a delivery: its body and its id.
    fn message(&self, number: usize) -> (serde_json::Value, &str) {
        let event = self.sent[number].event;
        match event.checked_sub(self.told.len()) {
            None => (self.told[event].json(), &self.told[event].id),
            Some(place) => (self.team[place].json(), &self.team[place].id),
        }
    }

    // --- senders ---------------------------------------------------------------------------------------------

    async fn send(&mut self) -> Check {
        let Some(replica) = self.some_replica() else { return Ok(()) };
        let Some(number) = self.to_send.pop_front() else { return Ok(()) };
        let sent = self.sent[number];
        let kind = if sent.by_queue { Kind::Frame(number) } else { Kind::Webhook(number) };
        self.begin(replica, kind).await
    }

    fn some_replica(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..self.replicas.len()).filter(|place| !self.replicas[*place].is_frozen).collect();
        if up.is_empty() { None } else { Some(up[self.dice.random_range(0..up.len())]) }
    }

    // --- steps -----------------------------------------------------------------------------------------------

    async fn begin_step(&mut self) -> Check {
        let Some(replica) = self.some_replica() else { return Ok(()) };
        let kinds =
            [Kind::Apply, Kind::ApplyMember, Kind::ListStaff, Kind::Publish, Kind::Promote, Kind::Poll, Kind::Roster];
        let kind = kinds[pick(&[12, 12, 1, 4, 2, self.weather.polls, self.weather.polls / 2], &mut self.dice)];
        self.begin_if_free(replica, kind).await
    }

    async fn begin_if_free(&mut self, replica: usize, kind: Kind) -> Check {
        let at_once = if matches!(kind, Kind::Apply | Kind::ApplyMember) { APPLIERS } else { 1 };
        let busy = self.actors.iter().filter(|actor| actor.replica == replica && actor.kind == kind).count();
        if busy < at_once { self.begin(replica, kind).await } else { Ok(()) }
    }

    async fn begin(&mut self, replica: usize, kind: Kind) -> Check {
        self.actors_made += 1;
        let body = match kind {
            Kind::Webhook(number) | Kind::Frame(number) => self.message(number).0.to_string(),
            Kind::Apply
            | Kind::ApplyMember
            | Kind::ListStaff
            | Kind::Promote
            | Kind::Roster
            | Kind::Poll
            | Kind::Publish
            | Kind::Unpark(_)
            | Kind::Approve(_) => String::new(),
        };
        let id = self.actors_made;
        self.note(format!("{replica}: {id} begins {kind:?}"));
        let actor = self.replicas[replica].actor(id, replica, kind, &body, self.clock.now());
        self.actors.push(actor);
        self.go_on(self.actors.len() - 1).await
    }

    /// Polls one actor until it waits again, and takes what it ended with.
    async fn go_on(&mut self, place: usize) -> Check {
        let actor = &mut self.actors[place];
        // The roster reads next to the writer, so only the machine knows how often it waits: it goes on in one go.
        let done = if actor.kind == Kind::Roster {
            let replica = &mut self.replicas[actor.replica];
            let done = replica.run_through(actor, &self.gates).await;
            replica.commit().await;
            self.observe().await?;
            done
        } else {
            match actor.poll() {
                Poll::Ready(done) => Some(done),
                Poll::Pending => None,
            }
        };
        let Some(done) = done else { return Ok(()) };
        let actor = self.actors.remove(place);
        self.note(format!("{}: {} ended {done:?}", actor.replica, actor.id));
        match (actor.kind, done) {
            (Kind::Webhook(number), Done::Answered(true))
            | (Kind::Frame(number), Done::IntakeResult(IntakeResult::Stored)) => {
                let id = self.message(number).1.to_owned();
                self.accepted.insert(id);
            }
            (Kind::Webhook(number) | Kind::Frame(number), _) => self.to_send.push_back(number),
            (
                Kind::Apply
                | Kind::ApplyMember
                | Kind::ListStaff
                | Kind::Promote
                | Kind::Roster
                | Kind::Poll
                | Kind::Publish
                | Kind::Unpark(_)
                | Kind::Approve(_),
                _,
            ) => {}
        }
        Ok(())
    }

    // --- the store -------------------------------------------------------------------------------------------

    async fn commit(&mut self) -> Check {
        let Some(replica) = self.some_replica() else { return Ok(()) };
        self.commit_of(replica).await
    }

    /// Commits, and lets the actors that waited for it go on; sometimes not all of them yet.
    async fn commit_of(&mut self, replica: usize) -> Check {
        self.replicas[replica].commit().await;
        self.observe().await?;
        let mut awake = self.awake(replica);
        awake.shuffle(&mut self.dice);
        for id in awake {
            if self.is_calm || self.dice.random_range(0..8) > 0 {
                self.go_on_with(id).await?;
            }
        }
        Ok(())
    }

    fn awake(&self, replica: usize) -> Vec<u64> {
        let awake = self.actors.iter().filter(|actor| actor.replica == replica && actor.may_go_on());
        awake.map(|actor| actor.id).collect()
    }

    async fn go_on_with(&mut self, id: u64) -> Check {
        match self.actors.iter().position(|actor| actor.id == id) {
            Some(place) => self.go_on(place).await,
            None => Ok(()),
        }
    }

    /// Checks that the commit keeps the promises that hold at every moment.
    async fn observe(&mut self) -> Check {
        let news = self.observer.look(self.clock.now()).await?;
        self.moves += news.len();
        news.into_iter().for_each(|what| self.note(what));
        let Some(brake) = self.brake else { return Ok(()) };
        let (admitted, braked) = self.observer.look_at_brake(brake, self.clock.now()).await?;
        *self.strikes.entry("admitted by the brake").or_default() += admitted;
        *self.strikes.entry("parked by the brake").or_default() += braked;
        Ok(())
    }

    /// Checks that a call that takes a customer away on behalf of a churn has a clearance on disk.
    async fn is_cleared(&mut self, call: &Asked, key: Option<Uuid>) -> Check {
        if let Asked::Member(call @ MemberCall::DeleteMember { .. }, _) = call {
            return self.is_removal_due(call, key).await;
        }
        let Asked::Event(call) = call else { return Ok(()) };
        let takes_away = matches!(call, Call::DeleteUser { .. } | Call::PauseHeatPump { .. });
        if self.brake.is_none() || !takes_away {
            return Ok(());
        }
        for (id, clearance) in self.observer.churns().await {
            if call.idempotency_key(event_id(&id)) == key && clearance.is_none() {
                return Err(format!("brake: {call:?} is asked for {id}, which was neither admitted nor approved"));
            }
        }
        Ok(())
    }

    /// Checks that a member is removed for an event that asks for it, and for the end of an access not before that.
    async fn is_removal_due(&mut self, call: &MemberCall, key: Option<Uuid>) -> Check {
        let latest = self.clock.now().plus(CLOCK_BACK_MAX);
        let removals = self.observer.removals().await;
        match removals.iter().find(|(id, _)| call.idempotency_key(event_id(id)) == key) {
            None => Err(format!("team: {call:?} is asked for by no event that takes the access away")),
            Some((id, from)) if *from > latest => Err(format!("team: {call:?} of {id} is asked for before {from}")),
            Some(_) => Ok(()),
        }
    }

    // --- the world outside -----------------------------------------------------------------------------------

    async fn answer_one(&mut self) -> Check {
        let count = self.gates.waiting().len();
        if count == 0 {
            return Ok(());
        }
        let place = self.dice.random_range(0..count);
        let question = self.gates.waiting().remove(place);
        if self.is_deaf(question.asker) {
            self.gates.waiting().push(question);
            return Ok(());
        }
        self.answer(question).await
    }

    /// A roster goes on as soon as it is answered, which a bridge that is stopped cannot.
    fn is_deaf(&self, asker: u64) -> bool {
        let asker = self.actors.iter().find(|actor| actor.id == asker);
        asker.is_some_and(|actor| actor.kind == Kind::Roster && self.replicas[actor.replica].is_frozen)
    }

    async fn answer(&mut self, question: Question) -> Check {
        let asker = question.asker;
        match question.wish {
            Wish::Call { call, key, until, reply } => {
                let now = self.clock.now();
                if until.is_some_and(|until| now >= until) {
                    self.strike("too late to send");
                    let _ = reply.send(Reply::Unsent { why: "the claim's time was over" });
                } else {
                    self.is_cleared(&call, key).await?;
                    let fault = self.fault();
                    self.call(asker, &call, reply, fault)?;
                    if fault == Some(Fault::Late) {
                        return Ok(());
                    }
                }
            }
            Wish::Publish { outgoing, outcome } => {
                let published = self.publish(&outgoing).await?;
                self.moves += 1;
                self.note(format!("{asker} publishes {}: {published:?}", outgoing.id));
                let _ = outcome.send(published);
            }
        }
        self.go_on_unless_frozen(asker).await
    }

    async fn go_on_unless_frozen(&mut self, asker: u64) -> Check {
        let replica = self.actors.iter().find(|actor| actor.id == asker).map(|actor| actor.replica);
        if replica.is_some_and(|replica| !self.replicas[replica].is_frozen) {
            self.go_on_with(asker).await?;
        }
        Ok(())
    }

    fn fault(&mut self) -> Option<Fault> {
        if self.is_calm {
            return None;
        }
        let mut weights = vec![self.weather.calm];
        weights.extend(self.weather.faults.iter().map(|(_, weight)| *weight));
        pick(&weights, &mut self.dice).checked_sub(1).map(|place| self.weather.faults[place].0)
    }

    fn call(&mut self, asker: u64, call: &Asked, reply: oneshot::Sender<Reply<Answer>>, fault: Option<Fault>) -> Check {
        let acts = matches!(fault, None | Some(Fault::ActedUnheard | Fault::Late | Fault::Garbage));
        let answer = if acts { Some(self.podero.act(call, self.clock.now())?) } else { None };
        self.moves += 1;
        self.note(format!("{asker} calls {call:?}: {fault:?} {answer:?}"));
        self.strike(match fault {
            None => "answered",
            Some(Fault::ActedUnheard | Fault::Garbage) => "acted, unheard",
            Some(Fault::Late) => "answered late",
            Some(Fault::ActsLater) => "acted later, unheard",
            Some(Fault::Lost | Fault::ServerError) => "did not act, in doubt",
            Some(Fault::Unsent) => "unsent",
            Some(Fault::Busy | Fault::Held) => "busy or held",
            Some(Fault::Refused) => "refused",
        });
        let unknown = |why| Reply::Unknown { why };
        let replied = match (fault, answer) {
            (None, Some(answer)) => answer,
            (Some(Fault::Late), Some(answer)) => {
                self.late.push(LateAnswer { asker, reply, answer });
                return Ok(());
            }
            (Some(Fault::ActsLater), _) => {
                self.put_on_the_wire(asker, call.clone(), REQUEST_TIME_MAX);
                unknown("no answer in time")
            }
            (Some(Fault::Lost), _) => unknown("no answer in time"),
            (Some(Fault::ServerError), _) => unknown("server error"),
            (Some(Fault::Unsent), _) => Reply::Unsent { why: "no connection" },
            (Some(Fault::Busy), _) => {
                let after =
                    (self.dice.random_range(0..2) == 0).then(|| Duration::from_secs(self.dice.random_range(1..90)));
                Reply::Busy { after }
            }
            (Some(Fault::Held), _) => Reply::Held { status: 403 },
            (Some(Fault::Refused), _) => {
                if let Asked::Event(Call::DeleteBuilding { building, .. }) = call {
                    self.undeletable.insert(*building);
                }
                Reply::Refused(Refusal { kind: RefusalKind::Invalid, status: 400, detail: "no".to_owned() })
            }
            (None | Some(Fault::ActedUnheard | Fault::Late), _) => unknown("connection cut"),
            (Some(Fault::Garbage), _) => unknown("not what was asked for"),
        };
        let _ = reply.send(replied);
        Ok(())
    }

    /// Podero acts within the time of a request after the asker gave it up, or was to give it up.
    fn put_on_the_wire(&mut self, asker: u64, call: Asked, within: Duration) {
        let takes = Duration::from_micros(self.dice.random_range(0..within.as_micros() as u64));
        let arrives = self.clock.now().plus(takes);
        self.on_the_wire.push(OnTheWire { asker, arrives, call });
    }

    /// Time passes, and what is on the wire arrives in it.
    fn advance(&mut self, by: Duration) -> Check {
        let end = self.clock.now().plus(by);
        self.on_the_wire.sort_by_key(|late| late.arrives);
        while self.on_the_wire.first().is_some_and(|late| late.arrives <= end) {
            let OnTheWire { asker, arrives, call } = self.on_the_wire.remove(0);
            self.clock.advance(arrives.since(self.clock.now()));
            let acted = self.podero.act(&call, self.clock.now())?;
            self.strike("arrived later");
            self.note(format!("{asker} gave it up, and its {call:?} arrives: {acted:?}"));
        }
        self.clock.advance(end.since(self.clock.now()));
        Ok(())
    }

    async fn publish(&mut self, outgoing: &OutgoingNotice) -> Result<Published, String> {
        if !self.observer.has_notice(&outgoing.id).await {
            return Err(format!("{} is published and is no row", outgoing.id));
        }
        let fault = if self.is_calm { 0 } else { pick(&[12, self.weather.publish_fault], &mut self.dice) };
        let (arrives, outcome) = if fault == 0 {
            (true, Published::Confirmed)
        } else {
            self.strike("publish not confirmed");
            match self.dice.random_range(0..4) {
                0 => (false, Published::Returned),
                1 => (false, Published::Nacked),
                2 => (false, Published::Lost),
                _ => (true, Published::Lost),
            }
        };
        if arrives {
            self.keep_published(outgoing)?;
        }
        Ok(outcome)
    }

    fn keep_published(&mut self, outgoing: &OutgoingNotice) -> Check {
        match self.published.insert(outgoing.id.clone(), outgoing.body.clone()) {
            None => {
                self.first_published.push(outgoing.id.clone());
                self.heard(&outgoing.body)?;
            }
            Some(known) if known != outgoing.body => return Err(format!("{} went out with two bodies", outgoing.id)),
            Some(_) => {}
        }
        Ok(())
    }

    /// The bus heard something new.
    fn heard(&mut self, body: &[u8]) -> Check {
        let body: serde_json::Value = serde_json::from_slice(body).expect("a CloudEvent");
        let data = &body["data"];
        match (body["type"].as_str(), data["action"].as_str(), data["resolution"].as_str()) {
            (Some("event.parked"), ..) => self.strike("told: parked"),
            (_, Some("trigger"), _) => self.strike("told: an alert"),
            (_, Some("resolve"), Some("removed")) => {
                self.strike("told: an alert that ends as removed");
                let id = data["heat_pump_id"].as_str().and_then(|id| id.parse::<Uuid>().ok());
                if id.is_some_and(|id| self.podero.is_in_service(id)) {
                    return Err(format!("a heat pump that is there is told as removed: {body}"));
                }
            }
            (_, Some("resolve"), _) => self.strike("told: an alert that ends"),
            _ => self.strike("told: an effect"),
        }
        Ok(())
    }

    async fn deliver_late(&mut self) -> Check {
        if self.late.is_empty() {
            return Ok(());
        }
        let place = self.dice.random_range(0..self.late.len());
        if self.is_deaf(self.late[place].asker) {
            return Ok(());
        }
        let late = self.late.remove(place);
        self.note(format!("{} hears late {:?}", late.asker, late.answer));
        let _ = late.reply.send(late.answer);
        self.go_on_unless_frozen(late.asker).await
    }

    fn pass_time(&mut self) -> Check {
        let leap = self.weather.leap;
        let seconds = match pick(&[60, 25, 8, 2 * leap, leap, leap], &mut self.dice) {
            0 => self.dice.random_range(0..3),
            1 => self.dice.random_range(3..40),
            2 => self.dice.random_range(40..400),
            3 => self.dice.random_range(400..1_200),
            4 => self.dice.random_range(1_200..20_000),
            // The clock is set back.
            _ => {
                self.strike("clock set back");
                let back = Duration::from_millis(self.dice.random_range(0..CLOCK_BACK_MAX.as_millis() as u64));
                self.note(format!("the clock goes back {back:?}"));
                self.clock.set_back(back);
                return Ok(());
            }
        };
        let by = Duration::from_secs(seconds) + Duration::from_micros(self.dice.random_range(0..1_000_000));
        self.advance(by)?;
        self.note(format!("{by:?} pass"));
        Ok(())
    }

    fn pumps_live(&mut self) -> Check {
        let now = self.clock.now();
        let users: Vec<Uuid> = self.podero.customers().collect();
        let pumps: Vec<Uuid> = self.podero.world.all_heat_pumps().map(|pump| pump.id).collect();
        let choice = self.dice.random_range(0..4);
        if choice == 0 && pumps.len() < 8 && !users.is_empty() {
            let user = users[self.dice.random_range(0..users.len())];
            self.note(format!("{user} connects a heat pump"));
            self.podero.connect(user, now);
        } else if choice > 0 && !pumps.is_empty() {
            let pump = pumps[self.dice.random_range(0..pumps.len())];
            self.note(format!("{pump} is authenticated: {}", choice == 1));
            self.podero.authenticate(pump, choice == 1, now);
        }
        Ok(())
    }

    async fn retry_parked(&mut self) -> Check {
        let Some(replica) = self.some_replica() else { return Ok(()) };
        let parked = self.observer.parked().await;
        if parked.is_empty() {
            return Ok(());
        }
        let (id, reason) = &parked[self.dice.random_range(0..parked.len())];
        let kind = match reason.as_str() {
            "churn_brake" | "team_brake" if self.dice.random_range(0..2) == 0 => Kind::Approve(event_id(id)),
            _ => Kind::Unpark(event_id(id)),
        };
        if self.looked_after(id, reason).await { self.begin(replica, kind).await } else { Ok(()) }
    }

    /// Looks at Podero as a person does before a retry, if the parking asks for it; `false`: not now.
    async fn looked_after(&mut self, id: &str, reason: &str) -> bool {
        if reason != "building_in_doubt" {
            return true;
        }
        let Some((customer, known)) = self.observer.customer_of(id).await.filter(|_| self.on_the_wire.is_empty())
        else {
            return false;
        };
        self.note(format!("somebody looks after {id} of {customer}"));
        self.strike("looked after by hand");
        self.podero.delete_unknown(&customer, |building| known.contains(&building.to_string()));
        true
    }

    // --- what goes wrong with us -----------------------------------------------------------------------------

    /// The process dies: everything of it that is not on disk is gone. Requests that it had sent may arrive all the same.
    async fn crash(&mut self) -> Check {
        let place = self.dice.random_range(0..self.replicas.len());
        self.note(format!("{place} crashes"));
        self.strike("crash");
        let ids: Vec<u64> = self.actors.iter().filter(|actor| actor.replica == place).map(|actor| actor.id).collect();
        for id in ids {
            self.end_actor(id)?;
        }
        self.replicas[place] = Replica::open(&self.file, &self.clock, &self.gates, &self.rules).await;
        Ok(())
    }

    /// One step is dropped in the middle: a client that hung up, a connection to the broker that broke, a shutdown.
    fn drop_actor(&mut self) -> Check {
        if self.actors.is_empty() {
            return Ok(());
        }
        let place = self.dice.random_range(0..self.actors.len());
        let (id, kind) = (self.actors[place].id, self.actors[place].kind);
        self.note(format!("{id} is dropped ({kind:?})"));
        self.strike("dropped");
        self.end_actor(id)
    }

    fn end_actor(&mut self, id: u64) -> Check {
        let Some(place) = self.actors.iter().position(|actor| actor.id == id) else { return Ok(()) };
        let actor = self.actors.remove(place);
        // It was not acknowledged, so it comes again.
        if let Kind::Webhook(number) | Kind::Frame(number) = actor.kind {
            self.to_send.push_front(number);
        }
        drop(actor);
        self.late.retain(|late| late.asker != id);
        let orphans: Vec<Question> = {
            let mut waiting = self.gates.waiting();
            let (orphans, others) = waiting.drain(..).partition(|question| question.asker == id);
            *waiting = others;
            orphans
        };
        for question in orphans {
            // Half of what was asked was on the wire already.
            if let Wish::Publish { outgoing, .. } = &question.wish
                && self.dice.random_range(0..2) == 0
            {
                self.keep_published(outgoing)?;
            }
            if let Wish::Call { call, until: Some(until), .. } = &question.wish
                && self.clock.now() < *until
                && self.dice.random_range(0..2) == 0
            {
                self.note(format!("{id} is gone, and its {call:?} is on the wire"));
                self.strike("on the wire at a crash");
                self.put_on_the_wire(id, call.clone(), REQUEST_TIME_MAX * 2);
            }
        }
        Ok(())
    }

    fn freeze(&mut self) -> Check {
        let place = self.dice.random_range(0..self.replicas.len());
        let is_frozen = !self.replicas[place].is_frozen;
        self.replicas[place].is_frozen = is_frozen;
        self.note(format!("{place} is frozen: {is_frozen}"));
        if is_frozen {
            self.strike("frozen");
        }
        Ok(())
    }

    // --- calm ------------------------------------------------------------------------------------------------

    /// Faults are off: everything must come to rest within a bound.
    async fn calm(&mut self) -> Check {
        self.note("calm");
        self.is_calm = true;
        for replica in &mut self.replicas {
            replica.is_frozen = false;
        }
        while !self.late.is_empty() {
            self.deliver_late().await?;
        }
        let now = self.clock.now();
        let pumps: Vec<Uuid> = self.podero.world.all_heat_pumps().map(|pump| pump.id).collect();
        for pump in pumps {
            self.podero.authenticate(pump, true, now);
        }
        let mut still = 0;
        for _ in 0..ROUNDS_MAX {
            let before = self.moves;
            self.round().await?;
            if self.moves > before {
                still = 0;
                continue;
            }
            still += 1;
            match self.next_due().await? {
                Due::At(next) => {
                    still = 0;
                    self.advance(next.since(self.clock.now()))?;
                }
                // Rows of the last round may be due at once.
                Due::Now if still < 3 => {}
                Due::Now => return Err(format!("stuck: {}", self.observer.unrest().await)),
                Due::Never => match self.on_the_wire.iter().map(|late| late.arrives).max() {
                    Some(last) => self.advance(last.since(self.clock.now()))?,
                    None => return Ok(()),
                },
            }
        }
        let now = self.clock.now().micros();
        Err(format!("no rest after {ROUNDS_MAX} rounds, at {now}: {}", self.observer.unrest().await))
    }

    /// Every stage of every bridge steps until nothing moves any more.
    async fn round(&mut self) -> Check {
        let kinds = [
            Kind::Promote,
            Kind::Apply,
            Kind::Apply,
            Kind::ApplyMember,
            Kind::ApplyMember,
            Kind::Publish,
            Kind::Roster,
            Kind::Poll,
        ];
        for replica in 0..self.replicas.len() {
            for kind in kinds {
                self.begin_if_free(replica, kind).await?;
            }
        }
        for _ in 0..ROUND_POLLS_MAX {
            if !self.to_send.is_empty() {
                self.send().await?;
                continue;
            }
            let question = self.gates.waiting().pop();
            if let Some(question) = question {
                self.answer(question).await?;
                continue;
            }
            let Some(replica) = self.actors.first().map(|actor| actor.replica) else { return Ok(()) };
            self.commit_of(replica).await?;
        }
        Err("a round without an end".to_owned())
    }

    /// The time of the next work.
    async fn next_due(&mut self) -> Result<Due, String> {
        if let Some(due) = self.observer.next_due(self.clock.now()).await {
            return Ok(Due::At(due));
        }
        if !self.observer.unrest().await.is_empty() {
            return Ok(Due::Now);
        }
        // A person looks after parked events. An event that waited for a sign-up that never came, or that the policy of the team
        // refuses, is looked after once, and again whenever there is something else: that may be the sign-up.
        let mut is_any = false;
        let parked = self.observer.parked().await;
        if parked.iter().any(|(_, reason)| !is_final(reason)) {
            self.looked_after.clear();
        }
        for (id, reason) in parked {
            if !is_final(&reason) || self.looked_after.insert(id.clone()) {
                is_any = true;
                if matches!(reason.as_str(), "churn_brake" | "team_brake") {
                    self.strike("approved by hand");
                    self.begin(0, Kind::Approve(event_id(&id))).await?;
                } else if self.looked_after(&id, &reason).await {
                    self.begin(0, Kind::Unpark(event_id(&id))).await?;
                } else if let Some(last) = self.on_the_wire.iter().map(|late| late.arrives).max() {
                    self.advance(last.since(self.clock.now()))?;
                }
            }
        }
        Ok(if is_any { Due::Now } else { Due::Never })
    }

    /// `team.min_admins` in this run.
    pub(super) fn min_admins(&self) -> u64 {
        self.rules.policy.team.min_admins
    }

    /// `team.allow_admins` in this run.
    pub(super) fn allows_admins(&self) -> bool {
        self.rules.policy.team.allows_admins
    }

    /// Says whether `team.protected` names anybody in this run.
    pub(super) fn protects(&self) -> bool {
        !self.rules.policy.team.protected.is_empty()
    }

    /// Says whether old buildings are deleted in this run.
    pub(super) fn deletes_buildings(&self) -> bool {
        self.rules.policy.old_building == OldBuilding::Delete
    }
}

/// Says whether a person's retry of an event that is parked for this may come to nothing.
fn is_final(reason: &str) -> bool {
    let of_policy = ["protected_member", "admin_not_allowed", "too_few_admins"];
    matches!(reason, "no_sign_up" | "no_join" | "email_taken") || of_policy.contains(&reason)
}

/// The team of a run: the admins whom Podero has at first, and the events of HR. Dice of its own leave the customers' lives as they are.
struct Founded {
    admins: Vec<String>,
    have_all_joined: bool,
    team: Vec<ToldOfMember>,
    policy: TeamPolicy,
}

impl Founded {
    fn of(seed: u64, start: Timestamp, now: Timestamp) -> Self {
        let mut dice = StdRng::seed_from_u64(seed ^ 0x07ea_3000);
        let admins: Vec<String> = (0..dice.random_range(1..=3)).map(founder_email).collect();
        let members = if dice.random_range(0..4) == 0 { 0 } else { dice.random_range(2..=6) };
        let team = (0..members).flat_map(|number| member_life(number, start, now, &mut dice)).collect();
        let window = Duration::from_secs([1_800, 6 * 3_600, 24 * 3_600][dice.random_range(0..3)]);
        let policy = TeamPolicy {
            is_enabled: true,
            allows_admins: dice.random_range(0..4) > 0,
            protected: if dice.random_range(0..4) == 0 { vec![founder_email(0)] } else { Vec::new() },
            min_admins: dice.random_range(1..=2),
            list_max_age: Duration::from_secs(dice.random_range(60..=300)),
            brake: Brake { count: Some(dice.random_range(1..=6)), share: None, window },
            deletes_softly: dice.random_range(0..4) > 0,
            expiry_notice: Duration::from_secs(3_600),
            ..TeamPolicy::default()
        };
        Self { admins, have_all_joined: dice.random_range(0..3) > 0, team, policy }
    }
}

fn event_id(text: &str) -> EventId {
    EventId(Uuid::parse_str(text).expect("an id of ours"))
}

fn rules(dice: &mut StdRng) -> Rules {
    let onboarding = OnboardingPolicy {
        language: "de".to_owned(),
        price_zone: "DE_LU".to_owned(),
        success_url: "https://utility.example/done".to_owned(),
        cancel_url: "https://utility.example/later".to_owned(),
    };
    let gives_up_soon = dice.random_range(0..2) == 0;
    let tells_at_once = dice.random_range(0..2) == 0;
    let policy = Policy {
        schedule: RetrySchedule { initial: Duration::from_secs(1), max: Duration::from_secs(900) },
        doubt_pause: REQUEST_TIME_MAX,
        give_up_after: Duration::from_secs(if gives_up_soon { 1_800 } else { 72 * 3_600 }),
        onboarding: (dice.random_range(0..3) == 0).then_some(onboarding),
        old_heat_pumps: if dice.random_range(0..3) == 0 { OldHeatPumps::Keep } else { OldHeatPumps::Pause },
        old_building: if dice.random_range(0..4) == 0 { OldBuilding::Keep } else { OldBuilding::Delete },
        churn: [ChurnDelete::Soft, ChurnDelete::Hard, ChurnDelete::SoftThenHard][dice.random_range(0..3)],
        retention: Duration::from_secs(30 * 86_400),
        brake: None,
        team: TeamPolicy::default(),
    };
    let watch = WatchPolicy {
        disconnect_after: Duration::from_secs(if tells_at_once { 0 } else { 900 }),
        disconnect_polls: if tells_at_once { 1 } else { 3 },
        reconnect_after: Duration::from_secs(if tells_at_once { 0 } else { 300 }),
        reconnect_polls: if tells_at_once { 1 } else { 2 },
        interval: Duration::from_secs(if tells_at_once { 30 } else { 600 }),
        ..WatchPolicy::DEFAULT
    };
    Rules { policy, watch }
}

/// A brake in most runs, by a count: a share is counted next to the writer, and only the machine knows how often that waits. Dice
/// of its own leave the rest of a seed's weather as it is.
fn brake(seed: u64) -> Option<Brake> {
    let mut dice = StdRng::seed_from_u64(seed ^ 0x00b4_a1e0);
    let window = Duration::from_secs([1_800, 6 * 3_600, 24 * 3_600][dice.random_range(0..3)]);
    let brake = Brake { count: Some(dice.random_range(0..4)), share: None, window };
    (dice.random_range(0..4) > 0).then_some(brake)
}

/// Each event is sent once or more, by webhook or queue, more or less in the order in which things happened.
fn deliveries(subjects: &[&str], dice: &mut StdRng) -> (Vec<Sent>, VecDeque<usize>) {
    let mut sent = Vec::new();
    let mut places: Vec<(u32, usize)> = Vec::new();
    let displaced = dice.random_range(0..4);
    for event in 0..subjects.len() {
        let times = if dice.random_range(0..6) == 0 { 2 } else { 1 };
        for _ in 0..times {
            let off = if dice.random_range(0..4) < displaced { dice.random_range(0..60) } else { 0 };
            // The lives run side by side.
            let place = u32::try_from(subjects[..event].iter().filter(|other| **other == subjects[event]).count());
            places.push((place.unwrap_or(0) * 10 + off, sent.len()));
            sent.push(Sent { event, by_queue: dice.random_range(0..2) == 0 });
        }
    }
    places.sort_unstable();
    (sent, places.into_iter().map(|(_, number)| number).collect())
}

/// A place, by weight.
fn pick(weights: &[u32], dice: &mut StdRng) -> usize {
    let mut left = dice.random_range(0..weights.iter().sum::<u32>());
    for (place, weight) in weights.iter().enumerate() {
        if left < *weight {
            return place;
        }
        left -= weight;
    }
    unreachable!("the weights add up")
}
