//! The declaration of a closed set: an enumeration whose values have public names.
//!
//! Each name stands once, next to its value, and a `match` on the enumeration has an arm for each value, so that the compiler
//! finds every place that a new value concerns.
//!
//! Before: nothing. After: every file that declares a closed set.

/// Declares enumerations whose values have public names: `ALL`, `name()`, `from_name()`, and `Display`, serde and a schema by name.
macro_rules! names {
    ($(
        $(#[$outer:meta])*
        $vis:vis enum $set:ident { $($(#[$inner:meta])* $value:ident = $name:literal),+ $(,)? }
    )+) => { $(
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        $vis enum $set { $(#[doc = concat!("`", $name, "`. ")] $(#[$inner])* #[serde(rename = $name)] $value,)+ }

        impl $set {
            /// Every value, in the order of their declaration.
            $vis const ALL: [Self; [$($name),+].len()] = [$(Self::$value),+];

            /// Its public name.
            $vis const fn name(self) -> &'static str {
                match self { $(Self::$value => $name,)+ }
            }

            /// The value of exactly this name.
            $vis fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$value),)+ _ => None }
            }

            /// The names of all values, for a message that lists them.
            $vis fn names() -> [&'static str; Self::ALL.len()] {
                Self::ALL.map(Self::name)
            }
        }

        impl ::std::fmt::Display for $set {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl ::schemars::JsonSchema for $set {
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                stringify!($set).into()
            }

            fn json_schema(_: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                ::schemars::json_schema!({"type": "string", "enum": [$($name),+]})
            }
        }
    )+ };
}

pub(crate) use names;

#[cfg(test)]
mod tests {
    names! {
        /// Two signs.
        pub(super) enum Sign {
            /// More.
            Plus = "plus",
            Minus = "minus",
        }
    }

    #[test]
    fn each_value_is_read_by_the_name_that_is_written_for_it() {
        assert_eq!(Sign::ALL, [Sign::Plus, Sign::Minus]);
        assert_eq!(Sign::names(), ["plus", "minus"]);
        for sign in Sign::ALL {
            assert_eq!(Sign::from_name(sign.name()), Some(sign));
            assert_eq!(sign.to_string(), sign.name());
            let written = serde_json::to_string(&sign).expect("a text");
            assert_eq!(written, format!("\"{}\"", sign.name()));
            assert_eq!(serde_json::from_str::<Sign>(&written).expect("its own name"), sign);
        }
    }

    #[test]
    fn a_name_that_is_not_declared_is_no_value() {
        for name in ["Plus", "plus ", "", "times"] {
            assert_eq!(Sign::from_name(name), None, "{name:?}");
            let refused = serde_json::from_str::<Sign>(&format!("\"{name}\"")).expect_err("not declared");
            assert!(refused.to_string().contains("`plus` or `minus`"), "{refused}");
        }
    }
}
