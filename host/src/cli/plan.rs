//! From the configuration and the component files to what the runtime runs.

use super::ConfigArgs;
use super::dead::Keeping;
use super::failure::Failure;
use super::files;
use super::grants::PlannedGrants;
use super::listening::{self, Listening, Prepared, Shown, Wanted};
use crate::backends::backends;
use crate::broker::{Broker, Budget, Limits, Order, Topic};
use crate::config::{
    self, BrokerPlan, ComponentFacts, ComponentPlan, Config, Delivery, Errors, Instance, Network,
    Plan,
};
use crate::runtime::{
    Code, ComponentSettings, ComponentSetup, DirectoryGrant, Host, InstanceMode, NetworkGrant,
    Observer, Output, Setup, SubscriptionSetup, WasiGrants,
};
use crate::telemetry::Figures;
use parking_lot::Mutex;
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
    /// In the order of the plan's brokers.
    listeners: Vec<Option<Wanted>>,
}

/// What runs, for the next version to take over.
pub(super) struct InUse {
    /// The configuration file, once there is one.
    file: Option<PathBuf>,
    client_id: String,
    brokers: Vec<BrokerInUse>,
    components: Vec<(PathBuf, Code)>,
    limits: Limits,
    /// What all brokers share.
    budget: Arc<Budget>,
    max_in_flight_bytes: usize,
    listeners: Mutex<Vec<ToListen>>,
    /// The listeners of the version that runs, for metrics.
    shown: Shown,
}

/// What listens from when a version takes effect; how many subscriptions are opened
/// before; and how, where it does.
type ToListen = (Arc<Listening>, usize, Option<Prepared>);

/// A broker, and how it is reached.
#[derive(Clone)]
struct BrokerInUse {
    plan: BrokerPlan,
    broker: Arc<Broker>,
    /// What has it keep dead letters; `None` where no other process could ask
    /// for them.
    letters: Option<Arc<Keeping>>,
    /// The dead-letter topics to keep.
    topics: Vec<Topic>,
    /// What can put it on the network; `None` where it is elsewhere.
    listening: Option<Arc<Listening>>,
}

impl InUse {
    /// Has it take effect where brokers were taken over.
    pub(super) fn take_effect(&self) {
        for known in &self.brokers {
            known.broker.set_limits(self.limits.clone());
            known.broker.set_retention(known.plan.retention.clone());
            if let Some(bounds) = known.plan.connection.store_bounds() {
                known.broker.set_store_bounds(bounds);
            }
            if let Some(keeping) = &known.letters {
                keeping.keep(known.topics.clone());
            }
        }
        self.budget.set_bytes_max(self.max_in_flight_bytes);
        for (listening, subscriptions, prepared) in std::mem::take(&mut *self.listeners.lock()) {
            match prepared {
                Some(prepared) => listening.open_after(subscriptions, prepared),
                None => listening.shut(),
            }
        }
        let listening = |known: &BrokerInUse| {
            Some((known.plan.id.clone(), Arc::clone(known.listening.as_ref()?)))
        };
        self.shown.set(self.brokers.iter().filter_map(listening).collect());
    }

    /// What the listeners count, of whichever version runs.
    pub(super) fn figures(&self) -> Figures {
        self.shown.figures()
    }

    fn broker(&self, wanted: &BrokerPlan) -> Option<BrokerInUse> {
        let same = |known: &&BrokerInUse| {
            let known = &known.plan;
            known.backend == wanted.backend && known.connection.same_as(&*wanted.connection)
        };
        self.brokers.iter().find(same).cloned()
    }
}

/// Reads the configuration, loads every component, and joins the two. Everything
/// that is wrong is reported at once. A component whose file is as it was in what
/// is in use is not compiled again.
pub(super) fn load(
    host: &Host,
    args: &ConfigArgs,
    components: &[PathBuf],
    folder: Option<&Path>,
    in_use: Option<&InUse>,
) -> Result<Planned, Failure> {
    let (file, config) = configure(args, components, in_use)?;
    if config.components.is_empty() && !config.listens() {
        return Err(Failure::input(
            "there is nothing to run: no component is named, and the configuration has no [[component]]\n  \
             help: wasi-pubsub run COMPONENT...",
        ));
    }
    let (codes, facts, mut problems) = load_components(host, &config, in_use);
    match config::resolve(&config, &facts) {
        Ok(plan) => {
            let listeners = listening::read(&config, &plan, folder, &mut problems)?;
            match problems.is_empty() {
                true => Ok(Planned { file, config, plan, codes, listeners }),
                false => Err(wrong_all(problems)),
            }
        }
        Err(errors) => {
            problems.insert(0, errors);
            Err(wrong_all(problems))
        }
    }
}

/// The files that decide what runs: the configuration, whether it is there or
/// not, and the components as far as they are known.
pub(super) fn files(
    args: &ConfigArgs,
    components: &[PathBuf],
    in_use: Option<&InUse>,
) -> Vec<PathBuf> {
    let mut files = vec![files::config_path(args)];
    match configure(args, components, in_use) {
        Ok((_, config)) => files.extend(config.components.into_iter().map(|c| c.path)),
        Err(_) => files.extend(components.iter().cloned()),
    }
    files.extend(in_use.into_iter().flat_map(|known| &known.components).map(|c| c.0.clone()));
    files
}

/// The configuration with the components of the command line, and its file. Once
/// there was a file, there has to be one.
fn configure(
    args: &ConfigArgs,
    components: &[PathBuf],
    in_use: Option<&InUse>,
) -> Result<(Option<PathBuf>, Config), Failure> {
    let known = in_use.and_then(|known| known.file.clone());
    let file = known.or_else(|| files::config_file(args));
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
    Ok((file, config))
}

/// Reads a configuration file and reports all that is wrong with it.
pub(super) fn read_config(path: &Path) -> Result<Config, Failure> {
    read_config_with(path, &|name| std::env::var(name).ok())
}

/// As [`read_config`], with other values for what the file takes from the
/// environment.
pub(super) fn read_config_with(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Failure> {
    let text = std::fs::read(path)
        .map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
    let name = path.display().to_string();
    let dir = path.parent().unwrap_or(Path::new(""));
    let request = config::Request { name: &name, text: &text, dir, env, backends: backends() };
    config::load(&request).map_err(Failure::problems)
}

fn load_components(
    host: &Host,
    config: &Config,
    in_use: Option<&InUse>,
) -> (Vec<Code>, Vec<ComponentFacts>, Vec<Errors>) {
    let cache = files::code_cache();
    let (mut codes, mut facts, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for component in &config.components {
        let mode = instance_mode(component.settings.instance);
        let in_use = in_use.into_iter().flat_map(|known| &known.components);
        let known = codes.iter().chain(in_use.map(|(_, code)| code));
        let loaded = Code::load_among(host, cache.as_ref(), &component.path, mode, known);
        let loaded = loaded.and_then(|code| {
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
            for address in broker.listen.iter().flat_map(|listen| &listen.settings.doors) {
                let _ = writeln!(text, "  listens at {address}");
            }
        }
        for subscription in &plan.subscriptions {
            let settings = &subscription.settings;
            let members: Vec<_> =
                subscription.members.iter().map(|&i| plan.components[i].name.as_str()).collect();
            let kind = match &settings.group {
                Some(group) => format!("queue `{}` of group {group}", settings.filter),
                None => format!("topic `{}`", settings.filter),
            };
            let called = match settings.name == settings.filter.as_str() {
                true => String::new(),
                false => format!(", called {}", settings.name),
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
            let _ =
                writeln!(text, "{kind}{called}, qos {qos}{order}, {delivery} {members}{filter}");
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

    /// Everything that the runtime needs, and what the version after this one can
    /// take over from it. Brokers in use that are reached in the same way are kept;
    /// connections to others are opened, without waiting for brokers.
    pub(super) fn into_setup(
        self,
        output: Output,
        observers: Vec<Arc<dyn Observer>>,
        in_use: Option<&InUse>,
    ) -> Result<(Setup, InUse), Failure> {
        let Self { file, config, plan, codes, listeners } = self;
        let client_id = match in_use {
            Some(known) => known.client_id.clone(),
            None => files::client_id_base(file.as_deref())?,
        };
        let known_shown = in_use.map(|known| known.shown.clone()).unwrap_or_default();
        let limits = config.limits();
        let budget = match in_use {
            Some(known) => Arc::clone(&known.budget),
            None => Budget::new(config.max_in_flight_bytes),
        };
        let letters: Vec<_> =
            (0..plan.brokers.len()).map(|index| plan.kept_dead_letters(index)).collect();
        let all = plan.brokers.clone();
        let firsts: Vec<_> = (0..plan.brokers.len())
            .map(|index| plan.first_label(index).map(str::to_owned))
            .collect();
        let open = |((wanted, letters), first): ((BrokerPlan, Vec<Topic>), Option<String>)| {
            if let Some(known) = in_use.and_then(|known| known.broker(&wanted)) {
                if let Some(keeping) = &known.letters {
                    keeping.keep_also(&letters);
                }
                return Ok(BrokerInUse { plan: wanted, topics: letters, ..known });
            }
            let mut connection = wanted
                .connection
                .open(&own_client_id(&client_id, &all, &wanted), first.as_deref())
                .map_err(|error| Failure::input(format!("broker {}: {error}", wanted.id)))?;
            let (bare, mut keeping) = (Arc::clone(&connection), None);
            if wanted.is_reachable() {
                let settings = Arc::clone(&wanted.connection);
                let wrapped = Keeping::new(connection, settings, letters.clone());
                connection = wrapped.clone();
                keeping = Some(wrapped);
            }
            let listening = wanted.features.listener.then(|| {
                let private = files::listener_socket(file.as_deref(), &*wanted.connection);
                Listening::new(Arc::clone(&connection), bare, private)
            });
            if let Some(listening) = &listening {
                connection = listening.connection();
            }
            let (id, limits, budget) = (wanted.id.clone(), limits.clone(), budget.clone());
            let broker = Broker::with_budget(id, connection, limits, budget);
            broker.set_retention(wanted.retention.clone());
            Ok(BrokerInUse { plan: wanted, broker, letters: keeping, topics: letters, listening })
        };
        let brokers = plan.brokers.into_iter().zip(letters).zip(firsts);
        let brokers = brokers.map(open).collect::<Result<Vec<_>, Failure>>()?;
        let opening = |broker: usize| {
            let of_broker = plan.subscriptions.iter().filter(|s| s.broker == broker);
            // Those that are open already are not opened again.
            if in_use.is_some() { 0 } else { of_broker.count() }
        };
        let mut prepared = Vec::new();
        for (index, (known, wanted)) in brokers.iter().zip(listeners).enumerate() {
            let Some(listening) = &known.listening else { continue };
            let wanted = wanted.map(|wanted| listening::prepare(&config, listening, wanted));
            prepared.push((Arc::clone(listening), opening(index), wanted.transpose()?));
        }
        let subscriptions = plan
            .subscriptions
            .into_iter()
            .map(|subscription| SubscriptionSetup {
                broker: subscription.broker,
                settings: subscription.settings,
                push: subscription.delivery == Delivery::Push,
                members: subscription.members,
            })
            .collect();
        let components: Vec<_> = plan.components.into_iter().zip(codes).collect();
        let in_use = InUse {
            file,
            client_id,
            components: components.iter().map(|(c, code)| (c.path.clone(), code.clone())).collect(),
            limits,
            brokers,
            budget,
            max_in_flight_bytes: config.max_in_flight_bytes,
            listeners: Mutex::new(prepared),
            shown: known_shown,
        };
        let setup = Setup {
            is_server: config.listens(),
            brokers: in_use.brokers.iter().map(|known| Arc::clone(&known.broker)).collect(),
            subscriptions,
            components: components.into_iter().map(|(plan, code)| component(plan, code)).collect(),
            drain: config.drain,
            output,
            observers,
        };
        Ok((setup, in_use))
    }
}

/// The first broker of a backend has the client identifier as it is. Others may be
/// the same server, reached in another way: there they must not be taken for it.
fn own_client_id(base: &str, brokers: &[BrokerPlan], broker: &BrokerPlan) -> String {
    let same = |other: &&BrokerPlan| other.backend == broker.backend;
    let position = brokers
        .iter()
        .filter(same)
        .position(|other| Arc::ptr_eq(&other.connection, &broker.connection));
    match position {
        Some(0) | None => base.to_owned(),
        Some(position) => format!("{base}-{}", position + 1),
    }
}

fn component(plan: ComponentPlan, code: Code) -> ComponentSetup {
    let publishes = code.interfaces().uses("publish");
    ComponentSetup {
        name: plan.name,
        code,
        settings: settings(&plan.settings),
        pulls: plan.pulls.iter().map(|(name, index)| (name.to_owned(), index)).collect(),
        grants: Arc::new(PlannedGrants { grants: plan.grants, publishes }),
    }
}

pub(super) fn settings(from: &config::ComponentSettings) -> ComponentSettings {
    ComponentSettings {
        instance: instance_mode(from.instance),
        instances: from.instances,
        max_concurrency: from.max_concurrency,
        max_in_flight_bytes: from.max_in_flight_bytes,
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
    match from {
        Network::None => None,
        Network::Any => Some(NetworkGrant::Any),
        Network::Only(allowed) => Some(NetworkGrant::Only(allowed.clone())),
    }
}
