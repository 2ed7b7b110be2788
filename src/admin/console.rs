//! The operator's console: one page that shows the status and follows it.

use super::Cluster;
use super::server::Reply;

const PAGE: &str = include_str!("console.html");

/// The page; its script asks `/status` and `/replication` once a second while it is visible.
pub fn page(cluster: &Cluster) -> Reply {
    let body = PAGE
        .replace("{{name}}", &escape(&cluster.profile.cluster.name))
        .replace("{{http}}", &escape(&cluster.http.to_string()));
    Reply { status: 200, content_type: "text/html; charset=utf-8", body: body.into_bytes() }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
