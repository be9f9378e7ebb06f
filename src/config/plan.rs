//! What was given, in layers (command line over file over built-in), into the plan of a mount.

use super::command_line::{MountCommand, looks_like_url};
use super::deadlines::{deadlines, entry_lifetime};
use super::defaults::{self, Surroundings};
use super::environment;
use super::file::{ConfigFile, FileError, Headers, MirrorTable};
use super::fuse_fd::fuse_fd;
use super::ideas::Ideas;
use super::logging::{LogFormat, LogLevel};
use super::options::{CacheDirGiven, Given, ScrubRate};
use super::origin::{Origin, origins};
use super::otlp::{OtlpPlan, otlp};
use super::plan_error::PlanError;
use super::rate::Rate;
use super::rule;
use super::size::Size;
use super::source::{MirrorUrl, Source, read_source};
use crate::chunk::MIRRORS_MAX;
use crate::fetch::rules::Rules;
use crate::scheduler::{Strategy, Verify};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that a mount is told, every path absolute, every value within its bounds.
#[derive(Clone, Debug)]
pub struct MountPlan {
    /// The mirrors, in the order given, each once; at least one.
    pub mirrors: Vec<MirrorPlan>,
    /// Where to mount. Not looked at yet.
    pub mountpoint: PathBuf,
    /// The descriptor to serve instead of mounting; then `mountpoint` may be `/dev/fd/N`.
    pub fuse_fd: Option<u32>,
    /// The dataset's name: fit to be a folder's.
    pub name: String,
    /// Where to keep bytes.
    pub cache: CacheDir,
    /// The most that the cache takes of the disk, in bytes; `None`: a tenth of what is free there.
    pub cache_size: Option<u64>,
    /// How fast cached bytes are read back to find rotten ones, in bytes per second; `None`: not at all.
    pub scrub_rate: Option<u64>,
    /// The most memory for fetched bytes, in bytes.
    pub memory: u64,
    /// A read fails after this long without a byte.
    pub read_timeout: Duration,
    /// A read fails after this long in any case; not shorter than `read_timeout`.
    pub read_deadline: Duration,
    /// How long names and attributes are believed.
    pub entry_lifetime: Duration,
    /// How mirrors are chosen.
    pub strategy: Strategy,
    /// When bytes are believed; [`Verify::Quorum`] only with two mirrors or more.
    pub verify: Verify,
    /// Late demand is asked of a second mirror too.
    pub hedging: bool,
    /// The kernel reads complete files in the cache by itself, where it can.
    pub passthrough: bool,
    /// What all mirrors together are asked for at most, in bytes per second; `None`: no limit.
    pub rate_limit: Option<u64>,
    /// Where metrics are served.
    pub metrics: Option<SocketAddr>,
    /// Where spans of slow reads go.
    pub otlp: Option<OtlpPlan>,
    /// Where the page is served.
    pub web: Option<SocketAddr>,
    /// Parts of the tree with a class, an objective or hours of their own.
    pub rules: Rules,
    /// Go to the background once the mount can be used.
    pub background: bool,
    /// Let other users in.
    pub allow_other: bool,
    /// The owner of everything in the mount.
    pub uid: u32,
    /// And the group.
    pub gid: u32,
    /// Permission bits to take away.
    pub umask: u16,
    /// What `df` shows as the source.
    pub fsname: String,
    /// Refuse to run programs from the mount.
    pub noexec: bool,
    /// Where the log goes; `None`: stderr.
    pub log_file: Option<PathBuf>,
    /// How it is written; `None`: into the journal where stderr is that and there is no log file, else as text.
    pub log: Option<LogFormat>,
    /// How much of it.
    pub log_level: LogLevel,
    /// The file that part of this came from.
    pub config_file: Option<PathBuf>,
    /// A hash of what was in that file: it may say something else by now.
    pub config_digest: Option<blake3::Hash>,
    /// What is switched off to measure what it is worth.
    pub ideas: Ideas,
    /// What was typed: with it the plan can be made anew, from the file as it is then.
    pub command: Option<Box<MountCommand>>,
    /// What is not wrong but should be said.
    pub warnings: Vec<String>,
    /// Where the value of each option comes from that is not built in, by its name in a file.
    pub origins: BTreeMap<String, Origin>,
}

/// One mirror, as told.
#[derive(Clone, PartialEq, Debug)]
pub struct MirrorPlan {
    /// Its base URL.
    pub url: MirrorUrl,
    /// Headers for every request.
    pub headers: Headers,
    /// The User-Agent; `None`: braidfs's own.
    pub user_agent: Option<String>,
    /// PEM file of certificate authorities besides the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a connection may take to be made; `None`: as built in.
    pub connect_timeout: Option<Duration>,
    /// HTTP/2 is offered over TLS.
    pub http2: bool,
    /// Its weight beside the others.
    pub weight: f64,
    /// Lower ones are asked first, 0 to 9.
    pub tier: u8,
    /// What it is asked for at most, in bytes per second; `None`: no limit.
    pub rate_limit: Option<u64>,
}

/// Where fetched bytes are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CacheDir {
    /// In the folder that belongs to the dataset by default.
    Default(PathBuf),
    /// In the folder that was given.
    At(PathBuf),
    /// Not on disk.
    None,
}

impl CacheDir {
    /// The folder, where there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            CacheDir::Default(path) | CacheDir::At(path) => Some(path),
            CacheDir::None => None,
        }
    }
}

/// Make the plan of a mount from what was typed and the file it names.
///
/// # Errors
/// The first thing that is wrong. Nothing was changed anywhere.
pub fn plan_mount(command: &MountCommand, around: &Surroundings) -> Result<MountPlan, PlanError> {
    let after_o = command.after_o()?;
    let needs_no_place = command.given.fuse_fd.or(after_o.given.fuse_fd).is_some();
    let (sources, mountpoint) = part_places(&command.places, after_o.config.is_some(), needs_no_place, around)?;
    let mut file: Option<ConfigFile> = None;
    let mut mirrors = Vec::new();
    let named = after_o.config.iter().map(|path| Ok(Source::File(around.cwd.join(path))));
    for source in named.chain(sources.iter().map(|source| read_source(source, &around.cwd))) {
        match source? {
            Source::Mirror(url) => mirrors.push(MirrorPlan::of_url(url)),
            Source::File(path) => {
                if let Some(first) = &file {
                    return Err(PlanError::TwoFiles(first.path.clone(), path));
                }
                let read = ConfigFile::read(&path)?;
                for table in &read.given.mirror {
                    mirrors.push(MirrorPlan::of_table(table, &read, around)?);
                }
                file = Some(read);
            }
        }
    }
    check_mirrors(&mirrors, file.as_ref())?;
    let mut warnings = Vec::new();
    let layers = [
        (Origin::CommandLine, command.given.clone()),
        (Origin::AfterO, after_o.given),
        (Origin::Environment, environment::read(&around.variables, &mut warnings)?),
        (Origin::File, file.as_ref().map(|file| of_file(file, around)).unwrap_or_default()),
    ];
    let origins = origins(&layers);
    let mut given = layers.into_iter().map(|(_, layer)| layer).reduce(Given::over).unwrap_or_default();
    // mount(8) waits for its command to return.
    given.background = given.background.or(Some(command.by_mount));
    let (fuse_fd, mountpoint) = fuse_fd(given.fuse_fd, mountpoint.or(given.mountpoint.take()))?;
    let mountpoint = mountpoint.ok_or_else(|| no_mountpoint(&sources))?;
    let mut plan = lay_out(given, mirrors, around.cwd.join(mountpoint), around)?;
    if let Some(file) = &file {
        plan.rules = rule::rules(file)?;
    }
    plan.fuse_fd = fuse_fd;
    plan.config_digest = file.as_ref().map(ConfigFile::digest);
    plan.config_file = file.map(|file| file.path);
    plan.warnings.extend(warnings);
    plan.origins = origins;
    plan.ideas = command.ideas;
    plan.command = Some(Box::new(command.clone()));
    Ok(plan)
}

impl MirrorPlan {
    fn of_url(url: MirrorUrl) -> MirrorPlan {
        MirrorPlan {
            url,
            headers: Headers::default(),
            user_agent: None,
            ca_file: None,
            connect_timeout: None,
            http2: false,
            weight: defaults::WEIGHT,
            tier: 0,
            rate_limit: None,
        }
    }

    fn of_table(table: &MirrorTable, file: &ConfigFile, around: &Surroundings) -> Result<MirrorPlan, FileError> {
        let mut ca_file = None;
        if let Some(given) = &table.ca_file {
            let path = around.absolute(folder_of(&file.path), given.get_ref());
            if let Err(error) = std::fs::File::open(&path) {
                return Err(file.wrong(given.span(), format!("cannot read ca-file {}: {error}", path.display())));
            }
            ca_file = Some(path);
        }
        Ok(MirrorPlan {
            url: table.url.get_ref().clone(),
            headers: table.headers.clone(),
            user_agent: table.user_agent.clone().map(|text| text.0),
            ca_file,
            connect_timeout: table.connect_timeout.map(|length| length.0),
            http2: table.http2.unwrap_or(false),
            weight: weight(table, file)?,
            tier: tier(table, file)?,
            rate_limit: mirror_rate_limit(table, file)?,
        })
    }
}

fn weight(table: &MirrorTable, file: &ConfigFile) -> Result<f64, FileError> {
    let Some(given) = &table.weight else { return Ok(defaults::WEIGHT) };
    let weight = *given.get_ref();
    match defaults::WEIGHTS.contains(&weight) {
        true => Ok(weight),
        false => {
            let (least, most) = (defaults::WEIGHTS.start(), defaults::WEIGHTS.end());
            let message =
                format!("weight {weight} is not from {least} to {most}; give more to a mirror to use it more");
            Err(file.wrong(given.span(), message))
        }
    }
}

fn tier(table: &MirrorTable, file: &ConfigFile) -> Result<u8, FileError> {
    let Some(given) = &table.tier else { return Ok(0) };
    let asked = *given.get_ref();
    u8::try_from(asked).ok().filter(|_| defaults::TIERS.contains(&asked)).ok_or_else(|| {
        let (least, most) = (defaults::TIERS.start(), defaults::TIERS.end());
        let why = "give a higher one to a mirror that is only for what the others cannot do";
        file.wrong(given.span(), format!("tier {asked} is not from {least} to {most}; {why}"))
    })
}

fn mirror_rate_limit(table: &MirrorTable, file: &ConfigFile) -> Result<Option<u64>, FileError> {
    let Some(given) = &table.rate_limit else { return Ok(None) };
    given.get_ref().of_a_limit("rate-limit").map(Some).map_err(|why| file.wrong(given.span(), why))
}

/// SOURCE... and MOUNTPOINT. A lone word beside `--config` is the mountpoint; a lone file may name
/// its own.
fn part_places(
    places: &[OsString],
    has_config: bool,
    needs_no_place: bool,
    around: &Surroundings,
) -> Result<(Vec<OsString>, Option<PathBuf>), PlanError> {
    match places {
        [] if has_config => Ok((Vec::new(), None)),
        [] => Err(PlanError::NoMirror(
            "no SOURCE and no MOUNTPOINT; write: braidfs mount https://HOST/FOLDER/ MOUNTPOINT".into(),
        )),
        [only] if has_config && !looks_like_url(only) => Ok((Vec::new(), Some(only.into()))),
        [only] if !looks_like_url(only) && around.cwd.join(only).is_dir() => Err(PlanError::NoMirror(format!(
            "{only:?} is the MOUNTPOINT, but no SOURCE is given; write: braidfs mount https://HOST/FOLDER/ {}",
            only.display()
        ))),
        [only] => Ok((vec![only.clone()], None)),
        [.., last] if needs_no_place && looks_like_url(last) => Ok((places.to_vec(), None)),
        [.., last] if looks_like_url(last) => Err(PlanError::NoMountpoint(format!(
            "the last argument is the MOUNTPOINT, but {:?} is a URL; add a folder to mount at",
            shown(last)
        ))),
        [sources @ .., last] => Ok((sources.to_vec(), Some(last.into()))),
    }
}

fn shown(word: &OsString) -> String {
    let text = word.to_string_lossy();
    text.parse::<MirrorUrl>().map_or_else(|_| "…".to_owned(), |url| url.shown())
}

fn no_mountpoint(sources: &[OsString]) -> PlanError {
    let after = sources.last().map_or(String::new(), |last| format!(" after {:?}", last.to_string_lossy()));
    let after = if sources.iter().any(|source| looks_like_url(source)) { String::new() } else { after };
    PlanError::NoMountpoint(format!(
        "no MOUNTPOINT: give an empty folder as the last argument{after}, or `mountpoint = \"…\"` in the file"
    ))
}

fn check_mirrors(mirrors: &[MirrorPlan], file: Option<&ConfigFile>) -> Result<(), PlanError> {
    if mirrors.is_empty() {
        let place = file.map_or(String::new(), |file| format!("{} has no [[mirror]] table and ", file.path.display()));
        return Err(PlanError::NoMirror(format!(
            "{place}no SOURCE is given: add [[mirror]] with url = \"https://HOST/FOLDER/\", or a SOURCE"
        )));
    }
    if mirrors.len() > MIRRORS_MAX {
        return Err(PlanError::TooManyMirrors(mirrors.len()));
    }
    let mut seen = std::collections::BTreeSet::new();
    match mirrors.iter().find(|mirror| !seen.insert(mirror.url.0.as_str())) {
        Some(twice) => Err(PlanError::MirrorTwice(twice.url.shown())),
        None => Ok(()),
    }
}

/// What the file gives, its relative paths taken from the file's own folder.
fn of_file(file: &ConfigFile, around: &Surroundings) -> Given {
    let mut given = file.given.clone();
    let absolute = |path: PathBuf| around.absolute(folder_of(&file.path), &path);
    given.mountpoint = given.mountpoint.map(absolute);
    given.log_file = given.log_file.map(absolute);
    given.cache_dir = given.cache_dir.map(|dir| match dir {
        CacheDirGiven::At(path) => CacheDirGiven::At(absolute(path)),
        CacheDirGiven::None => CacheDirGiven::None,
    });
    given
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new("/"))
}

/// Nobody can confirm what the only mirror serves.
fn verify(given: Option<Verify>, mirrors: usize) -> Result<Verify, PlanError> {
    match given.unwrap_or_default() {
        Verify::Quorum if mirrors < 2 => Err(PlanError::Value(
            "--verify quorum delivers nothing before two mirrors agree, and there is one mirror; give another SOURCE, or --verify first".into(),
        )),
        verify => Ok(verify),
    }
}

fn lay_out(
    given: Given,
    mirrors: Vec<MirrorPlan>,
    mountpoint: PathBuf,
    around: &Surroundings,
) -> Result<MountPlan, PlanError> {
    let name = match given.name {
        Some(name) => match defaults::bad_name(&name) {
            Some(why) => return Err(PlanError::Value(why)),
            None => name,
        },
        None => defaults::name_of(&mirrors[0].url),
    };
    let (read_timeout, read_deadline) = deadlines(given.read_timeout, given.read_deadline)?;
    let mut warnings = Vec::new();
    let memory = memory(given.memory, around, &mut warnings)?;
    Ok(MountPlan {
        cache: cache_dir(given.cache_dir, &name, around)?,
        cache_size: cache_size(given.cache_size)?,
        scrub_rate: scrub_rate(given.scrub_rate)?,
        memory,
        read_timeout,
        read_deadline,
        entry_lifetime: entry_lifetime(given.entry_lifetime)?,
        strategy: given.strategy.unwrap_or_default(),
        verify: verify(given.verify, mirrors.len())?,
        hedging: given.hedging.unwrap_or(true),
        metrics: given.metrics.map(|address| address.0),
        otlp: otlp(given.otlp, given.otlp_slow.map(|length| length.0), &around.otel).map_err(PlanError::Value)?,
        web: given.web.map(|address| address.0),
        passthrough: given.passthrough.unwrap_or(true),
        rate_limit: given.rate_limit.map(|rate| rate.of_a_limit("rate-limit")).transpose().map_err(PlanError::Value)?,
        rules: Rules::default(),
        background: given.background.unwrap_or(false),
        allow_other: given.allow_other.unwrap_or(false),
        uid: given.uid.unwrap_or(around.uid),
        gid: given.gid.unwrap_or(around.gid),
        umask: given.umask.map_or(defaults::UMASK, |umask| umask.0),
        fsname: fsname(given.fsname)?,
        noexec: given.noexec.unwrap_or(false),
        log: LogFormat::beside(given.log, given.log_file.as_deref()).map_err(PlanError::Value)?,
        log_level: given.log_level.unwrap_or_default(),
        log_file: given.log_file.map(|path| around.cwd.join(path)),
        config_file: None,
        config_digest: None,
        fuse_fd: None,
        mirrors,
        mountpoint,
        name,
        ideas: Ideas::default(),
        command: None,
        warnings,
        origins: BTreeMap::new(),
    })
}

fn memory(given: Option<Size>, around: &Surroundings, warnings: &mut Vec<String>) -> Result<u64, PlanError> {
    let Some(Size(bytes)) = given else { return Ok(around.memory_bytes()) };
    if bytes < defaults::MEMORY_BYTES_MIN {
        return Err(PlanError::Value(format!(
            "memory {} is less than {}, with which a few readers would only wait for one another; give more",
            Size(bytes),
            Size(defaults::MEMORY_BYTES_MIN)
        )));
    }
    if let Some(limit) = around.memory_limit_bytes.filter(|limit| bytes > *limit) {
        warnings.push(format!(
            "memory {} is more than the {} bytes that the control group allows: the kernel will kill braidfs before it is full",
            Size(bytes),
            limit
        ));
    }
    Ok(bytes)
}

fn cache_size(given: Option<Size>) -> Result<Option<u64>, PlanError> {
    match given {
        Some(Size(bytes)) if bytes < defaults::CACHE_BYTES_MIN => Err(PlanError::Value(format!(
            "cache-size {} is less than {}, most of which the cache's own tables would take; give more, or `cache-dir none` to keep nothing on disk",
            Size(bytes),
            Size(defaults::CACHE_BYTES_MIN)
        ))),
        given => Ok(given.map(|size| size.0)),
    }
}

fn scrub_rate(given: Option<ScrubRate>) -> Result<Option<u64>, PlanError> {
    match given {
        None => Ok(Some(defaults::SCRUB_RATE)),
        Some(ScrubRate::None) => Ok(None),
        Some(ScrubRate::At(rate)) if rate.0 < defaults::SCRUB_RATE_MIN => Err(PlanError::Value(format!(
            "scrub-rate {rate} is less than {}, with which 40 GB take a week; give more, or `none` to read nothing back",
            Rate(defaults::SCRUB_RATE_MIN)
        ))),
        Some(ScrubRate::At(rate)) => Ok(Some(rate.0)),
    }
}

fn cache_dir(given: Option<CacheDirGiven>, name: &str, around: &Surroundings) -> Result<CacheDir, PlanError> {
    match given {
        Some(CacheDirGiven::None) => Ok(CacheDir::None),
        Some(CacheDirGiven::At(path)) if path.as_os_str().is_empty() => {
            Err(PlanError::Value("cache-dir is empty; give a folder, or `none` to keep nothing on disk".into()))
        }
        Some(CacheDirGiven::At(path)) => Ok(CacheDir::At(around.cwd.join(path))),
        None => around.cache_dir(name).map(CacheDir::Default).ok_or_else(|| {
            PlanError::Value(
                "neither HOME nor XDG_CACHE_HOME is set, so there is no default cache folder; give --cache-dir DIR or --cache-dir none"
                    .into(),
            )
        }),
    }
}

fn fsname(given: Option<String>) -> Result<String, PlanError> {
    let name = given.unwrap_or_else(|| defaults::FSNAME.to_owned());
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(PlanError::Value(format!("fsname {name:?} is empty or has control characters; give plain text")));
    }
    Ok(name)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
