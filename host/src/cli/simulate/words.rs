//! What came of a simulation, in words.

use spillway_simulate::comparison::Rule;
use spillway_simulate::scenario::Fault;
use spillway_simulate::tuning::Gain;
use std::time::Duration;

/// How callers behave.
pub(super) fn callers(retries: u32) -> String {
    match retries {
        0 => "callers never retry".to_owned(),
        1 => "callers retry once".to_owned(),
        2 => "callers retry twice".to_owned(),
        more => format!("callers retry {more} times"),
    }
}

/// What a change brings or costs.
pub(super) fn gain_in_words(gain: &Gain) -> String {
    let (more, by) = (gain.by > 0.0, gain.by.abs());
    match gain.rule {
        Rule::ServedPercent => format!("{by:.1} points {} are served", if more { "more" } else { "fewer" }),
        Rule::CallsPerServed => format!("{by:.0} % {} calls for an answer", if more { "fewer" } else { "more" }),
        Rule::WaitP95Seconds | Rule::FirstTokenP50Seconds => {
            format!("95 % wait up to {by:.2} s {}", if more { "less" } else { "longer" })
        }
    }
}

/// What was wrong in a time.
pub(super) fn fault_in_words(fault: &Fault, several_models: bool) -> String {
    let mut what = Vec::new();
    for (rate, words) in [
        (fault.failure_rate, "failed"),
        (fault.timeout_rate, "hung"),
        (fault.overloaded_rate, "were told of an overload"),
        (fault.throttled_rate, "were told of a limit"),
    ] {
        if rate > 0.0 {
            what.push(format!("{:.0} % {words}", 100.0 * rate));
        }
    }
    if let Some(limit) = fault.limit_per_second {
        what.push(format!("more than {limit:.1} a second were told of a limit"));
    }
    let model =
        fault.model.as_deref().filter(|_| several_models).map(|model| format!(" of {model}")).unwrap_or_default();
    let (from, to) = (duration(fault.from_seconds), duration(fault.to_seconds));
    format!("from {from} to {to}{model}: {}", what.join(", "))
}

/// A time as people read it, to a tenth of a second.
pub(super) fn duration(seconds: f64) -> String {
    let tenths = Duration::try_from_secs_f64((seconds * 10.0).round() / 10.0).unwrap_or_default();
    match tenths.as_secs() {
        0..120 => format!("{:.1} s", tenths.as_secs_f64()),
        seconds @ 120..7_200 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_change_brings_and_costs_is_said_in_the_units_of_the_table() {
        let gain = |rule, by| gain_in_words(&Gain { rule, by, chance: 0.0 });
        assert_eq!(gain(Rule::ServedPercent, 2.04), "2.0 points more are served");
        assert_eq!(gain(Rule::CallsPerServed, -12.4), "12 % more calls for an answer");
        assert_eq!(gain(Rule::WaitP95Seconds, 0.5), "95 % wait up to 0.50 s less");
    }

    #[test]
    fn times_are_written_for_people() {
        assert_eq!([3.04, 119.9, 150.0, 7_260.0].map(duration), ["3.0 s", "119.9 s", "2 min 30 s", "2 h 1 min"]);
    }
}
