//! What suppliers and users write is shown, never interpreted: in text, attributes, links and JSON.

use serde_json::{Value, json};

use crate::support::appliance::Setup;
use crate::support::browser::Browser;
use crate::support::site::{Folder, ITEMS};

/// One for each context that HTML, URLs and JSON have.
const HOSTILE: [&str; 8] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' autofocus onfocus='alert(1)",
    "javascript:alert(1)",
    "</title></textarea><svg onload=alert(1)>",
    "</script><!-- <b> &lt;&amp;&#39; -->",
    "{{ 7*7 }}{% raw %}{% include 'layout.html' %}",
    "a&section=x#y?z=%22%3E+%00;\u{2028}\u{202e}é",
];

/// Names of tags that the shipped templates have.
const TAGS: [&str; 48] = [
    "!doctype", "html", "head", "meta", "title", "link", "body", "a", "header", "nav", "img", "div", "span", "form",
    "input", "button", "main", "footer", "article", "h1", "h2", "p", "dl", "dt", "dd", "label", "ul", "li", "aside",
    "section", "textarea", "table", "caption", "thead", "tbody", "tr", "th", "td", "select", "option", "small", "em",
    "strong", "h3", "ol", "br", "time", "noscript",
];
/// The only script, as the layouts name it.
const SCRIPT: &str = "<script src=\"/reqcat/static/site.js\" defer></script>";

/// Reads the tags of a page as a browser does, and panics at one that no template has.
#[track_caller]
fn assert_harmless(page: &str) {
    let mut page = page.replacen(SCRIPT, "", 1);
    // What a front says by itself brings its style along, before anything that varies.
    let style = page.find("<style>").zip(page.find("</style>").map(|end| end + "</style>".len()));
    if let Some((begin, end)) = style.filter(|&(_, end)| page.find("<title>").is_some_and(|title| end < title)) {
        page.replace_range(begin..end, "");
    }
    let page = &page;
    let mut rest = page.as_str();
    while let Some(open) = rest.find('<') {
        rest = &rest[open + 1..];
        let name: String = rest
            .trim_start_matches('/')
            .chars()
            .take_while(|one| !one.is_whitespace() && !"/>".contains(*one))
            .collect();
        assert!(TAGS.contains(&name.to_lowercase().as_str()), "a tag `{name}` in {page}");
        let mut inner = rest.trim_start_matches('/').get(name.len()..).unwrap_or("");
        loop {
            inner = inner.trim_start();
            if let Some(after) = inner.strip_prefix('>').or_else(|| inner.strip_prefix("/>")) {
                rest = after;
                break;
            }
            let end = inner.find(|one: char| one == '=' || one == '>' || one.is_whitespace()).unwrap_or(inner.len());
            let attribute = &inner[..end];
            assert!(!attribute.is_empty() && !attribute.to_lowercase().starts_with("on"), "`{attribute}` in {page}");
            inner = inner[end..].trim_start();
            let Some(value) = inner.strip_prefix('=') else { continue };
            let value = value.strip_prefix('"').unwrap_or_else(|| panic!("`{attribute}` is not quoted in {page}"));
            let (value, after) = value.split_once('"').unwrap_or_else(|| panic!("`{attribute}` has no end in {page}"));
            if ["href", "action", "formaction", "src"].contains(&attribute) {
                assert!(value.starts_with(['/', '#']), "{attribute}={value}");
            }
            inner = after;
        }
    }
}

/// A supplier's file in which every field of an item is hostile.
fn items() -> String {
    let record = |(number, hostile): (usize, &&str)| {
        format!(
            "Package: item{number} {hostile}\nVersion: {hostile}\nSection: {hostile}\nSize: {number}\nMaintainer: {hostile}\n\
             Description: {hostile} zzhostile\nHomepage: {hostile}\n\n"
        )
    };
    let harmless = (0..ITEMS - 8).map(|number| format!("Package: plain-{number}\nVersion: 1\nSection: net\n\n"));
    harmless.chain(HOSTILE.iter().enumerate().map(record)).collect()
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
        })
        .collect()
}

#[track_caller]
fn page(browser: &mut Browser, path: &str) -> String {
    let answer = browser.page(path);
    let text = answer.text();
    assert_harmless(&text);
    assert!([200, 400, 404].contains(&answer.status), "{} {text}", answer.status);
    text
}

/// A folder whose catalog is hostile.
fn hostile(folder: &Folder) {
    folder.write("items.txt", items());
}

#[test]
fn hostile_values_in_every_field_are_shown_and_nothing_more() {
    let setup = Setup::shipped();
    hostile(&setup.folder);
    let appliance = setup.start();
    let import = appliance.status()["storage"]["imports"][0].clone();
    assert_eq!((&import["taken"], &import["rejected"]), (&json!(ITEMS), &json!(0)), "{import}");
    let mut alice = appliance.user("alice");

    // The catalog: facets, hits of a search, its pages, each item by the link that the page gives.
    for path in ["/reqcat/", "/reqcat/?page=2", "/reqcat/?page=3", "/reqcat/?words=zzhostile"] {
        page(&mut alice, path);
    }
    let found = alice.data("/reqcat/?words=zzhostile").json();
    assert_eq!(found["total"], 8);
    for (number, hostile) in HOSTILE.iter().enumerate() {
        let key = format!("item{number} {hostile}");
        let row = found["rows"].as_array().unwrap().iter().find(|row| row["item"] == key.as_str()).unwrap();
        let expected = json!({ "item": key, "version": hostile, "section": hostile, "size": number, "supplier": hostile, "summary": format!("{hostile} zzhostile"), "homepage": hostile });
        assert_eq!(row, &expected);
        page(&mut alice, &format!("/reqcat/?section={}", encoded(hostile)));
        page(&mut alice, &format!("/reqcat/?words={0}&section={0}", encoded(hostile)));
        let shown = page(&mut alice, &format!("/reqcat/items/{}", encoded(&key)));
        if !key.contains('/') {
            assert!(shown.contains("<h1>item"), "{shown}");
            assert_eq!(alice.data(&format!("/reqcat/items/{}", encoded(&key))).json()["row"], expected);
        }
        // What a visitor sends comes back in forms and errors.
        page(&mut alice, &format!("/reqcat/requisitions/new?item={}", encoded(hostile)));
        let wrong =
            alice.post("/reqcat/requisitions", &[("item", hostile), ("quantity", hostile), ("reason", hostile)]);
        assert_eq!(wrong.status, 422);
        assert_harmless(&wrong.text());
        page(&mut alice, &format!("/reqcat/requisitions?state={}", encoded(hostile)));
        page(&mut alice, &format!("/reqcat/{}", encoded(hostile)));
        page(&mut alice, &format!("/directory/?words={}", encoded(hostile)));
        page(&mut appliance.visitor(), &format!("/directory/sign-in?next={}", encoded(hostile)));
        // A requisition of the hostile item, with a hostile reason.
        let drafted = alice.post("/reqcat/requisitions", &[("item", &key), ("quantity", "1"), ("reason", hostile)]);
        assert_eq!(drafted.status, 303, "{}", drafted.text());
        let path = drafted.location().to_owned();
        page(&mut alice, &path);
        assert_eq!(alice.data(&path).json()["row"]["reason"], hostile.trim());
    }
    page(&mut alice, "/reqcat/requisitions");

    // People: an administrator's edit.
    let mut carol = appliance.user("carol");
    for hostile in HOSTILE {
        carol.page("/directory/employees/alice/edit");
        let edit =
            [("name", hostile), ("department", hostile), ("email", hostile), ("roles", "employee"), ("active", "true")];
        let edited = carol.post("/directory/employees/alice", &edit);
        assert_eq!(edited.status, 303, "{}", edited.text());
        for path in ["/directory/", "/directory/employees/alice", "/directory/employees/alice/edit"] {
            page(&mut carol, path);
        }
        page(&mut alice, "/reqcat/");
    }
}

#[test]
fn templates_escape_in_every_context_and_cannot_be_told_not_to() {
    let setup = Setup::shipped();
    hostile(&setup.folder);
    let contexts = "<p title=\"{{ row.summary }}\" data-x='{{ row.summary }}'>{{ row.summary }}</p>\
        <a href=\"{{ mount }}/?words={{ row.summary | urlencode }}\">x</a>\
        <script type=\"application/json\">{{ row | tojson }}</script>\n";
    setup.folder.edit(
        "reqcat/code/templates/item.html",
        "<article class=\"card\">",
        &format!("{contexts}<article class=\"card\">"),
    );
    let appliance = setup.start();
    let mut visitor = appliance.visitor();
    for (number, hostile) in HOSTILE.iter().enumerate().filter(|(_, hostile)| !hostile.contains('/')) {
        let key = format!("item{number} {hostile}");
        let text = visitor.page(&format!("/reqcat/items/{}", encoded(&key))).text();
        let (_, rest) = text.split_once("<p title=").unwrap();
        let (_, rest) = rest.split_once("<script type=\"application/json\">").unwrap();
        let (script, _) = rest.split_once("</script>").unwrap();
        assert!(!script.contains(['<', '>', '&', '\'']), "{script}");
        let row: Value = serde_json::from_str(script).unwrap();
        assert_eq!(row["summary"], format!("{hostile} zzhostile"));
        let harmless = text.replacen(&format!("<script type=\"application/json\">{script}</script>"), "", 1);
        let (before, after) = harmless.split_once(" data-x='").unwrap();
        let (_, after) = after.split_once('\'').unwrap();
        assert_harmless(&format!("{before}{after}"));
    }
}
