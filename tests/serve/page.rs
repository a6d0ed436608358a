//! Tests of the built-in page in Chromium: display, requests and storage, by mouse and keyboard, and accessibility.

use ruminate_tests::trial;
use serde_json::Value;

use crate::browser::{Page, browser_missing};
use crate::http::{PUZZLE, Running, options};

/// Window sizes of a phone and of a desktop.
const WINDOWS: [(u32, u32); 2] = [(400, 800), (1200, 900)];

const ANSWERED: &str = "document.querySelector('article.assistant:last-child .figures')?.textContent.includes('token') && !document.getElementById('send').hidden";

fn open(server: &Running, window: (u32, u32), scheme: &str) -> Page {
    let mut page = Page::open(&format!("http://{}/", server.client.address), window, scheme);
    page.wait_for("document.getElementById('model')?.textContent.startsWith('demo')");
    page
}

/// Replaces the text in the message input.
fn fill(page: &mut Page, text: &str) {
    page.value("document.getElementById('input').focus(), document.getElementById('input').select()");
    page.write(text);
}

/// Asserts that the page had no errors and sent no requests to other hosts.
#[track_caller]
fn clean(page: &Page, server: &Running) {
    let home = format!("http://{}/", server.client.address);
    for asked in page.events_of("Network.requestWillBeSent") {
        let url = asked["request"]["url"].as_str().unwrap_or_default();
        assert!([&home, "data:", "about:"].iter().any(|start| url.starts_with(*start)), "{url}");
    }
    assert_eq!(page.events_of("Runtime.exceptionThrown").collect::<Vec<_>>(), Vec::<&Value>::new());
    let errors = page.events_of("Log.entryAdded").filter(|entry| entry["entry"]["level"] == "error");
    assert_eq!(errors.collect::<Vec<_>>(), Vec::<&Value>::new());
}

#[trial]
fn page_is_one_file_with_strict_policy_and_needs_no_key() {
    let mut options = options();
    options.api_keys = vec!["secret".to_owned()];
    let mut server = Running::start(options);
    let key = server.client.key.take();
    let reply = server.client.get("/");
    assert_eq!((reply.status, reply.headers["content-type"].as_str()), (200, "text/html; charset=utf-8"));
    let policy = &reply.headers["content-security-policy"];
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("unsafe") && !policy.contains('*'),
        "{policy}"
    );
    assert!(
        reply.body.contains("<title>Ruminate</title>") && reply.body.len() < 64 << 10,
        "{} bytes",
        reply.body.len()
    );
    server.client.get("/v1/models").refused(401);
    server.client.key = key;
    server.client.get("/v1/models").good();
    server.stop().expect("drained");
}

#[trial(needs(browser_missing))]
fn page_streams_answer_with_steps_of_tokens() {
    let server = Running::start(options());
    for (window, scheme) in [(WINDOWS[0], "light"), (WINDOWS[0], "dark"), (WINDOWS[1], "light"), (WINDOWS[1], "dark")] {
        let mut page = open(&server, window, scheme);
        page.value("(() => { const steps = document.getElementById('steps'); steps.value = 16; steps.dispatchEvent(new Event('input')); steps.dispatchEvent(new Event('change')); })()");
        assert_eq!(page.value("document.getElementById('steps-exact').value"), "16");
        fill(&mut page, PUZZLE.0);
        page.press("Enter", 13, "\r");
        page.wait_for(ANSWERED);
        assert_eq!(page.value("document.querySelector('article.assistant .text').textContent"), PUZZLE.1);
        let titles =
            page.value("[...document.querySelectorAll('article.assistant .token')].map((token) => token.title)");
        let titles: Vec<&str> = titles.as_array().expect("tokens").iter().filter_map(Value::as_str).collect();
        assert!(titles.len() >= 2 && titles.iter().all(|title| *title == "16 steps"), "{titles:?}");
        let figures = page.value("document.querySelector('article.assistant .figures').textContent");
        let figures = figures.as_str().expect("text");
        assert!(figures.contains("16 steps per token") && figures.contains("core passes"), "{figures}");
        // The announcement for screen readers after the answer.
        let heard = page.value("document.getElementById('announce').textContent");
        assert!(heard.as_str().is_some_and(|heard| heard.contains(PUZZLE.1)), "{heard}");
        let wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth";
        assert_eq!(page.value(wide), false, "at {window:?}, the page is wider than its window");
        let dark = page.value("getComputedStyle(document.body).backgroundColor");
        assert_eq!(dark == "rgb(255, 255, 255)", scheme == "light", "{dark}");
        // The conversation is restored after a reload.
        page.value("window.before = true");
        page.ask("Page.reload", &serde_json::json!({}));
        page.wait_for("window.before === undefined && document.querySelectorAll('article').length === 2");
        page.wait_for("document.getElementById('model')?.textContent.startsWith('demo')");
        assert_eq!(page.value("document.getElementById('steps').value"), "16");
        page.value("document.getElementById('new').click()");
        page.wait_for("document.querySelectorAll('article').length === 0");
        clean(&page, &server);
    }
    server.stop().expect("drained");
}

#[trial(needs(browser_missing))]
fn exited_tokens_are_colored_by_their_steps() {
    let server = Running::start(options());
    let mut page = open(&server, WINDOWS[1], "light");
    page.value("(() => { const exit = document.getElementById('exit'); exit.value = 'latent-diff'; exit.dispatchEvent(new Event('change')); document.getElementById('threshold').value = '1'; })()");
    fill(&mut page, PUZZLE.0);
    page.press("Enter", 13, "\r");
    page.wait_for(ANSWERED);
    let depths = page.value("[...document.querySelectorAll('article.assistant .token')].map((token) => [parseInt(token.title), Number(token.style.getPropertyValue('--depth')), getComputedStyle(token).backgroundColor])");
    let depths = depths.as_array().expect("tokens");
    assert!(!depths.is_empty());
    for depth in depths {
        let (steps, share) = (depth[0].as_f64().expect("steps"), depth[1].as_f64().expect("a share"));
        assert!(steps < 32.0 && (share - (steps - 1.0) / 31.0).abs() < 1e-3, "{depth}");
        assert_ne!(depth[2], "rgba(0, 0, 0, 0)", "{depth}");
    }
    clean(&page, &server);
    server.stop().expect("drained");
}

#[trial(needs(browser_missing))]
fn escape_stops_answer_and_frees_its_sequence() {
    let server = Running::start(options());
    let mut page = open(&server, WINDOWS[1], "light");
    page.value("document.getElementById('steps-exact').value = 1000, document.getElementById('steps-exact').dispatchEvent(new Event('change'))");
    fill(&mut page, crate::http::LONG);
    page.press("Enter", 13, "\r");
    page.wait_for("document.querySelectorAll('article.assistant .token').length > 0");
    page.press("Escape", 27, "");
    page.wait_for("document.getElementById('stop').hidden");
    let figures = page.value("document.querySelector('article.assistant .figures').textContent");
    assert!(figures.as_str().is_some_and(|figures| figures.ends_with("stopped")), "{figures}");
    server.client.wait_for("ruminate_sequences_running", |running| running == 0.0);
    assert_eq!(page.value("document.activeElement.id"), "input");
    server.stop().expect("drained");
}

#[trial(needs(browser_missing))]
fn refused_message_shows_error_and_returns_to_input() {
    let mut options = options();
    options.api_keys = vec!["secret".to_owned()];
    let server = Running::start(options);
    let mut page = Page::open(&format!("http://{}/", server.client.address), WINDOWS[0], "light");
    page.wait_for("document.getElementById('key-field')?.hidden === false && document.activeElement.id === 'key'");
    page.write("secret");
    page.press("Tab", 9, "");
    page.wait_for("document.getElementById('model')?.textContent.startsWith('demo')");
    page.value("document.getElementById('max-tokens').value = 3, document.getElementById('temperature').value = -1");
    fill(&mut page, PUZZLE.0);
    page.press("Enter", 13, "\r");
    page.wait_for("document.getElementById('problem').textContent.includes('temperature')");
    assert_eq!(page.value("document.querySelectorAll('article').length"), 0);
    assert_eq!(page.value("document.getElementById('input').value"), PUZZLE.0);
    assert_eq!(page.value("document.getElementById('problem').getAttribute('role')"), "alert");
    page.value("document.getElementById('temperature').value = ''");
    page.press("Enter", 13, "\r");
    page.wait_for(ANSWERED);
    assert_eq!(page.value("document.getElementById('problem').textContent"), "");
    server.stop().expect("drained");
}

/// Every control has an accessible name, and Tab reaches each of them.
#[trial(needs(browser_missing))]
fn controls_are_named_and_reachable_by_keyboard() {
    let server = Running::start(options());
    let mut page = open(&server, WINDOWS[0], "dark");
    page.value("document.getElementById('more').open = true");
    let tree = page.ask("Accessibility.getFullAXTree", &serde_json::json!({}));
    let roles = ["button", "textbox", "slider", "spinbutton", "combobox", "checkbox", "link", "log", "region"];
    let mut controls = 0;
    for node in tree["nodes"].as_array().expect("nodes") {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        if roles.contains(&role) && node["ignored"] != true {
            controls += 1;
            assert!(node["name"]["value"].as_str().is_some_and(|name| !name.is_empty()), "{node}");
        }
    }
    assert!(controls >= 14, "{controls}");
    let wanted = "[...document.querySelectorAll('a, button, input, select, textarea, summary, main')].filter((it) => it.offsetParent && !it.disabled).map((it) => it.id || it.tagName)";
    let wanted: Vec<Value> = page.value(wanted).as_array().expect("controls").clone();
    page.value("document.activeElement.blur()");
    let mut reached = Vec::new();
    for _ in 0..2 * wanted.len() {
        page.press("Tab", 9, "");
        reached.push(page.value("document.activeElement.id || document.activeElement.tagName"));
    }
    for control in &wanted {
        assert!(reached.contains(control), "Tab does not reach {control}: {reached:?}");
    }
    server.stop().expect("drained");
}
