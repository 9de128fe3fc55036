//! The page's words, in English and Spanish.
//!
//! Must not: translate what a device, a sink or the system said; that is shown as it is.

/// A language of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Spanish,
}

impl Language {
    /// By `?lang=`, else by the best of `Accept-Language` (RFC 9110 §12.5.4), else English.
    pub(super) fn choose(query: Option<&str>, accept: Option<&str>) -> Self {
        let asked = query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("lang=")));
        asked.and_then(Self::of).or_else(|| Self::best(accept?)).unwrap_or(Self::English)
    }

    fn best(accept: &str) -> Option<Self> {
        let mut best: Option<(f32, Self)> = None;
        for item in accept.split(',') {
            let mut parts = item.split(';').map(str::trim);
            let Some(language) = parts.next().and_then(Self::of) else { continue };
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
            if weight > best.map_or(0.0, |(weight, _)| weight) {
                best = Some((weight, language));
            }
        }
        best.map(|(_, language)| language)
    }

    fn of(tag: &str) -> Option<Self> {
        match tag.split('-').next().unwrap_or(tag).to_ascii_lowercase().as_str() {
            "en" => Some(Self::English),
            "es" => Some(Self::Spanish),
            _ => None,
        }
    }

    pub(super) const fn code(self) -> &'static str {
        self.pick("en", "es")
    }

    pub(super) const fn pick(self, english: &'static str, spanish: &'static str) -> &'static str {
        match self {
            Self::English => english,
            Self::Spanish => spanish,
        }
    }

    /// A word of [`WORDS`]; a key that is not there stands for itself.
    pub(super) fn word(self, key: &str) -> &str {
        WORDS.iter().find(|(name, ..)| *name == key).map_or(key, |(_, english, spanish)| self.pick(english, spanish))
    }

    /// A whole number with its thousands apart.
    pub(super) fn number(self, number: u64) -> String {
        let digits = number.to_string();
        let mut text = String::with_capacity(digits.len() * 4 / 3);
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push_str(self.pick(",", "."));
            }
            text.push(digit);
        }
        text
    }

    /// A size, by powers of 1024.
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    pub(super) fn bytes(self, bytes: u64) -> String {
        let (mut size, mut unit) = (bytes as f64, "B");
        for next in ["KiB", "MiB", "GiB", "TiB"] {
            if size < 1024.0 {
                break;
            }
            (size, unit) = (size / 1024.0, next);
        }
        let text = if unit == "B" { format!("{size} {unit}") } else { format!("{size:.1} {unit}") };
        if self == Self::Spanish { text.replace('.', ",") } else { text }
    }

    /// How far away a moment is, seconds: positive in the past. `page.js` says the same.
    pub(super) fn ago(self, seconds: i64) -> String {
        let far = seconds.unsigned_abs();
        if far < 2 {
            return self.pick("now", "ahora").to_owned();
        }
        let (count, unit) = match far {
            0..90 => (far, "s"),
            90..5_400 => (far / 60, "min"),
            5_400..129_600 => (far / 3_600, "h"),
            _ => (far / 86_400, "d"),
        };
        match (self, seconds > 0) {
            (Self::English, true) => format!("{count} {unit} ago"),
            (Self::English, false) => format!("in {count} {unit}"),
            (Self::Spanish, true) => format!("hace {count} {unit}"),
            (Self::Spanish, false) => format!("en {count} {unit}"),
        }
    }
}

/// Key, English, Spanish.
pub(super) const WORDS: &[(&str, &str, &str)] = &[
    ("all_well", "All well", "Todo en orden"),
    ("look", "Needs a look", "Requiere atención"),
    ("act", "Someone must act", "Alguien debe actuar"),
    ("lost", "The gateway does not answer. What you see is from", "El gateway no responde. Lo que ve es de"),
    ("since", "started", "iniciado"),
    ("version", "version", "versión"),
    ("terminals", "Terminals", "Terminales"),
    ("no_terminals", "No terminal is configured.", "No hay terminales configurados."),
    ("sinks", "Destinations", "Destinos"),
    (
        "no_sinks",
        "No destination is configured: events stay in the journal.",
        "No hay destinos configurados: los eventos quedan en el diario.",
    ),
    ("journal", "Journal", "Diario"),
    ("configuration", "Configuration", "Configuración"),
    ("last_event", "last heard", "último dato"),
    ("never", "never", "nunca"),
    ("not_yet", "not since the start", "no desde el inicio"),
    ("events", "events since start", "eventos desde el inicio"),
    ("duplicates", "repeats", "repetidos"),
    ("faults", "faults", "fallas"),
    ("devices", "devices", "dispositivos"),
    ("offline", "offline", "desconectados"),
    ("gaps", "missing records", "registros faltantes"),
    ("pending", "waiting", "en espera"),
    ("oldest", "oldest waiting", "el más antiguo"),
    ("none", "none", "ninguno"),
    ("delivered", "delivered", "entregados"),
    ("quarantined", "refused", "rechazados"),
    ("last_delivery", "last delivery", "última entrega"),
    ("next_try", "next try", "próximo intento"),
    ("reason", "Reason", "Motivo"),
    ("size", "size", "tamaño"),
    ("of", "of", "de"),
    ("in_journal", "events", "eventos"),
    ("days_left", "room left at this rate", "espacio a este ritmo"),
    ("days", "days", "días"),
    ("not_known", "not known yet", "aún no se sabe"),
    ("over_years", "more than 10 years", "más de 10 años"),
    ("file", "file", "archivo"),
    ("read", "read", "leído"),
    ("state", "state", "estado"),
    (
        "clock",
        "The clock of this machine is not synchronised: times are provisional.",
        "El reloj de este equipo no está sincronizado: las horas son provisorias.",
    ),
    ("journal_error", "The journal does not answer", "El diario no responde"),
    ("directory_error", "The worker directory was not refreshed", "El directorio de trabajadores no se actualizó"),
    ("unconfigured", "Heard, but not configured", "Oído, pero no configurado"),
    ("chart", "Last 24 hours", "Últimas 24 horas"),
    ("heard", "heard", "oídos"),
    ("at_most", "at most", "máximo"),
    ("more_than", "more than", "más de"),
    // States of links.
    ("link_connecting", "connecting", "conectando"),
    ("link_up", "connected", "conectado"),
    ("link_down", "not reachable", "sin conexión"),
    ("link_held", "held back", "retenido"),
    // States of sinks.
    ("sink_idle", "all delivered", "al día"),
    ("sink_sending", "sending", "enviando"),
    ("sink_waiting", "waiting its turn", "esperando turno"),
    ("sink_retrying", "trying again", "reintentando"),
    ("sink_open", "out of reach", "fuera de alcance"),
    ("sink_blocked", "blocked", "bloqueado"),
    ("sink_gone", "gone for good", "dado de baja"),
    ("sink_stopped", "stopped", "detenido"),
    // What to do.
    (
        "do_link_down",
        "It is tried again by itself. Check plug, cable and power.",
        "Se reintenta solo. Revise enchufe, cable y energía.",
    ),
    (
        "do_link_held",
        "Nothing is confirmed to the terminals until the journal takes events again: free space on the disk.",
        "Nada se confirma a los terminales hasta que el diario acepte eventos: libere espacio en el disco.",
    ),
    ("do_retrying", "It is tried again by itself; nothing is lost.", "Se reintenta solo; nada se pierde."),
    (
        "do_open",
        "Nothing is lost: events wait in the journal, and one probe at a time leaves until it answers. Check the network and the other side.",
        "Nada se pierde: los eventos esperan en el diario y sale un intento a la vez hasta que responda. Revise la red y el otro lado.",
    ),
    (
        "do_blocked",
        "Someone must mend this. Nothing is lost: events wait in the journal.",
        "Alguien debe corregirlo. Nada se pierde: los eventos esperan en el diario.",
    ),
    (
        "do_gone",
        "The other side says that this address is no more. Correct its url, or remove it from the configuration.",
        "El otro lado dice que esta dirección ya no existe. Corrija su url o quítelo de la configuración.",
    ),
    (
        "do_stopped",
        "It does not run. Restart the gateway; the log says why.",
        "No está en marcha. Reinicie el gateway; el registro dice por qué.",
    ),
    ("do_quarantined", "Look with: portero quarantine list", "Véalos con: portero quarantine list"),
    // States of the file.
    ("file_running", "as it runs", "es la que corre"),
    (
        "file_changed",
        "changed since it was read; take it over (portero config reload)",
        "cambió desde que se leyó; aplíquela (portero config reload)",
    ),
    ("file_differs", "in use, but for what only a restart takes", "en uso, salvo lo que solo un reinicio aplica"),
    ("from_afar", "from afar: revision", "remota: revisión"),
    ("on_probation", "on probation", "a prueba"),
    ("file_refused", "refused; what was running runs on", "rechazada; sigue la que corría"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_the_one_asked_for_or_the_one_liked_best() {
        let by = |query, accept| Language::choose(query, accept).code();
        assert_eq!(by(None, Some("es-CL,es;q=0.9,en;q=0.8")), "es");
        assert_eq!(by(None, Some("de, en;q=0.5, es;q=0.7")), "es");
        assert_eq!(by(None, Some("en-GB,en;q=0.9,es;q=0.8")), "en");
        assert_eq!(by(Some("lang=es"), Some("en")), "es");
        assert_eq!(by(Some("x=1&lang=en"), Some("es")), "en");
        assert_eq!(by(Some("lang=xx"), Some("es;q=0")), "en");
        assert_eq!(by(None, None), "en");
    }

    #[test]
    fn numbers_sizes_and_ages_are_written_as_people_do() {
        let (en, es) = (Language::English, Language::Spanish);
        assert_eq!(
            (en.number(0), en.number(999), en.number(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
        assert_eq!(es.number(12_345), "12.345");
        assert_eq!((en.bytes(512), es.bytes(1_572_864)), ("512 B".to_owned(), "1,5 MiB".to_owned()));
        assert_eq!((en.ago(1), es.ago(0)), ("now".to_owned(), "ahora".to_owned()));
        assert_eq!(
            (en.ago(89), es.ago(90), en.ago(-600)),
            ("89 s ago".into(), "hace 1 min".into(), "in 10 min".into())
        );
        assert_eq!((en.ago(7_200), es.ago(200_000)), ("2 h ago".to_owned(), "hace 2 d".to_owned()));
    }

    #[test]
    fn every_word_stands_once_in_both_languages() {
        for (index, (key, english, spanish)) in WORDS.iter().enumerate() {
            assert!(!WORDS[..index].iter().any(|(other, ..)| other == key), "{key} stands twice");
            assert_eq!(english.is_empty(), spanish.is_empty(), "{key}");
        }
    }
}
