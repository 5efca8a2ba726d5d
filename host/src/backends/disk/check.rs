//! Looking after a store that nobody uses: whether it is whole, and making it small.

use super::error::{failed, refused};
use super::lock::LockFile;
use super::rows::unreadable;
use super::{place, records, schema};
use crate::builtin::storage::StorageError;
use rusqlite::Connection;
use std::path::Path;

/// The most findings of one kind that are told one by one.
const FINDINGS_MAX: u32 = 20;

/// What is looked for: each row is a finding.
const QUESTIONS: &[&str] = &[
    "SELECT 'the file is damaged: ' || integrity_check FROM pragma_integrity_check \
     WHERE integrity_check <> 'ok'",
    "SELECT 'event ' || event.number || ' has topic ' || event.topic || ', which is not there' \
     FROM event LEFT JOIN topic ON topic.id = event.topic WHERE topic.id IS NULL",
    "SELECT 'topic `' || name || '` is said to have ' || topic.events || ' events with ' || \
     topic.bytes || ' bytes, and has ' || ifnull(found.events, 0) || ' with ' || \
     ifnull(found.bytes, 0) FROM topic LEFT JOIN \
     (SELECT topic, count(*) AS events, sum(size) AS bytes FROM event GROUP BY topic) AS found \
     ON found.topic = topic.id WHERE found.events IS NOT topic.events OR found.bytes IS NOT topic.bytes",
    "SELECT 'topic `' || name || '` is said to begin with event ' || first_number || \
     ' and to end with ' || last_number || ', which is wrong' FROM topic WHERE \
     first_number IS NOT (SELECT min(number) FROM event WHERE topic = topic.id) OR \
     last_number IS NOT (SELECT max(number) FROM event WHERE topic = topic.id)",
    "SELECT 'event ' || number || ' was published before event ' || before FROM \
     (SELECT number, time, lag(time) OVER ordered AS earlier, lag(number) OVER ordered AS before \
     FROM event WINDOW ordered AS (ORDER BY number)) WHERE time < earlier",
    "SELECT 'event ' || event.number || ' has a number that was not given yet: ' || \
     last.number || ' is the last one' FROM event, last WHERE event.number > last.number",
    "SELECT 'subscription `' || subscription.name || '` has event ' || open.number || \
     ' open, which is not there' FROM open JOIN subscription ON subscription.id = open.subscription \
     LEFT JOIN event ON event.number = open.number WHERE event.number IS NULL",
    "SELECT 'subscription `' || subscription.name || '` has event ' || open.number || \
     ' open, and goes on with ' || subscription.next FROM open \
     JOIN subscription ON subscription.id = open.subscription \
     WHERE open.number >= subscription.next",
    "SELECT 'subscription `' || name || '` goes on with ' || next || ', and ' || last.number || \
     ' was the last number given' FROM subscription, last WHERE next > last.number + 1",
    "SELECT 'event ' || open.number || ' is open for subscription ' || open.subscription || \
     ', which is not there' FROM open LEFT JOIN subscription \
     ON subscription.id = open.subscription WHERE subscription.id IS NULL",
    "SELECT 'snapshot `' || snapshot.name || '` has event ' || snapshot_open.number || \
     ' open, which is not there' FROM snapshot_open JOIN snapshot \
     ON snapshot.id = snapshot_open.snapshot LEFT JOIN event \
     ON event.number = snapshot_open.number WHERE event.number IS NULL",
];

/// How large a file was, and is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Bytes before, with the log beside it.
    pub before: u64,
    /// Bytes after.
    pub after: u64,
}

/// Looks whether a store is whole, and says what is wrong, one line each. Reads all of
/// it, also while a process has it.
///
/// # Errors
/// It cannot be read, or is no store.
pub fn check(path: &Path) -> Result<Vec<String>, StorageError> {
    let mut connection = schema::open_reader(path, None)?;
    find(&mut connection).map_err(|error| failed(path, "cannot read the store", &error))
}

/// Makes the file as small as it can be. Needs as much room again meanwhile.
///
/// # Errors
/// A process has it; it is no store; there is no room.
pub fn compact(path: &Path) -> Result<Compacted, StorageError> {
    // Nothing is made where nothing is.
    std::fs::File::open(path).map_err(|error| refused(path, "cannot open the store", &error))?;
    let path = &place::real(path);
    let _lock = LockFile::acquire(path)?;
    let connection = schema::open_writer(path, None)?;
    let before = bytes(path);
    let compacted = connection
        .execute_batch("VACUUM")
        .and_then(|()| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
    compacted.map_err(|error| failed(path, "cannot compact the store", &error))?;
    Ok(Compacted { before, after: bytes(path) })
}

/// Everything is looked at in one transaction: a process may go on writing.
fn find(connection: &mut Connection) -> rusqlite::Result<Vec<String>> {
    let transaction = connection.transaction()?;
    let mut findings = Vec::new();
    for question in QUESTIONS {
        let limited = format!("{question} LIMIT {FINDINGS_MAX}");
        let mut statement = transaction.prepare(&limited)?;
        for finding in statement.query_map([], |row| row.get(0))? {
            findings.push(finding?);
        }
    }
    if let Err(error) = records::load(&transaction) {
        findings.push(error.to_string());
    }
    if let Err(error) = unreadable_topics(&transaction) {
        findings.push(error.to_string());
    }
    Ok(findings)
}

fn unreadable_topics(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT name FROM topic")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let name = row.get_ref(0)?.as_str()?;
        crate::broker::Topic::new(name).map_err(|error| unreadable("topic", name, error))?;
    }
    Ok(())
}

fn bytes(path: &Path) -> u64 {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    [path, Path::new(&log)]
        .iter()
        .filter_map(|path| path.metadata().ok())
        .map(|file| file.len())
        .sum()
}
