//! What a queue has not handed out yet, and where the rest of it is.

use super::entry::Entry;
use crate::broker::{Qos, TopicFilter};
use crate::builtin::storage::{Fetch, Page, Which};
use std::collections::{HashMap, VecDeque};

/// The most events that are fetched at a time.
pub(super) const PAGE_EVENTS_MAX: usize = 512;
/// The most bytes that are fetched at a time.
pub(super) const PAGE_BYTES_MAX: usize = 1 << 20;
/// How many events are buffered of those that the storage has too.
pub(super) const BUFFERED_EVENTS_MAX: usize = 4096;
/// Likewise, in bytes.
pub(super) const BUFFERED_BYTES_MAX: usize = 4 << 20;

/// Events that were never handed out, in the order of their numbers: first those
/// that are here, then those that are only in the storage.
pub(super) struct Backlog {
    /// Whether the storage has all that is put in here.
    is_held: bool,
    /// Here and next.
    ready: VecDeque<Entry>,
    /// What `ready` has of events of qos 1 and 2, in bytes.
    ready_bytes: usize,
    /// What is to be fetched: it comes behind all that is ready.
    behind: Option<Behind>,
    /// Here, but some of what is behind comes before it.
    later: VecDeque<Entry>,
    /// Were open when the storage was opened, or a snapshot was made: to be
    /// fetched before everything else. With the next attempt of each.
    open: VecDeque<(u64, u32)>,
    /// Whether something is being fetched. A new round makes its reply void.
    fetching: bool,
    round: u64,
    /// Lower numbers have been fetched and are not put in a second time.
    fetched_to: u64,
    /// How many events are behind, as far as is known.
    behind_events: u64,
    /// The bytes of those of them that were seen here.
    behind_bytes: usize,
    /// Whether what is behind is fetched to be discarded, whoever is there.
    pub(super) is_draining: bool,
    /// How many came out of the storage since it began.
    fetched_events: u64,
}

/// A part of the sequence that is only in the storage.
#[derive(Clone, Copy, Debug)]
struct Behind {
    from: u64,
    /// `None`: as far as there is something.
    end: Option<u64>,
    /// The highest number that was left to be fetched.
    left: u64,
}

/// What a page brought.
pub(super) struct Fetched {
    /// Events that were open. They go before everything else.
    pub(super) open: Vec<Entry>,
    /// The numbers of open events that are not there any more.
    pub(super) lost: Vec<u64>,
    /// Nothing came, and there is something on its way to the storage.
    pub(super) is_early: bool,
}

impl Backlog {
    pub(super) fn new(is_held: bool) -> Self {
        Self {
            is_held,
            ready: VecDeque::new(),
            ready_bytes: 0,
            behind: None,
            later: VecDeque::new(),
            open: VecDeque::new(),
            fetching: false,
            round: 0,
            fetched_to: 0,
            behind_events: 0,
            behind_bytes: 0,
            is_draining: false,
            fetched_events: 0,
        }
    }

    /// Whether the storage has all that is put in here.
    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Begins at a number; `end` is the first that will be put in. What was there
    /// before is handed back.
    pub(super) fn begin(&mut self, from: u64, end: u64, open: Vec<(u64, u32)>) -> Vec<Entry> {
        let before = self.ready.drain(..).chain(self.later.drain(..)).collect();
        *self = Self { round: self.round + 1, ..Self::new(self.is_held) };
        self.open = open.into();
        if from < end {
            let left = end - 1;
            let end = (!self.is_held).then_some(end);
            self.behind = Some(Behind { from, end, left });
        }
        before
    }

    /// Puts an event in that was published just now. Without anybody to take it,
    /// it stays where it is, if it is anywhere else.
    pub(super) fn put(&mut self, entry: Entry, is_attended: bool) {
        if entry.qos == Qos::AtMostOnce {
            return self.ready.push_back(entry);
        }
        if entry.number < self.fetched_to {
            return;
        }
        let is_full = self.is_held && (!is_attended || self.is_full(entry.size));
        match &mut self.behind {
            Some(behind) if self.is_held => {
                behind.left = behind.left.max(entry.number);
                self.behind_events += 1;
                self.behind_bytes += entry.size;
            }
            Some(_) => insert_in_order(&mut self.later, entry),
            None if is_full => {
                let number = entry.number;
                self.behind = Some(Behind { from: number, end: None, left: number });
                self.behind_events = 1;
                self.behind_bytes = entry.size;
            }
            None => {
                self.ready_bytes += entry.size;
                insert_in_order(&mut self.ready, entry);
            }
        }
    }

    /// Keeps an event that is older than what is behind, or in its midst.
    pub(super) fn put_later(&mut self, entry: Entry) {
        match self.behind {
            Some(behind) if entry.number >= behind.from => insert_in_order(&mut self.later, entry),
            _ => {
                self.ready_bytes += entry.size;
                insert_in_order(&mut self.ready, entry);
            }
        }
    }

    fn is_full(&self, size: usize) -> bool {
        self.ready.len() >= BUFFERED_EVENTS_MAX
            || !self.ready.is_empty() && self.ready_bytes + size > BUFFERED_BYTES_MAX
    }

    pub(super) fn first(&self) -> Option<&Entry> {
        self.ready.front()
    }

    pub(super) fn last_number(&self) -> u64 {
        self.ready.back().map_or(0, |entry| entry.number)
    }

    pub(super) fn pop_first(&mut self) -> Option<Entry> {
        let entry = self.ready.pop_front()?;
        if entry.qos > Qos::AtMostOnce {
            self.ready_bytes -= entry.size;
        }
        Some(entry)
    }

    /// Takes out the oldest event of qos 1 and 2 that is here.
    pub(super) fn discard_first(&mut self) -> Option<Entry> {
        let stored = |entry: &Entry| entry.qos > Qos::AtMostOnce;
        if let Some(at) = self.ready.iter().position(stored) {
            let entry = self.ready.remove(at)?;
            self.ready_bytes -= entry.size;
            return Some(entry);
        }
        // What is behind is older than the rest.
        if self.behind.is_none() { self.later.pop_front() } else { None }
    }

    /// The bytes of the events that wait, as far as they are known.
    pub(super) fn bytes(&self) -> usize {
        self.ready_bytes + self.behind_bytes
    }

    /// The lowest number of qos 1 and 2 that was never handed out, where there is
    /// one.
    pub(super) fn next(&self) -> Option<u64> {
        let ready = self.ready.iter().find(|entry| entry.qos > Qos::AtMostOnce);
        ready.map(|entry| entry.number).or_else(|| self.fetches_from())
    }

    /// The lowest number that is only in the storage, where there is one. What is
    /// open is not counted.
    pub(super) fn fetches_from(&self) -> Option<u64> {
        self.behind.map(|behind| behind.from)
    }

    /// The open numbers that were not fetched yet.
    pub(super) fn unfetched(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.open.iter().copied()
    }

    /// How many events wait, as far as is known.
    pub(super) fn len(&self) -> usize {
        let behind = usize::try_from(self.behind_events).unwrap_or(usize::MAX);
        (self.ready.len() + self.later.len() + self.open.len()).saturating_add(behind)
    }

    /// Says how many events were behind when it began.
    pub(super) fn count_behind(&mut self, events: u64) {
        if self.behind.is_some() {
            self.behind_events = events.saturating_sub(self.fetched_events);
        }
    }

    /// All that is here and not handed out.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.ready.iter().chain(&self.later)
    }

    /// Takes out what is here and meant.
    pub(super) fn purge(&mut self, is_meant: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let mut out = Vec::new();
        for entries in [&mut self.ready, &mut self.later] {
            let (gone, stay): (VecDeque<_>, _) =
                std::mem::take(entries).into_iter().partition(|entry| is_meant(entry));
            *entries = stay;
            out.extend(gone);
        }
        let stored = self.ready.iter().filter(|entry| entry.qos > Qos::AtMostOnce);
        self.ready_bytes = stored.map(|entry| entry.size).sum();
        out
    }

    /// Keeps only what the storage does not have.
    pub(super) fn park(&mut self) {
        let Some(from) = self.next().filter(|_| self.is_held) else { return };
        let held = |entry: &Entry| entry.qos > Qos::AtMostOnce;
        let dropped = self.ready.iter().filter(|entry| held(entry));
        let (count, last) = dropped.fold((0, 0), |(n, _), entry| (n + 1, entry.number));
        if count == 0 {
            return;
        }
        // What was fetched at qos 0 is fetched again with the rest.
        self.ready.retain(|entry| !held(entry) && entry.is_counted);
        self.behind_bytes += std::mem::take(&mut self.ready_bytes);
        self.behind_events += count;
        self.fetched_events = self.fetched_events.saturating_sub(count);
        self.round += 1;
        self.fetching = false;
        self.fetched_to = 0;
        match &mut self.behind {
            Some(behind) => behind.from = from,
            None => self.behind = Some(Behind { from, end: None, left: last }),
        }
    }

    /// What to fetch now, if anything, and the number of the round.
    pub(super) fn fetch(&mut self, filter: &TopicFilter) -> Option<(Fetch, u64)> {
        if !self.wants_fetch() {
            return None;
        }
        let which = if self.open.is_empty() {
            let behind = self.behind?;
            Which::Range { filter: filter.clone(), from: behind.from, end: behind.end }
        } else {
            Which::Numbers(self.open.iter().take(PAGE_EVENTS_MAX).map(|(n, _)| *n).collect())
        };
        self.fetching = true;
        let fetch = Fetch { which, events_max: PAGE_EVENTS_MAX, bytes_max: PAGE_BYTES_MAX };
        Some((fetch, self.round))
    }

    /// Whether something waits to be fetched that nobody fetches yet.
    pub(super) fn wants_fetch(&self) -> bool {
        !self.fetching
            && (self.is_draining || self.ready.len() <= PAGE_EVENTS_MAX / 2)
            && (self.behind.is_some() || !self.open.is_empty())
    }

    /// The fetching of a round has failed.
    pub(super) fn fetch_failed(&mut self, round: u64) {
        if round == self.round {
            self.fetching = false;
        }
    }

    /// Takes a page in. `entry` makes an entry of what is wanted.
    pub(super) fn take_page(
        &mut self,
        round: u64,
        page: Page,
        entry: impl Fn(crate::builtin::storage::Stored) -> Option<Entry>,
    ) -> Option<Fetched> {
        if round != self.round || !self.fetching {
            return None;
        }
        self.fetching = false;
        if !self.open.is_empty() {
            return Some(self.take_open(page, entry));
        }
        let is_empty = page.events.is_empty();
        let fetched = page.events.len() as u64;
        self.behind_events = self.behind_events.saturating_sub(fetched);
        self.fetched_events += fetched;
        for stored in page.events {
            self.behind_bytes = self.behind_bytes.saturating_sub(stored.event.size());
            self.take_later(stored.number);
            if let Some(entry) = entry(stored) {
                self.push(entry);
            }
        }
        self.take_later(page.next);
        if let Some(behind) = &mut self.behind {
            behind.from = behind.from.max(page.next);
            let reached = match behind.end {
                Some(end) => page.is_last || behind.from >= end,
                None => page.is_last && page.next > behind.left,
            };
            if reached {
                self.fetched_to = behind.end.unwrap_or(page.next);
                self.behind = None;
                self.behind_events = 0;
                self.behind_bytes = 0;
                self.take_later(u64::MAX);
            }
        }
        let is_early = is_empty && page.is_last && self.behind.is_some();
        Some(Fetched { open: Vec::new(), lost: Vec::new(), is_early })
    }

    fn push(&mut self, entry: Entry) {
        // What was held here and is in the storage too comes once.
        if entry.qos > Qos::AtMostOnce
            && self.ready.iter().rev().take(1).any(|e| e.number == entry.number)
        {
            return;
        }
        if entry.qos > Qos::AtMostOnce {
            self.ready_bytes += entry.size;
        }
        self.ready.push_back(entry);
    }

    /// Moves what comes before a number, or is that number, to what is ready.
    fn take_later(&mut self, number: u64) {
        while self.later.front().is_some_and(|entry| entry.number <= number)
            && let Some(entry) = self.later.pop_front()
        {
            self.ready_bytes += entry.size;
            self.ready.push_back(entry);
        }
    }

    fn take_open(
        &mut self,
        page: Page,
        entry: impl Fn(crate::builtin::storage::Stored) -> Option<Entry>,
    ) -> Fetched {
        let mut found: HashMap<u64, _> =
            page.events.into_iter().map(|stored| (stored.number, stored)).collect();
        let mut fetched = Fetched { open: Vec::new(), lost: Vec::new(), is_early: false };
        // A page may end early, at its bound in bytes; what is missing up to its
        // end is lost.
        let asked = self.open.len().min(PAGE_EVENTS_MAX);
        for _ in 0..asked {
            if !page.is_last && self.open.front().is_some_and(|(number, _)| *number >= page.next) {
                break;
            }
            let Some((number, attempt)) = self.open.pop_front() else { break };
            match found.remove(&number).and_then(&entry) {
                Some(mut entry) => {
                    entry.attempt = attempt;
                    entry.kept.set(attempt);
                    fetched.open.push(entry);
                }
                None => fetched.lost.push(number),
            }
        }
        fetched
    }
}

/// Two publishers may come in another order than their numbers.
fn insert_in_order(entries: &mut VecDeque<Entry>, entry: Entry) {
    let later = |other: &&Entry| other.qos > Qos::AtMostOnce && other.number > entry.number;
    let later = entries.iter().rev().take_while(later).count();
    if later == 0 {
        entries.push_back(entry);
    } else {
        entries.insert(entries.len() - later, entry);
    }
}
