//! A bridge as a process of its own, with its log in a file: for what is seen only from outside.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The program with nothing of this process's environment.
pub fn program(arguments: &[&str]) -> Command {
    program_of(env!("CARGO_BIN_EXE_podero-bridge"), arguments)
}

/// As [`program`], of another build.
pub fn program_of(binary: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
    command
}

/// Settings of the program as environment variables, without their prefix; a name without a section is that of another
/// variable.
pub type Environment = Vec<(&'static str, String)>;

/// The settings of a store in a folder, and free ports.
pub fn on_file(folder: &Path) -> Environment {
    vec![
        ("STORE__URL", crate::kit::sqlite_url(folder)),
        ("HTTP__LISTEN", "127.0.0.1:0".into()),
        ("ADMIN__LISTEN", "127.0.0.1:0".into()),
        ("SANDBOX__LISTEN", "127.0.0.1:0".into()),
        ("LOG__FORMAT", "json".into()),
    ]
}

/// Runs a command to its end with these settings.
pub fn run(arguments: &[&str], environment: &Environment) -> Output {
    command(arguments, environment).output().expect("it runs")
}

/// A command with these settings.
pub fn command(arguments: &[&str], environment: &Environment) -> Command {
    with(program(arguments), environment)
}

/// A command with these settings, whatever its program is.
pub fn with(mut command: Command, environment: &Environment) -> Command {
    for (key, value) in environment {
        // The variables of other programs have no section.
        let name = if key.contains("__") { format!("PODERO_BRIDGE__{key}") } else { (*key).to_owned() };
        command.env(name, value);
    }
    command
}

/// The output of a command.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A bridge that serves; it is killed when it is dropped.
pub struct Running {
    child: Child,
    pub door: String,
    pub operator: String,
    pub sandbox: Option<String>,
    log: PathBuf,
}

impl Running {
    /// Starts `serve` with these arguments; returns when its listeners are open. Its log is `bridge.log` in the folder.
    pub fn start(folder: &Path, arguments: &[&str], environment: &Environment) -> Self {
        let arguments: Vec<&str> = std::iter::once("serve").chain(arguments.iter().copied()).collect();
        let is_with_sandbox = arguments.contains(&"--sandbox");
        Self::spawn(folder, command(&arguments, environment), is_with_sandbox)
    }

    /// Starts `serve` after these commands of a shell, which limit it.
    pub fn start_limited(folder: &Path, limits: &str, environment: &Environment) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("{limits}; exec {} serve", env!("CARGO_BIN_EXE_podero-bridge"));
        shell.args(["-c", &script]).env_clear().env("PATH", "/usr/bin:/bin");
        Self::spawn(folder, with(shell, environment), false)
    }

    /// Starts `serve` by these words, which begin the process that becomes it.
    pub fn start_through(folder: &Path, words: &[String], environment: &Environment) -> Self {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args([env!("CARGO_BIN_EXE_podero-bridge"), "serve", "--sandbox"]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        Self::spawn(folder, with(command, environment), true)
    }

    fn spawn(folder: &Path, mut command: Command, is_with_sandbox: bool) -> Self {
        let log = folder.join("bridge.log");
        let written = std::fs::File::options().create(true).append(true).open(&log).expect("a log");
        let mut child = command.stdout(Stdio::piped()).stderr(written).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut next = |name: &str| {
            let line = lines.next().unwrap_or_else(|| {
                panic!("it ended early:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
            });
            let line = line.expect("text");
            let url = line.strip_prefix(name).unwrap_or_else(|| panic!("{line} does not begin with {name}"));
            // Scheme and address.
            url.trim().split('/').take(3).collect::<Vec<_>>().join("/")
        };
        let (door, operator) = (next("webhooks"), next("operator"));
        let sandbox = is_with_sandbox.then(|| next("sandbox"));
        Self { child, door, operator, sandbox, log }
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("a log")
    }

    /// The most memory that it has had at once, bytes.
    pub fn memory_peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("Linux tells it");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of it");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as systemd would; its exit status.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
