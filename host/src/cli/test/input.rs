//! The events of a test, from standard input or files.

use super::super::delivered::{self, Outcome};
use super::super::failure::Failure;
use super::super::lines::{self, Line};
use super::bench::Fed;
use crate::broker::Topic;
use std::collections::BTreeSet;
use std::io::{BufReader, IsTerminal};
use std::path::{Path, PathBuf};

/// What is filled in where a line does not say it.
const SOURCE: &str = "/wasi-pubsub/test";
const KIND: &str = "wasi-pubsub.test";

/// One line of an input.
pub(super) struct Entry {
    /// The input and the line, as `FILE:LINE`.
    pub(super) place: String,
    pub(super) fed: Fed,
    /// What became of it, where the line says so.
    pub(super) outcome: Option<Outcome>,
}

/// The lines of files, or of standard input where none is named. `-` is standard
/// input.
///
/// # Errors
/// A line is wrong, or there is no input.
pub(super) fn read(files: &[PathBuf], topic: Option<&Topic>) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for file in files {
        entries.extend(read_one(file, topic, entries.len())?);
    }
    Ok(entries)
}

/// Whether events come from standard input, and not from a person's keyboard.
pub(super) fn is_piped() -> bool {
    !std::io::stdin().is_terminal()
}

fn read_one(path: &Path, topic: Option<&Topic>, before: usize) -> Result<Vec<Entry>, Failure> {
    let (name, lines) = if path == Path::new("-") {
        let name = "standard input".to_owned();
        let lines = lines::read_all(&name, std::io::stdin().lock())?;
        (name, lines)
    } else {
        let name = path.display().to_string();
        let file = std::fs::File::open(path);
        let file = file.map_err(|error| Failure::input(format!("{name}: {error}")))?;
        let lines = lines::read_all(&name, BufReader::new(file))?;
        (name, lines)
    };
    let numbered = lines.into_iter().zip(before + 1..);
    numbered.map(|((line, read), number)| entry(&name, line, read, number, topic)).collect()
}

/// What is filled in is the same each time.
fn entry(
    name: &str,
    number: usize,
    line: Line,
    count: usize,
    topic: Option<&Topic>,
) -> Result<Entry, Failure> {
    let place = format!("{name}:{number}");
    let outcome = delivered::outcome(&line, name, number)?;
    let Some(topic) = line.topic.or_else(|| topic.cloned()) else {
        return Err(Failure::input(format!(
            "{place}: there is no `topic`\n  help: write it into the line, or name one for all with \
             --topic"
        )));
    };
    let mut event = line.event;
    if event.id.is_empty() {
        event.id = count.to_string();
    }
    if event.source.is_empty() {
        event.source.push_str(SOURCE);
    }
    if event.kind.is_empty() {
        event.kind.push_str(KIND);
    }
    let fed = Fed { topic, event: event.into(), attempt: line.attempt.unwrap_or(1) };
    Ok(Entry { place, fed, outcome })
}

/// Leaves out what was recorded of other components. A recording of one
/// component alone is for any.
///
/// # Errors
/// It was recorded of several components, and none has the name.
pub(super) fn keep_own(entries: &mut Vec<Entry>, component: &str) -> Result<(), Failure> {
    let of = |entry: &Entry| entry.outcome.as_ref().map(|outcome| outcome.component.clone());
    let recorded: BTreeSet<String> = entries.iter().filter_map(of).collect();
    if recorded.len() < 2 {
        return Ok(());
    }
    if !recorded.contains(component) {
        let names: Vec<_> = recorded.iter().map(|name| format!("`{name}`")).collect();
        return Err(Failure::input(format!(
            "the events were recorded of {}, and not of `{component}`\n  help: say whose are meant: \
             --name NAME",
            names.join(", ")
        )));
    }
    entries.retain(|entry| of(entry).is_none_or(|name| name == component));
    Ok(())
}
