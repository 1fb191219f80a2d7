//! The receiver's own account of what came.

use std::collections::BTreeMap;

/// Messages as they came: the sender's queue, its sequence, and the body.
#[derive(Debug, Default)]
pub struct Account {
    /// What came first of each queue, in order of arrival.
    first: BTreeMap<String, Vec<u64>>,
    bodies: BTreeMap<(String, u64), String>,
    pub duplicates: usize,
    /// The queues of all that came, in order of arrival.
    pub arrivals: Vec<String>,
}

impl Account {
    /// Notes a message by its stable id, `edge/epoch/priority/sequence`.
    pub fn note(&mut self, id: &str, body: &[u8]) {
        let (queue, sequence) = id.rsplit_once('/').unwrap();
        let sequence: u64 = sequence.parse().unwrap();
        self.arrivals.push(queue.to_owned());
        let body = String::from_utf8(body.to_vec()).unwrap();
        match self.bodies.insert((queue.to_owned(), sequence), body.clone()) {
            None => self.first.entry(queue.to_owned()).or_default().push(sequence),
            Some(before) => {
                assert_eq!(before, body, "one identity, one message");
                self.duplicates += 1;
            }
        }
    }

    /// Messages without duplicates.
    pub fn len(&self) -> usize {
        self.bodies.len()
    }

    /// Every queue came from 0 on, in order, with no gap.
    pub fn assert_whole_and_in_order(&self) {
        for (queue, sequences) in &self.first {
            let expected: Vec<u64> = (0..sequences.len() as u64).collect();
            let odd = sequences.iter().zip(&expected).find(|(a, b)| a != b);
            assert_eq!(odd, None, "queue {queue}: came, expected");
        }
    }
}
