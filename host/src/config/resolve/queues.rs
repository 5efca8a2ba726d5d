//! What bindings that share a queue have to agree on.

use super::join::{Bound, Join};
use crate::broker::driver::Features;
use crate::config::{Error, Place, Problem, SubscriptionConfig};

/// A binding with a queue.
struct Queue<'a> {
    broker: usize,
    config: &'a SubscriptionConfig,
    group: &'a str,
}

/// Checks each binding against the first that has the same queue.
pub(super) fn shared(join: &Join<'_>, errors: &mut Vec<Error>) {
    let mut known: Vec<Queue<'_>> = Vec::new();
    for queue in join.bindings.iter().filter_map(queue) {
        let same = |other: &&Queue<'_>| {
            other.broker == queue.broker
                && other.config.filter == queue.config.filter
                && other.group == queue.group
        };
        if let Some(first) = known.iter().find(same) {
            compare(join, first, &queue, errors);
        }
        known.push(queue);
    }
}

fn queue<'a>(bound: &Bound<'a>) -> Option<Queue<'a>> {
    let config = bound.binding.subscription.as_ref()?;
    let group = config.group.as_deref()?;
    Some(Queue { broker: bound.broker, config, group })
}

fn compare(join: &Join<'_>, first: &Queue<'_>, second: &Queue<'_>, errors: &mut Vec<Error>) {
    let features = join.brokers[first.broker].features;
    let line = |of: &SubscriptionConfig| join.config.source.line(of.place.span.start);
    let (queue, group) = (second.config.filter.to_string(), second.group.to_owned());
    if let Some(key) = difference(first.config, second.config, features) {
        let problem = Problem::QueueDiffers { key, queue, group, line: line(first.config) };
        errors.push(Error { place: Some(second.config.place.clone()), problem });
    } else if !features.pins_keys {
        // The error stands where the order is asked for.
        let asked = [(second.config, first.config), (first.config, second.config)].into_iter();
        let mut asked = asked.filter_map(|(this, other)| Some((this.order_place.clone()?, other)));
        let report = |(place, other): (Place, &SubscriptionConfig)| Error {
            place: Some(place),
            problem: Problem::SharedOrderedQueue { queue, group, line: line(other) },
        };
        errors.extend(asked.next().map(report));
    }
}

/// The key of what the broker has once for the queue, and what the two do not
/// agree on.
fn difference(
    first: &SubscriptionConfig,
    second: &SubscriptionConfig,
    features: Features,
) -> Option<&'static str> {
    let limits = (first.group_max_in_flight, second.group_max_in_flight);
    [
        (features.pins_keys && first.order != second.order, "order"),
        (features.filters && first.event_filter != second.event_filter, "filter"),
        (features.replay && first.start != second.start, "start"),
        (features.group_limits && limits.0 != limits.1, "group_max_in_flight"),
    ]
    .into_iter()
    .find_map(|(differs, key)| differs.then_some(key))
}
