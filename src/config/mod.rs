//! Command line and file into each module's own settings.
