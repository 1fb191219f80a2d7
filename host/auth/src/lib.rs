//! Who is it, and may it?
//!
//! Two questions. [`who`] proves users by their passwords, [`claim`] devices and modules by tokens and certificates, as
//! IoT Hub does it; [`may`] says what they may publish and subscribe to. The default of both is no, and a no has a reason.
//! [`Registry`] is everybody there is; [`record`] is the form in which a device is kept, and [`seal`] keeps it from readers. What this room does not do: it
//! opens no socket, reads no file, knows no clock and draws no random numbers; secrets and certificates are passed in.

pub mod claim;
pub mod device;
mod devices;
pub mod may;
pub mod record;
mod registry;
pub mod sas;
pub mod seal;
pub mod who;
pub mod x509;

pub use claim::{CLOCK_SKEW, Claim, DeviceNotProved, Means, Proved};
pub use device::{BadKey, BadThumbprint, Credential, Device, DeviceStatus, SharedKey, Thumbprint};
pub use devices::{Cut, DEVICES_MAX, DeviceRules, RegistryFault};
pub use may::{Action, Grants, Refusal};
pub use record::RecordFault;
pub use registry::{Fault, Password, Registry, UserRecord};
pub use seal::{NotOpened, SEAL_KEY_BYTES, SEAL_RANDOM_BYTES, Sealer};
pub use who::{Evidence, NotProved, hash_password};
pub use x509::{BadCertificate, TrustBundle};
