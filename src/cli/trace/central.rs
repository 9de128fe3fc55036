//! `portero trace --postgres`: the same question to the central database, from anywhere.
//!
//! Must not: change anything, or read a gateway's configuration: who asks has none.

use serde_json::{Value, json};

use super::super::central::{Server, failure};
use super::{AROUND, Args, Exit, Failure, Output, table};
use crate::deliver::central::{self, Question};

/// Runs it; `tenant` is `[gateway] tenant` of whose events are asked for.
pub(super) fn run(args: &Args, server: &Server, tenant: &str) -> anyhow::Result<Exit> {
    let question = match (args.id, &args.person, args.date) {
        (Some(id), ..) => Question::Event(id),
        (None, Some(number), Some(date)) => Question::Person { number, date, time: args.time },
        // clap asks for one of the two.
        _ => return Err(Failure::new(Exit::Usage, "say which event, or which person and day").into()),
    };
    let password = server.password()?;
    let answer = super::super::runtime()?
        .block_on(central::trace(&server.admin(password.as_ref()), tenant, question, AROUND))
        .map_err(failure)?;
    let mut out = Output::stdout();
    for (at, found) in answer.events.iter().enumerate() {
        if args.json {
            out.line(object(found))?;
        } else {
            if at > 0 {
                out.line("")?;
            }
            show(found, &mut out)?;
        }
    }
    if !answer.events.is_empty() {
        return Ok(Exit::Done);
    }
    let what = if args.id.is_some() { "no such event" } else { "no event of this person then" };
    if args.json {
        out.line(json!({ "found": 0, "behind": answer.behind }))?;
    } else {
        out.line(format_args!("{what} at the centre (tenant {tenant})"))?;
        for gateway in &answer.behind {
            out.line(format_args!("{}", behind(gateway)))?;
        }
    }
    Ok(Exit::No)
}

/// Of a gateway that may still have it.
fn behind(gateway: &Value) -> String {
    let pending = gateway["pending"].as_u64().unwrap_or(0);
    let (name, seen) = (table::value(&gateway["gateway_id"]), table::time(&gateway["seen_at"]));
    let silent = gateway["silent_seconds"].as_u64().unwrap_or(0);
    format!("it may still come: {name} was heard of {silent} s ago ({seen}), then with {pending} events to send")
}

fn object(found: &Value) -> Value {
    let mut object = found.clone();
    object["event_time"] = central::latest(found)["event_time"].clone();
    object
}

fn show(found: &Value, out: &mut Output) -> std::io::Result<()> {
    let event = &found["event"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    out.line(format_args!("event      {}", table::value(&event["event_id"])))?;
    let serial = text(&event["terminal_serial"]).map(|serial| format!(" ({serial})")).unwrap_or_default();
    out.line(format_args!(
        "terminal   {}{serial} at site {}",
        table::value(&event["terminal_id"]),
        table::value(&event["site_id"])
    ))?;
    let person = &event["person"];
    let who = text(&person["terminal_person_id"]).or_else(|| text(&person["external_id"]));
    let mut said: Vec<String> = Vec::new();
    said.extend(who.map(|person| format!("person {person}")));
    said.extend(text(&event["credential"]["card_number"]).map(|card| format!("card {card}")));
    said.extend(["kind", "outcome"].iter().filter_map(|key| text(&event[*key])));
    said.extend(text(&event["punch"]).map(|punch| format!("punch {punch}")));
    said.extend(text(&event["device_time_raw"]).map(|raw| format!("at \"{raw}\"")));
    out.line(format_args!("said       {}", said.join(", ")))?;
    let happened = |event: &Value| {
        let at =
            central::local(event).map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string());
        format!("{at} {} (clock {})", table::value(&event["zone"]), table::value(&event["clock_quality"]))
    };
    out.line(format_args!("happened   {}", happened(event)))?;
    for correction in found["corrections"].as_array().into_iter().flatten() {
        out.line(format_args!("corrected  {}", happened(correction)))?;
    }
    out.line(format_args!("heard      {}", table::time(&event["received_time"])))?;
    let gateway = &found["gateway"];
    out.line(format_args!(
        "centre     holds it, from {}, row {} of journal {}",
        table::value(&event["gateway_id"]),
        found["seq"],
        table::value(&found["journal_id"])
    ))?;
    match found["conflicts"].as_u64() {
        Some(0) | None => {}
        Some(count) => out.line(format_args!(
            "conflict   {count} other contents came under this id; the first one stands, see portero.conflict"
        ))?,
    }
    if let Some(problem) = gateway["anchor_problem"].as_str() {
        out.line(format_args!("warning    {problem}"))?;
    }
    for sink in gateway["sinks"].as_array().into_iter().flatten() {
        let count = |key: &str| sink[key].as_u64().unwrap_or(0);
        out.line(format_args!(
            "{:<10} of all its events {} pending and {} quarantined when the gateway was last heard of ({}); portero trace there says more",
            table::value(&sink["name"]),
            count("pending"),
            count("quarantined"),
            table::time(&gateway["seen_at"]),
        ))?;
    }
    Ok(())
}
