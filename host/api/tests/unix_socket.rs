//! What is particular to Unix sockets, and what no proper client would send.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]
#![cfg(unix)]

mod fake;

use fake::Served;
use holdfast_api::{AskError, BindError, Client, REQUEST_BYTES_MAX, Request, Server};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    time::Duration,
};

/// A client that writes what it likes.
struct Raw(BufReader<UnixStream>);

impl Raw {
    fn to(served: &Served) -> Self {
        let stream = UnixStream::connect(&served.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(BufReader::new(stream))
    }

    fn say(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_by_name_and_the_connection_goes_on() {
    let served = Served::start();
    let mut raw = Raw::to(&served);
    let cases: [(&[u8], &str, &str); 7] = [
        (b"hello\n", "bad-request", "this line is no request"),
        (b"\xff\xfe\n", "bad-request", "this line is no request"),
        (b"\n", "bad-request", "this line is no request"),
        (b"{\"v\":7,\"anything\":[]}\n", "version", "version 7"),
        (b"{\"v\":1,\"request\":\"dance\"}\n", "bad-request", "dance"),
        (b"{\"v\":1,\"request\":{\"logs\":{\"folow\":true}}}\n", "bad-request", "folow"),
        (b"{\"v\":1,\"request\":\"status\",\"more\":1}\n", "bad-request", "more"),
    ];
    for (bytes, code, reason) in cases {
        raw.say(bytes);
        let line = raw.hear();
        assert!(line.contains(&format!("\"code\":\"{code}\"")) && line.contains(reason), "{line}");
    }
    raw.say(b"{\"v\":1,\"request\":\"status\"}\n{\"v\":1,\"request\":\"status\"}\n");
    for _ in 0..2 {
        assert!(raw.hear().starts_with("{\"v\":1,\"item\":{\"status\":{\"edge\":\"press-4\""));
        assert_eq!(raw.hear(), "{\"v\":1,\"end\":{\"items\":1}}\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_an_end_is_cut_off_at_the_bound() {
    let served = Served::start();
    let mut raw = Raw::to(&served);
    let chunk = vec![b'x'; 64 * 1024];
    // The host stops reading a little after the bound and closes; what is written then fails.
    let taken = (0..1024).take_while(|_| raw.0.get_mut().write_all(&chunk).is_ok()).count() * chunk.len();
    assert!(taken <= REQUEST_BYTES_MAX + 1024 * 1024, "{taken} bytes were taken");
    let line = raw.hear();
    assert!(line.contains("\"code\":\"too-large\""), "{line}");
    served.client().await.ask_all(&Request::Status).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_its_side_gets_a_finite_answer_whole_and_ends_a_following_one() {
    let served = Served::start();
    let mut raw = Raw::to(&served);
    raw.say(b"{\"v\":1,\"request\":\"queues\"}");
    raw.0.get_mut().shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    raw.0.read_to_string(&mut answer).unwrap();
    assert_eq!(answer.lines().count(), 1001);
    assert!(answer.ends_with("{\"v\":1,\"end\":{\"items\":1000}}\n"));
    let mut raw = Raw::to(&served);
    raw.say(b"{\"v\":1,\"request\":{\"tail\":{}}}\n");
    assert_eq!(raw.hear(), "{\"v\":1,\"item\":{\"skipped\":1}}\n");
    raw.0.get_mut().shutdown(Shutdown::Write).unwrap();
    served.until(2, 0).await;
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_user_of_the_host_may_open_the_socket() {
    let served = Served::start();
    assert_eq!(mode(&served.path), 0o600);
    assert_eq!(mode(served.path.parent().unwrap()), 0o700);
    assert_eq!(mode(&served.path.with_extension("sock.lock")), 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_of_a_dead_host_is_replaced_and_that_of_a_living_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let other = UnixListener::bind(&path).unwrap();
    let error = Server::bind(&path).err().unwrap();
    assert!(matches!(error, BindError::AlreadyRunning { .. }), "{error}");
    drop(other);
    assert!(path.exists(), "a dead host leaves its socket");
    let first = Server::bind(&path).unwrap();
    let error = Server::bind(&path).err().unwrap().to_string();
    assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
    drop(first);
    assert!(!path.exists(), "a server removes its socket");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    fs::write(&path, "precious").unwrap();
    let error = Server::bind(&path).err().unwrap();
    assert!(matches!(error, BindError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_no_socket_can_have_says_which_setting_to_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long".repeat(30)).join("control.sock");
    let error = Server::bind(&path).err().unwrap();
    assert!(matches!(error, BindError::PathTooLong { max: 103, .. }), "{error}");
    assert!(error.to_string().contains("paths.control"), "{error}");
    assert!(Client::connect(&path).await.is_err());
}

/// What a client makes of a host that says `line`.
async fn said_to_client(line: &'static [u8]) -> AskError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let host = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = String::new();
        BufReader::new(&stream).read_line(&mut request).unwrap();
        stream.write_all(line).unwrap();
    });
    let error = Client::connect(&path).await.unwrap().ask_all(&Request::Status).await.unwrap_err();
    host.join().unwrap();
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_another_version_or_none_at_all_is_told_apart() {
    assert!(matches!(said_to_client(b"{\"v\":2,\"hello\":1}\n").await, AskError::Version { theirs: 2 }));
    assert!(matches!(said_to_client(b"HTTP/1.1 400 Bad Request\n").await, AskError::Unreadable(_)));
    assert!(matches!(said_to_client(b"").await, AskError::Closed));
    let later = b"{\"v\":1,\"error\":{\"code\":\"new-kind\",\"message\":\"no\",\"hint\":1}}\n";
    assert_eq!(said_to_client(later).await.to_string(), "no");
}
