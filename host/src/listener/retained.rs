//! Retained messages: the last one of each topic.

use crate::broker::{Event, Qos, Topic, TopicFilter};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// A retained message.
#[derive(Debug)]
pub struct RetainedMessage {
    /// The topic.
    pub topic: Topic,
    /// The event, as it was published.
    pub event: Arc<Event>,
    /// The quality of service that it was published with.
    pub qos: Qos,
    /// The client that published it.
    pub from: Option<Arc<str>>,
}

/// The retained messages of one broker, in memory.
pub struct RetainedStore {
    messages_max: usize,
    bytes_max: usize,
    state: RwLock<State>,
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
    #[must_use]
    pub fn new(messages_max: usize, bytes_max: usize) -> Self {
        Self { messages_max, bytes_max, state: RwLock::default() }
    }

    /// Keeps a message instead of the one before of its topic; one without payload
    /// removes it. Returns whether there was room.
    pub fn set(&self, message: RetainedMessage) -> bool {
        let key = Key::new(message.topic.as_str());
        let size = size(&message);
        let mut state = self.state.write();
        let before = state.messages.get(&key).map(|before| self::size(before));
        if message.event.data.is_empty() {
            state.messages.remove(&key);
            state.bytes -= before.unwrap_or(0);
            return true;
        }
        let bytes = state.bytes - before.unwrap_or(0) + size;
        if bytes > self.bytes_max || before.is_none() && state.messages.len() >= self.messages_max {
            return false;
        }
        state.bytes = bytes;
        state.messages.insert(key, Arc::new(message));
        true
    }

    /// The messages of the topics that a filter asks for.
    #[must_use]
    pub fn find(&self, filter: &TopicFilter) -> Vec<Arc<RetainedMessage>> {
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
    pub fn forget(&self, is_over: impl Fn(&Event) -> bool) {
        let over = |message: &RetainedMessage| is_over(&message.event);
        // There are mostly none, and readers need not wait for that to be found out.
        if !self.state.read().messages.values().any(|message| over(message)) {
            return;
        }
        let mut state = self.state.write();
        let State { messages, bytes } = &mut *state;
        messages.retain(|_, message| {
            let is_over = over(message);
            *bytes -= if is_over { size(message) } else { 0 };
            !is_over
        });
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.read().messages.len()
    }

    /// How much they take up, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.state.read().bytes
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

    fn found(store: &RetainedStore, filter: &str) -> Vec<String> {
        let filter = TopicFilter::new(filter).unwrap();
        store.find(&filter).iter().map(|message| message.topic.to_string()).collect()
    }

    #[test]
    fn mqtt_3_3_1_3_filters_find_the_last_message_of_each_topic() {
        let store = RetainedStore::new(100, 10_000);
        for topic in ["a", "a/b", "a/b/c", "a-b", "a/", "/a", "b", "$SYS/x", "é/x"] {
            assert!(store.set(message(topic, "1")) && store.set(message(topic, "2")));
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
        let store = RetainedStore::new(100, 10_000);
        assert!(store.set(message("a", "1")) && store.set(message("a", "")));
        assert!(store.is_empty() && store.set(message("a", "")));
        assert_eq!(store.bytes(), 0);
    }

    #[test]
    fn at_its_bounds_a_store_keeps_what_it_has() {
        let store = RetainedStore::new(2, 10);
        assert!(store.set(message("a", "1234")) && store.set(message("b", "1")));
        assert!(!store.set(message("c", "1")));
        assert!(!store.set(message("b", "123456")));
        assert!(store.set(message("a", "")) && store.set(message("b", "123456")));
    }

    #[test]
    fn what_is_over_makes_room() {
        let store = RetainedStore::new(2, 10);
        assert!(store.set(message("a", "1234")) && store.set(message("b", "1")));
        store.forget(|event| event.data.len() > 1);
        assert_eq!(found(&store, "#"), ["b"]);
        assert!(store.set(message("c", "123456")));
    }
}
