"""Writes jinja.json: templates rendered by Jinja2 3.1.6, configured as in transformers.

    pip install jinja2==3.1.6 && python tests/model/text/jinja.py
"""

import json
from pathlib import Path

from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

EXPRESSIONS = r"""
[1, 'two', none, false, 2.0, [], {}]
{'a': [1, 'x'], 'b': none, 3: 'c'}
['it\'s', "say \"hi\"", 'both \' and "']
['line\nbreak', 'tab\t', 'back\\slash', 'é', '\u200b', '\x01']
messages
messages[1]|string
messages|map(attribute='role')|list
'<' ~ [1, 'a'] ~ '|' ~ none ~ '|' ~ {'k': 'v'} ~ '>'
[[1, 'a'], none, true]|join(', ')
'%s is %d, %05.1f, %x %%' % ('x', 7, 2.25, 255)
'%s' % ['a', 1]
'%s' % none
'%(a)s-%(b)d' % {'a': 'x', 'b': 3}
17 % 5
-7 % 3
7 % -3
7.5 % 2
-7 // 2
7 // -2
7.0 // 2
2 ** 10
2 ** -2
2.5 ** 2
1e16
123456789012345.0
0.0001
0.00001
1.5e300
-0.0
1 / 2
3 / 1
'x-prefix'.removeprefix('x-') ~ 'a.txt'.removesuffix('.txt')
'k=v=w'.partition('=')
'none here'.partition('=')
'k=v=w'.rpartition('=')
' a b  c '.rsplit(none, 1)
'a/b/c'.rsplit('/', 1)
'a/b/c'.rsplit('/')
'hello'.index('l') ~ 'hello'.rindex('l') ~ 'hello'.find('z')
'-7'.zfill(4) ~ '12'.zfill(2)
'ab'.center(5, '*') ~ 'abc'.center(6, '*') ~ 'a'.ljust(3, '.') ~ 'a'.rjust(3)
'aBc'.swapcase() ~ "they're here".title() ~ ' \t'.isspace()
"they're o-clock (now)"|title
'x' is sequence ~ [] is sequence ~ {} is sequence ~ 3 is sequence ~ none is sequence
'x' is iterable ~ none is iterable ~ 1 is iterable ~ {} is iterable
true is number ~ 1.5 is number ~ 'x' is number
12 is divisibleby 4 ~ 12 is divisibleby 5
'12abc'|int ~ '7.9'|int ~ ' 42 '|int ~ 'x'|int(5) ~ 3.99|int ~ true|int
'x'|float ~ '1.5'|float ~ 2|float
0.5|round ~ 1.5|round ~ 2.675|round(2) ~ 2.3|round(method='ceil') ~ 2.7|round(0, 'floor') ~ 3|round
'one two three'|wordcount
'one two three four'|truncate(11) ~ '|' ~ 'one two three four'|truncate(11, true, leeway=0)
[1, 2.5, 3]|sum ~ [{'n': 1}, {'n': 2}]|sum(attribute='n') ~ [[1], [2]]|sum(start=[0])
none and 1
0 or none
'' or 'b' and 'c'
not none and [] == []
{'b': 1, 'a': 2}.items()|list
{'b': 1, 'a': 2}|dictsort
(1, 'a')
(1, (2, none))
()
'b' in ('a', 'b') and ('x') == 'x'
{'a': 1}.get('z', (1, 2))
"""

BLOCKS = [
    "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\nc",
    "a\rb",
    "{{ 'x\r\ny'|length }}",
    "{% raw %}\n{{ x }}\n{% endraw %}\nend",
    "{%- raw -%}\n {{ x }}{% endraw %}",
    "{% for key, value in {'a': 1, 'b': 2}.items() %}{{ key }}={{ value }};{% endfor %}",
    "{% for (a, b) in [(1, 2), (3, 4)] %}{{ a + b }},{% endfor %}",
    "{% set a, b = 1, 2 %}{{ (a, b) }}{% set (c, d) = (3, 4) %}{{ c }}{{ d }}",
    "{% set c = cycler('odd', 'even') %}{% for m in messages %}{{ c.next() }} {% endfor %}",
    "{% set comma = joiner(', ') %}{% for m in messages %}{{ comma() }}{{ m.role }}{% endfor %}",
    "{% macro f(x, y=(1, 2)) %}{{ x }}{{ y }}{% endmacro %}{{ f('a') }}{{ f('b', 3) }}",
    "{{ tools is none }}{{ documents is none }}{{ tools }}{{ nobody is defined }}[{{ nobody }}]",
]

MESSAGES = [
    {"role": "user", "content": "Say 'hi'"},
    {"role": "assistant", "content": "hi\n"},
    {"role": "user", "content": "Größe?"},
]


def main():
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    templates = ["{{ " + line + " }}" for line in EXPRESSIONS.strip().split("\n")] + BLOCKS
    cases = []
    for template in templates:
        rendered = environment.from_string(template).render(
            messages=MESSAGES, add_generation_prompt=True, tools=None, documents=None
        )
        cases.append({"template": template, "expected": rendered})
    file = {"messages": MESSAGES, "cases": cases}
    Path(__file__).with_name("jinja.json").write_text(json.dumps(file, indent=1) + "\n")


main()
