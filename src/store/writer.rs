//! Group commit: every write of a moment in one transaction, each answered for itself.
//!
//! A disk flush is the dearest thing here, so whoever writes hands a [`Write`] to the one writer, which
//! takes all that are waiting, runs them in one transaction and commits once. More load makes larger
//! groups, not longer waits. A write that fails does not fail its neighbours: the group is rolled back and
//! each is run alone. Nothing is answered before the commit.
//!
//! Before: the other files of [`crate::store`]. After: the disk.

use std::iter::Peekable;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::Error;
use super::db::{Connection, Db, Fault, LogMover, query};

/// Writes in one transaction: beyond this a flush is no longer what costs (measured: field of 64 to 256).
const GROUP_MAX: usize = 256;

/// Rows of them together, about: a group of nothing but batches of a thousand would hold the database, and everybody
/// who waits, for as long as it takes. One write with more than this goes alone.
const GROUP_ROWS_MAX: usize = 1_024;

/// A transaction that takes longer waits for something that will not come: a server behind a cut line.
const TRANSACTION_TIME_MAX: Duration = Duration::from_secs(20);

/// Nothing is undone slowly; a line that is cut is.
const ROLLBACK_TIME_MAX: Duration = Duration::from_secs(5);

/// Two replicas that meet in the same lanes give way in turn; more often than this it is something else.
const CONFLICTS_MAX: u32 = 5;

/// Writes that wait for the writer; a door that finds no room answers 503.
pub(super) const QUEUE_MAX: usize = 8_192;

/// One change that is made whole or not at all.
pub(super) trait Write: Send + Sync + 'static {
    /// What its caller learns once it is on disk.
    type Output: Send + 'static;

    /// Whether it is pointless once nobody waits for its answer: a claim of something.
    const ONLY_IF_AWAITED: bool = false;

    /// Rows that it writes, about.
    fn weight(&self) -> usize {
        1
    }

    /// Makes the change. May be run again after a rollback, so it holds no state of its own.
    fn run<'a>(
        &'a self,
        db: &'a Db,
        connection: &'a mut Connection,
    ) -> impl Future<Output = Result<Self::Output, Fault>> + Send + 'a;
}

/// A write on its way: the change and whoever waits for it.
pub(super) struct Pending(Box<dyn Erased>);

trait Erased: Send {
    fn run<'a>(
        &'a mut self,
        db: &'a Db,
        connection: &'a mut Connection,
    ) -> Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>>;
    fn answer(self: Box<Self>, result: Result<(), Error>);
    fn is_pointless(&self) -> bool;
    fn weight(&self) -> usize;
}

struct Waiting<W: Write> {
    write: W,
    output: Option<W::Output>,
    reply: oneshot::Sender<Result<W::Output, Error>>,
}

impl<W: Write> Erased for Waiting<W> {
    fn run<'a>(&'a mut self, db: &'a Db, connection: &'a mut Connection) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            self.output = Some(self.write.run(db, connection).await?);
            Ok(())
        })
    }

    fn answer(self: Box<Self>, result: Result<(), Error>) {
        let Self { output, reply, .. } = *self;
        let answer = result.map(|()| output.expect("a write that succeeded has left its output"));
        // Whoever no longer waits has gone away; the change stands all the same.
        let _ = reply.send(answer);
    }

    fn is_pointless(&self) -> bool {
        W::ONLY_IF_AWAITED && self.reply.is_closed()
    }

    fn weight(&self) -> usize {
        self.write.weight()
    }
}

impl Pending {
    /// What it would take, nobody is there to work on.
    fn is_pointless(&self) -> bool {
        self.0.is_pointless()
    }

    pub(super) fn new<W: Write>(write: W) -> (Self, oneshot::Receiver<Result<W::Output, Error>>) {
        let (reply, answer) = oneshot::channel();
        (Self(Box::new(Waiting { write, output: None, reply })), answer)
    }
}

/// The one that writes. Spawned by `app`; ends when every [`super::Store`] is gone.
pub struct Writer {
    pub(super) db: Db,
    pub(super) connection: Option<Connection>,
    pub(super) log: Option<LogMover>,
    /// Whether there was room for all that the last group tried.
    pub(super) had_room: bool,
    pub(super) queue: mpsc::Receiver<Pending>,
}

impl Writer {
    /// [`Writer::run`], on a thread of its own where the database works in this process: a flush of the disk must not keep a
    /// thread of the runtime from everybody else.
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
        // Nothing is ever sent: it resolves when the thread ends, however it ends.
        let _ = ended.await;
    }

    /// Writes until nobody can ask for more.
    pub async fn run(mut self) {
        let mut taken = Vec::with_capacity(GROUP_MAX);
        while self.queue.recv_many(&mut taken, GROUP_MAX).await > 0 {
            let mut rest = taken.drain(..).peekable();
            while rest.peek().is_some() {
                let mut group = next_group(&mut rest);
                if group.is_empty() {
                    continue;
                }
                self.had_room = true;
                self.write(&mut group).await;
                if let Some(connection) = &self.connection {
                    connection.tidy(self.had_room, &mut self.log);
                }
            }
        }
        if let Some(connection) = self.connection.take() {
            let _ = connection.close().await;
        }
    }

    /// One group: together if it goes, else each alone. Without a connection nobody's turn comes.
    async fn write(&mut self, group: &mut Vec<Pending>) {
        if let Err(error) = self.connect().await {
            tracing::warn!(%error, writes = group.len(), "the store cannot be reached");
            group.drain(..).for_each(|pending| pending.0.answer(Err(error.clone())));
            return;
        }
        let whole = self.together(group).await;
        let is_alone = group.len() == 1;
        for pending in group.drain(..) {
            if whole.is_ok() || is_alone {
                pending.0.answer(whole.clone());
            } else {
                let mut alone = [pending];
                let result = self.together(&mut alone).await;
                let [pending] = alone;
                pending.0.answer(result);
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Error> {
        if self.connection.is_none() {
            self.connection = Some(self.db.connect().await?);
        }
        Ok(())
    }

    /// Runs a group in one transaction; again when another replica was in the way.
    async fn together(&mut self, group: &mut [Pending]) -> Result<(), Error> {
        let mut conflicts = 0;
        loop {
            let result = self.once(group).await;
            match result {
                Err(Failure::Conflict) if conflicts < CONFLICTS_MAX => conflicts += 1,
                Ok(()) => return Ok(()),
                Err(failure) => {
                    let error = Error::from(failure);
                    tracing::warn!(%error, writes = group.len(), "a transaction on the store failed");
                    return Err(error);
                }
            }
        }
    }

    async fn once(&mut self, group: &mut [Pending]) -> Result<(), Failure> {
        self.connect().await.map_err(Failure::Away)?;
        let Some(mut connection) = self.connection.take() else { return Err(Failure::Conflict) };
        let done = tokio::time::timeout(TRANSACTION_TIME_MAX, transaction(&self.db, &mut connection, group)).await;
        // A connection that was given up in the middle, or cannot even roll back, is not used again.
        let Ok(result) = done else { return Err(Failure::Away(Error::Away("it did not answer in time".to_owned()))) };
        let lacked_room = result.as_ref().is_err_and(Fault::is_for_want_of_room);
        self.had_room &= !lacked_room;
        let is_whole = result.is_ok() || (lacked_room && connection.has_rolled_back());
        if is_whole || roll_back(&mut connection).await {
            self.connection = Some(connection);
        }
        result.map_err(|error| if error.is_conflict() { Failure::Conflict } else { Failure::Away(error.into()) })
    }
}

/// The next writes that fit into one transaction, in their order, without those that are pointless by now.
fn next_group(rest: &mut Peekable<impl Iterator<Item = Pending>>) -> Vec<Pending> {
    let mut group = Vec::new();
    let mut rows = 0;
    while let Some(pending) = rest.next_if(|next| group.is_empty() || rows + next.0.weight() <= GROUP_ROWS_MAX) {
        if !pending.is_pointless() {
            rows += pending.0.weight();
            group.push(pending);
        }
    }
    group
}

/// `false`: the connection is of no more use.
async fn roll_back(connection: &mut Connection) -> bool {
    let rolled_back = tokio::time::timeout(ROLLBACK_TIME_MAX, query("ROLLBACK").execute(connection)).await;
    matches!(rolled_back, Ok(Ok(_)))
}

/// Why a transaction did not go through.
enum Failure {
    /// Another replica held what this one needed, and this one was chosen to give way: the same again may go.
    Conflict,
    /// Anything else.
    Away(Error),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Conflict => Self::Away("other replicas were in the way too often".to_owned()),
            Failure::Away(error) => error,
        }
    }
}

async fn transaction(db: &Db, connection: &mut Connection, group: &mut [Pending]) -> Result<(), Fault> {
    query(db.begin()).execute(&mut *connection).await?;
    for pending in group {
        pending.0.run(db, connection).await?;
    }
    query("COMMIT").execute(connection).await?;
    Ok(())
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

        async fn run(&self, _: &Db, _: &mut Connection) -> Result<(), Fault> {
            Ok(())
        }
    }

    #[test]
    fn a_group_is_bounded_by_its_rows_and_a_heavy_write_goes_alone() {
        let weights = [1, GROUP_ROWS_MAX - 1, 1, 10 * GROUP_ROWS_MAX, 2, 3];
        let (writes, mut answers): (Vec<_>, Vec<_>) = weights.into_iter().map(|rows| Pending::new(Rows(rows))).unzip();
        // Nobody waits for the last one any more.
        answers.pop();
        let mut rest = writes.into_iter().peekable();
        let mut groups = Vec::new();
        while rest.peek().is_some() {
            groups.push(next_group(&mut rest).iter().map(|pending| pending.0.weight()).collect::<Vec<_>>());
        }
        assert_eq!(groups, [vec![1, GROUP_ROWS_MAX - 1], vec![1], vec![10 * GROUP_ROWS_MAX], vec![2]]);
    }
}
