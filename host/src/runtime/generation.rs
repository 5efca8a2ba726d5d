//! What a service runs between two reloads, and how two of these differ.

use super::engine::Host;
use super::links::Reach;
use super::opening::Opening;
use super::setup::{Setup, StartError};
use super::status::Status;
use super::unit::{Gate, Unit, Wanted};
use crate::broker::Broker;
use crate::capability::Observers;
use std::fmt;
use std::sync::Arc;

/// Everything that runs at one time: subscriptions and components, each taken
/// over from the generation before where it is the same.
pub(super) struct Generation {
    pub(super) setup: Setup,
    pub(super) openings: Vec<Arc<Opening>>,
    pub(super) units: Vec<Arc<Unit>>,
    /// For the units that were taken over.
    reaches: Vec<(Arc<Unit>, Reach)>,
}

impl Generation {
    /// Links what is new. Opens nothing and runs nothing yet.
    ///
    /// # Errors
    /// A component does not fit.
    pub(super) fn link(
        host: &Host,
        setup: Setup,
        before: Option<&Self>,
    ) -> Result<Self, StartError> {
        let observers = Observers::new(setup.observers.clone());
        let openings: Vec<Arc<Opening>> = setup
            .subscriptions
            .iter()
            .map(|wanted| {
                let broker = &setup.brokers[wanted.broker];
                let known = before.into_iter().flat_map(|before| &before.openings);
                let same = known.into_iter().find(|known| known.serves(wanted, broker));
                same.cloned().unwrap_or_else(|| Opening::new(wanted, broker))
            })
            .collect();
        let (mut units, mut reaches) = (Vec::new(), Vec::new());
        for index in 0..setup.components.len() {
            let wanted = wanted(&setup, &openings, index);
            let previous = before.and_then(|before| before.unit(&wanted.setup.name));
            match previous.filter(|previous| previous.serves(&wanted)) {
                Some(same) => {
                    reaches.push((Arc::clone(same), wanted.reach()));
                    units.push(Arc::clone(same));
                }
                None => units.push(Unit::link(host, &observers, &setup.output, wanted, previous)?),
            }
        }
        Ok(Self { setup, openings, units, reaches })
    }

    pub(super) fn unit(&self, name: &str) -> Option<&Arc<Unit>> {
        self.units.iter().find(|unit| unit.name() == name)
    }

    pub(super) fn gate(&self) -> Gate {
        Gate(self.openings.clone().into())
    }

    /// Gives the units that were taken over what they may publish and pull now.
    pub(super) fn set_reaches(&mut self) {
        for (unit, reach) in self.reaches.drain(..) {
            unit.set_reach(reach);
        }
    }

    /// Makes it what is known of the service.
    pub(super) fn report(&self, status: &Status) {
        status.set_components(
            self.units.iter().map(|unit| Arc::clone(&unit.component.status)).collect(),
        );
        let members = |index: usize| {
            let members = &self.setup.subscriptions[index].members;
            members.iter().map(|&member| self.setup.components[member].name.clone()).collect()
        };
        let openings = self.openings.iter().enumerate();
        status.set_subscriptions(openings.map(|(i, o)| o.status(members(i))).collect());
    }
}

fn wanted<'a>(setup: &'a Setup, openings: &[Arc<Opening>], index: usize) -> Wanted<'a> {
    let part = &setup.components[index];
    let pushed = setup.subscriptions.iter().zip(openings);
    let pushed = pushed.filter(|(s, _)| s.push && s.members.contains(&index));
    Wanted {
        setup: part,
        brokers: &setup.brokers,
        pushed: pushed.map(|(_, opening)| Arc::clone(opening)).collect(),
        pulls: part
            .pulls
            .iter()
            .map(|(name, &o)| (name.clone(), Arc::clone(&openings[o])))
            .collect(),
    }
}

/// What is different from one generation to the next.
pub(super) struct Difference {
    /// Versions of components that are over.
    pub(super) retired: Vec<Arc<Unit>>,
    /// Subscriptions that another one takes the place of, with what the broker has
    /// for them.
    pub(super) replaced: Vec<Arc<Opening>>,
    /// Subscriptions that nobody wants any more.
    pub(super) removed: Vec<Arc<Opening>>,
    /// Subscriptions that can be opened beside all others.
    pub(super) beside: Vec<Arc<Opening>>,
    /// Subscriptions that can be opened only once `replaced` are over.
    pub(super) after: Vec<Arc<Opening>>,
    /// Brokers that nothing uses any more.
    pub(super) leaving: Vec<Arc<Broker>>,
    /// In words.
    pub(super) changes: Changes,
}

impl Difference {
    pub(super) fn between(old: &Generation, new: &Generation) -> Self {
        let retired = missing(&old.units, &new.units);
        let gone = missing(&old.openings, &new.openings);
        let fresh = missing(&new.openings, &old.openings);
        let leaving = missing(&old.setup.brokers, &new.setup.brokers);
        let arriving = missing(&new.setup.brokers, &old.setup.brokers);
        let changes = Changes::new(old, new, &gone, &fresh);
        let (replaced, removed) = gone
            .iter()
            .cloned()
            .partition(|old| fresh.iter().any(|new| takes_place(&leaving, old, new)));
        // A broker that is reached in another way may know the old connection's
        // client by the same name.
        let (after, beside) = fresh.into_iter().partition(|new| {
            gone.iter().any(|old| takes_place(&leaving, old, new))
                || is_among(&arriving, &new.broker) && !leaving.is_empty()
        });
        Self { retired, replaced, removed, beside, after, leaving, changes }
    }

    /// Whether a subscription of the new generation goes on with what a broker has
    /// for one of the old generation.
    pub(super) fn resumes(&self, new: &Opening) -> bool {
        self.replaced.iter().any(|old| takes_place(&self.leaving, old, new))
    }

    /// Whether nothing else uses the broker of a subscription of the old
    /// generation any more.
    pub(super) fn leaves(&self, old: &Opening) -> bool {
        is_among(&self.leaving, &old.broker)
    }

    /// Whether something has to end before its successor can be opened.
    pub(super) fn has_to_wait(&self) -> bool {
        !self.replaced.is_empty() || !self.after.is_empty()
    }
}

/// Whether a new subscription takes the place of an old one: it has its label, at
/// the same broker, or at one that may be the same, reached in another way.
fn takes_place(leaving: &[Arc<Broker>], old: &Opening, new: &Opening) -> bool {
    old.settings.known_as() == new.settings.known_as()
        && (Arc::ptr_eq(&old.broker, &new.broker) || is_among(leaving, &old.broker))
}

fn is_among(brokers: &[Arc<Broker>], broker: &Arc<Broker>) -> bool {
    brokers.iter().any(|known| Arc::ptr_eq(known, broker))
}

/// What of the one list is not in the other.
fn missing<T>(from: &[Arc<T>], other: &[Arc<T>]) -> Vec<Arc<T>> {
    let is_there = |item: &&Arc<T>| !other.iter().any(|other| Arc::ptr_eq(other, item));
    from.iter().filter(is_there).cloned().collect()
}

/// What a reload has changed, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(Vec<String>);

impl Changes {
    fn new(
        old: &Generation,
        new: &Generation,
        gone: &[Arc<Opening>],
        fresh: &[Arc<Opening>],
    ) -> Self {
        let mut words = Vec::new();
        for unit in missing(&new.units, &old.units) {
            let what = if old.unit(unit.name()).is_some() { "replaced" } else { "added" };
            words.push(format!("component `{}` {what}", unit.name()));
        }
        for unit in old.units.iter().filter(|unit| new.unit(unit.name()).is_none()) {
            words.push(format!("component `{}` removed", unit.name()));
        }
        for opening in fresh {
            let is_same = |other: &&Arc<Opening>| other.settings.label == opening.settings.label;
            let what = if gone.iter().any(|o| is_same(&o)) { "replaced" } else { "added" };
            words.push(format!("subscription `{}` {what}", opening.settings.label));
        }
        for opening in gone {
            if !fresh.iter().any(|other| other.settings.label == opening.settings.label) {
                words.push(format!("subscription `{}` removed", opening.settings.label));
            }
        }
        Self(words)
    }

    /// Whether everything that runs goes on as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("nothing had to be replaced"),
            words => f.write_str(&words.join(", ")),
        }
    }
}
