//! The router in a server of somebody else's.

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::routing::get;
use serde_json::json;
use tenure::Owner;
use tenure_mcp::http::{HttpOptions, router};
use tenure_mcp::{Caller, Callers, Projects, Rights};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::harness::{Client, Server, soon};
use crate::legacy;

/// Puts whoever the header `x-user` names into the request.
fn signing_in(router: Router) -> Router {
    router.layer(from_fn(|mut request: Request, next: Next| async move {
        let user = request.headers().get("x-user").map(|user| user.to_str().unwrap().to_owned());
        if let Some(user) = user {
            let projects = Projects::none().and(user.as_str(), Rights::Write);
            let caller = Caller::new(Owner::new(user).unwrap()).with_projects(projects);
            request.extensions_mut().insert(caller);
        }
        next.run(request).await
    }))
}

async fn embedded(callers: Callers) -> Server {
    let server = Server::new().await;
    let app = signing_in(router(&server.durable, &HttpOptions::new(callers)));
    *server.network.lock() = Some(app);
    server
}

fn of_user(mut request: Request, user: &str) -> Request {
    request.headers_mut().insert("x-user", user.parse().unwrap());
    request
}

async fn status_of(client: &Client, id: &str, user: &str) -> Option<String> {
    let request = client.request("tasks/get", json!({ "taskId": id }));
    let task = client.send(of_user(request, user)).await.outcome().ok()?;
    Some(task["status"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn whom_the_server_around_has_authenticated_has_its_own_tasks_and_projects() {
    let server = embedded(Callers::authenticated()).await;
    let client = server.client();
    let call = client.request("tools/call", json!({ "name": "wait" }));
    let task = client.send(of_user(call, "alice")).await.outcome().unwrap();
    let id = task["taskId"].as_str().unwrap();
    assert_eq!(status_of(&client, id, "alice").await.as_deref(), Some("working"));
    assert_eq!(status_of(&client, id, "bob").await, None);
    let listed = async |user| {
        let path = "/v1/projects/alice/resources";
        client.send(of_user(client.plain(Method::GET, path), user)).await.status
    };
    assert_eq!(listed("alice").await, StatusCode::OK);
    assert_eq!(listed("bob").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn whom_nobody_has_authenticated_is_refused() {
    let server = embedded(Callers::authenticated()).await;
    let client = server.client();
    let call = client.reply("tools/call", json!({ "name": "whoami" })).await;
    let plain = client.send(client.plain(Method::GET, "/v1/tasks")).await;
    for refused in [call, plain] {
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
        assert_eq!(refused.headers["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn a_caller_that_nobody_asked_for_is_refused_and_not_replaced() {
    for callers in [Callers::local(), crate::harness::callers()] {
        let server = embedded(callers).await;
        let client = server.client_of("alice");
        let call = client.request("tools/call", json!({ "name": "whoami" }));
        let call = client.send(of_user(call, "mallory")).await;
        assert_eq!(call.outcome().unwrap_err()["code"], -32603);
        let plain = client.plain(Method::GET, "/v1/tasks");
        let plain = client.send(of_user(plain, "mallory")).await;
        for refused in [call, plain] {
            assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR, "{refused:?}");
        }
    }
}

/// Sends under a prefix what a client sends.
fn under(prefix: &str, mut request: Request) -> Request {
    let uri = format!("{prefix}{}", request.uri());
    *request.uri_mut() = uri.parse().unwrap();
    request
}

async fn answers_under(prefix: &str, server: &Server) {
    let client = server.client();
    let send = async |request| client.send(under(prefix, request)).await;
    let call = send(client.request("tools/call", json!({ "name": "wait" }))).await;
    let id = call.outcome().unwrap()["taskId"].as_str().unwrap().to_owned();
    let tasks = send(client.plain(Method::GET, &format!("/v1/tasks/{id}"))).await;
    assert_eq!(tasks.status, StatusCode::OK);
    let nothing = send(client.plain(Method::GET, "/v1/tasks/a/b")).await;
    assert_eq!(nothing.headers["content-type"], "application/problem+json");

    let path = format!("/v1/projects/p/resources/kind/{id}%2F");
    let mut put = client.plain(Method::PUT, &path);
    *put.body_mut() = "{}".into();
    let put = send(put).await;
    assert_eq!(put.status, StatusCode::CREATED);
    assert_eq!(put.headers["location"], format!("{prefix}{path}"));

    let described = send(client.plain(Method::GET, "/v1/openapi.json")).await.messages();
    let servers = (!prefix.is_empty()).then(|| json!([{ "url": prefix }]));
    assert_eq!(described[0].get("servers"), servers.as_ref());
}

#[tokio::test]
async fn the_router_answers_alike_merged_and_nested() {
    let server = Server::new().await;
    let routes = || router(&server.durable, &HttpOptions::default());
    let own = || Router::new().route("/", get(|| async { "hello" }));
    for (prefix, app) in [
        ("", own().merge(routes()).fallback(|| async { "mine" })),
        ("/media", own().nest("/media", routes()).fallback(|| async { "mine" })),
        ("/media", own().nest_service("/media", routes())),
        ("/a/b", own().nest("/a", Router::new().nest("/b", routes()))),
        ("/a/b", own().nest_service("/a", Router::new().nest("/b", routes()))),
    ] {
        *server.network.lock() = Some(app);
        answers_under(prefix, &server).await;
    }
}

#[tokio::test]
async fn a_graceful_shutdown_of_the_server_around_ends_while_clients_listen() {
    let server = Server::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = router(&server.durable, &HttpOptions::default());
    let (stop, durable) = (CancellationToken::new(), server.durable.clone());
    let stopped = stop.clone();
    let serving = tokio::spawn(async move {
        let shutdown = async move {
            stopped.cancelled().await;
            durable.shutdown(0).await;
        };
        axum::serve(listener, app).with_graceful_shutdown(shutdown).await
    });
    // Sessions are those of the routes that opened them: all of it goes to the socket.
    let (client, web) = (server.client(), reqwest::Client::new());
    let send = async |mut request: Request| {
        *request.uri_mut() = format!("http://{address}{}", request.uri()).parse().unwrap();
        request.headers_mut().remove("host");
        let request = request.map(|body| reqwest::Body::wrap_stream(body.into_data_stream()));
        soon(web.execute(request.try_into().unwrap())).await.unwrap()
    };
    let mut open = Vec::new();
    let id = client.create("wait").await;
    let filter = json!({ "notifications": { "taskIds": [id] } });
    open.push(send(client.request("subscriptions/listen", filter)).await);
    open.push(send(client.plain(Method::GET, "/v1/tasks/events")).await);
    let opened = send(legacy::initialize_request(&client, legacy::VERSION)).await;
    let session = opened.headers()["mcp-session-id"].clone();
    soon(opened.bytes()).await.unwrap();
    open.push(send(legacy::standalone_request(&client, &session)).await);
    for stream in &open {
        assert_eq!(stream.headers()["content-type"], "text/event-stream", "{stream:?}");
    }
    stop.cancel();
    soon(serving).await.unwrap().unwrap();
    for stream in open {
        soon(stream.bytes()).await.unwrap();
    }
}
