//! Findings for people and programs, and the exit code.
//!
//! Must not: judge a request; the contract does.

use std::path::Path;

use serde_json::{Value, json};

use super::Args;
use super::requests::{Requests, made, requests};
use crate::cli::mapping::Chosen;
use crate::cli::{Exit, Failure, Output};
use crate::clock::SyncSource;
use crate::deliver::Kind;
use crate::deliver::api;
use crate::deliver::contract::{Contract, Document, Error, Finding, generated};
use crate::manage::config::{Config, Options, Places, Secrets};

pub(in crate::cli::mapping) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut config = args.file.read()?;
    // An event's age counts as at a gateway whose clock is right.
    config.clock = SyncSource::Trusted;
    let sink = Chosen::new(&config, &args.file.config, &args.sink)?;
    // `Chosen` has seen to that.
    let Kind::Api(api) = &sink.config.kind else { return Ok(Exit::Usage) };
    let (document, contract) = contract(args)?;
    let requests = requests(args, &config, &sink)?;
    let mut findings = contract.check(api, &requests.all).map_err(|error| failure(document, &contract, &error))?;
    findings.extend(corrections(&config, &sink, api, &contract).map_err(|error| failure(document, &contract, &error))?);
    findings.extend(nothing_to_check(&requests));
    findings.extend(refused(&requests));
    findings.sort_by_key(|finding| finding.note);
    let wrong = findings.iter().filter(|finding| !finding.note).count();
    let places = Places::read(&args.file.config, &Options::from_process(Secrets::Ignore));
    let mut out = Output::stdout();
    for finding in &findings {
        show(args, &places, document, &contract, finding, &mut out)?;
    }
    if !args.json {
        let Requests { all, stored, unmappable, .. } = &requests;
        let count = match wrong {
            0 => "no findings".to_owned(),
            1 => "1 finding".to_owned(),
            n => format!("{n} findings"),
        };
        out.line(format_args!(
            "# {count}; {} requests checked, {stored} of stored and {} of generated events; \
             {unmappable} events that the mapping refuses; revision {}",
            all.len(),
            all.len() - stored,
            sink.api.revision(),
        ))?;
    }
    out.flush()?;
    Ok(if wrong == 0 { Exit::Done } else { Exit::No })
}

fn contract(args: &Args) -> anyhow::Result<(&Path, Contract)> {
    // The argument group lets exactly one of them through.
    let file = args.openapi.as_deref().or(args.schema.as_deref()).unwrap_or(Path::new(""));
    let read = || {
        let document = Document::read(file)?;
        match args.openapi {
            Some(_) => Contract::openapi(document, args.operation.as_deref()),
            None => Contract::schema(document),
        }
    };
    let contract = read().map_err(|error| Failure::new(exit(&error), format!("{} {error}", file.display())))?;
    Ok((file, contract))
}

const fn exit(error: &Error) -> Exit {
    match error {
        Error::Io(_) => Exit::Io,
        Error::Operation(..) => Exit::Usage,
        _ => Exit::Data,
    }
}

/// A part of the document that was reached only by a request.
fn failure(file: &Path, contract: &Contract, error: &Error) -> Failure {
    let line = match error {
        Error::Remote { pointer, .. } | Error::Dangling { pointer, .. } | Error::Schema { pointer, .. } => {
            contract.line(pointer)
        }
        _ => None,
    };
    let line = line.map_or_else(String::new, |line| format!(":{line}"));
    Failure::new(exit(error), format!("{}{line}: {error}", file.display()))
}

/// What `map_correction` puts into a body; everything else about a correction is as for an event.
fn corrections(config: &Config, sink: &Chosen, api: &api::Config, contract: &Contract) -> Result<Vec<Finding>, Error> {
    if api.map_correction.is_none() {
        return Ok(Vec::new());
    }
    let of_corrections = api::Config { map: api.map_correction.clone(), ..api.clone() };
    let requests = made(config, sink, &of_corrections, true).0;
    let mut findings = contract.check(&of_corrections, &requests)?;
    findings.retain_mut(|finding| match finding.key.first_mut() {
        Some(key) if key == "map" => {
            "map_correction".clone_into(key);
            true
        }
        _ => false,
    });
    Ok(findings)
}

/// A check of nothing proves nothing.
fn nothing_to_check(requests: &Requests) -> Option<Finding> {
    let message = match &requests.reason {
        _ if !requests.all.is_empty() => return None,
        Some(reason) => format!("no event can be mapped, nothing could be checked: {reason}"),
        None => "no event passes the sink's filter, nothing could be checked".to_owned(),
    };
    let key = if requests.reason.is_some() { vec!["map".to_owned()] } else { Vec::new() };
    let rule = "nothing".to_owned();
    Some(Finding { rule, key, pointer: String::new(), message, requests: 0, events: Vec::new(), note: false })
}

/// What the journal holds and the vendor will never see, the contract doesn't know.
fn refused(requests: &Requests) -> Option<Finding> {
    let (seq, reason) = requests.refused.first()?;
    let message = format!("{} stored events would be quarantined: {reason}", requests.refused.len());
    let (rule, key, events) = ("unmappable".to_owned(), vec!["map".to_owned()], vec![*seq]);
    Some(Finding { rule, key, pointer: String::new(), message, requests: 0, events, note: true })
}

fn show(
    args: &Args,
    places: &Places,
    document: &Path,
    contract: &Contract,
    finding: &Finding,
    out: &mut Output,
) -> std::io::Result<()> {
    let spot = places.of_sink(&args.sink, &finding.key);
    let line = contract.line(&finding.pointer);
    let generated = |seq: u64| seq >= generated::FIRST;
    if args.json {
        let seqs: Vec<u64> = finding.events.iter().map(|seq| seq.0).filter(|seq| !generated(*seq)).collect();
        return out.line(json!({
            "level": if finding.note { "note" } else { "finding" },
            "rule": finding.rule,
            "message": finding.message,
            "file": spot.file.display().to_string(),
            "line": spot.line,
            "variable": spot.variable,
            "key": spot.key,
            "document": document.display().to_string(),
            "document_line": line,
            "pointer": finding.pointer,
            "requests": finding.requests,
            "seqs": if finding.events.is_empty() { Value::Null } else { seqs.into() },
        }));
    }
    let place = match (&spot.variable, spot.line) {
        (Some(variable), _) => variable.clone(),
        (None, Some(line)) => format!("{}:{line}", spot.file.display()),
        (None, None) => spot.file.display().to_string(),
    };
    let word = if finding.note { "note: " } else { "" };
    out.line(format_args!("{word}{place}: {}: {} [{}]", spot.key, finding.message, finding.rule))?;
    let line = line.map_or_else(String::new, |line| format!(":{line}"));
    let pointer = if finding.pointer.is_empty() { "/" } else { &finding.pointer };
    out.line(format_args!("    {}{line}: {pointer}", document.display()))?;
    match finding.events.first().filter(|_| finding.requests > 0 && !finding.note) {
        Some(seq) if generated(seq.0) => {
            out.line(format_args!("    in {} requests, first for a generated event", finding.requests))
        }
        Some(seq) => out.line(format_args!("    in {} requests, first for event {}", finding.requests, seq.0)),
        None => Ok(()),
    }
}
