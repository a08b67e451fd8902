//! The names under which a model may stand in a table of prices: vendors, clouds and routers put words before and behind
//! its own, and makers put dates.

use std::borrow::Cow;

/// Vendors whose models cost the same wherever they are sold on, by what OpenRouter and its like put before their
/// names, and by what the table puts there.
const CLOSED: [(&str, &str); 6] =
    [("openai/", ""), ("anthropic/", ""), ("google/", "gemini/"), ("x-ai/", "xai/"), ("xai/", "xai/"), ("cohere/", "")];
/// Where Bedrock keeps a model, before its name.
const REGIONS: [&str; 8] = ["us.", "eu.", "apac.", "global.", "jp.", "au.", "ca.", "us-gov."];
/// What routers put behind a name that changes no price that a table knows.
const VARIANTS: [&str; 6] = [":online", ":nitro", ":floor", ":thinking", ":extended", ":exacto"];
/// Longest name that is looked for. Those of models are short, and callers choose them.
const NAME_BYTES_MAX: usize = 256;

/// The names to look for, the most exact one first.
pub(super) fn names<'m>(vendor: Option<&str>, model: &'m str) -> Vec<Cow<'m, str>> {
    let mut names: Vec<Cow<'m, str>> = Vec::new();
    if model.len() > NAME_BYTES_MAX {
        return names;
    }
    let mut add = |name: Cow<'m, str>| {
        if !names.contains(&name) {
            names.push(name);
        }
    };
    let lower = |name: &'m str| match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    };
    let named = lower(model.trim());
    let with_vendor = |name: &str| vendor.map(|vendor| Cow::Owned(format!("{vendor}/{name}")));
    with_vendor(&named).into_iter().for_each(&mut add);
    add(named.clone());
    let (before, own) = own_name(&named);
    let own = own.into_owned();
    if let Some(before) = before {
        add(Cow::Owned(format!("{before}{own}")));
    }
    let undated = undated(&own).map(str::to_owned);
    let hyphened = hyphened(&own);
    for name in [Some(own), hyphened, undated].into_iter().flatten() {
        with_vendor(&name).into_iter().for_each(&mut add);
        if let Some(before) = before.filter(|before| !before.is_empty()) {
            add(Cow::Owned(format!("{before}{name}")));
        }
        add(Cow::Owned(name));
    }
    names
}

/// A model's own name, and what the table puts before it, where a router has said whose it is.
fn own_name(named: &str) -> (Option<&'static str>, Cow<'_, str>) {
    let mut name = named;
    for before in ["models/", "publishers/", "projects/", "arn:"] {
        if name.starts_with(before) {
            name = name.rsplit('/').next().unwrap_or(name);
        }
    }
    if let Some(tuned) = name.strip_prefix("ft:") {
        // What was tuned, and then whose it is.
        name = &name[.."ft:".len() + tuned.find(':').unwrap_or(tuned.len())];
    }
    for variant in VARIANTS {
        name = name.strip_suffix(variant).unwrap_or(name);
    }
    let closed = CLOSED.iter().find_map(|(before, ours)| Some((*ours, name.strip_prefix(before)?)));
    let (before, name) = closed.map_or((None, name), |(before, name)| (Some(before), name));
    let name = REGIONS.iter().find_map(|region| name.strip_prefix(region)).unwrap_or(name);
    let of_bedrock = name.strip_prefix("anthropic.").map(|name| match name.rfind("-v") {
        Some(at) if name[at + 2..].bytes().all(|byte| byte.is_ascii_digit() || byte == b':') => &name[..at],
        _ => name,
    });
    let name = of_bedrock.unwrap_or(name).strip_suffix("@default").unwrap_or(of_bedrock.unwrap_or(name));
    (before, Cow::Borrowed(name))
}

/// The same with hyphens where others write a point or an at sign: Claude's versions, and Vertex' dates.
fn hyphened(name: &str) -> Option<String> {
    let is_claude = name.starts_with("claude");
    let changes = name.contains('@') || is_claude && name.contains('.');
    changes.then(|| {
        let name = name.replace('@', "-");
        if is_claude { name.replace('.', "-") } else { name }
    })
}

/// The same without the day on which it was made, or the word for the last such day.
fn undated(name: &str) -> Option<&str> {
    let is_number = |text: &str, digits: usize| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = name.strip_suffix("-latest") {
        return Some(rest);
    }
    if let Some((rest, day)) = name.rsplit_once(['-', '@'])
        && is_number(day, 8)
    {
        return Some(rest);
    }
    let (rest, day) = name.rsplit_once('-')?;
    let (rest, month) = rest.rsplit_once('-')?;
    let (rest, year) = rest.rsplit_once('-')?;
    (is_number(day, 2) && is_number(month, 2) && is_number(year, 4)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_looked_for_under_its_exact_name_first_and_then_under_its_own() {
        for (vendor, model, first, last) in [
            (Some("openai"), "gpt-5-2025-08-07", "openai/gpt-5-2025-08-07", "gpt-5"),
            (Some("openai"), "GPT-5", "openai/gpt-5", "gpt-5"),
            (Some("anthropic"), "claude-haiku-4-5-20251001", "anthropic/claude-haiku-4-5-20251001", "claude-haiku-4-5"),
            (
                Some("vertex_ai"),
                "claude-sonnet-4-5@20250929",
                "vertex_ai/claude-sonnet-4-5@20250929",
                "claude-sonnet-4-5",
            ),
            (None, "openai/gpt-5", "openai/gpt-5", "gpt-5"),
            (
                Some("openrouter"),
                "anthropic/claude-sonnet-4.5",
                "openrouter/anthropic/claude-sonnet-4.5",
                "claude-sonnet-4-5",
            ),
            (
                Some("openrouter"),
                "anthropic/claude-sonnet-4.5:nitro",
                "openrouter/anthropic/claude-sonnet-4.5:nitro",
                "claude-sonnet-4-5",
            ),
            (Some("openrouter"), "x-ai/grok-4", "openrouter/x-ai/grok-4", "grok-4"),
            (Some("gemini"), "models/gemini-2.5-flash", "gemini/models/gemini-2.5-flash", "gemini-2.5-flash"),
            (
                Some("bedrock"),
                "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
                "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
                "claude-sonnet-4-5",
            ),
            (
                None,
                "arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-opus-4-5-20251101-v1:0",
                "arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-opus-4-5-20251101-v1:0",
                "claude-opus-4-5",
            ),
            (None, "ft:gpt-4o-mini-2024-07-18:acme::x", "ft:gpt-4o-mini-2024-07-18:acme::x", "ft:gpt-4o-mini"),
            (None, "claude-3-5-sonnet-latest", "claude-3-5-sonnet-latest", "claude-3-5-sonnet"),
            (None, "llama3.2:3b", "llama3.2:3b", "llama3.2:3b"),
            (None, "", "", ""),
        ] {
            let names = names(vendor, model);
            assert_eq!(names.first().map(|name| &**name), Some(first), "{model}");
            assert_eq!(names.last().map(|name| &**name), Some(last), "{model}");
        }
        assert!(names(None, &"x".repeat(NAME_BYTES_MAX + 1)).is_empty());
    }

    #[test]
    fn who_is_known_to_have_made_a_model_is_looked_for_by_name() {
        let names = names(Some("openrouter"), "x-ai/grok-4");
        assert!(names.iter().any(|name| name == "xai/grok-4"), "{names:?}");
    }
}
