//! `holdfast run`: build, spawn, wait, stop.

mod agent;
mod back;
mod certificates;
pub mod deployment;
mod deployments;
pub mod devices;
pub mod doors;
#[cfg(windows)]
pub mod event_log;
mod files;
pub mod host;
mod http;
pub mod hub;
mod hub_metrics;
pub mod life;
pub mod logging;
mod metrics;
mod notify;
mod own_metrics;
pub mod parts;
#[cfg(windows)]
pub mod service;
pub mod shown;
pub mod signals;
mod stop;
pub mod ways;

use crate::{identities::Identities, output};
use agent::Agent;
use anyhow::Context;
use certificates::Keeper;
use deployment::{Deployer, kept::Stored};
use holdfast_broker::{Broker, BrokerConfig};
use holdfast_config::Config;
use holdfast_gateway::{Gateway, Links};
use holdfast_links::Below;
use holdfast_store::{Clock, SystemClock};
use holdfast_upstream::Upstream;
use host::RunningHost;
use std::{fs, sync::Arc, time::Instant};
use tokio_util::sync::CancellationToken;

/// Runs the edge until it is told to stop, with the deployment of a file if one is given. An error means that it could not
/// start, or had to leave.
pub async fn run(config: Config, log: logging::LogControl, file: Option<Stored>) -> anyhow::Result<()> {
    make_folders(&config)?;
    // The control socket first: whoever starts a second host by mistake learns it before the store is touched.
    let control = holdfast_api::Server::bind(&config.paths.control)?;
    let _life = life::begin(&config.paths.control).await?;

    certificates::prepare(&config)?;
    let doors = doors::build(&config)?;
    let keeper = doors.tls.map(|tls| Keeper::new(&config, tls)).transpose()?;

    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let (store, recovery) = holdfast_store::open(parts::store(&config), clock.clone())?;
    if !recovery.is_clean() {
        tracing::warn!("the store was recovered: {recovery}");
    }
    let routes = parts::routes(&config)?;
    let broker = Broker::new(
        BrokerConfig { edge: config.edge.clone(), routes, time_to_live: config.store.time_to_live },
        store.clone(),
        clock,
    );
    let identities = Arc::new(Identities::open(
        &config.paths.data,
        store.clone(),
        parts::registry(&config, holdfast_auth::DEVICES_MAX)?,
    )?);
    let below = Below::new(broker.clone(), identities.registry.clone());
    let links: Arc<dyn Links> = below.clone();
    let gateway =
        parts::gateway(&config, doors.listen, &broker, identities.registry.clone(), None, Some(links))
            .await?;
    let deployer = Deployer::open(&config, &broker, file).await?;
    let engine = holdfast_engine::Engine::build(parts::engine(&config)?, broker.clone())?;
    let engine = engine.with_plan(deployer.plan());
    let deployer = deployer.with_engine(engine.handle());
    let upstream = match &config.upstream {
        Some(upstream) => Some(parts::upstream(upstream, &config, &broker, &identities, &below)?),
        None => None,
    };

    let metrics = parts::metrics(&config).await?;
    let http = parts::http(&config).await?;
    let http_door = engine.http();
    let stop_asked = CancellationToken::new();
    let shown = Arc::new(RunningHost {
        broker,
        identities,
        engine: engine.handle(),
        upstream: upstream.as_ref().map(Upstream::status),
        gateway: gateway.as_ref().map(Gateway::addresses).unwrap_or_default(),
        clients: gateway.as_ref().map(Gateway::stats),
        sessions: gateway.as_ref().map(Gateway::sessions),
        log,
        started: Instant::now(),
        stop: stop_asked.clone(),
        config: config.clone(),
    });

    let mut running = stop::Running::default();
    running.spawn_gateway(gateway);
    running.spawn_below(below);
    running.spawn_http(http, http_door);
    running.spawn_certificates(keeper);
    running.spawn_deployer(deployer);
    running.spawn_agent(Agent::new(shown.broker.clone(), shown.engine.clone()));
    running.spawn_engine(engine)?;
    running.spawn_upstream(upstream);
    running.spawn_metrics(metrics, shown.clone());
    running.spawn_control(control, shown);
    tracing::info!(edge = %config.edge, plugins = %config.paths.plugins.display(), "running");
    output::note(format!("holdfast: edge {} is running; stop it with Ctrl-C", config.edge));

    notify::tell(notify::Moment::Ready);
    let reason = signals::wait(&stop_asked).await;
    notify::tell(notify::Moment::Stopping);
    tracing::info!(%reason, "stopping");
    running.stop().await;
    store.close().context("the store was not closed cleanly; it is checked at the next start")?;
    tracing::info!("stopped");
    Ok(())
}

fn make_folders(config: &Config) -> anyhow::Result<()> {
    let paths = &config.paths;
    for folder in [&paths.data, &paths.plugins, &paths.cache] {
        fs::create_dir_all(folder).with_context(|| {
            format!("cannot make {}; make it, or give this user the right to it", folder.display())
        })?;
    }
    Ok(())
}
