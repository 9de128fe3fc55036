//! `make demo`: a whole site on this machine, and what happens to its events when everything is taken away from it.
//!
//! Simulated terminals talk to the real gateway, which delivers to a small vendor API and a throw-away PostgreSQL. After a
//! while both destinations go, people keep punching, the gateway is killed with SIGKILL, everything comes back, and the
//! account is drawn up from what the terminals wrote down and what each destination holds.
//!
//! Must not: use anything of the gateway but its command line, or leave a process or a file behind.

#![allow(clippy::print_stdout, reason = "a screen is what this program is for")]

mod board;
mod reckoning;
mod site;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use board::Board;
use site::Site;

const HELP: &str = "\
usage: demo [--keep] [--mosquitto]

  --keep        leave everything running after the reckoning, until Ctrl-C
  --mosquitto   the yard talks to a mosquitto of its own, of which the gateway is a client

PORTERO_TEST_COMMAND=\"EMULATOR ... PORTERO\" puts another gateway on the stage: tests/smoke.sh.
";

/// Ctrl-C was pressed, or somebody asked us to end.
pub(crate) struct Interrupted;

fn main() -> ExitCode {
    let (mut keep, mut mosquitto) = (false, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--keep" => keep = true,
            "--mosquitto" => mosquitto = true,
            "--help" | "-h" => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            _ => {
                eprint!("unknown argument {argument}\n{HELP}");
                return ExitCode::from(2);
            }
        }
    }
    let stop = stop_on_signal();
    // Whatever goes wrong, the processes of the site end with it: they are killed when it is dropped.
    match std::panic::catch_unwind(|| play(keep, mosquitto, &stop)) {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::FAILURE,
        Ok(Err(Interrupted)) => {
            println!("\ninterrupted: everything that was started has been stopped");
            ExitCode::from(130)
        }
        Err(_) => {
            eprintln!("the demo could not be finished, see above; everything that was started has been stopped");
            ExitCode::FAILURE
        }
    }
}

/// The play in five acts. Answers whether the promise was kept.
fn play(keep: bool, mosquitto: bool, stop: &Stop) -> Result<bool, Interrupted> {
    println!("starting PostgreSQL, the vendor API, the gateway and the terminals ...");
    let mut site = Site::build(mosquitto);
    let mut board = Board::new();
    let mut act = |site: &mut Site, seconds, what: &str| board.watch(site, stop, Duration::from_secs(seconds), what);

    site.start_terminals();
    site.plug_reader();
    act(&mut site, 15, "a working day: everything arrives at both destinations at once")?;

    site.take_destinations_away();
    act(&mut site, 12, "both destinations are gone; people keep punching, the journal keeps their events")?;

    site.unplug_reader();
    act(&mut site, 2, "the reader, which has no memory, is unplugged first: what nobody hears can't be promised")?;
    site.kill_gateway();
    act(&mut site, 4, "kill -9: the gateway is dead, the terminals keep what was not confirmed")?;

    site.restart_gateway();
    site.plug_reader();
    act(&mut site, 6, "the gateway is back, still without destinations")?;
    site.bring_destinations_back();
    act(&mut site, 10, "the destinations are back: the backlog drains while people keep punching")?;

    site.unplug_reader();
    site.stop_terminals();
    board.watch_until(
        &mut site,
        stop,
        Duration::from_secs(180),
        "everybody went home: the last events arrive",
        |now| now.waiting == Some(0) && now.everything_journalled(),
    )?;
    let kept = reckoning::draw_up(&mut site);

    if keep {
        println!("{}", site.how_to_look_around());
        site.start_terminals();
        site.plug_reader();
        let _ = board.watch(&mut site, stop, Duration::MAX, "left running: Ctrl-C ends it");
        println!("\neverything that was started is stopped");
    }
    Ok(kept)
}

/// Whether somebody asked us to end, for those who wait.
#[derive(Default)]
pub(crate) struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits for `time`, less if we are asked to end. Answers whether we are.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(asked, time, |asked| !*asked);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn ask(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

/// Asked to end by SIGINT, SIGTERM or SIGHUP.
fn stop_on_signal() -> Arc<Stop> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Arc::new(Stop::default());
    let asked = Arc::clone(&stop);
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else { return };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                asked.ask();
            }
        });
    });
    stop
}
