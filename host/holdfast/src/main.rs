//! Holdfast: an edge runtime in one binary.
//!
//! This room reads the command line, wires the others together, and starts and stops them in order. It is the only one
//! that ends the process.

mod certificates;
mod cli;
mod commands;
mod demo;
mod dialer;
mod environment;
mod identities;
mod module;
mod output;
mod registry;
mod run;
mod sync;
mod wire;

use anyhow::Context;
use clap::Parser;
use cli::{Cli, Command, HubCommand, MethodCommand};
use holdfast_api::ModuleAction;
use holdfast_config::Config;
use run::deployment::kept::Stored;
use std::{process::ExitCode, time::Duration};

/// Something was wrong with what was asked, or it could not be done.
const FAILED: u8 = 1;

/// The longest time for one compile: a component of 40 MB needs a minute on a small device.
const COMPILE_TIME_MAX: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Compile(args) = &cli.command {
        return compile(args);
    }
    #[cfg(windows)]
    if let Command::Service(cli::ServiceCommand::Run) = &cli.command {
        return exit_code(run::service::dispatch(move || work(cli)).map(|()| true));
    }
    exit_code(work(cli))
}

fn exit_code(ended: anyhow::Result<bool>) -> ExitCode {
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            output::note(format!("error: {error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Does what was asked, with threads. Gives whether all is well.
fn work(cli: Cli) -> anyhow::Result<bool> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.event_interval(holdfast_gateway::EVENT_INTERVAL).enable_all().build();
    let runtime = runtime.context("no threads can be started")?;
    let ended = runtime.block_on(carry_out(cli));
    // Everything that matters has ended in order. What a thread still waits for, such as a compile or a registry that does
    // not answer, must not keep the process, and with it the store's folder.
    runtime.shutdown_background();
    ended
}

/// The compiler's process: it ends with its work, and in any case after a time.
fn compile(args: &cli::CompileArgs) -> ExitCode {
    let late = std::thread::Builder::new().stack_size(128 * 1024).spawn(|| {
        std::thread::sleep(COMPILE_TIME_MAX);
        output::note(format!("not compiled within {} s", COMPILE_TIME_MAX.as_secs()));
        std::process::exit(FAILED.into());
    });
    if let Err(error) = late {
        output::note(format!("error: no threads can be started: {error}"));
        return ExitCode::from(FAILED);
    }
    let code = holdfast_engine::compile_as_child(&args.arguments);
    ExitCode::from(u8::try_from(code).unwrap_or(FAILED))
}

/// Does what was asked. Gives whether all is well.
async fn carry_out(cli: Cli) -> anyhow::Result<bool> {
    let json = cli.json;
    let config = || commands::config(cli.config.as_deref());
    let control = || config().map(|config| config.paths.control);
    match &cli.command {
        Command::Init(args) => commands::init::run(args, json)?,
        Command::Run(args) => {
            let config = config()?;
            let file = args.deployment.as_deref().map(run::deployment::from_file).transpose()?;
            run_edge(config, file).await?;
        }
        Command::Demo(args) => return demo::run(args, json).await,
        Command::Status => commands::status::run(&control()?, json).await?,
        Command::Upstream(args) => commands::upstream::run(&control()?, args, json).await?,
        Command::Metrics => commands::metrics::run(&control()?, json).await?,
        Command::List => commands::list::list(&control()?, json).await?,
        Command::Logs(args) => commands::logs::logs(&control()?, args, json).await?,
        Command::Log(args) => commands::logs::level(&control()?, args, json).await?,
        Command::Restart(args) => {
            commands::list::change(&control()?, ModuleAction::Restart, args.module.clone(), json).await?;
        }
        Command::Stop(args) => match &args.module {
            Some(module) => {
                commands::list::change(&control()?, ModuleAction::Stop, Some(module.clone()), json).await?;
            }
            None => {
                commands::client::stop(&control()?).await?;
                if json {
                    output::json(&serde_json::json!({ "stopped": true }))?;
                }
            }
        },
        Command::Start(args) => {
            commands::list::change(&control()?, ModuleAction::Start, Some(args.module.clone()), json).await?;
        }
        Command::Send(args) => commands::send::run(&control()?, args, json).await?,
        Command::CloudToDevice(args) => commands::method::cloud_to_device(&control()?, args, json).await?,
        Command::Twin(command) => commands::twin::run(&control()?, command, json).await?,
        Command::Method(MethodCommand::Call(args)) => {
            return commands::method::call(&control()?, args, json).await;
        }
        Command::Record(args) => commands::record::run(&control()?, args, json).await?,
        Command::Tail(args) => commands::tail::run(&control()?, args, json).await?,
        Command::Queue(command) => commands::queue::run(&control()?, command, json).await?,
        Command::Routes(command) => commands::routes::run(&config()?, command, json).await?,
        Command::Deployment(command) => {
            return commands::deployment::run(&config()?, command, json).await;
        }
        Command::Certificate(command) => commands::certificate::run(&config()?, command, json)?,
        Command::Check(args) => return commands::check::run(cli.config.as_deref(), args, json).await,
        Command::Device(command) => commands::device::run(&config()?, command, json).await?,
        Command::Session(command) => commands::session::run(&control()?, command, json).await?,
        #[cfg(windows)]
        Command::Service(cli::ServiceCommand::Run) => run_edge(config()?, None).await?,
        Command::Service(command) => commands::service::run(cli.config.as_deref(), command, json)?,
        Command::Hub(args) => match &args.command {
            HubCommand::Init(init) => commands::hub::init(init, json)?,
            HubCommand::Run => {
                let config = commands::hub::config(cli.config.as_deref())?;
                let log = run::logging::start(config.log.level);
                run::hub::run(config, log).await?;
            }
            _ => return commands::hub::run(cli.config.as_deref(), args, json).await,
        },
        Command::Module(command) => return commands::module::run(cli.config.as_deref(), command, json).await,
        // It was carried out before there were threads.
        Command::Compile(_) => {}
    }
    Ok(true)
}

async fn run_edge(config: Config, deployment: Option<Stored>) -> anyhow::Result<()> {
    let log = run::logging::start(config.log.level);
    run::run(config, log, deployment).await
}
