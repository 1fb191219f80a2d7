//! `holdfast list`, `restart`, `stop`, `start`: modules.

use super::client;
use crate::output::{self, Table};
use holdfast_api::{Item, ModuleAction, ModuleRequest, Request};
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
        ">DEAD",
        ">MEMORY",
        "DETAIL",
    ]);
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
            module.failed.to_string(),
            output::bytes(module.memory_bytes),
            module.detail.clone().unwrap_or_default(),
        ]);
    }
    if any {
        table.print();
    } else {
        output::line("no modules; put a component into the plugins folder");
    }
    Ok(())
}
