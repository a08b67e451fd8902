//! Prometheus' text from before OpenMetrics, for who asks for that.

use std::collections::BTreeSet;

/// The same figures: there a counter's help and type go by its whole name, with `_total`, and units and an end are not
/// told.
pub(super) fn older_text(open_metrics: &str) -> String {
    let described = |line: &'static str| {
        move |text: &str| text.strip_prefix(line).and_then(|rest| rest.split_once(' ')).map(|(name, _)| name.to_owned())
    };
    let (of_type, of_help) = (described("# TYPE "), described("# HELP "));
    let is_counter = |line: &&str| line.starts_with("# TYPE ") && line.ends_with(" counter");
    let counters: BTreeSet<String> = open_metrics.lines().filter(is_counter).filter_map(&of_type).collect();
    let mut older = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        match of_type(line).or_else(|| of_help(line)).filter(|name| counters.contains(name)) {
            Some(name) => older.push_str(&line.replacen(&name, &format!("{name}_total"), 1)),
            None => older.push_str(line),
        }
        older.push('\n');
    }
    older
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_described_by_their_whole_names_and_all_else_stays() {
        let open_metrics = "# HELP a Things.\n# TYPE a counter\na_total{b=\"# EOF\"} 1\n# HELP a_s A.\n# TYPE a_s gauge\n\
                            # UNIT a_s s\na_s 2\n# EOF\n";
        let older = "# HELP a_total Things.\n# TYPE a_total counter\na_total{b=\"# EOF\"} 1\n# HELP a_s A.\n\
                     # TYPE a_s gauge\na_s 2\n";
        assert_eq!(older_text(open_metrics), older);
    }
}
