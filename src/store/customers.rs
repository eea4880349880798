//! The state of customers, apart from their lanes: a lane changes three times with each event, its customer at most once.
//!
//! Only the holder of a lane's claim writes the row of its customer, in the transaction that checks the fence.
//!
//! Before: [`crate::store::claims`] and [`crate::store::settlement`]. After: the table `customers`.

use super::db::{DbFault, Executor, RowStatement, query};
use super::transaction::Transaction;
use crate::domain::customer::Customer;

/// The stored form of a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredCustomer {
    pub(super) text: String,
    /// `true` if they are an active customer: the brake counts those.
    pub(super) is_active: bool,
}

/// The part of a customer's row that a write changes.
pub(super) enum CustomerChange {
    /// Nothing: the row is as it should be.
    Nothing,
    /// The state alone, of a row that exists: the index of active customers stays as it is.
    State(String),
    /// The whole row, which may be new.
    Row(StoredCustomer),
}

impl StoredCustomer {
    pub(super) fn of(customer: &Customer) -> Self {
        let text = serde_json::to_string(customer).expect("a customer has only serialisable fields");
        Self { text, is_active: customer.facts.is_active() }
    }

    /// The change that stores this form. `known`: the stored form, if there is one for certain.
    pub(super) fn change_from(self, known: Option<&Self>) -> CustomerChange {
        match known {
            Some(known) if *known == self => CustomerChange::Nothing,
            Some(known) if known.is_active == self.is_active => CustomerChange::State(self.text),
            Some(_) | None => CustomerChange::Row(self),
        }
    }
}

static ROW: RowStatement = RowStatement::new(
    &["lane", "state", "active"],
    "INSERT INTO customers (lane, state, active) {rows} \
     ON CONFLICT (lane) DO UPDATE SET state = excluded.state, active = excluded.active",
);

static STATE: RowStatement =
    RowStatement::new(&["lane", "state"], "UPDATE customers SET state = {state} {from} WHERE customers.lane = {lane}");

/// Stores changes of customers, whose lanes are given in their order and each once.
pub(super) async fn keep<'a>(
    tx: &mut Transaction<'_>,
    changes: impl Iterator<Item = (&'a str, &'a CustomerChange)>,
) -> Result<(), DbFault> {
    let (mut rows, mut states) = (ROW.rows(0), STATE.rows(0));
    for (lane, change) in changes {
        match change {
            CustomerChange::Nothing => {}
            CustomerChange::State(text) => {
                states.with((lane, text));
            }
            CustomerChange::Row(StoredCustomer { text, is_active }) => {
                rows.with((lane, text, *is_active));
            }
        }
    }
    rows.execute(&mut *tx).await?;
    states.execute(tx).await?;
    Ok(())
}

/// The stored state of a customer: empty if nothing is known of them, `None` if there is no lane.
pub(super) async fn state_of(on: impl Executor, lane: &str) -> Result<Option<String>, DbFault> {
    let state = query(
        "SELECT COALESCE((SELECT state FROM customers WHERE customers.lane = lanes.lane), '') FROM lanes WHERE lane = $1",
    );
    state.bind(lane).fetch_optional(on).await
}
