//! Documents about the bridge's interfaces, for machines: JSON Schemas of every event in and out, OpenAPI 3.1 of both HTTP
//! listeners, AsyncAPI 3.0 of the bus.
//!
//! The schemas of the admin API are derived from the types that it reads and writes. Those of events are made from the tables
//! by which events are read (fields, limits, allowed values, problems, topics), since the reader tolerates more than one type
//! can say. The tests hold both against what the program does. Pure: it makes values, and neither serves nor checks anything.
//!
//! Before: the types of [`crate::admin`] and [`crate::store`], the tables of [`crate::domain`] and [`crate::inbound`].
//! After: [`crate::app`] hands the documents to the listeners, and `docs/` has copies of them.

mod admin;
mod answers;
mod bus;
mod events;
mod notices;
mod schemas;
mod webhook;

use serde_json::{Value, json};

pub use admin::document as admin;
pub use bus::document as bus;
pub use webhook::document as webhook;

use crate::sandbox;

/// The dialect of every schema here, and of OpenAPI 3.1.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Every document, with the path below `docs/` where its copy stands.
pub fn documents() -> Vec<(String, Value)> {
    let mut documents = vec![
        ("openapi/door.json".to_owned(), webhook()),
        ("openapi/operator.json".to_owned(), admin()),
        ("openapi/sandbox.json".to_owned(), sandbox::openapi()),
        ("asyncapi.json".to_owned(), bus()),
    ];
    let schemas = events::schemas().into_iter().chain(notices::schemas());
    documents.extend(schemas.map(|(name, schema)| (format!("schemas/{name}.json"), alone(name, schema))));
    documents
}

/// A schema as a document of its own.
fn alone(name: &str, mut schema: Value) -> Value {
    schema["$schema"] = json!(DIALECT);
    schema["$id"] = json!(format!("urn:podero-bridge:schema:{name}"));
    schema
}
