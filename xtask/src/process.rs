//! Running other programs, and saying what they did.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Runs a command to its end, its output shown.
///
/// # Errors
/// When it cannot be started or fails; the message has the command line.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("cannot run `{}`: {error}", line(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed ({status})", line(command))) }
}

/// Whether a command can be run and succeeds, its output hidden.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// What a command prints, without the space around it; `None` if it cannot be run or fails.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// A command as one would type it: the variables set for it that matter, the program, its arguments.
pub(crate) fn line(command: &Command) -> String {
    let mut text = String::new();
    for (name, value) in command.get_envs() {
        // The target folder is the same for all commands and would only hide the rest.
        if let (Some(value), true) = (value, name != "CARGO_TARGET_DIR") {
            let _ = write!(text, "{}={} ", name.display(), value.display());
        }
    }
    text.push_str(&command.get_program().to_string_lossy());
    for argument in command.get_args() {
        let _ = write!(text, " {}", argument.display());
    }
    text
}

/// One step of something longer: a heading, the work, and how long it took.
///
/// # Errors
/// The work's own, preceded by the heading.
pub(crate) fn step(heading: &str, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    println!("\n=== {heading}");
    let began = Instant::now();
    let result = work();
    let ended = if result.is_ok() { "done in" } else { "FAILED after" };
    println!("--- {heading}: {ended} {:.1} s", began.elapsed().as_secs_f64());
    result.map_err(|message| format!("{heading}: {message}"))
}

/// Whether this process may install packages.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).as_deref() == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_reads_as_typed() {
        let mut command = Command::new("cargo");
        command.args(["build", "--release"]).env("RUSTC", "rustc").env("CARGO_TARGET_DIR", "target").env_remove("LANG");
        assert_eq!(line(&command), "RUSTC=rustc cargo build --release");
    }

    #[test]
    fn a_failure_names_its_step_and_its_command() {
        let failed = step("tests", || run(&mut Command::new("false")));
        assert!(failed.is_err_and(|message| message.starts_with("tests: `false` failed")));
        let missing = run(&mut Command::new("no-such-program-anywhere"));
        assert!(missing.is_err_and(|message| message.starts_with("cannot run `no-such-program-anywhere`")));
    }

    #[test]
    fn output_is_only_that_of_success() {
        assert_eq!(output(Command::new("echo").arg("hello")).as_deref(), Some("hello"));
        assert_eq!(output(Command::new("sh").args(["-c", "echo hello; exit 1"])), None);
    }
}
