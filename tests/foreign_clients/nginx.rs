//! nginx as the origin: a few files and a place that says what it got.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use super::eventually;
use super::program::Program;
use super::site::Folder;

pub const SMALL: &str = "small text\n";
pub const LARGE_BYTES: usize = 1_000_000;

const PAGE: &str =
    "<!doctype html><html><head><link rel=stylesheet href=style.css></head><body><p id=p>nothing</p><script>
(async () => {
  const text = await (await fetch('small.txt')).text();
  const posted = await (await fetch('length', { method: 'POST', body: 'hello' })).text();
  const colour = getComputedStyle(document.getElementById('p')).color;
  document.getElementById('p').textContent =
    `fetched: ${text.trim()}, posted: ${posted.split(' ')[1]}, colour: ${colour}`;
})();
</script></body></html>
";

/// A running nginx; it ends when it is dropped.
pub struct Nginx {
    pub address: SocketAddr,
    _server: Program,
    _folder: Folder,
}

impl Nginx {
    pub fn start() -> Self {
        let folder = Folder::new();
        folder.write("files/small.txt", SMALL);
        folder.write("files/large.bin", "0123456789".repeat(LARGE_BYTES / 10));
        folder.write("files/style.css", "p { color: rgb(1, 2, 3); }\n");
        folder.write("files/page.html", PAGE);
        let home = folder.path("").display().to_string();
        // A port that was free a moment ago; nginx says so if it is not any more.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {home}/pid;\nerror_log {home}/error.log;\nevents {{}}\nhttp {{\naccess_log off;\n\
             client_body_temp_path {home}/body;\nproxy_temp_path {home}/proxy;\nfastcgi_temp_path {home}/f;\n\
             uwsgi_temp_path {home}/u;\nscgi_temp_path {home}/s;\nkeepalive_requests 1000000;\n\
             types {{ text/html html; text/css css; text/plain txt; }}\nserver {{\nlisten 127.0.0.1:{port};\n\
             root {home}/files;\nif_modified_since before;\nlocation /length {{\nreturn 200 \"length $http_content_length chunked $http_transfer_encoding\\n\";\n\
             }}\n}}\n}}\n"
        );
        let file = folder.write("nginx.conf", configuration);
        let mut command = Command::new("nginx");
        command.arg("-c").arg(file).arg("-e").arg(folder.path("error.log"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut server = Program::start(&mut command);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        eventually("nginx", || {
            assert!(server.is_running(), "nginx has ended: {}", server.stderr());
            TcpStream::connect(address).ok()
        });
        Self { address, _server: server, _folder: folder }
    }
}
