//! The declaration of a configuration key: its name, default, bounds and help, once. Never reads a value.
//!
//! The file of a section declares its keys by [`section!`]. From there come the constant by which the reader takes a value, the
//! names that are known, and the documents: `deploy/config.example.toml` and the tables in `docs/`.
//!
//! Before: [`crate::config`]'s rules. After: its reader and its sections.

use std::borrow::Cow;

use super::rules::Rule;

/// Turns the name of a secret key into the name of the key for its file.
pub(super) const FILE_SUFFIX: &str = "_file";

/// Sections of which a file may have several tables, told apart by their `name`: `[[source]]`, `[[admin.tokens]]`, `[[scim.token]]`.
pub(super) const REPEATED: [&str; 3] = ["source", "admin.tokens", "scim.token"];

/// The section of several tables that a place is in, and the rest of the place.
pub(super) fn repeated_section(place: &str) -> Option<(&'static str, &str)> {
    REPEATED.into_iter().find_map(|section| Some((section, place.strip_prefix(section)?.strip_prefix('.')?)))
}

/// One configuration key, as it is documented.
#[derive(Debug)]
pub struct KeyInfo {
    /// `section.key`; the keys of a `[[source]]` are named `source.key`, those of an `[[admin.tokens]]` `admin.tokens.key`.
    pub name: &'static str,
    /// The default, as the environment would give it.
    pub default_text: Option<&'static str>,
    /// Another value than the default, as TOML: for a key without one.
    pub example: Option<&'static str>,
    /// The value that the example file gives to the key, as TOML.
    pub given: Option<&'static str>,
    /// Meaning of the value, in sentences. Code stands in backticks.
    pub help: &'static str,
    pub(super) rule: fn() -> Rule<()>,
}

impl KeyInfo {
    /// For a secret, the key that names a file holding it: `admin.token_file`.
    pub fn file_name(&self) -> Option<String> {
        self.is_secret().then(|| format!("{}{FILE_SUFFIX}", self.name))
    }

    /// Says whether the value is never shown.
    pub(super) fn is_secret(&self) -> bool {
        (self.rule)().form.is_secret()
    }
}

impl KeyInfo {
    /// The section that it stands in, and its name there.
    pub(super) fn parts(&self) -> (&'static str, &'static str) {
        self.name.rsplit_once('.').expect("a key is declared as section.key")
    }
}

/// A section of the configuration, or one more table `[[source]]` of the example file.
#[derive(Debug)]
pub struct Section {
    /// `http`, of `[http]`.
    pub name: &'static str,
    /// Lines of TOML above the keys, for one more table of the section. Empty for its first.
    pub opening: &'static str,
    /// Every key, in the order of the documents.
    pub keys: &'static [KeyInfo],
    /// Purpose of the section, in sentences. Code stands in backticks.
    pub about: &'static str,
}

/// A key by which the reader takes a value.
pub(super) struct Key<T: 'static> {
    /// `podero.timeout`, or `source.LABEL.secrets`.
    pub(super) place: Cow<'static, str>,
    pub(super) default_text: Option<&'static str>,
    pub(super) rule: fn() -> Rule<T>,
}

impl<T> Key<T> {
    /// This key of a section of several tables, in the table with this label.
    pub(super) fn of(&self, label: &str) -> Self {
        let (section, name) = self.place.rsplit_once('.').unwrap_or_default();
        Self { place: Cow::Owned(place(section, label, name)), ..*self }
    }

    /// The default of a key that has one.
    pub(super) fn default_text(&self) -> &'static str {
        self.default_text.expect("only asked for keys that have a default")
    }
}

impl<T> AsRef<str> for Key<T> {
    fn as_ref(&self) -> &str {
        &self.place
    }
}

/// The place of a key in one of the tables of a section.
pub(super) fn place(section: &str, label: &str, key: &str) -> String {
    format!("{section}.{label}.{key}")
}

/// Declares the keys of a section. Its comment and those of its keys are their texts in the documents.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $section:ident = $table:literal $(after $opening:literal)? {
            $(
                $(#[doc = $help:literal])+
                $key:ident: $value:ty = $name:literal, $rule:expr
                    $(, default $default:expr)? $(, example $example:literal)? $(, given $given:literal)?;
            )+
        }
    ) => {
        $(
            $(#[doc = $help])+
            pub(in crate::config) const $key: $crate::config::key::Key<$value> = $crate::config::key::Key {
                place: ::std::borrow::Cow::Borrowed(concat!($table, ".", $name)),
                default_text: $crate::config::key::option!($($default)?),
                rule: || $rule,
            };
        )+

        $(#[doc = $about])+
        pub(in crate::config) const $section: $crate::config::key::Section = $crate::config::key::Section {
            name: $table,
            opening: concat!("", $($opening)?),
            about: concat!($($about),+),
            keys: &[$($crate::config::key::KeyInfo {
                name: concat!($table, ".", $name),
                default_text: $crate::config::key::option!($($default)?),
                example: $crate::config::key::option!($($example)?),
                given: $crate::config::key::option!($($given)?),
                help: concat!($($help),+),
                rule: || $rule.untyped(),
            }),+],
        };
    };
}

/// Nothing, or something, of a part that may be left out.
macro_rules! option {
    () => {
        None
    };
    ($given:expr) => {
        Some($given)
    };
}

pub(super) use {option, section};

/// Every section, in the order of the documents.
#[derive(Debug)]
pub struct Keys {
    /// A section with several tables in the example file has as many entries.
    pub sections: &'static [Section],
}

impl Keys {
    /// Every key.
    pub fn iter(&self) -> impl Iterator<Item = &'static KeyInfo> {
        self.sections.iter().flat_map(|section| section.keys)
    }

    /// The key at `place`: its name, or `source.LABEL.key` for a key of one of several tables.
    pub(super) fn find(&self, place: &str) -> Option<&'static KeyInfo> {
        let of_table = repeated_section(place).and_then(|(section, rest)| Some((section, rest.rsplit_once('.')?.1)));
        self.iter().find(|key| match of_table {
            Some(wanted) => key.parts() == wanted,
            None => key.name == place,
        })
    }

    /// Says whether `place` names a key, or the `_file` form of a secret one.
    pub(super) fn has(&self, place: &str) -> bool {
        let is_filed =
            || place.strip_suffix(FILE_SUFFIX).and_then(|name| self.find(name)).is_some_and(KeyInfo::is_secret);
        self.find(place).is_some() || is_filed()
    }

    /// Says whether some key stands in `[section]`.
    pub(super) fn has_section(&self, name: &str) -> bool {
        self.sections.iter().any(|section| section.name == name)
    }

    /// The known name that `typed` probably means.
    pub(super) fn nearest(&self, typed: &str) -> Option<String> {
        // A third of the letters wrong is still a slip; beyond that a suggestion would mislead.
        let slips_max = (typed.chars().count() / 3).min(4);
        self.iter()
            .flat_map(|key| [Some(key.name.to_owned()), key.file_name()])
            .flatten()
            .map(|name| (strsim::osa_distance(typed, &name), name))
            .filter(|(slips, _)| *slips <= slips_max)
            .min()
            .map(|(_, name)| name)
    }
}
