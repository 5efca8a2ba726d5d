//! The threads that read, each with a connection of its own.

use super::error::{closed, failed};
use super::matcher::Matcher;
use super::page::{numbers, range};
use super::pending::Shared;
use super::rows::millis;
use super::trim::as_column;
use crate::broker::TopicFilter;
use crate::builtin::storage::{Fetch, FetchReply, Page, StorageError, Which};
use parking_lot::{Condvar, Mutex};
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::oneshot;

/// What the readers have to do. A subscription has one fetch under way, so that
/// there are never more than subscriptions and those who ask by hand.
#[derive(Default)]
pub(super) struct Readers {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

enum Job {
    Fetch(Fetch, FetchReply),
    Other(Box<dyn FnOnce(&mut Reader) + Send>),
}

/// One connection that reads.
pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) shared: Arc<Shared>,
    pub(super) matcher: Matcher,
    /// What the file was like when its topics were read, where another process
    /// writes to it.
    seen: Option<i64>,
}

impl Readers {
    /// Has a page read.
    pub(super) fn fetch(&self, shared: &Shared, fetch: Fetch, reply: FetchReply) {
        if let Err(Job::Fetch(_, reply)) = self.push(Job::Fetch(fetch, reply)) {
            reply(Err(closed(&shared.path)));
        }
    }

    /// Has something else read.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        shared: &Shared,
        question: impl FnOnce(&mut Reader) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::Other(Box::new(move |reader| {
            // Who does not wait any more has gone.
            let _ = reply.send(reader.answer(question));
        }));
        let pushed = self.push(job).is_ok();
        match answer.await {
            Ok(answer) if pushed => answer,
            _ => Err(closed(&shared.path)),
        }
    }

    /// Ends the readers. What is asked for by then is answered.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.wake.notify_all();
    }

    fn push(&self, job: Job) -> Result<(), Job> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(job);
        }
        state.jobs.push_back(job);
        self.wake.notify_one();
        Ok(())
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            match state.jobs.pop_front() {
                Some(job) => return Some(job),
                None if state.is_closed => return None,
                None => self.wake.wait(&mut state),
            }
        }
    }
}

impl Reader {
    pub(super) fn new(connection: Connection, shared: Arc<Shared>, is_beside_writer: bool) -> Self {
        let seen = is_beside_writer.then_some(0);
        Self { connection, shared, matcher: Matcher::default(), seen }
    }

    /// Answers until there is nothing more to come.
    pub(super) fn run(mut self, readers: &Readers) {
        while let Some(job) = readers.next() {
            match job {
                Job::Fetch(fetch, reply) => reply(self.answer(|reader| reader.fetch(fetch))),
                Job::Other(question) => question(&mut self),
            }
        }
    }

    /// Everything up to here may be read.
    pub(super) fn resolved(&self) -> u64 {
        self.shared.resolved()
    }

    fn answer<T>(
        &mut self,
        question: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> Result<T, StorageError> {
        let answer = self.look().and_then(|()| question(self));
        answer.map_err(|error| failed(&self.shared.path, "cannot read the store", &error))
    }

    /// Reads the topics again where another process has changed the file.
    fn look(&mut self) -> rusqlite::Result<()> {
        let Some(seen) = self.seen else { return Ok(()) };
        let now = self.connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
        if now != seen {
            self.shared.topics.load(&self.connection)?;
            let sql = "SELECT number FROM last";
            self.shared.look(self.connection.query_row(sql, [], |row| row.get(0))?);
            self.matcher.forget();
            self.seen = Some(now);
        }
        Ok(())
    }

    fn fetch(&mut self, fetch: Fetch) -> rusqlite::Result<Page> {
        let Fetch { which, events_max, bytes_max } = fetch;
        match which {
            Which::Range { filter, from, end } => {
                range(self, &filter, (from, end), (events_max, bytes_max))
            }
            Which::Numbers(asked) => numbers(self, &asked, (events_max, bytes_max)),
        }
    }

    /// See `Storage::count`.
    pub(super) fn count(&mut self, filter: &TopicFilter, from: u64) -> rusqlite::Result<u64> {
        let mut events = 0;
        let sql = "SELECT count(*) FROM event INDEXED BY event_of_topic \
                   WHERE topic = ?1 AND number >= ?2";
        let mut count = self.connection.prepare_cached(sql)?;
        for (id, stats) in self.shared.topics.matching(filter) {
            events += match stats {
                stats if stats.first.0 >= from => stats.events,
                stats if stats.last.0 < from => 0,
                _ => count.query_row((id, as_column(from)), |row| row.get::<_, u64>(0))?,
            };
        }
        Ok(events)
    }

    /// See `Storage::number_at`.
    pub(super) fn number_at(&mut self, time: SystemTime) -> rusqlite::Result<u64> {
        let (resolved, wanted) = (self.resolved(), millis(time));
        let (mut low, mut high) = (0, resolved + 1);
        // Below `low` everything is earlier; from `high` on nothing is.
        while low < high {
            let middle = low + (high - low) / 2;
            match self.event_from(middle, high)? {
                None => high = middle,
                Some((number, millis)) if millis < wanted => low = number + 1,
                Some(_) => high = middle,
            }
        }
        match self.event_from(low, resolved + 1)? {
            Some((number, _)) => Ok(number),
            None if self.seen.is_some() => Ok(resolved + 1),
            None => {
                let (number, last) = self.shared.last();
                // What is not durable yet may be later.
                Ok(if last < wanted { number + 1 } else { resolved + 1 })
            }
        }
    }

    /// The first event from a number on, before another.
    fn event_from(&self, from: u64, end: u64) -> rusqlite::Result<Option<(u64, i64)>> {
        let sql = "SELECT number, time FROM event WHERE number >= ?1 AND number < ?2 \
                   ORDER BY number LIMIT 1";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        self.connection.prepare_cached(sql)?.query_row([from, end], row).optional()
    }
}
