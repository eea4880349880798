//! A building of a user: fields and request bodies.
//!
//! Facts: `api-reference/user-buildings/*`. It must never know another building.
//!
//! Before: [`crate::sandbox::model::World`]. After: [`crate::sandbox::Variants`].

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use super::fields::{FieldKind, FieldValues, Fields, Shown, text_of, write_row};
use crate::sandbox::error::SandboxResult;
use crate::sandbox::variants::Variants;

pub(in crate::sandbox) const NAME_CHARS_MAX: usize = 100;
const ADDRESS_CHARS_MAX: usize = 100;
const ZIP_CODE_CHARS_MAX: usize = 20;
// Heating kinds: the page shows the first two members of the enum; the length is the response's.
const HEATING_CHARS_MAX: usize = 50;
const PROPERTY_TYPES: [&str; 6] = ["Detached", "Semi-detached", "Bungalow", "Terraced", "End-terrace", "Flat"];
const OCCUPANT_TYPES: [&str; 6] =
    ["Students", "Working adults", "At home adults", "Young family", "Older family", "Retirees"];

/// Fields other than the name (`api-reference/user-buildings/update-details-of-a-building`).
pub(in crate::sandbox) const BUILDING_FIELDS: [(&str, FieldKind); 13] = [
    ("property_type", FieldKind::OneOf(&PROPERTY_TYPES)),
    ("occupant_type", FieldKind::OneOf(&OCCUPANT_TYPES)),
    ("space_heating", FieldKind::Text(Some(HEATING_CHARS_MAX))),
    ("water_heating", FieldKind::Text(Some(HEATING_CHARS_MAX))),
    ("property_size_m2", FieldKind::Integer),
    // In years.
    ("property_age", FieldKind::Integer),
    ("num_occupants", FieldKind::Integer),
    // True if there are solar panels; false unless said.
    ("photovoltaic", FieldKind::Flag),
    ("street_and_number", FieldKind::Text(Some(ADDRESS_CHARS_MAX))),
    ("street_add_info", FieldKind::Text(Some(ADDRESS_CHARS_MAX))),
    ("zip_code", FieldKind::ZipCode(ZIP_CODE_CHARS_MAX)),
    ("town", FieldKind::Text(Some(ADDRESS_CHARS_MAX))),
    ("country", FieldKind::Country),
];

/// A building as Podero keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Building {
    /// Podero's id of it.
    pub id: Uuid,
    /// Its user; answers do not show it.
    pub user_id: Uuid,
    /// Required, at most 100 characters.
    pub name: String,
    row: FieldValues,
}

impl Building {
    pub(super) fn new(id: Uuid, user_id: Uuid) -> Self {
        Self { id, user_id, name: String::new(), row: FieldValues::from([("photovoltaic", Value::Bool(false))]) }
    }

    /// A field, such as `town`. The names of `country` and `zip_code` are these under every variant.
    pub fn field(&self, name: &str) -> &Value {
        self.row.get(name).unwrap_or(&Value::Null)
    }

    pub(super) fn change(&mut self, wanted: BuildingFields) {
        if let Some(name) = wanted.name {
            self.name = name;
        }
        self.row.extend(wanted.fields);
    }
}

/// Body of POST and PUT; absent fields stay.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BuildingFields {
    /// Required to create; to change, by the schema.
    pub name: Option<String>,
    /// The rest.
    pub fields: FieldValues,
}

impl BuildingFields {
    /// Reads the body of POST: `name` required.
    pub fn read_new(body: &Value, variants: &Variants) -> SandboxResult<Self> {
        Self::read(body, variants, true)
    }

    /// Reads the body of PUT: `name` required as switched.
    pub fn read_changes(body: &Value, variants: &Variants) -> SandboxResult<Self> {
        Self::read(body, variants, variants.building_put_requires_name)
    }

    fn read(body: &Value, variants: &Variants, name_required: bool) -> SandboxResult<Self> {
        let mut fields = Fields::of(body)?;
        let kind = FieldKind::Text(Some(NAME_CHARS_MAX));
        let name = if name_required { Some(fields.required("name", kind)) } else { fields.not_null("name", kind) };
        let name = name.as_ref().map(text_of);
        let read = Self { name, fields: fields.row(&BUILDING_FIELDS, variants) };
        fields.finish()?;
        Ok(read)
    }
}

impl Serialize for Shown<'_, Building> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let building = self.thing;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &building.id)?;
        map.serialize_entry("name", &building.name)?;
        write_row(&mut map, &BUILDING_FIELDS, &building.row, self.variants)?;
        if self.is_whole {
            map.serialize_entry("user_id", &building.user_id)?;
        }
        map.end()
    }
}
