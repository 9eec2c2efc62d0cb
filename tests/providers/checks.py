"""The suite that every vendor's descriptor passes. Each check is told by the vendor's documents what must come out.

A check takes a `Stand`, opens fresh vendors at it, and raises AssertionError when descriptor and documents disagree.
"""

import functools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from identity_gateway.errors import ValidationFailed
from identity_gateway.model import Secret
from identity_gateway.protocol.descriptor import RESERVED, Descriptor, Purpose
from identity_gateway.protocol.oauth2 import Answered, Refused, Requested, check_callback, machine_entry
from tests.fakes.vendor import Answer, Case, Lost, MachineCase, Unreachable, Vendor
from tests.fakes.vendor.server import SUBJECT_TOKEN, SUBJECT_TOKEN_TYPE
from tests.providers.bench import Bench, Consented, read
from tests.providers.signalled import check_signals

HTML = Answer(200, b"<!doctype html><title>Sign in</title>", {"Content-Type": "text/html; charset=utf-8"})
LATER = {"transient", "ambiguous"}


@dataclass(frozen=True)
class Stand:
    """A descriptor under test, and the vendor that it is meant to describe."""

    descriptor: Descriptor
    vendor: type[Vendor]

    def open(self, variant: str = "", **more: Any) -> Bench:
        return Bench(self.descriptor, self.vendor(variant), **more)


Check = Callable[[Stand], Awaitable[None]]


def checks_of(vendor: type[Vendor]) -> dict[str, Check]:
    """Return the checks that the vendor's documents call for, by a name that reads in a list of tests."""
    found: dict[str, Check] = {
        "words": words_that_are_no_requests,
        "explained_errors": every_documented_error_is_explained,
    }
    for variant in vendor.variants:
        found[f"consent[{variant}]"] = functools.partial(a_consent_gives_what_the_vendor_issued, variant=variant)
        found[f"refresh[{variant}]"] = functools.partial(a_refresh_gives_new_tokens, variant=variant)
    found |= {check.__name__: check for check in EVERYBODY}
    for index, case in enumerate(vendor.cases):
        if case.on in {"introspect", "exchange"}:
            continue  # these are asked for a yes or a no, or not driven: the rules alone are looked at
        found[f"case[{index}-{case}]"] = functools.partial(a_documented_refusal_is_understood, case=case)
    for purpose in (
        "token",
        *(["refresh"] if vendor.refresh != "none" else []),
        *(["machine"] if vendor.machines else []),
    ):
        for name, check in TROUBLES.items():
            found[f"{name}[{purpose}]"] = functools.partial(check, purpose=purpose)
    for machine in vendor.machines:
        found[f"machine[{machine.name}]"] = functools.partial(a_machine_gets_its_token, case=machine)
    for index, (_, effect) in enumerate(vendor.revokes):
        found[f"revoke[{effect}]"] = functools.partial(a_revocation_ends_what_it_says, index=index)
    for ahead in vendor.clock_refusals:
        found[f"clock[{ahead:+g}]"] = functools.partial(a_clock_that_is_off_is_corrected, ahead=ahead)
    if vendor.exchange is not None:
        found["exchange"] = a_users_token_is_exchanged
    return found


# --- The documents' words that no request shows ---------------------------------------------------------------------


async def words_that_are_no_requests(stand: Stand) -> None:
    descriptor, vendor = stand.descriptor, stand.vendor
    assert (descriptor.agentcore.vendor, descriptor.agentcore.config) == vendor.agentcore
    assert set(descriptor.client.secrets) == set(vendor.secrets)
    assert descriptor.authorize is not None
    assert descriptor.authorize.caller_params == vendor.caller_params
    assert (descriptor.authorize.pkce, descriptor.authorize.issuer_required) == (vendor.pkce, vendor.sends_iss)
    assert descriptor.scopes.compare is vendor.compares_scopes
    assert descriptor.reconsent_supersedes is vendor.reconsent_supersedes
    assert descriptor.max_grants_per_user == vendor.max_grants_per_user
    if vendor.code_lifetime is not None:
        assert getattr(descriptor.authorize, "lifetime", vendor.code_lifetime) == vendor.code_lifetime
    if vendor.variables is not None:
        said = {name: (variable.source, variable.default) for name, variable in descriptor.variables.items()}
        assert said == vendor.variables
    for name, (good, bad) in vendor.forms.items():
        assert [value for value in (*good, *bad) if descriptor.variables[name].accepts(value)] == list(good)
    if vendor.scope_sets is not None:
        assert dict(descriptor.scopes.sets) == dict(vendor.scope_sets)
    if vendor.answer_format is not None:
        assert descriptor.token.response.format == vendor.answer_format
    _compare_policy(descriptor, vendor)
    _compare_names(descriptor, vendor)
    _compare_machines(descriptor, vendor)


def _compare_policy(descriptor: Descriptor, vendor: type[Vendor]) -> None:
    documented, said = vendor.policy, descriptor.refresh.policy
    for name in ("single_use", "leeway", "reuse_revokes_family", "kills_old_access", "margin"):
        if (value := getattr(documented, name)) is not None:
            assert getattr(said, name) == value, name
    assert (said.keepalive, said.lifetime) == (documented.keepalive, documented.lifetime)


def _compare_names(descriptor: Descriptor, vendor: type[Vendor]) -> None:
    for host in descriptor.hosts:
        plain = host.removeprefix("*.")
        assert host == "{issuer}" or any(plain == each or plain.endswith(f".{each}") for each in vendor.domains), host
    if vendor.hosts is not None:
        assert set(descriptor.hosts) == set(vendor.hosts)
    if vendor.token_prefixes is not None:
        assert set(descriptor.token_prefixes) == set(vendor.token_prefixes)
    if vendor.api_key is not None:
        assert descriptor.api_key is not None
        assert dict(descriptor.api_key.headers) == dict(vendor.api_key)
        assert set(descriptor.api_key.prefixes) == set(vendor.api_key_prefixes)


def _compare_machines(descriptor: Descriptor, vendor: type[Vendor]) -> None:
    assert bool(descriptor.machine) == bool(vendor.machines)
    documented = vendor.exchange if vendor.exchange_described else None
    assert (descriptor.exchange.grant if descriptor.exchange else None) == documented
    entries = {machine.name: machine for machine in descriptor.machine}
    for case in vendor.machines:
        if case.entry:
            entry = entries[case.entry]
            assert (entry.needs, entry.caller_params) == (case.needs, case.takes)
            assert entry.one_per_client is case.one_per_client


async def every_documented_error_is_explained(stand: Stand) -> None:
    """An error that falls through to the general rules may mean the right thing, but is not explained to anybody."""
    for case in stand.vendor.cases:
        headers = {name.lower(): value for name, value in case.headers.items()}
        rules = stand.descriptor.errors
        rule = next(
            (rule for rule in rules if rule.fits(cast("Purpose", case.on), case.status, case.words, headers)), None
        )
        if case.stray:
            assert rule is None, str(case)
        elif case.code is not None and (stand.vendor.explains_all or case.code not in STANDARD_CODES):
            assert rule is not None, str(case)
            assert rule.outcome == case.outcome, str(case)


STANDARD_CODES = {
    *("invalid_grant", "invalid_client", "invalid_request", "invalid_scope", "temporarily_unavailable"),
    *("interaction_required", "login_required", "consent_required"),
}
"""What the standards explain (RFC 6749 §5.2, OpenID Connect Core §3.1.2.6) needs no descriptor to be understood."""


# --- Consent ----------------------------------------------------------------------------------------------------------


async def a_consent_gives_what_the_vendor_issued(stand: Stand, variant: str) -> None:
    bench = stand.open(variant)
    consented = await bench.consent()
    vendor, answered = bench.vendor, consented.answered
    assert not vendor.complaints
    assert [read(each) for each in answered.credentials] == [bench.understood(each) for each in consented.families]
    for name in ("account", "subject", "label"):
        if (value := getattr(vendor, name)) is not None:
            assert getattr(answered, name) == value, name
    assert dict(answered.variables) == dict(vendor.kept)
    assert {name: value.reveal() for name, value in answered.secrets.items()} == vendor.kept_secrets()
    assert vendor.secret_free(repr(answered))


async def a_code_works_once(stand: Stand) -> None:
    bench = stand.open()
    callback = check_callback(bench.client, bench.vendor.authorize(bench.authorization_url()))
    assert callback.code is not None
    client = bench.client.with_variables(callback.variables)
    await bench.exchange(client, callback.code)
    again = await bench.exchange(client, callback.code)
    assert isinstance(again, Refused)
    assert again.outcome == "restart"


async def a_wrong_client_secret_is_for_the_operator(stand: Stand) -> None:
    bench = stand.open(secret="another")
    refused, _ = await bench.redeem()
    assert isinstance(refused, Refused)
    assert refused.outcome == "operator_config"


async def the_callers_parameters_are_those_that_are_allowed(stand: Stand) -> None:
    bench = stand.open()
    allowed = stand.vendor.caller_params
    for name in allowed or ():
        requested = replace(bench.vendor.requested(), parameters={name: "v41ue"})
        assert f"{name}=v41ue" in bench.authorization_url(requested)
    forbidden = sorted(RESERVED - {"request"}) if allowed is None else ["no_such_parameter", *sorted(RESERVED)]
    for name, value in stand.vendor.refused_params:
        with pytest.raises(ValidationFailed):
            bench.authorization_url(replace(bench.vendor.requested(), parameters={name: value}))
    for name in (*forbidden, *(set(stand.vendor.authorize_params) - set(allowed or ()))):
        with pytest.raises(ValidationFailed):
            bench.authorization_url(replace(bench.vendor.requested(), parameters={name: "v41ue"}))


async def a_host_cannot_be_talked_into(stand: Stand) -> None:
    for name, variable in stand.descriptor.variables.items():
        if variable.source not in {"operator", "tenant", "callback"}:
            continue
        for evil in (
            "evil.example#",
            "evil.example/",
            "a@evil.example",
            "evil.example?",
            "127.0.0.1:80/",
            "x.evil.example\\",
            "xn--/",
            "a b",
        ):
            bench = stand.open()
            client = replace(bench.client, variables={**bench.client.variables, name: evil})
            refused = await bench.server.exchange_code(
                client,
                code=Secret("code"),
                redirect_uri="https://gateway.example/",
                code_verifier="v" * 43,
                requested=Requested(),
            )
            assert isinstance(refused, Refused)
            assert refused.outcome in {"operator_config", "restart"}
            assert all(request.address == stand.vendor.token.url for request in bench.vendor.requests)


# --- Refreshing -------------------------------------------------------------------------------------------------------


async def a_refresh_gives_new_tokens(stand: Stand, variant: str) -> None:
    bench = stand.open(variant)
    consented = await bench.consent()
    for credential, family in zip(consented.answered.credentials, consented.families, strict=True):
        if credential.refresh is None and stand.vendor.refresh != "access_token":
            continue
        old = credential.access.reveal()
        answered = await bench.refresh(consented, credential)
        assert isinstance(answered, Answered), (answered, bench.vendor.complaints)
        (new,) = answered.credentials
        expected = bench.understood(family, with_refresh=bench.vendor.refresh_says_token())
        assert read(new) | {"subject": ""} == expected | {"subject": ""}
        assert stand.vendor.keeps_access or new.access.reveal() != old
    assert not bench.vendor.complaints


async def a_vendor_without_refreshing_is_never_asked(stand: Stand) -> None:
    how = {"none": "never", "access_token": "access_token"}.get(stand.vendor.refresh, "refresh_token")
    assert stand.descriptor.refresh.how == how


async def a_dead_refresh_token_is_a_dead_grant(stand: Stand) -> None:
    if stand.vendor.refresh in {"none", "access_token"}:
        return
    bench = await _with_refresh(stand)
    consented = await bench.consent()
    for family in consented.families:
        family.end()
    refused = await bench.refresh(consented, consented.credential)
    assert isinstance(refused, Refused)
    assert refused.outcome == stand.vendor.dead_refresh_outcome
    assert bench.vendor.secret_free(refused.description)


async def a_spent_refresh_token_is_a_dead_grant(stand: Stand) -> None:
    if stand.vendor.refresh != "new" or not stand.vendor.policy.single_use or stand.vendor.policy.leeway:
        return
    bench = await _with_refresh(stand)
    consented = await bench.consent()
    await bench.refresh(consented, consented.credential)
    refused = await bench.refresh(consented, consented.credential)
    assert isinstance(refused, Refused)
    assert refused.outcome == "dead_grant"


async def _with_refresh(stand: Stand) -> Bench:
    """Open the first variant in which the vendor issues a refresh token."""
    for variant in stand.vendor.variants:
        if (await stand.open(variant).consent()).credential.refresh is not None:
            return stand.open(variant)
    raise AssertionError("no variant issues a refresh token")


# --- Afterwards -------------------------------------------------------------------------------------------------------


async def a_revocation_ends_it_at_the_vendor(stand: Stand) -> None:
    bench = stand.open()
    consented = await bench.consent()
    credential, family = consented.credential, consented.family
    refresh = Secret(family.refresh) if family.refresh else None
    revoked = await bench.server.revoke(consented.client, access=credential.access, refresh=refresh)
    assert not bench.vendor.complaints
    if not stand.vendor.revokes:
        assert not stand.descriptor.revoke
        assert revoked.effect is None
        return
    assert stand.vendor.later_failures or not revoked.failures, revoked.failures
    assert revoked.effect == stand.vendor.revokes[0][1]
    assert not stand.vendor.ends_access or not family.lives(family.newest)
    assert revoked.effect == "token" or refresh is None or not family.lives(refresh.reveal())
    assert revoked.verified is (stand.vendor.introspects is not None)


async def a_revocation_ends_what_it_says(stand: Stand, index: int) -> None:
    """Asked for no more than one effect, the gateway must not end more than that."""
    bench = stand.open()
    other, consented = await bench.consent(), await bench.consent()
    _, effect = stand.vendor.revokes[index]
    family = consented.family
    refresh = Secret(family.refresh) if family.refresh else None
    revoked = await bench.server.revoke(
        consented.client, access=consented.credential.access, refresh=refresh, effects=(effect,)
    )
    assert (revoked.effect, revoked.failures) == (effect, ())
    assert not bench.vendor.complaints
    assert not stand.vendor.ends_access or not family.lives(family.newest)
    others_live = other.family.lives(other.family.newest)
    assert others_live is (effect in {"token", "grant"} and not stand.vendor.reconsent_supersedes)


async def a_failed_revocation_is_told(stand: Stand) -> None:
    if not stand.vendor.revokes:
        return
    bench = stand.open()
    consented = await bench.consent()
    bench.vendor.script = [Answer(503, b"down")] * 4
    revoked = await bench.server.revoke(
        consented.client, access=consented.credential.access, refresh=consented.credential.refresh
    )
    assert revoked.failures
    assert revoked.effect is None


async def introspection_says_what_lives(stand: Stand) -> None:
    bench = stand.open()
    consented = await bench.consent()
    access = consented.credential.access
    before = len(bench.vendor.requests)
    alive = await bench.server.introspect(consented.client, access)
    assert (stand.descriptor.introspect is not None) is (stand.vendor.introspects is not None)
    if stand.vendor.introspects is None:
        assert alive is None
        assert len(bench.vendor.requests) == before
        return
    assert alive is True, bench.vendor.complaints
    consented.family.end()
    assert await bench.server.introspect(consented.client, access) is False
    bench.vendor.script = [Answer(503, b"down"), Unreachable(), Lost()]
    assert [await bench.server.introspect(consented.client, access) for _ in range(3)] == [None, None, None]
    assert not bench.vendor.complaints


async def the_vendor_says_whose_account_it_is(stand: Stand) -> None:
    documented = stand.vendor.userinfo
    assert (stand.descriptor.userinfo is not None) is (documented is not None)
    if documented is None:
        return
    bench = stand.open()
    consented = await bench.consent()
    told = await bench.server.userinfo(consented.client, consented.credential.access)
    assert not bench.vendor.complaints
    assert not isinstance(told, Refused), told
    assert told.subject == documented.subject
    assert told.account == (documented.account or "")
    assert documented.label is None or told.label == documented.label
    consented.family.end()
    assert isinstance(await bench.server.userinfo(consented.client, consented.credential.access), Refused)


async def webhooks_are_understood(stand: Stand) -> None:
    check_signals(stand.descriptor, stand.vendor)


EVERYBODY: tuple[Check, ...] = (
    a_code_works_once,
    a_wrong_client_secret_is_for_the_operator,
    the_callers_parameters_are_those_that_are_allowed,
    a_host_cannot_be_talked_into,
    a_vendor_without_refreshing_is_never_asked,
    a_dead_refresh_token_is_a_dead_grant,
    a_spent_refresh_token_is_a_dead_grant,
    a_revocation_ends_it_at_the_vendor,
    a_failed_revocation_is_told,
    introspection_says_what_lives,
    the_vendor_says_whose_account_it_is,
    webhooks_are_understood,
)


# --- Machines and exchange --------------------------------------------------------------------------------------------


async def a_machine_gets_its_token(stand: Stand, case: MachineCase) -> None:
    bench = stand.open()
    answered = await bench.server.machine_token(bench.client, machine_request_of(case))
    assert isinstance(answered, Answered), (answered, bench.vendor.complaints)
    assert not bench.vendor.complaints
    entry = machine_entry(bench.client, machine_request_of(case))
    assert entry is not None
    assert not case.entry or entry.name == case.entry
    (credential,) = answered.credentials
    assert credential.access.reveal() == bench.vendor.machine_tokens[-1]
    assert (credential.refresh, credential.lifetime) == (None, case.lifetime)
    assert case.granted is None or credential.scopes == case.granted
    assert not bench.vendor.machine_complaints(case)


async def a_clock_that_is_off_is_corrected(stand: Stand, ahead: float) -> None:
    """The vendor's clock is the one that counts: an assertion that it calls too early or too late is signed again."""
    bench = stand.open()
    bench.now -= ahead
    answered = await bench.server.machine_token(bench.client, machine_request_of(stand.vendor.machines[0]))
    assert isinstance(answered, Answered), (answered, bench.vendor.complaints)
    assert len(bench.vendor.requests) == 2


def machine_request_of(case: MachineCase) -> Requested:
    return Requested(case.scopes, case.parameters, audiences=case.audiences)


async def a_users_token_is_exchanged(stand: Stand) -> None:
    bench = stand.open()
    answered = await _exchange(bench)
    assert isinstance(answered, Answered), (answered, bench.vendor.complaints)
    assert not bench.vendor.complaints
    assert answered.credentials[0].access.reveal() == bench.vendor.machine_tokens[-1]


async def _exchange(bench: Bench) -> Answered | Refused:
    grant = bench.vendor.exchange
    assert grant is not None
    return await bench.server.exchange_token(
        bench.client,
        grant=grant,
        subject_token=Secret(SUBJECT_TOKEN),
        subject_token_type=SUBJECT_TOKEN_TYPE,
        actor_token=None,
        actor_token_type=None,
        requested=bench.vendor.requested(),
        params={},
    )


# --- Refusals and trouble ---------------------------------------------------------------------------------------------


async def ask(
    bench: Bench, purpose: str, step: Answer | Lost | Unreachable, case: MachineCase | None = None
) -> Answered | Refused:
    """Let the vendor answer the next request for this purpose with `step`."""
    if purpose == "token":
        callback = check_callback(bench.client, bench.vendor.authorize(bench.authorization_url()))
        assert callback.code is not None
        bench.vendor.script = [step]
        return await bench.exchange(bench.client.with_variables(callback.variables), callback.code)
    if purpose == "machine":
        bench.vendor.script = [step]
        return await bench.server.machine_token(bench.client, machine_request_of(case or bench.vendor.machines[0]))
    consented = await bench.consent()
    bench.vendor.script = [step]
    return await _ask_later(bench, purpose, consented)


async def _ask_later(bench: Bench, purpose: str, consented: Consented) -> Answered | Refused:
    credential = consented.credential
    if purpose == "refresh":
        return await bench.refresh(
            consented, credential, refresh=credential.refresh or Secret("refresh-of-an-older-day")
        )
    if purpose == "revoke":
        bench.vendor.script *= 4
        revoked = await bench.server.revoke(consented.client, access=credential.access, refresh=credential.refresh)
        return revoked.failures[0] if revoked.failures else Answered(())
    assert purpose == "userinfo"
    told = await bench.server.userinfo(consented.client, credential.access)
    return told if isinstance(told, Refused) else consented.answered


async def a_documented_refusal_is_understood(stand: Stand, case: Case) -> None:
    bench = stand.open(case.variant)
    refused = await ask(bench, case.on, case.answer)
    if (case.on, case.outcome) == ("revoke", "dead_grant"):
        assert isinstance(refused, Answered), "what is dead already needs no revocation"
        return
    assert isinstance(refused, Refused)
    assert (refused.outcome, refused.status) == (case.outcome, case.status)
    assert case.code is None or refused.code == case.code
    assert case.description is None or refused.description == case.description
    assert case.retry_after is None or refused.retry_after == case.retry_after
    assert not case.needed or refused.needed == case.needed


async def too_many_requests_is_for_later(stand: Stand, purpose: str) -> None:
    refused = await ask(stand.open(), purpose, Answer(429, {"error": "slow", "message": "slow"}, {"Retry-After": "37"}))
    assert isinstance(refused, Refused)
    assert (refused.outcome, refused.retry_after) == ("transient", 37)


async def a_vendor_that_is_down_ends_nothing(stand: Stand, purpose: str) -> None:
    for answer in (Answer(500, {"error": "invalid_grant"}), Answer(502, HTML.body, HTML.headers), Answer(503, b"")):
        refused = await ask(stand.open(), purpose, answer)
        assert isinstance(refused, Refused)
        assert refused.outcome in LATER


async def a_page_is_no_token(stand: Stand, purpose: str) -> None:
    for answer in (
        HTML,
        Answer(200),
        Answer(200, {"access_token": ""}),
        Answer(200, {"access_token": None}),
        Answer(200, b"[]"),
    ):
        refused = await ask(stand.open(), purpose, answer)
        assert isinstance(refused, Refused)
        assert refused.outcome == ("transient" if purpose == "machine" else "ambiguous")


async def a_redirect_is_not_followed(stand: Stand, purpose: str) -> None:
    bench = stand.open()
    refused = await ask(bench, purpose, Answer(302, b"", {"Location": "https://evil.example/"}))
    assert isinstance(refused, Refused)
    assert refused.outcome in {"ambiguous", "operator_config"}
    assert not bench.vendor.complaints


async def an_unknown_refusal_is_no_dead_grant(stand: Stand, purpose: str) -> None:
    for status in (400, 401, 403, 404, 418):
        refused = await ask(stand.open(), purpose, Answer(status, {"what": "ever", "text": "no"}))
        assert isinstance(refused, Refused)
        assert refused.outcome in {"operator_config", *stand.vendor.silent_outcomes.get((purpose, status), ())}


async def a_lost_answer_is_ambiguous(stand: Stand, purpose: str) -> None:
    refused = await ask(stand.open(), purpose, Lost())
    assert isinstance(refused, Refused)
    assert refused.outcome == "ambiguous"


async def nobody_there_is_for_later(stand: Stand, purpose: str) -> None:
    bench = stand.open()
    refused = await ask(bench, purpose, Unreachable())
    assert isinstance(refused, Refused)
    assert refused.outcome == "transient"


async def an_echoed_secret_is_not_passed_on(stand: Stand, purpose: str) -> None:
    bench = stand.open()
    echo = json.dumps({"error": "invalid_request", "error_description": "", "message": ""})
    body = {
        **json.loads(echo),
        "error_description": f"bad {bench.vendor.client_secret}",
        "message": bench.vendor.client_secret,
    }
    refused = await ask(bench, purpose, Answer(400, body))
    assert isinstance(refused, Refused)
    assert bench.vendor.secret_free(repr(refused))


TROUBLES = {
    "too_many": too_many_requests_is_for_later,
    "down": a_vendor_that_is_down_ends_nothing,
    "page": a_page_is_no_token,
    "redirect": a_redirect_is_not_followed,
    "unknown": an_unknown_refusal_is_no_dead_grant,
    "lost": a_lost_answer_is_ambiguous,
    "unreachable": nobody_there_is_for_later,
    "echo": an_echoed_secret_is_not_passed_on,
}
