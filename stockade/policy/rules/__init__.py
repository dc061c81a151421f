"""One file per check, and the one place that orders them.

address -> network -> credential -> role -> state of the account -> outbound URIs -> quota. A refused network learns nothing about keys; a refused key
learns nothing about operations.
"""

from stockade.policy.rules import address, credential, network, outbound, quota, role

ORDER = (address, network, credential, role, outbound, quota)
