//! What tells the subscriptions of a plan apart.

use super::join::{Bound, Join};
use crate::config::{Delivery, Error, Problem, SubscriptionConfig};
use std::collections::{HashMap, HashSet};
use std::iter;

/// What a subscription goes by.
pub(super) struct Name {
    /// In the process.
    pub(super) label: String,
    /// At its broker, where it is another one.
    pub(super) broker_label: Option<String>,
}

/// The names that are taken already.
#[derive(Default)]
pub(super) struct Names {
    /// What brokers know subscriptions by.
    at_brokers: HashMap<(usize, String), Holder>,
    labels: HashSet<String>,
    /// Component, whether pulled, capability or broker, and text; and the line.
    seen: HashMap<(usize, bool, String, String), usize>,
    /// The components that get something twice, and where.
    reported: HashSet<(usize, usize)>,
}

/// Who has a name.
struct Holder {
    /// Where it stands in the file.
    at: usize,
    /// Whether it is a subscriber of a queue that others may share.
    shares: bool,
}

impl Names {
    /// The names of a subscription. That at its broker comes from its own binding
    /// alone, so that no other change of the file gives it another one, or gives its
    /// own away with what the broker has kept for it. Two of one name are an error.
    pub(super) fn name(
        &mut self,
        join: &Join<'_>,
        bound: &Bound<'_>,
        config: &SubscriptionConfig,
        members: &[usize],
        errors: &mut Vec<Error>,
    ) -> Name {
        let wanted = self.at_broker(join, bound, config, members, errors);
        let mut label = wanted.clone();
        let numbers = (2..).map(|number: usize| format!("{wanted} ({number})"));
        let mut others = iter::once(format!("{wanted} ({})", bound.id)).chain(numbers);
        while !self.labels.insert(label.clone()) {
            label = others.next().unwrap_or_default();
        }
        let broker_label = (label != wanted).then_some(wanted);
        Name { label, broker_label }
    }

    /// The subscribers of one queue share what the broker has for it. So of these
    /// the first has the name, and others add what tells them apart.
    fn at_broker(
        &mut self,
        join: &Join<'_>,
        bound: &Bound<'_>,
        config: &SubscriptionConfig,
        members: &[usize],
        errors: &mut Vec<Error>,
    ) -> String {
        let only = members.first().map(|&member| join.components[member].name.as_str());
        let owner = config.group.as_deref().or(only).unwrap_or_default();
        let derived = format!("{owner}/{}", config.filter);
        let name = config.name.as_ref().map_or(derived, |name| name.value.clone());
        let at = config.place.span.start;
        let shares = config.group.is_some() && config.name.is_none();
        let Some(first) = self.at_brokers.get(&(bound.broker, name.clone())) else {
            self.at_brokers.insert((bound.broker, name.clone()), Holder { at, shares });
            return name;
        };
        if shares && first.shares {
            return self.another(bound, &name, config);
        }
        // Of the same binding, or of a component that gets the same twice, it is said
        // in other words.
        let is_said =
            first.at == at || members.iter().any(|&member| self.reported.contains(&(member, at)));
        if !is_said {
            let place = config.name.as_ref().map_or(&config.place, |name| &name.place).clone();
            let line = join.config.source.line(first.at);
            let problem = Problem::SubscriptionNameTaken { name: name.clone(), line };
            errors.push(Error { place: Some(place), problem });
        }
        name
    }

    /// A name for one more subscriber of a queue.
    fn another(&mut self, bound: &Bound<'_>, name: &str, config: &SubscriptionConfig) -> String {
        let components = bound.binding.components.iter().map(|names| {
            names.iter().map(|name| name.value.as_str()).collect::<Vec<_>>().join(", ")
        });
        let delivery = match config.delivery {
            Delivery::Push => "push",
            Delivery::Pull => "pull",
        };
        let kinds = components.chain([delivery.to_owned(), bound.id.to_owned()]);
        let numbers = (2..).map(|number: usize| number.to_string());
        let mut names = kinds.chain(numbers).map(|what| format!("{name} ({what})"));
        let free = |name: &String| !self.at_brokers.contains_key(&(bound.broker, name.clone()));
        let name = names.find(free).unwrap_or_default();
        let holder = Holder { at: config.place.span.start, shares: true };
        self.at_brokers.insert((bound.broker, name.clone()), holder);
        name
    }

    /// Reports what a component would be pushed twice, or could not tell apart
    /// by name when it pulls: `ID:` tells capabilities apart.
    pub(super) fn report_twice(
        &mut self,
        join: &Join<'_>,
        bound: &Bound<'_>,
        config: &SubscriptionConfig,
        takers: &[usize],
        errors: &mut Vec<Error>,
    ) {
        if let (None, Some(name)) = (&config.group, &config.name)
            && takers.len() > 1
        {
            let components = takers.iter().map(|&taker| join.components[taker].name.clone());
            let problem = Problem::NameOfSeveral {
                name: name.value.clone(),
                components: components.collect(),
            };
            errors.push(Error { place: Some(name.place.clone()), problem });
        }
        // It is told apart by its own name.
        if config.name.is_some() {
            return;
        }
        let pull = config.delivery == Delivery::Pull;
        let of = if pull { bound.id.to_owned() } else { bound.broker.to_string() };
        let line = join.config.source.line(config.place.span.start);
        for &taker in takers {
            let name = config.filter.to_string();
            let key = (taker, pull, of.clone(), name.clone());
            if let Some(&line) = self.seen.get(&key) {
                let component = join.components[taker].name.clone();
                let problem = Problem::DuplicateSubscription { component, name, line, pull };
                errors.push(Error { place: Some(config.place.clone()), problem });
                self.reported.insert((taker, config.place.span.start));
            } else {
                self.seen.insert(key, line);
            }
        }
    }
}
