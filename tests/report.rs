//! `opdflow report`: what the page says is what the run left, it asks nobody for anything, and a browser shows it without complaint.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use std::path::Path;
use std::process::Command;

fn space() -> TestSpace {
    let space = TestSpace::new();
    space.recipe(
        "r.yaml",
        "a: {uses: fake_source, with: {value: 41}}
        sum: {uses: fake_sum, needs: {terms: {a: a.value}}, with: {plus: 1}}
        train: {uses: fake_train, needs: {base: sum.value}, with: {iterations: 8}}
        words: {uses: note, with: {text: \"| model | score |\\n|---|---:|\\n| <b>ours</b> | 0.75 |\\n\"}}",
    );
    space
}

fn page(space: &TestSpace, args: &[&str]) -> String {
    space.run(&[&["report", "-o", "page.html", "--overwrite"], args].concat()).expect(0);
    std::fs::read_to_string(space.path("page.html")).unwrap()
}

#[test]
fn a_run_is_one_page_with_what_it_left() {
    let space = space();
    space.run(&["run", "r.yaml"]).expect(0);
    let html = page(&space, &[]);
    for wanted in
        ["<h1>test</h1>", "complete", "<td>0.75</td>", "stage-train", "fake_train", "opdflow explain r.yaml train"]
    {
        assert!(
            html.contains(wanted) || html.contains(&wanted.replace("<td>", "<td style=\"text-align: right\">")),
            "no `{wanted}` in\n{html}"
        );
    }
    // What users wrote is text.
    assert!(html.contains("&lt;b&gt;ours&lt;/b&gt;") && !html.contains("<b>ours</b>"));
    // The numbers of the curves are those of the metrics.
    space.run(&["get", "r.yaml", "train.metrics", "-o", "metrics.jsonl"]).expect(0);
    let text = std::fs::read_to_string(space.path("metrics.jsonl")).unwrap();
    let losses: Vec<serde_json::Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .filter(|v: &serde_json::Value| v["name"] == "loss")
        .collect();
    let (first, last) = (losses.first().unwrap(), losses.last().unwrap());
    let at = |v: &serde_json::Value| format!("at step {}", v["step"]);
    let caption = html.split("data-name=\"train loss\"").nth(1).expect("a curve of the loss");
    let caption = caption.split("</figure>").next().unwrap();
    assert!(caption.contains(&at(first)) && caption.contains(&at(last)), "{caption}");
    let shown: f64 = caption.split("<figcaption>").nth(2).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((shown / first["value"].as_f64().unwrap() - 1.0).abs() < 0.01, "{shown} {first}");
    // Nothing is fetched: what has an address is in the page.
    for part in html.split("src=\"").skip(1).chain(html.split("href=\"").skip(1)) {
        assert!(part.starts_with("data:") || part.starts_with('#'), "{}", &part[..part.len().min(80)]);
    }
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn a_run_of_hits_shows_the_same_and_one_that_failed_says_why() {
    let space = space();
    space.run(&["run", "r.yaml"]).expect(0);
    space.run(&["run", "r.yaml"]).expect(0);
    let html = page(&space, &[]);
    assert!(html.contains("data-name=\"train loss\"") && html.contains("state-hit"));
    space.recipe("bad.yaml", "a: {uses: fake_fail, with: {class: user}}");
    space.run(&["run", "bad.yaml"]).expect(1);
    let html = page(&space, &[]);
    assert!(html.contains("`a` failed:") && html.contains("state-failed"), "{html}");
    assert!(html.contains("There is no table or figure yet"));
}

#[test]
fn what_is_shared_has_no_prompts_recipe_or_paths() {
    let space = space();
    space.run(&["run", "r.yaml"]).expect(0);
    let secret = "r.yaml";
    assert!(page(&space, &[]).contains(secret));
    let html = page(&space, &["--no-prompts"]);
    assert!(!html.contains(secret) && !html.contains("fake_sum, needs"), "{html}");
}

#[test]
fn it_overwrites_only_when_told_and_knows_its_run() {
    let space = space();
    let ran = space.run(&["report"]).expect(2);
    assert!(ran.stderr.contains("opdflow run RECIPE"), "{}", ran.stderr);
    space.run(&["run", "r.yaml"]).expect(0);
    space.write("page.html", "mine");
    let ran = space.run(&["report", "-o", "page.html"]).expect(2);
    assert!(ran.stderr.contains("--overwrite"), "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(space.path("page.html")).unwrap(), "mine");
    space.run(&["report", "-o", ".", "--overwrite"]).expect(2);
    space.run(&["report", "nope", "-o", "x.html"]).expect(2);
}

#[test]
fn a_recipe_is_shown_by_what_the_store_has() {
    let space = space();
    let html = page(&space, &["r.yaml"]);
    assert!(html.contains("0 of 4 results are in the store") && html.contains("state-waiting"), "{html}");
    space.run(&["run", "r.yaml"]).expect(0);
    // The run's folder is not needed.
    std::fs::remove_dir_all(space.path(".opdflow")).unwrap();
    let html = page(&space, &["r.yaml"]);
    assert!(html.contains("4 of 4 results are in the store") && html.contains("data-name=\"train loss\""), "{html}");
    let html = page(&space, &["r.yaml", "--set", "train.with.iterations=9"]);
    assert!(html.contains("3 of 4 results are in the store"), "{html}");
    let ran = space.run(&["report", "nope.yaml", "-o", "x.html"]).expect(2);
    assert!(ran.stderr.contains("nope.yaml"), "{}", ran.stderr);
}

#[test]
fn two_runs_stand_beside_each_other() {
    let space = space();
    let name = || {
        let latest = std::fs::read_link(space.path(".opdflow/runs/latest")).unwrap();
        latest.file_name().unwrap().to_string_lossy().into_owned()
    };
    space.run(&["run", "r.yaml"]).expect(0);
    let first = name();
    let text = std::fs::read_to_string(space.path("r.yaml")).unwrap();
    space.write("other.yaml", &text.replace("iterations: 8", "iterations: 12"));
    space.run(&["run", "other.yaml"]).expect(0);
    let html = page(&space, &[&first, &name()]);
    for wanted in ["3 of 4 are the same result", "params.iterations", "<code>8</code></td><td><code>12</code>"] {
        assert!(html.contains(wanted), "no `{wanted}` in\n{html}");
    }
    let caption = html.split("data-name=\"train loss\"").nth(1).expect("a curve of both");
    let caption = caption.split("</figure>").next().unwrap();
    assert!(caption.contains("A: ") && caption.contains("at step 8,"), "{caption}");
    assert!(caption.contains("B: ") && caption.contains("at step 12,"), "{caption}");
    assert!(caption.contains("var(--line)") && caption.contains("var(--other)"), "{caption}");
    // The recipes differ in one line.
    let diff = html.split("class=\"diff\"").nth(1).expect("a difference of the recipes");
    assert_eq!((diff.matches("class=\"worse\"").count(), diff.matches("class=\"better\"").count()), (1, 1), "{diff}");
    // Each run is shown by the store that it used.
    let other = space.path("another-store").display().to_string();
    space.run(&["run", "r.yaml", "--store", &other]).expect(0);
    let html = page(&space, &[&first, &name()]);
    assert!(html.contains("4 of 4 are the same result") && !html.contains("not in the store any more"), "{html}");
    let html = page(&space, &[&first, "r.yaml"]);
    assert!(html.contains("4 of 4 are the same result") && html.contains("Both runs have the same text"));
    space.run(&["report", &first, &first, &first, "-o", "x.html"]).expect(2);
}

/// What a server says: its status line and headers, and the rest.
fn asked(port: &str, path: &str, host: &str) -> (String, String) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn a_served_page_follows_its_run_on_this_machine_alone() {
    use std::io::{BufRead as _, BufReader};
    let space = TestSpace::new();
    space.recipe("long.yaml", "t: {uses: fake_train, with: {iterations: 4000, step_seconds: 0.01}}");
    let run = space.start(&["run", "long.yaml"]);
    space.wait_for("progress", |_| true);
    let mut server = space.command(&["report", "--serve"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split('/').next()).expect("an address").to_owned();
    let own = format!("127.0.0.1:{port}");
    let (head, body) = asked(&port, "/", &own);
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("no-store") && body.contains("running"),
        "{head}\n{body}"
    );
    assert!(body.contains("connect-src 'self'") && body.contains("data-live"));
    let (_, before) = asked(&port, "/news", &own);
    space.wait_for("progress", |e| e["step"].as_u64() > Some(30));
    assert_ne!(asked(&port, "/news", &own).1, before, "the run goes on");
    // Another site's name that leads here is not answered.
    let (head, body) = asked(&port, "/", &format!("example.org:{port}"));
    assert!(head.starts_with("HTTP/1.1 403") && !body.contains("fake_train"), "{head}");
    assert!(asked(&port, "/nothing", &own).0.starts_with("HTTP/1.1 404"));
    // The port is taken.
    let ran = space.run(&["report", "--serve", "--port", &port]).expect(2);
    assert!(ran.stderr.contains("cannot listen on port") && ran.stderr.contains("--port"), "{}", ran.stderr);
    common::signal(common::pid(&run), libc::SIGTERM);
    common::finish(run);
    assert!(asked(&port, "/", &own).1.contains("stopped"));
    if let Some(browser) = browser() {
        let (dom, console) = dumped(browser, &format!("http://{own}/"));
        assert!(console.is_empty() && dom.contains("stopped"), "{console}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
    // What is written to a file asks nobody.
    let html = page(&space, &[]);
    assert!(!html.contains("connect-src") && !html.contains("<body data-live"));
}

/// The browser that Debian's package `chromium` brings, if it is here.
fn browser() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|ran| ran.status.success()))
}

/// What is on the page after its scripts and `script` have run, and what the browser's console says.
fn shown(browser: &str, page: &Path, script: &str) -> (String, String) {
    let copy = page.with_file_name("tried.html");
    let html = std::fs::read_to_string(page).unwrap();
    std::fs::write(&copy, html.replace("</body>", &format!("<script>{script}</script></body>"))).unwrap();
    dumped(browser, &format!("file://{}", copy.display()))
}

/// What a browser makes of an address, and what its console says.
fn dumped(browser: &str, address: &str) -> (String, String) {
    let home = tempfile::tempdir().unwrap();
    let ran = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--virtual-time-budget=5000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", home.path().display()))
        .arg(address)
        .output()
        .unwrap();
    let console =
        String::from_utf8_lossy(&ran.stderr).lines().filter(|l| l.contains("CONSOLE")).collect::<Vec<_>>().join("\n");
    (String::from_utf8_lossy(&ran.stdout).into_owned(), console)
}

#[test]
fn a_browser_shows_it_without_complaint() {
    let Some(browser) = browser() else { return eprintln!("chromium is not here: the page is not tried in a browser") };
    let space = space();
    space.run(&["run", "r.yaml"]).expect(0);
    page(&space, &[]);
    let script = "const find = document.getElementById('filter-stages'); find.value = 'train'; find.oninput();\
        const rows = [...document.querySelectorAll('#stages tbody tr')];\
        const named = [...document.querySelectorAll('input, button, select, img')].every((e) => e.labels?.length || e.getAttribute('aria-label') || e.alt || e.textContent);\
        const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;\
        document.body.dataset.found = [rows.length, rows.filter((r) => !r.hidden).length, named, document.querySelectorAll('#curves svg').length, wide].join(' ');";
    let (dom, console) = shown(browser, &space.path("page.html"), script);
    assert_eq!(console, "", "the browser complains");
    let found = dom.split("data-found=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    let what =
        "stages, those that the filter leaves, whether all controls have names, curves, whether the page is too wide";
    assert_eq!(found, "4 1 true 1 false", "{what}");
}
