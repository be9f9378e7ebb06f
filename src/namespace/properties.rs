//! What holds whatever the mirrors say and in whatever order.

use proptest::prelude::*;

use super::tests::*;
use super::*;
use crate::chunk::{Inode, MirrorId};

fn claims() -> impl Strategy<Value = Vec<Claim>> {
    let claim = (0..6u8, 0..8u8, 0..4u64, 0..4i64).prop_map(|(name, kind, size, minute)| {
        let name = format!("n{name}");
        match kind {
            0 => Claim { modified: date(minute), ..folder(&name) },
            1 => file(&name, None, date(minute)),
            2 => file(&name, size, None),
            3 => file(&name, None, None),
            _ => file(&name, size / 2, date(minute / 2)),
        }
    });
    prop::collection::vec(claim, 0..8)
}

/// All that is visible of the root, and all that is known of who has what.
fn visible(tree: &mut Namespace) -> Vec<String> {
    let Ok(Entries::Known { entries, .. }) = tree.entries(ROOT, at(0)) else { return vec![] };
    let row = |entry: Entry<'_>| {
        let version = tree.version(entry.inode).map(|version| {
            (version.size_bytes, version.generation, version.mirrors, version.dissenters, version.silent)
        });
        let minute = version.as_ref().and_then(|_| tree.attributes(entry.inode, at(0))).map(|(shown, _)| shown);
        let minute = minute.map(|shown| shown.modified_unix_s.div_euclid(60));
        format!("{:?} {:?} {minute:?} {version:?}", entry, String::from_utf8_lossy(entry.name))
    };
    entries.iter().map(row).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Listed(u16, Vec<Claim>),
    NotListed(u16, u8),
    Learned(u16, u8, Option<u64>),
    Absent(u16, u8),
    Changed(u8, Option<u16>),
    Remember(u8),
    Forget(u8),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4u16, claims()).prop_map(|(mirror, claims)| Step::Listed(mirror, claims)),
        1 => (0..4u16, 0..3u8).prop_map(|(mirror, why)| Step::NotListed(mirror, why)),
        2 => (0..4u16, 0..8u8, prop::option::of(0..4u64)).prop_map(|(mirror, name, size)| Step::Learned(mirror, name, size)),
        1 => (0..4u16, 0..8u8).prop_map(|(mirror, name)| Step::Absent(mirror, name)),
        1 => (0..8u8, prop::option::of(0..4u16)).prop_map(|(name, mirror)| Step::Changed(name, mirror)),
        3 => (0..8u8).prop_map(Step::Remember),
        1 => (0..8u8).prop_map(Step::Forget),
        1 => Just(Step::Restart),
    ]
}

fn inode_of(tree: &Namespace, name: u8) -> Option<Inode> {
    match tree.lookup(ROOT, format!("n{name}").as_bytes(), at(0)) {
        Ok(Lookup::Known { attributes, .. }) => Some(attributes.inode),
        _ => None,
    }
}

/// Runs the steps; returns the tree and what the kernel remembers.
fn run(steps: Vec<Step>, mask: u64) -> (Namespace, Vec<Inode>) {
    let mut tree = tree(4);
    tree.inodes.mask = mask;
    let mut kernel = Vec::new();
    for (seconds, step) in steps.into_iter().enumerate() {
        let now = at(seconds as u64);
        match step {
            Step::Listed(mirror, claims) => drop(tree.listed(ROOT, MirrorId(mirror), claims, now)),
            Step::NotListed(mirror, why) => {
                let why = [NotListed::Missing, NotListed::Unreachable, NotListed::Refused][why as usize];
                tree.not_listed(ROOT, MirrorId(mirror), why, now);
            }
            Step::Learned(mirror, name, size) => {
                let found = match size {
                    Some(size_bytes) => Found::File { size_bytes, modified: date(size_bytes as i64 / 2) },
                    None => Found::Folder,
                };
                let learned = tree.learned(ROOT, format!("n{name}").as_bytes(), MirrorId(mirror), found, now);
                assert!(learned.is_some());
            }
            Step::Absent(mirror, name) => drop(tree.absent(ROOT, format!("n{name}").as_bytes(), MirrorId(mirror))),
            Step::Changed(name, mirror) => {
                if let Some(inode) = inode_of(&tree, name) {
                    let new = tree.changed(inode, mirror.map(MirrorId), now);
                    assert_ne!(new, Some(inode));
                }
            }
            Step::Remember(name) => {
                if let Some(inode) = inode_of(&tree, name) {
                    tree.remember(inode, 1);
                    kernel.push(inode);
                }
            }
            Step::Forget(at) => {
                if let Some(inode) = kernel.get(at as usize).copied() {
                    kernel.remove(at as usize);
                    tree.forget(inode, 1);
                }
            }
            Step::Restart => {
                if let Some(saved) = tree.save(ROOT) {
                    let mut next = super::tests::tree(4);
                    next.inodes.mask = mask;
                    next.restored(ROOT, &saved, now).unwrap();
                    (tree, kernel) = (next, Vec::new());
                }
            }
        }
        for inode in &kernel {
            assert!(tree.attributes(*inode, now).is_some() && tree.path(*inode).is_some(), "{inode:?} is lost");
        }
    }
    (tree, kernel)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_does_not_depend_on_the_order_of_the_answers(
        listings in prop::collection::vec((0..4u16, claims()), 0..4),
        last in prop::collection::vec(claims(), 4),
        order in Just([0u16, 1, 2, 3]).prop_shuffle(),
    ) {
        let mut one = tree(4);
        let mut other = tree(4);
        for (mirror, claims) in listings {
            one.listed(ROOT, MirrorId(mirror), claims, at(0));
        }
        for mirror in 0..4 {
            one.listed(ROOT, MirrorId(mirror), last[mirror as usize].clone(), at(0));
        }
        for mirror in order {
            other.listed(ROOT, MirrorId(mirror), last[mirror as usize].clone(), at(0));
        }
        prop_assert_eq!(visible(&mut one), visible(&mut other));
        prop_assert_eq!(one.counts().names, other.counts().names);
    }

    #[test]
    fn what_is_saved_comes_back_the_same(steps in prop::collection::vec(step(), 0..30)) {
        let (mut tree, _) = run(steps, u64::MAX);
        if let Some(saved) = tree.save(ROOT) {
            let mut next = super::tests::tree(4);
            next.restored(ROOT, &saved, at(0)).unwrap();
            prop_assert_eq!(next.save(ROOT).map(|again| (again.len(), next.counts().names)), Some((saved.len(), tree.counts().names)));
            let shown = |tree: &mut Namespace| -> Vec<_> {
                let Ok(Entries::Known { entries, .. }) = tree.entries(ROOT, at(0)) else { return vec![] };
                entries.iter().map(|entry| (entry.name.to_vec(), entry.inode, tree.attributes(entry.inode, at(0))
                    .map(|(shown, _)| (shown.kind, shown.size_bytes, shown.modified_unix_s)),
                    tree.version(entry.inode).map(|version| version.mirrors))).collect()
            };
            let restored = shown(&mut next);
            if !restored.is_empty() {
                prop_assert_eq!(shown(&mut tree), restored);
            }
        }
    }

    #[test]
    fn altered_saved_bytes_are_refused(
        claims in claims(), place in any::<prop::sample::Index>(), bit in 0..8u8, cut in any::<prop::sample::Index>(),
        sealed in any::<bool>(),
    ) {
        let mut tree = tree(4);
        tree.listed(ROOT, A, claims, at(0));
        let mut saved = tree.save(ROOT).unwrap();
        let mut next = super::tests::tree(4);
        let cut_off = next.restored(ROOT, &saved[..cut.index(saved.len())], at(0));
        prop_assert_eq!(cut_off, Err(BadSaved::Damaged));
        let place = place.index(saved.len());
        saved[place] ^= 1 << bit;
        if sealed {
            // Whoever alters the contents and the checksum with it gets no panic and no impossible name.
            saved.truncate(saved.len() - 16);
            let hash = blake3::hash(&saved);
            saved.extend_from_slice(&hash.as_bytes()[..16]);
            let _ = next.restored(ROOT, &saved, at(0));
        } else {
            prop_assert_eq!(next.restored(ROOT, &saved, at(0)), Err(BadSaved::Damaged));
        }
    }

    #[test]
    fn any_saved_bytes_give_names_or_an_error(mut saved in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut tree = tree(4);
        let _ = tree.restored(ROOT, &saved, at(0));
        if let Some(form) = saved.first_mut() {
            // The form that is ours, and a checksum that fits.
            *form = 1;
        }
        saved.extend_from_slice(&blake3::hash(&saved).as_bytes()[..16]);
        let _ = tree.restored(ROOT, &saved, at(0));
    }

    #[test]
    fn forgetting_everything_leaves_nothing(steps in prop::collection::vec(step(), 0..60), crowded in any::<bool>()) {
        let (mut tree, kernel) = run(steps, if crowded { 0x3f } else { u64::MAX });
        for mirror in 0..4 {
            tree.not_listed(ROOT, MirrorId(mirror), NotListed::Missing, at(0));
        }
        prop_assert_eq!(tree.counts().names, 0);
        for inode in kernel {
            prop_assert!(tree.path(inode).is_some());
            tree.forget(inode, 1);
        }
        prop_assert_eq!(tree.counts().old_inodes, 0);
        prop_assert_eq!(tree.inodes.counts(), (0, 0));
    }
}
