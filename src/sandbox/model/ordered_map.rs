//! A map by id that remembers the order in which things were put in.
//!
//! It must never know what its values are.
//!
//! Before: [`crate::sandbox::model`]. After: nothing.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

#[derive(Debug)]
pub(super) struct OrderedMap<T> {
    seq_of: HashMap<Uuid, u64>,
    in_order: BTreeMap<u64, (Uuid, T)>,
    next_seq: u64,
}

impl<T> Default for OrderedMap<T> {
    fn default() -> Self {
        Self { seq_of: HashMap::new(), in_order: BTreeMap::new(), next_seq: 0 }
    }
}

impl<T> OrderedMap<T> {
    /// Puts a thing behind all others; ids are drawn from 122 random bits and never come twice.
    pub(super) fn put(&mut self, id: Uuid, thing: T) -> &mut T {
        let seq = self.next_seq;
        self.next_seq += 1;
        assert!(self.seq_of.insert(id, seq).is_none(), "an id is drawn once");
        &mut self.in_order.entry(seq).or_insert((id, thing)).1
    }

    pub(super) fn get(&self, id: Uuid) -> Option<&T> {
        self.seq_of.get(&id).and_then(|seq| self.in_order.get(seq)).map(|(_, thing)| thing)
    }

    pub(super) fn get_mut(&mut self, id: Uuid) -> Option<&mut T> {
        self.seq_of.get(&id).and_then(|seq| self.in_order.get_mut(seq)).map(|(_, thing)| thing)
    }

    pub(super) fn take(&mut self, id: Uuid) -> Option<T> {
        let seq = self.seq_of.remove(&id)?;
        self.in_order.remove(&seq).map(|(_, thing)| thing)
    }

    pub(super) fn take_all(&mut self, ids: Vec<Uuid>) {
        ids.into_iter().for_each(|id| drop(self.take(id)));
    }

    pub(super) fn len(&self) -> usize {
        self.in_order.len()
    }

    /// All things, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.in_order.values().map(|(_, thing)| thing)
    }
}
