"""Tokenizer of the demo model: byte-level BPE with Huginn's special tokens, split and chat template."""
import random

from problems import LONGEST, MARKS, TASKS, WORD, draw, ordinal

SPLIT = (  # Huginn's; the demo's texts need only words, single digits, ordinals and marks
    "(\\\\n(?:e(?:wcommand|wenvironment|wline|wpage|wtheorem)|abla|e|eq|geq|gtr|leq|exists|ocite|oindent|olinebreak|onumber|opagebreak|"
    "ormalsize|ot(?!(?:ag\\b|\\b)))\\b|\\n+|\\\\n(?!\\b)|[ \\t]?(?:==|!=|<=|>=|<<|>>|\\*\\*|//|\\+=|-=|\\*=|/=|%=|&=|\\|=|\\^=|<<=|>>=|\\*\\*=|//=|"
    ":=|\\+\\+|--|[\\p{L}]+['\u2019\u02bc](?:\\p{L}+)\\b|\\\\[a-zA-Z]+|\\\\{|\\\\}|{|}|\\\\\\[|\\\\\\]|\\[|\\]|\\(|\\)|_+|"
    "\\||\\+|-|\\*|\u2014|-|=|[.,!?;()]|\\$\\$?|`+|\\\"+|\\#+|\\p{N}+(?:st|nd|rd|th)|"
    "\\p{N}{1,1}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|[\\p{P}\\p{S}]+)|\\s+|\\p{So})")
SPECIALS = ["begin_text", "end_text", "begin_header", "end_header", "end_turn", "pad", "fim_prefix", "fim_middle", "fim_suffix", "fim_pad", "...",
            "del"] + [f"c_{i}" for i in range(10)] + ["?", "&", "!", "-", "+", "interrupt", ">>-", "-<<", "->>", "<<-"]
CHAT = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set start_content = '<|begin_header|>' %}{% set end_content = "
    "message['content'] | trim  + '<|end_turn|>' %}{% if loop.index0 == 0 %}{% set start_content = bos_token + start_content %}{% endif %}{% if "
    "message['role'] == 'Huginn' or message['role'] == 'assistant' %}{% set start_content = start_content + 'Huginn<|end_header|>\n\n' %}{{ "
    "start_content }}{% generation %}{{ end_content }}{% endgeneration %}{% else %}{% set start_content = start_content + message['role'] + "
    "'<|end_header|>\n\n' %}{{ start_content }}{{ end_content }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|begin_header|>Huginn<|end_header|>\n\n' }}{% else %}{{ '<|end_text|>' }}{% endif %}")


def merges_of(words):
    """Return the merges of BPE, most frequent pair first, until every word is one piece."""
    split, merges = {word: list(word) for word in words}, []
    while any(len(parts) > 1 for parts in split.values()):
        count = {}
        for parts in split.values():
            for pair in zip(parts, parts[1:]):
                count[pair] = count.get(pair, 0) + 1
        best = min(count, key=lambda pair: (-count[pair], pair))
        merges.append(list(best))
        for word, parts in split.items():
            merged = []
            for part in parts:
                if merged and (merged[-1], part) == best:
                    merged[-1] += part
                else:
                    merged.append(part)
            split[word] = merged
    return merges


class Tokenizer:
    """Tokenizer with one token for each word of the problems, so that encoding looks up whole words."""

    def __init__(self):
        rng, words = random.Random(0), {ordinal(n) for n in range(1, MARKS + 1)}
        for task in TASKS:
            for _ in range(100):
                words.update(token for token, _ in draw(rng, task, LONGEST, False))
        words.update([" user", " system", " Huginn", " and", " of", " to", " a", " in", " who", " where", " what", " cups", " marks"])
        self.merges = merges_of(word.replace(" ", "Ġ") for word in sorted(words))
        # GPT-2's printable character for every byte, in order of character; then the merged pieces.
        pieces = [chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 324))] + ["".join(pair) for pair in self.merges]
        self.vocab = {piece: i for i, piece in enumerate(pieces)}
        self.size = -(-(len(pieces) + len(SPECIALS)) // 64) * 64
        names = [f"unused_{i}" for i in range(self.size - len(SPECIALS) - len(pieces))] + SPECIALS
        self.added = {f"<|{name}|>": i for i, name in enumerate(names, len(pieces))}
        self.bos, self.eos, self.pad = (self.added[f"<|{name}|>"] for name in ("begin_text", "end_text", "pad"))

    def id(self, word):
        return self.vocab[word.replace(" ", "Ġ")]

    def encode(self, prompt):
        return [self.bos] + [self.id(word) for word in WORD.findall(prompt)]

    def files(self, longest):
        """Return {name: content} of the files for Hugging Face's libraries; no text is longer than `longest` tokens."""
        first, second = ({"Sequence": {"id": name, "type_id": i}} for i, name in enumerate("AB"))
        begin = {"SpecialToken": {"id": "<|begin_text|>", "type_id": 0}}
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        isolated = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
        special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        names = {"bos_token": "<|begin_text|>", "eos_token": "<|end_text|>", "pad_token": "<|pad|>"}
        return {
            "tokenizer.json": {
                "version": "1.0", "truncation": None, "padding": None,
                "added_tokens": [{"id": i, "content": content} | special for content, i in self.added.items()],
                "normalizer": None, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [isolated, level]},
                "post_processor": {
                    "type": "TemplateProcessing", "single": [begin, first], "pair": [first, second],
                    "special_tokens": {"<|begin_text|>": {"id": "<|begin_text|>", "ids": [self.bos], "tokens": ["<|begin_text|>"]}}},
                "decoder": level | {"add_prefix_space": True, "use_regex": True},
                "model": {
                    "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                    "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": self.vocab, "merges": self.merges}},
            "special_tokens_map.json": names,
            "tokenizer_config.json": {
                "added_tokens_decoder": {str(i): dict(sorted((special | {"content": content}).items())) for content, i in self.added.items()},
                **names, "chat_template": CHAT, "clean_up_tokenization_spaces": False, "model_max_length": longest,
                "tokenizer_class": "PreTrainedTokenizerFast"}}
