use super::*;
use crate::dialect::Tier;
use crate::dialect::sse::EVENT_BYTES_MAX;
use proptest::prelude::*;

/// What each of them has used.
const USED: Usage = Usage {
    input: 5,
    output: 2,
    cache_read: 0,
    cache_write_5m: 0,
    cache_write_1h: 0,
    reasoning: 0,
    audio_input: 0,
    audio_output: 0,
    tier: Tier::Standard,
};

/// A healthy stream of each API, as recorded, and the tokens that it reports.
const RECORDED: [(Dialect, &str, Usage); 6] = [
    (
        Dialect::OpenAi,
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n\
         data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi \\\"you\\\"\"},\"finish_reason\":null}]}\n\n\
         data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
         data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
        USED,
    ),
    (
        Dialect::OpenAi,
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\"}}\n\n\
         event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n\
         event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\
         \"usage\":{\"input_tokens\":5,\"output_tokens\":2}}}\n\n",
        USED,
    ),
    (
        Dialect::OpenAi,
        "data: {\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\"}}\r\n\r\n\
         data: {\"delta\":\"Hi\",\"type\":\"response.output_text.delta\"}\r\n\r\n\
         data: {\"response\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":2}},\"type\":\"response.incomplete\"}\r\n\r\n",
        USED,
    ),
    (
        Dialect::Anthropic,
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\
         \"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0}\n\n\
         event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"Hi\"}}\n\n\
         event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
         \"usage\":{\"output_tokens\":2}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        USED,
    ),
    (
        Dialect::Anthropic,
        "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5}}}\n\n\
         data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"Hi\"}}\n\n\
         data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n\
         data: {\"type\":\"message_stop\"}\n\n",
        USED,
    ),
    (
        Dialect::Gemini,
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hi\"}]}}]}\n\n\
         data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\".\"}]},\"finishReason\":\"STOP\"}],\
         \"usageMetadata\":{\"promptTokenCount\":5,\"candidatesTokenCount\":2}}\n\n",
        USED,
    ),
];

/// A stream with an image in it, in an event that is too large to be kept together, and again in the last one, behind
/// which the tokens are reported. What stands in the image's text is nobody's usage and nobody's end.
fn with_an_image() -> String {
    let image = format!("\"usage\\\":{{\\n{}data: [DONE]", "x".repeat(EVENT_BYTES_MAX));
    format!(
        "event: response.created\ndata: {{\"type\":\"response.created\"}}\n\n\
         event: response.output_item.done\ndata: {{\"item\":{{\"result\":\"{image}\"}},\ndata: \"usage\":{{\"input_tokens\":1,\
         \"output_tokens\":1}}}}\n\n: between\n\n\
         event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{{\"output\":[{{\"result\":\"{image}\"}}],\
         \"usage\":{{\"input_tokens\":5,\"output_tokens\":2}},\"metadata\":{{}}}}}}\r\n\r\n"
    )
}

/// All that came of a stream which arrived in these pieces, and then ended or broke off.
#[derive(Debug, PartialEq)]
struct Told {
    passed_on: Vec<u8>,
    stage: Stage,
    has_content: bool,
    pieces: u64,
    usage: Option<Usage>,
    overflowed: bool,
}

fn told(dialect: Dialect, alternatives: u64, pieces: &[&[u8]]) -> Told {
    let mut events = Events::new(Splitter::default(), dialect, alternatives, false);
    let mut passed_on = Vec::new();
    for piece in pieces {
        events.push(Bytes::copy_from_slice(piece));
        while let Some(event) = events.next_event() {
            passed_on.extend(event.bytes.into_iter().flatten());
        }
    }
    passed_on.extend(events.last_event().and_then(|event| event.bytes).into_iter().flatten());
    passed_on.extend(events.take_rest());
    Told {
        passed_on,
        stage: events.stage(),
        has_content: events.has_content(),
        pieces: events.pieces(),
        usage: events.usage(),
        overflowed: events.overflowed(),
    }
}

fn stage(dialect: Dialect, text: &str) -> Stage {
    told(dialect, 1, &[text.as_bytes()]).stage
}

proptest! {
    #[test]
    fn however_a_whole_answer_arrives_and_whatever_follows_it_is_the_same_answer(
        which in 0..RECORDED.len(),
        cuts in proptest::collection::vec(0usize..900, 0..6),
        blank_lines_missing in 0usize..3,
        behind in proptest::sample::select(vec!["", "\n", ": bye\n\n", "data: {\"choi", "garbage", "data: [DONE]\n\n"]),
    ) {
        let (dialect, text, usage) = RECORDED[which];
        // The last event's closing line may be missing, in part or as a whole; then nothing follows.
        let missing = blank_lines_missing.min(2);
        let text = match missing {
            0 => format!("{text}{behind}"),
            missing => text[..text.len() - missing].to_owned(),
        };
        let bytes = text.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let told = told(dialect, 1, &pieces);
        prop_assert_eq!(&told.passed_on, bytes);
        prop_assert!(told.stage >= Stage::Finished && told.has_content, "{told:?}");
        prop_assert_eq!(told.usage, Some(usage));
    }

    #[test]
    fn a_stream_that_is_cut_before_its_end_is_never_whole_and_passed_on_as_far_as_it_came(
        which in 0..RECORDED.len(),
        cut in 0usize..900,
    ) {
        let (dialect, text, _) = RECORDED[which];
        // From the event on that ends the answer, it is whole.
        let end = ["\"stop\"", "response.completed", "\"response\":{\"usage\"", "message_stop", "\"STOP\""];
        let whole_from = end.iter().filter_map(|end| text.find(end)).min().expect("an end");
        let cut = cut.min(whole_from);
        let told = told(dialect, 1, &[&text.as_bytes()[..cut]]);
        prop_assert_eq!(told.stage, Stage::Running);
        prop_assert_eq!(&told.passed_on[..], &text.as_bytes()[..cut]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_event_that_is_too_large_is_passed_on_unread_and_says_what_it_cost_however_it_arrives(
        cuts in proptest::collection::vec(0usize..2 * EVENT_BYTES_MAX + 700, 0..20),
        around in proptest::collection::vec((0usize..4, -8isize..8), 0..6),
    ) {
        let stream = with_an_image();
        let bytes = stream.as_bytes();
        // Many cuts are where something begins, ends or becomes too large.
        let large = stream.find("event: response.output_item").expect("an event");
        let behind = stream.find(": between").expect("a comment");
        let places = [large + EVENT_BYTES_MAX, behind, stream.find("event: response.completed").expect("an event"), bytes.len()];
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend(around.into_iter().map(|(place, by)| places[place].saturating_add_signed(by).min(bytes.len())));
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let told = told(Dialect::OpenAi, 1, &pieces);
        prop_assert!(told.passed_on == bytes, "other bytes are passed on");
        prop_assert_eq!((told.stage, told.pieces, told.overflowed), (Stage::Running, 2, true));
        prop_assert_eq!(told.usage, Some(USED));
    }
}

#[test]
fn a_reason_to_finish_that_says_nothing_is_no_end() {
    for reason in ["null", "\"\""] {
        let chunk =
            format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"a\"}},\"finish_reason\":{reason}}}]}}\n\n");
        assert_eq!(stage(Dialect::OpenAi, &chunk), Stage::Running, "{reason}");
    }
    for reason in ["null", "\"\"", "\"FINISH_REASON_UNSPECIFIED\""] {
        let chunk = format!("data: {{\"candidates\":[{{\"finishReason\" : {reason}}}]}}\n\n");
        assert_eq!(stage(Dialect::Gemini, &chunk), Stage::Running, "{reason}");
    }
    let quoted = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"finish_reason\\\":\\\"stop\\\"\"}}]}\n\n";
    assert_eq!(stage(Dialect::OpenAi, quoted), Stage::Running, "somebody writes about it");
}

#[test]
fn of_several_alternatives_all_must_be_finished_for_the_answer_to_be() {
    let finish = |index: u32| format!("data: {{\"choices\":[{{\"index\":{index},\"finish_reason\":\"stop\"}}]}}\n\n");
    let after = |text: String| told(Dialect::OpenAi, 3, &[text.as_bytes()]).stage;
    assert_eq!(after(finish(1)), Stage::PartlyFinished);
    assert_eq!(after(finish(1) + &finish(0)), Stage::PartlyFinished);
    assert_eq!(after(finish(1) + &finish(0) + &finish(2)), Stage::Finished);
    let together = "data: {\"choices\":[{\"finish_reason\":\"stop\"},{\"finish_reason\":\"length\"},\
                    {\"finish_reason\":\"stop\"}]}\n\n";
    assert_eq!(after(together.to_owned()), Stage::Finished);
    let blocked = "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\n\n";
    assert_eq!(told(Dialect::Gemini, 3, &[blocked.as_bytes()]).stage, Stage::Finished);
}

#[test]
fn an_end_alone_is_no_answer() {
    let ends = [(Dialect::OpenAi, "data: [DONE]\n\n"), (Dialect::Anthropic, "event: message_stop\ndata: {}\n\n")];
    for (dialect, end) in ends {
        let told = told(dialect, 1, &[b": hello\n\n", end.as_bytes()]);
        assert_eq!((told.stage, told.has_content), (Stage::Over, false), "{end}");
    }
}

#[test]
fn what_somebody_else_speaks_is_passed_on_and_never_whole() {
    let told = told(Dialect::Other, 1, &[b"data: [DONE]\n\n"]);
    assert_eq!((told.stage, told.passed_on), (Stage::Running, b"data: [DONE]\n\n".to_vec()));
}
