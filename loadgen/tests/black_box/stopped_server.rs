//! Arrivals depend on the clock only: a server that is stopped by the kernel gets no fewer requests planned.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Request, Scratch, assert_balanced, number, respond, serve, summary};

/// Where a server in a process of its own writes its address and the number of its requests.
const PLACE: &str = "LOADGEN_TEST_SERVER";
const PATIENCE: Duration = Duration::from_secs(60);

/// Not a test: the server's process, which [`a_server_that_is_stopped_for_2_s_gets_every_request_planned`] starts.
#[test]
#[ignore = "the server of another test, in a process of its own"]
fn a_server_in_a_process_of_its_own() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    let (address, _) = serve(|_: &Request, stream: &mut TcpStream| respond(stream, 200, "", "fine"));
    let partial = place.with_extension("partial");
    std::fs::write(&partial, address).unwrap();
    std::fs::rename(partial, place).unwrap();
    // Whoever started it kills it, or is gone by then.
    thread::sleep(PATIENCE);
}

struct Server(Child);

impl Server {
    fn start(place: &Path) -> (Self, String) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "stopped_server::a_server_in_a_process_of_its_own"])
            .env(PLACE, place)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self(child);
        let deadline = Instant::now() + PATIENCE;
        while !place.exists() {
            assert!(Instant::now() < deadline, "the server does not start");
            thread::sleep(Duration::from_millis(5));
        }
        (server, std::fs::read_to_string(place).unwrap())
    }

    fn signal(pid: u32, name: &str) {
        assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_that_is_stopped_for_2_s_gets_every_request_planned() {
    let out = Scratch::new();
    let (server, address) = Server::start(&out.path().join("address"));
    let pid = server.0.id();
    let stopper = thread::spawn(move || {
        thread::sleep(Duration::from_millis(1500));
        Server::signal(pid, "-STOP");
        // The stop itself is what is tested.
        thread::sleep(Duration::from_secs(2));
        Server::signal(pid, "-CONT");
    });
    let url = format!("http://{address}/");
    let arguments = ["run", &url, "--rate", "150", "--duration", "5", "--connections", "16"];
    let (summary, _) = summary(&out, &arguments);
    stopper.join().unwrap();
    assert!(assert_balanced(&summary).abs_diff(150 * 5) <= 1, "the plan knows no completion");
    assert_eq!(number(&summary, "/completed"), number(&summary, "/planned"), "{}", summary["errors_by_kind"]);
    // Requests that were due in the stop waited for its end: 300 of 750, so the 90th percentile is 2 - 0.1 * 5 s.
    let p90_s = number(&summary, "/response_ns/p90") as f64 / 1e9;
    assert!(p90_s > 1.3, "{p90_s} s");
    // A closed loop would have sent one request a connection in that time.
    assert!(number(&summary, "/client_queue_ns/p90") > 1_000_000_000);
}
