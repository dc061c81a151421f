"""Language's operations.

Source: contracts, data-plane sections 3 and 4.3 to 4.5; data actions as in the built-in roles Cognitive Services Language Reader, Writer and
Owner. Projects of custom text name a container of the account's own storage by its name, which is no URI.
"""

from __future__ import annotations

from dataclasses import replace

from stockade.kernel.operation import MiB, Operation, UriField

_LARGE = 16 * MiB
_RUN = "/language"
_A = "Language"


def _jobs(noun: str, path: str, action: str, uris: tuple[UriField, ...] = ()) -> tuple[Operation, ...]:
    jobs = f"{_RUN}/{path}/jobs"
    return (
        Operation(f"{noun}_Submit", "POST", jobs, f"{action}/jobs/action", "json", uris=uris),
        Operation(f"{noun}_Status", "GET", f"{jobs}/{{job}}", f"{action}/jobs/read"),
        Operation(f"{noun}_Cancel", "POST", f"{jobs}/{{job}}:cancel", f"{action}/jobscancel/action", "json"),
    )


_NATIVE = (
    UriField("analysisInput.documents[*].source.location"),
    UriField("analysisInput.documents[*].target.location", use="send"),
)
_RUNTIME = (
    Operation("AnalyzeText", "POST", f"{_RUN}/:analyze-text", f"{_A}/analyze-text/action", "json"),
    *_jobs("AnalyzeTextJobs", "analyze-text", f"{_A}/analyze-text"),
    Operation("AnalyzeConversations", "POST", f"{_RUN}/:analyze-conversations", f"{_A}/analyze-conversations/action", "json"),
    *_jobs("AnalyzeConversationsJobs", "analyze-conversations", f"{_A}/analyze-conversations"),
    *_jobs("AnalyzeDocumentsJobs", "analyze-documents", f"{_A}/analyze-documents", _NATIVE),
    Operation("QueryKnowledgebases", "POST", f"{_RUN}/:query-knowledgebases", f"{_A}/query-knowledgebases/action", "json"),
    Operation("QueryText", "POST", f"{_RUN}/:query-text", f"{_A}/query-text/action", "json"),
    Operation("Generate", "POST", f"{_RUN}/:generate", f"{_A}/generate/action", "json"),
)  # fmt: skip


def _authoring(noun: str, path: str, action: str) -> tuple[Operation, ...]:
    """Return what projects of conversations and of custom text can be asked; they bring everything they are made of with them."""
    all_ = f"{_RUN}/authoring/{path}/projects"
    one, deployment, model = (
        f"{all_}/{{project}}",
        f"{all_}/{{project}}/deployments/{{deployment}}",
        f"{all_}/{{project}}/models/{{model}}",
    )
    job = "jobs/{job}"
    return (
        Operation(f"{noun}_Projects", "GET", all_, f"{action}/projects/read"),
        Operation(f"{noun}_GetProject", "GET", one, f"{action}/projects/read"),
        Operation(f"{noun}_PutProject", "PATCH", one, f"{action}/projects/write", "json"),
        Operation(f"{noun}_DeleteProject", "DELETE", one, f"{action}/projects/delete"),
        Operation(f"{noun}_Import", "POST", f"{one}/:import", f"{action}/projects/import/action", "json", (), _LARGE),
        Operation(f"{noun}_Export", "POST", f"{one}/:export", f"{action}/projects/export/action", "json"),
        Operation(f"{noun}_Train", "POST", f"{one}/:train", f"{action}/projects/train/action", "json"),
        Operation(f"{noun}_ImportJob", "GET", f"{one}/import/{job}", f"{action}/projects/read"),
        Operation(f"{noun}_ExportJob", "GET", f"{one}/export/{job}", f"{action}/projects/read"),
        Operation(f"{noun}_ExportResult", "GET", f"{one}/export/{job}/result", f"{action}/projects/export/read"),
        Operation(f"{noun}_TrainJobs", "GET", f"{one}/train/jobs", f"{action}/projects/read"),
        Operation(f"{noun}_TrainJob", "GET", f"{one}/train/{job}", f"{action}/projects/read"),
        Operation(f"{noun}_TrainCancel", "POST", f"{one}/train/{job}/:cancel", f"{action}/projects/train/action", "json"),
        Operation(f"{noun}_Deployments", "GET", f"{one}/deployments", f"{action}/projects/read"),
        Operation(f"{noun}_GetDeployment", "GET", deployment, f"{action}/projects/read"),
        Operation(f"{noun}_PutDeployment", "PUT", deployment, f"{action}/projects/deployments/write", "json"),
        Operation(f"{noun}_DeleteDeployment", "DELETE", deployment, f"{action}/projects/deployments/delete"),
        Operation(f"{noun}_DeploymentJob", "GET", f"{deployment}/{job}", f"{action}/projects/read"),
        Operation(f"{noun}_Swap", "POST", f"{one}/deployments/:swap", f"{action}/projects/deployments/swap/action", "json"),
        Operation(f"{noun}_SwapJob", "GET", f"{one}/deployments/swap/{job}", f"{action}/projects/read"),
        Operation(f"{noun}_Models", "GET", f"{one}/models", f"{action}/projects/read"),
        Operation(f"{noun}_GetModel", "GET", model, f"{action}/projects/read"),
        Operation(f"{noun}_DeleteModel", "DELETE", model, f"{action}/projects/models/delete"),
        Operation(f"{noun}_LoadSnapshot", "POST", f"{model}/:load-snapshot", f"{action}/projects/models/action", "json"),
        Operation(f"{noun}_Evaluation", "GET", f"{model}/evaluation/result", f"{action}/projects/read"),
        Operation(f"{noun}_EvaluationSummary", "GET", f"{model}/evaluation/summary-result", f"{action}/projects/read"),
        Operation(f"{noun}_Languages", "GET", f"{all_}/global/languages", f"{action}/projects/read"),
        Operation(f"{noun}_PrebuiltEntities", "GET", f"{all_}/global/prebuilt-entities", f"{action}/projects/read"),
        Operation(f"{noun}_TrainingVersions", "GET", f"{all_}/global/training-config-versions", f"{action}/projects/read"),
        Operation(f"{noun}_DeletionJob", "GET", f"{all_}/global/deletion-jobs/{{job}}", f"{action}/projects/read"),
    )  # fmt: skip


_Q = f"{_RUN}/query-knowledgebases/projects"
_QA = f"{_A}/query-knowledgebases/projects"
_PROJECT = f"{_Q}/{{project}}"
_SOURCES = (UriField("[*].value.sourceUri"), UriField("**.sourceUri"))
_QUESTIONS = (
    Operation("QnA_Projects", "GET", _Q, f"{_QA}/read"),
    Operation("QnA_GetProject", "GET", _PROJECT, f"{_QA}/read"),
    Operation("QnA_PutProject", "PATCH", _PROJECT, f"{_QA}/write", "json"),
    Operation("QnA_DeleteProject", "DELETE", _PROJECT, f"{_QA}/delete"),
    Operation("QnA_Sources", "GET", f"{_PROJECT}/sources", f"{_QA}/read"),
    Operation("QnA_UpdateSources", "PATCH", f"{_PROJECT}/sources", f"{_QA}/write", "json", uris=_SOURCES),
    Operation("QnA_Qnas", "GET", f"{_PROJECT}/qnas", f"{_QA}/read"),
    Operation("QnA_UpdateQnas", "PATCH", f"{_PROJECT}/qnas", f"{_QA}/write", "json"),
    Operation("QnA_Synonyms", "GET", f"{_PROJECT}/synonyms", f"{_QA}/read"),
    Operation("QnA_PutSynonyms", "PUT", f"{_PROJECT}/synonyms", f"{_QA}/write", "json"),
    Operation("QnA_Feedback", "POST", f"{_PROJECT}/feedback", f"{_QA}/feedback/action", "json"),
    Operation(
        "QnA_Import", "POST", f"{_PROJECT}/:import", f"{_QA}/import/action", "json", (), _LARGE,
        uris=(UriField("fileUri"), *_SOURCES),
    ),
    Operation("QnA_Export", "POST", f"{_PROJECT}/:export", f"{_QA}/export/action", "json"),
    Operation("QnA_Job", "GET", f"{_PROJECT}/{{step}}/jobs/{{job}}", f"{_QA}/read"),
    Operation("QnA_Deploy", "PUT", f"{_PROJECT}/deployments/{{deployment}}", f"{_QA}/deployments/write", "json"),
    Operation("QnA_Deployments", "GET", f"{_PROJECT}/deployments", f"{_QA}/read"),
)  # fmt: skip

_TEXT = "/text/analytics/{version}"
_LEGACY_PATHS = {
    "Sentiment": "sentiment",
    "KeyPhrases": "keyPhrases",
    "Languages": "languages",
    "Entities": "entities",
    "EntitiesGeneral": "entities/recognition/general",
    "EntitiesPii": "entities/recognition/pii",
    "EntitiesLinking": "entities/linking",
}
_HEALTH = f"{_TEXT}/entities/health/jobs"
_LEGACY = (
    *(
        Operation(f"TextAnalytics_{name}", "POST", f"{_TEXT}/{path}", f"TextAnalytics/{path.lower()}/action", "json")
        for name, path in _LEGACY_PATHS.items()
    ),
    Operation("TextAnalytics_Analyze", "POST", f"{_TEXT}/analyze", "TextAnalytics/analyze/action", "json"),
    Operation("TextAnalytics_AnalyzeStatus", "GET", f"{_TEXT}/analyze/jobs/{{job}}", "TextAnalytics/analyze/jobs/read"),
    Operation("TextAnalytics_Health", "POST", _HEALTH, "TextAnalytics/entities/health/jobs/action", "json"),
    Operation("TextAnalytics_HealthStatus", "GET", f"{_HEALTH}/{{job}}", "TextAnalytics/entities/health/jobs/read"),
    Operation("TextAnalytics_HealthCancel", "DELETE", f"{_HEALTH}/{{job}}", "TextAnalytics/entities/health/jobs/delete"),
)  # fmt: skip

_MAKER = "/qnamaker/{version}/knowledgebases"
_MAKER_SOURCES = (
    UriField("urls[*]"),
    UriField("files[*].fileUri"),
    UriField("add.urls[*]"),
    UriField("add.files[*].fileUri"),
    UriField("update.urls[*]"),
)
_QNAMAKER = (
    Operation("QnAMaker_Create", "POST", f"{_MAKER}/create", "QnAMaker/knowledgebases/create/write", "json", uris=_MAKER_SOURCES),
    Operation("QnAMaker_List", "GET", _MAKER, "QnAMaker/knowledgebases/read"),
    Operation("QnAMaker_Get", "GET", f"{_MAKER}/{{kb}}", "QnAMaker/knowledgebases/read"),
    Operation("QnAMaker_Update", "PATCH", f"{_MAKER}/{{kb}}", "QnAMaker/knowledgebases/write", "json", uris=_MAKER_SOURCES),
    Operation("QnAMaker_Replace", "PUT", f"{_MAKER}/{{kb}}", "QnAMaker/knowledgebases/write", "json", (), _LARGE),
    Operation("QnAMaker_Publish", "POST", f"{_MAKER}/{{kb}}", "QnAMaker/knowledgebases/publish/action", "json"),
    Operation("QnAMaker_Delete", "DELETE", f"{_MAKER}/{{kb}}", "QnAMaker/knowledgebases/delete"),
    Operation("QnAMaker_Download", "GET", f"{_MAKER}/{{kb}}/{{environment}}/qna", "QnAMaker/knowledgebases/download/read"),
    Operation("QnAMaker_Operation", "GET", "/qnamaker/{version}/operations/{operation}", "QnAMaker/operations/read"),
    Operation("QnAMaker_Answer", "POST", f"{_MAKER}/{{kb}}/generateAnswer", "QnAMaker/knowledgebases/generateanswer/action", "json"),
)  # fmt: skip

OPERATIONS: tuple[Operation, ...] = (
    *_RUNTIME,
    *_authoring("Conversations", "analyze-conversations", "Language/analyze-conversations"),
    *_authoring("CustomText", "analyze-text", "Language/analyze-text"),
    *_QUESTIONS,
    *(replace(row, versioned=False) for row in (*_LEGACY, *_QNAMAKER)),
)
