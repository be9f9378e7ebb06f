//! How far a file version is, and what may follow what. `docs/cache.md` draws this table; a test compares the two.

/// How far a file version is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum State {
    /// Nothing is kept of it: it has no record.
    Idle,
    /// It has a place on disk and never had a durable byte: after a crash it begins anew.
    Preparing,
    /// Some pages are durable, or all of them were evicted: carried on from the bitmap.
    Transferring,
    /// Every page is durable; the file still has to get its exact length, or to be checked as a whole.
    Committing,
    /// Complete.
    Done,
}

use State::{Committing, Done, Idle, Preparing, Transferring};

/// What may follow what for a file with a data file of its own. Only from COMMITTING does it become DONE: not before its
/// exact length is on the disk.
const OWN: &[(State, State)] = &[
    (Idle, Preparing),
    (Idle, Transferring),
    (Idle, Committing),
    (Preparing, Preparing),
    (Preparing, Transferring),
    (Preparing, Committing),
    (Preparing, Idle),
    (Transferring, Transferring),
    (Transferring, Committing),
    (Transferring, Idle),
    (Committing, Committing),
    (Committing, Transferring),
    (Committing, Done),
    (Committing, Idle),
    (Done, Done),
    (Done, Transferring),
    (Done, Committing),
    (Done, Idle),
];

/// The same for a small file in a pack: its length is in its record, so that nothing is left to do once it has every page,
/// but where its bytes are to be checked as a whole first.
const PACKED: &[(State, State)] = &[
    (Idle, Transferring),
    (Idle, Committing),
    (Idle, Done),
    (Transferring, Transferring),
    (Transferring, Committing),
    (Transferring, Done),
    (Transferring, Idle),
    (Committing, Committing),
    (Committing, Transferring),
    (Committing, Done),
    (Committing, Idle),
    (Done, Done),
    (Done, Transferring),
    (Done, Committing),
    (Done, Idle),
];

impl State {
    /// Every state, by its code.
    pub(super) const ALL: [State; 5] = [Idle, Preparing, Transferring, Committing, Done];

    /// May `next` follow, for a file that lies in a pack (`packed`) or in a data file of its own?
    pub(super) fn may_become(self, next: State, packed: bool) -> bool {
        let table = if packed { PACKED } else { OWN };
        table.contains(&(self, next))
    }

    pub(super) fn code(self) -> u8 {
        State::ALL.iter().position(|&state| state == self).expect("it is one of all") as u8
    }

    pub(super) fn from_code(code: u8) -> Option<State> {
        State::ALL.get(code as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    type Table = BTreeSet<(State, State)>;

    fn named(name: &str) -> State {
        *State::ALL.iter().find(|state| format!("{state:?}").to_uppercase() == name).expect(name)
    }

    /// The arrows of each diagram in the text, in order.
    fn drawn(text: &str) -> Vec<Table> {
        let blocks = text.split("```mermaid").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
        let arrow = |line: &str| {
            let (from, to) = line.split_once("-->")?;
            let to = to.split_once(':').map_or(to, |(to, _)| to);
            Some((named(from.trim()), named(to.trim())))
        };
        blocks.map(|block| block.lines().filter_map(arrow).collect()).collect()
    }

    #[test]
    fn the_diagrams_of_the_docs_are_the_tables_of_the_code() {
        let text = include_str!("../../../docs/cache.md");
        let tables = [OWN, PACKED].map(|table| table.iter().copied().collect::<Table>());
        assert_eq!(drawn(text), tables);
        for (at, table) in [OWN, PACKED].iter().enumerate() {
            assert_eq!(table.len(), tables[at].len(), "a transition is in the table twice");
        }
    }

    #[test]
    fn codes_lead_back_to_their_states() {
        for state in State::ALL {
            assert_eq!(State::from_code(state.code()), Some(state));
        }
        assert_eq!(State::from_code(5), None);
    }

    #[test]
    fn nothing_is_done_before_it_has_its_length() {
        let to_done = State::ALL.into_iter().filter(|from| from.may_become(Done, false));
        assert_eq!(to_done.collect::<Vec<_>>(), [Committing, Done]);
        assert!(State::ALL.into_iter().all(|from| from == Idle || from.may_become(Idle, false)));
        assert!(State::ALL.into_iter().all(|from| !from.may_become(Preparing, false) || from <= Preparing));
    }
}
