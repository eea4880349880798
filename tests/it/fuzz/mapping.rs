//! A sender's own JSON in the programs of the examples and the bridge's helpers; and programs that are wrong in every way, in the
//! real workers.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use podero_bridge::clock::Clock;
use podero_bridge::config::{Map, Source, Types, Verify};
use podero_bridge::domain::event::Transport;
use podero_bridge::inbound::mapping::mapper::{MapError, Mapper};
use podero_bridge::inbound::mapping::{self, OutputBounds, Program, ProgramFault, Variables};
use podero_bridge::inbound::{Delivery, signature};
use serde::de::IgnoredAny;

use super::door::{place_of, received_at, translated};
use super::mutator::Mutator;
use super::{Input, MILLIS_MAX, Outcome, Target, WORKER_STACK_BYTES};

const BOUNDS: OutputBounds = OutputBounds { outputs: 100, bytes: 2 << 20 };
/// Limit of a message: the interpreter is no parser of megabytes, so a message at the webhook's bound may take its worker the two
/// seconds that it has.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Limit of a program: a person wrote it by hand.
const PROGRAM_BYTES_MAX: usize = 4 << 10;

/// Programs next to the two examples: each helper by itself, over anything in the message.
const HELPERS: [&str; 10] = [
    ".. | zip_code(5)?",
    ".. | zip_code?",
    "first(.. | strings) as $country | .. | zip_code($country)?",
    ".. | text?",
    "(.. | arrays | join_given(\" \")?), (.. | is_given)",
    ".. | country_code?",
    r#".. | date_time("Europe/Berlin")?"#,
    "first(.. | strings) as $zone | .. | date_time($zone)?",
    ".. | property_type?",
    "(.. | given?), $headers, $received_at",
];

fn folder(name: &str) -> PathBuf {
    PathBuf::from(format!("{}/deploy/mappings/{name}", env!("CARGO_MANIFEST_DIR")))
}

fn example(name: &str) -> (String, Vec<Vec<u8>>) {
    let mut messages: Vec<PathBuf> = std::fs::read_dir(folder(name))
        .expect("it is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().ends_with(".input.json"))
        .collect();
    messages.sort();
    let code = std::fs::read_to_string(folder(name).join("map.jq")).expect("it is there");
    (code, messages.into_iter().map(|path| std::fs::read(path).expect("it is there")).collect())
}

/// A message and the program that it is for.
#[derive(Clone, Debug)]
struct Message {
    program: usize,
    headers: BTreeMap<String, String>,
    body: Bytes,
}

impl Input for Message {
    fn mutated(&self, other: &Self, mutator: &mut Mutator) -> Self {
        let mut message = self.clone();
        if mutator.once_in(4) {
            message.program = mutator.below(HELPERS.len() + 2);
        }
        if mutator.once_in(16) {
            let value = mutator.text("opened", "m1");
            message.headers.insert(mutator.one_of(&["x-kind", "webhook-id", "idempotency-key"]).to_owned(), value);
        }
        let mut body = mutator.body(&self.body, &other.body);
        body.truncate(MESSAGE_BYTES_MAX);
        message.body = body.into();
        message
    }

    fn bytes(&self) -> usize {
        self.body.len()
    }
}

fn map(message: &Message, programs: &[Program]) -> Outcome {
    // As the webhook endpoint does: a body that is no JSON comes to no program.
    if serde_json::from_slice::<IgnoredAny>(&message.body).is_err() {
        return Outcome::refused("no JSON");
    }
    let number = message.program;
    let variables = Variables {
        headers: message.headers.clone(),
        received_at: "2026-10-01T12:00:01Z".to_owned(),
        amqp: serde_json::json!({"routing_key": "customer.moved"}),
    };
    let outputs = match programs[number].run(&message.body, &variables, BOUNDS) {
        Ok(outputs) => outputs,
        Err(ProgramFault::TooMuch) => return Outcome::refused(format!("{number}: too much")),
        Err(ProgramFault::Failed(why)) => {
            // Up to where it quotes the message.
            let place: String =
                why.chars().take_while(|letter| letter.is_alphabetic() || "_: ".contains(*letter)).collect();
            return Outcome::refused(format!("{number}: {place}"));
        }
    };
    assert!(outputs.len() <= BOUNDS.outputs && outputs.iter().map(String::len).sum::<usize>() <= BOUNDS.bytes);
    let read: Result<Vec<_>, _> = outputs.iter().map(|output| serde_json::from_str(output)).collect();
    // A program may give what only jq can read; its worker says so.
    let Ok(values) = read else { return Outcome::refused(format!("{number}: no JSON comes out")) };
    let delivery = Delivery {
        transport: Transport::Http,
        source: "billing".into(),
        content_type: None,
        headers: message.headers.clone(),
        body: message.body.to_vec(),
        received_at: received_at(),
    };
    let verified = signature::verify(&Verify::None, delivery, received_at()).expect("nothing is asked for");
    let message_id = verified.name().map(str::to_owned);
    let (mut is_accepted, mut places) = (true, Vec::new());
    let own = mapping::Message::own(&verified, message_id.as_deref(), &[]);
    for envelope in mapping::envelopes(&own, "billing", values) {
        let told = translated(envelope).map_err(|problem| place_of(&problem));
        is_accepted &= told.is_ok();
        places.push(told.unwrap_or_else(|place| place));
    }
    places.sort();
    places.dedup();
    places.truncate(2);
    let place = format!("{number}: {}", places.join(", "));
    if is_accepted { Outcome::accepted(place) } else { Outcome::refused(place) }
}

/// A program gives events or a fault for every message.
#[test]
fn fuzz_helpers_every_message_gives_events_or_a_fault() {
    let examples = ["billing", "crm"].map(example);
    let examples_count = examples.len();
    let mut corpus = Vec::new();
    for (program, (_, messages)) in examples.into_iter().enumerate() {
        for body in messages {
            corpus.push(Message { program, headers: BTreeMap::new(), body: body.into() });
        }
    }
    let values = r#"{"at": ["01.10.2026 14:05", "20261201", 1790856000000, "2026-12-01T08:30:15.250", "Europe/Berlin"],
        "zip": [1067, "01067"], "country": ["Deutschland", "aut", null], "type": "Einfamilienhaus", "n": 1234567890123456789012.5}"#;
    for depth in [100, 100_000] {
        let body = [b"[".repeat(depth), b"]".repeat(depth)].concat();
        corpus.push(Message { program: 0, headers: BTreeMap::new(), body: body.into() });
    }
    for program in 0..HELPERS.len() + examples_count {
        corpus.push(Message { program, headers: BTreeMap::new(), body: values.into() });
    }
    let mut target = Target::new("helpers", WORKER_STACK_BYTES);
    target.inputs /= HELPERS_SHARE;
    target.run(corpus, |message| PROGRAMS.with(|programs| map(message, programs)));
}

std::thread_local! {
    /// A program belongs to the thread that compiled it.
    static PROGRAMS: Vec<Program> = codes().iter().map(|code| compiled(code)).collect();
}

fn codes() -> Vec<String> {
    let examples = ["billing", "crm"].map(example).into_iter().map(|(code, _)| code);
    examples.chain(HELPERS.map(str::to_owned)).collect()
}

fn compiled(code: &str) -> Program {
    Program::compile("map.jq", code).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// Words of programs.
const WORDS: [&[u8]; 56] = [
    b"|",
    b",",
    b"(",
    b")",
    b"[",
    b"]",
    b"{",
    b"}",
    b".",
    b"..",
    b".[]",
    b"?",
    b"//",
    b":",
    b";",
    b"\"",
    b"\\(",
    b"as $x |",
    b"$x",
    b"$headers",
    b"$received_at",
    b"def f: ",
    b"f",
    b"reduce .[] as $x (0; ",
    b"foreach ",
    b"if ",
    b" then ",
    b" elif ",
    b" else ",
    b" end",
    b"try ",
    b" catch ",
    b"label $l | ",
    b"break $l",
    b"limit(3; ",
    b"first(",
    b"repeat(",
    b"recurse(",
    b"range(infinite)",
    b"range(1e9)",
    b"[range(1e9)]",
    b"until(false; .)",
    b"\"x\" * 1e9",
    b"implode",
    b"explode",
    b"tojson",
    b"fromjson",
    b"test(\"(a*)*b\")",
    b"ltrimstr(",
    b"input",
    b"halt",
    b"env",
    b"zip_code(1e9)",
    b"date_time(",
    b"#",
    b"@base64d",
];

/// The text of a program.
#[derive(Clone, Debug)]
struct Code(String);

impl Input for Code {
    fn mutated(&self, other: &Self, mutator: &mut Mutator) -> Self {
        let mut bytes = mutator.bytes(self.0.as_bytes(), other.0.as_bytes(), &WORDS);
        bytes.truncate(PROGRAM_BYTES_MAX);
        Self(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// To interpret a program costs more than to read an event, and to compile one far more.
const HELPERS_SHARE: u64 = 4;
const PROGRAMS_SHARE: u64 = 20;
/// Share of the programs that compile that is also run, one in this many, since each may take its two seconds.
const RUN_ONE_IN: u64 = 20;
/// The worker's 2 s for a message, and its start, twice where it died; a machine may be busy.
const RUN_MILLIS_MAX: u64 = 15_000;

/// Every program of a source brings its messages to an end.
#[test]
fn fuzz_programs_every_program_comes_to_an_end() {
    let mut corpus: Vec<Code> = codes().into_iter().map(Code).collect();
    corpus.extend(
        [
            "def forever: forever; forever",
            "def deep: 1 + deep; deep",
            "[range(1e12)]",
            "reduce range(60) as $n (\"x\"; . + .)",
            "last(repeat(try error(\"again\") catch .))",
            "[limit(5; recurse(.[]?))] | map(tojson | fromjson) | {type: \"a\", data: .[0]}",
            "foreach (.. | numbers) as $n (0; . + $n; [., $n]) | @json",
            "label $out | .[] | if . == 1 then break $out else . end",
            "$headers[\"x-kind\"] // $received_at | explode | implode | test(\"a+\"; \"x\")",
        ]
        .map(|code| Code(code.to_owned())),
    );
    // Each nests by an operator or a word alone.
    corpus.extend(
        [("try ", "."), ("-", "1"), ("1+", "1"), ("1,", "1"), ("[", ""), (".|", ".")]
            .map(|(unit, end)| Code(unit.repeat((PROGRAM_BYTES_MAX - end.len()) / unit.len()) + end)),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut target = Target::new("programs", WORKER_STACK_BYTES);
    target.inputs = (target.inputs / PROGRAMS_SHARE).max(corpus.len() as u64);
    // Compiling has the bound of every input; a program that is run has that of its worker, for each of its messages.
    target.millis_max = 2 * RUN_MILLIS_MAX;
    let clock = Clock::system();
    let compiled = Cell::new(0_u64);
    target.run(corpus, move |Code(code)| {
        let began = clock.now();
        let program = Program::compile("map.jq", code);
        assert!(clock.now().since(began) <= Duration::from_millis(MILLIS_MAX), "to compile it takes too long");
        if let Err(errors) = program {
            assert!(!errors.is_empty());
            let place = errors[0].trim_start_matches(|letter: char| !letter.is_ascii_whitespace());
            let place: String = place.split(", found").next().unwrap_or_default().chars().take(24).collect();
            return Outcome::refused(place);
        }
        compiled.set(compiled.get() + 1);
        if compiled.get().is_multiple_of(RUN_ONE_IN) {
            runtime.block_on(run(code));
        }
        Outcome::accepted(format!("compiles {}", compiled.get()))
    });
}

async fn run(code: &str) {
    let source = |name: &str, code: &str| {
        let map = Some(Map { path: "map.jq".to_owned(), code: code.to_owned() });
        Source { name: name.to_owned(), verify: Verify::None, map, types: Types::default(), tells_receipt: true }
    };
    let sources = [source("wild", code), source("tame", ".")];
    let mapper = Mapper::new(&sources, env!("CARGO_BIN_EXE_podero-bridge").into(), BOUNDS.outputs, BOUNDS.bytes);
    let clock = Clock::system();
    for message in ["{\"a\": [1, 2.5, \"x\", null, {\"b\": \"01.10.2026\"}]}", "[]"] {
        let began = clock.now();
        let headers = BTreeMap::from([("x-kind".to_owned(), "opened".to_owned())]);
        let variables = Variables { headers, received_at: "2026-10-01T12:00:01Z".to_owned(), ..Variables::default() };
        let ended = mapper.map("wild", variables, message.as_bytes()).await;
        assert_ne!(ended.err(), Some(MapError::NoWorker), "its worker does not start");
        assert!(clock.now().since(began) <= Duration::from_millis(RUN_MILLIS_MAX));
        let next = mapper.map("tame", Variables::default(), b"[1]").await;
        assert_eq!(next, Ok(vec![serde_json::json!([1])]), "the next message of another source is none the worse");
    }
}
