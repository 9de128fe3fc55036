//! One link's shared state: its terminals as the journal knows them, its devices, its state on the board.
//!
//! Must not: be asked per event for anything that takes a lock twice, or lose what a link said of itself while the
//! journal held it back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::device::{Devices, MAX_DEVICES};
use super::ingest::{Batch, lock};
use super::quiet::Quiet;
use super::stamp::Stamp;
use super::topic::Filter;
use super::{Config, Context, Link, LinkState};
use crate::backoff::Backoff;
use crate::clock::Zone;
use crate::decode;
use crate::event::Source;
use crate::journal::{Appended, SourceId};
use crate::progress::{LONGEST_ANSWER, LONGEST_STEP};

/// How often the board is told of devices.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// How often device states are kept, in turns of [`SHOW_EVERY`].
const KEEP_EVERY: u32 = 60;

/// How long the devices may take to be kept at the end.
const LAST_KEEP: Duration = Duration::from_secs(2);

/// A configured terminal, ready to be fed.
pub(crate) struct Terminal {
    /// Its decoder's options.
    pub(crate) decoder: decode::Config,
    /// Identity, zone and device id.
    pub(crate) stamp: Stamp,
    /// Its number in the journal.
    pub(crate) source: SourceId,
    /// The topics that are its own; empty for streams.
    pub(crate) filters: Vec<Filter>,
    /// Largest payload, bytes.
    pub(crate) max_payload: usize,
}

impl Terminal {
    /// Its configured name.
    pub(crate) fn name(&self) -> &str {
        &self.stamp.source.terminal_id
    }

    /// Its protocol's name.
    pub(crate) fn protocol(&self) -> &str {
        &self.stamp.source.protocol
    }
}

struct State {
    link: LinkState,
    held: Option<String>,
    quiet: Quiet,
}

/// One link.
pub(crate) struct Hub {
    /// What every link needs.
    pub(crate) context: Context,
    /// The broker's or the serial terminal's name.
    pub(crate) name: String,
    /// Its terminals.
    pub(crate) terminals: Vec<Terminal>,
    /// The devices behind them.
    pub(crate) devices: Mutex<Devices>,
    /// Whether the link itself (a broker) has a line of its own on the board.
    broker: bool,
    state: Mutex<State>,
}

impl Hub {
    /// Registers the terminals with the journal, for as long as that takes; `None` if the gateway stops meanwhile.
    pub(crate) async fn open(context: Context, name: String, broker: bool, configs: Vec<Config>) -> Option<Arc<Self>> {
        let mut terminals = Vec::with_capacity(configs.len());
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        for config in configs {
            if let Some(terminal) = register(&context, config, &mut backoff).await? {
                terminals.push(terminal);
            }
        }
        let mut devices = Devices::new(terminals.len(), MAX_DEVICES);
        if let Ok(known) = context.journal.devices().await {
            for state in &known {
                if let Some(terminal) = terminals.iter().position(|t| t.source == state.source) {
                    devices.seed(terminal, state);
                }
            }
        }
        let state = State { link: LinkState::Connecting, held: None, quiet: Quiet::default() };
        let hub = Self { context, name, terminals, devices: Mutex::new(devices), broker, state: Mutex::new(state) };
        hub.set_state(LinkState::Connecting);
        Some(Arc::new(hub))
    }

    /// The terminals that claim a topic, each with the text that its wildcards stood for.
    pub(crate) fn claimants(&self, topic: &str) -> Vec<(usize, Option<String>)> {
        let claim = |t: &Terminal| t.filters.iter().find_map(|f| f.capture(topic));
        self.terminals.iter().enumerate().filter_map(|(i, t)| claim(t).map(|key| (i, key))).collect()
    }

    /// The link came or went.
    pub(crate) fn set_state(&self, link: LinkState) {
        let mut state = lock(&self.state);
        state.link = link;
        self.publish(&state);
    }

    /// An append was refused: nothing is confirmed until it works again.
    pub(crate) fn hold(&self, reason: &str) {
        let mut state = lock(&self.state);
        if state.quiet.failed(self.context.clock.now().boot, reason) {
            tracing::error!(terminal = self.name, reason, "the journal refuses, nothing is confirmed meanwhile");
        }
        state.held = Some(reason.to_owned());
        self.publish(&state);
    }

    fn release(&self) {
        let mut state = lock(&self.state);
        if let Some(count) = state.quiet.recovered() {
            tracing::info!(terminal = self.name, count, "the journal takes events again");
            state.held = None;
            self.publish(&state);
        }
    }

    /// Whether the journal refused and has not taken anything since.
    pub(crate) fn is_held(&self) -> bool {
        lock(&self.state).held.is_some()
    }

    fn publish(&self, state: &State) {
        let shown = state.held.clone().map_or_else(|| state.link.clone(), LinkState::Held);
        let board = &self.context.board;
        if self.broker {
            board.update(&self.name, "broker", |s| s.state = shown.clone());
        }
        for terminal in &self.terminals {
            board.update(terminal.name(), terminal.protocol(), |s| s.state = shown.clone());
        }
    }

    /// Counts what became of a batch.
    pub(crate) fn account(&self, batch: &Batch, results: &[Appended]) {
        self.release();
        let mut counts = vec![[0u64; 4]; self.terminals.len() + 1];
        {
            let mut devices = lock(&self.devices);
            for (mark, result) in batch.marks.iter().zip(results) {
                let column = match result {
                    Appended::New(_) => {
                        if let Some(slot) = mark.1 {
                            devices.committed(slot);
                        }
                        0
                    }
                    Appended::Duplicate(_) => 1,
                    Appended::Conflict(_) => 2,
                    Appended::Noted => 3,
                };
                counts[mark.0.unwrap_or(self.terminals.len())][column] += 1;
            }
        }
        for (terminal, [events, duplicates, conflicts, faults]) in self.terminals.iter().zip(&counts) {
            if events + duplicates + conflicts + faults == 0 {
                continue;
            }
            if *conflicts > 0 {
                tracing::warn!(
                    terminal = terminal.name(),
                    count = conflicts,
                    "records differ from what is journalled under their id"
                );
            }
            tracing::debug!(terminal = terminal.name(), count = events, "batch is on disk");
            self.context.board.update(terminal.name(), terminal.protocol(), |s| {
                s.events += events;
                s.duplicates += duplicates + conflicts;
                s.faults += faults;
                s.last_heard = Some(batch.heard);
            });
        }
        if self.broker {
            let [events, duplicates, conflicts, faults] =
                counts.iter().fold([0; 4], |sum, c| std::array::from_fn(|i| sum[i] + c[i]));
            self.context.board.update(&self.name, "broker", |s| {
                s.events += events;
                s.duplicates += duplicates + conflicts;
                s.faults += faults;
                s.last_heard = Some(batch.heard);
            });
        }
    }

    /// Tells the board of devices every second and keeps their states every minute, until dropped.
    pub(crate) async fn keep_house(&self) {
        let mut tick = tokio::time::interval(SHOW_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut turns = 0;
        loop {
            tick.tick().await;
            self.show_devices();
            turns += 1;
            if turns >= KEEP_EVERY || lock(&self.devices).epoch_changed() {
                turns = 0;
                self.keep_devices().await;
            }
        }
    }

    /// At the end: the board and the journal learn the last state.
    pub(crate) async fn close(&self) {
        self.show_devices();
        // A journal that refuses must not hold up the stop: this state only informs.
        let _ = tokio::time::timeout(LAST_KEEP, self.keep_devices()).await;
    }

    async fn keep_devices(&self) {
        let unsaved = lock(&self.devices).unsaved(|t| self.terminals[t].source);
        if !unsaved.is_empty()
            && let Err(error) = self.context.journal.keep_devices(unsaved).await
        {
            tracing::debug!(terminal = self.name, %error, "device states were not kept");
        }
    }

    fn show_devices(&self) {
        let mut devices = lock(&self.devices);
        if !devices.take_changed() {
            return;
        }
        let claimed = |key: &str| {
            let mut all = self.terminals.iter();
            all.any(|t| t.stamp.device_id.as_deref().unwrap_or_else(|| t.name()) == key)
        };
        for (i, terminal) in self.terminals.iter().enumerate() {
            let shown = devices.show(i, claimed);
            let last = shown.iter().map(|d| d.last_heard).max();
            self.context.board.update(terminal.name(), terminal.protocol(), |s| {
                s.last_heard = s.last_heard.max(last);
                s.devices = shown;
            });
        }
    }
}

/// `None`: the gateway stops; `Some(None)`: this terminal can't be used, and the board says why.
async fn register(context: &Context, config: Config, backoff: &mut Backoff) -> Option<Option<Terminal>> {
    let zone_name = config.zone.as_deref().unwrap_or(&context.identity.zone);
    let protocol = config.decoder.protocol();
    let down = |reason: String| {
        tracing::error!(terminal = config.name, reason, "terminal can't be used");
        context.board.update(&config.name, protocol.name(), |s| s.state = LinkState::Down(reason));
    };
    let zone = match Zone::named(zone_name) {
        Ok(zone) => zone,
        Err(error) => {
            down(error.to_string());
            return Some(None);
        }
    };
    let (texts, device_id, max_payload) = match &config.link {
        Link::Serial(_) => (Vec::new(), None, usize::MAX),
        Link::Mqtt(link) => {
            let texts = link.topic.clone().map_or_else(|| config.decoder.filters(), |topic| vec![topic]);
            (texts, link.device_id.clone(), link.max_payload_bytes)
        }
    };
    let mut filters = Vec::with_capacity(texts.len());
    for text in &texts {
        match Filter::new(text) {
            Some(filter) => filters.push(filter),
            None => {
                down(format!("'{text}' is not a topic filter: '+' and '#' stand alone between slashes, '#' last"));
                return Some(None);
            }
        }
    }
    let source = Source {
        tenant: context.identity.tenant.clone(),
        site_id: context.identity.site_id.clone(),
        gateway_id: context.identity.gateway_id.clone(),
        terminal_id: config.name.clone(),
        protocol: protocol.name().to_owned(),
        zone: zone_name.to_owned(),
    };
    let id = loop {
        context.mark.within("asking the journal", LONGEST_ANSWER);
        match context.journal.source(source.clone()).await {
            Ok(id) => break id,
            Err(error) => {
                tracing::warn!(terminal = config.name, %error, "terminal could not be registered");
                context.board.update(&config.name, protocol.name(), |s| s.state = LinkState::Held(error.to_string()));
                let delay = backoff.next(None);
                context.mark.within("waiting for the journal", delay + LONGEST_STEP);
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    () = context.shutdown.cancelled() => return None,
                }
            }
        }
    };
    let stamp = Stamp { source: Arc::new(source), zone, device_id };
    Some(Some(Terminal { decoder: config.decoder, stamp, source: id, filters, max_payload }))
}
