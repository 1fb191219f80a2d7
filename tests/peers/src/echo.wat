;; Takes its input into its memory and gives it back, eight bytes at a time, as the plug-in kits of extism do.
(module
  (import "extism:host/env" "input_length" (func $length (result i64)))
  (import "extism:host/env" "input_load_u64" (func $load (param i64) (result i64)))
  (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
  (import "extism:host/env" "store_u64" (func $store (param i64 i64)))
  (import "extism:host/env" "output_set" (func $output (param i64 i64)))
  (memory (export "memory") 1)
  (func (export "echo") (result i32)
    (local $bytes i64)
    (local $at i64)
    (local $to i64)
    (local.set $bytes (call $length))
    (loop $in
      (i64.store (i32.wrap_i64 (local.get $at)) (call $load (local.get $at)))
      (local.set $at (i64.add (local.get $at) (i64.const 8)))
      (br_if $in (i64.lt_u (local.get $at) (local.get $bytes))))
    (local.set $to (call $alloc (local.get $bytes)))
    (local.set $at (i64.const 0))
    (loop $out
      (call $store
        (i64.add (local.get $to) (local.get $at))
        (i64.load (i32.wrap_i64 (local.get $at))))
      (local.set $at (i64.add (local.get $at) (i64.const 8)))
      (br_if $out (i64.lt_u (local.get $at) (local.get $bytes))))
    (call $output (local.get $to) (local.get $bytes))
    (i32.const 0)))
