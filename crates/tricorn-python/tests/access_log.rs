//! The pure part of the access log: formats, escapes, the date, and the sink.
//!
//! The extension module has no test harness of its own (it links no interpreter), so its files that know no
//! Python are included here. Expected lines are those of Gunicorn 27.0.1 unless a test says otherwise.
#[path = "../src/log"]
mod log {
    pub mod basic;
    pub mod clock;
    pub mod escape;
    pub mod format;
    pub mod record;
    pub mod sink;
}

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use log::clock::{Clock, Local, common_log_time};
use log::format::Format;
use log::record::RecordSource;
use log::sink::Sink;

const DEFAULT: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#;

/// One exchange; fields are lower-case names.
struct Exchange {
    target: &'static [u8],
    path: &'static [u8],
    fields: Vec<(&'static str, &'static [u8])>,
    duration_ns: u64,
}

impl Default for Exchange {
    fn default() -> Self {
        Exchange {
            target: b"/a?x=1",
            path: b"/a",
            fields: Vec::new(),
            duration_ns: 1_002_003_004,
        }
    }
}

impl RecordSource for Exchange {
    fn remote_addr(&self) -> &[u8] {
        b"127.0.0.1"
    }
    fn method(&self) -> &[u8] {
        b"GET"
    }
    fn target(&self) -> &[u8] {
        self.target
    }
    fn path(&self) -> Vec<u8> {
        self.path.to_vec()
    }
    fn query(&self) -> &[u8] {
        b"x=1"
    }
    fn protocol(&self) -> &[u8] {
        b"HTTP/1.1"
    }
    fn status(&self) -> &[u8] {
        b"200 OK"
    }
    fn body_bytes(&self) -> u64 {
        123
    }
    fn duration_ns(&self) -> u64 {
        self.duration_ns
    }
    fn request_field(&self, name: &str) -> Option<Vec<u8>> {
        let mut found = self.fields.iter().filter(|(known, _)| *known == name);
        found.next_back().map(|(_, value)| value.to_vec())
    }
    fn response_field(&self, name: &str) -> Option<Vec<u8>> {
        (name == "x-answer").then(|| b"last".to_vec())
    }
    fn environ_variable(&self, name: &str) -> Option<Vec<u8>> {
        (name == "remote_addr").then(|| b"127.0.0.1".to_vec())
    }
}

fn line(format: &str, exchange: &Exchange) -> String {
    let format = Format::compile(format).unwrap_or_else(|| panic!("{format:?} is left to Python"));
    let mut out = Vec::new();
    format.write(&mut out, exchange, &mut Clock::default());
    String::from_utf8(out).expect("a line is UTF-8")
}

fn with(field: &'static str, value: &'static [u8]) -> Exchange {
    Exchange {
        fields: vec![(field, value)],
        ..Exchange::default()
    }
}

#[test]
fn every_atom_prints_as_gunicorn_prints_it() {
    let pid = format!("<{}>", std::process::id());
    let cases = [
        ("%(h)s", "127.0.0.1"),
        ("%(l)s", "-"),
        ("%(u)s", "-"),
        ("%(r)s", "GET /a?x=1 HTTP/1.1"),
        ("%(s)s", "200"),
        ("%(m)s %(U)s %(q)s %(H)s", "GET /a x=1 HTTP/1.1"),
        ("%(b)s %(B)s %(B)d", "123 123 123"),
        ("%(f)s %(a)s", "- -"),
        ("%(T)s %(M)s %(D)s %(L)s", "1 1002 1002003 1.002003"),
        ("%(p)s", &pid),
        ("%({X-Answer}o)s %({x-answer}O)s %({none}o)s", "last last -"),
        (
            "%({REMOTE_ADDR}e)s %({nope}e)s %({nope}i)s",
            "127.0.0.1 - -",
        ),
        ("%(S)s %(zz)s %({x)s %({x}z)s %(a(b)c)s", "- - - - -"),
        ("100%% \t[%(s)s]", "100% \t[200]"),
        ("", ""),
    ];
    for (format, expected) in cases {
        assert_eq!(line(format, &Exchange::default()), expected, "{format}");
    }
}

#[test]
fn flags_width_and_precision_follow_python() {
    let cases = [
        ("%(B)06d|%(B)-6d|%(B)+d|%(B) d", "000123|123   |+123| 123"),
        (
            "%(B).5d|%(B)8.5d|%(B)08.5d|%(B)+06d",
            "00123|   00123|00000123|+00123",
        ),
        (
            "%(s)5s|%(s)-5s|%(s)05s|%(h).3s|%(h)6.3s",
            "  200|200  |  200|127|   127",
        ),
        ("%(B)5s|%(D)-9s|%(B)ld|%(B)#i", "  123|1002003  |123|123"),
    ];
    for (format, expected) in cases {
        assert_eq!(line(format, &Exchange::default()), expected, "{format}");
    }
    // Width and precision count characters, not bytes.
    assert_eq!(
        line("%(a)4s|%(a).2s", &with("user-agent", b"\xe9\xe8\xea")),
        " \u{e9}\u{e8}\u{ea}|\u{e9}\u{e8}"
    );
}

#[test]
fn what_only_python_can_say_is_left_to_python() {
    for format in [
        "%s",
        "%(s)d",
        "%(b)d",
        "%(l)d",
        "%(B)x",
        "%(m)r",
        "%(h",
        "%",
        "%(B)*d",
        "%(B)5%",
        "%(h)999999s",
    ] {
        assert!(Format::compile(format).is_none(), "{format}");
    }
}

#[test]
fn the_format_knows_what_it_needs() {
    let needs = |format| Format::compile(format).unwrap().needs_response_fields();
    assert!(!needs(DEFAULT));
    assert!(needs("%({a}o)s"));
    assert!(!needs("%({A}E)s"));
}

#[test]
fn quotes_and_high_bytes_print_as_gunicorn_prints_them() {
    let agent = with("user-agent", b"say \"hi\" \\ back \xe9");
    assert_eq!(
        line("\"%(a)s\"", &agent),
        "\"say \\\"hi\\\" \\ back \u{e9}\""
    );
}

#[test]
fn no_control_byte_of_a_peer_reaches_a_line() {
    let every: &'static [u8] = Box::leak((0..=255u8).collect::<Vec<_>>().into_boxed_slice());
    let mut exchange = with("user-agent", every);
    (exchange.path, exchange.target) = (every, every);
    exchange.fields.push(("authorization", b"Basic Gwo6cA=="));
    let all = line("%(a)s %(U)s %(r)s %(u)s %({user-agent}i)s", &exchange);
    assert!(!all.chars().any(char::is_control), "{all:?}");
    assert!(
        all.contains("\\x00\\x01") && all.contains("\\x1b") && all.contains("\\x7f\\x80"),
        "{all}"
    );
    assert!(all.contains(" \\x1b\\x0a "), "the user: {all}");
}

#[test]
fn a_backslash_cannot_undo_the_escape_of_a_quote() {
    // Gunicorn leaves these backslashes single, which lets a peer end the quoted value.
    assert_eq!(
        line("\"%(a)s\"", &with("user-agent", b"a\\b \\\" x\\")),
        r#""a\b \\\" x\\""#
    );
    assert_eq!(line("\"%(a)s\"", &with("user-agent", b"\\\\")), r#""\\\\""#);
    let exchange = Exchange {
        target: b"/\\",
        ..Exchange::default()
    };
    assert_eq!(line("%(r)s", &exchange), r"GET /\ HTTP/1.1");
}

#[test]
fn basic_users_decode_as_leniently_as_in_python() {
    let cases: [(&[u8], &str); 12] = [
        (b"Basic dXNlcjpwdw==", "user"),
        (b"bAsIc dXNlcjpwdw==", "user"),
        (b"Basic  dX!Nlcjpw dw==", "user"),
        (b"Basic dXNlcg==", "user"),
        (b"Basic dXNlcjpwdw", "-"),
        (b"Basic d", "-"),
        (b"Basic Og==", "-"),
        (b"Basic !!", "-"),
        (b"Basic", "-"),
        (b"Bearer dXNlcjpwdw==", "-"),
        (b"Basic /zpw", "-"),
        (b"Basic w6kiXDpwdw==", "\u{e9}\\\"\\\\"),
    ];
    for (credentials, expected) in cases {
        assert_eq!(
            line("%(u)s", &with("authorization", credentials)),
            expected,
            "{credentials:?}"
        );
    }
}

#[test]
fn the_date_carries_the_offset_of_its_zone() {
    let at = |offset_s| Local {
        year: 2026,
        month: 10,
        day: 3,
        hour: 4,
        minute: 5,
        second: 6,
        offset_s,
    };
    assert_eq!(common_log_time(&at(0)), "[03/Nov/2026:04:05:06 +0000]");
    assert_eq!(
        common_log_time(&at(-12_600)),
        "[03/Nov/2026:04:05:06 -0330]"
    );
    assert_eq!(common_log_time(&at(20_700)), "[03/Nov/2026:04:05:06 +0545]");
}

fn file(name: &str) -> (std::path::PathBuf, fs::File) {
    let path = std::env::temp_dir().join(format!("access-log-{}-{name}", std::process::id()));
    let file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .unwrap();
    (path, file)
}

#[test]
fn lines_reach_the_file_at_flush_and_none_twice() {
    let (path, file) = file("flush");
    let sink = Sink::new(file.as_fd()).unwrap();
    sink.append(b"one\n");
    assert_eq!(fs::read(&path).unwrap(), b"");
    sink.flush();
    sink.append(b"two\n");
    sink.drain(Duration::ZERO);
    sink.flush();
    assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");
    fs::remove_file(path).unwrap();
}

#[test]
fn reopening_moves_on_to_the_new_file() {
    let (old, first) = file("old");
    let (new, second) = file("new");
    let sink = Sink::new(first.as_fd()).unwrap();
    sink.append(b"before\n");
    sink.reopen(second.as_fd()).unwrap();
    sink.append(b"after\n");
    sink.flush();
    assert_eq!(
        (fs::read(&old).unwrap(), fs::read(&new).unwrap()),
        (b"before\n".to_vec(), b"after\n".to_vec())
    );
    fs::remove_file(old).unwrap();
    fs::remove_file(new).unwrap();
}

/// Appends many lines for a reader that does not read, then lets it read.
fn slow_reader(sink: &Sink, mut reader: impl Read) {
    let line = [b'x'; 99].iter().chain(b"\n").copied().collect::<Vec<_>>();
    let started = Instant::now();
    for _ in 0..30_000 {
        sink.append(&line);
        sink.flush();
    }
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "a full reader held the writer up"
    );
    assert!(sink.dropped() > 1000, "{}", sink.dropped());
    let kept = 30_000 - usize::try_from(sink.dropped()).unwrap();
    let mut got = Vec::new();
    let mut block = vec![0; 65536];
    while got.len() < kept * 100 {
        sink.flush();
        let count = reader.read(&mut block).unwrap();
        got.extend_from_slice(&block[..count]);
    }
    assert!(
        got.chunks(100).all(|chunk| chunk == line),
        "a line was torn"
    );
}

#[test]
fn a_full_pipe_costs_lines_but_no_time_and_tears_none() {
    let (reader, writer) = std::io::pipe().unwrap();
    slow_reader(&Sink::new(writer.as_fd()).unwrap(), reader);
}

#[test]
fn a_full_socket_costs_lines_but_no_time_and_tears_none() {
    let (reader, writer) = UnixStream::pair().unwrap();
    slow_reader(&Sink::new(writer.as_fd()).unwrap(), reader);
}

#[test]
fn our_non_blocking_writes_leave_the_pipe_blocking_for_others() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let _sink = Sink::new(writer.as_fd()).unwrap();
    let filler = std::thread::spawn(move || writer.write_all(&[0; 200_000]));
    let mut all = Vec::new();
    reader.take(200_000).read_to_end(&mut all).unwrap();
    filler
        .join()
        .unwrap()
        .expect("a blocking writer never sees EAGAIN");
}

#[test]
fn a_reader_that_is_gone_silences_the_sink_until_it_is_reopened() {
    let (reader, writer) = std::io::pipe().unwrap();
    let sink = Sink::new(writer.as_fd()).unwrap();
    drop(reader);
    sink.append(b"one\ntwo\n");
    sink.flush();
    sink.append(b"three\n");
    assert_eq!(sink.dropped(), 3);
    let (path, file) = file("again");
    sink.reopen(file.as_fd()).unwrap();
    sink.append(b"four\n");
    sink.flush();
    assert_eq!(fs::read(&path).unwrap(), b"four\n");
    fs::remove_file(path).unwrap();
}

#[test]
fn drain_waits_for_a_slow_reader_but_not_for_ever() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let sink = Sink::new(writer.as_fd()).unwrap();
    for _ in 0..200 {
        sink.append(&[b"y".repeat(999).as_slice(), b"\n"].concat());
    }
    let started = Instant::now();
    sink.drain(Duration::from_millis(50));
    assert!(started.elapsed() >= Duration::from_millis(50));
    let slow = std::thread::spawn(move || {
        let mut all = vec![0; 200_000];
        reader.read_exact(&mut all).map(|()| all)
    });
    sink.drain(Duration::from_secs(10));
    assert_eq!(slow.join().unwrap().unwrap().len(), 200_000);
    assert_eq!(sink.dropped(), 0);
}

/// Run with `cargo test --release -p tricorn-python --test access_log -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, meaningful in release builds only"]
fn a_default_line_costs_less_than_500_ns() {
    // The kernel's share depends on the file system; ours is what is measured.
    let file = fs::OpenOptions::new()
        .append(true)
        .open("/dev/null")
        .unwrap();
    let sink = Sink::new(file.as_fd()).unwrap();
    let format = Format::compile(DEFAULT).unwrap();
    let mut exchange = with(
        "user-agent",
        b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    );
    exchange
        .fields
        .push(("referer", b"https://example.org/some/page?with=query"));
    let (mut line, mut clock) = (Vec::new(), Clock::default());
    let rounds = 2_000_000;
    let started = Instant::now();
    for round in 0..rounds {
        line.clear();
        format.write(&mut line, &exchange, &mut clock);
        line.push(b'\n');
        sink.append(&line);
        if round % 64 == 0 {
            sink.flush();
        }
    }
    let each = started.elapsed().as_nanos() / rounds;
    println!("{each} ns a line of {} bytes", line.len());
    assert!(each < 500, "{each} ns");
}
