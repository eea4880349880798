//! The nesting of a jq program. Compiler and interpreter go down by recursion without a bound of their own, so a program that nests
//! deep enough would end the process that compiles it. Pure.
//!
//! Before: [`super::program`] asks before it compiles. After: the lexer of `jaq_core`.

use jaq_core::load::lex::{Lexer, StrPart, Tok, Token};

/// Limit of the levels of a program. A level of the compiler takes at most 9 KiB of the stack in a debug build, and the smallest stack
/// on which a program is compiled has 8 MiB. The largest mapping in `deploy/mappings` has some twenty.
pub(super) const LEVELS_MAX: usize = 400;

/// `true` if a program nests deeper than [`LEVELS_MAX`]. A program that the lexer refuses does not: the compiler says why.
pub(super) fn is_too_deep(code: &str) -> bool {
    // The lexer itself goes down at each bracket. Those in texts and comments count too, which no program of people comes near.
    brackets(code) > LEVELS_MAX || Lexer::new(code).lex().is_ok_and(|tokens| levels(&tokens, Block::Terms) > LEVELS_MAX)
}

fn brackets(code: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in code.bytes() {
        match byte {
            b'[' | b'{' | b'(' => depth += 1,
            b']' | b'}' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The kind of a list of tokens.
#[derive(Clone, Copy)]
enum Block {
    /// Terms, in which each comma is an operator.
    Terms,
    /// The entries of an object, which are a list to the parser.
    Entries,
}

/// Limit from above of the levels of these tokens: each operator and each word that takes a term counts until the next `;`.
fn levels(tokens: &[Token<&str>], block: Block) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    for Token(text, kind) in tokens {
        let within = match kind {
            Tok::Block(tokens) => 1 + levels(tokens, if text.starts_with('{') { Block::Entries } else { Block::Terms }),
            Tok::Str(parts) => parts.iter().map(part_levels).max().unwrap_or_default(),
            Tok::Sym if *text == ";" => {
                open = 0;
                0
            }
            Tok::Sym => {
                open += usize::from(is_operator(text, block));
                0
            }
            Tok::Word => {
                open += usize::from(takes_a_term(text));
                0
            }
            Tok::Var | Tok::Fmt | Tok::Num => 0,
        };
        deepest = deepest.max(open + within);
    }
    deepest
}

fn part_levels(part: &StrPart<&str, Token<&str>>) -> usize {
    match part {
        StrPart::Term(term) => levels(std::slice::from_ref(term), Block::Terms),
        StrPart::Str(_) | StrPart::Char(_) => 0,
    }
}

fn is_operator(symbol: &str, block: Block) -> bool {
    match symbol {
        "," | ":" => matches!(block, Block::Terms),
        _ => !symbol.starts_with('.') && symbol != "?" && symbol != ")" && symbol != "]" && symbol != "}",
    }
}

fn takes_a_term(word: &str) -> bool {
    matches!(word, "try" | "if" | "reduce" | "foreach" | "label" | "as" | "def" | "and" | "or")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_people_is_not_too_deep() {
        let lookup: Vec<String> = (0..5_000).map(|number| format!("\"{number}\": {{a: [{number}, -1]}}")).collect();
        let functions: String =
            (0..500).map(|number| format!("def f{number}: if . == 1 then try - . else 2 end; ")).collect();
        for code in [
            include_str!("../../../deploy/mappings/crm/map.jq").to_owned(),
            include_str!("../../../deploy/mappings/hr-feed/map.jq").to_owned(),
            format!("{{ {} }}[.id]", lookup.join(", ")),
            format!("{functions} f1"),
            "# :( :( :(\n.".to_owned(),
        ] {
            assert!(!is_too_deep(&code), "{}", &code[..code.len().min(200)]);
        }
    }

    #[test]
    fn each_way_to_go_down_counts() {
        for (unit, end) in [
            ("try ", "."),
            ("- ", "1"),
            ("1 + ", "1"),
            ("1, ", "1"),
            (". | ", "1"),
            (". // ", "1"),
            ("1 and ", "1"),
            ("if ", "."),
            (". as $x | ", "."),
            ("[", "."),
            ("{a: ", "."),
            ("\"\\(", "."),
            ("[try {a: ", "."),
        ] {
            assert!(is_too_deep(&close(&format!("{}{end}", unit.repeat(LEVELS_MAX + 1)))), "{unit}");
            assert!(!is_too_deep(&close(&format!("{}{end}", unit.repeat(LEVELS_MAX / 5)))), "{unit}");
        }
    }

    /// Closes what a program leaves open.
    fn close(code: &str) -> String {
        let mut open = Vec::new();
        let mut is_after_backslash = false;
        for byte in code.bytes() {
            match byte {
                b'[' => open.push("]"),
                b'{' => open.push("}"),
                b'(' if is_after_backslash => open.push(")\""),
                _ => {}
            }
            is_after_backslash = byte == b'\\';
        }
        open.reverse();
        format!("{code}{}", open.concat())
    }
}
