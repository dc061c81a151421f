"""The account's list of hosts, on what a model answers: found, recorded and, where the account says so, redacted in place."""
