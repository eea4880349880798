//! One source's jq program: compiled once, run for each message. Pure. Only its output is bounded: a program may loop for ever
//! or eat all memory, so [`super::mapper`] runs it in a process of its own.
//!
//! A program's input is the message. `$headers` has its headers (names in lower case, without those that may be secrets),
//! `$received_at` its time of arrival, `$amqp` its properties from RabbitMQ. Each output is one event, as an object with the
//! attributes of a CloudEvent.
//!
//! Before: [`super::mapper`]. After: [`crate::inbound::cloudevents`] reads the outputs.

use std::collections::BTreeMap;

use jaq_core::data::JustLut;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::native::{Fun, bome, run, unary, v};
use jaq_core::{Compiler, Ctx, Cv, Error, Native, ValXs, Vars, compile};
use jaq_json::{Val, read, write};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{nesting, zip};
use crate::domain::{country, date, utf8};
use crate::inbound::cells;

/// Helpers in jq itself.
const HELPERS: &str = include_str!("helpers.jq");

/// Variables of every program, in this order.
const VARIABLES: [&str; 3] = ["$headers", "$received_at", AMQP];
/// Name of the variable that has routing key and properties.
pub(super) const AMQP: &str = "$amqp";

/// The values that a program sees in addition to the message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Variables {
    /// The headers, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The time at which the message came.
    pub received_at: String,
    /// For a message from RabbitMQ: `routing_key`, `exchange`, and as far as it has them `type`, `app_id`, `timestamp` (as RFC
    /// 3339), `message_id` and `correlation_id`. Else an empty object.
    pub amqp: Value,
}

/// Limit of the depth of a message. The interpreter goes down by recursion, and has no bound of its own; this is the bound of
/// the parser for CloudEvents (serde_json).
const DEPTH_MAX: usize = 128;

type Data = JustLut<Val>;

/// A compiled program.
pub struct Program {
    filter: jaq_core::compile::Filter<Native<Data>>,
}

/// The reason why a message has no outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramFault {
    /// The program ended with this error. Its text may quote the message, and is for the author's eyes only.
    Failed(String),
    /// More came out than allowed.
    TooMuch,
}

/// Limits of the output for one message.
#[derive(Debug, Clone, Copy)]
pub struct OutputBounds {
    /// Events.
    pub outputs: usize,
    /// Bytes of all events.
    pub bytes: usize,
}

impl Program {
    /// Compiles `code`; `path` is named in its errors, each with line and column.
    pub fn compile(path: &str, code: &str) -> Result<Self, Vec<String>> {
        // Microsoft's editors write a byte order mark in front, which is no part of the program or of its first column.
        let code = code.strip_prefix('\u{feff}').unwrap_or(code);
        let helpers = load::parse(HELPERS, |parser| parser.defs()).expect("a test compiles the helpers");
        if nesting::is_too_deep(code) {
            let max = nesting::LEVELS_MAX;
            return Err(vec![format!(
                "{path}: nests deeper than {max} levels; a long list of values can be the keys of an object, which count as one"
            )]);
        }
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
        bounds: OutputBounds,
    ) -> Result<Vec<String>, ProgramFault> {
        if is_too_deep(message) {
            return Err(ProgramFault::Failed(format!("the message nests deeper than {DEPTH_MAX} lists and objects")));
        }
        // The parser would accept bytes that are no UTF-8, and two ids could become one.
        let message =
            utf8::text(message).map_err(|form| ProgramFault::Failed(format!("the message is {form}")))?.as_bytes();
        let input = read::parse_single(message).map_err(|error| ProgramFault::Failed(error.to_string()))?;
        let headers = headers.iter().map(|(name, value)| (Val::from(name.clone()), Val::from(value.clone())));
        let amqp = if amqp.is_null() { "{}".to_owned() } else { amqp.to_string() };
        let amqp = read::parse_single(amqp.as_bytes()).map_err(|error| ProgramFault::Failed(error.to_string()))?;
        let variables = Vars::new([Val::obj(headers.collect()), Val::from(received_at.to_owned()), amqp]);
        let context = Ctx::<Data>::new(&self.filter.lut, variables);
        let (mut outputs, mut left) = (Vec::new(), bounds.bytes);
        for output in self.filter.id.run((context, input)) {
            let output = output.map_err(|thrown| match thrown.get_err() {
                Ok(error) => ProgramFault::Failed(words(error)),
                Err(_) => ProgramFault::Failed("`halt` and `break` end more than one message".to_owned()),
            })?;
            if outputs.len() == bounds.outputs {
                return Err(ProgramFault::TooMuch);
            }
            let mut text = Vec::new();
            write::write(&mut text, &write::Pp::default(), 0, &output).expect("memory is written to");
            left = left.checked_sub(text.len()).ok_or(ProgramFault::TooMuch)?;
            let text =
                String::from_utf8(text).map_err(|_| ProgramFault::Failed("what came out is not UTF-8".to_owned()))?;
            outputs.push(text);
        }
        Ok(outputs)
    }
}

/// An error as its author wrote it: a text without quotes, anything else as JSON.
fn words(error: Error<Val>) -> String {
    match error.into_val() {
        Val::TStr(text) => String::from_utf8_lossy(&text).into_owned(),
        other @ (Val::Null | Val::Bool(_) | Val::Num(_) | Val::BStr(_) | Val::Arr(_) | Val::Obj(_)) => {
            other.to_string()
        }
    }
}

/// `true` if JSON is too deep; brackets in a text do not count.
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

/// Names of the helpers whose errors name the kind of value that is wrong, and never the value.
const OWN: [&str; 4] = ["text", "zip_code", "country_code", "date_time"];

/// `true` if an error is one of a helper's own texts, and so quotes no message. A program may begin its own errors as a helper
/// does, so only these texts are believed.
pub fn is_a_helpers(why: &str) -> bool {
    let is_of = |name: &&str| {
        let words = why.strip_prefix(*name).and_then(|rest| rest.strip_prefix(": "));
        words.is_some_and(|words| {
            WORDS.contains(&words)
                || zip::WORDS.contains(&words)
                || cells::Damage::ALL.into_iter().any(|damage| damage.to_string() == words)
                || date::Fault::ALL.into_iter().any(|fault| fault.name() == words)
        })
    };
    OWN.iter().any(is_of) || [NO_ZONE, UNKNOWN_COUNTRY].contains(&why)
}

/// Errors of the helpers themselves, in addition to those of their readers.
const WORDS: [&str; 8] = [
    "a text that is not UTF-8",
    "a number that is not finite",
    "true or false where a text or a number is wanted",
    "bytes where a text or a number is wanted",
    "a list where a text or a number is wanted",
    "an object where a text or a number is wanted",
    "its argument is how many digits there are, at most 10, or a country",
    "the country is none that is known",
];

const UNKNOWN_COUNTRY: &str = "country_code: not a country that is known";

/// Helpers that need a table or a calendar.
fn natives() -> impl Iterator<Item = Fun<Data>> {
    let made: [Fun<Data>; 7] = [
        run::<Data>(("text", v(0), text)),
        run::<Data>(("is_given", v(0), is_given)),
        run::<Data>(("zip_code", v(0), |(_, input): Cv<'_, Data>| bome(zip_code(&input, &Val::Null)))),
        run::<Data>(("zip_code", v(1), |arguments: Cv<'_, Data>| unary(arguments, |input, of| zip_code(&input, &of)))),
        run::<Data>(("country_code", v(0), country_code)),
        run::<Data>(("date_time", v(1), date_time)),
        run::<Data>(("date_time", v(2), date_time_as)),
    ];
    made.into_iter()
}

fn text<'a>((_, input): Cv<'a, Data>) -> ValXs<'a, Val> {
    bome(said("text", &input).map(|text| text.map_or(Val::Null, Val::from)))
}

fn is_given<'a>((_, input): Cv<'a, Data>) -> ValXs<'a, Val> {
    let is_blank = match &input {
        Val::Null => true,
        Val::TStr(text) => std::str::from_utf8(text).is_ok_and(|text| cells::trimmed(text).is_none()),
        Val::Bool(_) | Val::Num(_) | Val::BStr(_) | Val::Arr(_) | Val::Obj(_) => false,
    };
    bome(Ok(Val::Bool(!is_blank)))
}

/// The helper `zip_code`. `of` is the number of digits of ZIP codes, or their country, or null.
fn zip_code(input: &Val, of: &Val) -> Result<Val, Error<Val>> {
    let refused = |why: &str| Error::str(format_args!("zip_code: {why}"));
    let digits = match (of, said("zip_code", of)?) {
        (_, None) => None,
        (Val::Num(_), Some(digits)) => {
            let digits = digits.parse().ok().filter(|digits| *digits <= zip::DIGITS_MAX);
            Some(digits.ok_or_else(|| refused("its argument is how many digits there are, at most 10, or a country"))?)
        }
        (_, Some(name)) => {
            let code = country::code(&name).ok_or_else(|| refused("the country is none that is known"))?;
            country::zip_digits(code)
        }
    };
    let Some(text) = said("zip_code", input)? else { return Ok(Val::Null) };
    zip::read(&text, digits).map(Val::from).map_err(refused)
}

fn country_code<'a>((_, input): Cv<'a, Data>) -> ValXs<'a, Val> {
    bome(said("country_code", &input).and_then(|text| {
        let Some(text) = text else { return Ok(Val::Null) };
        let code = country::code(&text).ok_or_else(|| Error::str(UNKNOWN_COUNTRY))?;
        Ok(Val::from(code.to_owned()))
    }))
}

/// A helper's reading of a value: a text without blanks around it, or a number as text, a whole one without a fraction. `None`:
/// nothing.
fn said(helper: &str, value: &Val) -> Result<Option<String>, Error<Val>> {
    let refused = |why: &dyn std::fmt::Display| Error::str(format_args!("{helper}: {why}"));
    match value {
        Val::Null => Ok(None),
        Val::TStr(text) => {
            let text = std::str::from_utf8(text).map_err(|_| refused(&"a text that is not UTF-8"))?;
            let text = cells::read(text).map_err(|damage| refused(&damage))?;
            Ok(text.map(str::to_owned))
        }
        Val::Num(number) => {
            number_text(&number.to_string()).map(Some).ok_or_else(|| refused(&"a number that is not finite"))
        }
        Val::Bool(_) => Err(refused(&"true or false where a text or a number is wanted")),
        Val::BStr(_) => Err(refused(&"bytes where a text or a number is wanted")),
        Val::Arr(_) => Err(refused(&"a list where a text or a number is wanted")),
        Val::Obj(_) => Err(refused(&"an object where a text or a number is wanted")),
    }
}

/// A number as people write it: `4712.0` and `4.712e3` are 4712. Digits are never lost.
fn number_text(number: &str) -> Option<String> {
    if let Some((whole, fraction)) = number.split_once('.')
        && fraction.bytes().all(|byte| byte == b'0')
    {
        return Some(whole.to_owned());
    }
    let value: f64 = number.parse().ok()?;
    let is_exact = value.fract() == 0.0 && value.abs() < WHOLE_END;
    match number.contains(['e', 'E']) {
        true if is_exact => Some(format!("{value:.0}")),
        true | false => value.is_finite().then(|| number.to_owned()),
    }
}

/// Limit below which a number with an exponent has all its digits (2^53).
const WHOLE_END: f64 = 9_007_199_254_740_992.0;

/// `date_time(zone)`.
fn date_time<'a>(arguments: Cv<'a, Data>) -> ValXs<'a, Val> {
    unary(arguments, |input, zone| {
        let zone = time_zone(&zone)?;
        read_date(&input, |text| date::read(text, &zone))
    })
}

/// `date_time(zone; form)`.
fn date_time_as<'a>((mut context, input): Cv<'a, Data>) -> ValXs<'a, Val> {
    let (form, zone) = (context.pop_var(), context.pop_var());
    bome(time_zone(&zone).and_then(|zone| {
        let form = said("date_time", &form)?.unwrap_or_default();
        read_date(&input, |text| date::read_as(text, &form, &zone))
    }))
}

fn time_zone(name: &Val) -> Result<TimeZone, Error<Val>> {
    let name = said("date_time", name)?.ok_or_else(|| Error::str(NO_ZONE))?;
    TimeZone::get(&name).map_err(|_| Error::str(NO_ZONE))
}

const NO_ZONE: &str = "date_time: no such time zone; try Europe/Berlin";

/// Reads a date. Null and an empty cell become null; a doubtful date is an error.
fn read_date(input: &Val, read: impl Fn(&str) -> Result<String, date::Fault>) -> Result<Val, Error<Val>> {
    let Some(text) = said("date_time", input)? else { return Ok(Val::Null) };
    read(&text).map(Val::from).map_err(|fault| Error::str(format_args!("date_time: {fault}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: OutputBounds = OutputBounds { outputs: 10, bytes: 10_000 };

    fn run_on(code: &str, message: &str) -> Result<Vec<String>, ProgramFault> {
        let program = Program::compile("map.jq", code).unwrap_or_else(|errors| panic!("{errors:?}"));
        let variables = Variables {
            headers: BTreeMap::from([("x-kind".to_owned(), "opened".to_owned())]),
            received_at: "2026-10-01T12:00:00Z".to_owned(),
            amqp: serde_json::json!({"routing_key": "crm.contract.ended", "timestamp": 7}),
        };
        program.run(message.as_bytes(), &variables, BOUNDS)
    }

    /// Checks that each program gives the expected outputs for its message.
    fn gives(table: &[(&str, &str, &str)]) {
        for (code, message, expected) in table {
            assert_eq!(run_on(code, message), Ok(vec![(*expected).to_owned()]), "{message} | {code}");
        }
    }

    /// Checks that each program ends with an error over its message.
    fn fails(table: &[(&str, &str)]) {
        for (code, message) in table {
            assert!(matches!(run_on(code, message), Err(ProgramFault::Failed(_))), "{message} | {code}");
        }
    }

    #[test]
    fn zip_code_table() {
        gives(&[
            ("zip_code(5)", "1067", r#""01067""#),
            ("zip_code(5)", r#""01067""#, r#""01067""#),
            ("zip_code(5)", r#""SW1A 1AA""#, r#""SW1A 1AA""#),
            ("zip_code(4)", "null", "null"),
            ("zip_code(5)", r#""  1067""#, r#""01067""#),
            ("zip_code(5)", r#""1067  ""#, r#""01067""#),
            ("zip_code(5)", "\"\u{a0}1067\u{feff}\"", r#""01067""#),
            ("zip_code(5)", r#""1067\r\n""#, r#""01067""#),
            ("zip_code(5)", "1067.0", r#""01067""#),
            ("zip_code(5)", r#""1067.0""#, r#""01067""#),
            ("zip_code(5)", r#""=\"01067\"""#, r#""01067""#),
            ("zip_code(5)", r#"" ""#, "null"),
            ("zip_code", "1067", r#""1067""#),
            (r#"zip_code("AT")"#, "1010", r#""1010""#),
            (r#"zip_code("Österreich")"#, "1010", r#""1010""#),
            (r#"zip_code("D")"#, "1067", r#""01067""#),
            (r#"zip_code("RO")"#, "10011", r#""010011""#),
            (r#"zip_code("GB")"#, r#""SW1A 1AA""#, r#""SW1A 1AA""#),
            (r#"zip_code("")"#, "1067", r#""1067""#),
            ("zip_code(null)", "1067", r#""1067""#),
        ]);
        fails(&[
            ("zip_code(5)", "true"),
            ("zip_code(5)", "0"),
            ("zip_code(5)", r#""00000""#),
            ("zip_code(5)", r#""1067,0""#),
            ("zip_code(5)", r##""#NV""##),
            ("zip_code(5)", r##""#N/A""##),
            ("zip_code(5)", r##""#REF!""##),
            ("zip_code(5)", "[1067]"),
            ("zip_code(11)", "1067"),
            ("zip_code(true)", "1067"),
            (r#"zip_code("Atlantis")"#, "1067"),
        ]);
    }

    #[test]
    fn texts_countries_and_objects_table() {
        gives(&[
            ("text", "4712.0", r#""4712""#),
            ("text", "4712", r#""4712""#),
            ("text", "4.712e3", r#""4712""#),
            ("text", "0.5", r#""0.5""#),
            ("text", "12345678901234567890123.0", r#""12345678901234567890123""#),
            ("text", r#"" 4712\u00a0""#, r#""4712""#),
            ("text", r#""\t""#, "null"),
            ("text", "null", "null"),
            (r#"join_given(" ")"#, r#"["Hauptstrasse", 7.0, null, " "]"#, r#""Hauptstrasse 7""#),
            (r#"join_given(" ")"#, r#"[null, ""]"#, "null"),
            ("country_code", r#""""#, "null"),
            ("country_code", r#"" \u00a0""#, "null"),
            ("country_code", r#""D""#, r#""DE""#),
            ("property_type", r#""""#, "null"),
            ("property_type", r#""EFH ""#, r#""Detached""#),
            ("country_code", r#""Deutschland""#, r#""DE""#),
            ("country_code", r#""aut""#, r#""AT""#),
            ("country_code", r#""se""#, r#""SE""#),
            ("country_code", r#""Switzerland""#, r#""CH""#),
            ("country_code", r#""United Kingdom""#, r#""GB""#),
            ("country_code", "null", "null"),
            ("property_type", r#""Einfamilienhaus""#, r#""Detached""#),
            ("property_type", r#""DOPPELHAUSHäLFTE""#, r#""Semi-detached""#),
            ("property_type", r#""castle""#, r#""castle""#),
            ("given", r#"{"a":null,"b":1,"c":"","d":" \u00a0","e":false,"f":[]}"#, r#"{"b":1,"e":false,"f":[]}"#),
        ]);
        fails(&[
            ("country_code", r#""Atlantis""#),
            ("text", "true"),
            ("text", "{}"),
            ("text", r#""4,71E+11""#),
            (r#"join_given(" ")"#, "[true]"),
            ("country_code", "false"),
        ]);
    }

    #[test]
    fn helpers_table() {
        gives(&[
            (r#"date_time("Europe/Berlin")"#, r#""""#, "null"),
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
            (r#"date_time("UTC")"#, r#"" ""#, "null"),
            (r#"date_time("UTC"; "%m/%d/%Y")"#, r#""01/02/2026""#, r#""2026-01-02T00:00:00+00:00""#),
            (r#"date_time("Europe/Berlin")"#, "20261231235959", r#""2026-12-31T23:59:59+01:00""#),
            ("$headers[\"x-kind\"]", "null", r#""opened""#),
            ("$received_at", "null", r#""2026-10-01T12:00:00Z""#),
            ("$amqp.routing_key / \".\" | last", "null", r#""ended""#),
            ("$amqp.app_id", "null", "null"),
            ("$amqp.timestamp", "null", "7"),
            // The value of a number does not change on the way.
            (".", "1234567890123456789012.50", "1234567890123456789012.50"),
        ]);
        fails(&[
            (r#"date_time("Europe/Berlin")"#, r#""yesterday""#),
            (r#"date_time("Europe/Berlin")"#, "46387"),
            (r#"date_time("UTC")"#, r#""31.12.26""#),
            (r#"date_time("UTC")"#, r#""01/02/2026""#),
            (r#"date_time("Europe/Atlantis")"#, r#""01.10.2026""#),
            ("\"//4=\" | @base64d | tobytes | tostring", "1"),
            ("error(\"no\")", "1"),
            ("halt", "1"),
        ]);
    }

    #[test]
    fn a_message_that_is_no_utf8_is_refused_and_never_changed() {
        let program = Program::compile("map.jq", ".").unwrap_or_else(|errors| panic!("{errors:?}"));
        let run = |message: &[u8]| program.run(message, &Variables::default(), BOUNDS);
        assert_eq!(run(b"\xef\xbb\xbf\"a\""), Ok(vec![r#""a""#.to_owned()]));
        for message in [&b"\"K\xfc1\""[..], b"\xff\xfe\"\0a\0\"\0", b"\x1f\x8b\x08"] {
            assert!(matches!(run(message), Err(ProgramFault::Failed(why)) if why.contains("not UTF-8")), "{message:?}");
        }
    }

    #[test]
    fn what_a_helper_says_is_told_apart_from_what_jq_says() {
        for (code, message, is_own) in [
            ("zip_code(5)", "true", true),
            ("country_code", r#""Jane""#, true),
            ("text", "[]", true),
            (r#"date_time("Europe/Berlin")"#, r#""Jane""#, true),
            (r#"date_time("Europe/Berlin")"#, "true", true),
            (".a", r#""Jane""#, false),
            ("error(.)", r#""Jane""#, false),
            (r#"error("date_time: \(.)")"#, r#""Jane""#, false),
            (r#"date_time("UTC")"#, r#""31.12.26""#, true),
            ("text", "{}", true),
            (r#"zip_code("Jane")"#, "1067", true),
            ("zip_code(99)", "1067", true),
            ("zip_code(5)", r#""1067,5""#, true),
            ("zip_code(5)", "-1067", true),
            ("zip_code(5)", "0", true),
            ("zip_code(5)", "7", true),
            ("text", r##""#N/A""##, true),
            (r#"date_time("Europe/Jane")"#, "1", true),
        ] {
            let Err(ProgramFault::Failed(why)) = run_on(code, message) else { panic!("{code} did not fail") };
            assert_eq!((is_a_helpers(&why), why.contains("Jane")), (is_own, !is_own), "{code}: {why}");
        }
    }

    #[test]
    fn a_message_that_nests_too_deep_is_refused_before_it_is_read() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(run_on("1", &nested(DEPTH_MAX)), Ok(vec!["1".to_owned()]));
        for depth in [DEPTH_MAX + 1, 500_000] {
            assert!(matches!(run_on("1", &nested(depth)), Err(ProgramFault::Failed(_))), "{depth}");
        }
        let brackets_in_a_text = format!("[\"\\\"{}\"]", "[".repeat(500));
        assert_eq!(run_on("length", &brackets_in_a_text), Ok(vec!["1".to_owned()]));
    }

    #[test]
    fn none_one_or_many_come_out_and_not_more_than_may() {
        assert_eq!(run_on("empty", "1"), Ok(vec![]));
        assert_eq!(run_on(".[]", "[1,2]"), Ok(vec!["1".to_owned(), "2".to_owned()]));
        assert_eq!(run_on("range(11)", "1"), Err(ProgramFault::TooMuch));
        assert_eq!(run_on("[range(10000)]", "1"), Err(ProgramFault::TooMuch));
    }

    #[test]
    fn what_is_wrong_is_named_with_file_line_and_column() {
        for (code, expected) in [
            ("{\n  type: \"a\",\n  data: .x |\n}", "map.jq:4:1: expected"),
            ("{ a: (1", "map.jq:1:8: expected closing parenthesis"),
            ("\n  zip_cod(5)", "map.jq:2:3: undefined filter zip_cod"),
            ("$header", "map.jq:1:1: undefined variable $header"),
            // A byte order mark is no column.
            ("\u{feff}$header", "map.jq:1:1: undefined variable $header"),
            ("# a comment\r\n.a |\r\n$header", "map.jq:3:1: undefined variable $header"),
        ] {
            let errors = Program::compile("map.jq", code).err().unwrap_or_else(|| panic!("{code} compiles"));
            assert!(errors.iter().any(|error| error.starts_with(expected)), "{code}: {errors:?}");
        }
    }
}
