//! Load, memory, disk and temperature of the machine, as Linux tells them in `/proc` and `/sys`.
//!
//! The module reads files in directories that it was granted; it has no other way to learn about the machine. What is
//! absent, not granted or not understood is left out of the reading and named once in the log. Free space on disks is
//! not among the figures: no file tells it, and WASI has no call for it.

mod read;

use holdfast_sdk::{
    Error, Failure, Message, Module, OrFail, Outgoing, Ports, clock, config, log, outbox, timers,
};
use read::{CpuTimes, DiskTotals, Load, Memory};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, collections::BTreeSet, fs, path::Path, time::Duration};

const OUTPUT: &str = "metrics";
/// Most bytes of a file that is read; the largest, `/proc/stat` on a machine with very many processors, has fewer.
const FILE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Time between two readings.
    #[serde(with = "config::duration")]
    period: Duration,
    /// Where the module sees `/proc`.
    proc: String,
    /// Where the module sees the folder of `thermal_zone0` and so on.
    thermal: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            period: Duration::from_secs(10),
            proc: "/proc".to_owned(),
            thermal: "/sys/devices/virtual/thermal".to_owned(),
        }
    }
}

/// One reading. What could not be read is left out.
#[derive(Default, Serialize)]
struct Metrics {
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<Load>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    disks: BTreeMap<String, DiskRates>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    temperatures: BTreeMap<String, f64>,
    /// The highest of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
}

#[derive(Serialize)]
struct DiskRates {
    read_bytes_per_s: f64,
    written_bytes_per_s: f64,
    busy_percent: f64,
}

/// Totals since the machine started, of which the next reading tells the difference.
struct Totals {
    time: u64,
    cpu: Option<CpuTimes>,
    disks: BTreeMap<String, DiskTotals>,
}

struct HostMetrics {
    settings: Settings,
    last: Option<Totals>,
    /// What is missing and has been named in the log.
    named: BTreeSet<String>,
}

impl Module for HostMetrics {
    const INPUTS: Ports = &[];
    const OUTPUTS: Ports = &[OUTPUT];

    fn start() -> Result<Self, Error> {
        let settings: Settings = config::parse()?;
        timers::every("read", settings.period)?;
        let mut module = Self { settings, last: None, named: BTreeSet::new() };
        if !module.read().has_any() {
            log::warn!(
                "nothing can be read, so nothing will be sent: on Linux grant /proc and the folder of thermal zones in \
                 the .toml file beside this module; Windows and macOS have no such files and are not supported"
            );
        }
        Ok(module)
    }

    fn handle(&mut self, _input: &str, _message: Message) -> Result<(), Failure> {
        Err(Failure::reject("host-metrics takes no messages; remove the route that leads to it"))
    }

    fn fire(&mut self, _timer: &str) -> Result<(), Failure> {
        let metrics = self.read();
        match metrics.has_any() {
            true => outbox::send(OUTPUT, Outgoing::json(&metrics)?).or_retry(),
            false => Ok(()),
        }
    }
}

holdfast_sdk::module!(HostMetrics);

impl HostMetrics {
    fn read(&mut self) -> Metrics {
        let totals = Totals {
            time: clock::now(),
            cpu: self.proc("stat", read::cpu),
            disks: self.proc("diskstats", read::disks).unwrap_or_default(),
        };
        let temperatures = self.temperatures();
        let metrics = Metrics {
            time: totals.time,
            uptime_s: self.proc("uptime", read::uptime),
            load: self.proc("loadavg", read::load),
            cpu_percent: self.last.as_ref().and_then(|last| totals.cpu?.busy_percent_since(last.cpu?)),
            memory: self.proc("meminfo", read::memory),
            disks: self.last.as_ref().map(|last| totals.disk_rates_since(last)).unwrap_or_default(),
            temperature: temperatures.values().copied().reduce(f64::max),
            temperatures,
        };
        self.last = Some(totals);
        metrics
    }

    fn proc<T>(&mut self, name: &str, parse: fn(&str) -> Option<T>) -> Option<T> {
        let path = format!("{}/{name}", self.settings.proc);
        match text_of(&path).map(|text| parse(&text)) {
            Ok(Some(value)) => Some(value),
            Ok(None) => self.name_missing(&path, "it is not what Linux writes there"),
            Err(why) => self.name_missing(&path, &why),
        }
    }

    /// By the kind of the sensor, with a number behind if there are several of a kind.
    fn temperatures(&mut self) -> BTreeMap<String, f64> {
        let folder = self.settings.thermal.clone();
        let mut zones: Vec<String> = match fs::read_dir(&folder) {
            Ok(entries) => {
                entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
            }
            Err(error) => {
                self.name_missing::<()>(&folder, &error.to_string());
                Vec::new()
            }
        };
        zones.retain(|name| name.starts_with("thermal_zone"));
        zones.sort();
        let mut all = BTreeMap::new();
        for zone in zones {
            let kind = text_of(&format!("{folder}/{zone}/type")).unwrap_or_else(|_| zone.clone());
            // A zone whose sensor sleeps answers with an error; it may answer the next time.
            let Some(celsius) =
                text_of(&format!("{folder}/{zone}/temp")).ok().and_then(|text| read::celsius(&text))
            else {
                continue;
            };
            let kind = kind.trim();
            let name = if all.contains_key(kind) { format!("{kind}-{zone}") } else { kind.to_owned() };
            all.insert(name, celsius);
        }
        all
    }

    /// Says once what is missing.
    fn name_missing<T>(&mut self, path: &str, why: &str) -> Option<T> {
        if self.named.insert(path.to_owned()) {
            log::info!("{path} is left out: {why}");
        }
        None
    }
}

impl Metrics {
    fn has_any(&self) -> bool {
        self.uptime_s.is_some()
            || self.load.is_some()
            || self.cpu_percent.is_some()
            || self.memory.is_some()
            || self.temperature.is_some()
            || !self.disks.is_empty()
    }
}

impl Totals {
    fn disk_rates_since(&self, last: &Self) -> BTreeMap<String, DiskRates> {
        let millis = self.time.saturating_sub(last.time) as f64;
        if millis == 0.0 {
            return BTreeMap::new();
        }
        let rate = |now: u64, then: u64| (now.saturating_sub(then) as f64 * 1000.0 / millis).round();
        let rates = |(name, now): (&String, &DiskTotals)| {
            let then = last.disks.get(name)?;
            let busy = now.busy_ms.saturating_sub(then.busy_ms) as f64 * 100.0 / millis;
            let rates = DiskRates {
                read_bytes_per_s: rate(now.read_bytes, then.read_bytes),
                written_bytes_per_s: rate(now.written_bytes, then.written_bytes),
                busy_percent: read::tenths(busy.min(100.0)),
            };
            Some((name.clone(), rates))
        };
        self.disks.iter().filter_map(rates).collect()
    }
}

fn text_of(path: &str) -> Result<String, String> {
    let bytes = fs::read(Path::new(path)).map_err(|error| error.to_string())?;
    match bytes.len() <= FILE_BYTES_MAX {
        true => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        false => Err(format!("it has more than {FILE_BYTES_MAX} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sdk::testing::{Harness, Running};
    use serde_json::{Value, json};

    const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
    const PERIOD: Duration = Duration::from_secs(10);

    fn start(proc: &str, thermal: &str) -> Running<HostMetrics> {
        let harness = Harness::new().config("proc", format!("{FIXTURES}/{proc}"));
        harness.config("thermal", format!("{FIXTURES}/{thermal}")).start().unwrap()
    }

    fn next(module: &mut Running<HostMetrics>) -> Value {
        module.advance(PERIOD).unwrap();
        module.take_sent().remove(0).message.json().unwrap()
    }

    #[test]
    fn a_reading_holds_what_the_files_say() {
        let mut module = start("proc", "sys");
        let idle = json!({ "read_bytes_per_s": 0.0, "written_bytes_per_s": 0.0, "busy_percent": 0.0 });
        let expected = json!({
            "time": Harness::START + 10_000,
            "uptime_s": 350_735.47,
            "load": { "one": 0.52, "five": 0.58, "fifteen": 0.59 },
            "memory": {
                "total_bytes": 8_192_000_000_u64, "available_bytes": 6_144_000_000_u64, "used_percent": 25.0,
                "swap_used_bytes": 512_000_000,
            },
            "disks": { "nvme0n1": idle, "sda": idle },
            "temperatures": { "acpitz": 27.8, "x86_pkg_temp": 54.0 },
            "temperature": 54.0,
        });
        assert_eq!(next(&mut module), expected);
    }

    #[test]
    fn what_is_absent_is_left_out_and_named_once() {
        let mut module = start("absent", "sys");
        let reading = next(&mut module);
        let fields: Vec<_> = reading.as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields, ["temperature", "temperatures", "time"]);
        next(&mut module);
        let about_load =
            module.logs().iter().filter(|line| line.text.contains("loadavg is left out")).count();
        assert_eq!(about_load, 1);
    }

    #[test]
    fn a_machine_without_any_of_the_files_is_told_so_and_nothing_is_sent() {
        let mut module = start("absent", "absent");
        module.advance(PERIOD * 3).unwrap();
        assert!(module.sent().is_empty());
        let warned = |line: &&holdfast_sdk::testing::Line| line.text.contains("Windows and macOS");
        assert_eq!(module.logs().iter().filter(warned).count(), 1);
    }

    #[test]
    fn rates_are_the_difference_over_the_time_between() {
        let disk = |bytes, busy_ms| {
            BTreeMap::from([("sda".to_owned(), DiskTotals { read_bytes: bytes, written_bytes: 0, busy_ms })])
        };
        let then = Totals { time: 1_000, cpu: None, disks: disk(1_000, 0) };
        let now = Totals { time: 3_000, cpu: None, disks: disk(5_000, 500) };
        let rates = now.disk_rates_since(&then);
        assert_eq!((rates["sda"].read_bytes_per_s, rates["sda"].busy_percent), (2_000.0, 25.0));
        // The clock of the machine may have been set back.
        assert!(then.disk_rates_since(&now).is_empty());
    }
}
