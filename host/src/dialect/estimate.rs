//! How many tokens a request will cost, before anybody has counted them: part by part, since an image, a page and a
//! second of sound cost what they show, and not what they weigh.
//!
//! The walk goes once through the body and keeps nothing of it. What it does not understand counts as text; what is no
//! JSON counts by its bytes.

mod families;
pub mod learned;
mod media;
mod text;
pub mod tokenizer;

use crate::dialect::{Dialect, Parameters, lenient};
use families::{Detail, Family, family};
use learned::Parts;
use media::{DOCUMENT_ELSEWHERE, IMAGE_ELSEWHERE, Kind, Medium};
use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use text::TextTokens;
use tokenizer::{Tokenizer, Vocabulary};

/// Bytes per token of what cannot be read at all.
const BYTES_PER_TOKEN: u64 = 4;
/// What frames a message, beside its text.
const MESSAGE_TOKENS: u64 = 4;
/// What opens the answer.
const ANSWER_TOKENS: u64 = 3;
/// Characters of encrypted reasoning for each of its tokens: base64 of a text of four bytes a token.
const ENCRYPTED_CHARACTERS_PER_TOKEN: u64 = 5;
/// What JSON has beside a field's key and value, and how it is cut where there are numbers; a comma stands behind each.
const JSON_OF_A_FIELD: &str = ":,";
const DIGITS_PER_TOKEN: u64 = 3;
/// Of a number with decimals, its point among them.
const FRACTION_DIGITS: u64 = 8;
/// Images and the like of which more may be said behind them in the request. Those beyond cost what they do without
/// that.
const SEEN_MAX: usize = 4_096;

/// What a request is expected to cost, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Its input.
    pub input: u64,
    /// Its input and the most that may be answered.
    pub total: u64,
}

impl Estimate {
    /// The estimate of a request with this body. Where it names no bound on its output, `output_default` stands for it.
    ///
    /// No prompt, together with an answer to it, is more than the model's context holds: `context` if that is set, and
    /// else what is known of the model.
    pub fn of(
        dialect: Dialect,
        asked: &Parameters,
        body: &[u8],
        output_default: u64,
        context: Option<u64>,
    ) -> Estimate {
        let parts = Estimate::parts(dialect, asked, body);
        Estimate::bounded(dialect, asked, parts.total(), output_default, context)
    }

    /// What its input is made of, were there no bound on it.
    pub fn parts(dialect: Dialect, asked: &Parameters, body: &[u8]) -> Parts {
        input(family(asked.model.as_deref(), dialect), None, body)
    }

    /// The same with texts that are counted and not estimated.
    pub fn counted(dialect: Dialect, asked: &Parameters, body: &[u8], vocabulary: Vocabulary) -> Parts {
        input(family(asked.model.as_deref(), dialect), Some(vocabulary), body)
    }

    /// As [`Estimate::of`], of an input that is walked through already.
    pub fn bounded(
        dialect: Dialect,
        asked: &Parameters,
        input: u64,
        output_default: u64,
        context: Option<u64>,
    ) -> Estimate {
        let context = context.unwrap_or(family(asked.model.as_deref(), dialect).context);
        let input = input.min(context.saturating_mul(asked.prompts));
        let room = context.saturating_sub(input.div_ceil(asked.prompts.max(1))).saturating_mul(asked.alternatives);
        let output = asked.output_tokens_max.unwrap_or(output_default).min(room);
        Estimate { input, total: input.saturating_add(output) }
    }
}

/// The input of a request, as somebody asks about it: as it is estimated, or with its texts counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input {
    /// By part.
    pub parts: Parts,
    /// As each tokeniser counts it, where one has.
    counted: [Option<Parts>; Tokenizer::ALL.len()],
}

impl Input {
    /// Nothing but an estimate.
    pub fn of(parts: Parts) -> Input {
        Input { parts, ..Input::default() }
    }

    /// It as this tokeniser counts it; where it has not, as it is estimated.
    pub fn by(&self, tokenizer: Option<Tokenizer>) -> &Parts {
        tokenizer.and_then(|tokenizer| self.counted[tokenizer as usize].as_ref()).unwrap_or(&self.parts)
    }

    /// Whether this tokeniser has counted it.
    pub fn is_counted(&self, tokenizer: Tokenizer) -> bool {
        self.counted[tokenizer as usize].is_some()
    }

    /// So it is as this tokeniser has counted it.
    pub fn count(&mut self, tokenizer: Tokenizer, counted: Parts) {
        self.counted[tokenizer as usize] = Some(counted);
    }
}

fn input(family: &Family, vocabulary: Option<Vocabulary>, body: &[u8]) -> Parts {
    walk(family, vocabulary, body).unwrap_or_else(|counted| {
        // Half a pair of surrogates, where a string was cut inside of an emoji, is no Unicode, and no reason to know
        // nothing.
        let mended = lenient::without_surrogates(body);
        mended.map_or(counted, |body| walk(family, vocabulary, &body).unwrap_or_else(|counted| counted))
    })
}

/// The tokens of a body. Where it ends to be JSON, those of what was until then, and of the rest by its bytes.
fn walk(family: &Family, vocabulary: Option<Vocabulary>, body: &[u8]) -> Result<Parts, Parts> {
    let mut walk = Walk {
        family,
        vocabulary,
        text: TextTokens::default(),
        json: TextTokens::default(),
        text_bytes: 0,
        media: 0,
        is_all: true,
        seen: Vec::new(),
        said: Said::default(),
        detail: None,
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let top = Part { walk: &mut walk, place: Place { key: Key::Other, within_media: false, in_list: false } };
    match json.deserialize_any(top).and_then(|()| json.end()) {
        Ok(()) => Ok(walk.parts()),
        Err(error) => {
            let lines = memchr::memchr_iter(b'\n', body).nth(error.line().saturating_sub(2));
            let line = if error.line() > 1 { lines.map_or(0, |at| at + 1) } else { 0 };
            let rest = body.len().saturating_sub(line + error.column()) as u64;
            Err(walk.parts().with_unread(rest / BYTES_PER_TOKEN))
        }
    }
}

/// What has been seen of a body.
struct Walk<'f> {
    family: &'f Family,
    /// With what texts are counted, if they are.
    vocabulary: Option<Vocabulary>,
    text: TextTokens,
    /// What describes tools and answers, and what they are called with.
    json: TextTokens,
    /// Bytes of both.
    text_bytes: u64,
    media: u64,
    /// Whether all that the model is shown stands in the request.
    is_all: bool,
    /// Media of which more may be said behind them.
    seen: Vec<Seen>,
    /// What the object that is being walked through has said of the media in it.
    said: Said,
    /// How closely those are looked at of which nothing else is said.
    detail: Option<Detail>,
}

struct Seen {
    medium: Medium,
    /// Whether it is not at hand, and what it is only guessed.
    is_guess: bool,
    detail: Option<Detail>,
}

#[derive(Clone, Copy, Default)]
struct Said {
    detail: Option<Detail>,
    /// What a medium is that does not show it.
    kind: Option<Kind>,
}

impl Walk<'_> {
    fn parts(mut self) -> Parts {
        for Seen { medium, detail, .. } in std::mem::take(&mut self.seen) {
            self.count_medium(medium, detail.or(self.detail));
        }
        let is_counted = self.vocabulary.is_some();
        let percent = if is_counted { 100 } else { self.family.text_percent };
        let text = self.text.plus(self.json).total().saturating_mul(percent).div_ceil(100);
        let media = self.media.saturating_add(ANSWER_TOKENS);
        let json = self.json.by_group().iter().sum();
        Parts::new(text.saturating_add(media), self.text.by_group(), json, percent, media, self.is_all)
            .with_texts(self.text_bytes, is_counted)
    }

    fn add_text(&mut self, text: &str) {
        self.text_bytes += text.len() as u64;
        self.text.add(text, self.vocabulary);
    }

    /// Words of tools and schemas, and of what they are called with.
    fn add_json(&mut self, text: &str) {
        self.text_bytes += text.len() as u64;
        self.json.add(text, self.vocabulary);
    }

    fn count(&mut self, tokens: u64) {
        self.media = self.media.saturating_add(tokens);
    }

    fn count_medium(&mut self, medium: Medium, detail: Option<Detail>) {
        let each = |number: u64, tokens: u64| number.saturating_mul(tokens);
        self.count(match medium {
            Medium::Image(size) => self.family.image.tokens(size, detail),
            Medium::Document(pages) => each(pages, self.family.page(detail)),
            Medium::Audio(ms) => each(ms, self.family.audio_second).div_ceil(1_000),
            Medium::Video(ms) => each(ms, self.family.video_second).div_ceil(1_000),
            Medium::Text(bytes) => bytes / BYTES_PER_TOKEN,
            Medium::Unknown(bytes) => return self.count_medium(Kind::Document.of_bytes(bytes), detail),
        });
    }

    /// Reasoning that is handed back unread.
    fn count_encrypted(&mut self, text: &str) {
        self.count(text.len() as u64 / ENCRYPTED_CHARACTERS_PER_TOKEN);
    }

    fn see(&mut self, medium: Medium, is_guess: bool) {
        if self.seen.len() < SEEN_MAX {
            self.seen.push(Seen { medium, is_guess, detail: None });
        } else {
            self.count_medium(medium, None);
        }
    }

    /// What is only pointed at. What it is shows in its name, or is said beside it.
    fn see_elsewhere(&mut self, name: &str, otherwise: Medium) {
        match media::elsewhere(name) {
            Some(medium) => self.see(medium, false),
            None => {
                self.is_all = false;
                self.see(otherwise, true);
            }
        }
    }

    /// Ends an object whose media began with the one at `first`: what it has said is said of them.
    fn leave(&mut self, first: usize, key: Key, outer: Said) {
        let own = std::mem::replace(&mut self.said, outer);
        match key {
            Key::Detail => self.said.detail = own.detail.or(outer.detail),
            Key::Settings => self.detail = own.detail.or(self.detail),
            _ => {}
        }
        for seen in self.seen.iter_mut().skip(first) {
            seen.detail = seen.detail.or(own.detail);
            let Some(kind) = own.kind else { continue };
            // What is said nearest to it counts.
            seen.medium =
                if std::mem::take(&mut seen.is_guess) { kind.elsewhere() } else { seen.medium.said_to_be(kind) };
        }
    }
}

/// What stands behind a key, in the words of every API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// Text, or what holds more keys.
    Other,
    /// Text, whatever it looks like.
    Text,
    /// What describes tools and answers: the model is shown its words, the keys among them.
    Schema,
    /// JSON of the caller's own, arguments and results: the model is shown all of it as it is.
    Json,
    /// The input of a tool, which is the caller's own if it is an object, or else of the request.
    Input,
    /// An image, a document, sound: base64, with or without `data:` before it, or a URL.
    Medium,
    /// What is in an object of media: base64, or plain text. Elsewhere it is reasoning that is handed back.
    Data,
    /// A URL: of a medium where one is described, and else text.
    Url,
    /// A document, or a part of one, kept at the provider.
    File,
    /// Reasoning that only the provider can read.
    Encrypted,
    /// How closely images are looked at.
    Detail,
    /// What a medium is.
    Kind,
    /// Settings, of all images too.
    Settings,
    /// Who speaks: there is one in every message.
    Role,
    /// What the model is not shown.
    Unseen,
}

impl Key {
    fn of(key: &str) -> Key {
        match key {
            "text" | "content" | "thinking" | "reasoning_content" | "instructions" | "system" | "prompt" | "output" => {
                Key::Text
            }
            "tools" | "functions" | "response_format" | "format" | "parameters" | "input_schema" | "schema"
            | "responseSchema" | "responseJsonSchema" | "response_schema" => Key::Schema,
            "args" | "arguments" | "response" => Key::Json,
            "input" => Key::Input,
            "image_url" | "image" | "images" | "video_url" | "audio_url" | "input_audio" | "bytesBase64Encoded"
            | "file_data" | "result" => Key::Medium,
            "data" => Key::Data,
            "url" | "uri" => Key::Url,
            "file_id" | "file_url" | "fileUri" | "file_uri" | "document_url" => Key::File,
            "encrypted_content" => Key::Encrypted,
            "detail" | "level" | "mediaResolution" | "media_resolution" => Key::Detail,
            "type" | "mimeType" | "mime_type" | "media_type" => Key::Kind,
            "generationConfig" | "generation_config" => Key::Settings,
            "role" => Key::Role,
            "model"
            | "id"
            | "name"
            | "user"
            | "metadata"
            | "filename"
            | "signature"
            | "thoughtSignature"
            | "thought_signature"
            | "encrypted_index"
            | "call_id"
            | "tool_call_id"
            | "tool_use_id"
            | "cache_control"
            | "safety_identifier"
            | "prompt_cache_key"
            | "status"
            | "service_tier"
            | "encoding_format"
            | "reasoning_effort"
            | "effort"
            | "tool_choice"
            | "previous_response_id"
            | "stop"
            | "include"
            | "modalities"
            | "safetySettings"
            | "safety_settings"
            | "labels" => Key::Unseen,
            _ => Key::Other,
        }
    }

    /// Whether what is below describes a medium.
    fn holds_media(self, key: &str) -> bool {
        self == Key::Medium
            || matches!(key, "source" | "file" | "inlineData" | "inline_data" | "fileData" | "file_data" | "audio")
    }
}

/// Where in a body something stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    key: Key,
    within_media: bool,
    in_list: bool,
}

/// A value of a body, on the way through it.
struct Part<'w, 'f> {
    walk: &'w mut Walk<'f>,
    place: Place,
}

impl<'de> DeserializeSeed<'de> for Part<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.place.key {
            Key::Unseen => deserializer.deserialize_ignored_any(IgnoredAny).map(|_| ()),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Part<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let (walk, within_media) = (self.walk, self.place.within_media);
        let is_link = text.starts_with("https://") || text.starts_with("http://") || text.starts_with("gs://");
        match self.place.key {
            Key::Text | Key::Input => walk.add_text(text),
            Key::Schema | Key::Json => walk.add_json(text),
            Key::File if media::data_url(text).is_none() => walk.see_elsewhere(text, DOCUMENT_ELSEWHERE),
            Key::Medium if is_link => walk.see_elsewhere(text, IMAGE_ELSEWHERE),
            Key::Url if is_link && within_media => walk.see_elsewhere(text, IMAGE_ELSEWHERE),
            Key::Data if !within_media => walk.count_encrypted(text),
            Key::Medium | Key::Data | Key::Url | Key::File => match media::read(text) {
                Some(medium) => walk.see(medium, false),
                None => walk.add_text(text),
            },
            Key::Other if media::data_url(text).is_some() => match media::read(text) {
                Some(medium) => walk.see(medium, false),
                None => walk.add_text(text),
            },
            Key::Other => walk.add_text(text),
            Key::Encrypted => walk.count_encrypted(text),
            Key::Role => walk.count(MESSAGE_TOKENS),
            Key::Detail => walk.said.detail = Detail::from_word(text).or(walk.said.detail),
            Key::Kind => walk.said.kind = Kind::of(text).or(walk.said.kind),
            Key::Settings | Key::Unseen => {}
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.visit_number(1)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.visit_number(digits(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.visit_number(1 + digits(number.unsigned_abs()))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.visit_number(FRACTION_DIGITS)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let place = Place { in_list: true, ..self.place };
        while list.next_element_seed(Part { walk: self.walk, place })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let Part { walk, place } = self;
        let all_of_it = match place.key {
            Key::Schema => Some(Key::Schema),
            Key::Json => Some(Key::Json),
            Key::Input if !place.in_list => Some(Key::Json),
            _ => None,
        };
        let (first, outer) = (walk.seen.len(), std::mem::take(&mut walk.said));
        while let Some(key) = object.next_key::<Name<'_>>()? {
            let key = &*key.0;
            let below = if let Some(free) = all_of_it {
                walk.add_json(key);
                if free == Key::Json {
                    walk.json.add(JSON_OF_A_FIELD, None);
                }
                Place { key: free, within_media: false, in_list: false }
            } else {
                let named = Key::of(key);
                walk.is_all &= !is_kept_elsewhere(key);
                let within_media = place.within_media || place.key == Key::Medium || named.holds_media(key);
                Place { key: named, within_media, in_list: false }
            };
            object.next_value_seed(Part { walk: &mut *walk, place: below })?;
        }
        walk.leave(first, place.key, outer);
        Ok(())
    }
}

impl Part<'_, '_> {
    /// A number of a list stands for a token, if it is not shown itself; as a setting it is not shown to the model.
    fn visit_number<E>(self, digits: u64) -> Result<(), E> {
        match self.place.key {
            Key::Json => self.walk.json.add_tokens(digits.div_ceil(DIGITS_PER_TOKEN) + 1),
            Key::Schema => self.walk.json.add_tokens(1),
            _ if self.place.in_list => self.walk.text.add_tokens(1),
            _ => {}
        }
        Ok(())
    }
}

/// Whether what stands behind this key is shown to the model and kept at the provider, so that nobody here knows how
/// much it is.
fn is_kept_elsewhere(key: &str) -> bool {
    matches!(key, "previous_response_id" | "conversation" | "cachedContent" | "cached_content" | "container")
}

fn digits(number: u64) -> u64 {
    u64::from(number.checked_ilog10().unwrap_or(0)) + 1
}

/// A key, copied only where it is written with escapes.
#[derive(serde::Deserialize)]
struct Name<'n>(#[serde(borrow)] Cow<'n, str>);

#[cfg(test)]
mod tests;
