//! Speak FUSE; choose errno in one place.
