//! The foreign readers: each gets every request and says what it sees.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::Value;

use super::program::Program;
use super::seen::Seen;
use super::{PATIENCE, eventually, message};

/// What a reader sees in each request, or why it refuses it.
type Views = Vec<Result<Seen, String>>;

pub struct Reader {
    pub name: &'static str,
    /// An error if the program is not there.
    pub read: fn(&[Vec<u8>]) -> Result<Views, String>,
}

pub const READERS: [Reader; 3] = [
    Reader { name: "node's llhttp", read: node },
    Reader { name: "Python's h11", read: h11 },
    Reader { name: "nginx", read: nginx },
];

fn beside(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential").join(name)
}

fn is_there(program: &str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("`{program} {}` fails", arguments.join(" "))),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

/// The JSON that both scripts write.
fn seen(view: &Value) -> Result<Seen, String> {
    if let Some(wrong) = view["wrong"].as_str() {
        return Err(wrong.to_owned());
    }
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let fields: Vec<String> = view["fields"].as_array().unwrap().iter().map(text).collect();
    let fields = fields.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    Ok(Seen::new(text(&view["method"]), text(&view["target"]), fields, from_hex(view["body"].as_str().unwrap())))
}

/// Sends each request over one connection for all, or a new one where the reader has closed; `view` makes something of
/// the answer's fields.
fn ask(address: SocketAddr, passed: &[Vec<u8>], view: impl Fn(&message::Response) -> Result<Seen, String>) -> Views {
    let mut open: Option<TcpStream> = None;
    let mut views = Vec::new();
    for bytes in passed {
        let stream = open.get_or_insert_with(|| {
            let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        });
        stream.write_all(bytes).unwrap();
        let (mut input, mut buffer, mut ended) = (Vec::new(), [0; 16 * 1024], false);
        let response = loop {
            match message::response(&input, bytes.starts_with(b"HEAD "), ended) {
                Ok(Some((response, taken))) => {
                    assert_eq!(taken, input.len(), "two answers to one request: {}", bytes.escape_ascii());
                    break Ok(response);
                }
                Ok(None) if ended => break Err("no answer".to_owned()),
                Ok(None) => {}
                Err(wrong) => break Err(wrong),
            }
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => ended = true,
                Ok(read) => input.extend_from_slice(&buffer[..read]),
            }
        };
        let closes = response.as_ref().is_ok_and(|response| {
            message::values(&response.head.fields, "connection").iter().any(|value| value.eq_ignore_ascii_case("close"))
        });
        if ended || closes || response.as_ref().is_ok_and(|response| response.status >= 400) {
            open = None;
        }
        views.push(response.and_then(|response| view(&response)));
    }
    views
}

fn node(passed: &[Vec<u8>]) -> Result<Views, String> {
    is_there("node", &["--version"])?;
    let mut command = Command::new("node");
    command.arg(beside("node.js")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Program::start(&mut command);
    let port: u16 = server.ready("port").parse().unwrap();
    Ok(ask(SocketAddr::from(([127, 0, 0, 1], port)), passed, |response| {
        let field = |name| message::values(&response.head.fields, name).first().map(|value| from_hex(value));
        match (field("x-seen"), field("x-wrong")) {
            (Some(view), _) => seen(&serde_json::from_str(&message::latin1(&view)).unwrap()),
            (None, Some(wrong)) => Err(message::latin1(&wrong)),
            (None, None) => Err(response.head.line.clone()),
        }
    }))
}

fn h11(passed: &[Vec<u8>]) -> Result<Views, String> {
    is_there("python3", &["-c", "import h11"])?;
    let mut command = Command::new("python3");
    command.arg(beside("h11_reader.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input: Vec<u8> =
        passed.iter().flat_map(|bytes| [format!("{}\n", bytes.len()).into_bytes(), bytes.clone()].concat()).collect();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "h11_reader.py ended with {}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    Ok(text.lines().map(|line| seen(&serde_json::from_str(line).unwrap())).collect())
}

/// nginx passes each request on to a server of ours: what that one gets is what nginx has seen.
fn nginx(passed: &[Vec<u8>]) -> Result<Views, String> {
    is_there("nginx", &["-v"])?;
    let got: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let keeping = Arc::clone(&got);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), got) = (stream, Arc::clone(&keeping)) else { return };
            thread::spawn(move || keep(stream, &got));
        }
    });
    let folder = std::env::temp_dir().join(format!("twintier-nginx-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    // A port that was free a moment ago; nginx says so if it is not any more.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let configuration = format!(
        "daemon off;\nmaster_process off;\npid {0}/pid;\nerror_log {0}/error.log;\nevents {{}}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {0}/body;\nproxy_temp_path {0}/proxy;\nfastcgi_temp_path {0}/f;\n\
         uwsgi_temp_path {0}/u;\nscgi_temp_path {0}/s;\nkeepalive_requests 1000000;\nkeepalive_timeout 600s;\n\
         underscores_in_headers on;\nignore_invalid_headers off;\nmerge_slashes off;\nlarge_client_header_buffers 4 64k;\n\
         upstream back {{ server {to}; keepalive 4; }}\nserver {{\nlisten 127.0.0.1:{port};\nlocation / {{\n\
         proxy_pass http://back;\nproxy_http_version 1.1;\nproxy_set_header Host $http_host;\n\
         proxy_set_header Connection \"\";\n}}\n}}\n}}\n",
        folder.display()
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&file).arg("-e").arg(folder.join("error.log"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut server = Program::start(&mut command);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    eventually("nginx", || {
        assert!(server.is_running(), "nginx has ended: {}", server.stderr());
        TcpStream::connect(address).ok()
    });
    let views = ask(address, passed, |response| {
        let seen = got.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match seen {
            Some(seen) if response.status == 200 => Ok(seen),
            _ => Err(response.head.line.clone()),
        }
    });
    drop(server);
    // What is left behind is in the system's folder for such things.
    let _ = std::fs::remove_dir_all(folder);
    Ok(views)
}

fn keep(mut stream: TcpStream, got: &Mutex<Vec<Seen>>) {
    let (mut input, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        while let Ok(Some((request, taken))) = message::request(&input) {
            input.drain(..taken);
            let seen = Seen::new(request.method, request.target, request.head.fields, request.body);
            got.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => input.extend_from_slice(&buffer[..read]),
        }
    }
}
