//! The run as a service of Windows: the service control manager starts it, is told how it is, and asks it to stop.

use super::{event_log, notify::Moment};
use anyhow::Context;
use std::{
    ffi::OsString,
    sync::{Mutex, OnceLock, PoisonError},
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
const PENDING_MAX: Duration = Duration::from_secs(60);
/// What is told of an end that was no success; why is in the event log.
const FAILED: u32 = 1;

type Work = Box<dyn FnOnce() -> anyhow::Result<bool> + Send>;

/// This process, where it is a service.
struct Service {
    status: ServiceStatusHandle,
    stop: CancellationToken,
}

// What calls back into this process can be given nothing.
static WORK: Mutex<Option<Work>> = Mutex::new(None);
static SERVICE: OnceLock<Service> = OnceLock::new();

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
    let stop = CancellationToken::new();
    let asked = stop.clone();
    let handler = move |control| match control {
        ServiceControl::Stop | ServiceControl::Shutdown => {
            asked.cancel();
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    };
    // Without it the manager sees the process end, and says so.
    let Ok(status) = service_control_handler::register(NAME, handler) else { return };
    let service = SERVICE.get_or_init(|| Service { status, stop });
    service.says(ServiceState::StartPending, ServiceExitCode::NO_ERROR);
    let work = WORK.lock().unwrap_or_else(PoisonError::into_inner).take();
    let ended = match work.map(|work| work()) {
        Some(Err(error)) => {
            event_log::report_error(NAME, &format!("{error:#}"));
            ServiceExitCode::ServiceSpecific(FAILED)
        }
        Some(Ok(false)) => ServiceExitCode::ServiceSpecific(FAILED),
        Some(Ok(true)) | None => ServiceExitCode::NO_ERROR,
    };
    service.says(ServiceState::Stopped, ended);
}

impl Service {
    fn says(&self, state: ServiceState, exit_code: ServiceExitCode) {
        let is_pending = matches!(state, ServiceState::StartPending | ServiceState::StopPending);
        let controls_accepted = match state {
            // A stop that is asked for during the start is done when that has ended.
            ServiceState::StartPending | ServiceState::Running => {
                ServiceControlAccept::STOP | ServiceControlAccept::SHUTDOWN
            }
            _ => ServiceControlAccept::empty(),
        };
        let status = ServiceStatus {
            service_type: ServiceType::OWN_PROCESS,
            current_state: state,
            controls_accepted,
            exit_code,
            checkpoint: 0,
            wait_hint: if is_pending { PENDING_MAX } else { Duration::ZERO },
            process_id: None,
        };
        if let Err(error) = self.status.set_service_status(status) {
            tracing::warn!(?state, %error, "the service control manager was not told");
        }
    }
}

/// Whether this process is a service.
pub fn is_running() -> bool {
    SERVICE.get().is_some()
}

/// Tells the manager, if this is a service.
pub fn tell(moment: Moment) {
    if let Some(service) = SERVICE.get() {
        let state = match moment {
            Moment::Ready => ServiceState::Running,
            Moment::Stopping => ServiceState::StopPending,
        };
        service.says(state, ServiceExitCode::NO_ERROR);
    }
}

/// Waits until the manager asks this process to stop.
pub async fn stop_asked() {
    match SERVICE.get() {
        Some(service) => service.stop.cancelled().await,
        None => std::future::pending().await,
    }
}
