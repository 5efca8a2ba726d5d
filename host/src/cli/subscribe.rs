//! `wasi-pubsub subscribe`

use super::failure::Failure;
use super::signals::Signals;
use super::{ConfigArgs, files, lines, tool};
use crate::broker::{Lease, Qos, Subscription, SubscriptionSettings, TopicFilter, Verdict};
use clap::Args;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// How long the last acknowledgements may take.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// Print what is published to the broker that the configuration names
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub subscribe 'orders/#'
  wasi-pubsub subscribe 'orders/#' --count 1 --json
  wasi-pubsub subscribe 'orders/#' --queue billing    share a queue instead of watching

Without --json, a line for each event: its topic, a space, and its data. With it,
an object in the CloudEvents JSON format, with the topic in `topic`.")]
pub(super) struct SubscribeArgs {
    /// The topics, with `+` and `#`; `ID:FILTER` where several brokers are configured
    filter: String,
    /// End after so many events
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// Take part in this group's queue: what is printed here nobody else gets
    #[arg(long, value_name = "GROUP")]
    queue: Option<String>,
    /// The quality of service: 0, 1 or 2
    #[arg(short, long, default_value = "1", value_parser = super::tool::parse_qos)]
    qos: Qos,
    /// Give up when no event came for so long
    #[arg(long, value_name = "SECONDS", value_parser = super::tool::parse_seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    config: ConfigArgs,
}

impl SubscribeArgs {
    /// Waits for the broker or an event, at most for the timeout.
    async fn in_time<F: Future>(&self, wait: F) -> Result<F::Output, Failure> {
        match self.timeout {
            Some(limit) => tokio::time::timeout(limit, wait)
                .await
                .map_err(|_| Failure::run(format!("no event came within {limit:?}"))),
            None => Ok(wait.await),
        }
    }
}

pub(super) async fn subscribe(args: SubscribeArgs) -> Result<(), Failure> {
    let (broker, filter) = tool::open(&args.config, &args.filter)?;
    let filter = TopicFilter::new(&filter)
        .map_err(|error| Failure::input(format!("`{filter}` is no filter: {error}")))?;
    let mut settings = SubscriptionSettings::new(filter);
    settings.group.clone_from(&args.queue);
    settings.qos = args.qos;
    // Nobody else's: what a broker keeps for a name goes to whoever has it.
    settings.label = files::random_client_id();
    settings.is_temporary = true;
    let signals = Signals::listen()?;
    let print = async {
        let subscription = args.in_time(broker.subscribe(settings)).await?.map_err(|error| {
            Failure::run(format!("cannot subscribe to `{}`: {error}", args.filter))
        })?;
        tracing::info!("subscribed to `{}`", args.filter);
        let result = print(&args, &subscription).await;
        subscription.stop();
        result
    };
    let result = tokio::select! {
        result = print => result,
        () = signals.first() => Ok(()),
    };
    broker.close(CLOSE_GRACE).await;
    result
}

/// Prints events until there were enough. An event is acknowledged when its line
/// is out.
async fn print(args: &SubscribeArgs, subscription: &Arc<Subscription>) -> Result<(), Failure> {
    let mut printed = 0;
    while args.count.is_none_or(|count| printed < count) {
        let lease = args.in_time(subscription.next()).await?;
        let lease = lease.map_err(|error| Failure::run(error.to_string()))?;
        if let Err(error) = write_line(&line(&lease, args.json)) {
            // `… | head` has seen enough.
            return match error.kind() {
                std::io::ErrorKind::BrokenPipe => Ok(()),
                _ => Err(error.into()),
            };
        }
        lease.settle(Verdict::Ack);
        printed += 1;
    }
    Ok(())
}

fn write_line(line: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line)?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}

fn line(lease: &Lease, json: bool) -> Vec<u8> {
    let topic = lease.topic().as_str();
    if json {
        return lines::write(topic, lease.event(), &[], lines::Data::Readable);
    }
    [topic.as_bytes(), b" ", &lease.event().data].concat()
}
