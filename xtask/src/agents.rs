//! `cargo xtask agents`: coding agents do a task through Spillway (`tests/agents`), and `docs/clients.md` is tried.

use crate::clients;
use crate::consent::Consent;
use crate::process::{run, step};
use crate::python::Environment;
use crate::workspace::{Profile, Workspace};
use std::fs;
use std::path::{Path, PathBuf};

/// aider; its dependencies are older than those of the SDKs.
const AIDER: Environment = Environment { requirements: "tests/agents/requirements.txt", name: "agents/aider" };

/// The agents that npm's registry has, with the lock file of all that they need.
const PACKAGES: &str = "tests/agents";

/// What is printed, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// For `run.py`, as they were given.
    pub(crate) rest: Vec<String>,
    /// Whether what is missing may be installed.
    pub(crate) consent: Consent,
}

/// Builds the binaries, prepares the environments, tries each program of `docs/clients.md`, and lets the agents work.
///
/// # Errors
/// When something does not build or cannot be had, a program of the page does not work, or an agent is slower through
/// Spillway or fails more often.
pub(crate) fn run_steps(workspace: &Workspace, options: &Options) -> Result<(), String> {
    step("binaries", || run(&mut workspace.build_binaries()))?;
    let clients = clients::prepare(workspace, false, options.consent)?;
    let aider = AIDER.prepare(workspace, options.consent)?;
    let modules = install(workspace, &clients.node)?;
    let spillway = workspace.binary("spillway", Profile::Release);
    // The sources stay as clean as they were.
    let script = |name: &str| {
        let mut python = workspace.command("python3");
        python.env("PYTHONDONTWRITEBYTECODE", "1").arg(Path::new(PACKAGES).join(name));
        python.arg("--spillway").arg(&spillway).arg("--node").arg(&clients.node.binary);
        python
    };
    step("docs/clients.md", || {
        let mut snippets = script("snippets.py");
        for python in clients.pythons.iter().map(|(_, python)| python).chain([&aider]) {
            snippets.arg("--python").arg(python);
        }
        for folder in [&workspace.root.join(clients::NODE_CLIENTS).join("node_modules"), &modules] {
            snippets.arg("--modules").arg(folder);
        }
        run(&mut snippets)
    })?;
    step("agents", || {
        let mut agents = script("run.py");
        agents.arg("--modules").arg(&modules).arg("--aider").arg(AIDER.folder(workspace));
        run(agents.args(&options.rest))
    })
}

/// Installs the agents below the target folder unless they are there, and returns their folder `node_modules`.
fn install(workspace: &Workspace, node: &clients::Node) -> Result<PathBuf, String> {
    let folder = workspace.target.join("agents/npm");
    let told = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let (modules, stamp) = (folder.join("node_modules"), folder.join("installed.json"));
    let lock = workspace.root.join(PACKAGES).join("package-lock.json");
    let wanted = fs::read_to_string(&lock).map_err(|error| told(&lock, error))?;
    if fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
        fs::create_dir_all(&folder).map_err(|error| told(&folder, error))?;
        for name in ["package.json", "package-lock.json"] {
            let (from, to) = (workspace.root.join(PACKAGES).join(name), folder.join(name));
            fs::copy(&from, &to).map_err(|error| told(&from, error))?;
        }
        // Their own scripts run, since two of the agents put their binary in its place by them. No `npm ci`: it wants
        // every package that is for other systems, which not every mirror of the registry has.
        let mut npm = workspace.command(&node.binary);
        npm.current_dir(&folder).arg(&node.npm).args(["install", "--no-save", "--no-audit", "--no-fund", "--silent"]);
        run(&mut npm).map_err(|message| format!("{message}\nIt comes from npm's registry."))?;
        fs::write(&stamp, wanted).map_err(|error| told(&stamp, error))?;
    }
    Ok(modules)
}
