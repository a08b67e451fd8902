//! `spillway mock-provider`: a provider for who has no key, or wants to see one fail.

use crate::runtime::screen::{self, COMMAND, HEADING, styled};
use spillway_mock_provider::{BEHAVIOURS, Provider};
use std::process::ExitCode;

/// Serves on this port of 127.0.0.1 until the process is ended.
pub fn run(port: u16) -> ExitCode {
    match Provider::start_on(port) {
        Ok(provider) => {
            screen::print(&introduction(&provider.url()));
            // It serves from a thread of its own.
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            let why = format!("cannot listen on port {port} of 127.0.0.1: {error}. --port 0 takes any that is free");
            screen::complain(&format!("spillway: {why}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Where it is, how Spillway is sent there, and how it is made to fail. The first line is for programs, too.
fn introduction(url: &str) -> String {
    let control = format!("{url}/_control");
    let mut text = format!(
        "listening on {url}\n\n\
         It answers as OpenAI, Anthropic and Gemini do, takes any key, and is ended by Ctrl-C.\n\n\
         {}\n    [upstreams.openai]\n    url = \"{url}\"\n\n{}\n    {}\n",
        styled(HEADING, "Send Spillway there, in spillway.toml (likewise for anthropic and gemini):"),
        styled(HEADING, "Make it fail, until it is told otherwise:"),
        styled(COMMAND, format!("curl -X POST '{control}/WAY'")),
    );
    text.push_str("where WAY is\n");
    for behaviour in BEHAVIOURS {
        text.push_str(&format!("    {:<27} {}\n", behaviour.example, behaviour.meaning));
    }
    text.push_str(&format!(
        "With ?times=N behind it (or &times=N) it is so for the next N calls only.\nWhat it was asked: {}\n",
        styled(COMMAND, format!("curl {control}/stats"))
    ));
    text
}
