//! A heat pump as the page of its owner's link needs it.
//!
//! Before: [`crate::store::pumps`]. After: [`crate::reconnect`].

use uuid::Uuid;

use super::customers;
use super::db::query;
use super::error::Error;
use super::handle::StoreView;
use super::pumps::legible;
use crate::domain::Timestamp;
use crate::domain::customer::Customer;
use crate::domain::event::Field;
use crate::domain::plan::page_language;
use crate::domain::reconnect::{PumpStanding, language_of_country};

/// A heat pump, and who owns it.
#[derive(Debug, Clone)]
pub struct OwnedPump {
    /// Its state, and whose it is.
    pub standing: PumpStanding,
    /// The utility's id of its owner, if Podero knows it.
    pub customer: Option<String>,
}

/// The languages that an owner may read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnerLanguages {
    /// The one that upstream named.
    pub named: Option<&'static str>,
    /// The one of the country of their home.
    pub of_country: Option<&'static str>,
}

impl StoreView {
    /// A heat pump, also one that is watched no more; `None`: it was never seen.
    pub async fn owned_pump(&self, heat_pump: Uuid) -> Result<Option<OwnedPump>, Error> {
        let one = query("SELECT record, checked_at FROM pumps WHERE heat_pump = $1").bind(heat_pump);
        let Some((record, checked_at)) = one.fetch_optional::<(String, Timestamp)>(&self.readers).await? else {
            return Ok(None);
        };
        let seen = legible(&record).ok_or_else(|| Error::Unreadable("the record of a heat pump".to_owned()))?;
        let standing = PumpStanding {
            owner: seen.user,
            is_retired: seen.is_retired,
            is_connected: seen.knowledge.is_up(),
            checked_at,
        };
        Ok(Some(OwnedPump { standing, customer: seen.customer }))
    }

    /// The languages of a customer; none of one who is not known.
    pub async fn owner_languages(&self, customer: &str) -> Result<OwnerLanguages, Error> {
        let Some(state) = customers::state_of(&self.readers, customer).await?.filter(|state| !state.is_empty()) else {
            return Ok(OwnerLanguages::default());
        };
        let known: Customer = serde_json::from_str(&state).map_err(|error| Error::Unreadable(error.to_string()))?;
        Ok(OwnerLanguages {
            named: known.facts.personal_text(Field::Language).and_then(page_language),
            of_country: known.facts.country().and_then(language_of_country),
        })
    }
}
