//! Dead letters on this machine: a file for each broker and topic.
//!
//! A letter is written here, and is on the disk, before it is acknowledged to
//! the broker; so it is at the broker, here, or in both places at every moment.
//! Files only grow: what is removed is noted, and left out when the file is next
//! written anew.

use super::super::failure::Failure;
use super::super::lines::{self, Data};
use super::letter::{Key, Letter, key};
use super::places::Place;
use crate::broker::Event;
use crate::telemetry::rfc3339;
use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The most letters of one topic.
const LETTERS_MAX: usize = 100_000;
/// The largest file of one topic, in bytes.
const BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How a line begins that notes what was removed.
const REMOVED: &[u8] = b"{\"removed\":";

/// The folder of all spools. One process at a time has it.
pub(super) struct Store {
    folder: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens the folder, and makes it where it is not there.
    pub(super) fn open(folder: PathBuf) -> std::result::Result<Self, Failure> {
        let shown = folder.display().to_string();
        let failure =
            |error| Failure::run(format!("dead letters cannot be kept in {shown}: {error}"));
        make_private(&folder).map_err(failure)?;
        let lock = open_private(&folder.join("lock")).map_err(failure)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Failure::run(format!(
                "another `wasi-pubsub dead` is at work on {shown}: wait until it has ended"
            ))),
            Err(TryLockError::Error(error)) => Err(failure(error)),
        }
    }

    /// The letters of a place.
    pub(super) fn spool(&self, place: &Place) -> std::result::Result<Spool, Failure> {
        let path = self.folder.join(format!("{}.jsonl", place.file_name()));
        Spool::open(path.clone(), place.topic.as_str()).map_err(|error| {
            Failure::run(format!(
                "dead letters cannot be read: {}: {error}\n  help: move the file away to go on \
                 without what is in it",
                path.display()
            ))
        })
    }

    /// So many numbers that no letter has had, above this one: the first of them.
    fn take_numbers(&self, count: usize, above: u64) -> Result<u64> {
        let path = self.folder.join("next");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let first = text.trim().parse().unwrap_or(1).max(above + 1);
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        writeln!(file, "{}", first + count as u64)?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(first)
    }
}

/// The letters of one topic.
pub(super) struct Spool {
    path: PathBuf,
    topic: String,
    file: File,
    bytes: u64,
    /// By number, which is the order in which they came.
    letters: BTreeMap<u64, Letter>,
    known: HashSet<Key>,
    has_removed: bool,
}

impl Spool {
    fn open(path: PathBuf, topic: &str) -> Result<Self> {
        let mut file = open_private(&path)?;
        if file.metadata()?.len() > 2 * BYTES_MAX {
            return Err(Error::other(format!("it is larger than {} bytes", 2 * BYTES_MAX)));
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            // It was being written when the process ended, and is at the broker.
            file.set_len(whole as u64)?;
        }
        // What is here is acknowledged when it comes again: it has to be on the disk,
        // whatever the process that wrote it came to.
        file.sync_all()?;
        let mut spool = Self {
            path,
            topic: topic.to_owned(),
            file,
            bytes: whole as u64,
            letters: BTreeMap::new(),
            known: HashSet::new(),
            has_removed: false,
        };
        for (index, line) in text[..whole].split_inclusive(|&byte| byte == b'\n').enumerate() {
            spool.load(line).map_err(|reason| {
                Error::new(ErrorKind::InvalidData, format!("line {}: {reason}", index + 1))
            })?;
        }
        Ok(spool)
    }

    fn load(&mut self, line: &[u8]) -> std::result::Result<(), String> {
        if let Some(rest) = line.strip_prefix(REMOVED) {
            let rest = rest.trim_ascii_end();
            let rest = rest.strip_suffix(b"}").unwrap_or(rest);
            let numbers: Vec<u64> =
                serde_json::from_slice(rest).map_err(|error| error.to_string())?;
            self.forget(&numbers);
            return Ok(());
        }
        let line = lines::read(line).map_err(|fault| fault.to_string())?;
        let (number, collected) = line.number.zip(line.collected).ok_or("it is no dead letter")?;
        self.known.insert(key(&line.event));
        let topic = self.topic.clone();
        self.letters.insert(number, Letter { number, collected, topic, event: line.event });
        Ok(())
    }

    /// The letters, in the order in which they came.
    pub(super) fn letters(&self) -> impl Iterator<Item = &Letter> {
        self.letters.values()
    }

    /// How many more letters of this size there is room for: all of them, or none.
    pub(super) fn has_room(&self, events: &[&Event]) -> bool {
        let bytes: usize = events.iter().map(|event| event.size() * 2).sum();
        self.letters.len() + events.len() <= LETTERS_MAX && self.bytes + bytes as u64 <= BYTES_MAX
    }

    /// Keeps letters: when this returns, they are on the disk. What is here
    /// already is left out. Returns how many were new.
    pub(super) fn add(&mut self, store: &Store, events: &[&Event]) -> Result<usize> {
        let mut new: Vec<&Event> = Vec::new();
        let mut keys = HashSet::new();
        for &event in events {
            let key = key(event);
            if !self.known.contains(&key) && keys.insert(key) {
                new.push(event);
            }
        }
        if new.is_empty() {
            return Ok(0);
        }
        let above = self.letters.keys().next_back().copied().unwrap_or(0);
        let first = store.take_numbers(new.len(), above)?;
        let collected = rfc3339(SystemTime::now());
        let letters: Vec<Letter> = (first..)
            .zip(&new)
            .map(|(number, event)| Letter {
                number,
                collected: collected.clone(),
                topic: self.topic.clone(),
                event: (*event).clone(),
            })
            .collect();
        let mut text = Vec::new();
        for letter in &letters {
            text.extend(line(letter));
        }
        self.append(&text)?;
        self.letters.extend(letters.into_iter().map(|letter| (letter.number, letter)));
        self.known.extend(keys);
        Ok(new.len())
    }

    /// Removes letters: when this returns, that is noted on the disk.
    pub(super) fn remove(&mut self, numbers: &[u64]) -> Result<()> {
        let mut text = REMOVED.to_vec();
        serde_json::to_writer(&mut text, numbers)?;
        text.extend(b"}\n");
        self.append(&text)?;
        self.forget(numbers);
        Ok(())
    }

    /// Writes the file anew, where it holds what was removed.
    pub(super) fn close(self) -> Result<()> {
        if self.letters.is_empty() {
            return std::fs::remove_file(&self.path);
        }
        if !self.has_removed {
            return Ok(());
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        for letter in self.letters.values() {
            file.write_all(&line(letter))?;
        }
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        sync_folder(folder)
    }

    fn forget(&mut self, numbers: &[u64]) {
        self.has_removed = true;
        for number in numbers {
            if let Some(letter) = self.letters.remove(number) {
                self.known.remove(&key(&letter.event));
            }
        }
    }

    fn append(&mut self, text: &[u8]) -> Result<()> {
        let written = self.file.write_all(text).and_then(|()| self.file.sync_all());
        if let Err(error) = written {
            // Half a line would spoil the next one.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        if self.bytes == 0 {
            sync_folder(self.path.parent().unwrap_or(Path::new(".")))?;
        }
        self.bytes += text.len() as u64;
        Ok(())
    }
}

fn line(letter: &Letter) -> Vec<u8> {
    let collected = serde_json::Value::from(letter.collected.as_str()).to_string();
    let own =
        [("number", letter.number.to_string().into_bytes()), ("collected", collected.into_bytes())];
    let mut line = lines::write(&letter.topic, &letter.event, &own, Data::Exact);
    line.push(b'\n');
    line
}

#[cfg(unix)]
fn make_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
}

/// Events may hold secrets: nobody else reads them.
fn open_private(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
