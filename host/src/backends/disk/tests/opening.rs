//! Files that are there, that are not, and that are others'.

use super::super::schema;
use super::*;
use crate::broker::driver::RecordChange;
use rusqlite::Connection;
use std::fs;

fn refusal(path: &std::path::Path) -> String {
    DiskStorage::open(path, &Options::default()).err().expect("it is refused").message
}

fn run(path: &std::path::Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn one_process_at_a_time() {
    let folder = Folder::new();
    let storage = folder.open();
    let message = refusal(&folder.path());
    assert!(message.contains("is in use by this process: one broker"), "{message}");
    // As another process would have written it.
    let lock = folder.0.path().join("events.db.lock");
    fs::write(&lock, "1234\n").unwrap();
    let message = refusal(&folder.path());
    assert!(message.contains("is in use by process 1234 (one process at a time"), "{message}");
    fs::write(&lock, "").unwrap();
    assert!(refusal(&folder.path()).contains("is in use by another process ("));
    drop(storage);
    drop(folder.open());
}

#[test]
fn what_is_no_store_is_left_alone() {
    let folder = Folder::new();
    let path = folder.path();
    fs::write(&path, "not a database, but long enough to be one".repeat(100)).unwrap();
    let before = fs::read(&path).unwrap();
    let message = refusal(&path);
    assert!(message.contains("events.db`: the file is no SQLite database"), "{message}");
    assert_eq!(fs::read(&path).unwrap(), before);
    for sql in ["CREATE TABLE x (y)", "PRAGMA application_id = 7; CREATE TABLE x (y)"] {
        fs::remove_file(&path).unwrap();
        run(&path, sql);
        let before = fs::read(&path).unwrap();
        let message = refusal(&path);
        assert!(message.ends_with("move the file away"), "{message}");
        assert!(message.contains("is a database of another application"), "{message}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn a_newer_format_is_refused() {
    let folder = Folder::new();
    drop(folder.open());
    run(&folder.path(), "PRAGMA user_version = 99");
    let message = refusal(&folder.path());
    assert!(
        message.contains("has format 99, and this version of wasi-pubsub knows 1 to 2"),
        "{message}"
    );
}

#[test]
fn folders_are_made_or_named() {
    let folder = Folder::new();
    let inner = folder.0.path().join("new/er/events.db");
    drop(DiskStorage::open(&inner, &Options::default()).unwrap());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode =
            |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(inner.parent().unwrap()), 0o700);
        assert_eq!(mode(&inner), 0o600);
    }
    fs::write(folder.0.path().join("file"), "").unwrap();
    let message = refusal(&folder.0.path().join("file/events.db"));
    assert!(message.starts_with("cannot make the store's folder `"), "{message}");
    let message = refusal(folder.0.path());
    assert!(message.starts_with("cannot write the store `"), "{message}");
}

#[tokio::test]
async fn a_store_can_be_looked_at_beside_its_process() {
    let folder = Folder::new();
    let storage = folder.open();
    publish(&storage, "a", 1).await;
    let looking = DiskStorage::open_read_only(folder.path()).unwrap();
    assert_eq!(all(&looking, "a").await, [1]);
    publish(&storage, "b", 2).await;
    publish(&storage, "a", 3).await;
    assert_eq!(all(&looking, "#").await, [1, 2, 3]);
    assert_eq!(looking.topics().await.unwrap().len(), 2);
    assert_eq!(looking.number_at(at(2)).await.unwrap(), 2);
    assert_eq!((looking.last_number(), looking.durable_number()), (3, 3));
    let error = looking.trim(trims::everything("a")).await.unwrap_err();
    assert!(error.message.ends_with("was opened to look at it only"), "{error}");
    let published = answer(looking.append(publication("a", event("x", ""), at(0)))).await;
    assert_eq!(published.unwrap_err().message, error.message);
    looking.close().await;
    drop(storage);
    // And when it has gone.
    assert_eq!(all(&DiskStorage::open_read_only(folder.path()).unwrap(), "#").await, [1, 2, 3]);
    let none = DiskStorage::open_read_only(folder.0.path().join("none")).err().unwrap();
    assert!(none.message.contains("No such file"), "{none}");
}

/// A file as the first released version wrote it, as `sqlite3 FILE .dump` has it.
const VERSION_1: &str = include_str!("version_1_store.sql");

#[tokio::test]
async fn a_store_of_format_1_opens() {
    let folder = Folder::new();
    run(&folder.path(), VERSION_1);
    let storage = folder.open();
    let found = page(&storage, of("#", 1, None), 10).await.events;
    let texts: Vec<_> = found
        .iter()
        .map(|stored| format!("{} {} {:?}", stored.number, stored.topic, stored.event.data))
        .collect();
    assert_eq!(texts, ["1 a/b b\"first\"", "3 a/c b\"\\xff\\0\""]);
    let pair = |value: &str| ("k".to_owned(), value.to_owned());
    assert_eq!(found[0].event.attributes, [pair("v"), pair("é")]);
    let contents = storage.load().unwrap();
    assert_eq!(contents.subscriptions[0].0.name, "one");
    assert_eq!(contents.subscriptions[0].1.open, [(1, 2)]);
    assert_eq!(contents.snapshots[0].name, "before");
    assert_eq!(contents.once.len(), 1);
    assert_eq!(publish(&storage, "a/b", 1).await, 5);
    // What came with format 2.
    let records = storage.records().unwrap();
    assert!(records.load(1, b"").await.unwrap().is_empty());
    let change = RecordChange { kind: 1, key: b"k".into(), value: Some(b"v".into()) };
    records.put(vec![change]).await.unwrap();
    assert_eq!(records.load(1, b"").await.unwrap(), [(b"k".to_vec(), b"v".to_vec())]);
    storage.close().await;
    assert_sound(&folder.path());
}

#[test]
fn a_store_of_format_1_is_looked_at_once_it_is_made_ready() {
    let folder = Folder::new();
    run(&folder.path(), VERSION_1);
    let error = super::super::check(&folder.path()).unwrap_err();
    assert!(error.message.contains("has an older format: `wasi-pubsub run`"), "{error}");
    drop(folder.open());
    assert_sound(&folder.path());
}

#[test]
fn formats_are_migrated_all_at_once_or_not_at_all() {
    let mut connection = Connection::open_in_memory().unwrap();
    let version = |connection: &Connection| -> u32 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    };
    let one = "CREATE TABLE t (a); INSERT INTO t VALUES (1)";
    schema::migrate(&mut connection, &[one]).unwrap();
    assert_eq!(version(&connection), 1);
    let (two, broken) = ("ALTER TABLE t ADD b DEFAULT 7", "ALTER TABLE none ADD c");
    assert!(schema::migrate(&mut connection, &[one, two, broken]).is_err());
    assert_eq!(version(&connection), 1);
    assert!(connection.prepare("SELECT b FROM t").is_err(), "nothing has changed");
    schema::migrate(&mut connection, &[one, two]).unwrap();
    schema::migrate(&mut connection, &[one, two]).unwrap();
    assert_eq!(version(&connection), 2);
    let found: (u32, u32) = connection
        .query_row("SELECT a, b FROM t", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(found, (1, 7));
}

#[tokio::test]
async fn a_check_finds_what_is_wrong() {
    let folder = Folder::new();
    let storage = folder.open();
    for number in 1..=3 {
        publish(&storage, "a", number).await;
    }
    storage.close().await;
    drop(storage);
    assert_sound(&folder.path());
    run(
        &folder.path(),
        "UPDATE topic SET events = 7; DELETE FROM event WHERE number = 2;
         UPDATE event SET topic = 99 WHERE number = 3; UPDATE last SET number = 2;
         INSERT INTO subscription VALUES (1, 'one', 'a/#/b', NULL, NULL, 1, NULL, 0, 0, NULL, 2);
         INSERT INTO open VALUES (1, 2, 1), (5, 1, 1)",
    );
    let found = super::super::check(&folder.path()).unwrap();
    let expected = [
        "event 3 has topic 99, which is not there",
        "topic `a` is said to have 7 events with ",
        "topic `a` is said to begin with event 1 and to end with 3, which is wrong",
        "event 3 has a number that was not given yet: 2 is the last one",
        "subscription `one` has event 2 open, which is not there",
        "subscription `one` has event 2 open, and goes on with 2",
        "event 1 is open for subscription 5, which is not there",
        "the topic filter `a/#/b` cannot be read: ",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found}");
    }
}

#[tokio::test]
async fn compacting_makes_the_file_small() {
    let folder = Folder::new();
    let storage = folder.open();
    publish_all(&storage, (0..2000).map(|id| ("a".to_owned(), id))).await;
    let error = super::super::compact(&folder.path()).unwrap_err();
    assert!(error.message.contains("in use"), "{error}");
    storage.trim(trims::everything("a")).await.unwrap();
    storage.close().await;
    drop(storage);
    let compacted = super::super::compact(&folder.path()).unwrap();
    assert!(compacted.after < compacted.before / 2, "{compacted:?}");
    assert_eq!(folder.open().last_number(), 2000);
    assert_sound(&folder.path());
}
