//! The streams of HTTP/2: each is reset once its client takes nothing of its answer.
//!
//! What a stream's window has no room for, hyper holds back, and nobody else sets that a limit: the
//! connection lives, and answers pings.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Instant, sleep};

/// Answers are handed to the connection in pieces of one HTTP/2 frame of the default size. The
/// connection asks for the next piece when the client has taken this one, so a piece is also the most
/// that a stream which is given up leaves in the connection's buffers.
const PIECE: usize = 16 * 1_024;

/// If the process was suspended, the timer has expired although the client may have acknowledged more,
/// in bytes that nobody has read yet. This is how long they have to be read before the stream is given
/// up after all.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Whether the connection has asked a stream's body for data during this poll, and what it got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// It did not ask: what it got before still waits for the client to take it.
    Nothing,
    Gave,
    HadNothing,
}

tokio::task_local! {
    static ASKED: Cell<Asked>;
}

/// Passes on what the server's side of a stream answers to being asked.
pub(super) fn noted<T>(polled: Poll<T>) -> Poll<T> {
    let asked = if polled.is_ready() { Asked::Gave } else { Asked::HadNothing };
    // HTTP/1 has no streams, and its connections have the kernel.
    let _ = ASKED.try_with(|it| it.set(asked));
    polled
}

/// Runs the streams of HTTP/2.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams {
    /// How long a client may take nothing of an answer.
    stall: Duration,
}

impl Streams {
    pub(super) fn new(stall: Duration) -> Self {
        Self { stall }
    }
}

impl<S: Future<Output = ()> + Send + 'static> Executor<S> for Streams {
    fn execute(&self, stream: S) {
        tokio::spawn(unless_stalled(stream, self.stall));
    }
}

/// Drops the stream, which resets it, when the client takes nothing for so long.
async fn unless_stalled(stream: impl Future<Output = ()>, stall: Duration) {
    let (mut stream, mut over) = (pin!(stream), pin!(sleep(stall)));
    let mut looks_left = 0;
    poll_fn(|cx| {
        let (ended, asked) = ASKED.sync_scope(Cell::new(Asked::Nothing), || {
            (stream.as_mut().poll(cx), ASKED.with(Cell::get))
        });
        match asked {
            _ if ended.is_ready() => return Poll::Ready(()),
            Asked::HadNothing => looks_left = 0,
            Asked::Gave => {
                looks_left = 2;
                over.as_mut().reset(Instant::now() + stall);
            }
            Asked::Nothing => {}
        }
        while looks_left > 0 {
            ready!(over.as_mut().poll(cx));
            looks_left -= 1;
            if looks_left == 0 {
                tracing::debug!("an answer is given up, of which the client takes nothing");
                return Poll::Ready(());
            }
            over.as_mut().reset(Instant::now() + LAST_LOOK);
        }
        Poll::Pending
    })
    .await;
}

/// A body in pieces, so that asking for the next one tells that the client takes them.
pub(super) struct Pieces {
    body: Body,
    rest: Bytes,
}

impl Pieces {
    pub(super) fn of(body: Body) -> Self {
        Self { body, rest: Bytes::new() }
    }

    fn next_of_rest(&mut self) -> Bytes {
        if self.rest.len() > PIECE {
            return self.rest.split_to(PIECE);
        }
        // A copy, because a slice would keep the whole body in memory until the client takes it.
        Bytes::copy_from_slice(&std::mem::take(&mut self.rest))
    }
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(noted(Pin::new(&mut self.body).poll_frame(cx))) {
                Some(Ok(frame)) if frame.data_ref().is_some_and(|data| data.len() > PIECE) => {
                    self.rest = frame.into_data().unwrap_or_default();
                }
                other => return Poll::Ready(other),
            }
        }
        let piece = self.next_of_rest();
        noted(Poll::Ready(Some(Ok(Frame::data(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    const STALL: Duration = Duration::from_secs(60);

    /// A stream that does this, one step a second, and then waits for its client. When it ended.
    async fn ends_after(steps: &[Asked]) -> u64 {
        let begun = Instant::now();
        let (mut steps, mut second) = (steps.iter(), pin!(sleep(Duration::ZERO)));
        let stream = poll_fn(|cx| {
            while second.as_mut().poll(cx).is_ready() {
                let Some(step) = steps.next() else { break };
                ASKED.with(|asked| asked.set(*step));
                second.as_mut().reset(Instant::now() + Duration::from_secs(1));
            }
            Poll::Pending
        });
        let ended = tokio::time::timeout(100 * STALL, unless_stalled(stream, STALL)).await;
        ended.map_or(u64::MAX, |()| begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_so_long_after_the_client_last_took_of_it() {
        use Asked::{Gave, HadNothing, Nothing};
        assert_eq!(ends_after(&[Gave]).await, 60 + 1);
        assert_eq!(ends_after(&[Gave, Nothing, Nothing]).await, 60 + 1);
        assert_eq!(ends_after(&[HadNothing, Gave, Gave]).await, 2 + 60 + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_has_nothing_to_say_does_not_end() {
        use Asked::{Gave, HadNothing};
        assert_eq!(ends_after(&[HadNothing]).await, u64::MAX);
        assert_eq!(ends_after(&[Gave, HadNothing]).await, u64::MAX);
        assert_eq!(ends_after(&[]).await, u64::MAX);
    }

    #[tokio::test]
    async fn a_body_comes_in_pieces_and_says_its_length_and_its_end() {
        let whole: Vec<u8> = (0..=255).cycle().take(2 * PIECE + 5).collect();
        let mut body = Pieces::of(Body::from(whole.clone()));
        let mut read = Vec::new();
        for length in [PIECE, PIECE, 5] {
            assert!(!body.is_end_stream());
            assert_eq!(body.size_hint().exact(), Some((whole.len() - read.len()) as u64));
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(piece.len(), length);
            read.extend(piece);
        }
        assert!(body.is_end_stream());
        assert_eq!(read, whole);
    }
}
