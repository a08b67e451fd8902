//! How far the estimate of a request's tokens is off, over prompts of every kind: what `docs/estimates.md` shows.
//!
//! `cargo test -p spillway --test estimates -- --nocapture` prints the table. Texts are counted by OpenAI's own
//! vocabulary; what images, pages and sound cost is what providers give as examples, or what others have measured.
//! An exact count has the same vocabulary, so that what is seen of it here is whether every text is found, and nothing
//! but texts.

#![expect(clippy::expect_used, reason = "a test stops where something is not as it should be")]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use spillway::dialect::Dialect;
use spillway::dialect::estimate::Estimate;
use spillway::dialect::estimate::learned::{Learned, Parts};
use spillway::dialect::estimate::tokenizer::Tokenizer;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use tiktoken_rs::{CoreBPE, o200k_base};

static TOKENISER: LazyLock<CoreBPE> = LazyLock::new(|| o200k_base().expect("the tokeniser is built in"));

/// A request, and what it costs.
struct Prompt {
    dialect: Dialect,
    path: &'static str,
    body: Value,
    tokens: u64,
}

fn tokens(text: &str) -> u64 {
    TOKENISER.encode_ordinary(text).len() as u64
}

/// A chat with OpenAI: three tokens frame a message, and three open the answer.
fn chat(messages: &[(&str, &str)]) -> Prompt {
    let cost = messages.iter().map(|(role, text)| 3 + tokens(role) + tokens(text)).sum::<u64>() + 3;
    let messages: Vec<Value> = messages.iter().map(|(role, text)| json!({"role": role, "content": text})).collect();
    let body = json!({"model": "gpt-4o", "messages": messages, "temperature": 0.2, "max_tokens": 500});
    Prompt { dialect: Dialect::OpenAi, path: "/v1/chat/completions", body, tokens: cost }
}

fn asking(texts: &[String]) -> Vec<Prompt> {
    texts.iter().map(|text| chat(&[("user", text)])).collect()
}

/// Code of this repository, much of it, so that no change to one of these files decides what is found.
const CODE: [&str; 4] = [
    "host/resilience/src/breaker.rs",
    "host/resilience/src/limiter.rs",
    "host/resilience/src/pacer.rs",
    "tests/sdk/harness.py",
];

/// Files of this repository, in pieces of so many bytes.
fn pieces_of(files: &[&str], bytes: usize) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text: String = files.iter().map(|file| fs::read_to_string(root.join(file)).expect("a file")).collect();
    let mut pieces = Vec::new();
    let mut rest = &*text;
    while rest.len() > bytes {
        let (piece, behind) = rest.split_at(rest.ceil_char_boundary(bytes));
        pieces.push(piece.to_owned());
        rest = behind;
    }
    pieces
}

/// The paragraphs of `prompts/languages.txt` in these languages.
fn paragraphs(languages: &[&str]) -> Vec<String> {
    let text = include_str!("prompts/languages.txt");
    let sections = text.split("# ").filter_map(|section| section.split_once('\n'));
    let wanted = sections.filter(|(language, _)| languages.contains(language));
    wanted.flat_map(|(_, text)| text.trim().split("\n\n").map(str::to_owned)).collect()
}

/// Tools as OpenAI shows them to its models: as types of TypeScript, as far as that is known.
fn rendered(tool: &Value) -> String {
    let function = &tool["function"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut out = format!("// {}\ntype {} = (_: {{\n", text(&function["description"]), text(&function["name"]));
    for (name, field) in function["parameters"]["properties"].as_object().into_iter().flatten() {
        let kind = match &field["enum"] {
            Value::Array(words) => words.iter().map(Value::to_string).collect::<Vec<_>>().join(" | "),
            _ => text(&field["type"]).replace("integer", "number"),
        };
        let _ = write!(out, "// {}\n{name}: {kind},\n", text(&field["description"]));
    }
    out + "}) => any;\n\n"
}

fn with_tools() -> Vec<Prompt> {
    let tool = |name: &str, description: &str, properties: Value| {
        json!({"type": "function", "function": {"name": name, "description": description, "parameters": {
            "type": "object", "properties": properties, "required": [], "additionalProperties": false}}})
    };
    let all = [
        tool(
            "get_weather",
            "Get the current weather in a given location",
            json!({
            "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "The unit of the answer"}}),
        ),
        tool(
            "search_orders",
            "Search a customer's orders by date, status and amount. Returns at most fifty of them, the newest first.",
            json!({
            "customer_id": {"type": "string", "description": "The id of the customer"},
            "status": {"type": "string", "enum": ["open", "shipped", "returned", "cancelled"], "description": "Only orders in this status"},
            "since": {"type": "string", "description": "Only orders on this day or later, as YYYY-MM-DD"},
            "amount_min": {"type": "number", "description": "Only orders of at least this amount, in cents"}}),
        ),
        tool(
            "run_command",
            "Run a command in the user's shell and return what it prints. Commands that need input are not supported.",
            json!({
            "command": {"type": "string", "description": "The command to run"},
            "timeout_seconds": {"type": "integer", "description": "How long it may take"},
            "working_directory": {"type": "string", "description": "Where to run it"}}),
        ),
        tool(
            "send_email",
            "Send an email in the user's name",
            json!({
            "to": {"type": "string", "description": "The address of the recipient"},
            "subject": {"type": "string", "description": "The subject line"},
            "body": {"type": "string", "description": "The text of the mail, in Markdown"}}),
        ),
    ];
    (1..=all.len())
        .flat_map(|count| [&all[..count], &all[all.len() - count..]])
        .map(|tools| {
            let mut prompt = chat(&[("user", "What is next for order 4711, and will it rain there tomorrow?")]);
            prompt.tokens += tools.iter().map(|tool| tokens(&rendered(tool))).sum::<u64>() + 9;
            prompt.body["tools"] = json!(tools);
            prompt
        })
        .collect()
}

/// Tools' results of numbers, as JSON of the API's own.
fn results() -> Vec<Prompt> {
    let prices: Vec<Value> =
        (0..40).map(|n| json!([1_700_000_000_000u64 + n * 60_000, 43_250.12 + n as f64])).collect();
    let rows: Vec<Value> =
        (0..60).map(|n| json!({"id": n, "name": format!("row {n}"), "value": 2.5, "ok": true})).collect();
    let records: Value = serde_json::from_str(include_str!("prompts/records.json")).expect("JSON");
    let all = [json!({"prices": prices}), json!({"rows": rows}), json!({"orders": records})];
    let path = gemini_path("gemini-2.5-flash");
    let prompts = all.into_iter().map(|response| {
        let tokens = tokens(&response.to_string()) + 1;
        let part = json!({"functionResponse": {"name": "look_up", "response": response}});
        Prompt {
            dialect: Dialect::Gemini,
            path,
            body: json!({"contents": [{"role": "user", "parts": [part]}]}),
            tokens,
        }
    });
    prompts.collect()
}

/// Conversations of code, prose and other languages, of 10 to 60 turns.
fn long_histories() -> Vec<Prompt> {
    let prose = pieces_of(&["README.md", "docs/policies.md", "ARCHITECTURE.md"], 700);
    let code = pieces_of(&CODE, 1_500);
    let foreign = paragraphs(&["chinese", "russian", "german"]);
    let turns: Vec<&str> =
        prose.iter().zip(&code).zip(foreign.iter().cycle()).flat_map(|((a, b), c)| [&**a, &**b, &**c]).collect();
    let conversations = [10, 20, 30, 40, 50, 60].map(|length| {
        let said = turns.iter().copied().cycle().skip(length).take(length);
        chat(&["user", "assistant"].into_iter().cycle().zip(said).collect::<Vec<_>>())
    });
    conversations.into()
}

fn noise(head: &[u8], bytes: usize) -> String {
    let noise = (0u32..).take(bytes).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]);
    BASE64_STANDARD.encode(head.iter().copied().chain(noise).collect::<Vec<u8>>())
}

/// What a medium is sent as, in the words of an API: `kind` is its type for OpenAI's.
fn with_medium(dialect: Dialect, model: &str, kind: &str, media_type: &str, data: &str, tokens: u64) -> Prompt {
    let url = || format!("data:{media_type};base64,{data}");
    let (path, body, frame) = match (dialect, kind) {
        (Dialect::Anthropic, kind) => {
            let source = json!({"type": "base64", "media_type": media_type, "data": data});
            let content = json!([{"type": kind, "source": source}]);
            (
                "/v1/messages",
                json!({"model": model, "max_tokens": 500, "messages": [{"role": "user", "content": content}]}),
                8,
            )
        }
        (Dialect::Gemini, _) => {
            let part = json!({"inlineData": {"mimeType": media_type, "data": data}});
            (
                "/v1beta/models/any:generateContent",
                json!({"model": model, "contents": [{"role": "user", "parts": [part]}]}),
                1,
            )
        }
        (_, kind) => {
            let content = match kind {
                "input_audio" => json!([{"type": kind, "input_audio": {"data": data, "format": "wav"}}]),
                _ => json!([{"type": "image_url", "image_url": {"url": url(), "detail": kind}}]),
            };
            ("/v1/chat/completions", json!({"model": model, "messages": [{"role": "user", "content": content}]}), 7)
        }
    };
    let path = if dialect == Dialect::Gemini { gemini_path(model) } else { path };
    Prompt { dialect, path, body, tokens: tokens + frame }
}

fn gemini_path(model: &str) -> &'static str {
    match model {
        "gemini-2.5-flash" => "/v1beta/models/gemini-2.5-flash:generateContent",
        _ => "/v1beta/models/gemini-3-pro-preview:generateContent",
    }
}

/// Images of which a provider says what they cost, or somebody has measured it. As PNG they have about a byte a pixel.
fn images() -> Vec<Prompt> {
    use Dialect::{Anthropic, Gemini, OpenAi};
    let published = [
        (OpenAi, "gpt-4o", "high", (1_024, 1_024), 765),
        (OpenAi, "gpt-4o", "high", (2_048, 4_096), 1_105),
        (OpenAi, "gpt-4o", "low", (4_096, 4_096), 85),
        (OpenAi, "gpt-4.1-mini", "high", (1_024, 1_024), 1_659),
        (OpenAi, "gpt-4.1-mini", "high", (1_800, 2_400), 2_353),
        (OpenAi, "gpt-5.4-mini", "high", (768, 576), 519),
        (OpenAi, "gpt-5-nano", "high", (768, 576), 648),
        (Anthropic, "claude-opus-4-8", "image", (200, 200), 64),
        (Anthropic, "claude-opus-4-8", "image", (1_000, 1_000), 1_296),
        (Anthropic, "claude-sonnet-4-6", "image", (1_092, 1_092), 1_521),
        (Anthropic, "claude-sonnet-4-6", "image", (2_576, 1_932), 1_561),
        (Anthropic, "claude-opus-4-7", "image", (4_000, 3_000), 4_760),
        (Gemini, "gemini-2.5-flash", "", (384, 384), 258),
        (Gemini, "gemini-2.5-flash", "", (960, 540), 1_548),
        (Gemini, "gemini-3-pro-preview", "", (1_920, 1_080), 1_120),
    ];
    let png = |(width, height): (u32, u32)| {
        let head = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", &width.to_be_bytes()[..], &height.to_be_bytes()].concat();
        noise(&head, (width * height) as usize)
    };
    let prompt =
        |(dialect, model, kind, size, tokens)| with_medium(dialect, model, kind, "image/png", &png(size), tokens);
    published.into_iter().map(prompt).collect()
}

/// Documents whose cost was measured (dense pages of 50 lines) or is published, by pages of 40 to 200 KB.
fn documents() -> Vec<Prompt> {
    use Dialect::{Anthropic, Gemini};
    let published = [
        (Anthropic, "claude-opus-4-8", 1, 3_182),
        (Anthropic, "claude-opus-4-8", 10, 31_520),
        (Anthropic, "claude-sonnet-4-6", 1, 2_780),
        (Anthropic, "claude-sonnet-4-6", 10, 27_500),
        (Anthropic, "claude-sonnet-4-5", 3, 7_000),
        (Gemini, "gemini-2.5-flash", 1, 258),
        (Gemini, "gemini-2.5-flash", 40, 40 * 258),
        (Gemini, "gemini-3-pro-preview", 12, 12 * 560),
    ];
    let pdf = |pages: usize, page_bytes: usize, says: bool| {
        let head = if says { format!("%PDF-1.7\n<</Type/Pages/Count {pages}>>\n") } else { "%PDF-1.7\n".into() };
        noise(head.as_bytes(), pages * page_bytes)
    };
    let prompts = published.into_iter().flat_map(|(dialect, model, pages, tokens)| {
        [(40_000, false), (40_000, true), (200_000, true)].map(|(page_bytes, says)| {
            with_medium(dialect, model, "document", "application/pdf", &pdf(pages, page_bytes, says), tokens)
        })
    });
    prompts.collect()
}

/// Sound at the rates that OpenAI and Google give: 10 and 32 tokens a second.
fn sound() -> Vec<Prompt> {
    let wav = |seconds: usize, second: u32| {
        let head =
            [b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0", &(second / 2).to_le_bytes()[..], &second.to_le_bytes()];
        noise(&head.concat(), seconds * second as usize)
    };
    let mp3 = |seconds: usize| noise(b"\xFF\xF3\x40\xC4", seconds * 4_000);
    let cases = [("audio/wav", 5, wav(5, 48_000)), ("audio/wav", 60, wav(60, 32_000)), ("audio/mp3", 120, mp3(120))];
    let each = cases.iter().flat_map(|(media_type, seconds, data)| {
        let openai = with_medium(Dialect::OpenAi, "gpt-audio", "input_audio", media_type, data, seconds * 10);
        [openai, with_medium(Dialect::Gemini, "gemini-3-pro-preview", "", media_type, data, seconds * 32)]
    });
    each.collect()
}

/// How far off an estimate is, in percent of what it should be: the middle one, and that of the 95th in a hundred
/// without its sign.
fn errors(prompts: &[Prompt], estimates: impl IntoIterator<Item = u64>) -> (f64, f64) {
    let off = |(prompt, estimate): (&Prompt, u64)| 100.0 * (estimate as f64 / prompt.tokens as f64 - 1.0);
    let mut signed: Vec<f64> = prompts.iter().zip(estimates).map(off).collect();
    signed.sort_by(f64::total_cmp);
    let mut sizes: Vec<f64> = signed.iter().map(|error| error.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    (signed[signed.len() / 2], sizes[sizes.len() * 95 / 100])
}

fn by_part(prompt: &Prompt) -> u64 {
    let body = prompt.body.to_string();
    let asked = prompt.dialect.read_request(prompt.path, body.as_bytes());
    Estimate::of(prompt.dialect, &asked, body.as_bytes(), 0, None).input
}

/// A prompt as it is learned from: whose model it asks, what it is made of, and what it costs.
struct Point {
    model: String,
    parts: Parts,
    tokens: u64,
}

impl Point {
    fn of(prompt: &Prompt) -> Point {
        let body = prompt.body.to_string();
        let asked = prompt.dialect.read_request(prompt.path, body.as_bytes());
        let parts = Estimate::parts(prompt.dialect, &asked, body.as_bytes());
        Point { model: asked.model.unwrap_or_default(), parts, tokens: prompt.tokens }
    }
}

/// The estimates of some prompts by what was learned from all others for the same model, which have come by turns, ten
/// times: who learns from the prompt that it is asked about knows the answer.
fn by_what_is_learned(prompts: &[Prompt], all: &[Point]) -> Vec<u64> {
    const ROUNDS: usize = 10;
    let of = |prompt: &Prompt| {
        let this = Point::of(prompt);
        let is_other =
            |point: &&Point| point.model == this.model && (point.parts, point.tokens) != (this.parts, this.tokens);
        let others: Vec<&Point> = all.iter().filter(is_other).collect();
        let mut learned = Learned::default();
        for point in std::iter::repeat_n(&others, ROUNDS).flatten() {
            learned.learn(&point.parts, point.tokens);
        }
        learned.expect(&this.parts)
    };
    prompts.iter().map(of).collect()
}

/// The estimate with texts that are counted.
fn exact(prompt: &Prompt) -> u64 {
    let body = prompt.body.to_string();
    let asked = prompt.dialect.read_request(prompt.path, body.as_bytes());
    let vocabulary = Tokenizer::O200k.vocabulary().expect("it is built in");
    Estimate::counted(prompt.dialect, &asked, body.as_bytes(), vocabulary).total()
}

fn by_bytes(prompt: &Prompt) -> u64 {
    prompt.body.to_string().len() as u64 / 4
}

#[test]
fn the_estimate_of_every_kind_of_prompt_is_near_what_it_costs() {
    let languages = ["german", "french", "spanish", "russian", "arabic", "hindi"];
    // With the most that the 95th in a hundred may be off: by part, by what is learned, and exactly counted.
    let kinds = [
        (
            "prose",
            [15.0, 12.0, 0.5],
            asking(&pieces_of(&["README.md", "docs/policies.md", "ARCHITECTURE.md", "docs/answers.md"], 2_000)),
        ),
        ("code", [12.0, 12.0, 0.5], asking(&pieces_of(&CODE, 3_000))),
        ("JSON in text", [10.0, 5.0, 0.5], asking(&pieces_of(&["host/tests/prompts/records.json"], 2_000))),
        ("Chinese, Japanese, Korean", [20.0, 20.0, 0.5], asking(&paragraphs(&["chinese", "japanese", "korean"]))),
        ("other languages", [25.0, 25.0, 0.5], asking(&paragraphs(&languages))),
        ("emoji", [15.0, 10.0, 0.5], asking(&paragraphs(&["emoji"]))),
        ("base64 as text", [10.0, 10.0, 0.5], asking(&[300, 3_000, 30_000].map(|bytes| noise(b"", bytes)))),
        ("tools", [20.0, 12.0, 15.0], with_tools()),
        ("tools' results", [25.0, 15.0, 12.0], results()),
        ("long histories", [5.0, 6.0, 0.5], long_histories()),
        ("images", [5.0, 20.0, 5.0], images()),
        ("PDF", [25.0, 20.0, 25.0], documents()),
        ("sound", [5.0, 10.0, 5.0], sound()),
    ];
    let all: Vec<Point> = kinds.iter().flat_map(|(_, _, prompts)| prompts.iter().map(Point::of)).collect();
    println!("| kind | prompts | by bytes: p50 | p95 | by part: p50 | p95 | learned: p50 | p95 | exact: p50 | p95 |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut missed = Vec::new();
    for (kind, most, prompts) in kinds {
        let before = errors(&prompts, prompts.iter().map(by_bytes));
        let after = errors(&prompts, prompts.iter().map(by_part));
        let learned = errors(&prompts, by_what_is_learned(&prompts, &all));
        let exact = errors(&prompts, prompts.iter().map(exact));
        println!(
            "| {kind} | {} | {:+.0} % | {:.0} % | {:+.0} % | {:.0} % | {:+.0} % | {:.0} % | {:+.0} % | {:.0} % |",
            prompts.len(),
            before.0,
            before.1,
            after.0,
            after.1,
            learned.0,
            learned.1,
            exact.0,
            exact.1
        );
        for (way, (_, off), most) in
            [("by part", after, most[0]), ("learned", learned, most[1]), ("exact", exact, most[2])]
        {
            if off > most {
                missed.push(format!("{kind}, {way}: {off:.1} % instead of {most} %"));
            }
        }
    }
    assert!(missed.is_empty(), "further off than stated: {missed:?}");
}
