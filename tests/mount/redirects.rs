//! Redirectors in front of signed addresses: followed, remembered, and asked again when refused.

use crate::support::faulty::{Fault, FaultyMirror, Rule, Tree};
use crate::support::mounted::Place;
use crate::support::reading;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SIZE: u64 = 12 << 20;

#[test]
fn targets_are_remembered_until_they_expire() {
    let tree = Tree::new().with_generated("first.bin", 1, SIZE).with_generated("second.bin", 2, SIZE);
    let (redirector, target) = (FaultyMirror::start(tree.clone()), FaultyMirror::start(tree));
    let valid = Arc::new(AtomicU64::new(1));
    // The target takes today's signature only; the redirector hands it out.
    let now_valid = valid.clone();
    let refuse = Rule::new(Fault::Status { code: 403, retry_after_s: None })
        .when(move |request| request.query != format!("signature={}", now_valid.load(Ordering::SeqCst)));
    target.add(refuse.clone());
    let redirect = |signature: u64| {
        redirector.honest();
        redirector.always(Fault::Redirect { base: target.url(), query: format!("signature={signature}") });
    };
    redirect(1);
    let place = Place::new();
    let mount = place.mount(&[redirector.url()], &[]);
    reading::generated(&mount.path("first.bin"), 1, SIZE);
    assert_eq!(target.data_bytes_of("first.bin"), target.data_bytes());
    let (asked, served) = (redirector.data_requests().len(), target.data_requests().len());
    assert!(asked <= served, "{asked} redirects for {served} answers");
    // The signature expires: the next request is refused, and the redirector is asked again.
    valid.store(2, Ordering::SeqCst);
    redirect(2);
    reading::generated(&mount.path("second.bin"), 2, SIZE);
    assert!(!mount.log().contains("signature="), "a signed address is in the log: {}", mount.log());
    mount.umount();
}

#[test]
fn a_signature_that_expires_in_the_middle_of_a_file() {
    let tree = Tree::new().with_generated("data.bin", 1, SIZE);
    let (redirector, target) = (FaultyMirror::start(tree.clone()), FaultyMirror::start(tree));
    redirector.always(Fault::Redirect { base: target.url(), query: "signature=old".into() });
    target
        .add(Rule::new(Fault::Status { code: 403, retry_after_s: None }).when(|r| r.query == "signature=old").from(1));
    let place = Place::new();
    let mount = place.mount(&[redirector.url()], &[]);
    let file = std::fs::File::open(mount.path("data.bin")).unwrap();
    reading::generated_at(&file, 1, 0, 4096).unwrap();
    redirector.honest();
    redirector.always(Fault::Redirect { base: target.url(), query: "signature=new".into() });
    reading::generated(&mount.path("data.bin"), 1, SIZE);
    drop(file);
    mount.umount();
}

#[test]
fn a_redirect_in_a_circle_is_an_error() {
    let mirror = FaultyMirror::start(Tree::new().with_generated("data.bin", 1, SIZE));
    mirror.always(Fault::Redirect { base: mirror.url(), query: String::new() });
    let place = Place::new();
    let mount = place.mount(&[mirror.url()], &["--read-timeout", "3s"]);
    let read = std::fs::File::open(mount.path("data.bin")).and_then(|file| reading::generated_at(&file, 1, 0, 4096));
    assert!(read.is_err());
    mount.umount();
}
