//! What one mirror says of one name, and when two such claims can be true of the same version.

use crate::chunk::{FILE_BYTES_MAX, MirrorSet};

/// A folder or a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Holds names.
    Folder,
    /// Holds bytes.
    File,
}

/// A date as a mirror gives it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Modified {
    /// Seconds since 1970.
    pub unix_s: i64,
    /// Seconds are known; else only the minute.
    pub precise: bool,
}

/// What one mirror's listing says of one name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The name, percent-decoded: 1 to 255 bytes without `/` and NUL, not `.` or `..`.
    pub name: Vec<u8>,
    /// A folder or a file.
    pub kind: Kind,
    /// The exact size; `None` where the listing rounds it or does not show it. Not read for a folder.
    pub size_bytes: Option<u64>,
    /// The date, where the listing shows one.
    pub modified: Option<Modified>,
}

/// What a direct answer of a mirror says of one name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// It is a file: the exact total of a range answer and its Last-Modified.
    File {
        /// The exact size.
        size_bytes: u64,
        /// The date, where the answer has one.
        modified: Option<Modified>,
    },
    /// It is a folder: it could be listed.
    Folder,
}

const FOLDER: u8 = 1;
const SIZED: u8 = 2;
const DATED: u8 = 4;
/// The size comes from a direct answer, not from the listing.
const LEARNED_SIZE: u8 = 8;
/// The date comes from a direct answer, not from the listing.
const LEARNED_DATE: u8 = 16;
/// The mirror's listing does not show the name; a direct answer did.
const HIDDEN: u8 = 32;
const ALL_FLAGS: u8 = FOLDER | SIZED | DATED | LEARNED_SIZE | LEARNED_DATE | HIDDEN;

/// A claim without its name, in 24 bytes: there is at least one per name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    size_bytes: u64,
    modified_unix_s: i64,
    /// How often this name's bytes changed while size and date stayed the same.
    pub generation: u32,
    flags: u8,
}

impl Body {
    /// What the listing says.
    pub fn listed(claim: &Claim) -> Body {
        match claim.kind {
            Kind::Folder => Body::new(FOLDER, None, claim.modified.map(|date| date.unix_s)),
            Kind::File => Body::new(0, claim.size_bytes, claim.modified.map(date_shown)),
        }
    }

    /// What a direct answer says.
    pub fn found(found: Found) -> Body {
        match found {
            Found::Folder => Body::new(FOLDER, None, None),
            Found::File { size_bytes, modified } => {
                let mut body = Body::new(0, Some(size_bytes), modified.map(date_shown));
                body.flags |= LEARNED_SIZE | if modified.is_some() { LEARNED_DATE } else { 0 };
                body
            }
        }
    }

    fn new(flags: u8, size_bytes: Option<u64>, modified: Option<i64>) -> Body {
        let sized = if size_bytes.is_some() { SIZED } else { 0 };
        let dated = if modified.is_some() { DATED } else { 0 };
        let (size_bytes, modified_unix_s) = (size_bytes.unwrap_or(0), modified.unwrap_or(0));
        Body { size_bytes, modified_unix_s, generation: 0, flags: flags | sized | dated }
    }

    /// From its saved form; `None` where no claim can look like this.
    pub fn from_saved(flags: u8, size_bytes: u64, modified_unix_s: i64, generation: u32) -> Option<Body> {
        let body = Body { size_bytes, modified_unix_s, generation, flags };
        let sound = flags & !ALL_FLAGS == 0
            && (flags & FOLDER == 0 || flags & (SIZED | LEARNED_SIZE | LEARNED_DATE) == 0)
            && (flags & SIZED != 0 || size_bytes == 0 && flags & LEARNED_SIZE == 0)
            && (flags & DATED != 0 || modified_unix_s == 0 && flags & LEARNED_DATE == 0)
            && size_bytes <= FILE_BYTES_MAX;
        sound.then_some(body)
    }

    /// For saving: flags, size, date, generation.
    pub fn to_saved(self) -> (u8, u64, i64, u32) {
        (self.flags, self.size_bytes, self.modified_unix_s, self.generation)
    }

    pub fn kind(self) -> Kind {
        if self.flags & FOLDER != 0 { Kind::Folder } else { Kind::File }
    }

    pub fn size_bytes(self) -> Option<u64> {
        (self.flags & SIZED != 0).then_some(self.size_bytes)
    }

    pub fn modified_unix_s(self) -> Option<i64> {
        (self.flags & DATED != 0).then_some(self.modified_unix_s)
    }

    /// The date as far as all mirrors show it. A folder's says nothing about what it holds.
    pub fn minute(self) -> Option<i64> {
        self.modified_unix_s().filter(|_| self.kind() == Kind::File).map(|unix_s| unix_s.div_euclid(60))
    }

    /// The same claim with the date that is shown of its version.
    pub fn dated_as(mut self, shown_unix_s: i64) -> Body {
        if self.kind() == Kind::Folder {
            // A folder's date is for show only, and 0 where there was none.
            self.flags = if shown_unix_s == 0 { self.flags & !DATED } else { self.flags | DATED };
            self.modified_unix_s = shown_unix_s;
        } else if self.minute() == Some(shown_unix_s.div_euclid(60)) {
            self.modified_unix_s = shown_unix_s;
        }
        self
    }

    /// A listing cannot say whether this is still so: only asking again can.
    pub fn needs_asking(self) -> bool {
        let undated = self.flags & DATED == 0 || self.flags & LEARNED_DATE != 0;
        self.flags & HIDDEN != 0 || self.flags & LEARNED_SIZE != 0 && undated
    }

    /// Its mirror's listing does not show it.
    pub fn is_hidden(self) -> bool {
        self.flags & HIDDEN != 0
    }

    /// Names the same version. A folder has one version only.
    pub fn same_version(self, other: Body) -> bool {
        self.kind() == other.kind()
            && (self.kind() == Kind::Folder
                || (self.size_bytes(), self.minute(), self.generation)
                    == (other.size_bytes(), other.minute(), other.generation))
    }

    /// Says the same in the same way: may share a group.
    pub fn same(self, other: Body) -> bool {
        let told = |body: Body| body.flags & (LEARNED_SIZE | LEARNED_DATE | HIDDEN);
        self.same_version(other) && told(self) == told(other)
    }

    /// Can be true of the same version.
    pub fn agrees(self, other: Body) -> bool {
        let equal_or_unsaid = |a: Option<i64>, b: Option<i64>| a.is_none() || b.is_none() || a == b;
        let size = |body: Body| body.size_bytes().map(|size| size as i64);
        self.kind() == other.kind()
            && (self.kind() == Kind::Folder
                || self.generation == other.generation
                    && equal_or_unsaid(size(self), size(other))
                    && equal_or_unsaid(self.minute(), other.minute()))
    }

    /// Says all that `other` says, and more.
    pub fn says_more_than(self, other: Body) -> bool {
        let said = |body: Body| body.flags & (SIZED | DATED);
        self.kind() == Kind::File
            && self.agrees(other)
            && said(self) != said(other)
            && said(self) & said(other) == said(other)
    }

    /// This new listing's claim, with what direct answers of the same mirror (`before`) have added to
    /// the last one, as far as the listing does not contradict it.
    pub fn keeping_learned(mut self, before: Body) -> Body {
        let file = self.kind() == Kind::File && before.kind() == Kind::File;
        let date_holds = match (self.modified_unix_s(), before.modified_unix_s()) {
            (Some(new), Some(old)) if before.flags & LEARNED_DATE != 0 => same_in_some_zone(new, old),
            (Some(_), Some(_)) => self.minute() == before.minute(),
            _ => true,
        };
        let size_holds = self.flags & SIZED == 0 || self.size_bytes == before.size_bytes;
        if !file || !date_holds || !size_holds {
            return self;
        }
        if self.flags & SIZED == 0 && before.flags & LEARNED_SIZE != 0 {
            self.size_bytes = before.size_bytes;
            self.flags |= SIZED | LEARNED_SIZE;
        }
        if self.flags & DATED == 0 && before.flags & LEARNED_DATE != 0 && self.flags & SIZED != 0 {
            self.modified_unix_s = before.modified_unix_s;
            self.flags |= DATED | LEARNED_DATE;
        }
        self
    }

    /// This claim after the same mirror's direct answer `found`; `true` where the answer contradicts it.
    pub fn after(self, found: Found) -> (Body, bool) {
        let Found::File { size_bytes, modified } = found else {
            return (if self.kind() == Kind::Folder { self } else { Body::found(found) }, self.kind() == Kind::File);
        };
        let date_holds = match (self.modified_unix_s(), modified) {
            (Some(listed), Some(date)) => same_in_some_zone(listed, date.unix_s),
            _ => true,
        };
        let size_holds = self.size_bytes().is_none_or(|size| size == size_bytes);
        if self.kind() == Kind::Folder || !date_holds || !size_holds {
            return (Body::found(found), true);
        }
        let mut body = self;
        if self.flags & SIZED == 0 {
            body.size_bytes = size_bytes;
            body.flags |= SIZED | LEARNED_SIZE;
            // A sized claim without a date stays so: a date that comes with the first bytes would give the
            // file another inode under the reader who fetched them.
            if let (None, Some(date)) = (self.minute(), modified) {
                body.modified_unix_s = date_shown(date);
                body.flags |= DATED | LEARNED_DATE;
            }
        }
        (body, false)
    }

    /// The answer `found`, of a mirror whose listing says nothing of use. Where it fits `leading`, which others list,
    /// it takes over its date: an exact date and a listed one of the same version may be hours apart.
    pub fn answered(found: Found, leading: Body) -> Body {
        let mut body = Body::found(found);
        let (fitting, contradicted) = leading.after(found);
        if body.kind() == Kind::File && !contradicted {
            body.flags = fitting.flags & (SIZED | DATED) | LEARNED_SIZE;
            body.flags |= if fitting.flags & DATED != 0 { LEARNED_DATE } else { 0 };
            body.modified_unix_s = fitting.modified_unix_s;
        }
        body.of_generation(leading.generation)
    }

    /// The same as a claim that no listing shows.
    pub fn as_hidden(mut self) -> Body {
        self.flags |= HIDDEN;
        self
    }

    /// The same of another generation.
    pub fn of_generation(self, generation: u32) -> Body {
        Body { generation, ..self }
    }

    /// A listing that says the same as this one, whatever the generation.
    pub fn same_listing(self, other: Body) -> bool {
        self.of_generation(other.generation).same(other)
    }

    /// What the listing alone said.
    pub fn without_learned(mut self) -> Body {
        if self.flags & LEARNED_SIZE != 0 {
            self.flags &= !(SIZED | LEARNED_SIZE);
            self.size_bytes = 0;
        }
        if self.flags & LEARNED_DATE != 0 {
            self.flags &= !(DATED | LEARNED_DATE);
            self.modified_unix_s = 0;
        }
        self
    }
}

/// Mirrors that say the same of a name.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub body: Body,
    pub mirrors: MirrorSet,
}

/// Seconds that are not known are not shown.
fn date_shown(date: Modified) -> i64 {
    if date.precise { date.unix_s } else { date.unix_s.div_euclid(60) * 60 }
}

/// Can a listed date and an exact one be of the same version? Index pages give local time without saying which; zones
/// differ by quarters of an hour, at most 14 hours from UTC. Only a date without seconds can come from such a page.
pub fn same_in_some_zone(listed_unix_s: i64, exact_unix_s: i64) -> bool {
    let minutes = listed_unix_s.div_euclid(60) - exact_unix_s.div_euclid(60);
    minutes == 0 || listed_unix_s.rem_euclid(60) == 0 && minutes % 15 == 0 && minutes.abs() <= 14 * 60
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size_bytes: Option<u64>, unix_s: Option<i64>, precise: bool) -> Body {
        let modified = unix_s.map(|unix_s| Modified { unix_s, precise });
        Body::listed(&Claim { name: b"a".to_vec(), kind: Kind::File, size_bytes, modified })
    }

    fn answer(size_bytes: u64, unix_s: Option<i64>) -> Found {
        Found::File { size_bytes, modified: unix_s.map(|unix_s| Modified { unix_s, precise: true }) }
    }

    #[test]
    fn claims_agree_where_size_and_minute_do() {
        assert!(file(Some(5), Some(61), true).agrees(file(Some(5), Some(119), false)));
        assert!(!file(Some(5), Some(59), true).agrees(file(Some(5), Some(60), false)));
        assert!(!file(Some(5), Some(60), true).agrees(file(Some(6), Some(60), true)));
        assert!(file(Some(5), None, true).agrees(file(Some(5), Some(60), true)));
        assert!(file(None, Some(-1), true).agrees(file(Some(5), Some(-59), true)));
        assert!(!file(Some(0), Some(60), true).agrees(file(Some(u64::MAX >> 20), Some(60), true)));
    }

    #[test]
    fn an_answer_completes_a_rounded_claim_and_keeps_the_listed_date() {
        let (body, contradicted) = file(None, Some(3600), false).after(answer(7, Some(7201)));
        assert!(!contradicted, "another zone's clock is no other version");
        assert_eq!((body.size_bytes(), body.modified_unix_s()), (Some(7), Some(3600)));
        assert!(!body.needs_asking(), "the listing's date vouches for the size");
        let (body, _) = file(None, None, false).after(answer(7, Some(7201)));
        assert_eq!((body.size_bytes(), body.modified_unix_s()), (Some(7), Some(7201)));
        assert!(body.needs_asking());
        assert!(body.without_learned().same(file(None, None, false)));
    }

    #[test]
    fn an_answer_of_another_size_or_date_contradicts() {
        assert!(file(Some(5), Some(3600), false).after(answer(6, Some(3600))).1);
        assert!(file(Some(5), Some(3600), false).after(answer(5, Some(3600 + 61 * 60))).1);
        assert!(file(Some(5), Some(3601), true).after(answer(5, Some(7201))).1, "seconds were known: no zone to guess");
        assert!(!file(Some(5), None, false).after(answer(5, Some(3600))).1);
    }

    #[test]
    fn a_new_listing_keeps_what_was_learned_while_its_date_stays() {
        let (learned, _) = file(None, Some(3600), false).after(answer(7, None));
        assert_eq!(file(None, Some(3600), false).keeping_learned(learned).size_bytes(), Some(7));
        assert_eq!(file(None, Some(3660), false).keeping_learned(learned).size_bytes(), None);
        let (learned, _) = file(None, None, false).after(answer(7, Some(50)));
        assert!(file(None, None, false).keeping_learned(learned).same(learned));
    }
}
