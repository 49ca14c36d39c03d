//! Streams of a caller whose credential ends.

use std::sync::Arc;

use serde_json::json;
use tenure::clock::{Clock, Timestamp};
use tenure::store::InMemoryBackend;
use tenure_mcp::Callers;
use tenure_mcp::identity::JwtVerifier;

use crate::harness::{Client, Server};
use crate::legacy;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A server that shows the project `acme`, and a client that may read it for a minute.
async fn server() -> (Server, Client) {
    let clock = Clock::manual(Timestamp::from_millis(1_785_240_000_000));
    let verifier = JwtVerifier::hs256(SECRET, clock.clone()).unwrap();
    let backend = Arc::new(InMemoryBackend::new(clock.clone()));
    let callers = Callers::jwt(verifier);
    let server = Server::described(backend, clock, callers, |it| it.resources(["acme"])).await;
    let claims =
        json!({ "sub": "alice", "exp": 1_785_240_060, "tenure_projects": { "acme": "read" } });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let mut client = server.client();
    client.token = Some(token);
    (server, client)
}

#[tokio::test]
async fn a_stream_ends_with_the_credential_that_let_it_in() {
    let (server, client) = server().await;
    let id = client.create("wait").await;
    server.begun(1).await;
    let mut plain = client.events("/v1/tasks/events").await;
    let mut tasks = client.listen(&[&id]).await;
    let mut prompts = client.listen_with(json!({ "promptsListChanged": true })).await;
    let (session, _) = legacy::open(&client).await;
    let mut standalone = legacy::standalone(&client, &session).await;
    assert_eq!(plain.next().await.unwrap()["id"], id);
    tasks.next().await.unwrap();
    tasks.task().await;
    prompts.next().await.unwrap();

    // The clocks of the signer and of the server may differ by half a minute.
    server.clock.advance_millis(90_000);
    for stream in [&mut tasks, &mut prompts] {
        assert_eq!(stream.next().await.unwrap()["result"]["resultType"], "complete");
        assert_eq!(stream.next().await, None);
    }
    assert_eq!(plain.next().await, None);
    assert_eq!(standalone.next().await, None);
    assert_eq!(client.reply("tools/list", json!({})).await.status, 401);
}

#[tokio::test]
async fn that_a_credential_ends_is_no_failure_of_what_it_listened_to() {
    let (server, client) = server().await;
    let uri = "tenure://acme/agent/a";
    let mut streams = Vec::new();
    // Many: whether a stream or its feed sees the end first is left to chance.
    for _ in 0..32 {
        let mut stream = client.listen_with(json!({ "resourceSubscriptions": [uri] })).await;
        stream.next().await.unwrap();
        assert_eq!(stream.next().await.unwrap()["params"]["uri"], uri);
        streams.push(stream);
    }
    server.clock.advance_millis(90_000);
    for mut stream in streams {
        assert_eq!(stream.next().await.unwrap()["result"]["resultType"], "complete");
        assert_eq!(stream.next().await, None);
    }
}
