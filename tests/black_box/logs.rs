//! The log: every line that is written is one that `profiles/OBSERVING.md` documents, in both formats, and systemd is
//! told what it wants to know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::support::appliance::{Appliance, Setup};
use crate::support::eventually;
use crate::support::program::{Program, run, twintier};
use crate::support::site::Folder;
use crate::support::small_disk::SmallDisk;
use crate::support::wire::Wire;

/// Where the reader has to look, and what it may find there.
struct Documented {
    levels: BTreeSet<String>,
    fields: BTreeSet<String>,
}

/// Place and message of every documented line.
fn documented() -> BTreeMap<(String, String), Documented> {
    let text = fs::read_to_string(root().join("profiles/OBSERVING.md")).unwrap();
    let (_, rest) = text.split_once("<!-- log:").unwrap();
    let (table, _) = rest.split_once("<!-- end of log -->").unwrap();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<String>>();
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    let rows = rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [place, levels, message, fields] = cells[..] else { panic!("four cells, please: {row}") };
        let levels = levels.split(", ").map(str::to_owned).collect();
        let key = (quoted(place).remove(0), quoted(message).remove(0));
        (key, Documented { levels, fields: quoted(fields).into_iter().collect() })
    });
    rows.collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Keys and values of a line, in their order.
type Pairs = Vec<(String, Value)>;

/// A line of `key=value` pairs, by the rules of the documentation.
fn logfmt(line: &str) -> Option<Pairs> {
    let (mut pairs, mut rest) = (Vec::new(), line);
    loop {
        let (key, behind) = rest.split_once('=')?;
        let (value, left) = match behind.strip_prefix('"') {
            None => behind.split_once(' ').map_or((behind.to_owned(), ""), |(value, left)| (value.to_owned(), left)),
            Some(inside) => {
                let (mut value, mut letters) = (String::new(), inside.char_indices());
                let end = loop {
                    match letters.next()? {
                        (at, '"') => break at,
                        (_, '\\') => match letters.next()?.1 {
                            'x' => value.push_str(&format!("\\x{}{}", letters.next()?.1, letters.next()?.1)),
                            letter @ ('"' | '\\') => value.push(letter),
                            _ => return None,
                        },
                        (_, letter) => value.push(letter),
                    }
                };
                let left = &inside[end + 1..];
                (value, if left.is_empty() { "" } else { left.strip_prefix(' ')? })
            }
        };
        if key.is_empty() || key.contains([' ', '"']) || left.is_empty() && rest.ends_with(' ') {
            return None;
        }
        pairs.push((key.to_owned(), value.into()));
        if left.is_empty() {
            return Some(pairs);
        }
        rest = left;
    }
}

/// A line of JSON; the keys in the order of the text, which a map does not keep.
fn json(line: &str) -> Option<Pairs> {
    let object: serde_json::Map<String, Value> = serde_json::from_str(line).ok()?;
    let mut pairs: Pairs = object.into_iter().collect();
    pairs.sort_by_key(|(key, _)| line.find(&format!("\"{key}\":")));
    Some(pairs)
}

/// Holds all lines to the documentation; returns the messages that there were.
#[track_caller]
fn hold(text: &str, read: fn(&str) -> Option<Pairs>) -> BTreeSet<String> {
    let documented = documented();
    let mut messages = BTreeSet::new();
    for line in text.lines() {
        let pairs = read(line).unwrap_or_else(|| panic!("no line of this format: {line}"));
        let keys: Vec<&str> = pairs.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys[..5], ["time", "level", "thread", "place", "message"], "{line}");
        let [time, level, thread, place, message] = [0, 1, 2, 3, 4].map(|at| pairs[at].1.as_str().unwrap());
        assert!(time.len() == 24 && time.ends_with('Z') && !thread.is_empty(), "{line}");
        if !documented.keys().any(|(known, _)| known == place) {
            // A library has something to say about this machine.
            continue;
        }
        let known = documented.get(&(place.to_owned(), message.to_owned()));
        let known = known.unwrap_or_else(|| panic!("profiles/OBSERVING.md does not know this line: {line}"));
        assert!(known.levels.contains(level), "level: {line}");
        for key in &keys[5..] {
            assert!(known.fields.contains(*key) || *key == "repeated", "field `{key}`: {line}");
        }
        messages.insert(message.to_owned());
    }
    messages
}

/// A day on which everything happens, and what was said.
fn bad_day(format: &str) -> (String, bool) {
    let setup = Setup::shipped().set("log.format", format);
    let folder = setup.folder.path("small");
    let disk = SmallDisk::mount(&folder, 24);
    let setup = match &disk {
        Some(disk) => {
            setup.set("database.path", &folder.join("data.duckdb").display().to_string()).inside(disk.enter())
        }
        None => setup,
    };
    let appliance = setup.start();
    let statements = appliance.setup.folder.read("site.statements");
    appliance.setup.folder.replace("site.statements", format!("{statements}\nredirect /new/* /reqcat/ 302\n"));
    appliance.says("the statements are in force");
    appliance.setup.folder.replace("site.statements", format!("{statements}\npass \"/x\"/* flies here\n"));
    appliance.says("the statements are refused");

    let next = crate::support::site::shipped();
    next.edit("reqcat/code/templates/browse.html", "<h1>", "<h1>Newest: ");
    assert_eq!(deploy(&appliance, &next), Some(0));
    next.edit("reqcat/code/views/item.toml", "kind = \"row\"", "kind = \"raw\"");
    assert_eq!(deploy(&appliance, &next), Some(2));

    for order in ["stop", "start"] {
        assert_eq!(appliance.admin("POST", &format!("/servers/replica/1/{order}")).status, 200);
        let state = if order == "stop" { "stopped" } else { "the replica runs" };
        appliance.says(state);
    }
    // The drill is for the next job of that replica.
    appliance.admin("POST", "/servers/replica/1/crash");
    eventually("the crash of a replica that gets a job", || {
        appliance.wire().get("/reqcat/");
        appliance.program.stderr().contains("the replica crashed, and joins again").then_some(())
    });
    appliance.settle();

    if let Some(disk) = &disk {
        let mut alice = appliance.user("alice");
        alice.draft("item-10", "1");
        let ballast = disk.outside(&folder).join("ballast");
        // It ends with the disk.
        let _ = fs::write(&ballast, vec![1; 64 * 1024 * 1024]);
        let long = "a reason that fills the disk ".repeat(30);
        let form = [("item", "item-10"), ("quantity", "5"), ("reason", &*long)];
        eventually("a write that is refused", || {
            (alice.post("/reqcat/requisitions", &form).status == 503).then_some(())
        });
        appliance.says("the database takes no writes: reads go on");
        fs::remove_file(&ballast).unwrap();
        eventually("a write that is taken", || (alice.post("/reqcat/requisitions", &form).status == 303).then_some(()));
        appliance.says("the database takes writes");
    }
    let counted = appliance.status()["log"].clone();
    assert!(counted["written_lines"].as_u64() > Some(5), "{counted}");
    assert_eq!((&counted["dropped_lines"], &counted["lost_lines"]), (&0.into(), &0.into()));
    appliance.program.signal("TERM");
    let ended = appliance.program.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    (ended.stderr, disk.is_some())
}

fn deploy(appliance: &Appliance, folder: &Folder) -> Option<i32> {
    run(appliance.ask("deploy").arg(folder.path("reqcat/code"))).code
}

#[track_caller]
fn is_a_whole_day(messages: &BTreeSet<String>, database_was_full: bool) {
    let mut wanted = vec![
        "starting",
        "the engine is chosen",
        "the database is open",
        "ready",
        "an import has begun",
        "an import has ended",
        "the statements are in force",
        "the statements are refused, the old ones stay",
        "deployed",
        "the deploy has failed",
        "the replica's life has changed",
        "the replica runs",
        "the replica crashed, and joins again",
        "draining: no new connection is taken",
        "drained",
        "ended",
    ];
    if database_was_full {
        wanted.extend(["the database takes no writes: reads go on", "the database takes writes", "a commit failed"]);
    } else {
        eprintln!("skipped: no small file system can be mounted here, so that no database was full");
    }
    for message in wanted {
        assert!(messages.contains(message), "nobody said `{message}`: {messages:?}");
    }
}

#[test]
fn every_line_of_a_bad_day_is_documented_in_logfmt() {
    let (said, full) = bad_day("logfmt");
    is_a_whole_day(&hold(&said, logfmt), full);
    let end = said.lines().last().unwrap();
    for book in ["books_requests=0", "books_writes=0", "books_replication=0", "books_agents=0", "level=info"] {
        assert!(end.contains(book), "{end}");
    }
    assert!(said.contains("signal=SIGTERM"), "{said}");
    assert!(said.contains("application=reqcat version=2 digest="), "{said}");
}

#[test]
fn every_line_of_a_bad_day_is_documented_in_json() {
    let (said, full) = bad_day("json");
    is_a_whole_day(&hold(&said, json), full);
    let start: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert!(start["workers"].is_u64() && start["cores"].is_string(), "numbers stay numbers: {start}");
}

#[test]
fn levels_leave_lines_out() {
    let appliance = Setup::shipped().set("log.level", "warn,storage=info").start();
    appliance.program.signal("TERM");
    let said = appliance.program.ended().stderr;
    let messages = hold(&said, logfmt);
    assert!(messages.contains("an import has ended"), "{messages:?}");
    assert!(!messages.contains("ready") && !messages.contains("ended"), "{messages:?}");
}

/// Every macro of the sources has a row of its own: place, level, message and fields.
#[test]
fn every_message_of_the_sources_is_documented() {
    let documented = documented();
    let (mut sources, mut found, mut offenders) = (Vec::new(), BTreeSet::new(), Vec::new());
    walk(&root().join("src"), &mut sources);
    for path in sources {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root().join("src")).unwrap().to_str().unwrap().to_owned();
        for level in ["info", "warn", "error"] {
            for (at, _) in text.match_indices(&format!("log::{level}!(")) {
                let line_begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
                if text[line_begin..at].trim_start().starts_with("//") {
                    continue;
                }
                let Some(call) = inside(&text[at + "log::!(".len() + level.len()..]) else { continue };
                let (head, message) =
                    call.rsplit_once("; \"").or_else(|| call.rsplit_once(";\n")).unwrap_or(("", call));
                let message = message.trim().trim_matches('"');
                // What comes from elsewhere is seen in runs only.
                if message.contains('{') {
                    continue;
                }
                let place = head
                    .split_once("target: \"twintier::")
                    .map_or(name.split(['/', '.']).next().unwrap(), |(_, rest)| rest.split('"').next().unwrap());
                found.insert((place.to_owned(), message.to_owned()));
                match documented.get(&(place.to_owned(), message.to_owned())) {
                    None => offenders.push(format!("{name}: place `{place}` message `{message}` is not documented")),
                    Some(known) if !known.levels.contains(level) => {
                        offenders.push(format!("{name}: `{message}` is not of level {level}"));
                    }
                    Some(known) => {
                        let fields = fields_of(head);
                        let unknown = fields.iter().filter(|field| !known.fields.contains(*field));
                        offenders.extend(unknown.map(|field| format!("{name}: `{message}` has the field `{field}`")));
                    }
                }
            }
        }
    }
    assert!(found.len() > 40, "the reader of sources finds them: {found:?}");
    assert!(offenders.is_empty(), "\n{}\nCure: the table of `## Log` in profiles/OBSERVING.md\n", offenders.join("\n"));
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The arguments of a macro, up to the parenthesis that closes it.
fn inside(text: &str) -> Option<&str> {
    let (mut depth, mut quoted, mut escaped) = (1_u32, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if std::mem::take(&mut escaped) => {}
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'(' if !quoted => depth += 1,
            b')' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return Some(&text[..at]);
                }
            }
            _ => {}
        }
    }
    None
}

/// Names before the `=` or the `:%` of each value of a macro, or the value itself where it is named after its variable.
fn fields_of(head: &str) -> Vec<String> {
    let (mut depth, mut quoted, mut part, mut parts) = (0_i32, false, String::new(), Vec::new());
    for letter in head.chars() {
        match letter {
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(letter);
    }
    parts.push(part);
    let names = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty() && !part.starts_with("target:"));
    names.map(|part| part.split(['=', ':']).next().unwrap().trim().to_owned()).collect()
}

#[test]
fn a_journal_gets_priorities_and_keeps_its_own_time() {
    let folder = Folder::new();
    let path = folder.path("journal");
    let file = fs::File::create(&path).unwrap();
    let about = file.metadata().unwrap();
    let mut command = twintier();
    command.args(["proxy", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--check", "tcp", "--option", "fall=1"]);
    command.env("JOURNAL_STREAM", format!("{}:{}", about.dev(), about.ino()));
    let mut proxy = Program::start(command.stderr(Stdio::from(file)));
    let said = eventually("the server that is down", || {
        let said = fs::read_to_string(&path).unwrap();
        said.contains("the upstream server is down").then_some(said)
    });
    let line = said.lines().find(|line| line.contains("is down")).unwrap();
    assert!(line.starts_with("<4>level=warn thread=main place=front message="), "{line}");
    proxy.signal("TERM");
    assert_eq!(proxy.status().code(), Some(0));
}

#[test]
fn systemd_hears_of_ready_alive_and_stopping() {
    let setup = Setup::shipped();
    let path = setup.folder.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let hear = || {
        let mut bytes = [0; 1024];
        let count = manager.recv(&mut bytes).expect("a datagram in time");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    let mut command = setup.command("serve");
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "30000000");
    let mut program = Program::start(&mut command);
    let ready = hear();
    assert!(ready.starts_with("READY=1\nSTATUS=http=127.0.0.1:"), "{ready}");
    // Whoever waits for `ready` may connect.
    assert_eq!(Wire::open(program.ready("http").parse().unwrap()).get("/nowhere").status, 404);
    assert_eq!(hear(), "WATCHDOG=1");
    program.signal("TERM");
    let mut stopping = hear();
    while stopping == "WATCHDOG=1" {
        stopping = hear();
    }
    assert_eq!(stopping, "STOPPING=1\nSTATUS=draining");
    assert_eq!(program.status().code(), Some(0));
}
