"""The control plane: Azure Resource Manager's wire in front of the document store, with one pipeline and one folder per resource type."""
