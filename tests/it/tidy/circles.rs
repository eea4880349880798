//! No file imports, by way of others, itself.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Program;
use super::today;

type Imports<'a> = BTreeMap<&'a str, BTreeMap<&'a str, String>>;

/// Says whether a file is in the folder of another: `store/inbox.rs` in that of `store/mod.rs`.
fn is_below(parent: &str, file: &str) -> bool {
    let folder = parent.trim_end_matches(".rs").trim_end_matches("/mod");
    parent != "src/lib.rs" && file != parent && file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Parents that use names of files in their folder, and define names that those use.
fn parents<'a>(imports: &Imports<'a>) -> BTreeMap<&'a str, String> {
    let arrow = |from: &str, to: &str, name: &str| format!("{from} uses `{name}` of {to}\n");
    let mut found = BTreeMap::new();
    for (parent, uses) in imports {
        let down = uses.iter().filter(|(file, _)| is_below(parent, file)).map(|(file, name)| arrow(parent, file, name));
        let below = imports.iter().filter(|(file, _)| is_below(parent, file));
        let up = below.filter_map(|(file, uses)| Some(arrow(file, parent, uses.get(parent)?)));
        let (down, up): (String, String) = (down.collect(), up.collect());
        if !down.is_empty() && !up.is_empty() {
            found.insert(*parent, down + &up);
        }
    }
    found
}

/// Every file that a file uses, by way of others.
fn reachable<'a>(imports: &Imports<'a>, from: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        next.extend(imports[file].keys().filter(|file| reached.insert(**file)));
    }
    reached
}

fn circles(imports: &Imports<'_>) -> BTreeMap<String, String> {
    let reachable: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|file| (*file, reachable(imports, file))).collect();
    let mut found = BTreeMap::new();
    for (file, reached) in &reachable {
        let circle: Vec<&str> = reached.iter().copied().filter(|other| reachable[other].contains(file)).collect();
        if circle.len() > 1 {
            let arrows = circle.iter().flat_map(|from| {
                let inside = imports[from].iter().filter(|(to, _)| circle.contains(to));
                inside.map(move |(to, name)| format!("{from} uses `{name}` of {to}\n"))
            });
            found.entry(circle.join(" ")).or_insert_with(|| arrows.collect());
        }
    }
    found
}

#[test]
fn no_files_import_each_other() {
    let program = Program::read();
    let mut imports = program.imports();
    assert!(imports["src/cli/mod.rs"].contains_key("src/cli/serve.rs"), "imports are found");
    let parents = parents(&imports);
    for parent in parents.keys() {
        imports.get_mut(parent).expect("it is there").retain(|file, _| !is_below(parent, file));
    }
    today::expect(
        "circles.txt",
        &circles(&imports),
        "Files import each other: put what both need into a file below them",
    );
    let parents = parents.into_iter().map(|(parent, arrows)| (parent.to_owned(), arrows)).collect();
    let advice = "A parent uses its children and they use what it defines: it should only declare them and export their names \
                  again, so move its definitions into a child";
    today::expect("parents.txt", &parents, advice);
}

#[test]
fn a_circle_would_be_found() {
    let uses = |names: &[&'static str]| names.iter().map(|name| (*name, "x".to_owned())).collect();
    let mut imports: Imports<'_> = BTreeMap::from([("a", uses(&["b"])), ("b", uses(&["c"])), ("c", uses(&["b"]))]);
    assert_eq!(circles(&imports).keys().collect::<Vec<_>>(), ["b c"]);
    imports.insert("c", uses(&[]));
    assert!(circles(&imports).is_empty());
}
