//! A file of events, line by line: NDJSON, or CSV whose records become JSON objects.
//!
//! No content of the file ends the reading or takes more memory than a line may have: a line that is too long is passed over,
//! and one that is no text, or does not fit its header, becomes a problem of its line. The reader can return to a position
//! between two lines. A table is read as Excel writes it, with its empty rows and columns; a cell that a spreadsheet has
//! damaged, and a misplaced quote, are problems of their line.
//!
//! Before: the command `import`. After: [`super::import`].

use std::collections::BTreeSet;
use std::io::{self, BufRead, Seek, SeekFrom};

use bytes::Bytes;
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::cells;
use super::import::too_large;
use crate::domain::utf8::{self, BYTE_ORDER_MARK};
use crate::problem::{Problem, ProblemKind};

/// Limit of the bytes that are kept of a line that is too long, by which it can be found again.
const CUT_BYTES: usize = 1 << 10;

/// Limit of the fields of a record, and of a header: a file with more is no table of customers.
const FIELDS_MAX: usize = 4_096;

/// Delimiters that a table may have instead of the named one.
const DELIMITERS: [u8; 4] = [b';', b',', b'\t', b'|'];

/// The form of events in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON value on each line.
    Ndjson,
    /// A header, then a record on each line, or on several where a text is quoted.
    Csv {
        /// The character between two fields.
        delimiter: u8,
    },
}

/// A position between two lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The number of bytes before it.
    pub offset: u64,
    /// The number of the line after it, from 1.
    pub line: u64,
}

/// A line of NDJSON, or a record of CSV.
#[derive(Debug)]
pub struct Line {
    /// The number of its first line, from 1.
    pub number: u64,
    /// The text as it stands in the file; cut if it is too long.
    pub text: Bytes,
    /// Its content.
    pub content: LineContent,
}

/// The content of a line.
#[derive(Debug)]
pub enum LineContent {
    /// An event, or input to be translated into events: JSON, if the line is valid.
    Body(Bytes),
    /// No content.
    Empty,
    /// An unreadable line.
    Unreadable(Problem),
}

/// Some lines that follow each other.
#[derive(Debug)]
pub struct LineBatch {
    /// The lines in their order; none: the file ends here.
    pub lines: Vec<Line>,
    /// The position behind them.
    pub end: Position,
}

/// The limits of one read.
#[derive(Debug, Clone, Copy)]
pub struct LineBounds {
    /// Bytes of one line; `http.body_max`.
    pub line_bytes: usize,
    /// Lines of a batch.
    pub lines: usize,
    /// Bytes of a batch; only the last line passes it.
    pub bytes: usize,
}

/// The reader of a file.
pub struct LineReader<R> {
    file: R,
    /// Bytes that were read as the beginning of a byte order mark, and are none.
    held: &'static [u8],
    position: Position,
    bounds: LineBounds,
    table: Option<Table>,
}

/// A CSV file's parser, delimiter and header.
struct Table {
    parser: Reader,
    delimiter: u8,
    /// The names of the columns; `None`: a column without a name, which may have no cells.
    header: Vec<Option<String>>,
}

/// Limit of the bytes that the parser gets at once. Room for that number is made for each record, so it is no more than a large
/// record has.
const STEP_BYTES: usize = 4 << 10;

/// A line or a record, as it was read.
#[derive(Default)]
struct LineRead {
    /// All of its bytes, or the first of them.
    raw: Vec<u8>,
    bytes: usize,
    last: Option<u8>,
    /// The fields of a record, without separators.
    fields: Vec<u8>,
    /// The end of each field.
    ends: Vec<usize>,
    fields_count: usize,
    /// `true` if the file ended before the line did.
    is_last: bool,
}

impl<R: BufRead> LineReader<R> {
    /// Starts at the beginning of a file, behind the header of a table.
    pub fn open(file: R, format: Format, bounds: LineBounds) -> io::Result<Self> {
        let mut lines = Self { file, held: &[], position: Position { offset: 0, line: 1 }, bounds, table: None };
        if let Some(form) = utf8::other_form(lines.file.fill_buf()?) {
            return Err(io::Error::other(format!("the file is {form}")));
        }
        if let Format::Csv { mut delimiter } = format {
            let mut parser = parser(delimiter);
            let mut taken = lines.take_row(&mut parser)?;
            if let Some(named) = separator(&taken.raw) {
                // Excel's own way to name the delimiter of the file, in a line before the header.
                delimiter = named.unwrap_or(delimiter);
                parser = self::parser(delimiter);
                taken = lines.take_row(&mut parser)?;
            }
            let header = header(&taken, delimiter, bounds.line_bytes).map_err(io::Error::other)?;
            lines.table = Some(Table { parser, delimiter, header });
        }
        Ok(lines)
    }

    /// The position of the next line.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The next lines.
    pub fn next_batch(&mut self) -> io::Result<LineBatch> {
        let mut lines = Vec::new();
        let mut bytes = 0;
        while lines.len() < self.bounds.lines && bytes < self.bounds.bytes {
            let Some(line) = self.next_line()? else { break };
            bytes += line.text.len();
            if let LineContent::Body(body) = &line.content {
                bytes += body.len();
            }
            lines.push(line);
        }
        Ok(LineBatch { lines, end: self.position })
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        let number = self.position.line;
        let Some(mut table) = self.table.take() else {
            return Ok(self.take_line()?.map(|taken| self.line(number, taken)));
        };
        let read = self.next_record(&mut table, number);
        self.table = Some(table);
        read
    }

    fn next_record(&mut self, table: &mut Table, number: u64) -> io::Result<Option<Line>> {
        if self.skip_end_of_line()? {
            return Ok(Some(Line { number, text: Bytes::new(), content: LineContent::Empty }));
        }
        let taken = self.take_record(&mut table.parser)?;
        Ok(taken.map(|taken| {
            let content = match table.object(&taken, self.bounds.line_bytes) {
                Ok(Some(object)) => LineContent::Body(object),
                Ok(None) => LineContent::Empty,
                Err(problem) => LineContent::Unreadable(problem),
            };
            Line { number, text: Bytes::from(taken.raw), content }
        }))
    }

    fn line(&self, number: u64, taken: LineRead) -> Line {
        let text = Bytes::from(taken.raw);
        let bytes_max = self.bounds.line_bytes;
        // A byte order mark may stand before any line, since files are joined.
        let content = match utf8::text(&text).map(|body| body.as_bytes().trim_ascii()) {
            _ if taken.bytes > bytes_max => LineContent::Unreadable(too_large(bytes_max)),
            Err(form) => LineContent::Unreadable(Problem::new(ProblemKind::Malformed, form.to_string())),
            Ok(b"") => LineContent::Empty,
            Ok(body) => LineContent::Body(text.slice_ref(body)),
        };
        Line { number, text, content }
    }

    /// Reads up to a line feed, which is passed over.
    fn take_line(&mut self) -> io::Result<Option<LineRead>> {
        let mut taken = LineRead::default();
        let bytes_max = self.bounds.line_bytes;
        loop {
            let buffer = self.fill_buf()?;
            let (used, is_end) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            if used == 0 && taken.bytes == 0 {
                return Ok(None);
            }
            let has_feed = is_end && used > 0;
            taken.keep(&buffer[..used - usize::from(has_feed)], bytes_max);
            self.pass(used, u64::from(has_feed));
            if is_end {
                return Ok(Some(taken));
            }
        }
    }

    /// Reads the first record that is not blank; an empty one at the end of the file.
    fn take_row(&mut self, parser: &mut Reader) -> io::Result<LineRead> {
        loop {
            self.skip_marks()?;
            while self.skip_end_of_line()? {
                self.skip_marks()?;
            }
            match self.take_record(parser)? {
                Some(taken) if taken.is_blank() => {}
                Some(taken) => return Ok(taken),
                None => return Ok(LineRead::default()),
            }
        }
    }

    /// Reads up to the end of a record, as the parser sees it, and of its line.
    fn take_record(&mut self, parser: &mut Reader) -> io::Result<Option<LineRead>> {
        let mut taken = LineRead::default();
        let bytes_max = self.bounds.line_bytes;
        loop {
            let buffer = self.fill_buf()?;
            let buffer = &buffer[..buffer.len().min(STEP_BYTES)];
            taken.is_last = buffer.is_empty();
            // A byte of a file becomes at most one byte, or one end, of a field.
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
            self.position.line += 1;
        }
        Ok(Some(taken))
    }

    /// Passes over an end of a line; `true` if there was one.
    fn skip_end_of_line(&mut self) -> io::Result<bool> {
        match self.fill_buf()?.first() {
            Some(b'\n') => self.skip_feed(),
            Some(b'\r') => {
                self.pass(1, 0);
                if !self.skip_feed()? {
                    self.position.line += 1;
                }
                Ok(true)
            }
            Some(_) | None => Ok(false),
        }
    }

    fn skip_feed(&mut self) -> io::Result<bool> {
        let is_there = self.fill_buf()?.first() == Some(&b'\n');
        if is_there {
            self.pass(1, 1);
        }
        Ok(is_there)
    }

    /// Passes over all byte order marks here, in whatever pieces the file comes: the parser takes a mark that comes alone for
    /// the end of the file.
    fn skip_marks(&mut self) -> io::Result<()> {
        let mut matched = 0;
        while self.file.fill_buf()?.first() == Some(&BYTE_ORDER_MARK[matched]) {
            self.file.consume(1);
            matched += 1;
            if matched == BYTE_ORDER_MARK.len() {
                self.position.offset += BYTE_ORDER_MARK.len() as u64;
                matched = 0;
            }
        }
        self.held = &BYTE_ORDER_MARK[..matched];
        Ok(())
    }

    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.held.is_empty() { self.file.fill_buf() } else { Ok(self.held) }
    }

    /// `bytes` are some of those that [`Self::fill_buf`] gave.
    fn pass(&mut self, bytes: usize, newlines: u64) {
        if self.held.is_empty() {
            self.file.consume(bytes);
        } else {
            self.held = &self.held[bytes..];
        }
        self.position.offset += u64::try_from(bytes).unwrap_or(u64::MAX);
        self.position.line += newlines;
    }
}

impl<R: BufRead + Seek> LineReader<R> {
    /// Continues from a position in the same file.
    pub fn go_to(&mut self, position: Position) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(position.offset))?;
        self.held = &[];
        self.position = position;
        Ok(())
    }
}

impl LineRead {
    /// Keeps the bytes that may be needed.
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

    /// `true` if all of its fields are there, and blank.
    fn is_blank(&self) -> bool {
        let is_whole = self.ends.len() == self.fields_count;
        is_whole && self.texts().is_some_and(|texts| texts.into_iter().all(is_blank))
    }

    /// The fields as texts; `None`: one is no text.
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
    /// A record as JSON: each field is a text, so that a ZIP code keeps its zeros. `None`: all of its cells are empty.
    fn object(&self, taken: &LineRead, bytes_max: usize) -> Result<Option<Bytes>, Problem> {
        let malformed = |detail: String| Err(Problem::new(ProblemKind::Malformed, detail));
        if taken.bytes > bytes_max {
            let Problem { kind, detail, .. } = too_large(bytes_max);
            let detail = format!("{detail}; this record has {}: is a quote not closed?", taken.bytes);
            return Err(Problem::new(kind, detail));
        }
        if taken.is_last && self.is_open(&taken.raw) {
            return malformed("a quote is not closed, so all that follows is part of this record".to_owned());
        }
        if taken.fields_count > FIELDS_MAX {
            return malformed(format!("more than {FIELDS_MAX} fields"));
        }
        if taken.is_blank() {
            return Ok(None);
        }
        if has_stray_quote(&taken.raw, self.delimiter) {
            let wanted = "a field that has one is quoted as a whole, with each quote in it doubled";
            return malformed(format!("a quote stands where none may: {wanted}"));
        }
        let Some(texts) = taken.texts() else {
            return malformed("not UTF-8: save the file as CSV UTF-8".to_owned());
        };
        // Excel writes as many cells as the longest row has.
        let is_too_long = texts.iter().skip(self.header.len()).any(|text| !is_blank(text));
        let is_too_short = self.header.iter().skip(texts.len()).any(Option::is_some);
        if is_too_long || is_too_short {
            let (found, wanted) = (taken.fields_count, self.header.len());
            return malformed(format!("{found} fields, and {wanted} in the header"));
        }
        let mut object = Map::new();
        for (index, (name, text)) in self.header.iter().zip(texts).enumerate() {
            // Named by its number: a name may be a customer's if the header is missing.
            let number = index + 1;
            let Some(name) = name else {
                if is_blank(text) {
                    continue;
                }
                return malformed(format!("field {number} has a value, and no name in the header"));
            };
            if let Some(damage) = cells::trimmed(text).and_then(cells::damage) {
                return malformed(format!("field {number} is {damage}"));
            }
            let text = cells::trimmed(text).and_then(cells::kept_as_text).unwrap_or(text);
            object.insert(name.clone(), text.into());
        }
        Ok(Some(Bytes::from(Value::Object(object).to_string())))
    }

    /// `true` if the record would have continued at the end of the file.
    fn is_open(&self, raw: &[u8]) -> bool {
        parsed_alone(raw, self.delimiter).0 != ReadRecordResult::Record
    }
}

fn parser(delimiter: u8) -> Reader {
    ReaderBuilder::new().delimiter(delimiter).build()
}

/// `true` if a cell says nothing; `=""` says nothing either.
fn is_blank(text: &str) -> bool {
    cells::read(text) == Ok(None)
}

/// `true` if a quote stands next to a field's text instead of around it: the parser would leave it out, or in, and change the
/// text. A quote in the middle of a field that is not quoted is a part of the text, such as `5" pipe`.
fn has_stray_quote(raw: &[u8], delimiter: u8) -> bool {
    let is_end = |at: usize| raw.get(at).is_none_or(|byte| matches!(byte, b'\r' | b'\n') || *byte == delimiter);
    let past_blanks = |mut at: usize| {
        while raw.get(at) == Some(&b' ') && delimiter != b' ' {
            at += 1;
        }
        at
    };
    let mut at = 0;
    while at < raw.len() {
        let begin = past_blanks(at);
        if raw.get(begin) == Some(&b'"') {
            if begin > at {
                return true;
            }
            at = past_blanks(behind_quotes(raw, begin + 1));
            if !is_end(at) {
                return true;
            }
        } else {
            while !is_end(at) {
                at += 1;
            }
        }
        if raw.get(at) != Some(&delimiter) {
            return false;
        }
        at += 1;
    }
    false
}

/// The position behind the closing quote of the text that begins here; the end if there is none.
fn behind_quotes(raw: &[u8], mut at: usize) -> usize {
    while at < raw.len() {
        match (raw[at], raw.get(at + 1)) {
            (b'"', Some(b'"')) => at += 2,
            (b'"', _) => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// The delimiter that a line `sep=;` names, which Excel reads and some programs write before the header. `None`: it is no such
/// line; the inner one: it names nothing.
fn separator(raw: &[u8]) -> Option<Option<u8>> {
    let line = utf8::without_mark(raw);
    let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n' | b' ')).map_or(0, |at| at + 1);
    let line = &line[..end];
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    let (word, named) = line.split_at_checked(SEPARATOR.len())?;
    if !word.eq_ignore_ascii_case(SEPARATOR) {
        return None;
    }
    let Some(first) = named.first() else { return Some(None) };
    // A line that Excel saved again has a delimiter for each empty cell.
    let is_delimiter = first.is_ascii() && !first.is_ascii_alphanumeric() && *first != b'"';
    (is_delimiter && named.iter().all(|byte| byte == first)).then_some(Some(*first))
}

/// The beginning of a line that names the delimiter.
const SEPARATOR: &[u8] = b"sep=";

/// The names of a table's fields; the error says what is wrong with them.
fn header(taken: &LineRead, delimiter: u8, bytes_max: usize) -> Result<Vec<Option<String>>, String> {
    if taken.bytes > bytes_max || taken.fields_count > FIELDS_MAX {
        return Err(format!("the header has more than {bytes_max} bytes (http.body_max), or {FIELDS_MAX} fields"));
    }
    let texts = taken.texts().ok_or("the header is not UTF-8: save the file as CSV UTF-8")?;
    let names: Vec<Option<String>> = texts.iter().map(|text| cells::trimmed(text).map(str::to_owned)).collect();
    if names.iter().all(Option::is_none) {
        return Err("there is no header: the first line names the fields".to_owned());
    }
    if has_stray_quote(&taken.raw, delimiter) {
        return Err("in the header a quote stands where none may".to_owned());
    }
    if let [_] = names[..]
        && let Some(other) = likelier_delimiter(&taken.raw, delimiter)
    {
        let shown = if other == b'\t' { "tab".to_owned() } else { format!("'{}'", char::from(other)) };
        return Err(format!("the header has one column; is the delimiter {shown}? Say --delimiter {shown}"));
    }
    let mut known = BTreeSet::new();
    // Named by its number: a file without a header has a customer's data in its first line.
    match names.iter().position(|name| name.as_ref().is_some_and(|name| !known.insert(name))) {
        Some(at) => Err(format!("in the header the name of column {} is there twice", at + 1)),
        None => Ok(names),
    }
}

/// The delimiter by which a header of one column would have most; `None`: it has one by each.
fn likelier_delimiter(raw: &[u8], delimiter: u8) -> Option<u8> {
    let others = DELIMITERS.into_iter().filter(|other| *other != delimiter);
    let counted = others.map(|other| (other, parsed_alone(raw, other).1)).filter(|(_, count)| *count > 1);
    counted.max_by_key(|(_, count)| *count).map(|(other, _)| other)
}

/// The result of parsing these bytes as a line of their own, and the number of their fields.
fn parsed_alone(raw: &[u8], delimiter: u8) -> (ReadRecordResult, usize) {
    let line = [raw, b"\n"].concat();
    let (mut fields, mut ends) = (vec![0; line.len()], vec![0; line.len() + 1]);
    let (result, .., count) = parser(delimiter).read_record(&line, &mut fields, &mut ends);
    (result, count)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const BOUNDS: LineBounds = LineBounds { line_bytes: 40, lines: 1, bytes: 1 << 20 };
    const CSV: Format = Format::Csv { delimiter: b';' };

    fn open(text: &[u8], format: Format) -> LineReader<BufReader> {
        // A small buffer, so that every line spans several.
        LineReader::open(BufReader::with_capacity(3, Cursor::new(text.to_vec())), format, BOUNDS).expect("a header")
    }

    type BufReader = std::io::BufReader<Cursor<Vec<u8>>>;

    /// The number and kind of each line, and the position behind it.
    fn rest(lines: &mut LineReader<BufReader>) -> Vec<(u64, String, Position)> {
        let mut found = Vec::new();
        loop {
            let LineBatch { lines: mut some, end } = lines.next_batch().expect("memory can be read");
            let Some(line) = some.pop() else { return found };
            let content = match line.content {
                LineContent::Body(body) => String::from_utf8_lossy(&body).into_owned(),
                LineContent::Empty => "empty".to_owned(),
                LineContent::Unreadable(problem) => problem.line(),
            };
            found.push((line.number, content, end));
        }
    }

    /// Checks the lines of a file, from its beginning and from each position in it.
    fn check(text: &[u8], format: Format, expected: &[(u64, &str)]) {
        let all = rest(&mut open(text, format));
        let seen: Vec<(u64, &str)> = all.iter().map(|(number, content, _)| (*number, content.as_str())).collect();
        assert_eq!(seen, expected, "{:?}", String::from_utf8_lossy(text));
        for (index, (.., position)) in all.iter().enumerate() {
            let mut again = open(text, format);
            again.go_to(*position).expect("it is there");
            assert_eq!(rest(&mut again), all[index + 1..], "from {position:?}");
        }
    }

    #[test]
    fn lines_of_json_have_a_bound_and_end_in_one_way_or_the_other() {
        check(b"", Format::Ndjson, &[]);
        check(b"{}", Format::Ndjson, &[(1, "{}")]);
        check(b"\xef\xbb\xbf {}\r\n\n \t\n[1]\n", Format::Ndjson, &[(1, "{}"), (2, "empty"), (3, "empty"), (4, "[1]")]);
        check(b"\xff\n{}\n", Format::Ndjson, &[(1, "malformed: not UTF-8 (from byte 1 on)"), (2, "{}")]);
        // Two files joined.
        check(b"\xef\xbb\xbf{}\n\xef\xbb\xbf[]\n\xef\xbb\xbf\n", Format::Ndjson, &[(1, "{}"), (2, "[]"), (3, "empty")]);
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
                (4, "malformed: not UTF-8: save the file as CSV UTF-8"),
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
        for (text, word) in [
            (&b""[..], "no header"),
            (b";;\n;;\n", "no header"),
            (b"a;a\n", "twice"),
            (b"\xfc\n", "UTF-8"),
            (b"sep=;\n", "no header"),
            (b"sep=,\na;a\n", "delimiter ';'"),
            (b"a,b\n1,2\n", "the header has one column; is the delimiter ','? Say --delimiter ','"),
            (b"a\tb,c\td\n", "is the delimiter tab? Say --delimiter tab"),
            (b"a|b\n", "'|'"),
            (b"\"a \"b\"\";c\n", "a quote stands"),
            (b"\xff\xfea\0;\0", "UTF-16"),
            (b"a\0;\0b\0", "UTF-16"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"PK\x03\x04\x14\0", "workbook"),
        ] {
            let error =
                LineReader::open(Cursor::new(text.to_vec()), CSV, BOUNDS).err().expect("it is refused").to_string();
            assert!(error.contains(word), "{error}");
        }
        // A name with another delimiter in it is quoted.
        check(b"\"a, b\"\n1\n", CSV, &[(2, "{\"a, b\":\"1\"}")]);
    }

    #[test]
    fn a_file_that_is_no_utf8_is_told_as_a_whole_whatever_its_format() {
        for (text, word) in [
            (&b"\xff\xfe{\0}\0"[..], "UTF-16"),
            (b"\0{\0}", "UTF-16"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"\x28\xb5\x2f\xfd", "zstd"),
            (b"PK\x03\x04\x14\0", "workbook"),
        ] {
            for format in [CSV, Format::Ndjson] {
                let opened = LineReader::open(Cursor::new(text.to_vec()), format, BOUNDS);
                let error = opened.err().expect("it is refused").to_string();
                assert!(error.starts_with("the file is") && error.contains(word), "{error}");
            }
        }
    }

    #[test]
    fn rows_of_empty_cells_are_passed_over_like_empty_lines() {
        let text = "a;b\n1;2\n;\n\u{a0}; \n;;;;\n\"\";\"\"\n3;4\n\u{1a}";
        let rows = [(2, "{\"a\":\"1\",\"b\":\"2\"}"), (3, "empty"), (4, "empty"), (5, "empty"), (6, "empty")];
        check(text.as_bytes(), CSV, &[&rows[..], &[(7, "{\"a\":\"3\",\"b\":\"4\"}"), (8, "empty")]].concat());
        // Also before the header.
        check(b";;\n\n;\na;b\n1;2\n", CSV, &[(5, "{\"a\":\"1\",\"b\":\"2\"}")]);
    }

    #[test]
    fn columns_without_a_name_are_passed_over_while_they_are_empty() {
        let expected = "{\"a\":\"1\",\"b\":\"2\"}";
        check(b"a;b;\n1;2;\n1;2; \n1;2\n1;2;;;\n", CSV, &[(2, expected), (3, expected), (4, expected), (5, expected)]);
        check(b";a;;b;;\n;1;;2;;\n", CSV, &[(2, expected)]);
        check(
            b"a;b;;\n1;2;x;\n1;2;;;x\n1\n",
            CSV,
            &[
                (2, "malformed: field 3 has a value, and no name in the header"),
                (3, "malformed: 5 fields, and 4 in the header"),
                (4, "malformed: 1 fields, and 4 in the header"),
            ],
        );
    }

    #[test]
    fn a_line_that_names_the_delimiter_is_passed_over_and_counts() {
        let expected = "{\"a\":\"1\",\"b\":\"2;3\"}";
        for first in ["sep=,", "SEP=,", "\"sep=,\"", "\u{feff}sep=,", "sep=,,,"] {
            check(format!("{first}\r\na,b\r\n1,2;3\r\n").as_bytes(), CSV, &[(3, expected)]);
        }
        check(b"sep=\t\na\tb\n1\t2;3\n", CSV, &[(3, expected)]);
        check(b"sep=;\ra;b\r1;2\r", CSV, &[(3, "{\"a\":\"1\",\"b\":\"2\"}")]);
        check(b"sep=\na;b\n1;2\n", CSV, &[(3, "{\"a\":\"1\",\"b\":\"2\"}")]);
        // A column of that name is one.
        check(b"sep=x;b\n1;2\n", CSV, &[(2, "{\"b\":\"2\",\"sep=x\":\"1\"}")]);
    }

    #[test]
    fn a_quote_beside_a_text_is_told_and_one_within_it_is_a_part_of_it() {
        let stray = "malformed: a quote stands where none may: a field that has one is quoted as a whole, \
                     with each quote in it doubled";
        for (row, expected) in [
            ("\"A \"B\" C\";2", stray),
            ("\"A\"B;2", stray),
            ("1; \"2\"", stray),
            ("1;\"\"\"2\"x", stray),
            ("\"A \"\"B\"\" C\";2", "{\"a\":\"A \\\"B\\\" C\",\"b\":\"2\"}"),
            ("A \"B\" C;2", "{\"a\":\"A \\\"B\\\" C\",\"b\":\"2\"}"),
            ("5\";2", "{\"a\":\"5\\\"\",\"b\":\"2\"}"),
            ("\"1\" ;\"2\" ", "{\"a\":\"1 \",\"b\":\"2 \"}"),
            ("\"1;\n\";\"\"", "{\"a\":\"1;\\n\",\"b\":\"\"}"),
        ] {
            check(format!("a;b\n{row}\n").as_bytes(), CSV, &[(2, expected)]);
        }
    }

    /// A value that a spreadsheet has damaged is a problem, and text that it keeps as text stays text.
    #[test]
    fn a_value_that_a_spreadsheet_has_damaged_is_told() {
        let is = |what: &str| format!("malformed: field 2 is {what}");
        let failed = is("a spreadsheet's error, such as #N/A or #REF!");
        let narrow = is("number signs, which a spreadsheet shows in a column that is too narrow");
        let shortened = is("a number that a spreadsheet has shortened, such as 4.71E+11");
        for (cell, expected) in [
            ("#NV", failed.as_str()),
            (" #REF! ", &failed),
            ("########", &narrow),
            ("4,71E+11", &shortened),
            ("\"=\"\"01067\"\"\"", "{\"a\":\"1\",\"b\":\"01067\"}"),
            ("=\"01067\"", "{\"a\":\"1\",\"b\":\"01067\"}"),
            ("#5", "{\"a\":\"1\",\"b\":\"#5\"}"),
            ("", "{\"a\":\"1\",\"b\":\"\"}"),
        ] {
            check(format!("a;b\n1;{cell}\n").as_bytes(), CSV, &[(2, expected)]);
        }
    }
}
