//! SIGKILL at random instants under write load: every answer that was read to its end holds after the restart.
//!
//! Four browsers write without a pause. Kills also hit starts (recovery included) and deploys. An answer counts only if
//! it was read completely; what was sent without an answer may be there or not, but never in part. `KILLS=200` kills
//! more often, `KILL_SEED=N` at other instants.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::appliance::{Appliance, Setup};
use crate::support::browser::Browser;
use crate::support::origin::{Origin, Said};
use crate::support::program::Program;
use crate::support::site::{self, Folder};
use crate::support::{PATIENCE, eventually};

/// Browsers that draft and submit requisitions.
const DRAFTERS: usize = 3;
/// Rows of earlier lives that are looked at after each restart; the end looks at all.
const SAMPLE: usize = 20;

/// Instants by seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// Plays fate: the next kill comes when it comes.
    fn wait(&mut self, below_ms: u64) {
        thread::sleep(Duration::from_millis(self.below(below_ms)));
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// A connection that may break off at any byte.
struct Fragile(BufReader<TcpStream>);

struct Whole {
    status: u16,
    location: String,
    body: String,
}

impl Fragile {
    fn open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self(BufReader::new(stream)))
    }

    /// Sends a form; gives the answer only if all of it came.
    fn post(&mut self, who: &Session, path: &str, values: &[(&str, &str)]) -> Option<Whole> {
        let mut form: Vec<String> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
        form.push(format!("csrf={}", who.csrf));
        let form = form.join("&");
        let mut request = format!("POST {path} HTTP/1.1\r\nhost: test\r\ncookie: {}\r\n", who.cookies);
        request += "accept: text/html\r\ncontent-type: application/x-www-form-urlencoded\r\n";
        write!(request, "content-length: {}\r\n\r\n{form}", form.len()).ok()?;
        self.0.get_mut().write_all(request.as_bytes()).ok()?;
        let status = self.line()?.split(' ').nth(1)?.parse().ok()?;
        let (mut location, mut length) = (String::new(), 0);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ")?;
            match name.to_ascii_lowercase().as_str() {
                "location" => value.clone_into(&mut location),
                "content-length" => length = value.parse().ok()?,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).ok()?;
        Some(Whole { status, location, body: String::from_utf8(body).ok()? })
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).ok()?;
        line.strip_suffix("\r\n").map(str::to_owned)
    }
}

#[derive(Clone)]
struct Session {
    cookies: String,
    csrf: String,
}

impl Session {
    fn of(browser: &Browser) -> Self {
        let cookies = browser.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        Self { cookies: cookies.collect::<Vec<_>>().join("; "), csrf: browser.csrf().to_owned() }
    }
}

/// What the answers have promised.
#[derive(Default)]
struct Promised {
    /// Requisitions by path: their number in the drafter's sequence, and whether their submission was answered.
    drafts: BTreeMap<String, (usize, u64, bool)>,
    /// Answers that are none of those expected.
    surprises: Vec<String>,
}

fn reason(drafter: usize, number: u64) -> String {
    format!("w{drafter}-{number}")
}

fn quantity(number: u64) -> u64 {
    1 + number % 97
}

/// Drafts requisitions and submits every second one, until the connection ends.
fn draft_on(address: SocketAddr, who: &Session, drafter: usize, next: &mut u64) -> Promised {
    let mut promised = Promised::default();
    let Some(mut wire) = Fragile::open(address) else { return promised };
    loop {
        *next += 1;
        let number = *next;
        let (quantity, reason) = (quantity(number).to_string(), reason(drafter, number));
        let values = [("item", "item-10"), ("quantity", &quantity), ("reason", &reason)];
        let Some(drafted) = wire.post(who, "/reqcat/requisitions", &values) else { return promised };
        if drafted.status != 303 {
            promised.surprises.push(format!("draft: {} {}", drafted.status, drafted.body));
            continue;
        }
        promised.drafts.insert(drafted.location.clone(), (drafter, number, false));
        if number.is_multiple_of(2) {
            let Some(submitted) = wire.post(who, &format!("{}/submit", drafted.location), &[]) else {
                return promised;
            };
            if submitted.status == 202 {
                promised.drafts.insert(drafted.location, (drafter, number, true));
            } else {
                promised.surprises.push(format!("submit: {} {}", submitted.status, submitted.body));
            }
        }
    }
}

/// Counts up in one row; the last number that was answered, and the last one sent.
fn count_on(address: SocketAddr, who: &Session, (mut answered, mut sent): (u64, u64)) -> (u64, u64) {
    let Some(mut wire) = Fragile::open(address) else { return (answered, sent) };
    loop {
        sent += 1;
        let department = sent.to_string();
        let values =
            [("name", "Bob"), ("department", &*department), ("email", ""), ("roles", "employee"), ("active", "true")];
        match wire.post(who, "/directory/employees/bob", &values) {
            Some(answer) if answer.status == 303 => answered = sent,
            Some(answer) => panic!("the counter: {} {}", answer.status, answer.body),
            None => return (answered, sent),
        }
    }
}

/// The next code to deploy: another heading, and one more field of requisitions.
struct Deploys {
    folder: Folder,
    number: u64,
    /// The heading in force, or those that may be.
    headings: Vec<String>,
}

impl Deploys {
    fn new() -> Self {
        Self { folder: site::shipped(), number: 0, headings: vec!["<h1>Catalog".to_owned()] }
    }

    fn start(&mut self, appliance: &Appliance) -> Program {
        self.number += 1;
        let heading = format!("<h1>Deploy {} of ", self.number);
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles/reqcat/code/templates/browse.html");
        let template = std::fs::read_to_string(shipped).unwrap().replacen("<h1>", &heading, 1);
        self.folder.write("reqcat/code/templates/browse.html", template);
        let file = "reqcat/code/documents/requisition.toml";
        let document = self.folder.read(file);
        let field = format!("\n[[fields]]\nname = \"extra_{}\"\nkind = \"text\"\nlength_max = 10\n", self.number);
        self.folder.write(file, document + &field);
        self.headings.push(heading);
        Program::start(appliance.ask("deploy").arg(self.folder.path("reqcat/code")))
    }

    /// What is in force after the restart must be the new code if its deploy was answered, else the old or the new.
    fn check(&mut self, appliance: &Appliance, answered: bool) {
        let page = appliance.visitor().page("/reqcat/").text();
        let newest = self.headings.len() - 1;
        let found = self.headings.iter().position(|heading| page.contains(heading.as_str()));
        let found = found.unwrap_or_else(|| panic!("none of {:?} in {page}", self.headings));
        assert!(found == newest || !answered, "a deploy that was answered is gone: {:?} in {page}", self.headings);
        self.headings = vec![self.headings[found].clone()];
    }
}

/// What is known of the appliance's promises, over all its lives.
struct Ledger {
    drafts: BTreeMap<String, (usize, u64, bool)>,
    /// Numbers that the agent gave, as far as they were seen with a posted requisition.
    posted: BTreeMap<String, Value>,
    counter: (u64, u64),
    /// The largest count seen after a restart.
    count_seen: u64,
}

impl Ledger {
    fn check_row(&mut self, alice: &mut Browser, path: &str) {
        let (drafter, number, submitted) = self.drafts[path];
        let answer = alice.data(path);
        assert_eq!(answer.status, 200, "{path}, {}, was answered and is gone", reason(drafter, number));
        let row = answer.json()["row"].clone();
        let expected = (json!(quantity(number)), json!(reason(drafter, number)), json!("alice"));
        assert_eq!((row["quantity"].clone(), row["reason"].clone(), row["owner"].clone()), expected, "{path}: {row}");
        if submitted {
            assert_eq!(row["state"], "submitted", "{path}: {row}");
        }
        let before = self.posted.get(path);
        assert!(before.is_none_or(|number| row["posting"] == "posted" && row["number"] == *number), "{path}: {row}");
        if row["posting"] == "posted" {
            self.posted.insert(path.to_owned(), row["number"].clone());
        }
    }

    fn check_counter(&mut self, carol: &mut Browser) {
        let row = carol.data("/directory/employees/bob").json()["row"].clone();
        let count: u64 = row["department"].as_str().unwrap().parse().unwrap_or(0);
        let (answered, sent) = self.counter;
        assert!(count >= answered.max(self.count_seen) && count <= sent, "{count}, answered {answered}, sent {sent}");
        self.count_seen = count;
        // What was not answered and is not there is sent again.
        self.counter = (count, count);
    }
}

#[test]
fn what_was_answered_survives_kills_at_any_instant() {
    let (kills, seed) = (setting("KILLS", 20), setting("KILL_SEED", 1));
    println!("KILLS={kills} KILL_SEED={seed}");
    let mut chance = Chance(seed);
    let setup = Setup::shipped();
    let socket = setup.folder.path("suppliers.sock");
    let _suppliers = Origin::unix(&socket, |_| Said::ok("taken"));
    let database = setup.folder.path("data.duckdb");
    let mut appliance = setup.set("backends.suppliers", &format!("unix:{}", socket.display())).start();
    let (mut alice, mut carol) = (appliance.user("alice"), appliance.user("carol"));
    let (drafter, counter) = (Session::of(&alice), Session::of(&carol));
    let mut next = [0; DRAFTERS];
    let mut deploys = Deploys::new();
    let mut ledger = Ledger { drafts: BTreeMap::new(), posted: BTreeMap::new(), counter: (0, 0), count_seen: 0 };
    let mut done = 0;
    while done < kills {
        let address = appliance.http;
        let deploying = done % 4 == 2;
        let mut deploy = deploying.then(|| deploys.start(&appliance));
        let lives = thread::scope(|scope| {
            let drafters: Vec<_> = next
                .iter_mut()
                .enumerate()
                .map(|(number, next)| {
                    let who = drafter.clone();
                    scope.spawn(move || draft_on(address, &who, number, next))
                })
                .collect();
            let start = ledger.counter;
            let counter = &counter;
            let counting = scope.spawn(move || count_on(address, counter, start));
            chance.wait(if deploying { 150 } else { 400 });
            appliance.program.kill();
            ledger.counter = counting.join().unwrap();
            drafters.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        done += 1;
        let deployed = deploy.as_mut().is_some_and(|deploy| deploy.status().success());
        let mut fresh = Vec::new();
        for life in lives {
            assert!(life.surprises.is_empty(), "kill {done}, seed {seed}: {:?}", life.surprises);
            fresh.extend(life.drafts.keys().cloned());
            ledger.drafts.extend(life.drafts);
        }
        if done % 5 == 0 && done < kills {
            // The start itself is killed: while it opens and folds what the last life left, or a moment later.
            appliance = appliance.killed_in_its_start(Duration::from_millis(chance.below(700)));
            done += 1;
        }
        appliance = appliance.again();
        for browser in [&mut alice, &mut carol] {
            let cookies = browser.cookies.clone();
            *browser = appliance.visitor();
            browser.cookies = cookies;
        }
        let older = ledger.drafts.len().saturating_sub(fresh.len());
        let step = (older / SAMPLE).max(1);
        fresh.extend(ledger.drafts.keys().step_by(step).take(SAMPLE).cloned().collect::<Vec<_>>());
        fresh.iter().for_each(|path| ledger.check_row(&mut alice, path));
        ledger.check_counter(&mut carol);
        if deploying {
            deploys.check(&appliance, deployed);
        }
        let books = appliance.status()["books"].clone();
        assert_eq!(books["writes"], 0, "{books}");
    }
    println!("{} drafts answered, counted to {}, {} deploys", ledger.drafts.len(), ledger.count_seen, deploys.number);
    assert!(ledger.drafts.len() >= 20 && ledger.count_seen > 0, "hardly anything was written");

    // What was submitted is done in the end, in this life or a later one, and every replica holds the same.
    eventually("the end of all agents", || {
        let waiting =
            ledger.drafts.iter().filter(|(path, (_, _, submitted))| *submitted && !ledger.posted.contains_key(*path));
        let waiting: Vec<String> = waiting.map(|(path, _)| path.clone()).collect();
        waiting.iter().for_each(|path| ledger.check_row(&mut alice, path));
        waiting.is_empty().then_some(())
    });
    appliance.settle();
    appliance.program.signal("TERM");
    assert_eq!(appliance.program.status().code(), Some(0), "{}", appliance.program.stderr());
    check_file(&database, &ledger);
}

/// What only the file tells: nothing is torn, revisions never went back, and all that was answered is there.
fn check_file(file: &Path, ledger: &Ledger) {
    let connection = ::duckdb::Connection::open(file).unwrap();
    let none = |what: &str, sql: &str| {
        let count: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0, "{what}");
    };
    none(
        "the change log has holes",
        "SELECT count(*) FROM (SELECT number - lag(number) OVER (ORDER BY number) AS step FROM change_log) WHERE step <> 1",
    );
    none(
        "revisions that went back",
        "SELECT count(*) FROM (SELECT sequence - lag(sequence) OVER (PARTITION BY table_name, key ORDER BY number) AS step \
         FROM change_log) WHERE step <> 1",
    );
    none(
        "rows that are not the last revision",
        "SELECT count(*) FROM (SELECT key, max(sequence) AS last FROM change_log WHERE table_name = 'requisition' \
         GROUP BY key) LEFT JOIN requisition ON requisition = key WHERE _sequence IS DISTINCT FROM last",
    );
    none(
        "torn rows",
        "SELECT count(*) FROM requisition WHERE quantity <> 1 + CAST(split_part(reason, '-', 2) AS BIGINT) % 97 \
         OR owner <> 'alice' OR item <> 'item-10' OR created IS NULL OR state NOT IN ('draft', 'submitted')",
    );
    none(
        "submissions without the work that was committed with them",
        "SELECT count(*) FROM requisition WHERE state = 'submitted' AND NOT EXISTS \
         (SELECT 1 FROM agent_work WHERE subject_key = requisition)",
    );
    none(
        "work without its submission",
        "SELECT count(*) FROM agent_work WHERE subject_table = 'requisition' AND NOT EXISTS \
         (SELECT 1 FROM requisition WHERE subject_key = requisition AND state = 'submitted')",
    );
    none("numbers that were given twice", "SELECT count(number) - count(DISTINCT number) FROM requisition");
    none("writes that were taken twice", "SELECT count(*) - count(DISTINCT reason) FROM requisition");
    let mut statement = connection.prepare("SELECT requisition, reason, state FROM requisition").unwrap();
    let found = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).unwrap();
    let found: BTreeMap<String, (String, String)> = found.collect::<Result<_, _>>().unwrap();
    for (path, (drafter, number, submitted)) in &ledger.drafts {
        let key = path.rsplit('/').next().unwrap();
        let (there, state) = found.get(key).unwrap_or_else(|| panic!("{key} was answered and is gone"));
        assert_eq!(*there, reason(*drafter, *number), "{key}");
        assert!(!submitted || state == "submitted", "{key}");
    }
    let count: String = connection
        .query_row("SELECT department FROM user_profile WHERE \"user\" = 'bob'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count.parse::<u64>().unwrap(), ledger.count_seen);
}

/// Opens the file once more than the operating system wants: a second appliance on the same database.
#[test]
fn a_database_that_another_appliance_holds_is_refused_with_its_number() {
    let appliance = Setup::shipped().start();
    let second = Program::start(&mut appliance.setup.command("serve")).ended();
    assert_eq!(second.code, Some(2), "{second:?}");
    let expected = format!("is in use by another process (process {}); stop that process", appliance.program.id());
    assert!(second.stderr.contains(&expected), "{second:?}");
    assert_eq!(appliance.visitor().page("/reqcat/").status, 200);
    assert_eq!(appliance.status()["database"]["state"], "up");
}

/// Reads never wait for the database: while it is held up, and while it refuses. What waits shows in `/status`.
#[test]
fn readers_do_not_wait_for_a_database_that_stands_still() {
    let setup = Setup::shipped().set("timeouts.job_ms", "400");
    let appliance = setup.start();
    let mut alice = appliance.user("alice");
    alice.draft("item-10", "1");
    let threads = DatabaseThread::of(appliance.program.id());
    let Some(held) = threads.hold() else {
        eprintln!("skipped: no strace, or it may not trace here");
        return;
    };
    let stop = Arc::new(AtomicBool::new(false));
    let reads = {
        let (stop, mut reader) = (stop.clone(), alice.another_connection());
        thread::spawn(move || {
            let mut reads = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(reader.page("/reqcat/?words=compiler").status, 200);
                reads += 1;
            }
            reads
        })
    };
    let form = [("item", "item-10"), ("quantity", "2"), ("reason", "slow")];
    let late = alice.post("/reqcat/requisitions", &form);
    assert_eq!(late.status, 504, "{}", late.text());
    assert!(late.text().contains("It is not known whether this was written"), "{}", late.text());
    eventually("a slow database", || (appliance.status()["database"]["state"] == "slow").then_some(()));
    let status = appliance.status();
    assert!(status["database"]["oldest_waiting_ns"].as_u64().unwrap() > 1_000_000_000, "{status}");
    assert_eq!(status["books"]["writes"], 0, "{status}");
    drop(held);
    eventually("a database that is up", || (appliance.status()["database"]["state"] == "up").then_some(()));
    stop.store(true, Ordering::Relaxed);
    assert!(reads.join().unwrap() > 0);
    eventually("the next draft", || {
        let next = alice.post("/reqcat/requisitions", &form);
        (next.status == 303).then_some(())
    });
    // The late one was begun before its time was over, so it came to its end; it is not there twice.
    let rows = alice.data("/reqcat/requisitions").json()["total"].clone();
    assert!(rows == json!(2) || rows == json!(3), "{rows}");
}

/// An answer hangs on `fsync`: where it fails, nobody is told that something is written.
#[test]
fn no_answer_says_written_before_fsync_has_said_so() {
    let appliance = Setup::shipped().start();
    let mut alice = appliance.user("alice");
    let before = alice.draft("item-10", "1");
    let threads = DatabaseThread::of(appliance.program.id());
    let Some(failing) = threads.fail_fsync() else {
        eprintln!("skipped: no strace, or it may not trace here");
        return;
    };
    let form = [("item", "item-10"), ("quantity", "2"), ("reason", "fsync")];
    for _ in 0..3 {
        let refused = alice.post("/reqcat/requisitions", &form);
        assert!([503, 504].contains(&refused.status), "{} {}", refused.status, refused.text());
        assert_eq!(alice.page("/reqcat/").status, 200);
    }
    let status = appliance.status();
    assert_eq!(status["database"]["state"], "down", "{status}");
    assert_eq!(status["books"]["writes"], 0, "{status}");
    drop(failing);
    // Without a restart of the process: the file is opened again.
    let after = eventually("the next draft", || {
        let next = alice.post("/reqcat/requisitions", &form);
        (next.status == 303).then(|| next.location().to_owned())
    });
    assert_eq!(appliance.status()["database"]["state"], "up");
    let appliance = appliance.kill_and_restart();
    let cookies = alice.cookies.clone();
    alice = appliance.visitor();
    alice.cookies = cookies;
    for path in [before, after] {
        assert_eq!(alice.data(&path).status, 200, "{path}");
    }
}

/// The appliance's database thread, as strace reaches it.
struct DatabaseThread {
    process: u32,
    thread: String,
}

impl DatabaseThread {
    fn of(process: u32) -> Self {
        let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let thread = tasks.map(|task| task.unwrap().file_name().into_string().unwrap()).find(|thread| {
            let name = std::fs::read_to_string(format!("/proc/{process}/task/{thread}/comm"));
            name.is_ok_and(|name| name.trim() == "database")
        });
        Self { process, thread: thread.expect("a thread called database") }
    }

    /// Makes each `fsync` take three seconds.
    fn hold(&self) -> Option<Program> {
        self.inject("fsync:delay_enter=3000000")
    }

    /// Makes each `fsync` fail.
    fn fail_fsync(&self) -> Option<Program> {
        self.inject("fsync:error=EIO")
    }

    /// `None` where strace is absent or may not trace.
    fn inject(&self, what: &str) -> Option<Program> {
        let mut strace = std::process::Command::new("strace");
        strace.args(["-q", "-e", "trace=fsync", "-e", &format!("inject={what}"), "-p", &self.thread]);
        strace.stdin(std::process::Stdio::null());
        strace.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut running = Program::try_start(&mut strace)?;
        let status = format!("/proc/{}/task/{}/status", self.process, self.thread);
        eventually("strace at the database thread, or its end", || {
            if !running.is_running() {
                return Some(false);
            }
            let traced = std::fs::read_to_string(&status).unwrap();
            traced.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")).then_some(true)
        })
        .then_some(running)
    }
}
