//! From the configuration to what each room is told. Rooms do not know the configuration; this is the one place that does.

use super::{devices, files, ways};
use crate::{
    certificates,
    dialer::Dialer,
    identities::{Identities, random},
    registry::Cache,
    sync::HubKeeper,
};
use anyhow::{Context, anyhow};
use holdfast_api::MetricsServer;
use holdfast_auth::{
    BadKey, DeviceRules, Grants, Password as UserPassword, Registry, SharedKey, TrustBundle,
};
use holdfast_broker::{Broker, Drain, Percent};
use holdfast_config::{self as config, Config};
use holdfast_engine::{Compiler, EngineConfig};
use holdfast_gateway::{Above, Gateway, GatewayConfig, Limits, Links};
use holdfast_links::Below;
use holdfast_net::{Door, ListenConfig, Listener, PlainTcp, Settings};
use holdfast_routes::{RouteDefinition, RouteTable};
use holdfast_store::{Linger, MemoryProfile, StoreConfig};
use holdfast_upstream::{
    CHILDREN_TURN, ChildrenConfig, ChoiceRules, Dialect, HubConfig, IotHubConfig, KeepAcknowledged, Payload,
    Secret, TOKEN_LIFE, Upstream, UpstreamConfig, Version,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{fs, path::Path, sync::Arc};

/// The store.
pub fn store(config: &Config) -> StoreConfig {
    let mut store = StoreConfig::new(config.paths.data.join("store"));
    store.quota_bytes = config.store.quota_bytes;
    store.log_quotas = config.store.log_quota_bytes.clone();
    store.age_max = config.store.age_max;
    store.ballast_bytes = ballast_bytes(&config.paths.data, store.ballast_bytes);
    store.linger = match config.store.linger {
        config::Linger::Auto => Linger::Auto,
        config::Linger::Fixed(time) => Linger::Fixed(time),
    };
    store.memory = match config.store.profile {
        config::Profile::Standard => MemoryProfile::Standard,
        config::Profile::Small => MemoryProfile::Small,
    };
    store
}

/// The ballast is let go when the disk is full and taken back before the logs may grow again. On a small disk it must be
/// small too, or it could never be taken back: an eighth of the disk at most.
fn ballast_bytes(folder: &Path, usual: u64) -> u64 {
    fs4::total_space(folder).map_or(usual, |total| usual.min(total / 8))
}

/// The routes of the configuration. Without any, everything that enters goes upstream, as in a new IoT Edge.
pub fn route_definitions(config: &Config) -> Vec<RouteDefinition> {
    if config.routes.is_empty() {
        vec![RouteDefinition::new("default", "FROM /messages/* INTO $upstream")]
    } else {
        config.routes.clone()
    }
}

/// The same, compiled.
pub fn routes(config: &Config) -> anyhow::Result<RouteTable> {
    RouteTable::compile(route_definitions(config)).map_err(|faults| {
        let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow!("the routes cannot be used:\n{}", all.join("\n"))
    })
}

/// Everybody who may connect.
pub fn registry(config: &Config, devices_max: usize) -> anyhow::Result<Registry> {
    let users = config.users.iter().map(|user| {
        let password = match &user.proof {
            config::Proof::Plain(secret) => UserPassword::Plain(secret.expose().as_bytes().to_vec()),
            config::Proof::Hash(secret) => UserPassword::Hash(secret.expose().to_owned()),
        };
        let grants = Grants {
            publish: user.publish.clone(),
            subscribe: user.subscribe.clone(),
            deny: user.deny.clone(),
        };
        (user.name.clone(), password, grants)
    });
    let registry = Registry::new(users, random()?).map_err(|faults| {
        let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow!("[[users]] cannot be used:\n{}", all.join("\n"))
    })?;
    let mut hosts = vec![devices::hub_host(config), config.edge.to_string()];
    hosts.extend(config.gateway.host_names.iter().cloned());
    // A child may have been given a token for any hub that this edge goes to.
    let above = config.upstream.iter().flat_map(|upstream| &upstream.places);
    hosts.extend(above.filter_map(|place| place.name.clone()));
    hosts.dedup();
    Ok(registry.with_rules(DeviceRules {
        hosts,
        authorities: authorities(config)?,
        grants: Grants {
            publish: config.devices.publish.clone(),
            subscribe: config.devices.subscribe.clone(),
            deny: config.devices.deny.clone(),
        },
        devices_max,
    }))
}

/// The authorities whose certificates devices may show: that of this edge, and those of the configuration.
fn authorities(config: &Config) -> anyhow::Result<TrustBundle> {
    let own = certificates::folder(config);
    let own = own.has_authority().then(|| own.authority());
    let mut all = match &own {
        Some(file) => authorities_in(file, "the authority of this edge")?,
        None => Vec::new(),
    };
    all.extend(named_authorities(config)?);
    // Each was taken by itself before.
    TrustBundle::new(&all).map_err(|(_, why)| anyhow!(why))
}

/// Those of the configuration.
pub fn named_authorities(config: &Config) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let named = config.gateway.client_ca_file.as_deref();
    named.map_or(Ok(Vec::new()), |file| authorities_in(file, "gateway.tls.client_ca_file"))
}

fn authorities_in(file: &Path, what: &str) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    read_authorities(file).with_context(|| format!("{what} {} cannot be used", file.display()))
}

fn read_authorities(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let text = fs::read(file)?;
    let all: Vec<_> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|why| anyhow!("{why}"))?;
    if all.is_empty() {
        return Err(anyhow!("it holds no certificate; it must be PEM text"));
    }
    match TrustBundle::new(&all) {
        Ok(_) => Ok(all),
        Err((number, why)) => {
            Err(anyhow!("its certificate number {} is none of an authority: {why}", number + 1))
        }
    }
}

/// The gateway, bound; none if it listens nowhere.
pub async fn gateway(
    config: &Config,
    listen: Vec<ListenConfig>,
    broker: &Broker,
    registry: Arc<Registry>,
    hub: Option<Arc<dyn Above>>,
    links: Option<Arc<dyn Links>>,
) -> anyhow::Result<Option<Gateway>> {
    if listen.is_empty() {
        return Ok(None);
    }
    files::warn_if_few(config.gateway.connections_max, config.gateway.handshakes_max);
    let usual = Limits::default();
    let connections_max = usize::try_from(config.gateway.connections_max).unwrap_or(usize::MAX);
    let limits = Limits {
        connections_max,
        // Each connection has a session; beside them there is room for those that are kept.
        sessions_max: usual.sessions_max.max(connections_max.saturating_mul(2)),
        ungreeted_max: usize::try_from(config.gateway.handshakes_max).unwrap_or(usize::MAX),
        // As many wait as are served.
        ungreeted_waiting_max: usize::try_from(config.gateway.handshakes_max).unwrap_or(usize::MAX),
        ungreeted_per_address_max: usize::try_from(config.gateway.handshakes_per_address_max)
            .unwrap_or(usize::MAX),
        connect_time_max: config.gateway.connect_time_max,
        packet_bytes_max: usize::try_from(config.gateway.packet_bytes_max).unwrap_or(usize::MAX),
        unacked_max: config.gateway.unacked_max,
        window_max: config.gateway.unacked_max,
        messages_per_second_max: config.gateway.messages_per_second_max,
        bytes_per_second_max: config.gateway.bytes_per_second_max,
        keep_alive_max_s: config.gateway.keep_alive_max.and_then(|most| u16::try_from(most.as_secs()).ok()),
        ..usual
    };
    let instance = u64::from_le_bytes(random()?);
    let gateway = GatewayConfig {
        listen,
        limits,
        content_type: config.gateway.content_type.as_deref().map(Into::into),
        anonymous: config.gateway.anonymous.clone(),
        instance,
    };
    Ok(Some(match (hub, links) {
        (Some(hub), Some(links)) => {
            Gateway::bind_as_hub(gateway, broker.clone(), registry, hub, links).await?
        }
        (None, Some(links)) => Gateway::bind_with_links(gateway, broker.clone(), registry, links).await?,
        (_, None) => Gateway::bind(gateway, broker.clone(), registry).await?,
    }))
}

/// The door for whoever reads metrics, bound; none if it is nowhere.
pub async fn metrics(config: &Config) -> anyhow::Result<Option<MetricsServer>> {
    let Some(address) = config.metrics.listen else { return Ok(None) };
    let plain = if config.metrics.allow_remote_plain { PlainTcp::Allowed } else { PlainTcp::LoopbackOnly };
    let settings = Settings::new("metrics.listen", "a proxy with TLS", "metrics.allow_remote_plain");
    let listen = ListenConfig { address, door: Door::Tcp, plain, settings };
    Ok(Some(MetricsServer::bind(listen).await?))
}

/// The door for HTTP requests that modules answer, bound; none if it is nowhere.
pub async fn http(config: &Config) -> anyhow::Result<Option<Listener>> {
    let Some(address) = config.http.listen else { return Ok(None) };
    let plain = if config.http.allow_remote_plain { PlainTcp::Allowed } else { PlainTcp::LoopbackOnly };
    let settings = Settings::new("http.listen", "a proxy with TLS", "http.allow_remote_plain");
    Ok(Some(Listener::bind(ListenConfig { address, door: Door::Tcp, plain, settings }).await?))
}

/// The module engine.
pub fn engine(config: &Config) -> anyhow::Result<EngineConfig> {
    let dialer = Arc::new(Dialer::of(ways::Network::of(&config.net)?));
    let profile = match config.store.profile {
        config::Profile::Standard => holdfast_engine::Profile::Standard,
        config::Profile::Small => holdfast_engine::Profile::Small,
    };
    let mut engine = EngineConfig::new(&config.paths.plugins, &config.paths.cache, profile);
    engine.limits.memory_bytes = config.modules.memory_bytes_max;
    engine.limits.call_ms = u32::try_from(config.modules.call_time_max.as_millis()).unwrap_or(u32::MAX);
    if let Some(bytes) = config.modules.stack_bytes_max {
        engine.stack_bytes = usize::try_from(bytes).unwrap_or(engine.stack_bytes);
    }
    engine.limits.attempts = config.modules.retries_max.saturating_add(1);
    // Where the program has no path of its own, it compiles within itself.
    if let Ok(program) = std::env::current_exe() {
        engine.compiler = Compiler::Process { program, arguments: vec!["compile".into()] };
    }
    engine.outgoing = Some(dialer.clone());
    engine.source = Some(Arc::new(Cache::new(
        config.paths.cache.join("registry"),
        config.modules.registry_credentials.clone(),
        config.modules.signature_keys.clone(),
        dialer,
    )));
    if !config.modules.compile_cache {
        engine.cache_bytes_max = 0;
    }
    Ok(engine)
}

/// The link upstream.
pub fn upstream(
    given: &config::Upstream,
    config: &Config,
    broker: &Broker,
    identities: &Arc<Identities>,
    below: &Arc<Below>,
) -> anyhow::Result<Upstream> {
    let places = ways::places(given, &config.net)?;
    let mut upstream = UpstreamConfig::new(places, given.client_id.as_str());
    upstream.choice = ChoiceRules {
        return_after: given.return_after,
        failover_after: given.failover_after,
        returns: given.return_by_itself,
    };
    upstream.concierge = ways::concierge(given, &config.net)?;
    upstream.version = match given.version {
        config::MqttVersion::V311 => Version::V311,
        config::MqttVersion::V5 => Version::V5,
    };
    upstream.user = given.user.as_deref().map(Into::into);
    upstream.password = password(given.password.as_ref())?;
    upstream.topic = given.topic.as_str().into();
    upstream.payload = match given.payload {
        config::Payload::Raw => Payload::Raw,
        config::Payload::Envelope => Payload::Envelope,
    };
    upstream.window = given.window;
    if let Some(bytes) = given.packet_bytes_max.and_then(|bytes| usize::try_from(bytes).ok()) {
        upstream.packet_bytes_max = upstream.packet_bytes_max.min(bytes);
    }
    upstream.drain = match given.drain {
        config::Drain::InOrder => Drain::InOrder,
        config::Drain::Share(hundredths) => Percent::new(hundredths).map_or(Drain::InOrder, Drain::Share),
    };
    upstream.streams = given.streams;
    upstream.keep_acknowledged = KeepAcknowledged {
        time: given.keep_acknowledged,
        bytes: usize::try_from(given.keep_acknowledged_bytes).unwrap_or(usize::MAX),
    };
    upstream.keep_alive = given.keep_alive;
    upstream.backoff.min = given.backoff_min;
    upstream.backoff.max = given.backoff_max;
    if let Some(hub) = &given.hub {
        let (name, key, token_life) = (hub.name.as_str().into(), hub_key(hub)?, TOKEN_LIFE);
        match hub.kind {
            config::HubKind::Holdfast => {
                let (identities, broker) = (identities.clone(), broker.clone());
                let keeper = HubKeeper::open(identities, broker, config.store.time_to_live, below.clone())?;
                let keeper = Arc::new(keeper);
                upstream.dialect = Dialect::Hub(HubConfig { hub: name, key, token_life, keeper });
            }
            config::HubKind::IotHub => {
                let children = hub.children.map(|children| ChildrenConfig {
                    registry: identities.registry.clone(),
                    connections_max: usize::try_from(children.connections_max).unwrap_or(usize::MAX),
                    idle_after: children.idle_after,
                    turn: CHILDREN_TURN,
                });
                upstream.dialect = Dialect::IotHub(IotHubConfig { hub: name, key, token_life, children });
            }
        }
    }
    Ok(Upstream::build(upstream, broker)?)
}

/// The key of this edge's device at the hub, read from its file.
pub fn hub_key(hub: &config::HubLink) -> anyhow::Result<Option<SharedKey>> {
    let Some(file) = &hub.key_file else { return Ok(None) };
    let bad = || format!("upstream.key_file {} cannot be used", file.display());
    let text = fs::read_to_string(file).with_context(bad)?;
    let key = SharedKey::parse(&text).map_err(|fault| {
        let why = match fault {
            BadKey::NotBase64(why) => format!("it is not base64 ({why})"),
            BadKey::Length(bytes) => format!("it has {bytes} bytes"),
        };
        // Only the hub knows it: one that is made up here opens nothing there.
        let fix = match hub.kind {
            config::HubKind::Holdfast => "`holdfast hub device show EDGE --secrets` at the hub prints it",
            config::HubKind::IotHub => "the IoT Hub shows it among the keys of the device",
        };
        anyhow!("what it holds is no key of a device: {why}; put the primary key of this edge's device there: {fix}")
    });
    key.map(Some).with_context(bad)
}

/// The password of the link, read from its file if it is in one.
pub fn password(given: Option<&config::Password>) -> anyhow::Result<Option<Secret>> {
    match given {
        None => Ok(None),
        Some(config::Password::Inline(secret)) => {
            Ok(Some(Secret(secret.expose().as_bytes().to_vec().into())))
        }
        Some(config::Password::File(path)) => Ok(Some(Secret(password_file(path)?.into()))),
    }
}

/// An editor ends the last line; that is not part of the password.
pub fn password_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes =
        fs::read(path).with_context(|| format!("the password file {} cannot be read", path.display()))?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_key_of_the_hub_is_named_with_who_has_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edge.key");
        for (text, why, kind, fix) in [
            ("not base64!", "it is not base64", config::HubKind::Holdfast, "hub device show EDGE --secrets"),
            ("AAAA", "it has 3 bytes", config::HubKind::IotHub, "the IoT Hub shows it"),
        ] {
            fs::write(&file, text).unwrap();
            let hub = config::HubLink {
                name: "hub".to_owned(),
                key_file: Some(file.clone()),
                kind,
                children: None,
            };
            let error = format!("{:#}", hub_key(&hub).unwrap_err());
            for part in ["edge.key cannot be used", why, fix] {
                assert!(error.contains(part), "{part:?} is not in {error}");
            }
            assert!(!error.contains("urandom"), "a key of one's own opens nothing there: {error}");
        }
    }

    #[test]
    fn a_password_file_loses_its_last_line_end_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        for (text, password) in [("a b\n", "a b"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("", "")] {
            fs::write(&file, text).unwrap();
            assert_eq!(password_file(&file).unwrap(), password.as_bytes());
        }
    }
}
