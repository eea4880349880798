//! Files of events: tables as spreadsheets and scripts write them, and NDJSON. In every file each line is something, none is read
//! twice, and a reader that comes back to a place finds what was behind it.

use std::io::{BufReader, Cursor};

use podero_bridge::inbound::lines::{Format, LineBounds, LineContent, LineReader, Position};
use podero_bridge::problem::Problem;
use serde_json::{Map, Value};

use super::mutator::Mutator;
use super::{Input, Outcome, STACK_BYTES, Target};

/// Limit of a file: more makes no other state of the reader than more lines do.
const FILE_BYTES_MAX: usize = 16 << 10;
/// `http.body_max` of this target, small enough for lines to pass it.
const LINE_BYTES_MAX: usize = 1 << 10;
/// Minimum of the bytes that the reader gets at once: a form is known by its first four bytes, and a pipe gives no fewer.
const STEP_MIN: usize = 4;
/// Limit of the text of a line's problem.
const PROBLEM_BYTES_MAX: usize = 400;

/// Pieces of tables.
const WORDS: [&[u8]; 36] = [
    b";",
    b",",
    b"\t",
    b"|",
    b"\"",
    b"\"\"",
    b"\";\"",
    b"\"\n",
    b"\n\"",
    b"\n",
    b"\r\n",
    b"\r",
    b"\n\n",
    b";;;;;;\n",
    b" ; ; \n",
    b"sep=;\n",
    b"sep=,\r\n",
    b"SEP=\t",
    b"\"sep=;\"\n",
    b"sep=",
    b"=\"01067\"",
    b"\"=\"\"01067\"\"\"",
    b"#NV",
    b"#REF!",
    b"######",
    b"4,71E+11",
    b"1067,0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x1f\x8b",
    b"\0",
    b"\x1a",
    b"\xc2\xa0",
    b"\xfc",
    b"Kundennummer",
    b"{\"specversion\":\"1.0\"}\n",
];

/// A file, and how it is said to be.
#[derive(Clone, Debug)]
struct Table {
    format: Format,
    /// Bytes that the reader gets at once.
    step: usize,
    bytes: Vec<u8>,
}

impl Input for Table {
    fn mutated(&self, other: &Self, mutator: &mut Mutator) -> Self {
        let mut table = self.clone();
        if mutator.once_in(8) {
            let delimiters = [b";", b",", b"\t", b"|", b" ", b"\"", b"a", b"\n"];
            let delimiter = mutator.one_of(&delimiters.map(|one| &one[..]))[0];
            table.format = if mutator.once_in(4) { Format::Ndjson } else { Format::Csv { delimiter } };
        }
        if mutator.once_in(8) {
            table.step = STEP_MIN + mutator.below(64);
        }
        table.bytes = mutator.bytes(&self.bytes, &other.bytes, &WORDS);
        table.bytes.truncate(FILE_BYTES_MAX);
        table
    }

    fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

type Reader<'a> = LineReader<BufReader<Cursor<&'a [u8]>>>;

fn open(table: &Table) -> std::io::Result<Reader<'_>> {
    let file = BufReader::with_capacity(table.step, Cursor::new(&table.bytes[..]));
    LineReader::open(file, table.format, LineBounds { line_bytes: LINE_BYTES_MAX, lines: 3, bytes: 4 << 10 })
}

/// Each line: its number, what it is, and the place behind its batch.
fn rest(lines: &mut Reader<'_>, bytes: usize) -> Vec<(u64, String, Position)> {
    let mut found = Vec::new();
    loop {
        let batch = lines.next_batch().expect("memory can be read");
        if batch.lines.is_empty() {
            return found;
        }
        for line in batch.lines {
            found.push((line.number, what(&line.content), batch.end));
        }
        assert!(found.len() <= bytes, "each line has a byte");
    }
}

fn what(content: &LineContent) -> String {
    match content {
        LineContent::Empty => "empty".to_owned(),
        LineContent::Body(body) => {
            assert!(body.len() <= 8 * LINE_BYTES_MAX + FIELDS_BYTES_MAX, "{} bytes", body.len());
            format!("body {}", std::str::from_utf8(body).expect("a body is text"))
        }
        LineContent::Unreadable(problem) => told(problem),
    }
}

/// Names of columns are repeated in each body.
const FIELDS_BYTES_MAX: usize = 8 * LINE_BYTES_MAX;

fn told(problem: &Problem) -> String {
    let line = problem.line();
    assert!(line.len() <= PROBLEM_BYTES_MAX, "{line}");
    line
}

fn read(table: &Table) -> Outcome {
    let mut lines = match open(table) {
        Ok(lines) => lines,
        // By its beginning: the delimiter that is proposed is a part of it.
        Err(error) => return Outcome::refused(error.to_string().chars().take(40).collect::<String>()),
    };
    let begin = lines.position();
    let all = rest(&mut lines, table.bytes.len());
    assert!(lines.position().offset <= table.bytes.len() as u64);
    assert!(all.is_sorted_by_key(|(number, ..)| *number), "lines have the order of the file");
    for (_, content, _) in &all {
        if let (Format::Csv { .. }, Some(body)) = (table.format, content.strip_prefix("body ")) {
            let object: Map<String, Value> = serde_json::from_str(body).expect("a record is an object");
            assert!(object.values().all(Value::is_string) && !object.is_empty(), "{body}");
            assert!(object.values().any(|cell| !cell.as_str().unwrap_or_default().trim().is_empty()), "{body}");
        }
    }
    // From each place the rest is the same, also with another rhythm of reading.
    for place in [begin, all.get(all.len() / 2).map_or(begin, |(.., place)| *place)] {
        let other = Table { step: 61, ..table.clone() };
        let mut again = open(&other).expect("it was opened before");
        again.go_to(place).expect("it is there");
        let expected: Vec<_> =
            all.iter().filter(|(.., end)| end.offset > place.offset).map(|(_, content, _)| content).collect();
        let found = rest(&mut again, table.bytes.len());
        assert_eq!(found.iter().map(|(_, content, _)| content).collect::<Vec<_>>(), expected, "from {place:?}");
    }
    let mut kinds: Vec<String> = all
        .iter()
        .map(|(_, content, _)| if content.starts_with("body") { "body" } else { content })
        .map(|content| content.chars().filter(|letter| !letter.is_ascii_digit()).take(48).collect())
        .collect();
    kinds.sort();
    kinds.dedup();
    kinds.truncate(3);
    let place = format!("{} {}", matches!(table.format, Format::Ndjson), kinds.join(", "));
    let is_read = all.iter().all(|(_, content, _)| content == "empty" || content.starts_with("body"));
    if is_read { Outcome::accepted(place) } else { Outcome::refused(place) }
}

/// Each line of every file is something and none is read twice.
#[test]
fn fuzz_tables_each_line_of_any_file_is_read_once() {
    let csv = |delimiter| Format::Csv { delimiter };
    let header = "Kundennummer;EMail;Strasse;PLZ;Ort;Land;Beginn";
    let rows = "K1;k1@example.com;\"Weg 1\nHinterhaus\";01067;Dresden;Deutschland;01.10.2026\n";
    let corpus = [
        (csv(b';'), format!("{header}\n{rows}{rows}").into_bytes()),
        (csv(b';'), format!("\u{feff}sep=;\r\n{header};\r\n{rows};;;;;;;\r\n").into_bytes()),
        (csv(b','), format!("{header}\n{rows}").into_bytes()),
        (csv(b';'), b"a;b\n\"=\"\"01067\"\"\";#NV\n\"Haus \"Sonne\" 3\";2\n1;2;;;\n".to_vec()),
        (csv(b'\t'), b"a\tb\n1\t\"2\n\"\n\n\t\n".to_vec()),
        (csv(b','), b"a,b\r1,2\r3,4".to_vec()),
        (Format::Ndjson, b"\xef\xbb\xbf{\"specversion\":\"1.0\"}\r\n\n[1]\n{\n\xff\n".to_vec()),
        (Format::Ndjson, [vec![b'x'; 2 * LINE_BYTES_MAX], b"\n{}".to_vec()].concat()),
        (csv(b';'), [b"a\n\"".to_vec(), vec![b'\n'; 2 * LINE_BYTES_MAX], b"\"\r\n2\r\n".to_vec()].concat()),
    ];
    let corpus = corpus.into_iter().map(|(format, bytes)| Table { format, step: 4 << 10, bytes }).collect();
    Target::new("tables", STACK_BYTES).run(corpus, read);
}
