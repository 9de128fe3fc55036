//! `rdm6300`: a 125 kHz reader that repeats a tag's frame every 65 ms while the tag is held to it.
//!
//! Must not: remember anything. What the other side doesn't hear is gone, as on the real reader; the manifest says what
//! was shown to it.

use tokio::time::{Duration, Instant};

use super::line::Line;
use super::manifest::{Entry, sent_line};
use super::pace::Pace;
use super::people::somebody;
use super::{Context, Error, Summary};

/// The reader's own pace while a tag is present.
const REPEAT: Duration = Duration::from_millis(65);

/// A silence that certainly ends a presence (a gap over 500 ms does).
const APART: Duration = Duration::from_millis(700);

pub(super) async fn run(context: &Context) -> Result<Summary, Error> {
    let options = &context.options;
    let mut line = Line::open(&options.target)?;
    let key = options.device_id.as_deref().unwrap_or("rdm6300");
    let mut random = fastrand::Rng::with_seed(options.seed);
    let mut noise = fastrand::Rng::with_seed(options.seed ^ 1);
    let mut quota = options.count.unwrap_or(u64::MAX);
    let mut summary = Summary::default();
    let mut lines = Vec::new();
    let mut last = (0, Instant::now());
    tokio::select! {
        () = line.wait_open() => {}
        () = context.shutdown.cancelled() => return Ok(summary),
    }
    let mut pace = Pace::new(options.rate);
    let started = Instant::now();
    while quota > 0 {
        let next = pace.next();
        tokio::select! {
            () = async { tokio::time::sleep_until(next).await; line.wait_open().await; } => {}
            () = context.shutdown.cancelled() => break,
        }
        pace.made();
        let tag = u64::from(somebody(&mut random, options.seed).card) | 0x01_0000_0000;
        let held = random.u32(3..7);
        if tag == last.0 {
            tokio::time::sleep_until(last.1 + APART).await;
        }
        let card = format!("{tag:010X}");
        let entry = Entry { device_key: key, device_time_raw: None, native_seq: None, person: None, card: Some(&card) };
        sent_line(&entry, context.clock.now().wall, &mut lines);
        context.manifest.sent(&mut lines)?;
        // A swipe that began is finished, also when we are asked to stop.
        let frame = frame(tag);
        for _ in 0..held {
            say(&mut line, &frame, context).await?;
            tokio::time::sleep(REPEAT).await;
        }
        last = (tag, Instant::now());
        if options.noise {
            disturb(&mut line, &mut noise, context).await?;
        }
        quota -= 1;
        summary.sent += 1;
    }
    summary.seconds = started.elapsed().as_secs_f64();
    line.close().await;
    Ok(summary)
}

async fn say(line: &mut Line, bytes: &[u8], context: &Context) -> Result<(), Error> {
    match line.send(bytes).await {
        Ok(()) => Ok(()),
        Err(error) => Err(Error::Line { path: format!("{:?}", context.options.target), error }),
    }
}

/// What a reader says of itself now and then: none of it is a swipe.
async fn disturb(line: &mut Line, noise: &mut fastrand::Rng, context: &Context) -> Result<(), Error> {
    let ghost = noise.u64(1..1 << 40);
    let bytes = match noise.u8(0..4) {
        0 => std::iter::repeat_with(|| noise.u8(..)).take(9).filter(|byte| *byte != STX).collect(),
        1 => frame(ghost)[..7].to_vec(),
        2 => {
            let mut wrong = frame(ghost);
            wrong[12] ^= 1;
            wrong
        }
        _ => frame(ghost), // alone: a tag that isn't there
    };
    say(line, &bytes, context).await
}

const STX: u8 = 0x02;
const ETX: u8 = 0x03;

/// STX, ten hex digits, two of the XOR over the five bytes, ETX (Seeed wiki, RDM6300).
fn frame(tag: u64) -> Vec<u8> {
    let sum = tag.to_be_bytes().iter().fold(0, |sum, byte| sum ^ byte);
    let mut frame = vec![STX];
    frame.extend_from_slice(format!("{tag:010X}{sum:02X}").as_bytes());
    frame.push(ETX);
    frame
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_frame_is_the_one_of_the_manual() {
        assert_eq!(super::frame(0x01_0007_34E0), b"\x0201000734E0D2\x03");
    }
}
