use super::*;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

const OUTPUT_DEFAULT: u64 = 1_000;

fn estimate(dialect: Dialect, path: &str, body: &Value) -> Estimate {
    let body = body.to_string();
    Estimate::of(dialect, &dialect.read_request(path, body.as_bytes()), body.as_bytes(), OUTPUT_DEFAULT, None)
}

fn chat(content: Value) -> u64 {
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": content}]});
    estimate(Dialect::OpenAi, "/v1/chat/completions", &body).input
}

fn responses(content: Value) -> u64 {
    let body = json!({"model": "gpt-4o", "input": [{"role": "user", "content": content}]});
    estimate(Dialect::OpenAi, "/v1/responses", &body).input
}

fn message(content: Value) -> u64 {
    let body =
        json!({"model": "claude-opus-4-8", "max_tokens": 100, "messages": [{"role": "user", "content": content}]});
    estimate(Dialect::Anthropic, "/v1/messages", &body).input
}

fn gemini(parts: Value) -> u64 {
    let body = json!({"contents": [{"role": "user", "parts": parts}]});
    estimate(Dialect::Gemini, "/v1beta/models/gemini-3-pro:generateContent", &body).input
}

/// A picture of 1024 by 1024, of half a megabyte.
fn picture() -> String {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x04\0\0\0\x04\0".to_vec();
    png.extend((0..500_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8));
    BASE64_STANDARD.encode(png)
}

/// What frames a single message.
const FRAME: u64 = MESSAGE_TOKENS + ANSWER_TOKENS;

#[test]
fn an_image_costs_what_it_shows_in_every_api() {
    let (picture, url) = (picture(), format!("data:image/png;base64,{}", picture()));
    assert_eq!(chat(json!([{"type": "image_url", "image_url": {"url": url}}])), 765 + FRAME);
    assert_eq!(chat(json!([{"type": "image_url", "image_url": {"url": url, "detail": "low"}}])), 85 + FRAME);
    assert_eq!(chat(json!([{"type": "image_url", "image_url": {"detail": "low", "url": url}}])), 85 + FRAME);
    assert_eq!(chat(json!([{"type": "image_url", "image_url": url}])), 765 + FRAME, "Mistral's way");
    assert_eq!(responses(json!([{"type": "input_image", "image_url": url, "detail": "high"}])), 765 + FRAME);
    let output = json!([{"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": url}}]);
    let body = json!({"model": "gpt-4o", "input": output});
    assert_eq!(estimate(Dialect::OpenAi, "/v1/responses", &body).input, 765 + ANSWER_TOKENS);
    let source = json!({"type": "base64", "media_type": "image/png", "data": picture});
    assert_eq!(message(json!([{"type": "image", "source": source}])), 37 * 37 + FRAME);
    let result = json!([{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": source}]}]);
    assert_eq!(message(result), 37 * 37 + FRAME);
    assert_eq!(gemini(json!([{"inlineData": {"mimeType": "image/png", "data": picture}}])), 1_120 + FRAME);
    let part = json!([{"inline_data": {"data": picture}, "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}}]);
    assert_eq!(gemini(part), 280 + FRAME);
    let body = json!({"model": "llava", "messages": [{"role": "user", "content": "", "images": [picture, picture]}]});
    assert_eq!(estimate(Dialect::Ollama, "/api/chat", &body).input, 2 * 37 * 37 + FRAME);
}

#[test]
fn how_closely_all_images_are_looked_at_may_be_said_once_before_or_behind_them() {
    let contents = json!([{"parts": [{"inlineData": {"mimeType": "image/png", "data": picture()}}]}]);
    let config = json!({"mediaResolution": "MEDIA_RESOLUTION_MEDIUM"});
    for body in [
        json!({"contents": contents, "generationConfig": config}),
        json!({"generationConfig": config, "contents": contents}),
    ] {
        let input = estimate(Dialect::Gemini, "/v1beta/models/gemini-3-pro:generateContent", &body).input;
        assert_eq!(input, 560 + ANSWER_TOKENS);
    }
}

#[test]
fn documents_cost_their_pages_and_sound_its_seconds() {
    let pdf = BASE64_STANDARD.encode([&b"%PDF-1.7 <</Type/Pages/Count 3>>"[..], &[b'x'; 300_000]].concat());
    let source = json!({"type": "base64", "media_type": "application/pdf", "data": pdf});
    assert_eq!(message(json!([{"type": "document", "source": source}])), 3 * 2_800 + FRAME);
    assert_eq!(gemini(json!([{"inlineData": {"mimeType": "application/pdf", "data": pdf}}])), 3 * 560 + FRAME);
    let url = format!("data:application/pdf;base64,{pdf}");
    assert_eq!(chat(json!([{"type": "file", "file": {"filename": "a.pdf", "file_data": url}}])), 3 * 1_500 + FRAME);
    assert_eq!(responses(json!([{"type": "input_file", "filename": "a.pdf", "file_data": url}])), 3 * 1_500 + FRAME);
    let sound = BASE64_STANDARD.encode([&b"\xFF\xFB\x90\x00"[..], &vec![0; 160_000 - 4]].concat());
    assert_eq!(
        chat(json!([{"type": "input_audio", "input_audio": {"data": sound, "format": "mp3"}}])),
        10 * 10 + 2 + FRAME
    );
    assert_eq!(gemini(json!([{"inlineData": {"mimeType": "audio/mp3", "data": sound}}])), 10 * 32 + FRAME);
}

#[test]
fn what_is_not_at_hand_costs_what_is_usual_for_it() {
    assert_eq!(chat(json!([{"type": "image_url", "image_url": {"url": "https://example.org/a"}}])), 765 + FRAME);
    assert_eq!(responses(json!([{"type": "input_image", "file_id": "file-1"}])), 765 + FRAME);
    assert_eq!(responses(json!([{"type": "input_file", "file_id": "file-1"}])), 10 * 1_500 + FRAME);
    assert_eq!(responses(json!([{"type": "input_file", "file_url": "https://example.org/a.pdf"}])), 10 * 1_500 + FRAME);
    assert_eq!(
        message(json!([{"type": "image", "source": {"type": "url", "url": "https://example.org/a"}}])),
        37 * 37 + FRAME
    );
    assert_eq!(message(json!([{"type": "image", "source": {"type": "file", "file_id": "f"}}])), 37 * 37 + FRAME);
    assert_eq!(message(json!([{"type": "document", "source": {"type": "file", "file_id": "f"}}])), 10 * 2_800 + FRAME);
    assert_eq!(
        gemini(json!([{"fileData": {"fileUri": "https://g/files/1", "mimeType": "video/mp4"}}])),
        60 * 102 + FRAME
    );
}

#[test]
fn a_link_in_a_text_is_text_and_so_is_base64() {
    assert!(chat(json!("look at https://example.org/a.png")) < 25);
    let base64 = &picture()[..4_000];
    assert!(chat(json!(format!("data:image/png;base64,{base64}"))) > 2_000);
    let call = json!([{"type": "tool_use", "id": "t", "name": "save", "input": {"image": base64}}]);
    assert!(message(call) > 2_000, "arguments are shown to the model as they are");
}

#[test]
fn secret_reasoning_costs_its_tokens_and_a_seal_nothing() {
    let secret = "gAAAAABo".repeat(500);
    let item = json!([{"type": "reasoning", "id": "r", "summary": [], "encrypted_content": secret}]);
    assert_eq!(estimate(Dialect::OpenAi, "/v1/responses", &json!({"input": item})).input, 800 + ANSWER_TOKENS);
    assert_eq!(message(json!([{"type": "redacted_thinking", "data": secret}])), 800 + FRAME);
    assert!(message(json!([{"type": "thinking", "thinking": "Hm.", "signature": secret}])) < FRAME + 5);
    assert!(gemini(json!([{"text": "Hm.", "thoughtSignature": secret}])) < FRAME + 5);
}

#[test]
fn tokens_are_their_own_number_and_settings_are_none() {
    let embed = |body: Value| estimate(Dialect::OpenAi, "/v1/embeddings", &body).input;
    assert_eq!(embed(json!({"model": "text-embedding-3-small", "input": [[1, 22, 333], [4_444]]})), 4 + ANSWER_TOKENS);
    let settings =
        json!({"temperature": 0.5, "max_tokens": 5_000, "seed": 42, "stream": true, "logit_bias": {"5": -100}});
    assert_eq!(estimate(Dialect::OpenAi, "/v1/chat/completions", &settings).input, ANSWER_TOKENS);
}

#[test]
fn characters_count_the_same_however_they_are_written() {
    let (plain, escaped) = (r#"{"input":"敏捷的狐狸"}"#, r#"{"input":"\u654f\u6377\u7684\u72d0\u72f8"}"#);
    let of = |body: &str| Estimate::of(Dialect::OpenAi, &Parameters::default(), body.as_bytes(), 0, None);
    assert_eq!(of(plain), of(escaped));
}

#[test]
fn no_prompt_and_its_answer_are_more_than_the_models_context() {
    let long = json!({"model": "gpt-4o", "max_tokens": 1_000_000, "messages": [{"role": "user", "content": "word ".repeat(50_000)}]});
    let of = |body: &Value| estimate(Dialect::OpenAi, "/v1/chat/completions", body);
    assert_eq!(of(&long).total, 128_000);
    let longer = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "word ".repeat(500_000)}]});
    assert_eq!(of(&longer), Estimate { input: 128_000, total: 128_000 });
    let two = json!({"model": "gpt-4o", "max_tokens": 1_000_000, "n": 2, "messages": []});
    assert_eq!(of(&two).total, 2 * (128_000 - ANSWER_TOKENS) + ANSWER_TOKENS, "each alternative has its own");
    let asked = Parameters::default();
    let set = Estimate::of(Dialect::OpenAi, &asked, long.to_string().as_bytes(), OUTPUT_DEFAULT, Some(4_096));
    assert_eq!(set.total, 4_096);
    let unreadable = Estimate::of(Dialect::OpenAi, &asked, &[b'x'; 4_000], OUTPUT_DEFAULT, None);
    assert_eq!(unreadable, Estimate { input: 1_002, total: 1_002 + OUTPUT_DEFAULT });
}

#[test]
fn more_media_than_are_remembered_are_counted_all_the_same() {
    let one = json!({"type": "image_url", "image_url": {"url": "https://example.org/a"}});
    let context = 765 * 5_000 + FRAME;
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": vec![one; 5_000]}]}).to_string();
    let asked = Parameters { model: Some("gpt-4o".into()), ..Parameters::default() };
    assert_eq!(Estimate::of(Dialect::OpenAi, &asked, body.as_bytes(), 0, Some(u64::MAX)).input, context);
}

#[test]
fn the_context_is_that_of_each_prompt() {
    let prompts = vec!["word ".repeat(3_000); 20];
    let body = json!({"model": "gpt-3.5-turbo-instruct", "max_tokens": 100, "prompt": prompts});
    let total = estimate(Dialect::OpenAi, "/v1/completions", &body).total;
    assert!((50_000..90_000).contains(&total), "{total}");
    let texts = json!({"model": "nomic-embed-text", "input": vec!["word ".repeat(400); 500]}).to_string();
    let asked = Dialect::Ollama.read_request("/api/embed", texts.as_bytes());
    let embeddings = Estimate::of(Dialect::Ollama, &asked, texts.as_bytes(), OUTPUT_DEFAULT, Some(8_192));
    assert!((180_000..300_000).contains(&embeddings.total), "{embeddings:?}");
}

#[test]
fn what_a_medium_is_may_be_said_beside_it_and_the_nearest_word_counts() {
    let data = BASE64_STANDARD.encode([0xFE; 480_000]);
    let part = |mime: &str| json!([{"inlineData": {"data": data, "mimeType": mime}}]);
    assert_eq!(gemini(part("audio/pcm")), 320 + FRAME);
    assert_eq!(gemini(part("audio/aiff")), 30 * 32 + FRAME);
    assert_eq!(gemini(part("application/x-unheard-of")), 10 * 560 + FRAME);
    let image = json!({"type": "image", "source": {"type": "url", "url": "https://example.org/a"}});
    let document = json!([{"type": "document", "source": {"type": "content", "content": [image]}}]);
    assert_eq!(message(document), 37 * 37 + FRAME);
    let film = json!([{"fileData": {"fileUri": "https://www.youtube.com/watch?v=x"}}]);
    assert_eq!(gemini(film), 60 * 102 + FRAME);
    let pdf = BASE64_STANDARD.encode([&b"%PDF-1.7 <</Type/Pages/Count 3>>"[..], &[b'x'; 9_000]].concat());
    let url = format!("data:application/pdf;base64,{pdf}");
    assert_eq!(chat(json!([{"type": "document_url", "document_url": url}])), 3 * 1_500 + FRAME);
}

#[test]
fn a_character_that_is_none_costs_no_more_than_itself() {
    let url = format!("data:image/png;base64,{}", picture());
    let content = json!([{"type": "text", "text": "cut"}, {"type": "image_url", "image_url": {"url": url}}]);
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": content}]}).to_string();
    let asked = Parameters { model: Some("gpt-4o".into()), ..Parameters::default() };
    for half in ["\\ud83d", "\\uD83D"] {
        let body = body.replace("cut", half);
        let input = Estimate::of(Dialect::OpenAi, &asked, body.as_bytes(), 0, None).input;
        assert!((765 + FRAME..765 + FRAME + 10).contains(&input), "{half}: {input}");
    }
    let cut = &body[..body.len() - 2];
    let input = Estimate::of(Dialect::OpenAi, &asked, cut.as_bytes(), 0, None).input;
    assert!((765 + FRAME..765 + FRAME + 10).contains(&input), "{input}");
}

/// JSON of the words that mean something here, in every place.
fn any_json() -> impl Strategy<Value = Value> {
    let words = ["data:image/png;base64,iVBORw0KGgo", "https://example.org/a.mp4", "low", "image", "some words", ""];
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        prop::sample::select(words.to_vec()).prop_map(|word| json!(word)),
        "[A-Za-z0-9+/]{0,80}".prop_map(|word| json!(word)),
    ];
    let keys = [
        "content",
        "image_url",
        "url",
        "data",
        "source",
        "input",
        "tools",
        "args",
        "type",
        "mimeType",
        "detail",
        "file_id",
        "role",
        "inlineData",
        "generationConfig",
        "encrypted_content",
        "id",
        "anything",
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        let key = prop::sample::select(keys.to_vec());
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6)
                .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_asked_has_an_estimate_and_what_is_cut_off_one_that_is_near(body in any_json(), cut in any::<prop::sample::Index>()) {
        let body = body.to_string();
        // No part is more than a document or a film elsewhere for each few bytes that name it.
        let most = 40_000 * (body.len() as u64 + 1);
        let of = |body: &[u8]| Estimate::of(Dialect::OpenAi, &Parameters::default(), body, 0, Some(u64::MAX)).input;
        prop_assert!((ANSWER_TOKENS..most).contains(&of(body.as_bytes())));
        let part = &body.as_bytes()[..cut.index(body.len())];
        prop_assert!(of(part) < most);
    }

    #[test]
    fn whatever_comes_has_one_within_its_bounds(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let estimate = Estimate::of(Dialect::OpenAi, &Parameters::default(), &body, 10, Some(50));
        prop_assert!(estimate.input <= 50 && estimate.total <= 50 && estimate.total >= estimate.input);
    }
}
