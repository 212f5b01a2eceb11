//! Running other programs: each command is printed before it runs, and a failure names it.

use std::{
    ffi::OsStr,
    io::{self, BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::place;

/// A cargo command in the checkout.
pub fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(place::cargo());
    command.current_dir(place::root()).args(args);
    command
}

/// Runs it. What it prints goes to stderr: stdout is for results, and a chore's are none.
pub fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", text(command));
    let status = command.stdout(io::stderr()).status().with_context(|| format!("cannot start {}", text(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", text(command));
    }
    Ok(())
}

/// Runs it quietly and returns its stdout; its stderr is part of the error.
pub fn read(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", text(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` ended with {}: {}", text(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs it, passes its stdout on line by line, and shows each line to `look`. The result says whether it ended well.
pub fn watch(command: &mut Command, mut look: impl FnMut(&str)) -> Result<bool> {
    eprintln!("$ {}", text(command));
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {}", text(command)))?;
    let stdout = child.stdout.take().context("the child has no stdout")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.with_context(|| format!("cannot read what {} prints", text(command)))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        look(&line);
    }
    Ok(child.wait().with_context(|| format!("cannot wait for {}", text(command)))?.success())
}

/// The command as one would type it.
pub fn text(command: &Command) -> String {
    // Search paths are long and say nothing.
    let set = command.get_envs().filter(|(name, _)| *name != "PATH");
    let set = set.filter_map(|(name, value)| Some(format!("{}={}", name.display(), quoted(value?))));
    // The cargo that runs us is given by its whole path, which nobody types.
    let program = command.get_program();
    let program = if program == place::cargo() { OsStr::new("cargo") } else { program };
    let words = [program].into_iter().chain(command.get_args()).map(quoted);
    set.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=+:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
