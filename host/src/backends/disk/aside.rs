//! What is kept beside events, for those who serve the broker's clients.

use super::pending::Shared;
use super::reader::Readers;
use crate::broker::BrokerError;
use crate::broker::driver::{RecordChange, Records};
use async_trait::async_trait;
use rusqlite::{Connection, params};
use std::sync::Arc;

/// The most records of a page.
const PAGE_RECORDS_MAX: usize = 4096;
/// The most bytes of a page. It has one record at least.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// The records of a store.
pub(super) struct Aside {
    shared: Arc<Shared>,
    readers: Arc<Readers>,
}

impl Aside {
    pub(super) fn new(shared: Arc<Shared>, readers: Arc<Readers>) -> Self {
        Self { shared, readers }
    }
}

#[async_trait]
impl Records for Aside {
    async fn load(&self, kind: u8, after: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, BrokerError> {
        let after = after.to_vec();
        let read =
            self.readers.ask(&self.shared, move |reader| page(&reader.connection, kind, &after));
        Ok(read.await?)
    }

    async fn put(&self, changes: Vec<RecordChange>) -> Result<(), BrokerError> {
        let put_all = move |connection: &Connection| {
            changes.iter().try_for_each(|change| put(connection, change)).map(Ok)
        };
        Ok(self.shared.change(Box::new(put_all)).await?)
    }
}

/// Changes a record.
pub(super) fn put(connection: &Connection, change: &RecordChange) -> rusqlite::Result<()> {
    let RecordChange { kind, key, value } = change;
    match value {
        Some(value) => connection
            .prepare_cached(
                "INSERT INTO record (kind, \"key\", value) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (kind, \"key\") DO UPDATE SET value = ?3",
            )?
            .execute(params![kind, key, value])?,
        None => connection
            .prepare_cached("DELETE FROM record WHERE kind = ?1 AND \"key\" = ?2")?
            .execute(params![kind, key])?,
    };
    Ok(())
}

fn page(
    connection: &Connection,
    kind: u8,
    after: &[u8],
) -> rusqlite::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let sql = "SELECT \"key\", value FROM record WHERE kind = ?1 AND \"key\" > ?2 \
               ORDER BY \"key\" LIMIT ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![kind, after, PAGE_RECORDS_MAX])?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()?
        && bytes < PAGE_BYTES_MAX
    {
        let (key, value): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
        bytes += key.len() + value.len();
        found.push((key, value));
    }
    Ok(found)
}
