//! What the mirrors list, folder by folder from the root on, as far as there is time: enough to find files to look at.

use super::Looked;
use super::budget::Budget;
use crate::sources::{Entry, Listing, Size};
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Folders that are listed, the root among them.
const FOLDERS_MAX: usize = 8;
/// With so many files on two mirrors (or on the only one) no more folders are looked at.
const FILES_WANTED: usize = 8;
/// Names of one page that are looked at: the rest is counted nowhere.
const NAMES_MAX: usize = 50_000;
const LIST_MAX: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Default)]
pub struct Survey {
    /// By path: what each mirror (by its place in the list) says of the file.
    pub files: BTreeMap<Vec<u8>, BTreeMap<usize, Entry>>,
    /// Names, folders with a slash behind them, and who lists them; of folders that all mirrors listed whole.
    pub names: BTreeMap<Vec<u8>, BTreeSet<usize>>,
    /// Who lists at all.
    pub mirrors: Vec<usize>,
    /// How many folders were listed.
    pub folders: usize,
}

/// A file of a mirror, to try it with.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Below the mirror's folder.
    pub path: Vec<u8>,
    /// What its index says of it.
    pub entry: Entry,
}

impl Survey {
    /// The largest file that a mirror lists, by an exact size where it has such.
    pub fn sample_of(&self, mirror: usize) -> Option<Sample> {
        let listed = self.files.iter().filter_map(|(path, by)| Some((path, by.get(&mirror)?)));
        let largest = listed.max_by_key(|(_, entry)| match entry.size {
            Size::Exact(bytes) => (bytes > 0, bytes),
            Size::Rounded | Size::Unknown => (true, 0),
        });
        largest.map(|(path, entry)| Sample { path: path.clone(), entry: entry.clone() })
    }

    fn take(&mut self, folder: &[u8], mirror: usize, listing: &Listing, comparable: bool) {
        for entry in listing.entries.iter().take(NAMES_MAX) {
            let path = join(folder, &entry.name);
            if comparable {
                let name = if entry.folder { [path.as_slice(), b"/"].concat() } else { path.clone() };
                self.names.entry(name).or_default().insert(mirror);
            }
            if !entry.folder {
                self.files.entry(path).or_default().insert(mirror, entry.clone());
            }
        }
    }

    fn has_enough(&self) -> bool {
        let wanted = self.mirrors.len().min(2);
        self.files.values().filter(|by| by.len() >= wanted).count() >= FILES_WANTED
    }
}

/// List the mirrors that have a root.
pub async fn survey(mirrors: &[Looked], budget: &Budget) -> Survey {
    let rooted = mirrors.iter().enumerate().filter(|(_, mirror)| mirror.root.is_some());
    let mut survey = Survey { mirrors: rooted.map(|(at, _)| at).collect(), ..Survey::default() };
    let roots: Vec<(usize, &Listing)> =
        mirrors.iter().enumerate().filter_map(|(at, mirror)| Some((at, mirror.root.as_ref()?))).collect();
    let mut waiting = VecDeque::new();
    gather(&mut survey, &mut waiting, b"", &roots);
    while survey.folders < FOLDERS_MAX && !survey.has_enough() && !budget.is_over() {
        let Some((folder, by)) = waiting.pop_front() else { break };
        let list = |at: usize| {
            let (source, folder) = (mirrors[at].source.clone(), folder.clone());
            async move { (at, budget.within(LIST_MAX, source.list(&folder)).await) }
        };
        let listings = join_all(by.into_iter().map(list)).await;
        let listings: Vec<(usize, Listing)> =
            listings.into_iter().filter_map(|(at, listing)| Some((at, listing?.ok()?))).collect();
        let listings: Vec<(usize, &Listing)> = listings.iter().map(|(at, listing)| (*at, listing)).collect();
        gather(&mut survey, &mut waiting, &folder, &listings);
    }
    survey
}

/// Folders and who lists them, in the order of their names; those of one folder after those of the one before.
type Waiting = VecDeque<(Vec<u8>, BTreeSet<usize>)>;

fn gather(survey: &mut Survey, waiting: &mut Waiting, folder: &[u8], listings: &[(usize, &Listing)]) {
    survey.folders += 1;
    let comparable = listings.len() == survey.mirrors.len()
        && listings.iter().all(|(_, listing)| listing.entries.len() <= NAMES_MAX && listing.refused_count == 0);
    let mut below: BTreeMap<Vec<u8>, BTreeSet<usize>> = BTreeMap::new();
    for (mirror, listing) in listings {
        survey.take(folder, *mirror, listing, comparable);
        for entry in listing.entries.iter().take(NAMES_MAX).filter(|entry| entry.folder) {
            below.entry(join(folder, &entry.name)).or_default().insert(*mirror);
        }
    }
    waiting.extend(below.into_iter().take(FOLDERS_MAX));
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}
