//! What the bridge says of its SCIM: what it can do, the types of resources, and their schemas (RFC 7643 §5 to §7).
//!
//! `emails` is published as required, since a member is invited by an address; a `userName` that is an address will do. `active` is
//! published as required, since a user always has it.
//!
//! Before: nothing. After: [`crate::inbound`] answers it.

use serde_json::{Value, json};

use super::reply::{PAGE_MAX, list_json};
use super::terms::{BRIDGE_SCHEMA, GROUP_SCHEMA, SCIM_PATH, USER_SCHEMA};

/// `ServiceProviderConfig`.
pub fn service_provider_config() -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"],
        "patch": {"supported": true},
        "bulk": {"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": true, "maxResults": PAGE_MAX},
        "changePassword": {"supported": false},
        "sort": {"supported": false},
        "etag": {"supported": false},
        "authenticationSchemes": [{
            "type": "oauthbearertoken",
            "name": "Bearer token",
            "description": "A token of [[scim.token]] in the bridge's configuration",
            "primary": true,
        }],
        "meta": {
            "resourceType": "ServiceProviderConfig",
            "location": format!("{SCIM_PATH}/ServiceProviderConfig"),
        },
    })
}

/// `ResourceTypes`.
pub fn resource_types() -> Value {
    let all: Vec<Value> = ["User", "Group"].into_iter().filter_map(resource_type).collect();
    list_json(all.len(), 1, all)
}

/// One of `ResourceTypes`; `None`: there is none of this name.
pub fn resource_type(name: &str) -> Option<Value> {
    let (endpoint, schema, description) = match name {
        "User" => ("/Users", USER_SCHEMA, "A member of the team at Podero"),
        "Group" => ("/Groups", GROUP_SCHEMA, "Those who have a role at Podero"),
        _ => return None,
    };
    let mut shown = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
        "id": name,
        "name": name,
        "endpoint": endpoint,
        "description": description,
        "schema": schema,
        "meta": {"resourceType": "ResourceType", "location": format!("{SCIM_PATH}/ResourceTypes/{name}")},
    });
    if schema == USER_SCHEMA {
        shown["schemaExtensions"] = json!([{"schema": BRIDGE_SCHEMA, "required": false}]);
    }
    Some(shown)
}

/// `Schemas`.
pub fn schemas() -> Value {
    let all: Vec<Value> = [USER_SCHEMA, GROUP_SCHEMA, BRIDGE_SCHEMA].into_iter().filter_map(schema).collect();
    list_json(all.len(), 1, all)
}

/// One of `Schemas`; `None`: there is none of this name.
pub fn schema(urn: &str) -> Option<Value> {
    let (urn, name, description, attributes) = match urn {
        _ if urn.eq_ignore_ascii_case(USER_SCHEMA) => (USER_SCHEMA, "User", "A member of the team", of_user()),
        _ if urn.eq_ignore_ascii_case(GROUP_SCHEMA) => (GROUP_SCHEMA, "Group", "A role", of_group()),
        _ if urn.eq_ignore_ascii_case(BRIDGE_SCHEMA) => {
            (BRIDGE_SCHEMA, "BridgeUser", "How far the bridge has come with it", of_bridge())
        }
        _ => return None,
    };
    Some(json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
        "id": urn,
        "name": name,
        "description": description,
        "attributes": attributes,
        "meta": {"resourceType": "Schema", "location": format!("{SCIM_PATH}/Schemas/{urn}")},
    }))
}

/// An attribute of one text that clients write.
fn text(name: &str, description: &str) -> Value {
    json!({
        "name": name,
        "type": "string",
        "multiValued": false,
        "description": description,
        "required": false,
        "caseExact": false,
        "mutability": "readWrite",
        "returned": "default",
        "uniqueness": "none",
    })
}

fn with(mut attribute: Value, changes: &[(&str, Value)]) -> Value {
    for (name, value) in changes {
        attribute[*name] = value.clone();
    }
    attribute
}

fn flag(name: &str, description: &str) -> Value {
    let mut flag = with(text(name, description), &[("type", json!("boolean"))]);
    if let Some(parts) = flag.as_object_mut() {
        parts.remove("caseExact");
    }
    flag
}

fn complex(name: &str, description: &str, is_multiple: bool, parts: Value) -> Value {
    json!({
        "name": name,
        "type": "complex",
        "multiValued": is_multiple,
        "description": description,
        "required": false,
        "mutability": "readWrite",
        "returned": "default",
        "uniqueness": "none",
        "subAttributes": parts,
    })
}

fn read_only(attribute: Value) -> Value {
    with(attribute, &[("mutability", json!("readOnly"))])
}

fn reference(name: &str, description: &str, of: &str) -> Value {
    let changes = [("type", json!("reference")), ("referenceTypes", json!([of])), ("caseExact", json!(true))];
    with(text(name, description), &changes)
}

/// The parts of a value among several.
fn values(what: &str) -> Value {
    json!([
        with(text("value", what), &[("required", json!(true))]),
        text("type", "Its kind, such as `work`"),
        flag("primary", "True for the one that counts"),
        text("display", "A name for people"),
    ])
}

fn of_user() -> Value {
    let required = ("required", json!(true));
    let name = json!([text("givenName", "The first name"), text("familyName", "The last name")]);
    let group = json!([
        read_only(text("value", "The id of the group")),
        read_only(reference("$ref", "Its address", "Group")),
        read_only(text("display", "Its name")),
    ]);
    json!([
        with(
            text("userName", "The name at the identity provider"),
            &[required.clone(), ("uniqueness", json!("server"))]
        ),
        complex("name", "The name of the person", false, name),
        text("displayName", "The name for people; kept, and not sent to Podero"),
        with(flag("active", "False takes the access at Podero away"), std::slice::from_ref(&required)),
        with(complex("emails", "The addresses; the primary one is invited", true, values("The address")), &[required],),
        complex("roles", "`staff` or `admin`, if scim.role_from is `roles`", true, values("The role")),
        read_only(complex("groups", "The groups", true, group)),
        with(
            text("password", "Passed over, and kept nowhere"),
            &[("mutability", json!("writeOnly")), ("returned", json!("never"))],
        ),
    ])
}

fn of_group() -> Value {
    let immutable = |attribute: Value| with(attribute, &[("mutability", json!("immutable"))]);
    let member = json!([
        immutable(with(text("value", "The id of the user"), &[("required", json!(true))])),
        immutable(reference("$ref", "Its address", "User")),
        immutable(text("type", "Always `User`")),
        read_only(text("display", "Its userName")),
    ]);
    json!([
        with(
            read_only(text("displayName", "`staff` or `admin`")),
            &[("required", json!(true)), ("uniqueness", json!("server"))]
        ),
        complex("members", "The users who have the role", true, member),
    ])
}

fn of_bridge() -> Value {
    json!([
        read_only(text("state", "`settled`, `pending`, `needs_approval` or `refused`")),
        read_only(text("reason", "The reason for which an event waits for a person")),
    ])
}
