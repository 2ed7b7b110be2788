//! The `twintier` program: reads the command line and hands over to the room that does the work.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use twintier::admin::{api, claim, client};
use twintier::budget::Budget;
use twintier::cli::{ClaimArgs, Cli, Command, DeployArgs, ProfileArgs, ProxyArgs};
use twintier::engine::Waker;
use twintier::floor::{forward, origin};
use twintier::http1::Method;
use twintier::supervisor::{self, Failure};
use twintier::tables::code::CodeVersion;
use twintier::worker::solo;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => supervisor::plan(&args.profile, &args.set).and_then(supervisor::serve),
        Command::Check(args) => check(&args),
        Command::Claim(args) => return claim_chart(&args),
        Command::Deploy(args) => deploy(&args),
        Command::Proxy(args) => proxy(&args),
        Command::Origin(args) => tool(|stop, waker| {
            origin::run(origin::OriginOptions {
                listen: args.listen.clone(),
                core: args.core,
                body_bytes: args.body_bytes,
                delay_us: args.delay_us,
                stop,
                waker,
            })
        }),
        Command::Forward(args) => tool(|stop, waker| {
            forward::run(forward::ForwardOptions {
                listen: args.listen.clone(),
                to: args.to.clone(),
                core: args.core,
                stop,
                waker,
            })
        }),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// Runs a program of one thread that ends on a signal.
fn tool(run: impl FnOnce(Arc<std::sync::atomic::AtomicBool>, Waker) -> std::io::Result<()>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(error.to_string());
    let waker = Waker::new().map_err(failed)?;
    let stop = supervisor::stop_signal_with(waker.clone())?;
    run(stop, waker).map_err(failed)
}

fn proxy(args: &ProxyArgs) -> Result<(), Failure> {
    tool(|stop, waker| solo::run(&args.listen, &args.to, args.core, stop, waker))
}

/// Adds a line to a text.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {{
        $out.push_str(&format!($($text)*));
        $out.push('\n');
    }};
}

/// Prints a whole text. Whoever reads it may have left, as `head` does: that is no error.
fn say(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn check(args: &ProfileArgs) -> Result<(), Failure> {
    let plan = supervisor::plan(&args.profile, &args.set)?;
    let mut out = String::new();
    let placement = &plan.placement;
    line!(out, "profile {} is sound", args.profile.display());
    line!(out, "placement: {} workers, {} fronts, {} replicas",
        placement.workers.len(),
        placement.fronts(),
        placement.replicas()
    );
    for (index, worker) in placement.workers.iter().enumerate() {
        let front = worker.front.map_or_else(String::new, |front| format!(" front {front}"));
        let replica = worker.replica.map_or_else(String::new, |replica| format!(" replica {replica}"));
        line!(out, "  worker {index:<3} core {:<4} node {}{front}{replica}", worker.cpu.number, worker.cpu.node);
    }
    match placement.housekeeping {
        Some(core) => line!(out, "  housekeeping core {core}: storage, database, passwords, admin"),
        None => line!(out, "  no housekeeping core: storage, database, passwords and admin run where there is room"),
    }
    for remark in &placement.remarks {
        line!(out, "  note: {remark}");
    }
    if !placement.absent.is_empty() {
        line!(out, "  this machine lacks cores {:?}: `serve` would refuse", placement.absent);
    }
    line!(out, "cost");
    out.push_str(&Budget::of(&plan.profile, placement).describe());
    line!(out, "statements: version {}", plan.site.version);
    for route in plan.site.table.routes() {
        line!(out, "  line {:<4} {}", route.line, route.pattern);
    }
    line!(out, "code tables");
    for application in &plan.code.applications {
        line!(out, "  {} ({}): {} code tables", application.name, application.title, application.code_tables.len());
        for table in &application.code_tables {
            line!(out, "    {}", table.name);
        }
    }
    line!(out, "data tables");
    for shape in &plan.code.shapes.shapes {
        line!(out, "  {} ({} fields, key {})", shape.table, shape.fields.len(), shape.key);
    }
    say(&out);
    Ok(())
}

fn bearer(token: Option<&String>) -> String {
    token.map_or_else(String::new, |token| format!("Bearer {token}"))
}

fn claim_chart(args: &ClaimArgs) -> ExitCode {
    let authorization = bearer(args.token.as_ref());
    let headers = [("authorization", authorization.as_str())];
    let headers = if args.token.is_some() { &headers[..] } else { &[] };
    let answer = client::request(&args.admin, Method::Get, "/claim", headers, b"", Duration::from_secs(30));
    let chart = answer.and_then(|answer| {
        if answer.status != 200 {
            return Err(format!("{}: {} {}", args.admin, answer.status, answer.text().trim()));
        }
        serde_json::from_slice::<serde_json::Value>(&answer.body).map_err(|error| format!("{}: {error}", args.admin))
    });
    match chart {
        Ok(chart) => {
            if args.json {
                say(&format!("{chart:#}\n"));
            } else {
                say(&claim::render(&chart));
            }
            ExitCode::from(u8::from(!claim::holds(&chart)))
        }
        Err(wrong) => {
            eprintln!("{wrong}");
            ExitCode::from(1)
        }
    }
}

fn deploy(args: &DeployArgs) -> Result<(), Failure> {
    let (application, sources) = CodeVersion::read_texts(&args.dir)?;
    let body = serde_json::to_vec(&api::Deploy { application, sources })
        .map_err(|error| Failure::failed(error.to_string()))?;
    let authorization = bearer(args.token.as_ref());
    let mut headers = vec![("content-type", "application/json")];
    if args.token.is_some() {
        headers.push(("authorization", &authorization));
    }
    let answer = client::request(&args.admin, Method::Post, "/deploy", &headers, &body, Duration::from_secs(60))
        .map_err(Failure::failed)?;
    match answer.status {
        200 => {
            say(&answer.text());
            Ok(())
        }
        422 => Err(Failure::usage(format!("the deploy was refused, nothing has changed:\n{}", answer.text().trim()))),
        status => Err(Failure::failed(format!("{}: {status} {}", args.admin, answer.text().trim()))),
    }
}
