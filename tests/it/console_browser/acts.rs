//! Each act of the console by clicks, in a browser without scripts; and the view of each role.

use podero_bridge::domain::identity::Role;

use super::{Office, reopen_until};
use crate::kit::{Browser, Fixture, TestDatabase, on_both_databases};

on_both_databases! {
    parked_events_are_retried_skipped_and_retried_by_the_many_by_clicks
}

/// Customers whose sign-ups are refused: at one a second a retry of most of them goes on for ten seconds.
const CUSTOMERS: [&str; 14] =
    ["C-1", "C-2", "C-3", "C-4", "C-5", "C-6", "C-7", "C-8", "C-9", "C-10", "C-11", "C-12", "C-13", "C-14"];

/// The button of a form that leads to this path.
fn button(path: &str) -> String {
    format!("main form[method=post][action='{path}'] button")
}

async fn parked_events_are_retried_skipped_and_retried_by_the_many_by_clicks(mut office: Office) {
    office.refused(&CUSTOMERS).await;
    let browser = Browser::start().await;
    office.log_in(&browser, "admin").await;
    let event = |whose: &str| format!("/console/events/{}", office.events[whose]);

    browser.open(&office.page(&event("C-1"))).await;
    assert!(browser.text("main").await.contains("Podero refuses it"));
    assert_eq!(browser.text("main").await.matches("Podero refuses it").count(), 1, "it says its reason once");
    browser.click(&button(&format!("{}/retry", event("C-1")))).await;
    assert_eq!(browser.text("[role=status]").await, "Done.");
    reopen_until(&browser, "dl.facts .tag", "applied").await;

    browser.open(&office.page(&event("C-2"))).await;
    browser.write("#note", "A test of ours").await;
    browser.click(&button(&format!("{}/skip", event("C-2")))).await;
    assert_eq!(browser.text("dl.facts .tag").await, "skipped");
    assert!(browser.text("main q").await.contains("A test of ours"), "the note stands in the audit log");

    // From the list to the preview, to the order, and to its progress; the slow one is stopped.
    browser.click("nav a[href='/console/parked']").await;
    browser.click("a[href='/console/parked/retry?reason=refused']").await;
    for whose in &CUSTOMERS[2..] {
        assert!(browser.text("main table").await.contains(&office.events[*whose]), "the preview names it");
    }
    browser.rewrite("#per_second", "1").await;
    browser.click(&button("/console/parked/retry")).await;
    let page = browser.address().await;
    assert!(page.contains("/console/retries/"), "{page}");
    assert!(browser.text("main").await.contains("running"), "ten seconds are left");
    browser.click("button.risky").await;
    assert!(browser.text("dl.facts .tag").await.contains("stopped"));
    browser.open(&office.page("/console/parked/retry?reason=refused")).await;
    browser.click(&button("/console/parked/retry")).await;
    reopen_until(&browser, "dl.facts .tag", "done").await;
    assert!(browser.text("main").await.contains("operator:admin"), "the page says who ordered it");
    let listed = office.get("/v1/parked").await;
    assert_eq!(listed["parked"].as_array().map(Vec::len), Some(0), "{listed}");
    browser.open(&office.page("/console/parked")).await;
    assert!(browser.text("main").await.contains("Nothing is parked."));
}

/// The brake has parked them; an approval overrides it, for one and for all that wait.
#[tokio::test(flavor = "multi_thread")]
async fn events_behind_the_brake_are_approved_by_clicks() {
    let toml = "[churn]\nbrake_count = 0\n";
    let mut office = Office::open_with(TestDatabase::sqlite(), toml, &[]).await;
    office.held_by_the_brake(&["C-2", "C-3", "C-4"]).await;
    let browser = Browser::start().await;
    office.log_in(&browser, "admin").await;
    let page = format!("/console/events/{}", office.events["C-2"]);
    browser.open(&office.page(&page)).await;
    browser.click(&button(&format!("{page}/approve"))).await;
    reopen_until(&browser, "dl.facts .tag", "applied").await;
    browser.open(&office.page("/console/parked/retry?reason=churn_brake")).await;
    browser.press("input[name=approve]").await;
    browser.click(&button("/console/parked/retry")).await;
    reopen_until(&browser, "dl.facts .tag", "done").await;
    for whose in ["C-3", "C-4"] {
        browser.open(&office.page(&format!("/console/events/{}", office.events[whose]))).await;
        reopen_until(&browser, "dl.facts .tag", "applied").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_choices_and_exports_are_done_by_clicks() {
    let office = Office::on_sqlite().await;
    let (browser, other) = (Browser::start().await, Browser::start().await);
    office.log_in(&other, "viewer").await;
    office.log_in(&browser, "admin").await;

    browser.click("button[name=language][value=de]").await;
    assert_eq!(browser.attribute("html", "lang").await, "de");
    assert!(browser.text("nav").await.contains("Kunden"));
    browser.click("button[name=theme][value=dark]").await;
    assert_eq!(browser.attribute("html", "data-theme").await, "dark");
    browser.click("button[name=language][value=en]").await;
    assert_eq!(browser.attribute("html", "data-theme").await, "dark", "one choice keeps the others");

    browser.click("nav a[href='/console/settings']").await;
    browser.click("form[action$='/revoke'] button").await;
    other.open(&office.page("/console/fleet")).await;
    assert!(other.address().await.contains("/console/login?next=%2Fconsole%2Ffleet"), "the session has ended");
    other.write("#name", "viewer").await;
    other.write("#password", super::PASSWORD).await;
    other.click("button.main").await;
    assert_eq!(other.address().await, office.page("/console/fleet"), "it returns to the page that was asked for");

    browser.click("nav a[href='/console/audit']").await;
    browser.write("#target", "nobody").await;
    browser.click("main form[method=get] button").await;
    assert!(browser.text("main").await.contains("No act matches the filter."));
    browser.click("main form[method=get] a.button").await;
    let csv = browser.download("form[action*='format=csv'] button").await;
    assert!(csv.contains("session.revoke") && csv.contains("operator:admin"), "{csv}");
    let lines = browser.download("form[action*='format=jsonl'] button").await;
    assert!(lines.lines().all(|line| line.starts_with('{')) && lines.contains("session.revoke"), "{lines}");

    browser.click("form[action='/console/logout'] button").await;
    assert_eq!(browser.text("[role=status]").await, "You are logged out.");
    browser.open(&office.page("/console")).await;
    assert_eq!(browser.address().await, office.page("/console/login"));
}

/// A link, which is followed as its owner would; the page of the agent says when the heat pump is back.
#[tokio::test(flavor = "multi_thread")]
async fn an_agents_link_brings_a_heat_pump_back_before_their_eyes() {
    let mut office = Office::on_sqlite().await;
    office.with_pump("C-1", "Nibe").await;
    office.seen("C-1", "connected").await;
    office.lapse("C-1").await;
    office.seen("C-1", "disconnected").await;
    let (agent, owner) = (Browser::start_scripted().await, Browser::start().await);
    office.log_in(&agent, "support").await;
    agent.click("nav a[href='/console/support']").await;
    agent.write("input[name=q]", "C-1").await;
    agent.click("main form button").await;
    agent.click(&format!("main a[href$='{}']", office.pumps["C-1"])).await;
    agent.press("details summary").await;
    agent.write("input[name=success_url]", &office.page("/console/login")).await;
    agent.write("input[name=cancel_url]", &office.page("/console/login")).await;
    agent.click("form.stack button.main").await;
    let link = agent.attribute("button[data-copy^=http]", "data-copy").await;
    agent.keep_whole_picture("console-link-made").await;
    owner.open(&link).await;
    owner.click("button[value=connect]").await;
    agent.wait_for("[data-part=watch]", "It is connected again.").await;
    agent.keep_whole_picture("console-link-back").await;
    assert_eq!(agent.errors().await, [""; 0]);
}

/// An address that someone searches for, or types into an address, stands in no log.
#[tokio::test(flavor = "multi_thread")]
async fn an_e_mail_address_that_is_searched_for_reaches_no_log() {
    let keys = [("LOG__LEVEL", "debug".to_owned())];
    let mut office = Office::open_with(TestDatabase::sqlite(), "", &keys).await;
    office.with_pump("C-1", "Nibe").await;
    let browser = Browser::start().await;
    office.log_in(&browser, "support").await;
    browser.click("nav a[href='/console/customers']").await;
    browser.write("#email", "c-1@Example.com").await;
    browser.click("form[action='/console/customers/find'] button").await;
    browser.click("main section p a").await;
    assert_eq!(browser.address().await, office.page("/console/customers/C-1"));
    for path in ["/console/customers", "/console/support", "/console/nothing", "/console/login"] {
        for name in ["email", "q", "next", "state"] {
            browser.open(&office.page(&format!("{path}?{name}=C-1@Example.com"))).await;
        }
    }
    let found = office.get("/v1/customers?email=C-1%40example.com").await;
    assert_eq!(found["customers"][0]["customer_id"], "C-1", "{found}");
    browser.open(&office.page("/console/nothing?email=C-1@Example.com")).await;
    let id = browser.text("main code").await;
    let log = office.bridge.log().to_lowercase();
    assert!(log.contains(&id), "the id of an error is there");
    for written in ["c-1@", "c-1%40", "example.com"] {
        assert!(!log.contains(written), "{written} is in the log");
    }
}

/// A role sees what it may do, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn each_role_sees_its_own_pages_and_buttons() {
    let mut office = Office::on_sqlite().await;
    office.refused(&["C-17"]).await;
    let event = format!("/console/events/{}", office.events["C-17"]);
    for role in Role::ALL {
        let browser = Browser::start().await;
        office.log_in(&browser, role.name()).await;
        let (sees_persons, is_admin) = (role >= Role::Support, role == Role::Admin);
        let places = browser.count("nav a").await;
        assert_eq!(places, 8, "every place of the navigation is for every role");
        browser.open(&office.page(&event)).await;
        assert_eq!(browser.count("main form").await > 0, is_admin, "{role} and the ways out");
        let shown = browser.source().await;
        assert_eq!(shown.contains("C-17@example.com"), sees_persons, "{role} and the bytes");
        browser.open(&office.page("/console/customers")).await;
        assert_eq!(browser.count("#email").await > 0, sees_persons, "{role} and the search by address");
        browser.open(&office.page("/console/parked")).await;
        assert_eq!(browser.count("a[href^='/console/parked/retry']").await > 0, is_admin, "{role} and retries of many");
        browser.open(&office.page("/console/settings")).await;
        assert_eq!(browser.source().await.contains("retry.initial"), is_admin, "{role} and the configuration");
        browser.open(&office.page("/console/audit")).await;
        assert_eq!(browser.count("form[action^='/console/audit/export']").await > 0, is_admin, "{role} and the export");
        browser.open(&office.page("/console/parked/retry")).await;
        let title = browser.text("h1").await;
        assert_eq!(title == "Your role is not enough", !is_admin, "{role}: {title}");
    }
}
