//! Generates files for the policy loader to be fed with: valid modules and components of random content, modules that
//! have a policy's imports and exports and random code between them, and mutants of real policies.
//!
//! `spillway-smith SEED COUNT POLICY...` writes COUNT files to standard output, one after another, each preceded by its
//! length as four bytes, the least significant first. The same arguments give the same files.

use arbitrary::{Arbitrary, Unstructured};
use std::io::{self, Write};
use std::process::ExitCode;
use wasm_mutate::WasmMutate;
use wasm_smith::{Component, Config, Module};

/// Random bytes that one module is made of. More makes larger modules, and few of them tell anything new.
const ENTROPY_BYTES: usize = 8_192;
/// Mutations of one mutant. A single one mostly hits what is never called.
const MUTATIONS_MAX: u32 = 6;
/// Largest mutant. Some mutations add megabytes, which only take long to compile.
const MUTANT_BYTES_MAX: usize = 256 << 10;
/// How hard a mutation is tried before another is.
const MUTATION_FUEL: u64 = 100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("spillway-smith: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let [seed, count, policies @ ..] = arguments else {
        return Err("usage: spillway-smith SEED COUNT POLICY...".into());
    };
    let number = |text: &String| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
    let (seed, count) = (number(seed)?, number(count)?);
    let policies: Vec<Vec<u8>> = policies
        .iter()
        .map(|file| std::fs::read(file).map_err(|error| format!("{file}: {error}")))
        .collect::<Result<_, _>>()?;
    if policies.is_empty() {
        return Err("no policy to begin with".into());
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let mut out = io::stdout().lock();
    for index in 0..count {
        let policy = &policies[random.usize(..policies.len())];
        let bytes = match index % 4 {
            0 => any_module(&mut random),
            1 => any_component(&mut random),
            2 => in_the_shape_of(policy, &mut random),
            _ => mutant(policy, &mut random),
        };
        let length = u32::try_from(bytes.len()).map_err(|error| error.to_string())?;
        match out.write_all(&length.to_le_bytes()).and_then(|()| out.write_all(&bytes)) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(|error| error.to_string())?,
        }
    }
    Ok(())
}

fn entropy(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = vec![0; ENTROPY_BYTES];
    random.fill(&mut bytes);
    bytes
}

/// With whatever proposals of the standard it happens to use.
fn any_module(random: &mut fastrand::Rng) -> Vec<u8> {
    let bytes = entropy(random);
    let mut source = Unstructured::new(&bytes);
    let module = Config::arbitrary(&mut source).and_then(|config| Module::new(config, &mut source));
    module.map(|module| module.to_bytes()).unwrap_or_default()
}

fn any_component(random: &mut fastrand::Rng) -> Vec<u8> {
    let bytes = entropy(random);
    Component::arbitrary(&mut Unstructured::new(&bytes)).map(|component| component.to_bytes()).unwrap_or_default()
}

/// Imports and exports what `policy` does, and announces the same contract, so that it gets as far as being called; but
/// what it does then is random.
fn in_the_shape_of(policy: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let bytes = entropy(random);
    let config = Config {
        module_shape: Some(policy.to_vec()),
        max_memories: 1,
        // What the host's engine does not offer would only be refused.
        custom_page_sizes_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        reference_types_enabled: false,
        relaxed_simd_enabled: false,
        shared_everything_threads_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::default()
    };
    let module = Module::new(config, &mut Unstructured::new(&bytes)).map(|module| module.to_bytes());
    module.map(|module| [module, contract_of(policy)].concat()).unwrap_or_default()
}

/// The custom sections by which a policy announces its contract, as they stand in the file.
fn contract_of(policy: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    let mut rest = policy.get(8..).unwrap_or_default();
    while let Some((&id, tail)) = rest.split_first() {
        let Some((length, header)) = leb128(tail) else { break };
        let end = 1 + header + length;
        let Some(section) = rest.get(..end) else { break };
        // Behind the length stands the name's, in one byte.
        if id == 0 && section[1 + header + 1..].starts_with(b"component-type") {
            found.extend_from_slice(section);
        }
        rest = &rest[end..];
    }
    found
}

/// A number, and how many bytes it takes.
fn leb128(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// The policy with some of its instructions, constants, functions or sections changed, and otherwise at work.
fn mutant(policy: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = policy.to_vec();
    for _ in 0..random.u32(1..=MUTATIONS_MAX) {
        let mut mutate = WasmMutate::default();
        mutate.seed(random.u64(..)).fuel(MUTATION_FUEL).preserve_semantics(false);
        let mutated = mutate.run(&bytes).ok().and_then(|mut mutants| mutants.next()?.ok());
        if let Some(mutated) = mutated.filter(|mutated| mutated.len() <= MUTANT_BYTES_MAX) {
            bytes = mutated;
        }
    }
    bytes
}
