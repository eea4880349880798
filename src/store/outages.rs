//! Fleets: the number of a manufacturer's or a region's heat pumps that are lost, and the known outages.
//!
//! The counts are made from the columns that every poll writes; the core judges them; its result is one row, which only a replica
//! that has read the version before can write, with its notices or not at all.
//!
//! Before: [`crate::watch`] asks. After: the outbox, and the next polls.

use super::db::{DbFault, Executor, listed, ours, query};
use super::error::Error;
use super::handle::Store;
use super::outbox::{self, NewNotice};
use super::shared_state::{read, set};
use super::transaction::{Transaction, Write};
use crate::domain::Timestamp;
use crate::domain::alert::outage::{Count, ScopeKind};
use crate::domain::alert::{Looks, Outages, Scope};
use crate::domain::notice::Notice;

/// The names of the shared rows.
const OUTAGES: &str = "outages";
const LOOKS: &str = "looks";

/// The suspected and open outages, as the store read them.
#[derive(Debug, Clone, Default)]
pub struct KnownOutages {
    /// All of them.
    pub outages: Outages,
    /// The times at which fleets were judged, and at which they were not.
    pub looks: Looks,
    version: i64,
}

impl Store {
    /// The known outages, after all earlier writes.
    pub async fn outages(&self) -> Result<KnownOutages, Error> {
        self.write(Known { now: self.clock.now() }).await
    }

    /// Stores that fleets were judged, the new state of the outages, and their notices. Returns `false` when another replica was
    /// first, and then nothing is written.
    pub async fn keep_outages(
        &self,
        known: &KnownOutages,
        outages: Outages,
        looks: Looks,
        notices: Vec<Notice>,
    ) -> Result<bool, Error> {
        let clock = &self.clock;
        let seqs = notices.iter().map(|_| clock.fresh_id().to_string()).collect();
        let outages = (outages != known.outages).then_some(outages);
        self.write(Keep { read: known.version, outages, looks, notices, seqs, now: clock.now() }).await
    }

    /// Counts, for each manufacturer or each region, the heat pumps that went at or after `lost_from` and are still away, and
    /// those of which something is known. Leaves out those of `except`, scopes of the other kind: another outage speaks for them.
    pub async fn count_fleets(
        &self,
        kind: ScopeKind,
        lost_from: Timestamp,
        except: &[&Scope],
    ) -> Result<Vec<Count>, Error> {
        let column = kind.name();
        // The partial index of regions needs the first condition.
        let conditions = format!("{column} IS NOT NULL{}", left_out(except, 2));
        // No outage is suspected yet, so there is nothing to confirm, and the index alone answers the rest.
        let sql = COUNTS.replace("{confirmed}", "CAST(0 AS BIGINT)");
        let sql = sql.replace("{column}", column).replace("{conditions}", &conditions);
        let query = query(ours(sql)).bind(lost_from).with_each(except.iter().map(|scope| scope.name()));
        let counts: Vec<Counted> = query.fetch_all(&self.readers).await?;
        Ok(counts.into_iter().map(|counted| count_of(kind.scope(counted.0.clone()), counted)).collect())
    }

    /// As [`Store::count_fleets`] for one scope, and counts those of the lost pumps that were seen disconnected after
    /// `suspected_at`. All counts are zero for a scope without heat pumps.
    pub async fn count_fleet(
        &self,
        scope: &Scope,
        lost_from: Timestamp,
        suspected_at: Timestamp,
        except: &[&Scope],
    ) -> Result<Count, Error> {
        let column = scope.kind().name();
        let conditions = format!("{column} = $2{}", left_out(except, 4));
        let sql = COUNTS.replace("{confirmed}", CONFIRMED);
        let sql = sql.replace("{column}", column).replace("{conditions}", &conditions);
        let query = query(ours(sql)).with((lost_from, scope.name(), suspected_at));
        let query = query.with_each(except.iter().map(|scope| scope.name()));
        let counted: Option<Counted> = query.fetch_optional(&self.readers).await?;
        let nothing = Count { scope: scope.clone(), lost: 0, confirmed: 0, watched: 0 };
        Ok(counted.map_or(nothing, |counted| count_of(scope.clone(), counted)))
    }
}

/// Counts of heat pumps, by a column with the name of the scope's kind. A lost pump has `lost_at` until it is seen up again.
const COUNTS: &str = "SELECT {column}, SUM(CASE WHEN lost_at >= $1 THEN 1 ELSE 0 END), \
                      SUM(CASE WHEN knowledge <> 'never_connected' THEN 1 ELSE 0 END), {confirmed} \
                      FROM pumps WHERE is_retired = 0 AND {conditions} GROUP BY {column}";

/// The number of lost pumps that were seen disconnected since an outage was suspected.
const CONFIRMED: &str =
    "SUM(CASE WHEN lost_at >= $1 AND checked_at > $3 AND knowledge = 'disconnected' THEN 1 ELSE 0 END)";

/// The condition that excludes scopes; their names are bound from the placeholder `first` on.
fn left_out(except: &[&Scope], first: usize) -> String {
    let Some(scope) = except.first() else { return String::new() };
    let column = scope.kind().name();
    format!(" AND ({column} IS NULL OR {column} NOT IN {})", listed(first, except.len()))
}

/// A row of [`COUNTS`]: the scope's name, and the numbers of lost, watched and confirmed pumps.
type Counted = (String, u64, u64, u64);

fn count_of(scope: Scope, counted: Counted) -> Count {
    let (_, lost, watched, confirmed) = counted;
    Count { scope, lost, confirmed, watched }
}

/// The suspected and open outages, corrected to values that can be true now, and their version.
pub(super) async fn known_outages(on: impl Executor, now: Timestamp) -> Result<(Outages, i64), DbFault> {
    let (outages, version) = read::<Outages>(on, OUTAGES).await?;
    let outages = outages.unwrap_or_default().0.into_iter().map(|outage| outage.no_later_than(now)).collect();
    Ok((Outages(outages), version))
}

/// The outages that were announced.
pub(super) async fn open_outages(on: impl Executor) -> Result<Outages, DbFault> {
    let (outages, _) = read::<Outages>(on, OUTAGES).await?;
    let mut outages = outages.unwrap_or_default();
    outages.0.retain(|outage| outage.is_open());
    Ok(outages)
}

struct Known {
    now: Timestamp,
}

impl Write for Known {
    const ONLY_IF_AWAITED: bool = true;
    type Output = KnownOutages;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<KnownOutages, DbFault> {
        let (outages, version) = known_outages(&mut *tx, self.now).await?;
        let (looks, _) = read::<Looks>(tx, LOOKS).await?;
        let looks = looks.unwrap_or_default().no_later_than(self.now);
        Ok(KnownOutages { outages, looks, version })
    }
}

struct Keep {
    read: i64,
    /// The new outages; `None`: unchanged.
    outages: Option<Outages>,
    looks: Looks,
    notices: Vec<Notice>,
    seqs: Vec<String>,
    now: Timestamp,
}

impl Write for Keep {
    type Output = bool;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        if let Some(outages) = &self.outages
            && !set(&mut *tx, OUTAGES, outages, self.read).await?
        {
            return Ok(false);
        }
        // One replica has the duty, so this row has one writer.
        let (_, version) = read::<Looks>(&mut *tx, LOOKS).await?;
        set(&mut *tx, LOOKS, &self.looks, version).await?;
        for (notice, seq) in self.notices.iter().zip(&self.seqs) {
            outbox::insert(tx, NewNotice { notice, customer: None, seq, at: self.now }).await?;
        }
        Ok(true)
    }
}
