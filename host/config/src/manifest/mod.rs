//! Deployment manifests of Azure IoT Edge: from the document to a checked [`Deployment`].
//!
//! What is read: the manifest itself (`{"modulesContent": …}`), the same in the wrappers of IoT Hub and of its tools
//! (`{"content": {"modulesContent": …}}`, with `id` and `priority` beside it), and a base deployment under layers
//! (`"properties.desired.modules.x": …`). Schema versions 1.0 to 1.3 of `$edgeAgent` and `$edgeHub` are known.
//!
//! Every fault is reported at once, with its place as a JSON pointer, the reason and the fix; one is enough to refuse the
//! whole, as IoT Edge does. What a host of WebAssembly modules has no use for, such as the port bindings of a container,
//! is no fault: it is named in [`Deployment::not_carried`].
//!
//! | in the manifest | what becomes of it |
//! |---|---|
//! | `$edgeAgent … modules.NAME.settings.image` | an [`Image`]: a file of the plugins folder, or a reference into a registry |
//! | `… env`, `status`, `restartPolicy`, `startupOrder`, `imagePullPolicy`, `version` | the same of the [`Module`] |
//! | `… settings.createOptions` (and `createOptions01` to `07`) | `Env` joins `env`; all else is named as not carried over |
//! | `$edgeAgent … systemModules`, `runtime` | not carried over: the host does their work |
//! | `$edgeHub … routes` | [`Deployment::routes`], compiled; an unknown sink or a bad condition is a fault |
//! | `$edgeHub … storeAndForwardConfiguration.timeToLiveSecs` | [`Deployment::time_to_live`] |
//! | `NAME: {"properties.desired": …}` | [`Deployment::desired`] |

mod agent;
mod create_options;
mod fault;
mod hub;
mod image;
mod layers;
mod model;
mod node;
mod text;

pub use fault::{Fault, FaultCode, Faults, NotCarried};
pub use image::Image;
pub use layers::Document;
pub use model::{Deployment, Module, PullPolicy, RestartPolicy};

use node::Report;

/// Most bytes of a manifest: 256 KiB. IoT Hub allows a twin 32 KiB, and a manifest is a few of them.
pub const MANIFEST_BYTES_MAX: usize = 256 * 1024;

/// Most modules of a deployment. IoT Edge has 50; a module here takes some MiB of memory and a task.
pub const MODULES_MAX: usize = 500;

/// Reads one manifest.
///
/// # Errors
/// Every fault of it.
pub fn import(json: &[u8]) -> Result<Deployment, Faults> {
    import_layered(&[Document { name: "", priority: None, json }])
}

/// Puts layers on their base and gives the one manifest that says the same. It has been checked.
///
/// # Errors
/// Every fault of all of them.
pub fn flatten(documents: &[Document<'_>]) -> Result<Vec<u8>, Faults> {
    import_layered(documents)?;
    let report = Report::default();
    let merged = layers::merge(documents, &report);
    report.finish(Deployment::default())?;
    Ok(merged.map(|merged| merged.text().into_bytes()).unwrap_or_default())
}

/// Reads a base deployment and the layers above it, in any order. Where two say different things of the same key, the
/// one with the higher priority holds; of two with the same priority the one that stands later.
///
/// # Errors
/// Every fault of all of them.
pub fn import_layered(documents: &[Document<'_>]) -> Result<Deployment, Faults> {
    let report = Report::default();
    let merged = layers::merge(documents, &report);
    let mut deployment = Deployment::default();
    if let Some(merged) = &merged {
        if let Some(agent) = merged.agent(&report) {
            agent::read(&agent, &mut deployment);
        }
        if let Some(hub) = merged.hub(&report) {
            hub::read(&hub, &mut deployment);
        }
        for (name, twin) in merged.twins(&report) {
            agent::twin(name, &twin, &mut deployment);
        }
    }
    report.finish(deployment)
}
