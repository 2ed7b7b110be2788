//! Who may ask the admin interface: the token, the name that it was asked by, and the site that made a browser ask.
//!
//! A browser on the operator's machine reaches what listens on loopback, and runs the scripts of every page that is
//! open in it. Three ways in are closed:
//!
//! - *A page of another site sends an order* (a form, an image, a `fetch` without reading the answer). Browsers say
//!   where such a request comes from, in `Sec-Fetch-Site` or `Origin`; it is refused. Programs say neither and are
//!   served.
//! - *A page of another site reads*, because its own name was made to point here (DNS rebinding). Then `Host` is that
//!   name: without a token only addresses and `localhost` are answered, which nobody else's name service can give out.
//! - *A page of another site shows the console in a frame* and lures clicks: `frame-ancestors` forbids it.

use std::net::IpAddr;

use super::server::Reply;

/// What a request's head tells of the one who asks. Fields that it does not have are `None`.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    pub is_order: bool,
    /// The console's own files: they hold no secret, and a browser cannot send a token with the first request.
    pub is_console: bool,
    pub host: Option<String>,
    pub origin: Option<String>,
    /// `Sec-Fetch-Site`, `Sec-Fetch-Mode`, `Sec-Fetch-Dest` (Fetch Metadata): only browsers send them.
    pub fetch_site: Option<String>,
    pub fetch_mode: Option<String>,
    pub fetch_dest: Option<String>,
    /// The token behind `Authorization: Bearer`.
    pub bearer: Option<String>,
}

/// Refuses who may not ask.
///
/// # Errors
/// The answer that says why, and what to do.
pub fn check(token: &str, asker: &Asker) -> Result<(), Reply> {
    if !is_from_here(asker) {
        return Err(Reply::text(
            403,
            "this request was made by a page of another site; open the console itself, or use a program",
        ));
    }
    if token.is_empty() {
        let host = asker.host.as_deref().unwrap_or_default();
        return if is_own_name(host) {
            Ok(())
        } else {
            let wrong = format!(
                "without listen.admin_token the admin interface answers to its address and to localhost, not to `{}`",
                host.escape_default()
            );
            Err(Reply::text(403, wrong))
        };
    }
    let given = asker.bearer.as_deref().unwrap_or_default();
    // Hashes are compared in constant time: how long it takes says nothing about how much was right.
    if asker.is_console || blake3::hash(given.as_bytes()) == blake3::hash(token.as_bytes()) {
        Ok(())
    } else {
        Err(Reply::text(401, "the admin interface needs `Authorization: Bearer TOKEN` (listen.admin_token)"))
    }
}

/// Whether no page of another site has made a browser send this.
fn is_from_here(asker: &Asker) -> bool {
    match asker.fetch_site.as_deref() {
        Some("same-origin" | "none") => true,
        // Another site may link to what is only read, to be shown as a page of its own.
        Some(_) => {
            let is_link =
                asker.fetch_mode.as_deref() == Some("navigate") && asker.fetch_dest.as_deref() == Some("document");
            !asker.is_order && is_link
        }
        // Plain HTTP to anything but loopback, or an old browser: there `Origin` tells, at least of orders.
        None => asker.origin.as_deref().is_none_or(|origin| {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            let host = asker.host.as_deref().unwrap_or_default();
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        }),
    }
}

/// Whether no name service of somebody else's decides where this host is. HTTP/1.0 may have none; browsers always do.
fn is_own_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.to_ascii_lowercase();
    host.is_empty() || name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::{Asker, check};

    fn asker(host: &str) -> Asker {
        Asker { host: Some(host.into()), ..Asker::default() }
    }

    fn order(host: &str, origin: &str) -> Asker {
        Asker { is_order: true, origin: Some(origin.into()), ..asker(host) }
    }

    fn fetched(site: &str, mode: &str, dest: &str) -> Asker {
        let [site, mode, dest] = [site, mode, dest].map(|text| Some(text.to_owned()));
        Asker { fetch_site: site, fetch_mode: mode, fetch_dest: dest, ..asker("localhost:8081") }
    }

    fn status(token: &str, asker: &Asker) -> u16 {
        check(token, asker).map_or_else(|reply| reply.status, |()| 200)
    }

    #[test]
    fn only_names_that_nobody_else_can_give_out_are_answered_without_a_token() {
        for own in ["127.0.0.1:8081", "localhost", "LocalHost:9", "[::1]:8081", "[::1]", "a.localhost:1", "10.1.2.3"] {
            assert_eq!(status("", &asker(own)), 200, "{own}");
        }
        for other in ["rebound.example:8081", "localhost.example", "notlocalhost", "127.0.0.1.example:8081", "::1.a"] {
            assert_eq!(status("", &asker(other)), 403, "{other}");
            assert_eq!(status("secret", &Asker { bearer: Some("secret".into()), ..asker(other) }), 200, "{other}");
        }
        assert_eq!(status("", &Asker::default()), 200, "HTTP/1.0 without a host");
    }

    #[test]
    fn orders_of_pages_of_other_sites_are_refused() {
        assert_eq!(status("", &order("127.0.0.1:8081", "http://127.0.0.1:8081")), 200);
        for other in ["http://evil.example", "null", "http://127.0.0.1:3000", "http://localhost:8081", ""] {
            assert_eq!(status("", &order("127.0.0.1:8081", other)), 403, "{other}");
        }
        for site in ["cross-site", "same-site"] {
            let made = Asker { is_order: true, ..fetched(site, "no-cors", "empty") };
            assert_eq!(status("", &made), 403, "{site}");
            // A form navigates.
            let form = Asker { is_order: true, ..fetched(site, "navigate", "document") };
            assert_eq!(status("", &form), 403, "{site}");
        }
        assert_eq!(status("", &Asker { is_order: true, ..fetched("same-origin", "cors", "empty") }), 200);
        assert_eq!(status("", &Asker { is_order: true, ..asker("127.0.0.1:8081") }), 200, "a program");
    }

    #[test]
    fn other_sites_may_link_and_not_embed() {
        assert_eq!(status("", &fetched("cross-site", "navigate", "document")), 200);
        assert_eq!(status("", &fetched("none", "navigate", "document")), 200);
        for (mode, dest) in [("navigate", "iframe"), ("no-cors", "image"), ("cors", "empty"), ("no-cors", "script")] {
            assert_eq!(status("", &fetched("cross-site", mode, dest)), 403, "{mode} {dest}");
        }
    }

    #[test]
    fn a_token_guards_all_but_the_console_s_own_files() {
        for (given, expected) in [(None, 401), (Some("guess"), 401), (Some("secre"), 401), (Some("secret"), 200)] {
            let asked = Asker { bearer: given.map(Into::into), ..asker("ops.example:8081") };
            assert_eq!(status("secret", &asked), expected, "{given:?}");
        }
        assert_eq!(status("secret", &Asker { is_console: true, ..asker("ops.example:8081") }), 200);
    }
}
