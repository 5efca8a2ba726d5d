//! Reading `start` and `retention`: what topics that remember understand.

use super::backend::BackendSection;
use super::section::{Item, Section};
use super::suggest::nearest;
use super::{Problem, units};
use crate::broker::{Retention, Start};
use std::time::Duration;
use toml::de::DeValue;

const AGE_MIN: Duration = Duration::from_secs(1);
/// A hundred years.
const AGE_MAX: Duration = Duration::from_secs(36_500 * 24 * 3600);
const EVENTS_MAX: u64 = 1_000_000_000_000;
const BYTES_MIN: u64 = 1 << 10;
/// 1 PiB.
const BYTES_MAX: u64 = 1 << 50;

/// What stands for no bound at all.
const ALL: &str = "all";

/// Where a subscription begins.
pub(super) fn start(section: &mut Section<'_>, backend: Option<&dyn BackendSection>) -> Start {
    let Some(item) = section.take("start") else { return Start::New };
    let Some(start) = read_start(section, &item) else { return Start::New };
    if start != Start::New
        && let Some(backend) = backend.filter(|backend| !backend.features().replay)
    {
        let so = "a subscription can only begin with what is \"new\"";
        section.report(&item.place, Problem::NoReplay { backend: backend.name(), so });
    }
    start
}

fn read_start(section: &Section<'_>, item: &Item<'_>) -> Option<Start> {
    const FORM: &str = "\"new\", \"earliest\", a time or a number";
    match item.value {
        DeValue::Integer(number) => {
            let number = i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(-1);
            let (min, max) = (1, i64::MAX.unsigned_abs());
            let number = u64::try_from(number).ok().filter(|number| (min..=max).contains(number));
            let place = item.place.clone();
            let number = section.in_range(place, number, min.to_string(), max.to_string())?;
            Some(Start::Number(number.value))
        }
        // Read as it is written: what follows is of RFC 3339 in both.
        DeValue::Datetime(_) => time(section, item, section.raw(&item.place.span)),
        DeValue::String(_) => {
            let text = section.text(item, FORM)?.value;
            match text.as_str() {
                "new" => Some(Start::New),
                "earliest" => Some(Start::Earliest),
                _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                    section.wrong_type(&item.place, item.value, FORM, Some(text));
                    None
                }
                _ if text.starts_with(|c: char| c.is_ascii_digit()) => time(section, item, &text),
                _ => {
                    let words = ["new", "earliest"];
                    let nearest = nearest(&text, words).map(|word| format!("\"{word}\""));
                    let mut allowed = words.map(|word| format!("\"{word}\"")).to_vec();
                    allowed.extend(["a time".to_owned(), "a number".to_owned()]);
                    section.not_allowed(&item.place, allowed, nearest);
                    None
                }
            }
        }
        other => {
            section.wrong_type(&item.place, other, FORM, None);
            None
        }
    }
}

fn time(section: &Section<'_>, item: &Item<'_>, text: &str) -> Option<Start> {
    let start = text.parse().ok();
    if start.is_none() {
        let reason = "a time has its date, its time and its offset, as in 2026-01-31T08:00:00Z";
        section.invalid(&item.place, reason);
    }
    start
}

/// What the topics of a binding keep.
pub(super) fn retention(
    section: &mut Section<'_>,
    backend: Option<&dyn BackendSection>,
) -> Option<Retention> {
    let place = section.place_of("retention");
    let retention = read_retention(section);
    if let Some(place) = place
        && let Some(backend) = backend.filter(|backend| !backend.features().replay)
    {
        let so = "there is nothing that could be kept";
        section.report(&place, Problem::NoReplay { backend: backend.name(), so });
    }
    retention
}

fn read_retention(section: &mut Section<'_>) -> Option<Retention> {
    if !section.peek_is_table("retention") {
        return read_short_retention(section);
    }
    let mut table = section.table("retention")?;
    let age = table.duration("age", AGE_MIN..=AGE_MAX);
    let events = table.integer("events", 1..=EVENTS_MAX);
    let bytes = table.size("bytes", BYTES_MIN..=BYTES_MAX);
    if !["age", "events", "bytes"].iter().any(|key| table.has(key)) {
        let (other, reason) = ("`age`, `events` or `bytes`", "retention = \"all\" has no bound");
        section.report(table.place(), Problem::Requires { other, reason });
    }
    table.finish(&|_| None);
    Some(Retention {
        age: age.map(|age| age.value),
        events: events.map(|events| events.value),
        bytes: bytes.and_then(|bytes| u64::try_from(bytes.value).ok()),
    })
}

/// An age alone, or no bound.
fn read_short_retention(section: &mut Section<'_>) -> Option<Retention> {
    const FORM: &str =
        "a duration such as \"7d\", \"all\", or a table with `age`, `events` and `bytes`";
    let item = section.take("retention")?;
    if !item.value.is_str() {
        section.wrong_type(&item.place, item.value, FORM, None);
        return None;
    }
    let text = section.text(&item, FORM)?.value;
    if text == ALL {
        return Some(Retention::default());
    }
    let Some(age) = units::duration(&text) else {
        section.invalid(&item.place, format!("expected {FORM}"));
        return None;
    };
    let (min, max) = (units::write_duration(AGE_MIN), units::write_duration(AGE_MAX));
    let age = Some(age).filter(|age| (AGE_MIN..=AGE_MAX).contains(age));
    let age = section.in_range(item.place, age, min, max)?;
    Some(Retention { age: Some(age.value), ..Retention::default() })
}
