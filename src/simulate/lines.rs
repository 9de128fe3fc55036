//! `serial-lines`: a controller that prints a line for each event, with a sequence number, a local time, a person, a card
//! and a direction.
//!
//! Must not: wait for an answer: such devices are never answered.

use std::fmt::Write as _;

use super::line::Line;
use super::manifest::{Entry, sent_line};
use super::pace::Pace;
use super::people::{plain_seconds, somebody};
use super::{Context, Error, Summary};

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// `17,2026-11-24 00:00:00,087109,0004812011,in`
    #[default]
    Columns,
    /// `seq=17,time=2026-11-24 00:00:00,person=087109,card=0004812011,dir=in`
    Pairs,
    /// `{"seq":"17","time":"2026-11-24 00:00:00","person":"087109","card":"0004812011","dir":"in"}`
    Json,
}

pub(super) async fn run(context: &Context) -> Result<Summary, Error> {
    let options = &context.options;
    let mut line = Line::open(&options.target)?;
    let key = options.device_id.as_deref().unwrap_or("serial-lines");
    let mut random = fastrand::Rng::with_seed(options.seed);
    let mut seq = options.first_seq;
    let end = options.count.map_or(u64::MAX, |count| seq.saturating_add(count));
    let mut summary = Summary::default();
    let (mut lines, mut time, mut text) = (Vec::new(), String::new(), String::new());
    tokio::select! {
        () = line.wait_open() => {}
        () = context.shutdown.cancelled() => return Ok(summary),
    }
    let mut pace = Pace::new(options.rate);
    let started = tokio::time::Instant::now();
    while seq < end {
        let next = pace.next();
        tokio::select! {
            () = async { tokio::time::sleep_until(next).await; line.wait_open().await; } => {}
            () = context.shutdown.cancelled() => break,
        }
        pace.made();
        let now = context.clock.now().wall;
        plain_seconds(now, &context.zone, &mut time);
        let who = somebody(&mut random, options.seed);
        let (number, person, card) = (seq.to_string(), format!("{:06}", who.id), format!("{:010}", who.card));
        let dir = if random.bool() { "in" } else { "out" };
        text.clear();
        // Writing into a string can't fail.
        let _ = match options.layout {
            Layout::Columns => write!(text, "{number},{time},{person},{card},{dir}\r\n"),
            Layout::Pairs => write!(text, "seq={number},time={time},person={person},card={card},dir={dir}\r\n"),
            Layout::Json => write!(
                text,
                "{{\"seq\":\"{number}\",\"time\":\"{time}\",\"person\":\"{person}\",\"card\":\"{card}\",\"dir\":\"{dir}\"}}\r\n"
            ),
        };
        if options.noise && random.u8(0..8) == 0 {
            let garbage: Vec<u8> = std::iter::repeat_with(|| random.u8(0x80..)).take(6).chain(*b"\r\n").collect();
            send(&mut line, &garbage, context).await?;
        }
        let entry = Entry {
            device_key: key,
            device_time_raw: Some(&time),
            native_seq: Some(&number),
            person: Some(&person),
            card: Some(&card),
        };
        sent_line(&entry, now, &mut lines);
        context.manifest.sent(&mut lines)?;
        send(&mut line, text.as_bytes(), context).await?;
        seq += 1;
        summary.sent += 1;
    }
    summary.seconds = started.elapsed().as_secs_f64();
    line.close().await;
    Ok(summary)
}

async fn send(line: &mut Line, bytes: &[u8], context: &Context) -> Result<(), Error> {
    line.send(bytes).await.map_err(|error| Error::Line { path: format!("{:?}", context.options.target), error })
}
