//! Whose prices an upstream asks, by where it is.

use crate::dialect::Dialect;

/// Hosts, by how their names end, and what LiteLLM's table calls who is there: the first part of its names.
const HOSTS: [(&str, &str); 31] = [
    ("api.openai.com", "openai"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gemini"),
    ("aiplatform.googleapis.com", "vertex_ai"),
    ("openai.azure.com", "azure"),
    ("cognitiveservices.azure.com", "azure"),
    ("services.ai.azure.com", "azure_ai"),
    ("amazonaws.com", "bedrock"),
    ("api.mistral.ai", "mistral"),
    ("api.x.ai", "xai"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.together.xyz", "together_ai"),
    ("api.together.ai", "together_ai"),
    ("api.fireworks.ai", "fireworks_ai"),
    ("api.deepinfra.com", "deepinfra"),
    ("api.perplexity.ai", "perplexity"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.cerebras.ai", "cerebras"),
    ("api.sambanova.ai", "sambanova"),
    ("api.voyageai.com", "voyage"),
    ("dashscope.aliyuncs.com", "dashscope"),
    ("dashscope-intl.aliyuncs.com", "dashscope"),
    ("api.moonshot.ai", "moonshot"),
    ("api.moonshot.cn", "moonshot"),
    ("api.z.ai", "zai"),
    ("open.bigmodel.cn", "zai"),
    ("api.minimax.io", "minimax"),
    ("api.minimax.chat", "minimax"),
    ("openrouter.ai", "openrouter"),
];

/// Whose prices hold at this host, as LiteLLM's table calls it. At a host that nobody here has heard of they are those
/// of the one provider that speaks this dialect; OpenAI's is spoken by everybody.
pub(crate) fn vendor(host: &str, dialect: Dialect) -> Option<&'static str> {
    let is_there = |known: &str| {
        let before = host.len().checked_sub(known.len());
        before.is_some_and(|at| {
            host.is_char_boundary(at)
                && host[at..].eq_ignore_ascii_case(known)
                && (at == 0 || host[..at].ends_with(['.', '-']))
        })
    };
    let known = HOSTS.iter().find(|(known, _)| is_there(known)).map(|(_, vendor)| *vendor);
    known.or(match dialect {
        Dialect::Anthropic => Some("anthropic"),
        Dialect::Gemini => Some("gemini"),
        Dialect::OpenAi | Dialect::Ollama | Dialect::Other => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendor_is_known_by_its_host() {
        for (host, dialect, expected) in [
            ("api.openai.com", Dialect::OpenAi, Some("openai")),
            ("eu.api.openai.com", Dialect::OpenAi, Some("openai")),
            ("API.Groq.com", Dialect::OpenAi, Some("groq")),
            ("mine.openai.azure.com", Dialect::OpenAi, Some("azure")),
            ("europe-west1-aiplatform.googleapis.com", Dialect::Anthropic, Some("vertex_ai")),
            ("bedrock-runtime.us-east-1.amazonaws.com", Dialect::Anthropic, Some("bedrock")),
            ("gateway.example", Dialect::Anthropic, Some("anthropic")),
            ("gateway.example", Dialect::OpenAi, None),
            ("notapi.openai.com.example", Dialect::OpenAi, None),
            ("127.0.0.1", Dialect::Gemini, Some("gemini")),
            ("ü", Dialect::OpenAi, None),
        ] {
            assert_eq!(vendor(host, dialect), expected, "{host}");
        }
    }
}
