//! Binds sessions to the owner that opened them.
//!
//! Clients before 2026-07-28 have sessions, and the SDK takes whoever knows a session's id for its
//! client. Here the id that a client sees is sealed with its owner, so under another owner it is
//! the id of no session. Nothing has to be remembered for that.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use futures::{Stream, StreamExt as _};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use rmcp::model::{ClientJsonRpcMessage, ErrorCode, ServerJsonRpcMessage};
use rmcp::transport::common::server_side_http::{ServerSseMessage, SessionId};
use rmcp::transport::streamable_http_server::session::SessionManager;
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError,
};
use sha2::Sha256;
use tenure::Owner;
use tenure::clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::Caller;
use crate::http::HttpOptions;
use crate::http::error::refusal;
use crate::owner_limiter::{LimitReached, OwnerLimiter, Permit};

const SESSION: &str = "mcp-session-id";
const SEAL_DIGITS: usize = 64;

tokio::task_local! {
    /// Who makes the request. Which requests open a session is for the SDK to say.
    static OPENER: Opener;
}

/// The owner of a session that a request opens, and why it could not.
struct Opener {
    owner: Owner,
    refused: Arc<Mutex<Option<LimitReached>>>,
}

/// The sessions of this process. Each holds a place from before it is there until it is closed.
pub(super) struct Sessions {
    local: LocalSessionManager,
    places: OwnerLimiter,
    taken: Mutex<HashMap<SessionId, Permit>>,
    clock: Clock,
    /// Ends the streams of what the server tells by itself.
    closing: CancellationToken,
    /// Drawn at the start: sessions end with the process.
    key: [u8; 32],
}

impl Sessions {
    pub(super) fn new(options: &HttpOptions, clock: Clock, closing: CancellationToken) -> Self {
        let places = OwnerLimiter::new("sessions", options.sessions, options.sessions_per_owner);
        Self {
            local: LocalSessionManager::default(),
            places,
            taken: Mutex::default(),
            clock,
            closing,
            key: rand::random(),
        }
    }

    /// The id as the client sees it.
    fn seal(&self, owner: &Owner, id: &str) -> Option<String> {
        let seal = self.mac(owner, id)?.finalize().into_bytes();
        Some(seal.iter().fold(id.to_owned(), |id, byte| format!("{id}{byte:02x}")))
    }

    /// The id as the SDK sees it; `None` if it is not one of this owner.
    fn open(&self, owner: &Owner, sealed: &str) -> Option<String> {
        let (id, seal) = sealed.split_at_checked(sealed.len().checked_sub(SEAL_DIGITS)?)?;
        let bytes: Option<Vec<u8>> = (0..SEAL_DIGITS)
            .step_by(2)
            .map(|at| u8::from_str_radix(seal.get(at..at + 2)?, 16).ok())
            .collect();
        self.mac(owner, id)?.verify_slice(&bytes?).ok()?;
        Some(id.to_owned())
    }

    fn mac(&self, owner: &Owner, id: &str) -> Option<Hmac<Sha256>> {
        // Any length of key is accepted, so there is always one.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        mac.update(&u64::try_from(id.len()).ok()?.to_be_bytes());
        mac.update(id.as_bytes());
        mac.update(owner.as_str().as_bytes());
        Some(mac)
    }
}

/// Why a session could not be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionsError {
    #[error("nobody is known who opens the session")]
    NoOwner,
    #[error(transparent)]
    LimitReached(#[from] LimitReached),
    #[error(transparent)]
    Local(#[from] LocalSessionManagerError),
}

impl SessionManager for Sessions {
    type Error = SessionsError;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), SessionsError> {
        let place = OPENER.try_with(|opener| {
            let taken = self.places.take(&opener.owner);
            *opener.refused.lock() = taken.as_ref().err().copied();
            taken
        });
        let place = place.map_err(|_| SessionsError::NoOwner)??;
        let (id, transport) = self.local.create_session().await?;
        self.taken.lock().insert(id.clone(), place);
        Ok((id, transport))
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), SessionsError> {
        let closed = self.local.close_session(id).await;
        self.taken.lock().remove(id);
        Ok(closed?)
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, SessionsError> {
        Ok(self.local.initialize_session(id, message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, SessionsError> {
        Ok(self.local.has_session(id).await?)
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionsError> {
        Ok(self.local.create_stream(id, message).await?)
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<(), SessionsError> {
        Ok(self.local.accept_message(id, message).await?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionsError> {
        Ok(self.local.create_standalone_stream(id).await?)
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, SessionsError> {
        Ok(self.local.resume(id, last_event_id).await?)
    }
}

/// Opens the seal on the way in, and sets it on the way out.
pub(super) async fn bind(
    State(sessions): State<Arc<Sessions>>,
    Extension(caller): Extension<Caller>,
    mut request: Request,
    next: Next,
) -> Response {
    let owner = caller.owner();
    if let Some(sealed) = request.headers().get(SESSION) {
        let id = sealed.to_str().ok().and_then(|sealed| sessions.open(owner, sealed));
        let Some(id) = id.and_then(|id| HeaderValue::try_from(id).ok()) else {
            let message = "Not Found: Session not found";
            return refusal(StatusCode::NOT_FOUND, ErrorCode::INVALID_REQUEST, message);
        };
        request.headers_mut().insert(SESSION, id);
    }
    let ended = listens(&request).then(|| {
        // A stream does not outlive what let it in, nor the server.
        let (caller, closing) = (caller.ended(&sessions.clock), sessions.closing.clone());
        async move {
            tokio::select! {
                () = caller => {}
                () = closing.cancelled_owned() => {}
            }
        }
    });
    // The SDK answers every failure of a session with 500.
    let refused = Arc::default();
    let opener = Opener { owner: owner.clone(), refused: Arc::clone(&refused) };
    let mut response = OPENER.scope(opener, next.run(request)).await;
    if let Some(error) = refused.lock().take() {
        return limit_reached(error);
    }
    seal_header(&sessions, owner, response.headers_mut());
    match ended {
        Some(ended) => response
            .map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(ended)))),
        None => response,
    }
}

/// Whether a request asks for what the server tells by itself, for as long as it lasts.
fn listens(request: &Request) -> bool {
    request.method() == Method::GET
}

fn limit_reached(error: LimitReached) -> Response {
    let mut response = refusal(error.status(), ErrorCode::INTERNAL_ERROR, error.to_string());
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("30"));
    response
}

fn seal_header(sessions: &Sessions, owner: &Owner, headers: &mut HeaderMap) {
    let Some(id) = headers.remove(SESSION) else { return };
    let sealed = id.to_str().ok().and_then(|id| sessions.seal(owner, id));
    if let Some(sealed) = sealed.and_then(|sealed| HeaderValue::try_from(sealed).ok()) {
        headers.insert(SESSION, sealed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_id_opens_for_its_owner_only() {
        let closing = CancellationToken::new();
        let sessions = Sessions::new(&HttpOptions::default(), Clock::system(), closing);
        let (alice, bob) = (Owner::new("alice").unwrap(), Owner::new("bob").unwrap());
        let sealed = sessions.seal(&alice, "id-1").unwrap();
        assert_eq!(sessions.open(&alice, &sealed).as_deref(), Some("id-1"));
        assert_eq!(sessions.open(&bob, &sealed), None);
        for forged in ["", "id-1", &sealed[1..], &sealed.replace("id-1", "id-2"), &"é".repeat(40)]
        {
            assert_eq!(sessions.open(&alice, forged), None, "{forged}");
        }
    }
}
