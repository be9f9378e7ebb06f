//! Findings as people read them, and as programs do.

use super::finding::{Finding, Level};
use crate::control::human::{length, plain};
use serde::Serialize;

/// All of them, in the order of their checks.
#[derive(Serialize, Debug)]
pub struct Report {
    /// What was found.
    pub findings: Vec<Finding>,
    /// How many of them are problems.
    pub problems: usize,
    /// How many are warnings.
    pub warnings: usize,
    /// Where chance came from.
    pub seed: u64,
    /// How long it took.
    pub elapsed_ms: u64,
}

impl Report {
    /// Count them.
    pub fn new(findings: Vec<Finding>, seed: u64, elapsed_ms: u64) -> Report {
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        let (problems, warnings) = (count(Level::Problem), count(Level::Warning));
        Report { findings, problems, warnings, seed, elapsed_ms }
    }

    /// A line for each finding below the head of its group, and one that sums up.
    pub fn text(&self) -> String {
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
        let mut text = String::new();
        let mut head = None;
        for finding in &self.findings {
            if head != Some(&finding.about) {
                let gap = if head.is_some() { "\n" } else { "" };
                text.push_str(&format!("{gap}{}\n", plain(&finding.about.head())));
                head = Some(&finding.about);
            }
            let to_do = finding.to_do.as_ref().map_or(String::new(), |to_do| format!("; {to_do}"));
            let (level, check) = (finding.level.name(), finding.check);
            text.push_str(&format!("  {level:<7}  {check:<width$}  {}\n", plain(&format!("{}{to_do}", finding.seen))));
        }
        text.push_str(&format!("\n{}\n", self.sum()));
        text
    }

    fn sum(&self) -> String {
        let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
        let findings = count(self.findings.len(), "finding");
        let took = length(self.elapsed_ms);
        match (self.problems, self.warnings) {
            (0, 0) => format!("nothing is wrong: {findings} in {took}"),
            (0, warnings) => format!("no problem, {}: {findings} in {took}", count(warnings, "warning")),
            (problems, warnings) => {
                format!("{}, {}: {findings} in {took}", count(problems, "problem"), count(warnings, "warning"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::About;

    #[test]
    fn findings_stand_in_groups_and_are_summed_up() {
        let mirror = About::Mirror("http://a/\x1b".into());
        let findings = vec![
            Finding::ok(&About::System, "fuse", "it is there"),
            Finding::warning(&About::System, "open files", "only 64", "raise it"),
            Finding::warning(&mirror, "name", "odd", "ask"),
            Finding::problem(&mirror, "index", "404\n", "look").figure("status", 404),
        ];
        let report = Report::new(findings, 7, 1500);
        assert_eq!(
            report.text(),
            "this machine\n  ok       fuse        it is there\n  warning  open files  only 64; raise it\n\nmirror \
             http://a/\u{fffd}\n  warning  name        odd; ask\n  problem  index       404\u{fffd}; look\n\n1 problem, 2 warnings: 4 findings in 1.5 s\n"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((json["problems"].as_u64(), json["findings"][0]["level"].as_str()), (Some(1), Some("ok")));
        let last = &json["findings"][3];
        assert_eq!((last["group"].as_str(), last["about"].as_str()), (Some("mirror"), Some("http://a/\x1b")));
        assert_eq!((last["do"].as_str(), last["figures"]["status"].as_u64()), (Some("look"), Some(404)));
        assert_eq!(Report::new(Vec::new(), 0, 5).text(), "\nnothing is wrong: 0 findings in 5 ms\n");
    }
}
