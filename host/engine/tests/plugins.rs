//! The plugins folder: dropped, replaced, removed, and files that are no modules.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use holdfast_engine::{CommandError, Compiler, RuntimeStatus};
use std::fs;
use std::time::{Duration, Instant};
use support::guests::{guest, marked};
use support::{Edge, Plan};

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_component_runs_and_its_messages_from_before_are_handled() {
    let mut edge = Plan::new(&["late"]).start().await;
    edge.feed("late", "early").await;
    assert!(edge.nothing_more());
    let dropped = Instant::now();
    edge.install("late", "outbox_echo", "");
    assert_eq!(edge.received().await.1, "in:early");
    println!("handled {:?} after it was dropped", dropped.elapsed());
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_is_copied_slowly_runs_when_it_is_whole() {
    use std::io::Write;
    let mut edge = Plan::new(&["slow"]).start().await;
    edge.feed("slow", "x").await;
    let bytes = fs::read(guest("outbox_echo")).unwrap();
    let mut file = fs::File::create(edge.plugins().join("slow.wasm")).unwrap();
    for part in bytes.chunks(bytes.len() / 8) {
        file.write_all(part).unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    drop(file);
    assert_eq!(edge.received().await.1, "in:x");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_module_is_stopped_and_its_messages_wait_for_the_next_of_its_name() {
    let mut edge = Plan::new(&["m"]).with("m", "handler_start", "").start().await;
    assert_eq!(edge.received().await.1, "started");
    fs::remove_file(edge.plugins().join("m.wasm")).unwrap();
    edge.until_gone("m").await;
    assert_eq!(edge.received().await.1, "stopped");
    edge.feed("m", "waits").await;
    assert!(matches!(edge.engine.restart("m").await, Err(CommandError::NoSuchModule { .. })));
    edge.install("m", "outbox_echo", "");
    assert_eq!(edge.received().await.1, "in:waits");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_takes_over_and_one_that_does_not_start_changes_nothing() {
    let mut edge = Plan::new(&["m"]).with("m", "outbox_echo", "").start().await;
    let first = edge.until_running("m").await.digest;
    edge.put("m.wasm", fs::read(guest("handler_start")).unwrap());
    assert_eq!(edge.received().await.1, "started");
    edge.feed("m", "one").await;
    assert_eq!(edge.received().await.1, "one");
    let second = edge.status("m").unwrap();
    assert_ne!(second.digest, first);
    assert_eq!(second.restarts, 0);

    // Settings with which it fails its start: the old one goes on, and the status says why.
    edge.put("m.toml", "[config]\nfail = \"no valve\"\n");
    let refused = edge.until("m", |status| status.refused.is_some()).await;
    assert!(refused.refused.unwrap().contains("no valve"));
    assert_eq!((refused.status, &refused.digest), (RuntimeStatus::Running, &second.digest));
    edge.feed("m", "two").await;
    assert_eq!(edge.received().await.1, "two");

    // A file that is no module: the same.
    edge.put("m.wasm", "oops");
    let refused =
        edge.until("m", |status| status.refused.as_ref().is_some_and(|why| why.contains("is text"))).await;
    assert_eq!(refused.status, RuntimeStatus::Running);
    edge.feed("m", "three").await;
    assert_eq!(edge.received().await.1, "three");

    // All is mended: what it said is gone.
    edge.put("m.toml", "");
    edge.put("m.wasm", marked("handler_start", "mended"));
    let mended = edge.until("m", |status| status.refused.is_none() && status.digest != second.digest).await;
    assert_eq!(mended.status, RuntimeStatus::Running);
    assert_eq!(edge.bodies(2).await, ["stopped", "started"]);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_settings_restart_the_module_with_them() {
    let mut edge = Plan::new(&["m"]).with("m", "cli_environment", "").start().await;
    edge.feed("m", "").await;
    assert_eq!(edge.received().await.1, "arg m");
    edge.put("m.toml", "[config]\nlevel = 3\n");
    let start = Instant::now();
    loop {
        edge.feed("m", "").await;
        if edge.received().await.1 == "arg m\nconfig level=3" {
            break;
        }
        assert!(start.elapsed() < support::PATIENCE);
    }
    // And without the file, with none.
    fs::remove_file(edge.plugins().join("m.toml")).unwrap();
    let start = Instant::now();
    loop {
        edge.feed("m", "").await;
        if edge.received().await.1 == "arg m" {
            break;
        }
        assert!(start.elapsed() < support::PATIENCE);
    }
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_module_says_what_it_is_what_is_missing_and_the_fix_and_others_run() {
    let component = fs::read(guest("outbox_echo")).unwrap();
    let core = [b"\0asm".as_slice(), &[1, 0, 0, 0]].concat();
    let mut damaged = component.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0xff);
    let files: &[(&str, &[u8], &[&str])] = &[
        ("empty", b"", &["the file is empty", "copy the component again"]),
        ("core", &core, &["core WebAssembly module, not a component", "--target wasm32-wasip2"]),
        ("text", b"hello, world", &["the file is text"]),
        ("wat", b"(component)", &["WebAssembly text", "wasm-tools parse"]),
        ("program", b"\x7fELF\x02\x01", &["native program"]),
        ("cut", &component[..component.len() / 2], &["ends too early"]),
        ("header", &component[..6], &["ends too early"]),
        ("damaged", &damaged, &["damaged or uses what is not supported"]),
        (
            "other",
            &fs::read(guest("world_other")).unwrap(),
            &["exports neither holdfast:module/handler@0.1.1 nor", "it exports spell", "holdfast module new"],
        ),
        (
            "imports",
            &fs::read(guest("world_imports")).unwrap(),
            &["imports what this host does not offer: stranger:things/magic@1.2.3", "it offers"],
        ),
        ("bad name", &component, &["no name of a module", "' '"]),
    ];
    let mut edge = Plan::new(&["good"]).with("good", "outbox_echo", "").start().await;
    for (name, bytes, _) in files {
        edge.put(&format!("{name}.wasm"), bytes);
    }
    edge.install("faulty", "outbox_echo", "restart = 5\n[limit]\nx = 1\n");
    for (name, _, parts) in files {
        let status = edge.until(name, |status| status.status == RuntimeStatus::Failed).await;
        for part in *parts {
            assert!(status.description.contains(part), "{name}: {part:?} is not in {:?}", status.description);
        }
    }
    let faulty = edge.until("faulty", |status| status.status == RuntimeStatus::Failed).await.description;
    assert!(faulty.contains("faulty.toml: line 1: restart is an integer"), "{faulty}");
    assert!(faulty.contains("line 2: limit is not known here"), "{faulty}");
    assert!(matches!(edge.engine.start("core").await, Err(CommandError::NotLoaded { .. })));
    edge.feed("good", "x").await;
    assert_eq!(edge.received().await.1, "in:x");

    // A file that is mended runs.
    edge.put("core.wasm", component);
    edge.until_running("core").await;
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_whose_start_fails_is_tried_again_later_and_later_and_then_given_up() {
    let edge = Plan::new(&["m"])
        .with("m", "handler_start", "[config]\nfail = \"no valve\"\n")
        .config(|config| config.backoff.restarts_max = 3)
        .start()
        .await;
    let status = edge.until("m", |status| status.status == RuntimeStatus::Failed).await;
    assert_eq!(status.restarts, 3);
    assert!(status.description.contains("start failed: no valve"), "{}", status.description);
    assert!(status.description.contains("restarted 3 times"), "{}", status.description);
    let log = edge.log("m").join("\n");
    for wait in ["in 20 ms", "in 40 ms", "in 80 ms"] {
        assert!(log.contains(wait), "{log}");
    }
    edge.put("m.toml", "");
    edge.until_running("m").await;
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_traps_or_takes_too_long_says_so() {
    let edge = Plan::new(&["trap", "slow", "nowhere"])
        .with("trap", "handler_start", "restart = \"never\"\n[config]\ntrap = \"burst pipe\"\n")
        .with(
            "slow",
            "handler_start",
            "restart = \"never\"\n[limits]\nstart_ms = 50\n[config]\nsleep_ms = 60000\n",
        )
        .with(
            "nowhere",
            "outbox_echo",
            "restart = \"never\"\n[grants]\ndirectories = [{ host = \"/no/such\" }]\n",
        )
        .start()
        .await;
    for (module, parts) in [
        ("trap", ["start trapped", "burst pipe"]),
        ("slow", ["start took longer than 50 ms", "limits.start_ms"]),
        ("nowhere", ["/no/such is granted but cannot be opened", "[grants] directories"]),
    ] {
        let status = edge.until(module, |status| status.status == RuntimeStatus::Failed).await;
        for part in parts {
            assert!(status.description.contains(part), "{part:?} is not in {:?}", status.description);
        }
    }
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lower_start_orders_are_ready_before_higher_ones_begin() {
    let slow = |order: &str, ms: u32| format!("{order}\n[config]\nsleep_ms = {ms}\n");
    let mut edge = Plan::new(&[])
        .with("a-last", "handler_start", "")
        .with("b-second", "handler_start", &slow("start_order = 2", 100))
        .with("c-first", "handler_start", &slow("start_order = 1", 300))
        .start()
        .await;
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(edge.received().await.0);
    }
    assert_eq!(order, ["c-first", "b-second", "a-last"]);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_is_stopped_or_fails_does_not_hold_back_the_orders_after_it() {
    let plan = Plan::new(&[])
        .with("a-stopped", "handler_start", "status = \"stopped\"\nstart_order = 1\n")
        .with("b-fails", "handler_start", "start_order = 2\n[config]\nfail = \"no valve\"\n")
        .with("c-last", "handler_start", "")
        .config(|config| config.backoff.base = support::PATIENCE);
    // They are not new, so that all of them are there from the beginning.
    for file in fs::read_dir(plan.plugins()).unwrap() {
        let file = fs::File::options().append(true).open(file.unwrap().path()).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).unwrap();
    }
    let mut edge = plan.start().await;
    assert_eq!(edge.received().await, ("c-last".to_owned(), "started".to_owned()));
    assert_eq!(edge.status("a-stopped").unwrap().status, RuntimeStatus::Stopped);
    assert_eq!(edge.status("b-fails").unwrap().status, RuntimeStatus::Backoff);
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_stops_starts_and_restarts_a_module_and_messages_wait_meanwhile() {
    let mut edge = Plan::new(&["m"]).with("m", "handler_start", "").start().await;
    assert_eq!(edge.received().await.1, "started");
    edge.engine.stop("m").await.unwrap();
    let status = edge.until("m", |status| status.status == RuntimeStatus::Stopped).await;
    assert_eq!(status.description, "stopped by an operator");
    assert_eq!(edge.received().await.1, "stopped");
    edge.feed("m", "waits").await;
    assert!(edge.nothing_more());
    edge.engine.start("m").await.unwrap();
    assert_eq!(edge.bodies(2).await, ["started", "waits"]);
    edge.engine.restart("m").await.unwrap();
    assert_eq!(edge.bodies(2).await, ["stopped", "started"]);
    let unknown = edge.engine.stop("x").await.unwrap_err().to_string();
    assert_eq!(unknown, "there is no module \"x\"; there are: m");
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_can_say_that_a_module_is_stopped() {
    let mut edge = Plan::new(&["m"]).with("m", "outbox_echo", "status = \"stopped\"\n").start().await;
    edge.feed("m", "x").await;
    edge.until("m", |status| status.status == RuntimeStatus::Stopped).await;
    assert!(edge.nothing_more());
    edge.put("m.toml", "status = \"running\"\n");
    assert_eq!(edge.received().await.1, "in:x");
    edge.put("m.toml", "status = \"stopped\"\n");
    edge.until("m", |status| status.status == RuntimeStatus::Stopped).await;
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_the_host_tells_each_module_and_records_what_it_does_last() {
    let plan = Plan::new(&["m"]).with("m", "handler_start", "");
    let mut edge = plan.start().await;
    assert_eq!(edge.received().await.1, "started");
    let folder = edge.stop().await;
    let mut edge = Plan::new(&["m"]).in_folder(&folder).start().await;
    assert_eq!(edge.bodies(2).await, ["stopped", "started"]);
    edge.stop().await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn compiled_code_is_used_again_kept_private_and_compiled_anew_when_damaged() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let edge = Plan::new(&["m"]).with("m", "outbox_echo", "").start().await;
    edge.until_running("m").await;
    let folder = edge.stop().await;
    let files = || {
        let files = fs::read_dir(folder.path().join("code")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.collect();
        files.sort();
        files
    };
    let [code, sum] = files().try_into().unwrap();
    assert_eq!((code.extension().unwrap(), sum.extension().unwrap()), ("code".as_ref(), "sum".as_ref()));
    assert_eq!(fs::metadata(&code).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(folder.path().join("code")).unwrap().mode() & 0o777, 0o700);
    let written = fs::metadata(&code).unwrap().ino();

    let again = |edge: Edge| async move {
        edge.until_running("m").await;
        edge.stop().await
    };
    again(Plan::new(&["m"]).in_folder(&folder).start().await).await;
    assert_eq!(fs::metadata(&code).unwrap().ino(), written, "it was compiled again");

    let mut bytes = fs::read(&code).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&code, &bytes).unwrap();
    again(Plan::new(&["m"]).in_folder(&folder).start().await).await;
    let written_anew = fs::metadata(&code).unwrap().ino();
    assert_ne!(fs::read(&code).unwrap(), bytes, "damaged code was used");

    fs::set_permissions(&code, fs::Permissions::from_mode(0o666)).unwrap();
    again(Plan::new(&["m"]).in_folder(&folder).start().await).await;
    assert_ne!(fs::metadata(&code).unwrap().ino(), written_anew, "code that others may write was used");
}

/// A folder whose files nobody may execute, as long as this lives.
#[cfg(target_os = "linux")]
struct NoExec(std::path::PathBuf);

#[cfg(target_os = "linux")]
impl NoExec {
    /// None where this user may not mount.
    fn on(folder: &std::path::Path) -> Option<Self> {
        let mount = |arguments: &[&std::ffi::OsStr]| {
            let ended = std::process::Command::new("mount").args(arguments).output();
            ended.is_ok_and(|output| output.status.success())
        };
        let at = folder.as_os_str();
        let mounted = mount(&["--bind".as_ref(), at, at]).then(|| Self(folder.to_owned()))?;
        mount(&["-o".as_ref(), "remount,bind,noexec".as_ref(), at]).then_some(mounted)
    }
}

#[cfg(target_os = "linux")]
impl Drop for NoExec {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("--lazy").arg(&self.0).status().unwrap();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn compiled_code_is_used_again_where_no_file_may_be_executed() {
    let edge = Plan::new(&["m"]).with("m", "outbox_echo", "").start().await;
    edge.until_running("m").await;
    let folder = edge.stop().await;
    let Some(_no_exec) = NoExec::on(&folder.path().join("code")) else {
        return println!("not tested: this user may not mount");
    };
    let ends = Compiler::Process { program: "/bin/false".into(), arguments: Vec::new() };
    let plan = Plan::new(&["m"]).in_folder(&folder).config(move |config| config.compiler = ends);
    let mut edge = plan.start().await;
    edge.feed("m", "x").await;
    assert_eq!(edge.received().await.1, "in:x");
    edge.stop().await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_compiler_that_crashes_costs_one_module_and_one_that_cannot_be_started_nothing() {
    let process = |program: &str, arguments: &[&str]| Compiler::Process {
        program: program.into(),
        arguments: arguments.iter().map(Into::into).collect(),
    };
    let crashes = process("/bin/sh", &["-c", "kill -SEGV $$"]);
    let edge = Plan::new(&["m"])
        .with("m", "outbox_echo", "")
        .config(move |config| config.compiler = crashes)
        .start()
        .await;
    let status = edge.until("m", |status| status.status == RuntimeStatus::Failed).await;
    assert!(status.description.contains("the compiler ended without a result (signal"), "{status:#?}");
    edge.stop().await;

    let absent = process("/no/such/program", &[]);
    let mut edge = Plan::new(&["m"])
        .with("m", "outbox_echo", "")
        .config(move |config| config.compiler = absent)
        .start()
        .await;
    edge.feed("m", "x").await;
    assert_eq!(edge.received().await.1, "in:x");
    edge.stop().await;
}

/// A registry that answers when it is told to.
#[derive(Debug)]
struct Slow(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

impl holdfast_engine::Source for Slow {
    fn fetch(&self, _: &str) -> Result<Vec<u8>, String> {
        self.0.lock().unwrap().recv().unwrap();
        Ok(fs::read(guest("outbox_echo")).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_fetched_or_compiled_is_listed() {
    let (answer, answers) = std::sync::mpsc::channel();
    let source = std::sync::Arc::new(Slow(std::sync::Mutex::new(answers)));
    let mut edge = Plan::new(&["far"]).config(move |config| config.source = Some(source)).start().await;
    edge.put("far.toml", "[source]\noci = \"r.example/far@sha256:00\"\n");
    let status = edge.until("far", |_| true).await;
    assert_eq!(status.status, RuntimeStatus::Unknown);
    assert!(status.description.contains("fetched or compiled"), "{status:#?}");
    answer.send(()).unwrap();
    let status = edge.until_running("far").await;
    assert_eq!(status.description, "");
    edge.feed("far", "x").await;
    assert_eq!(edge.received().await.1, "in:x");
    edge.stop().await;
}
