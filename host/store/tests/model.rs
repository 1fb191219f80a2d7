//! The store against a model: a list of messages for each queue, a cursor, times to live, quotas; with reopening in
//! between, well closed or not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use holdfast_store::{Ack, Append, Appended, Commit, Gone, Linger, Store, StoreConfig};
use holdfast_types::{Offset, QueueId, UnixMillis, WhenFull};
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};
use support::{Folder, bodies, entry, queue};

const QUOTA: u64 = 40_000;

#[derive(Clone, Debug)]
enum Step {
    Append { queue: usize, messages: usize, bytes: usize, life_s: Option<u64>, drop_newest: bool },
    Ack { queue: usize, messages: u64 },
    Pass { seconds: u64 },
    SetClock { seconds: i64 },
    Purge { queue: usize },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (0..3_usize, 1..20_usize, 4..1500_usize, prop::option::of(1..100_u64), any::<bool>())
        .prop_map(|(queue, messages, bytes, life_s, drop_newest)| Step::Append {
            queue,
            messages,
            bytes,
            life_s,
            drop_newest,
        });
    let step = prop_oneof![
        8 => append,
        4 => (0..3_usize, 1..40_u64).prop_map(|(queue, messages)| Step::Ack { queue, messages }),
        2 => (1..60_u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => (-100_000..100_000_i64).prop_map(|seconds| Step::SetClock { seconds }),
        1 => (0..3_usize).prop_map(|queue| Step::Purge { queue }),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

#[derive(Default)]
struct Queue {
    /// Number and time of death by the monotonic clock, of every message ever stored.
    messages: Vec<(u32, Option<u64>)>,
    cursor: u64,
    purged: u64,
    dropped_newest: u64,
    passed_by_drop: u64,
}

struct World {
    folder: Folder,
    store: Option<Store>,
    queues: [QueueId; 3],
    model: [Queue; 3],
    passed: u64,
    next: u32,
}

impl World {
    fn new() -> Self {
        // Two priorities of one log share its quota; the third queue has a log of its own.
        let queues = [queue("upstream", 0), queue("upstream", 10), queue("module/m", 5)];
        let mut world = Self {
            folder: Folder::new(),
            store: None,
            queues,
            model: Default::default(),
            passed: 0,
            next: 0,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let config = |config: &mut StoreConfig| {
            config.log_quotas = BTreeMap::from([(self.queues[0].log.clone(), QUOTA)]);
            config.segment_bytes = 2_000;
            config.linger = Linger::Fixed(Duration::ZERO);
        };
        let (store, report) = self.folder.open_with(config);
        assert!(report.is_clean(), "{report}");
        self.store = Some(store);
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Append { queue, messages, bytes, life_s, drop_newest } => {
                self.append(queue, messages, bytes, life_s, drop_newest);
            }
            Step::Ack { queue, messages } => {
                let cursor =
                    (self.model[queue].cursor + messages).min(self.model[queue].messages.len() as u64);
                let ack = Ack { queue: self.queues[queue].clone(), cursor: Offset(cursor) };
                self.store().commit_blocking(Commit { acks: vec![ack], ..Commit::default() }).unwrap();
                self.model[queue].cursor = cursor;
            }
            Step::Pass { seconds } => {
                self.passed += seconds;
                self.folder.clock.pass(Duration::from_secs(seconds));
            }
            Step::SetClock { seconds } => {
                // The store must look at the clock before and after it is set to see a step, as it does five times a
                // second; a clock that is set and read in between by nobody cannot be told from time that passed.
                self.settle();
                self.folder.clock.set(support::START.saturating_add_signed(seconds * 1000) + 3_600_000);
                self.settle();
            }
            Step::Purge { queue } => {
                if !self.model[queue].messages.is_empty() {
                    self.model[queue].purged += self.store().purge(&self.queues[queue]).unwrap();
                    self.model[queue].cursor = self.model[queue].messages.len() as u64;
                }
            }
            Step::Reopen => {
                self.store().close().unwrap();
                self.store = None;
                self.open();
            }
        }
    }

    /// Waits until the committer has looked around twice.
    fn settle(&self) {
        std::thread::sleep(Duration::from_millis(450));
    }

    fn append(&mut self, at: usize, messages: usize, bytes: usize, life_s: Option<u64>, drop_newest: bool) {
        let when_full = if drop_newest { WhenFull::DropNewest } else { WhenFull::DropOldest };
        let now = holdfast_store::Clock::now(&*self.folder.clock).0;
        let numbers: Vec<u32> = (self.next..self.next + messages as u32).collect();
        self.next += messages as u32;
        let appends = numbers.iter().map(|number| {
            let expires = life_s.map(|life| UnixMillis(now + life * 1000));
            Append { queue: self.queues[at].clone(), entry: entry(*number, bytes, expires), when_full }
        });
        let before = self.gone();
        let commit = Commit { appends: appends.collect(), ..Commit::default() };
        let done = self.store().commit_blocking(commit).unwrap();
        for (number, appended) in numbers.into_iter().zip(done.appends) {
            match appended {
                Appended::Stored(offset) => {
                    assert_eq!(offset, Offset(self.model[at].messages.len() as u64), "offsets are dense");
                    self.model[at].messages.push((number, life_s.map(|life| self.passed + life)));
                }
                Appended::Dropped => self.model[at].dropped_newest += 1,
            }
        }
        let after = self.gone();
        for (n, queue) in self.queues.iter().enumerate() {
            let cursor = self.store().cursor(queue).0;
            let model = &mut self.model[n];
            if cursor > model.cursor && after[n].dropped_oldest > before[n].dropped_oldest {
                model.passed_by_drop += cursor - model.cursor;
                model.cursor = cursor;
            }
        }
        let used: u64 =
            self.store().queues().iter().filter(|s| s.queue.log == self.queues[0].log).map(|s| s.bytes).sum();
        assert!(used <= QUOTA, "{used} bytes in a log bounded to {QUOTA}");
    }

    fn gone(&self) -> [Gone; 3] {
        let status = self.store().queues();
        self.queues.clone().map(|queue| {
            status.iter().find(|status| status.queue == queue).map(|status| status.gone).unwrap_or_default()
        })
    }

    fn check(&mut self) {
        let gone = self.gone();
        for (n, queue) in self.queues.iter().enumerate() {
            let model = &self.model[n];
            let alive = |message: &&(u32, Option<u64>)| message.1.is_none_or(|death| death > self.passed);
            let expected: Vec<u32> = model
                .messages
                .iter()
                .skip(model.cursor as usize)
                .filter(alive)
                .map(|message| message.0)
                .collect();
            assert_eq!(bodies(self.store(), queue), expected, "{queue} from {}", model.cursor);
            assert_eq!(self.store().tail(queue).0, model.messages.len() as u64);
            assert_eq!(gone[n].dropped_newest, model.dropped_newest);
            assert_eq!(gone[n].purged, model.purged);
            assert_eq!(gone[n].unreadable, 0);
            assert!(gone[n].dropped_oldest <= model.passed_by_drop);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("HOLDFAST_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24),
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn the_store_does_what_the_model_does(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.run(step);
            world.check();
        }
        world.run(&Step::Reopen);
        world.check();
    }
}
