//! What the demo proves: what stands in the hub's stream against the account of the senders. Pure.

use std::collections::BTreeMap;

/// A message as it stands in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// `edge/epoch/priority` of the stable id.
    pub series: String,
    /// Its sequence.
    pub sequence: u64,
    /// Who sent it, as the edge proves it.
    pub source: String,
    /// The number that the sender wrote into the reading, if it numbers them.
    pub number: Option<u64>,
}

/// Takes what stands in the stream, in its order, and keeps the account by the stable ids.
#[derive(Debug, Default)]
pub struct Ledger {
    highest: BTreeMap<String, u64>,
    streams: BTreeMap<String, Stream>,
    /// The offset behind the last event.
    pub offset: u64,
    /// Records that stand in the stream more than once, or behind a later one.
    pub duplicates: u64,
    /// Sequences of a series that were passed over: lost, or overtaken by a later one.
    pub gaps: u64,
    /// Everything that stands there.
    pub events: u64,
}

/// The readings of one sender.
#[derive(Debug, Default)]
pub struct Stream {
    /// Readings, each once.
    pub readings: u64,
    /// The highest number, which is the count if none is missing.
    pub last: Option<u64>,
    /// Numbers that were passed over.
    pub missing: u64,
    /// Readings that the sender itself sent twice, because its acknowledgement was lost with the killed host.
    pub resent: u64,
}

impl Ledger {
    /// Notes an event. Says whether it was new.
    pub fn take(&mut self, arrival: &Arrival) -> bool {
        self.events += 1;
        match self.highest.get_mut(&arrival.series) {
            Some(highest) if arrival.sequence <= *highest => {
                self.duplicates += 1;
                return false;
            }
            Some(highest) => {
                self.gaps += arrival.sequence - *highest - 1;
                *highest = arrival.sequence;
            }
            None => {
                self.gaps += arrival.sequence;
                self.highest.insert(arrival.series.clone(), arrival.sequence);
            }
        }
        let stream = self.streams.entry(arrival.source.clone()).or_default();
        match (arrival.number, stream.last) {
            (Some(number), Some(last)) if number <= last => {
                stream.resent += 1;
                return true;
            }
            (Some(number), last) => {
                stream.missing += number - last.unwrap_or(0) - 1;
                stream.last = Some(number);
            }
            (None, _) => {}
        }
        stream.readings += 1;
        true
    }

    /// The readings of each sender, by its name.
    pub fn streams(&self) -> &BTreeMap<String, Stream> {
        &self.streams
    }

    /// The highest number that came from a sender.
    pub fn last_number(&self, source: &str) -> u64 {
        self.streams.get(source).and_then(|stream| stream.last).unwrap_or(0)
    }

    /// What is wrong, one sentence each. `acknowledged` holds, for each sender, the highest number that the edge has
    /// acknowledged to it.
    pub fn faults(&self, acknowledged: &[(&str, u64)]) -> Vec<String> {
        let mut faults = Vec::new();
        if self.gaps > 0 {
            faults.push(format!("{} records were lost or overtaken (gaps in their sequence)", self.gaps));
        }
        if self.duplicates > 0 {
            faults.push(format!(
                "{} records stand in the stream twice, or behind a later one",
                self.duplicates
            ));
        }
        for (source, stream) in &self.streams {
            if stream.missing > 0 {
                faults.push(format!("{source}: {} readings are missing", stream.missing));
            }
        }
        for (source, number) in acknowledged {
            let last = self.last_number(source);
            if last < *number {
                faults.push(format!(
                    "{source}: reading {number} was acknowledged, but the last that arrived is {last}"
                ));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(arrivals: &[(u64, u64)]) -> Ledger {
        let mut ledger = Ledger::default();
        for &(sequence, number) in arrivals {
            let arrival =
                Arrival { series: "e/1/d".into(), sequence, source: "dev".into(), number: Some(number) };
            ledger.take(&arrival);
        }
        ledger
    }

    #[test]
    fn what_stands_there_once_and_in_order_is_right_and_what_stands_there_twice_is_not() {
        assert_eq!(ledger(&[(0, 1), (1, 2), (2, 3), (3, 4)]).faults(&[("dev", 4)]), Vec::<String>::new());
        let ledger = ledger(&[(0, 1), (1, 2), (2, 3), (1, 2), (2, 3), (3, 4)]);
        assert_eq!((ledger.duplicates, ledger.gaps, ledger.events), (2, 0, 6));
        assert_eq!(
            ledger.faults(&[("dev", 4)]),
            ["2 records stand in the stream twice, or behind a later one"]
        );
    }

    #[test]
    fn a_reading_that_its_sender_repeats_is_counted_once() {
        let ledger = ledger(&[(0, 1), (1, 2), (2, 2), (3, 3)]);
        let stream = &ledger.streams()["dev"];
        assert_eq!((stream.readings, stream.resent, stream.missing), (3, 1, 0));
    }

    #[test]
    fn every_kind_of_loss_is_found() {
        assert_eq!(
            ledger(&[(0, 1), (2, 2)]).faults(&[]),
            ["1 records were lost or overtaken (gaps in their sequence)"]
        );
        assert_eq!(ledger(&[(0, 1), (1, 3)]).faults(&[]), ["dev: 1 readings are missing"]);
        assert_eq!(
            ledger(&[(1, 1)]).faults(&[]),
            ["1 records were lost or overtaken (gaps in their sequence)"]
        );
        let short = ledger(&[(0, 1)]);
        assert_eq!(
            short.faults(&[("dev", 2)]),
            ["dev: reading 2 was acknowledged, but the last that arrived is 1"]
        );
        assert_eq!(short.faults(&[("other", 1)]).len(), 1);
    }
}
