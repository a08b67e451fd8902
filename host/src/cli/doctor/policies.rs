//! The policy folder: which files in it would serve.

use super::finding::Finding;
use crate::cli::policy::look_at_files;
use crate::config::{Config, DEFAULT_POLICY};

const AREA: &str = "policies";

/// Compiles each file as the proxy would, which takes a fraction of a second each, and leaves nothing behind.
pub(super) fn look(config: &Config) -> Vec<Finding> {
    let dir = &config.policies.dir;
    let shown = dir.display().to_string();
    let files = match look_at_files(dir, config, |_| {}) {
        Ok(files) => files.into_iter().map(|file| (file.file, file.would_be_served, file.verdict)).collect::<Vec<_>>(),
        Err(failure) => {
            let next = "Let Spillway read it, or name another in policies.dir. Until then the built-in policy judges.";
            return vec![Finding::broken(AREA, failure.to_string(), next)];
        }
    };
    let is_there = |name: &str| dir.join(format!("{name}.wasm")).exists();
    let missing = config
        .upstreams
        .iter()
        .filter(|(_, upstream)| upstream.policy != DEFAULT_POLICY && !is_there(&upstream.policy));
    let missing: Vec<_> = missing.map(|(name, upstream)| (name.clone(), upstream.policy.clone())).collect();
    findings(&shown, &files, &missing)
}

/// `files` are names, whether they would serve, and why or why not; `missing` are upstreams whose policy has no file.
fn findings(dir: &str, files: &[(String, bool, String)], missing: &[(String, String)]) -> Vec<Finding> {
    let served = files.iter().filter(|(_, served, _)| *served).count();
    let mut findings = Vec::new();
    for (file, _, verdict) in files.iter().filter(|(_, served, _)| !served) {
        let next = format!(
            "`spillway policy check {dir}/{file}` says more. Until it is mended, what served before or the built-in \
             policy judges."
        );
        findings.push(Finding::broken(AREA, format!("{file} {verdict}"), next));
    }
    for (upstream, policy) in missing {
        findings.push(Finding::doubtful(
            AREA,
            format!("{upstream} asks for the policy {policy}, and {dir} has no {policy}.wasm: the built-in one judges"),
            format!("Put it there, or mend upstreams.{upstream}.policy."),
        ));
    }
    if findings.is_empty() {
        let said = match served {
            0 => format!("{dir} holds none: the built-in policy judges, which knows the providers"),
            1 => format!("1 file in {dir} would serve"),
            many => format!("{many} files in {dir} would serve"),
        };
        findings.push(Finding::well(AREA, said));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn what_would_not_serve_and_what_is_missing_are_told_each() {
        let file = |name: &str, served| (name.to_owned(), served, "would not be served: no policy".to_owned());
        let verdicts = |files: &[_], missing: &[_]| {
            findings("policies", files, missing).iter().map(|finding| finding.verdict).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(&[], &[]), [Verdict::Well]);
        assert_eq!(verdicts(&[file("a.wasm", true)], &[]), [Verdict::Well]);
        let missing = [("openai".to_owned(), "mine".to_owned())];
        let found = verdicts(&[file("a.wasm", true), file("b.wasm", false)], &missing);
        assert_eq!(found, [Verdict::Broken, Verdict::Doubtful]);
    }
}
