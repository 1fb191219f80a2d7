//! Shared subscriptions: which member of a group takes a message.

use super::publishing::{Interest, SubscriberId, SubscriptionOptions};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How busy a member is. The least busy member takes the next message; among equals they take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Load {
    /// Members whose client is away come last.
    pub(crate) away: bool,
    /// Bytes that it holds.
    pub(crate) bytes: usize,
}

/// The members of one shared subscription, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) interest: Arc<Interest>,
    members: Vec<(SubscriberId, SubscriptionOptions)>,
    turn: AtomicUsize,
}

impl Members {
    pub(crate) fn new(interest: Interest) -> Self {
        Self { interest: Arc::new(interest), members: Vec::new(), turn: AtomicUsize::new(0) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Adds a member, or gives it new options.
    pub(crate) fn add(&mut self, subscriber: SubscriberId, options: SubscriptionOptions) {
        match self.members.iter_mut().find(|(member, _)| *member == subscriber) {
            Some((_, old)) => *old = options,
            None => self.members.push((subscriber, options)),
        }
    }

    pub(crate) fn remove(&mut self, subscriber: SubscriberId) {
        self.members.retain(|(member, _)| *member != subscriber);
    }

    /// The member that takes the next message. `load` says nothing of one that has no room.
    pub(crate) fn pick(
        &self,
        load: &dyn Fn(SubscriberId) -> Option<Load>,
    ) -> Option<(SubscriberId, SubscriptionOptions)> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.members.len().max(1);
        let (later, first) = self.members.split_at_checked(turn)?;
        let loads = first.iter().chain(later).filter_map(|member| Some((load(member.0)?, member)));
        loads.min_by_key(|(load, _)| *load).map(|(_, member)| *member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::{QoS, TopicFilter};

    fn members(count: u64) -> Members {
        let mut all = Members::new(TopicFilter::new("a").unwrap().into());
        (0..count).for_each(|n| all.add(SubscriberId(n), SubscriptionOptions::new(QoS::AtLeastOnce)));
        all
    }

    fn picks(all: &Members, load: impl Fn(SubscriberId) -> Option<Load>, count: usize) -> Vec<u64> {
        (0..count).filter_map(|_| all.pick(&load)).map(|(member, _)| member.0).collect::<Vec<u64>>()
    }

    #[test]
    fn members_that_are_equally_busy_take_turns() {
        let idle = |_| Some(Load { away: false, bytes: 0 });
        assert_eq!(picks(&members(3), idle, 6), [0, 1, 2, 0, 1, 2]);
        assert!(picks(&members(0), idle, 3).is_empty());
    }

    #[test]
    fn the_least_busy_member_that_is_there_takes_the_message_and_a_full_one_never() {
        let load = |member: SubscriberId| match member.0 {
            0 => None,
            1 => Some(Load { away: true, bytes: 0 }),
            2 => Some(Load { away: false, bytes: 100 }),
            _ => Some(Load { away: false, bytes: 50 }),
        };
        assert_eq!(picks(&members(4), load, 3), [3, 3, 3]);
        assert_eq!(picks(&members(3), load, 3), [2, 2, 2]);
        assert_eq!(picks(&members(2), load, 3), [1, 1, 1], "one that is away is better than nobody");
        assert!(picks(&members(1), load, 3).is_empty());
    }
}
