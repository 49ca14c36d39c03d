//! Standard input and output: one JSON-RPC message a line, and one local owner.

use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::{Buf as _, BytesMut};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use rmcp::model::{ErrorCode, JsonRpcError};
use rmcp::service::{
    QuitReason, RxJsonRpcMessage, ServerInitializeError, TxJsonRpcMessage, serve_server_with_ct,
};
use rmcp::transport::Transport;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::Serialize;
use serde_json::Value;
use tenure::Chain;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio_util::codec::{Decoder, FramedRead};
use tokio_util::sync::CancellationToken;

use crate::DurableServer;
use crate::mcp::{LISTEN, reroute};

/// Bytes of a line. What is longer is skipped and answered with an error.
const LINE_BYTES: usize = 4 * 1_024 * 1_024;

/// Serves standard input and output until the input ends or `shutdown` is cancelled. The tasks go
/// on: end them with [`DurableServer::shutdown`].
///
/// A read of standard input cannot be interrupted. After a shutdown that did not come from its end,
/// leave with [`std::process::exit`]: the runtime would wait for the next line.
///
/// # Errors
/// When the client does not begin with a request that opens a session.
pub async fn serve<H: ServerHandler>(
    server: &DurableServer<H>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    serve_on(server, tokio::io::stdin(), tokio::io::stdout(), shutdown).await
}

/// Serves any pair of streams as [`serve`] does standard input and output.
///
/// # Errors
/// As [`serve`].
pub async fn serve_on<H, R, W>(
    server: &DurableServer<H>,
    input: R,
    output: W,
    shutdown: CancellationToken,
) -> io::Result<()>
where
    H: ServerHandler,
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let lines = Lines {
        input: FramedRead::new(input, LineDecoder::default()),
        output: Output(Arc::new(Mutex::new(output))),
        reply: None,
    };
    let running = match serve_server_with_ct(server.clone(), lines, shutdown).await {
        // Before the session was open. An end that was asked for is none of the client's making.
        Err(ServerInitializeError::Cancelled) => return Ok(()),
        running => running.map_err(io::Error::other)?,
    };
    match running.waiting().await {
        Ok(QuitReason::JoinError(error)) | Err(error) => Err(io::Error::other(error)),
        Ok(_) => Ok(()),
    }
}

/// What has been read of a line, and a reply that is being written, outlive a `receive` that is
/// dropped: the session drops it whenever it has something else to do.
struct Lines<R, W> {
    input: FramedRead<R, LineDecoder>,
    output: Output<W>,
    reply: Option<BoxFuture<'static, io::Result<()>>>,
}

struct Output<W>(Arc<Mutex<W>>);

impl<W> Clone for Output<W> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W: AsyncWrite + Send + Unpin> Output<W> {
    /// Writes a whole line, or none.
    async fn write(&self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut output = self.0.lock().await;
        output.write_all(&line).await?;
        output.flush().await
    }
}

impl<R, W> Transport<RoleServer> for Lines<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let output = self.output.clone();
        async move { output.write(&message).await }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            if let Some(reply) = &mut self.reply {
                let written = reply.await;
                self.reply = None;
                written.ok()?;
            }
            let parsed = match self.input.next().await? {
                Ok(Line::TooLong) => Err(ErrorData::invalid_request(
                    format!("a line exceeds {LINE_BYTES} bytes"),
                    None,
                )),
                Ok(Line::Text(line)) if line.trim_ascii().is_empty() => continue,
                Ok(Line::Text(line)) => parse(&line),
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "standard input cannot be read");
                    return None;
                }
            };
            match parsed {
                Ok(message) => return Some(message),
                Err(error) => {
                    let (output, error) = (self.output.clone(), JsonRpcError::new(None, error));
                    self.reply = Some(Box::pin(async move { output.write(&error).await }));
                }
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        // Half-way, it would keep the output, and nobody goes on with it.
        self.reply = None;
        self.output.0.lock().await.shutdown().await
    }
}

fn parse(line: &[u8]) -> Result<RxJsonRpcMessage<RoleServer>, ErrorData> {
    let mut message: Value = serde_json::from_slice(line).map_err(|error| {
        ErrorData::new(ErrorCode::PARSE_ERROR, format!("Parse error: {error}"), None)
    })?;
    if message.get("method").is_some_and(|method| method == LISTEN) {
        reroute(&mut message);
    }
    serde_json::from_value(message).map_err(|_| {
        ErrorData::invalid_request("Invalid Request: the line is not a JSON-RPC message", None)
    })
}

#[derive(Debug, PartialEq)]
enum Line {
    Text(BytesMut),
    TooLong,
}

/// Parts the input at its line feeds, keeping no more than a line may have.
#[derive(Default)]
struct LineDecoder {
    /// Bytes at the front of the buffer that are known to hold no line feed.
    searched_bytes: usize,
    is_too_long: bool,
}

impl Decoder for LineDecoder {
    type Item = Line;
    type Error = io::Error;

    fn decode(&mut self, input: &mut BytesMut) -> io::Result<Option<Line>> {
        let end = input[self.searched_bytes..].iter().position(|byte| *byte == b'\n');
        let length = end.map_or(input.len(), |end| self.searched_bytes + end);
        self.is_too_long |= length > LINE_BYTES;
        if end.is_none() {
            if self.is_too_long {
                input.clear();
            }
            self.searched_bytes = input.len();
            return Ok(None);
        }
        let line = input.split_to(length);
        input.advance(1);
        self.searched_bytes = 0;
        let is_too_long = std::mem::take(&mut self.is_too_long);
        Ok(Some(if is_too_long { Line::TooLong } else { Line::Text(line) }))
    }

    /// A last line without a line feed is not a message: whoever wrote it did not come to its end.
    fn decode_eof(&mut self, input: &mut BytesMut) -> io::Result<Option<Line>> {
        let line = self.decode(input)?;
        if line.is_none() {
            input.clear();
            self.searched_bytes = 0;
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8]) -> Vec<Line> {
        let lines = FramedRead::new(text, LineDecoder::default());
        lines.map(|line| line.expect("a line")).collect().await
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped_and_the_next_one_read() {
        let mut text = vec![b'x'; LINE_BYTES];
        text.extend_from_slice(b"\n");
        text.extend(vec![b'x'; LINE_BYTES + 1]);
        text.extend_from_slice(b"\n\nshort\nunfinished");
        let longest = Line::Text(vec![b'x'; LINE_BYTES].as_slice().into());
        let text_of = |text: &str| Line::Text(text.into());
        assert_eq!(lines(&text).await, [longest, Line::TooLong, text_of(""), text_of("short")]);
    }
}
