use super::*;
use proptest::prelude::*;

fn named(dialect: Dialect, path: &str, body: &str) -> Vec<String> {
    references(dialect, path, body.as_bytes()).into_iter().map(Cow::into_owned).collect()
}

fn told(dialect: Dialect, json: &str) -> Vec<String> {
    let mut told = Vec::new();
    made(dialect, json.as_bytes(), |text| told.push(text.to_owned()));
    told
}

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const GENERATE: &str = "/v1beta/models/g:generateContent";

#[test]
fn what_a_request_refers_to_is_found_wherever_it_stands() {
    use Dialect::{Anthropic, Gemini, OpenAi};
    let cases: &[(Dialect, &str, &str, &[&str])] = &[
        (OpenAi, RESPONSES, r#"{"previous_response_id":"resp_1"}"#, &["resp_1"]),
        (OpenAi, RESPONSES, r#"{"conversation":"conv_1"}"#, &["conv_1"]),
        (OpenAi, RESPONSES, r#"{"conversation":{"id":"conv_1"}}"#, &["conv_1"]),
        (OpenAi, RESPONSES, r#"{"prompt":{"version":"2","id":"pmpt_1"}}"#, &["pmpt_1"]),
        (
            OpenAi,
            RESPONSES,
            r#"{"input":[{"id":"msg_1","type":"item_reference"},{"id":"msg_2"}]}"#,
            &["msg_1", "msg_2"],
        ),
        (
            OpenAi,
            RESPONSES,
            r#"{"input":[{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":"gAAA"}]}"#,
            &["gAAA", "rs_1"],
        ),
        (OpenAi, RESPONSES, r#"{"input":[{"type":"reasoning","encrypted_content":null,"id":"rs_1"}]}"#, &["rs_1"]),
        (OpenAi, RESPONSES, r#"{"input":[{"type":"compaction","encrypted_content":"gAAA"}]}"#, &["gAAA"]),
        (OpenAi, RESPONSES, r#"{"input":[{"type":"image_generation_call","id":"ig_1"}]}"#, &["ig_1"]),
        (
            OpenAi,
            RESPONSES,
            r#"{"input":[{"role":"user","content":[{"type":"input_file","file_id":"file-1"}]}]}"#,
            &["file-1"],
        ),
        (
            OpenAi,
            RESPONSES,
            r#"{"tools":[{"type":"file_search","vector_store_ids":["vs_1","vs_2"]},
                {"type":"code_interpreter","container":"cntr_1"},
                {"type":"code_interpreter","container":{"type":"auto","file_ids":["file-1"]}}]}"#,
            &["vs_1", "vs_2", "cntr_1", "file-1"],
        ),
        (
            OpenAi,
            RESPONSES,
            r#"{"tools":[{"type":"shell","environment":{"type":"container_reference","container_id":"cntr_1"}},
                {"environment":{"skills":[{"type":"skill_reference","skill_id":"skill_1"}]}}]}"#,
            &["cntr_1", "skill_1"],
        ),
        (OpenAi, CHAT, r#"{"messages":[{"role":"assistant","audio":{"id":"audio_1"}}]}"#, &["audio_1"]),
        (OpenAi, CHAT, r#"{"messages":[{"content":[{"type":"file","file":{"file_id":"file-1"}}]}]}"#, &["file-1"]),
        (
            OpenAi,
            CHAT,
            r#"{"messages":[{"tool_calls":[{"id":"c","type":"function","extra_content":{"google":{"thought_signature":"s"}}}]}]}"#,
            &["s"],
        ),
        (
            OpenAi,
            CHAT,
            r#"{"messages":[{"reasoning_details":[{"type":"reasoning.encrypted","data":"d"},{"type":"reasoning.text","signature":"s"}]}]}"#,
            &["d", "s"],
        ),
        (OpenAi, "/v1/batches", r#"{"input_file_id":"file-1","endpoint":"/v1/responses"}"#, &["file-1"]),
        (OpenAi, "/v1/fine_tuning/jobs", r#"{"training_file":"file-1","validation_file":null}"#, &["file-1"]),
        (
            Anthropic,
            MESSAGES,
            r#"{"messages":[{"role":"assistant","content":[
                {"type":"thinking","thinking":"t","signature":"EqQ="},
                {"data":"Ems=","type":"redacted_thinking"},
                {"type":"web_search_tool_result","content":[{"type":"web_search_result","encrypted_content":"e"}]},
                {"type":"text","citations":[{"type":"web_search_result_location","encrypted_index":"i"}]}]}]}"#,
            &["EqQ=", "Ems=", "e", "i"],
        ),
        (
            Anthropic,
            MESSAGES,
            r#"{"messages":[{"content":[{"type":"document","source":{"type":"file","file_id":"file_1"}}]}]}"#,
            &["file_1"],
        ),
        (Anthropic, MESSAGES, r#"{"container":"container_1"}"#, &["container_1"]),
        (
            Anthropic,
            MESSAGES,
            r#"{"container":{"id":"container_1","skills":[{"type":"custom","skill_id":"skill_1"},{"type":"anthropic","skill_id":"pdf"}]}}"#,
            &["container_1", "skill_1"],
        ),
        (Anthropic, MESSAGES, r#"{"fallback_credit_token":{"token":"t","mode":"strict"}}"#, &["t"]),
        (Gemini, GENERATE, r#"{"cachedContent":"cachedContents/1"}"#, &["cachedContents/1"]),
        (Gemini, GENERATE, r#"{"cached_content":"projects/p/locations/l/cachedContents/1"}"#, &["cachedContents/1"]),
        (
            Gemini,
            GENERATE,
            r#"{"contents":[{"parts":[{"fileData":{"fileUri":"https://generativelanguage.googleapis.com/v1beta/files/1"}}]}]}"#,
            &["files/1"],
        ),
        (
            Gemini,
            GENERATE,
            r#"{"contents":[{"parts":[{"functionCall":{"name":"f","args":{}},"thoughtSignature":"s"},{"thought_signature":"t"}]}]}"#,
            &["s", "t"],
        ),
        (
            Gemini,
            GENERATE,
            r#"{"tools":[{"file_search":{"file_search_store_names":["fileSearchStores/1"]}}]}"#,
            &["fileSearchStores/1"],
        ),
        (Gemini, "/v1beta/interactions", r#"{"previous_interaction_id":"v1_1"}"#, &["v1_1"]),
        (
            Gemini,
            "/v1beta/models/veo:predictLongRunning",
            r#"{"instances":[{"video":{"uri":"http://127.0.0.1:4141/v1beta/files/1:download?alt=media"}}]}"#,
            &["files/1"],
        ),
    ];
    for (dialect, path, body, expected) in cases {
        assert_eq!(named(*dialect, path, body), *expected, "{path} {body}");
        // Each of these keys may be written otherwise.
        let spaced = body.replace("_id\"", "_\\u0069d\"").replace("\":", "\" : ");
        assert_eq!(named(*dialect, path, &spaced), *expected, "{path} {spaced}");
    }
}

#[test]
fn what_refers_to_nothing_may_go_anywhere() {
    use Dialect::{Anthropic, Gemini, OpenAi, Other};
    let cases = [
        (OpenAi, CHAT, r#"{"model":"m","messages":[{"role":"user","content":"previous_response_id"}],"user":"u"}"#),
        (OpenAi, CHAT, r#"{"messages":[{"content":"{\"file_id\":\"file-1\"}"}]}"#),
        (
            OpenAi,
            CHAT,
            r#"{"messages":[{"tool_calls":[{"id":"call_1","type":"function"}]},{"tool_call_id":"call_1"}]}"#,
        ),
        (OpenAi, CHAT, r#"{"modalities":["text","audio"],"audio":{"voice":"alloy","format":"wav"}}"#),
        (OpenAi, CHAT, r#"{"metadata":{"file_id":"f","conversation":"c"}}"#),
        (OpenAi, "/v1/completions", r#"{"prompt":"once upon a time"}"#),
        (OpenAi, RESPONSES, r#"{"previous_response_id":null,"conversation":null,"prompt_cache_key":"k"}"#),
        (OpenAi, RESPONSES, r#"{"input":[{"type":"message","id":"msg_1","role":"assistant","content":[]}]}"#),
        (OpenAi, RESPONSES, r#"{"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]}"#),
        (OpenAi, RESPONSES, r#"{"tools":[{"type":"function","parameters":{"properties":{"a":{"file_id":"x"}}}}]}"#),
        (OpenAi, RESPONSES, "/v1/responses/resp_1"),
        (Anthropic, MESSAGES, r#"{"messages":[{"content":[{"type":"thinking","signature":""}]}]}"#),
        (
            Anthropic,
            MESSAGES,
            r#"{"messages":[{"content":[{"type":"image","source":{"type":"base64","data":"iVBO"}}]}]}"#,
        ),
        (
            Anthropic,
            MESSAGES,
            r#"{"messages":[{"content":[{"type":"tool_use","id":"t","input":{"file_id":"mine"}}]}]}"#,
        ),
        (Anthropic, MESSAGES, r#"{"tools":[{"input_schema":{"properties":{"container":"x"}}}]}"#),
        (Gemini, GENERATE, r#"{"contents":[{"parts":[{"fileData":{"fileUri":"gs://bucket/files/1"}}]}]}"#),
        (Gemini, GENERATE, r#"{"contents":[{"parts":[{"fileData":{"fileUri":"https://example.com/v1/files/1"}}]}]}"#),
        (Gemini, GENERATE, r#"{"contents":[{"parts":[{"functionResponse":{"response":{"file_uri":"files/1"}}}]}]}"#),
        (Gemini, GENERATE, r#"{"contents":[{"parts":[{"thoughtSignature":"skip_thought_signature_validator"}]}]}"#),
        (
            Gemini,
            GENERATE,
            r#"{"contents":[{"parts":[{"thought_signature":"c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="}]}]}"#,
        ),
        (Gemini, GENERATE, r#"{"contents":[{"parts":[{"text":"a","inlineData":{"data":"b"}}]}]}"#),
        (Other, "/v1/responses/resp_1", r#"{"previous_response_id":"resp_1"}"#),
    ];
    for (dialect, path, body) in cases {
        assert_eq!(named(dialect, path, body), Vec::<String>::new(), "{path} {body}");
    }
}

#[test]
fn a_path_refers_to_what_it_names() {
    use Dialect::{Anthropic, Gemini, OpenAi};
    let cases = [
        (OpenAi, "/v1/responses/resp_1", Some("resp_1")),
        (OpenAi, "/responses/resp_1/cancel", Some("resp_1")),
        (OpenAi, "/openai/v1/responses/resp_1/input_items", Some("resp_1")),
        (OpenAi, "/v1/conversations/conv_1/items/msg_1", Some("conv_1")),
        (OpenAi, "/v1/chat/completions/chatcmpl-1/messages", Some("chatcmpl-1")),
        (OpenAi, "/v1/files/file-1/content", Some("file-1")),
        (OpenAi, "/v1/batches/batch_1/cancel", Some("batch_1")),
        (OpenAi, "/v1/vector_stores/vs_1/files/file-1", Some("vs_1")),
        (OpenAi, "/v1/containers/cntr_1/files/cfile_1/content", Some("cntr_1")),
        (OpenAi, "/v1/threads/thread_1/runs/run_1", Some("thread_1")),
        (OpenAi, "/v1/fine_tuning/jobs/ftjob-1/events", Some("ftjob-1")),
        (OpenAi, "/v1/uploads/upload_1/parts", Some("upload_1")),
        (OpenAi, "/v1/evals/eval_1/runs", Some("eval_1")),
        (OpenAi, "/v1/videos/video_1/remix", Some("video_1")),
        (OpenAi, "/v1/responses", None),
        (OpenAi, "/v1/responses/", None),
        (OpenAi, "/v1/responses/compact", None),
        (OpenAi, "/v1/responses/input_tokens", None),
        (OpenAi, "/v1/threads/runs", None),
        (OpenAi, "/openai/deployments/files/chat/completions", None),
        (Anthropic, "/v1/messages/batches/msgbatch_1/results", Some("msgbatch_1")),
        (Anthropic, "/v1/files/file_1", Some("file_1")),
        (Anthropic, "/v1/skills/skill_1/versions", Some("skill_1")),
        (Anthropic, "/v1/messages/count_tokens", None),
        (Anthropic, "/v1/messages/batches", None),
        (Gemini, "/v1beta/cachedContents/1", Some("cachedContents/1")),
        (Gemini, "/v1/projects/p/locations/l/cachedContents/1", Some("cachedContents/1")),
        (Gemini, "/v1beta/files/1:download", Some("files/1")),
        (Gemini, "/v1beta/files/1%3Adownload", Some("files/1")),
        (Gemini, "/v1beta/batches/1:cancel", Some("batches/1")),
        (Gemini, "/v1beta/models/veo/operations/1", Some("operations/1")),
        (Gemini, "/v1beta/tunedModels/1:generateContent", Some("tunedModels/1")),
        (Gemini, "/v1beta/fileSearchStores/1/documents/2", Some("fileSearchStores/1")),
        (Gemini, "/v1beta/interactions/v1_1", Some("v1_1")),
        (Gemini, "/upload/v1beta/files", None),
        (Gemini, GENERATE, None),
    ];
    for (dialect, path, expected) in cases {
        assert_eq!(named(dialect, path, "").first().map(String::as_str), expected, "{path}");
    }
}

#[test]
fn what_an_answer_makes_is_what_a_later_request_refers_to() {
    use Dialect::{Anthropic, Gemini, OpenAi, Other};
    let cases: &[(Dialect, &str, &[&str])] = &[
        (
            OpenAi,
            r#"{"type":"response.created","response":{"id":"resp_1","object":"response","conversation":{"id":"conv_1"}}}"#,
            &["conv_1", "resp_1"],
        ),
        (
            OpenAi,
            r#"{"type":"response.output_item.done","item":{"id":"rs_1","type":"reasoning","encrypted_content":"gAAA"}}"#,
            &["gAAA", "rs_1"],
        ),
        // xAI's ids say nothing of what they are.
        (
            OpenAi,
            r#"{"id":"ad5663da-63e6","object":"response","output":[{"type":"message","id":"msg_1"}]}"#,
            &["msg_1", "ad5663da-63e6"],
        ),
        (OpenAi, r#"{"type":"response.output_text.delta","item_id":"msg_1","delta":"a"}"#, &[]),
        (
            OpenAi,
            r#"{"type":"response.output_text.annotation.added","annotation":{"type":"container_file_citation","file_id":"cfile_1","container_id":"cntr_1"}}"#,
            &["cfile_1", "cntr_1"],
        ),
        (
            OpenAi,
            r#"{"id":"chatcmpl-1","object":"chat.completion","choices":[{"message":{"role":"assistant"}}]}"#,
            &["chatcmpl-1"],
        ),
        (
            OpenAi,
            r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"delta":{"role":"assistant"}}]}"#,
            &["chatcmpl-1"],
        ),
        (OpenAi, r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"delta":{"content":"a"}}]}"#, &[]),
        (
            OpenAi,
            r#"{"object":"chat.completion.chunk","choices":[{"delta":{"tool_calls":[{"id":"c","type":"function","extra_content":{"google":{"thought_signature":"s"}}}]}}]}"#,
            &["s"],
        ),
        (
            OpenAi,
            r#"{"object":"chat.completion.chunk","choices":[{"delta":{"audio":{"id":"audio_1"}}}]}"#,
            &["audio_1"],
        ),
        (OpenAi, r#"{"id":"file-1","object":"file","purpose":"batch"}"#, &["file-1"]),
        (
            OpenAi,
            r#"{"id":"batch_1","object":"batch","input_file_id":"file-1","output_file_id":"file-2"}"#,
            &["file-1", "file-2", "batch_1"],
        ),
        (OpenAi, r#"{"object":"list","data":[{"id":"gpt-5","object":"model"}]}"#, &[]),
        (OpenAi, "[DONE]", &[]),
        (
            Anthropic,
            r#"{"type":"message_start","message":{"id":"msg_1","type":"message","container":{"id":"container_1"}}}"#,
            &["container_1"],
        ),
        (
            Anthropic,
            r#"{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"EqQ="}}"#,
            &["EqQ="],
        ),
        (
            Anthropic,
            r#"{"type":"content_block_start","content_block":{"type":"redacted_thinking","data":"Ems="}}"#,
            &["Ems="],
        ),
        (
            Anthropic,
            r#"{"type":"content_block_start","content_block":{"type":"tool_use","id":"toolu_1","input":{}}}"#,
            &[],
        ),
        (Anthropic, r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}"#, &[]),
        (Anthropic, r#"{"type":"message_delta","delta":{"container":{"id":"container_1"}}}"#, &["container_1"]),
        (Anthropic, r#"{"type":"message_delta","delta":{"stop_details":{"fallback_credit_token":"t"}}}"#, &["t"]),
        (Anthropic, r#"{"id":"file_1","type":"file"}"#, &["file_1"]),
        (Anthropic, r#"{"id":"msgbatch_1","type":"message_batch"}"#, &["msgbatch_1"]),
        (
            Gemini,
            r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"uri":"files/2"}},"thoughtSignature":"s"}]}}]}"#,
            &["s"],
        ),
        (Gemini, r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}],"responseId":"r"}"#, &[]),
        (
            Gemini,
            r#"{"file":{"name":"files/1","uri":"https://generativelanguage.googleapis.com/v1beta/files/1"}}"#,
            &["files/1"],
        ),
        (Gemini, r#"{"name":"cachedContents/1","model":"models/g"}"#, &["cachedContents/1"]),
        (
            Gemini,
            r#"{"name":"models/veo/operations/1","done":true,"response":{"generateVideoResponse":{"generatedSamples":[{"video":{"uri":"https://generativelanguage.googleapis.com/v1beta/files/2:download"}}]}}}"#,
            &["operations/1", "files/2"],
        ),
        (Gemini, r#"{"models":[{"name":"models/g"}]}"#, &[]),
        (Gemini, r#"{"interaction":{"id":"v1_1","object":"interaction"}}"#, &["v1_1"]),
        (Other, r#"{"id":"file-1","object":"file"}"#, &[]),
    ];
    for (dialect, json, expected) in cases {
        assert_eq!(told(*dialect, json), *expected, "{json}");
    }
}

#[test]
fn of_a_piece_of_an_answer_is_told_what_is_whole_in_it() {
    let answer = r#"{"id":"resp_1","object":"response","output":[
        {"id":"rs_1","type":"reasoning","encrypted_content":"gAAA\u003d"},{"id":"msg_1","type":"message"}],"x":"id"}"#;
    for cut in 0..=answer.len() {
        let (before, behind) = answer.split_at(cut);
        let mut both = told(Dialect::OpenAi, before);
        both.extend(told(Dialect::OpenAi, behind));
        for name in ["resp_1", "rs_1", "gAAA=", "msg_1"] {
            // What is cut through, with its key, is in neither.
            let written = answer.find(&name.replace('=', "\\u003d")).expect("it is there");
            let key = answer[..written].rfind([',', '{']).expect("a beginning");
            let is_cut = cut > key && cut <= written + name.len() + 6;
            assert!(is_cut || both.iter().any(|told| told == name), "{name}: {before} | {behind}");
        }
    }
    let google = r#",{"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"s"}]}}]}"#;
    assert_eq!(told(Dialect::Gemini, google), ["s"]);
    assert_eq!(told(Dialect::Gemini, r#"le":{"name":"files/1","uri":"https://exam"#), ["files/1"]);
}

#[test]
fn of_many_references_the_last_are_told_and_what_the_path_names() {
    let items: Vec<String> = (0..200).map(|n| format!(r#"{{"id":"msg_{n}","type":"item_reference"}}"#)).collect();
    let body = format!(r#"{{"input":[{}]}}"#, items.join(","));
    let found = named(Dialect::OpenAi, RESPONSES, &body);
    let expected: Vec<String> = (136..200).map(|n| format!("msg_{n}")).collect();
    assert_eq!((found.len(), &found), (REFERENCES_MAX, &expected));
    let found = named(Dialect::OpenAi, "/v1/responses/resp_1", &body);
    assert_eq!((found.len(), found.last().map(String::as_str)), (REFERENCES_MAX, Some("resp_1")));
    let twice = named(Dialect::OpenAi, RESPONSES, r#"{"file_ids":["a","b","a"]}"#);
    assert_eq!(twice, ["a", "b"]);
}

#[test]
fn what_stands_before_the_end_of_json_and_behind_half_a_character_is_known() {
    let cut = r#"{"previous_response_id":"resp_1","input":["#;
    assert_eq!(named(Dialect::OpenAi, RESPONSES, cut), ["resp_1"]);
    let half = r#"{"input":"an emoji cut in half: \ud83d","previous_response_id":"resp_1"}"#;
    assert_eq!(named(Dialect::OpenAi, RESPONSES, half), ["resp_1"]);
}

proptest! {
    /// Pieces of the table's own words in any order, most of them no JSON.
    #[test]
    fn no_body_is_too_odd(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"", "\\", " ", "\"id\":", "\"type\":", "\"reasoning\"", "\"input\":", "\"a\"",
                "\"container\":", "\"uri\":", "\"files/a\"", "\"file_ids\":", "\\ud83d", "1e999", "null", "\u{1f600}",
            ]),
            0..40,
        ),
    ) {
        let text = pieces.concat();
        for dialect in Dialect::ALL {
            for body in [text.clone(), format!(r#"{{"file_id":"before","input":[{text}"#)] {
                let found = named(dialect, RESPONSES, &body);
                prop_assert!(found.len() <= REFERENCES_MAX && !found.contains(&String::new()), "{}", body);
                let knows_files = matches!(dialect, Dialect::OpenAi | Dialect::Anthropic);
                prop_assert!(body == text || !knows_files || found.first().is_some_and(|first| first == "before"));
            }
            prop_assert!(told(dialect, &text).len() <= REFERENCES_MAX);
        }
    }
}
