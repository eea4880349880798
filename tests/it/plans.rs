//! The ways by which both databases find the rows of each statement of the store: by an index, or by reading a whole table, which
//! gets slower with every row. Statements are read from the store's own files, so that none is forgotten. SQLite's plans are made
//! without statistics, as in the bridge, and are the same on every machine. PostgreSQL's are the generic ones, which a prepared
//! statement gets after a few runs and keeps whatever its values, on tables of some size.

use std::collections::{BTreeMap, BTreeSet};

use podero_bridge::clock::Clock;
use podero_bridge::store::{Settings, Store};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::servers;
use crate::tidy::{code, files};

/// Statements that read a whole table or index, and why they may: the beginning of the statement, and the table.
const MAY_SCAN: &[(&str, &str, &str)] = &[
    ("SELECT COALESCE(SUM(CASE WHEN (roster", "watched", "once an interval, after a list of all users"),
    ("UPDATE watched SET missed_lists", "watched", "the same"),
    ("DELETE FROM watched WHERE (roster", "watched", "the same"),
    ("SELECT record FROM pumps WHERE is_retired = 0 AND NOT EXISTS", "pumps", "the same"),
    ("UPDATE lanes SET ready_at = $1 WHERE claimed", "lanes", "once at the start"),
    ("SELECT version FROM _sqlx_migrations", "_sqlx_migrations", "a row for each migration"),
    ("SELECT COUNT(*) FROM sqlite_master", "sqlite_master", "a row for each table"),
    ("SELECT knowledge, COUNT(*) FROM pumps", "pumps", "a gauge; after a long count the next one is late"),
    ("SELECT MIN(COALESCE(polled_at, since))", "watched", "the same"),
    ("SELECT COUNT(*) FROM events WHERE state = 'parked'", "events", "the same, of an index of parked ones alone"),
    ("SELECT COUNT(*), COUNT(CASE WHEN reason", "events", "a gauge, of an index of parked ones alone"),
    ("SELECT target, COUNT(*) FROM notices", "notices", "the same, of an index of pending ones alone"),
    ("SELECT reason, COUNT(*)", "events", "a gauge, of an index of parked ones alone"),
    ("SELECT type, COUNT(*)", "events", "an operator orders a retry of many, of the same index"),
    ("UPDATE events SET state = 'skipped'", "events", "an operator skips many, of the same index"),
    ("UPDATE events SET settled_at = $1 WHERE id IN", "events", "the same, where the clock was set back"),
    ("SELECT record, checked_at FROM pumps", "pumps", "an operator's page, by the key, and ended by its limit"),
    ("SELECT COUNT(*) FROM (SELECT 1", "counted", "at most ten thousand rows that an index has found"),
    ("WITH states", "states", "a row for each state of a heat pump"),
    ("WITH states", "counted", "at most ten thousand rows that an index has found"),
    ("WITH RECURSIVE states", "states", "a row for each state of a heat pump"),
    ("WITH RECURSIVE states", "named", "a hundred manufacturers or regions"),
    ("WITH RECURSIVE states", "counted", "at most ten thousand rows that an index has found"),
    ("SELECT of_type, COALESCE(SUM", "looked", "the same"),
    ("SELECT settled_at FROM (SELECT", "looked", "the same"),
    ("SELECT COUNT(*) FROM (SELECT lane", "looked", "the same"),
    ("SELECT id, CASE WHEN lane LIKE", "looked", "the same"),
    ("SELECT e.id, e.type", "e", "the rows of a page"),
    ("SELECT id FROM (SELECT id", "looked", "at most two thousand, of a step of a retry of many"),
    ("DELETE FROM close_watches WHERE until", "close_watches", "a row for each link of the last day"),
    ("SELECT id, reason, per_second", "bulk_retries", "an operator's; a row for each retry of many"),
    ("DELETE FROM bulk_retries", "bulk_retries", "the same"),
    ("SELECT COUNT(*) FROM tombstones", "tombstones", "once at the start"),
    ("SELECT COUNT(*) FROM watched WHERE customer", "watched", "an operator erases a customer"),
    ("DELETE FROM watched WHERE customer", "watched", "the same"),
    ("SELECT (SELECT COUNT(*) FROM lanes", "watched", "the same"),
    ("SELECT 1 FROM audit WHERE number IS NULL", "audit", "of an index of the rows of the last second alone"),
    (
        "SELECT id, at, actor, action, target_kind, target_digest, outcome, reason, event_id, was, became, note_digest FROM",
        "audit",
        "the same",
    ),
    ("SELECT COUNT(*) FROM audit WHERE number IS NULL", "audit", "the same"),
    (
        "SELECT id, at, actor, action, target_kind, target_digest, outcome, reason, event_id, was, became, note_digest, target_id, \
         salt, note, number, hash FROM audit WHERE id IN",
        "audit",
        "the same, for an operator's page of one target",
    ),
    ("SELECT id FROM audit WHERE number IS NULL", "audit", "the same, for an operator who erases a customer"),
    ("SELECT became FROM audit WHERE number IS NULL", "audit", "the same, for a look over the chain, once a minute"),
    ("SELECT lane, state, (SELECT COUNT", "members", "an operator's page of the team"),
    ("SELECT COUNT(CASE WHEN active = 1", "members", "a gauge, of a team"),
    (
        "SELECT lane, record FROM scim_users",
        "scim_users",
        "a list for an identity provider, by the key, and ended by its limit",
    ),
    (
        "SELECT lane, record, (SELECT members.state",
        "scim_users",
        "users who never joined are forgotten, once in a while; by the key, of a team",
    ),
    ("SELECT lane, state FROM members", "members", "a list for an identity provider"),
    ("SELECT lane FROM members", "members", "the same, of one user whom only events have named"),
    ("SELECT team_decisions.user_id", "team_decisions", "a row for each loss of access that no list shows yet"),
    ("DELETE FROM team_decisions WHERE NOT EXISTS", "team_decisions", "the same"),
    ("SELECT id, seen_at FROM replicas", "replicas", "a row for each replica"),
    ("SELECT 1 FROM operators", "operators", "ended by its first row"),
    ("SELECT name, role, created_at", "operators", "an operator's page; a row for each operator"),
    (
        "SELECT sessions.id, sessions.operator",
        "sessions",
        "an administrator's page, by the key, and ended by its limit",
    ),
    ("SELECT name, role FROM operators", "operators", "an operator is removed; a row for each operator"),
];

/// Statements that make a table in memory or a sorter while they run, and why they may. Each costs some 80 KiB that are taken and
/// given back, which is more than all else that an event's statement does; the conditions of partial indexes make them as well.
const MAY_MAKE_TABLES: &[(&str, &str)] = &[
    ("SELECT id FROM events WHERE lane = $1 AND change", "of an announced event"),
    ("UPDATE events SET state = 'superseded', reason", "the same"),
    ("SELECT state, COUNT(*)", "a gauge; an operator erases a customer"),
    (
        "SELECT $1, head.* FROM  (SELECT event, tries_from, failures, failing_since, due_at, id, time, change, said_at, type, clearance, source, transport, customers.state FROM events LEFT JOIN members",
        "of a member, whose leave comes first",
    ),
    ("SELECT lane, state, (SELECT COUNT", "an operator's page of the team"),
    ("SELECT user_id, expires_at FROM members", "of an event that takes a member's access away"),
    ("SELECT event FROM events WHERE lane = $1", "of a member's leave"),
    ("SELECT id, event FROM events WHERE lane = $1", "of a member who left long ago"),
    ("UPDATE events SET event = $2, raw = ''", "the same"),
    ("SELECT lane, record, (SELECT members.state", "of users who never joined, once in a while"),
    ("DELETE FROM calls WHERE event_id IN", "an operator erases a customer"),
    ("DELETE FROM team_decisions WHERE event_id IN", "an operator erases a member"),
    ("DELETE FROM events WHERE id IN", "for hundreds of rows"),
    ("DELETE FROM notices WHERE (id, target) IN", "the same"),
    ("UPDATE lanes SET ready_at = $1 WHERE claimed", "once at the start"),
    ("UPDATE shared SET value = $2, version = version + 1 WHERE name IN", "of a heartbeat, every three seconds"),
    ("UPDATE events SET state = 'pending', due_at = $2  WHERE events.lane", "of a sign-up"),
    ("UPDATE notices SET due_at = $1 WHERE target = $2 AND id IN", "for up to 256 notices, on PostgreSQL"),
    ("UPDATE watched SET taken_until = $1 WHERE user_id IN", "for up to 64 polls, on PostgreSQL"),
    ("INSERT INTO brakes", "of a churn, where the brake is on; of an event or a list of the team"),
    ("UPDATE admissions SET admitted_at", "where the clock was set back by more than a minute"),
    ("DELETE FROM admissions WHERE brake", "of a churn, where the brake is on"),
    (
        "SELECT at, became, number FROM audit WHERE action",
        "of the retention, in each step of a removal, and of a verification; one row a day",
    ),
    ("DELETE FROM audit WHERE number IS NOT NULL", "of the retention, for up to 200 rows"),
    ("SELECT id FROM audit WHERE number IS NULL AND note", "an operator erases a customer"),
    ("SELECT number, id FROM audit WHERE number IS NOT NULL AND note", "the same"),
    (
        "SELECT id, at, actor, action, target_kind, target_digest, outcome, reason, event_id, was, became, note_digest, target_id, \
         salt, note, number, hash FROM audit WHERE id IN",
        "an operator's page, of one target",
    ),
    ("UPDATE bulk_retries SET state = 'stopped'", "an operator's"),
    ("WITH RECURSIVE states", "an operator's page"),
    ("SELECT reason, COUNT(*)", "a gauge"),
    ("SELECT of_type, COALESCE(SUM", "an operator's"),
    ("SELECT type, COUNT(*)", "the same"),
    ("UPDATE close_watches SET due_at", "of a look, while an agent waits for a heat pump"),
    ("DELETE FROM close_watches WHERE heat_pump IN", "an operator erases a customer"),
    ("UPDATE events SET state = 'skipped'", "an operator's"),
    ("UPDATE events SET state = 'pending', due_at = $2, tries_from", "an operator's"),
    ("UPDATE events SET state = 'pending', due_at = $2 WHERE id", "an operator's"),
    ("UPDATE events SET settled_at = $1 WHERE id IN", "an operator's, where the clock was set back"),
    (
        "UPDATE events SET state = 'pending', due_at = $3",
        "for events whose wait lies beyond its ceiling: a look twice a second",
    ),
    ("UPDATE events SET tries_from = $3 WHERE id IN", "the same"),
    ("SELECT e.id, e.type", "an operator's page"),
    ("SELECT id, CASE WHEN lane LIKE", "the same"),
];

/// A statement with the place it is from.
struct Statement {
    file: String,
    text: String,
}

/// The columns that each `row!` declares, by its name.
fn columns_by_row(files: &[(String, String)]) -> BTreeMap<String, String> {
    let rows = files.iter().flat_map(|(_, text)| text.split("row! {").skip(1));
    let with_name = rows.filter_map(|row| {
        let (name, fields) = row.split_once("struct ")?.1.split_once(" {")?;
        let end = fields.find("\n    }").unwrap_or(fields.len());
        let mut columns = Vec::new();
        let mut rest = &fields[..end];
        while let Some((_, column)) = rest.split_once("= \"") {
            let (column, after) = literal(column);
            // The texts of attributes stand in brackets.
            if after.starts_with(',') {
                columns.push(column);
            }
            rest = after;
        }
        Some((name.to_owned(), columns.join(", ")))
    });
    with_name.collect()
}

/// With the columns of the row that is named next, where the statement selects those of a row.
fn with_columns(text: &str, after: &str, columns: &BTreeMap<String, String>) -> String {
    let named = after.split("::COLUMNS").next().and_then(|before| before.rsplit([' ', '(']).next());
    let Some(named) = named.and_then(|name| columns.get(name.trim())) else { return text.to_owned() };
    if text.contains("{columns}") {
        return text.replace("{columns}", named);
    }
    text.replace("SELECT {}", &format!("SELECT {named}"))
}

/// The form of a marked text.
#[derive(Clone, Copy)]
enum Form<'a> {
    /// SQLite's, for one row.
    EachRow,
    /// PostgreSQL's, for all rows; with the type of each column.
    AllRows(&'a BTreeMap<String, String>),
}

/// Every text in the store's files that begins as a statement does.
fn statements(form: Form<'_>) -> Vec<Statement> {
    let mut found = Vec::new();
    let files: Vec<_> = files("src/store", &["rs"]).into_iter().map(|(file, text)| (file, code(&text))).collect();
    let columns = columns_by_row(&files);
    for (file, text) in &files {
        let mut rest = text.as_str();
        while let Some(start) = rest.find('"') {
            let before = &text[..text.len() - rest.len() + start];
            let (literal, after) = literal(&rest[start + 1..]);
            rest = after;
            let is_one =
                ["SELECT ", "UPDATE ", "DELETE ", "INSERT ", "WITH "].iter().any(|verb| literal.starts_with(verb));
            // The other database's own, and the forms of marked texts.
            let (words, places) = match form {
                Form::EachRow => ("pg_class", &["db/postgres.rs", "db/server.rs", "db/server_gauges.rs"][..]),
                Form::AllRows(_) => ("sqlite_master", &["db/sqlite.rs"][..]),
            };
            let is_others = literal.contains(words) || places.iter().any(|place| file.ends_with(place));
            let is_part = before.trim_end().trim_end_matches("&format!(").ends_with(".chosen(");
            if is_one && !is_part && !is_others && !file.ends_with("db/rows.rs") {
                let literal = with_chosen(&literal, before, form);
                let literal = with_columns(&marks_filled(&literal, before, &columns, form), after, &columns);
                found.push(Statement { file: file.clone(), text: filled(&literal, form) });
            }
        }
    }
    found
}

/// With the statement that chooses its rows, which stands before it.
fn with_chosen(text: &str, before: &str, form: Form<'_>) -> String {
    let select = before.rsplit_once(".chosen(").and_then(|(_, chosen)| chosen.split_once('"'));
    let select = select.map(|(_, select)| literal(select).0).unwrap_or_default();
    let chosen = match form {
        Form::EachRow => format!("IN ({select})"),
        Form::AllRows(_) => format!("= ANY (ARRAY({select}))"),
    };
    text.replace("{chosen}", &chosen)
}

/// The value of a text whose opening quote has been read, and what comes after the closing one.
fn literal(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => break,
            '\\' => match letters.next() {
                // A text goes on at the next line's first letter.
                Some('\n') => letters = letters.as_str().trim_start().chars(),
                escaped => value.extend(escaped),
            },
            letter => value.push(letter),
        }
    }
    (value, letters.as_str())
}

/// The marked text of a `RowStatement` (`src/store/db/rows.rs`), whose declaration `before` ends with, as a database runs it.
fn marks_filled(text: &str, before: &str, rows: &BTreeMap<String, String>, form: Form<'_>) -> String {
    let declared = before.rsplit_once("RowStatement::").map_or("", |(_, declared)| declared);
    if declared.contains(';') {
        return text.to_owned();
    }
    let Some((columns, selected)) = declared.split_once("&[").and_then(|(_, rest)| rest.split_once(']')) else {
        return text.to_owned();
    };
    let columns: Vec<&str> = columns.split('"').skip(1).step_by(2).collect();
    let (places, marks) = match form {
        Form::EachRow => each_row(&columns),
        Form::AllRows(types) => all_rows(&columns, types),
    };
    let selected = selected.split_once("::COLUMNS").and_then(|(row, _)| rows.get(row.trim_matches([',', ' ', '\n'])));
    let mut text = text.replace("{selected}", selected.map_or("", |columns| columns.as_str()));
    for (mark, value) in marks {
        text = text.replace(mark, &value);
    }
    for (column, place) in columns.iter().zip(&places) {
        text = text.replace(&format!("{{{column}}}"), place);
    }
    // All other marks say little about a plan.
    while let Some((before, (mark, after))) =
        text.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    {
        assert!(
            ["from", "using", "join", "lateral", "written", "lock"].contains(&mark.split(' ').next().unwrap_or(mark)),
            "{text}"
        );
        text = format!("{before}{after}");
    }
    text
}

/// The columns as SQLite has them, and its marks.
fn each_row(columns: &[&str]) -> (Vec<String>, Vec<(&'static str, String)>) {
    let places: Vec<String> = (1..=columns.len()).map(|number| format!("${number}")).collect();
    let values = format!("VALUES ({})", places.join(", "));
    (places, vec![("{rows}", values)])
}

/// The columns as PostgreSQL has them, and its marks.
fn all_rows(columns: &[&str], types: &BTreeMap<String, String>) -> (Vec<String>, Vec<(&'static str, String)>) {
    let type_of = |column: &str| match types.get(column) {
        Some(known) => known.as_str(),
        None if ["of_lane", "tombstone"].contains(&column) => "text",
        None => "bigint",
    };
    let arrays = columns.iter().enumerate().map(|(place, column)| format!("${}::{}[]", place + 1, type_of(column)));
    let given = format!("unnest({}) AS given({})", arrays.collect::<Vec<_>>().join(", "), columns.join(", "));
    let places = columns.iter().map(|column| format!("given.{column}")).collect();
    let marks = [("{rows}", "SELECT * FROM "), ("{from}", "FROM "), ("{using}", "USING "), ("{join}", "")];
    let mut marks: Vec<_> = marks.into_iter().map(|(mark, verb)| (mark, format!("{verb}{given}"))).collect();
    marks[3].1.push_str(", ");
    marks.push(("{lateral}", "LATERAL".to_owned()));
    (places, marks)
}

/// With something in the place of what is put in when it runs. PostgreSQL has no placeholder whose number none precedes.
fn filled(text: &str, form: Form<'_>) -> String {
    let (ids, limit) = match form {
        Form::EachRow => ("IN ($9)", "$9"),
        Form::AllRows(_) => ("IN ('a', 'b')", "10"),
    };
    let by = [
        ("IN {}", ids),
        ("{UNSETTLED}", "(state = 'pending' OR state = 'waiting' OR state = 'scheduled')"),
        ("${}", limit),
        ("LIMIT {limit}", "LIMIT 10"),
        ("{BESIDE_MAX}", "1000"),
        ("bulk = {}", "bulk = 0"),
        ("{compares}", "<="),
        ("{confirmed}", "0"),
        ("{column}", "manufacturer"),
        ("{conditions}", "manufacturer IS NOT NULL"),
        ("{STATES}", "VALUES ('connected'), ('gone')"),
        ("{of_reason}", "reason = $1"),
        ("{RETRYABLE}", "(event IS NOT NULL OR (envelope IS NOT NULL AND envelope NOT LIKE 'cut%'))"),
        ("{condition}", "is_retired = 0"),
        ("{FORGOTTEN_AT_ONCE}", "8"),
        ("{UNCOVERED}", "target_id, salt, note, number, hash"),
        (
            "{FILTERED}",
            "id < $1 AND id >= $2 AND ($4 = '' OR actor = $4) AND ($5 = '' OR action = $5) AND ($6 = '' OR target_id = $6) \
             AND at >= $7 AND at < $8 ORDER BY id DESC LIMIT $3",
        ),
        ("{}", ""),
    ];
    by.iter().fold(text.to_owned(), |text, (place, value)| text.replace(place, value))
}

/// A store that is empty, to explain statements on.
async fn empty(folder: &std::path::Path) -> SqliteConnection {
    let file = folder.join("bridge.db");
    let settings = Settings { url: format!("sqlite://{}", file.display()), targets: Vec::new(), works: true };
    let (store, writer) = Store::open(settings, Clock::system()).await.expect("the store opens");
    drop(store);
    writer.run().await;
    let options = SqliteConnectOptions::new().filename(&file).read_only(true);
    SqliteConnection::connect_with(&options).await.expect("the file is there")
}

#[tokio::test]
async fn no_statement_of_one_event_makes_a_table_in_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut connection = empty(folder.path()).await;
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for Statement { file, text } in &statements(Form::EachRow) {
        let program = sqlx::query(AssertSqlSafe(format!("EXPLAIN {text}"))).fetch_all(&mut connection).await;
        let program = program.unwrap_or_else(|error| panic!("{file}: {error}: {text}"));
        let makes = |row: &sqlx::sqlite::SqliteRow| {
            let opcode: String = row.get(1);
            ["OpenEphemeral", "OpenAutoindex", "SorterOpen"].contains(&opcode.as_str())
        };
        if program.iter().any(makes) {
            match MAY_MAKE_TABLES.iter().position(|(start, _)| text.starts_with(start)) {
                Some(place) => drop(used.insert(place)),
                None => wrong.push(format!("{file}: {text}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(used.len(), MAY_MAKE_TABLES.len(), "what may is what does: {used:?}");
}

#[tokio::test]
async fn no_statement_reads_a_whole_table_but_those_that_may() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut connection = empty(folder.path()).await;
    let statements = statements(Form::EachRow);
    assert!(statements.len() > 80, "they are found: {}", statements.len());
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for Statement { file, text } in &statements {
        let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"))).fetch_all(&mut connection).await;
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => {
                wrong.push(format!("{file}: {error}: {text}"));
                continue;
            }
        };
        for row in plan {
            let step: String = row.get(3);
            let Some(table) = step.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next()) else { continue };
            if table == "CONSTANT" || step.ends_with("CONSTANT ROWS") {
                // A row that is in the statement itself.
                continue;
            }
            let may = MAY_SCAN.iter().position(|(start, of, _)| text.starts_with(start) && *of == table);
            match may {
                Some(place) => drop(used.insert(place)),
                None => wrong.push(format!("{file}: {step}: {text}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(used.len(), MAY_SCAN.len(), "what may is what does: {used:?}");
}

/// The indexes of events besides the key, and the beginning of a statement that needs each: an ordinary event pays for three of
/// them.
const OF_EVENTS: &[(&str, &str)] = &[
    ("events_announced", "SELECT $1 FROM  (SELECT 1 FROM events WHERE events.lane"),
    ("events_by_identity", "SELECT id, state, digest FROM events WHERE origin = $1"),
    ("events_later", "SELECT id, lane FROM events WHERE state IN"),
    ("events_messages", "SELECT id, raw, raw_encoding, envelope FROM events"),
    ("events_of_lane", "SELECT $1, head.*"),
    ("events_parked", "SELECT id FROM events WHERE state = 'parked'"),
    ("events_parked_counts", "SELECT COALESCE(reason, '') FROM events"),
    ("events_settled", "DELETE FROM events WHERE id IN"),
    ("events_unsettled", "SELECT state, COUNT(*), MIN(tries_from)"),
];

#[tokio::test]
async fn each_index_of_events_has_a_statement_that_needs_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut connection = empty(folder.path()).await;
    let there =
        "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'events' AND sql IS NOT NULL ORDER BY name";
    let there: Vec<String> = sqlx::query_scalar(there).fetch_all(&mut connection).await.expect("readable");
    assert_eq!(there, OF_EVENTS.iter().map(|(index, _)| *index).collect::<Vec<_>>());
    let statements = statements(Form::EachRow);
    for (index, start) in OF_EVENTS {
        let mut plans = Vec::new();
        for Statement { text, .. } in statements.iter().filter(|statement| statement.text.starts_with(start)) {
            let plan =
                sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"))).fetch_all(&mut connection).await;
            plans.extend(plan.expect("a plan").iter().map(|row| row.get::<String, _>(3)));
        }
        assert!(plans.iter().any(|step| step.contains(&format!("INDEX {index} "))), "{index}: {plans:#?}");
    }
}

/// Rows of a store that has worked for a while: three events of each of 10,000 customers.
const FILLED: &str = "
    INSERT INTO lanes (lane, fence, claimed, interrupted, ready_at, bulk)
        SELECT 'C-' || n, n, 0, 0, CASE WHEN n % 50 = 0 THEN n END, 0 FROM generate_series(1, 10000) AS n;
    INSERT INTO customers (lane, state, active) SELECT 'C-' || n, repeat('x', 400), 1 FROM generate_series(1, 10000) AS n;
    INSERT INTO events (id, lane, origin, origin_id, source, transport, type, time, received_at, tries_from, due_at, state,
        failures, reason, digest, event, raw, raw_encoding, settled_at, change, said_at, scope)
        SELECT md5(n::text), CASE WHEN n % 300 <> 1 THEN 'C-' || n % 10000 END, '/billing', n::text, 'crm', 'webhook', 'type', n, n,
        n, n, state, 0, CASE WHEN state = 'parked' THEN 'refused' END, 'd', 'e', repeat('x', 300), 'utf8',
        CASE WHEN state IN ('applied', 'parked') THEN n END, 'existence', n - CASE WHEN n % 200 = 0 THEN 1 ELSE 0 END, 'crm'
        FROM (SELECT n, CASE WHEN n % 50 = 0 THEN 'pending' WHEN n % 100 = 1 THEN 'parked' WHEN n % 400 = 2 THEN 'scheduled'
        WHEN n % 400 = 3 THEN 'waiting' ELSE 'applied' END AS state FROM generate_series(1, 30000) AS n) AS numbered;
    INSERT INTO calls (id, event_id, at, operation, outcome, took_ms)
        SELECT n::text, md5(n::text), n, 'create_user', 'done', 1 FROM generate_series(1, 30000) AS n;
    INSERT INTO notices (id, target, seq, topic, order_key, customer, body, created_at, due_at, failures, state, published_at)
        SELECT md5(n::text), 'amqp', n::text, 'topic', 'customer/C-' || n % 10000, 'C-' || n % 10000, repeat('x', 300), n, n, 0,
        CASE WHEN n % 100 = 0 THEN 'pending' ELSE 'published' END, CASE WHEN n % 100 <> 0 THEN n END
        FROM generate_series(1, 30000) AS n;
    INSERT INTO watched (user_id, customer, due_at, since, polled_at, roster)
        SELECT md5(n::text), 'C-' || n, n, 1, n, 1 FROM generate_series(1, 10000) AS n;
    INSERT INTO pumps (heat_pump, user_id, customer, knowledge, is_retired, has_alert, record, version, checked_at, manufacturer)
        SELECT md5(n::text), md5(n::text), 'C-' || n, 'connected', 0, CASE WHEN n % 500 = 0 THEN 1 ELSE 0 END, repeat('x', 300), 1,
        n, 'maker ' || n % 20 FROM generate_series(1, 10000) AS n;
    INSERT INTO tombstones (customer, erased_at) SELECT md5(n::text), n FROM generate_series(1, 5000) AS n;
    INSERT INTO admissions (brake, number, event_id, admitted_at)
        SELECT 'churn_brake', n, md5(n::text), n FROM generate_series(1, 5000) AS n;
    INSERT INTO audit (id, at, actor, action, target_kind, target_id, salt, target_digest, outcome, event_id, number, hash)
        SELECT md5(n::text), n, CASE WHEN n % 100 = 0 THEN 'operator:anna' ELSE 'source:crm' END, 'podero.update_user', 'customer',
        'C-' || n % 10000, 'salt', repeat('x', 64), 'done', md5(n::text), CASE WHEN n % 300 <> 0 THEN n END, repeat('x', 64)
        FROM generate_series(1, 30000) AS n;
    ANALYZE;";

/// The tables that grow.
const GROWING: &[&str] =
    &["events", "lanes", "customers", "calls", "notices", "watched", "pumps", "tombstones", "admissions", "audit"];

/// Statements whose generic plan on PostgreSQL reads a whole table or index that grows, besides those of [`MAY_SCAN`].
const MAY_SCAN_ON_POSTGRES: &[(&str, &str)] = &[
    ("SELECT COUNT(*) FROM customers", "counts nearly all of them, at most every five minutes"),
    ("SELECT record FROM pumps WHERE is_retired = 0 AND NOT EXISTS", "once an interval, after a list of all users"),
    ("DELETE FROM watched WHERE (roster", "the same"),
];

/// A store on PostgreSQL, to explain statements on, and the types of its columns by their names.
async fn on_postgres(rows: &'static str) -> (PgConnection, BTreeMap<String, String>) {
    let url = servers::fresh_database();
    let settings = Settings { url: url.clone(), targets: Vec::new(), works: true };
    let (store, writer) = Store::open(settings, Clock::system()).await.expect("the store opens");
    drop(store);
    writer.run().await;
    let mut connection = PgConnection::connect(&url).await.expect("the database is there");
    sqlx::raw_sql(rows).execute(&mut connection).await.expect("filled");
    let types = "SELECT DISTINCT column_name::text, data_type::text FROM information_schema.columns WHERE table_schema = 'public' \
                 AND data_type IN ('text', 'bigint') AND table_name NOT LIKE '%migrations'";
    let types: Vec<(String, String)> = sqlx::query_as(types).fetch_all(&mut connection).await.expect("readable");
    (connection, types.into_iter().collect())
}

/// The generic plan of a statement, a step a line.
async fn generic_plan(connection: &mut PgConnection, text: &str) -> Result<Vec<String>, sqlx::Error> {
    let values = (1..30).rev().find(|number| text.contains(&format!("${number}"))).unwrap_or(0);
    let values = vec!["NULL"; values].join(", ");
    let values = if values.is_empty() { values } else { format!("({values})") };
    sqlx::raw_sql(AssertSqlSafe(format!("PREPARE looked_at AS {text}"))).execute(&mut *connection).await?;
    let plan =
        sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN EXECUTE looked_at{values}"))).fetch_all(&mut *connection).await;
    sqlx::raw_sql("DEALLOCATE looked_at").execute(connection).await?;
    Ok(plan?.iter().map(|row| row.get(0)).collect())
}

/// The tables of a plan that are read as a whole, or by a whole index that has all of their rows.
fn read_whole(plan: &[String]) -> Vec<&'static str> {
    let mut found = Vec::new();
    for (place, step) in plan.iter().enumerate() {
        let Some((scan, table)) = step.split_once(" on ") else { continue };
        let table = table.split(' ').next().unwrap_or_default();
        let Some(table) = GROWING.iter().find(|growing| **growing == table) else { continue };
        let has_condition = || plan.get(place + 1).is_some_and(|next| next.contains("Index Cond"));
        let of_all = ["_pkey", "events_of_lane", "events_by_identity", "pumps_of_maker", "customers_active"];
        let is_of_all = of_all.iter().any(|index| scan.contains(index));
        if scan.ends_with("Seq Scan") || (is_of_all && !has_condition()) {
            found.push(*table);
        }
    }
    found
}

/// The settings by which plans are made, often while tables are empty.
fn settings_of_plans(name: &str) -> String {
    let file = std::fs::read_to_string("src/store/db/postgres.rs").expect("it is there");
    let (_, after) = file.split_once(&format!("const {name}:")).expect("the settings are there");
    let settings = after.split(';').nth(1).expect("they end").split('"').skip(1).step_by(2);
    settings.map(|setting| format!("SET {setting};")).collect()
}

/// A bridge that has nothing to do, when the server counts its rows: nothing says that any are ever pending, parked or due.
const AT_REST: &str = "UPDATE events SET state = 'applied', settled_at = 1; UPDATE notices SET state = 'published', published_at = 1; \
    UPDATE lanes SET ready_at = NULL; UPDATE pumps SET has_alert = 0; VACUUM FULL; ANALYZE";

/// Indexes of the rows that wait or are parked. Those statistics say that there are none, so that a walk through all of one seems free.
const OF_FEW: &[&str] = &[
    "events_unsettled",
    "events_later",
    "events_parked",
    "events_parked_counts",
    "events_announced",
    "notices_due",
    "notices_unpublished",
    "notices_in_order",
    "lanes_ready",
    "customers_unhashed",
    "audit_unsealed",
    "pumps_alerting",
    "pumps_alerting_by_id",
    "scim_users_by_name",
    "scim_users_by_external_id",
];

/// Statements that look through all of such an index, and why they may: the beginning of the statement.
const MAY_WALK: &[(&str, &str)] =
    &[("UPDATE events SET state = 'skipped'", "an operator skips all messages that never became an event")];

/// `true` if a plan looks for single rows, or for those of a lane, among all rows of such an index.
fn walks(plan: &[String]) -> bool {
    let is_of_one = |step: &&String| {
        let filter = step.contains("Filter: ");
        filter
            && ["lane = ", "lane > ", "lane IS NULL", "customer = ", "heat_pump = ", "order_key = ", "(id = ", ".id = "]
                .iter()
                .any(|one| step.contains(one))
    };
    let walks = |(place, step): (usize, &String)| {
        let is_of_few = OF_FEW.iter().any(|index| step.contains(&format!(" {index} ")));
        // The filter of a bitmap stands above it.
        let is_bitmap = step.contains("Bitmap Index Scan");
        let after = plan[place + 1..].iter().take_while(|step| !step.contains("->"));
        let before = plan[..place].iter().rev().take(8);
        is_of_few
            && if is_bitmap {
                before.into_iter().any(|step| is_of_one(&step))
            } else {
                after.into_iter().any(|step| is_of_one(&step))
            }
    };
    plan.iter().enumerate().any(walks)
}

/// Walks that a plan makes without one of the indexes of few rows. Of two that seem empty PostgreSQL takes the smaller one, and a few
/// pages more of rows that were there decide it: no statement may walk through the one where the other is larger.
async fn walks_elsewhere(connection: &mut PgConnection, statements: &[Statement]) -> Vec<String> {
    let mut wrong = Vec::new();
    for index in OF_FEW {
        let without = AssertSqlSafe(format!("BEGIN; DROP INDEX {index}"));
        sqlx::raw_sql(without).execute(&mut *connection).await.expect("it is there");
        for Statement { file, text } in statements {
            let plan = generic_plan(connection, text).await.expect("as with the index");
            if walks(&plan) && !MAY_WALK.iter().any(|(start, _)| text.starts_with(start)) {
                wrong.push(format!("{file}: walks without {index}: {text}\n{}", plan.join("\n")));
            }
        }
        sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await.expect("the index is back");
    }
    wrong
}

#[tokio::test]
async fn on_postgres_no_generic_plan_reads_a_whole_table_but_those_that_may() {
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    let mut walking = BTreeSet::new();
    let (all, writer) = (settings_of_plans("PLANS"), settings_of_plans("PLANS_OF_WRITER"));
    for (rows, more, settings) in [(FILLED, "", ""), ("", "", &*writer), (FILLED, AT_REST, &*writer)] {
        let (mut connection, types) = on_postgres(rows).await;
        for statement in more.split(';') {
            sqlx::raw_sql(statement).execute(&mut connection).await.expect("at rest");
        }
        let settings = AssertSqlSafe(format!("SET plan_cache_mode = force_generic_plan; {all} {settings}"));
        sqlx::raw_sql(settings).execute(&mut connection).await.expect("set");
        let statements = statements(Form::AllRows(&types));
        for Statement { file, text } in &statements {
            let plan = match generic_plan(&mut connection, text).await {
                Ok(plan) => plan,
                Err(error) => {
                    wrong.push(format!("{file}: {error}: {text}"));
                    continue;
                }
            };
            if walks(&plan) {
                match MAY_WALK.iter().position(|(start, _)| text.starts_with(start)) {
                    Some(place) => drop(walking.insert(place)),
                    None => wrong.push(format!("{file}: walks: {text}\n{}", plan.join("\n"))),
                }
            }
            for table in read_whole(&plan) {
                let on_both = MAY_SCAN.iter().any(|(start, of, _)| text.starts_with(start) && *of == table);
                match MAY_SCAN_ON_POSTGRES.iter().position(|(start, _)| text.starts_with(start)) {
                    Some(place) => drop(used.insert(place)),
                    None if on_both => {}
                    None => wrong.push(format!("{file}: {table}: {text}\n{}", plan.join("\n"))),
                }
            }
        }
        if more == AT_REST && wrong.is_empty() {
            wrong.extend(walks_elsewhere(&mut connection, &statements).await);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(used.len(), MAY_SCAN_ON_POSTGRES.len(), "what may is what does: {used:?}");
    assert_eq!(walking.len(), MAY_WALK.len(), "what may is what does: {walking:?}");
}
