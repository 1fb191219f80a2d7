//! Threads that stand behind all others of the process.

/// Where such a thread stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behind {
    /// The priority of the kernel, from -20 to 19, the last.
    #[cfg(target_os = "linux")]
    priority: i32,
}

impl Behind {
    /// Behind this thread: one that others want a whole processor of has about a tenth of it, and so its end.
    pub(crate) fn here() -> Self {
        Self {
            #[cfg(target_os = "linux")]
            priority: (linux::priority() + 10).min(19),
        }
    }

    /// From now on the system puts this thread there. On systems other than Linux it goes on as the equal of all others.
    pub(crate) fn step_back(self) {
        #[cfg(target_os = "linux")]
        if let Err(error) = linux::step_back(self.priority) {
            tracing::debug!(%error, "a thread cannot step back for others");
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{io, time::Duration};

    /// How long a thread may go on at once, a little longer than others (3 ms at most). Who has a shorter time takes the processor from it as
    /// soon as it has something to do again; with the same time it would often have to wait for the next tick of the clock, 4 ms later
    /// at worst (EEVDF of Linux 6.12 and later; before, the time is not looked at, and priority alone decides).
    const SLICE: Duration = Duration::from_millis(5);

    pub(super) fn priority() -> i32 {
        rustix::process::getpriority_process(None).unwrap_or_default()
    }

    /// Gives this thread a priority and longer slices than others have.
    pub(super) fn step_back(priority: i32) -> io::Result<()> {
        let attributes = libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: 0,
            sched_flags: libc::SCHED_FLAG_KEEP_POLICY as u64,
            sched_nice: priority,
            sched_priority: 0,
            sched_runtime: SLICE.as_nanos() as u64,
            sched_deadline: 0,
            sched_period: 0,
        };
        if set(&attributes).is_err() {
            // As in a sandbox that does not know this call.
            rustix::process::setpriority_process(None, priority)?;
        }
        Ok(())
    }

    #[expect(unsafe_code, reason = "no library has sched_setattr(2)")]
    fn set(attributes: &libc::sched_attr) -> io::Result<()> {
        // SAFETY: the kernel reads `size` bytes of what is borrowed for the call, and writes nothing.
        let failed = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, attributes, 0) } != 0;
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
