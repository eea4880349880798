//! Erasing a customer: everything goes but a tombstone, a keyed hash of the id and a moment.
//!
//! One transaction, which refuses while anybody works on the customer. Afterwards an event that happened until then
//! and comes again, or late, is answered and kept as a row without content, so nothing personal comes back and nobody
//! is made a customer again; one that happened later is of a new customer (docs/adr/0012). It never touches Podero.
//!
//! Before: [`crate::cli`]. After: [`crate::store::inbox`], which asks for the tombstone with each insert.

use std::sync::Arc;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::db::{Connection, Db, Fault, query};
use super::keeping;
use super::mentions::{Mention, mention_of};
use super::moments;
use super::writer::Write;
use super::{Error, Store};
use crate::clock::Clock;
use crate::domain::customer::Customer;
use crate::domain::event::{Event, EventState};
use crate::domain::{EventId, Timestamp};

/// Rows looked through at once for what never became an event and speaks of the customer: each may be as large as a
/// message can be.
const LOOK_MAX: usize = 20;

/// `origin` of the rows of events that came after their customer was erased; `origin_id` is a keyed hash of both.
pub(super) const ERASED: &str = "erased";

/// What hashes an erased customer's id.
#[derive(Clone)]
pub(super) struct Key(Arc<[u8]>);

impl Key {
    /// The configured key, else the one that this store made for itself. A key other than the one of the tombstones
    /// that are there would not know them, and erased customers would come back: that is refused. So is a command
    /// (`works` is false) with another key than the bridge's, which would not know what it erased.
    pub(super) async fn open(
        connection: &mut Connection,
        configured: Option<&str>,
        works: bool,
        clock: &Clock,
    ) -> Result<Self, Error> {
        let key = match configured {
            Some(text) => Self(text.as_bytes().into()),
            None => Self(of_store(connection, clock).await?.as_bytes().into()),
        };
        let mark = key.hash(&["mark"]);
        let known = value(connection, "mark").await?;
        if known.as_ref() == Some(&mark) {
            return Ok(key);
        }
        let tombstones: i64 = query("SELECT COUNT(*) FROM tombstones").fetch_one(&mut *connection).await?;
        if known.is_some() && (tombstones > 0 || !works) {
            return Err(Error::OtherKey);
        }
        query("INSERT INTO erasure_keys (name, value) VALUES ('mark', $1) ON CONFLICT (name) DO UPDATE SET value = $1")
            .bind(mark)
            .execute(connection)
            .await?;
        Ok(key)
    }

    /// The tombstone's name of a customer.
    pub(super) fn customer(&self, id: &str) -> String {
        self.hash(&["customer", id])
    }

    /// What stays of an event's identity.
    pub(super) fn identity(&self, origin: &str, origin_id: &str) -> String {
        self.hash(&["event", origin, origin_id])
    }

    /// What stays of an event's digest: without the key, the digest of few possible contents could be guessed.
    pub(super) fn digest(&self, digest: &str) -> String {
        self.hash(&["digest", digest])
    }

    fn hash(&self, parts: &[&str]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        for part in parts {
            // Lengths before texts: two lists never look the same.
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part.as_bytes());
        }
        format!("{:x}", mac.finalize().into_bytes())
    }
}

async fn value(connection: &mut Connection, name: &'static str) -> Result<Option<String>, Fault> {
    query("SELECT value FROM erasure_keys WHERE name = $1").bind(name).fetch_optional(connection).await
}

/// The key that is kept in the store; made once, by whichever replica is first.
async fn of_store(connection: &mut Connection, clock: &Clock) -> Result<String, Error> {
    if let Some(key) = value(connection, "key").await? {
        return Ok(key);
    }
    let fresh: String = clock.fresh_secret().iter().map(|byte| format!("{byte:02x}")).collect();
    query("INSERT INTO erasure_keys (name, value) VALUES ('key', $1) ON CONFLICT (name) DO NOTHING")
        .bind(fresh)
        .execute(&mut *connection)
        .await?;
    value(connection, "key").await?.ok_or_else(|| Error::Away("what was written is not there".to_owned()))
}

/// What was erased.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[expect(missing_docs, reason = "named for what they hold")]
pub struct Erased {
    pub erased_at: Timestamp,
    pub events: u64,
    /// Messages that never became an event and were about the customer: emptied, and skipped where they were parked; of
    /// a batch, only the customer's own events were cut out.
    pub messages: u64,
    /// Messages, by our id, in which the customer's id occurs as a word: left as they are, for a person to look at.
    pub mentions: Vec<EventId>,
    pub notices: u64,
    pub heat_pumps: u64,
}

/// Why a customer is not erased.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InTheWay {
    /// Signed up and not churned: still at Podero.
    pub is_active: bool,
    /// Events without an end, by state.
    pub unsettled: Vec<(EventState, i64)>,
    /// Outgoing events that are not out.
    pub unpublished: i64,
    /// Alerts that nobody would hear the end of.
    pub open_alerts: i64,
    /// Messages that were named and are none.
    pub no_messages: Vec<EventId>,
    /// No table and no tombstone knows the id: mistyped, or erased under another one.
    pub is_unknown: bool,
    /// An applier works on the customer, or died over it: the one thing that cannot be forced.
    pub is_claimed: bool,
}

impl InTheWay {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Store {
    /// Removes everything of a customer from every table and leaves a tombstone. Refused while something is in the
    /// way; with `force` only by a claim. `also` are messages that somebody looked at: emptied as well. After `Ok(Ok(_))`
    /// it is gone from the tables; see [`Store::scrub`].
    pub async fn erase(
        &self,
        customer: &str,
        also: &[EventId],
        force: bool,
    ) -> Result<Result<Erased, InTheWay>, Error> {
        let mut messages = self.messages_of(customer).await?;
        messages.also = also.to_vec();
        messages.mentions.retain(|id| !messages.also.contains(id));
        let (key, now) = (self.0.key.clone(), self.0.clock.now());
        self.write(Erase { customer: customer.to_owned(), force, messages, key, now }).await
    }

    /// Messages that never became an event and speak of the customer. Looked for beside the writer, page by page: their
    /// bytes belong to nobody's lane.
    async fn messages_of(&self, customer: &str) -> Result<Messages, Error> {
        let mut found = Messages::default();
        let mut after = String::new();
        loop {
            let rows: Vec<(EventId, String, String, Option<String>)> = query(
                "SELECT id, raw, raw_encoding, envelope FROM events WHERE lane IS NULL AND id > $1 AND raw <> '' \
                 ORDER BY id LIMIT $2",
            )
            .with((&after, LOOK_MAX))
            .fetch_all(&self.0.readers)
            .await?;
            let is_last = rows.len() < LOOK_MAX;
            for (id, raw, encoding, envelope) in rows {
                after = id.to_string();
                match mention_of((&raw, &encoding), envelope.as_deref(), customer) {
                    Mention::Nothing => {}
                    Mention::Mentions => found.mentions.push(id),
                    Mention::OnlyOf => found.emptied.push(id),
                    Mention::AlsoOf { rest, is_mentioned } => {
                        found.cut.push(Cut { id, raw, rest });
                        found.mentions.extend(is_mentioned.then_some(id));
                    }
                }
            }
            if is_last {
                return Ok(found);
            }
        }
    }
}

/// Messages by what is done to them.
#[derive(Default)]
struct Messages {
    emptied: Vec<EventId>,
    cut: Vec<Cut>,
    mentions: Vec<EventId>,
    /// Those that somebody named.
    also: Vec<EventId>,
}

/// A batch of which a part goes.
struct Cut {
    id: EventId,
    raw: String,
    rest: String,
}

struct Erase {
    customer: String,
    force: bool,
    messages: Messages,
    key: Key,
    now: Timestamp,
}

impl Write for Erase {
    type Output = Result<Erased, InTheWay>;

    /// How much there is of one customer nobody knows before: it goes alone.
    fn weight(&self) -> usize {
        usize::MAX
    }

    async fn run(&self, db: &Db, connection: &mut Connection) -> Result<Self::Output, Fault> {
        if let Some(hold) = db.hold_events() {
            connection.batch(hold).await?;
        }
        let found = self.in_the_way(connection).await?;
        if found.is_claimed || (!self.force && !found.is_nothing()) {
            return Ok(Err(found));
        }
        let erased_at = self.until(connection).await?;
        // Whoever claimed it since has it.
        let lane = query("DELETE FROM lanes WHERE lane = $1 AND claimed = 0").bind(&self.customer);
        lane.execute(&mut *connection).await?;
        let left = query("SELECT lane FROM lanes WHERE lane = $1").bind(&self.customer);
        if left.finds(&mut *connection).await? {
            return Ok(Err(InTheWay { is_claimed: true, ..found }));
        }
        query("DELETE FROM calls WHERE event_id IN (SELECT id FROM events WHERE lane = $1)")
            .bind(&self.customer)
            .execute(&mut *connection)
            .await?;
        let events = self.delete(connection, "DELETE FROM events WHERE lane = $1").await?;
        let notices = self.delete(connection, "DELETE FROM notices WHERE customer = $1").await?;
        let heat_pumps = self.delete(connection, "DELETE FROM pumps WHERE customer = $1").await?;
        self.delete(connection, "DELETE FROM watched WHERE customer = $1").await?;
        let messages = self.empty_messages(connection).await? + self.cut_messages(connection).await?;
        let mentions = self.messages.mentions.clone();
        query(
            "INSERT INTO tombstones (customer, erased_at) VALUES ($1, $2) ON CONFLICT (customer) DO UPDATE \
             SET erased_at = CASE WHEN tombstones.erased_at > $2 AND tombstones.erased_at <= $3 \
             THEN tombstones.erased_at ELSE $2 END",
        )
        .with((self.key.customer(&self.customer), erased_at))
        // One beyond it is of a clock that was ahead: an erasure by one that is right mends it.
        .bind(moments::tombstone_ceiling(self.now))
        .execute(&mut *connection)
        .await?;
        keeping::owe_scrub(db, connection).await?;
        Ok(Ok(Erased { erased_at, events, messages, mentions, notices, heat_pumps }))
    }
}

impl Erase {
    async fn in_the_way(&self, connection: &mut Connection) -> Result<InTheWay, Fault> {
        let mut found = InTheWay { is_unknown: !self.is_known(connection).await?, ..InTheWay::default() };
        for id in &self.messages.also {
            let message = query("SELECT id FROM events WHERE id = $1 AND lane IS NULL").bind(*id);
            if !message.finds(&mut *connection).await? {
                found.no_messages.push(*id);
            }
        }
        let lane = query("SELECT customer, claimed FROM lanes WHERE lane = $1").bind(&self.customer);
        let lane: Option<(String, bool)> = lane.fetch_optional(&mut *connection).await?;
        if let Some((customer, is_claimed)) = lane {
            let customer = serde_json::from_str::<Customer>(&customer).unwrap_or_default();
            found.is_active = customer.facts.is_active();
            found.is_claimed = is_claimed;
        } else {
            // At Podero before the bridge, or past it: the watch came across the user.
            found.is_active = self.count(connection, "SELECT COUNT(*) FROM watched WHERE customer = $1").await? > 0;
        }
        let unsettled = query(
            "SELECT state, COUNT(*) FROM events WHERE lane = $1 \
             AND state IN ('pending', 'waiting', 'scheduled', 'parked') GROUP BY state ORDER BY state",
        );
        found.unsettled = unsettled.bind(&self.customer).fetch_all(&mut *connection).await?;
        let unpublished = "SELECT COUNT(*) FROM notices WHERE customer = $1 AND state = 'pending'";
        found.unpublished = self.count(connection, unpublished).await?;
        let open_alerts = "SELECT COUNT(*) FROM pumps WHERE customer = $1 AND has_alert = 1";
        found.open_alerts = self.count(connection, open_alerts).await?;
        Ok(found)
    }

    /// Whether there is anything to erase, or was.
    async fn is_known(&self, connection: &mut Connection) -> Result<bool, Fault> {
        if !self.messages.emptied.is_empty() || !self.messages.cut.is_empty() {
            return Ok(true);
        }
        let rows = "SELECT (SELECT COUNT(*) FROM lanes WHERE lane = $1) + (SELECT COUNT(*) FROM events WHERE lane = $1) \
                    + (SELECT COUNT(*) FROM notices WHERE customer = $1) + (SELECT COUNT(*) FROM pumps WHERE customer = $1) \
                    + (SELECT COUNT(*) FROM watched WHERE customer = $1)";
        let tombstones = query("SELECT COUNT(*) FROM tombstones WHERE customer = $1");
        let tombstones: i64 = tombstones.bind(self.key.customer(&self.customer)).fetch_one(&mut *connection).await?;
        Ok(self.count(connection, rows).await? + tombstones > 0)
    }

    async fn count(&self, connection: &mut Connection, sql: &'static str) -> Result<i64, Fault> {
        query(sql).bind(&self.customer).fetch_one(connection).await
    }

    /// Now, or the newest event that is there if its sender's clock is ahead: none of them is to count as a later one.
    /// When it happened, not when it takes effect.
    async fn until(&self, connection: &mut Connection) -> Result<Timestamp, Fault> {
        let ahead = query("SELECT event FROM events WHERE lane = $1 AND time > $2 AND door <> 'internal'");
        let texts: Vec<Option<String>> = ahead.with((&self.customer, self.now)).fetch_all(connection).await?;
        let mut until = self.now;
        for text in texts {
            let event = text.and_then(|text| serde_json::from_str::<Event>(&text).ok());
            until = until.max(event.map_or(self.now, |event| event.time));
        }
        Ok(until)
    }

    async fn delete(&self, connection: &mut Connection, statement: &'static str) -> Result<u64, Fault> {
        query(statement).bind(&self.customer).execute(connection).await
    }

    /// What is left of a batch waits for a person as before.
    async fn cut_messages(&self, connection: &mut Connection) -> Result<u64, Fault> {
        let mut cut = 0;
        for Cut { id, raw, rest } in &self.messages.cut {
            let update =
                query("UPDATE events SET raw = $2, raw_encoding = 'utf8' WHERE id = $1 AND lane IS NULL AND raw = $3");
            let update = update.with((*id, rest, raw));
            if update.execute(&mut *connection).await? == 0 {
                // Another erasure cut it since it was read: what is left now is to be looked at anew.
                return Err(Fault::Missing);
            }
            cut += 1;
        }
        Ok(cut)
    }

    /// The row stays, so that the same message does not come back; what it said does not.
    async fn empty_messages(&self, connection: &mut Connection) -> Result<u64, Fault> {
        let mut emptied = 0;
        for id in self.messages.emptied.iter().chain(&self.messages.also) {
            let row = query("SELECT origin, origin_id, digest FROM events WHERE id = $1 AND lane IS NULL");
            let row: Option<(String, String, String)> = row.bind(*id).fetch_optional(&mut *connection).await?;
            let Some((origin, origin_id, digest)) = row else { continue };
            if origin == ERASED {
                continue;
            }
            let updated = query(
                "UPDATE events SET origin = $2, origin_id = $3, digest = $4, raw = '', raw_encoding = 'utf8', envelope = NULL, \
                 state = CASE WHEN state = 'parked' OR state = 'pending' THEN 'skipped' ELSE state END, settled_at = $5 \
                 WHERE id = $1",
            )
            .with((*id, ERASED, self.key.identity(&origin, &origin_id), self.key.digest(&digest), self.now))
            .execute(&mut *connection)
            .await?;
            emptied += updated;
        }
        Ok(emptied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_differ_by_key_use_and_parts() {
        let (one, two) = (Key(b"one".as_slice().into()), Key(b"two".as_slice().into()));
        let hashes = [
            one.customer("C-1"),
            two.customer("C-1"),
            one.digest("C-1"),
            one.identity("C", "-1"),
            one.identity("C-", "1"),
        ];
        for (place, hash) in hashes.iter().enumerate() {
            assert_eq!(hash.len(), 64);
            assert!(!hashes[..place].contains(hash));
        }
    }
}
