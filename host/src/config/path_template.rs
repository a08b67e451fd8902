//! The paths of an upstream that has others than the API it speaks: Azure's deployments, Vertex's models.

use super::kind::Kind;
use super::reader::Section;
use crate::dialect::{Dialect, query};
use http::uri::PathAndQuery;
use serde_json::json;
use std::fmt;
use toml::Value;

/// What Azure's resources are asked by, where the configuration says nothing else. The version is the last that was
/// declared stable; what came after it is asked without one.
pub(super) const AZURE: &str = "/openai/deployments/{model}/{operation}?api-version=2024-10-21";

/// How Azure's paths of deployments begin.
const AZURE_DEPLOYMENTS: &str = "/openai/deployments/";
/// What Azure serves along these. All else has no path but the one without a deployment, which finds it by the body's
/// `model`.
const AZURE_DEPLOYED: [&str; 3] = ["chat/completions", "completions", "embeddings"];
/// What stands before that one, which is OpenAI's own otherwise.
const AZURE_UNDEPLOYED: &str = "/openai";

/// A path, and perhaps a query, with places for a model and an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Model,
    Operation,
}

impl PathTemplate {
    /// Parses a template such as [`AZURE`]'s. `{model}` stands for the target's model, and `{operation}` for what
    /// follows the version in the API's own path, such as `chat/completions`, or for Google's method.
    ///
    /// # Errors
    /// What is wrong with it, in words for the operator.
    pub fn parse(text: &str) -> Result<PathTemplate, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let Some((name, behind)) = behind.split_once('}') else {
                return Err(format!("\"{text}\" opens a brace and does not close it"));
            };
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(match name {
                "model" => Piece::Model,
                "operation" => Piece::Operation,
                other => return Err(format!("{{{other}}} stands for nothing: there are {{model}} and {{operation}}")),
            });
            rest = behind;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        let template = PathTemplate { text: text.to_owned(), pieces };
        let example = template.render("chat/completions", "model");
        if !text.starts_with('/') {
            return Err(format!("\"{text}\" must begin with a slash"));
        }
        let is_written = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !is_written || example.contains(['{', '}']) || example.parse::<PathAndQuery>().is_err() {
            return Err(format!("\"{text}\" is no path of a URL"));
        }
        Ok(template)
    }

    /// Path and query of a request along `path`, the API's own, with the caller's `query`. Parameters of the caller's
    /// are kept, but for those that the template has.
    ///
    /// `None` where the path is to be sent as it came: it does not generate, it has this form already, or the template
    /// needs a model and there is none.
    pub fn path(&self, path: &str, query: Option<&str>, model: Option<&str>) -> Option<String> {
        let operation = Dialect::operation(path)?;
        if self.is_form_of(path) {
            return None;
        }
        let mut rendered = if self.is_azures() && !AZURE_DEPLOYED.contains(&operation) {
            format!("{AZURE_UNDEPLOYED}/v1/{operation}")
        } else if self.pieces.contains(&Piece::Model) {
            self.render(operation, &query::encoded(model?))
        } else {
            self.render(operation, "")
        };
        let ours: Vec<String> = rendered
            .split_once('?')
            .map_or(Vec::new(), |(_, ours)| ours.split('&').map(|pair| query::name(pair).into_owned()).collect());
        let theirs = query.unwrap_or_default().split('&');
        for pair in theirs.filter(|pair| !pair.is_empty() && !ours.iter().any(|name| *name == query::name(pair))) {
            rendered.push(if rendered.contains('?') { '&' } else { '?' });
            rendered.push_str(pair);
        }
        Some(rendered)
    }

    /// The path of a request that does not generate, such as that for an answer which is kept there. Azure has OpenAI's
    /// own paths, behind its own beginning; others have what the caller wrote, which is `None`.
    pub fn kept_path(&self, path: &str) -> Option<String> {
        (self.is_azures() && path.starts_with("/v1/")).then(|| format!("{AZURE_UNDEPLOYED}{path}"))
    }

    fn is_azures(&self) -> bool {
        self.text.starts_with(AZURE_DEPLOYMENTS)
    }

    fn render(&self, operation: &str, model: &str) -> String {
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Model => model,
            Piece::Operation => operation,
        });
        pieces.collect()
    }

    /// Whether a path begins as the template does, in front of its first place. A version alone says nothing, since the
    /// APIs' own paths begin with one.
    fn is_form_of(&self, path: &str) -> bool {
        let Some(Piece::Text(beginning)) = self.pieces.first() else { return false };
        let beginning = beginning.split('?').next().unwrap_or_default();
        let is_version =
            |segment: &str| segment.starts_with('v') && segment[1..].starts_with(|c: char| c.is_ascii_digit());
        let tells = beginning.split('/').any(|segment| !segment.is_empty() && !is_version(segment));
        tells && path.starts_with(beginning)
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A template of paths; an empty one is none.
pub(super) struct Template;

impl Kind<Option<PathTemplate>> for Template {
    fn read(&self, section: &Section<'_>, key: &'static str) -> Option<Option<PathTemplate>> {
        let text = section.string(key)?;
        if text.is_empty() {
            return Some(None);
        }
        PathTemplate::parse(&text).map(Some).map_err(|message| section.mistake(key, message)).ok()
    }

    fn write(&self, value: &Option<PathTemplate>) -> Option<Value> {
        Some(value.as_ref().map(ToString::to_string).unwrap_or_default().into())
    }

    fn words(&self) -> String {
        "path with `{model}` and `{operation}`; `\"\"`: none".to_owned()
    }

    fn schema(&self) -> serde_json::Value {
        json!({"type": "string"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> PathTemplate {
        PathTemplate::parse(text).expect("a template")
    }

    #[test]
    fn a_path_that_generates_takes_the_templates_form() {
        const VERTEX: &str = "/v1/projects/p/locations/eu/publishers/google/models/{model}:{operation}";
        let chat = "/v1/chat/completions";
        let cases = [
            (AZURE, chat, None, "gpt-5", "/openai/deployments/gpt-5/chat/completions?api-version=2024-10-21"),
            (AZURE, "/v1/embeddings", None, "e/1", "/openai/deployments/e%2F1/embeddings?api-version=2024-10-21"),
            (AZURE, "/v1/responses", Some("a=1"), "gpt-5", "/openai/v1/responses?a=1"),
            (
                VERTEX,
                "/v1beta/models/x:streamGenerateContent",
                Some("alt=sse"),
                "gemini-3-pro",
                "/v1/projects/p/locations/eu/publishers/google/models/gemini-3-pro:streamGenerateContent?alt=sse",
            ),
            ("/v2/{operation}?tier=a", chat, Some("x=1&t%69er=b&&y"), "m", "/v2/chat/completions?tier=a&x=1&y"),
            ("/{operation}", chat, None, "m", "/chat/completions"),
            ("/serve?m={model}&o={operation}", chat, Some("m=theirs"), "m&m", "/serve?m=m%26m&o=chat/completions"),
        ];
        for (text, path, query, model, expected) in cases {
            assert_eq!(template(text).path(path, query, Some(model)).as_deref(), Some(expected), "{text} {path}");
            assert_eq!(template(text).to_string(), text);
        }
    }

    #[test]
    fn what_does_not_generate_or_has_the_form_already_or_lacks_a_model_is_sent_as_it_came() {
        let azure = template(AZURE);
        for path in ["/v1/files", "/v1/models", "/openai/deployments/mine/chat/completions", "/v1/responses/r1/cancel"]
        {
            assert_eq!(azure.path(path, Some("api-version=preview"), Some("gpt-5")), None, "{path}");
        }
        assert_eq!(azure.path("/v1/chat/completions", None, None), None);
        let without = template("/v2/{operation}").path("/v1/chat/completions", None, None);
        assert_eq!(without.as_deref(), Some("/v2/chat/completions"));
    }

    #[test]
    fn what_is_kept_at_azure_has_openais_path_behind_azures_beginning() {
        let azure = template(AZURE);
        assert_eq!(azure.kept_path("/v1/responses/resp_1").as_deref(), Some("/openai/v1/responses/resp_1"));
        assert_eq!(azure.kept_path("/openai/files"), None);
        assert_eq!(template("/v2/{operation}").kept_path("/v1/files"), None);
    }

    #[test]
    fn what_is_no_template_is_told() {
        let cases = [
            ("openai/{model}", "begin with a slash"),
            ("", "begin with a slash"),
            ("/{deployment}/{operation}", "{deployment} stands for nothing"),
            ("/{model", "does not close"),
            ("/model}", "no path"),
            ("/a b", "no path"),
            ("/a#b", "no path"),
            ("/\u{e4}{model}", "no path"),
        ];
        for (text, why) in cases {
            let message = PathTemplate::parse(text).expect_err("a mistake");
            assert!(message.contains(why), "{text}: {message}");
        }
    }
}
