//! `holdfast demo`: the main job on this machine, with a cut link and a killed host, proved from the receiver's side.
//!
//! The edge is a process of its own, started from this very binary, so that killing it is real. The device, the link and
//! the receiver live in this process; they are what is outside of the edge.

mod device;
mod edge;
mod link;
mod proof;
mod receiver;
mod screen;

use crate::{cli::DemoArgs, output};
use anyhow::{Context, bail};
use device::Tally;
use edge::Edge;
use holdfast_net::{Door, ListenConfig, Listener, PlainTcp, Settings};
use link::Link;
use receiver::Account;
use screen::{Screen, View};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long each calm phase is shown.
const CALM: Duration = Duration::from_secs(4);
/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the screen is drawn.
const FRAME: Duration = Duration::from_millis(200);

/// Everything that takes part.
struct Stage {
    edge: Edge,
    link: Link,
    account: Account,
    tally: Tally,
    screen: Screen,
    cuts: u32,
    kills: u32,
}

/// Runs the demo. Gives whether nothing was lost.
pub async fn run(args: &DemoArgs, json: bool) -> anyhow::Result<bool> {
    let uplink = listener().await?;
    let receiver = listener().await?;
    let to = receiver.local();
    let account = Account::default();
    tokio::spawn(receiver::receive(receiver, account.clone()));
    let edge = Edge::prepare(uplink.local()).await?;
    let mut stage = Stage {
        link: Link::start(uplink, to),
        edge,
        account,
        tally: Tally::default(),
        screen: Screen::new(args.plain || json),
        cuts: 0,
        kills: 0,
    };
    stage.screen.note(&format!("the edge works in {}", stage.edge.folder().display()));
    let device_stop = CancellationToken::new();
    let device =
        tokio::spawn(device::publish(stage.edge.gateway(), stage.tally.clone(), device_stop.clone()));

    let played = play(&mut stage, args, &device_stop).await;
    device_stop.cancel();
    if let Err(error) = played {
        stage.screen.end();
        device.abort();
        let hint = format!("the edge's log is {}", stage.edge.log().display());
        stage.edge.kill().await.ok();
        return Err(error.context(hint));
    }
    device.await.context("the device ended badly")?;
    let faultless = conclude(&mut stage, json).await?;
    if args.keep {
        stage.screen.note(&format!(
            "the edge runs on; try: holdfast --config {} list   (Ctrl-C ends it)",
            stage.edge.config().display()
        ));
        tokio::signal::ctrl_c().await.context("Ctrl-C cannot be waited for")?;
    }
    stage.edge.stop().await?;
    if faultless {
        stage.edge.clean_up();
    }
    Ok(faultless)
}

async fn listener() -> anyhow::Result<Listener> {
    let config = ListenConfig {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        door: Door::Tcp,
        plain: PlainTcp::LoopbackOnly,
        settings: Settings::of_section("demo"),
    };
    Ok(Listener::bind(config).await?)
}

async fn play(stage: &mut Stage, args: &DemoArgs, device_stop: &CancellationToken) -> anyhow::Result<()> {
    let cut = Duration::from_secs(u64::from(args.cut));
    stage.edge.start().await?;
    stage
        .until("starting: modules compile, the device connects", |s| {
            s.tally.acknowledged() > 0 && s.account.ledger().streams().len() >= 3
        })
        .await?;
    stage.for_some("all is well: readings flow from modules and the device to the receiver", CALM).await?;

    stage.link.cut();
    stage.cuts += 1;
    stage.for_some("the link is CUT: the edge goes on, readings wait in its log", cut / 2).await?;
    stage.edge.kill().await?;
    stage.kills += 1;
    stage
        .for_some("the edge is KILLED with SIGKILL: no warning, no clean-up", Duration::from_millis(1500))
        .await?;
    stage.edge.start().await?;
    let before = stage.tally.acknowledged();
    stage.until("the edge starts again, still without a link", |s| s.tally.acknowledged() > before).await?;
    stage.for_some("it took up where it was; the link is still cut", cut / 2).await?;

    stage.link.restore();
    let behind = stage.tally.acknowledged();
    stage.until("the link is BACK: the log drains, in order", |s| s.received_from_device() >= behind).await?;
    stage.edge.kill().await?;
    stage.kills += 1;
    stage.for_some("KILLED once more, with messages under way", Duration::from_millis(800)).await?;
    stage.edge.start().await?;
    let before = stage.tally.acknowledged();
    stage.until("and started again", |s| s.tally.acknowledged() > before).await?;
    stage.for_some("all is well", CALM / 2).await?;
    device_stop.cancel();
    stage
        .until("the device stops; the last readings arrive", |s| {
            s.tally.acknowledged() == s.tally.sent() && s.received_from_device() >= s.tally.acknowledged()
        })
        .await
}

impl Stage {
    /// The highest reading of the device that has arrived.
    fn received_from_device(&self) -> u64 {
        self.account.ledger().last_number(edge::DEVICE_SOURCE)
    }

    /// Shows a phase for some time.
    async fn for_some(&mut self, phase: &str, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.draw(phase).await?;
            sleep(FRAME.min(end.saturating_duration_since(Instant::now()))).await;
        }
        Ok(())
    }

    /// Shows a phase until something has happened.
    async fn until(&mut self, phase: &str, happened: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while !happened(self) {
            if Instant::now() > end {
                bail!("this did not happen within {} s: {phase}", PATIENCE.as_secs());
            }
            self.draw(phase).await?;
            sleep(FRAME).await;
        }
        self.draw(phase).await
    }

    async fn draw(&mut self, phase: &str) -> anyhow::Result<()> {
        let edge = self.edge.look().await?;
        let view = {
            let ledger = self.account.ledger();
            View {
                phase,
                link_up: self.link.is_up(),
                edge,
                sent: self.tally.sent(),
                acknowledged: self.tally.acknowledged(),
                streams: ledger.streams().iter().map(|(name, s)| (name.clone(), s.readings)).collect(),
                deliveries: ledger.deliveries,
                duplicates: ledger.duplicates,
            }
        };
        self.screen.draw(&view)
    }
}

/// Says what the receiver's account proves. Gives whether nothing is wrong.
async fn conclude(stage: &mut Stage, json: bool) -> anyhow::Result<bool> {
    stage.screen.end();
    let acknowledged = stage.tally.acknowledged();
    let ledger = stage.account.ledger();
    let faults = ledger.faults(&[(edge::DEVICE_SOURCE, acknowledged)]);
    if json {
        output::json(&serde_json::json!({
            "acknowledged": acknowledged, "arrived": ledger.last_number(edge::DEVICE_SOURCE),
            "deliveries": ledger.deliveries, "duplicates_removed": ledger.duplicates, "gaps": ledger.gaps,
            "cuts": stage.cuts, "kills": stage.kills, "faults": faults,
        }))?;
        return Ok(faults.is_empty());
    }
    output::line("");
    output::line(format!("{} link cut, {} times SIGKILL. What the receiver saw:", stage.cuts, stage.kills));
    output::line("");
    let mut table = output::Table::new(["SENDER", ">READINGS", ">MISSING", ">SENT TWICE BY SENDER"]);
    for (name, stream) in ledger.streams() {
        let missing =
            if stream.last.is_some() { stream.missing.to_string() } else { "not numbered".to_owned() };
        table.row([name.clone(), stream.readings.to_string(), missing, stream.resent.to_string()]);
    }
    table.print();
    output::line("");
    output::line(format!(
        "{} deliveries, {} of them repeated and removed by their stable id, {} gaps.",
        ledger.deliveries, ledger.duplicates, ledger.gaps
    ));
    if faults.is_empty() {
        output::line(format!(
            "Nothing was lost: each of the device's {acknowledged} acknowledged readings\narrived, in order."
        ));
    }
    for fault in &faults {
        output::line(format!("FAULT: {fault}"));
    }
    Ok(faults.is_empty())
}
