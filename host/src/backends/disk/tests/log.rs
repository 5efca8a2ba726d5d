//! The log of the file.

use super::super::wal::LOG_BYTES_MAX;
use super::*;

/// Much more than the log may have, without a pause: it begins anew again and again, and
/// is empty at the end.
#[tokio::test]
async fn the_log_stays_short_while_the_store_is_written() {
    const DATA: usize = 256 * 1024;
    let folder = Folder::new();
    let log = folder.path().with_file_name("events.db-wal");
    let storage = folder.open();
    let data = bytes::Bytes::from(vec![b'x'; DATA]);
    let written = 3 * LOG_BYTES_MAX;
    for id in 0..written / DATA as u64 {
        let event = event(&id.to_string(), data.clone());
        answer(storage.append(publication("a", event, at(id)))).await.unwrap();
    }
    // The last commit before somebody waits, and what SQLite adds to each page.
    let most = LOG_BYTES_MAX + LOG_BYTES_MAX / 100 + 2 * DATA as u64;
    let length = std::fs::metadata(&log).unwrap().len();
    assert!(length > 0 && length <= most, "{length}");
    assert!(std::fs::metadata(folder.path()).unwrap().len() > written - most);
    storage.close().await;
    assert!(std::fs::metadata(&log).map_or(0, |log| log.len()) == 0);
    assert_sound(&folder.path());
}
