//! A file of events, line by line: NDJSON, or CSV whose records become JSON objects.
//!
//! Whatever stands in the file, it ends nothing and takes no more memory than a line may have: what is too long is passed
//! over, and what is no text, or does not fit its header, is told as a problem of its line. A place between two lines
//! can be returned to.
//!
//! Before: the command `import`. After: [`super::import`].

use std::collections::BTreeSet;
use std::io::{self, BufRead, Seek, SeekFrom};

use bytes::Bytes;
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::import::too_large;
use super::problem::{Problem, ProblemKind};

/// Of a line that is too long so much is kept, to be found again by.
const CUT_BYTES: usize = 1 << 10;

/// Fields of a record, and of a header: beyond this it is no table of customers.
const FIELDS_MAX: usize = 4_096;

/// What programs of Microsoft write in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How events stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON value on each line.
    Ndjson,
    /// A header, then a record on each line, or on several where a text is quoted.
    Csv {
        /// Between two fields.
        delimiter: u8,
    },
}

/// Between two lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Bytes before it.
    pub offset: u64,
    /// Number of the line after it, from 1.
    pub line: u64,
}

/// A line of NDJSON, or a record of CSV.
#[derive(Debug)]
pub struct Line {
    /// Number of its first line, from 1.
    pub number: u64,
    /// As it stands in the file; cut if it is too long.
    pub text: Bytes,
    /// What it is.
    pub content: Content,
}

/// What a line is.
#[derive(Debug)]
pub enum Content {
    /// An event, or something to be translated into events: JSON, if the line is what it should be.
    Body(Bytes),
    /// Nothing.
    Empty,
    /// Neither.
    Unfit(Problem),
}

/// Some lines that follow each other.
#[derive(Debug)]
pub struct Batch {
    /// In their order; none: the file ends here.
    pub lines: Vec<Line>,
    /// The place behind them.
    pub end: Place,
}

/// How much is read at once.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Of one line; `http.body_max`.
    pub line_bytes: usize,
    /// Of a batch, lines.
    pub lines: usize,
    /// Of a batch, bytes; it is passed by the last line only.
    pub bytes: usize,
}

/// Reads a file.
pub struct Lines<R> {
    file: R,
    place: Place,
    bounds: Bounds,
    table: Option<Table>,
}

/// What is known of a CSV file.
struct Table {
    parser: Reader,
    delimiter: u8,
    header: Vec<String>,
}

/// What the parser gets at once: room for as much is made for each record, so no more than a large record has.
const STEP_BYTES: usize = 4 << 10;

/// What was read up to the end of a line or a record.
#[derive(Default)]
struct Taken {
    /// All of it, or its beginning.
    raw: Vec<u8>,
    bytes: usize,
    last: Option<u8>,
    /// The fields of a record, one behind the other.
    fields: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    fields_count: usize,
    /// The file ended first.
    is_last: bool,
}

impl<R: BufRead> Lines<R> {
    /// Begins at the beginning of a file, behind the header of a table.
    pub fn open(file: R, format: Format, bounds: Bounds) -> io::Result<Self> {
        let mut lines = Self { file, place: Place { offset: 0, line: 1 }, bounds, table: None };
        if let Format::Csv { delimiter } = format {
            let mut parser = parser(delimiter);
            // The parser takes a mark that comes alone for the end of the file. One that comes in pieces is left to the header.
            if lines.file.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
                lines.pass(BYTE_ORDER_MARK.len(), 0);
            }
            while lines.skip_end_of_line()? {}
            let taken = lines.take_record(&mut parser)?.unwrap_or_default();
            let header = header(&taken, bounds.line_bytes).map_err(io::Error::other)?;
            lines.table = Some(Table { parser, delimiter, header });
        }
        Ok(lines)
    }

    /// Where the next line begins.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The next lines.
    pub fn next_batch(&mut self) -> io::Result<Batch> {
        let mut lines = Vec::new();
        let mut bytes = 0;
        while lines.len() < self.bounds.lines && bytes < self.bounds.bytes {
            let Some(line) = self.next_line()? else { break };
            bytes += line.text.len();
            if let Content::Body(body) = &line.content {
                bytes += body.len();
            }
            lines.push(line);
        }
        Ok(Batch { lines, end: self.place })
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        let number = self.place.line;
        let Some(mut table) = self.table.take() else {
            return Ok(self.take_line()?.map(|taken| self.line(number, taken)));
        };
        let read = self.next_record(&mut table, number);
        self.table = Some(table);
        read
    }

    fn next_record(&mut self, table: &mut Table, number: u64) -> io::Result<Option<Line>> {
        if self.skip_end_of_line()? {
            return Ok(Some(Line { number, text: Bytes::new(), content: Content::Empty }));
        }
        let taken = self.take_record(&mut table.parser)?;
        Ok(taken.map(|taken| {
            let content = table.object(&taken, self.bounds.line_bytes);
            Line { number, text: Bytes::from(taken.raw), content: content.map_or_else(Content::Unfit, Content::Body) }
        }))
    }

    fn line(&self, number: u64, taken: Taken) -> Line {
        let text = Bytes::from(taken.raw);
        let content = if taken.bytes > self.bounds.line_bytes {
            Content::Unfit(too_large(self.bounds.line_bytes))
        } else if std::str::from_utf8(&text).is_err() {
            Content::Unfit(Problem::new(ProblemKind::Malformed, "not UTF-8"))
        } else {
            let body = if number == 1 { text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text) } else { &text };
            let body = body.trim_ascii();
            if body.is_empty() { Content::Empty } else { Content::Body(text.slice_ref(body)) }
        };
        Line { number, text, content }
    }

    /// Up to a line feed, which is passed over.
    fn take_line(&mut self) -> io::Result<Option<Taken>> {
        let mut taken = Taken::default();
        loop {
            let buffer = self.file.fill_buf()?;
            let (used, is_end) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            if used == 0 && taken.bytes == 0 {
                return Ok(None);
            }
            let has_feed = is_end && used > 0;
            taken.keep(&buffer[..used - usize::from(has_feed)], self.bounds.line_bytes);
            self.pass(used, u64::from(has_feed));
            if is_end {
                return Ok(Some(taken));
            }
        }
    }

    /// Up to the end of a record, as the parser sees it, and of its line.
    fn take_record(&mut self, parser: &mut Reader) -> io::Result<Option<Taken>> {
        let mut taken = Taken::default();
        let bytes_max = self.bounds.line_bytes;
        loop {
            let buffer = self.file.fill_buf()?;
            let buffer = &buffer[..buffer.len().min(STEP_BYTES)];
            taken.is_last = buffer.is_empty();
            // A byte of a file is at most a byte, or an end, of a field.
            let (at, end) = (taken.fields.len(), taken.ends.len());
            taken.fields.resize(at + buffer.len() + 1, 0);
            taken.ends.resize(end + buffer.len() + 1, 0);
            let (result, used, written, ended) =
                parser.read_record(buffer, &mut taken.fields[at..], &mut taken.ends[end..]);
            taken.fields.truncate(at + written);
            taken.ends.truncate(end + ended);
            taken.fields_count += ended;
            let newlines = buffer[..used].iter().filter(|byte| **byte == b'\n').count();
            taken.keep(&buffer[..used], bytes_max);
            self.pass(used, u64::try_from(newlines).unwrap_or(u64::MAX));
            if taken.bytes > bytes_max || taken.fields_count > FIELDS_MAX {
                taken.fields.clear();
                taken.ends.clear();
            }
            match result {
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::Record => break,
                ReadRecordResult::InputEmpty | ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {}
            }
        }
        if taken.last == Some(b'\r') && !self.skip_feed()? {
            self.place.line += 1;
        }
        Ok(Some(taken))
    }

    /// Whether there was an end of a line, which is passed over.
    fn skip_end_of_line(&mut self) -> io::Result<bool> {
        match self.file.fill_buf()?.first() {
            Some(b'\n') => self.skip_feed(),
            Some(b'\r') => {
                self.pass(1, 0);
                if !self.skip_feed()? {
                    self.place.line += 1;
                }
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }

    fn skip_feed(&mut self) -> io::Result<bool> {
        let is_there = self.file.fill_buf()?.first() == Some(&b'\n');
        if is_there {
            self.pass(1, 1);
        }
        Ok(is_there)
    }

    fn pass(&mut self, bytes: usize, newlines: u64) {
        self.file.consume(bytes);
        self.place.offset += u64::try_from(bytes).unwrap_or(u64::MAX);
        self.place.line += newlines;
    }
}

impl<R: BufRead + Seek> Lines<R> {
    /// Goes on from a place in the same file.
    pub fn go_to(&mut self, place: Place) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(place.offset))?;
        self.place = place;
        Ok(())
    }
}

impl Taken {
    /// Keeps of it what may be needed.
    fn keep(&mut self, bytes: &[u8], bytes_max: usize) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        self.last = bytes.last().copied().or(self.last);
        if self.bytes > bytes_max {
            let room = CUT_BYTES.saturating_sub(self.raw.len());
            self.raw.extend_from_slice(&bytes[..room.min(bytes.len())]);
            self.raw.truncate(CUT_BYTES);
        } else {
            self.raw.extend_from_slice(bytes);
        }
    }

    /// Each field; `None`: one is no text.
    fn texts(&self) -> Option<Vec<&str>> {
        let mut begin = 0;
        let texts = self.ends.iter().map(|end| {
            let field = std::str::from_utf8(&self.fields[begin..*end]).ok();
            begin = *end;
            field
        });
        texts.collect()
    }
}

impl Table {
    /// A record as JSON: each field is a text, so that a ZIP code keeps its zeros.
    fn object(&self, taken: &Taken, bytes_max: usize) -> Result<Bytes, Problem> {
        let malformed = |detail: String| Err(Problem::new(ProblemKind::Malformed, detail));
        if taken.bytes > bytes_max {
            let Problem { kind, detail, .. } = too_large(bytes_max);
            let detail = format!("{detail}; this record has {}: is a quote not closed?", taken.bytes);
            return Err(Problem::new(kind, detail));
        }
        if taken.is_last && self.is_open(&taken.raw) {
            return malformed("a quote is not closed, so all that follows is part of this record".to_owned());
        }
        if taken.fields_count != self.header.len() {
            let (found, wanted) = (taken.fields_count, self.header.len());
            return malformed(format!("{found} fields, and {wanted} in the header"));
        }
        let Some(texts) = taken.texts() else { return malformed("not UTF-8".to_owned()) };
        let fields = self.header.iter().zip(texts);
        let object: Map<String, Value> = fields.map(|(name, text)| (name.clone(), text.into())).collect();
        Ok(Bytes::from(Value::Object(object).to_string()))
    }

    /// Whether what the end of the file ended would have gone on.
    fn is_open(&self, raw: &[u8]) -> bool {
        let line = [raw, b"\n"].concat();
        let (mut fields, mut ends) = (vec![0; line.len()], vec![0; line.len() + 1]);
        let (result, ..) = parser(self.delimiter).read_record(&line, &mut fields, &mut ends);
        result != ReadRecordResult::Record
    }
}

fn parser(delimiter: u8) -> Reader {
    ReaderBuilder::new().delimiter(delimiter).build()
}

/// The names of a table's fields, or what is wrong with them.
fn header(taken: &Taken, bytes_max: usize) -> Result<Vec<String>, String> {
    if taken.bytes > bytes_max || taken.fields_count > FIELDS_MAX {
        return Err(format!("the header has more than {bytes_max} bytes (http.body_max), or {FIELDS_MAX} fields"));
    }
    let texts = taken.texts().ok_or("the header is not UTF-8: save the file as CSV UTF-8")?;
    let names: Vec<String> = texts.iter().map(|text| text.trim_start_matches('\u{feff}').trim().to_owned()).collect();
    if names.iter().all(String::is_empty) {
        return Err("there is no header: the first line names the fields".to_owned());
    }
    let mut known = BTreeSet::new();
    // By its number: a file without a header has a customer's words in its first line.
    match names.iter().position(|name| name.is_empty() || !known.insert(name)) {
        Some(at) => Err(format!("in the header the name of column {} is empty, or there twice", at + 1)),
        None => Ok(names),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const BOUNDS: Bounds = Bounds { line_bytes: 40, lines: 1, bytes: 1 << 20 };
    const CSV: Format = Format::Csv { delimiter: b';' };

    fn open(text: &[u8], format: Format) -> Lines<BufReader> {
        // A small buffer, so that every line spans several.
        Lines::open(BufReader::with_capacity(3, Cursor::new(text.to_vec())), format, BOUNDS).expect("a header")
    }

    type BufReader = std::io::BufReader<Cursor<Vec<u8>>>;

    /// Number of the line and what it is, for each, and the place behind it.
    fn rest(lines: &mut Lines<BufReader>) -> Vec<(u64, String, Place)> {
        let mut found = Vec::new();
        loop {
            let Batch { lines: mut some, end } = lines.next_batch().expect("memory can be read");
            let Some(line) = some.pop() else { return found };
            let content = match line.content {
                Content::Body(body) => String::from_utf8_lossy(&body).into_owned(),
                Content::Empty => "empty".to_owned(),
                Content::Unfit(problem) => problem.line(),
            };
            found.push((line.number, content, end));
        }
    }

    /// What a file holds, from its beginning and from each place in it.
    fn check(text: &[u8], format: Format, expected: &[(u64, &str)]) {
        let all = rest(&mut open(text, format));
        let seen: Vec<(u64, &str)> = all.iter().map(|(number, content, _)| (*number, content.as_str())).collect();
        assert_eq!(seen, expected, "{:?}", String::from_utf8_lossy(text));
        for (index, (.., place)) in all.iter().enumerate() {
            let mut again = open(text, format);
            again.go_to(*place).expect("it is there");
            assert_eq!(rest(&mut again), all[index + 1..], "from {place:?}");
        }
    }

    #[test]
    fn lines_of_json_have_a_bound_and_end_in_one_way_or_the_other() {
        check(b"", Format::Ndjson, &[]);
        check(b"{}", Format::Ndjson, &[(1, "{}")]);
        check(b"\xef\xbb\xbf {}\r\n\n \t\n[1]\n", Format::Ndjson, &[(1, "{}"), (2, "empty"), (3, "empty"), (4, "[1]")]);
        check(b"\xff\n{}\n", Format::Ndjson, &[(1, "malformed: not UTF-8"), (2, "{}")]);
        let long = [vec![b'x'; 41], b"\n{}".to_vec()].concat();
        check(&long, Format::Ndjson, &[(1, "too-large: a line has at most 40 bytes (http.body_max)"), (2, "{}")]);
    }

    #[test]
    fn records_become_objects_of_texts() {
        let text = "\u{feff}zip;\"na;me\"\r\n\r\n01067;\"A\nB \"\"C\"\"\"\r\n1;\n";
        check(
            text.as_bytes(),
            CSV,
            &[
                (2, "empty"),
                (3, "{\"na;me\":\"A\\nB \\\"C\\\"\",\"zip\":\"01067\"}"),
                (5, "{\"na;me\":\"\",\"zip\":\"1\"}"),
            ],
        );
        check(b"a\rb\rc", CSV, &[(2, "{\"a\":\"b\"}"), (3, "{\"a\":\"c\"}")]);
    }

    #[test]
    fn a_record_that_does_not_fit_is_told_and_ends_nothing() {
        check(
            b"a;b\n1\n1;2;3\n\xff;2\n1;2\n",
            CSV,
            &[
                (2, "malformed: 1 fields, and 2 in the header"),
                (3, "malformed: 3 fields, and 2 in the header"),
                (4, "malformed: not UTF-8"),
                (5, "{\"a\":\"1\",\"b\":\"2\"}"),
            ],
        );
        let open = "malformed: a quote is not closed, so all that follows is part of this record";
        check(b"a;b\n1;\"2\n3;4\n", CSV, &[(2, open)]);
        check(b"a;b\n1;\"2\"", CSV, &[(2, "{\"a\":\"1\",\"b\":\"2\"}")]);
        let long = [&b"a\n\""[..], &[b'\n'; 60], b"\"\r\n2\r\n"].concat();
        let told = "too-large: a line has at most 40 bytes (http.body_max); this record has 63: is a quote not closed?";
        check(&long, CSV, &[(2, told), (63, "{\"a\":\"2\"}")]);
    }

    #[test]
    fn a_header_names_each_field_once() {
        for (text, word) in [(&b""[..], "no header"), (b"a;a\n", "twice"), (b"a;\n", "empty"), (b"\xff\n", "UTF-8")] {
            let opened = Lines::open(Cursor::new(text.to_vec()), CSV, BOUNDS);
            let error = opened.err().expect("it is refused").to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
