//! The key that recognises erased customers: tombstones hold keyed hashes, and no ids.
//!
//! Before: [`crate::store::open`] finds the key, or makes it. After: [`crate::store::inbox`] and [`crate::store::erasure`] hash
//! with it.

use std::sync::Arc;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::db::{Connection, DbFault, query};
use super::error::{Error, OpenError};
use crate::clock::Clock;

/// The `origin` of the rows of events that came after their customer was erased; `origin_id` is a keyed hash of both.
pub(super) const ERASED: &str = "erased";

/// The key that hashes an erased customer's id.
#[derive(Clone)]
pub(super) struct TombstoneKey(Arc<[u8]>);

impl TombstoneKey {
    /// Returns the configured key, else the one that this store made for itself. Refuses a key that is not the one of the
    /// existing tombstones: it would not recognise them, and erased customers would come back. Also refuses a command (`works` is
    /// false) with another key than the bridge's, which would not recognise the customers that it erased.
    pub(super) async fn open(
        connection: &mut Connection,
        configured: Option<&str>,
        works: bool,
        clock: &Clock,
    ) -> Result<Self, OpenError> {
        let key = match configured {
            Some(text) => Self(text.as_bytes().into()),
            None => Self(key_of_store(connection, "key", clock).await?.as_bytes().into()),
        };
        let mark = key.hash(&["mark"]);
        let known = value(connection, "mark").await?;
        if known.as_ref() == Some(&mark) {
            return Ok(key);
        }
        let tombstones: i64 = query("SELECT COUNT(*) FROM tombstones").fetch_one(&mut *connection).await?;
        if known.is_some() && (tombstones > 0 || !works) {
            return Err(OpenError::OtherKey);
        }
        query("INSERT INTO erasure_keys (name, value) VALUES ('mark', $1) ON CONFLICT (name) DO UPDATE SET value = $1")
            .bind(mark)
            .execute(connection)
            .await?;
        Ok(key)
    }

    /// The name of a customer's tombstone.
    pub(super) fn customer(&self, id: &str) -> String {
        self.hash(&["customer", id])
    }

    /// The hash that remains of an event's identity.
    pub(super) fn identity(&self, origin: &str, origin_id: &str) -> String {
        self.hash(&["event", origin, origin_id])
    }

    /// The hash that remains of an event's digest: without the key, the digest of few possible contents could be guessed.
    pub(super) fn digest(&self, digest: &str) -> String {
        self.hash(&["digest", digest])
    }

    fn hash(&self, parts: &[&str]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        for part in parts {
            // Each length comes before its text, so two different lists never look the same.
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part.as_bytes());
        }
        format!("{:x}", mac.finalize().into_bytes())
    }
}

async fn value(connection: &mut Connection, name: &'static str) -> Result<Option<String>, DbFault> {
    query("SELECT value FROM erasure_keys WHERE name = $1").bind(name).fetch_optional(connection).await
}

/// The key of this name that is stored in the store; the first replica makes it once.
pub(super) async fn key_of_store(
    connection: &mut Connection,
    name: &'static str,
    clock: &Clock,
) -> Result<String, Error> {
    if let Some(key) = value(connection, name).await? {
        return Ok(key);
    }
    let fresh: String = clock.fresh_secret().iter().map(|byte| format!("{byte:02x}")).collect();
    query("INSERT INTO erasure_keys (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .with((name, fresh))
        .execute(&mut *connection)
        .await?;
    value(connection, name).await?.ok_or_else(|| Error::Away("what was written is not there".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_differ_by_key_use_and_parts() {
        let (one, two) = (TombstoneKey(b"one".as_slice().into()), TombstoneKey(b"two".as_slice().into()));
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
