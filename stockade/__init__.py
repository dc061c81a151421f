"""Stockade: the security controls of Azure AI services around AI services that people run themselves."""

__version__ = "0.1.0"
