//! `[reconnect]`: links by which customers reconnect their heat pumps themselves.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::reconnect`], and [`crate::watch`], which puts the links into alerts.

use std::time::Duration;

use super::watch::Watch;
use crate::config::file;
use crate::config::key::section;
use crate::config::reader::{Reader, unread};
use crate::config::rules::{self, DURATION_MAX};
use crate::config::secret::{Secret, Secrets};

/// Shortest life of a link: a letter takes some days, and a mail is read the next one.
const LINK_TTL_MIN: Duration = Duration::from_hours(1);

section! {
    /// Links by which customers reconnect their heat pumps themselves, as `reconnect_url` of alerts, with their pages under `/r` of the
    /// webhook listener; see docs/RECONNECT.md. They need `watch.enabled`.
    RECONNECT = "reconnect" {
        /// Whether alerts have such links, and whether there are the pages.
        ENABLED: bool = "enabled", rules::flag(), default "false";
        /// Address by which browsers reach the webhook listener: scheme and host, without a path. Required with `reconnect.enabled`.
        BASE_URL: String = "base_url", rules::sealed_origin(), example r#""https://heat.utility.example""#;
        /// Secrets that sign the links. The first signs; all verify, so that one is rotated by putting a new one in front. Links of a
        /// secret that is removed are dead. Every replica needs the same. Required with `reconnect.enabled`.
        SECRETS: Secret = "secrets", rules::several(rules::link_key()), example r#"["example-secret-of-at-least-32-characters"]"#;
        /// Time from the loss of the connection to the end of its link.
        LINK_TTL: Duration = "link_ttl", rules::duration(LINK_TTL_MIN, DURATION_MAX), default "30d";
        /// Name of the utility on the pages.
        OPERATOR_NAME: String = "operator_name", rules::shown_name(), example r#""Utility Example""#;
        /// Line on the pages that says how customers reach the utility. Without it they read that they may contact their energy supplier.
        CONTACT: String = "contact", rules::shown_line(), example r#""0800 000000, service@utility.example""#;
        /// File of the utility's logo on the pages: PNG, JPEG, WebP or SVG of at most 64 KiB. It is part of each page, so that no page
        /// loads anything, and is read at the start.
        LOGO: String = "logo", rules::path(), example r#""logo.svg""#;
    }
}

/// Section `[reconnect]`.
#[derive(Debug, Clone)]
pub struct ReconnectSection {
    /// Scheme and host of the pages, without a slash at the end.
    pub base_url: String,
    /// The secrets of the links, the one that signs first.
    pub secrets: Secrets,
    /// Time from the loss to the end of its link.
    pub link_ttl: Duration,
    /// Name of the utility.
    pub operator_name: Option<String>,
    /// How customers reach it.
    pub contact: Option<String>,
    /// Its logo.
    pub logo: Option<Logo>,
}

/// A picture that pages show.
#[derive(Clone)]
pub struct Logo {
    /// Its media type, by its first bytes.
    pub media_type: &'static str,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Logo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Logo({}, {} bytes)", self.media_type, self.bytes.len())
    }
}

/// Reads the section; `None`: it is not enabled.
pub(in crate::config) fn read(r: &mut Reader, watch: &Watch) -> Option<ReconnectSection> {
    let is_enabled = r.value(&ENABLED);
    let when = is_enabled.then_some("with reconnect.enabled");
    let base_url = r.required(&BASE_URL, when);
    if let Some(when) = when.filter(|_| !r.is_given(&SECRETS)) {
        let allowed = (SECRETS.rule)().allowed;
        r.refuse(&SECRETS, "nothing", format!("required {when}; allowed: {allowed}, or reconnect.secrets_file"));
    }
    let secrets = r.secrets(&SECRETS, SECRETS.rule);
    let link_ttl = r.value(&LINK_TTL);
    let (operator_name, contact, logo) = (r.optional(&OPERATOR_NAME), r.optional(&CONTACT), logo(r));
    if is_enabled && !watch.enabled {
        r.refuse(
            &ENABLED,
            "true",
            "without watch.enabled there are no alerts with a link, and no page knows how it went",
        );
    }
    let section = ReconnectSection { base_url: base_url?, secrets, link_ttl, operator_name, contact, logo };
    is_enabled.then_some(section)
}

fn logo(r: &mut Reader) -> Option<Logo> {
    let path = r.path(&LOGO)?;
    match file::read_bytes(&path) {
        Ok(bytes) => {
            let media_type = media_type(&bytes);
            if media_type.is_none() {
                r.refuse(&LOGO, format!("{path:?}"), "it is none of PNG, JPEG, WebP and SVG");
            }
            media_type.map(|media_type| Logo { media_type, bytes })
        }
        Err(error) => {
            r.refuse(&LOGO, format!("{path:?}"), unread(&path, &error));
            None
        }
    }
}

/// The media type of a picture by its first bytes; an SVG begins with its element, or with a declaration of XML.
fn media_type(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Some("image/png");
    }
    if bytes.starts_with(b"\xff\xd8\xff") {
        return Some("image/jpeg");
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Some("image/webp");
    }
    let text = std::str::from_utf8(bytes).ok()?.trim_start_matches('\u{feff}').trim_start();
    let is_svg = ["<svg", "<?xml", "<!--"].iter().any(|start| text.starts_with(start)) && text.contains("<svg");
    is_svg.then_some("image/svg+xml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_known_by_its_first_bytes() {
        for (bytes, expected) in [
            (&b"\x89PNG\r\n\x1a\nrest"[..], Some("image/png")),
            (b"\xff\xd8\xff\xe0rest", Some("image/jpeg")),
            (b"RIFF\0\0\0\0WEBPrest", Some("image/webp")),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Some("image/svg+xml")),
            (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg/>", Some("image/svg+xml")),
            (b"<?xml version='1.0'?><html/>", None),
            (b"<html><svg/></html>", None),
            (b"GIF89a", None),
            (b"", None),
        ] {
            assert_eq!(media_type(bytes), expected, "{bytes:?}");
        }
    }
}
