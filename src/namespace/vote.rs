//! Which version a name leads to: most mirrors, then a known size, then the newest date.

use std::cmp::Reverse;

use super::claim::{Body, Group};
use crate::chunk::MirrorSet;

/// Brings the winning group to the front; the others follow by their smallest mirror, so that the
/// outcome does not depend on the order in which the claims came.
pub(super) fn elect(groups: &mut [Group]) {
    groups.sort_by_key(|group| group.mirrors.iter().next());
    let stands = |at: &usize| !groups.iter().any(|other| other.body.says_more_than(groups[*at].body));
    // Generations count bytes that changed under one size and date. Nothing says which of two is newer to the
    // mirrors, so of equal votes the one that was there first stays: a validator that flaps on one
    // of two mirrors must not take the file from under its readers.
    let rank = |at: &usize| {
        let body = groups[*at].body;
        (votes(body, groups), body.size_bytes().is_some(), body.minute(), Reverse(body.generation), Reverse(*at))
    };
    if let Some(winner) = (0..groups.len()).filter(stands).max_by_key(rank) {
        groups[..=winner].rotate_right(1);
    }
}

fn votes(body: Body, groups: &[Group]) -> usize {
    groups.iter().filter(|group| group.body.agrees(body)).map(|group| group.mirrors.len()).sum()
}

/// The mirrors whose claims can be true of `version`.
pub(super) fn supporters<'a>(version: Body, groups: impl Iterator<Item = &'a Group>) -> MirrorSet {
    groups.filter(|group| group.body.agrees(version)).flat_map(|group| group.mirrors.iter()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Claim, Kind, Modified};
    use super::*;
    use crate::chunk::MirrorId;

    fn group(size_bytes: Option<u64>, minute: Option<i64>, mirrors: &[u16]) -> Group {
        let modified = minute.map(|minute| Modified { unix_s: minute * 60, precise: false });
        let body = Body::listed(&Claim { name: b"a".to_vec(), kind: Kind::File, size_bytes, modified });
        Group { body, mirrors: mirrors.iter().copied().map(MirrorId).collect() }
    }

    fn winner(groups: &mut [Group]) -> (Option<u64>, Option<i64>) {
        elect(groups);
        (groups[0].body.size_bytes(), groups[0].body.minute())
    }

    #[test]
    fn most_mirrors_win_then_the_newest_then_the_smallest_id() {
        assert_eq!(winner(&mut [group(Some(1), Some(9), &[0]), group(Some(2), Some(1), &[1, 2])]), (Some(2), Some(1)));
        assert_eq!(winner(&mut [group(Some(1), Some(1), &[0]), group(Some(2), Some(2), &[1])]), (Some(2), Some(2)));
        assert_eq!(winner(&mut [group(Some(2), Some(1), &[1]), group(Some(1), Some(1), &[0])]), (Some(1), Some(1)));
    }

    #[test]
    fn a_claim_that_says_less_votes_and_does_not_stand() {
        let mut groups =
            [group(None, Some(1), &[0, 1]), group(Some(5), Some(1), &[2]), group(Some(6), Some(2), &[3, 4])];
        assert_eq!(winner(&mut groups), (Some(5), Some(1)));
        let mut groups = [group(None, Some(2), &[0, 1]), group(Some(5), Some(1), &[2])];
        assert_eq!(winner(&mut groups), (None, Some(2)), "the majority has another date, its size is to be asked");
        assert_eq!(winner(&mut [group(Some(5), None, &[0]), group(None, Some(1), &[1])]), (Some(5), None));
    }

    #[test]
    fn of_equal_votes_the_first_generation_stays() {
        let mut second = group(Some(5), Some(1), &[0]);
        second.body.generation = 1;
        let mut groups = [second, group(Some(5), Some(1), &[1])];
        elect(&mut groups);
        assert_eq!(groups[0].body.generation, 0);
    }
}
