"""The settings file that the first start writes: everything commented out, so that it changes nothing."""

EXAMPLE_SETTINGS = """\
# Stockade's settings. Everything here is a default or an example: remove the "# " in front of what you want to change, then start again.
# The environment (STOCKADE_DATABASE_URL) wins over this file, flags win over both. No secret belongs in here.

# What stands in no table comes first, as TOML wants it.

# --- Proxies in front. Only theirs is an X-Forwarded-For that is believed. ----------------------------------------------------------
# trusted_proxies = ["10.0.0.5", "10.1.0.0/24"]

# --- PostgreSQL instead of the SQLite file -----------------------------------------------------------------------------------------------
# database_url = "postgresql://user@localhost/stockade"

# --- Put Stockade in front of Ollama -------------------------------------------------------------------------------------------
# [[models]]
# name = "llama3.2"
# capabilities = ["chatCompletion", "completion"]
# [models.upstream]
# url = "http://127.0.0.1:11434/v1"
#
# Then make a deployment of it and call that: az cognitiveservices account deployment create --name demo-openai \\
#   --resource-group stockade --deployment-name llama --model-name llama3.2 --model-version 1 --model-format OpenAI \\
#   --sku-name Standard --sku-capacity 1000

# --- ... in front of vLLM, which has a key of its own (read from the environment, never passed to callers) -----------------------
# [[models]]
# name = "qwen2.5-7b-instruct"
# capabilities = ["chatCompletion", "completion"]
# [models.upstream]
# url = "http://127.0.0.1:8000/v1"
# model = "Qwen/Qwen2.5-7B-Instruct"
# credential_env = "VLLM_API_KEY"

# --- ... in front of real Azure OpenAI --------------------------------------------------------------------------------------------
# [[models]]
# name = "gpt-4o"
# [models.upstream]
# url = "https://YOUR-RESOURCE.openai.azure.com/openai/v1"
# model = "YOUR-DEPLOYMENT"
# credential_header = "api-key"
# credential_file = "/run/secrets/azure-openai-key"

# --- ... in front of another AI service: Face, Speech, Translator and so on; docs/services.md has their names -----------------------------
# [[services]]
# name = "face"
# [services.upstream]
# url = "http://127.0.0.1:5000"
# credential_header = "Ocp-Apim-Subscription-Key"
# credential_env = "FACE_KEY"

# --- Where it listens. Another host than loopback lets other machines in. ----------------------------------------------------------
# [listen]
# host = "127.0.0.1"
# data_port = 8443
# control_port = 8444
# metadata_port = 8445
# websocket_port = 8447        # the data plane's WebSockets; 0: none
# workers = 0                  # data-plane processes; 0: one per core, at most 4
# private_port = 8446          # private endpoints: each on an address of its own, and only in these networks of this machine
# private_networks = ["127.0.0.0/8"]

# --- Host names instead of paths: https://ACCOUNT.ai.example.com ----------------------------------------------------------------------
# [names]
# domain = "example.com"
# location = "local"

# --- Your own certificate; renewed files are taken over without a restart --------------------------------------------------------------
# [tls]
# certificate = "/etc/ssl/private/stockade.pem"     # the chain
# key = "/etc/ssl/private/stockade.key"

# --- Trust the tokens of another identity provider -------------------------------------------------------------------------------------
# [[issuers]]
# issuer = "https://login.microsoftonline.com/YOUR-TENANT-ID/v2.0"
# audiences = ["api://stockade"]    # one of your own; a token for https://cognitiveservices.azure.com is good at the real Azure too
# app_id_claim = "azp"              # more, also for Keycloak: docs/identities.md

# --- What is fetched for requests of accounts that restrict outbound access: docs/loss-prevention.md ------------------------------------
# [egress]
# allowed_networks = ["10.20.0.0/16"]   # only public addresses are connected to, and these; engines named above need no entry
# dns_servers = ["10.0.0.53"]           # instead of this system's resolver
# ca_file = "/etc/ssl/inside.pem"       # instead of the system's authorities
# max_bytes = 20971520
# fetch_timeout_s = 10.0

# --- Bounds --------------------------------------------------------------------------------------------------------------------------------
# [limits]
# max_body_bytes = 33554432
# key_rotation_guard_minutes = 0    # refuse to regenerate a key that was used within so many minutes, unless forced

# --- The audit log, where its records are sent on to, and who keeps its signed heads: docs/audit.md, docs/audit-sinks.md ---------------------
# [audit]
# keep_days = 400                   # where a subscription says nothing
# mirror = "/mnt/other-disk/audit"  # the copy: on another disk it outlives a full one
#
# [[audit.sinks]]
# name = "siem"                     # diagnostic settings name it /providers/Stockade.Audit/sinks/siem
# type = "http"                     # or "file", "syslog" (over TLS), "otlp"
# url = "https://siem.example.com/in"
# credential_file = "/run/secrets/siem"
# everything = false                # true: every record, without any diagnostic setting
#
# [[audit.witnesses]]
# url = "file:///mnt/elsewhere/stockade-heads"

# --- Past decisions, for `stockade explain`, `what-if` and `report` --------------------------------------------------------------------------
# [decisions]
# keep_per_account = 500
# keep = 20000                      # over all accounts
# keep_days = 30                    # how long it is counted what controls refused, or would have

# --- The root key, and who else holds keys: docs/keys.md, docs/key-providers.md --------------------------------------------------------------
# [keys]
# root = "provider"                 # or "file" (the default), "environment", "credential", "shares"
# root_provider = "hsm"
# root_name = "stockade-root"       # the key's label there; of "environment" and "credential" the name
# lease_s = 5.0                     # how long a worker may use an object's key before it has to ask again
#
# [[keys.providers]]
# name = "hsm"
# type = "pkcs11"
# url = "/usr/lib/softhsm/libsofthsm2.so"
# place = "stockade"
# credential_file = "/etc/stockade/hsm-pin"

# --- Key vaults: docs/vault.md ---------------------------------------------------------------------------------------------------------------
# [vault]
# default = "demo-vault"            # answers at https://localhost:PORT/keys/...
# provider = "software"             # who holds keys; a [[keys.providers]] of docs/key-providers.md
# hsm_provider = "software"         # who holds RSA-HSM and EC-HSM keys of premium vaults
# transactions_per_10_s = 4000      # per vault; above it 429

# --- The SKU E0 has to be asked for: docs/e0.md ------------------------------------------------------------------------------------------
# [access]
# e0_capacity = 100                 # accounts of one kind in one region
# answer_days = [3, 5]              # business days within which requests are answered
# holidays = ["2026-12-25"]         # beside Saturdays and Sundays

# --- Who is told of what waits for a person ------------------------------------------------------------------------------------------------
# [notices]
# operators = ["platform@example.com"]
# webhook = "https://hooks.example.com/stockade"
# webhook_secret_file = "/run/secrets/webhook"
# [notices.mail]
# host = "mail.example.com"
# sender = "stockade@example.com"
# user = "stockade"
# credential_file = "/run/secrets/mail"
"""
