//! A mapping as text that says the same whatever the types in the code are called: what its revision is the digest of.
//!
//! Must not: change with a refactor. Another text is another revision, and what was quarantined is then tried again.

use std::fmt::{self, Write};

use super::{As, Case, Format, Mapping, Origin, Rule, Scalar, Text, Time};

impl Mapping {
    /// One line a target.
    pub fn canonical(&self, out: &mut String) {
        for field in &self.fields {
            quote(&field.target.join("\u{1f}"), out);
            out.push('=');
            field.rule.canonical(out);
            out.push('\n');
        }
    }
}

impl Rule {
    /// The rule on one line, without a line end.
    pub fn canonical(&self, out: &mut String) {
        // Writing into a String can't fail.
        let _ = self.write(out);
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        match &self.origin {
            Origin::Constant(constant) => scalar("constant", constant, out),
            Origin::Template(template) => text("template", template, out),
            Origin::Source(source, time) => {
                text("from", source.pointer(), out);
                if let Some(Time { zone, format }) = time {
                    text("zone", zone, out);
                    let word = Format::WORDS.iter().find(|(_, known)| known == format).map(|(word, _)| *word);
                    match (word, format) {
                        (_, Format::Pattern(pattern)) => text("pattern", pattern, out),
                        (word, _) => text("format", word.unwrap_or_default(), out),
                    }
                }
            }
        }
        let Text { trim, strip, strip_leading_zeros, rut_dash, case } = &self.text;
        for (word, on) in [
            ("trim", *trim),
            ("strip_leading_zeros", *strip_leading_zeros),
            ("rut_dash", *rut_dash),
            ("upper", *case == Case::Upper),
            ("lower", *case == Case::Lower),
            ("optional", self.optional),
        ] {
            if on {
                write!(out, " {word}")?;
            }
        }
        if !strip.is_empty() {
            text("strip", strip, out);
        }
        let mut pairs: Vec<_> = self.map.iter().collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        for (from, to) in pairs {
            text("map", from, out);
            scalar("to", to, out);
        }
        if let Some(default) = &self.default {
            scalar("default", default, out);
        }
        for (source, words) in &self.when {
            text("when", source.pointer(), out);
            words.iter().for_each(|word| text("is", word, out));
        }
        if let Some(most) = self.max_chars {
            write!(out, " max_chars={most}")?;
        }
        if let Some(as_type) = self.as_type {
            let word = As::WORDS.iter().find(|(_, known)| *known == as_type).map_or("", |(word, _)| word);
            write!(out, " as={word}")?;
        }
        Ok(())
    }
}

fn scalar(key: &str, value: &Scalar, out: &mut String) {
    match value {
        Scalar::Text(value) => text(key, value, out),
        Scalar::Number(_) | Scalar::Boolean(_) => {
            let _ = write!(out, " {key}={}", value.as_text());
        }
    }
}

fn text(key: &str, value: &str, out: &mut String) {
    let _ = write!(out, " {key}=");
    quote(value, out);
}

fn quote(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
