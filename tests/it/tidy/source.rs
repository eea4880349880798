//! The source as the house rules read it: without tests, as a tree of modules with what each defines and names.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::UseTree;
use syn::visit::Visit;

use super::files;

/// A file without the items that are `#[cfg(test)]`. Everything else stays as it is.
pub(super) fn without_tests(text: &str) -> String {
    let mut cut = Vec::new();
    find_tests(text.parse().expect("the compiler has read it"), &mut cut);
    cut.sort_by_key(|range| range.start);
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    for range in cut.into_iter().filter(|range| !range.is_empty()) {
        kept.push_str(&text[from..range.start]);
        from = range.end;
    }
    kept + &text[from..]
}

/// The places of `#[cfg(test)]` with the item that it annotates: it ends with its body, or with a semicolon.
fn find_tests(tokens: TokenStream, cut: &mut Vec<Range<usize>>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        let is_test = is(tokens.get(at), '#')
            && tokens.get(at + 1).is_some_and(|attribute| attribute.to_string().replace(' ', "") == "[cfg(test)]");
        if !is_test {
            if let TokenTree::Group(group) = &tokens[at] {
                find_tests(group.stream(), cut);
            }
            at += 1;
            continue;
        }
        let end = tokens[at + 2..].iter().position(|token| {
            is(Some(token), ';') || matches!(token, TokenTree::Group(body) if body.delimiter() == Delimiter::Brace)
        });
        let end = at + 2 + end.expect("an item ends");
        cut.push(tokens[at].span().byte_range().start..tokens[end].span().byte_range().end);
        at = end + 1;
    }
}

fn is(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

/// A file of the program.
#[derive(Default)]
struct Module {
    file: String,
    children: BTreeSet<String>,
    /// Names that it defines, with those that its macros declare.
    items: BTreeSet<String>,
    traits: BTreeSet<String>,
    /// Names that it imports or exports again, and where they lead.
    imports: BTreeMap<String, Vec<String>>,
    globs: BTreeSet<Vec<String>>,
    /// Paths that its code names.
    paths: BTreeSet<Vec<String>>,
}

/// Every file that is compiled into the program, by its path below the crate.
pub(super) struct Program(BTreeMap<Vec<String>, Module>);

impl Program {
    pub(super) fn read() -> Self {
        let texts: BTreeMap<String, String> = files("src", &["rs"]).into_iter().collect();
        let mut program = Self(BTreeMap::new());
        program.add(&texts, "src/lib.rs".to_owned(), Vec::new());
        program
    }

    fn add(&mut self, texts: &BTreeMap<String, String>, file: String, path: Vec<String>) {
        let text = without_tests(&texts[&file]);
        let parsed = syn::parse_file(&text).expect("the compiler has read it");
        let mut module = Module { file, ..Module::default() };
        let tokens: TokenStream = text.parse().expect("the compiler has read it");
        module.add_items(tokens.clone());
        module.visit_file(&parsed);
        module.add_paths(tokens);
        for child in &module.children {
            let path = [path.as_slice(), std::slice::from_ref(child)].concat();
            let stem = format!("src/{}", path.join("/"));
            let found =
                [format!("{stem}.rs"), format!("{stem}/mod.rs")].into_iter().find(|name| texts.contains_key(name));
            self.add(texts, found.unwrap_or_else(|| panic!("no file {stem}.rs")), path);
        }
        self.0.insert(path, module);
    }

    /// For each file the rooms that it names.
    pub(super) fn rooms(&self) -> impl Iterator<Item = (&str, BTreeSet<&str>)> {
        self.0.values().map(|module| {
            let named = module.paths.iter().chain(module.imports.values()).chain(&module.globs);
            let rooms = named.filter(|path| path[0] == "crate").filter_map(|path| path.get(1));
            (module.file.as_str(), rooms.map(String::as_str).collect())
        })
    }

    /// For each file the other files whose names it uses, with one of the names. Declaring a child, or passing its name on by
    /// `use`, uses nothing.
    pub(super) fn imports(&self) -> BTreeMap<&str, BTreeMap<&str, String>> {
        let mut all = BTreeMap::new();
        for (at, module) in &self.0 {
            let named = module.paths.iter().filter_map(|path| Some((path, self.find(at, path, true)?)));
            // A trait's methods are used without its name.
            let traits = module.imports.values().filter_map(|path| Some((path, self.find(at, path, true)?)));
            let traits = traits.filter(|(_, (definer, name))| definer.traits.contains(*name));
            let found = named.chain(traits).filter(|(_, (definer, _))| definer.file != module.file);
            let found = found.map(|(path, (definer, _))| (definer.file.as_str(), path.join("::")));
            all.insert(module.file.as_str(), found.collect());
        }
        all
    }

    /// The file that defines what a path in this module names, and its name there. `None`: no file of ours does, or it names a
    /// module alone. If `is_lenient`, a name that is nowhere else is its module's own, made by a macro.
    fn find<'a>(&'a self, at: &[String], path: &'a [String], is_lenient: bool) -> Option<(&'a Module, &'a str)> {
        let (first, rest) = path.split_first()?;
        let module = &self.0[at];
        let inner = match first.as_str() {
            "crate" => Some(Vec::new()),
            "self" => Some(at.to_vec()),
            "super" => Some(at[..at.len() - 1].to_vec()),
            child if module.children.contains(child) => Some([at, std::slice::from_ref(first)].concat()),
            _ => None,
        };
        let is_item = module.items.contains(first) || module.traits.contains(first);
        if is_item && (inner.is_none() || rest.is_empty()) {
            return Some((module, first));
        }
        let import = module.imports.get(first).filter(|_| inner.is_none() || rest.is_empty());
        if let Some(import) = import {
            let is_foreign = import[0] == *first && inner.is_none();
            return if is_foreign { None } else { self.follow(at, import, rest, is_lenient) };
        }
        if let Some(inner) = inner {
            let name = rest.first()?;
            let found = self.find(&inner, rest, is_lenient);
            let is_way = name == "super" || name == "self" || self.0[&inner].children.contains(name);
            return found.or_else(|| (is_lenient && !is_way).then(|| (&self.0[&inner], name.as_str())));
        }
        module.globs.iter().find_map(|glob| self.follow(at, glob, path, false))
    }

    /// The item that an import leads to, and the rest of a path from there.
    fn follow<'a>(
        &'a self,
        at: &[String],
        import: &'a [String],
        rest: &'a [String],
        is_lenient: bool,
    ) -> Option<(&'a Module, &'a str)> {
        match self.module(at, import) {
            Some(inner) => self.find(&inner, rest, is_lenient),
            None => self.find(at, import, is_lenient),
        }
    }

    /// The module that a path names, if it is one.
    fn module(&self, at: &[String], path: &[String]) -> Option<Vec<String>> {
        let mut at = at.to_vec();
        for name in path {
            match name.as_str() {
                "crate" => at.clear(),
                "self" => {}
                "super" => drop(at.pop()),
                child if self.0[&at].children.contains(child) => at.push(name.clone()),
                other => at = self.module(&at, self.0[&at].imports.get(other).filter(|path| path[0] != other)?)?,
            }
        }
        Some(at)
    }
}

impl Module {
    /// Adds what the file declares, itself or by a macro such as `names!`.
    fn add_items(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            if let TokenTree::Group(group) = token
                && (at > 0 && is(tokens.get(at - 1), '!') || at > 1 && is(tokens.get(at - 2), '!'))
            {
                self.add_items(group.stream());
            }
            let (TokenTree::Ident(word), Some(TokenTree::Ident(name))) = (token, tokens.get(at + 1)) else { continue };
            match word.to_string().as_str() {
                "const" | "enum" | "fn" | "static" | "struct" | "type" => drop(self.items.insert(name.to_string())),
                "trait" => drop(self.traits.insert(name.to_string())),
                "mod" if is(tokens.get(at + 2), ';') => drop(self.children.insert(name.to_string())),
                _ => {}
            }
        }
    }

    fn add_import(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.add_import(&path.tree, &with(&path.ident)),
            UseTree::Name(name) if name.ident == "self" => self.bind(before.last().cloned(), before.to_vec()),
            UseTree::Name(name) => self.bind(Some(name.ident.to_string()), with(&name.ident)),
            UseTree::Rename(name) if name.ident == "self" => self.bind(Some(name.rename.to_string()), before.to_vec()),
            UseTree::Rename(name) => self.bind(Some(name.rename.to_string()), with(&name.ident)),
            UseTree::Glob(_) => drop(self.globs.insert(before.to_vec())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_import(tree, before)),
        }
    }

    fn bind(&mut self, name: Option<String>, path: Vec<String>) {
        let name = name.expect("an import has a name");
        // A trait without a name is one of many.
        let name = if name == "_" { format!("_{}", self.imports.len()) } else { name };
        self.imports.insert(name, path);
    }

    /// Adds each path of the code, and each single name, which an import may have brought.
    fn add_paths(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.add_paths(group.stream()),
                TokenTree::Ident(word) if *word == "use" && !is(tokens.get(at + 1), '<') => {
                    at += tokens[at..].iter().position(|token| is(Some(token), ';')).expect("an import ends");
                }
                TokenTree::Ident(first) if at == 0 || !is(tokens.get(at - 1), '.') => {
                    let mut path = vec![first.to_string()];
                    while let Some(TokenTree::Ident(next)) = tokens.get(at + 3)
                        && is(tokens.get(at + 1), ':')
                        && is(tokens.get(at + 2), ':')
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    self.paths.insert(path);
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item_use(&mut self, import: &'ast syn::ItemUse) {
        self.add_import(&import.tree, &[]);
    }
}
