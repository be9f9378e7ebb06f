//! What is made from the definition of the command line, completions and manual pages; and the schema of JSON.

use super::command_line::{CommandLine, Generate, SchemaOf};
use crate::control::schema;
use anyhow::Context;
use clap::CommandFactory;
use std::io::Write;

/// Write it.
///
/// # Errors
/// The folder cannot be made or written to. A closed stdout is nobody's loss.
pub fn generate(what: &Generate, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut definition = CommandLine::command();
    match what {
        Generate::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut definition, "braidfs", &mut text);
            drop(out.write_all(&text));
        }
        Generate::Schema { of: SchemaOf::Prefetch } => drop(out.write_all(schema::prefetch().as_bytes())),
        Generate::Man { dir } => {
            let shown = dir.display();
            std::fs::create_dir_all(dir).with_context(|| format!("the folder {shown} cannot be made"))?;
            clap_mangen::generate_to(definition, dir).with_context(|| {
                format!("manual pages cannot be written into {shown}: name a folder that you may write to")
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap_complete::Shell;

    fn completions(shell: Shell) -> String {
        let mut out = Vec::new();
        generate(&Generate::Completions { shell }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_shell_learns_every_command_and_option() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = completions(shell);
            for command in CommandLine::command().get_subcommands().filter(|command| !command.is_hide_set()) {
                assert!(text.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
            assert!(text.contains("cache-size"), "{shell}");
        }
    }

    #[test]
    fn each_command_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("share/man1");
        generate(&Generate::Man { dir: dir.clone() }, &mut Vec::new()).unwrap();
        for command in CommandLine::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let page = std::fs::read_to_string(dir.join(format!("braidfs-{}.1", command.get_name()))).unwrap();
            assert!(page.contains("NAME") && page.contains(command.get_name()));
        }
        assert!(std::fs::read_to_string(dir.join("braidfs.1")).unwrap().contains(".TH"));
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = generate(&Generate::Man { dir: file.path().join("man") }, &mut Vec::new()).unwrap_err();
        assert!(format!("{error:#}").contains(file.path().to_str().unwrap()), "{error:#}");
    }
}
