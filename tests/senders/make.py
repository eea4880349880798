#!/usr/bin/env python3
"""Makes the deliveries beside this file, with libraries of others: the official CloudEvents SDK, the library of
Standard Webhooks, and those of Stripe, Slack and Svix. Not part of the tests, which only read what it wrote:

    python3 -m venv venv
    venv/bin/pip install cloudevents==2.2.0 standardwebhooks==1.1.0 stripe==16.1.0 slack_sdk==3.48.0 svix==2.9.1
    venv/bin/python tests/senders/make.py
"""

import base64
import json
from datetime import datetime, timezone
from pathlib import Path

from cloudevents.core.bindings import amqp, http, rabbitmq
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from slack_sdk.signature import SignatureVerifier
from standardwebhooks.webhooks import Webhook
from stripe import WebhookSignature
from svix.webhooks import Webhook as SvixWebhook

HERE = Path(__file__).parent


def event(identity, customer):
    data = {
        "customer_id": customer,
        "email": f"{customer.lower()}@example.com",
        "last_name": "Müller",
        "address": {"street_and_number": "Gasse 1", "zip_code": "01067", "town": "Dresden", "country": "DE"},
    }
    attributes = {
        "id": identity,
        "source": "/billing/ü",
        "type": "customer.signed_up",
        "subject": customer,
        "time": datetime(2026, 10, 1, 12, 0, 0, tzinfo=timezone.utc),
        "datacontenttype": "application/json",
        "sequence": "000042",
        "partitionkey": customer,
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    return CloudEvent(attributes=attributes, data=data)


def text(body):
    return body.decode() if isinstance(body, bytes) else body


def cloudevents():
    form = JSONFormat()
    made = []

    def add(door, name, content_type, headers, body):
        headers = {key: value for key, value in headers.items() if key.lower() != "content-type"}
        made.append({"door": door, "name": name, "content_type": content_type, "headers": headers, "body": text(body)})

    def content_type_of(message):
        return next(value for key, value in message.headers.items() if key.lower() == "content-type")

    binary = http.to_binary(event("sdk-1", "C-1"), form)
    add("webhook", "HTTP binary", content_type_of(binary), binary.headers, binary.body)
    structured = http.to_structured(event("sdk-2", "C-2"), form)
    add("webhook", "HTTP structured", content_type_of(structured), structured.headers, structured.body)
    binary = rabbitmq.to_binary(event("sdk-3", "C-3"), form)
    add("amqp", "RabbitMQ binary", binary.content_type, binary.headers, binary.body)
    structured = rabbitmq.to_structured(event("sdk-4", "C-4"), form)
    add("amqp", "RabbitMQ structured", structured.content_type, structured.headers, structured.body)
    binary = amqp.to_binary(event("sdk-5", "C-5"), form)
    properties = {key: str(value) for key, value in binary.application_properties.items()}
    properties["cloudEvents_time"] = "2026-10-01T12:00:00Z"
    add("amqp", "AMQP 1.0 binary", binary.properties["content-type"], properties, binary.application_data)
    return made


def standard_webhooks():
    secret = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    other = "whsec_" + base64.b64encode(bytes(range(1, 33))).decode()
    now = 1_790_000_000
    body = '{"hello":"wörld"}'

    def signed(key, identity, seconds, content):
        return Webhook(key).sign(identity, datetime.fromtimestamp(seconds, tz=timezone.utc), content)

    made = []

    def add(name, passes, signature, identity="msg_1", seconds=now, content=body):
        headers = {"webhook-id": identity, "webhook-timestamp": str(seconds), "webhook-signature": signature}
        made.append({"name": name, "passes": passes, "headers": headers, "body": content})

    good = signed(secret, "msg_1", now, body)
    add("signed", True, good)
    add("signed twice, with a key that is unknown and with one that is known", True, signed(other, "msg_1", now, body) + " " + good)
    add("stale timestamp", False, signed(secret, "msg_1", now - 301, body), seconds=now - 301)
    add("timestamp ahead", False, signed(secret, "msg_1", now + 301, body), seconds=now + 301)
    add("wrong secret", False, signed(other, "msg_1", now, body))
    add("altered body", False, good, content='{"hello":"world"}')
    add("altered id", False, good, identity="msg_2")
    add("altered timestamp", False, good, seconds=now + 1)
    add("wrong version", False, good.replace("v1,", "v2,"))
    return {"secret": secret, "now": now, "deliveries": made}


def presets():
    """Signatures by the senders' own libraries, for the presets of the documents."""
    now = 1_790_000_000
    body = '{"hello":"wörld"}'
    made = []

    def add(preset, secret, headers):
        made.append({"preset": preset, "secret": secret, "now": now, "headers": headers, "body": body})

    secret = "whsec_a_secret_of_an_endpoint"
    signature = WebhookSignature._compute_signature(f"{now}.{body}", secret)
    add("Stripe", secret, {"stripe-signature": f"t={now},v1={signature}"})
    secret = "0123456789abcdef0123456789abcdef"
    signature = SignatureVerifier(secret).generate_signature(timestamp=str(now), body=body)
    add("Slack", secret, {"x-slack-request-timestamp": str(now), "x-slack-signature": signature})
    secret = "whsec_" + base64.b64encode(bytes(range(24))).decode()
    signature = SvixWebhook(secret).sign("msg_1", datetime.fromtimestamp(now, tz=timezone.utc), body)
    add("Svix", secret, {"svix-id": "msg_1", "svix-timestamp": str(now), "svix-signature": signature})
    return made


for name, content in [
    ("cloudevents", cloudevents()),
    ("standard_webhooks", standard_webhooks()),
    ("presets", presets()),
]:
    (HERE / f"{name}.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
