//! Do the mirrors of a file serve the same bytes? Nobody's word is taken for it (spec 7.2).
//!
//! Whoever brings the first bytes of a file version is its reference. Another's bytes are used beside them once a
//! page of it was compared with one that is held and was the same: then it is *kin* to the reference.
//! What differs is *odd*, unless more mirrors say the same as it: then the kin are.
//!
//! Invariant: all pages of a file that are held were brought by mirrors of its kin, or by an earlier mount.

use super::action::ComparisonId;
use super::marks::Marks;
use crate::chunk::{MIRRORS_MAX, MirrorId, MirrorSet};
use crate::clock::Time;
use std::fmt;
use std::str::FromStr;

/// Smaller files come from one mirror each: they are one or two requests, and to compare costs another.
pub(super) const MIXED_BYTES_MIN: u64 = 1 << 20;
/// A mirror that brings bytes of a file is compared again each time that so many came: 1 in 2,000 of them.
const RECHECK_BYTES: u64 = 8 << 20;

/// When bytes are believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// The first mirror of a file version is believed until another contradicts it.
    #[default]
    First,
    /// Nothing of a file version is delivered before two mirrors agree on a page of it.
    Quorum,
}

impl Verify {
    /// Its name in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Verify::First => "first",
            Verify::Quorum => "quorum",
        }
    }
}

impl fmt::Display for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that is no [`Verify`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a way to verify: give first or quorum")]
pub struct BadVerify(String);

impl FromStr for Verify {
    type Err = BadVerify;

    fn from_str(text: &str) -> Result<Verify, BadVerify> {
        [Verify::First, Verify::Quorum]
            .into_iter()
            .find(|verify| verify.name() == text)
            .ok_or_else(|| BadVerify(text.to_owned()))
    }
}

/// How a mirror stands to the bytes of a file that are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the reference, or was compared and serves the same.
    Agrees,
    /// It is being compared just now.
    Compared,
    /// It was not compared yet.
    Unknown,
    /// It serves something else on this page.
    Differs {
        /// Which page.
        page: u64,
    },
}

/// A comparison on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) comparison: ComparisonId,
    pub(super) mirror: MirrorId,
    pub(super) page: u64,
    pub(super) until: Time,
}

/// A page of a mirror that is not what is held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Odd {
    pub(super) mirror: MirrorId,
    pub(super) page: u64,
    /// Of its page; none where that was held before most contradicted it.
    pub(super) digest: Option<u64>,
}

/// What the votes on a page come to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// These serve something else than most.
    Odd(Vec<MirrorId>),
    /// What is held is not what most serve: these agree against it.
    Overturned(MirrorSet),
    /// More votes are needed.
    Open,
}

/// Mirrors whose bytes may be in one file together: bits, since each decision about it looks at them.
#[derive(Clone, Debug, Default)]
pub(super) struct Members(Marks);

impl Members {
    pub(super) fn is_empty(&self) -> bool {
        !self.0.any()
    }

    pub(super) fn len(&self) -> usize {
        self.0.count()
    }

    pub(super) fn contains(&self, mirror: MirrorId) -> bool {
        self.0.contains(usize::from(mirror.0))
    }

    pub(super) fn insert(&mut self, mirror: MirrorId) {
        self.0.insert(usize::from(mirror.0));
    }

    pub(super) fn remove(&mut self, mirror: MirrorId) {
        self.0.remove(usize::from(mirror.0));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = MirrorId> + '_ {
        (0..MIRRORS_MAX as u16).map(MirrorId).filter(|&mirror| self.contains(mirror))
    }
}

/// What is known of the sameness of one file's mirrors.
#[derive(Clone, Debug, Default)]
pub(super) struct Agreement {
    /// The bytes of these, and of nobody else, may be in the file together.
    pub(super) kin: Members,
    /// While nobody has brought anything: who was asked for it.
    pub(super) candidate: Option<MirrorId>,
    /// What is held was brought by somebody whom we do not know.
    pub(super) anonymous: bool,
    /// Two mirrors agreed on a page of it, in this mount or before.
    pub(super) confirmed: bool,
    /// Where mirrors are compared, and whose page there is the one that is held, beside who brought it.
    pub(super) page: Option<u64>,
    pub(super) same: MirrorSet,
    pub(super) asked: Vec<Asked>,
    pub(super) odd: Vec<Odd>,
    /// Somebody contradicts what is held, and it is not decided yet who is right.
    pub(super) disputed: bool,
    /// Another mirror is needed, though the file is small.
    pub(super) wanted: bool,
    /// And of whatever tier, for nobody of the kin sends anything.
    pub(super) wanted_any: bool,
    /// There is nothing to look at just now.
    pub(super) settled: bool,
    /// The names of odd ones were taken to be other versions: none of this one is left.
    pub(super) renewed: bool,
    /// It was told that nobody confirms it.
    pub(super) refused: bool,
    /// Comparisons so far.
    pub(super) compared: u64,
    /// Bytes that came in all, and since the last comparison of somebody who brings them.
    pub(super) brought_bytes: u64,
    unchecked_bytes: u64,
}

impl Agreement {
    /// Leave only those whose bytes may be used.
    #[inline(always)]
    pub(super) fn filter(&self, mirrors: &mut Marks) {
        if !self.kin.is_empty() {
            mirrors.keep(&self.kin.0);
        } else if self.anonymous {
            mirrors.clear();
        } else if let Some(first) = self.candidate.map(|first| usize::from(first.0))
            && mirrors.contains(first)
        {
            mirrors.clear();
            mirrors.insert(first);
        }
    }

    /// The same for those who may be asked beside the first one: whoever brings something first is the reference.
    #[inline(always)]
    pub(super) fn filter_others(&self, mirrors: &mut Marks) {
        if !self.kin.is_empty() || self.anonymous {
            self.filter(mirrors);
        }
    }

    /// May bytes of this one be used?
    pub(super) fn may(&self, mirror: MirrorId) -> bool {
        match self.kin.is_empty() {
            true => !self.anonymous && self.candidate.is_none_or(|first| first == mirror),
            false => self.kin.contains(mirror),
        }
    }

    /// Could it be asked beside the first one?
    pub(super) fn could(&self, mirror: MirrorId) -> bool {
        if self.kin.is_empty() { !self.anonymous } else { self.kin.contains(mirror) }
    }

    /// It is asked for some of the file: while nobody has brought anything, nobody else is.
    pub(super) fn ask_first(&mut self, mirror: MirrorId) {
        if self.kin.is_empty() {
            self.candidate = Some(mirror);
        }
    }

    /// It brought the first bytes: nobody else's are used beside them unless they are the same.
    pub(super) fn begin(&mut self, reference: MirrorId) {
        self.kin.insert(reference);
        (self.candidate, self.settled) = (None, false);
    }

    /// Its page is the one that is held.
    pub(super) fn agree(&mut self, mirror: MirrorId, page: u64) {
        if self.page == Some(page) {
            self.same.insert(mirror);
        }
        self.kin.insert(mirror);
        self.anonymous = false;
        // What was held without a name is confirmed by the second who agrees with it.
        self.confirmed |= self.kin.len() >= 2;
        self.settled = false;
    }

    /// Its page is not.
    pub(super) fn differ(&mut self, odd: Odd) {
        if self.page != Some(odd.page) {
            self.at(odd.page);
        }
        self.same.remove(odd.mirror);
        self.odd.retain(|other| (other.mirror, other.page) != (odd.mirror, odd.page));
        self.odd.push(odd);
        (self.disputed, self.settled) = (true, false);
    }

    /// Mirrors are compared on this page from now on.
    pub(super) fn at(&mut self, page: u64) {
        self.page = Some(page);
        self.same = MirrorSet::new();
    }

    /// What the votes on the page come to, where somebody contradicts what is held.
    pub(super) fn count(&self, more_to_come: bool) -> Outcome {
        let Some(page) = self.page else { return Outcome::Open };
        let odd = || self.odd.iter().filter(|odd| odd.page == page);
        // Somebody brought it, whoever that was.
        let held = self.same.len().max(1);
        let like = |digest| odd().filter(move |other| other.digest == digest).map(|odd| odd.mirror);
        // Of equal ones the first: whatever the order, the same for the same votes.
        let voters = odd().filter(|odd| odd.digest.is_some());
        let most = voters
            .map(|odd| like(odd.digest).collect::<MirrorSet>())
            .reduce(|most, other| if other.len() > most.len() { other } else { most });
        let Some(most) = most else { return Outcome::Open };
        if most.len() > held && (most.len() >= 2 || !more_to_come) {
            return Outcome::Overturned(most);
        }
        if (held >= 2 && held >= most.len()) || !more_to_come {
            return Outcome::Odd(odd().map(|odd| odd.mirror).collect());
        }
        Outcome::Open
    }

    /// Most serve something else than what is held: these are believed from now on. Returns who served what is held.
    pub(super) fn overturn(&mut self, most: MirrorSet) -> MirrorSet {
        let page = self.page.unwrap_or(0);
        // Who differs elsewhere differs from what is not believed any more.
        self.odd.retain(|odd| odd.page == page && !most.contains(odd.mirror));
        let wrong = std::mem::take(&mut self.same);
        self.odd.extend(wrong.iter().map(|mirror| Odd { mirror, page, digest: None }));
        self.confirmed = most.len() >= 2;
        self.kin = Members::default();
        most.iter().for_each(|mirror| self.kin.insert(mirror));
        wrong
    }

    /// Is it known whether this one's page is the one that is held?
    pub(super) fn has_voted(&self, mirror: MirrorId) -> bool {
        self.same.contains(mirror) || self.odd.iter().any(|odd| odd.mirror == mirror && Some(odd.page) == self.page)
    }

    /// Nothing is held any more.
    pub(super) fn forget_pages(&mut self) {
        (self.page, self.same, self.candidate) = (None, MirrorSet::new(), None);
        (self.anonymous, self.disputed, self.settled) = (false, false, false);
        (self.brought_bytes, self.unchecked_bytes) = (0, 0);
    }

    /// Bytes of a mirror of the kin came. Returns whether it is time to compare it again.
    pub(super) fn came(&mut self, bytes: u64) -> bool {
        self.brought_bytes += bytes;
        self.unchecked_bytes += bytes;
        let due = self.kin.len() >= 2 && self.unchecked_bytes >= RECHECK_BYTES;
        if due {
            self.unchecked_bytes = 0;
        }
        due
    }

    pub(super) fn is_asked(&self, mirror: MirrorId) -> bool {
        self.asked.iter().any(|asked| asked.mirror == mirror)
    }

    pub(super) fn is_odd(&self, mirror: MirrorId) -> bool {
        self.odd.iter().any(|odd| odd.mirror == mirror)
    }

    /// How it stands to what is held.
    pub(super) fn standing(&self, mirror: MirrorId) -> Standing {
        match self.odd.iter().find(|odd| odd.mirror == mirror) {
            Some(odd) => Standing::Differs { page: odd.page },
            None if self.kin.contains(mirror) => Standing::Agrees,
            None if self.is_asked(mirror) => Standing::Compared,
            None => Standing::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn odd(mirror: u16, page: u64, digest: u64) -> Odd {
        Odd { mirror: MirrorId(mirror), page, digest: Some(digest) }
    }

    fn begun(page: u64) -> Agreement {
        let mut agreement = Agreement::default();
        agreement.begin(MirrorId(0));
        agreement.at(page);
        agreement.same.insert(MirrorId(0));
        agreement
    }

    #[test]
    fn one_against_one_is_open_until_nobody_else_can_speak() {
        let mut agreement = begun(7);
        agreement.differ(odd(1, 7, 5));
        assert_eq!(agreement.count(true), Outcome::Open);
        assert_eq!(agreement.count(false), Outcome::Odd(vec![MirrorId(1)]), "the first is believed");
        assert!(agreement.disputed && agreement.standing(MirrorId(1)) == Standing::Differs { page: 7 });
    }

    #[test]
    fn a_third_decides_for_either() {
        let mut agreement = begun(7);
        agreement.differ(odd(1, 7, 5));
        let mut other = agreement.clone();
        agreement.agree(MirrorId(2), 7);
        assert_eq!(agreement.count(true), Outcome::Odd(vec![MirrorId(1)]));
        other.differ(odd(2, 7, 5));
        let most = [MirrorId(1), MirrorId(2)].into_iter().collect();
        assert_eq!(other.count(true), Outcome::Overturned(most));
        let Outcome::Overturned(most) = other.count(true) else { panic!() };
        assert_eq!(other.overturn(most), MirrorSet::first(1));
        assert!(other.may(MirrorId(1)) && other.may(MirrorId(2)) && !other.may(MirrorId(0)) && other.confirmed);
    }

    #[test]
    fn three_that_all_differ_leave_the_first() {
        let mut agreement = begun(7);
        agreement.differ(odd(1, 7, 5));
        agreement.differ(odd(2, 7, 6));
        assert_eq!(agreement.count(true), Outcome::Open);
        assert_eq!(agreement.count(false), Outcome::Odd(vec![MirrorId(1), MirrorId(2)]));
    }

    #[test]
    fn before_the_first_page_only_the_first_is_asked_and_others_may_race_it() {
        let mut agreement = Agreement { candidate: Some(MirrorId(1)), ..Agreement::default() };
        let mut all = Marks::default();
        all.insert_first(3);
        let (mut may, mut could) = (all, all);
        agreement.filter(&mut may);
        agreement.filter_others(&mut could);
        assert!(may.contains(1) && may.count() == 1 && could == all);
        // Where it may not be asked any more, anybody is the first.
        let mut others = all;
        others.remove(1);
        let before = others;
        agreement.filter(&mut others);
        assert_eq!(others, before);
        agreement.begin(MirrorId(2));
        for mirrors in [&mut may, &mut could] {
            *mirrors = all;
            agreement.filter_others(mirrors);
            assert!(mirrors.contains(2) && mirrors.count() == 1);
        }
    }

    #[test]
    fn what_nobody_known_brought_is_mixed_with_nothing_before_a_comparison() {
        let mut agreement = Agreement { anonymous: true, ..Agreement::default() };
        let mut all = Marks::default();
        all.insert_first(2);
        agreement.filter(&mut all);
        assert!(!all.any() && !agreement.may(MirrorId(0)) && !agreement.could(MirrorId(0)));
        agreement.agree(MirrorId(1), 3);
        assert!(agreement.may(MirrorId(1)) && !agreement.may(MirrorId(0)));
    }

    proptest! {
        /// Mirrors with hidden contents, compared in any order on any page: those that may deliver are all alike.
        #[test]
        fn two_that_differ_never_both_deliver(
            contents in prop::collection::vec(0u64..3, 2..8),
            steps in prop::collection::vec((0usize..8, 0u64..4, any::<bool>()), 1..60),
        ) {
            let mut agreement = Agreement::default();
            let mut held = None;
            for (at, page, more) in steps {
                let (mirror, content) = (MirrorId((at % contents.len()) as u16), contents[at % contents.len()]);
                match held {
                    None if agreement.may(mirror) => {
                        agreement.begin(mirror);
                        held = Some(content);
                    }
                    None => {}
                    Some(here) if here == content => agreement.agree(mirror, page),
                    Some(_) => agreement.differ(odd(mirror.0, page, content)),
                }
                match agreement.count(more) {
                    _ if !agreement.disputed => {}
                    Outcome::Open => {}
                    Outcome::Odd(all) => {
                        agreement.disputed = false;
                        all.into_iter().for_each(|mirror| agreement.kin.remove(mirror));
                    }
                    Outcome::Overturned(most) => {
                        agreement.overturn(most);
                        agreement.forget_pages();
                        held = agreement.kin.iter().next().map(|mirror| contents[usize::from(mirror.0)]);
                    }
                }
                let may: Vec<u64> = (0..contents.len()).filter(|&at| agreement.kin.contains(MirrorId(at as u16))).map(|at| contents[at]).collect();
                prop_assert!(may.windows(2).all(|pair| pair[0] == pair[1]), "{:?}: {:?}", contents, agreement);
                prop_assert!(may.iter().all(|&content| Some(content) == held));
            }
        }
    }
}
