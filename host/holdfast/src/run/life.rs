//! How one process knows whether another still lives: a file that an edge holds from before it opens its store until it
//! has ended, however it ends.

use crate::output;
use anyhow::{Context, bail};
use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// How long a starting edge waits for one that is about to end: longer than any orderly stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// When it says that it waits: later than most stops take.
const TOLD_AFTER: Duration = Duration::from_secs(1);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(10);

fn file(control: &Path) -> PathBuf {
    control.with_extension("lives")
}

/// Whether an edge with this control socket lives.
pub fn is_lived(control: &Path) -> bool {
    File::open(file(control))
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Begins a life, which lasts as long as the returned file. Waits for an edge that is about to end.
pub async fn begin(control: &Path) -> anyhow::Result<File> {
    let path = file(control);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot write {}; give this user the right to it", path.display()))?;
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                if !is_told && begun.elapsed() > TOLD_AFTER {
                    is_told = true;
                    output::note(format!(
                        "holdfast: another process holds {}; its end is waited for, for {} s",
                        path.display(),
                        PATIENCE.as_secs()
                    ));
                }
                sleep(LOOK).await;
            }
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "another edge or hub holds {} and does not end; end that process, or use another folder",
                    path.display()
                )
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_life_is_seen_from_outside_and_the_next_one_waits_for_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let control = dir.path().join("control.sock");
        assert!(!is_lived(&control));
        let first = begin(&control).await.unwrap();
        assert!(is_lived(&control));
        let (second, ()) = tokio::join!(begin(&control), async { drop(first) });
        assert!(is_lived(&control));
        drop(second.unwrap());
        assert!(!is_lived(&control));
    }
}
