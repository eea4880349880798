//! Reads the files of the configuration: bounded in size, and without a wait for content that does not come.
//!
//! The reader looks at each file first, and refuses a named pipe, a device or a folder. So a file that is replaced by one of them
//! while the bridge runs holds nothing up. The configuration file alone may be a pipe (`--config <(…)`, `/dev/stdin`); the wait
//! for it has a limit.
//!
//! Before: nothing. After: [`crate::config`].

use std::fs::{File, FileType, OpenOptions};
use std::io::{Error, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;

use crate::domain::utf8;

/// Limit of a configuration file in bytes. The example, which has every key with its comment, has a fiftieth of it: there is
/// room for thousands of sources.
const CONFIG_BYTES_MAX: usize = 1 << 20;

/// Limit of a file of secrets or a program in bytes: one that is larger is something else.
const NAMED_BYTES_MAX: usize = 64 << 10;

/// Timeout for a configuration that comes through a pipe. A program that makes one is done sooner; a pipe into which nothing is
/// written is a mistake that the start must show.
const PIPE_TIME_MAX: Duration = Duration::from_secs(5);

/// Interval between two looks at a pipe.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Rights of users who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;

/// FileContent of a file.
pub(super) struct FileContent {
    /// The text, without the mark that editors of Microsoft write in front: a secret that begins with it would fit nothing.
    pub(super) text: String,
    /// True if every user of the machine may read or change the file.
    pub(super) is_exposed: bool,
}

/// Reads a file that the configuration names.
pub(super) fn read(path: &Path) -> std::io::Result<FileContent> {
    read_bounded(path, NAMED_BYTES_MAX, FileType::is_file)
}

/// Reads the configuration file.
pub(super) fn read_config(path: &Path) -> std::io::Result<FileContent> {
    read_bounded(path, CONFIG_BYTES_MAX, |kind| kind.is_file() || kind.is_fifo() || kind.is_char_device())
}

/// Reads a file of any content that the configuration names.
pub(super) fn read_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    Ok(read_whole(path, NAMED_BYTES_MAX, FileType::is_file)?.bytes)
}

fn read_bounded(path: &Path, bytes_max: usize, is_fine: fn(&FileType) -> bool) -> std::io::Result<FileContent> {
    let WholeFile { bytes, is_exposed } = read_whole(path, bytes_max, is_fine)?;
    let text = utf8::text(&bytes).map_err(|form| Error::other(format!("it is {form}")))?.to_owned();
    Ok(FileContent { text, is_exposed })
}

/// The bytes of a file.
struct WholeFile {
    bytes: Vec<u8>,
    is_exposed: bool,
}

fn read_whole(path: &Path, bytes_max: usize, is_fine: fn(&FileType) -> bool) -> std::io::Result<WholeFile> {
    // Opening a pipe that has no writer would wait for one.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if !is_fine(&kind) {
        return Err(Error::other(format!("it is {}, and no file", name_of(kind))));
    }
    let bytes = read_to_end(file, bytes_max, kind.is_fifo())?;
    let is_exposed = metadata.is_file() && metadata.permissions().mode() & OTHERS != 0;
    Ok(WholeFile { bytes, is_exposed })
}

/// Reads to the end. That of a pipe before its beginning means that no process writes to it yet.
fn read_to_end(mut file: File, bytes_max: usize, is_pipe: bool) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 8 << 10];
    let mut waited = Duration::ZERO;
    loop {
        match file.read(&mut piece) {
            Ok(0) if !(is_pipe && bytes.is_empty()) => return Ok(bytes),
            Ok(0) => {}
            Ok(read) => {
                bytes.extend_from_slice(&piece[..read]);
                if bytes.len() > bytes_max {
                    return Err(Error::other(format!("it has more than {bytes_max} bytes")));
                }
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if waited >= PIPE_TIME_MAX {
            return Err(Error::other(format!("its end did not come within {} s", PIPE_TIME_MAX.as_secs())));
        }
        std::thread::sleep(LOOK_EVERY);
        waited += LOOK_EVERY;
    }
}

fn name_of(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}
