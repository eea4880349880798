//! The settings that are in effect, as a person may read them: each key with its value and the place that it comes from.
//!
//! Secrets are never in it, nor the values of keys whose problems show none.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::admin`] shows them.

use crate::domain::names::names;

names! {
    /// The place that a value comes from.
    pub enum SettingOrigin { Default = "default", File = "file", Environment = "environment" }
}

/// A key in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `podero.timeout`, or `source.NAME.secrets`.
    pub key: String,
    /// The value, as the environment would give it; `None`: it has none, or is not shown.
    pub value: Option<String>,
    /// The place that it comes from.
    pub origin: SettingOrigin,
    /// True if the value is never shown.
    pub is_hidden: bool,
}
