//! What is kept is what was published.

use super::*;
use bytes::Bytes;

fn everything() -> Event {
    Event {
        id: "1".into(),
        source: "urn:\"quoted\" é".into(),
        kind: String::new(),
        data: Bytes::from_static(&[0, 159, 146, 150, 255]),
        content_type: Some("application/octet-stream".into()),
        attributes: vec![
            ("b".into(), "1".into()),
            ("a".into(), String::new()),
            ("b".into(), "zwei \u{1F980}".into()),
        ],
        ordering_key: Some("key".into()),
    }
}

#[tokio::test]
async fn an_event_keeps_everything_over_a_restart() {
    let folder = Folder::new();
    let storage = folder.open();
    let mut full = publication("a/b", everything(), at(5));
    full.qos = Qos::EffectivelyOnce;
    full.from = Some("me".into());
    assert_eq!(answer(storage.append(full)).await.unwrap(), 1);
    let empty = publication("é/$x", Event::default(), at(6));
    assert_eq!(answer(storage.append(empty)).await.unwrap(), 2);
    storage.close().await;
    drop(storage);

    let storage = folder.open();
    assert_eq!((storage.last_number(), storage.durable_number()), (2, 2));
    let found = page(&storage, of("#", 1, None), 10).await.events;
    let [full, empty] = &found[..] else { panic!("{found:?}") };
    assert_eq!(*full.event, everything());
    assert_eq!((full.number, full.time, full.qos), (1, at(5), Qos::EffectivelyOnce));
    assert_eq!((full.topic.as_str(), full.from.as_deref()), ("a/b", Some("me")));
    assert_eq!(*empty.event, Event::default());
    assert_eq!((empty.topic.as_str(), empty.from.as_deref()), ("é/$x", None));
    assert_sound(&folder.path());
}

#[tokio::test]
async fn times_never_go_back() {
    let folder = Folder::new();
    let storage = folder.open();
    for millis in [50, 20, 70] {
        answer(storage.append(publication("a", event("x", ""), at(millis)))).await.unwrap();
    }
    storage.close().await;
    drop(storage);
    let storage = folder.open();
    answer(storage.append(publication("a", event("x", ""), at(10)))).await.unwrap();
    let found = page(&storage, of("a", 1, None), 10).await;
    let times: Vec<_> = found.events.iter().map(|stored| stored.time).collect();
    assert_eq!(times, [at(50), at(50), at(70), at(70)]);
    // From 50 on, and above all of them.
    for (millis, number) in [(0, 1), (50, 1), (51, 3), (70, 3), (71, 5)] {
        assert_eq!(storage.number_at(at(millis)).await.unwrap(), number, "{millis}");
    }
}

#[tokio::test]
async fn what_is_not_kept_gets_a_number_only() {
    let folder = Folder::new();
    let storage = folder.open();
    let mut unkept = publication("a", event("x", ""), at(0));
    unkept.is_kept = false;
    assert!(matches!(storage.append(unkept), Appended::Now(1, _)));
    assert_eq!(publish(&storage, "a", 2).await, 2);
    assert_eq!(all(&storage, "#").await, [2]);
    // One of qos 0 does not wait for the disk, but is kept.
    let mut kept = publication("a", event("x", ""), at(0));
    kept.qos = Qos::AtMostOnce;
    let Appended::Later(mut reply) = storage.append(kept) else { panic!() };
    assert_eq!(reply.try_recv().unwrap(), Ok(3));
    storage.close().await;
    drop(storage);
    assert_eq!(all(&folder.open(), "#").await, [2, 3]);
}

#[tokio::test]
async fn what_may_not_come_twice_is_known_after_a_restart() {
    let folder = Folder::new();
    let storage = folder.open();
    for (millis, hash) in [(0, 1), (10, u128::MAX), (5_000, 3)] {
        let mut once = publication("a", event("x", ""), at(millis));
        once.once = Some((hash, at(millis + 1000)));
        once.is_kept = hash != 3;
        answer(storage.append(once)).await.unwrap();
    }
    storage.close().await;
    drop(storage);
    // What was over when the last one came was forgotten.
    assert_eq!(folder.open().load().unwrap().once, [(3, at(6_000))]);
}

#[tokio::test]
async fn after_the_end_everything_fails_in_words() {
    let folder = Folder::new();
    let storage = folder.open();
    publish(&storage, "a", 1).await;
    storage.close().await;
    let error = answer(storage.append(publication("a", event("x", ""), at(0)))).await.unwrap_err();
    assert!(error.message.ends_with("events.db` is closed"), "{error}");
    assert!(storage.number_at(at(0)).await.is_err());
    assert!(storage.remove_snapshot("x").await.is_err());
    let closed = Fetch { which: of("#", 1, None), events_max: 1, bytes_max: 1 };
    assert!(fetch(&storage, closed).await.is_err());
    storage.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_publish_at_once() {
    let folder = Folder::new();
    let storage = Arc::new(folder.open());
    let publishers: Vec<_> = (0..64)
        .map(|publisher| {
            let storage = storage.clone();
            tokio::spawn(async move {
                let mut given = Vec::new();
                for id in 0..20 {
                    given.push(publish(&storage, &format!("t/{}", publisher % 5), id).await);
                }
                assert!(given.is_sorted());
                given
            })
        })
        .collect();
    // Somebody reads along: what is there never shows a gap that is filled later.
    let reader = storage.clone();
    let follower = tokio::spawn(async move {
        let (mut from, mut seen) = (1, Vec::new());
        while seen.len() < 64 * 20 {
            let page = page(&reader, of("t/+", from, None), 50).await;
            seen.extend(numbers(&page));
            from = page.next;
        }
        seen
    });
    let mut given = Vec::new();
    for publisher in publishers {
        given.extend(publisher.await.unwrap());
    }
    given.sort_unstable();
    assert_eq!(given, (1..=64 * 20).collect::<Vec<_>>());
    assert_eq!(follower.await.unwrap(), given);
    storage.close().await;
    assert_sound(&folder.path());
}

#[tokio::test]
async fn a_full_store_takes_nothing_but_dead_letters_until_it_is_trimmed() {
    let folder = Folder::new();
    let storage = folder.open_with(&Options { max_bytes: 1000, ..Options::default() });
    let sized = |bytes: usize| publication("a", event("", vec![0; bytes - 10]), at(0));
    answer(storage.append(sized(600))).await.unwrap();
    assert!(matches!(storage.append(sized(401)), Appended::Full(_)));
    let mut letter = sized(5000);
    letter.is_dead_letter = true;
    assert_eq!(answer(storage.append(letter)).await.unwrap(), 2);
    let trim = trims::everything("a");
    assert_eq!(storage.trim(trim).await.unwrap().bytes, 5600);
    answer(storage.append(sized(1000))).await.unwrap();
    // The bound holds after a restart.
    storage.close().await;
    drop(storage);
    let storage = folder.open_with(&Options { max_bytes: 1000, ..Options::default() });
    assert!(matches!(storage.append(sized(11)), Appended::Full(_)));
}
