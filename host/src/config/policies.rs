//! `[policies]`: where policies come from, which may serve, and what they are told.

use super::UpstreamConfig;
use super::kind::{File, FileOrNone, List};
use super::reader::{Section, nearest};
use super::section::{Description, Table, Tables, section};
use crate::policy::{self, PREVIOUS_SUFFIX, PublicKey, SHADOW_SUFFIX, Sha256Sum, Trust};
use serde_json::Value as Json;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::Value;

/// The settings of a policy of which the configuration has none.
const NO_SETTINGS: &str = "{}";

section! {
    /// Where policies come from, which may serve, and what they are told. `interpreted` and the policies' own tables
    /// are followed while serving; everything else needs a restart.
    pub struct Policies {
        /// The folder that is watched for policies.
        dir: PathBuf = PathBuf::from("policies"), File;
        /// Where compiled policies are kept; with none they are compiled at every start.
        cache_dir: Option<PathBuf> = Some(PathBuf::from("spillway-data/policy-cache")), FileOrNone;
        /// SHA-256 of the files that may serve; empty: any.
        allow: Vec<Sha256Sum> = Vec::new(), List("SHA-256 sums in hexadecimal", sha256);
        /// Keys of which one must have signed a file, as `NAME.wasm.sig` beside it; empty: none needs to.
        signers: Vec<PublicKey> = Vec::new(), List("ed25519 public keys in hexadecimal", public_key);
        /// The policies that carry an interpreter, and may be as large as that takes.
        interpreted: Vec<String> = Vec::new(), List("names of policies", policy_name);
    }
    tables {
        /// Each policy's own table, by the policy's name.
        settings: PolicyTables;
    }
}

impl Policies {
    pub(super) fn read(section: Section<'_>, upstreams: &BTreeMap<String, UpstreamConfig>) -> Policies {
        let mut policies = Policies::fresh(section.folder());
        policies.take(&section);
        for name in &policies.interpreted {
            if let Err(message) = known_policy(name, upstreams, &policies.dir) {
                section.mistake_about("interpreted", name, message);
            }
        }
        for (name, table) in section.section("settings").named_sections() {
            if let Err(message) = known_policy(&name, upstreams, &policies.dir) {
                table.mistake("", message);
            }
            policies.settings.0.insert(name, PolicyTable::new(table.to_json()));
        }
        section.finish();
        policies
    }

    /// A policy's own table, as JSON.
    pub fn settings_of(&self, policy: &str) -> &str {
        self.settings.0.get(policy).map_or(NO_SETTINGS, |table| &table.text)
    }

    /// How large the policy of this name may be.
    pub fn limits_of(&self, policy: &str) -> policy::Limits {
        let is_interpreted = self.interpreted.iter().any(|interpreted| interpreted == policy);
        if is_interpreted { policy::Limits::INTERPRETED } else { policy::Limits::STANDARD }
    }

    /// Which files may serve.
    pub fn trust(&self) -> Trust {
        Trust { allowed: self.allow.iter().copied().collect(), signers: self.signers.clone() }
    }

    /// The policies about which something is said.
    pub(super) fn named(&self) -> impl Iterator<Item = &String> {
        self.interpreted.iter().chain(self.settings.0.keys())
    }
}

pub(super) fn sha256(text: &str) -> Result<Sha256Sum, String> {
    Sha256Sum::from_hex(text).ok_or_else(|| format!("\"{text}\" is no SHA-256: 64 hexadecimal digits"))
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    PublicKey::from_hex(text).ok_or_else(|| format!("\"{text}\" is no ed25519 public key: 64 hexadecimal digits"))
}

/// The name of a policy, which is its file's without what tells its role.
fn policy_name(name: &str) -> Result<String, String> {
    let endings = [".wasm", SHADOW_SUFFIX, PREVIOUS_SUFFIX];
    if name.contains('/') || endings.iter().any(|ending| name.ends_with(ending)) {
        return Err(format!("\"{name}\" is no policy's name: a file's without its folder, {SHADOW_SUFFIX} and .wasm"));
    }
    Ok(name.to_owned())
}

/// Whether what is said about the policy of this name can be of use: an upstream names it, so that it is asked as soon
/// as its file is there, or one of its files lies in the folder, and may be checked, compared or brought back.
fn known_policy(name: &str, upstreams: &BTreeMap<String, UpstreamConfig>, dir: &Path) -> Result<(), String> {
    let named: BTreeSet<&str> = upstreams.values().map(|upstream| upstream.policy.as_str()).collect();
    let has_file =
        || ["", SHADOW_SUFFIX, PREVIOUS_SUFFIX].iter().any(|role| dir.join(format!("{name}{role}.wasm")).exists());
    if named.contains(name) || has_file() {
        return Ok(());
    }
    let named: Vec<&str> = named.into_iter().collect();
    Err(match nearest(name, &named) {
        Some(meant) => format!("no upstream has the policy \"{name}\"; did you mean \"{meant}\"?"),
        None => format!("no upstream has the policy \"{name}\", and {} holds no file of it", dir.display()),
    })
}

/// Each policy's own table, by the policy's name.
#[derive(Clone, Debug)]
pub struct PolicyTables(BTreeMap<String, PolicyTable>);

impl PolicyTables {
    fn fresh(_folder: &Path) -> PolicyTables {
        PolicyTables(BTreeMap::new())
    }
}

impl Table for PolicyTables {
    fn describe() -> Description {
        BTreeMap::<String, PolicyTable>::describe()
    }

    fn entries(&self) -> Vec<(Cow<'_, str>, Option<Value>)> {
        self.0.entries()
    }

    fn tables(&self) -> Vec<(Cow<'_, str>, &dyn Table)> {
        self.0.tables()
    }
}

/// What a policy is told, which only it understands.
#[derive(Clone, Debug)]
struct PolicyTable {
    json: Json,
    /// The same as it is handed over.
    text: String,
}

impl PolicyTable {
    fn new(json: Json) -> PolicyTable {
        PolicyTable { text: json.to_string(), json }
    }
}

impl Table for PolicyTable {
    fn describe() -> Description {
        let doc = "Handed to the policy of that name, which some upstream asks, as JSON.".to_owned();
        Description { doc, keys: Vec::new(), tables: Tables::Anything }
    }

    fn entries(&self) -> Vec<(Cow<'_, str>, Option<Value>)> {
        let entries = self.json.as_object().into_iter().flatten();
        entries.map(|(key, value)| (key.into(), Some(to_toml(value)))).collect()
    }

    fn tables(&self) -> Vec<(Cow<'_, str>, &dyn Table)> {
        Vec::new()
    }
}

/// What becomes this JSON again when it is read.
fn to_toml(json: &Json) -> Value {
    match json {
        // Only what is no number becomes this.
        Json::Null => Value::Float(f64::NAN),
        Json::Bool(value) => Value::Boolean(*value),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Integer(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(text.clone()),
        Json::Array(list) => Value::Array(list.iter().map(to_toml).collect()),
        Json::Object(object) => Value::Table(object.iter().map(|(key, value)| (key.clone(), to_toml(value))).collect()),
    }
}
