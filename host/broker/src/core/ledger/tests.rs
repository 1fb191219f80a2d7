//! The ledger against a log, clients and crashes that are made up: nothing is lost, nothing of QoS 2 comes twice, the
//! order holds, and the log does not grow with what nobody needs.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const LIMITS: LedgerLimits = LedgerLimits { messages: 1000, runs: 10_000, clean_bytes: 500 };
const BYTES: u32 = 100;

#[derive(Clone, Debug)]
enum Step {
    Append(BTreeSet<u32>),
    Take(u32, usize),
    /// The client acknowledges one of those it has.
    Acknowledge(u32, prop::sample::Index),
    Detach(u32),
    Clean,
    /// The cursor is recorded, with the flows of all sessions.
    Tidy,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let session = 0..4_u32;
    prop::collection::vec(
        prop_oneof![
            4 => prop::collection::btree_set(session.clone(), 1..4).prop_map(Step::Append),
            3 => (session.clone(), 1..5_usize).prop_map(|(s, n)| Step::Take(s, n)),
            4 => (session.clone(), any::<prop::sample::Index>()).prop_map(|(s, i)| Step::Acknowledge(s, i)),
            1 => session.prop_map(Step::Detach),
            2 => Just(Step::Clean),
            2 => Just(Step::Tidy),
            1 => Just(Step::Crash),
        ],
        0..250,
    )
}

/// The log and the documents as they are on disk, and what clients have seen.
#[derive(Default)]
struct World {
    log: Vec<(Offset, BTreeSet<u32>)>,
    cursor: Offset,
    flows: BTreeMap<u32, FlowRecord>,
    /// Orders that a client must get, and those that it has had, each with its packet identifier.
    owed: BTreeMap<u32, BTreeSet<Offset>>,
    seen: BTreeMap<u32, BTreeMap<Offset, u16>>,
    packets: u16,
}

impl World {
    fn restart(&self) -> Ledger {
        let mut ledger = Ledger::new(self.cursor, LIMITS);
        for number in 0..4 {
            ledger.session(number, &self.flows.get(&number).cloned().unwrap_or_default());
        }
        for (at, (order, recipients)) in (0..).zip(&self.log).skip(self.cursor.0 as usize) {
            let position = Position { order: *order, at: Offset(at) };
            assert!(ledger.appended(position, BYTES, recipients.iter().map(|one| (*one, false))).is_empty());
        }
        assert_eq!(ledger.settled(), 0, "what a flow has in hand is in the log");
        ledger
    }

    /// The flow of QoS 2: what was taken is recorded with its packet identifiers before it leaves.
    fn send(&mut self, ledger: &mut Ledger, number: u32, max: usize) {
        let taken = ledger.take(number, max);
        for one in &taken {
            let (order, _) = &self.log[one.at.0 as usize];
            assert_eq!(*order, one.order);
            assert!(one.at >= self.cursor, "the log still has it");
            self.packets += 1;
            ledger.sent(number, one.order, self.packets, 2);
        }
        self.flows.insert(number, ledger.flow_to_write(number).unwrap());
        let seen = self.seen.entry(number).or_default();
        for one in taken {
            let packet =
                ledger.flow(number).unwrap().open.iter().find(|f| f.order == one.order).unwrap().packet;
            assert!(seen.keys().all(|earlier| *earlier < one.order), "in order");
            assert_eq!(seen.insert(one.order, packet.unwrap()), None, "twice");
        }
    }

    fn acknowledge(&mut self, ledger: &mut Ledger, number: u32, index: prop::sample::Index) {
        let open = ledger.flow(number).unwrap().open;
        let sent: Vec<u16> = open.iter().filter_map(|flight| flight.packet).collect();
        if sent.is_empty() {
            return;
        }
        let packet = *index.get(&sent);
        // PUBREC is recorded before PUBREL leaves; PUBCOMP frees without waiting.
        assert!(ledger.released(number, packet));
        self.flows.insert(number, ledger.flow_to_write(number).unwrap());
        ledger.done(number, packet);
    }

    fn clean(&mut self, ledger: &mut Ledger) {
        let Some((needed, upto)) = ledger.worth_cleaning(3, 10_000) else { return };
        assert!(needed.iter().all(|at| *at >= self.cursor && *at < upto));
        for at in needed {
            let (order, recipients) = self.log[at.0 as usize].clone();
            let from = Position { order, at };
            let left: BTreeSet<u32> = recipients.into_iter().filter(|n| ledger.needs(*n, from)).collect();
            assert!(!left.is_empty(), "nobody needs it");
            let to = Offset(self.log.len() as u64);
            self.log.push((order, left.clone()));
            ledger.moved(from, to, BYTES, left.into_iter());
        }
    }

    fn tidy(&mut self, ledger: &mut Ledger) {
        for number in ledger.changed() {
            self.flows.insert(number, ledger.flow_to_write(number).unwrap());
        }
        self.cursor = ledger.cursor();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_session_gets_each_message_once_and_in_order_through_crashes_and_cleaning(steps in steps()) {
        let mut world = World::default();
        let mut ledger = world.restart();
        for step in steps {
            match step {
                Step::Append(recipients) => {
                    let at = Offset(world.log.len() as u64);
                    recipients.iter().for_each(|n| { world.owed.entry(*n).or_default().insert(at); });
                    let position = Position { order: at, at };
                    prop_assert!(ledger.appended(position, BYTES, recipients.iter().map(|one| (*one, false))).is_empty());
                    world.log.push((at, recipients));
                }
                Step::Take(number, max) => world.send(&mut ledger, number, max),
                Step::Acknowledge(number, index) => world.acknowledge(&mut ledger, number, index),
                Step::Detach(number) => ledger.put_back(number),
                Step::Clean => world.clean(&mut ledger),
                Step::Tidy => world.tidy(&mut ledger),
                Step::Crash => ledger = world.restart(),
            }
            let (_, bytes, live) = ledger.totals();
            prop_assert!(live <= bytes);
        }
        ledger = world.restart();
        for number in 0..4 {
            world.send(&mut ledger, number, usize::MAX);
            let owed = world.owed.remove(&number).unwrap_or_default();
            let seen = world.seen.remove(&number).unwrap_or_default();
            prop_assert!(seen.keys().eq(owed.iter()), "{:?} instead of {:?}", seen, owed);
            // What is in hand still has the identifier under which the client knows it.
            for flight in ledger.flow(number).unwrap().open {
                prop_assert_eq!(flight.packet, Some(seen[&flight.order]));
            }
        }
        // When all is acknowledged, nothing is left.
        for number in 0..4 {
            for flight in ledger.flow(number).unwrap().open {
                ledger.done(number, flight.packet.unwrap());
            }
        }
        prop_assert_eq!(ledger.cursor(), Offset(world.log.len() as u64));
        prop_assert_eq!(ledger.totals(), (0, 0, 0));
    }
}

fn fill(ledger: &mut Ledger, range: std::ops::Range<u64>, recipients: &[u32]) -> Vec<u32> {
    let place = |at| Position { order: Offset(at), at: Offset(at) };
    range
        .flat_map(|at| ledger.appended(place(at), BYTES, recipients.iter().map(|one| (*one, false))))
        .collect()
}

#[test]
fn a_session_that_is_full_loses_its_oldest_and_the_others_nothing() {
    let mut ledger = Ledger::new(Offset(0), LedgerLimits { messages: 3, ..LIMITS });
    (0..2).for_each(|number| ledger.session(number, &FlowRecord::default()));
    assert!(fill(&mut ledger, 0..3, &[0, 1]).is_empty());
    assert_eq!(ledger.take(1, 3).len(), 3);
    assert_eq!(fill(&mut ledger, 3..5, &[0, 1]), [0, 0]);
    let orders = |taken: Vec<Position>| taken.iter().map(|one| one.order.0).collect::<Vec<_>>();
    assert_eq!(orders(ledger.take(0, 9)), [2, 3, 4]);
    assert_eq!(orders(ledger.take(1, 9)), [3, 4]);
}

#[test]
fn what_the_store_has_dropped_is_counted_for_each_session_and_needed_by_none() {
    let mut ledger = Ledger::new(Offset(0), LIMITS);
    (0..2).for_each(|number| ledger.session(number, &FlowRecord::default()));
    fill(&mut ledger, 0..10, &[0, 1]);
    ledger.take(0, 2);
    let lost = ledger.dropped_below(Offset(4));
    assert_eq!((lost[&0], lost[&1]), (2, 4));
    assert_eq!(ledger.cursor(), Offset(4));
    assert!(ledger.dropped_below(Offset(4)).is_empty());
    assert_eq!(ledger.flow(1).unwrap().next, Offset(4));
    ledger.end(1);
    ledger.end(0);
    assert_eq!((ledger.cursor(), ledger.totals()), (Offset(10), (0, 0, 0)));
}

#[test]
fn one_slow_session_does_not_keep_what_the_others_are_done_with() {
    let mut ledger = Ledger::new(Offset(0), LIMITS);
    (0..2).for_each(|number| ledger.session(number, &FlowRecord::default()));
    let mut tail = 0;
    for _ in 0..1000 {
        // One in ten is for the slow session.
        fill(&mut ledger, tail..tail + 1, &[0, 1]);
        fill(&mut ledger, tail + 1..tail + 10, &[1]);
        tail += 10;
        for one in ledger.take(1, 10) {
            ledger.gone(1, one.order);
        }
        while let Some((needed, _)) = ledger.worth_cleaning(100, u64::MAX) {
            for at in needed {
                let order = ledger.sessions[&0].waiting.iter().find(|one| one.at == at).unwrap().order;
                ledger.moved(Position { order, at }, Offset(tail), BYTES, [0].into_iter());
                tail += 1;
            }
        }
        let (_, bytes, live) = ledger.totals();
        assert!(bytes < LIMITS.clean_bytes.max(2 * live + 1), "{bytes} bytes for {live} that are needed");
    }
    assert!(ledger.take(0, 2000).windows(2).all(|pair| pair[0].order < pair[1].order));
}
