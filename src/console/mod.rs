//! The console: pages for people on the admin listener, server-rendered, for operators who have logged in.
//!
//! A page shows what `/v1` answers, by the same functions and with the same rights; nothing is known here that the API does not
//! know. Everything can be read and done without script. Texts are in `words.rs`, the frame of a page in `layout.rs`, and each
//! page is a file of its own.
//!
//! Before: an operator's browser. After: [`crate::admin`], [`crate::store`].

mod assets;
mod audit;
mod charts;
mod choices;
mod choose;
mod customer;
mod customers;
mod error;
mod error_page;
mod event;
mod fleet;
mod guard;
mod layout;
mod login;
mod login_state;
mod oidc;
mod overview;
mod parked;
mod parked_filter;
mod parts;
mod provider;
mod reasons;
mod retries;
mod routes;
mod settings;
mod state;
mod support;
mod table;
mod team;
mod visit;
mod words;

use std::sync::Arc;

use actix_web::web::{self, ServiceConfig};

pub use choices::Theme;
pub use provider::{IdentityProvider, ProviderError};
pub use state::{Console, LINK_LIFE};
pub use table::{ConsoleRoute, ConsoleRow, OIDC_CALLBACK};
pub use words::PageLanguage;

/// Mounts the pages. The state of the admin API is mounted next to it.
pub fn configure(config: &mut ServiceConfig, console: Arc<Console>) {
    config.app_data(web::Data::from(console));
    routes::mount(config);
}
