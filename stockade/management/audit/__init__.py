"""The audit log in ARM: Azure's activity log, and the records, proofs and tree heads behind it."""
