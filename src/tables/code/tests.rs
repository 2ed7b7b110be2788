//! Whole code versions: every mistake is named with its place, and deploys keep the data tables.

use std::fmt::Write as _;

use super::{AGENT_WORK, CodeKind, CodeSource, CodeVersion, SESSION_ENDED, USER_PROFILE, system_shapes};
use crate::tables::TableId;

/// A small application without mistakes; each test replaces one file.
const FILES: &[(&str, &str)] = &[
    ("application.toml", "name = \"shop\"\ntitle = \"Shop\"\nsign_in = \"/shop/sign-in\"\n"),
    ("authority.toml", "[[allow]]\nrole = \"member\"\ncode = \"views/*\"\nverbs = [\"read\"]\n"),
    (
        "documents/item.toml",
        "key = \"item\"\nfields = [\n  { name = \"name\", kind = \"text\", required = true },\n  { name = \"section\", kind = \"text\", index = true },\n  { name = \"price\", kind = \"money\" },\n]\n",
    ),
    (
        "views/item.toml",
        "path = \"/items/{item}\"\nkind = \"row\"\ntable = \"item\"\nkey = \"{item}\"\ntemplate = \"item.html\"\n",
    ),
    (
        "forms/edit.toml",
        "path = \"/items/{item}/edit\"\ntemplate = \"edit.html\"\naction = \"edit\"\ntable = \"item\"\nkey = \"{item}\"\n",
    ),
    (
        "actions/edit.toml",
        "path = \"/items/{item}\"\nkind = \"write\"\ntable = \"item\"\nkey = \"{item}\"\nlocation = \"/items/{item}\"\nform = \"edit\"\nfields = [{ name = \"name\", kind = \"text\", required = true }]\n\n[set]\nname = \"input.name\"\n",
    ),
    (
        "agents/load.toml",
        "kind = \"import\"\ntable = \"item\"\nformat = \"rfc822\"\nmap = [{ from = \"Package\", to = \"item\" }, { from = \"Name\", to = \"name\" }]\n",
    ),
    ("templates/item.html", "{% extends \"base.html\" %}\n{{ row.price|money }}\n"),
    ("templates/edit.html", "{{ csrf }}"),
    ("templates/base.html", "{% block body %}{% endblock %}"),
];

fn sources(files: &[(&str, &str)]) -> Vec<CodeSource> {
    let source = |(path, text): &(&str, &str)| CodeSource {
        application: "shop".into(),
        path: (*path).into(),
        text: (*text).into(),
    };
    files.iter().map(source).collect()
}

/// The application with some files replaced or added; an empty text removes the file.
fn with(changes: &[(&str, &str)]) -> Vec<CodeSource> {
    let mut files: Vec<(&str, &str)> = FILES.to_vec();
    for (path, text) in changes {
        files.retain(|(known, _)| known != path);
        if !text.is_empty() {
            files.push((path, text));
        }
    }
    sources(&files)
}

fn faults(changes: &[(&str, &str)]) -> String {
    match CodeVersion::from_sources(&with(changes), 1) {
        Ok(_) => String::new(),
        Err(faults) => faults.iter().fold(String::new(), |mut text, fault| {
            writeln!(text, "{fault}").expect("writing to a string");
            text
        }),
    }
}

#[test]
fn a_right_application_loads() {
    let code = CodeVersion::from_sources(&with(&[]), 7).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert_eq!((code.version, code.applications.len()), (7, 1));
    let shapes = system_shapes();
    assert_eq!(shapes.id("user_profile"), Some(USER_PROFILE));
    assert_eq!(shapes.id("session_ended"), Some(SESSION_ENDED));
    assert_eq!(shapes.id("agent_work"), Some(AGENT_WORK));
    assert_eq!(shapes.get(USER_PROFILE).field("password_hash"), Some(super::user_profile::PASSWORD_HASH));
    assert_eq!(shapes.get(USER_PROFILE).field("active"), Some(super::user_profile::ACTIVE));
    assert_eq!(shapes.get(AGENT_WORK).field("result"), Some(super::agent_work::RESULT));
    assert_eq!(shapes.get(SESSION_ENDED).field("expires"), Some(super::session_ended::EXPIRES));
    assert_eq!(code.shapes.id("item"), Some(TableId(3)));
    let shop = code.application("shop").expect("application");
    let tables: Vec<(&str, CodeKind)> = shop.code_tables.iter().map(|table| (&*table.name, table.kind)).collect();
    let expected = [
        ("actions/edit", CodeKind::Action),
        ("agents/load", CodeKind::Agent),
        ("application", CodeKind::Application),
        ("authority", CodeKind::Authority),
        ("documents/item", CodeKind::Document),
        ("forms/edit", CodeKind::Form),
        ("templates/base.html", CodeKind::Template),
        ("templates/edit.html", CodeKind::Template),
        ("templates/item.html", CodeKind::Template),
        ("views/item", CodeKind::View),
    ];
    assert_eq!(tables, expected);
}

#[test]
fn digests_follow_the_text() {
    let first = CodeVersion::from_sources(&with(&[]), 1).expect("code");
    let mut shuffled = with(&[]);
    shuffled.reverse();
    let same = CodeVersion::from_sources(&shuffled, 2).expect("code");
    assert_eq!((first.digest, &first.sources), (same.digest, &same.sources));
    let changed = CodeVersion::from_sources(&with(&[("templates/edit.html", "{{ csrf }}.")]), 1).expect("code");
    assert_ne!(first.digest, changed.digest);
    let differing = |left: &CodeVersion, right: &CodeVersion| -> Vec<String> {
        let pairs = left.applications[0].code_tables.iter().zip(&right.applications[0].code_tables);
        pairs.filter(|(left, right)| left.digest != right.digest).map(|(left, _)| left.name.to_string()).collect()
    };
    assert_eq!(differing(&first, &changed), ["templates/edit.html"]);
}

/// Each wrong file with its full message.
#[test]
fn every_mistake_names_its_place_and_cure() {
    let document = "key = \"item\"\nfields = [\n";
    let view = "path = \"/list\"\nkind = \"list\"\ntable = \"item\"\n";
    let action = "path = \"/x\"\nkind = \"write\"\ntable = \"item\"\nkey = \"{user.name}\"\nlocation = \"/items/x\"\n";
    let cases: Vec<(&str, String)> = vec![
        ("application.toml", String::new()),
        ("application.toml", "name = \"shop\"\ntitel = \"Shop\"\nsign_in = \"/s\"\n".into()),
        ("application.toml", "name = \"store\"\ntitle = \"Shop\"\nsign_in = \"sign-in\"\n".into()),
        ("authority.toml", String::new()),
        ("authority.toml", "[[allow]]\nrole = \"member\"\ncode = \"views/itme\"\nverbs = [\"read\"]\n".into()),
        ("authority.toml", "[[allow]]\nrole = \"a b\"\ncode = \"views/*\"\nverbs = [\"read\"]\n".into()),
        ("authority.toml", "[[allow]]\nrole = \"member\"\ncode = \"views/*\"\nverbs = [\"open\", \"reed\"]\n".into()),
        ("authority.toml", "[[allow]]\nrole = \"member\"\ncode = \"views/*\"\nverbs = [\"open\"]\n".into()),
        ("documents/item.toml", "key = \"item\"\nfields = [{ name = \"name\", kind = \"txt\" }]\n".into()),
        ("documents/item.toml", format!("{document}{{ name = \"name\", kind = \"text\" }},\n{{ name = \"name\", kind = \"money\", words = true, length_max = 0 }}]\n")),
        ("documents/conflict.toml", "key = \"Key\"\n".into()),
        ("views/list.toml", format!("{view}filter = [{{ field = \"price\", parameter = \"page\" }}]\nsearch = \"words\"\norder = \"name\"\npage_size = 501\nfacets = [\"sektion\"]\n")),
        ("views/list.toml", format!("{view}template = \"items.html\"\nkey = \"{{item}}\"\nwhere = \"row.nmae == 'x' or yours\"\n")),
        ("views/list.toml", "path = \"/items/{other}\"\nkind = \"page\"\ntemplate = \"edit.html\"\n".into()),
        ("views/list.toml", "path = \"list/\"\nkind = \"page\"\n".into()),
        ("views/list.toml", "path = \"/list\"\nkind = \"lst\"\n".into()),
        ("views/list.toml", "path = \"/list\"\nkind = \"list\"\ntable = \"itm\"\n".into()),
        ("views/list.toml", format!("{view}where = \"\"\"\nrow.name ==\n  ==\"\"\"\n")),
        ("views/list.toml", format!("{view}where = \"row.name|uper == 'X'\"\n")),
        ("views/list.toml", format!("{view}[[related]]\nname = \"rows\"\ntable = \"item\"\nfield = \"name\"\nvalue = \"{{thing}}\"\n")),
        ("forms/edit.toml", "path = \"/edit\"\ntemplate = \"edti.html\"\naction = \"edit\"\ntable = \"item\"\n".into()),
        ("forms/edit.toml", "path = \"/edit\"\ntemplate = \"edit.html\"\naction = \"edit\"\n".into()),
        ("actions/more.toml", format!("{action}new = \"M\"\n")),
        ("actions/more.toml", "path = \"/x\"\nkind = \"write\"\ntable = \"item\"\nnew = \"M\"\nstatus = 200\nlocation = \"//x\"\nagent = \"lod\"\n".into()),
        ("actions/more.toml", format!("{action}[set]\nname = \"input.nmae + reference.item.price\"\nprize = \"1\"\n")),
        ("actions/more.toml", "path = \"/items/{id}\"\nkind = \"sign-out\"\nform = \"edit\"\n".into()),
        ("actions/more.toml", "path = \"/items/{id}\"\nkind = \"sign-out\"\n".into()),
        ("actions/more.toml", format!("{action}acknowledge = \"most\"\n")),
        ("actions/more.toml", format!("{action}agent = \"load\"\nacknowledge = \"local\"\nform = \"edit\"\n")),
        ("actions/more.toml", format!("{action}chosen = \"versoin\"\nwhen = \"chosen.nmae\"\n[[fields]]\nname = \"version\"\nkind = \"text\"\n")),
        ("actions/more.toml", format!("{action}when = \"chosen.name\"\n[[also]]\ntable = \"itm\"\nkey = \"a\"\n[[also]]\ntable = \"item\"\nnew = \"M\"\ndelete = true\n[[also]]\ntable = \"item\"\nkey = \"{{thing}}\"\nset = {{ price = \"x\" }}\n[[also]]\ntable = \"item\"\nset = {{ name = \"key\" }}\n")),
        ("views/list.toml", format!("{view}order = \"relevance\"\nwhere = \"row.name\"\n")),
        ("agents/load.toml", "kind = \"import\"\ntable = \"item\"\nformat = \"rfc822\"\nmap = [{ from = \"Package\", to = \"nam\" }]\nrequired = [\"Packag\"]\nbackend = \"x\"\n".into()),
        ("agents/load.toml", "kind = \"post\"\ntable = \"item\"\nattempts = 0\noutcome_field = \"price\"\n".into()),
        ("templates/item.html", "{% extends \"bas.html\" %}\n\n{{ row.price|mony }} {% include 'part.html' %}\n{{ cfrs }}\n".into()),
        ("templates/item.html", "a\n{% if row %}\n{{ row.name }\n".into()),
        ("templates/item.html", "{% if row is defind %}{% endif %}".into()),
        ("templates/item.html", "{% extends 'base.html' %}{% include \"item.html\" %}".into()),
        ("templates/base.html", "{% block body %}{% endblock %}\n{% include 'item.html' %}".into()),
        ("templates/item.html", "{{ row.name|safe }}\n{% autoescape false %}{{ row.name }}{% endautoescape %}".into()),
        ("templates/item.html", "{% if 'membr' in user.roles and 'buyer' not in user.roles %}{% endif %}".into()),
        ("views/list.toml", format!("{view}where = \"'membre' in user.roles or row.name\"\n")),
        ("actions/more.toml", "path = \"/x\"\nkind = \"sign-out\"\nlocation = \"/itms/{user.name}?page=2\"\n".into()),
        ("actions/more.toml", "path = \"/x\"\nkind = \"sign-out\"\n".into()),
        ("agents/load.toml", "kind = \"import\"\ntable = \"item\"\nformat = \"rfc822\"\nmap = [{ from = \"Package\", to = \"item\" }]\n".into()),
        ("views/list.tml", "x".into()),
        ("views/list.toml", "path = \"/list\nkind = \"page\"\n".into()),
    ];
    let mut shown = String::new();
    for (path, text) in &cases {
        write!(shown, "{}", faults(&[(path, text)])).expect("writing to a string");
        shown.push_str("--\n");
    }
    let expected = include_str!("faults.txt");
    assert_eq!(shown, expected, "if the new text is right, it is:\n{shown}");
}

/// The thread that compiles has a stack with an end; a deploy must not reach it.
#[test]
fn code_too_deep_for_a_stack_is_refused() {
    let tag =
        |open: &str, times: usize, close: &str| format!("\n{{{{ {}1{} }}}}", open.repeat(times), close.repeat(times));
    for (open, close) in
        [("-", ""), ("not ", ""), ("(", ")"), ("[", "]"), ("1 + ", ""), ("1 if ", " else 1"), ("{'a': ", "}")]
    {
        let shown = faults(&[("templates/edit.html", &tag(open, 20_000, close))]);
        assert!(shown.starts_with("shop/templates/edit.html:2:3: more than 500 names and signs"), "{open}: {shown}");
        let text = tag(open, 20_000, close);
        let guard =
            format!("path = \"/l\"\nkind = \"list\"\ntable = \"item\"\nwhere = \"{}\"\n", &text[4..text.len() - 3]);
        let shown = faults(&[("views/list.toml", &guard)]);
        assert!(shown.starts_with("shop/views/list.toml:4:10: more than 500 names and signs"), "{open}: {shown}");
        // What is let through is compiled or refused by the engine, on any thread.
        faults(&[("templates/edit.html", &tag(open, 160, close)), ("views/list.toml", "")]);
    }
    for tags in ["{% if 1 %}", "{% for a in rows %}", "{% with a=1 %}"] {
        let shown = faults(&[("templates/edit.html", &tags.repeat(20_000))]);
        assert!(shown.contains("more than 50 blocks and branches within each other"), "{tags}: {shown}");
    }
    let branches = format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 2 %}".repeat(20_000));
    assert!(faults(&[("templates/edit.html", &branches)]).contains("more than 50 blocks"));
    let rows = "{% if row %}{% for a in rows %}{{ a.name }}{% endfor %}{% else %}-{% endif %}\n".repeat(300);
    assert_eq!(faults(&[("templates/edit.html", &rows)]), "");
}

#[test]
fn faults_of_all_files_come_together() {
    let shown = faults(&[
        ("views/item.toml", "path = \"/a\"\nkind = \"page\"\ntemplate = \"none.html\"\n"),
        ("documents/item.toml", "key = 1\n"),
        ("templates/edit.html", "{% if %}"),
    ]);
    let files: Vec<&str> = shown.lines().map(|line| line.split(':').next().unwrap_or("")).collect();
    for file in ["shop/documents/item.toml", "shop/templates/edit.html", "shop/views/item.toml"] {
        assert!(files.contains(&file), "{shown}");
    }
}

#[test]
fn deploys_append_and_never_move() {
    let first = CodeVersion::from_sources(&with(&[]), 1).expect("code");
    let texts = |changes: &[(&str, &str)]| -> Vec<(String, String)> {
        with(changes).into_iter().map(|source| (source.path.to_string(), source.text.to_string())).collect()
    };
    // `aaa` sorts before `item`, and comes behind it nevertheless.
    let second = first.deploy("shop", &texts(&[("documents/aaa.toml", "key = \"a\"\n")]), 2).expect("compatible");
    assert_eq!((second.shapes.id("item"), second.shapes.id("aaa")), (Some(TableId(3)), Some(TableId(4))));
    assert_eq!(second.version, 2);
    let other = [
        ("application.toml".to_owned(), "name = \"other\"\ntitle = \"O\"\nsign_in = \"/o\"\n".to_owned()),
        ("authority.toml".to_owned(), "allow = []\n".to_owned()),
        ("documents/zzz.toml".to_owned(), "key = \"z\"\n".to_owned()),
    ];
    let third = second.deploy("other", &other, 3).expect("compatible");
    assert_eq!((third.shapes.id("aaa"), third.shapes.id("zzz")), (Some(TableId(4)), Some(TableId(5))));
    assert_eq!(third.applications.iter().map(|application| &*application.name).collect::<Vec<_>>(), ["other", "shop"]);
    let grown = FILES[2].1.replace("]\n", "  { name = \"stock\", kind = \"integer\" },\n]\n");
    assert!(first.deploy("shop", &texts(&[("documents/item.toml", &grown)]), 2).is_ok(), "a field at the end");
    let wrong = |document: &str, more: &[(&str, &str)]| -> String {
        let mut changes = vec![("documents/item.toml", document)];
        changes.extend_from_slice(more);
        let faults = first.deploy("shop", &texts(&changes), 2).expect_err("incompatible");
        faults.iter().map(|fault| format!("{fault}\n")).collect()
    };
    let retyped = FILES[2].1.replace("\"money\"", "\"integer\"");
    assert_eq!(
        wrong(&retyped, &[("templates/item.html", "x")]),
        "shop/documents/item.toml:1:1: the field `price` changed its kind; keep the kind, or add another field at the end\n"
    );
    let renamed = FILES[2].1.replace("\"section\"", "\"area\"");
    assert_eq!(
        wrong(&renamed, &[]),
        "shop/documents/item.toml:1:1: field 2 was `section`; keep it there, and add fields at the end\n"
    );
    let bare: Vec<(String, String)> = texts(&[
        ("documents/item.toml", ""),
        ("views/item.toml", ""),
        ("forms/edit.toml", ""),
        ("actions/edit.toml", ""),
        ("agents/load.toml", ""),
        ("authority.toml", "allow = []\n"),
    ]);
    let gone = first.deploy("shop", &bare, 2).expect_err("incompatible");
    assert_eq!(
        gone[0].to_string(),
        "shop/documents/item.toml:1:1: the data table `item` is gone; keep its document: a running cluster holds its rows"
    );
}

#[test]
fn folders_load_like_texts() {
    let folder = std::env::temp_dir().join(format!("twintier-code-{}", std::process::id()));
    for (path, text) in FILES {
        let file = folder.join(path);
        std::fs::create_dir_all(file.parent().expect("folder")).expect("created");
        std::fs::write(&file, text).expect("written");
    }
    std::fs::write(folder.join("views/.item.toml.swp"), [0xff]).expect("written");
    let loaded = CodeVersion::load(std::slice::from_ref(&folder), 1).unwrap_or_else(|faults| panic!("{faults:?}"));
    let compiled = CodeVersion::from_sources(&with(&[]), 1).expect("code");
    assert_eq!((loaded.digest, loaded.sources), (compiled.digest, compiled.sources));
    let (name, texts) = CodeVersion::read_texts(&folder).expect("texts");
    assert_eq!((name.as_str(), texts.len()), ("shop", FILES.len()));
    std::fs::write(folder.join("views/item.toml"), "path = 1\n").expect("written");
    let faults = CodeVersion::load(&[folder.clone(), folder.join("none")], 1).expect_err("wrong");
    let file = folder.join("views/item.toml").display().to_string();
    assert!(faults.iter().any(|fault| fault.to_string().starts_with(&format!("{file}:1:8: "))), "{faults:?}");
    assert!(faults.iter().any(|fault| fault.wrong.starts_with("cannot be read: ")), "{faults:?}");
    std::fs::remove_dir_all(&folder).expect("removed");
}
