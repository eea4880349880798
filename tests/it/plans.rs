//! The ways by which SQLite finds the rows of each statement of the store: by an index, or by reading a whole table, which gets
//! slower with every row. Statements are read from the store's own files, so that none is forgotten; plans are made without
//! statistics, as in the bridge, and are the same on every machine.

use std::collections::{BTreeMap, BTreeSet};

use podero_bridge::clock::Clock;
use podero_bridge::store::{Settings, Store};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Row};

use crate::tidy::{code, files};

/// Statements that read a whole table or index, and why they may: the beginning of the statement, and the table.
const MAY_SCAN: &[(&str, &str, &str)] = &[
    ("SELECT COALESCE(SUM(CASE WHEN (roster", "watched", "once an interval, after a list of all users"),
    ("UPDATE watched SET missed_lists", "watched", "the same"),
    ("DELETE FROM watched WHERE (roster", "watched", "the same"),
    ("SELECT seen FROM pumps WHERE is_retired = 0 AND NOT EXISTS", "pumps", "the same"),
    ("UPDATE lanes SET ready_at = $1 WHERE claimed", "lanes", "once at the start"),
    ("SELECT version FROM _sqlx_migrations", "_sqlx_migrations", "a row for each migration"),
    ("SELECT COUNT(*) FROM sqlite_master", "sqlite_master", "a row for each table"),
    ("SELECT knowledge, COUNT(*) FROM pumps", "pumps", "a gauge; after a long count the next one is late"),
    ("SELECT MIN(COALESCE(polled_at, since))", "watched", "the same"),
    ("SELECT COUNT(*) FROM events WHERE state = 'parked'", "events", "the same, of an index of parked ones alone"),
    ("SELECT target, COUNT(*) FROM notices", "notices", "the same, of an index of pending ones alone"),
    ("SELECT reason, COUNT(*)", "events", "an operator's page, of an index of parked ones alone"),
    ("UPDATE events SET settled_at = $1 WHERE id IN", "events", "the same, where the clock was set back"),
    ("SELECT seen, checked_at FROM pumps", "pumps", "an operator's page, by the key, and ended by its limit"),
    ("SELECT id, reason, per_second", "bulk_retries", "an operator's; a row for each retry of many"),
    ("DELETE FROM bulk_retries", "bulk_retries", "the same"),
    ("SELECT COUNT(*) FROM tombstones", "tombstones", "once at the start"),
    ("SELECT COUNT(*) FROM watched WHERE customer", "watched", "an operator erases a customer"),
    ("DELETE FROM watched WHERE customer", "watched", "the same"),
    ("SELECT (SELECT COUNT(*) FROM lanes", "watched", "the same"),
    ("SELECT id, seen_at FROM replicas", "replicas", "a row for each replica"),
];

/// Statements that make a table in memory or a sorter while they run, and why they may. Each costs some 80 KiB that are taken and
/// given back, which is more than all else that an event's statement does; the conditions of partial indexes make them as well.
const MAY_MAKE_TABLES: &[(&str, &str)] = &[
    ("SELECT id FROM events WHERE lane = $1 AND change", "of an announced event"),
    ("UPDATE events SET state = 'superseded', reason", "the same"),
    ("SELECT state, COUNT(*)", "a gauge; an operator erases a customer"),
    ("SELECT knowledge, COUNT(*)", "a gauge"),
    ("SELECT id, raw, raw_encoding", "an operator erases a customer"),
    ("DELETE FROM calls WHERE event_id IN", "the same"),
    ("DELETE FROM events WHERE id IN", "for hundreds of rows"),
    ("DELETE FROM notices WHERE (id, target) IN", "the same"),
    ("UPDATE lanes SET ready_at = $1 WHERE claimed", "once at the start"),
    ("UPDATE shared SET value = $2, version = version + 1 WHERE name IN", "of a heartbeat, every three seconds"),
    ("UPDATE events SET state = 'pending', due_at = $2  WHERE events.lane", "of a sign-up"),
    ("UPDATE events SET state = 'pending' WHERE id IN", "for up to 500 events whose day has come"),
    ("UPDATE notices SET due_at = $1 WHERE target = $2 AND id IN", "for up to 256 notices, on PostgreSQL"),
    ("UPDATE watched SET taken_until = $1 WHERE user_id IN", "for up to 64 polls, on PostgreSQL"),
    ("INSERT INTO brakes", "of a churn, where the brake is on"),
    ("UPDATE admissions SET admitted_at", "where the clock was set back by more than a minute"),
    ("DELETE FROM admissions WHERE brake", "of a churn, where the brake is on"),
    ("SELECT reason, COUNT(*)", "an operator's"),
    ("SELECT type, COUNT(*)", "the same"),
    ("UPDATE events SET state = 'skipped'", "an operator's"),
    ("UPDATE events SET state = 'pending', due_at = $2, tries_from", "an operator's"),
    ("UPDATE events SET state = 'pending', due_at = $2 WHERE id", "an operator's"),
    ("UPDATE events SET settled_at = $1 WHERE id IN", "an operator's, where the clock was set back"),
    (
        "UPDATE events SET state = 'pending', due_at = $3",
        "for events whose wait lies beyond its ceiling: a look twice a second",
    ),
    ("UPDATE events SET tries_from = $3 WHERE id IN", "the same"),
    ("SELECT id, tries_from FROM events", "an operator's page"),
    ("SELECT id, lane, source, origin", "the same"),
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

/// Every text in the store's files that begins as a statement does.
fn statements() -> Vec<Statement> {
    let mut found = Vec::new();
    let files: Vec<_> = files("src/store", &["rs"]).into_iter().map(|(file, text)| (file, code(&text))).collect();
    let columns = columns_by_row(&files);
    for (file, text) in &files {
        let mut rest = text.as_str();
        while let Some(start) = rest.find('"') {
            let before = &text[..text.len() - rest.len() + start];
            let (literal, after) = literal(&rest[start + 1..]);
            rest = after;
            let is_one = ["SELECT ", "UPDATE ", "DELETE ", "INSERT "].iter().any(|verb| literal.starts_with(verb));
            // PostgreSQL's own tables, and the forms of marked texts.
            if is_one && !literal.contains("pg_class") && !file.ends_with("db/rows.rs") {
                let literal = with_columns(&for_each(&literal, before, &columns), after, &columns);
                found.push(Statement { file: file.clone(), text: filled(&literal) });
            }
        }
    }
    found
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

/// The marked text of a `RowStatement` (`src/store/db/rows.rs`), whose declaration `before` ends with, as SQLite runs it.
fn for_each(text: &str, before: &str, rows: &BTreeMap<String, String>) -> String {
    let declared = before.rsplit_once("RowStatement::").map_or("", |(_, declared)| declared);
    if declared.contains(';') {
        return text.to_owned();
    }
    let Some((columns, selected)) = declared.split_once("&[").and_then(|(_, rest)| rest.split_once(']')) else {
        return text.to_owned();
    };
    let columns: Vec<&str> = columns.split('"').skip(1).step_by(2).collect();
    let places: Vec<String> = (1..=columns.len()).map(|number| format!("${number}")).collect();
    let selected = selected.split_once("::COLUMNS").and_then(|(row, _)| rows.get(row.trim_matches([',', ' ', '\n'])));
    let mut text = text.replace("{rows}", &format!("VALUES ({})", places.join(", ")));
    text = text.replace("{selected}", selected.map_or("", |columns| columns.as_str()));
    for (column, place) in columns.iter().zip(&places) {
        text = text.replace(&format!("{{{column}}}"), place);
    }
    // All other marks are for PostgreSQL alone.
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

/// With something in the place of what is put in when it runs.
fn filled(text: &str) -> String {
    let by = [
        ("IN {}", "IN ($9)"),
        ("{UNSETTLED}", "(state = 'pending' OR state = 'waiting' OR state = 'scheduled')"),
        ("${}", "$9"),
        ("bulk = {}", "bulk = 0"),
        ("{compares}", "<="),
        ("{confirmed}", "0"),
        ("{column}", "manufacturer"),
        ("{conditions}", "manufacturer IS NOT NULL"),
        ("{of_reason}", "reason = $1"),
        ("{RETRYABLE}", "(event IS NOT NULL OR (envelope IS NOT NULL AND envelope NOT LIKE 'cut%'))"),
        ("{condition}", "is_retired = 0"),
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
    for Statement { file, text } in &statements() {
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
    let statements = statements();
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
            if table == "CONSTANT" {
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
