//! Passwords of operators: the rule that they follow, their hashes by Argon2id, and the check of one.
//!
//! A check takes 19 MiB and tens of milliseconds, by design; the caller bounds how many run at once.
//!
//! Before: nothing. After: [`crate::cli`] hashes, [`crate::admin`] checks.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};

/// Memory of a hash in KiB. With [`PASSES`] and [`LANES`] the first of the equal choices of OWASP's Password Storage Cheat Sheet:
/// "Argon2id with a minimum configuration of 19 MiB of memory, an iteration count of 2, and 1 degree of parallelism".
const MEMORY_KIB: u32 = 19 << 10;

/// Passes over the memory.
const PASSES: u32 = 2;

/// Lanes of the memory, which could be filled at once.
const LANES: u32 = 1;

/// Bytes of a salt: RFC 9106, section 3.1, recommends 16 for passwords.
pub const SALT_BYTES: usize = 16;

/// Minimum length of a password in characters. NIST SP 800-63B asks for 8, and 15 where it is the only factor; guesses are
/// limited here.
pub const CHARS_MIN: usize = 12;

/// Limit of a password in bytes: a long sentence fits many times.
pub const BYTES_MAX: usize = 1_024;

/// The hash that the password of an unknown name is compared with, so that the time of an answer tells nothing. No password is
/// known for it.
const DUMMY_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm8tb25lLWhhcy10aGlzLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The reason for which a password is not accepted. Shows nothing of it.
pub fn flaw(password: &str) -> Option<String> {
    if password.chars().count() < CHARS_MIN {
        return Some(format!("a password has at least {CHARS_MIN} characters"));
    }
    if password.len() > BYTES_MAX {
        return Some(format!("a password has at most {BYTES_MAX} bytes"));
    }
    password.chars().any(char::is_control).then(|| "a password is one line without control characters".to_owned())
}

/// The hash of a password, as a PHC string with the parameters and the salt.
///
/// # Errors
///
/// The password is too long, or there is no memory for it.
pub fn hash(password: &str, salt: [u8; SALT_BYTES]) -> Result<String, argon2::password_hash::Error> {
    let hash: PasswordHash = argon2()?.hash_password_with_salt(password.as_bytes(), &salt)?;
    Ok(hash.to_string())
}

/// Checks a password against a hash by its own parameters; `None`: there is no such operator, and the answer is no after as
/// long a time.
pub fn is_right(password: &str, hash: Option<&str>) -> bool {
    let is_known = hash.is_some();
    let hash = hash.unwrap_or(DUMMY_HASH);
    password.len() <= BYTES_MAX && Argon2::default().verify_password(password.as_bytes(), hash).is_ok() && is_known
}

fn argon2() -> Result<Argon2<'static>, argon2::Error> {
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(MEMORY_KIB, PASSES, LANES, None)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_right_for_its_own_hash_alone() {
        let made = hash("correct horse battery", [7; SALT_BYTES]).expect("it is hashed");
        assert!(made.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{made}");
        assert!(is_right("correct horse battery", Some(&made)));
        for (password, hash) in [
            ("correct horse batterz", Some(made.as_str())),
            ("", Some(&made)),
            ("correct horse battery", None),
            ("correct horse battery", Some("")),
            ("correct horse battery", Some("$argon2id$v=19$m=19456,t=2,p=1$abc")),
        ] {
            assert!(!is_right(password, hash), "{hash:?}");
        }
        assert_ne!(hash("correct horse battery", [8; SALT_BYTES]).expect("it is hashed"), made, "the salt counts");
    }

    #[test]
    fn an_unknown_name_costs_the_same_parameters() {
        let dummy = PasswordHash::new(DUMMY_HASH).expect("a hash");
        let made = hash("correct horse battery", [7; SALT_BYTES]).expect("it is hashed");
        let made = PasswordHash::new(&made).expect("a hash");
        let of = |hash: &PasswordHash| (hash.algorithm, hash.version, hash.params.clone());
        assert_eq!(of(&dummy), of(&made));
        let len = |hash: &PasswordHash| (hash.salt.map(|salt| salt.len()), hash.hash.map(|hash| hash.len()));
        assert_eq!(len(&dummy), len(&made));
    }

    #[test]
    fn a_password_is_long_enough_and_one_line() {
        for (password, is_fine) in [
            ("twelve chars".to_owned(), true),
            ("eleven char".to_owned(), false),
            ("zwölf Zeiche".to_owned(), true),
            ("two\nlines of it".to_owned(), false),
            ("x".repeat(BYTES_MAX), true),
            ("x".repeat(BYTES_MAX + 1), false),
        ] {
            assert_eq!(flaw(&password).is_none(), is_fine, "{password:?}");
        }
    }
}
