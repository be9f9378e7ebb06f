//! The show: ordinary tools read the mount, and a table says which mirror brings what.

use crate::demo::dataset::Dataset;
use crate::demo::mirror::Mirror;
use crate::fetch::report::Report;
use crate::mount::Mount;
use anyhow::{Context, bail};
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// How often the table moves: often enough to look alive, seldom enough to be read.
const TABLE_PERIOD: Duration = Duration::from_millis(250);
/// Width of a full bar.
const BAR_WIDTH: usize = 30;

/// What is run, from inside the mount. Each is what a person would type.
const TOOLS: [&str; 4] = [
    "ls -l . recordings",
    "grep -rl quiet notes | wc -l",
    "cat recordings/monday.bin recordings/tuesday.bin | wc -c",
    "tar -cf - . | wc -c",
];
/// Compared byte by byte with what the mirrors have, at the end.
const COMPARED: &str = "recordings/wednesday.bin";

struct Stage<'a> {
    mount: &'a Mount,
    mirrors: &'a [Mirror],
    names: &'a [&'a str],
    live: bool,
}

/// Run every tool; an error where one of them fails or a byte differs.
pub fn run(mount: &Mount, mirrors: &[Mirror], names: &[&str], dataset: &Dataset) -> anyhow::Result<()> {
    let stage = Stage { mount, mirrors, names, live: std::io::stdout().is_terminal() };
    println!("Three mirrors of one dataset, on this machine only:\n");
    for (name, mirror) in names.iter().zip(mirrors) {
        println!("  {:<6} {}", name, mirror.url());
    }
    println!("\nMounted at {}. Nothing of it is here yet.\n", mount.mountpoint().display());
    for tool in TOOLS {
        stage.tool(tool)?;
    }
    stage.compare(dataset)?;
    Ok(())
}

/// What the user can do now.
pub fn invite(mountpoint: &Path) {
    let place = mountpoint.display();
    println!("\nStill mounted. In another terminal, try:\n");
    println!("  ls -lR {place}");
    println!("  sha256sum {place}/recordings/*");
    println!("  braidfs status {place}");
    println!("\nCtrl-C here unmounts it and takes everything away.");
    // A closed stdout is nobody's loss.
    let _ = std::io::stdout().flush();
}

impl Stage<'_> {
    fn tool(&self, line: &str) -> anyhow::Result<()> {
        println!("$ {line}");
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).current_dir(self.mount.mountpoint()).stdout(Stdio::piped());
        let child = command.spawn().with_context(|| format!("cannot run `{line}`"))?;
        let said = self.watch(child, |stdout, said| drop(stdout.read_to_end(said)))?;
        self.wipe();
        print!("{}", String::from_utf8_lossy(&said));
        println!("{}", self.table());
        Ok(())
    }

    /// `cmp` reads the file through the mount and the original from us.
    fn compare(&self, dataset: &Dataset) -> anyhow::Result<()> {
        println!("$ cmp {COMPARED} ORIGINAL");
        let mut command = Command::new("cmp");
        command.arg(COMPARED).arg("-").current_dir(self.mount.mountpoint());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot run `cmp`")?;
        let mut original = vec![0; dataset.size_bytes(COMPARED).context("the dataset lacks a file")? as usize];
        dataset.read(COMPARED, 0, &mut original);
        let mut stdin = child.stdin.take().context("the pipe was just asked for")?;
        // A difference ends cmp early; its exit code says so.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&original)));
        self.watch(child, |stdout, said| drop(stdout.read_to_end(said)))?;
        drop(feeder.join());
        self.wipe();
        println!("the same, byte for byte\n{}", self.table());
        Ok(())
    }

    /// Until it ends, with the table moving below; what it wrote.
    fn watch(
        &self,
        mut child: Child,
        read: impl FnOnce(&mut std::process::ChildStdout, &mut Vec<u8>) + Send,
    ) -> anyhow::Result<Vec<u8>> {
        let mut stdout = child.stdout.take().context("the pipe was just asked for")?;
        let (ended, end) = channel::<()>();
        let said = std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut said = Vec::new();
                read(&mut stdout, &mut said);
                drop(ended);
                said
            });
            while end.recv_timeout(TABLE_PERIOD) == Err(RecvTimeoutError::Timeout) {
                self.draw();
            }
            reader.join().unwrap_or_default()
        });
        let status = child.wait().context("cannot wait for a tool")?;
        if !status.success() {
            bail!("a tool failed on the mount ({status})");
        }
        Ok(said)
    }

    /// The table in place, where there is a terminal that can be written over.
    fn draw(&self) {
        if self.live {
            let table = self.table();
            print!("\r\x1b[J{table}\x1b[{}A", table.lines().count());
            let _ = std::io::stdout().flush();
        }
    }

    /// What a moving table left on the screen below.
    fn wipe(&self) {
        if self.live {
            print!("\r\x1b[J");
        }
    }

    fn table(&self) -> String {
        let report = self.mount.engine().report();
        let most = report.mirrors.iter().map(|mirror| mirror.fetched_bytes).max().unwrap_or(0).max(1);
        let mut table = String::new();
        for (at, mirror) in report.mirrors.iter().enumerate() {
            let bar = "#".repeat((mirror.fetched_bytes as f64 / most as f64 * BAR_WIDTH as f64) as usize);
            let (megabytes, rate) = (mirror.fetched_bytes as f64 / 1e6, mirror.bytes_per_second / 1e6);
            let faults = match self.mirrors[at].faults_made() {
                0 => String::new(),
                count => format!(", broke off or fell silent {count} times"),
            };
            let name = self.names[at];
            table += &format!("  {name:<6} {megabytes:>7.1} MB  {rate:>5.1} MB/s  {bar:<BAR_WIDTH$}{faults}\n");
        }
        table + &summary(&report)
    }
}

fn summary(report: &Report) -> String {
    let count = |name: &str| report.counters.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value);
    let (read, fetched) = (count("read_bytes") as f64 / 1e6, count("fetched_bytes") as f64 / 1e6);
    format!("  read {read:.1} MB, fetched {fetched:.1} MB, errors {}\n", count("read_errors"))
}
