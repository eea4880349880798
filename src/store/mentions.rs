//! Mentions of a customer, or of a member of the team, in bytes that never became an event. Pure.
//!
//! Only data that is certainly the customer's is erased without a person. The type of an event says whether it names a customer or a
//! member, who may have the same id. A number that is one customer's id is another one's
//! house number: a person looks at ids that merely occur somewhere.
//!
//! Before: [`crate::store::erasure`]. After: nothing.

use serde_json::Value;
use serde_json::value::RawValue;

/// The way in which a message mentions a customer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mention {
    /// No mention.
    Nothing,
    /// The id occurs, but not in a field in which an event names its customer.
    Mentions,
    /// The message is about the customer alone.
    OnlyOf,
    /// The message is a batch; the fields hold what is left without the customer's events.
    AlsoOf {
        /// The other events, as they were.
        rest: String,
        /// `true` if the id still occurs in the other events.
        is_mentioned: bool,
    },
}

/// The person whom a message may be about.
#[derive(Clone, Copy)]
pub(super) enum Sought<'a> {
    /// A customer, by id.
    Customer(&'a str),
    /// A member of the team, by id.
    Member(&'a str),
}

impl<'a> Sought<'a> {
    fn id(self) -> &'a str {
        match self {
            Self::Customer(id) | Self::Member(id) => id,
        }
    }

    /// `true` if events of this type are about such persons. A message without a type may be a customer's.
    fn is_named_by(self, type_name: Option<&str>) -> bool {
        let is_of_team = type_name.is_some_and(|name| name.starts_with("team."));
        match self {
            Self::Customer(_) => !is_of_team,
            Self::Member(_) => is_of_team,
        }
    }

    /// The field of the data.
    fn field(self) -> &'static str {
        match self {
            Self::Customer(_) => "customer_id",
            Self::Member(_) => "member_id",
        }
    }
}

/// A message as the store keeps it.
#[derive(Clone, Copy)]
pub(super) struct KeptMessage<'a> {
    pub(super) raw: &'a str,
    pub(super) encoding: &'a str,
    /// The headers and properties that came with it.
    pub(super) envelope: Option<&'a str>,
}

/// Reads a message: its bytes, and the headers that came with them.
pub(super) fn mention_in(message: KeptMessage<'_>, sought: Sought<'_>) -> Mention {
    use base64::Engine;
    let customer = sought.id();
    let KeptMessage { raw, encoding, envelope } = message;
    let decoded;
    let text = if encoding == "base64" {
        let bytes = base64::engine::general_purpose::STANDARD.decode(raw).unwrap_or_default();
        decoded = String::from_utf8_lossy(&bytes).into_owned();
        decoded.as_str()
    } else {
        raw
    };
    let beside = envelope.map(read).unwrap_or_default();
    let of_whole = type_beside(&beside);
    if sought.is_named_by(of_whole) && is_addressed(&beside, customer) {
        return Mention::OnlyOf;
    }
    if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) {
        let is_other = |item: &&&RawValue| !names(&read(item.get()), of_whole, sought);
        let others: Vec<&str> = items.iter().filter(is_other).map(|item| item.get()).collect();
        if others.len() < items.len() {
            let rest = format!("[{}]", others.join(","));
            let is_mentioned = occurs_in(&read(&rest), customer) || occurs_beside(&beside, customer);
            return if others.is_empty() { Mention::OnlyOf } else { Mention::AlsoOf { rest, is_mentioned } };
        }
    }
    let value = read(text);
    if names(&value, of_whole, sought) {
        Mention::OnlyOf
    } else if occurs_in(&value, customer)
        || occurs_beside(&beside, customer)
        || (value.is_null() && is_word_of(text, customer))
    {
        Mention::Mentions
    } else {
        Mention::Nothing
    }
}

/// `Null` for bytes that are not JSON.
fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// The fields in which an event names its customer or member: the `subject`, or the id in its data, which in binary mode is the whole
/// body. The type of an item is its own, else that of the whole message.
fn names(item: &Value, of_whole: Option<&str>, sought: Sought<'_>) -> bool {
    if !sought.is_named_by(item.get("type").and_then(Value::as_str).or(of_whole)) {
        return false;
    }
    let field = sought.field();
    let places = [item.get("subject"), item.get("data").and_then(|data| data.get(field)), item.get(field)];
    places.into_iter().flatten().any(|value| match value {
        Value::String(text) => text == sought.id(),
        Value::Number(number) => number.to_string() == sought.id(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    })
}

/// In binary mode the type of a member's event is a header: `ce-type`, `cloudEvents:type` and the like. No other ends so and begins so.
fn type_beside(envelope: &Value) -> Option<&str> {
    let headers = envelope.get("headers").and_then(Value::as_object);
    let is_type = |name: &str| name.to_ascii_lowercase().ends_with("type");
    let types = headers.into_iter().flatten().filter(|(name, _)| is_type(name)).filter_map(|(_, value)| value.as_str());
    types.into_iter().find(|text| text.starts_with("team."))
}

/// In binary mode the subject is a header: `ce-subject`, `cloudEvents:subject` and the like.
fn is_addressed(envelope: &Value, customer: &str) -> bool {
    let headers = envelope.get("headers").and_then(Value::as_object);
    let is_subject = |name: &str| name.to_ascii_lowercase().ends_with("subject");
    headers.into_iter().flatten().any(|(name, value)| is_subject(name) && value.as_str() == Some(customer))
}

/// Looks in the other headers, the message's id, and the parts of the routing key.
fn occurs_beside(envelope: &Value, customer: &str) -> bool {
    let properties = envelope.get("properties").unwrap_or(&Value::Null);
    if occurs_in(properties, customer) {
        return true;
    }
    let routing_key = envelope.get("routing_key").and_then(Value::as_str).unwrap_or_default();
    occurs_in(envelope, customer) || routing_key.split('.').any(|part| part == customer)
}

fn occurs_in(value: &Value, customer: &str) -> bool {
    match value {
        Value::String(text) => is_word_of(text, customer),
        Value::Number(number) => number.to_string() == customer,
        Value::Array(items) => items.iter().any(|item| occurs_in(item, customer)),
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| is_word_of(name, customer) || occurs_in(value, customer))
        }
        Value::Null | Value::Bool(_) => false,
    }
}

/// `C-1` is not a word in `C-12`, nor in `C-1-2`: ids are made of such signs.
fn is_word_of(text: &str, customer: &str) -> bool {
    let is_inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "-_./:@".contains(c));
    text.match_indices(customer).any(|(at, found)| {
        !is_inside(text[..at].chars().next_back()) && !is_inside(text[at + found.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf8<'a>(raw: &'a str, envelope: Option<&'a str>) -> KeptMessage<'a> {
        KeptMessage { raw, encoding: "utf8", envelope }
    }

    #[test]
    fn a_message_is_a_customers_where_it_names_its_customer_and_nowhere_else() {
        for (raw, customer, expected) in [
            (r#"{"data":{"customer_id":"C-1"}}"#, "C-1", Mention::OnlyOf),
            (r#"{"customer_id":4711}"#, "4711", Mention::OnlyOf),
            (r#"{"subject":"C-1"}"#, "C-1", Mention::OnlyOf),
            (r#"{"customer_id":"\u0043-1"}"#, "C-1", Mention::OnlyOf),
            (r#"[{"subject":"C-1"},{"data":{"customer_id":"C-1"}}]"#, "C-1", Mention::OnlyOf),
            (r#"{"data":{"customer_id":"C-12"}}"#, "C-1", Mention::Nothing),
            (r#"{"data":{"customer_id":"C-1-2"}}"#, "C-1", Mention::Nothing),
            (r#"{"data":{"customer_id":"7"}}"#, "data", Mention::Mentions),
            (r#"{"data":{"customer_id":"777","street":"Hauptstrasse 12"}}"#, "12", Mention::Mentions),
            (r#"{"note":"moved: C-1, see mail"}"#, "C-1", Mention::Mentions),
            (r#"[{"C-1":{}}]"#, "C-1", Mention::Mentions),
            ("<customer>C-1</customer>", "C-1", Mention::Mentions),
            ("<customer>XC-1</customer>", "C-1", Mention::Nothing),
        ] {
            assert_eq!(mention_in(utf8(raw, None), Sought::Customer(customer)), expected, "{raw} of {customer}");
        }
        let base64 = KeptMessage { encoding: "base64", ..utf8("QwAtMSBDLTEgeA==", None) };
        assert_eq!(mention_in(base64, Sought::Customer("C-1")), Mention::Mentions);
        let envelope = Some(r#"{"headers":{"ce-subject":"C-1"}}"#);
        assert_eq!(mention_in(utf8("{}", envelope), Sought::Customer("C-1")), Mention::OnlyOf);
        assert_eq!(mention_in(utf8("{}", envelope), Sought::Customer("C-12")), Mention::Nothing);
        let beside = r#"{"headers":{"customer":"C-1"},"message_id":"m C-2 1","routing_key":"customer.moved.C-3"}"#;
        for (customer, expected) in [
            ("C-1", Mention::Mentions),
            ("C-2", Mention::Mentions),
            ("C-3", Mention::Mentions),
            ("C-4", Mention::Nothing),
        ] {
            assert_eq!(mention_in(utf8("<x/>", Some(beside)), Sought::Customer(customer)), expected, "{customer}");
        }
    }

    #[test]
    fn of_a_batch_only_the_customers_own_events_are_cut_out() {
        let batch = r#"[{"data":{"customer_id":"C-900"},"x":1.0}, {"data": {"customer_id": "C-1"}},{"subject":"C-2"}]"#;
        let rest = r#"[{"data":{"customer_id":"C-900"},"x":1.0},{"subject":"C-2"}]"#.to_owned();
        assert_eq!(
            mention_in(utf8(batch, None), Sought::Customer("C-1")),
            Mention::AlsoOf { rest, is_mentioned: false }
        );
        let mentioned = r#"[{"customer_id":"C-1"},{"customer_id":"C-9","note":"was C-1"}]"#;
        assert!(matches!(
            mention_in(utf8(mentioned, None), Sought::Customer("C-1")),
            Mention::AlsoOf { is_mentioned: true, .. }
        ));
        assert_eq!(mention_in(utf8(batch, None), Sought::Customer("C-3")), Mention::Nothing);
    }
    #[test]
    fn a_customer_and_a_member_of_one_id_have_messages_of_their_own() {
        let (of_customer, of_member) = (
            r#"{"type":"customer.churned","subject":"X-1","data":{"customer_id":"X-1"}}"#,
            r#"{"type":"team.member_left","subject":"X-1","data":{"member_id":"X-1"}}"#,
        );
        let (customer, member) = (Sought::Customer("X-1"), Sought::Member("X-1"));
        assert_eq!(mention_in(utf8(of_customer, None), customer), Mention::OnlyOf);
        assert_eq!(mention_in(utf8(of_customer, None), member), Mention::Mentions);
        assert_eq!(mention_in(utf8(of_member, None), customer), Mention::Mentions);
        assert_eq!(mention_in(utf8(of_member, None), member), Mention::OnlyOf);
        let batch = format!("[{of_customer},{of_member}]");
        for (sought, rest) in [(customer, of_member), (member, of_customer)] {
            let expected = Mention::AlsoOf { rest: format!("[{rest}]"), is_mentioned: true };
            assert_eq!(mention_in(utf8(&batch, None), sought), expected);
        }
        let binary = Some(r#"{"headers":{"ce-type":"team.member_left","ce-subject":"X-1"}}"#);
        assert_eq!(mention_in(utf8("", binary), member), Mention::OnlyOf);
        assert_eq!(mention_in(utf8("", binary), customer), Mention::Mentions);
        let binary = Some(r#"{"headers":{"ce-type":"team.member_left"}}"#);
        assert_eq!(mention_in(utf8(r#"{"member_id":"X-1"}"#, binary), member), Mention::OnlyOf);
    }
}
