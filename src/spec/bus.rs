//! AsyncAPI 3.0 of the bus, in both directions.
//!
//! Before: [`crate::broker`], which lays exchanges and queues so. After: [`crate::spec`].

use serde_json::{Map, Value, json};

use super::answers::info;
use super::{events, notices};
use crate::config::default_of;
use crate::inbound::cloudevents::STRUCTURED;

const DESCRIPTION: &str = "Customer events in, outcomes and alerts out, on RabbitMQ. The names of exchanges and queue are the \
    defaults of the configuration.";

/// AsyncAPI 3.0 of the bus, in both directions.
pub fn document() -> Value {
    let [inbound, queue, outbound] =
        ["amqp.inbound_exchange", "amqp.inbound_queue", "amqp.outbound_exchange"].map(default_of);
    let mut channels = Map::new();
    let mut operations = Map::new();
    let mut messages = Map::new();
    let taking =
        format!("Taken from the quorum queue {queue}; acknowledged once it is on disk, parked if it is no event");
    let taken = json!({"ack": true, "bindingVersion": "0.3.0"});
    for (name, schema) in events::schemas() {
        messages.insert(name.to_owned(), message(name, &schema));
        channels.insert(format!("in.{name}"), channel(name, inbound, "where it is published"));
        operations.insert(format!("take.{name}"), operation("receive", &format!("in.{name}"), name, &taking, &taken));
    }
    let telling = "At least once, with a stable id, which is the property message_id as well; persistent, mandatory";
    let told = json!({"deliveryMode": 2, "mandatory": true, "bindingVersion": "0.3.0"});
    for (name, schema) in notices::schemas() {
        messages.insert(name.to_owned(), message(name, &schema));
        channels.insert(format!("out.{name}"), channel(name, outbound, "bind a queue of your own with this key"));
        operations.insert(format!("tell.{name}"), operation("send", &format!("out.{name}"), name, telling, &told));
    }
    json!({
        "asyncapi": "3.0.0",
        "info": info("podero-bridge: the bus", DESCRIPTION),
        "defaultContentType": STRUCTURED,
        "servers": {"rabbitmq": {"host": "127.0.0.1:5672", "protocol": "amqp", "protocolVersion": "0.9.1"}},
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    })
}

/// The routing key is the type of the event.
fn channel(name: &str, exchange: &str, description: &str) -> Value {
    let exchange = json!({"name": exchange, "type": "topic", "durable": true, "autoDelete": false, "vhost": "/"});
    json!({
        "address": name,
        "description": description,
        "messages": {name: {"$ref": format!("#/components/messages/{name}")}},
        "bindings": {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": "0.3.0"}},
    })
}

fn message(name: &str, schema: &Value) -> Value {
    json!({"name": name, "title": name, "contentType": STRUCTURED, "payload": schema})
}

fn operation(action: &str, channel: &str, name: &str, summary: &str, binding: &Value) -> Value {
    json!({
        "action": action,
        "channel": {"$ref": format!("#/channels/{channel}")},
        "messages": [{"$ref": format!("#/channels/{channel}/messages/{name}")}],
        "summary": summary,
        "bindings": {"amqp": binding},
    })
}
