//! Requests to a running server.

use std::time::Duration;

use reqwest::StatusCode;

/// A server that is there answers at once; it sends a sign of life on every stream before this.
const SILENCE: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(5);

/// A client that does not wait for ever.
pub(crate) fn client() -> reqwest::Client {
    let client = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(SILENCE);
    // It fails only where no client can be made at all, and then so do requests.
    client.build().unwrap_or_default()
}

/// Whether the same request may succeed in a moment: the server restarts, or is too busy.
pub(crate) fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}
