//! A service of Windows, and its place in the event log.

use crate::{
    cli::{LOCAL_SYSTEM, ServiceInstallArgs, ServiceRemoveArgs},
    output,
    run::{
        event_log,
        service::{NAME, PENDING_MAX},
    },
};
use anyhow::{Context, bail};
use std::{
    ffi::OsString,
    fmt::Write,
    io,
    path::Path,
    time::{Duration, Instant},
};
use windows_service::{
    Error,
    service::{
        Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceErrorControl, ServiceFailureActions,
        ServiceFailureResetPeriod, ServiceInfo, ServiceStartType, ServiceState, ServiceType,
    },
    service_manager::{ServiceManager, ServiceManagerAccess},
};

const TITLE: &str = "Holdfast edge runtime";
const WHAT: &str = "Runs modules, and stores and forwards their messages and those of devices.";
/// An edge that failed is there again after so long, however often that happens.
const RESTART: Duration = Duration::from_secs(2);
/// How long the stop of a service that is removed may take: it may still start.
const STOP_PATIENCE: Duration = Duration::from_secs(2 * PENDING_MAX.as_secs());

/// How accounts that have no password begin; those that Windows manages the password of end with `$`.
const PASSWORDLESS: [&str; 3] = [LOCAL_SYSTEM, r"NT AUTHORITY\", r"NT SERVICE\"];

// Of winerror.h.
const ACCESS_DENIED: i32 = 5;
const NOT_TAKEN: i32 = 1052;
const NO_SUCH_SERVICE: i32 = 1060;
const NOT_TAKEN_NOW: i32 = 1061;
const NOT_ACTIVE: i32 = 1062;
const EXISTS: i32 = 1073;

/// Makes the service, or changes it if it is there.
pub fn install(config: Option<&Path>, args: &ServiceInstallArgs, json: bool) -> anyhow::Result<()> {
    let info = info(config, args)?;
    let manager = manager(ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE)?;
    // A service that starts another, or itself again, needs the right to start it.
    let access = ServiceAccess::CHANGE_CONFIG | ServiceAccess::START;
    let service = match manager.create_service(&info, access) {
        Err(error) if code(&error) == Some(EXISTS) => {
            let service = manager.open_service(NAME, access).map_err(explained)?;
            service.change_config(&info).map_err(explained)?;
            service
        }
        made => made.map_err(explained)?,
    };
    service.set_description(WHAT).map_err(explained)?;
    service.set_preshutdown_timeout(PENDING_MAX).map_err(explained)?;
    event_log::register(NAME)?;
    if let Err(error) = restart(&service) {
        output::note(format!("warning: it is not started again when it fails: {}", explained(error)));
    }
    if json {
        return output::json(&serde_json::json!({ "service": NAME }));
    }
    output::line(format!("the service {NAME} starts with the machine, as {}", args.user));
    output::line(format!("start it:   sc.exe start {NAME}"));
    output::line(format!("its log:    Get-WinEvent -ProviderName {NAME} -MaxEvents 50   (PowerShell)"));
    output::line("remove it:  holdfast service remove");
    Ok(())
}

/// Has Windows start it again when it fails.
fn restart(service: &Service) -> windows_service::Result<()> {
    let again = ServiceAction { action_type: ServiceActionType::Restart, delay: RESTART };
    // What is done after the last of them is done from then on.
    service.update_failure_actions(ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::Never,
        reboot_msg: None,
        command: None,
        actions: Some(vec![again]),
    })?;
    service.set_failure_actions_on_non_crash_failures(true)
}

/// Stops the service and removes it.
pub fn remove(_: &ServiceRemoveArgs, json: bool) -> anyhow::Result<()> {
    let access = ServiceAccess::QUERY_STATUS | ServiceAccess::STOP | ServiceAccess::DELETE;
    let service = manager(ServiceManagerAccess::CONNECT)?.open_service(NAME, access).map_err(explained)?;
    let end = Instant::now() + STOP_PATIENCE;
    while service.query_status().map_err(explained)?.current_state != ServiceState::Stopped {
        match service.stop().map(drop) {
            // One that starts, or stops already, takes no order.
            Err(error) if !matches!(code(&error), Some(NOT_TAKEN | NOT_TAKEN_NOW | NOT_ACTIVE)) => {
                return Err(explained(error));
            }
            _ => {}
        }
        if Instant::now() > end {
            bail!("the service {NAME} does not stop; end its process, and do this again");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    service.delete().map_err(explained)?;
    event_log::unregister(NAME)?;
    if json {
        return output::json(&serde_json::json!({ "removed": NAME }));
    }
    output::line(format!("removed the service {NAME}; its configuration and data are where they were"));
    Ok(())
}

/// What would be installed.
pub fn text(config: Option<&Path>, args: &ServiceInstallArgs) -> anyhow::Result<String> {
    let info = info(config, args)?;
    let mut text = format!("service   {NAME} ({TITLE})\nprogram   {}", info.executable_path.display());
    for argument in &info.launch_arguments {
        let argument = argument.to_string_lossy();
        let quote = if argument.contains(' ') { "\"" } else { "" };
        write!(text, " {quote}{argument}{quote}")?;
    }
    write!(text, "\nstart     with the machine; again {} s after it failed", RESTART.as_secs())?;
    write!(text, "\nuser      {}\nlog       the event log, Application, source {NAME}\n", args.user)?;
    Ok(text)
}

fn info(config: Option<&Path>, args: &ServiceInstallArgs) -> anyhow::Result<ServiceInfo> {
    let config = config.context("say which configuration: holdfast --config FILE service install")?;
    if !config.is_file() {
        bail!("there is no {}; `holdfast init` makes a configuration", config.display());
    }
    let has_password =
        !PASSWORDLESS.iter().any(|begin| starts_with(&args.user, begin)) && !args.user.ends_with('$');
    if has_password {
        bail!(
            "{} has a password, which is not asked for here; install it without --user, then: sc.exe config {NAME} obj= {} password= …",
            args.user,
            args.user
        );
    }
    // A service begins in the folder of the system.
    let config = std::path::absolute(config)?;
    Ok(ServiceInfo {
        name: NAME.into(),
        display_name: TITLE.into(),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: std::env::current_exe().context("this program has no path of its own")?,
        launch_arguments: vec!["--config".into(), config.into(), "service".into(), "run".into()],
        dependencies: Vec::new(),
        account_name: Some(OsString::from(&args.user)),
        // No password is "as it was", which is what a managed account wants, and an empty one is that of accounts of the system.
        account_password: (!args.user.ends_with('$')).then(OsString::new),
    })
}

fn starts_with(text: &str, begin: &str) -> bool {
    text.get(..begin.len()).is_some_and(|text| text.eq_ignore_ascii_case(begin))
}

fn manager(access: ServiceManagerAccess) -> anyhow::Result<ServiceManager> {
    ServiceManager::local_computer(None::<&str>, access).map_err(explained)
}

/// The number that Windows gave.
fn code(error: &Error) -> Option<i32> {
    match error {
        Error::Winapi(error) => error.raw_os_error(),
        _ => None,
    }
}

/// What Windows said, and what to do.
fn explained(error: Error) -> anyhow::Error {
    let why = match error {
        Error::Winapi(error) => error,
        other => io::Error::other(other),
    };
    let advice = match why.raw_os_error() {
        Some(ACCESS_DENIED) => "; run this as an administrator",
        Some(NO_SUCH_SERVICE) => "; `holdfast service install` makes it",
        _ => "",
    };
    anyhow::anyhow!("the service {NAME}: {why}{advice}")
}
