//! The two files that an import writes next to its own: its progress, and the rejected lines.
//!
//! Both tell of customers, so only the owner may read them. They are written after the commit of the lines: a crash in
//! between makes some lines duplicates, and loses none.
//!
//! Before: [`super`]. After: the disk.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::inbound::import::Rejection;
use crate::inbound::lines::{Format, Line, Position};
use crate::problem::Problem;

/// Length of the beginning of a file that is compared.
const START_BYTES: u64 = 64 << 10;

/// Identity of an imported file, and how its lines are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileIdentity {
    bytes: u64,
    modified_ns: i128,
    start_sha256: String,
    source: String,
    format: Format,
}

/// Counts of lines by their outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) duplicate: u64,
    pub(super) rejected: u64,
    pub(super) skipped: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { accepted, duplicate, rejected, skipped } = self;
        write!(f, "accepted {accepted}, duplicate {duplicate}, rejected {rejected}, skipped {skipped}")
    }
}

/// Progress of an import, as it is saved.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Progress {
    of: FileIdentity,
    pub(super) place: Position,
    pub(super) counts: Counts,
    rejects_bytes: u64,
}

/// The two files.
pub(super) struct ProgressFile {
    /// `None`: the input can be read only once.
    progress: Option<(PathBuf, FileIdentity)>,
    rejects: PathBuf,
    /// Created with the first rejected line.
    open_rejects: Option<BufWriter<File>>,
    rejects_bytes: u64,
}

/// An earlier import that did not end.
pub(super) enum EarlierImport {
    /// There is none.
    Nothing,
    /// An import of another file or source, of this file before it was changed, or one whose rejected lines are gone.
    Another,
    /// An import of this file for this source.
    Progress(Position, Counts),
}

impl FileIdentity {
    pub(super) fn of(file: &mut File, source: &str, format: Format) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let mut start = Vec::new();
        file.take(START_BYTES).read_to_end(&mut start)?;
        let digest = Sha256::digest(&start);
        Ok(Self {
            bytes: metadata.len(),
            modified_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
            start_sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            source: source.to_owned(),
            format,
        })
    }
}

impl ProgressFile {
    /// Next to a file, which can be read again.
    pub(super) fn of_file(path: &Path, identity: FileIdentity) -> Self {
        let progress = Some((named(path, ".import.json"), identity));
        Self { progress, rejects: named(path, ".rejected.ndjson"), open_rejects: None, rejects_bytes: 0 }
    }

    /// In the current folder, for an input that can be read only once.
    pub(super) fn of_stream() -> Self {
        let rejects = PathBuf::from("import.rejected.ndjson");
        Self { progress: None, rejects, open_rejects: None, rejects_bytes: 0 }
    }

    /// Length of the file; `None`: it is unknown.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.progress.as_ref().map(|(_, identity)| identity.bytes)
    }

    /// Path of the rejected lines.
    pub(super) fn rejects(&self) -> &Path {
        &self.rejects
    }

    /// Resumes an earlier import, or removes the traces of one that cannot be resumed.
    pub(super) fn begin(&mut self) -> anyhow::Result<EarlierImport> {
        let found = self.find()?;
        if self.rejects_bytes == 0 {
            remove(&self.rejects).with_context(|| self.rejects.display().to_string())?;
        } else {
            // The rest is of a batch whose end was not saved; its lines come again.
            let file = File::options().append(true).open(&self.rejects);
            let cut = file.and_then(|file| file.set_len(self.rejects_bytes).map(|()| file));
            let file = cut.with_context(|| self.rejects.display().to_string())?;
            self.open_rejects = Some(BufWriter::new(file));
        }
        Ok(found)
    }

    fn find(&mut self) -> anyhow::Result<EarlierImport> {
        let Some((path, identity)) = &self.progress else { return Ok(EarlierImport::Nothing) };
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(EarlierImport::Nothing),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        // A file that cannot be read is of another version, or of a machine that lost its power. That costs only time.
        match serde_json::from_slice::<Progress>(&text) {
            Ok(progress) if progress.of == *identity && self.has_rejects(progress.rejects_bytes) => {
                self.rejects_bytes = progress.rejects_bytes;
                Ok(EarlierImport::Progress(progress.place, progress.counts))
            }
            Ok(_) | Err(_) => Ok(EarlierImport::Another),
        }
    }

    /// Says whether the rejected lines of the earlier import are still there.
    fn has_rejects(&self, bytes: u64) -> bool {
        bytes == 0 || self.rejects.metadata().is_ok_and(|metadata| metadata.len() >= bytes)
    }

    /// Writes a rejected line with its problems. The caller ends the batch with [`ProgressFile::save`].
    pub(super) fn reject(&mut self, line: &Line, rejection: &Rejection) -> anyhow::Result<()> {
        let at = || self.rejects.display().to_string();
        let file = match &mut self.open_rejects {
            Some(file) => file,
            None => {
                let file = create(&self.rejects).with_context(at)?;
                self.open_rejects.insert(BufWriter::new(file))
            }
        };
        let text = rejected(line, &rejection.in_full());
        file.write_all(text.as_bytes()).with_context(at)?;
        self.rejects_bytes += u64::try_from(text.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Saves that every line before this position is done.
    pub(super) fn save(&mut self, place: Position, counts: Counts) -> anyhow::Result<()> {
        if let Some(file) = &mut self.open_rejects {
            file.flush().with_context(|| self.rejects.display().to_string())?;
        }
        let Some((path, identity)) = &self.progress else { return Ok(()) };
        let progress = Progress { of: identity.clone(), place, counts, rejects_bytes: self.rejects_bytes };
        let text = serde_json::to_string(&progress).context("progress")?;
        let new = named(path, ".new");
        let written = remove(&new).and_then(|()| {
            create(&new)?.write_all(text.as_bytes())?;
            std::fs::rename(&new, path)
        });
        written.with_context(|| path.display().to_string())
    }

    /// Removes the progress: all lines are done.
    pub(super) fn end(self) -> anyhow::Result<()> {
        let Some((path, _)) = &self.progress else { return Ok(()) };
        remove(path).with_context(|| path.display().to_string())
    }
}

/// A line of the file of rejected lines. It has several problems if a mapping made several events of the line.
fn rejected(line: &Line, problems: &[Problem]) -> String {
    let kind = problems.first().map(|problem| problem.kind.type_uri());
    let detail: Vec<&str> = problems.iter().map(|problem| problem.detail.as_str()).collect();
    let errors: Vec<_> = problems.iter().flat_map(|problem| &problem.errors).collect();
    let problem = json!({ "type": kind, "detail": detail.join("; "), "errors": errors });
    let text = String::from_utf8_lossy(&line.text);
    let text = text.trim_end_matches(['\r', '\n']);
    json!({ "line": line.number, "problem": problem, "text": text }).to_string() + "\n"
}

fn named(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

/// Creates a file that only its owner may read.
fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
