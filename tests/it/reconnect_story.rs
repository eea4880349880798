//! The whole story of an owner's link, clicked through in a browser: lapse, alert on the bus, a scanner, the click, the partner's page,
//! connected, alert resolved, and the page says so.

use std::net::TcpListener;
use std::time::Duration;

use podero_bridge::domain::Timestamp;
use podero_bridge::domain::reconnect::{TokenUse, sign};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bus::{Bus, Listener};
use crate::kit::Browser;
use crate::servers;
use crate::world::{Database, Settings, World, event, until};

const SECRET: &str = "a-secret-of-the-tests-that-signs-links";

/// Time within which an alert comes: the watch polls every second.
const PATIENCE: Duration = Duration::from_secs(60);

/// Widths of a telephone and a desk.
const WIDTHS: [u32; 2] = [360, 1_024];

struct Story {
    world: World,
    listener: Listener,
    _bus: Bus,
    base_url: String,
    user: String,
    pump: String,
}

impl Story {
    /// A customer who reads German, and whose heat pump is connected.
    async fn begin() -> Self {
        let vhost = tokio::task::spawn_blocking(servers::fresh_vhost).await.expect("a vhost");
        // The partner's page leads back to an address that is known before the bridge starts.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|taken| taken.local_addr()).expect("a free port");
        let base_url = format!("http://{address}");
        let toml = format!(
            "[watch]\ninterval = \"1s\"\ndisconnect_after = \"0s\"\ndisconnect_polls = 1\nreconnect_after = \"0s\"\n\
             reconnect_polls = 1\n[reconnect]\nenabled = true\nbase_url = \"{base_url}\"\nsecrets = [\"{SECRET}\"]\n\
             operator_name = \"Stadtwerke Beispiel\"\ncontact = \"0800 000000, service@stadtwerke.example\"\n\
             logo = \"src/console/icon.svg\"\n"
        );
        let environment = vec![("AMQP__URL", vhost.clone()), ("HTTP__LISTEN", address.to_string())];
        let world = World::start(Database::Sqlite, Settings { toml, environment }).await;
        world.ready().await;
        let bus = Bus::connect(&vhost).await;
        let listener = bus.listen(&["heat_pump.*"]).await;
        let person =
            json!({"customer_id": "C-1", "email": "anna@example.com", "first_name": "Anna", "language": "de-DE"});
        world.apply(&event("e1", "customer.signed_up", "2026-10-01T12:00:00Z", &person)).await;
        let user = world.sandbox_state().await["users"][0]["id"].as_str().expect("a user").to_owned();
        let made = world.sandbox(&format!("/users/{user}/heat-pumps"));
        let (_, made) = world.post(&made, "application/json", json!({"manufacturer": "Nibe"}).to_string()).await;
        let pump = made["id"].as_str().expect("a heat pump").to_owned();
        let story = Self { world, listener, _bus: bus, base_url, user, pump };
        until("it is connected", async || (story.detail().await["state"] == "connected").then_some(())).await;
        story
    }

    async fn detail(&self) -> Value {
        self.world.get(&self.world.operator(&format!("/v1/heat-pumps/{}", self.pump))).await
    }

    /// The next alert's type and data.
    async fn alert(&mut self) -> (String, Value) {
        let heard = self.listener.next(PATIENCE).await.expect("an alert");
        (heard.routing_key, heard.event["data"].clone())
    }

    /// The page of a link that is no good any more.
    fn dead(&self, since: Timestamp) -> String {
        let [pump, user] = [&self.pump, &self.user].map(|id| id.parse::<Uuid>().expect("an id"));
        format!("{}/r/{}", self.base_url, sign(SECRET, TokenUse::Link, pump, user, since))
    }
}

/// Looks at a page in both widths and both themes, keeps the pictures of the light one, and finds no barrier.
async fn looked_at(browser: &Browser, name: &str) {
    for width in WIDTHS {
        browser.resize(width).await;
        for is_dark in [true, false] {
            browser.prefer_dark(is_dark).await;
            assert_eq!(browser.barriers().await, Vec::<String>::new(), "{name} at {width} px, dark: {is_dark}");
        }
        let is_too_wide = "return document.documentElement.scrollWidth > window.innerWidth";
        assert_eq!(browser.run(is_too_wide).await, json!(false), "{name} at {width} px");
        browser.keep_picture(&format!("reconnect-{name}-{width}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_brings_a_heat_pump_back_by_the_link_of_an_alert() {
    let mut story = Story::begin().await;
    let lapse = story.world.sandbox(&format!("/heat-pumps/{}/lapse", story.pump));
    assert_eq!(story.world.post(&lapse, "application/json", "{}".to_owned()).await.0, 200);
    let (topic, trigger) = story.alert().await;
    assert_eq!((topic.as_str(), &trigger["cause"]), ("heat_pump.disconnected", &json!("needs_reauthentication")));
    let link = trigger["reconnect_url"].as_str().expect("a link").to_owned();
    assert!(link.starts_with(&format!("{}/r/", story.base_url)), "{link}");

    // The mail's scanner.
    let (status, _) = story.world.get_text(&link).await;
    assert_eq!((status, story.world.audited("link.use").await), (200, vec![]));
    assert_eq!(story.world.audited("podero.resolve_cue").await, Vec::<String>::new());
    assert_eq!(story.detail().await["close_watch"], Value::Null);

    // Scripts run here only so that axe-core can look; the story without them is told by the answers' own headers.
    let browser = Browser::start_scripted().await;
    browser.open(&link).await;
    assert_eq!(browser.text("h1").await, "Verbinden Sie Ihre Wärmepumpe wieder");
    assert_eq!(browser.title().await, "Verbinden Sie Ihre Wärmepumpe wieder · Stadtwerke Beispiel");
    looked_at(&browser, "offer-de").await;
    browser.click("a[hreflang=en]").await;
    assert_eq!(browser.text("h1").await, "Connect your heat pump again");
    looked_at(&browser, "offer-en").await;
    browser.click("a[hreflang=de]").await;
    browser.click("main button").await;

    assert_eq!(browser.title().await, "Reconnect your heat pump");
    assert!(browser.text("main").await.contains("Nibe no longer lets us reach your heat pump"), "the partner's page");
    browser.click("button[value=connect]").await;
    let landing = browser.address().await;
    assert!(landing.starts_with(&story.base_url) && !landing.starts_with(&link), "{landing}");

    let (topic, resolve) = story.alert().await;
    assert_eq!((topic.as_str(), &resolve["resolution"]), ("heat_pump.reconnected", &json!("reconnected")));
    assert_eq!(resolve["occurrence_id"], trigger["occurrence_id"]);
    // The page looks again by itself.
    until("the page says so", async || {
        let title = browser.title().await;
        title.starts_with("Es hat geklappt: Ihre Wärmepumpe ist wieder verbunden").then_some(())
    })
    .await;
    looked_at(&browser, "arrived-de").await;
    browser.click("a[hreflang=en]").await;
    assert_eq!(browser.text("h1").await, "It worked: your heat pump is connected again");
    looked_at(&browser, "arrived-en").await;

    // The same link, opened again, and links that are no good any more.
    browser.open(&link).await;
    assert_eq!(browser.text("h1").await, "Ihre Wärmepumpe ist verbunden");
    looked_at(&browser, "connected-de").await;
    browser.open(&story.dead(Timestamp::from_micros(0))).await;
    assert_eq!(browser.count("form").await, 0);
    looked_at(&browser, "expired").await;
    browser.open(&format!("{}/r/none", story.base_url)).await;
    looked_at(&browser, "invalid").await;
    let errors = browser.errors().await;
    // The browser reports the two statuses, and nothing that the policy of a page refused.
    assert!(errors.iter().all(|error| error.contains("410") || error.contains("404")), "{errors:?}");
    assert_eq!(story.world.audited("link.use").await, ["bridge heat_pump done - -"]);
    drop(browser);
    story.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_scripts_the_button_works_and_giving_up_says_so() {
    let mut story = Story::begin().await;
    let lapse = story.world.sandbox(&format!("/heat-pumps/{}/lapse", story.pump));
    assert_eq!(story.world.post(&lapse, "application/json", "{}".to_owned()).await.0, 200);
    let (_, trigger) = story.alert().await;
    let browser = Browser::start().await;
    browser.open(trigger["reconnect_url"].as_str().expect("a link")).await;
    browser.click("main button").await;
    browser.click("button[value=cancel]").await;
    assert_eq!(browser.text("h1").await, "Es wurde nichts geändert");
    assert!(story.detail().await["alert"].is_object(), "and the alert is open");
    drop(browser);
    story.world.bridge.stop().await;
}
