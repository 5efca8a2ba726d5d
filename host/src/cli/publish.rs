//! `wasi-pubsub publish`

use super::failure::Failure;
use super::{ConfigArgs, lines, tool};
use crate::broker::{Broker, BrokerError, Event, Qos, Topic};
use bytes::Bytes;
use clap::Args;
use futures_util::stream::{FuturesUnordered, StreamExt};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::sync::mpsc;

/// The most events of `--lines` that wait for the broker at once.
const LINES_IN_FLIGHT_MAX: usize = 256;
/// The longest line that is taken, in bytes.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How many lines are read ahead of what is published.
const LINES_READ_AHEAD: usize = 64;
/// How long `--lines` runs before it shows its progress on a terminal.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// Publish events to the broker that the configuration names
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub publish orders/new -m 'hello'
  wasi-pubsub publish orders/new -f order.json --type com.example.order --content-type application/json
  seq 1000 | wasi-pubsub publish orders/new --lines
  wasi-pubsub publish --json < events.jsonl        events that `subscribe --json` has printed
  wasi-pubsub publish plant:orders/new -m 1        to the capability whose id is `plant`

The host fills in the id, the source and the type where they are not given.")]
pub(super) struct PublishArgs {
    /// The topic; `ID:TOPIC` where several brokers are configured. With `--json`: that of lines
    /// that name none
    #[arg(required_unless_present = "json")]
    topic: Option<String>,
    #[command(flatten)]
    payload: Payload,
    #[command(flatten)]
    event: EventArgs,
    /// The quality of service: 0, 1 or 2
    #[arg(short, long, default_value = "1", value_parser = super::tool::parse_qos)]
    qos: Qos,
    /// How long to wait for the broker, for each event
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = super::tool::parse_seconds)]
    timeout: Duration,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Payload {
    /// The data
    #[arg(short, long, value_name = "DATA")]
    message: Option<String>,
    /// A file with the data; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// One event for each line of standard input
    #[arg(short, long)]
    lines: bool,
    /// One event for each line of standard input, as JSON: in the CloudEvents format with its
    /// topic in `topic`, or {"topic": ..., "data": ...}
    #[arg(long, conflicts_with_all = OF_ONE_EVENT)]
    json: bool,
}

/// What a line of JSON says by itself.
const OF_ONE_EVENT: [&str; 6] =
    ["id", "content_type", "subject", "time", "ordering_key", "attributes"];

/// The attributes of CloudEvents.
#[derive(Args)]
#[command(next_help_heading = "Attributes")]
struct EventArgs {
    /// Identifies the event [default: a random one]
    #[arg(long)]
    id: Option<String>,
    /// Where it happened, a URI reference
    #[arg(long, default_value = "/wasi-pubsub/publish")]
    source: String,
    /// The kind of occurrence
    #[arg(long = "type", value_name = "TYPE", default_value = "wasi-pubsub.publish")]
    kind: String,
    /// The media type of the data
    #[arg(long, value_name = "MEDIA_TYPE")]
    content_type: Option<String>,
    /// What the event is about
    #[arg(long)]
    subject: Option<String>,
    /// When it happened, as RFC 3339 says
    #[arg(long)]
    time: Option<String>,
    /// Events with the same key keep their order
    #[arg(long, value_name = "KEY")]
    ordering_key: Option<String>,
    /// A further attribute; can be repeated
    #[arg(short, long = "attribute", value_name = "NAME=VALUE", value_parser = parse_attribute)]
    attributes: Vec<(String, String)>,
}

fn parse_attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

impl EventArgs {
    fn event(&self, data: Bytes) -> Event {
        let mut attributes = self.attributes.clone();
        let own = [("subject", &self.subject), ("time", &self.time)];
        attributes.extend(own.into_iter().filter_map(|(name, value)| {
            value.as_ref().map(|value| (name.to_owned(), value.clone()))
        }));
        Event {
            id: self.id.clone().unwrap_or_default(),
            source: self.source.clone(),
            kind: self.kind.clone(),
            data,
            content_type: self.content_type.clone(),
            attributes,
            ordering_key: self.ordering_key.clone(),
        }
    }
}

pub(super) async fn publish(args: PublishArgs) -> Result<(), Failure> {
    if args.payload.lines && args.event.id.is_some() {
        return Err(Failure::input("`--id` with `--lines` would give every event the same id"));
    }
    let (broker, topic) = tool::open(&args.config, args.topic.as_deref().unwrap_or_default())?;
    let topic = match args.topic {
        Some(_) => Some(
            Topic::new(&topic)
                .map_err(|error| Failure::input(format!("`{topic}` is no topic: {error}")))?,
        ),
        None => None,
    };
    let result = match &topic {
        Some(topic) if !args.payload.lines && !args.payload.json => {
            let event = args.event.event(payload(&args.payload).await?);
            publish_one(&args, &broker, topic, event).await
        }
        topic => publish_lines(&args, &broker, topic.as_ref()).await,
    };
    broker.close(args.timeout).await;
    result
}

async fn payload(payload: &Payload) -> Result<Bytes, Failure> {
    if let Some(message) = &payload.message {
        return Ok(message.clone().into());
    }
    let path = payload.file.as_deref().unwrap_or(Path::new("-"));
    let mut data = Vec::new();
    if path == Path::new("-") {
        tokio::io::stdin().read_to_end(&mut data).await?;
    } else {
        data = tokio::fs::read(path)
            .await
            .map_err(|error| Failure::input(format!("{}: {error}", path.display())))?;
    }
    Ok(data.into())
}

async fn publish_one(
    args: &PublishArgs,
    broker: &Arc<Broker>,
    topic: &Topic,
    event: Event,
) -> Result<(), Failure> {
    broker
        .publish(&args.event.source, topic, event, args.qos, args.timeout)
        .await
        .map_err(|error| failure(topic, &error))
}

fn failure(topic: &Topic, error: &BrokerError) -> Failure {
    let text = format!("cannot publish to `{topic}`: {error}");
    match error {
        BrokerError::InvalidTopic(_) | BrokerError::TooLarge { .. } => Failure::input(text),
        _ => Failure::run(text),
    }
}

/// Publishes a line after the other, many of them under way at once. The first
/// failure ends it, after what is under way.
async fn publish_lines(
    args: &PublishArgs,
    broker: &Arc<Broker>,
    topic: Option<&Topic>,
) -> Result<(), Failure> {
    let progress = Progress::new();
    let mut lines = read_lines(BufReader::new(tokio::io::stdin()));
    let mut under_way = FuturesUnordered::new();
    let mut more = true;
    let mut outcome = Ok(());
    let mut number = 0;
    while (more && outcome.is_ok()) || !under_way.is_empty() {
        let take = more && outcome.is_ok() && under_way.len() < LINES_IN_FLIGHT_MAX;
        tokio::select! {
            Some(result) = under_way.next() => {
                outcome = outcome.and(result);
                progress.0.inc(1);
            }
            line = lines.recv(), if take => match line {
                Some(Ok(line)) => {
                    number += 1;
                    match read_line(args, topic, line, number) {
                        Ok(Some((topic, event))) => {
                            let mut publish = Box::pin(publish_to(args, broker, topic, event));
                            // Begun now, and not when the set comes to it: lines
                            // keep their order.
                            match futures_util::poll!(&mut publish) {
                                Poll::Ready(result) => outcome = result,
                                Poll::Pending => under_way.push(publish),
                            }
                        }
                        Ok(None) => {}
                        Err(failure) => outcome = Err(failure),
                    }
                }
                Some(Err(failure)) => outcome = Err(failure),
                None => more = false,
            },
        }
    }
    progress.0.finish_and_clear();
    outcome
}

async fn publish_to(
    args: &PublishArgs,
    broker: &Arc<Broker>,
    topic: Topic,
    event: Event,
) -> Result<(), Failure> {
    publish_one(args, broker, &topic, event).await
}

/// What a line is to be published as; `None` for an empty line of JSON.
fn read_line(
    args: &PublishArgs,
    topic: Option<&Topic>,
    line: Bytes,
    number: usize,
) -> Result<Option<(Topic, Event)>, Failure> {
    const INPUT: &str = "standard input";
    let (own, event) = if !args.payload.json {
        (None, args.event.event(line))
    } else if line.trim_ascii().is_empty() {
        return Ok(None);
    } else {
        let read = lines::read(&line).map_err(|fault| fault.failure(INPUT, number))?;
        let mut event = read.event;
        if event.source.is_empty() {
            event.source.clone_from(&args.event.source);
        }
        if event.kind.is_empty() {
            event.kind.clone_from(&args.event.kind);
        }
        (read.topic, event)
    };
    let topic = own.or_else(|| topic.cloned()).ok_or_else(|| {
        Failure::input(format!(
            "{INPUT}:{number}: there is no `topic`\n  help: write it into the line, or name one for all"
        ))
    })?;
    Ok(Some((topic, event)))
}

/// The lines of an input, without their ends.
fn read_lines(
    mut input: impl AsyncBufRead + Unpin + Send + 'static,
) -> mpsc::Receiver<Result<Bytes, Failure>> {
    let (sender, lines) = mpsc::channel(LINES_READ_AHEAD);
    tokio::spawn(async move {
        for number in 1_u64.. {
            let mut line = Vec::new();
            let read = (&mut input).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut line).await;
            let line = match read {
                Ok(0) => return,
                Ok(read) if read as u64 > LINE_BYTES_MAX => Err(Failure::input(format!(
                    "line {number} is longer than {LINE_BYTES_MAX} bytes"
                ))),
                Ok(_) => {
                    let line = line.strip_suffix(b"\n").unwrap_or(&line);
                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                    Ok(Bytes::copy_from_slice(line))
                }
                Err(error) => Err(error.into()),
            };
            let last = line.is_err();
            if sender.send(line).await.is_err() || last {
                return;
            }
        }
    });
    lines
}

/// Shows how many events are published, on a terminal, when it takes long.
struct Progress(ProgressBar);

impl Progress {
    fn new() -> Self {
        let hidden = !std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) =
            ProgressStyle::with_template("{spinner} {human_pos} published, {per_sec}, {elapsed}")
        {
            bar.set_style(style);
        }
        let shown = bar.downgrade();
        if !hidden {
            tokio::spawn(async move {
                tokio::time::sleep(PROGRESS_AFTER).await;
                if let Some(bar) = shown.upgrade() {
                    bar.set_draw_target(ProgressDrawTarget::stderr());
                    bar.enable_steady_tick(Duration::from_millis(200));
                }
            });
        }
        Self(bar)
    }
}
