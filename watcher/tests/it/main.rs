//! The live tests: the built sensor against real servers on this machine's own kernel.
//!
//! Every trial is named `module::case`. What a machine cannot run is listed as ignored with the reason as its kind.
//! The modules, from the ground up: [`ground`] proves the servers, [`cli`] the command line, [`paths`] hostile names,
//! [`incident`] the outage that started the project, [`life`] whole lives of servers, [`promises`] the figures, and
//! [`forms`] every form in which a file can be missing.

#![deny(clippy::undocumented_unsafe_blocks)]

mod cli;
mod forms;
mod ground;
mod http;
mod incident;
mod kept;
mod life;
mod needs;
mod opener;
mod paths;
mod process;
mod promises;
mod sensor;
mod servers;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == opener::MARKER) {
        return opener::main(words.collect());
    }
    let mut arguments = Arguments::from_args();
    // The trials mostly wait for servers, not for a processor.
    arguments.test_threads.get_or_insert(4);
    let trials = [
        ground::trials(),
        cli::trials(),
        paths::trials(),
        incident::trials(),
        life::trials(),
        promises::trials(),
        forms::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    kept::shutdown();
    conclusion.exit_code()
}
