//! Looks at the files of each keyspace before the database does.
//!
//! A keyspace whose `current` file is missing or points nowhere is taken for new, and its tables are deleted; a table
//! that is missing or broken at its end makes the whole database refuse to open. Here a manifest that cannot be
//! trusted is written again from the tables that are there, and, when the database did not open, tables that do not
//! match their checksum are put aside and left out. Messages in them are lost and counted as such; the rest is kept.
//!
//! Format (lsm-tree 3.1.10, `src/version/persist.rs`): `current` = number u64 LE, xxh3-128 of the file `v{number}` u128
//! LE, 0 u8. `v{number}` is an archive of the crate `sfa` with the sections written below; its section `tables` lists
//! for each level, for each run, the tables with number u64 LE, 0 u8, xxh3-128 of the file u128 LE, 0 u64 LE.

use crate::{error::StoreError, recovery::marks::sync_folder, recovery::report::RecoveryReport};
use std::{
    fs::{self, File},
    io::{self, BufReader, Cursor, Read, Write},
    path::{Path, PathBuf},
};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

const LEVELS: u8 = 7;

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Manifests, and that every table is there.
    Quick,
    /// Also that every table matches its checksum. Reads everything.
    Thorough,
}

/// A table as the manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    number: u64,
    checksum: u128,
}

/// Levels of runs of tables.
type Levels = Vec<Vec<Vec<Listed>>>;

/// Checks and repairs all keyspaces of the database in `folder`.
pub(crate) fn repair(
    folder: &Path,
    aside: &Path,
    known: &[u64],
    depth: Depth,
    report: &mut RecoveryReport,
) -> Result<(), StoreError> {
    let keyspaces = folder.join("keyspaces");
    let fault = |path: &Path| {
        let path = path.to_owned();
        move |error: io::Error| StoreError::file("repair", path.clone(), &error)
    };
    for number in known {
        let path = keyspaces.join(number.to_string());
        if !path.exists() {
            fs::create_dir_all(path.join("tables")).map_err(fault(&path))?;
            report.damage(format!(
                "keyspace {} is missing; an empty one was made in its place",
                path.display()
            ));
        }
    }
    let found = fs::read_dir(&keyspaces).map_err(fault(&keyspaces))?;
    for item in found {
        let path = item.map_err(fault(&keyspaces))?.path();
        if path.is_dir() {
            let number =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u64>().ok());
            let is_known = number.is_some_and(|number| known.contains(&number));
            repair_one(&path, aside, is_known, depth, report).map_err(fault(&path))?;
        }
    }
    Ok(())
}

fn repair_one(
    path: &Path,
    aside: &Path,
    is_known: bool,
    depth: Depth,
    report: &mut RecoveryReport,
) -> io::Result<()> {
    let Some((number, levels)) = manifest(path)? else {
        let tables = tables_there(path)?;
        // A folder that is still empty and that nobody knows is one whose making was cut off. The database throws it
        // away; with a manifest it would also be kept if it was in use after all.
        if is_known || !tables.is_empty() || path.join("current").exists() {
            let (keyspace, tables) = (path.display(), tables.len());
            report.damage(format!(
                "the manifest of keyspace {keyspace} cannot be trusted; it was made again from its {tables} tables"
            ));
        }
        // Each table is a run of its own in the first level, newest first, so that the newest value of a key counts.
        let runs = tables.into_iter().rev().map(|table| vec![table]).collect();
        return write_manifest(path, highest_version(path)? + 1, &vec![runs]);
    };
    let mut kept = levels.clone();
    for run in kept.iter_mut().flatten() {
        let mut good = Vec::with_capacity(run.len());
        for table in run.drain(..) {
            match check_table(path, &table, depth)? {
                None => good.push(table),
                Some(why) => {
                    let file = table_path(path, table.number);
                    put_aside(&file, aside, report)?;
                    report.damage(format!("table {} {why}; it was put aside", file.display()));
                }
            }
        }
        *run = good;
    }
    if kept == levels {
        return Ok(());
    }
    for level in &mut kept {
        level.retain(|run| !run.is_empty());
    }
    write_manifest(path, number + 1, &kept)
}

/// The manifest that `current` points to, if both are whole.
fn manifest(path: &Path) -> io::Result<Option<(u64, Levels)>> {
    let Some(current) = read_if_there(&path.join("current"))? else { return Ok(None) };
    let Ok::<[u8; 25], _>([n0, n1, n2, n3, n4, n5, n6, n7, sum @ .., 0]) = current.as_slice().try_into()
    else {
        return Ok(None);
    };
    let number = u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]);
    let Some(bytes) = read_if_there(&version_path(path, number))? else { return Ok(None) };
    if xxh3_128(&bytes) != u128::from_le_bytes(sum) {
        return Ok(None);
    }
    let Ok(archive) = sfa::Reader::from_reader(&mut Cursor::new(&bytes)) else { return Ok(None) };
    let section = archive.toc().iter().find(|entry| entry.name() == b"tables");
    let Some(section) = section else { return Ok(None) };
    let start = usize::try_from(section.pos()).unwrap_or(usize::MAX);
    let length = usize::try_from(section.len()).unwrap_or(usize::MAX);
    let tables = bytes.get(start..start.saturating_add(length)).unwrap_or_default();
    Ok(parse_levels(tables).ok().map(|levels| (number, levels)))
}

fn parse_levels(mut bytes: &[u8]) -> io::Result<Levels> {
    let mut levels = Vec::new();
    for _ in 0..byte(&mut bytes)? {
        let mut level = Vec::new();
        for _ in 0..byte(&mut bytes)? {
            let mut count = [0; 4];
            bytes.read_exact(&mut count)?;
            let mut run = Vec::new();
            for _ in 0..u32::from_le_bytes(count) {
                let (mut number, mut checksum, mut rest) = ([0; 8], [0; 16], [0; 8]);
                bytes.read_exact(&mut number)?;
                byte(&mut bytes)?;
                bytes.read_exact(&mut checksum)?;
                bytes.read_exact(&mut rest)?;
                run.push(Listed {
                    number: u64::from_le_bytes(number),
                    checksum: u128::from_le_bytes(checksum),
                });
            }
            level.push(run);
        }
        levels.push(level);
    }
    Ok(levels)
}

fn byte(bytes: &mut &[u8]) -> io::Result<u8> {
    let mut one = [0];
    bytes.read_exact(&mut one)?;
    let [one] = one;
    Ok(one)
}

fn write_manifest(path: &Path, number: u64, levels: &Levels) -> io::Result<()> {
    let mut archive = sfa::Writer::from_writer(Cursor::new(Vec::new()));
    let sections: [(&str, &[u8]); 5] = [
        ("format_version", &[3]),
        ("crate_version", b"3.1.10"),
        ("tree_type", &[0]),
        ("level_count", &[LEVELS]),
        ("filter_hash_type", &[0]),
    ];
    for (name, content) in sections {
        archive.start(name)?;
        archive.write_all(content)?;
    }
    archive.start("tables")?;
    archive.write_all(&[LEVELS])?;
    for place in 0..usize::from(LEVELS) {
        let runs = levels.get(place).map(Vec::as_slice).unwrap_or_default();
        archive.write_all(&[u8::try_from(runs.len()).unwrap_or(u8::MAX)])?;
        for run in runs.iter().take(usize::from(u8::MAX)) {
            archive.write_all(&u32::try_from(run.len()).unwrap_or(u32::MAX).to_le_bytes())?;
            for table in run {
                archive.write_all(&table.number.to_le_bytes())?;
                archive.write_all(&[0])?;
                archive.write_all(&table.checksum.to_le_bytes())?;
                archive.write_all(&0_u64.to_le_bytes())?;
            }
        }
    }
    for name in ["blob_files", "blob_gc_stats"] {
        archive.start(name)?;
        archive.write_all(&0_u32.to_le_bytes())?;
    }
    let bytes = archive.into_inner().map_err(|error| io::Error::other(format!("{error:?}")))?.into_inner();
    let checksum = xxh3_128(&bytes);
    write_synced(&version_path(path, number), &bytes)?;
    let mut current = number.to_le_bytes().to_vec();
    current.extend(checksum.to_le_bytes());
    current.push(0);
    // IMPORTANT: `current` last, by a rename, so that it never points to a manifest that is not there.
    let fresh = path.join("current.new");
    write_synced(&fresh, &current)?;
    fs::rename(&fresh, path.join("current"))?;
    sync_folder(path)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Every table file that can be read to its end and closes as an archive, lowest number first.
fn tables_there(path: &Path) -> io::Result<Vec<Listed>> {
    let folder = path.join("tables");
    fs::create_dir_all(&folder)?;
    let mut tables = Vec::new();
    for item in fs::read_dir(folder)? {
        let file = item?.path();
        let number =
            file.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u64>().ok());
        let whole = File::open(&file).is_ok_and(|mut file| sfa::Reader::from_reader(&mut file).is_ok());
        if let (Some(number), true) = (number, whole) {
            tables.push(Listed { number, checksum: checksum_of(&file)? });
        }
    }
    tables.sort_by_key(|table| table.number);
    Ok(tables)
}

fn check_table(path: &Path, table: &Listed, depth: Depth) -> io::Result<Option<&'static str>> {
    let file = table_path(path, table.number);
    if !file.exists() {
        return Ok(Some("is missing"));
    }
    let mut opened = File::open(&file)?;
    if sfa::Reader::from_reader(&mut opened).is_err() {
        return Ok(Some("is cut off or broken at its end"));
    }
    if depth == Depth::Thorough && checksum_of(&file)? != table.checksum {
        return Ok(Some("does not match its checksum"));
    }
    Ok(None)
}

fn checksum_of(path: &Path) -> io::Result<u128> {
    let mut file = BufReader::with_capacity(256 << 10, File::open(path)?);
    let mut hash = Xxh3::new();
    io::copy(&mut file, &mut hash)?;
    Ok(hash.digest128())
}

fn put_aside(file: &Path, aside: &Path, report: &mut RecoveryReport) -> io::Result<()> {
    if !file.exists() {
        return Ok(());
    }
    fs::create_dir_all(aside)?;
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("table");
    let Some(target) = (0_u32..).map(|n| aside.join(format!("table-{name}.{n}"))).find(|path| !path.exists())
    else {
        return Ok(());
    };
    fs::rename(file, &target)?;
    report.copies.push(target);
    Ok(())
}

fn highest_version(path: &Path) -> io::Result<u64> {
    let mut highest = 0;
    for item in fs::read_dir(path)? {
        let name = item?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_prefix('v')).and_then(|n| n.parse::<u64>().ok());
        highest = highest.max(number.unwrap_or(0));
    }
    Ok(highest)
}

fn version_path(path: &Path, number: u64) -> PathBuf {
    path.join(format!("v{number}"))
}

fn table_path(path: &Path, number: u64) -> PathBuf {
    path.join("tables").join(number.to_string())
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a keyspace, or a copy of one, is whole. Reads all of it.
pub(crate) fn is_whole(path: &Path) -> io::Result<bool> {
    let Some((_, levels)) = manifest(path)? else { return Ok(false) };
    for table in levels.iter().flatten().flatten() {
        if check_table(path, table, Depth::Thorough)?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}
