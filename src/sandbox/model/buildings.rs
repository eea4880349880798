//! Buildings of a user.
//!
//! Facts: `api-reference/user-buildings/*`, `partner-api/user-journeys/end-user/managing-buildings`. List and delete
//! have no page. It must never show a building under another user.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::access`].

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use super::users::{read_zip_code, zip_code_value};
use super::{BUILDINGS_PER_USER_MAX, Change, Fields, Refusal, World};
use crate::sandbox::access::{Act, Actor};
use crate::sandbox::variants::Variants;

const NAME_CHARS_MAX: usize = 100;
const ADDRESS_CHARS_MAX: usize = 100;
const ZIP_CODE_CHARS_MAX: usize = 20;
// Heating kinds: the page shows the first two members of the enum; the length is the response's.
const HEATING_CHARS_MAX: usize = 50;
const PROPERTY_TYPES: [&str; 6] = ["Detached", "Semi-detached", "Bungalow", "Terraced", "End-terrace", "Flat"];
const OCCUPANT_TYPES: [&str; 6] =
    ["Students", "Working adults", "At home adults", "Young family", "Older family", "Retirees"];

/// A building as Podero keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct Building {
    /// Podero's id of it.
    pub id: Uuid,
    /// Whose it is; answers do not tell.
    pub user_id: Uuid,
    /// Required, at most 100 characters.
    pub name: String,
    /// One of the documented six.
    pub property_type: Option<String>,
    /// One of the documented six.
    pub occupant_type: Option<String>,
    /// At most 50 characters.
    pub space_heating: Option<String>,
    /// At most 50 characters.
    pub water_heating: Option<String>,
    /// Square metres.
    pub property_size_m2: Option<i64>,
    /// Years.
    pub property_age: Option<i64>,
    /// People.
    pub num_occupants: Option<i64>,
    /// Whether there are solar panels; false unless said.
    pub photovoltaic: Option<bool>,
    /// Street and number.
    pub street_and_number: Option<String>,
    /// Addition to the street.
    pub street_add_info: Option<String>,
    /// ZIP code as it was given.
    pub zip_code: Option<String>,
    /// Town.
    pub town: Option<String>,
    /// Country as it was given.
    pub country: Option<String>,
}

/// Body of POST and PUT (`api-reference/user-buildings/update-details-of-a-building`); absent fields stay.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BuildingFields {
    /// Required to create; to change, by the schema.
    pub name: Option<String>,
    /// See [`Building`].
    pub property_type: Change<String>,
    /// See [`Building`].
    pub occupant_type: Change<String>,
    /// See [`Building`].
    pub space_heating: Change<String>,
    /// See [`Building`].
    pub water_heating: Change<String>,
    /// See [`Building`].
    pub property_size_m2: Change<i64>,
    /// See [`Building`].
    pub property_age: Change<i64>,
    /// See [`Building`].
    pub num_occupants: Change<i64>,
    /// See [`Building`].
    pub photovoltaic: Change<bool>,
    /// See [`Building`].
    pub street_and_number: Change<String>,
    /// See [`Building`].
    pub street_add_info: Change<String>,
    /// See [`Building`].
    pub zip_code: Change<String>,
    /// See [`Building`].
    pub town: Change<String>,
    /// See [`Building`].
    pub country: Change<String>,
}

impl BuildingFields {
    /// Reads the body of POST: `name` required.
    pub fn read_new(body: &Value, variants: &Variants) -> Result<Self, Refusal> {
        Self::read(body, variants, true)
    }

    /// Reads the body of PUT: `name` required as switched.
    pub fn read_changes(body: &Value, variants: &Variants) -> Result<Self, Refusal> {
        Self::read(body, variants, variants.building_put_requires_name)
    }

    fn read(body: &Value, variants: &Variants, name_required: bool) -> Result<Self, Refusal> {
        let mut fields = Fields::of(body)?;
        let name = match fields.text("name", Some(NAME_CHARS_MAX)) {
            Change::Keep if !name_required => None,
            change @ (Change::Keep | Change::Clear | Change::Set(_)) => fields.required("name", change),
        };
        let read = Self {
            name,
            property_type: fields.one_of("property_type", &PROPERTY_TYPES),
            occupant_type: fields.one_of("occupant_type", &OCCUPANT_TYPES),
            space_heating: fields.text("space_heating", Some(HEATING_CHARS_MAX)),
            water_heating: fields.text("water_heating", Some(HEATING_CHARS_MAX)),
            property_size_m2: fields.integer("property_size_m2"),
            property_age: fields.integer("property_age"),
            num_occupants: fields.integer("num_occupants"),
            photovoltaic: fields.flag("photovoltaic"),
            street_and_number: fields.text("street_and_number", Some(ADDRESS_CHARS_MAX)),
            street_add_info: fields.text("street_add_info", Some(ADDRESS_CHARS_MAX)),
            zip_code: read_zip_code(&mut fields, variants, Some(ZIP_CODE_CHARS_MAX)),
            town: fields.text("town", Some(ADDRESS_CHARS_MAX)),
            country: fields.text(variants.country_field.name(), None),
        };
        fields.finish()?;
        Ok(read)
    }

    fn apply(self, building: &mut Building) {
        if let Some(name) = self.name {
            building.name = name;
        }
        self.property_type.apply(&mut building.property_type);
        self.occupant_type.apply(&mut building.occupant_type);
        self.space_heating.apply(&mut building.space_heating);
        self.water_heating.apply(&mut building.water_heating);
        self.property_size_m2.apply(&mut building.property_size_m2);
        self.property_age.apply(&mut building.property_age);
        self.num_occupants.apply(&mut building.num_occupants);
        self.photovoltaic.apply(&mut building.photovoltaic);
        self.street_and_number.apply(&mut building.street_and_number);
        self.street_add_info.apply(&mut building.street_add_info);
        self.zip_code.apply(&mut building.zip_code);
        self.town.apply(&mut building.town);
        self.country.apply(&mut building.country);
    }
}

/// A building as answers show it.
#[derive(Debug, Clone, Copy)]
pub struct BuildingView<'a> {
    /// Which.
    pub building: &'a Building,
    /// In which of the contradicting shapes.
    pub variants: &'a Variants,
    /// Whether to tell whose it is: `/_sandbox/state` does, Podero does not.
    pub with_user: bool,
}

impl Serialize for BuildingView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let building = self.building;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &building.id)?;
        map.serialize_entry("name", &building.name)?;
        map.serialize_entry("property_type", &building.property_type)?;
        map.serialize_entry("occupant_type", &building.occupant_type)?;
        map.serialize_entry("space_heating", &building.space_heating)?;
        map.serialize_entry("water_heating", &building.water_heating)?;
        map.serialize_entry("property_size_m2", &building.property_size_m2)?;
        map.serialize_entry("property_age", &building.property_age)?;
        map.serialize_entry("num_occupants", &building.num_occupants)?;
        map.serialize_entry("photovoltaic", &building.photovoltaic)?;
        map.serialize_entry("street_and_number", &building.street_and_number)?;
        map.serialize_entry("street_add_info", &building.street_add_info)?;
        map.serialize_entry("zip_code", &zip_code_value(building.zip_code.as_deref(), self.variants))?;
        map.serialize_entry("town", &building.town)?;
        map.serialize_entry(self.variants.country_field.name(), &building.country)?;
        if self.with_user {
            map.serialize_entry("user_id", &building.user_id)?;
        }
        map.end()
    }
}

impl World {
    /// The user's buildings, oldest first. Undocumented, and refused when switched off.
    pub fn buildings(&self, actor: Actor, user_id: Uuid) -> Result<Vec<&Building>, Refusal> {
        self.permit_home(actor, user_id, Act::ReadHome)?;
        if !self.variants.building_list_supported {
            return Err(Refusal::MethodNotAllowed);
        }
        let ids = self.homes.get(&user_id).map_or(&[][..], |home| &home.buildings);
        Ok(ids.iter().filter_map(|id| self.buildings.get(*id)).collect())
    }

    /// Makes a building; a repeat makes another one.
    pub fn create_building(
        &mut self,
        actor: Actor,
        user_id: Uuid,
        wanted: BuildingFields,
    ) -> Result<&Building, Refusal> {
        self.permit_home(actor, user_id, Act::ChangeHome)?;
        let id = self.fresh_id();
        let home = self.homes.entry(user_id).or_default();
        if home.buildings.len() >= BUILDINGS_PER_USER_MAX {
            return Err(Refusal::Full("buildings of this user"));
        }
        home.buildings.push(id);
        let mut building = Building {
            id,
            user_id,
            name: String::new(),
            property_type: None,
            occupant_type: None,
            space_heating: None,
            water_heating: None,
            property_size_m2: None,
            property_age: None,
            num_occupants: None,
            photovoltaic: Some(false),
            street_and_number: None,
            street_add_info: None,
            zip_code: None,
            town: None,
            country: None,
        };
        wanted.apply(&mut building);
        Ok(self.buildings.put(id, building))
    }

    /// A building of this user.
    pub fn building(&self, actor: Actor, user_id: Uuid, id: Uuid) -> Result<&Building, Refusal> {
        self.permit_home(actor, user_id, Act::ReadHome)?;
        self.buildings.get(id).filter(|building| building.user_id == user_id).ok_or(Refusal::NotFound)
    }

    /// Changes the named fields; all others stay (whether they do is not documented for buildings).
    pub fn update_building(
        &mut self,
        actor: Actor,
        user_id: Uuid,
        id: Uuid,
        wanted: BuildingFields,
    ) -> Result<&Building, Refusal> {
        self.permit_home(actor, user_id, Act::ChangeHome)?;
        let found = self.buildings.get_mut(id).filter(|building| building.user_id == user_id);
        let building = found.ok_or(Refusal::NotFound)?;
        wanted.apply(building);
        Ok(building)
    }

    /// Deletes a building for good; its heat pumps stay, without one. Undocumented, and refused when switched off.
    pub fn delete_building(&mut self, actor: Actor, user_id: Uuid, id: Uuid) -> Result<(), Refusal> {
        self.permit_home(actor, user_id, Act::ChangeHome)?;
        if !self.variants.building_delete_supported {
            return Err(Refusal::MethodNotAllowed);
        }
        if !self.owns_building(user_id, id) {
            return Err(Refusal::NotFound);
        }
        self.buildings.take(id);
        let home = self.homes.entry(user_id).or_default();
        home.buildings.retain(|building| *building != id);
        for heat_pump in &home.heat_pumps {
            if let Some(heat_pump) = self.heat_pumps.get_mut(*heat_pump) {
                heat_pump.leave_building(id);
            }
        }
        Ok(())
    }

    /// Every building.
    pub fn all_buildings(&self) -> impl Iterator<Item = &Building> {
        self.buildings.iter()
    }

    pub(super) fn owns_building(&self, user_id: Uuid, id: Uuid) -> bool {
        self.buildings.get(id).is_some_and(|building| building.user_id == user_id)
    }
}
