//! Standard input and output: one JSON-RPC message a line, and one local owner.

use std::future::Future;
use std::io;
use std::sync::Arc;

use rmcp::model::{ErrorCode, JsonRpcError};
use rmcp::service::{
    QuitReason, RxJsonRpcMessage, ServerInitializeError, TxJsonRpcMessage, serve_server_with_ct,
};
use rmcp::transport::Transport;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Mutex;
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
    let lines =
        Lines { input: BufReader::new(input), output: Output(Arc::new(Mutex::new(output))) };
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

struct Lines<R, W> {
    input: BufReader<R>,
    output: Output<W>,
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
            let parsed = match read_line(&mut self.input).await {
                Ok(Line::End) => return None,
                Ok(Line::TooLong) => Err(ErrorData::invalid_request(
                    format!("a line exceeds {LINE_BYTES} bytes"),
                    None,
                )),
                Ok(Line::Text(line)) if line.trim_ascii().is_empty() => continue,
                Ok(Line::Text(line)) => parse(&line),
                Err(error) => {
                    tracing::error!(%error, "standard input cannot be read");
                    return None;
                }
            };
            let error = match parsed {
                Ok(message) => return Some(message),
                Err(error) => JsonRpcError::new(None, error),
            };
            if self.output.write(&error).await.is_err() {
                return None;
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
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

enum Line {
    Text(Vec<u8>),
    TooLong,
    End,
}

/// Reads to the next line feed, keeping no more than a line may have. A last line without one is
/// not a message: whoever wrote it did not come to its end.
async fn read_line(input: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Line> {
    let mut line = Vec::new();
    let mut is_too_long = false;
    loop {
        let available = input.fill_buf().await?;
        if available.is_empty() {
            return Ok(Line::End);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        is_too_long |= line.len() + part.len() > LINE_BYTES;
        if is_too_long {
            line = Vec::new();
        } else {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(if is_too_long { Line::TooLong } else { Line::Text(line) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_is_too_long_is_skipped_and_the_next_one_read() {
        let mut text = vec![b'x'; LINE_BYTES + 1];
        text.extend_from_slice(b"\nshort\nunfinished");
        let mut input = BufReader::new(&text[..]);
        assert!(matches!(read_line(&mut input).await.unwrap(), Line::TooLong));
        let Line::Text(line) = read_line(&mut input).await.unwrap() else { panic!("a line") };
        assert_eq!(line, b"short");
        assert!(matches!(read_line(&mut input).await.unwrap(), Line::End));
    }
}
