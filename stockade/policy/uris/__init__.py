"""URIs: reading them, finding them, and which of them may go where. Pure, and one parser (WHATWG's, ada) throughout."""
