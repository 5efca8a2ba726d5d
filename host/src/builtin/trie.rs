//! Which filters a topic matches, without looking at all of them.

use crate::broker::{Topic, TopicFilter};
use std::collections::HashMap;

const ROOT: u32 = 0;

/// What stands under one filter.
pub(super) trait Leaf: Default {
    fn is_empty(&self) -> bool;
}

/// A leaf for each filter: a tree of levels.
///
/// Nodes lie in one vector and are walked in a loop, as a topic may have
/// thousands of levels.
pub(super) struct Trie<T> {
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
}

struct Node<T> {
    levels: HashMap<Box<str>, u32>,
    plus: Option<u32>,
    /// Of the filter that ends here.
    here: T,
    /// Of the filter that has `#` after this level.
    below: T,
}

impl<T: Leaf> Default for Node<T> {
    fn default() -> Self {
        Self { levels: HashMap::new(), plus: None, here: T::default(), below: T::default() }
    }
}

impl<T: Leaf> Node<T> {
    fn is_empty(&self) -> bool {
        self.levels.is_empty()
            && self.plus.is_none()
            && self.here.is_empty()
            && self.below.is_empty()
    }
}

impl<T: Leaf> Default for Trie<T> {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new() }
    }
}

impl<T: Leaf> Trie<T> {
    /// The leaf of a filter, which the caller puts something into.
    pub(super) fn leaf_mut(&mut self, filter: &TopicFilter) -> &mut T {
        let mut at = ROOT;
        for level in filter.as_str().split('/') {
            if level == "#" {
                return &mut self.node_mut(at).below;
            }
            at = match self.child(at, level) {
                Some(child) => child,
                None => self.add_child(at, level),
            };
        }
        &mut self.node_mut(at).here
    }

    /// Changes the leaf of a filter, if there is one, and forgets it when it is
    /// empty then.
    pub(super) fn edit(&mut self, filter: &TopicFilter, change: impl FnOnce(&mut T)) {
        let mut path = Vec::new();
        let mut at = ROOT;
        for level in filter.as_str().split('/').take_while(|level| *level != "#") {
            let Some(child) = self.child(at, level) else { return };
            path.push((at, level));
            at = child;
        }
        let below = filter.as_str() == "#" || filter.as_str().ends_with("/#");
        let node = self.node_mut(at);
        change(if below { &mut node.below } else { &mut node.here });
        self.prune(at, path);
    }

    /// Calls `found` with the leaf of each filter that matches.
    pub(super) fn find<'a>(&'a self, topic: &Topic, mut found: impl FnMut(&'a T)) {
        // What is left of the topic; nothing is another matter than one empty level.
        let mut next = Some((ROOT, Some(topic.as_str())));
        let mut branches = Vec::new();
        while let Some((at, rest)) = next.take().or_else(|| branches.pop()) {
            let node = self.node(at);
            // MQTT 5.0, section 4.7.2.
            let wildcards = at != ROOT || !topic.as_str().starts_with('$');
            if wildcards {
                found(&node.below);
            }
            let Some(rest) = rest else {
                found(&node.here);
                continue;
            };
            let (level, rest) = match rest.split_once('/') {
                Some((level, rest)) => (level, Some(rest)),
                None => (rest, None),
            };
            next = node.levels.get(level).map(|child| (*child, rest));
            if wildcards && let Some(plus) = node.plus {
                branches.push((plus, rest));
            }
        }
    }

    /// Calls `found` with each leaf.
    pub(super) fn for_each<'a>(&'a self, mut found: impl FnMut(&'a T)) {
        for node in &self.nodes {
            found(&node.here);
            found(&node.below);
        }
    }

    fn child(&self, at: u32, level: &str) -> Option<u32> {
        let node = self.node(at);
        if level == "+" { node.plus } else { node.levels.get(level).copied() }
    }

    fn add_child(&mut self, at: u32, level: &str) -> u32 {
        let child = match self.free.pop() {
            Some(child) => child,
            None => {
                self.nodes.push(Node::default());
                // Four thousand million nodes do not fit into memory.
                u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let node = self.node_mut(at);
        if level == "+" {
            node.plus = Some(child);
        } else {
            node.levels.insert(level.into(), child);
        }
        child
    }

    /// Frees a node and those on the way to it, while nothing is under them.
    fn prune(&mut self, mut at: u32, mut path: Vec<(u32, &str)>) {
        while self.node(at).is_empty()
            && let Some((parent, level)) = path.pop()
        {
            *self.node_mut(at) = Node::default();
            self.free.push(at);
            let node = self.node_mut(parent);
            if level == "+" {
                node.plus = None;
            } else {
                node.levels.remove(level);
            }
            at = parent;
        }
    }

    fn node(&self, at: u32) -> &Node<T> {
        &self.nodes[at as usize]
    }

    fn node_mut(&mut self, at: u32) -> &mut Node<T> {
        &mut self.nodes[at as usize]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn text(rng: &mut fastrand::Rng, levels: &[&str], last: &[&str]) -> String {
        let mut levels: Vec<_> =
            (0..rng.usize(0..5)).map(|_| levels[rng.usize(..levels.len())]).collect();
        levels.push(last[rng.usize(..last.len())]);
        levels.join("/")
    }

    impl Leaf for Vec<usize> {
        fn is_empty(&self) -> bool {
            self.is_empty()
        }
    }

    fn insert(trie: &mut Trie<Vec<usize>>, filter: &TopicFilter, value: usize) {
        trie.leaf_mut(filter).push(value);
    }

    fn remove(trie: &mut Trie<Vec<usize>>, filter: &TopicFilter, value: usize) {
        trie.edit(filter, |values| values.retain(|other| *other != value));
    }

    fn found(trie: &Trie<Vec<usize>>, topic: &Topic) -> Vec<usize> {
        let mut found = Vec::new();
        trie.find(topic, |values| found.extend(values));
        found.sort_unstable();
        found
    }

    #[test]
    fn finds_what_the_filters_match_through_inserts_and_removes() {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut trie = Trie::default();
        let mut filters: Vec<Option<TopicFilter>> = Vec::new();
        for round in 0..2000 {
            let filter =
                text(&mut rng, &["a", "b", "", "é", "+", "$x"], &["a", "+", "#", "", "$x"]);
            if let Ok(filter) = TopicFilter::new(&filter) {
                insert(&mut trie, &filter, filters.len());
                filters.push(Some(filter));
            }
            if round % 3 > 0 && !filters.is_empty() {
                let index = rng.usize(..filters.len());
                if let Some(filter) = filters[index].take() {
                    remove(&mut trie, &filter, index);
                }
            }
            let Ok(topic) =
                Topic::new(&text(&mut rng, &["a", "b", "", "é", "$x"], &["a", "", "é"]))
            else {
                continue;
            };
            let matching =
                |filter: &Option<TopicFilter>| filter.as_ref().is_some_and(|f| f.matches(&topic));
            let expected: Vec<_> =
                (0..filters.len()).filter(|index| matching(&filters[*index])).collect();
            assert_eq!(found(&trie, &topic), expected, "seed {seed}, topic {topic}");
        }
        for (index, filter) in filters.iter().enumerate() {
            if let Some(filter) = filter {
                remove(&mut trie, filter, index);
            }
        }
        assert!(trie.nodes[0].is_empty() && trie.free.len() == trie.nodes.len() - 1, "seed {seed}");
    }

    #[test]
    fn thousands_of_levels_are_no_danger_to_the_stack() {
        let mut trie = Trie::default();
        let deep = "+/".repeat(32_000);
        insert(&mut trie, &TopicFilter::new(&format!("{deep}#")).unwrap(), 1);
        insert(&mut trie, &TopicFilter::new(&format!("{deep}a")).unwrap(), 2);
        assert_eq!(
            found(&trie, &Topic::new(&format!("{}a", "x/".repeat(32_000))).unwrap()),
            [1, 2]
        );
    }
}
