//! The example of a server does what its comments say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../examples/serve.rs"]
#[allow(dead_code)]
mod example;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl Server {
    async fn start(store: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, store) = (CancellationToken::new(), store.to_owned());
        let stopped = stop.clone();
        let serving = tokio::spawn(async move { example::serve(&store, listener, stopped).await });
        Self { address, stop, serving }
    }

    async fn end(self) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
    }

    async fn send(&self, method: &str, name: &str, mut params: Value) -> Value {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": {
                "elicitation": {},
                "extensions": { "io.modelcontextprotocol/tasks": {} },
            },
        });
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = reqwest::Client::new()
            .post(format!("http://{}/mcp", self.address))
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", method)
            .header("mcp-name", name)
            .json(&message);
        let text = request.send().await.unwrap().text().await.unwrap();
        let event = text.lines().rev().find_map(|line| line.strip_prefix("data:"));
        let answer: Value = serde_json::from_str(event.unwrap_or(&text)).unwrap();
        assert!(answer.get("result").is_some(), "{answer}");
        answer["result"].clone()
    }

    async fn call(&self, tool: &str) -> String {
        let call = json!({ "name": tool, "arguments": { "version": "1.2" } });
        self.send("tools/call", tool, call).await["taskId"].as_str().unwrap().to_owned()
    }

    async fn until(&self, id: &str, status: &str) -> Value {
        let reached = async {
            loop {
                let task = self.send("tasks/get", id, json!({ "taskId": id })).await;
                if task["status"] == status {
                    return task;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reached).await.expect("it takes too long")
    }

    async fn approve(&self, id: &str) -> String {
        let task = self.until(id, "input_required").await;
        let key = task["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
        let answer = json!({ key: { "action": "accept", "content": { "approve": true } } });
        self.send("tasks/update", id, json!({ "taskId": id, "inputResponses": answer })).await;
        let task = self.until(id, "completed").await;
        task["result"]["content"][0]["text"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn what_asked_by_returning_outlives_the_server_and_what_asked_within_its_call_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("file:{}", folder.path().join("serve.db").display());
    let server = Server::start(&store).await;
    let announced = server.call("announce").await;
    assert_eq!(server.approve(&announced).await, "1.2 is announced");
    let [parked, waiting] = [server.call("publish").await, server.call("announce").await];
    for id in [&parked, &waiting] {
        server.until(id, "input_required").await;
    }
    server.end().await;

    let server = Server::start(&store).await;
    let failed = server.until(&waiting, "failed").await;
    assert!(failed["statusMessage"].as_str().unwrap().contains("shut down"), "{failed}");
    assert_eq!(server.approve(&parked).await, "1.2 is published");
    server.end().await;
}
