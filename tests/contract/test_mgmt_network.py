"""`azure-mgmt-network` and `azure-mgmt-cognitiveservices`, unmodified, over TLS: networks, private endpoints, perimeters, and what each changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.cognitiveservices.models import (
    Account,
    AccountProperties,
    IpRule,
    NetworkRuleSet,
    PrivateEndpointConnection,
    PrivateEndpointConnectionProperties,
    PrivateLinkServiceConnectionState,
    VirtualNetworkRule,
)
from azure.mgmt.network import NetworkManagementClient
from azure.mgmt.network import models as network

from tests.factories import azure as made
from tests.factories.azure import Azure, new_name

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def client(azure: Azure) -> Iterator[NetworkManagementClient]:
    with NetworkManagementClient(azure.administrator, azure.subscription, **azure._options) as management:
        yield management


@pytest.fixture(scope="module")
def group(azure: Azure) -> str:
    return azure.new_group()


@pytest.fixture(scope="module")
def vnet(azure: Azure, client: NetworkManagementClient, group: str) -> network.VirtualNetwork:
    """10.20.0.0/16, and a subnet `first` of it without a service endpoint."""
    return client.virtual_networks.begin_create_or_update(
        group,
        "net1",
        network.VirtualNetwork(
            location=azure.location,
            properties=network.VirtualNetworkPropertiesFormat(
                address_space=network.AddressSpace(address_prefixes=["10.20.0.0/16", "127.0.0.0/8"]),
                subnets=[
                    network.Subnet(
                        name="first", properties=network.SubnetPropertiesFormat(address_prefix="10.20.0.0/24")
                    )
                ],
            ),
        ),
    ).result()


def status(azure: Azure, account: made.Account) -> int:
    return azure.models(account, {"api-key": account.key1}).status


def test_virtual_networks_from_creation_to_deletion(azure: Azure, client: NetworkManagementClient, group: str) -> None:
    name = new_name("net")
    body = {
        "location": azure.location,
        "properties": {
            "addressSpace": {"addressPrefixes": ["10.1.0.0/16"]},
            "subnets": [{"name": "a", "properties": {"addressPrefix": "10.1.0.0/24"}}],
        },
    }
    found = client.virtual_networks.begin_create_or_update(group, name, body).result()
    assert (found.properties.provisioning_state, [one.name for one in found.properties.subnets]) == ("Succeeded", ["a"])
    added = client.subnets.begin_create_or_update(
        group,
        name,
        "b",
        network.Subnet(
            properties=network.SubnetPropertiesFormat(
                address_prefix="10.1.1.0/24",
                service_endpoints=[network.ServiceEndpointPropertiesFormat(service="Microsoft.CognitiveServices")],
            )
        ),
    ).result()
    assert added.properties.service_endpoints[0].provisioning_state == "Succeeded"
    assert client.virtual_networks.update_tags(group, name, network.TagsObject(tags={"a": "b"})).tags == {"a": "b"}
    assert [one.name for one in client.subnets.list(group, name)] == ["a", "b"]
    assert name in [one.name for one in client.virtual_networks.list(group)]
    assert name in [one.name for one in client.virtual_networks.list_all()]
    read = client.virtual_networks.get(group, name)
    again = client.virtual_networks.begin_create_or_update(group, name, read).result()
    assert again.properties.as_dict() == read.properties.as_dict()
    free = client.virtual_networks.check_ip_address_availability(group, name, ip_address="10.1.0.1")
    assert (free.available, free.available_ip_addresses[0]) == (False, "10.1.0.4")
    assert [one.limit for one in client.virtual_networks.list_usage(group, name)] == [251, 251]
    with pytest.raises(HttpResponseError, match="NetcfgSubnetRangesOverlap"):
        client.subnets.begin_create_or_update(group, name, "c", {"properties": {"addressPrefix": "10.1.1.128/25"}})
    client.subnets.begin_delete(group, name, "a").result()
    client.virtual_networks.begin_delete(group, name).result()
    with pytest.raises(ResourceNotFoundError):
        client.subnets.get(group, name, "b")


def test_subnet_rule_lets_its_addresses_in(
    azure: Azure, client: NetworkManagementClient, group: str, vnet: network.VirtualNetwork
) -> None:
    account = azure.new_account(group=group)
    here = client.subnets.begin_create_or_update(
        group, "net1", "here", {"properties": {"addressPrefix": "127.0.0.0/24"}}
    ).result()

    def change(rules: NetworkRuleSet) -> None:
        body = Account(properties=AccountProperties(network_acls=rules))
        azure.cognitive.accounts.begin_update(group, account.name, body).result()

    change(NetworkRuleSet(default_action="Deny"))
    assert status(azure, account) == 403
    with pytest.raises(HttpResponseError, match="SubnetsHaveNoServiceEndpointsConfigured"):
        change(NetworkRuleSet(default_action="Deny", virtual_network_rules=[VirtualNetworkRule(id=here.id)]))
    here.properties.service_endpoints = [network.ServiceEndpointPropertiesFormat(service="Microsoft.CognitiveServices")]
    client.subnets.begin_create_or_update(group, "net1", "here", here).result()
    change(NetworkRuleSet(default_action="Deny", virtual_network_rules=[VirtualNetworkRule(id=here.id)]))
    assert status(azure, account) == 200
    here.properties.service_endpoints = []
    client.subnets.begin_create_or_update(group, "net1", "here", here).result()
    assert status(azure, account) == 403
    many = [IpRule(value=f"10.{n // 256}.{n % 256}.0/25") for n in range(5_000)]
    change(NetworkRuleSet(default_action="Deny", ip_rules=[*many, IpRule(value="127.0.0.1")]))
    assert status(azure, account) == 200


def test_private_endpoint_and_the_life_of_its_connection(
    azure: Azure, client: NetworkManagementClient, group: str, vnet: network.VirtualNetwork
) -> None:
    account = azure.new_account(group=group)
    assert vnet.properties is not None and vnet.properties.subnets is not None

    def body(*, manual: bool) -> network.PrivateEndpoint:
        link = network.PrivateLinkServiceConnection(
            name="link",
            properties=network.PrivateLinkServiceConnectionProperties(
                private_link_service_id=account.id, group_ids=["account"]
            ),
        )
        which = "manual_private_link_service_connections" if manual else "private_link_service_connections"
        subnet = network.Subnet(id=vnet.properties.subnets[0].id)
        return network.PrivateEndpoint(
            location=azure.location, properties=network.PrivateEndpointProperties(subnet=subnet, **{which: [link]})
        )

    resources = azure.cognitive.private_link_resources.list(group, account.name).value
    assert [one.properties.group_id for one in resources] == ["account"]
    own = client.private_endpoints.begin_create_or_update(group, "own", body(manual=False)).result()
    assert (
        own.properties.private_link_service_connections[0].properties.private_link_service_connection_state.status
        == "Approved"
    )
    [address] = own.properties.custom_dns_configs[0].ip_addresses
    assert address == "10.20.0.4"
    assert own.properties.network_interfaces[0].id.startswith(f"/subscriptions/{azure.subscription}/")
    client.private_endpoints.begin_create_or_update(group, "asked", body(manual=True)).result()
    assert {"own", "asked"} <= {one.name for one in client.private_endpoints.list_by_subscription()}
    assert {one.name for one in client.private_endpoints.list(group)} >= {"own", "asked"}

    connections = azure.cognitive.private_endpoint_connections
    found = {
        one.properties.private_endpoint.id.rsplit("/", 1)[-1]: one
        for one in connections.list(group, account.name).value
    }
    states = {name: one.properties.private_link_service_connection_state.status for name, one in found.items()}
    assert states == {"own": "Approved", "asked": "Pending"}

    def decide(name: str, wanted: str) -> PrivateEndpointConnection:
        decided = PrivateLinkServiceConnectionState(status=wanted, description="decided")
        properties = PrivateEndpointConnectionProperties(private_link_service_connection_state=decided)
        changed = PrivateEndpointConnection(properties=properties)
        return connections.begin_create_or_update(group, account.name, found[name].name, changed).result()

    assert decide("asked", "Approved").properties.private_link_service_connection_state.status == "Approved"
    decide("own", "Rejected")
    with pytest.raises(HttpResponseError, match="InvalidPrivateEndpointConnectionState"):
        decide("own", "Pending")
    shown = client.private_endpoints.get(group, "own").properties.private_link_service_connections[0]
    assert shown.properties.private_link_service_connection_state.status == "Rejected"
    account_shown = azure.cognitive.accounts.get(group, account.name)
    assert len(account_shown.properties.private_endpoint_connections) == 2
    with pytest.raises(HttpResponseError, match="InUseSubnetCannotBeDeleted"):
        client.subnets.begin_delete(group, "net1", "first").result()
    client.private_endpoints.begin_delete(group, "asked").result()
    left = connections.get(group, account.name, found["asked"].name)
    assert left.properties.private_link_service_connection_state.status == "Disconnected"
    for one in found.values():
        connections.begin_delete(group, account.name, one.name).result()
    shown = client.private_endpoints.get(group, "own").properties.private_link_service_connections[0]
    assert shown.properties.private_link_service_connection_state.status == "Disconnected"
    client.private_endpoints.begin_delete(group, "own").result()


def test_perimeter_admits_and_shows_in_its_account(azure: Azure, client: NetworkManagementClient, group: str) -> None:
    account, name = azure.new_account(group=group), new_name("line")
    perimeter = client.network_security_perimeters.create_or_update(
        group, name, network.NetworkSecurityPerimeter(location=azure.location)
    )
    profile = client.network_security_perimeter_profiles.create_or_update(group, name, "main", network.NspProfile())
    rule = network.NspAccessRule(
        properties=network.NspAccessRuleProperties(direction="Inbound", address_prefixes=["203.0.113.0/24"])
    )
    client.network_security_perimeter_access_rules.create_or_update(group, name, "main", "office", rule)

    def associate(mode: str) -> network.NspAssociation:
        properties = network.NspAssociationProperties(
            private_link_resource=network.SubResource(id=account.id),
            profile=network.SubResource(id=profile.id),
            access_mode=mode,
        )
        return client.network_security_perimeter_associations.begin_create_or_update(
            group, name, "chat", network.NspAssociation(properties=properties)
        ).result()

    assert status(azure, account) == 200
    assert associate("Enforced").properties.provisioning_state == "Succeeded"
    assert status(azure, account) == 403
    rule.properties.address_prefixes = ["127.0.0.0/8", "::1/128"]
    client.network_security_perimeter_access_rules.create_or_update(group, name, "main", "office", rule)
    assert status(azure, account) == 200
    configurations = azure.cognitive.network_security_perimeter_configurations
    [shown] = configurations.list(group, account.name)
    assert shown.properties.resource_association.access_mode == "Enforced"
    assert shown.properties.network_security_perimeter.perimeter_guid == perimeter.properties.perimeter_guid
    assert shown.properties.profile.access_rules[0].properties.address_prefixes == ["127.0.0.0/8", "::1/128"]
    assert configurations.get(group, account.name, shown.name).id == shown.id
    assert configurations.begin_reconcile(group, account.name, shown.name).result().name == shown.name
    outbound = {"properties": {"direction": "Outbound", "fullyQualifiedDomainNames": ["example.com"]}}
    with pytest.raises(HttpResponseError, match="allowedFqdnList"):
        client.network_security_perimeter_access_rules.create_or_update(group, name, "main", "out", outbound)
    assert [one.name for one in client.network_security_perimeter_associations.list(group, name)] == ["chat"]
    assert [one.name for one in client.network_security_perimeter_profiles.list(group, name)] == ["main"]
    assert [one.name for one in client.network_security_perimeter_access_rules.list(group, name, "main")] == ["office"]
    assert name in [one.name for one in client.network_security_perimeters.list_by_subscription()]
    assert name in [one.name for one in client.network_security_perimeters.list(group)]
    kinds = client.network_security_perimeter_associable_resource_types.list(azure.location)
    assert [one.name for one in kinds] == ["Microsoft.CognitiveServices/accounts"]
    client.network_security_perimeters.patch(group, name, network.UpdateTagsRequest(tags={"a": "b"}))
    with pytest.raises(HttpResponseError, match="NetworkSecurityPerimeterInUse"):
        client.network_security_perimeters.begin_delete(group, name).result()
    client.network_security_perimeter_associations.begin_delete(group, name, "chat").result()
    assert list(configurations.list(group, account.name)) == []
    client.network_security_perimeter_access_rules.delete(group, name, "main", "office")
    client.network_security_perimeter_profiles.delete(group, name, "main")
    client.network_security_perimeters.begin_delete(group, name).result()
    assert status(azure, account) == 200
