//! What each mirror said of one file version, and whose bytes may be in it, kept beside its bytes on disk.
//!
//! Validators belong to a mirror and are never compared across mirrors. They are keyed by a hash of
//! the mirror's URL, so that adding or reordering mirrors between mounts loses nothing.

use crate::sources::{Digest, Validator};

/// Validators of one version, one a mirror, those mirrors that were found to serve the same bytes, and the hashes of the
/// whole file.
#[derive(Default, Clone, Debug, PartialEq)]
pub struct Validators {
    each: Vec<(u64, Validator)>,
    believed: Vec<u64>,
    /// What mirrors said with their answers that the whole file hashes to.
    pub said: Vec<(u64, Digest)>,
    /// What the bytes on disk did hash to, as they were when the version was done.
    pub verified: Option<Digest>,
}

/// More mirrors than this of one file keep none: the note on disk stays small.
const KEPT_MAX: usize = 64;
/// Begins an entry of a mirror whose bytes may be in the file. No label in hex, so that who knows nothing of this
/// leaves it out.
const AGREES: &str = "agrees";

impl Validators {
    /// Of one mirror.
    pub fn get(&self, label: u64) -> Option<&Validator> {
        self.each.iter().find(|(known, _)| *known == label).map(|(_, validator)| validator)
    }

    /// Replace that of one mirror.
    pub fn set(&mut self, label: u64, validator: Validator) {
        self.each.retain(|(known, _)| *known != label);
        if self.each.len() < KEPT_MAX {
            self.each.push((label, validator));
        }
    }

    /// The mirror with this label says what the whole file hashes to. True where that is news.
    pub fn say(&mut self, label: u64, whole: &[Digest]) -> bool {
        let before = self.said.clone();
        self.said.retain(|(known, said)| *known != label || !whole.iter().any(|it| it.algorithm() == said.algorithm()));
        let room = KEPT_MAX.saturating_sub(self.said.len());
        self.said.extend(whole.iter().take(room).map(|digest| (label, digest.clone())));
        self.said.sort();
        self.said != before
    }

    /// The mirrors whose bytes may be in the file.
    pub fn believed(&self) -> &[u64] {
        &self.believed
    }

    /// This mirror's bytes may be in the file. Returns whether that is news.
    pub fn believe(&mut self, label: u64) -> bool {
        let news = !self.believed.contains(&label);
        if news {
            self.believed.push(label);
        }
        news
    }

    /// Nobody's bytes are in the file.
    pub fn disbelieve(&mut self) {
        self.believed.clear();
    }

    /// The label in hex, a space, the validator as it encodes itself; NUL, which no header holds, ends each. Before
    /// what else is known stands a word that is no hex: programs that do not know it pass over it.
    pub fn encode(&self) -> Vec<u8> {
        let one = |(label, validator): &(u64, Validator)| format!("{label:016x} {}\0", validator.encode());
        let said = |(label, digest): &(u64, Digest)| format!("said {label:016x} {digest}\0");
        let agrees = |label: &u64| format!("{AGREES} {label:016x}\0");
        let believed = self.believed.iter().take(KEPT_MAX).map(agrees);
        let verified = self.verified.iter().map(|digest| format!("verified {digest}\0"));
        let parts = self.each.iter().map(one).chain(believed).chain(self.said.iter().map(said)).chain(verified);
        parts.collect::<String>().into_bytes()
    }

    /// Those that cannot be read are left out.
    pub fn decode(note: &[u8]) -> Validators {
        let text = String::from_utf8_lossy(note);
        let label = |hex: &str| u64::from_str_radix(hex, 16).ok();
        let mut found = Validators::default();
        for one in text.split('\0') {
            match one.split_once(' ') {
                Some(("verified", digest)) => found.verified = Digest::parse(digest).or(found.verified),
                Some(("said", rest)) if found.said.len() < KEPT_MAX => {
                    let said =
                        rest.split_once(' ').and_then(|(hex, digest)| Some((label(hex)?, Digest::parse(digest)?)));
                    found.said.extend(said);
                }
                Some((AGREES, hex)) if found.believed.len() < KEPT_MAX => {
                    found.believed.extend(label(hex.trim_start()))
                }
                Some((hex, validator)) if found.each.len() < KEPT_MAX => {
                    found.each.extend(label(hex).zip(Validator::decode(validator)));
                }
                _ => {}
            }
        }
        found
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
        assert!(validators.believe(7) && validators.believe(u64::MAX) && !validators.believe(7));
        let note = validators.encode();
        assert_eq!(Validators::decode(&note).get(1), Some(&validator));
        assert_eq!(Validators::decode(&note), Validators { believed: vec![7, u64::MAX], ..validators.clone() });
        assert_eq!(Validators::decode(&note).each.len(), 2);
        let damaged = [b"zzz\0\xff\xff \0agrees zzz\0", &note[..]].concat();
        assert_eq!(Validators::decode(&damaged).each.len(), 2);
        assert_eq!(Validators::decode(&damaged).believed(), [7, u64::MAX]);
    }

    #[test]
    fn a_note_of_before_names_nobody_and_a_new_one_is_read_by_the_code_of_before() {
        let validator = Validator { etag: Some("\"a\"".into()), ..Validator::default() };
        let mut validators = Validators::default();
        validators.set(5, validator.clone());
        let before = format!("{:016x} {}\0", 5, validator.encode());
        assert_eq!(Validators::decode(before.as_bytes()), validators);
        validators.believe(5);
        // The code of before took whatever stands before the first space for a label in hex.
        let text = String::from_utf8(validators.encode()).unwrap();
        let labels = text.split('\0').filter_map(|one| u64::from_str_radix(one.split_once(' ')?.0, 16).ok());
        assert_eq!(labels.collect::<Vec<_>>(), [5]);
    }

    #[test]
    fn hashes_are_kept_beside_the_validators_and_say_nothing_to_older_programs() {
        let hash = |text: &[u8]| Digest::of(crate::sources::Algorithm::Sha256, text);
        let mut validators = Validators::default();
        validators.set(1, Validator { etag: Some("\"v\"".into()), ..Validator::default() });
        let before = validators.encode();
        assert!(validators.say(1, &[hash(b"a")]) && !validators.say(1, &[hash(b"a")]));
        assert!(validators.say(1, &[hash(b"b")]), "another one takes its place");
        validators.verified = Some(hash(b"b"));
        let note = validators.encode();
        assert_eq!(Validators::decode(&note), validators);
        assert_eq!(validators.said, [(1, hash(b"b"))]);
        // An older program takes what begins with hex digits, and a note of an older one is one without hashes.
        let is_known = |part: &&[u8]| part.iter().take_while(|byte| byte.is_ascii_hexdigit()).count() == 16;
        assert_eq!(note.split(|&byte| byte == 0).filter(is_known).count(), 1);
        assert!(note.starts_with(&before) && Validators::decode(&before).said.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn any_note_gives_validators_or_none(note in proptest::collection::vec(proptest::num::u8::ANY, 0..300), label: u64) {
            let labelled = [format!("{label:x} ").as_bytes(), &note[..]].concat();
            for note in [&note, &labelled] {
                let validators = Validators::decode(note);
                proptest::prop_assert!(validators.each.len() <= KEPT_MAX);
                proptest::prop_assert!(Validators::decode(&validators.encode()).each.len() <= validators.each.len());
            }
        }
    }
}
