//! Power cuts: the store lies on a file system in an image; the writer is stopped, the image copied as it is, and the
//! store looked at in the copy. What the inner file system had not synced is not in the image.

use crate::{
    Dice, rounds,
    witness::{Record, check},
    writer::{Plan, wait_for_open},
};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

fn run(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// A mounted image, let go at the end.
pub struct Mount(PathBuf);

impl Mount {
    pub fn image(image: &Path, at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        run("mount", &["-o", "loop", image.to_str()?, at.to_str()?]).then(|| Self(at.to_owned()))
    }

    pub fn tmpfs(bytes: u64, at: &Path) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs", at.to_str()?])
            .then(|| Self(at.to_owned()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        for _ in 0..50 {
            if run("umount", &[self.0.to_str().unwrap()]) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_to_a_power_cut() {
    cut_power(400 << 20, 60_000, 900);
}

/// Here the journals are let go again and again, because the disk could not hold one.
#[test]
fn nothing_acknowledged_is_lost_to_a_power_cut_on_a_disk_smaller_than_a_journal() {
    cut_power(28 << 20, 600_000, 2000);
}

fn cut_power(bytes: u64, bytes_max: u32, longest_ms: u64) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
    if !run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]) {
        eprintln!("skipped: there is no mkfs.ext4 here");
        return;
    }
    let mut dice = Dice::new(2);
    let rounds = rounds(3);
    let (mut torn, mut stored) = (0, 0);
    for round in 0..rounds {
        let used = dir.path().join("used");
        copy_sparse(&image, &used);
        let Some(mount) = Mount::image(&used, &dir.path().join("mnt")) else {
            eprintln!("skipped: a loop mount needs root and a loop device");
            return;
        };
        let record = dir.path().join(format!("record.{round}"));
        let store = mount.path().join("store");
        let plan =
            Plan { store, record: record.clone(), from: 0, commits: u32::MAX, bytes_max, ballast_bytes: 0 };
        let mut child = plan.start();
        wait_for_open(&record, &mut child, 1);
        std::thread::sleep(Duration::from_millis(100 + dice.throw(longest_ms)));
        assert!(run("kill", &["-STOP", &child.id().to_string()]));
        // What is in the record now was acknowledged before the power went.
        let told = Record::read(&record);
        let cut = dir.path().join("cut");
        copy_sparse(&used, &cut);
        child.kill().unwrap();
        child.wait().unwrap();
        drop(mount);
        let mount = Mount::image(&cut, &dir.path().join("mnt")).unwrap();
        torn += u64::from(check(&mount.path().join("store"), &told.with_all_asked(&record)).torn_bytes > 0);
        stored += told.stored.len();
    }
    println!("power cut: {rounds} rounds, {stored} messages acknowledged, 0 lost, {torn} torn tails cut");
}

fn copy_sparse(from: &Path, to: &Path) {
    assert!(run("cp", &["--sparse=always", from.to_str().unwrap(), to.to_str().unwrap()]));
}
