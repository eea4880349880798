//! Asks Podero whether the settings are right, outside of the budget and without changing anything there.
//!
//! Before: [`super::client`]. After: an operator reads the result.

use super::answer::{Coding, Lost, coding_of};
use super::auth::Token;
use super::calls::ListUsers;
use super::client::{Client, Inner, PROBE_ID};
use super::wire::PartnerCall;
use crate::domain::CustomerId;
use crate::domain::call::{Call, Reply};

/// The problems that [`Client::check`] finds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Podero gives no token for these credentials.
    #[error("Podero refuses the client credentials (status {0})")]
    Credentials(u16),
    /// The token is good, but the organisation is not.
    #[error("Podero does not open the organisation to these credentials (status {0})")]
    Organisation(u16),
    /// Podero was reached and fails.
    #[error("Podero was reached and fails (status {0}): the trouble is at Podero, not on the way to it")]
    Failing(u16),
    /// Podero answers with a status that no page shows.
    #[error("Podero answers with an unexpected status ({0})")]
    Status(u16),
    /// Podero gives no usable answer now.
    #[error("Podero does not answer as it should: {0}")]
    Away(&'static str),
}

/// A step of [`Client::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// `token`, `organisation` or `find_user`.
    pub step: &'static str,
    /// The status of a good answer, or what is wrong.
    pub outcome: Result<u16, Unfit>,
}

fn of_organisation(head: AnswerHead) -> Result<u16, Unfit> {
    match head.code {
        200 => head.coding.map_or(Ok(200), |coding| Err(Unfit::Away(coding.why()))),
        status @ (400..=404 | 410) => Err(Unfit::Organisation(status)),
        status => Err(not_well(status)),
    }
}

fn of_probe(status: u16) -> Result<u16, Unfit> {
    match status {
        200 | 404 | 410 => Ok(status),
        401 | 403 => Err(Unfit::Organisation(status)),
        _ => Err(not_well(status)),
    }
}

/// The problem for a status that says nothing about credentials or organisation.
fn not_well(status: u16) -> Unfit {
    match status {
        300..=399 => Unfit::Away("it redirects; check podero.base_url"),
        429 => Unfit::Away("it asks for a pause"),
        500..=599 => Unfit::Failing(status),
        _ => Unfit::Status(status),
    }
}

impl Client {
    /// Gets a token, asks for the organisation's users without reading them, and looks up the id that the circuit's probe asks
    /// for. Works outside of the budget and without the [`super::Dispatcher`]; changes nothing at Podero. Each step follows only when
    /// the one before it went well; `told` receives each result.
    pub async fn check(&self, mut told: impl FnMut(Checked)) -> Result<(), Unfit> {
        let inner = &*self.0;
        let mut tell = |step, outcome: Result<u16, Unfit>| {
            told(Checked { step, outcome: outcome.clone() });
            outcome
        };
        let away = |lost: Lost| Unfit::Away(lost.text());
        let token = inner.tokens.token(None).await.map_err(|reply| match reply {
            Reply::Held { status } => Unfit::Credentials(status),
            Reply::Unsent { why } | Reply::Unknown { why } => Unfit::Away(why),
            Reply::Busy { .. } => Unfit::Away("it asks for a pause"),
            Reply::Refused(_) => Unfit::Away("the token endpoint makes no sense"),
        });
        let token = match token {
            Ok(token) => token,
            Err(unfit) => return tell("token", Err(unfit)).map(drop),
        };
        tell("token", Ok(200))?;
        tell("organisation", inner.status_of(&ListUsers, &token).await.map_err(away).and_then(of_organisation))?;
        let Some(external_id) = CustomerId::accept(PROBE_ID) else { return Ok(()) };
        let probe = Call::FindUser { external_id };
        // No user has this id: a healthy Podero says 404.
        let asked = inner.status_of(&probe, &token).await.map_err(away).and_then(|status| of_probe(status.code));
        tell("find_user", asked).map(drop)
    }
}

impl Inner {
    /// The status of the answer to a call, whose body is not read.
    pub(super) async fn status_of<R: PartnerCall>(&self, request: &R, token: &Token) -> Result<AnswerHead, Lost> {
        let parts = request.request(self.settings.org_id).map_err(|_| Lost::Unwritable)?;
        let sent = self.build(&parts, token, None, None).send().await;
        let answer = sent.map_err(|error| Lost::of(&error))?;
        Ok(AnswerHead { code: answer.status().as_u16(), coding: coding_of(answer.headers(), &[]) })
    }
}

/// A status, and the coding of the body that came with it.
pub(super) struct AnswerHead {
    pub(super) code: u16,
    coding: Option<Coding>,
}
