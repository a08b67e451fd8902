//! `cargo xtask fuzz`: hands bytes of every kind to what reads other people's bytes, as `tests/fuzz` says, by libFuzzer.
//!
//! The stable toolchain is enough: libFuzzer comes as sources with its crate, and needs a C++ compiler. What it is told
//! by are counters that LLVM puts into each branch, as `cargo fuzz` has it do.

use crate::consent::Consent;
use crate::debian;
use crate::process::{line, output, run, step, succeeds};
use crate::workspace::Workspace;
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is fuzzed: the names of the binaries, and of the folders with what they begin with.
const TARGETS: [&str; 5] = ["sse", "bodies", "requests", "errors", "compressed"];

/// Streams as they were recorded, which the tests of the proxy read as well: those of events begin with them, too.
const RECORDED: &str = "tests/fuzz/recorded";

/// How long all of them take together, unless it is said.
const SECONDS_DEFAULT: u64 = 60;

/// What makes LLVM count: each edge of the code that is taken, and what is compared with what.
const COUNTERS: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-stack-depth",
];

/// What is tried is at most so long: whatever can be wrong is so in short bytes, which are tried more often.
const BYTES_MAX: usize = 4 << 10;
/// Whoever takes longer for so few bytes hangs.
const TIMEOUT_S: u64 = 10;
/// Whoever needs more memory for so few bytes has no bound on it.
const MEMORY_MIB_MAX: u64 = 512;
/// Lines of a failure that are shown; the log has all of them.
const LINES_SHOWN: usize = 40;

/// What `cargo xtask fuzz` is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// How long all targets take together, in seconds.
    pub(crate) seconds: u64,
    /// The target that is run alone; otherwise all of them, one after the other.
    pub(crate) only: Option<String>,
    /// Whether what is missing may be installed.
    pub(crate) consent: Consent,
}

impl Options {
    /// All targets, for as long as nobody says otherwise.
    pub(crate) fn all(consent: Consent) -> Options {
        Options { seconds: SECONDS_DEFAULT, only: None, consent }
    }

    /// Reads the words behind the command; an error says which of them is wrong.
    pub(crate) fn parse(words: &[&str]) -> Result<Options, String> {
        let mut options = Options::all(Consent::Withheld);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if *word == "--seconds" {
                let seconds = words.next().and_then(|seconds| seconds.parse().ok()).filter(|seconds| *seconds > 0);
                options.seconds = seconds.ok_or("--seconds needs a whole number of seconds")?;
            } else if *word == "--install" {
                options.consent = Consent::Given;
            } else if TARGETS.contains(word) {
                options.only = Some((*word).to_owned());
            } else {
                return Err(format!("fuzz has no option and no target {word}; its targets are {}", TARGETS.join(", ")));
            }
        }
        Ok(options)
    }
}

/// Builds the targets and runs each for its share of the time.
///
/// # Errors
/// The first failure that is found, with the command that repeats it.
pub(crate) fn run_steps(workspace: &Workspace, options: &Options) -> Result<(), String> {
    let host = host(workspace)?;
    step("fuzz targets", || {
        if env::var_os("CXX").is_none() && !succeeds(workspace.command("c++").arg("--version")) {
            debian::require(&["g++"], options.consent)?;
        }
        let mut cargo = workspace.cargo();
        // With a target named, build scripts and macros are compiled without counters.
        cargo.args(["build", "--release", "--bins", "--manifest-path", "tests/fuzz/Cargo.toml", "--target", &host]);
        cargo.env("CARGO_ENCODED_RUSTFLAGS", COUNTERS.join("\u{1f}"));
        run(cargo.env("CARGO_TARGET_DIR", folder(workspace)))
    })?;
    let targets: Vec<&str> = match &options.only {
        Some(only) => vec![only],
        None => TARGETS.to_vec(),
    };
    let seconds = (options.seconds / targets.len() as u64).max(1);
    for target in targets {
        step(&format!("fuzzing {target} for {seconds} s"), || run_target(workspace, &host, target, seconds))?;
    }
    Ok(())
}

/// Where everything of it lies: another compilation of everything, what was found to be worth trying, and failures.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("fuzz")
}

/// What this machine is called by the compiler.
fn host(workspace: &Workspace) -> Result<String, String> {
    let mut rustc = workspace.command("rustc");
    let version = output(rustc.arg("-vV")).ok_or("`rustc -vV` says nothing")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("`rustc -vV` names no host")?.to_owned())
}

fn run_target(workspace: &Workspace, host: &str, target: &str, seconds: u64) -> Result<(), String> {
    let folder = folder(workspace);
    let (corpus, failures) = (folder.join("corpus").join(target), folder.join("failures").join(target));
    for needed in [&corpus, &failures] {
        fs::create_dir_all(needed).map_err(|error| format!("{}: {error}", needed.display()))?;
    }
    let log = folder.join(format!("{target}.log"));
    let binary = folder.join(host).join("release").join(target);
    let mut command = fuzzer(workspace, &binary);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", failures.display()));
    command.args([&corpus, &workspace.root.join("tests/fuzz/seeds").join(target)]);
    if target == "sse" {
        command.arg(workspace.root.join(RECORDED));
    }
    let output = File::create(&log).and_then(|log| Ok((log.try_clone()?, log)));
    let (stdout, stderr) = output.map_err(|error| format!("{}: {error}", log.display()))?;
    let status = command.stdout(stdout).stderr(stderr).status();
    let status = status.map_err(|error| format!("cannot run `{}`: {error}", line(&command)))?;
    let said = fs::read(&log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    if status.success() {
        println!("{}", said.lines().rfind(|line| line.starts_with("Done ")).unwrap_or("Done"));
        return Ok(());
    }
    // What libFuzzer was busy with is of no interest, unlike what the failure says of itself.
    let failure = said.lines().skip_while(|line| !tells_of_a_failure(line)).take(LINES_SHOWN);
    failure.for_each(|line| println!("{line}"));
    let found = said.lines().find_map(|line| line.split("Test unit written to ").nth(1));
    Err(match found {
        None => format!("`{}` failed ({status}); {} has what it said", line(&command), log.display()),
        Some(found) => format!(
            "{target} fails on what lies in {found}. This repeats it:\n\n    {} {found}\n\nOnce it is mended, keep the \
             file in tests/fuzz/seeds/{target}/ under a name that says what it is.",
            line(&fuzzer(workspace, &binary)),
        ),
    })
}

fn fuzzer(workspace: &Workspace, binary: &Path) -> Command {
    let mut command = workspace.command(binary);
    command.arg(format!("-max_len={BYTES_MAX}")).arg(format!("-timeout={TIMEOUT_S}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
    command
}

fn tells_of_a_failure(line: &str) -> bool {
    line.contains("panicked at") || line.contains("ERROR: libFuzzer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fuzzed_and_for_how_long_is_understood() {
        assert_eq!(Options::parse(&[]), Ok(Options::all(Consent::Withheld)));
        assert_eq!(Options::parse(&["--install"]), Ok(Options::all(Consent::Given)));
        let one = Options { seconds: 5, only: Some("sse".to_owned()), consent: Consent::Withheld };
        assert_eq!(Options::parse(&["sse", "--seconds", "5"]), Ok(one));
        for words in [&["--seconds"][..], &["--seconds", "soon"], &["--seconds", "0"], &["everything"], &["--stay"]] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn each_target_has_its_binary_and_what_it_begins_with() {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz");
        let names = |folder: &str| {
            let entries = fs::read_dir(fuzz.join(folder)).expect("a folder");
            let mut names: Vec<String> = entries
                .map(|entry| entry.expect("an entry").path())
                .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
                .collect();
            names.sort();
            names
        };
        let mut targets = TARGETS.map(str::to_owned).to_vec();
        targets.sort();
        assert_eq!((names("src/bin"), names("seeds")), (targets.clone(), targets));
    }
}
