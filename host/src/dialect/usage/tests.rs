use super::*;
use crate::dialect::Dialect::{self, Anthropic, Gemini, Ollama, OpenAi};
use proptest::prelude::*;

/// Answers as providers give them, and what was used by them.
#[test]
fn each_provider_is_read_as_it_counts() {
    let cases: [(&str, Dialect, &str, Usage); 26] = [
        (
            "chat: what was cached and thought is inside",
            OpenAi,
            r#"{"choices":[{"message":{"content":"the word \"usage\": none"}}],"usage":{"prompt_tokens":2006,
                "completion_tokens":300,"total_tokens":2306,"prompt_tokens_details":{"cached_tokens":1920,
                "audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":192,"audio_tokens":0,
                "accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default"}"#,
            Usage { input: 2006, output: 300, cache_read: 1920, reasoning: 192, ..Usage::default() },
        ),
        (
            "chat: a cache that is paid for when it is written",
            OpenAi,
            r#"{"usage":{"prompt_tokens":3000,"completion_tokens":5,"total_tokens":3005,
                "prompt_tokens_details":{"cached_tokens":1000,"cache_write_tokens":1500}}}"#,
            Usage { input: 3000, output: 5, cache_read: 1000, cache_write_5m: 1500, ..Usage::default() },
        ),
        (
            "a chunk's tier stands before its usage",
            OpenAi,
            r#"{"id":"c","service_tier":"flex","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
            Usage { input: 1, output: 2, tier: Tier::Flex, ..Usage::default() },
        ),
        (
            "priority has another name",
            OpenAi,
            r#"{"usage":{"prompt_tokens":1,"completion_tokens":2},"service_tier":"fast"}"#,
            Usage { input: 1, output: 2, tier: Tier::Priority, ..Usage::default() },
        ),
        (
            "sound, of which some was cached",
            OpenAi,
            r#"{"type":"response.done","response":{"usage":{"total_tokens":253,"input_tokens":132,"output_tokens":121,
                "input_token_details":{"text_tokens":119,"audio_tokens":13,"image_tokens":0,"cached_tokens":64,
                "cached_tokens_details":{"text_tokens":60,"audio_tokens":4}},
                "output_token_details":{"text_tokens":30,"audio_tokens":91}}}}"#,
            Usage { input: 132, output: 121, cache_read: 64, audio_input: 9, audio_output: 91, ..Usage::default() },
        ),
        (
            "Responses",
            OpenAi,
            r#"{"type":"response.completed","response":{"service_tier":"priority","usage":{"input_tokens":328,
                "input_tokens_details":{"cached_tokens":128},"output_tokens":52,
                "output_tokens_details":{"reasoning_tokens":12},"total_tokens":380}}}"#,
            Usage { input: 328, output: 52, cache_read: 128, reasoning: 12, tier: Tier::Priority, ..Usage::default() },
        ),
        (
            "embeddings",
            OpenAi,
            r#"{"data":[],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            Usage { input: 8, ..Usage::default() },
        ),
        (
            "a transcript",
            OpenAi,
            r#"{"text":"t","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,
                "audio_tokens":14},"output_tokens":45,"total_tokens":59}}"#,
            Usage { input: 14, output: 45, audio_input: 14, ..Usage::default() },
        ),
        (
            "DeepSeek's words",
            OpenAi,
            r#"{"usage":{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110,"prompt_cache_hit_tokens":64,
                "prompt_cache_miss_tokens":36,"completion_tokens_details":{"reasoning_tokens":4}}}"#,
            Usage { input: 100, output: 10, cache_read: 64, reasoning: 4, ..Usage::default() },
        ),
        (
            "xAI counts reasoning beside the output",
            OpenAi,
            r#"{"usage":{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,
                "prompt_tokens_details":{"text_tokens":32,"audio_tokens":0,"image_tokens":0,"cached_tokens":6},
                "completion_tokens_details":{"reasoning_tokens":94,"audio_tokens":0}}}"#,
            Usage { input: 32, output: 103, cache_read: 6, reasoning: 94, ..Usage::default() },
        ),
        (
            "less of it than of the output, and told by the sum alone",
            OpenAi,
            r#"{"usage":{"prompt_tokens":32,"completion_tokens":50,"total_tokens":92,
                "completion_tokens_details":{"reasoning_tokens":10}}}"#,
            Usage { input: 32, output: 60, reasoning: 10, ..Usage::default() },
        ),
        (
            "Groq's chunk",
            OpenAi,
            r#"{"choices":[],"x_groq":{"id":"r","usage":{"queue_time":0.01,"prompt_tokens":19,"completion_tokens":9,
                "total_tokens":28}}}"#,
            Usage { input: 19, output: 9, ..Usage::default() },
        ),
        (
            "a server that speaks both words",
            OpenAi,
            r#"{"usage":{"prompt_tokens":19,"completion_tokens":9,"input_tokens":19,"output_tokens":0}}"#,
            Usage { input: 19, output: 9, ..Usage::default() },
        ),
        (
            "numbers of no kind",
            OpenAi,
            r#"{"usage":{"prompt_tokens":"many","completion_tokens":3,"prompt_tokens_details":null}}"#,
            Usage { output: 3, ..Usage::default() },
        ),
        (
            "a message: what was cached is beside its input",
            Anthropic,
            r#"{"usage":{"input_tokens":1,"cache_read_input_tokens":10,"cache_creation_input_tokens":100,
                "cache_creation":{"ephemeral_5m_input_tokens":60,"ephemeral_1h_input_tokens":40},"output_tokens":7,
                "output_tokens_details":{"thinking_tokens":5},"server_tool_use":{"web_search_requests":2},
                "service_tier":"standard"}}"#,
            Usage {
                input: 111,
                output: 7,
                cache_read: 10,
                cache_write_5m: 60,
                cache_write_1h: 40,
                reasoning: 5,
                ..Usage::default()
            },
        ),
        (
            "without lifetimes a cache lasts as long as is usual",
            Anthropic,
            r#"{"usage":{"input_tokens":1,"cache_creation_input_tokens":100,"cache_read_input_tokens":null,
                "output_tokens":7}}"#,
            Usage { input: 101, output: 7, cache_write_5m: 100, ..Usage::default() },
        ),
        (
            "of a batch",
            Anthropic,
            r#"{"usage":{"input_tokens":5,"output_tokens":7,"service_tier":"batch"}}"#,
            Usage { input: 5, output: 7, tier: Tier::Batch, ..Usage::default() },
        ),
        (
            "in fast mode",
            Anthropic,
            r#"{"usage":{"input_tokens":5,"output_tokens":7,"service_tier":"standard","speed":"fast"}}"#,
            Usage { input: 5, output: 7, tier: Tier::Fast, ..Usage::default() },
        ),
        (
            "what it has summed up is beside the message",
            Anthropic,
            r#"{"usage":{"input_tokens":23000,"output_tokens":1000,"iterations":[{"type":"compaction",
                "input_tokens":180000,"output_tokens":3500},{"type":"message","input_tokens":23000,
                "output_tokens":1000}]}}"#,
            Usage { input: 203_000, output: 4500, ..Usage::default() },
        ),
        (
            "Gemini: what was cached is inside, thoughts and tools are beside",
            Gemini,
            r#"{"usageMetadata":{"promptTokenCount":500,"cachedContentTokenCount":400,"candidatesTokenCount":60,
                "thoughtsTokenCount":70,"toolUsePromptTokenCount":8,"totalTokenCount":638,
                "promptTokensDetails":[{"modality":"TEXT","tokenCount":500}],
                "cacheTokensDetails":[{"modality":"TEXT","tokenCount":400}]}}"#,
            Usage { input: 508, output: 130, cache_read: 400, reasoning: 70, ..Usage::default() },
        ),
        (
            "sound by modality",
            Gemini,
            r#"{"usageMetadata":{"promptTokenCount":340,"cachedContentTokenCount":100,"candidatesTokenCount":25,
                "promptTokensDetails":[{"modality":"TEXT","tokenCount":20},{"modality":"AUDIO","tokenCount":320}],
                "cacheTokensDetails":[{"modality":"AUDIO","tokenCount":100}],
                "candidatesTokensDetails":[{"modality":"AUDIO","tokenCount":25}]}}"#,
            Usage { input: 340, output: 25, cache_read: 100, audio_input: 220, audio_output: 25, ..Usage::default() },
        ),
        (
            "Vertex tells how it was served",
            Gemini,
            r#"{"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":6,"trafficType":"ON_DEMAND_PRIORITY"}}"#,
            Usage { input: 5, output: 6, tier: Tier::Priority, ..Usage::default() },
        ),
        (
            "and mostly that it was served as usual",
            Gemini,
            r#"{"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":6,"trafficType":"ON_DEMAND"}}"#,
            Usage { input: 5, output: 6, ..Usage::default() },
        ),
        (
            "the Live API's words",
            Gemini,
            r#"{"serverContent":{},"usageMetadata":{"promptTokenCount":5,"responseTokenCount":7,"thoughtsTokenCount":1,
                "responseTokensDetails":[{"modality":"AUDIO","tokenCount":7}]}}"#,
            Usage { input: 5, output: 8, reasoning: 1, audio_output: 7, ..Usage::default() },
        ),
        (
            "Ollama",
            Ollama,
            r#"{"model":"m","done":true,"prompt_eval_count":26,"eval_count":298}"#,
            Usage { input: 26, output: 298, ..Usage::default() },
        ),
        (
            "numbers beyond all bounds",
            Anthropic,
            r#"{"usage":{"input_tokens":18446744073709551615,"cache_read_input_tokens":18446744073709551615,
                "output_tokens":1}}"#,
            Usage { input: u64::MAX, output: 1, cache_read: u64::MAX, ..Usage::default() },
        ),
    ];
    for (name, dialect, json, expected) in cases {
        assert_eq!(dialect.read_usage(json.as_bytes()), Some(expected), "{name}");
        assert_eq!(expected.within_wholes(), expected, "{name}: its parts are parts");
    }
}

#[test]
fn what_reports_no_tokens_reports_nothing() {
    let cases = [
        (OpenAi, r#"{"usage":null}"#),
        (OpenAi, r#"{"choices":[]}"#),
        (OpenAi, r#"{"usage":{}}"#),
        (OpenAi, r#"{"text":"t","usage":{"type":"duration","seconds":7}}"#),
        (Anthropic, r#"{"usage":{"service_tier":"standard"}}"#),
        (Gemini, r#"{"usageMetadata":{"trafficType":"ON_DEMAND"}}"#),
        (Dialect::Other, r#"{"usage":{"prompt_tokens":1,"completion_tokens":2}}"#),
    ];
    for (dialect, json) in cases {
        assert_eq!(dialect.read_usage(json.as_bytes()), None, "{json}");
    }
}

#[test]
fn tiers_are_called_what_files_call_them() {
    for tier in Tier::ALL {
        assert_eq!(Tier::from_word(tier.as_str()), Some(tier));
        assert_eq!(Tier::said(tier.as_str()), tier);
    }
    let said = [("default", Tier::Standard), ("auto", Tier::Standard), ("scale", Tier::Standard)];
    for (word, tier) in said.into_iter().chain([("ON_DEMAND_FLEX", Tier::Flex), ("FLEX", Tier::Flex)]) {
        assert_eq!(Tier::said(word), tier, "{word}");
    }
}

fn any_usage() -> impl Strategy<Value = Usage> {
    let tier = (0..Tier::ALL.len()).prop_map(|at| Tier::ALL[at]);
    (any::<[u64; 8]>(), tier).prop_map(|(counts, tier)| {
        let [input, output, cache_read, cache_write_5m, cache_write_1h, reasoning, audio_input, audio_output] = counts;
        Usage { input, output, cache_read, cache_write_5m, cache_write_1h, reasoning, audio_input, audio_output, tier }
    })
}

proptest! {
    #[test]
    fn parts_are_never_more_than_their_whole(usage in any_usage()) {
        let sound = usage.within_wholes();
        let sum = |parts: &[u64]| parts.iter().map(|part| u128::from(*part)).sum::<u128>();
        let of_input = [sound.cache_read, sound.cache_write_5m, sound.cache_write_1h, sound.audio_input];
        prop_assert!(sum(&of_input) <= u128::from(sound.input));
        prop_assert!(sum(&[sound.reasoning, sound.audio_output]) <= u128::from(sound.output));
        prop_assert_eq!((sound.input, sound.output, sound.tier), (usage.input, usage.output, usage.tier));
        prop_assert_eq!(sound.within_wholes(), sound);
    }

    #[test]
    fn reports_of_one_answer_may_come_in_any_order_and_twice(one in any_usage(), other in any_usage()) {
        prop_assert_eq!(one.most(other), other.most(one));
        prop_assert_eq!(one.most(other).most(one), one.most(other));
        prop_assert_eq!(one.plus(other), other.plus(one));
    }
}

#[test]
fn a_request_says_at_which_price_it_asks_to_be_served() {
    const CHAT: &str = "/v1/chat/completions";
    const GENERATE: &str = "/v1beta/models/g:generateContent";
    for (dialect, path, body, tier) in [
        (OpenAi, CHAT, r#"{"service_tier":"flex"}"#, Tier::Flex),
        (OpenAi, CHAT, r#"{"service_tier":"fast"}"#, Tier::Priority),
        (OpenAi, CHAT, r#"{"service_tier":"auto"}"#, Tier::Standard),
        (OpenAi, CHAT, r#"{"service_tier":7}"#, Tier::Standard),
        (Anthropic, "/v1/messages", r#"{"speed":"fast"}"#, Tier::Fast),
        (Anthropic, "/v1/messages", r#"{"service_tier":"auto"}"#, Tier::Standard),
        (Gemini, GENERATE, r#"{"serviceTier":"SERVICE_TIER_PRIORITY"}"#, Tier::Priority),
        (Gemini, GENERATE, r#"{"service_tier":"flex","contents":[]}"#, Tier::Flex),
    ] {
        assert_eq!(dialect.read_request(path, body.as_bytes()).tier, tier, "{body}");
    }
}
