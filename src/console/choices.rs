//! The reader's choices: language, theme and time zone, in a cookie of their own. They are no secret and name no one.
//!
//! Before: the guard reads them with each request. After: the frame of the pages.

use actix_web::HttpRequest;
use actix_web::http::header;

use super::words::PageLanguage;
use crate::domain::names::names;
use crate::domain::zone::Zone;

/// Name of the cookie.
pub(super) const COOKIE: &str = "podero-bridge-view";

/// Between the parts of the cookie's value; no name of a zone has it.
const SEPARATOR: char = '.';

names! {
    /// The colours of the pages.
    pub enum Theme {
        /// As the browser prefers.
        System = "system",
        Light = "light",
        Dark = "dark",
    }
}

/// The choices of a reader; `None`: not chosen.
#[derive(Debug, Clone, Default)]
pub(super) struct Choices {
    pub(super) language: Option<PageLanguage>,
    pub(super) theme: Option<Theme>,
    pub(super) zone: Option<Zone>,
}

impl Choices {
    /// The choices in the cookie of a request. A value that is none is not chosen.
    pub(super) fn of(request: &HttpRequest) -> Self {
        request.cookie(COOKIE).map(|cookie| Self::read(cookie.value())).unwrap_or_default()
    }

    fn read(value: &str) -> Self {
        let mut parts = value.split(SEPARATOR);
        let mut next = || parts.next().unwrap_or_default();
        Self { language: PageLanguage::from_name(next()), theme: Theme::from_name(next()), zone: Zone::named(next()) }
    }

    /// The value of the cookie.
    pub(super) fn written(&self) -> String {
        let language = self.language.map_or("", PageLanguage::name);
        let theme = self.theme.map_or("", Theme::name);
        let zone = self.zone.as_ref().map_or("", Zone::name);
        [language, theme, zone].join(&SEPARATOR.to_string())
    }
}

/// The language of a reader who has chosen none: the first that the browser names and the console has.
pub(super) fn accepted_language(request: &HttpRequest) -> PageLanguage {
    let accepted = request.headers().get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let named = accepted.unwrap_or_default().split(',').filter_map(|range| {
        let tag = range.split(';').next().unwrap_or_default().trim();
        let primary = tag.split('-').next().unwrap_or_default();
        PageLanguage::from_name(&primary.to_ascii_lowercase())
    });
    // Browsers write the preferred one first.
    named.into_iter().next().unwrap_or(PageLanguage::English)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn choices_are_read_as_they_were_written_and_nothing_else_is() {
        let chosen = Choices {
            language: Some(PageLanguage::German),
            theme: Some(Theme::Dark),
            zone: Zone::named("America/Argentina/Buenos_Aires"),
        };
        for choices in [chosen, Choices::default()] {
            assert_eq!(Choices::read(&choices.written()).written(), choices.written());
        }
        for value in ["", "fr.blue.Mars", "..", "<script>", "de"] {
            let read = Choices::read(value);
            assert!(read.theme.is_none() && read.zone.is_none(), "{value}");
        }
    }

    #[test]
    fn the_language_is_the_first_that_the_browser_names() {
        for (accepted, expected) in [
            ("de-AT,de;q=0.9,en;q=0.8", PageLanguage::German),
            ("fr,en-GB;q=0.7,de;q=0.3", PageLanguage::English),
            ("DE", PageLanguage::German),
            ("fr", PageLanguage::English),
            ("", PageLanguage::English),
            (",;q=1", PageLanguage::English),
        ] {
            let request = TestRequest::default().insert_header((header::ACCEPT_LANGUAGE, accepted)).to_http_request();
            assert_eq!(accepted_language(&request), expected, "{accepted}");
        }
    }
}
