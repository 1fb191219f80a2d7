//! `holdfast demo`: the main job on this machine, with a cut link and a killed host, proved from the hub's stream.
//!
//! The edge and the hub are processes of their own, started from this very binary, so that killing one is real. The device
//! and the link live in this process, and so does the consumer that reads the stream.

mod device;
mod edge;
mod hub;
mod link;
mod process;
mod proof;
mod screen;

use crate::{cli::DemoArgs, output, run::signals};
use anyhow::{Context, bail};
use device::Tally;
use edge::Edge;
use holdfast_net::{Door, ListenConfig, Listener, PlainTcp, Settings};
use hub::{Account, Hub};
use link::Link;
use screen::{Screen, View};
use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long each calm phase is shown.
const CALM: Duration = Duration::from_secs(4);
/// How long anything that must happen may take. Usually it is seconds; in an emulator of another processor a start that compiles
/// takes minutes.
const PATIENCE: Duration = Duration::from_mins(5);
/// How often the screen is drawn.
const FRAME: Duration = Duration::from_millis(200);

/// Everything that takes part.
struct Stage {
    edge: Edge,
    hub: Hub,
    link: Link,
    account: Account,
    tally: Tally,
    screen: Screen,
    cuts: u32,
    kills: u32,
}

/// Runs the demo. Gives whether nothing was lost. However it ends, the processes that it started end with it: a signal is
/// an error like any other, and what is dropped here is killed.
pub async fn run(args: &DemoArgs, json: bool) -> anyhow::Result<bool> {
    let (mut stage, faultless) = tokio::select! {
        performed = perform(args, json) => performed?,
        () = signals::received() => bail!("the demo was interrupted; its edge and its hub were ended"),
    };
    if args.keep {
        stage.screen.note(&format!(
            "edge and hub run on; try: holdfast --config {} list, or holdfast --config {} hub monitor   (Ctrl-C ends them)",
            stage.edge.config().display(),
            stage.hub.config().display()
        ));
        signals::received().await;
    }
    stage.edge.stop().await?;
    stage.hub.end().await;
    if faultless {
        stage.edge.clean_up();
    }
    Ok(faultless)
}

/// Plays it and says what it proved. The edge and the hub run on.
async fn perform(args: &DemoArgs, json: bool) -> anyhow::Result<(Stage, bool)> {
    let uplink = listener().await?;
    let folder = new_folder()?;
    let hub = Hub::start(hub::folder(&folder)).await?;
    let account = Account::default();
    tokio::spawn(hub::follow(hub.client()?, account.clone()));
    let edge = Edge::prepare(folder, uplink.local(), hub.edge_key()).await?;
    let mut stage = Stage {
        link: Link::start(uplink, hub.door()),
        edge,
        hub,
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
        let (edge, hub) = (stage.edge.log(), stage.hub.log());
        return Err(error.context(format!(
            "the edge's log is {}, the hub's {}",
            edge.display(),
            hub.display()
        )));
    }
    device.await.context("the device ended badly")?;
    let faultless = conclude(&mut stage, json).await?;
    Ok((stage, faultless))
}

/// A folder of its own: one of this process number may be left from a demo that failed.
fn new_folder() -> anyhow::Result<PathBuf> {
    let mut name = format!("holdfast-demo-{}", std::process::id());
    loop {
        let folder = std::env::temp_dir().join(&name);
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => name.push_str("-next"),
            Err(error) => return Err(error).context(format!("{} cannot be made", folder.display())),
        }
    }
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
    stage.for_some("all is well: readings flow from modules and the device to the hub", CALM).await?;

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
        let duplicates = self.hub.duplicates().await?;
        let view = {
            let ledger = self.account.ledger();
            View {
                phase,
                link_up: self.link.is_up(),
                edge,
                sent: self.tally.sent(),
                acknowledged: self.tally.acknowledged(),
                streams: ledger.streams().iter().map(|(name, s)| (name.clone(), s.readings)).collect(),
                events: ledger.events,
                duplicates,
            }
        };
        self.screen.draw(&view)
    }
}

/// Reads the hub's stream once more from its first offset, and says what it proves. Gives whether nothing is wrong.
async fn conclude(stage: &mut Stage, json: bool) -> anyhow::Result<bool> {
    stage.screen.end();
    let acknowledged = stage.tally.acknowledged();
    let ledger = stage.hub.read_all().await?;
    let dropped = stage.hub.duplicates().await?;
    let faults = ledger.faults(&[(edge::DEVICE_SOURCE, acknowledged)]);
    if json {
        output::json(&serde_json::json!({
            "acknowledged": acknowledged, "arrived": ledger.last_number(edge::DEVICE_SOURCE),
            "events": ledger.events, "duplicates_removed": dropped, "gaps": ledger.gaps,
            "cuts": stage.cuts, "kills": stage.kills, "faults": faults,
        }))?;
        return Ok(faults.is_empty());
    }
    output::line("");
    output::line(format!(
        "{} link cut, {} times SIGKILL. What stands in the hub's stream:",
        stage.cuts, stage.kills
    ));
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
        "{} messages from offset 0 on, {} gaps. {dropped} that came again were dropped by their stable id.",
        ledger.events, ledger.gaps
    ));
    if faults.is_empty() {
        output::line(format!(
            "Nothing was lost: each of the device's {acknowledged} acknowledged readings\nis there, in order."
        ));
    }
    for fault in &faults {
        output::line(format!("FAULT: {fault}"));
    }
    Ok(faults.is_empty())
}
