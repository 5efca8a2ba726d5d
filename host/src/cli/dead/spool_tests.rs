#![allow(clippy::unwrap_used)]
use super::*;
use std::time::Duration;
use std::time::UNIX_EPOCH;

fn event(id: &str) -> Event {
    Event {
        id: id.into(),
        source: "/s".into(),
        kind: "t".into(),
        data: "{\n \"a\": 1}".into(),
        content_type: Some("application/json".into()),
        attributes: vec![("x".into(), "1".into()), ("x".into(), "2".into())],
        ordering_key: None,
    }
}

struct Scene {
    folder: tempfile::TempDir,
    store: Store,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("dead")).unwrap();
        Self { folder, store }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("dead/a.jsonl")
    }

    fn open(&self) -> Spool {
        Spool::open(self.path(), "dead/a").unwrap()
    }
}

fn numbers(spool: &Spool) -> Vec<u64> {
    spool.letters().map(|letter| letter.number).collect()
}

#[test]
fn letters_are_there_again_byte_for_byte_and_once() {
    let scene = Scene::new();
    let mut spool = scene.open();
    let (a, b) = (event("a"), event("b"));
    assert_eq!(spool.add(&scene.store, &[&a, &b, &a]).unwrap(), 2);
    drop(spool);
    let mut spool = scene.open();
    assert_eq!(spool.add(&scene.store, &[&b]).unwrap(), 0, "delivered again");
    let found: Vec<_> = spool.letters().map(|letter| letter.event.clone()).collect();
    assert_eq!(found, [a, b]);
}

#[test]
fn one_event_that_two_subscriptions_gave_up_is_two_letters() {
    let scene = Scene::new();
    let mut spool = scene.open();
    let of = |subscription: &str| {
        let mut event = event("a");
        event.attributes.push(("deadlettersubscription".into(), subscription.into()));
        event
    };
    assert_eq!(spool.add(&scene.store, &[&of("one"), &of("two"), &of("one")]).unwrap(), 2);
}

#[test]
fn numbers_are_given_once() {
    let scene = Scene::new();
    let mut spool = scene.open();
    spool.add(&scene.store, &[&event("a"), &event("b")]).unwrap();
    spool.remove(&[2]).unwrap();
    spool.close().unwrap();
    let mut spool = scene.open();
    spool.add(&scene.store, &[&event("b")]).unwrap();
    assert_eq!(numbers(&spool), [1, 3]);
    spool.remove(&[1, 3]).unwrap();
    spool.close().unwrap();
    assert!(!scene.path().exists());
    // Also where the note of the next one was lost.
    std::fs::write(scene.folder.path().join("dead/next"), "").unwrap();
    let mut spool = scene.open();
    spool.add(&scene.store, &[&event("a")]).unwrap();
    std::fs::write(scene.folder.path().join("dead/next"), "").unwrap();
    spool.add(&scene.store, &[&event("c")]).unwrap();
    assert_eq!(numbers(&spool), [1, 2]);
}

#[test]
fn what_was_being_written_at_the_end_is_left_out() {
    let scene = Scene::new();
    let mut spool = scene.open();
    spool.add(&scene.store, &[&event("a"), &event("b")]).unwrap();
    drop(spool);
    let whole = std::fs::read(scene.path()).unwrap();
    for cut in 1..60 {
        std::fs::write(scene.path(), &whole[..whole.len() - cut]).unwrap();
        let mut spool = scene.open();
        assert_eq!(numbers(&spool), [1], "cut by {cut}");
        spool.add(&scene.store, &[&event("c")]).unwrap();
        drop(spool);
        assert_eq!(scene.open().letters().count(), 2, "cut by {cut}");
    }
}

#[test]
fn a_removal_holds_without_an_orderly_end() {
    let scene = Scene::new();
    let mut spool = scene.open();
    spool.add(&scene.store, &[&event("a"), &event("b")]).unwrap();
    spool.remove(&[1]).unwrap();
    drop(spool);
    let mut spool = scene.open();
    assert_eq!(numbers(&spool), [2]);
    assert_eq!(spool.add(&scene.store, &[&event("a")]).unwrap(), 1, "it died again");
    spool.close().unwrap();
    assert_eq!(numbers(&scene.open()), [2, 3]);
    assert!(!std::fs::read_to_string(scene.path()).unwrap().contains("removed"));
}

#[test]
fn damage_is_an_error_that_names_the_line() {
    let scene = Scene::new();
    let mut spool = scene.open();
    spool.add(&scene.store, &[&event("a")]).unwrap();
    drop(spool);
    for (damage, part) in
        [("{\"topic\"\n", "line 2: column "), ("{}\n", "line 2: it is no dead letter")]
    {
        let mut text = std::fs::read_to_string(scene.path()).unwrap();
        text.truncate(text.find('\n').unwrap() + 1);
        text.push_str(damage);
        std::fs::write(scene.path(), text).unwrap();
        let error = Spool::open(scene.path(), "dead/a").err().unwrap().to_string();
        assert!(error.starts_with(part), "{error}");
    }
}

#[test]
fn there_is_room_up_to_the_bounds() {
    let scene = Scene::new();
    let mut spool = scene.open();
    let event = event("a");
    assert!(spool.has_room(&[&event]));
    spool.bytes = BYTES_MAX - 2 * event.size() as u64;
    assert!(spool.has_room(&[&event]));
    spool.bytes += 1;
    assert!(!spool.has_room(&[&event]));
    spool.bytes = 0;
    assert!(!spool.has_room(&vec![&event; LETTERS_MAX + 1]));
}

#[test]
fn one_process_at_a_time_has_the_folder() {
    let scene = Scene::new();
    let error = Store::open(scene.folder.path().join("dead")).err().unwrap().render(false);
    assert!(error.starts_with("error: another `wasi-pubsub dead` is at work on "), "{error}");
    drop(scene.store);
    Store::open(scene.folder.path().join("dead")).unwrap();
}

#[test]
fn times_are_written_as_rfc_3339_says() {
    for (seconds, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_399, "2000-02-28T23:59:59Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (951_868_800, "2000-03-01T00:00:00Z"),
        (1_709_164_800, "2024-02-29T00:00:00Z"),
        (1_795_251_661, "2026-11-21T09:01:01Z"),
        (4_102_444_800, "2100-01-01T00:00:00Z"),
    ] {
        assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
    }
}
