//! No import circles among the top modules of the user side: each can be read, and tested, after what it stands on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Source, Violation};

/// Who imports whom, with a place where it does.
type Imports<'a> = BTreeMap<&'a str, BTreeMap<String, (&'a Source, usize)>>;

/// Each circle once, told from its first module in alphabetical order.
pub fn no_import_circles(sources: &[Source]) -> Vec<Violation> {
    let imports = imports(sources);
    let mut violations = Vec::new();
    let mut told = BTreeSet::new();
    for start in imports.keys() {
        let Some(circle) = circle(&imports, start) else { continue };
        let members: BTreeSet<&str> = circle.iter().copied().collect();
        if told.insert(members) {
            let (source, line) = imports[start][circle[1]];
            violations.push(Violation::new(source, line, format!("import circle: {}", circle.join(" -> "))));
        }
    }
    violations
}

fn imports(sources: &[Source]) -> Imports<'_> {
    // The roots see everything by nature.
    let modules = || sources.iter().filter_map(|source| Some((source.module()?, source)));
    let modules = || modules().filter(|(module, source)| source.is_rust() && !["main", "lib"].contains(module));
    let names: BTreeSet<&str> = modules().map(|(module, _)| module).collect();
    let mut imports = Imports::new();
    for (module, source) in modules() {
        for (line, path) in source.paths() {
            let mut parts = path.split("::");
            let Some("crate" | "watcher") = parts.next() else { continue };
            let Some(other) = parts.next().filter(|other| names.contains(other) && *other != module) else { continue };
            imports.entry(module).or_default().entry(other.to_owned()).or_insert((source, line));
        }
    }
    imports
}

/// The shortest way from the module back to itself.
fn circle<'a>(imports: &'a Imports<'_>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut ways = VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in imports.get(way.last()?).into_iter().flat_map(BTreeMap::keys) {
            let longer = || way.iter().copied().chain([next.as_str()]).collect();
            if next == start {
                return Some(longer());
            }
            if seen.insert(next) {
                ways.push_back(longer());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{super::check::check, *};

    #[test]
    fn a_circle_is_told_once() {
        check(
            no_import_circles,
            &[
                ("watcher/src/aggregate.rs", "use crate::{finding::Finding, noise};"),
                ("watcher/src/finding.rs", "// crate::aggregate\nfn f() {}"),
                ("watcher/src/noise/rules.rs", "\nfn f() { crate::store::open(); }"),
                ("watcher/src/store.rs", "use crate::aggregate::Window;"),
                ("watcher/src/lib.rs", "use crate::store;"),
            ],
            &["watcher/src/aggregate.rs:1"],
        );
    }

    #[test]
    fn layers_are_no_circle() {
        check(
            no_import_circles,
            &[
                ("watcher/src/pipeline.rs", "use crate::{aggregate, noise};"),
                ("watcher/src/aggregate.rs", "use crate::noise;"),
                ("watcher/src/noise.rs", "use crate::noise::rules;"),
            ],
            &[],
        );
    }
}
