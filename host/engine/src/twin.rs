//! A module's twin as its calls see it: what is committed, under what is being committed, under what the running call
//! has reported.

use crate::imports::Sharing;
use crate::imports::bindings::holdfast::module::twins::TwinError;
use holdfast_broker::{Report, Twins};
use holdfast_types::Identity;
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most reports of one call: each is a message to the routes. A module has a handful of properties and changes several
/// of them in one report.
const REPORTS_MAX: u32 = 64;

/// The twin of a module, shared by its instances: an old one and the new one that takes over see the same.
#[derive(Clone)]
pub(crate) struct ModuleTwin(Arc<Shared>);

struct Shared {
    twins: Twins,
    who: Identity,
    under_way: Mutex<UnderWay>,
}

/// Reports of successful calls that are not known to be committed.
#[derive(Default)]
struct UnderWay {
    /// The reported properties with them; none when all are committed.
    reported: Option<Map<String, Value>>,
    /// The turn of the last of them.
    turn: u64,
    /// Counts the calls that reported.
    version: u64,
}

impl ModuleTwin {
    pub(crate) fn new(twins: Twins, who: Identity) -> Self {
        Self(Arc::new(Shared { twins, who, under_way: Mutex::default() }))
    }

    /// The same twin for a shadow: what that reports is seen by itself alone.
    pub(crate) fn apart(&self) -> Self {
        Self::new(self.0.twins.clone(), self.0.who.clone())
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A view for one instance.
    pub(crate) fn view(&self) -> TwinView {
        TwinView { twin: self.clone(), reports: Vec::new(), reported: None, read_at: None }
    }

    /// `turn` and all before it are committed.
    pub(crate) fn committed(&self, turn: u64) {
        let mut under_way = self.under_way();
        if under_way.turn <= turn {
            under_way.reported = None;
        }
    }

    /// Nothing that is under way will be committed.
    pub(crate) fn rewind(&self) {
        let mut under_way = self.under_way();
        *under_way = UnderWay { version: under_way.version + 1, ..UnderWay::default() };
    }

    fn reported(&self) -> Result<Map<String, Value>, TwinError> {
        if let Some(reported) = &self.under_way().reported {
            return Ok(reported.clone());
        }
        self.0.twins.read(&self.0.who).map(|twin| twin.reported).map_err(unavailable)
    }
}

/// The twin as one instance sees it.
pub(crate) struct TwinView {
    twin: ModuleTwin,
    /// What the running call has reported.
    reports: Vec<Report>,
    /// The reported properties with that.
    reported: Option<Map<String, Value>>,
    /// The version at the first read of what is reported.
    read_at: Option<u64>,
}

impl TwinView {
    pub(crate) fn desired(&self) -> Result<(u64, String), TwinError> {
        let twin = self.twin.0.twins.read(&self.twin.0.who).map_err(unavailable)?;
        Ok((twin.desired_version, Value::Object(twin.desired).to_string()))
    }

    pub(crate) fn reported(&mut self) -> Result<String, TwinError> {
        let version = self.twin.under_way().version;
        self.read_at.get_or_insert(version);
        let reported = match &self.reported {
            Some(reported) => reported.clone(),
            None => self.twin.reported()?,
        };
        Ok(Value::Object(reported).to_string())
    }

    pub(crate) fn report(&mut self, patch: &str, sharing: Sharing) -> Result<(), TwinError> {
        if self.reports.len() >= sharing.times(REPORTS_MAX) as usize {
            return Err(TwinError::TooMany(REPORTS_MAX));
        }
        let patch: Value = serde_json::from_str(patch).map_err(|error| {
            TwinError::Invalid(format!("the patch is no JSON: {error}; send a JSON object"))
        })?;
        let reported = match &mut self.reported {
            Some(reported) => reported,
            none => none.insert(self.twin.reported()?),
        };
        let report =
            Twins::apply_report(reported, patch, 0).map_err(|error| TwinError::Invalid(error.to_string()))?;
        self.reports.push(report);
        Ok(())
    }

    /// The call has succeeded: what it reported belongs to `turn`.
    pub(crate) fn keep(&mut self, turn: u64, hops: u8) -> impl Iterator<Item = Report> {
        let reported = self.reported.take();
        if !self.reports.is_empty() {
            let mut under_way = self.twin.under_way();
            under_way.reported = reported;
            under_way.turn = turn;
            under_way.version += 1;
        }
        self.reports.drain(..).map(move |report| report.with_hops(hops))
    }

    /// The call has failed: what it reported is forgotten.
    pub(crate) fn discard(&mut self) {
        self.reports.clear();
        self.reported = None;
    }

    /// Whether a call that has read what is reported would read something else now.
    pub(crate) fn is_stale(&self) -> bool {
        self.read_at.is_some_and(|read_at| read_at != self.twin.under_way().version)
    }
}

fn unavailable(error: holdfast_broker::TwinError) -> TwinError {
    TwinError::Unavailable(error.to_string())
}
