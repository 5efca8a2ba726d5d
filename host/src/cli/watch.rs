//! Watching a few files for changes.
//!
//! They are looked at again and again, a few times a second. For the handful of
//! files that a host runs from that costs next to nothing, and it sees what
//! notifications of the system miss or lose: files behind links that are set
//! anew, folders that are removed and made again, and network and shared folders.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long they must stay as they are before a change counts: editors and
/// compilers write in several steps.
const QUIET: Duration = Duration::from_millis(400);
/// How long a file that was there may be gone before that counts.
const GONE_MAX: Duration = Duration::from_secs(3);

/// Watches files until it is dropped.
pub(super) struct Watch {
    files: WatchedFiles,
    changes: mpsc::Receiver<()>,
    task: JoinHandle<()>,
}

impl Watch {
    pub(super) fn start(files: Vec<PathBuf>) -> Self {
        let mut watched = Watched::default();
        watched.set_files(files, &Disk);
        let files = WatchedFiles(Arc::new(Mutex::new(watched)));
        let (sender, changes) = mpsc::channel(1);
        let task = tokio::spawn(look(files.clone(), sender));
        Self { files, changes, task }
    }

    /// Which files are watched.
    pub(super) fn files(&self) -> &WatchedFiles {
        &self.files
    }

    /// Waits until the contents of a file have changed.
    pub(super) async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// The files that are watched. Reads from the disk.
#[derive(Clone)]
pub(super) struct WatchedFiles(Arc<Mutex<Watched>>);

impl WatchedFiles {
    /// Watches these from now on. What has changed up to now counts as known.
    pub(super) fn set(&self, files: Vec<PathBuf>) {
        let mut watched = self.lock();
        watched.set_files(files, &Disk);
        watched.catch_up(&Disk);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(files: WatchedFiles, changes: mpsc::Sender<()>) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let files = files.clone();
        // A file system may be slow.
        let looked = tokio::task::spawn_blocking(move || files.lock().look(Instant::now(), &Disk));
        if looked.await.unwrap_or(false) {
            // A change that nobody has asked for yet says it for both.
            let _ = changes.try_send(());
        }
    }
}

/// What the watch sees of files.
trait Files {
    /// Changes whenever a file is written to or replaced; `None`: it is not there.
    fn stamp(&self, path: &Path) -> Option<Stamp>;
    /// Stands for what is in a file; `None`: it cannot be read.
    fn contents(&self, path: &Path) -> Option<[u8; 32]>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    /// Device, file, and when its attributes were changed.
    identity: (u64, u64, i64, i64),
}

struct Disk;

impl Files for Disk {
    fn stamp(&self, path: &Path) -> Option<Stamp> {
        let data = std::fs::metadata(path).ok()?;
        Some(Stamp {
            modified: data.modified().ok(),
            length: data.len(),
            identity: identity(&data),
        })
    }

    fn contents(&self, path: &Path) -> Option<[u8; 32]> {
        Some(Sha256::digest(std::fs::read(path).ok()?).into())
    }
}

#[cfg(unix)]
fn identity(data: &std::fs::Metadata) -> (u64, u64, i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (data.dev(), data.ino(), data.ctime(), data.ctime_nsec())
}

#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> (u64, u64, i64, i64) {
    (0, 0, 0, 0)
}

/// What is known of the files.
#[derive(Default)]
struct Watched {
    files: BTreeMap<PathBuf, Seen>,
    /// When something was last found to be different.
    unrest: Option<Instant>,
}

struct Seen {
    stamp: Option<Stamp>,
    /// When its last change was told.
    contents: Option<[u8; 32]>,
    /// Whether the stamp has changed since.
    touched: bool,
}

impl Watched {
    fn set_files(&mut self, files: Vec<PathBuf>, on: &impl Files) {
        let mut known = std::mem::take(&mut self.files);
        for path in files {
            let seen = known.remove(&path).or_else(|| self.files.remove(&path));
            let seen = seen.unwrap_or_else(|| {
                let (stamp, contents) = (on.stamp(&path), on.contents(&path));
                Seen { stamp, contents, touched: false }
            });
            self.files.insert(path, seen);
        }
    }

    /// Whether something has changed, and is quiet again.
    fn look(&mut self, now: Instant, on: &impl Files) -> bool {
        for (path, seen) in &mut self.files {
            let stamp = on.stamp(path);
            if stamp != seen.stamp {
                (seen.stamp, seen.touched) = (stamp, true);
                self.unrest = Some(now);
            }
        }
        let Some(unrest) = self.unrest else { return false };
        let is_gone = |seen: &Seen| seen.stamp.is_none() && seen.contents.is_some();
        let wait = if self.files.values().any(is_gone) { GONE_MAX } else { QUIET };
        if now.saturating_duration_since(unrest) < wait {
            return false;
        }
        self.catch_up(on)
    }

    /// Takes note of what has changed, and says whether something has.
    fn catch_up(&mut self, on: &impl Files) -> bool {
        self.unrest = None;
        let mut changed = false;
        for (path, seen) in &mut self.files {
            let stamp = on.stamp(path);
            seen.touched |= stamp != seen.stamp;
            seen.stamp = stamp;
        }
        for (path, seen) in self.files.iter_mut().filter(|(_, seen)| seen.touched) {
            let contents = on.contents(path);
            changed |= contents != seen.contents;
            (seen.contents, seen.touched) = (contents, false);
        }
        changed
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const TICK: Duration = Duration::from_millis(100);

    /// Files by name: how often they were written to, and what is in them.
    #[derive(Default)]
    struct Fake(RefCell<BTreeMap<PathBuf, (u64, u8)>>);

    impl Fake {
        fn write(&self, name: &str, contents: u8) {
            let mut files = self.0.borrow_mut();
            let writes = files.get(Path::new(name)).map_or(0, |file| file.0) + 1;
            files.insert(name.into(), (writes, contents));
        }

        fn remove(&self, name: &str) {
            self.0.borrow_mut().remove(Path::new(name)).unwrap();
        }
    }

    impl Files for Fake {
        fn stamp(&self, path: &Path) -> Option<Stamp> {
            let (writes, _) = *self.0.borrow().get(path)?;
            Some(Stamp { modified: None, length: writes, identity: (0, 0, 0, 0) })
        }

        fn contents(&self, path: &Path) -> Option<[u8; 32]> {
            Some([self.0.borrow().get(path)?.1; 32])
        }
    }

    struct Scene {
        files: Fake,
        watched: Watched,
        now: Instant,
    }

    impl Scene {
        fn of(names: &[&str]) -> Self {
            let files = Fake::default();
            for name in names {
                files.write(name, 1);
            }
            let mut watched = Watched::default();
            watched.set_files(names.iter().map(PathBuf::from).collect(), &files);
            Self { files, watched, now: Instant::now() }
        }

        /// After how many ticks a change is told, of so many.
        fn told_within(&mut self, ticks: u32) -> Option<u32> {
            (0..ticks).find(|_| {
                self.now += TICK;
                self.watched.look(self.now, &self.files)
            })
        }
    }

    #[test]
    fn a_change_is_told_once_and_when_it_is_quiet() {
        let mut scene = Scene::of(&["a", "b"]);
        assert_eq!(scene.told_within(100), None);
        for contents in 2..12 {
            scene.files.write("a", contents);
            assert_eq!(scene.told_within(3), None, "it is still being written");
        }
        assert!(scene.told_within(10).is_some());
        assert_eq!(scene.told_within(100), None);
    }

    #[test]
    fn the_same_contents_are_no_change() {
        let mut scene = Scene::of(&["a"]);
        scene.files.write("a", 1);
        assert_eq!(scene.told_within(100), None);
        scene.files.write("a", 2);
        scene.files.write("a", 1);
        assert_eq!(scene.told_within(100), None, "as it was at the last look");
    }

    #[test]
    fn a_file_that_is_gone_for_a_moment_is_waited_for() {
        let mut scene = Scene::of(&["a"]);
        scene.files.remove("a");
        assert_eq!(scene.told_within(20), None);
        scene.files.write("a", 2);
        assert!(scene.told_within(10).is_some());

        scene.files.remove("a");
        assert!(scene.told_within(20).is_none());
        assert!(scene.told_within(20).is_some(), "gone for good");
        assert_eq!(scene.told_within(100), None);
        scene.files.write("a", 2);
        assert!(scene.told_within(10).is_some());
    }

    #[test]
    fn a_file_that_is_not_there_yet_holds_up_no_other() {
        let mut scene = Scene::of(&["a"]);
        scene.watched.set_files(vec!["a".into(), "new".into()], &scene.files);
        scene.files.write("a", 2);
        assert!(scene.told_within(10).is_some());
        scene.files.write("new", 1);
        assert!(scene.told_within(10).is_some());
        scene.watched.set_files(vec!["a".into()], &scene.files);
        scene.files.write("new", 2);
        assert_eq!(scene.told_within(100), None, "not watched any more");
    }

    #[test]
    fn what_was_caught_up_with_is_not_told() {
        let mut scene = Scene::of(&["a"]);
        scene.files.write("a", 2);
        assert_eq!(scene.told_within(2), None);
        assert!(scene.watched.catch_up(&scene.files));
        assert_eq!(scene.told_within(100), None);
        scene.files.write("a", 3);
        assert!(scene.told_within(10).is_some());
    }

    #[test]
    fn a_real_file_that_is_replaced_by_another_has_another_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&path, "one").unwrap();
        std::fs::write(&other, "two").unwrap();
        let before = (Disk.stamp(&path).unwrap(), Disk.contents(&path).unwrap());
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(Disk.stamp(&path).unwrap(), before.0);
        assert_ne!(Disk.contents(&path).unwrap(), before.1);
        assert_eq!((Disk.stamp(&other), Disk.contents(&other)), (None, None));
    }
}
