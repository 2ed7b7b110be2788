//! The operator's console: one page, its style and its script, as they lie in the folder `console`.
//!
//! The files hold nothing of this appliance: what the page shows, it asks for itself, with the token if there is one.

use super::server::Reply;

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, type and text of each file.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("console/index.html")),
    ("/console/style.css", STYLE, include_str!("console/style.css")),
    ("/console/main.mjs", SCRIPT, include_str!("console/main.mjs")),
    ("/console/stream.mjs", SCRIPT, include_str!("console/stream.mjs")),
    ("/console/history.mjs", SCRIPT, include_str!("console/history.mjs")),
    ("/console/plots.mjs", SCRIPT, include_str!("console/plots.mjs")),
    ("/console/picture.mjs", SCRIPT, include_str!("console/picture.mjs")),
    ("/console/tables.mjs", SCRIPT, include_str!("console/tables.mjs")),
    ("/console/orders.mjs", SCRIPT, include_str!("console/orders.mjs")),
    ("/console/reports.mjs", SCRIPT, include_str!("console/reports.mjs")),
    ("/console/text.mjs", SCRIPT, include_str!("console/text.mjs")),
];

/// The file at a path.
pub fn file(path: &str) -> Option<Reply> {
    let (_, content_type, text) = FILES.iter().find(|(known, ..)| *known == path)?;
    Some(Reply { status: 200, content_type, body: text.as_bytes().to_vec() })
}
