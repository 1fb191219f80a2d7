//! Who comes in, who waits, and who makes room. Time passes only where a test lets it.

use super::*;
use std::task::{Context, Poll, Waker};
use tokio::time::{sleep, timeout};

fn lobby(places: usize, places_per_address: usize, waiting: usize) -> Arc<Lobby> {
    Arc::new(Lobby::new(Bounds { places, places_per_address, waiting }))
}

fn address(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

/// Somebody at the door.
struct Guest(std::pin::Pin<Box<dyn Future<Output = Option<Place>>>>);

#[derive(Debug, PartialEq)]
enum Is {
    In(Pushed),
    Waiting,
    TurnedAway,
}

impl Guest {
    fn at(lobby: &Arc<Lobby>, from: IpAddr) -> Self {
        let lobby = lobby.clone();
        let mut guest = Self(Box::pin(async move { lobby.enter(from).await }));
        // From its first step on it stands in its line.
        if let Some(place) = guest.step() {
            guest.0 = Box::pin(std::future::ready(place));
        }
        guest
    }

    fn step(&mut self) -> Option<Option<Place>> {
        match self.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    fn now(&mut self) -> (Is, Option<Place>) {
        match self.step() {
            Some(Some(place)) => (Is::In(place.pushed), Some(place)),
            Some(None) => (Is::TurnedAway, None),
            None => (Is::Waiting, None),
        }
    }

    /// Whether it still waits; else its place, if it has one, is kept in `served`.
    fn still_waits(&mut self, served: &mut Vec<Place>) -> bool {
        let (is, place) = self.now();
        served.extend(place);
        is == Is::Waiting
    }

    fn comes_in(mut self) -> Place {
        let (is, place) = self.now();
        place.unwrap_or_else(|| panic!("it is {is:?}"))
    }
}

/// Lets time pass in the lobby.
async fn pass(lobby: &Arc<Lobby>, time: Duration) {
    tokio::select! {
        () = lobby.keep() => {}
        () = sleep(time) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn who_finds_a_place_has_it_at_once_and_one_that_was_left_goes_to_who_waits() {
    let lobby = lobby(2, 2, 8);
    let (first, second) =
        (Guest::at(&lobby, address(1)).comes_in(), Guest::at(&lobby, address(2)).comes_in());
    let mut third = Guest::at(&lobby, address(3));
    assert_eq!(third.now().0, Is::Waiting);
    drop(first);
    let (is, third) = third.now();
    assert_eq!(is, Is::In(Pushed::Nobody));
    assert!(!second.pushed_out.is_cancelled());
    drop((second, third));
    let inside = lobby.inside();
    assert!(inside.places.is_empty() && inside.of_address.is_empty() && inside.lines.is_empty());
    assert_eq!(inside.waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_makes_room_before_it_had_a_while_neither_for_another_address_nor_for_its_own() {
    for newcomer in [1, 2] {
        let (lobby, pushed) = if newcomer == 1 {
            (lobby(8, 2, 8), Pushed::OfSameAddress)
        } else {
            (lobby(2, 2, 8), Pushed::Other)
        };
        let places = [1, 1].map(|from| Guest::at(&lobby, address(from)).comes_in());
        let mut waits = Guest::at(&lobby, address(newcomer));
        pass(&lobby, KEPT - Duration::from_millis(1)).await;
        assert_eq!(waits.now().0, Is::Waiting);
        assert!(places.iter().all(|place| !place.pushed_out.is_cancelled()));
        pass(&lobby, Duration::from_millis(2)).await;
        assert_eq!(waits.now().0, Is::In(pushed));
        assert!(places[0].pushed_out.is_cancelled() && !places[1].pushed_out.is_cancelled());
    }
}

#[tokio::test(start_paused = true)]
async fn a_plant_that_comes_back_as_a_whole_behind_one_address_wastes_no_handshake() {
    const PLANT: usize = 300;
    const HANDSHAKE: Duration = Duration::from_millis(100);
    let lobby = lobby(64, 32, 512);
    let begun = Instant::now();
    let all = tokio::task::JoinSet::from_iter((0..PLANT).map(|_| {
        let lobby = lobby.clone();
        async move {
            let place = lobby.enter(address(1)).await.expect("it is not turned away");
            sleep(HANDSHAKE).await;
            place.pushed_out.is_cancelled()
        }
    }));
    let wasted = all.join_all().await.into_iter().filter(|wasted| *wasted).count();
    assert_eq!(wasted, 0);
    assert_eq!(begun.elapsed().as_millis(), HANDSHAKE.as_millis() * PLANT.div_ceil(32) as u128);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_comes_by_the_thousand_keeps_no_other_waiting_for_more_than_a_while() {
    let lobby = lobby(4, 2, 64);
    let held = [1, 2, 1, 2].map(|from| Guest::at(&lobby, address(from)).comes_in());
    let comes_again = || [1, 2].map(|from| Guest::at(&lobby, address(from)));
    let mut crowd: Vec<Guest> = (0..8).flat_map(|_| comes_again()).collect();
    let mut other = Guest::at(&lobby, address(3));
    for _ in 0..20 {
        pass(&lobby, KEPT / 20).await;
        crowd.extend(comes_again());
    }
    pass(&lobby, Duration::from_millis(1)).await;
    let (is, place) = other.now();
    assert_eq!(is, Is::In(Pushed::Other));
    assert!(held.iter().any(|one| one.pushed_out.is_cancelled()));
    // While the crowd takes turns, the one that came alone is left in peace.
    let mut served = Vec::new();
    for _ in 0..3 {
        crowd.retain_mut(|one| one.still_waits(&mut served));
        pass(&lobby, KEPT + Duration::from_millis(1)).await;
        crowd.retain_mut(|one| one.still_waits(&mut served));
    }
    assert!(served.len() > 4 && !place.unwrap().pushed_out.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn in_a_line_that_does_not_move_who_came_last_is_first() {
    let lobby = lobby(1, 1, 8);
    let place = Guest::at(&lobby, address(1)).comes_in();
    let [mut first, mut second] = [(); 2].map(|()| Guest::at(&lobby, address(1)));
    drop(place);
    let (is, place) = first.now();
    assert_eq!(is, Is::In(Pushed::Nobody), "it moves, so that the first is first");
    pass(&lobby, MOVES).await;
    let mut third = Guest::at(&lobby, address(1));
    drop(place);
    let (is, place) = third.now();
    assert_eq!((is, second.now().0), (Is::In(Pushed::Nobody), Is::Waiting));
    drop(place);
    assert_eq!(second.now().0, Is::In(Pushed::Nobody));
}

#[tokio::test(start_paused = true)]
async fn who_comes_behind_a_crowd_of_its_own_address_takes_the_oldest_place_of_it_and_keeps_no_other_out() {
    let lobby = lobby(4, 2, 4);
    let held = [1, 1, 2, 2].map(|from| Guest::at(&lobby, address(from)).comes_in());
    let mut other = Guest::at(&lobby, address(3));
    let mut crowd = [(); 3].map(|()| Guest::at(&lobby, address(1)));
    pass(&lobby, KEPT / 2).await;
    let newcomer = Guest::at(&lobby, address(1)).comes_in();
    assert_eq!((newcomer.pushed, held[0].pushed_out.is_cancelled()), (Pushed::OfSameAddress, true));
    assert!(crowd.iter_mut().all(|one| one.now().0 == Is::Waiting) && other.now().0 == Is::Waiting);
    // It has what was left of the while of the one before, or a crowd that goes on would be young for ever.
    pass(&lobby, KEPT / 2 + Duration::from_millis(1)).await;
    assert_eq!(other.now().0, Is::In(Pushed::Other));
}

#[tokio::test(start_paused = true)]
async fn when_too_many_wait_the_longest_line_loses_who_has_waited_longest() {
    let lobby = lobby(1, 1, 3);
    let _place = Guest::at(&lobby, address(1)).comes_in();
    let mut crowd = [(); 3].map(|()| Guest::at(&lobby, address(2)));
    let mut other = Guest::at(&lobby, address(3));
    assert_eq!(crowd.each_mut().map(|one| one.now().0), [Is::TurnedAway, Is::Waiting, Is::Waiting]);
    assert_eq!(other.now().0, Is::Waiting);
    pass(&lobby, MOVES).await;
    let mut last = Guest::at(&lobby, address(2));
    assert_eq!(crowd[1].now().0, Is::TurnedAway);
    assert_eq!((last.now().0, other.now().0), (Is::Waiting, Is::Waiting));
    // Who leaves by itself leaves no gap.
    drop((last, other));
    assert_eq!(lobby.inside().waiting, 1);
    assert!(timeout(Duration::ZERO, lobby.enter(address(4))).await.is_err());
    let inside = lobby.inside();
    assert_eq!((inside.waiting, inside.lines.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn of_a_network_of_ipv6_all_share_one_line() {
    let lobby = lobby(10, 2, 8);
    let from = |text: &str| Guest::at(&lobby, text.parse().unwrap());
    for network in ["2001:db8::", "2001:db8:0:1::"] {
        let _two = ["1", "2"].map(|host| from(&format!("{network}{host}")).comes_in());
        assert_eq!(from(&format!("{network}3")).now().0, Is::Waiting);
    }
    drop(from("::ffff:10.0.0.1").comes_in());
}
