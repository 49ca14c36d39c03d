//! What somebody else has stored, or has done to what we had stored.

use std::sync::Arc;

use futures::StreamExt as _;
use redis::Cmd;
use tenure::clock::Clock;
use tenure::store::{PageRequest, StorageBackend as _, StoreError, WatchEvent, WatchFrom};

use crate::server::shared_url;
use crate::store::{STANDSTILL, key, open_with, options, partition, write};

async fn raw(url: &str, args: &[&str]) {
    let mut raw =
        redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut cmd = Cmd::new();
    cmd.arg(args).exec_async(&mut raw).await.unwrap();
}

#[tokio::test]
async fn somebody_elses_data_at_a_record_is_damage_and_stays() {
    let (url, options) = (shared_url(), options());
    let store = open_with(&url, options.clone(), Clock::system()).await;
    let record = format!("{}:{{/p}}:record:a", options.prefix);
    for write_it in [["SET", &record, "theirs"].as_slice(), &["HSET", &record, "their", "field"]] {
        raw(&url, write_it).await;
        let refused = store.put(&key("a"), write("x")).await;
        assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{refused:?}");
        raw(&url, &["DEL", &record]).await;
    }
    store.put(&key("a"), write("x")).await.unwrap();
    raw(&url, &["SET", &record, "theirs"]).await;
    let page = store.list_by_prefix(&partition(), "", PageRequest::default()).await.unwrap();
    assert_eq!(page.damaged.iter().map(|it| &it.key).collect::<Vec<_>>(), [&key("a")]);
    assert!(page.entries.is_empty());
    assert!(matches!(store.get(&key("a")).await, Err(StoreError::Damaged { .. })));
    raw(&url, &["DEL", &record]).await;
    raw(&url, &["HSET", &record, "version", "nonsense", "data", "x"]).await;
    assert!(matches!(store.get(&key("a")).await, Err(StoreError::Damaged { .. })));
    let refused = store.put(&key("a"), write("x")).await;
    assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{refused:?}");
}

/// What `break_it` does to `b`, `d` and the last, `f`, hides none of the others, whatever the
/// size of the pages.
async fn lists_around(break_it: impl AsyncFn(&str, &str)) {
    let (url, options) = (shared_url(), options());
    let store = open_with(&url, options.clone(), Clock::system()).await;
    for name in ["a", "b", "c", "d", "e", "f"] {
        store.put(&key(name), write("x")).await.unwrap();
    }
    for name in ["b", "d", "f"] {
        break_it(&url, &format!("{}:{{/p}}:record:{name}", options.prefix)).await;
    }
    for limit in 1..=7 {
        let (mut names, mut damaged) = (Vec::new(), Vec::new());
        let mut request = PageRequest::first(limit);
        loop {
            let page = store.list_by_prefix(&partition(), "", request).await.unwrap();
            assert!(page.items().len() <= limit);
            names.extend(page.entries.iter().map(|it| it.key.name().to_owned()));
            damaged.extend(page.damaged.iter().map(|it| it.key.name().to_owned()));
            match page.next {
                Some(next) => request = PageRequest::after(next, limit),
                None => break,
            }
        }
        assert_eq!((names.concat(), damaged.concat()), ("ace".into(), "bdf".into()), "{limit}");
    }
    for name in ["b", "d", "f"] {
        let refused = store.get(&key(name)).await;
        assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn somebody_elses_data_in_a_page_hides_no_record() {
    lists_around(async |url, record| {
        raw(url, &["DEL", record]).await;
        raw(url, &["SET", record, "theirs"]).await;
    })
    .await;
}

#[tokio::test]
async fn a_record_that_lacks_a_field_or_a_part_of_its_head_hides_no_other() {
    for field in ["version", "data"] {
        lists_around(async |url, record| raw(url, &["HDEL", record, field]).await).await;
    }
    let token = "1-0123456789abcdef";
    let created = format!("{token} 0001795000000000");
    for head in [
        "?",
        token,
        &format!("{token} ?"),
        &format!("{created}?"),
        &format!("{created};"),
        &format!("{created};?;;;"),
        &format!("{created};;;;tag"),
    ] {
        lists_around(async |url, record| raw(url, &["HSET", record, "version", head]).await).await;
    }
}

/// Nor is it written over, which would lose what is left of it and tell watches what they cannot read.
#[tokio::test]
async fn a_record_with_a_damaged_head_is_not_written_over() {
    let (url, options) = (shared_url(), options());
    let store = open_with(&url, options.clone(), Clock::system()).await;
    let record = format!("{}:{{/p}}:record:a", options.prefix);
    let mut watch = store.watch(&partition(), WatchFrom::Now).await.unwrap();
    let (stamp, created) = ("0123456789abcdef", "0001795000000000");
    for start in [
        "?".into(),
        format!("1-{stamp}"),
        format!("1-{stamp} {created}?"),
        format!("1-{stamp}x{created}"),
        format!("1-{stamp} 000179500000000x"),
        format!("1-0123456789abcdeg {created}"),
        format!("0x5-{stamp} {created}"),
        format!(" 5-{stamp} {created}"),
        format!("5.5-{stamp} {created}"),
        format!("nan-{stamp} {created}"),
    ] {
        for kept in [0, 2] {
            let attributes = if kept == 0 { "" } else { ";;;;" };
            let head = format!("{start}{attributes}");
            raw(&url, &["HSET", &record, "version", &head, "data", "old"]).await;
            let refused = store.put(&key("a"), write("new").keeping(kept)).await;
            assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{head}: {refused:?}");
            let mut server = redis::Client::open(&*url).unwrap().get_connection().unwrap();
            let fields: std::collections::BTreeMap<String, String> =
                Cmd::new().arg("HGETALL").arg(&record).query(&mut server).unwrap();
            let told = fields.iter().map(|(name, value)| (&**name, &**value)).collect::<Vec<_>>();
            assert_eq!(told, [("data", "old"), ("version", &*head)]);
        }
    }
    store.put(&key("b"), write("x")).await.unwrap();
    let told = tokio::time::timeout(STANDSTILL, watch.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(told, WatchEvent::Change(it) if it.key == key("b")));
}

#[tokio::test]
async fn what_is_no_name_hides_no_record() {
    let (url, options) = (shared_url(), options());
    let store = open_with(&url, options.clone(), Clock::system()).await;
    for name in ["a", "b", "c"] {
        store.put(&key(name), write("x")).await.unwrap();
    }
    let base = format!("{}:{{/p}}:", options.prefix);
    let server = redis::Client::open(url).unwrap();
    let mut server = server.get_multiplexed_async_connection().await.unwrap();
    for name in [b"a\xff".to_vec(), b"b".repeat(5_000), b"c\xff".to_vec(), b"d\xff".to_vec()] {
        let record = [base.as_bytes(), b"record:", &name].concat();
        for (command, key, field) in
            [("ZADD", format!("{base}index").as_bytes(), &b"0"[..]), ("HSET", &record, b"data")]
        {
            let mut cmd = Cmd::new();
            cmd.arg(command).arg(key).arg(field).arg(&name);
            cmd.exec_async(&mut server).await.unwrap();
        }
    }
    for limit in 1..=8 {
        let (mut names, mut request) = (String::new(), PageRequest::first(limit));
        loop {
            let page = store.list_by_prefix(&partition(), "", request).await.unwrap();
            assert!(page.entries.len() <= limit && page.damaged.is_empty());
            names.extend(page.entries.iter().map(|it| it.key.name()));
            match page.next {
                Some(next) => request = PageRequest::after(next, limit),
                None => break,
            }
        }
        assert_eq!(names, "abc", "{limit}");
    }
}

/// Takes the data from the one record whose key fits the pattern.
async fn lose_data(url: &str, pattern: &str) {
    let server = redis::Client::open(url).unwrap();
    let mut server = server.get_multiplexed_async_connection().await.unwrap();
    let found: Vec<String> =
        Cmd::new().arg("KEYS").arg(pattern).query_async(&mut server).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    raw(url, &["HDEL", &found[0], "data"]).await;
}

#[tokio::test]
async fn tasks_and_resources_are_listed_around_what_cannot_be_read() {
    use tenure::resources::{Document, ResourceError, ResourceKey, ResourceStore};
    use tenure::tasks::{Call, NewTask, TaskError, TaskStore};

    let (url, options) = (shared_url(), options());
    let store = Arc::new(open_with(&url, options.clone(), Clock::system()).await);
    let tasks = TaskStore::new(store.clone(), Clock::system());
    let owner = tenure::Owner::new("me").unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(
            tasks
                .create(&owner, NewTask::new(Call::new("tool", Default::default())))
                .await
                .unwrap()
                .id,
        );
    }
    ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    lose_data(&url, &format!("{}:*:record:{}", options.prefix, ids[1])).await;
    let page = tasks.list(&owner, PageRequest::default()).await.unwrap().tasks;
    assert!(
        matches!(&page[..], [Ok(a), Err(TaskError::Unreadable { id, .. }), Ok(c)]
        if a.id == ids[0] && *id == ids[1] && c.id == ids[2]),
        "{page:?}"
    );

    let resources = ResourceStore::new(store, Clock::system());
    for id in ["a", "b", "c"] {
        let key = ResourceKey::new("acme", "agent", id).unwrap();
        resources.put(&key, &Document::parse("{}").unwrap()).await.unwrap();
    }
    lose_data(&url, &format!("{}:*acme*:record:*b", options.prefix)).await;
    let page = resources.list("acme", None, PageRequest::default()).await.unwrap().items;
    assert!(
        matches!(&page[..], [Ok(_), Err(ResourceError::Store(StoreError::Damaged { .. })), Ok(_)]),
        "{page:?}"
    );
}

#[tokio::test]
async fn somebody_elses_data_at_an_index_or_log_is_foreign_and_nothing_is_written() {
    for kind in ["index", "log", "counted"] {
        let (url, options) = (shared_url(), options());
        let store = open_with(&url, options.clone(), Clock::system()).await;
        let theirs = format!("{}:{{/p}}:{kind}", options.prefix);
        raw(&url, &["SET", &theirs, "theirs"]).await;
        let refused = store.put(&key("a"), write("x").counted_within(1)).await;
        let names_the_partition = |error: &StoreError| {
            let words = "the partition \"p\"";
            matches!(error, StoreError::Foreign(reason) if reason.contains(words))
        };
        assert!(refused.as_ref().is_err_and(names_the_partition), "{kind}: {refused:?}");
        if kind == "index" {
            let listed = store.list_by_prefix(&partition(), "", PageRequest::default()).await;
            assert!(listed.as_ref().is_err_and(names_the_partition), "{listed:?}");
        }
        assert_eq!(store.get(&key("a")).await.unwrap(), None, "{kind}");
        raw(&url, &["DEL", &theirs]).await;
        let other = store.put(&key("b"), write("x").counted_within(1)).await;
        assert!(other.is_ok(), "a refused write of the {kind} counts: {other:?}");
    }
}

#[tokio::test]
async fn a_record_that_a_foreign_log_keeps_from_being_counted_does_not_count() {
    let (url, options) = (shared_url(), options());
    let store = open_with(&url, options.clone(), Clock::system()).await;
    store.put(&key("a"), write("x")).await.unwrap();
    let log = format!("{}:{{/p}}:log", options.prefix);
    raw(&url, &["DEL", &log]).await;
    raw(&url, &["SET", &log, "theirs"]).await;
    let refused = store.put(&key("a"), write("y").counted_within(1)).await;
    assert!(matches!(refused, Err(StoreError::Foreign(_))), "{refused:?}");
    raw(&url, &["DEL", &log]).await;
    store.put(&key("b"), write("x").counted_within(1)).await.unwrap();
}
