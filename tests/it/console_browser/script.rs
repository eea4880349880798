//! The additions of a page's script: keys, copying, the refresh, and the zone of the browser. Nothing needs it.

use podero_bridge::domain::session::IDLE_MAX;

use super::Office;
use crate::kit::{Browser, Fixture, TestDatabase};

/// WebDriver's names of keys.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";

/// Stops of the tabulator that are looked at: those of the frame and the first of the page.
const TAB_STOPS: usize = 20;

/// The text of the element that has the focus, and whether a person sees that it has it.
const FOCUS: &str = "const at = document.activeElement; const style = getComputedStyle(at); const box = at.getBoundingClientRect(); \
                     return {tag: at.tagName, text: at.textContent, id: at.id, isSeen: style.outlineStyle !== 'none' && \
                     parseFloat(style.outlineWidth) >= 2 && box.width > 0 && box.left >= 0 && box.bottom > 0};";

#[tokio::test(flavor = "multi_thread")]
async fn the_console_is_used_by_keys_alone() {
    let mut office = Office::on_sqlite().await;
    office.refused(&["C-1", "C-2", "C-3"]).await;
    let browser = Browser::start_scripted().await;
    office.log_in(&browser, "admin").await;

    // The focus is seen wherever it goes; the first stop skips the navigation.
    for stop in 0..TAB_STOPS {
        browser.key(TAB).await;
        let at = browser.run(FOCUS).await;
        assert_eq!(at["isSeen"], true, "stop {stop}: {at}");
        assert!(stop > 0 || at["text"] == "Skip to the content", "{at}");
    }

    browser.open(&office.page("/console/customers")).await;
    browser.key("/").await;
    assert_eq!(browser.run(FOCUS).await["id"], "id", "the search has the focus");
    browser.key("j").await;
    assert_eq!(browser.run("return document.activeElement.value;").await, "j", "in a field a key is a letter");
    browser.key(ESCAPE).await;
    assert_eq!(browser.run(FOCUS).await["tag"], "BODY");

    browser.open(&office.page("/console/parked?reason=refused")).await;
    let row = "const rows = Array.from(document.querySelectorAll('main tbody tr')); return rows.findIndex((row) => row.className === 'at');";
    for (key, expected) in [("j", 0), ("j", 1), ("j", 2), ("k", 1)] {
        browser.key(key).await;
        assert_eq!(browser.run(row).await, expected, "{key}");
    }
    let at = browser.run(FOCUS).await;
    assert!(at["tag"] == "A" && at["isSeen"] == true, "{at}");
    browser.key_to_page(ENTER).await;
    assert!(browser.address().await.contains("/console/events/"), "the row is opened");

    browser.key("?").await;
    assert!(browser.text("dialog[open]").await.contains("Next and previous row"));
    assert_eq!(browser.barriers().await, [""; 0], "the dialog");
    browser.key("?").await;
    assert_eq!(browser.count("dialog[open]").await, 0);
    browser.key_to_page("r").await;
    assert!(browser.address().await.contains("/console/events/"), "it is loaded again");
    assert_eq!(browser.errors().await, [""; 0]);
}

/// Without TLS, and by a name that is none of this machine's, a browser gives a page no clipboard.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_copied_also_without_tls() {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let base = format!("http://bridge.utility.example:{port}");
    let keys = [("ADMIN__LISTEN", format!("127.0.0.1:{port}")), ("CONSOLE__BASE_URL", base.clone())];
    let office = Office::open_with(TestDatabase::sqlite(), "", &keys).await;
    let browser = Browser::start_scripted().await;
    browser.open(&format!("{base}/console/customers")).await;
    browser.write("#name", "viewer").await;
    browser.write("#password", super::PASSWORD).await;
    browser.click("button.main").await;
    assert_eq!(browser.address().await, format!("{base}/console/customers"), "the login is by the name in base_url");
    assert_eq!(browser.run("return isSecureContext;").await, false);
    browser.press(".same summary").await;
    browser.press(".same button[data-copy]").await;
    browser.wait_for(".same button[data-copy]", "Copied").await;
    // Control and V, and Control is let go.
    browser.write("#id", "\u{e009}v\u{e000}").await;
    let pasted = browser.run("return document.querySelector('#id').value;").await;
    assert_eq!(pasted, "podero-bridge customers show CUSTOMER_ID");
    browser.wait_for(".same button[data-copy]", "Copy").await;
    assert_eq!(browser.errors().await, [""; 0]);
    drop(office);
}

/// Makes the refresh of ten seconds one of a fifth of a second, and counts it.
const HURRY: &str = "const real = window.setInterval; window.looks = 0; \
                     window.setInterval = (run, time) => real(() => { window.looks += 1; run(); }, time / 50);";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_shows_by_itself_what_is_new_unless_it_is_paused() {
    let mut office = Office::on_sqlite().await;
    office.refused(&["C-1"]).await;
    let browser = Browser::start_scripted().await;
    office.log_in(&browser, "viewer").await;
    browser.before_each_page(HURRY).await;
    browser.open(&office.page("/console/parked")).await;
    office.refused(&["C-2"]).await;
    browser.wait_for("main", &office.events["C-2"]).await;

    browser.press("button[data-pause]").await;
    assert_eq!(browser.attribute("button[data-pause]", "aria-pressed").await, "true");
    office.refused(&["C-3"]).await;
    let looks = browser.run("return window.looks;").await.as_i64().expect("a number");
    browser.wait_until_run(&format!("return window.looks > {looks} + 3;")).await;
    assert!(!browser.text("main").await.contains(&office.events["C-3"]), "a pause is a pause");
    browser.press("button[data-pause]").await;
    browser.wait_for("main", &office.events["C-3"]).await;
    assert_eq!(browser.errors().await, [""; 0]);
}

/// The page asks for itself, and no person: the session ends as if no one had asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_by_the_page_keeps_no_session_alive() {
    let office = Office::on_sqlite().await;
    let browser = Browser::start_scripted().await;
    office.log_in(&browser, "viewer").await;
    office.leave_sessions_alone_for(IDLE_MAX / 2).await;
    let before = office.session_seen_at().await;
    let refresh = "return fetch('/console', {headers: {'x-console-refresh': '1'}}).then((answer) => answer.status);";
    assert_eq!(browser.run(refresh).await, 200);
    assert_eq!(office.session_seen_at().await, before);
    browser.open(&office.page("/console")).await;
    assert!(office.session_seen_at().await > before, "a person has asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_in_the_zone_of_the_browser_on_a_click() {
    let mut office = Office::on_sqlite().await;
    office.refused(&["C-1"]).await;
    let browser = Browser::start_scripted().await;
    browser.live_in("America/Phoenix").await;
    office.log_in(&browser, "viewer").await;
    browser.open(&office.page("/console/parked")).await;
    assert!(browser.text("main time").await.contains(" UTC"));
    let button = "button[data-zone-of-browser]";
    assert_eq!(browser.text(button).await, "America/Phoenix");
    browser.click(button).await;
    assert!(browser.text("main time").await.contains(" MST"), "{}", browser.text("main time").await);
    assert_eq!(browser.attribute("button[value='America/Phoenix']", "aria-pressed").await, "true");
    browser.click("button[name=zone][value=UTC]").await;
    assert!(browser.text("main time").await.contains(" UTC"));
}
