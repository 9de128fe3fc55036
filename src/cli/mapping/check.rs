//! `portero mapping check`: what a sink would send, held against the vendor's contract before it ships.
//!
//! Must not: send anything, change the journal, or go to an address that a document names.

use std::path::PathBuf;

use crate::cli::ConfigFile;

/// Which sink, against which document.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("contract").required(true).args(["openapi", "schema"]))]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// The sink, of type api
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// The vendor's OpenAPI 3.0 or 3.1 document, YAML or JSON
    #[arg(long, value_name = "FILE")]
    openapi: Option<PathBuf>,
    /// The operation (its operationId) to which everything must go; without it, the one that each request reaches
    #[arg(long, value_name = "ID", requires = "openapi")]
    operation: Option<String>,
    /// A JSON Schema for the body alone
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Only stored events from then on: a time (RFC 3339), a day at the gateway, or an age such as 30m, 2h, 3d
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// At most so many stored events, the newest; beside them events of every kind are generated
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Print JSON Lines
    #[arg(long)]
    json: bool,
}

#[cfg(not(feature = "contract"))]
pub(super) fn run(_: &Args) -> anyhow::Result<crate::cli::Exit> {
    Err(left_out().into())
}

/// What a build without the feature says.
#[cfg(any(test, not(feature = "contract")))]
fn left_out() -> crate::cli::Failure {
    let words = "this portero was built without 'mapping check' (feature contract), as device packages are; run it where \
                 you write the configuration, with a portero from an ordinary build";
    crate::cli::Failure::new(crate::cli::Exit::Unavailable, words)
}

#[cfg(test)]
mod tests {
    use crate::cli::{Exit, exit_for};

    #[test]
    fn a_build_without_it_says_so_and_exits_with_69() {
        let error = anyhow::Error::from(super::left_out());
        assert!(error.to_string().contains("feature contract"), "{error}");
        assert_eq!(exit_for(&error), Exit::Unavailable);
    }
}

#[cfg(feature = "contract")]
pub(super) use with_contract::run;

#[cfg(feature = "contract")]
mod with_contract {
    use std::path::Path;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::Args;
    use crate::cli::mapping::Chosen;
    use crate::cli::{Exit, Failure, Output, events, open_read_only, runtime};
    use crate::clock::Clock;
    use crate::deliver::Kind;
    use crate::deliver::api::preview::{Preview, Request};
    use crate::deliver::contract::{Contract, Document, Error, Finding, generated, vary};
    use crate::deliver::directory::Directory;
    use crate::event::Source;
    use crate::journal::{Query, Record, Seq};
    use crate::manage::config::{Config, Options, Places, Secrets};

    /// Sequence numbers of varied events, above those of the generated ones.
    const VARIED: u64 = generated::FIRST + (1 << 32);

    /// What the two kinds of events became.
    #[derive(Default)]
    struct Requests {
        all: Vec<Request>,
        stored: usize,
        unmappable: usize,
        /// Why the first one can't be mapped.
        reason: Option<String>,
        /// Stored ones that can't be mapped.
        refused: Vec<(Seq, String)>,
    }

    pub(in crate::cli::mapping) fn run(args: &Args) -> anyhow::Result<Exit> {
        let config = args.file.read()?;
        let sink = Chosen::new(&config, &args.file.config, &args.sink)?;
        // `Chosen` has seen to that.
        let Kind::Api(api) = &sink.config.kind else { return Ok(Exit::Usage) };
        let (document, contract) = contract(args)?;
        let requests = requests(args, &config, &sink)?;
        let mut findings = contract.check(api, &requests.all).map_err(|error| failure(document, &contract, &error))?;
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

    fn requests(args: &Args, config: &Config, sink: &Chosen) -> anyhow::Result<Requests> {
        let since = args.since.as_deref().map(|text| events::since(text, config)).transpose()?;
        let mut stored: Vec<Record> = Vec::new();
        if config.journal.path.exists() {
            let query = Query { since, limit: args.limit, ..Query::default() };
            stored = runtime()?.block_on(async {
                let journal = open_read_only(config)?;
                let mut records = journal.query(query).await?;
                if config.directory.is_some() {
                    Directory::load(&journal).await?.fill(&mut records);
                }
                journal.close().await?;
                anyhow::Ok(records)
            })?;
        }
        let mut requests = Requests::default();
        stored.retain(|record| sink.config.filter.takes(&record.event));
        let (shown, refused) = mapped(sink, &stored);
        requests.stored = shown.len();
        requests.unmappable = refused.len();
        (requests.all, requests.refused) = (shown, refused);
        requests.reason = requests.refused.first().map(|(_, reason)| reason.clone());
        made(config, sink, &mut requests);
        Ok(requests)
    }

    fn mapped(sink: &Chosen, records: &[Record]) -> (Vec<Request>, Vec<(Seq, String)>) {
        let (mut shown, mut refused) = (Vec::new(), Vec::new());
        for one in sink.api.preview(records) {
            match one {
                Preview::Request(request) => shown.push(request),
                Preview::Unmappable { seq, reason } => refused.push((seq, reason)),
            }
        }
        (shown, refused)
    }

    /// Events of every kind, then the same again for every entry of every value map.
    fn made(config: &Config, sink: &Chosen, requests: &mut Requests) {
        let takes = |record: &Record| sink.config.filter.takes(&record.event);
        let mut generated = generated::events(&sources(config), Clock::new(config.clock.clone()).now());
        generated.retain(takes);
        let (shown, refused) = mapped(sink, &generated);
        requests.all.extend(shown);
        requests.unmappable += refused.len();
        if let (None, Some((_, reason))) = (&requests.reason, refused.first()) {
            requests.reason = Some(reason.clone());
        }
        let Kind::Api(api) = &sink.config.kind else { return };
        let wanted = vary::wanted(api);
        let mut bases = Vec::new();
        for (n, record) in generated.into_iter().enumerate() {
            let mappable = !refused.iter().any(|(seq, _)| *seq == record.seq);
            let base = if mappable { Some(record) } else { vary::completed(&record, &wanted, Seq(VARIED + n as u64)) };
            bases.extend(base.filter(takes));
        }
        let mut varied = vary::events(&bases, &wanted, Seq(VARIED + (1 << 16)));
        varied.extend(bases.into_iter().filter(|record| record.seq.0 >= VARIED));
        varied.retain(takes);
        requests.all.extend(mapped(sink, &varied).0);
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
}
