//! A small application, a replica that runs it, and a database that answers its commits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::authority::session::Identity;
use crate::authority::session::SessionKey;
use crate::database::contract::{ABSENT, CommitMode, Outcome};
use crate::http1::Method;
use crate::replica::job::{Accept, Job};
use crate::replica::server::{Now, Output, ReplicaServer, Settings};
use crate::replication::{self, Replicator};
use crate::tables::code::{CodeSource, CodeVersion, USER_PROFILE};
use crate::tables::record::Value;
use crate::tables::{DataTables, Record, Stamp, TableId, Update};

/// Unix milliseconds of the tests.
pub const UNIX_MS: u64 = 1_795_440_180_000;
pub const DECOY: &str = "decoy";

/// Files of the application `shop`.
pub const SHOP: &[(&str, &str)] = &[
    ("application.toml", "name = \"shop\"\ntitle = \"The <Shop>\"\nsign_in = \"/shop/sign-in\"\n"),
    (
        "authority.toml",
        r#"
[[allow]]
role = "anonymous"
code = "views/item*"
verbs = ["read"]
[[allow]]
role = "anonymous"
code = "forms/sign-in"
verbs = ["open"]
[[allow]]
role = "anonymous"
code = "actions/sign-in"
verbs = ["run"]
[[allow]]
role = "member"
code = "actions/sign-out"
verbs = ["run"]
[[allow]]
role = "member"
code = "views/mine"
verbs = ["read"]
[[allow]]
role = "employee"
code = "*"
verbs = ["read", "open"]
[[allow]]
role = "employee"
code = "actions/order-*"
verbs = ["run"]
[[allow]]
role = "approver"
code = "actions/approve"
verbs = ["run"]
[[allow]]
role = "clerk"
code = "actions/item-*"
verbs = ["run"]
"#,
    ),
    (
        "documents/item.toml",
        r#"
key = "item"
[[fields]]
name = "name"
kind = "text"
required = true
length_max = 40
words = true
[[fields]]
name = "section"
kind = "text"
index = true
[[fields]]
name = "price"
kind = "money"
"#,
    ),
    (
        "documents/orders.toml",
        r#"
key = "order"
[[fields]]
name = "owner"
kind = "text"
required = true
index = true
[[fields]]
name = "item"
kind = "text"
required = true
[[fields]]
name = "quantity"
kind = "integer"
[[fields]]
name = "total"
kind = "money"
[[fields]]
name = "state"
kind = "text"
index = true
[[fields]]
name = "note"
kind = "text"
length_max = 10
"#,
    ),
    (
        "views/items.toml",
        r#"
path = "/items"
kind = "list"
table = "item"
template = "items.html"
title = "Items"
filter = [{ field = "section", parameter = "section" }]
search = "words"
page_size = 2
facets = ["section"]
"#,
    ),
    (
        "views/item.toml",
        r#"
path = "/items/{item}"
kind = "row"
table = "item"
key = "{item}"
template = "item.html"
title = "Item"
"#,
    ),
    (
        "views/order.toml",
        r#"
path = "/orders/{order}"
kind = "row"
table = "orders"
key = "{order}"
where = "row.owner == user.name or 'approver' in user.roles"
template = "order.html"
title = "Order"
refresh_s = 2
related = [
  { name = "work", table = "agent_work", field = "subject_key", value = "{order}" },
  { name = "what", table = "item", field = "item", value = "{item}" },
]
"#,
    ),
    (
        "views/mine.toml",
        r#"
path = "/mine"
kind = "list"
table = "orders"
filter = [{ field = "owner", value = "{user.name}" }]
where = "row.state != 'hidden'"
order = "-key"
"#,
    ),
    ("views/item-help.toml", "path = \"/help\"\nkind = \"page\"\ntemplate = \"help.html\"\ntitle = \"Help\"\n"),
    ("views/item-endless.toml", "path = \"/endless\"\nkind = \"page\"\ntemplate = \"endless.html\"\n"),
    (
        "forms/sign-in.toml",
        "path = \"/sign-in\"\ntemplate = \"form.html\"\naction = \"sign-in\"\ntitle = \"Sign in\"\n",
    ),
    (
        "forms/order.toml",
        "path = \"/items/{item}/order\"\ntemplate = \"form.html\"\naction = \"order-new\"\ntable = \"item\"\nkey = \"{item}\"\n",
    ),
    ("actions/sign-in.toml", "path = \"/sign-in\"\nkind = \"sign-in\"\nform = \"sign-in\"\nlocation = \"/items\"\n"),
    ("actions/sign-out.toml", "path = \"/sign-out\"\nkind = \"sign-out\"\nlocation = \"/items\"\n"),
    (
        "actions/order-new.toml",
        r#"
path = "/orders"
kind = "write"
table = "orders"
new = "O"
form = "order"
location = "/orders/{key}"
references = [{ field = "item", table = "item" }]
[[fields]]
name = "item"
kind = "text"
required = true
[[fields]]
name = "quantity"
kind = "integer"
required = true
min = 1
max = 9
[[fields]]
name = "note"
kind = "text"
[set]
owner = "user.name"
item = "input.item"
quantity = "input.quantity"
total = "input.quantity * reference.item.price"
state = "'draft'"
note = "input.note"
"#,
    ),
    (
        "actions/order-submit.toml",
        r#"
path = "/orders/{order}/submit"
kind = "write"
table = "orders"
key = "{order}"
when = "row.state == 'draft' and row.owner == user.name"
otherwise = "Only your own drafts can be submitted."
agent = "post"
status = 202
location = "/orders/{order}"
set = { state = "'submitted'" }
"#,
    ),
    (
        "actions/order-delete.toml",
        r#"
path = "/orders/{order}/delete"
kind = "delete"
table = "orders"
key = "{order}"
when = "row.owner == user.name"
location = "/mine"
"#,
    ),
    (
        "actions/approve.toml",
        r#"
path = "/orders/{order}/approve"
kind = "write"
table = "orders"
key = "{order}"
location = "/orders/{order}"
set = { state = "'approved'" }
"#,
    ),
    (
        "actions/item-local.toml",
        r#"
path = "/items/{item}/local"
kind = "write"
table = "item"
key = "{item}"
acknowledge = "local"
location = "/items/{item}"
set = { price = "input.price" }
[[fields]]
name = "price"
kind = "money"
required = true
"#,
    ),
    (
        "actions/item-all.toml",
        r#"
path = "/items/{item}/all"
kind = "write"
table = "item"
key = "{item}"
creates = true
acknowledge = "all"
location = "/items/{item}"
set = { name = "input.name" }
[[fields]]
name = "name"
kind = "text"
"#,
    ),
    (
        "agents/post.toml",
        "kind = \"post\"\ntable = \"orders\"\nbackend = \"suppliers\"\npath = \"/orders\"\nfields = [\"item\", \"quantity\"]\n",
    ),
    ("templates/base.html", "<title>{{ title }} - {{ application.title }}</title>{% block body %}{% endblock %}"),
    (
        "templates/items.html",
        "{% extends \"base.html\" %}{% block body %}{% for row in rows %}[{{ row.item }} {{ row.name }} {{ row.price|money }}]{% endfor %}\
         {{ page.number }}/{{ page.pages }} of {{ page.total }}{% for each in facets.section %}({{ each.value }} {{ each.count }}){% endfor %}{% endblock %}",
    ),
    (
        "templates/item.html",
        "{% extends \"base.html\" %}{% block body %}{{ row.name }} {{ row.price|money }} {{ user.full_name }}{% endblock %}",
    ),
    (
        "templates/order.html",
        "order {{ row.order }} {{ row.state }} refresh {{ refresh_s }} {% for each in work %}<{{ each.state }}>{% endfor %}{% for each in what %}{{ each.name }}{% endfor %}",
    ),
    (
        "templates/form.html",
        "<form action=\"{{ action }}\">{{ csrf }} {% for name in values %}{{ name }}={{ values[name] }};{% endfor %}\
         {% for name in errors %}!{{ name }}: {{ errors[name] }}{% endfor %}{{ message }} next={{ next }}</form>",
    ),
    ("templates/help.html", "help for {{ user.name|default('a visitor', true) }} at {{ mount }}{{ path }}"),
    ("templates/endless.html", "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"),
    ("templates/error.html", "error {{ status }} {{ error }}"),
];

pub fn sources(application: &str, files: &[(&str, &str)]) -> Vec<CodeSource> {
    let source = |(path, text): &(&str, &str)| CodeSource {
        application: application.into(),
        path: (*path).into(),
        text: (*text).into(),
    };
    files.iter().map(source).collect()
}

pub fn shop() -> Arc<CodeVersion> {
    let code = CodeVersion::from_sources(&sources("shop", SHOP), 1);
    Arc::new(
        code.unwrap_or_else(|faults| panic!("{}", faults.iter().map(|fault| format!("{fault}\n")).collect::<String>())),
    )
}

pub fn session_key() -> SessionKey {
    SessionKey::new([7; 32])
}

/// The identity that a front makes of a cookie.
pub fn identity(user: &str, session: u128) -> Identity {
    let cookie = session_key().sign(session, user, UNIX_MS + 3_600_000);
    session_key().verify(&cookie, UNIX_MS).expect("our own cookie")
}

/// One replica and a database.
pub struct Rig {
    pub replica: ReplicaServer,
    pub now: Now,
    /// What the database has.
    pub stored: BTreeMap<(TableId, Box<str>), Update>,
    /// Outputs that [`Rig::settle`] does not handle itself.
    pub finished: VecDeque<Box<Job>>,
    pub commits: VecDeque<(u64, Vec<Update>, CommitMode)>,
    pub passwords: VecDeque<(u64, Box<str>, Box<str>)>,
    pub agents: Vec<crate::replica::handlers::AgentRun>,
    pub faults: Vec<String>,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(shop(), Settings { decoy_hash: DECOY.into(), ..Settings::default() }, 1)
    }

    pub fn with(code: Arc<CodeVersion>, settings: Settings, replicas: u8) -> Self {
        let replicator = Replicator::new(replication::Settings {
            me: 0,
            replicas,
            sweep_interval_ns: 1_000_000_000_000,
            retry_ns: 1_000_000_000,
            log_updates_max: 1024,
        });
        let tables = DataTables::new(code.shapes.clone());
        let now = Now { monotonic_ns: 1_000, unix_ms: UNIX_MS };
        let mut rig = Self {
            replica: ReplicaServer::new(0, code.clone(), tables, replicator, settings),
            now,
            stored: BTreeMap::new(),
            finished: VecDeque::new(),
            commits: VecDeque::new(),
            passwords: VecDeque::new(),
            agents: Vec::new(),
            faults: Vec::new(),
        };
        let text = Value::text;
        let mut rows = Vec::new();
        for (user, roles, active) in [
            ("ann", "employee", true),
            ("bob", "employee approver", true),
            ("cat", "clerk", true),
            ("dan", "", true),
            ("eve", "employee approver clerk", false),
        ] {
            let name = format!("{} <{user}>", user.to_uppercase());
            let hash = format!("hash of {user}");
            let values = [text(&name), Value::Null, Value::Null, text(roles), Value::Boolean(active), text(&hash)];
            rows.push((USER_PROFILE, user, values.to_vec()));
        }
        let item = code.shapes.id("item").expect("table");
        for (key, name, section, price) in [
            ("a&b", "Apple & <pear>", "fruit", 250),
            ("bolt", "Bolt small", "metal", 5),
            ("nut", "Nut small", "metal", 7),
        ] {
            rows.push((item, key, vec![text(name), text(section), Value::Integer(price)]));
        }
        // Rows come from the application server, as if loaded from the database.
        let mut updates = Vec::new();
        for (table, key, values) in rows {
            let stamp = Stamp { sequence: 1, time: 1, server: replicas };
            let update = Update {
                table,
                key: key.into(),
                stamp,
                versions: crate::tables::VersionVector::default().edited_by(replicas, 1),
                base: ABSENT,
                record: Some(Record(values.into())),
            };
            rig.stored.insert((table, key.into()), update.clone());
            updates.push(update);
        }
        let batch = Arc::new(crate::tables::Batch { origin: replicas, first: 1, updates });
        rig.replica.receive_published(batch, crate::replication::Unapplied::default());
        rig.replica.tick(Now::default());
        rig
    }

    pub fn job(method: Method, target: &str, accept: Accept, identity: &Identity) -> Box<Job> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Box::new(Job {
            application: "shop".into(),
            method,
            path: path.into(),
            query: query.into(),
            mount: "/shop".into(),
            accept,
            identity: identity.clone(),
            ..Job::default()
        })
    }

    pub fn post(target: &str, identity: &Identity, fields: &str) -> Box<Job> {
        let mut job = Self::job(Method::Post, target, Accept::Html, identity);
        job.content_type = "application/x-www-form-urlencoded".into();
        job.body = format!("csrf={}&{fields}", identity.csrf).into_bytes();
        job
    }

    pub fn start(&mut self, job: Box<Job>) {
        self.replica.execute(job, self.now);
        self.collect();
    }

    /// Takes the replica's outputs.
    pub fn collect(&mut self) {
        while let Some(output) = self.replica.output() {
            match output {
                Output::Finished(job) => self.finished.push_back(job),
                Output::Commit { token, updates, mode, .. } => self.commits.push_back((token, updates, mode)),
                Output::VerifyPassword { token, hash, password, .. } => {
                    self.passwords.push_back((token, hash, password))
                }
                Output::RunAgent(run) => self.agents.push(run),
                Output::Fault { message, error } => self.faults.push(format!("{message}: {error}")),
            }
        }
    }

    /// The database does the next commit, by its rules.
    pub fn commit_next(&mut self) -> bool {
        let Some((token, updates, mode)) = self.commits.pop_front() else { return false };
        let stamp_of =
            |update: &Update| self.stored.get(&(update.table, update.key.clone())).map_or(ABSENT, |row| row.stamp);
        let refused = updates.iter().any(|update| mode == CommitMode::Arbitrated && stamp_of(update) != update.base);
        let outcome = if refused {
            let current = updates.iter().filter(|update| stamp_of(update) != update.base);
            Outcome::Conflict {
                current: current
                    .filter_map(|update| self.stored.get(&(update.table, update.key.clone())).cloned())
                    .collect(),
            }
        } else {
            for update in updates {
                if stamp_of_map(&self.stored, &update) < update.stamp {
                    self.stored.insert((update.table, update.key.clone()), update);
                }
            }
            Outcome::Committed { updates: Vec::new() }
        };
        self.replica.committed(token, outcome, self.now);
        self.collect();
        true
    }

    /// Runs everything to its end: commits, password checks (`password` is right for its user's hash), ticks.
    pub fn settle(&mut self) {
        loop {
            self.replica.tick(self.now);
            self.collect();
            if let Some((token, hash, password)) = self.passwords.pop_front() {
                let right = *hash != *DECOY && *password == *"password";
                self.replica.password_verified(token, right, self.now);
                self.collect();
            } else if !self.commit_next() {
                break;
            }
        }
    }

    /// Executes a job to its end.
    pub fn run(&mut self, job: Box<Job>) -> Box<Job> {
        self.start(job);
        self.settle();
        self.finished.pop_front().expect("the job came back")
    }

    pub fn get(&mut self, target: &str, identity: &Identity) -> Box<Job> {
        self.run(Self::job(Method::Get, target, Accept::Html, identity))
    }

    pub fn get_json(&mut self, target: &str, identity: &Identity) -> serde_json::Value {
        let job = self.run(Self::job(Method::Get, target, Accept::Json, identity));
        assert_eq!(job.response.content_type, "application/json");
        serde_json::from_slice(&job.response.body).expect("JSON")
    }

    /// Makes an order of Ann and gives its key.
    pub fn order(&mut self) -> String {
        let job = self.run(Self::post("/orders", &identity("ann", 1), "item=bolt&quantity=3"));
        job.response.location.strip_prefix("/shop/orders/").expect("its page").to_owned()
    }
}

fn stamp_of_map(stored: &BTreeMap<(TableId, Box<str>), Update>, update: &Update) -> Stamp {
    stored.get(&(update.table, update.key.clone())).map_or(ABSENT, |row| row.stamp)
}

pub fn body(job: &Job) -> &str {
    std::str::from_utf8(&job.response.body).expect("UTF-8")
}
