//! An embedded Podero for development, demonstration and tests: in memory, faithful where the documents are clear,
//! switchable where they contradict each other or are silent.
//!
//! It speaks Podero's HTTP, and a control API of its own under `/_sandbox`; the rest of the bridge uses it as it
//! would use Podero. It must never be reached by another way than HTTP, except for [`model`] in a simulation and
//! for its document.
//!
//! Before: the command line, the composition root and `spec`. After: [`crate::clock`], [`crate::domain`].

pub mod access;
mod answer;
mod embedded;
mod endpoint;
mod error;
pub mod faults;
pub mod model;
mod newest;
pub mod requests;
mod routes;
mod variants;

pub use embedded::{BODY_BYTES_MAX, REPLIES_MAX, Sandbox, SandboxAccount, SandboxSettings, TOKEN_LIFETIME};
pub use endpoint::Endpoint;
pub use error::{FieldProblem, SandboxError, SandboxResult};
pub use routes::{openapi, server};
pub use variants::{CountryField, StaffRights, Variants};
