//! The one way to declare a closed set: an enumeration whose values have public names.
//!
//! Each name stands once, beside its value. Serde, SQL, metric labels, specifications and command lines take it from here,
//! and a `match` on the enumeration has an arm for each value, so that the compiler finds every place that a new value
//! concerns.
//!
//! Before: nothing. After: every closed set of the program.

/// Declares enumerations whose values have public names: `ALL`, `name()`, `from_name()`, and `Display` and serde by name.
macro_rules! names {
    ($(
        $(#[$outer:meta])*
        $vis:vis enum $set:ident { $($(#[$inner:meta])* $value:ident = $name:literal),+ $(,)? }
    )+) => { $(
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $set { $(#[doc = concat!("`", $name, "`. ")] $(#[$inner])* $value,)+ }

        #[allow(dead_code, reason = "a set has all of these; not each set needs all")]
        impl $set {
            /// Every value, in the order of their declaration.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$value),+];

            /// Its public name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$value => $name,)+ }
            }

            /// The value of this name, letter by letter.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$value),)+ _ => None }
            }

            /// The names of all, for a message that says what is allowed.
            pub fn names() -> [&'static str; Self::ALL.len()] {
                Self::ALL.map(Self::name)
            }
        }

        impl ::std::fmt::Display for $set {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl ::serde::Serialize for $set {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $set {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = <::std::borrow::Cow<'de, str> as ::serde::Deserialize>::deserialize(deserializer)?;
                Self::from_name(&name)
                    .ok_or_else(|| ::serde::de::Error::unknown_variant(&name, &[$($name),+]))
            }
        }
    )+ };
}

pub(crate) use names;
