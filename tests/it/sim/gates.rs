//! The gates at which an actor of the simulation waits for the world outside: every question stays here until the run decides it.
//!
//! A question knows who asked it. The run sets the asker before it polls an actor, since one actor may ask several
//! things at once.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard};

use podero_bridge::broker::{OutgoingNotice, Publish, Published};
use podero_bridge::domain::Timestamp;
use podero_bridge::domain::alert::Observation;
use podero_bridge::domain::call::{Call, Done, Reply, UserFound};
use podero_bridge::domain::team::{MemberCall, MemberDone};
use podero_bridge::podero::Partner;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::planted::Planted;

thread_local! {
    static ASKER: Cell<u64> = const { Cell::new(0) };
}

/// Sets the asker of the questions that follow.
pub(super) fn asking_as(actor: u64) {
    ASKER.set(actor);
}

/// Any call: an event's, or the watch's.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Event(Call),
    /// With its `Idempotency-Key`.
    Member(MemberCall, Option<Uuid>),
    ListUsers,
    ObserveHeatPumps {
        user: Uuid,
    },
}

/// The answer to any call.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Event(Done),
    Member(MemberDone),
    Users(Vec<UserFound>),
    HeatPumps(Vec<Observation>),
}

/// Wish of an actor to the world outside.
pub(super) enum Wish {
    /// A call to Podero.
    Call { call: Asked, key: Option<Uuid>, until: Option<Timestamp>, reply: oneshot::Sender<Reply<Answer>> },
    /// A publish to the broker.
    Publish { outgoing: OutgoingNotice, outcome: oneshot::Sender<Published> },
}

/// A wish that waits.
pub(super) struct Question {
    pub(super) asker: u64,
    pub(super) wish: Wish,
}

/// All questions that wait; the partner and the broker of the simulation in one.
#[derive(Clone, Default)]
pub(super) struct Gates {
    questions: Arc<Mutex<Vec<Question>>>,
    planted: Planted,
}

impl Gates {
    pub(super) fn with(planted: Planted) -> Self {
        Self { planted, ..Self::default() }
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, Vec<Question>> {
        self.questions.lock().expect("no code panics while it holds the questions")
    }

    pub(super) fn has_question_of(&self, actor: u64) -> bool {
        self.waiting().iter().any(|question| question.asker == actor)
    }

    fn ask(&self, wish: Wish) {
        self.waiting().push(Question { asker: ASKER.get(), wish });
    }
}

impl Gates {
    async fn told<A>(
        &self,
        call: Asked,
        key: Option<Uuid>,
        until: Option<Timestamp>,
        of: impl FnOnce(Answer) -> Option<A>,
    ) -> Reply<A> {
        let (reply, answer) = oneshot::channel();
        self.ask(Wish::Call { call, key, until, reply });
        let told = answer.await.unwrap_or(Reply::Unknown { why: "the connection is gone" });
        told.map(|told| of(told).expect("the answer to this call"))
    }
}

impl Partner for Gates {
    async fn call(&self, call: &Call, key: Option<Uuid>, until: Timestamp) -> Reply {
        let of = |told| if let Answer::Event(done) = told { Some(done) } else { None };
        self.told(Asked::Event(call.clone()), key, Some(until), of).await
    }

    async fn call_for_member(&self, call: &MemberCall, key: Option<Uuid>, until: Timestamp) -> Reply<MemberDone> {
        let asked = || {
            let of = |told| if let Answer::Member(done) = told { Some(done) } else { None };
            self.told(Asked::Member(call.clone(), key), key, Some(until), of)
        };
        let mut reply = asked().await;
        let is_unheard = matches!((call, &reply), (MemberCall::CreateMember { .. }, Reply::Unknown { .. }));
        if is_unheard && self.planted == Planted::InvitesAgain {
            reply = asked().await;
        }
        reply.map(|done| self.planted.in_answer(done))
    }

    async fn list_users(&self) -> Reply<Vec<UserFound>> {
        let of = |told| if let Answer::Users(users) = told { Some(users) } else { None };
        self.told(Asked::ListUsers, None, None, of).await
    }

    async fn observe_heat_pumps(&self, user: Uuid) -> Reply<Vec<Observation>> {
        let of = |told| if let Answer::HeatPumps(pumps) = told { Some(pumps) } else { None };
        self.told(Asked::ObserveHeatPumps { user }, None, None, of).await
    }

    async fn observe_heat_pump(&self, _: Uuid, heat_pump: Uuid) -> Reply<Observation> {
        panic!("the list has all of {heat_pump}")
    }

    fn paused_until(&self) -> Option<Timestamp> {
        None
    }
}

impl Publish for Gates {
    async fn publish(&self, outgoing: &OutgoingNotice) -> Published {
        crate::specs::assert_documented(&outgoing.body);
        let (outcome, answer) = oneshot::channel();
        self.ask(Wish::Publish { outgoing: outgoing.clone(), outcome });
        answer.await.unwrap_or(Published::Lost)
    }
}
