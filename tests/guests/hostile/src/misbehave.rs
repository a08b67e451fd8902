//! Everything that a policy should not do, by name.

use spillway_sdk::{LogLevel, Verdict, log};
use std::hint::black_box;
use std::time::Duration;

/// Lines of one flood. Few enough to be written before the time is up, were nothing in the way.
const FLOOD_LINES: u32 = 500;

/// Few of them fit into an instance's memory.
const LEAK_BYTES: usize = 1 << 20;

/// Of a text that is far beyond all bounds, and yet takes a tenth of the time there is to make: each page of memory that it
/// is the first to use costs a microsecond or two.
const HUGE_BYTES: usize = 1 << 20;

/// Does something that ends an instance; names of what does not do nothing.
pub(crate) fn misbehave(deed: &str) {
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
        "leak" => {
            // Touched nowhere, so that it costs no time.
            std::mem::forget(black_box(Vec::<u8>::with_capacity(LEAK_BYTES)));
        }
        "stack" => {
            black_box(deeper(black_box(0)));
        }
        "flood" => (0..FLOOD_LINES).for_each(|line| log(LogLevel::Error, &format!("flood {line}"))),
        "flood and trap" => {
            misbehave("flood");
            misbehave("trap");
        }
        "huge line" => log(LogLevel::Error, &"x".repeat(HUGE_BYTES)),
        "forged line" => log(LogLevel::Info, "harmless\n1970-01-01T00:00:00Z ERROR forged\u{1b}[31m"),
        _ => {}
    }
}

/// Ends only when the stack does.
#[expect(unconditional_recursion, reason = "running out of stack is what it is for")]
fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    deeper(frame[0] + 1) + black_box(frame)[63]
}

/// A verdict that tries what a verdict can do; none for any other name.
pub(crate) fn verdict(deed: &str) -> Option<Verdict> {
    match deed {
        "huge reason" => Some(Verdict::failure("x".repeat(HUGE_BYTES))),
        "long reason" => Some(Verdict::failure(format!("x{}", "\u{e9}".repeat(10 << 10)))),
        "forged reason" => Some(Verdict::failure("harmless\r\nx-forged: yes\u{0}")),
        "broken reason" => {
            let bytes = black_box(vec![b'o', b'k', 0xff, 0xfe, 0xc0]);
            #[allow(unsafe_code, reason = "text that is none can be made in no other way")]
            // SAFETY: there is none. It is what a policy in another language may hand over, and nothing here reads it.
            let text = unsafe { String::from_utf8_unchecked(bytes) };
            Some(Verdict::failure(text))
        }
        "endless cool-off" => Some(Verdict::throttled("for ever").cool_off(Duration::from_millis(u64::MAX))),
        "retry" => Some(Verdict::overloaded("again")),
        _ => None,
    }
}
