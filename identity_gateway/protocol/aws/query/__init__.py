"""The query protocol of AWS (STS speaks it): form bodies in, XML out, compiled from botocore's service models.

It does not authenticate, authorise or serve anything. A member that the model does not know is ignored, as in the
other protocol; a field that stands twice, or a list with gaps, is refused.
"""

from identity_gateway.protocol.aws.query.form import fields_of, read_form
from identity_gateway.protocol.aws.query.service import Action, QueryService, load_query_service
from identity_gateway.protocol.aws.query.xml import error_document

__all__ = ["Action", "QueryService", "error_document", "fields_of", "load_query_service", "read_form"]
