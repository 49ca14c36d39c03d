//! Where the resources are: in a store, or behind a server.

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use percent_encoding::percent_decode_str;
use tenure::resources::{
    Condition, Document, KindPattern, ResourceError, ResourceKey, ResourceStore, Scope,
};
use tenure::store::{Cursor, PageRequest};
use tenure_mcp::http::resources::{
    EventDocument, HistoryDocument, ResourceListDocument, WrittenDocument,
};

use crate::client::Server;
use crate::error::CliError;
use crate::location::{IfAbsent, Target};
use crate::resources::Found;
use crate::resources::args::Common;
use crate::resources::server::ResourceServer;

/// What a watch yields.
pub(crate) type Events = BoxStream<'static, Result<EventDocument, CliError>>;

/// A resource, as the command line names it.
#[derive(Debug)]
pub(crate) struct Address(ResourceKey);

impl Address {
    pub(crate) fn new(project: &str, text: &str) -> Result<Self, CliError> {
        let malformed = || CliError::Usage(format!("{text:?} is not of the form KIND/ID"));
        let (kind, id) = text.split_once('/').ok_or_else(malformed)?;
        Self::of(project, &decoded(kind).ok_or_else(malformed)?, id)
    }

    pub(crate) fn of(project: &str, kind: &str, id: &str) -> Result<Self, CliError> {
        Ok(Self(ResourceKey::new(project, kind, id)?))
    }

    pub(crate) fn project(&self) -> &str {
        self.0.project()
    }

    pub(crate) fn kind(&self) -> &str {
        self.0.kind()
    }

    pub(crate) fn id(&self) -> &str {
        self.0.id()
    }

    /// As the command line names it.
    pub(crate) fn text(&self) -> String {
        address(self.kind(), self.id())
    }
}

/// The text that the command line takes for a resource: `KIND/ID`, with what would mean something
/// else in the kind percent-encoded.
pub(crate) fn address(kind: &str, id: &str) -> String {
    format!("{}/{id}", kind.replace('%', "%25").replace('/', "%2F").replace('*', "%2A"))
}

/// The kind that the command line names as `KIND` or, as a watch takes it, `KIND/`.
pub(crate) fn kind(text: &str) -> Result<String, CliError> {
    let malformed = |reason| CliError::Usage(format!("{text:?} is not a kind: {reason}"));
    let kind = text.strip_suffix('/').unwrap_or(text);
    if kind.contains('/') {
        return Err(malformed("a slash in it is written %2F"));
    }
    decoded(kind).ok_or_else(|| malformed("it is no text"))
}

fn decoded(kind: &str) -> Option<String> {
    percent_decode_str(kind).decode_utf8().ok().map(Into::into)
}

/// No value is known to have it: SHA-256 would have to come to all zeros.
const NOBODYS_ETAG: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

pub(crate) enum Resources {
    Store(ResourceStore),
    Server(ResourceServer),
}

impl Resources {
    pub(crate) async fn at(common: &Common, if_absent: IfAbsent) -> Result<Self, CliError> {
        let for_stores = common.by.is_some().then_some("--by");
        let url = match common.location.target(for_stores)? {
            Target::Store(url) => url,
            Target::Server(url) => {
                let token = common.location.token.as_deref();
                return Ok(Self::Server(ResourceServer::new(Server::new(
                    &url, token, "resource",
                )?)));
            }
        };
        let (backend, clock) = url.open(if_absent).await?;
        Ok(Self::Store(ResourceStore::new(backend, clock).by(common.by())?))
    }

    pub(crate) async fn put(
        &self,
        address: &Address,
        document: &Document,
        condition: Condition,
    ) -> Result<WrittenDocument, CliError> {
        match self {
            Self::Store(store) => {
                let written = store.put_if(&address.0, document, condition).await;
                written.map(WrittenDocument::from).map_err(|error| refused(error, condition))
            }
            Self::Server(server) => server.put(address, document, condition).await,
        }
    }

    /// Has a change judged, its size and the right to make it, that cannot happen.
    pub(crate) async fn judge(
        &self,
        address: &Address,
        document: &Document,
    ) -> Result<(), CliError> {
        let impossible = Condition::ETag(NOBODYS_ETAG.parse()?);
        match self.put(address, document, impossible).await {
            Err(CliError::Changed { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(CliError::Refused("the server does not heed conditions".into())),
        }
    }

    pub(crate) async fn get(
        &self,
        address: &Address,
        version: Option<u64>,
    ) -> Result<Found, CliError> {
        match (self, version) {
            (Self::Store(store), None) => Found::new(&store.get(&address.0).await?.text),
            (Self::Store(store), Some(version)) => {
                Found::new(&store.get_at_version(&address.0, version).await?.text)
            }
            (Self::Server(server), version) => server.get(address, version).await,
        }
    }

    pub(crate) async fn delete(
        &self,
        address: &Address,
        condition: Condition,
    ) -> Result<(), CliError> {
        match self {
            Self::Store(store) => {
                let deleted = store.delete_if(&address.0, condition).await;
                deleted.map(drop).map_err(|error| refused(error, condition))
            }
            Self::Server(server) => server.delete(address, condition).await,
        }
    }

    pub(crate) async fn page(
        &self,
        project: &str,
        kind: Option<&str>,
        cursor: Option<String>,
        values: bool,
    ) -> Result<ResourceListDocument, CliError> {
        let store = match self {
            Self::Store(store) => store,
            Self::Server(server) => return server.page(project, kind, cursor, values).await,
        };
        let after = cursor.map(|it| it.parse::<Cursor>()).transpose()?;
        let request = PageRequest { limit: Some(200), after };
        Ok(match values {
            true => store.list_with_values(project, kind, request).await?.into(),
            false => store.list(project, kind, request).await?.into(),
        })
    }

    pub(crate) async fn history(&self, address: &Address) -> Result<HistoryDocument, CliError> {
        let store = match self {
            Self::Store(store) => store,
            Self::Server(server) => return server.history(address).await,
        };
        Ok(store.history(&address.0).await?.into())
    }

    pub(crate) async fn revert(
        &self,
        address: &Address,
        version: u64,
        condition: Condition,
    ) -> Result<WrittenDocument, CliError> {
        let store = match self {
            Self::Store(store) => store,
            Self::Server(server) => return server.revert(address, version, condition).await,
        };
        match store.revert_if(&address.0, version, condition).await {
            Err(error @ ResourceError::NotFound) => {
                // That may be the version only.
                store.get(&address.0).await.map_err(|error| refused(error, condition))?;
                Err(error.into())
            }
            reverted => Ok(reverted?.into()),
        }
    }

    /// What is there and then every change, until somebody stops it.
    pub(crate) async fn watch(
        &self,
        project: &str,
        pattern: Option<&str>,
    ) -> Result<Events, CliError> {
        let selection = Selection::parse(pattern)?;
        match self {
            Self::Store(store) => {
                let events = store.watch(selection.scope(project)?, None);
                Ok(events.map_ok(|it| EventDocument::from(&it)).map_err(CliError::from).boxed())
            }
            Self::Server(server) => server.watch(project, &selection).await,
        }
    }
}

/// What of a project to watch.
pub(crate) enum Selection {
    Everything,
    /// Those that match a pattern.
    Kinds(String),
    Kind(String),
    One(String, String),
}

impl Selection {
    fn parse(pattern: Option<&str>) -> Result<Self, CliError> {
        let Some(pattern) = pattern else { return Ok(Self::Everything) };
        let (kind, id) = pattern.split_once('/').unwrap_or((pattern, ""));
        let malformed = || CliError::Usage(format!("{pattern:?} is not of the form KIND/ID"));
        let stars = |text: &str| text.matches('*').count();
        let (wildcards, kind) = (stars(kind), decoded(kind).ok_or_else(malformed)?);
        Ok(match (id, wildcards) {
            ("", 0) => Self::Kind(kind),
            ("", _) if stars(&kind) == wildcards => Self::Kinds(kind),
            ("", _) => {
                let reason = "no pattern has a star that stands for itself (%2A)";
                return Err(CliError::Usage(format!("{pattern:?}: {reason}")));
            }
            (id, _) => Self::One(kind, id.into()),
        })
    }

    fn scope(&self, project: &str) -> Result<Scope, ResourceError> {
        match self {
            Self::Everything => Scope::project(project),
            Self::Kinds(pattern) => Scope::kinds(project, [KindPattern::new(pattern.as_str())?]),
            Self::Kind(kind) => Scope::kind(project, kind),
            Self::One(kind, id) => {
                Ok(Scope::resource(&ResourceKey::new(project, kind.as_str(), id.as_str())?))
            }
        }
    }
}

/// A resource that is gone is not the one that the condition names.
fn refused(error: ResourceError, condition: Condition) -> CliError {
    match (error, condition) {
        (
            ResourceError::NotFound,
            Condition::Present | Condition::ETag(_) | Condition::Version(_),
        ) => CliError::Changed { current: None },
        (error, _) => error.into(),
    }
}
