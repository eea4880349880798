//! Waiting for the moment of a blow, and the blow.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::task::spawn_blocking;

use podero_bridge::pump;

use super::load::Load;
use super::world::ChaosWorld;
use crate::world::{until, until_within};

/// Limit of the wait for a moment: a run that makes no progress must end and say so.
const MOMENT_TIME_MAX: Duration = Duration::from_secs(180);

/// Returns when this share of the events has come to an end and many more are arriving, a little later by chance, so that
/// blows fall anywhere in the work and not behind a look at it.
pub async fn until_progress(load: &Load, share: f64, dice: &mut StdRng) {
    until_within(MOMENT_TIME_MAX, &format!("{share:.2} of the events are done"), async || {
        (load.progress() >= share).then_some(())
    })
    .await;
    load.surge();
    pump::sleep(Duration::from_millis(dice.random_range(0..80))).await;
}

/// Returns when every replica tells senders to come again. The store must be away for all of them. While it is, the backlog does
/// not shrink and may keep every sender of the load from sending, so this sends by itself.
pub async fn until_refused(load: &Load, world: &ChaosWorld) {
    load.trickle();
    until("every replica tells senders to come again", async || {
        for number in 0..world.replicas() {
            load.is_refused_by(world, number).await.then_some(())?;
        }
        Some(())
    })
    .await;
}

/// Runs something slow of a server on a thread of its own.
pub async fn at<T: Send + Sync + 'static>(server: &Arc<T>, act: impl FnOnce(&T) + Send + 'static) {
    let server = server.clone();
    spawn_blocking(move || act(&server)).await.expect("done");
}
