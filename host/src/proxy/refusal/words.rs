//! What a refusal says: what has happened, whose fault it is, and what to do next.

use super::advice::{Audience, advice};
use super::{Refusal, RefusalKind};
use crate::config::{Limit, amount_in_words};
use crate::ledger::{Standing, Whose};
use crate::observe::guards::found;
use crate::runtime::causes::ErrorChain;
use spillway_resilience::{Exhausted, GuardKind, Measure};
use spillway_sdk::Fault;
use std::borrow::Cow;
use std::fmt::Write;

/// Most of a text that somebody else has written, in bytes: a path, a provider's message, a policy's reason. The rest
/// is left out, and `…` says so.
const QUOTED_BYTES_MAX: usize = 400;

/// Longest message, in bytes. None comes near it, since each quotes three texts at most.
#[cfg(test)]
pub(super) const MESSAGE_BYTES_MAX: usize = 2_500;

/// Which limit, what is left of it, what was asked for, and when it is whole again.
fn exhausted(standing: &Standing) -> String {
    let Standing { whose, exhausted, .. } = standing;
    let Exhausted { allowance, spent, open, asked, is_unpriced, .. } = exhausted;
    let (limit, where_set) = (Limit::from(*allowance), section(whose));
    let words = |amount: u128| amount_in_words(allowance.measure, amount);
    if *is_unpriced {
        return format!(
            "Spillway lets no call out for {whose} whose price is not known: {limit} are allowed, set in {where_set}. \
             Give the model a price ([prices]), or set unpriced = \"allow\" in [ledger]."
        );
    }
    if allowance.measure == Measure::InFlight {
        return format!(
            "{open} calls are in flight for {whose}, as many as it may have at once ({limit}, set in {where_set})."
        );
    }
    let is_larger = if exhausted.never_fits() { ", which is more than all of it" } else { "" };
    format!(
        "The limit of {limit} for {whose}, set in {where_set}, does not allow this call: {} are left ({} spent, {} \
         reserved by calls under way), and it may take {}{is_larger}.",
        words(exhausted.left()),
        words(*spent),
        words(*open),
        words(*asked)
    )
}

/// Where a limit is set.
fn section(whose: &Whose) -> String {
    match whose {
        Whose::Everybodys => "[ledger]".to_owned(),
        Whose::Groups(name) => format!("[groups.{name}]"),
        Whose::Keys(_) => "that key (spillway key show)".to_owned(),
    }
}

impl Refusal {
    /// What has happened, for whoever looks at it later.
    pub(crate) fn reason(&self) -> String {
        let said = format!("{}{}", self.facts(), self.quote());
        match &self.tried {
            Some(tried) => format!("{said} No target of the route served it: {}.", clause(&tried.list)),
            None => said,
        }
    }

    /// The same, with when to come again and what else helps whoever hears it.
    pub(crate) fn message_to(&self, audience: Audience) -> String {
        let mut message = self.reason();
        if let Some(wait) = self.retry_after {
            // A wait that rounds to nothing is none to speak of.
            let _ = write!(message, " Try again in {:.1} s.", wait.as_secs_f64().max(0.1));
        }
        for sentence in advice(self, audience) {
            message.push(' ');
            message.push_str(&sentence);
        }
        message
    }

    fn facts(&self) -> String {
        match &self.kind {
            RefusalKind::CircuitOpen { upstream, cause, .. } => format!(
                "Spillway did not call {upstream}: its circuit is open ({}), which keeps calls from it until it is \
                 likely to serve again.",
                clause(cause)
            ),
            RefusalKind::Paced { upstream, .. } => format!(
                "Spillway did not call {upstream}: the provider has said that it gets too much, and this request's \
                 turn comes later than it may wait."
            ),
            RefusalKind::NoBudget { upstream } => format!(
                "Spillway did not call {upstream} in another target's place: such calls are bounded by its retry \
                 budget (upstreams.{upstream}.retry), which is spent."
            ),
            RefusalKind::LimitExceeded { owner, dimension, limit } => format!(
                "The limit of {limit} {} per minute for {owner} is used up. It is Spillway's own: raise {} if it is \
                 lower than what the provider allows.",
                dimension.as_str(),
                owner.section()
            ),
            RefusalKind::Exhausted { standing } => exhausted(standing),
            RefusalKind::Saturated { owner, what } => {
                format!(
                    "Spillway lets no more calls in for {owner}: {}. Raise the bounds in {} if there may be more.",
                    clause(what),
                    owner.bounds()
                )
            }
            RefusalKind::Overloaded { priority } => format!(
                "Spillway has too much in hand for requests of {} priority. Raise server.max_in_flight or \
                 server.max_held if its machine can bear more.",
                priority.as_str()
            ),
            RefusalKind::Short { shortage } => format!("The machine that Spillway runs on is short: {shortage}."),
            RefusalKind::Unreachable { upstream, fault, cause } => {
                let cause = in_words(*fault, cause.as_ref());
                let next = match fault {
                    Fault::Dns | Fault::ConnectRefused => {
                        format!(" Check the network of Spillway's machine, and upstreams.{upstream}.url.")
                    }
                    Fault::Protocol => {
                        format!(" Check that what upstreams.{upstream}.url names is an API that speaks HTTP/1.1.")
                    }
                    // Of a certificate the cause says it; a connection that was there had the right address.
                    _ => String::new(),
                };
                format!("Spillway got no answer from {upstream}: {}.{next}", clause(&cause))
            }
            RefusalKind::TimedOut { upstream, fault, cause } => {
                let cause = in_words(*fault, cause.as_ref());
                let next = match fault {
                    Fault::FirstContentTimeout => {
                        format!(" Raise upstreams.{upstream}.first_content_timeout if its answers may take longer.")
                    }
                    Fault::IdleTimeout => {
                        format!(" Raise upstreams.{upstream}.idle_timeout if its streams may be silent for longer.")
                    }
                    Fault::AttemptTimeout => " Raise server.request_timeout if answers may take longer.".to_owned(),
                    Fault::ConnectTimeout => {
                        format!(" Check the network of Spillway's machine, and upstreams.{upstream}.url.")
                    }
                    _ => String::new(),
                };
                format!("{upstream} did not answer in time: {}.{next}", clause(&cause))
            }
            RefusalKind::Impatient { upstream } => format!(
                "The time is over that your SDK said it waits for an answer (its timeout), and {upstream} has not \
                 answered. Raise that timeout if answers may take longer."
            ),
            RefusalKind::JudgedFailed { upstream, reason, .. } => {
                format!("{upstream} has answered, and its answer counts as a failure: {}.", clause(reason))
            }
            RefusalKind::StreamCut { upstream, fault } => format!(
                "The stream from {upstream} broke: {}. What was received is incomplete; send the request again for a \
                 whole answer.",
                fault.as_str()
            ),
            RefusalKind::BodyTooLarge { limit, remedy } => {
                format!("The request's body is larger than {limit} bytes. {remedy}")
            }
            RefusalKind::BodyLate { timeout } => format!(
                "The request's body did not arrive in time: its sender was silent for {:.1} s, or sent next to nothing \
                 for longer. Send it again, or raise server.body_timeout.",
                timeout.as_secs_f64()
            ),
            RefusalKind::BadRequest { reason } => {
                format!("Spillway cannot pass the request on: {}.", clause(reason))
            }
            RefusalKind::NoSuchRoute { path } => format!(
                "Spillway knows nobody to serve {}. Paths of OpenAI, Anthropic and Gemini are recognised; others begin \
                 with the name of an upstream, as in /openai/v1/models. Is the base URL right? `spillway env` prints \
                 those that are.",
                clause(path)
            ),
            RefusalKind::NoSuchJob { lost: None } => {
                "There is no such job, or no longer: finished ones are kept for as long as spool.retention says.".into()
            }
            RefusalKind::NoSuchJob { lost: Some(lost) } => {
                format!("There is no such job. It may have been lost by Spillway: {}.", clause(lost))
            }
            RefusalKind::SpoolOff => {
                "There are no jobs: this Spillway keeps no requests (spool.enabled = false).".into()
            }
            RefusalKind::WrongMethod { allowed } => format!("This path is served by other methods: {allowed}."),
            RefusalKind::AccessRequired { route } => format!(
                "Spillway did not call anybody: {route} spends keys of its own, and the request does not show that its \
                 sender may. Give the access key (server.access_key_env or server.access_key_file) to your SDK as its \
                 API key, or send it as x-spillway-access-key; or come through server.unix_socket; or let every \
                 process on this machine spend them by [routes.{route}] open_to_local = true."
            ),
            RefusalKind::Stranger => "This Spillway is reached by other machines, so whoever calls shows its access \
                                      key, and the request does not. Send it as x-spillway-access-key, beside the \
                                      provider's key; or where Spillway has that, give it to your SDK as the API key. \
                                      Whoever runs Spillway knows it (server.access_key_env or server.access_key_file)."
                .into(),
            RefusalKind::KeyRequired => {
                "Spillway did not call anybody: every caller shows a key of Spillway's, and the \
                                         request shows none. Give one to your SDK as its API key, or send it as \
                                         x-spillway-access-key. Whoever runs Spillway makes them: `spillway key new`."
                    .into()
            }
            RefusalKind::KeyRefused => "Spillway did not go on with the request: the key that it shows is none that \
                                        counts here. Is it whole, and the last one that you were given? Whoever runs \
                                        Spillway sees why in its log, and makes another with `spillway key new` or \
                                        `spillway key rotate`."
                .into(),
            RefusalKind::KeyForbids { what, allowed } => format!(
                "Spillway did not call anybody: the key that the request shows is not for {}. It is for {}. Whoever runs \
                 Spillway can make one that is for more: `spillway key new`.",
                clause(what),
                clause(allowed)
            ),
            RefusalKind::Forbidden { reason } => format!("Spillway refuses the request: {}.", clause(reason)),
            RefusalKind::Conflict { reason } => format!("{}.", clause(reason)),
            RefusalKind::SpoolFull { kept } => {
                format!("Nobody can serve the request now, and Spillway keeps no more for later: it has {kept}.")
            }
            RefusalKind::SpoolUnavailable { reason } => {
                format!(
                    "Spillway can neither keep a request nor find one that is kept: {}. Whoever runs it sees at \
                     /readyz when that is over.",
                    clause(reason)
                )
            }
            RefusalKind::Runaway { tripped } => {
                let remedy = match tripped.guard {
                    GuardKind::TokensPerRequest | GuardKind::Growth => "Send less, or ask for a shorter answer",
                    GuardKind::TurnsPerConversation | GuardKind::TokensPerConversation => {
                        "Begin another conversation (with another first message, or another name in \
                         x-spillway-conversation)"
                    }
                    GuardKind::TokensPerHour => "Look what uses that much",
                    GuardKind::Repeats => "Ask for something else, or not at all for ten minutes",
                };
                let (guard, found) = (tripped.guard, found(tripped));
                format!(
                    "Spillway has refused the request, which looks like that of an agent that has run away: {found} \
                     (guards.{guard}). {remedy}; or, if it is meant, have whoever runs Spillway raise guards.{guard}."
                )
            }
            RefusalKind::Defect => {
                "Serving the request failed inside of Spillway. This is a defect of Spillway's, not \
                                    of the request or its provider; its log says more."
                    .into()
            }
        }
    }

    /// What the provider last said, in its words.
    fn quote(&self) -> String {
        match self.said() {
            Some(said) if said.message.is_empty() => {
                format!(" The provider's last answer was a {}.", said.status.as_u16())
            }
            Some(said) => format!(" The provider last said ({}): \"{}\"", said.status.as_u16(), quoted(&said.message)),
            None => String::new(),
        }
    }
}

/// What happened: as it was told where it arose, if it was.
fn in_words(fault: Fault, cause: Option<&ErrorChain>) -> Cow<'static, str> {
    cause.map_or(Cow::Borrowed(fault.as_str()), |cause| Cow::Owned(cause.to_string()))
}

/// Somebody else's text on one line, as much of it as is quoted.
fn quoted(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|character: char| character.is_whitespace() || character.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > QUOTED_BYTES_MAX {
            line.truncate(line.floor_char_boundary(QUOTED_BYTES_MAX));
            line.push('…');
            break;
        }
    }
    line
}

/// The same as a part of a sentence, which ends with a full stop of its own.
fn clause(text: &str) -> String {
    let mut line = quoted(text);
    line.truncate(line.trim_end_matches(['.', ',', ';', ':', ' ']).len());
    line
}
