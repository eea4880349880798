//! A headless Chromium, driven over WebDriver (W3C), as Debian brings it: the packages `chromium` and `chromium-driver`.
//!
//! The protocol is JSON over HTTP, and a test needs some twenty of its commands, so there is no crate for it. Scripts of pages run only if
//! a test asks for it: every page of ours has to work without. Each wait has a bound.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use podero_bridge::pump::sleep;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Time for which an element is looked for before the test fails: a busy machine draws late.
const ELEMENT_TIME_MAX_MS: u64 = 20_000;
/// Pause between two looks at whether a page is gone, or has what is waited for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// Limit of one command: a page that loads takes the longest.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(60);
/// Limit of the wait for the browser's end when a test is over or has failed.
const END_TIME_MAX: Duration = Duration::from_secs(10);
/// Time for which a script of a page is waited for: it fetches the page every ten seconds.
const SCRIPT_TIME_MAX: Duration = Duration::from_secs(40);
/// Width and height of the window.
const WINDOW: &str = "--window-size=1000,900";
/// Height of a window whose width a test has chosen.
const HEIGHT: u32 = 900;

/// Limit of the drivers that are started for one browser. One takes a free port of IPv6 and then the same of IPv4, and ends if a
/// connection of another test has that one.
const DRIVER_STARTS_MAX: usize = 5;

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
    profile: TempDir,
}

impl Browser {
    /// Starts a browser in which scripts do not run; returns when it takes commands.
    pub async fn start() -> Self {
        Self::start_with(json!({"profile.managed_default_content_settings.javascript": 2})).await
    }

    /// Starts a browser in which scripts run.
    pub async fn start_scripted() -> Self {
        Self::start_with(json!({})).await
    }

    async fn start_with(preferences: Value) -> Self {
        let (driver, output, port) =
            (0..DRIVER_STARTS_MAX).find_map(|_| started_driver()).expect("a driver that names its port");
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
            "--hide-scrollbars",
            // Names of other sites lead to servers of the test.
            "--host-resolver-rules=MAP *.example 127.0.0.1",
            WINDOW,
            &profile_argument,
        ];
        let logged = json!({"enableNetwork": true, "enablePage": false});
        let options = json!({"args": arguments, "prefs": preferences, "perfLoggingPrefs": logged});
        let wanted = json!({
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "timeouts": {"implicit": ELEMENT_TIME_MAX_MS},
        });
        let http = Client::builder().no_proxy().timeout(COMMAND_TIME_MAX).build().expect("a client");
        let mut browser = Self { http, driver, port, session: String::new(), _output: output, profile };
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

    /// The page that is shown, as the browser writes it down.
    pub async fn source(&self) -> String {
        self.get("/source").await
    }

    /// The text of the first element that the CSS selector finds, as a person reads it.
    pub async fn text(&self, selector: &str) -> String {
        let element = self.element(selector).await;
        self.get(&format!("/element/{element}/text")).await
    }

    /// An attribute of the first element that the selector finds; empty if it has none.
    pub async fn attribute(&self, selector: &str, name: &str) -> String {
        let element = self.element(selector).await;
        let path = format!("/{}/element/{element}/attribute/{name}", self.session);
        self.ask(Method::GET, &path, &Value::Null).await.as_str().unwrap_or_default().to_owned()
    }

    /// The number of elements that the selector finds now.
    pub async fn count(&self, selector: &str) -> usize {
        self.post("/timeouts", json!({"implicit": 0})).await;
        let found = self.post("/elements", json!({"using": "css selector", "value": selector})).await;
        self.post("/timeouts", json!({"implicit": ELEMENT_TIME_MAX_MS})).await;
        found.as_array().expect("a list").len()
    }

    /// Waits until a script has made the text of the first element that the selector finds have these words.
    pub async fn wait_for(&self, selector: &str, words: &str) {
        let seen = async {
            while !self.text_now(selector).await.contains(words) {
                sleep(BETWEEN_LOOKS).await;
            }
        };
        let waited = tokio::time::timeout(SCRIPT_TIME_MAX, seen).await;
        assert!(waited.is_ok(), "{selector} does not say {words}: {}", self.text_now(selector).await);
    }

    /// The text of an element that a script may put another in the place of at this moment.
    async fn text_now(&self, selector: &str) -> String {
        let element = self.element(selector).await;
        let path = format!("/{}/element/{element}/text", self.session);
        let (status, answer) = self.answer(Method::GET, &path, &Value::Null).await;
        if status.is_success() { answer.as_str().unwrap_or_default().to_owned() } else { String::new() }
    }

    /// Clicks on the first element that the selector finds, a link or a button that leads to a page; returns when that page is
    /// shown. The driver answers a click before a slow machine has begun to load, so the old page is waited for until it is gone.
    pub async fn click(&self, selector: &str) {
        let page_before = self.element("html").await;
        self.press(selector).await;
        self.leave(&page_before, selector).await;
    }

    /// Clicks on the first element that the selector finds, which leads to no other page.
    pub async fn press(&self, selector: &str) {
        let element = self.element(selector).await;
        self.post(&format!("/element/{element}/click"), json!({})).await;
    }

    /// Presses a key that leads to a page; returns when that page is shown.
    pub async fn key_to_page(&self, key: &str) {
        let page_before = self.element("html").await;
        self.key(key).await;
        self.leave(&page_before, key).await;
    }

    async fn leave(&self, page_before: &str, by: &str) {
        let gone = async {
            while self.knows(page_before).await {
                sleep(BETWEEN_LOOKS).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_millis(ELEMENT_TIME_MAX_MS), gone).await;
        waited.unwrap_or_else(|_| panic!("a click on {by} leads to no page"));
    }

    /// Presses a key, wherever the focus is. Keys without a letter have numbers of WebDriver's own (W3C, section 17.4.2): `\u{e004}` is Tab.
    pub async fn key(&self, key: &str) {
        let strokes = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        self.post("/actions", json!({"actions": [{"type": "key", "id": "keys", "actions": strokes}]})).await;
    }

    /// Types into the first element that the selector finds.
    pub async fn write(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.post(&format!("/element/{element}/value"), json!({"text": text})).await;
    }

    /// Types into the first element that the selector finds, in the place of its content.
    pub async fn rewrite(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.post(&format!("/element/{element}/clear"), json!({})).await;
        self.post(&format!("/element/{element}/value"), json!({"text": text})).await;
    }

    /// Runs a script in the page, which runs scripts; its value, or that of the promise that it returns.
    pub async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({"script": script, "args": []})).await
    }

    /// Waits until a script of the page has made this one return true.
    pub async fn wait_until_run(&self, script: &str) {
        let is_so = async {
            while self.run(script).await != true {
                sleep(BETWEEN_LOOKS).await;
            }
        };
        let waited = tokio::time::timeout(SCRIPT_TIME_MAX, is_so).await;
        waited.unwrap_or_else(|_| panic!("{script} is never true"));
    }

    /// Runs a script in each page before the page's own.
    pub async fn before_each_page(&self, script: &str) {
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({"source": script})).await;
    }

    /// Has the clock of a machine in this time zone.
    pub async fn live_in(&self, zone: &str) {
        self.devtools("Emulation.setTimezoneOverride", json!({"timezoneId": zone})).await;
    }

    /// Shows pages at this width.
    pub async fn resize(&self, width: u32) {
        let metrics = json!({"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// Shows pages to a reader whose machine prefers dark or light colours.
    pub async fn prefer_dark(&self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    /// The violations that axe-core finds on the page: rule and elements of each.
    pub async fn barriers(&self) -> Vec<String> {
        static AXE: OnceLock<String> = OnceLock::new();
        let axe = AXE.get_or_init(|| {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/axe");
            let output = Command::new(script).stderr(Stdio::inherit()).output().expect("it runs");
            assert!(output.status.success(), "axe-core is not there; npm and the network are needed once");
            let path = String::from_utf8(output.stdout).expect("text");
            std::fs::read_to_string(path.trim()).expect("a script")
        });
        if self.run("return !window.axe;").await == true {
            self.run(axe).await;
        }
        let found = self.run(RUN_AXE).await;
        let found = found.as_array().expect("a list of findings").clone();
        found.into_iter().map(|finding| finding.as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The errors that the browser has written to its console since the last look.
    pub async fn errors(&self) -> Vec<String> {
        let is_error = |entry: &&Value| entry["level"] == "SEVERE";
        self.log("browser").await.iter().filter(is_error).map(|entry| entry["message"].to_string()).collect()
    }

    /// Clicks on the first element that the selector finds, which gives a file; its content.
    pub async fn download(&self, selector: &str) -> String {
        let folder = tempfile::tempdir_in(self.profile.path()).expect("a folder");
        let place = json!({"behavior": "allow", "downloadPath": folder.path()});
        self.devtools("Browser.setDownloadBehavior", place).await;
        self.press(selector).await;
        let kept = async {
            loop {
                // The browser gives a file its own name once it is whole.
                let files =
                    std::fs::read_dir(folder.path()).expect("a folder").map(|file| file.expect("a file").path());
                let whole =
                    files.into_iter().find(|file| file.extension().is_some_and(|ending| ending != "crdownload"));
                match whole.map(std::fs::read_to_string) {
                    Some(Ok(content)) if !content.is_empty() => return content,
                    _ => sleep(BETWEEN_LOOKS).await,
                }
            }
        };
        let waited = tokio::time::timeout(Duration::from_millis(ELEMENT_TIME_MAX_MS), kept).await;
        waited.unwrap_or_else(|_| panic!("{selector} gives no file"))
    }

    /// The addresses of all requests over the network since the last look.
    pub async fn requests(&self) -> Vec<String> {
        let mut addresses = Vec::new();
        for entry in self.log("performance").await {
            let message: Value = serde_json::from_str(entry["message"].as_str().expect("text")).expect("JSON");
            if message["message"]["method"] == "Network.requestWillBeSent" {
                let address = message["message"]["params"]["request"]["url"].as_str().expect("an address");
                // The browser's own first page is no page of a test, and data in a page goes nowhere.
                if !address.starts_with("chrome:") && !address.starts_with("data:") {
                    addresses.push(address.to_owned());
                }
            }
        }
        addresses
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        self.post("/se/log", json!({"type": kind})).await.as_array().expect("a list").clone()
    }

    /// Keeps a picture of the page as `target/tmp/NAME.png`, an artefact of the test run.
    pub async fn keep_picture(&self, name: &str) -> PathBuf {
        keep(name, &self.get("/screenshot").await)
    }

    /// As [`Browser::keep_picture`], of the whole page, also of the part below the window.
    pub async fn keep_whole_picture(&self, name: &str) -> PathBuf {
        let taken = self.devtools("Page.captureScreenshot", json!({"captureBeyondViewport": true})).await;
        keep(name, taken["data"].as_str().expect("a picture"))
    }

    /// A command of the browser's own protocol.
    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
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

/// Runs axe-core with all its rules, and returns a line for each violation.
const RUN_AXE: &str = "return axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations.map((one) => \
                       one.id + ': ' + one.nodes.map((node) => node.target.join(' ') + ': ' + node.failureSummary).join('; ')));";

/// Writes a picture, which is in base64, to the artefacts.
fn keep(name: &str, picture: &str) -> PathBuf {
    let picture = STANDARD.decode(picture).expect("base64");
    assert!(picture.starts_with(b"\x89PNG\r\n"), "a picture");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png"));
    std::fs::write(&path, picture).expect("it can be written");
    path
}

/// A driver, its output and the port that it chose; `None` if it ended before it named one.
fn started_driver() -> Option<(Child, BufReader<ChildStdout>, u16)> {
    let mut command = Command::new("chromedriver");
    command.args(["--port=0", "--log-level=SEVERE"]).stdin(Stdio::null());
    let mut driver = command.stdout(Stdio::piped()).spawn().expect("apt-get install chromium chromium-driver");
    let mut output = BufReader::new(driver.stdout.take().expect("it is piped"));
    let Some(port) = port(&mut output) else {
        let _ = driver.kill();
        let _ = driver.wait();
        return None;
    };
    Some((driver, output, port))
}

/// The port that the driver chose, from its own line.
fn port(output: &mut impl BufRead) -> Option<u16> {
    output.lines().map_while(Result::ok).find_map(|line| {
        let (_, port) = line.split_once("started successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    })
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
