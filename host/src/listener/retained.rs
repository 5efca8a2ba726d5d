//! Retained messages: the last one of each topic.

use super::archive::{Archive, Promise};
use crate::broker::{Event, Qos, Topic, TopicFilter};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A retained message.
#[derive(Clone, Debug)]
pub(super) struct RetainedMessage {
    /// The topic.
    pub(super) topic: Topic,
    /// The event, as it was published.
    pub(super) event: Arc<Event>,
    /// The quality of service that it was published with.
    pub(super) qos: Qos,
    /// The client that published it.
    pub(super) from: Option<Arc<str>>,
}

/// The retained messages of one broker, in memory, and in the archive where there is
/// one.
pub(super) struct RetainedStore {
    messages_max: usize,
    bytes_max: usize,
    archive: Option<Arc<Archive>>,
    /// Whether everything is here that the archive had at the start.
    is_restored: AtomicBool,
    state: RwLock<State>,
}

/// What becomes of a message that is read from the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restored {
    /// It is there again.
    Kept,
    /// There is a newer one of its topic.
    Outdated,
    /// There is no room for it: it is to be removed.
    Unfit,
}

#[derive(Default)]
struct State {
    /// In the order of levels, so that all below a level are neighbours.
    messages: BTreeMap<Key, Arc<RetainedMessage>>,
    bytes: usize,
}

/// A topic in the order of its levels: `/` comes before every other character.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key(Box<[u8]>);

impl Key {
    fn new(topic: &str) -> Self {
        // U+0000 is in no topic, so that it can stand for the end of a level.
        Self(topic.bytes().map(|byte| if byte == b'/' { 0 } else { byte }).collect())
    }
}

impl RetainedStore {
    /// An empty store with these bounds.
    pub(super) fn new(
        messages_max: usize,
        bytes_max: usize,
        archive: Option<Arc<Archive>>,
    ) -> Self {
        let (is_restored, state) = (AtomicBool::new(archive.is_none()), RwLock::default());
        Self { messages_max, bytes_max, archive, is_restored, state }
    }

    /// Keeps a message instead of the one before of its topic; one without payload
    /// removes it. `None` where there is no room.
    pub(super) fn set(&self, message: RetainedMessage) -> Option<Promise> {
        let (key, topic) = (Key::new(message.topic.as_str()), message.topic.clone());
        let mut state = self.state.write();
        let message = match message.event.data.is_empty() {
            true if !state.remove(&key) && self.is_restored.load(Relaxed) => {
                // It was removed before, if it was there.
                return Some(self.archive.as_ref().map(Archive::all).unwrap_or_default());
            }
            true => None,
            false => {
                let message = Arc::new(message);
                if !self.has_room(&state, &key, &message) {
                    return None;
                }
                state.insert(key, message.clone());
                Some(message)
            }
        };
        // With the lock, so that the archive has the last of two as well.
        Some(self.note(&topic, message))
    }

    /// What is removed and whose removal is not written takes room, so that there is
    /// no end of that neither.
    fn has_room(&self, state: &State, key: &Key, message: &RetainedMessage) -> bool {
        let before = state.messages.get(key).map(|before| size(before));
        let bytes = state.bytes - before.unwrap_or(0) + size(message);
        let removals = self.archive.as_ref().map_or(0, |archive| archive.removals());
        bytes <= self.bytes_max
            && (before.is_some() || state.messages.len() + removals < self.messages_max)
    }

    /// What is said of the server itself holds while it runs.
    fn note(&self, topic: &Topic, message: Option<Arc<RetainedMessage>>) -> Promise {
        match &self.archive {
            Some(archive) if !topic.as_str().starts_with("$SYS/") => {
                archive.note_retained(topic, message)
            }
            _ => Promise::default(),
        }
    }

    /// Takes in a message that the archive had at the start. Nothing that was noted in
    /// this process is written by then.
    pub(super) fn restore(&self, message: RetainedMessage) -> Restored {
        let key = Key::new(message.topic.as_str());
        let mut state = self.state.write();
        let is_noted = |archive: &Arc<Archive>| archive.has_retained(&message.topic);
        if state.messages.contains_key(&key) || self.archive.as_ref().is_some_and(is_noted) {
            return Restored::Outdated;
        }
        if !self.has_room(&state, &key, &message) {
            return Restored::Unfit;
        }
        state.insert(key, Arc::new(message));
        Restored::Kept
    }

    /// Everything is taken in.
    pub(super) fn is_complete(&self) {
        self.is_restored.store(true, Relaxed);
    }

    /// The messages of the topics that a filter asks for.
    pub(super) fn find(&self, filter: &TopicFilter) -> Vec<Arc<RetainedMessage>> {
        let state = self.state.read();
        if !filter.has_wildcard() {
            return state.messages.get(&Key::new(filter.as_str())).cloned().into_iter().collect();
        }
        // What all of them begin with: the levels before the first wildcard.
        let prefix = Key::new(prefix(filter.as_str())).0;
        let range = (Bound::Included(Key(prefix.clone())), Bound::Unbounded);
        let in_range = state
            .messages
            .range::<Key, _>(range)
            .take_while(|(key, _)| key.0.starts_with(&prefix))
            .map(|(_, message)| message);
        in_range.filter(|message| filter.matches(&message.topic)).cloned().collect()
    }

    /// Removes those whose event is over.
    pub(super) fn forget(&self, is_over: impl Fn(&Event) -> bool) {
        let over = |message: &RetainedMessage| is_over(&message.event);
        // There are mostly none, and readers need not wait for that to be found out.
        if !self.state.read().messages.values().any(|message| over(message)) {
            return;
        }
        let mut state = self.state.write();
        let State { messages, bytes } = &mut *state;
        messages.retain(|_, message| {
            let is_over = over(message);
            if is_over {
                *bytes -= size(message);
                self.note(&message.topic, None);
            }
            !is_over
        });
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.state.read().messages.len()
    }

    /// How much they take up, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.state.read().bytes
    }
}

impl State {
    fn insert(&mut self, key: Key, message: Arc<RetainedMessage>) {
        self.bytes += size(&message);
        if let Some(before) = self.messages.insert(key, message) {
            self.bytes -= size(&before);
        }
    }

    /// Says whether it was there.
    fn remove(&mut self, key: &Key) -> bool {
        let before = self.messages.remove(key);
        self.bytes -= before.as_ref().map_or(0, |before| size(before));
        before.is_some()
    }
}

fn size(message: &RetainedMessage) -> usize {
    message.event.size() + message.topic.as_str().len()
}

/// The levels before the first wildcard, without the `/` after them: `a/#` asks for
/// `a` as well.
fn prefix(filter: &str) -> &str {
    let end = filter.find(['+', '#']).unwrap_or(filter.len());
    filter[..end].trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, data: &'static str) -> RetainedMessage {
        RetainedMessage {
            topic: Topic::new(topic).unwrap(),
            event: Arc::new(Event { data: data.into(), ..Event::default() }),
            qos: Qos::AtLeastOnce,
            from: None,
        }
    }

    fn set(store: &RetainedStore, message: RetainedMessage) -> bool {
        store.set(message).is_some()
    }

    fn found(store: &RetainedStore, filter: &str) -> Vec<String> {
        let filter = TopicFilter::new(filter).unwrap();
        store.find(&filter).iter().map(|message| message.topic.to_string()).collect()
    }

    #[test]
    fn mqtt_3_3_1_3_filters_find_the_last_message_of_each_topic() {
        let store = RetainedStore::new(100, 10_000, None);
        for topic in ["a", "a/b", "a/b/c", "a-b", "a/", "/a", "b", "$SYS/x", "é/x"] {
            assert!(set(&store, message(topic, "1")) && set(&store, message(topic, "2")));
        }
        assert_eq!(store.len(), 9);
        assert_eq!(found(&store, "a/#"), ["a", "a/", "a/b", "a/b/c"]);
        assert_eq!(found(&store, "a/+"), ["a/", "a/b"]);
        assert_eq!(found(&store, "+"), ["a", "a-b", "b"]);
        assert_eq!(found(&store, "+/a"), ["/a"]);
        assert_eq!(found(&store, "$SYS/#"), ["$SYS/x"]);
        assert_eq!(found(&store, "#").len(), 8);
        assert_eq!(found(&store, "é/x"), ["é/x"]);
        assert_eq!(store.find(&TopicFilter::new("a").unwrap())[0].event.data, "2");
    }

    #[test]
    fn mqtt_3_3_1_6_a_message_without_payload_removes_the_one_before() {
        let store = RetainedStore::new(100, 10_000, None);
        assert!(set(&store, message("a", "1")) && set(&store, message("a", "")));
        assert!(store.len() == 0 && set(&store, message("a", "")));
        assert_eq!(store.bytes(), 0);
    }

    #[test]
    fn at_its_bounds_a_store_keeps_what_it_has() {
        let store = RetainedStore::new(2, 10, None);
        assert!(set(&store, message("a", "1234")) && set(&store, message("b", "1")));
        assert!(!set(&store, message("c", "1")));
        assert!(!set(&store, message("b", "123456")));
        assert!(set(&store, message("a", "")) && set(&store, message("b", "123456")));
    }

    #[test]
    fn what_is_over_makes_room() {
        let store = RetainedStore::new(2, 10, None);
        assert!(set(&store, message("a", "1234")) && set(&store, message("b", "1")));
        store.forget(|event| event.data.len() > 1);
        assert_eq!(found(&store, "#"), ["b"]);
        assert!(set(&store, message("c", "123456")));
    }
}
