//! Grants of single files: a directory in which a module sees the files that are named, and nothing else.
//!
//! WASI opens files through directories, so the directory itself is opened, read only, and the calls that take a path
//! are looked at first. What a name leads to by links inside the directory is part of the grant of that name. Calls
//! that change something are refused by the directory being read only; the directory cannot be listed.

use crate::host::Host;
use std::collections::BTreeMap;
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::FsResult;
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, DirectoryEntryStream, ErrorCode, Host as _, HostDescriptor,
    MetadataHashValue, OpenFlags, PathFlags,
};

const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";
const TYPES: &str = "wasi:filesystem/types@0.2.12";

/// Which directories of an instance are views of single files.
#[derive(Debug, Default)]
pub(crate) struct Views {
    /// The files by the path that the module sees.
    granted: BTreeMap<String, Arc<[String]>>,
    /// The views among the open descriptors, by their number.
    open: BTreeMap<u32, Arc<[String]>>,
}

impl Views {
    pub(crate) fn of(directories: &[crate::settings::Directory]) -> Self {
        let views = directories.iter().filter_map(|directory| {
            let files = directory.files.as_ref()?;
            Some((directory.guest.clone(), files.clone().into()))
        });
        Self { granted: views.collect(), open: BTreeMap::new() }
    }

    /// Numbers are used again, so each new descriptor replaces what was known of its number.
    fn opened(&mut self, descriptor: &Resource<Descriptor>, view: Option<Arc<[String]>>) {
        match view {
            Some(view) => self.open.insert(descriptor.rep(), view),
            None => self.open.remove(&descriptor.rep()),
        };
    }

    /// Whether a path below a descriptor is hidden.
    fn hides(&self, descriptor: &Resource<Descriptor>, path: &str) -> bool {
        let Some(files) = self.open.get(&descriptor.rep()) else { return false };
        let path = path.trim_start_matches("./");
        path != "." && !files.iter().any(|file| file == path)
    }
}

/// Puts the looks at paths in front of WASI's own functions.
pub(super) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(PREOPENS)?.func_wrap(
        "get-directories",
        |mut store: StoreContextMut<'_, Host>, (): ()| {
            let host = store.data_mut();
            let directories = host.filesystem().get_directories()?;
            for (descriptor, name) in &directories {
                let view = host.views.granted.get(name).cloned();
                host.views.opened(descriptor, view);
            }
            Ok((directories,))
        },
    )?;
    let mut types = linker.instance(TYPES)?;
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: StoreContextMut<'_, Host>,
         (directory, path_flags, path, open_flags, flags): (
            Resource<Descriptor>,
            PathFlags,
            String,
            OpenFlags,
            DescriptorFlags,
        )| {
            Box::new(async move {
                let host = store.data_mut();
                if host.views.hides(&directory, &path) {
                    return Ok((Err(ErrorCode::NotPermitted),));
                }
                // The directory opened again is the same view.
                let view = (path == ".").then(|| host.views.open.get(&directory.rep()).cloned()).flatten();
                let opened = host.filesystem().open_at(directory, path_flags, path, open_flags, flags).await;
                if let Ok(descriptor) = &opened {
                    host.views.opened(descriptor, view);
                }
                answer(host, opened)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.stat-at",
        |mut store: StoreContextMut<'_, Host>,
         (directory, flags, path): (Resource<Descriptor>, PathFlags, String)| {
            Box::new(async move {
                let host = store.data_mut();
                if host.views.hides(&directory, &path) {
                    return Ok((Err(ErrorCode::NotPermitted),));
                }
                let stat: FsResult<DescriptorStat> = host.filesystem().stat_at(directory, flags, path).await;
                answer(host, stat)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.metadata-hash-at",
        |mut store: StoreContextMut<'_, Host>,
         (directory, flags, path): (Resource<Descriptor>, PathFlags, String)| {
            Box::new(async move {
                let host = store.data_mut();
                if host.views.hides(&directory, &path) {
                    return Ok((Err(ErrorCode::NotPermitted),));
                }
                let hash: FsResult<MetadataHashValue> =
                    host.filesystem().metadata_hash_at(directory, flags, path).await;
                answer(host, hash)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.readlink-at",
        |mut store: StoreContextMut<'_, Host>, (directory, path): (Resource<Descriptor>, String)| {
            Box::new(async move {
                let host = store.data_mut();
                if host.views.hides(&directory, &path) {
                    return Ok((Err(ErrorCode::NotPermitted),));
                }
                let link: FsResult<String> = host.filesystem().readlink_at(directory, path).await;
                answer(host, link)
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.read-directory",
        |mut store: StoreContextMut<'_, Host>, (directory,): (Resource<Descriptor>,)| {
            Box::new(async move {
                let host = store.data_mut();
                if host.views.open.contains_key(&directory.rep()) {
                    return Ok((Err(ErrorCode::NotPermitted),));
                }
                let entries: FsResult<Resource<DirectoryEntryStream>> =
                    host.filesystem().read_directory(directory).await;
                answer(host, entries)
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// What the module is told: the result, or an error that it can know.
fn answer<T>(host: &mut Host, result: FsResult<T>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    match result {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(host.filesystem().convert_error_code(error)?),)),
    }
}
