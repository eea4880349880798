//! Logins by password and at an identity provider, the end of a session, and pages of other sites in the same browser.

use actix_web::{App, HttpResponse, HttpServer, web};
use podero_bridge::domain::session::IDLE_MAX;
use serde_json::json;

use super::{Office, PASSWORD};
use crate::console_oidc::Provider;
use crate::kit::{Browser, Fixture, TestDatabase};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_and_an_ended_session_leads_back_after_a_login() {
    let office = Office::on_sqlite().await;
    let browser = Browser::start().await;
    browser.open(&office.page("/console/fleet")).await;
    browser.write("#name", "viewer").await;
    browser.write("#password", "another horse battery").await;
    browser.click("button.main").await;
    assert!(browser.text("[role=alert]").await.contains("do not belong together"));
    browser.write("#name", "viewer").await;
    browser.write("#password", PASSWORD).await;
    browser.click("button.main").await;
    assert_eq!(browser.address().await, office.page("/console/fleet"), "the page that was asked for");
    // Left alone for longer than a session lasts.
    office.leave_sessions_alone_for(IDLE_MAX).await;
    browser.click("nav a[href='/console/team']").await;
    assert_eq!(browser.address().await, office.page("/console/login?next=%2Fconsole%2Fteam"));
}

/// The provider's own page, its way back, and a person who changes their mind there.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_at_the_provider_by_clicks() {
    let provider = Provider::start();
    provider.has("anna", &json!({"groups": ["admins"]})).await;
    provider.has("carl", &json!({"groups": ["others"]})).await;
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let base = format!("http://127.0.0.1:{port}");
    let toml = format!(
        "[console]\nbase_url = \"{base}\"\n[console.oidc]\nissuer = \"{}\"\nname = \"Utility SSO\"\nclient_id = \"bridge\"\n\
         client_secret = \"the-secret-of-the-bridge\"\nroles_claim = \"groups\"\n[console.oidc.roles]\n\"admins\" = \"admin\"\n",
        provider.issuer
    );
    let keys = [("ADMIN__LISTEN", format!("127.0.0.1:{port}"))];
    let office = Office::open_with(TestDatabase::sqlite(), &toml, &keys).await;
    let browser = Browser::start_scripted().await;
    let begin = async || {
        browser.open(&office.page("/console/settings")).await;
        assert!(browser.text("main").await.contains("Log in with Utility SSO"));
        browser.click("a[href^='/console/login/oidc']").await;
    };
    begin().await;
    browser.write("input[name=sub]", "carl").await;
    browser.click("button[type=submit]").await;
    assert_eq!(browser.text("h1").await, "You have no role here");
    begin().await;
    browser.click("button[value=deny]").await;
    // This provider does not repeat the state when a person says no, so that the answer is no one's.
    assert_eq!(browser.text("h1").await, "The login did not succeed");
    begin().await;
    browser.write("input[name=sub]", "anna").await;
    browser.click("button[type=submit]").await;
    assert_eq!(browser.address().await, office.page("/console/settings"), "the page that was asked for");
    assert!(browser.text(".who").await.contains("oidc:anna"));
    assert!(browser.source().await.contains("retry.initial"), "with the rights of an admin");
    browser.click("form[action='/console/logout'] button").await;
    browser.open(&office.page("/console")).await;
    assert_eq!(browser.address().await, office.page("/console/login"));
}

/// The forms of a page that means ill, and a frame.
fn forged(operator: &str, event: &str) -> String {
    let forms: String = [("skip", format!("/console/events/{event}/skip")), ("logout", "/console/logout".to_owned())]
        .map(|(id, path)| format!("<form id={id} method=post action='{operator}{path}'><input name=note value=x><button>Win</button></form>"))
        .concat();
    format!(
        "<!DOCTYPE html><title>A prize</title>{forms}<iframe src='{operator}/console'></iframe><script>window.prize = \
         fetch('{operator}/console/events/{event}/skip', {{method: 'POST', mode: 'no-cors', credentials: 'include', body: new \
         URLSearchParams({{note: 'x'}})}}).then(() => 'sent', () => 'stopped');</script>"
    )
}

/// A page of another site, and one of another port of this machine, whose requests carry the cookie.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_does_nothing_in_the_browser_of_an_admin() {
    let mut office = Office::on_sqlite().await;
    office.refused(&["C-1"]).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let page = forged(&office.bridge.operator, &office.events["C-1"]);
    let app = move || {
        let page = page.clone();
        let answer = move || {
            let page = page.clone();
            async move { HttpResponse::Ok().content_type("text/html; charset=utf-8").body(page) }
        };
        App::new().route("/", web::get().to(answer))
    };
    let server = HttpServer::new(app).workers(1).disable_signals().listen(listener).expect("it listens").run();
    let handle = server.handle();
    tokio::spawn(server);
    let browser = Browser::start_scripted().await;
    office.log_in(&browser, "admin").await;
    for site in ["evil.example", "127.0.0.1"] {
        for form in ["#skip", "#logout"] {
            browser.open(&format!("http://{site}:{port}/")).await;
            // Whether the browser has sent it or not, it is over.
            browser.run("return window.prize;").await;
            browser.click(&format!("{form} button")).await;
            assert_eq!(browser.text("h1").await, "Another site asked for this", "{site} {form}");
        }
    }
    assert!(browser.errors().await.iter().any(|error| error.contains("frame-ancestors")), "it is in no frame");
    office.reaches("C-1", "parked").await;
    browser.open(&office.page("/console")).await;
    assert_eq!(browser.address().await, office.page("/console"), "the admin is still logged in");
    handle.stop(false).await;
}
