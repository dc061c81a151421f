"""Translator's operations: text at the root (api-version in the query) and under `/translator/text/{version}`, documents.

Source: contracts, data-plane sections 3 and 4.2.
"""

from __future__ import annotations

from stockade.kernel.operation import MiB, Operation, UriField

_HEADERS = ("x-clienttraceid", "accept-language")
_SYNC_BYTES = 12 * MiB
_BATCH = (
    UriField("inputs[*].source.sourceUrl"),
    UriField("inputs[*].targets[*].targetUrl", use="send"),
    UriField("inputs[*].targets[*].glossaries[*].glossaryUrl"),
)
_TEXT = {
    "translate": ("Text_Translate", "translate"),
    "transliterate": ("Text_Transliterate", "transliterate"),
    "detect": ("Text_Detect", "detect"),
    "breaksentence": ("Text_BreakSentence", "breaksentence"),
    "dictionary/lookup": ("Text_DictionaryLookup", "dictionary/lookup"),
    "dictionary/examples": ("Text_DictionaryExamples", "dictionary/examples"),
}


def _text(base: str, *, versioned: bool) -> tuple[Operation, ...]:
    return (
        *(
            Operation(
                name,
                "POST",
                f"{base}/{path}",
                f"TextTranslation/{action}/action",
                "json",
                _HEADERS,
                versioned=versioned,
            )
            for path, (name, action) in _TEXT.items()
        ),
        # The list of languages is public, on Azure too.
        Operation("Text_Languages", "GET", f"{base}/languages", None, headers=_HEADERS, versioned=versioned),
    )


def _batches(base: str, *, versioned: bool) -> tuple[Operation, ...]:
    batches, one = f"{base}/batches", f"{base}/batches/{{batch}}"
    action = "TextTranslation/document/batches"
    return (
        Operation("Documents_Start", "POST", batches, f"{action}/action", "json", versioned=versioned, uris=_BATCH),
        Operation("Documents_List", "GET", batches, f"{action}/read", versioned=versioned),
        Operation("Documents_Status", "GET", one, f"{action}/read", versioned=versioned),
        Operation("Documents_Cancel", "DELETE", one, f"{action}/delete", versioned=versioned),
        Operation("Documents_All", "GET", f"{one}/documents", f"{action}/read", versioned=versioned),
        Operation("Documents_One", "GET", f"{one}/documents/{{document}}", f"{action}/read", versioned=versioned),
    )


OPERATIONS: tuple[Operation, ...] = (
    *_text("", versioned=True),
    *_text("/translator/text/{version}", versioned=False),
    *_batches("/translator/document", versioned=True),
    *_batches("/translator/text/batch/{version}", versioned=False),
    Operation(
        "Documents_Translate", "POST", "/translator/document:translate", "TextTranslation/document/translate/action", "form",
        _HEADERS, _SYNC_BYTES,
    ),
    Operation("Documents_Formats", "GET", "/translator/document/formats", "TextTranslation/document/formats/read"),
)  # fmt: skip
