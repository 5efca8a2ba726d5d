//! `wasi-pubsub dead`: what nobody could handle, at brokers that keep it.
//!
//! A running host has each broker keep its dead letters ([`keep`]). The commands
//! here bring them to this machine ([`collect`], [`spool`]), show them, and
//! publish them again ([`redrive`]).

mod collect;
mod keep;
mod letter;
mod places;
mod print;
mod redrive;
mod select;
mod spool;

pub(super) use keep::Keeping;

use super::failure::Failure;
use super::{ConfigArgs, files, lines};
use crate::broker::Topic;
use clap::{Args, Subcommand};
use letter::Letter;
use places::Place;
use spool::{Spool, Store};
use std::time::Duration;

/// List, show, redrive or drop dead letters
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub dead list                          what nobody could handle, and why
  wasi-pubsub dead show 3                        one of them whole
  wasi-pubsub dead redrive 3 4                   publish these again, where they came from
  wasi-pubsub dead redrive --all --to orders/retry
  wasi-pubsub dead drop 5
  wasi-pubsub dead list --original | wasi-pubsub test handler.wasm

A letter is named by its number in the list, or by its event's id.

While `wasi-pubsub run` runs, a session at the broker keeps what is published to
each `dead_letter` topic. `list` and the others move it to the state folder of
this user on this machine; what is there stays until it is redriven or dropped.
With pubsub.disk the host has to be stopped meanwhile.")]
pub(super) struct DeadArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    List(ListArgs),
    Show(ShowArgs),
    Redrive(RedriveArgs),
    Drop(DropArgs),
}

/// List dead letters: number, topic, attempts, id and reason
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub dead list
  wasi-pubsub dead list dead/orders --json
  wasi-pubsub dead list --original > failing.jsonl     input for `wasi-pubsub test`

Exit code 1: some may still be at the broker; what is here is listed.")]
struct ListArgs {
    /// The dead-letter topic [default: all that the configuration names]
    topic: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    /// As `--json`, with each event as it was before it became a letter
    #[arg(long, conflicts_with = "json")]
    original: bool,
    #[command(flatten)]
    from: From,
}

/// Print a dead letter whole
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub dead show 3
  wasi-pubsub dead show order-17 --json")]
struct ShowArgs {
    /// Its number in the list, or its event's id; `#3` is a number only
    letter: String,
    /// As a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    from: From,
}

/// Publish dead letters again, as the events that they were
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub dead redrive 3 order-17
  wasi-pubsub dead redrive --all
  wasi-pubsub dead redrive --all --to orders/retry

Each is published to the topic that it came from, with the id and source that it
had, at qos 1 or 2, and removed here once the broker has it. Exit code 1: some
could not be published; they stay.")]
struct RedriveArgs {
    #[command(flatten)]
    which: Which,
    /// Publish to this topic of the same broker
    #[arg(long, value_name = "TOPIC")]
    to: Option<String>,
    /// How long to wait for the broker, for each letter
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = super::tool::parse_seconds)]
    timeout: Duration,
    #[command(flatten)]
    from: From,
}

/// Remove dead letters for good
#[derive(Args)]
#[command(after_help = "\
Examples:
  wasi-pubsub dead drop 3
  wasi-pubsub dead drop --all")]
struct DropArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    from: From,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
struct Which {
    /// Numbers in the list, or ids of events; `#3` is a number only
    #[arg(value_name = "ID", conflicts_with = "all")]
    letters: Vec<String>,
    /// All that the configuration's brokers have
    #[arg(long)]
    all: bool,
}

#[derive(Args)]
struct From {
    /// How long the broker may send nothing before that was all
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = super::tool::parse_seconds)]
    wait: Duration,
    #[command(flatten)]
    config: ConfigArgs,
}

/// A letter that stays, and why.
struct Failed {
    number: u64,
    reason: String,
}

pub(super) async fn dead(args: DeadArgs) -> Result<(), Failure> {
    match args.command {
        Command::List(args) => list(args).await,
        Command::Show(args) => show(args).await,
        Command::Redrive(args) => redrive_letters(args).await,
        Command::Drop(args) => drop_letters(args).await,
    }
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let mut boxes = Boxes::open(&args.from, args.topic.as_deref())?;
    let collected = boxes.collect(args.from.wait).await;
    let letters = boxes.letters();
    if args.json || args.original {
        for letter in &letters {
            lines::print(&print::json(letter, args.original))?;
        }
    } else if !letters.is_empty() {
        lines::print(print::table(&letters).as_bytes())?;
    } else if collected.is_ok() {
        tracing::info!("there are no dead letters");
    }
    boxes.close()?;
    collected
}

async fn show(args: ShowArgs) -> Result<(), Failure> {
    let mut boxes = Boxes::open(&args.from, None)?;
    let numbers = boxes.find(std::slice::from_ref(&args.letter), args.from.wait).await?;
    for letter in boxes.letters().iter().filter(|letter| numbers.contains(&letter.number)) {
        if args.json {
            lines::print(&print::json(letter, false))?;
        } else {
            lines::print(print::whole(letter).as_bytes())?;
        }
    }
    boxes.close()
}

async fn redrive_letters(args: RedriveArgs) -> Result<(), Failure> {
    let to = args.to.as_deref().map(Topic::new).transpose();
    let to = to.map_err(|error| Failure::input(format!("--to is no topic: {error}")))?;
    let mut boxes = Boxes::open(&args.from, None)?;
    let (numbers, collected) = boxes.chosen(&args.which, args.from.wait).await?;
    let failed = redrive::redrive(&mut boxes, &numbers, to.as_ref(), args.timeout).await?;
    for Failed { number, reason } in &failed {
        tracing::error!("{number} was not redriven: {reason}");
    }
    boxes.close()?;
    if failed.is_empty() {
        return collected;
    }
    let done = numbers.len() - failed.len();
    Err(Failure::run(format!("{done} redriven; {} stay as they were", failed.len())))
}

async fn drop_letters(args: DropArgs) -> Result<(), Failure> {
    let mut boxes = Boxes::open(&args.from, None)?;
    let (numbers, collected) = boxes.chosen(&args.which, args.from.wait).await?;
    for (_, spool) in boxes.each() {
        let own: Vec<u64> =
            spool.letters().map(|l| l.number).filter(|number| numbers.contains(number)).collect();
        if !own.is_empty() {
            spool.remove(&own)?;
        }
        for number in own {
            lines::print(format!("dropped {number}\n").as_bytes())?;
        }
    }
    boxes.close()?;
    collected
}

/// The spools of all places that the configuration names.
struct Boxes {
    store: Store,
    boxes: Vec<(Place, Spool)>,
}

impl Boxes {
    fn open(from: &From, topic: Option<&str>) -> Result<Self, Failure> {
        let places = places::find(&from.config, topic)?;
        let folder = files::state_folder().ok_or_else(|| {
            Failure::run("this user has no home folder, in which dead letters could be kept")
        })?;
        let store = Store::open(folder.join("dead"))?;
        let open = |place: Place| store.spool(&place).map(|spool| (place, spool));
        let boxes = places.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { store, boxes })
    }

    /// Moves what the brokers have to this machine.
    async fn collect(&mut self, wait: Duration) -> Result<(), Failure> {
        let store = &self.store;
        let collect = async |place: &Place, spool: &mut Spool| {
            let collected = collect::collect(store, spool, place, wait).await;
            collected.map_err(|reason| format!("dead letters of `{}`: {reason}", place.topic))
        };
        let (shared, alone): (Vec<_>, Vec<_>) =
            self.boxes.iter_mut().partition(|(place, _)| place.is_shared());
        let shared = shared.into_iter().map(|(place, spool)| collect(place, spool));
        let mut all = futures_util::future::join_all(shared).await;
        // A store that one process has at a time is opened once for each topic.
        for (place, spool) in alone {
            all.push(collect(place, spool).await);
        }
        let failed: Vec<String> = all.into_iter().filter_map(Result::err).collect();
        if failed.is_empty() { Ok(()) } else { Err(Failure::run(failed.join("\n  "))) }
    }

    /// All letters, in the order in which they came.
    fn letters(&self) -> Vec<&Letter> {
        let mut letters: Vec<_> = self.boxes.iter().flat_map(|(_, s)| s.letters()).collect();
        letters.sort_by_key(|letter| letter.number);
        letters
    }

    fn each(&mut self) -> impl Iterator<Item = (&Place, &mut Spool)> {
        self.boxes.iter_mut().map(|(place, spool)| (&*place, spool))
    }

    /// The numbers of letters that are named. What is not here is asked for at
    /// the broker.
    async fn find(&mut self, wanted: &[String], wait: Duration) -> Result<Vec<u64>, Failure> {
        if let Ok(numbers) = select::select(&self.letters(), wanted) {
            return Ok(numbers);
        }
        let collected = self.collect(wait).await;
        select::select(&self.letters(), wanted).map_err(|error| collected.err().unwrap_or(error))
    }

    /// The numbers of all letters or of those that are named, and whether that
    /// was all that there is.
    async fn chosen(
        &mut self,
        which: &Which,
        wait: Duration,
    ) -> Result<(Vec<u64>, Result<(), Failure>), Failure> {
        if !which.all {
            return Ok((self.find(&which.letters, wait).await?, Ok(())));
        }
        let collected = self.collect(wait).await;
        Ok((self.letters().iter().map(|letter| letter.number).collect(), collected))
    }

    fn close(self) -> Result<(), Failure> {
        for (place, spool) in self.boxes {
            spool.close().map_err(|error| {
                Failure::run(format!("dead letters of `{}`: {error}", place.topic))
            })?;
        }
        Ok(())
    }
}
