//! The word that Spillway serves, and what to do next: a block for people in a terminal, a line in a log.

use crate::config::{Config, DEFAULT_FILE};
use crate::observe::log::Log;
use crate::policy::PolicyStatus;
use crate::proxy::app::App;
use crate::runtime::screen::{ASIDE, COMMAND, DOUBTFUL, GOOD, HEADING, columns, counted, styled, wrapped};
use crate::spool::Spool;
use crate::start::shell::{Shell, exports};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where what is said of a row begins, behind its name.
const ROW_MARGIN: usize = 17;

/// How long the count of jobs is waited for: a disk that hangs must not keep the word back.
const COUNT_TIMEOUT: Duration = Duration::from_millis(500);
/// Digits of a policy's hash that are shown, as in explanations.
const SHORT_HASH: usize = 8;
/// Policies that are named. Of more it is said how many they are.
const POLICIES_NAMED: usize = 8;

/// What is told when Spillway serves. It holds names of keys, and no key.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    listen: SocketAddr,
    unix_socket: Option<PathBuf>,
    admin: SocketAddr,
    /// `None` where it runs by the defaults.
    configuration: Option<PathBuf>,
    /// Where it was started, by which the names of files are understood.
    folder: PathBuf,
    /// `None` where nothing is kept.
    data: Option<PathBuf>,
    /// The folder of policies.
    policies: PathBuf,
    /// Those that serve from a file, with the beginnings of their hashes.
    serving: Vec<String>,
    /// Those whose file does not serve, with the reason.
    rejected: Vec<String>,
    /// Jobs that are not finished; `None` where they could not be counted in time.
    open_jobs: Option<u64>,
    /// Keys of Spillway's own, by the upstreams that are called with them and the names under which they were found.
    keys: Vec<String>,
    descriptors: u64,
}

impl Ready {
    /// What is there.
    pub(super) async fn of(app: &App, admin: SocketAddr, descriptors: u64) -> Ready {
        let config = &app.config;
        let policies = app.policies.status();
        let serving = policies.iter().filter_map(|policy| {
            let hash = policy.sha256.as_deref()?;
            Some(format!("{} ({})", policy.name, hash.get(..SHORT_HASH).unwrap_or(hash)))
        });
        let rejected = |policy: &PolicyStatus| Some(format!("{}: {}", policy.name, policy.rejected.as_ref()?.reason));
        let keys = config.upstreams.iter().filter_map(|(name, upstream)| {
            let keys: Vec<String> = upstream.api_keys().map(|key| key.source.to_string()).collect();
            (!keys.is_empty()).then(|| format!("{name} by {}", keys.join(" and ")))
        });
        Ready {
            listen: app.means.listen,
            unix_socket: config.server.unix_socket.clone(),
            admin,
            configuration: config.file.clone(),
            folder: std::env::current_dir().unwrap_or_default(),
            data: config.spool().map(|spool| spool.dir.clone()),
            policies: config.policies.dir.clone(),
            serving: serving.collect(),
            rejected: policies.iter().filter_map(rejected).collect(),
            open_jobs: match &app.spool {
                None => Some(0),
                Some(spool) => open_jobs(spool).await,
            },
            keys: keys.collect(),
            descriptors,
        }
    }

    /// Tells it, in the form that whoever reads the log understands.
    pub(super) fn tell(&self, log: &Log, config: &Config) {
        if log.is_for_people() {
            let variable = |name: &str| std::env::var(name).ok();
            return log.print(&self.block(config, Shell::of(variable), columns()));
        }
        let path =
            |path: &Option<PathBuf>| path.as_deref().map(|path| tracing::field::display(path.display()).to_string());
        tracing::info!(
            listen = %self.listen,
            unix_socket = path(&self.unix_socket),
            admin = %self.admin,
            configuration = path(&self.configuration).as_deref().unwrap_or("none"),
            policies = %self.policies.display(),
            judging = if self.serving.is_empty() { "built-in".to_owned() } else { self.serving.join(", ") },
            rejected = (!self.rejected.is_empty()).then(|| self.rejected.join("; ")),
            spool = path(&self.data).as_deref().unwrap_or("off"),
            open_jobs = self.open_jobs,
            keys = or_none(&self.keys),
            descriptors = self.descriptors,
            "Spillway is ready"
        );
    }

    /// For people: what is there, and what to do next.
    fn block(&self, config: &Config, shell: Shell, columns: usize) -> String {
        let mut block = format!("\n{}\n\n", styled(HEADING.fg_color(GOOD.get_fg_color()), "Spillway is ready."));
        let mut row =
            |name: &str, said: String| block.push_str(&format!("  {} {said}\n", styled(ASIDE, format!("{name:<14}"))));
        let scheme = if config.server.tls.is_on() { "https" } else { "http" };
        let at = match config.server.is_beyond_this_machine() {
            false => format!("{scheme}://{}", self.listen),
            true if config.server.behind_tls_proxy => {
                format!("{scheme}://{}, for its proxies alone: each caller shows a key", self.listen)
            }
            true => format!("{scheme}://{}, for other machines too: each caller shows a key", self.listen),
        };
        row(
            "listens at",
            match &self.unix_socket {
                None => at,
                Some(path) => format!("{at}, and the socket {}", path.display()),
            },
        );
        let of_admin = match (config.admin.is_beyond_this_machine(), config.admin.speaks_tls()) {
            (false, _) => format!("http://{}", self.admin),
            (true, false) => format!("http://{}, for other machines too: with a token", self.admin),
            (true, true) => format!("https://{}, for other machines too: with a token", self.admin),
        };
        row("admin address", of_admin);
        row("how it stands", styled(COMMAND, self.command("status")));
        row(
            "configuration",
            match &self.configuration {
                Some(file) => self.whole(file),
                None => {
                    let said = format!(
                        "no {DEFAULT_FILE} here: these are the defaults; {} writes one to change",
                        styled(COMMAND, "spillway init")
                    );
                    wrapped("", ROW_MARGIN, &said, columns).trim_end().to_owned()
                }
            },
        );
        row(
            "data",
            match &self.data {
                Some(folder) => format!("{}{}", self.whole(folder), self.jobs()),
                None => "nothing is kept: the spool is switched off".to_owned(),
            },
        );
        row("policies", self.found_policies());
        self.rejected.iter().for_each(|rejected| row("", format!("{} {rejected}", styled(DOUBTFUL, "not loaded:"))));
        row(
            "keys",
            match &self.keys[..] {
                [] => "none of its own: your application sends its own, as before".to_owned(),
                keys => format!("of its own, for {}", keys.join(", ")),
            },
        );
        let variable = |_: &str| None;
        let local = SocketAddr::new(config.server.local_address().ip(), self.listen.port());
        let exports = exports(config, local, shell, variable);
        let exports = exports.lines().map(|line| format!("  {}\n", styled(COMMAND, line))).collect::<String>();
        let env = shell.evaluates(&self.command("env"));
        block.push_str(&format!(
            "\nIn the shell in which your application starts:\n\n{exports}\n  or: {}\n\nCtrl-C ends it, when all that is under way has ended.\n\n",
            styled(COMMAND, env)
        ));
        block
    }

    /// A command that speaks of this Spillway, in whichever folder it is typed.
    fn command(&self, name: &str) -> String {
        match &self.configuration {
            Some(file) => format!("spillway {name} --config {}", quoted(&self.whole(file))),
            None => format!("spillway {name}"),
        }
    }

    /// A file by its whole name.
    fn whole(&self, path: &Path) -> String {
        self.folder.join(path).display().to_string()
    }

    fn jobs(&self) -> String {
        match self.open_jobs {
            Some(0) => String::new(),
            Some(count) => format!("; {} will be finished", counted(count, "open job")),
            None => "; its disk has not said yet which jobs are open".to_owned(),
        }
    }

    fn found_policies(&self) -> String {
        let folder = self.whole(&self.policies);
        match self.serving.len() {
            0 => format!("none in {folder}: the built-in one judges"),
            count if count > POLICIES_NAMED => {
                format!("{count} of {folder} serve; {}", styled(COMMAND, "spillway policy ls"))
            }
            _ => format!("{} of {folder}", self.serving.join(", ")),
        }
    }
}

/// Jobs that wait or were being served when the last process ended.
async fn open_jobs(spool: &Spool) -> Option<u64> {
    let counts = tokio::time::timeout(COUNT_TIMEOUT, spool.counts()).await.ok()?.ok()?;
    Some(counts.queued.saturating_add(counts.leased))
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A path as it is typed: in quotes where a shell would take it apart.
fn quoted(path: &str) -> String {
    let is_plain = |character: char| character.is_alphanumeric() || "/._-+=:,@%".contains(character);
    if path.chars().all(is_plain) { path.to_owned() } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::path::MAIN_SEPARATOR;

    fn block(ready: &Ready, shell: Shell) -> String {
        let config = parse("", Path::new("")).expect("valid");
        anstream::adapter::strip_str(&ready.block(&config, shell, 200)).to_string()
    }

    fn without_anything() -> Ready {
        Ready {
            listen: ([127, 0, 0, 1], 4141).into(),
            unix_socket: None,
            admin: ([127, 0, 0, 1], 4142).into(),
            configuration: None,
            folder: PathBuf::from("/home/me"),
            data: Some("spillway-data".into()),
            policies: "policies".into(),
            serving: Vec::new(),
            rejected: Vec::new(),
            open_jobs: Some(0),
            keys: Vec::new(),
            descriptors: 1_024,
        }
    }

    /// The block, with paths as they are written here whatever system this is.
    fn said(ready: &Ready, shell: Shell) -> String {
        block(ready, shell).replace(MAIN_SEPARATOR, "/")
    }

    #[test]
    fn who_has_configured_nothing_is_told_what_that_means_and_what_to_type() {
        let expected = "
Spillway is ready.

  listens at     http://127.0.0.1:4141
  admin address  http://127.0.0.1:4142
  how it stands  spillway status
  configuration  no spillway.toml here: these are the defaults; spillway init writes one to change
  data           /home/me/spillway-data
  policies       none in /home/me/policies: the built-in one judges
  keys           none of its own: your application sends its own, as before

In the shell in which your application starts:

  export OPENAI_BASE_URL=http://127.0.0.1:4141/openai/v1
  export ANTHROPIC_BASE_URL=http://127.0.0.1:4141/anthropic
  export GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:4141/gemini
  export no_proxy=\"${no_proxy:-${NO_PROXY:-}}\"
  case \",$no_proxy,\" in *,127.0.0.1,*) ;; *) no_proxy=\"127.0.0.1,localhost${no_proxy:+,$no_proxy}\" ;; esac
  export NO_PROXY=\"$no_proxy\"

  or: eval \"$(spillway env)\"

Ctrl-C ends it, when all that is under way has ended.

";
        assert_eq!(said(&without_anything(), Shell::Sh), expected);
        assert!(said(&without_anything(), Shell::Fish).contains("  or: spillway env | source\n"));
    }

    #[test]
    fn what_was_found_is_named() {
        let found = Ready {
            unix_socket: Some("/run/spillway.sock".into()),
            configuration: Some("/etc/spill way.toml".into()),
            data: Some("/var/lib/spillway".into()),
            serving: vec!["default (1a2b3c4d)".into(), "mine (5e6f7a8b)".into()],
            rejected: vec!["other: the file is no WebAssembly".into()],
            open_jobs: Some(3),
            keys: vec!["openai by OPENAI_API_KEY".into()],
            ..without_anything()
        };
        let text = said(&found, Shell::Sh);
        for line in [
            "  listens at     http://127.0.0.1:4141, and the socket /run/spillway.sock\n",
            "  how it stands  spillway status --config '/etc/spill way.toml'\n",
            "  configuration  /etc/spill way.toml\n",
            "  data           /var/lib/spillway; 3 open jobs will be finished\n",
            "  policies       default (1a2b3c4d), mine (5e6f7a8b) of /home/me/policies\n",
            "                 not loaded: other: the file is no WebAssembly\n",
            "  keys           of its own, for openai by OPENAI_API_KEY\n",
            "  or: eval \"$(spillway env --config '/etc/spill way.toml')\"\n",
        ] {
            assert!(text.contains(line), "{line} is not in:\n{text}");
        }
        let many = Ready { serving: vec!["one (1a2b3c4d)".into(); 9], open_jobs: None, ..without_anything() };
        let text = said(&many, Shell::Sh);
        assert!(text.contains("policies       9 of /home/me/policies serve; spillway policy ls\n"), "{text}");
        assert!(text.contains("has not said yet which jobs are open"), "{text}");
    }
}
