//! Run the actions of the scheduler; wake the readers.
