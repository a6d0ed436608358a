//! Chat templates assembled from parts of real and hostile ones.

use anyhow::{Context, Result};
use fastrand::Rng;
use ruminate::{ChatTemplate, Error, Message};
use ruminate_tests::{Folder, golden_json};

use crate::mutate::{self, NUMBERS, once_in, pick};
use crate::targets::{Target, Verdict};

/// Templates to start from, in addition to the published one.
const WHOLE: [&str; 8] = [
    "{% for m in messages %}{{ m.role | upper }}: {{ m['content'].strip() }}\n{% endfor %}{% if add_generation_prompt %}A:{% endif %}",
    "{% set ns = namespace(s='ab', l=[1, 2]) %}{% for i in range(5) %}{% set ns.s = ns.s ~ ns.s %}{% set ns.l = ns.l + [ns.l] %}{% endfor %}{{ ns.s }}",
    "{% macro f(x, y=1) %}{{ x ~ y }}{{ caller() if caller }}{% endmacro %}{% call f('a' * 9) %}{{ f(f(1)) }}{% endcall %}",
    "{% for a in range(9) recursive %}{{ loop.index }}{{ loop([a]) if a < 2 }}{% else %}{% endfor %}{{ [3, 1] | sort | join(',') }}",
    "{{ {'a': [1, none, 2.5], 'b': messages} | tojson(indent=2) }}{{ '%05d' | format(7) }}{{ 'a{}'.format(1) }}",
    "{% set x %}{{ bos_token }}{% endset %}{% filter upper %}{{ x }}{% endfilter %}{{ x[1:] }}{{ x[::-1] }}{{ messages[0].get('z', x) }}",
    "{% if messages | length > 1 and not false %}{{ messages | map(attribute='content') | list }}{% elif true %}{{ 1 / 3 }}{% endif %}",
    "{% block a %}{% generation %}{{ 2 ** 8 }}{% endgeneration %}{% endblock %}{{ raise_exception('no') if messages | selectattr('role', 'in', ['tool']) | list }}",
];

/// Pieces to insert.
const PIECES: [&str; 72] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{%-",
    "-%}",
    "{#",
    "#}",
    "{% raw %}",
    "{% endraw %}",
    "{% for x in messages %}",
    "{% endfor %}",
    "{% if x %}",
    "{% elif x %}",
    "{% else %}",
    "{% endif %}",
    "{% set x = x ~ x %}",
    "{% set ns.s = ns.s + ns.s %}",
    "{% set ns.l = [ns.l, ns.l] %}",
    "{% set ns.a = ns %}",
    "{% break %}",
    "{% continue %}",
    "{% generation %}",
    "{% endgeneration %}",
    "{% macro f(x) %}",
    "{% endmacro %}",
    "{% call f(1) %}",
    "{% endcall %}",
    "{% block a %}",
    "{% endblock %}",
    "{% include 'x' %}",
    "{% extends 'x' %}",
    "{% import 'x' as y %}",
    "{% from 'x' import y %}",
    "{% set x %}",
    "{% endset %}",
    "{% autoescape true %}",
    "{% with x = 1 %}",
    "{% do x %}",
    " * 99999999",
    " ** 9",
    " ~ messages",
    " + [1]",
    " - 1",
    " // 0",
    " % 0",
    " | list",
    " | join('x')",
    " | replace('', 'xx')",
    " | tojson",
    " | sort",
    " | unique",
    " | batch(99999)",
    " | indent(9999)",
    " | map('upper')",
    " | select('in', messages)",
    " | format(1)",
    " | groupby('role')",
    " | sum",
    " | int",
    " | round(400)",
    ".x",
    "[0]",
    "[::-1]",
    "['role']",
    ".count('')",
    ".split('')",
    ".replace('a', 'b')",
    "{{ f(x ~ x) }}",
    "{{ loop(x) }}",
    "{{ range(99999) }}",
    "{{ self.a() }}",
];

/// Target that renders templates in a folder.
pub(crate) struct Templates {
    folder: Option<Folder>,
    whole: Vec<String>,
    messages: Vec<Message>,
}

impl Templates {
    pub(crate) fn new() -> Result<Self> {
        let published = golden_json("tiny", "tokenizer_config.json")?;
        let published = published["chat_template"].as_str().context("the fixture has a template")?.to_owned();
        let whole = WHOLE.iter().map(ToString::to_string).chain([published]).collect();
        Ok(Self { folder: Some(Folder::in_memory()?), whole, messages: Vec::new() })
    }

    fn rendered(&self) -> Result<usize, Error> {
        let Some(folder) = &self.folder else { return Ok(0) };
        let Some(template) = ChatTemplate::open(&folder.source())? else { return Ok(0) };
        Ok(template.render(&self.messages, true)?.len())
    }
}

impl Target for Templates {
    fn prepare(&mut self, rng: &mut Rng) -> Result<()> {
        let mut text = self.whole[rng.usize(..self.whole.len())].clone();
        for _ in 0..rng.usize(..5) {
            let mut at = rng.usize(..=text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            match rng.u32(..8) {
                0..=3 => text.insert_str(at, pick(rng, &PIECES)),
                4 => text.insert_str(at, pick(rng, &NUMBERS)),
                5 => text.insert_str(at, &self.whole[rng.usize(..self.whole.len())]),
                6 if once_in(rng, 4) => text.insert_str(at, &pick(rng, &PIECES).repeat(rng.usize(..2000))),
                _ => {
                    let mut bytes = std::mem::take(&mut text).into_bytes();
                    mutate::bytes(rng, &mut bytes);
                    text = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
        }
        self.messages = (0..rng.usize(..4))
            .map(|turn| Message {
                role: if once_in(rng, 4) { mutate::text(rng) } else { ["user", "assistant"][turn % 2].to_owned() },
                content: mutate::text(rng).repeat(rng.usize(..40)),
            })
            .collect();
        self.folder.as_ref().context("the folder was kept")?.write("chat_template.jinja", text)
    }

    fn run(&mut self) -> Verdict {
        match self.rendered() {
            Ok(_) => Verdict::Accepted,
            Err(_) => Verdict::Refused,
        }
    }

    fn keep(&mut self) -> String {
        let messages = format!("{:?}", self.messages);
        self.folder.take().map_or_else(String::new, |folder| {
            let _ = folder.write("messages", messages);
            folder.keep().display().to_string()
        })
    }
}
