//! Every key, default, bound and cross-check, as plain values for the rest of the program.
//!
//! Parsed from a TOML text and a map of environment variables, never from global state, so that a test needs
//! no process environment; only [`process_environment`] asks the process. Relative paths of files to read count from the
//! folder of the configuration file where they stand in it, else from the working directory. It opens no connection and
//! never shows a secret.
//!
//! ```text
//! rules -> key (declares name, default, bounds, help) -> reader (file + environment -> value) -> sections -> load (Config)
//! ```
//!
//! A new key is declared in the file of its section in `sections/`, and read there into the section's value. A key that is
//! declared and never read does not compile without a warning; `UPDATE=1` with the tests `docs_has` writes it into the documents.
//!
//! Precedence: environment, then file, then default. `PODERO_BRIDGE__SECTION__KEY` overrides `section.key`;
//! `PODERO_BRIDGE__SOURCE__NAME__KEY` overrides a key of the source of that name (written with `_` for `-`), or
//! adds such a source; `PODERO_BRIDGE__ADMIN__TOKENS__NAME__KEY` does so with a token. A secret in the environment replaces one in the file also where one of them is given as
//! `…_file`; both forms in the same place are a problem.
//!
//! Before: [`crate::domain`]. After: everything that has a setting.

mod codes;
mod file;
mod key;
mod load;
mod networks;
mod problems;
mod reader;
mod rules;
mod secret;
mod sections;
mod settings;
#[cfg(test)]
mod tests;
mod verify;
mod words;

pub use codes::{bytes_of_base64, bytes_of_hex, bytes_of_standard_base64};
pub use key::{KeyInfo, Keys, Section};
pub use load::{Config, Import, KEYS, default_of, process_environment, read_map, read_password, sudo_user};
pub use networks::Networks;
pub use problems::{ConfigProblem, Problems};
pub use reader::{ENVIRONMENT_PREFIX, Strings};
pub use rules::{AMQP_NAME_BYTES_MAX, TOKEN_CHARS_MIN, WEBHOOK_KEY_BYTES_MIN, is_loopback};
pub use secret::{Reloaded, Secret, Secrets};
pub use sections::admin::{Admin, AdminToken};
pub use sections::amqp::Amqp;
pub use sections::audit::Audit;
pub use sections::console::{ConsoleSection, Oidc};
pub use sections::http::{BODY_BYTES_MAX, Http};
pub use sections::log::Log;
pub use sections::outbound::{Outbound, Webhook};
pub use sections::podero::{Account, Podero, TIMEOUT_MAX, TIMEOUT_MIN};
pub use sections::reconnect::{Logo, ReconnectSection};
pub use sections::sandbox::Sandbox;
pub use sections::scim::{Scim, ScimToken};
pub use sections::source::{Map, Source};
pub use sections::store::Store;
pub use sections::watch::Watch;
pub use settings::{Setting, SettingOrigin};
pub use verify::{
    DEFAULT_SOURCE, Hmac, HmacAlgorithm, HmacEncoding, KeyEncoding, SignedAt, SignedText, TIMESTAMP, Types, Verify,
};
pub use words::{Language, LogFormat, PriceZone};
