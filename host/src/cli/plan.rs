//! From the configuration and the component files to what the runtime runs.

use super::ConfigArgs;
use super::failure::Failure;
use super::{dead, files};
use crate::backends::backends;
use crate::broker::{Broker, BrokerError, Budget, Limits, Order};
use crate::config::{self, ComponentFacts, Config, Delivery, Errors, Instance, Network, Plan};
use crate::runtime::{
    Code, ComponentSettings, ComponentSetup, DirectoryGrant, Grant, Grants, Host, InstanceMode,
    NetworkGrant, Observer, Output, Setup, SubscriptionSetup, WasiGrants,
};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A configuration whose components are loaded and that holds together.
pub(super) struct Planned {
    file: Option<PathBuf>,
    config: Config,
    plan: Plan,
    /// In the order of the plan's components.
    codes: Vec<Code>,
}

/// Reads the configuration, loads every component, and joins the two. Everything
/// that is wrong is reported at once.
pub(super) fn load(
    host: &Host,
    args: &ConfigArgs,
    components: &[PathBuf],
) -> Result<Planned, Failure> {
    let file = files::config_file(args);
    let mut config = match &file {
        Some(path) => read_config(path)?,
        None if components.is_empty() => {
            return Err(Failure::input(
                "there is nothing to run: no component is named, and there is no capabilities.toml here\n  \
                 help: wasi-pubsub run COMPONENT..., or --config FILE",
            ));
        }
        None => config::built_in(backends()).map_err(Failure::problems)?,
    };
    for path in components {
        config.add_component(path.clone()).map_err(Failure::problems)?;
    }
    if config.components.is_empty() {
        return Err(Failure::input(
            "there is nothing to run: no component is named, and the configuration has no [[component]]\n  \
             help: wasi-pubsub run COMPONENT...",
        ));
    }
    let (codes, facts, mut problems) = load_components(host, &config);
    match config::resolve(&config, &facts) {
        Ok(plan) if problems.is_empty() => Ok(Planned { file, config, plan, codes }),
        Ok(_) => Err(wrong_all(problems)),
        Err(errors) => {
            problems.insert(0, errors);
            Err(wrong_all(problems))
        }
    }
}

/// Reads a configuration file and reports all that is wrong with it.
pub(super) fn read_config(path: &Path) -> Result<Config, Failure> {
    let text = std::fs::read(path)
        .map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
    let name = path.display().to_string();
    let dir = path.parent().unwrap_or(Path::new(""));
    let env = |name: &str| std::env::var(name).ok();
    let request =
        config::Request { name: &name, text: &text, dir, env: &env, backends: backends() };
    config::load(&request).map_err(Failure::problems)
}

fn load_components(host: &Host, config: &Config) -> (Vec<Code>, Vec<ComponentFacts>, Vec<Errors>) {
    let cache = files::code_cache();
    let (mut codes, mut facts, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for component in &config.components {
        let mode = instance_mode(component.settings.instance);
        let loaded = Code::load(host, cache.as_ref(), &component.path, mode).and_then(|code| {
            // What is not there at all is reported in other words.
            if code.interfaces().foreign.is_empty() {
                code.check(host)?;
            }
            Ok(code)
        });
        match loaded {
            Ok(code) => {
                facts.push(facts_of(component, &code));
                codes.push(code);
            }
            Err(error) => {
                let reason = format!("{}: {error}", component.path.display());
                problems.push(config.component_error(&component.name, &reason, error.help()));
            }
        }
    }
    (codes, facts, problems)
}

fn facts_of(component: &config::Component, code: &Code) -> ComponentFacts {
    let found = code.interfaces();
    ComponentFacts {
        name: component.name.clone(),
        path: component.path.clone(),
        imports_publish: found.uses("publish"),
        imports_receive: found.uses("receive"),
        imports_stream: found.uses("stream"),
        imports_pull: found.uses("pull"),
        exports_handler: !found.handlers.is_empty(),
        is_command: found.is_command,
        foreign_imports: found.foreign.clone(),
    }
}

fn wrong_all(problems: Vec<Errors>) -> Failure {
    let mut problems = problems.into_iter();
    let Some(mut all) = problems.next() else { return Failure::input("nothing is known") };
    problems.for_each(|more| all.extend(more));
    Failure::problems(all)
}

impl Planned {
    /// Says in the log what the user may not expect.
    pub(super) fn announce(&self) {
        if self.config.is_built_in {
            tracing::info!(
                "no capabilities.toml: using the built-in broker; everything may be published, and \
                 handlers are pushed every topic"
            );
        }
        for note in &self.plan.notes {
            tracing::info!("{note}");
        }
    }

    /// What would be run, in words.
    pub(super) fn summary(&self) -> String {
        let plan = &self.plan;
        let mut text = String::new();
        for broker in &plan.brokers {
            let _ = writeln!(text, "broker {}: {}", broker.id, broker.connection.describe());
        }
        for subscription in &plan.subscriptions {
            let settings = &subscription.settings;
            let members: Vec<_> =
                subscription.members.iter().map(|&i| plan.components[i].name.as_str()).collect();
            let kind = match &settings.group {
                Some(group) => format!("queue `{}` of group {group}", settings.name),
                None => format!("topic `{}`", settings.name),
            };
            let delivery = match subscription.delivery {
                Delivery::Push => "pushed to",
                Delivery::Pull => "pulled by",
            };
            let (qos, members) = (settings.qos, members.join(", "));
            let order = match &settings.order {
                Order::None => String::new(),
                order => format!(", order {order}"),
            };
            let filter = match &settings.event_filter {
                Some(filter) => format!(", where {filter}"),
                None => String::new(),
            };
            let _ = writeln!(text, "{kind}, qos {qos}{order}, {delivery} {members}{filter}");
        }
        for component in &plan.components {
            let kind = if component.is_command { "command" } else { "handler" };
            let _ = writeln!(text, "{kind} {}: {}", component.name, component.path.display());
        }
        for note in &plan.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text.push_str("ok\n");
        text
    }

    /// The limits of events.
    pub(super) fn limits(&self) -> Limits {
        self.config.limits()
    }

    /// Everything that the runtime needs. Connections are opened, without
    /// waiting for brokers.
    pub(super) fn into_setup(
        self,
        output: Output,
        observers: Vec<Arc<dyn Observer>>,
    ) -> Result<Setup, Failure> {
        let client_id = files::client_id_base(self.file.as_deref())?;
        let limits = self.config.limits();
        let budget = Budget::new(self.config.max_in_flight_bytes);
        let mut brokers = Vec::new();
        for (index, broker) in self.plan.brokers.iter().enumerate() {
            let connection = broker
                .connection
                .open(&client_id)
                .map_err(|error| Failure::input(format!("broker {}: {error}", broker.id)))?;
            let topics = self.plan.kept_dead_letters(index);
            let connection = dead::keeping(connection, &broker.connection, topics);
            let (id, limits) = (broker.id.clone(), limits.clone());
            brokers.push(Broker::with_budget(id, connection, limits, budget.clone()));
        }
        let subscriptions = self
            .plan
            .subscriptions
            .into_iter()
            .map(|subscription| SubscriptionSetup {
                broker: subscription.broker,
                settings: subscription.settings,
                push: subscription.delivery == Delivery::Push,
                members: subscription.members,
            })
            .collect();
        let components = self
            .plan
            .components
            .into_iter()
            .zip(self.codes)
            .map(|(component, code)| ComponentSetup {
                name: component.name,
                code,
                settings: settings(&component.settings),
                pulls: component
                    .pulls
                    .iter()
                    .map(|(name, index)| (name.to_owned(), index))
                    .collect(),
                grants: Arc::new(PlannedGrants(component.grants)),
            })
            .collect();
        Ok(Setup {
            brokers,
            subscriptions,
            components,
            drain: self.config.drain,
            output,
            observers,
        })
    }
}

struct PlannedGrants(config::Grants);

impl Grants for PlannedGrants {
    fn route(&self, topic: &str) -> Result<Grant, BrokerError> {
        let config::Route { broker, topic, qos, timeout } = self.0.route(topic)?;
        Ok(Grant { broker, topic, qos, timeout })
    }
}

pub(super) fn settings(from: &config::ComponentSettings) -> ComponentSettings {
    ComponentSettings {
        instance: instance_mode(from.instance),
        instances: from.instances,
        max_concurrency: from.max_concurrency,
        memory_limit: from.memory_limit,
        timeout: from.timeout,
        wasi: WasiGrants {
            env: from.wasi.env.clone(),
            args: from.wasi.args.clone(),
            dirs: from
                .wasi
                .dirs
                .iter()
                .map(|dir| DirectoryGrant {
                    host: dir.host.clone(),
                    guest: dir.guest.clone(),
                    write: dir.write,
                })
                .collect(),
            network: network(&from.wasi.network),
        },
    }
}

pub(super) fn instance_mode(from: Instance) -> InstanceMode {
    match from {
        Instance::Reuse => InstanceMode::Reuse,
        Instance::Fresh => InstanceMode::Fresh,
    }
}

fn network(from: &Network) -> Option<NetworkGrant> {
    if *from == Network::None {
        return None;
    }
    let unrestricted = *from == Network::Any;
    let network = from.clone();
    Some(NetworkGrant { allows: Arc::new(move |address| network.allows(address)), unrestricted })
}
