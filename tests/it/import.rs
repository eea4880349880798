//! Files of events through the real program: what becomes of each line, an import that is killed, and who goes first.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::pump;
use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};

use crate::chaos;
use crate::file::expect;
use crate::running::{self, Environment, Running};
use crate::servers;
use crate::world::{sign_up, until};

const TIME: &str = "2026-10-01T12:00:00Z";

/// Lines of the import that is killed; `tests/reliability import` makes it a million.
const LINES: &str = "PODERO_BRIDGE_TEST_LINES";
const LINES_DEFAULT: u64 = 20_000;
const KILLS: u64 = 3;

/// Limit of the memory of the process that imports: three batches of 4 MiB, caches of its connections, and its code.
const MEMORY_BYTES_MAX: u64 = 96 << 20;

/// A mapping of a table of customers.
const MAP: &str = r#"if .Kunde == "" then empty else {
  type: "customer.signed_up", time: "2026-10-01T12:00:00Z",
  data: {customer_id: .Kunde, email: .Mail, first_name: .Name,
         address: {street_and_number: "Hauptstrasse 1", zip_code: .PLZ, town: "Dresden", country: "DE"}}
} end"#;

/// A folder with the store of a bridge that has ended, and its configuration.
struct Desk {
    folder: tempfile::TempDir,
    environment: Environment,
}

impl Desk {
    fn new(settings: &[(&'static str, &str)]) -> Self {
        Self::on(None, settings)
    }

    /// On a store somewhere else than in its folder.
    fn on(url: Option<String>, settings: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("map.jq"), MAP).expect("written");
        let toml = format!(
            "[watch]\nenabled = false\n[[source]]\nname = \"default\"\nverify = \"none\"\n\
             [[source]]\nname = \"crm\"\nverify = \"none\"\nmap = \"{}\"\n",
            folder.path().join("map.jq").display()
        );
        std::fs::write(folder.path().join("config.toml"), toml).expect("written");
        let mut environment = running::on_file(folder.path());
        if let Some(url) = url {
            environment[0].1 = url;
        }
        environment.extend(settings.iter().map(|(key, value)| (*key, (*value).to_owned())));
        let desk = Self { folder, environment };
        assert_eq!(desk.bridge().terminate(), Some(0));
        desk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.at(name), bytes).expect("written");
    }

    fn bridge(&self) -> Running {
        let config = self.at("config.toml");
        let arguments = ["--sandbox", "--config", config.to_str().expect("text")];
        Running::start(self.folder.path(), &arguments, &self.environment)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(chaos::binary());
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(self.folder.path());
        for (key, value) in &self.environment {
            command.env(format!("PODERO_BRIDGE__{key}"), value);
        }
        command.args([&["import", "--config", "config.toml"], arguments].concat());
        command
    }

    fn import(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("it runs")
    }

    /// In the background, with what it says in a file.
    fn start(&self, arguments: &[&str], told: &str) -> Child {
        let told = std::fs::File::options().create(true).append(true).open(self.at(told)).expect("a file");
        self.command(arguments).stdout(Stdio::null()).stderr(told).spawn().expect("it starts")
    }

    fn told(&self, told: &str) -> String {
        std::fs::read_to_string(self.at(told)).unwrap_or_default()
    }

    /// A number from the store.
    async fn count(&self, query: &str) -> i64 {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(&self.environment[0].1).await.expect("the file is there");
        let row = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await.expect("a row");
        connection.close().await.expect("closed");
        row.try_get(0).expect("a number")
    }

    async fn pending(&self) -> i64 {
        self.count("SELECT COUNT(*) FROM events WHERE state = 'pending' AND transport = 'import'").await
    }

    fn rejected(&self, name: &str) -> Vec<(u64, String)> {
        let text = std::fs::read_to_string(self.at(name)).expect("it is there");
        text.lines()
            .map(|line| {
                let line: Value = serde_json::from_str(line).expect("JSON");
                let kind = line["problem"]["type"].as_str().expect("a type");
                (line["line"].as_u64().expect("a number"), kind.replace("urn:podero-bridge:problem:", ""))
            })
            .collect()
    }
}

fn sign_ups(prefix: &str, count: u64) -> String {
    (0..count).fold(String::new(), |mut lines, number| {
        let event = sign_up(&format!("{prefix}-{number}"), &format!("{prefix}-{number}"), TIME);
        let _ = writeln!(lines, "{event}");
        lines
    })
}

/// Each line is accepted, known, rejected or passed over, and a second run changes nothing.
#[tokio::test]
async fn each_line_is_counted_and_a_second_run_changes_nothing() {
    let desk = Desk::new(&[("HTTP__BODY_MAX", "4KiB")]);
    let first = sign_up("e1", "C-1", TIME).to_string();
    let mut nobody = sign_up("e3", "C-3", TIME);
    nobody["data"]["email"] = Value::Null;
    let lines: [&[u8]; 10] = [
        first.as_bytes(),
        first.as_bytes(),
        b"{\"specversion\":",
        b"",
        &nobody.to_string().into_bytes(),
        &sign_up("e1", "C-2", TIME).to_string().into_bytes(),
        b"\xff\xfe",
        &vec![b' '; 5_000],
        b"[1, 2]",
        &sign_up("e2", "C-2", TIME).to_string().into_bytes(),
    ];
    desk.put("events.ndjson", lines.join(&b"\r\n"[..]));
    let output = desk.import(&["events.ndjson"]);
    expect(&output, 1, "accepted 2, duplicate 1, rejected 6, skipped 1");
    expect(&output, 1, "events.ndjson.rejected.ndjson");
    let wrong = [
        (3, "malformed"),
        (5, "invalid-event"),
        (6, "event-id-reused"),
        (7, "malformed"),
        (8, "too-large"),
        (9, "invalid-event"),
    ];
    let wrong = wrong.map(|(line, kind)| (line, kind.to_owned()));
    assert_eq!(desk.rejected("events.ndjson.rejected.ndjson"), wrong);
    let mode = std::fs::metadata(desk.at("events.ndjson.rejected.ndjson")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it has a customer's lines in it");
    assert!(!desk.at("events.ndjson.import.json").exists(), "it is done");
    assert_eq!(desk.pending().await, 2);
    let output = desk.import(&["events.ndjson"]);
    expect(&output, 1, "accepted 0, duplicate 3, rejected 6, skipped 1");
    assert_eq!(desk.rejected("events.ndjson.rejected.ndjson"), wrong, "of this run only");
    let again = desk.command(&["-"]).stdin(std::fs::File::open(desk.at("events.ndjson")).expect("a file")).output();
    expect(&again.expect("it runs"), 1, "accepted 0, duplicate 3, rejected 6, skipped 1");
    assert_eq!(desk.rejected("import.rejected.ndjson"), wrong);
    assert_eq!(desk.pending().await, 2);
    desk.put("good.ndjson", first);
    expect(&desk.import(&["good.ndjson"]), 0, "accepted 0, duplicate 1, rejected 0, skipped 0");
    assert!(!desk.at("good.ndjson.rejected.ndjson").exists(), "nothing was rejected");
}

#[tokio::test]
async fn records_of_a_table_are_translated_and_zip_codes_keep_their_zeros() {
    let desk = Desk::new(&[]);
    let table = "\u{feff}Kunde;PLZ;\"Name\";Mail;Notiz\r\n\
                 C-1;01067;\"Anna\";anna@example.com;\"wants\na call; \"\"soon\"\"\"\r\n\
                 C-2;1010;Bert;;\r\n\
                 ;1010;Nobody;;\r\n\
                 C-3;1010\r\n\
                 C-4;1010;Dora;dora@example.com;\r\n";
    desk.put("customers.csv", table);
    let arguments = ["customers.csv", "--source", "crm", "--delimiter", ";"];
    expect(&desk.import(&arguments), 1, "accepted 2, duplicate 0, rejected 2, skipped 1");
    // The first record has two lines.
    let wrong = [(4, "invalid-event".to_owned()), (6, "malformed".to_owned())];
    assert_eq!(desk.rejected("customers.csv.rejected.ndjson"), wrong);
    let exact =
        r#"SELECT COUNT(*) FROM events WHERE event LIKE '%"01067"%' AND raw LIKE '%"wants\na call; \"soon\""%'"#;
    assert_eq!(desk.count(exact).await, 1);
    expect(&desk.import(&arguments), 1, "accepted 0, duplicate 2, rejected 2, skipped 1");
    let piped = ["-", "--format", "csv", "--source", "crm", "--delimiter", ";"];
    let table = std::fs::File::open(desk.at("customers.csv")).expect("a file");
    let output = desk.command(&piped).stdin(table).output().expect("it runs");
    expect(&output, 1, "accepted 0, duplicate 2, rejected 2, skipped 1");
    // A source's own JSON, and a CloudEvent among it.
    let own = json!({"Kunde": "C-5", "PLZ": "01067", "Name": "Eva", "Mail": "eva@example.com"});
    desk.put("own.ndjson", format!("{own}\n{}\n", sign_up("e1", "C-6", TIME)));
    expect(&desk.import(&["own.ndjson", "--source", "crm"]), 0, "accepted 2, duplicate 0, rejected 0, skipped 0");
}

#[test]
fn what_cannot_be_imported_is_said_before_anything_is_done() {
    let desk = Desk::new(&[]);
    desk.put("customers.csv", "a;b\n1;2\n");
    desk.put("events.ndjson", "");
    for (arguments, words) in [
        (&["customers.csv"][..], "`map`"),
        (&["events.ndjson", "--source", "nobody"], "no [[source]]"),
        (&["events.ndjson", "--delimiter", ";"], "--format csv"),
        (&["events.ndjson", "--format", "xml"], "ndjson or csv"),
        (&["customers.csv", "--delimiter", "ab"], "one character"),
        (&[], "FILE"),
    ] {
        expect(&desk.import(arguments), 64, words);
    }
    expect(&desk.import(&["missing.ndjson"]), 1, "missing.ndjson");
    desk.put("empty.csv", "");
    expect(&desk.import(&["empty.csv", "--source", "crm"]), 1, "there is no header");
    std::fs::remove_file(desk.at("bridge.db")).expect("removed");
    expect(&desk.import(&["events.ndjson"]), 1, "there is no store");
}

/// Every line of which the number is one less than a multiple of this is no event.
const WRONG_EVERY: u64 = 100;

/// Writes one sign-up for each customer, and lines that are none among them.
fn write_lines(path: &Path, count: u64) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).expect("a file"));
    for number in 0..count {
        if number % WRONG_EVERY == WRONG_EVERY - 1 {
            writeln!(file, "{{\"wrong\":{number}}}").expect("written");
            continue;
        }
        let event = format!(
            r#"{{"specversion":"1.0","id":"i-{number}","source":"/billing","type":"customer.signed_up","time":"{TIME}","data":{{"customer_id":"I-{number}","email":"i-{number}@example.com","first_name":"Anna","address":{{"street_and_number":"Hauptstrasse 1","zip_code":"01067","town":"Dresden","country":"DE"}}}}}}"#
        );
        writeln!(file, "{event}").expect("written");
    }
    file.flush().expect("written");
}

/// The place that is written down: the number of the next line.
fn line_of(path: &Path) -> u64 {
    let progress: Option<Value> = std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    progress.and_then(|progress| progress["place"]["line"].as_u64()).unwrap_or(1)
}

fn memory_peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

#[tokio::test]
async fn an_import_that_is_killed_goes_on_and_nothing_is_missing_or_there_twice() {
    let lines = servers::environment(LINES).map_or(LINES_DEFAULT, |text| text.parse().expect("a number"));
    // No bridge works on it meanwhile.
    let desk = Desk::new(&[("STORE__BACKLOG_MAX", &(2 * lines).to_string())]);
    write_lines(&desk.at("events.ndjson"), lines);
    let progress = desk.at("events.ndjson.import.json");
    let clock = Clock::system();
    let began = clock.now();
    let mut peak = 0;
    for kill in 1..=KILLS {
        let mut child = desk.start(&["events.ndjson"], "told");
        while line_of(&progress) < lines * kill / (KILLS + 1) {
            peak = peak.max(memory_peak(child.id()).unwrap_or(0));
            assert!(child.try_wait().expect("a child").is_none(), "it ended early:\n{}", desk.told("told"));
            pump::sleep(Duration::from_millis(2)).await;
        }
        let written = std::fs::read(&progress).expect("it is there");
        let line = line_of(&progress);
        match kill {
            // Just when a batch was written down.
            1 => {}
            // In the middle of one.
            2 => pump::sleep(Duration::from_millis(17)).await,
            // After the commit of one that was not: that moment is too short to be met, so it is made.
            _ => {
                while line_of(&progress) == line {
                    pump::sleep(Duration::from_millis(2)).await;
                }
            }
        }
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        assert!(progress.exists(), "it is not done");
        if kill > 2 {
            std::fs::write(&progress, written).expect("written");
        }
    }
    let mut command = desk.command(&["events.ndjson"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    while child.try_wait().expect("a child").is_none() {
        peak = peak.max(memory_peak(child.id()).unwrap_or(0));
        pump::sleep(Duration::from_millis(20)).await;
    }
    let output = child.wait_with_output().expect("it ended");
    let seconds = clock.now().since(began).as_secs();
    let said = running::said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!progress.exists(), "it is done");
    let there = desk.count("SELECT COUNT(*) FROM events WHERE transport = 'import'").await;
    let different = desk.count("SELECT COUNT(DISTINCT origin_id) FROM events WHERE transport = 'import'").await;
    let lanes = desk.count("SELECT COUNT(*) FROM lanes WHERE bulk = 1 AND ready_at IS NOT NULL").await;
    let wrong = lines / WRONG_EVERY;
    let wanted = i64::try_from(lines - wrong).expect("a count");
    let (missing, twice) = (wanted - different, there - different);
    chaos::say(&format!(
        "import: {lines} lines, {KILLS} kills, {seconds} s, peak {:.1} MiB, missing {missing}, twice {twice}; {}",
        peak as f64 / 1_048_576.0,
        said.lines().next().unwrap_or_default()
    ));
    assert_eq!((missing, twice, lanes), (0, 0, wanted));
    let rejected: Vec<u64> = desk.rejected("events.ndjson.rejected.ndjson").into_iter().map(|(line, _)| line).collect();
    assert_eq!(rejected, (1..=wrong).map(|nth| nth * WRONG_EVERY).collect::<Vec<_>>(), "each once, in order");
    // Lines that were committed and not written down: a batch for each kill, at most.
    let number = |name: &str| -> u64 {
        let rest = said.split(name).nth(1).expect("a summary");
        rest.split(',').next().expect("a number").trim().parse().expect("a number")
    };
    let (accepted, duplicate) = (number("accepted"), number("duplicate"));
    assert_eq!((accepted + duplicate, number("rejected")), (lines - wrong, wrong), "{said}");
    assert!((500 - 5..=KILLS * 500).contains(&duplicate), "{said}");
    assert!(peak < MEMORY_BYTES_MAX, "{peak} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_event_goes_before_imported_ones_and_all_take_effect_once() {
    let desk = Desk::new(&[("PODERO__REQUESTS_PER_SECOND", "20"), ("PODERO__MAX_IN_FLIGHT", "2")]);
    desk.put("events.ndjson", sign_ups("I", 60));
    expect(&desk.import(&["events.ndjson"]), 0, "accepted 60");
    let bridge = desk.bridge();
    let http = reqwest::Client::new();
    let live = sign_up("live", "live", TIME).to_string();
    let request = http.post(format!("{}/v1/events", bridge.door)).body(live);
    let answer = request.header("content-type", "application/cloudevents+json").send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 202);
    let applied = "SELECT COUNT(*) FROM events WHERE state = 'applied' AND origin_id = 'live'";
    until("the live event is applied", async || (desk.count(applied).await == 1).then_some(())).await;
    let behind = desk.pending().await;
    assert!(behind >= 30, "{behind} of 60 are still to come");
    until("all are applied", async || (desk.pending().await == 0).then_some(())).await;
    let sandbox = format!("{}/_sandbox/state", bridge.sandbox.as_deref().expect("a sandbox"));
    let state: Value = http.get(sandbox).send().await.expect("an answer").json().await.expect("JSON");
    let users = state["users"].as_array().expect("users").iter().filter_map(|user| user["external_user_id"].as_str());
    let mut users: Vec<&str> = users.collect();
    assert_eq!(users.len(), 61);
    users.sort_unstable();
    users.dedup();
    assert_eq!(users.len(), 61, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_leaves_room_in_the_backlog_and_stops_when_it_is_asked_to() {
    let desk = Desk::new(&[("STORE__BACKLOG_MAX", "100"), ("PODERO__REQUESTS_PER_SECOND", "1000")]);
    desk.put("events.ndjson", sign_ups("I", 150));
    let mut child = desk.start(&["events.ndjson"], "told");
    until("it waits", async || desk.told("told").contains("waits: 90 events are pending").then_some(())).await;
    let twice = desk.import(&["events.ndjson"]);
    expect(&twice, 1, "another import of events.ndjson runs");
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("kill runs").success());
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    assert!(desk.told("told").contains("run the same command again to go on"), "{}", desk.told("told"));
    assert_eq!(desk.pending().await, 90);
    let bridge = desk.bridge();
    let output = desk.import(&["events.ndjson"]);
    expect(&output, 0, "goes on at line 91");
    expect(&output, 0, "accepted 150, duplicate 0, rejected 0, skipped 0");
    assert_eq!(bridge.terminate(), Some(0));
}

#[tokio::test]
async fn a_store_on_postgres_takes_it_as_well() {
    let desk = Desk::on(Some(servers::fresh_database()), &[]);
    desk.put("events.ndjson", sign_ups("I", 700));
    expect(&desk.import(&["events.ndjson"]), 0, "accepted 700");
    expect(&desk.import(&["events.ndjson"]), 0, "accepted 0, duplicate 700");
    assert_eq!(desk.pending().await, 700);
}

#[test]
fn another_file_of_the_same_name_begins_anew() {
    let desk = Desk::new(&[("STORE__BACKLOG_MAX", "100")]);
    desk.put("events.ndjson", sign_ups("I", 2));
    desk.put("events.ndjson.import.json", "{}");
    let output = desk.import(&["events.ndjson"]);
    expect(&output, 0, "begins anew");
    expect(&output, 0, "accepted 2");
}

#[tokio::test]
async fn both_looks_for_a_due_lane_are_served_by_the_index() {
    let desk = Desk::new(&[]);
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(&desk.environment[0].1).await.expect("the file is there");
    for bulk in [0, 1] {
        let query = format!(
            "EXPLAIN QUERY PLAN SELECT lane FROM lanes WHERE bulk = {bulk} AND ready_at <= 1 ORDER BY ready_at LIMIT 1"
        );
        let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(&mut connection).await.expect("a plan");
        let plan: Vec<String> = rows.iter().map(|row| row.try_get(3).expect("text")).collect();
        assert_eq!(plan, ["SEARCH lanes USING INDEX lanes_ready (bulk=? AND ready_at<?)"]);
    }
    connection.close().await.expect("closed");
}

/// A mapping by the helpers, as an operator writes one.
const TABLE_MAP: &str = r#"{type: "customer.signed_up", id: "imp-\(.Kundennummer)", time: (.Vertragsbeginn | date_time("Europe/Berlin")),
 data: ({customer_id: .Kundennummer, email: .EMail, first_name: .Vorname,
  address: ({street_and_number: .Strasse, zip_code: (.PLZ | zip_code(5)), town: .Ort, country: (.Land | country_code)} | given)} | given)}"#;

const TABLE_HEADER: &str = "Kundennummer;EMail;Vorname;Strasse;PLZ;Ort;Land;Vertragsbeginn";

/// A row with these cells instead of its own: ZIP code, country, start.
fn row(customer: &str, [zip, country, start]: [&str; 3]) -> String {
    format!("{customer};{customer}@example.com;Anna;Gasse 1;{zip};Dresden;{country};{start}")
}

const CELLS: [&str; 3] = ["01067", "Deutschland", "01.10.2026"];

#[tokio::test]
async fn a_table_is_read_as_a_spreadsheet_writes_it() {
    let desk = Desk::new(&[]);
    desk.put("map.jq", TABLE_MAP);
    let good = |customer: &str| row(customer, CELLS);
    let header = TABLE_HEADER;
    let (many, one) =
        ("accepted 2, duplicate 0, rejected 0, skipped", "accepted 1, duplicate 0, rejected 0, skipped 0");
    for (name, table, status, words) in [
        (
            "rows.csv",
            format!("{header}\n{}\n;;;;;;;\n;;;;;;;\n{}\n", good("R1"), good("R2")),
            0,
            &format!("{many} 2")[..],
        ),
        ("column.csv", format!("{header};\n{};\n", good("C1")), 0, one),
        ("sep.csv", format!("sep=;\n{header}\n{}\n", good("S1")), 0, one),
        ("mark.csv", format!("\u{feff}sep=;\r\n{header}\r\n{}\r\n", good("M1")), 0, one),
        (
            "empty.csv",
            format!("{header}\n{}\n{}\n", row("E1", ["01067", "D", ""]), row("E2", ["", "", "01.10.2026"])),
            0,
            many,
        ),
        ("text.csv", format!("{header}\n{}\n", row("T1", ["\"=\"\"01067\"\"\"", CELLS[1], CELLS[2]])), 0, one),
        (
            "quote.csv",
            format!("{header}\n{}\n{}\n", good("Q1"), good("Q2").replace("Gasse 1", "\"Haus \"Sonne\" 3\"")),
            1,
            "rejected line 3: malformed: a quote stands where none may",
        ),
    ] {
        desk.put(name, table);
        expect(&desk.import(&[name, "--source", "crm", "--delimiter", ";"]), status, words);
    }
    // None of these was made up, and the one without a country or a ZIP code has none.
    let zip = r#"SELECT COUNT(*) FROM events WHERE transport = 'import' AND event LIKE '%"01067"%'"#;
    let all = "SELECT COUNT(*) FROM events WHERE transport = 'import'";
    assert_eq!((desk.count(zip).await, desk.count(all).await), (8, 9));
    // One message, and nothing is tried.
    desk.put("comma.csv", format!("{header}\n{}\n", good("F1")));
    let output = desk.import(&["comma.csv", "--source", "crm"]);
    expect(&output, 1, "the header has one column; is the delimiter ';'? Say --delimiter ';'");
    assert!(!running::said(&output).contains("accepted") && !desk.at("comma.csv.rejected.ndjson").exists());
}

/// The words of a program about a line are in its file, and no value is on the terminal.
#[tokio::test]
async fn a_rejected_lines_values_are_in_its_file_alone() {
    let desk = Desk::new(&[]);
    desk.put("map.jq", TABLE_MAP);
    let rows = [
        row("D1", ["1067,0", CELLS[1], CELLS[2]]),
        row("D2", ["#NV", CELLS[1], CELLS[2]]),
        row("D3", [CELLS[0], "Atlantis", CELLS[2]]),
        row("D4", [CELLS[0], "Atlantis", CELLS[2]]),
        row("D5", [CELLS[0], CELLS[1], "vorgestern"]),
    ];
    desk.put("damage.csv", format!("{TABLE_HEADER}\n{}\n", rows.join("\n")));
    let output = desk.import(&["damage.csv", "--source", "crm", "--delimiter", ";"]);
    expect(&output, 1, "accepted 0, duplicate 0, rejected 5, skipped 0");
    let ended = "unmappable: the mapping of this source ended with an error over it";
    expect(
        &output,
        1,
        &format!("rejected 2 lines, the first is 4: {ended}: country_code: not a country that is known"),
    );
    expect(&output, 1, &format!("rejected line 2: {ended}: zip_code: a number with a fraction is no ZIP code"));
    expect(&output, 1, "rejected line 3: malformed: field 5 is a spreadsheet's error");
    expect(&output, 1, &format!("rejected line 6: {ended}: date_time: "));
    let said = running::said(&output);
    for value in ["Atlantis", "vorgestern", "1067", "example.com"] {
        assert!(!said.contains(value), "{value}: {said}");
    }
    let file = std::fs::read_to_string(desk.at("damage.csv.rejected.ndjson")).expect("it is there");
    assert!(file.contains("country_code: not a country that is known") && file.contains("Atlantis"), "{file}");
    // jq's own words quote the line: they are in the file alone.
    desk.put("map.jq", ".Kundennummer | error(\"no \\(.)\")");
    let output = desk.import(&["damage.csv", "--source", "crm", "--delimiter", ";"]);
    expect(&output, 1, &format!("rejected 4 lines, the first is 2: {ended}\n"));
    let file = std::fs::read_to_string(desk.at("damage.csv.rejected.ndjson")).expect("it is there");
    assert!(file.contains("no D1") && !running::said(&output).contains("D1"), "{file}");
}
