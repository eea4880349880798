//! A password of a member of staff or an admin: its strength, and how it is kept.
//!
//! Podero's rules are not documented; these are the four that Django brings along. It must never keep a password itself,
//! nor repeat one in a problem.
//!
//! Before: [`crate::sandbox::model::World`]. After: nothing.

use sha2::{Digest, Sha256};

/// The least length in characters (Django: `MinimumLengthValidator`).
const CHARS_MIN: usize = 8;
/// Limit in characters: as long as anyone types, and cheap to hash.
const CHARS_MAX: usize = 1_000;
/// A part of a name or an address this long must not occur in the password.
const SIMILAR_CHARS_MIN: usize = 4;

/// The most common passwords of at least [`CHARS_MIN`] characters that are not digits alone.
#[rustfmt::skip]
const COMMON: [&str; 20] = [
    "password", "password1", "password12", "password123", "passw0rd", "p@ssw0rd", "qwertyui", "qwertyuiop", "qwerty123",
    "1q2w3e4r", "1qaz2wsx", "abcd1234", "abc12345", "iloveyou", "sunshine", "football", "baseball", "trustno1", "welcome1",
    "letmein1",
];

/// A flaw: pydantic's kind of problem, and its sentence.
type Flaw = (&'static str, &'static str);

/// Everything that makes a password too weak for a person of these names and addresses.
pub(super) fn flaws<'a>(password: &str, about: impl IntoIterator<Item = &'a str>) -> Vec<Flaw> {
    let length = password.chars().count();
    let lower = password.to_lowercase();
    let parts = about.into_iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
    let is_similar = parts
        .filter(|part| part.chars().count() >= SIMILAR_CHARS_MIN)
        .any(|part| lower.contains(part.to_lowercase().as_str()));
    let checks = [
        (length < CHARS_MIN, "string_too_short", "String should have at least 8 characters"),
        (length > CHARS_MAX, "string_too_long", "String should have at most 1000 characters"),
        (
            length > 0 && password.chars().all(|c| c.is_ascii_digit()),
            "value_error",
            "This password is entirely numeric.",
        ),
        (COMMON.contains(&lower.as_str()), "value_error", "This password is too common."),
        (is_similar, "value_error", "The password is too similar to the name or the email address."),
    ];
    checks.into_iter().filter(|(is_flawed, ..)| *is_flawed).map(|(_, kind, msg)| (kind, msg)).collect()
}

/// A salted hash. It keeps a password out of memory dumps and debug output; nothing here guards a real account.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct PasswordHash {
    salt: String,
    hash: Vec<u8>,
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

impl PasswordHash {
    pub(super) fn of(password: &str, salt: String) -> Self {
        let hash = hash(password, &salt);
        Self { salt, hash }
    }

    pub(super) fn fits(&self, password: &str) -> bool {
        self.hash == hash(password, &self.salt)
    }
}

fn hash(password: &str, salt: &str) -> Vec<u8> {
    Sha256::new().chain_update(salt).chain_update(password).finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weak_password_has_every_flaw_named() {
        let about = ["sam.muster@example.org", "Sam", "Müller-Lüdenscheidt"];
        let kinds = |password| flaws(password, about).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
        assert_eq!(kinds("correct horse"), [""; 0]);
        assert_eq!(kinds("ein Lückenfüller"), [""; 0]);
        assert_eq!(kinds("Ab1!xyz"), ["string_too_short"]);
        assert_eq!(kinds("1234567"), ["string_too_short", "value_error"]);
        assert_eq!(kinds("1234567890"), ["value_error"]);
        assert_eq!(kinds("PassWord123"), ["value_error"]);
        assert_eq!(kinds("muster-key-9"), ["value_error"]);
        assert_eq!(kinds("xx lüdenscheidt"), ["value_error"]);
        assert_eq!(kinds(&"x".repeat(1_001)), ["string_too_long"]);
    }

    #[test]
    fn only_the_same_password_fits_and_none_is_shown() {
        let kept = PasswordHash::of("correct horse", "salt".to_owned());
        assert!(kept.fits("correct horse") && !kept.fits("correct horses") && !kept.fits(""));
        assert_ne!(kept, PasswordHash::of("correct horse", "other".to_owned()));
        assert_eq!(format!("{kept:?}"), "PasswordHash(..)");
    }
}
