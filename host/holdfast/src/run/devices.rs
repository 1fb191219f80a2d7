//! What the control socket asks of the registry.

use super::{
    host::RunningHost,
    shown::{failed, now},
};
use crate::identities::random;
use holdfast_api::*;
use holdfast_auth::{Credential, Device, DeviceStatus, RegistryFault, SharedKey, Thumbprint, sas};
use holdfast_types::Identity;

impl RunningHost {
    /// Every device and module.
    pub(super) fn devices(&self) -> Vec<DeviceItem> {
        self.identities.registry.devices().iter().map(|device| self.item(device, false)).collect()
    }

    /// Sees, adds or changes a device.
    pub(super) async fn device(&self, request: DeviceRequest) -> Result<Item, Refusal> {
        let identity = Identity::parse(&request.device).ok_or_else(|| {
            Refusal::new(Code::BadRequest, format!("{:?} is no name of a device or module", request.device))
                .with_fix("write letters, digits and -:._%*?!(),=@$', at most 128 of them")
        })?;
        let shown = |secrets| self.known(&identity).map(|device| Item::Device(self.item(&device, secrets)));
        match request.action {
            DeviceAction::Add { credential, edge } => {
                let device = self.new_device(&identity, credential, edge)?;
                let fault = |error: anyhow::Error| match error.downcast_ref::<RegistryFault>() {
                    Some(fault) => Refusal::new(Code::BadRequest, fault.to_string()),
                    None => failed(format!("{error:#}")),
                };
                self.identities.add(device).await.map_err(fault)?;
                tracing::info!(device = %identity, "a device was added");
                shown(true)
            }
            DeviceAction::Show { secrets } => shown(secrets),
            DeviceAction::Enable => self.set(&identity, DeviceStatus::Enabled).await,
            DeviceAction::Disable => self.set(&identity, DeviceStatus::Disabled).await,
            DeviceAction::Remove => {
                let item = shown(false)?;
                self.is_local(&identity)?;
                self.identities.remove(&identity).await.map_err(|error| failed(format!("{error:#}")))?;
                tracing::info!(device = %identity, "a device was removed");
                Ok(item)
            }
            DeviceAction::Token { ttl_s } => {
                let device = self.known(&identity)?;
                let Credential::SharedKey { primary, .. } = &device.credential else {
                    return Err(Refusal::new(
                        Code::BadRequest,
                        format!("{identity} has no key to sign a token with"),
                    )
                    .with_fix("add it with a key, or let it show its certificate"));
                };
                let expiry_s = (now().0 / 1000).saturating_add(ttl_s);
                let token = sas::token(&self.hub_host(), &identity, primary, expiry_s);
                Ok(Item::Token(SecretText(token), expiry_s.saturating_mul(1000)))
            }
        }
    }

    async fn set(&self, identity: &Identity, status: DeviceStatus) -> Result<Item, Refusal> {
        self.is_local(identity)?;
        self.identities.set_status(identity, status).await.map_err(|error| failed(format!("{error:#}")))?;
        tracing::info!(device = %identity, status = status.as_str(), "a device was changed");
        Ok(Item::Device(self.item(&*self.known(identity)?, false)))
    }

    /// What a hub decides is changed there, or the next sync would undo it.
    fn is_local(&self, identity: &Identity) -> Result<(), Refusal> {
        let device = self.known(identity)?;
        match &device.parent {
            None => Ok(()),
            Some(parent) => Err(Refusal::new(
                Code::BadRequest,
                format!("the hub says that {identity} is a child of {parent}; it cannot be changed here"),
            )
            .with_fix(format!("change it at the hub: holdfast hub device … {identity}"))),
        }
    }

    fn known(&self, identity: &Identity) -> Result<std::sync::Arc<Device>, Refusal> {
        let registry = &self.identities.registry;
        registry.device(identity).ok_or_else(|| {
            let names: Vec<String> = registry.devices().iter().map(|one| one.identity.to_string()).collect();
            let near = holdfast_config::nearest(&identity.to_string(), names.iter().map(String::as_str));
            let fix = match near {
                Some(near) => format!("did you mean {near:?}? `holdfast device list` shows all"),
                None => format!("add it with `holdfast device add {}`", identity.device),
            };
            Refusal::new(Code::NotFound, format!("there is no device {identity}")).with_fix(fix)
        })
    }

    fn new_device(
        &self,
        identity: &Identity,
        credential: DeviceCredential,
        edge: bool,
    ) -> Result<Device, Refusal> {
        let random_failed = |error: anyhow::Error| failed(format!("{error:#}"));
        let key = |text: &SecretText| {
            SharedKey::parse(&text.0).map_err(|why| Refusal::new(Code::BadRequest, why.to_string()))
        };
        let thumbprint = |text: &String| {
            Thumbprint::parse(text).map_err(|why| Refusal::new(Code::BadRequest, why.to_string()))
        };
        let new_key = || -> Result<SharedKey, Refusal> {
            SharedKey::new(&random::<32>().map_err(random_failed)?).map_err(|why| failed(why.to_string()))
        };
        let credential = match credential {
            DeviceCredential::Generate => {
                Credential::SharedKey { primary: new_key()?, secondary: Some(new_key()?) }
            }
            DeviceCredential::Keys(primary, secondary) => Credential::SharedKey {
                primary: key(&primary)?,
                secondary: secondary.as_ref().map(key).transpose()?,
            },
            DeviceCredential::Thumbprints(primary, secondary) => Credential::Thumbprints {
                primary: thumbprint(&primary)?,
                secondary: secondary.as_ref().map(thumbprint).transpose()?,
            },
            DeviceCredential::CertificateAuthority => Credential::CertificateAuthority,
        };
        let generation = u64::from_le_bytes(random().map_err(random_failed)?);
        Ok(Device {
            identity: identity.clone(),
            credential,
            status: DeviceStatus::Enabled,
            parent: None,
            generation: format!("{generation:016x}").into(),
            edge,
            added: now(),
        })
    }

    fn item(&self, device: &Device, secrets: bool) -> DeviceItem {
        let mut item = DeviceItem {
            device: device.identity.to_string(),
            credential: device.credential.kind().to_owned(),
            status: device.status.as_str().to_owned(),
            generation: device.generation.to_string(),
            edge: device.edge,
            parent: device.parent.as_ref().map(ToString::to_string),
            added_ms: device.added.0,
            ..DeviceItem::default()
        };
        let mut proof = None;
        match &device.credential {
            Credential::SharedKey { primary, secondary } if secrets => {
                proof = Some(format!("SharedAccessKey={}", primary.expose()));
                item.keys = [Some(primary), secondary.as_ref()]
                    .into_iter()
                    .flatten()
                    .map(|key| SecretText(key.expose()))
                    .collect();
            }
            Credential::Thumbprints { primary, secondary } => {
                proof = Some("x509=true".to_owned());
                item.thumbprints = [Some(primary), secondary.as_ref()]
                    .into_iter()
                    .flatten()
                    .map(ToString::to_string)
                    .collect();
            }
            Credential::CertificateAuthority => proof = Some("x509=true".to_owned()),
            Credential::SharedKey { .. } | Credential::None => {}
        }
        item.connection_string = proof.filter(|_| secrets).map(|proof| {
            let module = device.identity.module.as_ref().map(|module| format!(";ModuleId={module}"));
            SecretText(format!(
                "HostName={};DeviceId={}{};{proof};GatewayHostName={}",
                self.hub_host(),
                device.identity.device,
                module.unwrap_or_default(),
                gateway_host(&self.config)
            ))
        });
        item
    }

    fn hub_host(&self) -> String {
        hub_host(&self.config)
    }
}

/// The name by which devices find the gateway.
pub fn gateway_host(config: &holdfast_config::Config) -> String {
    config.gateway.host_names.first().cloned().unwrap_or_else(|| config.edge.to_string())
}

/// The name of the hub in tokens.
pub fn hub_host(config: &holdfast_config::Config) -> String {
    let above = || config.upstream.as_ref().and_then(|upstream| upstream.hub.as_ref());
    let named = config.hub_host_name.clone().or_else(|| above().map(|hub| hub.name.clone()));
    named.unwrap_or_else(|| gateway_host(config))
}
