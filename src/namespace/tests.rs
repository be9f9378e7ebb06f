//! The rules of the module's doc, one by one.

use std::time::Duration;

use super::*;
use crate::chunk::{Inode, MirrorId, MirrorSet};
use crate::clock::Time;

pub(super) const A: MirrorId = MirrorId(0);
pub(super) const B: MirrorId = MirrorId(1);
pub(super) const C: MirrorId = MirrorId(2);
const DAY: i64 = 1_700_006_400;

pub(super) fn at(seconds: u64) -> Time {
    Time(1_000_000_000_000) + Duration::from_secs(seconds)
}

pub(super) fn tree(mirrors: u64) -> Namespace {
    Namespace::new(Settings::default(), (0..mirrors).map(|at| 1000 + at).collect())
}

/// `minute` minutes after a certain day, seconds known.
pub(super) fn date(minute: i64) -> Option<Modified> {
    Some(Modified { unix_s: DAY + minute * 60 + 17, precise: true })
}

pub(super) fn file(name: &str, size_bytes: impl Into<Option<u64>>, modified: Option<Modified>) -> Claim {
    Claim { name: name.into(), kind: Kind::File, size_bytes: size_bytes.into(), modified }
}

pub(super) fn folder(name: &str) -> Claim {
    Claim { name: name.into(), kind: Kind::Folder, size_bytes: None, modified: date(0) }
}

fn known(tree: &Namespace, name: &str, now: Time) -> (Attributes, Freshness) {
    match tree.lookup(ROOT, name.as_bytes(), now) {
        Ok(Lookup::Known { attributes, freshness }) => (attributes, freshness),
        other => panic!("{name}: {other:?}"),
    }
}

fn inode(tree: &Namespace, name: &str) -> Inode {
    known(tree, name, at(0)).0.inode
}

fn set(mirrors: &[MirrorId]) -> MirrorSet {
    mirrors.iter().copied().collect()
}

fn names(tree: &mut Namespace, folder: Inode) -> Vec<String> {
    match tree.entries(folder, at(0)) {
        Ok(Entries::Known { entries, .. }) => {
            entries.iter().map(|entry| String::from_utf8_lossy(entry.name).into_owned()).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_folder_is_known_as_soon_as_one_mirror_has_listed_it() {
    let mut tree = tree(3);
    assert_eq!(tree.lookup(ROOT, b"a", at(0)), Ok(Lookup::NeedsListing));
    assert_eq!(tree.entries(ROOT, at(0)), Ok(Entries::NeedsListing));
    tree.not_listed(ROOT, B, NotListed::Unreachable, at(0));
    tree.not_listed(ROOT, C, NotListed::Missing, at(0));
    assert_eq!(tree.lookup(ROOT, b"a", at(0)), Ok(Lookup::NeedsListing), "one that has nothing proves nothing");
    let changes = tree.listed(ROOT, A, vec![file("a", 5, date(1)), folder("sub")], at(0));
    assert_eq!((changes.added, changes.gone.len()), (2, 0));
    let (attributes, freshness) = known(&tree, "a", at(20));
    assert_eq!((attributes.size_bytes, attributes.modified_unix_s), (5, DAY + 77));
    assert_eq!((freshness, attributes.lifetime), (Freshness::Fresh, Duration::from_secs(40)));
    assert_eq!(known(&tree, "a", at(60)).1, Freshness::Expired);
    assert_eq!(known(&tree, "a", at(60)).0.lifetime, Duration::ZERO);
    let sub = inode(&tree, "sub");
    assert_eq!(tree.lookup(sub, b"x", at(0)), Ok(Lookup::NeedsListing));
    assert_eq!(tree.lookup(inode(&tree, "a"), b"x", at(0)), Err(NoFolder::NotAFolder(inode(&tree, "a"))));
    for mirror in [A, B, C] {
        tree.not_listed(sub, mirror, NotListed::Missing, at(0));
    }
    assert!(names(&mut tree, sub).is_empty(), "when all say that there is none, it is empty");
}

#[test]
fn a_late_answer_does_not_make_the_others_younger() {
    let mut tree = tree(2);
    tree.listed(ROOT, A, vec![file("a", 5, date(1))], at(0));
    tree.listed(ROOT, B, vec![file("a", 5, date(1))], at(50));
    assert_eq!(known(&tree, "a", at(59)).0.lifetime.as_secs(), 1);
    tree.listed(ROOT, A, vec![file("a", 5, date(1))], at(59));
    assert_eq!(known(&tree, "a", at(59)).0.lifetime.as_secs(), 60, "a second answer begins anew");
    tree.expire(ROOT, at(60));
    assert_eq!(known(&tree, "a", at(60)).1, Freshness::Expired);
}

#[test]
fn paths_lead_there_and_back() {
    let mut tree = tree(1);
    tree.listed(ROOT, A, vec![folder("sub")], at(0));
    let sub = inode(&tree, "sub");
    tree.listed(sub, A, vec![file("a\u{e9}", 5, None), folder("deep")], at(0));
    let Resolved::At { lookup: Lookup::Known { attributes, .. }, rest, .. } =
        tree.resolve("/sub//./a\u{e9}".as_bytes(), at(0))
    else {
        panic!()
    };
    assert!(rest.is_empty());
    assert_eq!(tree.path(attributes.inode).unwrap(), "sub/a\u{e9}".as_bytes());
    assert_eq!(tree.name(attributes.inode), Some((sub, "a\u{e9}".into())));
    assert_eq!(tree.path(ROOT), Some(vec![]));
    assert_eq!(tree.resolve(b"/", at(0)), Resolved::Root);
    let Resolved::At { name, lookup, rest, .. } = tree.resolve(b"sub/deep/er/still", at(0)) else { panic!() };
    assert_eq!((&*name, lookup, &*rest), (&b"er"[..], Lookup::NeedsListing, &b"still"[..]));
    assert_eq!(tree.attributes(attributes.inode, at(0)).unwrap().0.modified_unix_s, 0, "no mirror gives a date");
}

#[test]
fn mirrors_that_serve_a_part_or_lie_are_not_used_for_that_file() {
    let mut tree = tree(4);
    tree.listed(ROOT, A, vec![file("a", 5, date(1)), file("b", 7, date(1))], at(0));
    tree.listed(ROOT, B, vec![file("a", 0, date(1))], at(0));
    tree.listed(ROOT, C, vec![file("a", 5, date(3)), file("b", 7, None)], at(0));
    tree.listed(ROOT, MirrorId(3), vec![file("a", 5, Some(Modified { unix_s: DAY + 60, precise: false }))], at(0));
    let a = tree.version(inode(&tree, "a")).unwrap();
    assert_eq!((a.size_bytes, a.mirrors, a.path), (5, set(&[A, MirrorId(3)]), b"a".to_vec()));
    let why: Vec<_> = a.dissenters.iter().map(|dissenter| (dissenter.mirror, dissenter.why.as_str())).collect();
    assert_eq!(why, [(B, "has 0 bytes instead of 5"), (C, "its date is 2 min later")]);
    let b = tree.version(inode(&tree, "b")).unwrap();
    assert_eq!((b.mirrors, b.dissenters.len(), b.silent), (set(&[A, C]), 0, MirrorSet::new()));
}

#[test]
fn a_folder_and_a_file_of_one_name_are_voted_on() {
    let mut tree = tree(3);
    tree.listed(ROOT, A, vec![folder("x")], at(0));
    let sub = inode(&tree, "x");
    tree.listed(sub, A, vec![file("inner", 1, None)], at(0));
    let inner = tree.resolve(b"x/inner", at(0));
    let Resolved::At { lookup: Lookup::Known { attributes, .. }, .. } = inner else { panic!() };
    tree.remember(attributes.inode, 1);
    tree.listed(ROOT, B, vec![file("x", 4, date(0))], at(0));
    assert_eq!(known(&tree, "x", at(0)).0.kind, Kind::File, "of one each, the one with a size wins");
    assert_eq!(tree.lookup(sub, b"inner", at(0)), Err(NoFolder::Gone(sub)));
    assert_eq!(tree.path(attributes.inode).unwrap(), b"x/inner", "the kernel knows it: it lives on");
    assert!(tree.version(attributes.inode).unwrap().mirrors.is_empty());
    tree.listed(ROOT, C, vec![folder("x")], at(0));
    assert_eq!(inode(&tree, "x"), sub, "a folder's inode depends on its path only");
    tree.forget(attributes.inode, 1);
    assert_eq!(tree.counts().old_inodes, 0);
}

#[test]
fn a_new_version_is_a_new_inode_and_the_old_one_lives_until_forgotten() {
    let mut tree = tree(2);
    tree.listed(ROOT, A, vec![file("a", 5, date(1))], at(0));
    tree.listed(ROOT, B, vec![file("a", 5, date(1))], at(0));
    let old = inode(&tree, "a");
    tree.remember(old, 2);
    let changes = tree.listed(ROOT, A, vec![file("a", 6, date(9))], at(70));
    let new = inode(&tree, "a");
    assert_eq!(changes.gone, [old]);
    assert_ne!(old, new);
    let version = tree.version(old).unwrap();
    assert_eq!((version.size_bytes, version.mirrors), (5, set(&[B])), "the handle goes on with who still has it");
    assert_eq!(tree.attributes(old, at(71)).unwrap().0.size_bytes, 5);
    tree.listed(ROOT, B, vec![file("a", 6, date(9))], at(70));
    assert!(tree.version(old).unwrap().mirrors.is_empty());
    tree.forget(old, 1);
    assert!(tree.version(old).is_some());
    tree.forget(old, 1);
    assert_eq!((tree.version(old), tree.attributes(old, at(71)), tree.path(old)), (None, None, None));
}

#[test]
fn the_date_shown_stays_and_the_inode_with_it() {
    let mut tree = tree(2);
    let minute = Some(Modified { unix_s: DAY + 60, precise: false });
    tree.listed(ROOT, A, vec![file("a", 5, minute)], at(0));
    let before = inode(&tree, "a");
    tree.listed(ROOT, B, vec![file("a", 5, date(1))], at(0));
    tree.listed(ROOT, A, vec![file("a", 5, date(1))], at(100));
    let (attributes, _) = known(&tree, "a", at(100));
    assert_eq!((attributes.modified_unix_s, attributes.inode), (DAY + 60, before));
}

#[test]
fn a_rounded_size_is_asked_for_and_not_shown() {
    let mut tree = tree(2);
    tree.listed(ROOT, A, vec![file("a", None, date(1))], at(0));
    let Ok(Lookup::NeedsSize { inode: number, mirrors }) = tree.lookup(ROOT, b"a", at(0)) else { panic!() };
    assert_eq!(mirrors, set(&[A]));
    assert_eq!((tree.attributes(number, at(0)), tree.version(number)), (None, None));
    let Ok(Entries::Known { entries, .. }) = tree.entries(ROOT, at(0)) else { panic!() };
    assert!(!entries.get(0).unwrap().sized);
    let found = Found::File { size_bytes: 1234, modified: date(1) };
    let learned = tree.learned(ROOT, b"a", A, found, at(1)).unwrap();
    assert_eq!((learned.replaced, learned.agrees), (Some(number), true));
    assert_eq!(known(&tree, "a", at(2)).0.size_bytes, 1234);
    tree.listed(ROOT, A, vec![file("a", None, date(1))], at(70));
    assert_eq!(known(&tree, "a", at(71)).0.inode, learned.inode, "its date stayed, so did its size");
    assert_eq!(known(&tree, "a", at(71)).1, Freshness::Fresh);
    tree.listed(ROOT, A, vec![file("a", None, date(2))], at(140));
    assert!(matches!(tree.lookup(ROOT, b"a", at(140)), Ok(Lookup::NeedsSize { .. })));
    tree.listed(ROOT, B, vec![file("a", 77, date(2))], at(140));
    assert_eq!(known(&tree, "a", at(141)).0.size_bytes, 77, "another mirror knows it exactly");
    assert_eq!(tree.version(inode(&tree, "a")).unwrap().mirrors, set(&[A, B]));
}

#[test]
fn a_listing_without_sizes_and_dates_is_asked_again_later() {
    let mut tree = tree(1);
    tree.listed(ROOT, A, vec![file("a", None, None)], at(0));
    let learned = tree.learned(ROOT, b"a", A, Found::File { size_bytes: 9, modified: date(1) }, at(0)).unwrap();
    tree.listed(ROOT, A, vec![file("a", None, None)], at(70));
    assert_eq!(known(&tree, "a", at(71)).1, Freshness::AskAgain);
    let again = tree.learned(ROOT, b"a", A, Found::File { size_bytes: 9, modified: date(1) }, at(71)).unwrap();
    assert_eq!(again, Learned { inode: learned.inode, replaced: None, agrees: true });
    assert_eq!(known(&tree, "a", at(72)).1, Freshness::Fresh);
    let other = tree.learned(ROOT, b"a", A, Found::File { size_bytes: 9, modified: date(5) }, at(73)).unwrap();
    assert_eq!(other.replaced, Some(learned.inode));
}

#[test]
fn a_path_that_no_listing_shows_is_asked_for_once() {
    let mut tree = tree(2);
    let absent = |tree: &Namespace, seconds| match tree.lookup(ROOT, b"hidden", at(seconds)) {
        Ok(Lookup::Absent { lifetime, ask, unheard, .. }) => (lifetime.as_secs(), ask, unheard.len()),
        other => panic!("{other:?}"),
    };
    tree.listed(ROOT, A, vec![], at(0));
    assert_eq!(absent(&tree, 0), (0, true, 1));
    tree.listed(ROOT, B, vec![], at(0));
    tree.asked(ROOT, b"hidden", at(10));
    assert_eq!(absent(&tree, 20), (40, false, 0), "no longer than the listing");
    assert_eq!(absent(&tree, 70), (0, true, 0));
    let learned = tree.learned(ROOT, b"hidden", B, Found::File { size_bytes: 3, modified: None }, at(70)).unwrap();
    tree.listed(ROOT, B, vec![], at(71));
    assert_eq!(known(&tree, "hidden", at(72)).0.inode, learned.inode, "a listing never showed it: it stays");
    assert_eq!(tree.version(learned.inode).unwrap().mirrors, set(&[B]));
    assert_eq!(known(&tree, "hidden", at(140)).1, Freshness::AskAgain);
    tree.absent(ROOT, b"hidden", B);
    assert_eq!(absent(&tree, 141), (0, true, 0));
}

#[test]
fn where_no_mirror_lists_names_are_asked_for_one_by_one() {
    let mut tree = tree(2);
    tree.not_listed(ROOT, A, NotListed::Refused, at(0));
    assert_eq!(tree.lookup(ROOT, b"a", at(0)), Ok(Lookup::NeedsListing));
    tree.not_listed(ROOT, B, NotListed::Refused, at(0));
    assert!(matches!(tree.lookup(ROOT, b"a", at(0)), Ok(Lookup::Absent { ask: true, .. })));
    assert_eq!(tree.entries(ROOT, at(0)), Ok(Entries::NeedsListing));
    let sub = tree.learned(ROOT, b"sub", A, Found::Folder, at(0)).unwrap().inode;
    tree.listed(sub, A, vec![file("a", 1, None)], at(0));
    assert_eq!(names(&mut tree, sub), ["a"]);
    tree.asked(ROOT, b"no", at(0));
    let Ok(Lookup::Absent { lifetime, ask, .. }) = tree.lookup(ROOT, b"no", at(1)) else { panic!() };
    assert_eq!((lifetime.as_secs(), ask), (59, false));
}

#[test]
fn an_index_that_stays_behind_the_files_does_not_bring_its_claim_back() {
    let mut tree = tree(1);
    tree.listed(ROOT, A, vec![file("a", 5, date(1))], at(0));
    let learned = tree.learned(ROOT, b"a", A, Found::File { size_bytes: 6, modified: date(4) }, at(1)).unwrap();
    assert!(learned.replaced.is_some() && learned.agrees);
    assert!(tree.listed(ROOT, A, vec![file("a", 5, date(1))], at(70)).is_empty());
    assert_eq!(inode(&tree, "a"), learned.inode);
    tree.listed(ROOT, A, vec![file("a", 7, date(9))], at(140));
    assert_eq!(known(&tree, "a", at(140)).0.size_bytes, 7);
}

#[test]
fn an_answer_in_another_zone_than_the_listings_agrees_with_them() {
    let mut tree = tree(2);
    let local = Some(Modified { unix_s: DAY + 7200, precise: false });
    tree.listed(ROOT, A, vec![file("a", 5, local)], at(0));
    let exact = Some(Modified { unix_s: DAY + 12, precise: true });
    let learned = tree.learned(ROOT, b"a", B, Found::File { size_bytes: 5, modified: exact }, at(0)).unwrap();
    assert_eq!((learned.replaced, learned.agrees), (None, true));
    let learned = tree.learned(ROOT, b"a", A, Found::File { size_bytes: 5, modified: exact }, at(0)).unwrap();
    assert_eq!((learned.replaced, learned.agrees), (None, true));
}

#[test]
fn a_mirror_that_changed_is_left_out_until_most_have_changed() {
    let mut tree = tree(3);
    for mirror in [A, B, C] {
        tree.listed(ROOT, mirror, vec![file("a", 5, date(1))], at(0));
    }
    let first = inode(&tree, "a");
    assert_eq!(tree.changed(first, Some(A), at(1)), None);
    assert_eq!(known(&tree, "a", at(1)).1, Freshness::Expired);
    tree.listed(ROOT, A, vec![file("a", 5, date(1))], at(2));
    let version = tree.version(first).unwrap();
    assert_eq!(version.mirrors, set(&[B, C]), "a listing cannot tell: it stays out");
    assert_eq!(version.dissenters[0].why, "has other bytes of the same size and date");
    let second = tree.changed(first, Some(B), at(3)).expect("two of three have moved");
    let version = tree.version(second).unwrap();
    assert_eq!((version.generation, version.mirrors), (1, set(&[A, B])));
    let third = tree.changed(second, None, at(4)).unwrap();
    assert_eq!(tree.version(third).unwrap().generation, 2);
    assert_eq!(tree.changed(first, Some(A), at(5)), None, "nobody is there any more");
}

#[test]
fn only_an_answer_takes_a_name_away() {
    let mut tree = tree(2);
    tree.listed(ROOT, A, vec![file("a", 5, date(1))], at(0));
    tree.listed(ROOT, B, vec![file("b", 5, date(1))], at(0));
    for why in [NotListed::Unreachable, NotListed::Refused] {
        assert!(tree.not_listed(ROOT, A, why, at(70)).is_empty());
    }
    assert_eq!(names(&mut tree, ROOT), ["a", "b"]);
    assert_eq!(tree.listed(ROOT, A, vec![], at(71)).removed, 1);
    assert_eq!(names(&mut tree, ROOT), ["b"]);
    assert_eq!(tree.not_listed(ROOT, B, NotListed::Missing, at(71)).removed, 1);
    assert_eq!(tree.counts().names, 0);
}

#[test]
fn an_open_folder_stays_as_it_was_while_listings_merge() {
    let mut tree = tree(2);
    tree.listed(ROOT, A, vec![file("b", 5, date(1))], at(0));
    let Ok(Entries::Known { entries: open, .. }) = tree.entries(ROOT, at(0)) else { panic!() };
    tree.listed(ROOT, B, vec![file("a", 5, date(1)), file("c", 1, None)], at(0));
    assert_eq!(open.iter().map(|entry| entry.name.to_vec()).collect::<Vec<_>>(), [b"b"]);
    assert_eq!(names(&mut tree, ROOT), ["a", "b", "c"]);
}
