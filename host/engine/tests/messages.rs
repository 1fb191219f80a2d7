//! What a module can do with a message.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use holdfast_engine::{Limits, LogLevel, LogOrigin, LogQuery, Profile};
use holdfast_types::{Durability, HOPS_MAX, Message, SystemKey};
use support::Plan;

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_handled_in_order_and_what_is_sent_goes_upstream() {
    let mut edge = Plan::new(&["echo"]).with("echo", "outbox_echo", "").start().await;
    for n in 0..500 {
        edge.feed("echo", &n.to_string()).await;
    }
    let expected: Vec<String> = (0..500).map(|n| format!("in:{n}")).collect();
    assert_eq!(edge.bodies(500).await, expected);
    let status = edge.until("echo", |status| status.messages_in == 500).await;
    assert_eq!((status.messages_out, status.dead_letters, status.restarts), (500, 0, 0));
    assert!(status.memory_bytes > 0 && status.memory_bytes <= status.memory_bytes_max);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_travel_and_the_sender_is_told() {
    let mut edge = Plan::new(&["all"]).with("all", "outbox_all", "").start().await;
    let mut message = Message::new("body");
    message.properties.set("Key", "value");
    message.system.set(SystemKey::MessageId, "id-1");
    message.system.set(SystemKey::ContentType, "text/plain");
    edge.feed_message("all", message).await;
    let sent = edge.next_envelope().await;
    let properties: Vec<_> = sent.message.properties.iter().collect();
    assert_eq!(properties, [("Key", "value"), ("from", "module feeder Some(\"all\")")]);
    assert_eq!(sent.message.system.value(SystemKey::MessageId), Some("id-1"));
    assert_eq!(sent.message.system.value(SystemKey::ContentType), Some("text/plain"));
    assert_eq!(sent.source.to_string(), "all/out");
    assert_eq!(sent.hops, 1);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_comes_again_and_becomes_a_dead_letter_after_the_attempts_reject_at_once() {
    let mut edge =
        Plan::new(&["answer"]).with("answer", "handler_answer", "[limits]\nattempts = 3\n").start().await;
    for body in ["one", "retry not now", "two", "reject never", "three"] {
        edge.feed("answer", body).await;
    }
    // What the failed calls sent is gone; the order of the others is kept.
    assert_eq!(edge.bodies(3).await, ["one", "two", "three"]);
    let dead = edge.dead_letters("answer", 2).await;
    let reasons: Vec<_> = dead.iter().map(|letter| (&*letter.death.reason, letter.death.attempts)).collect();
    assert_eq!(reasons, [("not now", 3), ("never", 1)]);
    assert!(edge.nothing_more());
    assert_eq!(edge.status("answer").unwrap().restarts, 0);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_kept_over_calls_rolled_back_with_them_and_there_after_a_restart() {
    let settings = "[limits]\nstate_bytes = 1000\n";
    let mut edge = Plan::new(&["script"]).with("script", "keyvalue_script", settings).start().await;
    let scripts = [
        ("get a\nset a 1\nget a\nset b 2\nkeys", "None\nOk(())\nSome(\"1\")\nOk(())\nOk([\"a\", \"b\"])"),
        ("set a 9\ndelete b\nfail", ""),
        (
            "get a\nexists b\ndelete b\nexists b\nkeys",
            "Some(\"1\")\nOk(true)\nOk(())\nOk(false)\nOk([\"a\"])",
        ),
        ("open other\nopen default", "Err(Error::NoSuchStore)\nOk(())"),
    ];
    for (script, answer) in scripts {
        edge.feed("script", script).await;
        if !answer.is_empty() {
            assert_eq!(edge.received().await.1, answer, "{script}");
        }
    }
    edge.feed("script", "fill big 2000\nfill fits 900\nfill over 200").await;
    let answer = edge.received().await.1;
    let lines: Vec<&str> = answer.lines().collect();
    assert!(
        lines[0].contains("2005 bytes, 1000 are allowed") && lines[0].contains("limits.state_bytes"),
        "{answer}"
    );
    assert_eq!(lines[1], "Ok(())");
    assert!(lines[2].contains("1000 are allowed"), "{answer}");
    let folder = edge.stop().await;

    let mut edge = Plan::new(&["script"]).in_folder(&folder).start().await;
    edge.feed("script", "keys\nget a").await;
    assert_eq!(edge.received().await.1, "Ok([\"a\", \"fits\"])\nSome(\"1\")");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timers_fire_again_and_again_until_they_are_cancelled() {
    let settings = "[config]\nbeat_ms = 20\nonce_ms = 50\n";
    let mut edge = Plan::new(&["timers"]).with("timers", "timers_beat", settings).start().await;
    let mut names = edge.bodies(10).await;
    names.sort();
    assert_eq!(names[8..], ["beat", "once"]);
    edge.feed("timers", "stop").await;
    let sent = edge.until("timers", |status| status.messages_in == 1).await.messages_out;
    edge.bodies(usize::try_from(sent).unwrap() - 10).await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(edge.status("timers").unwrap().messages_out, sent);
    assert!(edge.nothing_more());
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_traps_costs_the_instance_and_what_it_sent() {
    let settings = "[config]\nbeat_ms = 20\n";
    let mut edge = Plan::new(&["timers"]).with("timers", "timers_beat", settings).start().await;
    edge.feed("timers", "trap").await;
    let status = edge.until("timers", |status| status.restarts == 1).await;
    let error = status.last_error.unwrap();
    assert!(error.contains("timer \"trap\"") && error.contains("as told"), "{error}");
    edge.until_running("timers").await;
    // The new instance has set its timers anew.
    assert_eq!(edge.bodies(3).await, ["beat", "beat", "beat"]);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_sees_its_own_environment_and_configuration_only() {
    let settings = "[environment]\nMODE = \"fast\"\n[config]\nthreshold = 21.5\n";
    let mut edge = Plan::new(&["env"]).with("env", "cli_environment", settings).start().await;
    edge.feed("env", "").await;
    assert_eq!(edge.received().await.1, "env MODE=fast\narg env\nconfig threshold=21.5");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn granted_directories_are_seen_read_only_unless_writing_is_granted() {
    let files = tempfile::tempdir().unwrap();
    std::fs::create_dir(files.path().join("read")).unwrap();
    std::fs::create_dir(files.path().join("write")).unwrap();
    std::fs::write(files.path().join("read/a"), "hello").unwrap();
    std::fs::write(files.path().join("secret"), "secret").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(files.path().join("secret"), files.path().join("read/link")).unwrap();
    let root = files.path().display();
    let settings = format!(
        "[grants]\ndirectories = [{{ host = \"{root}/read\", guest = \"/r\" }}, \
         {{ host = \"{root}/write\", guest = \"/w\", write = true }}]\n"
    );
    let mut edge = Plan::new(&["files"]).with("files", "filesystem_read", &settings).start().await;
    let tries = [
        ("/r/a", "ok hello"),
        ("/r/a changed", "error"),
        ("/r/new text", "error"),
        ("/r/../secret", "error"),
        ("/r/link", "error"),
        ("/etc/hostname", "error"),
        ("/w/b text", "ok written"),
        ("/w/b", "ok text"),
    ];
    for (request, expected) in tries {
        edge.feed("files", request).await;
        let answer = edge.received().await.1;
        assert!(answer.starts_with(expected), "{request}: {answer}");
    }
    assert_eq!(std::fs::read_to_string(files.path().join("write/b")).unwrap(), "text");
    edge.stop().await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn granted_files_are_all_that_is_seen_of_their_directory() {
    let files = tempfile::tempdir().unwrap();
    let root = files.path();
    std::fs::create_dir(root.join("sub")).unwrap();
    for file in ["open", "secret", "sub/open", "sub/secret"] {
        std::fs::write(root.join(file), file).unwrap();
    }
    std::os::unix::fs::symlink("secret", root.join("link")).unwrap();
    let grants = format!(
        "[grants]\ndirectories = [{{ host = \"{}\", guest = \"/r\", files = [\"open\", \"sub/open\", \"absent\"] }}, \
         {{ host = \"/no/such/folder\", guest = \"/n\", optional = true }}]\n",
        root.display()
    );
    let mut edge = Plan::new(&["files"]).with("files", "filesystem_read", &grants).start().await;
    for (request, expected) in [
        ("/r/open", "ok open"),
        ("/r/sub/open", "ok sub/open"),
        ("/r/./open", "ok open"),
        ("/r/absent", "error NotFound"),
        ("/r/secret", "error PermissionDenied"),
        ("/r/sub/secret", "error PermissionDenied"),
        ("/r/sub/../secret", "error PermissionDenied"),
        ("/r/link", "error PermissionDenied"),
        ("/r/open/../secret", "error PermissionDenied"),
        ("/r/sub", "error PermissionDenied"),
        ("list /r", "error PermissionDenied"),
        ("list /r/sub", "error PermissionDenied"),
        ("/r/open changed", "error"),
        ("/r/new text", "error"),
        ("/n/x", "error"),
    ] {
        edge.feed("files", request).await;
        let answer = edge.received().await.1;
        assert!(answer.starts_with(expected), "{request}: {answer}");
    }
    assert_eq!(std::fs::read_to_string(root.join("open")).unwrap(), "open");
    let log = edge.log("files").join("\n");
    assert!(log.contains("/no/such/folder is not there; its grant is optional"), "{log}");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_refused() {
    let mut edge = Plan::new(&["net"]).with("net", "sockets_connect", "").start().await;
    edge.feed("net", "").await;
    let answer = edge.received().await.1;
    assert!(answer.contains("access-denied"), "{answer}");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_and_printed_lines_are_in_the_modules_log_and_bounded() {
    let settings = "[limits]\nlog_lines_per_s = 10\n";
    let edge = Plan::new(&["log"]).with("log", "logging_lines", settings).start().await;
    edge.feed("log", "text").await;
    edge.until("log", |status| status.messages_in == 1).await;
    let lines = edge.engine.logs("log", LogQuery::default()).unwrap().ready();
    let lines: Vec<_> = lines.iter().map(|line| (line.level, line.origin, &*line.text)).collect();
    assert_eq!(
        lines,
        [
            (LogLevel::Error, LogOrigin::Module, "guest: text"),
            (LogLevel::Info, LogOrigin::Stdout, "printed text"),
            (LogLevel::Warn, LogOrigin::Stderr, "complained text"),
        ]
    );
    edge.feed("log", "100").await;
    edge.until("log", |status| status.messages_in == 2).await;
    assert!(edge.log("log").len() <= 20, "{:?}", edge.log("log"));
    assert!(edge.engine.logs("nobody", LogQuery::default()).is_err());
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_of_routes_ends_at_the_hop_limit() {
    let back = "FROM /messages/modules/echo/outputs/out INTO BrokeredEndpoint(\"/modules/echo/inputs/in\")";
    let plan = Plan::new(&["echo"]).with("echo", "outbox_echo", "");
    let edge = plan.route("back", back, Durability::Volatile).start().await;
    edge.feed("echo", "x").await;
    // It is handled with 0 hops behind it, and then with 1 to 32.
    let handled = u64::from(HOPS_MAX) + 1;
    edge.until("echo", |status| status.messages_in == handled).await;
    edge.feed("echo", "y").await;
    edge.until("echo", |status| status.messages_in == 2 * handled).await;
    edge.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_small_device_reserves_no_address_space_ahead() {
    let address_space_mib = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
    };
    let mut edge = Plan::new(&["m0"])
        .config(|config| {
            config.profile = Profile::Small;
            config.limits = Limits::of(Profile::Small);
        })
        .with("m0", "outbox_echo", "")
        .start()
        .await;
    edge.feed("m0", "x").await;
    assert_eq!(edge.received().await.1, "in:x");
    let before = address_space_mib();
    for n in 1..=10 {
        edge.install(&format!("m{n}"), "outbox_echo", "");
    }
    for n in 1..=10 {
        edge.until_running(&format!("m{n}")).await;
    }
    let grown = address_space_mib() - before;
    assert!(grown < 1_000, "ten modules took {grown} MiB of address space");
    edge.stop().await;
}
