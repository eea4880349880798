//! A text that must not be shown: it has no `Serialize`, and `Debug` and `Display` hide it.
//!
//! Before: nothing. After: [`crate::config`], and every client and listener that authenticates.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::file;

/// A password, token, key, or a URL that contains one. Prints as `[redacted]`.
///
/// It has no `PartialEq`: comparing what a caller presented with a secret is the job of a comparison in
/// constant time.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Secrets of one purpose, several for rotation, never none. Those of a file follow it: a clone sees the secrets that
/// [`Secrets::reload`] of any other has read.
#[derive(Clone)]
pub struct Secrets {
    now: Arc<RwLock<Arc<[Secret]>>>,
    file: Option<Arc<File>>,
}

/// Reads one secret, or says what is wrong with it and shows nothing of it.
type Read = Box<dyn Fn(&str) -> Result<Secret, String> + Send + Sync>;

struct File {
    path: PathBuf,
    read: Read,
    /// The reason for which the file could not be used the last time; `None`: it could.
    refused: Mutex<Option<String>>,
}

/// Outcome of reading the file again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// The file has the known secrets, or there is no file.
    Same,
    /// The file has other secrets, which hold from now on.
    Changed,
    /// The file cannot be used, for this reason (which shows nothing of it); the known secrets still hold. Reported once,
    /// until the reason is another.
    Refused(String),
}

impl Secrets {
    /// Secrets that never change.
    pub fn fixed(secrets: Vec<Secret>) -> Self {
        Self { now: Arc::new(RwLock::new(secrets.into())), file: None }
    }

    /// Secrets that were just read from a file, each by `read`.
    pub(super) fn of_file(secrets: Vec<Secret>, path: PathBuf, read: Read) -> Self {
        Self { file: Some(Arc::new(File { path, read, refused: Mutex::default() })), ..Self::fixed(secrets) }
    }

    /// The secrets that hold now.
    pub fn now(&self) -> Arc<[Secret]> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again, if they came from one. Blocks for as long as the file system takes to answer.
    pub fn reload(&self) -> Reloaded {
        let Some(file) = &self.file else { return Reloaded::Same };
        let read = file.read();
        let refused = read.as_ref().err().cloned();
        let before = std::mem::replace(&mut *file.refused.lock().unwrap_or_else(PoisonError::into_inner), refused);
        let fresh = match read {
            Ok(fresh) => fresh,
            Err(why) if before.as_ref() == Some(&why) => return Reloaded::Same,
            Err(why) => return Reloaded::Refused(why),
        };
        let known = self.now();
        let is_same = known.len() == fresh.len() && known.iter().zip(&fresh).all(|(a, b)| a.0 == b.0);
        if is_same {
            return Reloaded::Same;
        }
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = fresh.into();
        Reloaded::Changed
    }
}

impl File {
    fn read(&self) -> Result<Vec<Secret>, String> {
        let path = self.path.display();
        let content = file::read(&self.path).map_err(|error| format!("{path} cannot be read: {error}"))?;
        let lines: Vec<&str> = lines(&content.text).collect();
        let secrets = lines.iter().enumerate().map(|(index, line)| {
            (self.read)(line).map_err(|advice| format!("{path}: number {} of {}: {advice}", index + 1, lines.len()))
        });
        let secrets: Vec<Secret> = secrets.collect::<Result<_, _>>()?;
        if secrets.is_empty() { Err(format!("{path} is empty")) } else { Ok(secrets) }
    }
}

/// One secret a line.
pub(super) fn lines(content: &str) -> impl Iterator<Item = &str> {
    content.lines().map(str::trim).filter(|line| !line.is_empty())
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
