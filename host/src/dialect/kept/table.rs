//! The table: by which fields and paths each API refers to what is kept.

/// A field that refers to something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) key: &'static str,
    pub(super) holds: Holds,
    pub(super) of: Of,
}

/// What a field holds. Whatever else stands there is no reference.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holds {
    /// A text.
    Text,
    /// A list of texts.
    Texts,
    /// An object with the text behind this key.
    Inside(&'static str),
    /// A text, or an object with the text behind this key.
    TextOrInside(&'static str),
    /// The name of one of Google's resources, or a URL of it.
    Resource,
    /// A list of such names.
    Resources,
}

/// Which objects a field counts in, by their `type`, or else by what they call their `object`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    Any,
    /// One of these.
    Kinds(&'static [&'static str]),
    /// None of these.
    Others(&'static [&'static str]),
    /// One of these, or an object with nothing else in it.
    KindsOrAlone(&'static [&'static str]),
}

impl Of {
    /// Whether it counts in an object of this kind, which may have nothing else in it.
    pub(super) fn has(self, kind: Option<&str>, is_alone: bool) -> bool {
        match self {
            Of::Any => true,
            Of::Kinds(kinds) => kind.is_some_and(|kind| kinds.contains(&kind)),
            Of::Others(kinds) => kind.is_none_or(|kind| !kinds.contains(&kind)),
            Of::KindsOrAlone(kinds) => is_alone || kind.is_some_and(|kind| kinds.contains(&kind)),
        }
    }
}

pub(super) const fn any(key: &'static str, holds: Holds) -> Field {
    Field { key, holds, of: Of::Any }
}

pub(super) const fn of(key: &'static str, holds: Holds, of: Of) -> Field {
    Field { key, holds, of }
}

/// OpenAI's, and those of Google and OpenRouter that speak it.
pub(super) const OPENAI: [Field; 21] = [
    any("previous_response_id", Holds::Text),
    any("conversation", Holds::TextOrInside("id")),
    any("prompt", Holds::Inside("id")),
    // What a reasoning item holds is looked up by its id unless it is encrypted, and an image always is.
    of("id", Holds::Text, Of::KindsOrAlone(&["item_reference", "reasoning", "image_generation_call"])),
    any("encrypted_content", Holds::Text),
    any("file_id", Holds::Text),
    any("file_ids", Holds::Texts),
    any("input_file_id", Holds::Text),
    any("training_file", Holds::Text),
    any("validation_file", Holds::Text),
    any("vector_store_ids", Holds::Texts),
    any("container", Holds::TextOrInside("id")),
    any("container_id", Holds::Text),
    of("skill_id", Holds::Text, Of::Kinds(&["skill_reference"])),
    any("audio", Holds::Inside("id")),
    any("voice", Holds::Inside("id")),
    any("assistant_id", Holds::Text),
    any("thread_id", Holds::Text),
    any("thought_signature", Holds::Text),
    any("signature", Holds::Text),
    of("data", Holds::Text, Of::Kinds(&["reasoning.encrypted"])),
];

/// What else OpenAI's answers make: every object with an id, but for models, for lists, and for calls of tools, which
/// are repeated and not looked up.
pub(super) const OPENAI_MADE: [Field; 3] = [
    of("id", Holds::Text, Of::Others(&["model", "list", "function", "custom"])),
    any("output_file_id", Holds::Text),
    any("error_file_id", Holds::Text),
];

pub(super) const ANTHROPIC: [Field; 9] = [
    any("signature", Holds::Text),
    of("data", Holds::Text, Of::Kinds(&["redacted_thinking"])),
    any("encrypted_content", Holds::Text),
    any("encrypted_index", Holds::Text),
    any("encrypted_stdout", Holds::Text),
    any("file_id", Holds::Text),
    any("container", Holds::TextOrInside("id")),
    // Those that Anthropic made are everybody's.
    of("skill_id", Holds::Text, Of::Kinds(&["custom"])),
    any("fallback_credit_token", Holds::TextOrInside("token")),
];

/// What else Anthropic's answers make. Messages are not kept.
pub(super) const ANTHROPIC_MADE: [Field; 1] =
    [of("id", Holds::Text, Of::Others(&["message", "model", "tool_use", "server_tool_use", "mcp_tool_use"]))];

pub(super) const GEMINI: [Field; 13] = [
    any("thoughtSignature", Holds::Text),
    any("thought_signature", Holds::Text),
    any("cachedContent", Holds::Resource),
    any("cached_content", Holds::Resource),
    any("fileUri", Holds::Resource),
    any("file_uri", Holds::Resource),
    any("uri", Holds::Resource),
    any("fileName", Holds::Resource),
    any("file_name", Holds::Resource),
    any("fileSearchStoreNames", Holds::Resources),
    any("file_search_store_names", Holds::Resources),
    // Those of the Interactions API.
    any("previous_interaction_id", Holds::Text),
    any("signature", Holds::Text),
];

/// What else Google's answers make.
pub(super) const GEMINI_MADE: [Field; 3] = [
    any("name", Holds::Resource),
    any("responsesFile", Holds::Resource),
    of("id", Holds::Text, Of::Kinds(&["interaction"])),
];

/// What stands for a thought's signature where there was none, as text and as bytes in base64: everybody takes them.
pub(super) const NO_SIGNATURES: [&str; 4] = [
    "skip_thought_signature_validator",
    "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=",
    "context_engineering_is_the_way_to_go",
    "Y29udGV4dF9lbmdpbmVlcmluZ19pc190aGVfd2F5X3RvX2dv",
];

/// Keys behind which JSON is the caller's own: arguments and results of tools, schemas, notes.
pub(super) const OWN: [&str; 13] = [
    "metadata",
    "labels",
    "arguments",
    "args",
    "parameters",
    "parametersJsonSchema",
    "schema",
    "json_schema",
    "input_schema",
    "responseSchema",
    "response_schema",
    "responseJsonSchema",
    "response_json_schema",
];

/// Parts of paths behind which stands the name of something that is kept.
pub(super) const OPENAI_PATHS: [&str; 14] = [
    "responses",
    "conversations",
    "files",
    "batches",
    "vector_stores",
    "containers",
    "threads",
    "assistants",
    "completions",
    "jobs",
    "uploads",
    "evals",
    "videos",
    "skills",
];
pub(super) const ANTHROPIC_PATHS: [&str; 8] =
    ["batches", "files", "skills", "agents", "environments", "sessions", "vaults", "memory_stores"];
/// Google's collections, in paths and in names.
pub(super) const GEMINI_PATHS: [&str; 6] =
    ["cachedContents", "files", "batches", "operations", "tunedModels", "fileSearchStores"];
/// Those whose members are called by an id alone.
pub(super) const GEMINI_ID_PATHS: [&str; 1] = ["interactions"];
/// What a URL of Google's API has in it: its host, or, where a proxy is asked for it, a version that no other API has.
pub(super) const GOOGLES: [&str; 3] = ["://generativelanguage.googleapis.com/", "/v1beta/", "/v1alpha/"];
/// What may stand behind a collection and is no name.
pub(super) const NO_NAMES: [&str; 6] = ["compact", "input_tokens", "runs", "edits", "extensions", "characters"];
