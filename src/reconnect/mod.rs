//! The owner's own way back: the pages behind the links of alerts, on the webhook listener.
//!
//! ```text
//! GET  /r/{token}            says what will happen; makes nothing, since mail scanners open links
//! POST /r/{token}            makes the partner's link, and leads there
//! GET  /r/{token}/done       the partner leads back here: has it worked?     (a token of another use)
//! GET  /r/{token}/stopped    the owner gave up
//! ```
//!
//! A page has no personal data and no script, loads nothing, and names neither the heat pump nor its owner. A token is in no line of the
//! log, no metric and no row. Where a request leads is never taken from the request.
//!
//! Before: the owner of a heat pump, with a mail. After: [`crate::link_maker`] and [`crate::store`].

mod limits;
mod page;
mod pages;
mod routes;

pub use pages::OwnerPages;
pub use routes::configure;
