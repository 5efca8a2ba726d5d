//! Subscriptions and snapshots, and how far they are.

use super::rows::{from_millis, millis, qos, unreadable};
use super::trim::as_column;
use crate::broker::{EventFilter, TopicFilter};
use crate::builtin::storage::{
    Contents, Delta, Position, SnapshotRecord, StorageError, SubscriptionRecord,
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::time::Duration;

/// Everything but events.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Contents> {
    let mut contents = Contents::default();
    let mut statement = connection.prepare("SELECT * FROM subscription ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let record = subscription(row)?;
        let open = open_of(
            connection,
            "SELECT number, attempt FROM open WHERE subscription = ?1",
            record.id,
        )?;
        contents.subscriptions.push((record, Position { next: row.get("next")?, open }));
    }
    let mut statement = connection.prepare("SELECT * FROM snapshot ORDER BY name")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let sql = "SELECT number, attempt FROM snapshot_open WHERE snapshot = ?1";
        let open = open_of(connection, sql, row.get("id")?)?;
        contents.snapshots.push(SnapshotRecord {
            name: row.get("name")?,
            filter: filter(row)?,
            position: Position { next: row.get("next")?, open },
            created: from_millis(row.get("created")?),
        });
    }
    let mut statement = connection.prepare("SELECT hash, until FROM once ORDER BY number")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let hash: [u8; 16] = row.get(0)?;
        contents.once.push((u128::from_be_bytes(hash), from_millis(row.get(1)?)));
    }
    Ok(contents)
}

/// Adds a subscription, or changes all of it but its progress.
pub(super) fn put_subscription(
    connection: &Connection,
    record: &SubscriptionRecord,
) -> rusqlite::Result<Result<(), StorageError>> {
    let other = "SELECT id FROM subscription WHERE name = ?1 AND id <> ?2";
    let other: Option<u64> = connection
        .prepare_cached(other)?
        .query_row(params![record.name, record.id], |row| row.get(0))
        .optional()?;
    if other.is_some() {
        let message = format!("there is another subscription of the name `{}`", record.name);
        return Ok(Err(StorageError { message, is_temporary: false }));
    }
    connection
        .prepare_cached(
            "INSERT INTO subscription VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0) \
             ON CONFLICT (id) DO UPDATE SET name = ?2, filter = ?3, \"group\" = ?4, \
             event_filter = ?5, qos = ?6, not_from = ?7, created = ?8, used = ?9, expiry = ?10",
        )?
        .execute(params![
            record.id,
            record.name,
            record.filter.as_str(),
            record.group,
            record.event_filter.as_ref().map(EventFilter::as_str),
            record.qos.level(),
            record.not_from,
            millis(record.created),
            millis(record.used),
            record.expiry.map(|expiry| i64::try_from(expiry.as_millis()).unwrap_or(i64::MAX)),
        ])?;
    Ok(Ok(()))
}

/// Sets how far a subscription is.
pub(super) fn set_position(
    connection: &Connection,
    id: u64,
    position: &Position,
) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM open WHERE subscription = ?1")?.execute([id])?;
    if set_next(connection, id, position.next)? {
        put_open(connection, id, &position.open)?;
    }
    Ok(())
}

/// Keeps what has changed in how far a subscription is.
pub(super) fn apply(connection: &Connection, id: u64, delta: &Delta) -> rusqlite::Result<()> {
    // One that was removed meanwhile leaves nothing behind.
    if !set_next(connection, id, delta.next)? {
        return Ok(());
    }
    let close = "DELETE FROM open WHERE subscription = ?1 AND number = ?2";
    let mut close = connection.prepare_cached(close)?;
    for number in &delta.closed {
        close.execute([id, *number])?;
    }
    put_open(connection, id, &delta.opened)
}

/// Returns whether there is such a subscription.
fn set_next(connection: &Connection, id: u64, next: u64) -> rusqlite::Result<bool> {
    let sql = "UPDATE subscription SET next = ?2 WHERE id = ?1";
    Ok(connection.prepare_cached(sql)?.execute(params![id, as_column(next)])? > 0)
}

fn put_open(connection: &Connection, id: u64, open: &[(u64, u32)]) -> rusqlite::Result<()> {
    let mut put = connection.prepare_cached("INSERT OR REPLACE INTO open VALUES (?1, ?2, ?3)")?;
    for (number, attempt) in open {
        put.execute(params![id, number, attempt])?;
    }
    Ok(())
}

/// Forgets a subscription.
pub(super) fn remove_subscription(connection: &Connection, id: u64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM open WHERE subscription = ?1")?.execute([id])?;
    connection.prepare_cached("DELETE FROM subscription WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Adds or replaces a snapshot.
pub(super) fn put_snapshot(
    connection: &Connection,
    record: &SnapshotRecord,
) -> rusqlite::Result<()> {
    remove_snapshot(connection, &record.name)?;
    let insert = "INSERT INTO snapshot (name, filter, created, next) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(insert)?.execute(params![
        record.name,
        record.filter.as_str(),
        millis(record.created),
        as_column(record.position.next),
    ])?;
    let id = connection.last_insert_rowid();
    let mut put = connection.prepare_cached("INSERT INTO snapshot_open VALUES (?1, ?2, ?3)")?;
    for (number, attempt) in &record.position.open {
        put.execute(params![id, number, attempt])?;
    }
    Ok(())
}

/// Forgets a snapshot.
pub(super) fn remove_snapshot(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    let open =
        "DELETE FROM snapshot_open WHERE snapshot IN (SELECT id FROM snapshot WHERE name = ?1)";
    connection.prepare_cached(open)?.execute([name])?;
    connection.prepare_cached("DELETE FROM snapshot WHERE name = ?1")?.execute([name])?;
    Ok(())
}

fn subscription(row: &Row<'_>) -> rusqlite::Result<SubscriptionRecord> {
    let event_filter = match row.get_ref("event_filter")?.as_str_or_null()? {
        None => None,
        Some(text) => {
            Some(EventFilter::new(text).map_err(|error| unreadable("filter", text, error))?)
        }
    };
    let expiry: Option<u64> = row.get("expiry")?;
    Ok(SubscriptionRecord {
        id: row.get("id")?,
        name: row.get("name")?,
        filter: filter(row)?,
        group: row.get("group")?,
        event_filter,
        qos: qos(row.get("qos")?)?,
        not_from: row.get("not_from")?,
        created: from_millis(row.get("created")?),
        used: from_millis(row.get("used")?),
        expiry: expiry.map(Duration::from_millis),
    })
}

fn filter(row: &Row<'_>) -> rusqlite::Result<TopicFilter> {
    let text = row.get_ref("filter")?.as_str()?;
    TopicFilter::new(text).map_err(|error| unreadable("topic filter", text, error))
}

fn open_of(connection: &Connection, sql: &str, id: u64) -> rusqlite::Result<Vec<(u64, u32)>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}
