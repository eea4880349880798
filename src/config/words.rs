//! The closed vocabularies of configuration values. Never reads or judges anything.
//!
//! Before: nothing. After: [`crate::config`] and the Podero client, which sends some of them.

/// Declares an enum of words: each variant with the text that stands for it.
macro_rules! words {
    ($(#[$outer:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $(#[doc = concat!("`", $text, "`")] $variant,)+ }

        impl $name {
            /// Every value with its word.
            pub const WORDS: &[(&str, Self)] = &[$(($text, Self::$variant)),+];

            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

words! {
    /// A language that Podero's onboarding speaks.
    Language { Sv = "sv", De = "de", En = "en", Hu = "hu", It = "it", Et = "et", Pl = "pl", Ro = "ro" }
}

words! {
    /// A price zone that Podero knows.
    PriceZone {
        At = "AT", AtHourly = "AT_HOURLY", Be = "BE", Ch = "CH", Ee = "EE", DeLu = "DE_LU", Hu = "HU",
        ItCnor = "IT_CNOR", ItCsud = "IT_CSUD", ItNord = "IT_NORD", ItPun = "IT_PUN", ItSard = "IT_SARD",
        ItSici = "IT_SICI", ItSud = "IT_SUD", Pt = "PT", Ro = "RO",
        Se1 = "SE_1", Se2 = "SE_2", Se3 = "SE_3", Se4 = "SE_4", Uk = "UK",
    }
}

words! {
    /// How log lines look.
    LogFormat { Text = "text", Json = "json", Auto = "auto" }
}
