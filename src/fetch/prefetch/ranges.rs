//! Jobs that bring ranges of files, in the order in which they are given: what a profile recorded, or a part of one file.

use super::settling::Settling;
use super::{FILES_OPEN_MAX, Job, Outcome, PASSES_MAX, Wanted, ask};
use crate::chunk::{CHUNK_PAGES, Pages};
use crate::fetch::engine::walk;
use crate::fetch::error::Trouble;
use crate::fetch::named::PathTrouble;
use crate::fetch::opened::OpenFile;
use crate::namespace::Kind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinError, JoinSet};

/// A part of a file that a job is to bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// Which of the job's paths.
    pub path: usize,
    /// Where it begins.
    pub offset_bytes: u64,
    /// How many; what lies beyond the end of the file is none.
    pub bytes: u64,
}

/// How the ranges of one file go.
#[derive(Clone, Debug, Default)]
struct State {
    visits_left: usize,
    is_failed: bool,
}

/// Ranges of one file that come one after the other, and how they went.
type Visited = (usize, Result<(), PathTrouble>);

/// Every visit of a job that is not over.
struct Visits {
    paths: Vec<Vec<u8>>,
    states: Vec<State>,
    at_work: JoinSet<Visited>,
    outcome: Outcome,
}

impl Job {
    /// Bring these ranges, whole chunks of them. They are asked for in their order; ends when all are durable or have
    /// failed.
    pub(super) async fn run_ranges(self: &Arc<Self>, paths: Vec<Vec<u8>>, ranges: &[FileRange]) -> Outcome {
        let mut states = vec![State::default(); paths.len()];
        ranges.chunk_by(|one, next| one.path == next.path).for_each(|visit| states[visit[0].path].visits_left += 1);
        let files = states.iter().filter(|state| state.visits_left > 0).count();
        self.progress.files.store(files as u64, Ordering::Relaxed);
        let mut visits = Visits { paths, states, at_work: JoinSet::new(), outcome: Outcome::default() };
        for visit in ranges.chunk_by(|one, next| one.path == next.path) {
            while visits.at_work.len() >= FILES_OPEN_MAX {
                let ended = visits.at_work.join_next().await;
                self.ended(&mut visits, ended);
            }
            let path = visit[0].path;
            if visits.states[path].is_failed {
                self.visited(&mut visits, (path, Ok(())));
                continue;
            }
            let name = visits.paths[path].clone();
            if let Err(why) = self.visit(&name, visit, &mut visits.at_work).await {
                self.visited(&mut visits, (path, Err(why)));
            }
            while let Some(ended) = visits.at_work.try_join_next() {
                self.ended(&mut visits, Some(ended));
            }
        }
        self.progress.complete.store(true, Ordering::Relaxed);
        while !visits.at_work.is_empty() {
            let ended = visits.at_work.join_next().await;
            self.ended(&mut visits, ended);
        }
        visits.outcome
    }

    fn ended(&self, visits: &mut Visits, ended: Option<Result<Visited, JoinError>>) {
        match ended {
            Some(Ok(visited)) => self.visited(visits, visited),
            Some(Err(_)) => visits.outcome.failed += 1,
            None => {}
        }
    }

    fn visited(&self, visits: &mut Visits, (path, result): Visited) {
        let state = &mut visits.states[path];
        state.visits_left -= 1;
        if let Err(why) = result
            && !std::mem::replace(&mut state.is_failed, true)
        {
            visits.outcome.failed(visits.paths[path].clone(), why);
            self.progress.files_failed.fetch_add(1, Ordering::Relaxed);
        }
        if state.visits_left == 0 && !state.is_failed {
            visits.outcome.files += 1;
            self.progress.files_done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ask for ranges of one file; that they come is waited for among `at_work`.
    async fn visit(
        self: &Arc<Self>,
        path: &[u8],
        ranges: &[FileRange],
        at_work: &mut JoinSet<Visited>,
    ) -> Result<(), PathTrouble> {
        self.wait_for_hours(path).await;
        let found = walk(&self.tree, path).await?;
        if found.kind == Kind::Folder {
            return Err(PathTrouble::Folder);
        }
        let file = self.open(found.inode, path).await?;
        self.not_condemned(&file).await?;
        let runs = runs(ranges, file.size_bytes)?;
        let bytes: u64 = runs.iter().map(|run| run.len_bytes(file.size_bytes)).sum();
        let asked_bytes = self.progress.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if !self.fits(asked_bytes) {
            return Err(Trouble::NotKept.into());
        }
        let wanted = Wanted::new(file.clone());
        let mut pieces = JoinSet::new();
        for pages in runs.iter().flat_map(|run| run.split(self.pace.piece_pages())) {
            let permit = self.permit(&file, pages).await?;
            ask(&self.plane, &file, pages, self.reader)?;
            pieces.spawn(self.clone().piece(file.clone(), pages, permit));
        }
        let (job, path) = (self.clone(), ranges[0].path);
        at_work.spawn(async move {
            let result = job.arrive(&file, &runs, pieces).await;
            drop(wanted);
            (path, result.map_err(PathTrouble::from))
        });
        Ok(())
    }

    /// Until all of it is durable.
    async fn arrive(
        self: &Arc<Self>,
        file: &Arc<OpenFile>,
        runs: &[Pages],
        mut pieces: JoinSet<Result<(), Trouble>>,
    ) -> Result<(), Trouble> {
        while let Some(ended) = pieces.join_next().await {
            ended.map_err(|_| Trouble::Ending)??;
        }
        for &run in runs {
            self.until(file, run, |disk| disk.durable(run)).await?;
        }
        match *runs == [file.pages()] {
            true => self.checked(file).await,
            // A part of a file has no hash.
            false => Ok(()),
        }
    }

    /// Until `pages` are on disk, asked for again where they failed by chance.
    async fn piece(
        self: Arc<Self>,
        file: Arc<OpenFile>,
        pages: Pages,
        permit: OwnedSemaphorePermit,
    ) -> Result<(), Trouble> {
        let settling = Settling::new(&self.progress);
        settling.begin(&file, pages);
        let mut passes = 1;
        loop {
            match self.until(&file, pages, |disk| disk.held(pages)).await {
                Ok(()) => break,
                Err(Trouble::Offline) if passes < PASSES_MAX && !self.plane.is_offline() => passes += 1,
                Err(trouble) => return Err(trouble),
            }
        }
        drop(permit);
        self.until(&file, pages, |disk| disk.durable(pages)).await?;
        settling.end(pages.len_bytes(file.size_bytes)).await;
        Ok(())
    }
}

/// The whole chunks that these ranges touch, neighbours as one run.
fn runs(ranges: &[FileRange], size_bytes: u64) -> Result<Vec<Pages>, PathTrouble> {
    let mut runs: Vec<Pages> = Vec::new();
    for range in ranges {
        let touched = Pages::touching(range.offset_bytes, range.bytes, size_bytes);
        if touched.is_empty() && range.bytes > 0 && size_bytes > 0 {
            return Err(PathTrouble::PastTheEnd { offset_bytes: range.offset_bytes, size_bytes });
        }
        let start = touched.start / CHUNK_PAGES * CHUNK_PAGES;
        let end = touched.end.div_ceil(CHUNK_PAGES) * CHUNK_PAGES;
        let run = Pages::new(start, end).intersect(Pages::of_file(size_bytes));
        match runs.last_mut() {
            Some(last) if last.start <= run.start && run.start <= last.end => last.end = last.end.max(run.end),
            _ => runs.push(run),
        }
    }
    runs.retain(|run| !run.is_empty());
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_widened_to_chunks_and_neighbours_are_one_run() {
        let range = |offset_bytes, bytes| FileRange { path: 0, offset_bytes, bytes };
        let size = 1_000_000;
        let seen = runs(&[range(0, 1), range(65_536, 65_536), range(900_000, 1 << 40), range(10, 5)], size);
        assert_eq!(seen, Ok(vec![Pages::new(0, 32), Pages::new(208, 245), Pages::new(0, 16)]));
        let past = PathTrouble::PastTheEnd { offset_bytes: 1_000_000, size_bytes: size };
        assert_eq!(runs(&[range(1_000_000, 1)], size), Err(past));
        assert_eq!(runs(&[range(0, 1)], 0), Ok(vec![]), "all of an empty file");
    }
}
