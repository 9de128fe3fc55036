//! Serial lines: open, read, notice the unplugging, reopen.
