//! Every documented call of the Partner API with plain `curl`: method, path, headers and body fields as the pages name them,
//! and the answer as they describe it.
//!
//! The bodies are written out here, not taken from the sandbox's tables. In the end the sandbox's OpenAPI document is asked
//! whether an operation, or a field of a body, was left out; each answer has to fit it as well.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonschema::Draft;
use serde_json::{Value, json};
use tokio::process::Command;
use uuid::Uuid;

use super::{SandboxWorld, text, world};

const API: &str = "/api/partners/v2.0";
const JSON: &str = "Content-Type: application/json";

/// A shell's curl, and what was called with it.
struct Curl {
    base: String,
    bearer: String,
    document: Value,
    called: BTreeSet<String>,
    sent: BTreeSet<String>,
}

impl Curl {
    /// One call: its status and its body, which is JSON or nothing.
    async fn call(&mut self, method: &str, path: &str, headers: &[&str], body: Option<&Value>) -> (u16, Value) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "20", "--request", method]);
        for header in headers {
            curl.args(["--header", header]);
        }
        if let Some(body) = body {
            curl.args(["--data", &body.to_string()]);
        }
        curl.args(["--write-out", "\n%{http_code}", &format!("{}{path}", self.base)]);
        let output = curl.output().await.expect("curl is installed");
        let printed = String::from_utf8(output.stdout).expect("text");
        assert!(output.status.success(), "{method} {path}: {}", String::from_utf8_lossy(&output.stderr));
        let (answer, status) = printed.rsplit_once('\n').expect("curl writes the status last");
        let answer = if answer.is_empty() { Value::Null } else { serde_json::from_str(answer).expect("JSON") };
        let status = status.parse().expect("a status");
        self.compare(method, path, body, (status, &answer));
        (status, answer)
    }

    /// The same with the token and JSON, as every call of the API wants them.
    async fn api(&mut self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let bearer = format!("Authorization: Bearer {}", self.bearer);
        let headers = [bearer.as_str(), JSON];
        self.call(method, &format!("{API}{path}"), &headers[..1 + usize::from(body.is_some())], body).await
    }

    async fn get(&mut self, path: &str) -> Value {
        let (status, answer) = self.api("GET", path, None).await;
        assert_eq!(status, 200, "GET {path}: {answer}");
        answer
    }

    /// A call that answers 200.
    async fn send(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.api(method, path, Some(body)).await;
        assert_eq!(status, 200, "{method} {path} {body}: {answer}");
        answer
    }

    /// Holds the call against the document, and remembers it.
    fn compare(&mut self, method: &str, path: &str, body: Option<&Value>, (status, answer): (u16, &Value)) {
        let (template, operation) = operation(&self.document, method, path.split('?').next().unwrap_or_default());
        let name = format!("{method} {template}");
        let responses = &operation["responses"];
        let response = responses.get(status.to_string()).unwrap_or(&responses["default"]);
        let schema = &response["content"]["application/json"]["schema"];
        assert_eq!(schema.is_null(), answer.is_null(), "{name}: {status} {answer}");
        if !schema.is_null() {
            let mut schema = schema.clone();
            schema["components"] = self.document["components"].clone();
            let validator = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
            let validator = validator.build(&schema).expect("a valid schema");
            let wrong: Vec<String> =
                validator.iter_errors(answer).map(|error| format!("{error} at {}", error.instance_path())).collect();
            assert!(wrong.is_empty(), "{name}: {wrong:?}\n{answer:#}");
        }
        if status < 300 {
            let fields = body.and_then(Value::as_object).into_iter().flat_map(|body| body.keys());
            self.sent.extend(fields.map(|field| format!("{name}: {field}")));
            self.called.insert(name);
        }
    }
}

/// The operation of a document that a path belongs to: of two templates the one with more words of its own.
fn operation<'a>(document: &'a Value, method: &str, path: &str) -> (&'a str, &'a Value) {
    let words = |template: &str| {
        let (template, path) = (template.split('/'), path.split('/'));
        if template.clone().count() != path.clone().count() {
            return None;
        }
        template.zip(path).try_fold(0, |words, (wanted, given)| match wanted.starts_with('{') {
            true => Some(words),
            false => (wanted == given).then_some(words + 1),
        })
    };
    let paths = document["paths"].as_object().expect("paths").iter();
    let found = paths.filter_map(|(template, item)| words(template).map(|words| (words, template, item)));
    let (_, template, item) =
        found.max_by_key(|(words, ..)| *words).unwrap_or_else(|| panic!("{path} is undocumented"));
    (template, item.get(method.to_lowercase()).unwrap_or_else(|| panic!("{method} {template} is undocumented")))
}

/// Each field of a body comes back as it was sent, under the name that answers have for it.
fn assert_kept(sent: &Value, answer: &Value) {
    for (name, value) in sent.as_object().expect("an object") {
        let shown = match name.as_str() {
            "building_id" => "building",
            "user_id" => "user",
            name => name,
        };
        if shown != "device_model" {
            assert_eq!(&answer[shown], value, "{name}");
        }
    }
}

async fn begin(world: &SandboxWorld) -> Curl {
    let url = format!("{API}/openapi.json");
    let document = podero_bridge::sandbox::openapi();
    let mut curl = Curl {
        base: world.base.clone(),
        bearer: String::new(),
        document,
        called: BTreeSet::new(),
        sent: BTreeSet::new(),
    };
    // Section 1 and 2: the document without a token; the token by client credentials in JSON.
    let (status, served) = curl.call("GET", &url, &[], None).await;
    assert_eq!((status, &served), (200, &curl.document));
    let basic = |secret: &str| format!("Authorization: Basic {}", STANDARD.encode(format!("sandbox-client:{secret}")));
    let grant = json!({"grant_type": "client_credentials"});
    let (right, wrong) = (basic("sandbox-secret"), basic("wrong"));
    let headers = |authorization| [authorization, JSON, "Cache-Control: no-cache"];
    let (status, token) = curl.call("POST", "/oauth2/token/", &headers(right.as_str()), Some(&grant)).await;
    assert_eq!(status, 200, "{token}");
    let granted = (&token["token_type"], &token["scope"], &token["expires_in"]);
    assert_eq!(granted, (&json!("Bearer"), &json!("read write"), &json!(36_000)));
    let (status, refused) = curl.call("POST", "/oauth2/token/", &headers(wrong.as_str()), Some(&grant)).await;
    assert_eq!((status, refused), (401, json!({"error": "invalid_client"})));
    curl.bearer = text(&token["access_token"]);
    curl
}

/// Section 3 and 4.
async fn users(curl: &mut Curl, org: &str) -> String {
    let least =
        curl.send("POST", &format!("{org}/users"), &json!({"role": "user", "email": "least@example.org"})).await;
    assert_eq!(
        (&least["role"], &least["num_heat_pumps"], &least["is_onboarded"]),
        (&json!("user"), &json!(0), &json!(false))
    );
    let whole = json!({
        "role": "user", "email": "ann@example.org", "external_user_id": "C 4711/ü", "first_name": "Ann", "last_name": "Lee",
        "street_and_number": "Gasse 1", "street_add_info": "Top 3", "zip_code": "01067", "town": "Dresden", "country": "DE",
        "latitude": 51.05, "longitude": 13.74,
    });
    let ann = curl.send("POST", &format!("{org}/users"), &whole).await;
    assert_kept(&whole, &ann);
    let id = text(&ann["id"]);
    let one = format!("{org}/users/{id}");
    let by_key = format!("{org}/users/by-ext-id/C%204711%2F%C3%BC");
    assert_eq!(curl.get(&one).await, ann);
    assert_eq!(curl.get(&by_key).await, ann);
    assert_eq!(curl.get(&format!("{org}/users")).await, json!([least, ann]));
    // PUT is partial: what is not named stays.
    let mut changed = whole.clone();
    for (name, value) in [("town", json!("Wien")), ("first_name", json!("Anna")), ("role", json!("user"))] {
        let after = curl.send("PUT", &one, &json!({(name): value})).await;
        changed[name] = value;
        assert_kept(&changed, &after);
    }
    let moved = json!({
        "email": "anna@example.org", "external_user_id": "C-1", "last_name": "Leeb", "street_and_number": "Ring 9",
        "street_add_info": null, "zip_code": "1010", "country": "AT", "latitude": 48.2, "longitude": 16.37,
    });
    assert_kept(&moved, &curl.send("PUT", &one, &moved).await);

    // Deleted softly, then for good.
    let least = format!("{org}/users/{}", text(&least["id"]));
    assert_eq!(curl.api("DELETE", &format!("{least}?soft_delete=true"), None).await, (204, Value::Null));
    assert_eq!(curl.api("GET", &least, None).await.0, 404);
    let listed = |all: Value| all.as_array().map(Vec::len);
    assert_eq!(listed(curl.get(&format!("{org}/users")).await), Some(1));
    assert_eq!(listed(curl.get(&format!("{org}/users?include_deleted=true")).await), Some(2));
    assert_eq!(curl.api("DELETE", &least, None).await.0, 204);
    assert_eq!(listed(curl.get(&format!("{org}/users?include_deleted=true")).await), Some(1));
    let soft = curl
        .send(
            "POST",
            &format!("{org}/users"),
            &json!({"role": "user", "email": "x@example.org", "external_user_id": "C-2"}),
        )
        .await;
    curl.api("DELETE", &format!("{org}/users/{}?soft_delete=true", text(&soft["id"])), None).await;
    assert_eq!(curl.api("GET", &format!("{org}/users/by-ext-id/C-2"), None).await.0, 404);
    assert_eq!(curl.get(&format!("{org}/users/by-ext-id/C-2?include_deleted=true")).await["id"], soft["id"]);
    id
}

/// Section 3 and 5.
async fn buildings(curl: &mut Curl, user: &str) -> String {
    let whole = json!({
        "name": "Home", "property_type": "Semi-detached", "occupant_type": "Young family", "space_heating": "Gas boiler",
        "water_heating": "Electric storage", "property_size_m2": 120, "property_age": 30, "num_occupants": 4,
        "photovoltaic": true, "street_and_number": "Gasse 1", "street_add_info": "Top 3", "zip_code": "01067",
        "town": "Dresden", "country": "DE",
    });
    let made = curl.send("POST", &format!("{user}/buildings"), &whole).await;
    assert_kept(&whole, &made);
    let one = format!("{user}/buildings/{}", text(&made["id"]));
    assert_eq!(curl.get(&one).await, made);
    assert_eq!(curl.get(&format!("{user}/buildings")).await, json!([made]));
    let (status, refused) = curl.api("PUT", &one, Some(&json!({"town": "Wien"}))).await;
    assert_eq!(
        (status, &refused["detail"][0]["loc"]),
        (422, &json!(["body", "payload", "name"])),
        "the name is required"
    );
    let changed = json!({
        "name": "House", "property_type": "Flat", "occupant_type": "Retirees", "space_heating": "Electric storage",
        "water_heating": "Gas boiler", "property_size_m2": 80, "property_age": null, "num_occupants": 2, "photovoltaic": false,
        "street_and_number": "Ring 9", "street_add_info": null, "zip_code": "1010", "town": "Wien", "country": "AT",
    });
    assert_kept(&changed, &curl.send("PUT", &one, &changed).await);
    let second = curl.send("POST", &format!("{user}/buildings"), &json!({"name": "Shed"})).await;
    assert_eq!(second["photovoltaic"], json!(false), "false unless said");
    let second = format!("{user}/buildings/{}", text(&second["id"]));
    assert_eq!(curl.api("DELETE", &second, None).await, (204, Value::Null));
    assert_eq!(curl.api("GET", &second, None).await.0, 404);
    text(&made["id"])
}

/// Body fields that POST and PUT of a heat pump share (section 6).
fn writable(building: &str) -> Value {
    json!({
        "is_pause_power_active": true, "is_smart_optimization_active": false,
        "device_model": {"cloud_service_id": Uuid::nil()}, "price_zone": "SE_4", "building_id": building,
        "pause_power_until": "2026-10-02T00:00:00Z", "comment": "in the cellar",
        "last_monitoring_executed_at": "2026-10-01T11:00:00Z", "is_inverter_forced_mode_enabled": true,
        "is_trading_enabled": true, "actual_steering_state": "boost", "indoor_target_temperature_offset": -0.5,
        "dhw_standard_temperature": 48.5, "is_hot_water_heating_enabled": false, "is_space_heating_enabled": false,
        "is_space_cooling_enabled": true, "is_pool_heating_enabled": true, "heating_policy_name": "night",
        "maximum_temperature_limit": 24.0, "minimum_temperature_limit": 18.0, "minimum_dhw_temperature_limit": 40.0,
        "is_heating_policy_enabled": true, "away_mode_start": "2026-12-24T00:00:00Z",
        "away_mode_end": "2027-01-06T00:00:00Z", "is_away_mode_enabled": true, "away_mode_minimum_temperature_limit": 15.0,
        "optimization_level": "Max",
    })
}

/// Section 3 and 6.
async fn heat_pumps(curl: &mut Curl, user: &str, building: &str) {
    let list = format!("{user}/heat-pumps");
    let empty = curl.send("POST", &list, &json!({})).await;
    assert_eq!(
        (&empty["is_authenticated"], &empty["device_model"]["device_type"]["short_name"]),
        (&json!(false), &json!("hp_atw"))
    );
    assert_eq!(empty["inverter_forced_mode_since"], json!("0001-01-01T00:00:00Z"));
    let mut whole = writable(building);
    whole["is_forecasting_enabled"] = json!(true);
    let made = curl.send("POST", &list, &whole).await;
    assert_kept(&whole, &made);
    let one = format!("{list}/{}", text(&made["id"]));
    let detail = curl.get(&one).await;
    assert_eq!((&detail, &detail["actions"]), (&made, &json!([])), "the detail answer has the actions");
    let listed = curl.get(&list).await;
    assert_eq!((&listed[1]["id"], listed[1].get("actions")), (&made["id"], None), "the list has none");
    assert_eq!(listed[1]["owner"]["external_id"], json!("C-1"));
    // PUT is partial, and takes four fields that no client should send.
    assert_eq!(curl.send("PUT", &one, &json!({"comment": null})).await["price_zone"], json!("SE_4"));
    let mut changed = writable(building);
    changed["building_id"] = Value::Null;
    changed["lifecycle_state"] = json!("error");
    changed["lifecycle_error"] = json!("unreachable");
    changed["optimization_score"] = json!(0.5);
    let after = curl.send("PUT", &one, &changed).await;
    assert_kept(&changed, &after);
    assert_eq!(after["device_model"]["cloud_service_id"], json!(Uuid::nil()));
    let removed = curl.send("PUT", &one, &json!({"deleted_at": "2026-10-01T00:00:00Z"})).await;
    assert_eq!(removed["deleted_at"], json!("2026-10-01T00:00:00Z"));
    assert_eq!(curl.api("GET", &one, None).await.0, 404);
    assert_eq!(curl.get(&format!("{one}?include_deleted=true")).await["deleted_at"], removed["deleted_at"]);
    let empty = format!("{list}/{}", text(&empty["id"]));
    assert_eq!(curl.api("DELETE", &empty, None).await, (204, Value::Null));
    assert_eq!(curl.get(&list).await, json!([]));
    assert_eq!(curl.get(&format!("{list}?include_deleted=true")).await.as_array().map(Vec::len), Some(2));
}

/// Section 3, the figures of a heat pump: this one was connected at 2026-10-01T12:00:00Z, two hours ago.
async fn figures(curl: &mut Curl, org: &str, pump: &str) {
    let data = curl.get(&format!("{pump}/data")).await;
    let readings = data["data"].as_array().expect("a list");
    let times = (readings.len(), &readings[0]["time"], &readings[7]["time"]);
    assert_eq!(times, (8, &json!("2026-10-01T12:00:00Z"), &json!("2026-10-01T13:45:00Z")), "in quarters of an hour");
    assert_eq!(data["metadata"], json!({}));
    let range = "from_datetime=2026-10-01T12:00:00Z&to_datetime=2026-10-01T14:00:00Z";
    let keywords = "inlet_temp_act,hot_water_temp,estimated_consumption,unoptimized_consumption,price";
    let hours = curl.get(&format!("{pump}/data?{range}&resolution=1HOUR&keywords={keywords}")).await;
    let consumption = [&hours["data"][0]["estimated_consumption"], &hours["data"][1]["unoptimized_consumption"]];
    assert_eq!((consumption, hours["data"].as_array().map(Vec::len)), ([&json!(500), &json!(550)], Some(2)));
    let some = curl.get(&format!("{pump}/data?resolution=1DAY&keywords=price")).await;
    assert!(some["data"][0]["price"].is_number() && some["data"][0]["inlet_temp_act"].is_null());
    for resolution in ["15MIN", "1WEEK", "1MONTH"] {
        curl.get(&format!("{pump}/data?{range}&resolution={resolution}")).await;
    }
    let none =
        format!("{pump}/data?from_datetime=2026-09-01T00:00:00Z&to_datetime=2026-09-02T00:00:00Z&resolution=1HOUR");
    assert_eq!(curl.api("GET", &none, None).await.0, 400, "no data");
    let bearer = format!("Authorization: Bearer {}", curl.bearer);
    let headers = [bearer.as_str(), "fill-missing: true"];
    let (status, filled) = curl.call("GET", &format!("{API}{none}"), &headers, None).await;
    let filled = filled["data"].as_array().expect("a list").clone();
    assert_eq!((status, filled.len(), filled.iter().filter(|one| one["price"].is_null()).count()), (200, 24, 24));
    for wrong in ["resolution=1YEAR", "keywords=colour", "from_datetime=yesterday", "resolution=15MIN,1DAY"] {
        assert_eq!(curl.api("GET", &format!("{pump}/data?{wrong}"), None).await.0, 422, "{wrong}");
    }
    assert_eq!(curl.get(&format!("{pump}/schedules")).await, json!([]));

    let statistics = curl.get(&format!("{pump}/statistics?resolution=1DAY,1YEAR&keywords=savings,consumption")).await;
    assert_eq!(statistics["metadata"]["error"], Value::Null);
    let found: Vec<_> = statistics["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| {
            (text(&one["resolution"]), text(&one["period"]["start_period"]), one["consumption"]["total"].as_u64())
        })
        .collect();
    let expected = [("1DAY", "2026-10-01T00:00:00Z"), ("1YEAR", "2026-01-01T00:00:00Z")];
    assert_eq!(found, expected.map(|(name, start)| (name.to_owned(), start.to_owned(), Some(1_000))));
    assert_eq!(curl.get(&format!("{pump}/statistics")).await["data"][0]["resolution"], json!("1DAY"));
    for resolution in ["1WEEK", "1MONTH", "1QUARTER"] {
        curl.get(&format!("{pump}/statistics?resolution={resolution}&keywords=savings")).await;
    }
    let range = "from=2026-10-01T00:00:00Z&to=2026-10-02T00:00:00Z";
    let savings = curl.get(&format!("{pump}/savings?{range}")).await;
    let first = &savings["data"][0];
    assert_eq!((&first["resolution"], &first["savings"]), (&json!("1MONTH"), &json!({"total": 100, "percentage": 10})));
    let before =
        curl.get(&format!("{pump}/savings?from=2026-09-01T00:00:00Z&to=2026-09-02T00:00:00Z&resolution=1DAY")).await;
    assert!(before["metadata"]["error"].is_string() && before["data"] == json!([]), "an error within a 200");
    assert_eq!(curl.api("GET", &format!("{pump}/savings?to=2026-10-02T00:00:00Z"), None).await.0, 422);
    let of_all = curl
        .get(&format!("{org}/devices/savings?start_datetime=2026-10-01T00:00:00Z&end_datetime=2026-10-02T00:00:00Z"))
        .await;
    assert_eq!((&of_all["total_savings"], &of_all["heat_pump_savings"]), (&json!(100), &json!(100)));
    assert_eq!(
        curl.api("GET", &format!("{org}/devices/savings?start_datetime=2026-10-01T00:00:00Z"), None).await.0,
        422
    );
}

async fn energy_contracts(curl: &mut Curl, user: &str, building: &str) {
    let list = format!("{user}/energy-contracts");
    assert_eq!(curl.get(&list).await, json!([]));
    let whole = json!({
        "building_id": building, "energy_contract_type": "spot_hourly", "meter_id": "1234567890123456789", "supplier": "Utility",
        "energy_prices": [{"price": 0.25, "timestamp": "2026-10-01T00:00:00Z"}], "currency_energy_price": "EUR",
        "energy_price_includes_external_components": true,
    });
    let made = curl.send("POST", &list, &whole).await;
    assert_kept(&whole, &made);
    let one = format!("{list}/{}", text(&made["id"]));
    let changed = json!({
        "building_id": null, "energy_contract_type": "monthly", "meter_id": null, "supplier": "Other", "energy_prices": [],
        "currency_energy_price": "SEK", "energy_price_includes_external_components": false,
    });
    let after = curl.send("PUT", &one, &changed).await;
    assert_kept(&changed, &after);
    assert_eq!(curl.get(&list).await, json!([after]));
    for wrong in [
        json!({"energy_contract_type": "Spot Hourly"}),
        json!({"meter_id": "x".repeat(20)}),
        json!({"energy_prices": 7}),
    ] {
        assert_eq!(curl.api("PUT", &one, Some(&wrong)).await.0, 422, "{wrong}");
    }
}

/// Section 7.
async fn onboarding(curl: &mut Curl, user: &str, building: &str) {
    let least = json!({
        "user_id": user, "language": "sv", "price_zone_default": "SE_1", "success_url": "https://utility.example/done",
        "cancel_url": "https://utility.example/later",
    });
    let mut whole = least.clone();
    whole["is_smart_optimization_active_default"] = json!(true);
    whole["building_id"] = json!(building);
    for body in [least, whole] {
        let session = curl.send("POST", "/device-onboarding", &body).await;
        for name in ["success_url", "cancel_url"] {
            assert_eq!(session[name], body[name]);
        }
        let shown =
            (&session["user"], &session["object_id"], &session["expiration_date"], &session["external_metadata"]);
        assert_eq!(shown, (&json!(user), &Value::Null, &json!("2026-10-02"), &json!({})));
        let id = text(&session["id"]);
        assert!(text(&session["authentication_url"]).ends_with(&format!("?onboarding_session_id={id}")));
        assert_eq!(curl.get(&format!("/device-onboarding/{id}")).await, session);
    }
}

/// Cue and secret of the first action's link.
fn cue(pump: &Value) -> (String, String) {
    let link = &pump["actions"][0]["resolution_link"];
    let url = reqwest::Url::parse(link["url"].as_str().expect("a link")).expect("a URL");
    let query = |name: &str| url.query_pairs().find(|(key, _)| key == name).expect("it is there").1.into_owned();
    (query("cue_id"), query("secret"))
}

/// Section 8.
async fn cues(curl: &mut Curl, world: &SandboxWorld, pump: &str) {
    let id = pump.rsplit('/').next().unwrap_or_default();
    world.control(reqwest::Method::POST, &format!("/heat-pumps/{id}/lapse"), json!({})).await;
    let lapsed = curl.get(pump).await;
    assert_eq!((&lapsed["is_authenticated"], &lapsed["action_needed"]), (&json!(false), &json!(true)));
    assert_eq!(lapsed["actions"][0]["code"], json!("reauthenticate"));
    assert_eq!(lapsed["actions"][0]["resolution_link"]["required_parameters"], json!(["successUrl", "cancelUrl"]));
    let (cue_id, secret) = cue(&lapsed);
    let resolve = format!("/cues/{cue_id}/resolve?secret={secret}");
    let urls = json!({
        "successUrl": "https://utility.example/done", "cancelUrl": "https://utility.example/later", "language": "de",
        "location": "dashboard", "clientInfo": {"name": "app"},
    });
    let resolved = curl.send("POST", &resolve, &urls).await;
    assert!(text(&resolved["redirect_url"]).starts_with("http"));
    let (status, _) = curl.api("POST", &resolve, Some(&json!({"success_url": "https://utility.example/done"}))).await;
    assert_eq!(status, 422, "successUrl and cancelUrl, in this spelling");
    // The page shows this call without a token.
    let state = format!("{API}/cues/{cue_id}/state?secret={secret}");
    let report =
        |state: &str| json!({"state": state, "payload": {}, "location": "app", "client_info": {"name": "app"}});
    let (status, failed) = curl.call("POST", &state, &[JSON], Some(&report("fail"))).await;
    assert_eq!((status, &failed["action_id"]), (200, &lapsed["actions"][0]["id"]));
    assert_eq!(curl.get(pump).await["action_needed"], json!(true), "it stays, and may be resolved again");
    assert_eq!(curl.call("POST", &state, &[JSON], Some(&report("success"))).await.0, 200);
    let back = curl.get(pump).await;
    assert_eq!(
        (&back["is_authenticated"], &back["action_needed"], &back["actions"]),
        (&json!(true), &json!(false), &json!([]))
    );
    assert_eq!(curl.call("POST", &state, &[JSON], Some(&report("success"))).await.0, 404, "no longer active");

    world.control(reqwest::Method::POST, &format!("/heat-pumps/{id}/actions"), json!({"code": "information"})).await;
    let noticed = curl.get(pump).await;
    let (cue_id, secret) = cue(&noticed);
    let read = format!("/cues/{cue_id}/information/resolve?secret={secret}");
    let (status, answer) = curl.api("POST", &read, None).await;
    assert_eq!((status, &answer["action_id"]), (200, &noticed["actions"][0]["id"]));
    assert_eq!(curl.api("POST", &read, None).await.0, 404);
    // The older way, undocumented for heat pumps.
    world.switch(json!({"auth_session_supported": true})).await;
    let urls = json!({"success_url": "https://utility.example/done", "cancel_url": null});
    let begun = curl.send("POST", &format!("{pump}/auth_session"), &urls).await;
    assert_eq!(begun["device_id"], json!(id));
}

#[tokio::test]
async fn every_documented_call_is_answered_as_its_page_says() {
    let world = world().await;
    let mut curl = begin(&world).await;
    let (status, refused) = curl.call("GET", &format!("{API}{}", world.org("/users")), &[], None).await;
    assert_eq!((status, refused), (401, json!({"detail": "Unauthorized"})));
    let org = world.org("");
    let ann = users(&mut curl, &org).await;
    let user = format!("{org}/users/{ann}");
    let building = buildings(&mut curl, &user).await;
    heat_pumps(&mut curl, &user, &building).await;
    energy_contracts(&mut curl, &user, &building).await;
    onboarding(&mut curl, &ann, &building).await;
    let pump = format!("{user}/heat-pumps/{}", world.heat_pump(&ann).await);
    world.clock.advance(Duration::from_hours(2));
    figures(&mut curl, &org, &pump).await;
    cues(&mut curl, &world, &pump).await;

    let (mut missing, mut unsent) = (Vec::new(), Vec::new());
    for (path, item) in curl.document["paths"].as_object().expect("paths") {
        let is_control = path.starts_with("/_sandbox");
        for (method, operation) in item.as_object().expect("an item").iter().filter(|_| !is_control) {
            let name = format!("{} {path}", method.to_uppercase());
            if !curl.called.contains(&name) {
                missing.push(name.clone());
            }
            let body = &operation["requestBody"]["content"]["application/json"]["schema"]["properties"];
            let fields = body.as_object().into_iter().flat_map(|fields| fields.keys());
            unsent.extend(fields.map(|field| format!("{name}: {field}")).filter(|field| !curl.sent.contains(field)));
        }
    }
    assert!(missing.is_empty() && unsent.is_empty(), "never called: {missing:#?}\nnever sent: {unsent:#?}");
    assert!(curl.called.len() > 30, "{:?}", curl.called);
}
