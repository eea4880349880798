//! The watch's memory: whose heat pumps are polled, when, and what was seen of each.
//!
//! Due times and hysteresis counts are rows, so a restart in the middle of a sweep forgets nothing. What was
//! seen of a pump and the alert about it are written in one transaction or not at all.
//!
//! Before: [`crate::watch`] polls. After: the outbox, and `GET /v1/heat-pumps`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::closed_sets::Target;
use super::db::{Connection, Db, Fault, listed, ours, query, row};
use super::moments::Reach;
use super::outbox;
use super::taken::Taking;
use super::writer::Write;
use super::{Error, Store};
use crate::domain::Timestamp;
use crate::domain::alert::{self, PumpChange, PumpRecord, Shrunk};
use crate::domain::customer::Customer;
use crate::domain::event::{EventKind, EventState};
use crate::domain::notice::Notice;

/// Roster rows in one transaction: small enough that doors and appliers do not wait long behind them.
const CHUNK: usize = 500;

/// Before a move or a churn takes effect, things are unplugged: from a day before on, nobody wants a ticket for it.
const LEAVING_WINDOW: Duration = Duration::from_hours(24);

/// A user whose heat pumps are to be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Podero's id.
    pub user: Uuid,
    /// The utility's id, where Podero knows it.
    pub customer: Option<String>,
    /// Where the user lives, if regions are watched.
    pub region: Option<String>,
    /// First poll, if the user is new; a known one keeps its own rhythm.
    pub first_due: Timestamp,
}

/// One complete list of users, and how far it is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// Those whose heat pumps are watched.
    pub members: Vec<Member>,
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// Number of lists in a row that do not name a user, after which they are watched no more.
    pub lists_to_remove: u32,
    /// Lists that are further apart are no row.
    pub break_after: Duration,
}

/// Changes that a list of users has made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Kept {
    /// Memories of heat pumps whose owner is watched no more, and that were not retired yet.
    pub orphans: Vec<PumpRecord>,
    /// The list newly omits more users than is credible: nothing was concluded from it.
    pub doubted: Option<Shrunk>,
}

/// A user whose poll is due.
#[derive(Debug, Clone)]
pub struct DueUser {
    /// Podero's id.
    pub user: Uuid,
    /// The utility's id, where Podero knows it.
    pub customer: Option<String>,
    /// Where the user lives, if regions are watched.
    pub region: Option<String>,
    /// A move or a churn of the customer is under way or about to be, or the customer has left.
    pub is_leaving: bool,
    /// What is remembered of the user's pumps.
    pub seen: Vec<PumpRecord>,
}

/// What one complete poll of a user tells.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Podero's id of the user.
    pub user: Uuid,
    /// Pump by pump.
    pub changes: Vec<PumpChange>,
    /// The next poll.
    pub due_at: Timestamp,
}

impl Store {
    /// Takes in a complete list of users. Users whom lists in a row do not name are watched no more; until then they are
    /// polled. Gives back what is remembered of the heat pumps of those who are not watched; they are given back again with
    /// the next list until they are retired.
    pub async fn keep_roster(&self, roster: Roster) -> Result<Kept, Error> {
        for chunk in roster.members.chunks(CHUNK) {
            self.write(KeepMembers { members: chunk.to_vec(), roster: roster.asked_at }).await?;
        }
        let miss = MissOthers {
            asked_at: roster.asked_at,
            break_from: roster.asked_at.minus(roster.break_after),
            lists_to_remove: roster.lists_to_remove,
        };
        let doubted = self.write(miss).await?;
        let orphans: Vec<String> = query(
            "SELECT seen FROM pumps WHERE is_retired = 0 \
             AND NOT EXISTS (SELECT 1 FROM watched WHERE watched.user_id = pumps.user_id)",
        )
        .fetch_all(&self.0.readers)
        .await?;
        let now = self.0.clock.now();
        Ok(Kept { orphans: seen_by(now, &orphans), doubted })
    }

    /// Takes up to `limit` users whose poll is due; nobody else gets them for `lease`. They stay due until the poll is
    /// written down, so a crash in the middle costs no more than the lease.
    pub async fn due_users(&self, limit: usize, lease: Duration) -> Result<Vec<DueUser>, Error> {
        let now = self.0.clock.now();
        let taking = self.taking(&self.0.polls);
        let ceiling = self.0.ceilings.get().poll;
        let take = TakeDue { now, until: now.plus(lease), limit, ceiling, taking: taking.clone() };
        let due = self.write_taking(take, taking).await?;
        Ok(due.into_iter().map(|(user, seen)| DueUser { seen: seen_by(now, &seen), ..user }).collect())
    }

    /// What is remembered of these heat pumps, whoever's they were, after all that was written before.
    pub async fn remembered(&self, heat_pumps: &[Uuid]) -> Result<Vec<PumpRecord>, Error> {
        let found = self.write(Remembered { heat_pumps: heat_pumps.to_vec() }).await?;
        Ok(seen_by(self.0.clock.now(), &found))
    }

    /// A poll that gave nothing is due again at `at`: nothing is concluded from it.
    pub async fn poll_again(&self, user: Uuid, at: Timestamp) -> Result<(), Error> {
        self.write(PollAgain { user, at }).await?;
        self.0.polls.give_back(&[user]);
        Ok(())
    }

    /// Writes down what a complete poll told, with its notices. A pump that somebody else wrote in the meantime
    /// keeps theirs, and its notice is not sent.
    pub async fn observe(&self, observed: Observed) -> Result<(), Error> {
        let clock = &self.0.clock;
        let Observed { user, changes, due_at } = observed;
        let place = |change: &PumpChange| change.notices.iter().map(|_| clock.fresh_id().to_string()).collect();
        let changes = changes.into_iter().map(|change| (place(&change), Ready::new(change))).collect();
        let targets = self.0.targets.clone();
        self.write(Observe { user, changes, due_at, targets, now: clock.now() }).await?;
        self.0.polls.give_back(&[user]);
        Ok(())
    }
}

/// One memory that this version cannot read must not keep the others from being polled; what is in it stays as it is.
pub(super) fn legible(text: &str) -> Option<PumpRecord> {
    serde_json::from_str(text)
        .inspect_err(|error| tracing::error!(%error, "what is remembered of a heat pump cannot be read"))
        .ok()
}

/// Memories as far as they can be true now.
fn seen_by(now: Timestamp, texts: &[String]) -> Vec<PumpRecord> {
    texts.iter().filter_map(|text| legible(text)).map(|seen| seen.no_later_than(now)).collect()
}

/// What is remembered of a customer's pumps that are still watched.
pub(super) async fn seen_of(connection: &mut Connection, customer: &str) -> Result<Vec<String>, Fault> {
    query("SELECT seen FROM pumps WHERE customer = $1 AND is_retired = 0").bind(customer).fetch_all(connection).await
}

/// Ends the watch of a pump as `change` says, also when a poll wrote it since it was read: the end holds for what
/// that poll saw as well.
pub(super) async fn end(
    connection: &mut Connection,
    ended: &PumpChange,
    targets: &[Target],
    place: &str,
    now: Timestamp,
) -> Result<(), Fault> {
    let place = place.to_owned();
    let places = std::slice::from_ref(&place);
    if change(connection, &Ready::new(ended.clone()), targets, (places, now), IfNew::Keep).await? {
        return Ok(());
    }
    let text: Option<String> = query("SELECT seen FROM pumps WHERE heat_pump = $1")
        .bind(ended.seen.heat_pump.to_string())
        .fetch_optional(&mut *connection)
        .await?;
    let newer = text.and_then(|text| legible(&text)).filter(|seen| !seen.is_retired);
    if let (Some(newer), Some(resolution)) = (newer, ended.ended) {
        let ended = Ready::new(alert::retire(&newer, resolution, now));
        change(connection, &ended, targets, (places, now), IfNew::Keep).await?;
    }
    Ok(())
}

/// What to do with a pump that is not remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfNew {
    /// Remember it.
    Keep,
    /// Remember it if its owner is still watched: whoever was erased while a poll was under way does not come back.
    KeepIfWatched,
}

/// Writes a pump that is remembered, that nobody has written since it was read, and of which nothing has changed that is looked
/// for by an index: nearly always. SQLite writes each index anew whose column is set, also to what it is.
const QUIET: &str = "UPDATE pumps SET seen = $7, version = $8, checked_at = $9 WHERE heat_pump = $1 AND version = $13 AND user_id = $2 \
    AND customer IS NOT DISTINCT FROM CAST($3 AS TEXT) AND knowledge = $4 AND is_retired = $5 AND has_alert = $6 \
    AND manufacturer IS NOT DISTINCT FROM CAST($10 AS TEXT) AND region IS NOT DISTINCT FROM CAST($11 AS TEXT) \
    AND lost_at IS NOT DISTINCT FROM CAST($12 AS BIGINT)";

/// Writes a pump that is remembered, and that nobody has written since it was read.
const KNOWN: &str = "UPDATE pumps SET user_id = $2, customer = $3, knowledge = $4, is_retired = $5, has_alert = $6, seen = $7, \
    version = $8, checked_at = $9, manufacturer = $10, region = $11, lost_at = $12 WHERE heat_pump = $1 AND version = $13";

/// Writes a pump that is not remembered, if it is to be.
const NEW: &str = "INSERT INTO pumps (heat_pump, user_id, customer, knowledge, is_retired, has_alert, seen, version, checked_at, \
    manufacturer, region, lost_at) \
    SELECT $1, $2, CAST($3 AS TEXT), $4, $5, $6, $7, $8, $9, CAST($10 AS TEXT), CAST($11 AS TEXT), CAST($12 AS BIGINT) \
    WHERE $14 = 1 OR ($13 = 0 AND EXISTS (SELECT 1 FROM watched WHERE user_id = $2)) ON CONFLICT (heat_pump) DO NOTHING";

/// A memory as it is written, made by whoever brings it: the writer has enough to do.
struct Ready {
    seen: PumpRecord,
    /// The version that it replaces.
    read: i64,
    text: String,
    notices: Vec<Notice>,
}

impl Ready {
    fn new(change: PumpChange) -> Self {
        let read = change.seen.version;
        let seen = PumpRecord { version: read + 1, ..change.seen };
        let text = serde_json::to_string(&seen).expect("a memory has only serialisable fields");
        Self { seen, read, text, notices: change.notices }
    }
}

/// Writes one pump, and its notices with it, unless somebody else wrote or removed it since it was read: then `false`.
async fn change(
    connection: &mut Connection,
    Ready { seen, read, text, notices }: &Ready,
    targets: &[Target],
    (places, now): (&[String], Timestamp),
    if_new: IfNew,
) -> Result<bool, Fault> {
    let fill = |statement: &'static str| {
        query(statement)
            .with((
                seen.heat_pump,
                seen.user,
                &seen.customer,
                seen.knowledge.name(),
                seen.is_retired,
                seen.alert.is_some(),
                text,
                seen.version,
                now,
                &seen.manufacturer,
                &seen.region,
                seen.fell_at,
            ))
            .bind(*read)
    };
    let mut written = 0;
    for statement in [QUIET, KNOWN] {
        if written == 0 && *read > 0 {
            written = fill(statement).execute(&mut *connection).await?;
        }
    }
    if written == 0 {
        written = fill(NEW).bind(if_new == IfNew::Keep).execute(&mut *connection).await?;
    }
    let is_written = written == 1;
    let notices = notices.iter().zip(places).filter(|_| is_written);
    for (notice, place) in notices {
        outbox::insert(connection, notice, seen.customer.as_deref(), targets, place, now).await?;
    }
    Ok(is_written)
}

struct KeepMembers {
    members: Vec<Member>,
    roster: Timestamp,
}

impl Write for KeepMembers {
    type Output = ();

    fn weight(&self) -> usize {
        self.members.len()
    }

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<(), Fault> {
        for member in &self.members {
            query(
                "INSERT INTO watched (user_id, customer, due_at, since, roster, region) VALUES ($1, $2, $3, $4, $4, $5) \
                 ON CONFLICT (user_id) DO UPDATE SET customer = $2, roster = $4, region = $5, missed_lists = 0, \
                 missed_at = NULL",
            )
            .with((member.user, &member.customer, member.first_due, self.roster, &member.region))
            .execute(&mut *connection)
            .await?;
        }
        Ok(())
    }
}

/// Counts the list for whom it does not name, and drops those of whom enough in a row do not.
struct MissOthers {
    asked_at: Timestamp,
    /// A list that was asked for earlier is no part of the row.
    break_from: Timestamp,
    lists_to_remove: u32,
}

impl Write for MissOthers {
    type Output = Option<Shrunk>;

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<Option<Shrunk>, Fault> {
        let (asked_at, break_from) = (self.asked_at, self.break_from);
        // A list in the future was kept while the clock was ahead.
        let latest = Timestamp::latest(self.asked_at, Duration::ZERO);
        let shrunk = query(
            "SELECT COALESCE(SUM(CASE WHEN (roster < $1 OR roster > $3) AND (missed_at IS NULL OR missed_at < $2) THEN 1 ELSE 0 END), 0), \
             COUNT(*) FROM watched",
        );
        let (missing, watched) = shrunk.with((asked_at, break_from, latest)).fetch_one(&mut *connection).await?;
        let shrunk = Shrunk { missing, watched };
        let is_doubted = shrunk.is_doubted();
        query(
            "UPDATE watched SET missed_lists = CASE WHEN missed_at >= $2 THEN missed_lists ELSE 0 END + $3, \
             missed_at = $1 WHERE roster < $1 OR roster > $4",
        )
        .with((asked_at, break_from, !is_doubted, latest))
        .execute(&mut *connection)
        .await?;
        if is_doubted {
            return Ok(Some(shrunk));
        }
        // A user without a heat pump that is watched loses nothing: a churn has retired them, say.
        query(
            "DELETE FROM watched WHERE (roster < $1 OR roster > $3) AND (missed_lists >= $2 OR NOT EXISTS \
             (SELECT 1 FROM pumps WHERE pumps.user_id = watched.user_id AND pumps.is_retired = 0))",
        )
        .with((asked_at, self.lists_to_remove, latest))
        .execute(connection)
        .await?;
        Ok(None)
    }
}

struct TakeDue {
    now: Timestamp,
    until: Timestamp,
    limit: usize,
    ceiling: Duration,
    taking: Option<Arc<Taking<Uuid>>>,
}

impl Write for TakeDue {
    const ONLY_IF_AWAITED: bool = true;
    /// Each with what is remembered, as it is written.
    type Output = Vec<(DueUser, Vec<String>)>;

    async fn run(&self, db: &Db, connection: &mut Connection) -> Result<Self::Output, Fault> {
        let mut due = match &self.taking {
            Some(taking) => self.in_memory(taking, connection).await?,
            None => self.in_rows(db, connection).await?,
        };
        if due.is_empty() {
            return Ok(Vec::new());
        }
        read_leaving_of(connection, &mut due, self.now).await?;
        let mut seen = read_seen_of(connection, &due).await?;
        let with_seen = due.into_iter().map(|user| {
            let seen = seen.remove(&user.user).unwrap_or_default();
            (user, seen)
        });
        Ok(with_seen.collect())
    }
}

impl TakeDue {
    async fn in_memory(&self, taking: &Taking<Uuid>, connection: &mut Connection) -> Result<Vec<DueUser>, Fault> {
        let looked_at = self.limit + taking.begin(self.now);
        let mut due: Vec<DueUser> = Vec::with_capacity(self.limit);
        for reach in Reach::BOTH {
            if due.len() == self.limit {
                break;
            }
            let look = ours(format!(
                "SELECT {columns} FROM watched WHERE due_at {compares} $1 ORDER BY due_at LIMIT $2",
                columns = WatchedRow::COLUMNS,
                compares = reach.compares(),
            ));
            let look = query(look).with((reach.bound(self.now, self.ceiling), looked_at));
            for row in look.fetch_all::<WatchedRow>(&mut *connection).await? {
                let user = DueUser::from(row);
                if due.len() < self.limit && taking.take(user.user, self.until) {
                    due.push(user);
                }
            }
        }
        Ok(due)
    }

    async fn in_rows(&self, db: &Db, connection: &mut Connection) -> Result<Vec<DueUser>, Fault> {
        let mut due = Vec::new();
        // No lease is longer than this one, which ends at `until`.
        let lease_ends_by = Timestamp::latest(self.until, Duration::ZERO);
        for reach in Reach::BOTH {
            if due.len() == self.limit {
                break;
            }
            let take = ours(format!(
                "UPDATE watched SET taken_until = $1 \
                 WHERE user_id IN (SELECT user_id FROM watched WHERE due_at {compares} $2 \
                 AND (taken_until <= $4 OR taken_until > $5) \
                 ORDER BY due_at LIMIT $3{}) RETURNING {columns}",
                db.skip_locked(),
                columns = WatchedRow::COLUMNS,
                compares = reach.compares(),
            ));
            let take = query(take).with((
                self.until,
                reach.bound(self.now, self.ceiling),
                self.limit - due.len(),
                self.now,
                lease_ends_by,
            ));
            due.extend(take.fetch_all::<WatchedRow>(&mut *connection).await?.into_iter().map(DueUser::from));
        }
        Ok(due)
    }
}

row! {
    /// A watched user whose poll is due.
    struct WatchedRow {
        user: Uuid = "user_id",
        customer: Option<String> = "customer",
        region: Option<String> = "region",
    }
}

impl From<WatchedRow> for DueUser {
    fn from(WatchedRow { user, customer, region }: WatchedRow) -> Self {
        Self { user, customer, region, is_leaving: false, seen: Vec::new() }
    }
}

async fn read_seen_of(connection: &mut Connection, due: &[DueUser]) -> Result<HashMap<Uuid, Vec<String>>, Fault> {
    let sql = ours(format!("SELECT user_id, seen FROM pumps WHERE user_id IN {}", listed(1, due.len())));
    let query = query(sql).with_each(due.iter().map(|user| user.user));
    let mut seen = HashMap::<Uuid, Vec<String>>::with_capacity(due.len());
    for (user, text) in query.fetch_all(connection).await? {
        seen.entry(user).or_default().push(text);
    }
    Ok(seen)
}

/// Who is moving or leaving (or has left, and Podero would not let them go: that churn is parked).
async fn read_leaving_of(connection: &mut Connection, due: &mut [DueUser], now: Timestamp) -> Result<(), Fault> {
    let customers: Vec<String> = due.iter().filter_map(|user| user.customer.clone()).collect();
    if customers.is_empty() {
        return Ok(());
    }
    let sql = ours(format!(
        "SELECT lane, state, MAX(time) FROM events WHERE lane IN {} AND (\
         (type IN ('{moved}', '{churned}') AND (state = 'pending' OR (state = 'scheduled' AND due_at <= $1))) \
         OR (type = '{churned}' AND state = 'parked')) GROUP BY lane, state",
        listed(2, customers.len()),
        moved = EventKind::Moved,
        churned = EventKind::Churned,
    ));
    let leaving = query(sql).bind(now.plus(LEAVING_WINDOW)).with_each(&customers);
    let leaving: Vec<(String, EventState, Timestamp)> = leaving.fetch_all(&mut *connection).await?;
    for (leaving, state, churned_at) in leaving {
        if state == EventState::Parked && has_come_back(connection, &leaving, churned_at).await? {
            continue;
        }
        due.iter_mut().filter(|due| due.customer.as_ref() == Some(&leaving)).for_each(|due| due.is_leaving = true);
    }
    Ok(())
}

/// Who signed up again since is one of ours; the sign-up itself may be forgotten by now, and what is known of them is not.
async fn has_come_back(connection: &mut Connection, customer: &str, churned_at: Timestamp) -> Result<bool, Fault> {
    let known = query("SELECT customer FROM lanes WHERE lane = $1").bind(customer);
    let known: Option<String> = known.fetch_optional(connection).await?;
    let known = known.and_then(|text| serde_json::from_str::<Customer>(&text).ok());
    let signed_up = known.and_then(|customer| customer.facts.signed_up);
    Ok(signed_up.is_some_and(|signed_up| signed_up.time > churned_at))
}

struct Remembered {
    heat_pumps: Vec<Uuid>,
}

impl Write for Remembered {
    const ONLY_IF_AWAITED: bool = true;
    type Output = Vec<String>;

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<Self::Output, Fault> {
        let sql = ours(format!("SELECT seen FROM pumps WHERE heat_pump IN {}", listed(1, self.heat_pumps.len())));
        query(sql).with_each(self.heat_pumps.iter().copied()).fetch_all(connection).await
    }
}

struct PollAgain {
    user: Uuid,
    at: Timestamp,
}

impl Write for PollAgain {
    type Output = ();

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<(), Fault> {
        query("UPDATE watched SET due_at = $2, taken_until = 0 WHERE user_id = $1")
            .with((self.user, self.at))
            .execute(connection)
            .await?;
        Ok(())
    }
}

struct Observe {
    user: Uuid,
    /// Each with the places of its notices.
    changes: Vec<(Vec<String>, Ready)>,
    due_at: Timestamp,
    targets: Vec<Target>,
    now: Timestamp,
}

impl Write for Observe {
    type Output = ();

    fn weight(&self) -> usize {
        1 + self.changes.len()
    }

    async fn run(&self, _: &Db, connection: &mut Connection) -> Result<(), Fault> {
        query("UPDATE watched SET polled_at = $2, due_at = $3, taken_until = 0 WHERE user_id = $1")
            .with((self.user, self.now, self.due_at))
            .execute(&mut *connection)
            .await?;
        for (places, seen) in &self.changes {
            change(connection, seen, &self.targets, (places, self.now), IfNew::KeepIfWatched).await?;
        }
        Ok(())
    }
}
