//! Whether every route can do something: some message matches its source, and what it names is there: modules, their
//! inputs and outputs.

use super::Finding;
use crate::{commands::ports::Modules, run::parts};
use holdfast_config::Config;
use holdfast_routes::Route;
use holdfast_types::Sink;

pub fn check(config: &Config) -> Finding {
    let table = match parts::routes(config) {
        Ok(table) => table,
        Err(error) => return Finding::Error(format!("{error:#}")),
    };
    let mut modules = Modules::of(&config.paths.plugins);
    let faults = |route| why_idle(config, route).into_iter().chain(modules.faults(route));
    let idle: Vec<String> = table.routes().iter().flat_map(faults).collect();
    if idle.is_empty() {
        Finding::Ok(format!("{} routes", table.routes().len()))
    } else {
        Finding::Warning(idle.join("\n"))
    }
}

fn why_idle(config: &Config, route: &Route) -> Option<String> {
    if !route.source.can_match() {
        return Some(format!(
            "{}: no message has a source like {}; children are /messages, modules /messages/modules/NAME/outputs/OUTPUT",
            route.name,
            route.source.as_str()
        ));
    }
    match &route.sink {
        Sink::Input { module, .. } if !config.paths.plugins.join(format!("{module}.wasm")).exists() => {
            Some(format!(
                "{}: there is no module {module} in {}; its messages wait in the log until it comes or they expire",
                route.name,
                config.paths.plugins.display()
            ))
        }
        Sink::Upstream | Sink::Input { .. } | Sink::Topic(_) => None,
    }
}
