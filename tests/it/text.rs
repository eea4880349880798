//! Bytes as senders pack and write them: gzip, byte order marks, UTF-16 and Latin-1, the same at every entrance.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use hmac::{Hmac, Mac};
use lapin::BasicProperties;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::bus::Bus;
use crate::running;
use crate::servers;
use crate::world::{Database, Settings, World, sign_up, until};

const STRUCTURED: &str = "application/cloudevents+json";
const TIME: &str = "2026-10-01T12:00:00Z";

/// A mapping of a sender's own JSON, saved with a byte order mark.
const MAP: &str = "\u{feff}{type: \"customer.signed_up\", id: .id, time: \"2026-10-01T12:00:00Z\",\n\
                   data: {customer_id: .cust, email: .email, first_name: .first}}";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn with_mark(text: &str) -> Vec<u8> {
    [b"\xef\xbb\xbf", text.as_bytes()].concat()
}

fn utf16(text: &str) -> Vec<u8> {
    "\u{feff}"
        .chars()
        .chain(text.chars())
        .flat_map(|letter| {
            let mut units = [0; 2];
            letter.encode_utf16(&mut units).iter().flat_map(|unit| unit.to_le_bytes()).collect::<Vec<u8>>()
        })
        .collect()
}

/// Latin-1, which has each of these characters in one byte.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|letter| u8::try_from(u32::from(letter)).expect("a character of Latin-1")).collect()
}

fn own(id: &str, customer: &str, first: &str) -> String {
    json!({"id": id, "cust": customer, "email": format!("{id}@example.com"), "first": first}).to_string()
}

async fn world(map: &Path, environment: Vec<(&'static str, String)>) -> World {
    std::fs::write(map, MAP).expect("written");
    let toml = format!(
        "[watch]\nenabled = false\n[[source]]\nname = \"default\"\nverify = \"none\"\n\
         [[source]]\nname = \"own\"\nverify = \"none\"\nmap = \"{}\"\n",
        map.display()
    );
    World::start(Database::Sqlite, Settings { toml, environment }).await
}

/// Status, problem or state, detail, and what the answer says is read.
async fn post(
    world: &World,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> (u16, String, String, Option<String>) {
    let mut request = world.http.post(world.door(path)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    let codings = answer.headers().get("accept-encoding").map(|value| value.to_str().expect("text").to_owned());
    let answer: Value = answer.json().await.expect("JSON");
    let kind = answer["type"].as_str().or(answer["status"].as_str()).unwrap_or_default();
    let detail = answer["detail"].as_str().unwrap_or_default().to_owned();
    (status, kind.replace("urn:podero-bridge:problem:", ""), detail, codings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhooks_bytes_are_unpacked_read_or_told_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = world(&folder.path().join("map.jq"), vec![("HTTP__BODY_MAX", "64KiB".into())]).await;
    let event = |id: &str| sign_up(id, id, TIME).to_string();
    let bomb = gzip(&vec![b' '; 8 << 20]);
    let json = "application/json";
    let latin = "application/json; charset=iso-8859-1";
    for (path, content_type, coding, body, expected) in [
        ("", STRUCTURED, "gzip", gzip(event("g1").as_bytes()), (202, "accepted", "")),
        ("", STRUCTURED, "x-gzip", gzip(&with_mark(&event("g2"))), (202, "accepted", "")),
        ("", STRUCTURED, "identity", event("g3").into_bytes(), (202, "accepted", "")),
        ("", STRUCTURED, "", with_mark(&event("g4")), (202, "accepted", "")),
        ("/own", json, "gzip", gzip(own("g5", "g5", "Jürgen").as_bytes()), (202, "accepted", "")),
        ("/own", json, "", with_mark(&own("g6", "g6", "Jürgen")), (202, "accepted", "")),
        ("/own", latin, "", latin1(&own("g7", "Kü1", "Jürgen")), (202, "accepted", "")),
        ("/own", latin, "", latin1(&own("g8", "Kö1", "Jörg")), (202, "accepted", "")),
        // By habit, and not so.
        ("/own", latin, "", own("g9", "Kä1", "Jörg").into_bytes(), (202, "accepted", "")),
        ("", STRUCTURED, "br", event("r1").into_bytes(), (415, "unsupported-content-encoding", "says br;")),
        ("", STRUCTURED, "gzip, gzip", event("r1").into_bytes(), (415, "unsupported-content-encoding", "says gzip;")),
        ("", STRUCTURED, "gzip", event("r1").into_bytes(), (400, "malformed", "says gzip, and the body is not")),
        ("", STRUCTURED, "gzip", bomb, (413, "too-large", "65536 bytes")),
        ("", STRUCTURED, "", gzip(event("r1").as_bytes()), (400, "malformed", "`content-encoding`")),
        ("", STRUCTURED, "", utf16(&event("r1")), (400, "malformed", "UTF-16")),
        ("/own", json, "", utf16(&own("r1", "r1", "A")), (400, "malformed", "UTF-16")),
        ("/own", json, "", latin1(&own("r1", "Kü1", "A")), (400, "malformed", "not UTF-8")),
        ("", STRUCTURED, "", latin1(&event("r1").replace("Anna", "Jürgen")), (400, "malformed", "not UTF-8")),
    ] {
        let mut headers = vec![("content-type", content_type)];
        headers.extend((!coding.is_empty()).then_some(("content-encoding", coding)));
        let (status, kind, detail, codings) = post(&world, &format!("/v1/events{path}"), &headers, body).await;
        assert_eq!((status, kind.as_str()), (expected.0, expected.1), "{path} {content_type} {coding}: {detail}");
        assert!(detail.contains(expected.2), "{detail}");
        // RFC 9110, §12.5.3: nothing but a coding may bring this header.
        assert_eq!(codings.as_deref(), (status == 415).then_some("gzip, identity"), "{coding}");
    }
    let (status, _, _, codings) = post(&world, "/v1/events", &[("content-type", "text/csv")], b"a".to_vec()).await;
    assert_eq!((status, codings), (415, None), "a media type is not a coding");
    let users = until("all have taken effect", async || {
        let users = world.sandbox_state().await["users"].as_array().cloned().unwrap_or_default();
        (users.len() == 9).then_some(users)
    })
    .await;
    let mut named: Vec<(&str, &str)> = users
        .iter()
        .filter_map(|user| Some((user["external_user_id"].as_str()?, user["first_name"].as_str()?)))
        .filter(|(id, _)| id.starts_with('K'))
        .collect();
    named.sort_unstable();
    assert_eq!(named, [("Kä1", "Jörg"), ("Kö1", "Jörg"), ("Kü1", "Jürgen")], "three customers, none of them merged");
    world.bridge.stop().await;
}

/// A signature is made of what is sent, and so of the packed bytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_covers_the_bytes_as_they_were_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let map = folder.path().join("map.jq");
    std::fs::write(&map, MAP).expect("written");
    let key = "0123456789abcdef0123456789abcdef";
    let toml = format!(
        "[watch]\nenabled = false\n[[source]]\nname = \"own\"\nverify = \"hmac\"\nsecrets = [\"{key}\"]\n\
         hmac_header = \"x-sig\"\nmap = \"{}\"\n",
        map.display()
    );
    let world = World::start(Database::Sqlite, Settings { toml, environment: Vec::new() }).await;
    let text = own("s1", "s1", "Jürgen");
    let sign = |bytes: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key");
        mac.update(bytes);
        mac.finalize().into_bytes().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
    };
    for (body, signed, coding, expected) in [
        (gzip(text.as_bytes()), gzip(text.as_bytes()), "gzip", 202),
        (with_mark(&text), with_mark(&text), "identity", 202),
        (gzip(text.as_bytes()), text.clone().into_bytes(), "gzip", 401),
        (with_mark(&text), text.clone().into_bytes(), "identity", 401),
        // A stranger learns nothing of the packing.
        (b"{}".to_vec(), b"[]".to_vec(), "br", 401),
    ] {
        let signature = sign(&signed);
        let headers = [("content-type", "application/json"), ("content-encoding", coding), ("x-sig", &signature)];
        let (status, kind, detail, _) = post(&world, "/v1/events/own", &headers, body).await;
        assert_eq!(status, expected, "{coding}: {kind} {detail}");
    }
    world.bridge.stop().await;
}

/// A message from the queue is unpacked or parked with the name of its coding.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_unpacked_or_parked_with_its_codings_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let vhost = servers::fresh_vhost();
    let environment =
        vec![("AMQP__URL", vhost.clone()), ("AMQP__SOURCE", "own".into()), ("HTTP__BODY_MAX", "64KiB".into())];
    let world = world(&folder.path().join("map.jq"), environment).await;
    world.ready().await;
    let bus = Bus::connect(&vhost).await;
    let send = async |content_type: &str, coding: &str, body: Vec<u8>| {
        let properties = BasicProperties::default().with_content_type(content_type.into());
        let properties = if coding.is_empty() { properties } else { properties.with_content_encoding(coding.into()) };
        bus.publish_with("customer.signed_up", properties, &body).await;
    };
    let event = |id: &str| sign_up(id, id, TIME).to_string();
    let json = "application/json";
    // Spring writes its charset there, and the first two together.
    send(STRUCTURED, "gzip", gzip(event("q1").as_bytes())).await;
    send(json, "gzip:UTF-8", gzip(own("q2", "q2", "Jürgen").as_bytes())).await;
    send(json, "UTF-8", own("q3", "q3", "Jürgen").into_bytes()).await;
    send(STRUCTURED, "", with_mark(&event("q4"))).await;
    send("application/json; charset=iso-8859-1", "", latin1(&own("q5", "Kü1", "Jürgen"))).await;
    // Each of these is kept for a person.
    send(STRUCTURED, "br", event("p1").into_bytes()).await;
    send(STRUCTURED, "", utf16(&event("p2"))).await;
    send(json, "", latin1(&own("p3", "Kü2", "A"))).await;
    send(json, "gzip", gzip(&vec![b' '; 8 << 20])).await;
    send(json, "gzip", gzip(b"\"Jane Doe\"")).await;
    until("all five have taken effect", async || {
        (world.sandbox_state().await["users"].as_array().map(Vec::len) == Some(5)).then_some(())
    })
    .await;
    let parked = until("the others are parked", async || {
        let listed = world.get(&world.operator("/v1/parked")).await;
        let parked = listed["parked"].as_array().cloned().unwrap_or_default();
        (parked.len() == 5).then_some(parked)
    })
    .await;
    let mut seen = Vec::new();
    for one in &parked {
        let id = one["id"].as_str().expect("an id");
        let event = world.get(&world.operator(&format!("/v1/events/{id}"))).await;
        let detail = event["detail"].as_str().unwrap_or_default().to_owned();
        let envelope = event["envelope"].to_string();
        seen.push((detail, envelope.contains("content_encoding"), event["raw"].to_string()));
    }
    for (word, has_coding) in [
        ("`content-encoding` says br;", true),
        ("UTF-16", false),
        ("not UTF-8", false),
        ("a body has at most 65536 bytes", true),
    ] {
        let found =
            seen.iter().find(|(detail, ..)| detail.contains(word)).unwrap_or_else(|| panic!("{word}: {seen:?}"));
        assert_eq!(found.1, has_coding, "{found:?}");
    }
    // Unpacked bytes stand in plain text before a person, and before an erasure.
    assert!(
        seen.iter().any(|(detail, has_coding, raw)| {
            detail.contains("unmappable") && !has_coding && raw.contains("Jane Doe")
        }),
        "{seen:?}"
    );
    world.bridge.stop().await;
}

/// A folder with a source of its own: `own`, by [`MAP`].
fn desk() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let map = folder.path().join("map.jq");
    std::fs::write(&map, MAP).expect("written");
    // The configuration has a mark as well.
    let toml = format!(
        "[store]\nurl = \"sqlite://{}\"\n[[source]]\nname = \"default\"\nverify = \"none\"\n\
         [[source]]\nname = \"own\"\nverify = \"none\"\nmap = \"{}\"\n",
        folder.path().join("bridge.db").display(),
        map.display()
    );
    std::fs::write(folder.path().join("bridge.toml"), with_mark(&toml)).expect("written");
    folder
}

fn explain(folder: &Path, arguments: &[&str], message: &[u8]) -> (Option<i32>, String) {
    let config = folder.join("bridge.toml");
    let mut command = running::program(&["explain", "--config", config.to_str().expect("text"), "-"]);
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.as_mut().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(message).expect("it reads");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().expect("a pipe"), &mut said).expect("text");
    std::io::Read::read_to_string(&mut child.stderr.take().expect("a pipe"), &mut said).expect("text");
    (child.wait().expect("it ends").code(), said)
}

#[test]
fn explain_reads_and_tells_what_the_door_does() {
    let folder = desk();
    let event = sign_up("e1", "C-1", TIME).to_string();
    let own = own("e2", "C-2", "Jürgen");
    let gzipped = ["--header", "content-encoding: gzip"];
    let charset = ["--source", "own", "--header", "content-type: application/json; charset=windows-1252"];
    for (arguments, message, status, word) in [
        (&[][..], with_mark(&event), 0, "customer.signed_up"),
        (&["--source", "own"], with_mark(&own), 0, "Jürgen"),
        (&["--source", "own"], with_mark(&event), 0, "Anna"),
        (&gzipped, gzip(event.as_bytes()), 0, "customer.signed_up"),
        (&charset, latin1(&own), 0, "Jürgen"),
        (&[], gzip(event.as_bytes()), 1, "malformed: gzip, not UTF-8"),
        (&[], utf16(&event), 1, "malformed: UTF-16"),
        (&["--source", "own"], latin1(&own), 1, "malformed: not UTF-8"),
        (&["--header", "content-encoding: br"], event.clone().into_bytes(), 1, "unsupported-content-encoding"),
    ] {
        let (found, said) = explain(folder.path(), arguments, &message);
        assert!(found == Some(status) && said.contains(word), "{arguments:?}: {found:?} {said}");
    }
}

#[test]
fn examples_of_a_mapping_and_its_program_may_begin_with_a_mark() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("written");
    let dir = folder.path().display().to_string();
    write("map.jq", MAP.as_bytes());
    write("one.input.json", &with_mark(&own("e1", "C-1", "A")));
    write("one.headers.json", &with_mark("{}"));
    let output = json!([{"type": "customer.signed_up", "id": "e1", "time": TIME,
                         "data": {"customer_id": "C-1", "email": "e1@example.com", "first_name": "A"}}]);
    write("one.expected.json", &with_mark(&output.to_string()));
    let told = running::run(&["test", &dir], &running::Environment::new());
    assert!(told.status.success(), "{}", running::said(&told));
    for (name, bytes, word) in [
        ("one.input.json", utf16("{}"), "one.input.json: UTF-16, not UTF-8"),
        ("one.input.json", latin1("{\"id\": \"ü\"}"), "one.input.json: not UTF-8"),
        ("one.input.json", gzip(b"{}"), "one.input.json: gzip"),
        ("map.jq", utf16(MAP), "UTF-16"),
        // The first column is that of the program, not of the mark.
        ("map.jq", with_mark("nothing_such"), "map.jq:1:1: undefined filter nothing_such"),
    ] {
        write(name, &bytes);
        let told = running::run(&["test", &dir], &running::Environment::new());
        assert!(!told.status.success() && running::said(&told).contains(word), "{name}: {}", running::said(&told));
    }
}

/// Files of secrets, programs and settings may begin with a mark and are UTF-8.
#[test]
fn files_may_begin_with_a_mark_and_are_utf8() {
    let folder = desk();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path.display().to_string()
    };
    let config = |secrets: &str| {
        let podero =
            "[podero]\norg_id = \"6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b\"\nclient_id = \"a\"\nclient_secret = \"b\"\n";
        format!("{podero}[[source]]\nname = \"a\"\nverify = \"bearer\"\nsecrets_file = \"{secrets}\"\n")
    };
    let secret = "0123456789abcdef0123456789abcdef";
    let check = |path: &str| -> (Option<i32>, String) {
        let told = running::run(&["check", "--offline", "--config", path], &running::Environment::new());
        (told.status.code(), running::said(&told))
    };
    let good = write("good.toml", &with_mark(&config(&write("good.secrets", &with_mark(secret)))));
    let (status, said) = check(&good);
    assert_eq!(status, Some(0), "{said}");
    let wide = write("wide.toml", config(&write("wide.secrets", &utf16(secret))).as_bytes());
    let (status, said) = check(&wide);
    assert!(status == Some(64) && said.contains("UTF-16") && !said.contains("0123456789"), "{said}");
    let (status, said) = check(&write("utf16.toml", &utf16("[http]\n")));
    assert!(status == Some(64) && said.contains("UTF-16"), "{said}");
}

/// The secret behind a mark is the one without.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_behind_a_mark_is_the_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = "0123456789abcdef0123456789abcdef";
    let path = folder.path().join("secrets");
    std::fs::write(&path, with_mark(secret)).expect("written");
    let toml = format!(
        "[watch]\nenabled = false\n[[source]]\nname = \"default\"\nverify = \"bearer\"\nsecrets_file = \"{}\"\n",
        path.display()
    );
    let world = World::start(Database::Sqlite, Settings { toml, environment: Vec::new() }).await;
    let authorization = format!("Bearer {secret}");
    let headers = [("content-type", STRUCTURED), ("authorization", authorization.as_str())];
    let (status, kind, detail, _) =
        post(&world, "/v1/events", &headers, sign_up("e1", "C-1", TIME).to_string().into_bytes()).await;
    assert_eq!((status, kind.as_str()), (202, "accepted"), "{detail}");
    world.bridge.stop().await;
}

#[test]
fn a_file_that_is_packed_or_utf16_is_told_as_a_whole() {
    let folder = desk();
    std::fs::write(folder.path().join("empty.ndjson"), "").expect("written");
    let environment = running::on_file(folder.path());
    let bridge = running::Running::start(folder.path(), &["--sandbox"], &environment);
    assert_eq!(bridge.terminate(), Some(0));
    let event = sign_up("e1", "C-1", TIME).to_string();
    for (name, bytes, word) in [
        ("a.ndjson", gzip(event.as_bytes()), "the file is gzip, not UTF-8: unpack it first"),
        ("b.ndjson", utf16(&event), "the file is UTF-16"),
        ("c.csv", utf16("a;b\n1;2\n"), "the file is UTF-16"),
        ("d.csv", b"PK\x03\x04\x14\0\x06\0".to_vec(), "a workbook (.xlsx)"),
    ] {
        std::fs::write(folder.path().join(name), bytes).expect("written");
        let output = Command::new(env!("CARGO_BIN_EXE_podero-bridge"))
            .args(["import", "--config", "bridge.toml", "--source", "own", name])
            .current_dir(folder.path())
            .env_clear()
            .output()
            .expect("it runs");
        let said = running::said(&output);
        assert!(output.status.code() == Some(1) && said.contains(word), "{name}: {said}");
    }
}
