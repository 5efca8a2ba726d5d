//! What a test tells of each event, as soon as it is known.

use super::super::delivered::{Delivered, Outcome, Published};
use super::super::lines::{self, shown, shown_data};
use super::bench::Fed;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How much of a topic, of a reason and of data a row shows, in characters.
const TOPIC_CHARS_MAX: usize = 40;
const REASON_CHARS_MAX: usize = 100;
const DATA_CHARS_MAX: usize = 60;
/// How many publishes of one event are shown.
const PUBLISHED_SHOWN: usize = 20;
/// How wide the columns are whose width does not depend on the events.
const VERDICT_WIDTH: usize = "too-large".len();
const TOOK_WIDTH: usize = "10000.00 ms".len();

/// Writes the report to standard output.
pub(super) struct Report {
    json: bool,
    number_width: usize,
    topic_width: usize,
    counts: BTreeMap<String, usize>,
}

impl Report {
    /// Of these events.
    pub(super) fn begin(json: bool, events: &[Fed]) -> std::io::Result<Self> {
        let topics = events.iter().map(|fed| shown_topic(fed.topic.as_str()).chars().count());
        let report = Self {
            json,
            number_width: events.len().to_string().len(),
            topic_width: topics.max().unwrap_or(0).max("TOPIC".len()),
            counts: BTreeMap::new(),
        };
        if !json {
            report.write(&report.row("#", "TOPIC", "VERDICT", "TOOK", "REASON"))?;
        }
        Ok(report)
    }

    /// Tells of one event; `number` is its place among them, from 1.
    pub(super) fn add(&mut self, number: usize, delivered: &Delivered) -> std::io::Result<()> {
        *self.counts.entry(delivered.outcome.verdict.clone()).or_default() += 1;
        if self.json {
            let mut line = delivered.line();
            line.push(b'\n');
            return lines::print(&line);
        }
        let outcome = &delivered.outcome;
        let mut text = self.row(
            &number.to_string(),
            &shown_topic(delivered.topic.as_str()),
            &outcome.verdict,
            &format!("{:.2} ms", outcome.took_ms),
            &shown(outcome.reason.as_deref().unwrap_or_default(), REASON_CHARS_MAX),
        );
        for published in outcome.published.iter().take(PUBLISHED_SHOWN) {
            let _ =
                writeln!(text, "{:1$}  published {2}", "", self.number_width, describe(published));
        }
        let more = more(outcome);
        if more > 0 {
            let _ = writeln!(text, "{:1$}  and {more} more", "", self.number_width);
        }
        self.write(&text)
    }

    /// How many there were of each verdict.
    pub(super) fn summary(&self) -> String {
        let counts: Vec<_> = self.counts.iter().map(|(word, n)| format!("{n} {word}")).collect();
        let all: usize = self.counts.values().sum();
        let events = if all == 1 { "event" } else { "events" };
        format!("{all} {events}: {}", counts.join(", "))
    }

    /// Ends the report for people.
    pub(super) fn end(&self, more: &str) -> std::io::Result<()> {
        if self.json { Ok(()) } else { self.write(&format!("{}{more}\n", self.summary())) }
    }

    fn row(&self, number: &str, topic: &str, verdict: &str, took: &str, reason: &str) -> String {
        let (n, t) = (self.number_width, self.topic_width);
        let row = format!(
            "{number:>n$}  {topic:<t$}  {verdict:<VERDICT_WIDTH$}  {took:>TOOK_WIDTH$}  {reason}"
        );
        format!("{}\n", row.trim_end())
    }

    fn write(&self, text: &str) -> std::io::Result<()> {
        lines::print(text.as_bytes())
    }
}

fn shown_topic(topic: &str) -> String {
    shown(topic, TOPIC_CHARS_MAX)
}

fn more(outcome: &Outcome) -> u64 {
    outcome.published.len().saturating_sub(PUBLISHED_SHOWN) as u64 + outcome.published_more
}

/// A publish in a few words.
pub(super) fn describe(published: &Published) -> String {
    let topic = shown_topic(published.topic.as_str());
    let data = shown_data(&published.event.data, DATA_CHARS_MAX);
    match &published.error {
        None => format!("{topic}  {data}"),
        Some(error) => format!("{topic}  {data}  (failed: {})", shown(error, REASON_CHARS_MAX)),
    }
}
