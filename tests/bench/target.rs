//! A Podero that answers at once, or after a given time, and notes when it was asked: no model behind it, so that what is
//! measured is the bridge. The embedded sandbox, which is faithful, would be most of the work.

use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Heat pumps of each user.
pub(crate) const PUMPS: u64 = 2;

/// Limit of a turn: requests that have not come by then never will.
const WAIT_MAX: Duration = Duration::from_secs(300);

struct Target {
    users: u64,
    latency_ms: AtomicU64,
    seen: [AtomicU64; 3],
}

/// Requests since the last reset; moments in microseconds since 1970.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) count: u64,
    pub(crate) first_at: u64,
    pub(crate) last_at: u64,
}

impl Seen {
    /// Requests a second between the first and the last.
    pub(crate) fn per_second(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a few millions")]
        let rate = self.count.saturating_sub(1) as f64 / ((self.last_at - self.first_at).max(1) as f64 / 1e6);
        rate
    }
}

/// The driver's view of a target.
pub(crate) struct Control(pub(crate) String);

/// One for all: the making of a client reads certificates for some milliseconds, on the cores of what is measured.
pub(crate) static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(reqwest::Client::new);

impl Control {
    pub(crate) async fn seen(&self) -> anyhow::Result<Seen> {
        Ok(CLIENT.get(format!("http://{}/bench/seen", self.0)).send().await?.json().await?)
    }

    pub(crate) async fn forget(&self) -> anyhow::Result<()> {
        CLIENT.get(format!("http://{}/bench/forget", self.0)).send().await?;
        Ok(())
    }

    pub(crate) async fn answer_after(&self, latency_ms: u64) -> anyhow::Result<()> {
        CLIENT.get(format!("http://{}/bench/latency/{latency_ms}", self.0)).send().await?;
        Ok(())
    }

    /// Waits until this number of requests was seen.
    pub(crate) async fn wait_for(&self, count: u64) -> anyhow::Result<Seen> {
        let began = Instant::now();
        loop {
            let seen = self.seen().await?;
            if seen.count >= count {
                return Ok(seen);
            }
            anyhow::ensure!(began.elapsed() < WAIT_MAX, "the target has seen {} requests of {count}", seen.count);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Runs it until it is killed; `arguments` say how many users it has.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let users = arguments.first().context("how many users")?.parse()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening {}", listener.local_addr()?);
    let target = web::Data::new(Target { users, latency_ms: AtomicU64::new(0), seen: Default::default() });
    actix_web::rt::System::new().block_on(async move {
        HttpServer::new(move || {
            App::new()
                .app_data(target.clone())
                .route("/bench/seen", web::get().to(seen))
                .route("/bench/forget", web::get().to(forget))
                .route("/bench/latency/{ms}", web::get().to(latency))
                .route("/oauth2/token/", web::post().to(token))
                .default_service(web::to(answer))
        })
        .workers(1)
        .listen(listener)?
        .run()
        .await
    })?;
    Ok(())
}

async fn seen(target: web::Data<Target>) -> HttpResponse {
    let [count, first_at, last_at] = target.seen.each_ref().map(|number| number.load(Ordering::Relaxed));
    HttpResponse::Ok().json(Seen { count, first_at, last_at })
}

async fn forget(target: web::Data<Target>) -> HttpResponse {
    target.seen.iter().for_each(|number| number.store(0, Ordering::Relaxed));
    HttpResponse::Ok().finish()
}

async fn latency(target: web::Data<Target>, latency: web::Path<u64>) -> HttpResponse {
    target.latency_ms.store(*latency, Ordering::Relaxed);
    HttpResponse::Ok().finish()
}

async fn token() -> HttpResponse {
    HttpResponse::Ok().json(json!({"access_token": "bench", "token_type": "Bearer", "expires_in": 36_000}))
}

/// Everything that one writes, and the lists of heat pumps, count.
async fn answer(request: HttpRequest, _body: web::Bytes, target: web::Data<Target>) -> HttpResponse {
    let path: Vec<&str> = request.path().trim_matches('/').split('/').collect();
    let answer = match (request.method().as_str(), &path[..]) {
        ("GET", [.., "by-ext-id", _]) => return HttpResponse::NotFound().json(json!({"detail": "not found"})),
        ("GET", [.., "users"]) => return users(target.users),
        ("GET", [.., "buildings"]) => return HttpResponse::Ok().json(json!([])),
        ("POST", [.., "users"]) => return HttpResponse::Created().json(user(0)),
        ("POST", [.., "buildings"]) => return HttpResponse::Created().json(json!({"id": id(2, 0)})),
        ("GET", [.., user, "heat-pumps"]) => heat_pumps(user),
        ("PUT", [.., user]) => json!({"id": user}),
        _ => json!({}),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    let now = u64::try_from(now).unwrap_or(u64::MAX);
    let [count, first_at, last_at] = target.seen.each_ref();
    if count.fetch_add(1, Ordering::Relaxed) == 0 {
        first_at.store(now, Ordering::Relaxed);
    }
    last_at.store(now, Ordering::Relaxed);
    let latency = target.latency_ms.load(Ordering::Relaxed);
    if latency > 0 {
        tokio::time::sleep(Duration::from_millis(latency)).await;
    }
    HttpResponse::Ok().json(answer)
}

fn users(count: u64) -> HttpResponse {
    HttpResponse::Ok().json((0..count).map(user).collect::<Vec<_>>())
}

fn user(number: u64) -> serde_json::Value {
    json!({"id": id(1, number), "role": "user", "external_user_id": format!("C-{number}"), "num_heat_pumps": PUMPS,
           "zip_code": "01067", "country": "DE"})
}

/// A user's heat pumps, with the last digits of the user's own id.
fn heat_pumps(user: &str) -> serde_json::Value {
    let number = user.rsplit('-').next().and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default();
    let pump = |place| {
        json!({"id": id(3, number * PUMPS + place), "name": "Heat pump", "is_authenticated": true, "actions": [],
               "lifecycle_state": "active", "connection_status": "ok", "is_smart_optimization_active": true,
               "device_model": {"manufacturer": "Vaillant", "model": "aroTHERM plus"}})
    };
    (0..PUMPS).map(pump).collect()
}

/// An id of the `number`th thing of a kind.
pub(crate) fn id(kind: u64, number: u64) -> String {
    format!("{kind:08x}-0000-4000-8000-{number:012x}")
}
