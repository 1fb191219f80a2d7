//! The durable log: append, read, cursors, retention, quota, recovery.
