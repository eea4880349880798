//! Stories of people who see the console for the first time: by clicks from the overview, within three pages.

use podero_bridge::clock::Clock;

use super::{Office, reopen_until};
use crate::kit::{Browser, Fixture, TestDatabase};

/// "Customer C-17 says that nothing happened after the sign-up."
#[tokio::test(flavor = "multi_thread")]
async fn why_nothing_happened_after_a_sign_up_is_two_clicks_away() {
    let mut office = Office::on_sqlite().await;
    office.refused(&["C-17"]).await;
    let browser = Browser::start().await;
    office.log_in(&browser, "support").await;
    browser.click("nav a[href='/console/customers']").await;
    browser.write("#id", "C-17").await;
    browser.click("form[action='/console/customers'] button").await;
    assert_eq!(browser.address().await, office.page("/console/customers/C-17"));
    let timeline = browser.text(".timeline").await;
    for words in ["customer.signed_up", "parked", "refused", "Podero refuses it", "create_user"] {
        assert!(timeline.contains(words), "{words}: {timeline}");
    }
}

/// "Which heat pumps of Nibe are lost?"
#[tokio::test(flavor = "multi_thread")]
async fn the_lost_heat_pumps_of_a_maker_are_a_filter_away() {
    let mut office = Office::on_sqlite().await;
    for (whose, maker) in [("C-1", "Vaillant"), ("C-2", "Nibe"), ("C-3", "Nibe")] {
        office.with_pump(whose, maker).await;
        office.seen(whose, "connected").await;
    }
    for whose in ["C-1", "C-2"] {
        office.lapse(whose).await;
        office.seen(whose, "disconnected").await;
    }
    let browser = Browser::start().await;
    office.log_in(&browser, "viewer").await;
    browser.click("nav a[href='/console/fleet']").await;
    browser.press("select[name=manufacturer] option[value=Nibe]").await;
    browser.press("select[name=state] option[value=disconnected]").await;
    browser.click("main form button").await;
    let list = browser.text("section.panel table").await;
    for (whose, is_there) in [("C-1", false), ("C-2", true), ("C-3", false)] {
        assert_eq!(list.contains(&office.pumps[whose]), is_there, "{whose}: {list}");
    }
    let address = browser.address().await;
    assert!(address.contains("state=disconnected&manufacturer=Nibe"), "it can be sent to a colleague: {address}");
}

/// A time zone in which it is about noon, so that no day ends during a test.
fn zone_at_noon() -> String {
    let hour = Clock::system().now().micros() / 3_600_000_000 % 24;
    // The names of these zones have the sign of the way to UTC.
    match hour - 12 {
        behind @ 1.. => format!("Etc/GMT+{behind}"),
        0 => "UTC".to_owned(),
        ahead => format!("Etc/GMT{ahead}"),
    }
}

/// "Retry all that was refused yesterday." A day is one of the reader's zone.
#[tokio::test(flavor = "multi_thread")]
async fn all_that_was_refused_yesterday_is_retried_and_nothing_else() {
    let keys = [("CONSOLE__TIME_ZONE", zone_at_noon())];
    let mut office = Office::open_with(TestDatabase::sqlite(), "", &keys).await;
    office.refused(&["C-1", "C-2", "C-3"]).await;
    // The same time of yesterday, and of the day before.
    let day = 24 * 3_600 * 1_000_000_i64;
    for (whose, days) in [("C-1", 1), ("C-2", 2)] {
        office.age(&office.events[whose], days * day).await;
    }
    let browser = Browser::start().await;
    office.log_in(&browser, "admin").await;
    browser.click("a.figure[href='/console/parked']").await;
    browser.click("a[href='/console/parked/retry?reason=refused']").await;
    for (whose, is_there) in [("C-1", true), ("C-2", true), ("C-3", true)] {
        assert_eq!(browser.text("main").await.contains(&office.events[whose]), is_there, "{whose}, at any time");
    }
    let yesterday = "nav.pages a:nth-of-type(3)";
    assert_eq!(browser.text(yesterday).await, "yesterday");
    browser.click(yesterday).await;
    assert_eq!(browser.attribute(yesterday, "aria-current").await, "true");
    let preview = browser.text("main").await;
    for (whose, is_there) in [("C-1", true), ("C-2", false), ("C-3", false)] {
        assert_eq!(preview.contains(&office.events[whose]), is_there, "{whose}: {preview}");
    }
    browser.click("main form[action='/console/parked/retry'][method=post] button.main").await;
    reopen_until(&browser, "dl.facts .tag", "done").await;
    assert!(browser.text("main").await.contains("1 / 1"));
    for (whose, state) in [("C-1", "applied"), ("C-2", "parked"), ("C-3", "parked")] {
        office.reaches(whose, state).await;
    }
}
