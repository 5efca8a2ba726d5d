//! Pages of events.

use super::matcher::topic_of;
use super::reader::Reader;
use super::rows::{COLUMNS, SIZE, TOPIC, stored};
use super::trim::as_column;
use crate::broker::{Topic, TopicFilter};
use crate::builtin::storage::{Page, Stored};

/// The most rows that one page looks at.
const ROWS_MAX: usize = 8192;
/// Up to so many topics are looked up one by one, by the index.
const TOPICS_MERGED_MAX: usize = 8;
/// Up to so many topics it is worth finding out how many belong to a filter.
const TOPICS_LISTED_MAX: usize = 1024;

/// The most events and bytes of a page.
type Bounds = (usize, usize);

/// A page that is being filled.
struct Filling {
    events: Vec<Stored>,
    bytes: usize,
    max: Bounds,
}

impl Filling {
    fn new(max: Bounds) -> Self {
        Self { events: Vec::new(), bytes: 0, max }
    }

    /// Whether an event of this size goes elsewhere.
    fn is_full_for(&self, size: usize) -> bool {
        let is_too_much = self.events.len() >= self.max.0 || self.bytes + size > self.max.1;
        is_too_much && !self.events.is_empty()
    }

    fn push(&mut self, event: Stored, size: usize) {
        self.bytes += size;
        self.events.push(event);
    }

    fn stop_before(self, next: u64) -> Page {
        Page { events: self.events, next, is_last: false }
    }

    fn end(self, next: u64) -> Page {
        Page { events: self.events, next, is_last: true }
    }
}

/// Reads events of topics: from a number on, before another.
pub(super) fn range(
    reader: &mut Reader,
    filter: &TopicFilter,
    (from, end): (u64, Option<u64>),
    max: Bounds,
) -> rusqlite::Result<Page> {
    let end = end.unwrap_or(u64::MAX).min(reader.resolved() + 1);
    let filling = Filling::new(max);
    if from >= end {
        return Ok(filling.end(from));
    }
    let topics = &reader.shared.topics;
    let few = if filter.has_wildcard() {
        (topics.len() <= TOPICS_LISTED_MAX).then(|| topics.ids(filter))
    } else {
        Some(
            Topic::new(filter.as_str())
                .ok()
                .and_then(|topic| topics.id(&topic))
                .into_iter()
                .collect(),
        )
    };
    let is_few = |ids: &Vec<i64>| ids.len() <= TOPICS_MERGED_MAX && ids.len() < topics.len();
    match few.filter(is_few) {
        Some(ids) => merge(reader, &ids, (from, end), filling),
        None => scan(reader, filter, (from, end), filling),
    }
}

/// Looks at all events in their order.
fn scan(
    reader: &mut Reader,
    filter: &TopicFilter,
    (from, end): (u64, u64),
    mut filling: Filling,
) -> rusqlite::Result<Page> {
    let sql = format!(
        "SELECT {COLUMNS} FROM event WHERE number >= ?1 AND number < ?2 ORDER BY number LIMIT ?3"
    );
    let (mut rows_seen, mut next) = (0, from);
    let Reader { connection, shared, matcher, .. } = reader;
    let answers = matcher.answers(filter);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((from, as_column(end), ROWS_MAX))?;
    while let Some(row) = rows.next()? {
        let number: u64 = row.get(0)?;
        let id: i64 = row.get(TOPIC)?;
        let answer = match answers.get(&id) {
            Some(answer) => answer.clone(),
            None => {
                let topic = topic_of(connection, &shared.topics, id)?;
                let answer = topic.filter(|topic| filter.matches(topic));
                answers.insert(id, answer.clone());
                answer
            }
        };
        if let Some(topic) = answer {
            let size = row.get(SIZE)?;
            if filling.is_full_for(size) {
                return Ok(filling.stop_before(number));
            }
            filling.push(stored(row, topic)?, size);
        }
        rows_seen += 1;
        next = number + 1;
    }
    Ok(if rows_seen == ROWS_MAX { filling.stop_before(next) } else { filling.end(end) })
}

/// Looks at the events of some topics, by the index.
fn merge(
    reader: &Reader,
    topics: &[i64],
    (from, end): (u64, u64),
    mut filling: Filling,
) -> rusqlite::Result<Page> {
    // One more than the page takes: whether there is more to come.
    let limit = filling.max.0.saturating_add(1).min(ROWS_MAX);
    let mut found = Vec::new();
    let mut whole_until = end;
    let sql = "SELECT number FROM event INDEXED BY event_of_topic \
               WHERE topic = ?1 AND number >= ?2 AND number < ?3 ORDER BY number LIMIT ?4";
    for topic in topics {
        let mut statement = reader.connection.prepare_cached(sql)?;
        let before = found.len();
        let rows =
            statement.query_map((topic, from, as_column(whole_until), limit), |row| row.get(0))?;
        for number in rows {
            found.push(number?);
        }
        // What is behind the last one of a cut list is not known.
        if found.len() - before == limit {
            whole_until = found.last().map_or(whole_until, |last: &u64| last + 1);
        }
    }
    found.sort_unstable();
    for number in found.into_iter().filter(|number| *number < whole_until) {
        if !take(reader, number, &mut filling)? {
            return Ok(filling.stop_before(number));
        }
    }
    Ok(if whole_until < end { filling.stop_before(whole_until) } else { filling.end(end) })
}

/// Reads certain events.
pub(super) fn numbers(reader: &Reader, asked: &[u64], max: Bounds) -> rusqlite::Result<Page> {
    let resolved = reader.resolved();
    let mut filling = Filling::new(max);
    for number in asked.iter().copied().filter(|number| *number <= resolved) {
        if !take(reader, number, &mut filling)? {
            return Ok(filling.stop_before(number));
        }
    }
    Ok(filling.end(asked.last().map_or(0, |last| last + 1)))
}

/// Takes an event into a page, if it is there. Returns whether there was room for it.
fn take(reader: &Reader, number: u64, filling: &mut Filling) -> rusqlite::Result<bool> {
    let sql = format!("SELECT {COLUMNS} FROM event WHERE number = ?1");
    let mut statement = reader.connection.prepare_cached(&sql)?;
    let mut rows = statement.query([number])?;
    let Some(row) = rows.next()? else { return Ok(true) };
    let size = row.get(SIZE)?;
    if filling.is_full_for(size) {
        return Ok(false);
    }
    if let Some(topic) = topic_of(&reader.connection, &reader.shared.topics, row.get(TOPIC)?)? {
        filling.push(stored(row, topic)?, size);
    }
    Ok(true)
}
