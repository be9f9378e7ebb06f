//! Mirrors that lie in what their status, headers or length say: right bytes from the honest one,
//! and the liar and its lie are named.

use super::{faulty_urls, mirrors};
use crate::support::faulty::{Fault, Rule, Tree};
use crate::support::mounted::{Mount, Place};
use crate::support::{reading, wait};
use std::time::Duration;

const SIZE: u64 = 6 << 20;
const SEED: u64 = 41;

/// Each lie, and a word that `status` must have about it.
fn lies() -> Vec<(Fault, &'static [&'static str])> {
    vec![
        (Fault::ContentRange { start: 4096, end: 4096, total: 0 }, &["bytes"]),
        (Fault::ContentRange { start: 0, end: -1, total: 0 }, &["bytes"]),
        (Fault::ContentRange { start: 0, end: 0, total: 1 }, &["bytes"]),
        (Fault::Gzip, &["gzip"]),
        (Fault::HtmlPage { status: 200 }, &["html"]),
        (Fault::HtmlPage { status: 206 }, &["html", "bytes"]),
        (Fault::ContentLength(10), &["bytes", "length"]),
        (Fault::ContentLength(-10), &["bytes", "length"]),
        (Fault::Multipart, &["range", "multipart"]),
        (Fault::Status { code: 416, retry_after_s: None }, &["416"]),
        (Fault::Status { code: 204, retry_after_s: None }, &["204"]),
    ]
}

fn tree() -> Tree {
    Tree::new().with_generated("data.bin", SEED, SIZE)
}

/// The lies that `status` tells of the mirror, in lower case, once it tells any.
fn lies_told(mount: &Mount, url: &str) -> String {
    wait::for_some("a lie of the mirror in the status", || {
        let mirror = mount.mirror(url);
        let lies = mirror["lies"].as_array().expect("a list of lies");
        (!lies.is_empty()).then(|| mirror["lies"].to_string().to_lowercase())
    })
}

#[test]
fn one_liar_beside_an_honest_mirror() {
    for (lie, words) in lies() {
        println!("{lie:?}");
        let mirrors = mirrors(2, &tree());
        mirrors[0].always(lie.clone());
        // The honest one is slow, so that the liar is asked too.
        mirrors[1].always(Fault::Shape { bytes_per_second: 4 << 20 });
        let place = Place::new();
        let mount = place.mount(&faulty_urls(&mirrors), &[]);
        reading::generated(&mount.path("data.bin"), SEED, SIZE);
        let said = lies_told(&mount, &mirrors[0].url());
        assert!(words.iter().any(|word| said.contains(word)), "{lie:?}: none of {words:?} in {said}");
        let honest = mount.mirror(&mirrors[1].url());
        assert_eq!(honest["lies"], serde_json::json!([]), "the honest one is blamed");
        mount.umount();
    }
}

#[test]
fn three_liars_of_four() {
    let all = lies();
    for three in all.chunks(3) {
        let mirrors = mirrors(4, &tree());
        for (mirror, (lie, _)) in mirrors.iter().zip(three) {
            println!("{lie:?}");
            mirror.always(lie.clone());
        }
        mirrors[3].always(Fault::Shape { bytes_per_second: 4 << 20 });
        let place = Place::new();
        let mount = place.mount(&faulty_urls(&mirrors), &[]);
        reading::generated(&mount.path("data.bin"), SEED, SIZE);
        for (mirror, (lie, _)) in mirrors.iter().zip(three) {
            // With three liars beside it, the honest one may have done it all before the last was asked.
            let asked = !mirror.data_requests().is_empty();
            assert!(!asked || !lies_told(&mount, &mirror.url()).is_empty(), "{lie:?}");
        }
        mount.umount();
    }
}

/// The liars' folders are shown while the honest one has not answered yet: what nobody else can bring waits for it.
#[test]
fn liars_alone_until_the_honest_mirror_answers() {
    let mirrors = mirrors(3, &tree());
    mirrors[..2].iter().for_each(|liar| liar.always(Fault::ContentLength(-10)));
    mirrors[2].add(Rule::everywhere(Fault::Delay(Duration::from_secs(2))));
    let place = Place::new();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    reading::generated(&mount.path("data.bin"), SEED, SIZE);
    mount.umount();
}

#[test]
fn a_liar_alone_gives_an_error_and_never_its_bytes() {
    for (lie, _) in lies() {
        println!("{lie:?}");
        let mirrors = mirrors(1, &tree());
        mirrors[0].always(lie);
        let place = Place::new();
        let mount = place.mount(&faulty_urls(&mirrors), &["--read-timeout", "2s"]);
        let error = std::fs::File::open(mount.path("data.bin"))
            .and_then(|file| reading::generated_at(&file, SEED, 0, 4096))
            .expect_err("no honest byte can come from it");
        assert!(error.raw_os_error().is_some(), "an errno: {error}");
        mount.umount();
    }
}

#[test]
fn etags_that_flip_mix_no_versions() {
    let mirrors = mirrors(2, &tree());
    mirrors[0].always(Fault::FlipEtag);
    let place = Place::new();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    reading::generated(&mount.path("data.bin"), SEED, SIZE);
    mount.umount();
}

#[test]
fn mirrors_without_validators_serve() {
    let mirrors = mirrors(2, &tree());
    mirrors.iter().for_each(|mirror| mirror.always(Fault::NoValidators));
    let place = Place::new();
    let mount = place.mount(&faulty_urls(&mirrors), &[]);
    reading::generated(&mount.path("data.bin"), SEED, SIZE);
    mount.umount();
}
