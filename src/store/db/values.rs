//! The types that are stored in columns: their written form, and the way back.
//!
//! A count that does not fit its type becomes the nearest one that does. A name outside its closed set is not readable.
//!
//! Before: the files of [`crate::store`]. After: [`mod@super::query`].

use std::borrow::Cow;

use uuid::Uuid;

use super::query::{Argument, Cell, FromCell, ToArgument};
use crate::domain::event::EventState;
use crate::domain::identity::Role;
use crate::domain::verdict::Reason;
use crate::domain::{CustomerId, EventId, Timestamp};
use crate::store::closed_sets::{NoticeState, RetryState, RowKind, Target};

macro_rules! integers {
    ($($type:ty: $written:expr, $read:expr;)+) => { $(
        impl<'a> ToArgument<'a> for $type {
            const NULL: Argument<'static> = Argument::Integer(None);

            fn argument(self) -> Argument<'a> {
                let written: fn(Self) -> i64 = $written;
                Argument::Integer(Some(written(self)))
            }
        }

        impl FromCell for $type {
            fn from_cell(cell: Cell) -> Option<Self> {
                let read: fn(i64) -> Self = $read;
                match cell {
                    Cell::Integer(value) => Some(read(value)),
                    Cell::Null | Cell::Text(_) => None,
                }
            }
        }
    )+ };
}

integers! {
    i64: |value| value, |value| value;
    bool: i64::from, |value| value == 1;
    u32: i64::from, |value| u32::try_from(value).unwrap_or(if value < 0 { 0 } else { u32::MAX });
    u64: |value| i64::try_from(value).unwrap_or(i64::MAX), |value| u64::try_from(value).unwrap_or(0);
    usize: |value| i64::try_from(value).unwrap_or(i64::MAX), |value| usize::try_from(value).unwrap_or(0);
    Timestamp: Timestamp::micros, Timestamp::from_micros;
}

macro_rules! written_texts {
    ($($type:ty: $written:expr;)+) => { $(
        impl<'a> ToArgument<'a> for $type {
            const NULL: Argument<'static> = Argument::Text(None);

            fn argument(self) -> Argument<'a> {
                let written: fn(Self) -> Cow<'a, str> = $written;
                Argument::Text(Some(written(self)))
            }
        }
    )+ };
}

written_texts! {
    &'a str: Cow::Borrowed;
    &'a String: |text| Cow::Borrowed(text);
    String: Cow::Owned;
    &'a CustomerId: |id| Cow::Borrowed(id.as_str());
    Uuid: |id| Cow::Owned(id.to_string());
    EventId: |id| Cow::Owned(id.to_string());
    EventState: |state| Cow::Borrowed(state.name());
    RowKind: |kind| Cow::Borrowed(kind.name());
    NoticeState: |state| Cow::Borrowed(state.name());
    RetryState: |state| Cow::Borrowed(state.name());
    Target: |target| Cow::Borrowed(target.name());
    Reason: |reason| Cow::Borrowed(reason.name());
    Role: |role| Cow::Borrowed(role.name());
}

macro_rules! read_texts {
    ($($type:ty: $read:expr;)+) => { $(
        impl FromCell for $type {
            fn from_cell(cell: Cell) -> Option<Self> {
                let read: fn(String) -> Option<Self> = $read;
                match cell {
                    Cell::Text(text) => read(text),
                    Cell::Null | Cell::Integer(_) => None,
                }
            }
        }
    )+ };
}

read_texts! {
    String: Some;
    Uuid: |text| text.parse().ok();
    EventId: |text| text.parse().ok().map(EventId);
    EventState: |text| EventState::from_name(&text);
    RowKind: |text| Some(RowKind::from_name(&text));
    NoticeState: |text| NoticeState::from_name(&text);
    RetryState: |text| RetryState::from_name(&text);
    Role: |text| Role::from_name(&text);
}
