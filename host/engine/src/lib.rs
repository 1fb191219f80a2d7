//! Load, link, limit, run, swap and supervise modules.
