//! Whatever comes in, a clear error goes out, and the server goes on.

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};

use crate::harness::{Client, Reply, Server};

async fn post(client: &Client, body: impl Into<Body>) -> Reply {
    client.send(client.post(body)).await
}

fn error(reply: &Reply) -> (u16, i64) {
    assert_eq!(reply.headers["content-type"], "application/json", "{reply:?}");
    let error = reply.outcome().unwrap_err();
    (reply.status.as_u16(), error["code"].as_i64().unwrap())
}

#[tokio::test]
async fn what_is_not_json_is_a_parse_error() {
    let server = Server::new().await;
    let client = server.client();
    for text in ["", "{", "nonsense", "{\"jsonrpc\":\"2.0\",}", "\u{0}"] {
        assert_eq!(error(&post(&client, text).await), (400, -32700), "{text:?}");
    }
    assert_eq!(error(&post(&client, vec![0xff_u8, 0xfe]).await), (400, -32700));
    // Deeper than any parser should follow.
    assert_eq!(error(&post(&client, "[".repeat(1_000_000)).await), (400, -32700));
}

#[tokio::test]
async fn json_that_is_no_message_is_an_invalid_request() {
    let server = Server::new().await;
    let client = server.client();
    for text in ["null", "7", "\"text\"", "[]", "{}", r#"{"jsonrpc":"2.0"}"#] {
        assert_eq!(error(&post(&client, text).await), (400, -32600), "{text}");
    }
}

#[tokio::test]
async fn wrong_types_in_parameters_are_invalid_params() {
    let server = Server::new().await;
    let client = server.client();
    for (method, params) in [
        ("tasks/get", json!({})),
        ("tasks/get", json!({ "taskId": 7 })),
        ("tasks/update", json!({ "taskId": "x" })),
        ("tasks/update", json!({ "taskId": "x", "inputResponses": [] })),
        ("tasks/cancel", json!({ "taskId": null })),
        ("subscriptions/listen", json!({ "notifications": { "taskIds": "x" } })),
        ("subscriptions/listen", json!({ "notifications": { "taskIds": [1] } })),
    ] {
        let refused = client.call(method, params.clone()).await.unwrap_err();
        assert_eq!(refused["code"], -32602, "{method} {params}");
    }
}

#[tokio::test]
async fn an_unknown_method_and_an_unknown_tool_are_told_apart() {
    let server = Server::new().await;
    let client = server.client();
    for method in ["tasks/list", "tasks/result", "no/such", "subscriptions/unlisten"] {
        let reply = client.reply(method, json!({})).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{method}");
        assert_eq!(reply.outcome().unwrap_err()["code"], -32601, "{method}");
    }
    assert_eq!(client.tool("no such", json!({})).await.unwrap_err()["code"], -32602);
}

#[tokio::test]
async fn an_absurd_id_is_unknown_and_its_error_is_small() {
    let server = Server::new().await;
    let client = server.client();
    for id in [
        "",
        " ",
        "\u{0}",
        "../../etc",
        "tasks:local",
        "{}",
        "*",
        "é\u{202e}\r\n",
        &"x".repeat(1 << 20),
    ] {
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let params = json!({ "taskId": id, "inputResponses": {} });
            let mut request = client.request(method, params);
            // A header cannot carry every id; those that it cannot are encoded (SEP-2243).
            if !id.bytes().all(|byte| byte.is_ascii_graphic()) || id.is_empty() {
                use base64::Engine;
                let encoded = base64::engine::general_purpose::STANDARD.encode(id);
                let header = format!("=?base64?{encoded}?=").parse().unwrap();
                request.headers_mut().insert("mcp-name", header);
            }
            let reply = client.send(request).await;
            let refused = reply.outcome().unwrap_err();
            assert_eq!(refused["code"], -32602, "{method} {id:.20}: {refused}");
            assert!(reply.body.len() < 1_000);
        }
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read_to_its_end() {
    let server = Server::new().await;
    let client = server.client();
    for method in ["tools/call", "subscriptions/listen"] {
        let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = std::sync::Arc::clone(&sent);
        // 100 MB in chunks, without a Content-Length.
        let chunks = stream::iter((0..1_600).map(move |_| {
            counted.fetch_add(65_536, std::sync::atomic::Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 65_536]))
        }));
        let mut request = client.post(Body::from_stream(chunks));
        request.headers_mut().insert("mcp-method", method.parse().unwrap());
        let reply = client.send(request).await;
        assert_eq!(error(&reply), (413, -32600));
        let sent = sent.load(std::sync::atomic::Ordering::Relaxed);
        assert!(sent < 5 << 20, "{sent} bytes were read");
    }
    assert!(client.tool("echo", json!({})).await.is_ok());
}

#[tokio::test]
async fn what_exceeds_a_tasks_limits_is_the_clients_fault() {
    let server = Server::new().await;
    let client = server.client();
    let large = json!({ "text": "x".repeat(65 * 1_024) });
    assert_eq!(client.tool("wait", large).await.unwrap_err()["code"], -32602);
    let mut deep = json!(1);
    for _ in 0..40 {
        deep = json!([deep]);
    }
    assert_eq!(client.tool("wait", json!({ "deep": deep })).await.unwrap_err()["code"], -32602);
    for key in [json!(""), json!(7), json!("x".repeat(1_000))] {
        let client = server.client().with_meta(json!({ "io.tenure/idempotencyKey": key }));
        let refused = client.tool("wait", json!({})).await.unwrap_err();
        assert_eq!(refused["code"], -32602);
    }
    assert_eq!(*server.tools.begun.borrow(), 0);
}

#[tokio::test]
async fn an_answer_of_the_wrong_form_is_refused_and_can_be_corrected() {
    let server = Server::new().await;
    let client = server.client();
    let id = client.create("rounds").await;
    let asked = server.task(&id, |task| task.pending_inputs().next().is_some()).await;
    let (key, _) = asked.pending_inputs().next().unwrap();
    for answer in [json!(7), json!("accept"), json!({}), json!({ "action": "perhaps" })] {
        let refused = client.update(&id, json!({ key: answer })).await.unwrap_err();
        assert_eq!(refused["code"], -32602);
        assert!(refused["message"].as_str().unwrap().starts_with("inputResponses.r1.name: "));
    }
    for content in [json!({ "name": 7 }), json!({ "nom": "Ada" }), json!({}), json!(null)] {
        let answer = json!({ "action": "accept", "content": content });
        let refused = client.update(&id, json!({ key: answer })).await.unwrap_err();
        assert_eq!(refused["code"], -32602);
        let message = refused["message"].as_str().unwrap();
        assert!(message.starts_with("inputResponses.r1.name: content.name: "), "{message}");
    }
    assert_eq!(server.task(&id, |_| true).await, asked, "an answer was consumed");
    client.update(&id, json!({ key: { "action": "decline" } })).await.unwrap();
}

#[tokio::test]
async fn a_foreign_host_or_origin_is_refused() {
    let server = Server::new().await;
    let client = server.client();
    for (header, value) in [("host", "evil.example"), ("origin", "https://evil.example")] {
        let mut request = client.request("tools/list", json!({}));
        request.headers_mut().insert(header, value.parse().unwrap());
        let reply = client.send(request).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
        assert_eq!(error(&reply).1, -32600);
    }
    let mut request = client.request("tools/list", json!({}));
    request.headers_mut().insert("origin", "http://localhost:6274".parse().unwrap());
    assert_eq!(client.send(request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn other_methods_and_media_types_are_refused_as_json() {
    let server = Server::new().await;
    let client = server.client();
    let mut put = client.post("{}");
    *put.method_mut() = axum::http::Method::PUT;
    assert_eq!(error(&client.send(put).await).0, 405);
    let mut text = client.post("{}");
    text.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(error(&client.send(text).await).0, 415);
    let mut deaf = client.post("{}");
    deaf.headers_mut().insert("accept", "text/html".parse().unwrap());
    assert_eq!(error(&client.send(deaf).await).0, 406);
}

#[tokio::test]
async fn health_needs_no_token() {
    let server = Server::with_callers().await;
    let client = server.client();
    let mut request = client.post("");
    *request.method_mut() = axum::http::Method::GET;
    *request.uri_mut() = "/healthz".parse().unwrap();
    let reply = client.send(request).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(serde_json::from_str::<Value>(&reply.body).unwrap(), json!({ "status": "ok" }));
}
