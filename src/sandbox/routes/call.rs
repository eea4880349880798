//! One request, read piece by piece as the model wants it.
//!
//! It must never change anything.
//!
//! Before: the other files of [`crate::sandbox::routes`]. After: [`crate::sandbox::model`].

use std::collections::HashMap;

use actix_web::HttpRequest;
use actix_web::web::Query;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::Timestamp;
use crate::sandbox::error::{SandboxError, SandboxResult};
use crate::sandbox::model::View;
use crate::sandbox::variants::Variants;

pub(super) struct ApiCall<'a> {
    request: &'a HttpRequest,
    body: &'a [u8],
    base_url: String,
    /// When it arrived.
    pub(super) now: Timestamp,
}

/// The partner's key in a path may hold any character, percent-encoded.
#[derive(Deserialize)]
struct ExternalId {
    external_id: String,
}

impl<'a> ApiCall<'a> {
    pub(super) fn new(request: &'a HttpRequest, body: &'a [u8], now: Timestamp) -> Self {
        let connection = request.connection_info();
        let base_url = format!("{}://{}", connection.scheme(), connection.host());
        Self { request, body, base_url, now }
    }

    pub(super) fn path(&self) -> &str {
        self.request.path()
    }

    /// Scheme and host that the caller used.
    pub(super) fn base_url(&self) -> &str {
        &self.base_url
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.request.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// Credentials of a scheme: scheme names compare without case (RFC 9110 §11.1).
    pub(super) fn credentials(&self, scheme: &str) -> Option<&str> {
        let (given, credentials) = self.header("authorization")?.split_once(' ')?;
        given.eq_ignore_ascii_case(scheme).then(|| credentials.trim())
    }

    pub(super) fn path_id(&self, name: &str) -> SandboxResult<Uuid> {
        let id = self.request.match_info().get(name).and_then(|text| Uuid::try_parse(text).ok());
        id.ok_or_else(|| SandboxError::invalid("uuid_parsing", &["path", name], "Input should be a valid UUID"))
    }

    pub(super) fn path_text(&self, name: &str) -> &str {
        self.request.match_info().get(name).unwrap_or_default()
    }

    pub(super) fn external_id(&self) -> SandboxResult<String> {
        let read = self.request.match_info().load::<ExternalId>();
        read.map(|path| path.external_id).map_err(|_| SandboxError::NotFound)
    }

    /// The query as it came.
    pub(super) fn query_text(&self) -> &str {
        self.request.query_string()
    }

    pub(super) fn query(&self, name: &str) -> Option<String> {
        let mut query = Query::<HashMap<String, String>>::from_query(self.request.query_string()).ok()?;
        query.remove(name)
    }

    /// A boolean of the query; false when absent.
    pub(super) fn query_flag(&self, name: &str) -> SandboxResult<bool> {
        self.query(name).map_or(Ok(false), |text| flag(&text, &["query", name]))
    }

    /// A boolean of a header; false when absent.
    pub(super) fn header_flag(&self, name: &str) -> SandboxResult<bool> {
        self.header(name).map_or(Ok(false), |text| flag(text, &["header", name]))
    }

    /// A moment of the query.
    pub(super) fn query_moment(&self, name: &str) -> SandboxResult<Option<Timestamp>> {
        let wrong = || SandboxError::invalid("datetime_parsing", &["query", name], "Input should be a valid datetime");
        self.query(name).map(|text| Timestamp::parse(&text).ok_or_else(wrong)).transpose()
    }

    /// Words of the query, parted by commas, each of a list; none if it is left out.
    pub(super) fn query_words(&self, name: &str, allowed: &[&str]) -> SandboxResult<Vec<String>> {
        let text = self.query(name).unwrap_or_default();
        let words: Vec<String> =
            text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect();
        if words.iter().all(|word| allowed.contains(&word.as_str())) {
            return Ok(words);
        }
        Err(SandboxError::invalid("enum", &["query", name], &format!("Input should be one of: {}", allowed.join(", "))))
    }

    /// A whole number of the query within bounds.
    pub(super) fn query_number(&self, name: &str, default: usize, max: usize) -> SandboxResult<usize> {
        match self.query(name).map(|text| text.parse()) {
            None => Ok(default),
            Some(Ok(number)) if number <= max => Ok(number),
            Some(Ok(_) | Err(_)) => Err(SandboxError::invalid(
                "int_parsing",
                &["query", name],
                "Input should be a valid integer within bounds",
            )),
        }
    }

    pub(super) fn body(&self) -> &'a [u8] {
        self.body
    }

    pub(super) fn json(&self) -> SandboxResult<Value> {
        serde_json::from_slice(self.body).map_err(|_| SandboxError::Unreadable)
    }

    /// The body where none is needed: nothing at all counts as an empty object.
    pub(super) fn json_or_empty(&self) -> SandboxResult<Value> {
        if self.body.is_empty() { Ok(Value::Object(Map::new())) } else { self.json() }
    }

    pub(super) fn view(&self, variants: Variants) -> View<'_> {
        View { variants, now: self.now, base_url: &self.base_url }
    }
}

/// A boolean in the spellings that pydantic knows.
fn flag(text: &str, loc: &[&str]) -> SandboxResult<bool> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "on" | "t" => Ok(true),
        "false" | "0" | "no" | "n" | "off" | "f" => Ok(false),
        _ => Err(SandboxError::invalid("bool_parsing", loc, "Input should be a valid boolean")),
    }
}
