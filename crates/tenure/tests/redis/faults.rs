//! Servers that die or pause, and connections that lose what they carry: what becomes of calls.

use std::time::{Duration, Instant};

use tenure::clock::Clock;
use tenure::store::{Precondition, StorageBackend as _, StoreError};

use crate::proxy::Proxy;
use crate::server::{Server, calls};
use crate::store::{
    STANDSTILL, impatient, key, open, open_with, options, partition, when_back, write,
};

/// Lets go of the one write that is held back, and waits until it has arrived.
fn release_late_write(proxy: &Proxy, server: &Server) {
    let before = calls(&server.cli(&["INFO", "commandstats"]), "evalsha");
    proxy.release_requests();
    server.wait_for("late write", &["INFO", "commandstats"], |it| calls(it, "evalsha") > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_no_acknowledged_write() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(&server.url()).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let (key, mut acknowledged) = (key(&format!("{writer}")), 0_u64);
                let until = Instant::now() + Duration::from_secs(3);
                while acknowledged == 0 || Instant::now() < until {
                    match store.put(&key, write("x")).await {
                        Ok(token) => {
                            assert!(token.version() > acknowledged);
                            acknowledged = token.version();
                        }
                        Err(StoreError::Unavailable { .. } | StoreError::OutcomeUnknown(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                (key, acknowledged)
            })
        })
        .collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        server.kill();
        server.launch();
    }
    for writer in writers {
        let (key, acknowledged) = writer.await.unwrap();
        let record = when_back(async || store.get(&key).await).await.unwrap();
        assert!(acknowledged > 0 && record.token.version() >= acknowledged);
    }
}

#[tokio::test]
async fn a_paused_server_fails_calls_in_bounded_time_and_comes_back() {
    let server = Server::start(&[]);
    let store = open_with(&server.url(), impatient(), Clock::system()).await;
    when_back(async || store.put(&key("a"), write("x")).await).await;
    server.pause();
    let started = Instant::now();
    let read = store.get(&key("a")).await;
    assert!(matches!(&read, Err(error) if error.is_retryable()), "{read:?}");
    let written = store.put(&key("a"), write("y")).await;
    assert!(
        matches!(written, Err(StoreError::Unavailable { .. } | StoreError::OutcomeUnknown(_))),
        "{written:?}"
    );
    assert!(started.elapsed() < 6 * STANDSTILL, "{:?}", started.elapsed());
    server.resume();
    when_back(async || store.put(&key("a"), write("z")).await).await;
    let record = when_back(async || store.get(&key("a")).await).await;
    assert_eq!(record.unwrap().value, "z");
}

#[tokio::test]
async fn a_lost_answer_is_settled_for_every_kind_of_write() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let store = open(&proxy.url()).await;
    for round in 1..=5 {
        let name = key(&format!("{round}"));
        proxy.lose_answers(1);
        let created = store.put_if_version(&name, write("1"), Precondition::Absent).await.unwrap();
        assert_eq!(created.version(), 1);
        proxy.lose_answers(1);
        let put = store.put(&name, write("2")).await.unwrap();
        assert_eq!(put.version(), 2, "the write was applied twice");
        proxy.lose_answers(1);
        let matched = Precondition::Matches(put);
        let updated = store.put_if_version(&name, write("3"), matched).await.unwrap();
        assert_eq!(store.get(&name).await.unwrap().unwrap().token, updated);
        proxy.lose_answers(1);
        let stale = store.put_if_version(&name, write("4"), matched).await;
        assert!(
            matches!(stale, Err(StoreError::VersionConflict { current: Some(at) }) if at.token == updated),
            "{stale:?}"
        );
        proxy.lose_answers(1);
        assert!(store.delete(&name, Precondition::Matches(updated)).await.unwrap());
        assert_eq!(store.get(&name).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_given_up_does_not_land_later() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let options = options().response_timeout(STANDSTILL);
    let store = open_with(&proxy.url(), options, Clock::system()).await;
    for (name, existing) in [("absent", None), ("there", Some("old"))] {
        if let Some(value) = existing {
            store.put(&key(name), write(value)).await.unwrap();
        }
        proxy.delay_requests(1, Duration::from_secs(3_600));
        let token = store.put(&key(name), write("new")).await.unwrap();
        // Somebody else deletes it, which a late second write would undo.
        assert!(store.delete(&key(name), Precondition::Matches(token)).await.unwrap());
        release_late_write(&proxy, &server);
        assert_eq!(store.get(&key(name)).await.unwrap(), None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_lost_writes_of_a_record_none_lands_late() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let options = options().response_timeout(STANDSTILL);
    let store = open_with(&proxy.url(), options, Clock::system()).await;
    proxy.delay_requests(1, Duration::from_secs(3_600));
    store.put(&key("a"), write("late")).await.unwrap();
    let mut unknown = 0;
    for _ in 0..40 {
        proxy.lose_requests(1);
        match store.put(&key("a"), write("x")).await {
            Ok(_) => {}
            Err(StoreError::OutcomeUnknown(_)) => unknown += 1,
            Err(error) => panic!("{error}"),
        }
    }
    // More than can be remembered: that is said, and nothing is forgotten for it.
    assert_eq!(unknown, 40 - 31);
    let last = when_back(async || store.put(&key("a"), write("last")).await).await;
    release_late_write(&proxy, &server);
    let record = store.get(&key("a")).await.unwrap().unwrap();
    assert_eq!((record.token, &record.value[..]), (last, &b"last"[..]));
}

#[tokio::test]
async fn a_lost_write_is_remembered_once_and_not_for_ever() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let options = options();
    let store = open_with(&proxy.url(), options.clone(), Clock::system()).await;
    store.put(&key("a"), write("x")).await.unwrap();
    let record = format!("{}:{{/p}}:record:a", options.prefix);
    let fence = || server.cli(&["HGET", &record, "fence"]);
    // A memory full of what was lost long ago has room.
    let old: String = (0..32).map(|index| format!("{index:016x}@1;")).collect();
    server.cli(&["HSET", &record, "fence", &old]);
    proxy.lose_requests(1);
    store.put(&key("a"), write("y")).await.unwrap();
    assert_eq!(fence().matches('@').count(), 1, "{}", fence());
    // The question what became of a write may be lost, too, and is asked again.
    server.cli(&["HDEL", &record, "fence"]);
    proxy.lose_requests(1);
    server.cli(&["SCRIPT", "FLUSH"]);
    proxy.lose_answer_to("Finds out whether a write landed");
    store.put(&key("a"), write("z")).await.unwrap();
    assert_eq!(fence().matches('@').count(), 1, "{}", fence());
}

#[tokio::test]
async fn a_write_whose_fate_is_out_of_reach_is_unknown_and_not_guessed() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(server.port).await;
    let store = open_with(&proxy.url(), impatient(), Clock::system()).await;
    when_back(async || store.put(&key("a"), write("x")).await).await;
    proxy.silence(true);
    let started = Instant::now();
    let lost = store.put(&key("a"), write("y")).await;
    assert!(matches!(lost, Err(StoreError::OutcomeUnknown(_))), "{lost:?}");
    // Nothing more was sent: connecting is what fails now.
    let refused = store.put(&key("a"), write("y")).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert!(started.elapsed() < 6 * STANDSTILL, "{:?}", started.elapsed());
    proxy.silence(false);
    proxy.cut();
    when_back(async || store.put(&key("a"), write("z")).await).await;
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_brought_again() {
    let server = Server::start(&[]);
    let store = open(&server.url()).await;
    for round in 0..3 {
        server.cli(&["SCRIPT", "FLUSH"]);
        store.put(&key(&format!("{round}")), write("x")).await.unwrap();
        server.cli(&["SCRIPT", "FLUSH"]);
        let page = store.list_by_prefix(&partition(), "", Default::default()).await.unwrap();
        assert_eq!(page.entries.len(), round + 1);
    }
}
