//! What runs, and the order in which it stops: from the doors inwards, each with its share of the grace time.

use super::{agent::Agent, certificates::Keeper, deployment, host::RunningHost, http};
use holdfast_api::{MetricsServer, MetricsSource};
use holdfast_engine::{Engine, EngineError, HttpDoor};
use holdfast_gateway::Gateway;
use holdfast_hub::{Hub, api::ApiServer, client::Client};
use holdfast_links::Below;
use holdfast_net::Listener;
use holdfast_upstream::Upstream;
use std::{future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Devices get their last acknowledgements.
const GATEWAY_GRACE: Duration = Duration::from_secs(3);
/// Running calls of modules end, and their turns are recorded. The engine's own deadline is shorter.
const ENGINE_GRACE: Duration = Duration::from_secs(12);
/// The window upstream is acknowledged. The link's own deadline is shorter.
const UPSTREAM_GRACE: Duration = Duration::from_secs(7);
/// Whoever asked for the stop is answered.
const CONTROL_GRACE: Duration = Duration::from_secs(1);

struct Step {
    name: &'static str,
    stop: CancellationToken,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
    grace: Duration,
}

/// Everything that was spawned, in the order in which it stops.
#[derive(Default)]
pub struct Running {
    steps: Vec<Step>,
}

impl Running {
    fn add<F>(&mut self, name: &'static str, grace: Duration, start: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let ended = Box::pin(start(stop.clone()));
        self.steps.push(Step { name, stop, ended, grace });
    }

    /// Opens the doors for devices.
    pub fn spawn_gateway(&mut self, gateway: Option<Gateway>) {
        let Some(gateway) = gateway else { return };
        self.add("gateway", GATEWAY_GRACE, |stop| {
            let running = tokio::spawn(gateway.run(stop));
            async move {
                if let Err(error) = running.await {
                    tracing::error!(%error, "the gateway ended badly");
                }
            }
        });
    }

    /// Serves edges below this one.
    pub fn spawn_below(&mut self, below: Arc<Below>) {
        self.add("links of edges below", CONTROL_GRACE, |stop| {
            let running = tokio::spawn(below.run(stop));
            async move {
                if let Err(error) = running.await {
                    tracing::error!(%error, "nobody serves edges below any more");
                }
            }
        });
    }

    /// Carries out deployments.
    pub fn spawn_deployer(&mut self, deployer: deployment::Running) {
        self.add("deployments", CONTROL_GRACE, |stop| {
            let running = tokio::spawn(deployer.run(stop));
            async move {
                if let Err(error) = running.await {
                    tracing::error!(%error, "nobody carries deployments out any more");
                }
            }
        });
    }

    /// Reports what runs, and answers for it.
    pub fn spawn_agent(&mut self, agent: Option<Agent>) {
        let Some(agent) = agent else { return };
        self.add("agent", CONTROL_GRACE, |stop| {
            let running = tokio::spawn(agent.run(stop));
            async move {
                if let Err(error) = running.await {
                    tracing::error!(%error, "nobody reports the state of the modules any more");
                }
            }
        });
    }

    /// Opens the door for HTTP requests.
    pub fn spawn_http(&mut self, listener: Option<Listener>, door: HttpDoor) {
        let Some(listener) = listener else { return };
        tracing::info!(address = %listener.local(), "modules answer HTTP requests");
        self.add("http", CONTROL_GRACE, |stop| {
            let serving = tokio::spawn(http::serve(listener, door, stop));
            async move {
                let _ = serving.await;
            }
        });
    }

    /// Starts the modules.
    pub fn spawn_engine(&mut self, engine: Engine) -> Result<(), EngineError> {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        engine.spawn(&tasks, stop.clone())?;
        tasks.close();
        let ended = Box::pin(async move { tasks.wait().await });
        self.steps.push(Step { name: "modules", stop, ended, grace: ENGINE_GRACE });
        Ok(())
    }

    /// Starts the link.
    pub fn spawn_upstream(&mut self, upstream: Option<Upstream>) {
        let Some(upstream) = upstream else { return };
        self.add("upstream", UPSTREAM_GRACE, |stop| {
            let running = upstream.spawn(stop);
            async move {
                match running.finished().await {
                    Ok(drained) if drained.unacknowledged > 0 => {
                        tracing::info!(
                            messages = drained.unacknowledged,
                            "sent but not acknowledged; sent again at the next start"
                        );
                    }
                    Ok(_) => {}
                    Err(error) => tracing::error!(%error, "the link ended badly"),
                }
            }
        });
    }

    /// Looks after the certificate that the doors show.
    pub fn spawn_certificates(&mut self, keeper: Option<Keeper>) {
        let Some(keeper) = keeper else { return };
        self.add("certificates", CONTROL_GRACE, |stop| {
            let keeping = tokio::spawn(keeper.run(stop));
            async move {
                if let Err(error) = keeping.await {
                    tracing::error!(%error, "nobody looks after the certificate any more");
                }
            }
        });
    }

    /// Opens the door for whoever reads metrics.
    pub fn spawn_metrics(&mut self, server: Option<MetricsServer>, source: Arc<dyn MetricsSource>) {
        let Some(server) = server else { return };
        tracing::info!(address = %server.address(), "metrics are at /metrics");
        self.add("metrics", CONTROL_GRACE, |stop| {
            let serving = tokio::spawn(server.serve(source, stop));
            async move {
                let _ = serving.await;
            }
        });
    }

    /// Opens the API of the hub; when it has stopped, what the hub has under way ends.
    pub fn spawn_hub(&mut self, api: ApiServer, hub: Arc<Hub>) {
        self.add("hub", GATEWAY_GRACE, |stop| {
            let serving = tokio::spawn(api.serve(hub, stop));
            async move {
                if let Err(error) = serving.await {
                    tracing::error!(%error, "the API ended badly");
                }
            }
        });
    }

    /// Follows the registry of another hub.
    pub fn spawn_follower(&mut self, hub: Arc<Hub>, primary: Client) {
        self.add("follower of the primary hub", CONTROL_GRACE, |stop| {
            let following = tokio::spawn(holdfast_hub::follow(hub, primary, stop));
            async move {
                if let Err(error) = following.await {
                    tracing::error!(%error, "the primary hub is not followed any more");
                }
            }
        });
    }

    /// Opens the control socket.
    pub fn spawn_control(&mut self, control: holdfast_api::Server, host: Arc<RunningHost>) {
        self.add("control socket", CONTROL_GRACE, |stop| {
            let serving = tokio::spawn(control.serve(host, stop));
            async move {
                let _ = serving.await;
            }
        });
    }

    /// Stops everything, and names what is late.
    pub async fn stop(self) {
        for step in self.steps {
            step.stop.cancel();
            if timeout(step.grace, step.ended).await.is_err() {
                tracing::warn!(
                    part = step.name,
                    grace_ms = step.grace.as_millis(),
                    "did not stop in time and is left behind"
                );
            }
        }
    }
}
