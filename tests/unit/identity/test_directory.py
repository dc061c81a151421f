import re

import pytest

from stockade.identity.directory import MAX_SECRETS, Directory
from stockade.identity.tenant import create_tenant, tenant, tenant_of
from stockade.kernel.faults import Fault, FaultKind
from stockade.policy import rbac
from tests.factories.identity import World

IDENTITY = (
    "/subscriptions/11111111-1111-4111-8111-111111111111/resourceGroups/RG"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/Id1"
)


@pytest.fixture
def directory(world: World) -> Directory:
    return world.directory


def test_there_is_one_tenant(world: World) -> None:
    with world.database.write() as writer:
        assert create_tenant(writer, "Another") == world.tenant_id
        found = tenant(writer)
    assert found is not None and found.display_name == "Test"
    assert tenant_of(world.snapshot()) == found


def test_an_application_is_found_by_every_name(world: World, directory: Directory) -> None:
    created, _ = world.application("Reporting")
    with world.database.read() as reader:
        assert created.app_id is not None
        for reference in (
            created.object_id,
            created.object_id.upper(),
            created.app_id,
            created.app_id.upper(),
            "reporting",
        ):
            assert directory.resolve(reader, reference) == created
        assert directory.resolve(reader, "nobody") is None
        assert directory.by_app_id(reader, created.object_id) is None
    assert world.snapshot().only("application", created.app_id) == created.object_id


def test_a_name_that_fits_several_is_refused(world: World, directory: Directory) -> None:
    world.application("twin")
    world.application("Twin")
    with world.database.read() as reader, pytest.raises(Fault) as failure:
        directory.resolve(reader, "twin")
    assert failure.value.kind is FaultKind.CONFLICT


@pytest.mark.parametrize("name", ["", "  ", "a" * 121, "line\nbreak", "bell\x07"])
def test_names_are_short_and_printable(world: World, name: str) -> None:
    with pytest.raises(Fault), world.database.write() as writer:
        world.directory.create_application(writer, name)


def test_secrets_are_kept_as_digests_only(world: World, directory: Directory) -> None:
    created, secret = world.application()
    assert re.fullmatch(r"stockade~[A-Za-z0-9_-]{43}", secret)
    with world.database.read() as reader:
        document = reader.get(f"/providers/stockade.directory/principals/{created.object_id}")
        shown = directory.secrets(reader, created.object_id)
    assert document is not None
    assert secret not in repr(document) and secret.removeprefix("stockade~") not in repr(document)
    assert "secrets" not in document.body
    assert shown[0].hint == secret.removeprefix("stockade~")[:3]


def test_equal_secrets_of_two_applications_have_different_digests(world: World, directory: Directory) -> None:
    from stockade.kernel.secret import Secret

    assert directory.digester.digest("a", Secret("same")) != directory.digester.digest("b", Secret("same"))


def test_an_application_has_at_most_ten_secrets(world: World, directory: Directory) -> None:
    created, _ = world.application()
    with world.database.write() as writer:
        for _ in range(MAX_SECRETS - 1):
            directory.add_secret(writer, created.object_id)
    with pytest.raises(Fault) as failure, world.database.write() as writer:
        directory.add_secret(writer, created.object_id)
    assert failure.value.kind is FaultKind.CONFLICT
    with world.database.write() as writer:
        first = directory.secrets(writer, created.object_id)[0]
        assert directory.remove_credential(writer, created.object_id, first.key_id)
        assert not directory.remove_credential(writer, created.object_id, first.key_id)
        directory.add_secret(writer, created.object_id)


def test_a_managed_identity_belongs_to_its_resource(world: World, directory: Directory) -> None:
    with world.database.write() as writer:
        first = directory.create_managed_identity(writer, IDENTITY, "UserAssigned")
        again = directory.create_managed_identity(writer, IDENTITY.lower(), "UserAssigned")
    assert first == again
    assert (first.kind, first.type, first.display_name, first.resource_id) == (
        "managedIdentity",
        "ServicePrincipal",
        "Id1",
        IDENTITY,
    )
    assert world.snapshot().only("managed-identity", IDENTITY.lower()) == first.object_id
    with pytest.raises(Fault), world.database.write() as writer:
        directory.add_secret(writer, first.object_id)
    with world.database.write() as writer:
        assert directory.delete_managed_identity(writer, IDENTITY.upper())
        assert not directory.delete_managed_identity(writer, IDENTITY)
    assert world.snapshot().only("principal", first.object_id) is None


def test_the_machine_has_one_identity(world: World, directory: Directory) -> None:
    with world.database.write() as writer:
        machine = directory.machine_identity(writer)
        assert directory.machine_identity(writer) == machine
    assert world.snapshot().only("machine", "") == machine.object_id


def test_membership_is_transitive_and_ends_with_the_member(world: World, directory: Directory) -> None:
    created, _ = world.application()
    with world.database.write() as writer:
        inner, outer = directory.create_group(writer, "inner"), directory.create_group(writer, "outer")
        directory.add_member(writer, inner.object_id, created.object_id)
        directory.add_member(writer, inner.object_id, created.object_id.upper())
        directory.add_member(writer, outer.object_id, inner.object_id)
    everyone = {created.object_id, inner.object_id, outer.object_id}
    assert rbac.identities(world.snapshot(), created.object_id) == everyone
    with world.database.write() as writer:
        group = directory.group(writer, inner.object_id)
        assert group is not None and group.members == (created.object_id,)
        directory.delete(writer, created.object_id)
    with world.database.read() as reader:
        group = directory.group(reader, inner.object_id)
    assert group is not None and group.members == ()
    assert not world.snapshot().all("member", created.object_id)


def test_a_group_is_never_inside_itself(world: World, directory: Directory) -> None:
    with world.database.write() as writer:
        a, b, c = (directory.create_group(writer, name) for name in "abc")
        directory.add_member(writer, a.object_id, b.object_id)
        directory.add_member(writer, b.object_id, c.object_id)
    for group, member in ((a, a), (c, a), (b, a)):
        with pytest.raises(Fault) as failure, world.database.write() as writer:
            directory.add_member(writer, group.object_id, member.object_id)
        assert failure.value.kind is FaultKind.INVALID


def test_only_what_the_directory_knows_becomes_a_member(world: World, directory: Directory) -> None:
    with world.database.write() as writer:
        group = directory.create_group(writer, "g")
    with pytest.raises(Fault) as failure, world.database.write() as writer:
        directory.add_member(writer, group.object_id, "22222222-2222-4222-8222-222222222222")
    assert failure.value.kind is FaultKind.NOT_FOUND


def test_a_deleted_group_takes_its_memberships_along(world: World, directory: Directory) -> None:
    created, _ = world.application()
    with world.database.write() as writer:
        inner, outer = directory.create_group(writer, "inner"), directory.create_group(writer, "outer")
        directory.add_member(writer, inner.object_id, created.object_id)
        directory.add_member(writer, outer.object_id, inner.object_id)
        assert directory.delete_group(writer, inner.object_id)
        assert not directory.delete_group(writer, inner.object_id)
    assert rbac.identities(world.snapshot(), created.object_id) == {created.object_id}


def test_external_principals_keep_their_issuer(world: World, directory: Directory) -> None:
    oid = "33333333-3333-4333-8333-333333333333"
    with world.database.write() as writer:
        directory.register_external(writer, oid.upper(), "Ann", "User", "https://idp.example/")
    policy = world.snapshot().only("principal", oid)
    assert policy.issuer == "https://idp.example/" and policy.type == "User"
    with pytest.raises(Fault) as failure, world.database.write() as writer:
        directory.register_external(writer, oid, "Ann", "User", "https://other.example/")
    assert failure.value.kind is FaultKind.CONFLICT


def test_an_external_application_id_does_not_shadow_ours(world: World, directory: Directory) -> None:
    created, _ = world.application()
    oid = "33333333-3333-4333-8333-333333333333"
    with world.database.write() as writer:
        directory.register_external(
            writer, oid, "app", "ServicePrincipal", "https://idp.example/", app_id=created.app_id
        )
    assert world.snapshot().only("application", created.app_id) == created.object_id
