//! What only a real connection shows.

use axum::http::Method;

use crate::harness::Api;

#[tokio::test]
async fn a_304_tells_no_length_and_head_that_of_get_over_either_protocol() {
    let api = Api::new().await;
    let path = "acme/resources/k/i";
    let tag = api.put(path, &format!("{:?}", "x".repeat(5_000))).await;
    let connection = api.connect().await;
    let known = ("if-none-match", tag.as_str());
    let zipped = ("accept-encoding", "gzip");
    for method in [Method::GET, Method::HEAD] {
        for (fields, status, length) in [
            (&[][..], 200, Some("5002")),
            (&[known], 304, None),
            // How long the compressed value is, nobody knows before.
            (&[zipped], 200, None),
            (&[known, zipped], 304, None),
        ] {
            let request = || api.request(method.clone(), path, fields, "");
            for answer in [connection.http1(request()).await, connection.http2(request()).await] {
                assert_eq!(answer.status, status, "{method} {fields:?}");
                assert_eq!(answer.header("content-length"), length, "{method} {fields:?}");
                assert_eq!(answer.header("etag"), Some(tag.as_str()));
                assert_eq!(answer.header("vary"), Some("accept-encoding"));
                let has_body = method == Method::GET && status == 200;
                assert_eq!(answer.body.is_empty(), !has_body, "{method} {fields:?}");
                let coding = answer.header("content-encoding");
                assert_eq!(coding.is_some(), status == 200 && fields.contains(&zipped));
            }
        }
    }
}
