//! A child process that is killed when it goes out of scope.
//!
//! Must not: leave a zombie or kill a process that isn't its child.

use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use super::wait::eventually;

/// A running child.
pub struct Process(Child);

impl Process {
    /// Starts `command`; its failure to start is the test's failure.
    #[track_caller]
    pub fn spawn(command: &mut Command) -> Self {
        match command.spawn() {
            Ok(child) => Self(child),
            Err(error) => {
                panic!("can't start {}: {error} (is it installed? `make deps`)", command.get_program().display())
            }
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal, unless the process has ended already.
    pub fn signal(&mut self, signal: rustix::process::Signal) {
        if self.running() {
            let pid = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", deadline, || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}
