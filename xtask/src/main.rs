//! `cargo xtask`: everything that is done to this repository, in one place that needs nothing but Cargo.

mod agents;
mod clients;
mod consent;
mod cross;
mod debian;
mod demo;
mod deny;
mod dist;
mod fuzz;
mod platforms;
mod policies;
mod process;
mod python;
mod sdk;
mod test;
mod wasm;
mod wine;
mod workspace;

use consent::Consent;
use std::process::ExitCode;
use wasm::Source;
use workspace::{Profile, Workspace};

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  test [--fast] [--long]  everything a change must pass: policies, binaries, all Rust tests, clippy, rustfmt,
                          cargo-deny, and the official SDKs for Python and Node driving the real proxy
        --fast            without the SDKs
        --long            with the tests that take minutes (SPILLWAY_LONG=1), with fuzz, platforms and dist
  clients [...]           real client libraries, each case directly and through Spillway: what differs, and a table
        --short           only the newest SDKs and the cases that each change must pass, as test does
        --client NAME     only this client; --help names the options that are left
  agents [...]            docs/clients.md tried as it stands, and coding agents doing a task, directly and through Spillway
        --agent NAME      only this agent; --help names the options that are left
  demo [--stay]           `spillway demo --fast`, and then the long form: a provider fails, requests are kept, a policy
                          is swapped, the provider comes back, and nothing is lost
        --stay            leave everything running afterwards, to try things by hand
  bench [--proxy]         what decisions and policies cost, by criterion, and what policies cost the whole proxy
        --proxy           only the latter
  simulate [...]          outages, overloads and herds over the real core, thousands of seeds; --help says more
  fuzz [TARGET] [--seconds N]
                          hand bytes of every kind to what reads streams, bodies, requests, errors and compressed bodies
        --seconds N       for N seconds instead of 60, all targets together
  platforms               what there is for macOS and Windows: linted, built, and the Windows build tested under Wine;
                          it compiles the Wasm engine once more for each
  policies [--debian]     build policies/* and put them into target/policies/NAME.wasm
        --debian          with Debian's Rust packages, even where rustup has the Wasm target
  sdk                     write sdk/policy.lock anew, after Cargo.lock has changed: it pins what new policies use
  dist [--target T]...    static binaries, archives, Debian packages, the container's files, sums and bills of materials
                          in target/packages/, each tried; it compiles the Wasm engine once more for each target
        --target T        only for x86_64-unknown-linux-musl or aarch64-unknown-linux-musl
  help                    this text

  --install               test, clients, agents, demo, bench, fuzz, platforms, policies and dist then install what is missing:
                          Debian's packages as root, and cargo-deny into the target folder; without it they say what is
                          missing and how it is had

CARGO_TARGET_DIR is respected. Exit codes: 0 well, 1 something failed, 2 the arguments are wrong.
";

/// What the arguments ask for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Help,
    Policies { source: Source, consent: Consent },
    Test(test::Options),
    Clients(clients::Options),
    Agents(agents::Options),
    Demo { stay: bool, consent: Consent },
    Bench { proxy_only: bool, consent: Consent },
    Platforms { consent: Consent },
    Simulate(Vec<String>),
    Fuzz(fuzz::Options),
    Sdk,
    Dist(dist::Options),
}

impl Request {
    /// Reads the arguments behind the program's name; an error says which of them is wrong.
    fn parse(arguments: &[String]) -> Result<Request, String> {
        let mut words = arguments.iter().map(String::as_str);
        let (command, options): (_, Vec<&str>) = (words.next(), words.collect());
        let only = |known: &[&str]| match options.iter().find(|option| !known.contains(option)) {
            Some(unknown) => Err(format!("{} has no option {unknown}", command.unwrap_or_default())),
            None => Ok(()),
        };
        let given = |option: &str| options.contains(&option);
        let consent = if given("--install") { Consent::Given } else { Consent::Withheld };
        match command {
            None => Err("a command is missing".to_owned()),
            Some("help" | "--help" | "-h") => Ok(Request::Help),
            Some("policies") => {
                only(&["--debian", "--install"])?;
                let source = if given("--debian") { Source::Debian } else { Source::Any };
                Ok(Request::Policies { source, consent })
            }
            Some("sdk") => {
                only(&[])?;
                Ok(Request::Sdk)
            }
            Some("test") => {
                only(&["--fast", "--long", "--install"])?;
                Ok(Request::Test(test::Options { sdks: !given("--fast"), long: given("--long"), consent }))
            }
            // The driver reads what is left.
            Some("clients") => {
                let ours = ["--short", "--install"];
                let rest = options.iter().filter(|option| !ours.contains(option));
                let rest = rest.map(|option| (*option).to_owned()).collect();
                Ok(Request::Clients(clients::Options { short: given("--short"), rest, consent }))
            }
            // So does what lets the agents work.
            Some("agents") => {
                let rest = options.iter().filter(|option| **option != "--install");
                let rest = rest.map(|option| (*option).to_owned()).collect();
                Ok(Request::Agents(agents::Options { rest, consent }))
            }
            Some("demo") => {
                only(&["--stay", "--install"])?;
                Ok(Request::Demo { stay: given("--stay"), consent })
            }
            Some("dist") => dist::Options::parse(&options).map(Request::Dist),
            Some("fuzz") => fuzz::Options::parse(&options).map(Request::Fuzz),
            Some("platforms") => {
                only(&["--install"])?;
                Ok(Request::Platforms { consent })
            }
            // Its options are its own.
            Some("simulate") => Ok(Request::Simulate(options.iter().map(|option| (*option).to_owned()).collect())),
            Some("bench") => {
                only(&["--proxy", "--install"])?;
                Ok(Request::Bench { proxy_only: given("--proxy"), consent })
            }
            Some(unknown) => Err(format!("there is no command {unknown}")),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let request = match Request::parse(&arguments) {
        Ok(request) => request,
        Err(mistake) => {
            eprintln!("xtask: {mistake}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match serve(&request) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("\nxtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn serve(request: &Request) -> Result<(), String> {
    let workspace = Workspace::find()?;
    match request {
        Request::Help => {
            print!("{USAGE}");
            Ok(())
        }
        Request::Policies { source, consent } => policies::build(&workspace, *source, *consent, &[policies::POLICIES]),
        Request::Sdk => sdk::write_lock(&workspace),
        Request::Test(options) => test::run_steps(&workspace, *options),
        Request::Clients(options) => clients::run_suite(&workspace, options),
        Request::Agents(options) => agents::run_steps(&workspace, options),
        Request::Platforms { consent } => platforms::run_steps(&workspace, *consent),
        Request::Fuzz(options) => fuzz::run_steps(&workspace, options),
        Request::Demo { stay, consent } => demo::run_demo(&workspace, *stay, *consent),
        Request::Dist(options) => dist::run_steps(&workspace, options),
        Request::Simulate(options) => {
            let package = ["run", "--release", "--quiet", "--package", "spillway-simulate", "--"];
            process::run(workspace.cargo().args(package).args(options))
        }
        Request::Bench { proxy_only, consent } => bench(&workspace, *proxy_only, *consent),
    }
}

/// What is measured is what is shipped. Everything is built by one command: with link-time optimisation, another selection
/// would compile all dependencies another time.
fn bench(workspace: &Workspace, proxy_only: bool, consent: Consent) -> Result<(), String> {
    policies::build(workspace, Source::Any, consent, &[policies::POLICIES, policies::GUESTS])?;
    let benches = |only: &[&str]| {
        let mut cargo = workspace.with_products(workspace.cargo(), Profile::Dist);
        cargo.args(["bench", "--profile", Profile::Dist.name(), "--workspace"]);
        for name in only {
            cargo.args(["--bench", name]);
        }
        cargo
    };
    let all = ["proxy", "decisions", "policies"];
    process::run(benches(&all).arg("--no-run"))?;
    process::run(&mut benches(if proxy_only { &all[..1] } else { &all }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Request::parse(&words)
    }

    #[test]
    fn commands_and_their_options_are_understood() {
        let consent = Consent::Withheld;
        let policies = |source| Ok(Request::Policies { source, consent });
        assert_eq!(parse("--help"), Ok(Request::Help));
        assert_eq!(parse("policies"), policies(Source::Any));
        assert_eq!(parse("sdk"), Ok(Request::Sdk));
        assert_eq!(parse("policies --debian"), policies(Source::Debian));
        let test = |sdks, long| Ok(Request::Test(test::Options { sdks, long, consent }));
        assert_eq!((parse("test"), parse("test --long --fast")), (test(true, false), test(false, true)));
        let clients = |short, rest: &[&str]| {
            let rest = rest.iter().map(|word| (*word).to_owned()).collect();
            Ok(Request::Clients(clients::Options { short, rest, consent }))
        };
        assert_eq!(parse("clients --short"), clients(true, &[]));
        assert_eq!(
            parse("clients --client litellm --markdown"),
            clients(false, &["--client", "litellm", "--markdown"])
        );
        let rest = ["--agent", "aider"].map(str::to_owned).to_vec();
        assert_eq!(parse("agents --agent aider"), Ok(Request::Agents(agents::Options { rest, consent })));
        assert_eq!(parse("demo --stay"), Ok(Request::Demo { stay: true, consent }));
        assert_eq!(parse("bench"), Ok(Request::Bench { proxy_only: false, consent }));
        assert_eq!(parse("bench --proxy"), Ok(Request::Bench { proxy_only: true, consent }));
        let sse = fuzz::Options { seconds: 5, only: Some("sse".into()), consent };
        assert_eq!(parse("fuzz sse --seconds 5"), Ok(Request::Fuzz(sse)));
        assert_eq!(parse("simulate --seeds 7"), Ok(Request::Simulate(vec!["--seeds".into(), "7".into()])));
    }

    #[test]
    fn only_the_users_word_allows_to_install() {
        let consent = Consent::Given;
        assert_eq!(parse("policies --install"), Ok(Request::Policies { source: Source::Any, consent }));
        let options = test::Options { sdks: false, long: false, consent };
        assert_eq!(parse("test --fast --install"), Ok(Request::Test(options)));
        assert_eq!(parse("demo --install"), Ok(Request::Demo { stay: false, consent }));
        assert_eq!(parse("bench --install"), Ok(Request::Bench { proxy_only: false, consent }));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (line, named) in [("deploy", "deploy"), ("test --quick", "--quick"), ("demo --fast", "--fast")] {
            assert!(parse(line).is_err_and(|mistake| mistake.contains(named)), "{line}");
        }
        assert!(parse("").is_err());
    }

    #[test]
    fn the_usage_text_and_the_reference_name_every_command_and_option() {
        const REFERENCE: &str = include_str!("../../docs/commands.md");
        let words = [
            "test",
            "--fast",
            "--long",
            "clients",
            "--short",
            "--client",
            "agents",
            "--agent",
            "demo",
            "--stay",
            "bench",
            "--proxy",
            "simulate",
            "fuzz",
            "--seconds",
            "platforms",
            "policies",
            "sdk",
            "dist",
            "--target",
        ];
        for word in words.into_iter().chain(["--debian", "help", "--install"]) {
            assert!(USAGE.contains(&format!("  {word}")), "{word}");
            assert!(word == "help" || REFERENCE.contains(word), "docs/commands.md does not name {word}");
        }
    }
}
