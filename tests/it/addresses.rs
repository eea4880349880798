//! Addresses as people spell them, through the whole bridge: one home stays one, and another one is built.

use serde_json::{Value, json};

use crate::world::{Database, Settings, World, event, until};

const SIGNED_UP: &str = "2026-10-01T12:00:00Z";

/// A customer in 70173 Stuttgart whose home has a heat pump that is optimised.
struct Home {
    world: World,
    building: Value,
    pump: String,
    told: u32,
}

fn stuttgart(street: &str) -> Value {
    json!({"street_and_number": street, "zip_code": "70173", "town": "Stuttgart", "country": "DE"})
}

async fn home(address: &Value) -> Home {
    let world =
        World::start(Database::Sqlite, Settings { toml: "[watch]\nenabled = false\n".into(), ..Settings::default() })
            .await;
    world.ready().await;
    let data = json!({"customer_id": "C-1", "email": "c1@example.com", "first_name": "Anna", "address": address});
    let settled = world.apply(&event("e-0", "customer.signed_up", SIGNED_UP, &data)).await;
    assert_eq!(settled["state"], "applied", "{settled}");
    let state = world.sandbox_state().await;
    let (user, building) = (state["users"][0]["id"].clone(), state["buildings"][0]["id"].clone());
    let url = world.sandbox(&format!("/users/{}/heat-pumps", user.as_str().expect("an id")));
    let (_, pump) = world.post(&url, "application/json", json!({"building_id": building}).to_string()).await;
    let pump = pump["id"].as_str().expect("an id").to_owned();
    let home = Home { world, building, pump, told: 0 };
    assert!(home.is_optimised().await, "before anything is said");
    home
}

impl Home {
    /// Sends the next event, an hour after the last one; its end, and the calls that were made for it.
    async fn tell(&mut self, type_name: &str, address: &Value) -> (Value, Vec<String>) {
        self.told += 1;
        let time = format!("2026-10-02T{:02}:00:00Z", self.told);
        let data = json!({"customer_id": "C-1", "address": address});
        let settled = self.world.apply(&event(&format!("e-{}", self.told), type_name, &time, &data)).await;
        assert_eq!(settled["state"], "applied", "{settled}");
        let calls = settled["calls"].as_array().expect("calls").iter();
        let calls = calls.map(|call| call["operation"].as_str().expect("a name").to_owned()).collect();
        (settled, calls)
    }

    async fn pump(&self) -> Value {
        let state = self.world.sandbox_state().await;
        let pumps = state["heat_pumps"].as_array().expect("a list");
        pumps.iter().find(|pump| pump["id"] == json!(self.pump)).expect("the pump").clone()
    }

    async fn is_optimised(&self) -> bool {
        self.pump().await["is_smart_optimization_active"] == true
    }

    /// A part of the address as Podero shows it in the user and in the one building.
    async fn shows(&self, part: &str) -> (Value, Value) {
        let state = self.world.sandbox_state().await;
        let buildings = state["buildings"].as_array().expect("a list");
        assert_eq!((buildings.len(), &buildings[0]["id"]), (1, &self.building), "the building is the same one");
        (state["users"][0][part].clone(), buildings[0][part].clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_to_the_same_address_in_another_spelling_tears_nothing_down() {
    let mut home = home(&stuttgart("Königstraße 5")).await;
    let with = |field: &str, value: Value| {
        let mut address = stuttgart("Königstraße 5");
        address[field] = value;
        address
    };
    for address in [
        with("street_and_number", json!("Ko\u{308}nigstraße 5")),
        with("street_and_number", json!("Königstraße  5")),
        with("street_and_number", json!("Königstraße\u{a0}5")),
        with("street_and_number", json!("KÖNIGSTRASSE 5")),
        with("street_and_number", json!("Königstr. 5")),
        with("zip_code", json!("70 173")),
        with("town", json!("STUTTGART")),
        with("country", json!("de")),
        with("country", json!("DEU")),
        with("country", json!("Deutschland")),
        with("country", json!(null)),
        with("street_add_info", json!("")),
    ] {
        let (_, calls) = home.tell("customer.moved", &address).await;
        let corrects = |call: &String| call == "update_user" || call == "update_building";
        assert!(calls.len() <= 2 && calls.iter().all(corrects), "{address}: {calls:?}");
        assert_eq!(home.shows("town").await.0, address["town"], "{address}");
        assert!(home.is_optimised().await, "{address}");
        assert_eq!(home.pump().await["building"], home.building, "{address}");
    }
    // A part that was not said is not emptied. The format of the country is the one that went along with the town.
    assert_eq!(home.shows("country").await, (json!("de"), json!("de")));
    // The neighbouring house is another one.
    let (_, calls) = home.tell("customer.moved", &stuttgart("Königstraße 5a")).await;
    assert_eq!(calls, ["create_building", "update_user", "list_heat_pumps", "update_heat_pump", "delete_building"]);
    assert!(!home.is_optimised().await);
    home.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_next_door_builds_the_new_home_and_frees_the_old_one() {
    for (before, after) in [("Ring 9 3/4", "Ring 9 3/5"), ("Ring 1-3", "Ring 13"), ("Ring 1/3", "Ring 1-3")] {
        let mut home = home(&stuttgart(before)).await;
        let (_, calls) = home.tell("customer.moved", &stuttgart(after)).await;
        assert!(calls.contains(&"create_building".to_owned()) && !home.is_optimised().await, "{after}: {calls:?}");
        home.world.bridge.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_of_the_country_alone_reaches_podero_once() {
    for (before, after) in
        [("DE", "Österreich"), ("DE", "AT"), ("DE", "AUT"), ("Deutschland", "AT"), ("DEU", "Austria")]
    {
        let vienna =
            |country| json!({"street_and_number": "Ring 9", "zip_code": "1010", "town": "Wien", "country": country});
        let mut home = home(&vienna(before)).await;
        let (_, calls) = home.tell("customer.updated", &vienna(after)).await;
        assert_eq!(calls, ["update_building", "update_user"], "{before} {after}");
        assert_eq!(home.shows("country").await, (json!(after), json!(after)));
        // The same country in another format is no difference, and nothing is written again and again.
        for format in ["AT", "at", "AUT", "Österreich", after] {
            assert_eq!(
                home.tell("customer.updated", &vienna(format)).await.1,
                Vec::<String>::new(),
                "{after} {format}"
            );
        }
        assert!(home.is_optimised().await);
        home.world.bridge.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_podero_shows_in_another_format_is_not_rewritten() {
    let mut home =
        home(&json!({"street_and_number": "Gasse 1", "zip_code": "01067", "town": "Dresden", "country": "DE"})).await;
    let url = home.world.sandbox("/variants");
    let variants = json!({"zip_code_as_integer": true}).to_string();
    let request = home.world.http.patch(url).header("content-type", "application/json").body(variants);
    assert!(request.send().await.expect("an answer").status().is_success());
    // An answer that is lost makes the bridge look at everything again.
    home.world.fault(&json!({"operation": "update_user", "kind": "drop_after", "times": 1})).await;
    let address = json!({"street_and_number": "Gasse 1", "street_add_info": "links", "zip_code": "01067", "town": "Dresden", "country": "DE"});
    let (_, calls) = home.tell("customer.updated", &address).await;
    assert!(calls.contains(&"find_user".to_owned()), "{calls:?}");
    let writes = |calls: &[String]| calls.iter().filter(|call| call.starts_with("update")).count();
    assert_eq!(writes(&calls), 2, "the building and the user, once each: {calls:?}");
    let (_, calls) = home.tell("customer.updated", &address).await;
    assert_eq!(writes(&calls), 0, "{calls:?}");
    home.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_one_part_of_an_address_leaves_the_others() {
    let mut home = home(&stuttgart("Königstraße 5")).await;
    let (_, calls) = home.tell("customer.updated", &json!({"zip_code": "70174"})).await;
    assert_eq!(calls, ["update_building", "update_user"]);
    for (part, expected) in
        [("street_and_number", "Königstraße 5"), ("zip_code", "70174"), ("town", "Stuttgart"), ("country", "DE")]
    {
        assert_eq!(home.shows(part).await, (json!(expected), json!(expected)), "{part}");
    }
    home.tell("customer.updated", &json!({"street_add_info": "Top 3", "town": null})).await;
    assert_eq!(home.shows("street_add_info").await, (json!("Top 3"), json!("Top 3")));
    assert_eq!(home.shows("town").await.0, json!("Stuttgart"));
    // The whole address, without an addition.
    home.tell("customer.updated", &stuttgart("Königstraße 5")).await;
    assert_eq!(home.shows("street_add_info").await, (Value::Null, Value::Null));

    let data = json!({"customer_id": "C-1", "address": {"zip_code": "70175"}});
    let (status, problem) = home.world.send(&event("m-1", "customer.moved", "2026-10-03T12:00:00Z", &data)).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/data/address/street_and_number")));
    assert!(!problem.to_string().contains("70175"), "no value is repeated: {problem}");
    home.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_came_too_late_says_what_was_newer() {
    let mut home = home(&stuttgart("Königstraße 5")).await;
    let (moved, _) = home.tell("customer.moved", &stuttgart("Königstraße 7")).await;
    let late = |id: &str, data: Value| event(id, "customer.updated", "2026-10-01T18:00:00Z", &data);
    let settled =
        home.world.apply(&late("l-1", json!({"customer_id": "C-1", "address": stuttgart("Königstraße 6")}))).await;
    let by =
        format!("the move into home/main at 2026-10-02T01:00:00Z (event {})", moved["id"].as_str().expect("an id"));
    assert_eq!((&settled["state"], &settled["reason"]), (&json!("superseded"), &json!("newer")));
    assert_eq!(settled["detail"], json!(by));
    let part = json!({"customer_id": "C-1", "last_name": "Berger", "address": stuttgart("Königstraße 6")});
    let settled = home.world.apply(&late("l-2", part)).await;
    assert_eq!(settled["state"], "applied");
    assert_eq!(settled["detail"], json!(format!("superseded in part: home/main; by {by}")));

    let churn = home
        .world
        .apply(&event("x-1", "customer.churned", "2026-10-05T12:00:00Z", &json!({"customer_id": "C-1"})))
        .await;
    let settled = home.world.apply(&late("l-3", json!({"customer_id": "C-1", "first_name": "Berta"}))).await;
    let by = format!("the churn at 2026-10-05T12:00:00Z (event {})", churn["id"].as_str().expect("an id"));
    assert_eq!(settled["detail"], json!(by));
    let shown = home.world.get(&home.world.operator("/v1/customers/C-1")).await;
    let told = shown["events"].as_array().expect("events").iter().find(|event| event["origin_id"] == "l-3");
    assert_eq!(told.expect("the event")["detail"], json!(by), "the customer's timeline says it as well");
    home.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_another_language_than_the_customers_is_remarked() {
    let toml = "[watch]\nenabled = false\n[onboarding]\nenabled = true\nlanguage = \"en\"\nprice_zone = \"DE_LU\"\n\
                success_url = \"https://utility.example/done\"\ncancel_url = \"https://utility.example/later\"\n";
    let world = World::start(Database::Sqlite, Settings { toml: toml.into(), ..Settings::default() }).await;
    world.ready().await;
    for (number, tag) in ["de-AT", "fr-CH", ""].into_iter().enumerate() {
        let data =
            json!({"customer_id": format!("L-{number}"), "email": format!("l{number}@example.com"), "language": tag});
        let settled = world.apply(&event(&format!("e-{number}"), "customer.signed_up", SIGNED_UP, &data)).await;
        let is_remarked = settled["detail"].as_str().is_some_and(|detail| detail.contains("`en`"));
        assert_eq!(is_remarked, tag == "fr-CH", "{tag}: {settled}");
        assert!(!settled["detail"].to_string().contains("fr"), "no value is repeated");
    }
    world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_from_the_future_is_not_fresh_and_is_counted() {
    let toml = "[watch]\ninterval = \"1s\"\n";
    let world = World::start(Database::Sqlite, Settings { toml: toml.into(), ..Settings::default() }).await;
    world.ready().await;
    world.apply(&crate::world::sign_up("e-1", "C-1", SIGNED_UP)).await;
    let user = world.sandbox_state().await["users"][0]["id"].as_str().expect("a user").to_owned();
    let (_, pump) =
        world.post(&world.sandbox(&format!("/users/{user}/heat-pumps")), "application/json", "{}".into()).await;
    let pump = pump["id"].as_str().expect("an id");
    let is = async |state: &str| {
        let pumps = world.get(&world.operator(&format!("/v1/heat-pumps?state={state}"))).await;
        pumps["heat_pumps"].as_array().and_then(|pumps| pumps.first().cloned())
    };
    until("it is connected", async || is("connected").await).await;
    let drift = "podero_bridge_contract_drift_total{kind=\"clock_ahead\",operation=\"list_heat_pumps\"}";
    assert_eq!(world.metric(drift).await, Some(0.0));
    world.patch_pump(pump, &json!({"current_state_last_updated_at": "2099-01-01T00:00:00Z"})).await;
    let seen = until("its state tells nothing", async || is("unknown").await).await;
    assert_eq!(seen["reason"], "clock_ahead");
    assert!(world.metric(drift).await > Some(0.0));
    world.patch_pump(pump, &json!({"current_state_last_updated_at": "auto"})).await;
    until("it is connected again", async || is("connected").await).await;
    world.bridge.stop().await;
}
