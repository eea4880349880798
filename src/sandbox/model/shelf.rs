//! A map by id that remembers the order in which things were put in.
//!
//! It must never know what it holds.
//!
//! Before: [`crate::sandbox::model`]. After: nothing.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

#[derive(Debug)]
pub(super) struct Shelf<T> {
    place_of: HashMap<Uuid, u64>,
    in_order: BTreeMap<u64, (Uuid, T)>,
    next_place: u64,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { place_of: HashMap::new(), in_order: BTreeMap::new(), next_place: 0 }
    }
}

impl<T> Shelf<T> {
    /// Puts a thing behind all others; ids are drawn from 122 random bits and never come twice.
    pub(super) fn put(&mut self, id: Uuid, thing: T) -> &mut T {
        let place = self.next_place;
        self.next_place += 1;
        assert!(self.place_of.insert(id, place).is_none(), "an id is drawn once");
        &mut self.in_order.entry(place).or_insert((id, thing)).1
    }

    pub(super) fn get(&self, id: Uuid) -> Option<&T> {
        self.place_of.get(&id).and_then(|place| self.in_order.get(place)).map(|(_, thing)| thing)
    }

    pub(super) fn get_mut(&mut self, id: Uuid) -> Option<&mut T> {
        self.place_of.get(&id).and_then(|place| self.in_order.get_mut(place)).map(|(_, thing)| thing)
    }

    pub(super) fn take(&mut self, id: Uuid) -> Option<T> {
        let place = self.place_of.remove(&id)?;
        self.in_order.remove(&place).map(|(_, thing)| thing)
    }

    pub(super) fn len(&self) -> usize {
        self.in_order.len()
    }

    /// All things, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.in_order.values().map(|(_, thing)| thing)
    }
}
