//! Accepts an import: lines of a file take the path of a webhook's body, many in one commit.
//!
//! A line is a CloudEvent, or a message of its source that the source's mapping translates into none, one or many. An
//! unreadable line is reported, and kept nowhere: the operator has the file.
//!
//! Before: [`super::lines`] reads the file. After: [`super::wire`], and the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use serde::de::IgnoredAny;

use super::backlog::Backlog;
use super::cloudevents::{Envelope, Items, STRUCTURED};
use super::delivery::Delivery;
use super::held::HeldMessage;
use super::inbox::Inbox;
use super::json::TreeBudget;
use super::mapping;
use super::mapping::mapper::{MapError, Mapper, WORKERS_MAX};
use super::reader::{Translator, Unreadable};
use super::signature::Verified;
use super::types::AllowedTypes;
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::event::Transport;
use crate::metrics::Metrics;
use crate::problem::{Problem, ProblemKind};
use crate::store::{self, Arrival, Receipt, Store};

/// Limit of the events in one commit, but for those of the last lines: a mapping may make many of a line.
const EVENTS_MAX: usize = 1_000;
/// Limit of the bytes of the events in one commit.
const EVENT_BYTES_MAX: usize = 8 << 20;

/// The result of importing a line.
#[derive(Debug, Clone, PartialEq)]
pub enum Imported {
    /// At least one of its events is new.
    Accepted,
    /// All of its events were here already.
    Duplicate,
    /// The mapping made nothing of it.
    Nothing,
    /// It is no event, or one that was made of it is none. Its other events are kept.
    Rejected(Rejection),
}

/// The reason why a line was rejected.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// The problems, without a value; if several events were made of a line, those of each.
    pub problems: Vec<Problem>,
    /// The error with which the mapping's program ended. It may quote the line, so it is for the operator who has the file.
    pub said: Option<String>,
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem], said: None }
    }
}

impl Rejection {
    /// The problems, for the operator who has the file: with the program's whole text.
    pub fn in_full(&self) -> Vec<Problem> {
        match &self.said {
            Some(said) => vec![mapping::ended_with(said)],
            None => self.problems.clone(),
        }
    }
}

/// The reasons why lines were not imported; the same lines may be offered again.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// The store did not accept them.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// They cannot be translated here and now.
    #[error("no worker for mappings could be started")]
    NoWorker,
}

impl Inbox {
    /// An inbox in a process of its own, whose events the running bridge finds by looking into the store. It has metrics that
    /// nothing reads, and does not ask how much waits: the caller does.
    pub fn for_import(store: Store, clock: Clock, mapper: Mapper, types: AllowedTypes, body_bytes_max: usize) -> Self {
        Self {
            store,
            clock,
            wake: Arc::default(),
            wake_team: Arc::default(),
            metrics: Metrics::new(),
            batch_max: 1,
            body_bytes_max,
            backlog: Backlog::new(u64::MAX),
            trees: TreeBudget::default(),
            mapper,
            types,
        }
    }

    /// Accepts lines of one source; the result of each, in order. After `Ok` all lines reported as accepted are on disk. After
    /// `Err` some may be, and are duplicates when they are offered again.
    pub async fn accept_lines(&self, source: &str, lines: &[Bytes]) -> Result<Vec<Imported>, Halt> {
        let received_at = self.clock.now();
        let mut read = Vec::with_capacity(lines.len());
        let mut answers = Vec::with_capacity(lines.len());
        let (mut kept, mut kept_bytes, mut refused) = (Vec::new(), 0, Vec::new());
        // No request is under way in a worker during the wait for the store: its time would run out.
        for some in lines.chunks(WORKERS_MAX) {
            let held: Vec<HeldMessage> = some.iter().map(|line| self.hold(source, line, received_at)).collect();
            for (held, items) in held.iter().zip(join_all(held.iter().map(|held| self.read_line(held))).await) {
                let items = match items? {
                    Ok(items) => items,
                    Err(rejection) => {
                        read.push(Err(rejection));
                        continue;
                    }
                };
                read.push(Ok(items.items.len()));
                let translator = Translator { types: &self.types, held, trusted: self.clock.steady_now() };
                let read = items.read(|number, envelope| {
                    let arrival = translator.arrival(envelope, held.ids.of_item(number, &self.clock), &mut refused)?;
                    kept_bytes += arrival.raw.len();
                    Ok(arrival)
                });
                kept.extend(read.items);
            }
            if kept.len() >= EVENTS_MAX || kept_bytes >= EVENT_BYTES_MAX {
                answers.extend(self.keep_lines(source, std::mem::take(&mut kept)).await?);
                kept_bytes = 0;
            }
        }
        answers.extend(self.keep_lines(source, kept).await?);
        self.note_refused(source, &refused).await;
        let mut answers = answers.into_iter();
        let of_line = |items| match items {
            Ok(count) => summary(answers.by_ref().take(count)),
            Err(rejection) => Imported::Rejected(rejection),
        };
        Ok(read.into_iter().map(of_line).collect())
    }

    async fn keep_lines(
        &self,
        source: &str,
        items: Vec<Result<Arrival, Problem>>,
    ) -> Result<Vec<Result<Receipt, Problem>>, store::Error> {
        let delivery = delivery(source, STRUCTURED, Vec::new(), self.clock.now());
        Ok(self.keep(&delivery, Items::batch(items)).await?.items)
    }

    /// A line has no header that describes it; without a mapping it can only be an event.
    fn hold(&self, source: &str, line: &Bytes, received_at: Timestamp) -> HeldMessage {
        let is_message = self.mapper.has(source) && !is_cloud_event(line);
        let content_type = if is_message { "application/json" } else { STRUCTURED };
        HeldMessage::answered(Verified::unchecked(delivery(source, content_type, line.to_vec(), received_at)))
    }

    async fn read_line(&self, held: &HeldMessage) -> Result<Result<Items<Envelope>, Rejection>, Halt> {
        if held.verified.body().len() > self.body_bytes_max {
            return Ok(Err(too_large(self.body_bytes_max).into()));
        }
        let error = match self.reader().read_packed(held).await {
            Ok(items) => return Ok(Ok(items)),
            Err(Unreadable::Problem(problem)) => return Ok(Err(problem.into())),
            Err(Unreadable::Mapping(error)) => error,
        };
        let rejection = Rejection::from(mapping::problem_of(&error));
        match error {
            MapError::Failed(said) => Ok(Err(Rejection { said: Some(said), ..rejection })),
            MapError::Unbounded(_) => Ok(Err(rejection)),
            MapError::NoWorker => Err(Halt::NoWorker),
        }
    }
}

/// The problem of a line above its limit.
pub(super) fn too_large(bytes_max: usize) -> Problem {
    Problem::new(ProblemKind::TooLarge, format!("a line has at most {bytes_max} bytes (http.body_max)"))
}

fn delivery(source: &str, content_type: &str, body: Vec<u8>, received_at: Timestamp) -> Delivery {
    Delivery {
        transport: Transport::Import,
        source: source.to_owned(),
        content_type: Some(content_type.to_owned()),
        headers: BTreeMap::new(),
        body,
        received_at,
    }
}

fn is_cloud_event(line: &[u8]) -> bool {
    let fields: Result<BTreeMap<String, IgnoredAny>, _> = serde_json::from_slice(line);
    fields.is_ok_and(|fields| fields.contains_key("specversion"))
}

fn summary(answers: impl Iterator<Item = Result<Receipt, Problem>>) -> Imported {
    let (mut problems, mut imported) = (Vec::new(), Imported::Nothing);
    for answer in answers {
        match answer {
            Err(problem) => problems.push(problem),
            Ok(Receipt::Accepted { .. }) => imported = Imported::Accepted,
            Ok(_) if imported == Imported::Accepted => {}
            Ok(Receipt::Duplicate { .. } | Receipt::Reused { .. }) => imported = Imported::Duplicate,
        }
    }
    if problems.is_empty() { imported } else { Imported::Rejected(Rejection { problems, said: None }) }
}
