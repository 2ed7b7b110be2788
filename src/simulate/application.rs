//! The application that the simulated cluster runs, once for each code version, and the users that it knows.
//!
//! Every code version says its number in everything that it does: in the rows that it writes, in the locations that it
//! answers with, and on the page `/gate`, which its role table opens to the users of even or of odd versions. A request
//! that saw two versions, or code under the role table of another one, shows it.

use std::sync::{Arc, OnceLock};

use crate::database::contract::ABSENT;
use crate::tables::code::{CodeSource, CodeVersion, USER_PROFILE};
use crate::tables::{Record, ServerId, Stamp, Update, Value, VersionVector};

/// Its name and mount point.
pub const NAME: &str = "sim";
/// The statements of the site.
pub const STATEMENTS: &str = "proxy /sim/* cluster sim\n";
/// The table that browsers write.
pub const NOTE: &str = "note";
/// The table whose rows an agent posts.
pub const ORDERS: &str = "orders";
/// Code versions that a seed can reach.
pub const VERSIONS_MAX: u64 = 60;

/// Roles that everybody keeps, and the one that is given and taken.
const STAFF: &str = "staff";
const KEEPER: &str = "keeper";
/// The user who gives and takes it.
pub const CHIEF: &str = "chief";

const AUTHORITY: &str = r#"
[[allow]]
role = "staff"
code = "views/note"
verbs = ["read"]
[[allow]]
role = "staff"
code = "views/shown"
verbs = ["read"]
[[allow]]
role = "staff"
code = "actions/put-*"
verbs = ["run"]
[[allow]]
role = "staff"
code = "actions/remove"
verbs = ["run"]
[[allow]]
role = "staff"
code = "actions/order"
verbs = ["run"]
[[allow]]
role = "keeper"
code = "actions/guarded"
verbs = ["run"]
[[allow]]
role = "keeper"
code = "views/guarded"
verbs = ["read"]
[[allow]]
role = "chief"
code = "actions/grant"
verbs = ["run"]
[[allow]]
role = "@PARITY@"
code = "views/gate"
verbs = ["read"]
"#;

const NOTE_DOCUMENT: &str = r#"
key = "note"
[[fields]]
name = "text"
kind = "text"
[[fields]]
name = "code"
kind = "integer"
[[fields]]
name = "count"
kind = "integer"
"#;

const ORDERS_DOCUMENT: &str = r#"
key = "order"
[[fields]]
name = "item"
kind = "text"
[[fields]]
name = "number"
kind = "text"
[[fields]]
name = "posting"
kind = "text"
"#;

const PUT: &str = r#"
path = "/@WORD@/{note}"
kind = "write"
table = "note"
key = "{note}"
creates = true
acknowledge = "@LEVEL@"
location = "@SHOWN@/{key}?v=@VERSION@"
status = @STATUS@
[[fields]]
name = "text"
kind = "text"
required = true
[set]
text = "input.text"
code = "@VERSION@"
count = "row.count + 1 if row else 1"
"#;

const REMOVE: &str = r#"
path = "/remove/{note}"
kind = "delete"
table = "note"
key = "{note}"
location = "/notes/{key}?v=@VERSION@"
"#;

const ORDER: &str = r#"
path = "/orders/{order}"
kind = "write"
table = "orders"
key = "{order}"
creates = true
when = "row is none"
otherwise = "There is one."
agent = "post"
location = "/notes/{key}?v=@VERSION@"
[[fields]]
name = "text"
kind = "text"
required = true
[set]
item = "input.text"
"#;

const GRANT: &str = r#"
path = "/grant/{user}"
kind = "write"
table = "user_profile"
key = "{user}"
location = "/notes/{key}?v=@VERSION@"
[[fields]]
name = "text"
kind = "text"
required = true
[set]
roles = "input.text"
"#;

const AGENT: &str = r#"
kind = "post"
table = "orders"
backend = "suppliers"
path = "/orders"
attempts = 4
backoff_ms = 20
number_field = "number"
number_prefix = "N-"
outcome_field = "posting"
fields = ["item"]
"#;

fn texts(version: u64) -> Vec<(String, String)> {
    let put = |word: &str, level: &str| {
        let (shown, status) = if word == "shown" { ("/shown", "202") } else { ("/notes", "303") };
        let text = PUT.replace("@WORD@", word).replace("@LEVEL@", level);
        text.replace("@SHOWN@", shown).replace("@STATUS@", status)
    };
    let row =
        |path: &str| format!("path = \"{path}/{{note}}\"\nkind = \"row\"\ntable = \"note\"\nkey = \"{{note}}\"\n");
    let parity = if version.is_multiple_of(2) { "even" } else { "odd" };
    let files = [
        ("application.toml", "name = \"sim\"\ntitle = \"Simulated\"\nsign_in = \"/sim/gate\"\n".to_owned()),
        ("authority.toml", AUTHORITY.replace("@PARITY@", parity)),
        ("documents/note.toml", NOTE_DOCUMENT.to_owned()),
        ("documents/orders.toml", ORDERS_DOCUMENT.to_owned()),
        ("views/note.toml", row("/notes")),
        ("views/guarded.toml", row("/kept")),
        ("views/shown.toml", format!("{}template = \"shown.html\"\n", row("/shown"))),
        ("templates/shown.html", "shown by version @VERSION@: {{ row.code }} {{ row.text }}.".to_owned()),
        ("views/gate.toml", "path = \"/gate\"\nkind = \"page\"\ntemplate = \"gate.html\"\n".to_owned()),
        ("templates/gate.html", "gate of version @VERSION@.".to_owned()),
        ("actions/put-durable.toml", put("durable", "durable")),
        ("actions/put-all.toml", put("all", "all")),
        ("actions/put-local.toml", put("local", "local")),
        ("actions/put-shown.toml", put("shown", "durable")),
        ("actions/guarded.toml", put("guarded", "durable")),
        ("actions/remove.toml", REMOVE.to_owned()),
        ("actions/order.toml", ORDER.to_owned()),
        ("actions/grant.toml", GRANT.to_owned()),
        ("agents/post.toml", AGENT.to_owned()),
    ];
    let number = version.to_string();
    files.into_iter().map(|(path, text)| (path.to_owned(), text.replace("@VERSION@", &number))).collect()
}

/// A code version and the texts that a deploy of it sends. They are compiled once for all seeds.
pub fn version(number: u64) -> (Arc<CodeVersion>, Vec<(String, String)>) {
    static VERSIONS: [OnceLock<Arc<CodeVersion>>; 64] = [const { OnceLock::new() }; 64];
    let texts = texts(number);
    let place = usize::try_from(number).unwrap_or(usize::MAX);
    let compile = || {
        let sources: Vec<CodeSource> = texts
            .iter()
            .map(|(path, text)| CodeSource {
                application: NAME.into(),
                path: path.as_str().into(),
                text: text.as_str().into(),
            })
            .collect();
        Arc::new(CodeVersion::from_sources(&sources, number).unwrap_or_else(|faults| {
            let text: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
            panic!("the simulated application does not compile:\n{text}")
        }))
    };
    let code = VERSIONS[place].get_or_init(compile);
    (Arc::clone(code), texts)
}

/// The users of so many browsers, as the database has them at the start.
pub fn users(browsers: usize, application_server: ServerId) -> Vec<Update> {
    let mut users: Vec<(String, String)> = (0..browsers).map(|number| (user(number), roles(number, false))).collect();
    users.push((CHIEF.to_owned(), CHIEF.to_owned()));
    let row = |(user, roles): (String, String)| Update {
        table: USER_PROFILE,
        key: user.as_str().into(),
        stamp: Stamp { sequence: 1, time: 1, server: application_server },
        versions: VersionVector::default().edited_by(application_server, 1),
        base: ABSENT,
        record: Some(Record(Box::new([
            Value::text(&user),
            Value::Null,
            Value::Null,
            Value::text(&roles),
            Value::Boolean(true),
            Value::Null,
        ]))),
    };
    users.into_iter().map(row).collect()
}

/// The user of a browser. Those with an even number may pass the gates of even versions.
pub fn user(browser: usize) -> String {
    format!("user-{browser}")
}

/// The roles of a browser's user, with the one that is given and taken, or without it.
pub fn roles(browser: usize, keeper: bool) -> String {
    let parity = if browser.is_multiple_of(2) { "even" } else { "odd" };
    let kept = if keeper { KEEPER } else { "" };
    format!("{STAFF} {parity} {kept}").trim_end().to_owned()
}
