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

#[tokio::test]
async fn what_is_refused_before_it_is_routed_has_no_body_for_head_over_either_protocol() {
    let api = Api::new().await;
    let connection = api.connect().await;
    let foreign = [("origin", "https://foreign.example")];
    for path in ["acme/resources/k/i", "acme/resources", "nothing/there"] {
        let request = |method| api.request(method, path, &foreign, "");
        let told = connection.http1(request(Method::GET)).await;
        assert_eq!((told.status.as_u16(), told.body.is_empty()), (403, false), "{path}");
        for answer in [
            connection.http1(request(Method::HEAD)).await,
            connection.http2(request(Method::HEAD)).await,
        ] {
            assert_eq!((answer.status.as_u16(), answer.body.is_empty()), (403, true), "{path}");
            assert_eq!(answer.header("content-length"), told.header("content-length"), "{path}");
        }
    }
}
