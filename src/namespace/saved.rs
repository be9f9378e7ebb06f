//! A folder's merged listing as bytes, to be served at once by the next run.
//!
//! Version, mirror labels, then each name with its groups of claims; the first 16 bytes of a BLAKE3 hash of all that
//! stand at the end. Numbers are little-endian.

use super::claim::Body;
use super::inode::ROOT;
use super::merge::{Changes, From, name_is_possible};
use super::tree::Namespace;
use crate::chunk::{Inode, MIRRORS_MAX, MirrorId};
use crate::clock::Time;

const FORMAT: u8 = 1;
const HASH_BYTES: usize = 16;

/// Saved bytes that are of no use. The folder is listed anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadSaved {
    /// Altered or cut off.
    #[error("the saved listing is damaged (its checksum does not match): it is dropped and the folder listed anew")]
    Damaged,
    /// Written by another release.
    #[error("the saved listing has format {0}, this release reads {FORMAT}: it is dropped and the folder listed anew")]
    Format(u8),
    /// The checksum holds and the contents make no sense.
    #[error("the saved listing makes no sense at byte {0}: it is dropped and the folder listed anew")]
    Senseless(usize),
    /// The folder is not there.
    #[error("the folder of the saved listing is gone: its parent is to be listed or restored first")]
    NoFolder,
}

/// What one mirror claimed in the last run.
type Claims = Vec<(Vec<u8>, Body)>;

impl Namespace {
    /// All that is claimed in `folder`, to be given to [`Namespace::restored`] by a later run. `None` where nobody
    /// has listed it.
    pub fn save(&self, folder: Inode) -> Option<Vec<u8>> {
        let state = self.folders.get(&folder)?;
        if state.listed.is_empty() && state.restored.is_empty() && state.order.is_empty() {
            return None;
        }
        let mut out = Vec::with_capacity(64 + state.order.len() * 48);
        out.push(FORMAT);
        out.extend_from_slice(&(self.labels.len() as u16).to_le_bytes());
        let known = self.labels.iter().enumerate();
        for (at, label) in known {
            out.extend_from_slice(&label.to_le_bytes());
            let mirror = MirrorId(at as u16);
            out.push(u8::from(state.listed.contains(mirror) || state.restored.contains(mirror)));
        }
        out.extend_from_slice(&(state.order.len() as u32).to_le_bytes());
        for slot in state.slots() {
            let (name, entry) = (state.name(slot), state.entry(slot));
            out.push(name.len() as u8);
            out.extend_from_slice(name);
            out.extend_from_slice(&(entry.groups().count() as u16).to_le_bytes());
            for group in entry.groups() {
                // The date that was shown stays the one that is shown.
                let (flags, size_bytes, modified_unix_s, generation) =
                    group.body.dated_as(entry.shown_unix_s).to_saved();
                out.push(flags);
                out.extend_from_slice(&size_bytes.to_le_bytes());
                out.extend_from_slice(&modified_unix_s.to_le_bytes());
                out.extend_from_slice(&generation.to_le_bytes());
                out.extend_from_slice(&(group.mirrors.len() as u16).to_le_bytes());
                group.mirrors.iter().for_each(|mirror| out.extend_from_slice(&mirror.0.to_le_bytes()));
            }
        }
        let hash = blake3::hash(&out);
        out.extend_from_slice(&hash.as_bytes()[..HASH_BYTES]);
        Some(out)
    }

    /// Takes over what [`Namespace::save`] wrote in an earlier run, for those mirrors that are still there and have
    /// not answered yet in this one. It is served at once ([`super::Freshness::Restored`]) until they do.
    pub fn restored(&mut self, folder: Inode, saved: &[u8], now: Time) -> Result<Changes, BadSaved> {
        if folder != ROOT && self.inodes.place(folder).is_none() {
            return Err(BadSaved::NoFolder);
        }
        let mut changes = Changes::default();
        for (label, was_listed, claims) in decode(saved)? {
            let Some(at) = self.labels.iter().position(|known| *known == label) else { continue };
            let mirror = MirrorId(at as u16);
            let state = self.folders.get(&folder);
            let answered = state.is_some_and(|state| state.listed.contains(mirror) || state.missing.contains(mirror));
            if answered || !self.mirrors.contains(mirror) || !was_listed && claims.is_empty() {
                continue;
            }
            changes.join(self.apply(folder, mirror, claims, From::Restored, |state| {
                if was_listed {
                    state.restored.insert(mirror);
                }
                state.heard_at = state.heard_at.max(now);
            }));
        }
        Ok(changes)
    }
}

/// For each mirror its label, whether it had listed the folder, and its claims.
fn decode(saved: &[u8]) -> Result<Vec<(u64, bool, Claims)>, BadSaved> {
    let end = saved.len().checked_sub(HASH_BYTES).filter(|end| *end > 0).ok_or(BadSaved::Damaged)?;
    if blake3::hash(&saved[..end]).as_bytes()[..HASH_BYTES] != saved[end..] {
        return Err(BadSaved::Damaged);
    }
    let mut reader = Reader { bytes: &saved[..end], at: 0 };
    let format = reader.u8()?;
    if format != FORMAT {
        return Err(BadSaved::Format(format));
    }
    let mirrors = usize::from(reader.u16()?);
    reader.check(mirrors <= MIRRORS_MAX)?;
    let mut all = Vec::with_capacity(mirrors);
    for _ in 0..mirrors {
        all.push((reader.u64()?, reader.u8()? != 0, Claims::new()));
    }
    let names = reader.u32()?;
    let mut last: &[u8] = b"";
    for _ in 0..names {
        let length = usize::from(reader.u8()?);
        let name = reader.take(length)?;
        reader.check(name_is_possible(name) && name > last)?;
        last = name;
        let groups = reader.u16()?;
        for _ in 0..groups {
            let (flags, size_bytes) = (reader.u8()?, reader.u64()?);
            let (modified_unix_s, generation) = (reader.u64()? as i64, reader.u32()?);
            let body = Body::from_saved(flags, size_bytes, modified_unix_s, generation);
            let body = body.ok_or(BadSaved::Senseless(reader.at))?;
            for _ in 0..reader.u16()? {
                let at = usize::from(reader.u16()?);
                let claims = all.get_mut(at).map(|(_, _, claims)| claims);
                let claims = claims.ok_or(BadSaved::Senseless(reader.at))?;
                reader.check(claims.last().is_none_or(|(before, _)| before != name))?;
                claims.push((name.to_vec(), body));
            }
        }
    }
    reader.check(reader.at == end)?;
    Ok(all)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn check(&self, holds: bool) -> Result<(), BadSaved> {
        if holds { Ok(()) } else { Err(BadSaved::Senseless(self.at)) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], BadSaved> {
        let taken = self.bytes.get(self.at..self.at + length).ok_or(BadSaved::Senseless(self.at))?;
        self.at += length;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], BadSaved> {
        let mut number = [0; N];
        number.copy_from_slice(self.take(N)?);
        Ok(number)
    }

    fn u8(&mut self) -> Result<u8, BadSaved> {
        self.number().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, BadSaved> {
        self.number().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, BadSaved> {
        self.number().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, BadSaved> {
        self.number().map(u64::from_le_bytes)
    }
}
