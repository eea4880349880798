//! The one frame of the owner's pages, as HTML: title, sentences, one button or link, the contact line, the other languages.
//!
//! Text is escaped by the template. Style and logo are parts of the page, so that it loads nothing: a second address would need a cache, a
//! route and a policy of its own, and a picture on another host would show that host who has lost a heat pump.
//!
//! Before: [`crate::domain::reconnect`] has the texts. After: a browser.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::config::Logo;
use crate::domain::reconnect::{OwnerPage, PAGE_LANGUAGES, PageText};

const STYLE: &str = include_str!("page.css");

/// The utility on the pages.
pub(super) struct Appearance {
    operator_name: Option<String>,
    contact: Option<String>,
    /// The logo as the address of itself (RFC 2397).
    logo: Option<String>,
    /// The value of `Content-Security-Policy`.
    pub(super) policy: String,
}

/// A page that is to be shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShownPage {
    pub(super) page: OwnerPage,
    pub(super) language: &'static str,
    /// The language that the reader chose by a link; it goes along with the button.
    pub(super) chosen: Option<&'static str>,
}

impl Appearance {
    pub(super) fn new(operator_name: Option<String>, contact: Option<String>, logo: Option<&Logo>) -> Self {
        let logo = logo.map(|logo| format!("data:{};base64,{}", logo.media_type, STANDARD.encode(&logo.bytes)));
        // No `form-action`: browsers hold it against the page of the partner, to which the answer of the form redirects.
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{}'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
            STANDARD.encode(Sha256::digest(STYLE))
        );
        Self { operator_name, contact, logo, policy }
    }

    /// The page as HTML.
    pub(super) fn page(&self, shown: ShownPage) -> String {
        let ShownPage { page, language, .. } = shown;
        let title = page.title().say(language);
        let window_title = self.operator_name.iter().fold(title.to_owned(), |title, name| format!("{title} · {name}"));
        let whole = html! {
            (DOCTYPE)
            html lang=(language) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="robots" content="noindex, nofollow";
                    meta name="referrer" content="no-referrer";
                    meta name="color-scheme" content="light dark";
                    title { (window_title) }
                    link rel="icon" href="data:,";
                    // The file is ours, and the policy of the page knows its digest.
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    @if self.operator_name.is_some() || self.logo.is_some() { header { (self.head()) } }
                    main {
                        h1 { (title) }
                        div role=[role_of(page)] {
                            @for paragraph in page.paragraphs() { p { (paragraph.say(language)) } }
                        }
                        (act(shown))
                    }
                    footer {
                        (self.contact_line(language))
                        (languages(language))
                    }
                }
            }
        };
        whole.into_string()
    }

    fn head(&self) -> Markup {
        html! {
            @match (&self.logo, &self.operator_name) {
                // The name next to it says what the picture shows.
                (Some(logo), Some(name)) => { img src=(logo) alt=""; span { (name) } }
                (Some(logo), None) => { img src=(logo) alt=""; }
                (None, name) => { span { (name.as_deref().unwrap_or_default()) } }
            }
        }
    }

    fn contact_line(&self, language: &str) -> Markup {
        html! {
            @match &self.contact {
                Some(contact) => { p { (PageText::Contact.say(language)) " " span.contact { (contact) } } }
                None => { p { (PageText::NoContact.say(language)) } }
            }
        }
    }
}

/// A page that shows how it went tells readers of the screen.
fn role_of(page: OwnerPage) -> Option<&'static str> {
    match page {
        OwnerPage::Waiting | OwnerPage::Arrived | OwnerPage::Late => Some("status"),
        OwnerPage::Away | OwnerPage::Limited => Some("alert"),
        OwnerPage::Offer
        | OwnerPage::Connected
        | OwnerPage::Expired
        | OwnerPage::Invalid
        | OwnerPage::NotNeeded
        | OwnerPage::Stopped => None,
    }
}

/// The button, or the link that looks again. Addresses are relative: they lead to the page itself, also behind a proxy.
fn act(shown: ShownPage) -> Markup {
    let ShownPage { page, language, chosen } = shown;
    html! {
        @match page {
            OwnerPage::Offer => {
                form method="post" action=[chosen.map(of_language)] {
                    button type="submit" { (PageText::Button.say(language)) }
                }
            }
            OwnerPage::Waiting | OwnerPage::Late => {
                a.button href=(of_language(language)) { (PageText::LookAgain.say(language)) }
            }
            OwnerPage::Connected
            | OwnerPage::Expired
            | OwnerPage::Invalid
            | OwnerPage::Away
            | OwnerPage::Limited
            | OwnerPage::NotNeeded
            | OwnerPage::Arrived
            | OwnerPage::Stopped => {}
        }
    }
}

fn languages(language: &str) -> Markup {
    html! {
        nav aria-label=(PageText::Languages.say(language)) {
            ul {
                @for (code, name) in PAGE_LANGUAGES {
                    li {
                        @if code == language { span lang=(code) aria-current="true" { (name) } }
                        @else { a href=(of_language(code)) lang=(code) hreflang=(code) { (name) } }
                    }
                }
            }
        }
    }
}

/// The same page in this language.
fn of_language(code: &str) -> String {
    format!("?lang={code}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appearance(operator_name: Option<&str>, contact: Option<&str>, logo: Option<&Logo>) -> Appearance {
        Appearance::new(operator_name.map(str::to_owned), contact.map(str::to_owned), logo)
    }

    #[test]
    fn the_policy_lets_the_style_in_and_nothing_else() {
        let policy = appearance(None, None, None).policy;
        let digest = STANDARD.encode(Sha256::digest(STYLE));
        assert!(policy.contains(&format!("style-src 'sha256-{digest}'")) && policy.starts_with("default-src 'none'"));
        for word in ["unsafe", "form-action", "script-src", "https:", "*"] {
            assert!(!policy.contains(word), "{word} in {policy}");
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains('<'), "it loads nothing");
    }

    #[test]
    fn every_page_is_whole_in_every_language_and_has_no_script() {
        let logo = Logo { media_type: "image/svg+xml", bytes: b"<svg onload='alert(1)'/>".to_vec() };
        let of = appearance(Some("Stadtwerke <b>\"Süd\"</b>"), Some("0800 & mehr <script>"), Some(&logo));
        for page in OwnerPage::ALL {
            for (language, _) in PAGE_LANGUAGES {
                let html = of.page(ShownPage { page, language, chosen: None });
                assert!(html.contains(&format!("<html lang=\"{language}\">")), "{html}");
                assert!(html.contains("&lt;b&gt;") && html.contains("0800 &amp; mehr &lt;script&gt;"), "{html}");
                for word in ["<script", "onload", "<b>", "http://", "https://", " style=\""] {
                    assert!(!html.contains(word), "{word} in {html}");
                }
                assert_eq!(html.matches("<form").count(), usize::from(page == OwnerPage::Offer));
                assert!(html.contains("data:image/svg+xml;base64,"), "{html}");
            }
        }
    }

    #[test]
    fn the_chosen_language_goes_along_with_the_button() {
        let of = appearance(None, None, None);
        let html = |chosen| of.page(ShownPage { page: OwnerPage::Offer, language: "sv", chosen });
        assert!(html(Some("sv")).contains("<form method=\"post\" action=\"?lang=sv\">"));
        assert!(html(None).contains("<form method=\"post\">") && html(None).contains("href=\"?lang=de\""));
        assert!(!html(None).contains("<header>") && html(None).contains("Kontakta din energileverantör."));
    }
}
