//! The staff and admins that Podero has, as one list of a moment.
//!
//! Before: [`super::call`] reads it. After: [`super::policy`] counts admins by it; `team list` and `team review` show it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::Timestamp;
use super::call::Colleague;

/// Limit of the colleagues in a list; a longer list is no team, and is refused.
pub const STAFF_MAX: usize = 5_000;

/// The staff and admins at Podero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StaffList {
    /// The moment at which the list was asked for: it may lack anything that happened later.
    pub asked_at: Timestamp,
    /// Staff and admins, none of them deleted.
    pub staff: Vec<Colleague>,
    /// The users to whom entries of `team.protected` are bound, since they were seen with that id or address once.
    #[serde(default)]
    pub bound: BTreeMap<String, Uuid>,
}

impl StaffList {
    /// The list of now. Entries of `team.protected` stay bound to the user with whom they were seen first.
    pub fn renewed(known: Option<&Self>, asked_at: Timestamp, staff: Vec<Colleague>, protected: &[String]) -> Self {
        let mut bound: BTreeMap<String, Uuid> = known.map(|known| known.bound.clone()).unwrap_or_default();
        bound.retain(|entry, _| protected.contains(entry));
        for entry in protected {
            if let Some(seen) = staff.iter().find(|one| is_named_by(one, entry)) {
                bound.entry(entry.clone()).or_insert(seen.id);
            }
        }
        Self { asked_at, staff, bound }
    }

    /// True if an entry of `team.protected` is bound to this user.
    pub fn is_bound(&self, user: Uuid) -> bool {
        self.bound.values().any(|bound| *bound == user)
    }
}

fn is_named_by(colleague: &Colleague, entry: &str) -> bool {
    let is_id = colleague.external_id.as_deref() == Some(entry);
    is_id || colleague.has_address(entry)
}
