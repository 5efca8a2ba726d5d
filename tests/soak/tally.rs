//! How often each event was handled, at each qos.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// The components that handle events, and the qos of their subscriptions.
pub(crate) const HANDLERS: [(&str, u8); 2] = [("once-or-more", 1), ("once", 2)];

/// Counts what the components write.
pub(crate) struct Tally {
    counts: [Vec<AtomicU8>; HANDLERS.len()],
    /// Different events handled, for each handler.
    handled: [AtomicUsize; HANDLERS.len()],
    published: AtomicUsize,
}

impl Tally {
    pub(crate) fn new(events: usize) -> Self {
        let counts = || (0..events).map(|_| AtomicU8::new(0)).collect();
        Self { counts: [counts(), counts()], handled: Default::default(), published: 0.into() }
    }

    /// A line of the host's output.
    pub(crate) fn read(&self, line: &str) {
        let Some((name, text)) = line.split_once(" | ") else { return };
        let handler = HANDLERS.iter().position(|(handler, _)| *handler == name);
        let count = handler.zip(text.trim().parse::<usize>().ok());
        let Some((handler, number)) = count else { return };
        let Some(count) = self.counts[handler].get(number) else { return };
        // Only the one thread that reads the host's output adds to it.
        let before = count.load(Ordering::Relaxed);
        count.store(before.saturating_add(1), Ordering::Relaxed);
        if before == 0 {
            self.handled[handler].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The broker has confirmed an event.
    pub(crate) fn published(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    /// How many events all handlers have had.
    pub(crate) fn handled(&self) -> usize {
        self.handled.iter().map(|handled| handled.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.handled() == HANDLERS.len() * self.counts[0].len()
    }

    /// How many of the events that the broker has confirmed the slower handler has
    /// not had.
    pub(crate) fn behind(&self) -> usize {
        let slower = self.handled.iter().map(|handled| handled.load(Ordering::Relaxed)).min();
        self.published.load(Ordering::Relaxed).saturating_sub(slower.unwrap_or_default())
    }

    /// The events that one handler had not once: those that it never had, and
    /// those that it had more often.
    pub(crate) fn not_once(&self, handler: usize) -> (Vec<usize>, Vec<usize>) {
        let counts = self.counts[handler].iter().map(|count| count.load(Ordering::Relaxed));
        let counts: Vec<_> = counts.enumerate().filter(|(_, count)| *count != 1).collect();
        let (lost, twice): (Vec<_>, Vec<_>) =
            counts.into_iter().partition(|(_, count)| *count == 0);
        let numbers = |counts: Vec<(usize, u8)>| counts.into_iter().map(|(n, _)| n).collect();
        (numbers(lost), numbers(twice))
    }

    pub(crate) fn progress(&self) -> String {
        let published = self.published.load(Ordering::Relaxed);
        let handled = self.handled.iter().zip(HANDLERS);
        let handled = handled.map(|(handled, (_, qos))| {
            format!("{} handled at qos {qos}", handled.load(Ordering::Relaxed))
        });
        format!("{published} published, {}", handled.collect::<Vec<_>>().join(", "))
    }
}
