//! The one frame of all pages: navigation, title, switches, and the commands that do the same.
//!
//! Text is escaped by the templates; there is no way around it in this room.
//!
//! Before: the pages. After: a browser.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use maud::{DOCTYPE, Markup, html};

use super::assets;
use super::choices::Theme;
use super::table::{ConsoleRoute, SCOPE};
use super::visit::{Visit, return_path};
use super::words::{self, PageLanguage, Text};
use crate::domain::zone::Zone;

/// Interval in seconds at which a page that shows the present is fetched again by its script.
const REFRESH_SECONDS: u32 = 10;

/// A page, before it has its frame.
pub(super) struct Sheet {
    /// Its title.
    pub(super) title: Markup,
    /// Its title as the browser's window has it.
    pub(super) window_title: String,
    /// Beside the title.
    pub(super) acts: Markup,
    /// Its content.
    pub(super) main: Markup,
    /// `true` if its parts (`data-part`) are fetched again all the time.
    pub(super) is_live: bool,
    /// Commands that show or do the same.
    pub(super) commands: Vec<String>,
}

impl Sheet {
    /// A page with this title.
    pub(super) fn new(title: &str, main: Markup) -> Self {
        let (title, window_title) = (html! { (title) }, title.to_owned());
        Self { title, window_title, acts: html! {}, main, is_live: false, commands: Vec::new() }
    }

    /// The same page, whose content is fetched again all the time.
    pub(super) fn live(self) -> Self {
        Self { is_live: true, ..self }
    }

    /// The same page, with the commands that do the same.
    pub(super) fn same_as(self, commands: &[&str]) -> Self {
        Self { commands: commands.iter().map(|command| (*command).to_owned()).collect(), ..self }
    }
}

impl Visit {
    /// A page of a reader who is logged in.
    pub(super) fn page(&self, sheet: Sheet) -> HttpResponse {
        self.page_with(StatusCode::OK, sheet)
    }

    /// A page with another status.
    pub(super) fn page_with(&self, status: StatusCode, sheet: Sheet) -> HttpResponse {
        let live = sheet.is_live.then_some(REFRESH_SECONDS);
        let body = html! {
            a.skip href="#main" { (self.say(words::SKIP)) }
            div.frame {
                header.side {
                    a.brand href=(SCOPE) { (mark()) (self.say(words::BRAND)) }
                    (self.navigation())
                    (self.person())
                }
                div.page {
                    main #main data-live=[live] {
                        div.head {
                            h1 { (sheet.title) }
                            div.acts {
                                (sheet.acts)
                                @if sheet.is_live {
                                    button.plain.with-script type="button" data-pause aria-pressed="false" { (self.say(words::LIVE)) }
                                }
                            }
                        }
                        (sheet.main)
                    }
                    footer.foot { (self.commands(&sheet.commands)) (self.switches()) }
                }
            }
            (self.keys())
        };
        self.document(status, &sheet.window_title, &body)
    }

    /// A page for one who is not logged in.
    pub(super) fn page_alone(&self, status: StatusCode, title: &str, main: &Markup) -> HttpResponse {
        let body = html! {
            div.alone {
                main #main {
                    a.brand href=(SCOPE) { (mark()) (self.say(words::BRAND)) }
                    (main)
                    (self.switches())
                }
            }
        };
        self.document(status, title, &body)
    }

    fn document(&self, status: StatusCode, title: &str, body: &Markup) -> HttpResponse {
        let theme = Some(self.theme).filter(|theme| *theme != Theme::System);
        let document = html! {
            (DOCTYPE)
            html lang=(self.language.name()) data-theme=[theme.map(Theme::name)] {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="robots" content="noindex";
                    title { (title) " · " (self.say(words::BRAND)) }
                    link rel="icon" href=(assets::icon());
                    link rel="stylesheet" href=(assets::style());
                    script src=(assets::script()) defer {}
                }
                body data-zone=(self.zone.name()) data-copied=(self.say(words::COPIED)) data-not-copied=(self.say(words::NOT_COPIED))
                    data-live=(self.say(words::LIVE)) data-paused=(self.say(words::PAUSED)) { (body) }
            }
        };
        HttpResponse::build(status).content_type("text/html; charset=utf-8").body(document.into_string())
    }

    fn navigation(&self) -> Markup {
        let role = self.login.as_ref().map(|(caller, _)| caller.role);
        let places = ConsoleRoute::ALL.into_iter().filter_map(|route| Some((route.row(), route.place()?)));
        let path = self.address.split('?').next().unwrap_or_default();
        let is_at = |place: &str| path == place || (place != SCOPE && path.starts_with(&format!("{place}/")));
        html! {
            nav aria-label=(self.say(words::NAVIGATION)) {
                ul {
                    @for (row, name) in places.filter(|(row, _)| role >= row.role) {
                        li { a href=(row.path) aria-current=[is_at(row.path).then_some("page")] { (self.say(name)) } }
                    }
                }
            }
        }
    }

    fn person(&self) -> Markup {
        let Some((caller, _)) = &self.login else { return html! {} };
        html! {
            div.who {
                span { (caller.actor.to_string()) span.soft.role { " · " (caller.role.name()) } }
                form method="post" action="/console/logout" { button.small { (self.say(words::LOG_OUT)) } }
            }
        }
    }

    /// The commands that show or do the same, each with a button that copies it.
    fn commands(&self, commands: &[String]) -> Markup {
        if commands.is_empty() {
            return html! {};
        }
        html! {
            details.same {
                summary { (self.say(words::SAME_BY_COMMAND)) }
                @for command in commands { (self.command(command)) }
            }
        }
    }

    /// A command with a button that copies it.
    pub(super) fn command(&self, command: &str) -> Markup {
        html! {
            div.command {
                pre { (command) }
                button.small.with-script type="button" data-copy=(command) { (self.say(words::COPY)) }
            }
        }
    }

    fn switches(&self) -> Markup {
        let languages = PageLanguage::ALL.map(|language| {
            let name = match language {
                PageLanguage::English => "English",
                PageLanguage::German => "Deutsch",
            };
            Switch { value: language.name().to_owned(), name: name.to_owned(), is_on: language == self.language }
        });
        let themes = Theme::ALL.map(|theme| {
            let name = match theme {
                Theme::System => words::THEME_SYSTEM,
                Theme::Light => words::THEME_LIGHT,
                Theme::Dark => words::THEME_DARK,
            };
            Switch { value: theme.name().to_owned(), name: self.say(name).to_owned(), is_on: theme == self.theme }
        });
        let mut zones: Vec<Switch> = Vec::new();
        for zone in [&Zone::UTC, &self.zone_at_home, &self.zone] {
            let name = zone.name();
            if zones.iter().all(|known| known.value != name) {
                zones.push(Switch { value: name.to_owned(), name: name.to_owned(), is_on: name == self.zone.name() });
            }
        }
        let of_browser = html! {
            button.plain.with-script name="zone" data-zone-of-browser { (self.say(words::OF_BROWSER)) }
        };
        html! {
            form.switches method="post" action="/console/view" {
                input type="hidden" name="next" value=(return_path(Some(&self.address)));
                (self.switch(words::LANGUAGE, "language", &languages, &html! {}))
                (self.switch(words::THEME, "theme", &themes, &html! {}))
                (self.switch(words::TIME_ZONE, "zone", &zones, &of_browser))
            }
        }
    }

    fn switch(&self, title: Text, name: &str, values: &[Switch], more: &Markup) -> Markup {
        html! {
            fieldset {
                legend { (self.say(title)) }
                @for Switch { value, name: shown, is_on } in values {
                    button.plain name=(name) value=(value) lang=[(name == "language").then_some(value)] aria-pressed=(is_on.to_string()) { (shown) }
                }
                (more)
            }
        }
    }

    fn keys(&self) -> Markup {
        let keys = [
            (&["/"][..], words::KEY_SEARCH),
            (&["j", "k"], words::KEY_ROWS),
            (&["r"], words::KEY_RELOAD),
            (&["?"], words::KEY_HELP),
        ];
        html! {
            dialog #keys aria-labelledby="keys-title" {
                h2 #keys-title { (self.say(words::KEYS)) }
                dl.facts {
                    @for (keys, meaning) in keys {
                        dt { @for key in keys { kbd { (key) } " " } }
                        dd { (self.say(meaning)) }
                    }
                }
                p { button type="button" data-close { (self.say(words::CLOSE)) } }
            }
        }
    }
}

/// One value of a switch.
struct Switch {
    value: String,
    name: String,
    is_on: bool,
}

/// The mark of the product: a bridge.
fn mark() -> Markup {
    html! {
        svg viewBox="0 0 32 32" aria-hidden="true" {
            path d="M3 23h26M5 23v-6m22 6v-6M5 17c4-9 18-9 22 0M16 23V11m-6 12v-9m12 9v-9" fill="none" stroke="currentColor"
                stroke-width="2.4" stroke-linecap="round" {}
        }
    }
}
