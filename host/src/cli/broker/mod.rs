//! `wasi-pubsub broker`: looking into a store of the built-in broker, and setting
//! things right there.
//!
//! What only looks works beside a host that has the store ([`look`]); what changes
//! something needs the store for itself ([`change`]).

mod change;
mod look;
mod print;
mod store;

use super::ConfigArgs;
use super::failure::Failure;
use crate::broker::{Start, TopicFilter};
use crate::builtin::SeekTo;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use store::Store;

/// Look into the store of a built-in broker, and set things right there
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub broker topics                         what is kept
  wasi-pubsub broker subscriptions                  who waits for how much
  wasi-pubsub broker peek 'orders/#' --from 2026-01-31T08:00:00Z
  wasi-pubsub broker seek billing/orders/# earliest
  wasi-pubsub broker snapshot create before billing/orders/#
  wasi-pubsub broker check --path events.db

It is about the pubsub.disk broker that the configuration names. `topics`,
`subscriptions`, `snapshot list`, `peek` and `check` work while a host runs with
it; the others need the host to be stopped.")]
pub(super) struct BrokerArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List topics and what they keep
    Topics(ListArgs),
    /// List subscriptions and what waits for them
    Subscriptions(ListArgs),
    Remove(RemoveArgs),
    Peek(PeekArgs),
    Seek(SeekArgs),
    Snapshot(SnapshotArgs),
    Purge(PurgeArgs),
    Check(CheckArgs),
    Compact(CompactArgs),
}

/// Which store.
#[derive(Args)]
struct Which {
    #[command(flatten)]
    config: ConfigArgs,
    /// The id of the capability, where several have a store
    #[arg(long, value_name = "ID")]
    broker: Option<String>,
    /// The store's file, instead of what a configuration says
    #[arg(long, value_name = "FILE", conflicts_with = "broker")]
    path: Option<PathBuf>,
}

/// List topics with what they keep, or subscriptions with what waits for them
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub broker topics
  wasi-pubsub broker subscriptions --json
  wasi-pubsub broker subscriptions --path events.db")]
struct ListArgs {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// Forget a subscription, and what waits for it
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub broker remove billing/orders/#")]
struct RemoveArgs {
    /// Its name, as `subscriptions` lists it
    subscription: String,
    #[command(flatten)]
    which: Which,
}

/// Print events that are kept, oldest first, without any effect
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub broker peek 'orders/#'
  wasi-pubsub broker peek orders/new -n 100 --from 2026-01-31T08:00:00Z
  wasi-pubsub broker peek '#' --from 1000 --json

Without --json, a line for each event: its number, when it was published, its topic
and its data. With it, an object in the CloudEvents JSON format.")]
struct PeekArgs {
    /// The topics, with `+` and `#`
    filter: String,
    /// How many events
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "10")]
    count: usize,
    /// `earliest`, a time such as 2026-01-31T08:00:00Z, or a number
    #[arg(long, value_name = "START", default_value = "earliest", value_parser = parse_from)]
    from: Start,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

/// Let a subscription go on at another place
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub broker seek billing/orders/# earliest          all that is kept, again
  wasi-pubsub broker seek billing/orders/# new               nothing of what waits
  wasi-pubsub broker seek billing/orders/# 2026-01-31T08:00:00Z
  wasi-pubsub broker seek billing/orders/# snapshot:before

What was published before that place counts as acknowledged. What was acknowledged
and comes after it is delivered again, as far as `retention` or a snapshot has kept it.")]
struct SeekArgs {
    /// Its name, as `subscriptions` lists it
    subscription: String,
    /// `earliest`, `new`, a time such as 2026-01-31T08:00:00Z, a number, or `snapshot:NAME`
    #[arg(value_parser = parse_place)]
    place: SeekTo,
    #[command(flatten)]
    which: Which,
}

/// Keep places of subscriptions under a name, to seek to
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub broker snapshot create before billing/orders/#
  wasi-pubsub broker snapshot list
  wasi-pubsub broker seek billing/orders/# snapshot:before
  wasi-pubsub broker snapshot delete before

What a snapshot would deliver is kept until it is deleted.")]
struct SnapshotArgs {
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(Subcommand)]
enum SnapshotCommand {
    /// List them
    List(ListArgs),
    /// Give the place where a subscription is a name
    Create {
        /// The snapshot's name; one of this name is replaced
        name: String,
        /// The subscription's name, as `subscriptions` lists it
        subscription: String,
        #[command(flatten)]
        which: Which,
    },
    /// Delete one
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        which: Which,
    },
}

/// Delete all that topics have, also what subscriptions wait for
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub broker purge orders/old
  wasi-pubsub broker purge 'test/#' --yes")]
struct PurgeArgs {
    /// The topics, with `+` and `#`
    filter: String,
    /// Without asking
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    which: Which,
}

/// Look whether a store is whole
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub broker check
  wasi-pubsub broker check --path backup/events.db

Reads all of it. Exit code 1: something is wrong, one line for each.")]
struct CheckArgs {
    #[command(flatten)]
    which: Which,
}

/// Delete what nobody needs any more, and make the file as small as it can be
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub broker compact

Room in the file is used again by itself; this gives it back to the file system. It
needs as much again meanwhile. With --path nothing is known of `retention`, and no
event is deleted.")]
struct CompactArgs {
    #[command(flatten)]
    which: Which,
}

pub(super) async fn broker(args: BrokerArgs) -> Result<(), Failure> {
    match args.command {
        Command::Topics(args) => look::topics(&Store::find(&args.which)?, args.json).await,
        Command::Subscriptions(args) => {
            look::subscriptions(&Store::find(&args.which)?, args.json).await
        }
        Command::Peek(args) => {
            let filter = filter(&args.filter)?;
            let store = Store::find(&args.which)?;
            look::peek(&store, &filter, args.from, args.count, args.json).await
        }
        Command::Check(args) => look::check(&Store::find(&args.which)?).await,
        Command::Remove(args) => {
            change::remove(&Store::find(&args.which)?, &args.subscription).await
        }
        Command::Seek(args) => {
            change::seek(&Store::find(&args.which)?, &args.subscription, &args.place).await
        }
        Command::Purge(args) => {
            let filter = filter(&args.filter)?;
            change::purge(&Store::find(&args.which)?, &filter, args.yes).await
        }
        Command::Compact(args) => change::compact(&Store::find(&args.which)?).await,
        Command::Snapshot(args) => match args.command {
            SnapshotCommand::List(args) => {
                look::snapshots(&Store::find(&args.which)?, args.json).await
            }
            SnapshotCommand::Create { name, subscription, which } => {
                change::snapshot(&Store::find(&which)?, &name, &subscription).await
            }
            SnapshotCommand::Delete { name, which } => {
                change::delete_snapshot(&Store::find(&which)?, &name).await
            }
        },
    }
}

fn filter(text: &str) -> Result<TopicFilter, Failure> {
    TopicFilter::new(text)
        .map_err(|error| Failure::input(format!("`{text}` is no filter: {error}")))
}

fn parse_from(text: &str) -> Result<Start, String> {
    match text.parse() {
        Ok(Start::New) | Err(_) => {
            Err("expected `earliest`, a time such as `2026-01-31T08:00:00Z`, or a number".into())
        }
        Ok(start) => Ok(start),
    }
}

fn parse_place(text: &str) -> Result<SeekTo, String> {
    if let Some(name) = text.strip_prefix("snapshot:") {
        return Ok(SeekTo::Snapshot(name.to_owned()));
    }
    let wrong = "expected `earliest`, `new`, a time such as `2026-01-31T08:00:00Z`, a number, or \
                 `snapshot:NAME`";
    text.parse().map(SeekTo::Start).map_err(|_| wrong.into())
}
