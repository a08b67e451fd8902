//! `spillway admin`: what operators on other machines show at the admin address.

use crate::admin::tokens::PREFIX;
use crate::config::Role;
use crate::policy::Sha256Sum;
use crate::runtime::screen::{self, COMMAND, HEADING, styled};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use std::process::ExitCode;

/// How many random bytes a token has: nobody guesses one.
const TOKEN_BYTES: usize = 32;

/// `spillway admin …`
#[derive(Debug, clap::Args)]
pub struct AdminArguments {
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AdminCommand {
    /// Tokens, which whoever asks from another machine shows.
    Token(TokenArguments),
}

#[derive(Debug, clap::Args)]
struct TokenArguments {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, clap::Subcommand)]
enum TokenCommand {
    /// Make a token: it is shown this once, with the lines of the configuration that hold its hash.
    New(NewArguments),
}

#[derive(Debug, clap::Args)]
struct NewArguments {
    /// Under which name the configuration has it: who uses it.
    #[arg(value_parser = name)]
    name: String,
    /// What it may do: see how things stand, or change them as well.
    #[arg(long, value_enum, default_value = "read")]
    role: Role,
    /// Answer as JSON.
    #[arg(long)]
    json: bool,
}

/// A name that stands in a table's head as it is.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("a name has letters, digits, - and _, such as prometheus".to_owned()),
    }
}

/// Does what was asked for. Exit codes: 0, and 1 where the system gives no random numbers.
pub fn run(arguments: &AdminArguments) -> ExitCode {
    let AdminCommand::Token(TokenArguments { command: TokenCommand::New(arguments) }) = &arguments.command;
    let mut bytes = [0; TOKEN_BYTES];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        screen::complain("spillway: the system gives no random numbers.\n");
        return ExitCode::FAILURE;
    }
    screen::print(&new(arguments, &format!("{PREFIX}{}", hex::encode(bytes))));
    ExitCode::SUCCESS
}

/// What is said of a token that was made.
fn new(arguments: &NewArguments, token: &str) -> String {
    let (name, role, sha256) = (&arguments.name, arguments.role.as_str(), Sha256Sum::of(token.as_bytes()));
    if arguments.json {
        let made = json!({"name": name, "role": role, "token": token, "sha256": sha256.to_string()});
        return format!("{made:#}\n");
    }
    let lines = format!("[admin.tokens.{name}]\nrole = \"{role}\"\nsha256 = \"{sha256}\"");
    let ask = "curl -H \"Authorization: Bearer $SPILLWAY_ADMIN_TOKEN\" https://HOST:4142/status";
    format!(
        "{}\n\n  {}\n\n{}\n\n{lines}\n\n{}\n\n  {}\n  {}\n",
        styled(HEADING, "The token. It is shown this once, and stands nowhere:"),
        styled(COMMAND, token),
        styled(HEADING, "For the configuration, which holds its hash alone; it counts from the next start on:"),
        styled(HEADING, "Whoever has it in the variable SPILLWAY_ADMIN_TOKEN asks from another machine:"),
        styled(COMMAND, "spillway status --admin https://HOST:4142"),
        styled(COMMAND, ask),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::path::Path;

    #[test]
    fn what_is_said_of_a_token_is_a_configuration_that_takes_it() {
        let arguments = NewArguments { name: "prometheus".to_owned(), role: Role::Operate, json: false };
        let said = anstream::adapter::strip_str(&new(&arguments, "a-token")).to_string();
        let lines: Vec<&str> = said.lines().skip_while(|line| !line.starts_with('[')).take(3).collect();
        let config = parse(&lines.join("\n"), Path::new("")).expect("a configuration");
        let tokens: Vec<_> = config.admin.tokens.iter().collect();
        assert_eq!(tokens, [("prometheus", Role::Operate, Sha256Sum::of(b"a-token"))]);
        assert!(name("a b").is_err() && name("").is_err() && name("a.b").is_err());
    }
}
