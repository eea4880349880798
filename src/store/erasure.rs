//! Erasing a customer: everything goes but a tombstone, a keyed hash of the id and a moment.
//!
//! One transaction, which refuses while anybody works on the customer. Afterwards an event that happened until then
//! and comes again, or late, is answered and kept as a row without content, so nothing personal comes back and nobody
//! is made a customer again; one that happened later is of a new customer (docs/adr/0012). It never touches Podero.
//!
//! Before: [`crate::cli`]. After: [`crate::store::inbox`], which asks for the tombstone with each insert.

use std::sync::Arc;

use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;
use sqlx::{AnyConnection, Row};

use super::db::Db;
use super::writer::Write;
use super::{Error, Store};
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::customer::Customer;
use crate::domain::event::Event;

/// Rows looked through at once for what never became an event and speaks of the customer: each may be as large as a
/// message can be.
const LOOK_MAX: i64 = 20;

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
        connection: &mut AnyConnection,
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
        let tombstones: i64 =
            sqlx::query("SELECT COUNT(*) FROM tombstones").fetch_one(&mut *connection).await?.try_get(0)?;
        if known.is_some() && (tombstones > 0 || !works) {
            return Err(Error::OtherKey);
        }
        sqlx::query(
            "INSERT INTO erasure_keys (name, value) VALUES ('mark', $1) ON CONFLICT (name) DO UPDATE SET value = $1",
        )
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
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

async fn value(connection: &mut AnyConnection, name: &'static str) -> Result<Option<String>, sqlx::Error> {
    let row =
        sqlx::query("SELECT value FROM erasure_keys WHERE name = $1").bind(name).fetch_optional(connection).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// The key that is kept in the store; made once, by whichever replica is first.
async fn of_store(connection: &mut AnyConnection, clock: &Clock) -> Result<String, Error> {
    if let Some(key) = value(connection, "key").await? {
        return Ok(key);
    }
    let fresh: String = clock.fresh_secret().iter().map(|byte| format!("{byte:02x}")).collect();
    sqlx::query("INSERT INTO erasure_keys (name, value) VALUES ('key', $1) ON CONFLICT (name) DO NOTHING")
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
    /// Messages that never became an event and speak of the customer: emptied, and skipped where they were parked.
    pub messages: u64,
    pub notices: u64,
    pub heat_pumps: u64,
}

/// Why a customer is not erased.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InTheWay {
    /// Signed up and not churned: still at Podero.
    pub is_active: bool,
    /// Events without an end, by state.
    pub unsettled: Vec<(String, i64)>,
    /// Outgoing events that are not out.
    pub unpublished: i64,
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
    /// way; with `force` only by a claim. After `Ok(Ok(_))` it is gone from the tables; see [`Store::scrub`].
    pub async fn erase(&self, customer: &str, force: bool) -> Result<Result<Erased, InTheWay>, Error> {
        let messages = self.messages_of(customer).await?;
        let erase =
            Erase { customer: customer.to_owned(), force, messages, key: self.0.key.clone(), now: self.0.clock.now() };
        self.write(erase).await
    }

    /// Messages that never became an event and speak of the customer, with what stays of their identity. Looked for
    /// beside the writer, page by page: their bytes belong to nobody's lane.
    async fn messages_of(&self, customer: &str) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let rows = sqlx::query(
                "SELECT id, raw, raw_encoding FROM events WHERE lane IS NULL AND id > $1 AND raw <> '' \
                 ORDER BY id LIMIT $2",
            )
            .bind(after.clone())
            .bind(LOOK_MAX)
            .fetch_all(&self.0.readers)
            .await?;
            for row in &rows {
                let (id, raw, encoding): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                if speaks_of(&raw, &encoding, customer) {
                    found.push(id.clone());
                }
                after = id;
            }
            if i64::try_from(rows.len()).unwrap_or(0) < LOOK_MAX {
                return Ok(found);
            }
        }
    }
}

/// Whether bytes that are no event name the customer: as a value of their JSON, else as a word of their text.
fn speaks_of(raw: &str, encoding: &str, customer: &str) -> bool {
    use base64::Engine;
    let decoded;
    let text = if encoding == "base64" {
        let bytes = base64::engine::general_purpose::STANDARD.decode(raw).unwrap_or_default();
        decoded = String::from_utf8_lossy(&bytes).into_owned();
        decoded.as_str()
    } else {
        raw
    };
    match serde_json::from_str::<Value>(text) {
        Ok(value) => is_in(&value, customer),
        Err(_) => is_word_of(text, customer),
    }
}

fn is_in(value: &Value, customer: &str) -> bool {
    match value {
        Value::String(text) => text == customer || is_word_of(text, customer),
        Value::Number(number) => number.to_string() == customer,
        Value::Array(items) => items.iter().any(|item| is_in(item, customer)),
        Value::Object(fields) => fields.iter().any(|(name, value)| name == customer || is_in(value, customer)),
        Value::Null | Value::Bool(_) => false,
    }
}

/// `C-1` is not named by `C-12`.
fn is_word_of(text: &str, customer: &str) -> bool {
    text.match_indices(customer).any(|(at, found)| {
        let is_inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        !is_inside(text[..at].chars().next_back()) && !is_inside(text[at + found.len()..].chars().next())
    })
}

struct Erase {
    customer: String,
    force: bool,
    messages: Vec<String>,
    key: Key,
    now: Timestamp,
}

impl Write for Erase {
    type Output = Result<Erased, InTheWay>;

    async fn run(&self, db: &Db, connection: &mut AnyConnection) -> Result<Self::Output, sqlx::Error> {
        if let Some(hold) = db.hold_events() {
            sqlx::raw_sql(hold).execute(&mut *connection).await?;
        }
        let found = self.in_the_way(connection).await?;
        if found.is_claimed || (!self.force && !found.is_nothing()) {
            return Ok(Err(found));
        }
        let erased_at = self.until(connection).await?;
        // Whoever claimed it since has it.
        let lane = sqlx::query("DELETE FROM lanes WHERE lane = $1 AND claimed = 0").bind(self.customer.clone());
        lane.execute(&mut *connection).await?;
        let left = sqlx::query("SELECT lane FROM lanes WHERE lane = $1").bind(self.customer.clone());
        if left.fetch_optional(&mut *connection).await?.is_some() {
            return Ok(Err(InTheWay { is_claimed: true, ..found }));
        }
        sqlx::query("DELETE FROM calls WHERE event_id IN (SELECT id FROM events WHERE lane = $1)")
            .bind(self.customer.clone())
            .execute(&mut *connection)
            .await?;
        let events = self.delete(connection, "DELETE FROM events WHERE lane = $1").await?;
        let notices = self.delete(connection, "DELETE FROM notices WHERE customer = $1").await?;
        let heat_pumps = self.delete(connection, "DELETE FROM pumps WHERE customer = $1").await?;
        self.delete(connection, "DELETE FROM watched WHERE customer = $1").await?;
        let messages = self.empty_messages(connection).await?;
        sqlx::query(
            "INSERT INTO tombstones (customer, erased_at) VALUES ($1, $2) ON CONFLICT (customer) DO UPDATE \
             SET erased_at = CASE WHEN tombstones.erased_at > $2 THEN tombstones.erased_at ELSE $2 END",
        )
        .bind(self.key.customer(&self.customer))
        .bind(erased_at.micros())
        .execute(connection)
        .await?;
        Ok(Ok(Erased { erased_at, events, messages, notices, heat_pumps }))
    }
}

impl Erase {
    async fn in_the_way(&self, connection: &mut AnyConnection) -> Result<InTheWay, sqlx::Error> {
        let mut found = InTheWay::default();
        let lane = sqlx::query("SELECT customer, claimed FROM lanes WHERE lane = $1").bind(self.customer.clone());
        if let Some(row) = lane.fetch_optional(&mut *connection).await? {
            let customer = serde_json::from_str::<Customer>(&row.try_get::<String, _>(0)?).unwrap_or_default();
            found.is_active = customer.facts.is_active();
            found.is_claimed = row.try_get::<i64, _>(1)? == 1;
        }
        let unsettled = sqlx::query(
            "SELECT state, COUNT(*) FROM events WHERE lane = $1 \
             AND state IN ('pending', 'waiting', 'scheduled', 'parked') GROUP BY state ORDER BY state",
        );
        for row in unsettled.bind(self.customer.clone()).fetch_all(&mut *connection).await? {
            found.unsettled.push((row.try_get(0)?, row.try_get(1)?));
        }
        let unpublished = sqlx::query("SELECT COUNT(*) FROM notices WHERE customer = $1 AND state = 'pending'");
        found.unpublished = unpublished.bind(self.customer.clone()).fetch_one(connection).await?.try_get(0)?;
        Ok(found)
    }

    /// Now, or the newest event that is there if its sender's clock is ahead: none of them is to count as a later one.
    /// When it happened, not when it takes effect.
    async fn until(&self, connection: &mut AnyConnection) -> Result<Timestamp, sqlx::Error> {
        let ahead = sqlx::query("SELECT event FROM events WHERE lane = $1 AND time > $2 AND door <> 'internal'");
        let rows = ahead.bind(self.customer.clone()).bind(self.now.micros()).fetch_all(connection).await?;
        let mut until = self.now;
        for row in &rows {
            let text: Option<String> = row.try_get(0)?;
            let event = text.and_then(|text| serde_json::from_str::<Event>(&text).ok());
            until = until.max(event.map_or(self.now, |event| event.time));
        }
        Ok(until)
    }

    async fn delete(&self, connection: &mut AnyConnection, statement: &'static str) -> Result<u64, sqlx::Error> {
        Ok(sqlx::query(statement).bind(self.customer.clone()).execute(connection).await?.rows_affected())
    }

    /// The row stays, so that the same message does not come back; what it said does not.
    async fn empty_messages(&self, connection: &mut AnyConnection) -> Result<u64, sqlx::Error> {
        let mut emptied = 0;
        for id in &self.messages {
            let row = sqlx::query("SELECT origin, origin_id, digest FROM events WHERE id = $1 AND lane IS NULL");
            let Some(row) = row.bind(id.clone()).fetch_optional(&mut *connection).await? else { continue };
            let (origin, origin_id, digest): (String, String, String) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let updated = sqlx::query(
                "UPDATE events SET origin = $2, origin_id = $3, digest = $4, raw = '', raw_encoding = 'utf8', envelope = NULL, \
                 state = CASE WHEN state = 'parked' THEN 'skipped' ELSE state END, settled_at = $5 WHERE id = $1",
            )
            .bind(id.clone())
            .bind(ERASED)
            .bind(self.key.identity(&origin, &origin_id))
            .bind(self.key.digest(&digest))
            .bind(self.now.micros())
            .execute(&mut *connection)
            .await?;
            emptied += updated.rows_affected();
        }
        Ok(emptied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_speaks_of_a_customer_by_a_value_or_a_word_and_not_by_a_part_of_one() {
        for (raw, expected) in [
            (r#"{"data":{"customer_id":"C-1"}}"#, true),
            (r#"{"data":{"customer_id":"C-12"}}"#, false),
            (r#"{"note":"moved: C-1, see mail"}"#, true),
            (r#"[{"C-1":{}}]"#, true),
            ("<customer>C-1</customer>", true),
            ("<customer>XC-1</customer>", false),
        ] {
            assert_eq!(speaks_of(raw, "utf8", "C-1"), expected, "{raw}");
        }
        assert!(speaks_of(r#"{"customer_id":4711}"#, "utf8", "4711"));
        assert!(speaks_of(r#"{"customer_id":"\u0043-1"}"#, "utf8", "C-1"), "as JSON means it");
        assert!(speaks_of("QwAtMSBDLTEgeA==", "base64", "C-1"));
    }

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
