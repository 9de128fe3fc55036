//! Bundles that must not be taken, falls in the middle of taking one, and many of them. How a good one runs is in `remote.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper that fails is a failed test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use portero::clock::{Clock, Now, SyncSource};
use portero::event::UtcMicros;
use portero::manage::config::{Config, Options, Secrets, load_text};
use portero::manage::remote::agent::Agent;
use portero::manage::remote::bundle::{MAX_BYTES, Signed};
use portero::manage::remote::life::Change;
use portero::manage::remote::sign::{self, Pair, Password};
use portero::manage::remote::signature::Key;
use portero::manage::remote::start;
use portero::manage::remote::state::{Base, State};
use portero::manage::remote::store::{self, Hook, Store};
use support::mutate::mutated;
use support::{find_program, tempdir};

const GOOD: &str = "[bundle]\ngateway = \"gw-1\"\npurpose = \"portero-config\"\nrevision = 7\n\
                    not_before = 2020-01-01T00:00:00Z\nexpires = 2099-01-01T00:00:00Z\n";

const SINK: &str = "[[sink]]\nname = \"vendor\"\ntype = \"api\"\nurl = \"http://127.0.0.1:9/events\"\nbatch = 3\n";

fn options() -> Options {
    Options { secrets: Secrets::Ignore, environment: Vec::new(), credentials: None, units: Vec::new() }
}

fn now() -> Now {
    Clock::new(SyncSource::Trusted).now()
}

fn local(dir: &Path, key: &str) -> String {
    format!(
        "[gateway]\nid = \"gw-1\"\nsite = \"s\"\nzone = \"UTC\"\ngroup = \"north\"\n\
         [journal]\npath = \"{}/journal.db\"\n\
         [manage.remote]\nurl = \"http://127.0.0.1:9/x\"\nactive_key = \"{key}\"\n\
         [[terminal]]\nname = \"gate\"\nprotocol = \"rdm6300\"\nlink = {{ type = \"serial\", device = \"/dev/ttyS7\" }}\n\
         [[sink]]\nname = \"vendor\"\ntype = \"api\"\nurl = \"http://127.0.0.1:9/events\"\n",
        dir.display()
    )
}

struct Desk {
    dir: tempfile::TempDir,
    file: PathBuf,
    key: Pair,
    running: Config,
}

impl Desk {
    fn new() -> Self {
        let (dir, key) = (tempdir(), sign::keygen(&Password::None).unwrap());
        let file = dir.path().join("portero.toml");
        let text = local(dir.path(), Key::parse(&key.public).unwrap().text());
        std::fs::write(&file, &text).unwrap();
        let running = load_text(&file, &text, &options()).unwrap().config;
        Self { dir, file, key, running }
    }

    fn store(&self) -> PathBuf {
        store::beside(&self.dir.path().join("journal.db"))
    }

    fn agent(&self, hook: Option<Hook>) -> Agent {
        let store = Store::open_with(&self.store(), hook).unwrap();
        let state = store.state().0;
        let base = state.current.clone();
        Agent::new(store, state, &self.file, std::fs::read_to_string(&self.file).unwrap(), options(), base)
    }

    fn sign(&self, text: &str) -> Signed {
        signed(text.as_bytes(), &self.key)
    }
}

fn signed(payload: &[u8], key: &Pair) -> Signed {
    let signature = sign::sign(payload, &key.secret, &Password::None, "test").unwrap();
    Signed { payload: payload.to_vec(), signature }
}

#[test]
fn no_bad_bundle_of_forty_kinds_is_taken_and_the_good_one_is() {
    let desk = Desk::new();
    let mut agent = desk.agent(None);
    let stranger = sign::keygen(&Password::None).unwrap();
    let good = desk.sign(&format!("{GOOD}{SINK}"));
    let mut bad: Vec<(&str, Signed)> = Vec::new();
    // Who signed, and what became of it.
    bad.push(("signed by a stranger", signed(&good.payload, &stranger)));
    let other = desk.sign(GOOD);
    bad.push(("the signature of another one", Signed { signature: other.signature, ..good.clone() }));
    let mut flipped = good.clone();
    flipped.payload[30] ^= 1;
    bad.push(("tampered", flipped));
    bad.push(("truncated", Signed { payload: good.payload[..good.payload.len() - 9].to_vec(), ..good.clone() }));
    bad.push(("appended", Signed { payload: [&good.payload[..], b"\n"].concat(), ..good.clone() }));
    bad.push(("empty", Signed { payload: Vec::new(), ..good.clone() }));
    bad.push(("100 MB", Signed { payload: vec![b'#'; 100 << 20], ..good.clone() }));
    bad.push(("one byte too many", signed(&vec![b'#'; MAX_BYTES + 1], &desk.key)));
    bad.push(("no signature", Signed { signature: String::new(), ..good.clone() }));
    bad.push(("a page as signature", Signed { signature: "<html></html>".to_owned(), ..good.clone() }));
    bad.push(("a signature without end", Signed { signature: good.signature.repeat(40), ..good.clone() }));
    let comment = good.signature.replace("trusted comment: test", "trusted comment: best");
    bad.push(("another trusted comment", Signed { signature: comment, ..good.clone() }));
    let cut = good.signature.lines().take(2).collect::<Vec<_>>().join("\n");
    bad.push(("without the global signature", Signed { signature: cut, ..good.clone() }));
    bad.push(("not text", signed(b"\xff\xfe", &desk.key)));
    bad.push(("not TOML", desk.sign("<html>")));
    // What it says of itself.
    for (name, from, to) in [
        ("another purpose", "portero-config", "portero-update"),
        ("without purpose", "purpose = \"portero-config\"\n", ""),
        ("another gateway", "gw-1", "gw-2"),
        ("another group", "gateway = \"gw-1\"", "group = \"south\""),
        ("for nobody", "gateway = \"gw-1\"\n", ""),
        ("for two", "purpose", "group = \"north\"\npurpose"),
        ("without revision", "revision = 7\n", ""),
        ("revision 0", "= 7", "= 0"),
        ("a negative revision", "= 7", "= -7"),
        ("a revision without end", "= 7", "= 99999999999999999999999"),
        ("expired", "2099-01-01", "2021-01-01"),
        ("not yet", "2020-01-01", "2098-01-01"),
        ("a time without offset", "2020-01-01T00:00:00Z", "2020-01-01T00:00:00"),
        ("without expiry", "expires = 2099-01-01T00:00:00Z\n", ""),
        ("backwards", "2099-01-01", "2019-01-01"),
        ("an unknown key of [bundle]", "revision", "force = true\nrevision"),
        ("recovery changed by the active key", "revision", &format!("recovery_key = \"{}\"\nrevision", key(&stranger))),
        ("a key that is none", "revision", "active_key = \"RWx\"\nrevision"),
        ("no [bundle]", "[bundle]", "[bundel]"),
    ] {
        assert!(GOOD.contains(from), "{name}");
        bad.push((name, desk.sign(&GOOD.replace(from, to))));
    }
    // What it brings.
    for (name, body) in [
        ("another identity", "[gateway]\nid = \"gw-2\"\n"),
        ("another site", "[gateway]\nsite = \"t\"\n"),
        ("another clock", "[gateway]\nclock = \"trusted\"\n"),
        ("another journal", "[journal]\npath = \"/tmp/x.db\"\n"),
        ("another socket", "[manage]\nsocket = \"/tmp/x.sock\"\n"),
        ("another address of bundles", "[manage.remote]\nurl = \"https://x.example/\"\n"),
        ("a permission for itself", "remote_may = [\"listen\"]\n"),
        ("no terminal at all", "terminal = []\n"),
        ("no sink at all", "sink = []\n"),
        (
            "an unverified server",
            "[[sink]]\nname = \"v\"\ntype = \"api\"\nurl = \"https://v.example/\"\ntls = \"insecure\"\n",
        ),
        (
            "a secret from a file",
            "[[sink]]\nname = \"v\"\ntype = \"api\"\nurl = \"https://v.example/\"\n\
             auth = { type = \"bearer\", token = { file = \"/s\" } }\n",
        ),
        ("a page for everybody", "[manage]\nlisten = \"0.0.0.0:8787\"\ntoken = { credential = \"t\" }\n"),
        ("a broker for everybody", "[[broker]]\nname = \"b\"\nlisten = \"[::]:1883\"\nanonymous = true\n"),
        ("a directory from a file", "[directory]\nfile = \"/etc/x.csv\"\nperson = \"p\"\nexternal_id = \"e\"\n"),
        ("an unknown table", "[sinks]\nx = 1\n"),
        ("an unknown key", "[log]\nlvel = \"info\"\n"),
        ("nonsense", "[[terminal]]\nname = \"x\"\nprotocol = \"telepathy\"\n"),
        (
            "a secret in the text",
            "[[sink]]\nname = \"v\"\ntype = \"api\"\nurl = \"https://v.example/\"\nauth = { type = \"bearer\", token = \"hunter2\" }\n",
        ),
    ] {
        bad.push((name, desk.sign(&format!("{GOOD}{body}"))));
    }
    assert!(bad.len() >= 35, "{}", bad.len());
    for (name, bundle) in &bad {
        let error = agent.consider(bundle, &desk.running, now()).err();
        let error = error.unwrap_or_else(|| panic!("{name} was taken"));
        let words = error.to_string();
        assert!(!words.is_empty() && !words.contains("hunter2"), "{name}: {words}");
    }
    let considered = agent.consider(&good, &desk.running, now()).unwrap();
    agent.stage(&good, &considered, Some(Change::default()), UtcMicros(1)).unwrap();
    // Replayed, and an older one: never again.
    for bundle in [good, desk.sign(&GOOD.replace("= 7", "= 6"))] {
        assert!(agent.consider(&bundle, &desk.running, now()).is_err());
    }
}

fn key(pair: &Pair) -> String {
    Key::parse(&pair.public).unwrap().text().to_owned()
}

const FALL: &str = "PORTERO_TEST_FALL";

#[test]
fn the_child_that_falls() {
    use secrecy::SecretString;
    // A process of its own, started by the test below; in the ordinary run there is nothing to do.
    let Ok(at) = std::env::var(FALL) else { return };
    let [fall, dir, secret] = at.split('|').collect::<Vec<_>>()[..] else { panic!("three things") };
    let (file, fall): (PathBuf, u32) = (Path::new(dir).join("portero.toml"), fall.parse().unwrap());
    let text = std::fs::read_to_string(&file).unwrap();
    let running = load_text(&file, &text, &options()).unwrap().config;
    let key = Pair { public: String::new(), secret: SecretString::from(secret.replace('~', "\n")) };
    let steps = AtomicU32::new(0);
    let hook: Hook = Arc::new(move |_| {
        if steps.fetch_add(1, Ordering::SeqCst) == fall {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
    });
    let store = Store::open_with(&store::beside(&running.journal.path), Some(hook)).unwrap();
    let mut agent = Agent::new(store, State::default(), &file, text, options(), Base::Local);
    let desk = Desk { dir: tempdir(), file, key, running };
    live(&desk, &mut agent);
}

#[test]
fn a_fall_at_any_step_of_the_disk_leaves_the_old_or_the_new_one() {
    use secrecy::ExposeSecret as _;
    let mut falls = 0;
    loop {
        let desk = Desk::new();
        let secret = desk.key.secret.expose_secret().replace('\n', "~");
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_child_that_falls"])
            .env(FALL, format!("{falls}|{}|{secret}", desk.dir.path().display()))
            .output()
            .unwrap();
        let begun = start::begin(&desk.file, &options(), UtcMicros(9)).unwrap_or_else(|e| panic!("step {falls}: {e}"));
        assert_eq!(begun.notes, Vec::<String>::new(), "step {falls}: nothing was lost");
        let agent = begun.agent.expect("the store can be written");
        let portero::deliver::Kind::Api(api) = &begun.loaded.config.sinks[0].kind else { panic!("an API") };
        let expected = match agent.state().current.revision() {
            None => 1,
            Some(7) => 3,
            Some(8) => 4,
            other => panic!("step {falls}: {other:?}"),
        };
        assert_eq!(api.batch, expected, "step {falls}");
        assert!(agent.state().consumed >= agent.state().current.revision().unwrap_or(0));
        if child.status.success() {
            assert_eq!(agent.state().current.revision(), Some(7), "the second was given back");
            break;
        }
        falls += 1;
    }
    assert!(falls >= 80, "only {falls} steps");
}

#[test]
fn a_thousand_revisions_of_one_content_are_all_consumed_and_nothing_is_tried() {
    let desk = Desk::new();
    let mut agent = desk.agent(None);
    for revision in 1..=1000 {
        let bundle = desk.sign(&GOOD.replace("= 7", &format!("= {revision}")));
        let considered = agent.consider(&bundle, &desk.running, now()).unwrap();
        assert_eq!(considered.loaded.config, desk.running);
        agent.stage(&bundle, &considered, None, UtcMicros(1)).unwrap();
    }
    let state = agent.state();
    assert_eq!((state.consumed, &state.probation, state.history.len()), (1000, &None, 1));
    assert_eq!(
        std::fs::read_dir(desk.store()).unwrap().count(),
        5,
        "nothing grows: lock, two states, a bundle, its signature"
    );
}

#[test]
fn five_hundred_mutated_bundles_rightly_signed_are_taken_or_refused() {
    let desk = Desk::new();
    let agent = desk.agent(None);
    let body =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/site.toml")).unwrap();
    let body = &body[body.find("[[").unwrap()..];
    let mut random = fastrand::Rng::with_seed(4);
    let (mut taken, mut refused) = (0, 0);
    for revision in 1..=500 {
        let text = GOOD.replace("= 7", &format!("= {revision}")) + body;
        let text = mutated(text, GOOD.len() + 4, &mut random);
        match agent.consider(&desk.sign(&text), &desk.running, now()) {
            Ok(_) => taken += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    assert!(taken > 20 && refused > 20, "{taken} taken, {refused} refused");
}

#[test]
fn debians_minisign_verifies_ours_and_signs_one_that_is_taken() {
    let (desk, minisign) = (Desk::new(), find_program("minisign", &[]));
    let dir = desk.dir.path();
    let path = |name: &str| dir.join(name).display().to_string();
    let run = |arguments: &[&str]| {
        let output = Command::new(&minisign).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let ours = desk.sign(GOOD);
    std::fs::write(path("b.toml"), &ours.payload).unwrap();
    std::fs::write(path("b.toml.minisig"), &ours.signature).unwrap();
    run(&["-V", "-H", "-P", &key(&desk.key), "-m", &path("b.toml")]);

    run(&["-G", "-W", "-p", &path("m.pub"), "-s", &path("m.key")]);
    let theirs = key(&Pair { public: std::fs::read_to_string(path("m.pub")).unwrap(), secret: String::new().into() });
    let text = std::fs::read_to_string(&desk.file).unwrap().replace(&key(&desk.key), &theirs);
    let running = load_text(&desk.file, &text, &options()).unwrap().config;
    let agent = desk.agent(None);
    let sign = |more: &[&str]| {
        run(&[&["-S", "-W", "-s", &path("m.key"), "-m", &path("b.toml")], more].concat());
        Signed { payload: GOOD.into(), signature: std::fs::read_to_string(path("b.toml.minisig")).unwrap() }
    };
    assert_eq!(agent.consider(&sign(&[]), &running, now()).map(|considered| considered.revision()), Ok(7));
    let legacy = agent.consider(&sign(&["-l"]), &running, now()).err().unwrap();
    assert!(legacy.to_string().contains("legacy"), "{legacy}");
}

fn live(desk: &Desk, agent: &mut Agent) {
    for (revision, batch) in [(7, 3), (8, 4)] {
        let text = GOOD.replace("= 7", &format!("= {revision}")) + &SINK.replace("= 3", &format!("= {batch}"));
        let bundle = desk.sign(&text);
        let considered = agent.consider(&bundle, &desk.running, now()).unwrap();
        agent.stage(&bundle, &considered, Some(Change::default()), UtcMicros(1)).unwrap();
        if revision == 7 {
            agent.commit("", UtcMicros(2)).map(drop).unwrap();
        } else {
            agent.give_back("", UtcMicros(3)).map(drop).unwrap();
        }
    }
}
