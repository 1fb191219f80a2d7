//! The clock. In unit tests it is the test's own and stands still until the test moves it.

use crate::{UnixMillis, imports};

/// Milliseconds since 1970-01-01 00:00:00 UTC, by the host's clock.
pub fn now() -> UnixMillis {
    imports::now()
}
