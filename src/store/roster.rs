//! The roster: the users whose heat pumps are watched, by the last complete lists of users.
//!
//! Before: [`crate::watch`] asks for a list. After: [`crate::store::polls`].

use std::time::Duration;

use uuid::Uuid;

use super::db::{DbFault, query};
use super::error::Error;
use super::handle::Store;
use super::pumps::seen_by;
use super::transaction::{Statements, Transaction, Write};
use crate::domain::Timestamp;
use crate::domain::alert::{PumpRecord, Shrunk};

/// Limit of the roster rows in one transaction: small enough that listeners and appliers do not wait long behind it.
const CHUNK: usize = 500;

/// A user whose heat pumps are to be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The user's id at Podero.
    pub user: Uuid,
    /// The utility's id, if Podero knows it.
    pub customer: Option<String>,
    /// The user's region, if regions are watched.
    pub region: Option<String>,
    /// The time of the first poll of a new user; a known user keeps their own schedule.
    pub first_due: Timestamp,
}

/// One complete list of users, and the limits of its credibility.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// The users whose heat pumps are watched.
    pub members: Vec<Member>,
    /// The time at which the list was requested.
    pub asked_at: Timestamp,
    /// Number of lists in a row that do not name a user, after which the user is no longer watched.
    pub lists_to_remove: u32,
    /// Limit of the time between two lists in a row. Lists that are further apart do not count as a row.
    pub break_after: Duration,
}

/// Changes that a list of users has made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kept {
    /// The records of heat pumps whose owner is no longer watched and that are not retired yet.
    pub orphans: Vec<PumpRecord>,
    /// The shrinkage, if the list newly omits more users than is credible: nothing was concluded from it.
    pub doubted: Option<Shrunk>,
}

impl Store {
    /// Takes in a complete list of users. Users who are missing from enough lists in a row are no longer watched; until then they
    /// are polled. Returns the records of the heat pumps of users who are not watched; each next list returns them again until
    /// they are retired.
    pub async fn keep_roster(&self, roster: Roster) -> Result<Kept, Error> {
        let keep = |member: &Member| {
            let sql = "INSERT INTO watched (user_id, customer, due_at, since, roster, region) VALUES ($1, $2, $3, $4, $4, $5) \
                 ON CONFLICT (user_id) DO UPDATE SET customer = $2, roster = $4, region = $5, missed_lists = 0, \
                 missed_at = NULL";
            let Member { user, customer, region, first_due } = member.clone();
            query(sql).with((user, customer, first_due, roster.asked_at, region))
        };
        for chunk in roster.members.chunks(CHUNK) {
            self.write(Statements { all: chunk.iter().map(keep).collect(), weight: chunk.len() }).await?;
        }
        let miss = MissOthers {
            asked_at: roster.asked_at,
            break_from: roster.asked_at.minus(roster.break_after),
            lists_to_remove: roster.lists_to_remove,
        };
        let doubted = self.write(miss).await?;
        let sql = "SELECT record FROM pumps WHERE is_retired = 0 \
             AND NOT EXISTS (SELECT 1 FROM watched WHERE watched.user_id = pumps.user_id)";
        let orphans: Vec<String> = query(sql).fetch_all(&self.readers).await?;
        let now = self.clock.now();
        Ok(Kept { orphans: seen_by(now, &orphans), doubted })
    }
}

/// Counts the list for the users whom it does not name, and drops those whom enough lists in a row do not name.
struct MissOthers {
    asked_at: Timestamp,
    /// A list that was requested earlier does not count in the row.
    break_from: Timestamp,
    lists_to_remove: u32,
}

impl Write for MissOthers {
    type Output = Option<Shrunk>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Option<Shrunk>, DbFault> {
        let (asked_at, break_from) = (self.asked_at, self.break_from);
        // A list dated in the future was stored while the clock was ahead.
        let latest = Timestamp::latest(self.asked_at, Duration::ZERO);
        let shrunk = query(
            "SELECT COALESCE(SUM(CASE WHEN (roster < $1 OR roster > $3) AND (missed_at IS NULL OR missed_at < $2) THEN 1 ELSE 0 END), 0), \
             COUNT(*) FROM watched",
        );
        let (missing, watched) = shrunk.with((asked_at, break_from, latest)).fetch_one(&mut *tx).await?;
        let shrunk = Shrunk { missing, watched };
        let is_doubted = shrunk.is_doubted();
        let sql = "UPDATE watched SET missed_lists = CASE WHEN missed_at >= $2 THEN missed_lists ELSE 0 END + $3, \
             missed_at = $1 WHERE roster < $1 OR roster > $4";
        query(sql).with((asked_at, break_from, !is_doubted, latest)).execute(&mut *tx).await?;
        if is_doubted {
            return Ok(Some(shrunk));
        }
        // A user without a watched heat pump loses nothing: a churn has retired their pumps, say.
        let sql = "DELETE FROM watched WHERE (roster < $1 OR roster > $3) AND (missed_lists >= $2 OR NOT EXISTS \
             (SELECT 1 FROM pumps WHERE pumps.user_id = watched.user_id AND pumps.is_retired = 0))";
        query(sql).with((asked_at, self.lists_to_remove, latest)).execute(tx).await?;
        Ok(None)
    }
}
