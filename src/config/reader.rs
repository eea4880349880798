//! Takes one key after the other from the file and the environment, and notes each problem. Never stops at a problem, and
//! decides no bounds: the declaration of a key does.
//!
//! Order of precedence: environment, file, default.
//!
//! Before: [`crate::config`]'s keys and rules. After: its sections.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::file;
use super::key::{FILE_SUFFIX, Key, KeyInfo, Keys, REPEATED, place, repeated_section};
use super::problems::ConfigProblem;
use super::rules::{Rule, TOKEN_CHARS_MIN};
use super::secret::{self, Secret, Secrets};
use super::settings::{Setting, SettingOrigin};

/// Environment variables by name.
pub type Strings = BTreeMap<String, String>;

/// Begins the name of every environment variable that is meant for the bridge. Two underscores: a container platform makes
/// variables such as `PODERO_BRIDGE_PORT` from a service's name, and those are not meant.
pub const ENVIRONMENT_PREFIX: &str = "PODERO_BRIDGE__";

/// Stands for a secret in a problem.
const HIDDEN: &str = "a value that is not shown";

/// The given values, key by key, and the problems so far.
pub(super) struct Reader {
    keys: &'static Keys,
    /// The sections of several tables.
    tables: Vec<Tables>,
    /// By full place: `podero.timeout`, `source.LABEL.secrets`.
    given: BTreeMap<String, Given>,
    /// Folder of the file, from which its relative paths count.
    folder: PathBuf,
    /// Files with secrets that every user of the machine may read or change.
    exposed: Vec<PathBuf>,
    problems: Vec<ConfigProblem>,
}

/// A section of several tables, such as `[[source]]`.
struct Tables {
    section: &'static str,
    /// The key that tells them apart.
    name: Key<String>,
    /// One of them, in a sentence.
    one: &'static str,
    /// Those of the file in its order, then those of the environment alone. A label is the table's name, or `#2` where the
    /// second has no usable one.
    labels: Vec<String>,
}

#[derive(Debug, Clone)]
struct Given {
    value: Value,
    /// The environment variable it came from; `None`: the file.
    variable: Option<String>,
}

impl Given {
    fn described(&self, is_hidden: bool) -> String {
        self.found(if is_hidden { HIDDEN.to_owned() } else { shown(&self.value) })
    }

    fn found(&self, shown: String) -> String {
        match &self.variable {
            Some(variable) => format!("{shown} in {variable}"),
            None => shown,
        }
    }
}

impl Reader {
    /// Sorts the file, which lies in `folder`, by key; a name that no key has becomes a problem. `tables` are the keys `name` of
    /// the sections of several tables, each with what one of the tables is called.
    pub(super) fn new(
        keys: &'static Keys,
        tables: [(Key<String>, &'static str); REPEATED.len()],
        file: Table,
        folder: &Path,
    ) -> Self {
        let tables = REPEATED.into_iter().zip(tables).map(|(section, (name, one))| Tables {
            section,
            name,
            one,
            labels: Vec::new(),
        });
        let (tables, folder) = (tables.collect(), folder.to_owned());
        let (given, exposed, problems) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut reader = Self { keys, tables, given, folder, exposed, problems };
        for (section, value) in file {
            reader.take_section(&section, value);
        }
        reader
    }

    /// Sorts the environment by key, over the file.
    pub(super) fn take_environment(&mut self, environment: &Strings) {
        for (variable, text) in environment {
            if let Some(name) = variable.strip_prefix(ENVIRONMENT_PREFIX) {
                self.take_variable(variable, name, text);
            }
        }
    }

    fn take_section(&mut self, section: &str, value: Value) {
        if let Some(of) = self.tables.iter().position(|tables| tables.section == section) {
            return self.take_tables(of, value);
        }
        let Value::Table(table) = value else { return self.refuse_section(section, &value) };
        if table.is_empty() && !self.keys.has_section(section) {
            self.refuse_unknown(section.to_owned(), section);
        }
        for (key, value) in table {
            let place = format!("{section}.{key}");
            match self.tables.iter().position(|tables| tables.section == place) {
                Some(of) => self.take_tables(of, value),
                None if self.keys.has_section(&place) => self.take_section(&place, value),
                None => self.take_value(&place, value),
            }
        }
    }

    fn take_value(&mut self, place: &str, value: Value) {
        if self.keys.has(place) {
            self.given.insert(place.to_owned(), Given { value, variable: None });
        } else {
            self.refuse_unknown(place.to_owned(), place);
        }
    }

    fn refuse_section(&mut self, section: &str, value: &Value) {
        if self.keys.has_section(section) {
            self.refuse(section, shown(value), format!("allowed: a table, [{section}]"));
        } else {
            self.refuse_unknown(section.to_owned(), section);
        }
    }

    /// Takes the tables of the section with this number.
    fn take_tables(&mut self, of: usize, value: Value) {
        let Tables { section, one, .. } = self.tables[of];
        let Value::Array(entries) = value else {
            let hint = format!("allowed: one [[{section}]] table for each {one}");
            return self.refuse(section, shown(&value), hint);
        };
        for (index, entry) in entries.into_iter().enumerate() {
            if let Value::Table(table) = entry {
                self.take_table(of, format!("#{}", index + 1), table);
            } else {
                self.refuse(section, shown(&entry), format!("allowed: one [[{section}]] table each"));
            }
        }
    }

    fn take_table(&mut self, of: usize, ordinal: String, table: Table) {
        let Tables { section, name, one, labels } = &self.tables[of];
        let (section, one, rule) = (*section, *one, (name.rule)());
        let name = table.get("name").and_then(Value::as_str).and_then(|name| rule.read(name).ok());
        let is_repeated = name.as_ref().is_some_and(|name| labels.contains(name));
        let label = name.filter(|_| !is_repeated).unwrap_or(ordinal);
        let place_of_name = place(section, &label, "name");
        match table.get("name") {
            Some(name) if is_repeated => {
                self.refuse(place_of_name, shown(name), format!("each {one} needs a name of its own"));
            }
            Some(name) if label.starts_with('#') => {
                self.refuse(place_of_name, shown(name), format!("allowed: {}", rule.allowed));
            }
            Some(_) => {}
            None => self.refuse(place_of_name, "nothing", format!("allowed: {}", rule.allowed)),
        }
        self.tables[of].labels.push(label.clone());
        for (key, value) in table {
            let place = place(section, &label, &key);
            match key.as_str() {
                "name" => {}
                _ if self.keys.has(&place) => self.take_value(&place, value),
                key => self.refuse_unknown(place, &format!("{section}.{key}")),
            }
        }
    }

    /// `PODERO_BRIDGE__SECTION__KEY`, or `PODERO_BRIDGE__SOURCE__NAME__KEY` with `_` for each `-` of the name.
    fn take_variable(&mut self, variable: &str, name: &str, text: &str) {
        let lower = name.to_ascii_lowercase();
        let of_table = self.tables.iter().enumerate().find_map(|(of, tables)| {
            let rest = lower.strip_prefix(&tables.section.replace('.', "__"))?.strip_prefix("__")?;
            let (label, key) = rest.rsplit_once("__")?;
            Some((of, label.replace('_', "-"), key))
        });
        let target = match &of_table {
            Some((of, label, key)) => place(self.tables[*of].section, label, key),
            None => lower.replace("__", "."),
        };
        let is_target = match &of_table {
            // The name is in the variable's own name already.
            Some((of, label, key)) => {
                *key != "name" && (self.tables[*of].name.rule)().read(label).is_ok() && self.keys.has(&target)
            }
            None => repeated_section(&target).is_none() && self.keys.has(&target),
        };
        if !is_target || name != lower.to_ascii_uppercase() {
            let hint = unknown_hint(self.keys.nearest(&target).map(|key| variable_of(&key)));
            return self.refuse(variable, "an unknown variable", hint);
        }
        if text.contains(char::REPLACEMENT_CHARACTER) {
            return self.refuse(variable, HIDDEN, "allowed: text in UTF-8");
        }
        if let Some((of, label, _)) = of_table
            && !self.tables[of].labels.contains(&label)
        {
            self.tables[of].labels.push(label);
        }
        let given = Given { value: Value::String(text.to_owned()), variable: Some(variable.to_owned()) };
        self.given.insert(target, given);
    }

    /// Notes that every user of the machine may read or change the configuration file, if there is a secret in it.
    pub(super) fn note_exposed(&mut self, path: &Path) {
        let is_secret = |(place, given): (&String, &Given)| {
            given.variable.is_none()
                && self.keys.find(place).is_some_and(KeyInfo::is_secret)
                && has_secret(&given.value)
        };
        if self.given.iter().any(is_secret) {
            self.exposed.push(path.to_owned());
        }
    }

    /// The files with secrets that every user of the machine may read or change, each once.
    pub(super) fn exposed(&self) -> Vec<PathBuf> {
        let mut exposed = self.exposed.clone();
        exposed.sort();
        exposed.dedup();
        exposed
    }

    /// Every key in the order of the documents, with its value; of a section of several tables, table by table.
    pub(super) fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        for section in self.keys.sections {
            let is_repeated = REPEATED.contains(&section.name);
            if !is_repeated {
                settings.extend(section.keys.iter().map(|key| self.setting(key, key.name.to_owned())));
                continue;
            }
            for label in self.labels(section.name) {
                let keys = section.keys.iter().filter(|key| key.parts().1 != "name");
                settings.extend(keys.map(|key| self.setting(key, place(section.name, label, key.parts().1))));
            }
        }
        settings
    }

    fn setting(&self, key: &KeyInfo, place: String) -> Setting {
        let rule = (key.rule)();
        let filed = self.given.get(&format!("{place}{FILE_SUFFIX}"));
        let Some(given) = self.given.get(&place).or(filed) else {
            let value = key.default_text.map(str::to_owned);
            return Setting { key: place, value, origin: SettingOrigin::Default, is_hidden: rule.is_hidden };
        };
        let origin = if given.variable.is_some() { SettingOrigin::Environment } else { SettingOrigin::File };
        let text = match given.variable {
            Some(_) => given.value.as_str().map(str::to_owned),
            None => rule.form.text_of(&given.value),
        };
        // The address of a server may have a password in it.
        let has_login = text.as_ref().is_some_and(|text| text.contains("://") && text.contains('@'));
        let is_hidden = rule.is_hidden || has_login;
        Setting { key: place, value: text.filter(|_| !is_hidden), origin, is_hidden }
    }

    /// The labels of the tables of this section, to be used with [`place`].
    pub(super) fn labels(&self, section: &str) -> &[String] {
        self.tables.iter().find(|tables| tables.section == section).map_or(&[], |tables| &tables.labels)
    }

    /// Says whether the file or the environment gives the key, itself or as a file.
    pub(super) fn is_given(&self, key: impl AsRef<str>) -> bool {
        let place = key.as_ref();
        self.given.contains_key(place) || self.given.contains_key(&format!("{place}{FILE_SUFFIX}"))
    }

    /// Says whether nothing is wrong with the key, so that comparing its value makes sense.
    pub(super) fn is_sound(&self, key: impl AsRef<str>) -> bool {
        !self.problems.iter().any(|problem| problem.key.trim_end_matches(FILE_SUFFIX) == key.as_ref())
    }

    /// Notes a problem.
    pub(super) fn refuse(&mut self, key: impl AsRef<str>, found: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(ConfigProblem { key: key.as_ref().to_owned(), found: found.into(), hint: hint.into() });
    }

    fn refuse_unknown(&mut self, key: String, typed: &str) {
        let hint = unknown_hint(self.keys.nearest(typed));
        self.problems.push(ConfigProblem { key, found: "an unknown key".to_owned(), hint });
    }

    /// Every problem that was noted.
    pub(super) fn into_problems(self) -> Vec<ConfigProblem> {
        self.problems
    }

    /// The value, if it was given and is right.
    pub(super) fn optional<T: 'static>(&mut self, key: &Key<T>) -> Option<T> {
        let rule = (key.rule)();
        assert!(!rule.form.is_secret(), "{} may be in a file", key.place);
        let given = self.given.get(&*key.place)?;
        let text = match given.variable {
            Some(_) => given.value.as_str().map(str::to_owned),
            None => rule.form.text_of(&given.value),
        };
        let read = text.map_or_else(|| Err(rule.advice("")), |text| rule.read(&text));
        let found = given.described(rule.is_hidden);
        read.map_err(|advice| self.refuse(key, found, advice)).ok()
    }

    /// The path of a file that is to be read. A relative one in the configuration file counts from the folder of that
    /// file, one in the environment from the working directory.
    pub(super) fn path(&mut self, key: &Key<String>) -> Option<PathBuf> {
        let text = self.optional(key)?;
        self.given.get(&*key.place).map(|given| self.located(given, &text))
    }

    fn located(&self, given: &Given, path: &str) -> PathBuf {
        match given.variable {
            Some(_) => PathBuf::from(path),
            None => self.folder.join(path),
        }
    }

    /// The value, or the default when it was not given (or is wrong, in which case the whole is refused later).
    pub(super) fn value<T: 'static>(&mut self, key: &Key<T>) -> T {
        let given = self.optional(key);
        given.unwrap_or_else(|| {
            (key.rule)().read(key.default_text()).expect("a test reads every default by its own rule")
        })
    }

    /// The value. If there is a reason `when` to require it, a missing one is a problem.
    pub(super) fn required<T: 'static>(&mut self, key: &Key<T>, when: Option<&str>) -> Option<T> {
        if let Some(when) = when.filter(|_| !self.is_given(key)) {
            self.refuse(key, "nothing", format!("required {when}; allowed: {}", (key.rule)().allowed));
        }
        self.optional(key)
    }

    /// The secret, given directly or as a file, if it is right.
    pub(super) fn secret(&mut self, key: &Key<Secret>) -> Option<Secret> {
        let found = self.secret_texts(&key.place, Several::Never)?;
        self.accepted(key, &(key.rule)(), found).pop()
    }

    /// The secret. If there is a reason `when` to require it, a missing one is a problem.
    pub(super) fn required_secret(&mut self, key: &Key<Secret>, when: Option<&str>) -> Option<Secret> {
        self.require_secret(key, when);
        self.secret(key)
    }

    fn require_secret(&mut self, key: &Key<Secret>, when: Option<&str>) {
        if let Some(when) = when.filter(|_| !self.is_given(key)) {
            let hint = format!("required {when}; allowed: {}, or {}{FILE_SUFFIX}", (key.rule)().allowed, key.place);
            self.refuse(key, "nothing", hint);
        }
    }

    /// Several secrets: a list or a single text; by comma in the environment; one per line in a file, which can be read
    /// again.
    pub(super) fn secrets(
        &mut self,
        key: &Key<Secret>,
        rule: impl Fn() -> Rule<Secret> + Send + Sync + 'static,
    ) -> Secrets {
        let Some(found) = self.secret_texts(&key.place, Several::Always) else {
            return Secrets::fixed(Vec::new());
        };
        if found.texts.is_empty() {
            self.refuse(key, "an empty list", format!("allowed: {}", rule().allowed));
        }
        self.followed(key, rule, found)
    }

    /// The secret, given directly, or as a file that can be read again and may have another one on each line, for rotation.
    /// If there is a reason `when` to require it, a missing one is a problem. Empty if it is missing or wrong.
    pub(super) fn rotating_secret(&mut self, key: &Key<Secret>, when: Option<&str>) -> Secrets {
        self.require_secret(key, when);
        let rule = key.rule;
        match self.secret_texts(&key.place, Several::InFile) {
            Some(found) => self.followed(key, rule, found),
            None => Secrets::fixed(Vec::new()),
        }
    }

    /// The accepted ones of these, which follow their file.
    fn followed(
        &mut self,
        key: &Key<Secret>,
        rule: impl Fn() -> Rule<Secret> + Send + Sync + 'static,
        found: Found,
    ) -> Secrets {
        let file = found.file.clone();
        let secrets = self.accepted(key, &rule(), found);
        match file {
            Some(path) => Secrets::of_file(secrets, path, Box::new(move |text| rule().read(text))),
            None => Secrets::fixed(secrets),
        }
    }

    fn accepted(&mut self, key: &Key<Secret>, rule: &Rule<Secret>, found: Found) -> Vec<Secret> {
        let Found { texts, place, file: _ } = found;
        let count = texts.len();
        let mut secrets = Vec::with_capacity(count);
        for (index, text) in texts.into_iter().enumerate() {
            match rule.read(&text) {
                Ok(secret) => secrets.push(secret),
                Err(hint) => {
                    let which = if count > 1 { format!(" as number {} of {count}", index + 1) } else { String::new() };
                    self.refuse(key, format!("{HIDDEN}{which}{place}"), hint);
                }
            }
        }
        secrets
    }

    fn secret_texts(&mut self, place: &str, several: Several) -> Option<Found> {
        let filed_place = format!("{place}{FILE_SUFFIX}");
        let (direct, filed) = (self.given.get(place).cloned(), self.given.get(&filed_place).cloned());
        if let (Some(direct), Some(filed)) = (&direct, &filed)
            && direct.variable.is_some() == filed.variable.is_some()
        {
            self.refuse(place, format!("also {filed_place}"), "give one of the two");
            return None;
        }
        // The environment overrides the file, also where the two use different forms.
        match filed.filter(|filed| direct.is_none() || filed.variable.is_some()) {
            Some(filed) => self.filed_texts(&filed_place, &filed, several != Several::Never),
            None => self.direct_texts(place, &direct?, several == Several::Always),
        }
    }

    fn direct_texts(&mut self, place: &str, given: &Given, is_list: bool) -> Option<Found> {
        let texts: Option<Vec<String>> = match (&given.value, &given.variable) {
            (Value::String(text), Some(_)) if is_list => {
                Some(text.split(',').map(|part| part.trim().to_owned()).collect())
            }
            (Value::Array(items), None) if is_list => {
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
            }
            (value, _) => value.as_str().map(|text| vec![text.to_owned()]),
        };
        if texts.is_none() {
            let hint = if is_list { "allowed: a text or a list of texts" } else { "allowed: a text" };
            self.refuse(place, given.described(true), hint);
        }
        let place = given.variable.as_ref().map(|variable| format!(" in {variable}")).unwrap_or_default();
        texts.map(|texts| Found { texts, place, file: None })
    }

    fn filed_texts(&mut self, place: &str, given: &Given, is_list: bool) -> Option<Found> {
        let Some(written) = given.value.as_str().filter(|path| !path.is_empty()) else {
            self.refuse(place, given.described(false), "allowed: the path of a file");
            return None;
        };
        let path = self.located(given, written);
        let shown = given.found(format!("{written:?}"));
        let content = file::read(&path).map_err(|error| {
            if is_path(written, &path) {
                self.refuse(place, &shown, unread(&path, &error));
            } else {
                // It may be the secret itself.
                let hint = format!("no file of this path can be read: {error}; allowed: the path of a file");
                self.refuse(place, given.described(true), hint);
            }
        });
        let content = content.ok()?;
        if content.is_exposed {
            self.exposed.push(path.clone());
        }
        let texts = if is_list {
            secret::lines(&content.text).map(str::to_owned).collect()
        } else {
            vec![content.text.trim_end_matches(['\r', '\n']).to_owned()]
        };
        if texts.iter().all(String::is_empty) {
            self.refuse(place, shown, "the file is empty");
            return None;
        }
        Some(Found { texts, place: format!(" in {}", path.display()), file: Some(path) })
    }
}

/// The places where a key may have several secrets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Several {
    Never,
    /// One a line.
    InFile,
    Always,
}

/// The texts of a secret.
struct Found {
    texts: Vec<String>,
    /// The place of the texts, as the end of a sentence.
    place: String,
    file: Option<PathBuf>,
}

/// The reason for which a file that a key names was not read.
pub(super) fn unread(path: &Path, error: &std::io::Error) -> String {
    format!("the file {} cannot be read: {error}", path.display())
}

/// Says whether a text that was given for a path is one, and no secret that was put there by mistake: something is there, or it
/// leads into a folder that is.
fn is_path(written: &str, path: &Path) -> bool {
    path.symlink_metadata().is_ok() || (written.contains('/') && path.parent().is_some_and(Path::is_dir))
}

/// Says whether the value of a secret key has a secret in it. The URL of a file, or of a server that asks for no password, has
/// none.
fn has_secret(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_secret),
        Value::String(text) => !text.starts_with("sqlite:") && (!text.contains("://") || text.contains('@')),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Table(_) => false,
    }
}

fn variable_of(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

fn unknown_hint(nearest: Option<String>) -> String {
    match nearest {
        Some(name) => format!("did you mean {name}?"),
        None => "there is no key of a similar name".to_owned(),
    }
}

/// A value as it may stand in a problem: quoted, cut, and nothing that may be a secret.
fn shown(value: &Value) -> String {
    const CHARS_MAX: usize = 80;
    match value {
        Value::String(text) if may_be_secret(text) => HIDDEN.to_owned(),
        Value::String(text) if text.chars().count() > CHARS_MAX => {
            format!("{:?}…", text.chars().take(CHARS_MAX).collect::<String>())
        }
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(_) => "a date".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// Says whether a text that was given for a key without a secret may be one, or have one in it: URLs have it in many places, and
/// a generated secret is long, of letters and digits, without blanks.
fn may_be_secret(text: &str) -> bool {
    let is_drawn = text.chars().count() >= TOKEN_CHARS_MIN
        && !text.contains(char::is_whitespace)
        && text.contains(|c: char| c.is_ascii_digit())
        && text.contains(|c: char| c.is_ascii_alphabetic());
    text.contains("://") || is_drawn
}
