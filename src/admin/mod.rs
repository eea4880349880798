//! The admin API: health, metrics, timelines, heat pumps, parked events, and the audit log.
//!
//! `/livez`, `/readyz` and `/metrics` answer every client that reaches the address; everything under `/v1` wants a token or an
//! operator's password when there is one, and a role that is enough. Without a token the address is loopback (the configuration
//! sees to that) and no web page is answered. It changes nothing but the state of parked events.
//!
//! Before: an operator, Prometheus. After: [`crate::store`]; for links, [`crate::podero`].

mod access;
mod attempts;
mod audit;
mod error;
mod events;
mod guard;
mod health;
mod history;
mod overview;
mod page;
mod parked;
mod pumps;
mod refused;
mod rehearsal;
mod retries;
mod routes;
mod sessions;
mod settings;
mod state;
mod team;

use std::sync::Arc;

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, ResponseError};

pub use access::{Access, AuthError, Caller};
pub use audit::{AuditQuery, ExportQuery, audit_page, export_audit};
pub use error::ApiError;
pub use events::{
    CustomersQuery, OpenQuery, acts_on, customer_card, customer_timeline, customer_view, event_view, find_customers,
    open_events,
};
pub use guard::{names_loopback, not_by_a_page};
pub use history::HistoryView;
pub use overview::{OverviewView, overview};
pub use page::{PageQuery, next_of};
pub use parked::{ParkedFilterQuery, ParkedQuery, RetryOne, SkipOne, unpark};
pub use pumps::{AlertsQuery, LinkRequest, PumpsQuery, ReconnectLink, make_link};
pub use refused::AccessRefusal;
pub use rehearsal::{RehearsalCall, RehearsalView};
pub use retries::{order_retry, stop_retry};
pub use routes::{ApiMethod, ApiRoute, RouteRow};
pub use sessions::{revoke_session, sessions};
pub use settings::{SettingsView, settings};
pub use state::{Admin, Exports, Health, Links, Part};
pub use team::{INACTIVE_DAYS, ReviewQuery, TeamPage, TeamReview, team_page, team_review};

/// Limit of a request's body in bytes: two addresses of landing pages, each character written as an escape, and some more.
const ORDER_BYTES_MAX: usize = 128 << 10;

/// Mounts the routes.
pub fn configure(config: &mut ServiceConfig, admin: Arc<Admin>) {
    config
        .app_data(web::Data::from(admin))
        .app_data(
            web::QueryConfig::default()
                .error_handler(|_, _| ApiError::malformed("see the query's names and values").into()),
        )
        .app_data(web::PayloadConfig::new(ORDER_BYTES_MAX))
        .app_data(web::PathConfig::default().error_handler(|_, _| ApiError::malformed("the path is not UTF-8").into()))
        .default_service(web::to(nothing_here));
    routes::mount(config);
}

async fn nothing_here() -> HttpResponse {
    ApiError::not_found("see /openapi.json").error_response()
}
