//! The program: parses, dispatches, and turns the end into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    watcher::cli::main()
}
