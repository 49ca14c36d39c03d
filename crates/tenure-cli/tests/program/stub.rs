//! A server that answers as a test says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::thread;

/// Status line, further header lines, body.
pub(crate) type Answer = (&'static str, &'static str, &'static str);

/// What a Tenure server says of what is absent.
pub(crate) const NOT_FOUND: Answer =
    ("404 Not Found", "", r#"{"status":404,"title":"Not Found","detail":"resource not found"}"#);

/// The URL of a server whose answers depend on the request line. It lasts as long as the tests.
pub(crate) fn serve(mut answer: impl FnMut(&str) -> Answer + Send + 'static) -> String {
    serve_by_head(move |request, _| answer(request))
}

/// The same of one whose answers depend on the header lines too.
pub(crate) fn serve_by_head(
    mut answer: impl FnMut(&str, &[String]) -> Answer + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut request = String::new();
            stream.read_line(&mut request).unwrap();
            let (mut body, mut headers) = (0, Vec::new());
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                let Some((name, value)) = line.split_once(':') else { break };
                if name.eq_ignore_ascii_case("content-length") {
                    body = value.trim().parse().unwrap();
                }
                headers.push(line.trim_end().to_owned());
            }
            stream.read_exact(&mut vec![0; body]).unwrap();
            let (status, headers, body) = answer(request.trim_end(), &headers);
            let answer = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
                body.len()
            );
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    url
}
