//! The bytes below the body codec: varints, tags, texts.
//!
//! Must not: know a field, panic on any input, or change. It is part of the body format, version 1.

/// A stored body that can't be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("damaged body: {0}")]
pub(crate) struct Damaged(pub(crate) &'static str);

/// The low two bits of a tag say how its value is stored; the upper six are the field.
const VARINT: u8 = 0;
const BYTES: u8 = 1;
const FIXED: u8 = 2;
/// A text of the symbols `0-9A-F` only, two to a byte: numbers of people, cards and records are most of an event.
const NIBBLES: u8 = 3;

const SYMBOLS: &[u8; 16] = b"0123456789ABCDEF";

/// Maps signed to unsigned so that small magnitudes stay small.
pub(super) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub(super) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Appends a LEB128 varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends tagged fields.
pub(super) struct Fields<'a>(pub(super) &'a mut Vec<u8>);

impl Fields<'_> {
    pub(super) fn int(&mut self, field: u8, value: u64) {
        self.0.push(field << 2 | VARINT);
        put_varint(self.0, value);
    }

    pub(super) fn maybe_int(&mut self, field: u8, value: Option<u64>) {
        if let Some(value) = value {
            self.int(field, value);
        }
    }

    pub(super) fn float(&mut self, field: u8, value: f64) {
        self.0.push(field << 2 | FIXED);
        self.0.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    pub(super) fn bytes(&mut self, field: u8, value: &[u8]) {
        self.0.push(field << 2 | BYTES);
        put_varint(self.0, value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(super) fn text(&mut self, field: u8, value: &str) {
        if !value.is_empty() && value.bytes().all(is_symbol) {
            self.nibbles(field, value);
        } else {
            self.bytes(field, value.as_bytes());
        }
    }

    /// `value` consists of [`SYMBOLS`] only.
    pub(super) fn nibbles(&mut self, field: u8, value: &str) {
        self.0.push(field << 2 | NIBBLES);
        put_varint(self.0, value.len() as u64);
        for pair in value.as_bytes().chunks(2) {
            let low = pair.get(1).map_or(0, |b| nibble(*b));
            self.0.push(nibble(pair[0]) << 4 | low);
        }
    }

    pub(super) fn maybe_text(&mut self, field: u8, value: Option<&str>) {
        if let Some(value) = value {
            self.text(field, value);
        }
    }
}

pub(super) const fn is_symbol(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'F')
}

const fn nibble(symbol: u8) -> u8 {
    match symbol {
        b'0'..=b'9' => symbol - b'0',
        _ => symbol.wrapping_sub(b'A' - 10) & 0x0F,
    }
}

/// A field's value as it stands in the body.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Int(u64),
    Bytes(&'a [u8]),
    Float(f64),
    Nibbles(usize, &'a [u8]),
}

impl<'a> Value<'a> {
    pub(super) const fn int(self) -> Result<u64, Damaged> {
        match self {
            Self::Int(value) => Ok(value),
            _ => Err(Damaged("a number is not a number")),
        }
    }

    pub(super) fn small<T: TryFrom<u64>>(self) -> Result<T, Damaged> {
        T::try_from(self.int()?).map_err(|_| Damaged("a number is too large"))
    }

    pub(super) const fn float(self) -> Result<f64, Damaged> {
        match self {
            Self::Float(value) => Ok(value),
            _ => Err(Damaged("a float is not a float")),
        }
    }

    pub(super) const fn bytes(self) -> Result<&'a [u8], Damaged> {
        match self {
            Self::Bytes(value) => Ok(value),
            _ => Err(Damaged("bytes are not bytes")),
        }
    }

    pub(super) fn text(self) -> Result<String, Damaged> {
        match self {
            Self::Bytes(value) => text(value),
            Self::Nibbles(length, packed) => {
                let mut out = String::with_capacity(length);
                for i in 0..length {
                    let byte = packed.get(i / 2).copied().unwrap_or(0);
                    let symbol = if i % 2 == 0 { byte >> 4 } else { byte & 0x0F };
                    out.push(char::from(SYMBOLS[usize::from(symbol)]));
                }
                Ok(out)
            }
            _ => Err(Damaged("a text is not a text")),
        }
    }
}

pub(super) fn text(bytes: &[u8]) -> Result<String, Damaged> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Damaged("a text is not UTF-8"))
}

/// Reads what [`Fields`] wrote.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Result<u8, Damaged> {
        let (first, rest) = self.0.split_first().ok_or(Damaged("it ends too early"))?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(Damaged("it ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn varint(&mut self) -> Result<u64, Damaged> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damaged("a number is too long"))
    }

    pub(super) fn length(&mut self) -> Result<usize, Damaged> {
        usize::try_from(self.varint()?).map_err(|_| Damaged("a length is too large"))
    }

    pub(super) fn field(&mut self) -> Result<(u8, Value<'a>), Damaged> {
        let tag = self.byte()?;
        let value = match tag & 3 {
            VARINT => Value::Int(self.varint()?),
            BYTES => {
                let length = self.length()?;
                Value::Bytes(self.take(length)?)
            }
            FIXED => {
                let mut bits = [0; 8];
                bits.copy_from_slice(self.take(8)?);
                Value::Float(f64::from_bits(u64::from_le_bytes(bits)))
            }
            _ => {
                let length = self.length()?;
                Value::Nibbles(length, self.take(length.div_ceil(2))?)
            }
        };
        Ok((tag >> 2, value))
    }
}
