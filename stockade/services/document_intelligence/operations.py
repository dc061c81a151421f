"""Document Intelligence's operations, under `/documentintelligence` and, for clients before 2024, `/formrecognizer`.

Source: contracts, data-plane section 3; paths as in azure-ai-documentintelligence 1.0.2 and Form Recognizer 2023-07-31.
"""

from __future__ import annotations

from dataclasses import replace

from stockade.kernel.operation import MiB, Operation, UriField

_DOCUMENT_BYTES = 32 * MiB
"""Azure takes 500 MB; here a body is held in memory, and `limits.max_body_bytes` bounds it as well."""
_SOURCE = (UriField("urlSource"),)
_TRAINING = (
    UriField("azureBlobSource.containerUrl"),
    UriField("azureBlobFileListSource.containerUrl"),
    UriField("docTypes.**.containerUrl"),
)
_BATCH = (*_TRAINING, UriField("resultContainerUrl", use="send"))
_COPY = (UriField("targetModelLocation", use="send"), UriField("targetClassifierLocation", use="send"))
_BASE = "/documentintelligence"
_MODELS, _CLASSIFIERS = f"{_BASE}/documentModels", f"{_BASE}/documentClassifiers"
_MODEL, _CLASSIFIER = f"{_MODELS}/{{model}}", f"{_CLASSIFIERS}/{{classifier}}"
_M, _C = "FormRecognizer/documentmodels", "FormRecognizer/documentclassifiers"

_ROWS = (
    Operation("Models_Analyze", "POST", f"{_MODEL}:analyze", f"{_M}/analyze/action", "media", (), _DOCUMENT_BYTES, uris=_SOURCE),
    Operation("Models_AnalyzeResult", "GET", f"{_MODEL}/analyzeResults/{{result}}", f"{_M}/analyzeresults/read"),
    Operation("Models_AnalyzeResultDelete", "DELETE", f"{_MODEL}/analyzeResults/{{result}}", f"{_M}/analyzeresults/delete"),
    Operation("Models_AnalyzeResultPdf", "GET", f"{_MODEL}/analyzeResults/{{result}}/pdf", f"{_M}/analyzeresults/read"),
    Operation("Models_AnalyzeResultFigure", "GET", f"{_MODEL}/analyzeResults/{{result}}/figures/{{figure}}", f"{_M}/analyzeresults/read"),
    Operation("Models_AnalyzeBatch", "POST", f"{_MODEL}:analyzeBatch", f"{_M}/analyzebatch/action", "json", uris=_BATCH),
    Operation("Models_AnalyzeBatchResults", "GET", f"{_MODEL}/analyzeBatchResults", f"{_M}/analyzebatchresults/read"),
    Operation("Models_AnalyzeBatchResult", "GET", f"{_MODEL}/analyzeBatchResults/{{result}}", f"{_M}/analyzebatchresults/read"),
    Operation("Models_AnalyzeBatchResultDelete", "DELETE", f"{_MODEL}/analyzeBatchResults/{{result}}", f"{_M}/analyzebatchresults/delete"),
    Operation("Models_Build", "POST", f"{_BASE}/documentModels:build", f"{_M}/build/action", "json", uris=_TRAINING),
    Operation("Models_Compose", "POST", f"{_BASE}/documentModels:compose", f"{_M}/compose/action", "json"),
    Operation("Models_AuthorizeCopy", "POST", f"{_BASE}/documentModels:authorizeCopy", f"{_M}/authorizecopy/action", "json"),
    Operation("Models_CopyTo", "POST", f"{_MODEL}:copyTo", f"{_M}/copyto/action", "json", uris=_COPY),
    Operation("Models_List", "GET", _MODELS, f"{_M}/read"),
    Operation("Models_Get", "GET", _MODEL, f"{_M}/read"),
    Operation("Models_Delete", "DELETE", _MODEL, f"{_M}/delete"),
    Operation("Classifiers_Classify", "POST", f"{_CLASSIFIER}:analyze", f"{_C}/analyze/action", "media", (), _DOCUMENT_BYTES, uris=_SOURCE),
    Operation("Classifiers_Result", "GET", f"{_CLASSIFIER}/analyzeResults/{{result}}", f"{_C}/analyzeresults/read"),
    Operation("Classifiers_Build", "POST", f"{_BASE}/documentClassifiers:build", f"{_C}/build/action", "json", uris=_TRAINING),
    Operation("Classifiers_AuthorizeCopy", "POST", f"{_BASE}/documentClassifiers:authorizeCopy", f"{_C}/authorizecopy/action", "json"),
    Operation("Classifiers_CopyTo", "POST", f"{_CLASSIFIER}:copyTo", f"{_C}/copyto/action", "json", uris=_COPY),
    Operation("Classifiers_List", "GET", _CLASSIFIERS, f"{_C}/read"),
    Operation("Classifiers_Get", "GET", _CLASSIFIER, f"{_C}/read"),
    Operation("Classifiers_Delete", "DELETE", _CLASSIFIER, f"{_C}/delete"),
    Operation("Operations_List", "GET", f"{_BASE}/operations", "FormRecognizer/operations/read"),
    Operation("Operations_Get", "GET", f"{_BASE}/operations/{{operation}}", "FormRecognizer/operations/read"),
    Operation("Info_Get", "GET", f"{_BASE}/info", "FormRecognizer/info/read"),
)  # fmt: skip

OPERATIONS: tuple[Operation, ...] = (
    *_ROWS,
    *(replace(row, path=row.path.replace(_BASE, "/formrecognizer", 1)) for row in _ROWS),
)
