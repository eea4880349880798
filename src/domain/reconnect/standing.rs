//! May a link be used now, and what does its page show?
//!
//! Pure: a verified token, what the store knows of the heat pump, and the time. A link dies by its age, when its heat pump is watched
//! no more (churn, move, removal), and when the heat pump has another owner. A reader does not learn which of the last two.
//!
//! Before: [`super::token`]. After: [`crate::reconnect`] makes the page.

use std::time::Duration;

use uuid::Uuid;

use super::token::{LinkToken, TokenUse};
use crate::domain::Timestamp;
use crate::domain::names::names;

/// Life of a landing page: a day after the click, as long as the watch over it is remembered.
pub const LANDING_LIFE: Duration = Duration::from_hours(24);

names! {
    /// The reason for which a link was not followed to the partner's page.
    pub enum LinkRefusal {
        /// No secret of the bridge signed it, or one that was removed.
        Forged = "forged",
        /// It is older than `reconnect.link_ttl`.
        Expired = "expired",
        /// Its heat pump is watched no more: churn, move or removal.
        Ended = "ended",
        /// Its heat pump has another owner.
        OtherOwner = "other_owner",
        /// Too many requests for this link, or of this address.
        Limited = "limited",
        /// The heat pump is connected already.
        Connected = "connected",
        /// Podero asks nothing of the owner.
        NotNeeded = "not_needed",
        /// Podero, or the store, did not answer.
        Away = "away",
    }
}

/// A heat pump as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PumpStanding {
    /// Podero's id of its owner.
    pub owner: Uuid,
    /// True if it is watched no more.
    pub is_retired: bool,
    /// True if it was connected when it was looked at last.
    pub is_connected: bool,
    /// The time of that look.
    pub checked_at: Timestamp,
}

/// The page of a link that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkView {
    /// The owner may reconnect the heat pump.
    Offered,
    /// It is connected already.
    Connected,
}

/// The page to which the partner leads the owner back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LandingView {
    /// A look after the click saw it connected.
    Connected,
    /// No look has seen it yet, and it is looked at every few seconds.
    Waiting,
    /// No look has seen it, and it is looked at as always.
    Late,
}

/// Judges the link of an alert. `secrets` are those that verified the token; `pump` is `None` for one that was never seen.
pub fn judge_link(
    token: &LinkToken,
    secrets: &[&str],
    pump: Option<&PumpStanding>,
    now: Timestamp,
    link_ttl: Duration,
) -> Result<LinkView, LinkRefusal> {
    if token.made_for != TokenUse::Link {
        return Err(LinkRefusal::Forged);
    }
    if token.since.plus(link_ttl) <= now {
        return Err(LinkRefusal::Expired);
    }
    let pump = owned(token, secrets, pump)?;
    Ok(if pump.is_connected { LinkView::Connected } else { LinkView::Offered })
}

/// Judges the page after a click. `watched_for` is how long the heat pump is looked at every few seconds.
pub fn judge_landing(
    token: &LinkToken,
    secrets: &[&str],
    pump: Option<&PumpStanding>,
    now: Timestamp,
    watched_for: Duration,
) -> Result<LandingView, LinkRefusal> {
    if token.made_for != TokenUse::Landing {
        return Err(LinkRefusal::Forged);
    }
    if token.since.plus(LANDING_LIFE) <= now {
        return Err(LinkRefusal::Expired);
    }
    let pump = owned(token, secrets, pump)?;
    Ok(match pump {
        // A look before the click says nothing about what came of it.
        pump if pump.is_connected && pump.checked_at > token.since => LandingView::Connected,
        _ if now < token.since.plus(watched_for) => LandingView::Waiting,
        _ => LandingView::Late,
    })
}

/// The heat pump, if it is watched and its owner is the one of the token.
fn owned<'a>(
    token: &LinkToken,
    secrets: &[&str],
    pump: Option<&'a PumpStanding>,
) -> Result<&'a PumpStanding, LinkRefusal> {
    let pump = pump.filter(|pump| !pump.is_retired).ok_or(LinkRefusal::Ended)?;
    if token.is_of(pump.owner, secrets) { Ok(pump) } else { Err(LinkRefusal::OtherOwner) }
}

#[cfg(test)]
mod tests {
    use super::super::token::{sign, verify};
    use super::*;

    const SECRETS: [&str; 1] = ["a-secret-of-the-tests-0123456789-abcdef"];
    const DAY: Duration = Duration::from_hours(24);
    const TTL: Duration = Duration::from_hours(30 * 24);
    const WATCHED_FOR: Duration = Duration::from_mins(15);

    fn since() -> Timestamp {
        Timestamp::from_micros(1_798_761_600_000_000)
    }

    fn token(made_for: TokenUse) -> LinkToken {
        let signed = sign(SECRETS[0], made_for, Uuid::from_u128(1), Uuid::from_u128(7), since());
        verify(&signed, &SECRETS).expect("it is ours")
    }

    fn lost() -> PumpStanding {
        PumpStanding { owner: Uuid::from_u128(7), is_retired: false, is_connected: false, checked_at: since() }
    }

    #[test]
    fn a_link_is_offered_until_its_time_is_over_or_it_belongs_to_nobody_here() {
        let connected = PumpStanding { is_connected: true, ..lost() };
        let retired = PumpStanding { is_retired: true, ..lost() };
        let of_another = PumpStanding { owner: Uuid::from_u128(8), ..lost() };
        for (name, pump, now, expected) in [
            ("lost", Some(&lost()), since().plus(DAY), Ok(LinkView::Offered)),
            ("at once", Some(&lost()), since(), Ok(LinkView::Offered)),
            ("by a clock behind", Some(&lost()), since().minus(DAY), Ok(LinkView::Offered)),
            ("connected", Some(&connected), since().plus(DAY), Ok(LinkView::Connected)),
            (
                "a moment before its end",
                Some(&lost()),
                since().plus(TTL - Duration::from_micros(1)),
                Ok(LinkView::Offered),
            ),
            ("at its end", Some(&lost()), since().plus(TTL), Err(LinkRefusal::Expired)),
            ("after a churn or a move", Some(&retired), since().plus(DAY), Err(LinkRefusal::Ended)),
            ("never seen", None, since().plus(DAY), Err(LinkRefusal::Ended)),
            ("after a change of owner", Some(&of_another), since().plus(DAY), Err(LinkRefusal::OtherOwner)),
        ] {
            assert_eq!(judge_link(&token(TokenUse::Link), &SECRETS, pump, now, TTL), expected, "{name}");
        }
        let landing = token(TokenUse::Landing);
        assert_eq!(judge_link(&landing, &SECRETS, Some(&lost()), since(), TTL), Err(LinkRefusal::Forged));
    }

    #[test]
    fn a_landing_page_says_connected_only_by_a_look_after_the_click() {
        let seen = |is_connected, checked_at| PumpStanding { is_connected, checked_at, ..lost() };
        let second = Duration::from_secs(1);
        for (name, pump, after, expected) in [
            ("not yet", seen(false, since().plus(second)), second * 2, Ok(LandingView::Waiting)),
            ("by a look before the click", seen(true, since()), second * 2, Ok(LandingView::Waiting)),
            ("by a look after it", seen(true, since().plus(second)), second * 2, Ok(LandingView::Connected)),
            ("too late", seen(false, since().plus(second)), WATCHED_FOR, Ok(LandingView::Late)),
            ("late, and there", seen(true, since().plus(WATCHED_FOR)), WATCHED_FOR, Ok(LandingView::Connected)),
            ("a day later", seen(true, since().plus(second)), DAY, Err(LinkRefusal::Expired)),
        ] {
            let now = since().plus(after);
            let told = judge_landing(&token(TokenUse::Landing), &SECRETS, Some(&pump), now, WATCHED_FOR);
            assert_eq!(told, expected, "{name}");
        }
        let link = token(TokenUse::Link);
        let told = judge_landing(&link, &SECRETS, Some(&lost()), since(), WATCHED_FOR);
        assert_eq!(told, Err(LinkRefusal::Forged), "the link of an alert is no landing page");
        let of_another = PumpStanding { owner: Uuid::from_u128(8), is_connected: true, ..lost() };
        let told = judge_landing(&token(TokenUse::Landing), &SECRETS, Some(&of_another), since(), WATCHED_FOR);
        assert_eq!(told, Err(LinkRefusal::OtherOwner));
    }
}
