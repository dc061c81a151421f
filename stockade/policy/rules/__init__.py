"""One file per check, and the one place that orders them.

address -> network -> credential (and whether keys are taken) -> role (of an operation that exists) -> state of the account -> URIs -> quota.
A refused network learns nothing about keys; a refused key learns nothing about operations.
"""

from stockade.policy.rules import (
    address,
    credential,
    customer_key,
    local_auth,
    network,
    operation,
    outbound,
    quota,
    role,
)

ORDER = (address, network, credential, local_auth, operation, role, customer_key, outbound, quota)
