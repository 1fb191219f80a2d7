//! The memory bound of one instance.

use crate::config::Limits;
use crate::module_log::ModuleLog;
use wasmtime::ResourceLimiter;

/// Counts the linear memories of an instance together and refuses what goes beyond the bound.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: Limits,
    log: ModuleLog,
    memory_bytes: u64,
    /// Whether growth is shown at once: nobody looks at a program between calls.
    shows: bool,
    refused: Option<String>,
}

impl Limiter {
    pub(crate) const fn new(limits: Limits, log: ModuleLog, shows: bool) -> Self {
        Self { limits, log, memory_bytes: 0, shows, refused: None }
    }

    /// Bytes of linear memory that the instance holds.
    pub(crate) const fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn refuse(&mut self, limit: &'static str, text: String) {
        self.log.refuse(limit, || format!("refused: {text}"));
        self.refused = Some(text);
    }

    /// What was refused since the last look: most likely the cause of a trap.
    pub(crate) fn take_refused(&mut self) -> Option<String> {
        self.refused.take()
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let wanted = self.memory_bytes.saturating_add(desired.saturating_sub(current) as u64);
        if wanted > self.limits.memory_bytes {
            let text = format!(
                "it asked for {wanted} bytes of memory, {} are allowed; raise limits.memory_bytes in the module's \
                 .toml if it needs them",
                self.limits.memory_bytes
            );
            self.refuse("limits.memory_bytes", text);
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.memory_bytes = wanted;
        if self.shows {
            self.log.holds(wanted);
        }
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let max = self.limits.table_elements as usize;
        if desired > max {
            let text = format!(
                "it asked for a table of {desired} elements, {max} are allowed; raise limits.table_elements in the \
                 module's .toml if it needs them"
            );
            self.refuse("limits.table_elements", text);
            return Ok(false);
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        self.limits.instances as usize
    }

    fn tables(&self) -> usize {
        self.limits.tables as usize
    }

    fn memories(&self) -> usize {
        self.limits.memories as usize
    }
}
