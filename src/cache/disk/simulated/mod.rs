//! A disk in memory that can lose its power.
//!
//! It keeps apart what was synced and what was only written. A cut loses, reorders or tears whatever was not synced,
//! names included: a file whose folder was not synced may be missing, a rename undone, a deleted file back. It is
//! stricter than ext4, which orders much of this: what holds here does not stand on one file system's kindness.

mod contents;
mod damage;
mod names;

pub(super) use damage::Lost;

use super::drive::Opening;
use contents::{Bytes, Contents};
use damage::Damage;
use names::Names;
use parking_lot::Mutex;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Component, Path};
use std::sync::Arc;

/// The number of the folder `/`.
const ROOT: u64 = 0;
/// What `O_DIRECT` asks of offsets, lengths and memory.
const DIRECT_ALIGNMENT: u64 = 512;
/// Each so many operations a long write is cut short, as the kernel may do.
const SHORT_WRITE_EVERY: u64 = 16;
/// There is always room.
const FREE_BYTES: u64 = 1 << 50;

/// See the module. Once its power is cut, everything fails.
#[derive(Debug)]
pub(super) struct SimulatedDisk {
    world: Mutex<World>,
}

/// An open file of it.
#[derive(Debug)]
pub(super) struct SimulatedFile {
    disk: Arc<SimulatedDisk>,
    number: u64,
    direct: bool,
    name: String,
}

#[derive(Debug)]
struct World {
    things: BTreeMap<u64, Thing>,
    next: u64,
    /// Changes and syncs so far.
    operations: u64,
    /// The number of the operation in which the power goes.
    cut_at: Option<u64>,
    dead: bool,
    lie: Option<Lie>,
}

/// Syncs that come back without having done anything: what a proof has to notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lie {
    /// Of files whose name ends so.
    Files(&'static str),
    /// Of folders.
    Folders,
}

#[derive(Debug)]
enum Thing {
    File(Contents),
    Folder(Names),
}

impl SimulatedDisk {
    pub(super) fn new() -> Arc<SimulatedDisk> {
        let things = BTreeMap::from([(ROOT, Thing::Folder(Names::default()))]);
        SimulatedDisk::of(things, 1, None)
    }

    fn of(things: BTreeMap<u64, Thing>, next: u64, lie: Option<Lie>) -> Arc<SimulatedDisk> {
        let world = World { things, next, operations: 0, cut_at: None, dead: false, lie };
        Arc::new(SimulatedDisk { world: Mutex::new(world) })
    }

    /// The power goes in the middle of the `operations`th change or sync from now on.
    pub(super) fn cut_after(&self, operations: u64) {
        let mut world = self.world.lock();
        world.cut_at = Some(world.operations + operations);
    }

    /// From now on some syncs do nothing.
    pub(super) fn lie(&self, lie: Lie) {
        self.world.lock().lie = Some(lie);
    }

    /// The power goes now.
    pub(super) fn cut_now(&self) {
        self.world.lock().dead = true;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.world.lock().dead
    }

    /// The disk as it is found when the power is back, with all of it synced; and what that cost.
    pub(super) fn after_the_cut(&self, seed: u64) -> (Arc<SimulatedDisk>, Lost) {
        let world = self.world.lock();
        assert!(world.dead, "its power has not been cut");
        let mut damage = Damage::of_seed(seed);
        let mut things = BTreeMap::new();
        let mut look_at = vec![ROOT];
        while let Some(number) = look_at.pop() {
            let left = match &world.things[&number] {
                Thing::File(contents) => Thing::File(Contents::settled(contents.survivor(&mut damage))),
                Thing::Folder(names) => {
                    let left = names.survivor(&mut damage);
                    look_at.extend(left.values());
                    Thing::Folder(Names::settled(left))
                }
            };
            things.insert(number, left);
        }
        (SimulatedDisk::of(things, world.next, world.lie), damage.lost)
    }

    /// What the files below a folder take.
    pub(super) fn allocated_below(&self, path: &Path) -> u64 {
        let world = self.world.lock();
        world.find(path).map_or(0, |number| world.allocated(number))
    }

    pub(super) fn open(self: &Arc<Self>, path: &Path, opening: Opening) -> io::Result<SimulatedFile> {
        let may_make = matches!(opening, Opening::Made | Opening::Anew);
        let there = self.look(|world| Ok(world.find(path).is_ok()))?;
        let number = match there {
            true if opening == Opening::Anew => self.change(|world| {
                let number = world.find(path)?;
                world.contents(number)?.set_length(0);
                Ok(number)
            }),
            false if may_make => self.change(|world| world.put(path, Thing::File(Contents::default()))),
            _ => self.look(|world| world.find(path)),
        }?;
        self.look(|world| world.bytes(number).map(|_| ()))?;
        let name = name(path).to_owned();
        Ok(SimulatedFile { disk: self.clone(), number, direct: opening == Opening::Direct, name })
    }

    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.look(|world| {
            let bytes = world.bytes(world.find(path)?)?;
            let mut into = vec![0; bytes.length() as usize];
            bytes.read(0, &mut into);
            Ok(into)
        })
    }

    pub(super) fn make_folders(&self, path: &Path) -> io::Result<()> {
        for folder in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            if !self.exists(folder) {
                self.change(|world| world.put(folder, Thing::Folder(Names::default())))?;
            }
        }
        Ok(())
    }

    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.sync(|world| {
            let number = world.find(path)?;
            if world.lie != Some(Lie::Folders) {
                world.names(number)?.sync();
            }
            Ok(())
        })
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent(), "nothing of the cache moves between folders");
        self.change(|world| {
            let number = world.find(parent(from))?;
            match world.names(number)?.rename(name(from), name(to)) {
                true => Ok(()),
                false => Err(Errno::NOENT),
            }
        })
    }

    /// A file, or a folder with all that is in it.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(|world| {
            world.find(path)?;
            let number = world.find(parent(path))?;
            world.names(number)?.remove(name(path));
            Ok(())
        })
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        self.look(|world| world.find(path)).is_ok()
    }

    pub(super) fn names(&self, path: &Path) -> Vec<String> {
        let found = self.look(|world| match world.things.get(&world.find(path)?) {
            Some(Thing::Folder(names)) => Ok(names.live().keys().cloned().collect()),
            _ => Err(Errno::NOTDIR),
        });
        found.unwrap_or_default()
    }

    pub(super) fn allocated_bytes(&self, path: &Path) -> u64 {
        self.look(|world| Ok(world.allocated(world.find(path)?))).unwrap_or(0)
    }

    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        self.look(|_| Ok(FREE_BYTES))
    }

    fn look<T>(&self, look: impl FnOnce(&World) -> Result<T, Errno>) -> io::Result<T> {
        let world = self.world.lock();
        match world.dead {
            true => Err(Errno::IO.into()),
            false => Ok(look(&world)?),
        }
    }

    /// A change in the middle of which the power goes has been begun: some of it may be there later.
    fn change<T>(&self, change: impl FnOnce(&mut World) -> Result<T, Errno>) -> io::Result<T> {
        let mut world = self.world.lock();
        let last = world.begin()?;
        let result = change(&mut world);
        world.dead = last;
        if last { Err(Errno::IO.into()) } else { Ok(result?) }
    }

    /// A sync in the middle of which the power goes has not come to its end.
    fn sync(&self, sync: impl FnOnce(&mut World) -> Result<(), Errno>) -> io::Result<()> {
        let mut world = self.world.lock();
        world.dead = world.begin()?;
        if world.dead { Err(Errno::IO.into()) } else { Ok(sync(&mut world)?) }
    }
}

impl SimulatedFile {
    pub(super) fn read_at(&self, into: &mut [u8], offset: u64) -> Result<usize, Errno> {
        errno(self.disk.look(|world| Ok(world.bytes(self.number)?.read(offset, into))))
    }

    pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<(), Errno> {
        self.change(|contents| contents.write(offset, bytes))
    }

    pub(super) fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> Result<usize, Errno> {
        let odd = |number: u64| !number.is_multiple_of(DIRECT_ALIGNMENT);
        if self.direct
            && (odd(offset) || slices.iter().any(|slice| odd(slice.as_ptr() as u64) || odd(slice.len() as u64)))
        {
            return Err(Errno::INVAL);
        }
        let mut bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        if errno(self.disk.look(|world| Ok(world.operations)))? % SHORT_WRITE_EVERY == 0 {
            bytes.truncate(bytes.len() / 2 / DIRECT_ALIGNMENT as usize * DIRECT_ALIGNMENT as usize);
        }
        self.change(|contents| contents.write(offset, &bytes))?;
        Ok(bytes.len())
    }

    pub(super) fn punch(&self, offset: u64, length: u64) -> Result<(), Errno> {
        self.change(|contents| contents.punch(offset, length))
    }

    pub(super) fn set_len(&self, length: u64) -> Result<(), Errno> {
        self.change(|contents| contents.set_length(length))
    }

    pub(super) fn length_bytes(&self) -> Result<u64, Errno> {
        errno(self.disk.look(|world| Ok(world.bytes(self.number)?.length())))
    }

    pub(super) fn sync(&self) -> Result<(), Errno> {
        errno(self.disk.sync(|world| {
            match world.lie {
                Some(Lie::Files(end)) if self.name.ends_with(end) => {}
                _ => world.contents(self.number)?.sync(),
            }
            Ok(())
        }))
    }

    fn change(&self, change: impl FnOnce(&mut Contents)) -> Result<(), Errno> {
        errno(self.disk.change(|world| {
            change(world.contents(self.number)?);
            Ok(())
        }))
    }
}

impl World {
    /// Says whether this operation is the one in which the power goes.
    fn begin(&mut self) -> Result<bool, Errno> {
        if self.dead {
            return Err(Errno::IO);
        }
        self.operations += 1;
        Ok(self.cut_at.is_some_and(|at| self.operations >= at))
    }

    fn find(&self, path: &Path) -> Result<u64, Errno> {
        let mut number = ROOT;
        for part in path.components() {
            let Component::Normal(part) = part else { continue };
            let Some(Thing::Folder(names)) = self.things.get(&number) else { return Err(Errno::NOTDIR) };
            number = part.to_str().and_then(|part| names.live().get(part)).copied().ok_or(Errno::NOENT)?;
        }
        Ok(number)
    }

    fn put(&mut self, path: &Path, thing: Thing) -> Result<u64, Errno> {
        let folder = self.find(parent(path))?;
        let number = self.next;
        self.names(folder)?.put(name(path), number);
        self.next += 1;
        self.things.insert(number, thing);
        Ok(number)
    }

    fn bytes(&self, number: u64) -> Result<&Bytes, Errno> {
        match self.things.get(&number) {
            Some(Thing::File(contents)) => Ok(contents.live()),
            _ => Err(Errno::ISDIR),
        }
    }

    fn contents(&mut self, number: u64) -> Result<&mut Contents, Errno> {
        match self.things.get_mut(&number) {
            Some(Thing::File(contents)) => Ok(contents),
            _ => Err(Errno::ISDIR),
        }
    }

    fn names(&mut self, number: u64) -> Result<&mut Names, Errno> {
        match self.things.get_mut(&number) {
            Some(Thing::Folder(names)) => Ok(names),
            _ => Err(Errno::NOTDIR),
        }
    }

    fn allocated(&self, number: u64) -> u64 {
        match self.things.get(&number) {
            Some(Thing::File(contents)) => contents.live().allocated(),
            Some(Thing::Folder(names)) => names.live().values().map(|&below| self.allocated(below)).sum(),
            None => 0,
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("the cache's own names are plain")
}

fn errno<T>(result: io::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}
