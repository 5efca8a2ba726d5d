//! Fetching.

use super::*;

/// Events 1 to 30: those of `a` are odd, `b/1` has 2, 6, …, `b/2` has 4, 8, …
async fn some() -> (Folder, DiskStorage) {
    let folder = Folder::new();
    let storage = folder.open();
    let name = |number: u64| match number % 4 {
        1 | 3 => "a",
        2 => "b/1",
        _ => "b/2",
    };
    publish_all(&storage, (1..=30).map(|number| (name(number).to_owned(), number))).await;
    (folder, storage)
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended() {
    let (_folder, storage) = some().await;
    for filter in ["a", "b/+", "#", "+/1", "none", "$x/#"] {
        let wanted = |number: u64| match filter {
            "a" => number % 2 == 1,
            "b/+" => number.is_multiple_of(2),
            "#" => true,
            "+/1" => number % 4 == 2,
            _ => false,
        };
        for events_max in [1, 2, 7, 100] {
            let (mut found, mut from) = (Vec::new(), 3);
            loop {
                let page = page(&storage, of(filter, from, Some(25)), events_max).await;
                assert!(page.events.len() <= events_max);
                found.extend(numbers(&page));
                assert!(page.next <= 25);
                if page.is_last {
                    assert_eq!(page.next, 25);
                    break;
                }
                assert_eq!(page.events.len(), events_max, "{filter}: more to come");
                from = page.next;
            }
            let expected: Vec<u64> = (3..25).filter(|number| wanted(*number)).collect();
            assert_eq!(found, expected, "{filter} by {events_max}");
        }
    }
}

#[tokio::test]
async fn the_end_is_where_the_last_durable_event_is() {
    let (_folder, storage) = some().await;
    let page_of = async |which| {
        let page = page(&storage, which, 100).await;
        (page.events.len(), page.next, page.is_last)
    };
    assert_eq!(page_of(of("#", 29, None)).await, (2, 31, true));
    assert_eq!(page_of(of("b/1", 29, None)).await, (1, 31, true));
    assert_eq!(page_of(of("#", 31, None)).await, (0, 31, true));
    assert_eq!(page_of(of("#", 99, None)).await, (0, 99, true));
    assert_eq!(page_of(of("#", 1, Some(1))).await, (0, 1, true));
    assert_eq!(page_of(of("#", 30, Some(u64::MAX))).await, (1, 31, true));
}

#[tokio::test]
async fn a_page_has_its_bytes_and_one_event_at_least() {
    let (_folder, storage) = some().await;
    let size = page(&storage, of("#", 10, None), 1).await.events[0].event.size();
    for (bytes_max, events) in [(1, 1), (size, 1), (2 * size, 2), (2 * size + 1, 2)] {
        for filter in ["a", "#"] {
            let which = of(filter, 10, None);
            let page = fetch(&storage, Fetch { which, events_max: 9, bytes_max }).await.unwrap();
            assert_eq!((page.events.len(), page.is_last), (events, false), "{filter} {bytes_max}");
        }
        let which = Which::Numbers((10..20).collect());
        let page = fetch(&storage, Fetch { which, events_max: 9, bytes_max }).await.unwrap();
        assert_eq!((page.events.len(), page.next), (events, 10 + events as u64));
    }
}

#[tokio::test]
async fn numbers_are_found_or_left_out() {
    let (_folder, storage) = some().await;
    let found = page(&storage, Which::Numbers(vec![1, 7, 30, 31, u64::MAX - 1]), 10).await;
    assert_eq!(numbers(&found), [1, 7, 30]);
    assert!(found.is_last);
    let found = page(&storage, Which::Numbers(vec![1, 7, 30]), 2).await;
    assert_eq!((numbers(&found), found.next, found.is_last), (vec![1, 7], 30, false));
    let found = page(&storage, Which::Numbers(Vec::new()), 2).await;
    assert!(found.events.is_empty() && found.is_last);
}

#[tokio::test]
async fn a_page_looks_at_a_bounded_number_of_rows() {
    let folder = Folder::new();
    let storage = folder.open();
    // More topics than are merged, and one event that is far away.
    let names = (0..20_000).map(|number| (format!("busy/{}", number % 20), number));
    publish_all(&storage, names).await;
    publish_all(&storage, (0..9).map(|number| (format!("rare/{number}"), 20_000))).await;
    let first = page(&storage, of("rare/#", 1, None), 10).await;
    assert!(first.events.is_empty() && !first.is_last && first.next < 20_000);
    assert_eq!(all(&storage, "rare/#").await, (20_001..=20_009).collect::<Vec<_>>());
    assert_eq!(all(&storage, "busy/7").await.len(), 1000);
}

#[tokio::test]
async fn events_are_counted_by_topic() {
    let (_folder, storage) = some().await;
    for (text, from, events) in
        [("#", 1, 30), ("#", 11, 20), ("a", 0, 15), ("a", 30, 0), ("b/+", 29, 1), ("x", 1, 0)]
    {
        assert_eq!(storage.count(&filter(text), from).await.unwrap(), events, "{text} {from}");
    }
    let mut topics = storage.topics().await.unwrap();
    topics.sort_by(|one, two| one.topic.cmp(&two.topic));
    let found: Vec<_> = topics
        .iter()
        .map(|stats| (stats.topic.as_str(), stats.events, stats.first, stats.last))
        .collect();
    let at = |number| (number, at(number));
    let expected = [("a", 15, at(1), at(29)), ("b/1", 8, at(2), at(30)), ("b/2", 7, at(4), at(28))];
    assert_eq!(found, expected);
}
