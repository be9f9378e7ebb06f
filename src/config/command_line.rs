//! The whole command line, as data: what `braidfs --help` shows and what was typed.

use super::ab_command::AbCommand;
use super::fuse_options::FuseOptions;
use super::ideas::Ideas;
use super::logging::LogLevel;
use super::options::Given;
use super::rate::Rate;
use super::simulate_command::SimulateCommand;
use super::size::Size;
use crate::control::commands::{Asked, PathList, RecordAsked};
use crate::scheduler::Strategy;
use crate::scheduler::explain::DECISIONS_KEPT;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Mount a remote dataset, which several mirrors hold, as a local read-only directory
#[derive(Parser, Clone, Debug)]
#[command(name = "braidfs", version, subcommand_required = true, arg_required_else_help = true)]
#[command(
    after_help = "The first thing to try:  braidfs demo\nA real one:              braidfs mount https://HOST/FOLDER/ https://OTHER/FOLDER/ MOUNTPOINT"
)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Log more, as --log-level debug; twice for still more, as --log-level trace
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Mount a dataset
    Mount(Box<MountCommand>),
    /// List all mounts
    List(ListCommand),
    /// Show what a mount, or a file in it, is doing
    Status(StatusCommand),
    /// Show what is known of files and folders: version, mirrors, and what is cached of them
    Stat(StatCommand),
    /// Show every mirror and how they are chosen, or choose them otherwise from now on
    Mirrors(MirrorsCommand),
    /// Watch what a mount does, full screen
    Top(TopCommand),
    /// Print the address of the page of a mount that was made with --web, with the token that opens it
    Web(WebCommand),
    /// Show why mirrors were chosen, for a mount, a file, or a page of it
    Explain(ExplainCommand),
    /// Fetch files and folders into the cache ahead of their use
    Prefetch(PrefetchCommand),
    /// Show prefetch jobs: those that run, and the last few that ended
    Jobs(JobsCommand),
    /// End a prefetch job; what it has brought stays
    Cancel(CancelCommand),
    /// Keep files and folders in the cache: eviction leaves them alone
    #[command(after_help = PIN_HELP)]
    Pin(PathsCommand),
    /// Let eviction have what was pinned
    #[command(after_help = "Exit codes: 0 unpinned, 1 one of them is not pinned (then none is unpinned), \
                            2 the daemon does not answer, or wrong usage.")]
    Unpin(PathsCommand),
    /// Drop what is cached of files and folders, on disk and in memory
    #[command(
        after_help = "Open files are read on, from the mirrors. Works offline.\nExit codes: 0 evicted, 1 some paths \
                            were not (pinned, or there is no such file; each is named), 2 the daemon does not answer, \
                            or wrong usage."
    )]
    Evict(PathsCommand),
    /// Read what is cached of files and folders back from disk and compare it with its checksums
    #[command(after_help = "What does not match is dropped, and fetched again when it is read. Works offline.\n\
                            Exit codes: 0 all of it matches, 1 something did not or could not be read (it is named), \
                            2 the daemon does not answer, or wrong usage.")]
    Verify(PathsCommand),
    /// Compare what is configured, and the predictor, with what is built in, on a mount that is in use
    Ab(AbCommand),
    /// Read a mount's configuration file anew, without ending the mount
    Reload(ReloadCommand),
    /// End a mount
    Umount(UmountCommand),
    /// Look at this machine, the cache folder, the mirrors, or a mount, and say what is wrong and what to do
    Doctor(Box<DoctorCommand>),
    /// Measure a mount, or a file in it, for a few seconds: figures for a bug report
    Bench(BenchCommand),
    /// Run the scheduler in virtual time against simulated mirrors, and show how well it does
    Simulate(Box<SimulateCommand>),
    /// Check a configuration, or show what a mount would use and where each value comes from
    Config(ConfigCommand),
    /// Write completions for a shell, manual pages, or the schema of a command's JSON
    Generate(GenerateCommand),
    /// Try it without network: mirrors and a dataset of its own, mounted
    Demo(DemoCommand),
}

/// `braidfs mount`.
#[derive(Args, Clone, Debug)]
#[command(
    override_usage = "braidfs mount [OPTIONS] SOURCE... MOUNTPOINT\n       braidfs mount [OPTIONS] --config FILE [MOUNTPOINT]"
)]
#[command(after_help = SIZES_AND_PLACES)]
pub struct MountCommand {
    /// SOURCE: the URL of a mirror, or a TOML file that lists mirrors. MOUNTPOINT: an empty folder
    #[arg(value_name = "SOURCE... MOUNTPOINT", hide_default_value = true)]
    pub places: Vec<OsString>,
    /// A TOML file with [[mirror]] tables and options
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The options, `name=value` with commas between, as /etc/fstab has them
    #[arg(short = 'o', value_name = "OPTION,...")]
    pub fuse: Vec<String>,
    /// The options.
    #[command(flatten)]
    pub given: Given,
    /// Written by mount(8) rather than by a person: `braidfs SRC MNT -o …`.
    #[arg(long, hide = true)]
    pub by_mount: bool,
    /// For measurements.
    #[command(flatten)]
    pub ideas: Ideas,
}

const SIZES_AND_PLACES: &str = "\
Sizes: 10GiB (or 10G), 512MiB, 1.5TB, bytes. Durations: 30s, 500ms, 10min, 1h30m.
Each option may also stand after -o (name=value), in the environment
(BRAIDFS_MEMORY=1GiB) and in the file (name = value); they count in this order,
the command line first.
Exit codes: 0 done, 1 refused or failed, 2 wrong usage.";

/// `braidfs list`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Mounts of other users are listed by their places only.\nExit codes: 0 listed, even where there is none, 2 the system does not say."
)]
pub struct ListCommand {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `braidfs status`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit codes: 0 shown, 1 no such mount or file, 2 the daemon does not answer.")]
pub struct StatusCommand {
    /// A mountpoint, or a file in a mount [default: the mount of the working folder, else the only one]
    pub path: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `braidfs stat`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "`getfattr -n user.braidfs.cached_bytes FILE` says the same: cached_bytes, on_disk_bytes, \
                        in_memory_bytes, size, complete, pinned, version, mirrors, map.\nExit codes: 0 shown, 1 no such \
                        mount, file or folder, 2 the daemon does not answer, or wrong usage; the worst of all PATHs.")]
pub struct StatCommand {
    /// Files and folders in mounts
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Print a line of JSON for each
    #[arg(long)]
    pub json: bool,
}

/// `URL=WEIGHT`. A URL may have `=` in it, a weight has none.
fn mirror_weight(text: &str) -> Result<(String, f64), String> {
    let parts = text.rsplit_once('=').and_then(|(url, weight)| Some((url.to_owned(), weight.parse::<f64>().ok()?)));
    parts.ok_or_else(|| "write the mirror and its weight: --weight https://HOST/FOLDER/=2".to_owned())
}

/// `braidfs top`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit codes: 0 ended by a key or a signal, 1 no such mount, or no terminal, 2 the daemon does not answer."
)]
pub struct TopCommand {
    /// A path in a mount [default: the mount of the working folder, else the only one]
    pub path: Option<PathBuf>,
    /// Print one screen as text
    #[arg(long)]
    pub once: bool,
}

/// `braidfs web`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Whoever has the token may command the mount: it is another one each time, and only its user and \
                        root can read it.\nExit codes: 0 printed, 1 no such mount, or it serves no page, 2 the daemon \
                        does not answer."
)]
pub struct WebCommand {
    /// A path in a mount [default: the mount of the working folder, else the only one]
    pub path: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `braidfs mirrors`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit codes: 0 shown, 1 no such mount, 2 the daemon does not answer, or wrong usage.")]
pub struct MirrorsCommand {
    /// A path in a mount [default: the mount of the working folder, else the only one]
    pub path: Option<PathBuf>,
    /// Choose mirrors so until it is unmounted: round-robin, weighted-random, response-time-first,
    /// adaptive or predicted
    #[arg(long, value_name = "NAME")]
    pub strategy: Option<Strategy>,
    /// Use this one more (or less) than others, 0.1 to 100, until it is unmounted or its file is read anew
    #[arg(long, value_name = "URL=WEIGHT", value_parser = mirror_weight, conflicts_with_all = ["out", "back"])]
    pub weight: Option<(String, f64)>,
    /// Take this one out: what is under way from it goes to the others
    #[arg(long, value_name = "URL", conflicts_with = "back")]
    pub out: Option<String>,
    /// Put one back that was taken out
    #[arg(long, value_name = "URL")]
    pub back: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `braidfs explain`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "The least score wins. A score is the sum of its terms, so the terms in which a mirror differs from \
                        the winner add up to what it lost by.\nExit codes: 0 shown, 1 no such mount, file or byte, \
                        2 the daemon does not answer, or wrong usage."
)]
pub struct ExplainCommand {
    /// A file in a mount; with an offset in bytes the page there; a mountpoint: all files
    /// [default: the mount of the working folder, else the only one]
    #[arg(value_name = "PATH[:OFFSET]")]
    pub path: Option<PathBuf>,
    /// The last so many decisions; 4096 are kept [default: 10, or of a page those back to the one that brought it]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=DECISIONS_KEPT as u64))]
    pub last: Option<u64>,
    /// Print JSON lines: each decision, then the result
    #[arg(long)]
    pub json: bool,
}

/// `braidfs prefetch`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit codes: 0 all of it is durable on disk, 1 some files failed (each is named), \
                        2 the daemon does not answer or went away.")]
pub struct PrefetchCommand {
    /// Files, and folders with all that is below them, all in one mount
    #[arg(required_unless_present_any = ["files_from", "profile", "record"], value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Read more paths from a file, one a line; `-`: from stdin
    #[arg(long, value_name = "FILE")]
    pub files_from: Option<PathBuf>,
    /// A NUL ends each path of that file, as after `find -print0`
    #[arg(short = '0', long, requires = "files_from")]
    pub null: bool,
    /// Fetch what a profile names and no more, in its order; PATH tells the mount
    /// [default: the mount of the working folder, else the only one]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["files_from", "range", "check"])]
    pub profile: Option<PathBuf>,
    /// Fetch nothing: write what is read at PATH and below it into a profile, until Ctrl-C or the end of a COMMAND after --
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["files_from", "profile", "range", "check", "rate", "no_wait"]
    )]
    pub record: Option<PathBuf>,
    /// Fetch a part of one file: `1GiB+64MiB`, `0+4096`
    #[arg(long, value_name = "OFFSET+BYTES", value_parser = byte_range, conflicts_with_all = ["files_from", "check"])]
    pub range: Option<(u64, u64)>,
    /// Fetch nothing: say how much of it is durable on disk, and exit with 1 unless all is
    #[arg(long, conflicts_with_all = ["no_wait", "rate"])]
    pub check: bool,
    /// Ask for no more than this in any second, beside what others do
    #[arg(long, value_name = "RATE", value_parser = job_rate)]
    pub rate: Option<u64>,
    /// Print the number of the job and return at once
    #[arg(long)]
    pub no_wait: bool,
    /// Print JSON lines: progress, failures, then the result
    #[arg(long)]
    pub json: bool,
    /// Record while this runs
    #[arg(last = true, requires = "record", value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

impl PrefetchCommand {
    /// What is to be recorded, where that is asked for.
    pub fn recording(&self) -> Option<RecordAsked<'_>> {
        let file = self.record.as_ref()?;
        Some(RecordAsked { file, paths: &self.paths, command: &self.command })
    }

    /// What is asked for.
    pub fn what(&self) -> Asked<'_> {
        let list = self.files_from.as_ref().map(|file| PathList { file, null: self.null });
        let (profile, range) = (self.profile.as_deref(), self.range);
        Asked { paths: &self.paths, list, profile, range, check: self.check, no_wait: self.no_wait, rate: self.rate }
    }
}

/// Where it begins and how long it is, in bytes.
fn byte_range(text: &str) -> Result<(u64, u64), String> {
    let bad = |why: String| format!("{text:?} is not a range: {why}; write OFFSET+BYTES, as in 1GiB+64MiB or 0+4096");
    let (offset, bytes) = text.split_once('+').ok_or_else(|| bad("there is no + in it".into()))?;
    let size = |text: &str| text.parse::<Size>().map(|size| size.0).map_err(|error| bad(error.to_string()));
    match (size(offset)?, size(bytes)?) {
        (_, 0) => Err(bad("it has no bytes".into())),
        range => Ok(range),
    }
}

/// In bytes per second.
fn job_rate(text: &str) -> Result<u64, String> {
    text.parse::<Rate>().map_err(|error| error.to_string())?.of_a_limit("this rate")
}

/// `braidfs jobs`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit codes: 0 shown, 1 no such mount, 2 the daemon does not answer.")]
pub struct JobsCommand {
    /// A path in a mount [default: the mount of the working folder, else the only one]
    pub path: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `braidfs cancel`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit codes: 0 cancelled, 1 no such mount, or no such job runs, 2 the daemon does not answer.")]
pub struct CancelCommand {
    /// The number of the job, as `braidfs prefetch --no-wait` and `braidfs jobs` print it
    #[arg(value_name = "JOB")]
    pub job: u64,
    /// A path in a mount [default: the mount of the working folder, else the only one]
    pub path: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const PIN_HELP: &str = "\
What comes later into a pinned folder is pinned too. Pins stay until `braidfs unpin`, over restarts. They fetch nothing:
`braidfs prefetch` does. `braidfs status` shows how much is pinned.
Exit codes: 0 pinned, 1 refused (no room, no such file), 2 the daemon does not answer, or wrong usage.";

/// `braidfs pin`, `unpin`, `evict` and `verify`.
#[derive(Args, Clone, Debug)]
pub struct PathsCommand {
    /// Files, and folders with all that is below them, all in one mount
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Print JSON lines: what comes before the end, then the result
    #[arg(long)]
    pub json: bool,
}

/// `braidfs reload`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "A file that is wrong changes nothing: the last good one stays in force. SIGHUP to the daemon, and \
                        a change of the file, do the same.\nExit codes: 0 it is in force, 1 it is wrong (line and \
                        column are named), or the mount has no file, 2 the daemon does not answer."
)]
pub struct ReloadCommand {
    /// A path in a mount [default: the mount of the working folder, else the only one]
    pub path: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `braidfs umount`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit codes: 0 the mount is gone, 1 it is busy or not a mount, 2 it is still there.")]
pub struct UmountCommand {
    /// A mountpoint, or a path in a mount
    pub path: PathBuf,
    /// Detach it now, even if busy; it ends once nobody uses it
    #[arg(long, short = 'z')]
    pub lazy: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `braidfs doctor`.
#[derive(Args, Clone, Debug)]
#[command(
    override_usage = "braidfs doctor [OPTIONS] [SOURCE...] [MOUNTPOINT]\n       braidfs doctor [OPTIONS] --config FILE [MOUNTPOINT]\n       braidfs doctor PATH"
)]
#[command(after_help = DOCTOR_HELP)]
pub struct DoctorCommand {
    /// What `braidfs mount` takes, whose MOUNTPOINT may be left out; or a path in a mount [default: the machine, and
    /// all mounts of yours]
    #[arg(value_name = "SOURCE... MOUNTPOINT|PATH", hide_default_value = true)]
    pub places: Vec<OsString>,
    /// A TOML file with [[mirror]] tables and options
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The options, `name=value` with commas between, as /etc/fstab has them
    #[arg(short = 'o', value_name = "OPTION,...")]
    pub fuse: Vec<String>,
    /// The options.
    #[command(flatten)]
    pub given: Given,
    /// Where chance comes from: which file and page are compared [default: the time, which is shown with --json]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const DOCTOR_HELP: &str = "\
Nothing is mounted and nothing is kept: the disk is measured with a nameless file of at most 64 MiB, each mirror with at
most some 5 MiB. It takes a minute at most.
Exit codes: 0 nothing is wrong (warnings may be shown), 1 a problem was found, 2 wrong usage.";

/// `braidfs bench`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Reads as any program does, and changes nothing else: nothing is evicted first, so what was cached is \
                        said beside each figure.\nExit codes: 0 measured, 1 no such mount or file, or it cannot be \
                        read, 2 the daemon does not answer, or wrong usage."
)]
pub struct BenchCommand {
    /// A mountpoint (its largest file is taken), or a file in a mount [default: the mount of the working folder, else
    /// the only one]
    pub path: Option<PathBuf>,
    /// Read at most so much
    #[arg(long, value_name = "SIZE", default_value = "256MiB")]
    pub bytes: Size,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl DoctorCommand {
    /// The mount that it is about.
    pub fn mount(&self) -> MountCommand {
        MountCommand {
            places: self.places.clone(),
            config: self.config.clone(),
            fuse: self.fuse.clone(),
            given: self.given.clone(),
            by_mount: false,
            ideas: Ideas::default(),
        }
    }
}

/// `braidfs demo`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit codes: 0 shown, 1 a tool failed, or it could not be mounted, 2 wrong usage.")]
pub struct DemoCommand {
    /// Where to make the demo's folders [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// End after the show instead of leaving it mounted
    #[arg(long)]
    pub no_wait: bool,
}

/// `braidfs config`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit codes: 0 it is right, or shown; 1 it is wrong: file, line and column are named; 2 wrong usage."
)]
pub struct ConfigCommand {
    /// What.
    #[command(subcommand)]
    pub what: Config,
}

/// What `braidfs config` does.
#[derive(Subcommand, Clone, Debug)]
pub enum Config {
    /// Check a TOML file as a whole
    Check {
        /// The file
        file: PathBuf,
    },
    /// Show every value that a mount of these would use, as TOML, with where it comes from: the command line, -o, the
    /// environment, the file, or what is built in
    Show(Box<MountCommand>),
    /// Print the JSON schema of the file, for editors
    Schema,
}

/// `braidfs generate`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "braidfs generate completions bash > /usr/share/bash-completion/completions/braidfs\n\
                        braidfs generate man /usr/local/share/man/man1\nExit codes: 0 written, 1 it cannot be written, \
                        2 wrong usage.")]
pub struct GenerateCommand {
    /// What.
    #[command(subcommand)]
    pub what: Generate,
}

/// Commands whose JSON has a schema.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum SchemaOf {
    /// Each line of `braidfs prefetch --json`
    Prefetch,
}

/// What `braidfs generate` writes.
#[derive(Subcommand, Clone, Debug)]
pub enum Generate {
    /// Completions, to stdout
    Completions {
        /// For which shell
        shell: Shell,
    },
    /// The JSON schema of what a command prints with --json, to stdout
    Schema {
        /// Of which command
        of: SchemaOf,
    },
    /// Manual pages, braidfs.1 and one for each command
    Man {
        /// Into this folder, which is made
        dir: PathBuf,
    },
}

impl CommandLine {
    /// Read the words of the command line, the program's name first. Also takes the form in which
    /// mount.fuse3 calls a file system, without the word `mount`: `braidfs SRC MNT -o k=v,…`.
    ///
    /// # Errors
    /// clap's: it prints itself (help and version too) and knows its exit code.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<CommandLine, clap::Error> {
        let mut words: Vec<OsString> = words.into_iter().collect();
        if is_called_by_mount(&words) {
            words.splice(1..1, ["mount".into(), "--by-mount".into()]);
        }
        let mut line = CommandLine::try_parse_from(words)?;
        line.spell_out_verbose();
        Ok(line)
    }

    /// `-v` is a short way to write `--log-level`, which counts where both are typed.
    fn spell_out_verbose(&mut self) {
        let level = LogLevel::of_verbose(self.verbose);
        if let Command::Mount(mount) | Command::Config(ConfigCommand { what: Config::Show(mount) }) = &mut self.command
        {
            mount.given.log_level = mount.given.log_level.or(level);
        }
    }
}

impl MountCommand {
    /// What stands after `-o`; the file is that of the command line where both name one.
    ///
    /// # Errors
    /// An option after `-o` that is unknown or has a wrong value.
    pub fn after_o(&self) -> Result<FuseOptions, super::fuse_options::BadFuseOption> {
        let fuse = FuseOptions::read(self.fuse.iter().map(String::as_str), self.by_mount)?;
        Ok(FuseOptions { config: self.config.clone().or(fuse.config), ..fuse })
    }
}

/// The first word is no command, and it is a path or URL, or `-o` follows.
fn is_called_by_mount(words: &[OsString]) -> bool {
    let Some(first) = words.get(1).and_then(|word| word.to_str()) else { return false };
    let is_command =
        <CommandLine as clap::CommandFactory>::command().find_subcommand(first).is_some() || first == "help";
    let has_o = words[2..].iter().any(|word| word.to_string_lossy().starts_with("-o"));
    !is_command && !first.starts_with('-') && words.len() > 2 && (has_o || first.contains('/'))
}

/// Is `word` a URL by its looks?
pub fn looks_like_url(word: &OsStr) -> bool {
    word.to_string_lossy().contains("://")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::read(line.split_whitespace().map(OsString::from))
    }

    fn mount(line: &str) -> MountCommand {
        match read(line).unwrap().command {
            Command::Mount(mount) => *mount,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        <CommandLine as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn options_may_stand_anywhere() {
        let mount = mount("braidfs mount --memory 1G https://a/ https://b/ /mnt --allow-other --umask 077 -v");
        assert_eq!(mount.places, ["https://a/", "https://b/", "/mnt"]);
        assert_eq!(mount.given.memory, Some(Size(1 << 30)));
        assert_eq!(mount.given.allow_other, Some(true));
        assert!(!mount.by_mount);
    }

    #[test]
    fn mount_fuse3_leaves_the_word_mount_out() {
        for line in [
            "braidfs https://a/ /mnt -o rw,dev,suid,memory=1G",
            "braidfs data.toml mnt -orw,memory=1G",
            "braidfs /etc/d.toml /mnt",
        ] {
            let mount = mount(line);
            assert!(mount.by_mount && mount.places.len() == 2, "{line}");
            assert!(mount.after_o().is_ok(), "{line}");
        }
        assert_eq!(mount("braidfs https://a/ /mnt -o memory=1G").after_o().unwrap().given.memory, Some(Size(1 << 30)));
    }

    #[test]
    fn a_slip_in_a_command_is_no_mount() {
        let error = read("braidfs statsu mnt").unwrap_err().to_string();
        assert!(error.contains("unrecognized subcommand 'statsu'") && error.contains("status"), "{error}");
        assert!(read("braidfs").is_err());
        assert!(read("braidfs /mnt").is_err());
        assert!(read("braidfs help").is_err(), "help is shown, not mounted");
    }

    #[test]
    fn a_file_of_the_command_line_counts_before_that_after_o() {
        let mount = mount("braidfs mount https://a/ /mnt -o uid=5,config=y.toml --config x.toml");
        let options = mount.after_o().unwrap();
        assert_eq!((options.given.uid, options.config), (Some(5), Some("x.toml".into())));
    }

    #[test]
    fn bad_values_name_the_option_and_the_way_out() {
        for (line, said) in [
            ("braidfs mount a b --memory lots", "invalid value 'lots' for '--memory <SIZE>': \"lots\" is not a size"),
            (
                "braidfs mount a b --read-timeout 30",
                "for '--read-timeout <DURATION>': \"30\" is not a duration: its unit",
            ),
            ("braidfs mount a b --umask 99", "\"99\" is not a umask"),
            ("braidfs mount a b --scrub-rate 8MB", "\"8MB\" is not a rate in bytes; write 20MB/s or 512KiB/s"),
            ("braidfs mount a b --scrub-rate off", "`none` turns it off"),
            (
                "braidfs mount a b --strategy fastest",
                "invalid value 'fastest' for '--strategy <NAME>': \"fastest\" is not a strategy: give round-robin",
            ),
            ("braidfs mount a b --memroy 1G", "unexpected argument '--memroy'"),
            ("braidfs mount a b --memory 1G --memory 2G", "cannot be used multiple times"),
            (
                "braidfs mirrors --strategy fastest",
                "invalid value 'fastest' for '--strategy <NAME>': \"fastest\" is not a strategy: give round-robin",
            ),
            ("braidfs explain a --last 0", "invalid value '0' for '--last <N>': 0 is not in 1..=4096"),
            ("braidfs explain a --last 5000", "5000 is not in 1..=4096"),
            ("braidfs explain a --last all", "invalid value 'all' for '--last <N>'"),
            ("braidfs explain a b", "unexpected argument 'b'"),
            ("braidfs prefetch", "required arguments were not provided"),
            ("braidfs prefetch a -0", "required arguments were not provided"),
            ("braidfs prefetch a --range 5", "\"5\" is not a range: there is no + in it; write OFFSET+BYTES"),
            ("braidfs prefetch a --range 5+0", "\"5+0\" is not a range: it has no bytes; write"),
            ("braidfs prefetch a --range 5+x", "\"5+x\" is not a range: \"x\" is not a size"),
            ("braidfs prefetch a --range 5+1 --check", "cannot be used with"),
            ("braidfs prefetch a --rate 20", "\"20\" is not a rate in bytes; write 20MB/s or 512KiB/s"),
            ("braidfs prefetch a --rate 1KB/s", "this rate 1KB/s is less than 64KiB/s; give more"),
            ("braidfs pin", "required arguments were not provided"),
            ("braidfs unpin", "required arguments were not provided"),
            ("braidfs evict", "required arguments were not provided"),
            ("braidfs verify --json", "required arguments were not provided"),
            ("braidfs umount", "required arguments were not provided"),
        ] {
            let error = read(line).expect_err(line).to_string();
            assert!(error.contains(said), "{line}: {error}");
        }
    }

    #[test]
    fn the_other_commands_are_read() {
        assert!(matches!(
            read("braidfs status").unwrap().command,
            Command::Status(StatusCommand { path: None, json: false })
        ));
        let Command::Mirrors(mirrors) = read("braidfs mirrors /mnt --strategy round-robin").unwrap().command else {
            panic!()
        };
        assert_eq!((mirrors.path, mirrors.strategy), (Some("/mnt".into()), Some(Strategy::RoundRobin)));
        let Command::Explain(explain) = read("braidfs explain a:5 --last 3 --json").unwrap().command else { panic!() };
        assert_eq!((explain.path, explain.last, explain.json), (Some("a:5".into()), Some(3), true));
        let Command::Prefetch(prefetch) = read("braidfs prefetch a b --no-wait --json").unwrap().command else {
            panic!()
        };
        assert!(prefetch.no_wait && prefetch.json && prefetch.paths.len() == 2);
        let Command::Umount(umount) = read("braidfs umount /mnt --lazy").unwrap().command else { panic!() };
        assert!(umount.lazy);
        assert!(matches!(
            read("braidfs demo --no-wait").unwrap().command,
            Command::Demo(DemoCommand { dir: None, no_wait: true })
        ));
    }
}
