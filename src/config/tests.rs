//! The rules of the configuration, row by row: a text and an environment in, problems or values out.

use std::os::unix::fs::PermissionsExt;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::domain::alert::{Season, Severities, WatchPolicy};
use crate::domain::identity::Role;
use crate::domain::plan::{ChurnDelete, OldBuilding, OldHeatPumps};

mod documents;

const EXAMPLE: &str = include_str!("../../deploy/config.example.toml");

/// The least that is complete: an account, and one source.
const BASE: &str = r#"
[podero]
org_id = "6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b"
client_id = "bridge"
client_secret = "s3cret"
"#;
const SOURCE: &str = r#"
[[source]]
name = "billing"
verify = "bearer"
secrets = ["0123456789abcdef"]
"#;
const SIGNING_KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn strings(variables: &[(&str, &str)]) -> Strings {
    variables.iter().map(|(name, text)| (format!("{ENVIRONMENT_PREFIX}{name}"), (*text).to_owned())).collect()
}

/// Loads the complete base with more around it.
fn load(before: &str, after: &str, variables: &[(&str, &str)]) -> Result<Config, Problems> {
    Config::parse(&format!("{before}\n{BASE}\n{after}\n{SOURCE}"), &strings(variables), false)
}

fn good(after: &str, variables: &[(&str, &str)]) -> Config {
    load("", after, variables).unwrap_or_else(|problems| panic!("{after} {variables:?}\n{problems}"))
}

/// Each expected text is the beginning of one problem's line; nothing else may be wrong.
#[track_caller]
fn check<T: std::fmt::Debug>(outcome: Result<T, Problems>, expected: &[&str]) {
    let problems = outcome.expect_err("a refusal");
    let lines: Vec<String> = problems.iter().map(ConfigProblem::to_string).collect();
    assert_eq!(lines.len(), expected.len(), "{problems}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\nis not\n{expected}");
    }
    assert_eq!(problems.to_string(), lines.join("\n"));
}

#[test]
fn defaults_are_the_contracts() {
    let config = good("", &[]);
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!((config.http.body_max, config.http.batch_max), (1 << 20, 1_000));
    assert_eq!((config.admin.listen.to_string().as_str(), config.admin.tokens.is_empty()), ("127.0.0.1:9090", true));
    assert_eq!((config.store.url.expose(), config.store.is_default), ("sqlite://podero-bridge.db", true));
    assert_eq!(config.store.backlog_max, 1_000_000);
    assert_eq!(config.store.retention, Some(Duration::from_secs(90 * 86_400)));
    assert!(config.store.erasure_key.is_none());
    assert!(config.amqp.is_none() && config.policy.onboarding.is_none() && config.outbound.webhook.is_none());
    let Account::Podero { base_url, client_secret, .. } = &config.podero.account else { panic!("an account") };
    assert_eq!((base_url.as_str(), client_secret.expose()), ("https://app.podero.com", "s3cret"));
    assert_eq!(config.podero.timeout, Duration::from_secs(10));
    assert_eq!((config.podero.max_in_flight, config.podero.requests_per_second), (64, 50));
    assert_eq!(
        (config.policy.schedule.initial, config.policy.schedule.max),
        (Duration::from_secs(1), Duration::from_secs(900))
    );
    assert_eq!(config.policy.give_up_after, Duration::from_secs(72 * 3_600));
    assert_eq!(config.policy.old_heat_pumps, OldHeatPumps::Pause);
    assert_eq!(config.policy.old_building, OldBuilding::Delete);
    assert_eq!((config.policy.churn, config.policy.retention), (ChurnDelete::Soft, Duration::from_secs(30 * 86_400)));
    assert_eq!(config.policy.brake, None);
    assert!(config.watch.enabled);
    // The core's own defaults are the same, but for the season.
    let severities = Severities::DEFAULT.in_season(Season::parse("10-01..04-30"));
    assert_eq!(config.watch.policy, WatchPolicy { severities, ..WatchPolicy::DEFAULT });
    assert_eq!(config.watch.region_chars, 0);
    assert_eq!((config.sandbox.listen.to_string().as_str(), config.sandbox.seed), ("127.0.0.1:8085", None));
    assert_eq!((config.log.format, config.log.level.as_str()), (LogFormat::Auto, "info"));
}

#[test]
fn for_the_store_alone_nothing_else_need_be_right_but_every_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    let load = |text: &str, with_key: bool| {
        std::fs::write(&file, text).expect("written");
        Config::load_store(Some(&file), &strings(&[("STORE__BACKLOG_MAX", "7")]), with_key)
    };
    let text = "[podero]\nclient_secret_file = '/none'\n[http]\nlisten = 'x'\n[store]\nurl = 'sqlite:x.db'\n\
                erasure_key_file = '/none'\n";
    let store = load(text, false).expect("the key is not read either");
    assert_eq!((store.url.expose(), store.backlog_max, store.erasure_key.is_none()), ("sqlite:x.db", 7, true));
    check(load(text, true), &["store.erasure_key_file: found"]);
    let wrong = "[store]\nurl = 'x'\n[podero]\nbase_ulr = 'x'\n";
    check(load(wrong, false), &["podero.base_ulr: found an unknown key", "store.url: found"]);
}

/// Section, setting at a bound, setting beyond it, problem.
const BOUNDS: &[(&str, &str, &str, &str)] = &[
    ("http", "listen = '[::1]:1'", "listen = 'localhost:1'", "http.listen: found \"localhost:1\"; allowed: an IP"),
    ("http", "body_max = '64MiB'", "body_max = '65MiB'", "http.body_max: found \"65MiB\"; allowed: a size from"),
    ("http", "body_max = 1024", "body_max = 1023", "http.body_max: found 1023"),
    ("http", "batch_max = 10000", "batch_max = 10001", "http.batch_max: found 10001; allowed: a whole number from 1"),
    ("http", "batch_max = 1", "batch_max = '1'", "http.batch_max: found \"1\""),
    ("admin", "token = '0123456789abcdef'", "token = '0123456789abcde'", "admin.token: found a value that is not"),
    ("store", "url = 'postgresql://u:p@h/d'", "url = 'mysql://u:p@h/d'", "store.url: found a value that is not shown"),
    (
        "store",
        "url = 'sqlite:a b%20.db'",
        "url = 'sqlite://'",
        "store.url: found a value that is not shown; allowed: sqlite",
    ),
    (
        "store",
        "url = 'postgres://h/d?sslmode=verify-full&options[statement_timeout]=5s'",
        "url = 'postgres://h/d?sslmdoe=verify-full'",
        "store.url: found a value that is not shown",
    ),
    ("store", "url = 'sqlite:///:memory:'", "url = 'sqlite::memory:'", "store.url: found a value that is not shown"),
    ("store", "url = 'sqlite:x.db'", "url = 'sqlite:x.db?mode=ro'", "store.url: found a value that is not shown"),
    ("store", "retention = '0s'", "retention = '11years'", "store.retention: found \"11years\"; allowed: a duration"),
    (
        "store",
        "erasure_key = '0123456789abcdef'",
        "erasure_key = '0123456789abcde'",
        "store.erasure_key: found a value that is not",
    ),
    ("store", "backlog_max = 1", "backlog_max = 0", "store.backlog_max: found 0; allowed: a whole number from 1"),
    ("amqp", "url = 'amqps://u:p@h'", "url = 'http://u:p@h'", "amqp.url: found a value that is not shown; allowed"),
    ("amqp", "url = ['amqp://h']", "url = []", "amqp.url: found an empty list"),
    (
        "amqp",
        "url = ['amqp://h', 'amqp://i']",
        "url = ['amqp://h', 'x']",
        "amqp.url: found a value that is not shown as number 2 of 2",
    ),
    ("amqp", "prefetch = 65535", "prefetch = 65536", "amqp.prefetch: found 65536"),
    ("amqp", "prefetch = 1", "prefetch = 0", "amqp.prefetch: found 0; allowed: a whole number from 1 to 65535"),
    ("amqp", "declare = false", "declare = 'false'", "amqp.declare: found \"false\"; allowed: true or false"),
    ("amqp", "inbound_queue = 'q'", "inbound_queue = ''", "amqp.inbound_queue: found \"\""),
    ("amqp", "source = 'billing'", "source = 'biling'", "amqp.source: found \"biling\"; allowed: the name of a"),
    ("amqp", "outbound_exchange = 'x'", "outbound_exchange = 'customer.lifecycle'", "amqp.outbound_exchange: found"),
    (
        "retry",
        "initial = '15m'",
        "initial = '16m'",
        "retry.initial: found 16m; allowed: at most retry.max, which is 15m",
    ),
    ("retry", "max = '1s'", "max = '1'", "retry.max: found \"1\"; allowed: a duration from"),
    ("watch", "disconnect_after = '0s'", "disconnect_after = '-1s'", "watch.disconnect_after: found \"-1s\""),
    ("watch", "disconnect_polls = 1", "disconnect_polls = 0", "watch.disconnect_polls: found 0"),
    ("watch", "reconnect_polls = 1", "reconnect_polls = -1", "watch.reconnect_polls: found -1"),
    ("watch", "outage_share = 1", "outage_share = 1.01", "watch.outage_share: found 1.01; allowed: a number above 0"),
    ("watch", "flap_losses = 2", "flap_losses = 1", "watch.flap_losses: found 1; allowed: a whole number from 2"),
    ("watch", "region_chars = 3", "region_chars = 4", "watch.region_chars: found 4"),
    (
        "watch",
        "heating_season = 'none'",
        "heating_season = '10-01'",
        "watch.heating_season: found \"10-01\"; allowed: two",
    ),
    ("watch", "heating_season = '05-01..09-30'", "heating_season = '5-1..9-30'", "watch.heating_season: found"),
    ("severity", "unstable = 'info'", "unstable = 'bad'", "severity.unstable: found \"bad\"; allowed: one of info"),
    ("watch", "outage_share = 0.001", "outage_share = 0.0", "watch.outage_share: found 0"),
    (
        "move",
        "old_building = 'keep'",
        "old_building = 'pause'",
        "move.old_building: found \"pause\"; allowed: one of delete, keep",
    ),
    (
        "churn",
        "delete = 'soft-then-hard'",
        "delete = 'never'",
        "churn.delete: found \"never\"; allowed: one of soft, hard, soft-then-hard",
    ),
    ("churn", "brake_count = 0", "brake_count = -1", "churn.brake_count: found -1; allowed: a whole number from 0 to"),
    ("churn", "brake_count = 1000000", "brake_count = 1000001", "churn.brake_count: found 1000001"),
    (
        "churn",
        "brake_share = 1",
        "brake_share = 2",
        "churn.brake_share: found 2; allowed: a number above 0 and at most 1",
    ),
    ("churn", "brake_share = 0.0001", "brake_share = 0", "churn.brake_share: found 0"),
    ("churn", "brake_window = '30d'", "brake_window = '31d'", "churn.brake_window: found \"31d\"; allowed: a duration"),
    ("churn", "brake_window = '1s'", "brake_window = '0s'", "churn.brake_window: found \"0s\""),
    ("sandbox", "seed = 0", "seed = -1", "sandbox.seed: found -1"),
    ("log", "format = 'json'", "format = 'xml'", "log.format: found \"xml\"; allowed: one of text, json, auto"),
    ("log", "level = 'warn,podero_bridge=debug'", "level = 'inof'", "log.level: found \"inof\""),
    ("log", "level = 'off'", "level = ''", "log.level: found \"\""),
    (
        "onboarding",
        "price_zone = 'DE'",
        "price_zone = 'FR'",
        "onboarding.price_zone: found \"FR\"; allowed: one of AT,",
    ),
    ("onboarding", "language = 'sv'", "language = 'fr'", "onboarding.language: found \"fr\"; allowed: one of sv,"),
    (
        "reconnect",
        "secrets = ['0123456789abcdef0123456789abcdef']",
        "secrets = ['0123456789abcdef0123456789abcde']",
        "reconnect.secrets: found a value that is not shown; allowed: random texts of at least 32",
    ),
    (
        "reconnect",
        "base_url = 'http://127.0.0.1:8080/'",
        "base_url = 'http://heat.utility.example'",
        "reconnect.base_url: found a value that is not shown; allowed: scheme and host only",
    ),
    ("reconnect", "link_ttl = '1h'", "link_ttl = '59m'", "reconnect.link_ttl: found \"59m\"; allowed: a duration"),
    ("reconnect", "contact = 'a: b'", "contact = \"a\\nb\"", "reconnect.contact: found \"a\\nb\"; allowed: 1 to 200"),
];

/// Values outside their bounds are refused and those at the bounds are not.
#[test]
fn values_outside_their_bounds_are_refused() {
    for (section, allowed, refused, problem) in BOUNDS {
        good(&format!("[{section}]\n{allowed}"), &[]);
        check(load("", &format!("[{section}]\n{refused}"), &[]), &[problem]);
    }
}

#[test]
fn links_for_customers_want_an_address_secrets_and_the_watch() {
    let secrets = "secrets = ['0123456789abcdef0123456789abcdef', 'fedcba9876543210fedcba9876543210']";
    let whole = format!("[reconnect]\nenabled = true\nbase_url = 'https://heat.utility.example/'\n{secrets}\n");
    assert!(good("", &[]).reconnect.is_none());
    let links = good(&whole, &[]).reconnect.expect("enabled");
    assert_eq!((links.base_url.as_str(), links.secrets.now().len()), ("https://heat.utility.example", 2));
    assert_eq!(links.link_ttl, Duration::from_secs(30 * 86_400));
    assert!(links.operator_name.is_none() && links.contact.is_none() && links.logo.is_none());
    assert!(!format!("{links:?}").contains("0123456789"));
    let missing = ["reconnect.base_url: found nothing; required", "reconnect.secrets: found nothing; required"];
    check(load("", "[reconnect]\nenabled = true", &[]), &missing);
    let blind = format!("{whole}[watch]\nenabled = false");
    check(load("", &blind, &[]), &["reconnect.enabled: found true; without watch.enabled"]);
    check(load("", "[reconnect]\nlogo = 'no/such/logo.svg'", &[]), &["reconnect.logo: found \"no/such/logo.svg\""]);
    check(load("", "[reconnect]\nlogo = 'Cargo.toml'", &[]), &["reconnect.logo: found \"Cargo.toml\"; it is none of"]);
}

#[test]
fn the_partners_section_has_bounds_too() {
    let rows = [
        ("timeout = '60s'", "timeout = '61s'", "podero.timeout: found \"61s\"; allowed: a duration from 100ms to 1m"),
        ("max_in_flight = 4096", "max_in_flight = 4097", "podero.max_in_flight: found 4097"),
        ("requests_per_second = 10000", "requests_per_second = 0", "podero.requests_per_second: found 0"),
        (
            "base_url = 'https://x.example'",
            "base_url = 'http://x.example'",
            "podero.base_url: found a value that is not shown",
        ),
        ("base_url = 'http://localhost:1'", "base_url = 'https://x.example/api'", "podero.base_url: found"),
        (
            "base_url = 'http://[::1]:1/'",
            "base_url = 'https://u:p@x.example'",
            "podero.base_url: found a value that is not",
        ),
    ];
    for (allowed, refused, problem) in rows {
        good(allowed, &[]);
        check(load("", refused, &[]), &[problem]);
    }
    let Account::Podero { base_url, .. } = good("base_url = 'http://127.0.0.1:81/'", &[]).podero.account else {
        panic!("an account")
    };
    assert_eq!(base_url, "http://127.0.0.1:81");
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion() {
    let rows = [
        ("[http]\nlisen = 'x'", "http.lisen: found an unknown key; did you mean http.listen?"),
        ("[htttp]\nlisten = 'x'", "htttp.listen: found an unknown key; did you mean http.listen?"),
        ("[admin]\ntoken_fil = 'x'", "admin.token_fil: found an unknown key; did you mean admin.token_file?"),
        ("[http]\nlisten_file = 'x'", "http.listen_file: found an unknown key; there is no key of a similar name"),
        ("[zebra]", "zebra: found an unknown key; there is no key of a similar name"),
        ("[http.tls]\ncert = 1", "http.tls: found an unknown key"),
        ("[http.listen]\nport = 1", "http.listen: found a table; allowed: an IP address"),
        ("[[http]]\nlisten = 1", "http: found a list; allowed: a table, [http]"),
        (
            "[[source]]\nname = 'b'\nverify = 'none'\nsecret = 'x'",
            "source.b.secret: found an unknown key; did you mean source.secrets?",
        ),
        (
            "[[source]]\nname = 'b'\nverify = 'none'\nmap = '.'",
            "source.b.map: found \".\"; the file . cannot be read: it is a folder, and no file",
        ),
    ];
    for (text, problem) in rows {
        check(load("", text, &[]), &[problem]);
    }
    check(
        load("", "", &[("HTTP__LISEN", "x")]),
        &["PODERO_BRIDGE__HTTP__LISEN: found an unknown variable; did you mean PODERO_BRIDGE__HTTP__LISTEN?"],
    );
    check(
        load("", "", &[("HTTP_LISTEN", "x")]),
        &["PODERO_BRIDGE__HTTP_LISTEN: found an unknown variable; did you mean"],
    );
    check(
        load("", "", &[("http__listen", "127.0.0.1:1")]),
        &["PODERO_BRIDGE__http__listen: found an unknown variable"],
    );
    check(load("", "", &[("SOURCE__BILLING__NAME", "x")]), &["PODERO_BRIDGE__SOURCE__BILLING__NAME: found an unknown"]);
    check(load("", "", &[("SOURCE__SECRETS", "x")]), &["PODERO_BRIDGE__SOURCE__SECRETS: found an unknown"]);
    check(load("http = 3", "", &[]), &["http: found 3; allowed: a table, [http]"]);
}

#[test]
fn the_environment_overrides_the_file() {
    let config = good(
        "[http]\nbatch_max = 7\nlisten = '127.0.0.1:1'",
        &[
            ("HTTP__BATCH_MAX", "8"),
            ("WATCH__OUTAGE_SHARE", "0.5"),
            ("WATCH__ENABLED", "false"),
            ("HTTP__BODY_MAX", "2MiB"),
            ("PODERO__TIMEOUT", "2s"),
            ("STORE__URL", "postgres://u:p@h/d"),
            ("AMQP__URL", "amqp://a, amqp://b"),
            ("SANDBOX__SEED", "18446744073709551615"),
            ("SOURCE__BILLING__SECRETS", "fedcba9876543210,0123456789abcdef"),
            ("SOURCE__WEB_SHOP__VERIFY", "none"),
        ],
    );
    assert_eq!((config.http.batch_max, config.http.listen.port(), config.http.body_max), (8, 1, 2 << 20));
    assert!(!config.watch.enabled && (config.watch.policy.outage_share - 0.5).abs() < f64::EPSILON);
    assert_eq!(config.podero.timeout, Duration::from_secs(2));
    assert_eq!((config.store.url.expose(), config.store.is_default), ("postgres://u:p@h/d", false));
    let urls: Vec<_> = config.amqp.expect("given").urls.iter().map(|url| url.expose().to_owned()).collect();
    assert_eq!(urls, ["amqp://a", "amqp://b"]);
    assert_eq!(config.sandbox.seed, Some(u64::MAX));
    let names: Vec<_> = config.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["billing", "web-shop"]);
    let Verify::Bearer { secrets, .. } = &config.sources[0].verify else { panic!("bearer") };
    assert_eq!(secrets.now()[0].expose(), "fedcba9876543210");
    let problem = "podero.timeout: found \"2\" in PODERO_BRIDGE__PODERO__TIMEOUT; allowed: a duration";
    check(load("", "timeout = '3s'", &[("PODERO__TIMEOUT", "2")]), &[problem]);
    let problem = "PODERO_BRIDGE__LOG__LEVEL: found a value that is not shown; allowed: text in UTF-8";
    check(load("", "", &[("LOG__LEVEL", "in\u{fffd}fo")]), &[problem]);
}

fn texts(secrets: &Secrets) -> Vec<String> {
    secrets.now().iter().map(|secret| secret.expose().to_owned()).collect()
}

#[test]
fn secrets_follow_their_file_unless_it_is_unusable() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("list");
    std::fs::write(&path, "0123456789abcdef\n").expect("written");
    let text = format!("[[source]]\nname = 'a'\nverify = 'bearer'\nsecrets_file = '{}'", path.display());
    let config = good(&text, &[]);
    let Verify::Bearer { secrets, .. } = &config.sources[0].verify else { panic!("bearer") };
    let door = secrets.clone();
    assert_eq!(secrets.reload(), Reloaded::Same);
    std::fs::write(&path, "fedcba9876543210\n0123456789abcdef\n").expect("written");
    assert_eq!(secrets.reload(), Reloaded::Changed);
    assert_eq!(texts(&door), ["fedcba9876543210", "0123456789abcdef"], "every clone sees it");
    std::fs::write(&path, "fedcba9876543210\nshort\n").expect("written");
    let Reloaded::Refused(why) = secrets.reload() else { panic!("one of them is too short") };
    assert!(why.contains("number 2 of 2: allowed: a token") && !why.contains("short\n"), "{why}");
    assert_eq!(secrets.reload(), Reloaded::Same, "told once");
    std::fs::remove_file(&path).expect("removed");
    assert!(matches!(secrets.reload(), Reloaded::Refused(_)), "something else is the matter");
    assert_eq!(texts(&door).len(), 2, "what held before still does");
    std::fs::write(&path, "0123456789abcdef\n").expect("written");
    assert_eq!((secrets.reload(), texts(&door).len()), (Reloaded::Changed, 1));

    let config = good(&text, &[("SOURCE__A__SECRETS", "from-the-environment")]);
    let Verify::Bearer { secrets, .. } = &config.sources[0].verify else { panic!("bearer") };
    assert_eq!((secrets.reload(), texts(secrets).join("")), (Reloaded::Same, "from-the-environment".to_owned()));
}

#[test]
fn secrets_come_from_files_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    };
    let token = file("token", "0123456789abcdef\r\n");
    let list = file("list", "0123456789abcdef\n\nfedcba9876543210\n");
    let (empty, blank, bad) = (file("empty", ""), file("blank", "\n"), file("bad", "short\n"));
    let config = good(
        &format!("[admin]\ntoken_file = '{token}'"),
        &[("SOURCE__B__VERIFY", "bearer"), ("SOURCE__B__SECRETS_FILE", &list)],
    );
    assert_eq!(default_token(&config), "0123456789abcdef");
    let Verify::Bearer { secrets, .. } = &config.sources[1].verify else { panic!("bearer") };
    assert_eq!(texts(secrets), ["0123456789abcdef", "fedcba9876543210"]);

    for (path, problem) in [
        (
            "/nowhere/token",
            "admin.token_file: found a value that is not shown; no file of this path can be read: No such",
        ),
        ("/etc/no-token", "admin.token_file: found \"/etc/no-token\"; the file /etc/no-token cannot be read: No such"),
        ("/dev", "admin.token_file: found \"/dev\"; the file /dev cannot be read: it is a folder, and no file"),
        ("/dev/zero", "admin.token_file: found \"/dev/zero\"; the file /dev/zero cannot be read: it is a device, and"),
        (&empty, &format!("admin.token_file: found \"{empty}\"; the file is empty")),
        (&blank, &format!("admin.token_file: found \"{blank}\"; the file is empty")),
        (&bad, &format!("admin.token: found a value that is not shown in {bad}; allowed: a token of at least 16")),
    ] {
        check(load("", &format!("[admin]\ntoken_file = '{path}'"), &[]), &[problem]);
    }
    check(load("", "[admin]\ntoken_file = 3", &[]), &["admin.token_file: found 3; allowed: the path of a file"]);

    let both = "admin.token: found also admin.token_file; give one of the two";
    check(load("", &format!("[admin]\ntoken_file = '{token}'\ntoken = 'abcdefghijklmnop'"), &[]), &[both]);
    check(load("", "", &[("ADMIN__TOKEN", "abcdefghijklmnop"), ("ADMIN__TOKEN_FILE", &token)]), &[both]);
    let config = good(&format!("[admin]\ntoken_file = '{token}'"), &[("ADMIN__TOKEN", "abcdefghijklmnop")]);
    assert_eq!(default_token(&config), "abcdefghijklmnop");
    let config = good("[admin]\ntoken = 'abcdefghijklmnop'", &[("ADMIN__TOKEN_FILE", &token)]);
    assert_eq!(default_token(&config), "0123456789abcdef");
}

/// The tokens of the admin API, each as its name, role and texts.
fn tokens(config: &Config) -> Vec<(String, Role, Vec<String>)> {
    let tokens = config.admin.tokens.iter();
    tokens.map(|token| (token.name.clone(), token.role, texts(&token.secrets))).collect()
}

/// The only token, which is `admin.token`.
fn default_token(config: &Config) -> String {
    let [(name, Role::Admin, texts)] = &tokens(config)[..] else { panic!("one token") };
    assert_eq!((name.as_str(), texts.len()), ("default", 1));
    texts[0].clone()
}

#[test]
fn named_tokens_have_a_role_and_a_secret_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token").display().to_string();
    std::fs::write(&path, "0123456789abcdef\nfedcba9876543210\n").expect("written");
    let text = format!(
        "[admin]\nlisten = '0.0.0.0:1'\n[[admin.tokens]]\nname = 'ticketing'\nrole = 'support'\ntoken_file = '{path}'\n"
    );
    let variables = [
        ("ADMIN__TOKENS__ON_CALL__ROLE", "admin"),
        ("ADMIN__TOKENS__ON_CALL__TOKEN", "abcdefgh,ijklmnop"),
        ("ADMIN__TOKENS__TICKETING__ROLE", "viewer"),
    ];
    let config = good(&text, &variables);
    let ticketing =
        ("ticketing".to_owned(), Role::Viewer, vec!["0123456789abcdef".to_owned(), "fedcba9876543210".to_owned()]);
    assert_eq!(tokens(&config), [ticketing, ("on-call".to_owned(), Role::Admin, vec!["abcdefgh,ijklmnop".to_owned()])]);
    std::fs::write(&path, "0000000000000000\n").expect("written");
    assert_eq!(config.admin.tokens[0].secrets.reload(), Reloaded::Changed);
    assert_eq!(tokens(&config)[0].2, ["0000000000000000"]);
    let both = format!("[admin]\ntoken = '1111111111111111'\n{}", text.replacen("[admin]\n", "", 1));
    assert_eq!(
        tokens(&good(&both, &[])).iter().map(|token| token.0.as_str()).collect::<Vec<_>>(),
        ["default", "ticketing"]
    );
}

#[test]
fn problems_of_named_tokens_come_at_once_each_with_its_key() {
    let text = "[admin]\ntoken = '0123456789abcdef'\n[[admin.tokens]]\nname = 'a'\nrole = 'owner'\ntoken = 'short'\n\
                [[admin.tokens]]\nname = 'a'\n[[admin.tokens]]\nname = 'default'\nrole = 'admin'\n\
                token = '0123456789abcdef'\n[[admin.tokens]]\nname = 'b'\nrole = 'viewer'\ntoken = '0123456789abcdef'\n\
                rights = 'all'";
    check(
        load("", text, &[("ADMIN__TOKENS__NONE__ROLE", "admin")]),
        &[
            "admin.tokens.#2.name: found \"a\"; each token needs a name of its own",
            "admin.tokens.#3.name: found \"default\"; allowed: 1 to 64 of the characters a-z, 0-9 and -, but not default",
            "admin.tokens.b.rights: found an unknown key",
            "PODERO_BRIDGE__ADMIN__TOKENS__NONE__ROLE: found an unknown variable",
            "admin.tokens.a.role: found \"owner\"; allowed: one of viewer, support, admin",
            "admin.tokens.a.token: found a value that is not shown; allowed: a token of at least 16",
            "admin.tokens.#2.role: found nothing; required for every token",
            "admin.tokens.#2.token: found nothing; required for every token; allowed: a token of at least 16",
            "admin.tokens.#3.token: found a value that is not shown; admin.token is the same",
            "admin.tokens.b.token: found a value that is not shown; admin.token is the same",
        ],
    );
    check(load("", "[admin]\ntokens = 'x'", &[]), &["admin.tokens: found \"x\"; allowed: one [[admin.tokens]]"]);
    check(load("", "[admin]\ntokens = [1]", &[]), &["admin.tokens: found 1; allowed: one [[admin.tokens]]"]);
}

#[test]
fn a_secret_has_nothing_in_it_that_cannot_be_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    let path = file.display().to_string();
    let secret = "0123456789abcdef";
    let mark = '\u{feff}';
    let flaws = [
        (format!("{secret}\n{secret}"), "it has more than one line; allowed"),
        (format!("\n{secret}"), "it has more than one line; allowed"),
        (format!("{secret}\r{secret}"), "it has more than one line; allowed"),
        (format!("{secret}\0"), "it has a NUL character; allowed"),
        (format!("{secret}{mark}"), "it has a byte order mark; allowed"),
        (format!("{mark}{mark}{secret}"), "it has a byte order mark; allowed"),
        (format!("{secret}\u{1b}"), "it has a control character; allowed"),
    ];
    for (key, begin) in [
        ("ADMIN__TOKEN", ""),
        ("PODERO__CLIENT_SECRET", ""),
        ("STORE__ERASURE_KEY", ""),
        ("STORE__URL", "postgres://u:"),
        ("AMQP__URL", "amqp://h/"),
    ] {
        let place = key.to_lowercase().replace("__", ".");
        for (flawed, problem) in &flaws {
            let text = format!("{begin}{flawed}");
            let expected = format!("{place}: found a value that is not shown in PODERO_BRIDGE__{key}; {problem}");
            check(load("", "", &[(key, &text)]), &[&expected]);
            // A second line of a file of several is another one.
            if ["AMQP__URL", "ADMIN__TOKEN"].contains(&key) && text.contains('\n') {
                continue;
            }
            std::fs::write(&file, &text).expect("written");
            let expected = format!("{place}: found a value that is not shown in {path}; {problem}");
            check(load("", "", &[(&format!("{key}_FILE"), &path)]), &[&expected]);
        }
    }
    // The mark and line end that Windows writes around a text are no part of it.
    std::fs::write(&file, format!("{mark}{secret}\r\n")).expect("written");
    assert_eq!(default_token(&good("", &[("ADMIN__TOKEN_FILE", &path)])), secret);
}

#[test]
fn nothing_of_a_secret_is_shown_wherever_it_was_pasted() {
    let secret = "s3cretOfTheUtility42";
    for text in [
        "[admin]\ntoken_file = 'SECRET'",
        "[admin]\nlisten = 'SECRET'",
        "[http]\nlisten = 'http://u:SECRET@h'",
        "[store]\nurl = 'mysql://u:SECRET@h'",
        "[outbound]\nwebhook_url = 'ftp://h/SECRET'",
        "[onboarding]\nsuccess_url = 'ftp://h?key=SECRET'",
        "[log]\nformat = 'id:SECRET'",
        "[amqp]\nurl = 'amqp://u:SECRET@@h#'",
        "[admin]\ntoken = 'SECRET",
        "[admin]\ntoken = SECRET",
        "[admin]\ntoken = 'SECRET' 'SECRET'",
        "[admin]\nSECRET",
        "[admin]\ntoken = \"SECRET\\q\"",
        "[admin]\ntoken = \"\"\"SECRET",
        "[admin]\ntoken = ['SECRET'",
        "[admin]\ntoken = {SECRET",
    ] {
        let problems = load("", &text.replace("SECRET", secret), &[]).expect_err("it is wrong").to_string();
        assert!(!problems.contains(secret), "{problems}");
    }
    for (line, is_hidden) in
        [("base_url = 'https://h/SECRET'", true), ("client_id = 'id:x'", true), ("timeout = 'x'", false)]
    {
        let text = format!("[podero]\n{}\n{SOURCE}", line.replace("SECRET", secret));
        let problems = Config::parse(&text, &Strings::new(), true).expect_err("it is wrong").to_string();
        assert!(!problems.contains(secret) && problems.contains("not shown") == is_hidden, "{problems}");
    }
}

#[test]
fn files_of_secrets_that_everybody_can_read_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, mode: u32, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("its owner may");
        path
    };
    let (open, closed) = (file("open", 0o604, "0123456789abcdef"), file("closed", 0o640, "0123456789abcdef"));
    let exposed = |token_file: &Path, mode: u32| {
        let text = format!("{BASE}\n[admin]\ntoken_file = '{}'\n{SOURCE}", token_file.display());
        let path = file("config.toml", mode, &text);
        Config::load(Some(&path), &Strings::new(), false).unwrap_or_else(|problems| panic!("{problems}")).exposed
    };
    let itself = folder.path().join("config.toml");
    // The base has the client's secret in it.
    assert_eq!(exposed(&closed, 0o640), Vec::<PathBuf>::new());
    assert_eq!(exposed(&open, 0o600), std::slice::from_ref(&open));
    assert_eq!(exposed(&closed, 0o644), std::slice::from_ref(&itself));
    assert_eq!(exposed(&open, 0o602), [itself, open]);
    let none = file("none.toml", 0o644, "[store]\nurl = 'sqlite:x.db'\n[amqp]\nurl = 'amqp://h'\n");
    let config = Config::load(Some(&none), &Strings::new(), true).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.exposed, Vec::<PathBuf>::new(), "there is no secret in it");
}

fn make_pipe(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().expect("it runs").success());
}

#[test]
fn a_configuration_is_a_file_of_some_size_or_a_pipe_that_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = |path: &Path| Config::load(Some(path), &Strings::new(), true).map_err(|problems| problems.to_string());
    let path = folder.path().join("config.toml");
    std::fs::write(&path, "#".repeat(1 << 20)).expect("written");
    load(&path).expect("as large as may be");
    std::fs::write(&path, "#".repeat((1 << 20) + 1)).expect("written");
    assert!(load(&path).expect_err("too large").contains("it has more than 1048576 bytes"));
    assert!(load(Path::new("/dev/zero")).expect_err("endless").contains("it has more than 1048576 bytes"));
    load(Path::new("/dev/null")).expect("nothing is a configuration");
    assert!(load(folder.path()).expect_err("no file").contains("it is a folder, and no file"));

    let pipe = folder.path().join("pipe");
    make_pipe(&pipe);
    let writing = pipe.clone();
    let writer = std::thread::spawn(move || std::fs::write(writing, "[log]\nlevel = 'debug'\n"));
    assert_eq!(load(&pipe).expect("it was written").log.level, "debug");
    writer.join().expect("no panic").expect("it was read");
    assert!(load(&pipe).expect_err("nobody writes").contains("its end did not come within 5 s"));
}

#[test]
fn a_file_of_secrets_that_becomes_a_pipe_is_refused_and_the_secrets_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("list");
    std::fs::write(&path, "0123456789abcdef\n").expect("written");
    let text = format!("[[source]]\nname = 'a'\nverify = 'bearer'\nsecrets_file = '{}'", path.display());
    let config = good(&text, &[]);
    let Verify::Bearer { secrets, .. } = &config.sources[0].verify else { panic!("bearer") };
    std::fs::remove_file(&path).expect("removed");
    make_pipe(&path);
    let Reloaded::Refused(why) = secrets.reload() else { panic!("no file") };
    assert!(why.ends_with("cannot be read: it is a named pipe, and no file"), "{why}");
    assert_eq!(texts(secrets), ["0123456789abcdef"]);
    let problem = format!("source.a.secrets_file: found {:?}; the file", path.display().to_string());
    check(load("", &text, &[]), &[&problem]);
}

#[test]
fn settings_that_need_each_other_are_checked_together() {
    let rows: &[(&str, &[&str])] = &[
        (
            "[admin]\nlisten = '0.0.0.0:1'",
            &["admin.token: found nothing; required because admin.listen is not loopback"],
        ),
        ("[admin]\nlisten = '127.0.0.1:8080'", &["admin.listen: found 127.0.0.1:8080; the operator's door needs"]),
        ("[outbound]\nwebhook_url = 'https://x.example'", &["outbound.webhook_secret: found nothing; required with"]),
        (
            "[outbound]\nwebhook_secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'",
            &["outbound.webhook_url: found nothing"],
        ),
        (
            "[outbound]\nwebhook_url = '/x'",
            &["outbound.webhook_url: found \"/x\"; allowed: an absolute", "outbound.webhook_secret: found nothing"],
        ),
        (
            "[onboarding]\nenabled = true\nlanguage = 'de'\nsuccess_url = 'ftp://x.example'",
            &[
                "onboarding.price_zone: found nothing; required with onboarding.enabled; allowed: one of AT",
                "onboarding.success_url: found a value that is not shown; allowed: an absolute http",
                "onboarding.cancel_url: found nothing",
            ],
        ),
    ];
    for (text, problems) in rows {
        check(load("", text, &[]), problems);
    }
    let text = "[onboarding]\nenabled = true\nlanguage = 'de'\nprice_zone = 'DE'\n\
                success_url = 'https://x.example/a'\ncancel_url = 'https://x.example/b'";
    let onboarding = good(text, &[]).policy.onboarding.expect("enabled");
    assert_eq!((onboarding.language.as_str(), onboarding.price_zone.as_str()), ("de", "DE_LU"));
}

/// The text below `[[source]]`, and its problems.
const SOURCES: &[(&str, &str)] = &[
    ("name = 'Bad Name'\nverify = 'none'", "source.#1.name: found \"Bad Name\"; allowed: 1 to 64 of"),
    ("verify = 'none'", "source.#1.name: found nothing; allowed: 1 to 64"),
    ("name = 'a'", "source.a.verify: found nothing; required for every source; allowed: one of standard-webhooks"),
    (
        "name = 'a'\nverify = 'digest'",
        "source.a.verify: found \"digest\"; allowed: one of standard-webhooks, hmac, bearer, basic, none",
    ),
    (
        "name = 'a'\nverify = 'hmac'\nsecrets = '0123456789abcdef'",
        "source.a.hmac_header: found nothing; required with verify = hmac; allowed: the name of a header",
    ),
    (
        "name = 'a'\nverify = 'hmac'\nsecrets = '0123456789abcdef'\nhmac_header = 'x-s'\nhmac_text = '{timestamp}{body}'",
        "source.a.hmac_text: found one of the two; {timestamp} in it and hmac_timestamp_header (or",
    ),
    (
        "name = 'a'\nverify = 'hmac'\nsecrets = '0123456789abcdef'\nhmac_header = 'x-s'\nhmac_text = 'body'",
        "source.a.hmac_text: found \"body\"; allowed: a text that has {body} once",
    ),
    (
        "name = 'a'\nverify = 'hmac'\nsecrets = '0123456789abcdef'\nhmac_header = 'x-s'\nhmac_timestamp_field = 't'",
        "source.a.hmac_timestamp_field: found no hmac_signature_field; a header of several parts",
    ),
    (
        "name = 'a'\nverify = 'hmac'\nsecrets = '0123456789abcdef'\nhmac_header = 'x-s'\nhmac_signature_field = 'v1'\n\
         hmac_timestamp_field = 't'\nhmac_timestamp_header = 'x-t'",
        "source.a.hmac_timestamp_field: found also hmac_timestamp_header; give one of the two",
    ),
    (
        "name = 'a'\nverify = 'hmac'\nsecrets = '0123456789abcdef'\nhmac_header = 'x-s'\nhmac_signature_field = 'v1='",
        "source.a.hmac_signature_field: found \"v1=\"; allowed: a name of 1 to 64",
    ),
    (
        "name = 'a'\nverify = 'hmac'\nsecrets = '0123456789abcdef'\nhmac_header = 'x-s'\nhmac_key_encoding = 'utf-8'",
        "source.a.hmac_key_encoding: found \"utf-8\"; allowed: one of text, hex, base64",
    ),
    (
        "name = 'a'\nverify = 'hmac'\nsecrets = '0123456789abcdef'\nhmac_header = 'x-s'\nhmac_key_encoding = 'hex'",
        "source.a.secrets: found a value that is not shown; allowed: hexadecimal digits of at least 16 bytes",
    ),
    (
        "name = 'a'\nverify = 'hmac'\nsecrets = '0123456789abcde!'\nhmac_header = 'x-s'\nhmac_key_encoding = 'base64'",
        "source.a.secrets: found a value that is not shown; allowed: base64 of at least 16 bytes",
    ),
    (
        "name = 'a'\nverify = 'hmac'\nsecrets = 'ends with a blank '\nhmac_header = 'x-s'",
        "source.a.secrets: found a value that is not shown; allowed: a text of at least 16 characters",
    ),
    (
        "name = 'a'\nverify = 'basic'\nsecrets = 'u:0123456789abcdef'\ntoken_header = 'x-t'",
        "source.a.token_header: found a value; it has a meaning with verify = bearer only",
    ),
    ("name = 'a'\nverify = 'none'\nanswer = 'yes'", "source.a.answer: found \"yes\"; allowed: one of receipt, none"),
    (
        "name = 'a'\nverify = 'bearer'\nsecrets = '0123456789abcdef'\nhmac_header = 'x-s'",
        "source.a.hmac_header: found a value; it has a meaning with verify = hmac only",
    ),
    (
        "name = 'a'\nverify = 'basic'\nsecrets = '0123456789abcdef'",
        "source.a.secrets: found a value that is not shown; allowed: user:password, with a password of at least",
    ),
    ("name = 'a'\nverify = 'standard-webhooks'\nsecrets = ['whpk_AAAA']", "source.a.secrets: found a value that"),
    ("name = 'a'\nverify = 'bearer'", "source.a.secrets: found nothing; required with this verify"),
    ("name = 'a'\nverify = 'bearer'\nsecrets = []", "source.a.secrets: found an empty list"),
    (
        "name = 'a'\nverify = 'bearer'\nsecrets = [3]",
        "source.a.secrets: found a value that is not shown; allowed: a text or",
    ),
    (
        "name = 'a'\nverify = 'bearer'\nsecrets = 'has a space in it'",
        "source.a.secrets: found a value that is not shown; allowed: a token",
    ),
    ("name = 'a'\nverify = 'standard-webhooks'\nsecrets = ['whsec_short']", "source.a.secrets: found a value that"),
    ("name = 'a'\nverify = 'standard-webhooks'\nsecrets = ['whsec_']", "source.a.secrets: found a value that"),
    (
        "name = 'a'\nverify = 'standard-webhooks'\nsecrets = ['0123456789abcdef']",
        "source.a.secrets: found a value that",
    ),
    (
        "name = 'a'\nverify = 'none'\nsecrets = ['0123456789abcdef']",
        "source.a.secrets: found secrets; verify = none checks",
    ),
    (
        "name = 'a'\nverify = 'none'\ntypes = ['*']",
        "source.a.types: found a list; allowed: a list of customer.*, team.* and customer.signed_up",
    ),
    ("name = 'a'\nverify = 'none'\ntypes = []", "source.a.types: found a list; allowed: a list of"),
    ("name = 'a'\nverify = 'none'\ntypes = ['customer.sigend_up']", "source.a.types: found a list; allowed: a list of"),
    ("name = 'billing'\nverify = 'none'", "source.#2.name: found \"billing\"; each source needs a name of its own"),
];

#[test]
fn sources_are_checked() {
    for (text, problem) in SOURCES {
        check(load("", &format!("[[source]]\n{text}"), &[]), &[problem]);
    }
    let open = "[http]\nlisten = '0.0.0.0:1'\n[[source]]\nname = 'a'\nverify = 'none'";
    check(load("", open, &[]), &["source.a.verify: found \"none\"; allowed only while http.listen is loopback"]);
    good(&format!("{open}\ninsecure = true"), &[]);
    let signed = format!("[[source]]\nname = 'a'\nverify = 'standard-webhooks'\nsecrets = ['{SIGNING_KEY}']");
    let Verify::StandardWebhooks { secrets } = &good(&signed, &[]).sources[0].verify else { panic!("signed") };
    assert_eq!(secrets.now()[0].expose(), SIGNING_KEY);
    check(
        Config::parse("[source]\nname = 'a'", &Strings::new(), true),
        &["source: found a table; allowed: one [[source]]"],
    );
    check(Config::parse("source = [1]", &Strings::new(), true), &["source: found 1; allowed: one [[source]]"]);
}

#[test]
fn lists_are_written_as_a_list_or_a_text_and_in_the_environment_by_commas() {
    let bindings = |config: Config| config.amqp.expect("it is configured").bindings;
    let amqp = "[amqp]\nurl = 'amqp://h'\n";
    assert_eq!(bindings(good(amqp, &[])), ["customer.#"]);
    assert_eq!(bindings(good(&format!("{amqp}bindings = 'crm.*'"), &[])), ["crm.*"]);
    assert_eq!(bindings(good(&format!("{amqp}bindings = ['crm.*.new', '#']"), &[])), ["crm.*.new", "#"]);
    assert_eq!(bindings(good(amqp, &[("AMQP__BINDINGS", "customer.#, crm.new")])), ["customer.#", "crm.new"]);
    for wrong in ["[]", "['']", "['crm.']", "['crm.ne*']", "['customer#']", "['a b']", "[7]", "7"] {
        let outcome = load("", &format!("{amqp}bindings = {wrong}"), &[]);
        let found = outcome.expect_err(wrong).to_string();
        assert!(found.contains("amqp.bindings: found") && found.contains("binding keys"), "{wrong}: {found}");
    }
    let types = |config: Config| config.sources[0].types.patterns().to_vec();
    let source = "[[source]]\nname = 'a'\nverify = 'none'\n";
    assert_eq!(types(good(source, &[])), ["customer.*"]);
    let two = good(&format!("{source}types = ['customer.moved', 'team.*']"), &[]);
    assert_eq!(types(two), ["customer.moved", "team.*"]);
    let given = [("SOURCE__A__TYPES", "customer.moved,customer.churned")];
    assert_eq!(types(good(source, &given)), ["customer.moved", "customer.churned"]);
}

#[test]
fn a_sender_that_signs_in_its_own_way_is_configured_field_by_field() {
    let text =
        "[[source]]\nname = 'a'\nverify = 'hmac'\nsecrets = ['It is a Secret to Everybody']\nhmac_header = 'X-Sig'";
    let Verify::Hmac(plain) = &good(text, &[]).sources[0].verify else { panic!("hmac") };
    assert_eq!((plain.header.as_str(), plain.key_encoding, &plain.signed_at), ("x-sig", KeyEncoding::Text, &None));
    assert_eq!(plain.keys(), [b"It is a Secret to Everybody"]);
    let more = "hmac_signature_field = 'v1'\nhmac_timestamp_field = 't'\nhmac_key_encoding = 'hex'";
    let listed = text.replace("It is a Secret to Everybody", "000102030405060708090A0B0C0D0E0F");
    let Verify::Hmac(listed) = &good(&format!("{listed}\n{more}"), &[]).sources[0].verify else { panic!("hmac") };
    assert_eq!(
        (listed.signature_field.as_deref(), &listed.signed_at),
        (Some("v1"), &Some(SignedAt::Field("t".into())))
    );
    assert_eq!((listed.text.before.as_str(), listed.keys()), ("{timestamp}.", vec![(0..16).collect::<Vec<u8>>()]));
}

#[test]
fn signing_keys_are_read_in_every_form_of_base64_and_kept_in_one() {
    let text = |key: &str| format!("[[source]]\nname = 'a'\nverify = 'standard-webhooks'\nsecrets = ['{key}']");
    let usual = "whsec_+/+/AAECAwQFBgcICQoLDA0ODxAREhMUFRY=";
    for key in [usual, "whsec_-_-_AAECAwQFBgcICQoLDA0ODxAREhMUFRY", "whsec_+/+/AAECAwQFBgcICQoLDA0ODxAREhMUFRY"] {
        let Verify::StandardWebhooks { secrets } = &good(&text(key), &[]).sources[0].verify else { panic!("signed") };
        assert_eq!(secrets.now()[0].expose(), usual, "{key}");
    }
}

/// Relative paths in the file count from its folder and those of the environment do not.
#[test]
fn relative_paths_in_the_file_count_from_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let inner = folder.path().join("etc");
    std::fs::create_dir_all(inner.join("keys")).expect("a folder");
    std::fs::write(inner.join("map.jq"), ".").expect("written");
    std::fs::write(inner.join("keys/token"), "0123456789abcdef\n").expect("written");
    std::fs::write(inner.join("keys/list"), "fedcba9876543210\n").expect("written");
    let file = inner.join("bridge.toml");
    let text = "[admin]\ntoken_file = 'keys/token'\n[[source]]\nname = 'a'\nverify = 'bearer'\n\
                secrets_file = 'keys/list'\nmap = 'map.jq'";
    std::fs::write(&file, format!("{BASE}\n{text}")).expect("written");
    let config = Config::load(Some(&file), &Strings::new(), false).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(default_token(&config), "0123456789abcdef");
    let map = config.sources[0].map.as_ref().expect("given");
    assert_eq!((map.code.as_str(), map.path.as_str()), (".", &*inner.join("map.jq").display().to_string()));
    let Verify::Bearer { secrets, .. } = &config.sources[0].verify else { panic!("bearer") };
    std::fs::write(inner.join("keys/list"), "0123456789abcdef\n").expect("written");
    assert_eq!((secrets.reload(), texts(secrets).join("")), (Reloaded::Changed, "0123456789abcdef".to_owned()));
    let import = Config::load_import(Some(&file), &Strings::new()).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(import.sources[0].map.is_some());

    // The variable is read where the working directory is another.
    let outcome = Config::load(Some(&file), &strings(&[("SOURCE__A__MAP", "map.jq")]), false);
    check(outcome, &["source.a.map: found \"map.jq\"; the file map.jq cannot be read: No such file"]);
    let absolute = inner.join("map.jq").display().to_string();
    Config::load(Some(&file), &strings(&[("SOURCE__A__MAP", &absolute)]), false).expect("an absolute path is one");
    std::fs::remove_file(inner.join("map.jq")).expect("removed");
    let problem = format!("source.a.map: found \"{absolute}\"; the file {absolute} cannot be read: No such file");
    check(Config::load(Some(&file), &Strings::new(), false), &[&problem]);
}

/// The base with another line in its section `[podero]`.
fn good_base(line: &str) -> Result<Config, Problems> {
    Config::parse(&format!("{BASE}{line}\n{SOURCE}"), &Strings::new(), false)
}

#[test]
fn signs_in_user_and_password_that_end_a_url_too_early_are_named() {
    let escape = "write # / ? @ % in user and password as %23 %2F %3F %40 %25";
    for sign in ["#", "/", "?"] {
        for (section, key, url) in [
            ("amqp", "url", format!("amqp://guest:p{sign}ss@127.0.0.1:5672/%2f")),
            ("amqp", "url", format!("amqps://gu{sign}est:pass@rabbit")),
            // Read as a host and a port, with the password behind it.
            ("amqp", "url", format!("amqp://guest:12{sign}ss@rabbit:5672/prod")),
            ("store", "url", format!("postgres://bridge:p{sign}ss@h/d")),
            ("store", "url", format!("postgresql://bridge:12{sign}ss@h/d?sslmode=require")),
        ] {
            let problem = format!("{section}.{key}: found a value that is not shown; {escape}");
            check(load("", &format!("[{section}]\n{key} = '{url}'"), &[]), &[&problem]);
        }
        let text =
            format!("[outbound]\nwebhook_url = 'https://u:p{sign}ss@x.example/in'\nwebhook_secret = '{SIGNING_KEY}'");
        check(load("", &text, &[]), &[&format!("outbound.webhook_url: found a value that is not shown; {escape}")]);
    }
    let fragment =
        format!("[outbound]\nwebhook_url = 'https://u:12#ss@x.example/in'\nwebhook_secret = '{SIGNING_KEY}'");
    check(load("", &fragment, &[]), &["outbound.webhook_url: found a value that is not shown; write #"]);
    let account = good_base("base_url = 'https://u:p@x.example'");
    check(account, &["podero.base_url: found a value that is not shown; allowed: no user and password here"]);
    for (section, key, url) in [
        ("amqp", "url", "amqp://guest:p%23s%2Fs%3F%40%25@127.0.0.1:5672/%2f"),
        ("amqp", "url", "amqp://guest:p@ss@127.0.0.1:5672/%2f"),
        ("amqp", "url", "amqp://rabbit/team%40prod?heartbeat=5"),
        ("store", "url", "postgres://bridge@server:p%23ss@server.postgres.example/d?options=-c%20x@y"),
        ("store", "url", "postgres:///d?host=/run/postgresql&user=me@there"),
        ("store", "url", "postgres://u:p@h1:5432/d?application_name=a@b"),
    ] {
        good(&format!("[{section}]\n{key} = '{url}'"), &[]);
    }
    let landing = "[onboarding]\nenabled = true\nlanguage = 'de'\nprice_zone = 'DE'\n\
                   success_url = 'https://x.example/#/done?m=a@b'\ncancel_url = 'https://x.example/@me'";
    good(landing, &[]);
}

#[test]
fn an_account_and_an_input_are_required_without_the_sandbox_only() {
    let nothing =
        &["podero.org_id: found nothing; required without --sandbox", "podero.client_id", "podero.client_secret"];
    check(Config::parse(SOURCE, &Strings::new(), false), nothing);
    check(Config::parse(BASE, &Strings::new(), false), &["source: found none, and no amqp.url; nothing can arrive"]);
    Config::parse(BASE, &strings(&[("AMQP__URL", "amqp://h")]), false).expect("AMQP is an input");

    let config = Config::load(None, &Strings::new(), true).expect("the sandbox needs nothing");
    assert!(matches!(config.podero.account, Account::Sandbox));
    assert!(
        matches!(config.sources.as_slice(), [Source { name, verify: Verify::None, map: None, .. }] if name == "default")
    );
    let names = |text: &str, variables: &[(&str, &str)]| -> Vec<String> {
        let config = Config::parse(text, &strings(variables), true).expect("complete");
        config.sources.into_iter().map(|source| source.name).collect()
    };
    assert_eq!(names(&format!("{BASE}{SOURCE}"), &[]), ["billing", "default"]);
    assert_eq!(names(SOURCE, &[("HTTP__LISTEN", "0.0.0.0:1")]), ["billing"]);
    let variables = [("SOURCE__DEFAULT__VERIFY", "bearer"), ("SOURCE__DEFAULT__SECRETS", "0123456789abcdef")];
    assert_eq!(names("", &variables), ["default"]);
    let open = Config::parse("", &strings(&[("HTTP__LISTEN", "0.0.0.0:1")]), true);
    check(
        open,
        &["source: found none, and no amqp.url; nothing can arrive: configure a \
           [[source]] (--sandbox adds one on loopback only)"],
    );
    let account = Config::parse("[podero]\norg_id = 'x'", &Strings::new(), true);
    check(account, &["podero.org_id: found \"x\"; allowed: a UUID"]);
}

#[test]
fn all_problems_come_at_once() {
    let text = "[http]\nlisten = 1\nbatch_max = 0\n[watch]\ninterval = 'soon'\nintervall = 'x'\n[log]\nlevel = 'loud'";
    check(
        Config::parse(text, &strings(&[("RETRY__MAX", "x"), ("RETRY__MIN", "1s")]), false),
        &[
            "watch.intervall: found an unknown key; did you mean watch.interval?",
            "PODERO_BRIDGE__RETRY__MIN: found an unknown variable; did you mean PODERO_BRIDGE__RETRY__MAX?",
            "http.listen: found 1",
            "http.batch_max: found 0",
            "podero.org_id: found nothing",
            "podero.client_id: found nothing",
            "podero.client_secret: found nothing",
            "retry.max: found \"x\" in PODERO_BRIDGE__RETRY__MAX",
            "watch.interval: found \"soon\"",
            "source: found none",
            "log.level: found \"loud\"",
        ],
    );
}

#[test]
fn a_syntax_error_shows_line_and_column_and_not_the_line() {
    let outcome = Config::parse("[admin]\n  token = hunter2hunter2\n", &Strings::new(), false);
    let text = outcome.as_ref().expect_err("refused").to_string();
    assert!(!text.contains("hunter2"), "{text}");
    check(outcome, &["line 2, column 11: found a syntax error; this is not TOML: "]);
    let outcome = Config::load(Some(Path::new("/nowhere/bridge.toml")), &Strings::new(), true);
    check(outcome, &["/nowhere/bridge.toml: found no readable file (No such file"]);
}

#[test]
fn no_secret_is_shown() {
    let text = "[admin]\ntoken = 'hunter2hunter2hunter2'\n[amqp]\nurl = 'amqp://u:hunter2@h'\n\
                [store]\nurl = 'postgres://u:hunter2@h/d'";
    let config = good(text, &[("SOURCE__B__VERIFY", "bearer"), ("SOURCE__B__SECRETS", "hunter2hunter2hunter2")]);
    let shown = format!("{config:?} {}", config.store.url);
    assert!(!shown.contains("hunter2") && !shown.contains("s3cret") && shown.contains("[redacted]"), "{shown}");

    let text = "[admin]\ntoken = ['hunter2']\n[amqp]\nurl = ['hunter2']\n[store]\nurl = 'hunter2'\n\
                [outbound]\nwebhook_url = 'ftp://u:hunter2@h'\nwebhook_secret = 'hunter2'";
    let problems =
        load("", text, &[("SOURCE__B__VERIFY", "bearer"), ("SOURCE__B__SECRETS", "hunter2")]).expect_err("refused");
    assert_eq!(problems.iter().count(), 6, "{problems}");
    assert!(!problems.to_string().contains("hunter2"), "{problems}");
}

/// The example with every setting switched on: the convention is `#key = value`, without a space.
fn example_in_full() -> String {
    let is_setting = |rest: &str| rest.starts_with("[[") || rest.starts_with(|first: char| first.is_ascii_lowercase());
    let lines = EXAMPLE.lines().map(|line| line.strip_prefix('#').filter(|rest| is_setting(rest)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_loads_as_it_is_and_in_full() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("mappings/crm")).expect("a folder");
    std::fs::write(folder.path().join("mappings/crm/map.jq"), ".").expect("written");
    std::fs::write(folder.path().join("logo.svg"), "<svg/>").expect("written");
    let path = folder.path().join("config.toml");
    let load = |text: &str, environment: &Strings| {
        std::fs::write(&path, text).expect("written");
        Config::load(Some(&path), environment, false).unwrap_or_else(|problems| panic!("{problems}"))
    };
    load(EXAMPLE, &Strings::new());
    // An identity provider needs a team.
    let team = Strings::from([("PODERO_BRIDGE__TEAM__ENABLED".to_owned(), "true".to_owned())]);
    let config = load(&example_in_full(), &team);
    assert_eq!(config.scim.tokens.len(), 1);
    assert!(config.admin.tokens.len() == 2 && config.amqp.is_some() && config.outbound.webhook.is_some());
}

#[test]
fn every_key_is_declared_with_what_its_own_rule_allows() {
    let full: toml::Table = example_in_full().parse().expect("TOML");
    let names: std::collections::BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(names.len(), KEYS.iter().count());
    for key in KEYS.iter() {
        let rule = (key.rule)();
        assert!(key.default_text.is_none_or(|text| rule.read(text).is_ok()), "the default of {}", key.name);
        assert!(key.default_text.is_some() || key.example.or(key.given).is_some(), "an example of {}", key.name);
        let (section, name) = key.parts();
        let of_section = section.split('.').fold(&toml::Value::Table(full.clone()), |of, part| &of[part]).clone();
        let entries = of_section.as_array().map_or(std::slice::from_ref(&of_section), Vec::as_slice);
        let value = entries.iter().find_map(|entry| entry.get(name)).unwrap_or_else(|| panic!("{}", key.name));
        let text = rule.form.text_of(value).unwrap_or_else(|| panic!("the form of {}", key.name));
        assert!(key.default_text.is_none_or(|default| default == text), "{}", key.name);
        assert!(key.help.ends_with(['.', '`']), "the help of {} is a sentence", key.name);
    }
}
