//! Embedded mirrors and a generated dataset, mounted: the first thing a user runs.
//!
//! Three mirrors on loopback with different speeds, one of them flaky; a real mount of them in a
//! temporary folder; ordinary tools that read it, while a table shows what each mirror delivers.

pub mod dataset;
pub mod mirror;
mod pace;
mod show;

use crate::config::command_line::{DemoCommand, MountCommand};
use crate::config::defaults::Surroundings;
use crate::config::options::{CacheDirGiven, Given};
use crate::config::plan::plan_mount;
use crate::mount::Mount;
use anyhow::Context;
use dataset::Dataset;
use mirror::{Mirror, Shape};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The three mirrors: slow, flaky and middling, fast. In bytes per second; together a tenth of what the
/// slowest laptop does on loopback, so that what is seen is the mirrors' speed and not the machine's.
const MIRRORS: [(&str, Shape); 3] = [
    ("slow", Shape { bytes_per_second: Some(3 << 20), flaky: false }),
    ("flaky", Shape { bytes_per_second: Some(8 << 20), flaky: true }),
    ("fast", Shape { bytes_per_second: Some(16 << 20), flaky: false }),
];

/// Show it, then leave it mounted until Ctrl-C (unless told otherwise), then take everything away.
pub fn run(command: &DemoCommand, around: &Surroundings) -> anyhow::Result<()> {
    let dataset = Arc::new(Dataset::generated());
    let start = |(_, shape): &(&str, Shape)| Mirror::start(dataset.clone(), *shape);
    let mirrors = MIRRORS.iter().map(start).collect::<Result<Vec<_>, _>>();
    let mirrors = mirrors.context("cannot listen on loopback")?;
    let folder = Folder::make(command.dir.as_deref())?;
    let (mountpoint, cache) = (folder.path.join("mnt"), folder.path.join("cache"));
    std::fs::create_dir_all(&mountpoint).with_context(|| format!("cannot make {}", mountpoint.display()))?;
    let mount_command = MountCommand {
        places: mirrors.iter().map(|mirror| mirror.url().into()).chain([mountpoint.clone().into()]).collect(),
        config: None,
        fuse: Vec::new(),
        given: Given { name: Some("demo".into()), cache_dir: Some(CacheDirGiven::At(cache)), ..Given::default() },
        ideas: Default::default(),
        by_mount: false,
    };
    let plan = plan_mount(&mount_command, around)?;
    let mut mount = Mount::start(&plan, around)?;
    let names: Vec<_> = MIRRORS.iter().map(|(name, _)| *name).collect();
    let shown = show::run(&mount, &mirrors, &names, &dataset);
    if shown.is_ok() && !command.no_wait {
        show::invite(mount.mountpoint());
        mount.wait_for_the_end();
        println!("\nUnmounting.");
    }
    let ended = mount.end();
    mirrors.into_iter().for_each(Mirror::stop);
    shown.and(ended)
}

/// The demo's folder, taken away at the end where we made it.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn make(given: Option<&Path>) -> anyhow::Result<Folder> {
        let parent = given.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let path = parent.join(format!("braidfs-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make {}: give a folder with --dir", path.display()))?;
        Ok(Folder { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Only what we made, and never through a mount that is still there.
        let _ = std::fs::remove_dir(self.path.join("mnt"));
        if !self.path.join("mnt").exists() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
