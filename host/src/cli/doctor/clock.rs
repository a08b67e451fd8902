//! This machine's clock, against what those who answer say.

use super::finding::Finding;

/// What nobody notices: answers tell whole seconds, and take some time themselves.
const UNNOTICED_MS: u64 = 5_000;
/// From here on what is signed with the time is refused: the tokens of clouds allow five minutes.
const REFUSED_MS: u64 = 5 * 60_000;

/// What the clock is worth, by how many milliseconds it is ahead of each who answered.
pub(super) fn finding(ahead_ms: &[i64]) -> Finding {
    const AREA: &str = "clock";
    let mut sorted = ahead_ms.to_vec();
    sorted.sort_unstable();
    // The one in the middle: one server with a wrong clock of its own does not count among several.
    let Some(&ahead) = sorted.get(sorted.len() / 2) else {
        return Finding::well(AREA, "not compared with anybody's: no answer told the time");
    };
    let off = ahead.unsigned_abs();
    let how = match ahead {
        1.. => "ahead of",
        _ => "behind",
    };
    let said = || format!("{} {how} the time that {} told", duration(off), who(sorted.len()));
    let next = "Set it, or have it set: timedatectl set-ntp true.";
    match off {
        0..=UNNOTICED_MS => Finding::well(AREA, format!("right to a few seconds, as {} told", who(sorted.len()))),
        _ if off < REFUSED_MS => Finding::doubtful(
            AREA,
            format!("{}: waits that a provider names as a date come out wrong by that", said()),
            next,
        ),
        _ => Finding::broken(
            AREA,
            format!("{}: providers refuse tokens that are signed with it, and certificates seem expired", said()),
            next,
        ),
    }
}

fn who(count: usize) -> String {
    if count == 1 { "one answer".to_owned() } else { format!("{count} answers") }
}

fn duration(ms: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(ms / 1_000)).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_clock_is_judged_by_the_answer_in_the_middle() {
        for (ahead, verdict, words) in [
            (&[][..], Verdict::Well, "not compared"),
            (&[400], Verdict::Well, "one answer"),
            (&[-200, 300, 3_600_000], Verdict::Well, "3 answers"),
            (&[60_000, 61_000], Verdict::Doubtful, "1m 1s ahead of"),
            (&[-90_000], Verdict::Doubtful, "1m 30s behind"),
            (&[7_200_000], Verdict::Broken, "2h ahead of"),
            (&[i64::MIN], Verdict::Broken, "behind"),
        ] {
            let finding = finding(ahead);
            assert!(finding.verdict == verdict && finding.said.contains(words), "{ahead:?}: {finding:?}");
        }
    }
}
