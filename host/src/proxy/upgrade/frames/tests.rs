use super::*;
use crate::proxy::upgrade::inflate::Inflate;
use flate2::{Compress, Compression, FlushCompress};
use proptest::prelude::*;

/// A frame with this first byte, over any split of lengths.
fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(masked | u8::try_from(length).expect("short")),
        length @ 126..=0xffff => {
            bytes.push(masked | 126);
            bytes.extend(u16::try_from(length).expect("shorter").to_be_bytes());
        }
        length => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask.iter().flatten());
    let key = mask.unwrap_or_default();
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
    bytes
}

fn text(payload: &str) -> Vec<u8> {
    frame(0x81, None, payload.as_bytes())
}

/// All that is told of these bytes, in pieces of this size, and whether the end lies between two frames.
fn told(messages: Messages, bytes: &[u8], size: usize) -> (Vec<String>, bool) {
    let (mut frames, mut all) = (Frames::new(messages), Vec::new());
    for piece in bytes.chunks(size.max(1)) {
        frames.read(piece, |told| {
            all.push(match told {
                Told::Json(json) => String::from_utf8_lossy(json).into_owned(),
                Told::Message => "a message".to_owned(),
                Told::Close(code) => format!("close {code:?}"),
            });
        });
    }
    (all, frames.is_between_frames())
}

#[test]
fn a_message_in_fragments_is_one_message_with_control_frames_between_them() {
    let bytes = [
        frame(0x01, None, b"{\"a\":"),
        frame(0x89, None, b"ping"),
        frame(0x00, None, b""),
        frame(0x8a, None, b""),
        frame(0x80, None, b"1}"),
        frame(0x82, None, b"{\"b\":2}"),
        frame(0x82, None, b"\x00\x01 no JSON"),
        text(""),
        frame(0x88, None, &[0x03, 0xf3, b'w', b'h', b'y']),
    ]
    .concat();
    let expected = ["{\"a\":1}", "{\"b\":2}", "a message", "a message", "close Some(1011)"];
    for size in 1..bytes.len() {
        assert_eq!(told(Messages::Plain, &bytes, size), (expected.map(str::to_owned).to_vec(), true), "{size}");
    }
}

#[test]
fn lengths_of_all_three_forms_are_read() {
    for length in [0, 1, 125, 126, 127, 0xffff, 0x1_0000, MESSAGE_BYTES_MAX - 2] {
        let json = format!("{{{}}}", " ".repeat(length));
        let bytes = [text(&json), text("{}")].concat();
        let all = told(Messages::Plain, &bytes, 1_000).0;
        let (told, then) = (all[0].len(), all[1].as_str());
        assert_eq!((told, then), (length + 2, "{}"), "{length}");
    }
}

#[test]
fn a_message_that_is_too_large_is_passed_over_and_the_next_one_is_read() {
    let large = format!("{{{}}}", " ".repeat(MESSAGE_BYTES_MAX));
    let bytes = [text(&large), frame(0x01, None, large.as_bytes()), frame(0x80, None, b"}"), text("{}")].concat();
    let (all, _) = told(Messages::Plain, &bytes, 5_000);
    assert_eq!(all, ["a message", "a message", "{}"]);
}

#[test]
fn of_a_caller_only_the_close_is_read_behind_its_mask() {
    let mask = Some([1, 2, 3, 4]);
    let bytes = [frame(0x81, mask, b"{\"secret\":1}"), frame(0x88, mask, &[0x03, 0xe8])].concat();
    for size in 1..bytes.len() {
        assert_eq!(told(Messages::Plain, &bytes, size).0, ["a message", "close Some(1000)"], "{size}");
    }
    assert_eq!(told(Messages::Plain, &frame(0x88, mask, b""), 1).0, ["close None"]);
}

#[test]
fn what_is_compressed_is_read_only_where_that_was_agreed_upon() {
    let mut stream = Compress::new(Compression::default(), false);
    let mut deflate = |message: &[u8]| {
        let mut bytes = Vec::with_capacity(message.len() + 100);
        stream.compress_vec(message, &mut bytes, FlushCompress::Sync).expect("room");
        bytes.truncate(bytes.len() - 4);
        bytes
    };
    let (first, second) = (deflate(b"{\"type\":\"a\"}"), deflate(b"{\"type\":\"a\"}"));
    let (begin, end) = first.split_at(2);
    let bytes = [frame(0x41, None, begin), frame(0x80, None, end), text("{}"), frame(0xc1, None, &second)].concat();
    let read = ["{\"type\":\"a\"}", "{}", "{\"type\":\"a\"}"];
    assert_eq!(told(Messages::Deflated(Inflate::new(false)), &bytes, 3).0, read);
    assert_eq!(told(Messages::Plain, &bytes, 3).0, ["a message", "{}", "a message"]);
    assert_eq!(told(Messages::Unread, &bytes, 3).0, ["a message"; 3]);
}

#[test]
fn a_frame_may_follow_only_where_none_is_under_way() {
    let bytes = [frame(0x01, None, b"{"), frame(0x80, None, b"}")].concat();
    let between: Vec<usize> = (0..=bytes.len()).filter(|end| told(Messages::Plain, &bytes[..*end], 1).1).collect();
    assert_eq!(between, [0, 3, 6], "a fragment is a frame of its own");
    for lost in [&b"\x83\x00"[..], b"\x8f\x00", b"\x89\x7e\x01\x00"] {
        assert_eq!(told(Messages::Plain, &[lost, &text("{}")].concat(), 1), (vec![], false), "{lost:?}");
    }
}

#[derive(Clone, Debug)]
enum Sent {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        "[ {}a-z\":]{0,300}".prop_map(Sent::Text),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Sent::Binary),
        prop::collection::vec(any::<u8>(), 0..=125).prop_map(Sent::Ping),
    ]
}

proptest! {
    #[test]
    fn any_split_and_any_fragments_are_read_as_the_same(
        all in prop::collection::vec((sent(), 1..100usize), 0..20),
        size in 1..600usize,
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (sent, fragment) in &all {
            let (first, payload) = match sent {
                Sent::Ping(payload) => {
                    bytes.extend(frame(0x89, None, payload));
                    continue;
                }
                Sent::Text(text) => (1, text.as_bytes()),
                Sent::Binary(payload) => (2, &payload[..]),
            };
            let count = payload.len().div_ceil(*fragment).max(1);
            for index in 0..count {
                let piece = &payload[index * fragment..payload.len().min((index + 1) * fragment)];
                let last = if index + 1 == count { 0x80 } else { 0 };
                bytes.extend(frame(last | if index == 0 { first } else { 0 }, None, piece));
            }
            let is_json = payload.trim_ascii_start().starts_with(b"{");
            let payload = payload.trim_ascii_start();
            expected.push(if is_json { String::from_utf8_lossy(payload).into_owned() } else { "a message".to_owned() });
        }
        prop_assert_eq!(told(Messages::Plain, &bytes, size), (expected, true));
    }

    #[test]
    fn no_garbage_does_any_harm(bytes in prop::collection::vec(any::<u8>(), 0..2_000), size in 1..100usize) {
        let (all, _) = told(Messages::Deflated(Inflate::new(false)), &bytes, size);
        prop_assert!(all.len() <= bytes.len());
    }
}
