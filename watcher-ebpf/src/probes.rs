//! The programs, one concern a file.

mod open;
mod process;
