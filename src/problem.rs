//! The problems that both HTTP listeners answer: a closed set of kinds, and one problem with its details.
//!
//! A problem never repeats a sent value: it may be a name or an address. It says where the fault is (a JSON pointer, RFC 6901),
//! what kind of value was found, and what is allowed.
//!
//! Before: [`crate::inbound`] finds problems in deliveries, [`crate::admin`] in requests. After: [`crate::listener`] answers
//! them as RFC 9457 problem details; a parked delivery keeps its problem as its detail.

use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::names::names;
use crate::domain::verdict::Reason;

/// One thing that is wrong with an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FieldError {
    /// Where, as an RFC 6901 JSON pointer into the event.
    pub pointer: String,
    /// The kind of value that was found, and what is allowed.
    pub reason: String,
}

impl FieldError {
    /// The fault at this pointer.
    pub fn new(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), reason: reason.into() }
    }
}

names! {
    /// The kinds of problems; the name is the last part of the problem's `type`.
    pub enum ProblemKind {
        /// The body cannot be parsed, or the question makes no sense.
        Malformed = "malformed",
        /// Parsable, but not a valid event.
        InvalidEvent = "invalid-event",
        /// JSON, but the source's mapping cannot translate it.
        Unmappable = "unmappable",
        /// The id of a member of the team is an e-mail address.
        MemberIdIsAddress = "member-id-is-address",
        /// The access of a member would end before the event that says so.
        ExpiresBeforeEvent = "expires-before-event",
        /// The e-mail address of a member is of a domain that the policy does not allow.
        ForeignEmailDomain = "foreign-email-domain",
        /// The access of a member of another domain is not what the policy allows guests.
        GuestAccess = "guest-access",
        /// A known id with another content.
        EventIdReused = "event-id-reused",
        /// No valid signature, credentials or token.
        Unauthorized = "unauthorized",
        /// A request to the admin API from a web page, or under a foreign name, where that is not let in.
        Forbidden = "forbidden",
        /// A request to the admin API whose caller has too few rights.
        RoleRequired = "role-required",
        /// An event of a type that its source may not send.
        TypeNotAllowed = "type-not-allowed",
        /// No such source.
        UnknownSource = "unknown-source",
        /// No such path, or nothing has this id.
        NotFound = "not-found",
        /// The path exists, the method does not.
        MethodNotAllowed = "method-not-allowed",
        /// The body did not arrive in time.
        Timeout = "timeout",
        /// An event that is not parked, and so cannot be retried or skipped.
        NotParked = "not-parked",
        /// An event that the bridge is working on.
        InProgress = "in-progress",
        /// An event that was parked for a reason which no approval overrides.
        NotApprovable = "not-approvable",
        /// Another bulk retry runs.
        RetryRunning = "retry-running",
        /// A heat pump whose owner has nothing to reconnect.
        NoReconnection = "no-reconnection",
        /// More than the bridge takes at once.
        TooLarge = "too-large",
        /// Not a media type that this source takes.
        UnsupportedMediaType = "unsupported-media-type",
        /// Too many wrong passwords.
        TooManyAttempts = "too-many-attempts",
        /// A content coding that is not read.
        UnsupportedContentEncoding = "unsupported-content-encoding",
        /// A link for a customer, and neither the request nor the configuration says where the customer lands.
        LandingRequired = "landing-required",
        /// The store or Podero is away or busy; the same request succeeds later.
        Unavailable = "unavailable",
    }
}

impl ProblemKind {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unauthorized => 401,
            Self::Forbidden | Self::RoleRequired | Self::TypeNotAllowed => 403,
            Self::UnknownSource | Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::NotParked | Self::InProgress | Self::NotApprovable | Self::RetryRunning | Self::NoReconnection => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType | Self::UnsupportedContentEncoding => 415,
            Self::InvalidEvent
            | Self::Unmappable
            | Self::MemberIdIsAddress
            | Self::ExpiresBeforeEvent
            | Self::ForeignEmailDomain
            | Self::GuestAccess
            | Self::EventIdReused
            | Self::LandingRequired => 422,
            Self::TooManyAttempts => 429,
            Self::Unavailable => 503,
        }
    }

    /// The reason of an event that was refused so, for the audit log's row about it, and for its parking if it came from the queue;
    /// `None`: no rule of the operator's refused it, and there is no row.
    pub fn recorded_reason(self) -> Option<Reason> {
        match self {
            Self::TypeNotAllowed => Some(Reason::TypeNotAllowed),
            Self::MemberIdIsAddress => Some(Reason::MemberIdIsAddress),
            Self::ExpiresBeforeEvent => Some(Reason::ExpiresBeforeEvent),
            Self::ForeignEmailDomain => Some(Reason::ForeignEmailDomain),
            Self::GuestAccess => Some(Reason::GuestAccess),
            Self::Malformed
            | Self::InvalidEvent
            | Self::Unmappable
            | Self::EventIdReused
            | Self::Unauthorized
            | Self::Forbidden
            | Self::RoleRequired
            | Self::UnknownSource
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::Timeout
            | Self::NotParked
            | Self::InProgress
            | Self::NotApprovable
            | Self::RetryRunning
            | Self::NoReconnection
            | Self::TooLarge
            | Self::UnsupportedMediaType
            | Self::TooManyAttempts
            | Self::UnsupportedContentEncoding
            | Self::LandingRequired
            | Self::Unavailable => None,
        }
    }

    /// A short human text, the same for every problem of the kind.
    pub fn title(self) -> &'static str {
        match self {
            Self::Malformed => "The body cannot be parsed",
            Self::InvalidEvent => "Not a valid event",
            Self::Unmappable => "Not what the mapping of this source expects",
            Self::MemberIdIsAddress => "The id of a member is an e-mail address",
            Self::ExpiresBeforeEvent => "The access would end before the event",
            Self::ForeignEmailDomain => "The e-mail address is of a domain that is not allowed",
            Self::GuestAccess => "Not an access that someone of another domain may have",
            Self::EventIdReused => "The event id is known with another content",
            Self::Unauthorized => "The signature or the credentials are not valid",
            Self::Forbidden => "It came from a web page or under a foreign name",
            Self::RoleRequired => "The caller's role is not enough",
            Self::TypeNotAllowed => "Not a type that this source may send",
            Self::UnknownSource => "There is no such source",
            Self::NotFound => "There is nothing here",
            Self::MethodNotAllowed => "The method is not allowed here",
            Self::Timeout => "The body did not arrive in time",
            Self::NotParked => "Not in the state for it",
            Self::InProgress => "The bridge tries it at this moment",
            Self::NotApprovable => "It is parked for a reason that no approval overrides",
            Self::RetryRunning => "Another one runs",
            Self::NoReconnection => "There is nothing to reconnect",
            Self::TooLarge => "More than is taken at once",
            Self::UnsupportedMediaType => "Not a media type that is taken here",
            Self::UnsupportedContentEncoding => "Packed in a way that is not read here",
            Self::LandingRequired => "Neither the request nor the configuration says where the customer lands",
            Self::TooManyAttempts => "Too many wrong passwords",
            Self::Unavailable => "Not now; try the same again later",
        }
    }

    /// The stable `type` (RFC 9457).
    pub fn type_uri(self) -> String {
        format!("urn:podero-bridge:problem:{self}")
    }
}

/// A problem with its particulars.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The kind.
    pub kind: ProblemKind,
    /// The details of this problem.
    pub detail: String,
    /// The faults by field; empty unless the kind is [`ProblemKind::InvalidEvent`].
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// A problem without details by field.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new() }
    }

    /// The problem of an event with faults in its fields.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.len() {
            1 => "one thing is wrong".to_owned(),
            count => format!("{count} things are wrong"),
        };
        Self { kind: ProblemKind::InvalidEvent, detail, errors }
    }

    /// The problem of an event with one fault.
    pub fn of_field(pointer: &str, reason: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(pointer, reason)])
    }

    /// The problem of a known id with another content.
    pub fn reused(known: &str) -> Self {
        let detail = format!("event {known} has the same source and id and another content; send a new id");
        Self::new(ProblemKind::EventIdReused, detail)
    }

    /// The problem of a body, or a message, above its limit.
    pub fn too_large(bytes_max: usize) -> Self {
        Self::new(ProblemKind::TooLarge, format!("a body has at most {bytes_max} bytes; send smaller batches"))
    }

    /// The whole problem in one line, for the operator.
    pub fn line(&self) -> String {
        let errors = self.errors.iter().map(|error| format!("{}: {}", error.pointer, error.reason));
        std::iter::once(format!("{}: {}", self.kind, self.detail)).chain(errors).collect::<Vec<_>>().join("; ")
    }
}
