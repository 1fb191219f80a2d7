//! `holdfast list`, `restart`, `stop`, `start`: modules.

use super::client;
use crate::output::{self, Table};
use holdfast_api::{Item, ModuleAction, ModuleItem, ModuleRequest, Request};
use std::path::Path;

/// Shows every module.
pub async fn list(control: &Path, json: bool) -> anyhow::Result<()> {
    show(&client::ask(control, &Request::Modules).await?, json)
}

/// Changes a module, or all of them, and shows how they are then.
pub async fn change(
    control: &Path,
    action: ModuleAction,
    module: Option<String>,
    json: bool,
) -> anyhow::Result<()> {
    let request = Request::Module(ModuleRequest { action, module });
    show(&client::ask(control, &request).await?, json)
}

fn show(items: &[Item], json: bool) -> anyhow::Result<()> {
    let modules = items.iter().filter_map(|item| match item {
        Item::Module(module) => Some(module),
        _ => None,
    });
    if json {
        return modules.into_iter().try_for_each(output::json);
    }
    let mut table = Table::new([
        "MODULE",
        "STATE",
        ">RESTARTS",
        ">HANDLED",
        ">SENT",
        ">WAITING",
        ">EXPIRED",
        ">DEAD",
        ">CPU",
        ">MEMORY",
        ">SWAPPED",
        "DETAIL",
    ]);
    let now = crate::run::shown::now().0;
    let mut any = false;
    for module in modules {
        any = true;
        table.row([
            module.name.clone(),
            module.state.clone(),
            module.restarts.to_string(),
            module.handled.to_string(),
            module.sent.to_string(),
            module.waiting.to_string(),
            module.expired.to_string(),
            module.failed.to_string(),
            format!("{}.{} %", module.cpu_permille / 10, module.cpu_permille % 10),
            output::bytes(module.memory_bytes),
            module
                .swapped_ms
                .map_or_else(String::new, |at| format!("{} ago", output::span(now.saturating_sub(at)))),
            detail(module),
        ]);
    }
    if any {
        table.print();
    } else {
        output::line("no modules; put a component into the plugins folder");
    }
    Ok(())
}

/// What to know of a module: what is wrong with it, or else which limits it has met.
fn detail(module: &ModuleItem) -> String {
    module.detail.clone().unwrap_or_else(|| {
        let met: Vec<String> =
            module.refusals.iter().map(|(limit, times)| format!("{limit} met {times} times")).collect();
        met.join(", ")
    })
}
