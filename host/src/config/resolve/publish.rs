//! Topics that two brokers could both take.

use super::join::{Bound, Join};
use crate::broker::TopicFilter;
use crate::config::{Error, Place, Problem, Publish};

/// One thing that a binding takes.
struct Taken<'a> {
    bound: &'a Bound<'a>,
    /// `None`: anything.
    filter: Option<&'a TopicFilter>,
    by_id_only: bool,
    place: &'a Place,
}

/// Checks for each component that publishes that every topic has one broker.
pub(super) fn ambiguous(join: &Join<'_>, errors: &mut Vec<Error>) {
    let mut reported: Vec<(&Place, &Place)> = Vec::new();
    for facts in join.components.iter().filter(|facts| facts.imports_publish) {
        let taken: Vec<Taken<'_>> =
            join.bindings.iter().filter(|bound| bound.serves(facts)).flat_map(taken).collect();
        for (at, second) in taken.iter().enumerate() {
            for first in &taken[..at] {
                let pair = (first.place, second.place);
                if !clash(first, second) || reported.contains(&pair) {
                    continue;
                }
                reported.push(pair);
                let describe =
                    |taken: &Taken<'_>| join.brokers[taken.bound.broker].connection.describe();
                let problem = Problem::AmbiguousPublish {
                    component: facts.name.clone(),
                    first: first.text(),
                    first_broker: describe(first),
                    line: join.config.source.line(first.place.span.start),
                    second: second.text(),
                    second_broker: describe(second),
                };
                errors.push(Error { place: Some(second.place.clone()), problem });
            }
        }
    }
}

fn taken<'a>(bound: &'a Bound<'a>) -> Vec<Taken<'a>> {
    match &bound.binding.publish {
        Publish::Anything => {
            vec![Taken { bound, filter: None, by_id_only: false, place: &bound.binding.place }]
        }
        Publish::Only(grants) => {
            let taken = grants.iter().map(|grant| Taken {
                bound,
                filter: Some(&grant.filter),
                by_id_only: grant.by_id_only,
                place: &grant.place,
            });
            taken.collect()
        }
    }
}

/// Whether some text would mean both. An explicit grant goes before one for
/// anything, so that these two never clash. One that asks for its id clashes only
/// under that id.
fn clash(first: &Taken<'_>, second: &Taken<'_>) -> bool {
    if first.bound.broker == second.bound.broker {
        return false;
    }
    if (first.by_id_only || second.by_id_only) && first.bound.id != second.bound.id {
        return false;
    }
    match (first.filter, second.filter) {
        (None, None) => true,
        (Some(first), Some(second)) => first.overlaps(second),
        _ => false,
    }
}

impl Taken<'_> {
    fn text(&self) -> String {
        self.filter.map_or_else(|| "anything".to_owned(), |filter| format!("`{filter}`"))
    }
}
