"""What a vendor refused, as an error for the agent that asked: the vendor's own code and description, not a riddle.

Whether anything is tried again, and what becomes of a grant, was decided before.
"""

from math import ceil

from identity_gateway.errors import AccessDenied, GatewayError, Throttled, Unavailable, ValidationFailed
from identity_gateway.protocol.oauth2 import Refused


def vendor_error(refused: Refused, vendor: str) -> GatewayError:
    """Return the error to raise for a refusal of this vendor (its display name).

    Refusals that time may heal are ThrottlingException (429) or ServiceUnavailableException, which SDKs repeat by
    themselves; what an administrator or the user must do at the vendor is AccessDeniedException; everything else is
    ValidationException with the reason `VendorError`.
    """
    text = _sentence(refused, vendor)
    reason = f"vendor refused: {refused.outcome} {refused.code}"
    match refused.outcome:
        case "transient" if refused.status == 429:
            return Throttled(text, reason=reason)
        case "transient" | "ambiguous":
            return Unavailable(text, reason=reason)
        case "admin_block":
            return AccessDenied(text, reason=reason)
        case "step_up":
            needed = f" It asks for: {' '.join(refused.needed)}." if refused.needed else ""
            return AccessDenied(text + needed, reason=reason)
    return ValidationFailed(text, kind="VendorError", reason=reason)


def _sentence(refused: Refused, vendor: str) -> str:
    said = f"{refused.code} ({refused.description})" if refused.description else refused.code
    advice = f" {refused.advice}" if refused.advice else ""
    again = f" Try again in {ceil(refused.retry_after)} s." if refused.retry_after is not None else ""
    what = "did not give a usable answer" if refused.outcome in {"transient", "ambiguous"} else "refused the request"
    return f"{vendor} {what}: {said.removesuffix('.')}.{advice}{again}"
