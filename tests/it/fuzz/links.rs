//! Forgers of links. Each input is a token that was really signed, changed somewhere, or the header by which a browser asks for a language.
//!
//! The rule next to the code: a token verifies if and only if it is, letter for letter, one that a secret among those that verify has
//! signed; it says then what was signed, and belongs to no other owner.

use podero_bridge::domain::Timestamp;
use podero_bridge::domain::reconnect::{PAGE_LANGUAGES, TokenUse, accepted_language, sign, verify};
use uuid::Uuid;

use super::mutator::Mutator;
use super::{Input, Outcome, STACK_BYTES, Target};

/// The secret that signs, one that only verifies, and one that was removed.
const SECRETS: [&str; 3] = [
    "a-secret-that-signs-0123456789abcdef",
    "a-secret-that-verifies-0123456789ab",
    "a-secret-that-is-gone-0123456789abc",
];
const KNOWN: [&str; 2] = [SECRETS[0], SECRETS[1]];

const OWNERS: [Uuid; 2] = [Uuid::from_u128(7), Uuid::from_u128(8)];

/// Limit of a text: some times the length of a token.
const BYTES_MAX: usize = 512;

#[derive(Clone, Debug)]
struct Link {
    token: String,
    languages: String,
}

impl Input for Link {
    fn mutated(&self, other: &Self, mutator: &mut Mutator) -> Self {
        let mut link = self.clone();
        match mutator.below(8) {
            0 => link.languages = mutator.text(&self.languages, &other.languages),
            1 => link.token = self.token.to_uppercase(),
            2 => link.token = self.token.replace('-', "+").replace('_', "/"),
            3 => link.token = format!("{}=", self.token),
            // The end of another, whose mark is about something else.
            4 => {
                let half = self.token.floor_char_boundary(self.token.len() / 2);
                let their_half = other.token.floor_char_boundary(other.token.len() / 2);
                link.token = format!("{}{}", &self.token[..half], &other.token[their_half..]);
            }
            _ => link.token = mutator.text(&self.token, &other.token),
        }
        for text in [&mut link.token, &mut link.languages] {
            text.truncate(text.floor_char_boundary(BYTES_MAX));
        }
        link
    }

    fn bytes(&self) -> usize {
        self.token.len() + self.languages.len()
    }
}

/// The signed content, with the place of its owner and its secret.
struct Signed {
    token: String,
    made_for: TokenUse,
    heat_pump: Uuid,
    since: Timestamp,
    owner: usize,
    secret: usize,
}

fn signed() -> Vec<Signed> {
    let mut all = Vec::new();
    for made_for in [TokenUse::Link, TokenUse::Landing] {
        for (secret, text) in SECRETS.iter().enumerate() {
            for (owner, id) in OWNERS.iter().enumerate() {
                for micros in [1_798_761_600_000_000, 0, i64::MAX] {
                    let (heat_pump, since) = (Uuid::from_u128(1 + owner as u128), Timestamp::from_micros(micros));
                    let token = sign(text, made_for, heat_pump, *id, since);
                    all.push(Signed { token, made_for, heat_pump, since, owner, secret });
                }
            }
        }
    }
    all
}

fn check(originals: &[Signed], link: &Link) -> Outcome {
    let language = accepted_language(&link.languages);
    assert!(language.is_none_or(|language| PAGE_LANGUAGES.iter().any(|(code, _)| *code == language)));
    let original = originals.iter().find(|original| original.token == link.token);
    let expected = original.filter(|original| original.secret < KNOWN.len());
    let Some(read) = verify(&link.token, &KNOWN) else {
        assert!(expected.is_none(), "a token that was signed does not verify");
        return Outcome::refused(format!("{} {language:?}", original.is_some()));
    };
    let original = expected.expect("a token verifies that was not signed");
    assert_eq!((read.made_for, read.heat_pump, read.since), (original.made_for, original.heat_pump, original.since));
    for (place, owner) in OWNERS.iter().enumerate() {
        assert_eq!(read.is_of(*owner, &KNOWN), place == original.owner, "it belongs to its owner alone");
    }
    Outcome::accepted(format!("{:?} {language:?}", read.made_for))
}

#[test]
fn fuzz_links_nothing_verifies_but_what_was_signed() {
    let originals = signed();
    let languages = ["de-AT,de;q=0.9,en;q=0.8", "*;q=0.5,sv", ""];
    let corpus = originals.iter().zip(languages.iter().cycle());
    let corpus =
        corpus.map(|(signed, languages)| Link { token: signed.token.clone(), languages: (*languages).to_owned() });
    Target::new("links", STACK_BYTES).run(corpus.collect(), move |link| check(&originals, link));
}
