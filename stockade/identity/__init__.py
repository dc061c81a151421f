"""Who is who: the directory, the token service that speaks Entra's protocol, and the verification of tokens."""
