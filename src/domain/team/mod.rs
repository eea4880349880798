//! The utility's own team at Podero: its members, what may be done to them, and what is done next.
//!
//! Members share the vocabulary of lanes, claims and calls with customers, and nothing else: an id of a member names no customer,
//! and no file of one core knows the other's subject (docs/adr/0031).
//!
//! ```text
//! event -> member (facts, observed) -> plan (next call) -> policy (may it?) -> verdict (what a reply means) -> acts (audit rows)
//! ```
//!
//! Before: [`crate::inbound`] reads an event of a member. After: [`crate::apply`] carries it out.

mod acts;
mod call;
mod event;
mod member;
mod plan;
mod policy;
mod rehearsal;
mod review;
mod settings;
mod staff_list;
mod unheard;
mod verdict;

pub use call::{Colleague, MemberCall, MemberChanges, MemberDone, PoderoRole};
pub use event::{
    ACCESS_EXPIRED, ACCESS_EXPIRING, ExpiryChange, MEMBER_LANE, MemberField, MemberId, MemberRole, Profile, SentAs,
    TeamEvent, TeamHappening, is_address, member_of_lane,
};
pub use member::{Departure, MemberAtPodero, MemberFacts, MergedMember, ObservedMember, RoleFact, TeamMember};
pub use plan::{MemberEnd, MemberNext, MemberWork, next};
pub use policy::{AccessEnd, AccessLoss, LossKind, PolicyRefusal, Proposal, check};
pub use rehearsal::{TeamRehearsal, rehearse_member};
pub use review::{Finding, KnownMember, MemberOrigin, MemberState, ReviewRow, TeamRow, is_position, review, team_rows};
pub use settings::TeamPolicy;
pub use staff_list::{STAFF_MAX, StaffList};
pub use unheard::{UnheardMemberCall, UnheardOfMember};
pub(crate) use verdict::{before_call, fail, fate_of, interrupted, too_soon};
pub use verdict::{judge, settle_with};

#[cfg(test)]
mod tests;
