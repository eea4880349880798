//! Characters that a text from outside must not have, and the one form in which ids are kept.
//!
//! Programs that copy from pages and tables also copy invisible characters: a byte order mark, a zero-width space, a no-break
//! space. An id with one is another id to every computer, and an e-mail address with one reaches no mailbox, so they are removed
//! at the ends and refused within.
//!
//! Before: nothing. After: [`crate::domain`]'s ids, and [`crate::inbound`].

use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// True if a character leaves no mark on paper and is no blank: controls, format characters (zero-width and soft hyphens,
/// directions, byte order marks), line separators, fillers, the replacement for an unreadable character (U+FFFD), and code points
/// that mean nothing.
pub fn is_invisible(letter: char) -> bool {
    if letter.is_ascii() {
        return letter.is_ascii_control();
    }
    let of_category = matches!(
        get_general_category(letter),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::PrivateUse
            | GeneralCategory::Surrogate
            | GeneralCategory::Unassigned
    );
    // Unicode's Default_Ignorable_Code_Point beyond the categories above, and the replacement character.
    of_category
        || matches!(
            letter,
            '\u{34f}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{ffa0}'
                | '\u{fffd}'
                | '\u{e0100}'..='\u{e01ef}'
        )
}

/// A blank of any kind, or an invisible character; not U+FFFD, which stands for a lost character.
pub fn is_blank(letter: char) -> bool {
    letter.is_whitespace() || (is_invisible(letter) && letter != '\u{fffd}')
}

/// The text without blanks and invisible characters at its ends.
pub fn trim(text: &str) -> &str {
    text.trim_matches(is_blank)
}

/// The one form of an id (NFC, without blanks and invisible characters at its ends), if it has 1 to `chars_max` characters
/// and none of them is invisible or a blank other than a space.
pub fn id(text: &str, chars_max: usize) -> Option<String> {
    let text = trim(text);
    let text: String =
        if is_nfc_quick(text.chars()) == IsNormalized::Yes { text.to_owned() } else { text.nfc().collect() };
    let is_fine = |letter: char| letter == ' ' || !(letter.is_whitespace() || is_invisible(letter));
    ((1..=chars_max).contains(&text.chars().count()) && text.chars().all(is_fine)).then_some(text)
}

/// The characters of a text, full-width ones as those of ASCII that they show.
pub fn half_width(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|letter| match letter {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(letter) - 0xff01 + 0x21).unwrap_or(letter),
        letter => letter,
    })
}

/// Characters that stand in no address unless it is quoted, but around one: `<anna@example.com>`, `mailto:anna@example.com`.
const NOT_IN_EMAIL: [char; 9] = ['<', '>', '(', ')', '[', ']', ',', ';', ':'];

/// True for two parts around one `@`, neither empty nor with a space in it: Podero judges the rest.
pub fn looks_like_email(text: &str) -> bool {
    let fits = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace) && !part.contains('@');
    let parts = text.split_once('@').filter(|_| !text.contains(NOT_IN_EMAIL));
    parts.is_some_and(|(local, host)| fits(local) && fits(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_taken_away_at_the_ends_and_refused_within() {
        for hidden in [
            "\u{200b}", "\u{feff}", "\u{ad}", "\u{202e}", "\u{2028}", "\u{2060}", "\u{3164}", "\u{7f}", "\u{9f}",
            "\u{e0041}",
        ] {
            assert_eq!(id(&format!(" {hidden}C-1{hidden}\u{a0}"), 10).as_deref(), Some("C-1"), "{hidden:?}");
            assert_eq!(id(&format!("C{hidden}-1"), 10), None, "{hidden:?}");
        }
        assert_eq!(id("C\u{fffd}", 10), None, "something was lost");
        assert_eq!(id("C\u{a0}1", 10), None);
    }

    #[test]
    fn an_id_has_one_form_and_a_bound() {
        assert_eq!(id("Mu\u{308}ller", 10), id("M\u{fc}ller", 10));
        assert_eq!(id("a b/ü-1", 10).as_deref(), Some("a b/ü-1"));
        assert_eq!(id("12345678901", 10), None);
        for empty in ["", " ", "\u{200b}", "\n"] {
            assert_eq!(id(empty, 10), None, "{empty:?}");
        }
    }

    #[test]
    fn letters_of_every_language_are_seen() {
        for letter in "aÄßłőç'-.ñ日한שﬁ🙂ʼ".chars() {
            assert!(!is_invisible(letter), "{letter:?}");
        }
    }
}
