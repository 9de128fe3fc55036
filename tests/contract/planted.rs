//! The planted mistakes: what is changed where, and what is then said of which two places.

/// Which file a change is made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum In {
    Config,
    Document,
}

/// A mistake, which gives one finding.
pub(crate) struct Planted {
    pub(crate) sink: &'static str,
    /// File, from, to.
    pub(crate) plant: &'static [(In, &'static str, &'static str)],
    pub(crate) rule: &'static str,
    /// How the line of ours begins.
    pub(crate) ours: &'static str,
    /// How the document's line begins.
    pub(crate) theirs: &'static str,
    /// How the document's pointer ends.
    pub(crate) pointer: &'static str,
}

const fn one(
    sink: &'static str,
    plant: &'static [(In, &'static str, &'static str)],
    rule: &'static str,
    ours: &'static str,
    theirs: &'static str,
    pointer: &'static str,
) -> Planted {
    Planted { sink, plant, rule, ours, theirs, pointer }
}

use In::{Config, Document};

pub(crate) const PLANTED: &[Planted] = &[
    // Where it goes.
    one(
        "hr",
        &[(Config, "path = \"/clockings\"", "path = \"/clocking\"")],
        "path",
        "path = ",
        "/clockings:",
        "/paths/~1clockings",
    ),
    one(
        "hr",
        &[(Config, "method = \"POST\"", "method = \"PUT\"")],
        "method",
        "method = ",
        "/clockings:",
        "/paths/~1clockings",
    ),
    one("hr", &[(Config, "/api/v1", "")], "server", "url = ", "- url: https://hr.example", "/servers/0/url"),
    one(
        "form",
        &[(Config, "{/person/terminal_person_id}", "{/terminal_serial}")],
        "type",
        "path = ",
        "type: integer",
        "/parameters/0/schema/type",
    ),
    one(
        "form",
        &[(Config, "{/person/terminal_person_id}", "0")],
        "exclusiveMinimum",
        "path = ",
        "exclusiveMinimum: true",
        "/schema/exclusiveMinimum",
    ),
    one("form", &[(Config, "?source=terminal", "")], "query", "path = ", "- name: source", "/put/parameters/1"),
    one(
        "form",
        &[(Config, "source=terminal", "source=box")],
        "enum",
        "path = ",
        "enum: [terminal, mobile]",
        "/schema/enum",
    ),
    one("form", &[(Config, "source=terminal", "source=terminal&x=1")], "query", "path = ", "put:", "clockings/put"),
    one(
        "hr",
        &[(
            Config,
            "body = \"object\"",
            "body = \"object\"\nmax_age_seconds = 3600\nlate = { path = \"/old-clockings\" }",
        )],
        "path",
        "late = ",
        "/clockings:",
        "/paths/~1clockings",
    ),
    // Who we are, and other headers.
    one(
        "hr",
        &[(Config, "\"x-provider-token\"", "\"x-token\"")],
        "security",
        "auth = ",
        "name: X-Provider-Token",
        "/securitySchemes/providerToken/name",
    ),
    one(
        "form",
        &[(Config, "type = \"bearer\", token", "type = \"api_key\", header = \"x-key\", key")],
        "security",
        "auth = ",
        "scheme: bearer",
        "/securitySchemes/bearer/scheme",
    ),
    one(
        "hr",
        &[
            (
                Config,
                "type = \"api_key\", header = \"x-provider-token\", key",
                "type = \"body\", pointer = \"/token\", value",
            ),
            (Document, "  - providerName: []\n    providerToken: []", "  - providerName: []"),
        ],
        "additionalProperties",
        "auth = ",
        "additionalProperties: false",
        "/Clocking/additionalProperties",
    ),
    one("hr", &[(Config, ", x-site = \"obra-norte\"", "")], "header", "headers = ", "- name: x-site", "/parameters/0"),
    one(
        "hr",
        &[(Config, "x-site = \"obra-norte\"", "x-site = \"Obra Norte\"")],
        "pattern",
        "headers = ",
        "pattern:",
        "/schema/pattern",
    ),
    one(
        "hr",
        &[(Config, "body = \"object\"", "body = \"form\"")],
        "content-type",
        "body = ",
        "content:",
        "/requestBody/content",
    ),
    // What stands in the body.
    one(
        "hr",
        &[(Config, "isEntry = ", "attFlag = { constant = 1 }\n# ")],
        "required",
        "[sink.map]",
        "required: [serialNumber, idNumber",
        "/Clocking/required/3",
    ),
    one(
        "hr",
        &[(Config, "serialNumber = \"/terminal_serial\"", "serialNumber = { constant = 7 }")],
        "type",
        "serialNumber",
        "type: string",
        "/Identifier/type",
    ),
    one(
        "hr",
        &[(
            Config,
            "serialNumber = \"/terminal_serial\"",
            "serialNumber = { template = \"{{ site_id }}-{{ terminal_id }}-{{ terminal_serial }}\" }",
        )],
        "maxLength",
        "serialNumber",
        "maxLength: 24",
        "/Identifier/maxLength",
    ),
    one(
        "hr",
        &[(
            Config,
            "{ from = \"/received_time\", format = \"rfc3339\" }",
            "{ from = \"/received_time\", zone = \"site\", format = \"%d/%m/%Y %H:%M\" }",
        )],
        "format",
        "recordedAt",
        "format: date-time",
        "/recordedAt/format",
    ),
    one(
        "hr",
        &[(Config, "mask = {", "note = {")],
        "additionalProperties",
        "note = ",
        "additionalProperties: false",
        "/Clocking/additionalProperties",
    ),
    one(
        "hr",
        &[(Config, "mask = {", "workCode = { constant = 5 }\nmask = {")],
        "type",
        "workCode = ",
        "type: string",
        "/workCode/type",
    ),
    one(
        "many",
        &[(Config, "envelope = { source = \"terminal\" }\n", "")],
        "required",
        "wrap = ",
        "required: [clockings, source]",
        "/schema/required/1",
    ),
    one(
        "many",
        &[(Config, "source = \"terminal\"", "source = \"box\"")],
        "enum",
        "envelope = ",
        "enum: [terminal, mobile]",
        "/source/enum",
    ),
    one(
        "many",
        &[(Document, "maxItems: 50", "maxItems: 1")],
        "maxItems",
        "batch = 50",
        "maxItems: 1",
        "/clockings/maxItems",
    ),
    // More than the events at hand are: a full request is too long, none of theirs is.
    one(
        "many",
        &[(Config, "batch = 50", "batch = 5000"), (Document, "maxItems: 50", "maxItems: 4000")],
        "maxItems",
        "batch = 5000",
        "maxItems: 4000",
        "/clockings/maxItems",
    ),
    one("form", &[(Config, "\"%H:%M:%S\"", "\"%H:%M\"")], "pattern", "hora = ", "pattern:", "/hora/pattern"),
    one(
        "hr",
        &[(
            Config,
            "\n[[sink.answer]]\nstatus = [201]",
            "\n[sink.map_correction]\nserialNumber = \"/terminal_serial\"\nidNumber = \"/corrects\"\nisEntry = { constant = true }\n\
             time = { from = \"/event_time\", zone = \"site\", format = \"%Y-%m-%d %H:%M:%S\" }\n\n[[sink.answer]]\nstatus = [201]",
        )],
        "maxLength",
        "idNumber = \"/corrects\"",
        "maxLength: 24",
        "/Identifier/maxLength",
    ),
    // What maps stand for, whether an event at hand leads there or not.
    one("hr", &[(Config, "out = false", "out = \"no\"")], "oneOf", "isEntry = ", "oneOf:", "/isEntry/oneOf"),
    one("hr", &[(Config, "yes = 1", "yes = 2")], "enum", "mask = ", "enum: [0, 1]", "/mask/enum"),
    one("hr", &[(Config, "pin = 0", "pin = 30")], "maximum", "verifyType = ", "maximum: 18", "/verifyType/maximum"),
    one(
        "hr",
        &[(Config, "{ from = \"/methods/0\", map = { pin = 0", "{ from = \"/methods/2\", map = { pin = 30")],
        "maximum",
        "verifyType = ",
        "maximum: 18",
        "/verifyType/maximum",
    ),
    one(
        "form",
        &[(Config, "default = \"salida\"", "default = \"otro\"")],
        "enum",
        "i = ",
        "enum: [entrada, salida]",
        "/i/enum",
    ),
    // What answers mean.
    one(
        "hr",
        &[(Config, "status = [201]", "status = [200]")],
        "answer",
        "[[sink.answer]]",
        "\"201\":",
        "/post/responses/201",
    ),
    one("hr", &[(Document, "\"401\":", "\"410\":")], "answer", "[[sink.answer]]", "\"410\":", "/post/responses/410"),
    one("form", &[(Document, "\"403\":", "\"404\":")], "answer", "[[sink]]", "\"404\":", "/put/responses/404"),
];
