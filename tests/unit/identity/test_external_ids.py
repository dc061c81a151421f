"""Object ids made from what other providers call people and groups."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockade.identity.external_ids import object_id_of
from stockade.kernel.resource_id import is_guid

ISSUER = "https://idp.example/"
SUBJECTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60)


def test_guids_of_entra_and_keycloak_are_kept() -> None:
    assert object_id_of(ISSUER, "0F0F0F0F-0000-4000-8000-00000000000A") == "0f0f0f0f-0000-4000-8000-00000000000a"
    # Not every directory's GUIDs carry a version.
    assert object_id_of(ISSUER, "0f0f0f0f-0000-0000-0000-00000000000a") == "0f0f0f0f-0000-0000-0000-00000000000a"


def test_the_mapping_never_changes() -> None:
    # Role assignments are stored under these: another result would take everyone's roles away.
    assert object_id_of(ISSUER, "auth0|123") == "a6d0abe0-ef32-5d7c-9a58-359f3c2c403f"
    assert object_id_of(ISSUER, "/engineers", group=True) == "296fbdcb-0c45-50f7-af76-4f2ea8052d55"


@given(SUBJECTS, SUBJECTS)
def test_different_subjects_are_different_people(one: str, other: str) -> None:
    assert (object_id_of(ISSUER, one) == object_id_of(ISSUER, other)) == (one == other)


@given(SUBJECTS)
def test_issuers_and_groups_are_kept_apart(subject: str) -> None:
    found = {
        object_id_of(issuer, subject, group=group)
        for issuer in (ISSUER, "https://other.example/")
        for group in (True, False)
    }
    assert len(found) == 4 and all(is_guid(one) and UUID(one).version == 5 for one in found)


def test_nobody_can_choose_a_name_that_comes_to_anothers_id() -> None:
    victim = object_id_of(ISSUER, "alice")
    for chosen in (victim, victim.upper(), f"{{{victim}}}", f"urn:uuid:{victim}", victim.replace("-", "")):
        assert object_id_of(ISSUER, chosen) != victim


def test_text_that_is_no_unicode_has_no_id() -> None:
    with pytest.raises(UnicodeEncodeError):
        object_id_of(ISSUER, "\ud800")
