//! One source's jq program: compiled once, run for each message. Pure, and bounded only in what comes out: a program may
//! loop for ever or eat all memory, so [`super::mapper`] runs it in a process of its own.
//!
//! A program's input is the message. `$headers` has its headers (names in lower case, without those that may be secrets),
//! `$received_at` when it came, `$amqp` what came with it from RabbitMQ. Each output is one event, as an object with the attributes of a CloudEvent.
//!
//! Before: [`super::mapper`]. After: [`crate::inbound::cloudevents`] reads what comes out.

use std::collections::BTreeMap;

use jaq_core::data::JustLut;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::native::{Fun, bome, run, unary, v};
use jaq_core::{Compiler, Ctx, Cv, Error, Native, ValXs, Vars, compile};
use jaq_json::{Val, read, write};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{country, date};

/// Helpers in jq itself.
const HELPERS: &str = include_str!("helpers.jq");

/// Variables of every program, in this order.
const VARIABLES: [&str; 3] = ["$headers", "$received_at", AMQP];
/// The one that has routing key and properties.
pub(super) const AMQP: &str = "$amqp";

/// Everything that a program sees beside the message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Variables {
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// When the message came.
    pub received_at: String,
    /// Of a message from RabbitMQ: `routing_key`, `exchange`, and as far as it has them `type`, `app_id`, `timestamp` (as
    /// RFC 3339), `message_id` and `correlation_id`. Else an empty object.
    pub amqp: Value,
}

/// How deep a message may nest. The interpreter goes down by recursion, and has no bound of its own; this is the one of the
/// parser for CloudEvents (serde_json).
const DEPTH_MAX: usize = 128;

type Data = JustLut<Val>;

/// A compiled program.
pub struct Program {
    filter: jaq_core::compile::Filter<Native<Data>>,
}

/// Why a message has no outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The program ended with an error. In jq's words, which may quote the message: for the author's eyes only.
    Failed(String),
    /// More came out than may.
    TooMuch,
}

/// What may come out of one message.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Events.
    pub outputs: usize,
    /// Bytes of them all.
    pub bytes: usize,
}

impl Program {
    /// Compiles `code`; `path` is named in what is wrong with it, each with line and column.
    pub fn compile(path: &str, code: &str) -> Result<Self, Vec<String>> {
        let helpers = load::parse(HELPERS, |parser| parser.defs()).expect("a test compiles the helpers");
        let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()).chain(helpers);
        let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs()).chain(natives());
        let arena = Arena::default();
        let file = File { code, path };
        let modules = Loader::new(definitions).load(&arena, file).map_err(|errors| load_errors(&errors))?;
        let compiler = Compiler::default().with_funs(functions).with_global_vars(VARIABLES);
        let filter = compiler.compile(modules).map_err(|errors| compile_errors(&errors))?;
        Ok(Self { filter })
    }

    /// Runs over a message that is JSON; its outputs, each as JSON.
    pub fn run(
        &self,
        message: &[u8],
        Variables { headers, received_at, amqp }: &Variables,
        bounds: Bounds,
    ) -> Result<Vec<String>, Fault> {
        if is_too_deep(message) {
            return Err(Fault::Failed(format!("the message nests deeper than {DEPTH_MAX} lists and objects")));
        }
        let input = read::parse_single(message).map_err(|error| Fault::Failed(error.to_string()))?;
        let headers = headers.iter().map(|(name, value)| (Val::from(name.clone()), Val::from(value.clone())));
        let amqp = if amqp.is_null() { "{}".to_owned() } else { amqp.to_string() };
        let amqp = read::parse_single(amqp.as_bytes()).map_err(|error| Fault::Failed(error.to_string()))?;
        let variables = Vars::new([Val::obj(headers.collect()), Val::from(received_at.to_owned()), amqp]);
        let context = Ctx::<Data>::new(&self.filter.lut, variables);
        let (mut outputs, mut left) = (Vec::new(), bounds.bytes);
        for output in self.filter.id.run((context, input)) {
            let output = output.map_err(|thrown| match thrown.get_err() {
                Ok(error) => Fault::Failed(error.to_string()),
                Err(_) => Fault::Failed("`halt` and `break` end more than one message".to_owned()),
            })?;
            if outputs.len() == bounds.outputs {
                return Err(Fault::TooMuch);
            }
            let mut text = Vec::new();
            write::write(&mut text, &write::Pp::default(), 0, &output).expect("memory is written to");
            left = left.checked_sub(text.len()).ok_or(Fault::TooMuch)?;
            outputs.push(String::from_utf8_lossy(&text).into_owned());
        }
        Ok(outputs)
    }
}

/// Of JSON; brackets in a text do not count.
fn is_too_deep(message: &[u8]) -> bool {
    let (mut depth, mut is_in_text, mut is_escaped) = (0_usize, false, false);
    message.iter().any(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_in_text => is_escaped = true,
            b'"' => is_in_text = !is_in_text,
            b'[' | b'{' if !is_in_text => depth += 1,
            b']' | b'}' if !is_in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > DEPTH_MAX
    })
}

fn load_errors(errors: &load::Errors<&str, &str>) -> Vec<String> {
    let mut told = Vec::new();
    for (file, error) in errors {
        match error {
            load::Error::Io(failures) => {
                told.extend(failures.iter().map(|(path, why)| format!("{}: {why}", place(file, path))));
            }
            load::Error::Lex(errors) => told.extend(
                errors
                    .iter()
                    .map(|(expected, found)| format!("{}: expected {}", place(file, found), expected.as_str())),
            ),
            load::Error::Parse(errors) => told.extend(errors.iter().map(|(expected, found)| {
                let shown = if found.is_empty() { "the end" } else { first_line(found) };
                format!("{}: expected {}, found {shown}", place(file, found), expected.as_str())
            })),
        }
    }
    told
}

fn compile_errors(errors: &compile::Errors<&str, &str>) -> Vec<String> {
    let undefined = errors.iter().flat_map(|(file, names)| names.iter().map(move |(name, kind)| (file, name, kind)));
    undefined.map(|(file, name, kind)| format!("{}: undefined {} {name}", place(file, name), kind.as_str())).collect()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// `file:line:column` of a part of the file's code.
fn place(file: &File<&str, &str>, part: &str) -> String {
    let start = load::span(file.code, part).start.min(file.code.len());
    let before = &file.code[..start];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{}:{line}:{column}", file.path)
}

/// Helpers that need a table or a calendar.
fn natives() -> impl Iterator<Item = Fun<Data>> {
    let made: [Fun<Data>; 2] =
        [run::<Data>(("country_code", v(0), country_code)), run::<Data>(("date_time", v(1), date_time))];
    made.into_iter()
}

fn country_code<'a>((_, input): Cv<'a, Data>) -> ValXs<'a, Val> {
    bome(text_of(&input).map_or(Ok(Val::Null), |text| {
        let code = country::code(&text?).ok_or_else(|| Error::str("country_code: not a country that is known"))?;
        Ok(Val::from(code.to_owned()))
    }))
}

fn date_time<'a>(arguments: Cv<'a, Data>) -> ValXs<'a, Val> {
    unary(arguments, |input, zone| {
        let zone = text_of(&zone).unwrap_or_else(|| Err(Error::str("date_time: the time zone is null")))?;
        let zone = TimeZone::get(&zone).map_err(|_| Error::str("date_time: no such time zone; try Europe/Berlin"))?;
        text_of(&input).map_or(Ok(Val::Null), |text| {
            let moment = date::read(&text?, &zone);
            moment.map(Val::from).ok_or_else(|| Error::str("date_time: not in a form that is known"))
        })
    })
}

/// A text, or a number as one; `None` for null.
fn text_of(value: &Val) -> Option<Result<String, Error<Val>>> {
    match value {
        Val::Null => None,
        Val::TStr(text) => Some(Ok(String::from_utf8_lossy(text).trim().to_owned())),
        Val::Num(number) => Some(Ok(number.to_string())),
        Val::Bool(_) | Val::BStr(_) | Val::Arr(_) | Val::Obj(_) => Some(Err(Error::str("neither a text nor a number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { outputs: 10, bytes: 10_000 };

    fn run_on(code: &str, message: &str) -> Result<Vec<String>, Fault> {
        let program = Program::compile("map.jq", code).unwrap_or_else(|errors| panic!("{errors:?}"));
        let variables = Variables {
            headers: BTreeMap::from([("x-kind".to_owned(), "opened".to_owned())]),
            received_at: "2026-10-01T12:00:00Z".to_owned(),
            amqp: serde_json::json!({"routing_key": "crm.contract.ended", "timestamp": 7}),
        };
        program.run(message.as_bytes(), &variables, BOUNDS)
    }

    #[test]
    fn helpers_table() {
        for (code, message, expected) in [
            ("zip_code(5)", "1067", r#""01067""#),
            ("zip_code(5)", r#""01067""#, r#""01067""#),
            ("zip_code(5)", r#""SW1A 1AA""#, r#""SW1A 1AA""#),
            ("zip_code(4)", "null", "null"),
            ("country_code", r#""Deutschland""#, r#""DE""#),
            ("country_code", r#""aut""#, r#""AT""#),
            ("country_code", r#""se""#, r#""SE""#),
            ("country_code", r#""Switzerland""#, r#""CH""#),
            ("country_code", r#""United Kingdom""#, r#""GB""#),
            ("country_code", "null", "null"),
            (r#"date_time("Europe/Berlin")"#, r#""01.10.2026""#, r#""2026-10-01T00:00:00+02:00""#),
            (r#"date_time("Europe/Berlin")"#, r#""2026-12-01 08:30""#, r#""2026-12-01T08:30:00+01:00""#),
            (r#"date_time("Europe/Berlin")"#, r#""20261201""#, r#""2026-12-01T00:00:00+01:00""#),
            (r#"date_time("Europe/Berlin")"#, r#""2026-12-01T08:30:15.250""#, r#""2026-12-01T08:30:15.25+01:00""#),
            (r#"date_time("Europe/Berlin")"#, r#""2026-12-01T08:30:15Z""#, r#""2026-12-01T08:30:15Z""#),
            // Clocks skip 02:30 on that day, and repeat it on the other.
            (r#"date_time("Europe/Berlin")"#, r#""29.03.2026 02:30""#, r#""2026-03-29T03:30:00+02:00""#),
            (r#"date_time("Europe/Berlin")"#, r#""25.10.2026 02:30""#, r#""2026-10-25T02:30:00+02:00""#),
            (r#"date_time("UTC")"#, "1790856000", r#""2026-10-01T12:00:00Z""#),
            (r#"date_time("UTC")"#, "1790856000000", r#""2026-10-01T12:00:00Z""#),
            (r#"date_time("UTC")"#, "null", "null"),
            ("property_type", r#""Einfamilienhaus""#, r#""Detached""#),
            ("property_type", r#""DOPPELHAUSHäLFTE""#, r#""Semi-detached""#),
            ("property_type", r#""castle""#, r#""castle""#),
            ("given", r#"{"a":null,"b":1}"#, r#"{"b":1}"#),
            ("$headers[\"x-kind\"]", "null", r#""opened""#),
            ("$received_at", "null", r#""2026-10-01T12:00:00Z""#),
            ("$amqp.routing_key / \".\" | last", "null", r#""ended""#),
            ("$amqp.app_id", "null", "null"),
            ("$amqp.timestamp", "null", "7"),
            // What a number says is not changed on the way.
            (".", "1234567890123456789012.50", "1234567890123456789012.50"),
        ] {
            assert_eq!(run_on(code, message), Ok(vec![expected.to_owned()]), "{message} | {code}");
        }
        for (code, message) in [
            ("country_code", r#""Atlantis""#),
            (r#"date_time("Europe/Berlin")"#, r#""yesterday""#),
            (r#"date_time("Europe/Atlantis")"#, r#""01.10.2026""#),
            ("error(\"no\")", "1"),
            ("halt", "1"),
        ] {
            assert!(matches!(run_on(code, message), Err(Fault::Failed(_))), "{message} | {code}");
        }
    }

    #[test]
    fn a_message_that_nests_too_deep_is_refused_before_it_is_read() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(run_on("1", &nested(DEPTH_MAX)), Ok(vec!["1".to_owned()]));
        for depth in [DEPTH_MAX + 1, 500_000] {
            assert!(matches!(run_on("1", &nested(depth)), Err(Fault::Failed(_))), "{depth}");
        }
        let brackets_in_a_text = format!("[\"\\\"{}\"]", "[".repeat(500));
        assert_eq!(run_on("length", &brackets_in_a_text), Ok(vec!["1".to_owned()]));
    }

    #[test]
    fn none_one_or_many_come_out_and_not_more_than_may() {
        assert_eq!(run_on("empty", "1"), Ok(vec![]));
        assert_eq!(run_on(".[]", "[1,2]"), Ok(vec!["1".to_owned(), "2".to_owned()]));
        assert_eq!(run_on("range(11)", "1"), Err(Fault::TooMuch));
        assert_eq!(run_on("[range(10000)]", "1"), Err(Fault::TooMuch));
    }

    #[test]
    fn what_is_wrong_is_named_with_file_line_and_column() {
        for (code, expected) in [
            ("{\n  type: \"a\",\n  data: .x |\n}", "map.jq:4:1: expected"),
            ("{ a: (1", "map.jq:1:8: expected closing parenthesis"),
            ("\n  zip_cod(5)", "map.jq:2:3: undefined filter zip_cod"),
            ("$header", "map.jq:1:1: undefined variable $header"),
        ] {
            let errors = Program::compile("map.jq", code).err().unwrap_or_else(|| panic!("{code} compiles"));
            assert!(errors.iter().any(|error| error.starts_with(expected)), "{code}: {errors:?}");
        }
    }
}
