//! Every surface of every API: what a caller sends arrives as it was sent, and what the provider answers comes back as it
//! was answered, byte for byte, but for what belongs to a connection. What creates something is sent once.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, also in its helpers")]

use spillway_tests::http::{Connection, Head};
use spillway_tests::spillway::{Setup, Spillway};
use spillway_tests::wire::{Pieces, Taken, Wire};
use std::net::SocketAddr;

/// Headers about one connection, which a proxy makes anew.
const OF_THE_CONNECTION: [&str; 4] = ["connection", "transfer-encoding", "keep-alive", "te"];

/// What a surface is called along, with what, and whether a failure of it is followed by another call.
struct Surface {
    upstream: &'static str,
    line: &'static str,
    headers: &'static [&'static str],
    body: &'static [u8],
    answer: fn() -> Pieces,
    may_repeat: bool,
}

const JSON: &str = "content-type: application/json";
const FORM: &str = "content-type: multipart/form-data; boundary=----x7MA4YWxk\"'()+_,-./:=?";
/// A form with a file in it that is no text, and holds what looks like a boundary.
const UPLOAD: &[u8] = b"------x7MA4YWxk\"'()+_,-./:=?\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n\
    \x00\x01\r\n--\xff\xfe{\"stream\":true}\r\n------x7MA4YWxk\"'()+_,-./:=?\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n\
    whisper-1\r\n------x7MA4YWxk\"'()+_,-./:=?--\r\n";
const CHAT: &[u8] =
    b"{ \"model\" : \"m\", \"messages\":[{\"role\":\"user\",\"content\":\"\\u00e9 \xc3\xa9\"}], \"x\": 1e3 }\n";
const STREAMED: &[u8] =
    b"{\"model\":\"m\",\"messages\":[],\"stream\":true,\"stream_options\":{\"include_usage\":true}}";
const ASKED: &[u8] = b"{\"model\":\"m\",\"input\":\"a\"}";
const CONTENTS: &[u8] = b"{\"contents\":[{\"parts\":[{\"text\":\"a\"}]}]}";
const OLLAMAS: &[u8] = b"{\"model\":\"m\",\"messages\":[],\"options\":{\"num_predict\":3}}";
/// As an SDK of Amazon's signs a request.
const SIGNED: &[&str] = &[
    JSON,
    "accept: application/vnd.amazon.eventstream",
    "accept-encoding: identity",
    "x-amz-date: 20261130T020000Z",
    "x-amz-content-sha256: 3f1a0e",
    "x-amz-security-token: IQoJb3JpZ2luX2VjE//token==",
    "amz-sdk-invocation-id: 0a1b",
    "amz-sdk-request: attempt=1; max=5",
    "authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261130/eu-west-1/bedrock/aws4_request, SignedHeaders=accept;\
     content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature=5d672d79c15b13162d9279b0855cfba6",
];

fn text(head: &str, body: &[u8]) -> Pieces {
    let head = format!("HTTP/1.1 {head}\r\ndate: Mon, 30 Nov 2026 02:00:00 GMT\r\nx-request-id: req_1\r\n");
    vec![[head.as_bytes(), format!("content-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()]
}

fn chunked(head: &str, pieces: &[&[u8]]) -> Pieces {
    let head = format!("HTTP/1.1 {head}\r\ndate: Mon, 30 Nov 2026 02:00:00 GMT\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = |piece: &&[u8]| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
    let chunks = pieces.iter().map(chunk);
    [head.into_bytes()].into_iter().chain(chunks).chain([b"0\r\n\r\n".to_vec()]).collect()
}

fn json() -> Pieces {
    text(
        "200 OK\r\ncontent-type: application/json; charset=utf-8\r\nset-cookie: a=1; Path=/\r\nset-cookie: b=2\r\n\
         openai-processing-ms: 12",
        b"{\n \"object\" : \"list\", \"data\": [], \"x\": 1.50 }\n",
    )
}
fn completion() -> Pieces {
    text(
        "200 OK\r\ncontent-type: application/json",
        b"{\"id\":\"c\",\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"message\":{\"content\":\"Hello\"}}],\
          \"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}",
    )
}
fn chat_stream() -> Pieces {
    chunked(
        "200 OK\r\ncontent-type: text/event-stream; charset=utf-8",
        &[
            b"data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\n\n",
            b"data: {\"choices\":[{\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}\n\nda",
            b"ta: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
        ],
    )
}
fn message() -> Pieces {
    text(
        "200 OK\r\ncontent-type: application/json\r\nrequest-id: req_2",
        b"{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}],\"stop_reason\":\"end_turn\"}",
    )
}
fn message_stream() -> Pieces {
    chunked(
        "200 OK\r\ncontent-type: text/event-stream",
        &[
            b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3}}}\n\n",
            b"event: ping\ndata: {\"type\":\"ping\"}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\"}\n\n",
            b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ],
    )
}
fn candidates() -> Pieces {
    text(
        "200 OK\r\ncontent-type: application/json; charset=UTF-8",
        b"{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hi\"}]},\"finishReason\":\"STOP\"}]}",
    )
}
fn candidate_stream() -> Pieces {
    let event: &[u8] =
        b"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hi\"}]},\"finishReason\":\"STOP\"}]}\r\n\r\n";
    chunked("200 OK\r\ncontent-type: text/event-stream", &[event])
}
fn candidate_list() -> Pieces {
    let pieces: [&[u8]; 3] =
        [b"[{\"candidates\":[{\"content\":{}}]}", b",\n{\"candidates\":[{\"finishReason\":\"STOP\"}]}", b"]"];
    chunked("200 OK\r\ncontent-type: application/json", &pieces)
}
/// Bytes that are no text: a sound, a file, a stream of events in a binary form.
fn binary() -> Pieces {
    let all: Vec<u8> = (0..=255).collect();
    chunked("200 OK\r\ncontent-type: audio/mpeg", &[b"ID3\x04\x00data: {\"error\":", &all, b"\n\n\x00", &all])
}
fn event_stream() -> Pieces {
    let frame = b"\x00\x00\x00\x6b\x00\x00\x00\x4b\xf3\x1b\xa1\x2c\x0b:event-type\x07\x00\x05chunk{\"bytes\":\"eyJ0\"}\x9a\xbc\xde\xf0";
    chunked(
        "200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\nx-amzn-requestid: 1-2",
        &[frame, &frame[..20], &frame[20..]],
    )
}
fn lines() -> Pieces {
    chunked(
        "200 OK\r\ncontent-type: application/x-ndjson",
        &[
            b"{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"Hel\"},\"done\":false}\n{\"model\":\"m\",",
            b"\"message\":{\"role\":\"assistant\",\"content\":\"lo\"},\"done\":false}\n",
            b"{\"model\":\"m\",\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":3,\"eval_count\":2}\n",
        ],
    )
}
fn jsonl() -> Pieces {
    chunked("200 OK\r\ncontent-type: application/x-jsonl", &[b"{\"custom_id\":\"1\"}\n{\"custom", b"_id\":\"2\"}\n"])
}
fn until_closed() -> Pieces {
    vec![
        b"HTTP/1.1 200 OK\r\ndate: Mon, 30 Nov 2026 02:00:00 GMT\r\ncontent-type: audio/wav\r\n\r\n".to_vec(),
        b"RIFF\x00\xff".to_vec(),
    ]
}
fn part() -> Pieces {
    text(
        "206 Partial Content\r\ncontent-type: application/octet-stream\r\ncontent-range: bytes 2-5/10",
        b"\x02\x03\x04\x05",
    )
}
fn not_modified() -> Pieces {
    vec![b"HTTP/1.1 304 Not Modified\r\ndate: Mon, 30 Nov 2026 02:00:00 GMT\r\netag: \"a\"\r\n\r\n".to_vec()]
}
fn head_only() -> Pieces {
    vec![b"HTTP/1.1 200 OK\r\ndate: Mon, 30 Nov 2026 02:00:00 GMT\r\ncontent-type: application/json\r\ncontent-length: 4711\r\n\r\n".to_vec()]
}
fn nothing() -> Pieces {
    vec![b"HTTP/1.1 204 No Content\r\ndate: Mon, 30 Nov 2026 02:00:00 GMT\r\n\r\n".to_vec()]
}
fn redirect() -> Pieces {
    text("307 Temporary Redirect\r\nlocation: https://elsewhere.example/v1/files/f?a=%2F", b"")
}
fn upload_url() -> Pieces {
    text(
        "200 OK\r\nx-goog-upload-status: active\r\nx-goog-upload-url: https://g.example/upload/v1beta/files?upload_id=a%2Bb",
        b"",
    )
}

macro_rules! surfaces {
    ($( $upstream:literal { $( $line:literal $headers:expr, $body:expr => $answer:ident $(, $repeats:ident)?; )+ } )+) => {
        [$($( Surface {
            upstream: $upstream,
            line: $line,
            headers: $headers,
            body: $body,
            answer: $answer,
            may_repeat: false $( || stringify!($repeats) == "again" )?,
        }, )+)+]
    };
}

/// One row for each. `again` stands where a failure may be followed by another call.
fn surfaces() -> Vec<Surface> {
    Vec::from(surfaces! {
        "openai" {
            "POST /v1/chat/completions" &[JSON, "authorization: Bearer sk-1"], CHAT => completion, again;
            "POST /v1/chat/completions" &[JSON, "accept: application/json"], STREAMED => chat_stream, again;
            "POST /v1/completions" &[JSON], b"{\"model\":\"m\",\"prompt\":[\"a\",\"b\"]}" => completion, again;
            "POST /v1/responses" &[JSON], ASKED => json, again;
            "POST /v1/responses" &[JSON], b"{\"model\":\"m\",\"input\":\"a\",\"background\":true}" => json;
            "GET /v1/responses/resp_1?include=a&include=b%2Cc&include[]=d&stream=false" &[], b"" => json, again;
            "GET /v1/responses/resp_1/input_items?limit=2&order=asc&after=" &[], b"" => json, again;
            "GET /v1/responses/resp_1?stream=true&starting_after=2" &[], b"" => chat_stream, again;
            "DELETE /v1/responses/resp_1" &[], b"" => json;
            "POST /v1/responses/resp_1/cancel" &["content-length: 0"], b"" => json;
            "POST /v1/responses/compact" &[JSON], ASKED => json;
            "POST /v1/responses/input_tokens" &[JSON], ASKED => json;
            "POST /v1/conversations" &[JSON], b"{}" => json;
            "GET /v1/chat/completions/c1/messages?limit=1" &[], b"" => json, again;
            "POST /v1/embeddings" &[JSON, "accept-encoding: gzip, deflate"], ASKED => json, again;
            "POST /v1/images/generations" &[JSON], ASKED => json;
            "POST /v1/images/generations" &[JSON], STREAMED => chat_stream;
            "POST /v1/images/edits" &[FORM], UPLOAD => json;
            "POST /v1/images/variations" &[FORM], UPLOAD => json;
            "POST /v1/audio/speech" &[JSON], ASKED => binary;
            "POST /v1/audio/speech" &[JSON], ASKED => until_closed;
            "POST /v1/audio/transcriptions" &[FORM], UPLOAD => json;
            "POST /v1/audio/transcriptions" &[FORM, "accept: text/event-stream"], UPLOAD => chat_stream;
            "POST /v1/audio/translations" &[FORM], UPLOAD => json;
            "POST /v1/moderations" &[JSON], ASKED => json;
            "POST /v1/files" &[FORM], UPLOAD => json;
            "GET /v1/files?purpose=fine-tune&limit=3" &[], b"" => json, again;
            "GET /v1/files/file-1/content" &[], b"" => binary, again;
            "GET /v1/files/file-1/content" &["range: bytes=2-5", "if-range: \"a\""], b"" => part, again;
            "GET /v1/files/file-1/content" &[], b"" => redirect, again;
            "DELETE /v1/files/file-1" &[], b"" => json;
            "POST /v1/uploads/u/parts" &[FORM], UPLOAD => json;
            "PUT /v1/anything/new" &["content-type: application/octet-stream"], b"\x00\xff" => nothing;
            "PATCH /v1/anything/new" &[JSON], b"{\"a\":1}" => json;
            "POST /v1/batches" &[JSON, "idempotency-key: k1"], ASKED => json;
            "POST /v1/batches/b/cancel" &["content-length: 0"], b"" => json;
            "GET /v1/batches?after=b%2F1" &[], b"" => json, again;
            "POST /v1/fine_tuning/jobs" &[JSON], ASKED => json;
            "POST /v1/vector_stores/v/search" &[JSON], ASKED => json;
            "POST /v1/threads/t/runs" &[JSON], STREAMED => chat_stream;
            "GET /v1/models" &["accept-encoding: br;q=1.0, compress, *;q=0.1"], b"" => json, again;
            "GET /v1/models/a%2Fb%3ac?x=%E2%9C%93&&y=+&z=%2b#" &[], b"" => json, again;
            "GET /v1/models" &["if-none-match: W/\"a\", \"b\""], b"" => not_modified, again;
            "HEAD /v1/models" &[], b"" => head_only, again;
            "DELETE /v1/models/ft:gpt:acme::x" &[], b"" => json;
        }
        "anthropic" {
            "POST /v1/messages" &[JSON, "anthropic-version: 2023-06-01", "x-api-key: sk-ant"], CHAT => message, again;
            "POST /v1/messages?beta=true" &[JSON, "anthropic-beta: a", "anthropic-beta: b,c"], STREAMED => message_stream, again;
            "POST /v1/messages/count_tokens" &[JSON], CHAT => json;
            "POST /v1/messages/batches" &[JSON], b"{\"requests\":[]}" => json;
            "GET /v1/messages/batches/b/results" &[], b"" => jsonl, again;
            "POST /v1/messages/batches/b/cancel" &["content-length: 0"], b"" => json;
            "DELETE /v1/messages/batches/b" &[], b"" => json;
            "POST /v1/files" &[FORM, "anthropic-beta: files-api-2025-04-14"], UPLOAD => json;
            "GET /v1/files/file_1/content" &[], b"" => binary, again;
            "DELETE /v1/files/file_1" &[], b"" => json;
            "GET /v1/models?limit=2&after_id=a" &[], b"" => json, again;
            "POST /v1/skills" &[FORM], UPLOAD => json;
        }
        "gemini" {
            "POST /v1beta/models/g:generateContent" &[JSON, "x-goog-api-key: k"], CONTENTS => candidates, again;
            "POST /v1beta/models/g%3AgenerateContent?key=k%2F1" &[JSON], CONTENTS => candidates, again;
            "POST /v1beta/models/g:streamGenerateContent?alt=sse" &[JSON], CONTENTS => candidate_stream, again;
            "POST /v1/models/g:streamGenerateContent" &[JSON], CONTENTS => candidate_list, again;
            "POST /v1beta/models/g:countTokens" &[JSON], CONTENTS => json, again;
            "POST /v1beta/models/e:embedContent" &[JSON], CONTENTS => json, again;
            "POST /v1beta/models/e:batchEmbedContents" &[JSON], CONTENTS => json, again;
            "POST /v1beta/models/e:asyncBatchEmbedContent" &[JSON], CONTENTS => json;
            "POST /v1beta/models/g:batchGenerateContent" &[JSON], CONTENTS => json;
            "POST /v1beta/models/veo:predictLongRunning" &[JSON], CONTENTS => json;
            "GET /v1beta/operations/o%2F1" &[], b"" => json, again;
            "POST /upload/v1beta/files" &[JSON, "x-goog-upload-protocol: resumable", "x-goog-upload-command: start",
                "x-goog-upload-header-content-length: 7", "x-goog-upload-header-content-type: text/plain"],
                b"{\"file\":{\"displayName\":\"a\"}}" => upload_url;
            "POST /upload/v1beta/files?upload_id=a%2Bb&upload_protocol=resumable" &["x-goog-upload-offset: 0",
                "x-goog-upload-command: upload, finalize"], b"\x00\x01\xff" => json;
            "GET /v1beta/files/f:download?alt=media" &[], b"" => binary, again;
            "GET /v1beta/files?pageSize=10&pageToken=a%3D%3D" &[], b"" => json, again;
            "DELETE /v1beta/files/f" &[], b"" => json;
            "POST /v1beta/cachedContents" &[JSON], CONTENTS => json;
            "PATCH /v1beta/cachedContents/c?updateMask=ttl" &[JSON], b"{\"ttl\":\"1s\"}" => json;
            "POST /v1beta/openai/chat/completions" &[JSON], CHAT => completion, again;
            "GET /v1beta/models?pageSize=1" &[], b"" => json, again;
        }
        "azure" {
            "POST /openai/deployments/gpt-5/chat/completions?api-version=2024-10-21" &[JSON, "api-key: k"], CHAT => completion, again;
            "POST /openai/deployments/w/audio/transcriptions?api-version=2024-10-21" &[FORM], UPLOAD => json;
            "POST /openai/deployments/d/images/generations?api-version=2024-10-21" &[JSON], ASKED => json;
            "POST /openai/v1/responses" &[JSON, "api-key: k"], ASKED => json, again;
            "POST /openai/files?api-version=2024-10-21" &[FORM], UPLOAD => json;
        }
        "vertex" {
            "POST /v1/projects/p/locations/l/publishers/google/models/g:generateContent" &[JSON, "authorization: Bearer ya29.a"],
                CONTENTS => candidates, again;
            "POST /v1/projects/p/locations/l/publishers/google/models/g:streamGenerateContent?alt=sse" &[JSON,
                "x-goog-user-project: q"], CONTENTS => candidate_stream, again;
            "POST /v1/projects/p/locations/l/publishers/anthropic/models/c@1:streamRawPredict" &[JSON],
                b"{\"anthropic_version\":\"vertex-2023-10-16\",\"stream\":true}" => message_stream, again;
            "POST /v1/projects/p/locations/l/publishers/mistralai/models/m:rawPredict" &[JSON], CHAT => completion, again;
            "GET /v1/projects/p/locations/l/batchPredictionJobs?filter=a%3D%22b%22" &[], b"" => json, again;
        }
        "bedrock" {
            "POST /model/anthropic.claude-3%3A0/invoke" SIGNED, CHAT => json;
            "POST /model/anthropic.claude-3%3A0/invoke-with-response-stream" SIGNED, CHAT => event_stream;
            "POST /model/arn%3Aaws%3Abedrock%3Aeu%3A1%3Ainference-profile%2Fx/converse-stream" SIGNED, CHAT => event_stream;
            "POST /openai/v1/chat/completions" SIGNED, CHAT => completion, again;
            "POST /model/m/converse" &[JSON, "authorization: Bearer bedrock-api-key-1"], CHAT => json;
        }
        "ollama" {
            "POST /api/chat" &[JSON], OLLAMAS => lines, again;
            "POST /api/generate" &[JSON], b"{\"model\":\"m\",\"prompt\":\"a\",\"stream\":false}" => json, again;
            "POST /api/embed" &[JSON], ASKED => json, again;
            "POST /api/pull" &[JSON], b"{\"model\":\"m\"}" => lines;
            "POST /api/show" &[JSON], b"{\"model\":\"m\"}" => json;
            "GET /api/tags" &[], b"" => json, again;
            "DELETE /api/delete" &[JSON], b"{\"model\":\"m\"}" => json;
            "HEAD /" &[], b"" => head_only, again;
        }
        "other" {
            "POST /v9/anything?a" &["content-type: text/plain", "te: trailers", "x-a: 1", "x-b: 2", "x-a: 3"], b"a" => json;
            "GET /" &[], b"" => json, again;
            "POST /v1/chat/completions" &[JSON, "accept-encoding: compress"], STREAMED => chat_stream;
        }
    })
}

impl Surface {
    fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// The request to a host along its path, behind a prefix.
    fn request(&self, prefix: &str, host: SocketAddr) -> Vec<u8> {
        let (method, path) = self.line.split_once(' ').expect("a method and a path");
        let mut head = format!("{method} {prefix}{} HTTP/1.1\r\nHost: {host}\r\n", path.trim_end_matches('#'));
        self.headers.iter().for_each(|header| head.push_str(&format!("{header}\r\n")));
        if !self.body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        [head.as_bytes(), b"\r\n", self.body].concat()
    }
}

/// What a caller gets: status, headers, body.
type Got = (u16, Vec<(String, String)>, String);

fn got(head: Head, body: &[u8], is_stream: bool) -> Got {
    (head.status, comparable(head.headers, is_stream), body.escape_ascii().to_string())
}

fn exchange(surface: &Surface, prefix: &str, address: SocketAddr) -> (Head, Vec<u8>) {
    let mut connection = Connection::open(address).expect("a connection");
    connection.send_raw(&surface.request(prefix, address)).expect("sent");
    let head = connection.head().unwrap_or_else(|error| panic!("{}: {error}", surface.line));
    let body = if surface.method() == "HEAD" { Vec::new() } else { connection.body().expect("a whole body") };
    (head, body)
}

/// Without what belongs to a connection, and what Spillway says of itself. Headers of one name stay in their order.
fn comparable(mut headers: Vec<(String, String)>, is_stream: bool) -> Vec<(String, String)> {
    headers.retain(|(name, _)| {
        let of_streams = is_stream && ["cache-control", "x-accel-buffering"].contains(&&**name);
        let is_ours = name.starts_with("x-spillway-") || name == "server-timing";
        !OF_THE_CONNECTION.contains(&&**name) && !is_ours && !of_streams
    });
    headers.sort_by(|(a, _), (b, _)| a.cmp(b));
    headers
}

fn started(wire: &Wire) -> Spillway {
    let url = format!("url = \"http://{}\"\n", wire.address());
    let dialects = [
        ("openai", "openai"),
        ("anthropic", "anthropic"),
        ("gemini", "gemini"),
        ("azure", "openai"),
        ("vertex", "gemini"),
        ("bedrock", "openai"),
        ("ollama", "openai"),
        ("other", "other"),
    ];
    let setup = dialects.iter().fold(Setup::bare(), |setup, (name, dialect)| {
        setup
            .set(&format!("upstreams.{name}"), &format!("{url}dialect = \"{dialect}\""))
            .set(&format!("upstreams.{name}.retry"), "max_attempts = 2\nbudget_ratio = 1.0")
            .set(&format!("upstreams.{name}.breaker"), "watch_only = true")
    });
    setup.start()
}

#[test]
fn every_surface_is_passed_on_as_it_is_both_ways() {
    let wire = Wire::start();
    let spillway = started(&wire);
    for surface in surfaces() {
        let Surface { upstream, line, answer, .. } = surface;
        wire.answers(answer());
        let (head, body) = exchange(&surface, "", wire.address());
        let [direct] = &wire.take()[..] else { panic!("{line} arrives once") };
        let is_stream = head
            .header("content-type")
            .is_some_and(|of| of.starts_with("text/event-stream") || of == "application/x-ndjson");
        let expected = got(head, &body, is_stream);

        let (head, body) = exchange(&surface, &format!("/{upstream}"), spillway.address());
        let [through] = &wire.take()[..] else { panic!("{upstream}: {line} arrives once") };
        assert_eq!(got(head, &body, is_stream), expected, "{upstream}: {line}");

        assert_eq!(through.line, direct.line, "{upstream}");
        assert_eq!(through.body, direct.body, "{upstream}: {line}");
        assert_eq!(through.all("via").len(), 1, "{upstream}: {line}");
        let sent =
            |taken: &Taken| comparable(taken.headers.clone(), false).into_iter().filter(|(name, _)| name != "via");
        let (mut through, mut direct): (Vec<_>, Vec<_>) = (sent(through).collect(), sent(direct).collect());
        if let Some((_, asked)) = direct.iter_mut().find(|(_, value)| value.contains("compress")) {
            // What could not be read is not asked for where the answer is read.
            through
                .iter_mut()
                .filter(|(name, _)| name == "accept-encoding")
                .for_each(|(_, value)| asked.clone_from(value));
        }
        assert_eq!(through, direct, "{upstream}: {line}");
    }
}

#[test]
fn what_creates_something_is_sent_once_and_what_only_asks_may_be_sent_again() {
    let wire = Wire::start();
    wire.answers(text(
        "503 Service Unavailable\r\ncontent-type: application/json",
        b"{\"error\":{\"message\":\"no\"}}",
    ));
    for surface in surfaces() {
        let Surface { upstream, line, .. } = surface;
        // Where everything fails nothing is repeated, so that each has one for which this failure is the first.
        let spillway = started(&wire);
        let (head, _) = exchange(&surface, &format!("/{upstream}"), spillway.address());
        let calls = wire.take().len();
        assert_eq!((head.status, calls), (503, if surface.may_repeat { 2 } else { 1 }), "{upstream}: {line}");
    }
}
