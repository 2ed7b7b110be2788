//! A server that nobody here wrote, and what it counts itself.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Scratch, assert_balanced, number, summary};

struct Nginx {
    child: Child,
    address: SocketAddr,
    folder: Scratch,
}

impl Nginx {
    /// `None` where nginx is not installed.
    fn start() -> Option<Self> {
        if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_err() {
            eprintln!("skipped: nginx is not installed (apt-get install nginx-light)");
            return None;
        }
        let folder = Scratch::new();
        let home = folder.path().display().to_string();
        // A port that was free a moment ago; nginx says so if it is not any more.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {home}/pid;\nevents {{}}\nhttp {{\n\
             log_format short '$status $request_uri $connection_requests';\naccess_log {home}/access.log short;\n\
             client_body_temp_path {home}/b;\nproxy_temp_path {home}/p;\nfastcgi_temp_path {home}/f;\n\
             uwsgi_temp_path {home}/u;\nscgi_temp_path {home}/s;\nkeepalive_requests 1000000;\n\
             server {{\nlisten {address};\nlocation / {{ return 200 fine; }}\n\
             location = /status {{ access_log off; stub_status; }}\n}}\n}}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
        let mut child = Command::new("nginx")
            .args(["-c", &folder.join("nginx.conf"), "-e", &folder.join("error.log")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(child.try_wait().unwrap().is_none() && Instant::now() < deadline, "nginx does not start");
            std::thread::yield_now();
        }
        Some(Self { child, address, folder })
    }

    /// Requests that it has counted.
    fn requests(&self) -> u64 {
        let url = format!("http://{}/status", self.address);
        let answer = Command::new("curl").args(["-s", &url]).output().unwrap();
        let text = String::from_utf8(answer.stdout).unwrap();
        // " 3 3 7 ": accepted, handled, requests.
        let line = text.lines().nth(2).unwrap_or_else(|| panic!("no stub_status: {text}"));
        line.split_ascii_whitespace().nth(2).unwrap().parse().unwrap()
    }

    /// Lines of its log, complete because it has ended.
    fn end(mut self) -> Vec<String> {
        assert!(Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).status().unwrap().success());
        self.child.wait().unwrap();
        let log = std::fs::read_to_string(self.folder.path().join("access.log")).unwrap();
        log.lines().map(str::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Planned = completed = nginx's counter = lines of its log = samples of the histogram, in both loops.
#[test]
fn nginx_counts_exactly_the_requests_that_we_count() {
    let Some(nginx) = Nginx::start() else { return };
    let mut expected = 0;
    for mode in
        [&["--rate", "1500", "--arrivals", "poisson", "--connections", "16"][..], &["--closed", "--connections", "8"]]
    {
        let before = nginx.requests();
        let url = format!("http://{}/counted", nginx.address);
        let window = ["--duration", "1", "--warmup", "0.3"];
        let (summary, _) = summary(&Scratch::new(), &[&["run", &url][..], &window, mode].concat());
        let planned = assert_balanced(&summary);
        assert_eq!(number(&summary, "/completed"), planned, "{}", summary["errors_by_kind"]);
        assert_eq!(number(&summary, "/response_ns/count"), planned);
        let sent = planned + number(&summary, "/warmup_requests");
        // One of its requests is that for the counter itself.
        assert_eq!(nginx.requests() - before - 1, sent, "{mode:?}");
        expected += sent;
    }
    let lines = nginx.end();
    let counted = lines.iter().filter(|line| line.starts_with("200 /counted ")).count();
    assert_eq!(u64::try_from(counted).unwrap(), expected);
}
