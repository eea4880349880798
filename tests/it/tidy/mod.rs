//! House rules as tests: imports point down, foreign crates stay in their rooms, the documents know every name.

mod circles;
mod source;
mod today;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use podero_bridge::config::KEYS;
use podero_bridge::domain::alert::Cause;
use podero_bridge::domain::event::EventKind;
use podero_bridge::domain::notice::Topic;
use podero_bridge::domain::verdict::Reason;
use podero_bridge::metrics;
use podero_bridge::problem::ProblemKind;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder with one of these endings, with its path relative to the project.
pub fn files(folder: &str, endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the project") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known)) {
                let name = path.strip_prefix(root()).expect("below the project").display().to_string();
                found.push((name, std::fs::read_to_string(&path).expect("text")));
            }
        }
    }
    found.sort();
    found
}

fn document(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The code of a file: no comments, no unit tests.
pub fn code(text: &str) -> String {
    source::without_tests(text)
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `src/store/inbox.rs` and `src/store.rs` are both of `store`.
fn module(path: &str) -> String {
    let below = path.trim_start_matches("src/");
    below.split(['/', '.']).next().unwrap_or_default().to_owned()
}

/// The modules that each module may import, next to itself and `domain`.
const MAY_IMPORT: [(&str, &[&str]); 31] = [
    ("domain", &[]),
    ("clock", &[]),
    ("config", &[]),
    ("metrics", &[]),
    // Set up from its section of the configuration, before anything else.
    ("telemetry", &["clock", "config"]),
    ("tls", &[]),
    ("password", &[]),
    ("permits", &[]),
    ("problem", &[]),
    ("pump", &["clock"]),
    ("broker", &["clock", "pump", "tls"]),
    ("listener", &["config", "metrics", "problem"]),
    ("podero", &["clock", "permits", "pump", "tls"]),
    ("store", &["clock"]),
    // A link of the partner's, for an agent and for an owner: calls and rows.
    ("link_maker", &["clock", "podero", "store"]),
    // The intake of the queue is the broker's consumer.
    ("inbound", &["clock", "config", "listener", "metrics", "permits", "problem", "pump", "store", "broker"]),
    ("apply", &["clock", "metrics", "permits", "podero", "pump", "store"]),
    ("watch", &["clock", "permits", "podero", "pump", "store"]),
    ("upkeep", &["clock", "config", "metrics", "pump", "store"]),
    ("staff", &["clock", "podero", "pump", "store"]),
    ("replica", &["clock", "metrics", "podero", "pump", "store"]),
    ("outbound", &["broker", "clock", "metrics", "pump", "store", "tls"]),
    (
        "admin",
        &[
            "clock", "config", "link_maker", "listener", "metrics", "password", "podero", "problem", "store",
            "telemetry",
        ],
    ),
    ("reconnect", &["config", "link_maker", "listener", "metrics", "store"]),
    // Pages of what the admin API answers, by its functions.
    ("console", &["admin", "config", "listener", "store"]),
    ("sandbox", &["clock", "pump"]),
    (
        "app",
        &[
            "admin", "apply", "broker", "clock", "config", "console", "inbound", "link_maker", "listener", "metrics",
            "outbound", "permits", "podero", "pump", "reconnect", "replica", "sandbox", "spec", "staff", "store",
            "upkeep", "watch",
        ],
    ),
    (
        "cli",
        &[
            "app", "broker", "clock", "config", "console", "inbound", "metrics", "password", "podero", "problem",
            "pump", "sandbox", "store", "telemetry",
        ],
    ),
    // Of the types and tables by which requests and events are read, and answers written.
    ("spec", &["admin", "config", "inbound", "listener", "outbound", "problem", "sandbox", "store"]),
    ("main", &["cli"]),
    ("lib", &[]),
];

#[test]
fn imports_point_down() {
    for (path, imported) in source::Program::read().rooms() {
        let module = module(path);
        let (_, allowed) = MAY_IMPORT
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("{path}: which layer is `{module}` in? Say so in tests/it/tidy/mod.rs"));
        for imported in imported {
            let is_fine = imported == module || imported == "domain" || allowed.contains(&imported);
            assert!(is_fine, "{path} imports crate::{imported}: imports point down, siblings meet in tables only");
        }
    }
}

/// Files that may name each foreign crate.
const ROOMS: [(&str, &[&str]); 36] = [
    (
        "actix_web",
        &[
            "src/inbound/http.rs",
            "src/inbound/scim/",
            "src/listener/mod.rs",
            "src/admin",
            "src/console/",
            "src/reconnect/",
            "src/app/",
            "src/sandbox/",
        ],
    ),
    ("lapin", &["src/broker/"]),
    // The demonstration is an outsider: it has nothing but HTTP.
    ("reqwest", &["src/podero/", "src/outbound.rs", "src/cli/demo.rs", "src/console/provider.rs"]),
    ("openidconnect", &["src/console/provider.rs"]),
    ("sqlx", &["src/store/"]),
    ("prometheus", &["src/metrics.rs"]),
    ("backoff", &["src/domain/retry.rs"]),
    ("governor", &["src/podero/gate.rs"]),
    ("http_body", &["src/podero/body.rs"]),
    ("bytes", &["src/podero/body.rs", "src/inbound/", "src/listener/mod.rs", "src/store/inbox.rs", "src/cli/import/"]),
    ("cloudevents", &["src/inbound/", "src/outbound.rs"]),
    ("standardwebhooks", &["src/inbound/signature.rs", "src/outbound.rs", "src/config/"]),
    ("clap", &["src/cli/arguments.rs", "src/cli/error.rs"]),
    ("rand", &["src/clock.rs", "src/sandbox/"]),
    (
        "rustix",
        &[
            "src/cli/map.rs",
            "src/cli/serve.rs",
            "src/cli/signals.rs",
            "src/clock.rs",
            "src/config/file.rs",
            "src/store/db_file.rs",
        ],
    ),
    ("maud", &["src/console/", "src/reconnect/"]),
    ("shlex", &["src/console/parts.rs"]),
    ("mimalloc", &["src/main.rs"]),
    ("jaq_core", &["src/inbound/mapping/nesting.rs", "src/inbound/mapping/program.rs"]),
    ("jaq_json", &["src/inbound/mapping/program.rs"]),
    ("ipnet", &["src/config/networks.rs"]),
    ("jiff", &["src/domain/date", "src/domain/zone.rs", "src/inbound/mapping/program.rs"]),
    ("unicode_general_category", &["src/domain/text.rs"]),
    ("celes", &["src/domain/country.rs"]),
    ("unicode_normalization", &["src/domain/country.rs", "src/domain/normal.rs", "src/domain/text.rs"]),
    ("csv_core", &["src/inbound/lines.rs", "src/store/audit_export.rs"]),
    ("encoding_rs", &["src/inbound/text.rs"]),
    ("flate2", &["src/inbound/text.rs"]),
    ("indicatif", &["src/cli/import/progress_bar.rs"]),
    ("aws_lc_rs", &["src/inbound/signature.rs"]),
    ("argon2", &["src/password.rs"]),
    ("rpassword", &["src/cli/operator.rs"]),
    ("uzers", &["src/cli/actor.rs"]),
    ("rustls", &["src/tls.rs"]),
    (
        "schemars",
        &[
            "src/admin/",
            "src/domain/ids.rs",
            "src/domain/names.rs",
            "src/domain/team/review.rs",
            "src/domain/timestamp.rs",
            "src/problem.rs",
            "src/spec/admin.rs",
            "src/spec/schemas.rs",
            "src/store/",
        ],
    ),
    ("anyhow", &["src/app/", "src/cli/", "src/outbound.rs"]),
];

#[test]
fn foreign_crates_stay_in_their_rooms() {
    for (path, text) in files("src", &["rs"]) {
        let code = code(&text);
        for (name, rooms) in ROOMS {
            let is_used = code.split(&format!("{name}::")).skip(1).count() > 0 && {
                // `crate::podero::…` is ours; a foreign crate's path begins where no path goes on.
                code.match_indices(&format!("{name}::"))
                    .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':'))
            };
            let is_at_home = rooms.iter().any(|room| path.starts_with(room));
            assert!(!is_used || is_at_home, "{path} names the crate `{name}`, whose rooms are {rooms:?}");
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_and_where_one_goes_next() {
    for (path, text) in files("src", &["rs"]) {
        let is_part_of_tests = path.ends_with("/tests.rs") || path.contains("/tests/");
        assert!(text.starts_with("//!"), "{path} does not open with its responsibility");
        let has_breadcrumb = text.contains("//! Before: ") && text.contains("After: ");
        assert!(has_breadcrumb || is_part_of_tests || path == "src/main.rs", "{path} has no Before and After");
    }
}

#[test]
fn a_folder_of_modules_has_a_mod_rs() {
    let paths: Vec<String> = files("src", &["rs"]).into_iter().map(|(path, _)| path).collect();
    let is_test = |path: &str| path.ends_with("/tests.rs") || path.contains("/tests/");
    let is_split = |path: &&String| {
        let folder = path.replace(".rs", "/");
        !is_test(path) && paths.iter().any(|other| other.starts_with(&folder) && !is_test(other))
    };
    let found = paths.iter().filter(is_split).map(|path| (path.clone(), "its folder holds more of it".to_owned()));
    today::expect("module_style.txt", &found.collect(), "Move the file into its folder, as mod.rs");
}

#[test]
fn nothing_is_left_to_be_done_in_a_comment() {
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    for folder in ["src", "tests", "docs", "deploy"] {
        for (path, text) in files(folder, &["rs", "md", "toml", "yml", "yaml", "sql"]) {
            for word in &words {
                assert!(!text.contains(word.as_str()), "{path}: {word} is an issue, a decision or done, not a comment");
            }
        }
    }
}

#[test]
fn the_documents_know_every_key_metric_reason_problem_and_topic() {
    let mut of_operations: Vec<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
    of_operations.extend(KEYS.iter().filter_map(|key| key.file_name()));
    of_operations.extend(metrics::NAMES.iter().map(|name| (*name).to_owned()));
    of_operations.extend(Reason::ALL.map(|reason| reason.name().to_owned()));
    let mut of_integration = Topic::ALL.map(|topic| topic.name().to_owned()).to_vec();
    of_integration.extend(EventKind::ALL.map(|kind| kind.name().to_owned()));
    of_integration.extend(Cause::ALL.map(|cause| cause.name().to_owned()));
    // Those of the webhook endpoint stand with its answers, those of the admin API with its paths.
    let of_either = ProblemKind::ALL.map(|kind| kind.name().to_owned()).to_vec();
    let [operations, integration] = ["docs/OPERATIONS.md", "docs/INTEGRATION.md"].map(document);
    let either = format!("{operations}{integration}");
    for (text, names) in [(operations, of_operations), (integration, of_integration), (either, of_either)] {
        for name in names {
            let last = name.rsplit('.').next().unwrap_or(&name);
            // In a table of one section a key may stand by its last part, a metric with its labels, and a problem by its type's
            // end.
            let forms = [
                format!("`{name}`"),
                format!("`{name}{{"),
                format!("`.{last}`"),
                format!("`{last}`"),
                format!(":{name}`"),
            ];
            let is_there = forms.iter().any(|form| text.contains(form.as_str()));
            assert!(is_there, "its document in docs/ does not speak of `{name}`");
        }
    }
}

/// The anchors of a document's headings, as GitHub makes them. Lines of examples are no headings.
fn anchors(text: &str) -> Vec<String> {
    let mut is_example = false;
    let headings = text.lines().filter(|line| {
        is_example ^= line.starts_with("```");
        !is_example && line.starts_with('#')
    });
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}

/// Name, severity and the path of the page of each alert.
fn alerts(rules: &str) -> Vec<(String, String, String)> {
    let after = |rule: &str, word: &str| {
        let found = rule.split_once(word).map(|(_, rest)| rest.lines().next().unwrap_or_default().trim());
        found.unwrap_or_else(|| panic!("a rule without {word}: {rule}")).trim_end_matches('"').to_owned()
    };
    let rules = rules.split("- alert: ").skip(1);
    rules
        .map(|rule| {
            let name = rule.lines().next().unwrap_or_default().trim().to_owned();
            (name, after(rule, "severity: "), after(rule, "runbook: \"{{ $externalLabels.runbooks }}"))
        })
        .collect()
}

#[test]
fn every_alert_has_a_page_of_its_name_and_a_row_in_the_table() {
    let table = document("docs/alerts/README.md");
    let alerts = alerts(&document("deploy/prometheus/rules.yml"));
    assert!(alerts.len() >= 18, "all rules are read");
    for (name, severity, path) in &alerts {
        assert_eq!(*path, format!("docs/alerts/{name}.md"), "the annotation `runbook` of {name}");
        let page = document(path);
        assert!(page.starts_with(&format!("# {name}: ")), "{path} is not under the name of its alert");
        let chapters: Vec<&str> = page.lines().filter(|line| line.starts_with("## ")).collect();
        assert_eq!(chapters, ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation", "## Cured when"], "{path}");
        let row = format!("| [{name}]({name}.md) | {severity} |");
        assert!(table.contains(&row), "the table of docs/alerts/README.md lacks {row}");
    }
    for (path, _) in files("docs/alerts", &["md"]) {
        let has_rule = path == "docs/alerts/README.md" || alerts.iter().any(|(_, _, page)| *page == path);
        assert!(has_rule, "{path} has no rule");
    }
}

#[test]
fn rules_and_their_pages_name_metrics_that_exist() {
    let mut texts = files("docs/alerts", &["md"]);
    texts.push(("deploy/prometheus/rules.yml".into(), document("deploy/prometheus/rules.yml")));
    for (path, text) in texts {
        for word in text.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
            let base = ["_bucket", "_sum", "_count"].iter().fold(word, |word, end| word.trim_end_matches(end));
            let is_metric = base.strip_prefix("podero_bridge_").is_some_and(|rest| !rest.is_empty());
            assert!(!is_metric || metrics::NAMES.contains(&base), "{path} names {word}, which is no metric");
        }
    }
}

/// Texts of the program's files, with a text that is continued on the next line in one piece.
fn texts_of_the_program() -> String {
    let joined = |text: &str| {
        let mut pieces = text.split("\\\n");
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces.fold(first, |whole, piece| whole + piece.trim_start())
    };
    files("src", &["rs"]).iter().map(|(_, text)| joined(text)).collect()
}

#[test]
fn the_page_of_the_log_quotes_lines_that_the_program_writes() {
    let operations = document("docs/OPERATIONS.md");
    let chapter =
        operations.split("## The log\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the page");
    let program = texts_of_the_program();
    let mut count = 0;
    for row in chapter.lines().filter(|line| line.starts_with("| `")) {
        let quoted = row.split(" | ").next().unwrap_or_default().split('`').skip(1).step_by(2);
        for piece in quoted.flat_map(|line| line.split('…')).map(str::trim).filter(|piece| !piece.is_empty()) {
            assert!(
                program.contains(piece),
                "docs/OPERATIONS.md quotes a line of the log that is not written: {piece}"
            );
            count += 1;
        }
    }
    assert!(count >= 30, "the table is read");
}

#[test]
fn every_test_that_holds_an_attack_off_is_there() {
    let reliability = document("docs/RELIABILITY.md");
    let (_, chapter) = reliability.split_once("## Under attack").expect("the chapter");
    let rows = chapter.split("\n## ").next().unwrap_or_default().lines().filter(|line| line.starts_with("| "));
    let code: Vec<String> =
        ["src", "tests/it"].iter().flat_map(|folder| files(folder, &["rs"])).map(|(_, text)| text).collect();
    let mut count = 0;
    for row in rows.skip(1) {
        let tests = row.split(" | ").nth(2).unwrap_or_else(|| panic!("a row without tests: {row}"));
        for name in tests.split('`').skip(1).step_by(2) {
            let last = name.rsplit("::").next().unwrap_or(name);
            let is_there = code.iter().any(|text| text.contains(&format!("fn {last}(")));
            assert!(is_there, "docs/RELIABILITY.md names the test {name}, which is not there");
            count += 1;
        }
    }
    assert!(count >= 30, "the table is read");
}

#[test]
fn every_threat_to_an_owners_link_has_its_test() {
    let page = document("docs/RECONNECT.md");
    let (_, chapter) = page.split_once("\n## Threats\n").expect("the chapter");
    let code: Vec<String> =
        ["src", "tests/it"].iter().flat_map(|folder| files(folder, &["rs"])).map(|(_, text)| text).collect();
    let rows: Vec<&str> = chapter.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 10, "the table is read");
    for row in rows {
        let named = row.split(" | ").nth(2).unwrap_or_else(|| panic!("a row without a test: {row}"));
        let tests: Vec<&str> = named.split('`').skip(1).step_by(2).filter(|name| !name.contains('/')).collect();
        assert!(!tests.is_empty(), "a row without a test: {row}");
        for name in tests {
            let is_there = code.iter().any(|text| text.contains(&format!("fn {name}(")));
            assert!(is_there, "docs/RECONNECT.md names the test {name}, which is not there");
        }
    }
}

#[test]
fn every_run_of_the_scripts_has_a_test() {
    let mut tests = Vec::new();
    for (path, text) in files("tests/it", &["rs"]) {
        let module =
            path.trim_start_matches("tests/it/").trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
        let names = text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
        tests.extend(names.map(|name| format!("{module}::{name}")));
    }
    let script = document("tests/reliability");
    let wanted: Vec<&str> = script.lines().filter_map(|line| line.trim().strip_prefix("tests ")).collect();
    assert!(wanted.len() >= 10, "the runs are read");
    for name in wanted {
        assert!(tests.iter().any(|test| test.contains(name)), "tests/reliability runs {name}, which is no test");
    }
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let mut documents = files("docs", &["md"]);
    documents.push(("README.md".into(), document("README.md")));
    for (path, text) in documents {
        let folder = Path::new(&path).parent().expect("a folder").to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let place = if target.is_empty() { root().join(&path) } else { root().join(&folder).join(target) };
            assert!(place.exists(), "{path} links to {target}, which is not there");
            if !anchor.is_empty() && place.extension().is_some_and(|ending| ending == "md") {
                let there = std::fs::read_to_string(&place).expect("text");
                assert!(anchors(&there).iter().any(|known| known == anchor), "{path} links to {link}: no such heading");
            }
        }
    }
}

#[test]
fn the_layer_table_has_no_cycle() {
    let table: BTreeMap<&str, &[&str]> = MAY_IMPORT.into_iter().collect();
    fn reaches(table: &BTreeMap<&str, &[&str]>, from: &str, to: &str) -> bool {
        table.get(from).is_some_and(|next| next.iter().any(|step| *step == to || reaches(table, step, to)))
    }
    for module in table.keys() {
        assert!(!reaches(&table, module, module), "{module} imports itself in the end");
    }
}
