//! Names and sentences: a type's name occurs once, parameters have names, and a sentence names its actor.

use std::collections::BTreeMap;

use syn::visit::Visit;

use super::source::without_tests;
use super::{document, files, today};

#[derive(Default)]
struct Found {
    tuple_parameters: Vec<String>,
    public_types: Vec<String>,
}

impl<'ast> Visit<'ast> for Found {
    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        let is_tuple = |input: &syn::FnArg| match input {
            // A tuple that a foreign crate hands over has a type with a name.
            syn::FnArg::Typed(typed) => matches!((&*typed.pat, &*typed.ty), (syn::Pat::Tuple(_), syn::Type::Tuple(_))),
            syn::FnArg::Receiver(_) => false,
        };
        if signature.inputs.iter().any(is_tuple) {
            self.tuple_parameters.push(signature.ident.to_string());
        }
        syn::visit::visit_signature(self, signature);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.add_type(&item.vis, &item.ident);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.add_type(&item.vis, &item.ident);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.add_type(&item.vis, &item.ident);
        syn::visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.add_type(&item.vis, &item.ident);
    }
}

impl Found {
    fn add_type(&mut self, visibility: &syn::Visibility, name: &syn::Ident) {
        if !matches!(visibility, syn::Visibility::Inherited) {
            self.public_types.push(name.to_string());
        }
    }
}

/// The program's files, each as its code without tests declares.
fn declarations() -> Vec<(String, Found)> {
    let program = files("src", &["rs"]).into_iter();
    let program = program.filter(|(path, _)| !path.ends_with("/tests.rs") && !path.contains("/tests/"));
    let found = program.map(|(path, text)| {
        let mut found = Found::default();
        found.visit_file(&syn::parse_file(&without_tests(&text)).expect("the compiler has read it"));
        (path, found)
    });
    found.collect()
}

#[test]
fn parameters_have_names() {
    let found = declarations().into_iter().flat_map(|(path, found)| {
        found
            .tuple_parameters
            .into_iter()
            .map(move |name| (format!("{path} {name}"), "has a parameter that is a tuple".into()))
    });
    today::expect("tuple_parameters.txt", &found.collect(), "Give a struct with named fields, or fewer handles");
}

#[test]
fn the_name_of_a_public_type_occurs_once() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, found) in declarations() {
        found.public_types.into_iter().for_each(|name| places.entry(name).or_default().push(path.clone()));
    }
    let shared =
        places.into_iter().filter(|(_, places)| places.len() > 1).map(|(name, places)| (name, places.join(" ")));
    let advice = "One of them keeps the bare name, the others say what they are (`HeldMessage`, `SandboxAnswer`)";
    today::expect("shared_names.txt", &shared.collect(), advice);
}

/// Limit of the characters of a function's name; the rest of a test's sentence is the first line of its comment.
const NAME_CHARS_MAX: usize = 70;

#[test]
fn names_of_functions_are_short() {
    for (path, text) in ["src", "tests"].iter().flat_map(|folder| files(folder, &["rs"])) {
        for rest in text.split("fn ").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            assert!(name.len() <= NAME_CHARS_MAX, "{path}: {name} has more than {NAME_CHARS_MAX} characters");
        }
    }
}

/// Sentences of these paragraphs that begin with a clause that hides the actor. Questions may.
fn hidden_actors(paragraphs: &[String]) -> Vec<String> {
    let is_hidden = |sentence: &&str| {
        let start = sentence.trim_start_matches(['*', '_']);
        ["Whoever ", "What is ", "Who "].iter().any(|word| start.starts_with(word))
            && !sentence.trim_end().ends_with('?')
    };
    let sentences = |paragraph: &String| {
        let ends = [". ", "! ", "? "]
            .iter()
            .fold(paragraph.clone(), |text, end| text.replace(end, &format!("{}\n", end.trim())));
        ends.lines().filter(|sentence| is_hidden(sentence)).map(str::to_owned).collect::<Vec<_>>()
    };
    paragraphs.iter().flat_map(sentences).collect()
}

/// Joins lines to paragraphs: an empty line, a heading, an item of a list and each cell of a table begins one.
fn paragraphs<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in lines.map(str::trim) {
        let is_item =
            line.is_empty() || line.starts_with(['#', '|', '*', '-']) || line.starts_with(|c: char| c.is_ascii_digit());
        if is_item {
            paragraphs
                .extend(line.split(" | ").map(|part| part.trim_start_matches(['#', '|', '*', '-', ' ']).to_owned()));
        } else if let Some(paragraph) = paragraphs.last_mut() {
            *paragraph += if paragraph.is_empty() { "" } else { " " };
            *paragraph += line;
        }
    }
    paragraphs
}

#[test]
fn sentences_name_their_actor() {
    let mut found = BTreeMap::new();
    let mut add = |path: String, paragraphs: &[String]| {
        let hidden = hidden_actors(paragraphs);
        if !hidden.is_empty() {
            found.insert(format!("{path} {}", hidden.len()), hidden.join("\n"));
        }
    };
    for (path, text) in ["src", "tests"].iter().flat_map(|folder| files(folder, &["rs"])) {
        // A line of code between two comments ends a paragraph.
        let comments = text
            .lines()
            .map(|line| line.trim().strip_prefix("//").map_or("", |line| line.trim_start_matches(['/', '!'])));
        add(path, &paragraphs(comments));
    }
    let readme = [("README.md".to_owned(), document("README.md"))];
    for (path, text) in files("docs", &["md"]).into_iter().chain(readme) {
        let mut is_example = false;
        let lines = text.lines().filter(|line| {
            is_example ^= line.trim().starts_with("```");
            !is_example
        });
        add(path, &paragraphs(lines));
    }
    today::expect("hidden_actors.txt", &found, "Begin with the actor or the verb: not Whoever, What is, Who");
}
