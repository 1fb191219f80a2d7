//! From a component to code for this machine, in a process of its own.
//!
//! The compiler takes ten times the memory of what it compiles, and the allocator keeps much of that for the life of
//! the process; a component that makes the compiler crash or never end would take the host with it. So the host calls
//! its own program again for each compile: component on standard input, code on standard output. Where no process can
//! be had, it compiles by itself and says so.

use crate::config::Profile;
use crate::load::{FILE_BYTES_MAX, NotAModule};
use crate::runtime::{self, Runtime};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::Builder;

/// Exit code of a compile that failed for what the component is. The words are on standard error.
const REFUSED: i32 = 3;

/// Most bytes of the words of a compile that failed.
const REASON_BYTES_MAX: usize = 4 * 1024;

/// Addresses that are set aside for the code of a compile; where memory is given out as it is touched, only what is written takes any. Of
/// a piece above 32 MB the allocator of glibc (64 bits) gives everything back; of a few megabytes that grow it keeps what it can.
const CODE_BYTES_RESERVED: usize = 33 << 20;

/// Where components are compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Compiler {
    /// In this process.
    #[default]
    InProcess,
    /// By a program that calls [`compile_as_child`] with the arguments that follow those given here.
    Process {
        /// The program: this one, in most cases.
        program: PathBuf,
        /// Its first arguments.
        arguments: Vec<OsString>,
    },
}

impl Compiler {
    /// The code of a component. Takes as long as a compile.
    pub(crate) fn compile(&self, runtime: &Runtime, bytes: &[u8]) -> Result<Vec<u8>, NotAModule> {
        let Self::Process { program, arguments } = self else { return in_process(runtime, bytes) };
        let shape = runtime.shape();
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg(if shape.profile == Profile::Small { "small" } else { "standard" })
            .arg(if shape.reserves { "reserve" } else { "grow" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let program = program.display();
                tracing::warn!(%program, %error, "no process for the compiler; this process compiles by itself");
                return in_process(runtime, bytes);
            }
        };
        let said = said(&mut child, bytes);
        if said.is_err() {
            let _ = child.kill();
        }
        // In any case: who is not waited for stays as a zombie.
        let ended = child.wait().and_then(|status| Ok((said?, status)));
        let (Said { code, words }, status) =
            ended.map_err(|error| NotAModule::CompilerFailed(error.to_string()))?;
        let words = String::from_utf8_lossy(&words);
        let words = crate::logs::cut(words.trim(), REASON_BYTES_MAX);
        match status.code() {
            Some(0) => Ok(code),
            Some(REFUSED) => Err(judged(words, bytes.len())),
            _ if words.is_empty() => Err(NotAModule::CompilerFailed(status.to_string())),
            _ => Err(NotAModule::CompilerFailed(format!("{status}: {words}"))),
        }
    }
}

/// What a compile wrote.
struct Said {
    code: Vec<u8>,
    words: Vec<u8>,
}

/// Gives a compile its component and reads what it writes, until it writes no more.
fn said(child: &mut Child, bytes: &[u8]) -> io::Result<Said> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        // A child that ends early says why; that its input is not taken then is no news.
        Builder::new().spawn_scoped(scope, move || stdin.map(|mut stdin| stdin.write_all(bytes)))?;
        let words = Builder::new().spawn_scoped(scope, move || {
            let mut words = Vec::new();
            let read = stderr.map(|mut stderr| stderr.read_to_end(&mut words));
            read.unwrap_or(Ok(0)).map(|_| words)
        })?;
        let mut code = Vec::new();
        // Without it, the code takes what it needs bit by bit.
        let _ = code.try_reserve_exact(CODE_BYTES_RESERVED);
        stdout.map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut code))?;
        let words = words.join().unwrap_or_else(|_| Ok(Vec::new()))?;
        Ok(Said { code, words })
    })
}

fn in_process(runtime: &Runtime, bytes: &[u8]) -> Result<Vec<u8>, NotAModule> {
    let code = runtime.engine().precompile_component(bytes);
    code.map_err(|error| judged(&format!("{error:#}"), bytes.len()))
}

fn judged(reason: &str, bytes: usize) -> NotAModule {
    if ["unexpected end", "unexpected eof", "is out of bounds (bound"]
        .iter()
        .any(|sign| reason.contains(sign))
    {
        NotAModule::Truncated { bytes }
    } else {
        NotAModule::Invalid(reason.to_owned())
    }
}

/// The child's side: compiles standard input to standard output. `arguments` are those that the host added. Gives the
/// exit code.
pub fn compile_as_child(arguments: &[String]) -> i32 {
    let (profile, reserves) = match arguments {
        [profile, memory] => {
            let profile = if profile == "small" { Profile::Small } else { Profile::Standard };
            (profile, memory == "reserve")
        }
        _ => {
            say("this is called by the host itself: PROFILE MEMORY < component > code");
            return 2;
        }
    };
    match compile_input(profile, reserves) {
        Ok(()) => 0,
        Err(reason) => {
            say(&reason);
            REFUSED
        }
    }
}

fn compile_input(profile: Profile, reserves: bool) -> Result<(), String> {
    let words = |error: io::Error| error.to_string();
    let mut bytes = Vec::new();
    io::stdin().lock().take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(words)?;
    let engine = runtime::compiling_engine(profile, reserves).map_err(|error| format!("{error:#}"))?;
    let code = engine.precompile_component(&bytes).map_err(|error| format!("{error:#}"))?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&code).and_then(|()| stdout.flush()).map_err(words)
}

fn say(text: &str) {
    // Nobody may listen any more.
    let _ = writeln!(io::stderr(), "{text}");
}
