//! `[audit]`: the sealing and the retention of the audit log.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::upkeep`].

use std::time::Duration;

use crate::config::key::section;
use crate::config::reader::Reader;
use crate::config::rules::{self, DURATION_MAX};

section! {
    /// The audit log: who did what; see docs/AUDIT.md.
    AUDIT = "audit" {
        /// Longest time after which a row is sealed into the chain of hashes. A change of the rows before that does not show.
        SEAL_WITHIN: Duration = "seal_within", rules::duration(Duration::from_millis(100), Duration::from_secs(60)), default "1s";
        /// Time for which rows are kept, in whole days of UTC. `0s` keeps them for ever.
        RETENTION: Duration = "retention", rules::duration(Duration::ZERO, DURATION_MAX), default "400d";
    }
}

/// Section `[audit]`.
#[derive(Debug, Clone, Copy)]
pub struct Audit {
    /// Longest time after which a row is sealed.
    pub seal_within: Duration,
    /// Time for which rows are kept; `None`: for ever.
    pub retention: Option<Duration>,
}

/// Reads the section.
pub(in crate::config) fn read(r: &mut Reader) -> Audit {
    Audit {
        seal_within: r.value(&SEAL_WITHIN),
        retention: Some(r.value(&RETENTION)).filter(|retention| !retention.is_zero()),
    }
}
