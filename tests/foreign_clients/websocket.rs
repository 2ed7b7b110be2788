//! A WebSocket client through the proxy to an echo server, both Python's `websockets`.

use std::path::Path;
use std::process::{Command, Stdio};

use super::client;
use super::program::{Program, twintier};

fn beside(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign_clients").join(name).display().to_string()
}

#[test]
fn websocket() {
    let mut probe = Command::new("python3");
    probe.args(["-c", "import websockets.asyncio.server"]).stdin(Stdio::null()).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        return println!("Python's websockets is absent: this test is left out");
    }
    let mut command = Command::new("python3");
    command.arg(beside("websocket_echo.py")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Program::start(&mut command);
    let to = format!("127.0.0.1:{}", server.ready("port"));
    let mut proxy = Program::start(twintier().args(["proxy", "--listen", "127.0.0.1:0", "--to", &to]));
    let address = format!("ws://{}/chat", proxy.ready("proxy"));
    assert_eq!(client("python3", &[&beside("websocket_client.py"), &address]).stdout, "all came back\n");
    proxy.signal("TERM");
    assert_eq!(proxy.status().code(), Some(0), "{}", proxy.stderr());
}
