use super::*;
use crate::cli::providers;
use crate::config::{self, Config};
use std::net::Ipv4Addr;
use std::path::Path;

/// What tells of each provider that there may be; those that differ in nothing but their place stand together.
const SHELL: [&[(&str, &str)]; 8] = [
    &[("OPENAI_API_KEY", "k")],
    &[("ANTHROPIC_API_KEY", "k")],
    &[("GEMINI_API_KEY", "k")],
    &[("AZURE_OPENAI_ENDPOINT", "https://me.openai.azure.com/"), ("AZURE_OPENAI_API_KEY", "k")],
    &[("OPENROUTER_API_KEY", "k")],
    &[("GROQ_API_KEY", "k")],
    &[
        ("MISTRAL_API_KEY", "k"),
        ("DEEPSEEK_API_KEY", "k"),
        ("TOGETHER_API_KEY", "k"),
        ("FIREWORKS_API_KEY", "k"),
        ("XAI_API_KEY", "k"),
        ("CEREBRAS_API_KEY", "k"),
        ("NVIDIA_API_KEY", "k"),
    ],
    &[("OLLAMA_HOST", "0.0.0.0")],
];

fn listen() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 4141))
}

fn written_for(variables: &[(&str, &str)]) -> String {
    let variable = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
    content(&providers::found(variable, |_| false), listen())
}

fn parsed(text: &str) -> Config {
    config::look(text, Path::new("")).unwrap_or_else(|mistakes| unreachable!("{mistakes:#?}\n{text}"))
}

#[test]
fn it_is_valid_and_without_doubts_whatever_providers_there_are() {
    for subset in 0..1_u32 << SHELL.len() {
        let chosen = SHELL.iter().enumerate().filter(|(index, _)| subset >> index & 1 == 1);
        let variables: Vec<_> = chosen.flat_map(|(_, variables)| variables.iter().copied()).collect();
        let text = written_for(&variables);
        let config = config::parse(&text, Path::new("")).unwrap_or_else(|wrong| unreachable!("{wrong:#?}\n{text}"));
        assert_eq!(config.doubts(), Vec::<String>::new(), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    }
}

/// What is there to be taken: each setting on its own, and a table with all that is in it.
fn choices(text: &str) -> Vec<Vec<usize>> {
    let mut choices: Vec<Vec<usize>> = Vec::new();
    let mut table: Option<Vec<usize>> = None;
    for (number, line) in text.lines().enumerate() {
        let taken = line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' '));
        match (taken, &mut table) {
            (Some(rest), _) if rest.starts_with('[') => table = Some(vec![number]),
            (Some(_), Some(table)) => table.push(number),
            (Some(_), None) => choices.push(vec![number]),
            (None, _) => choices.extend(table.take()),
        }
    }
    choices.extend(table);
    choices
}

/// The text with these choices taken.
fn taken(text: &str, choice: &[usize]) -> String {
    let lines = text.lines().enumerate().map(|(number, line)| match choice.contains(&number) {
        true => line.trim_start_matches('#'),
        false => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_choice_can_be_taken_by_deleting_its_mark() {
    let all: Vec<_> = SHELL.iter().flat_map(|variables| variables.iter().copied()).collect();
    for variables in [&[][..], SHELL[1], &[SHELL[0], SHELL[5]].concat(), &all] {
        let text = written_for(variables);
        let before = format!("{:?}", parsed(&text));
        let choices = choices(&text);
        assert!(choices.len() > 15, "{choices:?}");
        let said = |choice: &[usize]| text.lines().nth(choice[0]).unwrap_or_default();
        let access = choices.iter().find(|choice| said(choice).contains("access_key_env"));
        let access = access.cloned().unwrap_or_default();
        for choice in &choices {
            let said = said(choice);
            // A key takes the access key along, as the sentence above it says.
            let is_key = said.starts_with("#api_key_env");
            let choice = if is_key { [choice.clone(), access.clone()].concat() } else { choice.clone() };
            let config = parsed(&taken(&text, &choice));
            // A default changes nothing; an example does.
            let examples = ["_per_minute", "access_key_env", "unix_socket", "api_key_env", "requests", "[routes"];
            let is_example = examples.iter().any(|word| said.contains(word));
            assert_eq!(format!("{config:?}") != before, is_example, "{said}");
            if is_key {
                assert_eq!(config.doubts(), Vec::<String>::new(), "{said}");
            }
        }
    }
}

#[test]
fn no_value_of_a_variable_stands_in_it_but_addresses() {
    let text = written_for(&[("OPENAI_API_KEY", "sk-canary"), ("AZURE_OPENAI_API_KEY", "sk-canary"), SHELL[3][0]]);
    assert!(!text.contains("canary") && text.contains("me.openai.azure.com"), "{text}");
}

#[test]
fn a_fallback_is_in_force_only_where_it_takes_no_key_of_spillways() {
    let routes = |variables: &[(&str, &str)]| {
        let text = written_for(variables);
        let targets = parsed(&text).routes.iter().map(|(_, route)| format!("{:?}", route.targets)).collect::<Vec<_>>();
        (targets, text)
    };
    let (live, text) = routes(&[SHELL[0], SHELL[7]].concat());
    assert!(live.len() == 1 && live[0].contains("llama3.2"), "{live:?}");
    assert!(text.contains("A fallback, in force"), "{text}");
    let (live, text) = routes(&[SHELL[0], SHELL[4]].concat());
    assert!(live.is_empty() && text.contains("#targets = [\"openai\", \"openrouter/openai/gpt-5-mini\"]"), "{text}");
    let (live, text) = routes(SHELL[1]);
    assert!(live.is_empty() && text.contains("#targets = [\"anthropic\", \"anthropic/"), "{text}");
}
