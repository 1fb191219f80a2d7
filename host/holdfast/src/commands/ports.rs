//! Whether the inputs and outputs that routes name are there: those that the modules of the plugins folder declare.

use holdfast_engine::{Ports, Wants};
use holdfast_routes::Route;
use holdfast_types::Sink;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The modules of a plugins folder, each looked into when a route names it.
pub struct Modules {
    folder: PathBuf,
    known: BTreeMap<String, Option<Wants>>,
}

impl Modules {
    /// Those of this folder.
    pub fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), known: BTreeMap::new() }
    }

    /// What is wrong with the ends of a route, a line each.
    pub fn faults(&mut self, route: &Route) -> Vec<String> {
        let mut faults = Vec::new();
        if let Some((module, output)) = route.source.named_output() {
            faults.extend(self.no_output(&module, &output));
        }
        if let Sink::Input { module, input } = &route.sink {
            faults.extend(self.no_input(module, input));
        }
        faults.iter().map(|fault| format!("{}: {fault}", route.name)).collect()
    }

    /// That a module sends nothing by an output, if it is there and declares others.
    pub fn no_output(&mut self, module: &str, output: &str) -> Option<String> {
        let outputs = &self.wants(module)?.outputs;
        (!outputs.have_in_any_case(output)).then(|| absent(module, "output", output, outputs))
    }

    /// That a module takes nothing by an input, if it is there and declares others.
    fn no_input(&mut self, module: &str, input: &str) -> Option<String> {
        let inputs = &self.wants(module)?.inputs;
        (!inputs.have(input)).then(|| absent(module, "input", input, inputs))
    }

    fn wants(&mut self, module: &str) -> Option<&Wants> {
        if !self.known.contains_key(module) {
            let read = |end: &str| fs::read(self.folder.join(format!("{module}.{end}"))).ok();
            let settings = read("toml").and_then(|bytes| String::from_utf8(bytes).ok());
            let wants = match (read("wasm"), settings) {
                (None, None) => None,
                // Of a component in a registry what the settings say is all that is known here.
                (component, settings) => {
                    Some(Wants::of(&component.unwrap_or_default(), &settings.unwrap_or_default()))
                }
            };
            self.known.insert(module.to_owned(), wants);
        }
        self.known.get(module)?.as_ref()
    }
}

fn absent(module: &str, what: &str, name: &str, declared: &Ports) -> String {
    let names = declared.names().unwrap_or_default();
    match holdfast_config::nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("{module} declares no {what} {name:?}; write {near:?}"),
        None => format!("{module} declares no {what} {name:?}; it has: {declared}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_routes::{RouteDefinition, RouteTable};

    /// What is wrong with a route between two modules, one of which is there and declares what its settings say.
    fn faults(settings: &str, route: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("m.toml"), settings).unwrap();
        let table = RouteTable::compile(vec![RouteDefinition::new("r", route)]).unwrap();
        Modules::of(folder.path()).faults(&table.routes()[0])
    }

    #[test]
    fn a_route_from_or_to_what_no_module_declares_is_named_with_what_is_near() {
        let settings = "inputs = [\"readings\"]\noutputs = [\"changes\", \"line-*\"]\n";
        for (route, expected) in [
            (
                "FROM /messages/modules/m/outputs/chnages INTO $upstream",
                &["r: m declares no output \"chnages\"; write \"changes\""][..],
            ),
            ("FROM /messages/modules/m/outputs/CHANGES INTO $upstream", &[]),
            ("FROM /messages/modules/m/outputs/line-7/* INTO $upstream", &[]),
            ("FROM /messages/modules/m/* INTO $upstream", &[]),
            ("FROM /messages/* INTO $upstream", &[]),
            ("FROM /messages/modules/other/outputs/chnages INTO $upstream", &[]),
            (
                "FROM /messages/modules/m/outputs/x INTO BrokeredEndpoint(\"/modules/m/inputs/commands\")",
                &[
                    "r: m declares no output \"x\"; it has: changes, line-*",
                    "r: m declares no input \"commands\"; it has: readings",
                ],
            ),
            ("FROM /messages/* INTO BrokeredEndpoint(\"/modules/m/inputs/readings\")", &[]),
        ] {
            assert_eq!(faults(settings, route), expected, "{route}");
        }
        let into = "FROM /messages/* INTO BrokeredEndpoint(\"/modules/m/inputs/in\")";
        assert_eq!(faults("inputs = []\n", into), ["r: m declares no input \"in\"; it has: none"]);
        assert!(faults("", into).is_empty(), "one that declares nothing goes on as it always has");
    }
}
