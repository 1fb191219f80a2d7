//! `[store]`.

use crate::{
    Linger, Profile, Store,
    reader::{Problem, Section, Value},
    units::TIME_MAX,
    values::{self, TimeToLive},
};
use holdfast_types::{LogId, Name};
use std::{collections::BTreeMap, time::Duration};
use toml::de::DeValue;

/// What the store takes on disk unless the file says otherwise.
const QUOTA_BYTES: u64 = 2 << 30;
/// Least quota: 64 MiB, since the store's own journal and index take some tens.
const QUOTA_BYTES_MIN: u64 = 64 << 20;
/// Most: 16 TiB, the largest file of common file systems.
const QUOTA_BYTES_MAX: u64 = 16 << 40;
/// Least quota of one log: 1 MiB, one message of the usual largest size.
const LOG_QUOTA_BYTES_MIN: u64 = 1 << 20;
/// Longest linger: a sender waits that long for its acknowledgement.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// IoT Edge's documented default: 7200 s.
const TIME_TO_LIVE: Duration = Duration::from_secs(7200);

pub(crate) fn store(section: Option<Section<'_, '_, '_>>) -> Store {
    let mut store = Store {
        quota_bytes: QUOTA_BYTES,
        log_quota_bytes: BTreeMap::new(),
        age_max: None,
        time_to_live: Some(TIME_TO_LIVE),
        linger: Linger::Auto,
        profile: Profile::Standard,
    };
    let Some(mut section) = section else { return store };
    let quota = section.take("quota", |value| values::size(value, QUOTA_BYTES_MIN, QUOTA_BYTES_MAX));
    store.quota_bytes = quota.unwrap_or(store.quota_bytes);
    store.age_max = section.take("age_max", |value| values::time(value, Duration::from_secs(1), TIME_MAX));
    store.time_to_live = section.take("time_to_live", time_to_live).unwrap_or(store.time_to_live);
    store.linger = section.take("linger", linger).unwrap_or_default();
    let profiles = [("standard", Profile::Standard), ("small", Profile::Small)];
    store.profile = section.take("profile", |value| values::choice(value, &profiles)).unwrap_or_default();
    if let Some(quotas) = section.section("quotas") {
        store.log_quota_bytes = log_quotas(&quotas, store.quota_bytes);
    }
    section.finish();
    store
}

fn time_to_live(value: Value<'_, '_>) -> Result<Option<Duration>, Problem> {
    match values::time_to_live(value)? {
        TimeToLive::Forever => Ok(None),
        TimeToLive::For(time) => Ok(Some(time)),
        TimeToLive::Global => Err(Problem::new(
            "a time to live of 0 would drop every message at once",
            "write -1 or \"forever\" to keep them, or a time such as \"2 h\"",
        )),
    }
}

fn linger(value: Value<'_, '_>) -> Result<Linger, Problem> {
    match value.get() {
        DeValue::String(text) if text == "auto" => Ok(Linger::Auto),
        DeValue::String(text) if !text.starts_with(|c: char| c.is_ascii_digit()) => Err(Problem::new(
            format!("{text:?} is neither \"auto\" nor a time"),
            "write \"auto\" or \"10 ms\"",
        )),
        _ => values::time(value, Duration::ZERO, LINGER_MAX).map(Linger::Fixed),
    }
}

fn log_quotas(section: &Section<'_, '_, '_>, whole: u64) -> BTreeMap<LogId, u64> {
    let mut quotas = BTreeMap::new();
    for (name, at, value) in section.entries() {
        let named = |name: &str, log: fn(&Name) -> LogId| {
            Name::new(name).map(|name| log(&name)).map_err(|why| why.to_string())
        };
        let log = match name.split_once('/') {
            None if name == "upstream" => Ok(LogId::upstream()),
            Some(("upstream", child)) => named(child, LogId::upstream_of),
            Some(("module", module)) => named(module, LogId::module),
            _ => Err(format!("there is no log {name:?}")),
        };
        let log = log.map_err(|reason| {
            let problem = Problem::new(
                reason,
                "write upstream, or \"upstream/CHILD\" or \"module/NAME\" with the quotation marks",
            );
            section.report().push(at, section.key(name), problem);
        });
        match (log, values::size(value, LOG_QUOTA_BYTES_MIN, whole)) {
            (Ok(log), Ok(bytes)) => {
                quotas.insert(log, bytes);
            }
            (_, Err(problem)) => section.fault(value, name, problem),
            (Err(()), Ok(_)) => {}
        }
    }
    quotas
}
