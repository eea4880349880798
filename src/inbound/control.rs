//! The fields that decide whether, when and where something is taken away, and names that are nearly theirs.
//!
//! Unknown fields are passed over, since a sender may add some any day. Nearly a control field is another matter: a churn whose
//! `canceled` or `effectiveAt` is passed over deletes a customer who should stay, so an event that can delete, pause or move is
//! refused over it, with the name that was meant.
//!
//! | a name of the sender's | is |
//! |---|---|
//! | the same but for case, `-`, `_`, blanks and other signs | nearly it |
//! | at most two letters more, less, other or swapped (one where the control's name has less than nine letters; none where it has less than six) | nearly it |
//! | a word that is used for it ([`SYNONYMS`]) | nearly it |
//! | another field's own name | not |
//!
//! Before: nothing. After: [`crate::inbound::wire`], [`crate::inbound::cloudevents`].

/// The control fields of an event that can take something away.
pub(super) const CONTROLS: [&str; 3] = [CANCELLED, EFFECTIVE_AT, BUILDING_KEY];

/// Whether an announcement is called off.
pub(super) const CANCELLED: &str = "cancelled";
/// When it takes effect.
pub(super) const EFFECTIVE_AT: &str = "effective_at";
/// Which home.
pub(super) const BUILDING_KEY: &str = "building_key";

/// Other words for a control field, without signs. `cancellation_reason` and the like are none: they say why, not whether.
const SYNONYMS: [(&str, &str); 18] = [
    ("cancel", CANCELLED),
    ("cancels", CANCELLED),
    ("cancelation", CANCELLED),
    ("cancellation", CANCELLED),
    ("cancelledat", CANCELLED),
    ("canceledat", CANCELLED),
    ("effective", EFFECTIVE_AT),
    ("effectivedate", EFFECTIVE_AT),
    ("effectivedatetime", EFFECTIVE_AT),
    ("effectivefrom", EFFECTIVE_AT),
    ("effectivesince", EFFECTIVE_AT),
    ("effectivestart", EFFECTIVE_AT),
    ("effectivetime", EFFECTIVE_AT),
    ("effectivetimestamp", EFFECTIVE_AT),
    ("effectiveuntil", EFFECTIVE_AT),
    ("dateeffective", EFFECTIVE_AT),
    ("effdate", EFFECTIVE_AT),
    ("effat", EFFECTIVE_AT),
];

/// Words that senders put before a flag's name.
const FLAG_PREFIXES: [&str; 4] = ["is", "was", "has", "to"];

/// Limit of a name's letters that is compared: no control field is longer, and the comparison takes their product.
const LETTERS_MAX: usize = 32;

/// The name of `known` that `name` nearly is. `None`: it is one of them, one of `others`, or nearly none.
pub(super) fn meant<'a>(name: &str, known: &[&'a str], others: &[&str]) -> Option<&'a str> {
    if known.contains(&name) || others.contains(&name) {
        return None;
    }
    let letters = plain(name)?;
    let synonym = || {
        let bare = FLAG_PREFIXES.iter().find_map(|prefix| letters.strip_prefix(prefix)).unwrap_or(&letters);
        let meant = SYNONYMS.iter().find(|(word, _)| *word == letters || *word == bare)?.1;
        known.iter().copied().find(|known| *known == meant)
    };
    let nearest = || {
        let candidates = known.iter().filter_map(|known| {
            let target = plain(known)?;
            let bare = FLAG_PREFIXES.iter().filter_map(|prefix| letters.strip_prefix(prefix));
            let distances = std::iter::once(letters.as_str()).chain(bare);
            let distance = distances.map(|letters| strsim::damerau_levenshtein(letters, &target)).min()?;
            (distance <= distance_max(target.len())).then_some((distance, *known))
        });
        candidates.min().map(|(_, known)| known)
    };
    nearest().or_else(synonym)
}

/// How many letters a name may be away from one of so many letters.
fn distance_max(letters: usize) -> usize {
    match letters {
        0..6 => 0,
        6..9 => 1,
        _ => 2,
    }
}

/// Letters and digits in lower case; `None`: too long to be compared.
fn plain(name: &str) -> Option<String> {
    let letters: String =
        name.chars().filter(|letter| letter.is_alphanumeric()).take(LETTERS_MAX + 1).collect::<String>().to_lowercase();
    (letters.chars().count() <= LETTERS_MAX).then_some(letters)
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
