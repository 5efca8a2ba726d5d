//! The system's package manager.

use crate::shell::{find, heading, output, run};
use anyhow::{Result, bail};
use std::io::IsTerminal;
use std::process::Command;

/// What the tests need from the system.
#[derive(Clone, Copy)]
pub(crate) enum Package {
    Chromium,
    Mosquitto,
    Node,
    Python,
}

struct Manager {
    program: &'static str,
    /// What fetches the lists of packages, where that is a step of its own.
    update: Option<&'static str>,
    /// What keeps it from asking, and the like.
    options: &'static [&'static str],
    install: &'static str,
    needs_root: bool,
    chromium: &'static [&'static str],
    mosquitto: &'static [&'static str],
    node: &'static [&'static str],
    python: &'static [&'static str],
}

/// How long apt-get waits, in seconds, for another one to end.
const LOCK_WAIT: &str = "DPkg::Lock::Timeout=120";

/// In the order in which they are looked for: some systems have two.
const MANAGERS: [Manager; 6] = [
    Manager {
        program: "apt-get",
        update: Some("update"),
        options: &["-o", LOCK_WAIT, "--yes", "--no-install-recommends"],
        install: "install",
        needs_root: true,
        chromium: &["chromium"],
        mosquitto: &["mosquitto"],
        node: &["nodejs", "npm"],
        python: &["python3", "python3-venv"],
    },
    Manager {
        program: "dnf",
        update: None,
        options: &["--assumeyes"],
        install: "install",
        needs_root: true,
        chromium: &["chromium"],
        mosquitto: &["mosquitto"],
        node: &["nodejs", "npm"],
        python: &["python3", "python3-pip"],
    },
    Manager {
        program: "zypper",
        update: None,
        options: &["--non-interactive"],
        install: "install",
        needs_root: true,
        chromium: &["chromium"],
        mosquitto: &["mosquitto"],
        node: &["nodejs", "npm"],
        python: &["python3", "python3-pip"],
    },
    Manager {
        program: "pacman",
        update: None,
        options: &["--needed", "--noconfirm"],
        install: "-S",
        needs_root: true,
        chromium: &["chromium"],
        mosquitto: &["mosquitto"],
        node: &["nodejs", "npm"],
        python: &["python"],
    },
    Manager {
        program: "apk",
        update: None,
        options: &[],
        install: "add",
        needs_root: true,
        chromium: &["chromium"],
        mosquitto: &["mosquitto"],
        node: &["nodejs", "npm"],
        python: &["python3", "py3-pip"],
    },
    Manager {
        program: "brew",
        update: None,
        options: &[],
        install: "install",
        needs_root: false,
        chromium: &["chromium"],
        mosquitto: &["mosquitto"],
        node: &["node"],
        python: &["python3"],
    },
];

/// Installs a package, or says which command would.
pub(crate) fn install(package: Package, allowed: bool) -> Result<()> {
    let (what, site) = match package {
        Package::Chromium => {
            ("Chromium, the browser that shows the page of the chat", "chromium.org")
        }
        Package::Node => ("Node.js with npm, for the page of the chat", "nodejs.org"),
        Package::Mosquitto => ("mosquitto, the MQTT broker that the tests start", "mosquitto.org"),
        Package::Python => {
            ("Python 3 with its module `venv`, for the example in Python", "python.org")
        }
    };
    let Some(manager) = MANAGERS.iter().find(|manager| find(manager.program).is_some()) else {
        bail!("{what}, is missing, and no package manager that this program knows: see {site}");
    };
    let prefix = manager.prefix();
    let command = manager.text(package);
    if !allowed {
        bail!("{what}, is missing; install it with\n\n    {command}\n");
    }
    let Some(prefix) = prefix else {
        bail!(
            "{what}, is missing, and installing it needs more rights than this process has; \
             run\n\n    {command}\n\nand then this again"
        );
    };
    heading(&format!("Installing {what}"));
    if let Some(update) = manager.update {
        // Old lists may do; if they do not, the next command fails and says so.
        if let Err(error) = manager.run(prefix, update, &[]) {
            eprintln!("warning: {error}");
        }
    }
    if let Err(error) = manager.run(prefix, manager.install, manager.names(package)) {
        bail!("{error}; install {what}, yourself, for example with\n\n    {command}\n");
    }
    Ok(())
}

impl Manager {
    fn names(&self, package: Package) -> &'static [&'static str] {
        match package {
            Package::Chromium => self.chromium,
            Package::Mosquitto => self.mosquitto,
            Package::Node => self.node,
            Package::Python => self.python,
        }
    }

    /// What goes before the command, so that it has the rights that it needs.
    /// `None`: it cannot get them here.
    fn prefix(&self) -> Option<&'static [&'static str]> {
        if !self.needs_root || is_root() {
            return Some(&[]);
        }
        find("sudo")?;
        // Without a terminal nobody could type the password.
        let asks_nothing = output(Command::new("sudo").args(["-n", "true"])).is_some();
        (asks_nothing || std::io::stdin().is_terminal()).then_some(&["sudo"])
    }

    fn run(&self, prefix: &[&str], verb: &str, names: &[&str]) -> Result<()> {
        // `env` comes after `sudo`, which would not let the variable through.
        let mut words = prefix.iter().copied().chain(["env", "DEBIAN_FRONTEND=noninteractive"]);
        let mut command = Command::new(words.next().unwrap_or("env"));
        run(command.args(words).arg(self.program).args(self.options).arg(verb).args(names))
    }

    fn text(&self, package: Package) -> String {
        let sudo = if self.needs_root && !is_root() { "sudo " } else { "" };
        format!("{sudo}{} {} {}", self.program, self.install, self.names(package).join(" "))
    }
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_some_and(|id| id == "0")
}
