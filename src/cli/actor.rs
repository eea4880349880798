//! The user of the machine who runs a command, as the audit log names them.
//!
//! The name is what the system and `sudo` say. It is no proof: a user who may run a command on the store may also change the
//! store.
//!
//! Before: the commands of [`crate::cli`] that change something. After: [`crate::store`] writes the name down.

use crate::config::sudo_user;
use crate::domain::identity::{Actor, NAME_CHARS_MAX};

/// The user who runs this process: the one who called `sudo`, else the login name of the real user id.
pub(super) fn of_process() -> Actor {
    let uid = uzers::get_current_uid();
    let login = uzers::get_user_by_uid(uid).map(|user| user.name().to_string_lossy().into_owned());
    Actor::Cli(name_of(sudo_user(), login, uid))
}

/// The first name that has something to show; without one the id.
fn name_of(sudo: Option<String>, login: Option<String>, uid: u32) -> String {
    let is_shown = |c: &char| c.is_ascii_graphic() || c.is_alphanumeric();
    let shown = |name: String| name.chars().filter(is_shown).take(NAME_CHARS_MAX).collect::<String>();
    let mut names = [sudo, login].into_iter().flatten().map(shown);
    names.find(|name| !name.is_empty()).unwrap_or_else(|| format!("uid-{uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_of_sudo_goes_first_and_without_a_name_the_id_stands() {
        for (sudo, login, expected) in [
            (Some("anna"), Some("root"), "anna"),
            (None, Some("podero-bridge"), "podero-bridge"),
            (Some(""), Some("root"), "root"),
            (Some("\u{1b}\u{202e} \n"), None, "uid-7"),
            (Some("ann\u{1b}a"), None, "anna"),
            (None, None, "uid-7"),
        ] {
            let owned = |name: Option<&str>| name.map(str::to_owned);
            assert_eq!(name_of(owned(sudo), owned(login), 7), expected, "{sudo:?} {login:?}");
        }
        assert_eq!(name_of(Some("x".repeat(NAME_CHARS_MAX + 1)), None, 7).len(), NAME_CHARS_MAX);
    }

    #[test]
    fn this_process_has_a_user() {
        let Actor::Cli(name) = of_process() else { panic!("a command's") };
        assert!(!name.is_empty());
    }
}
