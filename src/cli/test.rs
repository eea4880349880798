//! `test DIR`: a mapping and its examples. For each `NAME.input.json` the program `map.jq` must give the list in
//! `NAME.expected.json`, and each output must be a valid event. `NAME.headers.json`, if there is one, is `$headers`, and
//! `NAME.amqp.json` is `$amqp`.
//!
//! Before: [`crate::cli`]. After: [`crate::inbound::mapping`], in the same worker that the bridge would use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Map, Value};
use similar::{ChangeTag, TextDiff};

use super::output::say;
use super::table;
use crate::config::{self, Source, Types, Verify};
use crate::domain::event::Transport;
use crate::domain::{Timestamp, utf8};
use crate::inbound::Delivery;
use crate::inbound::mapping::mapper::{MapError, Mapper};
use crate::inbound::mapping::{self, Tried};

/// Name of the source; with it `/example` is the default of an event's `source`.
const SOURCE: &str = "example";

/// Time at which every example is received, so that `$received_at` is the same in each run. It is later than the events
/// of most examples.
const RECEIVED_AT: &str = "2030-01-01T00:00:00Z";

/// Limits of an example: the defaults of `http.batch_max` and `http.body_max`.
const OUTPUTS_MAX: usize = 1_000;
const BODY_BYTES_MAX: usize = 1 << 20;

/// Prints a line for each example, and the difference where there is one; fails when one failed.
pub(super) async fn run(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join("map.jq");
    let code = config::read_map(&path).with_context(|| format!("{}", path.display()))?;
    let map = Some(config::Map { path: path.display().to_string(), code });
    let sources =
        [Source { name: SOURCE.to_owned(), verify: Verify::None, map, types: Types::default(), tells_receipt: true }];
    let faults = mapping::check(&sources);
    anyhow::ensure!(faults.is_empty(), "{}", faults.join("\n"));
    let binary = std::env::current_exe().context("where this binary is")?;
    let mapper = Mapper::new(&sources, binary, OUTPUTS_MAX, BODY_BYTES_MAX);
    let names = names(dir)?;
    anyhow::ensure!(!names.is_empty(), "there is no NAME.input.json in {}", dir.display());
    let mut failed = 0;
    for name in &names {
        let faults = example(&mapper, dir, name).await?;
        say(&format!("{} {name}", if faults.is_empty() { "ok     " } else { "failed " }));
        failed += usize::from(!faults.is_empty());
        faults.iter().for_each(|fault| say(&table::plain(fault)));
    }
    anyhow::ensure!(failed == 0, "{failed} of {} examples failed", names.len());
    Ok(())
}

/// Names of the examples, in alphabetical order.
fn names(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("{}", dir.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".input.json").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Runs an example; returns its faults.
async fn example(mapper: &Mapper, dir: &Path, name: &str) -> anyhow::Result<Vec<String>> {
    let file = |kind: &str| dir.join(format!("{name}.{kind}.json"));
    let input = file("input");
    let bytes = std::fs::read(&input).with_context(|| format!("{}", input.display()))?;
    let message = match utf8::text(&bytes) {
        Ok(text) => text.as_bytes().to_vec(),
        Err(form) => return Ok(vec![format!("{}: {form}", input.display())]),
    };
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&message) {
        return Ok(vec![format!("{}: not JSON: {error}", input.display())]);
    }
    let headers: BTreeMap<String, String> = read(&file("headers"))?.unwrap_or_default();
    let received_at = Timestamp::parse(RECEIVED_AT).expect("it is one");
    let amqp: Map<String, Value> = read(&file("amqp"))?.unwrap_or_default();
    let (transport, source) = (Transport::Http, SOURCE.to_owned());
    let delivery = Delivery { transport, source, content_type: None, headers, body: message, received_at };
    let tried = match mapping::try_out(mapper, delivery, amqp.into()).await {
        Ok(tried) => tried,
        Err(MapError::Failed(why)) => return Ok(vec![format!("map.jq ended with: {why}")]),
        Err(MapError::Unbounded(why)) => return Ok(vec![why.to_owned()]),
        Err(MapError::NoWorker) => anyhow::bail!("no worker for mappings could be started"),
    };
    let mut faults = Vec::new();
    for (number, Tried { event, .. }) in tried.iter().enumerate() {
        if let Err(problem) = event {
            faults.push(format!("output {}: {}", number + 1, problem.line()));
        }
    }
    let outputs = Value::Array(tried.into_iter().map(|tried| tried.output).collect());
    match read::<Value>(&file("expected"))? {
        Some(expected) if expected == outputs => {}
        Some(expected) => faults.push(difference(&expected, &outputs)),
        None => faults.push(format!("{name}.expected.json is missing; it gave:\n{outputs:#}")),
    }
    Ok(faults)
}

/// `None`: there is no such file.
fn read<T: serde::de::DeserializeOwned>(path: &PathBuf) -> anyhow::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = utf8::text(&bytes).with_context(|| format!("{}", path.display()))?;
            Ok(Some(serde_json::from_str(text).with_context(|| format!("{}", path.display()))?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{}", path.display())),
    }
}

/// Line by line: `-` is expected, `+` was given.
fn difference(expected: &Value, given: &Value) -> String {
    let [expected, given] = [expected, given].map(|value| format!("{value:#}\n"));
    let lines = TextDiff::from_lines(&expected, &given);
    let shown = lines.iter_all_changes().map(|change| {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => ' ',
        };
        format!("  {sign} {}", change.to_string().trim_end())
    });
    shown.collect::<Vec<_>>().join("\n")
}
