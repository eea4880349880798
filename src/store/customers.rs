//! The state of customers, and of members of the team, apart from their lanes: a lane changes three times with each event, its
//! subject at most once.
//!
//! Only the holder of a lane's claim writes the row of its subject, in the transaction that checks the fence.
//!
//! Before: [`crate::store::claims`] and [`crate::store::settlement`]. After: the tables `customers` and `members`.

use super::db::{DbFault, Executor, RowStatement, query};
use super::email_key::EmailKey;
use super::transaction::Transaction;
use crate::domain::work::{LaneWork, StateColumns};

/// The stored form of a customer or a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredState {
    pub(super) text: String,
    /// The other columns: the brake counts active customers by one of them.
    pub(super) columns: StateColumns,
}

/// The part of a subject's row that a write changes.
pub(super) enum StateChange {
    /// Nothing: the row is as it should be.
    Nothing,
    /// The state alone, of a customer's row that exists: the index of active customers stays as it is.
    State(String),
    /// The whole row, which may be new, with the hash of a customer's e-mail address.
    Row(StoredState, String),
}

impl StoredState {
    pub(super) fn of<W: LaneWork>(state: &W::State) -> Self {
        let text = serde_json::to_string(state).expect("a state has only serialisable fields");
        Self { text, columns: W::columns(state) }
    }

    /// The change that stores this form. `known`: the stored form, if there is one for certain.
    pub(super) fn change_from(self, known: Option<&Self>, emails: &EmailKey) -> StateChange {
        match known {
            Some(known) if *known == self => StateChange::Nothing,
            Some(known) if known.columns == self.columns && self.columns.member.is_none() => {
                StateChange::State(self.text)
            }
            Some(_) | None => {
                let hash = emails.hash(self.columns.email.as_deref());
                StateChange::Row(self, hash)
            }
        }
    }
}

static ROW: RowStatement = RowStatement::new(
    &["lane", "state", "active", "email_hash"],
    "INSERT INTO customers (lane, state, active, email_hash) {rows} \
     ON CONFLICT (lane) DO UPDATE SET state = excluded.state, active = excluded.active, email_hash = excluded.email_hash",
);

static STATE: RowStatement =
    RowStatement::new(&["lane", "state"], "UPDATE customers SET state = {state} {from} WHERE customers.lane = {lane}");

static MEMBER: RowStatement = RowStatement::new(
    &["lane", "state", "active", "user_id", "expires_at", "left_at"],
    "INSERT INTO members (lane, state, active, user_id, expires_at, left_at) {rows} \
     ON CONFLICT (lane) DO UPDATE SET state = excluded.state, active = excluded.active, user_id = excluded.user_id, \
     expires_at = excluded.expires_at, left_at = excluded.left_at",
);

/// Stores changes of customers and members, whose lanes are given in their order and each once.
pub(super) async fn keep<'a>(
    tx: &mut Transaction<'_>,
    changes: impl Iterator<Item = (&'a str, &'a StateChange)>,
) -> Result<(), DbFault> {
    let (mut rows, mut states, mut members) = (ROW.rows(0), STATE.rows(0), MEMBER.rows(0));
    for (lane, change) in changes {
        match change {
            StateChange::Nothing => {}
            StateChange::State(text) => {
                states.with((lane, text));
            }
            StateChange::Row(StoredState { text, columns }, hash) => match &columns.member {
                None => {
                    rows.with((lane, text, columns.is_active, hash));
                }
                Some(member) => {
                    members.with((lane, text, columns.is_active));
                    members.with((member.user, member.expires_at, member.left_at));
                }
            },
        }
    }
    members.execute(&mut *tx).await?;
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
