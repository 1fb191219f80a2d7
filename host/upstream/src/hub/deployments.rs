//! How the deployment of the hub fares, told to it whenever that changes.

use super::Hub;
use holdfast_broker::{DeploymentOrigin, DeploymentPhase, DeploymentStatus};
use holdfast_link::{Call, DeploymentReport, DeploymentState, Done, ModuleReport, Status};
use std::time::Duration;
use tokio::time::sleep;

/// How long to wait after the hub could not take a report for the moment.
const AGAIN: Duration = Duration::from_secs(5);

impl Hub {
    /// Tells what edges below tell of their deployments.
    pub(super) async fn tell_statuses(&self) {
        let keeper = &self.keeper;
        while let Ok(report) = keeper.next_status().await {
            match self.port.call::<Done>(Call::DeploymentStatus, &report).await {
                Err(fault) if fault.status().is_none_or(Status::is_for_now) => sleep(AGAIN).await,
                told => {
                    if let Err(fault) = told {
                        tracing::warn!(deployment = report.deployment, %fault, "how a deployment below fares was not told to the hub");
                    }
                    // What is not forgotten is told again.
                    let _ = keeper.status_was_told(&report).await;
                }
            }
        }
        std::future::pending::<()>().await;
    }

    /// Tells how the deployment stands now, and then each change, the newest of several.
    pub(super) async fn tell_deployments(&self) {
        let mut watch = self.broker.deployments().watch();
        loop {
            let status = watch.borrow_and_update().clone();
            if let Some(report) = report(&status) {
                let told = self.port.call::<Done>(Call::DeploymentStatus, &report).await;
                if let Err(fault) = told {
                    tracing::warn!(deployment = report.deployment, %fault, "how the deployment fares was not told to the hub");
                    if fault.status().is_none_or(Status::is_for_now) {
                        sleep(AGAIN).await;
                        continue;
                    }
                }
            }
            if watch.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// None if it is not of the hub, or there is none.
fn report(status: &DeploymentStatus) -> Option<DeploymentReport> {
    let state = match status.phase {
        DeploymentPhase::None => return None,
        DeploymentPhase::Checking | DeploymentPhase::Switching | DeploymentPhase::Probation => {
            DeploymentState::Applying
        }
        DeploymentPhase::Applied => DeploymentState::Applied,
        DeploymentPhase::Refused => DeploymentState::Refused,
        DeploymentPhase::RolledBack => DeploymentState::RolledBack,
    };
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let modules = status.modules.iter().map(|module| ModuleReport {
        name: module.name.to_string(),
        state: module.status.to_string(),
        reason: said(&module.reason),
    });
    (status.origin == DeploymentOrigin::Hub && !status.id.is_empty()).then(|| DeploymentReport {
        edge: None,
        deployment: status.id.to_string(),
        state,
        reason: said(&status.reason),
        modules: modules.collect(),
    })
}
