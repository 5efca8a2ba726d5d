//! The topics that have events, with what they have: in memory, as the file has it.

use crate::broker::{Topic, TopicFilter};
use crate::builtin::storage::TopicStats;
use parking_lot::RwLock;
use rusqlite::{Connection, params};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::SystemTime;

use super::rows::{from_millis, millis, unreadable};

const UPDATE: &str = "UPDATE topic SET events = ?2, bytes = ?3, first_number = ?4, first_time = ?5, \
                      last_number = ?6, last_time = ?7 WHERE id = ?1";

/// The topics of what is durable.
#[derive(Default)]
pub(super) struct Topics(RwLock<Known>);

#[derive(Default)]
struct Known {
    ids: HashMap<Topic, i64>,
    stats: HashMap<i64, TopicStats>,
    /// Never given twice while the process runs.
    id_max: i64,
}

/// What a transaction changes of the topics.
pub(super) struct TopicChanges<'a> {
    known: &'a Topics,
    ids: HashMap<Topic, i64>,
    changed: HashMap<i64, Changed>,
    id_max: i64,
}

struct Changed {
    stats: TopicStats,
    is_new: bool,
}

impl Topics {
    /// Reads them from the file.
    pub(super) fn load(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut known = Known { id_max: self.0.read().id_max, ..Known::default() };
        let mut statement = connection.prepare_cached("SELECT * FROM topic")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = row.get("id")?;
            let name = row.get_ref("name")?.as_str()?;
            let topic = Topic::new(name).map_err(|error| unreadable("topic", name, error))?;
            let time = |column| row.get(column).map(from_millis);
            let stats = TopicStats {
                topic: topic.clone(),
                events: row.get("events")?,
                bytes: row.get("bytes")?,
                first: (row.get("first_number")?, time("first_time")?),
                last: (row.get("last_number")?, time("last_time")?),
            };
            known.ids.insert(topic, id);
            known.stats.insert(id, stats);
            known.id_max = known.id_max.max(id);
        }
        *self.0.write() = known;
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.0.read().ids.len()
    }

    /// The number of a topic that has events.
    pub(super) fn id(&self, topic: &Topic) -> Option<i64> {
        self.0.read().ids.get(topic).copied()
    }

    /// The topic of a number.
    pub(super) fn topic(&self, id: i64) -> Option<Topic> {
        self.0.read().stats.get(&id).map(|stats| stats.topic.clone())
    }

    /// The numbers of the topics of a filter.
    pub(super) fn ids(&self, filter: &TopicFilter) -> Vec<i64> {
        let known = self.0.read();
        known.ids.iter().filter(|(topic, _)| filter.matches(topic)).map(|(_, id)| *id).collect()
    }

    /// The topics of a filter with what they have.
    pub(super) fn matching(&self, filter: &TopicFilter) -> Vec<(i64, TopicStats)> {
        let exact = Topic::new(filter.as_str()).ok();
        let ids = match exact {
            Some(topic) => self.id(&topic).into_iter().collect(),
            None => self.ids(filter),
        };
        let known = self.0.read();
        ids.into_iter().filter_map(|id| Some((id, known.stats.get(&id)?.clone()))).collect()
    }

    /// What they have.
    pub(super) fn stats(&self) -> Vec<TopicStats> {
        self.0.read().stats.values().cloned().collect()
    }

    /// The bytes of all events.
    pub(super) fn bytes(&self) -> u64 {
        self.0.read().stats.values().map(|stats| stats.bytes).sum()
    }

    /// Begins to change them. There is one who does at a time.
    pub(super) fn change(&self) -> TopicChanges<'_> {
        let id_max = self.0.read().id_max;
        TopicChanges { known: self, ids: HashMap::new(), changed: HashMap::new(), id_max }
    }
}

impl TopicChanges<'_> {
    /// The number of a topic, which may be new.
    pub(super) fn id_or_new(&mut self, topic: &Topic) -> i64 {
        if let Some(id) = self.id(topic) {
            return id;
        }
        self.id_max += 1;
        self.ids.insert(topic.clone(), self.id_max);
        self.id_max
    }

    /// The number of a topic.
    pub(super) fn id(&self, topic: &Topic) -> Option<i64> {
        self.ids.get(topic).copied().or_else(|| self.known.id(topic))
    }

    /// An event came.
    pub(super) fn add(&mut self, id: i64, topic: &Topic, event: (u64, SystemTime), bytes: usize) {
        let stats = self.stats_mut(id, topic, event);
        stats.events += 1;
        stats.bytes += bytes as u64;
        stats.last = event;
    }

    /// What a topic has; `None`: nothing.
    pub(super) fn stats(&self, id: i64) -> Option<TopicStats> {
        match self.changed.get(&id) {
            Some(changed) => Some(changed.stats.clone()),
            None => self.known.0.read().stats.get(&id).cloned(),
        }
    }

    /// Sets what is left of a topic.
    pub(super) fn set(&mut self, id: i64, stats: TopicStats) {
        self.stats_mut(id, &stats.topic, stats.first).clone_from(&stats);
    }

    fn stats_mut(&mut self, id: i64, topic: &Topic, event: (u64, SystemTime)) -> &mut TopicStats {
        let changed = match self.changed.entry(id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let known = self.known.0.read().stats.get(&id).cloned();
                let is_new = known.is_none();
                let new = || TopicStats {
                    topic: topic.clone(),
                    events: 0,
                    bytes: 0,
                    first: event,
                    last: event,
                };
                entry.insert(Changed { stats: known.unwrap_or_else(new), is_new })
            }
        };
        if changed.stats.events == 0 {
            changed.stats.first = event;
        }
        &mut changed.stats
    }

    /// Writes the changes to the file.
    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        for (id, Changed { stats, is_new }) in &self.changed {
            let values = params![
                id,
                stats.events,
                stats.bytes,
                stats.first.0,
                millis(stats.first.1),
                stats.last.0,
                millis(stats.last.1),
            ];
            match (stats.events, is_new) {
                (0, true) => {}
                (0, false) => {
                    connection.prepare_cached("DELETE FROM topic WHERE id = ?1")?.execute([id])?;
                }
                (_, false) => {
                    connection.prepare_cached(UPDATE)?.execute(values)?;
                }
                (_, true) => {
                    let name = "INSERT INTO topic VALUES (?1, ?2, 0, 0, 0, 0, 0, 0)";
                    connection.prepare_cached(name)?.execute(params![id, stats.topic.as_str()])?;
                    connection.prepare_cached(UPDATE)?.execute(values)?;
                }
            }
        }
        Ok(())
    }

    /// The changes are durable. Returns how many bytes there are more now.
    pub(super) fn keep(self) -> i64 {
        let mut known = self.known.0.write();
        known.id_max = self.id_max;
        let mut bytes = 0;
        for (id, Changed { stats, .. }) in self.changed {
            let before = known.stats.get(&id).map_or(0, |stats| stats.bytes);
            bytes += stats.bytes as i64 - before as i64;
            if stats.events == 0 {
                known.ids.remove(&stats.topic);
                known.stats.remove(&id);
            } else {
                known.ids.insert(stats.topic.clone(), id);
                known.stats.insert(id, stats);
            }
        }
        bytes
    }
}
