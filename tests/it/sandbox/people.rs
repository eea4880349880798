//! Staff and admins: the invitation in the mailbox, the password and the terms, the login; and what becomes of the deleted.

use reqwest::Method;
use serde_json::{Value, json};

use super::{SandboxWorld, text, world};

const PASSWORD: &str = "correct horse";

async fn invited(world: &SandboxWorld, role: &str, email: &str) -> (String, String) {
    let body = json!({"role": role, "email": email, "first_name": "Samira", "last_name": "Muster"});
    let (status, user) = world.send(Method::POST, "/users", body).await;
    assert_eq!((status, &user["joined_at"], &user["last_login"]), (200, &Value::Null, &Value::Null));
    let (_, mails) = world.control(Method::GET, "/mailbox", json!({})).await;
    let mail = mails.as_array().and_then(|mails| mails.last()).expect("a mail").clone();
    assert_eq!((&mail["to"], &mail["kind"], &mail["user_id"]), (&json!(email), &json!("invitation"), &user["id"]));
    (text(&user["id"]), text(&mail["accept_token"]))
}

async fn accept(world: &SandboxWorld, token: &str, body: Value) -> (u16, Value) {
    world.control(Method::POST, &format!("/invitations/{token}/accept"), body).await
}

async fn log_in(world: &SandboxWorld, email: &str, password: &str) -> (u16, Value) {
    world.control(Method::POST, "/login", json!({"email": email, "password": password})).await
}

fn problems(body: &Value) -> Vec<(String, String)> {
    let problems = body["detail"].as_array().expect("a list").iter();
    problems.map(|problem| (text(&problem["loc"][2]), text(&problem["type"]))).collect()
}

#[tokio::test]
async fn an_invitation_is_accepted_once_with_a_strong_password_and_the_terms() {
    let world = world().await;
    for (role, email) in [("staff", "sam.muster@example.org"), ("admin", "ada@example.org")] {
        let (_, token) = invited(&world, role, email).await;
        let cases = [
            (json!({}), vec![("password", "missing"), ("terms_accepted", "missing")]),
            (json!({"password": "", "terms_accepted": true}), vec![("password", "string_too_short")]),
            (json!({"password": "short", "terms_accepted": true}), vec![("password", "string_too_short")]),
            (json!({"password": "1234567890", "terms_accepted": true}), vec![("password", "value_error")]),
            (json!({"password": "Password123", "terms_accepted": true}), vec![("password", "value_error")]),
            (json!({"password": "samira-forever", "terms_accepted": true}), vec![("password", "value_error")]),
            (json!({"password": PASSWORD}), vec![("terms_accepted", "missing")]),
            (json!({"password": PASSWORD, "terms_accepted": false}), vec![("terms_accepted", "value_error")]),
            (json!({"password": PASSWORD, "terms_accepted": "yes"}), vec![("terms_accepted", "bool_type")]),
        ];
        for (body, expected) in cases {
            let (status, answer) = accept(&world, &token, body.clone()).await;
            let expected: Vec<_> =
                expected.iter().map(|(field, kind)| ((*field).to_owned(), (*kind).to_owned())).collect();
            assert_eq!((status, problems(&answer)), (422, expected), "{body}");
            assert!(!answer.to_string().contains("samira-forever"), "a password is not repeated");
        }
        assert_eq!(log_in(&world, email, PASSWORD).await.0, 401, "not before they accepted");
        let chosen = json!({"password": PASSWORD, "terms_accepted": true});
        let (status, user) = accept(&world, &token, chosen.clone()).await;
        let times = (&user["joined_at"], &user["last_login"]);
        assert_eq!((status, times), (200, (&json!("2026-10-01T12:00:00Z"), &Value::Null)));
        assert_eq!(accept(&world, &token, chosen).await.0, 409);
    }
    let chosen = json!({"password": PASSWORD, "terms_accepted": true});
    assert_eq!(accept(&world, "no-such-token", chosen).await.0, 404);
    let (_, state) = world.control(Method::GET, "/state", json!({})).await;
    assert!(!state.to_string().contains("password"), "{state}");
}

#[tokio::test]
async fn an_end_user_is_not_invited_and_cannot_log_in() {
    let world = world().await;
    world.user("ann@example.org").await;
    assert_eq!(world.control(Method::GET, "/mailbox", json!({})).await.1, json!([]));
    assert_eq!(log_in(&world, "ann@example.org", "").await.0, 401);
}

#[tokio::test]
async fn a_login_gives_a_token_of_the_person_and_moves_their_last_login() {
    let mut world = world().await;
    let (sam, token) = invited(&world, "staff", "sam@example.org").await;
    assert_eq!(accept(&world, &token, json!({"password": PASSWORD, "terms_accepted": true})).await.0, 200);
    for (email, password) in [("sam@example.org", "correct horses"), ("nobody@example.org", PASSWORD)] {
        assert_eq!(log_in(&world, email, password).await, (401, json!({"detail": "Unauthorized"})));
    }
    world.clock.advance(std::time::Duration::from_hours(24));
    world.token = world.fresh_token().await;
    let (status, granted) = log_in(&world, "SAM@example.org", PASSWORD).await;
    assert_eq!((status, &granted["token_type"], &granted["expires_in"]), (200, &json!("Bearer"), &json!(36_000)));
    let (_, user) = world.get(&format!("/users/{sam}")).await;
    let times = (&user["joined_at"], &user["last_login"]);
    assert_eq!(times, (&json!("2026-10-01T12:00:00Z"), &json!("2026-10-02T12:00:00Z")));
    // They act as what they are.
    let as_sam = text(&granted["access_token"]);
    let body = json!({"role": "staff", "email": "second@example.org"});
    assert_eq!(world.send_as(&as_sam, Method::POST, &world.org("/users"), body).await.0, 403);
    assert_eq!(world.send_as(&as_sam, Method::GET, &world.org("/users"), json!({})).await.0, 200);
    assert_eq!(world.control(Method::POST, "/tokens", json!({"user_id": sam})).await.0, 201);

    // Deleted softly they are out at once, and stay out.
    assert_eq!(world.send(Method::DELETE, &format!("/users/{sam}?soft_delete=true"), json!({})).await.0, 204);
    assert_eq!(world.send_as(&as_sam, Method::GET, &world.org("/users"), json!({})).await.0, 401);
    assert_eq!(log_in(&world, "sam@example.org", PASSWORD).await.0, 401);
    assert_eq!(world.control(Method::POST, "/tokens", json!({"user_id": sam})).await.0, 404);
    // A new colleague with the address is another user, invited anew; the old password opens nothing.
    let (again, _) = invited(&world, "staff", "sam@example.org").await;
    assert_ne!(again, sam);
    assert_eq!(log_in(&world, "sam@example.org", PASSWORD).await.0, 401);
}

#[tokio::test]
async fn an_invitation_of_someone_who_was_deleted_leads_nowhere() {
    let world = world().await;
    for query in ["?soft_delete=true", ""] {
        let (sam, token) = invited(&world, "staff", "sam@example.org").await;
        assert_eq!(world.send(Method::DELETE, &format!("/users/{sam}{query}"), json!({})).await.0, 204);
        let chosen = json!({"password": PASSWORD, "terms_accepted": true});
        assert_eq!(accept(&world, &token, chosen).await.0, 404, "{query}");
    }
}

#[tokio::test]
async fn the_address_of_a_deleted_user_is_free_or_taken_as_switched() {
    let world = world().await;
    let wanted = json!({"role": "admin", "email": "ada@example.org"});
    for (is_soft, is_held, expected) in [(true, false, 200), (true, true, 422), (false, true, 200), (false, false, 200)]
    {
        world.switch(json!({"soft_deleted_holds_email": is_held})).await;
        let (status, user) = world.send(Method::POST, "/users", wanted.clone()).await;
        assert_eq!(status, 200, "{user}");
        let id = text(&user["id"]);
        assert_eq!(world.send(Method::DELETE, &format!("/users/{id}?soft_delete={is_soft}"), json!({})).await.0, 204);
        let (status, again) = world.send(Method::POST, "/users", wanted.clone()).await;
        assert_eq!(status, expected, "soft: {is_soft}, held: {is_held}: {again}");
        // Gone for good, whichever of them is left.
        for left in [json!(id), again["id"].clone()].iter().filter_map(Value::as_str) {
            world.send(Method::DELETE, &format!("/users/{left}"), json!({})).await;
        }
        assert_eq!(world.get("/users?include_deleted=true").await.1, json!([]));
    }
}
