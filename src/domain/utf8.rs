//! Bytes that should be text: a byte order mark is skipped, and other bytes are named by their apparent format.
//!
//! Pure. It never replaces a byte that is not UTF-8: two ids that differ in such a byte would become one.
//!
//! Before: nothing. After: [`crate::inbound`], [`crate::config`], [`crate::cli`].

/// Byte order mark, which programs of Microsoft write in front of UTF-8.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The apparent format of bytes that are no text, and the remedy. Says nothing about their content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    /// They begin as gzip does.
    #[error("gzip, not UTF-8: unpack it first")]
    Gzip,
    /// They begin as Zstandard does.
    #[error("zstd, not UTF-8: unpack it first")]
    Zstd,
    /// They begin as a ZIP archive does, which a workbook of Excel is.
    #[error("a ZIP archive or a workbook (.xlsx), not UTF-8: save it as text")]
    Zip,
    /// They begin with the mark of UTF-16 or with half of its first character.
    #[error("UTF-16, not UTF-8: send or save it as UTF-8")]
    Utf16,
    /// They begin with the mark of UTF-32 or with a part of its first character.
    #[error("UTF-32, not UTF-8: send or save it as UTF-8")]
    Utf32,
    /// Any other bytes, such as ISO 8859-1.
    #[error("not UTF-8 (from byte {at} on)")]
    Other {
        /// The first byte that does not fit, from 1.
        at: usize,
    },
}

/// The text, without its byte order mark.
pub fn text(bytes: &[u8]) -> Result<&str, NotText> {
    if let Some(form) = other_form(bytes) {
        return Err(form);
    }
    let plain = without_mark(bytes);
    std::str::from_utf8(plain).map_err(|error| {
        let before = bytes.len() - plain.len() + error.valid_up_to();
        NotText::Other { at: before + 1 }
    })
}

/// The bytes behind a byte order mark.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// The apparent format of bytes, by their beginning, if it is not UTF-8. No text that is sent here begins with NUL or has one as
/// its second character, so half a character of UTF-16 shows without a mark too.
pub fn other_form(bytes: &[u8]) -> Option<NotText> {
    match bytes {
        [0x1f, 0x8b, ..] => Some(NotText::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(NotText::Zstd),
        [b'P', b'K', 3, 4, ..] => Some(NotText::Zip),
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] | [0, 0, 0, _, ..] | [_, 0, 0, 0, ..] => Some(NotText::Utf32),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] => Some(NotText::Utf16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_without_its_mark_and_anything_else_is_named() {
        for (bytes, expected) in [
            (&b""[..], Ok("")),
            (b"{}", Ok("{}")),
            (b"\xef\xbb\xbf{}", Ok("{}")),
            (b"\xef\xbb\xbf", Ok("")),
            ("ü".as_bytes(), Ok("ü")),
            // Two marks: one is a character of the text.
            (b"\xef\xbb\xbf\xef\xbb\xbf{}", Ok("\u{feff}{}")),
            (b"\x1f\x8b\x08\x00", Err(NotText::Gzip)),
            (b"\x28\xb5\x2f\xfd\x04", Err(NotText::Zstd)),
            (b"PK\x03\x04\x14", Err(NotText::Zip)),
            (b"\xff\xfe{\0}\0", Err(NotText::Utf16)),
            (b"\xfe\xff\0{\0}", Err(NotText::Utf16)),
            (b"{\0}\0", Err(NotText::Utf16)),
            (b"\0{\0}", Err(NotText::Utf16)),
            (b"\xff\xfe\0\0{\0\0\0", Err(NotText::Utf32)),
            (b"{\0\0\0}\0\0\0", Err(NotText::Utf32)),
            (b"K\xfc1", Err(NotText::Other { at: 2 })),
            (b"\xef\xbb\xbfK\xfc1", Err(NotText::Other { at: 5 })),
            // A surrogate, an overlong form, and a character that is cut.
            (b"\xed\xa0\x80", Err(NotText::Other { at: 1 })),
            (b"a\xc0\xaf", Err(NotText::Other { at: 2 })),
            (b"a\xc3", Err(NotText::Other { at: 2 })),
            (b"a", Ok("a")),
        ] {
            assert_eq!(text(bytes), expected, "{bytes:?}");
        }
    }
}
