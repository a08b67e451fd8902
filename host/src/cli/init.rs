//! `spillway init`: a configuration of the things that people change, for the providers that this shell tells of.

mod content;
mod draft;

use self::content::{Fallback, base_url, content, fallback};
use super::providers::{self, Found};
use crate::config::{DEFAULT_FILE, declared};
use crate::runtime::durable_file::{self, Access};
use crate::runtime::screen::{self, ASIDE, COMMAND, HEADING, styled};
use crate::start::shell::VARIABLES;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// `spillway init …`
#[derive(Debug, clap::Args)]
pub struct InitArguments {
    /// The file to write.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    path: PathBuf,
    /// Print it instead of writing it.
    #[arg(long)]
    print: bool,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
}

/// Writes the file, or prints it. Exit codes: 0; 1 where it cannot be written; 2 where one is there that must not be
/// replaced.
pub fn run(arguments: &InitArguments) -> ExitCode {
    let Some(listen) = listen() else {
        screen::complain("spillway: this Spillway does not know where it listens, which is a mistake in it\n");
        return ExitCode::FAILURE;
    };
    let found = providers::found(|name| std::env::var(name).ok(), |url| providers::leads_to(url, listen));
    let text = content(&found, listen);
    if arguments.print {
        screen::print(&text);
        return ExitCode::SUCCESS;
    }
    let path = &arguments.path;
    match write(path, &text, arguments.force) {
        Ok(()) => {
            screen::print(&told(path, &found, listen));
            ExitCode::SUCCESS
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let path = path.display();
            screen::complain(&format!(
                "spillway: {path} is there already, and was left as it is. --print shows what would be written, --force \
                 replaces it, and --path names another file.\n"
            ));
            ExitCode::from(2)
        }
        Err(error) => {
            let path = path.display();
            screen::complain(&format!("spillway: {path} cannot be written: {error}. --path names another file.\n"));
            ExitCode::FAILURE
        }
    }
}

/// Where Spillway listens by the file: as by default, since the file says nothing else.
fn listen() -> Option<SocketAddr> {
    declared("server.listen")?.default?.trim_matches('"').parse().ok()
}

/// Writes the file, and replaces one that is there only by `force`: in its place if a link leads there, and with who may
/// read it.
fn write(path: &Path, text: &str, force: bool) -> io::Result<()> {
    if force && fs::symlink_metadata(path).is_ok() {
        let target = fs::canonicalize(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::other("it is a link that leads nowhere; remove it first"),
            _ => error,
        })?;
        let metadata = fs::metadata(&target)?;
        return match metadata.is_file() {
            true => durable_file::replace(&target, Access::Like(metadata.permissions()), text.as_bytes()),
            false => Err(io::Error::other("it is no regular file")),
        };
    }
    // One that appears in this moment is not overwritten either.
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// What was written, what was found, and what comes next.
fn told(path: &Path, found: &[Found], listen: SocketAddr) -> String {
    let mut text = format!("{} is written. No key stands in it.\n\n", styled(HEADING, path.display()));
    // Writing to a string cannot fail.
    if found.is_empty() {
        text.push_str(
            "No variable of this shell tells of a provider; OpenAI, Anthropic and Gemini are served anyway.\n",
        );
    } else {
        let mut table = screen::table(["provider", "told by", "your application reaches it by"]);
        for found in found {
            let by = VARIABLES.into_iter().find(|(dialect, ..)| found.is_known && *dialect == found.dialect);
            let reached =
                by.map_or_else(|| base_url(found, listen), |(_, name, _)| format!("{name}, set by spillway env"));
            table.add_row([styled(HEADING, found.name), found.variables.join(", "), reached]);
        }
        table.to_string().lines().for_each(|line| text.push_str(&format!("{}\n", line.trim_end())));
    }
    if let Some(Fallback { first, second, is_live }) = fallback(found) {
        let (first, second) = (first.name, second.name);
        let _ = match is_live {
            true => writeln!(text, "\nA fallback is in force: where {first} cannot serve a chat, {second} does."),
            false => writeln!(text, "\nA fallback from {first} to {second} stands in it, to be switched on."),
        };
    }
    let config = match path == Path::new(DEFAULT_FILE) {
        true => String::new(),
        false => format!(" --config {}", path.display()),
    };
    let _ = writeln!(text, "\n{}", styled(HEADING, "Next"));
    let steps = [
        (format!("spillway doctor{config}"), "says whether it can work here"),
        (format!("spillway run{config}"), "serves"),
        (format!("eval \"$(spillway env{config})\""), "in the shell of your application, and start it there"),
    ];
    let widest = steps.iter().map(|(command, _)| command.chars().count()).max().unwrap_or_default();
    for (command, what) in steps {
        let space = " ".repeat(widest - command.chars().count());
        let _ = writeln!(text, "  {}{space}  {}", styled(COMMAND, command), styled(ASIDE, what));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_is_replaced_only_by_force() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spillway.toml");
        write(&path, "first", false).expect("written");
        let refused = write(&path, "second", false).expect_err("it is there");
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "first");
        write(&path, "third", true).expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), "third");
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let refused = write(folder.path(), "text", true).expect_err("a folder");
        assert!(refused.to_string().contains("no regular file"), "{refused}");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_replaced_stays_as_private_and_where_it_is() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("kept/mine.toml"), folder.path().join("spillway.toml"));
        fs::create_dir(folder.path().join("kept")).expect("a folder");
        fs::write(&path, "first").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("private");
        symlink("kept/mine.toml", &link).expect("a link");
        for (named, text) in [(&path, "second"), (&link, "third")] {
            write(named, text, true).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("a file"), text);
            let mode = fs::metadata(&path).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{text}");
        }
        assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());

        fs::remove_file(&path).expect("removed");
        let refused = write(&link, "fourth", true).expect_err("it leads nowhere");
        assert!(refused.to_string().contains("leads nowhere"), "{refused}");
    }
}
