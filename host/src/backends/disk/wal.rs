//! The log that `SQLite` writes first: brought into the file when it is long.
//!
//! `SQLite` would do that within a commit. Here a thread of its own does, with its own
//! connection, while commits go on. They write to the end of the log, so that it only
//! begins anew when somebody has waited for the rest: the writer, where it is too long.

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::{self, JoinHandle};

/// Each time that the log has grown by so many pages, it is brought into the file.
const PAGES: i32 = 2048;
/// At so many the writer waits until all of it is.
const PAGES_MAX: i32 = 4 * PAGES;
/// What that is in bytes, about.
#[cfg(test)]
pub(super) const LOG_BYTES_MAX: u64 = PAGES_MAX as u64 * super::schema::PAGE_BYTES as u64;

/// How long the log is, and who makes it shorter.
pub(super) struct Log {
    pages: Arc<AtomicI32>,
    /// Where the next part of it is brought in.
    next: i32,
    work: Arc<Work>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Work {
    stage: Mutex<Stage>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    Asked,
    Busy,
    Ended,
}

impl Log {
    /// Has the pages counted that `writer` commits; `other` is a connection to the same
    /// file, which brings them in.
    pub(super) fn of(writer: &mut Connection, other: Connection) -> rusqlite::Result<Self> {
        let pages = Arc::new(AtomicI32::new(0));
        let counter = pages.clone();
        // In place of SQLite's own, which would bring it in.
        writer.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages| {
            counter.store(pages, Ordering::Relaxed);
            Ok(())
        }))?;
        let work = Arc::<Work>::default();
        let its = work.clone();
        let thread = thread::Builder::new().name("store-log".to_owned());
        let thread = thread.spawn(move || its.run(&other)).map_err(no_thread)?;
        Ok(Self { pages, next: PAGES, work, thread: Some(thread) })
    }

    /// Has a long log brought into the file, after a commit. Where that fails it is
    /// tried again after a later one: events are safe in the log.
    pub(super) fn shorten(&mut self, writer: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < PAGES {
            self.next = PAGES;
        } else if pages >= PAGES_MAX {
            self.work.wait();
            bring_in(writer);
        } else if pages >= self.next && self.work.ask() {
            self.next = pages + PAGES;
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.work.end();
        if let Some(thread) = self.thread.take() {
            // A panic was told where it happened.
            let _ = thread.join();
        }
    }
}

impl Work {
    fn run(&self, connection: &Connection) {
        let mut stage = self.stage.lock();
        loop {
            match *stage {
                Stage::Ended => return,
                Stage::Asked => {
                    *stage = Stage::Busy;
                    parking_lot::MutexGuard::unlocked(&mut stage, || bring_in(connection));
                    if *stage == Stage::Busy {
                        *stage = Stage::Idle;
                    }
                    self.changed.notify_all();
                }
                Stage::Idle | Stage::Busy => self.changed.wait(&mut stage),
            }
        }
    }

    /// Returns whether it has begun.
    fn ask(&self) -> bool {
        let mut stage = self.stage.lock();
        let is_idle = *stage == Stage::Idle;
        if is_idle {
            *stage = Stage::Asked;
            self.changed.notify_all();
        }
        is_idle
    }

    /// Waits for the end of what was asked for.
    fn wait(&self) {
        let mut stage = self.stage.lock();
        while matches!(*stage, Stage::Asked | Stage::Busy) {
            self.changed.wait(&mut stage);
        }
    }

    fn end(&self) {
        *self.stage.lock() = Stage::Ended;
        self.changed.notify_all();
    }
}

/// Brings in what nobody needs in the log any more.
fn bring_in(connection: &Connection) {
    let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
}

fn no_thread(error: io::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}
