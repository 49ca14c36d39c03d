//! The right to run, which a handler gives back while it waits for a person.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::owner::Owner;
use crate::runtime::fair_semaphore::{FairSemaphore, Permit};

/// A handler's slot. Dropping it hands the slot on, or leaves the line for one.
pub(super) struct Slot {
    slots: Arc<FairSemaphore>,
    owner: Owner,
    /// Locked while it is being regained, so that two parts of a handler that go on at the same
    /// time need one slot, not two.
    state: Mutex<State>,
    /// Whether the handler goes on without its slot, in line for it.
    in_line: AtomicBool,
    /// How many parts of the handler wait.
    waits: watch::Sender<usize>,
}

enum State {
    Held(#[expect(dead_code, reason = "it is held, not looked at")] Permit),
    /// The handler waits.
    GivenBack,
    /// The handler goes on, or is about to. What is handed on counts as held at once, whether or not
    /// anybody awaits it.
    InLine(BoxFuture<'static, Permit>),
}

/// A wait of a part of a handler, without the slot. When the last of them ends, however it does, the handler is
/// not left without a slot unless it is to stop anyway: one that stops waiting goes on at once, and
/// stands in line. Until then a part that goes on does so beside a wait, and needs none: nobody can tell
/// when it is done.
pub(super) struct Wait<'a> {
    slot: &'a Slot,
    cancellation: &'a CancellationToken,
}

impl Slot {
    pub(super) fn new(slots: Arc<FairSemaphore>, owner: Owner, permit: Permit) -> Self {
        Self {
            slots,
            owner,
            state: Mutex::new(State::Held(permit)),
            in_line: AtomicBool::new(false),
            waits: watch::Sender::new(0),
        }
    }

    /// Waits until the handler waits.
    pub(super) async fn is_waiting(&self) {
        // The sender is ours, so this does not fail.
        let _ = self.waits.subscribe().wait_for(|waits| *waits > 0).await;
    }

    /// Gives the slot back. While it is being regained, whoever does that gives it back.
    pub(super) fn give_back<'a>(&'a self, cancellation: &'a CancellationToken) -> Wait<'a> {
        if let Ok(mut state) = self.state.try_lock() {
            self.set(&mut state, State::GivenBack);
        }
        self.waits.send_modify(|waits| *waits += 1);
        Wait { slot: self, cancellation }
    }

    /// Waits for the slot if the handler goes on without one, because a wait was dropped.
    pub(super) async fn regain(&self) {
        // Only who is in line holds the lock: whoever finds it taken relies on that.
        if self.in_line.load(Ordering::SeqCst) {
            self.await_turn(&mut *self.state.lock().await, 0).await;
        }
    }

    /// Waits for the slot if it is in line for it. It keeps it unless more than so many parts wait by then.
    async fn await_turn(&self, state: &mut State, ended: usize) {
        if let State::InLine(turn) = state {
            let permit = turn.await;
            let is_waiting = *self.waits.borrow() > ended;
            self.set(state, if is_waiting { State::GivenBack } else { State::Held(permit) });
        }
    }

    fn set(&self, state: &mut State, next: State) {
        self.in_line.store(matches!(next, State::InLine(_)), Ordering::SeqCst);
        *state = next;
    }

    fn line_up(&self) -> State {
        let (slots, owner) = (Arc::clone(&self.slots), self.owner.clone());
        let mut turn = async move { slots.take(&owner).await }.boxed();
        // Nobody is in line who has not been polled.
        match (&mut turn).now_or_never() {
            Some(permit) => State::Held(permit),
            None => State::InLine(turn),
        }
    }
}

impl Wait<'_> {
    /// Ends the wait: has the slot again, once it is this owner's turn, unless another part waits.
    pub(super) async fn end(&self) {
        let mut state = self.slot.state.lock().await;
        if let State::GivenBack = *state
            && *self.slot.waits.borrow() == 1
        {
            self.slot.set(&mut state, self.slot.line_up());
        }
        self.slot.await_turn(&mut state, 1).await;
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let mut is_last = false;
        self.slot.waits.send_modify(|waits| {
            *waits -= 1;
            is_last = *waits == 0;
        });
        if !is_last || self.cancellation.is_cancelled() {
            return;
        }
        // Who has it locked is in line already.
        if let Ok(mut state) = self.slot.state.try_lock()
            && let State::GivenBack = *state
        {
            self.slot.set(&mut state, self.slot.line_up());
        }
    }
}
