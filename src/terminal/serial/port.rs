//! Opening a serial port: exclusive, with settings, RS-485 if asked for, and errors that name the remedy.
//!
//! Must not: read or write.

use std::os::fd::AsRawFd as _;
use std::path::Path;

use tokio_serial::{DataBits, FlowControl, SerialStream, StopBits};

use crate::terminal::{Error, Flow, Parity, Rs485, SerialConfig};

/// `TIOCSRS485` of `asm-generic/ioctls.h`; the same on x86 and ARM.
const TIOCSRS485: u32 = 0x542F;

/// Flags of `struct serial_rs485` (`linux/serial.h`).
const ENABLED: u32 = 1;
const RTS_ON_SEND: u32 = 1 << 1;
const RTS_AFTER_SEND: u32 = 1 << 2;
const RX_DURING_TX: u32 = 1 << 4;

/// `struct serial_rs485` of `linux/serial.h`: 32 bytes, delays in milliseconds.
#[repr(C)]
struct SerialRs485 {
    flags: u32,
    delay_rts_before_send: u32,
    delay_rts_after_send: u32,
    padding: [u32; 5],
}

/// Opens and locks the device.
pub(super) fn open(config: &SerialConfig) -> Result<SerialStream, Error> {
    let path = config.device.to_string_lossy();
    let builder = tokio_serial::new(path.as_ref(), config.baud)
        .data_bits(match config.data_bits {
            5 => DataBits::Five,
            6 => DataBits::Six,
            7 => DataBits::Seven,
            _ => DataBits::Eight,
        })
        .parity(match config.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Odd => tokio_serial::Parity::Odd,
            Parity::Even => tokio_serial::Parity::Even,
        })
        .stop_bits(if config.stop_bits == 2 { StopBits::Two } else { StopBits::One })
        .flow_control(match config.flow {
            Flow::None => FlowControl::None,
            Flow::Software => FlowControl::Software,
            Flow::Hardware => FlowControl::Hardware,
        })
        .exclusive(true);
    let port = SerialStream::open(&builder).map_err(|error| refused(&config.device, &error))?;
    if let Some(rs485) = &config.rs485 {
        set_rs485(&port, rs485).map_err(|source| Error::Rs485 { device: config.device.clone(), source })?;
    }
    Ok(port)
}

/// What a failed read or write means.
pub(super) fn broken(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EIO | libc::ENXIO | libc::ENODEV) => format!("device was unplugged ({error})"),
        _ => error.to_string(),
    }
}

fn refused(device: &Path, error: &tokio_serial::Error) -> Error {
    let device = device.to_owned();
    let reason = error.to_string();
    // A lock that fails and a device that is missing share one error kind; the file tells them apart.
    if !device.exists() {
        return Error::NoDevice { device };
    }
    if error.kind() == tokio_serial::ErrorKind::Io(std::io::ErrorKind::PermissionDenied) {
        return Error::Open { device, reason: format!("{reason}; the service's user must be in group dialout") };
    }
    match holder(&device) {
        Some((pid, program)) => Error::Held { device, pid, program },
        None => Error::Open { device, reason },
    }
}

/// Who has the device open: process and program. Only processes that we may look into are seen.
pub fn holder(device: &Path) -> Option<(u32, String)> {
    let wanted = std::fs::canonicalize(device).ok()?;
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    for process in processes {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        if files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|open| open == wanted)) {
            let program = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some((pid, program.trim().to_owned()));
        }
    }
    None
}

#[expect(unsafe_code, reason = "TIOCSRS485 has no safe wrapper")]
fn set_rs485(port: &SerialStream, config: &Rs485) -> std::io::Result<()> {
    let flag = |on: bool, flag: u32| if on { flag } else { 0 };
    let rs485 = SerialRs485 {
        flags: ENABLED
            | flag(config.rts_on_send, RTS_ON_SEND)
            | flag(config.rts_after_send, RTS_AFTER_SEND)
            | flag(config.rx_during_tx, RX_DURING_TX),
        delay_rts_before_send: config.delay_before_ms,
        delay_rts_after_send: config.delay_after_ms,
        padding: [0; 5],
    };
    // SAFETY: the descriptor is open for as long as `port` lives, and the kernel reads (and writes back) exactly the 32
    // bytes of `struct serial_rs485`, which `SerialRs485` mirrors and which outlives the call.
    let result = unsafe { libc::ioctl(port.as_raw_fd(), TIOCSRS485 as _, &raw const rs485) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
