//! The embedded Podero over real HTTP: what the partner's pages say it answers, and what its control routes order.

// The Connect page, by hand and in a browser.
mod connect;
// Every documented call, with plain `curl`.
mod curl;
// Staff and admins: invitation, password, login.
mod people;
// The permission matrix, cell by cell.
mod permissions;

use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::Timestamp;
use podero_bridge::sandbox::{Sandbox, SandboxSettings, server};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

/// A running sandbox on a clock that stands still, and a client with a token.
struct SandboxWorld {
    http: Client,
    base: String,
    clock: Clock,
    sandbox: Sandbox,
    token: String,
    handle: actix_web::dev::ServerHandle,
}

impl Drop for SandboxWorld {
    fn drop(&mut self) {
        // Sent at once; the returned future only waits for the end.
        drop(self.handle.stop(false));
    }
}

async fn world() -> SandboxWorld {
    world_with(SandboxSettings { seed: Some(7), ..SandboxSettings::default() }).await
}

async fn world_with(settings: SandboxSettings) -> SandboxWorld {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let clock = Clock::manual(Timestamp::parse("2026-10-01T12:00:00Z").expect("valid"), 7);
    let sandbox = Sandbox::new(settings, clock.clone());
    let server = server(sandbox.clone(), listener).expect("it listens");
    let handle = server.handle();
    tokio::spawn(server);
    let http = Client::builder().timeout(Duration::from_secs(20)).build().expect("a client");
    let mut world = SandboxWorld { http, base, clock, sandbox, token: String::new(), handle };
    world.token = world.fresh_token().await;
    world
}

impl SandboxWorld {
    async fn fresh_token(&self) -> String {
        let (status, body) = self.ask_token("sandbox-secret", json!({"grant_type": "client_credentials"})).await;
        assert_eq!(status, 200, "{body}");
        text(&body["access_token"])
    }

    async fn ask_token(&self, secret: &str, body: Value) -> (u16, Value) {
        let url = format!("{}/oauth2/token/", self.base);
        let request = self.http.post(url).basic_auth("sandbox-client", Some(secret)).json(&body);
        answer(request.send().await.expect("an answer")).await
    }

    fn request(&self, method: Method, path: &str, token: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}/api/partners/v2.0{path}", self.base)).bearer_auth(token)
    }

    fn org(&self, path: &str) -> String {
        format!("/org/{}{path}", self.sandbox.account().org_id)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, &self.org(path), &self.token).send().await.expect("an answer")).await
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        self.send_as(&self.token, method, &self.org(path), body).await
    }

    async fn send_as(&self, token: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
        answer(self.request(method, path, token).json(&body).send().await.expect("an answer")).await
    }

    async fn control(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.request(method, format!("{}/_sandbox{path}", self.base)).json(&body);
        answer(request.send().await.expect("an answer")).await
    }

    async fn switch(&self, variants: Value) {
        let (status, body) = self.control(Method::PATCH, "/variants", variants).await;
        assert_eq!(status, 200, "{body}");
    }

    async fn fault(&self, rule: Value) {
        let (status, body) = self.control(Method::POST, "/faults", rule).await;
        assert_eq!(status, 201, "{body}");
    }

    async fn user(&self, email: &str) -> String {
        let body = json!({"role": "user", "email": email, "external_user_id": format!("ext {email}/1")});
        let (status, body) = self.send(Method::POST, "/users", body).await;
        assert_eq!(status, 200, "{body}");
        text(&body["id"])
    }

    async fn building(&self, user: &str, name: &str) -> String {
        let (status, body) = self.send(Method::POST, &format!("/users/{user}/buildings"), json!({"name": name})).await;
        assert_eq!(status, 200, "{body}");
        text(&body["id"])
    }

    async fn heat_pump(&self, user: &str) -> String {
        let (status, body) = self.control(Method::POST, &format!("/users/{user}/heat-pumps"), json!({})).await;
        assert_eq!(status, 201, "{body}");
        text(&body["id"])
    }

    async fn token_of(&self, user: &str) -> String {
        let (status, body) = self.control(Method::POST, "/tokens", json!({"user_id": user})).await;
        assert_eq!(status, 201, "{body}");
        text(&body["access_token"])
    }

    async fn user_count(&self) -> usize {
        let (_, state) = self.control(Method::GET, "/state", json!({})).await;
        state["users"].as_array().expect("a list").len()
    }
}

async fn answer(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let bytes = response.bytes().await.expect("a whole body");
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

fn first_problem(body: &Value) -> (&str, &str) {
    let problem = &body["detail"][0];
    (problem["type"].as_str().unwrap_or_default(), problem["loc"][2].as_str().unwrap_or_default())
}

#[tokio::test]
async fn a_token_is_given_for_the_right_credentials_and_dies_at_its_hour() {
    let world = world().await;
    let (status, body) = world.ask_token("sandbox-secret", json!({"grant_type": "client_credentials"})).await;
    let (kind, scope, lives) = (&body["token_type"], &body["scope"], &body["expires_in"]);
    assert_eq!((status, kind, scope, lives), (200, &json!("Bearer"), &json!("read write"), &json!(36_000)));
    let (status, body) = world.ask_token("wrong", json!({"grant_type": "client_credentials"})).await;
    assert_eq!((status, body), (401, json!({"error": "invalid_client"})));
    let (status, body) = world.ask_token("sandbox-secret", json!({"grant_type": "password"})).await;
    assert_eq!((status, body), (400, json!({"error": "unsupported_grant_type"})));

    let form =
        world.http.post(format!("{}/oauth2/token", world.base)).basic_auth("sandbox-client", Some("sandbox-secret"));
    let form = form.header("content-type", "application/x-www-form-urlencoded").body("grant_type=client_credentials");
    assert_eq!(form.send().await.expect("an answer").status(), StatusCode::OK);

    assert_eq!(world.get("/users").await.0, 200);
    world.clock.advance(Duration::from_secs(36_000));
    assert_eq!(world.get("/users").await, (401, json!({"detail": "Unauthorized"})));
}

#[tokio::test]
async fn a_user_is_made_found_changed_in_part_and_deleted_softly_then_for_good() {
    let world = world().await;
    let id = world.user("ann@example.org").await;
    let found = format!("/users/by-ext-id/{}", "ext%20ann%40example.org%2F1");
    assert_eq!(world.get(&found).await.1["id"], json!(id));

    let path = format!("/users/{id}");
    let (status, body) = world.send(Method::PUT, &path, json!({"zip_code": "01067", "town": "Dresden"})).await;
    assert_eq!((status, &body["zip_code"], &body["email"]), (200, &json!("01067"), &json!("ann@example.org")));
    let (_, body) = world.send(Method::PUT, &path, json!({"town": null, "organization_id": Uuid::nil()})).await;
    assert_eq!((&body["town"], &body["zip_code"]), (&Value::Null, &json!("01067")));
    assert_eq!(body["organization_id"], json!(world.sandbox.account().org_id));

    let soft = format!("{path}?soft_delete=true");
    assert_eq!(world.send(Method::DELETE, &soft, json!({})).await.0, 204);
    assert_eq!(world.get(&path).await, (404, json!({"detail": "Not Found"})));
    assert_eq!(world.get(&found).await.0, 404);
    assert_eq!(world.get(&format!("{found}?include_deleted=true")).await.1["id"], json!(id));
    assert_eq!(world.get("/users").await.1, json!([]));
    assert_eq!(world.get("/users?include_deleted=true").await.1[0]["id"], json!(id));
    let (_, state) = world.control(Method::GET, "/state", json!({})).await;
    assert_eq!(state["users"][0]["deleted"], json!(true));

    assert_eq!(world.send(Method::DELETE, &path, json!({})).await.0, 204);
    assert_eq!(world.get("/users?include_deleted=true").await.1, json!([]));
}

#[tokio::test]
async fn an_email_address_is_taken_once_among_users_who_are_not_deleted() {
    let world = world().await;
    let id = world.user("ann@example.org").await;
    let again = json!({"role": "user", "email": "ANN@example.org"});
    let (status, body) = world.send(Method::POST, "/users", again.clone()).await;
    assert_eq!((status, body), (422, json!({"detail": "A user with this email already exists."})));
    world.switch(json!({"duplicate_status": 409, "soft_deleted_holds_email": true})).await;
    world.send(Method::DELETE, &format!("/users/{id}?soft_delete=true"), json!({})).await;
    assert_eq!(world.send(Method::POST, "/users", again.clone()).await.0, 409);
    world.switch(json!({"soft_deleted_holds_email": false, "created_status": 201})).await;
    assert_eq!(world.send(Method::POST, "/users", again).await.0, 201);

    // The partner's key is not unique unless switched.
    let twin = |email| json!({"role": "user", "email": email, "external_user_id": "C-1"});
    assert_eq!(world.send(Method::POST, "/users", twin("b@example.org")).await.0, 201);
    assert_eq!(world.send(Method::POST, "/users", twin("c@example.org")).await.0, 201);
    world.switch(json!({"external_user_id_unique": true})).await;
    assert_eq!(world.send(Method::POST, "/users", twin("d@example.org")).await.0, 409);
}

#[tokio::test]
async fn what_the_documents_limit_is_refused_with_its_place() {
    let world = world().await;
    let user = world.user("ann@example.org").await;
    let buildings = format!("/users/{user}/buildings");
    let session = |change: Value| {
        let mut body = json!({"user_id": user, "language": "de", "price_zone_default": "DE_LU",
            "success_url": "https://example.org/ok", "cancel_url": "https://example.org/no"});
        for (name, value) in change.as_object().expect("an object") {
            body[name] = value.clone();
        }
        body
    };
    let long = "x".repeat(101);
    let cases = [
        (world.org("/users"), json!({"role": "user"}), ("missing", "email")),
        (world.org("/users"), json!({"role": "user", "email": "no address"}), ("value_error", "email")),
        (world.org("/users"), json!({"role": "boss", "email": "a@b.org"}), ("enum", "role")),
        (
            world.org("/users"),
            json!({"role": "user", "email": "a@b.org", "zip_code": 10115}),
            ("string_type", "zip_code"),
        ),
        (world.org(&buildings), json!({}), ("missing", "name")),
        (world.org(&buildings), json!({"name": long}), ("string_too_long", "name")),
        (world.org(&buildings), json!({"name": "h", "zip_code": "1".repeat(21)}), ("string_too_long", "zip_code")),
        (world.org(&buildings), json!({"name": "h", "property_type": "Castle"}), ("enum", "property_type")),
        ("/device-onboarding".to_owned(), session(json!({"language": "fr"})), ("enum", "language")),
        ("/device-onboarding".to_owned(), session(json!({"price_zone_default": "DE"})), ("enum", "price_zone_default")),
        ("/device-onboarding".to_owned(), session(json!({"success_url": null})), ("string_type", "success_url")),
        (
            "/device-onboarding".to_owned(),
            session(json!({"cancel_url": "x".repeat(8_001)})),
            ("string_too_long", "cancel_url"),
        ),
    ];
    for (path, body, expected) in cases {
        let (status, answer) = world.send_as(&world.token, Method::POST, &path, body.clone()).await;
        assert_eq!((status, first_problem(&answer)), (422, expected), "{path} {body}");
    }
    let broken = world.request(Method::POST, &world.org("/users"), &world.token).body("{").send().await;
    assert_eq!(answer(broken.expect("an answer")).await, (400, json!({"detail": "Cannot parse request body"})));
}

#[tokio::test]
async fn paths_are_scoped_to_the_organisation_and_the_user() {
    let world = world().await;
    let (ann, bob) = (world.user("ann@example.org").await, world.user("bob@example.org").await);
    let building = world.building(&ann, "home").await;
    let pump = world.heat_pump(&ann).await;
    let gone = (404, json!({"detail": "Not Found"}));
    assert_eq!(world.get(&format!("/users/{bob}/buildings/{building}")).await, gone);
    assert_eq!(world.get(&format!("/users/{bob}/heat-pumps/{pump}")).await, gone);
    assert_eq!(world.get(&format!("/users/{ann}/electric-boats")).await, gone);
    let foreign = format!("/org/{}/users", Uuid::nil());
    assert_eq!(world.send_as(&world.token, Method::GET, &foreign, json!({})).await, gone);
    assert_eq!(world.send_as("nonsense", Method::GET, &foreign, json!({})).await.0, 401);
    assert_eq!(world.get("/users/not-an-id").await.0, 422);
    assert_eq!(world.send(Method::PATCH, "/users", json!({})).await, (405, json!({"detail": "Method Not Allowed"})));
}

#[tokio::test]
async fn a_building_is_changed_with_its_name_only_and_its_heat_pumps_outlive_it() {
    let world = world().await;
    let user = world.user("ann@example.org").await;
    let building = world.building(&user, "home").await;
    let pump = world.heat_pump(&user).await;
    let (list, one) = (format!("/users/{user}/buildings"), format!("/users/{user}/buildings/{building}"));
    assert_eq!(world.send(Method::PUT, &one, json!({"town": "Wien"})).await.0, 422);
    let (status, body) = world.send(Method::PUT, &one, json!({"name": "home", "town": "Wien"})).await;
    assert_eq!((status, &body["town"]), (200, &json!("Wien")));
    world.switch(json!({"building_put_requires_name": false})).await;
    let (_, body) = world.send(Method::PUT, &one, json!({"zip_code": "1010"})).await;
    assert_eq!((&body["name"], &body["town"], &body["zip_code"]), (&json!("home"), &json!("Wien"), &json!("1010")));
    assert_eq!(world.get(&list).await.1[0], world.get(&one).await.1);

    world.switch(json!({"building_list_supported": false, "building_delete_supported": false})).await;
    assert_eq!(world.get(&list).await.0, 405);
    assert_eq!(world.send(Method::DELETE, &one, json!({})).await.0, 405);
    world.switch(json!({"building_delete_supported": true})).await;
    assert_eq!(world.send(Method::DELETE, &one, json!({})).await.0, 204);
    assert_eq!(world.get(&one).await.0, 404);
    let (status, body) = world.get(&format!("/users/{user}/heat-pumps/{pump}")).await;
    assert_eq!((status, &body["building"]), (200, &Value::Null));
}

#[tokio::test]
async fn a_heat_pump_is_changed_in_part_and_only_where_the_documents_let_it() {
    let world = world().await;
    let user = world.user("ann@example.org").await;
    let building = world.building(&user, "home").await;
    let pumps = format!("/users/{user}/heat-pumps");
    let (status, body) = world.send(Method::POST, &pumps, json!({})).await;
    assert_eq!((status, &body["is_authenticated"], &body["building"]), (200, &json!(false), &Value::Null));
    let one = format!("{pumps}/{}", text(&body["id"]));
    let change = json!({"building_id": building, "is_smart_optimization_active": false, "is_authenticated": true});
    let (status, body) = world.send(Method::PUT, &one, change).await;
    assert_eq!((status, &body["building"]), (200, &json!(building)));
    assert_eq!((&body["is_authenticated"], body.get("building_id")), (&json!(false), None));
    assert_eq!(body["is_smart_optimization_active"], json!(false));
    assert_eq!(world.send(Method::PUT, &one, json!({"building_id": Uuid::nil()})).await.0, 404);
    assert_eq!(world.send(Method::PUT, &one, json!({"price_zone": "DE"})).await.0, 422);

    let (_, list) = world.get(&pumps).await;
    assert_eq!((list[0].get("actions"), &body["actions"]), (None, &json!([])));
    assert_eq!(list[0]["owner"]["external_id"], json!("ext ann@example.org/1"));
    assert_eq!(world.get(&format!("/users/{user}")).await.1["num_heat_pumps"], json!(1));
    assert_eq!(world.send(Method::DELETE, &one, json!({})).await.0, 204);
    assert_eq!(world.get(&format!("/users/{user}")).await.1["num_heat_pumps"], json!(0));
    assert_eq!(world.get(&one).await.0, 404);
    let (_, body) = world.get(&format!("{one}?include_deleted=true")).await;
    assert_eq!(body["deleted_at"], json!("2026-10-01T12:00:00Z"));
}

/// A healthy heat pump refreshes with time until it is frozen or locked out.
#[tokio::test]
async fn a_healthy_heat_pump_refreshes_until_it_is_frozen() {
    let world = world().await;
    let user = world.user("ann@example.org").await;
    let pump = world.heat_pump(&user).await;
    let one = format!("/users/{user}/heat-pumps/{pump}");
    let control = format!("/heat-pumps/{pump}");
    let fresh = async || text(&world.get(&one).await.1["current_state_last_updated_at"]);
    assert_eq!(fresh().await, "2026-10-01T12:00:00Z");
    world.clock.advance(Duration::from_mins(11));
    assert_eq!(fresh().await, "2026-10-01T12:10:00Z");
    world.control(Method::PATCH, &control, json!({"is_authenticated": false})).await;
    world.clock.advance(Duration::from_mins(10));
    assert_eq!(fresh().await, "2026-10-01T12:10:00Z");
    world.control(Method::PATCH, &control, json!({"is_authenticated": true})).await;
    assert_eq!(fresh().await, "2026-10-01T12:20:00Z");
    world.control(Method::PATCH, &control, json!({"current_state_last_updated_at": "2026-01-01T00:00:00Z"})).await;
    world.clock.advance(Duration::from_mins(10));
    assert_eq!(fresh().await, "2026-01-01T00:00:00Z");
    world.control(Method::PATCH, &control, json!({"current_state_last_updated_at": "auto"})).await;
    assert_eq!(fresh().await, "2026-10-01T12:30:00Z");

    let mix = json!({"is_authenticated": false, "connection_status": "ok", "lifecycle_state": null,
        "device_model": {"model": "X"}, "newly_invented": [1]});
    let (_, body) = world.control(Method::PATCH, &control, mix).await;
    assert_eq!((&body["connection_status"], &body["lifecycle_state"]), (&json!("ok"), &Value::Null));
    assert_eq!((&body["actions"], &body["newly_invented"]), (&json!([]), &json!([1])));
    assert_eq!(body["device_model"]["manufacturer"], json!("Sandbox"));
}

/// The cue id and secret of the pump's first action.
async fn cue(world: &SandboxWorld, one: &str) -> (String, String) {
    let (_, body) = world.get(one).await;
    let url = text(&body["actions"][0]["resolution_link"]["url"]);
    assert_eq!(body["actions"][0]["resolution_link"]["required_parameters"], json!(["successUrl", "cancelUrl"]));
    let url = reqwest::Url::parse(&url).expect("a URL");
    let query = |name: &str| url.query_pairs().find(|(key, _)| key == name).expect("it is there").1.into_owned();
    (query("cue_id"), query("secret"))
}

#[tokio::test]
async fn a_lapsed_authentication_is_restored_through_its_cue() {
    let world = world().await;
    let user = world.user("ann@example.org").await;
    let pump = world.heat_pump(&user).await;
    let one = format!("/users/{user}/heat-pumps/{pump}");
    world.control(Method::POST, &format!("/heat-pumps/{pump}/lapse"), json!({})).await;
    let (_, body) = world.get(&one).await;
    assert_eq!((&body["is_authenticated"], &body["action_needed"]), (&json!(false), &json!(true)));
    assert_eq!(body["actions"][0]["code"], json!("reauthenticate"));
    assert!(body["authorization_url"].is_string());

    let (id, stale) = cue(&world, &one).await;
    world.clock.advance(Duration::from_hours(1));
    let urls = json!({"successUrl": "https://example.org/ok", "cancelUrl": "https://example.org/no"});
    let resolve = |secret: &str| format!("/cues/{id}/resolve?secret={secret}");
    assert_eq!(world.send_as(&world.token, Method::POST, &resolve(&stale), urls.clone()).await.0, 403);
    let (_, secret) = cue(&world, &one).await;
    let snake = json!({"success_url": "https://example.org/ok", "cancel_url": "https://example.org/no"});
    assert_eq!(world.send_as(&world.token, Method::POST, &resolve(&secret), snake).await.0, 422);
    assert_eq!(world.send_as("nonsense", Method::POST, &resolve(&secret), urls.clone()).await.0, 401);
    let (status, body) = world.send_as(&world.token, Method::POST, &resolve(&secret), urls).await;
    assert_eq!((status, body["redirect_url"].is_string()), (200, true));

    let state = format!("{}/api/partners/v2.0/cues/{id}/state?secret={secret}", world.base);
    let report = async |state_of: &str| {
        answer(world.http.post(&state).json(&json!({"state": state_of})).send().await.expect("an answer")).await
    };
    assert_eq!(report("fail").await.0, 200);
    assert_eq!(world.get(&one).await.1["action_needed"], json!(true));
    assert_eq!(report("success").await.0, 200);
    let (_, body) = world.get(&one).await;
    assert_eq!((&body["actions"], &body["action_needed"]), (&json!([]), &json!(false)));
    assert_eq!((&body["is_authenticated"], &body["authorization_url"]), (&json!(true), &Value::Null));
    assert_eq!(report("success").await.0, 404);
}

#[tokio::test]
async fn a_notice_is_read_once_and_needs_no_act() {
    let world = world().await;
    let user = world.user("ann@example.org").await;
    let pump = world.heat_pump(&user).await;
    let raised =
        world.control(Method::POST, &format!("/heat-pumps/{pump}/actions"), json!({"code": "information"})).await;
    assert_eq!((raised.0, &raised.1["action_needed"]), (201, &json!(false)));
    let url = text(&raised.1["actions"][0]["resolution_link"]["url"]);
    for expected in [200, 404] {
        assert_eq!(world.http.post(&url).send().await.expect("an answer").status(), expected);
    }
}

#[tokio::test]
async fn an_onboarding_session_ends_in_an_authenticated_heat_pump() {
    let world = world().await;
    let user = world.user("ann@example.org").await;
    let (first, _second) = (world.building(&user, "old").await, world.building(&user, "new").await);
    let wanted = json!({"user_id": user, "language": "de", "price_zone_default": "DE_LU", "building_id": first,
        "success_url": "https://example.org/ok", "cancel_url": "https://example.org/no"});
    let (status, body) = world.send_as(&world.token, Method::POST, "/device-onboarding", wanted).await;
    assert_eq!((status, &body["expiration_date"], &body["object_id"]), (200, &json!("2026-10-02"), &Value::Null));
    let id = text(&body["id"]);
    assert!(text(&body["authentication_url"]).ends_with(&format!("?onboarding_session_id={id}")));
    let finished = json!({"manufacturer": "Nibe", "model": "S1255"});
    let (status, pump) = world.control(Method::POST, &format!("/onboarding/{id}/complete"), finished.clone()).await;
    assert_eq!((status, &pump["building"], &pump["price_zone"]), (201, &json!(first), &json!("DE_LU")));
    assert_eq!((&pump["is_authenticated"], &pump["device_model"]["manufacturer"]), (&json!(true), &json!("Nibe")));
    let path = format!("/device-onboarding/{id}");
    assert_eq!(world.send_as(&world.token, Method::GET, &path, json!({})).await.1["object_id"], pump["id"]);
    assert_eq!(world.control(Method::POST, &format!("/onboarding/{id}/complete"), finished).await.0, 409);
}

#[tokio::test]
async fn staff_are_invited_by_mail_and_act_within_their_role() {
    let world = world().await;
    let ann = world.user("ann@example.org").await;
    let staff = json!({"role": "staff", "email": "sam@example.org"});
    let sam = text(&world.send(Method::POST, "/users", staff).await.1["id"]);
    let (_, mails) = world.control(Method::GET, "/mailbox", json!({})).await;
    assert_eq!((&mails[0]["to"], &mails[0]["user_id"]), (&json!("sam@example.org"), &json!(sam)));
    let accept = format!("/invitations/{}/accept", text(&mails[0]["accept_token"]));
    let chosen = json!({"password": "long enough", "terms_accepted": true});
    let (status, body) = world.control(Method::POST, &accept, chosen).await;
    assert_eq!((status, &body["joined_at"]), (200, &json!("2026-10-01T12:00:00Z")));

    let (as_sam, as_ann) = (world.token_of(&sam).await, world.token_of(&ann).await);
    let (of_ann, of_sam) = (world.org(&format!("/users/{ann}")), world.org(&format!("/users/{sam}")));
    let cases = [
        (&as_sam, Method::GET, of_sam.clone(), json!({}), 200),
        (&as_sam, Method::PUT, of_ann.clone(), json!({"first_name": "Ann"}), 200),
        (&as_sam, Method::PUT, of_ann.clone(), json!({"role": "admin"}), 403),
        (&as_sam, Method::PUT, of_sam.clone(), json!({"first_name": "Sam"}), 403),
        (&as_sam, Method::POST, world.org("/users"), json!({"role": "admin", "email": "x@example.org"}), 403),
        (&as_sam, Method::POST, world.org("/users"), json!({"role": "user", "email": "x@example.org"}), 200),
        (&as_ann, Method::GET, of_ann.clone(), json!({}), 200),
        (&as_ann, Method::POST, format!("{of_ann}/buildings"), json!({"name": "mine"}), 403),
        (&as_ann, Method::GET, of_sam.clone(), json!({}), 403),
        (&as_ann, Method::GET, world.org("/users"), json!({}), 403),
        (&as_ann, Method::DELETE, of_ann.clone(), json!({}), 403),
        (&world.token, Method::PUT, of_ann.clone(), json!({"role": "guest"}), 200),
        (&as_ann, Method::GET, of_ann.clone(), json!({}), 403),
        (&world.token, Method::DELETE, format!("{of_ann}?soft_delete=true"), json!({}), 204),
        (&as_ann, Method::GET, of_ann.clone(), json!({}), 401),
    ];
    for (token, method, path, body, expected) in cases {
        let (status, answer) = world.send_as(token, method.clone(), &path, body.clone()).await;
        assert_eq!(status, expected, "{method} {path} {body}: {answer}");
    }
}

/// A cut connection gives the client no answer and acts only when ordered to.
#[tokio::test]
async fn a_cut_connection_acts_only_when_ordered_to() {
    let world = world().await;
    let wanted = |email: &str| json!({"role": "user", "email": email});
    for (kind, users_after) in [("drop_before", 0), ("drop_after", 1)] {
        world.fault(json!({"operation": "create_user", "kind": kind, "times": 1})).await;
        let request = world.request(Method::POST, &world.org("/users"), &world.token);
        let outcome = request.json(&wanted("ann@example.org")).send().await;
        let error = outcome.expect_err("the client must see an error, not a status");
        assert!(error.is_request() && error.status().is_none(), "{kind}: {error:?}");
        assert_eq!(world.user_count().await, users_after, "{kind}");
    }
    let (_, log) = world.control(Method::GET, "/requests", json!({})).await;
    let log = log.as_array().expect("a list");
    let cut: Vec<_> = log.iter().filter(|entry| entry["status"].is_null()).map(|entry| &entry["fault"]).collect();
    assert_eq!(cut, ["drop_before", "drop_after"]);
    assert_eq!(world.get("/users").await.0, 200, "later calls are answered");
}

#[tokio::test]
async fn an_answer_may_be_half_or_cut_in_the_middle_and_both_were_acted_on() {
    let world = world().await;
    for (kind, is_whole) in [("half", true), ("cut", false)] {
        world.fault(json!({"operation": "create_user", "kind": kind, "times": 1})).await;
        let request = world.request(Method::POST, &world.org("/users"), &world.token);
        let wanted = json!({"role": "user", "email": format!("{kind}@example.org")});
        let response = request.json(&wanted).send().await.expect("a status");
        assert_eq!(response.status(), 200, "{kind}");
        let body = response.bytes().await;
        assert_eq!(body.is_ok(), is_whole, "{kind}: {body:?}");
        if let Ok(body) = body {
            assert!(body.starts_with(b"{") && serde_json::from_slice::<Value>(&body).is_err(), "{body:?}");
        }
    }
    assert_eq!(world.user_count().await, 2);
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_the_next_one_is_not() {
    let world = world().await;
    assert_eq!(world.get("/users").await.0, 200);
    assert_eq!(world.control(Method::DELETE, "/tokens", json!({})).await.0, 204);
    assert_eq!(world.get("/users").await.0, 401);
    let (_, token) = world.ask_token("sandbox-secret", json!({"grant_type": "client_credentials"})).await;
    let token = token["access_token"].as_str().expect("a token").to_owned();
    let request = world.request(Method::GET, &world.org("/users"), &token);
    assert_eq!(request.send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn a_wish_may_be_written_as_a_date() {
    let world = world().await;
    let rule = json!({"operation": "*", "kind": "status", "status": 503, "retry_after": 60, "retry_after_date": true});
    world.fault(rule).await;
    let response = world.request(Method::GET, &world.org("/users"), &world.token).send().await.expect("an answer");
    // The clock stands still at noon, on a whole second.
    let date = response.headers()["retry-after"].to_str().expect("text");
    assert_eq!(date, "Thu, 01 Oct 2026 12:01:00 GMT");
}

#[tokio::test]
async fn a_status_does_not_act_and_garbage_does() {
    let world = world().await;
    let user = json!({"role": "user", "email": "ann@example.org"});
    world.fault(json!({"operation": "*", "kind": "status", "status": 429, "retry_after": 7, "times": 1})).await;
    let request = world.request(Method::POST, &world.org("/users"), &world.token).json(&user);
    let response = request.send().await.expect("an answer");
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &"7".parse().expect("valid")));
    assert_eq!(world.user_count().await, 0);

    world.fault(json!({"operation": "create_user", "kind": "garbage"})).await;
    let request = world.request(Method::POST, &world.org("/users"), &world.token).json(&user);
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    assert!(response.text().await.expect("a body").contains("<html>"));
    assert_eq!(world.user_count().await, 1);

    world.fault(json!({"operation": "token", "kind": "status", "status": 503})).await;
    assert_eq!(world.ask_token("sandbox-secret", json!({"grant_type": "client_credentials"})).await.0, 503);
    let (_, rules) = world.control(Method::GET, "/faults", json!({})).await;
    assert_eq!(rules.as_array().map(Vec::len), Some(2));
    world.control(Method::DELETE, "/faults", json!({})).await;
    assert_eq!(world.ask_token("sandbox-secret", json!({"grant_type": "client_credentials"})).await.0, 200);
}

#[tokio::test]
async fn a_late_answer_was_acted_on_although_the_client_gave_up() {
    let world = world().await;
    world.fault(json!({"operation": "create_user", "kind": "latency", "latency_ms": 60_000, "times": 1})).await;
    let request = world.request(Method::POST, &world.org("/users"), &world.token).timeout(Duration::from_millis(200));
    let outcome = request.json(&json!({"role": "user", "email": "ann@example.org"})).send().await;
    assert!(outcome.expect_err("too late").is_timeout());
    assert_eq!(world.user_count().await, 1);
}

#[tokio::test]
async fn a_slow_call_is_acted_on_after_the_client_gave_up() {
    let world = world().await;
    world.fault(json!({"operation": "create_user", "kind": "slow", "latency_ms": 1_000, "times": 1})).await;
    let request = world.request(Method::POST, &world.org("/users"), &world.token).timeout(Duration::from_millis(200));
    let outcome = request.json(&json!({"role": "user", "email": "ann@example.org"})).send().await;
    assert!(outcome.expect_err("too late").is_timeout());
    assert_eq!(world.user_count().await, 0, "not yet");
    while world.user_count().await == 0 {
        podero_bridge::pump::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn idempotency_keys_are_logged_and_honoured_only_when_switched() {
    let world = world().await;
    let user = world.user("ann@example.org").await;
    let path = world.org(&format!("/users/{user}/buildings"));
    let post = async || {
        let request = world.request(Method::POST, &path, &world.token).header("Idempotency-Key", "k1");
        text(&answer(request.json(&json!({"name": "h"})).send().await.expect("an answer")).await.1["id"])
    };
    assert_ne!(post().await, post().await);
    world.switch(json!({"honour_idempotency_keys": true})).await;
    assert_eq!(post().await, post().await);
    let (_, log) = world.control(Method::GET, "/requests", json!({})).await;
    let last = log.as_array().and_then(|log| log.last()).expect("an entry");
    assert_eq!((&last["operation"], &last["idempotency_key"]), (&json!("create_building"), &json!("k1")));
    assert_eq!((&last["method"], &last["path"]), (&json!("POST"), &json!(format!("/api/partners/v2.0{path}"))));
    let numbers = async |path: &str| {
        let (_, log) = world.control(Method::GET, path, json!({})).await;
        log.as_array().expect("requests").iter().map(|request| request["number"].as_u64()).collect::<Vec<_>>()
    };
    let all = numbers("/requests").await;
    assert_eq!(all, (1..=all.len() as u64).map(Some).collect::<Vec<_>>());
    assert_eq!(numbers("/requests?after=1").await, all[1..]);
    world.control(Method::DELETE, "/requests", json!({})).await;
    assert_eq!(world.control(Method::GET, "/requests", json!({})).await.1, json!([]));
}

#[tokio::test]
async fn contradicting_shapes_can_be_switched_on() {
    let world = world().await;
    let user = world.user("ann@example.org").await;
    let pump = world.heat_pump(&user).await;
    world.control(Method::POST, &format!("/heat-pumps/{pump}/lapse"), json!({})).await;
    let variants = json!({"zip_code_as_integer": true, "country_field": "country_iso2", "older_user_shape": true,
        "actions_in_list": true, "resolution_link_as_text": true});
    world.switch(variants).await;
    let change = json!({"zip_code": "01067", "country": "DE", "country_iso2": "AT"});
    let (_, body) = world.send(Method::PUT, &format!("/users/{user}"), change).await;
    assert_eq!((&body["zip_code"], &body["country_iso2"], body.get("country")), (&json!(1067), &json!("AT"), None));
    assert_eq!((body.get("num_heat_pumps"), body.get("organization_id")), (None, None));
    assert_eq!(body["location_last_updated"], json!("2026-10-01T12:00:00Z"));
    let (_, pumps) = world.get(&format!("/users/{user}/heat-pumps")).await;
    assert!(pumps[0]["actions"][0]["resolution_link"].is_string());

    world.switch(json!({"list_envelope": true})).await;
    for i in 0..60 {
        world.user(&format!("u{i}@example.org")).await;
    }
    let (_, page) = world.get("/users").await;
    assert_eq!((&page["total"], page["items"].as_array().map(Vec::len)), (&json!(61), Some(50)));
    let (_, page) = world.get("/users?limit=200&offset=50").await;
    assert_eq!(page["items"].as_array().map(Vec::len), Some(11));

    let session = format!("/users/{user}/heat-pumps/{pump}/auth_session");
    assert_eq!(world.send(Method::POST, &session, json!({})).await.0, 404);
    world
        .switch(json!({"auth_session_supported": true, "include_deleted_ignored": true, "soft_delete_ignored": true}))
        .await;
    assert_eq!(world.send(Method::POST, &session, json!({})).await.1["device_id"], json!(pump));
    world.send(Method::DELETE, &format!("/users/{user}?soft_delete=true"), json!({})).await;
    let (_, state) = world.control(Method::GET, "/state", json!({})).await;
    assert_eq!((state["users"].as_array().map(Vec::len), &state["heat_pumps"]), (Some(60), &json!([])));
    assert_eq!(world.control(Method::PATCH, "/variants", json!({"no_such": 1})).await.0, 422);
    assert_eq!(world.control(Method::PATCH, "/variants", json!({"created_status": 404})).await.0, 422);
}

#[tokio::test]
async fn ids_repeat_with_a_seed() {
    let (a, b) = (world().await, world().await);
    b.fresh_token().await;
    assert_eq!(a.user("ann@example.org").await, b.user("ann@example.org").await);
    let other = world_with(SandboxSettings { seed: Some(8), ..SandboxSettings::default() }).await;
    assert_ne!(a.user("bob@example.org").await, other.user("bob@example.org").await);
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_refused() {
    let world = world().await;
    let request = world.request(Method::POST, &world.org("/users"), &world.token);
    let outcome = request.body(vec![b' '; podero_bridge::sandbox::BODY_BYTES_MAX + 1]).send().await;
    assert_eq!(outcome.expect("an answer").status(), 413);
}
