//! Lists of exceptions: each entry has its reason, and a list without entries has no file.

use std::collections::BTreeMap;

use super::root;

/// Holds what was found, with where it is, against the list of this name in `tests/it/tidy/today/`: one entry a line. A line may
/// go on with a reason, behind two spaces.
pub(super) fn expect(list: &str, found: &BTreeMap<String, String>, advice: &str) {
    let path = root().join("tests/it/tidy/today").join(list);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let known: BTreeMap<&str, &str> =
        text.lines().map(|line| (line.split("  ").next().unwrap_or(line), line)).collect();
    let gone = known.keys().filter(|entry| !found.contains_key(**entry));
    let gone: String = gone.map(|entry| format!("  {entry}\n")).collect();
    let is_updated = std::env::var_os("UPDATE").is_some();
    if is_updated && !gone.is_empty() {
        // Only what is mended is taken out: a new entry is written by hand, with its reason.
        let left = known.iter().filter(|(entry, _)| found.contains_key(**entry));
        let left: String = left.map(|(_, line)| format!("{line}\n")).collect();
        std::fs::write(path, left).expect("the list can be written");
    }
    let new = found.iter().filter(|(entry, _)| !known.contains_key(entry.as_str()));
    let new: String =
        new.map(|(entry, place)| format!("  {entry}\n    {}\n", place.trim().replace('\n', "\n    "))).collect();
    assert!(new.is_empty(), "{advice}.\nNew, beyond tests/it/tidy/today/{list}:\n{new}\nNo longer there:\n{gone}");
    assert!(
        is_updated || gone.is_empty(),
        "Mended. Take these lines out of tests/it/tidy/today/{list} (UPDATE=1 does it):\n{gone}"
    );
}
