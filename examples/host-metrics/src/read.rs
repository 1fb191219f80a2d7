//! What the files of Linux say. Each function takes the text of a file and gives nothing if it is not understood.

use serde::Serialize;
use std::collections::BTreeMap;

/// `/proc/loadavg`: the mean number of tasks that ran or waited.
#[derive(Debug, PartialEq, Serialize)]
pub struct Load {
    /// Over one minute.
    pub one: f64,
    /// Over five minutes.
    pub five: f64,
    /// Over fifteen minutes.
    pub fifteen: f64,
}

/// `/proc/meminfo`.
#[derive(Debug, PartialEq, Serialize)]
pub struct Memory {
    pub total_bytes: u64,
    /// What new programs can have without swapping.
    pub available_bytes: u64,
    pub used_percent: f64,
    pub swap_used_bytes: u64,
}

/// The first line of `/proc/stat`, in clock ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuTimes {
    idle: u64,
    all: u64,
}

/// A line of `/proc/diskstats`.
#[derive(Debug, PartialEq)]
pub struct DiskTotals {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub busy_ms: u64,
}

/// `/proc/diskstats` counts in sectors of 512 bytes, whatever the disk has.
const SECTOR_BYTES: u64 = 512;

pub fn uptime(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

pub fn load(text: &str) -> Option<Load> {
    let mut numbers = text.split_whitespace().map(|word| word.parse().ok());
    Some(Load { one: numbers.next()??, five: numbers.next()??, fifteen: numbers.next()?? })
}

pub fn memory(text: &str) -> Option<Memory> {
    let bytes = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let total = bytes("MemTotal").filter(|total| *total > 0)?;
    let available = bytes("MemAvailable")?;
    let swap = |name| bytes(name).unwrap_or(0);
    Some(Memory {
        total_bytes: total,
        available_bytes: available,
        used_percent: tenths(total.saturating_sub(available) as f64 * 100.0 / total as f64),
        swap_used_bytes: swap("SwapTotal").saturating_sub(swap("SwapFree")),
    })
}

pub fn cpu(text: &str) -> Option<CpuTimes> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    // User, nice, system, idle, waiting for disks, interrupts, soft interrupts, stolen. What follows is counted twice.
    let times: Vec<u64> = line.split_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let idle = times.get(3)?.checked_add(*times.get(4)?)?;
    Some(CpuTimes { idle, all: times.iter().sum() })
}

impl CpuTimes {
    /// The share of time in which the processors were busy.
    pub fn busy_percent_since(self, last: Self) -> Option<f64> {
        let all = self.all.checked_sub(last.all).filter(|ticks| *ticks > 0)?;
        let idle = self.idle.saturating_sub(last.idle).min(all);
        Some(tenths((all - idle) as f64 * 100.0 / all as f64))
    }
}

/// Whole disks only; nothing that is made of memory or of a file.
pub fn disks(text: &str) -> Option<BTreeMap<String, DiskTotals>> {
    let mut all: BTreeMap<String, DiskTotals> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = *words.get(2)?;
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        let is_virtual = ["loop", "ram", "zram"].iter().any(|kind| name.starts_with(kind));
        // A partition comes after its disk.
        if is_virtual || all.keys().any(|disk| is_partition(name, disk)) {
            continue;
        }
        let totals = DiskTotals {
            read_bytes: number(5)?.saturating_mul(SECTOR_BYTES),
            written_bytes: number(9)?.saturating_mul(SECTOR_BYTES),
            busy_ms: number(12)?,
        };
        all.insert(name.to_owned(), totals);
    }
    Some(all)
}

/// `sda1` of `sda`, but not `sdaa`; `nvme0n1p1` of `nvme0n1`, but not `nvme0n10`.
fn is_partition(name: &str, disk: &str) -> bool {
    let between = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    let number = name.strip_prefix(disk).and_then(|rest| rest.strip_prefix(between));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// `thermal_zone*/temp` is in thousandths of a degree.
pub fn celsius(text: &str) -> Option<f64> {
    let celsius = text.trim().parse::<f64>().ok()? / 1000.0;
    // Sensors that are broken or absent answer with figures that no machine survives.
    (-100.0..=200.0).contains(&celsius).then(|| tenths(celsius))
}

/// Rounded to tenths.
pub fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_busy_time_comes_from_two_samples() {
        let then = cpu("cpu  100 0 100 700 100 0 0 0 0 0\n").unwrap();
        let now = cpu("cpu  150 0 125 750 175 0 0 0 0 0\n").unwrap();
        assert_eq!(now.busy_percent_since(then), Some(37.5));
        assert_eq!(then.busy_percent_since(now), None);
    }

    #[test]
    fn text_that_is_not_what_linux_writes_gives_nothing() {
        for text in
            ["", "\n", "cpu", "cpu  1 2\n", "a b c d", "MemTotal: 0 kB\nMemAvailable: 1 kB", "1 2 sda x"]
        {
            assert_eq!(load(text), None, "{text:?}");
            assert_eq!(memory(text), None, "{text:?}");
            assert_eq!(cpu(text), None, "{text:?}");
        }
        assert_eq!(disks("1 2 sda x"), None);
        assert_eq!(celsius("-274000"), None);
    }

    #[test]
    fn partitions_and_disks_made_of_memory_are_left_out() {
        let text = include_str!("../fixtures/proc/diskstats");
        let all = disks(text).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["nvme0n1", "sda"]);
        let expected = DiskTotals { read_bytes: 10_240_000, written_bytes: 20_480_000, busy_ms: 1_000 };
        assert_eq!(all["nvme0n1"], expected);
        for (name, disk, expected) in [
            ("sda1", "sda", true),
            ("sdaa", "sda", false),
            ("nvme0n1p2", "nvme0n1", true),
            ("nvme0n10", "nvme0n1", false),
            ("md1", "md1", false),
        ] {
            assert_eq!(is_partition(name, disk), expected, "{name}");
        }
    }
}
