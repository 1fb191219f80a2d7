//! One task for each device connection: a session in, messages out.
