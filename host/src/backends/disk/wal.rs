//! The log that `SQLite` writes first: brought into the file when it is long.
//!
//! `SQLite` would do that within a commit; here it is done after the answers.

use rusqlite::Connection;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// From so many pages on the log is brought into the file.
const PAGES: i32 = 2048;

/// How long the log is.
pub(super) struct Log(Arc<AtomicI32>);

impl Log {
    /// Has the pages counted that a connection commits.
    pub(super) fn of(connection: &mut Connection) -> rusqlite::Result<Self> {
        let pages = Arc::new(AtomicI32::new(0));
        let counter = pages.clone();
        // In place of SQLite's own, which would bring it in.
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            counter.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        Ok(Self(pages))
    }

    /// Brings a long log into the file. Where that fails it is tried again after the
    /// next commit: events are safe in the log.
    pub(super) fn shorten(&self, connection: &Connection) {
        if self.0.load(Ordering::Relaxed) >= PAGES {
            let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        }
    }
}
