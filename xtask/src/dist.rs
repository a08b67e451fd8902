//! `cargo xtask dist`: what users get, packed and tried.

mod container;
mod deb;
mod elf;
mod http;
mod jail;
mod licences;
mod others;
mod packages;
mod sbom;
mod serving;
mod stage;
mod target;
mod tries;
mod zig;

use crate::consent::Consent;
use crate::policies::{self, POLICIES};
use crate::process::{output, run, step};
use crate::wasm::Source;
use crate::workspace::{Profile, Workspace};
use stage::at;
use std::fs;
use std::path::{Path, PathBuf};
pub(crate) use target::Target;

/// Where packages go, below the target folder. `dist` is Cargo's own, for the profile of this name.
const PLACE: &str = "packages";
/// Where they are laid out and tried.
const WORK: &str = "packaging";
/// The sums of all packages.
const SUMS: &str = "SHA256SUMS";
/// Shells for which archives have completions, and the files' names.
const SHELLS: [(&str, &str); 5] = [
    ("bash", "spillway.bash"),
    ("elvish", "spillway.elv"),
    ("fish", "spillway.fish"),
    ("powershell", "_spillway.ps1"),
    ("zsh", "_spillway"),
];

/// What is packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Each once.
    pub(crate) targets: Vec<Target>,
    /// Whether what is missing may be installed.
    pub(crate) consent: Consent,
}

impl Options {
    /// All targets.
    pub(crate) fn all(consent: Consent) -> Options {
        Options { targets: Target::ALL.to_vec(), consent }
    }

    /// Reads the arguments behind `dist`; an error says which of them is wrong.
    pub(crate) fn parse(words: &[&str]) -> Result<Options, String> {
        let mut options = Options { targets: Vec::new(), consent: Consent::Withheld };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--install" => options.consent = Consent::Given,
                "--target" => {
                    let target = Target::named(words.next().ok_or("--target is followed by no name")?)?;
                    if !options.targets.contains(&target) {
                        options.targets.push(target);
                    }
                }
                unknown => return Err(format!("dist has no option {unknown}")),
            }
        }
        Ok(if options.targets.is_empty() { Options::all(options.consent) } else { options })
    }
}

/// The folders of a run, and what all packages have in common.
#[derive(Debug)]
struct Packing<'a> {
    workspace: &'a Workspace,
    version: String,
    made_at_unix_s: String,
    packages: PathBuf,
    work: PathBuf,
}

/// What is known of a target when it has been packed.
#[derive(Debug)]
struct Packed {
    target: Target,
    archive: PathBuf,
    deb: Option<PathBuf>,
}

/// Builds, packs and tries.
///
/// # Errors
/// The first step's that fails.
pub(crate) fn run_steps(workspace: &Workspace, options: &Options) -> Result<(), String> {
    let packing = Packing {
        workspace,
        version: version(workspace)?,
        made_at_unix_s: stage::made_at_unix_s(workspace),
        packages: workspace.target.join(PLACE),
        work: workspace.target.join(WORK),
    };
    step("policies for the tries", || policies::build(workspace, Source::Any, options.consent, &[POLICIES]))?;
    stage::fresh(&packing.packages)?;
    stage::fresh(&packing.work)?;
    let mut built = Vec::new();
    for target in &options.targets {
        step(&format!("binary for {}", target.triple()), || {
            let one = zig::build(workspace, *target, options.consent)?;
            let bytes = fs::read(&one.binary).map_err(|error| at(&one.binary, &error))?;
            elf::require_static(&bytes, *target).map_err(|why| format!("{}: {why}", one.binary.display()))?;
            println!("{} ({} MiB), which stands alone", one.binary.display(), bytes.len() >> 20);
            built.push((*target, one));
            Ok(())
        })?;
    }
    step("manual and completions", || packing.write_texts(&built))?;
    let mut packed = Vec::new();
    for (target, one) in &built {
        step(&format!("packages for {}", target.triple()), || {
            packed.push(packing.pack(*target, one)?);
            Ok(())
        })?;
    }
    step("container", || packing.pack_container(&packed))?;
    stage::sum(&packing.packages, SUMS)?;
    let mut only_built = Vec::new();
    for one in &packed {
        step(&format!("tries for {}", one.target.triple()), || match tries::can_run(one.target, options.consent) {
            Ok(()) => packing.try_out(one),
            Err(why) => {
                println!("SKIPPED: binaries for {} do not run here. {why}", one.target.triple());
                only_built.push(one.target.triple());
                Ok(())
            }
        })?;
    }
    packing.tell(&only_built)
}

/// The version that all crates have in common.
fn version(workspace: &Workspace) -> Result<String, String> {
    let manifest = workspace.root.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(|error| at(&manifest, &error))?;
    let version = text.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version.map(str::to_owned).ok_or_else(|| format!("{} says no version", manifest.display()))
}

impl Packing<'_> {
    /// A package's name without its ending.
    fn name(&self, of: &str) -> String {
        format!("spillway-{}-{of}", self.version)
    }

    /// Where the archive's folder is laid out.
    fn unpacked(&self, target: Target) -> PathBuf {
        self.work.join("archives").join(self.name(target.triple()))
    }

    /// The manual and the completions, as a binary tells them. They are the same for all targets, so one that runs
    /// here is asked.
    fn write_texts(&self, built: &[(Target, zig::Built)]) -> Result<(), String> {
        let here = built.iter().find(|(target, _)| target.is_here()).map(|(_, one)| one.binary.clone());
        let binary = if let Some(binary) = here {
            binary
        } else {
            run(&mut self.workspace.build_binaries())?;
            self.workspace.binary("spillway", Profile::Release)
        };
        run(self.workspace.command(&binary).arg("man").arg(self.work.join("texts/man/man1")))?;
        for (shell, file) in SHELLS {
            let script = output(self.workspace.command(&binary).args(["completions", shell]));
            let script = script.ok_or_else(|| format!("`spillway completions {shell}` fails"))?;
            stage::write(&self.work.join("texts/completions").join(file), &(script + "\n"))?;
        }
        Ok(())
    }

    fn pack(&self, target: Target, built: &zig::Built) -> Result<Packed, String> {
        let packages = packages::of(self.workspace, target, &built.messages)?;
        let others = others::of(self.workspace, &packages, &built.musl_licence)?;
        let (root, folder, texts) = (&self.workspace.root, self.unpacked(target), self.work.join("texts"));
        stage::copy(&built.binary, &folder.join("spillway"))?;
        for file in ["README.md", "LICENSE-APACHE", "LICENSE-MIT"] {
            stage::copy(&root.join(file), &folder.join(file))?;
        }
        stage::copy(&root.join("packaging/debian/spillway.service"), &folder.join("spillway.service"))?;
        let library = others::rust_library_licences(self.workspace)?;
        stage::copy(&library, &folder.join("RUST-LIBRARY-LICENSES.html"))?;
        stage::write(&folder.join("THIRD-PARTY-LICENSES.txt"), &licences::notice(&packages, &others)?)?;
        let bill = sbom::bill(&packages, &others, target);
        stage::write(&folder.join("spillway.cdx.json"), &bill)?;
        stage::write(&self.packages.join(self.name(target.triple()) + ".cdx.json"), &bill)?;
        stage::copy_all(&texts.join("completions"), &folder.join("completions"))?;
        stage::copy_all(&texts.join("man/man1"), &folder.join("man/man1"))?;
        println!("{} crates and {} other works are in the binary", packages.len(), others.len());

        let name = self.name(target.triple());
        let archive = self.packages.join(format!("{name}.tar.gz"));
        stage::archive(&self.work.join("archives"), &name, &archive, &self.made_at_unix_s)?;
        let deb = self.packages.join(format!("spillway_{}_{}.deb", self.version, target.debian()));
        let (version, made_at_unix_s) = (self.version.as_str(), self.made_at_unix_s.as_str());
        let contents = deb::Contents { unpacked: &folder, version, target, made_at_unix_s };
        let can_be_built = deb::can_be_built();
        if can_be_built {
            deb::build(self.workspace, contents, &self.work.join("debs").join(target.debian()), &deb)?;
        } else {
            println!("SKIPPED: there is no dpkg-deb here, which makes packages for Debian.");
        }
        Ok(Packed { target, archive, deb: can_be_built.then_some(deb) })
    }

    /// Where an image's files are laid out.
    fn context(&self) -> PathBuf {
        self.work.join("container")
    }

    /// Puts the container file and what it copies into an archive, which container engines take as it is.
    fn pack_container(&self, packed: &[Packed]) -> Result<(), String> {
        let (context, parts) = (self.context(), self.workspace.root.join("packaging/container"));
        stage::copy_all(&parts, &context)?;
        for one in packed {
            let unpacked = self.unpacked(one.target);
            stage::copy(&unpacked.join("spillway"), &context.join(one.target.debian()).join("spillway"))?;
            for file in ["LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY-LICENSES.txt"] {
                stage::copy(&unpacked.join(file), &context.join(file))?;
            }
        }
        let data = context.join("data");
        fs::create_dir_all(&data).map_err(|error| at(&data, &error))?;
        let archive = self.packages.join(self.name("container") + ".tar.gz");
        stage::archive(&context, ".", &archive, &self.made_at_unix_s)
    }

    fn try_out(&self, packed: &Packed) -> Result<(), String> {
        let root = self.work.join("roots").join(packed.target.debian());
        tries::archive(self.workspace, packed.target, &packed.archive, &root)?;
        if let Some(deb) = &packed.deb {
            tries::package(self.workspace, packed.target, deb, &root)?;
        }
        tries::image(self.workspace, packed.target, &self.context(), &root)
    }

    /// Says what there is.
    fn tell(&self, only_built: &[&str]) -> Result<(), String> {
        println!("\nIn {}:", self.packages.display());
        for file in stage::files(&self.packages)? {
            let size = fs::metadata(&file).map_or(0, |file| file.len());
            println!("{:>9} KiB  {}", size.div_ceil(1024), Path::new(file.file_name().unwrap_or_default()).display());
        }
        if only_built.is_empty() {
            println!("Each was run here.");
        } else {
            println!("Only built, and not run: those for {}.", only_built.join(" and "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_targets_are_packed_unless_some_are_named() {
        let parse = |line: &str| Options::parse(&line.split_whitespace().collect::<Vec<_>>());
        let consent = Consent::Withheld;
        assert_eq!(parse(""), Ok(Options::all(consent)));
        let arm = Target::Aarch64.triple();
        let twice = parse(&format!("--target {arm} --install --target {arm}"));
        assert_eq!(twice, Ok(Options { targets: vec![Target::Aarch64], consent: Consent::Given }));
        for (line, named) in [("--target", "--target"), ("--target mips", "mips"), ("--fast", "--fast")] {
            assert!(parse(line).is_err_and(|mistake| mistake.contains(named)), "{line}");
        }
    }

    #[test]
    fn the_version_is_that_of_the_workspace() {
        let workspace = Workspace::find().expect("the repository");
        assert_eq!(version(&workspace).as_deref(), Ok(env!("CARGO_PKG_VERSION")));
    }
}
