//! A bounded number of permits, of which no owner has more than a share, and for which owners wait
//! in turn.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::owner::Owner;

/// Places for which whoever waits gets one in the order of owners, not of arrival: one that wants a
/// thousand is in nobody's way who wants one.
pub(super) struct FairSemaphore {
    all: usize,
    share: usize,
    state: Mutex<State>,
}

/// Nobody waits for a permit that is free and may have it: whatever makes room hands it on
/// in the same step.
struct State {
    free: usize,
    /// Owners that hold a permit or wait for one.
    lines: HashMap<Owner, Line>,
    /// Owners who wait and have not their share, each once. The first gets the next permit.
    turns: VecDeque<Owner>,
    /// The next who waits.
    ticket: u64,
}

#[derive(Default)]
struct Line {
    held: usize,
    waiting: BTreeMap<u64, oneshot::Sender<Permit>>,
    has_turn: bool,
}

/// A permit that is taken. Dropping it hands it on.
pub(super) struct Permit {
    semaphore: Arc<FairSemaphore>,
    owner: Owner,
}

/// Permits that are handed on, to be sent once the lock is released: one that nobody takes any more
/// comes back, and takes the lock.
type HandedOn = Vec<(oneshot::Sender<Permit>, Permit)>;

impl FairSemaphore {
    /// `all` permits, and `share` of them for one owner.
    pub(super) fn new(all: usize, share: usize) -> Arc<Self> {
        let state = State { free: all, lines: HashMap::new(), turns: VecDeque::new(), ticket: 0 };
        Arc::new(Self { all, share: share.min(all), state: Mutex::new(state) })
    }

    /// Takes a permit if there is one for this owner; else tells the bound that is reached.
    pub(super) fn try_take(self: &Arc<Self>, owner: &Owner) -> Result<Permit, usize> {
        let mut state = self.state.lock();
        let held = state.lines.get(owner).map_or(0, |line| line.held);
        if held >= self.share {
            return Err(self.share);
        }
        state.free = state.free.checked_sub(1).ok_or(self.all)?;
        state.lines.entry(owner.clone()).or_default().held += 1;
        Ok(Permit { semaphore: Arc::clone(self), owner: owner.clone() })
    }

    /// Takes a permit as soon as it is this owner's turn.
    pub(super) async fn take(self: &Arc<Self>, owner: &Owner) -> Permit {
        loop {
            let (_waiter, permit) = match self.try_take(owner) {
                Ok(permit) => return permit,
                Err(_) => self.wait(owner),
            };
            // The sender stays in its line until it is used.
            if let Ok(permit) = permit.await {
                return permit;
            }
        }
    }

    fn wait(self: &Arc<Self>, owner: &Owner) -> (Waiter, oneshot::Receiver<Permit>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        let ticket = state.ticket;
        state.ticket += 1;
        state.lines.entry(owner.clone()).or_default().waiting.insert(ticket, sender);
        state.queue(owner, self.share);
        // Something may have become free since it was asked for.
        let handed_on = self.hand_on(&mut state);
        drop(state);
        send(handed_on);
        (Waiter { semaphore: Arc::clone(self), owner: owner.clone(), ticket }, receiver)
    }

    /// Gives what is free to those whose turn it is.
    fn hand_on(self: &Arc<Self>, state: &mut State) -> HandedOn {
        let mut handed_on = Vec::new();
        while state.free > 0
            && let Some(owner) = state.turns.pop_front()
        {
            let Some(line) = state.lines.get_mut(&owner) else { continue };
            line.has_turn = false;
            if let Some((_, sender)) = line.waiting.pop_first() {
                line.held += 1;
                state.free -= 1;
                let permit = Permit { semaphore: Arc::clone(self), owner: owner.clone() };
                handed_on.push((sender, permit));
            }
            state.queue(&owner, self.share);
        }
        handed_on
    }
}

impl State {
    /// Lets an owner have a turn if it waits and may have more. Forgets one that wants nothing.
    fn queue(&mut self, owner: &Owner, share: usize) {
        let Some(line) = self.lines.get_mut(owner) else { return };
        if !line.waiting.is_empty() && line.held < share && !line.has_turn {
            line.has_turn = true;
            self.turns.push_back(owner.clone());
        }
        if line.held == 0 && line.waiting.is_empty() && !line.has_turn {
            self.lines.remove(owner);
        }
    }
}

fn send(handed_on: HandedOn) {
    for (sender, permit) in handed_on {
        // Who has gone meanwhile drops it, and so hands it on.
        let _ = sender.send(permit);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.semaphore.state.lock();
        state.free += 1;
        if let Some(line) = state.lines.get_mut(&self.owner) {
            line.held -= 1;
        }
        state.queue(&self.owner, self.semaphore.share);
        let handed_on = self.semaphore.hand_on(&mut state);
        drop(state);
        send(handed_on);
    }
}

/// Somebody in a line, who leaves it when dropped.
struct Waiter {
    semaphore: Arc<FairSemaphore>,
    owner: Owner,
    ticket: u64,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = self.semaphore.state.lock();
        let Some(line) = state.lines.get_mut(&self.owner) else { return };
        let left = line.waiting.remove(&self.ticket);
        if line.waiting.is_empty() && line.has_turn {
            line.has_turn = false;
            state.turns.retain(|owner| *owner != self.owner);
        }
        state.queue(&self.owner, self.semaphore.share);
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn owners<const N: usize>(names: [&str; N]) -> [Owner; N] {
        names.map(|name| Owner::new(name).unwrap())
    }

    /// Somebody who waits for a permit.
    fn waits(
        shares: &Arc<FairSemaphore>,
        owner: &Owner,
    ) -> futures::future::BoxFuture<'static, Permit> {
        let (shares, owner) = (Arc::clone(shares), owner.clone());
        let mut waiting = async move { shares.take(&owner).await }.boxed();
        assert!((&mut waiting).now_or_never().is_none());
        waiting
    }

    #[test]
    fn no_owner_has_more_than_its_share_and_others_find_room() {
        let shares = FairSemaphore::new(4, 2);
        let [alice, bob] = owners(["alice", "bob"]);
        let hers = [shares.try_take(&alice), shares.try_take(&alice)];
        assert!(hers.iter().all(Result::is_ok));
        assert_eq!(shares.try_take(&alice).err(), Some(2));
        let his = [shares.try_take(&bob), shares.try_take(&bob)];
        assert!(his.iter().all(Result::is_ok));
        let [carol] = owners(["carol"]);
        assert_eq!(shares.try_take(&carol).err(), Some(4));
    }

    #[test]
    fn what_becomes_free_goes_round_the_owners_that_wait_and_not_by_arrival() {
        let shares = FairSemaphore::new(2, 2);
        let [alice, bob, carol] = owners(["alice", "bob", "carol"]);
        let mut taken = vec![shares.try_take(&carol).ok(), shares.try_take(&carol).ok()];
        let mut waiting: Vec<_> = (0..3).map(|_| ("alice", waits(&shares, &alice))).collect();
        waiting.push(("bob", waits(&shares, &bob)));
        let mut order = Vec::new();
        while !waiting.is_empty() {
            taken.remove(0);
            let ready =
                |(_, it): &mut (_, futures::future::BoxFuture<'static, Permit>)| it.now_or_never();
            let (at, permit) = waiting
                .iter_mut()
                .enumerate()
                .find_map(|(at, it)| Some((at, ready(it)?)))
                .expect("a permit is handed on at once");
            order.push(waiting.remove(at).0);
            taken.push(Some(permit));
        }
        assert_eq!(order, ["alice", "bob", "alice", "alice"]);
    }

    #[test]
    fn who_waits_at_its_share_holds_up_nobody_and_goes_on_with_its_own_permit() {
        let shares = FairSemaphore::new(3, 2);
        let [alice, bob] = owners(["alice", "bob"]);
        let first = shares.try_take(&alice).ok();
        let _second = shares.try_take(&alice).ok();
        let mut waiting = waits(&shares, &alice);
        let his = shares.try_take(&bob);
        assert!(his.is_ok());
        drop(his);
        assert!((&mut waiting).now_or_never().is_none(), "free, but not for her");
        drop(first);
        assert!((&mut waiting).now_or_never().is_some());
    }

    #[test]
    fn who_stops_waiting_leaves_nothing_behind_and_loses_no_permit() {
        let shares = FairSemaphore::new(1, 1);
        let [alice, bob] = owners(["alice", "bob"]);
        let taken = shares.try_take(&alice);
        for _ in 0..10 {
            drop(waits(&shares, &bob));
        }
        assert_eq!(shares.state.lock().lines.len(), 1);
        assert_eq!(shares.state.lock().turns.len(), 0);
        // Handed a permit, and gone before it took it.
        let gone = waits(&shares, &bob);
        drop(taken);
        drop(gone);
        assert!(shares.try_take(&alice).is_ok());
        let state = shares.state.lock();
        assert!(state.lines.is_empty() && state.turns.is_empty() && state.free == 1);
    }
}
