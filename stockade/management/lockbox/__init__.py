"""Customer Lockbox in ARM: what customers decide on (`Microsoft.CustomerLockbox`, as Azure has it) and what operators ask (`Stockade.Lockbox`).

The wire. `{s}`: subscription. `{account}`: an account's ARM id. `{id}`: a request's GUID; `LockboxRequest_{GUID}`, its name, is taken too. Bodies
and replies are JSON, refusals ARM's `{"error": {"code", "message", "target", "additionalInfo": [{"type", "info": {...}}]}}`. base64url: unpadded.

Customers: `/providers/Microsoft.CustomerLockbox`, `/subscriptions/{s}/providers/Microsoft.CustomerLockbox`, api-version 2018-02-28-preview
    GET  operations
    GET  tenantOptedIn/{tenant}             -> {"isOptedIn": bool}. Every authenticated caller.
    POST enableLockbox, disableLockbox      -> 200. Takes `Microsoft.CustomerLockbox/register/action` at the tenant root: Owner there.
    GET  requests[?$filter=properties/status eq 'Pending']  -> {"value": [request]}. The api-version may be left out, as Azure's specification does.
    GET  requests/{id}                      -> request
    POST requests/{id}/updateApproval {"status"|"decision": "Approve"|"Deny", "reason", "payload": base64url, "signatures": [signature]}
         -> the body echoed. Approving without a signature: 400 `SignatureRequired`, info as `approval` below: what to sign. With some of several that
         it takes the status is Approving, and the others sign the same payload. Not Pending or Approving any more: 409 `RequestNotDecidable`, info
         {"currentStatus"}. Who has no approver's role since before: 403 `NotAnApprover`; one's own request: 403 `OwnLockboxRequest`; another's
         signature alone: 403 `NotASigner`; one that does not verify: 403 `NotSigned`; of something else than what was asked: 400 `ApprovalDiffers`.
request: {"id", "name": "LockboxRequest_{GUID}", "type": "requests", "properties": {"requestId", "justification", "status", "createdDateTime",
    "expirationDateTime", "duration": "8", "resourceIds", "resourceType", "supportRequest", "supportCaseUrl", "workItemSource", "subscriptionId",
    "stockade": {"account", "scope": ["files/file-4f.."], "breakGlass": bool, "operator": {"objectId", "tenant", "name", "appId"?}, "reason",
    "case", "durationHours", "approvedAt"?, "accessEndsAt"?, "firstUsedAt"?, "history": [{"event", "status", "at", "by", "comment"?}],
    "approval": {"payload", "decoded", "threshold", "signed", "approvers": [key ids], "passkeys": [{"key", "credentialId", "rpId", "principal"}]}?
    (what to sign, of one request that is Pending or Approving, for its approvers and operators; the broker's
    challenge in it changes when the broker restarts, and then Approved is Pending again. An approver's role does not read the statement: what a
    browser has to know of its passkeys is here)}}}
    status: Initializing (an operator reviews it) -> Pending -> Approving -> Approved -> Completed; Denied, Expired, Revoked.
signature: `lockbox/signature.py`'s Signature: {"key": approver's id in the statement, "jws": detached} or {"key", "assertion": {"credential_id",
    "authenticator_data", "client_data_json", "signature"}}. Signed are the payload's bytes, exactly.

Operators: `/subscriptions/{s}/providers/Stockade.Lockbox`, any api-version (2026-11-01). (d): a data action, which no `*` of an Owner's holds.
    PUT  requests/{id} {"properties": {"account", "scope": [...], "reason", "case": URL?, "durationHours"?, "breakGlass"?}}  -> 201 request
         (d) `Stockade.Lockbox/requests/write` at the subscription (role `Stockade Support Engineer`). Refused: 403 `LockboxNotEnabled`,
         `LockboxAccountClosed`, `LockboxOwnStorage`, `LockboxNotProtected`, `NoApprover`, `SignInRequired`, `MfaRequired`, `BreakGlassOff`.
    GET  requests, requests/{id}            -> as above. `Stockade.Lockbox/requests/read`.
    POST requests/{id}/review {"decision": "Approve"|"Deny", "reason"}  -> request. (d) `.../requests/review/action` (`Stockade Lockbox Reviewer`).
    POST requests/{id}/cancel, complete {"reason"?}  -> request. (d) `.../requests/write`; the operator's own.
    POST requests/{id}/revoke {"reason"?}   -> request. Approvers (`Microsoft.CustomerLockbox/requests/UpdateApproval/action`), operators, reviewers.
    POST requests/{id}/breakGlass {"payload", "signatures"}  -> request. (d) `.../requests/write`. As updateApproval, signed by the statement's
         break-glass operators; Approving until enough have, and open then. Customers deny it like any other, and approve nothing.

    GET  {account}/providers/Stockade.Lockbox/objects[?$top, $skiptoken]  -> {"value": [object], "nextLink"?}: what can be seen without an approval,
         members as in `lockbox/visible.py`. `Stockade.Lockbox/objects/read` at the account.

The statement: `{account}/providers/Stockade.Lockbox/policies/default`
    GET    -> {"id", "name", "type", "properties": {"state": "Protected", "digest", "sequence", "payload", "statement", "signatures", "contacts"}};
           404 where there is none. `Stockade.Lockbox/policies/read`.
    PUT    {"properties": {"payload", "signatures", "contacts": [e-mail addresses]?}}  -> 200, 201. `Stockade.Lockbox/policies/write`. Without
           payload and signatures only contacts are changed. 400 `SignatureRequired` with info as above where the signatures do not suffice.
    DELETE {"properties": {"payload", "signatures"}} of a statement with `protected: false`. Without: 400 `SignatureRequired` with such a one.
    POST   draft {"approvers"?, "threshold"?, "callers"?, "breakGlass"?, "protected"?}  -> {"payload", "statement", "digest", "signers": {"approvers":
           [key ids], "threshold"}}: the next statement; what is not named stays as it is. Members as in `lockbox/statement.py`.

Reading: `/lockbox/v1/requests/{s}/{id}` on the same origin, bearer token for ARM of the operator who filed the request; no api-version
    GET  content                            -> {"value": [{"kind", "id", "bytes", "createdAt", "status", "metadata": {...}}]} of what is in scope
    GET  content/{kind}/{item}              -> application/octet-stream, as it is kept; or `?part=metadata`: JSON
"""
