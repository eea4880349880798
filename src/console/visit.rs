//! A request to the console with all that every page needs: who reads, in which language and zone, and at which moment.
//!
//! Before: the guard of [`crate::console`] makes it before any page is asked for. After: the pages.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest};
use maud::{Markup, html};

use super::choices::Theme;
use super::error::PageError;
use super::table::SCOPE;
use super::words::{self, PageLanguage, Text};
use crate::admin::Caller;
use crate::domain::Timestamp;
use crate::domain::zone::Zone;
use crate::store::LiveSession;

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    /// The caller and the session; `None`: no one is logged in.
    pub(super) login: Option<(Caller, LiveSession)>,
    pub(super) language: PageLanguage,
    pub(super) theme: Theme,
    pub(super) zone: Zone,
    /// The configured zone.
    pub(super) zone_at_home: Zone,
    pub(super) now: Timestamp,
    /// Path and query, as the browser asked.
    pub(super) address: String,
}

impl Visit {
    /// A text in the reader's language.
    pub(super) fn say(&self, text: Text) -> &'static str {
        text.of(self.language)
    }

    /// A text in the reader's language, with its places filled.
    pub(super) fn say_with(&self, text: Text, values: &[&str]) -> String {
        text.filled(self.language, values)
    }

    /// A number, its thousands apart as in the reader's language.
    pub(super) fn number(&self, number: u64) -> String {
        let separator = match self.language {
            PageLanguage::English => ',',
            PageLanguage::German => '.',
        };
        let digits = number.to_string();
        let mut shown = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                shown.push(separator);
            }
            shown.push(digit);
        }
        shown
    }

    /// A moment, absolute in the reader's zone, and relative.
    pub(super) fn time(&self, moment: Timestamp) -> Markup {
        let shown = self.zone.show(moment);
        // Where there is little room the line breaks between date and time, and nowhere else.
        let (date, time) = shown.split_once(' ').unwrap_or((&shown, ""));
        html! {
            time datetime=(moment.to_string()) { span { (date) } " " span { (time) } small { (self.relative(moment)) } }
        }
    }

    /// The time from a moment until now, or from now until it, in the largest unit that is not zero.
    pub(super) fn relative(&self, moment: Timestamp) -> String {
        let (is_past, seconds) = match moment <= self.now {
            true => (true, self.now.since(moment).as_secs()),
            false => (false, moment.since(self.now).as_secs()),
        };
        let (count, past, future) = match seconds {
            0..5 => return self.say(words::JUST_NOW).to_owned(),
            5..120 => (seconds, words::SECONDS_AGO, words::IN_SECONDS),
            120..7_200 => (seconds / 60, words::MINUTES_AGO, words::IN_MINUTES),
            7_200..172_800 => (seconds / 3_600, words::HOURS_AGO, words::IN_HOURS),
            _ => (seconds / 86_400, words::DAYS_AGO, words::IN_DAYS),
        };
        self.say_with(if is_past { past } else { future }, &[&count.to_string()])
    }
}

impl FromRequest for Visit {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // Every route is behind the guard, which notes the visit.
        ready(request.extensions().get::<Self>().cloned().ok_or_else(|| PageError::unknown().into()))
    }
}

/// A path of this console to return to, which never leads to another site; anything else leads to the overview.
pub(super) fn return_path(wanted: Option<&str>) -> &str {
    let is_ours = |path: &str| {
        let rest = path.strip_prefix(SCOPE)?;
        let is_path = rest.is_empty() || rest.starts_with(['/', '?']);
        let is_plain = rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        (is_path && is_plain && !rest.contains("//") && !rest.contains("..")).then_some(())
    };
    wanted.filter(|path| is_ours(path).is_some()).unwrap_or(SCOPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_returns_to_a_page_of_this_console_alone() {
        for path in ["/console", "/console/parked?reason=refused", "/console?x=1", "/console/customers/a%20b"] {
            assert_eq!(return_path(Some(path)), path);
        }
        for path in [
            "https://evil.example/console",
            "//evil.example/console",
            "/console//evil.example",
            "/\\evil.example",
            "/console\\@evil.example",
            "/console@evil.example",
            "/consoles",
            "/console/../v1/audit",
            "/console/\r\nset-cookie: a=b",
            "javascript:alert(1)",
            "",
        ] {
            assert_eq!(return_path(Some(path)), SCOPE, "{path}");
        }
        assert_eq!(return_path(None), SCOPE);
    }
}
