//! Which of Podero's addresses may go out in alerts, as onboarding links, and to support staff? Opens nothing.
//!
//! Such an address is put into mails, tickets and terminals, and people click on it. So it must be a URL (RFC 3986) that
//! a browser opens at a host, and hold nothing that another program could take for more than an address.
//!
//! Before: [`crate::podero`] reads an answer. After: a notice, or an operator's answer.

use url::{Host, Url};

/// Limit of an address in characters: mail programs, ticketing tools and proxies cut longer ones. Podero's own have
/// about a hundred.
pub const CHARS_MAX: usize = 2_048;

/// Characters that are printable, but no part of a URL, and begin or end one in HTML, Markdown and shells.
const NO_PART_OF_A_URL: [char; 5] = ['"', '<', '>', '\\', '`'];

/// True if the address may go out as it is: `http` or `https`, a host, no user and password, at most [`CHARS_MAX`] characters,
/// all of them visible ASCII.
pub fn may_go_out(address: &str) -> bool {
    // The parser drops tabs and line ends, and trims blanks: this check comes first.
    let is_visible = |c: char| c.is_ascii_graphic() && !NO_PART_OF_A_URL.contains(&c);
    let is_plain = address.len() <= CHARS_MAX && address.chars().all(is_visible);
    let is_web = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    let is_anonymous = |url: &Url| url.username().is_empty() && url.password().is_none();
    is_plain && Url::parse(address).is_ok_and(|url| is_web(&url) && is_anonymous(&url))
}

/// True if nobody on the way reads what is behind the address: with TLS, or on this machine.
pub fn is_sealed(address: &str) -> bool {
    let is_private = |url: &Url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    Url::parse(address).is_ok_and(|url| url.scheme() == "https" || (url.scheme() == "http" && is_private(&url)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_an_address_that_a_browser_opens_goes_out() {
        for good in [
            "https://connect.podero.com?onboarding_session_id=1f0c",
            "https://connect.example/a/b;c?x=%20&y=[1]{2}|3^4#top",
            "http://127.0.0.1:8085/connect/7",
            "https://xn--mnchen-3ya.example/",
            "HTTPS://CONNECT.EXAMPLE/",
        ] {
            assert!(may_go_out(good), "{good}");
        }
        let long = format!("https://a.example/{}", "x".repeat(CHARS_MAX));
        for bad in [
            "",
            "connect.example",
            "//connect.example",
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "ftp://a.example/",
            "https://",
            "https://user@a.example/",
            "https://user:password@a.example/",
            "https://a.example/\r\nBcc: all@example.com",
            "https://a.example/\u{1b}[31m",
            "https://a.example/\u{0}",
            "https://a.example/a b",
            " https://a.example/",
            "https://a.example/\t",
            "https://a.example/\u{202e}gpj",
            "https://münchen.example/",
            "https://a.example/\"><script>",
            "https:\\\\a.example",
            "https://a.example:99999/",
            &long,
        ] {
            assert!(!may_go_out(bad), "{bad:?}");
        }
    }

    #[test]
    fn only_tls_and_this_machine_are_sealed() {
        for (address, expected) in [
            ("https://connect.example/a", true),
            ("http://127.0.0.1:8085/connect", true),
            ("http://[::1]/", true),
            ("http://localhost:1/", true),
            ("http://connect.example/a", false),
            ("http://localhost.example/", false),
            ("javascript:alert(1)", false),
            ("//connect.example", false),
        ] {
            assert_eq!(is_sealed(address), expected, "{address}");
        }
    }

    proptest! {
        #[test]
        fn nothing_goes_out_that_could_end_a_line_or_an_attribute(text in "(https://a[.]example/)?\\PC{0,20}[\\x00-\\x20\"<>]\\PC{0,20}") {
            prop_assert!(!may_go_out(&text));
        }
    }
}
