//! A mirror's folder: its index page, how it is answered, and the mirror's clock.

use super::budget::Budget;
use super::{Looked, millis, way_out, words};
use crate::clock;
use crate::doctor::finding::Finding;
use crate::sources::{Examined, Listing, ListingKind};
use std::time::Duration;

const LIST_MAX: Duration = Duration::from_secs(8);
const EXAMINE_MAX: Duration = Duration::from_secs(4);
/// Dates in headers have whole seconds, and answers take time: less is not told from right.
const SKEW_MAX_S: i64 = 30;

/// Read its root, which is kept.
pub async fn check(mirror: &mut Looked, budget: &Budget) {
    match budget.within(LIST_MAX, mirror.source.list(b"")).await {
        Some(Ok(listing)) => {
            mirror.findings.extend(listed(mirror, &listing));
            mirror.root = Some(listing);
        }
        Some(Err(failure)) => {
            let found = Finding::problem(&mirror.about, "index", words(&failure, mirror), way_out(&failure));
            return mirror.findings.push(found);
        }
        None => {
            let seen = "its index page did not come in time";
            let to_do = "try again; a folder with very many names takes long";
            return mirror.findings.push(Finding::problem(&mirror.about, "index", seen, to_do));
        }
    }
    if let Some(Ok(examined)) = budget.within(EXAMINE_MAX, mirror.source.examine(b"")).await {
        mirror.findings.push(protocol(mirror, &examined));
        mirror.findings.extend(examined.date_unix_s.map(|date| clock_of(mirror, date - clock::unix_seconds())));
    }
}

fn listed(mirror: &Looked, listing: &Listing) -> Vec<Finding> {
    let kind = match listing.kind {
        ListingKind::Html => "HTML",
        ListingKind::Json => "JSON",
    };
    let folders = listing.entries.iter().filter(|entry| entry.folder).count();
    let files = listing.entries.len() - folders;
    let seen = format!("{kind}, {files} files and {folders} folders, in {:.1} ms", millis(listing.first_byte));
    let found = match listing.entries.is_empty() {
        true => Finding::warning(
            &mirror.about,
            "index",
            format!("{kind}, and nothing in it"),
            "is this the dataset's folder?",
        ),
        false => Finding::ok(&mirror.about, "index", seen),
    };
    let mut findings = vec![found.figure("files", files).figure("folders", folders)];
    if let Some((name, why)) = listing.refused.first() {
        let count = listing.refused_count;
        let seen = format!("{count} names are left out; {name:?}, for one, {}", why.why());
        let found = Finding::warning(&mirror.about, "names", seen, "such files cannot be read: rename them there");
        findings.push(found.figure("refused", count));
    }
    findings
}

fn protocol(mirror: &Looked, examined: &Examined) -> Finding {
    let server = examined.server.as_ref().map_or(String::new(), |server| format!(", {server}"));
    let led = examined.led_to.as_ref().map_or(String::new(), |to| format!(", redirects to {to}"));
    Finding::ok(&mirror.about, "http", format!("{}{server}{led}", examined.version))
        .figure("status", examined.status)
        .figure("version", examined.version)
}

/// `ahead_s`: how far its clock is ahead of ours.
fn clock_of(mirror: &Looked, ahead_s: i64) -> Finding {
    let found = match ahead_s.abs() {
        0..=SKEW_MAX_S => Finding::ok(&mirror.about, "clock", "as this machine's"),
        _ => {
            let way = if ahead_s > 0 { "ahead of" } else { "behind" };
            let seen = format!("{} s {way} this machine's", ahead_s.abs());
            let to_do = "set this machine's clock (NTP) if other mirrors say the same: certificates, and until when redirects hold, go by it";
            Finding::warning(&mirror.about, "clock", seen, to_do)
        }
    };
    found.figure("ahead_s", ahead_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::{About, Level};
    use crate::sources::{Entry, RefusedName, Settings, Size, Source};
    use std::sync::Arc;

    fn looked() -> Looked {
        let url = "http://127.0.0.1:9/".to_owned();
        let source = Arc::new(Source::new(Settings::parse(&url).unwrap(), Arc::default()).unwrap());
        Looked { source, about: About::Mirror(url.clone()), url, findings: Vec::new(), root: None, answered: None }
    }

    #[test]
    fn a_clock_that_is_wrong_is_said_by_how_much() {
        for (ahead_s, level, said) in [
            (0, Level::Ok, "as this"),
            (-SKEW_MAX_S, Level::Ok, "as this"),
            (31, Level::Warning, "31 s ahead of"),
            (-3600, Level::Warning, "3600 s behind"),
        ] {
            let found = clock_of(&looked(), ahead_s);
            assert!(found.level == level && found.seen.contains(said), "{ahead_s}: {found:?}");
        }
    }

    #[test]
    fn what_a_page_lacks_is_said() {
        let entry = Entry { name: b"a".to_vec(), folder: false, size: Size::Unknown, modified: None };
        let page = |entries: Vec<Entry>, refused: Vec<(String, RefusedName)>| Listing {
            refused_count: refused.len() as u64,
            entries,
            refused,
            first_byte: Duration::ZERO,
            kind: ListingKind::Html,
        };
        let levels = |listing: &Listing| {
            listed(&looked(), listing).into_iter().map(|found| (found.check, found.level)).collect::<Vec<_>>()
        };
        assert_eq!(levels(&page(vec![entry.clone()], vec![])), [("index", Level::Ok)]);
        assert_eq!(levels(&page(vec![], vec![])), [("index", Level::Warning)]);
        let refused = vec![("../x".to_owned(), RefusedName::Foreign)];
        assert_eq!(levels(&page(vec![entry], refused)), [("index", Level::Ok), ("names", Level::Warning)]);
    }
}
