//! Texts spoilt at random, the same for the same seed.
//!
//! Must not: know what a text means.

/// The text with up to three slips after its first `head` bytes: a character put in or lost, a cut, a line lost or doubled.
pub fn mutated(mut text: String, head: usize, random: &mut fastrand::Rng) -> String {
    for _ in 0..random.usize(0..4) {
        if text.len() <= head {
            break;
        }
        let mut at = random.usize(head..text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
        match random.u8(0..5) {
            0 => text.insert(at, *random.choice(&['"', '[', ']', '=', '0', '-', '.', '\n', 'é', '\u{0}']).unwrap()),
            1 => drop(text.remove(at)),
            2 => text.truncate(at),
            3 => text.replace_range(at..end, ""),
            _ => {
                let line = text[at..end].to_owned();
                text.insert_str(at, &format!("{line}\n"));
            }
        }
    }
    text
}
