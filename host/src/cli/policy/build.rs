//! `spillway policy build`: from a crate to a file in the policy folder.

use super::cargo::Crate;
use super::check::check;
use super::subject::{Subject, engine};
use super::{Answer, Failure, hear_policies};
use crate::config::{Config, DEFAULT_POLICY};
use crate::policy::{self, SHADOW_SUFFIX, SIGNATURE_BYTES};
use crate::runtime::durable_file::{self, Access};
use crate::runtime::size::size;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The policy's crate.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Put the file into the policy folder, where a running Spillway takes it up within a second.
    #[arg(long)]
    install: bool,
    /// Let it be a candidate, NAME.shadow.wasm: compared with the policy that serves, and heard by nobody.
    #[arg(long)]
    shadow: bool,
    /// What Cargo is told besides.
    #[arg(last = true, value_name = "CARGO ARGUMENTS")]
    more: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, config: &Config) -> Result<Answer, Failure> {
    hear_policies();
    let built = Crate::find(&arguments.dir)?;
    let file = built.build(&arguments.more)?;
    // A library's file is named as code names the crate; the policy has the crate's own name.
    let subject = Subject::read(&file, config, None)?.named(&built.name, config);
    let checked = check(&subject, config, &engine()?);
    let mut text = format!(
        "{}\n{}, sha-256 {}\n{}\n",
        file.display(),
        size(subject.bytes.len() as u64),
        subject.sha256,
        checked.verdict()
    );
    if !checked.would_be_served {
        return Ok(Answer { text, is_well: false });
    }
    let role = if arguments.shadow { SHADOW_SUFFIX } else { "" };
    let place = config.policies.dir.join(format!("{}{role}.wasm", built.name));
    if arguments.install {
        // Its signature goes first: where signatures are required, a file without its own changes nothing.
        let signature = policy::read(&policy::signature_of(&file), SIGNATURE_BYTES as u64).ok();
        let signed = signature.map_or(Ok(()), |signature| install(&signature, &policy::signature_of(&place)));
        signed
            .and_then(|()| install(&subject.bytes, &place))
            .map_err(|error| Failure::Bad(format!("cannot install {}: {error}", place.display())))?;
        text.push_str(&format!("\ninstalled as {}\n", absolute(&place).display()));
    } else {
        text.push_str(&format!("\nThis puts it to work:\n  cp {} {}\n", file.display(), place.display()));
    }
    text.push_str(&who_uses(&built.name, config));
    text.push_str(&built.sdk_remark());
    Ok(Answer::well(text))
}

/// A watching Spillway never sees half a file.
fn install(bytes: &[u8], place: &Path) -> io::Result<()> {
    fs::create_dir_all(place.parent().unwrap_or(Path::new("")))?;
    durable_file::replace(place, Access::Umask, bytes)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Which upstreams a policy of this name judges, or what makes it judge one.
fn who_uses(name: &str, config: &Config) -> String {
    let users: Vec<&str> =
        config.upstreams.iter().filter(|(_, upstream)| upstream.policy == name).map(|(name, _)| &**name).collect();
    match users.is_empty() {
        false => format!("It judges {}.\n", users.join(", ")),
        true => {
            let file = config.file.as_deref().unwrap_or(Path::new(crate::config::DEFAULT_FILE)).display();
            let default = DEFAULT_POLICY;
            format!(
                "No upstream names it yet: set policy = \"{name}\" in [upstreams.…] of {file}, or call the file\n\
                 {default}.wasm, which judges every upstream that names no policy.\n"
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_installed_whole_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("new/mine.wasm");
        install(b"one", &place).expect("installed");
        install(b"two", &place).expect("installed over the first");
        assert_eq!(fs::read(&place).expect("a file"), b"two");
        assert_eq!(fs::read_dir(folder.path().join("new")).expect("a folder").count(), 1);
    }
}
