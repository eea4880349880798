//! `sandbox`: runs the Podero sandbox alone.
//!
//! Before: [`crate::cli`]. After: [`crate::sandbox`].

use std::net::{SocketAddr, TcpListener};

use anyhow::Context;

use super::output::say;
use super::signals::Signals;
use crate::clock::Clock;
use crate::sandbox::{self, Sandbox, SandboxSettings};

/// Runs until a signal asks for the end.
pub(super) async fn run(listen: SocketAddr, seed: Option<u64>) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind(listen).with_context(|| format!("{listen} cannot be bound"))?;
    let address = listener.local_addr()?;
    let sandbox = Sandbox::new(SandboxSettings { seed, ..SandboxSettings::default() }, Clock::system());
    let account = sandbox.account().clone();
    let server = sandbox::server(sandbox, listener)?;
    let handle = server.handle();
    say(&format!("podero.base_url      http://{address}"));
    say(&format!("podero.org_id        {}", account.org_id));
    say(&format!("podero.client_id     {}", account.client_id));
    say(&format!("podero.client_secret {}", account.client_secret));
    say(&format!("state                http://{address}/_sandbox/state"));
    tokio::select! {
        ended = server => ended.context("the sandbox broke"),
        () = signals.next() => {
            handle.stop(true).await;
            Ok(())
        }
    }
}
