//! One process at a time: a file beside the store that its process holds locked.

use super::error::{refused, wrong};
use crate::builtin::storage::StorageError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// The lock on a store. It ends with this value, or with the process.
#[derive(Debug)]
pub(super) struct LockFile(File);

impl LockFile {
    /// Locks the store at a path, whose folder is there.
    pub(super) fn acquire(store: &Path) -> Result<Self, StorageError> {
        let path = lock_path(store);
        let open =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|error| refused(&path, "cannot write", &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(store, &mut file)),
            Err(TryLockError::Error(error)) => return Err(refused(&path, "cannot lock", &error)),
        }
        // For whoever comes second: what the lock is does not depend on it.
        let _ = write_holder(&mut file);
        Ok(Self(file))
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = self.0.set_len(0);
        let _ = self.0.unlock();
    }
}

/// The file that is locked. It stays when the lock has ended: whoever removed it
/// could remove that of another process.
fn lock_path(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn write_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(std::process::id().to_string().as_bytes())
}

fn held(store: &Path, file: &mut File) -> StorageError {
    let mut holder = String::new();
    // Some systems don't let others read what is locked.
    let _ = file.read_to_string(&mut holder);
    let by = match holder.trim().parse::<u32>() {
        Ok(pid) if pid == std::process::id() => {
            let why = "is in use by this process: one broker at a time can have it. Where it was \
                       given up a moment ago, try again";
            return wrong(store, why);
        }
        Ok(pid) => format!("process {pid}"),
        Err(_) => "another process".to_owned(),
    };
    let hint = "one process at a time: end it, or name another path";
    wrong(store, format_args!("is in use by {by} ({hint})"))
}
