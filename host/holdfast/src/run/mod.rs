//! `holdfast run`: build, spawn, wait, stop.

mod back;
mod certificates;
pub mod devices;
pub mod doors;
pub mod host;
pub mod life;
pub mod logging;
mod metrics;
pub mod parts;
pub mod shown;
mod signals;
mod stop;
pub mod ways;

use crate::{identities::Identities, output};
use anyhow::Context;
use certificates::Keeper;
use holdfast_broker::{Broker, BrokerConfig};
use holdfast_config::Config;
use holdfast_gateway::Gateway;
use holdfast_store::{Clock, SystemClock};
use holdfast_upstream::Upstream;
use host::RunningHost;
use std::{fs, sync::Arc, time::Instant};
use tokio_util::sync::CancellationToken;

/// Runs the edge until it is told to stop. An error means that it could not start, or had to leave.
pub async fn run(config: Config, log: logging::LogControl) -> anyhow::Result<()> {
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
    let identities =
        Arc::new(Identities::open(&config.paths.data, store.clone(), parts::registry(&config)?)?);
    let gateway = parts::gateway(&config, doors.listen, &broker, identities.registry.clone()).await?;
    let engine = holdfast_engine::Engine::build(parts::engine(&config), broker.clone())?;
    let upstream = match &config.upstream {
        Some(upstream) => Some(parts::upstream(upstream, &config, &broker, &identities)?),
        None => None,
    };

    let metrics = parts::metrics(&config).await?;
    let stop_asked = CancellationToken::new();
    let shown = Arc::new(RunningHost {
        broker,
        identities,
        engine: engine.handle(),
        upstream: upstream.as_ref().map(Upstream::status),
        gateway: gateway.as_ref().map(Gateway::addresses).unwrap_or_default(),
        clients: gateway.as_ref().map(Gateway::stats),
        log,
        started: Instant::now(),
        stop: stop_asked.clone(),
        config: config.clone(),
    });

    let mut running = stop::Running::default();
    running.spawn_gateway(gateway);
    running.spawn_certificates(keeper);
    running.spawn_engine(engine)?;
    running.spawn_upstream(upstream);
    running.spawn_metrics(metrics, &shown);
    running.spawn_control(control, shown);
    tracing::info!(edge = %config.edge, plugins = %config.paths.plugins.display(), "running");
    output::note(format!("holdfast: edge {} is running; stop it with Ctrl-C", config.edge));

    let reason = signals::wait(&stop_asked).await;
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
