//! `wasi-pubsub run`

use super::failure::Failure;
use super::record::Recording;
use super::reload::Reloading;
use super::signals::{Hangups, Signals};
use super::telemetry::TelemetryArgs;
use super::watch::Watch;
use super::{ConfigArgs, plan};
use crate::runtime::{GuestStream, Host, Outcome, Output, Reloads, Service};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Run components until stopped, or until all of them were commands and have ended
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub run                              the components of capabilities.toml
  wasi-pubsub run a.wasm b.wasm                these, with the bindings of capabilities.toml
  wasi-pubsub run -c plant.toml billing.wasm
  wasi-pubsub run --metrics 127.0.0.1:9464     with metrics and health for operators
  wasi-pubsub run --record deliveries.jsonl    and write down what becomes of each event
  wasi-pubsub run --static web                 serve a page beside MQTT over WebSocket
  wasi-pubsub run --watch                      reload when a file changes

Without capabilities.toml the built-in broker is used: everything may be
published, and handlers are pushed every topic, without their own events.

SIGHUP reloads the configuration and the components; so does --watch when one of
these files changes. New events go to the new version, the old one finishes what it
has within the drain time, and what has not changed goes on as it is. A version
with an error is refused as a whole, and the old one runs on. A command that has
ended is run again when its own file has changed.

SIGINT and SIGTERM drain: nothing more is taken, what is in flight finishes within
the drain time, is acknowledged, and the host ends. A second signal ends at once.")]
pub(super) struct RunArgs {
    /// Components to run, beside those of the configuration
    #[arg(value_name = "COMPONENT")]
    pub(super) components: Vec<PathBuf>,
    /// Add each delivery to this file: the event, the verdict and what was published, one JSON
    /// object a line, as `wasi-pubsub test` reads it
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    /// Reload when the file of a component or the configuration changes, and wait
    /// for that when all commands have ended
    #[arg(short, long)]
    watch: bool,
    /// Serve the files of this folder on the ports where `listen` speaks WebSocket
    #[arg(long = "static", value_name = "DIR")]
    pub(super) folder: Option<PathBuf>,
    #[command(flatten)]
    telemetry: TelemetryArgs,
}

pub(super) async fn run(args: RunArgs) -> Result<(), Failure> {
    // Before anything else: a signal that comes early drains as well.
    let signals = Signals::listen()?;
    let hangups = Hangups::listen()?;
    let (args, host) = (Arc::new(args), host()?);
    // Before the files are read: a change that comes meanwhile is seen.
    let watch = args.watch.then(|| Watch::start(plan::files(&args.config, &args.components, None)));
    let planned = plan::load(&host, &args.config, &args.components, args.folder.as_deref(), None)?;
    planned.announce();
    let mut telemetry = args.telemetry.open().await?;
    let recording = args.record.as_deref().map(Recording::begin).transpose()?;
    // What is recorded is what the guest published, before anything is added to it.
    let mut observers: Vec<_> = recording.iter().map(Recording::observer).collect();
    observers.extend(telemetry.observers(planned.limits()));
    let output = guest_output();
    let (setup, in_use) = planned.into_setup(output.clone(), observers.clone(), None)?;
    let service = Service::new(&host, setup).map_err(|error| Failure::input(error.to_string()))?;
    in_use.take_effect();
    let _serving = telemetry.serve(service.status(), in_use.figures());
    let (reloader, reloads) = Reloads::channel(args.watch);
    let in_use = Arc::new(in_use);
    let reloading = Reloading { host, args, in_use, output, observers, reloader, watch };
    tokio::spawn(reloading.run(hangups));
    let ready = || tracing::info!("ready");
    let outcome = service.run_reloading(signals.first(), ready, reloads).await;
    telemetry.finish().await;
    if let Some(recording) = recording {
        recording.finish().await;
    }
    report(&outcome)
}

fn host() -> Result<Host, Failure> {
    Host::new().map_err(|error| Failure::run(format!("{error:#}")))
}

fn report(outcome: &Outcome) -> Result<(), Failure> {
    let mut problems = Vec::new();
    if !outcome.failed.is_empty() {
        problems.push(format!("failed: {}", outcome.failed.join(", ")));
    }
    problems.extend(outcome.ended.iter().map(|reason| format!("subscription ended: {reason}")));
    if outcome.cut_short {
        problems.push("the drain time was over before all events in flight were done".into());
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::run(problems.join("; "))) }
}

/// Guests' lines, with the component's name before each. A line is written whole
/// and at once, so that it is out before the verdict that follows it.
fn guest_output() -> Output {
    Output::new(|component, stream, line| {
        let mut text = Vec::with_capacity(component.len() + line.len() + 4);
        text.extend_from_slice(component.as_bytes());
        text.extend_from_slice(b" | ");
        text.extend_from_slice(line);
        text.push(b'\n');
        // Who closed the host's output does not want it; guests go on.
        let _ = match stream {
            GuestStream::Stdout => write_at_once(std::io::stdout().lock(), &text),
            GuestStream::Stderr => write_at_once(std::io::stderr().lock(), &text),
        };
    })
}

fn write_at_once(mut to: impl Write, text: &[u8]) -> std::io::Result<()> {
    to.write_all(text)?;
    to.flush()
}
