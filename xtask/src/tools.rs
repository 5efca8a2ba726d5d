//! The tools that the tasks stand on: found, or installed.

use crate::guests::{PYTHON_REQUIREMENTS, is_newer};
use crate::packages::{self, Package};
use crate::shell::{cargo, find, heading, output, profile_dir, root, run};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that guests are built for.
pub(crate) const WASM_TARGET: &str = "wasm32-wasip2";

/// The folders of the chat's page and of its test, each with its own `package.json`.
const NODE_FOLDERS: [&str; 2] = ["guest-examples/chat/page", "guest-examples/chat/test"];
/// The names that the browser goes by.
const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A tool of cargo's that is kept in the target folder, when it is not installed.
pub(crate) struct CargoTool {
    /// As in `cargo NAME`.
    name: &'static str,
    /// The version that is installed where there is none.
    version: &'static str,
}

pub(crate) const DENY: CargoTool = CargoTool { name: "deny", version: "0.20.2" };
pub(crate) const NEXTEST: CargoTool = CargoTool { name: "nextest", version: "0.9.151" };

/// Finds tools, and installs them where it may.
pub(crate) struct Tools {
    may_install: bool,
}

impl Tools {
    pub(crate) fn new(may_install: bool) -> Self {
        Self { may_install }
    }

    /// The standard library for guests.
    pub(crate) fn wasm_target(&self) -> Result<()> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let library =
            output(Command::new(rustc).args(["--print", "target-libdir", "--target", WASM_TARGET]));
        if library.is_some_and(|library| Path::new(&library).is_dir()) {
            return Ok(());
        }
        let advice = format!("`rustup target add {WASM_TARGET}`");
        if find("rustup").is_none() {
            bail!(
                "Rust's target {WASM_TARGET} is missing, and so is rustup, which installs it: \
                 {advice}"
            );
        }
        if !self.may_install {
            bail!("Rust's target {WASM_TARGET} is missing; install it with {advice}");
        }
        heading("Adding the target for guests");
        run(Command::new("rustup").args(["target", "add", WASM_TARGET]))
    }

    /// A component of the Rust toolchain: `rustfmt` or `clippy`.
    pub(crate) fn rust_component(&self, name: &str, subcommand: &str) -> Result<()> {
        if output(&mut cargo([subcommand, "--version"])).is_some() {
            return Ok(());
        }
        if !self.may_install || find("rustup").is_none() {
            bail!("{name} is missing; install it with `rustup component add {name}`");
        }
        heading(&format!("Adding {name}"));
        run(Command::new("rustup").args(["component", "add", name]))
    }

    /// The broker that the tests of MQTT start.
    pub(crate) fn mosquitto(&self) -> Result<()> {
        if find("mosquitto").is_some() {
            return Ok(());
        }
        packages::install(Package::Mosquitto, self.may_install)?;
        find("mosquitto").context("mosquitto was installed, and is nowhere in PATH")?;
        Ok(())
    }

    /// Whether all is there now that shows the page of the chat in browsers. What cannot
    /// be had is reported: the test is left out then.
    pub(crate) fn browsers(&self) -> bool {
        let prepared = self.chromium().and_then(|()| self.node()).and_then(|()| {
            NODE_FOLDERS.iter().try_for_each(|folder| self.node_modules(&root().join(folder)))
        });
        if let Err(error) = &prepared {
            eprintln!("warning: the page of the chat is not tested: {error:#}");
        }
        prepared.is_ok()
    }

    fn chromium(&self) -> Result<()> {
        if CHROMIUM.iter().all(|name| find(name).is_none()) {
            packages::install(Package::Chromium, self.may_install)?;
        }
        Ok(())
    }

    fn node(&self) -> Result<()> {
        if ["node", "npm"].iter().any(|name| find(name).is_none()) {
            packages::install(Package::Node, self.may_install)?;
        }
        Ok(())
    }

    /// What the `package-lock.json` of a folder names, beside it.
    fn node_modules(&self, folder: &Path) -> Result<()> {
        let wanted = folder.join("package-lock.json");
        if is_newer(&folder.join("node_modules/.package-lock.json"), &[wanted])? {
            return Ok(());
        }
        let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        if !self.may_install {
            bail!("run `npm {}` in {}", npm.join(" "), folder.display());
        }
        heading(&format!("Installing what {} needs", folder.display()));
        run(Command::new("npm").args(npm).current_dir(folder))
    }

    /// Whether `cargo NAME` is there now. One that cannot be installed is
    /// reported; what to do without it is up to the caller.
    pub(crate) fn cargo_tool(&self, tool: &CargoTool) -> Result<bool> {
        let CargoTool { name, version } = tool;
        if output(&mut with_tools(cargo([name, "--version"]))?).is_some() {
            return Ok(true);
        }
        if !self.may_install {
            return Ok(false);
        }
        heading(&format!("Building cargo-{name}, once: it is kept in the target folder"));
        let root = tools_dir()?;
        let build = root.join("build");
        // It runs for seconds, so that optimising it would take longer than it saves.
        let mut install = cargo(["install", "--locked", "--debug", "--quiet"]);
        install.arg(format!("cargo-{name}@{version}"));
        install.arg("--root").arg(&root).arg("--target-dir").arg(&build);
        install.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_PROFILE_DEV_OPT_LEVEL", "0");
        install.env("CARGO_INCREMENTAL", "0");
        let installed = run(&mut install);
        if build.exists() {
            std::fs::remove_dir_all(&build).context("cannot remove what was left of a build")?;
        }
        if let Err(error) = &installed {
            eprintln!("warning: {error}");
        }
        Ok(installed.is_ok())
    }

    /// The program that turns Python into components, in an environment of its own.
    pub(crate) fn componentize_py(&self) -> Result<PathBuf> {
        let folder = tools_dir()?.join("python");
        let program = in_environment(&folder, "componentize-py");
        let requirements = root().join(PYTHON_REQUIREMENTS);
        let wanted = std::fs::read_to_string(&requirements)
            .with_context(|| format!("cannot read {}", requirements.display()))?;
        let version = output(Command::new(&program).arg("--version")).unwrap_or_default();
        // `componentize-py 1.2` where `componentize-py==1.2` is wanted.
        if wanted.lines().any(|line| line.replace("==", " ") == version) {
            return Ok(program);
        }
        if !self.may_install {
            bail!(
                "{} is missing, for the example in Python; without --no-install it is put into {}",
                wanted.trim(),
                folder.display()
            );
        }
        self.python_environment(&folder)?;
        heading("Installing componentize-py");
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        let python = in_environment(&folder, "python");
        run(Command::new(python).args(pip).arg("--requirement").arg(requirements))?;
        Ok(program)
    }

    fn python_environment(&self, folder: &Path) -> Result<()> {
        let make = || {
            let python = find("python3").or_else(|| find("python")).unwrap_or("python3".into());
            output(Command::new(python).args(["-m", "venv", "--clear"]).arg(folder)).is_some()
        };
        if make() {
            return Ok(());
        }
        // Debian has Python without its module `venv`.
        packages::install(Package::Python, self.may_install)?;
        if !make() {
            bail!(
                "Python cannot make a virtual environment: `python3 -m venv {}`",
                folder.display()
            );
        }
        Ok(())
    }
}

/// Lets a program find the tools in the target folder, after those of the system.
pub(crate) fn with_tools(mut command: Command) -> Result<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = tools_dir()?.join("bin");
    let path = std::env::join_paths(std::env::split_paths(&path).chain([own]))
        .context("PATH cannot be extended with the target folder")?;
    command.env("PATH", path);
    Ok(command)
}

/// Where the tools are that only this project uses.
fn tools_dir() -> Result<PathBuf> {
    let profile = profile_dir()?;
    Ok(profile.parent().unwrap_or(&profile).join("tools"))
}

fn in_environment(folder: &Path, program: &str) -> PathBuf {
    if cfg!(windows) {
        folder.join("Scripts").join(format!("{program}.exe"))
    } else {
        folder.join("bin").join(program)
    }
}
