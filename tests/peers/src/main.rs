//! What a call costs in extism, beside what it costs here: the benchmark of the engine runs first, with the same body.
//!
//! ```sh
//! cargo run --release --manifest-path tests/peers/Cargo.toml
//! ```
//!
//! Both guests are given a body of 256 bytes and hand it to the host again by one call. That of extism is written in
//! text and does no more than that; a guest in a language does what its development kit adds.

use extism::{CurrentPlugin, Error, Plugin, PluginBuilder, UserData, Val, ValType, Wasm};
use std::process::Command;
use std::time::{Duration, Instant};

const BODY: usize = 256;
const CALLS: u32 = 200_000;

/// Copies its input into its memory and from there into a block of the host, as the development kits do, and sends that.
const GUEST: &str = r#"(module
  (import "extism:host/env" "input_length" (func $input_length (result i64)))
  (import "extism:host/env" "input_load_u64" (func $input_load (param i64) (result i64)))
  (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
  (import "extism:host/env" "store_u64" (func $store (param i64 i64)))
  (import "extism:host/env" "free" (func $free (param i64)))
  (import "extism:host/user" "send" (func $send (param i64)))
  (memory (export "memory") 1)
  (func (export "handle") (result i32)
    (local $length i64) (local $at i64) (local $block i64)
    (local.set $length (call $input_length))
    (loop $in
      (i64.store (i32.wrap_i64 (local.get $at)) (call $input_load (local.get $at)))
      (local.set $at (i64.add (local.get $at) (i64.const 8)))
      (br_if $in (i64.lt_u (local.get $at) (local.get $length))))
    (local.set $block (call $alloc (local.get $length)))
    (local.set $at (i64.const 0))
    (loop $out
      (call $store (i64.add (local.get $block) (local.get $at)) (i64.load (i32.wrap_i64 (local.get $at))))
      (local.set $at (i64.add (local.get $at) (i64.const 8)))
      (br_if $out (i64.lt_u (local.get $at) (local.get $length))))
    (call $send (local.get $block))
    (call $free (local.get $block))
    (i32.const 0)))"#;

fn send(
    plugin: &mut CurrentPlugin,
    given: &[Val],
    _: &mut [Val],
    sent: UserData<usize>,
) -> Result<(), Error> {
    let body: Vec<u8> = plugin.memory_get_val(&given[0])?;
    *sent.get()?.lock().expect("nobody panics with it") += body.len();
    Ok(())
}

fn per_call(plugin: &mut Plugin, body: &[u8]) -> Result<Duration, Error> {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..CALLS {
            plugin.call::<_, ()>("handle", body)?;
        }
        best = best.min(start.elapsed() / CALLS);
    }
    Ok(best)
}

fn main() -> Result<(), Error> {
    let ours = ["bench", "-p", "holdfast-engine", "--bench", "calls", "--", "call", "peer"];
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let status = Command::new(env!("CARGO")).args(ours).current_dir(root).status()?;
    assert!(status.success(), "the benchmark of the engine ended with {status}");

    let sent = UserData::new(0_usize);
    let guest = Wasm::data(GUEST.as_bytes());
    let manifest = extism::Manifest::new([guest]);
    let mut plugin =
        PluginBuilder::new(manifest).with_function("send", [ValType::I64], [], sent.clone(), send).build()?;
    let cost = per_call(&mut plugin, &[b'x'; BODY])?;
    let handed = *sent.get()?.lock().expect("nobody panics with it");
    assert_eq!(handed, 5 * CALLS as usize * BODY);
    println!("{:<58} {:>9} ns", "peer: extism 1.30, a call with one send, no queue", cost.as_nanos());
    Ok(())
}
