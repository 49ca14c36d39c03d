//! The same server on a pair of pipes.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio_util::sync::CancellationToken;

use crate::harness::{Server, VERSION, soon};

struct Pipe {
    output: WriteHalf<DuplexStream>,
    input: BufReader<ReadHalf<DuplexStream>>,
}

impl Pipe {
    async fn write(&mut self, line: &str) {
        self.output.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn send(&mut self, id: u64, method: &str, params: Value) {
        self.write(&request(id, method, params)).await;
    }

    async fn read(&mut self) -> Value {
        let mut line = String::new();
        soon(self.input.read_line(&mut line)).await.unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

fn request(id: u64, method: &str, mut params: Value) -> String {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {
            "extensions": { "io.modelcontextprotocol/tasks": {} },
        },
    });
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

type Serving = tokio::task::JoinHandle<std::io::Result<()>>;

fn serve(server: &Server) -> (Pipe, Serving) {
    serve_until(server, CancellationToken::new())
}

fn serve_until(server: &Server, shutdown: CancellationToken) -> (Pipe, Serving) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (input, output) = tokio::io::split(theirs);
    let durable = server.durable.clone();
    let serving = tokio::spawn(async move {
        tenure_mcp::stdio::serve_on(&durable, input, output, shutdown).await
    });
    let (input, output) = tokio::io::split(ours);
    (Pipe { output, input: BufReader::new(input) }, serving)
}

#[tokio::test]
async fn a_task_is_created_listened_to_and_read_over_pipes() {
    let server = Server::new().await;
    let (mut pipe, serving) = serve(&server);
    pipe.send(1, "tools/call", json!({ "name": "wait", "arguments": {} })).await;
    let created = pipe.read().await;
    let id = created["result"]["taskId"].as_str().unwrap().to_owned();

    pipe.send(2, "subscriptions/listen", json!({ "notifications": { "taskIds": [id] } })).await;
    let acknowledged = pipe.read().await;
    assert_eq!(acknowledged["params"]["notifications"], json!({ "taskIds": [id] }));
    assert_eq!(pipe.read().await["params"]["status"], "working");
    server.begun(1).await;
    server.open_gate();
    while pipe.read().await["params"]["status"] != "completed" {}
    assert_eq!(pipe.read().await["id"], 2);

    pipe.send(3, "tasks/get", json!({ "taskId": id })).await;
    assert_eq!(pipe.read().await["result"]["status"], "completed");

    pipe.output.shutdown().await.unwrap();
    soon(serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_is_a_success_however_far_the_session_has_come() {
    let server = Server::new().await;
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" },
        },
    });
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    // Several times each: what sees the shutdown first is left to chance.
    for round in 0..96 {
        let shutdown = CancellationToken::new();
        let (mut pipe, serving) = serve_until(&server, shutdown.clone());
        if round % 3 > 0 {
            pipe.write(&initialize.to_string()).await;
            assert_eq!(pipe.read().await["id"], 1);
        }
        if round % 3 > 1 {
            pipe.write(&initialized.to_string()).await;
        }
        shutdown.cancel();
        soon(serving).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn bad_lines_are_answered_and_the_next_one_is_read() {
    let server = Server::new().await;
    let (mut pipe, _serving) = serve(&server);
    pipe.write("nonsense").await;
    assert_eq!(pipe.read().await["error"]["code"], -32700);
    pipe.write("").await;
    pipe.write("{}").await;
    assert_eq!(pipe.read().await["error"]["code"], -32600);
    pipe.write(&"x".repeat(5 << 20)).await;
    assert_eq!(pipe.read().await["error"]["code"], -32600);
    pipe.send(1, "tools/call", json!({ "name": "echo", "arguments": {} })).await;
    assert_eq!(pipe.read().await["result"]["content"][0]["text"], "{}");
}

#[tokio::test]
async fn a_line_is_read_whole_though_answers_are_written_meanwhile() {
    let server = Server::new().await;
    let (mut pipe, _serving) = serve(&server);
    let call = |id| request(id, "tools/call", json!({ "name": "echo", "arguments": {} })) + "\n";
    pipe.output.write_all(call(0).as_bytes()).await.unwrap();
    for id in 0..32 {
        // The answer to the call before comes while half of the next line is there.
        let next = call(id + 1);
        let (first, rest) = next.split_at(next.len() / 2);
        pipe.output.write_all(first.as_bytes()).await.unwrap();
        assert_eq!(pipe.read().await["id"], id);
        pipe.output.write_all(rest.as_bytes()).await.unwrap();
    }
    assert_eq!(pipe.read().await["id"], 32);
}
