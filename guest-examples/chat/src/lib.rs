//! Looks after the rooms of a chat. What is said on `chat/ROOM/say` is checked, and
//! published on `chat/ROOM/messages` if it may be heard; the last of a room are kept
//! on `chat/ROOM/history`, which the broker retains for those who join late. What is
//! meant for the speaker alone goes to the topic that the speaker wants answers on,
//! `chat/ROOM/to/…`, or to the room if there is none.

mod rooms;

use pubsub::{Event, Result};
use rooms::{Line, Room, Rooms};
use std::sync::{LazyLock, Mutex, PoisonError};

/// The longest message and the longest name, in characters.
const TEXT_CHARS_MAX: usize = 500;
const NAME_CHARS_MAX: usize = 32;

/// Who speaks where the component does, and where somebody gives no name.
const CHAT: &str = "chat";
const NOBODY: &str = "somebody";

const HELP: &str = "/help shows this, /who shows who spoke lately; all else is said to the room";

/// Attributes that MQTT's own fields become, and come from.
const RETAIN: &str = "mqtt.retain";
const RESPONSE_TOPIC: &str = "mqtt.response-topic";
const CORRELATION_DATA: &str = "mqtt.correlation-data";

/// The rooms, as long as the instance lives: the configuration has one of it.
static ROOMS: Mutex<Rooms> = Mutex::new(Rooms::new());

/// What nobody wants to read: the words in the variable WORDS.
static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let words = std::env::var("WORDS").unwrap_or_default();
    words.split_whitespace().map(str::to_lowercase).collect()
});

#[pubsub::on_message]
fn on_message(said: Event) -> Result<()> {
    let topic = said.topic.clone().unwrap_or_default();
    let Some(name) = topic.strip_prefix("chat/").and_then(|rest| rest.strip_suffix("/say")) else {
        return Err(pubsub::Error::rejected(format!("`{topic}` is no room's")));
    };
    let mut rooms = ROOMS.lock().unwrap_or_else(PoisonError::into_inner);
    match checked(&said) {
        Err(reason) => answer(name, &said, &reason),
        Ok((_, "/help")) => answer(name, &said, HELP),
        Ok((_, "/who")) => answer(name, &said, &who(rooms.find(name))),
        Ok((_, command)) if command.starts_with('/') => {
            let command = command.split_whitespace().next().unwrap_or_default();
            answer(name, &said, &format!("there is no {command}: {HELP}"))
        }
        Ok((from, text)) => {
            let (room, abandoned) = rooms.enter(name);
            room.add(&said, from, masked(text));
            tell(name, room)?;
            abandoned.map_or(Ok(()), |name| remember(&name, ""))
        }
    }
}

/// Who speaks, and what; or what is wrong with it, in words for the speaker.
fn checked(said: &Event) -> Result<(&str, &str), String> {
    let text = said.text().map_err(|_| "that is no text".to_owned())?.trim();
    let from = said.attribute("from").unwrap_or_default().trim();
    // A line of the history is one line, with tabs between its parts.
    if text.chars().chain(from.chars()).any(char::is_control) {
        return Err("a message is one line, without control characters".to_owned());
    }
    let (length, name_length) = (text.chars().count(), from.chars().count());
    if length == 0 {
        return Err("there is nothing in that message".to_owned());
    }
    if length > TEXT_CHARS_MAX {
        return Err(format!("{length} characters are too many: {TEXT_CHARS_MAX} are allowed"));
    }
    if name_length > NAME_CHARS_MAX {
        return Err(format!("that name is longer than {NAME_CHARS_MAX} characters"));
    }
    if from == CHAT {
        return Err(format!("the name `{CHAT}` is taken"));
    }
    Ok((if from.is_empty() { NOBODY } else { from }, text))
}

/// The text, with stars in place of the words that nobody wants to read.
fn masked(text: &str) -> String {
    let words = text.split_inclusive(|c: char| !c.is_alphanumeric());
    let mask = |word: &str| {
        let bare = word.trim_end_matches(|c: char| !c.is_alphanumeric());
        match WORDS.contains(&bare.to_lowercase()) {
            true => "*".repeat(bare.chars().count()) + &word[bare.len()..],
            false => word.to_owned(),
        }
    };
    words.map(mask).collect()
}

fn who(room: Option<&Room>) -> String {
    let names = room.map(Room::names).unwrap_or_default();
    match names.is_empty() {
        true => "nobody has spoken yet".to_owned(),
        false => format!("spoke lately: {}", names.join(", ")),
    }
}

/// Publishes the last line of a room, and what the room has now.
fn tell(name: &str, room: &Room) -> Result<()> {
    let Some(line) = room.last() else { return Ok(()) };
    pubsub::publish(format!("chat/{name}/messages"), message(line))?;
    remember(name, &room.history())
}

/// Has the broker keep a room's history; an empty one is forgotten.
fn remember(name: &str, history: &str) -> Result<()> {
    let event = Event::new("com.example.chat.history", history)
        .with_content_type("text/tab-separated-values")
        .with_attribute(RETAIN, "true");
    pubsub::publish(format!("chat/{name}/history"), event)
}

fn message(line: &Line) -> Event {
    // The identity is the line's: when a line is published again after a failure, the
    // broker knows it at qos 2.
    Event::new("com.example.chat.message", line.text.as_str())
        .with_id(line.at.to_string())
        .with_content_type("text/plain")
        .with_attribute("from", &line.from)
        .with_attribute("at", line.at.to_string())
}

/// Tells the speaker something.
fn answer(name: &str, said: &Event, text: &str) -> Result<()> {
    let mut event = Event::new("com.example.chat.answer", text)
        .with_content_type("text/plain")
        .with_attribute("from", CHAT);
    if let Some(data) = said.attribute(CORRELATION_DATA) {
        event = event.with_attribute(CORRELATION_DATA, data);
    }
    // Nobody may have the component publish to where they may not.
    let own = said.attribute(RESPONSE_TOPIC).filter(|topic| {
        let reader = topic.strip_prefix(&format!("chat/{name}/to/"));
        reader.is_some_and(|reader| !reader.is_empty() && !reader.contains('/'))
    });
    let room = || format!("chat/{name}/messages");
    pubsub::publish(own.map_or_else(room, str::to_owned), event)
}
