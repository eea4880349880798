//! The durable state: inbox, lanes, outbox and the watch's memory, on SQLite or PostgreSQL.
//!
//! The store decides nothing. The core computes retry times, parking and alerts as values; the store makes them durable. Every
//! write goes through one [`Writer`] (group commit), but for the sealing of the audit log on a server; reads bypass it. A call that
//! returned `Ok` is on disk; one whose future was dropped or that failed with [`Error::Away`] may or may not be, and is safe to repeat.
//!
//! Before: [`crate::inbound`] accepts. After: [`crate::apply`], [`crate::watch`], [`crate::replica`] and [`crate::outbound`] meet
//! here, in tables.

mod announcements;
mod audit;
mod audit_export;
mod audit_reads;
mod audit_seal;
mod audit_verify;
mod backup;
mod brake;
mod bulk_retries;
mod claims;
mod close_watches;
mod closed_sets;
mod condition;
mod customer_timeline;
mod customers;
mod db;
mod db_file;
mod duties;
mod email_key;
mod emails;
mod erasure;
mod error;
mod event_rows;
mod fleet;
mod gauges;
mod give_back;
mod handle;
mod history;
mod inbox;
mod integrity;
mod lanes;
mod leases;
mod members;
mod memory;
mod mentions;
mod moments;
mod open;
mod operators;
mod outages;
mod outbox;
mod overview;
mod owned_pumps;
mod parked_groups;
mod parking;
mod polls;
mod promotion;
mod pumps;
mod refusal_rows;
mod rehearsable;
mod retention;
mod roster;
mod schema;
mod scim_users;
mod scim_writes;
mod scrub;
mod sessions;
mod settlement;
mod shared_state;
mod standing;
mod team_brake;
mod team_lanes;
mod timeline;
mod tokens;
mod tombstones;
mod transaction;
mod unread;
mod waits;
mod writer;

pub use announcements::REPLACED;
pub use audit::CoveredRow;
pub use audit_export::{AuditExport, ExportFormat, OCSF_VERSION};
pub use audit_reads::{AUDIT_PAGE_MAX, AuditFilter, AuditPage, AuditRecord};
pub use audit_seal::SEALED_AT_ONCE;
pub use audit_verify::{AuditCheck, ChainLook, ChainWatch};
pub use backup::{BackupError, back_up};
pub use brake::Asked;
pub use bulk_retries::{BulkRetry, KindCounts, Ordered, PER_SECOND_DEFAULT, PER_SECOND_MAX, Stepped};
pub use claims::{Claim, Settled};
pub use close_watches::{CLOSE_POLL_EVERY, CLOSE_WATCH_TIME, CLOSE_WATCHES_MAX, CloseLook, CloseWatchView, WatchedFor};
pub use closed_sets::{NoticeState, OpenState, RetryState, RowKind, Target};
pub use condition::{Trouble, Writability};
pub use customer_timeline::{TimelineCursor, TimelineEntry, TimelineEvent, TimelinePage};
pub use db::{Dialect, ServerGauges, TableRows};
pub use db_file::is_sqlite;
pub use duties::{Duty, STAFF_DUTY};
pub use emails::{FoundCustomer, FoundCustomers};
pub use erasure::{Erased, InTheWay};
pub use error::{Error, OpenError};
pub use fleet::{FleetGroup, FleetSummary, OccurrenceView, PumpDetail};
pub use gauges::{BacklogCounts, Gauges};
pub use handle::{Desk, Store, StoreView};
pub use history::{BUCKET, BucketCounts, BucketView, bucket_of};
pub use inbox::{Arrival, Content, Receipt};
pub use members::{MEMBERS_MAX, MemberView, TeamCounts, is_cut};
pub use memory::{ACTIVE_AGE_MAX, REPLICA_LIFE};
pub use moments::Ceilings;
pub use open::{Migrated, Settings, migrate};
pub use operators::{Operator, OperatorChange, OperatorView, Removal};
pub use outages::KnownOutages;
pub use outbox::{DueNotice, PublishOutcome};
pub use overview::{CappedCount, OpenAlertsView, ReplicaView, SchemaView, WorkView};
pub use owned_pumps::{OwnedPump, OwnerLanguages};
pub use parked_groups::{COUNT_MAX, ParkedFilter, ParkedGroup, ParkedPreview};
pub use parking::{NotTaken, RetryRequest};
pub use polls::{DuePolls, DueUser, Observed};
pub use refusal_rows::RefusalRows;
pub use rehearsable::Rehearsable;
pub use roster::{Kept, Member, Roster};
pub use scim_writes::{ScimAnswer, ScimAsk, ScimRequest};
pub use sessions::{LiveSession, SESSIONS_PER_OPERATOR_MAX, SessionHolder, SessionSecret, SessionView};
pub use settlement::CallMade;
pub use standing::{KnownBlindness, Shared};
pub use team_brake::TeamAnswer;
pub use timeline::{
    AlertView, CallView, CustomerCard, CustomerView, EventSummary, EventView, NoticeData, NoticeView, OriginalBytes,
    OutageView, PumpFilter, PumpView, ROWS_MAX,
};
pub use unread::{ReadAgain, Reread, UnreadMessage};
pub use waits::{OpenCursor, OpenEvent, OpenFilter, OpenPage, WaitsFor};
pub use writer::Writer;
