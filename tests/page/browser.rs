//! A headless Chromium, told what to do by WebDriver (w3.org/TR/webdriver2) over plain HTTP.
//!
//! Must not: reach anything but this machine, or leave a browser behind.

use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::http;
use crate::support::{DEADLINE, Process, eventually, find_program, free_port};

/// A browser with one window; gone on drop.
pub(crate) struct Browser {
    port: u16,
    session: String,
    profile: tempfile::TempDir,
    _driver: Process,
}

impl Browser {
    /// Starts one that prefers this language.
    pub(crate) fn start(language: &str) -> Self {
        let (port, profile) = (free_port(), tempfile::tempdir().unwrap());
        let mut command = Command::new(find_program("chromedriver", &["/usr/lib/chromium".into()]));
        command.arg(format!("--port={port}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = Process::spawn(&mut command);
        eventually("chromedriver answers", DEADLINE, || {
            http::send(port, "GET", "/status", &host(port), "")
                .is_ok_and(|answer| answer.json()["value"]["ready"] == true)
        });
        let mut arguments: Vec<String> =
            ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars"]
                .map(str::to_owned)
                .into();
        // Chromium's own sandbox does not run for root.
        arguments.push("--no-sandbox".to_owned());
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        arguments.push(format!("--accept-lang={language}"));
        let options = json!({ "args": arguments, "prefs": { "intl.accept_languages": language } });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let mut browser = Self { port, session: String::new(), profile, _driver: driver };
        let made = browser.ask("POST", "/session", &wanted);
        browser.session = made["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {made}")).to_owned();
        browser
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let headers = format!("{}Content-Type: application/json\r\n", host(self.port));
        let answer = http::send(self.port, method, path, &headers, &body).unwrap();
        let value = answer.json()["value"].take();
        assert_eq!(answer.status, 200, "{method} {path}: {value}");
        value
    }

    #[track_caller]
    fn command(&self, method: &str, command: &str, body: &Value) -> Value {
        self.ask(method, &format!("/session/{}/{command}", self.session), body)
    }

    /// Opens an address.
    #[track_caller]
    pub(crate) fn open(&self, url: &str) {
        self.command("POST", "url", &json!({ "url": url }));
    }

    /// Runs a function body in the page.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.command("POST", "execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The text of the first element that a selector finds; empty without one.
    #[track_caller]
    pub(crate) fn text(&self, selector: &str) -> String {
        let selector = serde_json::to_string(selector).unwrap();
        let text = self.run(&format!("const e = document.querySelector({selector}); return e ? e.innerText : '';"));
        text.as_str().unwrap_or("").to_owned()
    }

    /// Saves the whole page, as it looks in a window of this size, light or dark.
    #[track_caller]
    pub(crate) fn shoot(&self, file: &Path, width: u32, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &media);
        let metrics =
            |height: &Value| json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics(&json!(800)));
        let height = self.run("return document.documentElement.scrollHeight;");
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics(&height));
        let picture = self.command("GET", "screenshot", &Value::Null);
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture.as_str().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    #[track_caller]
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("POST", "goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// What the browser complained of (a policy that was broken, a script that failed).
    #[track_caller]
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.command("POST", "se/log", &json!({ "type": "browser" }));
        log.as_array().into_iter().flatten().map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser; the driver is killed with its process.
        let _ = http::send(self.port, "DELETE", &format!("/session/{}", self.session), &host(self.port), "");
        let _ = self.profile.path();
    }
}

fn host(port: u16) -> String {
    format!("Host: 127.0.0.1:{port}\r\n")
}
