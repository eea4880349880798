//! The disk is full: what cannot be written is refused, nothing that was promised is lost, and room is enough to go on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;

use super::disturb::until_progress;
use super::judge::Run;
use super::ledger::{Ledger, copy_of};
use super::load::Load;
use super::world::{ChaosWorld, Layout};
use super::{Plan, say};
use crate::world::until;

/// Room for the store of a small run; a full one takes what it needs.
const DISK_MIB: usize = 64;
/// Minimum of the refusals that senders get before there is room again.
const REFUSALS_MIN: usize = 5;

/// Ways of making a disk full.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// A file system of its own, filled by a file: `ENOSPC`, as on a full disk.
    FileSystem,
    /// No file may grow (`RLIMIT_FSIZE`): `EFBIG`, as under a quota. Needs no rights, so it works on every machine.
    Limit,
}

/// `unshare` with what this machine allows: its own mounts as root, or as root of its own name space.
pub fn unshare() -> Option<Vec<String>> {
    [&["-m"][..], &["-Urm"]].into_iter().find_map(|flags| {
        let tried =
            Command::new("unshare").args(flags).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output().ok()?;
        let words = ["unshare"].iter().chain(flags).map(|word| (*word).to_owned());
        tried.status.success().then(|| words.collect())
    })
}

/// The disk of the bridge under test.
struct Disk {
    way: Way,
    /// Folder of the bridge's store, as the bridge sees it.
    folder: PathBuf,
}

impl Disk {
    /// Program and arguments that start a bridge on this disk.
    fn through(&self) -> Vec<String> {
        let place = self.folder.display();
        let (mut words, script) = match self.way {
            Way::FileSystem => (
                unshare().expect("found out before"),
                format!("mount -t tmpfs -o size={DISK_MIB}m tmpfs {place} && exec \"$0\" \"$@\""),
            ),
            Way::Limit => (Vec::new(), "exec \"$0\" \"$@\"".to_owned()),
        };
        words.extend(["bash".to_owned(), "-c".to_owned(), script]);
        words
    }

    /// The folder as this process sees it.
    fn seen_from_here(&self, pid: u32) -> PathBuf {
        match self.way {
            Way::FileSystem => Path::new("/proc")
                .join(pid.to_string())
                .join("root")
                .join(self.folder.strip_prefix("/").expect("absolute")),
            Way::Limit => self.folder.clone(),
        }
    }

    fn fill(&self, pid: u32) {
        match self.way {
            Way::FileSystem => {
                let ballast = std::fs::File::create(self.seen_from_here(pid).join("ballast"));
                let mut ballast = ballast.expect("a file");
                let chunk = vec![0_u8; 64 * 1_024];
                while ballast.write_all(&chunk).is_ok() {}
                // To the last page.
                while ballast.write(&[0_u8; 512]).is_ok_and(|written| written > 0) {}
            }
            Way::Limit => limit_files(pid, "0:unlimited"),
        }
    }

    fn free(&self, pid: u32) {
        match self.way {
            Way::FileSystem => std::fs::remove_file(self.seen_from_here(pid).join("ballast")).expect("it was there"),
            Way::Limit => limit_files(pid, "unlimited:unlimited"),
        }
    }
}

fn limit_files(pid: u32, limit: &str) {
    let status = Command::new("prlimit").args([&format!("--pid={pid}"), &format!("--fsize={limit}")]).status();
    assert!(status.expect("prlimit is installed").success());
}

async fn full_disk(way: Way, scenario: &'static str) {
    let plan = Plan::new(scenario, 2_500, 300, 1);
    say(&format!("{scenario}: {way:?}"));
    let folder = tempfile::Builder::new().prefix("podero-bridge-disk.").tempdir().expect("a folder");
    let disk = Disk { way, folder: folder.path().to_owned() };
    let layout = Layout {
        replicas: 1,
        store: Some(crate::kit::sqlite_url(folder.path())),
        through: disk.through(),
        ..Layout::default()
    };
    let world = ChaosWorld::open(&plan, layout).await;
    world.trouble(&plan).await;
    let pid = world.pid(0);
    let load = Load::new(&plan, false, 0.0);
    let mut dice = plan.dice(2);
    let scratch = tempfile::tempdir().expect("a folder");
    let ledger = {
        // The mount hides the file from SQLite (not from a plain copy), and a copy that belongs together needs a writer
        // that stands still.
        let (world, file, scratch) =
            (world.clone(), disk.seen_from_here(pid).join("bridge.db"), scratch.path().to_owned());
        Ledger::of_copy(move || {
            world.freeze(0, true);
            let copy = copy_of(&file, &scratch);
            world.freeze(0, false);
            copy
        })
    };
    let mut run = Run::begin(plan, world, load, ledger, None).await;
    for moment in run.plan.moments() {
        // Early: the write-ahead log has room of its own for some hundred events, which must be used up first.
        until_progress(&run.load, moment / 2.0, &mut dice).await;
        disk.fill(pid);
        let before = run.load.refused.load(Ordering::Relaxed);
        until("senders are told to come again", async || {
            // The log may have room for all that were under way: a little more at a time, until it has none.
            run.load.trickle();
            // A limit on files leaves room on the disk, and in the pages that are there.
            let (status, lines) = run.world.look(0, "/readyz").await?;
            let is_told = way == Way::Limit || (status == 503 && lines.contains("[-] store: no room"));
            let is_refused = run.load.refused.load(Ordering::Relaxed) >= before + REFUSALS_MIN;
            (is_told && is_refused || run.load.is_sent()).then_some(())
        })
        .await;
        let (alive, _) = run.world.look(0, "/livez").await.expect("it answers");
        assert_eq!(alive, 200);
        disk.free(pid);
    }
    // On a full disk the log may have had room for all the rest: then no sender was refused.
    let had_room = way == Way::FileSystem && run.load.is_sent();
    assert!(run.load.refused.load(Ordering::Relaxed) > 0 || had_room, "no sender met the full disk");
    let said = run.ledger.integrity().await;
    if said != "ok" {
        run.wrong.push(said);
    }
    run.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_it_cannot_keep_and_recovers_with_the_room() {
    let way = if unshare().is_some() { Way::FileSystem } else { Way::Limit };
    full_disk(way, "disk").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_may_not_grow_are_a_full_disk_too() {
    full_disk(Way::Limit, "quota").await;
}
