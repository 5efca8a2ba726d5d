//! Which of the stored topics belong to a filter.

use super::topics::Topics;
use crate::broker::{Topic, TopicFilter};
use rusqlite::{Connection, OptionalExtension as _};
use std::collections::HashMap;

/// The most topics that the answers of one filter are remembered for.
const ANSWERS_MAX: usize = 65_536;
/// The most filters that answers are remembered for.
const FILTERS_MAX: usize = 64;

/// Remembers which topics belong to which filter, as far as that was asked.
#[derive(Default)]
pub(super) struct Matcher(HashMap<TopicFilter, Answers>);

/// The topics that belong to one filter; `None`: one does not.
pub(super) type Answers = HashMap<i64, Option<Topic>>;

impl Matcher {
    /// What is known of a filter.
    pub(super) fn answers(&mut self, filter: &TopicFilter) -> &mut Answers {
        if self.0.len() >= FILTERS_MAX && !self.0.contains_key(filter) {
            self.0.clear();
        }
        let answers = self.0.entry(filter.clone()).or_default();
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        answers
    }

    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// The topic of a number; `None`: its events are deleted.
pub(super) fn topic_of(
    connection: &Connection,
    topics: &Topics,
    id: i64,
) -> rusqlite::Result<Option<Topic>> {
    if let Some(topic) = topics.topic(id) {
        return Ok(Some(topic));
    }
    let sql = "SELECT name FROM topic WHERE id = ?1";
    let name: Option<String> =
        connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()?;
    Ok(name.and_then(|name| Topic::new(&name).ok()))
}
