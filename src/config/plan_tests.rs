use super::*;
use crate::config::command_line::{Command, CommandLine};
use crate::config::logging::{LogFormat, LogLevel};
use crate::config::supervisor::Supervisor;

struct Desk {
    folder: tempfile::TempDir,
    around: Surroundings,
}

impl Desk {
    fn new() -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let around = Surroundings {
            cwd: folder.path().to_owned(),
            home: Some("/home/joe".into()),
            xdg_cache_home: None,
            xdg_runtime_dir: None,
            uid: 1000,
            gid: 100,
            memory_limit_bytes: None,
            variables: Vec::new(),
            otel: Default::default(),
            supervisor: Supervisor::default(),
        };
        Desk { folder, around }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn plan(&self, line: &str) -> Result<MountPlan, PlanError> {
        match CommandLine::read(line.split_whitespace().map(OsString::from)).unwrap().command {
            Command::Mount(mount) => plan_mount(&mount, &self.around),
            other => panic!("{other:?}"),
        }
    }

    fn refusal(&self, line: &str) -> String {
        self.plan(line).expect_err(line).to_string()
    }
}

#[test]
fn what_is_built_in() {
    let desk = Desk::new();
    let plan = desk.plan("braidfs mount https://a.example/data https://b.example/data mnt").unwrap();
    assert_eq!(plan.mirrors.len(), 2);
    assert_eq!(plan.mountpoint, desk.folder.path().join("mnt"));
    assert!(plan.name.starts_with("a.example-data-"), "{}", plan.name);
    assert_eq!(plan.cache, CacheDir::Default(Path::new("/home/joe/.cache/braidfs").join(&plan.name)));
    assert_eq!((plan.cache_size, plan.memory), (None, 256 << 20));
    assert_eq!(plan.scrub_rate, Some(8 << 20));
    assert_eq!((plan.read_timeout, plan.read_deadline), (Duration::from_secs(30), Duration::from_secs(600)));
    assert_eq!((plan.uid, plan.gid, plan.umask), (1000, 100, 0o022));
    assert_eq!((plan.background, plan.allow_other, plan.noexec), (false, false, false));
    assert_eq!((plan.fsname.as_str(), plan.entry_lifetime), ("braidfs", Duration::from_secs(60)));
    assert_eq!((plan.strategy, plan.mirrors[1].weight), (Strategy::Adaptive, 1.0));
    assert!(plan.hedging && plan.passthrough);
    assert_eq!(plan.verify, Verify::First);
    assert!(plan.warnings.is_empty());
}

#[test]
fn a_quorum_takes_two_mirrors() {
    let desk = Desk::new();
    let two = "braidfs mount https://a.example/data https://b.example/data mnt --verify quorum";
    assert_eq!(desk.plan(two).unwrap().verify, Verify::Quorum);
    let said = desk.refusal("braidfs mount https://a.example/data mnt --verify quorum");
    assert!(said.contains("there is one mirror; give another SOURCE, or --verify first"), "{said}");
    desk.write("b.toml", "verify = \"quorum\"\n[[mirror]]\nurl = \"https://a.example/\"\n");
    assert!(desk.refusal("braidfs mount b.toml mnt").contains("--verify quorum"), "as in a file");
}

const FILE: &str = r#"
name = "genomes"
memory = "32MiB"
uid = 5
gid = 6
cache-dir = "cache"
strategy = "round-robin"
hedging = false
passthrough = false
mountpoint = "here"
[[mirror]]
url = "https://a.example/"
headers = { X-Key = "k" }
ca-file = "ca.pem"
connect-timeout = "3s"
http2 = true
weight = 0.5
"#;

#[test]
fn command_line_over_o_over_file_over_built_in() {
    let desk = Desk::new();
    desk.write("d.toml", FILE);
    desk.write("ca.pem", "");
    let plan = desk.plan("braidfs mount d.toml https://b.example/ mnt -o gid=8,uid=7 --uid 9").unwrap();
    assert_eq!((plan.uid, plan.gid, plan.memory, plan.umask), (9, 8, 32 << 20, 0o022));
    assert_eq!(plan.mountpoint, desk.folder.path().join("mnt"));
    assert_eq!(plan.name, "genomes");
    assert_eq!(plan.cache, CacheDir::At(desk.folder.path().join("cache")));
    let urls: Vec<_> = plan.mirrors.iter().map(|mirror| mirror.url.shown()).collect();
    assert_eq!(urls, ["https://a.example/", "https://b.example/"]);
    assert_eq!(plan.mirrors[0].ca_file, Some(desk.folder.path().join("ca.pem")));
    assert_eq!(plan.mirrors[0].connect_timeout, Some(Duration::from_secs(3)));
    assert_eq!((plan.mirrors[0].http2, plan.mirrors[1].http2), (true, false));
    assert_eq!(plan.config_file, Some(desk.folder.path().join("d.toml")));
    assert_eq!((plan.mirrors[0].weight, plan.mirrors[1].weight), (0.5, 1.0));
    assert_eq!((plan.strategy, plan.hedging, plan.passthrough), (Strategy::RoundRobin, false, false));
    let o = "braidfs mount d.toml mnt -o strategy=weighted-random";
    assert_eq!(desk.plan(o).unwrap().strategy, Strategy::WeightedRandom);
    assert!(desk.plan(&format!("{o} --hedging")).unwrap().hedging);
    let typed = format!("{o} --strategy response-time-first");
    assert_eq!(desk.plan(&typed).unwrap().strategy, Strategy::ResponseTimeFirst);
}

#[test]
fn a_file_may_name_the_mountpoint_itself() {
    let desk = Desk::new();
    desk.write("d.toml", FILE);
    desk.write("ca.pem", "");
    for line in ["braidfs mount d.toml", "braidfs mount --config d.toml"] {
        assert_eq!(desk.plan(line).unwrap().mountpoint, desk.folder.path().join("here"), "{line}");
    }
    let plan = desk.plan("braidfs mount --config d.toml there").unwrap();
    assert_eq!(plan.mountpoint, desk.folder.path().join("there"));
    let plan = desk.plan("braidfs ./d.toml there -o rw,dev,suid").unwrap();
    assert!(plan.background, "mount(8) waits for its command to return");
}

#[test]
fn the_name_and_so_the_cache_outlives_further_mirrors() {
    let desk = Desk::new();
    let one = desk.plan("braidfs mount https://a.example/d mnt").unwrap();
    let two = desk.plan("braidfs mount https://a.example/d/ https://b.example/d mnt").unwrap();
    assert_eq!((one.name, one.cache), (two.name, two.cache));
}

#[test]
fn what_cannot_be_is_refused_with_the_way_out() {
    let desk = Desk::new();
    desk.write("d.toml", FILE);
    desk.write("e.toml", "[[mirror]]\nurl = \"https://e.example/\"\n");
    desk.write("none.toml", "name = \"x\"\n");
    std::fs::create_dir(desk.folder.path().join("mnt")).unwrap();
    for (line, said) in [
        ("braidfs mount", "no SOURCE and no MOUNTPOINT; write: braidfs mount https://"),
        ("braidfs mount mnt", "is the MOUNTPOINT, but no SOURCE is given"),
        ("braidfs mount https://a.example/", "no MOUNTPOINT: give an empty folder"),
        ("braidfs mount e.toml", "no MOUNTPOINT: give an empty folder as the last argument after \"e.toml\""),
        ("braidfs mount https://a.example/ https://b.example/", "but \"https://b.example/\" is a URL; add a folder"),
        ("braidfs mount a.example/data mnt", "write https://a.example/data for a mirror"),
        ("braidfs mount missing.toml mnt", "missing.toml: no such file"),
        ("braidfs mount --config missing.toml mnt", "/missing.toml: No such file or directory"),
        ("braidfs mount mnt mnt", "is a folder"),
        ("braidfs mount none.toml mnt", "none.toml has no [[mirror]] table and no SOURCE is given"),
        ("braidfs mount e.toml --config none.toml mnt", "two configuration files"),
        ("braidfs mount https://a.example https://a.example/ mnt", "the mirror https://a.example/ is given twice"),
        ("braidfs mount d.toml mnt", "d.toml:14:11: cannot read ca-file"),
        ("braidfs mount https://a/ mnt --memory 8M", "memory 8MiB is less than 16MiB"),
        ("braidfs mount https://a/ mnt --scrub-rate 1KiB/s", "scrub-rate 1KiB/s is less than 64KiB/s"),
        ("braidfs mount https://a/ mnt --cache-size 1M", "cache-size 1MiB is less than 16MiB"),
        ("braidfs mount https://a/ mnt --read-timeout 0s", "read-timeout 0s is shorter than 100ms"),
        (
            "braidfs mount https://a/ mnt --read-timeout 10s --read-deadline 5s",
            "read-deadline 5s is shorter than read-timeout 10s",
        ),
        ("braidfs mount https://a/ mnt --read-deadline 1ms", "read-deadline 1ms is shorter than 100ms"),
        ("braidfs mount https://a/ mnt --entry-lifetime 100000h", "longer than a year"),
        ("braidfs mount https://a/ mnt --name a/b", "\"a/b\" cannot name a dataset"),
        ("braidfs mount https://a/ mnt -o rw", "a braidfs mount is read-only"),
        ("braidfs mount https://a/ mnt -o bogus", "-o bogus: unknown option"),
        ("braidfs mount https://a/ mnt --cache-dir=", "cache-dir is empty"),
        ("braidfs mount https://a/ mnt --fsname=", "fsname \"\" is empty"),
    ] {
        let error = desk.refusal(line);
        assert!(error.contains(said), "{line}: {error}");
    }
}

#[test]
fn a_weight_is_from_a_tenth_to_a_hundred() {
    let desk = Desk::new();
    for (weight, ok) in [("0.1", true), ("100", true), ("0.09", false), ("101", false), ("nan", false), ("-1", false)] {
        desk.write("w.toml", &format!("[[mirror]]\nurl = \"https://a.example/\"\nweight = {weight}\n"));
        match desk.plan("braidfs mount w.toml mnt") {
            Ok(plan) => assert!(ok && plan.mirrors[0].weight.to_string() == weight, "{weight} is taken"),
            Err(error) => assert!(!ok && error.to_string().contains("w.toml:3:10: weight "), "{weight}: {error}"),
        }
    }
}

#[test]
fn no_home_is_no_default_cache() {
    let mut desk = Desk::new();
    desk.around.home = None;
    assert!(desk.refusal("braidfs mount https://a/ mnt").contains("give --cache-dir DIR or --cache-dir none"));
    assert_eq!(desk.plan("braidfs mount https://a/ mnt --cache-dir none").unwrap().cache, CacheDir::None);
}

#[test]
fn too_many_mirrors_are_refused() {
    let desk = Desk::new();
    let tables: String = (0..1025).map(|at| format!("[[mirror]]\nurl = \"https://m{at}.example/\"\n")).collect();
    desk.write("many.toml", &tables);
    assert!(desk.refusal("braidfs mount many.toml mnt").contains("1025 mirrors are more than the 1024"));
}

#[test]
fn more_memory_than_the_cgroup_gives_is_said() {
    let mut desk = Desk::new();
    desk.around.memory_limit_bytes = Some(64 << 20);
    assert_eq!(desk.plan("braidfs mount https://a/ mnt").unwrap().memory, 16 << 20);
    let plan = desk.plan("braidfs mount https://a/ mnt --memory 128M").unwrap();
    assert!(plan.warnings[0].contains("memory 128MiB is more than the 67108864 bytes"), "{:?}", plan.warnings);
}

#[test]
fn one_deadline_alone_moves_the_other() {
    let desk = Desk::new();
    let plan = desk.plan("braidfs mount https://a/ mnt --read-deadline 5s").unwrap();
    assert_eq!(plan.read_timeout, Duration::from_secs(5));
    let plan = desk.plan("braidfs mount https://a/ mnt --read-timeout 1h").unwrap();
    assert_eq!(plan.read_deadline, Duration::from_secs(3600));
}

#[test]
fn the_level_of_the_log_has_one_precedence() {
    let mut desk = Desk::new();
    let level = |desk: &Desk, more: &str| desk.plan(&format!("braidfs mount https://a/ mnt {more}")).unwrap().log_level;
    assert_eq!(level(&desk, ""), LogLevel::Info);
    assert_eq!((level(&desk, "-v"), level(&desk, "-vv")), (LogLevel::Debug, LogLevel::Trace));
    assert_eq!(level(&desk, "-vv --log-level error"), LogLevel::Error, "what is written out counts");
    assert_eq!(level(&desk, "-o log-level=warn"), LogLevel::Warn);
    assert_eq!(level(&desk, "-v -o log-level=warn"), LogLevel::Debug, "the command line counts first");
    desk.around.variables = vec![("LOG_LEVEL".into(), "trace".into())];
    assert_eq!((level(&desk, ""), level(&desk, "-v")), (LogLevel::Trace, LogLevel::Debug));
    assert!(desk.refusal("braidfs mount https://a/ mnt -o log-level=loud").contains("give error, warn, info"));
}

#[test]
fn the_journal_is_no_file() {
    let desk = Desk::new();
    let plan = |more: &str| desk.plan(&format!("braidfs mount https://a/ mnt {more}"));
    assert_eq!(plan("").unwrap().log, None);
    assert_eq!(plan("--log json --log-file x").unwrap().log, Some(LogFormat::Json));
    assert!(desk.refusal("braidfs mount https://a/ mnt --log journal --log-file x").contains("leave one of them out"));
}
