"""Credentials: what says who asks and who pays, never what is asked. Only that one table lives here.

It serves the keys (dialects/wire/envelope.py leaves these out), the sharing of failures (policy.credential_of: only who
shows the same ones may share a refusal) and what is kept of an answer (policy.kept_headers). Exact names: a prefix
would swallow fields that an API uses otherwise (X-Goog-FieldMask chooses what is answered, X-Amz-Target which
operation).
"""

from __future__ import annotations

from typing import Final

HEADERS: Final = frozenset(
    {
        "authorization",  # RFC 9110, 11.6.2
        "proxy-authorization",  # RFC 9110, 11.7.2
        "cookie",  # RFC 6265
        "x-goog-api-key",  # google-genai, google/genai/_api_client.py
        "x-goog-user-project",  # cloud.google.com/docs/quotas/set-quota-project: which project is billed
        "x-goog-iap-jwt-assertion",  # cloud.google.com/iap/docs/signed-headers-howto
        "x-serverless-authorization",  # cloud.google.com/run/docs/authenticating/service-to-service
        "api-key",  # Azure OpenAI; openai-python, openai/lib/azure.py
        "x-api-key",  # docs.aws.amazon.com/apigateway, "API keys"
        "ocp-apim-subscription-key",  # learn.microsoft.com/azure/api-management/api-management-subscriptions
        "openai-organization",  # openai-python, openai/_client.py
        "openai-project",  # the same
        "x-amz-date",  # AWS Signature Version 4: docs.aws.amazon.com/IAM, "Create a signed AWS API request"
        "x-amz-security-token",  # the same
        "x-amz-content-sha256",  # the same
        "x-amz-algorithm",  # the same; usually in the query, as are those that follow
        "x-amz-credential",
        "x-amz-expires",
        "x-amz-signature",
        "x-amz-signedheaders",
        "cf-aig-authorization",  # developers.cloudflare.com/ai-gateway/configuration/authentication
        "cf-access-client-id",  # developers.cloudflare.com/cloudflare-one, "Service tokens"
        "cf-access-client-secret",  # the same
        "cf-access-token",  # the same, "cloudflared access"
        "helicone-auth",  # docs.helicone.ai/helicone-headers/header-directory
        "x-portkey-api-key",  # portkey.ai/docs/api-reference/inference-api/headers
        "x-litellm-api-key",  # docs.litellm.ai/docs/proxy/virtual_keys
        "x-auth-token",  # OpenStack Identity API v3; identity proxies took it over
    }
)
"""Names in lower case."""

QUERY: Final = frozenset({"key", "api_key", "api-key", "access_token", "sig"})
QUERY_PREFIXES: Final = ("x-amz-", "x-goog-")
"""Of signed URLs (AWS Signature Version 4, Google Cloud Storage V4)."""


def is_header(name: str) -> bool:
    """Whether a header of this name, in any letter case, is a credential."""
    return name.lower() in HEADERS


def is_parameter(name: str) -> bool:
    """Whether a query parameter of this name, in any letter case, is a credential."""
    # Only ASCII letters have a case here: the Kelvin sign in lower case is a "k", and would make a "key".
    lower = name.lower() if name.isascii() else name
    return lower in QUERY or lower.startswith(QUERY_PREFIXES)
