"""Condition keys that the input of an operation gives, besides those that every request has.

What a JWT claims is a key only once its issuer's signature was verified. Decides nothing.
"""

from identity_gateway.authorization import claims_context
from identity_gateway.errors import AccessDenied, InvalidToken
from identity_gateway.inbound import UserTokens
from identity_gateway.model import Document, Secret
from identity_gateway.protocol.policy import Context


def nothing(_asked: Document) -> Context:
    """Return no key: most operations have none of their own."""
    return {}


def of_user_id(asked: Document) -> Context:
    """Return the user that a caller names, whom nobody verified."""
    return {"bedrock-agentcore:userid": (asked["userId"],)}


def of_completion(asked: Document) -> Context:
    """Return the user whom an application names as the one who came back, where it names one by id."""
    user_id = asked["userIdentifier"].get("userId")
    return {} if user_id is None else {"bedrock-agentcore:userid": (user_id,)}


def of_authorizer(asked: Document) -> Context:
    """Return who will be let in by a runtime: by tokens of which issuer, or by signatures."""
    authorizer = (asked.get("authorizerConfiguration") or {}).get("customJWTAuthorizer")
    if authorizer is None:
        return {"bedrock-agentcore:runtimeauthorizertype": ("AWS_IAM",)}
    url = authorizer.get("discoveryUrl")
    return {
        "bedrock-agentcore:runtimeauthorizertype": ("CUSTOM_JWT",),
        "bedrock-agentcore:discoveryurl": () if url is None else (url,),
    }


async def claims_of_user_token(tokens: UserTokens, asked: Document) -> Context:
    """Return what the issuer of `userToken` signed. Raises InvalidToken."""
    return await _claims(tokens, asked["userToken"])


async def claims_of_completion(tokens: UserTokens, asked: Document) -> Context:
    """Return what the issuer of the user's token signed, or nothing where there is only an id."""
    token = asked["userIdentifier"].get("userToken")
    if token is None:
        return {}
    try:
        return await _claims(tokens, token)
    except InvalidToken as error:  # as the story answers it
        raise AccessDenied("Invalid or expired session", reason=f"user token: {error.reason}") from None


async def _claims(tokens: UserTokens, token: str) -> Context:
    return claims_context(await tokens.claims_of(Secret(token)))
