//! `[routes.NAME]`: who may serve which requests, in which order.

use super::UpstreamConfig;
use super::kind::{Flag, Kind, Maybe, OneOrMore, Text, Time, Whole};
use super::pattern::Pattern;
use super::reader::{Section, nearest};
use super::section::{Description, Table, Tables, section};
use crate::dialect::Dialect;
use serde_json::json;
use spillway_resilience::{AffinitySettings, ChainSettings};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;
use toml::Spanned;
use toml::Value;
use toml::de::DeValue;

/// Most targets of one route, keys not counted.
const TARGETS_MAX: usize = 16;
/// Largest weight of a target.
const WEIGHT_MAX: u64 = 1_000;
/// Largest context of a model that makes sense to write down, in tokens.
const CONTEXT_TOKENS_MAX: u64 = 1_000_000_000;

section! {
    /// Who may serve which requests, in which order: where one cannot, the next one does. A route takes what fits all
    /// that it says of requests, and the first route in the file that fits takes the request. It concerns requests to the
    /// API's own upstream; a path that names another one, as `/azure/v1/responses` does, asks for that one alone. What
    /// does not generate, such as a file's upload, goes to the first target, and to no other. What no route takes goes to
    /// the API's own upstream.
    ///
    /// What a fallback does, and what it never does: [fallback.md](fallback.md).
    pub struct RouteConfig {
        /// Who may serve, in order. `"openai/gpt-5"` is the model `gpt-5` at the upstream `openai`; `"openai"` is whatever
        /// model was asked for. A list within the list holds equals, among whom the load is balanced. A table
        /// says more of a target: `{ target = "ollama/llama3", weight = 2, context_tokens = 8192, degraded = true }`;
        /// what a degraded one answers is marked as such.
        targets: Ranks = Ranks::default(), TargetList, shown as "must be said";
        /// Paths that it takes, `*` being anything, as in `"/v1/chat/*"`. The name of an upstream does not stand before
        /// them.
        path: Vec<Pattern> = Vec::new(), OneOrMore("pattern", Pattern::parse), shown as "any";
        /// Models that it takes, `*` being anything.
        model: Vec<Pattern> = Vec::new(), OneOrMore("pattern", Pattern::parse), shown as "any";
        /// Tenants whose requests it takes, by the names in their headers.
        tenant: Vec<Pattern> = Vec::new(), OneOrMore("pattern", Pattern::parse), shown as "any";
        /// Headers that a request must have, each as `"name: pattern"`.
        headers: Vec<HeaderPattern> = Vec::new(), OneOrMore("`name: pattern`", HeaderPattern::parse), shown as "none";
        /// How many calls may follow the first one at other targets, keys of the same one included.
        max_hops: u32 = ChainSettings::DEFAULT_MAX_HOPS, Whole(0..=ChainSettings::HOPS_MAX as u64);
        /// No other target is asked so long after a request has come.
        timeout: Option<Duration> = None, Maybe(Time::POSITIVE), shown as "`server.request_timeout`";
        /// A failure that took longer is not followed by a call elsewhere.
        quick_failure_max: Option<Duration> = None, Maybe(Time::POSITIVE), shown as "however long it took";
        /// Whether a conversation stays with the equal that has served it, whose cache knows its prompt.
        affinity: bool = true, Flag;
        /// For how long after its last answer.
        affinity_ttl: Duration = AffinitySettings::DEFAULT_TTL, Time::POSITIVE;
        /// Whether whoever reaches Spillway may spend the keys of its targets without showing an access key.
        open_to_local: bool = false, Flag;
        /// What is answered, in the API's form, where no target serves. Requests that want tools, or an answer after a
        /// schema, never get it. An empty text is none.
        static_answer: String = String::new(), Text;
    }
}

/// A target as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetConfig {
    /// The upstream's name.
    pub upstream: String,
    /// The model that is asked for there, if it is not the caller's own.
    pub model: Option<String>,
    /// Its share of the load beside its equals.
    pub weight: u32,
    /// Most tokens that a prompt and its answer can have together there.
    pub context_tokens: Option<u64>,
    /// Whether its answers are marked as less than what was asked for.
    pub degraded: bool,
}

impl fmt::Display for TargetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.model {
            Some(model) => write!(f, "{}/{model}", self.upstream),
            None => f.write_str(&self.upstream),
        }
    }
}

/// Targets in the order in which they are asked; those in one list are equals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranks(pub Vec<Vec<TargetConfig>>);

impl Ranks {
    /// All of them, in order.
    pub fn targets(&self) -> impl Iterator<Item = &TargetConfig> {
        self.0.iter().flatten()
    }
}

/// What a request's header must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderPattern {
    /// The header.
    pub name: http::HeaderName,
    /// What stands in it.
    pub value: Pattern,
}

impl HeaderPattern {
    fn parse(text: &str) -> Result<HeaderPattern, String> {
        let (name, value) = text.split_once(':').ok_or("expected a name, a colon and a pattern")?;
        let name = name.trim().parse().map_err(|_| format!("\"{}\" is no header's name", name.trim()))?;
        Ok(HeaderPattern { name, value: Pattern::parse(value.trim())? })
    }
}

impl fmt::Display for HeaderPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.value)
    }
}

/// Every route, in the order in which they stand in the file: the first that fits takes a request.
#[derive(Clone, Debug, Default)]
pub struct Routes(pub Vec<(String, RouteConfig)>);

impl Routes {
    /// The routes that the file names. `has_access` says whether anybody can show that he may spend keys.
    pub(super) fn read(section: Section<'_>, upstreams: &BTreeMap<String, UpstreamConfig>, has_access: bool) -> Routes {
        let mut named = section.named_sections();
        named.sort_by_key(|(_, section)| section.position());
        let read = |(name, section): (String, Section<'_>)| {
            let route = RouteConfig::read(&name, section, upstreams, has_access);
            (name, route)
        };
        Routes(named.into_iter().map(read).collect())
    }

    /// Notes it where a key of a section names a route that is not there.
    pub(super) fn expect(&self, section: &Section<'_>, key: &'static str, named: Option<&str>) {
        let Some(named) = named.filter(|named| !self.has(named)) else { return };
        let known: Vec<&str> = self.iter().map(|(name, _)| name).collect();
        section.mistake(
            key,
            match nearest(named, &known) {
                Some(meant) => format!("there is no [routes.{named}]; did you mean {meant}?"),
                None => format!("there is no [routes.{named}]"),
            },
        );
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.iter().any(|(known, _)| known == name)
    }

    /// Every route with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RouteConfig)> {
        self.0.iter().map(|(name, route)| (name.as_str(), route))
    }
}

impl Table for Routes {
    fn describe() -> Description {
        let route = Box::new(RouteConfig::describe());
        Description { doc: String::new(), keys: Vec::new(), tables: Tables::Named(route) }
    }

    fn entries(&self) -> Vec<(Cow<'_, str>, Option<Value>)> {
        Vec::new()
    }

    fn tables(&self) -> Vec<(Cow<'_, str>, &dyn Table)> {
        self.iter().map(|(name, route)| (name.into(), route as &dyn Table)).collect()
    }
}

impl RouteConfig {
    fn read(
        name: &str,
        section: Section<'_>,
        upstreams: &BTreeMap<String, UpstreamConfig>,
        has_access: bool,
    ) -> RouteConfig {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            section.mistake("", "a route's name stands in headers and metrics: it has letters, digits, - and _ only");
        }
        let mut route = RouteConfig::fresh(section.folder());
        route.take(&section);
        if !section.has("targets") {
            section.mistake("targets", "missing; who serves this route?");
        }
        route.check_targets(&section, upstreams);
        let has_keys = |target: &TargetConfig| upstreams.get(&target.upstream).is_some_and(UpstreamConfig::has_keys);
        if !has_access && !route.open_to_local && route.targets.targets().any(has_keys) {
            section.mistake(
                "targets",
                "its targets have keys of their own, which every process of this machine could spend: make a \
                 virtual key for each of those who may (`spillway key new`), or set server.access_key_env or \
                 server.access_key_file, or server.unix_socket; or open_to_local = true here, if all may",
            );
        }
        section.finish();
        route
    }

    /// All targets must be there, and speak one API: what is sent is the caller's own request.
    fn check_targets(&self, section: &Section<'_>, upstreams: &BTreeMap<String, UpstreamConfig>) {
        let mut speaks: Option<(&TargetConfig, Dialect)> = None;
        for (index, target) in self.targets.targets().enumerate() {
            let place = place_of(section, index);
            let note = |message: String| match place {
                Some(place) => section.mistake_at(place, "targets", message),
                None => section.mistake("targets", message),
            };
            let Some(upstream) = upstreams.get(&target.upstream) else {
                let known: Vec<&str> = upstreams.keys().map(String::as_str).collect();
                note(match nearest(&target.upstream, &known) {
                    Some(meant) => format!("there is no upstream {}; did you mean {meant}?", target.upstream),
                    None => format!(
                        "there is no upstream {}; [upstreams.{}] must say where it is, or one of these serve: {}",
                        target.upstream,
                        target.upstream,
                        known.join(", ")
                    ),
                });
                continue;
            };
            if upstream.dialect == Dialect::Other {
                note(format!("{target} passes through unread, so that no route can tell what is asked of it"));
            }
            match speaks {
                Some((first, dialect)) if dialect != upstream.dialect => note(format!(
                    "{target} speaks {}, and {first} speaks {}: a request is not translated, so all targets of a route \
                     must speak one API",
                    upstream.dialect.as_str(),
                    dialect.as_str()
                )),
                Some(_) => {}
                None => speaks = Some((target, upstream.dialect)),
            }
            if self.targets.targets().take(index).any(|earlier| earlier.to_string() == target.to_string()) {
                note(format!("{target} stands here for the second time: a target is asked once for a request"));
            }
        }
    }

    /// Whether it says nothing of the requests that it takes.
    pub(super) fn takes_everything(&self) -> bool {
        let RouteConfig { path, model, tenant, headers, .. } = self;
        path.is_empty() && model.is_empty() && tenant.is_empty() && headers.is_empty()
    }

    /// What is meant where nothing is said of routes: this upstream alone.
    pub fn to_one(upstream: &str) -> RouteConfig {
        let target = TargetConfig {
            upstream: upstream.to_owned(),
            model: None,
            weight: 1,
            context_tokens: None,
            degraded: false,
        };
        RouteConfig { targets: Ranks(vec![vec![target]]), ..RouteConfig::fresh(Path::new("")) }
    }

    /// What bounds its fallbacks.
    pub fn chain(&self) -> ChainSettings {
        let RouteConfig { max_hops, timeout, quick_failure_max, .. } = *self;
        ChainSettings { max_hops, timeout, quick_failure_max }
    }
}

/// Where the target stands that is the so-many-th.
fn place_of<'a>(section: &Section<'a>, index: usize) -> Option<&'a Spanned<DeValue<'a>>> {
    let DeValue::Array(list) = section.get("targets")?.get_ref() else { return None };
    let flat = list.iter().flat_map(|entry| match entry.get_ref() {
        DeValue::Array(equals) => equals.iter().collect::<Vec<_>>(),
        _ => vec![entry],
    });
    flat.into_iter().nth(index)
}

/// A list of targets, some of them in lists of equals.
struct TargetList;

impl TargetList {
    fn target(section: &Section<'_>, key: &'static str, place: &Spanned<DeValue<'_>>) -> Option<TargetConfig> {
        match place.get_ref() {
            DeValue::String(text) => match parse_target(text) {
                Ok((upstream, model)) => {
                    Some(TargetConfig { upstream, model, weight: 1, context_tokens: None, degraded: false })
                }
                Err(message) => {
                    section.mistake_at(place, key, message);
                    None
                }
            },
            _ => {
                section.wrong(key, place, "a target such as \"openai/gpt-5\", or a table with `target`");
                None
            }
        }
    }

    fn entry<'a>(section: &Section<'a>, key: &'static str, place: &'a Spanned<DeValue<'a>>) -> Option<TargetConfig> {
        let Some(table) = section.within_list(place, key) else { return TargetList::target(section, key, place) };
        let target = table.find("target").and_then(|place| TargetList::target(&table, "target", place));
        if !table.has("target") {
            table.mistake("target", "missing; which target is this?");
        }
        let weight = table.integer("weight", 1..=WEIGHT_MAX).and_then(|weight| u32::try_from(weight).ok());
        let context_tokens = table.integer("context_tokens", 1..=CONTEXT_TOKENS_MAX);
        let degraded = table.boolean("degraded").unwrap_or(false);
        table.finish();
        target.map(|target| TargetConfig { weight: weight.unwrap_or(1), context_tokens, degraded, ..target })
    }
}

/// `upstream/model`, or an upstream alone. Models may have slashes of their own.
fn parse_target(text: &str) -> Result<(String, Option<String>), String> {
    let (upstream, model) = match text.split_once('/') {
        Some((upstream, model)) => (upstream, Some(model)),
        None => (text, None),
    };
    if upstream.is_empty() || model == Some("") {
        return Err(format!("expected upstream/model, such as \"openai/gpt-5\", found \"{text}\""));
    }
    Ok((upstream.to_owned(), model.map(str::to_owned)))
}

impl Kind<Ranks> for TargetList {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<Ranks> {
        let value = section.find(key)?;
        let DeValue::Array(list) = value.get_ref() else {
            section.wrong(key, value, "a list of targets");
            return None;
        };
        let ranks = list.iter().map(|entry| match entry.get_ref() {
            DeValue::Array(equals) => {
                equals.iter().filter_map(|equal| TargetList::entry(section, key, equal)).collect()
            }
            _ => TargetList::entry(section, key, entry).into_iter().collect::<Vec<_>>(),
        });
        let ranks = Ranks(ranks.collect());
        let empty = list.iter().find(|entry| matches!(entry.get_ref(), DeValue::Array(equals) if equals.is_empty()));
        if let Some(empty) = empty {
            section.mistake_at(empty, key, "an empty list serves nobody");
        }
        match ranks.targets().count() {
            0 if list.is_empty() => section.mistake(key, "an empty list serves nobody"),
            0..=TARGETS_MAX => {}
            many => section.mistake(key, format!("{many} targets are more than {TARGETS_MAX}")),
        }
        Some(ranks)
    }

    fn write(&self, value: &Ranks) -> Option<Value> {
        let target = |target: &TargetConfig| {
            let TargetConfig { weight, context_tokens, degraded, .. } = *target;
            if weight == 1 && context_tokens.is_none() && !degraded {
                return Value::from(target.to_string());
            }
            let mut table = toml::Table::new();
            table.insert("target".to_owned(), target.to_string().into());
            table.insert("weight".to_owned(), i64::from(weight).into());
            if let Some(tokens) = context_tokens.and_then(|tokens| i64::try_from(tokens).ok()) {
                table.insert("context_tokens".to_owned(), tokens.into());
            }
            table.insert("degraded".to_owned(), degraded.into());
            Value::Table(table)
        };
        let rank = |equals: &Vec<TargetConfig>| match &equals[..] {
            [only] => target(only),
            equals => Value::Array(equals.iter().map(target).collect()),
        };
        (!value.0.is_empty()).then(|| Value::Array(value.0.iter().map(rank).collect()))
    }

    fn words(&self) -> String {
        "list of targets, of tables, and of lists of both".to_owned()
    }

    fn schema(&self) -> serde_json::Value {
        let table = json!({
            "type": "object",
            "properties": {
                "target": {"type": "string"},
                "weight": {"type": "integer", "minimum": 1, "maximum": WEIGHT_MAX},
                "context_tokens": {"type": "integer", "minimum": 1, "maximum": CONTEXT_TOKENS_MAX},
                "degraded": {"type": "boolean"},
            },
            "required": ["target"],
            "additionalProperties": false,
        });
        let target = json!({"anyOf": [{"type": "string"}, table]});
        json!({"type": "array", "items": {"anyOf": [target, {"type": "array", "items": target}]}})
    }

    fn placed(&self, value: Ranks, _folder: &Path) -> Ranks {
        value
    }
}

#[cfg(test)]
mod tests;
