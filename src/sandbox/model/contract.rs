//! An energy contract of a user: fields and request bodies.
//!
//! Facts: `api-reference/user-energy-contracts/*`, read by the schema where the guide differs. It must never know another
//! contract.
//!
//! Before: [`crate::sandbox::model::World`]. After: nothing.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::fields::{FieldKind, FieldValues, Fields, id_of};
use crate::sandbox::error::SandboxResult;
use crate::sandbox::variants::Variants;

const METER_ID_CHARS_MAX: usize = 19;
const SUPPLIER_CHARS_MAX: usize = 100;
const CONTRACT_TYPES: [&str; 3] = ["spot_hourly", "monthly", "yearly"];

/// Fields that POST and PUT take; all may be null.
pub(in crate::sandbox) const CONTRACT_FIELDS: [(&str, FieldKind); 7] = [
    // Out as `building`; without one it covers all of the user's buildings (`partner-api/reference/energy-contracts`).
    ("building_id", FieldKind::Id),
    ("energy_contract_type", FieldKind::OneOf(&CONTRACT_TYPES)),
    // Of `{price, timestamp}`.
    ("energy_prices", FieldKind::List),
    ("meter_id", FieldKind::Text(Some(METER_ID_CHARS_MAX))),
    ("supplier", FieldKind::Text(Some(SUPPLIER_CHARS_MAX))),
    ("currency_energy_price", FieldKind::Text(None)),
    ("energy_price_includes_external_components", FieldKind::Flag),
];

/// An energy contract as Podero keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct EnergyContract {
    pub(super) id: Uuid,
    pub(super) user_id: Uuid,
    row: FieldValues,
}

impl EnergyContract {
    pub(super) fn new(id: Uuid, user_id: Uuid) -> Self {
        Self { id, user_id, row: FieldValues::new() }
    }

    pub(super) fn change(&mut self, wanted: ContractFields) {
        self.row.extend(wanted.0);
    }

    pub(super) fn leave_building(&mut self, id: Uuid) {
        if self.row.get("building_id").and_then(id_of) == Some(id) {
            self.row.remove("building_id");
        }
    }

    /// The contract as answers show it.
    pub fn json(&self) -> Value {
        let shown = |name: &'static str| if name == "building_id" { "building" } else { name };
        let fields = CONTRACT_FIELDS.iter().map(|(name, _)| {
            let value = self.row.get(name).cloned().unwrap_or_default();
            (shown(name).to_owned(), value)
        });
        let mut out: Map<String, Value> = fields.collect();
        out.insert("id".to_owned(), json!(self.id));
        Value::Object(out)
    }
}

/// Body of POST and PUT; that fields left out of a PUT stay is not documented.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContractFields(FieldValues);

impl ContractFields {
    /// Reads the body; nothing is required.
    pub fn read(body: &Value) -> SandboxResult<Self> {
        let mut fields = Fields::of(body)?;
        let row = fields.row(&CONTRACT_FIELDS, &Variants::default());
        fields.finish()?;
        Ok(Self(row))
    }

    pub(super) fn building(&self) -> Option<Uuid> {
        self.0.get("building_id").and_then(id_of)
    }
}
