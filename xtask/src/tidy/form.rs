//! Rules about files as such: where they are, how they open, how long they are, and what they must not hold.

use super::{Source, Violation};

const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".clippy.toml",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "watcher",
    "watcher-ebpf",
    "xtask",
];

const MOST_LINES: usize = 500;

/// Longer files, each with the reason why it stays one.
const LONG: &[(&str, &str)] = &[];

/// The number that the ELF header of a compiled kernel program carries.
const EM_BPF: u16 = 247;

/// The top level holds the three crates and what tools expect beside them.
pub fn top_level(sources: &[Source]) -> Vec<Violation> {
    let stray =
        sources.iter().filter(|source| !TOP_LEVEL.iter().any(|name| source.path.split('/').next() == Some(name)));
    stray.map(|source| Violation::new(source, 1, "nothing else belongs at the top level")).collect()
}

/// Kernel programs are compiled from source; a committed object would hide what runs.
pub fn no_objects(sources: &[Source]) -> Vec<Violation> {
    let is_object = |source: &&Source| {
        source.bytes.starts_with(b"\x7fELF") && source.bytes.get(18..20) == Some(EM_BPF.to_le_bytes().as_slice())
    };
    sources.iter().filter(is_object).map(|source| Violation::new(source, 1, "a compiled kernel program")).collect()
}

/// No file names a place that exists on one machine only.
pub fn no_private_paths(sources: &[Source]) -> Vec<Violation> {
    // Put together here so that this file does not name them either.
    let private = ["home", "work", "Users"].map(|name| format!("/{name}/"));
    let dotted = format!("/{}/.", "root");
    each_line(sources, |line| {
        // `$HOME/work/` and `//home/` of a URL are relative to something.
        let names = |place: &String| line.match_indices(place.as_str()).any(|(at, _)| starts_a_path(&line[..at]));
        private
            .iter()
            .chain([&dotted])
            .find(|place| names(place))
            .map(|place| format!("names a private place, {place}"))
    })
}

fn starts_a_path(before: &str) -> bool {
    !before.ends_with(|c: char| c.is_alphanumeric() || "_-./}*".contains(c))
}

/// Every module opens with what it is and why.
pub fn opens_with_docs(sources: &[Source]) -> Vec<Violation> {
    let silent = sources.iter().filter(|source| source.is_rust() && !source.text.starts_with("//!"));
    silent.map(|source| Violation::new(source, 1, "a module opens with `//!`: what it is, and why")).collect()
}

/// One concern a file.
pub fn short_enough(sources: &[Source]) -> Vec<Violation> {
    let long = sources.iter().filter(|source| source.is_rust()).filter_map(|source| {
        let lines = source.text.lines().count();
        let listed = LONG.iter().any(|(path, _)| *path == source.path);
        let text = format!("{lines} lines, more than {MOST_LINES}: split it by concern");
        (lines > MOST_LINES && !listed).then(|| Violation::new(source, lines, text))
    });
    long.collect()
}

fn each_line(sources: &[Source], problem: impl Fn(&str) -> Option<String>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in sources {
        for (index, line) in source.text.lines().enumerate() {
            violations.extend(problem(line).map(|text| Violation::new(source, index + 1, text)));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::{super::check::check, *};

    #[test]
    fn the_top_level_is_closed() {
        check(top_level, &[("NOTES.md", ""), ("watcher/CHANGELOG.md", ""), ("README.md", "")], &["NOTES.md:1"]);
    }

    #[test]
    fn compiled_kernel_programs_are_refused() {
        let mut object = b"\x7fELF\x02\x01\x01".to_vec();
        object.resize(64, 0);
        object[18] = 247;
        let source = Source::new("watcher/probe.o", object.clone());
        assert_eq!(no_objects(&[source]).len(), 1);
        // An ordinary program, for instance a fixture.
        object[18] = 62;
        assert_eq!(no_objects(&[Source::new("watcher/tests/fixtures/libphp.so", object)]), []);
    }

    #[test]
    fn private_paths_are_refused() {
        let home = format!("cd /{}/someone/watcher", "home");
        check(no_private_paths, &[("README.md", &home)], &["README.md:1"]);
        check(no_private_paths, &[("README.md", "https://example.org/work/x, $HOME/work/x, /var/www")], &[]);
    }

    #[test]
    fn modules_open_with_docs() {
        check(
            opens_with_docs,
            &[("xtask/src/a.rs", "use b;"), ("xtask/src/b.rs", "//! Why.\n")],
            &["xtask/src/a.rs:1"],
        );
    }

    #[test]
    fn long_files_are_refused() {
        let (long, short) = ("\n".repeat(501), "\n".repeat(500));
        check(short_enough, &[("xtask/src/a.rs", &long), ("xtask/src/b.rs", &short)], &["xtask/src/a.rs:501"]);
    }
}
