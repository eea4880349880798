//! The chain of hashes that seals the rows of the audit log, and its verification.
//!
//! A sealed row has a number and a hash over all of its columns and the hash before it. Of a target the hash covers a salted
//! digest, and of a note its digest, so that id, salt and note can be erased without breaking the chain. A person who rewrites all rows
//! can make a chain of their own: only a [`ChainHead`] that is kept elsewhere shows it (docs/AUDIT.md).
//!
//! Before: [`super::audit`]. After: [`crate::store`] seals and verifies.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Timestamp;
use super::audit::{Action, AuditOutcome, TargetKind};

/// Bytes of SHA-256.
pub type Hash = [u8; 32];

/// The head of a chain: the number of rows that were ever sealed, and the hash of the last. Written `COUNT:HASH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHead {
    /// The number of rows.
    pub count: u64,
    /// The hash of the last row; zeros before the first.
    pub hash: Hash,
}

impl ChainHead {
    /// The head of a chain without rows.
    pub const EMPTY: Self = Self { count: 0, hash: [0; 32] };

    /// The head after one more row.
    #[must_use]
    pub fn seal(self, row: &SealedFields<'_>) -> Self {
        let count = self.count + 1;
        Self { count, hash: row.hash(count, self.hash) }
    }
}

impl std::fmt::Display for ChainHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.count, hex(&self.hash))
    }
}

impl serde::Serialize for ChainHead {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for ChainHead {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = "a head is COUNT:HASH, a number and 64 hexadecimal digits in lower case";
        let (count, hash) = text.split_once(':').ok_or(form)?;
        Ok(Self { count: count.parse().map_err(|_| form)?, hash: hash_of_hex(hash).ok_or(form)? })
    }
}

/// The fields of a row that its hash covers, besides its number and the hash before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named for the columns of the table `audit`")]
pub struct SealedFields<'a> {
    pub id: &'a str,
    pub at: Timestamp,
    pub actor: &'a str,
    pub action: &'a str,
    pub target_kind: &'a str,
    /// [`target_digest`], which stays when id and salt are erased.
    pub target_digest: &'a str,
    pub outcome: &'a str,
    pub reason: Option<&'a str>,
    pub event_id: Option<&'a str>,
    pub was: Option<&'a str>,
    pub became: Option<&'a str>,
    /// [`note_digest`], which stays when the note is erased.
    pub note_digest: Option<&'a str>,
}

impl SealedFields<'_> {
    /// SHA-256 over the number, the hash before it, and each field behind its length, so that no two rows have the same bytes.
    fn hash(&self, number: u64, before: Hash) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(number.to_be_bytes());
        hasher.update(before);
        let at = self.at.micros().to_string();
        let fields = [
            Some(self.id),
            Some(&at),
            Some(self.actor),
            Some(self.action),
            Some(self.target_kind),
            Some(self.target_digest),
            Some(self.outcome),
            self.reason,
            self.event_id,
            self.was,
            self.became,
            self.note_digest,
        ];
        for field in fields {
            // A field that is not there differs from an empty one.
            hasher.update([u8::from(field.is_some())]);
            let text = field.unwrap_or_default();
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text);
        }
        hasher.finalize().into()
    }
}

/// The digest of a target: nobody who does not have the salt can try out ids.
pub fn target_digest(salt: Uuid, id: &str) -> String {
    hex(&Sha256::new().chain_update(salt.as_bytes()).chain_update(id).finalize().into())
}

/// The digest of a note, by the salt of its row.
pub fn note_digest(salt: Uuid, note: &str) -> String {
    hex(&Sha256::new().chain_update(b"note").chain_update(salt.as_bytes()).chain_update(note).finalize().into())
}

/// A hash in hexadecimal digits.
pub fn hex(hash: &Hash) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The hash that [`hex`] wrote; `None` for any other text.
pub fn hash_of_hex(text: &str) -> Option<Hash> {
    let is_hex = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex {
        return None;
    }
    let mut hash = [0; 32];
    for (place, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(place * 2..place * 2 + 2)?, 16).ok()?;
    }
    Some(hash)
}

/// The rows that an erasure emptied, as its own row has them in `became`: the numbers of sealed rows, and the ids of those that were
/// not sealed yet. Written `3,7-9,ID`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EmptiedRows {
    numbers: BTreeSet<u64>,
    ids: BTreeSet<String>,
}

impl EmptiedRows {
    /// Adds a row by its number, else by its id.
    pub fn add(&mut self, number: Option<u64>, id: &str) {
        match number {
            Some(number) => self.numbers.insert(number),
            None => self.ids.insert(id.to_owned()),
        };
    }

    /// Reads what an erasure wrote. A part that is neither a number, a range of numbers nor an id names no row.
    fn read(text: &str) -> impl Iterator<Item = EmptiedPart<'_>> {
        text.split(',').filter_map(|part| {
            let range = part.split_once('-').unwrap_or((part, part));
            match (range.0.parse(), range.1.parse()) {
                (Ok(from), Ok(to)) if from <= to => Some(EmptiedPart::Numbers { from, to }),
                _ if part.parse::<Uuid>().is_ok() => Some(EmptiedPart::Id(part)),
                _ => None,
            }
        })
    }
}

enum EmptiedPart<'a> {
    Numbers { from: u64, to: u64 },
    Id(&'a str),
}

impl std::fmt::Display for EmptiedRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for number in &self.numbers {
            match ranges.last_mut() {
                Some((_, to)) if *to + 1 == *number => *to = *number,
                Some(_) | None => ranges.push((*number, *number)),
            }
        }
        let ranges =
            ranges.into_iter().map(|(from, to)| if from == to { format!("{from}") } else { format!("{from}-{to}") });
        let parts: Vec<String> = ranges.chain(self.ids.iter().cloned()).collect();
        f.write_str(&parts.join(","))
    }
}

/// A sealed row as it stands in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainedRow<'a> {
    /// Its number.
    pub number: u64,
    /// Its hash, in hexadecimal digits.
    pub hash: &'a str,
    /// The fields that the hash covers.
    pub fields: SealedFields<'a>,
    /// The id of the target and the salt; both or neither.
    pub target: (Option<&'a str>, Option<Uuid>),
    /// A person's own words.
    pub note: Option<&'a str>,
}

/// The first place at which a chain is broken.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Broken {
    /// Rows of these numbers are missing.
    Missing {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// A row is not as it was sealed.
    Changed {
        /// Its number.
        number: u64,
        /// Its id.
        id: String,
        /// The column that was changed, where it shows.
        column: Option<&'static str>,
    },
    /// A row has the number of another.
    Swapped {
        /// The number.
        number: u64,
        /// The number that the row of this number has.
        with: u64,
    },
    /// Rows were removed from the end: the store's own head counts more.
    CutTail {
        /// The number of the last row.
        reached: u64,
        /// The number of rows that were sealed.
        sealed: u64,
    },
    /// The store's own head counts fewer rows than the chain has: it was set back, or rows were added behind it.
    HeadBehind {
        /// The number of the last row.
        reached: u64,
        /// The number of rows by the head.
        sealed: u64,
    },
    /// A row has a number from before the beginning: rows that the retention removed were put back, or others were added.
    Added {
        /// Its id.
        id: String,
        /// The number of rows that are not there any more.
        count: u64,
    },
    /// The row of a head that a running bridge noted is removed although it is of the same day, and the retention removes whole days.
    TrimmedTooSoon {
        /// The number of rows of that head.
        count: u64,
    },
    /// The store's own head has another hash than the last row.
    HeadChanged {
        /// The number of rows.
        count: u64,
    },
    /// A column is empty, and no erasure says that it emptied the row.
    Emptied {
        /// The number of the row.
        number: u64,
        /// Its id.
        id: String,
        /// The column.
        column: &'static str,
    },
    /// The rows before the oldest that is left were not removed by the retention: no sealed row says so.
    NoTrim {
        /// The number of rows that are not there.
        count: u64,
    },
    /// A row about a removal by the retention does not begin where the one before it ended, or is about rows behind itself.
    TrimDiffers {
        /// The number of the row.
        number: u64,
    },
    /// The store's own head is not there, or is none.
    NoHead,
    /// The chain does not have as many rows as the head that was given.
    HeadNotReached {
        /// Those of the head.
        count: u64,
        /// Those of the chain.
        reached: u64,
    },
    /// The chain has another hash at the head that was given: rows up to there were rewritten.
    HeadDiffers {
        /// The number of rows.
        count: u64,
    },
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { from, to } if from == to => write!(f, "row {from} is missing"),
            Self::Missing { from, to } => write!(f, "rows {from} to {to} are missing"),
            Self::Changed { number, id, column: Some(column) } => {
                write!(f, "row {number} ({id}): `{column}` was changed")
            }
            Self::Changed { number, id, column: None } => {
                write!(f, "row {number} ({id}) was changed after it was sealed")
            }
            Self::Swapped { number, with } => {
                write!(f, "row {number} is another: the row of this number stands at {with}")
            }
            Self::CutTail { reached, sealed } => {
                write!(f, "the chain ends with row {reached}, and {sealed} rows were sealed: its end was removed")
            }
            Self::HeadBehind { reached, sealed } => {
                write!(
                    f,
                    "the chain ends with row {reached}, and the store's own head counts {sealed}: the head was set back, or rows were added behind it"
                )
            }
            Self::Added { id, count } => {
                write!(f, "row {id} has a number up to {count}, and the retention removed all of these: it was added")
            }
            Self::TrimmedTooSoon { count } => {
                write!(f, "row {count} is of today, and is removed as if by the retention: the beginning was changed")
            }
            Self::HeadChanged { count } => {
                write!(f, "the store's own head has another hash than row {count}, the last one")
            }
            Self::Emptied { number, id, column } => {
                write!(
                    f,
                    "row {number} ({id}): `{column}` is empty, and no sealed row of an erasure says that it emptied it"
                )
            }
            Self::NoTrim { count } => {
                write!(
                    f,
                    "the first {count} rows are not there, and no sealed row says that the retention removed them"
                )
            }
            Self::TrimDiffers { number } => {
                write!(f, "row {number} says that the retention removed rows, and does not fit the removal before it")
            }
            Self::NoHead => {
                write!(
                    f,
                    "the store's own head (table `audit_head`) is not there, or holds none: its row was removed or changed"
                )
            }
            Self::HeadNotReached { count, reached } => {
                write!(f, "the head that was given has {count} rows, the chain {reached}: its end was removed")
            }
            Self::HeadDiffers { count } => {
                write!(f, "the head that was given has another hash at row {count}: rows up to there were rewritten")
            }
        }
    }
}

/// Recomputes a chain, row by row.
#[derive(Debug, Clone)]
pub struct ChainCheck {
    /// The head behind which it began.
    first: ChainHead,
    /// The head so far.
    reached: ChainHead,
    /// A head that was kept elsewhere.
    kept: Option<ChainHead>,
    /// The rows with an empty column for which no erasure was found so far: their ids and columns by their numbers.
    emptied: BTreeMap<u64, (String, &'static str)>,
    /// The ids of rows that an erasure emptied before they were sealed, and that were not found so far.
    to_come: BTreeSet<String>,
    /// The heads before and after the removal of the newest row of the retention so far.
    trim: Option<(ChainHead, ChainHead)>,
}

impl ChainCheck {
    /// Begins behind the rows that the retention removed; `kept` is a head that was kept elsewhere. One of a row that the retention
    /// removed is compared with nothing.
    pub fn new(first: ChainHead, kept: Option<ChainHead>) -> Result<Self, Broken> {
        let (emptied, to_come) = (BTreeMap::new(), BTreeSet::new());
        let check = Self { first, reached: first, kept, emptied, to_come, trim: None };
        check.compare().map(|()| check)
    }

    /// The head so far.
    pub fn reached(&self) -> ChainHead {
        self.reached
    }

    /// The head behind which it began.
    pub fn first(&self) -> ChainHead {
        self.first
    }

    /// Checks the next row. `later` are rows that follow it: they tell how the chain is broken.
    pub fn next<'a>(&mut self, row: &ChainedRow<'a>, later: &[ChainedRow<'a>]) -> Result<(), Broken> {
        let expected = self.reached.count + 1;
        if row.number != expected {
            return Err(Broken::Missing { from: expected, to: row.number.saturating_sub(1).max(expected) });
        }
        let sealed = self.reached.seal(&row.fields);
        if hex(&sealed.hash) != row.hash {
            return Err(self.broken_at(row, sealed, later));
        }
        if let Some(column) = row.changed_content() {
            return Err(row.changed(Some(column)));
        }
        if let Some(column) = row.emptied()
            && !self.to_come.remove(row.fields.id)
        {
            self.emptied.insert(row.number, (row.fields.id.to_owned(), column));
        }
        self.reached = sealed;
        self.follow_act(row)?;
        self.compare()
    }

    /// Takes up what a row says about other rows.
    fn follow_act(&mut self, row: &ChainedRow<'_>) -> Result<(), Broken> {
        if row.fields.outcome != AuditOutcome::Done.name() {
            return Ok(());
        }
        match Action::from_name(row.fields.action) {
            Some(action) if action.is_erasure() => self.erasure(row.fields.became.unwrap_or_default()),
            Some(Action::AuditTrim) => self.follow_trim(row)?,
            Some(_) | None => {}
        }
        Ok(())
    }

    /// Takes up the rows that an erasure emptied, as its own row has them.
    pub fn erasure(&mut self, emptied: &str) {
        for part in EmptiedRows::read(emptied) {
            match part {
                EmptiedPart::Numbers { from, to } => {
                    let named: Vec<u64> = self.emptied.range(from..=to).map(|(number, _)| *number).collect();
                    named.iter().for_each(|number| drop(self.emptied.remove(number)));
                }
                EmptiedPart::Id(id) => {
                    let before = self.emptied.len();
                    self.emptied.retain(|_, (of_row, _)| of_row != id);
                    if self.emptied.len() == before {
                        self.to_come.insert(id.to_owned());
                    }
                }
            }
        }
    }

    fn follow_trim(&mut self, row: &ChainedRow<'_>) -> Result<(), Broken> {
        let heads = row.fields.was.zip(row.fields.became).and_then(|(from, to)| from.parse().ok().zip(to.parse().ok()));
        let differs = Broken::TrimDiffers { number: row.number };
        let Some((from, to)): Option<(ChainHead, ChainHead)> = heads else { return Err(differs) };
        let fits = self.trim.is_none_or(|(_, before)| before == from);
        if !fits || from.count > to.count || to.count >= row.number {
            return Err(differs);
        }
        self.trim = Some((from, to));
        Ok(())
    }

    /// Checks the end: `sealed` is the store's own head as it was before the first row was read, and `now` as it is after the last one.
    pub fn end(&self, sealed: ChainHead, now: ChainHead) -> Result<(), Broken> {
        let reached = self.reached.count;
        match self.kept {
            Some(kept) if kept.count > reached => return Err(Broken::HeadNotReached { count: kept.count, reached }),
            Some(_) | None => {}
        }
        if sealed.count > reached {
            return Err(Broken::CutTail { reached, sealed: sealed.count });
        }
        // A row is sealed together with the head, so that no row is behind it.
        if now.count < reached {
            return Err(Broken::HeadBehind { reached, sealed: now.count });
        }
        if [sealed, now].iter().any(|head| head.count == reached && head.hash != self.reached.hash) {
            return Err(Broken::HeadChanged { count: reached });
        }
        match self.emptied.first_key_value() {
            Some((number, (id, column))) => Err(Broken::Emptied { number: *number, id: id.clone(), column }),
            None => Ok(()),
        }
    }

    /// Checks the beginning: nothing is missing before the first row, or a removal of the retention that a row tells of ended there,
    /// or has come so far.
    pub fn beginning(&self) -> Result<(), Broken> {
        let is_told = self.trim.is_some_and(|(from, to)| {
            let is = |head: ChainHead| head.count != self.first.count || head == self.first;
            (from.count..=to.count).contains(&self.first.count) && is(from) && is(to)
        });
        if self.first == ChainHead::EMPTY || is_told { Ok(()) } else { Err(Broken::NoTrim { count: self.first.count }) }
    }

    fn compare(&self) -> Result<(), Broken> {
        match self.kept {
            Some(kept) if kept.count == self.reached.count && kept.hash != self.reached.hash => {
                Err(Broken::HeadDiffers { count: kept.count })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Tells how a row is broken whose hash is not `sealed`'s.
    fn broken_at<'a>(&self, row: &ChainedRow<'a>, sealed: ChainHead, later: &[ChainedRow<'a>]) -> Broken {
        let fits = |other: &&ChainedRow<'_>| hex(&self.reached.seal(&other.fields).hash) == other.hash;
        if let Some(other) = later.iter().find(fits) {
            return Broken::Swapped { number: row.number, with: other.number };
        }
        // If the next row is chained to the hash that this one should have, only its hash was changed.
        let is_followed = later
            .first()
            .is_some_and(|next| next.number == row.number + 1 && hex(&sealed.seal(&next.fields).hash) == next.hash);
        row.changed(if is_followed { Some("hash") } else { row.changed_content() })
    }
}

impl ChainedRow<'_> {
    fn changed(&self, column: Option<&'static str>) -> Broken {
        Broken::Changed { number: self.number, id: self.fields.id.to_owned(), column }
    }

    /// The column that an erasure may have emptied, and that is empty.
    fn emptied(&self) -> Option<&'static str> {
        let Self { fields, target, note, .. } = self;
        // An erasure does not keep of whom it is; one that was refused may name nobody, either.
        let is_erasure = Action::from_name(fields.action).is_some_and(Action::is_erasure);
        match target {
            (None, None) if !is_erasure => Some("target_id"),
            _ => (note.is_none() && fields.note_digest.is_some()).then_some("note"),
        }
    }

    /// The column outside the hash that does not have its digest, or that is empty and that nothing ever empties.
    fn changed_content(&self) -> Option<&'static str> {
        let Self { fields, target, note, .. } = self;
        match target {
            (Some(id), Some(salt)) if target_digest(*salt, id) != fields.target_digest => return Some("target_id"),
            (Some(_), None) => return Some("salt"),
            (None, Some(_)) => return Some("target_id"),
            // An erasure empties targets that are persons, and no other.
            (None, None) if !TargetKind::from_name(fields.target_kind).is_some_and(TargetKind::is_erasable) => {
                return Some("target_id");
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        let digest = note.zip(target.1).map(|(note, salt)| note_digest(salt, note));
        let is_note = note.is_none() || digest.as_deref() == fields.note_digest;
        (!is_note).then_some("note")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> SealedFields<'static> {
        SealedFields {
            id: "1",
            at: Timestamp::from_micros(7),
            actor: "bridge",
            action: "event.skip",
            target_kind: "event",
            target_digest: "ab",
            outcome: "done",
            reason: None,
            event_id: Some("e"),
            was: Some("parked"),
            became: Some("skipped"),
            note_digest: None,
        }
    }

    #[test]
    fn every_field_is_covered_by_the_hash() {
        let first = ChainHead::EMPTY.seal(&row());
        let others = [
            SealedFields { id: "2", ..row() },
            SealedFields { at: Timestamp::from_micros(8), ..row() },
            SealedFields { actor: "cli:a", ..row() },
            SealedFields { action: "event.retry", ..row() },
            SealedFields { target_kind: "customer", ..row() },
            SealedFields { target_digest: "ac", ..row() },
            SealedFields { outcome: "failed", ..row() },
            SealedFields { reason: Some(""), ..row() },
            SealedFields { event_id: None, ..row() },
            SealedFields { was: Some("parke"), became: Some("dskipped"), ..row() },
            SealedFields { became: None, ..row() },
            SealedFields { note_digest: Some("ab"), ..row() },
        ];
        for (place, other) in others.iter().enumerate() {
            assert_ne!(ChainHead::EMPTY.seal(other).hash, first.hash, "{place}");
        }
        let second = first.seal(&row());
        assert_eq!(second.count, 2);
        assert_ne!(second.hash, first.hash, "the number and the hash before it are covered");
    }

    #[test]
    fn emptied_rows_are_read_as_they_are_written() {
        let id = "01920000-0000-7000-8000-000000000001";
        let mut rows = EmptiedRows::default();
        for number in [9, 3, 8, 7, 12] {
            rows.add(Some(number), "x");
        }
        rows.add(None, id);
        assert_eq!(rows.to_string(), format!("3,7-9,12,{id}"));
        assert_eq!(EmptiedRows::default().to_string(), "");
        let mut check = ChainCheck::new(ChainHead::EMPTY, None).expect("no head was kept");
        check.emptied = (1..=12).map(|number| (number, (format!("{number}"), "note"))).collect();
        check.erasure(&format!("{rows},x,-,5-,9-3"));
        assert_eq!(check.emptied.keys().copied().collect::<Vec<_>>(), [1, 2, 4, 5, 6, 10, 11]);
        assert!(check.to_come.contains(id));
    }

    #[test]
    fn a_head_is_read_as_it_is_written() {
        let head = ChainHead::EMPTY.seal(&row());
        assert_eq!(head.to_string().parse(), Ok(head));
        for text in [
            "",
            "1",
            "1:ab",
            "x:".to_owned().as_str(),
            &format!("-1:{}", hex(&head.hash)),
            &format!("1:{}", "g".repeat(64)),
        ] {
            assert!(text.parse::<ChainHead>().is_err(), "{text}");
        }
    }

    #[test]
    fn digests_depend_on_the_salt() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(target_digest(one, "c-1"), target_digest(one, "c-1"));
        assert_ne!(target_digest(one, "c-1"), target_digest(other, "c-1"));
        assert_ne!(note_digest(one, "c-1"), target_digest(one, "c-1"));
    }
}
