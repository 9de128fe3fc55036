//! What a sink would send for the events of the journal, and for made-up ones by which every rule of it is used.
//!
//! Must not: write into the journal.

use std::sync::Arc;

use super::Args;
use crate::cli::events;
use crate::cli::mapping::Chosen;
use crate::clock::Clock;
use crate::deliver::Kind;
use crate::deliver::api;
use crate::deliver::api::preview::{Preview, Request};
use crate::deliver::api::request::Then;
use crate::deliver::contract::{generated, vary};
use crate::event::{EventId, Source};
use crate::journal::{Query, Record, Seq};
use crate::manage::config::Config;

/// Sequence numbers of varied events, above those of the generated ones.
const VARIED: u64 = generated::FIRST + (1 << 32);

/// What the two kinds of events became.
#[derive(Default)]
pub(super) struct Requests {
    pub(super) all: Vec<Request>,
    pub(super) stored: usize,
    pub(super) unmappable: usize,
    /// Why the first one can't be mapped.
    pub(super) reason: Option<String>,
    /// Stored ones that can't be mapped.
    pub(super) refused: Vec<(Seq, String)>,
}

/// For stored and for made-up events.
pub(super) fn requests(args: &Args, config: &Config, sink: &Chosen) -> anyhow::Result<Requests> {
    let since = args.since.as_deref().map(|text| events::since(text, config)).transpose()?;
    let mut stored: Vec<Record> = Vec::new();
    if config.journal.path.exists() {
        let query = Query { since, limit: args.limit, ..Query::default() };
        stored = super::super::stored(config, query)?;
    }
    let mut requests = Requests::default();
    stored.retain(|record| sink.config.filter.takes(&record.event));
    let (shown, refused) = mapped(sink, &stored, false);
    requests.stored = shown.len();
    requests.unmappable = refused.len();
    (requests.all, requests.refused) = (shown, refused);
    requests.reason = requests.refused.first().map(|(_, reason)| reason.clone());
    let Kind::Api(api) = &sink.config.kind else { return Ok(requests) };
    let (made, refused) = made(config, sink, api, false);
    requests.all.extend(made);
    requests.unmappable += refused.len();
    requests.reason = requests.reason.or_else(|| refused.into_iter().next().map(|(_, reason)| reason));
    Ok(requests)
}

fn mapped(sink: &Chosen, records: &[Record], corrections: bool) -> (Vec<Request>, Vec<(Seq, String)>) {
    let (mut shown, mut refused) = (Vec::new(), Vec::new());
    let all = if corrections { sink.api.preview_corrections(records) } else { sink.api.preview(records) };
    for one in all {
        match one {
            Preview::Request(request) => shown.push(request),
            Preview::Unmappable { seq, reason } => refused.push((seq, reason)),
        }
    }
    (shown, refused)
}

/// Requests for events of every kind, then for the same again with every entry of every value map. What can't be mapped
/// is of the first.
pub(super) fn made(
    config: &Config,
    sink: &Chosen,
    api: &api::Config,
    corrections: bool,
) -> (Vec<Request>, Vec<(Seq, String)>) {
    let takes = |record: &Record| sink.config.filter.takes(&record.event);
    let mut generated = generated::events(&sources(config), Clock::new(config.clock.clone()).now());
    generated.retain(takes);
    for record in generated.iter_mut().filter(|_| corrections) {
        record.event.corrects = Some(EventId([0x5c; 16]));
    }
    let (mut shown, refused) = mapped(sink, &generated, corrections);
    let wanted = vary::wanted(api);
    let mut bases = Vec::new();
    for (n, record) in generated.into_iter().enumerate() {
        let mappable = !refused.iter().any(|(seq, _)| *seq == record.seq);
        let base = if mappable { Some(record) } else { vary::completed(&record, &wanted, Seq(VARIED + n as u64)) };
        bases.extend(base.filter(takes));
    }
    let mut varied = vary::events(&bases, &wanted, Seq(VARIED + (1 << 16)));
    varied.extend(bases.iter().filter(|record| record.seq.0 >= VARIED).cloned());
    varied.retain(takes);
    varied.extend(late(api, bases));
    shown.extend(mapped(sink, &varied, corrections).0);
    (shown, refused)
}

/// The same events so old that they go elsewhere, where the sink says so.
fn late(api: &api::Config, mut records: Vec<Record>) -> Vec<Record> {
    let late = api.request.as_ref().and_then(|request| request.late.as_ref());
    let Some(late) = late.filter(|late| matches!(late.then, Then::Elsewhere { .. })) else { return Vec::new() };
    let age = i64::try_from(late.max_age.as_micros()).unwrap_or(i64::MAX);
    for record in &mut records {
        record.seq = Seq(record.seq.0 + (1 << 24));
        record.event.times.event.0 = record.event.times.event.0.saturating_sub(age).saturating_sub(60_000_000);
    }
    records
}

/// What the events of this gateway's terminals say of where they come from.
fn sources(config: &Config) -> Vec<Arc<Source>> {
    let identity = &config.identity;
    let of = |name: &str, protocol: &str| {
        Arc::new(Source {
            tenant: identity.tenant.clone(),
            site_id: identity.site_id.clone(),
            gateway_id: identity.gateway_id.clone(),
            terminal_id: name.to_owned(),
            protocol: protocol.to_owned(),
            zone: identity.zone.clone(),
        })
    };
    let mut sources: Vec<_> = config.terminals.iter().map(|terminal| of(&terminal.name, "mqtt-json")).collect();
    if sources.is_empty() {
        sources.push(of("terminal", "mqtt-json"));
    }
    sources
}
