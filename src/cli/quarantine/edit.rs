//! `portero quarantine edit`: something else goes out in the place of a field; the event itself stays as it was heard.
//!
//! Must not: change an event, or set a field that the sink does not send.

use serde_json::{Map, Value, json};

use super::{Config, ConfigFile, Exit, Failure, Journal, Output, PORTION, Seq, ask, known, read};
use crate::deliver::Kind;

#[derive(Debug, clap::Args)]
pub(super) struct Edit {
    #[command(flatten)]
    file: ConfigFile,
    /// Numbers of events, as `list` shows them
    #[arg(required = true)]
    seqs: Vec<u64>,
    /// The sink that refused them
    #[arg(long, value_name = "NAME")]
    sink: String,
    /// What goes out at a target of [sink.map] (or at a field of the event's JSON, for a sink without one), as text
    #[arg(long, value_name = "TARGET=TEXT", value_parser = pair)]
    set: Vec<(String, String)>,
    /// The same as JSON: a number, true, false, null (leaves an optional target out) …
    #[arg(long, value_name = "TARGET=JSON", value_parser = pair)]
    set_json: Vec<(String, String)>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Who says so
    #[arg(long, value_name = "NAME", env = "USER")]
    who: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((target, value)) if !target.is_empty() => Ok((target.to_owned(), value.to_owned())),
        _ => Err("write it like idNumber=12345678-5".to_owned()),
    }
}

/// Runs it.
pub(super) fn edit(args: &Edit) -> anyhow::Result<Exit> {
    let (why, who) = (args.why.trim(), args.who.trim());
    if why.is_empty() || who.is_empty() {
        return Err(Failure::new(Exit::Usage, "--why and --who must say something: they are kept").into());
    }
    let config = args.file.read()?;
    let fields = fields(args, &config)?;
    let quarantined = read(&config, Some(&args.sink), super::MOST)?;
    if let Some(absent) = args.seqs.iter().find(|seq| quarantined.iter().all(|e| e.record.seq.0 != **seq)) {
        let words = format!("event {absent} is not quarantined at '{}'; see portero quarantine list", args.sink);
        return Err(Failure::new(Exit::No, words).into());
    }
    let pairs: Vec<(String, String)> = fields.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
    let mut edited = 0;
    for seqs in args.seqs.chunks(PORTION) {
        let request = json!({ "sink": args.sink, "seqs": seqs, "fields": fields, "why": why, "who": who });
        edited += ask(&config, "/quarantine/edit", "edited", &request, async |journal: &Journal| {
            let seqs = seqs.iter().copied().map(Seq).collect();
            let (why, who) = (why.to_owned(), who.to_owned());
            journal.edit_quarantined(args.sink.clone(), seqs, pairs.clone(), why, who).await
        })?;
    }
    let mut out = Output::stdout();
    if args.json {
        out.line(json!({ "edited": edited }))?;
    } else {
        out.line(format_args!("{edited} edited and released; portero trace says who, when and why"))?;
    }
    Ok(Exit::Done)
}

/// What is set, once it is sure that the sink sends it.
fn fields(args: &Edit, config: &Config) -> anyhow::Result<Map<String, Value>> {
    known(config, Some(&args.sink))?;
    let usage = |words: String| Failure::new(Exit::Usage, words);
    let mut fields = Map::new();
    for (target, text) in &args.set {
        fields.insert(target.clone(), Value::String(text.clone()));
    }
    for (target, json) in &args.set_json {
        let value = serde_json::from_str(json).map_err(|_| usage(format!("--set-json {target}: this is no JSON")))?;
        fields.insert(target.clone(), value);
    }
    if fields.is_empty() {
        return Err(usage("say what goes out instead: --set TARGET=TEXT, or --set-json TARGET=JSON".to_owned()).into());
    }
    let kind = config.sinks.iter().find(|sink| sink.name == args.sink).map(|sink| &sink.kind);
    let Some(Kind::Api(api)) = kind else {
        let words = format!("'{}' is a database: it takes events as they are, and only whole", args.sink);
        return Err(usage(words).into());
    };
    if let Some(map) = &api.map {
        let targets: Vec<String> = map.fields.iter().map(|field| field.target.join(".")).collect();
        if let Some(unknown) = fields.keys().find(|key| !targets.contains(key)) {
            let words = format!("'{unknown}' is no target of its [sink.map]; it has: {}", targets.join(", "));
            return Err(usage(words).into());
        }
    }
    Ok(fields)
}
