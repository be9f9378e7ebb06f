//! What exists: the inode tree, merged listings, versions. Pure.
