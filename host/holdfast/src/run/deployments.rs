//! Deployments as the control socket asks for them.

use super::{
    deployment::kept::{Kept, Origin},
    host::RunningHost,
    shown::failed,
};
use holdfast_api::{
    Code, DeployedModuleItem, DeploymentAction, DeploymentItem, DeploymentRequest, NotCarriedItem, Refusal,
};
use holdfast_broker::{DeploymentOrder, DeploymentOrigin, DeploymentPhase};
use holdfast_config::manifest;

impl RunningHost {
    pub(super) async fn deployment(&self, request: DeploymentRequest) -> Result<DeploymentItem, Refusal> {
        let DeploymentRequest { action, wait } = request;
        let order = match action {
            DeploymentAction::Show => return self.show_deployment(),
            DeploymentAction::Apply { id, manifest } => DeploymentOrder {
                id: id.into(),
                origin: DeploymentOrigin::Operator,
                manifest: Some(manifest.into()),
            },
            DeploymentAction::Clear => {
                DeploymentOrder { id: "".into(), origin: DeploymentOrigin::Operator, manifest: None }
            }
        };
        let deployments = self.broker.deployments();
        let mut watch = deployments.watch();
        let number = deployments.order(order);
        let superseded = watch
            .wait_for(|status| {
                let far = status.phase.is_final() || (!wait && status.phase == DeploymentPhase::Probation);
                status.order > number || status.order == number && far
            })
            .await
            .map(|status| status.order > number);
        match superseded {
            Ok(true) => Err(failed("another deployment was ordered before this one was begun".to_owned())),
            Ok(false) => self.show_deployment(),
            Err(_) => Err(Refusal::new(Code::Stopping, "the host is stopping")),
        }
    }

    fn show_deployment(&self) -> Result<DeploymentItem, Refusal> {
        let status = self.broker.deployments().status();
        let kept = Kept::load(&self.broker.documents()).map_err(|error| failed(format!("{error:#}")))?;
        let imported =
            kept.current.as_ref().and_then(|stored| manifest::import(stored.manifest.as_bytes()).ok());
        let modules = self.engine.list();
        let deployed = imported.iter().flat_map(|deployment| &deployment.modules).map(|(name, module)| {
            let status = modules.iter().find(|status| status.name == name.as_str());
            DeployedModuleItem {
                name: name.to_string(),
                image: module.image.to_string(),
                state: status.map_or("unknown", |status| status.status.as_str()).to_owned(),
                detail: status.and_then(super::shown::detail),
            }
        });
        let not_carried =
            imported.iter().flat_map(|deployment| &deployment.not_carried).map(|one| NotCarriedItem {
                pointer: one.pointer.clone(),
                value: one.value.clone(),
                reason: one.reason.clone(),
            });
        Ok(DeploymentItem {
            id: status.id.to_string(),
            origin: match status.origin {
                DeploymentOrigin::Hub => "hub",
                DeploymentOrigin::Operator => "operator",
            }
            .to_owned(),
            phase: status.phase.as_str().to_owned(),
            code: status.code,
            reason: (!status.reason.is_empty()).then(|| status.reason.to_string()),
            since_ms: status.since.0,
            running: kept.current.as_ref().map(|stored| stored.id.clone()),
            running_from: kept.current.as_ref().map(|stored| match stored.origin {
                Origin::Hub => "hub".to_owned(),
                Origin::Operator => "operator".to_owned(),
            }),
            previous: kept.previous.map(|stored| stored.id),
            modules: deployed.collect(),
            not_carried: not_carried.collect(),
        })
    }
}
