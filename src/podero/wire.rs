//! An answer of Podero's becomes a [`Reply`], by its status and by what the call asks for. Pure functions over values.
//!
//! Every body is built from an allow-list of our own fields; nothing that Podero showed us is ever sent back (it could delete a
//! device). An answer may have any shape that Podero's pages show, and one that makes no sense is `Unknown`, never a fact. A
//! list that is not known to be whole is no list. The record of a refusal holds no personal data ([`super::refusal`]). A list
//! is read entry by entry into small records within bounds. This file never sends, waits or logs.
//!
//! | status | means |
//! |---|---|
//! | allow-listed, with what the call asks for in it | `Done` |
//! | 2xx otherwise | `Unknown` |
//! | 3xx | `Held`: the address is wrong, not the event; `Unknown` where a second try would make a second thing |
//! | 401, 403, 407; 404 and 410 of a path that names the organisation alone | `Held` |
//! | 404, 410 | nobody, for a look-up; else `Refused`: not found; `Unknown` when a gateway's page says so |
//! | 405, 501 | `Refused`: unsupported |
//! | 408, 425, 429; 503 with `Retry-After` | `Busy` |
//! | 409, or 400 and 422 that speak of a duplicate, when a user is written | `Refused`: duplicate |
//! | 4xx otherwise | `Refused`: invalid |
//! | 5xx otherwise, anything else | `Unknown` |
//!
//! Before: [`super::calls`] writes the request. After: [`crate::domain::verdict`] judges the reply.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::error::Category;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::answer::{ANSWER_BYTES_MAX, Received};
use super::drift::{Drift, DriftNotes};
use super::fields::{count, id_of, is_read};
use super::gate::Evidence;
pub(super) use super::pruned::Keep;
use super::pruned::{self, Stopped};
use super::refusal::{detail, speaks_of_duplicate};
use crate::domain::Timestamp;
use crate::domain::call::{Operation, Refusal, RefusalKind, Repeat, Reply};
use crate::domain::event::FieldValue;

/// Entries of a further page, when a list turns out to be cut into pages: the largest `limit` that any page of the API shows.
const PAGE_ENTRIES: usize = 200;

/// Bounds of the list of all users: four times the largest fleet that is planned for. Its records are smaller than the list
/// itself.
pub(super) const OF_USERS: ListBounds = ListBounds { records: 200_000, unusable: 1_000, bytes: 48 * 1024 * 1024 };

/// Bounds of a list about one user: no user has a hundred heat pumps or homes, and 64 such lists are read at once.
const OF_ONE_USER: ListBounds = ListBounds { records: 1_000, unusable: 1_000, bytes: 1024 * 1024 };

/// Characters that stand for themselves in a segment of a path (RFC 3986 §2.3), in addition to letters and digits.
const OF_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const ANOTHER_SHAPE_WHY: &str = "answer makes no sense: another shape";
pub(super) const WITHOUT_ID_WHY: &str = "answer without id";
pub(super) const ANOTHER_WHY: &str = "answer about something else";

/// A call in Podero's terms: its request, and the reading of an answer that says yes.
pub(super) trait PartnerCall: fmt::Debug + Sync {
    /// The content of a yes.
    type Answer: Send;
    /// The pages of a list that were read so far.
    type Pages: Default + Send;
    /// Limit of a yes in bytes.
    const BYTES_MAX: usize = ANSWER_BYTES_MAX;
    /// The subject that a failure is evidence about.
    const EVIDENCE: Evidence = Evidence::OneCustomer;

    /// The kind of call.
    fn operation(&self) -> Operation;

    /// The request. The error is final: no address can name the thing.
    fn request(&self, org: Uuid) -> Result<RequestParts, Refusal>;

    /// Reads a yes, and notes differences from Podero's pages.
    fn read(&self, body: &[u8], pages: &mut Self::Pages, notes: &mut DriftNotes) -> Reading<Self::Answer>;

    /// The statuses with which Podero may say yes.
    fn is_success(&self, status: u16) -> bool {
        status == 200
    }

    /// `true` if the call changes nothing at Podero.
    fn reads(&self) -> bool {
        true
    }

    /// The way in which a repeat is made safe.
    fn repeat(&self) -> Repeat {
        Repeat::Harmless
    }

    /// The reply to "not there", if that is no refusal.
    fn absent(&self, _status: u16) -> Option<Reply<Self::Answer>> {
        None
    }

    /// The values that the call writes about a user; `None`: it writes no user.
    fn values_of_user(&self) -> Option<Vec<FieldValue>> {
        None
    }
}

/// A request, complete but for host and credentials.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RequestParts {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) body: Option<Value>,
}

impl RequestParts {
    pub(super) fn new(method: Method, path: String) -> Self {
        Self { method, path, body: None }
    }

    pub(super) fn with(self, body: Map<String, Value>) -> Self {
        Self { body: Some(Value::Object(body)), ..self }
    }

    /// The request of a list's next page, after this number of entries.
    pub(super) fn page_from(&self, entries: usize) -> Self {
        Self { path: format!("{}?limit={PAGE_ENTRIES}&offset={entries}", self.path), ..self.clone() }
    }
}

/// The content of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading<A> {
    /// The call is over.
    Whole(Reply<A>),
    /// A part of a list, which goes on after this number of entries.
    Part(usize),
}

impl<A> Reading<A> {
    pub(super) fn map<B>(self, answer: impl FnOnce(A) -> B) -> Reading<B> {
        match self {
            Self::Whole(reply) => Reading::Whole(reply.map(answer)),
            Self::Part(entries) => Reading::Part(entries),
        }
    }
}

/// The first pages of a list.
pub(super) struct ListPart<T> {
    records: Vec<T>,
    /// The number of entries read so far, those without an id included.
    entries: usize,
    total: usize,
    /// Bounds that are left for the next pages.
    left: ListBounds,
}

/// Bounds that are left for a list: an answer of some megabytes must not become many more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListBounds {
    /// Records that are kept.
    records: usize,
    /// Entries that cannot be used.
    unusable: usize,
    /// Bytes of the records, the texts in them included.
    bytes: usize,
}

impl ListBounds {
    fn take(&mut self, bytes: usize, is_usable: bool) -> Result<(), &'static str> {
        let spend = |left: &mut usize, amount: usize, why: &'static str| -> Result<(), &'static str> {
            *left = left.checked_sub(amount).ok_or(why)?;
            Ok(())
        };
        if !is_usable {
            spend(&mut self.unusable, 1, "list of too many entries that cannot be used")?;
        }
        if bytes > 0 {
            spend(&mut self.records, 1, "list of too many entries")?;
            spend(&mut self.bytes, bytes, "list of too large entries")?;
        }
        Ok(())
    }
}

/// A thing that lists hold.
pub(super) trait ListItem: Sized {
    /// Bounds of a whole list.
    const BOUNDS: ListBounds = OF_ONE_USER;
    /// `true` if a list without one usable entry is no list: an empty one would end what is known of all.
    const ONE_MUST_DO: bool = false;
    /// The fields that are read.
    const KEEP: Keep = is_read;

    /// Reads one entry.
    fn entry(item: &Value, notes: &mut DriftNotes) -> Entry<Self>;

    /// Podero's id; nil for an entry that could not be read.
    fn id(&self) -> Uuid;

    /// Estimate of the bytes that it takes in memory.
    fn bytes(&self) -> usize;
}

/// Writes any text as one segment of a path. The two segments that mean "here" and "above" cannot be written so that every
/// server keeps them, and would address something else.
pub(super) fn segment(text: &str) -> Result<String, Refusal> {
    if text == "." || text == ".." {
        return Err(Refusal {
            kind: RefusalKind::Invalid,
            status: 400,
            detail: "this customer id cannot be part of an address; nothing was sent".to_owned(),
        });
    }
    Ok(utf8_percent_encode(text, OF_SEGMENT).to_string())
}

/// Reads an answer to a call.
pub(super) fn read<R: PartnerCall>(
    request: &R,
    received: &Received,
    pages: &mut R::Pages,
    now: Timestamp,
    notes: &mut DriftNotes,
) -> Reading<R::Answer> {
    if let Some(coding) = received.coding.filter(|_| is_told_by_body(request, received.status)) {
        return unknown(coding.why());
    }
    if !request.is_success(received.status) {
        return Reading::Whole(failure(request, received, now));
    }
    request.read(received.body(), pages, notes)
}

/// `true` if the body is needed for the meaning of an answer: a yes; a "not there", which may be a gateway's page; a refused
/// write of a user, which may be a duplicate.
fn is_told_by_body<R: PartnerCall>(request: &R, status: u16) -> bool {
    let writes_user = request.values_of_user().is_some();
    request.is_success(status) || matches!(status, 404 | 410) || (writes_user && matches!(status, 400 | 422))
}

/// Reads a yes to a call that is about one thing.
pub(super) fn one<A>(
    body: &[u8],
    notes: &mut DriftNotes,
    told: impl FnOnce(&Map<String, Value>, &mut DriftNotes) -> Result<A, Reply<A>>,
) -> Reply<A> {
    match pruned::one(body, is_read) {
        Ok(Value::Object(item)) => told(&item, notes).map_or_else(|unclear| unclear, Reply::Done),
        Ok(_) => {
            notes.note(Drift::UnexpectedShape);
            Reply::Unknown { why: ANOTHER_SHAPE_WHY }
        }
        Err(error) => {
            notes.unreadable(body);
            garbage(body, &error)
        }
    }
}

/// Reads a yes that may be empty or about nothing, but not about something else. `done` is its meaning.
pub(super) fn yes<A>(body: &[u8], id: Uuid, done: Option<A>, notes: &mut DriftNotes) -> Reply<A> {
    let done = done.map_or(Reply::Unknown { why: ANOTHER_SHAPE_WHY }, Reply::Done);
    match pruned::one(body, is_read) {
        Ok(Value::Object(item)) if id_of(item.get("id")).is_some_and(|other| other != id) => {
            Reply::Unknown { why: ANOTHER_WHY }
        }
        Ok(_) => done,
        Err(_) if body.is_empty() => done,
        Err(error) => {
            notes.unreadable(body);
            garbage(body, &error)
        }
    }
}

/// The reason why an answer cannot be read; it repeats nothing of it.
fn garbage<A>(body: &[u8], error: &serde_json::Error) -> Reply<A> {
    let why = match error.classify() {
        _ if body.trim_ascii().is_empty() => "answer makes no sense: empty",
        _ if is_page(body) => "answer makes no sense: a page",
        _ if std::str::from_utf8(body).is_err() => "answer makes no sense: not UTF-8",
        Category::Eof => "answer makes no sense: cut off",
        Category::Syntax | Category::Io => "answer makes no sense: not JSON",
        Category::Data => ANOTHER_SHAPE_WHY,
    };
    Reply::Unknown { why }
}

/// An entry of a list, as far as it is kept.
pub(super) struct Entry<T> {
    pub(super) record: Option<T>,
    /// `true` if it can be used. An entry that cannot is passed over: one odd device must not blind the watch.
    pub(super) is_usable: bool,
}

impl<T> Entry<T> {
    pub(super) fn of(record: Option<T>) -> Self {
        Self { is_usable: record.is_some(), record }
    }
}

/// Reads a bare array, or a page of `{total, items}`, entry by entry. A list is whole when the array is bare or the pages hold
/// `total`.
pub(super) fn list<T: ListItem>(
    body: &[u8],
    pages: &mut Option<ListPart<T>>,
    notes: &mut DriftNotes,
) -> Reading<Vec<T>> {
    let mut left = pages.as_ref().map_or(T::BOUNDS, |part| part.left);
    let (mut records, unusable) = (Vec::new(), left.unusable);
    let read = pruned::list(body, T::KEEP, &mut |item| {
        let Entry { record, is_usable } = T::entry(item, notes);
        left.take(record.as_ref().map_or(0, T::bytes), is_usable)?;
        records.extend(record);
        Ok(())
    });
    let listed = match read {
        Ok(listed) => listed,
        Err(Stopped::Enough(why)) => return unknown(why),
        Err(Stopped::Json(error)) => {
            notes.unreadable(body);
            return Reading::Whole(garbage(body, &error));
        }
    };
    if T::ONE_MUST_DO && listed.entries > 0 && unusable - left.unusable == listed.entries {
        return unknown("list of which no entry can be used");
    }
    let total = match listed.total.as_ref().map(count) {
        Some(None) => return unknown("list without total"),
        total => total.flatten(),
    };
    gather(pages, ListPart { records, entries: listed.entries, total: 0, left }, total)
}

/// Joins a page to what is known of the list already. Anything that could hide an entry makes the list unknown: a list that is
/// read short would make the watch think that heat pumps are gone.
fn gather<T: ListItem>(pages: &mut Option<ListPart<T>>, page: ListPart<T>, total: Option<usize>) -> Reading<Vec<T>> {
    let part = match (pages.take(), total) {
        (None, None) => return Reading::Whole(Reply::Done(page.records)),
        (None, Some(total)) => ListPart { total, ..page },
        (Some(_), None) => return unknown("list changed its shape"),
        (Some(part), Some(total)) if part.total != total => return unknown("list changed while it was read"),
        (Some(mut part), Some(total)) => {
            let known: HashSet<Uuid> = part.records.iter().map(T::id).filter(|id| !id.is_nil()).collect();
            if page.entries == 0 || page.records.iter().any(|record| known.contains(&record.id())) {
                // The list is short, or the server does not know `offset` and shows the same page again.
                return unknown("list does not go on");
            }
            part.records.extend(page.records);
            ListPart { records: part.records, entries: part.entries + page.entries, total, left: page.left }
        }
    };
    match part.entries {
        entries if entries >= part.total => Reading::Whole(Reply::Done(part.records)),
        0 => unknown("list does not go on"),
        entries => {
            *pages = Some(part);
            Reading::Part(entries)
        }
    }
}

fn unknown<A>(why: &'static str) -> Reading<A> {
    Reading::Whole(Reply::Unknown { why })
}

/// The reply for any status but a yes.
fn failure<R: PartnerCall>(request: &R, received: &Received, now: Timestamp) -> Reply<R::Answer> {
    let status = received.status;
    let after = received.retry_after.as_deref().and_then(|text| retry_after(text, now));
    let refused = |kind| Reply::Refused(Refusal { kind, status, detail: detail(received) });
    let user = request.values_of_user();
    match status {
        // A form that has done it also answers so, to show where it is; so look before doing it again.
        300..=399 if request.repeat() != Repeat::Harmless => Reply::Unknown { why: "redirect" },
        300..=399 | 401 | 403 | 407 => Reply::Held { status },
        // A page says nothing about what is "not there": it is a gateway's answer and no fact, and no churn must count as done
        // for it.
        404 | 410 if is_page(received.body()) => Reply::Unknown { why: "a page instead of an answer" },
        404 | 410 => request.absent(status).unwrap_or_else(|| refused(RefusalKind::NotFound)),
        405 | 501 => refused(RefusalKind::Unsupported),
        408 | 425 | 429 => Reply::Busy { after },
        503 if after.is_some() => Reply::Busy { after },
        409 if user.is_some() => refused(RefusalKind::Duplicate),
        400 | 422
            if user
                .as_ref()
                .is_some_and(|sent| speaks_of_duplicate(&sent.iter().collect::<Vec<_>>(), received.body())) =>
        {
            refused(RefusalKind::Duplicate)
        }
        400..=499 => refused(RefusalKind::Invalid),
        500..=599 => Reply::server_error(status),
        _ => Reply::Unknown { why: "unexpected status" },
    }
}

fn is_page(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<')
}

/// Reads `Retry-After` as seconds or as a date (RFC 9110 §10.2.3); a date in the past is now. `None`: not readable.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = if text.starts_with('-') { 0 } else { digits.parse().unwrap_or(u64::MAX) };
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let at = date.duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(Timestamp::from_micros(0).plus(at).since(now))
}

#[cfg(test)]
mod tests;
