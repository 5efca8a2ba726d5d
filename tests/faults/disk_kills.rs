//! pubsub.disk in a process that is killed, again and again, in the middle of its work.
//!
//! Each publisher counts its events from 1, and goes on after a kill with what it has
//! not seen confirmed. So what is lost, what comes back and what is out of order shows
//! in the numbers.

use crate::disk::all_of;
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::DEADLINE;
use wasi_pubsub::backends::disk::{self, DiskStorage};

/// How many kills with unconfirmed publishes under way there are.
const KILLS: usize = 200;
const PUBLISHERS: u64 = 16;
/// After how many confirmations of one life it is killed, at the most.
const CONFIRMED_MAX: usize = 60;
/// And how long after that, at the most: the time of some commits.
const DELAY_MICROS_MAX: u64 = 6000;
/// One life in so many ends while the store is opened.
const OPENINGS: u32 = 10;
const OPENING_MICROS_MAX: u64 = 30_000;

/// A process of `disk_victim.rs`, with the lines that it writes.
struct Victim {
    child: Child,
    lines: Receiver<String>,
}

impl Victim {
    fn start(store: &Path, args: impl Iterator<Item = String>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_disk-victim"));
        command.arg(store).args(args).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    /// The next line; `None`: it has ended.
    fn line(&mut self) -> Option<String> {
        use std::sync::mpsc::RecvTimeoutError::{Disconnected, Timeout};
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(Disconnected) => None,
            Err(Timeout) => panic!("nothing was heard from the process within {DEADLINE:?}"),
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Both fail where it has ended.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

#[derive(Clone, Copy, Default)]
struct Publisher {
    /// The number that was published last.
    begun: u64,
    /// The number that was confirmed last.
    confirmed: u64,
    /// The number that was last in the file, of those that keep.
    stored: u64,
}

/// All that was said, over all lives.
#[derive(Default)]
struct Ledger {
    words: String,
    publishers: Vec<Publisher>,
    confirmed: HashSet<String>,
    /// By subscription and event.
    taken: HashMap<(String, String), u32>,
    acknowledged: HashSet<(String, String)>,
    /// The highest number of each subscription and publisher so far.
    reached: HashMap<(String, u64), u64>,
    /// Likewise, the last one in this life.
    last_taken: HashMap<(String, u64), u64>,
    /// Everything in the file up to here was looked at.
    looked_at: u64,
    totals: Totals,
}

/// What shows that the kills hit something.
#[derive(Debug, Default)]
struct Totals {
    kills: usize,
    kills_while_opening: usize,
    unconfirmed: usize,
    unconfirmed_and_stored: usize,
    unconfirmed_and_not_stored: usize,
    redelivered: usize,
    acknowledged_at_qos_2: usize,
    confirmed: usize,
}

/// Publisher and number of an event: `PUBLISHER NUMBER LIFE`.
fn parse(id: &str) -> (u64, u64) {
    let mut words = id.split(' ').map(|word| word.parse().unwrap());
    (words.next().unwrap(), words.next().unwrap())
}

impl Ledger {
    fn note(&mut self, line: &str) {
        let words = &self.words;
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "publish" => {
                let (publisher, number) = parse(rest);
                let publisher = &mut self.publishers[publisher as usize];
                assert_eq!(number, publisher.confirmed + 1, "{words}: {line}");
                publisher.begun = number;
            }
            "confirmed" => {
                let (publisher, number) = parse(rest);
                self.publishers[publisher as usize].confirmed = number;
                self.confirmed.insert(rest.to_owned());
                self.totals.confirmed += 1;
            }
            "taken" => self.note_taken(rest),
            "acknowledged" => {
                let (subscription, id) = rest.split_once(' ').unwrap();
                self.acknowledged.insert((subscription.to_owned(), id.to_owned()));
                self.totals.acknowledged_at_qos_2 += 1;
            }
            "ready" | "drained" => {}
            _ => panic!("{words}: {line}"),
        }
    }

    fn note_taken(&mut self, rest: &str) {
        let words = format!("{}: {rest}", self.words);
        let (subscription, id) = rest.split_once(' ').unwrap();
        let (publisher, number) = parse(id);
        assert!(number <= self.publishers[publisher as usize].begun, "{words}: never published");
        let key = (subscription.to_owned(), id.to_owned());
        assert!(!self.acknowledged.contains(&key), "{words}: came back at qos 2");
        let count = self.taken.entry(key).or_insert(0);
        *count += 1;
        self.totals.redelivered += usize::from(*count == 2);
        if subscription == "shared" {
            // Several take from it: their lines have no order.
            return;
        }
        let key = (subscription.to_owned(), publisher);
        let reached = self.reached.entry(key.clone()).or_insert(0);
        assert!(number <= *reached + 1, "{words}: after {reached}, so that one is lost");
        *reached = number.max(*reached);
        let last = self.last_taken.entry(key).or_insert(0);
        // At qos 1 what was published again is there twice.
        let is_next = number > *last || publisher % 2 == 1 && number == *last;
        assert!(is_next, "{words}: after {last}, which is out of order");
        *last = number;
    }

    /// Notes a life that has ended. Returns how many publishes were under way.
    fn end_life(&mut self) -> usize {
        self.last_taken.clear();
        let is_waiting = |publisher: &&Publisher| publisher.begun > publisher.confirmed;
        let waiting = self.publishers.iter().filter(is_waiting).count();
        self.totals.unconfirmed += waiting;
        waiting
    }

    /// Looks at the file: whether it is whole, and whether it has what is kept.
    async fn look(&mut self, store: &Path) {
        let words = &self.words;
        let findings = disk::check(store).unwrap_or_else(|error| panic!("{words}: {error}"));
        assert!(findings.is_empty(), "{words}: {findings:#?}");
        let storage = DiskStorage::open_read_only(store).unwrap();
        for stored in all_of(&storage, "kept/#", self.looked_at + 1).await {
            let (publisher, number) = parse(&stored.event.id);
            let known = &mut self.publishers[publisher as usize];
            let is_again = publisher % 2 == 1 && number == known.stored;
            assert!(
                number == known.stored + 1 || is_again,
                "{words}: publisher {publisher} has {number} after {} in the file",
                known.stored
            );
            known.stored = number;
            self.looked_at = stored.number;
        }
        for (number, publisher) in self.publishers.iter().enumerate() {
            if number % 4 >= 2 {
                continue;
            }
            let Publisher { begun, confirmed, stored } = *publisher;
            assert!(stored >= confirmed, "{words}: publisher {number} has lost {confirmed}");
            assert!(stored <= begun, "{words}: publisher {number} has {stored} of {begun}");
            self.totals.unconfirmed_and_stored += usize::from(stored > confirmed);
            self.totals.unconfirmed_and_not_stored += usize::from(begun > stored);
        }
    }

    /// Everything that was confirmed has come to every subscription.
    fn assert_nothing_lost(&self) {
        for subscription in ["exact", "least", "shared"] {
            let has_come =
                |id: &&String| self.taken.contains_key(&(subscription.to_owned(), (*id).clone()));
            let lost: Vec<_> = self.confirmed.iter().filter(|id| !has_come(id)).collect();
            assert!(lost.is_empty(), "{}: `{subscription}` has not got {lost:?}", self.words);
        }
    }
}

/// One life, up to its end by a kill. Returns whether publishes were under way.
async fn kill_once(store: &Path, ledger: &mut Ledger, random: &mut fastrand::Rng) -> bool {
    let seed = random.u64(1..1 << 48).to_string();
    let next = ledger.publishers.iter().map(|one| (one.confirmed + 1).to_string());
    let mut victim = Victim::start(store, std::iter::once(seed).chain(next));
    if random.u32(..OPENINGS) == 0 {
        // Which moment it is does not matter.
        thread::sleep(Duration::from_micros(random.u64(..OPENING_MICROS_MAX)));
        ledger.totals.kills_while_opening += 1;
    } else {
        let mut wanted = random.usize(1..=CONFIRMED_MAX);
        while wanted > 0 {
            let line = victim.line().expect("it runs until it is killed");
            wanted -= usize::from(line.starts_with("confirmed"));
            ledger.note(&line);
        }
        thread::sleep(Duration::from_micros(random.u64(..DELAY_MICROS_MAX)));
    }
    victim.kill();
    while let Some(line) = victim.line() {
        ledger.note(&line);
    }
    ledger.end_life() > 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::print_stderr, reason = "its figures, for who runs it by hand")]
async fn a_process_that_is_killed_loses_nothing_and_repeats_nothing() {
    let folder = TempDir::new().unwrap();
    let store = folder.path().join("events.db");
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let begun = Instant::now();
    let publishers = vec![Publisher::default(); PUBLISHERS as usize];
    let mut ledger = Ledger { publishers, ..Ledger::default() };
    while ledger.totals.kills < KILLS {
        ledger.words = format!("seed {seed}, after {} kills", ledger.totals.kills);
        let is_hit = kill_once(&store, &mut ledger, &mut random).await;
        ledger.totals.kills += usize::from(is_hit);
        // Otherwise whoever opens it next is the first to see it as it is.
        if store.exists() && is_hit && random.u32(..4) > 0 {
            ledger.look(&store).await;
        }
    }
    let mut victim = Victim::start(&store, std::iter::once("drain".to_owned()));
    while let Some(line) = victim.line() {
        ledger.note(&line);
    }
    assert!(victim.child.wait().unwrap().success(), "{}", ledger.words);
    ledger.look(&store).await;
    ledger.assert_nothing_lost();
    let topics = DiskStorage::open_read_only(&store).unwrap();
    assert!(all_of(&topics, "passing/#", 1).await.is_empty(), "what all have is deleted");
    let totals = &ledger.totals;
    eprintln!("seed {seed}, {:?}: {totals:?}", begun.elapsed());
    assert!(totals.kills >= KILLS && totals.unconfirmed >= KILLS, "{totals:?}");
    let hits = [
        totals.kills_while_opening,
        totals.unconfirmed_and_stored,
        totals.unconfirmed_and_not_stored,
        totals.redelivered,
        totals.acknowledged_at_qos_2,
    ];
    assert!(hits.iter().all(|hit| *hit > 0), "it was killed at every kind of moment: {totals:?}");
}
