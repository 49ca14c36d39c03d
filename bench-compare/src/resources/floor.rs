//! The floor: an axum handler on a map, with tags that it counts up. It checks no caller, no host
//! and no JSON, and keeps no history.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

type Map = Arc<Mutex<HashMap<String, (u64, Bytes)>>>;

pub async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let routes = get(read).put(write);
    let path = "/v1/projects/{project}/resources/{kind}/{id}";
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, Router::new().route(path, routes).with_state(Map::default())).await
}

type Place = Path<(String, String, String)>;

fn name(Path((project, kind, id)): Place) -> String {
    format!("{project}/{kind}/{id}")
}

async fn read(State(map): State<Map>, place: Place, headers: HeaderMap) -> Response {
    let map = map.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((version, value)) = map.get(&name(place)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let tag = format!("\"{version}\"");
    if headers.get(IF_NONE_MATCH).is_some_and(|it| it.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response();
    }
    ([(ETAG, tag), (CONTENT_TYPE, "application/json".into())], value.clone()).into_response()
}

async fn write(State(map): State<Map>, place: Place, headers: HeaderMap, body: Bytes) -> Response {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    let name = name(place);
    let version = map.get(&name).map_or(0, |(version, _)| *version);
    let tag = format!("\"{version}\"");
    if headers.get(IF_MATCH).is_some_and(|it| it.as_bytes() != tag.as_bytes()) {
        return (StatusCode::PRECONDITION_FAILED, [(ETAG, tag)]).into_response();
    }
    map.insert(name, (version + 1, body));
    (StatusCode::OK, [(ETAG, format!("\"{}\"", version + 1))]).into_response()
}
