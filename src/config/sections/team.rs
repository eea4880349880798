//! `[team]`: the utility's own staff and admins at Podero, and what events may do to them.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::domain::team`].

use std::time::Duration;

use crate::config::key::section;
use crate::config::reader::Reader;
use crate::config::rules::{self, DURATION_MAX};
use crate::config::words::TeamDelete;
use crate::domain::brake::Brake;
use crate::domain::team::TeamPolicy;

/// Limit of `team.removals_max` and `team.min_admins`: more is no team.
const MEMBERS_MAX: u64 = 10_000;

/// Limit of `team.removals_window`: each admitted removal is remembered for as long.
const WINDOW_MAX: Duration = Duration::from_secs(90 * 86_400);

/// Limit of `team.list_max_age`: an older list says little about who is admin now.
const LIST_AGE_MAX: Duration = Duration::from_secs(86_400);

section! {
    /// The utility's own team at Podero. A refusal parks the event with a reason, and is in the audit log; see Team events in
    /// docs/OPERATIONS.md.
    TEAM = "team" {
        /// Whether `team.*` events are carried out. While it is off they are parked as `team_disabled`. Set it once every replica runs
        /// a version that knows it.
        ENABLED: bool = "enabled", rules::flag(), default "false";
        /// Domains in which a member's e-mail address must be; `*.example.com` stands for the subdomains. Without any, each is allowed.
        EMAIL_DOMAINS: Vec<String> = "email_domains", rules::domains(), example r#"["utility.example", "*.utility.example"]"#;
        /// Longest access of someone of another domain, who is let in as `staff` with an `expires_at` at most this long after the earlier
        /// of the event's `time` and its arrival. Without it no other domain is let in.
        GUEST_ACCESS_MAX: Duration = "guest_access_max", rules::duration(Duration::from_secs(3_600), DURATION_MAX), example r#""90d""#;
        /// Whether events may make someone admin, or change the e-mail address of an admin.
        ALLOW_ADMINS: bool = "allow_admins", rules::flag(), default "false";
        /// Ids or e-mail addresses of members whom no event may demote, remove, let expire or give another e-mail address. Each stays bound
        /// to the Podero user with whom it was seen first.
        PROTECTED: Vec<String> = "protected", rules::ids(), example r#"["M-1", "head-of-service@utility.example"]"#;
        /// Number of active admins that no event may go below, now or at the end of any access.
        MIN_ADMINS: u64 = "min_admins", rules::whole(1, MEMBERS_MAX), default "2";
        /// Longest age of the list of staff by which admins are counted. With an older one the bridge reads a new list first.
        LIST_MAX_AGE: Duration = "list_max_age", rules::duration(Duration::from_secs(10), LIST_AGE_MAX), default "5m";
        /// Limit of removals of members, and demotions of admins, within `team.removals_window` without an approval. Each further one is
        /// parked as `team_brake`.
        REMOVALS_MAX: u64 = "removals_max", rules::whole(0, MEMBERS_MAX), default "5";
        /// Time in which removals and demotions are counted.
        REMOVALS_WINDOW: Duration = "removals_window", rules::duration(Duration::from_secs(1), WINDOW_MAX), default "24h";
        /// Deletion of a member at Podero: `soft` keeps the data for audit, `hard` is final at once.
        DELETE: TeamDelete = "delete", rules::one_of(TeamDelete::names(), TeamDelete::from_name), default "soft";
        /// Time for which names and address of a member are kept after they left.
        RETENTION: Duration = "retention", rules::duration(Duration::ZERO, DURATION_MAX), default "90d";
        /// Time before the end of an access at which `team.access_expiring` is published.
        EXPIRY_NOTICE: Duration = "expiry_notice", rules::duration(Duration::ZERO, DURATION_MAX), default "7d";
    }
}

/// Reads the section.
pub(in crate::config) fn read(r: &mut Reader) -> TeamPolicy {
    TeamPolicy {
        is_enabled: r.value(&ENABLED),
        email_domains: r.optional(&EMAIL_DOMAINS).unwrap_or_default(),
        guest_access_max: r.optional(&GUEST_ACCESS_MAX),
        allows_admins: r.value(&ALLOW_ADMINS),
        protected: r.optional(&PROTECTED).unwrap_or_default(),
        min_admins: r.value(&MIN_ADMINS),
        list_max_age: r.value(&LIST_MAX_AGE),
        brake: Brake { count: Some(r.value(&REMOVALS_MAX)), share: None, window: r.value(&REMOVALS_WINDOW) },
        deletes_softly: r.value(&DELETE) == TeamDelete::Soft,
        retention: r.value(&RETENTION),
        expiry_notice: r.value(&EXPIRY_NOTICE),
    }
}
