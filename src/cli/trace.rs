//! `portero trace`: did this punch arrive?
//!
//! Must not: change anything, or hold the journal's lock.

mod central;

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::central::Server;
use super::{ConfigFile, Exit, Failure, Output, table};
use crate::clock::Zone;
use crate::event::{Event, EventId, json as event_json};
use crate::journal::{Fate, Record, Traced};
use crate::manage::config::Config;
use crate::manage::control::client;

/// `--time` means: this much before or after.
const AROUND: Duration = Duration::from_secs(30 * 60);

/// Show what became of an event at each sink.
#[derive(Debug, clap::Args)]
#[command(mut_arg("url", |url| url.long("postgres").help("Ask this central database instead of the gateway's journal: \
    postgresql://USER@HOST:PORT/DATABASE, with a login that may read; the password comes from `--password-file` or $PGPASSWORD")))]
#[command(mut_arg("password_file", |file| file.requires("url").help("With --postgres: a file of mode 0600 that holds the password")))]
#[command(mut_arg("tls", |tls| tls.help("With --postgres: how the connection is protected; `disable` is allowed on this machine only")))]
#[command(mut_arg("ca_file", |file| file.requires("url").help("With --postgres: certificates of your own authority, instead of the system's")))]
pub struct Args {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    server: Server,
    /// With --postgres: whose events, `[gateway] tenant` of their gateways
    #[arg(long, value_name = "NAME", default_value = "default")]
    tenant: String,
    /// The event's id
    #[arg(value_name = "EVENT_ID", required_unless_present = "person", conflicts_with_all = ["person", "date", "time"])]
    id: Option<EventId>,
    /// All events of this person or card number …
    #[arg(long, value_name = "NUMBER", requires = "date")]
    person: Option<String>,
    /// … on this day at the terminal, such as 2026-11-24
    #[arg(long, value_name = "DAY", requires = "person")]
    date: Option<jiff::civil::Date>,
    /// … within half an hour of this time at the terminal, such as 08:00
    #[arg(long, value_name = "HH:MM", requires = "date", value_parser = time_of_day)]
    time: Option<jiff::civil::Time>,
    /// Print JSON Lines
    #[arg(long)]
    json: bool,
}

fn time_of_day(text: &str) -> Result<jiff::civil::Time, String> {
    jiff::civil::Time::strptime("%H:%M", text).map_err(|_| "write it like 08:00".to_owned())
}

/// Runs it.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.server.is_named() {
        return central::run(args, &args.server, &args.tenant);
    }
    let config = args.file.read()?;
    let found = super::runtime()?.block_on(async {
        let journal = super::open_read_only(&config)?;
        let found = match (args.id, &args.person, args.date) {
            (Some(id), ..) => journal.trace(id).await?.into_iter().collect(),
            (None, Some(person), Some(date)) => {
                let utc = Zone::utc().start_of_day(date).context("this day is beyond the calendar")?;
                let (person, time) = (person.clone(), args.time);
                journal.trace_around(utc, move |record| is_of(record, &person, date, time)).await?
            }
            // clap asks for one of the two.
            _ => Vec::new(),
        };
        journal.close().await?;
        anyhow::Ok(found)
    })?;
    if found.is_empty() {
        let days = config.journal.retention_days;
        let what = if args.id.is_some() { "no such event" } else { "no event of this person then" };
        let words = format!("{what} in the journal; it keeps delivered events for {days} days");
        return Err(Failure::new(Exit::No, words).into());
    }
    let sinks = Sinks { waits: why_sinks_wait(&config), config };
    let mut out = Output::stdout();
    for (at, traced) in found.iter().enumerate() {
        if args.json {
            out.line(object(traced, &sinks))?;
        } else {
            if at > 0 {
                out.line("")?;
            }
            show(traced, &sinks, &mut out)?;
        }
    }
    Ok(Exit::Done)
}

/// Whether an event is a person's and happened on a day, by the terminal's own clock and zone.
fn is_of(record: &Record, person: &str, date: jiff::civil::Date, time: Option<jiff::civil::Time>) -> bool {
    if !record.event.is_about(person) {
        return false;
    }
    let Some(local) = local(&record.event) else { return false };
    let near = |time: jiff::civil::Time| local.duration_since(date.to_datetime(time)).unsigned_abs() <= AROUND;
    local.date() == date && time.is_none_or(near)
}

/// The time of an event where its terminal stands.
fn local(event: &Event) -> Option<jiff::civil::DateTime> {
    Zone::named(&event.source.zone).unwrap_or_else(|_| Zone::utc()).local(event.times.event)
}

/// Of each sink why it waits and when it tries again, from the running gateway if there is one.
fn why_sinks_wait(config: &Config) -> Vec<(String, Wait)> {
    let Ok(status) = client::get(&config.manage.socket, "/status") else { return Vec::new() };
    let sinks = status["sinks"].as_array().cloned().unwrap_or_default();
    let text = |sink: &Value, key: &str| sink[key].as_str().map(str::to_owned);
    let wait = |sink: &Value| Wait {
        why: text(sink, "error").or_else(|| text(sink, "waits_for")),
        next: text(sink, "next_try"),
    };
    sinks.iter().filter_map(|sink| Some((text(sink, "name")?, wait(sink)))).collect()
}

/// Why a sink waits, and until when, as the gateway says it.
#[derive(Default)]
struct Wait {
    why: Option<String>,
    next: Option<String>,
}

/// What the configuration and the running gateway say of the sinks.
struct Sinks {
    config: Config,
    waits: Vec<(String, Wait)>,
}

impl Sinks {
    /// Whether the filter that the sink has now lets an event through.
    fn takes(&self, sink: &str, event: &Event) -> bool {
        self.config.sinks.iter().find(|s| s.name == sink).is_none_or(|s| s.filter.takes(event))
    }
}

/// What a sink did with the event: a word, and what there is to say of it.
fn fate(event: &Event, sink: &str, fate: &Fate, sinks: &Sinks) -> (&'static str, Value) {
    let wait = sinks.waits.iter().find(|(name, _)| name == sink).map(|(_, wait)| wait);
    let (why, next) = (wait.and_then(|w| w.why.as_deref()), wait.and_then(|w| w.next.as_deref()));
    match fate {
        Fate::Pending => ("pending", json!({ "waits_for": why, "next_try": next })),
        Fate::Released => ("pending", json!({ "released": true, "waits_for": why, "next_try": next })),
        Fate::Settled { delivery: None, .. } if !sinks.takes(sink, event) => ("filtered", json!({})),
        Fate::Settled { delivery, correction_pending } => {
            let mut said = json!({ "correction_pending": correction_pending });
            if let Some(delivery) = delivery {
                said["from"] = event_json::rfc3339(delivery.from).as_str().into();
                said["until"] = event_json::rfc3339(delivery.until).as_str().into();
                said["revision"] = delivery.revision.as_str().into();
                said["remote_id"] = delivery.remote_id.as_deref().into();
            }
            ("delivered", said)
        }
        Fate::Quarantined { reason, answer, attempts, at } => (
            "quarantined",
            json!({ "reason": reason, "answer": answer, "attempts": attempts,
                    "since": event_json::rfc3339(*at).as_str() }),
        ),
        Fate::Dropped { why, who, at, reason } => {
            ("dropped", json!({ "why": why, "who": who, "at": event_json::rfc3339(*at).as_str(), "reason": reason }))
        }
        Fate::BeforeItsStart => ("not_asked_for", json!({})),
    }
}

fn object(traced: &Traced, sinks: &Sinks) -> Value {
    let mut event = Vec::new();
    event_json::write(&traced.record.event, &mut event);
    let edits: Vec<Value> = traced
        .edits
        .iter()
        .map(|edit| {
            let fields = serde_json::from_str::<Value>(&edit.fields).unwrap_or_default();
            json!({ "sink": edit.sink, "fields": fields, "why": edit.why, "who": edit.who,
                    "at": event_json::rfc3339(edit.at).as_str() })
        })
        .collect();
    let sinks: Vec<Value> = traced
        .fates
        .iter()
        .map(|(name, of)| {
            let (word, mut said) = fate(&traced.record.event, name, of, sinks);
            said["name"] = name.as_str().into();
            said["state"] = word.into();
            said
        })
        .collect();
    json!({
        "seq": traced.record.seq.0,
        "provisional": traced.record.provisional,
        "event": serde_json::from_slice::<Value>(&event).unwrap_or_default(),
        "sinks": sinks,
        "edits": edits,
    })
}

fn show(traced: &Traced, sinks: &Sinks, out: &mut Output) -> std::io::Result<()> {
    let event = &traced.record.event;
    let reading = &event.reading;
    let provisional = if traced.record.provisional { ", provisional: the clock was not right yet" } else { "" };
    out.line(format_args!("event      {} (number {})", event.id, traced.record.seq.0))?;
    let serial = reading.terminal_serial.as_deref().map(|s| format!(" ({s})")).unwrap_or_default();
    out.line(format_args!("terminal   {}{serial}, {}", event.source.terminal_id, event.source.protocol))?;
    let who = reading.person.terminal_person_id.as_deref().or(reading.person.external_id.as_deref());
    let mut said: Vec<String> = Vec::new();
    said.extend(who.map(|person| format!("person {person}")));
    said.extend(reading.credential.card_number.as_deref().map(|card| format!("card {card}")));
    said.extend(reading.kind.map(|kind| kind.as_str().to_owned()));
    said.extend(reading.outcome.map(|outcome| outcome.as_str().to_owned()));
    said.extend(reading.punch.map(|punch| format!("punch {}", punch.as_str())));
    said.extend(reading.device_time.as_ref().map(|time| format!("at \"{}\"", time.raw)));
    out.line(format_args!("said       {}", said.join(", ")))?;
    let at = local(event).map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string());
    out.line(format_args!(
        "happened   {at} {} (clock {}{provisional})",
        event.source.zone,
        event.times.quality.as_str()
    ))?;
    out.line(format_args!("heard      {}", event_json::rfc3339(event.times.received).as_str()))?;
    for (name, of) in &traced.fates {
        let (word, said) = fate(&traced.record.event, name, of, sinks);
        let text = |key: &str| table::value(&said[key]);
        let line = match of {
            Fate::Pending | Fate::Released if said["waits_for"].is_string() => {
                let next =
                    said["next_try"].as_str().map(|_| format!("; next request at {}", table::time(&said["next_try"])));
                format!("{word}: {}{}", text("waits_for"), next.unwrap_or_default())
            }
            Fate::Released => format!("{word}, released from quarantine"),
            Fate::Settled { delivery: None, .. } if word == "filtered" => {
                "left out by the sink's filter (kinds, terminals, outcome)".to_owned()
            }
            Fate::Settled { delivery, correction_pending } => {
                let mut line = word.to_owned();
                if delivery.is_none() {
                    line.push_str(", at a time that is not (or not yet) on record");
                }
                if let Some(delivery) = delivery {
                    let (from, until) = (table::time(&said["from"]), table::time(&said["until"]));
                    line.push_str(&if from == until {
                        format!(" at {from}")
                    } else {
                        format!(" from {from} to {until}")
                    });
                    if !delivery.revision.is_empty() {
                        line.push_str(&format!(", mapping {}", delivery.revision));
                    }
                    if let Some(id) = &delivery.remote_id {
                        line.push_str(&format!(", there called {id}"));
                    }
                }
                if *correction_pending {
                    line.push_str("; a correction of its time is on its way");
                }
                line
            }
            Fate::Quarantined { .. } => format!(
                "{word} since {} after {} attempts: {}",
                table::time(&said["since"]),
                text("attempts"),
                text("reason")
            ),
            Fate::Dropped { .. } => format!(
                "{word} by {} at {}: {} (quarantined for: {})",
                text("who"),
                table::time(&said["at"]),
                text("why"),
                text("reason")
            ),
            Fate::BeforeItsStart => "not asked for: the sink was added later, with start = \"now\"".to_owned(),
            Fate::Pending => word.to_owned(),
        };
        out.line(format_args!("{name:<10} {line}"))?;
        if let Fate::Quarantined { answer, .. } = of
            && !answer.is_empty()
        {
            out.line(format_args!("{:<10} its own words: {}", "", text("answer")))?;
        }
        for edit in traced.edits.iter().filter(|edit| edit.sink == *name) {
            let fields = serde_json::from_str::<serde_json::Map<String, Value>>(&edit.fields).unwrap_or_default();
            let fields: Vec<&str> = fields.keys().map(String::as_str).collect();
            let at = table::time(&event_json::rfc3339(edit.at).as_str().into());
            out.line(format_args!(
                "{:<10} {} changed for it by {} at {at}: {}",
                "",
                fields.join(", "),
                edit.who,
                edit.why
            ))?;
        }
    }
    Ok(())
}
