//! Prints what extism takes for a call of a plug-in, with 256 bytes there and back, and for a fresh instance of one, in
//! nanoseconds. The benchmark `calls` of the engine starts it and puts it beside its own.

use extism::{CompiledPlugin, Error, Manifest, Plugin, PluginBuilder, Wasm};
use std::time::{Duration, Instant};

const BODY: usize = 256;
const CALLS: u32 = 200_000;
const INSTANCES: usize = 200;

fn main() -> Result<(), Error> {
    let echo = wat::parse_bytes(include_bytes!("echo.wat"))?;
    let compiled = CompiledPlugin::new(PluginBuilder::new(Manifest::new([Wasm::data(echo.into_owned())])))?;
    let body = [b'x'; BODY];

    let mut plugin = Plugin::new_from_compiled(&compiled)?;
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..CALLS {
            let answer: &[u8] = plugin.call("echo", body.as_slice())?;
            assert_eq!(answer, body, "the plug-in gives back what it is given");
        }
        best = best.min(start.elapsed() / CALLS);
    }
    println!("call {}", best.as_nanos());

    let mut times = Vec::new();
    for _ in 0..INSTANCES {
        let start = Instant::now();
        let mut plugin = Plugin::new_from_compiled(&compiled)?;
        let _: &[u8] = plugin.call("echo", body.as_slice())?;
        times.push(start.elapsed());
    }
    times.sort();
    println!("instance {}", times[INSTANCES / 2].as_nanos());
    Ok(())
}
