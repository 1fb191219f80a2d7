//! Telling those who wait what became of their commits.
//!
//! Waking many senders takes as long as a fast disk takes to sync, so that a thread of its own does it while the committer
//! writes the next group. Where a sync takes much longer there is nothing to gain by that, and the way over another
//! thread is time in which the disk rests; the committer then wakes them itself. So it does with a few of them.

use crate::{error::CommitError, message::Committed};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
    mpsc::{Receiver, SendError, SyncSender, sync_channel},
};

pub(crate) type Done = Box<dyn FnOnce(Result<Committed, CommitError>) + Send>;

pub(crate) type Completion = (Done, Committed);

/// The commits of one group, and what became of it.
type Group = (Vec<Completion>, Result<(), CommitError>);

/// Groups that are on disk and not completed yet. Two are enough to keep the disk busy; when senders are slower than
/// that, the committer waits for them.
const GROUPS_MAX: usize = 2;

/// Commits that the committer completes itself whatever the disk is: to wake so few takes no longer than to wake the thread
/// that would do it.
const FEW: usize = 4;

/// Where the committer hands groups over.
pub(crate) struct Completions {
    groups: SyncSender<Group>,
    under_way: Arc<AtomicUsize>,
}

/// The other end, for a thread of its own.
pub(crate) struct Completer {
    groups: Receiver<Group>,
    under_way: Arc<AtomicUsize>,
}

pub(crate) fn completions() -> (Completions, Completer) {
    let (send, receive) = sync_channel(GROUPS_MAX);
    let under_way = Arc::new(AtomicUsize::new(0));
    (
        Completions { groups: send, under_way: Arc::clone(&under_way) },
        Completer { groups: receive, under_way },
    )
}

impl Completions {
    /// Completes a group after all earlier ones: `here`, if none of them is under way, or on the other thread.
    pub(crate) fn complete(&self, completions: Vec<Completion>, result: Result<(), CommitError>, here: bool) {
        if (here || completions.len() <= FEW) && self.under_way.load(Ordering::Acquire) == 0 {
            complete(completions, &result);
            return;
        }
        self.under_way.fetch_add(1, Ordering::AcqRel);
        if let Err(SendError((completions, result))) = self.groups.send((completions, result)) {
            // The completing thread ends only after the committer.
            complete(completions, &result);
        }
    }
}

impl Completer {
    /// Completes groups in order, until the committer ends.
    pub(crate) fn run(&self) {
        while let Ok((completions, result)) = self.groups.recv() {
            complete(completions, &result);
            self.under_way.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn complete(completions: Vec<Completion>, result: &Result<(), CommitError>) {
    for (done, committed) in completions {
        done(result.clone().map(|()| committed));
    }
}
