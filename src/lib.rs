//! podero-bridge.
pub mod clock;
pub mod config;
pub mod domain;
pub mod metrics;
pub mod store;
pub mod telemetry;
