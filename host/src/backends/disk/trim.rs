//! Deleting what nobody needs, a piece in each commit.

use super::rows::from_millis;
use super::topics::TopicChanges;
use crate::broker::Retention;
use crate::builtin::storage::{Trim, Trimmed};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::time::SystemTime;

/// The most rows that are looked at in one commit.
pub(super) const TRIM_ROWS_MAX: usize = 2048;

/// A trim that is under way.
///
/// What a topic remembers is a run of its newest events: within its age, its
/// number and its bytes. All before that which nobody needs is deleted.
#[derive(Clone)]
pub(super) struct TrimJob {
    trim: Trim,
    /// Where to go on.
    from: u64,
    /// What the topic had from there on when the trim began.
    rest: Option<(u64, u64)>,
    trimmed: Trimmed,
}

impl TrimJob {
    pub(super) fn new(trim: Trim) -> Self {
        Self { trim, from: 0, rest: None, trimmed: Trimmed::default() }
    }

    /// Deletes a piece. Returns what was deleted in all, when it is done.
    pub(super) fn step(
        &mut self,
        connection: &Connection,
        topics: &mut TopicChanges<'_>,
    ) -> rusqlite::Result<Option<Trimmed>> {
        let known = topics.id(&self.trim.topic).and_then(|id| Some((id, topics.stats(id)?)));
        let Some((id, mut stats)) = known else { return Ok(Some(self.trimmed)) };
        if stats.events == 0 || stats.first.0 >= self.trim.needed_from {
            return Ok(Some(self.trimmed));
        }
        let rest = self.rest.get_or_insert((stats.events, stats.bytes));
        let mut piece = Piece { rest: *rest, from: self.from, ..Piece::default() };
        piece.run(connection, id, &self.trim)?;
        *rest = piece.rest;
        self.from = piece.from;
        self.trimmed.events += piece.deleted.events;
        self.trimmed.bytes += piece.deleted.bytes;
        if piece.deleted.events > 0 {
            stats.events = stats.events.saturating_sub(piece.deleted.events);
            stats.bytes = stats.bytes.saturating_sub(piece.deleted.bytes);
            if stats.events > 0 {
                stats.first = end_of_topic(connection, id, false)?.unwrap_or(stats.first);
                stats.last = end_of_topic(connection, id, true)?.unwrap_or(stats.last);
            }
            topics.set(id, stats);
        }
        Ok(piece.is_last.then_some(self.trimmed))
    }
}

/// What is done in one commit.
#[derive(Default)]
struct Piece {
    rest: (u64, u64),
    from: u64,
    deleted: Trimmed,
    is_last: bool,
}

impl Piece {
    fn run(&mut self, connection: &Connection, id: i64, trim: &Trim) -> rusqlite::Result<()> {
        let mut found = Vec::new();
        let mut is_kept = false;
        {
            let mut statement = connection.prepare_cached(
                "SELECT number, size, time FROM event INDEXED BY event_of_topic \
                 WHERE topic = ?1 AND number >= ?2 AND number < ?3 ORDER BY number LIMIT ?4",
            )?;
            let mut rows = statement.query(params![
                id,
                self.from,
                as_column(trim.needed_from),
                TRIM_ROWS_MAX
            ])?;
            while let Some(row) = rows.next()? {
                let (number, size, time): (u64, u64, _) =
                    (row.get(0)?, row.get(1)?, from_millis(row.get(2)?));
                // What follows is kept too, and need not be read.
                is_kept =
                    trim.retention.is_some_and(|retention| self.is_kept(retention, time, trim.now));
                if is_kept {
                    break;
                }
                found.push((number, size));
                self.rest = (self.rest.0.saturating_sub(1), self.rest.1.saturating_sub(size));
            }
        }
        self.is_last = is_kept || found.len() < TRIM_ROWS_MAX;
        let mut delete = connection.prepare_cached("DELETE FROM event WHERE number = ?1")?;
        for (number, size) in found {
            if trim.needed.binary_search(&number).is_err() {
                delete.execute([number])?;
                self.deleted.events += 1;
                self.deleted.bytes += size;
            }
            self.from = number + 1;
        }
        Ok(())
    }

    /// Whether the topic remembers an event, and with it all that follow.
    fn is_kept(&self, retention: Retention, time: SystemTime, now: SystemTime) -> bool {
        let age = now.duration_since(time).unwrap_or_default();
        retention.age.is_none_or(|max| age <= max)
            && retention.events.is_none_or(|max| self.rest.0 <= max)
            && retention.bytes.is_none_or(|max| self.rest.1 <= max)
    }
}

/// The oldest or the newest event of a topic.
fn end_of_topic(
    connection: &Connection,
    id: i64,
    is_newest: bool,
) -> rusqlite::Result<Option<(u64, SystemTime)>> {
    let sql = if is_newest {
        "SELECT number, time FROM event INDEXED BY event_of_topic \
         WHERE topic = ?1 ORDER BY number DESC LIMIT 1"
    } else {
        "SELECT number, time FROM event INDEXED BY event_of_topic \
         WHERE topic = ?1 ORDER BY number LIMIT 1"
    };
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, from_millis(row.get(1)?)));
    connection.prepare_cached(sql)?.query_row([id], row).optional()
}

/// A number as a column can hold it.
pub(super) fn as_column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
