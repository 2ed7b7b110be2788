//! The `twintier` program: reads the command line and hands over to the room that does the work.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory as _, Parser};
use twintier::admin::{api, claim, client};
use twintier::cli::{ClaimArgs, Cli, Command, DbArgs, DbCommand, DeployArgs, ProfileArgs, ProxyArgs, SimulateArgs};
use twintier::engine::Waker;
use twintier::floor::{forward, origin};
use twintier::http1::Method;
use twintier::supervisor::{self, Failure, moving};
use twintier::tables::code::CodeVersion;
use twintier::worker::solo;
use twintier::{init, log, manual, simulate};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => match supervisor::plan(&args.profile, &args.set) {
            Ok(plan) => return serve(plan),
            Err(refused) => Err(refused),
        },
        Command::Check(args) => check(&args),
        Command::Claim(args) => return claim_chart(&args),
        Command::Deploy(args) => deploy(&args),
        Command::Proxy(args) => proxy(&args),
        Command::Origin(args) => tool(|stop, waker| {
            origin::run(origin::OriginOptions {
                listen: args.listen.clone(),
                core: args.core,
                engine: args.engine,
                body_bytes: args.body_bytes,
                body_file: args.body_file.clone(),
                content_type: args.content_type.clone(),
                fields: args.field.clone(),
                delay_us: args.delay_us,
                burn_ns: args.burn_ns,
                stop,
                waker,
            })
        }),
        Command::Forward(args) => tool(|stop, waker| {
            forward::run(forward::ForwardOptions {
                listen: args.listen.clone(),
                to: args.to.clone(),
                core: args.core,
                engine: args.engine,
                stop,
                waker,
            })
        }),
        Command::Simulate(args) => run_seeds(&args),
        Command::Db(DbArgs { command: DbCommand::Migrate(args) }) => {
            moving::run(&args.from, &args.to, &args.schema).map(|table| print(&table)).map_err(Failure::failed)
        }
        Command::Init(args) => match init::write(&args.dir) {
            Ok(next_steps) => {
                print(&next_steps);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::usage(error.to_string())),
            Err(error) => Err(Failure::failed(error.to_string())),
        },
        Command::Completions(args) => {
            print(&String::from_utf8_lossy(&manual::completions(args.shell, "twintier", Cli::command())));
            Ok(())
        }
        Command::Man(args) => manual::pages(Cli::command(), &args.dir).map_err(Failure::failed),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// Runs the appliance. From here on what happens is told by log lines, also why it ended.
fn serve(plan: supervisor::Plan) -> ExitCode {
    let log = match log::install(&plan.profile.log.settings()) {
        Ok(log) => log,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(1);
        }
    };
    let outcome = supervisor::serve(plan);
    let code = match &outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.message.lines() {
                ::log::error!(target: "twintier::supervisor", exit_code = failure.code, error = line; "ended by a failure");
            }
            ExitCode::from(failure.code)
        }
    };
    log.stop();
    code
}

/// Runs a program of one thread that ends on a signal. It logs as the appliance does, with the defaults.
fn tool(run: impl FnOnce(Arc<std::sync::atomic::AtomicBool>, Waker) -> std::io::Result<()>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(error.to_string());
    let log = log::install(&log::Settings::default()).map_err(Failure::failed)?;
    let waker = Waker::new().map_err(failed)?;
    let stop = supervisor::stop_signal_with(waker.clone())?;
    let outcome = run(stop, waker).map_err(failed);
    log.stop();
    outcome
}

fn proxy(args: &ProxyArgs) -> Result<(), Failure> {
    tool(|stop, waker| {
        solo::run(solo::ProxyOptions {
            listen: args.listen.clone(),
            to: args.to.clone(),
            core: args.core,
            access_log: args.access_log.clone(),
            engine: args.engine,
            pipeline_max: args.pipeline,
            upstream_options: args.upstream_options(),
            connections_max: args.connections_max,
            stop,
            waker,
        })
    })
}

fn run_seeds(args: &SimulateArgs) -> Result<(), Failure> {
    let failed = |count: usize| match count {
        0 => Ok(()),
        count => Err(Failure::failed(format!("{count} seeds failed"))),
    };
    if let Some(seed) = args.seed {
        let outcome = simulate::replay(seed, args.steps);
        print(&outcome.to_string());
        return failed(usize::from(outcome.violation.is_some()));
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = args.threads.and_then(|threads| usize::try_from(threads).ok()).unwrap_or(cores);
    let options = simulate::Options { first: args.first, seeds: args.seeds, steps: args.steps, threads };
    let summary = simulate::run(options);
    print(&summary.to_string());
    failed(summary.failures.len())
}

fn check(args: &ProfileArgs) -> Result<(), Failure> {
    let plan = supervisor::plan(&args.profile, &args.set)?;
    print(&supervisor::describe(&args.profile, &plan));
    Ok(())
}

/// Prints, and does not mind a reader who has seen enough.
fn print(text: &str) {
    // The only error that matters, a full disk behind a redirection, shows in the file.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
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
                print(&format!("{chart:#}\n"));
            } else {
                print(&claim::render(&chart));
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
            print(&answer.text());
            Ok(())
        }
        422 => Err(Failure::usage(format!("the deploy was refused, nothing has changed:\n{}", answer.text().trim()))),
        status => Err(Failure::failed(format!("{}: {status} {}", args.admin, answer.text().trim()))),
    }
}
