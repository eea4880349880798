//! What is wrong with a delivery, told so that its sender can mend it: a closed set of problems.
//!
//! Never repeats what was sent: a value may be a name or an address. Where it is (a JSON pointer, RFC 6901),
//! what kind of thing was found, and what is allowed must do.
//!
//! Before: [`crate::inbound::cloudevents`], [`crate::inbound::wire`], [`crate::inbound::signature`].
//! After: [`crate::inbound::http`] answers it as RFC 9457 problem details; a parked delivery keeps it as its detail.

use serde::Serialize;

/// One thing that is wrong with an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where, as an RFC 6901 JSON pointer into the event.
    pub pointer: String,
    /// What was found and what is allowed.
    pub reason: String,
}

/// The kinds of problems; each has a stable `type` and one status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// Not parsable.
    Malformed,
    /// Parsable, but not a valid event.
    InvalidEvent,
    /// JSON, but the source's mapping cannot translate it.
    Unmappable,
    /// A known id with another content.
    EventIdReused,
    /// No valid signature or credentials.
    Unauthorized,
    /// An event of a type that its source may not send.
    TypeNotAllowed,
    /// No such source.
    UnknownSource,
    /// No such path.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The body did not arrive in time.
    Timeout,
    /// More than the bridge takes at once.
    TooLarge,
    /// Not a media type that this source takes.
    UnsupportedMediaType,
    /// Packed in a way that is not read.
    UnsupportedContentEncoding,
    /// The store is away or busy; the same request will do later.
    Unavailable,
}

impl ProblemKind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::Malformed,
        Self::InvalidEvent,
        Self::Unmappable,
        Self::EventIdReused,
        Self::Unauthorized,
        Self::TypeNotAllowed,
        Self::UnknownSource,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Timeout,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::UnsupportedContentEncoding,
        Self::Unavailable,
    ];

    /// The last part of the problem's `type`.
    pub fn slug(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::InvalidEvent => "invalid-event",
            Self::Unmappable => "unmappable",
            Self::EventIdReused => "event-id-reused",
            Self::Unauthorized => "unauthorized",
            Self::TypeNotAllowed => "type-not-allowed",
            Self::UnknownSource => "unknown-source",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::Timeout => "timeout",
            Self::TooLarge => "too-large",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::UnsupportedContentEncoding => "unsupported-content-encoding",
            Self::Unavailable => "unavailable",
        }
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unauthorized => 401,
            Self::TypeNotAllowed => 403,
            Self::UnknownSource | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType | Self::UnsupportedContentEncoding => 415,
            Self::InvalidEvent | Self::Unmappable | Self::EventIdReused => 422,
            Self::Unavailable => 503,
        }
    }

    /// A short human text, the same for every problem of the kind.
    pub fn title(self) -> &'static str {
        match self {
            Self::Malformed => "The body cannot be parsed",
            Self::InvalidEvent => "Not a valid event",
            Self::Unmappable => "Not what the mapping of this source expects",
            Self::EventIdReused => "The event id is known with another content",
            Self::Unauthorized => "The signature or the credentials are not valid",
            Self::TypeNotAllowed => "Not a type that this source may send",
            Self::UnknownSource => "There is no such source",
            Self::NotFound => "There is nothing here",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::Timeout => "The body did not arrive in time",
            Self::TooLarge => "More than is taken at once",
            Self::UnsupportedMediaType => "Not a media type that is taken here",
            Self::UnsupportedContentEncoding => "Packed in a way that is not read here",
            Self::Unavailable => "Not now; try the same again later",
        }
    }
}

/// A problem with its particulars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which kind.
    pub kind: ProblemKind,
    /// What to know about this one.
    pub detail: String,
    /// What is wrong where; empty unless the kind is [`ProblemKind::InvalidEvent`].
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// A problem without particulars by field.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new() }
    }

    /// An event with something wrong in it.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.len() {
            1 => "one thing is wrong".to_owned(),
            count => format!("{count} things are wrong"),
        };
        Self { kind: ProblemKind::InvalidEvent, detail, errors }
    }

    /// A known id with another content.
    pub fn reused(known: &str) -> Self {
        let detail = format!("event {known} has the same source and id and another content; send a new id");
        Self::new(ProblemKind::EventIdReused, detail)
    }

    /// A body, or a message, above its bound.
    pub fn too_large(bytes_max: usize) -> Self {
        Self::new(ProblemKind::TooLarge, format!("a body has at most {bytes_max} bytes; send smaller batches"))
    }

    /// The stable `type` (RFC 9457).
    pub fn type_uri(&self) -> String {
        format!("urn:podero-bridge:problem:{}", self.kind.slug())
    }

    /// All of it in one line, for the operator.
    pub fn line(&self) -> String {
        let errors = self.errors.iter().map(|error| format!("{}: {}", error.pointer, error.reason));
        std::iter::once(format!("{}: {}", self.kind.slug(), self.detail)).chain(errors).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_type_of_its_own() {
        let mut slugs: Vec<_> = ProblemKind::ALL.iter().map(|kind| kind.slug()).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), ProblemKind::ALL.len());
    }

    #[test]
    fn every_kind_has_a_status_that_is_counted() {
        for kind in ProblemKind::ALL {
            assert!(crate::metrics::REFUSED_STATUSES.contains(&kind.status()), "{kind:?}");
        }
    }
}
