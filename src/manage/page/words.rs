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
        if unit == "B" { format!("{size} {unit}") } else { format!("{} {unit}", self.decimal(size)) }
    }

    /// How often, from a count and the microseconds that it took.
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    pub(super) fn rate(self, count: u64, micros: u64) -> String {
        let minute = count as f64 * 60e6 / micros.max(1) as f64;
        let (often, unit) = if minute >= 1.0 || count == 0 { (minute, "min") } else { (minute * 60.0, "h") };
        let text = if often >= 10.0 || count == 0 { format!("{often:.0}") } else { self.decimal(often) };
        // Whole thousands are apart as everywhere.
        let text = text.parse().map_or(text, |whole| self.number(whole));
        format!("{text} / {unit}")
    }

    /// Thousandths of a percent.
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    pub(super) fn percent(self, thousandths: u64) -> String {
        if thousandths < 100 {
            return format!("{} {} %", self.word("less_than"), self.decimal(0.1));
        }
        let percent = thousandths as f64 / 1000.0;
        let text = if percent < 10.0 { self.decimal(percent) } else { self.number(thousandths / 1000) };
        format!("{text} %")
    }

    fn decimal(self, number: f64) -> String {
        let text = format!("{number:.1}");
        if self == Self::Spanish { text.replace('.', ",") } else { text }
    }

    /// How long, seconds; of both languages.
    pub(super) fn span(seconds: u64) -> String {
        match seconds {
            0..90 => format!("{seconds} s"),
            90..5_400 => format!("{} min", seconds / 60),
            5_400..129_600 => format!("{} h", seconds / 3_600),
            _ => format!("{} d", seconds / 86_400),
        }
    }

    /// How far away a moment is, seconds: positive in the past. `page.js` says the same.
    pub(super) fn ago(self, seconds: i64) -> String {
        let far = seconds.unsigned_abs();
        if far < 2 {
            return self.pick("now", "ahora").to_owned();
        }
        let span = Self::span(far);
        match (self, seconds > 0) {
            (Self::English, true) => format!("{span} ago"),
            (Self::English, false) => format!("in {span}"),
            (Self::Spanish, true) => format!("hace {span}"),
            (Self::Spanish, false) => format!("en {span}"),
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
    ("sink_idle", "up to date", "al día"),
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
    // What happened.
    ("kind_unknown", "event", "evento"),
    ("kind_credential_read", "card or code read", "lectura de tarjeta o código"),
    ("kind_access_decision", "access", "acceso"),
    ("kind_attendance_punch", "attendance", "asistencia"),
    ("kind_door_state", "door", "puerta"),
    ("kind_alarm", "alarm", "alarma"),
    ("kind_device_status", "device status", "estado del equipo"),
    ("kind_operation", "operation at the device", "operación en el equipo"),
    ("punch_in", "in", "entrada"),
    ("punch_out", "out", "salida"),
    ("punch_break_out", "break begins", "inicio de pausa"),
    ("punch_break_in", "break ends", "fin de pausa"),
    ("punch_ot_in", "overtime in", "entrada a horas extra"),
    ("punch_ot_out", "overtime out", "salida de horas extra"),
    ("passage_entry", "entry", "ingreso"),
    ("passage_exit", "exit", "egreso"),
    ("outcome_granted", "granted", "autorizado"),
    ("outcome_denied", "denied", "denegado"),
    ("alarm_tamper", "tampered with", "manipulación"),
    ("alarm_forced", "forced", "forzada"),
    ("alarm_held_open", "held open", "mantenida abierta"),
    ("alarm_duress", "duress", "coacción"),
    ("alarm_fire", "fire", "incendio"),
    ("alarm_power", "power", "energía"),
    ("alarm_comms_lost", "no contact", "sin comunicación"),
    ("alarm_reader_missing", "reader missing", "falta el lector"),
    ("alarm_over", "over", "terminó"),
    ("door_open", "open", "abierta"),
    ("door_closed", "closed", "cerrada"),
    ("door_locked", "locked", "con llave"),
    ("door_unlocked", "unlocked", "sin llave"),
    // What became of it at a sink.
    ("fate_pending", "waiting", "en espera"),
    ("fate_delivered", "delivered", "entregado"),
    ("fate_filtered", "not for it", "no le corresponde"),
    ("fate_quarantined", "refused", "rechazado"),
    ("fate_dropped", "given up", "descartado"),
    // Clocks of devices.
    ("clock_of", "its clock", "su reloj"),
    ("set_clock", "Set the time of the device.", "Ponga en hora el equipo."),
    ("clock_good", "right", "en hora"),
    ("clock_wrong", "wrong time", "hora errónea"),
    ("clock_ahead", "ahead", "adelantado"),
    ("clock_behind", "behind, or its events come late", "atrasado, o sus eventos llegan tarde"),
    (
        "do_clock",
        "Its events carry the time at which they were heard, or are told as doubtful.",
        "Sus eventos llevan la hora en que se oyeron, o se marcan como dudosos.",
    ),
    // What is new.
    ("recent", "Last events", "Últimos eventos"),
    ("no_events", "None yet.", "Aún ninguno."),
    ("unsure", "time not sure yet", "hora aún no segura"),
    ("rate", "rate", "ritmo"),
    ("written", "written since start", "escrito desde el inicio"),
    ("a_day", "a day", "por día"),
    ("wear", "card wear", "desgaste de la tarjeta"),
    ("wear_a_year", "of its rated life a year", "de su vida nominal al año"),
    ("less_than", "less than", "menos de"),
    (
        "wear_basis",
        "Counted: what this program hands to the disk. Assumed: an endurance card as large as the journal's disk (SIZE), rated for being written full 900 times, as SanDisk says of its High Endurance card of 128 GB (10,000 hours at 26 Mbit/s). Small writes cost a card more than their bytes, and ordinary cards stand less.",
        "Contado: lo que este programa entrega al disco. Supuesto: una tarjeta de alta resistencia del tamaño del disco del diario (SIZE), apta para escribirse entera 900 veces, como dice SanDisk de su High Endurance de 128 GB (10.000 horas a 26 Mbit/s). Las escrituras pequeñas gastan más que sus bytes, y las tarjetas comunes resisten menos.",
    ),
    // States of the file.
    ("file_running", "as it runs", "es la que corre"),
    (
        "file_changed",
        "changed since it was read; take it over (portero config reload)",
        "cambió desde que se leyó; aplíquela (portero config reload)",
    ),
    ("file_differs", "in use, but for what only a restart takes", "en uso, salvo lo que solo un reinicio aplica"),
    ("from_afar", "revision from afar", "revisión remota"),
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
    fn rates_and_shares_have_one_decimal_where_it_matters() {
        let (en, es) = (Language::English, Language::Spanish);
        let second = 1_000_000;
        assert_eq!((en.rate(0, second), en.rate(90, 60 * second)), ("0 / min".into(), "90 / min".into()));
        assert_eq!((en.rate(40_000, second), es.rate(5, 120 * second)), ("2,400,000 / min".into(), "2,5 / min".into()));
        assert_eq!(es.rate(1, 900 * second), "4,0 / h");
        assert_eq!((en.percent(99), es.percent(1_267)), ("less than 0.1 %".into(), "1,3 %".into()));
        assert_eq!(en.percent(1_234_567), "1,234 %");
    }

    #[test]
    fn every_word_stands_once_in_both_languages() {
        for (index, (key, english, spanish)) in WORDS.iter().enumerate() {
            assert!(!WORDS[..index].iter().any(|(other, ..)| other == key), "{key} stands twice");
            assert_eq!(english.is_empty(), spanish.is_empty(), "{key}");
        }
    }
}
