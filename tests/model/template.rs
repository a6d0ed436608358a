//! Chat templates render like Jinja in transformers, and a hostile one can neither run forever, nor use much memory, nor read files.

use anyhow::{Context, Result};
use ruminate::{ChatTemplate, Error, Message};
use ruminate_tests::{Folder, trial};
use serde_json::{Value, json};

fn template(content: &str) -> Result<Result<ChatTemplate, Error>> {
    let folder = Folder::new()?;
    folder.write("chat_template.jinja", content)?;
    Ok(ChatTemplate::open(&folder.source()).map(|found| found.expect("the template file exists")))
}

fn user(content: &str) -> Vec<Message> {
    vec![Message { role: "user".to_owned(), content: content.to_owned() }]
}

#[trial]
fn generation_tags_print_nothing() -> Result<()> {
    for (open, close) in [
        ("{% generation %}", "{% endgeneration %}"),
        ("{%- generation -%}", "{%- endgeneration -%}"),
        ("{%generation%}", "{%endgeneration%}"),
    ] {
        let template =
            template(&format!("{{{{ bos_token }}}}{open}{{{{ messages[0]['content'].strip() }}}}{close}!"))??;
        assert_eq!(template.render(&user("  hi "), false)?, "hi!", "{open}");
    }
    Ok(())
}

#[trial]
fn blocks_leave_no_blank_lines() -> Result<()> {
    let template = template("  {% for message in messages %}\n{{ message.content }}\n  {% endfor %}\n")??;
    assert_eq!(template.render(&user("hi"), false)?, "hi\n");
    Ok(())
}

#[trial]
fn templates_can_raise_errors_and_read_the_date() -> Result<()> {
    let refusing = template("{{ raise_exception('roles must alternate') }}")??;
    let error = refusing.render(&user("hi"), true).err().context("the template was rendered")?;
    assert!(
        error.to_string().contains("roles must alternate") && error.to_string().contains("chat_template.jinja"),
        "{error}"
    );
    let year = template("{{ strftime_now('%Y') }}")??.render(&user("hi"), true)?;
    assert!(year.parse::<u32>()? >= 2025, "{year}");
    assert!(template("{{ strftime_now('%Q') }}")??.render(&user("hi"), true).is_err());
    Ok(())
}

#[trial]
fn endless_and_invalid_templates_are_errors() -> Result<()> {
    let endless = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    let error = template(endless)??.render(&user("hi"), true).err().context("the template was rendered")?;
    assert!(error.to_string().contains("fuel"), "{error}");
    assert!(matches!(template("{% for %}")?, Err(Error::Chat { .. })));
    Ok(())
}

#[trial]
fn default_of_named_templates_is_used() -> Result<()> {
    let open = |value: Value| {
        let folder = Folder::new()?;
        folder.write(
            "tokenizer_config.json",
            json!({"chat_template": value, "bos_token": {"content": "<s>"}}).to_string(),
        )?;
        let Some(template) = ChatTemplate::open(&folder.source())? else { return Ok(None) };
        Ok::<_, anyhow::Error>(Some(template.render(&[], false)?))
    };
    let entry = |name: &str, template: &str| json!({"name": name, "template": template});
    assert_eq!(open(json!([entry("tool", "T"), entry("default", "{{ bos_token }}D")]))?.as_deref(), Some("<s>D"));
    assert_eq!(open(json!([entry("tool", "T")]))?.as_deref(), Some("T"));
    assert_eq!(open(json!([]))?, None);
    assert_eq!(open(Value::Null)?, None);
    let error = open(json!([entry("tool", "T"), entry("rag", "R")]))
        .err()
        .context("a template was chosen without a default")?;
    assert!(error.to_string().contains("rag"), "{error}");
    assert!(open(json!(7)).is_err());
    Ok(())
}

/// Renders a template with a greeting.
fn rendered(content: &str) -> Result<Result<String, Error>> {
    Ok(template(content)?.and_then(|template| template.render(&user("hi"), true)))
}

/// Compares with the output of jinja2 3.1.6 in the environment that transformers creates for chat templates.
#[trial]
fn templates_render_like_jinja2_in_transformers() -> Result<()> {
    for (template, expected) in [
        ("{{ messages[0] | tojson }}", "{\"role\": \"user\", \"content\": \"hi\"}"),
        (
            "{{ {'b': [1, 2.5, true, none, [], {}], 'a': '<é😀\"\n>'} | tojson }}",
            "{\"b\": [1, 2.5, true, null, [], {}], \"a\": \"<é😀\\\"\\n>\"}",
        ),
        ("{{ ['é😀'] | tojson(ensure_ascii=true) }}", "[\"\\u00e9\\ud83d\\ude00\"]"),
        ("{{ {'b': [1, {}], 'a': []} | tojson(indent=2) }}", "{\n  \"b\": [\n    1,\n    {}\n  ],\n  \"a\": []\n}"),
        ("{{ {'b': 1, 'a': [2, 3]} | tojson(separators=(',', ':'), sort_keys=true) }}", "{\"a\":[2,3],\"b\":1}"),
        (
            "{% for n in range(9) %}{% if n == 2 %}{% continue %}{% endif %}{% if n > 3 %}{% break %}{% endif %}{{ n }},{% endfor %}",
            "0,1,3,",
        ),
        (
            "{% set ns = namespace(a='x') %}{% for m in messages %}{% set ns.a = ns.a ~ m.content * 2 ~ loop.index %}{% endfor %}{{ ns.a }}",
            "xhihi1",
        ),
        ("{{ 2 ** 3 * 4 - -2 * 3 }} {{ '-' * 3 + '>' }} {{ [1, 2] + [3] }}", "38 ---> [1, 2, 3]"),
        (
            "{% macro say(x, y='?') %}[{{ x }}{{ y }}{{ caller() if caller }}]{% endmacro %}{{ say('a') }}{% call say('b', '!') %}c{% endcall %}",
            "[a?][b!c]",
        ),
        (
            "{{ 'a,b,,c'.split(',') | join('-') }} {{ ' x '.strip() }} {{ 'aXbX'.replace('X', 'yy') }} {{ 'abc'.count('') }}",
            "a-b--c x ayybyy 4",
        ),
        (
            "{{ 'abc'[1:] }} {{ 'abc'[-1] }} {{ messages[0].get('nothing', 'd') }} {{ 'i' in messages[0].content }} {{ none }}",
            "bc c d True None",
        ),
        (
            "{% set x = '' %}{{ x[::-1] }}|{{ x[1:] }}|{{ x[-2:] }}|{{ x[:-1] }}|{{ x[3:0:-1] }}|{{ x[0:3:-1] }}|{{ x[-1:-9:-2] }}|{{ x[9:] }}|{{ x[::2] }}|{{ x[-99:99] }}|{{ x[9223372036854775807::-9223372036854775808] }}|{{ x[:0:-1] }}",
            "|||||||||||",
        ),
        (
            "{% set x = 'abcdé' %}{{ x[::-1] }}|{{ x[1:] }}|{{ x[-2:] }}|{{ x[:-1] }}|{{ x[3:0:-1] }}|{{ x[0:3:-1] }}|{{ x[-1:-9:-2] }}|{{ x[9:] }}|{{ x[::2] }}|{{ x[-99:99] }}|{{ x[9223372036854775807::-9223372036854775808] }}|{{ x[:0:-1] }}",
            "édcba|bcdé|dé|abcd|dcb||éca||acé|abcdé|é|édcb",
        ),
        (
            "{% set x = [1, 2, 3, 4] %}{{ x[::-1] }}|{{ x[1:] }}|{{ x[-2:] }}|{{ x[:-1] }}|{{ x[3:0:-1] }}|{{ x[0:3:-1] }}|{{ x[-1:-9:-2] }}|{{ x[9:] }}|{{ x[::2] }}|{{ x[-99:99] }}|{{ x[9223372036854775807::-9223372036854775808] }}|{{ x[:0:-1] }}",
            "[4, 3, 2, 1]|[2, 3, 4]|[3, 4]|[1, 2, 3]|[4, 3, 2]|[]|[4, 2]|[]|[1, 3]|[1, 2, 3, 4]|[4]|[4, 3, 2]",
        ),
        ("{% if 1 < 2 < 3 %}yes{% elif nothing is defined %}no{% endif %} {{ nothing }}.", "yes ."),
        (
            "{{ messages | map(attribute='content') | list | length }} {{ messages | selectattr('role', 'equalto', 'user') | list | count }}",
            "1 1",
        ),
        ("  {%- set x %}a\n {{ 1 }}{% endset %}\n{{ x | upper }}\n", "A\n 1"),
        ("{% for a, b in {'x': 1, 'y': 2}.items() %}{{ a }}{{ b }}{{ '' if loop.last else ';' }}{% endfor %}", "x1;y2"),
        ("{{ '%s-%03d' | format('a', 7) }} {{ '{}{:>4}'.format('a', 'b') }}", "a-007 a   b"),
        (
            "{{ 'generation' }} {# {% generation %} #}{% generation %}x{% endgeneration %}{% raw %}{% generation %}{% endraw %}",
            "generation x{% generation %}",
        ),
    ] {
        let found = rendered(template)?.with_context(|| template.to_owned())?;
        assert_eq!(found, expected, "{template}");
    }
    Ok(())
}

#[trial]
fn hostile_templates_are_refused() -> Result<()> {
    let big = "{% set ns = namespace(s='aaaaaaaaaaaaaaaa', l=[1, 2, 3]) %}{% for i in range(100) %}";
    let doubled = |statement: &str| format!("{big}{statement}{{% endfor %}}");
    let long = |count: usize, piece: &str| format!("{{{{ {} }}}}", vec!["x"; count].join(piece));
    let made = "more than 128 MiB";
    let cases = [
        ("{{ 'a' * 1000000000 }}".to_owned(), made),
        (format!("{{{{ {} }}}}", vec!["'a' * 99999999"; 100].join(" ~ ")), made),
        (format!("{{% set x = {} %}}", vec!["('a' * 99999999)"; 100].join(" + ")), made),
        ("{{ [0] * 1000000000000 == [0] * 1000000000000 }}".to_owned(), made),
        ("{{ [] * 1000000000000 }}".to_owned(), made),
        ("{{ ([0] * 1000000000000) | sum }}".to_owned(), made),
        ("{{ ([0] * 1000000000000) | length }}".to_owned(), made),
        (doubled("{% set ns.s = ns.s ~ ns.s %}"), made),
        (doubled("{% set ns.s = ns.s + ns.s %}"), made),
        (doubled("{% set ns.s = ns.s * 2 %}"), made),
        (doubled("{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}"), made),
        (doubled("{% set ns.s = [ns.s, ns.s] | join %}"), made),
        (doubled("{% set ns.s = ns.s.replace('a', 'aa') %}"), made),
        (doubled("{% set ns.s = ns.s | replace('', 'aa') %}"), made),
        (doubled("{% set ns.s = ns.s.join(['', '', '']) %}"), made),
        (doubled("{% set ns.s = '%s%s' | format(ns.s, ns.s) %}"), made),
        (doubled("{% set ns.s = '{0}{0}'.format(ns.s) %}"), made),
        (doubled("{% set ns.l = ns.l + ns.l %}"), made),
        (doubled("{% set ns.l = [ns.l, ns.l] %}"), made),
        (doubled("{% set ns.l = {'a': ns.l} %}"), "nested too deeply"),
        (doubled("{% set ns.l = namespace(a=ns) %}"), "only data"),
        (doubled("{% set ns.self = ns %}"), "only data"),
        ("{% macro d(x) %}{{ d(x ~ x) }}{% endmacro %}{{ d('aaaaaaaa') }}".to_owned(), made),
        (format!("{{% set x %}}{{% for i in range(99999) %}}{}{{% endfor %}}{{% endset %}}", "a".repeat(9999)), made),
        (format!("{{% for i in range(99999) %}}{}{{% endfor %}}", "a".repeat(9999)), made),
        ("{{ 'a' | indent(999999999) }}".to_owned(), made),
        ("{{ ('a\n' * 99999) | indent(width=99999, first=true) }}".to_owned(), made),
        ("{{ [1] | batch(999999999, 0) }}".to_owned(), made),
        ("{{ [1] | slice(999999999) }}".to_owned(), made),
        ("{{ [[1]] | tojson(indent=999999999) }}".to_owned(), "at most 100"),
        ("{{ '%0999999999d' | format(1) }}".to_owned(), "digits"),
        ("{{ '%*d' | format(999999999, 1) }}".to_owned(), "width"),
        ("{{ '{:999999999}'.format(1) }}".to_owned(), "digits"),
        ("{{ ('a' * 9999999).strip('b' * 9999999) }}".to_owned(), made),
        ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}".to_owned(), "fuel"),
        ("{% set s = 'a' * 4000000 %}{% for b in range(99999) %}{% set x = s[3999999] %}{% endfor %}".to_owned(), made),
        ("{% set l = range(99999) | list %}{% for b in l %}{% set x = l == l %}{% endfor %}".to_owned(), made),
        ("{% set l = range(99999) | list %}{{ l | select('in', l) | list }}".to_owned(), made),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}".to_owned(), "recursion"),
        ("{% block a %}{{ self.a() }}{% endblock %}".to_owned(), "recursion"),
        ("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned(), "recursion"),
        (long(50_000, " + "), "more complicated"),
        (long(50_000, "."), "more complicated"),
        (format!("{{{{ {}x }}}}", "not ".repeat(50_000)), "more complicated"),
        (format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(10_000)), "more complicated"),
        (format!("{}{}", "{% if x %}".repeat(9_000), "{% endif %}".repeat(9_000)), "recursion"),
        (format!("{{{{ {}1{} }}}}", "[".repeat(450), "]".repeat(450)), "recursion"),
        (" ".repeat(300_000), "300000 bytes"),
        ("{% include 'tokenizer.json' %}".to_owned(), "cannot read other files"),
        ("{% import '/etc/passwd' as p %}".to_owned(), "cannot read other files"),
        ("{% import 'x' as y-0 %}".to_owned(), "cannot read other files"),
        ("{% extends '../config.json' %}".to_owned(), "cannot read other files"),
        ("{{ messages.__class__.__mro__ }}".to_owned(), "undefined"),
        ("{{ debug() }}".to_owned(), "debug is unknown"),
    ];
    let mut failures = Vec::new();
    for (template, words) in cases {
        let start: String = template.chars().take(120).collect();
        let begun = std::time::Instant::now();
        let message =
            rendered(&template)?.map_or_else(|error| error.to_string(), |text| format!("{} bytes", text.len()));
        if !message.contains(words) || begun.elapsed().as_secs() >= 60 {
            failures.push(format!("{start} ({:?}): {message}", begun.elapsed()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[trial]
fn long_conversations_render() -> Result<()> {
    let turns = (0..400).map(|turn| Message {
        role: ["user", "assistant"][turn % 2].to_owned(),
        content: "What was said here is said again and again. ".repeat(20),
    });
    let turns: Vec<_> = turns.collect();
    let folder = Folder::new()?;
    let demo = ruminate::demo::source();
    folder.write("tokenizer_config.json", demo.read("tokenizer_config.json")?)?;
    let template = ChatTemplate::open(&folder.source())?.context("the demo has no template")?;
    assert!(template.render(&turns, true)?.len() > 350_000);
    Ok(())
}

#[trial]
fn byte_order_mark_is_skipped() -> Result<()> {
    let marked = template("\u{feff}{{ messages[0].content }}\u{feff}")??;
    assert_eq!(marked.render(&user("hi"), false)?, "hi\u{feff}");
    Ok(())
}
