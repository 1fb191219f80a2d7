//! Why the hub does not do what a service asks for.

use crate::{backend::BackendError, deployments::DeploymentError, directory::DirectoryError};
use holdfast_auth::RegistryFault;
use holdfast_broker::{MethodError, TwinError};
use holdfast_links::CallFault;
use holdfast_types::Identity;

/// Why the hub does not do what a service asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// There is no such device or module.
    #[error("there is no device {0}; `holdfast hub device add` adds one")]
    NoSuchDevice(Identity),
    /// What is asked for is malformed.
    #[error("{0}")]
    Bad(String),
    /// It is not there.
    #[error("{0}")]
    NotFound(String),
    /// It is too large.
    #[error("{0}")]
    TooLarge(String),
    /// There is no room for now.
    #[error("{0}")]
    Busy(String),
    /// The edge did not do it.
    #[error("{why}")]
    Edge {
        /// The status that tells it.
        status: u16,
        /// What went wrong.
        why: String,
    },
    /// A change of the registry was refused.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A twin was not read or changed.
    #[error(transparent)]
    Twin(#[from] TwinError),
    /// A method was not called.
    #[error(transparent)]
    Method(#[from] MethodError),
    /// A deployment was refused.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// The storage failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl HubError {
    /// The status of HTTP that tells it.
    pub fn status(&self) -> u16 {
        let backend = |error: &BackendError| match error {
            BackendError::Conflict { .. } => 412,
            BackendError::Refused(_) => 400,
            BackendError::Failed(_) | BackendError::OutOfTurn => 500,
            BackendError::Stopping => 503,
        };
        match self {
            Self::NoSuchDevice(_) | Self::NotFound(_) => 404,
            Self::Bad(_) => 400,
            Self::TooLarge(_) => 413,
            Self::Busy(_) => 429,
            Self::Edge { status, .. } => *status,
            Self::Directory(error) => match error {
                DirectoryError::Registry(RegistryFault::NoSuchDevice(_)) => 404,
                DirectoryError::Registry(RegistryFault::Exists(_)) | DirectoryError::HasChildren { .. } => {
                    409
                }
                DirectoryError::Backend(error) => backend(error),
                DirectoryError::Sealed(..) => 500,
                _ => 400,
            },
            Self::Twin(error) => error.status(),
            Self::Method(error) => error.status(),
            Self::Deployment(error) => match error {
                DeploymentError::NoSuch(_) => 404,
                DeploymentError::Backend(error) => backend(error),
                _ => 400,
            },
            Self::Backend(error) => backend(error),
        }
    }
}

impl From<CallFault> for HubError {
    fn from(fault: CallFault) -> Self {
        let why = fault.to_string();
        let status = match fault {
            CallFault::Away(_) => 404,
            CallFault::TimedOut { .. } => 504,
            CallFault::Refused { status, .. } => status,
        };
        Self::Edge { status, why }
    }
}
