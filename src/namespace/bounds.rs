//! Limits, and what a restart finds.

use std::time::Duration;

use super::tests::*;
use super::*;
use crate::chunk::{FILE_BYTES_MAX, Inode, MirrorId, MirrorSet};

fn look(tree: &Namespace, name: &str) -> (Inode, Freshness) {
    match tree.lookup(ROOT, name.as_bytes(), at(0)) {
        Ok(Lookup::Known { attributes, freshness }) => (attributes.inode, freshness),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn impossible_names_and_sizes_are_refused_and_counted() {
    let mut tree = tree(1);
    let long = "x".repeat(256);
    let claims = ["", ".", "..", "a/b", "a\0b", &long, "ok", "ok"];
    let mut claims: Vec<_> = claims.iter().map(|name| file(name, 1, None)).collect();
    claims.push(file("large", FILE_BYTES_MAX + 1, None));
    assert_eq!(tree.listed(ROOT, A, claims, at(0)).refused, 8);
    assert_eq!((tree.counts().names, tree.counts().refused), (1, 8));
    assert_eq!(tree.learned(ROOT, b"..", A, Found::Folder, at(0)), None);
}

#[test]
fn names_over_the_limit_are_refused_and_the_tree_goes_on() {
    let mut tree = Namespace::new(Settings { max_names: 10, ..Settings::default() }, vec![1]);
    let claims = |count: u32| (0..count).map(|at| file(&format!("{at:04}"), 1, None)).collect();
    assert_eq!(tree.listed(ROOT, A, claims(25), at(0)).refused, 15);
    assert_eq!(tree.counts().names, 10);
    tree.listed(ROOT, A, claims(3), at(0));
    tree.listed(ROOT, A, claims(8), at(0));
    assert_eq!((tree.counts().names, tree.counts().refused), (8, 15));
}

#[test]
fn settings_that_cannot_work_are_named() {
    assert_eq!(Settings::default().validate(), Ok(()));
    let with = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.validate().unwrap_err()
    };
    assert!(with(|settings| settings.max_names = 0).starts_with("max_names is 0"));
    assert!(with(|settings| settings.max_absent = 0).starts_with("max_absent is 0"));
    assert!(with(|settings| settings.entry_lifetime = Duration::MAX).starts_with("entry_lifetime is"));
}

#[test]
fn a_folder_that_lists_itself_ends() {
    let mut tree = tree(1);
    let mut at_folder = ROOT;
    let name = "n".repeat(250);
    for depth in 0..100 {
        let changes = tree.listed(at_folder, A, vec![folder(&name)], at(0));
        if changes.refused > 0 {
            assert_eq!(depth, PATH_BYTES_MAX / 251);
            return;
        }
        let Ok(Lookup::Known { attributes, .. }) = tree.lookup(at_folder, name.as_bytes(), at(0)) else { panic!() };
        at_folder = attributes.inode;
    }
    panic!("it never ended");
}

#[test]
fn listings_that_nobody_needs_are_shed_oldest_first() {
    let mut tree = tree(1);
    tree.listed(ROOT, A, vec![folder("a"), folder("b"), folder("c")], at(0));
    let (a, b, c) = (look(&tree, "a").0, look(&tree, "b").0, look(&tree, "c").0);
    for (seconds, sub) in [(3, a), (2, b), (1, c)] {
        tree.listed(sub, A, vec![file("x", 1, None)], at(seconds));
    }
    let Ok(Lookup::Known { attributes, .. }) = tree.lookup(c, b"x", at(0)) else { panic!() };
    tree.remember(attributes.inode, 1);
    let before = tree.memory_bytes();
    assert_eq!((tree.shed(), tree.shed(), tree.shed()), (Some(b), Some(a), None));
    assert!(tree.memory_bytes() < before);
    assert_eq!(tree.lookup(a, b"x", at(0)), Ok(Lookup::NeedsListing));
    assert_eq!(tree.counts().names, 4);
    tree.forget(attributes.inode, 1);
    assert_eq!(tree.shed(), Some(c));
}

#[test]
fn a_hundred_thousand_names_cost_under_200_bytes_each() {
    let mut tree = tree(3);
    let claims =
        || -> Vec<_> { (0..100_000u64).rev().map(|at| file(&format!("reads-{at:06}.fastq"), at, date(1))).collect() };
    for mirror in [A, B, C] {
        tree.listed(ROOT, mirror, claims(), at(0));
    }
    let each = tree.memory_bytes() / 100_000;
    assert!(each <= 200, "{each} bytes");
    let changes = tree.listed(ROOT, B, claims(), at(90));
    assert!(changes.is_empty());
    tree.not_listed(ROOT, A, NotListed::Missing, at(91));
    tree.not_listed(ROOT, B, NotListed::Missing, at(91));
    assert_eq!(tree.not_listed(ROOT, C, NotListed::Missing, at(91)).removed, 100_000);
    assert_eq!((tree.counts().names, tree.counts().old_inodes), (0, 0));
}

#[test]
fn what_was_saved_is_served_until_a_mirror_says_otherwise() {
    let mut first = tree(2);
    first.listed(ROOT, A, vec![file("a", 5, date(1)), file("gone", 5, date(1)), folder("sub")], at(0));
    first.listed(ROOT, B, vec![file("a", 5, None), file("b", 5, date(1))], at(0));
    first.changed(look(&first, "b").0, None, at(0));
    let saved = first.save(ROOT).unwrap();
    // The mirrors stand in another order now, and a new one is first.
    let mut second = Namespace::new(Settings::default(), vec![77, 1001, 1000]);
    let (b, a) = (MirrorId(1), MirrorId(2));
    assert_eq!(second.restored(ROOT, &saved, at(0)).unwrap().added, 4);
    assert_eq!(look(&second, "a"), (look(&first, "a").0, Freshness::Restored));
    assert_eq!(look(&second, "b").0, look(&first, "b").0, "its generation was saved");
    let version = second.version(look(&second, "a").0).unwrap();
    assert_eq!(version.mirrors, [a, b].into_iter().collect::<MirrorSet>());
    second.not_listed(ROOT, a, NotListed::Unreachable, at(1));
    second.listed(ROOT, b, vec![file("a", 5, None)], at(1));
    assert_eq!(look(&second, "a").1, Freshness::Fresh);
    assert_eq!(look(&second, "gone").1, Freshness::Restored, "its mirror has not answered: it is not deleted");
    assert!(matches!(second.lookup(ROOT, b"b", at(1)), Ok(Lookup::Absent { .. })));
    assert!(second.restored(ROOT, &saved, at(2)).unwrap().is_empty(), "who answered is believed");
    second.listed(ROOT, a, vec![file("a", 5, date(1))], at(3));
    assert!(matches!(second.lookup(ROOT, b"gone", at(3)), Ok(Lookup::Absent { .. })));
}

#[test]
fn saved_listings_of_other_mirrors_or_formats_are_not_used() {
    let mut first = tree(1);
    assert_eq!(first.save(ROOT), None);
    first.listed(ROOT, A, vec![file("a", 5, date(1))], at(0));
    let saved = first.save(ROOT).unwrap();
    let mut other = Namespace::new(Settings::default(), vec![5]);
    assert!(other.restored(ROOT, &saved, at(0)).unwrap().is_empty());
    assert_eq!(other.lookup(ROOT, b"a", at(0)), Ok(Lookup::NeedsListing));
    assert_eq!(other.restored(Inode(99), &saved, at(0)), Err(BadSaved::NoFolder));
    let mut newer = saved[..saved.len() - 16].to_vec();
    newer[0] = 9;
    let hash = blake3::hash(&newer);
    newer.extend_from_slice(&hash.as_bytes()[..16]);
    assert_eq!(other.restored(ROOT, &newer, at(0)), Err(BadSaved::Format(9)));
}

#[test]
fn other_mirrors_take_their_claims_with_them() {
    let mut tree = tree(2);
    tree.listed(ROOT, A, vec![file("a", 5, date(1))], at(0));
    tree.listed(ROOT, B, vec![file("b", 5, date(1)), file("a", 6, date(0))], at(0));
    assert_eq!(tree.mirrors_changed(vec![1000, 4, 5], MirrorSet::first(3), at(0)).removed, 1);
    assert_eq!(look(&tree, "a").1, Freshness::Expired);
    assert!(tree.version(look(&tree, "a").0).unwrap().dissenters.is_empty());
    assert_eq!(tree.unheard(ROOT), [B, C].into_iter().collect::<MirrorSet>());
    tree.mirrors_changed(vec![1000, 4, 5], MirrorSet::first(1), at(0));
    assert!(tree.listed(ROOT, B, vec![file("late", 1, None)], at(0)).is_empty(), "it is no mirror any more");
    assert_eq!(tree.learned(ROOT, b"late", B, Found::Folder, at(0)), None);
}
