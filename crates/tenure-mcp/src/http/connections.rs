//! Connections: how many there are, how slow they may be, and how they end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tenure::Chain;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::http::exchanges::Exchanges;
use crate::http::streams::Streams;
use crate::http::{HttpOptions, descriptors};

/// How often, and for how long, the other end of a quiet HTTP/2 connection is asked whether it is
/// there.
const PING: Duration = Duration::from_secs(20);

/// Serves connections until `shutdown` is cancelled, and then those that are open to their end.
/// Dropping the future ends them at once.
pub(super) async fn serve(
    mut listener: TcpListener,
    router: Router,
    options: &HttpOptions,
    shutdown: CancellationToken,
) {
    let idle = Duration::from_millis(options.header_read_ms);
    let streams = Streams::new(Duration::from_millis(options.write_stall_ms));
    let mut builder = Builder::new(streams);
    // Over HTTP/1 this timeout also bounds how long a connection may stay idle between requests.
    // HTTP/2 has no such bound of its own: pings find the clients that have gone, and `Exchanges` those
    // that are there and ask for nothing.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(idle);
    let http2 = &mut builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(PING).keep_alive_timeout(PING);
    let places = Arc::new(Semaphore::new(descriptors::allow(options.connections)));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            // A place is taken before a connection is accepted, so a connection beyond the bound waits
            // in the kernel's queue.
            let place = Arc::clone(&places).acquire_owned().await;
            (Listener::accept(&mut listener).await, place)
        };
        let ((stream, _), place) = tokio::select! {
            accepted = accepted => accepted,
            Some(_) = connections.join_next() => continue,
            () = shutdown.cancelled() => break,
        };
        prepare(&stream, options);
        let serving =
            serve_connection(builder.clone(), stream, router.clone(), idle, shutdown.clone());
        connections.spawn(async move {
            let _place = place;
            serving.await;
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until it ends, has been quiet for `idle`, or the server shuts down; then it is
/// told so and has as long again to go.
async fn serve_connection(
    builder: Builder<Streams>,
    stream: TcpStream,
    router: Router,
    idle: Duration,
    shutdown: CancellationToken,
) {
    let exchanges = Exchanges::default();
    let service = exchanges.counted(router);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        // `biased`: if the process was suspended, both the result and the timer are ready; prefer
        // the result.
        biased;
        served = &mut connection => Some(served),
        () = exchanges.quiet(idle) => None,
        () = shutdown.cancelled() => None,
    };
    let served = match ended {
        Some(served) => served,
        None => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                // `biased`: as above.
                biased;
                served = &mut connection => served,
                // Nothing makes a client confirm the goodbye, so the wait for it is bounded here. A
                // request that was already on its way is still answered.
                () = exchanges.quiet_from_now(idle) => {
                    return tracing::debug!("a connection is ended without a confirmation");
                }
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(error = %Chain(&*error), "a connection has failed");
    }
}

fn prepare(stream: &TcpStream, options: &HttpOptions) {
    // The server sends small messages one after the other. With Nagle's algorithm each would wait until
    // the client has acknowledged the one before.
    let prepared = stream.set_nodelay(true);
    // Over HTTP/1 nothing in this process notices a client that is there but does not read; the kernel
    // does, with this timeout. Over HTTP/2 `Streams` notices it as well.
    #[cfg(target_os = "linux")]
    let prepared = prepared.and_then(|()| {
        let limit = Duration::from_millis(options.write_stall_ms);
        SockRef::from(stream).set_tcp_user_timeout(Some(limit))
    });
    if let Err(error) = prepared {
        tracing::debug!(error = %Chain(&error), "a connection is served without its options");
    }
}
