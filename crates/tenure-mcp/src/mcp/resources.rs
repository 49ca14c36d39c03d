//! The store's resources on the protocol: `tenure://project/kind/id`, after those of the handler
//! inside.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rmcp::model::{
    CacheScope, Extensions, ListResourceTemplatesResult, ListResourcesResult,
    PaginatedRequestParams, ReadResourceResponse, ReadResourceResult, Resource, ResourceContents,
    ResourceTemplate, ServerCapabilities,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::json;
use tenure::Chain;
use tenure::resources::{ResourceError, ResourceKey, Summary};
use tenure::store::{Cursor, PageRequest, StoreError};

use crate::identity::Caller;
use crate::mcp::wrapper::{DurableServer, party};
use crate::trouble::Trouble;

pub(super) const SCHEME: &str = "tenure://";
const JSON: &str = "application/json";
/// What our cursors begin with; the rest is `project:cursor`. Others are the inner handler's.
const CURSOR: &str = "tenure:";
const PAGE: usize = 100;
/// Everything but the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The URI of a resource.
pub(super) fn uri(key: &ResourceKey) -> String {
    let escaped = |part| utf8_percent_encode(part, ESCAPED);
    format!("{SCHEME}{}/{}/{}", escaped(key.project()), escaped(key.kind()), escaped(key.id()))
}

/// The resource that a URI names.
pub(super) fn key(uri: &str) -> Option<ResourceKey> {
    let decode = |part: &str| percent_decode_str(part).decode_utf8().ok().map(String::from);
    let parts: Option<Vec<String>> = uri.strip_prefix(SCHEME)?.split('/').map(decode).collect();
    let [project, kind, id] = <[String; 3]>::try_from(parts?).ok()?;
    ResourceKey::new(project, kind, id).ok()
}

/// Who answers for a URI.
pub(super) enum Named {
    /// The handler inside.
    Inner,
    /// The store's resources. Without a key the URI has their scheme and can name none of them.
    Ours { key: Option<ResourceKey> },
}

/// A place in the listing of the caller's projects.
struct Position {
    project: String,
    after: Option<Cursor>,
}

impl Position {
    fn parse(text: &str) -> Option<Self> {
        let (project, after) = text.strip_prefix(CURSOR)?.split_once(':')?;
        let project = percent_decode_str(project).decode_utf8().ok()?.into();
        let after = if after.is_empty() { None } else { Some(after.parse().ok()?) };
        Some(Self { project, after })
    }

    fn text(&self) -> String {
        let project = utf8_percent_encode(&self.project, ESCAPED);
        let after = self.after.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{CURSOR}{project}:{after}")
    }
}

impl<H: ServerHandler> DurableServer<H> {
    pub(super) fn shows_resources(&self) -> bool {
        self.shared.shown.is_some()
    }

    /// Who answers for a URI.
    pub(super) fn named(&self, uri: &str) -> Named {
        if self.shows_resources() && uri.starts_with(SCHEME) {
            Named::Ours { key: key(uri) }
        } else {
            Named::Inner
        }
    }

    /// The projects that a caller lists: those that its rights name, and those that the server
    /// shows to whoever has rights on them. In order, each once.
    pub(super) fn listed_projects(&self, caller: &Caller) -> Vec<String> {
        let shown = self.shared.shown.iter().flatten().map(String::as_str);
        let named = caller.projects().names();
        let projects = shown.chain(named).filter(|it| caller.projects().rights(it).is_some());
        let projects: std::collections::BTreeSet<&str> = projects.collect();
        projects.into_iter().map(Into::into).collect()
    }

    /// The inner handler's pages, then ours. Its last page and our first are one.
    pub(super) async fn list_with_ours(
        &self,
        page: Option<PaginatedRequestParams>,
        cx: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let caller = party(&cx.extensions)?;
        let cursor = page.as_ref().and_then(|page| page.cursor.as_deref());
        let ours = cursor.filter(|it| it.starts_with(CURSOR)).map(|cursor| {
            Position::parse(cursor).ok_or_else(|| ErrorData::invalid_params("unknown cursor", None))
        });
        let (mut result, position) = match ours {
            Some(position) => (ListResourcesResult::default(), Some(position?)),
            None => {
                let theirs = self.shared.inner.list_resources(page, cx).await?;
                if theirs.next_cursor.is_some() {
                    return Ok(theirs);
                }
                (theirs, None)
            }
        };
        let (resources, next) = self.our_page(&caller, position).await?;
        result.resources.extend(resources);
        result.next_cursor = next;
        result.cache_scope = Some(CacheScope::Private);
        Ok(result)
    }

    async fn our_page(
        &self,
        caller: &Caller,
        position: Option<Position>,
    ) -> Result<(Vec<Resource>, Option<String>), ErrorData> {
        let mut projects = self.listed_projects(caller).into_iter();
        let position = match position {
            // A project that is no longer the caller's is passed over like one that never was.
            Some(position) => projects.find(|it| *it >= position.project).map(|project| {
                match project == position.project {
                    true => position,
                    false => Position { project, after: None },
                }
            }),
            None => projects.next().map(|project| Position { project, after: None }),
        };
        let Some(Position { project, after }) = position else { return Ok((Vec::new(), None)) };
        let request = PageRequest { limit: Some(PAGE), after };
        let list = async { self.resources().list(&project, None, request).await.map_err(failed) };
        let page = self.in_time(list).await?;
        let described = page.items.into_iter().filter_map(|item| match item {
            Ok(summary) => Some(describe(&summary)),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "a resource is not listed");
                None
            }
        });
        let next = match page.next {
            Some(after) => Some(Position { project, after: Some(after) }),
            None => projects.next().map(|project| Position { project, after: None }),
        };
        Ok((described.collect(), next.map(|next| next.text())))
    }

    /// Our template, on the inner handler's last page.
    pub(super) async fn list_templates_with_ours(
        &self,
        page: Option<PaginatedRequestParams>,
        cx: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let mut result = self.shared.inner.list_resource_templates(page, cx).await?;
        if result.next_cursor.is_none() {
            let template = ResourceTemplate::new("tenure://{project}/{kind}/{id}", "resource")
                .with_description("A versioned JSON value of a project")
                .with_mime_type(JSON);
            result.resource_templates.push(template);
        }
        Ok(result)
    }

    /// Reads one of ours. Without rights it looks absent.
    pub(super) async fn read_ours(
        &self,
        uri: &str,
        key: Option<ResourceKey>,
        extensions: &Extensions,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let caller = party(extensions)?;
        let absent = || {
            ErrorData::resource_not_found(
                format!("resource not found: {uri}"),
                Some(json!({ "uri": uri })),
            )
        };
        let key = key.filter(|key| may_read(&caller, key)).ok_or_else(absent)?;
        let read = async {
            self.resources().get(&key).await.map_err(|error| match error {
                ResourceError::NotFound => absent(),
                error => failed(error),
            })
        };
        let resource = self.in_time(read).await?;
        let contents = ResourceContents::TextResourceContents {
            uri: uri.into(),
            mime_type: Some(JSON.into()),
            text: String::from_utf8_lossy(&resource.text).into_owned(),
            meta: None,
        };
        let result = ReadResourceResult::new(vec![contents]);
        Ok(result.with_ttl_ms(0).with_cache_scope(CacheScope::Private).into())
    }
}

pub(super) fn may_read(caller: &Caller, key: &ResourceKey) -> bool {
    caller.projects().rights(key.project()).is_some()
}

/// Declares what the wrapper adds.
pub(super) fn declare(capabilities: &mut ServerCapabilities) {
    let resources = capabilities.resources.get_or_insert_default();
    resources.subscribe = Some(true);
    resources.list_changed = Some(true);
}

fn describe(summary: &Summary) -> Resource {
    let name = format!("{}/{}", summary.key.kind(), summary.key.id());
    Resource::new(uri(&summary.key), name).with_mime_type(JSON)
}

pub(super) fn failed(error: ResourceError) -> ErrorData {
    match error {
        ResourceError::Store(StoreError::InvalidCursor) => {
            ErrorData::invalid_params("unknown cursor", None)
        }
        error if error.is_client_fault() => ErrorData::invalid_params(error.to_string(), None),
        error => {
            tracing::error!(error = %Chain(&error), "a request for resources failed");
            let retryable = error.is_retryable().then(|| json!({ "retryable": true }));
            let message = match &error {
                ResourceError::Store(error) => Trouble::of(error).message("the store"),
                ResourceError::Contended => error.to_string(),
                _ => "the resource cannot be read".into(),
            };
            ErrorData::internal_error(message, retryable)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_resource_has_a_uri_and_comes_back() {
        for (project, kind, id) in
            [("p", "agent", "planner"), ("", "", ""), ("a/b", "%2F", "c d?#é\0"), ("..", ".", "..")]
        {
            let this = ResourceKey::new(project, kind, id).unwrap();
            assert_eq!(key(&uri(&this)), Some(this));
        }
        assert_eq!(uri(&ResourceKey::new("p", "k", "a/b").unwrap()), "tenure://p/k/a%2Fb");
        for other in
            ["tenure://", "tenure://p/k", "tenure://p/k/i/x", "file://p/k/i", "tenure://p/k/%FF"]
        {
            assert_eq!(key(other), None, "{other}");
        }
    }

    #[test]
    fn a_failure_of_the_store_is_named_and_its_cause_is_not() {
        let secret = || Some("/secret/tenure.db".into());
        for (error, told) in [
            (StoreError::Full(secret()), "the store is full"),
            (StoreError::ReadOnly(secret()), "the store is read-only"),
            (StoreError::OutcomeUnknown(secret()), "it is unknown whether the store did it"),
            (
                StoreError::Unavailable { reason: "/secret".into(), source: None },
                "the store is unavailable",
            ),
            (StoreError::Engine { reason: "/secret".into(), source: None }, "the store failed"),
        ] {
            assert_eq!(failed(error.into()).message, told);
        }
    }

    #[test]
    fn a_position_survives_its_text_form() {
        let text = Position { project: "a:b/c".into(), after: None }.text();
        assert_eq!(text, "tenure:a%3Ab%2Fc:");
        assert_eq!(Position::parse(&text).unwrap().project, "a:b/c");
        assert!(Position::parse("tenure:a").is_none());
        assert!(Position::parse("tenure:a:nonsense").is_none());
    }
}
