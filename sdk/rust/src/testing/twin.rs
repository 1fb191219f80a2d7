//! The twin that a module under test has.

use crate::twins::TwinError;
use serde_json::{Map, Value};

/// Most reports of one call.
const REPORTS_MAX: u32 = 64;
/// Most bytes of the reported properties, and of a patch.
const BYTES_MAX: usize = 32 * 1024;

#[derive(Clone, Debug)]
pub struct TestTwin {
    pub version: u64,
    pub desired: Value,
    pub reported: Value,
    reports: u32,
}

impl Default for TestTwin {
    fn default() -> Self {
        let empty = || Value::Object(Map::new());
        Self { version: 1, desired: empty(), reported: empty(), reports: 0 }
    }
}

impl TestTwin {
    /// A call begins.
    pub fn begin(&mut self) {
        self.reports = 0;
    }

    /// Merges a patch into what is desired. Gives the new version.
    pub fn desire(&mut self, patch: &Value) -> u64 {
        merge(&mut self.desired, patch);
        self.version += 1;
        self.version
    }

    /// Takes a report as the host does; the rules on keys and values are left to it.
    pub fn report(&mut self, patch: &str) -> Result<(), TwinError> {
        let invalid = |why: &str| Err(TwinError::Invalid(why.to_owned()));
        if self.reports >= REPORTS_MAX {
            return Err(TwinError::TooMany(REPORTS_MAX));
        }
        let patch: Value =
            serde_json::from_str(patch).map_err(|error| TwinError::Invalid(error.to_string()))?;
        if !patch.is_object() {
            return invalid("it is not a JSON object");
        }
        let mut reported = self.reported.clone();
        merge(&mut reported, &patch);
        if patch.to_string().len() > BYTES_MAX || reported.to_string().len() > BYTES_MAX {
            return invalid("the reported properties would have more than 32768 bytes");
        }
        self.reports += 1;
        self.reported = reported;
        Ok(())
    }
}

/// RFC 7386.
fn merge(document: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *document = patch.clone();
        return;
    };
    if !document.is_object() {
        *document = Value::Object(Map::new());
    }
    let Value::Object(object) = document else { return };
    for (key, change) in changes {
        if change.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key).or_insert(Value::Null), change);
        }
    }
}
