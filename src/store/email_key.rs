//! The key by which the store hashes e-mail addresses, for the search by one.
//!
//! Before: [`crate::store::open`] finds the key, or makes it. After: [`crate::store::customers`] and [`crate::store::emails`] hash with
//! it.

use std::sync::Arc;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::db::Connection;
use super::error::OpenError;
use super::tombstones::key_of_store;
use crate::clock::Clock;

/// The key that hashes e-mail addresses: made once by each store, and kept in it.
#[derive(Clone)]
pub(super) struct EmailKey(Arc<[u8]>);

impl EmailKey {
    /// The key of this store; the first replica makes it.
    pub(super) async fn open(connection: &mut Connection, clock: &Clock) -> Result<Self, OpenError> {
        Ok(Self(key_of_store(connection, "email", clock).await?.as_bytes().into()))
    }

    /// The hash of an address in the form in which it is searched for; empty if there is none.
    pub(super) fn hash(&self, email: Option<&str>) -> String {
        let Some(email) = email else { return String::new() };
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(email.as_bytes());
        format!("{:x}", mac.finalize().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_the_key_and_of_the_address_and_none_of_neither() {
        let (one, two) = (EmailKey(b"one".as_slice().into()), EmailKey(b"two".as_slice().into()));
        assert_eq!(one.hash(Some("a@example.com")), one.hash(Some("a@example.com")));
        assert_ne!(one.hash(Some("a@example.com")), one.hash(Some("b@example.com")));
        assert_ne!(one.hash(Some("a@example.com")), two.hash(Some("a@example.com")));
        assert_eq!((one.hash(None), one.hash(Some("")).len()), (String::new(), 64));
    }
}
