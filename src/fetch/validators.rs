//! What each mirror said of one file version, kept beside its bytes on disk.
//!
//! Validators belong to a mirror and are never compared across mirrors. They are keyed by a hash of
//! the mirror's URL, so that adding or reordering mirrors between mounts loses nothing.

use crate::sources::Validator;

/// Validators of one version, one a mirror.
#[derive(Default, Clone, Debug, PartialEq)]
pub struct Validators(Vec<(u64, Validator)>);

/// More mirrors than this of one file keep none: the note on disk stays small.
const KEPT_MAX: usize = 64;

impl Validators {
    /// Of one mirror.
    pub fn get(&self, label: u64) -> Option<&Validator> {
        self.0.iter().find(|(known, _)| *known == label).map(|(_, validator)| validator)
    }

    /// Replace that of one mirror.
    pub fn set(&mut self, label: u64, validator: Validator) {
        self.0.retain(|(known, _)| *known != label);
        if self.0.len() < KEPT_MAX {
            self.0.push((label, validator));
        }
    }

    /// The label in hex, a space, the validator as it encodes itself; NUL, which no header holds, ends each.
    pub fn encode(&self) -> Vec<u8> {
        let one = |(label, validator): &(u64, Validator)| format!("{label:016x} {}\0", validator.encode());
        self.0.iter().map(one).collect::<String>().into_bytes()
    }

    /// Those that cannot be read are left out.
    pub fn decode(note: &[u8]) -> Validators {
        let text = String::from_utf8_lossy(note);
        let one = |one: &str| {
            let (label, validator) = one.split_once(' ')?;
            Some((u64::from_str_radix(label, 16).ok()?, Validator::decode(validator)?))
        };
        Validators(text.split('\0').filter_map(one).take(KEPT_MAX).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_survives_and_a_damaged_one_costs_only_itself() {
        let validator = Validator { etag: Some("\"a b\"".into()), last_modified: None, ..Validator::default() };
        let mut validators = Validators::default();
        validators.set(1, validator.clone());
        validators.set(u64::MAX, validator.clone());
        validators.set(1, validator.clone());
        let note = validators.encode();
        assert_eq!(Validators::decode(&note).get(1), Some(&validator));
        assert_eq!(Validators::decode(&note).0.len(), 2);
        let damaged = [b"zzz\0\xff\xff \0", &note[..]].concat();
        assert_eq!(Validators::decode(&damaged).0.len(), 2);
    }
}
