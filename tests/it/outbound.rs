//! The way out by signed webhook: what a receiver sees, and what happens when it does not want it.

use std::sync::{Arc, Mutex};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::world::{Database, Settings, World, sign_up, until};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A request as the receiver got it.
#[derive(Clone)]
struct Got {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Answers 500 to the first request and 204 to the others.
fn receiver() -> (String, Arc<Mutex<Vec<Got>>>) {
    let got: Arc<Mutex<Vec<Got>>> = Arc::default();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
    let kept = got.clone();
    let server = HttpServer::new(move || {
        let kept = kept.clone();
        App::new().default_service(web::to(move |request: HttpRequest, body: web::Bytes| {
            let kept = kept.clone();
            async move {
                let headers = request.headers().iter();
                let text = |value: &actix_web::http::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
                let headers = headers.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
                let mut kept = kept.lock().expect("nobody panicked over it");
                kept.push(Got { headers, body: body.to_vec() });
                if kept.len() == 1 { HttpResponse::InternalServerError() } else { HttpResponse::NoContent() }.finish()
            }
        }))
    });
    tokio::spawn(server.workers(1).disable_signals().listen(listener).expect("listens").run());
    (url, got)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_gets_signed_events_and_a_refused_one_again_under_its_id() {
    let (url, got) = receiver();
    let settings = Settings {
        toml: "[watch]\nenabled = false\n".into(),
        environment: vec![("OUTBOUND__WEBHOOK_URL", url), ("OUTBOUND__WEBHOOK_SECRET", SECRET.into())],
    };
    let world = World::start(Database::Sqlite, settings).await;
    world.apply(&sign_up("e1", "C-1", "2026-10-01T12:00:00Z")).await;
    let got = until("the receiver has it twice", async || {
        let got = got.lock().expect("nobody panicked over it").clone();
        (got.len() == 2).then_some(got)
    })
    .await;
    let header = |got: &Got, name: &str| {
        got.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    for got in &got {
        // The published library is the judge.
        let timestamp: i64 = header(got, "webhook-timestamp").parse().expect("a number");
        let judge = Webhook::new(SECRET).expect("valid");
        let expected = judge.sign(&header(got, "webhook-id"), timestamp, &got.body).expect("text");
        assert_eq!(header(got, "webhook-signature"), expected);
        assert_eq!(header(got, "content-type"), "application/cloudevents+json");
        assert_eq!(header(got, "accept-encoding"), "identity");
        let event: Value = serde_json::from_slice(&got.body).expect("JSON");
        assert_eq!(event["type"], "customer.provisioned");
        assert_eq!(event["id"], json!(header(got, "webhook-id")));
    }
    assert_eq!(got[0].body, got[1].body, "the same event under the same id");
    until("the outbox is empty", async || {
        let customer = world.get(&world.operator("/v1/customers/C-1")).await;
        let notice = &customer["notices"][0];
        (notice["state"] == "published" && notice["failures"] == 1).then_some(())
    })
    .await;
    world.bridge.stop().await;
}
