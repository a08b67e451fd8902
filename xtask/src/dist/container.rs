//! The container file, read as a container engine reads it: so that what is tried here, where there is no engine, is
//! what the file says and not what somebody believes that it says.

use super::target::Target;
use std::path::PathBuf;

/// What an image is made of, and how it is run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) copies: Vec<Copied>,
    /// `UID:GID`.
    pub(crate) user: String,
    pub(crate) volumes: Vec<String>,
    pub(crate) health: Vec<String>,
    /// The program with the arguments that it has if no others are given.
    pub(crate) command: Vec<String>,
}

/// Files that are copied from the folder of the build.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) from: Vec<String>,
    /// Ends with `/` where it is a folder into which they go.
    pub(crate) to: String,
    /// `UID:GID`.
    pub(crate) owner: String,
    pub(crate) mode: Option<String>,
}

impl Copied {
    /// Where each file goes, in a root.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        let to = self.to.trim_start_matches('/');
        self.from.iter().map(move |from| {
            let name = from.rsplit('/').next().unwrap_or(from);
            (from.as_str(), if to.ends_with('/') { PathBuf::from(to).join(name) } else { PathBuf::from(to) })
        })
    }
}

/// Reads a container file that begins with nothing.
///
/// # Errors
/// When it says something that is not understood here, and so would not be tried.
pub(crate) fn read(file: &str, target: Target) -> Result<Image, String> {
    let mut image = Image::default();
    let mut program = Vec::new();
    let mut arguments = Vec::new();
    for line in file.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let line = line.replace("${TARGETARCH}", target.debian());
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let strange = || format!("the container file has a line that is not understood: {line}");
        match word {
            "FROM" if rest == "scratch" => {}
            // The engine says which architecture it is, and these two say what a caller is told.
            "ARG" | "EXPOSE" | "WORKDIR" => {}
            "COPY" => image.copies.push(read_copy(rest).ok_or_else(strange)?),
            "USER" => rest.clone_into(&mut image.user),
            "VOLUME" => image.volumes = list(rest).ok_or_else(strange)?,
            "HEALTHCHECK" => {
                let (_, command) = rest.split_once("CMD ").ok_or_else(strange)?;
                image.health = list(command).ok_or_else(strange)?;
            }
            "ENTRYPOINT" => program = list(rest).ok_or_else(strange)?,
            "CMD" => arguments = list(rest).ok_or_else(strange)?,
            _ => return Err(strange()),
        }
    }
    program.extend(arguments);
    image.command = program;
    Ok(image)
}

fn read_copy(rest: &str) -> Option<Copied> {
    let (options, words): (Vec<&str>, Vec<&str>) = rest.split_whitespace().partition(|word| word.starts_with("--"));
    let option = |name: &str| options.iter().find_map(|option| option.strip_prefix(name)).map(str::to_owned);
    let (to, from) = words.split_last().filter(|(_, from)| !from.is_empty())?;
    Some(Copied {
        from: from.iter().map(|word| (*word).to_owned()).collect(),
        to: (*to).to_owned(),
        owner: option("--chown=").unwrap_or_else(|| "0:0".to_owned()),
        mode: option("--chmod="),
    })
}

/// A list of words as JSON writes it. A line without brackets would be for a shell, which the image does not have.
fn list(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    inner.split(',').map(|word| Some(word.trim().strip_prefix('"')?.strip_suffix('"')?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Image {
        read(include_str!("../../../packaging/container/Containerfile"), Target::Aarch64).expect("our container file")
    }

    #[test]
    fn the_image_has_the_binary_of_its_architecture_runs_as_nobody_and_keeps_its_data_apart() {
        let image = ours();
        let binary = &image.copies[0];
        assert_eq!(binary.places().collect::<Vec<_>>(), [("arm64/spillway", PathBuf::from("usr/bin/spillway"))]);
        assert_eq!(image.user, "65532:65532");
        assert_eq!(image.volumes, ["/data"]);
        assert_eq!(image.command[..2], ["/usr/bin/spillway", "run"]);
        assert_eq!(image.health[..2], ["/usr/bin/spillway", "status"]);
    }

    #[test]
    fn files_that_go_into_a_folder_keep_their_names() {
        let copied = read_copy("a b/c /usr/").expect("a copy");
        let places: Vec<_> = copied.places().map(|(_, place)| place).collect();
        assert_eq!(places, [PathBuf::from("usr/a"), PathBuf::from("usr/c")]);
        assert_eq!((copied.owner.as_str(), copied.mode), ("0:0", None));
    }

    #[test]
    fn a_line_that_would_not_be_tried_is_refused() {
        for line in ["RUN apt-get install it", "FROM debian", "CMD run it", "COPY alone"] {
            assert!(read(line, Target::X86_64).is_err_and(|why| why.contains(line)), "{line}");
        }
    }
}
