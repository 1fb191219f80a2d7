//! Builds the guests of tests/guests when a test needs one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

pub const TARGET: &str = "wasm32-wasip2";

/// The component of a guest: a crate of tests/guests.
pub fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BUILT.get_or_init(build) {
        Ok(folder) => folder.join(format!("{name}.wasm")),
        Err(reason) => panic!("{reason}"),
    }
}

/// The bytes of a guest, with a mark that changes its digest and nothing else: another version of the same module.
pub fn marked(name: &str, mark: &str) -> Vec<u8> {
    let mut bytes = fs::read(guest(name)).unwrap();
    // A custom section: its id, its size, the size of its name, its name, its content.
    let content = [&[4], &b"mark"[..], mark.as_bytes()].concat();
    bytes.extend([0, u8::try_from(content.len()).unwrap()]);
    bytes.extend(content);
    bytes
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn build() -> Result<PathBuf, String> {
    let guests = root().join("tests/guests");
    let target = root().join("target/guests");
    let built = target.join(TARGET).join("release");
    let newest = newest(&guests).max(newest(&root().join("wit")));
    let stamp = target.join("complete");
    if fs::metadata(&stamp).and_then(|about| about.modified()).is_ok_and(|done| done > newest) {
        return Ok(built);
    }
    let mut cargo = tool_chain()?;
    let output = cargo
        .current_dir(&guests)
        .args(["build", "--release", "--locked", "--target", TARGET])
        .env("CARGO_TARGET_DIR", &target)
        .output()
        .map_err(|error| format!("the guests' build does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("the guests do not build:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    fs::write(&stamp, "").map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(built)
}

/// rustup's tool chain if it has the target, Debian's otherwise.
pub fn tool_chain() -> Result<Command, String> {
    let clean = |program: &str| {
        let mut command = Command::new(program);
        for variable in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC",
            "RUSTDOC",
            "RUSTC_WORKSPACE_WRAPPER",
        ] {
            command.env_remove(variable);
        }
        command
    };
    let installed = clean("rustup").args(["target", "list", "--installed"]).output();
    if installed
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line == TARGET))
    {
        return Ok(clean("cargo"));
    }
    let (cargo, rustc, libc) = ("/usr/bin/cargo", "/usr/bin/rustc", "/usr/lib/wasm32-wasi");
    let missing: Vec<&str> =
        [cargo, rustc, libc].into_iter().filter(|path| !Path::new(path).exists()).collect();
    if !missing.is_empty() {
        return Err(format!(
            "the guests need a Rust tool chain for {TARGET}: run `rustup target add {TARGET}`, or on Debian `apt \
             install rustc-web rust-web-llvm cargo-web rust-web-src lld wasi-libc` (absent: {})",
            missing.join(", ")
        ));
    }
    let mut command = clean(cargo);
    command
        .env("RUSTC", rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", format!("-L native={libc}"))
        .arg("-Zbuild-std=std,panic_abort");
    Ok(command)
}

/// When anything in a folder was last changed.
fn newest(folder: &Path) -> SystemTime {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let times = entries.map(|entry| {
        let about = entry.metadata().unwrap();
        if about.is_dir() { newest(&entry.path()) } else { about.modified().unwrap() }
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}
