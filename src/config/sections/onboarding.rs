//! `[onboarding]`: sessions in which customers connect their heat pumps.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::domain::plan`].

use crate::config::key::section;
use crate::config::reader::Reader;
use crate::config::rules;
use crate::config::words::{Language, PriceZone};
use crate::domain::call::OnboardingPolicy;

section! {
    /// Onboarding sessions, in which customers connect their heat pumps. `onboarding.enabled` requires the other four keys.
    ONBOARDING = "onboarding" {
        /// Whether a sign-up or a move creates an onboarding session and publishes its link.
        ENABLED: bool = "enabled", rules::flag(), default "false";
        /// Language of the session, where Podero's pages do not speak the customer's own.
        LANGUAGE: Language = "language", rules::one_of(Language::names(), Language::from_name), example r#""de""#;
        /// Price zone of the heat pumps that get connected.
        PRICE_ZONE: PriceZone = "price_zone", rules::price_zone(), example r#""DE_LU""#;
        /// Page to which the customer returns after connecting the heat pump.
        SUCCESS_URL: String = "success_url", rules::web_url(), example r#""https://www.utility.example/heat-pump/connected""#;
        /// Page to which the customer returns after giving up.
        CANCEL_URL: String = "cancel_url", rules::web_url(), example r#""https://www.utility.example/heat-pump/later""#;
    }
}

/// Reads the section; `None`: it is not enabled.
pub(in crate::config) fn read(r: &mut Reader) -> Option<OnboardingPolicy> {
    let is_enabled = r.value(&ENABLED);
    let when = is_enabled.then_some("with onboarding.enabled");
    let language = r.required(&LANGUAGE, when);
    let price_zone = r.required(&PRICE_ZONE, when);
    let success_url = r.required(&SUCCESS_URL, when);
    let cancel_url = r.required(&CANCEL_URL, when);
    let onboarding = OnboardingPolicy {
        language: language?.name().to_owned(),
        price_zone: price_zone?.name().to_owned(),
        success_url: success_url?,
        cancel_url: cancel_url?,
    };
    is_enabled.then_some(onboarding)
}
