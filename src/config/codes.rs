//! Reads bytes that are written as text: Base64 in the forms that programs write, and hexadecimal digits.
//!
//! Before: nothing. After: [`crate::config`]'s rules, and [`crate::inbound`], which checks signatures and reads data.

use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};

/// RFC 4648 makes the padding optional where the length is known otherwise, which it is at the end of a text.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The bytes of Base64 in the standard or the URL-safe alphabet, with or without padding.
pub fn bytes_of_base64(text: &str) -> Option<Vec<u8>> {
    bytes_of_standard_base64(&text.replace('-', "+").replace('_', "/"))
}

/// The bytes of Base64 in the standard alphabet alone, with or without padding.
pub fn bytes_of_standard_base64(text: &str) -> Option<Vec<u8>> {
    ENGINE.decode(text).ok()
}

/// The bytes of hexadecimal digits in either case, two for each.
pub fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| if let [high, low] = *pair { Some(digit(high)? << 4 | digit(low)?) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_in_both_alphabets_with_and_without_padding() {
        for text in ["+/+/+w==", "+/+/+w", "-_-_-w==", "-_-_-w", "-/+_-w"] {
            assert_eq!(bytes_of_base64(text).as_deref(), Some(&[0xfb, 0xff, 0xbf, 0xfb][..]), "{text}");
        }
        for text in ["+/+/+w===", "+/+/+x==", "+/+/+w== ", "+/=/+w==", "+/+/+", "ä"] {
            assert_eq!(bytes_of_base64(text), None, "{text}");
        }
        assert_eq!(bytes_of_base64(""), Some(Vec::new()));
    }

    #[test]
    fn hexadecimal_digits_come_in_pairs() {
        assert_eq!(bytes_of_hex("00fFA1"), Some(vec![0x00, 0xff, 0xa1]));
        for text in ["0", "0g", "0x00", " 00", "ää"] {
            assert_eq!(bytes_of_hex(text), None, "{text}");
        }
    }
}
