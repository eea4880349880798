//! The person at the machine, as the audit log names them.
//!
//! The name is that of the process's user, as the machine knows it: a claim, and no proof (docs/AUDIT.md).
//!
//! Before: [`crate::cli`]. After: [`crate::store`] writes it down.

use crate::domain::identity::{Actor, NAME_CHARS_MAX};

/// File of the machine's users: `NAME:PASSWORD:UID:…`.
const USERS: &str = "/etc/passwd";

/// The user of this process; its number where the machine has no name for it, as in many containers.
pub(super) fn of_process() -> Actor {
    let uid = rustix::process::getuid().as_raw().to_string();
    let users = std::fs::read_to_string(USERS).unwrap_or_default();
    Actor::Cli(name_of(&uid, &users).unwrap_or(uid))
}

fn name_of(uid: &str, users: &str) -> Option<String> {
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then_some(name)
    })?;
    let is_plain = !named.is_empty() && named.len() <= NAME_CHARS_MAX && named.chars().all(|c| c.is_ascii_graphic());
    is_plain.then(|| named.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_the_name_that_the_machine_knows() {
        let users = "root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\nodd name:x:7:7::/:\nshort\n";
        for (uid, expected) in [("0", Some("root")), ("1000", Some("anna")), ("7", None), ("8", None), ("x", None)] {
            assert_eq!(name_of(uid, users).as_deref(), expected, "{uid}");
        }
        assert!(matches!(of_process(), Actor::Cli(name) if !name.is_empty()));
    }
}
