//! The data folder, as the spool would find it.

use super::finding::Finding;
use crate::config::SpoolConfig;
use crate::runtime::size::size;
use crate::spool::{OpenError, Survey, survey};

const AREA: &str = "data folder";

/// Looks at it. `runs` says that a Spillway answers at the configured addresses: then it is the one that holds it.
pub(super) fn look(spool: &SpoolConfig, runs: bool) -> Finding {
    if !spool.enabled {
        return Finding::well(AREA, "the queue is switched off: nothing is kept");
    }
    finding(&survey(&spool.dir, spool.max_size), &spool.dir.display().to_string(), spool.max_size, runs)
}

fn finding(found: &Survey, dir: &str, max_size: u64, runs: bool) -> Finding {
    let meaning = "live traffic is served, but no request can be kept";
    if let Some(obstacle) = &found.obstacle {
        let next = match obstacle {
            OpenError::NoRoom(_) => "Make room, or name a folder on another disk in spool.dir.",
            OpenError::WrongKey { .. } => "Until then no job in it can be read.",
            _ => "Or name another folder in spool.dir; enabled = false does without.",
        };
        return Finding::broken(AREA, format!("{obstacle}; meanwhile {meaning}"), next);
    }
    if let Some(holder) = found.holder.as_ref().filter(|_| !runs) {
        return Finding::broken(
            AREA,
            format!("{holder} uses {dir}; meanwhile {meaning}"),
            "Stop it, or give this one a folder of its own in spool.dir.",
        );
    }
    if let Some(kind) = found.perishable {
        return Finding::doubtful(
            AREA,
            format!("{dir} lies on {kind}: what is kept there ends with the container or the machine"),
            "Give it a volume on a disk.",
        );
    }
    if found.is_fuse {
        return Finding::doubtful(
            AREA,
            format!("{dir} lies on a FUSE file system: what is kept there is safe only if that keeps a flush"),
            "Give it a local disk, unless you know that it does.",
        );
    }
    let state = match (found.exists, &found.holder) {
        (_, Some(_)) => "is in use by the Spillway that runs",
        (true, None) => "is there and can be used",
        (false, None) => "is not there yet and can be made",
    };
    match found.free_bytes {
        Some(free) if free < max_size => Finding::doubtful(
            AREA,
            format!("{dir} {state}; {} are free, and the queue may grow to {}", size(free), size(max_size)),
            "When the disk is full, requests are no longer kept. Make room, or lower spool.max_size.",
        ),
        Some(free) => Finding::well(AREA, format!("{dir} {state}; {} are free", size(free))),
        None => Finding::well(AREA, format!("{dir} {state}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn fit() -> Survey {
        Survey {
            exists: true,
            obstacle: None,
            holder: None,
            perishable: None,
            is_fuse: false,
            free_bytes: Some(8 << 30),
        }
    }

    #[test]
    fn each_thing_that_is_found_has_its_verdict() {
        let obstacle = || Some(OpenError::NetworkFileSystem { dir: "data".into(), kind: "NFS" });
        let holder = || Some("another Spillway (process 7)".to_owned());
        let cases = [
            (fit(), false, Verdict::Well, "is there and can be used"),
            (Survey { exists: false, ..fit() }, false, Verdict::Well, "is not there yet and can be made"),
            (Survey { obstacle: obstacle(), ..fit() }, false, Verdict::Broken, "NFS"),
            (Survey { holder: holder(), ..fit() }, false, Verdict::Broken, "process 7"),
            (Survey { holder: holder(), ..fit() }, true, Verdict::Well, "by the Spillway that runs"),
            (Survey { perishable: Some("tmpfs"), ..fit() }, false, Verdict::Doubtful, "tmpfs"),
            (Survey { is_fuse: true, ..fit() }, false, Verdict::Doubtful, "FUSE"),
            (Survey { free_bytes: Some(1 << 30), ..fit() }, false, Verdict::Doubtful, "may grow to 4.0 GiB"),
            (Survey { free_bytes: None, ..fit() }, false, Verdict::Well, "can be used"),
        ];
        for (found, runs, verdict, words) in cases {
            let finding = finding(&found, "data", 4 << 30, runs);
            assert!(finding.verdict == verdict && finding.said.contains(words), "{finding:?}");
        }
    }
}
