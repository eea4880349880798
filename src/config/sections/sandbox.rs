//! `[sandbox]`: the embedded Podero sandbox.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::sandbox`].

use std::net::SocketAddr;

use crate::config::key::section;
use crate::config::reader::Reader;
use crate::config::rules;

section! {
    /// The embedded Podero sandbox, with `serve --sandbox` and `sandbox`.
    SANDBOX = "sandbox" {
        /// Address of the sandbox.
        LISTEN: SocketAddr = "listen", rules::address(), default "127.0.0.1:8085";
        /// Seed of the sandbox's ids: the same seed makes the same ids. Without it they differ each time.
        SEED: u64 = "seed", rules::whole(0, u64::MAX), example "1";
    }
}

/// Section `[sandbox]`.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Address of the sandbox.
    pub listen: SocketAddr,
    /// Seed of the sandbox's ids, which makes them repeat.
    pub seed: Option<u64>,
}

pub(in crate::config) fn read(r: &mut Reader) -> Sandbox {
    Sandbox { listen: r.value(&LISTEN), seed: r.optional(&SEED) }
}
