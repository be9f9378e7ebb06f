//! Keep bytes: the pool, then the disk; never lie about what is held.

pub mod disk;
pub mod pool;
