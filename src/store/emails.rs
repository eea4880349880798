//! Customers by their e-mail address: the table has a keyed hash of it, which tells no one the address.
//!
//! The hash is written with the state; rows from before there were hashes get theirs in steps. The hash goes with the row when the
//! customer is erased.
//!
//! Before: [`crate::store::customers`]. After: [`crate::admin`] searches.

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::db::{DbFault, RowStatement, query};
use super::error::Error;
use super::handle::Store;
use super::transaction::{Transaction, Write};
use crate::domain::customer::{Customer, email_of_search};

/// Limit of the customers that one step hashes, so that listeners and appliers do not wait long behind it.
const STEP_MAX: usize = 200;

/// Limit of the customers that a search finds. Podero takes an address once, so more than a few are customers who left.
const FOUND_MAX: usize = 100;

/// A customer who was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FoundCustomer {
    /// The utility's own.
    pub customer_id: String,
    /// Podero's id, if there is a user.
    pub podero_user_id: Option<Uuid>,
    /// True if they signed up and have not churned.
    pub is_active: bool,
}

/// The customers who were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FoundCustomers {
    /// By id.
    pub customers: Vec<FoundCustomer>,
    /// True if there may be more.
    pub is_cut: bool,
}

impl Store {
    /// The customers with exactly this e-mail address, whatever the case of its letters.
    pub async fn customers_by_email(&self, email: &str) -> Result<FoundCustomers, Error> {
        let wanted = email_of_search(email);
        let rows = query(
            "SELECT lane, state FROM customers WHERE email_hash = $1 AND email_hash <> '' ORDER BY lane LIMIT $2",
        );
        let rows = rows.with((self.inner.emails.hash(Some(&wanted)), FOUND_MAX));
        let rows: Vec<(String, String)> = rows.fetch_all(&self.readers).await?;
        let is_cut = rows.len() == FOUND_MAX;
        let found = rows.into_iter().filter_map(|(customer_id, state)| {
            let known: Customer = serde_json::from_str(&state).ok()?;
            // A version that knew of no hashes may have changed the address since.
            let is_theirs = known.facts.email().as_deref() == Some(&*wanted);
            let (podero_user_id, is_active) = (known.user_id(), known.facts.is_active());
            is_theirs.then_some(FoundCustomer { customer_id, podero_user_id, is_active })
        });
        Ok(FoundCustomers { customers: found.collect(), is_cut })
    }

    /// Hashes the addresses of some customers from before there were hashes; returns their number, 0 when all are done.
    pub async fn hash_emails(&self) -> Result<usize, Error> {
        let rows =
            query("SELECT lane, state FROM customers WHERE email_hash IS NULL AND lane > '' ORDER BY lane LIMIT $1");
        let rows: Vec<(String, String)> = rows.bind(STEP_MAX).fetch_all(&self.readers).await?;
        let hashed = rows.into_iter().map(|(lane, state)| {
            let known = serde_json::from_str::<Customer>(&state).ok();
            let email = known.and_then(|known| known.facts.email());
            Hashed { lane, hash: self.inner.emails.hash(email.as_deref()), state }
        });
        let rows: Vec<Hashed> = hashed.collect();
        let count = rows.len();
        if count > 0 {
            self.write(KeepHashes { rows }).await?;
        }
        Ok(count)
    }
}

/// The hash for a customer whose state is this.
struct Hashed {
    lane: String,
    hash: String,
    state: String,
}

struct KeepHashes {
    rows: Vec<Hashed>,
}

/// A state that has changed since it was read has another hash, or will be read again. No hash is `-`; `IS NULL` would imply the
/// condition of an index of all customers without a hash, and each row would be looked for among them.
static KEEP: RowStatement = RowStatement::new(
    &["lane", "email_hash", "state"],
    "UPDATE customers SET email_hash = {email_hash} {from} WHERE customers.lane = {lane} AND customers.state = {state} \
     AND COALESCE(customers.email_hash, '-') = '-'",
);

impl Write for KeepHashes {
    type Output = ();

    fn weight(&self) -> usize {
        self.rows.len()
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        let mut rows = KEEP.rows(self.rows.len());
        for Hashed { lane, hash, state } in &self.rows {
            rows.with((lane, hash, state));
        }
        rows.execute(tx).await?;
        Ok(())
    }
}
