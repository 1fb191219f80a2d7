//! The demo's live screen, or plain lines where there is no terminal.

use super::edge::Look;
use crate::output;
use crossterm::{
    ExecutableCommand, QueueableCommand, cursor,
    style::{Print, Stylize},
    terminal::{Clear, ClearType},
};
use std::io::{IsTerminal, Write, stdout};

/// What is shown.
pub struct View<'a> {
    pub phase: &'a str,
    pub link_up: bool,
    pub edge: Look,
    pub sent: u64,
    pub acknowledged: u64,
    pub streams: Vec<(String, u64)>,
    pub events: u64,
    pub duplicates: u64,
}

/// Draws in place on a terminal; prints a line for each new phase elsewhere.
pub struct Screen {
    live: bool,
    lines: u16,
    last_phase: String,
}

impl Screen {
    pub fn new(plain: bool) -> Self {
        Self { live: !plain && stdout().is_terminal(), lines: 0, last_phase: String::new() }
    }

    /// Prints a line that stays.
    pub fn note(&mut self, text: &str) {
        self.lines = 0;
        output::note(text);
    }

    /// Draws.
    pub fn draw(&mut self, view: &View<'_>) -> anyhow::Result<()> {
        if !self.live {
            if self.last_phase != view.phase {
                view.phase.clone_into(&mut self.last_phase);
                output::note(format!("{} | {}", view.phase, summary(view)));
            }
            return Ok(());
        }
        let lines = lines(view);
        let mut out = stdout().lock();
        if self.lines > 0 {
            out.queue(cursor::MoveToPreviousLine(self.lines))?;
        }
        for line in &lines {
            out.queue(Clear(ClearType::CurrentLine))?.queue(Print(line))?.queue(Print("\r\n"))?;
        }
        out.queue(Clear(ClearType::FromCursorDown))?;
        out.flush()?;
        self.lines = u16::try_from(lines.len()).unwrap_or(u16::MAX);
        Ok(())
    }

    /// Leaves the last picture where it is.
    pub fn end(&mut self) {
        if self.live {
            // The picture stays; a terminal that has gone away needs nothing more.
            let _ = stdout().execute(cursor::Show);
        }
        self.lines = 0;
    }
}

fn summary(view: &View<'_>) -> String {
    format!(
        "device sent {} acknowledged {}, the hub has {} and dropped {} that came again",
        view.sent, view.acknowledged, view.events, view.duplicates
    )
}

fn lines(view: &View<'_>) -> Vec<String> {
    let link =
        if view.link_up { "═════════".green() } else { "═══ ╳ ═══".red() };
    let edge = match &view.edge {
        Look::Down => "killed".red().to_string(),
        Look::Starting => "starting".yellow().to_string(),
        Look::Up { .. } => "running".green().to_string(),
    };
    let mut lines = vec![
        String::new(),
        format!("  {}", view.phase.bold()),
        String::new(),
        format!("  device ───▶ edge ({edge}) {link} hub"),
        String::new(),
        format!("  device     sent {:>8}   acknowledged {:>8}", view.sent, view.acknowledged),
    ];
    match &view.edge {
        Look::Up { waiting, modules } => {
            lines.push(format!("  edge       waiting in the log {waiting:>8}"));
            for (name, state, handled, sent) in modules {
                lines.push(format!("    {name:<14} {state:<9} handled {handled:>8}   sent {sent:>8}"));
            }
        }
        Look::Down | Look::Starting => lines.push("  edge       –".to_owned()),
    }
    lines.push(format!(
        "  hub        in its stream {:>8}   dropped as repeated {:>6}",
        view.events, view.duplicates
    ));
    for (name, readings) in &view.streams {
        lines.push(format!("    {name:<38} {readings:>8}"));
    }
    lines
}
