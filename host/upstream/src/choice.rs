//! Which way to whom: rules alone, without sockets and without a clock.
//!
//! There are places (hubs or brokers), the preferred one first, and ways to each (QUIC, TLS, WebSocket), the preferred
//! one first. One round of attempts takes the ways of the place in use, those that worked before the others; where that
//! place could not be reached for a time, the ways of the other places as well. While a way works, better ones are tried
//! beside it now and then; a better way to the same place is taken when it was proven once. A better place is returned to
//! when somebody says so, or, where the rules say that the link returns by itself, when it was proven twice with the whole
//! time between two tries in between, and nothing failed there meanwhile.

use holdfast_types::Text;
use std::time::{Duration, Instant};

/// How often the wait between two tries of better ways may double.
const DOUBLINGS_MAX: u32 = 3;

/// How long to hold on to what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChoiceRules {
    /// How long a way must have worked before better ones are tried. The wait doubles, up to eight times, while they fail.
    pub return_after: Duration,
    /// How long the place in use may be out of reach before the others are tried.
    pub failover_after: Duration,
    /// Whether a better place is returned to without being told.
    pub returns: bool,
}

impl Default for ChoiceRules {
    /// Five minutes, and 30 s: a restart of a broker is no reason to leave it. What has moved stays until it is told: a
    /// primary that comes and goes would otherwise take its edges with it each time.
    fn default() -> Self {
        Self {
            return_after: Duration::from_secs(300),
            failover_after: Duration::from_secs(30),
            returns: false,
        }
    }
}

/// One way to one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) place: usize,
    pub(crate) way: usize,
}

/// What is known of a way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Nothing,
    Works,
    Failed(Text),
}

#[derive(Clone, Debug)]
struct Track {
    known: Known,
    worked: Option<Instant>,
}

/// The state of the choice.
pub(crate) struct Choice {
    rules: ChoiceRules,
    /// By place and way.
    tracks: Vec<Vec<Track>>,
    /// The place in use.
    place: usize,
    /// Since when it is out of reach.
    lost_since: Option<Instant>,
    /// The way that is up.
    up: Option<At>,
    next_try: Option<Instant>,
    doublings: u32,
    /// Since when a better place answers, if it does.
    healthy: Vec<Option<Instant>>,
    /// Somebody named the place; it is not left for a better one.
    told: bool,
    /// Somebody wants the preferred place back, as soon as it answers.
    wanted_back: bool,
}

impl Choice {
    /// `ways` holds how many ways there are to each place, the preferred place first.
    pub(crate) fn new(rules: ChoiceRules, ways: impl IntoIterator<Item = usize>) -> Self {
        let untried = Track { known: Known::Nothing, worked: None };
        let tracks: Vec<_> = ways.into_iter().map(|count| vec![untried.clone(); count]).collect();
        let healthy = vec![None; tracks.len()];
        Self {
            rules,
            tracks,
            place: 0,
            lost_since: None,
            up: None,
            next_try: None,
            doublings: 0,
            healthy,
            told: false,
            wanted_back: false,
        }
    }

    /// What to try in this round, in order.
    pub(crate) fn round(&self, now: Instant) -> Vec<At> {
        let mut places = vec![self.place];
        let lost = self.lost_since.is_some_and(|since| now >= since + self.rules.failover_after);
        if lost && !self.told {
            places.extend((0..self.tracks.len()).filter(|place| *place != self.place));
        }
        places.into_iter().flat_map(|place| self.ways(place)).collect()
    }

    /// The ways to a place: what worked last first, then the preferred first.
    fn ways(&self, place: usize) -> Vec<At> {
        let tracks = self.tracks.get(place).map(Vec::as_slice).unwrap_or_default();
        let mut ways: Vec<_> = tracks.iter().enumerate().collect();
        ways.sort_by_key(|(_, track)| std::cmp::Reverse(track.worked));
        ways.into_iter().map(|(way, _)| At { place, way }).collect()
    }

    /// A way did not lead to a welcome.
    pub(crate) fn failed(&mut self, at: At, why: Text, now: Instant) {
        if let Some(track) = self.track(at) {
            track.known = Known::Failed(why);
        }
        if at.place == self.place && self.up.is_none() {
            self.lost_since.get_or_insert(now);
        }
    }

    /// The other side welcomed us on this way.
    pub(crate) fn welcomed(&mut self, at: At, now: Instant) {
        if let Some(track) = self.track(at) {
            *track = Track { known: Known::Works, worked: Some(now) };
        }
        if self.place != at.place {
            self.healthy.fill(None);
        }
        self.place = at.place;
        self.wanted_back &= at.place != 0;
        self.lost_since = None;
        self.up = Some(at);
        self.doublings = 0;
        self.next_try = (!self.better().is_empty()).then(|| now + self.rules.return_after);
    }

    /// What was up is not any more.
    pub(crate) fn ended(&mut self, now: Instant) {
        if self.up.take().is_some() {
            self.lost_since = Some(now);
        }
        self.next_try = None;
    }

    /// When better ways are to be tried, while one is up.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.next_try
    }

    /// What is better than the way that is up: better ways to its place, then better places. One after another is tried
    /// until one is proven.
    pub(crate) fn better(&self) -> Vec<At> {
        let Some(up) = self.up else { return Vec::new() };
        let ways = (0..up.way).map(|way| At { place: up.place, way });
        let returns = !self.told && (self.rules.returns || self.wanted_back);
        let places = if returns { 0..up.place } else { 0..0 };
        places.flat_map(|place| self.ways(place)).chain(ways).collect()
    }

    /// A better way was tried while one is up. Tells whether to move there now.
    pub(crate) fn tried(&mut self, at: At, result: Result<(), Text>, now: Instant) -> bool {
        let proven = result.is_ok();
        if let Some(track) = self.track(at) {
            track.known = result.map_or_else(Known::Failed, |()| Known::Works);
        }
        if at.place == self.place {
            return proven;
        }
        let since = match self.healthy.get_mut(at.place) {
            Some(healthy) if proven => *healthy.get_or_insert(now),
            _ => return false,
        };
        if self.wanted_back {
            return true;
        }
        now >= since + self.rules.return_after
    }

    /// All that is better was tried, and nothing was moved to. `proven` are the places that answered.
    pub(crate) fn stays(&mut self, proven: &[usize], now: Instant) {
        for (place, healthy) in self.healthy.iter_mut().enumerate() {
            if !proven.contains(&place) {
                *healthy = None;
            }
        }
        let waiting = self.healthy.iter().any(Option::is_some);
        self.next_try =
            Some(now + self.rules.return_after * 2_u32.pow(if waiting { 0 } else { self.doublings }));
        self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
    }

    /// Somebody says which place to use from now on, or, with none, that the rules decide again, beginning with the
    /// preferred place.
    pub(crate) fn tell(&mut self, place: Option<usize>, now: Instant) {
        self.told = place.is_some();
        self.wanted_back = place.is_none() && self.place != 0;
        self.next_try = (!self.better().is_empty()).then_some(now);
        if let Some(place) = place.filter(|place| *place < self.tracks.len() && *place != self.place) {
            self.place = place;
            self.lost_since = None;
        }
    }

    /// The way that is up.
    pub(crate) fn up(&self) -> Option<At> {
        self.up
    }

    /// What is known of a way.
    pub(crate) fn known(&self, at: At) -> Option<&Known> {
        self.tracks.get(at.place)?.get(at.way).map(|track| &track.known)
    }

    fn track(&mut self, at: At) -> Option<&mut Track> {
        self.tracks.get_mut(at.place)?.get_mut(at.way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIC: At = At { place: 0, way: 0 };
    const TLS: At = At { place: 0, way: 1 };
    const WS: At = At { place: 0, way: 2 };
    const SECOND: At = At { place: 1, way: 0 };
    const RULES: ChoiceRules = ChoiceRules {
        return_after: Duration::from_secs(300),
        failover_after: Duration::from_secs(30),
        returns: true,
    };

    fn choice() -> (Choice, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Choice::new(RULES, [3, 1]), move |seconds| start + Duration::from_secs(seconds))
    }

    #[test]
    fn the_preferred_way_is_tried_first_and_what_worked_before_it_afterwards() {
        let (mut choice, at) = choice();
        assert_eq!(choice.round(at(0)), [QUIC, TLS, WS]);
        choice.failed(QUIC, "no answer".into(), at(6));
        choice.welcomed(TLS, at(7));
        choice.ended(at(50));
        assert_eq!(choice.round(at(50)), [TLS, QUIC, WS], "what worked is remembered");
        assert_eq!(choice.known(QUIC), Some(&Known::Failed("no answer".into())));
        choice.failed(TLS, "refused".into(), at(51));
        assert_eq!(choice.round(at(51)), [TLS, QUIC, WS], "an outage says nothing about one way");
        choice.welcomed(WS, at(52));
        choice.ended(at(60));
        assert_eq!(choice.round(at(60)), [WS, TLS, QUIC]);
    }

    #[test]
    fn a_better_way_is_tried_beside_the_one_that_works_ever_more_rarely_and_taken_when_it_is_proven() {
        let (mut choice, at) = choice();
        choice.welcomed(TLS, at(0));
        assert_eq!((choice.next_try(), choice.better()), (Some(at(300)), vec![QUIC]));
        let mut now = 300;
        for wait in [300, 600, 1200, 2400, 2400] {
            assert!(!choice.tried(QUIC, Err("no answer".into()), at(now)));
            choice.stays(&[], at(now));
            now += wait;
            assert_eq!(choice.next_try(), Some(at(now)));
        }
        assert!(choice.tried(QUIC, Ok(()), at(now)));
        choice.ended(at(now));
        choice.welcomed(QUIC, at(now));
        assert_eq!((choice.next_try(), choice.better()), (None, vec![]), "nothing is better");
    }

    #[test]
    fn another_place_comes_in_when_the_first_was_out_of_reach_for_the_time_and_leaves_when_it_is_healthy() {
        let (mut choice, at) = choice();
        choice.welcomed(QUIC, at(0));
        choice.ended(at(10));
        choice.failed(QUIC, "no answer".into(), at(16));
        assert_eq!(choice.round(at(39)), [QUIC, TLS, WS]);
        assert_eq!(choice.round(at(40)), [QUIC, TLS, WS, SECOND]);
        choice.welcomed(SECOND, at(41));
        assert_eq!(choice.better(), [QUIC, TLS, WS]);

        // It answers, fails once, and answers again: only from then on the time counts.
        for (now, result, moves) in
            [(341, true, false), (641, false, false), (941, true, false), (1241, true, true)]
        {
            let result = if result { Ok(()) } else { Err("refused".into()) };
            let proven: &[usize] = if result.is_ok() { &[0] } else { &[] };
            assert_eq!(choice.tried(QUIC, result, at(now)), moves, "at {now}");
            choice.stays(proven, at(now));
        }
    }

    #[test]
    fn who_does_not_return_by_itself_returns_when_it_is_told() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut choice = Choice::new(ChoiceRules { returns: false, ..RULES }, [1, 2]);
        choice.failed(QUIC, "no answer".into(), at(0));
        choice.welcomed(At { place: 1, way: 1 }, at(40));
        assert_eq!(choice.better(), [SECOND], "a better way to the same place, and no other place");
        choice.tell(None, at(1000));
        assert_eq!((choice.better(), choice.next_try()), (vec![QUIC, SECOND], Some(at(1000))));
        assert!(!choice.tried(QUIC, Err("no answer".into()), at(1000)));
        assert!(choice.tried(QUIC, Ok(()), at(1300)), "at once when it answers");
        choice.ended(at(1300));
        choice.welcomed(QUIC, at(1300));
        choice.ended(at(1400));
        choice.failed(QUIC, "no answer".into(), at(1400));
        assert_eq!(choice.round(at(1430)).len(), 3, "it fails over as before");
        choice.welcomed(SECOND, at(1431));
        assert_eq!(choice.better(), [], "what it was told is done");
    }

    #[test]
    fn whoever_is_told_where_to_go_stays_there() {
        let (mut choice, at) = choice();
        choice.welcomed(QUIC, at(0));
        choice.tell(Some(1), at(1));
        choice.ended(at(1));
        assert_eq!(choice.round(at(1)), [SECOND]);
        choice.welcomed(SECOND, at(2));
        assert_eq!((choice.better(), choice.next_try()), (vec![], None));
        choice.ended(at(3));
        assert_eq!(choice.round(at(100)), [SECOND], "also when it is out of reach");
        choice.tell(None, at(100));
        assert_eq!(choice.round(at(100)), [SECOND, QUIC, TLS, WS]);
        choice.tell(Some(1), at(101));
        choice.welcomed(SECOND, at(102));
        choice.tell(None, at(103));
        assert_eq!((choice.better(), choice.next_try()), (vec![QUIC, TLS, WS], Some(at(103))));
    }
}
