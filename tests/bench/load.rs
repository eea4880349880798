//! Senders: signed CloudEvents over keep-alive connections, one request in flight on each. Every server gets the same requests,
//! so that their cost is the same for all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use standardwebhooks::Webhook;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Secret of the source and of the senders.
pub(crate) const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// Customers, so that lanes repeat as they do in life.
const CUSTOMERS: u64 = 10_000;

/// Events in a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Single,
    Batch(usize),
}

/// The result of a turn.
pub(crate) struct Outcome {
    /// Events that were answered with success.
    pub(crate) per_second: f64,
    pub(crate) p99: Duration,
}

pub(crate) struct Load {
    shape: Shape,
    made: AtomicU64,
    webhook: Webhook,
}

impl Load {
    pub(crate) fn new(shape: Shape) -> Self {
        Self { shape, made: AtomicU64::new(0), webhook: Webhook::new(SECRET).expect("a good secret") }
    }

    /// Sends for a turn; what is answered in the warm-up does not count.
    pub(crate) async fn run(
        &self,
        address: &str,
        connections: usize,
        warm_up: Duration,
        turn: Duration,
    ) -> anyhow::Result<Outcome> {
        let began = Instant::now() + warm_up;
        let end = began + turn;
        let senders = (0..connections).map(|_| self.sender(address, began, end));
        let mut times: Vec<Duration> = futures_util::future::try_join_all(senders).await?.concat();
        anyhow::ensure!(!times.is_empty(), "nothing was answered");
        times.sort_unstable();
        let events = match self.shape {
            Shape::Single => times.len(),
            Shape::Batch(events) => times.len() * events,
        };
        #[expect(clippy::cast_precision_loss, reason = "a few millions")]
        let per_second = events as f64 / turn.as_secs_f64();
        Ok(Outcome { per_second, p99: times[times.len() * 99 / 100] })
    }

    /// The times of the answers that came in the turn.
    async fn sender(&self, address: &str, began: Instant, end: Instant) -> anyhow::Result<Vec<Duration>> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut times = Vec::new();
        let mut answer = Vec::with_capacity(16 << 10);
        while Instant::now() < end {
            let request = self.request();
            let sent = Instant::now();
            stream.write_all(&request).await?;
            read_answer(&mut stream, &mut answer).await?;
            if !answer.starts_with(b"HTTP/1.1 20") {
                bail!("an answer that is no success: {}", String::from_utf8_lossy(&answer));
            }
            if sent >= began && Instant::now() < end {
                times.push(sent.elapsed());
            }
        }
        Ok(times)
    }

    fn request(&self) -> Vec<u8> {
        match self.shape {
            Shape::Single => request(&self.webhook, "application/cloudevents+json", &self.event()),
            Shape::Batch(events) => {
                let events: Vec<String> = (0..events).map(|_| self.event()).collect();
                request(&self.webhook, "application/cloudevents-batch+json", &format!("[{}]", events.join(",")))
            }
        }
    }

    /// A sign-up as billing systems send it, about 450 bytes.
    fn event(&self) -> String {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        event(number, number % CUSTOMERS)
    }
}

fn request(webhook: &Webhook, media: &str, body: &str) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let now = i64::try_from(now).expect("before the end of time");
    let signature = webhook.sign("msg_1", now, body.as_bytes()).expect("it can be signed");
    format!(
        "POST /v1/events HTTP/1.1\r\nhost: bench\r\ncontent-type: {media}\r\nwebhook-id: msg_1\r\nwebhook-timestamp: {now}\r\n\
         webhook-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn event(number: u64, customer: u64) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"evt-{number}","source":"/billing","type":"customer.signed_up","time":"2026-10-01T12:00:00Z","data":{{"customer_id":"C-{customer}","email":"c{customer}@utility.example","first_name":"Anna","last_name":"Muster","address":{{"street_and_number":"Hauptstrasse {customer}","zip_code":"01067","town":"Dresden","country":"DE"}},"building":{{"property_type":"Detached"}},"language":"de"}}}}"#
    )
}

/// The sign-up of a customer.
pub(crate) fn sign_up(customer: u64) -> String {
    event(customer, customer)
}

/// A change of a customer who has signed up: one call at Podero. The next one is later, and changes the name again.
pub(crate) fn change(customer: u64, number: u64) -> String {
    let (minute, second) = (number / 60, number % 60);
    format!(
        r#"{{"specversion":"1.0","id":"chg-{customer}-{number}","source":"/billing","type":"customer.updated","time":"2026-10-02T12:{minute:02}:{second:02}Z","data":{{"customer_id":"C-{customer}","last_name":"Muster-{number}"}}}}"#
    )
}

/// One connection, for one request at a time.
pub(crate) struct Sender {
    stream: TcpStream,
    webhook: Webhook,
    answer: Vec<u8>,
}

impl Sender {
    pub(crate) async fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, webhook: Webhook::new(SECRET)?, answer: Vec::new() })
    }

    /// Sends an event, signed; it is accepted when this returns.
    pub(crate) async fn send(&mut self, event: &str) -> anyhow::Result<()> {
        let request = request(&self.webhook, "application/cloudevents+json", event);
        self.stream.write_all(&request).await?;
        read_answer(&mut self.stream, &mut self.answer).await?;
        anyhow::ensure!(self.answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&self.answer));
        Ok(())
    }
}

/// Sends one event.
pub(crate) async fn send(address: &str, event: String) -> anyhow::Result<()> {
    Sender::connect(address).await?.send(&event).await
}

/// Reads one answer with a `content-length` into `answer`.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> anyhow::Result<()> {
    answer.clear();
    loop {
        let read = stream.read_buf(answer).await?;
        if read == 0 {
            bail!("the server closed the connection: {}", String::from_utf8_lossy(answer));
        }
        let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&answer[..head])?.to_ascii_lowercase();
        let length = text.split("content-length:").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.context("no content-length")?.trim().parse()?;
        if answer.len() >= head + 4 + length {
            return Ok(());
        }
    }
}
