//! Which subscriptions want an event, without looking at all of them.

use super::queue::Queue;
use super::trie::{Leaf, Trie};
use crate::broker::{Event, EventFilter, RetentionRule, Topic, TopicFilter};
use std::collections::HashMap;
use std::sync::Arc;

/// The subscriptions by topic filter and event filter, and by name.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) filters: Trie<Shelf>,
    pub(super) by_name: HashMap<String, Arc<Queue>>,
    pub(super) groups: HashMap<(TopicFilter, String), Arc<Queue>>,
    /// The queues of topic subscriptions that are being replaced, by label. They
    /// go on collecting events until their successors come.
    pub(super) bequeathed: HashMap<String, Arc<Queue>>,
    pub(super) retention: Vec<RetentionRule>,
    /// The topics of snapshots: what is published there is kept.
    pub(super) pinned: Vec<TopicFilter>,
    pub(super) is_closed: bool,
}

/// The subscriptions of one topic filter.
#[derive(Default)]
pub(super) struct Shelf {
    /// To be looked at for each event.
    all: Vec<Route>,
    /// By attribute and the value that it must have.
    by_value: Vec<(String, HashMap<String, Vec<Route>>)>,
}

struct Route {
    queue: Arc<Queue>,
    filter: Option<Arc<EventFilter>>,
}

impl Leaf for Shelf {
    fn is_empty(&self) -> bool {
        self.all.is_empty() && self.by_value.is_empty()
    }
}

impl Routes {
    /// Puts a subscription in.
    pub(super) fn insert(&mut self, queue: Arc<Queue>) {
        self.by_name.insert(queue.name.clone(), queue.clone());
        if let Some(group) = &queue.group {
            self.groups.insert((queue.filter.clone(), group.clone()), queue.clone());
        }
        self.route(queue);
    }

    /// Whether a subscription is in.
    pub(super) fn has(&self, queue: &Queue) -> bool {
        let named = self.by_name.get(&queue.name);
        named.is_some_and(|other| other.number == queue.number)
    }

    /// Takes a subscription out.
    pub(super) fn remove(&mut self, queue: &Queue) {
        if self.by_name.get(&queue.name).is_some_and(|other| other.number == queue.number) {
            self.by_name.remove(&queue.name);
            let group = queue.group.clone();
            group.map(|group| self.groups.remove(&(queue.filter.clone(), group)));
        }
        self.bequeathed.retain(|_, other| other.number != queue.number);
        self.unroute(queue);
    }

    /// Gives a subscription another event filter.
    pub(super) fn change_filter(&mut self, queue: &Arc<Queue>, filter: Option<EventFilter>) {
        self.unroute(queue);
        queue.set_event_filter(filter);
        self.route(queue.clone());
    }

    fn route(&mut self, queue: Arc<Queue>) {
        let filter = queue.event_filter();
        let shelf = self.filters.leaf_mut(&queue.filter);
        let routes = match filter.as_deref().and_then(EventFilter::equality) {
            None => &mut shelf.all,
            Some((name, value)) => {
                let found = shelf.by_value.iter().position(|(other, _)| other == name);
                let index = found.unwrap_or_else(|| {
                    shelf.by_value.push((name.to_owned(), HashMap::new()));
                    shelf.by_value.len() - 1
                });
                shelf.by_value[index].1.entry(value.to_owned()).or_default()
            }
        };
        routes.push(Route { queue, filter });
    }

    fn unroute(&mut self, queue: &Queue) {
        let others = |routes: &mut Vec<Route>| {
            routes.retain(|route| route.queue.number != queue.number);
            !routes.is_empty()
        };
        self.filters.edit(&queue.filter, |shelf| {
            match queue.event_filter().as_deref().and_then(EventFilter::equality) {
                None => {
                    others(&mut shelf.all);
                }
                Some((name, value)) => {
                    let of_name = shelf.by_value.iter_mut().filter(|(other, _)| other == name);
                    for (_, values) in of_name {
                        if values.get_mut(value).is_some_and(|routes| !others(routes)) {
                            values.remove(value);
                        }
                    }
                    shelf.by_value.retain(|(_, values)| !values.is_empty());
                }
            }
        });
    }

    /// Calls `found` with each subscription that wants an event.
    pub(super) fn matching(
        &self,
        topic: &Topic,
        event: &Event,
        mut found: impl FnMut(&Arc<Queue>),
    ) {
        let mut wanted = |route: &Route| {
            if route.filter.as_ref().is_none_or(|filter| filter.matches(event)) {
                found(&route.queue);
            }
        };
        self.filters.find(topic, |shelf| {
            shelf.all.iter().for_each(&mut wanted);
            for (name, values) in &shelf.by_value {
                let routes = event.value(name).and_then(|value| values.get(value));
                routes.into_iter().flatten().for_each(&mut wanted);
            }
        });
    }

    /// Calls `found` with each subscription to a topic, whatever events it wants.
    pub(super) fn of_topic<'a>(&'a self, topic: &Topic, mut found: impl FnMut(&'a Arc<Queue>)) {
        self.filters.find(topic, |shelf| {
            let by_value = shelf.by_value.iter().flat_map(|(_, values)| values.values().flatten());
            shelf.all.iter().chain(by_value).for_each(|route| found(&route.queue));
        });
    }

    /// Calls `found` with each subscription.
    pub(super) fn for_each<'a>(&'a self, mut found: impl FnMut(&'a Arc<Queue>)) {
        self.filters.for_each(|shelf| {
            let by_value = shelf.by_value.iter().flat_map(|(_, values)| values.values().flatten());
            shelf.all.iter().chain(by_value).for_each(|route| found(&route.queue));
        });
    }

    /// Whether what is published to a topic is kept beyond its acknowledgement.
    pub(super) fn is_remembered(&self, topic: &Topic) -> bool {
        self.retention.iter().any(|rule| rule.filter.matches(topic))
            || self.pinned.iter().any(|filter| filter.matches(topic))
    }
}
