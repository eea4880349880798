//! A headless Chromium, driven over WebDriver (W3C), as Debian brings it: the packages `chromium` and `chromium-driver`.
//!
//! The protocol is JSON over HTTP, and a test needs ten of its commands, so there is no crate for it. Scripts of pages do not run:
//! every page of ours has to work without. Each wait has a bound.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use podero_bridge::pump::sleep;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Time for which an element is looked for before the test fails: a busy machine draws late.
const ELEMENT_TIME_MAX_MS: u64 = 20_000;
/// Pause between two looks at whether a page is gone.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// Limit of one command: a page that loads takes the longest.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(60);
/// Limit of the wait for the browser's end when a test is over or has failed.
const END_TIME_MAX: Duration = Duration::from_secs(10);
/// Width and height of the window.
const WINDOW: &str = "--window-size=1000,900";

/// The name under which WebDriver returns the reference of an element (W3C, section 11).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One browser with one window and a profile of its own; dropping it ends it.
pub struct Browser {
    http: Client,
    driver: Child,
    port: u16,
    session: String,
    // Both are kept until the end: a driver whose output is closed dies of its next line.
    _output: BufReader<ChildStdout>,
    _profile: TempDir,
}

impl Browser {
    /// Starts a browser; returns when it takes commands.
    pub async fn start() -> Self {
        let mut command = Command::new("chromedriver");
        command.args(["--port=0", "--log-level=SEVERE"]).stdin(Stdio::null());
        let mut driver = command.stdout(Stdio::piped()).spawn().expect("apt-get install chromium chromium-driver");
        let mut output = BufReader::new(driver.stdout.take().expect("it is piped"));
        let port = port(&mut output);
        let profile = tempfile::tempdir().expect("a folder");
        // The machine's network is closed: without the flags the browser looks for its maker's hosts all the time.
        let profile_argument = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-proxy-server",
            WINDOW,
            &profile_argument,
        ];
        let without_scripts = json!({"profile.managed_default_content_settings.javascript": 2});
        let options = json!({"args": arguments, "prefs": without_scripts});
        let wanted = json!({"goog:chromeOptions": options, "timeouts": {"implicit": ELEMENT_TIME_MAX_MS}});
        let http = Client::builder().no_proxy().timeout(COMMAND_TIME_MAX).build().expect("a client");
        let mut browser = Self { http, driver, port, session: String::new(), _output: output, _profile: profile };
        let begun = browser.ask(Method::POST, "", &json!({"capabilities": {"alwaysMatch": wanted}})).await;
        browser.session = begun["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    /// Opens a page; returns when it is loaded.
    pub async fn open(&self, url: &str) {
        self.post("/url", json!({"url": url})).await;
    }

    /// Address of the page that is shown.
    pub async fn address(&self) -> String {
        self.get("/url").await
    }

    /// Title of the page that is shown.
    pub async fn title(&self) -> String {
        self.get("/title").await
    }

    /// The text of the first element that the CSS selector finds, as a person reads it.
    pub async fn text(&self, selector: &str) -> String {
        let element = self.element(selector).await;
        self.get(&format!("/element/{element}/text")).await
    }

    /// Clicks on the first element that the selector finds, a link or a button that leads to a page; returns when that page is
    /// shown. The driver answers a click before a slow machine has begun to load, so the old page is waited for until it is gone.
    pub async fn click(&self, selector: &str) {
        let page_before = self.element("html").await;
        let element = self.element(selector).await;
        self.post(&format!("/element/{element}/click"), json!({})).await;
        let gone = async {
            while self.knows(&page_before).await {
                sleep(BETWEEN_LOOKS).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_millis(ELEMENT_TIME_MAX_MS), gone).await;
        waited.unwrap_or_else(|_| panic!("a click on {selector} leads to no page"));
    }

    /// Types into the first element that the selector finds.
    pub async fn write(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.post(&format!("/element/{element}/value"), json!({"text": text})).await;
    }

    /// Keeps a picture of the page as `target/tmp/NAME.png`, an artefact of the test run.
    pub async fn keep_picture(&self, name: &str) -> PathBuf {
        let picture = STANDARD.decode(self.get("/screenshot").await).expect("base64");
        assert!(picture.starts_with(b"\x89PNG\r\n"), "a picture");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png"));
        std::fs::write(&path, picture).expect("it can be written");
        path
    }

    /// Whether an element is still part of the page that is shown.
    async fn knows(&self, element: &str) -> bool {
        let path = format!("/{}/element/{element}/name", self.session);
        // The driver has several errors for it, by how far the next page has come; one that means another thing fails the next
        // command as well.
        self.answer(Method::GET, &path, &Value::Null).await.0.is_success()
    }

    async fn element(&self, selector: &str) -> String {
        let found = self.post("/element", json!({"using": "css selector", "value": selector})).await;
        found[ELEMENT].as_str().expect("an element").to_owned()
    }

    async fn get(&self, path: &str) -> String {
        let value = self.ask(Method::GET, &format!("/{}{path}", self.session), &Value::Null).await;
        value.as_str().expect("a text").to_owned()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.ask(Method::POST, &format!("/{}{path}", self.session), &body).await
    }

    /// One command; a test fails with the browser's own words.
    async fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        let (status, answer) = self.answer(method, path, body).await;
        assert!(status.is_success(), "{path}: {}", answer["message"]);
        answer
    }

    /// The driver's answer to one command: its status and its value, which is an error when the status is none of success.
    async fn answer(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = self.http.request(method, format!("http://127.0.0.1:{}/session{path}", self.port));
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await.expect("the driver answers");
        let status = answer.status();
        let mut answer: Value = answer.json().await.expect("JSON");
        (status, answer["value"].take())
    }
}

/// The port that the driver chose, from its own line.
fn port(output: &mut impl BufRead) -> u16 {
    let line = output.lines().map_while(Result::ok).find_map(|line| {
        let (_, port) = line.split_once("started successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    });
    line.expect("the driver names its port")
}

impl Drop for Browser {
    /// The driver ends the browser with the session; its own end alone would leave the browser behind.
    fn drop(&mut self) {
        if let Ok(mut driver) = TcpStream::connect(("127.0.0.1", self.port)) {
            let request = format!(
                "DELETE /session/{} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nconnection: close\r\n\r\n",
                self.session, self.port
            );
            // Whether it answers or not, it is ended next.
            let _ = driver.set_read_timeout(Some(END_TIME_MAX));
            let _ = driver.write_all(request.as_bytes());
            let _ = driver.read(&mut [0; 64]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
