//! Checks a policy file before anything is compiled, and turns it into a component.

use super::limits::Limits;
use hex::FromHex;
use semver::Version;
use sha2::{Digest, Sha256};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use wasmparser::{Encoding, Parser, Payload, Validator};

/// The contract that this Spillway serves.
pub(crate) const CONTRACT: &str = "spillway:policy";
/// Its version. Modules for another patch version of the same minor one load as well.
pub(crate) const CONTRACT_VERSION: &str = "0.1.0";

/// Component instances in one file; the encoder makes four. Each is compiled into the whole another time, so that
/// components which instantiate components multiply: twelve levels of four each took 18 s, and each level more takes
/// four times as long. Hence none may hold another, beyond those that the encoder puts around what is exported.
const COMPONENT_INSTANCES_MAX: u32 = 32;

/// Units of [`Limits::compile_cost`] for a function of whatever length, and for what a component makes a function of.
const FUNCTION_COST: u64 = 8_000;

/// What a policy must export.
const EXPORTS: [&str; 4] = ["description", "classifier", "retrying", "tripping"];

/// SHA-256 of a policy file: which code judges is always known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sha256Sum([u8; 32]);

impl Sha256Sum {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Sha256Sum(Sha256::digest(bytes).into())
    }

    /// Its bytes.
    pub(crate) fn bytes(self) -> [u8; 32] {
        self.0
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        FromHex::from_hex(text).ok().map(Sha256Sum)
    }

    /// Its first eight hexadecimal digits, for where the whole would be too long.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It stands in the log line of every request, hence without an allocation.
        let mut digits = [0; 2 * size_of::<Sha256Sum>()];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256Sum({self})")
    }
}

/// Why a file is no policy. Written for whoever dropped it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArtifactError {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// More than [`Limits::file_bytes`].
    #[error("the file has {bytes} bytes; a policy has at most {bytes_max}")]
    TooLarge {
        /// What it has.
        bytes: u64,
        /// What it may have.
        bytes_max: u64,
    },
    /// Something else altogether.
    #[error("the file is no WebAssembly")]
    NotWasm,
    /// Broken or cut off.
    #[error("the file is no valid WebAssembly: {0}")]
    Invalid(String),
    /// Valid, but without the contract.
    #[error(
        "the file is a WebAssembly module, but no policy: it was built neither with spillway-sdk and its export! macro, nor with what wit-bindgen makes of policy.wit"
    )]
    NoContract,
    /// Needs WASI, which a policy does not get.
    #[error(
        "it needs {0}, and policies get no WASI; build it without: Rust for wasm32-unknown-unknown, C without what prints, opens files or asks for the time, JavaScript with `componentize-js --disable random stdio clocks http fetch-event`, Python with `componentize-py componentize --stub-wasi`"
    )]
    WasiImport(String),
    /// Needs something else that a policy does not get.
    #[error("it needs {0}, which policies do not get: all that they may import is {CONTRACT}/host@{CONTRACT_VERSION}")]
    ForeignImport(String),
    /// Made for another Spillway.
    #[error(
        "it was built for {found}; this Spillway serves {CONTRACT}@{CONTRACT_VERSION}: rebuild it with a matching spillway-sdk"
    )]
    OtherVersion {
        /// What it was built for.
        found: String,
    },
    /// More than [`Limits::compile_cost`] or [`Limits::functions`].
    #[error(
        "it has too much code, too many functions, or functions with too many variables or too long to be compiled in reasonable time; build it optimised, and without generated tables in code"
    )]
    TooComplex,
    /// Components within components, or too many instances of them.
    #[error(
        "it is made of components within components, or of more than {COMPONENT_INSTANCES_MAX} instances of them; a policy is one component around modules"
    )]
    Composed,
    /// A component with some of the contract.
    #[error("it does not export {0}; a policy exports all of description, classifier, retrying and tripping")]
    MissingExport(String),
}

impl ArtifactError {
    /// Whether wider limits could help.
    pub(super) fn is_about_size(&self) -> bool {
        match self {
            ArtifactError::TooLarge { .. } | ArtifactError::TooComplex => true,
            ArtifactError::Empty
            | ArtifactError::NotWasm
            | ArtifactError::Invalid(_)
            | ArtifactError::NoContract
            | ArtifactError::WasiImport(_)
            | ArtifactError::ForeignImport(_)
            | ArtifactError::OtherVersion { .. }
            | ArtifactError::Composed
            | ArtifactError::MissingExport(_) => false,
        }
    }

    fn of_import(name: &str) -> Self {
        match name.starts_with("wasi") {
            true => ArtifactError::WasiImport(name.to_owned()),
            false => ArtifactError::ForeignImport(name.to_owned()),
        }
    }
}

/// Makes a component of a policy file, or says why it is none.
///
/// # Errors
/// See [`ArtifactError`].
pub(super) fn componentize(bytes: &[u8], limits: Limits) -> Result<Vec<u8>, ArtifactError> {
    if bytes.is_empty() {
        return Err(ArtifactError::Empty);
    }
    if bytes.len() as u64 > limits.file_bytes {
        return Err(ArtifactError::TooLarge { bytes: bytes.len() as u64, bytes_max: limits.file_bytes });
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(ArtifactError::NotWasm);
    }
    Validator::new().validate_all(bytes).map_err(|error| ArtifactError::Invalid(error.message().to_owned()))?;
    let found = Outline::of(bytes)?;
    let component = match found.encoding {
        Encoding::Component => bytes.to_vec(),
        Encoding::Module if found.has_contract => {
            // The encoder would refuse it as well, but not in words that help whoever built for WASI.
            match found.imports.iter().find(|module| !module.contains(CONTRACT)) {
                Some(foreign) => return Err(ArtifactError::of_import(foreign)),
                None => encode(bytes)?,
            }
        }
        Encoding::Module => return Err(ArtifactError::NoContract),
    };
    let found = Outline::of(&component)?;
    found.check_names()?;
    // Said last: what is built for WASI is often too large as well, and smaller without.
    match found.compile_cost > limits.compile_cost || found.functions > limits.functions {
        true => Err(ArtifactError::TooComplex),
        false => Ok(component),
    }
}

/// Wraps a core module in a component. The encoder has been seen to panic on odd input, and it is fed with files.
fn encode(module: &[u8]) -> Result<Vec<u8>, ArtifactError> {
    let encoded = catch_unwind(AssertUnwindSafe(|| {
        wit_component::ComponentEncoder::default().module(module).and_then(|mut encoder| encoder.encode())
    }));
    match encoded {
        Ok(Ok(component)) => Ok(component),
        Ok(Err(error)) => Err(ArtifactError::Invalid(format!("{error:#}"))),
        Err(_) => Err(ArtifactError::Invalid("its component type section cannot be read".into())),
    }
}

/// What a module or component says of itself at its outermost level, and what compiling all of it costs.
struct Outline {
    encoding: Encoding,
    has_contract: bool,
    imports: Vec<String>,
    exports: Vec<String>,
    /// Over all functions.
    compile_cost: u64,
    functions: u64,
}

impl Outline {
    fn of(bytes: &[u8]) -> Result<Outline, ArtifactError> {
        let mut outline = Outline {
            encoding: Encoding::Module,
            has_contract: false,
            imports: Vec::new(),
            exports: Vec::new(),
            compile_cost: 0,
            functions: 0,
        };
        let (mut depth, mut instances, mut arity) = (0u32, 0u32, 0u64);
        let invalid = |error: wasmparser::BinaryReaderError| ArtifactError::Invalid(error.message().to_owned());
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(invalid)? {
                Payload::Version { encoding, .. } if depth == 0 => outline.encoding = encoding,
                Payload::ComponentSection { .. } if depth > 0 => return Err(ArtifactError::Composed),
                Payload::ComponentInstanceSection(section) => {
                    instances = instances.saturating_add(section.count());
                    if instances > COMPONENT_INSTANCES_MAX {
                        return Err(ArtifactError::Composed);
                    }
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                // Blocks have such types as well, and each of their parameters and results is a variable.
                Payload::TypeSection(types) => arity = widest(types).unwrap_or(arity),
                Payload::CodeSectionEntry(body) => {
                    let locals = body.get_locals_reader().into_iter().flatten().flatten();
                    let variables = locals.fold(arity, |sum, (count, _)| sum.saturating_add(u64::from(count)));
                    let bytes = u64::try_from(body.range().len()).unwrap_or(u64::MAX);
                    outline.compile_cost = outline.compile_cost.saturating_add(compile_cost(bytes, variables));
                    outline.functions = outline.functions.saturating_add(1);
                }
                // Each of them becomes a function.
                Payload::ComponentCanonicalSection(section) => {
                    let cost = u64::from(section.count()).saturating_mul(FUNCTION_COST);
                    outline.compile_cost = outline.compile_cost.saturating_add(cost);
                    outline.functions = outline.functions.saturating_add(u64::from(section.count()));
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::CustomSection(section) if depth == 0 && section.name().starts_with("component-type") => {
                    outline.has_contract = true;
                }
                Payload::ImportSection(section) if depth == 0 => {
                    for import in section.into_imports() {
                        outline.imports.push(import.map_err(invalid)?.module.to_owned());
                    }
                }
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        outline.imports.push(import.map_err(invalid)?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        outline.exports.push(export.map_err(invalid)?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    /// Checks imports and exports by name before the slow compilation.
    fn check_names(&self) -> Result<(), ArtifactError> {
        let names = || self.imports.iter().chain(&self.exports);
        if let Some(other) = names().find(|name| name.starts_with(CONTRACT) && !is_served(name)) {
            let version = other.split('@').nth(1).unwrap_or("no version");
            return Err(ArtifactError::OtherVersion { found: format!("{CONTRACT}@{version}") });
        }
        if let Some(foreign) = self.imports.iter().find(|name| !name.starts_with(&format!("{CONTRACT}/host@"))) {
            return Err(ArtifactError::of_import(foreign));
        }
        let exports = |wanted: &str| self.exports.iter().any(|name| name.starts_with(&format!("{CONTRACT}/{wanted}@")));
        match EXPORTS.into_iter().find(|wanted| !exports(wanted)) {
            None => Ok(()),
            Some(missing) => Err(ArtifactError::MissingExport(format!("{CONTRACT}/{missing}@{CONTRACT_VERSION}"))),
        }
    }
}

/// What compiling a function costs at worst, in units of about ten nanoseconds: the function itself, and each of its
/// bytes once for the work that there is anyway, once for each variable that may live at it, and once for each place
/// from which it may be reached. Found with functions of nothing but branches, of 5 to 5,000 variables, and with
/// functions of nothing at all; what compilers make is quicker by far.
fn compile_cost(bytes: u64, variables: u64) -> u64 {
    /// Units for a byte of the plainest code.
    const ANYWAY: u64 = 100;
    /// Bytes for each place from which a byte may be reached: a branch, and what else must stand beside it.
    const BYTES_PER_BRANCH: u64 = 64;
    bytes.saturating_mul((ANYWAY + bytes / BYTES_PER_BRANCH).saturating_add(variables)).saturating_add(FUNCTION_COST)
}

/// Parameters and results of the function type that has the most of them.
fn widest(types: wasmparser::TypeSectionReader<'_>) -> Option<u64> {
    let types = types.into_iter_err_on_gc_types().flatten();
    types
        .map(|function| function.params().len() + function.results().len())
        .max()
        .and_then(|most| u64::try_from(most).ok())
}

/// Whether a name of the contract has a version that is compatible with ours: the same major and minor.
fn is_served(name: &str) -> bool {
    let line = |version: &str| Version::parse(version).ok().map(|version| (version.major, version.minor, version.pre));
    name.split_once('@').is_some_and(|(_, version)| line(version) == line(CONTRACT_VERSION))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standard(bytes: &[u8]) -> Result<Vec<u8>, ArtifactError> {
        componentize(bytes, Limits::STANDARD)
    }

    #[test]
    fn what_is_no_policy_is_told_why() {
        assert_eq!(standard(b""), Err(ArtifactError::Empty));
        assert_eq!(standard(b"hello, this is a text"), Err(ArtifactError::NotWasm));
        assert_eq!(standard(b"\x7fELF precompiled"), Err(ArtifactError::NotWasm));
        assert!(matches!(standard(b"\0asm\x01\0\0\0\x01"), Err(ArtifactError::Invalid(_))));
        assert_eq!(standard(b"\0asm\x01\0\0\0"), Err(ArtifactError::NoContract));
    }

    #[test]
    fn an_empty_component_lacks_the_contracts_exports() {
        let empty_component = b"\0asm\x0d\0\x01\0";
        assert!(
            matches!(standard(empty_component), Err(ArtifactError::MissingExport(name)) if name.contains("description"))
        );
    }

    #[test]
    fn patch_versions_are_compatible_and_others_are_not() {
        assert!(is_served("spillway:policy/host@0.1.0"));
        assert!(is_served("spillway:policy/host@0.1.7"));
        for other in ["host@0.2.0", "host@1.1.0", "host@0.1", "host@0.1.0-rc.1", "host@0.1.x", "host@", "host"] {
            assert!(!is_served(&format!("spillway:policy/{other}")), "{other}");
        }
    }
}
