//! The file: its format, how it is opened, and how older formats become newer.

use super::error::{failed, refused, wrong};
use crate::builtin::storage::StorageError;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Duration;

/// Tells a store from other databases: "wpub".
const APPLICATION_ID: i64 = 0x7770_7562;

/// How each format is made from the one before. What comes first makes the first
/// one, of nothing. A step that was released never changes.
const STEPS: &[&str] = &[include_str!("version_1.sql"), include_str!("version_2.sql")];

/// Larger pages than usual: fewer of them for events of some kilobytes.
pub(super) const PAGE_BYTES: u32 = 8192;
/// What a writer has of the file in memory.
const WRITER_CACHE_KIB: u32 = 32 * 1024;
/// What each reader has of it.
const READER_CACHE_KIB: u32 = 4 * 1024;
/// How a file is opened that is written.
const READ_WRITE: OpenFlags =
    OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
/// How long to wait for another program that looks into the file.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Statements that are kept prepared.
const STATEMENTS_MAX: usize = 64;

/// Opens the file for writing, which is there, and brings it to the newest format.
pub(super) fn open_writer(path: &Path, vfs: Option<&str>) -> Result<Connection, StorageError> {
    let mut connection = connect(path, READ_WRITE, vfs)?;
    // Nothing is changed in a file that is not ours.
    version(&connection, path, STEPS.len())?;
    let prepare = |connection: &mut Connection| -> rusqlite::Result<()> {
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "cache_size", -i64::from(WRITER_CACHE_KIB))?;
        sync_all(connection)?;
        migrate(connection, STEPS)
    };
    prepare(&mut connection).map_err(|error| failed(path, "cannot open the store", &error))?;
    Ok(connection)
}

/// Opens the file, which [`open_writer`] has made ready, to bring its log in.
pub(super) fn open_beside(path: &Path, vfs: Option<&str>) -> Result<Connection, StorageError> {
    let connection = connect(path, READ_WRITE, vfs)?;
    sync_all(&connection).map_err(|error| failed(path, "cannot open the store", &error))?;
    Ok(connection)
}

/// Has a connection sync what it writes, and bring the log in when it is told to only.
fn sync_all(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)
}

/// Opens the file for reading, beside a process that writes to it or without one.
pub(super) fn open_reader(path: &Path, vfs: Option<&str>) -> Result<Connection, StorageError> {
    File::open(path).map_err(|error| refused(path, "cannot open the store", &error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = connect(path, flags, vfs)?;
    let found = version(&connection, path, STEPS.len())?;
    if found != STEPS.len() {
        let what = if found == 0 { "is empty" } else { "has an older format" };
        return Err(wrong(path, format_args!("{what}: `wasi-pubsub run` with it makes it ready")));
    }
    connection
        .pragma_update(None, "cache_size", -i64::from(READER_CACHE_KIB))
        .map_err(|error| failed(path, "cannot read the store", &error))?;
    Ok(connection)
}

fn connect(path: &Path, flags: OpenFlags, vfs: Option<&str>) -> Result<Connection, StorageError> {
    let opened = match vfs {
        Some(vfs) => Connection::open_with_flags_and_vfs(path, flags, vfs),
        None => Connection::open_with_flags(path, flags),
    };
    let prepared = opened.and_then(|connection| {
        connection.busy_timeout(BUSY_WAIT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        Ok(connection)
    });
    prepared.map_err(|error| failed(path, "cannot open the store", &error))
}

/// Makes the file, for its owner alone, where there is none. `SQLite` would go on
/// with a file that it can only read, and say so later.
pub(super) fn create_file(path: &Path) -> Result<(), StorageError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| refused(path, "cannot write the store", &error))?;
    Ok(())
}

/// The folder of a store; `None`: the working folder.
pub(super) fn folder_of(path: &Path) -> Option<&Path> {
    path.parent().filter(|folder| !folder.as_os_str().is_empty())
}

pub(super) fn create_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// The format of the file; 0: there is nothing in it yet.
fn version(connection: &Connection, path: &Path, newest: usize) -> Result<usize, StorageError> {
    let read = || -> rusqlite::Result<(i64, i64, i64)> {
        let id = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let tables = "SELECT count(*) FROM sqlite_schema";
        Ok((id, version, connection.query_row(tables, [], |row| row.get(0))?))
    };
    match read().map_err(|error| failed(path, "cannot open the store", &error))? {
        (0, 0, 0) => Ok(0),
        (APPLICATION_ID, version, _) => match usize::try_from(version) {
            Ok(version) if (1..=newest).contains(&version) => Ok(version),
            _ => Err(wrong(
                path,
                format_args!(
                    "has format {version}, and this version of wasi-pubsub knows 1 to {newest}: \
                     use the version that wrote it or a newer one, or name another path"
                ),
            )),
        },
        _ => Err(wrong(
            path,
            "is a database of another application: name another path, or move the file away",
        )),
    }
}

/// Brings the file to the newest format, all at once or not at all.
pub(super) fn migrate(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: usize = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found >= steps.len() {
        return Ok(());
    }
    for step in &steps[found..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", steps.len())?;
    transaction.commit()
}
