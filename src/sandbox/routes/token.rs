//! The token endpoint: OAuth2 client credentials (`partner-api/getting-started/get-access-token`).
//!
//! Its errors are not documented; they are RFC 6749 §5.2's. It must never tell which half of the credentials was wrong.
//!
//! Before: [`crate::sandbox::routes`]. After: [`crate::sandbox::access`].

use std::collections::HashMap;

use actix_web::web::Query;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::call::ApiCall;
use crate::sandbox::access::SandboxActor;
use crate::sandbox::answer::SandboxAnswer;
use crate::sandbox::embedded::{Sandbox, State};

pub(super) fn issue(sandbox: &Sandbox, state: &mut State, call: &ApiCall<'_>) -> SandboxAnswer {
    if grant_type(call).as_deref() != Some("client_credentials") {
        return SandboxAnswer::json(400, &json!({"error": "unsupported_grant_type"}));
    }
    let account = sandbox.account();
    let expected = format!("{}:{}", account.client_id, account.client_secret);
    let given = call.credentials("basic").and_then(|text| STANDARD.decode(text).ok());
    if given.as_deref() != Some(expected.as_bytes()) {
        return SandboxAnswer::json(401, &json!({"error": "invalid_client"}));
    }
    SandboxAnswer::ok(&grant(sandbox, state, SandboxActor::Client, call))
}

/// A token for an actor, in the form in which the endpoint answers.
pub(super) fn grant(sandbox: &Sandbox, state: &mut State, actor: SandboxActor, call: &ApiCall<'_>) -> Value {
    let text = state.world.fresh_token();
    let lifetime = sandbox.token_lifetime();
    state.tokens.issue(text.clone(), actor, call.now, lifetime);
    json!({
        "access_token": text,
        "expires_in": lifetime.as_secs(),
        "token_type": "Bearer",
        "scope": "read write",
    })
}

/// The grant type, in JSON (as documented) or form encoding (as in RFC 6749).
fn grant_type(call: &ApiCall<'_>) -> Option<String> {
    if let Ok(body) = call.json() {
        return body.get("grant_type").and_then(Value::as_str).map(str::to_owned);
    }
    let text = std::str::from_utf8(call.body()).ok()?;
    Query::<HashMap<String, String>>::from_query(text).ok()?.remove("grant_type")
}
