//! The addresses of the Connect page, by which a customer brings a heat pump, or brings it back.
//!
//! Podero's own page is `https://connect.podero.com?onboarding_session_id=…`; how it is addressed for a reconnection is not
//! documented. It must never carry a secret: these links are put into mails and tickets.
//!
//! Before: [`crate::sandbox::model::World`], [`crate::sandbox::routes`]. After: nothing.

use uuid::Uuid;

/// Path of the page at the sandbox.
pub const CONNECT_PATH: &str = "/connect";

/// The reason for which a customer opens the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectLink {
    /// They bring a new heat pump: the id of the session.
    Onboarding(Uuid),
    /// They were sent by a cue, or by an authentication session: its id.
    Reconnection(Uuid),
    /// They follow the `authorization_url` of this heat pump.
    Authorization(Uuid),
}

impl ConnectLink {
    /// Name of the parameter of an onboarding session.
    pub const ONBOARDING: &str = "onboarding_session_id";
    /// Name of the parameter of a reconnection.
    pub const RECONNECTION: &str = "reconnection_id";
    /// Name of the parameter of a heat pump that asks for its authentication.
    pub const AUTHORIZATION: &str = "heat_pump_id";

    /// The link whose parameter has this value, if there is exactly one.
    pub fn read(value_of: impl Fn(&str) -> Option<Uuid>) -> Option<Self> {
        let links = [
            value_of(Self::ONBOARDING).map(Self::Onboarding),
            value_of(Self::RECONNECTION).map(Self::Reconnection),
            value_of(Self::AUTHORIZATION).map(Self::Authorization),
        ];
        let mut links = links.into_iter().flatten();
        links.next().filter(|_| links.next().is_none())
    }

    /// Name and value of its parameter.
    pub fn parameter(self) -> (&'static str, Uuid) {
        match self {
            Self::Onboarding(id) => (Self::ONBOARDING, id),
            Self::Reconnection(id) => (Self::RECONNECTION, id),
            Self::Authorization(id) => (Self::AUTHORIZATION, id),
        }
    }

    /// The whole address at a sandbox.
    pub fn url(self, base_url: &str) -> String {
        let (name, id) = self.parameter();
        format!("{base_url}{CONNECT_PATH}?{name}={id}")
    }
}
