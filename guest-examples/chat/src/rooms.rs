//! What the rooms have heard, bounded.

use pubsub::Event;
use std::collections::{BTreeMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

/// The most rooms: a further one takes the place of the one that was quiet longest.
const ROOMS_MAX: usize = 100;
/// The most lines of a room that are kept.
const LINES_MAX: usize = 50;

/// All rooms, by name.
pub struct Rooms(BTreeMap<String, Room>);

/// One room.
#[derive(Default)]
pub struct Room {
    lines: VecDeque<Line>,
    /// `source` and `id` of what was said last.
    last_said: Option<(String, String)>,
}

/// What was said by whom.
pub struct Line {
    /// When, in milliseconds since 1970; no two lines of a room have the same.
    pub at: u64,
    pub from: String,
    pub text: String,
}

impl Rooms {
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub fn find(&self, name: &str) -> Option<&Room> {
        self.0.get(name)
    }

    /// The room of that name, made if there is none, and the name of one that had to
    /// go for it.
    pub fn enter(&mut self, name: &str) -> (&mut Room, Option<String>) {
        let mut abandoned = None;
        if !self.0.contains_key(name) && self.0.len() >= ROOMS_MAX {
            let quiet = self.0.iter().min_by_key(|(_, room)| room.last().map(|line| line.at));
            abandoned = quiet.map(|(name, _)| name.clone());
        }
        if let Some(abandoned) = &abandoned {
            self.0.remove(abandoned);
        }
        (self.0.entry(name.to_owned()).or_default(), abandoned)
    }
}

impl Room {
    /// Adds a line, unless what was said is there already: the event comes again when
    /// not all was done for it.
    pub fn add(&mut self, said: &Event, from: &str, text: String) {
        let said = Some((said.source.clone(), said.id.clone()));
        if self.last_said == said {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let at = self.last().map_or(now, |last| now.max(last.at + 1));
        self.lines.push_back(Line { at, from: from.to_owned(), text });
        if self.lines.len() > LINES_MAX {
            self.lines.pop_front();
        }
        self.last_said = said;
    }

    pub fn last(&self) -> Option<&Line> {
        self.lines.back()
    }

    /// Who spoke, each once, in the order of the alphabet.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.lines.iter().map(|line| line.from.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// A line for each, oldest first: when, who and what, with tabs between them.
    pub fn history(&self) -> String {
        let line = |Line { at, from, text }: &Line| format!("{at}\t{from}\t{text}\n");
        self.lines.iter().map(line).collect()
    }
}
