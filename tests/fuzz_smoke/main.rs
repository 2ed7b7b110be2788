//! The fuzz targets of `tests/fuzz` over their corpus and seeded mutations of it, so that they cannot rot and their
//! corpus cannot fail. `FUZZ_RUNS=N` and `FUZZ_SEED=N` choose how much and which.
#![cfg(feature = "appliance")]

use std::path::Path;

use twintier::engine::sim::Random;

mod subject {
    pub use twintier::{http1, statements};
}
#[path = "../fuzz/targets.rs"]
mod targets;

/// Inputs for each target.
const RUNS: usize = 20_000;
/// Bytes of an input, at most.
const BYTES_MAX: usize = 4096;

/// Pieces that messages, statements and forms are made of, sound and unsound.
const PIECES: [&[u8]; 64] = [
    b"GET ",
    b"POST ",
    b"OPTIONS * ",
    b"/",
    b"/a?b=c ",
    b"http://a/",
    b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\0",
    b": ",
    b"Host: a\r\n",
    b"Host: [::1]:80\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 18446744073709551615\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close, x\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"\t",
    b" ",
    b"\xff",
    b"\xc3\xa4",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 204 \r\n",
    b"HTTP/1.0 304\r\n",
    b"HTTP/1.1 101 x\r\n",
    b"[",
    b"]",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b";a=\"b\"",
    b";",
    b"\"",
    b"\\",
    b"X-A: b\r\n",
    b"host a.example\n",
    b"host *\n",
    b"pass /s/* files s\n",
    b"proxy /a/* cluster app\n",
    b"proxy /* upstream 127.0.0.1:80 unix:/run/a.sock\n",
    b"redirect / /b/ 302\n",
    b"fail /x 404\n",
    b"# c\n",
    b"/*",
    b"upstream ",
    b"a=b&",
    b"%41",
    b"%2f",
    b"%2e%2e",
    b"%00",
    b"%zz",
    b"+",
    b"&",
    b"=",
    b"..",
    b"//",
    b"/./",
    b"%",
];

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Changes some places of an input.
fn mutate(input: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.size(6) {
        let at = random.size(input.len() + 1);
        match random.size(6) {
            0 => {
                let piece = PIECES[random.size(PIECES.len())];
                input.splice(at..at, piece.iter().copied());
            }
            1 if !input.is_empty() => {
                let at = random.size(input.len());
                input[at] = u8::try_from(random.below(256)).unwrap();
            }
            2 if !input.is_empty() => {
                let end = (at + random.size(8)).min(input.len());
                input.drain(at.min(end)..end);
            }
            3 => input.truncate(at),
            4 => {
                let end = (at + random.size(40)).min(input.len());
                let part = input[at..end].to_vec();
                let to = random.size(input.len() + 1);
                input.splice(to..to, part);
            }
            _ => {
                let byte = *b"\r\n\t :;,=/%\0\"\\0af".get(random.size(17)).unwrap_or(&b' ');
                input.insert(at, byte);
            }
        }
    }
    input.truncate(BYTES_MAX);
}

fn smoke(name: &str) {
    let number = |variable: &str, default: u64| std::env::var(variable).map_or(default, |text| text.parse().unwrap());
    let (runs, seed) = (number("FUZZ_RUNS", RUNS as u64), number("FUZZ_SEED", 1));
    let (_, target) = targets::TARGETS.into_iter().find(|(each, _)| *each == name).unwrap();
    let corpus = corpus(name);
    assert!(corpus.len() >= 5, "the corpus of {name} has {} inputs", corpus.len());
    let check = |input: &[u8], what: &str| {
        if std::panic::catch_unwind(|| target(input)).is_err() {
            panic!("{name}, {what}: {:?}", input.escape_ascii().to_string());
        }
    };
    for (index, input) in corpus.iter().enumerate() {
        check(input, &format!("number {index} of its corpus"));
    }
    let mut random = Random(seed);
    for run in 0..runs {
        let mut input = corpus[random.size(corpus.len())].clone();
        if random.chance(150) {
            input = (0..random.size(12)).flat_map(|_| PIECES[random.size(PIECES.len())].iter().copied()).collect();
        }
        mutate(&mut input, &mut random);
        check(&input, &format!("run {run}, FUZZ_SEED={seed}"));
    }
}

#[test]
fn request_head() {
    smoke("request_head");
}

#[test]
fn response_head() {
    smoke("response_head");
}

#[test]
fn body_framing() {
    smoke("body_framing");
}

#[test]
fn statement_grammar() {
    smoke("statement_grammar");
}

#[test]
fn form_decoding() {
    smoke("form_decoding");
}
