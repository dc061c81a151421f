"""`Microsoft.Network/virtualNetworks/subnets`: addresses that accounts can admit by name, and where private endpoints get theirs."""

from __future__ import annotations

import re
from collections.abc import Iterable

from stockade.kernel.faults import Fault, FaultKind
from stockade.management.network.bodies import SUBNETS, wanted
from stockade.management.network.subnets import (
    MAX_SUBNETS,
    READ_ONLY,
    SERVICE,
    VAULT_SERVICE,
    Subnet,
    SubnetProperties,
    check_siblings,
    network_of,
    planned,
    prefixes,
    require_unused,
    show_in_network,
)
from stockade.management.resource_type import Call, Planned, Reply, ResourceType
from stockade.policy.addresses import AddressSet
from stockade.policy.snapshot import Entry, SubnetPolicy
from stockade.storage.database import Reader, Writer
from stockade.storage.documents import Document


class Subnets(ResourceType):
    """Microsoft.Network/virtualNetworks/subnets."""

    type = name = SUBNETS
    methods = frozenset({"GET", "PUT", "DELETE"})
    name_pattern = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,78}[a-zA-Z0-9_])?")
    has_system_data = False

    def plan(self, call: Call, current: Document | None, reader: Reader) -> Planned:
        body, asked = wanted(call, current, Subnet, READ_ONLY)
        network = reader.get(call.id.parent)
        if network is None:  # the pipeline has seen it; without its address space nothing can be said
            raise Fault(FaultKind.NOT_FOUND, f"The virtual network of '{call.id.text}' was not found.")
        space = [
            network_of(text, "properties") for text in network.body["properties"]["addressSpace"]["addressPrefixes"]
        ]
        name = current.name if current is not None else call.id.name
        properties = planned(name, body["properties"], asked.properties or SubnetProperties(), space, current)
        others = [other for other in reader.list(SUBNETS, under=network.id) if other.id != call.id.key]
        if len(others) >= MAX_SUBNETS:
            message = f"A virtual network has at most {MAX_SUBNETS} subnets."
            raise Fault(FaultKind.INVALID, message, code="TooManySubnets", target="properties")
        check_siblings(
            [*((other.name, other.body["properties"]) for other in others), (name, properties)], network.name
        )
        return Planned({**body, "properties": properties})

    def after_write(self, call: Call, writer: Writer, document: Document, previous: Document | None) -> Document:
        show_in_network(writer, call.id.parent)
        return document

    def remove(self, call: Call, writer: Writer, document: Document) -> Reply | None:
        require_unused(document)
        super().remove(call, writer, document)
        show_in_network(writer, document.id.rsplit("/", 2)[0])
        return None

    def compile(self, document: Document) -> Iterable[Entry]:
        properties = document.body["properties"]
        services = {str(endpoint["service"]).lower() for endpoint in properties.get("serviceEndpoints", ())}
        parts = str(document.body["id"]).split("/")
        within = f"{parts[-3]}/{parts[-1]}"  # virtual network and subnet
        addresses = AddressSet.of((str(network) for network in prefixes(properties)), within=within)
        yield (
            "subnet",
            document.id,
            SubnetPolicy(document.id, addresses, SERVICE.lower() in services, VAULT_SERVICE.lower() in services),
        )


PLUGIN = Subnets()
