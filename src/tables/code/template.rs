//! Templates: one environment per application and code version, with the filters of the code-table language.
//!
//! The template engine notices an unknown filter, test or included template only when a page is shown. [`scan`] reads
//! the tokens of a template so that a deploy can refuse them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, ErrorKind, Output};

use crate::error::Fault;

use super::scan::{DEPTH_MAX, Scan, TOKENS_MAX, scan};
use super::source::{Source, choose};
use super::{civil, cycle, names};

/// Instructions of one page: a list of [`crate::limits::PAGE_SIZE_MAX`] rows with 20 fields needs a third of it. It is
/// used up in some 50 to 100 ms, in which the worker does nothing else.
pub(super) const FUEL_TEMPLATE: u64 = 600_000;
/// Instructions of one expression.
pub(super) const FUEL_EXPRESSION: u64 = 20_000;

/// What every template may name. A view's related rows and variables that templates set come on top.
pub const CONTEXT: [&str; 28] = [
    "action",
    "application",
    "code_version",
    "conflicts",
    "csrf",
    "error",
    "errors",
    "facets",
    "key",
    "message",
    "mount",
    "next",
    "page",
    "parameters",
    "path",
    "query",
    "refresh_s",
    "replica",
    "row",
    "rows",
    "self",
    "status",
    "super",
    "title",
    "user",
    "values",
    "version",
    "view",
];

/// An environment with our filters, without templates.
pub(super) fn environment(fuel: u64) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(fuel));
    environment.set_recursion_limit(50);
    environment.add_filter("money", |value: &Value| value.as_i64().map(civil::money).unwrap_or_default());
    environment.add_filter("date", |value: &Value| value.as_i64().map(civil::date).unwrap_or_default());
    environment.add_filter("datetime", |value: &Value| value.as_i64().map(civil::date_time).unwrap_or_default());
    environment.add_filter("urlencode", |value: &Value| {
        let mut out = String::new();
        if !value.is_none() {
            percent_encode(&value.to_string(), &mut out);
        }
        out
    });
    environment.set_formatter(|out, state, value| match value.as_str() {
        // A field without a value prints nothing, as an unknown one does.
        _ if value.is_none() => Ok(()),
        Some(text) if *state.auto_escape() == AutoEscape::Html && !value.is_safe() => escape(out, text),
        Some(_) | None => minijinja::escape_formatter(out, state, value),
    });
    environment
}

/// Escapes what HTML text and quoted attributes give a meaning to. minijinja's own escape also spells out every slash,
/// which doubles the length of links and says nothing.
fn escape(out: &mut Output<'_>, text: &str) -> Result<(), minijinja::Error> {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        let entity = match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            _ => "&#39;",
        };
        out.write_str(&rest[..at])?;
        out.write_str(entity)?;
        rest = &rest[at + 1..];
    }
    out.write_str(rest)?;
    Ok(())
}

/// Percent-encodes everything but unreserved characters (RFC 3986 section 2.3).
pub fn percent_encode(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// The engine's reason in one line.
pub(super) fn reason(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned).replace('\n', " ")
}

/// Compiles all templates of an application; `related` are further variable names that views give to templates.
pub(super) fn compile(
    sources: &BTreeMap<String, Source>,
    related: &HashSet<&str>,
    roles: &BTreeSet<String>,
    faults: &mut Vec<Fault>,
) -> Environment<'static> {
    let mut environment = environment(FUEL_TEMPLATE);
    let scans: BTreeMap<&str, Scan> =
        sources.iter().map(|(name, source)| (name.as_str(), scan(&source.text))).collect();
    let set: HashSet<&str> = scans.values().flat_map(|scan| scan.set.iter().map(String::as_str)).collect();
    for (name, source) in sources {
        let scan = &scans[name.as_str()];
        let too_much: Vec<Fault> = too_much(source, scan, 0).collect();
        if !too_much.is_empty() {
            faults.extend(too_much);
            continue;
        }
        if let Err(error) = environment.add_template_owned(name.clone(), source.text.to_string()) {
            let line = error.line().unwrap_or(1);
            let cure = "check the tags of this line: each `{%` needs its `%}`, each block its end";
            faults.push(Fault::new(&source.file, line, 1, reason(&error), cure));
            continue;
        }
        for (included, at) in &scan.templates {
            if !sources.contains_key(included) {
                let wrong = format!("there is no template `{included}`");
                faults.push(source.fault(at, wrong, choose(included, sources.keys().map(String::as_str))));
            }
        }
        for (filter, at) in &scan.filters {
            if !is_filter(filter) {
                faults.push(unknown_filter(source, at, filter));
            } else if filter == "safe" {
                faults.push(unescaped(source, at, "the filter `safe`"));
            }
        }
        for at in &scan.autoescapes {
            faults.push(unescaped(source, at, "the tag `autoescape`"));
        }
        for (role, at) in &scan.roles {
            faults.extend(names::unknown_role(source, at, role, roles));
        }
        for (test, at) in &scan.tests {
            if !is_test(test) {
                let wrong = format!("there is no test `{test}`");
                faults.push(source.fault(at, wrong, choose(test, ["defined", "none", "even", "odd", "string", "in"])));
            }
        }
        let Ok(template) = environment.get_template(name) else { continue };
        let mut used: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        used.sort_unstable();
        for variable in used {
            let known = |known: &str| {
                CONTEXT.contains(&known) || related.contains(known) || set.contains(known) || is_function(known)
            };
            if !known(&variable) {
                let at = scan.first_use(&variable);
                let wrong = format!("templates know no variable `{variable}`");
                let names = CONTEXT.iter().copied().chain(related.iter().copied());
                faults.push(source.fault(&at, wrong, choose(&variable, names)));
            }
        }
    }
    cycle::find(sources, &scans, faults);
    environment
}

/// What the engine must not be given, because it would break the stack of the thread that compiles it.
pub(super) fn too_much(source: &Source, scan: &Scan, begin: usize) -> impl Iterator<Item = Fault> {
    let fault = |at: &Range<usize>, wrong: String, cure| source.fault(&(begin + at.start..begin + at.end), wrong, cure);
    let long = scan.long.as_ref().map(|at| {
        fault(
            at,
            format!("more than {TOKENS_MAX} names and signs in one expression"),
            "write several `{% set %}` before it",
        )
    });
    let deep = scan.deep.as_ref().map(|at| {
        fault(
            at,
            format!("more than {DEPTH_MAX} blocks and branches within each other"),
            "put some into a template to include",
        )
    });
    long.into_iter().chain(deep)
}

/// What would show what somebody wrote as HTML.
fn unescaped(source: &Source, at: &Range<usize>, what: &str) -> Fault {
    source.fault(at, format!("{what} would show text as HTML"), "remove it: everything is escaped where it is shown")
}

pub(super) fn unknown_filter(source: &Source, at: &Range<usize>, name: &str) -> Fault {
    const COMMON: [&str; 15] = [
        "money",
        "date",
        "datetime",
        "urlencode",
        "default",
        "escape",
        "first",
        "last",
        "join",
        "length",
        "lower",
        "upper",
        "replace",
        "title",
        "tojson",
    ];
    source.fault(at, format!("there is no filter `{name}`"), choose(name, COMMON))
}

static PROBE: LazyLock<Environment<'static>> = LazyLock::new(|| environment(FUEL_EXPRESSION));

fn fails_with(expression: String, kind: ErrorKind) -> bool {
    PROBE
        .compile_expression_owned(expression)
        .and_then(|compiled| compiled.eval(()))
        .is_err_and(|error| error.kind() == kind)
}

pub(super) fn is_filter(name: &str) -> bool {
    !fails_with(format!("1|{name}"), ErrorKind::UnknownFilter)
}

fn is_test(name: &str) -> bool {
    !fails_with(format!("1 is {name}"), ErrorKind::UnknownTest)
}

pub(super) fn is_function(name: &str) -> bool {
    PROBE.globals().any(|(known, _)| known == name)
}

/// Application templates of one code version.
#[derive(Clone, Debug)]
pub struct Templates(pub(super) Arc<Environment<'static>>);

impl Templates {
    /// Renders a template at the end of `out`.
    ///
    /// # Errors
    /// No such template, an operation that a value does not have, or out of fuel; `out` then holds a part.
    pub fn render_to(&self, name: &str, context: Value, out: &mut Vec<u8>) -> Result<(), minijinja::Error> {
        self.0.get_template(name)?.render_captured_to(context, out).map(|_| ())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0.get_template(name).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{FUEL_TEMPLATE, environment, is_filter, is_function, is_test};

    #[test]
    fn knows_what_the_engine_knows() {
        assert!(is_filter("money") && is_filter("default") && !is_filter("mony"));
        assert!(is_test("defined") && !is_test("defind"));
        assert!(is_function("range") && !is_function("rang"));
    }

    /// Nothing that a template does goes on for ever or takes the memory.
    #[test]
    fn pages_without_end_are_stopped() {
        let mut environment = environment(FUEL_TEMPLATE);
        environment.add_template("self.html", "{% include me %}").expect("parsed");
        environment.add_template("up.html", "{% extends me %}").expect("parsed");
        let doubled = "{% set a = a ~ a %}".repeat(60);
        let pages = [
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}".to_owned(),
            format!("{{% set a = 'aaaaaaaaaaaaaaaa' %}}{doubled}"),
            "{% set n = namespace(a='aaaaaaaa') %}{% for i in range(60) %}{% set n.a = n.a ~ n.a %}{% endfor %}"
                .to_owned(),
            "{% macro m(a) %}{{ m(a ~ a) }}{% endmacro %}{{ m('a') }}".to_owned(),
            "{% macro m() %}{% for a in range(99) %}{{ m() }}{% endfor %}{% endmacro %}{{ m() }}".to_owned(),
            "{% include 'self.html' %}".to_owned(),
            "{% extends 'up.html' %}".to_owned(),
            "{% block a %}{{ self.a() }}{% endblock %}".to_owned(),
            "{{ 'a' * 1000000000 }}".to_owned(),
            "{% for a in range(100000) %}{{ range(100000)|sort|length }}{% endfor %}".to_owned(),
            "{% for a in range(100000) %}{{ ('a' * 100000)|replace('a', 'bb')|length }}{% endfor %}".to_owned(),
        ];
        for page in &pages {
            let context = minijinja::context! { me => if page.contains("up") { "up.html" } else { "self.html" } };
            let begun = std::time::Instant::now();
            let error = environment.render_named_str("x.html", page, context).expect_err("it never ends");
            println!("{:?} {}: {error}", begun.elapsed(), page.get(..60).unwrap_or(page));
        }
    }

    #[test]
    fn filters_and_none() {
        let environment = environment(10_000);
        let shown = |text: &str| {
            environment.render_named_str(
                "x.html",
                text,
                minijinja::context! { c => 1234, t => 1_795_440_180_000_i64, u => "a b/é+<" },
            )
        };
        let page = "{{ c|money }} {{ t|datetime }} {{ t|date }} {{ u|urlencode }} {{ u }} [{{ none }}{{ none|money }}]";
        let expected = "12.34 2026-11-23 13:23 2026-11-23 a%20b%2F%C3%A9%2B%3C a b/é+&lt; []";
        assert_eq!(shown(page).expect("renders"), expected);
        assert!(
            shown("{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}").is_err(),
            "fuel"
        );
    }
}
