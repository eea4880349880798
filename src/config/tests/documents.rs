//! The documents that are made from the declarations of keys: `deploy/config.example.toml` and the tables in `docs/`.
//!
//! `UPDATE=1 cargo nextest run docs_has` writes them. A table stands between the lines `<!-- generated: keys SECTION -->` and
//! `<!-- end -->`, in whichever file of `docs/` these are.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::key::REPEATED;
use super::super::rules::Form;
use super::super::{KEYS, KeyInfo, Section};

const PREAMBLE: &str = r#"# podero-bridge: every setting there is. Made from the program: `UPDATE=1 cargo nextest run docs_has` writes this file.
#
# A line that begins with # and no space is a setting with its default (or, where there is no default, with an example). Take
# the # away to change it. Every setting can also come from the environment, which wins: PODERO_BRIDGE__PODERO__TIMEOUT=20s
# sets podero.timeout; items of a list are separated by commas there. Every secret can be read from a file instead, such as
# client_secret_file = "/run/secrets/podero_client_secret". A relative path counts from the folder of this file.
# `podero-bridge check --offline` reports everything that is wrong with a configuration at once.
"#;

const COLUMNS: usize = 120;

/// The text as lines that begin with `# `.
fn comment(text: &str) -> String {
    let mut lines = vec!["#".to_owned()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("one at least");
        if last.chars().count() + 1 + word.chars().count() > COLUMNS {
            lines.push(format!("# {word}"));
        } else {
            last.push(' ');
            last.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

/// The default as TOML.
fn default_toml(key: &KeyInfo) -> Option<String> {
    let items = |text: &str| format!("{:?}", text.split(',').filter(|item| !item.is_empty()).collect::<Vec<_>>());
    key.default_text.map(|text| match (key.rule)().form {
        Form::Whole | Form::Number | Form::Flag => text.to_owned(),
        Form::Text | Form::TextOrWhole | Form::Secret => format!("{text:?}"),
        Form::List | Form::Secrets => items(text),
        Form::Pairs => unreachable!("no table of texts has a default"),
    })
}

fn setting(key: &KeyInfo) -> String {
    let (section, name) = key.parts();
    let default = default_toml(key);
    let no_default = if default.is_none() { " No default." } else { "" };
    let mut text = comment(key.help) + &comment(&format!("Allowed: {}.{no_default}", (key.rule)().allowed));
    if key.file_name().is_some() {
        let section = section.replace('.', "_");
        text += &format!("# Or: {name}_file = \"/run/secrets/{section}_{name}\"\n");
    }
    let off = if key.given.is_some() { "" } else { "#" };
    let value = key.given.map(str::to_owned).or(default).or(key.example.map(str::to_owned)).expect("some value");
    text + &format!("{off}{name} = {value}\n")
}

fn example() -> String {
    let is_repeated = |section: &Section| REPEATED.contains(&section.name);
    let table = |section: &Section| match is_repeated(section) {
        true => format!("[[{}]]", section.name),
        false => format!("[{}]", section.name),
    };
    let sections = KEYS.sections.iter().map(|section| {
        let is_off = is_repeated(section) && section.keys.iter().all(|key| key.given.is_none());
        let off = if is_off { "#" } else { "" };
        let opening: String = section.opening.trim().lines().map(|line| format!("#{line}\n")).collect();
        let keys: String = section.keys.iter().map(setting).collect();
        format!("\n{}{off}{}\n{opening}{keys}", comment(section.about), table(section))
    });
    PREAMBLE.to_owned() + &sections.collect::<String>()
}

/// Text as a cell of a table: a `*` outside of code is no emphasis.
fn cell(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(index, part)| if index % 2 == 0 { part.replace('*', "\\*") } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("`").replace('|', "\\|")
}

fn row(key: &KeyInfo) -> String {
    let names = [Some(key.name.to_owned()), key.file_name()].into_iter().flatten().map(|name| format!("`{name}`"));
    let default = match key.default_text {
        Some("") => format!("`{}`", default_toml(key).expect("it has one")),
        Some(text) => format!("`{text}`"),
        None => "none".to_owned(),
    };
    let allowed = cell(&(key.rule)().allowed);
    format!(
        "| {} | {default} | {allowed} | {} |\n",
        names.collect::<Vec<_>>().join(", "),
        key.help.trim().replace('|', "\\|")
    )
}

fn table(name: &str) -> String {
    let sections: Vec<&Section> = KEYS.sections.iter().filter(|section| section.name == name).collect();
    let about = sections.first().unwrap_or_else(|| panic!("there is no section {name}")).about.trim();
    let rows: String = sections.iter().flat_map(|section| section.keys).map(row).collect();
    format!("{about}\n\n| key | default | allowed | meaning |\n|---|---|---|---|\n{rows}")
}

/// A document with its tables as they are declared, and the sections that have one.
fn with_tables(text: &str) -> (String, BTreeSet<String>) {
    const BEGIN: &str = "<!-- generated: keys ";
    const END: &str = "<!-- end -->";
    let mut pieces = text.split(BEGIN);
    let mut made = pieces.next().unwrap_or_default().to_owned();
    let mut names = BTreeSet::new();
    for piece in pieces {
        let (name, rest) = piece.split_once(" -->\n").expect("the mark ends its line");
        let (_, rest) = rest.split_once(END).unwrap_or_else(|| panic!("the table of {name} has no end"));
        made += &format!("{BEGIN}{name} -->\n{}{END}{rest}", table(name));
        names.insert(name.to_owned());
    }
    (made, names)
}

#[test]
fn docs_has_every_key_as_it_is_declared() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![(root.join("deploy/config.example.toml"), example())];
    let mut described = BTreeSet::new();
    for entry in std::fs::read_dir(root.join("docs")).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|ending| ending == "md") {
            let (made, names) = with_tables(&std::fs::read_to_string(&path).expect("text"));
            documents.push((path, made));
            described.extend(names);
        }
    }
    for (path, made) in documents {
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &made).expect("it can be written");
        }
        let kept = std::fs::read_to_string(&path).expect("text");
        assert!(kept == made, "{} is not as the keys are declared: UPDATE=1 writes it", path.display());
    }
    let sections: BTreeSet<String> = KEYS.sections.iter().map(|section| section.name.to_owned()).collect();
    assert_eq!(described, sections, "docs/ has the table of each section");
}
