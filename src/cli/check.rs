//! `check`: tests the configuration and connects to everything that it names. Prints a line for each part.
//!
//! It changes nothing but the broker's topology, which `serve` would declare too. A store that `serve` has yet to create
//! or to migrate is no fault.
//!
//! Before: [`crate::cli`]. After: the parts themselves.

use std::sync::Mutex;

use super::output::say;
use crate::app::settings;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::podero::{Checked, Client};
use crate::store::{OpenError, Settings, Store};

/// Prints `ok` or `failed` for each part; fails when one failed.
pub(super) async fn run(config: Config, offline: bool) -> anyhow::Result<()> {
    say("ok      configuration");
    for path in &config.exposed {
        say(&format!("warning every user of this machine can read or change a file of secrets: {}", path.display()));
    }
    if offline {
        return Ok(());
    }
    let clock = Clock::system();
    let mut failed = 0;
    let mut line = |part: &str, result: Result<String, String>| match result {
        Ok(state) => say(&format!("ok      {part}: {state}")),
        Err(why) => {
            failed += 1;
            say(&format!("failed  {part}: {why}"));
        }
    };
    let settings = Settings { url: config.store.url.expose().to_owned(), targets: Vec::new(), works: false };
    let key = config.store.erasure_key.as_ref().map(Secret::expose);
    let opened = Store::open_with(settings, key, clock.clone()).await;
    let store = match opened {
        Ok((store, _)) => Ok(format!("{:?}", store.dialect())),
        Err(OpenError::Missing(path)) => Ok(format!("Sqlite; `serve` will make {path}")),
        Err(error @ OpenError::Older { .. }) => Ok(error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    line("store", store);
    match &config.amqp {
        Some(amqp) => {
            let broker = Broker::new(settings::broker(amqp, config.policy.team.is_enabled), clock.clone());
            line("broker", broker.check().await.map_err(|error| error.to_string()));
        }
        None => say("-       broker: not configured"),
    }
    line("podero", podero(&config, clock).await);
    anyhow::ensure!(failed == 0, "{failed} of the parts did not answer");
    Ok(())
}

async fn podero(config: &Config, clock: Clock) -> Result<String, String> {
    let settings = settings::podero(config, None).map_err(|error| error.to_string())?;
    let (client, dispatcher) = Client::new(settings, clock, ()).map_err(|error| error.to_string())?;
    // The same steps as the circuit's probe: `check` is not content while the circuit would be open.
    let steps = Mutex::new(Vec::new());
    let checked = client.check(|Checked { step, outcome }| {
        let said = match outcome {
            Ok(status) => format!("{step} {status}"),
            Err(_) => format!("{step} failed"),
        };
        steps.lock().expect("no code panics while it holds the steps").push(said);
    });
    let steps = || steps.lock().expect("no code panics while it holds the steps").join(", ");
    tokio::select! {
        checked = checked => match checked {
            Ok(()) => Ok(steps()),
            Err(unfit) => Err(format!("{unfit} ({})", steps())),
        },
        () = dispatcher.run(std::future::pending()) => Err("the client ended by itself".to_owned()),
    }
}
