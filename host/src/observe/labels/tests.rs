use super::*;
use crate::config::parse;
use http::HeaderValue;
use proptest::prelude::*;
use std::path::Path;

fn labels(text: &str) -> Labels {
    Labels::new(&parse(&format!("[labels]\n{text}"), Path::new("")).expect("a configuration").labels)
}

fn intern(labels: &Labels, values: &[&str]) -> Label {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(LABEL_HEADER, HeaderValue::from_str(value).expect("a header's value"));
    }
    labels.intern(&headers)
}

#[test]
fn a_label_says_what_was_said() {
    let labels = labels("");
    for (said, read) in [
        (&["feature=search,prompt=v12"][..], "feature=search,prompt=v12"),
        (&[" prompt = v12 , feature = search "], "feature=search,prompt=v12"),
        (&["feature=search", "prompt=v12"], "feature=search,prompt=v12"),
        (&["feature=search,feature=chat"], "feature=search"),
        (&["prompt=a=b"], "prompt=a=b"),
        (&["feature=other"], "feature=other"),
        (&[",,"], ""),
        (&[], ""),
    ] {
        assert_eq!(&*labels.text(intern(&labels, said)), read, "{said:?}");
    }
    assert_eq!(labels.troubles(), LabelTroubles::default());
    assert!(intern(&labels, &[]).is_empty() && !intern(&labels, &["feature=search"]).is_empty());
}

#[test]
fn what_is_wrong_is_left_out_and_counted_and_the_rest_stays() {
    let labels = labels("");
    for said in ["feature", "=search", "feature=", "Feature=search", "fea ture=search", "a/b=c"] {
        let before = labels.troubles().malformed;
        assert_eq!(&*labels.text(intern(&labels, &[&format!("prompt=v1,{said}")])), "prompt=v1", "{said}");
        assert_eq!(labels.troubles().malformed, before + 1, "{said}");
    }
    let long = "x".repeat(HEADER_BYTES_MAX + 1);
    assert!(intern(&labels, &[&long]).is_empty());
    assert_eq!(labels.troubles().malformed, 7);
}

#[test]
fn values_beyond_the_bound_and_long_ones_are_other() {
    let labels = labels("max_values = 2");
    let read = |value: &str| labels.text(intern(&labels, &[&format!("feature={value}")]));
    assert_eq!((read("a"), read("b"), read("c")), ("feature=a".into(), "feature=b".into(), "feature=other".into()));
    assert_eq!((read("a"), read(&"l".repeat(VALUE_BYTES_MAX + 1))), ("feature=a".into(), "feature=other".into()));
    assert_eq!(labels.troubles(), LabelTroubles::default());
}

#[test]
fn keys_beyond_the_bound_and_keys_that_are_not_listed_are_left_out_and_counted() {
    let first = labels("max_keys = 1");
    assert_eq!(&*first.text(intern(&first, &["feature=a,prompt=b"])), "feature=a");
    let listed = labels("keys = [\"prompt\"]");
    assert_eq!(&*listed.text(intern(&listed, &["feature=a,prompt=b"])), "prompt=b");
    assert_eq!((first.troubles().keys_left_out, listed.troubles().keys_left_out), (1, 1));
}

#[test]
fn a_label_is_written_alike_whichever_of_its_keys_came_first() {
    let labels = labels("");
    assert_eq!(&*labels.text(intern(&labels, &["prompt=v1"])), "prompt=v1");
    assert_eq!(&*labels.text(intern(&labels, &["feature=search,prompt=v1"])), "feature=search,prompt=v1");
}

#[test]
fn labels_beyond_the_bound_are_other_as_a_whole() {
    let labels = labels("max_values = 101");
    let text = |number: usize| labels.text(intern(&labels, &[&format!("a={},b={}", number / 101, number % 101)]));
    for number in 0..LABELS_MAX {
        assert_eq!(*text(number), format!("a={},b={}", number / 101, number % 101));
    }
    assert_eq!((&*text(LABELS_MAX), &*text(LABELS_MAX + 1), &*text(7)), (OTHER, OTHER, "a=0,b=7"));
}

#[test]
fn threads_that_meet_the_same_values_agree_on_their_numbers() {
    let labels = labels("max_values = 40");
    let all: Vec<Vec<Label>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..200).map(|value| intern(&labels, &[&format!("feature={value}")])).collect()))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it ends")).collect()
    });
    for (value, label) in all[0].iter().enumerate() {
        let text = labels.text(*label);
        assert!(*text == format!("feature={value}") || &*text == "feature=other", "{value}: {text}");
        // A value that was other for one, since it came too late, was never told apart for another.
        assert!(all.iter().all(|of_thread| of_thread[value] == *label), "{value}");
    }
    let told_apart = all[0].iter().filter(|label| &*labels.text(**label) != "feature=other").count();
    assert_eq!(told_apart, 40);
}

proptest! {
    #[test]
    fn whatever_is_said_there_are_never_more_keys_and_values_than_may_be(
        said in prop::collection::vec("[ -~]{0,80}|([a-c]=[a-z0-9]{1,2},?){0,6}", 1..40),
    ) {
        let labels = labels("max_keys = 2\nmax_values = 3");
        let mut seen = std::collections::BTreeMap::<String, std::collections::BTreeSet<String>>::new();
        for said in &said {
            for (key, value) in labels.pairs(intern(&labels, &[said])) {
                seen.entry(key.to_string()).or_default().insert(value.to_string());
            }
        }
        prop_assert!(seen.len() <= 2);
        prop_assert!(seen.values().all(|values| values.iter().filter(|value| *value != OTHER).count() <= 3));
    }
}
