//! Who has subscribed to which topics: a tree of levels, so that the cost of a look-up follows the depth of the topic
//! and not the number of subscriptions.

use holdfast_types::TopicFilter;
use std::collections::{BTreeMap, HashMap, HashSet};

/// A subscriber's number, given by the task that owns it.
pub(crate) type SubscriberId = u64;

/// Subscriptions by filter.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    root: Level,
    /// The filters of each subscriber, so that one that leaves costs only its own.
    filters: HashMap<SubscriberId, HashSet<TopicFilter>>,
}

#[derive(Debug, Default)]
struct Level {
    below: HashMap<Box<str>, Level>,
    /// Subscribers whose filter ends here, with the number that the subscriber gave the filter.
    here: BTreeMap<SubscriberId, u32>,
}

impl Level {
    fn is_bare(&self) -> bool {
        self.below.is_empty() && self.here.is_empty()
    }
}

/// A subscriber that a topic reaches, and through which of its filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) subscriber: SubscriberId,
    /// The numbers that the subscriber gave its filters that match, in no order.
    pub(crate) filters: Vec<u32>,
}

impl Subscriptions {
    /// Adds a filter under the subscriber's own `number`; the same filter again takes the new number.
    pub(crate) fn add(&mut self, subscriber: SubscriberId, filter: &TopicFilter, number: u32) {
        let mut level = &mut self.root;
        for name in filter.levels() {
            level = level.below.entry(name.into()).or_default();
        }
        level.here.insert(subscriber, number);
        self.filters.entry(subscriber).or_default().insert(filter.clone());
    }

    /// Removes a filter. Says whether it was there.
    pub(crate) fn remove(&mut self, subscriber: SubscriberId, filter: &TopicFilter) -> bool {
        let known = self.filters.get_mut(&subscriber).is_some_and(|filters| filters.remove(filter));
        if known {
            let levels: Vec<&str> = filter.levels().collect();
            remove_below(&mut self.root, subscriber, &levels);
        }
        known
    }

    /// Removes every filter of a subscriber.
    pub(crate) fn forget(&mut self, subscriber: SubscriberId) {
        for filter in self.filters.remove(&subscriber).into_iter().flatten() {
            let levels: Vec<&str> = filter.levels().collect();
            remove_below(&mut self.root, subscriber, &levels);
        }
    }

    /// How many subscriptions there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.filters.values().map(HashSet::len).sum()
    }

    /// Every subscriber that `topic` reaches, each once.
    pub(crate) fn reached(&self, topic: &str) -> Vec<Reached> {
        let mut found: BTreeMap<SubscriberId, Vec<u32>> = BTreeMap::new();
        if self.root.is_bare() {
            return Vec::new();
        }
        // Wildcards in the first level do not name topics that start with `$` (MQTT-4.7.2-1).
        let wildcards = !topic.starts_with('$');
        let mut levels = vec![(&self.root, wildcards)];
        for name in topic.split('/') {
            let mut next = Vec::with_capacity(levels.len() * 2);
            for (level, wildcards) in levels {
                if wildcards {
                    collect(level.below.get("#"), &mut found);
                    next.extend(level.below.get("+").map(|l| (l, true)));
                }
                next.extend(level.below.get(name).map(|l| (l, true)));
            }
            levels = next;
        }
        for (level, _) in levels {
            collect(Some(level), &mut found);
            // "sport/#" names "sport" too (MQTT 5, 4.7.1.2).
            collect(level.below.get("#"), &mut found);
        }
        found.into_iter().map(|(subscriber, filters)| Reached { subscriber, filters }).collect()
    }
}

fn collect(level: Option<&Level>, found: &mut BTreeMap<SubscriberId, Vec<u32>>) {
    for (subscriber, number) in level.iter().flat_map(|l| &l.here) {
        found.entry(*subscriber).or_default().push(*number);
    }
}

fn remove_below(level: &mut Level, subscriber: SubscriberId, levels: &[&str]) {
    let Some((first, rest)) = levels.split_first() else {
        level.here.remove(&subscriber);
        return;
    };
    let Some(below) = level.below.get_mut(*first) else { return };
    remove_below(below, subscriber, rest);
    if below.is_bare() {
        level.below.remove(*first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::new(text).unwrap()
    }

    #[test]
    fn the_tree_agrees_with_the_filter_itself() {
        let filters = ["#", "+", "a/#", "a/+", "a/b", "+/b", "+/+", "/+", "$SYS/#", "a/b/c", "a//c", "+/#"];
        let topics = ["a", "a/b", "a/b/c", "/b", "b", "$SYS/x", "$SYS", "a/", "a//c", "x/y/z"];
        let mut tree = Subscriptions::default();
        for (number, text) in (0u32..).zip(filters) {
            tree.add(1, &filter(text), number);
        }
        for topic in topics {
            let mut seen: Vec<u32> = tree.reached(topic).into_iter().flat_map(|r| r.filters).collect();
            seen.sort_unstable();
            let expected: Vec<u32> =
                (0u32..).zip(filters).filter(|(_, f)| filter(f).matches(topic)).map(|(n, _)| n).collect();
            assert_eq!(seen, expected, "{topic}");
        }
    }

    #[test]
    fn a_removed_filter_leaves_nothing_behind() {
        let mut tree = Subscriptions::default();
        tree.add(1, &filter("a/b/c"), 0);
        tree.add(2, &filter("a/b"), 0);
        assert!(tree.remove(1, &filter("a/b/c")));
        assert!(!tree.remove(1, &filter("a/b/c")));
        assert!(!tree.remove(1, &filter("a/b")), "another's");
        tree.add(1, &filter("x/#"), 0);
        tree.forget(1);
        assert_eq!(tree.len(), 1);
        assert!(tree.remove(2, &filter("a/b")));
        assert!(tree.root.is_bare());
    }
}
