//! The Connect page: as HTTP answers it, and as a browser without scripts shows it to a customer.

use std::time::Duration;

use actix_web::{App, HttpServer, web};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use super::{SandboxWorld, answer, text, world};
use crate::kit::Browser;

const SUCCESS: &str = "https://utility.example/done?customer=4711&x=%20#top";
const CANCEL: &str = "https://utility.example/later";

/// A client that shows a redirection instead of following it: it leads to a host that does not exist.
fn customer() -> Client {
    Client::builder().no_proxy().redirect(Policy::none()).build().expect("a client")
}

async fn session(world: &SandboxWorld, user: &str, success: &str, cancel: &str) -> Value {
    let body = json!({"user_id": user, "language": "de", "price_zone_default": "AT", "success_url": success, "cancel_url": cancel,
        "is_smart_optimization_active_default": false});
    let (status, session) = world.send_as(&world.token, Method::POST, "/device-onboarding", body).await;
    assert_eq!(status, 200, "{session}");
    session
}

async fn submit(world: &SandboxWorld, fields: &[(&str, &str)]) -> Response {
    // A form as a browser sends it.
    let url = reqwest::Url::parse_with_params("http://form/", fields).expect("fields");
    let request = customer().post(format!("{}/connect", world.base)).body(url.query().unwrap_or_default().to_owned());
    request.header("content-type", "application/x-www-form-urlencoded").send().await.expect("an answer")
}

fn location(response: &Response) -> (u16, &str) {
    let location = response.headers().get("location").and_then(|value| value.to_str().ok());
    (response.status().as_u16(), location.unwrap_or_default())
}

/// The page's whole text, after a look at all that a browser would hold against it or load because of it.
async fn page(response: Response) -> String {
    for (name, expected) in [
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("content-security-policy", "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'"),
    ] {
        assert_eq!(response.headers().get(name).and_then(|value| value.to_str().ok()), Some(expected), "{name}");
    }
    let page = response.text().await.expect("text");
    assert!(page.starts_with("<!DOCTYPE html>") && !page.contains("<script"), "{page}");
    for attribute in ["src=\"", "href=\"", "action=\""] {
        for rest in page.split(attribute).skip(1) {
            assert!(rest.starts_with("/connect") || rest.starts_with("data:,\""), "{attribute}{rest}");
        }
    }
    page
}

#[tokio::test]
async fn a_customer_brings_a_heat_pump_and_returns_to_the_utility() {
    let world = world().await;
    let user = world.user("ann@example.org").await;
    let building = world.building(&user, "home").await;
    let session = session(&world, &user, SUCCESS, CANCEL).await;
    let (url, id) = (text(&session["authentication_url"]), text(&session["id"]));
    assert_eq!(url, format!("{}/connect?onboarding_session_id={id}", world.base));
    let shown = customer().get(&url).send().await.expect("an answer");
    assert_eq!(shown.status(), 200);
    assert!(page(shown).await.contains("Connect your heat pump"));
    let style = customer().get(format!("{}/connect/style.css", world.base)).send().await.expect("an answer");
    assert_eq!(
        (style.status().as_u16(), &style.headers()["content-type"]),
        (200, &"text/css; charset=utf-8".parse().expect("valid"))
    );

    // They give up, then the manufacturer does not let them in: nothing has happened.
    let chosen =
        [("onboarding_session_id", id.as_str()), ("manufacturer", "Vaillant"), ("model", " aroTHERM \"plus\" ")];
    let with = |outcome| [chosen.as_slice(), &[("outcome", outcome)]].concat();
    assert_eq!(location(&submit(&world, &with("cancel")).await), (303, CANCEL));
    let refused = submit(&world, &with("refuse")).await;
    assert_eq!(refused.status(), 200);
    assert!(page(refused).await.contains("The manufacturer did not let you in."));
    assert_eq!(world.get(&format!("/users/{user}/heat-pumps")).await.1, json!([]));

    assert_eq!(location(&submit(&world, &with("connect")).await), (303, SUCCESS), "exactly as it was given");
    let (_, pumps) = world.get(&format!("/users/{user}/heat-pumps")).await;
    let pump = &pumps[0];
    assert_eq!((&pump["is_authenticated"], &pump["building"]), (&json!(true), &json!(building)));
    assert_eq!((&pump["price_zone"], &pump["is_smart_optimization_active"]), (&json!("AT"), &json!(false)));
    let model = (&pump["device_model"]["manufacturer"], &pump["device_model"]["model"]);
    assert_eq!(model, (&json!("Vaillant"), &json!("aroTHERM \"plus\"")));
    let (_, after) = world.send_as(&world.token, Method::GET, &format!("/device-onboarding/{id}"), json!({})).await;
    assert_eq!(after["object_id"], pump["id"]);

    // The link serves once.
    for again in [submit(&world, &with("connect")).await, customer().get(&url).send().await.expect("an answer")] {
        assert_eq!(again.status(), 409);
        assert!(page(again).await.contains("This session was completed already."));
    }
    assert_eq!(world.get(&format!("/users/{user}")).await.1["num_heat_pumps"], json!(1));
}

#[tokio::test]
async fn a_link_that_is_old_unknown_or_of_someone_deleted_leads_nowhere() {
    let mut world = world().await;
    let user = world.user("ann@example.org").await;
    let session = session(&world, &user, SUCCESS, CANCEL).await;
    let (url, id) = (text(&session["authentication_url"]), text(&session["id"]));
    // Until the end of the following day.
    world.clock.advance(Duration::from_secs(36 * 3_600 - 1));
    assert_eq!(customer().get(&url).send().await.expect("an answer").status(), 200);
    world.clock.advance(Duration::from_secs(1));
    let late = customer().get(&url).send().await.expect("an answer");
    assert_eq!(late.status(), 409);
    assert!(page(late).await.contains("This session has expired."));
    assert_eq!(submit(&world, &[("onboarding_session_id", &id), ("outcome", "connect")]).await.status(), 409);

    let none = uuid::Uuid::nil();
    for query in [
        String::new(),
        "onboarding_session_id=x".to_owned(),
        format!("onboarding_session_id={none}"),
        format!("reconnection_id={none}"),
        format!("heat_pump_id={none}"),
        format!("onboarding_session_id={id}&heat_pump_id={none}"),
        "%ff=%ff".to_owned(),
    ] {
        let answered = customer().get(format!("{}/connect?{query}", world.base)).send().await.expect("an answer");
        assert_eq!(answered.status(), 404, "{query}");
        page(answered).await;
    }
    world.token = world.fresh_token().await;
    let session = super::connect::session(&world, &user, SUCCESS, CANCEL).await;
    world.send(Method::DELETE, &format!("/users/{user}?soft_delete=true"), json!({})).await;
    let answered = customer().get(text(&session["authentication_url"])).send().await.expect("an answer");
    assert_eq!(answered.status(), 404);
    let huge = format!("outcome={}", "x".repeat(20_000));
    let request = customer().post(format!("{}/connect", world.base)).body(huge);
    assert_eq!(request.send().await.expect("an answer").status(), 413);
}

/// The address to which the utility sends its customer, from a pending cue.
async fn redirect_url(world: &SandboxWorld, one: &str, success: &str, cancel: &str) -> String {
    let (_, pump) = world.get(one).await;
    let link = text(&pump["actions"][0]["resolution_link"]["url"]);
    let urls =
        json!({"successUrl": success, "cancelUrl": cancel, "language": "de", "location": "app", "clientInfo": {}});
    let request = world.http.post(link).bearer_auth(&world.token).json(&urls);
    let (status, resolved) = answer(request.send().await.expect("an answer")).await;
    assert_eq!(status, 200, "{resolved}");
    text(&resolved["redirect_url"])
}

#[tokio::test]
async fn a_lapsed_heat_pump_comes_back_by_each_of_its_links() {
    let world = world().await;
    world.switch(json!({"auth_session_supported": true})).await;
    let user = world.user("ann@example.org").await;
    let pump = world.heat_pump(&user).await;
    let one = format!("/users/{user}/heat-pumps/{pump}");
    for by in ["cue", "authorization_url", "auth_session"] {
        world.control(Method::POST, &format!("/heat-pumps/{pump}/lapse"), json!({})).await;
        let lapsed = world.get(&one).await.1;
        assert_eq!((&lapsed["is_authenticated"], &lapsed["action_needed"]), (&json!(false), &json!(true)));
        let (url, landing) = match by {
            "cue" => (redirect_url(&world, &one, SUCCESS, CANCEL).await, SUCCESS),
            "auth_session" => {
                let urls = json!({"success_url": SUCCESS, "cancel_url": null});
                let (_, begun) = world.send(Method::POST, &format!("{one}/auth_session"), urls).await;
                (text(&begun["authentication_url"]), SUCCESS)
            }
            _ => (text(&lapsed["authorization_url"]), ""),
        };
        let shown = customer().get(&url).send().await.expect("an answer");
        assert_eq!(shown.status(), 200, "{url}");
        assert!(page(shown).await.contains("Sandbox no longer lets us reach your heat pump SB-1."));
        let (name, id) = url.split_once('?').and_then(|(_, query)| query.split_once('=')).expect("one parameter");
        let refused = submit(&world, &[(name, id), ("outcome", "refuse")]).await;
        assert_eq!((refused.status().as_u16(), world.get(&one).await.1), (200, lapsed), "{by}: nothing has happened");
        let done = submit(&world, &[(name, id), ("outcome", "connect")]).await;
        let expected = if landing.is_empty() { (200, "") } else { (303, landing) };
        assert_eq!(location(&done), expected, "{by}");
        let (_, back) = world.get(&one).await;
        assert_eq!((&back["is_authenticated"], &back["action_needed"]), (&json!(true), &json!(false)), "{by}");
        assert_eq!((&back["actions"], &back["authorization_url"]), (&json!([]), &Value::Null), "{by}");
    }
    // Something that is no web address is not followed.
    world.control(Method::POST, &format!("/heat-pumps/{pump}/lapse"), json!({})).await;
    let url = redirect_url(&world, &one, "javascript:alert(1)", "data:text/html,x").await;
    let id = url.rsplit('=').next().unwrap_or_default();
    for outcome in ["cancel", "connect"] {
        let left = submit(&world, &[("reconnection_id", id), ("outcome", outcome)]).await;
        assert_eq!(location(&left), (200, ""));
    }
}

/// The utility's own pages, to which a customer returns. Returns their address.
fn utility() -> (String, actix_web::dev::ServerHandle) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let page = |title: &'static str| async move {
        let body = format!("<!DOCTYPE html><title>{title}</title><h1>{title}</h1>");
        actix_web::HttpResponse::Ok().content_type("text/html; charset=utf-8").body(body)
    };
    let app = move || {
        App::new()
            .route("/connected", web::get().to(move || page("Thank you")))
            .route("/later", web::get().to(move || page("Another time")))
    };
    let server = HttpServer::new(app).workers(1).disable_signals().listen(listener).expect("it listens").run();
    let handle = server.handle();
    tokio::spawn(server);
    (base, handle)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heat_pump_comes_and_comes_back_by_clicks_in_a_browser() {
    let world = world().await;
    let (utility, handle) = utility();
    let (connected, later) = (format!("{utility}/connected"), format!("{utility}/later"));
    let user = world.user("ann@example.org").await;
    world.building(&user, "home").await;
    let session = session(&world, &user, &connected, &later).await;
    let url = text(&session["authentication_url"]);
    let browser = Browser::start().await;

    browser.open(&url).await;
    assert_eq!(browser.title().await, "Connect your heat pump");
    browser.click("button[value=cancel]").await;
    assert_eq!((browser.title().await, browser.address().await), ("Another time".to_owned(), later.clone()));
    browser.open(&url).await;
    browser.write("#manufacturer", "Nibe").await;
    browser.write("#model", "S1255").await;
    let picture = browser.keep_picture("connect-onboarding").await;
    browser.click("button[value=refuse]").await;
    assert_eq!(browser.text("[role=alert]").await, "The manufacturer did not let you in.");
    assert_eq!(world.get(&format!("/users/{user}/heat-pumps")).await.1, json!([]));
    browser.write("#manufacturer", "Nibe").await;
    browser.write("#model", "S1255").await;
    browser.click("button[value=connect]").await;
    assert_eq!((browser.text("h1").await, browser.address().await), ("Thank you".to_owned(), connected.clone()));
    let (_, pumps) = world.get(&format!("/users/{user}/heat-pumps")).await;
    let model = (&pumps[0]["device_model"]["manufacturer"], &pumps[0]["device_model"]["model"]);
    assert_eq!((pumps.as_array().map(Vec::len), model), (Some(1), (&json!("Nibe"), &json!("S1255"))));

    let pump = text(&pumps[0]["id"]);
    let one = format!("/users/{user}/heat-pumps/{pump}");
    world.control(Method::POST, &format!("/heat-pumps/{pump}/lapse"), json!({})).await;
    assert_eq!(world.get(&one).await.1["is_authenticated"], json!(false));
    browser.open(&redirect_url(&world, &one, &connected, &later).await).await;
    assert_eq!(browser.title().await, "Reconnect your heat pump");
    assert!(browser.text("main").await.contains("Nibe no longer lets us reach your heat pump S1255."));
    let second = browser.keep_picture("connect-reconnection").await;
    browser.click("button.first").await;
    assert_eq!(browser.address().await, connected);
    let (_, back) = world.get(&one).await;
    assert_eq!((&back["is_authenticated"], &back["actions"]), (&json!(true), &json!([])));
    browser.open(&url).await;
    assert!(browser.text("main").await.contains("This session was completed already."));
    assert!([picture, second].iter().all(|path| path.is_file()));
    drop(browser);
    handle.stop(false).await;
}
