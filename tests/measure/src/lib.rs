//! What a benchmark asks of the machine that it runs on: the time that a process computed, the memory that it holds, and how quiet the
//! machine was meanwhile. It reads proc(5); where there is none every answer is nothing.

#![expect(clippy::print_stdout, reason = "what a benchmark finds is printed")]

use std::{env, fmt, fs, io, ops::Range, process::Command, time::Duration};

/// A tick of proc(5) on every Linux that the benchmarks run on.
const TICK: Duration = Duration::from_millis(10);

/// The time that a process has computed, in its own code and in the kernel's: its number, or `self`.
pub fn cpu_time(process: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name of the program stands in brackets and may hold blanks; what follows does not.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok()).unwrap_or_default();
    TICK * (ticks(11) + ticks(12))
}

/// The memory that a process has resident, in bytes: its number, or `self`.
pub fn resident_bytes(process: &str) -> u64 {
    status(process, "VmRSS:")
}

/// The most memory that a process has ever had resident, in bytes: its number, or `self`.
pub fn resident_bytes_max(process: &str) -> u64 {
    status(process, "VmHWM:")
}

fn status(process: &str, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() << 10
}

/// How many processors the machine has, whichever of them this process may use.
pub fn processors() -> usize {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let last = online.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<usize>().ok());
    last.map_or(0, |last| last + 1)
}

/// This program again, on these processors of the machine and no others. Needs `taskset` of util-linux.
pub fn again_on(processors: Range<usize>) -> io::Result<Command> {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &format!("{}-{}", processors.start, processors.end.saturating_sub(1))]);
    command.arg(env::current_exe()?);
    Ok(command)
}

/// The one in the middle; of an even number the upper one of the two. `None` of nothing.
pub fn median<T: Copy + PartialOrd>(values: &[T]) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    sorted.get(sorted.len() / 2).copied()
}

/// How quiet the machine is, from a look at its start: a latency is only worth what the machine left to the benchmark.
pub struct Quiet {
    before: Option<Processors>,
}

/// Ticks of all processors since the machine started.
#[derive(Clone, Copy)]
struct Processors {
    /// In which a program computed, or would have if its processor had not been given to another machine.
    wanted: u64,
    /// Of those, the ones in which the processor was given to another machine.
    stolen: u64,
}

impl Quiet {
    /// Looks, and prints the load before the run.
    pub fn look() -> Self {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        println!("load of the machine before the run: {}", load.trim());
        Self::silently()
    }

    /// Looks, and prints nothing: for a part of a run.
    pub fn silently() -> Self {
        Self { before: Processors::now() }
    }

    /// The share of the processors' time since the look that was wanted and given to another machine, from 0 to 1.
    pub fn stolen(&self) -> f64 {
        let (Some(before), Some(now)) = (self.before, Processors::now()) else { return 0.0 };
        let wanted = now.wanted.saturating_sub(before.wanted);
        now.stolen.saturating_sub(before.stolen) as f64 / wanted.max(1) as f64
    }

    /// Prints how much was taken meanwhile. Latencies of a run with more than a hundredth say more of the machine than of the program.
    pub fn say(&self) {
        println!("time of the processors that other machines took meanwhile: {:.1} %", self.stolen() * 100.0);
    }
}

/// A part of a run of which other machines took less counts as undisturbed.
const UNDISTURBED: f64 = 0.01;

/// The parts of a run that other machines disturbed least.
#[derive(Debug)]
pub struct Calmest<T> {
    /// What they gave, the calmest first.
    pub slices: Vec<T>,
    of: usize,
    stolen_max: f64,
}

impl<T> Calmest<T> {
    /// Runs slices until `keep` of them were undisturbed, and at most `most`. Gives the `keep` that were disturbed least, whatever
    /// they measured: what another machine takes is added to a latency, and is not the program's.
    pub fn run(keep: usize, most: usize, mut slice: impl FnMut() -> T) -> Self {
        let each = || {
            let quiet = Quiet::silently();
            let value = slice();
            (quiet.stolen(), value)
        };
        Self::among(keep, most, std::iter::repeat_with(each))
    }

    fn among(keep: usize, most: usize, slices: impl Iterator<Item = (f64, T)>) -> Self {
        let mut all: Vec<(f64, T)> = Vec::new();
        let mut undisturbed = 0;
        for (stolen, value) in slices.take(most) {
            undisturbed += usize::from(stolen < UNDISTURBED);
            all.push((stolen, value));
            if undisturbed == keep {
                break;
            }
        }
        let of = all.len();
        all.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        all.truncate(keep);
        let stolen_max = all.last().map_or(0.0, |(stolen, _)| *stolen);
        Self { slices: all.into_iter().map(|(_, value)| value).collect(), of, stolen_max }
    }

    /// The one in the middle of what `measured` finds in them. `None` without slices.
    pub fn median<V: Copy + PartialOrd>(&self, measured: impl FnMut(&T) -> V) -> Option<V> {
        median(&self.slices.iter().map(measured).collect::<Vec<_>>())
    }
}

impl<T> fmt::Display for Calmest<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slices, of, stolen_max } = self;
        let percent = stolen_max * 100.0;
        write!(
            f,
            "the {} calmest of {of} slices; other machines took at most {percent:.1} % of the processors in one",
            slices.len()
        )
    }
}

impl Processors {
    fn now() -> Option<Self> {
        Self::read(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line is `cpu user nice system idle iowait irq softirq steal …`.
    fn read(stat: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
        let [user, nice, system, _idle, _iowait, irq, softirq, stolen, ..] = ticks[..] else { return None };
        Some(Self { wanted: user + nice + system + irq + softirq + stolen, stolen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_of_this_process_is_something() {
        let began = std::time::Instant::now();
        let mut sum = 0_u64;
        while cpu_time("self").is_zero() && began.elapsed() < Duration::from_secs(10) {
            sum = sum.wrapping_mul(31).wrapping_add(7);
        }
        assert!(!cpu_time("self").is_zero(), "{sum}");
        assert!(resident_bytes("self") > 100_000);
        assert!(resident_bytes_max("self") >= resident_bytes("self") / 2);
        assert_eq!(resident_bytes("no-such-process"), 0);
        assert!(processors() >= std::thread::available_parallelism().map_or(1, usize::from));
    }

    #[test]
    fn the_one_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4, 1, 3, 2]), Some(3));
        assert_eq!(median::<u8>(&[]), None);
    }

    #[test]
    fn the_slices_that_were_disturbed_least_are_kept_and_no_more_run_than_needed() {
        let stolen = [0.3, 0.0, 0.1, 0.005, 0.02, 0.0, 0.0];
        let slices = || stolen.into_iter().zip(0..);
        let enough = Calmest::among(3, 100, slices());
        assert_eq!(enough.slices, [1, 5, 3]);
        assert_eq!(enough.of, 6, "the seventh was not needed");
        let few = Calmest::among(3, 5, slices());
        assert_eq!(few.slices, [1, 3, 4]);
        assert_eq!(
            few.to_string(),
            "the 3 calmest of 5 slices; other machines took at most 2.0 % of the processors in one"
        );
        assert_eq!(few.median(|value| value * 10), Some(30));
        assert_eq!(Calmest::<u8>::among(3, 0, std::iter::empty()).median(|value| *value), None);
    }

    #[test]
    fn time_that_was_taken_is_a_share_of_what_was_wanted() {
        let before = Processors::read("cpu  100 0 50 1000 5 0 0 10 0 0\ncpu0 1 2 3").unwrap();
        let after = Processors::read("cpu  160 0 70 2000 5 0 0 30 0 0\n").unwrap();
        assert_eq!((after.wanted - before.wanted, after.stolen - before.stolen), (100, 20));
        assert!(Processors::read("intr 1 2 3").is_none());
    }
}
