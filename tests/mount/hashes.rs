//! Hashes that come with answers or lie in the folder: wrong bytes are found, and who sent them is named.

use super::{faulty_urls, mirrors};
use crate::support::faulty::{Fault, FaultyMirror, Hashed, Request, Rule, Tree, generate};
use crate::support::mounted::{Mount, Place};
use crate::support::{reading, wait};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SIZE: u64 = 6 << 20;
const SEED: u64 = 77;
/// In the middle of the file, and of a page.
const FLIPPED: u64 = 3_000_001;

fn tree() -> Tree {
    Tree::new().with_generated("data.bin", SEED, SIZE)
}

/// Is it asked for the byte that is another?
fn has_flipped(request: &Request) -> bool {
    request.range().is_some_and(|(from, to)| from <= FLIPPED && to.is_none_or(|to| to >= FLIPPED))
}

fn lies(mount: &Mount, url: &str) -> Vec<String> {
    let mirror = mount.mirror(url);
    let lies = mirror["lies"].as_array().expect("a list of lies");
    lies.iter().map(|lie| lie.as_str().expect("in words").to_owned()).collect()
}

/// Everybody reads it again and again while the liar is tried: its byte must never come.
#[test]
fn a_range_that_is_not_what_its_own_hash_says_never_reaches_the_reader() {
    for (hash, name) in [(Hashed::ContentMd5, "md5:"), (Hashed::ContentDigest, "sha-256:")] {
        let mirrors = mirrors(2, &tree());
        mirrors.iter().for_each(|mirror| mirror.always(Fault::Hashed(hash)));
        let flips = Rule::new(Fault::FlipByte(FLIPPED)).when(has_flipped);
        mirrors[0].add(flips.clone());
        // The honest one is slow, and silent about that range until the liar was asked for it.
        mirrors[1].always(Fault::Shape { bytes_per_second: 2 << 20 });
        mirrors[1].add(Rule::new(Fault::Silent).when(move |request| has_flipped(request) && flips.struck() == 0));
        let place = Place::new();
        let mount = place.mount(&faulty_urls(&mirrors), &[]);
        reading::generated(&mount.path("data.bin"), SEED, SIZE);
        let told = lies(&mount, &mirrors[0].url());
        assert!(told.iter().any(|lie| lie.matches(name).count() == 2), "{hash:?}: both hashes are named: {told:?}");
        assert!(lies(&mount, &mirrors[1].url()).is_empty(), "the honest one is blamed");
        mount.umount();
    }
}

#[test]
fn a_liar_alone_fails_the_read_of_that_range_only() {
    let mirrors = mirrors(1, &tree());
    mirrors[0].always(Fault::Hashed(Hashed::ContentDigest));
    mirrors[0].always(Fault::FlipByte(FLIPPED));
    let place = Place::new();
    let mount = place.mount(&faulty_urls(&mirrors), &["--read-timeout", "2s"]);
    let file = std::fs::File::open(mount.path("data.bin")).unwrap();
    reading::generated_at(&file, SEED, 0, 4096).unwrap();
    let error = reading::generated_at(&file, SEED, FLIPPED, 100).expect_err("no honest byte can come");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{error}");
    drop(file);
    mount.umount();
}

/// By the letter of the RFC it would be of the range; it is a habit of object stores, and no lie.
#[test]
fn the_md5_of_the_object_with_a_range_blames_nobody() {
    let mirrors = mirrors(1, &tree());
    mirrors[0].always(Fault::Hashed(Hashed::ObjectMd5));
    let place = Place::new();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    reading::generated(&mount.path("data.bin"), SEED, SIZE);
    assert!(lies(&mount, &mirrors[0].url()).is_empty());
    let single_bytes =
        mirrors[0].data_requests().iter().filter(|request| request.range() == Some((0, Some(0)))).count();
    assert!(single_bytes <= 8, "asked once, by those that were in flight together: {single_bytes}");
    mount.umount();
}

/// What sha256sum writes of a generated file.
fn sum(seed: u64, size: u64, name: &str) -> String {
    let mut bytes = vec![0; size as usize];
    generate(seed, 0, &mut bytes);
    let hex: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}  {name}\n")
}

fn summed_tree() -> Tree {
    tree().with("SHA256SUMS", sum(SEED, SIZE, "data.bin").into_bytes())
}

/// Until this is cleared, mirrors with it answer late: the others bring everything.
fn late(mirrors: &[FaultyMirror]) -> Arc<AtomicBool> {
    let late = Arc::new(AtomicBool::new(true));
    for mirror in mirrors {
        let is_late = late.clone();
        let rule = Rule::new(Fault::Delay(Duration::from_secs(20))).under("data");
        mirror.add(rule.when(move |_| is_late.load(Ordering::SeqCst)));
    }
    late
}

fn counter(mount: &Mount, name: &str) -> u64 {
    mount.status()["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name}"))
}

fn prefetch(place: &Place, path: &str) -> Output {
    place.braidfs(["prefetch".into(), place.mountpoint().join(path).into_os_string()])
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A read of one byte, past the kernel's memory. An open clears that.
fn read_byte(path: &Path) -> std::io::Result<u8> {
    use std::os::unix::fs::FileExt;
    let mut byte = [0];
    File::open(path)?.read_exact_at(&mut byte, FLIPPED)?;
    Ok(byte[0])
}

#[test]
fn one_flipped_byte_is_found_when_the_file_is_complete_and_replaced() {
    let mirrors = mirrors(3, &summed_tree());
    mirrors[0].add(Rule::new(Fault::FlipByte(FLIPPED)).under("data.bin"));
    let late = late(&mirrors[1..]);
    let place = Place::new();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let mut read = std::fs::read(mount.path("data.bin")).unwrap();
    let mut right = vec![0; SIZE as usize];
    generate(SEED, 0, &mut right);
    read[FLIPPED as usize] ^= 1;
    assert!(read == right, "the liar's byte was read, or this test shows nothing");
    late.store(false, Ordering::SeqCst);
    wait::until("the file is checked, repaired and found right", || counter(&mount, "hashes_right") == 1);
    assert_eq!(counter(&mount, "hashes_wrong"), 1);
    // Opened anew, the kernel's pages are not believed either.
    reading::generated(&mount.path("data.bin"), SEED, SIZE);
    let told = lies(&mount, &mirrors[0].url());
    let page = format!("{}-", FLIPPED / 4096 * 4096);
    assert!(told.iter().any(|lie| lie.matches("sha-256:").count() == 2 && lie.contains(&page)), "{told:?}");
    assert!(mirrors[1..].iter().all(|honest| lies(&mount, &honest.url()).is_empty()), "an honest one is blamed");
    mount.umount();
    // What was verified is not hashed again, and nothing is fetched for it.
    let before: u64 = mirrors.iter().map(|mirror| mirror.data_bytes_of("data.bin")).sum();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    reading::generated(&mount.path("data.bin"), SEED, SIZE);
    assert!(prefetch(&place, "data.bin").status.success());
    assert_eq!((counter(&mount, "hashes_right"), counter(&mount, "hashes_wrong")), (0, 0));
    assert_eq!(mirrors.iter().map(|mirror| mirror.data_bytes_of("data.bin")).sum::<u64>(), before);
    mount.umount();
}

#[test]
fn a_prefetch_is_done_when_the_hash_is_right() {
    let mirrors = mirrors(3, &summed_tree());
    mirrors[0].add(Rule::new(Fault::FlipByte(FLIPPED)).under("data.bin"));
    let late = late(&mirrors[1..]);
    let place = Place::new();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    std::fs::read(mount.path("data.bin")).unwrap();
    late.store(false, Ordering::SeqCst);
    let output = prefetch(&place, "data.bin");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!((counter(&mount, "hashes_right"), counter(&mount, "hashes_wrong")), (1, 1));
    reading::generated(&mount.path("data.bin"), SEED, SIZE);
    mount.umount();
}

#[test]
fn a_hash_that_nobody_satisfies_ends_in_an_error_and_not_in_a_loop() {
    let wrong = sum(SEED + 1, SIZE, "data.bin");
    let tree = tree().with("SHA256SUMS", wrong.clone().into_bytes()).with("other.txt", *b"not listed");
    let mirrors = mirrors(3, &tree);
    let place = Place::new();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let output = prefetch(&place, "");
    let said = text(&output);
    assert!(output.status.code() == Some(1) && said.contains("data.bin") && said.contains("hash"), "{said}");
    assert!(!said.contains("other.txt"), "{said}");
    let fetched = || mirrors.iter().map(|mirror| mirror.data_bytes_of("data.bin")).sum::<u64>();
    let after_first = fetched();
    // It came once, and each mirror's was compared with at most once.
    assert!(after_first <= 5 * SIZE, "{after_first}");
    for _ in 0..3 {
        let error = read_byte(&mount.path("data.bin")).expect_err("no bytes are known to be right");
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{error}");
    }
    assert_eq!(prefetch(&place, "data.bin").status.code(), Some(1));
    assert_eq!(fetched(), after_first, "it is not fetched again and again");
    assert!(mirrors.iter().all(|mirror| lies(&mount, &mirror.url()).is_empty()), "a wrong list is nobody's wrong byte");
    let log = mount.log();
    assert!(log.contains("no mirror's bytes match") && log.contains(&wrong[..64]), "an alert with the hash");
    assert_eq!(std::fs::read(mount.path("other.txt")).unwrap(), b"not listed");
    mount.umount();
}

#[test]
fn sums_that_differ_between_mirrors_are_believed_of_none() {
    let mirrors = mirrors(2, &summed_tree());
    let other = sum(SEED + 1, SIZE, "data.bin");
    mirrors[1].put("SHA256SUMS", crate::support::faulty::Content::Bytes(other.into_bytes().into()));
    let place = Place::new();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    let output = prefetch(&place, "data.bin");
    assert!(output.status.success(), "{}", text(&output));
    reading::generated(&mount.path("data.bin"), SEED, SIZE);
    assert_eq!((counter(&mount, "hashes_right"), counter(&mount, "hashes_wrong")), (0, 0));
    assert!(mount.log().contains("mirrors differ in their sums file"));
    mount.umount();
}

#[test]
fn the_hash_of_the_whole_that_comes_with_an_answer_is_checked() {
    let mirrors = mirrors(2, &tree());
    mirrors[0].always(Fault::Hashed(Hashed::ReprDigest));
    mirrors[1].always(Fault::FlipByte(FLIPPED));
    let late = late(&mirrors[..1]);
    let place = Place::new();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    // Here the two are compared later, and are the same.
    std::fs::File::open(mount.path("data.bin")).and_then(|mut file| file.read_exact(&mut [0])).unwrap();
    // The liar has brought that page before anybody said what is right.
    assert!(read_byte(&mount.path("data.bin")).is_ok());
    late.store(false, Ordering::SeqCst);
    mirrors[1].add(Rule::new(Fault::Shape { bytes_per_second: 2 << 20 }));
    let output = prefetch(&place, "data.bin");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!((counter(&mount, "hashes_right"), counter(&mount, "hashes_wrong")), (1, 1));
    reading::generated(&mount.path("data.bin"), SEED, SIZE);
    assert_eq!((lies(&mount, &mirrors[0].url()).len(), lies(&mount, &mirrors[1].url()).len()), (0, 1));
    mount.umount();
}

/// Without a disk a file that fits into memory at once is checked there, and comes anew from the others.
#[test]
fn a_small_file_is_checked_in_memory() {
    const SMALL: u64 = 300_000;
    let tree = Tree::new()
        .with_generated("data.bin", SEED, SMALL)
        .with("SHA256SUMS", sum(SEED, SMALL, "data.bin").into_bytes());
    let mirrors = mirrors(3, &tree);
    mirrors[0].add(Rule::new(Fault::FlipByte(99_999)).under("data.bin"));
    let late = late(&mirrors[1..]);
    let place = Place::new();
    let mount = place.mount(&faulty_urls(&mirrors), &["--cache-dir", "none"]);
    let mut right = vec![0; SMALL as usize];
    generate(SEED, 0, &mut right);
    assert!(std::fs::read(mount.path("data.bin")).unwrap() != right, "the liar's byte was read, or this shows nothing");
    late.store(false, Ordering::SeqCst);
    wait::until("the liar is named", || !lies(&mount, &mirrors[0].url()).is_empty());
    reading::generated(&mount.path("data.bin"), SEED, SMALL);
    wait::until("what came anew is checked too", || counter(&mount, "hashes_right") >= 1);
    mount.umount();
}

#[test]
fn a_corrected_hash_gives_the_file_another_chance() {
    let folder = |line: String| {
        let tree = Tree::new().with_generated("sub/deep/data.bin", SEED, SIZE);
        tree.with("SHA256SUMS", line.into_bytes())
    };
    // Listed above its own folder, as `sha256sum sub/deep/*` writes it.
    let mirrors = mirrors(2, &folder(sum(SEED + 1, SIZE, "sub/deep/data.bin")));
    let place = Place::new();
    let mount = place.mount(&faulty_urls(&mirrors), &["--entry-lifetime", "1s"]);
    // What lies above is known once it was looked at.
    assert_eq!(std::fs::read_dir(mount.path("")).unwrap().count(), 2);
    assert_eq!(prefetch(&place, "sub/deep/data.bin").status.code(), Some(1));
    assert!(read_byte(&mount.path("sub/deep/data.bin")).is_err());
    let right = sum(SEED, SIZE, "./sub/deep/data.bin");
    for mirror in &mirrors {
        mirror.put("SHA256SUMS", crate::support::faulty::Content::Bytes(right.clone().into_bytes().into()));
    }
    wait::until("the new list is seen, and the file can be read", || {
        std::fs::metadata(mount.path("SHA256SUMS")).is_ok() && read_byte(&mount.path("sub/deep/data.bin")).is_ok()
    });
    let output = prefetch(&place, "sub/deep/data.bin");
    assert!(output.status.success(), "{}", text(&output));
    reading::generated(&mount.path("sub/deep/data.bin"), SEED, SIZE);
    assert_eq!((counter(&mount, "hashes_right"), counter(&mount, "hashes_wrong")), (1, 1));
    mount.umount();
}

/// Who brought them is not remembered over a restart.
#[test]
fn wrong_bytes_of_an_earlier_mount_are_found_and_who_sends_them_by_asking() {
    let mirrors = mirrors(3, &tree());
    mirrors[0].add(Rule::new(Fault::FlipByte(FLIPPED)).under("data.bin"));
    let late = late(&mirrors[1..]);
    let place = Place::new();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    std::fs::read(mount.path("data.bin")).unwrap();
    late.store(false, Ordering::SeqCst);
    // Nothing says what is right, so it is done as it is.
    assert!(prefetch(&place, "data.bin").status.success());
    mount.umount();
    let right = sum(SEED, SIZE, "data.bin");
    for mirror in &mirrors {
        mirror.put("SHA256SUMS", crate::support::faulty::Content::Bytes(right.clone().into_bytes().into()));
    }
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    assert!(prefetch(&place, "data.bin").status.success());
    assert_eq!((counter(&mount, "hashes_right"), counter(&mount, "hashes_wrong")), (1, 1));
    reading::generated(&mount.path("data.bin"), SEED, SIZE);
    let lies: Vec<usize> = mirrors.iter().map(|mirror| lies(&mount, &mirror.url()).len()).collect();
    assert_eq!(lies, [1, 0, 0]);
    mount.umount();
}
