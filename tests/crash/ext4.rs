//! A real ext4 in an image, copied while the daemon writes to it: what a power cut leaves, simulated by nobody.
//!
//! A copy of a stopped daemon's image is the disk at one instant, and nothing durable may lack in it. A copy made while
//! it goes on is worse than any power cut, since its first part is older than its last: there only wrong bytes count.
//! `BRAIDFS_COPIES` sets how many, `BRAIDFS_SEED` the seed.

use super::load::{self, Held};
use crate::support::mounted::Place;
use crate::support::process::{output_of, path_with_sbin, run, which};
use crate::support::state::{self, Registered};
use crate::support::wait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

const COPIES: u64 = 2;
/// Sparse. The cache leaves 256 MiB of it to others.
const IMAGE_BYTES: u64 = 1 << 30;
const COPIES_IN_A_ROW: u64 = 8;
/// Of each mirror: the dataset lasts for so many copies.
const BYTES_PER_SECOND: u64 = 5 << 20;

/// An image with a file system in it, mounted; dropping it unmounts it.
struct Mounted {
    at: PathBuf,
    _registered: Registered,
}

impl Mounted {
    /// Says why not, where it cannot be mounted.
    fn mount(image: &Path, at: PathBuf) -> Result<Mounted, String> {
        fs::create_dir_all(&at).expect("a test's own folder");
        let registered = Registered::mount(&at);
        // The kernel frees a loop device made this way with its mount.
        let output = run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(&at));
        match output.status.success() {
            true => Ok(Mounted { at, _registered: registered }),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A daemon that was just killed may still be letting go of its files.
        let gone = wait::within(wait::PATIENCE, || run(Command::new("umount").arg(&self.at)).status.success());
        if !gone {
            run(Command::new("umount").arg("-l").arg(&self.at));
        }
    }
}

/// An empty file system, or the reason why there is none.
fn image(place: &Place) -> Result<(PathBuf, Mounted), String> {
    if !which("mkfs.ext4") {
        return Err("no mkfs.ext4 here (package e2fsprogs)".to_owned());
    }
    let image = place.path("disk.img");
    File::create(&image).and_then(|file| file.set_len(IMAGE_BYTES)).expect("an image can be made");
    output_of(Command::new("mkfs.ext4").env("PATH", path_with_sbin()).args(["-q", "-F"]).arg(&image));
    let mounted = Mounted::mount(&image, place.path("ext4"))
        .map_err(|why| format!("no loop devices for us here: {}", why.trim()))?;
    Ok((image, mounted))
}

/// Copy the image, mount the copy as after a power cut, and read back what it claims.
fn copy(place: &Place, image: &Path) -> Result<Held, String> {
    let copy = place.path("copy.img");
    output_of(Command::new("cp").args(["--reflink=never", "--sparse=always"]).arg(image).arg(&copy));
    let mounted = Mounted::mount(&copy, place.path("after"))?;
    let found = load::find_held(&mounted.at.join("cache"));
    drop(mounted);
    fs::remove_file(&copy).expect("it is ours");
    found.ok_or_else(|| "there was no cache in it yet".to_owned())
}

#[test]
fn a_copy_of_a_live_ext4_holds_only_right_bytes() {
    let test = "a_copy_of_a_live_ext4_holds_only_right_bytes";
    let (copies, seed) = (load::from_environment("BRAIDFS_COPIES", COPIES), load::from_environment("BRAIDFS_SEED", 1));
    let mut random = StdRng::seed_from_u64(seed);
    let (mut stopped, mut live, mut done) = (Held::default(), Held::default(), 0);
    let (mut without, mut at_risk) = (0, 0);
    while done < copies {
        let (mirrors, place) = (load::mirrors_of(BYTES_PER_SECOND), Place::new());
        let (image, ext4) = match image(&place) {
            Ok(image) => image,
            Err(why) => return state::skip(test, &why),
        };
        let cache = ext4.at.join("cache");
        let cache = cache.to_str().expect("a plain name");
        let options = ["--hedging=false", "--cache-size", "200M", "--cache-dir", cache];
        let mount = place.mount(&load::urls(&mirrors), &options);
        std::thread::scope(|scope| {
            let readers = load::readers(scope, &mount, random.random());
            for _ in 0..COPIES_IN_A_ROW.min(copies - done) {
                let before = load::sent(&mirrors);
                let more = random.random_range(1..6 << 20);
                wait::until("the mirrors have sent more", || {
                    load::sent(&mirrors) >= before + more || readers.iter().all(|reader| reader.is_finished())
                });
                // Without a durable byte there is nothing to lose.
                let durable = wait::for_some("something is durable", || {
                    let durable = mount.status()["counters"]["disk_written_bytes"].as_u64().expect("a counter");
                    (durable > 0).then_some(durable)
                });
                at_risk += u64::from(load::sent(&mirrors) > durable);
                done += 1;
                if done % 2 == 0 {
                    match copy(&place, &image) {
                        Ok(held) => live = live.and(held),
                        Err(_) => without += 1,
                    }
                    continue;
                }
                mount.signal(Signal::STOP);
                let held = copy(&place, &image);
                mount.signal(Signal::CONT);
                let held = match held {
                    Ok(held) => held,
                    Err(why) => panic!("copy {done}: {why}, and {durable} bytes were durable"),
                };
                assert_eq!(held.damaged_pages, 0, "copy {done}: a set bit lacks its bytes");
                assert!(held.bytes + (1 << 20) > durable, "copy {done}: {held:?} of {durable} that were durable");
                stopped = stopped.and(held);
            }
            mount.kill9();
            readers.into_iter().for_each(|reader| drop(reader.join().expect("no wrong bytes")));
        });
        place.clear();
    }
    println!(
        "{copies} copies, {at_risk} with bytes at risk: at one instant {stopped:?}, while it went on {live:?} \
         ({without} of these were no cache); 0 wrong bytes"
    );
    assert!(at_risk * 2 >= copies && stopped.bytes > 0, "too little was at risk");
}
