//! Closed sets of configuration values. Never reads or judges anything.
//!
//! Before: [`crate::domain::names`]. After: [`crate::config`]'s rules, and the Podero client, which sends some of them.

use crate::domain::names::names;

names! {
    /// A language that Podero's onboarding speaks.
    pub enum Language {
        Sv = "sv", De = "de", En = "en", Hu = "hu", It = "it", Et = "et", Pl = "pl", Ro = "ro",
    }

    /// A price zone that Podero knows.
    pub enum PriceZone {
        At = "AT", AtHourly = "AT_HOURLY", Be = "BE", Ch = "CH", Ee = "EE", DeLu = "DE_LU", Hu = "HU",
        ItCnor = "IT_CNOR", ItCsud = "IT_CSUD", ItNord = "IT_NORD", ItPun = "IT_PUN", ItSard = "IT_SARD",
        ItSici = "IT_SICI", ItSud = "IT_SUD", Pt = "PT", Ro = "RO",
        Se1 = "SE_1", Se2 = "SE_2", Se3 = "SE_3", Se4 = "SE_4", Uk = "UK",
    }

    /// Format of log lines.
    pub enum LogFormat { Text = "text", Json = "json", Auto = "auto" }

    /// The way in which a member's user is deleted.
    pub(super) enum TeamDelete { Soft = "soft", Hard = "hard" }

    /// Kind of a source's proof that a request is its own. [`super::verify::Verify`] has the settings of each.
    pub(super) enum VerifyBy {
        StandardWebhooks = "standard-webhooks", Hmac = "hmac", Bearer = "bearer", Basic = "basic", None = "none",
    }

    /// Content of the answer to an accepted request.
    pub(super) enum AnswerWith {
        /// Its id and state.
        Receipt = "receipt",
        /// No body.
        None = "none",
    }
}
