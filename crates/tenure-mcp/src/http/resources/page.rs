//! A page of resources with their values, which are sent as they are stored: they are read through,
//! and nothing is made of them.

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tenure::resources::{Resource, ResourceError, ResourcePage};

use crate::http::Problem;
use crate::http::resources::document::ResourceDocument;
use crate::http::resources::parsing::Parsing;
use crate::http::resources::sound::Sound;

/// What a resource takes beside its value, mostly.
const DOCUMENT_BYTES: usize = 512;

/// What a [`ResourceListDocument`](super::ResourceListDocument) has beside the resources.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rest {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    revision: String,
}

/// The page as an answer.
pub(super) async fn answer(
    parsing: &Parsing,
    page: ResourcePage<Resource>,
    total: Option<u64>,
) -> Result<Response, Problem> {
    let bytes = page.items.iter().flatten().map(|it| it.text.len()).sum();
    let text = parsing.of(bytes, move || spliced(page, total, bytes)).await?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response())
}

/// The JSON text of the page. `serde_json` could hand texts on as well, with its feature
/// `raw_value`; but then every parser of the program takes an object with one certain name in it for
/// such a text, whoever sent it.
fn spliced(page: ResourcePage<Resource>, total: Option<u64>, bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + DOCUMENT_BYTES * (page.items.len() + 1));
    let mut unreadable = Vec::new();
    text.extend_from_slice(b"{\"resources\":[");
    let begin = text.len();
    for item in page.items {
        match item.and_then(|resource| checked(&resource).map(|()| resource)) {
            Ok(Resource { key, meta, text: value }) => {
                let separator: &[u8] = if text.len() > begin { b",{" } else { b"{" };
                text.extend_from_slice(separator);
                text.extend_from_slice(members(&ResourceDocument::new(&key, &meta)).as_bytes());
                text.extend_from_slice(b",\"value\":");
                text.extend_from_slice(&value);
                text.push(b'}');
            }
            Err(error) => unreadable.push(error.to_string()),
        }
    }
    let next_cursor = page.next.map(|cursor| cursor.to_string());
    let rest = Rest { unreadable, next_cursor, total, revision: page.revision.to_string() };
    text.extend_from_slice(b"],");
    text.extend_from_slice(members(&rest).as_bytes());
    text.push(b'}');
    text
}

/// One text that is no JSON value, which is somebody else's, would spoil the whole page.
fn checked(resource: &Resource) -> Result<(), ResourceError> {
    let text = std::str::from_utf8(&resource.text).ok();
    if text.is_some_and(|text| serde_json::from_str::<Sound>(text).is_ok()) {
        return Ok(());
    }
    // Says what is wrong with it.
    resource.value().map(drop)
}

/// What is between the braces of a document. None of these can fail to serialise.
fn members(document: &impl Serialize) -> String {
    let text = serde_json::to_string(document).unwrap_or_default();
    text.trim_start_matches('{').strip_suffix('}').unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tenure::clock::{Clock, Timestamp};
    use tenure::resources::{Document, ResourceKey, ResourceStore};
    use tenure::store::{InMemoryBackend, PageRequest, StorageBackend as _, Tag, Write};

    use super::*;
    use crate::http::resources::ResourceListDocument;

    #[tokio::test]
    async fn the_text_is_that_of_the_document_and_what_is_damaged_spoils_nothing() {
        let clock = Clock::manual(Timestamp::from_millis(1));
        let backend = Arc::new(InMemoryBackend::new(clock.clone()));
        let resources = ResourceStore::new(backend.clone(), clock).by("alice").unwrap();
        let page = async |limit| {
            resources.list_with_values("p", None, PageRequest::first(limit)).await.unwrap()
        };
        let both = async |limit| {
            let text = spliced(page(limit).await, Some(7), 0);
            let spliced: ResourceListDocument = serde_json::from_slice(&text).unwrap();
            let document = ResourceListDocument::from(page(limit).await);
            (spliced, ResourceListDocument { total: Some(7), ..document })
        };
        let (spliced, document) = both(1).await;
        assert_eq!(spliced, document);
        for (id, value) in ["{\"a\":[null,\"}\"]}", "null", "1"].into_iter().enumerate() {
            let key = ResourceKey::new("p", "k\"", id.to_string()).unwrap();
            resources.put(&key, &Document::parse(value).unwrap()).await.unwrap();
        }
        let partition = tenure::store::Partition::new(["resources", "p"]).unwrap();
        for (name, text) in [
            ("k\"/3", &b"1 1\n{"[..]),
            ("k\"/4", b"1 1\n\"\xff\""),
            ("k\"/5", b"?"),
            ("k\"/6", b"1 1\n[\"\\ud800\"]"),
            ("k\"/7", b"1 1\n1e400"),
        ] {
            let damaged = Write::new(text.to_vec()).tagged(Tag::new([0; 32]));
            backend.put(&partition.key(name).unwrap(), damaged).await.unwrap();
        }
        for limit in 1..=8 {
            let (spliced, document) = both(limit).await;
            assert_eq!(spliced, document);
            assert_eq!(spliced.resources.len(), limit.min(3));
            assert_eq!(spliced.unreadable.len(), limit.saturating_sub(3));
        }
    }
}
