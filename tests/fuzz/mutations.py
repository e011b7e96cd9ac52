"""Damage: bytes, words, numbers and values of a file replaced by what breaks readers, drawn from a `random.Random`."""

import json
import re
import struct
from random import Random

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
WORD = re.compile(rb"[\w./:-]+")
NUMBERS = [
    "1e999",
    "-1e999",
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1",
    "-0.0",
    "1e-320",
    "1e308",
    "-1e308",
    "1e200",
    "9" * 30,
]
NUMBERS += [
    "9" * 400,
    "9" * 5000,
    "4294967296",
    "18446744073709551615",
    "1000000000",
    "1000000000000",
    "2147483648",
    "0.5",
]
NUMBERS += ["1_0", "\u00b2", "\u0663", "0x10", "1e", "+", "", "1.5", "65536", "1" + "0" * 18]
NAMES = ["../secret.png", "../../etc/passwd", "/etc/hostname", "/etc/passwd", "images/../../secret.png", "..", ".", "~"]
NAMES += [
    "..\\secret.png",
    "a\0b.png",
    "x" * 300,
    "x/" * 3000,
    "/dev/zero",
    "/dev/stdin",
    "images",
    "\udcff.png",
    "\ud800",
]
NAMES += ["C:\\secret.png", "file:///etc/passwd", "../secret.npy", "../secret.ply", "|touch pwned", "$(touch pwned)"]
TEXTS = [
    "null",
    "true",
    "[]",
    "{}",
    '""',
    "[[[[",
    "NaN",
    "#",
    "\n",
    "\r",
    "\t",
    "=",
    '"',
    "\\",
    "[" * 100_000,
    "{" * 3000,
]
VALUES = [
    None,
    True,
    False,
    [],
    {},
    "",
    [[]],
    [[], [[]]],
    [{}],
    "x",
    0,
    -1,
    1,
    10**12,
    10**30,
    10**400,
    1e308,
    -1e308,
    1e-320,
]
VALUES += [
    float("nan"),
    float("inf"),
    2**31,
    2**63,
    2**64,
    0.5,
    [1, "a"],
    ["a"],
    {"a": {}},
    [None],
    [10**400],
    [[10**400]],
]
PACKED = [struct.pack("<q", n) for n in (0, 1, -1, 2**31, 2**32, 2**62, 10**12, 10**9)]
PACKED += [struct.pack(">q", n) for n in (1, 2**31, 10**12)] + [
    struct.pack("<d", x) for x in (float("nan"), 1e308, 0.0)
]
PACKED += [struct.pack("<I", n) for n in (0, 1, 2**31, 2**32 - 1, 10**9)] + [
    struct.pack(">I", n) for n in (0, 1, 2**31 - 1, 60000)
]
LARGEST = 1 << 20


def mutate(random: Random, content: bytes) -> bytes:
    """Content with one to three damages, at most a megabyte."""
    for _ in range(random.randint(1, 3)):
        content = random.choice(_kinds(content))(random, content)[:LARGEST]
    return content


def _kinds(content: bytes) -> list:
    if content.lstrip()[:1] in (b"{", b"["):
        return [json_value, json_value, json_value, number, word, cut, changed, insertion]
    if content[8:9] == b"{":
        return [header, header, header, changed, packed, cut, removal]
    if b"\0" in content:
        return [changed, changed, packed, packed, packed, cut, insertion, removal, splice, repetition]
    return [number, number, number, word, word, changed, cut, insertion, removal, splice, repetition]


def changed(random: Random, content: bytes) -> bytes:
    """Some bytes replaced."""
    out = bytearray(content)
    for _ in range(random.randint(1, 4)):
        if out:
            out[random.randrange(len(out))] = random.randrange(256)
    return bytes(out)


def cut(random: Random, content: bytes) -> bytes:
    """The end cut off."""
    return content[: random.randint(0, len(content))]


def _range(random: Random, content: bytes) -> tuple[int, int]:
    start = random.randint(0, len(content))
    return start, min(len(content), start + random.choice((1, 4, 8, 64, 1024)))


def removal(random: Random, content: bytes) -> bytes:
    """A piece taken out."""
    start, stop = _range(random, content)
    return content[:start] + content[stop:]


def splice(random: Random, content: bytes) -> bytes:
    """A piece copied over another place."""
    start, stop = _range(random, content)
    place = random.randint(0, len(content))
    return content[:place] + content[start:stop] + content[place + stop - start :]


def repetition(random: Random, content: bytes) -> bytes:
    """A piece many times."""
    start, stop = _range(random, content)
    return content[:start] + content[start:stop] * random.choice((2, 3, 100, 2000)) + content[stop:]


def insertion(random: Random, content: bytes) -> bytes:
    """Something put in."""
    place = random.randint(0, len(content))
    what = random.choice((*TEXTS, *NUMBERS, *NAMES)).encode("utf-8", "surrogatepass")
    return content[:place] + what + content[place:]


def packed(random: Random, content: bytes) -> bytes:
    """A binary number replaced by an extreme one, mostly in the head."""
    end = len(content) if random.random() < 0.5 else min(len(content), 128)
    place, value = random.randint(0, end), random.choice(PACKED)
    return content[:place] + value + content[place + len(value) :]


def _replaced(random: Random, content: bytes, pattern: re.Pattern, choices: list[str]) -> bytes:
    matches = list(pattern.finditer(content[:LARGEST]))
    if not matches:
        return content
    match = random.choice(matches)
    return content[: match.start()] + random.choice(choices).encode("utf-8", "surrogatepass") + content[match.end() :]


def number(random: Random, content: bytes) -> bytes:
    """A number of a text replaced by an extreme one."""
    return _replaced(random, content, NUMBER, NUMBERS)


def word(random: Random, content: bytes) -> bytes:
    """A word of a text replaced by a name that leads elsewhere, or by another kind of value."""
    return _replaced(random, content, WORD, [*NAMES, *TEXTS])


def header(random: Random, content: bytes) -> bytes:
    """A value in the header of a safetensors file, or in the configuration inside, with the length set right."""
    length = int.from_bytes(content[:8], "little")
    text, rest = content[8 : 8 + length], content[8 + length :]
    try:
        values = json.loads(text)
        if random.random() < 0.5:
            inner = json_value(random, values["__metadata__"]["raytrans"].encode())
            values["__metadata__"]["raytrans"] = inner.decode()
            text = json.dumps(values).encode()
        else:
            text = json_value(random, text)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return packed(random, content)
    return len(text).to_bytes(8, "little") + text + rest


def json_value(random: Random, content: bytes) -> bytes:
    """A value of a JSON text replaced, removed, repeated or nested; a text that is none stays as it is."""
    try:
        root = [json.loads(content)]
    except (ValueError, RecursionError):
        return number(random, content)
    places: list[tuple] = []
    pending: list = [root]
    while pending and len(places) < 2000:
        holder = pending.pop()
        for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
            places.append((holder, key))
            if isinstance(holder[key], (dict, list)):
                pending.append(holder[key])
    holder, key = random.choice(places)
    kind = random.randrange(8)
    if kind == 0 and holder is not root:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[random.choice(NAMES)] = holder.pop(key)
    elif kind == 2:
        holder[key] = [holder[key]] * min(random.choice((2, 3, 1000)), 1 + LARGEST // len(content))
    elif kind == 3:
        holder[key] = random.choice(NAMES)
    else:
        holder[key] = random.choice(VALUES)
    try:
        return json.dumps(root[0]).encode()
    except (ValueError, RecursionError):  # numbers of too many digits, nested too deep
        return content
