"""Web pages for people who decide: rendered here, answered by the same pipeline as every other client's calls.

A person signs in as any application does, and what the pages show and do is asked of ARM with that person's own token: there is no second
way to be allowed anything. Pages work without JavaScript; only passkeys need some, and it is one file.

What this cannot be: proof of what is signed. The operator serves these pages, so what they show could be forged; the authenticator signs the hash
of the payload and nothing that the page says beside it. Who distrusts the operator reads and signs with the command line on a machine of their own.
"""
