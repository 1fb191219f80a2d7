//! `holdfast hub run`: the same doors and store as an edge, and the hub behind them.

use super::{certificates, doors, hub_metrics::HubMetrics, life, logging, parts, signals, stop};
use crate::{
    commands::hub::{make_token, statement_file, target, token_file},
    identities, output,
};
use anyhow::Context;
use holdfast_broker::{Broker, BrokerConfig};
use holdfast_config::{Config, PrimaryHub, Storage, Transport};
use holdfast_gateway::{Above, Gateway};
use holdfast_hub::{
    Hub, HubConfig,
    api::{ApiServer, Token},
    backend::{Backend, Embedded, EmbeddedConfig},
    client::Client,
    peers::Peers,
};
use holdfast_jetstream::{JetStream, JetStreamConfig, SNAPSHOT_AFTER, User};
use holdfast_net::{Door, ListenConfig, PlainTcp, Roots, Settings};
use holdfast_routes::RouteTable;
use holdfast_store::{Clock, SystemClock};
use std::{fs, sync::Arc, time::Instant};
use tokio_util::sync::CancellationToken;

/// Most devices and modules that a hub knows: those of the largest fleet that it is built for, and as many modules.
const DEVICES_MAX: usize = 2_000_000;

/// Runs the hub until it is told to stop.
pub async fn run(config: Config, _log: logging::LogControl) -> anyhow::Result<()> {
    let data = &config.paths.data;
    fs::create_dir_all(data).with_context(|| {
        format!("cannot make {}; make it, or give this user the right to it", data.display())
    })?;
    let _life = life::begin(&config.paths.control).await?;
    let token = token_file(&config);
    make_token(&token)?;
    let token = fs::read_to_string(&token).with_context(|| format!("cannot read {}", token.display()))?;

    certificates::prepare(&config)?;
    let doors = doors::build(&config)?;
    let keeper = doors.tls.clone().map(|tls| certificates::Keeper::new(&config, tls)).transpose()?;

    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let mut store = parts::store(&config);
    // The stream has a life of its own, and is not what other logs are for.
    if let Some(bytes) = config.hub.events_quota_bytes {
        store.log_quotas.insert(Embedded::stream(), bytes);
    }
    let (store, recovery) = holdfast_store::open(store, clock.clone())?;
    if !recovery.is_clean() {
        tracing::warn!("the store was recovered: {recovery}");
    }
    let routes =
        RouteTable::compile(Vec::new()).map_err(|_| anyhow::anyhow!("an empty table has no fault"))?;
    let broker = Broker::new(
        BrokerConfig { edge: config.edge.clone(), routes, time_to_live: None },
        store.clone(),
        clock,
    );
    let registry = Arc::new(parts::registry(&config, DEVICES_MAX)?);
    let shared = match &config.hub.storage {
        Some(storage) => Some(Arc::new(JetStream::open(&jetstream(&config, storage)?).await?)),
        None => None,
    };
    let (backend, peers, sealer): (Arc<dyn Backend>, Option<Arc<dyn Peers>>, _) = match &shared {
        Some(shared) => {
            (shared.clone(), Some(shared.peers()), identities::shared_sealer(data, &**shared).await?)
        }
        None => {
            let kept = EmbeddedConfig { age_max: config.hub.events_age_max };
            (Arc::new(Embedded::open(store.clone(), kept)?), None, identities::sealer(data, &store)?)
        }
    };
    let hub = Hub::open(HubConfig {
        name: config.edge.clone(),
        backend,
        registry: registry.clone(),
        sealer,
        broker: broker.clone(),
        peers,
    })
    .await?;
    if config.hub.primary.is_some() {
        hub.awaits_registry().await?;
    }
    let above: Arc<dyn Above> = hub.clone();
    let listen = api_door(&config, &doors)?;
    let gateway =
        parts::gateway(&config, doors.listen, &broker, registry, Some(above), Some(hub.clone())).await?;
    let api = ApiServer::bind(listen, Token::new(&token), &statement_file(&config)).await?;
    let metrics = parts::metrics(&config).await?;
    let counted = HubMetrics {
        hub: hub.clone(),
        store: store.clone(),
        quota_bytes: config.store.quota_bytes,
        clients: gateway.as_ref().map(Gateway::stats),
        shared: shared.clone(),
        started: Instant::now(),
    };

    let mut running = stop::Running::default();
    tracing::info!(api = %api.address(), "the API answers");
    running.spawn_hub(api, hub.clone());
    if let Some(primary) = &config.hub.primary {
        running.spawn_follower(hub.clone(), primary_client(primary)?);
    }
    running.spawn_gateway(gateway);
    running.spawn_metrics(metrics, Arc::new(counted));
    running.spawn_certificates(keeper);
    tracing::info!(hub = %config.edge, id = hub.id(), "running");
    output::note(format!("holdfast: hub {} is running; stop it with Ctrl-C", config.edge));

    let reason = signals::wait(&CancellationToken::new()).await;
    tracing::info!(%reason, "stopping");
    running.stop().await;
    hub.stopped().await;
    store.close().context("the store was not closed cleanly; it is checked at the next start")?;
    tracing::info!("stopped");
    Ok(())
}

/// How the servers of the storage are used.
pub fn jetstream(config: &Config, storage: &Storage) -> anyhow::Result<JetStreamConfig> {
    let user = match (&storage.user, &storage.password_file) {
        (Some(name), Some(file)) => {
            let password = String::from_utf8(parts::password_file(file)?);
            let password = password.with_context(|| format!("{} is no text", file.display()))?;
            Some(User { name: name.clone(), password })
        }
        _ => None,
    };
    let identity = storage.identity.as_ref();
    Ok(JetStreamConfig {
        servers: storage.servers.clone(),
        user,
        ca_file: storage.ca_file.clone(),
        certificate: identity.map(|identity| (identity.cert_file.clone(), identity.key_file.clone())),
        replicas: usize::try_from(storage.replicas).unwrap_or(1),
        prefix: storage.prefix.clone(),
        age_max: config.hub.events_age_max,
        bytes_max: config.hub.events_quota_bytes,
        snapshot_after: SNAPSHOT_AFTER,
    })
}

fn primary_client(primary: &PrimaryHub) -> anyhow::Result<Client> {
    let roots = primary.ca_file.as_ref().map_or(Roots::Native, |file| Roots::File(file.clone()));
    let token = fs::read_to_string(&primary.token_file)
        .with_context(|| format!("hub.primary.token_file {} cannot be read", primary.token_file.display()))?;
    Ok(Client::new(target(&primary.url, roots, "hub.primary.url").context("hub.primary.url")?, &token))
}

fn api_door(config: &Config, doors: &doors::Doors) -> anyhow::Result<ListenConfig> {
    let door = match (config.hub.listen.transport, &doors.tls) {
        (Transport::Tls, Some(tls)) => Door::Tls(tls.clone()),
        (Transport::Tls, None) => anyhow::bail!(
            "hub.listen is encrypted and the gateway is not; add an address such as \"tls://127.0.0.1:8883\" to gateway.listen"
        ),
        _ => Door::Tcp,
    };
    let settings = Settings::new("hub.listen", "tls:// in hub.listen", "tls:// in hub.listen, nothing else");
    Ok(ListenConfig { address: config.hub.listen.address, door, plain: PlainTcp::LoopbackOnly, settings })
}
