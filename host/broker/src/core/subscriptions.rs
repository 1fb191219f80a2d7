//! Who has subscribed to which topics: a tree of levels, so that the cost of a look-up follows the depth of the topic
//! and not the number of subscriptions.

use super::{
    publishing::{Interest, Publishing, SubscriberId, SubscriptionOptions},
    sharing::{Load, Members},
};
use holdfast_types::{QoS, Text};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

/// Subscriptions by filter.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    root: Level,
    /// What each subscriber is interested in, so that one that leaves costs only its own.
    interests: HashMap<SubscriberId, HashSet<Interest>>,
}

#[derive(Debug, Default)]
struct Level {
    /// By their names, but for the wildcards: those are looked for at each level of each topic.
    named: HashMap<Box<str>, Level>,
    /// `+`.
    any: Option<Box<Level>>,
    /// `#`.
    all: Option<Box<Level>>,
    /// Subscribers whose filter ends here.
    here: BTreeMap<SubscriberId, SubscriptionOptions>,
    /// Groups that share a filter which ends here.
    shared: BTreeMap<Text, Members>,
}

impl Level {
    fn is_bare(&self) -> bool {
        !self.has_below() && self.here.is_empty() && self.shared.is_empty()
    }

    fn has_below(&self) -> bool {
        self.any.is_some() || self.all.is_some() || !self.named.is_empty()
    }

    /// What a level of a filter stands for.
    fn below(&self, name: &str) -> Option<&Self> {
        match name {
            "+" => self.any.as_deref(),
            "#" => self.all.as_deref(),
            name => self.named.get(name),
        }
    }

    fn below_mut(&mut self, name: &str) -> Option<&mut Self> {
        match name {
            "+" => self.any.as_deref_mut(),
            "#" => self.all.as_deref_mut(),
            name => self.named.get_mut(name),
        }
    }

    fn below_or_new(&mut self, name: &str) -> &mut Self {
        match name {
            "+" => self.any.get_or_insert_default(),
            "#" => self.all.get_or_insert_default(),
            name => self.named.entry(name.into()).or_default(),
        }
    }

    fn remove_below(&mut self, name: &str) {
        match name {
            "+" => self.any = None,
            "#" => self.all = None,
            name => drop(self.named.remove(name)),
        }
    }
}

/// A subscriber that a message reaches, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) subscriber: SubscriberId,
    /// The best of what its subscriptions that match were granted, but not more than the message was published with.
    pub(crate) qos: QoS,
    /// Whether it is told that the message was published to be retained.
    pub(crate) retain: bool,
    /// The identifiers of its subscriptions that match.
    pub(crate) ids: Vec<u32>,
    /// The shared subscription as whose member it was picked.
    pub(crate) shared: Option<Arc<Interest>>,
}

impl Reached {
    fn new(subscriber: SubscriberId, options: &SubscriptionOptions, publishing: &Publishing) -> Self {
        Self {
            subscriber,
            qos: options.qos.min(publishing.qos),
            retain: options.retain_as_published && publishing.retain,
            ids: options.id.iter().map(|id| id.get()).collect(),
            shared: None,
        }
    }

    /// One more subscription of the same subscriber matches: it gets one copy, with the best of both (MQTT-3.3.4-2).
    fn merge(&mut self, options: &SubscriptionOptions, publishing: &Publishing) {
        self.qos = self.qos.max(options.qos.min(publishing.qos));
        self.retain |= options.retain_as_published && publishing.retain;
        self.ids.extend(options.id.iter().map(|id| id.get()));
    }
}

impl Subscriptions {
    /// Adds a subscription or gives it new options. Says whether it is new.
    pub(crate) fn add(
        &mut self,
        subscriber: SubscriberId,
        interest: &Interest,
        options: SubscriptionOptions,
    ) -> bool {
        let mut level = &mut self.root;
        for name in interest.filter.levels() {
            level = level.below_or_new(name);
        }
        match &interest.group {
            None => {
                level.here.insert(subscriber, options);
            }
            Some(group) => {
                let members =
                    level.shared.entry(group.clone()).or_insert_with(|| Members::new(interest.clone()));
                members.add(subscriber, options);
            }
        }
        self.interests.entry(subscriber).or_default().insert(interest.clone())
    }

    /// Removes a subscription. Says whether it was there.
    pub(crate) fn remove(&mut self, subscriber: SubscriberId, interest: &Interest) -> bool {
        let known = self.interests.get_mut(&subscriber).is_some_and(|all| all.remove(interest));
        if known {
            remove_below(&mut self.root, subscriber, interest);
        }
        known
    }

    /// Removes up to so many subscriptions of a subscriber. Says whether there are more.
    pub(crate) fn forget(&mut self, subscriber: SubscriberId, at_once: usize) -> bool {
        let Some(all) = self.interests.get_mut(&subscriber) else { return false };
        let these: Vec<Interest> = all.iter().take(at_once).cloned().collect();
        for interest in &these {
            all.remove(interest);
            remove_below(&mut self.root, subscriber, interest);
        }
        let has_more = !all.is_empty();
        if !has_more {
            self.interests.remove(&subscriber);
        }
        has_more
    }

    /// Whether nobody has subscribed to anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.is_bare()
    }

    /// How many subscriptions there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.interests.values().map(HashSet::len).sum()
    }

    /// Every subscriber that a message on `topic` reaches: each once, and once more for each shared subscription as
    /// whose member it is picked.
    pub(crate) fn reached(
        &self,
        topic: &str,
        publishing: &Publishing,
        load: &dyn Fn(SubscriberId) -> Option<Load>,
    ) -> Vec<Reached> {
        // What is sorted is small: a subscriber with many filters that overlap is found once for each.
        let (mut matching, mut picked) = (Vec::new(), Vec::new());
        self.ends(topic, &mut |level| {
            let heard = |(subscriber, options): &(&SubscriberId, &SubscriptionOptions)| {
                !(options.no_local && publishing.origin == Some(**subscriber))
            };
            matching.extend(level.here.iter().filter(heard));
            picked.extend(level.shared.values().filter_map(|members| {
                let (subscriber, options) = members.pick(load)?;
                let shared = Some(members.interest.clone());
                Some(Reached { shared, ..Reached::new(subscriber, &options, publishing) })
            }));
        });
        matching.sort_by_key(|(subscriber, _)| **subscriber);
        let mut found: Vec<Reached> =
            Vec::with_capacity(matching.len().min(self.interests.len()) + picked.len());
        for (subscriber, options) in matching {
            match found.last_mut().filter(|last| last.subscriber == *subscriber) {
                Some(last) => last.merge(options, publishing),
                None => found.push(Reached::new(*subscriber, options, publishing)),
            }
        }
        found.append(&mut picked);
        found
    }

    /// Another member of a group for a message that was meant for one that has left.
    pub(crate) fn another(
        &self,
        interest: &Interest,
        load: &dyn Fn(SubscriberId) -> Option<Load>,
    ) -> Option<(SubscriberId, SubscriptionOptions)> {
        self.members(interest)?.pick(load)
    }

    fn members(&self, interest: &Interest) -> Option<&Members> {
        let mut level = &self.root;
        for name in interest.filter.levels() {
            level = level.below(name)?;
        }
        level.shared.get(interest.group.as_ref()?)
    }

    /// Whether a group has members.
    pub(crate) fn has_members(&self, interest: &Interest) -> bool {
        self.members(interest).is_some()
    }

    /// Whether a subscriber is a member of any group.
    pub(crate) fn is_member(&self, subscriber: SubscriberId) -> bool {
        self.interests.get(&subscriber).is_some_and(|all| all.iter().any(|one| one.group.is_some()))
    }

    /// Visits every level at which a filter ends that names `topic`.
    fn ends<'a>(&'a self, topic: &str, visit: &mut impl FnMut(&'a Level)) {
        if self.is_empty() {
            return;
        }
        // Wildcards in the first level do not name topics that start with `$` (MQTT-4.7.2-1).
        let wildcards = !topic.starts_with('$');
        let mut levels = vec![(&self.root, wildcards)];
        let mut next = Vec::new();
        for name in topic.split('/') {
            for (level, wildcards) in levels.drain(..) {
                if wildcards {
                    level.all.as_deref().into_iter().for_each(&mut *visit);
                    next.extend(level.any.as_deref().map(|l| (l, true)));
                }
                if !level.named.is_empty() {
                    next.extend(level.named.get(name).map(|l| (l, true)));
                }
            }
            std::mem::swap(&mut levels, &mut next);
        }
        for (level, _) in levels {
            visit(level);
            // "sport/#" names "sport" too (MQTT 5, 4.7.1.2).
            level.all.as_deref().into_iter().for_each(&mut *visit);
        }
    }
}

fn remove_below(root: &mut Level, subscriber: SubscriberId, interest: &Interest) {
    let levels: Vec<&str> = interest.filter.levels().collect();
    remove_at(root, subscriber, interest, &levels);
}

fn remove_at(level: &mut Level, subscriber: SubscriberId, interest: &Interest, levels: &[&str]) {
    let Some((first, rest)) = levels.split_first() else {
        let Some(group) = &interest.group else {
            level.here.remove(&subscriber);
            return;
        };
        if let Some(members) = level.shared.get_mut(group) {
            members.remove(subscriber);
            if members.is_empty() {
                level.shared.remove(group);
            }
        }
        return;
    };
    let Some(below) = level.below_mut(first) else { return };
    remove_at(below, subscriber, interest, rest);
    if below.is_bare() {
        level.remove_below(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::TopicFilter;
    use std::num::NonZeroU32;

    const ONE: SubscriberId = SubscriberId(1);
    const TWO: SubscriberId = SubscriberId(2);

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).unwrap()
    }

    fn interest(text: &str) -> Interest {
        filter(text).into()
    }

    fn shared(group: &str, text: &str) -> Interest {
        Interest { group: Some(group.into()), filter: filter(text) }
    }

    fn numbered(n: u32) -> SubscriptionOptions {
        SubscriptionOptions { id: NonZeroU32::new(n), ..SubscriptionOptions::new(QoS::AtLeastOnce) }
    }

    fn idle(_: SubscriberId) -> Option<Load> {
        Some(Load { away: false, bytes: 0 })
    }

    fn reached(tree: &Subscriptions, topic: &str) -> Vec<Reached> {
        tree.reached(topic, &Publishing::default(), &idle)
    }

    #[test]
    fn the_tree_agrees_with_the_filter_itself() {
        let filters = ["#", "+", "a/#", "a/+", "a/b", "+/b", "+/+", "/+", "$SYS/#", "a/b/c", "a//c", "+/#"];
        let topics = ["a", "a/b", "a/b/c", "/b", "b", "$SYS/x", "$SYS", "a/", "a//c", "x/y/z"];
        let mut tree = Subscriptions::default();
        for (number, text) in (1u32..).zip(filters) {
            assert!(tree.add(ONE, &interest(text), numbered(number)));
            assert!(tree.add(TWO, &shared("g", text), numbered(number)));
        }
        for topic in topics {
            let (alone, shared): (Vec<_>, Vec<_>) =
                reached(&tree, topic).into_iter().partition(|one| one.shared.is_none());
            let expected: Vec<u32> =
                (1u32..).zip(filters).filter(|(_, f)| filter(f).matches(topic)).map(|(n, _)| n).collect();
            for found in [alone, shared] {
                let mut seen: Vec<u32> = found.into_iter().flat_map(|one| one.ids).collect();
                seen.sort_unstable();
                assert_eq!(seen, expected, "{topic}");
            }
        }
    }

    #[test]
    fn a_removed_filter_leaves_nothing_behind() {
        let mut tree = Subscriptions::default();
        tree.add(ONE, &interest("a/b/c"), numbered(1));
        tree.add(TWO, &interest("a/b"), numbered(1));
        tree.add(TWO, &shared("g", "a/b"), numbered(1));
        assert!(tree.remove(ONE, &interest("a/b/c")));
        assert!(!tree.remove(ONE, &interest("a/b/c")));
        assert!(!tree.remove(ONE, &interest("a/b")), "another's");
        tree.add(ONE, &interest("x/#"), numbered(1));
        tree.add(ONE, &interest("y"), numbered(1));
        assert!(tree.forget(ONE, 1), "there are more");
        assert!(!tree.forget(ONE, usize::MAX));
        assert_eq!(tree.len(), 2);
        assert!(tree.remove(TWO, &interest("a/b")));
        assert!(!tree.remove(TWO, &shared("h", "a/b")), "another group");
        assert!(tree.remove(TWO, &shared("g", "a/b")));
        assert!(tree.is_empty());
    }

    #[test]
    fn one_copy_has_the_best_of_all_subscriptions_but_no_more_than_was_published() {
        let mut tree = Subscriptions::default();
        let two =
            SubscriptionOptions { retain_as_published: true, ..SubscriptionOptions::new(QoS::ExactlyOnce) };
        tree.add(ONE, &interest("a/b"), SubscriptionOptions { qos: QoS::AtMostOnce, ..numbered(7) });
        tree.add(ONE, &interest("a/+"), two);
        let published = |qos, retain| {
            let publishing = Publishing { qos, retain, ..Publishing::default() };
            let mut all = tree.reached("a/b", &publishing, &idle);
            let one = all.pop().unwrap();
            assert!(all.is_empty());
            (one.qos, one.retain, one.ids)
        };
        assert_eq!(published(QoS::ExactlyOnce, true), (QoS::ExactlyOnce, true, vec![7]));
        assert_eq!(published(QoS::AtLeastOnce, false), (QoS::AtLeastOnce, false, vec![7]));
        assert_eq!(published(QoS::AtMostOnce, false), (QoS::AtMostOnce, false, vec![7]));
    }

    #[test]
    fn a_subscriber_does_not_hear_itself_if_it_asks_so() {
        let mut tree = Subscriptions::default();
        let deaf = SubscriptionOptions { no_local: true, ..numbered(1) };
        tree.add(ONE, &interest("a/b"), deaf);
        tree.add(ONE, &interest("a/#"), numbered(2));
        tree.add(TWO, &interest("a/b"), deaf);
        let publishing = Publishing { origin: Some(ONE), ..Publishing::default() };
        let all = tree.reached("a/b", &publishing, &idle);
        let found: Vec<_> = all.into_iter().map(|one| (one.subscriber, one.ids)).collect();
        assert_eq!(found, [(ONE, vec![2]), (TWO, vec![1])]);
    }

    #[test]
    fn each_shared_subscription_gives_a_message_to_one_of_its_members() {
        let mut tree = Subscriptions::default();
        for member in [ONE, TWO] {
            tree.add(member, &shared("g", "a/#"), numbered(1));
        }
        tree.add(ONE, &shared("h", "a/#"), numbered(2));
        let mut seen: Vec<_> = (0..4)
            .flat_map(|_| reached(&tree, "a/b"))
            .filter(|one| one.ids == [1])
            .map(|one| one.subscriber)
            .collect();
        seen.sort();
        assert_eq!(seen, [ONE, ONE, TWO, TWO]);
        assert_eq!(reached(&tree, "a/b").len(), 2, "one for each group");
        let another = tree.another(&shared("h", "a/#"), &idle);
        assert_eq!(another.map(|(member, _)| member), Some(ONE));
        assert!(tree.another(&shared("h", "a"), &idle).is_none());
    }
}
