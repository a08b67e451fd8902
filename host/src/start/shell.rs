//! What sends the official SDKs through Spillway, in the words of a shell.

use crate::config::{Config, UpstreamConfig};
use crate::dialect::Dialect;
use serde_json::{Map, Value};
use std::net::SocketAddr;
use std::path::Path;

/// The variables by which the official SDKs are sent elsewhere: the API, its upstream's variable, and what stands behind
/// the upstream's name in it.
pub(crate) const VARIABLES: [(Dialect, &str, &str); 3] = [
    (Dialect::OpenAi, "OPENAI_BASE_URL", "/v1"),
    (Dialect::Anthropic, "ANTHROPIC_BASE_URL", ""),
    (Dialect::Gemini, "GOOGLE_GEMINI_BASE_URL", ""),
];

/// A way to set variables of the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shell {
    /// sh, bash, zsh and their kin.
    Sh,
    /// fish.
    Fish,
    /// PowerShell, on any system.
    Powershell,
    /// No shell: one JSON object of the variables, for programs.
    Json,
}

impl Shell {
    /// The shell of this environment, of which a variable's value is asked by its name: by `SHELL`, and without it the one
    /// that comes with the system.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<String>) -> Shell {
        let Some(path) = variable("SHELL").filter(|path| !path.is_empty()) else {
            return if cfg!(windows) { Shell::Powershell } else { Shell::Sh };
        };
        let name = Path::new(&path).file_stem().map(|name| name.to_string_lossy().to_ascii_lowercase());
        match name.as_deref() {
            Some("fish") => Shell::Fish,
            Some("pwsh" | "powershell") => Shell::Powershell,
            _ => Shell::Sh,
        }
    }

    /// What is typed to have `command` set the variables, which prints them for this shell.
    pub(crate) fn evaluates(self, command: &str) -> String {
        match self {
            Shell::Sh | Shell::Json => format!("eval \"$({command})\""),
            Shell::Fish => format!("{command} | source"),
            Shell::Powershell => format!("{command} | Out-String | Invoke-Expression"),
        }
    }
}

/// One variable for each SDK whose API an upstream of its name speaks.
fn base_urls(config: &Config, local: SocketAddr) -> Vec<(&'static str, String)> {
    let base = config.server.tls.url(local);
    let is_served = |dialect: Dialect| {
        let serves = |upstream: &UpstreamConfig| upstream.dialect == dialect;
        config.upstreams.get(dialect.as_str()).is_some_and(serves)
    };
    let served = VARIABLES.into_iter().filter(|(dialect, ..)| is_served(*dialect));
    served.map(|(dialect, variable, suffix)| (variable, format!("{base}/{}{suffix}", dialect.as_str()))).collect()
}

/// What stands for `local` in a URL, as lists of hosts have it.
fn host(config: &Config, local: SocketAddr) -> String {
    match config.server.tls.is_on() {
        true => config.server.tls.host(local).trim_matches(['[', ']']).to_owned(),
        false => local.ip().to_string(),
    }
}

/// The variables that send the official SDKs to `local`, with what goes through no proxy already; `variable` answers the
/// value of a variable as it is.
pub(super) fn variables(
    config: &Config,
    local: SocketAddr,
    variable: impl Fn(&str) -> Option<String>,
) -> impl Iterator<Item = (&'static str, String)> {
    let host = host(config, local);
    let known = ["no_proxy", "NO_PROXY"].into_iter().filter_map(variable).find(|value| !value.is_empty());
    let known = known.unwrap_or_default();
    let hosts = match known.split(',').any(|one| one.trim() == host) {
        true => known,
        false if known.is_empty() => format!("{host},localhost"),
        false => format!("{host},localhost,{known}"),
    };
    base_urls(config, local).into_iter().chain(["no_proxy", "NO_PROXY"].map(|name| (name, hosts.clone())))
}

/// The variables that send the official SDKs to `local`, one a line as a shell sets them, and none of them through a
/// proxy: what is meant for this machine must not leave it. `variable` answers the value of a variable as it is.
pub(crate) fn exports(
    config: &Config,
    local: SocketAddr,
    shell: Shell,
    variable: impl Fn(&str) -> Option<String>,
) -> String {
    let urls = base_urls(config, local);
    let host = host(config, local);
    // Some read the one in small letters first, some know only the other. What is there already is not added again: the
    // same is evaluated in every shell within a shell.
    let no_proxy = match shell {
        Shell::Sh => format!(
            "export no_proxy=\"${{no_proxy:-${{NO_PROXY:-}}}}\"\n\
             case \",$no_proxy,\" in *,{host},*) ;; *) no_proxy=\"{host},localhost${{no_proxy:+,$no_proxy}}\" ;; esac\n\
             export NO_PROXY=\"$no_proxy\"\n"
        ),
        Shell::Fish => format!(
            "set -q no_proxy; or set -gx no_proxy $NO_PROXY\n\
             string match -q '*,{host},*' \",$no_proxy,\"; or set -gx no_proxy (string join -n , {host} localhost $no_proxy)\n\
             set -gx NO_PROXY $no_proxy\n"
        ),
        Shell::Powershell => format!(
            "if (-not $env:no_proxy) {{ $env:no_proxy = $env:NO_PROXY }}\n\
             if (\",$env:no_proxy,\" -notlike '*,{host},*') \
             {{ $env:no_proxy = (@('{host}', 'localhost', $env:no_proxy) | Where-Object {{ $_ }}) -join ',' }}\n\
             $env:NO_PROXY = $env:no_proxy\n"
        ),
        Shell::Json => {
            let all = variables(config, local, variable);
            let all: Map<String, Value> = all.map(|(name, value)| (name.to_owned(), value.into())).collect();
            return format!("{:#}\n", Value::Object(all));
        }
    };
    let set = |(name, url): (&str, String)| match shell {
        Shell::Sh | Shell::Json => format!("export {name}={url}\n"),
        Shell::Fish => format!("set -gx {name} {url}\n"),
        Shell::Powershell => format!("$env:{name} = '{url}'\n"),
    };
    urls.into_iter().map(set).chain([no_proxy]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn a_shell_is_known_by_its_name() {
        let cases = [
            ("/bin/bash", Shell::Sh),
            ("/bin/zsh", Shell::Sh),
            ("/usr/local/bin/fish", Shell::Fish),
            ("/usr/bin/pwsh", Shell::Powershell),
            ("C:/Program Files/PowerShell/7/pwsh.exe", Shell::Powershell),
        ];
        for (path, shell) in cases {
            assert_eq!(Shell::of(|name| (name == "SHELL").then(|| path.to_owned())), shell, "{path}");
        }
        assert_eq!(Shell::of(|_| Some(String::new())) == Shell::Powershell, cfg!(windows));
    }

    #[test]
    fn each_shell_is_told_in_its_own_words_where_spillway_is() {
        let config = parse("[upstreams.openai]\nurl = \"https://api.openai.com\"", Path::new("")).expect("valid");
        let told = |shell| exports(&config, ([127, 0, 0, 1], 4141).into(), shell, |_| None);
        for (shell, line) in [
            (Shell::Sh, "export OPENAI_BASE_URL=http://127.0.0.1:4141/openai/v1\n"),
            (Shell::Fish, "set -gx OPENAI_BASE_URL http://127.0.0.1:4141/openai/v1\n"),
            (Shell::Powershell, "$env:OPENAI_BASE_URL = 'http://127.0.0.1:4141/openai/v1'\n"),
            (Shell::Json, "  \"OPENAI_BASE_URL\": \"http://127.0.0.1:4141/openai/v1\",\n"),
        ] {
            let told = told(shell);
            assert!(told.contains(line) && told.contains("NO_PROXY"), "{told}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn to_be_told_twice_is_to_be_told_once() {
        let config = parse("", Path::new("")).expect("valid");
        let told = exports(&config, ([127, 0, 0, 1], 4141).into(), Shell::Sh, |_| None);
        for (before, after) in [
            ("", "127.0.0.1,localhost"),
            ("NO_PROXY=internal.example\n", "127.0.0.1,localhost,internal.example"),
            ("no_proxy=127.0.0.1\n", "127.0.0.1"),
        ] {
            let script =
                format!("unset no_proxy NO_PROXY\n{before}{told}{told}printf '%s %s' \"$no_proxy\" \"$NO_PROXY\"");
            let output = std::process::Command::new("sh").args(["-euc", &script]).output().expect("a shell");
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{after} {after}"), "{script}");
        }
        let known = |name: &str| (name == "no_proxy").then(|| "127.0.0.1,localhost".to_owned());
        let again = exports(&config, ([127, 0, 0, 1], 4141).into(), Shell::Json, known);
        assert!(again.contains("\"127.0.0.1,localhost\""), "{again}");
    }

    #[test]
    fn a_program_is_told_what_goes_through_no_proxy_already() {
        let config = parse("", Path::new("")).expect("valid");
        let known = |name: &str| (name == "NO_PROXY").then(|| "internal.example".to_owned());
        let told = exports(&config, ([127, 0, 0, 1], 4141).into(), Shell::Json, known);
        let told: Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!(told["no_proxy"], "127.0.0.1,localhost,internal.example");
        assert_eq!(told["NO_PROXY"], told["no_proxy"]);
    }
}
