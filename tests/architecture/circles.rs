//! Which files of a crate import each other: `use` lines and paths in the code (`crate::a::b::Item`, `super::x`), each followed
//! through re-exports to the file that has the item. `mod` and `pub use` lines themselves, and what is in tests, do not count.

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use proc_macro2::{Spacing, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A path in the code, name by name.
type Names = Vec<String>;

/// As many re-exports may lead to each other.
const DEEP: usize = 8;

/// What one file names.
#[derive(Default)]
struct File {
    /// The modules that it declares.
    mods: BTreeSet<String>,
    /// What it hands on, by the name that it has here.
    exports: BTreeMap<String, Names>,
    /// What it imports, by the name that it has here.
    imports: Vec<(String, Names)>,
    /// Paths in its code.
    paths: Vec<Names>,
}

/// The files of a crate by their modules.
struct Crate(BTreeMap<Names, File>);

/// The circles of a crate: of each its imports, as `a -> b (Item)`.
pub fn circles(src: &Path) -> Vec<Vec<String>> {
    let files = Crate::read(src);
    let imports = files.imports();
    let mut graph = DiGraph::<&Names, ()>::new();
    let nodes: BTreeMap<&Names, NodeIndex> = files.0.keys().map(|module| (module, graph.add_node(module))).collect();
    for (from, to) in imports.keys() {
        graph.add_edge(nodes[from], nodes[to], ());
    }
    let shown = |module: &Names| if module.is_empty() { "lib".to_owned() } else { module.join("::") };
    let mut found = Vec::new();
    for circle in tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1) {
        let inside: BTreeSet<&Names> = circle.into_iter().map(|node| graph[node]).collect();
        let own = imports.iter().filter(|((from, to), _)| inside.contains(from) && inside.contains(to));
        let items = |items: &BTreeSet<String>| items.iter().cloned().collect::<Vec<_>>().join(", ");
        found.push(own.map(|((from, to), i)| format!("{} -> {} ({})", shown(from), shown(to), items(i))).collect());
    }
    found
}

impl Crate {
    fn read(src: &Path) -> Self {
        let mut files = BTreeMap::new();
        for path in super::sources(src) {
            let inside = path.strip_prefix(src).unwrap().with_extension("");
            let mut module: Names = inside.iter().map(|name| name.to_string_lossy().into_owned()).collect();
            // A program is a crate of its own, and sees of this one what everybody sees.
            if module[0] == "bin" || module == ["main"] && src.join("lib.rs").exists() {
                continue;
            }
            if ["lib", "main", "mod"].contains(&module.last().unwrap().as_str()) {
                module.pop();
            }
            files.insert(module, File::read(&std::fs::read_to_string(&path).unwrap()));
        }
        Self(files)
    }

    /// Whose items each file imports, and which.
    fn imports(&self) -> BTreeMap<(Names, Names), BTreeSet<String>> {
        let mut found: BTreeMap<(Names, Names), BTreeSet<String>> = BTreeMap::new();
        for (module, file) in &self.0 {
            let imported = |names: &Names| self.absolute(module, names);
            let local: BTreeMap<&str, Names> = file
                .imports
                .iter()
                .filter_map(|(name, names)| Some((name.as_str(), imported(names)?)))
                .filter(|(_, names)| self.0.contains_key(names))
                .collect();
            let used = file.paths.iter().filter_map(|path| match local.get(path[0].as_str()) {
                Some(module) => Some([module, &path[1..]].concat()),
                None => imported(path),
            });
            for names in file.imports.iter().filter_map(|(_, names)| imported(names)).chain(used) {
                // A module that is imported as a whole counts where something of it is used.
                if let Some((to, Some(item))) = self.home(&names, DEEP)
                    && to != *module
                {
                    found.entry((module.clone(), to)).or_default().insert(item);
                }
            }
        }
        found
    }

    /// A path from the root of the crate; nothing of one that leads out of it.
    fn absolute(&self, module: &Names, names: &Names) -> Option<Names> {
        let mut base = module.clone();
        let mut rest = names.as_slice();
        match rest[0].as_str() {
            "crate" => return Some(rest[1..].to_vec()),
            "self" | "super" => {}
            name => {
                let own = self.0[module].mods.contains(name);
                return own.then(|| [module.as_slice(), names].concat());
            }
        }
        while let Some(("self" | "super", more)) = rest.split_first().map(|(name, more)| (name.as_str(), more)) {
            if rest[0] == "super" {
                base.pop();
            }
            rest = more;
        }
        Some([&base, rest].concat())
    }

    /// The file that has the item, and the item; nothing of one that another crate has.
    fn home(&self, names: &[String], deep: usize) -> Option<(Names, Option<String>)> {
        let of = (0..=names.len()).rev().find(|n| self.0.contains_key(&names[..*n]))?;
        let (module, rest) = names.split_at(of);
        let Some(item) = rest.first() else { return Some((module.to_vec(), None)) };
        match self.0[module].exports.get(item) {
            Some(handed) => {
                let handed = self.absolute(&module.to_vec(), handed)?;
                self.home(&[&handed, &rest[1..]].concat(), deep.checked_sub(1)?)
            }
            None => Some((module.to_vec(), Some(item.clone()))),
        }
    }
}

impl File {
    fn read(text: &str) -> Self {
        let mut words = Vec::new();
        flatten(text.parse().expect("Rust code"), &mut words);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut file = Self::default();
        let mut at = 0;
        while at < words.len() {
            let rest = &words[at..];
            if rest.starts_with(&["#", "[", "cfg", "(", "test", ")", "]"]) {
                at += item_length(rest);
            } else if let ["mod", name, ";", ..] = rest {
                file.mods.insert((*name).to_owned());
                at += 3;
            } else if rest[0] == "use" {
                let length = rest.iter().position(|w| *w == ";").unwrap_or(rest.len());
                let mut found = Vec::new();
                tree(&rest[1..length], &[], &mut found);
                if words[..at].last() == Some(&"pub") || words[..at].last() == Some(&")") {
                    file.exports.extend(found);
                } else {
                    file.imports.extend(found);
                }
                at += length;
            } else if rest.len() > 2 && is_name(rest[0]) && rest[1] == "::" && is_name(rest[2]) {
                let mut names = vec![rest[0].to_owned()];
                while at + 2 < words.len() && words[at + 1] == "::" && is_name(words[at + 2]) {
                    names.push(words[at + 2].to_owned());
                    at += 2;
                }
                file.paths.push(names);
                at += 1;
            } else {
                at += 1;
            }
        }
        file
    }
}

/// Words, brackets and signs in a row; of literals and lifetimes only that they are there.
fn flatten(code: TokenStream, words: &mut Vec<String>) {
    let (mut colon, mut lifetime) = (false, false);
    for token in code {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                words.push(open.to_owned());
                flatten(group.stream(), words);
                words.push(close.to_owned());
            }
            TokenTree::Ident(_) if lifetime => {}
            TokenTree::Ident(name) => words.push(name.to_string()),
            TokenTree::Literal(_) => words.push("0".to_owned()),
            TokenTree::Punct(sign) => {
                (lifetime, colon) = match (sign.as_char(), sign.spacing()) {
                    ('\'', _) => (true, false),
                    (':', Spacing::Joint) if !colon => (false, true),
                    (':', _) if colon => {
                        words.push("::".to_owned());
                        (false, false)
                    }
                    (other, _) => {
                        words.push(other.to_string());
                        (false, false)
                    }
                };
                continue;
            }
        }
        (lifetime, colon) = (false, false);
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// How many words an item has with the attributes before it: up to its semicolon, or to the end of its braces.
fn item_length(words: &[&str]) -> usize {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate() {
        match *word {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && *word == "}" {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    words.len()
}

/// The paths of a `use`, each with the name that it gets.
fn tree(words: &[&str], before: &[String], found: &mut Vec<(String, Names)>) {
    let mut path = before.to_vec();
    let mut at = 0;
    while at < words.len() {
        match words[at] {
            "::" => {}
            "{" => {
                let (mut depth, mut start) = (0, at + 1);
                for (i, word) in words.iter().enumerate().skip(at) {
                    depth += i32::from(*word == "{") - i32::from(*word == "}");
                    if depth == 0 || depth == 1 && *word == "," {
                        if start < i {
                            tree(&words[start..i], &path, found);
                        }
                        start = i + 1;
                    }
                }
                return;
            }
            "as" => {
                found.push((words[at + 1].to_owned(), path));
                return;
            }
            // `a::{self}` is `a`.
            "self" if at + 1 == words.len() && !before.is_empty() && path.len() == before.len() => {}
            name => path.push(name.to_owned()),
        }
        at += 1;
    }
    if let Some(name) = path.last().cloned() {
        found.push((name, path));
    }
}

/// A crate of files with these texts has circles of so many imports.
fn found(files: &[(&str, &str)]) -> Vec<usize> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    circles(dir.path()).iter().map(Vec::len).collect()
}

#[test]
fn circles_are_seen_and_nothing_else() {
    let lib = ("lib.rs", "mod a;\nmod b;\npub use a::A;\n");
    let b = ("b.rs", "pub struct B;\nuse crate::a::A;\n");
    let none: [usize; 0] = [];
    assert_eq!(found(&[lib, b, ("a.rs", "use crate::b::B;\n")]), [2]);
    // In other words: by `super`, by a path in the code, in a macro, through a re-export, by a module's name.
    for text in [
        "use super::b::{B};",
        "fn f() { crate::b::g() }",
        "fn f() -> String { format!(\"{}\", super::b::g()) }",
        "use crate::{b as other}; fn f() { other::g() }",
        "use crate::b; fn f<'a>(x: &'a u8) -> b::B { b::g(x) }",
    ] {
        assert_eq!(found(&[lib, b, ("a.rs", text)]), [2], "{text}");
    }
    assert_eq!(found(&[lib, ("a.rs", "use crate::b::B;"), ("b.rs", "use crate::A;")]), [2], "through a re-export");
    for text in [
        "// use crate::b::B;\n/// [`crate::b::B`]\npub struct A;",
        "pub struct A; const T: &str = \"crate::b::B\";",
        "pub struct A;\n#[cfg(test)]\nmod tests { use crate::b::B; }",
        "pub struct A;\n#[cfg(test)]\nuse crate::b::B;",
        "pub struct A; use crate::b;",
        "use other::b::B; pub struct A;",
    ] {
        assert_eq!(found(&[lib, b, ("a.rs", text)]), none, "{text}");
    }
    // A parent and its child may each use the other's items, but not both.
    let child = ("a/c.rs", "use super::A;\npub struct C;\n");
    let lib = ("lib.rs", "mod a;\n");
    assert_eq!(found(&[lib, child, ("a/mod.rs", "mod c;\npub use c::C;\npub struct A;\n")]), none);
    assert_eq!(found(&[lib, child, ("a/mod.rs", "mod c;\npub struct A(c::C);\n")]), [2]);
    // Three in a row.
    let three = [("lib.rs", "mod a;\nmod b;\nmod c;\n"), ("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::C;")];
    assert_eq!(found(&[&three[..], &[("c.rs", "use crate::a::A;")]].concat()), [3]);
}
