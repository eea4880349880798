//! Each page: without barriers in both themes, without an error on the console, without a request to another host, and readable from a
//! telephone to a wide screen. Its pictures are artefacts, `target/tmp/console-*.png`.

use super::Office;
use crate::kit::{Browser, on_both_databases};

/// Widths of a telephone and of a small window.
const WIDTHS: [u32; 2] = [360, 1024];

on_both_databases! {
    pages_of_customers_and_heat_pumps_are_quiet_without_barriers_and_fit
    pages_of_work_and_team_are_quiet_without_barriers_and_fit
}

async fn pages_of_customers_and_heat_pumps_are_quiet_without_barriers_and_fit(office: Office) {
    look_at(office.with_a_day().await, pages_of_customers).await;
}

async fn pages_of_work_and_team_are_quiet_without_barriers_and_fit(office: Office) {
    look_at(office.with_a_day().await, pages_of_work).await;
}

/// Pages by the name of their pictures.
type Pages = Vec<(&'static str, String)>;

/// Looks at pages as an admin does, who sees all of them.
async fn look_at(office: Office, pages: impl Fn(&Office, &str) -> Pages) {
    if office.is_file {
        office.keep_history().await;
    }
    let browser = Browser::start_scripted().await;
    let mut look = Look { office: &office, browser: &browser, findings: Vec::new() };
    look.at("login", "/console/login").await;
    office.log_in(&browser, "admin").await;
    let retry = order_retry(&office, &browser).await;
    let pages = pages(&office, &retry);
    for (name, path) in &pages {
        look.at(name, path).await;
    }
    look.at_an_error().await;
    if office.is_file {
        browser.open(&office.page("/console")).await;
        browser.click("button[name=language][value=de]").await;
        browser.resize(WIDTHS[0]).await;
        // German words are longer.
        for (name, path) in &pages {
            browser.open(&office.page(path)).await;
            look.fits(name).await;
            browser.keep_whole_picture(&format!("console-{name}-360-de")).await;
        }
    }
    assert_eq!(look.findings, [""; 0]);
}

/// Orders the retry of the events that were refused, so that it has a page; the path of that page.
async fn order_retry(office: &Office, browser: &Browser) -> String {
    browser.open(&office.page("/console/parked/retry?reason=email_taken")).await;
    browser.click("main form[method=post] button.main").await;
    browser.address().await.strip_prefix(&office.bridge.operator).expect("a page").to_owned()
}

fn pages_of_customers(office: &Office, _: &str) -> Pages {
    let pump = &office.pumps["C-2"];
    [
        ("customers", "/console/customers?state=waiting".to_owned()),
        ("customers-none", "/console/customers?state=scheduled".to_owned()),
        ("customer", "/console/customers/C-2".to_owned()),
        ("customer-refused", "/console/customers/C-17".to_owned()),
        ("fleet", "/console/fleet".to_owned()),
        ("fleet-filtered", "/console/fleet?state=disconnected&manufacturer=Nibe".to_owned()),
        ("fleet-none", "/console/fleet?state=paused".to_owned()),
        ("support", "/console/support".to_owned()),
        ("support-found", "/console/support?q=C-2".to_owned()),
        ("support-none", "/console/support?q=nobody".to_owned()),
        ("heat-pump", format!("/console/heat-pumps/{pump}")),
    ]
    .into()
}

fn pages_of_work(office: &Office, retry: &str) -> Pages {
    let (refused, applied) = (&office.events["C-17"], &office.events["C-1"]);
    [
        ("overview", "/console".to_owned()),
        ("event", format!("/console/events/{applied}")),
        ("event-parked", format!("/console/events/{refused}")),
        ("parked", "/console/parked".to_owned()),
        ("parked-reason", "/console/parked?reason=refused".to_owned()),
        ("retry-preview", "/console/parked/retry?reason=refused".to_owned()),
        ("retry", retry.to_owned()),
        ("team", "/console/team".to_owned()),
        ("audit", "/console/audit".to_owned()),
        ("settings", "/console/settings".to_owned()),
    ]
    .into()
}

/// One who looks at a page closely.
struct Look<'a> {
    office: &'a Office,
    browser: &'a Browser,
    /// All that is wrong, so that one run shows it.
    findings: Vec<String>,
}

impl Look<'_> {
    fn note(&mut self, name: &str, found: Vec<String>) {
        self.findings.extend(found.into_iter().map(|finding| format!("{name}: {finding}")));
    }

    async fn at(&mut self, name: &str, path: &str) {
        self.browser.resize(WIDTHS[1]).await;
        self.browser.open(&self.office.page(path)).await;
        self.closely(name).await;
        let errors = self.browser.errors().await;
        self.note(name, errors);
    }

    /// The page of an error, whose own status the browser notes as an error.
    async fn at_an_error(&mut self) {
        self.browser.resize(WIDTHS[1]).await;
        self.browser.open(&self.office.page("/console/nothing")).await;
        let errors = self.browser.errors().await;
        assert!(errors.len() == 1 && errors[0].contains("404"), "{errors:?}");
        self.closely("error").await;
    }

    /// Markup and colours are the same on both databases: barriers are looked for on one of them, once in each theme, and once where
    /// tables are cards.
    async fn closely(&mut self, name: &str) {
        let browser = self.browser;
        for (width, theme) in [(1024, "light"), (1600, "light"), (1024, "dark"), (360, "dark"), (360, "light")] {
            browser.resize(width).await;
            browser.prefer_dark(theme == "dark").await;
            self.fits(&format!("{name} at {width}")).await;
            if !self.office.is_file {
                continue;
            }
            browser.keep_whole_picture(&format!("console-{name}-{width}-{theme}")).await;
            if (width, theme) == (1024, "light") || (width, theme) == (360, "dark") {
                let barriers = browser.barriers().await;
                self.note(&format!("{name} in {theme}"), barriers);
            }
        }
        let own = format!("{}/", self.office.bridge.operator);
        let requests = browser.requests().await;
        let foreign = requests.into_iter().filter(|address| !address.starts_with(&own)).collect();
        self.note(&format!("{name} asks another host"), foreign);
    }

    /// The page itself does not scroll sideways.
    async fn fits(&mut self, name: &str) {
        let wider = "const root = document.documentElement; return root.scrollWidth - root.clientWidth;";
        let wider = self.browser.run(wider).await;
        if wider != 0 {
            self.note(name, vec![format!("scrolls sideways by {wider}")]);
        }
    }
}
