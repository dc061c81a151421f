"""Spellings of URIs that have led, or may lead, some program to another host than the one that was checked.

Collected by kind: where RFC 3986 and the URL Standard differ, what lists for testing against server-side request forgery hold, what JSON, HTML,
Markdown and form encodings add. They are tried against LIST. `good` hosts are on it, `evil` ones are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address
from typing import Final

LIST: Final = [
    "good.example",
    "*.cdn.example",
    "192.0.2.7",
    "198.51.100.0/24",
    "2001:db8:7::/48",
    "http://plain.example:8080",
    "bücher.example",
]


@dataclass(frozen=True, slots=True)
class Trick:
    """One spelling.

    text:      as a caller writes it.
    host:      the host that the URL Standard finds in it; None where it finds none, or cannot read it.
    allowed:   whether LIST lets it pass. Nothing that is spelled in two ways is let pass, whatever its host.
    in_text:   whether it counts as a URI inside other text. A name alone or a scheme without a place does not.
    in_prose:  whether it does even between blanks, with nothing around it that says where it begins and ends.
    """

    text: str
    host: str | None
    allowed: bool = False
    in_text: bool = True
    in_prose: bool = True


PLAIN = {
    "https://good.example": "good.example",
    "https://good.example/": "good.example",
    "HTTPS://GOOD.EXAMPLE/": "good.example",
    "hTtPs://Good.Example./a": "good.example",
    "http://good.example:8080/a?b=c#d": "good.example",
    "https://good.example/evil.example": "good.example",
    "https://good.example/@evil.example": "good.example",
    "https://good.example/?u=evil.example": "good.example",
    "https://good.example/a@evil.example/b": "good.example",
    "https://good.example/;@evil.example": "good.example",
    "https://good.example:443/": "good.example",
    "https://good.example:00443/": "good.example",
    "wss://good.example/socket": "good.example",
    "https://a.cdn.example/": "a.cdn.example",
    "https://a.b.c.cdn.example/x": "a.b.c.cdn.example",
    "https://192.0.2.7/": "192.0.2.7",
    "https://192.0.2.7:8443/x": "192.0.2.7",
    "https://198.51.100.1/": "198.51.100.1",
    "https://198.51.100.255/": "198.51.100.255",
    "https://[2001:db8:7::1]/": "2001:db8:7::1",
    "https://[2001:DB8:0007:0::1]:443/": "2001:db8:7::1",
    "https://[::ffff:192.0.2.7]/": "::ffff:c000:207",
    "https://[::ffff:c000:207]/": "::ffff:c000:207",
    "http://plain.example:8080/x": "plain.example",
    "https://xn--bcher-kva.example/": "xn--bcher-kva.example",
    "https://bücher.example/": "xn--bcher-kva.example",
    "https://good.example/a%20b": "good.example",
    "https://good.example/a/../b": "good.example",
    "https://good.example/%2e%2e/b": "good.example",
    "https://good.example/a//b": "good.example",
}

OTHER_HOSTS = {
    "https://evil.example/": "evil.example",
    "https://good.example.evil.example/": "good.example.evil.example",
    "https://evilgood.example/": "evilgood.example",
    "https://good-example/": "good-example",
    "https://good.example-evil.example/": "good.example-evil.example",
    "https://goodexample/": "goodexample",
    "https://example/": "example",
    "https://cdn.example/": "cdn.example",
    "https://evilcdn.example/": "evilcdn.example",
    "https://a.cdn.example.evil.example/": "a.cdn.example.evil.example",
    "https://evil.example/good.example": "evil.example",
    "https://evil.example/?https://good.example/": "evil.example",
    "https://evil.example/#https://good.example/": "evil.example",
    "https://evil.example#good.example": "evil.example",
    "https://evil.example?good.example": "evil.example",
    "https://evil.example:443/": "evil.example",
    "https://evil.example:80/": "evil.example",
    "https://evil.example./": "evil.example",
    "https://good.example../": "good.example.",
    "https://good..example/": "good..example",
    "https://.good.example/": ".good.example",
    "https://plain.example:8080/": "plain.example",
    "http://plain.example/": "plain.example",
    "http://plain.example:80/": "plain.example",
    "ws://plain.example:8080/": "plain.example",
    "https://192.0.2.8/": "192.0.2.8",
    "https://198.51.101.0/": "198.51.101.0",
    "https://[2001:db8:8::1]/": "2001:db8:8::1",
    "https://[::ffff:192.0.2.8]/": "::ffff:c000:208",
    "https://[::192.0.2.7]/": "::c000:207",
    "https://[64:ff9b::192.0.2.7]/": "64:ff9b::c000:207",
    "https://[2002:c000:207::]/": "2002:c000:207::",
    "https://xn--good-example/": "xn--good-example",
    "https://g00d.example/": "g00d.example",
    "https://go\u043ed.example/": "xn--god-ted.example",
    "https://\u0261ood.example/": "xn--ood-8tb.example",
    "https://goo\u217e.evil.example/": "good.evil.example",
    "https://\u0262ood.example/": "xn--ood-dub.example",
    "https://gооd.example/": "xn--gd-fmca.example",
    "https://good.ex\u0430mple/": "good.xn--exmple-4nf",
    "https://good.examp1e/": "good.examp1e",
    "https://bucher.example/": "bucher.example",
    "https://b\u0075\u0308cher.evil.example/": "xn--bcher-kva.evil.example",
    "https://localhost/": "localhost",
    "https://localhost.localdomain/": "localhost.localdomain",
    "https://localtest.me/": "localtest.me",
    "https://127.0.0.1.nip.io/": "127.0.0.1.nip.io",
    "https://192.0.2.7.evil.example/": "192.0.2.7.evil.example",
    "https://metadata.google.internal/": "metadata.google.internal",
    "http://169.254.169.254/metadata/instance": "169.254.169.254",
    "http://100.100.100.200/latest": "100.100.100.200",
    "http://192.0.0.192/": "192.0.0.192",
    "http://[fd00:ec2::254]/": "fd00:ec2::254",
    "http://[::1]/": "::1",
    "http://[::]/": "::",
    "http://[0:0:0:0:0:0:0:1]/": "::1",
    "http://[0000::0001]:80/": "::1",
    "http://[fe80::1]/": "fe80::1",
    "http://[::ffff:127.0.0.1]/": "::ffff:7f00:1",
    "http://[::ffff:7f00:1]/": "::ffff:7f00:1",
    "http://[::ffff:a9fe:a9fe]/": "::ffff:a9fe:a9fe",
    "http://[::127.0.0.1]/": "::7f00:1",
    "http://[0:0:0:0:0:ffff:169.254.169.254]/": "::ffff:a9fe:a9fe",
    "http://[64:ff9b::127.0.0.1]/": "64:ff9b::7f00:1",
    "http://[ff02::1]/": "ff02::1",
    "http://0/": "0.0.0.0",
    "http://0.0.0.0/": "0.0.0.0",
    "http://255.255.255.255/": "255.255.255.255",
    "http://224.0.0.1/": "224.0.0.1",
}

SCHEMES = {
    "ftp://good.example/": "good.example",
    "gopher://good.example:70/_x": "good.example",
    "dict://good.example:2628/d": "good.example",
    "ldap://good.example/": "good.example",
    "tftp://good.example/": "good.example",
    "sftp://good.example/": "good.example",
    "ssh://good.example/": "good.example",
    "smb://good.example/share": "good.example",
    "nfs://good.example/": "good.example",
    "redis://good.example:6379/": "good.example",
    "s3://good.example/key": "good.example",
    "git://good.example/x": "good.example",
    "git+ssh://good.example/x": "good.example",
    "rtsp://good.example/": "good.example",
    "netdoc://good.example/": "good.example",
    "view-source:https://evil.example/": None,
    "jar:https://evil.example!/x": None,
    "blob:https://evil.example/1": None,
    "feed:https://evil.example/": None,
    "url:https://evil.example/": None,
    "filesystem:https://evil.example/temporary/x": None,
    "file://good.example/etc/passwd": "good.example",
    "file:///etc/passwd": None,
    "file:/etc/passwd": None,
    "FILE:///C:/Windows/win.ini": None,
    "file://localhost/etc/passwd": None,
}

NO_PLACE = [
    "javascript:alert(1)", "mailto:jo@evil.example", "tel:1", "about:blank", "urn:isbn:1", "", " ", "https", "https:",
    "https://", "http:///", "/", "//", "\\\\",
    "evil.example", "evil.example/x", "www.evil.example", "/x", "./x", "../x", "?x", "#x", "a b", "*", "good.example",
    "good.example:443", "@evil.example", "192.0.2.7", "[::1]",
]  # fmt: skip

CREDENTIALS = [
    "{s}good.example@evil.example/", "{s}good.example:443@evil.example/", "{s}good.example%40@evil.example/", "{s}good.example%2f@evil.example/",
    "{s}good.example%23@evil.example/", "{s}good.example%3f@evil.example/", "{s}good.example:@evil.example/", "{s}:good.example@evil.example/",
    "{s}a:b@good.example@evil.example/", "{s}good.example&@evil.example/", "{s}good.example=@evil.example/", "{s}good.example;@evil.example/",
    "{s}good.example,@evil.example/", "{s}good.example!@evil.example/", "{s}good.example$@evil.example/", "{s}good.example'@evil.example/",
    "{s}good.example(@evil.example/", "{s}good.example)@evil.example/", "{s}good.example*@evil.example/", "{s}good.example+@evil.example/",
    "{s}good.example~@evil.example/", "{s}good.example_@evil.example/", "{s}good.example%00@evil.example/", "{s}good.example%09@evil.example/",
    "{s}good.example%0d%0a@evil.example/", "{s}[good.example]@evil.example/", "{s}good.example|@evil.example/", "{s}good.example^@evil.example/",
    "{s}good.example{{@evil.example/", "{s}user@evil.example/", "{s}user:pass@evil.example:8443/",
]  # fmt: skip

SLASHES = [
    ":",
    ":/",
    ":///",
    ":////",
    ":\\",
    ":\\\\",
    ":/\\",
    ":\\/",
    "://\\",
    ":\\//",
    ":/\\/",
    ":\\\\\\\\",
    "://///////",
]

AUTHORITY_ENDS = ["/", "?", "#", "\\", ":443/", ":443?", ":443#", ":443\\", "/\\", "\\/", "/?", "/#", "?/", "#/"]

IDNA = {
    "\uff47": "g", "\u24d6": "g", "\U0001d420": "g", "\U0001d454": "g", "\u210a": "g", "\u1d4d": "g", "\U0001d5c0": "g",
    "\U0001d6d0": None, "\uff27": "g",
    "\u24bc": "g", "\U0001f136": "g", "\U0001d40e": "o", "\u2092": "o", "\u00ba": "o", "\u1d52": "o", "\uff4f": "o",
    "\u24de": "o", "\u2134": "o",
}  # fmt: skip

FULL_STOPS = ["\u3002", "\uff0e", "\uff61"]
VANISHING = ["\u00ad", "\u200b", "\u2060", "\ufeff", "\ufe0f", "\u034f", "\u180b"]
CONTROLS = [chr(number) for number in range(0x21)] + ["\x7f"]
PUNCTUATION = "!$&'()*+,;=_~`|^{}[]<>\"%"


def addresses(number: int) -> Iterator[str]:
    """Yield spellings of an IPv4 address that the URL Standard reads, other than its usual form."""
    a, b, c, d = IPv4Address(number).packed
    low, middle = number & 0xFFFF, number & 0xFFFFFF
    yield from (
        f"{number}",
        f"{number:#x}",
        f"{number:#X}".replace("0X", "0X"),
        f"0{number:o}",
        f"{number:#010x}",
        f"0x{number:016x}",
    )
    yield from (
        f"{a}.{middle}",
        f"{a}.{b}.{low}",
        f"{a:#x}.{middle:#x}",
        f"0{a:o}.{b}.{low:#x}",
        f"{a:#x}.{b:#x}.{low}",
    )
    yield from (
        f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"{a:#x}.{b}.{c}.{d}",
        f"0{a:o}.{b}.{c}.{d}",
        f"{a}.{b}.{c}.{d:#x}",
    )
    yield from (
        f"000{a:o}.000{b:o}.000{c:o}.000{d:o}",
        f"{a:#04x}.0{b:o}.{c}.{d:#x}",
        f"{a}.{b}.{c}.0{d:o}",
        f"%{ord(str(a)[0]):x}{str(a)[1:]}.{b}.{c}.{d}",
    )
    yield f"{a}\u3002{b}\uff0e{c}\uff61{d}"
    yield "".join(chr(ord(sign) + 0xFEE0) if sign.isdigit() else sign for sign in f"{a}.{b}.{c}.{d}")
    yield "".join(chr(0x245F + int(sign)) if sign in "123456789" else sign for sign in f"{a}.{b}.{c}.{d}")
    yield f"{a}%2e{b}%2E{c}.{d}"


@cache
def tricks() -> tuple[Trick, ...]:
    """Return all of them, each text once."""
    found = list(_all())
    seen: dict[str, Trick] = {}
    for one in found:
        seen.setdefault(one.text, one)
    return tuple(seen.values())


def _all() -> Iterator[Trick]:
    yield from _as_listed()
    yield from _separators()
    yield from _hosts()
    yield from _broken()
    yield from _signs()


def _as_listed() -> Iterator[Trick]:
    yield from (Trick(text, host, allowed=True) for text, host in PLAIN.items())
    yield from (Trick(text, host) for text, host in OTHER_HOSTS.items())
    yield from (Trick(text, host) for text, host in SCHEMES.items())
    yield from (Trick(text, None, in_text=False) for text in NO_PLACE)
    yield Trick("https://...", "..", in_text=False)
    yield Trick("http://{host}/", "{host}", in_text=False)
    yield Trick("https://@/", None, in_text=False)
    yield Trick("https://xn--/", "xn--")
    for template in CREDENTIALS:
        yield Trick(template.format(s="https://"), "evil.example")
        yield Trick(template.format(s="//"), None, in_text=True)


def _separators() -> Iterator[Trick]:
    for slashes in SLASHES:
        for scheme in ("https", "HTTP"):
            yield Trick(f"{scheme}{slashes}evil.example/x", "evil.example")
            yield Trick(f"{scheme}{slashes}good.example/x", "good.example")
    for end in AUTHORITY_ENDS:
        yield Trick(f"https://evil.example{end}good.example", "evil.example")
        yield Trick(
            f"https://evil.example{end}@good.example",
            "good.example" if end[0] == ":" and end[-1] not in "/?#\\" else "evil.example",
        )
    for end in ("\\", "\\/", ":443\\", "?", "#"):
        yield Trick(f"https://good.example{end}@evil.example/", "good.example")
    yield Trick("https://good.example\\.evil.example/", "good.example")
    for slashes in ("//", "///", "\\\\", "/\\", "\\/", "////", "/\\/"):
        yield Trick(f"{slashes}evil.example/x", None, in_prose="\\" not in slashes)
        yield Trick(f"{slashes}127.0.0.1/x", None, in_prose="\\" not in slashes)
    yield Trick("//good.example/x", None, allowed=False, in_text=False)


def _hosts() -> Iterator[Trick]:
    for number in (0x7F000001, 0xA9FEA9FE, 0x0A000001, 0xC0000207):
        for spelled in addresses(number):
            yield Trick(f"http://{spelled}/", str(IPv4Address(number)))
    for sign, letter in IDNA.items():
        host = {"g": "good.example", "o": "oood.example"}.get(letter or "", "xn--ood-8yc.example")
        yield Trick(f"https://{sign}ood.example/", host)
    for stop in FULL_STOPS:
        yield Trick(f"https://good{stop}example/", "good.example")
        yield Trick(f"https://good.example{stop}evil.example/", "good.example.evil.example")
        yield Trick(f"https://evil{stop}example/", "evil.example")
    for sign in VANISHING:
        yield Trick(f"https://go{sign}od.example/", "good.example")
        yield Trick(f"https://ev{sign}il.example/", "evil.example")
    for text, host in {
        "https://fa\u00df.evil.example/": "xn--fa-hia.evil.example", "https://g%6fod.example/": "good.example",
        "https://%67%6f%6f%64.example/": "good.example",
        "https://good%2eexample/": "good.example", "https://good.example%2eevil.example/": "good.example.evil.example",
        "https://%65vil.example/": "evil.example", "https://%ef%bd%85vil.example/": "evil.example", "https://good.example%E3%80%82evil.example/":
        "good.example.evil.example", "https://good.example%2fevil.example/": None, "https://good.example%00evil.example/": None,
        "https://good.example%20evil.example/": None, "https://good.example%5cevil.example/": None, "https://good.example%40evil.example/": None,
        "https://good.example%23.evil.example/": None, "https://good.example%3f.evil.example/": None,
        "https://good.example%3a443.evil.example/": None,
        "https://good.example%zz/": None, "https://good.example%/": None,
    }.items():  # fmt: skip
        yield Trick(text, host)


def _broken() -> Iterator[Trick]:
    for text in (
        "https://good.example:443:80/", "https://good.example:99999/", "https://good.example:-1/", "https://good.example:a/",
        "https://[good.example]/",
        "https://[::1/", "https://::1/", "https://[::1%25lo]/", "https://[::1%lo]/", "https://[v1.x]/", "https://[1.2.3.4]/", "https://[::g]/",
        "https://1.2.3.4.5/", "https://256.0.0.1/", "https://0x100000000/", "https://4294967296/", "https://192.0.2.7.8/",
        "https://192.0.2.0x/x",
        "https://xn--a-ecp.ru:x/", "https://good.example:443@/", "https://user@/",
    ):  # fmt: skip
        yield Trick(text, "192.0.2.0" if text.endswith("0x/x") else None)
    for text in (
        "https://@evil.example/",
        "https://:@evil.example/",
        "https://evil.example:/",
        "https://@good.example/",
        "https://good.example:/",
    ):
        yield Trick(text, "good.example" if "good" in text else "evil.example")


def _signs() -> Iterator[Trick]:
    for sign in CONTROLS:
        dropped = sign in "\t\n\r"
        yield Trick(f"https://evil{sign}.example/", "evil.example" if dropped else None)
        host = "good.example.evil.example" if dropped else None
        yield Trick(
            f"https://good.example{sign}.evil.example/", host, in_text=sign not in " \x0b\x0c", in_prose=not dropped
        )
        yield Trick(f"{sign}https://evil.example/", "evil.example" if sign != "\x7f" else None)
        yield Trick(f"https://evil.example/{sign}x", "evil.example")
        if dropped:
            yield Trick(f"ht{sign}tps://evil.example/", "evil.example")
            yield Trick(f"https:{sign}//evil.example/", "evil.example")
            yield Trick(f"https:/{sign}/evil.example/", "evil.example")
            yield Trick(f"https://{sign}evil.example/", "evil.example", in_prose=False)
            yield Trick(f"https{sign}://evil.example/", "evil.example")
    for sign in PUNCTUATION:
        readable = sign not in "^|<>[]%"
        yield Trick(
            f"https://good.example{sign}.evil.example/",
            f"good.example{sign}.evil.example" if readable else None,
            in_text=sign not in '<>"`',
        )
        yield Trick(f"https://evil.example/{sign}good.example", "evil.example")
