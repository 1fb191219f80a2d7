//! The local certificate authority of an edge: made, kept in files, renewed in time.
//!
//! What this room does: it makes an authority for one edge, issues the certificate that the edge shows to its devices and
//! those that devices show to it,
//! says what a certificate holds, and keeps these in a folder so that a power loss leaves either the old or the new. What
//! it does not do: it opens no socket, has no clock of its own, starts no task, and judges nobody's certificate; that is
//! what `holdfast-auth` is for.
//!
//! # The folder
//!
//! | file | holds | made | replaced |
//! |---|---|---|---|
//! | `authority.key` | private key of the authority (PKCS #8, PEM), for the owner only | once | never |
//! | `authority.pem` | certificate of the authority; devices are given a copy | once, after its key | never |
//! | `server.pem` | certificate of the edge and its private key, for the owner only | with the authority | whole, by renaming |
//!
//! Certificates of devices are not kept: they are written where somebody wants them, and never over another file.
//!
//! There is an authority as soon as there is `authority.pem`. A key without it has signed nothing and is made anew.

mod authority;
mod facts;
mod folder;
mod names;

pub use authority::{
    AUTHORITY_LIFE, Authority, DEVICE_LIFE, Issued, PkiError, RENEW_AT_PERCENT, SERVER_LIFE,
};
pub use facts::{Facts, Life, Unreadable};
pub use folder::{Folder, FolderError, Kept, Reason, write_new};
pub use names::{InvalidName, NAME_CHARACTERS_MAX, Names};
