//! The pages of the console about heat pumps, the team and the last day, as a browser without scripts shows them.

use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::store::{BucketCounts, Settings as StoreSettings, Store, bucket_of};
use serde_json::json;
use uuid::Uuid;

use crate::console::House;
use crate::world::{Settings, event, sign_up, until};

const TIME: &str = "2026-10-01T12:00:00Z";

fn settings() -> Settings {
    let toml = "[watch]\ninterval = \"1s\"\ndisconnect_after = \"0s\"\ndisconnect_polls = 1\n[team]\nenabled = true\n\
                [[source]]\nname = \"default\"\nverify = \"none\"\ntypes = [\"customer.*\", \"team.*\"]\n";
    Settings { toml: toml.to_owned(), ..Settings::default() }
}

/// A house with a customer's heat pump, whose manufacturer has this name.
async fn with_pump(maker: &str) -> (House, String) {
    let house = House::open(settings()).await;
    let world = &house.world;
    world.apply(&sign_up("e1", "C-1", TIME)).await;
    let state = world.sandbox_state().await;
    let user = state["users"][0]["id"].as_str().expect("a user").to_owned();
    let url = world.sandbox(&format!("/users/{user}/heat-pumps"));
    let (_, made) = world.post(&url, "application/json", json!({"manufacturer": maker}).to_string()).await;
    let pump = made["id"].as_str().expect("a pump").to_owned();
    house.add_operators();
    seen(&house, &pump, "connected").await;
    (house, pump)
}

/// Waits until the watch has seen the heat pump so.
async fn seen(house: &House, pump: &str, state: &str) {
    let support = house.logged_in("support").await;
    let path = format!("/console/heat-pumps/{pump}");
    let shown = format!("\">{state}</span>");
    until("the watch has seen it", async || support.get(&path).await.text.contains(&shown).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_makes_a_link_and_sees_the_heat_pump_come_back() {
    let (house, pump) = with_pump("Vaillant").await;
    let (support, viewer) = (house.logged_in("support").await, house.logged_in("viewer").await);
    let path = format!("/console/heat-pumps/{pump}");
    let found = support.get(&format!("/console/support?q={pump}")).await;
    assert_eq!((found.status, found.location()), (303, &*path));
    assert!(support.get("/console/support?q=C-1").await.text.contains(&pump), "by the customer");
    assert!(support.get("/console/support?q=nobody").await.text.contains("Nothing was found"));
    let lapse = house.world.sandbox(&format!("/heat-pumps/{pump}/lapse"));
    assert_eq!(house.world.post(&lapse, "application/json", "{}".to_owned()).await.0, 200);
    seen(&house, &pump, "disconnected").await;
    let landing = [("success_url", "https://utility.example/done"), ("cancel_url", "https://utility.example/no")];
    let refused = viewer.post(&path, &landing).await;
    assert_eq!((refused.status, viewer.get(&path).await.text.contains("<form class=\"stack\"")), (403, false));
    assert_eq!(support.post(&path, &[]).await.status, 422, "it is said where the customer lands, or not made");
    let made = support.post(&path, &landing).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let link = made.text.split("data-copy=\"http").nth(1).and_then(|rest| rest.split('"').next()).expect("a link");
    assert!(made.text.contains("every 5 seconds"), "{}", made.text);
    assert!(!support.get(&path).await.text.contains(link), "it is shown once");
    let back = json!({"is_authenticated": true, "action_needed": false, "actions": [], "authorization_url": null});
    house.world.patch_pump(&pump, &back).await;
    until("it is back", async || support.get(&path).await.text.contains("connected again").then_some(())).await;
    let by_support = |told: &str| format!("operator:support heat_pump {told} -");
    assert_eq!(
        house.world.audited("link.create").await,
        ["refused landing_required", "done -"].map(by_support),
        "the link that was not made and the one that was"
    );
    assert_eq!(house.world.audited("podero.resolve_cue").await, ["unknown begun", "done -"].map(by_support));
    house.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_is_filtered_and_no_name_becomes_markup() {
    let (house, pump) = with_pump("<b>Maker & Söhne</b>").await;
    let viewer = house.logged_in("viewer").await;
    for (query, is_there) in [
        ("", true),
        ("?state=connected", true),
        ("?state=disconnected", false),
        ("?manufacturer=%3Cb%3EMaker+%26+S%C3%B6hne%3C%2Fb%3E", true),
        ("?manufacturer=Maker&state=", false),
        ("?alert=open", false),
        ("?after=0", true),
    ] {
        let page = viewer.get(&format!("/console/fleet{query}")).await;
        assert_eq!((page.status, page.text.contains(&pump)), (200, is_there), "{query}");
        assert!(!page.text.contains("<b>"), "{query}: {}", page.text);
    }
    assert!(viewer.get("/console/fleet").await.text.contains("&lt;b&gt;Maker &amp; Söhne&lt;/b&gt;"));
    let of_customer = "href=\"/console/customers/C-1\"";
    assert!(viewer.get("/console/fleet").await.text.contains(of_customer), "from the fleet to the customer");
    let pump_path = format!("/console/heat-pumps/{pump}");
    assert!(viewer.get(&pump_path).await.text.contains(of_customer), "from the heat pump to the customer");
    for path in [pump_path.as_str(), "/console/customers/C-1", "/console/support?q=C-1", "/console"] {
        assert!(!viewer.get(path).await.text.contains("<b>"), "{path}");
    }
    let customer = viewer.get("/console/customers/C-1").await;
    assert!(customer.text.contains(&format!("href=\"{pump_path}\"")), "from the customer to the heat pump");
    assert_eq!(viewer.get("/console/fleet?state=odd").await.status, 400);
    assert_eq!(viewer.get("/console/heat-pumps/nothing").await.status, 404);
    house.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_team_is_listed_with_what_a_review_found() {
    let house = House::open(settings()).await;
    for (id, member, email) in [("e1", "M-1", "kollegin@example.com"), ("e2", "<b>M-2</b>", "kollege@example.com")] {
        let colleague = json!({"member_id": member, "email": email, "role": "staff"});
        house.world.apply(&event(id, "team.member_joined", TIME, &colleague)).await;
    }
    house.add_operators();
    let viewer = house.logged_in("viewer").await;
    let page = viewer.get("/console/team").await;
    assert!(page.status == 200 && page.text.contains(">M-1<") && page.text.contains("Review"), "{}", page.text);
    assert!(!page.text.contains("kollegin") && !page.text.contains("<b>"), "{}", page.text);
    assert!(page.text.contains("&lt;b&gt;M-2&lt;/b&gt;"), "{}", page.text);
    assert_eq!(viewer.get("/console/team?after=yesterday").await.status, 400);
    house.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_draws_the_last_day_and_says_it_in_numbers() {
    let house = House::with_operators(settings()).await;
    let viewer = house.logged_in("viewer").await;
    let clock = Clock::system();
    let url = house.store_url().to_owned();
    let store = StoreSettings { url, targets: Vec::new(), works: false };
    let (store, writer) = Store::open(store, clock.clone()).await.expect("it opens");
    tokio::spawn(writer.run());
    let counts = BucketCounts { received: 1_234, settled: 1_200, pending: Some(34), ..BucketCounts::default() };
    let at = bucket_of(clock.now().minus(Duration::from_hours(2)));
    store.keep_bucket(Uuid::from_u128(1), at, counts).await.expect("the store is there");
    let page = viewer.get("/console").await;
    for part in [
        "role=\"img\"",
        "<title id=\"chart-received-title\">",
        "at most 1234",
        "<td class=\"end\" data-name=\"Events settled\">1200",
    ] {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    assert!(!page.text.contains("style="), "the policy of the page forbids it");
    house.world.bridge.stop().await;
}
