"""Where resources may say they are: the name of this installation, and Azure's regions for people who rehearse an Azure deployment.

Everything runs on this installation whatever the location says; the location is kept, compared and shown, as Azure does.
"""

from __future__ import annotations

from stockade.settings import Settings

GLOBAL = "global"

# Names and display names as `az account list-locations` prints them.
_DISPLAY = [
    "Australia Central",
    "Australia Central 2",
    "Australia East",
    "Australia Southeast",
    "Austria East",
    "Belgium Central",
    "Brazil South",
    "Brazil Southeast",
    "Canada Central",
    "Canada East",
    "Central India",
    "Central US",
    "Chile Central",
    "East Asia",
    "East US",
    "East US 2",
    "France Central",
    "France South",
    "Germany North",
    "Germany West Central",
    "Indonesia Central",
    "Israel Central",
    "Italy North",
    "Japan East",
    "Japan West",
    "Jio India Central",
    "Jio India West",
    "Korea Central",
    "Korea South",
    "Malaysia West",
    "Mexico Central",
    "New Zealand North",
    "North Central US",
    "North Europe",
    "Norway East",
    "Norway West",
    "Poland Central",
    "Qatar Central",
    "South Africa North",
    "South Africa West",
    "South Central US",
    "South India",
    "Southeast Asia",
    "Spain Central",
    "Sweden Central",
    "Sweden South",
    "Switzerland North",
    "Switzerland West",
    "UAE Central",
    "UAE North",
    "UK South",
    "UK West",
    "West Central US",
    "West Europe",
    "West India",
    "West US",
    "West US 2",
    "West US 3",
]

AZURE_REGIONS: dict[str, str] = {display.replace(" ", "").lower(): display for display in _DISPLAY}
"""Display names by name."""


def normalised(text: str) -> str:
    """Return a location as it is stored and compared: `East US` and `eastus` are one."""
    return text.replace(" ", "").lower()


def accepted(settings: Settings) -> tuple[str, ...]:
    """Return every location a resource may name, this installation's own first."""
    own = normalised(settings.names.location)
    return (own, *(name for name in AZURE_REGIONS if name != own))
