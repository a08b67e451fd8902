//! Keys of LiteLLM's, as its `/key/list` and `/key/info` tell of them: hashed, with what each may use.

use crate::keys::digest::{KeyDigest, ends_of};
use crate::keys::file::check_secret;
use crate::keys::record::KeyLimit;
use serde::Deserialize;
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// Models' names that mean something else: all, or those of somebody else.
const ALL_MODELS: [&str; 2] = ["all-proxy-models", "*"];
const MODELS_OF_OTHERS: [&str; 2] = ["all-team-models", "no-default-models"];

/// Micro-dollars of a dollar.
const MICRO: f64 = 1e6;

/// A key that was made elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignKey {
    /// What people call it.
    pub(crate) name: Option<String>,
    /// What is kept of its secret.
    pub(crate) sha256: KeyDigest,
    /// Its last characters, as far as they are known.
    pub(crate) ends: String,
    /// From when on it counts for nothing, in milliseconds since 1970.
    pub(crate) expires_unix_ms: Option<u64>,
    /// Whether it is blocked there, and counts for nothing.
    pub(crate) is_blocked: bool,
    /// Patterns of the models that it may ask for; all if there is none.
    pub(crate) models: Vec<String>,
    /// What it may use.
    pub(crate) limits: Vec<KeyLimit>,
    /// What of it means something else here, or nothing: a sentence each.
    pub(crate) notes: Vec<String>,
}

/// One that cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// By which its owner knows it, if anything does.
    pub(crate) label: String,
    /// Why.
    pub(crate) why: String,
}

/// What is read of a key. Whatever is not named here is not looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    token: Option<String>,
    key: Option<String>,
    key_name: Option<String>,
    key_alias: Option<String>,
    expires: Option<String>,
    models: Option<Vec<String>>,
    max_budget: Option<f64>,
    budget_duration: Option<String>,
    spend: Option<f64>,
    tpm_limit: Option<u64>,
    rpm_limit: Option<u64>,
    max_parallel_requests: Option<u64>,
    blocked: Option<bool>,
    team_id: Option<String>,
    model_max_budget: Value,
    model_rpm_limit: Value,
    model_tpm_limit: Value,
    allowed_routes: Value,
    aliases: Value,
}

/// Reads what LiteLLM has answered. `models` are those of keys whose models it leaves to somebody else.
///
/// # Errors
/// When it is no such answer.
pub(crate) fn read(text: &str, models: &[String]) -> Result<Vec<Result<ForeignKey, LeftOut>>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
    Ok(entries(value)?.into_iter().map(|entry| foreign(entry, models)).collect())
}

/// The keys in `{"keys": [...]}`, in `{"key": ..., "info": {...}}`, or in a list of either.
fn entries(value: Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(list) => Ok(list.into_iter().map(entries).collect::<Result<Vec<_>, _>>()?.concat()),
        Value::Object(mut all) => match (all.remove("keys"), all.remove("info")) {
            (Some(Value::Array(keys)), _) => Ok(keys),
            (None, Some(Value::Object(mut info))) => {
                info.extend(all);
                Ok(vec![Value::Object(info)])
            }
            (None, None) if all.contains_key("token") || all.contains_key("key") => Ok(vec![Value::Object(all)]),
            _ => Err("it has neither `keys` nor `info`, as LiteLLM's /key/list and /key/info have".to_owned()),
        },
        hash @ Value::String(_) => Ok(vec![hash]),
        _ => Err("it is no list of keys".to_owned()),
    }
}

fn foreign(entry: Value, models: &[String]) -> Result<ForeignKey, LeftOut> {
    let is_bare = entry.is_string();
    if is_bare {
        let why = "nothing is told of it but its hash; ask /key/list with return_full_object=true".to_owned();
        return Err(LeftOut { label: "a key".to_owned(), why });
    }
    let told: Told = serde_json::from_value(entry).map_err(|error| LeftOut {
        label: "a key".to_owned(),
        why: format!("it is told otherwise than LiteLLM does: {error}"),
    })?;
    let label =
        told.key_alias.clone().or_else(|| told.key_name.clone()).unwrap_or_else(|| "a key without a name".into());
    told.taken_over(models).map_err(|why| LeftOut { label, why })
}

impl Told {
    fn taken_over(&self, models: &[String]) -> Result<ForeignKey, String> {
        let shown = self.token.as_ref().or(self.key.as_ref()).ok_or("it has neither `token` nor `key`")?;
        let (sha256, ends) = match KeyDigest::try_from(shown.clone()) {
            Ok(digest) => (digest, self.key_name.as_deref().map(ends_of).unwrap_or_default()),
            Err(_) => {
                check_secret(shown)?;
                (KeyDigest::of(shown.as_bytes()), ends_of(shown))
            }
        };
        let mut notes = Vec::new();
        if let Some(team) = &self.team_id {
            notes.push(format!("it was of the team {team}; --group puts it into a group"));
        }
        for (what, value) in [
            ("limits per model", &self.model_max_budget),
            ("limits per model", &self.model_rpm_limit),
            ("limits per model", &self.model_tpm_limit),
            ("allowed_routes", &self.allowed_routes),
            ("aliases of models", &self.aliases),
        ] {
            let is_said = match value {
                Value::Null => false,
                Value::Object(said) => !said.is_empty(),
                Value::Array(said) => !said.is_empty(),
                _ => true,
            };
            let note = format!("its {what} are not taken over");
            if is_said && !notes.contains(&note) {
                notes.push(note);
            }
        }
        Ok(ForeignKey {
            name: self.key_alias.clone().filter(|name| !name.is_empty()),
            sha256,
            ends,
            expires_unix_ms: self.expires.as_deref().map(moment).transpose()?,
            is_blocked: self.blocked == Some(true),
            models: self.models(models)?,
            limits: self.limits(&mut notes)?,
            notes,
        })
    }

    fn models(&self, models: &[String]) -> Result<Vec<String>, String> {
        let told = self.models.clone().unwrap_or_default();
        if told.iter().any(|model| MODELS_OF_OTHERS.contains(&&**model)) {
            return match models {
                [] => Err("its models are those of its team, which are not told; --models names them".to_owned()),
                models => Ok(models.to_vec()),
            };
        }
        // All that there are is what is said by saying nothing.
        Ok(if told.iter().any(|model| ALL_MODELS.contains(&&**model)) { Vec::new() } else { told })
    }

    fn limits(&self, notes: &mut Vec<String>) -> Result<Vec<KeyLimit>, String> {
        let rates = [
            (self.rpm_limit, "requests per minute"),
            (self.tpm_limit, "tokens per minute"),
            (self.max_parallel_requests, "calls in flight"),
        ];
        let mut limits: Vec<String> =
            rates.into_iter().filter_map(|(count, of)| Some(format!("{} {of}", count?))).collect();
        if let Some(budget) = self.max_budget {
            limits.push(self.budget(budget, notes)?);
        }
        Ok(limits.into_iter().map(|limit| KeyLimit { limit, soft: false }).collect())
    }

    fn budget(&self, dollars: f64, notes: &mut Vec<String>) -> Result<String, String> {
        if !dollars.is_finite() || dollars < 1.0 / MICRO {
            return Err(format!("its max_budget is ${dollars}, with which it may spend nothing"));
        }
        let Some(duration) = &self.budget_duration else {
            let left = dollars - self.spend.unwrap_or(0.0);
            if left < 1.0 / MICRO {
                return Err("its budget is spent".to_owned());
            }
            if left < dollars {
                notes.push(format!("of its budget of ${dollars} it may spend what is left of it"));
            }
            return Ok(format!("{} in total", money(left)));
        };
        let (times, per) = period(duration)
            .ok_or_else(|| format!("its budget_duration {duration} is not understood; make it anew with a limit"))?;
        if times > 1 {
            notes.push(format!("its budget of ${dollars} per {duration} becomes its share of each {per}"));
        }
        Ok(format!("{} per {per}", money(dollars / f64::from(times))))
    }
}

/// How many of which of our periods one of LiteLLM's is: `30d` and `1mo` are a month, `7d` is seven days.
fn period(duration: &str) -> Option<(u32, &'static str)> {
    let digits = duration.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = duration.split_at(digits);
    let count: u32 = if digits == 0 { 1 } else { count.parse().ok().filter(|count| *count > 0)? };
    Some(match (count, unit) {
        (30 | 31, "d") => (1, "month"),
        (60, "s") => (1, "minute"),
        (60, "m") => (1, "hour"),
        (24, "h") => (1, "day"),
        (count, "m") => (count, "minute"),
        (count, "h") => (count, "hour"),
        (count, "d") => (count, "day"),
        (count, "w") => (count.checked_mul(7)?, "day"),
        (count, "mo") => (count, "month"),
        _ => return None,
    })
}

/// A sum as limits have it, rounded down to a millionth of a dollar.
fn money(dollars: f64) -> String {
    // Sums of budgets are far below what this could not hold; a larger one becomes the largest.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is no less than nothing, and saturates"
    )]
    let micro = (dollars * MICRO) as u64;
    let (whole, rest) = (micro / 1_000_000, micro % 1_000_000);
    let text = format!("${whole}.{rest:06}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A moment as LiteLLM writes it, in milliseconds since 1970.
fn moment(text: &str) -> Result<u64, String> {
    let plain = text.trim().trim_end_matches("+00:00").trim_end_matches('Z');
    let parsed = humantime::parse_rfc3339_weak(&format!("{plain}Z")).or_else(|_| humantime::parse_rfc3339_weak(plain));
    let moment = parsed.map_err(|_| format!("when it expires ({text}) is not understood"))?;
    let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Ok(crate::runtime::clock::milliseconds(since))
}

#[cfg(test)]
mod tests;
