//! Aligned columns and plain text for a terminal.
//!
//! Cells hold text from outside, so control characters, which could steer a terminal, are escaped.
//!
//! Before: the commands of [`crate::cli`]. After: a person.

use super::output::say;
use crate::domain::team::is_address;

/// Limit of a cell; `show` and JSON have the whole text.
const CELL_CHARS_MAX: usize = 100;

/// Prints rows in columns as wide as their widest cell, under a heading.
pub(super) fn print<const N: usize>(heading: [&str; N], rows: &[[String; N]]) {
    let cells: Vec<[String; N]> = rows.iter().map(|row| std::array::from_fn(|column| cell(&row[column]))).collect();
    let width = |column: usize| {
        cells.iter().map(|row| row[column].chars().count()).chain([heading[column].len()]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: [&str; N]| {
        let padded = row.iter().zip(widths).map(|(text, width)| format!("{text:<width$}"));
        say(padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(heading);
    cells.iter().for_each(|row| line(std::array::from_fn(|column| row[column].as_str())));
}

fn cell(text: &str) -> String {
    let plain = plain(text).replace('\n', " ");
    if plain.chars().count() <= CELL_CHARS_MAX {
        return plain;
    }
    plain.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect()
}

/// The value, or a dash.
pub(super) fn or_dash(value: Option<&String>) -> String {
    value.map_or_else(|| "-".to_owned(), Clone::clone)
}

/// The person whom an event is about: a customer's id, or `member` and the id. Of an id that is an e-mail address nothing is shown.
pub(super) fn person(customer_id: Option<&String>, member_id: Option<&String>) -> String {
    match member_id {
        Some(id) if is_address(id) => "member".to_owned(),
        Some(id) => format!("member {id}"),
        None => or_dash(customer_id),
    }
}

/// Escapes control characters except the line's end.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_terminal_is_written_out() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\nc");
    }

    #[test]
    fn a_long_cell_is_cut_and_says_so() {
        let cut = cell(&"x".repeat(500));
        assert_eq!((cut.chars().count(), cut.ends_with('…')), (CELL_CHARS_MAX, true));
    }
}
