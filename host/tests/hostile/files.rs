//! Files that are no policies, or pretend to be.

use crate::rewrite::{
    boundaries, endless, memory_bomb, nested, recursion, straight_on, table_bomb, tangled, with_body, with_functions,
    with_start, with_table,
};
use crate::{load, policy, refusal, resident_kib, runtime};

const EXPORTS: [&str; 5] = ["describe", "configure", "classify", "backoff", "trip"];

#[test]
fn an_endless_loop_in_any_export_or_at_the_start_keeps_a_policy_from_being_loaded() {
    let (runtime, good) = (runtime(), policy("hostile-hooks"));
    for export in EXPORTS {
        // `configure` is called when an instance is made, before anything else.
        let reason = refusal(&runtime, &with_body(&good, &format!("#{export}"), |_, _| endless()));
        assert_eq!(reason, format!("it failed its self-test: {export} took longer than 5 ms"));
    }
    let reason = refusal(&runtime, &with_start(&good, &endless()));
    assert_eq!(reason, "it cannot be started: took longer than 5 ms");
}

#[test]
fn time_is_up_also_for_code_without_loops() {
    let (runtime, good) = (runtime(), policy("hostile-hooks"));
    let reason = refusal(&runtime, &with_body(&good, "#classify", |_, _| straight_on()));
    assert_eq!(reason, "it failed its self-test: classify took longer than 5 ms");
    let reason = refusal(&runtime, &with_start(&good, &straight_on()));
    assert_eq!(reason, "it cannot be started: took longer than 5 ms");
}

#[test]
fn memory_tables_and_stack_are_bounded_in_every_export_and_at_the_start() {
    let (runtime, good) = (runtime(), policy("hostile-hooks"));
    let before = resident_kib();
    for export in EXPORTS {
        let name = format!("#{export}");
        let bomb = refusal(&runtime, &with_body(&good, &name, |_, _| memory_bomb()));
        assert!(bomb.contains(&format!("self-test: {export}")) && bomb.contains("memory"), "{bomb}");
        let bomb = refusal(&runtime, &with_body(&with_table(&good, 200), &name, |_, _| table_bomb()));
        assert!(bomb.contains(&format!("self-test: {export}")) && bomb.contains("table"), "{bomb}");
        let deep = refusal(&runtime, &with_body(&good, &name, recursion));
        assert!(deep.contains(&format!("self-test: {export}")) && deep.contains("call stack exhausted"), "{deep}");
    }
    let bomb = refusal(&runtime, &with_start(&good, &memory_bomb()));
    assert!(bomb.contains("cannot be started") && bomb.contains("memory"), "{bomb}");
    let large = refusal(&runtime, &with_table(&good, 1_000_000));
    assert!(large.contains("cannot be started") && large.contains("table"), "{large}");
    let grown_kib = resident_kib().saturating_sub(before);
    assert!(grown_kib < 256 << 10, "{grown_kib} KiB more, shared with the tests beside this one");
}

#[test]
fn a_policy_that_was_cut_anywhere_is_refused() {
    let (runtime, good) = (runtime(), policy("default"));
    let mut random = fastrand::Rng::with_seed(1);
    let mut cuts = boundaries(&good);
    assert!(cuts.len() > 10, "a module has a dozen sections");
    cuts.extend((0..200).map(|_| random.usize(..good.len())));
    for cut in cuts {
        // The last sections say nothing that is needed: names of functions, and of the compiler.
        match load(&runtime, &good[..cut], "{}") {
            Ok(_) => assert!(boundaries(&good).contains(&cut), "cut in the middle of a section, at {cut}"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let component = wit_component(&good);
    for cut in boundaries(&component) {
        if let Err(error) = load(&runtime, &component[..cut], "{}") {
            assert!(!error.to_string().is_empty());
        }
    }
    assert!(load(&runtime, &component, "{}").is_ok(), "whole, it is a policy");
}

fn wit_component(module: &[u8]) -> Vec<u8> {
    wit_component::ComponentEncoder::default().module(module).unwrap().encode().unwrap()
}

#[test]
fn random_bytes_are_refused_with_a_preamble_and_without() {
    let runtime = runtime();
    let mut random = fastrand::Rng::with_seed(1);
    for length in (0..200).map(|round| round * 37) {
        let mut bytes = vec![0; length];
        random.fill(&mut bytes);
        refusal(&runtime, &bytes);
        for preamble in [b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"] {
            refusal(&runtime, &[preamble.as_slice(), &bytes].concat());
        }
    }
}

/// Replaces every occurrence by something equally long.
fn patched(bytes: &[u8], what: &str, by: &str) -> Vec<u8> {
    assert_eq!(what.len(), by.len());
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> = bytes
        .windows(what.len())
        .enumerate()
        .filter(|(_, found)| *found == what.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "there is no {what}");
    for place in places {
        bytes[place..place + by.len()].copy_from_slice(by.as_bytes());
    }
    bytes
}

#[test]
fn the_right_names_with_other_types_or_another_version_are_refused() {
    let (runtime, good) = (runtime(), policy("default"));
    for (what, by, reason) in [
        // A field, a case, a method of the host's, a function: each is part of a type.
        ("cool-off-ms", "warm-off-ms", "cannot be started: expected"),
        ("overloaded", "overlauded", "cannot be started: expected"),
        ("[method]attempt.status", "[method]attempt.statue", ""),
        ("@0.1.0", "@0.2.0", "it was built for spillway:policy@0.2.0"),
        ("@0.1.0", "@1.1.0", "it was built for spillway:policy@1.1.0"),
        ("spillway:policy/", "spillweg:policy/", ""),
    ] {
        for file in [good.clone(), wit_component(&good)] {
            let said = refusal(&runtime, &patched(&file, what, by));
            assert!(said.contains(reason), "{what}: {said}");
        }
    }
}

#[test]
fn components_within_components_cannot_multiply() {
    let runtime = runtime();
    for (depth, width) in [(1, 900), (2, 1), (3, 100), (30, 2), (90, 2)] {
        let said = refusal(&runtime, &nested(depth, width));
        assert!(said.contains("components"), "{depth} deep, {width} wide: {said}");
    }
}

#[test]
fn what_would_take_too_long_to_compile_is_not_compiled() {
    let (runtime, good) = (runtime(), policy("default"));
    for (variables, blocks) in [(1_000, 10_000), (49_000, 100_000), (50, 300_000), (5, 20_000)] {
        let file = with_body(&good, "#classify", |_, _| tangled(variables, blocks));
        let said = refusal(&runtime, &file);
        assert!(said.contains("too long to be compiled"), "{variables} variables, {blocks} blocks: {said}");
    }
    let said = refusal(&runtime, &with_functions(&good, 50_000));
    assert!(said.contains("too many functions"), "{said}");
    load(&runtime, &with_functions(&good, 20_000), "{}").unwrap();
    // Just below the bound.
    for (variables, blocks) in [(900, 4_500), (5, 7_500)] {
        let said = refusal(&runtime, &with_body(&good, "#classify", |_, _| tangled(variables, blocks)));
        assert_eq!(said, "it failed its self-test: classify took longer than 5 ms");
    }
}
