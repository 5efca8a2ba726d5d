//! What became of deliveries: observed while components run, written as lines
//! and read again. Recordings and tests are made of it.

use super::failure::Failure;
use super::lines::{self, Data, Line};
use crate::broker::cloudevents::append_text;
use crate::broker::{BrokerError, Event, Lease, Topic, Verdict};
use crate::runtime::{Cause, Ended, Handling, Observer, Publishing};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;

/// The most publishes of one handling that are kept, and their size in bytes;
/// the others are counted.
const PUBLISHED_MAX: usize = 1_000;
const PUBLISHED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One delivery, and what became of it.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) topic: Topic,
    pub(super) event: Arc<Event>,
    pub(super) attempt: u32,
    pub(super) outcome: Outcome,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    /// The component that handled it.
    pub(super) component: String,
    /// `ack`, `retry`, `reject`, `trap`, `timeout` or `too-large`.
    pub(super) verdict: String,
    /// When the handler wants it again, in milliseconds.
    pub(super) after_ms: Option<u64>,
    /// Why it was no ack.
    pub(super) reason: Option<String>,
    pub(super) published: Vec<Published>,
    /// How many more were published than are in the list.
    pub(super) published_more: u64,
    /// How long the call took, in milliseconds.
    pub(super) took_ms: f64,
}

/// One event that a handler published.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Published {
    pub(super) topic: Topic,
    pub(super) event: Event,
    /// Why the broker did not take it.
    pub(super) error: Option<String>,
}

impl Delivered {
    /// As a line, without its end.
    pub(super) fn line(&self) -> Vec<u8> {
        let attempt = self.attempt.to_string().into_bytes();
        let own = [("attempt", attempt), ("outcome", self.outcome.json())];
        lines::write(self.topic.as_str(), &self.event, &own, Data::Exact)
    }
}

impl Outcome {
    fn json(&self) -> Vec<u8> {
        let mut out = b"{\"component\":".to_vec();
        append_text(&mut out, &self.component);
        out.extend(b",\"verdict\":");
        append_text(&mut out, &self.verdict);
        if let Some(after) = self.after_ms {
            out.extend(format!(",\"after_ms\":{after}").bytes());
        }
        if let Some(reason) = &self.reason {
            out.extend(b",\"reason\":");
            append_text(&mut out, reason);
        }
        out.extend(b",\"published\":[");
        for (index, published) in self.published.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend(published.line());
        }
        out.push(b']');
        if self.published_more > 0 {
            out.extend(format!(",\"published_more\":{}", self.published_more).bytes());
        }
        out.extend(format!(",\"took_ms\":{:.3}}}", self.took_ms).bytes());
        out
    }

    /// Reads what [`Delivered::line`] has written.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn read(json: &str) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Read<'a> {
            #[serde(default)]
            component: String,
            verdict: String,
            after_ms: Option<u64>,
            reason: Option<String>,
            #[serde(borrow, default)]
            published: Vec<&'a RawValue>,
            #[serde(default)]
            published_more: u64,
            #[serde(default)]
            took_ms: f64,
        }
        let read: Read<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let published =
            read.published.iter().map(|line| Published::read(line)).collect::<Result<_, _>>()?;
        Ok(Self {
            component: read.component,
            verdict: read.verdict,
            after_ms: read.after_ms,
            reason: read.reason,
            published,
            published_more: read.published_more,
            took_ms: read.took_ms,
        })
    }

    /// Whether the handler said what is to become of the event.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self.verdict.as_str(), "ack" | "retry" | "reject")
    }
}

impl Published {
    fn line(&self) -> Vec<u8> {
        let error = self.error.as_deref().map(|error| {
            let mut json = Vec::new();
            append_text(&mut json, error);
            ("error", json)
        });
        lines::write(self.topic.as_str(), &self.event, error.as_slice(), Data::Exact)
    }

    fn read(line: &RawValue) -> Result<Self, String> {
        let Line { topic, event, error, .. } =
            lines::read(line.get().as_bytes()).map_err(|fault| format!("published: {fault}"))?;
        let topic = topic.ok_or("what was published has no `topic`")?;
        Ok(Self { topic, event, error })
    }
}

/// Reads the outcome of a line that has one. `name` and `number` are the input
/// and the line.
pub(super) fn outcome(line: &Line, name: &str, number: usize) -> Result<Option<Outcome>, Failure> {
    let Some(json) = &line.outcome else { return Ok(None) };
    let outcome = Outcome::read(json);
    outcome.map(Some).map_err(|reason| {
        Failure::input(format!(
            "{name}:{number}: `outcome` is none that `--json` or `--record` has written: {reason}"
        ))
    })
}

/// Tells of each delivery that a handler has come to the end of.
pub(super) struct Deliveries<F>(pub(super) Arc<F>);

impl<F: Fn(Delivered) + Send + Sync + 'static> Observer for Deliveries<F> {
    fn handling(&self, component: &str, lease: &Lease) -> Option<Arc<dyn Handling>> {
        Some(Arc::new(Underway {
            tell: Arc::clone(&self.0),
            component: component.to_owned(),
            topic: lease.topic().clone(),
            event: Arc::clone(lease.event()),
            attempt: lease.attempt(),
            published: Arc::default(),
        }))
    }

    fn publishing(&self, _: &str, _: &Topic, _: &mut Event) -> Option<Box<dyn Publishing>> {
        None
    }
}

struct Underway<F> {
    tell: Arc<F>,
    component: String,
    topic: Topic,
    event: Arc<Event>,
    attempt: u32,
    published: Arc<Mutex<Publishes>>,
}

#[derive(Default)]
struct Publishes {
    list: Vec<Published>,
    bytes: usize,
    more: u64,
}

/// One publish of the list.
struct Entry {
    published: Arc<Mutex<Publishes>>,
    index: usize,
}

impl<F: Fn(Delivered) + Send + Sync + 'static> Handling for Underway<F> {
    fn publishing(&self, topic: &Topic, event: &mut Event) -> Option<Box<dyn Publishing>> {
        let mut published = self.published.lock();
        published.bytes += event.size();
        if published.list.len() == PUBLISHED_MAX || published.bytes > PUBLISHED_BYTES_MAX {
            published.more += 1;
            return None;
        }
        let error = Some("the call ended before the broker had it".to_owned());
        published.list.push(Published { topic: topic.clone(), event: event.clone(), error });
        let index = published.list.len() - 1;
        Some(Box::new(Entry { published: Arc::clone(&self.published), index }))
    }

    fn ended(&self, ended: &Ended<'_>) {
        // Without a verdict the event is handled again, alone.
        let Some(verdict) = ended.verdict else { return };
        let published = std::mem::take(&mut *self.published.lock());
        let (after, reason) = match verdict {
            Verdict::Ack => (None, None),
            Verdict::Retry { after, reason } => (*after, Some(reason.clone())),
            Verdict::Reject { reason } => (None, Some(reason.clone())),
        };
        (self.tell)(Delivered {
            topic: self.topic.clone(),
            event: Arc::clone(&self.event),
            attempt: self.attempt,
            outcome: Outcome {
                component: self.component.clone(),
                verdict: word(verdict, ended.cause).to_owned(),
                after_ms: after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
                reason,
                published: published.list,
                published_more: published.more,
                took_ms: milliseconds(ended.took),
            },
        });
    }
}

impl Publishing for Entry {
    fn ended(self: Box<Self>, result: Result<(), &BrokerError>) {
        // The list is gone where the call has ended meanwhile.
        if let Some(published) = self.published.lock().list.get_mut(self.index) {
            published.error = result.err().map(ToString::to_string);
        }
    }
}

fn word(verdict: &Verdict, cause: Cause) -> &'static str {
    match (cause, verdict) {
        (Cause::Trapped, _) => "trap",
        (Cause::TimedOut, _) => "timeout",
        (Cause::TooLarge, _) => "too-large",
        (Cause::Returned, Verdict::Ack) => "ack",
        (Cause::Returned, Verdict::Retry { .. }) => "retry",
        (Cause::Returned, Verdict::Reject { .. }) => "reject",
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(topic: &str, error: Option<&str>) -> Published {
        Published {
            topic: Topic::new(topic).unwrap(),
            event: Event { id: "p".into(), data: "\"x\"".into(), ..Event::default() },
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let outcome = Outcome {
            component: "c".into(),
            verdict: "retry".into(),
            after_ms: Some(300),
            reason: Some("not \"yet\"\n".into()),
            published: vec![published("a/b", None), published("c", Some("denied"))],
            published_more: 2,
            took_ms: 1.5,
        };
        let event = Event { id: "1".into(), data: "x".into(), ..Event::default() };
        let delivered = Delivered {
            topic: Topic::new("t").unwrap(),
            event: event.clone().into(),
            attempt: 3,
            outcome: outcome.clone(),
        };
        let line = lines::read(&delivered.line()).err();
        assert!(line.is_some_and(|fault| fault.to_string().contains("`source` is missing")));
        let event = Event { source: "s".into(), kind: "k".into(), ..event };
        let published =
            |p: Published| Published { event: Event { id: "p".into(), ..event.clone() }, ..p };
        let outcome = Outcome {
            published: outcome.published.into_iter().map(published).collect(),
            ..outcome
        };
        let delivered = Delivered { event: event.clone().into(), outcome, ..delivered };
        let line = lines::read(&delivered.line()).unwrap();
        assert_eq!((&line.event, line.attempt), (&event, Some(3)));
        let read = super::outcome(&line, "in", 1).unwrap().unwrap();
        assert_eq!(read, delivered.outcome);
    }

    #[test]
    fn what_is_no_outcome_is_said() {
        for (json, part) in [
            ("{}", "missing field `verdict`"),
            (r#"{"verdict":"ack","published":[{}]}"#, "has no `topic`"),
            (r#"{"verdict":"ack","published":[{"topic":7}]}"#, "`topic` is not a string"),
        ] {
            let error = Outcome::read(json).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
