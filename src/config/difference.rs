//! How two plans of one mount differ: what a reload changes, and what only another mount can.

use super::origin::Origin;
use super::plan::{MirrorPlan, MountPlan};
use super::show::{mirror_values, values};
use std::collections::BTreeMap;

/// Options that a mount takes up while it goes on. The others are part of what the kernel, the cache or the memory was
/// set up with.
const LIVE: &[&str] = &["strategy", "hedging", "rate-limit", "read-timeout", "read-deadline", "entry-lifetime"];
/// It says how the program starts, and nothing of the mount.
const OF_THE_START: &str = "background";

/// One thing that is otherwise. Its values are as a file has them, and never secrets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// `hedging`, `rules`, `mirror https://HOST/FOLDER/`, `mirror https://HOST/FOLDER/ weight`.
    pub name: String,
    /// What it was; none: not set, or not there.
    pub before: Option<String>,
    /// And is.
    pub after: Option<String>,
    /// The mount takes it up while it goes on.
    pub is_live: bool,
}

/// All that is otherwise, in the order in which `braidfs config show` has it.
pub fn differences(before: &MountPlan, after: &MountPlan) -> Vec<Difference> {
    let mut all = Vec::new();
    for ((name, old), (_, new)) in values(before).into_iter().zip(values(after)) {
        if old != new && name != OF_THE_START && !follows_from_mirrors(name, before, after) {
            let is_live = LIVE.contains(&name);
            all.push(Difference { name: name.to_owned(), before: old, after: new, is_live });
        }
    }
    for mirror in &after.mirrors {
        match before.mirrors.iter().find(|known| known.url == mirror.url) {
            Some(known) => all.extend(of_mirror(known, mirror)),
            None => all.push(of_presence(mirror, true)),
        }
    }
    let gone = |known: &&MirrorPlan| after.mirrors.iter().all(|mirror| mirror.url != known.url);
    all.extend(before.mirrors.iter().filter(gone).map(|known| of_presence(known, false)));
    if before.rules != after.rules {
        let count = |plan: &MountPlan| Some(plan.rules.count().to_string());
        all.push(Difference { name: "rules".into(), before: count(before), after: count(after), is_live: true });
    }
    all
}

/// A dataset keeps the name, and with it the cache, that was made from its first mirror.
fn follows_from_mirrors(name: &str, before: &MountPlan, after: &MountPlan) -> bool {
    let given = |plan: &MountPlan, name: &str| plan.origins.get(name).is_some_and(|origin| *origin != Origin::BuiltIn);
    let is_given = |name| given(before, name) || given(after, name);
    match name {
        "name" => !is_given("name"),
        "cache-dir" => !is_given("name") && !is_given("cache-dir"),
        _ => false,
    }
}

fn of_presence(mirror: &MirrorPlan, is_new: bool) -> Difference {
    let there = Some("in use".to_owned());
    let (before, after) = if is_new { (None, there) } else { (there, None) };
    Difference { name: format!("mirror {}", mirror.url.shown()), before, after, is_live: true }
}

fn of_mirror(before: &MirrorPlan, after: &MirrorPlan) -> Vec<Difference> {
    let by_name = |mirror: &MirrorPlan| -> BTreeMap<String, String> {
        let pairs = mirror_values(mirror).into_iter();
        pairs
            .filter_map(|line| line.split_once(" = ").map(|(name, value)| (name.to_owned(), value.to_owned())))
            .collect()
    };
    let (old, mut new) = (by_name(before), by_name(after));
    let named = |name: &str| format!("mirror {} {}", after.url.shown(), name.trim_start_matches("# "));
    let mut all = Vec::new();
    for (name, was) in &old {
        let is = new.remove(name);
        if is.as_ref() != Some(was) {
            all.push(Difference { name: named(name), before: Some(was.clone()), after: is, is_live: true });
        }
    }
    all.extend(new.into_iter().map(|(name, is)| Difference {
        name: named(&name),
        before: None,
        after: Some(is),
        is_live: true,
    }));
    if all.iter().all(|difference| !difference.name.contains(" headers:")) && before.headers != after.headers {
        // The same names with other values.
        let hidden = Some("…".to_owned());
        all.push(Difference { name: named("headers"), before: hidden.clone(), after: hidden, is_live: true });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::command_line::{Command, CommandLine};
    use super::super::defaults::Surroundings;
    use super::super::plan::plan_mount;
    use super::*;
    use std::path::Path;

    fn plan(dir: &Path, text: &str) -> MountPlan {
        let file = dir.join("d.toml");
        std::fs::write(&file, text).unwrap();
        let words = ["braidfs", "mount", "--config", file.to_str().unwrap(), "/mnt/x"];
        let Command::Mount(command) = CommandLine::read(words.map(Into::into)).unwrap().command else { panic!() };
        plan_mount(&command, &Surroundings::of_process().unwrap()).unwrap()
    }

    fn lines(before: &str, after: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let (before, after) = (plan(dir.path(), before), plan(dir.path(), after));
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        let line = |one: Difference| {
            let when = if one.is_live { "" } else { " (mount)" };
            format!("{}: {} -> {}{when}", one.name, text(one.before), text(one.after))
        };
        differences(&before, &after).into_iter().map(line).collect()
    }

    const ONE: &str = "[[mirror]]\nurl = \"http://a.test/\"\n";

    #[test]
    fn what_is_otherwise_is_named_and_secrets_are_not_shown() {
        assert_eq!(lines(ONE, ONE), [""; 0]);
        let sized = format!("memory = \"128MiB\"\n{ONE}");
        let options = format!("hedging = false\nmemory = \"64MiB\"\n{ONE}");
        assert_eq!(lines(&sized, &options), ["memory: \"128MiB\" -> \"64MiB\" (mount)", "hedging: true -> false"]);
        let more = format!("{ONE}weight = 3.0\nheaders = {{ Authorization = \"Bearer s3cret\" }}\n");
        let seen = lines(ONE, &more);
        let host = "mirror http://a.test/";
        assert_eq!(seen, [format!("{host} weight: 1 -> 3"), format!("{host} headers: authorization: - -> …")]);
        let other = more.replace("s3cret", "0ther");
        assert_eq!(lines(&more, &other), ["mirror http://a.test/ headers: … -> …"]);
        let rule = format!("{ONE}[[rule]]\npath = \"a/**\"\nclass = \"prefetch\"\n");
        assert_eq!(lines(ONE, &rule), ["rules: 0 -> 1"]);
        assert_eq!(lines(&rule, &rule.replace("prefetch", "readahead")), ["rules: 1 -> 1"]);
    }

    #[test]
    fn a_dataset_keeps_its_made_name_when_its_first_mirror_goes() {
        let other = "[[mirror]]\nurl = \"http://b.test/\"\n";
        assert_eq!(lines(ONE, other), ["mirror http://b.test/: - -> in use", "mirror http://a.test/: in use -> -"]);
        let named = format!("name = \"recordings\"\n{ONE}");
        assert!(lines(ONE, &named)[0].starts_with("name: "), "who gives one means another");
    }
}
