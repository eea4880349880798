//! Group commit: all waiting writes go into one transaction, and each gets its own answer.
//!
//! A disk flush is the most expensive step here, so every caller hands a [`Write`] to the one writer, which takes all that are
//! waiting, runs them in one transaction and commits once. More load makes larger groups, not longer waits. A write that fails
//! does not fail its neighbours: the group is rolled back and each write runs alone. The writer answers only after the commit.
//!
//! Before: the other files of [`crate::store`]. After: the disk.

use std::any::{Any, TypeId};
use std::iter::Peekable;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::closed_sets::Target;
use super::condition::{Proof, Trouble};
use super::db::{Connection, Db, DbFault, Dialect, LogMover};
use super::db_file::FileLock;
use super::error::Error;
use super::give_back::{GiveBack, Unclaimed};
use super::lanes;
use super::transaction::{Transaction, Write};

/// Limit of the writes in one transaction: beyond this the flush is no longer the main cost (measured: field of 64 to 256).
const GROUP_MAX: usize = 256;

/// Limit of the approximate rows in one transaction: a group of batches of a thousand would hold up the database, and every
/// waiting caller, until it ends. A single write with more rows goes alone.
const GROUP_ROWS_MAX: usize = 1_024;

/// Timeout of a transaction. A longer one waits for an answer that will not come: a server behind a cut connection.
pub(super) const TRANSACTION_TIME_MAX: Duration = Duration::from_secs(20);

/// Timeout of a rollback. A rollback is fast unless the connection is dead.
const ROLLBACK_TIME_MAX: Duration = Duration::from_secs(5);

/// Limit of the conflicts in a row: two replicas that meet in the same lanes give way in turn, so more conflicts than this have
/// another cause.
const CONFLICTS_MAX: u32 = 5;

/// Limit of the writes that wait for the writer; a listener that finds no room answers 503.
pub(super) const QUEUE_MAX: usize = 8_192;

/// Limit of the bytes of texts in all writes that wait for the writer or that it works on. A few dozen of the largest batches;
/// they take two to three times as much memory. A write without room for its bytes gets the same answer as one without a place in
/// the queue.
pub(super) const QUEUE_BYTES_MAX: usize = 48 << 20;

/// Limit of the writes of a failed group that may fail for a lock, or for want of an answer, when each is tried alone: each of
/// them takes seconds. After these the rest fails as well.
const LATE_ALONE_MAX: usize = 2;

/// A write on its way: the change and the caller that waits for it.
pub(super) struct Pending {
    write: Box<dyn AnyWrite>,
    /// The write's share of [`QUEUE_BYTES_MAX`], free again once the write is answered or dropped.
    _bytes: Option<OwnedSemaphorePermit>,
}

/// A write of any kind. The kind is its type.
trait AnyWrite: Any + Send {
    /// Runs this write and its peers, which are of the same kind.
    fn run_with<'a>(
        &'a mut self,
        peers: Vec<&'a mut dyn AnyWrite>,
        tx: &'a mut Transaction<'_>,
    ) -> BoxFuture<'a, Result<(), DbFault>>;
    fn lanes(&self) -> Vec<&str>;
    /// Answers the caller. Returns the claim that does not reach it, since the caller has gone.
    fn answer(self: Box<Self>, result: Result<(), Error>) -> Option<GiveBack>;
    /// The claim that it has made by its last attempt.
    fn give_back(&self) -> Option<GiveBack>;
    fn is_pointless(&self) -> bool;
    fn is_arrival(&self) -> bool;
    fn is_beat(&self) -> bool;
    fn proves_writing(&self) -> bool;
    fn weight(&self) -> usize;
}

struct Waiting<W: Write> {
    write: W,
    output: Option<W::Output>,
    reply: oneshot::Sender<Result<W::Output, Error>>,
}

impl<W: Write> AnyWrite for Waiting<W> {
    fn run_with<'a>(
        &'a mut self,
        peers: Vec<&'a mut dyn AnyWrite>,
        tx: &'a mut Transaction<'_>,
    ) -> BoxFuture<'a, Result<(), DbFault>> {
        Box::pin(async move {
            let peers = peers.into_iter().filter_map(|peer| (peer as &mut dyn Any).downcast_mut::<Self>());
            let all: Vec<&mut Self> = std::iter::once(self).chain(peers).collect();
            let writes: Vec<&W> = all.iter().map(|waiting| &waiting.write).collect();
            let outputs = W::run_all(&writes, tx).await?;
            for (waiting, output) in all.into_iter().zip(outputs) {
                waiting.output = Some(output);
            }
            Ok(())
        })
    }

    fn lanes(&self) -> Vec<&str> {
        self.write.lanes().collect()
    }

    fn answer(self: Box<Self>, result: Result<(), Error>) -> Option<GiveBack> {
        let Self { write, output, reply } = *self;
        let answer = result.map(|()| output.expect("a write that succeeded has left its output"));
        // A caller that no longer waits has gone away; the change is kept all the same.
        let unheard = reply.send(answer).err()?;
        write.abandon();
        write.give_back(&unheard.ok()?)
    }

    fn give_back(&self) -> Option<GiveBack> {
        self.output.as_ref().and_then(|output| self.write.give_back(output))
    }

    fn is_pointless(&self) -> bool {
        W::ONLY_IF_AWAITED && self.reply.is_closed()
    }

    fn is_arrival(&self) -> bool {
        W::IS_ARRIVAL
    }

    fn is_beat(&self) -> bool {
        W::IS_BEAT
    }

    fn proves_writing(&self) -> bool {
        self.output.as_ref().is_some_and(|output| self.write.proves_writing(output))
    }

    fn weight(&self) -> usize {
        self.write.weight()
    }
}

impl Pending {
    /// `true` if the caller has gone: running this would only claim work that no one does, or keep data that no one relies on.
    fn is_pointless(&self) -> bool {
        self.write.is_pointless()
    }

    fn answer(self, result: Result<(), Error>) -> Option<GiveBack> {
        self.write.answer(result)
    }

    pub(super) fn new<W: Write>(
        write: W,
        bytes: Option<OwnedSemaphorePermit>,
    ) -> (Self, oneshot::Receiver<Result<W::Output, Error>>) {
        let (reply, answer) = oneshot::channel();
        (Self { write: Box::new(Waiting { write, output: None, reply }), _bytes: bytes }, answer)
    }
}

/// The task that writes. Spawned by `app`; ends when every [`crate::store::Store`] is gone, or one of them was closed.
pub struct Writer {
    pub(super) db: Db,
    /// The targets of outgoing events.
    pub(super) targets: Arc<[Target]>,
    pub(super) connection: Option<Connection>,
    pub(super) log: Option<LogMover>,
    /// `true` if there was room for all that the last group tried.
    pub(super) had_room: bool,
    /// `true` if a transaction of the last group went through.
    pub(super) went_through: bool,
    /// `true` if the last transaction is in the file that the next start will find.
    pub(super) has_file: bool,
    pub(super) queue: mpsc::Receiver<Pending>,
    /// Claims that reached no claimer.
    pub(super) unclaimed: Arc<Unclaimed>,
    /// The signal to end, by `true` or by a sender that is gone: the writer does the waiting writes and ends.
    pub(super) closing: watch::Receiver<bool>,
    /// The right to work on a SQLite file, which the store's handles hold.
    pub(super) lock: Option<Weak<FileLock>>,
}

impl Writer {
    /// As [`Writer::run`], on a thread of its own if the database works in this process: a flush of the disk must not block a
    /// thread of the runtime.
    pub async fn run_apart(self) {
        if !self.connection.as_ref().is_some_and(Connection::is_in_process) {
            return self.run().await;
        }
        let (end, ended) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(move || {
            runtime.block_on(self.run());
            drop(end);
        });
        thread.expect("a thread can be started");
        // No value is ever sent: this resolves when the thread ends for any reason.
        let _ = ended.await;
    }

    /// Writes until every handle is gone or the store is closed.
    pub async fn run(mut self) {
        let mut taken = Vec::with_capacity(GROUP_MAX);
        while self.next(&mut taken).await {
            let mut rest = taken.drain(..).peekable();
            while rest.peek().is_some() {
                let mut group = next_group(&mut rest);
                if group.is_empty() {
                    continue;
                }
                (self.had_room, self.went_through) = (true, false);
                let had_arrival = group.iter().any(|pending| pending.write.is_arrival());
                self.db.condition.begins();
                self.write(&mut group).await;
                self.db.condition.ends(had_arrival);
                if self.went_through && !self.unclaimed.is_empty() {
                    self.give_back().await;
                }
                if let Some(connection) = self.connection.as_ref().filter(|_| !self.is_left_alone()) {
                    connection.tidy(self.had_room, &mut self.log);
                }
            }
        }
        // First the thread that moves the log, then the log's end, then the file: the file alone is whole.
        drop(self.log.take());
        let is_left_alone = self.is_left_alone();
        if let Some(connection) = self.connection.take() {
            if is_left_alone {
                connection.leave_log();
            } else if self.lock.is_some() {
                connection.empty_log_at_the_end();
            }
            let _ = connection.close().await;
        }
    }

    /// `true` if a SQLite file is damaged: it and its log are evidence, and each may hold data that the other has lost.
    fn is_left_alone(&self) -> bool {
        self.db.dialect == Dialect::Sqlite && self.db.condition.is_damaged()
    }

    /// Waits for the next writes. Returns `false` if there are no more.
    async fn next(&mut self, taken: &mut Vec<Pending>) -> bool {
        tokio::select! {
            count = self.queue.recv_many(taken, GROUP_MAX) => return count > 0,
            // A sender that is gone means the same.
            _ = self.closing.wait_for(|is_closing| *is_closing) => {}
        }
        self.queue.close();
        self.queue.recv_many(taken, GROUP_MAX).await > 0
    }

    /// Writes one group: together if possible, else each write alone. Without a connection all fail.
    async fn write(&mut self, group: &mut Vec<Pending>) {
        if self.is_left_alone() {
            // Every further write may spoil more of the file.
            let error = Error::Damaged("a page is not what was written".to_owned());
            return group.drain(..).for_each(|pending| self.answer(pending, Err(error.clone())));
        }
        if let Err(fault) = self.connect().await {
            let (error, trouble) = self.told(fault, group.len(), "the store cannot be reached");
            match trouble {
                Some(Trouble::Replaced) => self.has_file = self.look_at_file(),
                Some(trouble) => self.db.condition.failed(trouble, false),
                None => {}
            }
            return group.drain(..).for_each(|pending| self.answer(pending, Err(error.clone())));
        }
        let whole = self.together(group).await;
        let is_alone = group.len() == 1;
        let is_over = match &whole {
            Ok(()) => true,
            Err((_, trouble)) => is_alone || trouble.is_some_and(Trouble::is_for_all),
        };
        if is_over {
            if let (Err((_, Some(trouble))), Some(first)) = (&whole, group.first()) {
                self.count(*trouble, first);
            }
            let result = whole.map_err(|(error, _)| error);
            return group.drain(..).for_each(|pending| self.answer(pending, result.clone()));
        }
        self.each_alone(group).await;
    }

    /// Runs each write of a failed group alone. If an arrival went through, the failure of one write says nothing about the whole
    /// store.
    async fn each_alone(&mut self, group: &mut Vec<Pending>) {
        let mut late = None;
        let mut late_count = 0;
        let mut has_kept = false;
        let mut failed = Vec::new();
        for pending in group.drain(..) {
            if pending.is_pointless() {
                continue;
            }
            if let (Some(error), LATE_ALONE_MAX..) = (&late, late_count) {
                let error = Error::clone(error);
                self.answer(pending, Err(error));
                continue;
            }
            let mut alone = [pending];
            let result = self.together(&mut alone).await;
            if let Err((error, Some(Trouble::Locked | Trouble::Silent))) = &result {
                late = Some(error.clone());
                late_count += 1;
            }
            let [pending] = alone;
            has_kept |= result.is_ok() && pending.write.is_arrival();
            if let Err((_, Some(trouble))) = &result {
                if trouble.is_for_all() || pending.write.is_beat() {
                    self.count(*trouble, &pending);
                } else {
                    failed.push((*trouble, pending.write.is_arrival()));
                }
            }
            self.answer(pending, result.map_err(|(error, _)| error));
        }
        for (trouble, is_arrival) in failed.into_iter().filter(|_| !has_kept) {
            self.count_one(trouble, is_arrival);
        }
    }

    /// Records the meaning of a write's failure for the whole store, if it has one.
    fn count(&self, trouble: Trouble, pending: &Pending) {
        if trouble.is_for_all() || pending.write.is_beat() {
            self.db.condition.failed(trouble, pending.write.is_arrival());
        } else {
            self.count_one(trouble, pending.write.is_arrival());
        }
    }

    /// As `count`, for a write that is one of many kinds: on a server its row may be locked, or rights may lack for its table,
    /// and yet no arrival is refused for it. The next heartbeat meets any trouble that concerns all.
    fn count_one(&self, trouble: Trouble, is_arrival: bool) {
        let is_of_its_own = match trouble {
            Trouble::Locked => self.db.dialect == Dialect::Postgres,
            Trouble::AccessDenied => !is_arrival,
            Trouble::NoRoom
            | Trouble::Silent
            | Trouble::ReadOnly
            | Trouble::Damaged
            | Trouble::Replaced
            | Trouble::ConnectionRefused
            | Trouble::DiskFails => false,
        };
        if !is_of_its_own {
            self.db.condition.failed(trouble, is_arrival);
        }
    }

    /// Answers a write. An arrival is ours when it is on disk, in the file that the next start will find.
    fn answer(&self, pending: Pending, result: Result<(), Error>) {
        let is_lost = result.is_ok() && pending.write.is_arrival() && !self.has_file;
        let lost = || Err(Error::Away(Trouble::Replaced.words().to_owned()));
        let claim = if result.is_ok() && !self.unclaimed.is_empty() { pending.write.give_back() } else { None };
        match (pending.answer(if is_lost { lost() } else { result }), claim) {
            (Some(unheard), _) => self.unclaimed.add([unheard]),
            (None, Some(claim)) => self.unclaimed.keep(&claim),
            (None, None) => {}
        }
    }

    /// Gives back claims that reached no claimer. A failure leaves them to the next group that goes through.
    async fn give_back(&mut self) {
        let claims = self.unclaimed.take();
        if claims.is_empty() {
            return;
        }
        let mut group: Vec<Pending> = claims.iter().map(|claim| Pending::new(claim.clone(), None).0).collect();
        match self.together(&mut group).await {
            // Each that is not done comes back, since no caller waits for it.
            Ok(()) => group.into_iter().for_each(|pending| self.answer(pending, Ok(()))),
            Err(_) => self.unclaimed.add(claims),
        }
    }

    /// `true` if the written data is in the file at its path; checked after each transaction.
    fn look_at_file(&self) -> bool {
        // Without handles no caller is left to answer.
        let Some(lock) = self.lock.as_ref().and_then(Weak::upgrade) else { return true };
        let holds = lock.holds();
        if self.db.condition.set_replaced(!holds) {
            if holds {
                tracing::info!("the file at the store's path is the bridge's own again");
            } else {
                tracing::error!(
                    "the file at the store's path, or its log, is not the one that the bridge has open: it takes no more \
                     events and finishes those that it has; put the file back, or stop the bridge and see \
                     docs/alerts/PoderoBridgeStoreNotWritable.md"
                );
            }
        }
        holds
    }

    async fn connect(&mut self) -> Result<(), DbFault> {
        if self.connection.is_none() {
            // Without any connection SQLite removes the log and makes another.
            self.lock.iter().filter_map(Weak::upgrade).for_each(|lock| lock.forget_log());
            self.connection = Some(self.db.connect().await?);
        }
        Ok(())
    }

    /// Logs a failure, but not the same trouble every time; returns its meaning for the store.
    fn told(&self, fault: DbFault, writes: usize, what: &'static str) -> (Error, Option<Trouble>) {
        let trouble = fault.trouble().map(|trouble| self.db.refined(trouble));
        let error = Error::from(fault);
        let is_to_be_told = trouble.is_none_or(|trouble| self.db.condition.is_to_be_told(trouble));
        if is_to_be_told {
            tracing::warn!(%error, writes, "{what}");
        } else {
            tracing::debug!(%error, writes, "{what}");
        }
        (error, trouble)
    }

    /// Records that a group is on disk, if that proves something. `is_proof`: `true` if an arrival is part of the proof.
    async fn note_success(&mut self, is_proof: Option<bool>) {
        self.has_file = self.look_at_file();
        let Some(is_arrival) = is_proof else { return };
        let lacks_room = self.db.condition.lacks_room();
        let has_room = lacks_room && self.has_room().await;
        // A server finds room for some rows on existing pages.
        let counts = is_arrival && (!lacks_room || self.db.dialect == Dialect::Sqlite);
        let small = if counts { Proof::Arrival } else { Proof::Change };
        self.db.condition.proven(if has_room { Proof::Room } else { small });
    }

    /// Checks by an attempt whether there is room for some of the largest arrivals.
    async fn has_room(&mut self) -> bool {
        let Some(mut connection) = self.connection.take() else { return false };
        let found = tokio::time::timeout(TRANSACTION_TIME_MAX, self.db.has_room(&mut connection)).await;
        if connection.is_in_process() || (found.is_ok() && roll_back(&mut connection).await) {
            self.connection = Some(connection);
        }
        found.unwrap_or(false)
    }

    /// Runs a group in one transaction, and again if another replica was in the way.
    async fn together(&mut self, group: &mut [Pending]) -> Result<(), (Error, Option<Trouble>)> {
        let mut conflicts = 0;
        loop {
            match self.once(group).await {
                Err(FailedTransaction::Conflict) if conflicts < CONFLICTS_MAX => conflicts += 1,
                Ok(()) => {
                    self.went_through = true;
                    let is_proof = proof_in(group);
                    self.note_success(is_proof).await;
                    return Ok(());
                }
                Err(FailedTransaction::Conflict) => {
                    let error = Error::Away("other replicas were in the way too often".to_owned());
                    tracing::warn!(%error, writes = group.len(), "a transaction on the store failed");
                    return Err((error, None));
                }
                Err(FailedTransaction::DbFault(fault)) => {
                    return Err(self.told(fault, group.len(), "a transaction on the store failed"));
                }
            }
        }
    }

    async fn once(&mut self, group: &mut [Pending]) -> Result<(), FailedTransaction> {
        self.connect().await.map_err(FailedTransaction::DbFault)?;
        let Some(mut connection) = self.connection.take() else { return Err(FailedTransaction::Conflict) };
        let mut may_be_on_disk = false;
        let making = transaction(&self.db, &self.targets, &mut connection, group, &mut may_be_on_disk);
        let done = tokio::time::timeout(TRANSACTION_TIME_MAX, making).await;
        if may_be_on_disk && !matches!(done, Ok(Ok(()))) {
            self.unclaimed.add(group.iter().filter_map(|pending| pending.write.give_back()));
        }
        // A connection that was given up in the middle, or cannot even roll back, is not used again.
        let Ok(result) = done else { return Err(FailedTransaction::DbFault(DbFault::TooLate)) };
        let lacked_room = result.as_ref().is_err_and(DbFault::is_for_want_of_room);
        self.had_room &= !lacked_room;
        let is_whole = result.is_ok() || (lacked_room && connection.has_rolled_back());
        // A session of a server keeps the settings from its beginning.
        let is_stale = self.db.dialect == Dialect::Postgres
            && result.as_ref().is_err_and(|fault| fault.trouble() == Some(Trouble::ReadOnly));
        if !is_stale && (is_whole || roll_back(&mut connection).await) {
            self.connection = Some(connection);
        }
        result.map_err(|fault| {
            if fault.is_conflict() { FailedTransaction::Conflict } else { FailedTransaction::DbFault(fault) }
        })
    }
}

/// The next writes that fit into one transaction, in their order, without those that have become pointless.
fn next_group(rest: &mut Peekable<impl Iterator<Item = Pending>>) -> Vec<Pending> {
    let mut group = Vec::new();
    let mut rows = 0;
    let fits = |rows: usize, next: &Pending| rows.saturating_add(next.write.weight()) <= GROUP_ROWS_MAX;
    while let Some(pending) = rest.next_if(|next| group.is_empty() || fits(rows, next)) {
        if !pending.is_pointless() {
            rows = rows.saturating_add(pending.write.weight());
            group.push(pending);
        }
    }
    group
}

/// `true` if an arrival is among the writes of a group that prove something; `None`: no write proves anything.
fn proof_in(group: &[Pending]) -> Option<bool> {
    let mut proofs = group.iter().filter(|pending| pending.write.proves_writing()).peekable();
    proofs.peek()?;
    Some(proofs.any(|pending| pending.write.is_arrival()))
}

/// Rolls back. Returns `false` if the connection is of no more use.
async fn roll_back(connection: &mut Connection) -> bool {
    let rolled_back = tokio::time::timeout(ROLLBACK_TIME_MAX, connection.roll_back()).await;
    matches!(rolled_back, Ok(Ok(_)))
}

/// The reason why a transaction failed.
enum FailedTransaction {
    /// Another replica held a lock that this one needed, and this one was chosen to give way: a second try may succeed.
    Conflict,
    /// Any other failure.
    DbFault(DbFault),
}

async fn transaction(
    db: &Db,
    targets: &[Target],
    connection: &mut Connection,
    group: &mut [Pending],
    may_be_on_disk: &mut bool,
) -> Result<(), DbFault> {
    connection.begin().await?;
    let mut tx = Transaction { db, targets, connection: &mut *connection };
    if db.dialect == Dialect::Postgres {
        let named = group.iter().flat_map(|pending| pending.write.lanes()).collect();
        lanes::lock(&mut tx, named).await?;
    }
    let mut rest: Vec<&mut dyn AnyWrite> = group.iter_mut().map(|pending| &mut *pending.write).collect();
    while let Some(kind) = rest.first().map(|write| kind_of(*write)) {
        let (mut same, others) = rest.into_iter().partition::<Vec<_>, _>(|write| kind_of(*write) == kind);
        rest = others;
        let first = same.remove(0);
        first.run_with(same, &mut tx).await?;
    }
    // From here on the server may commit although its answer is lost.
    *may_be_on_disk = true;
    connection.commit().await
}

fn kind_of(write: &dyn AnyWrite) -> TypeId {
    (write as &dyn Any).type_id()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rows(usize);

    impl Write for Rows {
        type Output = ();
        const ONLY_IF_AWAITED: bool = true;

        fn weight(&self) -> usize {
            self.0
        }

        async fn run(&self, _: &mut Transaction<'_>) -> Result<(), DbFault> {
            Ok(())
        }
    }

    #[test]
    fn a_group_is_bounded_by_its_rows_and_a_heavy_write_goes_alone() {
        let weights = [1, GROUP_ROWS_MAX - 1, 1, 10 * GROUP_ROWS_MAX, 2, 3];
        let (writes, mut answers): (Vec<_>, Vec<_>) =
            weights.into_iter().map(|rows| Pending::new(Rows(rows), None)).unzip();
        // The caller of the last one has gone away.
        answers.pop();
        let mut rest = writes.into_iter().peekable();
        let mut groups = Vec::new();
        while rest.peek().is_some() {
            groups.push(next_group(&mut rest).iter().map(|pending| pending.write.weight()).collect::<Vec<_>>());
        }
        assert_eq!(groups, [vec![1, GROUP_ROWS_MAX - 1], vec![1], vec![10 * GROUP_ROWS_MAX], vec![2]]);
    }
}
