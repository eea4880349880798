//! The fields that decide whether, when and at which home data is taken away, and names that are nearly theirs.
//!
//! Unknown fields are passed over, since a sender may add some any day. A near miss of a control field is another matter: a
//! churn whose `canceled` or `effectiveAt` is passed over deletes a customer who should stay. So an event that can delete,
//! pause or move is refused over it, with the name that was meant.
//!
//! | a name of the sender's | is |
//! |---|---|
//! | the same but for case, signs and full-width letters | nearly it |
//! | one letter more, less, other or swapped; two where the beginning is the same (none in a name of less than six letters) | nearly it |
//! | a word for it with words of time or doubt around: `EffectiveDate__c`, `u_effective_date`, `is_cancelled`, `cancellation_date` | nearly it |
//! | such a word with any other: `cancellation_reason`, `cancelled_by`, `effective_rate` | not |
//! | another field's own name | not |
//!
//! Before: nothing. After: [`crate::inbound::wire`], [`crate::inbound::cloudevents`].

use crate::domain::text;

/// The control fields of an event that can take data away.
pub(super) const CONTROLS: [&str; 3] = [CANCELLED, EFFECTIVE_AT, BUILDING_KEY];

/// Name of the field that calls an announcement off.
pub(super) const CANCELLED: &str = "cancelled";
/// Name of the field with the time at which the event takes effect.
pub(super) const EFFECTIVE_AT: &str = "effective_at";
/// Name of the field with the home's key.
pub(super) const BUILDING_KEY: &str = "building_key";

/// Synonyms of control fields, behind the field. A long one may have two letters wrong, as a whole name may.
const WORDS: [(&str, &[&str]); 2] = [
    (
        CANCELLED,
        &["cancelled", "canceled", "cancel", "cancels", "cancelling", "canceling", "cancelation", "cancellation"],
    ),
    (EFFECTIVE_AT, &["effective", "effect", "eff", "effdt", "effdate"]),
];

/// Words that may stand in front of a synonym: they name neither a reason nor another subject.
const BEFORE: [&str; 22] = [
    "be", "c", "cancellation", "change", "churn", "churned", "contract", "customer", "data", "date", "event", "has",
    "is", "move", "moved", "relocation", "takes", "termination", "to", "u", "was", "x",
];

/// Words that may stand behind a synonym.
const BEHIND: [&str; 25] = [
    "at", "c", "date", "datetime", "day", "dt", "end", "flag", "from", "iso", "local", "on", "since", "start",
    "status", "ta", "till", "time", "timestamp", "ts", "until", "utc", "value", "x", "z",
];

/// Limit of the letters of a name that is compared: no control field is longer, and the comparison takes time by their product.
const LETTERS_MAX: usize = 48;

/// The name of `known` that `name` nearly is. `None`: it is one of them, one of `others`, or near none.
pub(super) fn meant<'a>(name: &str, known: &[&'a str], others: &[&str]) -> Option<&'a str> {
    if known.contains(&name) || others.contains(&name) {
        return None;
    }
    let words = words_of(name)?;
    let letters = words.concat();
    let near = known.iter().copied().find(|known| {
        let target = words_of(known).unwrap_or_default();
        // A further word is no slip: `cancelled_by` says something else.
        is_slip(&letters, &target.concat()) || (words.len() == 1 && is_near(&letters, &target.concat()))
    });
    near.or_else(|| {
        let meant = by_words(&words).or_else(|| by_end(&letters))?;
        known.iter().copied().find(|known| *known == meant)
    })
}

/// `true` if two names differ only in case, signs and full-width letters.
pub(super) fn is_same_but_for_signs(one: &str, other: &str) -> bool {
    words_of(one).zip(words_of(other)).is_some_and(|(one, other)| one.concat() == other.concat())
}

/// The field for which one of the words stands, if the others say nothing else.
fn by_words(words: &[String]) -> Option<&'static str> {
    (0..words.len()).find_map(|at| {
        let meant = synonym(&words[at], 0)?;
        let is_plain = words[..at].iter().all(|word| BEFORE.contains(&word.as_str()))
            && words[at + 1..].iter().all(|word| BEHIND.contains(&word.as_str()));
        is_plain.then_some(meant)
    })
}

/// The same for a name whose words no sign and no capital separates: `effectivedate`.
fn by_end(letters: &str) -> Option<&'static str> {
    let mut starts = BEHIND.iter().filter_map(|behind| letters.strip_suffix(behind));
    starts.find_map(|start| synonym(start, LONG_LETTERS))
}

/// The field of which one of the synonyms, with at least `letters_min` letters, is near.
fn synonym(letters: &str, letters_min: usize) -> Option<&'static str> {
    let is_one = |word: &&str| word.len() >= letters_min && is_near(letters, word);
    WORDS.iter().find(|(_, words)| words.iter().any(is_one)).map(|(meant, _)| *meant)
}

/// Fewest letters of a name that may have one of them wrong; a shorter one could be another word.
const LONG_LETTERS: usize = 6;

/// Number of first letters that two names must share to be near when two others differ.
const SHARED_LETTERS: usize = 3;

/// `true` if one letter is wrong, or two in a long name that begins alike.
fn is_near(letters: &str, target: &str) -> bool {
    let may_have_two = target.len() > LONG_LETTERS + 2 && letters.get(..SHARED_LETTERS) == target.get(..SHARED_LETTERS);
    is_slip(letters, target) || (may_have_two && differs_by(letters, target, 2))
}

/// `true` if at most one letter is wrong.
fn is_slip(letters: &str, target: &str) -> bool {
    letters == target || (target.len() >= LONG_LETTERS && differs_by(letters, target, 1))
}

/// `true` if at most `letters_max` letters differ. Names whose lengths differ by more do; most do, and cost no comparison, of
/// which a large message would need hundreds of thousands.
fn differs_by(letters: &str, target: &str, letters_max: usize) -> bool {
    letters.chars().count().abs_diff(target.chars().count()) <= letters_max
        && strsim::damerau_levenshtein(letters, target) <= letters_max
}

/// `true` if a name is another one with at most one letter wrong, whatever signs separate its words.
pub(super) fn is_slip_of(name: &str, other: &str) -> bool {
    let both = words_of(name).zip(words_of(other));
    name != other && both.is_some_and(|(name, other)| is_slip(&name.concat(), &other.concat()))
}

/// The words of a name, in lower case, separated by signs and by capitals. `None`: it is too long to be compared.
fn words_of(name: &str) -> Option<Vec<String>> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    for (count, letter) in text::half_width(name).enumerate() {
        if count >= LETTERS_MAX {
            return None;
        }
        let is_start = !letter.is_alphanumeric() || (letter.is_uppercase() && was_small);
        if is_start && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            words.last_mut()?.extend(letter.to_lowercase());
        }
        was_small = letter.is_lowercase() || letter.is_numeric();
    }
    words.retain(|word| !word.is_empty());
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: [&str; 5] = ["customer_id", "address", "building", "reason", "email"];

    fn nearly(name: &str) -> Option<&'static str> {
        meant(name, &CONTROLS, &OTHERS)
    }

    #[test]
    fn names_that_are_nearly_a_control_field() {
        for (name, expected) in [
            ("canceled", CANCELLED),
            ("Cancelled", CANCELLED),
            ("CANCELLED", CANCELLED),
            ("cancelled ", CANCELLED),
            ("cancled", CANCELLED),
            ("cancellled", CANCELLED),
            ("canclled", CANCELLED),
            ("cacnelled", CANCELLED),
            ("isCancelled", CANCELLED),
            ("is_canceled", CANCELLED),
            ("cancel", CANCELLED),
            ("cancelled_at", CANCELLED),
            ("cancellation", CANCELLED),
            ("effectiveAt", EFFECTIVE_AT),
            ("EffectiveAt", EFFECTIVE_AT),
            ("effectiveat", EFFECTIVE_AT),
            ("effective-at", EFFECTIVE_AT),
            ("effective at", EFFECTIVE_AT),
            ("effective.at", EFFECTIVE_AT),
            ("effective-date", EFFECTIVE_AT),
            ("effective_date", EFFECTIVE_AT),
            ("effective_from", EFFECTIVE_AT),
            ("effective_on", EFFECTIVE_AT),
            ("effectiveTime", EFFECTIVE_AT),
            ("effective", EFFECTIVE_AT),
            ("efective_at", EFFECTIVE_AT),
            ("effectve_at", EFFECTIVE_AT),
            ("effective_ta", EFFECTIVE_AT),
            ("affective_at", EFFECTIVE_AT),
            ("\u{feff}effective_at", EFFECTIVE_AT),
            ("buildingKey", BUILDING_KEY),
            ("building-key", BUILDING_KEY),
            ("bulding_key", BUILDING_KEY),
            ("EffectiveDate__c", EFFECTIVE_AT),
            ("u_effective_date", EFFECTIVE_AT),
            ("effectiveAtUtc", EFFECTIVE_AT),
            ("effective_end_date", EFFECTIVE_AT),
            ("effectiveFromDate", EFFECTIVE_AT),
            ("effective_till", EFFECTIVE_AT),
            ("effect_at", EFFECTIVE_AT),
            ("effdt", EFFECTIVE_AT),
            ("takes_effect_at", EFFECTIVE_AT),
            ("churn_effective_date", EFFECTIVE_AT),
            ("cancellation_effective_date", EFFECTIVE_AT),
            ("data.effective_at", EFFECTIVE_AT),
            ("effectivedate", EFFECTIVE_AT),
            ("\u{ff45}\u{ff46}\u{ff46}\u{ff45}\u{ff43}\u{ff54}ive_at", EFFECTIVE_AT),
            ("cancelled_flag", CANCELLED),
            ("canceled_on", CANCELLED),
            ("cancelledDate", CANCELLED),
            ("cancellation_date", CANCELLED),
            ("cancelling", CANCELLED),
            ("churn_canceled", CANCELLED),
        ] {
            assert_eq!(nearly(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn other_names_are_passed_over() {
        for name in [
            "cancelled",
            "effective_at",
            "building_key",
            "customer_id",
            "address",
            "building",
            "reason",
            "note",
            "notes",
            "contract_id",
            "contract",
            "building_id",
            "buildings",
            "cancellation_reason",
            "cancellation_note",
            "channel",
            "collected",
            "candidate",
            "effort",
            "efficiency",
            "created_at",
            "updated_at",
            "detected_at",
            "selected",
            "cancelled_by",
            "cancellable",
            "effective_rate",
            "effectiveness",
            "concealed",
            "parcelled",
            "tariff_effective_from",
            "objective",
            "tariff",
            "campaign",
            "",
            "_",
            "\u{1f600}",
            "building_type",
        ] {
            assert_eq!(nearly(name), None, "{name}");
        }
        assert_eq!(nearly(&"effective_at".repeat(1_000)), None);
    }
}
