//! The quota of an owner holds across processes, exactly.

use futures::stream::{self, StreamExt as _};
use serde_json::{Value, json};

use crate::client::{Client, Refusal, cancel, create, created};
use crate::server::{Server, Settings};

const QUOTA: u32 = 10;
const CREATES: usize = 200;

/// Many creates at once, half of them at each of two servers.
pub(crate) async fn is_exact(settings: Settings) {
    let settings = Settings { unfinished_per_owner: QUOTA, ..settings };
    let (a, b) = tokio::join!(Server::start(&settings), Server::start(&settings));
    let (client, urls) = (Client::new(), [&a.url, &b.url]);
    let create = |number: usize| {
        let request = create("wait", json!({ "label": number.to_string() }), None);
        client.call(urls[number % 2], request)
    };
    let replies: Vec<_> =
        stream::iter(0..CREATES).map(create).buffer_unordered(CREATES).collect().await;
    let (taken, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(Result::is_ok);
    let refused_for: Vec<Value> = refused.into_iter().map(error).collect();
    assert_eq!(taken.len(), QUOTA as usize, "{refused_for:?}");
    assert!(refused_for.iter().all(|error| error["code"] == -32600), "{refused_for:?}");

    // A place that is given back at one server is free at the other.
    let id = created(taken[0].as_ref().unwrap());
    client.call(&a.url, cancel(&id)).await.unwrap();
    create(1).await.unwrap();
    assert_eq!(error(create(0).await)["code"], -32600);
}

fn error(reply: Result<Value, Refusal>) -> Value {
    match reply {
        Err(Refusal::Error(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_file_keep_to_it() {
    let folder = tempfile::tempdir().unwrap();
    is_exact(Settings::on_file(folder.path())).await;
}
