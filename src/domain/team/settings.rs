//! The operator's choices about the team, as values.
//!
//! Before: [`crate::config`] reads them. After: [`super::policy`] judges by them.

use std::time::Duration;

use super::super::brake::Brake;

/// The operator's choices about the team (`[team]`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamPolicy {
    /// `team.enabled`.
    pub is_enabled: bool,
    /// `team.email_domains`, in lower case; none: any domain.
    pub email_domains: Vec<String>,
    /// `team.guest_access_max`.
    pub guest_access_max: Option<Duration>,
    /// `team.allow_admins`.
    pub allows_admins: bool,
    /// `team.protected`.
    pub protected: Vec<String>,
    /// `team.min_admins`.
    pub min_admins: u64,
    /// `team.list_max_age`.
    pub list_max_age: Duration,
    /// `team.removals_max` within `team.removals_window`.
    pub brake: Brake,
    /// `team.delete`: true if a leaver's user is kept for audit.
    pub deletes_softly: bool,
    /// `team.retention`.
    pub retention: Duration,
    /// `team.expiry_notice`.
    pub expiry_notice: Duration,
}

impl Default for TeamPolicy {
    /// The contract's defaults.
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        Self {
            is_enabled: false,
            email_domains: Vec::new(),
            guest_access_max: None,
            allows_admins: false,
            protected: Vec::new(),
            min_admins: 2,
            list_max_age: Duration::from_secs(300),
            brake: Brake { count: Some(5), share: None, window: day },
            deletes_softly: true,
            retention: day * 90,
            expiry_notice: day * 7,
        }
    }
}
