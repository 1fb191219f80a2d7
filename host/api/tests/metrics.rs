//! Metrics over HTTP, read by a client that knows nothing but sockets.
#![cfg(test)]

use holdfast_api::{MetricFamily, MetricKind, MetricsServer, MetricsSource};
use holdfast_net::{Door, ListenConfig, PlainTcp, Settings};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct Counting(AtomicU64);

impl MetricsSource for Counting {
    fn metrics(&self) -> Vec<MetricFamily> {
        let asked = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        vec![MetricFamily::of("asked_total", MetricKind::Counter, "How often it was asked.", asked)]
    }
}

async fn ask(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_scraper_reads_the_values_of_the_moment_and_nobody_else_gets_anything() {
    let listen = ListenConfig {
        address: "127.0.0.1:0".parse().unwrap(),
        door: Door::Tcp,
        plain: PlainTcp::LoopbackOnly,
        settings: Settings::of_section("metrics"),
    };
    let server = MetricsServer::bind(listen).await.unwrap();
    let address = server.address();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.serve(Arc::new(Counting::default()), stop.clone()));

    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n");
    let first = ask(address, &get("/metrics")).await;
    assert!(first.starts_with("HTTP/1.1 200 "), "{first}");
    assert!(first.contains("text/plain; version=0.0.4"), "{first}");
    assert!(first.ends_with("# TYPE asked_total counter\nasked_total 1\n"), "{first}");
    assert!(ask(address, &get("/metrics")).await.ends_with("asked_total 2\n"));

    assert!(ask(address, &get("/")).await.starts_with("HTTP/1.1 404 "));
    let posted = "POST /metrics HTTP/1.1\r\nhost: edge\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert!(ask(address, posted).await.starts_with("HTTP/1.1 405 "));
    let garbage = ask(address, "\u{1}\u{2}\u{3}\r\n\r\n").await;
    assert!(garbage.is_empty() || garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
    assert!(ask(address, &get("/metrics")).await.ends_with("asked_total 3\n"));

    stop.cancel();
    serving.await.unwrap();
    TcpStream::connect(address).await.unwrap_err();
}
