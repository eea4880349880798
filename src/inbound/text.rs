//! Sent bytes become JSON text, the same at every entrance: unpacked (gzip), in UTF-8, without a byte order mark.
//!
//! Pure, and run after the proof, which covers the bytes as they were sent. The plain text has the bound of a body, so a small
//! body cannot become a large one. Bytes that are no UTF-8, and whose charset is not given, are refused, never guessed.
//!
//! Before: [`super::signature`]. After: [`super::cloudevents`], [`super::mapping`].

use std::io::Read;

use encoding_rs::Encoding;
use flate2::read::MultiGzDecoder;

use super::delivery::CONTENT_ENCODING;
use super::signature::Verified;
use crate::domain::utf8::{self, NotText};
use crate::problem::{Problem, ProblemKind};

/// Codings that are read, as a refusal names them (RFC 9110, §15.5.16).
pub(super) const ACCEPTED_CODINGS: &str = "gzip, identity";

/// Limit of the characters of a coding's name that are repeated to its sender.
const NAME_CHARS_TOLD_MAX: usize = 32;

/// UTF-8 text without its byte order mark; a problem names what the bytes seem to be.
pub fn utf8(bytes: &[u8]) -> Result<&[u8], Problem> {
    match utf8::text(bytes) {
        Ok(text) => Ok(text.as_bytes()),
        Err(form @ NotText::Gzip) => {
            Err(Problem::new(ProblemKind::Malformed, format!("{form}, or say so in `{CONTENT_ENCODING}`")))
        }
        Err(form) => Err(Problem::new(ProblemKind::Malformed, form.to_string())),
    }
}

/// The delivery with its body unpacked and in UTF-8; `None`: it is so already. Its reader deals with a body that is no text.
pub(super) fn plain(verified: &Verified, bytes_max: usize) -> Result<Option<Verified>, Problem> {
    let delivery = verified.delivery();
    let named = delivery.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_ENCODING));
    let coding = named.map(|(_, value)| value.as_str());
    let body = plain_body(verified.body(), coding, delivery.content_type.as_deref(), bytes_max)?;
    Ok(body.map(|body| verified.with_plain_body(body)))
}

/// A body unpacked and in UTF-8, by its headers: content coding and media type. `None`: it is so already.
pub fn plain_body(
    body: &[u8],
    coding: Option<&str>,
    media_type: Option<&str>,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, Problem> {
    let coding = coding.map_or(Ok(Coding::default()), Coding::read)?;
    // An empty body is empty, however it would be packed.
    let unpacked = if coding.is_gzip && !body.is_empty() { Some(unpacked(body, bytes_max)?) } else { None };
    let bytes = unpacked.as_deref().unwrap_or(body);
    let charset = media_type.and_then(charset).or(coding.charset);
    if let Some(text) = charset.and_then(|charset| converted(bytes, charset)) {
        return if text.len() > bytes_max { Err(Problem::too_large(bytes_max)) } else { Ok(Some(text)) };
    }
    let plain = utf8::without_mark(bytes);
    let is_changed = unpacked.is_some() || plain.len() < bytes.len();
    Ok(is_changed.then(|| plain.to_vec()))
}

/// The parts of a content coding.
#[derive(Default)]
struct Coding {
    is_gzip: bool,
    charset: Option<&'static Encoding>,
}

impl Coding {
    /// Reads a list, since Spring writes `gzip:UTF-8` or `gzip, UTF-8` into RabbitMQ's property, and others the charset alone.
    fn read(value: &str) -> Result<Self, Problem> {
        let mut coding = Self::default();
        let names = value.split([',', ':', ';']).map(|name| name.trim().to_ascii_lowercase());
        for name in names.filter(|name| !name.is_empty()) {
            match name.as_str() {
                // The last three are MIME's names for bytes as they are.
                "identity" | "7bit" | "8bit" | "binary" => {}
                "gzip" | "x-gzip" if !coding.is_gzip => coding.is_gzip = true,
                other => match Encoding::for_label(other.as_bytes()) {
                    Some(charset) => coding.charset = told(charset, other),
                    None => return Err(Self::unknown(other)),
                },
            }
        }
        Ok(coding)
    }

    /// Repeats the name if it is one: it is no value of a customer.
    fn unknown(name: &str) -> Problem {
        let is_name = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_' | b'.');
        let shown = if name.len() <= NAME_CHARS_TOLD_MAX && name.bytes().all(is_name) { name } else { "another" };
        let detail =
            format!("`{CONTENT_ENCODING}` says {shown}; bodies are read as they are, or packed once with gzip");
        Problem::new(ProblemKind::UnsupportedContentEncoding, detail)
    }
}

/// The charset of a media type.
fn charset(media_type: &str) -> Option<&'static Encoding> {
    let parameters = media_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, label) = parameters.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    let label = label.trim().trim_matches(['"', '\'']);
    Encoding::for_label(label.as_bytes()).and_then(|charset| told(charset, label))
}

/// A charset that can be believed: each byte is a character. Bytes that are said to be ASCII and are not are in doubt.
fn told(charset: &'static Encoding, label: &str) -> Option<&'static Encoding> {
    (charset.is_single_byte() && !label.to_ascii_lowercase().contains("ascii")).then_some(charset)
}

/// Reads bytes by their charset only if they are no UTF-8: JSON is UTF-8 whatever its media type says (RFC 8259, §8.1), and
/// senders name a charset by habit.
fn converted(bytes: &[u8], charset: &'static Encoding) -> Option<Vec<u8>> {
    match utf8::text(bytes) {
        Err(NotText::Other { .. }) => {
            let text = charset.decode_without_bom_handling_and_without_replacement(bytes)?;
            Some(text.into_owned().into_bytes())
        }
        Ok(_) | Err(NotText::Gzip | NotText::Zstd | NotText::Zip | NotText::Utf16 | NotText::Utf32) => None,
    }
}

/// Unpacks as much as a body may have, and one byte more to see that it is too much.
fn unpacked(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, Problem> {
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut unpacked = Vec::new();
    MultiGzDecoder::new(body).take(limit).read_to_end(&mut unpacked).map_err(|_| {
        let detail = format!("`{CONTENT_ENCODING}` says gzip, and the body is not, or only a part of it");
        Problem::new(ProblemKind::Malformed, detail)
    })?;
    if unpacked.len() > bytes_max { Err(Problem::too_large(bytes_max)) } else { Ok(unpacked) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const MAX: usize = 1 << 10;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    }

    /// The body as its reader gets it: text, or a problem.
    fn read(body: &[u8], coding: Option<&str>, media_type: Option<&str>) -> Result<String, ProblemKind> {
        let plain = plain_body(body, coding, media_type, MAX).map_err(|problem| problem.kind)?;
        let bytes = plain.as_deref().unwrap_or(body);
        let text = utf8(bytes).map_err(|problem| problem.kind)?;
        Ok(String::from_utf8(text.to_vec()).expect("it was looked at"))
    }

    #[test]
    fn codings_table() {
        let packed = gzip("{\"a\":\"ü\"}".as_bytes());
        let twice = [gzip(b"{\"a\":"), gzip(b"1}")].concat();
        let marked = gzip(b"\xef\xbb\xbf{}");
        let latin = gzip(b"{\"a\":\"\xfc\"}");
        let text = Ok("{\"a\":\"ü\"}");
        let unsupported = Err(ProblemKind::UnsupportedContentEncoding);
        for (body, coding, expected) in [
            (&packed[..], Some("gzip"), text),
            (&packed, Some("X-GZIP"), text),
            (&packed, Some("gzip:UTF-8"), text),
            (&packed, Some("gzip, utf-8"), text),
            (&packed, Some("identity, gzip"), text),
            (&latin, Some("gzip:ISO-8859-1"), text),
            (&twice, Some("gzip"), Ok("{\"a\":1}")),
            (&marked, Some("gzip"), Ok("{}")),
            (b"{}", None, Ok("{}")),
            (b"{}", Some(""), Ok("{}")),
            (b"{}", Some("identity"), Ok("{}")),
            (b"{}", Some("UTF-8"), Ok("{}")),
            (b"{}", Some("8bit"), Ok("{}")),
            (b"{}", Some("binary"), Ok("{}")),
            (b"{\"a\":\"\xfc\"}", Some("iso-8859-1"), text),
            (&packed, None, Err(ProblemKind::Malformed)),
            (&packed, Some("identity"), Err(ProblemKind::Malformed)),
            (&packed[..packed.len() - 3], Some("gzip"), Err(ProblemKind::Malformed)),
            (&[&packed[..], b"{}"].concat(), Some("gzip"), Err(ProblemKind::Malformed)),
            (b"{}", Some("gzip"), Err(ProblemKind::Malformed)),
            (b"", Some("gzip"), Ok("")),
            (&packed, Some("gzip, gzip"), unsupported),
            (&packed, Some("br"), unsupported),
            (&packed, Some("deflate"), unsupported),
            (&packed, Some("zstd"), unsupported),
        ] {
            assert_eq!(read(body, coding, None).as_deref(), expected.as_ref().map(|text| *text), "{coding:?} {body:?}");
        }
    }

    #[test]
    fn what_is_unpacked_has_the_bound_of_what_is_sent() {
        assert_eq!(read(&gzip(&[b' '; MAX]), Some("gzip"), None), Ok(" ".repeat(MAX)));
        assert_eq!(read(&gzip(&[b' '; MAX + 1]), Some("gzip"), None), Err(ProblemKind::TooLarge));
        // A gigabyte is not unpacked to be counted.
        let bomb = gzip(&vec![b' '; 64 << 20]);
        assert_eq!(read(&bomb, Some("gzip"), None), Err(ProblemKind::TooLarge));
        let latin = [b'\xfc'; MAX];
        assert_eq!(read(&latin, None, Some("a/b; charset=latin1")), Err(ProblemKind::TooLarge));
    }

    #[test]
    fn charsets_table() {
        let malformed = Err(ProblemKind::Malformed);
        for (body, media_type, expected) in [
            (&b"\"K\xfc\""[..], "application/json; charset=iso-8859-1", Ok("\"Kü\"")),
            (b"\"K\xfc\"", "application/json;charset=\"Windows-1252\"", Ok("\"Kü\"")),
            (b"\"\x80\"", "application/json; charset=windows-1252", Ok("\"€\"")),
            (b"\"\xf5\"", "application/json; charset=iso-8859-2", Ok("\"ő\"")),
            (b"\"\xa4\"", "application/json; charset=ISO-8859-15", Ok("\"€\"")),
            // Bytes that are UTF-8 are read so, whatever charset is named by habit.
            ("\"ü\"".as_bytes(), "application/json; charset=iso-8859-1", Ok("\"ü\"")),
            (b"\xef\xbb\xbf\"\xc3\xbc\"", "application/json; charset=iso-8859-1", Ok("\"ü\"")),
            ("\"ü\"".as_bytes(), "application/json; charset=utf-16", Ok("\"ü\"")),
            ("\"ü\"".as_bytes(), "application/json; charset=nonsense", Ok("\"ü\"")),
            (b"\"K\xfc\"", "application/json", malformed),
            (b"\"K\xfc\"", "application/json; charset=utf-8", malformed),
            (b"\"K\xfc\"", "application/json; charset=us-ascii", malformed),
            (b"\"K\xfc\"", "application/json; charset=shift_jis", malformed),
            (b"\"K\xfc\"", "application/json; charset=nonsense", malformed),
            // A byte for which this charset has no character.
            (b"\"\xa1\"", "application/json; charset=windows-1253", Ok("\"\u{385}\"")),
            (b"\"\xaa\"", "application/json; charset=windows-1253", malformed),
            (b"\xff\xfe\"\0", "application/json; charset=iso-8859-1", malformed),
        ] {
            let read = read(body, None, Some(media_type));
            assert_eq!(read.as_deref(), expected.as_ref().map(|text| *text), "{media_type} {body:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_coding_or_the_form_and_no_value() {
        let refused = |coding: &str| plain_body(b"{}", Some(coding), None, MAX).expect_err("it is none").detail;
        assert!(refused("Brotli-2").contains("says brotli-2;"), "{}", refused("Brotli-2"));
        for secret in ["anna@example.com", &"x".repeat(NAME_CHARS_TOLD_MAX + 1)] {
            assert!(refused(secret).contains("says another;"), "{}", refused(secret));
        }
        for (bytes, word) in
            [(&b"\x1f\x8b\x08"[..], "content-encoding"), (b"\xff\xfe{\0", "UTF-16"), (b"\xfc", "byte 1")]
        {
            let detail = utf8(bytes).expect_err("no text").detail;
            assert!(detail.contains(word), "{detail}");
        }
    }
}
