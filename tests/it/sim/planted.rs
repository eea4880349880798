//! Mistakes that are planted in the bridges of a run, and that the oracle must notice.

use podero_bridge::domain::brake::Brake;
use podero_bridge::domain::team::MemberDone;

/// A mistake in the bridges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Planted {
    /// There is none.
    #[default]
    Nothing,
    /// The brake admits one churn more than it may.
    OneTooMany,
    /// No churn asks the brake.
    NobodyAsks,
    /// A member whose invitation was not answered is invited again, without a look.
    InvitesAgain,
    /// Admins count who were invited and never joined.
    CountsInvited,
    /// A removal is decided as it would be outside the lock: it sees no other that is decided and not carried out yet.
    DecidesAlone,
}

impl Planted {
    /// The brake as the bridges have it.
    pub(super) fn in_brake(self, brake: Option<Brake>) -> Option<Brake> {
        let one_more = |brake: Brake| Brake { count: brake.count.map(|count| count + 1), ..brake };
        match self {
            Self::OneTooMany => brake.map(one_more),
            Self::NobodyAsks => None,
            Self::Nothing | Self::InvitesAgain | Self::CountsInvited | Self::DecidesAlone => brake,
        }
    }

    /// An answer about members as the bridges read it.
    pub(super) fn in_answer(self, mut done: MemberDone) -> MemberDone {
        if let (Self::CountsInvited, MemberDone::StaffListed { staff, .. }) = (self, &mut done) {
            staff.iter_mut().for_each(|colleague| colleague.has_joined = true);
        }
        done
    }

    /// The statement that plants the mistake in the file of a run.
    pub(super) fn in_store(self) -> Option<&'static str> {
        (self == Self::DecidesAlone).then_some(
            "CREATE TRIGGER planted AFTER INSERT ON team_decisions BEGIN \
             DELETE FROM team_decisions WHERE event_id = new.event_id; END",
        )
    }
}
