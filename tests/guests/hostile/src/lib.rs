//! A policy that misbehaves when a response header tells it to: `x-hostile: loop`, `trap`, `memory` or `stack`.
//!
//! Its setting `configure` makes it do the same when it is loaded.

use serde::Deserialize;
use spillway_sdk::{Exchange, Hooks, Policy, Settings, Verdict};
use std::hint::black_box;

/// Harmless until it is told otherwise.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Hostile {
    /// What to do when configured.
    configure: String,
}

impl Policy for Hostile {
    const SUMMARY: &'static str = "Misbehaves on demand";
    const HOOKS: Hooks = Hooks { classify: true, ..Hooks::NONE };

    fn configure(&mut self, settings: Settings<'_>) -> Result<(), String> {
        *self = settings.parse()?;
        misbehave(&self.configure);
        Ok(())
    }

    fn classify(&self, exchange: &Exchange<'_>) -> Option<Verdict> {
        let deed = exchange.header_str("x-hostile")?;
        misbehave(&deed);
        Some(Verdict::ignored("nothing hostile to do"))
    }
}

fn misbehave(deed: &str) {
    match deed {
        "loop" => loop {
            black_box(());
        },
        "trap" => {
            let nothing: &[u8] = black_box(&[]);
            black_box(nothing[0]);
        }
        "memory" => {
            let mut hoard = Vec::new();
            loop {
                // Untouched, so that memory runs out before time does.
                hoard.push(black_box(Vec::<u8>::with_capacity(4 << 20)));
            }
        }
        "stack" => {
            black_box(deeper(black_box(0)));
        }
        _ => {}
    }
}

/// Ends only when the stack does.
#[expect(unconditional_recursion, reason = "running out of stack is what it is for")]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    deeper(frame[0] + 1) + black_box(frame)[63]
}

spillway_sdk::export!(Hostile);
