//! A bounded number of places, of which no owner takes more than a share.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::StatusCode;
use parking_lot::Mutex;
use rmcp::ErrorData;
use serde_json::json;
use tenure::Owner;

/// Permits for what stays: streams, sessions. Clones are the same places.
#[derive(Clone)]
pub(crate) struct OwnerLimiter(Arc<Inner>);

struct Inner {
    what: &'static str,
    all: usize,
    share: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_owner: HashMap<Owner, usize>,
}

/// A place that is taken. Dropping it makes it free.
pub(crate) struct Permit {
    places: Arc<Inner>,
    owner: Owner,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LimitReached {
    #[error("too many {0} are open")]
    Full(&'static str),
    #[error("this caller has too many {0} open")]
    Share(&'static str),
}

impl OwnerLimiter {
    /// `all` places for `what`, and `share` of them for one owner.
    pub(crate) fn new(what: &'static str, all: usize, share: usize) -> Self {
        Self(Arc::new(Inner { what, all, share, taken: Mutex::default() }))
    }

    /// Takes a place, if there is one.
    pub(crate) fn take(&self, owner: &Owner) -> Result<Permit, LimitReached> {
        let mut taken = self.0.taken.lock();
        if taken.all >= self.0.all {
            return Err(LimitReached::Full(self.0.what));
        }
        let owners = taken.by_owner.get(owner).copied().unwrap_or_default();
        if owners >= self.0.share {
            return Err(LimitReached::Share(self.0.what));
        }
        taken.all += 1;
        taken.by_owner.insert(owner.clone(), owners + 1);
        Ok(Permit { places: Arc::clone(&self.0), owner: owner.clone() })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(owners) = taken.by_owner.get_mut(&self.owner) {
            *owners = owners.saturating_sub(1);
            if *owners == 0 {
                taken.by_owner.remove(&self.owner);
            }
        }
    }
}

impl LimitReached {
    /// Whose doing it is decides: the caller's own (RFC 6585), or everybody's.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Share(_) => StatusCode::TOO_MANY_REQUESTS,
        }
    }
}

impl From<LimitReached> for ErrorData {
    fn from(error: LimitReached) -> Self {
        Self::internal_error(error.to_string(), Some(json!({ "retryable": true })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_owner_takes_more_than_its_share_and_what_is_left_is_free_again() {
        let places = OwnerLimiter::new("streams", 3, 2);
        let [alice, bob] = ["alice", "bob"].map(|it| Owner::new(it).unwrap());
        let mut hers = vec![places.take(&alice).unwrap(), places.take(&alice).unwrap()];
        assert_eq!(places.take(&alice).err(), Some(LimitReached::Share("streams")));
        let his = places.take(&bob).unwrap();
        assert_eq!(places.take(&bob).err(), Some(LimitReached::Full("streams")));
        hers.pop();
        hers.push(places.take(&alice).unwrap());
        drop((hers, his));
        assert_eq!(places.0.taken.lock().all, 0);
        assert!(places.0.taken.lock().by_owner.is_empty());
    }
}
