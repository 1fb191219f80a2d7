//! `holdfast routes`: list routes, and explain what they would do. Those of the running edge if one answers, which may be
//! those of a deployment; else those of the configuration.

use super::{message, ports::Modules};
use crate::{
    cli::{ExplainArgs, RoutesCommand},
    output::{self, Table},
    run::{parts, shown},
};
use holdfast_api::{Client, Item, Request, RouteExplanation, RouteItem};
use holdfast_config::Config;
use holdfast_routes::{Route, RouteDefinition, RouteTable, Verdict};
use holdfast_types::{Durability, Envelope, Name, Priority, Source, UnixMillis, WhenFull};

/// Carries out a `routes` command.
pub async fn run(config: &Config, command: &RoutesCommand, json: bool) -> anyhow::Result<()> {
    let table = match running(config).await {
        Some(table) => table,
        None => parts::routes(config)?,
    };
    match command {
        RoutesCommand::List => list(config, &table, json),
        RoutesCommand::Explain(args) => explain_command(config, &table, args, json),
    }
}

/// The routes in force; none if no edge answers.
async fn running(config: &Config) -> Option<RouteTable> {
    let mut edge = Client::connect(&config.paths.control).await.ok()?;
    let items = edge.ask_all(&Request::Routes).await.ok()?;
    let definitions = items.into_iter().map(|item| match item {
        Item::Route(route) => definition(route),
        _ => None,
    });
    RouteTable::compile(definitions.collect::<Option<_>>()?).ok()
}

/// A route as the edge tells it.
fn definition(route: RouteItem) -> Option<RouteDefinition> {
    Some(RouteDefinition {
        priority: Priority::new(route.priority)?,
        time_to_live_secs: route.time_to_live_secs,
        durability: if route.durable { Durability::Durable } else { Durability::Volatile },
        when_full: [WhenFull::Block, WhenFull::DropOldest, WhenFull::DropNewest]
            .into_iter()
            .find(|policy| shown::when_full(*policy) == route.when_full)?,
        topic: route.topic,
        ..RouteDefinition::new(&route.name, route.text)
    })
}

fn list(config: &Config, table: &RouteTable, json: bool) -> anyhow::Result<()> {
    let mut modules = Modules::of(&config.paths.plugins);
    for fault in table.routes().iter().flat_map(|route| modules.faults(route)) {
        output::note(format!("note: {fault}"));
    }
    if json {
        return table.routes().iter().map(item).try_for_each(|route| output::json(&route));
    }
    let mut rows = Table::new(["ROUTE", "PRIORITY", "DURABLE", "WHEN FULL", "TEXT"]);
    for route in table.routes() {
        rows.row([
            route.name.to_string(),
            route.priority.to_string(),
            if route.durability == Durability::Durable { "yes" } else { "no" }.to_owned(),
            shown::when_full(route.when_full).to_owned(),
            route.text.to_string(),
        ]);
    }
    rows.print();
    Ok(())
}

fn explain_command(
    config: &Config,
    table: &RouteTable,
    args: &ExplainArgs,
    json: bool,
) -> anyhow::Result<()> {
    let (source, message) = message::parse(&args.message)?;
    if let Source::Module { module, output: Some(output) } = &source
        && let Some(fault) = Modules::of(&config.paths.plugins).no_output(module, output)
    {
        output::note(format!("note: {fault}"));
    }
    let envelope = Envelope { message, source, received: UnixMillis(0), hops: 0 };
    if json {
        return explain(table, &config.edge, &envelope).iter().try_for_each(output::json);
    }
    output::line(table.explain(&envelope, &config.edge, shown::origin(&envelope.source)).to_string());
    Ok(())
}

/// What every route would do with a message.
pub fn explain(table: &RouteTable, edge: &Name, envelope: &Envelope) -> Vec<RouteExplanation> {
    let explanation = table.explain(envelope, edge, shown::origin(&envelope.source));
    let one = |route: &holdfast_routes::RouteExplanation| {
        let findings = match &route.verdict {
            Verdict::NotTrue { findings, .. } => findings.as_slice(),
            Verdict::Taken | Verdict::Behind(_) | Verdict::SourceDiffers(..) => &[],
        };
        RouteExplanation {
            route: route.name.to_string(),
            sink: route.sink.to_string(),
            taken: matches!(route.verdict, Verdict::Taken),
            why: std::iter::once(route.verdict.to_string())
                .chain(findings.iter().map(ToString::to_string))
                .collect(),
        }
    };
    explanation.routes.iter().map(one).collect()
}

/// A route for programs.
pub fn item(route: &Route) -> RouteItem {
    RouteItem {
        name: route.name.to_string(),
        text: route.text.to_string(),
        sink: route.sink.to_string(),
        priority: route.priority.level(),
        time_to_live_secs: route.time_to_live_secs,
        durable: route.durability == Durability::Durable,
        when_full: shown::when_full(route.when_full).to_owned(),
        topic: route.topic.clone(),
    }
}
