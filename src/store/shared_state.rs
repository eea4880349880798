//! Values that all replicas share, as rows with a version: compare and set.
//!
//! A row is written only by a replica that has read the version before. The replica that comes second looks again.
//!
//! Before: [`crate::store::standing`] and [`crate::store::outages`] keep their values here. After: the table `shared`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::db::{DbFault, Executor, query};
use crate::domain::Timestamp;
use crate::domain::partner_health::PartnerHealth;

/// The key of Podero's health.
pub(super) const STANDING: &str = "standing";

/// The value of this name and its version. Returns no value if it is missing or this version cannot read it: shared values are
/// learnt again within seconds.
pub(super) async fn read<T: DeserializeOwned>(
    on: impl Executor,
    name: &'static str,
) -> Result<(Option<T>, i64), DbFault> {
    let row = query("SELECT value, version FROM shared WHERE name = $1").bind(name).fetch_optional(on).await?;
    let Some((text, version)): Option<(String, i64)> = row else { return Ok((None, 0)) };
    Ok((serde_json::from_str(&text).ok(), version))
}

/// Writes the value. Returns `false` if another replica has written since.
pub(super) async fn set(
    on: impl Executor,
    name: &'static str,
    value: &impl Serialize,
    read: i64,
) -> Result<bool, DbFault> {
    let written = query(
        "INSERT INTO shared (name, value, version) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET value = $2, version = $3 WHERE shared.version = $4",
    );
    Ok(written.with((name, text_of(value), read + 1, read)).execute(on).await? == 1)
}

/// Podero's health by the knowledge of all replicas, corrected to values that can be true now.
pub(super) async fn shared_standing(on: impl Executor, now: Timestamp) -> Result<PartnerHealth, DbFault> {
    let (known, _) = read::<PartnerHealth>(on, STANDING).await?;
    Ok(known.unwrap_or_default().plausible(now))
}

/// The stored form of a shared value.
pub(super) fn text_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what is shared has only serialisable fields")
}
