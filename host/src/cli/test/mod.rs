//! `wasi-pubsub test`: events for a handler, without a broker.
//!
//! The handler runs as `run` would run it, on a broker of its own ([`bench`])
//! that hands it one event after the other; an observer sees what becomes of
//! each. Nothing of delivery is written a second time here.

mod bench;
mod expect;
mod input;
mod report;

use super::delivered::{Delivered, Deliveries};
use super::failure::Failure;
use super::{ConfigArgs, files, inspect, lines, plan};
use crate::broker::{
    Broker, BrokerError, Budget, Limits, Qos, SubscriptionSettings, Topic, TopicFilter,
};
use crate::config::{self, Config};
use crate::runtime::{
    Code, ComponentSetup, ComponentStatus, Grant, Grants, GuestStream, Host, InstanceMode, Output,
    Service, Setup, SubscriptionSetup,
};
use bench::{Bench, Fed};
use clap::Args;
use input::Entry;
use report::Report;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// What is logged by default: the report says what a handler failed with.
pub(super) const LOG: &str = "warn,wasi_pubsub::runtime=error,wasi_pubsub::broker=error";
/// All ids that are filled in begin with this.
const SEED: u64 = 0;
/// How long what a handler left behind may take at the end.
const DRAIN: Duration = Duration::from_secs(1);
/// How long to wait for a broker that takes everything at once.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether instances can be started at all.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Feed events to a component's handler, with no broker, and tell what it did
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub test handler.wasm < events.jsonl
  echo '{\"topic\": \"orders/new\", \"data\": {\"id\": 7}}' | wasi-pubsub test handler.wasm
  wasi-pubsub test handler.wasm events.jsonl --json > expected.jsonl
  wasi-pubsub test handler.wasm --expect expected.jsonl

A line is an event in the CloudEvents JSON format with its topic in `topic`, as
`subscribe --json` and `run --record` write them, or {\"topic\": ..., \"data\": ...}.
`attempt` may say which delivery it is. Each event is handled once, one after the
other, by the limits, the environment and the timeout of capabilities.toml, where
it has a [[component]] with this path. Everything may be published; nothing can
be pulled. What the component prints goes to standard error.

With --expect, what differs from what `--json` or `run --record` wrote before is
told event by event; times, and ids of what is published, may differ. Without
other input, its events are the input.

Exit codes: 0 the handler answered each event (ack, retry or reject), or did as
expected; 1 it did not: a trap, a timeout, a difference; 2 the input is wrong.")]
pub(super) struct TestArgs {
    /// The component
    component: PathBuf,
    /// Files with events, one a line [default: standard input]; `-` is standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Compare with what was found before
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// One JSON object a line, with each event and what became of it
    #[arg(long)]
    json: bool,
    /// The topic of events that name none
    #[arg(long, value_name = "TOPIC", value_parser = parse_topic)]
    topic: Option<Topic>,
    /// What the component goes by [default: as in the configuration, or the file's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
}

fn parse_topic(text: &str) -> Result<Topic, String> {
    Topic::new(text).map_err(|error| error.to_string())
}

pub(super) async fn test(args: TestArgs) -> Result<(), Failure> {
    let host = Host::new().map_err(|error| Failure::run(format!("{error:#}")))?;
    let settings = Settings::read(&args)?;
    let code =
        load(&host, &args.component, plan::instance_mode(settings.component.settings.instance))?;
    let (entries, expected) = events(&args, &settings.component.name)?;
    let fed: Vec<Fed> = entries.into_iter().map(|entry| entry.fed).collect();
    let found = run(&host, code, settings, &fed, args.json).await?;
    judge(&args, expected.as_deref(), &found)
}

fn load(host: &Host, path: &Path, mode: InstanceMode) -> Result<Code, Failure> {
    let wrong = |reason: String| Failure::input(format!("{}: {reason}", path.display()));
    let code = Code::load(host, files::code_cache().as_ref(), path, mode).map_err(|error| {
        let help = error.help().map(|help| format!("\n  help: {help}")).unwrap_or_default();
        wrong(format!("{error}{help}"))
    })?;
    if let Some(problem) = inspect::problem(host, &code) {
        return Err(wrong(problem));
    }
    if code.interfaces().handlers.is_empty() {
        return Err(wrong("it exports no `on-message`: there is no handler to test".into()));
    }
    Ok(code)
}

/// How the component runs.
struct Settings {
    component: config::Component,
    limits: Limits,
}

impl Settings {
    /// What the configuration says of the component, or the defaults.
    fn read(args: &TestArgs) -> Result<Self, Failure> {
        let file = files::config_file(&args.config);
        // Nothing is connected: what is not set of the secrets of brokers is not
        // needed. A text that is valid wherever one may stand.
        let env = |name: &str| std::env::var(name).ok().or(Some("tcp://localhost".into()));
        let read = |path| plan::read_config_with(path, &env);
        let config = file.as_deref().map(read).transpose()?;
        let configured = config.as_ref().and_then(|config| find(config, &args.component));
        if configured.is_none()
            && let Some(file) = &args.config.config
        {
            return Err(Failure::input(format!(
                "{} has no [[component]] with the path {}",
                file.display(),
                args.component.display()
            )));
        }
        let mut component = configured.cloned().unwrap_or_else(|| config::Component {
            name: stem(&args.component),
            path: args.component.clone(),
            place: None,
            settings: config::ComponentSettings::default(),
        });
        if let Some(name) = &args.name {
            component.name.clone_from(name);
        }
        // One event after the other.
        component.settings.instances = 1;
        component.settings.max_concurrency = 1;
        Ok(Self { component, limits: config.map(|config| config.limits()).unwrap_or_default() })
    }
}

fn find<'a>(config: &'a Config, path: &Path) -> Option<&'a config::Component> {
    let whole = |path: &Path| std::fs::canonicalize(path).ok();
    let wanted = whole(path);
    config.components.iter().find(|component| whole(&component.path) == wanted)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The events to feed, and those that are expected.
fn events(args: &TestArgs, component: &str) -> Result<(Vec<Entry>, Option<Vec<Entry>>), Failure> {
    let topic = args.topic.as_ref();
    let read = |files: &[PathBuf]| {
        let mut entries = input::read(files, topic)?;
        input::keep_own(&mut entries, component)?;
        Ok::<_, Failure>(entries)
    };
    let expected = args.expect.as_ref().map(|file| read(std::slice::from_ref(file))).transpose()?;
    let mut entries = match args.files.as_slice() {
        [] if args.expect.is_some() && !input::is_piped() => Vec::new(),
        [] => read(&["-".into()])?,
        files => read(files)?,
    };
    if let Some(file) = args.expect.as_ref().filter(|_| entries.is_empty() && args.files.is_empty())
    {
        entries = read(std::slice::from_ref(file))?;
    }
    if entries.is_empty() {
        return Err(Failure::input(
            "there are no events\n  help: write them to standard input, one a line, as \
             {\"topic\": \"orders/new\", \"data\": ...}",
        ));
    }
    Ok((entries, expected))
}

/// Feeds the events, and reports what becomes of each.
async fn run(
    host: &Host,
    code: Code,
    settings: Settings,
    events: &[Fed],
    json: bool,
) -> Result<Vec<Delivered>, Failure> {
    let bench = Bench::default();
    let (tell, mut ended) = mpsc::unbounded_channel();
    let setup = setup(&bench, code, settings, tell)?;
    let service = Service::new(host, setup).map_err(|error| Failure::input(error.to_string()))?;
    let status = service.status().components();
    let (stop, stopped) = oneshot::channel::<()>();
    let feed = async {
        // Dropped at the end in any case: the service stops then.
        let _stop = stop;
        let mut report = Report::begin(json, events)?;
        let mut found = Vec::with_capacity(events.len());
        for (number, fed) in (1..).zip(events) {
            bench.feed(fed.clone());
            let delivered = tokio::select! {
                delivered = ended.recv() => delivered,
                reason = never_starts(&status) => {
                    return Err(Failure::run(format!("no instance can be started: {reason}")));
                }
            };
            let Some(delivered) = delivered else {
                return Err(Failure::run("the component ended before it had all events"));
            };
            report.add(number, &delivered)?;
            found.push(delivered);
        }
        report.end("")?;
        Ok(found)
    };
    let stopped = async {
        let _ = stopped.await;
    };
    let (_, found) = tokio::join!(service.run(stopped, || {}), feed);
    found
}

/// Says why no instance can be started, when that is so.
async fn never_starts(status: &[Arc<ComponentStatus>]) -> String {
    loop {
        if let Some(failing) = status.iter().find_map(|component| component.failing()) {
            return failing.reason;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn setup(
    bench: &Bench,
    code: Code,
    settings: Settings,
    tell: mpsc::UnboundedSender<Delivered>,
) -> Result<Setup, Failure> {
    let Settings { component, limits } = settings;
    let all = TopicFilter::new("#").map_err(|error| Failure::run(error.to_string()))?;
    // One event is under way at a time: the channel holds one at most.
    let observer = Deliveries(Arc::new(move |delivered| drop(tell.send(delivered))));
    Ok(Setup {
        brokers: vec![Broker::with_seed(
            "test",
            bench.connection(),
            limits,
            Budget::unbounded(),
            SEED,
        )],
        subscriptions: vec![SubscriptionSetup {
            broker: 0,
            settings: SubscriptionSettings::new(all),
            push: true,
            members: vec![0],
        }],
        components: vec![ComponentSetup {
            name: component.name,
            code,
            settings: plan::settings(&component.settings),
            grants: Arc::new(Everything),
            pulls: HashMap::new(),
        }],
        drain: DRAIN,
        output: Output::new(print),
        observers: vec![Arc::new(observer)],
        is_server: false,
    })
}

/// Everything may be published.
struct Everything;

impl Grants for Everything {
    fn route(&self, topic: &str) -> Result<Grant, BrokerError> {
        let topic =
            Topic::new(topic).map_err(|error| BrokerError::InvalidTopic(error.to_string()))?;
        Ok(Grant { broker: 0, topic, qos: Qos::AtLeastOnce, timeout: PUBLISH_TIMEOUT })
    }
}

/// What the component prints: standard output is the report's.
fn print(component: &str, _: GuestStream, line: &[u8]) {
    let line = [component.as_bytes(), b" | ", line, b"\n"].concat();
    // Who closed it does not want it.
    let _ = std::io::stderr().lock().write_all(&line);
}

fn judge(args: &TestArgs, expected: Option<&[Entry]>, found: &[Delivered]) -> Result<(), Failure> {
    if let Some(expected) = expected {
        return match expect::differences(expected, found) {
            Some(differences) => Err(Failure::run(differences)),
            None if args.json => Ok(()),
            None => Ok(lines::print(b"as expected\n")?),
        };
    }
    let unanswered = found.iter().filter(|delivered| !delivered.outcome.is_answer()).count();
    if unanswered == 0 {
        return Ok(());
    }
    let events = if unanswered == 1 { "event" } else { "events" };
    Err(Failure::run(format!("{unanswered} {events} got no answer from the handler")))
}
