//! Bindings with their brokers and their components.

use super::grants::{Granted, Grants};
use super::names::{Name, Names};
use super::plan::{BrokerPlan, ComponentFacts, ComponentPlan, Plan, SubscriptionPlan};
use super::pulls::PullNames;
use crate::broker::{RetentionRule, SubscriptionSettings, TopicFilter};
use crate::config::{
    Binding, Component, ComponentSettings, Config, Delivery, Error, Problem, Publish,
    SubscriptionConfig,
};
use std::collections::{HashMap, HashSet};

/// A configuration and its components, side by side.
pub(super) struct Join<'a> {
    pub(super) config: &'a Config,
    pub(super) components: &'a [ComponentFacts],
    pub(super) brokers: Vec<BrokerPlan>,
    pub(super) bindings: Vec<Bound<'a>>,
}

/// One binding, with its broker.
pub(super) struct Bound<'a> {
    pub(super) id: &'a str,
    pub(super) broker: usize,
    pub(super) binding: &'a Binding,
}

/// The brokers of a configuration, and for each binding the index of its broker.
pub(super) fn brokers(config: &Config) -> (Vec<BrokerPlan>, Vec<usize>) {
    let mut brokers: Vec<BrokerPlan> = Vec::new();
    let mut indexes = Vec::new();
    for capability in &config.capabilities {
        for binding in &capability.bindings {
            let same = |known: &BrokerPlan| {
                known.backend == capability.backend
                    && known.connection.same_as(&*binding.connection)
            };
            let index = brokers.iter().position(same).unwrap_or_else(|| {
                brokers.push(BrokerPlan {
                    id: capability.id.clone(),
                    backend: capability.backend,
                    features: capability.features,
                    connection: binding.connection.clone(),
                    retention: Vec::new(),
                    listen: None,
                });
                brokers.len() - 1
            });
            indexes.push(index);
            if brokers[index].listen.is_none() {
                brokers[index].listen.clone_from(&binding.listen);
            }
            for rule in retention(binding) {
                if !brokers[index].retention.contains(&rule) {
                    brokers[index].retention.push(rule);
                }
            }
        }
    }
    (brokers, indexes)
}

/// What the topics that a binding names remember; where it names none, all.
fn retention(binding: &Binding) -> Vec<RetentionRule> {
    let Some(retention) = binding.retention else { return Vec::new() };
    let subscribed = binding.subscription.iter().map(|subscription| &subscription.filter);
    let published = match &binding.publish {
        Publish::Anything => &[][..],
        Publish::Only(grants) => grants,
    };
    let mut filters: Vec<TopicFilter> =
        subscribed.chain(published.iter().map(|grant| &grant.filter)).cloned().collect();
    if filters.is_empty() {
        filters.extend(TopicFilter::new("#"));
    }
    filters.into_iter().map(|filter| RetentionRule { filter, retention }).collect()
}

impl<'a> Join<'a> {
    pub(super) fn new(config: &'a Config, components: &'a [ComponentFacts]) -> Self {
        let (brokers, indexes) = brokers(config);
        let bindings = config
            .capabilities
            .iter()
            .flat_map(|capability| capability.bindings.iter().map(move |b| (&*capability.id, b)))
            .zip(indexes)
            .map(|((id, binding), broker)| Bound { id, broker, binding })
            .collect();
        Self { config, components, brokers, bindings }
    }

    /// What the configuration says of a component.
    pub(super) fn configured(&self, name: &str) -> Option<&'a Component> {
        self.config.components.iter().find(|component| component.name == name)
    }

    /// An error about a component, at the place that names its file.
    pub(super) fn about(&self, component: &ComponentFacts, problem: Problem) -> Error {
        let place = self.configured(&component.name).and_then(|known| known.place.clone());
        Error { place, problem }
    }

    /// Makes the plan. What cannot be told apart is reported.
    pub(super) fn plan(self, errors: &mut Vec<Error>) -> Plan {
        let mut plan = Plan {
            brokers: Vec::new(),
            subscriptions: Vec::new(),
            components: self.components.iter().map(|facts| self.component(facts)).collect(),
            notes: Vec::new(),
        };
        let mut names = Names::default();
        for bound in &self.bindings {
            if let Some(subscription) = &bound.binding.subscription {
                self.subscribe(bound, subscription, &mut plan, &mut names, errors);
            }
        }
        for component in &plan.components {
            for name in component.pulls.ambiguous() {
                plan.notes.push(format!(
                    "`{name}` means several subscriptions of component `{}`: it has to be named \
                     as ID:{name}, with the id of a capability",
                    component.name
                ));
            }
        }
        self.keep_used_brokers(&mut plan);
        plan
    }

    fn component(&self, facts: &ComponentFacts) -> ComponentPlan {
        let configured = self.configured(&facts.name);
        ComponentPlan {
            name: facts.name.clone(),
            path: facts.path.clone(),
            settings: configured.map_or_else(ComponentSettings::default, |c| c.settings.clone()),
            is_command: facts.is_command,
            grants: self.grants(facts),
            pulls: PullNames::default(),
        }
    }

    fn grants(&self, facts: &ComponentFacts) -> Grants {
        let mut list = Vec::new();
        for bound in self.bindings.iter().filter(|bound| bound.serves(facts)) {
            let granted = |filter, by_id_only| Granted {
                broker: bound.broker,
                id: bound.id.to_owned(),
                filter,
                by_id_only,
                qos: bound.binding.qos,
                timeout: bound.binding.publish_timeout,
            };
            match &bound.binding.publish {
                Publish::Anything => list.push(granted(None, false)),
                Publish::Only(grants) => {
                    list.extend(
                        grants.iter().map(|g| granted(Some(g.filter.clone()), g.by_id_only)),
                    );
                }
            }
        }
        let ids = self.config.capabilities.iter().map(|capability| capability.id.clone()).collect();
        Grants { ids, list }
    }

    /// Adds the subscriptions of a binding: one for each component of a topic,
    /// one for all of a queue.
    fn subscribe(
        &self,
        bound: &Bound<'_>,
        config: &SubscriptionConfig,
        plan: &mut Plan,
        names: &mut Names,
        errors: &mut Vec<Error>,
    ) {
        let takers: Vec<usize> = (0..self.components.len())
            .filter(|&index| bound.serves(&self.components[index]))
            .filter(|&index| takes(&self.components[index], config.delivery))
            .collect();
        if takers.is_empty() && config.delivery == Delivery::Pull {
            plan.notes.push(format!(
                "nothing pulls from `{}`: the subscription is not opened",
                config.filter
            ));
        }
        names.report_twice(self, bound, config, &takers, errors);
        let groups: Vec<Vec<usize>> = match config.group {
            Some(_) if takers.is_empty() => Vec::new(),
            Some(_) => vec![takers],
            None => takers.into_iter().map(|taker| vec![taker]).collect(),
        };
        for members in groups {
            let index = plan.subscriptions.len();
            if config.delivery == Delivery::Pull {
                for &member in &members {
                    plan.components[member].pulls.add(bound.id, config.called(), index);
                }
            }
            let name = names.name(self, bound, config, &members, errors);
            let settings = self.settings(bound, config, &members, name);
            let delivery = config.delivery;
            plan.subscriptions.push(SubscriptionPlan {
                broker: bound.broker,
                settings,
                delivery,
                members,
                keep_dead_letters: config.keep_dead_letters,
            });
        }
    }

    fn settings(
        &self,
        bound: &Bound<'_>,
        config: &SubscriptionConfig,
        members: &[usize],
        name: Name,
    ) -> SubscriptionSettings {
        let only = members.first().map(|&member| self.components[member].name.as_str());
        SubscriptionSettings {
            name: config.called().to_owned(),
            label: name.label,
            broker_label: name.broker_label,
            filter: config.filter.clone(),
            group: config.group.clone(),
            qos: bound.binding.qos,
            event_filter: config.event_filter.clone(),
            order: config.order.clone(),
            max_in_flight: config.max_in_flight,
            max_in_flight_bytes: config.max_in_flight_bytes,
            group_max_in_flight: config.group_max_in_flight,
            ack_deadline: (config.delivery == Delivery::Pull).then_some(config.ack_deadline),
            retry: config.retry.clone(),
            exhausted: config.exhausted.clone(),
            not_from: only.filter(|_| self.config.is_built_in).map(str::to_owned),
            dedupe: config.dedupe,
            start: config.start,
            is_temporary: false,
        }
    }

    /// Leaves out the brokers that nothing uses: a connection costs.
    fn keep_used_brokers(self, plan: &mut Plan) {
        let published = self.components.iter().zip(&plan.components);
        let published = published.filter(|(facts, _)| facts.imports_publish);
        let mut used: HashSet<usize> =
            published.flat_map(|(_, c)| c.grants.list.iter().map(|g| g.broker)).collect();
        used.extend(plan.subscriptions.iter().map(|subscription| subscription.broker));
        let listening = self.brokers.iter().enumerate().filter(|(_, b)| b.listen.is_some());
        used.extend(listening.map(|(index, _)| index));
        let mut indexes = HashMap::new();
        for (index, broker) in self.brokers.into_iter().enumerate() {
            if used.contains(&index) {
                indexes.insert(index, plan.brokers.len());
                plan.brokers.push(broker);
            } else {
                let what = broker.connection.describe();
                plan.notes.push(format!("no component uses {what}: it is not connected"));
            }
        }
        for subscription in &mut plan.subscriptions {
            subscription.broker = indexes[&subscription.broker];
        }
        for component in &mut plan.components {
            let grants = &mut component.grants.list;
            grants.retain(|granted| indexes.contains_key(&granted.broker));
            grants.iter_mut().for_each(|granted| granted.broker = indexes[&granted.broker]);
        }
    }
}

impl Bound<'_> {
    /// Whether a component gets this binding.
    pub(super) fn serves(&self, component: &ComponentFacts) -> bool {
        self.binding
            .components
            .as_ref()
            .is_none_or(|names| names.iter().any(|name| name.value == component.name))
    }

    /// The delivery of its subscription, if it has one.
    pub(super) fn delivery(&self) -> Option<Delivery> {
        self.binding.subscription.as_ref().map(|subscription| subscription.delivery)
    }
}

/// Whether a component can take events that are delivered like this.
pub(super) fn takes(component: &ComponentFacts, delivery: Delivery) -> bool {
    match delivery {
        Delivery::Push => component.exports_handler,
        Delivery::Pull => component.pulls(),
    }
}
