//! What can go wrong with a store, in words.

use crate::builtin::storage::StorageError;
use rusqlite::ErrorCode;
use std::fmt::Display;
use std::path::Path;

/// What `SQLite` refused, with what was tried and what people can do about it.
pub(super) fn failed(path: &Path, doing: &str, error: &rusqlite::Error) -> StorageError {
    let path = path.display();
    let (reason, is_temporary) = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ("the disk is full: make room there".to_owned(), true),
        Some(ErrorCode::SystemIoFailure) => {
            (format!("the disk failed: {error}; see the system's log"), true)
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            ("another program holds the file: end it".to_owned(), true)
        }
        Some(ErrorCode::OutOfMemory) => ("there is no memory left".to_owned(), true),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => (
            "the file cannot be written: check the permissions of the file, of those beside it \
             that end in -wal and -shm, and of their folder"
                .to_owned(),
            true,
        ),
        Some(ErrorCode::DatabaseCorrupt) => (
            format!("the file is damaged ({error}): restore it, or move it away to begin anew"),
            false,
        ),
        Some(ErrorCode::NotADatabase) => (
            "the file is no SQLite database: name another path, or move the file away".to_owned(),
            false,
        ),
        _ => (error.to_string(), false),
    };
    StorageError { message: format!("{doing} `{path}`: {reason}"), is_temporary }
}

/// What the file system refused.
pub(super) fn refused(path: &Path, doing: &str, error: &std::io::Error) -> StorageError {
    let is_temporary = error.kind() == std::io::ErrorKind::StorageFull;
    StorageError { message: format!("{doing} `{}`: {error}", path.display()), is_temporary }
}

/// What will not be otherwise the next time.
pub(super) fn wrong(path: &Path, message: impl Display) -> StorageError {
    StorageError { message: format!("`{}` {message}", path.display()), is_temporary: false }
}

/// The answer of a store that was closed.
pub(super) fn closed(path: &Path) -> StorageError {
    wrong(path, "is closed")
}
