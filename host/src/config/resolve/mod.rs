//! Joining a configuration with what is known of the components.

mod check;
mod grants;
mod join;
mod names;
mod plan;
mod publish;
mod pulls;
mod queues;
mod stores;

pub use grants::{Grants, Route, RouteError};
pub use plan::{BrokerPlan, ComponentFacts, ComponentPlan, Plan, SubscriptionPlan};
pub use pulls::PullNames;

use super::{Config, Error, Errors};
use join::Join;

/// Joins a configuration with its components, and plans what to start.
///
/// Components are found by their names. One that the configuration names and
/// that has no facts is taken as unusable for a reason that was reported
/// elsewhere: what it might have made right is not reported again. Without any
/// component, what is said of brokers and subscriptions alone is checked.
///
/// # Errors
/// Everything that does not fit together.
pub fn resolve(config: &Config, components: &[ComponentFacts]) -> Result<Plan, Errors> {
    let join = Join::new(config, components);
    let mut errors: Vec<Error> = Vec::new();
    check::scopes(&join, &mut errors);
    queues::shared(&join, &mut errors);
    check::listeners(&join, &mut errors);
    stores::shared(&join, &mut errors);
    check::components(&join, &mut errors);
    publish::ambiguous(&join, &mut errors);
    let notes = check::notes(&join);
    let mut plan = join.plan(&mut errors);
    plan.notes.extend(notes);
    if errors.is_empty() { Ok(plan) } else { Err(Errors::new(config.source.clone(), errors)) }
}

impl Config {
    /// Every broker that a binding names, once each, in the order of the file.
    #[must_use]
    pub fn brokers(&self) -> Vec<BrokerPlan> {
        join::brokers(self).0
    }
}
