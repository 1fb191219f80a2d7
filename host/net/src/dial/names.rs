//! Who is asked for the addresses of a host name.

use super::{DialError, Target};
use crate::HostName;
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
};
use holdfast_types::Text;
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::time::timeout;

/// How long one name server may take before the next is asked, or the same one again.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How often each name server is asked: a datagram may be lost.
const ATTEMPTS: usize = 2;

/// Longest that an answer is kept, whatever it says of itself: a host that has moved is found again within this time.
const KEPT_MAX: Duration = Duration::from_secs(60);

/// Names whose answers are kept: an edge dials a few.
const KEPT: u64 = 16;

/// Who is asked for the addresses of a host name: the system, or name servers of one's own. Cheap to clone.
#[derive(Clone, Default)]
pub struct Names(Option<Arc<Servers>>);

struct Servers {
    setting: Text,
    addresses: Vec<SocketAddr>,
    resolver: TokioResolver,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().flat_map(|servers| &servers.addresses)).finish()
    }
}

impl Names {
    /// Asks the system, with its own name servers and files.
    pub fn of_system() -> Self {
        Self::default()
    }

    /// Asks these name servers and nobody else: over UDP, and over TCP where an answer is too long for that. Without
    /// any, the system is asked. `setting` names where they are set.
    ///
    /// # Errors
    /// The resolver cannot be set up; says why.
    pub fn of_servers(addresses: &[SocketAddr], setting: &str) -> Result<Self, String> {
        if addresses.is_empty() {
            return Ok(Self::of_system());
        }
        let server = |address: &SocketAddr| {
            let at_port = |mut connection: ConnectionConfig| {
                connection.port = address.port();
                connection
            };
            let connections = vec![at_port(ConnectionConfig::udp()), at_port(ConnectionConfig::tcp())];
            NameServerConfig::new(address.ip(), true, connections)
        };
        let config = ResolverConfig::from_name_servers(addresses.iter().map(server).collect());
        let mut options = ResolverOpts::default();
        options.timeout = ANSWER_WITHIN;
        options.attempts = ATTEMPTS;
        options.cache_size = KEPT;
        options.positive_max_ttl = Some(KEPT_MAX);
        // A name that was missing for a moment must not stay so.
        options.negative_max_ttl = Some(Duration::ZERO);
        let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            .with_options(options)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self(Some(Arc::new(Servers { setting: setting.into(), addresses: addresses.to_vec(), resolver }))))
    }

    async fn ask(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        match &self.0 {
            None => {
                let found = tokio::net::lookup_host((name, 0)).await.map_err(|error| error.to_string())?;
                Ok(found.map(|address| address.ip()).collect())
            }
            Some(servers) => {
                let found = servers.resolver.lookup_ip(name).await.map_err(|error| told(&error))?;
                Ok(found.iter().collect())
            }
        }
    }

    fn for_people(&self) -> String {
        match &self.0 {
            None => "the name servers of this machine".to_owned(),
            Some(servers) => {
                let all: Vec<_> = servers.addresses.iter().map(ToString::to_string).collect();
                format!("the name servers in {} ({})", servers.setting, all.join(", "))
            }
        }
    }
}

fn told(error: &NetError) -> String {
    if error.is_nx_domain() {
        "the name servers say that there is no such name".to_owned()
    } else if error.is_no_records_found() {
        "the name servers know no address of it".to_owned()
    } else if matches!(error, NetError::Timeout) {
        "no name server answered".to_owned()
    } else {
        error.to_string()
    }
}

/// The addresses of a host.
pub(super) async fn resolve(
    host: &HostName,
    port: u16,
    target: &Target,
    setting: &Text,
    within: Duration,
) -> Result<Vec<SocketAddr>, DialError> {
    let name = match host {
        HostName::Ip(address) => return Ok(vec![SocketAddr::new(*address, port)]),
        HostName::Dns(name) => name,
    };
    let failed = |why: String| DialError::Unresolved {
        host: host.clone(),
        setting: setting.clone(),
        why,
        servers: target.names.for_people(),
    };
    match timeout(within, target.names.ask(name)).await {
        Err(_) => Err(failed(format!("no answer within {within:?}"))),
        Ok(Err(why)) => Err(failed(why)),
        Ok(Ok(found)) if found.is_empty() => Err(failed("it has no address".to_owned())),
        Ok(Ok(found)) => Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()),
    }
}
