//! How many files and sockets this process may have open. A host that runs out of them takes in no connection, and its store
//! cannot begin the next file either, so that nothing is acknowledged: better said at the start.

/// Files and sockets besides the connections of clients: the store, the link, plugins, the control socket.
const OWN: u64 = 128;

/// Warns where the connections that the configuration allows are more than the process may have open.
pub fn warn_if_few(connections_max: u32, handshakes_max: u32) {
    let needed = needed(connections_max, handshakes_max);
    if let Some(may) = may_open().filter(|may| *may < needed) {
        tracing::warn!(
            may,
            needed,
            "this process may not open as many files as the connections of [gateway] can need; raise the limit (LimitNOFILE= in \
             the unit, `ulimit -n` in a shell) or lower gateway.connections_max"
        );
    }
}

/// Those who are in, those who shake hands, and as many who wait for that.
fn needed(connections_max: u32, handshakes_max: u32) -> u64 {
    u64::from(connections_max) + 2 * u64::from(handshakes_max) + OWN
}

/// The soft limit of Linux; none where there is no limit, or no such file.
fn may_open() -> Option<u64> {
    soft_limit(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_config::{Config, Gateway};
    use std::path::Path;

    #[test]
    fn the_limit_is_read_as_linux_writes_it() {
        let of = |limit: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max processes             62967                62967                processes \n\
                 Max open files            {limit}                 524288               files     \n"
            )
        };
        assert_eq!(soft_limit(&of("1024")), Some(1024));
        assert_eq!(soft_limit(&of("unlimited")), None);
        assert_eq!(soft_limit("something else"), None);
    }

    #[test]
    fn an_edge_as_it_comes_fits_into_the_usual_limit_and_a_hub_does_not() {
        let config = Config::parse("", Path::new("holdfast.toml"), "edge-1").unwrap();
        let Gateway { connections_max, handshakes_max, .. } = config.gateway;
        assert!(needed(connections_max, handshakes_max) <= 1024);
        assert!(needed(20_000, handshakes_max) > 20_000);
    }
}
