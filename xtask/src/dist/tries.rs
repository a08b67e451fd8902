//! Whether what was packed works where nothing else is: each package is unpacked, run and taken away again.

use super::container::{self, Image};
use super::jail::Jail;
use super::serving::{self, Asked, Ports};
use super::stage::{self, at};
use super::target::Target;
use crate::consent::Consent;
use crate::debian;
use crate::process::{is_root, output, run};
use crate::workspace::Workspace;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A user that no system has, as the service's is.
const NOBODY: &str = "64512:64512";
/// What callers show to a Spillway that can be reached from elsewhere.
const ACCESS_KEY: &str = "a-key-for-tries-only";
/// A policy for the tries, which shows that what is compiled to machine code runs.
const POLICY: &str = "policies/default.wasm";

/// Whether binaries for a target can be run here, if need be emulated; else why not.
pub(crate) fn can_run(target: Target, consent: Consent) -> Result<(), String> {
    if target.is_here() || Path::new(target.emulator()).is_file() {
        return Ok(());
    }
    debian::require(&["qemu-user-static"], consent)
}

/// Unpacks an archive into an empty root, in which there is no /tmp, no /etc and no other program.
pub(crate) fn archive(workspace: &Workspace, target: Target, file: &Path, root: &Path) -> Result<(), String> {
    let jail = Jail::new(root.join("archive"), target)?;
    run(Command::new("tar").arg("--extract").arg("--file").arg(file).arg("--directory").arg(&jail.root))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let folder = format!("/{}", name.trim_end_matches(".tar.gz"));
    let program = format!("{folder}/spillway");
    print!("{}", jail.said(&[&program, "--version"])?);
    // Nothing but the defaults is in force.
    print!("{}", jail.said(&[&program, "check"])?);
    let packed = jail.place(&format!("{folder}/completions/spillway.bash"));
    let packed = fs::read_to_string(&packed).map_err(|error| at(&packed, &error))?;
    if jail.said(&[&program, "completions", "bash"])? != packed {
        return Err("the archive has completions of another binary".to_owned());
    }
    stage::copy(&workspace.target.join(POLICY), &jail.place("/policies/default.wasm"))?;
    jail.said(&[&program, "policy", "check", "/policies/default.wasm"])?;
    let ports = Ports::find()?;
    let text = format!("[server]\nlisten = \"127.0.0.1:{}\"\n{}", ports.listen, ports.tables());
    stage::write(&jail.place("/spillway.toml"), &text)?;
    serving::try_out(&jail, ports, Asked { words: &[&program, "run"], headers: "", health: &[] })?;
    println!(
        "The archive, unpacked in an empty root: it served, judged by a policy, kept a request and ended in order."
    );
    Ok(())
}

/// Installs the package in a root that holds dpkg's books and nothing else, runs it as the service does, removes it and
/// purges it.
pub(crate) fn package(workspace: &Workspace, target: Target, file: &Path, root: &Path) -> Result<(), String> {
    if !is_root() {
        println!("SKIPPED: only root may install packages, be it into a folder.");
        return Ok(());
    }
    let root = root.join("package");
    stage::fresh(&root)?;
    for folder in ["info", "updates", "triggers"] {
        let folder = root.join("var/lib/dpkg").join(folder);
        fs::create_dir_all(&folder).map_err(|error| at(&folder, &error))?;
    }
    stage::write(&root.join("var/lib/dpkg/status"), "")?;
    stage::write(&root.join("var/log/dpkg.log"), "")?;
    // The system's own: systemd makes a service's folder in it.
    fs::create_dir_all(root.join("var/lib/private")).map_err(|error| at(&root, &error))?;
    let before = everything(&root)?;
    let dpkg = |action: &str, subject: &Path| {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", root.display())).args(["--force-script-chrootless", "--force-architecture"]);
        run(dpkg.args(["--no-triggers", action]).arg(subject))
    };
    dpkg("--install", file)?;
    let jail = Jail::around(root.clone(), target)?.running_as(NOBODY);
    let config = ["--config", "/etc/spillway/spillway.toml"];
    print!("{}", jail.said(&["/usr/bin/spillway", "--version"])?);
    print!("{}", jail.said(&["/usr/bin/spillway", "check", config[0], config[1]])?);
    // The operator's changes, which a removal keeps.
    stage::copy(&workspace.target.join(POLICY), &jail.place("/etc/spillway/policies/default.wasm"))?;
    let ports = Ports::find()?;
    let changed = jail.place(config[1]);
    let text = fs::read_to_string(&changed).map_err(|error| at(&changed, &error))?;
    let text = format!("{text}\n[server]\nlisten = \"127.0.0.1:{}\"\n{}", ports.listen, ports.tables());
    stage::write(&changed, &text)?;
    // As systemd makes it for the service.
    let state = jail.place("/var/lib/spillway");
    fs::create_dir_all(&state).map_err(|error| at(&state, &error))?;
    run(Command::new("chown").arg(NOBODY).arg(&state))?;
    run(Command::new("chmod").arg("0700").arg(&state))?;
    let words = ["/usr/bin/spillway", "run", config[0], config[1]];
    serving::try_out(&jail, ports, Asked { words: &words, headers: "", health: &[] })?;

    dpkg("--remove", Path::new("spillway"))?;
    for (place, stays) in [(words[0], false), (config[1], true), ("/var/lib/spillway/spool", true)] {
        if jail.place(place).exists() != stays {
            return Err(format!("a removal {} {place}", if stays { "deletes" } else { "leaves" }));
        }
    }
    dpkg("--purge", Path::new("spillway"))?;
    let left: Vec<String> = everything(&root)?.into_iter().filter(|path| !before.contains(path)).collect();
    if !left.iter().all(|path| path == "./emulator") {
        return Err(format!("a purge leaves {}", left.join(", ")));
    }
    println!(
        "The package: installed, served as a user of its own, removed with what was changed kept, purged to nothing."
    );
    Ok(())
}

/// All files and folders in a root but dpkg's own, in order.
fn everything(root: &Path) -> Result<Vec<String>, String> {
    let find = ["find", ".", "-path", "./var/lib/dpkg", "-prune", "-o", "-path", "./var/log", "-prune", "-o", "-print"];
    let found = output(Command::new(find[0]).args(&find[1..]).current_dir(root)).ok_or("`find` fails")?;
    let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
    found.sort();
    Ok(found)
}

/// Does what a container engine would: lays the image out by its file, and runs it as its user, in a root that is
/// read-only but for the volume.
pub(crate) fn image(workspace: &Workspace, target: Target, context: &Path, root: &Path) -> Result<(), String> {
    if !is_root() {
        println!("SKIPPED: only root may lay out an image with the users that it has.");
        return Ok(());
    }
    let file = context.join("Containerfile");
    let file = fs::read_to_string(&file).map_err(|error| at(&file, &error))?;
    let image = container::read(&file, target)?;
    let jail = Jail::new(root.join("image"), target)?;
    lay_out(&image, context, &jail)?;
    let [volume] = image.volumes.as_slice() else { return Err("the image has not one volume".to_owned()) };
    let jail = jail.running_as(&image.user).writable_only_in(volume);
    let (words, health): (Vec<&str>, Vec<&str>) =
        (image.command.iter().map(String::as_str).collect(), image.health.iter().map(String::as_str).collect());

    // The manual is something to write: into the volume, and nowhere else.
    jail.said(&["/usr/bin/spillway", "man", &format!("{volume}/man")])?;
    let written = jail.said(&["/usr/bin/spillway", "man", "/usr/share/man"]);
    if !written.as_ref().is_err_and(|message| message.contains("Read-only file system")) {
        return Err(format!("the image's root should be read-only: {written:?}"));
    }
    // Without the key it must not serve, and must say what is missing.
    let refused = jail.said(&words);
    if !refused.as_ref().is_err_and(|message| message.contains("SPILLWAY_ACCESS_KEY")) {
        return Err(format!("started without an access key, it should name the variable: {refused:?}"));
    }
    let jail = jail.with("SPILLWAY_ACCESS_KEY", ACCESS_KEY);
    // Its port may be taken on this machine, where no other network is made for it.
    let ports = Ports::find()?;
    let config = jail.place("/etc/spillway/spillway.toml");
    let text = fs::read_to_string(&config).map_err(|error| at(&config, &error))?;
    let text = text.replace("0.0.0.0:4141", &format!("0.0.0.0:{}", ports.listen)) + &ports.tables();
    stage::write(&config, &text)?;
    let policies = jail.place(volume).join("policies");
    stage::copy(&workspace.target.join(POLICY), &policies.join("default.wasm"))?;
    run(Command::new("chown").arg("--recursive").arg(&image.user).arg(&policies))?;
    let headers = format!("x-spillway-access-key: {ACCESS_KEY}\r\nAuthorization: Bearer the-callers-own\r\n");
    serving::try_out(&jail, ports, Asked { words: &words, headers: &headers, health: &health })?;
    println!("The image, laid out by its file: it refused to start without a key, and served from a read-only root.");
    Ok(())
}

fn lay_out(image: &Image, context: &Path, jail: &Jail) -> Result<(), String> {
    for copied in &image.copies {
        for (from, to) in copied.places() {
            let (from, to) = (context.join(from), jail.root.join(to));
            let parent = to.parent().unwrap_or(&jail.root);
            fs::create_dir_all(parent).map_err(|error| at(parent, &error))?;
            run(Command::new("cp").args(["--recursive", "--no-target-directory"]).arg(&from).arg(&to))?;
            run(Command::new("chown").arg("--recursive").arg(&copied.owner).arg(&to))?;
            if let Some(mode) = &copied.mode {
                run(Command::new("chmod").arg(mode).arg(&to))?;
            }
        }
    }
    Ok(())
}
