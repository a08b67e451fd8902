//! Lines of the log as people read them in a terminal: what happened in a sentence, the time without its date, and
//! names before their values. What programs read has all of it in its own form.

use crate::runtime::screen::{ASIDE, BAD, DOUBTFUL, span, styled};
use std::fmt::{self, Debug, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// What is told of a request that has ended.
const REQUEST: &str = "request";
/// What is told of one that was refused before anybody was asked.
const REFUSED: &str = "refused";
/// What is told of a circuit that opens or closes.
const CIRCUIT: &str = "circuit changed";
/// A circuit that is opened again for less than this is told of no further: where nobody is served, a call goes out each
/// second to see.
const AGAIN_TOLD_MIN: Duration = Duration::from_secs(10);
/// Digits of a hash that are shown, as in explanations.
const SHORT_HASH: usize = 8;

/// Writes lines for people.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForTerminal;

impl<S, N> FormatEvent<S, N> for ForTerminal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Some(said) = in_words(&fields) else { return Ok(()) };
        let level = if is_good_news(&fields) { String::new() } else { level(*event.metadata().level()) };
        let line = format!("{} {level}{said}", styled(ASIDE, time(SystemTime::now())));
        if writer.has_ansi_escapes() {
            writeln!(writer, "{line}")
        } else {
            writeln!(writer, "{}", anstream::adapter::strip_str(&line))
        }
    }
}

/// The time of the day, as UTC has it.
fn time(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{:02}:{:02}:{:02}Z", seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
}

/// The level, where it is not everyday.
fn level(level: Level) -> String {
    match level {
        Level::ERROR => styled(BAD, "error: "),
        Level::WARN => styled(DOUBTFUL, "warning: "),
        Level::INFO => String::new(),
        level => styled(ASIDE, format!("{}: ", level.as_str().to_ascii_lowercase())),
    }
}

/// What an event says, in the order in which it says it.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| &**value).filter(|value| !value.is_empty())
    }

    /// Milliseconds, as a span of time.
    fn span(&self, name: &str) -> Option<Duration> {
        self.get(name)?.parse().ok().map(Duration::from_millis)
    }

    fn keep(&mut self, field: &Field, value: String) {
        // What others have said may have lines, and more than that, which a terminal would obey.
        let value = value.replace(|character: char| character.is_control(), " ");
        self.0.push((field.name(), value));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.keep(field, format!("{value:?}"));
    }
}

/// Whether it is told as loud as a trouble, and is the end of one.
fn is_good_news(fields: &Fields) -> bool {
    fields.get("message") == Some(CIRCUIT) && fields.get("to") == Some("closed")
}

/// What happened; `None` for what would be told too often.
fn in_words(fields: &Fields) -> Option<String> {
    let message = fields.get("message").unwrap_or_default();
    match message {
        REQUEST => Some(request(fields)),
        REFUSED => Some(refused(fields)),
        CIRCUIT => circuit(fields),
        _ => Some(anything(message, fields)),
    }
}

/// A request that has ended.
fn request(fields: &Fields) -> String {
    let get = |name| fields.get(name);
    let mut said = get("target").or(get("upstream")).unwrap_or("nowhere").to_owned();
    // Writing into a string cannot fail.
    let mut add = |args: fmt::Arguments<'_>| {
        let _ = said.write_fmt(args);
    };
    if let Some(model) = get("model") {
        add(format_args!(", model {model}"));
    }
    if let Some(from) = get("fallback_from") {
        add(format_args!(", in place of {from}"));
    }
    let outcome = get("outcome").unwrap_or_default();
    let status = get("status").filter(|status| *status != "0");
    add(format_args!(
        ": {}{}",
        status.map(|status| format!("{status} ")).unwrap_or_default(),
        outcome.replace('_', " ")
    ));
    if let Some(duration) = fields.span("duration_ms") {
        add(format_args!(" after {}", duration_in_words(duration)));
    }
    let attempts = get("attempts").unwrap_or("0");
    if let Some(why) = get("why").filter(|_| outcome != "answered" || attempts != "1") {
        add(format_args!(" ({why})"));
    }
    let id = get("request_id").unwrap_or_default();
    format!("{said}  {}", styled(ASIDE, id))
}

/// A request that was refused before anybody was asked.
fn refused(fields: &Fields) -> String {
    let get = |name| fields.get(name).unwrap_or_default();
    format!("refused: {} ({})  {}", get("why"), get("code"), styled(ASIDE, get("request_id")))
}

fn duration_in_words(duration: Duration) -> String {
    if duration < Duration::from_secs(1) { format!("{} ms", duration.as_millis()) } else { span(duration) }
}

/// A circuit that opens, closes, or opens again for long.
fn circuit(fields: &Fields) -> Option<String> {
    let get = |name| fields.get(name).unwrap_or_default();
    let (from, to, upstream) = (get("from"), get("to"), get("upstream"));
    let cooldown = fields.span("cooldown_ms");
    let is_again = from == "half-open" && to == "open" && cooldown.is_some_and(|cooldown| cooldown < AGAIN_TOLD_MIN);
    if to == "half-open" || is_again {
        return None;
    }
    let scope = match get("scope") {
        "upstream" => String::new(),
        part => format!(", {part}"),
    };
    let what = match to {
        "open" => "no calls go out",
        _ => "calls go out again",
    };
    let next = cooldown.filter(|_| to == "open").map(|cooldown| format!("; the next call in {}", span(cooldown)));
    Some(format!("{upstream}{scope}: {what}, its circuit is {to}: {}{}", get("cause"), next.unwrap_or_default()))
}

/// Whatever else is told: its message, and what it says more, by name. Of a hash its beginning says enough.
fn anything(message: &str, fields: &Fields) -> String {
    let told = |name: &str, value: &str| name != "message" && !name.starts_with("log.") && !value.is_empty();
    let mut said = message.to_owned();
    for (name, value) in fields.0.iter().filter(|(name, value)| told(name, value)) {
        let shown = if name.ends_with("sha256") { value.get(..SHORT_HASH).unwrap_or(value) } else { value };
        said.push_str(&format!("  {}{shown}", styled(ASIDE, format!("{name}="))));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(fields: &[(&'static str, &str)]) -> Option<String> {
        let fields = Fields(fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect());
        in_words(&fields).map(|said| anstream::adapter::strip_str(&said).to_string())
    }

    #[test]
    fn requests_and_circuits_are_told_in_sentences_and_probes_not_each_time() {
        let request = [
            ("message", "request"),
            ("request_id", "req_1"),
            ("upstream", "openai"),
            ("model", "gpt-5"),
            ("outcome", "answered"),
            ("status", "200"),
            ("attempts", "1"),
            ("duration_ms", "812"),
            ("why", "attempt 1 success in 811 ms"),
        ];
        assert_eq!(told(&request).as_deref(), Some("openai, model gpt-5: 200 answered after 812 ms  req_1"));
        let mut failed = request;
        (failed[4].1, failed[5].1, failed[8].1) = ("circuit_open", "503", "refused");
        let said = "openai, model gpt-5: 503 circuit open after 812 ms (refused)  req_1";
        assert_eq!(told(&failed).as_deref(), Some(said));

        let circuit = |from, to, cooldown| {
            told(&[
                ("message", "circuit changed"),
                ("upstream", "openai"),
                ("scope", "model gpt-5"),
                ("from", from),
                ("to", to),
                ("cause", "a call failed"),
                ("cooldown_ms", cooldown),
            ])
        };
        let opened = "openai, model gpt-5: no calls go out, its circuit is open: a call failed; the next call in 1.0 s";
        assert_eq!(circuit("closed", "open", "1000").as_deref(), Some(opened));
        assert_eq!(circuit("open", "half-open", ""), None);
        assert_eq!(circuit("half-open", "open", "2000"), None);
        assert!(circuit("half-open", "open", "30000").is_some());
        assert!(circuit("half-open", "closed", "").is_some_and(|said| said.contains("calls go out again")));
        let refused = [("message", "refused"), ("request_id", "req_1"), ("code", "spillway_forbidden"), ("why", "No.")];
        assert_eq!(told(&refused).as_deref(), Some("refused: No. (spillway_forbidden)  req_1"));
        let hash = "32dc7967e9676e636d56b3ab024581c0";
        let other = told(&[("message", "policy takes over"), ("policy", "mine"), ("sha256", hash), ("nothing", "")]);
        assert_eq!(other.as_deref(), Some("policy takes over  policy=mine  sha256=32dc7967"));
    }

    #[test]
    fn the_time_is_of_the_day() {
        assert_eq!(time(UNIX_EPOCH + Duration::from_secs(86_400 + 3_723)), "01:02:03Z");
    }
}
