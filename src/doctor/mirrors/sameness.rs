//! Whether the mirrors have the same names, the same sizes and dates, and the same bytes at a random place.

use super::answers::read_range;
use super::budget::Budget;
use super::survey::Survey;
use super::{Looked, shown};
use crate::doctor::finding::{About, Finding};
use crate::sources::{FailureKind, Size, Stat};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

const STAT_MAX: Duration = Duration::from_secs(5);
const PAGE_MAX: Duration = Duration::from_secs(5);
const PAGE_BYTES: u64 = 4096;
/// A file without ranges is read as a whole up to here, to compare it.
const WHOLE_MAX: u64 = 1 << 20;
/// Who differs is named, so many at most.
const NAMED_MAX: usize = 8;

/// All comparisons.
pub async fn check(mirrors: &[Looked], survey: &Survey, seed: u64, budget: &Budget) -> Vec<Finding> {
    if mirrors.len() < 2 {
        return vec![Finding::note(&About::Sameness, "mirrors", "there is one, so nothing can be compared")];
    }
    if survey.mirrors.len() < 2 {
        let seen = format!("of {} mirrors {} can be listed: nothing was compared", mirrors.len(), survey.mirrors.len());
        return vec![Finding::note(&About::Sameness, "mirrors", seen)];
    }
    let mut findings = vec![names(mirrors, survey)];
    let mut random = StdRng::seed_from_u64(seed);
    let chosen = choose(survey, &mut random);
    if chosen.is_empty() {
        let seen = format!("no file is on two mirrors, in the {} folders looked at", survey.folders);
        let to_do = "are these mirrors of one dataset? Each must serve the same folder at its URL";
        findings.push(Finding::problem(&About::Sameness, "files", seen, to_do));
    }
    for path in chosen {
        findings.extend(compare(mirrors, survey, &path, &mut random, budget).await);
    }
    findings
}

/// Who lacks what others list.
fn names(mirrors: &[Looked], survey: &Survey) -> Finding {
    let mut lacking: BTreeMap<usize, (usize, &[u8])> = BTreeMap::new();
    for (name, by) in &survey.names {
        for at in survey.mirrors.iter().filter(|at| !by.contains(at)) {
            lacking.entry(*at).or_insert((0, name)).0 += 1;
        }
    }
    let all = survey.names.len();
    if lacking.is_empty() {
        let seen = format!("all {all} that were looked at, in {} folders, are on every mirror", survey.folders);
        return Finding::ok(&About::Sameness, "names", seen).figure("names", all);
    }
    let said = lacking
        .iter()
        .take(NAMED_MAX)
        .map(|(at, (count, first))| format!("{} lacks {count} of {all}, {} for one", mirrors[*at].url, shown(first)));
    let seen = said.collect::<Vec<_>>().join("; ");
    let to_do = "such files come from the other mirrors alone: is that mirror behind, or another folder?";
    Finding::warning(&About::Sameness, "names", seen, to_do).figure("names", all)
}

/// The largest file that two mirrors list, the smallest that is not empty, and one at random.
fn choose(survey: &Survey, random: &mut StdRng) -> Vec<Vec<u8>> {
    let size = |path: &Vec<u8>| {
        let sizes = survey.files[path].values().filter_map(|entry| match entry.size {
            Size::Exact(bytes) => Some(bytes),
            Size::Rounded | Size::Unknown => None,
        });
        sizes.max().unwrap_or(1)
    };
    let on_two = survey.files.iter().filter(|(_, by)| by.len() >= 2).map(|(path, _)| path);
    let mut common: Vec<&Vec<u8>> = on_two.filter(|path| size(path) > 0).collect();
    common.sort_by_key(|path| std::cmp::Reverse(size(path)));
    let mut chosen: Vec<Vec<u8>> =
        common.first().into_iter().chain(common.last()).map(|path| (*path).clone()).collect();
    if !common.is_empty() {
        chosen.push(common[random.random_range(0..common.len())].clone());
    }
    let mut known = std::collections::BTreeSet::new();
    chosen.retain(|path| known.insert(path.clone()));
    chosen
}

async fn compare(
    mirrors: &[Looked],
    survey: &Survey,
    path: &[u8],
    random: &mut StdRng,
    budget: &Budget,
) -> Vec<Finding> {
    let asked = survey.files[path]
        .keys()
        .map(|at| async move { (*at, budget.within(STAT_MAX, mirrors[*at].source.stat(path)).await) });
    let answers = join_all(asked).await;
    let stats: Vec<(usize, Stat)> = answers.into_iter().filter_map(|(at, stat)| Some((at, stat?.ok()?))).collect();
    let file = shown(path);
    if stats.len() < 2 {
        let seen = format!("{file}: {} of the mirrors that list it answer: not compared", stats.len());
        return vec![Finding::note(&About::Sameness, "files", seen)];
    }
    let versions = group(&dated(survey, path, &stats), |version| *version);
    let mut findings = Vec::new();
    if versions.len() > 1 {
        let told = versions.iter().map(|((size, minute), by)| {
            let date = minute.map_or("no date".to_owned(), |minute| date_of(minute * 60));
            format!("{size} bytes, {date}: {}", who(mirrors, by))
        });
        let seen = format!("{file} differs. {}", told.collect::<Vec<_>>().join("; "));
        let to_do = "the version that most have is used, then the newest, and the other mirrors are not asked for it: bring them up to date";
        findings.push(Finding::warning(&About::Sameness, "files", seen, to_do));
    }
    // Dates alone do not make other bytes: everybody of the size that most have is compared.
    let sizes = group(&stats, |stat| stat.size_bytes);
    let (size_bytes, by) = &sizes[0];
    if by.len() < 2 || *size_bytes == 0 {
        return findings;
    }
    let pages = size_bytes.div_ceil(PAGE_BYTES);
    let start = random.random_range(0..pages) * PAGE_BYTES;
    let page = start..(start + PAGE_BYTES).min(*size_bytes);
    findings.push(pages_of(mirrors, path, page, *size_bytes, by, budget).await);
    findings
}

/// Size, and the date to the minute, by which a mount tells versions apart; who gives no date goes with the others of its
/// size.
fn dated(survey: &Survey, path: &[u8], stats: &[(usize, Stat)]) -> Vec<(usize, (u64, Option<i64>))> {
    let minute = |at: usize, stat: &Stat| {
        let listed = survey.files[path].get(&at).and_then(|entry| entry.modified).map(|date| date.unix_s);
        listed.or(stat.modified_unix_s).map(|unix_s| unix_s.div_euclid(60))
    };
    let told: Vec<_> = stats.iter().map(|(at, stat)| (*at, (stat.size_bytes, minute(*at, stat)))).collect();
    let of_others = |size: u64| told.iter().find_map(|(_, (other, minute))| minute.filter(|_| *other == size));
    told.iter().map(|(at, (size, minute))| (*at, (*size, minute.or_else(|| of_others(*size))))).collect()
}

async fn pages_of(
    mirrors: &[Looked],
    path: &[u8],
    page: Range<u64>,
    size_bytes: u64,
    by: &[usize],
    budget: &Budget,
) -> Finding {
    let read = by.iter().map(|at| {
        let page = page.clone();
        async move { (*at, budget.within(PAGE_MAX, read_page(&mirrors[*at], path, page, size_bytes)).await.flatten()) }
    });
    let read = join_all(read).await;
    let silent: Vec<usize> = read.iter().filter(|(_, bytes)| bytes.is_none()).map(|(at, _)| *at).collect();
    let came: Vec<(usize, Vec<u8>)> = read.into_iter().filter_map(|(at, bytes)| Some((at, bytes?))).collect();
    let place = format!("{}, bytes {}-{}", shown(path), page.start, page.end - 1);
    let untold = match silent.is_empty() {
        true => String::new(),
        false => format!("; not told by {}", who(mirrors, &silent)),
    };
    if came.len() < 2 {
        return Finding::note(&About::Sameness, "bytes", format!("{place}: not compared{untold}"));
    }
    let versions = group(&came, Vec::clone);
    if versions.len() == 1 {
        let seen = format!("{place}: the same on {} mirrors{untold}", came.len());
        return Finding::ok(&About::Sameness, "bytes", seen).figure("mirrors", came.len());
    }
    let is_clear = versions[0].1.len() > versions[1].1.len();
    let seen = match is_clear {
        true => {
            let others: Vec<usize> = versions[1..].iter().flat_map(|(_, by)| by.iter().copied()).collect();
            format!("{place}: {} differs from {}{untold}", who(mirrors, &others), who(mirrors, &versions[0].1))
        }
        false => {
            let sides: Vec<String> = versions.iter().map(|(_, by)| who(mirrors, by)).collect();
            format!("{place}: {} differ, and nobody can decide{untold}", sides.join(" and "))
        }
    };
    let to_do = "compare the file's hash with one that you trust, and leave the wrong mirror out; `--verify quorum` believes none alone";
    Finding::problem(&About::Sameness, "bytes", seen, to_do)
}

async fn read_page(mirror: &Looked, path: &[u8], page: Range<u64>, size_bytes: u64) -> Option<Vec<u8>> {
    match read_range(&mirror.source, path, page.clone(), size_bytes).await {
        Ok(bytes) if bytes.len() as u64 == page.end - page.start => Some(bytes),
        Err(failure) if failure.kind == FailureKind::NoRanges && size_bytes <= WHOLE_MAX => {
            let whole = mirror.source.read_small(path, WHOLE_MAX).await.ok()?;
            whole.get(page.start as usize..page.end as usize).map(<[u8]>::to_vec)
        }
        _ => None,
    }
}

/// Who says the same, those that most say first; of equally many those of the first mirror.
fn group<T, K: Ord>(told: &[(usize, T)], of: impl Fn(&T) -> K) -> Vec<(K, Vec<usize>)> {
    let mut by: BTreeMap<K, Vec<usize>> = BTreeMap::new();
    for (at, what) in told {
        by.entry(of(what)).or_default().push(*at);
    }
    let mut groups: Vec<(K, Vec<usize>)> = by.into_iter().collect();
    groups.sort_by_key(|(_, by)| (std::cmp::Reverse(by.len()), by[0]));
    groups
}

fn who(mirrors: &[Looked], by: &[usize]) -> String {
    let mut named: Vec<&str> = by.iter().take(NAMED_MAX).map(|at| mirrors[*at].url.as_str()).collect();
    if by.len() > NAMED_MAX {
        named.push("…");
    }
    named.join(", ")
}

fn date_of(unix_s: i64) -> String {
    jiff::Timestamp::from_second(unix_s)
        .map_or_else(|_| unix_s.to_string(), |date| date.strftime("%Y-%m-%d %H:%M").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_most_have_come_first() {
        let told = [(0, 'a'), (1, 'b'), (2, 'b'), (3, 'c')];
        assert_eq!(group(&told, |what| *what), [('b', vec![1, 2]), ('a', vec![0]), ('c', vec![3])]);
        assert_eq!(date_of(1_714_979_280), "2024-05-06 07:08");
    }
}
