//! Keeps the house of DESIGN section 5 in order: who imports whom, who may name what, and what no source may contain.
//!
//! Every failure prints where it is and how to cure it. The rules read the sources as text: they know comments and
//! string literals, and nothing more of the language.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rows of the house, top to bottom: a file imports from lower rows or from its own room only. Rooms of one row do
/// not know each other, except as `BESIDE` says.
const ROWS: &[&[&str]] = &[
    &["main", "cli"],
    &["supervisor", "simulate", "init"],
    &["admin", "worker"],
    &["front"],
    &["replica", "storage", "database"],
    &["replication", "authority", "statements", "dispatch"],
    &["tables", "http1"],
    &["floor"],
    &["engine", "mesh"],
    &["budget"],
    &["profile"],
    &["log"],
    &["clock"],
    &["error", "limits", "manual"],
];

/// Imports against the rows, each with its reason.
const BESIDE: &[(&str, &str, &str)] = &[
    ("simulate", "supervisor", "a simulated process starts as a real one does"),
    ("admin", "worker", "orders to workers, and their reports"),
    ("replica", "database", "a commit is a request to the database server"),
    ("storage", "database", "agents commit through the database server"),
    ("database", "storage", "the users of the profile are seeded with hashes that the password thread's code makes"),
    ("tables", "authority", "a code version carries the authority table that was compiled from its first code table"),
    ("mesh", "engine", "a doorbell wakes the engine that its worker sleeps in"),
    ("budget", "worker", "what a placement costs"),
    ("profile", "dispatch", "the profile names a policy"),
    ("profile", "engine", "the profile names addresses and the sizes of an engine"),
    ("profile", "tables", "the number of replicas is bounded by a row's version vector"),
    ("clock", "engine", "clocks are system calls"),
];

/// Code lines of a file at most: without blank lines, comments and unit tests.
const LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A source file as the rules see it.
struct Source {
    /// Relative to the workspace.
    path: String,
    /// Every line with comments and the insides of string literals blanked out.
    code: Vec<String>,
    /// Every line as written.
    text: Vec<String>,
    /// The first line of the unit tests at the end, from 0.
    tests_from: usize,
}

impl Source {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let blanked = blank(&text);
        let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
        let code: Vec<String> = blanked.lines().map(str::to_owned).collect();
        let is_test = relative.starts_with("tests/")
            || relative.contains("/tests/")
            || ["tests.rs", "_tests.rs", "fixture.rs", "vectors.rs", "simulation.rs"]
                .iter()
                .any(|end| relative.ends_with(end));
        let inline =
            code.windows(2).position(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].trim_end().ends_with('{'));
        let tests_from = if is_test { 0 } else { inline.unwrap_or(code.len()) };
        Self { path: relative, code, text: text.lines().map(str::to_owned).collect(), tests_from }
    }

    /// Lines of the program proper with their numbers from 1.
    fn program(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code[..self.tests_from].iter().enumerate().map(|(index, line)| (index + 1, line.as_str()))
    }

    /// All lines with their numbers from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().enumerate().map(|(index, line)| (index + 1, line.as_str()))
    }

    /// The room that the file belongs to: its folder below `src`, or its own name.
    fn room(&self) -> Option<&str> {
        self.path.strip_prefix("src/")?.split(['/', '.']).next()
    }
}

/// Blanks out comments and the insides of string and character literals, keeping every line's place.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut place = 0;
    let keep_line_ends =
        |out: &mut String, part: &str| out.extend(part.chars().map(|one| if one == '\n' { '\n' } else { ' ' }));
    while place < bytes.len() {
        let rest = &text[place..];
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(text, place) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len())
        } else if rest.starts_with('"') {
            1 + string_end(&rest.as_bytes()[1..])
        } else if let Some(end) = character(rest) {
            end
        } else {
            let one = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..one]);
            place += one;
            continue;
        };
        keep_line_ends(&mut out, &rest[..end]);
        place += end;
    }
    out
}

/// The number of `#` of a raw string that begins here.
fn raw_string(text: &str, place: usize) -> Option<usize> {
    let rest = text[place..].strip_prefix('r')?;
    let before = text[..place].bytes().next_back();
    if before.is_some_and(|byte| byte.is_ascii_alphanumeric() && byte != b'b' || byte == b'_') {
        return None;
    }
    let hashes = rest.bytes().take_while(|byte| *byte == b'#').count();
    rest[hashes..].starts_with('"').then_some(hashes)
}

fn string_end(bytes: &[u8]) -> usize {
    let mut place = 0;
    while place < bytes.len() {
        match bytes[place] {
            b'\\' => place += 2,
            b'"' => return place + 1,
            _ => place += 1,
        }
    }
    bytes.len()
}

/// The length of a character literal that begins here; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    if inside.starts_with('\\') {
        return inside[2..].find('\'').map(|end| end + 4);
    }
    let one = inside.chars().next()?.len_utf8();
    inside[one..].starts_with('\'').then_some(one + 2)
}

fn walk(folder: &Path, end: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !["target", "results", "corpus"].contains(&name) && !name.starts_with('.') {
                walk(&path, end, found);
            }
        } else if name.ends_with(end) {
            found.push(path);
        }
    }
}

fn files(end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(root(), end, &mut found);
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    files(".rs").iter().map(|path| Source::read(path)).collect()
}

/// Fails with all offenders and the cure.
#[track_caller]
fn assert_none(offenders: &[String], cure: &str) {
    assert!(offenders.is_empty(), "\n{}\n{} in all. Cure: {cure}\n", offenders.join("\n"), offenders.len());
}

fn is_word(line: &str, word: &str) -> bool {
    let part_of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    line.match_indices(word).any(|(place, _)| {
        let before = line.as_bytes()[..place].last().is_none_or(|byte| !part_of_name(*byte));
        let after = line.as_bytes().get(place + word.len()).is_none_or(|byte| !part_of_name(*byte));
        before && after
    })
}

/// Offending lines: `word` in the code of files for which `allowed` is false.
fn naming(word: &str, sources: &[Source], allowed: impl Fn(&Source) -> bool, with_tests: bool) -> Vec<String> {
    let mut offenders = Vec::new();
    for source in sources.iter().filter(|source| !allowed(source)) {
        let lines: Vec<(usize, &str)> = if with_tests { source.lines().collect() } else { source.program().collect() };
        let hits = lines.into_iter().filter(|(_, line)| is_word(line, word));
        offenders.extend(hits.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim())));
    }
    offenders
}

/// Rooms that a line names: behind `crate::`, or in the braces of `crate::{…}`.
fn rooms_named(line: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (place, _) in line.match_indices("crate::") {
        let rest = &line[place + "crate::".len()..];
        let name = |text: &str| text.chars().take_while(|one| one.is_alphanumeric() || *one == '_').collect::<String>();
        if let Some(inside) = rest.strip_prefix('{') {
            let mut depth = 0;
            for part in inside.split_inclusive([',', '{', '}']) {
                let first = name(part.trim());
                if depth == 0 && !first.is_empty() {
                    rooms.insert(first);
                }
                match part.as_bytes().last() {
                    Some(b'{') => depth += 1,
                    Some(b'}') => depth -= 1,
                    Some(_) | None => {}
                }
            }
        } else {
            rooms.insert(name(rest));
        }
    }
    rooms
}

#[test]
fn files_import_from_lower_rows_only() {
    let row = |room: &str| ROWS.iter().position(|rooms| rooms.contains(&room));
    let (mut offenders, mut used) = (Vec::new(), BTreeSet::new());
    for source in sources() {
        let Some(room) = source.room().map(str::to_owned) else { continue };
        if room == "lib" {
            continue;
        }
        let Some(own) = row(&room) else {
            offenders.push(format!("{}: the room `{room}` is in no row", source.path));
            continue;
        };
        let program = source.program().map(|(_, line)| line).collect::<Vec<_>>();
        for (number, line) in source.program() {
            // A list in braces goes on over lines: it is read from its first one.
            let whole = if line.contains("crate::{") { program[number - 1..].join(" ") } else { line.to_owned() };
            let whole = whole.split(';').next().unwrap_or("");
            for named in rooms_named(whole) {
                if named == room || row(&named).is_none_or(|row| row > own) {
                    continue;
                }
                if BESIDE.iter().any(|(from, to, _)| *from == room && *to == named) {
                    used.insert((room.clone(), named));
                } else {
                    offenders.push(format!("{}:{number}: `{room}` imports from `{named}`", source.path));
                }
            }
        }
    }
    for (from, to, reason) in BESIDE {
        if !used.contains(&((*from).to_owned(), (*to).to_owned())) {
            offenders.push(format!("BESIDE: `{from}` no longer imports from `{to}` ({reason})"));
        }
    }
    assert_none(
        &offenders,
        "move what is shared to a lower row of DESIGN section 5, or pass it in; an exception needs a line with its \
         reason in BESIDE of tests/tidy.rs",
    );
}

#[test]
fn only_the_rooms_that_may_name_a_thing_do() {
    let sources = sources();
    let inside = |source: &Source, places: &[&str]| places.iter().any(|place| source.path.starts_with(place));
    let is_test = |source: &Source| source.tests_from == 0;
    for (word, places, cure) in [
        (
            "unsafe",
            &["src/engine/", "src/mesh/", "tests/loom/"][..],
            "unsafe code belongs to engine/ and mesh/, behind a safe function",
        ),
        ("io_uring", &["src/engine/"], "the ring belongs to engine/"),
        ("libc", &["src/engine/"], "system calls belong to engine/, behind a safe function"),
        (
            "monoio",
            &["src/engine/", "src/admin/", "src/storage/executor/"],
            "monoio runs an engine, the admin thread, and the storage thread where io_uring is blocked",
        ),
        ("glommio", &["src/engine/", "src/storage/executor/"], "glommio runs an engine and the storage thread only"),
        (
            "duckdb",
            &["src/database/duckdb", "src/database/mod.rs", "bench/src/store"],
            "ask the Store of database/contract.rs",
        ),
        ("tokio_postgres", &["src/database/postgres/"], "ask the Store of database/contract.rs"),
        // `bench` does not link the crate: what it calls so is the server that it starts.
        (
            "postgres",
            &["src/database/postgres/", "src/database/mod.rs", "bench/"],
            "ask the Store of database/contract.rs",
        ),
    ] {
        // Tests may look into databases and call the kernel.
        let allowed = |source: &Source| {
            inside(source, places) || source.path == "tests/tidy.rs" || (is_test(source) && word != "unsafe")
        };
        let mut offenders = naming(word, &sources, allowed, word == "unsafe");
        if ["duckdb", "postgres"].contains(&word) {
            // The supervisor chooses the store by its path; the crate itself is another matter.
            let module = [format!("database::{word}"), format!("{word}::Settings")];
            offenders.retain(|line| !module.iter().any(|path| line.contains(path)));
        }
        assert_none(&offenders, cure);
    }
}

#[test]
fn nothing_is_left_undone() {
    let mut offenders = Vec::new();
    for source in sources().iter().filter(|source| source.path != "tests/tidy.rs") {
        for (index, line) in source.text.iter().enumerate() {
            if ["TODO", "FIXME", "XXX", "HACK"].iter().any(|word| is_word(line, word)) {
                offenders.push(format!("{}:{}: {}", source.path, index + 1, line.trim()));
            }
        }
        for (number, line) in source.lines() {
            if ["todo!", "unimplemented!", "dbg!"].iter().any(|word| line.contains(word)) || line.trim() == "#[ignore]"
            {
                offenders.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none(&offenders, "finish it, or file it; an ignored test says why: #[ignore = \"reason\"]");
}

#[test]
fn tests_wait_for_events_and_not_for_time() {
    let mut offenders = Vec::new();
    for source in sources().iter().filter(|source| source.path != "tests/tidy.rs") {
        for (number, line) in source.lines().skip(source.tests_from) {
            if !line.contains("thread::sleep(") && !line.trim_start().starts_with("sleep(") {
                continue;
            }
            // A server that plays slowness, or a proof that nothing happens, says so in a comment before it.
            if source.text[number.saturating_sub(4)..number].iter().any(|line| line.trim_start().starts_with("//")) {
                continue;
            }
            // A poll with a deadline looks again a moment later: its loop compares with a deadline nearby.
            let nearby = &source.code[number.saturating_sub(25)..(number + 12).min(source.code.len())];
            let polls = nearby.iter().any(|line| {
                ["deadline", "elapsed()", "until", "PATIENCE", "Instant::now() <"]
                    .iter()
                    .any(|word| line.contains(word))
            });
            if !polls {
                offenders.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none(
        &offenders,
        "ask again and again until a deadline, as `eventually` of tests/black_box/support does; a sleep that plays \
         slowness says so in a comment before it",
    );
}

#[test]
fn the_program_does_not_unwrap() {
    let sources = sources();
    let mut offenders = Vec::new();
    for source in &sources {
        for (number, line) in source.program().filter(|(_, line)| line.contains(".unwrap()")) {
            offenders.push(format!("{}:{number}: {}", source.path, line.trim()));
        }
    }
    assert_none(&offenders, "return the error, or say which invariant excludes it: expect(\"invariant: …\")");
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let mut offenders = Vec::new();
    for path in files("Cargo.toml") {
        let text = fs::read_to_string(&path).unwrap();
        let (mut inside, mut explained) = (false, false);
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.starts_with('[') {
                inside = line.contains("dependencies");
                explained = false;
            } else if line.starts_with('#') {
                explained = true;
            } else if inside && line.contains('=') {
                // What the workspace explains need not be explained again.
                let inherited =
                    line.contains("workspace = true") || line.contains(".workspace") || line.contains("path = \"..");
                if !explained && !inherited {
                    offenders.push(format!("{}:{}: {line}", path.display(), index + 1));
                }
                explained = false;
            } else if line.is_empty() {
                explained = false;
            }
        }
    }
    assert_none(&offenders, "write a comment line before it: what it does for us");
}

#[test]
fn files_stay_readable() {
    let mut offenders = Vec::new();
    for source in sources() {
        let lines = source.program().filter(|(_, line)| !line.trim().is_empty()).count();
        if lines > LINES_MAX {
            offenders.push(format!("{}: {lines} code lines", source.path));
        }
    }
    assert_none(&offenders, "split it by noun");
}

#[test]
fn no_file_knows_the_machine_that_it_was_written_on() {
    let mut offenders = Vec::new();
    // In parts, so that this file does not name them.
    let hosts = [
        ["static.", "crates.io"].concat(),
        ["index.", "crates.io"].concat(),
        ["pypi.", "org"].concat(),
        ["registry.", "npmjs"].concat(),
    ];
    let places = [["/ro", "ot/"].concat(), ["/wo", "rk/"].concat(), ["/ho", "me/"].concat()];
    for end in
        [".rs", ".toml", ".md", ".html", ".statements", ".cfg", ".conf", ".yaml", ".yml", ".sh", "Makefile", "run"]
    {
        for path in files(end) {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            for (index, line) in text.lines().enumerate() {
                let names_host = hosts.iter().any(|host| line.contains(host.as_str()));
                // A path begins where no other path ends.
                let names_place = places.iter().any(|place| {
                    line.match_indices(place.as_str()).any(|(at, _)| {
                        line.as_bytes()[..at]
                            .last()
                            .is_none_or(|byte| !byte.is_ascii_alphanumeric() && !b".}/_-".contains(byte))
                    })
                });
                if names_host || names_place {
                    offenders.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
                }
            }
        }
    }
    assert_none(&offenders, "use a relative path, an environment variable or the tool's own default");
}

/// Rows of a table in Markdown, cell by cell, without its head.
fn table_rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with('|')).skip(2);
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Wall time can be set while a run goes on: where it is read is where it cannot move a figure.
#[test]
fn the_generator_measures_by_the_monotonic_clock() {
    /// Each with what it wants the wall time for.
    const WALL: &[(&str, &str)] = &[
        ("loadgen/src/stage.rs", "the stamp of the start, and the start that generators agree on"),
        ("loadgen/src/browse.rs", "cookies and caches expire by date"),
        ("loadgen/src/cli/max.rs", "the stamp of a search's start"),
    ];
    let sources = sources();
    let program: Vec<&Source> = sources.iter().filter(|source| source.path.starts_with("loadgen/src/")).collect();
    let reads = |source: &Source, words: &[&str]| {
        source
            .program()
            .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
            .map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim()))
            .collect::<Vec<_>>()
    };
    let mut offenders = Vec::new();
    for source in &program {
        let found = reads(
            source,
            &["SystemTime", " unix_ms()", "(unix_ms()", ".unix_ms()", "UNIX_EPOCH", "Utc::now", "Local::now"],
        );
        match WALL.iter().any(|(path, _)| *path == source.path) {
            true if found.is_empty() => offenders.push(format!("{}: reads no wall time any more", source.path)),
            true => {}
            false => offenders.extend(found),
        }
        // Whole nanoseconds of one clock, which is an argument.
        if source.path != "loadgen/src/hold.rs" {
            offenders.extend(reads(source, &["Instant::now", "elapsed()"]));
        }
    }
    assert_none(
        &offenders,
        "take the time as an argument: monotonic nanoseconds of twintier::clock; wall time is for stamps only",
    );
}

/// `loadgen/RULES.md` says which test breaks with which rule: a test that it names exists, and so does a file.
#[test]
fn every_rule_of_the_generator_names_what_shows_it() {
    let text = fs::read_to_string(root().join("loadgen/RULES.md")).unwrap();
    let sources = sources();
    let is_test = |name: &str| {
        let head = format!("fn {name}(");
        sources.iter().any(|source| source.text.iter().any(|line| line.contains(&head)))
    };
    let mut offenders = Vec::new();
    for row in table_rows(&text) {
        let [number, _, kept_by, shown_by] = row[..] else {
            offenders.push(format!("{}: four cells, please", row.join(" | ")));
            continue;
        };
        for name in quoted(kept_by).into_iter().chain(quoted(shown_by)) {
            let exists = match name {
                command if command.contains(' ') => true,
                path if path.contains('/') => root().join(path).exists(),
                test if shown_by.contains(test) => is_test(test.rsplit("::").next().unwrap_or(test)),
                _name_in_the_code => true,
            };
            if !exists {
                offenders.push(format!("rule {number}: `{name}` does not exist"));
            }
        }
    }
    assert_none(&offenders, "name a file by its path, a test by its function, a command with its arguments");
}

/// What a document says of a file or folder is read by people who then look for it.
#[test]
fn every_file_that_a_document_names_exists() {
    let mut offenders = Vec::new();
    for path in files(".md") {
        let text = fs::read_to_string(&path).unwrap();
        // Generated, or of another time.
        let of_a_report = path.starts_with(root().join("bench/src/report"));
        if of_a_report || ["RESULTS.md", "CHANGELOG.md"].iter().any(|name| path.ends_with(name)) {
            continue;
        }
        let folder = path.parent().unwrap();
        for (index, line) in text.lines().enumerate() {
            for name in paths_named(line) {
                // What the fuzzer finds is put there by it.
                let exists = folder.join(name).exists() || root().join(name).exists() || name == "tests/fuzz/artifacts";
                if !exists {
                    offenders.push(format!("{}:{}: {name}", path.strip_prefix(root()).unwrap().display(), index + 1));
                }
            }
        }
    }
    assert_none(&offenders, "say where it is now, relative to the document or to the workspace");
}

/// The targets of links, and what stands between backticks and begins with a folder of sources. Capitals, braces and
/// stars stand for something else.
fn paths_named(line: &str) -> Vec<&str> {
    const FOLDERS: &[&str] = &["src/", "tests/", "loadgen/src/", "bench/src/", "bench/opponents/", "scripts/"];
    let links = line.split("](").skip(1).filter_map(|rest| rest.split(')').next()?.split('#').next());
    let links = links.filter(|target| !target.is_empty() && !target.contains("://"));
    let sources = quoted(line).into_iter().filter(|name| FOLDERS.iter().any(|folder| name.starts_with(folder)));
    let is_plain =
        |name: &&str| !name.contains(|letter: char| letter.is_ascii_uppercase() || " {}*<>…$".contains(letter));
    links.chain(sources.filter(is_plain)).collect()
}

#[test]
fn the_rules_read_sources_as_they_are() {
    assert_eq!(blank("a // b\nc"), "a     \nc");
    assert_eq!(blank("x(\"unsafe // \\\" \", 'a', '\\n', b'\"')").matches('x').count(), 1);
    assert!(!blank("x(r#\"un\"safe\"#)").contains("safe"));
    assert_eq!(blank("fn f<'a>(x: &'a str)"), "fn f<'a>(x: &'a str)");
    assert_eq!(table_rows("| a | b |\n|---|---|\n| `x y` and `z` | |"), [["`x y` and `z`", ""]]);
    assert_eq!(quoted("`x y` and `z`"), ["x y", "z"]);
    let line = "[a](b.md#c) [d](https://e) `src/f.rs` `src/NAME.rs` `g/h.rs` `tests/i`";
    assert_eq!(paths_named(line), ["b.md", "src/f.rs", "tests/i"]);
    let named = rooms_named("use crate::{engine::{Conn, Event}, http1, tables::code::Action};");
    assert_eq!(named.into_iter().collect::<Vec<_>>(), ["engine", "http1", "tables"]);
    assert!(is_word("a libc::b", "libc") && !is_word("a mylibc", "libc"));
}
