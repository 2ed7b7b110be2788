//! Statements compiled for lookup: the first one in the file that matches wins, at a cost that depends on the length
//! of the path and not on the number of statements.
//!
//! ```text
//!   host ──▶ trie of its statements ──▶ smallest index ─┐
//!   any host ▶ trie of the others ────▶ smallest index ─┴─▶ the smaller one
//! ```

use std::path::Path;

use super::grammar::{self, Action, Pattern, Statement};
use crate::error::Fault;
use crate::http1::form;

/// One statement, ready to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its place in the table: [`RouteTable::routes`] has it there.
    pub index: usize,
    /// Its line in the statement file.
    pub line: usize,
    /// Lower case; `None` holds for every host.
    pub host: Option<Box<str>>,
    /// The pattern without `/*`: what links of an application begin with. Empty for `/*`.
    pub mount: Box<str>,
    /// The pattern as written.
    pub pattern: Box<str>,
    pub target: Action,
}

impl Route {
    /// The part of a matching path below the mount; begins with `/`.
    pub fn below<'p>(&self, path: &'p str) -> &'p str {
        match path.strip_prefix(&*self.mount) {
            Some(rest) if rest.starts_with('/') => rest,
            Some(_) | None => "/",
        }
    }
}

/// All statements of a file. Immutable: a changed file becomes a new table with the next version.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    version: u64,
    routes: Vec<Route>,
    /// Sorted by name.
    hosts: Vec<(Box<str>, Trie)>,
    any: Trie,
}

impl RouteTable {
    /// Compiles statements in the order of their file.
    ///
    /// # Errors
    /// A [`Fault`] for each statement that no request can reach because an earlier one takes them all, and for each
    /// redirect that leads to itself.
    pub fn compile(statements: Vec<Statement>, version: u64) -> Result<Self, Vec<Fault>> {
        let mut table = Self { version, ..Self::default() };
        let mut faults = shadowed(&statements);
        for (index, statement) in statements.iter().enumerate() {
            table.trie_mut(statement.host.as_deref()).insert(&statement.pattern, index);
            table.routes.push(Route {
                index,
                line: statement.line,
                host: statement.host.clone(),
                mount: statement.pattern.base.clone(),
                pattern: statement.pattern.to_string().into(),
                target: statement.action.clone(),
            });
        }
        faults.extend(statements.iter().enumerate().filter_map(|(index, statement)| table.circular(index, statement)));
        faults.sort_by_key(|fault| fault.line);
        if faults.is_empty() { Ok(table) } else { Err(faults) }
    }

    /// Parses and compiles in one step.
    ///
    /// # Errors
    /// What [`grammar::parse`] or [`RouteTable::compile`] found.
    pub fn from_text(file: &Path, text: &str, version: u64) -> Result<Self, Vec<Fault>> {
        Self::compile(grammar::parse(file, text)?, version)
    }

    /// The first statement that matches. `host` is the request's, in any case, with or without port and final dot;
    /// `path` is decoded ([`form::decode_path`]).
    pub fn lookup(&self, host: &[u8], path: &str) -> Option<&Route> {
        let name = host_name(host);
        let own = self
            .hosts
            .binary_search_by(|(each, _)| each.bytes().cmp(name.iter().map(u8::to_ascii_lowercase)))
            .ok()
            .and_then(|at| self.hosts[at].1.lookup(path));
        let any = self.any.lookup(path);
        let first = match (own, any) {
            (Some(own), Some(any)) => own.min(any),
            (own, any) => own.or(any)?,
        };
        self.routes.get(first)
    }

    /// In the order of the file.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    fn trie_mut(&mut self, host: Option<&str>) -> &mut Trie {
        let Some(host) = host else { return &mut self.any };
        let at = match self.hosts.binary_search_by(|(each, _)| (**each).cmp(host)) {
            Ok(at) => at,
            Err(at) => {
                self.hosts.insert(at, (host.into(), Trie::default()));
                at
            }
        };
        &mut self.hosts[at].1
    }

    /// A redirect within the host whose goal is answered by the same redirect never ends.
    fn circular(&self, index: usize, statement: &Statement) -> Option<Fault> {
        let Action::Redirect { location, .. } = &statement.action else { return None };
        let path = location.split(['?', '#']).next().unwrap_or(location);
        let mut decoded = String::new();
        form::decode_path(path.as_bytes(), &mut decoded).ok()?;
        // `//host/path` is another host's.
        if path.starts_with("//") {
            return None;
        }
        let host = statement.host.as_deref().unwrap_or("");
        let goal = self.lookup(host.as_bytes(), &decoded)?;
        (goal.index == index).then(|| {
            let wrong = format!("`{location}` is redirected to itself by this statement");
            Fault::new(
                &statement.file,
                statement.line,
                statement.column,
                wrong,
                "redirect to a path that another statement takes",
            )
        })
    }
}

/// A statement is unreachable exactly if one earlier statement covers its host and pattern: no finite number of
/// narrower patterns covers a `/*`.
fn shadowed(statements: &[Statement]) -> Vec<Fault> {
    let covers = |earlier: &Statement, later: &Statement| {
        (earlier.host.is_none() || earlier.host == later.host) && earlier.pattern.covers(&later.pattern)
    };
    statements
        .iter()
        .enumerate()
        .filter_map(|(index, later)| {
            let earlier = statements[..index].iter().find(|earlier| covers(earlier, later))?;
            let wrong = format!(
                "`{}` is never reached: `{}` in line {} comes first",
                later.pattern, earlier.pattern, earlier.line
            );
            Some(Fault::new(
                &later.file,
                later.line,
                later.column,
                wrong,
                format!("move it before line {}, or delete it", earlier.line),
            ))
        })
        .collect()
}

/// Without port and final dot.
fn host_name(host: &[u8]) -> &[u8] {
    let end = if host.first() == Some(&b'[') {
        host.iter().position(|byte| *byte == b']').map_or(host.len(), |at| at + 1)
    } else {
        host.iter().position(|byte| *byte == b':').unwrap_or(host.len())
    };
    let name = &host[..end];
    name.strip_suffix(b".").unwrap_or(name)
}

/// A radix tree of patterns: one step for each branching of the statements' paths, not for each statement.
#[derive(Clone, Debug)]
struct Trie {
    /// The first node is the root, with an empty edge.
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Bytes from the parent to here.
    edge: Box<[u8]>,
    /// First byte of each child's edge, sorted, and the child.
    children: Vec<(u8, usize)>,
    /// Smallest index of a statement for exactly this path.
    exact: Option<usize>,
    /// Smallest index of a statement for this path and everything below it.
    below: Option<usize>,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl Trie {
    fn lookup(&self, path: &str) -> Option<usize> {
        let mut best: Option<usize> = None;
        let mut rest = path.as_bytes();
        let mut node = &self.nodes[0];
        loop {
            let ends = rest.is_empty();
            if ends {
                best = smaller(best, node.exact);
            }
            if ends || rest[0] == b'/' {
                best = smaller(best, node.below);
            }
            if ends {
                return best;
            }
            let Ok(at) = node.children.binary_search_by_key(&rest[0], |(first, _)| *first) else { return best };
            node = &self.nodes[node.children[at].1];
            let Some(behind) = rest.strip_prefix(&*node.edge) else { return best };
            rest = behind;
        }
    }

    fn insert(&mut self, pattern: &Pattern, index: usize) {
        let node = self.reach(pattern.base.as_bytes());
        let place = if pattern.below { &mut self.nodes[node].below } else { &mut self.nodes[node].exact };
        *place = smaller(*place, Some(index));
    }

    /// The node for this path, made if it is not there.
    fn reach(&mut self, path: &[u8]) -> usize {
        let (mut at, mut rest) = (0, path);
        while let Some(first) = rest.first() {
            let found = self.nodes[at].children.binary_search_by_key(first, |(byte, _)| *byte);
            let child = match found {
                Ok(place) => self.nodes[at].children[place].1,
                Err(place) => {
                    let leaf = self.push(Node { edge: rest.into(), ..Node::default() });
                    self.nodes[at].children.insert(place, (*first, leaf));
                    return leaf;
                }
            };
            let edge = &self.nodes[child].edge;
            let common = edge.iter().zip(rest).take_while(|(one, other)| one == other).count();
            if common < edge.len() {
                self.split(child, common);
            }
            (at, rest) = (child, &rest[common..]);
        }
        at
    }

    /// Cuts the edge of a node: what it had moves to a new child behind the first `common` bytes.
    fn split(&mut self, node: usize, common: usize) {
        let old = std::mem::take(&mut self.nodes[node]);
        let (front, back) = old.edge.split_at(common);
        let (front, back): (Box<[u8]>, Box<[u8]>) = (front.into(), back.into());
        let first = back[0];
        let tail = self.push(Node { edge: back, ..old });
        self.nodes[node] = Node { edge: front, children: vec![(first, tail)], ..Node::default() };
    }

    fn push(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }
}

fn smaller(one: Option<usize>, other: Option<usize>) -> Option<usize> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::{prop, proptest};

    use super::{RouteTable, host_name};
    use crate::statements::grammar::{self, Statement};

    fn table(text: &str) -> RouteTable {
        RouteTable::from_text(Path::new("x"), text, 7).unwrap()
    }

    #[test]
    fn first_match_wins_across_hosts() {
        let table = table(
            "fail /internal/* 404\n\
             host shop.example.com\n\
             proxy /reqcat/* cluster shop\n\
             redirect / /reqcat/ 302\n\
             host *\n\
             proxy /reqcat/admin cluster admin\n\
             proxy /reqcat/* cluster reqcat\n\
             pass /req/* files req\n\
             host other.example.com\n\
             fail /* 410\n",
        );
        let line = |host: &str, path: &str| table.lookup(host.as_bytes(), path).map(|route| route.line);
        assert_eq!(line("shop.example.com", "/internal/x"), Some(1));
        assert_eq!(line("SHOP.example.com.:8080", "/reqcat/x"), Some(3));
        assert_eq!(line("shop.example.com", "/reqcat/admin"), Some(3));
        assert_eq!(line("shop.example.com", "/"), Some(4));
        assert_eq!(line("elsewhere", "/"), None);
        assert_eq!(line("elsewhere", "/reqcat/admin"), Some(6));
        assert_eq!(line("elsewhere", "/reqcat/admin/x"), Some(7));
        assert_eq!(line("", "/reqcat"), Some(7));
        assert_eq!(line("", "/reqcat/"), Some(7));
        assert_eq!(line("", "/reqcatalog"), None);
        assert_eq!(line("", "/req"), Some(8));
        assert_eq!(line("other.example.com", "/req"), Some(8));
        assert_eq!(line("other.example.com", "/reqcatalog"), Some(10));
        assert_eq!(table.version(), 7);
        let route = table.lookup(b"", "/reqcat/items/1").unwrap();
        assert_eq!(
            (&*route.mount, &*route.pattern, route.below("/reqcat/items/1")),
            ("/reqcat", "/reqcat/*", "/items/1")
        );
        assert_eq!(route.below("/reqcat"), "/");
        assert_eq!(table.routes()[route.index], *route);
    }

    #[test]
    fn unreachable_statements_and_loops_are_faults() {
        for (text, expected) in [
            (
                "fail /a/* 404\nfail /a/b 404",
                "x:2:6: `/a/b` is never reached: `/a/*` in line 1 comes first; move it before line 1, or delete it",
            ),
            (
                "fail /a/* 404\nfail /a 404",
                "x:2:6: `/a` is never reached: `/a/*` in line 1 comes first; move it before line 1, or delete it",
            ),
            (
                "fail /* 404\nhost a\nfail /b/* 404",
                "x:3:6: `/b/*` is never reached: `/*` in line 1 comes first; move it before line 1, or delete it",
            ),
            (
                "fail /a 404\nfail /a 405",
                "x:2:6: `/a` is never reached: `/a` in line 1 comes first; move it before line 1, or delete it",
            ),
            (
                "redirect /a/* /a/b?c 302",
                "x:1:10: `/a/b?c` is redirected to itself by this statement; redirect to a path that another statement takes",
            ),
        ] {
            let faults = RouteTable::from_text(Path::new("x"), text, 0).unwrap_err();
            assert_eq!(faults.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
        }
        table(
            "fail /a 404\nfail /a/* 404\nhost a\nfail /b 404\nhost b\nfail /b 404\nhost *\nfail /b 404\nredirect /c/* //d/c 302",
        );
    }

    #[test]
    fn hosts_lose_port_and_dot() {
        for (host, name) in [("a:1", "a"), ("[::1]:80", "[::1]"), ("[::1", "[::1"), ("a.", "a"), ("", ""), (":", "")] {
            assert_eq!(host_name(host.as_bytes()), name.as_bytes());
        }
    }

    /// The definition that the trie must agree with.
    fn first(statements: &[Statement], host: &str, path: &str) -> Option<usize> {
        statements
            .iter()
            .position(|each| each.host.as_deref().is_none_or(|own| own == host) && each.pattern.matches(path))
    }

    proptest! {
        #[test]
        fn agrees_with_reading_from_the_top(
            lines in prop::collection::vec(("(/[ab]{0,2}){1,3}", prop::bool::ANY, prop::sample::select(vec!["*", "a", "b"])), 1..24),
            path in "(/[ab]{0,2}){1,4}",
        ) {
            let text: String = lines
                .iter()
                .filter(|(path, _, _)| !path.contains("//"))
                .map(|(path, below, host)| {
                    let base = if *below { path.trim_end_matches('/') } else { path };
                    format!("host {host}\nfail {base}{} 404\n", if *below { "/*" } else { "" })
                })
                .collect();
            let mut statements = grammar::parse(Path::new("x"), &text).unwrap();
            // Drop what compile would refuse, in its own words: a line that it names.
            while let Err(faults) = RouteTable::compile(statements.clone(), 0) {
                statements.retain(|statement| statement.line != faults[0].line);
            }
            let table = RouteTable::compile(statements.clone(), 0).unwrap();
            for host in ["", "a", "b"] {
                assert_eq!(table.lookup(host.as_bytes(), &path).map(|route| route.index), first(&statements, host, &path));
            }
        }
    }
}
