"""`properties.stockade.dlp.uriRules`: read strictly, kept, and compiled into the account's loss prevention."""

from __future__ import annotations

from typing import Any

import pytest

from stockade.policy.uris.found import FoundUri
from stockade.policy.uris.loss_prevention import LossPrevention
from tests.factories.arm import ACCOUNTS, Arm, account_body

A1 = f"{ACCOUNTS}/a1"
RULE = {
    "name": "images only",
    "hosts": ["*.images.example"],
    "paths": ["/public/**", "/thumb/*.png"],
    "allowedParameters": ["w"],
    "maxQueryLength": 40,
    "maxQueryEntropy": 4.5,
    "maxPathLength": 200,
    "refuseSecrets": True,
    "refuseEmails": True,
    "reason": "ask the image team",
}


def body(**dlp: Any) -> Any:
    restricted = {"restrictOutboundNetworkAccess": True, "allowedFqdnList": ["*.images.example", "other.example"]}
    return account_body(properties={"customSubDomainName": "a1", "stockade": {"dlp": dlp}, **restricted})


def outbound(arm: Arm) -> LossPrevention:
    found = arm.snapshot().only("account", A1.lower()).outbound
    assert isinstance(found, LossPrevention)
    return found


def test_rules_are_shown_as_written_and_in_force(arm: Arm) -> None:
    shown = arm.ok("PUT", A1, body(uriRules=[RULE], refuseSecrets=True))
    assert shown["properties"]["stockade"]["dlp"] == {"uriRules": [RULE], "refuseSecrets": True}
    found = outbound(arm)
    assert found.refuse(FoundUri("x", "https://a.images.example/public/a.png?w=1")) is None
    refused = found.refuse(FoundUri("x", "https://a.images.example/private/s3cret"))
    assert refused is not None
    assert (refused.host, refused.reason) == ("a.images.example", "rule")
    assert refused.detail == "its path matches no allowed pattern, by the rule 'images only' (ask the image team)"
    assert found.refuse(FoundUri("x", "https://other.example/anything")) is None
    token = found.refuse(FoundUri("x", "https://other.example/?t=AKIAABCDEFGHIJKLMNOP"))
    assert token is not None and (token.reason, token.detail) == ("secret", "it holds an AWS access key")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": ""}, "[0].name"),
        ({"name": "a\nb"}, "[0].name"),
        ({"hosts": []}, "[0].hosts"),
        ({"hosts": ["a b"]}, "[0].hosts"),
        ({"paths": ["relative"]}, "[0].paths"),
        ({"paths": ["/a?b"]}, "[0].paths"),
        ({"paths": ["/**/a"]}, "[0].paths"),
        ({"paths": ["/a**"]}, "[0].paths"),
        ({"paths": ["/" + "*a" * 9]}, "[0].paths"),
        ({"maxQueryLength": -1}, "[0].maxQueryLength"),
        ({"maxQueryEntropy": 0}, "[0].maxQueryEntropy"),
        ({"maxPathLength": "9"}, "[0].maxPathLength"),
        ({"reason": "a\x00b"}, "[0].reason"),
        ({"regex": ".*"}, "[0]"),
    ],
)
def test_rule_that_cannot_be_meant_is_refused_and_its_place_told(arm: Arm, change: dict[str, Any], where: str) -> None:
    message = arm.fails(400, "InvalidRequestContent", "PUT", A1, body(uriRules=[RULE | change]))
    assert f"properties.stockade.dlp.uriRules{where}" in message


def test_rule_without_a_demand_and_a_name_twice_are_refused(arm: Arm) -> None:
    def why(rules: list[dict[str, Any]]) -> str:
        return arm.fails(400, "InvalidRequestContent", "PUT", A1, body(uriRules=rules))

    assert "demands nothing" in why([{"name": "x", "hosts": ["a.example"]}])
    assert "another rule" in why([RULE, RULE | {"name": "IMAGES only"}])
    assert "uriRules" in why([RULE | {"name": f"r{n}"} for n in range(101)])
