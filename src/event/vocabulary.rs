//! The closed vocabularies of an event, as words on the wire and as single bytes in the journal.
//!
//! Must not: carry data, do I/O, or renumber a code. The numbers are part of the journal's body format, the words are
//! part of the JSON and SQL formats; both may only grow.

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $code:literal $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $(#[doc = concat!("`", $word, "`")] $variant = $code),+ }

        impl $name {
            /// Every value, in order of its code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word used in JSON, SQL and configuration.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The inverse of [`Self::as_str`].
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }

            /// The byte used in the journal.
            pub const fn code(self) -> u8 { self as u8 }

            /// The inverse of [`Self::code`].
            pub const fn from_code(code: u8) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.as_str()) }
        }
    };
}

words! {
    /// What kind of thing happened.
    Kind {
        Unknown = 0 "unknown",
        CredentialRead = 1 "credential_read",
        AccessDecision = 2 "access_decision",
        AttendancePunch = 3 "attendance_punch",
        DoorState = 4 "door_state",
        Alarm = 5 "alarm",
        DeviceStatus = 6 "device_status",
        Operation = 7 "operation",
    }
}

words! {
    /// What the terminal decided.
    Outcome { Unknown = 0 "unknown", Granted = 1 "granted", Denied = 2 "denied", None = 3 "none" }
}

words! {
    /// Why a terminal refused; a reason outside this list stays in `vendor_code`.
    DenialReason {
        Other = 0 "other",
        NotRegistered = 1 "not_registered",
        NoPermission = 2 "no_permission",
        Expired = 3 "expired",
        OutsideSchedule = 4 "outside_schedule",
        Antipassback = 5 "antipassback",
        WrongPin = 6 "wrong_pin",
        MatchFailed = 7 "match_failed",
        Blocked = 8 "blocked",
        LivenessFailed = 9 "liveness_failed",
    }
}

words! {
    /// How the person was verified. An event holds a set of them, see [`super::Methods`].
    Method {
        Face = 0 "face",
        Finger = 1 "finger",
        Palm = 2 "palm",
        Vein = 3 "vein",
        Iris = 4 "iris",
        Card = 5 "card",
        Pin = 6 "pin",
        Qr = 7 "qr",
        Ble = 8 "ble",
        Remote = 9 "remote",
        Button = 10 "button",
        Other = 11 "other",
    }
}

words! {
    /// What an attendance punch means.
    Punch {
        Undefined = 0 "undefined",
        In = 1 "in",
        Out = 2 "out",
        BreakOut = 3 "break_out",
        BreakIn = 4 "break_in",
        OtIn = 5 "ot_in",
        OtOut = 6 "ot_out",
    }
}

words! {
    /// Through a door, which way.
    Passage { Unknown = 0 "unknown", Entry = 1 "entry", Exit = 2 "exit" }
}

words! {
    /// Did the gateway hear it as it happened?
    Origin { Live = 0 "live", Replay = 1 "replay", Backfill = 2 "backfill" }
}

words! {
    /// How far the event's time can be trusted.
    ClockQuality {
        Good = 0 "good",
        Drifted = 1 "drifted",
        Ambiguous = 2 "ambiguous",
        Bogus = 3 "bogus",
        Absent = 4 "absent",
    }
}

words! {
    /// Where the zone of a device time came from.
    TzSource { None = 0 "none", InMessage = 1 "in_message", Configured = 2 "configured" }
}

words! {
    /// A condition that somebody should look at.
    AlarmKind {
        Tamper = 0 "tamper",
        Forced = 1 "forced",
        HeldOpen = 2 "held_open",
        Duress = 3 "duress",
        Fire = 4 "fire",
        Power = 5 "power",
        CommsLost = 6 "comms_lost",
        ReaderMissing = 7 "reader_missing",
    }
}

words! {
    /// The state of a door as the terminal reports it.
    DoorState { Open = 0 "open", Closed = 1 "closed", Locked = 2 "locked", Unlocked = 3 "unlocked" }
}

words! {
    /// Whether a face wore a mask.
    Mask { Unknown = 0 "unknown", Yes = 1 "yes", No = 2 "no" }
}

words! {
    /// The scale of a match score.
    ScoreScale { Raw = 0 "raw", Percent = 1 "percent", Unit = 2 "unit", U8 = 3 "u8" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_codes_round_trip() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_word(kind.as_str()), Some(*kind));
            assert_eq!(Kind::from_code(kind.code()), Some(*kind));
        }
        for method in Method::ALL {
            assert_eq!(Method::from_word(method.as_str()), Some(*method));
            assert_eq!(Method::from_code(method.code()), Some(*method));
        }
        assert_eq!(Punch::from_word("sideways"), None);
    }
}
