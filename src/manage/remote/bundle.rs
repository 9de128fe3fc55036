//! Is this bundle for us, now? Its signature, then what its `[bundle]` table says, against what we know.
//!
//! Must not: read a clock, a file or the network, or look at the configuration that the bundle brings.

use super::error::shown;
use super::floor::{Time, Validity};
use super::signature::{Key, Slot, Trust};
use super::{Error, signature};
use crate::event::{UtcMicros, json::rfc3339};
use crate::manage::config::{Addressee, Header, Layer, header};

/// Largest payload, bytes: that of a configuration file.
pub const MAX_BYTES: usize = 1 << 20;

/// What `purpose` must say.
pub const PURPOSE: &str = "portero-config";

/// A bundle as it came: nothing about it is known yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed {
    /// The TOML.
    pub payload: Vec<u8>,
    /// The text of its signature.
    pub signature: String,
}

/// Who judges.
#[derive(Debug, Clone)]
pub struct Judge<'a> {
    /// `[gateway] id`
    pub gateway: &'a str,
    /// `[gateway] group`
    pub group: Option<&'a str>,
    /// Whom we believe.
    pub trust: &'a Trust,
    /// The highest revision that was consumed; 0: none.
    pub consumed: u64,
    /// What is known of the time.
    pub time: Time,
}

/// A bundle that may be looked into.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// What it says of itself.
    pub header: Header,
    /// The configuration that it brings.
    pub layer: Layer,
    /// Who signed it.
    pub slot: Slot,
    /// Whom we believe once it is accepted.
    pub trust: Trust,
}

impl Judge<'_> {
    /// Everything that can be said without looking at the configuration inside. Nothing of an unsigned payload is read.
    pub fn judge(&self, signed: &Signed) -> Result<Judged, Error> {
        let (slot, layer, header) = open(signed, self.trust)?;
        self.addressed(&header)?;
        if header.revision <= self.consumed {
            return Err(Error::Replayed { revision: header.revision, consumed: self.consumed });
        }
        match self.time.judge(header.not_before, header.expires) {
            Validity::Good => {}
            Validity::Early => return Err(Error::NotYet { from: said(header.not_before) }),
            Validity::Late => return Err(Error::Expired { until: said(header.expires) }),
        }
        let trust = rotated(self.trust, &header, slot)?;
        Ok(Judged { header, layer, slot, trust })
    }

    fn addressed(&self, header: &Header) -> Result<(), Error> {
        if header.purpose != PURPOSE {
            return Err(Error::Purpose(shown(&header.purpose)));
        }
        match &header.to {
            Addressee::Gateway(id) if id == self.gateway => Ok(()),
            Addressee::Gateway(id) => {
                Err(Error::Elsewhere { theirs: format!("gateway \"{}\"", shown(id)), ours: self.gateway.to_owned() })
            }
            Addressee::Group(group) if Some(group.as_str()) == self.group => Ok(()),
            Addressee::Group(group) => {
                let ours = self.group.map_or_else(
                    || "this gateway is in none".to_owned(),
                    |group| format!("this gateway is in \"{group}\""),
                );
                Err(Error::OtherGroup { theirs: shown(group), ours })
            }
        }
    }
}

/// Signature first, then the header.
pub fn open(signed: &Signed, trust: &Trust) -> Result<(Slot, Layer, Header), Error> {
    if signed.payload.len() > MAX_BYTES {
        return Err(Error::TooLarge);
    }
    if signed.signature.len() > signature::MAX_BYTES {
        return Err(Error::SignatureForm);
    }
    let slot = trust.verify(&signed.payload, &signed.signature)?;
    let text = std::str::from_utf8(&signed.payload).map_err(|_| Error::NotText)?;
    let layer = Layer { name: "bundle".into(), text: text.to_owned() };
    let header = header(&layer).map_err(|problems| refused(&problems))?;
    let layer = Layer { name: format!("bundle {}", header.revision).into(), ..layer };
    Ok((slot, layer, header))
}

/// Problems as words, few enough for a message.
pub fn refused(problems: &crate::manage::config::Problems) -> Error {
    const MOST: usize = 10;
    Error::Refused(problems.errors.iter().take(MOST).map(ToString::to_string).collect())
}

/// The keys after this bundle: either may change the active one, recovery alone itself.
fn rotated(trust: &Trust, header: &Header, slot: Slot) -> Result<Trust, Error> {
    let parse = |text: &Option<String>| text.as_deref().map(Key::parse).transpose();
    let mut next = trust.clone();
    if let Some(key) = parse(&header.active_key)? {
        next.active = key;
    }
    if let Some(key) = parse(&header.recovery_key)?
        && trust.recovery.as_ref() != Some(&key)
    {
        if slot != Slot::Recovery {
            return Err(Error::RecoveryKey);
        }
        next.recovery = Some(key);
    }
    // Only where this bundle changes something: what the local file says is checked where it is read.
    if next != *trust && next.recovery.as_ref().is_some_and(|recovery| *recovery == next.active) {
        return Err(Error::OneKey);
    }
    Ok(next)
}

fn said(time: UtcMicros) -> String {
    rfc3339(time).as_str().to_owned()
}

#[cfg(test)]
mod tests;
