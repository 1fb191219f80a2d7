//! Whether every route can do something: some message matches its source, and what it names is there: modules, their
//! inputs and outputs.

use super::Finding;
use crate::{commands::ports::Modules, output, run::parts};
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
        Finding::Ok(in_words(config.routes.len()))
    } else {
        Finding::Warning(idle.join("\n"))
    }
}

/// How many routes are configured.
fn in_words(configured: usize) -> String {
    match configured {
        0 => "none is configured: all messages go upstream".to_owned(),
        some => output::count(some, "route"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_configured_is_not_counted() {
        for (configured, words) in
            [(0, "none is configured: all messages go upstream"), (1, "1 route"), (2, "2 routes")]
        {
            assert_eq!(in_words(configured), words);
        }
    }
}
