//! The customer's own way back: the link that alerts carry, the page behind it, and what that page says.
//!
//! | file | asks |
//! |---|---|
//! | [`token`] | is this link ours, for which heat pump and whose is it? |
//! | [`standing`] | may it be used now, and what does its page show? |
//! | [`language`] | which language does the reader want? |
//! | [`texts`] | how does the page say it? |
//!
//! A token names a heat pump and a moment, and proves both; it holds no personal data. Every refusal has a name of a closed list.
//!
//! Before: [`crate::domain::alert`] puts a link into an alert. After: [`crate::reconnect`] shows the page.

pub mod language;
pub mod standing;
pub mod texts;
pub mod token;

pub use language::{PAGE_LANGUAGES, accepted_language, language_of_country};
pub use standing::{LANDING_LIFE, LandingView, LinkRefusal, LinkView, PumpStanding, judge_landing, judge_link};
pub use texts::{OwnerPage, PageText};
pub use token::{LinkSigner, LinkToken, TokenUse, sign, verify};
