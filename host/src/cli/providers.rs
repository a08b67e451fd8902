//! The providers that people have keys of, as the variables of a shell show it.

use crate::config::{BaseUrl, known_url};
use crate::dialect::Dialect;
use crate::upstream::client::is_of_this_machine;
use std::net::SocketAddr;

/// A provider that is served as it is: by its base URL and the API that it speaks.
#[derive(Debug)]
struct Provider {
    /// The upstream's name.
    name: &'static str,
    /// The variables in which its SDK, or most of its users, keep the key.
    keys: &'static [&'static str],
    place: Place,
    dialect: Dialect,
    /// A model that it has, for an example of a fallback to it.
    model: &'static str,
}

/// Where a provider is.
#[derive(Debug)]
enum Place {
    /// Where Spillway looks for it without being told, unless this variable of its SDK names another server.
    Known(&'static str),
    /// Here.
    At(&'static str),
    /// Where this variable says: a resource of Azure's.
    AzureAt(&'static str),
    /// Where this variable says, on this machine mostly: Ollama, which wants no key.
    OllamaAt(&'static str),
}

/// Where Ollama listens where nobody says otherwise.
const OLLAMA_PORT: u16 = 11_434;

/// In the order in which they stand in files and in a fallback.
const PROVIDERS: [Provider; 14] = [
    Provider {
        name: "openai",
        keys: &["OPENAI_API_KEY"],
        place: Place::Known("OPENAI_BASE_URL"),
        dialect: Dialect::OpenAi,
        model: "gpt-5-mini",
    },
    Provider {
        name: "anthropic",
        keys: &["ANTHROPIC_API_KEY"],
        place: Place::Known("ANTHROPIC_BASE_URL"),
        dialect: Dialect::Anthropic,
        model: "claude-haiku-4-5",
    },
    Provider {
        name: "gemini",
        keys: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        place: Place::Known("GOOGLE_GEMINI_BASE_URL"),
        dialect: Dialect::Gemini,
        model: "gemini-2.5-flash",
    },
    Provider {
        name: "azure",
        keys: &["AZURE_OPENAI_API_KEY"],
        place: Place::AzureAt("AZURE_OPENAI_ENDPOINT"),
        dialect: Dialect::OpenAi,
        model: "my-deployment",
    },
    at("openrouter", &["OPENROUTER_API_KEY"], "https://openrouter.ai/api/v1", "openai/gpt-5-mini"),
    at("groq", &["GROQ_API_KEY"], "https://api.groq.com/openai/v1", "openai/gpt-oss-120b"),
    at("mistral", &["MISTRAL_API_KEY"], "https://api.mistral.ai/v1", "mistral-large-latest"),
    at("deepseek", &["DEEPSEEK_API_KEY"], "https://api.deepseek.com/v1", "deepseek-chat"),
    at("together", &["TOGETHER_API_KEY"], "https://api.together.ai/v1", "openai/gpt-oss-120b"),
    at("fireworks", &["FIREWORKS_API_KEY"], "https://api.fireworks.ai/inference/v1", "my-model"),
    at("xai", &["XAI_API_KEY"], "https://api.x.ai/v1", "grok-4"),
    at("cerebras", &["CEREBRAS_API_KEY"], "https://api.cerebras.ai/v1", "gpt-oss-120b"),
    at("nvidia", &["NVIDIA_API_KEY"], "https://integrate.api.nvidia.com/v1", "my-model"),
    Provider {
        name: "ollama",
        keys: &[],
        place: Place::OllamaAt("OLLAMA_HOST"),
        dialect: Dialect::OpenAi,
        model: "llama3.2",
    },
];

const fn at(name: &'static str, keys: &'static [&'static str], url: &'static str, model: &'static str) -> Provider {
    Provider { name, keys, place: Place::At(url), dialect: Dialect::OpenAi, model }
}

/// A provider that the variables of a shell tell of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The upstream's name.
    pub(super) name: &'static str,
    /// The variables that tell of it.
    pub(super) variables: Vec<&'static str>,
    /// The variable that holds its key; `None` for one that wants none.
    pub(super) key: Option<&'static str>,
    /// Where it is, unless Spillway knows that without being told.
    pub(super) url: Option<String>,
    /// Whether Spillway has it without being told.
    pub(super) is_known: bool,
    /// The API it speaks.
    pub(super) dialect: Dialect,
    /// A model that it has, for an example.
    pub(super) model: &'static str,
}

/// Those that the variables tell of, in the order of the table. A variable that is empty says nothing. `is_ours` says
/// of a URL whether it leads to Spillway itself, as the variables do in a shell that is set up already.
pub(super) fn found(variable: impl Fn(&str) -> Option<String>, is_ours: impl Fn(&BaseUrl) -> bool) -> Vec<Found> {
    let variable = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
    let url_in = |name: &str| {
        let value = variable(name)?;
        let url = BaseUrl::parse(&value).ok().filter(|url| !is_ours(url))?;
        Some(url.to_string())
    };
    let find = |provider: &Provider| {
        let key = provider.keys.iter().copied().find(|key| variable(key).is_some());
        let (url, named_by) = match provider.place {
            Place::Known(name) => (url_in(name), Some(name)),
            Place::At(url) => (Some(url.to_owned()), None),
            Place::AzureAt(name) => (Some(url_in(name)?), Some(name)),
            Place::OllamaAt(name) => (Some(ollama(&variable(name)?)?), Some(name)),
        };
        let is_known = matches!(provider.place, Place::Known(_));
        // A key alone says that somebody uses the provider; of one without keys, or elsewhere, its address does.
        let tells = key.is_some() || (named_by.is_some() && url.is_some());
        let variables = key.into_iter().chain(named_by.filter(|_| url.is_some())).collect();
        tells.then_some(Found {
            name: provider.name,
            variables,
            key: key.or(provider.keys.first().copied()),
            url,
            is_known,
            dialect: provider.dialect,
            model: provider.model,
        })
    };
    PROVIDERS.iter().filter_map(find).collect()
}

/// The variables that may hold a key for this upstream, whoever has named it.
pub(super) fn keys_of(upstream: &str) -> &'static [&'static str] {
    PROVIDERS.iter().find(|provider| provider.name == upstream).map_or(&[], |provider| provider.keys)
}

/// Whether a URL leads, encrypted, to the provider of this name itself. What a variable of the shell says of where it is
/// does not count: that may be anybody's server.
pub(super) fn is_at_home(name: &str, url: &BaseUrl) -> bool {
    let bare = |url: &BaseUrl| url.host().trim_end_matches('.').to_ascii_lowercase();
    let is_its_host = |home: BaseUrl| bare(&home) == bare(url);
    let Some(provider) = PROVIDERS.iter().find(|provider| provider.name == name) else { return false };
    url.is_encrypted()
        && match provider.place {
            Place::Known(_) => known_url(name).is_some_and(is_its_host),
            Place::At(home) => BaseUrl::parse(home).is_ok_and(is_its_host),
            Place::AzureAt(_) => url.is_azures(),
            Place::OllamaAt(_) => false,
        }
}

/// Whether a URL leads to Spillway itself.
pub(super) fn leads_to(url: &BaseUrl, listen: SocketAddr) -> bool {
    is_of_this_machine(url.host()) && url.port() == listen.port()
}

/// Where an Ollama is, as its own variable says: a host, a port or both, with a scheme or without. Like Ollama itself,
/// a scheme brings its own port along. What listens everywhere is reached at the loopback.
fn ollama(said: &str) -> Option<String> {
    let (scheme, rest, default_port) = match said.split_once("://") {
        Some(("https", rest)) => ("https", rest, 443),
        Some((scheme, rest)) => (scheme, rest, 80),
        None => ("http", said, OLLAMA_PORT),
    };
    let rest = rest.trim_end_matches('/');
    let (host, port) = match rest.rsplit_once(':') {
        // More colons make an address of version 6.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, port.parse().ok()?),
        _ => (rest, default_port),
    };
    let host = if matches!(host, "" | "0.0.0.0" | "[::]" | "::") { "127.0.0.1" } else { host };
    let url = BaseUrl::parse(&format!("{scheme}://{host}:{port}")).ok()?;
    Some(url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_shell(variables: &[(&str, &str)]) -> Vec<Found> {
        let variable =
            |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        found(variable, |url| url.port() == 4141)
    }

    #[test]
    fn a_key_tells_of_its_provider_and_an_empty_one_of_none() {
        let found = in_shell(&[("GOOGLE_API_KEY", "k"), ("GROQ_API_KEY", "k"), ("OPENAI_API_KEY", " ")]);
        let names: Vec<_> = found.iter().map(|found| (found.name, found.key, found.url.as_deref())).collect();
        assert_eq!(
            names,
            [
                ("gemini", Some("GOOGLE_API_KEY"), None),
                ("groq", Some("GROQ_API_KEY"), Some("https://api.groq.com/openai/v1"))
            ]
        );
    }

    #[test]
    fn a_server_of_ones_own_is_kept_and_spillway_itself_is_none() {
        let url = |value| in_shell(&[("OPENAI_BASE_URL", value)]).first().and_then(|found| found.url.clone());
        assert_eq!(url("https://gateway.corp.example/v1/").as_deref(), Some("https://gateway.corp.example/v1"));
        assert_eq!(url("http://127.0.0.1:4141/openai/v1"), None);
        assert_eq!(url("https://user:secret@gateway.corp.example"), None, "a URL with a secret is not written down");
    }

    #[test]
    fn azure_is_where_its_endpoint_says_and_nowhere_without() {
        let endpoint = ("AZURE_OPENAI_ENDPOINT", "https://me.openai.azure.com/");
        let found = in_shell(&[endpoint, ("AZURE_OPENAI_API_KEY", "k")]);
        assert_eq!(found[0].url.as_deref(), Some("https://me.openai.azure.com"));
        assert_eq!(in_shell(&[("AZURE_OPENAI_API_KEY", "k")]), []);
    }

    #[test]
    fn an_ollama_is_found_however_its_variable_is_written() {
        for (said, url) in [
            ("127.0.0.1", Some("http://127.0.0.1:11434")),
            ("0.0.0.0", Some("http://127.0.0.1:11434")),
            (":8080", Some("http://127.0.0.1:8080")),
            ("box.lan:1234", Some("http://box.lan:1234")),
            ("https://box.lan/", Some("https://box.lan:443")),
            ("[::]", Some("http://127.0.0.1:11434")),
            ("[::1]:99", Some("http://[::1]:99")),
            ("box:port", None),
        ] {
            assert_eq!(ollama(said).as_deref(), url, "{said}");
        }
    }

    #[test]
    fn a_provider_is_at_home_only_on_its_own_host_and_encrypted() {
        for (name, url, is_at_home) in [
            ("openai", "https://api.openai.com", true),
            ("openai", "https://API.OpenAI.com.:443/v1", true),
            ("openai", "http://api.openai.com", false),
            ("openai", "https://api.openai.com.example.org", false),
            ("openai", "https://api.anthropic.com", false),
            ("openai", "https://gateway.corp.example/v1", false),
            ("gemini", "https://generativelanguage.googleapis.com", true),
            ("groq", "https://api.groq.com/openai/v1", true),
            ("groq", "https://groq.com", false),
            ("azure", "https://me.openai.azure.com", true),
            ("azure", "https://openai.azure.com.example.org", false),
            ("ollama", "https://box.lan", false),
            ("mine", "https://api.openai.com", false),
        ] {
            let url = BaseUrl::parse(url).expect("a URL");
            assert_eq!(super::is_at_home(name, &url), is_at_home, "{name} at {url}");
        }
    }

    #[test]
    fn what_leads_to_spillway_is_no_provider() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 4141));
        let leads = |url| leads_to(&BaseUrl::parse(url).expect("a URL"), listen);
        assert!(leads("http://127.0.0.1:4141/v1") && leads("http://localhost:4141"));
        assert!(!leads("http://127.0.0.1:11434") && !leads("http://gateway.example:4141"));
    }
}
