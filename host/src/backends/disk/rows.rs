//! Events and what belongs to them as rows.

use crate::broker::{Event, Qos, Topic};
use crate::builtin::Publication;
use crate::builtin::storage::Stored;
use bytes::Bytes;
use rusqlite::{Row, Statement, params};
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What [`stored`] reads, in its order.
pub(super) const COLUMNS: &str = "number, topic, time, qos, size, publisher, id, source, type, \
                                  content_type, ordering_key, attributes, data";
/// Where in [`COLUMNS`] the topic and the size are.
pub(super) const TOPIC: usize = 1;
pub(super) const SIZE: usize = 4;

/// A time as it is kept: in milliseconds, for people to read.
pub(super) fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What [`millis`] was made of, without what is less than a millisecond.
pub(super) fn from_millis(millis: i64) -> SystemTime {
    let since = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What [`insert`] is run with.
pub(super) const INSERT: &str =
    "INSERT INTO event VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";

/// Writes an event.
pub(super) fn insert(
    statement: &mut Statement<'_>,
    number: u64,
    topic: i64,
    publication: &Publication,
) -> rusqlite::Result<()> {
    let event = &*publication.event;
    let attributes = match event.attributes.as_slice() {
        [] => None,
        attributes => Some(serde_json::to_string(attributes).map_err(unwritable)?),
    };
    statement.execute(params![
        number,
        topic,
        millis(publication.time),
        publication.qos.level(),
        publication.size,
        publication.from.as_deref(),
        event.id,
        event.source,
        event.kind,
        event.content_type,
        event.ordering_key,
        attributes,
        &*event.data,
    ])?;
    Ok(())
}

/// Reads an event of [`COLUMNS`].
pub(super) fn stored(row: &Row<'_>, topic: Topic) -> rusqlite::Result<Stored> {
    let number = row.get(0)?;
    let attributes = match row.get_ref(11)?.as_str_or_null()? {
        None => Vec::new(),
        Some(text) => {
            serde_json::from_str(text).map_err(|error| unreadable("attributes", text, error))?
        }
    };
    let event = Event {
        id: row.get(6)?,
        source: row.get(7)?,
        kind: row.get(8)?,
        content_type: row.get(9)?,
        ordering_key: row.get(10)?,
        attributes,
        data: Bytes::copy_from_slice(row.get_ref(12)?.as_blob()?),
    };
    Ok(Stored {
        number,
        time: from_millis(row.get(2)?),
        topic,
        event: Arc::new(event),
        qos: qos(row.get(3)?)?,
        from: row.get_ref(5)?.as_str_or_null()?.map(Arc::from),
    })
}

/// The quality of service of a column.
pub(super) fn qos(level: u8) -> rusqlite::Result<Qos> {
    Qos::from_level(level).ok_or_else(|| unreadable("qos", level, "0 to 2 are known"))
}

/// A value that this program has not written.
pub(super) fn unreadable(what: &str, value: impl Display, reason: impl Display) -> rusqlite::Error {
    let text = format!("the {what} `{value}` cannot be read: {reason}");
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, text.into())
}

fn unwritable(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}
