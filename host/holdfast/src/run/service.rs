//! The run as a service of Windows: the service control manager starts it, is told how it is, and asks it to stop.

use super::{event_log, notify::Moment};
use anyhow::Context;
use std::{
    ffi::OsString,
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use windows_service::{
    define_windows_service,
    service::{
        ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
    },
    service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle},
    service_dispatcher,
};

/// The name that the service and the source of its events have.
pub const NAME: &str = "holdfast";
/// How long a start or a stop may take before the manager calls it late. The parts of an edge have 24 s together to stop in order.
pub const PENDING_MAX: Duration = Duration::from_secs(60);
/// What is told of an end that was no success; why is in the event log.
const FAILED: u32 = 1;

type Work = Box<dyn FnOnce() -> anyhow::Result<bool> + Send>;

// What calls back into this process can be given nothing: `WORK` is what it is to do, `STATUS` is there where it is a service, and
// `STOP` is cancelled when the manager asks it to stop.
static WORK: Mutex<Option<Work>> = Mutex::new(None);
static STATUS: OnceLock<ServiceStatusHandle> = OnceLock::new();
static STOP: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);

define_windows_service!(begin, carry_out);

/// Does the work as a service, and returns when it has stopped.
///
/// # Errors
/// It was not the service control manager that started this process.
pub fn dispatch(work: impl FnOnce() -> anyhow::Result<bool> + Send + 'static) -> anyhow::Result<()> {
    *WORK.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(work));
    service_dispatcher::start(NAME, begin).with_context(|| {
        format!("only Windows starts this, when it is told `sc.exe start {NAME}`; in a console it is `holdfast run`")
    })
}

fn carry_out(_: Vec<OsString>) {
    match service_control_handler::register(NAME, obey) {
        Ok(status) => STATUS.get_or_init(|| status),
        Err(error) => {
            // The manager would wait for what it is told.
            event_log::report_error(
                NAME,
                &format!("Windows does not take this process as the service: {error}"),
            );
            std::process::exit(1);
        }
    };
    say(ServiceState::StartPending, ServiceExitCode::NO_ERROR);
    let work = WORK.lock().unwrap_or_else(PoisonError::into_inner).take();
    let ended = work.map_or(Ok(true), |work| work());
    if let Err(error) = &ended {
        event_log::report_error(NAME, &format!("{error:#}"));
    }
    // A service that failed is started again, which nobody wants who told it to stop.
    let is_good = matches!(ended, Ok(true)) || STOP.is_cancelled();
    let code = if is_good { ServiceExitCode::NO_ERROR } else { ServiceExitCode::ServiceSpecific(FAILED) };
    say(ServiceState::Stopped, code);
}

/// Called by Windows. It holds nothing: what it held would be gone after the first stop, and it may be called once more.
fn obey(control: ServiceControl) -> ServiceControlHandlerResult {
    match control {
        ServiceControl::Stop | ServiceControl::Preshutdown => {
            say(ServiceState::StopPending, ServiceExitCode::NO_ERROR);
            STOP.cancel();
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    }
}

fn say(state: ServiceState, exit_code: ServiceExitCode) {
    let Some(status) = STATUS.get() else { return };
    let is_pending = matches!(state, ServiceState::StartPending | ServiceState::StopPending);
    // The end of the machine leaves seconds to whoever is told of it, and as long as was asked for at the installation to whoever is
    // told before. What is not running yet, or no more, takes no order.
    let controls_accepted = match state {
        ServiceState::Running => ServiceControlAccept::STOP | ServiceControlAccept::PRESHUTDOWN,
        _ => ServiceControlAccept::empty(),
    };
    let now = ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted,
        exit_code,
        checkpoint: 0,
        wait_hint: if is_pending { PENDING_MAX } else { Duration::ZERO },
        process_id: None,
    };
    if let Err(error) = status.set_service_status(now) {
        tracing::warn!(?state, %error, "the service control manager was not told");
    }
}

/// Whether this process is a service.
pub fn is_running() -> bool {
    STATUS.get().is_some()
}

/// Tells the manager, if this is a service.
pub fn tell(moment: Moment) {
    let state = match moment {
        Moment::Ready => ServiceState::Running,
        Moment::Stopping => ServiceState::StopPending,
    };
    say(state, ServiceExitCode::NO_ERROR);
}

/// Waits until the manager asks this process to stop.
pub async fn stop_asked() {
    STOP.cancelled().await;
}
