"""Azure OpenAI's operations, on the deployment paths and on the v1 paths.

Source: contracts, data-plane section 4.1 (paths), section 3 (URI fields); data actions from the built-in role Cognitive Services OpenAI
User; events of a realtime session from openai 3.54.0, `types/realtime/*_param.py`.
"""

from __future__ import annotations

from dataclasses import replace

from stockade.kernel.operation import GiB, KiB, MiB, Operation, UriField

_CHAT_URIS = (
    UriField("messages[*].content[*].image_url.url", inline=True),
    UriField("messages[*].content[*].image_url", inline=True),
    UriField("data_sources[*].parameters.endpoint", use="send"),
    UriField("data_sources[*].parameters.embedding_dependency.endpoint", use="send"),
    # Places of other data sources that are no URI, or one with credentials in it: no list names them, so restricted accounts do not send there.
    UriField("data_sources[*].parameters.environment", use="send"),
    UriField("data_sources[*].parameters.authentication.connection_string", use="send"),
)

_DEPLOYMENT_OPERATIONS = (
    Operation(
        name="ChatCompletions_Create",
        method="POST",
        path="/openai/deployments/{deployment}/chat/completions",
        data_action="OpenAI/deployments/chat/completions/action",
        body="json",
        max_body_bytes=16 * MiB,
        streams=True,
        stores="on-request",
        uris=_CHAT_URIS,
    ),
    Operation(
        name="Completions_Create",
        method="POST",
        path="/openai/deployments/{deployment}/completions",
        data_action="OpenAI/deployments/completions/action",
        body="json",
        streams=True,
    ),
    Operation(
        name="Embeddings_Create",
        method="POST",
        path="/openai/deployments/{deployment}/embeddings",
        data_action="OpenAI/deployments/embeddings/action",
        body="json",
        max_body_bytes=16 * MiB,
    ),
)

_REALTIME = Operation(
    name="Realtime_Connect",
    method="GET",
    path="/openai/realtime",
    data_action="OpenAI/deployments/realtime/action",
    max_body_bytes=16 * MiB,
    websocket=True,
    uris=(
        UriField("session.tools[*].server_url", use="send"),
        UriField("response.tools[*].server_url", use="send"),
        UriField("tools[*].server_url", use="send"),
        UriField("target_uri", use="send"),
        UriField("session.prompt.variables.**.image_url", inline=True),
        UriField("session.prompt.variables.**.file_url"),
        UriField("response.prompt.variables.**.image_url", inline=True),
        UriField("response.prompt.variables.**.file_url"),
        UriField("item.content[*].image_url", inline=True),
        UriField("item.content[*].image_url.url", inline=True),
        UriField("response.input[*].content[*].image_url", inline=True),
        UriField("response.input[*].content[*].image_url.url", inline=True),
    ),
)

_V1_PATHS = {
    "ChatCompletions_Create": "/openai/v1/chat/completions",
    "Completions_Create": "/openai/v1/completions",
    "Embeddings_Create": "/openai/v1/embeddings",
}

_MODELS = (
    Operation(name="Models_List", method="GET", path="/openai/models", data_action="OpenAI/models/read"),
    Operation(name="Models_Get", method="GET", path="/openai/models/{model}", data_action="OpenAI/models/read"),
)

_DEPLOYMENTS = (
    Operation(name="Deployments_List", method="GET", path="/openai/deployments", data_action="OpenAI/deployments/read"),
    Operation(
        name="Deployments_Get",
        method="GET",
        path="/openai/deployments/{deployment}",
        data_action="OpenAI/deployments/read",
    ),
)

_FILES = (
    Operation(
        name="Files_Create",
        method="POST",
        path="/openai/files",
        data_action="OpenAI/files/write",
        body="stream",
        max_body_bytes=5 * GiB,
        stores="customer-content",
    ),
    Operation(
        name="Files_List",
        method="GET",
        path="/openai/files",
        data_action="OpenAI/files/read",
        stores="customer-content",
    ),
    Operation(
        name="Files_Get",
        method="GET",
        path="/openai/files/{file_id}",
        data_action="OpenAI/files/read",
        stores="customer-content",
    ),
    Operation(
        name="Files_Content",
        method="GET",
        path="/openai/files/{file_id}/content",
        data_action="OpenAI/files/read",
        headers=("range", "if-range"),
        stores="customer-content",
    ),
    Operation(
        name="Files_Delete",
        method="DELETE",
        path="/openai/files/{file_id}",
        data_action="OpenAI/files/delete",
        stores="customer-content",
    ),
)

_BATCHES = (
    Operation(
        name="Batches_Create",
        method="POST",
        path="/openai/batches",
        data_action="OpenAI/batches/write",
        body="json",
        max_body_bytes=64 * KiB,
        stores="customer-content",
        uris=(UriField("input_blob"), UriField("output_folder.url", use="send")),
    ),
    Operation(
        name="Batches_List",
        method="GET",
        path="/openai/batches",
        data_action="OpenAI/batches/read",
        stores="customer-content",
    ),
    Operation(
        name="Batches_Get",
        method="GET",
        path="/openai/batches/{batch_id}",
        data_action="OpenAI/batches/read",
        stores="customer-content",
    ),
    Operation(
        name="Batches_Cancel",
        method="POST",
        path="/openai/batches/{batch_id}/cancel",
        data_action="OpenAI/batches/cancel/action",
        stores="customer-content",
    ),
)

_RESPONSES = (
    Operation(
        name="Responses_Create",
        method="POST",
        path="/openai/responses",
        data_action="OpenAI/responses/write",
        body="json",
        max_body_bytes=16 * MiB,
        streams=True,
        stores="on-request",
        uris=(
            UriField("input[*].content[*].image_url", inline=True),
            UriField("input[*].content[*].file_url"),
            # Outputs of tools, as the caller gives them back.
            UriField("input[*].output[*].image_url", inline=True),
            UriField("input[*].output[*].file_url"),
            UriField("input[*].output[*].url"),
            UriField("tools[*].server_url", use="send"),
            UriField("tools[*].connector_id", use="send"),
            UriField("prompt.variables.**.image_url", inline=True),
            UriField("prompt.variables.**.file_url"),
        ),
    ),
    Operation(
        name="Responses_Get",
        method="GET",
        path="/openai/responses/{response_id}",
        data_action="OpenAI/responses/read",
        stores="customer-content",
    ),
    Operation(
        name="Responses_Delete",
        method="DELETE",
        path="/openai/responses/{response_id}",
        data_action="OpenAI/responses/delete",
        stores="customer-content",
    ),
    Operation(
        name="Responses_Cancel",
        method="POST",
        path="/openai/responses/{response_id}/cancel",
        data_action="OpenAI/responses/write",
        stores="customer-content",
    ),
    Operation(
        name="Responses_InputItems",
        method="GET",
        path="/openai/responses/{response_id}/input_items",
        data_action="OpenAI/responses/read",
        stores="customer-content",
    ),
)

_COMPLETIONS = (
    Operation(
        name="StoredCompletions_List",
        method="GET",
        path="/openai/chat/completions",
        data_action="OpenAI/stored-completions/read",
        stores="customer-content",
    ),
    Operation(
        name="StoredCompletions_Get",
        method="GET",
        path="/openai/chat/completions/{completion_id}",
        data_action="OpenAI/stored-completions/read",
        stores="customer-content",
    ),
    Operation(
        name="StoredCompletions_Messages",
        method="GET",
        path="/openai/chat/completions/{completion_id}/messages",
        data_action="OpenAI/stored-completions/read",
        stores="customer-content",
    ),
    Operation(
        name="StoredCompletions_Update",
        method="POST",
        path="/openai/chat/completions/{completion_id}",
        data_action="OpenAI/stored-completions/write",
        body="json",
        max_body_bytes=64 * KiB,
        stores="customer-content",
    ),
    Operation(
        name="StoredCompletions_Delete",
        method="DELETE",
        path="/openai/chat/completions/{completion_id}",
        data_action="OpenAI/stored-completions/delete",
        stores="customer-content",
    ),
)

_KEPT = (*_FILES, *_BATCHES, *_RESPONSES, *_COMPLETIONS)
"""What accounts keep, on the dated path and on v1 alike."""


def _v1(operation: Operation) -> Operation:
    path = operation.path.replace("/openai/", "/openai/v1/", 1)
    return replace(operation, path=path, bearer_key=True, versioned=False)


OPERATIONS: tuple[Operation, ...] = (
    *_DEPLOYMENT_OPERATIONS,
    *(
        replace(operation, path=_V1_PATHS[operation.name], bearer_key=True, versioned=False)
        for operation in _DEPLOYMENT_OPERATIONS
    ),
    *_MODELS,
    *(_v1(operation) for operation in _MODELS),
    *_DEPLOYMENTS,
    *_KEPT,
    *(_v1(operation) for operation in _KEPT),
    _REALTIME,
    replace(_REALTIME, path="/openai/v1/realtime", bearer_key=True, versioned=False),
)
