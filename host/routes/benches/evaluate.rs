//! What asking costs: nanoseconds for each message, the fastest of several runs, since the machine does other things too. Figures, not a test.
//!
//! `cargo bench -p holdfast-routes`
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints its figures")]

use holdfast_routes::{Origin, RouteDefinition, RouteTable};
use holdfast_types::{Envelope, Message, Name, Source, SystemKey, UnixMillis};
use std::{hint::black_box, time::Instant};

const MESSAGES: u32 = 50_000;
const RUNS: usize = 15;

fn message() -> Envelope {
    let mut message = Message::new(r#"{"temp": 21.5, "place": {"city": "Oslo"}, "list": [1, 2, 3]}"#);
    for (key, value) in [("level", "high"), ("unit", "C"), ("line", "7"), ("kind", "reading")] {
        message.properties.set(key, value);
    }
    message.system.set(SystemKey::ContentType, "application/json");
    message.system.set(SystemKey::ContentEncoding, "utf-8");
    let source =
        Source::Module { module: Name::new("sensor").unwrap(), output: Some(Name::new("temp").unwrap()) };
    Envelope { message, source, received: UnixMillis(0), hops: 0 }
}

fn table(count: usize, condition: impl Fn(usize) -> String) -> RouteTable {
    let route = |at| {
        RouteDefinition::new(&format!("r{at}"), format!("FROM /messages{}INTO $upstream", condition(at)))
    };
    RouteTable::compile((0..count).map(route).collect()).unwrap()
}

fn main() {
    let cases = [
        ("no route", table(0, |_| String::new())),
        ("1 route without a condition", table(1, |_| " ".into())),
        ("10 routes, one property each, none taken", table(10, |at| format!(" WHERE level = 'low{at}' "))),
        ("10 routes, two properties each, the last taken", {
            table(10, |at| {
                format!(" WHERE kind = 'reading' AND level = '{}' ", if at < 9 { "low" } else { "high" })
            })
        }),
        ("10 routes of other modules", table(10, |at| format!("/modules/m{at} "))),
        (
            "10 routes, one body path each, none taken",
            table(10, |at| format!(" WHERE $body.temp > {} ", 30 + at)),
        ),
    ];
    let (message, edge) = (message(), Name::new("edge").unwrap());
    println!("{:>10}  what", "ns/message");
    for (what, table) in &cases {
        let mut runs: Vec<f64> = (0..RUNS)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..MESSAGES {
                    black_box(table.evaluate(black_box(&message), &edge, Origin::Internal));
                }
                start.elapsed().as_secs_f64() * 1e9 / f64::from(MESSAGES)
            })
            .collect();
        runs.sort_by(f64::total_cmp);
        println!("{:>10.0}  {what}", runs.first().copied().unwrap_or_default());
    }
}
