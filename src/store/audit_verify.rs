//! The verification of the audit log: all of it for a person, and a part at a time for the bridge that watches over it.
//!
//! Both walk along the chain from the oldest row that is left, and recompute it. It is compared with itself, with the store's own
//! head, and with a head that was kept elsewhere: by a person, or in the memory of a running bridge.
//!
//! Before: [`super::audit_seal`] seals. After: [`crate::cli`] tells a person, [`crate::upkeep`] tells the log and the metrics.

use serde::Serialize;

use super::audit::{self, hash_at, head_row, newest_trim};
use super::audit_reads::AuditRecord;
use super::db::query;
use super::error::Error;
use super::handle::StoreView;
use crate::domain::Timestamp;
use crate::domain::audit::Action;
use crate::domain::chain::{Broken, ChainCheck, ChainHead, ChainedRow};

/// Limit of the rows that one look of a bridge recomputes, in full or from a row on: some ten milliseconds.
const WATCHED_AT_ONCE: usize = 5_000;

/// Rows at the end of the chain that each look of a bridge recomputes.
const NEWEST: u64 = 500;

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditCheck {
    /// The head before the oldest row that is left.
    pub first: ChainHead,
    /// The head that was reached.
    pub head: ChainHead,
    /// The time of the oldest row that is left; `None`: there is no sealed row.
    pub oldest: Option<Timestamp>,
    /// The time of the newest row that says that the retention removed rows; `None`: there is none.
    pub trimmed_at: Option<Timestamp>,
    /// `true` if the retention removed the row of the head that was given: that head proves nothing any more.
    pub is_head_trimmed: bool,
    /// Rows that are not sealed yet.
    pub unsealed: u64,
    /// The first place at which the chain is broken; `None`: it is whole.
    pub broken: Option<Broken>,
}

/// A walk along the chain.
#[derive(Debug, Clone)]
struct ChainWalk {
    check: ChainCheck,
    /// The store's own head, read before the first row.
    sealed: ChainHead,
    /// `true` if it begins at the oldest row that is left.
    is_whole: bool,
    /// Rows that were read, and not checked.
    read: Vec<AuditRecord>,
}

/// The place that a walk has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Walked {
    /// There are more rows.
    Further,
    /// The end, and all that was walked along is whole.
    Whole(ChainHead),
    /// The first place at which the chain is broken.
    Broken(Broken),
}

impl ChainWalk {
    /// A walk along all of the chain.
    async fn from_the_oldest(view: &StoreView, kept: Option<ChainHead>) -> Result<Result<Self, Broken>, Error> {
        let row = head_row(&view.readers).await?;
        let heads = row.and_then(|row| row.first().zip(row.head()));
        let Some((first, sealed)) = heads else { return Ok(Err(Broken::NoHead)) };
        if let Some(id) = view.audit_before_the_first(first.count).await? {
            return Ok(Err(Broken::Added { id, count: first.count }));
        }
        let check = ChainCheck::new(first, kept);
        Ok(check.map(|check| Self { check, sealed, is_whole: true, read: Vec::new() }))
    }

    /// Walks along at most this many rows.
    async fn step(&mut self, view: &StoreView, rows_max: usize) -> Result<Walked, Error> {
        let mut rows = 0;
        if self.read.is_empty() {
            self.read = view.audit_chain(self.check.reached().count).await?;
        }
        while let Some(last) = self.read.last().and_then(|last| last.number) {
            if rows >= rows_max {
                return Ok(Walked::Further);
            }
            rows += self.read.len();
            // The next page too: the last rows of this one are looked at with some that follow.
            let next = view.audit_chain(last).await?;
            let chained: Vec<ChainedRow<'_>> = self.read.iter().chain(&next).map(AuditRecord::chained).collect();
            for place in 0..self.read.len() {
                if let Err(broken) = self.check.next(&chained[place], &chained[place + 1..]) {
                    return Ok(Walked::Broken(broken));
                }
            }
            drop(chained);
            self.read = next;
        }
        // An erasure of the last second: its row is not sealed, unless it was in between.
        for emptied in view.unsealed_erasures().await? {
            self.check.erasure(&emptied);
        }
        self.read = view.audit_chain(self.check.reached().count).await?;
        if !self.read.is_empty() {
            return Ok(Walked::Further);
        }
        let Some(now) = head_row(&view.readers).await?.and_then(|row| row.head()) else {
            return Ok(Walked::Broken(Broken::NoHead));
        };
        let ended = self.check.end(self.sealed, now);
        let ended = ended.and_then(|()| if self.is_whole { self.check.beginning() } else { Ok(()) });
        Ok(ended.map_or_else(Walked::Broken, |()| Walked::Whole(self.check.reached())))
    }
}

impl StoreView {
    /// Recomputes the chain, and compares it with a head that was kept elsewhere. A retention that removes rows meanwhile moves
    /// the beginning.
    pub async fn verify_audit(&self, kept: Option<ChainHead>) -> Result<AuditCheck, Error> {
        let (first, head, broken) = match ChainWalk::from_the_oldest(self, kept).await? {
            Err(broken) => {
                let first = head_row(&self.readers).await?.and_then(|row| row.first()).unwrap_or(ChainHead::EMPTY);
                (first, first, Some(broken))
            }
            Ok(mut walk) => loop {
                let first = walk.check.first();
                match walk.step(self, usize::MAX).await? {
                    Walked::Further => {}
                    Walked::Whole(head) => break (first, head, None),
                    // Rows were removed under the check: it begins where they end.
                    Walked::Broken(_) if self.is_trimmed_since(first).await? => {
                        return Box::pin(self.verify_audit(kept)).await;
                    }
                    Walked::Broken(broken) => break (first, walk.check.reached(), Some(broken)),
                }
            },
        };
        Ok(AuditCheck {
            first,
            head,
            oldest: self.audit_oldest().await?,
            trimmed_at: newest_trim(&self.readers).await?.map(|trim| trim.at),
            is_head_trimmed: kept.is_some_and(|kept| kept.count < first.count),
            unsealed: self.audit_unsealed().await?,
            broken,
        })
    }

    async fn is_trimmed_since(&self, first: ChainHead) -> Result<bool, Error> {
        Ok(head_row(&self.readers).await?.and_then(|row| row.first()).is_some_and(|now| now != first))
    }

    /// The id of a row that has a number from before the oldest row that is left; `None`: there is none.
    async fn audit_before_the_first(&self, trimmed: u64) -> Result<Option<String>, Error> {
        let before = query("SELECT id FROM audit WHERE number IS NOT NULL AND number <= $1 ORDER BY number LIMIT 1");
        Ok(before.bind(trimmed).fetch_optional(&self.readers).await?)
    }

    /// The rows that erasures emptied whose own rows are not sealed yet.
    async fn unsealed_erasures(&self) -> Result<Vec<String>, Error> {
        let unsealed =
            query("SELECT became FROM audit WHERE number IS NULL AND action IN ($1, $2) AND became IS NOT NULL");
        let actions = (Action::CustomerErase.name(), Action::MemberErase.name());
        Ok(unsealed.with(actions).fetch_all(&self.readers).await?)
    }
}

/// The watch of a running bridge over the chain: with each look the newest rows, and a part of the others in turn.
#[derive(Debug, Default)]
pub struct ChainWatch {
    /// The turn through all rows that is under way.
    turn: Option<ChainWalk>,
    /// The head at the last look that found nothing. A chain that was cut off or made again since does not lead to it.
    kept: Option<ChainHead>,
    /// The day of that head's row; `None`: there is no such row.
    kept_day: Option<i64>,
    /// A beginning that moved too soon. Nothing in the store tells of it later, so it stays until the process ends.
    moved: Option<Broken>,
}

/// The result of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainLook {
    /// Nothing was found so far.
    Nothing,
    /// Nothing was found in any row.
    Whole,
    /// A place at which the chain is broken.
    Broken(Broken),
}

impl ChainWatch {
    /// Looks once.
    pub async fn look(&mut self, view: &StoreView) -> Result<ChainLook, Error> {
        let row = head_row(&view.readers).await?;
        let Some((first, sealed)) = row.and_then(|row| row.first().zip(row.head())) else {
            return Ok(ChainLook::Broken(Broken::NoHead));
        };
        let look = match self.look_at_newest(view, first, sealed).await? {
            None => self.look_at_turn(view, first).await?,
            Some(broken) => ChainLook::Broken(broken),
        };
        if matches!(look, ChainLook::Broken(_)) {
            self.turn = None;
            // Rows were removed under the look.
            if view.is_trimmed_since(first).await? {
                return Ok(ChainLook::Nothing);
            }
        }
        Ok(look)
    }

    /// Recomputes the newest rows, and looks whether the chain still leads to the head of the last look.
    async fn look_at_newest(
        &mut self,
        view: &StoreView,
        first: ChainHead,
        sealed: ChainHead,
    ) -> Result<Option<Broken>, Error> {
        let from = sealed.count.saturating_sub(NEWEST).max(first.count);
        let from = if from == first.count {
            first
        } else if let Some(hash) = hash_at(&view.readers, from).await? {
            ChainHead { count: from, hash }
        } else {
            return Ok(Some(Broken::Missing { from, to: from }));
        };
        // The retention removes whole days, and never this one.
        let is_of_today = self.kept_day == Some(audit::day_of(view.clock.now()));
        if let Some(kept) = self.kept.filter(|kept| is_of_today && kept.count < first.count) {
            self.moved = Some(Broken::TrimmedTooSoon { count: kept.count });
        }
        if let Some(moved) = &self.moved {
            return Ok(Some(moved.clone()));
        }
        if let Some(kept) = self.kept.filter(|kept| (first.count + 1..from.count).contains(&kept.count))
            && hash_at(&view.readers, kept.count).await? != Some(kept.hash)
        {
            return Ok(Some(Broken::HeadDiffers { count: kept.count }));
        }
        let check = match ChainCheck::new(from, self.kept) {
            Ok(check) => check,
            Err(broken) => return Ok(Some(broken)),
        };
        let mut newest = ChainWalk { check, sealed, is_whole: false, read: Vec::new() };
        match newest.step(view, WATCHED_AT_ONCE).await? {
            Walked::Further => Ok(None),
            Walked::Whole(head) => {
                if self.kept != Some(head) {
                    self.kept_day = audit::at_of(&view.readers, head.count).await?.map(audit::day_of);
                    self.kept = Some(head);
                }
                Ok(None)
            }
            Walked::Broken(broken) => Ok(Some(broken)),
        }
    }

    /// Goes on with the turn through all rows.
    async fn look_at_turn(&mut self, view: &StoreView, first: ChainHead) -> Result<ChainLook, Error> {
        let under_way = self.turn.take().filter(|walk| walk.check.first() == first);
        let mut walk = match under_way {
            Some(walk) => walk,
            None => match ChainWalk::from_the_oldest(view, None).await? {
                Ok(walk) => walk,
                Err(broken) => return Ok(ChainLook::Broken(broken)),
            },
        };
        match walk.step(view, WATCHED_AT_ONCE).await? {
            Walked::Further => {
                self.turn = Some(walk);
                Ok(ChainLook::Nothing)
            }
            Walked::Whole(_) => Ok(ChainLook::Whole),
            Walked::Broken(broken) => Ok(ChainLook::Broken(broken)),
        }
    }
}
