"""The built-in models: small, on the CPU, in a process of their own, with no network at all.

`python -m stockade.services.openai.engines.embedded --socket PATH --model NAME` serves one model as the plain OpenAI HTTP API on a UNIX
socket, so that the gateway treats it like any other server with that API. Other code reads `catalogue` and imports nothing else from here:
the engines' libraries are large and are loaded only in the engine's own process.
"""
