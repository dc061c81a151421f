"""What counts as a URI in a string, and what does not."""

from __future__ import annotations

import pytest

from stockade.policy.uris.scan import scan_text

FOUND = {
    # Schemes and slashes.
    "see https://a.example/x, and": "https://a.example/x",
    "(https://a.example).": "https://a.example",
    "HTTPS://A.example": "HTTPS://A.example",
    "1.https://a.example": "https://a.example",
    "https:a.example/x": "https:a.example/x",
    "https:/a.example": "https:/a.example",
    "https:////a.example": "https:////a.example",
    "https:\\\\a.example": "https:\\\\a.example",
    "https:/\\a.example": "https:/\\a.example",
    "ftp:a.example": "ftp:a.example",
    "s3://bucket/key": "s3://bucket/key",
    "file:///etc/passwd": "file:///etc/passwd",
    "git+ssh://git@a.example/x": "git+ssh://git@a.example/x",
    # Without a scheme.
    "//a.example/x": "//a.example/x",
    "  //a.example": "//a.example",
    "go //a.example/x now": "//a.example/x",
    '<img src="//a.example/x.png">': "//a.example/x.png",
    "<img src=//a.example/x.png>": "//a.example/x.png",
    "![x](//a.example/x)": "//a.example/x",
    "url('//a.example/x')": "//a.example/x",
    "\\\\a.example\\share": "\\\\a.example",
    "/\\a.example/x": "/\\a.example/x",
    # Addresses.
    "https://2130706433/": "https://2130706433/",
    "https:2130706433": "https:2130706433",
    "https://0x7f.1/": "https://0x7f.1/",
    "https://[::1]:80/x": "https://[::1]:80/x",
    "http://localhost:8080/x": "http://localhost:8080/x",
    # User information.
    "https://good.example@a.example": "https://good.example@a.example",
    # Encoded.
    "https%3A%2F%2Fa.example%2Fx": "https://a.example/x",
    "https%253a%252f%252fa.example": "https://a.example",
    "https%25253a%25252f%25252fa.example": "https://a.example",
    "&#104;ttps&#58;&#47;&#x2f;a.example/": "https://a.example/",
    "https&colon;&sol;&sol;a.example/": "https://a.example/",
    "https&amp;#58;&amp;#47;&amp;#47;a.example/": "https://a.example/",
    "\\u0068ttps:\\u002f\\u002fa.example": "https://a.example",
    "https:\\/\\/a.example": "https://a.example",
    "https\uff1a\uff0f\uff0fa.example": "https://a.example",
    "https://good.example/?to=https%3A%2F%2Fa.example": "https://a.example",
    "https://good.example/https://a.example": "https://a.example",
    # Broken up.
    "ht\ntps://a.example": "https://a.example",
    "https:\n//a.example": "https://a.example",
    "https:\n/\n/a.example": "https://a.example",
    "htt\nps:a.example": "https:a.example",
    "\x01https://a\t.example\x02": "https://a.example",
    '<a href="https://good.example\n.a.example/">': "https://good.example.a.example/",
    '<a href="https://good.example&#9;.a.example/">': "https://good.example.a.example/",
    # Hosts that go on.
    "https://good.example,a.example/": "https://good.example,a.example/",
    "https://good.example'.a.example/": "https://good.example'.a.example/",
    "https://good.example\\.a.example/": "https://good.example\\.a.example/",
    "https://good.example。a.example/": "https://good.example。a.example/",
    "https://{x}.a.example/": "https://{x}.a.example/",
    "https://good.example%2ea.example/": "https://good.example%2ea.example/",
    # Markup.
    "[a]: https://a.example 'title'": "https://a.example",
    "<https://a.example>": "https://a.example",
    "**https://a.example**": "https://a.example",
    "[x](https://a.example/x(y))": "https://a.example/x(y",
    'https://a.example\\n"': "https://a.example",
    "https://a.example，谢谢": "https://a.example",
    "https://a.example的": "https://a.example",
}  # fmt: skip

NOT_FOUND = [
    "// a comment", "//a comment", "x = 1  //assign it", "//console.log('x')", "//foo.bar();", "a//b", "7//2", "and/or", "either // or",
    "path//to//file", "C:\\path\\x", "C:/path", "c://x", "file.py:12", "http", "http:", "http://", "https://...", "https://\u2026",
    "http://{host}/x", "https://${HOST}:8080/", "http://%s/", "http://<host>/", "http://$HOST", '"http://" + host', "sqlite:///file.db",
    "http:8080", "https:true", "a.example/x", "www.a.example", "user@a.example", "12:30", "key: value", "std::vector", "::1", "a ? b : c",
    "10:/x", "\\d+\\.\\d+", "{% if x %}", "50%", "R&D", "&lt;b&gt;", "javascript:alert(1)", "mailto:a@a.example", "urn:isbn:1", "data:,x",
    "text/html; charset=utf-8", "10/2/2026", "s/a/b/g", "//div[@id='x']/a", "#//#",
]  # fmt: skip


@pytest.mark.parametrize(("text", "uri"), FOUND.items())
def test_uri_in_text_is_found(text: str, uri: str) -> None:
    assert uri in scan_text(text)


@pytest.mark.parametrize("text", NOT_FOUND)
@pytest.mark.parametrize("around", ["{}", "so: {} and", 'say "{}"', "\n{}\n"])
def test_what_is_no_uri_is_not_found(text: str, around: str) -> None:
    assert scan_text(around.format(text) if "{}" in around else text) == []
